"""Holes in held-out digits, filled by the models that ship: how far from the truth, how varied, how much copied.

The first test images (or ``--first``), four fills each of one seed, the class not told; the 4 × 4 pixels in the middle
are hidden, then the lower half. Beside each model: the four training images that are most alike outside the hole
(copying), and the mean of a normal distribution fitted to the training images, given what is known (linear-Gaussian).

* ``error``: mean squared error in the hole, of one fill, and of the mean of four over the linear-Gaussian's
* ``agree``: share of fills that a classifier takes for the true class
* ``spread``: root mean square difference of two fills over that of a fill and the truth; 1 for a perfect posterior
* ``near``: distance of a fill to the nearest training image, in the hole, over that of the true image
* ``seam``: difference across the edge of the hole over that of the true image

``python -m benchmarks.repair`` measures the runs that ship; ``--times`` measures eight fills at 28 px with networks of
the same kind that nobody has trained, for the time alone.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.evidence import row
from core import jobs, latent, runs
from core.datasets import Dataset
from core.latent import repair
from core.models import Spec, build, families

FILLS = 4
SHIPPED = ("diffusion", "vae", "flow", "gan", "vqvae")


def hidden(name: str) -> Tensor:
    """Gives what is known of a digit, bool (8, 8)."""
    mask = torch.ones(8, 8, dtype=torch.bool)
    if name == "middle":
        mask[2:6, 2:6] = False
    else:
        mask[4:] = False
    return mask


def gaussian(dataset: Dataset, x: Tensor, mask: Tensor) -> Tensor:
    """Gives the conditional mean of a normal distribution fitted to the training images, (N, C, H, W)."""
    train = dataset.images(dataset.splits["train"]).flatten(1).double()
    mean, covariance = train.mean(0), torch.cov(train.T) + 1e-4 * torch.eye(train.shape[1])
    known, flat = mask.flatten(), x.flatten(1).double()
    gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, ~known])
    flat[:, ~known] = mean[~known] + (flat[:, known] - mean[known]) @ gain
    return flat.clamp(0, 1).float().view_as(x)


def copies(dataset: Dataset, x: Tensor, mask: Tensor) -> Tensor:
    """Gives the training images most alike outside the hole, (N, FILLS, C, H, W)."""
    train = dataset.images(dataset.splits["train"])
    far = torch.cdist(x[..., mask].flatten(1), train[..., mask].flatten(1))
    return train[far.topk(FILLS, largest=False).indices]


def seam(x: Tensor, mask: Tensor) -> Tensor:
    """Gives the mean absolute difference of neighbours of which one is in the hole, (...)."""
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    steps = [x.diff(dim=-2).abs()[..., down], x.diff(dim=-1).abs()[..., right]]
    return torch.cat(steps, -1).flatten(-2).mean(-1)


def judged(
    x: Tensor, y: Tensor, fills: Tensor, mask: Tensor, dataset: Dataset, judge: Any
) -> dict[str, Any]:
    """Compares fills (N, FILLS, C, H, W) with the true images (N, C, H, W)."""
    fills, hole = torch.where(mask, x[:, None], fills), ~mask
    single = (fills - x[:, None])[..., hole].square().mean((1, 2, 3))  # (N,)
    mean = (fills.mean(1) - x)[..., hole].square().mean((1, 2))
    linear = (gaussian(dataset, x, mask) - x)[..., hole].square().mean((1, 2))
    rng = np.random.default_rng(0)
    draws = [torch.as_tensor(rng.integers(0, len(x), len(x))) for _ in range(1000)]
    ratios = [float(mean[i].mean() / linear[i].mean()) for i in draws]
    spread = 2 * fills[..., hole].var(1).mean((1, 2))
    train = dataset.images(dataset.splits["train"])[..., hole].flatten(1)
    near = [
        torch.cdist(part[..., hole].flatten(-2), train).amin(-1).mean()
        for part in (fills.flatten(0, 1), x)
    ]
    with torch.no_grad():
        says = judge(fills.flatten(0, 1)).argmax(1).view(len(x), -1)
    return {
        "error of a fill": float(single.mean()),
        "error of the mean": float(mean.mean()),
        "over linear-Gaussian": float(mean.mean() / linear.mean()),
        "interval": np.quantile(ratios, [0.025, 0.975]).round(3).tolist(),
        "agree": float((says == y[:, None]).float().mean()),
        "spread": float((spread.mean() / single.mean().clamp_min(1e-12)).sqrt()),
        "near": float(near[0] / near[1]),
        "seam": float(seam(fills, mask).mean() / seam(x, mask).mean()),
    }


def written(found: dict[str, Any]) -> str:
    """Writes the figures of one row."""
    low, high = found["interval"]
    return (
        f"error of the mean of {FILLS} {found['error of the mean']:.4f}, {found['over linear-Gaussian']:.2f} of the "
        f"linear-Gaussian's [{low:.2f}, {high:.2f}]; error of one {found['error of a fill']:.4f}; agrees "
        f"{found['agree']:.3f}; spread/error {found['spread']:.2f}; nearest {found['near']:.2f}; "
        f"seam {found['seam']:.2f}"
    )


def holes(names: list[str], count: int, method: str, first: int, seed: int) -> None:
    """Fills the holes of held-out digits by each of the runs, and judges them."""
    dataset = latent.trained_on(jobs.find(f"shipped-digits-{names[0]}"))
    judge: Any = runs.open_model(jobs.find("shipped-digits-classifier")).model
    index = dataset.splits["test"][first : first + count]
    assert dataset.y is not None
    x, y = dataset.images(index), torch.as_tensor(dataset.y[index])
    given = f"test images {first} to {first + len(x) - 1}, {FILLS} fills of seed {seed}, class not told; bootstrap 95 %"
    for hole in ("middle", "lower half"):
        mask = hidden(hole)
        found = judged(x, y, copies(dataset, x, mask), mask, dataset, judge)
        row(f"digits, {hole}, copying: {written(found)}", given)
        for name in names:
            space = latent.open_space(runs.open_model(jobs.find(f"shipped-digits-{name}")))
            start, fills, end = time.process_time(), [], None
            for each in x:
                known = repair.Known.mask(mask)
                steps = repair.fill(space, each[None], known, fills=FILLS, seed=seed, method=method)
                end = repair.last(steps)
                assert torch.equal(end.images[..., mask], each[..., mask].expand(FILLS, -1, -1))
                fills.append(end.images)
            spent = (time.process_time() - start) / len(x)
            found = judged(x, y, torch.stack(fills), mask, dataset, judge)
            by = end.method if end else ""
            row(
                f"digits, {hole}, {name} by {by}: {written(found)}; {spent:.2f} CPU-s a picture",
                given,
            )


def times(names: list[str]) -> None:
    """Times eight fills at 28 px with untrained networks of each family, for the time alone."""
    for name in names:
        torch.manual_seed(0)
        spec = Spec("image", (1, 28, 28), 256, (0.1,) * 10)
        model: Any = build(name, {}, spec)
        model.eval().requires_grad_(False)
        classes = tuple(map(str, range(model.classes)))
        opened = runs.Opened(
            f"untrained-{name}", 1, 0, name, model, spec, classes, families.get(name).sampling
        )
        space = latent.open_space(opened)
        mask = torch.ones(28, 28, dtype=torch.bool)
        mask[9:19, 9:19] = False
        told = []
        for again in range(2):
            spent, start, first = time.process_time(), time.perf_counter(), 0.0
            steps = repair.fill(space, torch.rand(1, 1, 28, 28), repair.Known.mask(mask))
            for end in steps:  # noqa: B007
                first = first or time.perf_counter() - start
            when = "once more" if again else "the first time, with the draws"
            told.append(
                f"{when}: first preview {first:.2f} s, {len(end.images)} fills {end.seconds:.2f} s "
                f"({time.process_time() - spent:.2f} CPU-s)"
            )
        row(
            f"28 px, {name} by {end.method}: {'; '.join(told)}",
            f"untrained network of the default size, hole 10 × 10, {torch.get_num_threads()} threads",
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=SHIPPED[:2], help=", ".join(SHIPPED))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first test image")
    parser.add_argument("--seed", type=int, default=0, help="of the fills")
    parser.add_argument("--method", default="", help="another than the first that fits")
    parser.add_argument("--times", action="store_true", help="eight fills at 28 px")
    arguments = parser.parse_args()
    if arguments.times:
        times(list(arguments.families))
    else:
        holes(
            list(arguments.families),
            arguments.count,
            arguments.method,
            arguments.first,
            arguments.seed,
        )


if __name__ == "__main__":
    main()

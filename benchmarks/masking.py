"""Classifiers that hide their gradient, or seem to, and what the verdict must say of each.

``python -m benchmarks.masking digits digits-robust --n 60``: each disguise of each network gets a study. What is
allowed is written down beforehand: ``honest`` ones must not be called masked and must come within a few points of the
truth; ``masked`` ones must not be green. The truth is an attack that knows what the disguise is made of: the network
inside, attacked past it, with 40 steps towards several classes. Exits with 1 when one is judged wrongly.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.evidence import row
from benchmarks.robustness import Around, prepared
from core import datasets
from core.datasets import Dataset
from core.ground.writing import percent
from core.robustness import AttackStudy, StudyConfig, attacks, classifiers, images_of
from core.target import Target
from core.tensors import Images

Change = Callable[[nn.Module, Tensor], Tensor]
HONEST, MASKED, CARE = {"green"}, {"amber", "red"}, {"green", "amber"}
NEAR = 0.08  # by which an honest number may be above the truth
SHIPPED = {"digits": "classifier", "digits-robust": "robust"}


@dataclass(frozen=True)
class Disguise:
    """Something around a classifier.

    Attributes:
        change: Makes logits of the network and the images.
        allowed: Colours that the verdict may have.
        true: Whether the number must be near the truth, whatever the colour.
    """

    change: Change
    allowed: set[str]
    true: bool = False


class Backward(torch.autograd.Function):
    """Gives images as they are, and another gradient than theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Gives the images."""
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None]:
        """Gives the changed gradient."""
        return ctx.change(slope[0]), None


def rippled(size: float, fine: float) -> Disguise:
    """Adds a fine ripple to the image."""
    return Disguise(lambda net, x: net(x + size * torch.sin(fine * x)), MASKED)


def ahead(change: Callable[[Tensor], Tensor], allowed: set[str] = MASKED) -> Disguise:
    """Changes the image before the network gets it."""
    return Disguise(lambda net, x: net(change(x)), allowed)


def backward(change: Callable[[Tensor], Tensor]) -> Disguise:
    """Changes the gradient, and nothing else."""
    return Disguise(lambda net, x: net(Backward.apply(x, change)), MASKED)


def blocks(x: Images) -> Images:
    """Keeps of each 4×4 block a rounded cosine transform, as JPEG does of 8×8."""
    k = torch.arange(4.0)
    basis = torch.cos(torch.pi * (k[None] + 0.5) * k[:, None] / 4) * 0.5**0.5
    basis[0] /= 2**0.5
    n, channels, size, _ = x.shape
    parts = x.unfold(2, 4, 4).unfold(3, 4, 4)
    kept = torch.round((basis @ parts @ basis.T) * 10) / 10
    return (basis.T @ kept @ basis).permute(0, 1, 2, 4, 3, 5).reshape(n, channels, size, size)


def median(x: Images) -> Images:
    """Takes the median of each 3×3 neighbourhood, and half of the image."""
    n, channels, size, _ = x.shape
    around = F.unfold(F.pad(x, (1, 1, 1, 1), "reflect"), 3).view(n, channels, 9, size, size)
    return 0.5 * x + 0.5 * around.median(2).values


def stairs(x: Images) -> Images:
    """Rounds to sixteenths by steep, smooth steps."""
    y = 16 * x
    return (torch.floor(y) + torch.sigmoid(60 * (y - torch.floor(y) - 0.5))) / 16


def thermometer(x: Images) -> Images:
    """Writes each pixel as ten switches, and reads it from them."""
    edges = torch.arange(0.05, 1, 0.1, device=x.device)
    return (x[..., None] > edges).float().mean(-1)


def through(x: Images) -> Images:
    """Rounds to sixteenths, with the gradient of no rounding."""
    return x + ((16 * x).round() / 16 - x).detach()


def smoothed(x: Images) -> Images:
    """Blurs the image a little."""
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)
    return 0.8 * x + 0.2 * soft


def shifted(net: nn.Module, x: Images) -> Tensor:
    """Moves the image by up to a pixel at random, and enlarges it again."""
    down, across = (int(v) for v in torch.randint(-1, 2, (2,)))
    return net(torch.roll(x, (down, across), (2, 3)) * 0.5 + x * 0.5)


def few_winners(net: nn.Module, x: Images) -> Tensor:
    """Keeps of each layer's activations the largest third only (k-WTA), as a hook on its rectifiers."""

    def keep(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        flat = out.flatten(1)
        edge = flat.topk(max(1, flat.shape[1] // 3), 1).values[:, -1:]
        return (flat * (flat >= edge)).view_as(out)

    hooks = [
        part.register_forward_hook(keep) for part in net.modules() if isinstance(part, nn.ReLU)
    ]
    try:
        return net(x)
    finally:
        for hook in hooks:
            hook.remove()


DISGUISES: dict[str, Disguise] = {
    "plain": Disguise(lambda net, x: net(x), HONEST, True),
    "logits − 100": Disguise(lambda net, x: net(x) - 100, HONEST, True),
    "logits / 1000": Disguise(lambda net, x: net(x) / 1000, HONEST, True),
    "log-softmax": Disguise(lambda net, x: net(x).log_softmax(1), HONEST, True),
    "a little blur": ahead(smoothed, CARE),
    "straight-through rounding": ahead(through, CARE),
    "k-WTA": Disguise(few_winners, CARE, True),
    "median filter": ahead(median, CARE | MASKED),
    "logits × 1000": Disguise(lambda net, x: 1000 * net(x), {"amber"}, True),
    "softmax": Disguise(lambda net, x: net(x).softmax(1), {"amber"}, True),
    "log-softmax of logits × 1000": Disguise(lambda net, x: (1000 * net(x)).log_softmax(1), {"amber"}, True),
    "ripple 0.02, 20 000": rippled(0.02, 20_000),
    "ripple 0.02, 2 000": rippled(0.02, 2_000),
    "ripple 0.01, 20 000": rippled(0.01, 20_000),
    "ripple 0.005, 500 000": rippled(0.005, 500_000),
    "ripple of the logits": Disguise(
        lambda net, x: (lambda out: out + 0.5 * torch.sin(1e4 * out))(net(x)), MASKED
    ),
    "rounded to 1/16": ahead(lambda x: torch.round(16 * x) / 16),
    "cut to three bits": ahead(lambda x: (8 * x).clamp(0, 7.99).byte().float() / 7),
    "steep steps": ahead(stairs),
    "blocks, as JPEG": ahead(blocks),
    "thermometer": ahead(thermometer),
    "detached": Disguise(lambda net, x: net(x.detach()), MASKED),
    "gradient turned round": backward(lambda slope: -slope),
    "gradient of noise": backward(torch.randn_like),
    "gradient of some pixels": backward(lambda slope: slope * (torch.rand_like(slope[:1]) > 0.95)),
    "gradient cut to nothing": backward(lambda slope: slope * (slope.abs() > 1e9)),
    "noise inside": Disguise(lambda net, x: net(x + 0.05 * torch.randn_like(x)), MASKED),
    "random shifts": Disguise(shifted, MASKED),
    "dropout left on": Disguise(lambda net, x: net(F.dropout(x, 0.2, True)), MASKED),
    "logits in whole numbers": Disguise(lambda net, x: net(x).round(), MASKED),
    "answers only": Disguise(
        lambda net, x: F.one_hot(net(x).argmax(1), net(x).shape[1]).float(), MASKED
    ),
}  # fmt: skip


def opened(name: str, keep: Path) -> tuple[nn.Module, Dataset, float]:
    """Opens a network: one that ships, or one that is trained once and kept."""
    if name in SHIPPED:
        dataset = datasets.load("digits")
        target = classifiers.target_of(f"shipped-digits-{SHIPPED[name]}", dataset)
        return target.module, dataset, 38 / 255  # pyright: ignore[reportReturnType]
    return prepared(name, keep)


def truth(
    net: nn.Module, target: Target, x: Images, y: Tensor, eps: float, stands: np.ndarray
) -> float:
    """Gives the share that withstands an attack which knows the network inside and the disguise."""
    inner = Target(net, target.classes, target.shape)
    left = (target.predict(x) == y) & torch.as_tensor(stands)
    for asked in (inner, target.with_(bpda=True, bypass=True)):
        rows = left.nonzero().flatten()
        values = {"steps": 40, "targets": 4}
        for active in (True, False):  # just over the edge, and as far as it goes
            result = attacks.run(
                "quick", asked, x[rows], y[rows], eps, config=values, active=active
            )
            left[rows] &= target.predict(result.adversarial) == y[rows]
            rows = left.nonzero().flatten()
    return float(left.float().mean())


def judge(name: str, titles: Sequence[str], n: int, keep: Path) -> list[str]:
    """Prints the verdict on each disguise of a network, and gives those that are wrong."""
    net, dataset, eps = opened(name, keep)
    wrong = []
    for title in titles:
        disguise = DISGUISES[title]
        config = StudyConfig(n=n, eps=f"{eps}")
        x, y, indices, _ = images_of(dataset, config)
        torch.manual_seed(0)
        target = Target(
            Around(net, disguise.change).eval(), dataset.classes, dataset.shape,
            name=title,
        )  # fmt: skip
        began = time.process_time()
        study = AttackStudy(target, x, y, config, indices=indices, dataset=dataset)
        *_, report = study
        spent = time.process_time() - began
        said, colour = report.robustness.robust, report.verdict.colour
        real = truth(net, target, x, y, eps, study.smallest > eps)
        near = said <= real + NEAR
        right = colour in disguise.allowed and (near or not disguise.true)
        right &= near or colour != "green"
        print(
            f"{'right' if right else 'WRONG'}  {name}, {title}: {colour}, {percent(said)} said, "
            f"{percent(real)} is left by an attack that knows it, {spent:.1f} s: {report.verdict.sentence}",
            flush=True,
        )
        if not right:
            wrong.append(f"{name}, {title}")
    return wrong


def main() -> None:
    """Judges every disguise of the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="*", default=["digits", "digits-robust"])
    parser.add_argument("--only", nargs="*", choices=list(DISGUISES), default=list(DISGUISES))
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--keep", type=Path, default=Path("/tmp/robustness-networks"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wrong = [
        each
        for name in arguments.network
        for each in judge(name, arguments.only, arguments.n, arguments.keep)
    ]
    count = len(arguments.network) * len(arguments.only)
    row(
        f"Disguises of {', '.join(arguments.network)}: {count - len(wrong)} of {count} judged rightly",
        f"n = {arguments.n} each",
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""Measures the attacks: are the numbers to be trusted, are masked gradients found, and how fast is it.

``python -m benchmarks.robustness trust mnist mnist-robust --n 200``: the screening beside AutoAttack standard, in one
run. ``masking``: the verdict on classifiers that hide their gradient, and on their honest twins. ``speed``: PGD and a
sweep beside Foolbox, torchattacks and ART (an environment that has them). ``screening``: the first number, and a
thousand images. Classifiers are trained once and kept in the folder ``--keep``. One thread by default; where ways
are compared, the time is that of the process, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.evidence import row
from core import brought, classifier, datasets
from core.datasets import Dataset
from core.ground.settings import settings
from core.ground.stats import proportion
from core.norms import LINF
from core.robustness import AttackStudy, StudyConfig, attacks, estimate, images_of
from core.target import Target, laid_out
from core.tensors import Images
from core.training import TrainConfig, Trainer, spec_of

CPU = torch.device("cpu")
# dataset, training images, parameters of the classifier, strength at which something falls and something stands
NETWORKS: dict[str, tuple[str, int, dict[str, Any], float]] = {
    "digits": ("digits", 60_000, {}, 26 / 255),
    "digits-robust": ("digits", 100_000, {"defence": "pgd"}, 38 / 255),
    "mnist": ("mnist", 20_000, {}, 0.1),
    "mnist-robust": ("mnist", 20_000, {"defence": "pgd", "eps": 0.2, "attack_steps": 5}, 0.2),
    "cifar10": ("cifar10", 20_000, {}, 1 / 255),
    "cifar10-robust": (
        "cifar10", 30_000, {"defence": "pgd", "eps": 4 / 255, "attack_steps": 4}, 4 / 255,
    ),
    "cifar10-narrow": ("cifar10", 15_000, {"width": 12}, 1 / 255),
    "cifar10-narrow-robust": (
        "cifar10", 12_000, {"width": 12, "defence": "pgd", "eps": 4 / 255, "attack_steps": 3}, 2 / 255,
    ),
}  # fmt: skip
MASKS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "plain": lambda net, x: net(x),
    "logits × 1000": lambda net, x: 1000 * net(x),
    "logits − 100": lambda net, x: net(x) - 100,
    "input rounded to 1/16": lambda net, x: net(torch.round(x * 16) / 16),
}


class Around(nn.Module):
    """A classifier with something around it."""

    def __init__(self, net: nn.Module, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Images) -> Tensor:
        """Gives logits (N, K)."""
        return self.change(self.net, x)


def loaded(source: str) -> Dataset:
    """Opens a dataset; of CIFAR-10, a folder of its pictures (train and test, one folder per class) does as well."""
    pictures = settings().data / "cifar10-images"
    if source == "cifar10" and pictures.is_dir():
        return datasets.load("folder", {"path": str(pictures), "size": 32})
    return datasets.load(source)


def prepared(name: str, keep: Path) -> tuple[nn.Module, Dataset, float]:
    """Opens a classifier, trained the first time; with its dataset and its strength."""
    source, images, values, eps = NETWORKS[name]
    dataset = loaded(source)
    torch.manual_seed(0)
    config = classifier.ClassifierConfig.of(values, "classifier")
    net = classifier.Classifier(config, spec_of(dataset))
    file = keep / f"{name}.safetensors"
    if file.exists():
        net.load_state_dict(load_file(file))
    else:
        began = time.perf_counter()
        trainer = Trainer(net, dataset, TrainConfig(images=images, seed=0), CPU)
        for _ in trainer:
            pass
        net = trainer.published()
        keep.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous().clone() for k, v in net.state_dict().items()}, file)
        print(f"{name}: trained on {images:,} images in {time.perf_counter() - began:.0f} s")
    return net.eval().requires_grad_(False), dataset, eps


def targeted(net: nn.Module, dataset: Dataset, name: str) -> Target:
    """Makes a classifier the target of attacks, as the product does; the libraries get it as it was."""
    own = laid_out(brought.opened(copy.deepcopy(net), spec_of(dataset), dataset.classes, {}))
    return Target(own.model, dataset.classes, dataset.shape, name=name)


def right(target: Target, dataset: Dataset, n: int) -> tuple[Images, Tensor]:
    """Takes n test images, spread evenly, that the classifier names rightly."""
    x, y, *_ = images_of(dataset, StudyConfig(n=min(2 * n, len(dataset.splits["test"]))))
    chosen = torch.nonzero(target.predict(x) == y).flatten()[:n]
    return x[chosen], y[chosen]


def trust(names: list[str], n: int, keep: Path) -> None:
    """Prints what stands after the screening and after AutoAttack standard, and the ratio of their times."""
    gaps, ratios = [], []
    for name in names:
        net, dataset, eps = prepared(name, keep)
        target = targeted(net, dataset, name)
        x, y = right(target, dataset, n)
        stands, spent = [], []
        for way in ("quick", "autoattack"):
            began = time.process_time()
            stands.append(int((~attacks.run(way, target, x, y, eps).fooled).sum()))
            spent.append(time.process_time() - began)
        shares = []
        for count in stands:
            low, high = proportion(count, len(x)).interval
            shares.append(f"{count / len(x):.1%} ({low:.1%} to {high:.1%})")
        gap = 100 * (stands[0] - stands[1]) / len(x)
        gaps, ratios = [*gaps, abs(gap)], [*ratios, spent[1] / spent[0]]
        print(
            f"{name} at {LINF.text(eps)}, n = {len(x)} named rightly: screening {shares[0]}, AutoAttack standard "
            f"{shares[1]}; gap {gap:+.1f} points at 1/{spent[1] / spent[0]:.0f} of the time "
            f"({spent[0]:.1f} s, {spent[1]:.1f} s)",
            flush=True,
        )
    near, times = math.ceil(max(gaps)), f"1/{min(ratios):.0f} to 1/{max(ratios):.0f}"
    row(
        f"Screening beside AutoAttack: at most {max(gaps):.1f} points apart, at {times} of its time",
        f"{len(names)} classifiers: {', '.join(names)}; at most {n} images each",
        said=f"within {near} point{'s' * (near != 1)} of AutoAttack at {times} of its time",
    )


def masking(names: list[str], n: int, keep: Path) -> None:
    """Prints the verdict on each disguise of each classifier."""
    for name in names:
        net, dataset, eps = prepared(name, keep)
        config = StudyConfig(n=n, eps=f"{eps}")
        x, y, *_ = images_of(dataset, config)
        for title, change in MASKS.items():
            *_, report = AttackStudy(targeted(Around(net, change), dataset, title), x, y, config)
            print(
                f"{name}, {title}: {report.verdict.colour}: {report.verdict.sentence}", flush=True
            )


def peers(
    net: nn.Module, dataset: Dataset, x: Images, y: Tensor
) -> dict[str, Callable[[float, int], Any]]:
    """Gives PGD of the libraries that are installed, from a random start: strength and steps to images."""
    libraries: dict[str, Callable[[float, int], Any]] = {}
    try:
        import foolbox

        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")

        def of_foolbox(eps: float, steps: int) -> Any:
            attack = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=2.5 / steps)
            return attack(model, x, y, epsilons=eps)[1]

        libraries["Foolbox"] = of_foolbox
    except ImportError:
        pass
    try:
        import torchattacks

        def of_torchattacks(eps: float, steps: int) -> Any:
            return torchattacks.PGD(net, eps=eps, alpha=2.5 * eps / steps, steps=steps)(x, y)

        libraries["torchattacks"] = of_torchattacks
    except ImportError:
        pass
    try:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        shape, classes = tuple(x.shape[1:]), len(dataset.classes)
        wrapped = PyTorchClassifier(
            net, nn.CrossEntropyLoss(), shape, classes, clip_values=(0, 1), device_type="cpu"
        )

        def of_art(eps: float, steps: int) -> Any:
            attack = ProjectedGradientDescentPyTorch(
                wrapped, eps=eps, eps_step=2.5 * eps / steps, max_iter=steps, num_random_init=1,
                batch_size=len(x), verbose=False,
            )  # fmt: skip
            return attack.generate(x.numpy(), F.one_hot(y, classes).numpy())

        libraries["ART"] = of_art
    except ImportError:
        pass
    return libraries


def own(
    target: Target, x: Images, y: Tensor, active: bool, strengths: list[float], steps: int
) -> Images:
    """Gives what our PGD makes at the first of rising strengths.

    With the active set, fooled images leave the batch, and are not tried again at a larger strength.
    """
    result = x.clone()
    left = torch.arange(len(x))
    for eps in strengths:
        more = {"config": {"steps": steps}, "active": active, "ids": left}
        out = attacks.run("pgd", target, x[left], y[left], eps, **more)
        if eps == strengths[0]:
            result = out.adversarial
        left = left[~out.fooled] if active else left
    return result


def theirs(attack: Callable[[float, int], Any], strengths: list[float], steps: int) -> Any:
    """Gives what a library's PGD makes at the first of rising strengths, which it takes one after the other."""
    first, *_ = [attack(eps, steps) for eps in strengths]
    return first


def speed(names: list[str], n: int, keep: Path, repeats: int = 7) -> None:
    """Prints the times of PGD-40 and of a sweep of 8 strengths with PGD-20, in turns, the best of seven."""
    for name in names:
        net, dataset, eps = prepared(name, keep)
        target = targeted(net, dataset, name)
        x, y = right(target, dataset, n)
        target.batch = max(target.batch, len(x))  # all at once, like the others

        ways = {
            "own, success masks off": partial(own, target, x, y, False),
            "own, active set": partial(own, target, x, y, True),
            **{k: partial(theirs, attack) for k, attack in peers(net, dataset, x, y).items()},
        }
        for title, strengths, steps in (
            ("PGD-40", [eps], 40),
            ("8 strengths, PGD-20", [eps * k / 4 for k in range(1, 9)], 20),
        ):
            best = dict.fromkeys(ways, float("inf"))
            stands = dict.fromkeys(ways, 0.0)
            for _ in range(repeats):
                for way, attack in ways.items():
                    began = time.process_time()
                    result = attack(strengths, steps)
                    best[way] = min(best[way], time.process_time() - began)
                    last = torch.as_tensor(result)
                    stands[way] = float((target.predict(last) == y).float().mean())
            first = best["own, success masks off"]
            print(f"{name}, {title}, n = {len(x)}, {LINF.text(eps)}")
            for way, seconds in best.items():
                print(
                    f"  {way:<24} {seconds:7.2f} s, {seconds / first:.2f} of ours without masks; "
                    f"{stands[way]:.1%} stand at {LINF.text(strengths[0])}",
                    flush=True,
                )


def screening(names: list[str], n: int, keep: Path) -> None:
    """Prints when the first number is there and when a whole screening ends, and what was said before."""
    for name in names:
        net, dataset, _ = prepared(name, keep)
        target = targeted(net, dataset, name)
        config = StudyConfig(n=n)
        told = estimate(target, dataset, config)
        x, y, *_ = images_of(dataset, config)
        began, first = time.perf_counter(), 0.0
        study = AttackStudy(target, x, y, config)
        for report in study:
            if not first and report.head.attacks:
                first = time.perf_counter() - began
        spent = time.perf_counter() - began
        row(
            f"{name}, {len(x)} images: first robust number after {first:.1f} s, all after {spent:.1f} s, told before: "
            f"{told.seconds:.1f} s ({told.seconds / spent:.2f} of it); {study.report.verdict.colour}: "
            f"{study.report.verdict.sentence}"
        )


def main() -> None:
    """Measures what is asked for."""
    ways = {"trust": trust, "masking": masking, "speed": speed, "screening": screening}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=ways, default="trust")
    parser.add_argument("network", nargs="*", default=["digits", "digits-robust"])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--keep", type=Path, default=Path("/tmp/robustness-networks"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ways[arguments.what](arguments.network, arguments.n, arguments.keep)


if __name__ == "__main__":
    main()

"""Is this the model you mean? Its clean accuracy beside guessing, other classifiers, and the usual mistakes.

A robustness number of weights without their normalisation, of another order of the classes, or of a network in
training mode is true of a model that nobody means. Nothing is trained for the comparison.

References:
    Kuhn, 1955, The Hungarian method for the assignment problem, https://doi.org/10.1002/nav.3800020109
    Cover and Hart, 1967, Nearest neighbor pattern classification, https://doi.org/10.1109/TIT.1967.1053964
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core import runs
from core.datasets import Dataset, evenly
from core.ground.stats import mcnemar
from core.measure import features
from core.target import Target, decide
from core.tensors import Batch

SURE = 0.001  # probability of such a difference by chance, below which another reading is believed
GAIN = (
    0.05  # share of the images that another reading must name rightly beyond those of the given one
)
TIE = 0.03  # readings within this share of the images of each other count as equally good
POOL = 5000  # training images among which the nearest is looked for
TRIED = 256  # images of which other readings are tried
COMPANY = 8  # images that are classified alone and beside others
PEERS = 2  # trained classifiers to compare with


@dataclass(frozen=True)
class Peer:
    """Something that names the same images, to compare with.

    Attributes:
        name: For people.
        right: Which images it names rightly, (N,).
        target: The network, whose adversarial images can be tried; None where it is no network.
    """

    name: str
    right: np.ndarray
    target: Target | None = None


@dataclass(frozen=True)
class OtherOrder:
    """Another order of the classes in which the answers are right much more often.

    Attributes:
        pairs: (class, the class whose place it has in the answers), where they differ.
        share, given: Share that is named rightly in this order, and as it is.
        n: Images.
    """

    pairs: tuple[tuple[str, str], ...]
    share: float
    given: float
    n: int


@dataclass(frozen=True)
class OtherReading:
    """Another way to hand over the images: share named rightly with it, and as it is, of n images."""

    name: str
    share: float
    given: float
    n: int


@dataclass(frozen=True)
class Mistakes:
    """The usual mistakes that were detected.

    Attributes:
        order: Of the classes, where another one is right much more often.
        reading: Of the images, where another one is right much more often.
        company: Share of the images whose answer depends on the images beside them.
    """

    order: OtherOrder | None = None
    reading: OtherReading | None = None
    company: float = 0.0


@dataclass(frozen=True)
class Beside:
    """What else names these images: share named rightly, probability by chance of a difference as large."""

    name: str
    share: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Identity(Mistakes):
    """Whether it is the model that is meant.

    Attributes:
        clean, largest: Share named rightly without an attack, and share of the largest class.
        ours: Whether it was trained here.
        hardened: Whether it was trained against attacks, which costs clean accuracy.
        compared: Whether there is a classifier to compare with.
        peers: What names the same images.
    """

    clean: float
    largest: float
    ours: bool
    hardened: bool
    compared: bool
    peers: tuple[Beside, ...] = ()

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Identity:
        """Reads what :func:`dataclasses.asdict` gave."""
        order, reading = json["order"], json["reading"]
        if order:
            order = OtherOrder(**order | {"pairs": tuple((a, b) for a, b in order["pairs"])})
        given = {"order": order or None, "reading": OtherReading(**reading) if reading else None}
        return cls(**{**json, **given, "peers": tuple(Beside(**peer) for peer in json["peers"])})


def peers(
    dataset: Dataset, x: Batch, y: Tensor, indices: Sequence[int], target: Target
) -> Iterator[Peer]:
    """Yields what names these items as well: the nearest training item, and the classifiers that exist already."""
    if (near := _nearest(dataset, x, y, indices)) is not None:
        yield Peer("the nearest training image", near)
    for network in _networks(dataset, target):
        right = network.predict(x.to(network.device)).cpu() == y.cpu()
        yield Peer(network.name, right.numpy(), network)


def _nearest(dataset: Dataset, x: Batch, y: Tensor, indices: Sequence[int]) -> np.ndarray | None:
    """Tells which items have the label of the training item nearest to them."""
    pool = np.setdiff1d(dataset.splits["train"], np.asarray(indices))
    if dataset.y is None or len(pool) < len(dataset.classes):
        return None
    pool = evenly(pool, POOL)
    labels = torch.as_tensor(dataset.y[pool])
    near = dataset.medium.near
    known = near(dataset.items(pool))
    centre = known.mean(0)  # distances of float32 are right only near 0
    known = known - centre
    size = known.square().sum(1)
    nearest = [
        (size - 2 * (near(part) - centre) @ known.T).argmin(1) for part in x.cpu().split(500)
    ]
    return (labels[torch.cat(nearest)] == y.cpu()).numpy()


def _networks(dataset: Dataset, target: Target) -> Iterator[Target]:
    """Opens the classifiers that exist for a dataset, without the one under attack; none is trained."""

    def under_test(module: nn.Module, name: str) -> Target:
        shape, medium = dataset.shape, dataset.medium.name
        return Target(
            module, dataset.classes, shape, medium=medium, name=name, device=target.device
        )

    if target.card.get("kind") != "plain" and features.judged(dataset):
        judge = features.judge(dataset, target.device)
        yield under_test(judge.model, f"the plain classifier of {dataset.name}")
    left = PEERS
    for run in runs.listing():
        if not left:
            return
        fits = run.kind == "classifier" and run.status == "finished" and runs.checkpoints(run)
        if not fits or run.id == target.card.get("run") or runs.dataset_of(run) != dataset.name:
            continue
        if runs.record(run)["dataset"]["fingerprint"] != dataset.fingerprint:
            continue
        opened = runs.open_model(run)
        if list(opened.classes) == list(dataset.classes):
            left -= 1
            yield under_test(opened.model, run.name)


# --- Other readings of the image ------------------------------------------------------------------------------------

Reading = tuple[str, Callable[[Tensor], Tensor]]  # its name, and what it makes of images


def readings(
    channels: int, size: int, mean: Tensor, std: Tensor, inside: Mapping[str, Any]
) -> list[Reading]:
    """Lists other preprocessings that a network may have been trained with, the usual ones first.

    Args:
        channels, size: Of the images.
        mean, std: Of the dataset, one number per channel.
        inside: The preprocessing that the classifier has already; it is taken out first.
    """

    def undone(x: Tensor) -> Tensor:
        """Inverts the classifier's own preprocessing, so that the network sees `x`."""
        if not inside.get("mean"):
            return x
        return x * _wide(inside["std"], x) + _wide(inside["mean"], x)

    def scaled(mean: Any, std: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: undone((x - _wide(mean, x)) / _wide(std, x))

    usual: list[tuple[str, Any, Any]] = [
        ("mean 0.5 and std 0.5 (pixels from -1 to 1)", 0.5, 0.5),
        ("mean 0.5 and std 0.25", 0.5, 0.25),
    ]
    if inside.get("mean"):
        usual.append(("pixels from 0 to 1, without a normalisation", 0.0, 1.0))
    usual.append(("this dataset's own mean and std", mean.tolist(), std.tolist()))
    usual += [
        (f"{name}'s mean and std", m, s) for name, m, s in _PUBLISHED if len(m) in (1, channels)
    ]
    usual += [("pixels from 0 to 255", 0.0, 1 / 255), ("pixels from 0 to 16", 0.0, 1 / 16)]
    usual += [(f"mean {m:g} and std {s:g}", m, s) for m, s in _PLAIN]
    ways: list[Reading] = [(name, scaled(m, s)) for name, m, s in usual]
    ways += [
        ("dark and light exchanged", lambda x: 1 - x),
        ("rows and columns exchanged", lambda x: x.transpose(2, 3)),
        ("the image upside down", lambda x: x.flip(2)),
    ]
    if channels == 3:
        ways.append(("the channels as blue, green, red", lambda x: x.flip(1)))
    for side in (28, 32):
        if size < side:
            ways.append((f"images enlarged to {side} px", lambda x, side=side: _resized(x, side)))
    return ways


_PLAIN = [(mean, std) for mean in (0.0, 0.25, 0.5) for std in (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)]
_PUBLISHED = (
    ("MNIST", [0.1307], [0.3081]),
    ("CIFAR-10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ("ImageNet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
)


def _wide(values: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)


def _resized(x: Tensor, side: int) -> Tensor:
    return nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)


def look(
    target: Target, x: Batch, y: Tensor, said: np.ndarray, dataset: Dataset | None
) -> Iterator[Mistakes]:
    """Looks for the usual mistakes, yielding those detected so far.

    Args:
        target: The classifier.
        x, y: The images (N, C, H, W) and labels (N,).
        said: What it answers, (N,).
        dataset: Of the images, for its mean and std; None takes those of these images.
    """
    target = target.with_(eot=1)
    labels = y.cpu().numpy()
    mistakes = Mistakes(order(labels, said, target.classes), company=_company(target, x))
    yield mistakes
    pick = evenly(np.arange(len(x)), TRIED)
    sample = x[torch.as_tensor(pick, device=x.device)]
    own = said[pick] == labels[pick]
    if (~own).sum() < GAIN * len(own) or target.medium.item != "picture":
        return  # another reading could not be much better, or there is none of this medium
    mean, std = _level(dataset, x)
    tried: list[tuple[int, bool, float, OtherReading]] = []
    rare = {f"mean {m:g} and std {s:g}" for m, s in _PLAIN} - {"mean 0.5 and std 0.25"}
    for name, change in readings(
        target.shape[0], target.shape[-1], mean, std, target.card.get("preprocessing", {})
    ):
        try:
            logits = target.logits(change(sample)).cpu()
        except (RuntimeError, ValueError):  # it does not take images of that shape
            continue
        other = decide(logits).numpy() == labels[pick]
        gain = int(other.sum()) - int(own.sum())
        chance = mcnemar(int((own & ~other).sum()), int((other & ~own).sum()))
        if gain > GAIN * len(own) and chance < SURE:
            loss = float(nn.functional.cross_entropy(logits, torch.as_tensor(labels[pick])))
            reading = OtherReading(name, float(other.mean()), float(own.mean()), len(own))
            tried.append((gain, name in rare, loss, reading))
            most = max(gain for gain, *_ in tried)
            equal = [row for row in tried if row[0] >= most - TIE * len(own)]
            *_, best = min(equal, key=lambda row: row[1:3])  # the usual one, then the surest
            # an order of the classes that is right less often only reflects the wrong preprocessing
            keeps = mistakes.order and best.share <= mistakes.order.share + GAIN
            mistakes = replace(mistakes, order=mistakes.order if keeps else None, reading=best)
        yield mistakes


def _level(dataset: Dataset | None, x: Batch) -> tuple[Tensor, Tensor]:
    if dataset is not None and len(train := dataset.splits["train"]):
        pick = evenly(train, 2000)
        x = dataset.items(pick)
    return x.mean((0, 2, 3)).cpu(), x.std((0, 2, 3)).clamp_min(1e-3).cpu()


def _company(target: Target, x: Batch) -> float:
    """Measures the share of answers that change with the rest of the batch, as in training mode; 0 if random."""
    few, many = x[:COMPANY], x[: min(len(x), 8 * COMPANY)]
    if len(many) == len(few):
        return 0.0
    alone, beside = target.logits(few), target.logits(many)[: len(few)]
    if not torch.equal(alone.nan_to_num(0.0), target.logits(few).nan_to_num(0.0)):
        return 0.0
    size = alone.nan_to_num(0.0).abs().amax(1).clamp_min(1e-6)
    return float(((alone - beside).nan_to_num(0.0).abs().amax(1) > 1e-2 * size).float().mean())


def order(y: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> OtherOrder | None:
    """Finds the order of the classes in which the answers are right most often, if that is much more often.

    Each half of the images is judged by the order that the other half suggests, so that chance suggests none.

    Args:
        y, said: Labels and answers, (N,); an answer below 0 is none.
        classes: Their names.

    Returns:
        The order; None where the order as given does as well.
    """
    half = np.arange(len(y)) % 2 == 0
    other = np.zeros(len(y), bool)
    for one in (half, ~half):
        other[~one] = _named(y[one], said[one], len(classes), said[~one]) == y[~one]
    own = said == y
    chance = mcnemar(int((own & ~other).sum()), int((other & ~own).sum()))
    if other.sum() - own.sum() <= GAIN * len(y) or chance >= SURE:
        return None
    best = _named(y, said, len(classes), np.arange(len(classes)))
    pairs = tuple((classes[int(y)], classes[k]) for k, y in enumerate(best) if k != y)
    return OtherOrder(pairs, float(other.mean()), float(own.mean()), len(y))


def _named(y: np.ndarray, said: np.ndarray, classes: int, answers: np.ndarray) -> np.ndarray:
    """Reads answers in the order of the classes that suits labels and answers best."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((classes, classes))
    sound = said >= 0
    np.add.at(table, (said[sound], y[sound]), 1.0)
    table += 0.5 * np.eye(classes)  # without evidence a class keeps its place
    _, label = linear_sum_assignment(-table)
    return np.where(answers >= 0, label[answers], -1)

"""How good a model is while it learns: near held-out images, and no nearer to those that it learns from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.catalog import Config
from core.ground.watch import Stopped, Watch
from core.models import Curve

if TYPE_CHECKING:
    from core.datasets import Dataset

QUALITY = (  # what the watch sees
    Curve(
        "distance",
        "Distance to held-out images",
        "Sliced Wasserstein distance between features of 500 images (fewer in small sets); lower is nearer.",
        lines={"distance": "generated", "distance_floor": "real training images"},
        scale="log",
        position="first",
    ),
    Curve(
        "copying",
        "Copying",
        "Share of samples nearer to a training image than to an equally likely held-out one: 0.5 is none. Rising far "
        "above what real images have, the model repeats what it saw; Evaluate tests it.",
        lines={"copying": "nearer to training", "copying_real": "real held-out images"},
        position="steering",
    ),
)
COPYING = 0.6  # share of samples nearer to training than to held-out images from which a model is said to copy
FEW = 1000  # training images of a set that a model of usual size hardly copies
WATCHABLE = 10  # held-out images at least that quality is measured by
COPIES = 100  # samples at least that are looked at for copies


def few(train: int, valid: int) -> str:
    """Says what to know of a training on so few images; empty for what is enough."""
    if train >= FEW:
        return ""
    text = f"It learns from {train:,} images alone and may come to copy them. "
    if valid < WATCHABLE:
        return text + (
            f"With fewer than {WATCHABLE} held-out images this cannot be watched: look at its copies on Evaluate."
        )
    return text + (
        "The watch compares its samples with these and with held-out ones; train.patience ends it when they copy."
    )


def looks(
    dataset: Dataset, sampling: Config, begun: bool, watch: Watch
) -> Callable[[Any, int, float, bool], dict[str, float]]:
    """Measures how near samples are to held-out images, and whether they are nearer still to the training images.

    The test images are never looked at. It takes at most a tenth of the time, a third of it where ``now`` is true, but
    always measures at the end.

    Args:
        dataset: What is learned from.
        sampling: How samples are drawn.
        begun: Whether the training goes on from a model that is worth a look.
        watch: Told while the measure is prepared; may end that.

    Returns:
        ``look(model, seed, done, now)``, which gives the values of :data:`QUALITY`, or nothing when it is not time.
    """
    import torch

    from core.datasets import evenly
    from core.measure import distances, features
    from core.tensors import device

    n = min(500, len(dataset.splits["valid"]), len(dataset.splits["train"]))
    early = 0.0 if begun else 0.02
    spaced = {
        part: evenly(dataset.splits[part], count)
        for part, count in (("train", 10_000), ("valid", n))
    }
    medium, real = dataset.medium, {}
    near = medium.near if medium.item == "tokens" else lambda x: x  # symbols have no distance
    cost, since = 0.0, time.monotonic()

    def prepare() -> None:
        watch.say("Preparing the measure of quality")
        extractor = real["by"] = features.quick(dataset, device(), watch.aside())
        for part, index in spaced.items():
            real[part] = dataset.items(index)
        real["features"] = extractor.features(medium.to_model(real["valid"]))
        real.update({part: near(real[part]) for part in spaced})
        few = dataset.images(evenly(spaced["train"], n))
        real["floor"] = distances.sliced_wasserstein(extractor.features(few), real["features"])
        ours, others = real["valid"].numpy()[::2], real["valid"].numpy()[1::2]
        real["copying"] = distances.nearer_to_training(ours, real["train"].numpy(), others)

    def look(model: Any, seed: int, done: float, now: bool) -> dict[str, float]:
        nonlocal cost, since
        if n < WATCHABLE or done < early:
            return {}
        if done < 1 and time.monotonic() - since < (2 if now else 10) * cost:
            return {}
        began = time.monotonic()
        if not real:
            try:
                prepare()
            except Stopped:  # the training itself is asked to stop, which saves what there is
                return {}
            began = time.monotonic()
        count = max(n, COPIES)
        drawn = [model.sample(ids, None, seed, sampling) for ids in torch.arange(count).split(100)]
        x = medium.items(torch.cat(drawn))
        seen = real["by"].features(medium.to_model(x[:n]))
        distance = distances.sliced_wasserstein(seen, real["features"])
        copies = distances.nearer_to_training(
            near(x).numpy(), real["train"].numpy(), real["valid"].numpy()
        )
        since = time.monotonic()
        cost = since - began
        return {
            "distance": distance,
            "distance_floor": real["floor"],
            "copying": copies.value,
            "copying_low": copies.low,
            "copying_high": copies.high,
            "copying_real": real["copying"].value,
            "copying_real_high": real["copying"].high,
        }

    return look


def copies(look: Mapping[str, float]) -> bool:
    """Tells whether samples copy more than real images do: beyond their interval, and surely more than their value.

    Of a look that knows nothing of real images, whether they copy more than :data:`COPYING`.
    """
    if "copying_real" not in look:
        return look["copying_low"] > COPYING
    beyond = look["copying"] > look["copying_real_high"]
    return beyond and look["copying_low"] > look["copying_real"]


def score(look: Mapping[str, float]) -> float | None:
    """Orders checkpoints, lower is better: by the distance, those that copy behind all others; None without a look."""
    if not look:
        return None
    if not copies(look):
        return look["distance"]
    return look["distance"] + 1e6 * max(1e-3, look["copying"] - look.get("copying_real", COPYING))


def best(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Finds the record with the best look that a training took at its quality; None without any."""
    looks = (r for r in records if r.keys() >= {"distance", "distance_floor", "copying_low"})
    return min(looks, key=lambda look: score(look) or 0.0, default=None)

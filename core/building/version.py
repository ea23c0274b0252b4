"""A new version of a dataset: augmented copies and synthetic samples join its training images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core import datasets, jobs, runs
from core.building.gate import REASONS, gate
from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import Dataset
from core.datasets.dataset import assemble, digests
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import percent

COLUMNS = ("origin", "parent", "run", "seed", "parameters")
_TRIES = 5  # samples drawn for each that is wanted, at most


class BuildConfig(Config):
    """What joins the training images."""

    name: str = knob("", "What the new dataset is called.")
    pipeline: str = knob(
        "", "The saved pipeline that makes augmented copies; empty for none.", title="Pipeline"
    )
    copies: int = knob(1, "Augmented copies of each training image.", ge=1, le=20)
    run: str = knob("", "The run that makes synthetic images; empty for none.", title="Run")
    per_class: int = knob(
        100,
        "Synthetic images of each class; of a set without labels, in all.",
        ge=1,
        le=100_000,
        unit="images",
        log=True,
    )
    confidence: float = knob(
        0.5,
        "Least probability that a judge of the real images gives the wanted class; 0 keeps all.",
        ge=0,
        le=1,
    )
    authentic: bool = knob(
        True,
        "Leaves out samples that lie nearer to a training image than that image's own nearest one does: copies.",
    )
    distinct: bool = knob(True, "Leaves out samples that are nearly the same as an earlier one.")
    seed: int = seed_knob("Of the augmentation and of the samples.")


@dataclass
class Added:
    """What joins the training images so far.

    Attributes:
        x, y: Levels (n, C, H, W) and labels (n,), in parts.
        rows: By image, a value of each of :data:`COLUMNS`.
        refused: Samples that the gate refused, by reason.
        rejected: Some of these, levels (C, H, W).
    """

    x: list[np.ndarray] = field(default_factory=list)
    y: list[np.ndarray] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    rejected: list[np.ndarray] = field(default_factory=list)


def foreign(run: jobs.Job, dataset: Dataset) -> str:
    """Says why a run must not add to a dataset: it was trained on images that are held out here; empty if it may.

    Raises:
        UserError: If what the run was trained on cannot be found any more.
    """
    source = runs.record(run)["dataset"]
    if source["fingerprint"] == dataset.fingerprint:
        return ""
    trained = datasets.load(source["name"], source["config"])
    if trained.fingerprint != source["fingerprint"]:
        raise UserError(
            f"The run {run.name} was trained on images of {source['name']} that have changed since, so it cannot be "
            "checked against the held-out images. Choose a run that was trained on this dataset."
        )
    if trained.shape != dataset.shape:
        return ""
    held = np.concatenate([dataset.splits["valid"], dataset.splits["test"]])
    learned = np.isin(
        digests(np.asarray(dataset.x[held])),
        digests(np.asarray(trained.x[trained.splits["train"]])),
    )
    if not learned.any():
        return ""
    return (
        f"The run {run.name} has learned from {int(learned.sum()):,} images that are held out here, so its samples "
        "would leak. Choose a run that was trained on this dataset."
    )


def build(
    dataset: Dataset, config: BuildConfig, watch: Watch = UNWATCHED
) -> tuple[Dataset, dict[str, Any], np.ndarray]:
    """Adds augmented copies and synthetic images to the training images.

    Args:
        dataset: The parent; it stays as it is.
        config: What joins.
        watch: Told how far it is; may end it.

    Returns:
        The new dataset (not saved), what was done in plain values, and some rejected samples, uint8 (n, C, H, W).

    Raises:
        UserError: If nothing is to be added, or the run or the pipeline cannot be used.
    """
    train = dataset.splits["train"]
    if not config.pipeline and not config.run:
        raise UserError(
            "A build adds copies by a pipeline, or samples of a run, and got neither. Choose one of them."
        )
    if not len(train):
        raise UserError(
            f"{dataset.name} has no training image, and only those have copies. Choose another dataset."
        )
    added = Added()
    if config.pipeline:
        _augment(dataset, config, added, watch)
    if config.run:
        _sample(dataset, config, added, watch)
    if not added.rows:
        raise UserError(
            "No sample passed the filters: "
            + ", ".join(f"{n:,} refused by {name}" for name, n in added.refused.items() if n)
            + ". Lower build.confidence, or choose a better model."
        )
    extra, count = np.concatenate(added.x), len(dataset)
    attributes = {
        name: _padded(np.asarray(column), len(extra))
        for name, column in (dataset.attributes or {}).items()
        if name not in COLUMNS
    }
    columns = provenance(dataset)
    for name, values in zip(COLUMNS, zip(*added.rows, strict=True), strict=True):
        kind = np.int64 if name in ("parent", "seed") else str
        attributes[name] = np.concatenate([columns[name], np.array(values, kind)])
    if (members := dataset.members) is not None:  # a copy belongs to whom its parent does
        theirs = [str(members[row[1]]) if row[1] >= 0 else "" for row in added.rows]
        attributes["group"] = np.concatenate([members, theirs])
    kinds = {name: sum(row[0] == name for row in added.rows) for name in ("augmented", "synthetic")}
    sentence = (
        f"{count:,} images of {dataset.name}, and for training "
        + " and ".join(f"{n:,} {name}" for name, n in kinds.items() if n)
        + " ones"
    )
    out = sum(added.refused.values())
    sentence += f"; {out:,} samples were refused." if out else "."
    version = assemble(
        np.concatenate([np.asarray(dataset.x), extra]),
        None if dataset.y is None else np.concatenate([dataset.y, *added.y]),
        dataset.classes,
        {**dataset.splits, "train": np.concatenate([train, np.arange(count, count + len(extra))])},
        levels=dataset.levels,
        attributes=attributes,
        name=dataset.name,
        parent=dataset.fingerprint,
        refused=dataset.refused,
        notes=(*dataset.notes, sentence),
        source={**dataset.source, "build": config.record()},
        terms=dataset.terms,
        medium=dataset.medium.name,
        group=dataset.group,
    )
    record = {
        "images": len(version),
        "added": kinds,
        "refused": added.refused,
        "per_class": {name: parts["train"] for name, parts in version.counts().items()},
        "sentence": sentence,
    }
    return (
        version,
        record,
        np.array(added.rejected, dataset.x.dtype).reshape(-1, *dataset.x.shape[1:]),
    )


def provenance(dataset: Dataset) -> dict[str, np.ndarray]:
    """Gives :data:`COLUMNS`, where each image comes from; one that a dataset does not tell of is real, no copy.

    A column of an import that is called so, but holds words where ours holds numbers, is not ours.
    """
    known = dataset.attributes or {}
    columns = {}
    for name, value in zip(COLUMNS, ("real", -1, "", -1, ""), strict=True):
        usual = np.full(len(dataset), value)
        column = np.asarray(known.get(name, usual))
        ours = isinstance(value, str) == (column.dtype.kind in "USO")
        columns[name] = column if ours else usual
    return columns


def origins(dataset: Dataset) -> dict[str, int]:
    """Counts real, augmented and synthetic images."""
    column = provenance(dataset)["origin"]
    return {name: int((column == name).sum()) for name in ("real", "augmented", "synthetic")}


def changes(dataset: Dataset) -> Mapping[str, Any]:
    """Says what made a version different from its parent: the decisions or the build, in plain values."""
    source: Mapping[str, Any] = dataset.source.get("origin", dataset.source)
    return {key: source[key] for key in ("changes", "build") if key in source}


def _padded(column: np.ndarray, more: int) -> np.ndarray:
    """Lengthens a column for images that have no value of it."""
    if column.dtype.kind in "US":
        return np.concatenate([column, np.full(more, "")])
    empty = np.nan if column.dtype.kind == "f" else 0
    return np.concatenate([column, np.full(more, empty, column.dtype)])


def _augment(dataset: Dataset, config: BuildConfig, added: Added, watch: Watch) -> None:
    """Adds copies of all training images, changed by the pipeline."""
    import torch

    from core import augment

    train = dataset.splits["train"]
    total = config.copies * len(train)
    settings().allow_disk(total * dataset.x[:1].nbytes / 2**20)
    pipeline = augment.load(config.pipeline)
    if mixing := pipeline.mixing:
        raise UserError(
            f"{mixing[0]} mixes labels, and an image of a dataset has one class. Switch it off."
        )
    x = dataset.items(train)
    y = None if dataset.y is None else torch.as_tensor(dataset.y[train])
    chain = augment.Chain(pipeline, augment.Context(x, y, len(dataset.classes)))
    for copy in range(config.copies):
        for start in range(0, len(train), 500):
            part = slice(start, start + 500)
            ids = torch.as_tensor(train[part]) * 1000 + copy
            drawn = chain.draw(config.seed, ids, None if y is None else y[part])
            added.x.append(dataset.medium.write(chain.apply(x[part], drawn), dataset.levels))
            for i, image in enumerate(train[part]):
                steps = [
                    {"step": step.name, **values}
                    for (_, step, _, _), values in zip(
                        chain.steps, chain.values(drawn, i), strict=True
                    )
                    if values is not None
                ]
                added.rows.append(("augmented", int(image), "", config.seed, json.dumps(steps)))
            done = len(added.rows) / total
            watch.say(f"Augmenting: {percent(done, 0)}", done * (0.5 if config.run else 1.0))
            watch.check()
        if dataset.y is not None:
            added.y.append(dataset.y[train])


def _sample(dataset: Dataset, config: BuildConfig, added: Added, watch: Watch) -> None:
    """Adds samples of the run that pass the gate, until each class has as many as are wanted."""
    import torch

    from core.augment.generative import fitting, opened
    from core.measure import features
    from core.tensors import device

    run = runs.find(config.run, generator=True)
    if problem := foreign(run, dataset):
        raise UserError(problem)
    source = opened(config.run)
    fitting(source, dataset.images(slice(1)))
    model, classes = source.model, len(dataset.classes)
    if model.classes not in (0, classes):
        raise UserError(
            f"The run {run.name} knows {model.classes} classes, and {dataset.name} has {classes}. "
            "Choose a run that was trained on this dataset."
        )
    if classes == 1 and not model.classes:
        raise UserError(
            f"The run {run.name} ignores labels, and one class is too few for a judge to sort its samples. "
            "Choose a model that listens to labels."
        )
    watch.say("Preparing the judge", 0.5)
    judge = None
    if classes > 1:
        judge = features.judge(dataset, device(), watch.part(0.5, 0.6))
    extractor = judge or features.components(dataset, device())
    real = np.concatenate([extractor.features(x) for x in dataset.batches(dataset.splits["train"])])
    wanted = dict.fromkeys(range(max(1, classes)), config.per_class)
    total = config.per_class * len(wanted)
    earlier: list[np.ndarray] = []
    assert source.sampling is not None
    where = next(model.parameters()).device
    kept = number = 0
    while kept < total and number < _TRIES * total:
        open_classes = [label for label, left in wanted.items() if left > 0]
        count = min(200, _TRIES * total - number)
        ids = list(range(number, number + count))
        number += count
        labels = torch.tensor([open_classes[i % len(open_classes)] for i in range(count)])
        with torch.inference_mode():
            y = labels.to(where) if model.classes else None
            x = model.sample(ids, y, config.seed, source.sampling()).clone().cpu()
        raw = dataset.medium.kept(x, dataset.levels)
        x = dataset.medium.seen(torch.as_tensor(raw), dataset.levels)
        points = extractor.features(x)
        chances = None
        if judge is not None:
            shares = judge.probabilities(x)
            if not model.classes:  # the judge names what the model does not
                labels = torch.as_tensor(shares.argmax(1))
            chances = shares[np.arange(count), labels.numpy()]
        passed = gate(
            points,
            real,
            chances=chances,
            confidence=config.confidence,
            authentic=config.authentic,
            distinct=config.distinct,
            earlier=np.concatenate(earlier) if earlier else None,
        )
        for name, n in passed.refused.items():
            added.refused[name] += n
        added.rejected += list(raw[~passed.keep][: max(0, 64 - len(added.rejected))])
        taken = []
        for i in np.flatnonzero(passed.keep):
            label = int(labels[i]) if classes else 0
            if wanted[label] > 0:
                wanted[label] -= 1
                taken.append(i)
                parameters: dict[str, Any] = {"id": ids[i], "step": source.step}
                if chances is not None:
                    parameters["confidence"] = round(float(chances[i]), 4)
                added.rows.append(
                    ("synthetic", -1, source.run, config.seed, json.dumps(parameters))
                )
        if taken:
            added.x.append(raw[taken])
            earlier.append(points[taken])
            if classes:
                added.y.append(labels.numpy()[taken].astype(np.int64))
        kept += len(taken)
        share = 0.6 + 0.4 * kept / total
        watch.say(f"Sampling: {kept:,} of {total:,} kept, {number:,} drawn", share)
        watch.check()

"""Building datasets: augmented copies and synthetic samples join the training images; a version leaves as a ZIP.

Children inherit the split of their parent, so only training images have any; a synthetic image joins the training split
too. Nothing is ever added to what is held out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import datasets, jobs, runs
from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import SPLITS, Dataset
from core.datasets.dataset import assemble, digests
from core.ground import files, tables
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


@dataclass(frozen=True)
class Gated:
    """What a gate let through.

    Attributes:
        keep: bool (N,).
        refused: How many were refused, by the first reason.
    """

    keep: np.ndarray
    refused: dict[str, int]


def gate(
    made: np.ndarray,
    real: np.ndarray,
    *,
    chances: np.ndarray | None = None,
    confidence: float = 0.0,
    authentic: bool = True,
    distinct: bool = True,
    earlier: np.ndarray | None = None,
) -> Gated:
    """Sorts synthetic samples: wrong class, copies of training images, repetitions of each other.

    Args:
        made: Features of the samples, (N, D).
        real: Features of the training images, (M, D).
        chances: Probability of the wanted class, (N,), if there is a judge.
        confidence: Least probability.
        authentic: Refuses a sample that is nearer to a training image than that image's own nearest other one.
        distinct: Refuses a sample much nearer to an earlier sample than training images are to each other.
        earlier: Features of samples that were kept before, (L, D).

    References:
        Alaa et al., 2022, How faithful is your synthetic data? (authenticity), https://arxiv.org/abs/2102.08921
    """
    import torch

    from core.measure import distances

    keep = np.ones(len(made), bool)
    refused = {"confidence": 0, "authenticity": 0, "duplicates": 0}
    if chances is not None and confidence > 0:
        bad = chances < confidence
        refused["confidence"] = int(bad.sum())
        keep &= ~bad
    x, y = torch.as_tensor(made).float(), torch.as_tensor(real).float()
    if len(y) < 2 or not len(x):
        return Gated(keep, refused)
    own = distances.nearest(y, y, same=True)[0][:, 0]
    if authentic:
        away, index = (found[:, 0] for found in distances.nearest(x, y))
        bad = (away < own[index]).numpy() & keep
        refused["authenticity"] = int(bad.sum())
        keep &= ~bad
    if distinct:
        bar = float(0.13 * own.median())  # as far below the usual as near duplicates are
        kept = [] if earlier is None or not len(earlier) else list(torch.as_tensor(earlier).float())
        for i in np.flatnonzero(keep):
            if kept and float((torch.stack(kept) - x[i]).square().sum(1).min().sqrt()) <= bar:
                keep[i] = False
                refused["duplicates"] += 1
            else:
                kept.append(x[i])
    return Gated(keep, refused)


def foreign(run: jobs.Job, dataset: Dataset) -> str:
    """Says why a run must not add to a dataset: it was trained on images that are held out here; empty if it may.

    Raises:
        UserError: If what the run was trained on cannot be found any more.
    """
    facts = runs.record(run)["dataset"]
    if facts["fingerprint"] == dataset.fingerprint:
        return ""
    trained = datasets.load(facts["name"], facts["config"])
    if trained.fingerprint != facts["fingerprint"]:
        raise UserError(
            f"The run {run.name} was trained on images of {facts['name']} that have changed since, so it cannot be "
            "checked against the held-out images. Choose a run that was trained on this dataset."
        )
    held = np.concatenate([dataset.splits["valid"], dataset.splits["test"]])
    if trained.shape != dataset.shape:
        return ""
    both = np.isin(
        digests(np.asarray(dataset.x[held])),
        digests(np.asarray(trained.x[trained.splits["train"]])),
    )
    if not both.any():
        return ""
    return (
        f"The run {run.name} has learned from {int(both.sum()):,} images that are held out here, so its samples would "
        "leak. Choose a run that was trained on this dataset."
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
    import torch

    from core import augment
    from core.tensors import to_bytes

    train = dataset.splits["train"]
    if not config.pipeline and not config.run:
        raise UserError(
            "A build adds copies by a pipeline, or samples of a run, and got neither. Choose one of them."
        )
    if not len(train):
        raise UserError(
            f"{dataset.name} has no training image, and only those have copies. Choose another dataset."
        )
    added_x, added_y, rows = [], [], []
    refused = {"confidence": 0, "authenticity": 0, "duplicates": 0}
    rejected: list[np.ndarray] = []
    if config.pipeline:
        settings().allow_disk(len(train) * config.copies * dataset.x[:1].nbytes / 2**20)
        pipeline = augment.load(config.pipeline)
        mixing = pipeline.mixing
        if mixing:
            raise UserError(
                f"{mixing[0]} mixes labels, and an image of a dataset has one class. Switch it off."
            )
        x = dataset.images(train)
        y = None if dataset.y is None else torch.as_tensor(dataset.y[train])
        chain = augment.Chain(pipeline, augment.Context(x, y, len(dataset.classes)))
        for copy in range(config.copies):
            for start in range(0, len(train), 500):
                part = slice(start, start + 500)
                ids = torch.as_tensor(train[part]) * 1000 + copy
                drawn = chain.draw(config.seed, ids, None if y is None else y[part])
                added_x.append(to_bytes(chain.apply(x[part], drawn), dataset.levels))
                for i, image in enumerate(train[part]):
                    said = [
                        {"step": step.name, **words}
                        for (_, step, _, _), words in zip(
                            chain.steps, chain.told(drawn, i), strict=True
                        )
                        if words is not None
                    ]
                    rows.append(("augmented", int(image), "", config.seed, json.dumps(said)))
                done = (copy * len(train) + min(start + 500, len(train))) / (
                    config.copies * len(train)
                )
                share = done * (0.5 if config.run else 1.0)
                watch.say(f"Augmenting: {percent(done, 0)}", share)
                watch.check()
            if dataset.y is not None:
                added_y.append(dataset.y[train])
    if config.run:
        x, y, samples, refused, rejected = _samples(dataset, config, watch)
        added_x += x
        added_y += y
        rows += samples
    if not rows:
        raise UserError(
            "No sample passed the filters: "
            + ", ".join(f"{n:,} refused by {name}" for name, n in refused.items() if n)
            + ". Lower build.confidence, or choose a better model."
        )
    extra = np.concatenate(added_x)
    count = len(dataset)
    old = _columns(dataset)
    attributes = {
        name: column for name, column in (dataset.attributes or {}).items() if name not in COLUMNS
    }
    attributes = {name: _padded(column, len(extra)) for name, column in attributes.items()}
    for place, name in enumerate(COLUMNS):
        kind = np.int64 if name in ("parent", "seed") else str
        attributes[name] = np.concatenate([old[name], np.array([row[place] for row in rows], kind)])
    if (members := dataset.members) is not None:  # a copy belongs to whom its parent does
        theirs = [str(members[row[1]]) if row[1] >= 0 else "" for row in rows]
        attributes["group"] = np.concatenate([members, theirs])
    origins = {name: sum(row[0] == name for row in rows) for name in ("augmented", "synthetic")}
    sentence = (
        f"{count:,} images of {dataset.name}, and for training "
        + " and ".join(f"{n:,} {name}" for name, n in origins.items() if n)
        + " ones"
    )
    out = sum(refused.values())
    sentence += f"; {out:,} samples were refused." if out else "."
    made = assemble(
        np.concatenate([np.asarray(dataset.x), extra]),
        None if dataset.y is None else np.concatenate([dataset.y, *added_y]),
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
    facts = {
        "images": len(made),
        "added": origins,
        "refused": refused,
        "per_class": {name: parts["train"] for name, parts in made.counts().items()},
        "sentence": sentence,
    }
    return (
        made,
        facts,
        np.stack(rejected) if rejected else np.zeros((0, *dataset.x.shape[1:]), np.uint8),
    )


def _columns(dataset: Dataset) -> dict[str, np.ndarray]:
    """Gives where each image comes from; what a dataset does not say is a real image without a parent."""
    n, known = len(dataset), dataset.attributes or {}
    plain = {
        "origin": np.full(n, "real"),
        "parent": np.full(n, -1, np.int64),
        "run": np.full(n, ""),
        "seed": np.full(n, -1, np.int64),
        "parameters": np.full(n, ""),
    }
    return {name: np.asarray(known.get(name, column)) for name, column in plain.items()}


def _padded(column: np.ndarray, more: int) -> np.ndarray:
    """Lengthens a column for images that have no value of it."""
    column = np.asarray(column)
    if column.dtype.kind in "US":
        return np.concatenate([column, np.full(more, "")])
    if column.dtype.kind == "f":
        return np.concatenate([column, np.full(more, np.nan, column.dtype)])
    return np.concatenate([column, np.zeros(more, column.dtype)])


def _samples(
    dataset: Dataset, config: BuildConfig, watch: Watch
) -> tuple[
    list[np.ndarray], list[np.ndarray], list[tuple[Any, ...]], dict[str, int], list[np.ndarray]
]:
    import torch

    from core.augment.generative import fitting, opened
    from core.measure import features
    from core.tensors import device

    run = runs.find(config.run, generator=True)
    problem = foreign(run, dataset)
    if problem:
        raise UserError(problem)
    model = opened(config.run)
    few = dataset.images(slice(1))
    fitting(model, few)
    classes = len(dataset.classes)
    if model.model.classes not in (0, classes):
        raise UserError(
            f"The run {run.name} knows {model.model.classes} classes, and {dataset.name} has {classes}. "
            "Choose a run that was trained on this dataset."
        )
    if classes and not model.model.classes and classes < 2:
        raise UserError(
            f"The run {run.name} ignores labels, and one class is too few for a judge to sort its samples. "
            "Choose a model that listens to labels."
        )
    watch.say("Preparing the judge", 0.5)
    judged = classes > 1
    by = (
        features.judge(dataset, device(), watch.part(0.5, 0.6))
        if judged
        else features.components(dataset, device())
    )
    train = dataset.splits["train"]
    real = np.concatenate([by.features(x) for x in dataset.batches(train)])
    wanted = dict.fromkeys(range(max(1, classes)), config.per_class)
    total = config.per_class * max(1, classes)
    kept_x: list[np.ndarray] = []
    kept_y: list[np.ndarray] = []
    rows: list[tuple[Any, ...]] = []
    rejected: list[np.ndarray] = []
    refused = {"confidence": 0, "authenticity": 0, "duplicates": 0}
    earlier: list[np.ndarray] = []
    sampling = model.sampling
    assert sampling is not None
    where = next(model.model.parameters()).device
    number = 0
    while any(wanted.values()) and number < _TRIES * total:
        open_classes = [label for label, left in wanted.items() if left > 0]
        count = min(200, _TRIES * total - number)
        ids = list(range(number, number + count))
        number += count
        labels = torch.tensor([open_classes[i % len(open_classes)] for i in range(count)])
        with torch.inference_mode():
            y = labels.to(where) if model.model.classes else None
            x = model.model.sample(ids, y, config.seed, sampling()).clone().cpu()
        raw = dataset.medium.kept(x, dataset.levels)
        x = dataset.medium.seen(torch.as_tensor(raw), dataset.levels)
        points = by.features(x)
        chances = None
        if judged:
            shares = by.probabilities(x)  # type: ignore[union-attr]
            if not model.model.classes:  # the judge names what the model does not
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
            refused[name] += n
        rejected += list(raw[~passed.keep][: max(0, 64 - len(rejected))])
        taken = []
        for i in np.flatnonzero(passed.keep):
            label = int(labels[i]) if classes else 0
            if wanted[label] > 0:
                wanted[label] -= 1
                taken.append(i)
                said: dict[str, Any] = {"id": ids[i], "step": model.step}
                if chances is not None:
                    said["confidence"] = round(float(chances[i]), 4)
                rows.append(("synthetic", -1, model.run, config.seed, json.dumps(said)))
        if taken:
            kept_x.append(raw[taken])
            earlier.append(points[taken])
            if classes:
                kept_y.append(labels.numpy()[taken].astype(np.int64))
        done = 1 - sum(wanted.values()) / total
        watch.say(f"Sampling: {len(rows):,} of {total:,} kept, {number:,} drawn", 0.6 + 0.4 * done)
        watch.check()
    return kept_x, kept_y, rows, refused, rejected


def origins(dataset: Dataset) -> dict[str, int]:
    """Counts real, augmented and synthetic images."""
    column = _columns(dataset)["origin"]
    return {name: int((column == name).sum()) for name in ("real", "augmented", "synthetic")}


# --- Taking a dataset away --------------------------------------------------------------------------------------------

MANIFEST = ("file", "label", "split", "origin", "parent", "run", "seed", "parameters")


def archive(dataset: Dataset, out: io.BufferedIOBase | Path) -> dict[str, int]:
    """Writes a dataset as ZIP: ``split/class/number.png``, ``manifest.csv`` and ``about.json``.

    The same dataset gives the same bytes. ``parent`` in the manifest is the file of the image that an augmented one was
    made from; a last column ``group`` says who belongs together, where something does.

    Args:
        dataset: What to write.
        out: A file, or where to write one.

    Returns:
        ``images`` and ``bytes``.
    """
    if isinstance(out, Path):
        memory = io.BytesIO()
        facts = archive(dataset, memory)
        with files.full_disk_told():
            files.write_atomic(out, memory.getbuffer().tobytes())
        return facts
    start = out.tell()
    rows = []
    names = list(_files(dataset))
    columns, members = _columns(dataset), dataset.members
    head = MANIFEST if members is None else (*MANIFEST, "group")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for i, (file, split) in enumerate(names):
            packed.writestr(
                _member(file), dataset.medium.alone(np.asarray(dataset.x[i]), dataset.levels)
            )
            parent, seed = int(columns["parent"][i]), int(columns["seed"][i])
            label = "" if dataset.y is None else dataset.classes[dataset.y[i]]
            rows.append(
                (
                    file,
                    label,
                    split,
                    str(columns["origin"][i]),
                    names[parent][0] if parent >= 0 else "",
                    str(columns["run"][i]),
                    seed if seed >= 0 else "",
                    str(columns["parameters"][i]),
                    *([] if members is None else [members[i]]),
                )
            )
        about = {
            "name": dataset.name,
            "images": len(dataset),
            "classes": list(dataset.classes),
            "fingerprint": dataset.fingerprint,
            "parent": dataset.parent,
            "levels": dataset.levels,
            "terms": dict(dataset.terms),
            "origins": origins(dataset),
            "notes": list(dataset.notes),
            **({"group": dataset.group} if dataset.group else {}),
        }
        packed.writestr(_member("manifest.csv", True), tables.write(head, rows).encode())
        packed.writestr(_member("about.json", True), json.dumps(about, indent=1).encode())
    return {"images": len(dataset), "bytes": out.tell() - start}


def _member(name: str, deflate: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    return info


def _files(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Names the file and the split of every image, in order."""
    split_of = np.empty(len(dataset), object)
    for split in SPLITS:
        split_of[dataset.splits[split]] = split
    folders = _folders(dataset.classes)
    width = len(str(max(0, len(dataset) - 1)))
    for i in range(len(dataset)):
        folder = "" if dataset.y is None else folders[int(dataset.y[i])] + "/"
        yield f"{split_of[i]}/{folder}{i:0{width}d}{dataset.medium.suffix}", split_of[i]


def _folders(classes: tuple[str, ...]) -> list[str]:
    """Turns class names into names of folders that any system can hold, each its own."""
    made: list[str] = []
    for number, name in enumerate(classes):
        plain = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in name).strip(" .")
        plain = plain[:60] or f"class {number}"
        taken = {one.casefold() for one in made}
        made.append(plain if plain.casefold() not in taken else f"{plain} {number}")
    return made


def changes(dataset: Dataset) -> Mapping[str, Any]:
    """Says what made a version different from its parent: the decisions or the build, in plain values."""
    source: Mapping[str, Any] = dataset.source.get("origin", dataset.source)
    return {key: source[key] for key in ("changes", "build") if key in source}

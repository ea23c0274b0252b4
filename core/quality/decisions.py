"""What people decided about a dataset's images: a log that only grows, with undo; and the version that it makes.

The log belongs to the content (the fingerprint), not to a name, so two people who look at the same images share it. A
decision names the state that its author saw; if somebody else has decided about the same images meanwhile, it is
refused and says so, and nothing is lost.
"""

from __future__ import annotations

import datetime
import itertools
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from core import datasets
from core.catalog import UserError, unknown
from core.datasets import SPLITS, Dataset, optout
from core.datasets.attributes import of_rows
from core.datasets.dataset import FEWEST, assemble
from core.ground import files
from core.ground.settings import settings
from core.ground.writing import many
from core.quality import filling
from core.quality.check import checks
from core.quality.filling import Filling

ACTIONS = ("exclude", "relabel", "accept")
# What is done to an image, in the words of pages, commands and notes
WORDS = {"exclude": "left out", "relabel": "relabelled", "accept": "kept", "repair": "repaired"}
_KEYS = {"exclude": "excluded", "relabel": "relabelled", "accept": "accepted"}


@dataclass(frozen=True)
class Decision:
    """One decision, about one image or many.

    Attributes:
        id: Of the decision.
        time: Seconds since 1970.
        who: Who decided; may be empty.
        action: One of :data:`ACTIONS`, or ``repair``.
        images: Indices.
        labels: The new label of each image, for ``relabel``.
        filling: What takes the place of the image, for ``repair``.
        kind: The kind of issue that it answers; may be empty.
        undone: Whether it was taken back.
        reason: Why, a sentence; may be empty.
    """

    id: str
    time: float
    who: str
    action: str
    images: tuple[int, ...]
    labels: tuple[int, ...] = ()
    kind: str = ""
    undone: bool = False
    reason: str = ""
    filling: Filling | None = None


@dataclass(frozen=True)
class Book:
    """The decisions about a dataset at one moment.

    Attributes:
        version: Number of records in the log; what :func:`decide` calls ``seen``.
        entries: Oldest first, also those that were undone.
        state: By image, the action that holds and the label that it gives; the label that it has anyway is accepted.
        repaired: By image, the repair that holds; whatever else is decided about the image holds beside it.
        damaged: A sentence about what of the log could not be read, or empty.
        news: A sentence about what others did meanwhile, or empty.
        summary: ``excluded``, ``relabelled``, ``accepted``, ``repaired``, ``changed`` (all but accepted), ``test`` (of
            these, in the test split), ``sentence``, and ``warning`` where test images are changed.
        new: Ids of the decisions that were just written, the oldest first.
    """

    version: int
    entries: list[Decision]
    state: Mapping[int, tuple[str, int | None]]
    damaged: str = ""
    news: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    repaired: Mapping[int, Decision] = field(default_factory=dict)

    def about(self, image: int) -> Decision | None:
        """Finds the decision that holds about an image, beside its repair; None without one."""
        mine = (e for e in reversed(self.entries) if image in e.images and e.action in ACTIONS)
        return next((entry for entry in mine if not entry.undone), None)


def _folder(dataset: Dataset) -> Path:
    return settings().home.absolute() / "decisions" / dataset.fingerprint[:32]


def _records(dataset: Dataset) -> tuple[list[dict[str, Any]], int]:
    """Reads the whole lines of the log, afresh, and counts the others."""
    file = _folder(dataset) / "log.jsonl"
    return files.parse(file.read_bytes() if file.exists() else b"")


def open(dataset: Dataset) -> Book:
    """Reads what was decided about a dataset; lines that are damaged are left out, and told."""
    records, bad = _records(dataset)
    entries: dict[str, Decision] = {}
    n = len(dataset)
    for record in records:
        try:
            if "undo" in record:
                old = entries[record["undo"]]
                entries[old.id] = replace(old, undone=True)
                continue
            entry = Decision(
                str(record["id"]),
                float(record["time"]),
                str(record["who"]),
                record["action"],
                tuple(map(int, record["images"])),
                tuple(map(int, record.get("labels", ()))),
                str(record.get("kind", "")),
                reason=str(record.get("reason", "")),
                filling=Filling.read(record) if record["action"] == "repair" else None,
            )
            known = (*ACTIONS, "repair")
            fits = entry.action in known and all(0 <= image < n for image in entry.images)
            if entry.action == "relabel":
                fits &= len(entry.labels) == len(entry.images)
                fits &= all(0 <= label < len(dataset.classes) for label in entry.labels)
            if not fits:
                raise ValueError
            entries[entry.id] = entry
        except (KeyError, TypeError, ValueError):
            bad += 1
    state: dict[int, tuple[str, int | None]] = {}
    repaired: dict[int, Decision] = {}
    for entry in entries.values():
        if entry.undone:
            continue
        if entry.action == "repair":
            repaired |= dict.fromkeys(entry.images, entry)
        else:
            labels = entry.labels or (None,) * len(entry.images)
            for image, label in zip(entry.images, labels, strict=True):
                state[image] = _meant(dataset, image, entry.action, label)
    damaged = ""
    if bad:
        lines = "1 line is" if bad == 1 else f"{bad} lines are"
        damaged = (
            f"{_folder(dataset) / 'log.jsonl'} is damaged: {lines} not readable and left out. "
            "The other decisions hold; look whether one is missing, and decide it again."
        )
    summary = _summary(dataset, state, repaired)
    return Book(
        len(records), list(entries.values()), state, damaged, "", summary, repaired=repaired
    )


def _meant(dataset: Dataset, image: int, action: str, label: int | None) -> tuple[str, int | None]:
    same = action == "relabel" and dataset.y is not None and label == int(dataset.y[image])
    return ("accept", None) if same else (action, label)


def _summary(
    dataset: Dataset, state: Mapping[int, tuple[str, int | None]], repaired: Mapping[int, Decision]
) -> dict[str, Any]:
    counts = {act: sum(done == act for done, _ in state.values()) for act in ACTIONS}
    test = np.zeros(len(dataset), bool)
    test[dataset.splits["test"]] = True
    changed = {image for image, (action, _) in state.items() if action != "accept"} | set(repaired)
    tested = sum(bool(test[image]) for image in changed)
    told = {**counts, "repair": len(repaired)}
    parts = [f"{n:,} {WORDS[act]}" for act, n in told.items() if n]
    warning = ""
    if tested:
        warning = (
            f"{tested:,} of the changed images lie in the test split: reports on the new version and on this "
            "one are not about the same images."
        )
    return {
        **{_KEYS[act]: n for act, n in counts.items()},
        "repaired": len(repaired),
        "changed": len(changed),
        "test": tested,
        "sentence": (", ".join(parts) + ".") if parts else "Nothing is decided yet.",
        "warning": warning,
    }


def decide(
    dataset: Dataset,
    action: str,
    images: Sequence[int] | np.ndarray,
    label: int | Sequence[int] | None = None,
    *,
    kind: str = "",
    reason: str = "",
    who: str = "",
    seen: int,
) -> Book:
    """Writes one decision about one image or many, without those of which it holds already.

    Args:
        dataset: What it is about.
        action: One of :data:`ACTIONS`.
        images: Indices, each once.
        label: For ``relabel``, the new label of all images, or of each.
        kind: The kind of issue that it answers.
        reason: Why, a sentence; of a longer one the first 300 signs are kept.
        who: Who decides.
        seen: ``version`` of the book that the person looked at.

    Returns:
        The book as it is now; its ``news`` says for how many images nothing is new, and what others decided about other
        images meanwhile.

    Raises:
        UserError: If the server is view-only, something is not allowed, or somebody else has decided about one of the
            same images since; nothing is written then.
    """
    settings().allow_change("decide about images")
    if action not in ACTIONS:
        raise UserError(unknown("decision", action, ACTIONS))
    chosen = list(dict.fromkeys(map(int, images)))
    if not chosen:
        raise UserError("A decision needs at least 1 image, got none. Choose images first.")
    known(dataset, chosen)
    record: dict[str, Any] = {"action": action, "images": chosen, "kind": kind}
    if reason := " ".join(reason.split())[:300]:
        record["reason"] = reason
    if action == "relabel":
        labels = [label] * len(chosen) if isinstance(label, int | np.integer) else list(label or ())
        if len(labels) != len(chosen) or any(
            not 0 <= int(one) < len(dataset.classes) for one in labels
        ):
            raise UserError(
                f"A new label must be a class 0 to {len(dataset.classes) - 1} for each image, got {label!r}. "
                "Choose a class."
            )
        record["labels"] = [int(one) for one in labels]
    return _write(dataset, record, who, seen)


def repair(
    dataset: Dataset,
    image: int,
    x: np.ndarray,
    *,
    run: str,
    seed: int,
    how: Mapping[str, Any],
    reason: str = "",
    who: str = "",
    seen: int,
) -> Book:
    """Decides that an item takes the place of an image of which a model has filled a part; a label it keeps.

    Args:
        dataset: What it is about.
        image: Its index.
        x: The item as it is stored, (…); kept in a file, so that the run may go.
        run: The run whose model filled the part.
        seed: Of its noise.
        how: What else made it, in plain values: the method, the hole, the number of the fill.
        reason, who, seen: As in :func:`decide`.

    Raises:
        UserError: As :func:`decide`, or if the item is none of this dataset, or nothing of it differs.
    """
    settings().allow_change("decide about images")
    known(dataset, [image])
    if np.array_equal(x, dataset.x[image]):
        raise UserError(
            f"What was filled in is what image {image} shows already, so nothing is repaired. Mark more of it, or take "
            "another fill."
        )
    step = {"step": "repair", "run": run, **how}
    parameters = json.dumps({"steps": [step], "of": f"{dataset.name}:{image}"})
    made = filling.kept(_folder(dataset), dataset, x, run, seed, parameters)
    record: dict[str, Any] = {"action": "repair", "images": [int(image)], "filling": vars(made)}
    if reason := " ".join(reason.split())[:300]:
        record["reason"] = reason
    return _write(dataset, record, who, seen)


def repaired_item(dataset: Dataset, book: Book, image: int) -> np.ndarray | None:
    """Gives the item that takes the place of an image, (…) as it is stored; None where it was not repaired.

    Raises:
        UserError: If its file is gone.
    """
    entry = book.repaired.get(image)
    if entry is None or entry.filling is None:
        return None
    return entry.filling.pixels(_folder(dataset), dataset, image)


def known(dataset: Dataset, images: Sequence[int]) -> None:
    """Refuses images that a dataset does not have.

    Raises:
        UserError: With the first of them.
    """
    outside = [image for image in images if not 0 <= image < len(dataset)]
    if outside:
        raise UserError(
            f"There is no image {outside[0]}: {dataset.name} has images 0 to {len(dataset) - 1}. Choose one of these."
        )


def _news(dataset: Dataset, record: dict[str, Any]) -> dict[str, Any]:
    """Takes out of a decision the images of which it holds already."""
    book, action = open(dataset), record["action"]
    if action == "repair":
        (image,) = record["images"]
        entry = book.repaired.get(image)
        same = entry is not None and entry.filling == Filling.read(record)
        return record | {"images": [] if same else [image]}
    state = book.state
    labels = record.get("labels") or [None] * len(record["images"])
    new = [
        (image, label)
        for image, label in zip(record["images"], labels, strict=True)
        if state.get(image) != _meant(dataset, image, action, label)
    ]
    kept = record | {"images": [image for image, _ in new]}
    return kept | {"labels": [label for _, label in new]} if "labels" in record else kept


def _taken_back(dataset: Dataset, record: Mapping[str, Any]) -> list[int]:
    """Lists the images that were left out until a decision keeps or relabels them."""
    if record.get("action") in (None, "exclude", "repair"):
        return []
    state = open(dataset).state
    return [image for image in record["images"] if state.get(image, ("", None))[0] == "exclude"]


def settle(
    dataset: Dataset,
    images: Sequence[int],
    label: int,
    *,
    one: bool = False,
    reason: str = "",
    who: str = "",
    seen: int,
) -> Book:
    """Decides which label of copies is right: all get it, or one of those that have it stays and the others go.

    Args:
        dataset: What it is about.
        images: The copies.
        label: The class that is right.
        one: Whether one is kept, of the latest split, and the others are left out.
        reason, who: As in :func:`decide`.
        seen: As in :func:`decide`.

    Raises:
        UserError: As :func:`decide`, or if one is to be kept and none of the copies has the label.
    """
    decided = partial(decide, dataset, kind="contradiction", reason=reason, who=who)
    if not one:
        return decided("relabel", images, label, seen=seen)
    known(dataset, images)
    mine = [i for i in images if dataset.y is not None and dataset.y[i] == label]
    if not mine:
        raise UserError(
            f"None of the images {', '.join(map(str, images))} has the label that is to be kept. Choose one of theirs."
        )
    split_of = dataset.split_of()
    keeper = max(mine, key=lambda i: (split_of[i], -i))
    book = decided("exclude", [image for image in images if image != keeper], seen=seen)
    if book.state.get(keeper, ("accept", None))[0] == "accept":
        return book
    kept = decided("accept", [keeper], seen=book.version)
    return replace(kept, new=book.new + kept.new)


def undo(dataset: Dataset, id: str, *, who: str = "", seen: int) -> Book:
    """Takes a decision back; what was decided before about its images holds again.

    Raises:
        UserError: If there is no such decision, it is undone already, or somebody else has decided about one of the
            same images since.
    """
    settings().allow_change("decide about images")
    entries = {entry.id: entry for entry in open(dataset).entries}
    if id not in entries:
        raise UserError(unknown("decision", id, entries))
    if entries[id].undone:
        raise UserError(
            f"This decision about {len(entries[id].images)} images is undone already. Look at the list again."
        )
    return _write(dataset, {"undo": id, "images": list(entries[id].images)}, who, seen)


def _write(dataset: Dataset, record: dict[str, Any], who: str, seen: int) -> Book:
    folder = _folder(dataset)
    with files.full_disk_told():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "log.lock"):
            records, _ = _records(dataset)
            since = [new for new in records[seen:] if isinstance(new.get("images"), list)]
            mine = set(record["images"])
            touched = [(new, len(mine & set(new["images"]))) for new in since]
            clashes = [(new, count) for new, count in touched if count]
            if clashes:
                new, count = clashes[-1]
                when = datetime.datetime.fromtimestamp(new.get("time", 0)).strftime("%H:%M")
                same = "one of the same images" if count == 1 else f"{count} of the same images"
                raise UserError(
                    f"{new.get('who') or 'Somebody else'} decided about {same} at {when}, after you looked. Nothing of "
                    "yours was written, and nothing is lost. Look at them again, then decide."
                )
            new, id = record if "undo" in record else _news(dataset, record), secrets.token_hex(4)
            back = _taken_back(dataset, new)
            if new["images"]:
                files.Log(folder).append(new | {"id": id, "time": time.time(), "who": who})
    news, past = [], WORDS.get(record.get("action", ""), "")
    if not new["images"]:
        was = "was" if len(record["images"]) == 1 else "were"
        news.append(f"Nothing is new: {named(record['images'])} {was} already {past}.")
    elif again := len(record["images"]) - len(new["images"]):
        was = "was" if again == 1 else "were"
        news.append(f"{again:,} of them {was} already {past}: new for {len(new['images']):,}.")
    if back:
        was = "was" if len(back) == 1 else "were"
        news.append(f"{named(back).capitalize()} {was} left out until now, and no longer.")
    if since:
        names = ", ".join(sorted({one.get("who") or "Somebody else" for one in since}))
        count = len({image for one in since for image in one["images"]})
        news.append(f"{names} decided about {count} other images meanwhile.")
    mine = (id,) if "action" in record and new["images"] else ()
    return replace(open(dataset), news=" ".join(news), new=mine)


def named(images: Sequence[int], most: int = 5) -> str:
    """Names images in a line of the log: ``image 7``, ``images 3, 40, 41 and 9 more``."""
    some = ", ".join(str(image) for image in images[:most])
    more = f" and {len(images) - most:,} more" if len(images) > most else ""
    return f"image{'s' * (len(images) > 1)} {some}{more}"


def told(entry: Decision) -> str:
    """Says what a decision does to which images, and why: ``2 × left out: images 3, 40. Exact duplicates.``"""
    why = reason(entry)
    said = f"{len(entry.images):,} × {WORDS[entry.action]}: {named(entry.images)}"
    return f"{said}. {why}" if why else said


def reason(entry: Decision) -> str:
    """Says why something was decided: in somebody's words, or by the kind of issue; empty where neither is known."""
    known = entry.kind in checks.names()
    if entry.filling is not None and not entry.reason:
        return f"A part was filled by {entry.filling.run}."
    return entry.reason or (f"{checks.get(entry.kind).title}." if known else "")


def version_name(dataset: Dataset) -> str:
    """Finds a name that is free for the next version of a dataset: ``birds-2`` after ``birds``, then ``birds-3``."""
    base, begin = datasets.slug(dataset.name), 2
    stem, _, number = base.rpartition("-")
    # cifar-10 is no version, and the next one of it is cifar-10-2
    if dataset.parent and stem and number.isdecimal():
        base, begin = stem, int(number) + 1
    base, taken = base.encode()[:48].decode(errors="ignore"), set(datasets.names())
    return next(name for n in itertools.count(begin) if (name := f"{base}-{n}") not in taken)


def apply(dataset: Dataset, name: str, who: str = "") -> Dataset:
    """Makes and saves a version of the dataset in which everything that was decided is done.

    Args:
        dataset: The parent; it stays as it is.
        name: Of the new version; :func:`version_name` where it is empty.
        who: Who makes it.

    Returns:
        The new version, with ``parent``, the changes among its notes and in ``source["changes"]``.

    Raises:
        UserError: If nothing is to be changed, the name cannot be used, or too few images would be left.
    """
    settings().allow_change("save a dataset")
    book = open(dataset)
    out = np.array(sorted(i for i, (act, _) in book.state.items() if act == "exclude"), np.int64)
    barred = np.setdiff1d(np.array(sorted(optout.matches(dataset)), np.int64), out)
    out = np.union1d(out, barred)
    new = {i: label for i, (act, label) in book.state.items() if act == "relabel"}
    made = {i: entry.filling for i, entry in book.repaired.items() if entry.filling is not None}
    gone = set(out.tolist())
    made = {i: each for i, each in made.items() if i not in gone}
    if not len(out) and not new and not made:
        raise UserError(
            f"Nothing of {dataset.name} is left out, relabelled or repaired, so a new version would be the same. "
            "Decide about some images first."
        )
    kept = np.setdiff1d(np.arange(len(dataset)), out)
    if len(kept) < FEWEST:
        raise UserError(
            f"Only {len(kept)} images would be left, and at least {FEWEST} are needed. Leave out fewer."
        )
    y = None if dataset.y is None else np.array(dataset.y)
    if y is not None:
        for image, label in new.items():
            y[image] = label
    changes = {
        "excluded": len(out),
        "relabelled": len(new),
        "repaired": len(made),
        "test": book.summary["test"],
        "decisions": [entry.id for entry in book.entries if not entry.undone],
        "who": who,
    }
    note = f"Made from {dataset.name}: {len(out):,} images left out, {len(new):,} relabelled."
    if made:
        note = f"{note[:-1]}, {len(made):,} repaired."
    if len(barred):
        note += f" {many(len(barred), 'image')} of these on the list of what must not be used."
    notes = [*dataset.notes, note, *([book.summary["warning"]] if book.summary["warning"] else [])]
    version = derived(dataset, kept, y, notes, {"changes": changes}, made)
    return datasets.save(name.strip() or version_name(dataset), version)


def derived(
    dataset: Dataset,
    kept: np.ndarray,
    y: np.ndarray | None,
    notes: Sequence[str],
    source: Mapping[str, Any],
    made: Mapping[int, Filling] | None = None,
) -> Dataset:
    """Keeps some images of a dataset, each in its split, with the labels ``y`` of all, (N,).

    What is ``made`` takes the place of some of the kept images, by their index.
    """
    split_of = dataset.split_of()[kept]
    x, made = dataset.x[kept], made or {}
    for at in np.flatnonzero(np.isin(kept, list(made))):
        x[at] = made[int(kept[at])].pixels(_folder(dataset), dataset, int(kept[at]))
    return assemble(
        x,
        None if y is None else y[kept],
        dataset.classes,
        {
            split: np.flatnonzero(split_of == code).astype(np.int64)
            for code, split in enumerate(SPLITS)
        },
        levels=dataset.levels,
        attributes=filling.columns(of_rows(dataset, kept), kept, made),
        name=dataset.name,
        parent=dataset.fingerprint,
        refused=dataset.refused,
        notes=tuple(dict.fromkeys(notes)),
        source={**dataset.source, **source, "moved": len(kept) < len(dataset)},
        terms=dataset.terms,
        medium=dataset.medium.name,
        group=dataset.group,
        pair=dataset.pair and dataset.pair.at(kept),
    )

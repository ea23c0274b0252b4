"""What is wrong with a dataset beyond doubt, and left out: blank images, exact copies, leaks; never a label."""

from __future__ import annotations

from typing import Any

import numpy as np

from core import datasets
from core.datasets import Dataset
from core.datasets.dataset import FEWEST
from core.ground.watch import UNWATCHED, Watch
from core.quality import decisions
from core.quality.check import InspectConfig, checks
from core.quality.inspection import Survey

SAFE = ("blank", "exact", "leak")  # checks, in their order
Change = dict[str, Any]  # ids of the decisions, kind and title of the check, n, images


def unsafe(dataset: Dataset, watch: Watch = UNWATCHED) -> dict[str, list[int]]:
    """Finds what can be left out without a person: by check, the rows of training and validation images.

    Test images stay as they are, so that before and after are about the same ones. The last training images of a class
    stay too, whatever they are.

    Raises:
        UserError: If images of this medium cannot be inspected.
    """
    from core.quality import measures

    dataset.medium.require("inspection")
    measured = measures.measure(dataset, watch)
    config = InspectConfig(labels=False, near=False)
    look = Survey(dataset, config, measured, dataset.split_of(), watch)
    test = set(dataset.splits["test"].tolist())
    found: dict[str, list[int]] = {}
    gone: set[int] = set()
    for kind in SAFE:
        seen = {issue.image for issue in checks.get(kind).make(look)}
        look.flagged[kind] = seen
        new = seen - test - gone
        new -= _last(dataset, gone | new)
        gone |= new
        if new:
            found[kind] = sorted(new)
    return found


def _last(dataset: Dataset, gone: set[int]) -> set[int]:
    """Gives the images that have to stay because their class would have no training image left."""
    train = dataset.splits["train"]
    stays = np.setdiff1d(train, np.array(sorted(gone), np.int64))
    if dataset.y is None:
        return gone if not len(stays) else set()
    empty = np.setdiff1d(np.unique(dataset.y[train]), np.unique(dataset.y[stays]))
    return {image for image in gone if dataset.y[image] in empty}


def leave_out(dataset: Dataset, found: dict[str, list[int]], who: str) -> list[Change]:
    """Writes the decisions; each can be taken back. Gives what was decided, by check."""
    changes: list[Change] = []
    for kind, images in found.items():
        seen = decisions.open(dataset).version
        reason = f"{checks.get(kind).title}, found by Improve."
        book = decisions.decide(
            dataset, "exclude", images, kind=kind, reason=reason, who=who, seen=seen
        )
        # what was left out before by somebody is left out here as well, and is theirs
        ids = book.new or tuple(
            dict.fromkeys(entry.id for i in images if (entry := book.about(i)) is not None)
        )
        changes.append(
            {
                "ids": list(ids),
                "kind": kind,
                "title": checks.get(kind).title,
                "n": len(images),
                "images": images,
            }
        )
    return changes


def without(dataset: Dataset, changes: list[Change], who: str) -> Dataset | None:
    """Makes the version without what was left out and still is; None where nothing is, or too little would stay."""
    book = decisions.open(dataset)
    out = sorted(
        {
            int(image)
            for change in changes
            for image in change["images"]
            if book.state.get(int(image), ("", None))[0] == "exclude"
        }
    )
    kept = np.setdiff1d(np.arange(len(dataset)), np.array(out, np.int64))
    if not out or len(kept) < FEWEST:
        return None
    note = f"Made from {dataset.name}: {len(out):,} images left out by Improve."
    about = {
        "excluded": len(out),
        "relabelled": 0,
        "test": 0,
        "decisions": [id for change in changes for id in change["ids"]],
        "who": who,
    }
    notes = [*dataset.notes, note]
    version = decisions.derived(dataset, kept, dataset.y, notes, {"changes": about})
    start = f"{datasets.slug(dataset.name)}-"
    for name in datasets.names():  # an improvement of before may have made it already
        if name.startswith(start) and datasets.load(name).fingerprint == version.fingerprint:
            return datasets.load(name)
    return datasets.save(decisions.version_name(dataset), version)

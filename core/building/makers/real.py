"""Real items: those of the dataset itself, or of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from core import datasets
from core.building.makers import Items, Work, having, makers
from core.building.optout import without
from core.building.version import COLUMNS, inherited
from core.catalog import Config, UserError, knob, parse
from core.datasets import Dataset
from core.datasets.dataset import digests
from core.ground.writing import many


class RealConfig(Config):
    """Whose training items."""

    dataset: str = knob(
        "",
        "Another dataset whose training items join; empty chooses among those of the dataset itself.",
        title="Dataset",
    )
    prepared: str = knob(
        "", "Its parameters, as size=16 images=2000; empty for none.", title="Parameters"
    )
    fingerprint: str = knob("", "Of its content; filled in by itself.", advanced=True)


def opened(config: RealConfig) -> Dataset:
    """Opens the other dataset.

    Raises:
        UserError: If it cannot be opened, or has changed since the plan was made.
    """
    other = datasets.load(config.dataset, parse(config.prepared.replace(",", " ").split()))
    if config.fingerprint and config.fingerprint != other.fingerprint:
        raise UserError(
            f"The dataset {config.dataset} has changed since the plan was made, so the same items cannot be had. "
            "Restore it, or make the plan again."
        )
    return other


def _pin(config: RealConfig, dataset: Dataset, overrides: Mapping[str, str]) -> RealConfig:
    if not config.dataset:
        return config
    other = opened(config)
    for what, ours, theirs in (
        ("medium", dataset.medium.name, other.medium.name),
        ("shape", dataset.shape, other.shape),
        ("levels", dataset.levels, other.levels),
    ):
        if ours != theirs:
            raise UserError(
                f"{other.name} has the {what} {_said(theirs)}, and {dataset.name} has {_said(ours)}. "
                "Choose a dataset of the same kind, or import it again at this size."
            )
    if dataset.labelled and not set(other.classes) <= set(dataset.classes):
        odd = next(name for name in other.classes if name not in dataset.classes)
        raise UserError(
            f"{other.name} has the class {odd!r:.80}, which {dataset.name} has not. "
            "Choose a dataset of the same classes."
        )
    if dataset.labelled != other.labelled:
        raise UserError(
            f"Of {dataset.name} and {other.name} only one has labels. Choose two alike."
        )
    return config.model_copy(update={"fingerprint": other.fingerprint})


def _said(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@makers.add("real", "Real", RealConfig, pin=_pin)
def real(config: RealConfig, work: Work) -> Iterator[Items]:
    """Adds training items of another dataset, without those that are here already or are held out here."""
    dataset, other = work.dataset, without(opened(config))
    rows = _apart(dataset, other, other.splits["train"], work.note)
    here = digests(np.asarray(dataset.x))
    keys = digests(np.asarray(other.x[rows]))
    first = np.zeros(len(rows), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    known = np.isin(keys, here)
    if known.any():
        held = here[np.concatenate([dataset.splits["valid"], dataset.splits["test"]])]
        out = int(np.isin(keys, held).sum())
        work.note(
            f"{many(int(known.sum()), 'item')} of {other.name} {'are' if known.sum() > 1 else 'is'} in {dataset.name} "
            f"already and stayed out, {out:,} of them held out here."
        )
    rows = rows[first & ~known]
    if work.where:
        rows = rows[having(other, work.where)[rows]]
    labels = np.zeros(len(rows), np.int64)
    if dataset.labelled:
        assert other.y is not None
        place = np.array([dataset.classes.index(name) for name in other.classes], np.int64)
        labels = place[other.y[rows]]
    for label, wanted in enumerate(work.wanted):
        mine = rows[labels == label]
        if wanted >= 0:
            order = np.random.default_rng([work.seed, label]).permutation(len(mine))
            if len(mine) < wanted:
                work.note(
                    f"{other.name} gave {len(mine):,} of {int(wanted):,} items of {work.names[label]}: it has no more."
                )
            mine = np.sort(mine[order[: int(wanted)]])
        if not len(mine):
            continue
        work.watch.check()
        y = np.full(len(mine), label, np.int64) if dataset.labelled else None
        parameters = partial(work.parameters, label, dataset=other.name)
        attributes = {
            name: column[mine]
            for name, column in (other.attributes or {}).items()
            if name not in COLUMNS and (name != "group" or other.group == dataset.group)
        }
        yield Items(
            np.asarray(other.x[mine]), y, inherited(other, mine, parameters), attributes=attributes
        )


def _apart(
    dataset: Dataset, other: Dataset, rows: np.ndarray, note: Callable[[str], None]
) -> np.ndarray:
    """Leaves out the rows of whom something is held out here: a patient, a speaker, a camera."""
    if (members := dataset.members) is None:
        return rows
    if other.members is None or other.group != dataset.group:
        note(
            f"{other.name} does not say whose its items are by {dataset.group}, so nobody can tell whether the same "
            f"one is held out in {dataset.name}."
        )
        return rows
    held = members[np.concatenate([dataset.splits["valid"], dataset.splits["test"]])]
    theirs = other.members[rows]
    out = np.isin(theirs, held) & (theirs != "")
    if out.any():
        note(
            f"{many(int(out.sum()), 'item')} of {other.name} stayed out: by {dataset.group}, others of the same one "
            f"are held out in {dataset.name}."
        )
    return rows[~out]

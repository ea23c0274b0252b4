"""The kinds of sources of a plan: one file in this folder is one kind, of the file's name.

``make(config, work) -> Iterator[Items]`` makes items, some at a time, until as many are kept as are wanted of each
class, or says why not. Children inherit the split of their parent, so nothing is ever made of an item that is held
out, and everything that is made is for training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalog import Config, Entry, Registry, UserError, unknown
from core.datasets import Dataset, columns
from core.ground.watch import UNWATCHED, Watch

if TYPE_CHECKING:
    from core.building.gate import GateConfig

Row = tuple[str, int, str, int, str]  # a value of each of core.building.version.COLUMNS


@dataclass(frozen=True, kw_only=True)
class Maker(Entry):
    """A kind of source.

    Attributes:
        pin: Gives the config with everything pinned that its names stand for, and refuses at once what cannot work, of
            (config, dataset, overrides).
        draws: Whether it draws items until enough pass, so that it may end with fewer.
    """

    pin: Callable[[Any, Dataset, Mapping[str, str]], Any]
    draws: bool = False


makers = Registry("kind of source", Maker, "core.building.makers")


@dataclass(frozen=True)
class Items:
    """Some items that a source gives.

    Attributes:
        x: Levels (n, …), as the dataset stores them.
        y: Classes (n,); None for a set without labels.
        rows: Where each comes from.
        refused: How many were refused meanwhile, by reason.
        rejected: Some of these, levels (C, H, W), by reason.
        drawn: How many were drawn meanwhile.
        attributes: What is known of them, (n,) by name; of copies nothing, as it is that of their parents.
    """

    x: np.ndarray
    y: np.ndarray | None
    rows: Sequence[Row]
    refused: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    drawn: int = 0
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a source is asked for.

    Attributes:
        dataset: What its items join.
        wanted: Items of each class, int64 (K,); -1 for all there are.
        where: An attribute that they have; empty for any.
        why: By class, why they are wanted.
        gate: What drawn items have to pass.
        seed, batch: Of what is drawn.
        overrides: By the name of a check, the reason why it is passed over.
        watch: Told how far it is; may end it.
        note: Takes sentences on what was not as asked.
    """

    dataset: Dataset
    wanted: np.ndarray
    where: str
    why: Mapping[str, str]
    gate: GateConfig
    seed: int
    batch: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    watch: Watch = UNWATCHED
    note: Callable[[str], None] = lambda sentence: None

    @property
    def names(self) -> tuple[str, ...]:
        """The classes; ``all`` for a set without labels."""
        return self.dataset.classes or ("all",)

    def parameters(self, label: int, **values: Any) -> str:
        """Writes how an item was made as JSON, with the reason why it was wanted."""
        why = self.why.get(self.names[label])
        return json.dumps(values | ({"why": why} if why else {}))

    def parents(self, label: int) -> np.ndarray:
        """Lists the training items of a class that have the attribute, rows of the dataset (n,).

        Raises:
            UserError: If there is none.
        """
        dataset, train = self.dataset, self.dataset.splits["train"]
        rows = train if dataset.y is None else train[dataset.y[train] == label]
        if self.where:
            rows = rows[having(dataset, self.where)[rows]]
        if not len(rows):
            kind = f" with {self.where}" if self.where else ""
            raise UserError(
                f"{dataset.name} has no training item of {self.names[label]!r}{kind} to make others of. "
                "Ask for 0 of it, or take a source that needs none."
            )
        return rows


def having(dataset: Dataset, where: str) -> np.ndarray:
    """Tells which items have an attribute, bool (N,).

    Args:
        dataset: What has it.
        where: A column of :func:`core.datasets.columns` that is yes or no, or ``name=value``.

    Raises:
        UserError: If there is none such.
    """
    table = columns(dataset)
    listed = [
        name
        for name, binary, label in zip(table.names, table.binary, table.labels, strict=True)
        if binary and not label
    ]
    if where in listed:
        return table.values[:, table.names.index(where)] > 0.5
    name, equals, value = where.partition("=")
    known = dataset.attributes or {}
    if equals and name in known and bool((found := known[name].astype(str) == value).any()):
        return found
    raise UserError(unknown(f"attribute of {dataset.name}", where, listed))


def spread(parents: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Gives each parent a child in turn until there are ``count``: rounds of parents (n,), numbered from 0."""
    number = 0
    while count > 0:
        some = parents[:count]
        yield some, number
        count -= len(some)
        number += 1

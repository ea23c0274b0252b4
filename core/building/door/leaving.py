"""A dataset on its way out, as the checks at the door see it, and what a check is."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from core import datasets, jobs, runs
from core.building.version import generators, provenance
from core.catalog import Config, Entry, Registry, UserError, knob, parse
from core.datasets import Dataset
from core.datasets.dataset import digests
from core.ground.cache import Cache
from core.ground.watch import UNWATCHED, Watch

_keys = Cache[np.ndarray](8)  # by content: a page asks again and again
EXAMPLES = 12  # items that a refusal names
Purpose = Literal["not said", "research", "commercial"]


class DoorConfig(Config):
    """What a dataset leaves for, and how closely it is looked at."""

    purpose: Purpose = knob(
        "not said",
        "What the dataset leaves for: a licence may forbid commercial use.",
        title="It leaves for",
    )
    near: bool = knob(
        True,
        "Also looks for held-out images of which a training image is nearly a copy, which takes longest.",
        title="Near copies",
    )


@dataclass(frozen=True)
class Refusal:
    """Why a dataset must not leave as it is.

    Attributes:
        check: Name of the check.
        sentence: What is wrong, and what to do.
        count: How many items it is about.
        examples: Rows of some of them.
        reason: Why it leaves all the same; empty where nobody has said.
    """

    check: str
    sentence: str
    count: int = 0
    examples: tuple[int, ...] = ()
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether it keeps the dataset from leaving."""
        return not self.reason

    def record(self) -> dict[str, Any]:
        """Gives it in plain values."""
        return vars(self) | {"examples": list(self.examples)}


@runtime_checkable
class Memory(Protocol):
    """What runs have seen, and what must not be used any more."""

    def seen(self, run: jobs.Job, dataset: Dataset) -> tuple[int, str]:
        """Counts the held-out items of a dataset that a run has learned from, and says why that is not known."""
        ...

    def opted_out(self, dataset: Dataset) -> np.ndarray:
        """Lists the items that somebody has opted out of, int64 (n,)."""
        ...

    def tainted(self, run: jobs.Job) -> bool:
        """Tells whether a run has learned from an item that somebody has opted out of."""
        ...


@dataclass(frozen=True)
class Ingredient:
    """What a dataset is made of: itself, or what a run has learned from whose items are in it.

    Attributes:
        what: In words, the subject of a sentence.
        licence, consent: Its terms; empty where nobody has said.
        rows: The items that come from it, int64 (n,).
        where: Where its terms are stated, the end of a sentence.
    """

    what: str
    licence: str
    consent: str
    rows: np.ndarray
    where: str = "under Licence and consent on the page Build, Take away"


@dataclass
class Leaving:
    """A dataset on its way out.

    Attributes:
        dataset, config: What leaves, and what for.
        memory: What runs have seen.
        watch: Follows the checks.
        unlooked: By the name of a check, why it could not look; filled by the checks.
    """

    dataset: Dataset
    config: DoorConfig
    memory: Memory
    watch: Watch = UNWATCHED
    unlooked: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Origin, parent, run, seed and parameters of each item, (N,) each."""
        return provenance(self.dataset)

    @functools.cached_property
    def origin(self) -> np.ndarray:
        """The origin of each item, str (N,)."""
        return self.columns["origin"].astype(str)

    @functools.cached_property
    def keys(self) -> np.ndarray:
        """The content hash of each item, uint64 (N,)."""
        return _keys.get(self.dataset.fingerprint, lambda: digests(np.asarray(self.dataset.x)))

    @functools.cached_property
    def held(self) -> np.ndarray:
        """Marks the held-out items, bool (N,)."""
        return self.dataset.split_of() > 0

    @functools.cached_property
    def runs(self) -> dict[str, np.ndarray]:
        """The items that a run has made, or had a part in, by its id, int64 (n,) each; none of attacked classifiers."""
        run = generators(self.dataset)
        return {str(id): np.flatnonzero(run == id) for id in np.unique(run) if id}

    def job(self, id: str) -> jobs.Job | None:
        """Finds a run; None where it is not here any more."""
        try:
            return jobs.get(id)
        except UserError:
            return None

    @functools.cached_property
    def parts(self) -> list[Ingredient]:
        """What it is made of, itself first."""
        terms = self.dataset.terms
        parts = [
            Ingredient(
                "This dataset",
                terms.get("licence", ""),
                terms.get("consent", ""),
                np.arange(len(self.dataset)),
            )
        ]
        for name, config in self._joined():
            try:
                said = datasets.terms(name, config)
            except UserError:
                said = {}
            named = f'"dataset": {json.dumps(name)}'
            rows = np.flatnonzero(np.char.find(self.columns["parameters"].astype(str), named) >= 0)
            what = f"{name}, whose items are a part of it,"
            parts.append(Ingredient(what, said.get("licence", ""), said.get("consent", ""), rows))
        for id, rows in self.runs.items():
            source = self._source(id)
            if source is None or source["name"] == self.dataset.name:
                continue
            try:
                config = source["config"] if source["name"] in datasets.datasets else None
                said = datasets.terms(source["name"], config)
            except UserError:
                said = {}
            what = f"{source['name']}, which the run {id} has learned from,"
            parts.append(Ingredient(what, said.get("licence", ""), said.get("consent", ""), rows))
        for id, rows in self.runs.items():  # a model that was brought has terms of its own
            if (said := self._stated(id)) is not None:
                what = f"The model of the run {id}, which was brought,"
                where = "under Licence of the model on the page Train, where this run is chosen"
                terms = (said.get("licence", ""), said.get("consent", ""))
                parts.append(Ingredient(what, *terms, rows, where))
        return parts

    def _stated(self, id: str) -> Mapping[str, str] | None:
        """Gives the terms that were stated of a model itself, None for one that was trained here."""
        job = self.job(id)
        if job is None:
            return None
        try:
            return runs.record(job).get("terms")
        except UserError:
            return None

    def _joined(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Lists the other datasets whose real items joined, of versions that it was made from too, with parameters."""
        joined: dict[str, Mapping[str, Any]] = {}
        sources: list[Any] = [self.dataset.source]
        while sources:
            source = sources.pop()
            if not isinstance(source, Mapping):
                continue
            sources.append(source.get("origin"))
            for each in source.get("plan", {}).get("sources", ()):
                other = each.get("parameters", {})
                if (
                    each.get("kind") != "real"
                    or not (name := other.get("dataset"))
                    or name in joined
                ):
                    continue
                joined[name] = parse(other.get("prepared", "").replace(",", " ").split())
                if name not in datasets.datasets:
                    with contextlib.suppress(UserError):
                        sources.append(datasets.load(name).source)
        return list(joined.items())

    def _source(self, id: str) -> Mapping[str, Any] | None:
        job = self.job(id)
        if job is None:
            return None
        try:
            source = runs.record(job)["dataset"]
        except UserError:
            return None
        return None if source["fingerprint"] == self.dataset.fingerprint else source

    def refuse(self, sentence: str, rows: Sequence[int] | np.ndarray = ()) -> Refusal:
        """Makes a refusal about some items; its check is filled in by :func:`core.building.door.check`."""
        some = tuple(int(row) for row in rows[:EXAMPLES])
        return Refusal("", sentence, len(rows), some)


@dataclass(frozen=True, kw_only=True)
class DoorCheck(Entry):
    """A check at the door; ``make(leaving) -> Iterator[Refusal]``, at most one.

    Attributes:
        order: Its place among the checks.
        fine: What holds where it finds nothing; the title says what is wrong where it finds something.
    """

    order: int
    fine: str


checks = Registry("check at the door", DoorCheck)
Found = Iterator[Refusal]
Look = Callable[[Leaving], Found]

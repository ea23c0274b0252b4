"""The plan of a dataset as data: what it is made of, how much of each, what may join, and from which seeds.

A plan is JSON (:meth:`Plan.read`, :meth:`Plan.record`). The same plan gives the same items again: what it names is
pinned to its content before anything is made (:func:`core.building.build.pinned`), and samples are drawn at the batch
size and with the threads that it says.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from core.building.gate import GateConfig
from core.building.makers import makers
from core.catalog import Config, UserError, knob, unknown
from core.datasets import Dataset
from core.ground import untrusted

FORMAT, VERSION = "simulacra-plan", 1
MOST = 1_000_000  # items that one plan may add
LIMITS = untrusted.Limits(characters=2_000_000, values=100_000)


class SplitsConfig(Config):
    """Which items are held out."""

    rule: Literal["keep", "content"] = knob(
        "keep",
        "keep: the splits of the dataset as they are; content: real items are split anew by their content.",
        title="Splits",
    )
    valid_share: float = knob(0.1, "Share of the validation items, split anew.", ge=0, lt=1)
    test_share: float = knob(0.2, "Share of the test items, split anew.", ge=0, lt=1)


@dataclass(frozen=True)
class PlannedSource:
    """One source of items, and how many it gives.

    What ``counts`` and ``shares`` do not name gets ``each`` items of every class and ``share`` of the budget, spread
    over these classes. A set without labels has one class, ``all``.

    Attributes:
        kind: A name of :data:`core.building.makers.makers`.
        config: Its parameters, complete.
        each: Items of each class that is not named; None for all that a source of real items has, 0 for none.
        counts: Items by class.
        share: Of the budget, 0 to 1, for the classes that are not named.
        shares: Of the budget, 0 to 1, by class.
        where: An attribute that the items have, as ``glasses=round``; empty for any.
        why: By class, why its items are wanted; it stays with each item.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    each: int | None = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    share: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    where: str = ""
    why: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return {
            "kind": self.kind,
            "parameters": dict(self.config),
            "each": self.each,
            "counts": dict(self.counts),
            "share": self.share,
            "shares": dict(self.shares),
            "where": self.where,
            "why": dict(self.why),
        }


@dataclass(frozen=True)
class Plan:
    """What a dataset is to be made of; never changed, only replaced.

    Attributes:
        dataset: The one that it starts from, whose held-out items stay held out.
        values: Its parameters, of a registered source.
        fingerprint: Of its content; empty before it is pinned.
        sources: What joins its training items. Without a source of its own real items all of them stay.
        budget: Items that are added in all; None where the counts say everything.
        gate: What a synthetic item has to pass.
        splits: Which items are held out.
        seed: Of everything that is drawn.
        batch: Samples drawn at a time; another number may change the last bit of one.
        threads: Of the processor while it builds, for the same reason.
        overrides: By the name of a check of :data:`OVERRIDES`, the reason why it is passed over.
        name: What the new dataset is called; no part of what it is.
    """

    dataset: str
    values: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    sources: tuple[PlannedSource, ...] = ()
    budget: int | None = None
    gate: GateConfig = field(default_factory=GateConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    seed: int = 0
    batch: int = 200
    threads: int = 1
    overrides: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def read(cls, text: str) -> Plan:
        """Reads a plan that somebody brought.

        Raises:
            UserError: If it is no plan, of another version, or something in it is not allowed.
        """
        try:
            record = untrusted.read_json(text, "A plan", LIMITS)
        except untrusted.NoData as error:
            raise UserError(
                f"This is no JSON: it cannot be read{error}. Choose a plan that was exported here."
            ) from None
        return cls.of(record)

    @classmethod
    def of(cls, record: Any) -> Plan:
        """Makes a plan of plain values; what is left out takes its default.

        Raises:
            UserError: If a name, a number or a kind of source is not allowed.
        """
        record = _fields(record, "A plan", _PLAN)
        if record.get("format", FORMAT) != FORMAT:
            raise UserError(
                f"The plan has the format {record['format']!r:.80}, and {FORMAT!r} is read. "
                "Choose a plan that was exported here."
            )
        version = record.get("version", VERSION)
        if version != VERSION:
            raise UserError(
                f"The plan has version {version!r:.40}, and this program reads version {VERSION}. "
                "Update the program, or export the plan with this version."
            )
        start = record.get("dataset")
        start = {"name": start} if isinstance(start, str) else start
        start = _fields(start, "dataset of the plan", ("name", "config", "fingerprint"))
        sources = record.get("sources", [])
        if not isinstance(sources, list) or len(sources) > 100:
            raise UserError(
                f"sources must be a list of at most 100 sources, got {sources!r:.80}. "
                'For example [{"kind": "augmented", "each": 10}].'
            )
        budget = record.get("budget")
        return cls(
            dataset=_text(start.get("name"), "dataset.name"),
            values=_fields(start.get("config", {}), "dataset.config"),
            fingerprint=_text(start.get("fingerprint", ""), "dataset.fingerprint", empty=True),
            sources=tuple(_source(number, each) for number, each in enumerate(sources, 1)),
            budget=None if budget is None else _whole(budget, "budget", 1),
            gate=GateConfig.of(_fields(record.get("gate", {}), "gate"), "gate"),
            splits=SplitsConfig.of(_fields(record.get("splits", {}), "splits"), "splits"),
            seed=_whole(record.get("seed", 0), "seed", 0, 2**31 - 1),
            batch=_whole(record.get("batch", 200), "batch", 1, 10_000),
            threads=_whole(record.get("threads", 1), "threads", 1, 256),
            overrides=_overrides(record.get("overrides", {})),
            name=_text(record.get("name", ""), "name", empty=True),
        )

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON; :meth:`of` makes the same plan of them."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "dataset": {
                "name": self.dataset,
                "config": dict(self.values),
                "fingerprint": self.fingerprint,
            },
            "sources": [source.record() for source in self.sources],
            "budget": self.budget,
            "gate": self.gate.record(),
            "splits": self.splits.record(),
            "seed": self.seed,
            "batch": self.batch,
            "threads": self.threads,
            "overrides": dict(self.overrides),
        }

    def text(self) -> str:
        """Writes it as JSON, as :meth:`read` reads it."""
        return json.dumps(self.record(), indent=1, allow_nan=False) + "\n"

    @property
    def hash(self) -> str:
        """The sha-256 of what it makes, whatever that is called."""
        record = {**self.record(), "name": ""}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def with_(self, **changes: Any) -> Plan:
        """Gives the plan with some of its parts replaced."""
        return replace(self, **changes)

    def wanted(self, dataset: Dataset) -> list[np.ndarray]:
        """Says how many items of each class each source is to give: int64 (K,) per source, -1 for all there are.

        Shares are rounded so that their sum is that of the shares: the largest remainders are rounded up.

        Raises:
            UserError: If a class does not exist, nothing is wanted, or more than is allowed.
        """
        names = dataset.classes or ("all",)
        parts = np.zeros((len(self.sources), len(names)))
        for row, source in zip(parts, self.sources, strict=True):
            for name in {**source.counts, **source.shares, **source.why}:
                if name not in names:
                    raise UserError(unknown(f"class of {dataset.name}", name, names))
            if self.budget is None and (source.share or any(source.shares.values())):
                raise UserError(
                    "Shares are shares of the budget, and the plan has none. Set budget, or write counts."
                )
            open_ = [k for k, name in enumerate(names) if name not in source.shares]
            for k, name in enumerate(names):
                of_all = source.shares.get(name, source.share / len(open_) if k in open_ else 0.0)
                row[k] = of_all * (self.budget or 0)
        floors = np.floor(parts + 1e-9)
        left = round(float(parts.sum() - floors.sum()))
        order = np.argsort(-(parts - floors), axis=None, kind="stable")[:left]
        floors.flat[order] += 1
        wanted = []
        for row, source in zip(floors.astype(np.int64), self.sources, strict=True):
            if source.each is None and not (source.share or source.shares):
                row[:] = -1
            for k, name in enumerate(names):
                if name in source.counts:
                    row[k] = source.counts[name]
                elif source.each and name not in source.shares:
                    row[k] += source.each
            wanted.append(row)
        added = [row for row, source in zip(wanted, self.sources, strict=True) if self.adds(source)]
        total = int(sum(row.clip(0).sum() for row in added))
        most = MOST if self.budget is None else self.budget
        if total > most:
            allows = "a plan may add" if self.budget is None else "its budget allows"
            raise UserError(
                f"The plan adds {total:,} items, and {allows} {most:,}. Ask for fewer, or raise the budget."
            )
        chosen = [
            row for row, source in zip(wanted, self.sources, strict=True) if not self.adds(source)
        ]
        changed = any((row >= 0).any() for row in chosen) or self.splits.rule != "keep"
        if not any((row != 0).any() for row in added) and not changed:
            raise UserError(
                "The plan adds nothing: it has no source, or all its counts are 0. Add a source, and say how many."
            )
        return wanted

    def adds(self, source: PlannedSource) -> bool:
        """Tells whether a source adds items, and does not only choose among those of the dataset itself."""
        return source.kind != "real" or bool(source.config.get("dataset"))


_PLAN = (
    *("format", "version", "name", "dataset", "sources", "budget", "gate", "splits", "seed"),
    *("batch", "threads", "overrides"),
)
OVERRIDES = ("seen",)  # all other checks are asked when a dataset leaves
_SOURCE = ("kind", "parameters", "each", "counts", "share", "shares", "where", "why")


def _source(number: int, record: Any) -> PlannedSource:
    where = f"source {number}"
    record = _fields(record, where, _SOURCE)
    kind = record.get("kind")
    entry = makers.get(kind if isinstance(kind, str) else repr(kind))
    config = entry.config.of(_fields(record.get("parameters", {}), f"parameters of {where}"), kind)
    each = record.get("each", None if kind == "real" else 0)
    if each is None and kind != "real":
        raise UserError(
            f"each of {where} must be a whole number: only a source of real items has a number of its own."
        )
    return PlannedSource(
        kind=entry.name,
        config=config.record(),
        each=None if each is None else _whole(each, f"each of {where}"),
        counts={
            name: _whole(count, f"counts of {where}")
            for name, count in _fields(record.get("counts", {}), f"counts of {where}").items()
        },
        share=_part(record.get("share", 0.0), f"share of {where}"),
        shares={
            name: _part(share, f"shares of {where}")
            for name, share in _fields(record.get("shares", {}), f"shares of {where}").items()
        },
        where=_text(record.get("where", ""), f"where of {where}", empty=True),
        why=_texts(record.get("why", {}), f"why of {where}"),
    )


def _fields(record: Any, what: str, allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Reads an object; where its fields are known, refuses any other."""
    if not isinstance(record, Mapping) or not all(isinstance(name, str) for name in record):
        raise UserError(f"{what} must be an object, got {record!r:.80}. Choose a plan made here.")
    for name in record:
        if allowed and name not in allowed:
            raise UserError(unknown(f"field of {what}", name, allowed))
    return dict(record)


def _whole(value: Any, what: str, low: int = 0, high: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{what} must be a whole number from {low:,} to {high:,}, got {value!r:.40}. Change it."
        )
    return value


def _part(value: Any, what: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= 1:
        raise UserError(f"{what} must be a number from 0 to 1, got {value!r:.40}. Change it.")
    return float(value)


def _text(value: Any, what: str, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty) or len(value) > 1000:
        raise UserError(f"{what} must be a text, got {value!r:.80}. Write one.")
    return value


def _overrides(value: Any) -> dict[str, str]:
    said = _texts(value, "overrides")
    for name in said:
        if name not in OVERRIDES:
            raise UserError(
                f"{unknown('check to override in a plan', name, OVERRIDES)} "
                "Others are overridden at the door, when the dataset is exported."
            )
    return said


def _texts(value: Any, what: str) -> dict[str, str]:
    return {name: _text(text, what) for name, text in _fields(value, what).items()}

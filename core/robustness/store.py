"""The report of a study, as it is written to disk, printed and exported, and read again, older versions included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from core.catalog import UserError
from core.ground import files
from core.robustness.findings import Answer, ClassStanding, Standing
from core.robustness.sanity import Identity
from core.robustness.verdict import Robustness, Soundness, robustness

FILE = "report.json"  # of a job


@dataclass(frozen=True)
class Clean:
    """Share of the images that are named rightly without an attack, its 95 % interval, and of how many."""

    value: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Spread:
    """The smallest changes that one attack found: how many, their median and quartiles."""

    fooled: int
    median: float | None
    quartiles: tuple[float, float] | None


@dataclass(frozen=True)
class Tried:
    """One attack of a study: its parameters, its cost in seconds and images passed each way, and whose code it is."""

    name: str
    title: str
    parameters: Mapping[str, Any]
    seconds: float
    forward: int
    backward: int
    library: str


@dataclass(frozen=True)
class Attacked:
    """One image of a study.

    Attributes:
        index: In its dataset.
        label, clean: Its class, and the answer without an attack.
        right: Whether they agree.
        smallest: The smallest change that fools, or None.
        by: The attack that found it.
    """

    index: int
    label: str
    clean: str
    right: bool
    smallest: float | None
    by: str

    def stands(self, eps: float) -> bool:
        """Tells whether no attack within this budget fooled the classifier."""
        return self.right and (self.smallest is None or self.smallest > eps)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a study.

    Attributes:
        complete, stopped: Whether all was done, and why not.
        robustness, verdict: How robust it is, and whether that can be believed.
        checks: The answers behind it, by number.
        clean, chance: Accuracy without an attack, and by guessing.
        identity: Whether it is the model that is meant; None where that was not looked at.
        norm, headline: What bounds a change, and the strength of the headline.
        results: The curve, by strength; the first row is of strength 0.
        beyond: Share that withstands each attack that no norm bounds.
        distances: Of attacks of the smallest change.
        attacks, images: Every attack, every image.
        data, model, threat, versions, device, seconds, config: What was measured, and how.
        notes, limits: What happened on the way, and what the number does not prove.
    """

    complete: bool
    stopped: str
    robustness: Robustness
    verdict: Soundness
    checks: Sequence[Answer]
    clean: Clean
    chance: float
    identity: Identity | None = None
    norm: str
    headline: float
    results: Sequence[Standing]
    beyond: Mapping[str, float] = field(default_factory=dict)
    distances: Mapping[str, Spread] = field(default_factory=dict)
    attacks: Sequence[Tried]
    images: Sequence[Attacked]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    threat: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    seconds: float
    notes: Sequence[str] = ()
    limits: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> Standing:
        """The row of the headline."""
        return next(row for row in self.results if row.eps == self.headline)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.complete or bool(self.stopped)

    def at(self, eps: float) -> Standing | None:
        """Gives the row of a strength, if it was tried."""
        return next((r for r in self.results if math.isclose(r.eps, eps, abs_tol=1e-6)), None)

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return {name: _plain(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Report:
        """Reads a :meth:`record`; an older version has fewer fields, and unknown fields are left out."""
        rows = [_row(row) for row in json["results"]]
        sound, head = Soundness(**json["verdict"]), json["headline"]
        how = json.get("robustness")
        about = json.get("identity")
        distances = json.get("distances", {})
        read = {
            "robustness": Robustness(**how | {"interval": tuple(how["interval"])})
            if how
            else robustness(
                next(row for row in rows if row.eps == head),
                json["chance"],
                sound,
                json["complete"],
            ),
            "verdict": sound,
            "checks": [Answer(**answer) for answer in json["checks"]],
            "clean": Clean(**json["clean"] | {"interval": tuple(json["clean"]["interval"])}),
            "identity": Identity.of(about) if about else None,
            "results": rows,
            "distances": {name: _spread(row) for name, row in distances.items()},
            "attacks": [Tried(**row) for row in json["attacks"]],
            "images": [Attacked(**row) for row in json["images"]],
        }
        known = {name: json[name] for name in cls.__dataclass_fields__ if name in json}
        return cls(**known | read)


def read(folder: Path) -> Report | None:
    """Reads the report of a job as far as it has come; None before the first one.

    Raises:
        UserError: If the file is damaged.
    """
    file = folder / FILE
    return opened(file) if file.exists() else None


def opened(file: Path) -> Report:
    """Reads a report of a file, of whatever name.

    Raises:
        UserError: If it is no report, or damaged.
    """
    return parsed(files.read_json(file), str(file))


def parsed(json: Mapping[str, Any], name: str) -> Report:
    """Reads a :meth:`Report.record` of a file of some name.

    Raises:
        UserError: If it is none, or damaged: then something is missing, or of another type than a report has it.
    """
    try:
        report = Report.of(json)
        whole = _holds(report, Report) and _told(report) and report.head
    except UserError:
        raise
    except (
        KeyError, TypeError, ValueError, AttributeError, StopIteration, IndexError, OverflowError,
    ):  # fmt: skip
        whole = False
    if not whole:
        raise UserError(
            f"{name} is damaged, or no report of an attack. Measure again to make a new report."
        )
    return report


def _told(report: Report) -> bool:
    """Tells whether the tables without fields of their own hold what is read of them in the types that they have."""
    data, model = report.data, report.model
    return _holds([model["name"], *model["classes"]], Sequence[str]) and all(
        _holds(table[name], type_)
        for table, name, type_ in (
            (data, "name", str),
            (data, "split", str),
            (data, "fingerprint", str),
            (data, "seed", int),
            (data, "config", Mapping[str, Any] | None),
            (model, "eot", int),
            (model, "bpda", bool),
        )
        if name in table
    )


_hints = cache(get_type_hints)


def _holds(value: Any, type_: Any) -> bool:
    """Tells whether a value, with all that it holds, is of a type as the fields of a report have it; numbers finite."""
    origin, args = get_origin(type_), get_args(type_)
    if type_ is Any:
        return True
    if isinstance(type_, type) and is_dataclass(type_):
        hints = _hints(type_).items()
        return isinstance(value, type_) and all(_holds(getattr(value, n), t) for n, t in hints)
    if type_ is float:
        return type(value) in (int, float) and math.isfinite(value)
    if type_ is str:
        return type(value) is str and value == value.encode(errors="ignore").decode()
    if not args:
        return type(value) is type_
    if origin is Literal:
        return value in args
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _holds(n, args[0]) and _holds(v, args[1]) for n, v in value.items()
        )
    if origin in (Sequence, tuple):
        types = args if origin is tuple and args[-1] is not ... else args[:1] * len(value)
        return isinstance(value, (list, tuple)) and all(
            _holds(part, type_) for part, type_ in zip(value, types, strict=True)
        )
    return any(_holds(value, option) for option in args)  # of a union


def _row(json: Mapping[str, Any]) -> Standing:
    classes = [
        ClassStanding(**c | {"interval": tuple(c["interval"])}) for c in json.get("classes", [])
    ]
    return Standing(**{**json, "interval": tuple(json["interval"]), "classes": tuple(classes)})


def _spread(json: Mapping[str, Any]) -> Spread:
    quartiles = json["quartiles"]
    return Spread(json["fooled"], json["median"], tuple(quartiles) if quartiles else None)


def _plain(value: Any) -> Any:
    """Turns records into dicts and sequences into lists, as JSON has them."""
    if isinstance(value, Answer):
        return value.record()
    if hasattr(value, "__dataclass_fields__"):
        value = vars(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value

"""What is known of each picture beside its class, as typed columns; where it comes from is among it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from core.datasets.dataset import LONGEST_TERM, Consent, Dataset
from core.ground.untrusted import Limits, NoData, read_json

LINEAGE = ("origin", "parent", "run", "seed", "parameters")
ORIGINS = ("real", "augmented", "synthetic", "adversarial")
_USUAL: Mapping[str, Any] = dict(zip(LINEAGE, ("real", -1, "", -1, ""), strict=True))
_OURS = ("picture", "width", "height", "group")  # what every import of pictures says by itself
BEFORE = "_before"  # behind the name of a column of somebody else's that is called like one of ours
_TEXT, _LONG = 200, 10_000  # characters of a text, and of the parameters that made a picture
_MOST = 2**28  # bytes of a column of texts
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LIMITS = Limits(characters=4_000_000, depth=20, values=100_000)
_SAID = {"true": True, "false": False}


def lineage(attributes: Mapping[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """Gives :data:`LINEAGE` of ``n`` items, where each comes from; one of which nothing is told is real, no copy.

    A column of an import that is only called so, of another type, tells nothing.
    """
    columns = {}
    for name, value in _USUAL.items():
        column = np.asarray(attributes.get(name, np.full(n, value)))
        fits = column.dtype.kind in ("U" if isinstance(value, str) else "iu")
        columns[name] = column if fits else np.full(n, value)
    return columns


def joined(origin: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Tells which items are real ones of another dataset, bool (N,), by two columns of :data:`LINEAGE`."""
    return (origin == "real") & (np.char.find(parameters.astype(str), '"dataset": ') >= 0)


def unknown(attributes: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Tells of which items an attribute is not known, bool (N,).

    A number is unknown where it is nan. A whole number, yes or no is unknown where it is below 0, unless one of the
    dataset's own real items is below 0 as well: then that is a value. A sample that was not chosen by an attribute, and
    an item of another dataset that has no such attribute, get -1 when they join, or nan where -1 would be a value.
    """
    values = attributes[name]
    if values.dtype.kind == "f":
        return np.isnan(values)
    none = np.zeros(len(values), bool)
    origin, said = attributes.get("origin"), attributes.get("parameters")
    if values.dtype.kind != "i" or name in LINEAGE or origin is None or origin.dtype.kind != "U":
        return none
    own = origin == "real"
    if said is not None and said.dtype.kind == "U":
        own &= ~joined(origin, said)
    return none if (values[own] < 0).any() else values < 0


def parsed(cells: Sequence[str]) -> list[Any]:
    """Reads a column of texts as what all of them are: whole numbers, numbers, yes or no; else they stay texts.

    >>> parsed(["1", "", "3"]), parsed(["007", "1"]), parsed(["true", "False"])
    ([1, None, 3], ['007', '1'], [True, False])
    """
    told = {cell for cell in cells if cell}
    if all(map(_WHOLE.fullmatch, told)):
        return [int(cell) if cell else None for cell in cells]
    if all(map(_NUMBER.fullmatch, told)) and not any(re.match("[+-]?0[0-9]", c) for c in told):
        return [float(cell) if cell else None for cell in cells]
    if {cell.casefold() for cell in told} <= _SAID.keys():
        return [_SAID[cell.casefold()] if cell else None for cell in cells]
    return list(cells)


def typed(values: Sequence[Any], most: int = _TEXT) -> np.ndarray:
    """Makes a column of plain values: bool, int64, float64 (what is unknown is nan), else texts of bounded length."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, bool)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and kinds - {type(None)}:
        return np.array([np.nan if value is None else float(value) for value in values])
    most = min(most, max(1, _MOST // (4 * max(1, len(values)))))
    return np.array([_said(value)[:most] for value in values], dtype=str)


def attributes(
    columns: Mapping[str, Sequence[Any]], files: Sequence[str], rows: Sequence[int]
) -> dict[str, np.ndarray]:
    """Makes the attributes of a dataset out of what was known of its pictures.

    With an ``origin`` of :data:`ORIGINS`, they tell where each picture comes from: ``parent``, in files the ``id`` of
    another picture (or its file), becomes the row of that picture, -1 where there is none or it was left out. Without
    one, a column that is only called like what this program says gets another name.

    Args:
        columns: What is known, by name: a value for each picture that was found, None for nothing.
        files: Name of each picture that was found.
        rows: Those that are in the dataset, in its order.

    Returns:
        Arrays of the length of ``rows``; a column without a value is none.
    """
    lineage = "origin" in columns and {_said(v) for v in columns["origin"]} <= {"", *ORIGINS}
    skipped = {*LINEAGE, "id"} if lineage else ()
    taken: dict[str, list[Any]] = {}
    for name, values in columns.items():
        if name not in skipped and any(values[i] not in (None, "") for i in rows):
            while not lineage and (name in (*LINEAGE, *_OURS) or name in taken):
                name += BEFORE  # another's word: the origin of a car is a country
            taken[name] = [values[i] for i in rows]
    found = {name: typed(values) for name, values in taken.items()}
    if not lineage:
        return found
    known = {name: [columns[name][i] for i in rows] for name in LINEAGE if name in columns}
    empty = [None] * len(rows)
    found["origin"] = typed([_said(value) or "real" for value in known["origin"]])
    place: dict[str, int] = {}
    ids = columns.get("id", [None] * len(files))
    for row, i in enumerate(rows):
        for name in (_said(ids[i]), files[i]):
            place.setdefault(name, row)
    place[""] = -1
    parents = [place.get(_said(value), -1) for value in known.get("parent", empty)]
    found["parent"] = np.array(parents, np.int64)
    found["run"] = typed([_said(value) for value in known.get("run", empty)])
    seeds = [_whole(value) for value in known.get("seed", empty)]
    found["seed"] = np.array(seeds, np.int64)
    texts = [_said(value) for value in known.get("parameters", empty)]
    found["parameters"] = typed(texts, _LONG)
    return found


def described(data: bytes) -> dict[str, Any]:
    """Reads what an export of this program says of its set: ``classes``, ``terms``, ``group``; nothing of others'."""
    try:
        said = read_json(data.decode(), "The description of the set", _LIMITS)
    except (NoData, UnicodeDecodeError):
        return {}
    found: dict[str, Any] = {}
    if not isinstance(said, dict):
        return found
    classes, terms, group = (said.get(key) for key in ("classes", "terms", "group"))
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        found["classes"] = list(dict.fromkeys(classes))
    if isinstance(terms, dict):
        texts = ("licence", "creator", "maintainer")
        known = {key: str(terms.get(key) or "")[:LONGEST_TERM] for key in texts}
        if terms.get("consent") in get_args(Consent):
            known["consent"] = terms["consent"]
        found["terms"] = {key: value for key, value in known.items() if value}
    if isinstance(group, str):
        found["group"] = group[:200]
    return found


def whole_names(said: Collection[str], classes: Sequence[str]) -> dict[str, str]:
    """Finds the true name of each class that was said on one line; empty where not all are among ``classes``."""
    known = {" ".join(name.split())[:_TEXT]: name for name in reversed(classes)}
    return {name: known[name] for name in said} if set(said) <= known.keys() else {}


def ours(about: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Gives ``terms``, the column of the ``group`` and what it is ``called``, of what :func:`described` has read."""
    group = about.get("group", "") if "group" in columns else ""
    return {
        "terms": about.get("terms", {}),
        "group": "group" if group else "",
        "called": group,
    }


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


def _whole(value: Any) -> int:
    """Reads a seed; -1 where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**63 else -1


def generator(parameters: str) -> str:
    """Reads from the parameters of an adversarial item, JSON, which run has made what it was made from."""
    if '"generator"' not in parameters:
        return ""
    try:
        said = json.loads(parameters)
    except ValueError:
        return ""
    run = said.get("generator", "") if isinstance(said, dict) else ""
    return run if isinstance(run, str) else ""


def repaired_of(parameters: str) -> tuple[str, int]:
    """Reads from the parameters of an item, JSON, which one of which dataset it was before a model repaired it.

    >>> repaired_of('{"steps": [{"step": "repair"}], "of": "digits:12"}'), repaired_of("{}")
    (('digits', 12), ('', -1))
    """
    if '"of"' not in parameters:
        return "", -1
    try:
        said = json.loads(parameters)
    except ValueError:
        return "", -1
    name, _, number = str(said.get("of", "") if isinstance(said, dict) else "").rpartition(":")
    return (name, int(number)) if _WHOLE.fullmatch(number) else ("", -1)


def of_rows(dataset: Dataset, rows: np.ndarray) -> dict[str, np.ndarray] | None:
    """Gives the attributes of some rows (n,), whose ``parent`` is their own row among these, -1 where it is gone.

    An import's own column may be called ``parent``, too; one that names no rows stays as it is.
    """
    attributes = {name: column[rows] for name, column in (dataset.attributes or {}).items()}
    parents = attributes.get("parent")
    if parents is not None and parents.dtype.kind == "i" and (parents < len(dataset)).all():
        place = np.full(len(dataset), -1, np.int64)
        place[rows] = np.arange(len(rows))
        attributes["parent"] = np.where(parents >= 0, place[parents], -1)
    return attributes or None

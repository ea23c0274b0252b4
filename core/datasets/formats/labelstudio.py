"""Label Studio: a JSON list of tasks, each with the picture that it is about and what people answered.

References:
    Label Studio, the format of tasks https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from core.datasets.annotated import BoxesConfig, Marked, told
from core.datasets.annotations import Annotated, Box, Sheet, number, read, text
from core.datasets.container import Container, File, Volume
from core.datasets.formats import formats
from core.datasets.labels import Malformed

SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")
_MASKS = ("brushlabels", "bitmasklabels", "keypointlabels")
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # that an upload gets


@formats.add(
    "labelstudio",
    "Label Studio",
    BoxesConfig,
    told=lambda volume, heads: told(volume, heads, b"[", [b'"annotat']),
    beside=True,
    suffixes=("json",),
)
def opened(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures with the JSON of Label Studio beside them: choices are classes, rectangles are boxes."""
    return Marked(volume, files, config, parse, "Label Studio")


def parse(data: bytes, pictures: int) -> Sheet | None:
    """Reads an export.

    Args:
        data: Its content.
        pictures: How many pictures there are, which bounds what is built from it.

    Returns:
        What people answered; None if it is another kind of JSON.

    Raises:
        Malformed: If it is not what it seems, or has a task twice.
    """
    listed = tasks(data, pictures)
    if listed is None:
        return None
    sheet = Sheet()
    for what, task in listed:
        file = picture_of(task["data"])
        if not file:
            sheet.refuse(
                what, "names no file: its picture is not a path, or lies in the task itself"
            )
            continue
        about = Annotated(file)
        for answer in answers(task):
            for part in answer:
                _add(about, part, what, sheet)
        sheet.pictures.append(about)
    every = (
        name
        for about in sheet.pictures
        for name in (*about.labels, *(b.label for b in about.boxes))
    )
    sheet.classes = sorted(set(every))
    return sheet


def tasks(data: bytes, pictures: int) -> list[tuple[str, dict[str, Any]]] | None:
    """Lists the tasks of an export, with what they are called in messages; None for another kind of JSON.

    Raises:
        Malformed: If it is no JSON, one is no task, or two have the same id.
    """
    content = read(data, pictures)
    if not isinstance(content, list) or not any(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content
    ):
        if isinstance(content, list) and any(
            isinstance(task, dict) and "annotator" in task for task in content
        ):
            raise Malformed("it is Label Studio's short form (JSON-MIN). Export it as JSON")
        return None
    listed, seen = [], set()
    for position, task in enumerate(content):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise Malformed(f"entry {position} is no task: it has no data")
        id = task.get("id", task.get("inner_id"))
        if isinstance(id, int | str) and not isinstance(id, bool):
            if str(id) in seen:
                raise Malformed(f"two tasks have the id {str(id)[:40]}")
            seen.add(str(id))
            listed.append((f"task {str(id)[:40]}", task))
        else:
            listed.append((f"task number {position}", task))
    return listed


def answers(task: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yields what each person answered, without those who skipped it; older exports call answers completions."""
    given = task.get("annotations", task.get("completions"))
    for answer in given if isinstance(given, list) else []:
        if isinstance(answer, dict) and not answer.get("was_cancelled"):
            result = answer.get("result")
            yield (
                [part for part in result if isinstance(part, dict)]
                if isinstance(result, list)
                else []
            )


def chosen(part: dict[str, Any]) -> list[str]:
    """Gives the choices of a part of an answer; none for a part of another kind."""
    value = part.get("value")
    names = value.get("choices") if isinstance(value, dict) else None
    return [name for name in map(text, names) if name] if isinstance(names, list) else []


def picture_of(data: dict[str, Any]) -> str:
    """Finds the path of a task's picture as the end of an address: ``/data/upload/1/4f3a2b1c-x.png`` is ``x.png``.

    >>> picture_of({"image": "/data/local-files/?d=cats/a%20b.png"})
    'cats/a b.png'
    """
    known = [data[key] for key in ("image", "img", "picture", "url") if key in data]
    for value in [*known, *data.values()]:
        if not isinstance(value, str) or value.startswith("data:") or len(value) > 2000:
            continue
        try:
            parts = urlsplit(value)
            local = parse_qs(parts.query).get("d", [""])[0]
        except ValueError:
            continue
        path = local or unquote(parts.path)
        last = path.rpartition("/")[2]
        if "." not in last:
            continue
        # of an address only the end is ours; what lies around it is the other server's
        return (
            path if local or not (parts.scheme or path.startswith("/")) else _PREFIX.sub("", last)
        )
    return ""


def _add(about: Annotated, part: dict[str, Any], what: str, sheet: Sheet) -> None:
    kind, value = part.get("type"), part.get("value")
    if not isinstance(kind, str) or not isinstance(value, dict):
        sheet.refuse(what, "has an answer without a type or a value")
        return
    if kind == "choices":
        about.labels += [name for name in chosen(part) if name not in about.labels]
        return
    if kind in _MASKS:
        sheet.refuse(what, f"has an answer of the type {kind}, which is not read")
        return
    if kind not in SHAPES:
        return  # a text, a rating: says nothing of classes
    wide, high = (number(part.get(f"original_{side}")) for side in ("width", "height"))
    if wide and high and wide >= 1 <= high:
        about.size = about.size or (int(wide), int(high))
    names = value.get(kind)
    label = text(names[0]) if isinstance(names, list) and names else ""
    box = _box(kind, value, about.size or (1, 1), sheet.kinds)
    if not label:
        sheet.refuse(what, "has a box without a class")
    elif box is None:
        sheet.refuse(
            what, f"has a {kind.removesuffix('labels')} that is no four finite numbers with an area"
        )
    else:
        about.boxes.append(Box(label, *(side / 100 for side in box), relative=True))


def _box(
    kind: str, value: dict[str, Any], size: tuple[int, int], kinds: Counter[str]
) -> tuple[float, float, float, float] | None:
    """Finds the upright box of a shape, in percent of the picture; None if there is none."""
    if kind == "polygonlabels":
        given = value.get("points")
        points = [
            (number(point[0]), number(point[1]))
            for point in (given if isinstance(given, list) else [])
            if isinstance(point, list) and len(point) == 2
        ]
        known = [(x, y) for x, y in points if x is not None and y is not None]
        if len(known) < 3 or not isinstance(given, list) or len(known) < len(given):
            return None
        kinds["outline"] += 1
        return _around(known)
    if kind == "ellipselabels":
        x, y, rx, ry = (number(value.get(key)) for key in ("x", "y", "radiusX", "radiusY"))
        if x is None or y is None or rx is None or ry is None or rx <= 0 or ry <= 0:
            return None
        kinds["outline"] += 1
        left, top, width, height = x - rx, y - ry, 2 * rx, 2 * ry
    else:
        sides = [number(value.get(key)) for key in ("x", "y", "width", "height")]
        if None in sides:
            return None
        left, top, width, height = (float(side or 0) for side in sides)
    if width <= 0 or height <= 0:
        return None
    turn = number(value.get("rotation", 0)) or 0.0
    if not turn % 360:
        return left, top, width, height
    kinds["turned"] += 1
    # turned about its corner, or a round one about its middle, in pixels: a percent is no square
    pivot = (left + width / 2, top + height / 2) if kind == "ellipselabels" else (left, top)
    sine, cosine = math.sin(math.radians(turn)), math.cos(math.radians(turn))
    corners = []
    for x, y in (
        (left, top),
        (left + width, top),
        (left, top + height),
        (left + width, top + height),
    ):
        dx, dy = (x - pivot[0]) * size[0], (y - pivot[1]) * size[1]
        corners.append(
            (
                pivot[0] + (dx * cosine - dy * sine) / size[0],
                pivot[1] + (dx * sine + dy * cosine) / size[1],
            )
        )
    return _around(corners)


def _around(points: list[tuple[float, float]]) -> tuple[float, float, float, float] | None:
    x, y = zip(*points, strict=True)
    wide, high = max(x) - min(x), max(y) - min(y)
    return (min(x), min(y), wide, high) if wide > 0 < high else None

"""COCO: one JSON that lists pictures, categories and boxes; what CVAT, Roboflow and many others export.

References:
    Lin et al., Microsoft COCO, 2014 https://arxiv.org/abs/1405.0312; the format https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from core.datasets.annotated import BoxesConfig, Marked, told
from core.datasets.annotations import Annotated, Box, Sheet, number, read, text
from core.datasets.attributes import described
from core.datasets.container import Container, File, Volume
from core.datasets.formats import formats
from core.datasets.labels import Malformed
from core.ground.writing import many

LINEAGE = "lineage"  # the key of a picture under which an export of ours says where it comes from
_LISTS = ("images", "annotations", "categories")


@formats.add(
    "coco",
    "COCO",
    BoxesConfig,
    told=lambda volume, heads: told(volume, heads, b"{", [f'"{key}"'.encode() for key in _LISTS]),
    beside=True,
    suffixes=("json",),
)
def opened(volume: Volume, files: Sequence[File], config: Any) -> Container:
    """Pictures with boxes and classes in a JSON beside them, as CVAT, Roboflow and others export."""
    return Marked(volume, files, config, parse, "COCO")


def parse(data: bytes, pictures: int) -> Sheet | None:
    """Reads a file.

    Args:
        data: Its content.
        pictures: How many pictures there are, which bounds what is built from it.

    Returns:
        What it says; None if it is another kind of JSON, such as captions.

    Raises:
        Malformed: If it names a picture or a category twice, or is not what it seems.
    """
    content = read(data, pictures)
    if not isinstance(content, dict) or not all(key in content for key in _LISTS):
        return None
    for key in _LISTS:
        if not isinstance(content[key], list):
            raise Malformed(f"{key!r} must be a list, got {_kind(content[key])}")
    sheet = Sheet()
    if isinstance(info := content.get("info"), dict):
        sheet.about = described(json.dumps(info).encode())
    names = _categories(content["categories"])
    sheet.classes = [*dict.fromkeys(names[id] for id in sorted(names, key=_order))]
    listed = _images(content["images"], sheet)
    kinds = sheet.kinds
    seen: set[str] = set()
    for position, entry in enumerate(content["annotations"]):
        what = f"annotation {position}"
        if not isinstance(entry, dict):
            sheet.refuse(what, f"is {_kind(entry)}, and must be an object")
            continue
        id = _id(entry.get("id"))
        what = f"annotation {id}" if id else what
        image, category = _id(entry.get("image_id")), _id(entry.get("category_id"))
        if id and id in seen:
            sheet.refuse(what, "has an id that another one has")
        elif image is None or image not in listed:
            sheet.refuse(
                what, f"is about the picture {_shown(entry.get('image_id'))}, which is not listed"
            )
        elif category is None or category not in names:
            sheet.refuse(
                what, f"has the category {_shown(entry.get('category_id'))}, which is not listed"
            )
        elif entry.get("iscrowd") in (1, True):
            kinds["crowd"] += 1
        else:
            _add(listed[image], names[category], entry, what, sheet)
        seen.add(id or "")
    if kinds["crowd"]:
        sheet.refuse(
            many(kinds["crowd"], "annotation"), "of crowds: a box around many things is none of one"
        )
    return sheet


def _add(
    about: Annotated,
    label: str,
    entry: dict[str, Any],
    what: str,
    sheet: Sheet,
) -> None:
    outline, given = entry.get("segmentation"), entry.get("bbox")
    if isinstance(outline, dict):
        sheet.kinds["mask"] += 1
    elif outline and not (isinstance(outline, list) and _corners(outline, given)):
        sheet.kinds["outline"] += 1
    if given is None and isinstance(outline, list) and outline:
        given = around(outline)
    elif given is None and isinstance(outline, dict):
        sheet.refuse(what, "has a mask (RLE) without a box, and masks are not read")
        return
    if given is None or given == []:  # a class of the whole picture
        about.labels.append(label)
        return
    numbers = [number(value) for value in given] if isinstance(given, list) else []
    if len(numbers) != 4 or None in numbers:
        sheet.refuse(what, f"has the box {_shown(given)}, and a box is four finite numbers")
        return
    left, top, width, height = (float(value or 0) for value in numbers)
    if width <= 0 or height <= 0:
        sheet.refuse(what, f"has a box of {width:g} × {height:g} pixels")
    else:
        about.boxes.append(Box(label, left, top, width, height))


def _corners(outline: list[Any], box: Any) -> bool:
    """Tells whether an outline is nothing but the corners of its box, which many programs write."""
    parts = outline if isinstance(outline[0], list) else [outline]
    found = around(outline) if len(parts) == 1 and len(parts[0]) == 8 else None
    return found is not None and found == box


def around(outline: list[Any]) -> list[float] | None:
    """Finds the box around outlines, lists of x and y in turn; None if they are none."""
    parts = outline if outline and isinstance(outline[0], list) else [outline]
    values = [number(value) for part in parts if isinstance(part, list) for value in part]
    if len(values) < 6 or len(values) % 2 or None in values:
        return None
    known = [value for value in values if value is not None]
    x, y = known[::2], known[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _categories(entries: list[Any]) -> dict[str, str]:
    """Gives the name of each category by its id.

    Raises:
        Malformed: If one has no id or name, or two have the same.
    """
    names: dict[str, str] = {}
    for position, entry in enumerate(entries):
        id = _id(entry.get("id")) if isinstance(entry, dict) else None
        name = text(entry.get("name")) if isinstance(entry, dict) else ""
        if id is None or not name:
            raise Malformed(f"category {position} must have an id and a name, got {_shown(entry)}")
        if id in names:
            raise Malformed(f"two categories have the id {id}: {names[id]!r} and {name!r}")
        if name in names.values():
            raise Malformed(f"two categories are called {name!r}")
        names[id] = name
    if not names:
        raise Malformed("it lists no category")
    return names


def _images(entries: list[Any], sheet: Sheet) -> dict[str, Annotated]:
    """Gives the pictures by their ids.

    Raises:
        Malformed: If two have the same id, since nothing says then which one an annotation is about.
    """
    listed: dict[str, Annotated] = {}
    for position, entry in enumerate(entries):
        id = _id(entry.get("id")) if isinstance(entry, dict) else None
        file = entry.get("file_name") if isinstance(entry, dict) else None
        if id is None or not isinstance(file, str) or not file.strip():
            sheet.refuse(f"picture {position}", "has no id, or names no file")
            continue
        if id in listed:
            raise Malformed(f"two pictures have the id {id}: {listed[id].file!r} and {file!r}")
        wide, high = (number(entry.get(side)) for side in ("width", "height"))
        size = (int(wide), int(high)) if wide and high and wide > 0 < high else None
        more = entry.get(LINEAGE)  # of our own exports; what others say of a file is theirs
        known = (
            {text(key): value for key, value in more.items() if _plain(value)}
            if isinstance(more, dict)
            else {}
        )
        listed[id] = Annotated(file, size=size, more=known)
    sheet.pictures = list(listed.values())
    return listed


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _id(value: Any) -> str | None:
    """Writes an id as text: one program's 7 is another's "7"; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)[:200]


def _order(id: str) -> tuple[bool, int, str]:
    number = id.isdecimal() and len(id) < 20
    return not number, int(id) if number else 0, id


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value!r:.60}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return {bool: "true or false", dict: "an object", list: "a list", str: "a text"}.get(
        type(value), "a number"
    )

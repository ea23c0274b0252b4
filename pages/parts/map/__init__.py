"""A map of thousands of pictures: every point is one, seen when the pointer rests on it, and taken out with a lasso.

A component with its own JavaScript, because a chart of Streamlit's requests each picture from the server, and sends
all selected points back. Places, traits and one sheet of thumbnails travel once, as bytes; hovering, colouring, zooming
and the change from one projection to another happen in the browser alone. On a map with a ground, which is a picture
of what lies between the points, any place can be clicked.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from core.ground import sheets
from pages.parts.component import component, data_url, indices, numbers, smooth

_show = component(
    __file__,
    '<div class="bar"></div><div class="stage"><canvas class="points"></canvas>'
    '<canvas class="over"></canvas><div class="card" hidden><canvas></canvas><p></p></div></div>'
    '<div class="legend"></div><p class="said" role="status"></p>',
    "look",
    "picked",
)
_PIXELS = 6_000_000  # of the sheet of thumbnails: what a browser decodes in a tenth of a second
_LOSSLESS = 3_000_000  # bytes of a sheet up to which it travels without loss


@dataclass(frozen=True)
class Trait:
    """A property to colour points by.

    Attributes:
        title: Its name on the page.
        codes: Which of the names each point has, (P,).
        names: What the codes mean; an empty name is not shown on hovering.
        quiet: Codes that are drawn faintly, below the others.
        colours: One per name; those of the theme when left out.
    """

    title: str
    codes: np.ndarray
    names: Sequence[str]
    quiet: Sequence[int] = ()
    colours: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """What a person did with the map.

    Attributes:
        look: The chosen ``view`` and ``colour`` by name, and ``marks`` (dots, pictures, or auto: pictures as soon as
            there is room for them); empty before a choice.
        picked: Indices of the points in the lasso, ascending; empty without one.
        at: The place of a click on the ground, in shares of its sides from the upper left corner; None without one.
    """

    look: dict[str, str]
    picked: list[int]
    at: tuple[float, float] | None = None


def pack(
    views: Mapping[str, np.ndarray],
    traits: Sequence[Trait],
    images: np.ndarray | None,
    hollow: np.ndarray,
    titles: Sequence[str] = (),
) -> bytes:
    """Packs a map into bytes that can be cached, and sent to the browser as they are.

    Args:
        views: Places of the points by the name of the projection, (P, 2); a point at nan is not drawn.
        traits: What points can be coloured by; the first one is shown first.
        images: One per point, uint8 (P, C, H, W); shrunk where the sheet would be too large. None for a map
            that shows no thumbnails.
        hollow: Whether a point is drawn as a ring, (P,).
        titles: What each point is called on hovering, before the names of its traits.
    """
    images = np.zeros((len(hollow), 1, 0, 0), np.uint8) if images is None else images
    count, _, height, width = images.shape
    shrink = min(1.0, math.sqrt(_PIXELS / max(1, count * height * width)))
    if shrink < 1:
        height, width = max(4, int(height * shrink)), max(4, int(width * shrink))
        images = _shrunk(images, height, width)
    columns = max(1, math.ceil(math.sqrt(count)))
    layout = {
        "count": count,
        "tile": [height, width],
        "columns": columns,
        "views": [{"name": name, "fit": _box(xy)} for name, xy in views.items()],
        "traits": [
            {
                "title": t.title,
                "names": list(t.names),
                "quiet": list(t.quiet),
                "colours": list(t.colours),
            }
            for t in traits
        ],
        "titles": list(titles),
    }
    places = [np.asarray(xy, "<f4").tobytes() for xy in views.values()]
    sheet = _sheet(images, columns)
    parts = [*places, *(np.asarray(trait.codes, "<u2").tobytes() for trait in traits)]
    body = b"".join([*parts, np.asarray(hollow, np.uint8).tobytes(), sheet])
    # "id" tells the points apart, whatever they are coloured by; "version" everything that the browser gets
    layout["id"] = _digest(b"".join(places[:1]) + sheet)
    layout["version"] = _digest(json.dumps(layout).encode() + body)
    head = json.dumps(layout).encode()
    return struct.pack("<I", len(head)) + head + body


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _box(xy: np.ndarray) -> list[float]:
    """Gives the box (left, top, right, bottom) to show first: a few points far off do not shrink the rest."""
    drawn = xy[np.isfinite(xy).all(1)]
    if not len(drawn):
        return [0.0, 0.0, 1.0, 1.0]
    drawn = drawn.astype(np.float64)
    left, right = np.percentile(drawn, (0.5, 99.5), axis=0)
    wide = (right - left) / 2
    near = np.ma.masked_array(drawn, (drawn < left - wide) | (drawn > right + wide))
    low, high = near.min(0).data, near.max(0).data
    margin = 0.04 * (high - low).max() + 1e-6
    return [*(low - margin).tolist(), *(high + margin).tolist()]


def _shrunk(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages the pixels of images down to a size, uint8 (P, C, H, W)."""
    small = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BOX))
        for image in images
        for channel in image
    ]
    return np.stack(small).reshape(*images.shape[:2], height, width)


def _sheet(images: np.ndarray, columns: int) -> bytes:
    """Lays thumbnails out in rows and encodes them; as JPEG where a PNG would take long to send."""
    if not images.size:
        return b""
    return (sheets.png if images.nbytes <= _LOSSLESS else sheets.jpeg)(images, columns)


def points(
    packed: bytes,
    *,
    alt: str,
    key: str,
    look: Mapping[str, str] | None = None,
    height: int = 440,
    ground: bytes = b"",
    path: Sequence[tuple[float, float]] = (),
    marks: Sequence[tuple[str, float, float]] = (),
) -> Answer:
    """Shows a map.

    Args:
        packed: Of :func:`pack`.
        alt: What a person who does not see it should know.
        key: Unique on the page.
        look: What to show first: ``view``, ``colour``, ``marks``. Keep it the same while the person is on the page,
            so that nothing is sent twice.
        height: Of the map itself, in CSS pixels.
        ground: A picture below the points, PNG or JPEG. It fills the square from (0, 0) to (1, 1), where all points
            are then; a click gives a place on it.
        path: Places of a line to draw.
        marks: A short name with its place.
    """
    (size,) = struct.unpack_from("<I", packed)
    layout = json.loads(packed[4 : 4 + size])
    options = {
        "alt": alt,
        "look": dict(look or {}),
        "height": height,
        "smooth": smooth(),
        "ground": data_url(ground) if ground else "",
        "path": [[float(x), float(y)] for x, y in path],
        "marks": [{"label": label, "at": [float(x), float(y)]} for label, x, y in marks],
    }
    head = json.dumps(options).encode()
    state = _show(key, struct.pack("<I", len(head)) + head + packed)
    picked = state["picked"] if state["picked"].get("of") == layout["id"] else {}
    known = {
        "view": [view["name"] for view in layout["views"]],
        "colour": [trait["title"] for trait in layout["traits"]],
        "marks": ["auto", "dots", "pictures"],
    }
    at = numbers(picked.get("at"), 2, 10) if ground else None
    return Answer(
        {
            name: state["look"][name]
            for name, names in known.items()
            if state["look"].get(name) in names
        },
        indices(picked.get("indices"), layout["count"]),
        (at[0], at[1]) if at else None,
    )

"""A map of thousands of pictures: every point is one, seen when the pointer rests on it, and taken out with a lasso.

A component with its own JavaScript, because a chart of Streamlit's asks the server for each picture, and sends all
selected points back. Places, traits and one sheet of thumbnails travel once, as bytes; hovering, colouring, zooming
and the change from one projection to another happen in the browser alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from core import sheets

_HERE = Path(__file__).parent
_mount = st.components.v2.component(  # pyright: ignore[reportAttributeAccessIssue]
    "simulacra_map",
    html='<div class="box"><div class="bar"></div><div class="stage"><canvas class="points"></canvas>'
    '<canvas class="over"></canvas><div class="card" hidden><canvas></canvas><p></p></div></div>'
    '<div class="legend"></div><p class="said" role="status"></p></div>',
    css=(_HERE / "map.css").read_text("utf-8"),
    js=(_HERE / "map.js").read_text("utf-8"),
)
_PIXELS = 6_000_000  # of the sheet of thumbnails: what a browser decodes in a tenth of a second
_LOSSLESS = 3_000_000  # bytes of a sheet up to which it travels without loss


@dataclass(frozen=True)
class Trait:
    """Something to colour points by.

    Attributes:
        title: Its name on the page.
        codes: Which of the names each point has, (P,).
        names: What the codes mean; an empty name is not told on hovering.
        quiet: Codes that are drawn faintly, below the others.
    """

    title: str
    codes: np.ndarray
    names: Sequence[str]
    quiet: Sequence[int] = ()


@dataclass(frozen=True)
class Answer:
    """What a person did with the map.

    Attributes:
        look: The chosen ``view`` and ``colour`` by name, and ``marks`` (dots or pictures); empty before a choice.
        picked: Indices of the points in the lasso, ascending; empty without one.
    """

    look: dict[str, str]
    picked: list[int]


def pack(
    views: Mapping[str, np.ndarray],
    traits: Sequence[Trait],
    images: np.ndarray,
    hollow: np.ndarray,
) -> bytes:
    """Packs all that the browser needs into one piece, to be kept and sent as it is.

    Args:
        views: Places of the points by the name of the projection, (P, 2); a point at nan is not drawn.
        traits: What points can be coloured by; the first one is shown first.
        images: One per point, uint8 (P, C, H, W), 0 … 255; shrunk where the sheet would be too large.
        hollow: Whether a point is drawn as a ring, (P,).
    """
    count, _, height, width = images.shape
    shrink = min(1.0, math.sqrt(_PIXELS / max(1, count * height * width)))
    if shrink < 1:
        height, width = max(4, int(height * shrink)), max(4, int(width * shrink))
        images = _shrunk(images, height, width)
    columns = max(1, math.ceil(math.sqrt(count)))
    facts = {
        "count": count,
        "tile": [height, width],
        "columns": columns,
        "views": [{"name": name, "fit": _fit(place)} for name, place in views.items()],
        "traits": [
            {"title": t.title, "names": list(t.names), "quiet": list(t.quiet)} for t in traits
        ],
    }
    parts = [np.asarray(place, "<f4").tobytes() for place in views.values()]
    parts += [np.asarray(trait.codes, "<u2").tobytes() for trait in traits]
    parts += [np.asarray(hollow, np.uint8).tobytes(), _sheet(images, columns)]
    body = b"".join(parts)
    facts["id"] = hashlib.sha256(json.dumps(facts).encode() + body).hexdigest()[:16]
    head = json.dumps(facts).encode()
    return struct.pack("<I", len(head)) + head + body


def _fit(place: np.ndarray) -> list[float]:
    """Gives the box (left, top, right, bottom) to show first: a few points far off do not shrink the rest."""
    there = place[np.isfinite(place).all(1)]
    if not len(there):
        return [0.0, 0.0, 1.0, 1.0]
    low, high = np.percentile(there.astype(np.float64), (0.5, 99.5), axis=0)
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
    """Lays thumbnails out in rows and encodes them; JPEG where PNG would be long to travel."""
    if not len(images):
        return b""
    if images.nbytes <= _LOSSLESS:
        return sheets.png(images, columns)
    out = io.BytesIO()
    Image.fromarray(sheets.arrange(images, columns)).save(out, "JPEG", quality=88, subsampling=0)
    return out.getvalue()


def points(
    packed: bytes, *, alt: str, key: str, look: Mapping[str, str], height: int = 440
) -> Answer:
    """Shows a map.

    Args:
        packed: Of :func:`pack`.
        alt: What a person who does not see it should know.
        key: Unique on the page.
        look: What to show first: ``view``, ``colour``, ``marks``. Keep it the same while the person is on the page,
            so that nothing is sent twice.
        height: Of the map itself, in CSS pixels.
    """
    (size,) = struct.unpack_from("<I", packed)
    facts = json.loads(packed[4 : 4 + size])
    words = json.dumps({"alt": alt, "look": dict(look), "height": height}).encode()
    got = _mount(
        key=key,
        data=struct.pack("<I", len(words)) + words + packed,
        on_look_change=lambda: None,
        on_picked_change=lambda: None,
    )
    return Answer(_look(got.look, facts), _picked(got.picked, facts))


def _look(value: Any, facts: Mapping[str, Any]) -> dict[str, str]:
    """Takes from a browser's answer, in which anything may be, the names that exist."""
    known = {
        "view": [view["name"] for view in facts["views"]],
        "colour": [trait["title"] for trait in facts["traits"]],
        "marks": ["dots", "pictures"],
    }
    if not isinstance(value, Mapping):
        return {}
    return {name: value[name] for name, names in known.items() if value.get(name) in names}


def _picked(value: Any, facts: Mapping[str, Any]) -> list[int]:
    """Takes from a browser's answer the points of this map."""
    if not isinstance(value, Mapping) or value.get("of") != facts["id"]:
        return []
    indices = value.get("indices")
    if not isinstance(indices, list) or len(indices) > facts["count"]:
        return []
    return sorted({i for i in indices if type(i) is int and 0 <= i < facts["count"]})

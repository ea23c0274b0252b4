"""Cartoon faces with known attributes: a dataset without a download, drawn by our own numpy code.

:func:`attributes` decides who is in each picture, :func:`draw` paints it, and :func:`sketch` draws
its outlines. Every shape is a signed distance (negative inside) that becomes coverage over one
pixel, so a face is crisp at any size and moves smoothly with its attributes. The picture is [-1, 1]
x [-1, 1]; y points down. Arrays that hold one value per face have the shape (N, 1, 1), colours
(N, 3, 1, 1) from 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from core.catalog import UserError, unknown
from core.ground.watch import UNWATCHED, Watch

Array = np.ndarray
_Value = Any  # an array with one number for each face, or one number for all


class _Pose(NamedTuple):
    """What a class means: the span of three attributes, and the brows."""

    smile: tuple[float, float]
    eyes: tuple[float, float]
    mouth: tuple[float, float]
    lift: float = 0.0  # the brows are raised
    plea: float = 0.0  # their inner ends are raised


class _Style(NamedTuple):
    """A way to wear hair; lengths in half pictures."""

    volume: float  # over the skull
    line: float  # where the hair begins on the forehead
    arch: float = 0.0  # how much lower it begins at the temples, along a curve
    curtain: float = 0.0  # the same along two straight lines
    sweep: float = 0.0  # how much lower on the right than in the middle
    width: float = 0.4  # of the hair behind the head: half
    end: float = -0.1  # its lower end
    locks: float = 0.0  # 1: it frames the face
    curls: float = 0.0  # depth
    bun: float = 0.0  # radius
    ears: float = 1.0  # 0: covered


_POSES = {
    "neutral": _Pose((-0.08, 0.12), (0.66, 0.82), (0.0, 0.04)),
    "happy": _Pose((0.70, 1.0), (0.58, 0.82), (0.55, 1.0), lift=0.4),
    "sad": _Pose((-1.0, -0.75), (0.42, 0.62), (0.0, 0.08), lift=0.1, plea=1.0),
    "surprised": _Pose((-0.05, 0.05), (0.95, 1.0), (0.75, 1.0), lift=1.0),
    "wink": _Pose((0.60, 0.90), (0.66, 0.85), (0.0, 0.10), lift=0.3),
}
_STYLES = {
    "short": _Style(0.07, -0.37, arch=0.22, curls=0.03),
    "swept": _Style(0.09, -0.34, arch=0.10, sweep=-0.17),
    "bob": _Style(0.11, -0.31, arch=0.08, width=0.63, end=0.40, locks=1, ears=0),
    "long": _Style(0.09, -0.55, curtain=0.45, width=0.63, end=0.80, locks=1, ears=0),
    "curly": _Style(0.17, -0.36, arch=0.16, width=0.66, end=0.20, curls=0.07, ears=0),
    "bun": _Style(0.05, -0.44, arch=0.34, bun=0.19),
}
_HAIR = {
    "black": "#2e2836",
    "brown": "#6e4630",
    "copper": "#c2592c",
    "blonde": "#ecbf5e",
    "silver": "#b9bdc9",
    "pink": "#e5749b",
}
_EYES = {"brown": "#5a3524", "green": "#3f7d57", "blue": "#3f74b5"}
_SHIRTS = {
    "coral": "#ef6f61",
    "teal": "#2c9c96",
    "navy": "#38508f",
    "mustard": "#e3a52f",
    "cream": "#f4ead9",
}
_BACKGROUNDS = {
    "sky": ("#cfe8fb", "#8fc3ec"),
    "peach": ("#ffe6d1", "#f9bd9a"),
    "mint": ("#dbf3e2", "#97d3b4"),
    "lilac": ("#e8e0fa", "#b9a8e6"),
    "butter": ("#fff3c9", "#f5d57c"),
}

CLASSES = tuple(_POSES)
GLASSES = ("none", "round", "square")
HAIR_STYLES = tuple(_STYLES)
HAIR_COLOURS = tuple(_HAIR)
BACKGROUNDS = tuple(_BACKGROUNDS)
NAMES = {
    "expression": CLASSES,
    "glasses": GLASSES,
    "hair_style": HAIR_STYLES,
    "hair_colour": HAIR_COLOURS,
    "eye_colour": tuple(_EYES),
    "beard": ("none", "beard"),
    "freckles": ("none", "freckles"),
    "shirt": tuple(_SHIRTS),
    "background": BACKGROUNDS,
}
"""What the values 0, 1, … of every attribute that is a choice stand for."""

RANGES = {
    "smile": (-1.0, 1.0),
    "mouth": (0.0, 1.0),
    "eyes": (0.0, 1.0),
    "brows": (-1.0, 1.0),
    "skin": (0.0, 1.0),
    "head": (-1.0, 1.0),
    "turn": (-1.0, 1.0),
}
"""Lowest and highest value of every attribute that is continuous; the first two of a mouth are its
curve and how far it is open, ``head`` is narrow to wide, ``turn`` left to right in the picture."""

SIZES = (8, 256)
"""Smallest and largest picture, in pixels."""

_CHUNK = 2**18  # pixels painted at a time, so that they stay in the cache


def attributes(seed: int, count: int, correlated: bool = True) -> dict[str, Array]:
    """Decides who is in each picture: the true attributes, one array of length ``count`` each.

    Face i of a seed is the same whatever ``count`` is. :data:`NAMES` and :data:`RANGES` say what
    the values mean. A class *is* its mouth and eyes, so ``smile``, ``mouth`` and ``eyes`` always
    lie in the span of their ``expression``. Other links are as among people: glasses and silver
    hair come with age (which is not told), hair colour, hair style and eye colour go with skin,
    freckles with copper hair and pale skin, a beard with short hair, and, within a class, the
    broader the smile the narrower the eyes.

    Args:
        seed: At least 0.
        count: Number of faces, at least 0.
        correlated: False switches all these other links off: every attribute is drawn by itself,
            each choice with equal chances, ``smile``, ``mouth`` and ``eyes`` given the class.

    Raises:
        UserError: If ``seed`` or ``count`` is negative.
    """
    for name, value in (("seed", seed), ("count", count)):
        if value < 0:
            raise UserError(f"{name} must be a whole number at least 0, got {value}. Try {name}=1.")
    # One row per face: a longer table starts with the same rows.
    table = np.random.Generator(np.random.Philox(key=seed)).random((count, 18))
    (
        expression,
        smile,
        mouth,
        eyes,
        age,
        skin,
        colour,
        style,
        glasses,
        frame,
        iris,
        beard,
        freckles,
        head,
        turn,
        brows,
        shirt,
        background,
    ) = table.T

    def choose(name: str, u: Array, **weights: Array | float) -> Array:
        linked = correlated and weights
        parts = [weights[choice] if linked else 1 for choice in NAMES[name]]
        edges = np.cumsum([np.broadcast_to(part, count) for part in parts], axis=0)
        return (u * edges[-1] >= edges[:-1]).sum(axis=0)

    def bell(u: Array) -> Array:  # -1 .. 1, denser in the middle
        return np.sign(u - 0.5) * np.abs(2 * u - 1) ** 1.5

    who = {"expression": choose("expression", expression)}
    if correlated:
        eyes = 0.4 * eyes + 0.6 * (1 - smile)
    for name, u in (("smile", smile), ("mouth", mouth), ("eyes", eyes)):
        low, high = np.array([getattr(pose, name) for pose in _POSES.values()])[who["expression"]].T
        who[name] = low + u * (high - low)
    pale = (1 - skin) ** 2
    who["hair_colour"] = choose(
        "hair_colour",
        colour,
        black=0.1 + 1.3 * skin,
        brown=0.5,
        copper=0.45 * pale,
        blonde=0.75 * pale,
        silver=4 * np.clip(age - 0.6, 0, 1),
        pink=0.2 * (1 - age),
    )
    who["hair_style"] = choose(
        "hair_style",
        style,
        short=0.6 + 0.8 * age,
        swept=0.8,
        bob=0.7,
        long=1.2 - age,
        curly=0.3 + 1.4 * skin,
        bun=0.4 + 0.6 * age,
    )
    worn = 0.1 + 0.75 * age
    who["glasses"] = choose(
        "glasses", glasses, none=1 - worn, round=worn * frame, square=worn * (1 - frame)
    )
    who["eye_colour"] = choose(
        "eye_colour", iris, brown=0.2 + 2 * skin, green=0.4 * pale, blue=0.6 * pale
    )
    hairy = 0.3 * (who["hair_style"] < HAIR_STYLES.index("bob"))
    who["beard"] = choose("beard", beard, none=1 - hairy, beard=hairy)
    spots = np.where(who["hair_colour"] == HAIR_COLOURS.index("copper"), 0.6, 0.3 * pale)
    who["freckles"] = choose("freckles", freckles, none=1 - spots, freckles=spots)
    who |= {"shirt": choose("shirt", shirt), "background": choose("background", background)}
    return who | {"skin": skin, "head": bell(head), "turn": bell(turn), "brows": bell(brows)}


def become(attributes: dict[str, Array], name: str, value: str) -> dict[str, Array]:
    """Gives the attributes of the same people with another value of one choice, a copy.

    With another ``expression``, ``smile``, ``mouth`` and ``eyes`` keep their places within the spans of the class.

    Raises:
        UserError: If there is no such choice or value.
    """
    if name not in NAMES:
        raise UserError(unknown("choice of a face", name, list(NAMES)))
    if value not in NAMES[name]:
        raise UserError(unknown(f"value of {name}", value, NAMES[name]))
    who = {key: np.array(values) for key, values in attributes.items()}
    if name == "expression":
        new = _POSES[value]
        for part in ("smile", "mouth", "eyes"):
            spans = np.array([getattr(pose, part) for pose in _POSES.values()])
            low, high = spans[who["expression"]].T
            place = ((who[part] - low) / (high - low)).clip(0, 1)
            start, end = getattr(new, part)
            who[part] = start + place * (end - start)
    who[name] = np.full_like(who[name], NAMES[name].index(value))
    return who


def draw(attributes: dict[str, Array], size: int, watch: Watch = UNWATCHED) -> Array:
    """Draws the faces that the attributes describe.

    The same attributes give the same pixels, and those in :data:`RANGES` change them continuously.

    Args:
        attributes: As :func:`attributes` gives them; other names are ignored.
        size: Height and width in pixels, within :data:`SIZES`.
        watch: Follows it, chunk by chunk.

    Returns:
        uint8 of shape (N, 3, size, size), red first.

    Raises:
        UserError: If an attribute is missing, out of its range or of another length, or ``size``
            is out of range.
    """
    low, high = SIZES
    if not low <= size <= high:
        raise UserError(f"size must be from {low} to {high} pixels, got {size}. Try 32.")
    who = _check(attributes)
    total = len(who["expression"])
    pixels = np.empty((total, 3, size, size), np.uint8)
    step = max(1, _CHUNK // size**2)
    for start in range(0, total, step):
        part = slice(start, min(start + step, total))
        pixels[part] = _paint({name: values[part] for name, values in who.items()}, size)
        watch.count("Drawing", part.stop, total, "faces")
    return pixels


def sketch(attributes: dict[str, Array], size: int, watch: Watch = UNWATCHED) -> Array:
    """Draws the outlines of people with coloured pencils on white paper, uint8 (N, 3, size, size).

    The same shapes as those of :func:`draw`, at the same places: of each only its rim is drawn, in its colour, and what
    lies behind it is hidden; the background is a frame. Light has no rim.

    Args:
        attributes: As in :func:`draw`.
        size: Height and width of a picture, as in :func:`draw`.
        watch: Follows the drawing.

    Raises:
        UserError: As :func:`draw`.
    """
    low, high = SIZES
    if not low <= size <= high:
        raise UserError(f"size must be from {low} to {high} pixels, got {size}. Try 32.")
    who = _check(attributes)
    total = len(who["expression"])
    fine = max(1, 64 // size)  # a pencil is thinner than a pixel of a small picture
    pixels = np.empty((total, 3, size, size), np.uint8)
    step = max(1, _CHUNK // (size * fine) ** 2)
    for start in range(0, total, step):
        part = slice(start, min(start + step, total))
        large = _paint({name: values[part] for name, values in who.items()}, size * fine, True)
        blocks = large.reshape(-1, 3, size, fine, size, fine)
        pixels[part] = (blocks.mean((3, 5)) + 0.5).astype(np.uint8)
        watch.count("Sketching", part.stop, total, "faces")
    return pixels


def _check(attributes: dict[str, Array]) -> dict[str, Array]:
    names = [*NAMES, *RANGES]
    for name in names:
        if name not in attributes:
            raise UserError(
                f"The attribute {name!r} is missing. A face needs {', '.join(names)}. "
                "Start from faces.attributes(seed, count) and change what you like."
            )
    who = {name: np.atleast_1d(np.asarray(attributes[name])) for name in names}
    total = who[names[0]].size
    for name, values in who.items():
        if values.shape != (total,):
            raise UserError(
                f"The attribute {name!r} has the shape {values.shape}, but "
                f"{names[0]!r} has {total} values. Give each one value per face."
            )
        low, high = RANGES.get(name) or (0, len(NAMES[name]) - 1)
        wrong = values[~((values >= low) & (values <= high))]
        if len(wrong):
            meaning = f" ({', '.join(NAMES[name])})" if name in NAMES else ""
            raise UserError(
                f"The attribute {name!r} must be from {low:g} to {high:g}{meaning}, "
                f"got {wrong[0]:g}. Clip it, or leave it as faces.attributes gives it."
            )
    return {name: v.astype(int if name in NAMES else np.float32) for name, v in who.items()}


@dataclass(frozen=True)
class _View:
    """A window of the pictures: the coordinates of its pixels, and the paint on them."""

    x: Array  # (1, 1, W)
    y: Array  # (1, H, 1)
    paint: Array  # (N, 3, H, W)
    pixel: float  # the width of one

    def window(
        self, x: _Value, y: _Value, rx: _Value, ry: _Value, bend: _Value = 0, tilt: _Value = 0
    ) -> _View:
        """Cuts out the window that holds such an :meth:`ellipse` of every face, and its edge."""
        edge = 2 * self.pixel  # the first-order distance is too short beyond a sharp end
        rx, ry = np.maximum(rx, self.pixel / 2), np.maximum(ry, self.pixel / 2) + edge
        u = 1 + edge / rx
        slope = (2 * np.abs(bend) * u + np.abs(tilt)) / rx
        ry = ry * np.sqrt(1 + slope * slope) + (np.abs(bend) * u + np.abs(tilt)) * u
        spans = []
        for axis, centre, radius in ((self.x, x, rx * u), (self.y, y, ry)):
            ends = np.min(centre - radius), np.max(centre + radius)
            spans.append(slice(*np.searchsorted(axis.ravel(), ends)))
        columns, rows = spans
        paint = self.paint[..., rows, columns]
        return type(self)(self.x[..., columns], self.y[:, rows], paint, self.pixel)

    def cover(self, distance: _Value) -> Array:
        """Gives the share of each pixel that lies inside: a ramp one pixel wide at the edge."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def ellipse(
        self, x: _Value, y: _Value, rx: _Value, ry: _Value, bend: _Value = 0, tilt: _Value = 0
    ) -> Array:
        """Covers an ellipse, bent by ``bend`` (ends down) and tilted by ``tilt`` (right end down).

        One thinner than a pixel is drawn a pixel wide but paler, so it keeps its weight.
        """
        wide, high = (np.maximum(r, self.pixel / 2, dtype=np.float32) for r in (rx, ry))
        u, v = (self.x - x) / wide, self.y - y
        if np.any(bend) or np.any(tilt):
            slope = (2 * bend * u + tilt) / wide
            v = (v - (bend * u + tilt) * u) / np.sqrt(1 + slope * slope)
        return self.cover(_ellipse(u * wide, v, wide, high)) * (rx * ry / (wide * high))

    def glow(self, x: _Value, y: _Value, rx: _Value, ry: _Value) -> Array:
        """Covers an ellipse that fades out towards its edge."""
        fade = np.clip(1 - ((self.x - x) / rx) ** 2 - ((self.y - y) / ry) ** 2, 0, 1)
        return fade * fade

    def fill(self, cover: Array, colour: Array) -> None:
        """Lays a colour over the window where ``cover`` (N, H, W) says so."""
        self.paint[:] += cover[:, None] * (colour - self.paint)

    def spot(
        self,
        colour: Array,
        x: _Value,
        y: _Value,
        rx: _Value,
        ry: _Value,
        bend: _Value = 0,
        tilt: _Value = 0,
        alpha: _Value = 1,
    ) -> None:
        """Paints one ellipse within its own window."""
        view = self.window(x, y, rx, ry, bend, tilt)
        view.fill(view.ellipse(x, y, rx, ry, bend, tilt) * alpha, colour)

    def scallops(self, depth: _Value) -> Array:
        """Gives the bumps of curls around the skull."""
        if not depth.any():  # arctan2 is slow
            return depth
        return depth * np.abs(np.cos(6.5 * np.arctan2(self.x, 0.15 - self.y)))


class _Pencil(_View):
    """Draws the rim of whatever is filled, as wide as a pencil, and leaves paper inside."""

    def glow(self, x: _Value, y: _Value, rx: _Value, ry: _Value) -> Array:
        return np.zeros((1, 1, 1), np.float32)  # light has no rim

    def fill(self, cover: Array, colour: Array) -> None:
        if not np.any(cover):
            return
        inner = cover = np.broadcast_to(cover, self.paint[:, 0].shape)
        for _ in range(max(1, round(_PENCIL / self.pixel))):  # one pixel less on every side
            whole, inner = inner, inner.copy()
            for here, there in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
                np.minimum(inner[:, here], whole[:, there], out=inner[:, here])
                np.minimum(inner[..., here], whole[..., there], out=inner[..., here])
        paint = self.paint
        paint *= (1 - cover)[:, None]
        paint += (cover - inner)[:, None] * colour
        paint += (_PAPER * inner)[:, None]


def _ellipse(x: _Value, y: _Value, rx: _Value, ry: _Value) -> Array:
    """Gives the distance to an ellipse, to first order at its edge: f / |grad f|."""
    u, v = (x / rx) ** 2, (y / ry) ** 2
    return (u + v - 1) / (2 * np.sqrt(u / rx**2 + v / ry**2) + 1e-6)


def _box(x: _Value, y: _Value, rx: _Value, ry: _Value, corner: _Value) -> Array:
    """Gives the distance to a box with round corners."""
    u, v = np.abs(x) - rx + corner, np.abs(y) - ry + corner
    outside = np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2)
    return outside + np.minimum(np.maximum(u, v), 0) - corner


def _colours(*texts: str) -> Array:
    """Reads ``#rrggbb`` as float32 (K, 3, 1, 1)."""
    return np.asarray([[list(bytes.fromhex(text[1:]))] for text in texts], np.float32).reshape(
        -1, 3, 1, 1
    )


def _mix(a: Array, b: Array, share: float) -> Array:
    return a + np.float32(share) * (b - a)


_WHITE, _INK, _ROSE, _PLUM, _TONGUE, _SHADE = _colours(
    "#fffdfa", "#2b1d26", "#f0525c", "#74182f", "#e8707a", "#e2b9ab"
)
_PAPER = np.float32(255)
_PENCIL = 0.055  # the width of its line
_SKIN = _colours("#ffe2d0", "#f8cfb0", "#eab68d", "#d09565", "#a86d45", "#805036", "#63402d")
_TOP = -0.04  # the height of the head's middle, and of the eyes
_FRECKLES = ((0.33, 0.10), (0.26, 0.15), (0.19, 0.10))


def _paint(who: dict[str, Array], size: int, pencil: bool = False) -> Array:
    """Paints one chunk from back to front, or draws it with a pencil: uint8 (N, 3, size, size)."""
    (smile, mouth, eyes, brows, skin, wide, turn, beard, freckles) = (
        who[name].astype(np.float32)[:, None, None] for name in (*RANGES, "beard", "freckles")
    )
    hair_style = np.asarray(list(_STYLES.values()), np.float32)[who["hair_style"]]
    style = _Style(*hair_style.T[..., None, None])
    pose = np.asarray([row[3:] for row in _POSES.values()], np.float32)[who["expression"]]
    lift, plea = pose.T[..., None, None]

    tone = skin[..., None] * (len(_SKIN) - 1)
    lighter = np.minimum(tone.astype(int), len(_SKIN) - 2).ravel()
    skin = _SKIN[lighter] + (tone - lighter[:, None, None, None].astype(np.float32)) * (
        _SKIN[lighter + 1] - _SKIN[lighter]
    )
    shade, blush = skin * _SHADE / 255, _mix(skin, _ROSE, 0.5)
    hair = _colours(*_HAIR.values())[who["hair_colour"]]
    dark = _mix(hair, _INK, 0.28)
    shirt = _colours(*_SHIRTS.values())[who["shirt"]]
    iris = _colours(*_EYES.values())[who["eye_colour"]]
    upper, lower = (
        _colours(*ends)[who["background"]] for ends in zip(*_BACKGROUNDS.values(), strict=True)
    )

    a, b = 0.5 + 0.05 * wide, 0.6 - 0.025 * wide  # half-axes of the head
    angle = 0.42 * turn

    def turned(x: float, y: float) -> tuple[Array, Array]:
        """Turns a point on the front of the head as on a ball: where it goes, how it narrows."""
        radius = a * np.sqrt(1 - ((y - _TOP) / b) ** 2)
        around = np.arcsin(x / radius)
        return radius * np.sin(around + angle), np.cos(around + angle) / np.cos(around)

    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    paint = np.repeat(upper + (axis[:, None] + 1) / 2 * (lower - upper), size, axis=3)
    view = _Pencil if pencil else _View
    whole = view(axis[None, None], axis[None, :, None], paint, 2 / size)
    if pencil:  # of what is behind everything, the rim is a frame
        frame = np.maximum(np.abs(whole.x), np.abs(whole.y)) > 1 - _PENCIL
        paint[:] = np.where(frame, paint, _PAPER)
    else:
        whole.fill(0.55 * whole.glow(0, -0.15, 1.05, 1.05), _WHITE)

    # Behind the head.
    back = whole.window(
        0, (style.end - 0.5) / 2, style.width + style.curls, (style.end + 0.5) / 2 + style.curls
    )
    mane = _box(back.x, back.y - (style.end - 0.5) / 2, style.width, (style.end + 0.5) / 2, 0.4)
    cover = back.cover(mane - back.scallops(style.curls))
    back.fill(cover, hair)
    back.fill(cover * np.clip(2.5 * back.y + 0.75, 0, 1), dark)
    whole.spot(hair, 0.06 * turn, -0.8, style.bun, 0.9 * style.bun)
    whole.spot(shirt, 0, 1.14, 0.74, 0.46)
    whole.spot(_mix(shirt, _INK, 0.18), 0, 0.68, 0.25, 0.17)
    whole.spot(shade, 0, 0.55, 0.19, 0.26)
    for side in (-1, 1):
        x = side * (a + 0.02 - 0.07 * np.maximum(side * turn, 0))
        whole.spot(skin, x, 0.04, 0.095, 0.13, alpha=style.ears)
        whole.spot(shade, x + side * 0.015, 0.04, 0.05, 0.075, alpha=style.ears)

    # The head: an egg, lit from the upper left.
    face = whole.window(0, _TOP, 1.02 * a, b)
    y = (face.y - _TOP) / b
    lean = 1 / (a * (1 - (0.10 - 0.05 * wide) * y)) ** 2
    u, v = face.x**2 * lean, y * y
    head = (u + v - 1) / (2 * np.sqrt(u * lean + v / b**2) + 1e-6)
    inside = face.cover(head)
    face.fill(inside, skin)
    face.fill(inside * np.clip(0.9 * (face.x - 0.12) + 0.35 * face.y, 0, 0.4), shade)
    for side in (-1, 1):
        x, squeeze = turned(side * 0.29, 0.17)
        face.fill(inside * (0.85 * face.glow(x, 0.17, 0.17 * squeeze, 0.14)), blush)
        for across, y in _FRECKLES:
            x, squeeze = turned(side * across, y)
            whole.spot(_mix(shade, _PLUM, 0.3), x, y, 0.02 * squeeze, 0.02, alpha=0.8 * freckles)
    centre, squeeze = turned(0, 0.32)
    if beard.any():
        across = face.x - centre
        edge = (0.21 - 0.75 * across**2 - face.y) / np.sqrt(1 + (1.5 * across) ** 2)
        face.fill(beard * face.cover(np.maximum(head, edge)), _mix(hair, _INK, 0.12))

    # The mouth: one bent ellipse, from a line to a laugh or an O.
    laugh, opened = np.clip(smile, 0, 1), np.clip(4 * mouth, 0, 1)
    rx = (0.17 + 0.07 * np.abs(smile) - 0.05 * mouth * (1 - laugh)) * squeeze
    ry, y = 0.03 + mouth * (0.12 - 0.02 * laugh), 0.32 + 0.05 * smile - 0.02 * mouth
    bend = -smile * (0.11 + 0.01 * mouth)
    whole.spot(_mix(skin, _ROSE, 0.42), centre, y + 0.01, rx + 0.015, ry + 0.03, bend)
    lips = whole.window(centre, y, rx, ry, bend)
    cover = lips.ellipse(centre, y, rx, ry, bend)
    lips.fill(cover, _PLUM)
    cover *= opened
    lips.fill(cover * lips.ellipse(centre, y + 0.9 * ry, 0.6 * rx, 0.55 * ry), _TONGUE)
    teeth = lips.ellipse(centre, y - 0.62 * ry, 0.92 * rx, 0.5 * ry, bend)
    lips.fill(cover * laugh * teeth, _WHITE)

    # Nose, glass, eyes.
    x = 1.1 * turned(0, 0.12)[0]
    whole.spot(_mix(shade, blush, 0.35), x, 0.12, 0.065, 0.045)
    whole.spot(_mix(skin, _WHITE, 0.45), x - 0.015, 0.09, 0.03, 0.025, alpha=0.8)
    worn = (who["glasses"] > 0).astype(np.float32)[:, None, None]
    square = (who["glasses"] == GLASSES.index("square"))[:, None, None]
    wink = (who["expression"] == CLASSES.index("wink"))[:, None, None]
    half = max(0.022, whole.pixel / 2)  # of the frame: like an ellipse, paler when thin
    lenses = []
    for side in (-1, 1):
        x, squeeze = turned(side * 0.215, _TOP)
        rx, ry = 0.195 * squeeze, np.where(square, np.float32(0.165), np.float32(0.195))
        lens = whole.window(x, _TOP, rx + half, ry + half)
        corner = np.where(square, np.float32(0.04), np.minimum(rx, ry))
        rim = _box(lens.x - x, lens.y - _TOP, rx, ry, corner)
        lens.fill(0.4 * worn * lens.cover(rim), _WHITE)
        lenses.append((side, lens, rim, x, rx))

        x, squeeze = turned(side * 0.205, _TOP)
        opened = np.where(wink & (side > 0), np.float32(0), eyes)
        rx, ry, y = 0.125 * squeeze, 0.155 * opened + 0.001, _TOP - 0.02 + 0.05 * (1 - opened)
        eye = whole.window(x, y, rx, ry)
        white, gaze = eye.ellipse(x, y, rx, ry), x + 0.02 * turn
        eye.fill(white, _WHITE)
        eye.fill(white * eye.ellipse(gaze, y, 0.092 * squeeze, 0.1), iris)
        eye.fill(white * eye.ellipse(gaze, y, 0.06 * squeeze, 0.068), _INK)
        eye.fill(white * eye.ellipse(gaze - 0.035, y - 0.04, 0.032, 0.034), _WHITE)
        whole.spot(
            _INK,
            x,
            y - ry - 0.07 * (1 - opened),
            1.1 * rx,
            0.032,
            bend=0.75 * ry + 0.09 * (1 - opened),
        )

    # Hair with its shadow on the forehead and its shine, then brows and frames over it.
    cap = whole.window(
        0, _TOP - 0.02, a + 0.5 * style.volume + style.curls + 0.01, b + style.volume + style.curls
    )
    u = (cap.x - 0.5 * centre) / a
    peak = np.sqrt(u * u + 0.02)
    slope = (2 * style.arch * u + style.curtain * u / peak + style.sweep) / a
    fringe = cap.y - (style.line + (style.arch * u + style.sweep) * u + style.curtain * peak)
    fringe = fringe / np.sqrt(1 + slope * slope) - 0.6 * style.curls * np.abs(np.cos(6 * u))
    skull = _ellipse(cap.x, cap.y - _TOP + 0.02, a + 0.5 * style.volume + 0.01, b + style.volume)
    skull = skull - cap.scallops(style.curls)
    cap.fill(0.45 * cap.cover(np.maximum(skull + 0.03 + 0.5 * style.volume, fringe - 0.05)), shade)
    cap.fill(cap.cover(np.maximum(skull, fringe)), hair)
    slot = _box(back.x - 0.4 * centre, back.y - 0.6, 0.9 * a, 1.3, 0.4)
    back.fill(style.locks * back.cover(np.maximum(mane, -slot)), hair)
    whole.spot(
        _mix(hair, _WHITE, 0.4),
        -0.16,
        -0.52 - 0.75 * style.volume,
        0.2,
        0.035,
        bend=0.04,
        tilt=-0.07,
        alpha=0.75,
    )
    for side in (-1, 1):
        x, squeeze = turned(side * 0.22, -0.2)
        whole.spot(
            _mix(dark, _INK, 0.15),
            x,
            -0.285 - 0.08 * lift - 0.04 * brows,
            0.135 * squeeze,
            0.032,
            bend=0.035,
            tilt=0.065 * side * plea,
        )
    frame = _mix(_INK, _PLUM, 0.3)
    for side, lens, rim, x, rx in lenses:
        lens.fill(worn * (0.022 / half) * lens.cover(np.abs(rim) - half), frame)
        arm = np.maximum(a - side * x - rx, 0.01) / 2 + 0.02
        whole.spot(frame, side * a - side * (arm - 0.02), _TOP, arm, 0.02, alpha=worn * style.ears)
    left, right = (x - side * rx for side, _, _, x, rx in lenses)
    whole.spot(
        frame,
        (left + right) / 2,
        _TOP,
        np.maximum(right - left, 0.01) / 2 + 0.02,
        0.024,
        bend=0.02,
        alpha=worn,
    )
    return (paint + 0.5).astype(np.uint8)

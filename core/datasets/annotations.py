"""What people said and drew about pictures in a program for annotating: classes and boxes, and what is cut out of them.

The files of such programs differ, and become a :class:`Sheet` each; what is done with one is the same for all. No path
that a file names is ever opened: it is compared with the names of the pictures that came along.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image

from core.catalog import UserError
from core.datasets.dataset import ONE_CLASS
from core.datasets.labels import Malformed
from core.ground import untrusted

INSIDE = 0.5  # share of a box that must lie in its picture
NAMED = 200  # things that are left out, by name, of one file
_BYTES = 2**27  # of a file of annotations, at most


# what is read in part, one or several, and what of it
PARTLY = {
    "mask": (
        "annotation with a mask (RLE)",
        "annotations with a mask (RLE)",
        "only the box is used",
    ),
    "outline": ("outline", "outlines", "only the box around it is used"),
    "turned": ("turned box", "turned boxes", "the upright box around it is used"),
}


class Box(NamedTuple):
    """A rectangle of a picture.

    Attributes:
        label: Its class.
        left, top, width, height: In pixels; where it is ``relative``, in shares of the picture's sides.
        relative: Whether it is.
    """

    label: str
    left: float
    top: float
    width: float
    height: float
    relative: bool = False


@dataclass
class Annotated:
    """What a file of annotations says of one picture.

    Attributes:
        file: As the program names it.
        labels: Classes of the whole picture.
        boxes: Boxes in it.
        size: Width and height that it had there; None where nothing says them.
        more: What else is known of it, by the name of the column.
    """

    file: str
    labels: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    size: tuple[int, int] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Sheet:
    """A file of annotations.

    Attributes:
        pictures: What it says of each.
        classes: Names in its order; also of classes that no picture has.
        refused: What is left out of it, with the reason; the first :data:`NAMED` by name.
        kinds: How much there was of what is read in part only, by :data:`PARTLY`.
        about: What an export of this program says of the whole set.
    """

    pictures: list[Annotated] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    about: dict[str, Any] = field(default_factory=dict)
    _more: Counter[str] = field(default_factory=Counter)

    def refuse(self, what: str, why: str) -> None:
        """Leaves something out, with the reason."""
        if len(self.refused) < NAMED:
            self.refused.append((what, why))
        else:
            self._more[why] += 1

    def all_refused(self) -> list[tuple[str, str]]:
        """Lists what is left out; what is not named is counted by its reason."""
        return self.refused + [(f"{count:,} more", why) for why, count in self._more.items()]


class Cut(NamedTuple):
    """A picture, or a part of one, that becomes an item.

    Attributes:
        picture: Position of the picture.
        label: Its class.
        box: Left, top, right and bottom in pixels of what is cut out; None for the whole.
        sheet: Position of the file of annotations that says it.
        size: Width and height of the picture as it was annotated.
    """

    picture: int
    label: str
    box: tuple[int, int, int, int] | None = None
    sheet: int = 0
    size: tuple[int, int] = (0, 0)


def limits(pictures: int) -> untrusted.Limits:
    """Bounds a file of annotations by the pictures that it can be about."""
    return untrusted.Limits(
        characters=min(_BYTES, 2**20 + 2**13 * pictures),
        depth=16,
        values=min(12_000_000, 50_000 + 1_000 * pictures),
        advice="Take a part of the pictures, or leave outlines out of the export.",
    )


def read(data: bytes, pictures: int) -> Any:
    """Reads JSON that nobody vouches for.

    Raises:
        Malformed: If it is none, or holds more than it may.
    """
    try:
        text = data.decode("utf-8-sig")
        return untrusted.read_json(text, "A file of annotations", limits(pictures))
    except UnicodeDecodeError as error:
        raise Malformed(f"it is no UTF-8 text (byte {error.start})") from None
    except untrusted.NoData as error:
        raise Malformed(f"it is no JSON of texts and finite numbers{error}") from None
    except UserError as error:
        said = str(error)
        raise Malformed(said[:1].lower() + said[1:].rstrip(".")) from None


def number(value: Any) -> float | None:
    """Gives a finite number as such; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def text(value: Any) -> str:
    """Gives a name on one line, at most 200 signs; empty for what is no text."""
    return " ".join(value.split())[:200] if isinstance(value, str) else ""


# --- Which pictures are meant ---------------------------------------------------------------------------------------


def finder(names: Sequence[str]) -> Callable[[str, str], int | None]:
    """Gives what finds a picture by what a file calls it.

    Args:
        names: Of the pictures.

    Returns:
        A function of the file's folder and of the path that it names: the position of the picture whose path this is
        from that folder, or from one around it, or the only one with that last part, each also without its ending; None
        where there is none.
    """
    by_path: dict[str, int] = {}
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        path = plain(name)
        head, slash, last = path.rpartition("/")
        for form in dict.fromkeys((last, last.rpartition(".")[0] or last)):
            by_path.setdefault(f"{head}{slash}{form}", i)
            by_name[form].append(i)

    def find(folder: str, path: str) -> int | None:
        path, around = plain(path), [part for part in plain(folder).split("/") if part]
        for count in range(len(around), -1, -1):
            if (whole := "/".join([*around[:count], path])) in by_path:
                return by_path[whole]
        alike = by_name.get(path.rpartition("/")[2], ())
        return alike[0] if len(alike) == 1 else None

    return find


def plain(path: str) -> str:
    """Writes a path as it is compared: slashes, small letters, one form of each letter."""
    path = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).casefold()
    return "/".join(part for part in path.split("/") if part not in ("", "."))


@dataclass
class Cuts:
    """What becomes of the pictures.

    Attributes:
        cuts: What is used, in the order of the pictures.
        refused: What is left out, with the reason.
        notes: What is worth knowing.
        more: What else is known of a picture, by its position, then by the name of the column.
        reach: Whole pictures with a box that reaches into what a cut to the middle square takes away.
    """

    cuts: list[Cut] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    reach: int = 0


def cut(
    sheets: Sequence[tuple[str, Sheet]],
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    boxes: bool,
    least: int,
) -> Cuts:
    """Turns annotations into items: pictures with the one class that they have, or a part of one for each box.

    Args:
        sheets: Each file of annotations, with its name.
        names: Of the pictures.
        sizes: Width and height of each.
        boxes: Whether each box is an item; else a picture is one, whose class is the only one in it.
        least: Pixels of the shorter side of a box, at least.
    """
    made, find = Cuts(), finder(names)
    said: dict[int, list[Annotated]] = defaultdict(list)
    told_by: dict[int, int] = {}
    for position, (file, sheet) in enumerate(sheets):
        folder = file.rpartition("/")[0]
        for about in sheet.pictures:
            i = find(folder, about.file)
            if i is None:
                made.refused.append((about.file, "is named by the annotations, and is not here"))
            else:
                said[i].append(about)
                told_by.setdefault(i, position)
                made.more.setdefault(i, about.more)
        made.refused += sheet.all_refused()
    kinds = sum((sheet.kinds for _, sheet in sheets), Counter[str]())
    for kind, (one, several, partly) in PARTLY.items():
        if count := kinds[kind]:
            made.notes.append(f"{count:,} {several if count > 1 else one}: {partly}.")
    clipped = 0
    for i, name in enumerate(names):
        if i not in said:
            made.refused.append((name, "has no annotation"))
            continue
        sides = _sides(said[i], sizes[i])
        if sides is None:
            was = next(about.size for about in said[i] if about.size)
            made.refused.append(
                (name, f"has {_by(sizes[i])} pixels, and its annotations are about {_by(was)}")
            )
        elif boxes:
            clipped += _parts(made, i, name, said[i], sides, least)
        else:
            _whole(made, i, name, said[i])
            made.reach += any(_beyond(box, sides) for about in said[i] for box in about.boxes)
    made.cuts = [one._replace(sheet=told_by[one.picture]) for one in made.cuts]
    if clipped:
        made.notes.append(
            f"{boxes_of(clipped)} {'reach' if clipped > 1 else 'reaches'} beyond the picture, and "
            f"{'were' if clipped > 1 else 'was'} cut there."
        )
    return made


def boxes_of(count: int) -> str:
    """Writes how many boxes there are."""
    return f"{count:,} box{'es' * (count != 1)}"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _sides(said: Sequence[Annotated], size: tuple[int, int]) -> tuple[int, int] | None:
    """Gives width and height as they are looked at, which a camera may have turned; None where they disagree."""
    given = {about.size for about in said if about.size is not None}
    if not given:
        return size
    if len(given) == 1:
        (one,) = given
        return one if one in (size, size[::-1]) else None
    return None


def _whole(made: Cuts, i: int, name: str, said: Sequence[Annotated]) -> None:
    labels = [*dict.fromkeys(label for about in said for label in about.labels)]
    labels = labels or [*dict.fromkeys(box.label for about in said for box in about.boxes)]
    if len(labels) == 1:
        made.cuts.append(Cut(i, labels[0]))
    elif labels:
        some = ", ".join(labels[:4]) + (" …" if len(labels) > 4 else "")
        made.refused.append((name, f"has {len(labels)} classes ({some}){ONE_CLASS}"))
    else:
        made.refused.append((name, "has no class"))


def _beyond(box: Box, sides: tuple[int, int]) -> bool:
    """Tells whether a box reaches out of the middle square of a picture by more than a pixel."""
    scale = sides if box.relative else (1, 1)
    starts, lengths = (box.left, box.top), (box.width, box.height)
    for side, start, length, by in zip(sides, starts, lengths, scale, strict=True):
        edge = (side - min(sides)) / 2
        if edge and (start * by < edge - 1 or (start + length) * by > side - edge + 1):
            return True
    return False


def _parts(
    made: Cuts,
    i: int,
    name: str,
    said: Sequence[Annotated],
    sides: tuple[int, int],
    least: int,
) -> int:
    """Adds a part for each box of a picture; gives how many were clipped."""
    listed = dict.fromkeys(box for about in said for box in about.boxes)
    if not listed:
        made.refused.append((name, "has no box"))
    clipped = 0
    for position, box in enumerate(listed, 1):
        scale = sides if box.relative else (1, 1)
        left, right = (scale[0] * x for x in (box.left, box.left + box.width))
        top, bottom = (scale[1] * y for y in (box.top, box.top + box.height))
        inner = (max(0.0, left), max(0.0, top), min(sides[0], right), min(sides[1], bottom))
        area = (right - left) * (bottom - top)
        rest = max(0.0, inner[2] - inner[0]) * max(0.0, inner[3] - inner[1])
        what = f"{name}, box {position}"
        edges = (
            math.floor(inner[0]),
            math.floor(inner[1]),
            math.ceil(inner[2]),
            math.ceil(inner[3]),
        )
        if not area > 0:
            made.refused.append((what, "has no area"))
        elif rest < INSIDE * area:
            made.refused.append((what, "lies mostly outside of its picture"))
        elif min(right - left, bottom - top) < least:
            made.refused.append((what, f"is smaller than {least} pixels"))
        else:
            clipped += rest < 0.999 * area
            made.cuts.append(Cut(i, box.label, edges, size=sides))
    return clipped


# --- Pixels ---------------------------------------------------------------------------------------------------------


def part(picture: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    """Cuts a part out of a picture, as a file without any loss."""
    out, piece = io.BytesIO(), picture.crop(box)
    if piece.mode == "F":  # PNG holds none
        piece.save(out, "TIFF")
    else:
        piece.save(out, "PNG", compress_level=1)
    return out.getvalue()

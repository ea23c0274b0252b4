"""Pictures with files of annotations beside them, as what an import reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from PIL import Image

from core.catalog import Config, UserError, knob
from core.datasets.annotations import Cut, Sheet, cut, limits, part
from core.datasets.attributes import ours, whole_names
from core.datasets.container import Container, File, Rows, Volume
from core.datasets.files import content, header, shown
from core.datasets.labels import COLUMNS, Malformed
from core.datasets.layout import role
from core.datasets.pictures import Header, Refused, upright
from core.ground.settings import settings

CUT_FROM = "cut_from"  # the column that names the picture out of which a part was cut


class BoxesConfig(Config):
    """What becomes of pictures with boxes."""

    boxes: Literal["as a whole", "a picture per box"] = knob(
        "as a whole",
        "What a picture with annotations (COCO, Label Studio) becomes: one item, whose class is the only one in it, or "
        "an item for each box. All boxes of a picture stay in one split.",
        title="Pictures with boxes",
        advanced=True,
    )
    smallest: int = knob(
        8,
        "Boxes with a shorter side are left out.",
        ge=1,
        le=1000,
        unit="px",
        title="Smallest box",
        advanced=True,
        log=True,
    )


def told(
    volume: Volume, heads: Sequence[tuple[File, bytes]], first: bytes, marks: Sequence[bytes]
) -> list[File]:
    """Lists the JSON files that begin with a sign and hold all of some words; too large ones are not searched."""
    return [
        file
        for file, head in heads
        if file.name.casefold().endswith(".json")
        and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == first
        and _holds(volume, file, marks)
    ]


def _holds(volume: Volume, file: File, marks: Sequence[bytes]) -> bool:
    most = limits(settings().max_files).characters
    try:
        data = volume.read(file, most, count=False)
    except Refused:
        return False
    return file.size > most or all(mark in data for mark in marks)


class Marked(Container):
    """Pictures whose classes and boxes lie beside them, in files of annotations.

    Args:
        volume: Where all of it lies.
        files: The files of annotations.
        config: What becomes of boxes.
        parse: Reads such a file; gives None for another kind of JSON.
        program: What wrote them, in words.

    Raises:
        UserError: If a file of annotations cannot be read, or no picture is left.
    """

    def __init__(
        self,
        volume: Volume,
        files: Sequence[File],
        config: Any,
        parse: Callable[[bytes, int], Sheet | None],
        program: str,
    ) -> None:
        self.volume, self.refused = volume, list(volume.refused)
        self.pictures: list[File] = []
        heads: list[Header] = []
        own = {file.name for file in files}
        for file in volume.files:
            try:
                if file.name not in own:
                    heads.append(header(volume, file))
                    self.pictures.append(file)
            except Refused as reason:
                self.refused.append((file.name, str(reason)))
        sheets = list(self._sheets(files, parse, program))
        names, sizes = [file.name for file in self.pictures], [head[:2] for head in heads]
        boxes = config.boxes != "as a whole"
        made = cut(sheets, names, sizes, boxes, config.smallest)
        self.refused += made.refused
        if not self.pictures:
            first = "; ".join(f"{shown(name)} {shown(why)}" for name, why in made.refused[:3])
            raise UserError(
                f"The annotations of {program} in {volume.name!r} are about pictures that are not with them: "
                f"{first or 'there is none'}. Send both together."
            )
        if not made.cuts:
            made.notes.append(
                f"Read {config.boxes}, no picture is left: choose what becomes of boxes (dataset.boxes)."
            )
        self._headers: dict[str, Header] = {}
        self._opened: tuple[str, Image.Image] | None = None
        self.files = []
        for number, one in enumerate(made.cuts):
            file, head = self.pictures[one.picture], heads[one.picture]
            if one.box is not None:
                head = Header(one.box[2] - one.box[0], one.box[3] - one.box[1], head.deep)
                file = File(f"{file.name}#{number:06d}", 4 * head.pixels, one)
            self.files.append(file)
            self._headers[file.name] = head
        used = {one.label for one in made.cuts}
        listed = dict.fromkeys(name for _, sheet in sheets for name in sheet.classes)
        split = [_split(name) if len(sheets) > 1 else "" for name, _ in sheets]
        more = [made.more[one.picture] for one in made.cuts]
        known = dict.fromkeys(name for of in more for name in of)
        columns = {name: [of.get(name) for of in more] for name in [*known][:COLUMNS]}
        about = next((sheet.about for _, sheet in sheets if sheet.about), {})
        true = whole_names({name for name in used if name}, about.get("classes", ()))
        own = ours(about, columns)
        self.rows = Rows(
            label=[true.get(one.label or "", one.label) for one in made.cuts],
            classes=tuple(about["classes"] if true else (n for n in listed if n in used)),
            split=[split[one.sheet] for one in made.cuts],
            columns=columns
            | ({CUT_FROM: [names[one.picture] for one in made.cuts]} if boxes else {}),
            notes=made.notes,
            sentence=f"the annotations of {program}",
            terms=own["terms"],
            group=CUT_FROM if boxes else own["group"],
            called="" if boxes else own["called"],
            reach=made.reach,
        )

    def close(self) -> None:
        """Closes what they lie in."""
        self.volume.close()

    def header(self, file: File) -> Header:
        """Says how large a picture or its part is."""
        return self._headers[file.name]

    def read(self, file: File, most: int, count: bool = True) -> bytes:
        """Reads a picture, or cuts a part out of one.

        Raises:
            Refused: If it cannot be read.
            UserError: If what it lies in unpacks to more than it may.
        """
        if not isinstance(file.key, Cut) or file.key.box is None:
            return self.volume.read(file, most, count)
        whole = self.pictures[file.key.picture]
        if self._opened is None or self._opened[0] != whole.name:
            data = content(self.volume, whole, count)
            self._opened = whole.name, upright(data, settings().max_megapixels, file.key.size)
        return part(self._opened[1], file.key.box)[:most]

    def _sheets(
        self, files: Sequence[File], parse: Callable[[bytes, int], Sheet | None], program: str
    ) -> Iterator[tuple[str, Sheet]]:
        for file in files:
            most = limits(len(self.pictures)).characters
            try:
                sheet = parse(self.volume.read(file, most + 1), len(self.pictures))
            except (Malformed, Refused) as why:
                raise UserError(
                    f"The annotations {shown(file.name)!r} of {program} cannot be read: {shown(str(why))}. Mend the "
                    "file, or take it out."
                ) from None
            if sheet is None:
                self.refused.append((file.name, "is JSON of another kind"))
            else:
                yield file.name, sheet


def _split(name: str) -> str:
    """Reads from the name of a file of annotations, or of the folders around it, which split it is about."""
    parts = name.rpartition(".")[0].split("/")
    return next((split for part in reversed(parts) if (split := role(part))), "")

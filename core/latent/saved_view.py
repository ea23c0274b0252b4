"""What a saved picture holds: everything that makes the view it shows, checked when it is opened again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core import jobs, runs
from core.catalog import UserError
from core.ground import untrusted, xmp
from core.ground.settings import settings

BLOCK = "simulacra.view"
LONGEST_POINT = 2**16  # numbers
BOUNDS = untrusted.Limits(characters=LONGEST_POINT * 6 + 100_000, values=2_000)
_Word = Annotated[str, Field(max_length=200)]
_Choice = bool | int | float | _Word
_Said = bool | int | float | Annotated[str, Field(max_length=1000)]  # a prompt, too
_Number = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class SavedView(BaseModel):
    """A view of a latent space; nothing else is needed to draw it again, to the pixel.

    Attributes:
        run, step: The checkpoint.
        seed: Of the samples.
        label: The class that was chosen, if any.
        sampling: The sampling parameters.
        plane: Kind of the plane, and ``choice``, what it was made with.
        x, y, span: Position on it and steps shown to each side.
        sliders: Steps along directions by name.
        page: What else the page needs to look the same.
        point: The exact point that is shown, as base64 of float32 (D + K,).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")]
    step: Annotated[int, Field(ge=0, le=10**12)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    label: Annotated[int, Field(ge=0, le=100_000)] | None = None
    sampling: Annotated[dict[_Word, _Said], Field(max_length=50)] = {}
    plane: _Word = ""
    choice: Annotated[dict[_Word, _Choice], Field(max_length=50)] = {}
    x: _Number = 0.0
    y: _Number = 0.0
    span: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 3.0
    sliders: Annotated[dict[_Word, _Number], Field(max_length=50)] = {}
    page: Annotated[dict[_Word, _Choice], Field(max_length=100)] = {}
    point: Annotated[str, Field(max_length=LONGEST_POINT * 6)] = ""

    @field_validator("x", "y", "span", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @field_validator("point")
    @classmethod
    def _finite(cls, value: str) -> str:
        try:
            numbers = np.frombuffer(base64.b64decode(value, validate=True), "<f4")
        except (binascii.Error, ValueError):
            raise ValueError("the point is not base64 of float32") from None
        if not np.isfinite(numbers).all():
            raise ValueError("the point is not finite")
        return value

    @classmethod
    def of(cls, values: Mapping[str, Any], point: Any = None) -> Self:
        """Makes a view of plain values and the point that is shown, (D + K,).

        Raises:
            UserError: If a value is not allowed.
        """
        values = dict(values)
        if point is not None:
            array = np.asarray(point.cpu() if hasattr(point, "cpu") else point, "<f4").ravel()
            values["point"] = base64.b64encode(array.tobytes()).decode()
        try:
            return cls(**values)
        except ValidationError as error:
            raise UserError(
                f"This view cannot be saved: {_problem(error)}. Go back to the middle."
            ) from None

    @property
    def numbers(self) -> np.ndarray | None:
        """The exact point, float32 (D + K,); None if it was not kept."""
        if not self.point:
            return None
        return np.frombuffer(base64.b64decode(self.point), "<f4").astype(np.float32)


def write_view(x: np.ndarray, view: SavedView, scale: int = 8) -> bytes:
    """Saves an image uint8 (C, H, W) as PNG with its view inside; each pixel becomes a square of ``scale``."""
    sheet = x.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
    sheet = np.ascontiguousarray(sheet[..., 0] if len(x) == 1 else sheet)
    text = view.model_dump_json()
    info = PngInfo()
    info.add_text(BLOCK, json.dumps({"view": text, "mark": _mark(text, sheet)}))
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, "PNG", pnginfo=info)
    return xmp.write(out.getvalue(), xmp.made_by(view.run))


def read_view(data: bytes) -> tuple[SavedView | None, str]:
    """Reads the view in a PNG; gives it and an empty sentence, or None and the sentence that says why not.

    A view is taken only if it is whole, belongs to these very pixels, and names a checkpoint that is here. It can
    hold nothing that a link could not: every value is checked again where it is used.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.width * picture.height > settings().max_megapixels * 1e6:
                return None, "The PNG is too large to look into. Drop one that was saved here."
            picture.load()
            texts: Mapping[str, Any] = getattr(picture, "text", {})
            sheet = np.asarray(picture)
    except Exception:  # a forged file can make a decoder raise anything
        return None, "This is no PNG, or it is damaged. Drop one that was saved on this page."
    if BLOCK not in texts:
        return None, (
            "The PNG carries no view: other programs leave it out when they save. Drop the file as it was "
            "downloaded from this page."
        )
    try:
        block = untrusted.read_json(texts[BLOCK], "The view in the PNG", BOUNDS)
        text, mark = block["view"], block["mark"]
        if not isinstance(text, str) or mark != _mark(text, sheet):
            return None, (
                "The view in the PNG does not belong to its pixels: one of both was changed, so it is ignored."
            )
        untrusted.read_json(text, "The view in the PNG", BOUNDS)
        view = SavedView.model_validate_json(text)
    except ValidationError as error:
        return None, f"The view in the PNG is not allowed and is ignored: {_problem(error)}."
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, "The view in the PNG cannot be read and is ignored: it is not of this program."
    try:
        run = jobs.get(view.run)
    except UserError:
        return None, (
            f"The PNG shows run {view.run}, which is not on this server, so its view is ignored."
        )
    if not runs.generates(run):
        return None, f"The PNG names {view.run}, which makes no images, so its view is ignored."
    if view.step not in runs.checkpoints(run):
        return None, (
            f"The PNG shows step {view.step:,} of {run.name}, whose checkpoint is gone, so its view is ignored."
        )
    return view, ""


def _mark(text: str, sheet: np.ndarray) -> str:
    mark = hashlib.sha256(text.encode())
    mark.update(repr(sheet.shape).encode())
    mark.update(np.ascontiguousarray(sheet).data)
    return mark.hexdigest()


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return (
        f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg'].removeprefix('Value error, ')}"
    )

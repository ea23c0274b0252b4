"""What a dataset can be made of; each file beside this one is one medium, of the file's name.

A medium has two sides. The *item* is stored, shown, exported, attacked and compared for copies. What a *model sees* may
be another thing, which ``to_model`` makes of items and ``from_model`` turns back into them; of images it is the image.
Families, features and metrics take the model's side; copies, players, exports and budgets take the item.
Torch is imported where it computes, so that listing the media costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from core.catalog import Config, Entry, Registry, UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Form = Literal["picture", "vector", "sequence", "tokens"]  # (C, H, W), (D,), (C, T), (1, T)
FORMS: tuple[Form, ...] = ("picture", "vector", "sequence")  # whose numbers may be a little larger
EVERY: tuple[Form, ...] = (*FORMS, "tokens")


def form_of(shape: Sequence[int]) -> Form:
    """Tells the form of one item, or of what a model sees of it, by its shape.

    Tokens have the shape of a sequence: that they have no order, only their medium says.
    """
    return {1: "vector", 2: "sequence"}.get(len(shape), "picture")  # type: ignore[return-value]


def _floats(x: Tensor, levels: int) -> Tensor:
    from core.tensors import to_float

    return to_float(x, levels)


def _levels(x: Tensor, levels: int) -> np.ndarray:
    from core.tensors import to_bytes

    return to_bytes(x, levels)


def _coarse(x: Tensor) -> Tensor:
    from core.tensors import coarse

    return coarse(x)


@dataclass(frozen=True, kw_only=True)
class Medium(Entry):
    """A medium; ``make(x, levels)`` draws stored items (N, …) of so many levels, as :meth:`pictures` shows them.

    Attributes:
        item, model: The forms of the two sides.
        shape: Of stored items, in words.
        fits: Tells whether items of a shape (…) are of this medium.
        describe: Says that there are so many items of a shape: ``8 grey images of 8×8 px``.
        files: Writes stored items (N, …) of so many levels as a file each, with its ``suffix`` and its ``mime`` type,
            which says how a browser shows or plays it.
        body: Makes the network of a judge: from what a model sees of a shape (…), with a width, to so many features.
        usual: The usual strength of an attack on items of a shape (…): the largest change of a number, of a range of 1.
        strength: Says in the medium's own words what a change of items (N, …) of a strength in a norm, by its name, is
            at most; None where the strength says enough.
        norms: Names of the norms that measure a change.
        source: The dataset source that imports files, and makes an item of a visitor's own.
        parts: What pages and commands offer for this medium and not for every one:
            ``inspection`` of a dataset, ``drawing`` of an item by hand, ``corruptions`` as of a camera or a scanner.
        dtype: Of stored items.
        read: Turns stored items of so many levels into float32 in [0, 1].
        write: Turns items in [0, 1] into stored ones of so many levels.
        to_model: Makes what a model sees of items, (N, …) in [0, 1] both; differentiable.
        from_model: Makes items of what a model has made.
        look: Draws what a model has made, as :meth:`Medium.pictures` does, where that needs no items; of what a medium
            has to search its items for, it is quick.
        costly: Whether a training should compute what a model sees once, and not again at each step.
        practise: Changes what a model sees, (N, …) in [0, 1], by a generator, as it may vary and mean the same: what a
            judge does not learn to look at. None where it is shown what there is.
        join: Makes one file of stored items (N, …), one after the other; None where nothing is joined.
        near: Gives the vectors of items by whose distances copies and duplicates are told, (N, P).
        sheet: How many samples a sheet of a training shows.
    """

    item: Form
    model: Form
    shape: str
    fits: Callable[[tuple[int, ...]], bool]
    describe: Callable[[int, tuple[int, ...]], str]
    files: Callable[[np.ndarray, int], list[bytes]]
    suffix: str
    mime: str
    body: Callable[[tuple[int, ...], int, int], nn.Module]
    usual: Callable[[tuple[int, ...]], float]
    strength: Callable[[Tensor, float, str], str] | None = None
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    source: str = ""
    parts: frozenset[str] = frozenset()
    dtype: str = "uint8"
    read: Callable[[Tensor, int], Tensor] = _floats
    write: Callable[[Tensor, int], np.ndarray] = _levels
    to_model: Callable[[Tensor], Tensor] = lambda x: x
    from_model: Callable[[Tensor], Tensor] = lambda x: x
    look: Callable[[Tensor], np.ndarray] | None = None
    costly: bool = False
    practise: Callable[[Tensor, Generator], Tensor] | None = None
    join: Callable[[np.ndarray], bytes] | None = None
    near: Callable[[Tensor], Tensor] = _coarse
    sheet: int = 64

    @property
    def noun(self) -> str:
        """One item, in a word: image, sound, text."""
        return self.title.lower().removesuffix("s")

    @property
    def heard(self) -> bool:
        """Whether its items are played."""
        return self.mime.startswith("audio/")

    def __reduce__(self) -> tuple[Callable[[str], Medium], tuple[str]]:
        return named, (self.name,)  # functions of a medium need not be pickled with its datasets

    def require(self, part: str) -> None:
        """Refuses what this medium does not have.

        Raises:
            UserError: With the media that have the part.
        """
        if part not in self.parts:
            able = " or ".join(medium.title.lower() for medium in media if part in medium.parts)
            raise UserError(
                f"{part.capitalize()}: not available for {self.title.lower()} yet, only for {able}. "
                "Choose a dataset of those."
            )

    def alone(self, x: np.ndarray, levels: int) -> bytes:
        """Writes one stored item (…) of so many levels as a file."""
        return self.files(np.asarray(x)[None], levels)[0]

    def pictures(self, x: np.ndarray, levels: int = 256) -> np.ndarray:
        """Draws stored items (N, …) of so many levels, uint8 (N, 1 or 3, H, W): on walls, pads, maps and sheets."""
        return self.make(np.asarray(x), levels)

    def seen(self, x: Tensor, levels: int) -> Tensor:
        """Turns stored items (N, …) of so many levels into what a model sees of them."""
        return self.to_model(self.read(x, levels))

    def kept(self, x: Tensor, levels: int = 256) -> np.ndarray:
        """Turns what a model has made, (N, …), into items as they are stored, in memory."""
        return self.write(self.from_model(x), levels)

    def drawn(self, x: Tensor) -> np.ndarray:
        """Draws items in [0, 1], (N, …), as :meth:`pictures` does."""
        return self.pictures(self.write(x, 256))

    def shown(self, x: Tensor) -> np.ndarray:
        """Draws what a model has made, (N, …) in [0, 1], as :meth:`pictures` does."""
        return self.look(x) if self.look else self.drawn(self.from_model(x))

    def items(self, x: Tensor, levels: int = 256) -> Tensor:
        """Turns what a model has made, (N, …), into the items in [0, 1] that are read once it was stored."""
        return self.stored(self.from_model(x), levels)

    def stored(self, x: Tensor, levels: int = 256) -> Tensor:
        """Turns items into what is read once they were stored."""
        import torch

        return self.read(torch.as_tensor(self.write(x, levels)), levels)


media = Registry("medium", Medium, "core.media")


def recorded(medium: str, shape: Sequence[int]) -> dict[str, Any]:
    """Says in plain values what one side of a medium is like; of images as it has been from the start."""
    if medium == "image":
        return {"channels": shape[0], "size": shape[-1]}
    return {"medium": medium, "shape": list(shape)}


def side_of(record: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Reads what :func:`recorded` gave: the medium's name, and the shape."""
    if "shape" in record:
        return record["medium"], tuple(record["shape"])
    return "image", (record["channels"], record["size"], record["size"])


def named(name: str) -> Medium:
    """Finds a medium.

    Raises:
        UserError: If there is none of that name.
    """
    return media.get(name)


def plural(form: Form) -> str:
    """Writes a form for several: ``pictures``."""
    return form if form == "tokens" else f"{form}s"


def one(form: Form) -> str:
    """Writes a form for one: ``a picture``."""
    return "a text of tokens" if form == "tokens" else f"a {form}"


@dataclass(frozen=True, kw_only=True)
class Taker(Entry):
    """An entry that is made for some forms of data: of items or of what a model sees, as its registry says.

    Attributes:
        takes: The forms.
    """

    takes: tuple[Form, ...] = ("picture",)

    def allow(self, form: Form, registry: Iterable[Taker]) -> None:
        """Refuses other forms.

        Raises:
            UserError: With those of the registry that take it.
        """
        if form not in self.takes:
            others = ", ".join(entry.name for entry in registry if form in entry.takes)
            raise UserError(
                f"{self.title} takes {' or '.join(map(plural, self.takes))}, and this is {one(form)}. "
                f"Choose from: {others or 'none yet'}."
            )

"""What the Latent space page is made of: the place that a visitor looks at, and one file per tool that starts from it.

A session keeps names and numbers only; models are shared between sessions and opened anew at each turn.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs
from core.catalog import UserError, unknown
from core.ground import sheets
from pages.parts.pad import Sheet, View

LIMIT = 6.0  # places on a plane lie within plus and minus this
WINDOWS = {  # where each kind of plane begins: centre and width
    "anchors": (0.5, 0.5, 1.8),
    "labels": (0.0, 0.0, 3.0),
}
WINDOW = (0.0, 0.0, 6.0)
MOST = 6  # directions at a time
SEPARATOR = ": "  # between the kind and the name of a direction in the session
EXACT = 16  # pixels up to which a sheet is sent without loss; larger ones only pass by
TURNS = threading.BoundedSemaphore(2)  # more decodes at once only make each of them later


@dataclass(frozen=True)
class Checkpoint:
    """Which model a visitor explores.

    Attributes:
        run, step: Id of the run, and its step.
        follows: Whether the newest one was asked for.
    """

    run: str
    step: int
    follows: bool = False


@dataclass(frozen=True)
class Choice:
    """Which images and which plane of a model a visitor explores.

    Attributes:
        seed: Of the images that planes start from.
        label: The class that is drawn; None for all in turn.
        sampling: The family's sampling parameters, as (name, value).
        kind: Of the plane, a name of :data:`core.latent.PLANES`.
        which: What the kind needs: two directions, two classes, two coordinates, three images; or names of directions.
        origin: The image of the seed that the plane goes through.
        landed: A point that it goes through instead: an own picture, or a place that was kept.
    """

    seed: int
    label: int | None
    sampling: tuple[tuple[str, Any], ...]
    kind: str = "principal"
    which: tuple[int | str, ...] = ()
    origin: int = 0
    landed: tuple[float, ...] | None = None

    @property
    def start(self) -> View:
        """Where the plane begins."""
        return View((0.0, 0.0), WINDOWS.get(self.kind, WINDOW))


def plane_key(checkpoint: Checkpoint, choice: Choice) -> str:
    """Gives the identity of a plane."""
    facts = {"run": checkpoint.run, "step": checkpoint.step, **asdict(choice)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Here:
    """The model, the plane and the place that a tool starts from; opened once for one turn."""

    def __init__(self, checkpoint: Checkpoint, choice: Choice, view: View | None = None) -> None:
        self.checkpoint, self.choice, self.view = checkpoint, choice, view or choice.start
        self.run = jobs.get(checkpoint.run)
        self.opened = runs.open_model(self.run, checkpoint.step)

    @property
    def key(self) -> str:
        """Identity of the plane."""
        return plane_key(self.checkpoint, self.choice)

    @cached_property
    def sampling(self) -> Any:
        """The family's sampling config."""
        assert self.opened.sampling is not None
        return self.opened.sampling.of(dict(self.choice.sampling), "sampling")

    @cached_property
    def space(self) -> Any:
        """The latent space; see :mod:`core.latent`."""
        from core import latent

        return latent.open_space(self.opened, self.sampling)

    @cached_property
    def usual(self) -> Any:
        """The space with the family's usual sampling: axes found in it stay where they are when a slider moves."""
        from core import latent

        return latent.open_space(self.opened)

    @cached_property
    def dataset(self) -> Any:
        """What the model was trained on."""
        return dataset_of(self.run.id, self.run)

    @cached_property
    def plane(self) -> Any:
        """The plane of the pad."""
        return plane_of(self)

    @property
    def point(self) -> Any:
        """The point under the ring, (D + K,)."""
        return self.plane.points(np.asarray([self.view.at]))[0]

    @property
    def origin(self) -> Any:
        """The point that the plane goes through, (D + K,)."""
        import torch

        if self.choice.landed is not None:
            return torch.tensor(self.choice.landed, device=self.drawn([0]).device)
        return self.drawn([self.choice.origin])[0]

    def label_of(self, image: int) -> int | None:
        """Gives the class of an image of the seed, as the grid of samples shows it."""
        if not self.opened.classes:
            return None
        return (
            self.choice.label if self.choice.label is not None else image % len(self.opened.classes)
        )

    def drawn(self, images: list[int]) -> Any:
        """Draws the points of images of the seed, (N, D + K)."""
        labels = [self.label_of(image) for image in images] if self.opened.classes else None
        return self.space.draw(images, labels, self.choice.seed)

    @property
    def name(self) -> str:
        """The run and its step, as captions write them."""
        return f"{self.run.name} {self.opened.age}"

    def facts(self) -> dict[str, Any]:
        """What a picture made here should know of itself."""
        choice = self.choice
        return {
            "run": self.checkpoint.run,
            "step": self.checkpoint.step,
            "seed": choice.seed,
            "label": choice.label,
            "sampling": dict(choice.sampling),
        }


def plane_of(here: Here) -> Any:
    """Makes the plane of a choice; core remembers the directions of a space."""
    from core import latent

    choice = here.choice
    if choice.kind == "anchors":
        return latent.anchors_plane(here.usual, here.drawn([int(i) for i in choice.which]))
    if choice.kind == "directions":
        across, down = (named(here, str(name)) for name in choice.which)
        return latent.directions_plane(here.usual, here.origin, across, down)
    first, second = (int(i) for i in choice.which)
    if choice.kind == "labels":
        return latent.labels_plane(
            here.usual, here.origin, first, second, classes=here.opened.classes
        )
    if choice.kind == "coordinates":
        return latent.coordinates_plane(here.usual, here.origin, first, second)
    return latent.principal_plane(here.usual, here.origin, (first, second))


def of_kind(here: Here, kind: str, at: Any = None) -> list[Any]:
    """Finds the directions of a kind that the model alone gives, in the order of their weight."""
    from core import latent

    if kind == "factors":
        return latent.factors(here.usual, MOST)
    if kind == "local":
        return latent.local(here.space, here.point if at is None else at, MOST)
    return latent.principal(here.usual, MOST)


def regressed(here: Here, names: tuple[str, ...]) -> list[Any]:
    """Finds the directions of labels and attributes by name; they are kept, for all visitors."""
    return _regressed((here.checkpoint.run, here.checkpoint.step, names), here)


@st.cache_resource(max_entries=64, show_spinner=False)
def _regressed(key: tuple[str, int, tuple[str, ...]], _here: Here) -> list[Any]:
    from core import latent
    from core.measure import features

    reading = features.reader(_here.dataset)
    return latent.regressed(_here.usual, _here.dataset, reading, names=list(key[2]))


def named(here: Here, name: str) -> Any:
    """Finds a direction again by its kind and name; a local one at the origin of the plane."""
    return _named(here.key, name, here)


@st.cache_resource(max_entries=64, show_spinner=False)
def _named(key: str, name: str, _here: Here) -> Any:
    kind, _, short = name.partition(SEPARATOR)
    known = kind == "known"
    found = regressed(_here, (short,)) if known else of_kind(_here, kind, _here.origin)
    for direction in found:
        if direction.name == short:
            return direction
    raise UserError(unknown("direction", short, [direction.name for direction in found]))


@st.cache_resource(max_entries=4, show_spinner=False)
def dataset_of(id: str, _run: jobs.Job) -> Any:
    """Loads the dataset that a run was trained on."""
    from core import datasets

    return datasets.load(_run.config["dataset"]["name"], _run.config["dataset"]["config"])


def window(here: Here) -> tuple[Sheet | None, dict[str, float]]:
    """Decodes the part of the plane that is looked at, unless the browser holds it already.

    Returns:
        The sheet, and how many milliseconds the model and the encoding took.
    """
    cells = here.space.side
    key = f"{here.key} {cells} {here.view.window}"
    if here.view.has == key:
        return None, {}
    content, took = _window(key, here, cells)
    return Sheet(key, content, cells, here.view.window), took


@st.cache_data(max_entries=128, show_spinner=False)
def _window(key: str, _here: Here, cells: int) -> tuple[bytes, dict[str, float]]:
    from core import latent

    x, y, width = _here.view.window
    span = width * (cells - 1) / cells / 2  # from the middle to the middle of the last cell
    plane = _here.plane  # its directions are looked for once, which is no part of decoding
    with TURNS:
        began = time.perf_counter()
        images = latent.neighbourhood(_here.space, plane, (x, y), span, cells, quick=True)
        done = time.perf_counter()
        content, _ = latent.sprite(images, cells, "png" if images.shape[-1] <= EXACT else "jpeg")
    return content, {"model": (done - began) * 1e3, "encode": (time.perf_counter() - done) * 1e3}


def image(here: Here) -> tuple[bytes, dict[str, float]]:
    """Decodes the exact image under the ring as PNG; with the milliseconds that the model and the encoding took."""
    point = here.point
    with TURNS:
        began = time.perf_counter()
        x = here.space.image(point)
        done = time.perf_counter()
    content = sheets.png(x[None], 1)
    return content, {"model": (done - began) * 1e3, "encode": (time.perf_counter() - done) * 1e3}


def land(here: Here, point: Any, name: str) -> None:
    """Lets the pad begin at a point of this model; call it from a callback."""
    st.session_state["latent.landed"] = {
        "run": here.checkpoint.run,
        "point": [float(value) for value in point],
        "name": name,
    }
    st.session_state.pop("latent.was", None)
    st.rerun("latent.explore")


def save(
    label: str, make: Any, name: str, *, key: str, mime: str = "image/png", **options: Any
) -> None:
    """Offers a file, which is made when it is asked for."""
    st.download_button(
        label,
        make,
        name,
        mime,
        key=key,
        icon=":material/download:",
        on_click="ignore",
        help=options.pop("help", "PNG, with its settings inside."),
        **options,
    )


def live(x: np.ndarray, slot: Any, *, columns: int, scale: int, caption: str = "") -> None:
    """Shows images for the moment while something is computed, uint8 (N, C, H, W)."""
    from pages.parts.component import data_url

    slot.image(data_url(sheets.png(x, columns, scale=scale, gap=2)), caption=caption or None)

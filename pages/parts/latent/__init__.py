"""The parts of the Latent space page: the spot that a visitor looks at, and one file per tool that starts from it.

A session keeps names and numbers only; models are shared between sessions and opened anew at each rerun.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs
from core.catalog import UserError, unknown
from core.ground import sheets, xmp
from pages.parts import show
from pages.parts.pad import Sheet, View

LIMIT = 6.0  # positions on a plane lie within plus and minus this
WINDOWS = {  # where each kind of plane begins: centre and width
    "anchors": (0.5, 0.5, 1.8),
    "labels": (0.0, 0.0, 3.0),
    "prompts": (0.0, 0.5, 3.0),
}
WINDOW = (0.0, 0.0, 6.0)
PLACES = {
    "labels": (-1.0, 0.0),
    "prompts": (-1.0, 0.0),
}  # where the ring begins, if not in the middle: on a class, not between two
PASSING = (
    "labels",
    "anchors",
    "prompts",
)  # kinds of planes that do not go through a point of one's choice
SEPARATOR = ": "  # between the kind and the name of a direction in the session
STOPS = 6  # of a walk, the ring among them
SECONDS = 12.0  # that a walk takes
EXACT = 16  # pixels per side up to which images are sent without loss
TURNS = threading.BoundedSemaphore(2)  # more decodes at once would only slow each other down


@dataclass(frozen=True)
class Checkpoint:
    """Which model a visitor explores.

    Attributes:
        run, step: Id of the run, and its step.
        follows: Whether it is the usual one, so that a newer one takes its place.
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
        which: What the kind needs: numbers of two directions, two classes, two coordinates or three images; or the
            names of two directions.
        origin: The image of the seed that the plane goes through.
        landed: A point that it goes through instead, such as that of an uploaded picture.
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
        return View(PLACES.get(self.kind, (0.0, 0.0)), WINDOWS.get(self.kind, WINDOW))


def plane_key(checkpoint: Checkpoint, choice: Choice) -> str:
    """Gives the identity of a plane."""
    identity = {"run": checkpoint.run, "step": checkpoint.step, **asdict(choice)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Spot:
    """The model, the plane and the position on it that a tool starts from; opened once per rerun."""

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
        """The space with the family's usual sampling: its directions do not change when a sampling slider moves."""
        from core import latent
        from core.models import Prompts

        if isinstance(self.opened.model, Prompts):  # whose texts are in the sampling
            return self.space
        return latent.open_space(self.opened)

    @cached_property
    def dataset(self) -> Any:
        """What the model was trained on."""
        from core import latent

        return latent.trained_on(self.run)

    def prepare(self) -> None:
        """Opens the dataset, with a bar while it is made for the first time; whoever needs one that is gone says so."""
        from core import latent

        bar = show.Bar()
        try:
            self.dataset = latent.trained_on(self.run, bar)
        except UserError:
            pass
        finally:
            bar.close()

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

    @property
    def stops(self) -> Any:
        """The points that a walk goes through, the ring first, (N, D + K)."""
        import torch

        return torch.cat([self.point[None], self.drawn(list(range(1, STOPS)))])

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

    def metadata(self) -> dict[str, Any]:
        """Gives the settings that travel inside a saved picture."""
        choice = self.choice
        return {
            "run": self.checkpoint.run,
            "step": self.checkpoint.step,
            "seed": choice.seed,
            "label": choice.label,
            "sampling": dict(choice.sampling),
        }


def plane_of(spot: Spot) -> Any:
    """Makes the plane of a choice."""
    from core import latent

    choice = spot.choice
    if choice.kind == "anchors":
        return latent.anchors_plane(spot.usual, spot.drawn([int(i) for i in choice.which]))
    if choice.kind == "prompts":
        other = spot.drawn([int(choice.which[0])])[0]
        return latent.prompts_plane(spot.usual, spot.origin, other)
    if choice.kind == "directions":
        across, down = (str(name) for name in choice.which)
        first = named(spot, across)
        second = first if down == across else named(spot, down)
        return latent.directions_plane(spot.usual, spot.origin, first, second)
    first, second = (int(i) for i in choice.which)
    if choice.kind == "labels":
        return latent.labels_plane(
            spot.usual, spot.origin, first, second, classes=spot.opened.classes
        )
    if choice.kind == "coordinates":
        return latent.coordinates_plane(spot.usual, spot.origin, first, second)
    return latent.principal_plane(spot.usual, spot.origin, (first, second))


def of_kind(spot: Spot, kind: str, at: Any = None) -> list[Any]:
    """Finds the directions of a kind that needs no labels, the most important first."""
    from core import latent

    if kind == "factors":
        return latent.factors(spot.usual)
    if kind == "local":
        return latent.local(spot.space, spot.point if at is None else at)
    if kind == "named":
        return list(latent.named(spot.usual).values())
    return latent.principal(spot.usual)


def regressed(spot: Spot, names: tuple[str, ...]) -> list[Any]:
    """Finds the directions of labels and attributes by name, once for all visitors."""
    return _regressed(spot.checkpoint.run, spot.checkpoint.step, names, spot)


@st.cache_resource(max_entries=64, show_spinner=False)
def _regressed(run: str, step: int, names: tuple[str, ...], _spot: Spot) -> list[Any]:
    from core import latent
    from core.measure import features

    reader = features.reader(_spot.dataset)
    return latent.regressed(_spot.usual, _spot.dataset, reader, names)


def named(spot: Spot, name: str) -> Any:
    """Finds a direction again by its kind and name, or by the id that it has since a visitor named it.

    A local one is that of the origin of the plane.
    """
    from core import latent

    known = latent.named(spot.usual)
    kind, _, id = name.partition(SEPARATOR)
    if kind == "named":
        if id not in known:
            raise UserError(
                f"No direction of {spot.run.name} has the id {id!r}: its name was cleared, or it was named in another "
                "home. Choose another kind of plane."
            )
        return known[id]
    direction = _named(spot.key, name, spot)
    found = latent.id_of(direction, known)
    return replace(direction, name=known[found].name) if found else direction


@st.cache_resource(max_entries=64, show_spinner=False)
def _named(key: str, name: str, _spot: Spot) -> Any:
    kind, _, short = name.partition(SEPARATOR)
    directions = (
        regressed(_spot, (short,)) if kind == "known" else of_kind(_spot, kind, _spot.origin)
    )
    for direction in directions:
        if direction.name == short:
            return direction
    raise UserError(unknown("direction", short, [direction.name for direction in directions]))


def window(spot: Spot) -> tuple[Sheet | None, dict[str, float]]:
    """Decodes the visible part of the plane, unless the browser holds it already.

    Returns:
        The sheet, and how many milliseconds the model and the encoding took.
    """
    cells = spot.space.side
    key = f"{spot.key} {cells} {spot.view.window}"
    if spot.view.has == key:
        return None, {}
    content, took = _window(key, spot, cells)
    return Sheet(key, content, cells, spot.view.window), took


@st.cache_data(max_entries=128, show_spinner=False)
def _window(key: str, _spot: Spot, cells: int) -> tuple[bytes, dict[str, float]]:
    from core import latent

    x, y, width = _spot.view.window
    span = width * (cells - 1) / cells / 2  # from the middle to the middle of the last cell
    plane = _spot.plane  # before the clock starts: its directions are computed only once
    with TURNS:
        began = time.perf_counter()
        images = latent.neighbourhood(_spot.space, plane, (x, y), span, cells, quick=True)
        done = time.perf_counter()
        content = written(images, cells)
    return content, {"model": (done - began) * 1e3, "encode": (time.perf_counter() - done) * 1e3}


def written(images: Any, cells: int) -> bytes:
    """Writes images, uint8 (N, C, H, W), as a sheet for the browser; large ones with loss, so that it travels fast."""
    return (sheets.png if images.shape[-1] <= EXACT else sheets.jpeg)(images, cells)


def walk(spot: Spot) -> Sheet | None:
    """Decodes a walk from the ring and back, where one is wanted."""
    if not spot.view.walks:
        return None
    key, cells = f"{spot.key} walk {spot.view.at}", spot.space.side
    return Sheet(key, _walk(key, spot, cells), cells, spot.view.window)


@st.cache_data(max_entries=32, show_spinner=False)
def _walk(key: str, _spot: Spot, cells: int) -> bytes:
    with TURNS:
        return written(_spot.space.images(moments(_spot), quick=True), cells)


def moments(spot: Spot) -> Any:
    """Gives the points of a walk from the ring through images of the seed and back, one per cell of its sheet."""
    from core import latent

    return latent.walk(spot.space, spot.stops, spot.space.side**2)


def image(spot: Spot) -> tuple[bytes, dict[str, float]]:
    """Decodes the exact image under the ring as PNG; with the milliseconds that the model and the encoding took."""
    point = spot.point
    with TURNS:
        began = time.perf_counter()
        x = spot.space.image(point)
        done = time.perf_counter()
    content = sheets.png(x[None], 1, mark=xmp.made_by(spot.run.id))
    return content, {"model": (done - began) * 1e3, "encode": (time.perf_counter() - done) * 1e3}


def land(spot: Spot, point: Any, name: str, *, pressed: bool = True, **controls: Any) -> None:
    """Lets the pad begin at a point of this model; ``pressed`` and controls as for :func:`arrive`."""
    st.session_state["latent.landed"] = {
        "run": spot.checkpoint.run,
        "point": [float(value) for value in point],
        "name": name,
    }
    arrive(pressed=pressed, **controls)


def arrive(*, pressed: bool = True, **controls: Any) -> None:
    """Lets the pad begin anew, on a plane that goes through what was chosen.

    Args:
        pressed: Whether it is called from a callback, and not from what a part of the page draws.
        controls: Values of the page's controls, by what follows ``latent.`` in their keys. They are set when the
            controls are drawn: what a callback sets itself is lost when it asks for another run.
    """
    if st.session_state.get("latent.plane") in PASSING:
        controls = {"plane": through()} | controls
    st.session_state["latent.next"] = {f"latent.{name}": x for name, x in controls.items()}
    st.session_state.pop("latent.was", None)
    if pressed:
        st.rerun("latent.explore")
    else:  # where a part is drawn, Streamlit runs that part again or all
        st.rerun()


def through() -> str:
    """Names a kind of plane that goes through any point: main directions, or what is free where they are dear."""
    return "coordinates" if st.session_state.get("latent.costly") else "principal"


def take_next() -> None:
    """Sets the controls as :func:`arrive` was told, before they are drawn."""
    st.session_state.update(st.session_state.pop("latent.next", {}))


def save(
    label: str,
    make: Any,
    name: str,
    *,
    key: str,
    mime: str = "image/png",
    help: str = "PNG, with its settings inside.",
) -> None:
    """Offers a file, which is made when the button is pressed."""
    st.download_button(
        label, make, name, mime, key=key, icon=":material/download:", on_click="ignore", help=help
    )

"""What the Latent space page is made of: the place that a visitor looks at, and one file per tool that starts from it.

A session keeps names and numbers only; models are shared between sessions and opened anew at each turn.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs, sheets
from pages.ui import shell
from pages.ui.pad import Sheet, View

LIMIT = 6.0  # places on a plane lie within plus and minus this
WINDOWS = {  # where each kind of plane begins: centre and width
    "anchors": (0.5, 0.5, 1.8),
    "labels": (0.0, 0.0, 3.0),
}
WINDOW = (0.0, 0.0, 6.0)
EXACT = 16  # pixels up to which a sheet is sent without loss; larger ones only pass by
TURNS = threading.BoundedSemaphore(2)  # more decodes at once only make each of them later


@dataclass(frozen=True)
class Choice:
    """What a visitor explores.

    Attributes:
        run, step: The checkpoint.
        seed: Of the images that planes start from.
        label: The class that is drawn; None for all in turn.
        sampling: The family's sampling parameters, as (name, value).
        kind: Of the plane, a name of :data:`core.latent.PLANES`.
        which: What the kind needs: two directions, two classes, two coordinates, three images; or names of directions.
        origin: The image of the seed that the plane goes through.
        landed: A point that it goes through instead: an own picture, or a place that was kept.
        follows: Whether the newest checkpoint was asked for.
    """

    run: str
    step: int
    seed: int
    label: int | None
    sampling: tuple[tuple[str, Any], ...]
    kind: str = "principal"
    which: tuple[int | str, ...] = ()
    origin: int = 0
    landed: tuple[float, ...] | None = None
    follows: bool = False

    @property
    def key(self) -> str:
        """Identity of the plane."""
        facts = asdict(replace(self, follows=False))
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def start(self) -> View:
        """Where the plane begins."""
        return View((0.0, 0.0), WINDOWS.get(self.kind, WINDOW))


class Here:
    """The model, the plane and the place that a tool starts from; lives for one turn."""

    def __init__(self, choice: Choice, view: View) -> None:
        self.choice, self.view = choice, view
        self.run = jobs.get(choice.run)
        self.opened = runs.open_model(self.run, choice.step)

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
        return f"{self.run.name} after {self.opened.images:,} images (step {self.opened.step:,})"

    def facts(self) -> dict[str, Any]:
        """What a picture made here should know of itself."""
        choice = self.choice
        return {
            "run": choice.run,
            "step": choice.step,
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
        from pages.ui.explore import directions

        across, down = (directions.named(here, str(name)) for name in choice.which)
        return latent.directions_plane(here.usual, here.origin, across, down)
    first, second = (int(i) for i in choice.which)
    if choice.kind == "labels":
        return latent.labels_plane(
            here.usual, here.origin, first, second, classes=here.opened.classes
        )
    if choice.kind == "coordinates":
        return latent.coordinates_plane(here.usual, here.origin, first, second)
    return latent.principal_plane(here.usual, here.origin, (first, second))


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
    key = f"{here.choice.key} {cells} {here.view.window}"
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
        "run": here.choice.run,
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
    from pages.ui.component import data_url

    slot.image(data_url(sheets.png(x, columns, scale=scale, gap=2)), caption=caption or None)


def caption_of(facts: Mapping[str, Any]) -> str:
    """Writes names with numbers as one line."""
    return shell.plain(" · ".join(f"{name} {value}" for name, value in facts.items()))

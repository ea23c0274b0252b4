"""From a sketch: what is drawn here becomes the image that a model was trained to make of it."""

from __future__ import annotations

import secrets
import time
from typing import Any

import numpy as np
import streamlit as st

from core.ground import sheets, xmp
from core.ground.settings import settings
from pages.parts import shell, show
from pages.parts.canvas import canvas
from pages.parts.latent import TURNS, Spot, save

WAYS = {"start": "Held-out", "empty": "Empty sheet", "upload": "Upload"}


def fits(opened: Any) -> bool:
    """Tells whether a model turns a second picture into an image."""
    from core import latent

    return latent.renders(opened.model)


def draw(spot: Spot) -> None:
    """Draws the sheet, and beside it what the model makes of what is on it."""
    from core import latent

    word = latent.means(spot.opened, spot.dataset)
    source, result = st.columns([1.5, 2], gap="medium")
    known = data = None
    with source:
        way = shell.view("Where it comes from", "latent.sketch", WAYS, label_visibility="collapsed")
        if way == "start":
            known = begun(spot, word)
        if way == "upload":
            data = uploaded(spot, word)
        else:
            paper, pencils = _pencils(spot.checkpoint.run, spot.checkpoint.step, spot)
            drawing = canvas(
                key="latent.sketch.canvas",
                alt=f"A sheet to draw {one(word)} on; the image is made of it beside",
                side=288,
                ground=paper,
                inks=pencils,
                brush=1.1 / spot.dataset.size,  # as thin as the lines that it has learned from
                under=None if known is None else _bytes(known.condition),
            )
            data = None if drawing is None else drawing[1]
    with result:
        if way == "upload" and data is None:
            st.caption("After the upload the image is made of it, here.")
            return
        if data is None and known is None:
            st.caption(
                f"Draw with the pencils, or begin with the {word} of an image that the model has not seen: after every "
                "stroke the image is made anew."
            )
            return
        present(spot, word, known, data)


def one(word: str) -> str:
    """Puts an article before what the model is told, unless there are several.

    >>> one("sketch"), one("edges")
    ('a sketch', 'edges')
    """
    return word if word.endswith("s") else f"a {word}"


def begun(spot: Spot, word: str) -> Any:
    """Asks which held-out image the sheet begins with, and renders it; None where there is none."""
    held_out = spot.dataset.splits["test"]
    if not len(held_out):
        st.caption(f"{shell.plain(spot.dataset.name)} has no held-out images to begin with.")
        return None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.number_input(
            f"Held-out {word}",
            0,
            len(held_out) - 1,
            0,
            key="latent.sketch.start",
            bind="query-params",
            width=165,
            help=f"Its place among the images that the model was not trained on, 0 to {len(held_out) - 1:,}. Draw over "
            "it, rub out, change it.",
        )
        st.button(
            "Another",
            key="latent.sketch.dice",
            icon=":material/casino:",
            on_click=lambda: st.session_state.update(
                {"latent.sketch.start": secrets.randbelow(len(held_out))}
            ),
            help="One of them, by chance.",
        )
    return _held_out(spot.key, int(held_out[int(number)]), spot)


def uploaded(spot: Spot, word: str) -> bytes | None:
    """Takes a file: what the model is told, or an image of which it makes that itself."""
    told = spot.opened.model.told
    file = st.file_uploader(
        f"Your {word}, as a picture"
        if told
        else f"An image, of which the model makes the {word} itself",
        key="latent.sketch.upload",
        type=["png", "jpg", "jpeg", "webp", "bmp"],
        max_upload_size=min(20, settings().upload_mb),
        help="Its middle square is taken and scaled to the size that the model knows.",
    )
    return None if file is None else file.getvalue()


def present(spot: Spot, word: str, known: Any, data: Any) -> None:
    """Shows what the model is told, what it makes of it, and the truth where it is known."""
    from core import latent

    began = time.perf_counter()
    rendered = known
    if data is not None:
        with TURNS:
            rendered = latent.drawn(
                spot.opened, spot.dataset, data, spot.sampling, spot.choice.seed
            )
    took = (time.perf_counter() - began) * 1e3
    medium = spot.opened.medium
    image = _bytes(rendered.image)
    tiles = {f"the {word}, as the model sees it": _bytes(rendered.condition)}
    tiles["what it makes of it"] = image
    if known is not None:
        tiles["the true image" if data is None else "the true image of the start"] = _bytes(
            known.truth
        )
    show.pictures(
        np.stack([_wide(tile, medium.pictures(image[None]).shape[1]) for tile in tiles.values()]),
        columns=len(tiles),
        key="latent.sketch.made",
        alt=", ".join(tiles),
        titles=list(tiles),
        max_height=230,
        max_zoom=24,
    )
    said = " · ".join(tiles)
    if data is None:
        said += f". Mean squared error {rendered.error:.4f}"
    else:
        said += f". Made in {took:.0f} ms"
    if not _varies(spot.checkpoint.run, spot.checkpoint.step, spot):
        gives = "give" if word.endswith("s") else "gives"
        said += f". The same {word} always {gives} the same image: the model has no noise, so no seed makes a variant"
    st.caption(shell.plain(f"{said[0].upper()}{said[1:]}."))
    metadata = spot.metadata() | {"condition": word}
    if data is None:
        metadata |= {"start": int(st.session_state["latent.sketch.start"])}
    save(
        "Image",
        lambda: sheets.png(image[None], 1, metadata, mark=xmp.made_by(spot.run.id)),
        f"{spot.run.id}-from-{word.replace(' ', '-')}.png",
        key="latent.sketch.save",
    )


def _bytes(x: np.ndarray) -> np.ndarray:
    return (x * 255).round().astype(np.uint8)


def _wide(tile: np.ndarray, channels: int) -> np.ndarray:
    """Lets a grey picture stand beside coloured ones."""
    return np.repeat(tile, 3, 0) if len(tile) == 1 else tile


@st.cache_resource(max_entries=64, show_spinner=False)
def _held_out(key: str, index: int, _spot: Spot) -> Any:
    from core import latent

    with TURNS:
        return latent.held_out(
            _spot.opened, _spot.dataset, index, _spot.sampling, _spot.choice.seed
        )


@st.cache_resource(max_entries=64, show_spinner=False)
def _varies(run: str, step: int, _spot: Spot) -> bool:
    from core import latent

    with TURNS:
        return latent.varies(_spot.opened)


@st.cache_resource(max_entries=64, show_spinner=False)
def _pencils(run: str, step: int, _spot: Spot) -> tuple[str, list[str]]:
    from core import latent

    some = latent.sketches(_spot.opened, _spot.dataset)
    return latent.ground(some), latent.inks(some)

"""Your own image in the space: uploaded, drawn, or taken from the dataset; then found by the model, and on the pad."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground.settings import settings
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.canvas import canvas
from pages.parts.latent import Here, land, live

WAYS = {"draw": "Draw", "upload": "Upload", "dataset": "Dataset"}


def ways(here: Here) -> list[str]:
    """Lists where an item of this medium can come from."""
    offered = {
        "draw": "drawing" in here.dataset.medium.parts,
        "upload": datasets.reader(here.dataset) is not None,
    }
    return [way for way in WAYS if offered.get(way, True)]


def draw(here: Here) -> None:
    """Takes an image, and shows what the model sees and what it makes of it."""
    source, result = st.columns([1.2, 1.8], gap="medium")
    offered = ways(here)
    with source:
        way = st.segmented_control(
            "Where it comes from",
            offered,
            default=offered[0],
            key="latent.mine",
            required=True,
            bind="query-params",
            format_func=lambda name: WAYS[name],
            label_visibility="collapsed",
        )
        taken = {"draw": drawn, "upload": uploaded, "dataset": chosen}[
            way if way in offered else offered[0]
        ](here)
        label = class_of(here)
    with result:
        if taken is None:
            st.caption(
                "Draw, upload or choose an image: the model looks for the point that makes it, "
                "and the pad goes there."
            )
            return
        present(here, *taken, label)


def drawn(here: Here) -> tuple[str, Any, int | None] | None:
    """Takes a drawing."""
    got = canvas(
        key="latent.canvas",
        alt="A dark sheet to draw on with light ink; hold Shift to rub out",
        brush=0.09,
    )
    return None if got is None else ("your drawing", got[1], None)


def uploaded(here: Here) -> tuple[str, Any, int | None] | None:
    """Takes a file."""
    file = st.file_uploader(
        "A file",
        type=list(source.suffixes) if (source := datasets.reader(here.dataset)) else None,
        key="latent.upload",
        max_upload_size=min(20, settings().upload_mb),
        help="It is turned upright, cut to a square and scaled to the size that the model knows.",
    )
    return None if file is None else ("your picture", file.getvalue(), None)


def chosen(here: Here) -> tuple[str, Any, int | None] | None:
    """Takes an image of the dataset that the model has not seen."""
    held = here.dataset.splits["test"]
    number = int(
        st.number_input(
            f"Held-out image (0 to {len(held) - 1})",
            value=0,
            step=1,
            key="latent.index",
            bind="query-params",
            help="The model was not trained on these.",
        )
    )
    if not 0 <= number < len(held):
        raise UserError(
            f"The held-out image must be from 0 to {len(held) - 1}, got {number}. Choose another."
        )
    index = int(held[number])
    label = None if here.dataset.y is None else int(here.dataset.y[index])
    item = datasets.PreparedItem(np.array(here.dataset.x[index]), here.dataset)
    return f"image {index} of {here.dataset.name}", item, label


def class_of(here: Here) -> int | None:
    """Asks what the image is, for a model that was told so when it learned."""
    if not here.opened.classes:
        return None
    return st.selectbox(
        "It shows",
        range(len(here.opened.classes)),
        index=None,
        key="latent.mine.class",
        format_func=lambda i: here.opened.classes[i],
        placeholder="What its nearest images show",
        help="The model draws what it is told to; the wrong class gives a poor likeness.",
    )


def present(here: Here, name: str, content: Any, known: int | None, label: int | None) -> None:
    """Finds the point of an image, once, and shows how near the model comes."""
    from core import latent

    raw = content.x if isinstance(content, datasets.PreparedItem) else content
    key = hashlib.sha256(
        bytes(raw) + repr((here.checkpoint.run, here.checkpoint.step, label)).encode()
    ).hexdigest()
    done = st.session_state.get("latent.found")
    if done is None or done["key"] != key:
        done = {
            "key": key,
            "name": name,
            **find(here, name, content, label if label is not None else known),
        }
        st.session_state["latent.found"] = done
    tiles = {
        "what the model sees": done["seen"],
        "what it makes of it": done["image"],
        "difference": latent.difference(done["seen"], done["image"]),
    }
    show.pictures(
        np.stack(list(tiles.values())),
        columns=3,
        key="latent.found",
        alt=", ".join(tiles),
        titles=list(tiles),
        max_height=190,
        max_zoom=20,
    )
    st.caption(
        " · ".join(tiles)
        + f". Mean squared error {done['error']:.4f}, found in {done['seconds']:.1f} s"
        + (
            f" as class {shell.plain(here.opened.classes[done['label']])}"
            if done["label"] is not None
            else ""
        )
        + "."
    )
    for note in done["notes"]:
        st.caption(shell.plain(note))
    st.button(
        "Go there on the pad",
        key="latent.mine.land",
        type="primary",
        icon=":material/my_location:",
        on_click=land,
        args=(here, done["point"], name),
    )


def find(here: Here, name: str, content: Any, label: int | None) -> dict[str, Any]:
    """Encodes or searches, showing the picture improve, and gives plain numbers."""
    from core import latent

    slot = st.empty()
    began = time.perf_counter()
    prepared = (
        content
        if isinstance(content, datasets.PreparedItem)
        else datasets.prepare(content, here.dataset)
    )
    if not here.opened.classes:
        label = None
    elif label is None:
        guessed = latent.guess(here.dataset, prepared.seen)
        label = None if guessed is None else int(guessed[0])
    last, told = None, 0.0
    for step in latent.find(here.space, prepared.seen, label):
        last = step
        if time.perf_counter() - told > 0.12:
            told = time.perf_counter()
            live(
                np.stack([prepared.picture, step.image]),
                slot,
                columns=2,
                scale=max(1, 120 // step.image.shape[-1]),
                caption=f"Looking for it: {percent(step.done, 0)}, error {step.error:.4f}",
            )
    slot.empty()
    assert last is not None
    return {
        "seen": prepared.picture,
        "image": here.space.image(last.point),
        "point": [float(value) for value in last.point],
        "error": float(last.error),
        "seconds": time.perf_counter() - began,
        "notes": list(prepared.notes),
        "label": label,
    }

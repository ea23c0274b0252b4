"""Your own image in the latent space: drawn, uploaded or taken from the dataset, then encoded or searched for."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground import sheets
from core.ground.settings import settings
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.canvas import canvas
from pages.parts.component import data_url
from pages.parts.latent import TURNS, Spot, land

WAYS = {
    "pad": "Pad",
    "draw": "Draw",
    "upload": "Upload",
    "camera": "Camera",
    "record": "Microphone",
    "dataset": "Dataset",
}


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture that a visitor has taken.

    Attributes:
        name: What it is, in words.
        content: A file, a drawing, or an item that is prepared already.
        label: Its class, where it is known.
        dataset: Whose items it is prepared like.
    """

    name: str
    content: bytes | np.ndarray | datasets.PreparedItem = field(repr=False)
    label: int | None
    dataset: datasets.Dataset = field(repr=False)

    @property
    def digest(self) -> bytes:
        """Of the content."""
        raw = self.content.x if isinstance(self.content, datasets.PreparedItem) else self.content
        return hashlib.sha256(bytes(raw)).digest()

    def prepared(self) -> datasets.PreparedItem:
        """Prepares it as the items of the dataset were; raises as :func:`core.datasets.prepare`."""
        if isinstance(self.content, datasets.PreparedItem):
            return self.content
        return datasets.prepare(self.content, self.dataset)


def ways(spot: Spot, pad: bool = False) -> list[str]:
    """Lists where an item of this medium can come from; ``pad``: also from under the ring."""
    reader = datasets.reader(spot.dataset)
    offered = {
        "pad": pad,
        "draw": "drawing" in spot.dataset.medium.parts,
        "upload": reader is not None,
        "camera": reader is not None and "jpg" in reader.suffixes,
        "record": reader is not None and "wav" in reader.suffixes,
    }
    return [way for way in WAYS if offered.get(way, True)]


def take(spot: Spot, key: str = "latent.mine", *, pad: bool = False) -> Taken | None:
    """Asks for a picture: drawn, uploaded, photographed, of the dataset or, with ``pad``, the one under the ring.

    Args:
        spot: Where the visitor is.
        key: Of the choice where it comes from, in the session and in the address; what is drawn or uploaded is shared
            by all tools that ask.
        pad: Whether the picture under the ring is offered, as the first.
    """
    offered = ways(spot, pad)
    way = st.segmented_control(
        "Where it comes from",
        offered,
        default=offered[0],
        key=key,
        required=True,
        bind="query-params",
        format_func=lambda name: WAYS[name],
        label_visibility="collapsed",
    )
    return {
        "pad": ringed,
        "draw": drawn,
        "upload": uploaded,
        "camera": photographed,
        "record": recorded,
        "dataset": chosen,
    }[way if way in offered else offered[0]](spot)


def draw(spot: Spot) -> None:
    """Takes an image, and shows it as the model sees it and as the model makes it."""
    source, result = st.columns([1.45, 1.55], gap="medium")
    with source:
        taken = take(spot)
        label = class_of(spot)
    with result:
        if taken is None:
            st.caption(
                "Draw, upload or choose an image: the model looks for the point that makes it, "
                "and the pad goes there."
            )
            return
        present(spot, taken, label)


def ringed(spot: Spot) -> Taken:
    """Takes the picture under the ring."""
    import torch

    space, point = spot.space, spot.space.checked(spot.point)
    with TURNS, torch.no_grad():
        x = space.medium.kept(space.decode(point), spot.dataset.levels)[0]
    label = None
    if space.classes:
        shares = space.split(point)[1]
        assert shares is not None
        label = int(shares[0].argmax())
    item = datasets.PreparedItem(x, spot.dataset)
    return Taken("the picture under the ring", item, label, spot.dataset)


def drawn(spot: Spot) -> Taken | None:
    """Takes a drawing."""
    drawing = canvas(
        key="latent.canvas",
        alt="A dark sheet to draw on with light ink; hold Shift to rub out",
    )
    return None if drawing is None else Taken("your drawing", drawing[1], None, spot.dataset)


def uploaded(spot: Spot) -> Taken | None:
    """Takes a file."""
    file = st.file_uploader(
        "A file",
        type=list(source.suffixes) if (source := datasets.reader(spot.dataset)) else None,
        key="latent.upload",
        max_upload_size=min(20, settings().upload_mb),
        help="It is turned upright, cut to a square and scaled to the size that the model knows."
        if "drawing" in spot.dataset.medium.parts
        else "What is longer than an item of the dataset loses the rest.",
    )
    return None if file is None else Taken("your picture", file.getvalue(), None, spot.dataset)


def photographed(spot: Spot) -> Taken | None:
    """Takes a picture with the camera."""
    photo = st.camera_input(
        "A picture of the camera",
        key="latent.camera",
        resolution="480p",
        label_visibility="collapsed",
        help="Its middle square is taken; browsers give the camera to pages of this computer, or over https.",
    )
    return None if photo is None else Taken("your picture", photo.getvalue(), None, spot.dataset)


def recorded(spot: Spot) -> Taken | None:
    """Takes a recording of the microphone."""
    sound = st.audio_input(
        "A recording of the microphone",
        key="latent.microphone",
        label_visibility="collapsed",
        help="Its loudest part is taken; browsers give the microphone to pages of this computer, or over https.",
    )
    return None if sound is None else Taken("your recording", sound.getvalue(), None, spot.dataset)


def chosen(spot: Spot) -> Taken | None:
    """Takes an image of the dataset that the model has not seen."""
    held_out = spot.dataset.splits["test"]
    number = int(
        st.number_input(
            f"Held-out image (0 to {len(held_out) - 1})",
            value=0,
            step=1,
            key="latent.index",
            bind="query-params",
            help="Its place among the images that the model was not trained on.",
        )
    )
    if not 0 <= number < len(held_out):
        raise UserError(
            f"The held-out image must be from 0 to {len(held_out) - 1}, got {number}. Choose another."
        )
    index = int(held_out[number])
    st.caption(f"That is image {index:,} of {shell.plain(spot.dataset.name)}.")
    label = None if spot.dataset.y is None else int(spot.dataset.y[index])
    item = datasets.PreparedItem(np.array(spot.dataset.x[index]), spot.dataset)
    return Taken(f"image {index} of {spot.dataset.name}", item, label, spot.dataset)


def class_of(spot: Spot) -> int | None:
    """Asks for the class of the image, where the model listens to classes."""
    if not spot.opened.classes:
        return None
    return st.selectbox(
        "It shows",
        range(len(spot.opened.classes)),
        index=None,
        key="latent.mine.class",
        format_func=lambda i: spot.opened.classes[i],
        placeholder="What its nearest images show",
        help="The model draws what it is told to; the wrong class gives a poor likeness.",
    )


def present(spot: Spot, taken: Taken, label: int | None) -> None:
    """Finds the point of an image, once, and shows how near the model comes."""
    from core import latent

    key = hashlib.sha256(
        taken.digest + repr((spot.checkpoint.run, spot.checkpoint.step, label)).encode()
    ).hexdigest()
    result = st.session_state.get("latent.found")
    if result is None or result["key"] != key:
        result = {
            "key": key,
            **find(spot, taken, label if label is not None else taken.label),
        }
        st.session_state["latent.found"] = result
    tiles = {
        "what the model sees": result["seen"],
        "what it makes of it": result["image"],
        "difference": latent.difference(result["seen"], result["image"]),
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
    audible = spot.opened.medium.heard
    if audible:
        left, right = st.columns(2)
        for side, words, item in zip((left, right), list(tiles), result["items"], strict=False):
            with side:
                st.caption(words)
                show.item(
                    item, spot.opened.medium, words, key=f"latent.found.{words}", max_height=110
                )
    st.caption(
        " · ".join(tiles)
        + f". Mean squared error {result['error']:.4f}, found in {result['seconds']:.1f} s"
        + (
            f" as class {shell.plain(spot.opened.classes[result['label']])}"
            if result["label"] is not None
            else ""
        )
        + "."
    )
    for note in result["notes"]:
        st.caption(shell.plain(note))
    st.button(
        "Go there on the pad",
        key="latent.mine.land",
        type="primary",
        icon=":material/my_location:",
        on_click=go,
        args=(spot, result, taken.name),
    )


def go(spot: Spot, result: dict[str, Any], name: str) -> None:
    """Lets the pad begin where the image was found, and keeps it for a model that is put beside."""
    st.session_state["latent.own"] = {"point": result["point"], "seen": result["seen"]}
    land(spot, result["point"], name)


def find(spot: Spot, taken: Taken, label: int | None) -> dict[str, Any]:
    """Encodes or searches for an image, and shows how it improves meanwhile; gives plain numbers, for the session."""
    from core import latent

    slot = st.empty()
    began = time.perf_counter()
    prepared = taken.prepared()
    if not spot.opened.classes:
        label = None
    elif label is None:
        guesses = latent.guess(spot.dataset, prepared.seen)
        label = None if guesses is None else int(guesses[0])
    last, shown = None, 0.0
    for step in latent.find(spot.space, prepared.seen, label):
        last = step
        if time.perf_counter() - shown > 0.12:
            shown = time.perf_counter()
            scale = max(1, 120 // step.image.shape[-1])
            both = sheets.png(np.stack([prepared.picture, step.image]), 2, scale=scale, gap=2)
            slot.image(
                data_url(both),
                caption=f"Looking for it: {percent(step.done, 0)}, error {step.error:.4f}",
            )
    slot.empty()
    assert last is not None
    return {
        "seen": prepared.picture,
        "image": spot.space.image(last.point),
        "point": [float(value) for value in last.point],
        "error": float(last.error),
        "seconds": time.perf_counter() - began,
        "items": [prepared.x, spot.space.items(last.point)[0]],
        "notes": list(prepared.notes),
        "label": label,
    }

"""Many images of one seed, and the path from one of them to another."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core.ground import sheets, xmp
from pages.parts import shell, show
from pages.parts.latent import Spot, arrive, save

COUNT = 60
WAYS = {"slerp": "In an arc", "lerp": "Straight"}  # of core.latent.paths.PATHS


def draw(spot: Spot) -> None:
    """Draws the grid and, where the model has a latent space, the path between the two marked images."""
    from core import latent
    from core.models import Decodes

    choice, classes = spot.choice, spot.opened.classes
    named = {} if choice.label is None else {"class": classes[choice.label]}
    columns = sheets.columns(len(classes)) if choice.label is None else 10
    count = columns * max(1, COUNT // columns)
    walks = isinstance(spot.opened.model, Decodes)
    x, y = drawn(spot, list(range(count)))
    ends = the_ends(count)
    if walks:
        take_click((st.session_state.get("latent.grid") or {}).get("clicked"), ends, count)
    controls, pictures = st.columns([1, 3], gap="medium")
    with pictures:
        show.pictures(
            x,
            columns=columns,
            key="latent.grid",
            alt=f"{count} images drawn from {spot.run.name} with seed {choice.seed}",
            marks={ends[1]: "B", ends[0]: "A"} if walks else None,
            clickable=walks,
            max_height=400,
            titles=[
                f"image {i}" + (f": {classes[int(y[i])]}" if y is not None else "")
                for i in range(count)
            ],
        )
    with controls:
        st.caption(
            "Click the image where the path begins (A), then the one where it ends (B)."
            if walks
            else "Every image of this seed has a number; it never changes."
        )
        if walks:
            way = shell.view(
                "Path from A to B",
                "latent.way",
                WAYS,
                help="In an arc (slerp) it keeps as far from the middle as the model's noise lies; straight (lerp) it "
                "takes the shortest line.",
            )
            steps = st.slider(
                "Images on the path", 3, 24, 12, key="latent.steps", bind="query-params"
            )
            if latent.supports(spot.opened.model):
                st.button(
                    "A to the pad",
                    key="latent.place",
                    icon=":material/my_location:",
                    on_click=lambda: begin(ends[0]),
                    help=f"The plane of the pad then goes through image {ends[0]}.",
                )
        buttons = st.container(horizontal=True)
        if spot.opened.medium.heard:
            hear(spot, ends if walks else [0])
    with buttons:
        save(
            "Grid",
            lambda: sheets.png(x, columns, spot.metadata() | named, mark=xmp.made_by(spot.run.id)),
            f"{spot.run.id}-seed{choice.seed}.png",
            key="latent.save.grid",
        )
    if walks:
        strip = spot.opened.medium.pictures(
            latent.path(
                spot.opened.model, (ends[0], ends[1]), y, choice.seed, spot.sampling, way, steps
            )
        )
        with pictures:
            show.pictures(
                strip,
                columns=min(steps, 12),
                key="latent.strip",
                alt=f"The path from image {ends[0]} to {ends[1]} in {steps} images",
                max_height=200,
            )
        with buttons:
            metadata = spot.metadata() | {"ends": list(ends), "way": way}
            save(
                "Strip",
                lambda: sheets.png(strip, steps, metadata, mark=xmp.made_by(spot.run.id)),
                f"{spot.run.id}-{ends[0]}-{ends[1]}.png",
                key="latent.save.strip",
            )


def hear(spot: Spot, chosen: list[int]) -> None:
    """Plays the images that are marked."""
    import torch

    opened = spot.opened
    with torch.inference_mode():
        where = next(opened.model.parameters()).device
        labels = [spot.label_of(i) for i in chosen]
        y = torch.tensor(labels, device=where) if opened.classes else None
        made = opened.model.sample(chosen, y, spot.choice.seed, spot.sampling)
    items = opened.medium.kept(made)
    for side, mark, number, item in zip(st.columns(len(chosen)), "AB", chosen, items, strict=False):
        with side:
            name = f"{mark}, image {number} of seed {spot.choice.seed}"
            show.item(item, opened.medium, name, key=f"latent.heard.{mark}", max_height=120)


def begin(image: int) -> None:
    """Lets the pad's plane go through an image of the seed."""
    st.session_state.pop("latent.landed", None)
    arrive(image=image)


def drawn(spot: Spot, ids: list[int]) -> tuple[np.ndarray, Any]:
    """Draws samples, uint8 (N, 1 or 3, H, W), and their labels (N,); a family needs no latent space for it."""
    import torch

    opened = spot.opened
    with torch.inference_mode():
        where = next(opened.model.parameters()).device
        y = None
        if opened.classes:
            y = torch.tensor([spot.label_of(i) for i in ids], device=where)
        x = opened.model.sample(ids, y, spot.choice.seed, spot.sampling)
        return opened.medium.shown(x), y


def the_ends(count: int) -> list[int]:
    """Reads the ends of the path from the address, so that the browser's Back undoes a click; else the first two."""
    ends = st.query_params.get("ends", "").split("-")
    fits = len(ends) == 2 and all(end.isdecimal() and len(end) < 10 for end in ends)
    return [min(int(end), count - 1) for end in (ends if fits else ("0", "1"))]


def take_click(clicked: Any, ends: list[int], count: int) -> None:
    """Makes a newly clicked image the beginning (A) and the next one the end (B) of the path."""
    if not isinstance(clicked, dict):
        return
    number, index = clicked.get("number"), clicked.get("index")
    if (
        not isinstance(index, int)
        or not 0 <= index < count
        or number == st.session_state.get("latent.seen")
    ):
        return
    st.session_state["latent.seen"] = number
    side = st.session_state.get("latent.side", 0)
    ends[side] = index
    st.session_state["latent.side"] = 1 - side
    st.query_params["ends"] = f"{ends[0]}-{ends[1]}"

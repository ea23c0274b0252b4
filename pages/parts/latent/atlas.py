"""A map of the latent space: data and samples as points, over the images that are decoded in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core.ground import sheets
from pages.parts import shell, show
from pages.parts.latent import TURNS, Spot, land
from pages.parts.map import Answer, Trait, pack, points

CELLS = 15
COUNT = 600
COLOURS = {
    "class": "Class",
    "origin": "Data or sample",
    "nearest": "Distance to the nearest real image",
    "density": "Density",
}
STEPS = 5  # of a scale of colours
PATH = 24  # images on the path from A to B


def draw(spot: Spot) -> None:
    """Draws the map, and what was clicked or encircled on it."""
    from core import latent

    controls, picture = st.columns([1, 3], gap="medium")
    with controls:
        methods = latent.methods()
        method = st.selectbox(
            "Projection",
            methods,
            key="latent.map.method",
            bind="query-params",
            format_func=lambda name: latent.METHODS[name],
            help="PCA is linear, so every place on it can be decoded exactly; t-SNE and UMAP keep neighbours together, "
            "but distances between groups mean nothing.",
        )
        colour = st.selectbox(
            "Colour",
            list(COLOURS),
            key="latent.map.colour",
            bind="query-params",
            format_func=lambda name: COLOURS[name],
        )
        st.caption("Click anywhere to decode that place. Draw a ring to decode the points inside.")
        below = st.container()
    with picture, st.spinner("Encoding data and samples", show_time=True):
        atlas = latent.chart(
            spot.space, spot.dataset, method, COUNT, spot.choice.seed, spot.choice.label
        )
        at, choice = spot.checkpoint, spot.choice
        key = repr((at.run, at.step, choice.seed, choice.label, choice.sampling, method))
        sheet = lattice(key, atlas)
    groups, colours, titles = grouped(spot, atlas, colour)
    ends = st.session_state.setdefault("latent.map.ends", [])
    if st.session_state.get("latent.map.of") != key:
        st.session_state["latent.map.of"] = key
        ends.clear()
    path = None
    if len(ends) == 2:
        keys = atlas.point_at(np.asarray(ends))
        path = latent.walk(spot.space, keys, PATH, way="slerp", loop=False)
    with picture:
        answer = points(
            pack(
                {"": shares(atlas, atlas.xy)},
                [Trait(COLOURS[colour], groups, titles, colours=colours)],
                None,
                atlas.real,
            ),
            key="latent.map",
            alt=f"{len(atlas.xy)} images in two dimensions by {method}, coloured by {COLOURS[colour]}",
            height=460,
            ground=sheet,
            path=[] if path is None else shares(atlas, atlas.project(path)).tolist(),
            marks=[
                (name, x, y)
                for name, (x, y) in zip(
                    ("here", "A", "B"),
                    shares(atlas, [*atlas.project(spot.point[None]), *ends]),
                    strict=False,
                )
            ],
        )
        st.caption(
            "Rings: real images. Discs: samples of the model. " + shell.plain(" ".join(atlas.notes))
        )
    with below:
        outcome(spot, atlas, answer, ends, path)


def shares(atlas: Any, xy: Any) -> np.ndarray:
    """Turns coordinates of the map (M, 2) into shares of its box, from the upper left corner."""
    low, high = np.array(atlas.box).reshape(2, 2)
    return (np.asarray(xy) - low) / (high - low)


def coordinates(atlas: Any, at: tuple[float, float]) -> tuple[float, float]:
    """Turns shares of the box of a map into its coordinates."""
    left, top, right, bottom = atlas.box
    return left + at[0] * (right - left), top + at[1] * (bottom - top)


@st.cache_data(max_entries=16, show_spinner=False)
def lattice(key: str, _atlas: Any) -> bytes:
    """Decodes a lattice of places over the map, as one picture."""
    with TURNS:
        return sheets.jpeg(_atlas.lattice(CELLS), CELLS)


def grouped(spot: Spot, atlas: Any, colour: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Gives the group of each point, (N,), and a colour and a title per group."""
    palette = show.palette()
    if colour == "origin" or (colour == "class" and atlas.labels is None):
        return 1 - atlas.real.astype(int), palette[:2], ["data", "samples"]
    if colour == "class":
        names = spot.dataset.classes
        shades = palette[: len(names)] if len(names) <= len(palette) else wheel(len(names))
        return atlas.labels, shades, list(names)
    values = np.asarray(getattr(atlas, colour), float)
    edges = np.quantile(values, np.linspace(0, 1, STEPS + 1))
    groups = np.clip(np.searchsorted(edges, values, "right") - 1, 0, STEPS - 1)
    scale = st.get_option(f"theme.{st.context.theme.type or 'light'}.chartSequentialColors")
    shades = [scale[2 + round(i * 7 / (STEPS - 1))] for i in range(STEPS)]
    titles = [f"{edges[i]:.3g} … {edges[i + 1]:.3g}" for i in range(STEPS)]
    return groups, shades, titles


def wheel(count: int) -> list[str]:
    """Makes as many colours, neighbours of different lightness."""
    return [f"hsl({360 * i / count:.0f} 70% {(38, 62, 50)[i % 3]}%)" for i in range(count)]


def outcome(spot: Spot, atlas: Any, answer: Answer, ends: list[Any], path: Any) -> None:
    """Shows what lies at the click, inside the lasso, or on the path."""
    from core import latent

    if answer.at is not None:
        at = coordinates(atlas, answer.at)
        point = atlas.point_at(np.asarray([at]))
        show.pictures(
            spot.space.images(point[0]),
            columns=1,
            key="latent.map.here",
            alt="The image at the click",
            max_height=150,
        )
        near, far = latent.neighbours(spot.dataset, spot.space.items(point[0]), 4)
        show.pictures(
            spot.dataset.pictures(near[0]),
            columns=4,
            key="latent.map.near",
            alt="The four training images nearest to it",
            max_height=60,
        )
        st.caption(
            f"Below: the training images nearest to it, from {far[0][0]:.3f} away (root mean square of the pixels)."
        )
        with st.container(horizontal=True, gap="small"):
            st.button(
                "To the pad",
                key="latent.map.land",
                icon=":material/my_location:",
                on_click=land,
                args=(spot, point[0], "a place on the map"),
                help="The plane of the pad then goes through this image.",
            )
            for number, name in enumerate("AB"):
                st.button(
                    f"{name} is here",
                    key=f"latent.map.{name}",
                    on_click=anchor,
                    args=(ends, number, at),
                    help="An end of a path, which is then drawn on the map.",
                )
    elif answer.picked:
        inside = atlas.points[answer.picked[:60]]
        show.pictures(
            spot.space.images(inside, quick=True),
            columns=5,
            key="latent.map.ring",
            alt=f"{len(inside)} images inside the ring, as the model draws them",
            max_height=300,
        )
        st.caption(f"{len(answer.picked)} points, as the model draws them.")
    if path is not None:
        show.pictures(
            spot.space.images(path[:: PATH // 8], quick=True),
            columns=4,
            key="latent.map.way",
            alt="Images on the path from A to B",
            max_height=200,
        )
        st.caption("On the path from A to B.")


def anchor(ends: list[Any], number: int, xy: tuple[float, float]) -> None:
    """Sets an end of the path."""
    while len(ends) <= number:
        ends.append(xy)
    ends[number] = xy

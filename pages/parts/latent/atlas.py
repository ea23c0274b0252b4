"""The latent space from above: where data and samples lie, over what the model draws in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from pages.parts import shell, show
from pages.parts.latent import TURNS, Here, land
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
PATH = 24  # images on the way from anchor to anchor


def draw(here: Here) -> None:
    """Draws the map, and what was clicked or ringed on it."""
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
            help="PCA is a straight shadow, and every place on it can be decoded; t-SNE and UMAP keep neighbours "
            "together, and distances between groups mean nothing.",
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
            here.space, here.dataset, method, COUNT, here.choice.seed, here.choice.label
        )
        at, choice = here.checkpoint, here.choice
        key = repr((at.run, at.step, choice.seed, choice.label, choice.sampling, method))
        sheet = lattice(key, atlas)
    groups, colours, titles = grouped(here, atlas, colour)
    ends = st.session_state.setdefault("latent.map.ends", [])
    if st.session_state.get("latent.map.of") != key:
        st.session_state["latent.map.of"] = key
        ends.clear()
    way = between(here, atlas, ends)
    with picture:
        answer = points(
            pack(
                {"": shares(atlas, atlas.xy)},
                [Trait(COLOURS[colour], np.array(groups), titles, colours=colours)],
                None,
                atlas.real,
            ),
            key="latent.map",
            alt=f"{len(atlas.xy)} images in two dimensions by {method}, coloured by {COLOURS[colour]}",
            height=460,
            ground=sheet,
            path=[(x, y) for x, y in shares(atlas, atlas.place(way))] if way is not None else [],
            marks=[
                (name, x, y)
                for name, (x, y) in zip(
                    ("here", "A", "B"),
                    shares(atlas, [*atlas.place(here.point[None]), *ends]),
                    strict=False,
                )
            ],
        )
        st.caption(
            "Rings: real images. Discs: samples of the model. " + shell.plain(" ".join(atlas.notes))
        )
    with below:
        found(here, atlas, answer, ends, way)


def shares(atlas: Any, xy: Any) -> np.ndarray:
    """Gives places of the map in shares of its box, from the upper left corner, (M, 2)."""
    low, high = np.array(atlas.box).reshape(2, 2)
    return (np.asarray(xy) - low) / (high - low)


def place(atlas: Any, at: tuple[float, float]) -> tuple[float, float]:
    """Gives the place of the map that lies at shares of its box."""
    left, top, right, bottom = atlas.box
    return left + at[0] * (right - left), top + at[1] * (bottom - top)


@st.cache_data(max_entries=16, show_spinner=False)
def lattice(key: str, _atlas: Any) -> bytes:
    """Decodes the places of a lattice over the map, as one picture."""
    from core import latent

    with TURNS:
        content, _ = latent.sprite(_atlas.lattice(CELLS), CELLS, "jpeg")
    return content


def grouped(here: Here, atlas: Any, colour: str) -> tuple[list[int], list[str], list[str]]:
    """Sorts the points into groups of one colour each, with a title per group."""
    palette = show.palette()
    if colour == "origin" or (colour == "class" and atlas.labels is None):
        return [0 if real else 1 for real in atlas.real], palette[:2], ["data", "samples"]
    if colour == "class":
        names = here.dataset.classes
        shades = palette[: len(names)] if len(names) <= len(palette) else wheel(len(names))
        return [int(label) for label in atlas.labels], shades, list(names)
    values = np.asarray(getattr(atlas, colour), float)
    edges = np.quantile(values, np.linspace(0, 1, STEPS + 1))
    groups = np.clip(np.searchsorted(edges, values, "right") - 1, 0, STEPS - 1)
    scale = st.get_option(f"theme.{st.context.theme.type or 'light'}.chartSequentialColors")
    shades = [scale[2 + round(i * 7 / (STEPS - 1))] for i in range(STEPS)]
    titles = [f"{edges[i]:.3g} … {edges[i + 1]:.3g}" for i in range(STEPS)]
    return groups.tolist(), shades, titles


def wheel(count: int) -> list[str]:
    """Makes that many colours, neighbours of different lightness; the tip and the legend name them."""
    return [f"hsl({360 * i / count:.0f} 70% {(38, 62, 50)[i % 3]}%)" for i in range(count)]


def between(here: Here, atlas: Any, ends: list[Any]) -> Any:
    """Gives the points of the way from anchor A to anchor B."""
    from core import latent

    if len(ends) < 2:
        return None
    return latent.walk(here.space, atlas.point_at(np.asarray(ends)), PATH, way="slerp", loop=False)


def found(here: Here, atlas: Any, answer: Answer, ends: list[Any], way: Any) -> None:
    """Shows what lies at the click, inside the ring, or on the way."""
    from core import latent

    if answer.at is not None:
        at = place(atlas, answer.at)
        point = atlas.point_at(np.asarray([at]))
        show.pictures(
            here.space.images(point[0]),
            columns=1,
            key="latent.map.here",
            alt="The image at the click",
            max_height=150,
        )
        near, far = latent.neighbours(here.dataset, here.space.items(point[0]), 4)
        show.pictures(
            here.dataset.pictures(near[0]),
            columns=4,
            key="latent.map.near",
            alt="The four training images nearest to it",
            max_height=60,
        )
        st.caption(
            f"Below: the training images nearest to it, {far[0][0]:.3f} away (pixels, root mean square)."
        )
        with st.container(horizontal=True, gap="small"):
            st.button(
                "To the pad",
                key="latent.map.land",
                icon=":material/my_location:",
                on_click=land,
                args=(here, point[0], "a place on the map"),
                help="The plane of the pad then goes through this image.",
            )
            for number, name in enumerate("AB"):
                st.button(
                    f"{name} is here",
                    key=f"latent.map.{name}",
                    on_click=anchor,
                    args=(ends, number, at),
                    help="An end of a way, which is then drawn on the map.",
                )
    elif answer.picked:
        inside = atlas.points[answer.picked[:60]]
        show.pictures(
            here.space.images(inside, quick=True),
            columns=5,
            key="latent.map.ring",
            alt=f"{len(inside)} images inside the ring, as the model draws them",
            max_height=300,
        )
        st.caption(f"{len(answer.picked)} points, as the model draws them.")
    if way is not None:
        show.pictures(
            here.space.images(way[:: PATH // 8], quick=True),
            columns=4,
            key="latent.map.way",
            alt="Images on the way from A to B",
            max_height=200,
        )
        st.caption("On the way from A to B.")


def anchor(ends: list[Any], number: int, place: tuple[float, float]) -> None:
    """Puts an end of the way at a place."""
    while len(ends) <= number:
        ends.append(place)
    ends[number] = place

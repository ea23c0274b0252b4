"""Takes something out of a picture: marked by hand, filled in by a model, and decided like anything else about it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import streamlit as st

from core import runs
from core.ground.writing import duration
from pages.parts import shell, show
from pages.parts.canvas import WIDEST, hole
from pages.parts.data import mending
from pages.parts.latent.filling import Turns, fills, most

FILLS = 4


def possible(dataset: Any) -> bool:
    """Tells whether something can be marked on the pictures of a dataset."""
    shape = dataset.shape
    return dataset.medium.item == "picture" and shape[0] in (1, 3) and max(shape[1:]) <= WIDEST


def offer(dataset: Any) -> bool:
    """Draws the switch that lets a person mark a picture; gives whether it is on."""
    return possible(dataset) and st.toggle(
        "Take something out",
        key="data.item.remove",
        help="Mark it, and a model that was trained on such pictures fills the place. The picture here stays as it is; "
        "the next version of the dataset has the other one, and says who made it.",
    )


def draw(dataset: Any, image: int, beside: Any) -> None:
    """Lets a person mark a part of a picture, fills it, and decides that a fill takes the picture's place.

    Args:
        dataset: What it is of.
        image: Its index.
        beside: The container next to it, where the fills are seen without scrolling.
    """
    from core import augment

    listed = {run.id: run for run in augment.runs_for("repair", dataset)}
    if not listed:
        st.caption(
            "No trained model makes pictures like these yet. Train one on this dataset, then come back."
        )
        return
    chosen = st.selectbox(
        "Model that fills it",
        list(listed),
        key="data.item.remove.run",
        format_func=lambda id: shell.called(listed[id]),
    )
    x = dataset.images([image])
    start = np.zeros(tuple(x.shape[2:]), bool)
    mask = hole(
        dataset.medium.shown(x)[0],
        start,
        key=f"data.item.remove.hole.{image}",
        alt=f"Image {image}, over which you mark what is to go",
    )
    with beside:
        if not mask.any():
            st.caption("Draw around what is to go: it should lie wholly inside.")
            return
        fill(dataset, image, listed[chosen], x, mask)


def fill(dataset: Any, image: int, run: Any, x: Any, mask: np.ndarray) -> None:
    """Fills a marked part of a picture when that is asked for, and offers the fills."""
    from core import latent

    opened = runs.open_model(run)
    space = latent.open_space(opened)
    seed = st.session_state.setdefault("data.item.remove.seed", 0)
    content = (
        mask.tobytes() + repr((dataset.fingerprint, image, opened.run, opened.step, seed)).encode()
    )
    key = hashlib.sha256(content).hexdigest()
    done = st.session_state.get("data.item.removed")
    here = done is not None and done["key"] == key

    def go(more: int) -> None:
        st.session_state.update({"data.item.remove.go": True, "data.item.remove.seed": seed + more})

    with st.container(horizontal=True):
        st.button(
            "Other fills" if here else "Fill it in",
            key="data.item.remove.fill",
            type="secondary" if here else "primary",
            icon=":material/casino:" if here else ":material/healing:",
            on_click=go,
            args=(int(here),),
        )
    if st.session_state.pop("data.item.remove.go", False) and not here:
        done = {"key": key, **filled(dataset, image, space, opened, x, mask, seed)}
        st.session_state["data.item.removed"] = done
        here = True
    if here and done is not None:
        choose(dataset, image, opened, done)


def filled(
    dataset: Any, image: int, space: Any, opened: Any, x: Any, mask: np.ndarray, seed: int
) -> dict[str, Any]:
    """Fills what is marked; gives plain values and arrays, for the session."""
    from core.latent import holes, repair

    label = None
    if dataset.labelled and opened.classes == dataset.classes and space.model.classes:
        label = int(dataset.y[image])
    steps = repair.fill(
        space,
        x,
        repair.Known.mask(~mask),
        fills=most(tuple(x.shape[1:]), FILLS),
        label=label,
        seed=seed,
        watch=Turns(),
    )
    titles = {entry.name: entry.title for entry in repair.repairs}
    last = fills(dataset.medium, steps, titles)
    return {
        "images": last.images,
        "method": last.method,
        "title": titles.get(last.method, last.method.capitalize()),
        "seconds": last.seconds,
        "seed": seed,
        "label": label,
        "hole": holes.boxes(mask),
    }


def choose(dataset: Any, image: int, opened: Any, done: dict[str, Any]) -> None:
    """Shows the fills; the one that is clicked can take the picture's place."""
    images, medium = done["images"], dataset.medium
    items = medium.kept(images, dataset.levels)  # as the dataset would hold them
    picked = min(st.session_state.get("data.item.remove.chosen", 0), len(images) - 1)
    if (tile := show.clicked("data.item.remove.fills", len(images))) is not None:
        picked = st.session_state["data.item.remove.chosen"] = tile
    show.pictures(
        medium.pictures(items, dataset.levels),
        columns=FILLS,
        key="data.item.remove.fills",
        alt=f"{len(images)} fills",
        titles=[f"fill {k}" for k in range(len(images))],
        marks={picked: "✓"},
        clickable=True,
        max_zoom=16,
    )
    st.caption(f"{done['title']}, {duration(done['seconds'])}. Click the one that you want.")

    def take() -> None:
        how = {name: done[name] for name in ("method", "hole", "label")} | {"fill": picked}
        mending.repair(dataset, image, items[picked], run=opened.run, seed=done["seed"], how=how)
        st.session_state["data.item.remove"] = False

    st.button(
        f"Take fill {picked}",
        key="data.item.remove.take",
        type="primary",
        icon=":material/check:",
        on_click=take,
        disabled=not shell.may_change(),
    )

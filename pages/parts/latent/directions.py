"""At most six directions from the point under the ring, each as a strip of the images that it leads to."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import streamlit as st

from core import datasets, runs
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import SEPARATOR, Spot, costly, land, of_kind, regressed, view_link

KINDS = {
    "principal": "Main",
    "local": "Near this image",
    "known": "Labels and attributes",
    "factors": "First layer (SeFa)",
    "named": "Named here",
}
EXPLAINED = ("principal", "factors")  # the same at every place, so that looking once is enough


def draw(spot: Spot) -> None:
    """Draws the choice of a kind, and a strip per direction."""
    from core import latent
    from core.measure import features

    kinds = offered(spot)
    kind = st.segmented_control(
        "How directions are found",
        kinds,
        default=kinds[0],
        key="latent.kind",
        required=True,
        bind="query-params",
        format_func=lambda kind: KINDS[kind],
    )
    if kind not in kinds:
        kind = kinds[0]
    if "local" not in kinds:
        costly.ready(spot.space, "local", "")
    if kind == "principal" and not costly.ready(spot.usual, "principal", "latent.directions.find"):
        return
    names = latent.named(spot.usual)
    directions = known(spot) if kind == "known" else of_kind(spot, kind)
    if not directions:
        return
    if kind in EXPLAINED and "known" in kinds and features.reader_ready(spot.dataset):
        with st.spinner("Looking what they change"):
            directions = _explained(spot.checkpoint.run, spot.checkpoint.step, kind, spot)
    classifier = classifier_of(spot)
    if kind != "known" and shell.may_change():
        st.caption(
            "See what a strip changes, and give it a name: it is kept with the run, for everybody."
        )
    for number, direction in enumerate(directions):
        with st.container(border=True):
            film, side = st.columns([2.6, 1], gap="medium", vertical_alignment="center")
            x, classes = latent.filmstrip(spot.space, spot.point, direction, classifier, quick=True)
            with film:
                show.pictures(
                    x,
                    columns=len(x),
                    key=f"latent.film.{number}",
                    alt=f"Seven images along {direction.name}, from -3 to 3 steps",
                    titles=[f"{amount:+g} steps" for amount in latent.AMOUNTS],
                    marks={latent.AMOUNTS.index(0.0): ""},
                    max_height=90,
                )
            with side:
                id = latent.id_of(direction, names)
                title(spot, direction, names[id].name if id else "", f"latent.name.{number}")
                st.caption(about(direction))
                if classes is not None and len(set(classes)) > 1:
                    seen = [spot.dataset.classes[label] for label, _ in groupby(classes)]
                    st.caption(
                        ":material/warning: "
                        + shell.plain("changes the class: " + " → ".join(seen))
                    )
                axis_id = id if kind == "named" else direction.name
                with st.container(horizontal=True, gap="small"):
                    for axis, sign in ((0, "across"), (1, "down")):
                        st.button(
                            sign,
                            key=f"latent.axis.{number}.{axis}",
                            on_click=take,
                            args=(spot, f"{kind}{SEPARATOR}{axis_id}", axis),
                            help=f"Makes this direction an axis of the pad ({sign}).",
                        )
    if classifier is None:
        st.caption(
            "Train a classifier on this dataset, and each strip says where the class changes."
        )


@st.cache_resource(max_entries=64, show_spinner=False)
def _explained(run: str, step: int, kind: str, _spot: Spot) -> list[Any]:
    from core import latent
    from core.measure import features

    reader = features.reader(_spot.dataset)
    return latent.explained(_spot.usual, _spot.dataset, reader, of_kind(_spot, kind))


def title(spot: Spot, direction: Any, name: str, key: str) -> None:
    """Draws the name of a direction: as the labels and attributes have it, else as visitors give it."""
    if direction.kind in ("labels", "attributes"):
        word = "class " if direction.kind == "labels" else ""
        st.markdown(f"**{word}{shell.plain(direction.name)}**")
        return
    if not shell.may_change():
        st.markdown(f"**{shell.plain(name or direction.name)}**")
        return
    st.session_state[key] = name
    st.text_input(
        f"Name of {direction.name}",
        key=key,
        placeholder=f"{direction.name}: name it",
        max_chars=80,
        on_change=rename,
        args=(spot, direction, key),
        label_visibility="collapsed",
    )


def rename(spot: Spot, direction: Any, key: str) -> None:
    """Gives a direction the name that was typed."""
    from core import latent

    shell.attempt(latent.call, spot.usual, direction, st.session_state[key], shell.who())
    if "_refused" in st.session_state:
        st.rerun()  # the page says why


def offered(spot: Spot) -> list[str]:
    """Lists the kinds of directions that a model has."""
    from core import latent
    from core.measure import features

    has = {
        "local": not latent.costly(spot.space, "local"),
        "factors": bool(latent.factors(spot.usual, 1)),
        "known": features.readable(spot.dataset) and not spot.space.slow,
        "named": bool(latent.named(spot.usual)),
    }
    return [kind for kind in KINDS if has.get(kind, True)]


def known(spot: Spot) -> list[Any]:
    """Finds the directions of chosen labels and attributes; training the reader of images waits for a button."""
    from core.datasets import columns
    from core.latent import MOST

    names = columns(spot.dataset).names
    chosen = st.multiselect(
        "Labels and attributes",
        names,
        default=names[-MOST:],
        max_selections=MOST,
        key=f"latent.known.{spot.run.id}",
        help=f"At most {MOST} at a time.",
    )
    if not chosen:
        st.caption("Choose what the directions should change.")
        return []
    if reader_of(spot) is None:
        return []
    arithmetic(spot)
    with st.spinner("Looking for directions", show_time=True):
        return regressed(spot, tuple(chosen))


def reader_of(spot: Spot) -> Any | None:
    """Opens the reader of labels and attributes; the first time it waits for a button, and is None until then."""
    from core.measure import features

    if features.reader_ready(spot.dataset):
        return features.reader(spot.dataset)
    st.button(
        "Learn to read them off images",
        key="latent.reader",
        icon=":material/school:",
        on_click=lambda: st.session_state.update({"latent.reading": True}),
        help="A small network is trained once on the labels and attributes of the dataset; about half a minute.",
    )
    if not st.session_state.pop("latent.reading", False):
        st.caption(
            "A small network reads off images what they show, and so what a change does. It has to be trained first."
        )
        return None
    bar = show.Bar("Learning to read labels and attributes")
    reading = features.reader(spot.dataset, bar)
    bar.close()
    return reading


def arithmetic(spot: Spot) -> None:
    """Offers to add what images with one property share, and to take away what those with another do."""
    from core.datasets import columns

    table = columns(spot.dataset)
    terms: list[str] = []
    for name, binary in zip(table.names, table.binary, strict=True):
        terms += [name, f"{name}=no"] if binary else [f"{name}=high", f"{name}=low"]
    with st.popover("Add and take away", icon=":material/calculate:"):
        st.caption("The image under the ring, plus the mean of some images, minus that of others.")
        plus = st.selectbox("Plus", terms, index=0, key=f"latent.plus.{spot.run.id}")
        minus = st.selectbox("Minus", terms, index=1, key=f"latent.minus.{spot.run.id}")
        st.button(
            "Put the sum on the pad",
            key="latent.sum",
            icon=":material/my_location:",
            on_click=lambda: shell.attempt(combine, spot, plus, minus),
        )


def combine(spot: Spot, plus: str, minus: str) -> None:
    """Adds and takes away mean points, and lets the pad begin at the sum."""
    from core import latent
    from core.measure import features

    reader = features.reader(spot.dataset)
    added, taken = (
        latent.condition(spot.usual, spot.dataset, term, reader) for term in (plus, minus)
    )
    point = latent.arithmetic(spot.space, added, taken, spot.point)
    land(spot, point, f"{plus} - {minus}")


def take(spot: Spot, name: str, axis: int) -> None:
    """Makes a direction an axis of the pad, through the image under the ring."""
    from core import latent

    axes = list(view_link.axes(spot.checkpoint.run))
    if len(axes) < 2:
        there = [] if latent.costly(spot.usual) else of_kind(spot, "principal")
        main = [f"principal{SEPARATOR}{direction.name}" for direction in there]
        axes = [next((each for each in main if each != name), name)] * 2
    axes[axis] = name
    view_link.take_axes(spot.checkpoint.run, axes)
    land(spot, spot.point, "the image that was under the ring", plane="directions")


def about(direction: Any) -> str:
    """Says how much a direction explains, how well it is known, and what else it changes."""
    parts = []
    if direction.accuracy is not None:
        parts.append(
            f"held-out {direction.measure} {direction.accuracy:.2f}, by chance {direction.chance:.2f} "
            f"(n = {direction.n})"
        )
        if direction.share is not None:
            parts.append(f"a step moves it by {direction.share:.2f} standard deviations")
    elif direction.share is not None:
        parts.append(f"{percent(direction.share, 0)} of the variation")
    leaks = sorted(direction.leaks.items(), key=lambda item: -abs(item[1]))[:2]
    if leaks:
        changes = ", ".join(f"{name} {value:+.2f}" for name, value in leaks if abs(value) > 0.1)
        if direction.accuracy is None:
            parts.append(
                f"mostly changes {changes}" if changes else "changes little that has a name"
            )
        else:
            parts.append(f"also changes {changes}" if changes else "changes little else")
    return shell.plain(" · ".join(parts) or " ".join(direction.notes))


def classifier_of(spot: Spot) -> Any | None:
    """Opens the newest classifier of the same dataset."""
    for run in runs.listing():
        if (
            run.kind == "classifier"
            and datasets.alike(run.config["dataset"], spot.run.config["dataset"])
            and runs.checkpoints(run)
        ):
            return runs.open_model(run).model
    return None

"""At most six directions from the place under the ring, each as a film of outcomes before anybody moves."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import runs
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import MOST, SEPARATOR, Here, land, of_kind, regressed, view_link

KINDS = {
    "principal": "Main",
    "local": "Near this image",
    "known": "Labels and attributes",
    "factors": "First layer (SeFa)",
}


def draw(here: Here) -> None:
    """Draws the choice of a kind, and a film per direction."""
    from core import latent

    kinds = offered(here)
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
    found = known(here) if kind == "known" else of_kind(here, kind)
    if not found:
        return
    judge = judge_of(here)
    for number, direction in enumerate(found):
        with st.container(border=True):
            film, words = st.columns([2.6, 1], gap="medium", vertical_alignment="center")
            strip = latent.filmstrip(here.space, here.point, direction, judge=judge, quick=True)
            with film:
                show.pictures(
                    strip.x,
                    columns=len(strip.amounts),
                    key=f"latent.film.{number}",
                    alt=f"Seven images along {direction.name}, from -3 to 3 steps",
                    titles=[f"{amount:+g} steps" for amount in strip.amounts],
                    marks={strip.amounts.index(0.0): ""},
                    max_height=90,
                )
            with words:
                st.markdown(f"**{shell.plain(direction.name)}**")
                st.caption(about(direction))
                if strip.changes and strip.classes is not None:
                    st.caption(":material/warning: " + changes(here, strip.classes))
                with st.container(horizontal=True, gap="small"):
                    for axis, sign in ((0, "across"), (1, "down")):
                        st.button(
                            sign,
                            key=f"latent.axis.{number}.{axis}",
                            on_click=take,
                            args=(here, f"{kind}{SEPARATOR}{direction.name}", axis),
                            help=f"Makes this direction an axis of the pad ({sign}).",
                        )
    if judge is None:
        st.caption(
            "Train a classifier on this dataset, and each film says where the class changes."
        )


def offered(here: Here) -> list[str]:
    """Lists the kinds of directions that a model has."""
    from core import latent
    from core.measure import features

    has = {
        "factors": bool(latent.factors(here.usual, 1)),
        "known": features.readable(here.dataset) and not here.space.slow,
    }
    return [kind for kind in KINDS if has.get(kind, True)]


def known(here: Here) -> list[Any]:
    """Finds the directions of chosen labels and attributes; asks before it learns to read them off images."""
    from core.datasets import columns
    from core.measure import features

    names = columns(here.dataset).names
    chosen = st.multiselect(
        "Labels and attributes",
        names,
        default=names[-MOST:],
        max_selections=MOST,
        key=f"latent.known.{here.run.id}",
        help=f"At most {MOST} at a time: more choices make it harder to choose well.",
    )
    if not chosen:
        st.caption("Choose what the directions should change.")
        return []
    if not features.reader_ready(here.dataset):
        st.button(
            "Learn to read them off images",
            key="latent.reader",
            icon=":material/school:",
            on_click=lambda: st.session_state.update({"latent.reading": True}),
            help="A small network learns the true labels and attributes of the dataset, once; about half a minute.",
        )
        if not st.session_state.pop("latent.reading", False):
            st.caption(
                "What a direction changes is read off its images by a small network of our own."
            )
            return []
        bar = show.Bar("Learning to read labels and attributes")
        features.reader(here.dataset, bar)
        bar.close()
    arithmetic(here)
    with st.spinner("Looking for directions", show_time=True):
        return regressed(here, tuple(chosen))


def arithmetic(here: Here) -> None:
    """Offers to add what images with one property share, and to take away what those with another do."""
    from core.datasets import columns

    known = columns(here.dataset)
    terms: list[str] = []
    for name, binary in zip(known.names, known.binary, strict=True):
        terms += [name, f"{name}=no"] if binary else [f"{name}=high", f"{name}=low"]
    with st.popover("Add and take away", icon=":material/calculate:"):
        st.caption("The image under the ring, plus the mean of some images, minus that of others.")
        plus = st.selectbox("Plus", terms, index=0, key=f"latent.plus.{here.run.id}")
        minus = st.selectbox("Minus", terms, index=1, key=f"latent.minus.{here.run.id}")
        st.button(
            "Put the sum on the pad",
            key="latent.sum",
            icon=":material/my_location:",
            on_click=lambda: shell.attempt(combine, here, plus, minus),
        )


def combine(here: Here, plus: str, minus: str) -> None:
    """Adds and takes away mean points, and lets the pad begin at the sum."""
    from core import latent
    from core.measure import features

    reading = features.reader(here.dataset)
    added, taken = (
        latent.condition(here.usual, here.dataset, term, reading) for term in (plus, minus)
    )
    point = latent.arithmetic(here.space, added, taken, here.point)
    land(here, point, f"{plus} - {minus}")


def take(here: Here, name: str, axis: int) -> None:
    """Makes a direction an axis of the pad, through the image under the ring."""
    axes = list(view_link.axes(here.checkpoint.run))
    if len(axes) < 2:
        main = [f"principal{SEPARATOR}{direction.name}" for direction in of_kind(here, "principal")]
        axes = (main * 2)[:2]
    axes[axis] = name
    view_link.take_axes(here.checkpoint.run, axes)
    st.session_state["latent.plane"] = "directions"
    land(here, here.point, "the image that was under the ring")


def about(direction: Any) -> str:
    """Says in words how much a direction explains, how well it is known, and what it drags along."""
    words = []
    if direction.accuracy is not None:
        words.append(
            f"held-out {direction.measure} {direction.accuracy:.2f}, by chance {direction.chance:.2f} "
            f"(n = {direction.n})"
        )
        if direction.share is not None:
            words.append(f"a step moves it by {direction.share:.2f} standard deviations")
    elif direction.share is not None:
        words.append(f"{percent(direction.share, 0)} of the variation")
    leaks = sorted(direction.leaks.items(), key=lambda item: -abs(item[1]))[:2]
    if leaks:
        drags = ", ".join(f"{name} {value:+.2f}" for name, value in leaks if abs(value) > 0.1)
        words.append(f"and drags along {drags}" if drags else "and drags little along")
    return shell.plain(" · ".join(words) or " ".join(direction.notes))


def changes(here: Here, classes: tuple[int, ...]) -> str:
    """Says how the class that the judge sees changes along the film."""
    names = here.dataset.classes
    runs_of = [classes[0]]
    for label in classes[1:]:
        if label != runs_of[-1]:
            runs_of.append(label)
    return shell.plain("changes the class: " + " → ".join(names[label] for label in runs_of))


class Reader:
    """A trained classifier that names the classes of images."""

    def __init__(self, opened: runs.Opened) -> None:
        self.model = opened.model

    def probabilities(self, x: Any) -> Any:
        """Gives the probability of each class, (N, K)."""
        import torch

        with torch.inference_mode():
            where = next(self.model.parameters()).device
            return self.model(x.to(where)).double().softmax(1).cpu().numpy()


def judge_of(here: Here) -> Reader | None:
    """Opens the newest classifier of the same dataset."""
    for run in runs.listing():
        if (
            run.kind == "classifier"
            and run.config["dataset"] == here.run.config["dataset"]
            and runs.checkpoints(run)
        ):
            return Reader(runs.open_model(run))
    return None

"""The map of an evaluation: real and generated images in one projection, and those that a lasso takes out of it."""

from typing import Literal

import numpy as np
import streamlit as st

from core import measure
from core.ground.writing import percent
from core.measure import Evaluation
from pages.parts import evaluate, shell, show
from pages.parts.map import Trait, pack, points

PROJECTIONS: dict[str, Literal["pca", "tsne"]] = {"PCA": "pca", "t-SNE": "tsne"}
SHOWN = 96  # images of a selection; more cannot be looked at


@st.cache_data(max_entries=4, show_spinner=False)
def packed(id: str, views: tuple[str, ...], _evaluation: Evaluation) -> bytes:
    """Packs the map of an evaluation; the projections tell apart what is there already."""
    arrays = _evaluation.arrays()
    assert arrays is not None
    generated, real = len(arrays.made), len(arrays.real)
    names = [str(row["class"]) for row in _evaluation.classes]
    names = [f"class {name}" if name.isdecimal() else name for name in names]
    flag = np.concatenate([np.where(arrays.realistic, 1, 3), np.where(arrays.covered, 0, 2)])
    origin = np.concatenate([np.ones(generated, int), np.zeros(real, int)])
    traits = [
        Trait(
            "Realism and coverage",
            flag,
            ["real, covered", "generated, realistic", "real, missing", "generated, not realistic"],
            quiet=(0, 1),
        ),
        Trait("Origin", origin, ["real", "generated"]),
    ]
    if names:
        of_made = np.where(arrays.made_y >= 0, arrays.made_y, arrays.made_named)
        codes = np.concatenate([of_made, arrays.real_y])
        traits.append(
            Trait(
                "Class",
                np.where(codes >= 0, codes, len(names)),
                [*names, "class unknown"],
            )
        )
    layouts = {name: measure.projection(_evaluation, kind) for name, kind in PROJECTIONS.items()}
    images = np.concatenate(
        [_evaluation.samples(slice(None)), measure.reference_images(_evaluation)]
    )
    ready = {name: xy for name, xy in layouts.items() if xy is not None}
    return pack(ready, traits, images, origin == 0)


@st.fragment
@shell.guard()
def draw(evaluation: Evaluation) -> None:
    """Draws real and generated images in one projection; a lasso takes images out of it."""
    arrays = evaluation.arrays()
    if arrays is None:
        evaluate.waits()
        return
    ready = tuple(
        name
        for name, kind in PROJECTIONS.items()
        if measure.projection(evaluation, kind) is not None
    )
    drawn, taken = st.columns([2.3, 1], gap="medium")
    if "evaluate.map" not in st.session_state:  # first drawn: as the address says, or as last seen
        left = st.session_state.get("evaluate.looked", {})
        st.session_state["evaluate.look"] = {
            name: st.query_params.get(f"map.{name}", left.get(name, ""))
            for name in ("view", "colour", "marks")
        }
    with drawn:
        answer = points(
            packed(evaluation.job, ready, evaluation),
            alt=f"Map of {len(arrays.made)} generated and {len(arrays.real)} real images",
            key="evaluate.map",
            look=st.session_state["evaluate.look"],
            height=400,
        )
        st.caption(
            "Near points look alike. Rings are real images, discs are generated ones. "
            "Real ones that no generated one comes near are *missing*; generated ones far from every real one are "
            "*not realistic*."
            + (" t-SNE follows when the measures are done." if "t-SNE" not in ready else "")
        )
    st.session_state["evaluate.looked"] = answer.look or st.session_state["evaluate.look"]
    for name, value in answer.look.items():
        if st.query_params.get(f"map.{name}") != value:
            st.query_params[f"map.{name}"] = value
    with taken:
        selection(evaluation, np.array(answer.picked, int))


def selection(evaluation: Evaluation, picked: np.ndarray) -> None:
    """Shows the images that the lasso took, by origin."""
    arrays = evaluation.arrays()
    assert arrays is not None
    generated = picked[picked < len(arrays.made)]
    real = picked[picked >= len(arrays.made)] - len(arrays.made)
    if not len(picked):
        st.markdown("**Draw around points** to see their images here.")
        st.markdown(
            f"{percent(arrays.realistic.mean())} of {len(arrays.made):,} generated images are realistic; "
            f"{percent(arrays.covered.mean())} of {len(arrays.real):,} real ones are covered."
        )
        evaluate.kept(evaluation)
        if (~arrays.covered).any():
            st.caption("Press *real, missing* below the map to see what it never makes.")
        return
    for title, index, load, flag, names in (
        ("Generated", generated, evaluation.samples, arrays.realistic, "realistic"),
        (
            "Real",
            real,
            lambda i: measure.reference_images(evaluation)[i],
            arrays.covered,
            "covered by the model",
        ),
    ):
        st.markdown(
            f"**{title}: {len(index):,}**"
            + (f", {percent(flag[index].mean(), 0)} of them {names}" if len(index) else "")
        )
        if len(index):
            shown = index[:SHOWN]
            show.pictures(
                load(shown),
                columns=10,
                key=f"evaluate.taken.{title.lower()}",
                alt=f"{title} images of the selection",
                max_height=170,
                max_zoom=4,
            )
            if len(index) > SHOWN:
                st.caption(f"The first {SHOWN} of them.")

"""Is it a copy? The verdict of the tests, and each sample beside its nearest training images."""

import numpy as np
import streamlit as st

from core import measure
from core.ground.writing import percent
from core.measure import Evaluation
from pages.parts import evaluate, shell, show

PAIRS = 12  # suspects side by side
LEAST, LARGEST = 48, 80  # CSS pixels of one of them; on a phone they stand in two rows


@st.fragment
@shell.guard()
def draw(evaluation: Evaluation) -> None:
    """Shows the verdict of the tests, then each sample beside its nearest training images."""
    verdict = measure.verdict(evaluation)
    sign = {True: st.error, False: st.success, None: st.info}[verdict.copies]
    sign(shell.plain(verdict.sentence), icon=":material/content_copy:")
    if (arrays := evaluation.arrays()) is None:
        evaluate.waits()
    else:
        evaluate.kept(evaluation)
        pairs(evaluation, arrays)
    tests, believe = st.columns([1.3, 1], gap="large")
    for test in verdict.tests:
        icon = {True: "warning", False: "check", None: "help"}[test.flagged]
        tests.markdown(f":material/{icon}: {shell.plain(test.sentence)}")
    believe.markdown(f"**What it would take to believe it.** {shell.plain(verdict.believe)}")


def pairs(evaluation: Evaluation, arrays: measure.Arrays) -> None:
    """Shows samples above their nearest training images, the most suspicious first."""
    pages = -(-len(arrays.suspects) // PAIRS)
    line, turn = st.columns([2, 1], vertical_alignment="center")
    line.markdown("**The most suspicious first**: each sample above its nearest training images.")
    with turn:
        page = st.pagination(
            min(pages, 50), key="evaluate.suspects", bind="query-params", max_visible_pages=5
        )
    at = arrays.suspects[(page - 1) * PAIRS : page * PAIRS]
    rank = arrays.near_rank[at]
    hidden = in_disguise(evaluation, arrays, at)
    rows = {
        "Generated": (
            evaluation.samples(at),
            [
                f"sample {i}: {percent(share)} of held-out real images lie as near to a training image"
                for i, share in zip(at, rank, strict=True)
            ],
        ),
        "Nearest training image, pixel by pixel": (
            measure.training_images(evaluation, arrays.near_pixels[at]),
            [
                f"differs by {d:.3f} per pixel (RMS, 0 to 1)"
                for d in arrays.near_pixels_distance[at]
            ],
        ),
        **hidden,
        "Nearest training image by what it shows (features)": (
            measure.training_images(evaluation, arrays.near_features[at]),
            [f"feature distance {d:.2f}" for d in arrays.near_features_distance[at]],
        ),
    }
    for number, (title, (x, titles)) in enumerate(rows.items()):
        st.caption(title)
        show.pictures(
            x,
            columns=PAIRS,
            key=f"evaluate.pairs.{number}",
            alt=f"{title}: " + "; ".join(titles),
            titles=titles,
            max_zoom=8,
            min_zoom=LEAST / x.shape[-1],
            max_height=2 * LARGEST,
        )
    if near := measure.in_disguise(arrays, at):
        st.caption("In disguise, from the left: " + " · ".join(done for _, done, _ in near) + ".")
    st.caption(
        "Suspicious is a sample that lies nearer to a training image than real images that the model never saw do. "
        "Rest the pointer on one for its distance."
    )


def in_disguise(
    evaluation: Evaluation, arrays: measure.Arrays, at: np.ndarray
) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Gives the row of training images that samples come nearest to in disguise; none in an older evaluation."""
    near = measure.in_disguise(arrays, at)
    if near is None:
        return {}
    titles = [
        f"{done}: {percent(share)} of unseen real images lie as near in disguise"
        for _, done, share in near
    ]
    title = (
        "Nearest training image in disguise: mirrored, turned, shifted, in other light or in grey"
    )
    pictures = measure.training_images(evaluation, np.array([index for index, _, _ in near]))
    return {title: (pictures, titles)}

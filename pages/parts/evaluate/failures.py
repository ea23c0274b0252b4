"""Where a model fails: by class, its least real samples, and the real images that it misses."""

import pandas as pd
import streamlit as st

from core import measure
from core.ground.writing import percent
from core.measure import Evaluation
from pages.parts import evaluate, shell, show


def draw(evaluation: Evaluation) -> None:
    """Shows what each class gets, the least real samples, and the real images that the model covers worst."""
    arrays = evaluation.arrays()
    if arrays is None:
        evaluate.waits()
        return
    evaluate.kept(evaluation)
    unreal, missing = st.columns(2, gap="large")
    names = [str(row["class"]) for row in evaluation.classes]

    def of(code: int) -> str:
        return f", class {names[code]}" if 0 <= code < len(names) else ""

    with unreal:
        least = arrays.unreal[:40]
        st.markdown(
            f"**Least real samples**: {percent((~arrays.realistic).mean())} of {len(arrays.made):,} lie outside what "
            "real images look like."
        )
        show.pictures(
            evaluation.samples(least),
            columns=10,
            key="evaluate.unreal",
            alt="The generated images that are farthest from every real one",
            titles=[
                f"sample {i}{of(int(arrays.made_named[i]))}: realism {arrays.realism[i]:.2f} (1 is realistic)"
                for i in least
            ],
            max_height=210,
            max_zoom=5,
        )
    with missing:
        worst = arrays.uncovered[:40]
        st.markdown(
            f"**Real images that it covers worst**: {percent((~arrays.covered).mean())} of {len(arrays.real):,} have "
            "no generated one near."
        )
        show.pictures(
            measure.reference_images(evaluation)[worst],
            columns=10,
            key="evaluate.uncovered",
            alt="The real images that are farthest from every generated one",
            titles=[
                f"image {arrays.real[i]}{of(int(arrays.real_y[i]))}: the nearest generated one is {arrays.gap[i]:.1f} "
                "times as far as its real neighbours"
                for i in worst
            ],
            max_height=210,
            max_zoom=5,
        )
    if not evaluation.classes:
        st.caption(
            f"{shell.plain(evaluation.dataset)} has no labels, so nothing is told apart by class."
        )
        return
    evaluate.per_class(evaluation.classes, key="evaluate.classes")
    with st.expander("As a table"):
        frame = pd.DataFrame(evaluation.classes)
        shares = [name for name in map(str, frame) if name.endswith("share")]
        shares += [metric.name for metric in measure.by_class(evaluation.classes)]
        st.dataframe(
            show.named(frame, "name", "class"),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="percent") for name in shares
            },
        )

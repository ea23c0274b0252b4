"""Adaptive building: rounds that ask for what a referee gets wrong, beside equal shares at the same budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from core import jobs, kinds
from core.building.adaptive import AdaptConfig
from core.building.proposal import of_rounds
from core.datasets import Dataset
from core.ground.writing import many
from core.kinds import build
from pages.parts import form, job, shell, show

KEY = "build.adapt"


def draw(dataset: Dataset, name: str, prepared: Mapping[str, Any]) -> None:
    """Offers to build in rounds, and shows what the newest one has found."""
    st.markdown(
        "A small referee is trained, and what it gets wrong on held-out images is asked for; then again, until the "
        "budget is spent or two rounds bring nothing. Beside it the same budget in equal shares, with the same seeds; "
        "the test images are looked at once, at the end."
    )
    if not dataset.labelled:
        st.caption("This needs a dataset with labels. Choose another in the sidebar.")
        return
    press = st.container(width="content")
    with st.expander("Settings", icon=":material/tune:"):
        values = form.flat({KEY: AdaptConfig})[KEY]
    shell.press(
        press,
        "Build in rounds",
        start,
        name,
        prepared,
        values,
        key=f"{KEY}.start",
        icon=":material/cycle:",
        disabled=not shell.may_change(),
        help="As a job; it goes on when you leave.",
    )
    mine = [each for each in jobs.listing("adapt") if each.config["dataset"]["name"] == name]
    if mine:
        shell.live(watch, 1 if mine[0].active else None, mine[0].id, dataset, name, prepared)


def start(name: str, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Starts the rounds."""
    given = {f"adapt.{key}": value for key, value in values.items()}
    given |= {f"dataset.{key}": value for key, value in prepared.items()}
    kinds.submit("adapt", {"dataset": name}, given)


@shell.guard()
def watch(id: str, dataset: Dataset, name: str, prepared: Mapping[str, Any]) -> None:
    """Shows the verdict, the gains and the rounds as they come."""
    mine = jobs.get(id)
    job.panel(mine, f"{KEY}.job", "The pairs that are done are kept.")
    result = mine.result()
    if result is None:
        return
    st.markdown(f"**{shell.plain(result['verdict'])}**")
    arms = result["arms"]
    rows = [
        {
            "measured on": ", ".join(result["classes"])
            if gain["of"] == "lacking"
            else "all classes",
            "way": arms[gain["arm"]],
            "against": arms[gain["against"]],
            "points": gain["effect"],
            "95 %": None if gain["low"] is None else f"{gain['low']:+.1f} to {gain['high']:+.1f}",
            "verdict": gain["verdict"] or None,
        }
        for gain in result["gains"]
    ]
    st.dataframe(
        show.named(pd.DataFrame(rows).dropna(axis=1, how="all"), "measured on"),
        hide_index=True,
        key=f"{KEY}.gains",
        column_config={"points": st.column_config.NumberColumn(format="%+.1f")},
        alt="Gains in points of accuracy on real test images",
    )
    st.caption(
        f"{many(result['pairs'], 'pair')} of {result['of']}, n = {result['n_test']:,} real test images, "
        f"{result['n_lacking']:,} of them of the classes that lack most."
    )
    first = result["each"][0]
    st.dataframe(
        show.named(
            pd.DataFrame(
                [
                    {
                        "round": row["round"],
                        "valid right": row["valid"],
                        "surer by": f"{row['gain']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})",
                        "asked for": ", ".join(
                            f"{name}: {n}" for name, n in row["asked"].items() if n
                        ),
                    }
                    for row in first["rounds"]
                ]
            ),
            "asked for",
        ),
        hide_index=True,
        key=f"{KEY}.rounds",
        column_config={
            "valid right": st.column_config.NumberColumn(format="%.1f %%"),
            "surer by": st.column_config.TextColumn(
                help="How much more probable the right class has become on held-out images, in points, with the "
                "interval of 95 %; two rounds whose interval holds 0 end the work."
            ),
        },
        alt="The rounds of the first pair",
    )
    if first["stopped"]:
        st.caption(f"The first pair stopped early: {first['stopped']}.")
    for note in result["notes"]:
        st.caption(shell.plain(note))
    if result["done"] and any(result["asked"].values()):
        pipeline = mine.config["adapt"]["pipeline"]
        plan = of_rounds(dataset, result["asked"], start=name, values=prepared, pipeline=pipeline)
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        title = left.text_input(
            "Name of the new dataset", f"{dataset.name}-adapted", key=f"{KEY}.name.{dataset.name}"
        )
        shell.press(
            right,
            "Build what was asked for",
            build.start,
            plan,
            title,
            key=f"{KEY}.build",
            icon=":material/construction:",
            disabled=not shell.may_change(),
            width="stretch",
            help="As augmented images, in the numbers that the pairs have asked for on average. As a job.",
        )
    job.take(mine, KEY)

"""Does it help: an experiment with equal steps and paired seeds, judged on real images that nothing else has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from core import jobs
from core.ground.writing import duration
from pages.parts import form, shell, show
from pages.parts.augment import dataset, recipes
from pages.parts.job import panel

PROOF = ("referee", "backbone")  # the page Build asks for them


def draw(chain: Any, data: str) -> None:
    """Asks for the experiment, says how long it takes, and shows the newest."""
    from core.building import experiment
    from core.building.experiment.arms import ordered

    if not dataset(data).labelled:
        with shell.empty("This needs a dataset with labels. Choose another in the sidebar."):
            shell.go("data", "Look at the data")
        return
    config, key = experiment.ExperimentConfig, "augment.experiment"
    head = st.container(horizontal=True, vertical_alignment="center")
    press = head.container(width="content")  # before what it takes its values from
    st.session_state.setdefault(f"{key}.quick", True)
    with head:
        quick = form.control(config.knobs()["quick"], key)
    with st.expander("Settings", icon=":material/tune:"):
        omit = {"pipeline", "quick", *PROOF, *(arm.name for arm in ordered() if arm.origins)}
        values = form.flat({key: config}, omit=omit)[key] | {"quick": quick}
    shell.press(
        press,
        "Run the experiment",
        recipes.start,
        "experiment",
        data,
        chain,
        values,
        type="primary",
        key="augment.prove",
        icon=":material/science:",
        disabled=not shell.may_change() or not experiment.acts(chain),
        help="As a job; it goes on when you leave, and fills the chart as it comes.",
    )
    with head, shell.guard():
        st.caption(f"Expected time: about {duration(expected(chain, data, values))}.")
    experiments = recipes.newest("experiment", data)
    if not experiments:
        with shell.empty(
            "The same small classifier is trained on few real images: plain, with a placebo of as many steps, with "
            "the chain, with TrivialAugment, with synthetic samples of a generator that saw only those images. "
            "Each pair shares its seed and its images; the test images are real and without duplicates.",
            ":material/science:",
        ):
            return
    id = experiments[0].id
    if len(experiments) > 1:
        id = st.selectbox(
            "Experiment",
            [job.id for job in experiments],
            key="augment.experiments",
            format_func=lambda id: next(
                f"{job.name}, {job.id[4:13]}, {job.status}" for job in experiments if job.id == id
            ),
            label_visibility="collapsed",
        )
    shell.live(watch, 1 if jobs.get(id).active else None, id)


def expected(chain: Any, data: str, values: dict[str, Any]) -> float:
    """Gives the seconds that the experiment will take, by doing a few steps of it.

    Raises:
        UserError: If the chain cannot be trained with, or a value is not allowed.
    """
    from core import augment

    if values.get("chain", True):
        augment.training(chain)
    stand_in = recipes.known(chain) or "digits"  # a chain that is not saved costs about the same
    return _expected(data, tuple(sorted({**values, "pipeline": stand_in}.items())))


@st.cache_data(max_entries=64, show_spinner="Measuring how fast it is")
def _expected(data: str, values: tuple[tuple[str, Any], ...]) -> float:
    from core.building import experiment

    return experiment.expected_seconds(
        dataset(data), experiment.ExperimentConfig.of(dict(values), "experiment")
    )


@shell.guard()
def watch(id: str, again: bool = True) -> None:
    """Shows the verdict, the learning curves and the table as they fill."""
    job = jobs.get(id)
    panel(job, "augment.proof", "What it has measured is kept.", again)
    result = job.result()
    if result is None:
        st.caption("The first results arrive in a moment.")
        return
    if result["verdict"]:
        st.markdown(f"**{shell.plain(result['verdict'])}**")
    elif result["quick"] and not job.active:
        further(job)
    curves(result)
    rows = pd.DataFrame(
        [
            {
                "trained with": result["arms"][cell["arm"]],
                "per class": cell["size"],
                "effect": cell["effect"],
                "95 %": None
                if cell["low"] is None
                else f"{cell['low']:+.1f} to {cell['high']:+.1f}",
                "verdict": cell["verdict"] or None,
                "accuracy": cell["mean"],
                "without": cell["plain_mean"],
                "p": cell["p_holm"] if cell.get("p_holm") is not None else cell["p"],
                "attacked": hard["mean"] if (hard := cell.get("robust")) else None,
                "attacked ±": hard["effect"] if hard and cell["arm"] != "none" else None,
                "worth (real)": worth["short"] if (worth := cell.get("worth")) else None,
            }
            for cell in result["cells"]
            if cell["arm"] != "none" or len(result["cells"]) == len(result["sizes"])
        ]
    )
    if len(result["sizes"]) == 1:
        rows = rows.drop(columns="per class", errors="ignore")
    st.dataframe(
        rows.dropna(axis=1, how="all"),
        hide_index=True,
        key="augment.cells",
        column_config={
            "accuracy": st.column_config.NumberColumn(format="%.1f %%"),
            "without": st.column_config.NumberColumn(format="%.1f %%"),
            "trained with": st.column_config.TextColumn(width=180),
            "effect": st.column_config.NumberColumn(
                format="%+.1f",
                width=55,
                help="Points of accuracy, against the same training without (the plain arm).",
            ),
            "95 %": st.column_config.TextColumn(width=90),
            "verdict": st.column_config.TextColumn(width=80),
            "attacked": st.column_config.NumberColumn(
                format="%.1f %%",
                help="Accuracy that a cheap attack of the usual strength leaves; the notes below say which.",
            ),
            "attacked ±": st.column_config.NumberColumn(
                format="%+.1f", help="Its difference to the plain arm, in points."
            ),
            "worth (real)": st.column_config.TextColumn(
                help="How many real images of each class would have given the same accuracy, by their learning curve."
            ),
            "p": st.column_config.NumberColumn(
                format="%.3f", help="Sign-flip test, corrected for the number of questions (Holm)."
            ),
        },
        alt="Accuracy and effect of each arm, by images per class",
    )
    basis = f"{result['pairs']} pairs, n = {result['n_test']:,} real test images"
    if result.get("removed_test"):
        basis += f" ({result['removed_test']} duplicates of training images removed)"
    st.caption(basis + ".")
    for note in result.get("notes", []):
        st.caption(shell.plain(note))
    for arm, title in result["arms"].items():
        if rows := [row for row in result.get("synthetic", []) if row["arm"] == arm]:
            st.caption(f"{title}: {used(rows)}")
    st.download_button(
        "Everything (JSON)",
        lambda: (job.path / "experiment.json").read_bytes(),
        f"{job.id}.json",
        "application/json",
        key="augment.proof.json",
        icon=":material/download:",
        on_click="ignore",
    )


def further(job: jobs.Job) -> None:
    """Offers a quick look that has ended to go on to a verdict, with the time."""
    from core.kinds.experiment import go_on, seconds_to_verdict

    pairs, left = job.config["experiment"]["pairs"], seconds_to_verdict(job)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown("A quick look with 3 pairs: too few for a verdict.")
        shell.press(
            st,
            f"Go on to {pairs} pairs" + (f", about {duration(left)}" if left else ""),
            go_on,
            job.id,
            type="primary",
            key="augment.proof.further",
            icon=":material/play_arrow:",
            disabled=not shell.may_change(),
            help="What it has measured is a part of that.",
        )


def around(values: Sequence[float]) -> list[float] | None:
    """Gives an axis some points of width where the first values are all alike; None leaves it to the chart."""
    low, high = min(values, default=0), max(values, default=100)
    return None if high - low >= 2 else [round((low + high) / 2) - 2, round((low + high) / 2) + 2]


def curves(result: dict[str, Any]) -> None:
    """Draws accuracy against real images per class, one line per arm."""
    import plotly.graph_objects as go

    figure, middle = go.Figure(), (len(result["arms"]) - 1) / 2
    every: list[float] = []
    for number, (arm, title) in enumerate(result["arms"].items()):
        beside = 1.02 ** (number - middle)  # so that one bar does not hide another
        cells = [cell for cell in result["cells"] if cell["arm"] == arm]
        points = [(cell["size"], cell["mean"], cell["accuracies"]) for cell in cells]
        if arm == "none":
            by_size = {cell["size"]: cell["plain_mean"] for cell in result["cells"]}
            points = points or [(size, mean, [mean]) for size, mean in by_size.items()]
        if not points:
            continue
        every += [value for point in points for value in point[2]]
        figure.add_scatter(
            x=[p[0] * beside for p in points],
            y=[p[1] for p in points],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [max(p[2]) - p[1] for p in points],
                "arrayminus": [p[1] - min(p[2]) for p in points],
                "thickness": 1,
                "width": 3,
            },
            name=title,
            mode="lines+markers",
            line={
                "color": show.colour(number),
                "width": 2,
                "dash": "dot" if arm == "placebo" else "solid",
            },
        )
    figure.update_layout(
        height=280,
        margin={"l": 44, "r": 8, "t": 40, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        xaxis={
            "title": {"text": "real images per class"},
            "type": "log",
            "tickvals": result["sizes"],
        },
        yaxis={
            "ticksuffix": " %",
            "range": around(every),
            "title": {"text": "accuracy on real test images"},
        },
    )
    show.plot(
        figure,
        key="augment.curves",
        config={"displayModeBar": False},
        alt="Accuracy against real images per class for each arm; bars reach from the worst to the best pair",
    )


def used(rows: list[dict[str, Any]]) -> str:
    """Says how many synthetic samples were used, and why the others were left out."""
    from core.building import experiment

    unused, used = experiment.samples_used(rows)
    return shell.plain(used or unused)

"""How far a dataset lies from another version or site, or from itself under a corruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from core import datasets, jobs, kinds
from core.building.drift import Drift, DriftConfig, sure, three
from core.datasets import Dataset
from core.ground.cache import Cache
from core.ground.writing import percent
from pages.parts import form, job, shell, show
from pages.parts.glossary import explained

KEY = "build.drift"
_known: Cache[Drift] = Cache(16)


def draw(dataset: Dataset, name: str, prepared: Mapping[str, Any]) -> None:
    """Shows how far the other side lies, class by class, and what a model is worth on both."""
    config = asked(dataset, name)
    with shell.guard():
        found = compared(dataset, config)
        st.markdown(f"**{shell.plain(found.sentence)}**")
        left, right = st.columns([1.2, 1], gap="medium")
        with left:
            chart(found)
        with right:
            examples(dataset, config)
            facts(found)
        with st.expander("As a table"):
            listed(found)
        model(dataset, name, prepared, config)


def asked(dataset: Dataset, name: str) -> DriftConfig:
    """Draws what the dataset is compared with: at first what it is a version of, where that is still there."""
    from core.robustness import corruptions

    knobs = DriftConfig.knobs()
    others = [other for other in datasets.names() if other != name]
    against, corruption, severity, more = st.columns([2, 2, 1.4, 1], vertical_alignment="bottom")
    chosen = against.selectbox(
        knobs["against"].label,
        options := ["", *others],
        index=options.index(dataset.parent) if dataset.parent in options else 0,
        key=f"{KEY}.against.{name}",
        format_func=lambda other: (
            "other images of its own" if not other else shell.plain(datasets.describe(other).title)
        ),
        help=explained("A second version, another site. Items must be of the same shape.", "Drift"),
    )
    with corruption:
        what = st.selectbox(
            knobs["corruption"].label,
            knobs["corruption"].options,
            key=f"{KEY}.corruption",
            format_func=lambda kind: corruptions.title(kind) if kind else "none",
            help=knobs["corruption"].help,
            persist_state="session",
        )
    knob, how = knobs["severity"], knobs["severity"].default
    if what:  # a control without effect is not shown
        how = severity.slider(
            knob.label,
            int(knob.low or 1),
            int(knob.high or 5),
            knob.default,
            key=f"{KEY}.severity",
            help=knob.help,
        )
    with more.popover("Settings", icon=":material/tune:", width="stretch"):
        omit = {"against", "corruption", "severity", "run", "model_images"}
        values = form.flat({KEY: DriftConfig}, omit=omit)[KEY]
    return DriftConfig.of(
        {**values, "against": chosen or "", "corruption": what, "severity": how}, "drift"
    )


def compared(dataset: Dataset, config: DriftConfig) -> Drift:
    """Measures the drift; once, until a side or the question changes."""
    from core.building.drift import drift, other_of

    bar = show.Bar()
    try:
        other = other_of(dataset, config, bar)
        key = (dataset.fingerprint, other.fingerprint, str(config.record()))
        return _known.get(key, lambda: drift(dataset, other, config, bar))
    finally:
        bar.close()


def chart(found: Drift) -> None:
    """Draws how surely the sides are told apart, for all and for each class, with intervals."""
    import plotly.graph_objects as go

    rows = [each for each in (found.whole, *found.classes) if each.auc]
    rows = rows[:1] + sorted(rows[1:], key=lambda each: -each.auc.value if each.auc else 0)[:24]
    rows.reverse()  # a chart counts from below
    ends = [each.auc for each in rows if each.auc]
    figure = go.Figure()
    figure.add_scatter(
        x=[e.value for e in ends],
        y=[each.name for each in rows],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [e.high - e.value for e in ends],
            "arrayminus": [e.value - e.low for e in ends],
            "thickness": 1.5,
            "width": 4,
        },
        mode="markers",
        marker={"size": 9, "color": show.colour(0)},
        name="told apart",
    )
    figure.add_vline(0.5, line={"width": 1, "dash": "dot", "color": show.ink()})
    figure.update_layout(
        height=max(200, 80 + 22 * len(rows)),
        showlegend=False,
        yaxis_type="category",
        xaxis={
            "title": "how surely a classifier tells the sides apart (AUC)",
            "range": [0.2, 1.02],
        },
    )
    show.plot(
        figure,
        key=f"{KEY}.chart",
        alt="AUC of a classifier of origin, for all images and each class",
    )
    st.caption(
        "0.5 (dotted) is chance: nobody could say which side an image comes from. Bars are intervals of 95 %, on "
        "images that the classifier has not learned from."
    )


def examples(dataset: Dataset, config: DriftConfig) -> None:
    """Shows some images of both sides."""
    from core.building.drift import other_of, sides

    for side in sides(dataset, other_of(dataset, config), config):
        st.caption(shell.plain(side.title))
        show.pictures(
            dataset.medium.drawn(side.x[:12]),
            columns=12,
            key=f"{KEY}.side.{side.title}",
            alt=f"Images of {side.title}",
            max_height=60,
        )


def facts(found: Drift) -> None:
    """Says how the classes moved, and what else is to be known."""
    if found.shares is not None:
        shares = found.shares
        st.caption(
            f"Classes: {percent(shares.value)} ({percent(shares.low)} to {percent(shares.high)}) of the images would "
            "have to change their class to occur as often as here."
        )
    for note in found.notes:
        st.caption(shell.plain(note))
    for why in dict.fromkeys(each.why for each in found.classes if each.auc is None):
        unsure = [each.name for each in found.classes if each.why == why]
        reason = why.removeprefix("cannot tell: ")
        st.caption(shell.plain(f"Cannot tell ({reason}): {', '.join(unsure[:20])}."))


def listed(found: Drift) -> None:
    """Lists AUC and KID of each class with intervals and n."""
    rows = [
        {
            "class": each.name,
            "AUC, 95 %": sure(each.auc) if each.auc else each.why,
            "KID": each.kid.value if each.kid else None,
            "KID, 95 %": f"{three(each.kid.low)} to {three(each.kid.high)}" if each.kid else None,
            "n": f"{each.n[0]:,} and {each.n[1]:,}",
        }
        for each in (found.whole, *found.classes)
    ]
    st.dataframe(
        show.named(pd.DataFrame(rows), "class"),
        hide_index=True,
        key=f"{KEY}.table",
        column_config={
            "KID": st.column_config.NumberColumn(
                format="%.3f", help="Kernel distance of the features: 0 for equal distributions."
            ),
        },
        alt="AUC and KID of each class",
    )


def model(dataset: Dataset, name: str, prepared: Mapping[str, Any], config: DriftConfig) -> None:
    """Offers to measure a model on both sides: kept, trained on and trained anew."""
    from core.augment.generative import runs_for

    st.subheader("What is a model worth on both?", anchor=False)
    listed = {run.id: run for run in runs_for("sample", dataset)}
    if not listed:
        st.caption("No model of images like these is trained yet.")
        shell.go("train", "Train one")
        return
    left, middle, right = st.columns([2, 1.2, 1], vertical_alignment="bottom")
    run = left.selectbox(
        "Model",
        list(listed),
        key=f"{KEY}.run.{name}",
        format_func=lambda id: shell.called(listed[id]),
        help="It is measured as it is, after training on with the other images, and trained anew on them.",
    )
    with middle:
        images = form.control(DriftConfig.knobs()["model_images"], KEY)
    with right:
        shell.press(
            st,
            "Measure it",
            start,
            name,
            prepared,
            {**config.record(), "run": run, "model_images": images},
            key=f"{KEY}.start",
            icon=":material/straighten:",
            disabled=not shell.may_change(),
            width="stretch",
            help="As a job; it goes on when you leave.",
        )
    mine = [each for each in jobs.listing("drift") if each.config["dataset"]["name"] == name]
    if mine:
        shell.live(watch, 1 if mine[0].active else None, mine[0].id)


def start(name: str, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Starts the job."""
    given = {f"drift.{key}": value for key, value in values.items()}
    given |= {f"dataset.{key}": value for key, value in prepared.items()}
    kinds.submit("drift", {"dataset": name}, given)


@shell.guard()
def watch(id: str) -> None:
    """Shows what the model is worth on either side."""
    mine = jobs.get(id)
    job.panel(mine, f"{KEY}.job")
    result = mine.result()
    if not result or not result["worth"]:
        return
    worth = result["worth"]
    st.caption(
        shell.plain(
            f"{worth['name']}, for {result['a']} and {result['b']}; continued and retrained with "
            f"{worth['images']:,} images."
        )
    )
    st.markdown(f"**{shell.plain(worth['sentence'])}**")
    rows = [
        {
            "model": row["title"],
            "on": row["on"],
            "KID": round(row["kid"]["value"], 3) + 0.0,
            "95 %": f"{three(row['kid']['low'])} to {three(row['kid']['high'])}",
            "real images": round(row["floor"]["value"], 3) + 0.0,
            "n": row["n"],
        }
        for row in worth["rows"]
    ]
    number: Any = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        show.named(pd.DataFrame(rows), "on"),
        hide_index=True,
        key=f"{KEY}.worth",
        column_config={"KID": number, "real images": number},
        alt="Distance of each model's samples to the held-out images of both sides",
    )
    st.caption("KID, lower is better; beside it that of real training images of the same side.")
    job.take(mine, KEY)

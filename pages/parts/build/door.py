"""May this dataset go out? The checks at the door, shares by class and attribute, and the card that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import runs
from core.ground.writing import many, percent, percents
from pages.parts import form, shell, show
from pages.parts.data import titles
from pages.parts.show import Bar
from pages.parts.table import Row, table

SHOWN = 8  # groups that are seen at once


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Answers first, then who is on the items, then the card as it will be written."""
    from core.building import bias

    left, right = st.columns([1.15, 1], gap="large")
    with left, shell.guard():
        purpose = asked(dataset)
    with right, shell.guard():
        flags = classifier(dataset, name)
        groups(bias.table(dataset, flags), flags)
    with shell.guard():
        written(dataset, purpose, flags)


def asked(dataset: Any) -> str:
    """Asks the dataset at the door, and says what was found; gives what it leaves for."""
    from core.building import door, optout

    knobs = door.DoorConfig.knobs()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        purpose = form.control(knobs["purpose"], "build.door")
        near = st.toggle(
            "Near copies",
            key="build.near",
            help="Also looks for training images that are nearly a held-out one. It takes longest, and every export "
            "does it.",
        )
    config, bar, unlooked = door.DoorConfig(purpose=purpose, near=near), Bar(), {}
    try:
        leaving = optout.without(dataset)
        refusals = door.check(leaving, config, watch=bar, unlooked=unlooked)
    finally:
        bar.close()
    found = {refusal.check: refusal for refusal in refusals}
    if note := optout.staying(dataset):
        st.info(note, icon=":material/block:")
    if found:
        st.error(
            f"**It is held at the door: {many(len(found), 'check')} of {len(door.ordered())}.**",
            icon=":material/block:",
        )
    else:
        looked = len(door.ordered()) - len(unlooked)
        st.success(
            f"**It may go out: {looked} checks found nothing.**", icon=":material/check_circle:"
        )
    lines = []
    for entry in door.ordered():
        if (refusal := found.get(entry.name)) is not None:
            st.markdown(
                f":red[:material/block:] **{entry.title}.** {shell.plain(refusal.sentence)}"
            )
            if 0 < refusal.count < len(leaving):
                examples(leaving, refusal)
        elif entry.name in unlooked:
            lines.append(
                f":gray[:material/remove:] {entry.title}: {shell.plain(unlooked[entry.name])}"
            )
        else:
            lines.append(f":green[:material/check:] {entry.fine}")
    st.markdown("  \n".join(lines))
    if found:
        first = next(iter(found))
        st.caption(
            "Whoever may decide it overrides a check with a reason, at *Take away* or by "
            f'`export --override {first}="the reason"`; the card says so.'
        )
    return "" if purpose == "not said" else purpose


def examples(dataset: Any, refusal: Any) -> None:
    """Shows some of the items that a check is about."""
    rows = list(refusal.examples)
    show.pictures(
        dataset.pictures(rows),
        columns=12,
        key=f"build.door.{refusal.check}",
        titles=titles(dataset, rows),
        max_height=64,
        alt=f"{len(rows)} of {refusal.count:,} items: {refusal.check}",
    )


def classifier(dataset: Any, name: str) -> Any:
    """Asks for a classifier whose accuracy is told by group; gives whether it was right on each item, or None."""
    from core.building import bias

    own = {
        run.id: run.name
        for run in runs.listing()
        if runs.classifies(run) and runs.dataset_of(run) == name and runs.checkpoints(run)
    }
    if not own or not dataset.labelled:
        return None
    chosen = st.selectbox(
        "Shares of the items, or accuracy of",
        ["", *own],
        key="build.bias",
        format_func=lambda id: own.get(id, "no classifier: shares only"),
        help="A classifier that was trained on this dataset is asked about its test images.",
    )
    return bias.right_of(dataset, chosen) if chosen else None


def groups(rows: Any, flags: Any) -> None:
    """Shows the share of each group, or how often a classifier is right on it, with intervals."""
    from core.building import bias

    what = "Who and what is on it" if flags is None else "For whom it is right"
    st.markdown(
        f"**{what}**",
        help="By class and by every attribute with a few values. The interval (Wilson's, 95 %) says how far chance "
        f"alone may move a share; of fewer than {bias.FEWEST} items nothing is said.",
    )
    if not rows:
        st.caption("It has no classes, and no attribute with a few values.")
        return
    for text in bias.sentences(rows, flags)[:3]:
        st.caption(f":material/balance: {shell.plain(text)}")
    what = "Share of all" if flags is None else "Accuracy"
    lines, heads = [line(row, top(row, rows)) for row in rows], ("Group", what, "Items")
    alt = f"{'Shares' if flags is None else 'Accuracy'} by class and attribute"
    table(lines[:SHOWN], alt=alt, heads=heads)
    if more := lines[SHOWN:]:  # folded: no key reaches what scrolls by itself
        with st.expander(f"{len(more)} more"):
            table(more, alt=f"{alt}, the others", heads=heads)


def top(row: Any, rows: Any) -> float:
    """Gives the right end of a bar, so that those of one column can be compared: the largest share, or all."""
    if row.accuracy is not None:
        return 1.0
    return max(other.share.high for other in rows if other.column == row.column)


def line(row: Any, top: float) -> Row:
    """Makes a row of the table."""
    told = row.share if row.accuracy is None else row.accuracy
    if not told.n:
        return Row(row.value, "–", real="0", group=row.column.replace("_", " "), note=row.verdict)
    return Row(
        row.value,
        percent(told.value),
        told.value,
        percents(*told.interval),
        told.interval,
        top=top,
        real=f"{told.n if row.accuracy is not None else row.n:,}",
        group=row.column.replace("_", " "),
        note=row.verdict,
    )


def written(dataset: Any, purpose: str, flags: Any) -> None:
    """Shows the card as it will be written into every export."""
    from core import datasets
    from core.building import card

    text = card.readme(dataset, purpose=purpose, right=flags)
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            "**The card** that goes with it",
            help="README.md of every export: a head for programs and hubs, and the questions of a datasheet. What "
            "nobody has said or measured is written as not known.",
        )
        st.download_button(
            "README.md",
            text,
            f"{datasets.slug(dataset.name)}-README.md",
            "text/markdown",
            key="build.card",
            icon=":material/download:",
            on_click="ignore",
        )
    with st.expander("What it says", icon=":material/article:"):
        st.markdown(body)
    with st.expander("Its head, for programs"):
        st.code(head, language="yaml")

"""One picture at large: what is known of it, what is most like it, and what a person decides about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core.datasets import SPLITS
from core.ground.writing import day, percent
from pages.parts import shell, show
from pages.parts.data import mending, removing, titles

LIKE = 8  # pictures beside the one that they resemble


def open(dataset: Any, image: int, among: np.ndarray) -> None:
    """Opens a picture in a dialog, from which one goes on through others.

    Args:
        dataset: What it is of.
        image: Its index.
        among: Indices of the pictures that one goes through, in their order, (n,).
    """
    st.session_state["data.item"] = int(image)
    _dialog(dataset, among)


def made_by(dataset: Any, image: int) -> tuple[str, str, str]:
    """Gives the origin, run and parameters of an item."""
    from core.building.version import provenance

    columns = provenance(dataset)
    origin, run, parameters = (columns[name] for name in ("origin", "run", "parameters"))
    return str(origin[image]), str(run[image]), str(parameters[image])


@st.dialog("Look closely", width="large", on_dismiss="rerun")
@shell.guard()
def _dialog(dataset: Any, among: np.ndarray) -> None:
    image = st.session_state["data.item"]
    step(image, among)
    left, right = st.columns([1, 1.2], gap="medium")
    with left:
        if removing.offer(dataset):
            removing.draw(dataset, image, right)
        else:
            show.item(
                dataset.x[image],
                dataset.medium,
                f"{dataset.name}-{image}",
                key="data.item.of",
                levels=dataset.levels,
                max_height=430,
                made=made_by(dataset, image),
            )
        if dataset.pair is not None:
            st.caption(f"Its second image: {shell.plain(dataset.pair.name)}")
            show.pictures(
                dataset.pair.pictures([image]),
                columns=1,
                key="data.item.pair",
                alt=f"{dataset.pair.name} of image {image} of {dataset.name}",
                max_height=430,
                max_zoom=48,
            )
        repaired(dataset, image)
    with right:
        facts(dataset, image)
        decide(dataset, image)
        resembling(dataset, image)


def repaired(dataset: Any, image: int) -> None:
    """Shows what takes the picture's place in the next version, with Undo; nothing where it was not repaired."""
    from core.quality import decisions

    book = decisions.open(dataset)
    entry = book.repaired.get(image)
    if entry is None or entry.filling is None:
        return
    with shell.guard():
        item = decisions.repaired_item(dataset, book, image)
        assert item is not None
        show.pictures(
            dataset.medium.pictures(item[None], dataset.levels),
            columns=1,
            key="data.item.repaired",
            alt=f"Image {image} as it was repaired",
            max_height=180,
            max_zoom=24,
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":material/check: Repaired, in the next version. {shell.plain(decisions.reason(entry))}"
        )
        st.button(
            "Undo",
            key="data.item.repaired.undo",
            icon=":material/undo:",
            type="tertiary",
            on_click=mending.undo,
            args=(dataset, entry.id),
            disabled=not shell.may_change(),
        )


def step(image: int, among: np.ndarray) -> None:
    """Offers the one before and the one after, by button and by arrow key."""
    place = np.flatnonzero(among == image)
    at = int(place[0]) if len(place) else -1

    def go(to: int) -> None:
        st.session_state["data.item"] = int(among[to])

    with st.container(horizontal=True, vertical_alignment="center"):
        for key, word, to, shortcut in (
            ("before", "Previous", at - 1, "Left"),
            ("after", "Next", at + 1, "Right"),
        ):
            st.button(
                word,
                key=f"data.item.{key}",
                shortcut=shortcut,
                on_click=go,
                args=(to,),
                disabled=not 0 <= to < len(among),
            )
        st.caption(f"{at + 1:,} of {len(among):,}" if at >= 0 else "not among those chosen")


def facts(dataset: Any, image: int) -> None:
    """Tells what is known of a picture: name, label, split, origin, and what an inspection has found."""
    from core import quality
    from core.building.version import COLUMNS, provenance

    known = {name: column[image] for name, column in (dataset.attributes or {}).items()}
    origin, parent = (provenance(dataset)[name][image] for name in ("origin", "parent"))
    file = str(known.pop("picture", ""))
    rows = {
        "Image": f"{image} of {dataset.name}",
        **({"File": file} if file else {}),
        "Label": dataset.classes[dataset.y[image]] if dataset.labelled else "none",
        "Part": SPLITS[dataset.split_of()[image]],
        "Origin": str(origin) + (f", from image {parent}" if parent >= 0 else ""),
    }
    job = quality.newest(dataset)
    found = job.result() if job is not None and not job.active else None
    if found is not None and "doubt" in found.scores:
        doubt = float(found.scores["doubt"][image])
        rows["Doubt of the label"] = "not judged" if np.isnan(doubt) else percent(doubt)
    st.markdown(
        "  \n".join(f"**{shell.plain(name)}** {shell.plain(str(v))}" for name, v in rows.items())
    )
    more = [
        f"{name.replace('_', ' ')} {value:.3g}"
        if isinstance(value, float | np.floating)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in known.items()
        if name not in COLUMNS and str(value)
    ]
    if more:
        st.caption(shell.plain(" · ".join(more)))
    for issue in found.issues if found is not None else ():
        if issue.image == image:
            title = quality.checks.get(issue.kind).title
            st.caption(f":material/flag: **{title}**: {shell.plain(issue.sentence)}")


def decide(dataset: Any, image: int) -> None:
    """Says what was decided about a picture, with Undo, and offers to leave it out, to keep it and to set its label."""
    from core.quality import decisions

    book = mending.opened(dataset)
    if refused := st.session_state.pop("_refused", None):
        shell.refuse(refused)
    entry, locked = book.about(image), not shell.may_change()
    typed, chosen = f"data.item.why.{image}", f"data.item.label.{image}"

    def act(what: str, label: int | None = None) -> None:
        mending.act(dataset, what, [image], label, reason=st.session_state.get(typed, ""))

    def relabel() -> None:
        label, st.session_state[chosen] = st.session_state[chosen], None
        if label is not None:
            act("relabel", label)

    def back(id: str) -> None:
        mending.undo(dataset, id)
        st.session_state.pop(
            "_done", None
        )  # it is seen here, and need not be told when this is closed

    if entry is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            action, label = book.state[image]
            done = decisions.WORDS[action]
            done = done if label is None else f"label set to {dataset.classes[label]}"
            more = f", with {len(entry.images) - 1:,} more" if len(entry.images) > 1 else ""
            reason = decisions.reason(entry)
            st.markdown(
                f":material/check: {shell.plain(done.capitalize() + more)}"
                + (f". {shell.plain(reason)}" if reason else "")
            )
            st.button(
                "Undo",
                key="data.item.undo",
                icon=":material/undo:",
                type="tertiary",
                on_click=back,
                args=(entry.id,),
                disabled=locked,
            )
        if told := mending.news(dataset, entry):
            st.caption(f":material/info: {shell.plain(told)}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for (what, (word, help)), shortcut in zip(mending.WAYS.items(), ("x", "k"), strict=True):
            st.button(
                word,
                key=f"data.item.{what}",
                shortcut=shortcut,
                help=help,
                on_click=act,
                args=(what,),
                disabled=locked or (entry is not None and book.state[image][0] == what),
            )
        if dataset.labelled:
            st.selectbox(
                "Set label",
                range(len(dataset.classes)),
                index=None,
                key=chosen,
                placeholder="Set label …",
                format_func=lambda i: dataset.classes[i],
                on_change=relabel,
                label_visibility="collapsed",
                width=150,
                disabled=locked,
            )
    st.text_input("Why (if you like)", key=typed, max_chars=300, disabled=locked)
    forget(dataset, image)


def forget(dataset: Any, image: int) -> None:
    """Offers to put a picture on the list of what must not be used, or says that it is there and since when."""
    from core import runs
    from core.building.optout import retrain
    from core.datasets import optout

    with shell.guard():
        entry = optout.matches_row(dataset, image)
        if entry is not None:
            source = f"{dataset.name}:{image}"
            of = "" if entry.source == source else f", like {shell.plain(entry.source)}"
            st.caption(
                f":material/block: Must not be used any more{of}: {shell.plain(entry.reason)} ({day(entry.when)}). "
                "Later imports, builds and exports leave it out."
            )
            st.button(
                f"Take {'it' if not of else shell.plain(entry.source)} off the list",
                key=f"data.item.forget.undo.{image}",
                icon=":material/undo:",
                on_click=lambda: shell.attempt(optout.undo, [entry.source]),
                disabled=not shell.may_change(),
            )
            if again := [shell.called(run) for run in runs.listing() if retrain(run)]:
                more = f" and {len(again) - 5:,} more" if len(again) > 5 else ""
                st.caption(f"To be trained again: {shell.plain(', '.join(again[:5]))}{more}.")
            return
    if not shell.may_change():
        return
    # no popover: one that vanishes in a dialog leaves it deaf to Escape
    with st.expander("Must not be used any more", icon=":material/block:"):
        st.caption(
            "For somebody who withdraws consent. Later imports, builds and exports leave the picture out; models that "
            "have learned from it are to be trained again. It can be taken off the list here."
        )
        typed = f"data.item.forget.why.{image}"
        st.text_input("Reason", key=typed, max_chars=300)
        confirm = f"data.item.forget.near.{image}"
        copies(dataset, image, confirm)

        def act() -> None:  # what was typed right before the press counts
            said, near = st.session_state.get(typed, ""), st.session_state.get(confirm, False)
            shell.attempt(optout.forget, dataset, [image], said, shell.who(), near)

        st.button(
            "Put it on the list",
            key=f"data.item.forget.{image}",
            icon=":material/block:",
            on_click=act,
        )


def copies(dataset: Any, image: int, key: str) -> None:
    """Shows which pictures are nearly one, to be confirmed before they are put on the list with it."""
    from core.datasets import optout

    if dataset.medium.item != "picture":
        return
    stored = f"data.copies.{dataset.fingerprint}.{image}"
    if not st.checkbox(
        "Its near copies, too",
        key=key,
        help="Also in sets that are imported later: mirrored, lighter or darker, moved by a few pixels, as JPEG. "
        "Without it only the very pixels count.",
    ):
        return
    if stored not in st.session_state:
        with st.spinner("Looking for near copies"):
            st.session_state[stored] = optout.near_copies(dataset, image)
    found = st.session_state[stored]
    st.caption(
        f"{len(found):,} near {'copy' if len(found) == 1 else 'copies'} in this dataset."
        + (" Look at them: if one is another picture, untick this." if found else "")
    )
    if found:
        show.pictures(
            dataset.pictures(found[:24]),
            columns=LIKE,
            side=64,
            key="data.item.copies",
            alt=f"{len(found)} near copies of image {image}",
            titles=titles(dataset, found[:24]),
        )


def resembling(dataset: Any, image: int) -> None:
    """Shows the pictures that are most like one, and goes to them."""
    from core.quality.likeness import likeness

    bar = show.Bar()
    try:
        near = likeness(dataset, bar).alike(image)[1 : LIKE + 1]
    finally:
        bar.close()
    if not len(near):
        return
    y = dataset.y
    other = {i: "≠" for i, at in enumerate(near) if y is not None and y[at] != y[image]}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Most like it**" + (" · ≠ has another label" if other else ""))
        wanted = {
            "data.like": (dataset.fingerprint, image),
            "data.sort": "like",
            "data.view": "look",
        }
        if st.button(
            "Sort all by it",
            key="data.item.like",
            type="tertiary",
            on_click=lambda: st.session_state.update(wanted),
        ):
            st.rerun()
    show.pictures(
        dataset.pictures(near),
        columns=LIKE,
        side=64,
        key="data.item.near",
        alt=f"The {len(near)} pictures most like image {image}",
        titles=titles(dataset, near),
        marks=other,
        clickable=True,
    )
    if (tile := show.clicked("data.item.near", len(near))) is not None:
        st.session_state["data.item"] = int(near[tile])
        st.rerun(scope="fragment")

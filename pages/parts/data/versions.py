"""What becomes of the decisions: their log with undo, a new version of the dataset, and its terms."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, get_args

import streamlit as st

from core import datasets
from core.ground import tables
from pages.parts import shell, show
from pages.parts.data import domains, load, mending, relabelling


def draw(dataset: Any) -> None:
    """Shows the decisions, and offers a version with them."""
    left, right = st.columns(2, gap="large")
    with left:
        decided(dataset)
        relabelling.draw(dataset)
        with shell.guard():
            differs(dataset)
    with right:
        st.markdown("**Add images**")
        shell.go("build", "Mix in augmented, synthetic and adversarial ones", build__view="mix")
        domains.draw(dataset)
        terms(dataset)
        shell.go("build", "Take it away, with a check of every file", build__view="take")


def differs(dataset: Any) -> None:
    """Shows what went, came or changed since another version, at first the one that this was made from."""
    from core.building import difference

    origin = difference.origin(dataset)
    made_from = origin[0] if origin else ""
    options = [
        name
        for name in datasets.names()
        if name != dataset.name
        and (name == made_from or datasets.describe(name).saved)
        and datasets.describe(name).medium.name == dataset.medium.name
    ]
    if not options:
        return
    st.markdown("**What changed**")
    against = st.selectbox(
        "Since the version",
        options,
        index=options.index(made_from) if made_from in options else None,
        key=f"data.against.{dataset.name}",
        placeholder="Choose another version",
        format_func=lambda name: datasets.describe(name).title,
    )
    if against is None:
        return
    before = load(against, dict(origin[1]) if origin and against == made_from else {})
    found = difference.compare(before, dataset)
    st.markdown(shell.plain(found.sentence))
    kinds = [kind for kind, pairs in found.pairs.items() if len(pairs)]
    if not kinds:
        return
    kind = st.segmented_control(
        "What became of them",
        kinds,
        default=kinds[0],
        required=True,
        key=f"data.change.{dataset.name}.{against}",
        format_func=lambda kind: f"{difference.KINDS[kind]} ({found.counts[kind]:,})",
        label_visibility="collapsed",
    )
    changed(found, before, dataset, kind)


def changed(found: Any, before: Any, after: Any, kind: str) -> None:
    """Shows the images of one kind of difference; where pixels are others, both."""
    from core.building.difference import SHOWN, ChangedItem, changes

    count, shown = found.counts[kind], changes(found, before, after, kind, SHOWN)
    sides = {"after": after}
    if kind == "gone":
        sides = {"before": before}
    elif kind == "pixels":
        sides = {"before": before, "after": after}
    for place, (side, dataset) in zip(st.columns(len(sides)), sides.items(), strict=True):
        with place:
            if len(sides) > 1:
                st.caption(f"{side.capitalize()}: {shell.plain(dataset.name)}")
            show.pictures(
                dataset.pictures([getattr(change, side) for change in shown]),
                columns=8 // len(sides),
                key=f"data.changed.{side}",
                titles=[str(change) for change in shown],
                max_height=380,
                max_zoom=6,
                alt=f"{len(shown)} images that changed, as {dataset.name} has them",
            )
    if kind == "label":
        every = changes(found, before, after, kind)
        ways = Counter(f"{change.label_before} → {change.label_after}" for change in every)
        st.caption(
            shell.plain(", ".join(f"{way} ({count:,})" for way, count in ways.most_common(20)))
        )
    if count > SHOWN:
        st.caption(f"The first {SHOWN} of {count:,}.")
    st.download_button(
        "All as CSV",
        lambda: tables.write(ChangedItem._fields, changes(found, before, after, kind)),
        f"{datasets.slug(after.name)}-since-{datasets.slug(before.name)}-{kind}.csv",
        "text/csv",
        key="data.changed.csv",
        icon=":material/download:",
        on_click="ignore",
    )


def decided(dataset: Any) -> None:
    """Lists the decisions, each with its undo, and makes a new version of them."""
    from core.quality import decisions

    book = mending.opened(dataset)
    st.markdown("**Decided**")
    if book.damaged:
        st.warning(shell.plain(book.damaged), icon=":material/warning:")
    st.caption(shell.plain(book.summary["sentence"]))
    if book.summary["warning"]:
        st.warning(shell.plain(book.summary["warning"]), icon=":material/warning:")
    mending.log(dataset, book)
    name = st.text_input(
        "Name of the new version",
        key="data.version.name",
        placeholder=decisions.version_name(dataset),
        max_chars=60,
    )

    shell.press(
        st,
        "Make the new version",
        make,
        dataset,
        name,
        type="primary",
        key="data.version",
        icon=":material/fork_right:",
        disabled=not shell.may_change() or not (book.state or book.repaired),
        help="The dataset stays as it is; the version names it as its parent.",
    )


def make(dataset: Any, name: str) -> None:
    """Makes the new version, and chooses it."""
    from core.building.optout import staying
    from core.quality import decisions

    version = decisions.apply(dataset, name, shell.who())
    st.session_state["data.next"] = version.name
    st.session_state["_done"] = f"{version.name}: {len(version):,} images. It is chosen now." + (
        f" {note}" if (note := staying(dataset)) else ""
    )


def terms(dataset: Any) -> None:
    """Shows under which terms the images stand, and lets a person state them for an imported set."""
    st.markdown("**Licence and consent**")
    about = datasets.describe(dataset.name) if dataset.name in datasets.names() else None
    now = {**dict.fromkeys(datasets.TERMS, ""), **dataset.terms}
    if about is None or not about.saved:
        st.caption(
            f"Licence: {shell.plain(now['licence'] or 'not stated')}. "
            f"Consent: {shell.plain(now['consent'] or 'not stated')}."
        )
        return
    licence = st.text_input("Licence", now["licence"], key="data.licence", max_chars=200)
    options = get_args(datasets.Consent)
    consent = st.selectbox(
        "Consent of the people shown",
        options,
        options.index(now["consent"]) if now["consent"] in options else 0,
        key="data.consent",
    )
    people = {
        "creator": st.text_input(
            "Who created it, and who paid for it", now["creator"], key="data.creator", max_chars=200,
            placeholder="not stated",
        ),
        "maintainer": st.text_input(
            "Who maintains it, and how they are reached", now["maintainer"], key="data.maintainer",
            max_chars=200, placeholder="not stated", help="It stands in the card that leaves with the set.",
        ),
    }  # fmt: skip
    shell.press(
        st,
        "Save",
        partial(datasets.state, licence=licence, consent=consent, **people),
        dataset.name,
        key="data.terms",
        disabled=not shell.may_change(),
    )

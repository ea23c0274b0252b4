"""What pages have for texts alone: how they read, what is wrong with them, what an augmentation changed."""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core.datasets import SPLITS
from core.media import text as medium
from pages.parts import shell, show
from pages.parts.show import Bar

SHOWN = 30  # texts of a kind that are listed
READ = 8  # texts of a page that are set out


def look(dataset: Any, part: np.ndarray) -> None:
    """Sets out the first texts of a page of the wall, to be read."""
    with st.expander("Read them", expanded=True, icon=":material/notes:"):
        for item in part[:READ]:
            name = "" if dataset.y is None else f" · {dataset.classes[dataset.y[item]]}"
            st.caption(shell.plain(f"Text {item}{name}"))
            st.html(block(medium.decode(dataset.x[[item]])[0], f"Text {item}"))
        if len(part) > READ:
            st.caption(
                f"The first {READ} of {len(part)} on this page; click a picture for another one."
            )


def block(text: str, name: str, inner: str | None = None) -> str:
    """Writes a text as HTML of one width; ``inner`` is its own HTML."""
    said = html.escape(text) if inner is None else inner
    return f'<pre class="text-read" tabindex="0" aria-label="{html.escape(name, quote=True)}">{said}</pre>'


@st.cache_resource(max_entries=8, show_spinner=False)
def _found(fingerprint: str, _dataset: Any) -> Any:
    from core.quality import texts

    bar = Bar("Comparing the texts")
    try:
        return texts.look(_dataset, bar)
    finally:
        bar.close()


def issues(dataset: Any) -> None:
    """Shows what is wrong with the texts, kind by kind, and what can be done about it."""
    from core.quality import texts

    found = _found(dataset.fingerprint, dataset)
    counts = found.counts
    kind = st.segmented_control(
        "What was found",
        list(texts.KINDS),
        default=next((kind for kind, count in counts.items() if count), "exact"),
        required=True,
        key="data.texts.kind",
        bind="query-params",
        format_func=lambda kind: f"{texts.KINDS[kind][0]} ({counts[kind]:,})",
        label_visibility="collapsed",
    )
    st.caption(texts.KINDS[kind][1])
    of = found.of(kind)
    if not of:
        st.success("None was found.", icon=":material/check:")
    else:
        _acts(dataset, found, kind)
    for number, issue in enumerate(of[:SHOWN]):
        st.caption(
            shell.plain(
                f"Text {issue.item}, {SPLITS[dataset.split_of()[issue.item]]}: {issue.says}"
            )
        )
        mine = medium.decode(dataset.x[[issue.item]])[0]
        if issue.other >= 0:
            other = medium.decode(dataset.x[[issue.other]])[0]
            st.html(block("", f"Text {issue.item} beside text {issue.other}", changed(other, mine)))
        elif kind == "people":
            spans = [(first, last) for item, first, last, _ in found.spans if item == issue.item]
            st.html(block("", f"Text {issue.item}", marked(dataset.x[issue.item], spans)))
        else:
            st.html(block(mine, f"Text {issue.item}"))
        if number == SHOWN - 1 and len(of) > SHOWN:
            st.caption(f"The first {SHOWN} of {len(of):,}.")
    if of:
        table = pd.DataFrame(
            [
                {"text": i.item, "other": i.other if i.other >= 0 else None, "says": i.says}
                for i in of
            ]
        )
        with st.expander("All as a table"):
            st.dataframe(
                show.named(table, "says"),
                hide_index=True,
                key="data.texts.table",
                alt="All that was found of this kind",
            )


def _acts(dataset: Any, found: Any, kind: str) -> None:
    from core.quality import decisions, texts

    items = sorted({issue.item for issue in found.of(kind)})

    def exclude() -> None:
        book = decisions.open(dataset)
        decisions.decide(dataset, "exclude", items, kind=kind, seen=book.version)

    with st.container(horizontal=True, vertical_alignment="center"):
        out = set(decisions.open(dataset).state) & set(items)
        st.button(
            f"Leave out these {len(items):,}",
            key="data.texts.exclude",
            icon=":material/block:",
            on_click=lambda: shell.attempt(exclude),
            disabled=not shell.may_change() or len(out) == len(items),
            help="In the next version, which Mend and take away makes; it can be undone there.",
        )
        if kind == "people":
            st.button(
                "Hide them in a new version",
                key="data.texts.mask",
                icon=":material/visibility_off:",
                on_click=lambda: _mask(dataset, texts),
                disabled=not shell.may_change(),
                help="E-mail addresses and long numbers become as many stars.",
            )
        if out:
            st.caption(f"{len(out):,} of them are decided about.")
    parent, made = st.session_state.get("data.texts.made", ("", ""))
    if parent == dataset.fingerprint:
        st.success(f"Saved as {shell.plain(made)}.", icon=":material/check:")


def _mask(dataset: Any, texts: Any) -> None:
    if version := shell.attempt(texts.masked, dataset):
        st.session_state["data.texts.made"] = (dataset.fingerprint, version.name)


def marked(x: np.ndarray, spans: Sequence[tuple[int, int]]) -> str:
    """Writes a stored text as HTML with some of its bytes marked."""
    data, parts, at = medium.data(x[None])[0], [], 0
    for first, last in sorted(spans):
        parts.append(html.escape(data[at:first].decode("utf-8", "replace")))
        parts.append(f"<mark>{html.escape(data[first:last].decode('utf-8', 'replace'))}</mark>")
        at = last
    return "".join(parts) + html.escape(data[at:].decode("utf-8", "replace"))


def changed(before: str, after: str) -> str:
    """Writes what became of a text as HTML: what went, and what came."""
    parts = []
    match = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, a, b, c, d in match.get_opcodes():
        if kind == "equal":
            parts.append(html.escape(after[c:d]))
            continue
        if b > a:
            parts.append(f"<del>{html.escape(before[a:b])}</del>")
        if d > c:
            parts.append(f"<ins>{html.escape(after[c:d])}</ins>")
    return "".join(parts)


def film(frames: Sequence[Any], names: Sequence[str], count: int) -> None:
    """Shows what each step of an augmentation made of some texts, with what went and what came."""
    for i in range(count):
        texts = [medium.decode(frame.images[i : i + 1])[0] for frame in frames]
        st.caption(shell.plain(f"{names[i]}, as it is"))
        st.html(block(texts[0], names[i]))
        for before, frame, after in zip(texts, frames[1:], texts[1:], strict=False):
            left = frame.values[i] is None
            st.caption(shell.plain(f"{frame.title}{': left it alone' if left else ''}"))
            if not left:
                st.html(block("", f"{names[i]} after {frame.title}", changed(before, after)))

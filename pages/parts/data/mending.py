"""What the Data page mends a dataset with: what a person decides about images, how that is told, and undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from core.ground.writing import many
from pages.parts import shell, show
from pages.parts.data import titles

WAYS = {
    "exclude": ("Leave out", "Not in the next version of the dataset; the files stay."),
    "accept": ("Keep", "Nothing is wrong with it; it stays as it is."),
}
LASTS = 60  # seconds after which the page does not say again what a button did
SHOWN = 8  # pictures of a decision


def act(
    dataset: Any,
    what: str,
    images: Sequence[int],
    label: Any = None,
    *,
    kind: str = "",
    reason: str = "",
    then: Callable[[], None] = lambda: None,
) -> None:
    """Decides about images, and calls ``then`` if it was not refused.

    :func:`notice` says what was done, or the page why not.
    """
    from core.quality import decisions

    done = decisions.WORDS[what]
    if isinstance(label, int):
        done = f"label set to {dataset.classes[label]}"
    said = f"{many(images, 'image')}: {done}."
    choice = {"label": label, "kind": kind, "reason": reason}
    if _decided(dataset, said, decisions.decide, what, list(images), **choice):
        then()


def repair(dataset: Any, image: int, item: Any, **made: Any) -> None:
    """Decides that an item takes the place of an image, and says so; ``made`` as in the decision."""
    from core.quality import decisions

    said = f"Image {image}: repaired, in the next version."
    _decided(dataset, said, decisions.repair, image, item, **made)


def settle(dataset: Any, images: list[int], label: int, one: bool, reason: str = "") -> None:
    """Decides which label of copies is right, and says so."""
    from core.quality import decisions

    rest = "one is kept" if one else f"all {len(images)} copies have it"
    said = f"{dataset.classes[label]} is right, {rest}."
    _decided(dataset, said, decisions.settle, images, label, one=one, reason=reason)


def undo(dataset: Any, *ids: str) -> None:
    """Takes decisions back, the newest first."""
    from core.quality import decisions

    for id in reversed(ids):
        if _attempt(dataset, decisions.undo, id) is None:
            return
    st.session_state["_done"] = "Taken back."
    st.session_state.pop("mend.done", None)


def _decided(dataset: Any, said: str, decide: Any, *args: Any, **choice: Any) -> bool:
    book = _attempt(dataset, decide, *args, **choice)
    if book is None:
        return False
    if not book.new:
        st.session_state["_done"] = book.news
        return True
    new = [entry for entry in book.entries if entry.id in book.new]
    st.session_state["mend.done"] = {
        "of": dataset.fingerprint,
        "said": f"{said} {book.news}".strip(),
        "news": book.news,
        "new": new,
        "until": time.monotonic() + LASTS,
    }
    return True


def _attempt(dataset: Any, decide: Any, *args: Any, **choice: Any) -> Any:
    """Decides upon the state that the visitor has seen; if another has changed it since, nothing is done."""
    seen = st.session_state.get(key := f"mend.seen.{dataset.fingerprint}", 0)
    book = shell.attempt(decide, dataset, *args, **choice, who=shell.who(), seen=seen)
    if book is not None:
        st.session_state[key] = book.version  # a second press is no other's
    return book


def opened(dataset: Any) -> Any:
    """Opens the decisions about a dataset, and remembers which state of them the visitor sees."""
    from core.quality import decisions

    book = decisions.open(dataset)
    st.session_state[f"mend.seen.{dataset.fingerprint}"] = book.version
    return book


def scores(dataset: Any) -> Any:
    """Gives what the newest inspection says of every image, by name; nothing without an inspection."""
    from core import quality

    job = quality.newest(dataset)
    found = job.result() if job is not None and not job.active else None
    return {} if found is None else found.scores


def notice(dataset: Any) -> None:
    """Says what the last button did: to which pictures, why, and with Undo; a toast can hold no button.

    It stays until it is closed, or until the page is drawn again :data:`LASTS` seconds later or more.
    """
    from core.quality import decisions

    done = st.session_state.get("mend.done")
    if not done or done["of"] != dataset.fingerprint or time.monotonic() > done["until"]:
        return
    new = done["new"]
    with st.container(key="mend.notice", border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/check: {shell.plain(done['said'])}", width="stretch")
            st.button(
                "Undo",
                key="mend.undo",
                icon=":material/undo:",
                type="primary",
                on_click=undo,
                args=(dataset, *(entry.id for entry in new)),
                disabled=not shell.may_change(),
            )
            st.button(
                "",
                key="mend.close",
                icon=":material/close:",
                type="tertiary",
                help="Close",
                on_click=lambda: st.session_state.pop("mend.done", None),
            )
        if reason := " ".join(filter(None, map(decisions.reason, new))):
            st.caption(shell.plain(reason))
        images = [image for entry in new for image in entry.images][:SHOWN]
        show.pictures(
            dataset.pictures(images),
            columns=SHOWN,
            side=40,
            key="mend.pictures",
            alt="What was decided about",
            titles=titles(dataset, images),
        )


def news(dataset: Any, entry: Any) -> str:
    """Says what else the decision did that a button made last; empty for another one."""
    done = st.session_state.get("mend.done") or {"of": "", "new": []}
    mine = done["of"] == dataset.fingerprint and entry.id in [new.id for new in done["new"]]
    return done["news"] if mine else ""


def acts(
    dataset: Any,
    images: Sequence[int],
    key: str,
    *,
    kind: str = "",
    then: Callable[[], None] = lambda: None,
) -> None:
    """Offers to leave out, keep or relabel images, all in one way; drawn into a horizontal container.

    Args:
        dataset: What they are of.
        images: Their indices.
        key: Beginning of the keys of its widgets.
        kind: The kind of issue that it answers.
        then: What follows a decision that was not refused.
    """
    images = [int(image) for image in images]

    def done(what: str) -> None:
        label = st.session_state.get(f"{key}.relabel") if what == "relabel" else None
        if what != "relabel" or label is not None:
            act(dataset, what, images, label, kind=kind, then=then)
        if what == "relabel":
            st.session_state[f"{key}.relabel"] = None

    locked, number = not shell.may_change(), f" {len(images):,}" if len(images) > 1 else ""
    for what, (word, help) in WAYS.items():
        st.button(
            word + number,
            key=f"{key}.{what}",
            on_click=done,
            args=(what,),
            help=help,
            disabled=locked,
        )
    if dataset.labelled:
        st.selectbox(
            "Set label",
            range(len(dataset.classes)),
            index=None,
            key=f"{key}.relabel",
            placeholder="Set label …",
            format_func=lambda i: dataset.classes[i],
            on_change=done,
            args=("relabel",),
            label_visibility="collapsed",
            width=140,
            disabled=locked,
        )


def log(dataset: Any, book: Any, most: int = 8) -> None:
    """Lists the decisions that hold, the newest first, each with its pictures, its reason and Undo."""
    from core.quality import decisions

    for entry in [entry for entry in book.entries if not entry.undone][::-1][:most]:
        with st.container(horizontal=True, vertical_alignment="center"):
            some = list(entry.images[:4])
            with st.container(width=44 * len(some) + 8):
                show.pictures(
                    dataset.pictures(some),
                    columns=4,
                    side=40,
                    key=f"data.decided.{entry.id}",
                    alt=f"Pictures that were {decisions.WORDS[entry.action]}",
                    titles=titles(dataset, some),
                )
            when = time.strftime("%H:%M", time.localtime(entry.time))
            st.caption(
                shell.plain(
                    f"{when} · {decisions.told(entry)}" + (f" · {entry.who}" if entry.who else "")
                ),
                width="stretch",
            )
            st.button(
                "Undo",
                key=f"data.undo.{entry.id}",
                type="tertiary",
                icon=":material/undo:",
                on_click=undo,
                args=(dataset, entry.id),
                disabled=not shell.may_change(),
            )

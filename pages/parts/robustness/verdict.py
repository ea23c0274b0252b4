"""How robust it is, and whether that can be believed, before the number; each doubt with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from core.ground.writing import percent, percents
from pages.parts import shell
from pages.parts.robustness import COLOURS, ROBUST
from pages.parts.robustness.controls import again

if TYPE_CHECKING:
    from core.robustness import Report

SIGNS = {"pass": "✓", "warn": "!", "fail": "✕", "open": "…", "inapplicable": "–"}
OUTCOMES = {
    "pass": "passed",
    "warn": "look at it",
    "fail": "failed",
    "open": "not made",
    "inapplicable": "does not apply",
}


def draw(report: Report) -> None:
    """Draws two statements, each in its colour: how robust it is, and whether the measurement is sound."""
    how, sound = report.robustness, report.verdict
    left, right = st.columns(2, gap="small")
    kind, icon, word = COLOURS[sound.colour]
    if not report.done:
        left.info("**Still measuring** how robust it is.", icon=":material/hourglass_top:")
        kind, icon, word = "info", ":material/hourglass_top:", "Still measuring"
    else:
        first, _, rest = how.sentence.partition(":")
        text = (
            f"**{shell.plain(first)}.** {shell.plain(rest.strip())}" if rest else shell.plain(first)
        )
        getattr(left, ROBUST[how.colour])(text, icon=":material/shield:")
    getattr(right, kind)(f"**{word}.** {shell.plain(sound.sentence)}", icon=icon)


def headline(report: Report) -> None:
    """Says how many images are named rightly, clean and attacked, with intervals and n; on red it is struck out."""
    clean, at = report.clean, report.head
    st.metric(
        "Without an attack",
        percent(clean.value),
        help="Share of the images that are named rightly as they are.",
    )
    st.caption(f"{percents(*clean.interval)} (95 %), n = {clean.n}")
    if at.eps == 0:
        return
    number = percent(at.robust)
    struck = report.complete and report.verdict.colour == "red"
    if struck:
        st.markdown(
            f"Under attack, eps {shell.plain(at.text)}  \n### ~~{number}~~",
            help="The checks say that this number cannot be believed.",
        )
    else:
        st.metric(
            f"Under attack, eps {shell.plain(at.text)}",
            number,
            help="Share of the images that no attack here has fooled: the worst case over all of them, image by "
            "image. A stronger attack may lower it.",
        )
    st.caption(f"{percents(*at.interval)} (95 %), n = {at.n}")


def doubts(report: Report) -> None:
    """Lists the checks that did not pass, each with the button that does what it advises."""
    for answer in report.checks:
        if answer.outcome not in ("warn", "fail"):
            continue
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"{SIGNS[answer.outcome]} **{shell.plain(answer.name)}**: {shell.plain(answer.finding)} "
                f"{shell.plain(answer.advice)}"
            )
            if answer.button:
                st.button(
                    shell.plain(answer.button),
                    key=f"robust.mend.{answer.number}",
                    on_click=again,
                    args=(answer.action,),
                )


def checks(report: Report) -> None:
    """Lists all checks, each with its finding."""
    import pandas as pd

    st.table(  # the one kind of table whose cells break into lines
        pd.DataFrame(
            [
                {
                    "": SIGNS[answer.outcome],
                    "check": shell.plain(answer.name),
                    "outcome": OUTCOMES[answer.outcome],
                    "found, and what to do": shell.plain(answer.finding)
                    + (f" {shell.plain(answer.advice)}" if answer.outcome != "pass" else ""),
                }
                for answer in report.checks
            ]
        ),
        border="horizontal",
        hide_index=True,
        alt=f"The {len(report.checks)} checks, each with its outcome and what was found",
    )
    if report.identity and (order := report.identity.order):
        st.markdown("**Which class answers as which**")
        st.dataframe(
            pd.DataFrame(order.pairs, columns=["images of", "are answered as"]),
            hide_index=True,
            key="robust.order",
            alt="Each class beside the class that the classifier answers for it",
        )
    for sentence in report.limits:
        st.caption(shell.plain(sentence))

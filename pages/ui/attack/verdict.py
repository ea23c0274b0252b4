"""How robust it is, and whether that can be believed, before the number; each doubt with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.writing import percent, percents
from pages.ui import shell
from pages.ui.attack import COLOURS, ROBUST

SIGNS = {"pass": "✓", "warn": "!", "fail": "✕", "open": "…"}
OUTCOMES = {
    "pass": "passed",
    "warn": "look at it",
    "fail": "failed",
    "open": "not made",
}


def draw(report: Mapping[str, Any]) -> None:
    """Draws two statements, each in its colour: how robust it is, and whether the measurement is sound."""
    from core.robustness.verdict import robustness

    verdict, at = report["verdict"], head(report)
    how = report.get("robustness") or robustness(
        at, report["chance"], verdict, report["complete"]
    )  # reports of before
    left, right = st.columns(2, gap="small")
    kind, icon, word = COLOURS[verdict["colour"]]
    if not report["complete"] and not report["stopped"]:
        left.info("**Still measuring** how robust it is.", icon=":material/hourglass_top:")
        kind, icon, word = "info", ":material/hourglass_top:", "Still measuring"
    else:
        first, _, rest = how["sentence"].partition(":")
        words = (
            f"**{shell.plain(first)}.** {shell.plain(rest.strip())}" if rest else shell.plain(first)
        )
        getattr(left, ROBUST[how["colour"]])(words, icon=":material/shield:")
    getattr(right, kind)(f"**{word}.** {shell.plain(verdict['sentence'])}", icon=icon)


def head(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives the row of the headline."""
    return next(row for row in report["results"] if row["eps"] == report["headline"])


def headline(report: Mapping[str, Any]) -> None:
    """Says how many images are named rightly, clean and attacked, with intervals and n; on red it is struck out."""
    clean = report["clean"]
    st.metric(
        "Without an attack",
        percent(clean["value"]),
        help="Share of the images that are named rightly as they are.",
    )
    st.caption(f"{percents(*clean['interval'])} (95 %), n = {clean['n']}")
    at = head(report)
    if at["eps"] == 0:
        return
    number = percent(at["robust"])
    struck = report["complete"] and report["verdict"]["colour"] == "red"
    if struck:
        st.markdown(
            f"Under attack, eps {shell.plain(at['text'])}  \n### ~~{number}~~",
            help="The checks say that this number cannot be believed.",
        )
    else:
        st.metric(
            f"Under attack, eps {shell.plain(at['text'])}",
            number,
            help="Share of the images that no attack here has fooled: the worst case over all of them, image by "
            "image. A stronger attack may lower it.",
        )
    st.caption(f"{percents(*at['interval'])} (95 %), n = {at['n']}")


def doubts(report: Mapping[str, Any], again: Callable[[Mapping[str, Any]], None]) -> None:
    """Lists the checks that did not pass, each with what to do about it.

    Args:
        report: See :mod:`core.robustness`.
        again: Asks the same with other values, for the buttons.
    """
    for check in report["checks"]:
        if check["outcome"] in ("warn", "fail"):
            doubt(check, again)


def doubt(check: Mapping[str, Any], again: Callable[[Mapping[str, Any]], None]) -> None:
    """Shows a check that did not pass, what it means, and the button that does what it advises."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"{SIGNS[check['outcome']]} **{shell.plain(check['name'])}**: {shell.plain(check['finding'])} "
            f"{shell.plain(check['advice'])}"
        )
        if check.get("button"):
            st.button(
                shell.plain(check["button"]),
                key=f"robust.mend.{check['number']}",
                on_click=again,
                args=(check["action"],),
            )


def checks(report: Mapping[str, Any]) -> None:
    """Lists all checks with what was found."""
    import pandas as pd

    st.dataframe(
        pd.DataFrame(
            [
                {
                    "": SIGNS[check["outcome"]],
                    "check": check["name"],
                    "outcome": OUTCOMES[check["outcome"]],
                    "found": check["finding"],
                    "what to do": check["advice"] if check["outcome"] != "pass" else "",
                }
                for check in report["checks"]
            ]
        ),
        hide_index=True,
        height="content",
        key="robust.checks",
        column_config={"": st.column_config.TextColumn(width=30)},
        alt=f"The {len(report['checks'])} checks, each with its outcome and what was found",
    )
    order = (report.get("identity") or {}).get("order")
    if order:
        st.markdown("**Which class answers as which**")
        st.dataframe(
            pd.DataFrame(order["pairs"], columns=["images of", "are answered as"]),
            hide_index=True,
            key="robust.order",
            alt="Each class beside the class that the classifier answers for it",
        )
    for sentence in report.get("limits", []):
        st.caption(shell.plain(sentence))

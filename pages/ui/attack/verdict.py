"""The verdict: whether the number can be believed, before the number; each doubt with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from pages.ui import shell
from pages.ui.attack import COLOURS, interval, percent

SIGNS = {"pass": "✓", "warn": "!", "fail": "✕", "open": "…"}
OUTCOMES = {
    "pass": "passed",
    "warn": "look at it",
    "fail": "failed",
    "open": "not made",
}


def draw(report: Mapping[str, Any], again: Callable[[Mapping[str, Any]], None]) -> None:
    """Draws the verdict and the headline number; on red the number is struck out.

    Args:
        report: See :mod:`core.robustness`.
        again: Asks the same with other values, for the buttons that mend a doubt.
    """
    verdict = report.get("verdict") or {}
    colour = verdict.get("colour", "amber")
    kind, icon, word = COLOURS[colour]
    if not report["complete"] and not report.get("stopped"):
        kind, icon, word = "info", ":material/hourglass_top:", "Still measuring"
    getattr(st, kind)(
        f"**{word}.** {shell.plain(verdict.get('sentence') or 'The first results are coming in.')}",
        icon=icon,
    )
    headline(report, struck=colour == "red" and report["complete"])
    for check in report.get("checks", []):
        if check["outcome"] in ("warn", "fail"):
            doubt(check, again)


def headline(report: Mapping[str, Any], struck: bool) -> None:
    """Says how many images are still named rightly, clean and attacked, each with its interval and n."""
    clean = report["clean"]
    at = next((row for row in report["results"] if row["eps"] == report["headline"]), None)
    left, right = st.columns(2)
    left.metric(
        "Accuracy without an attack",
        percent(clean["value"]),
        help="Share of the images that are named rightly as they are.",
    )
    left.caption(f"{interval(clean['low'], clean['high'])} (95 %), n = {clean['n']}")
    if at is None:
        right.metric("Accuracy under attack", "…")
        return
    number = percent(at["robust"])
    right.metric(
        f"Under attack, at most {at['text']} per pixel"
        if report["norm"] == "linf"
        else f"Under attack, {report['norm'].upper()} at most {at['text']}",
        f"~~{number}~~" if struck else number,
        help="Share of the images that no attack here has fooled: the worst case over all of them, image by image. "
        "A stronger attack may lower it.",
    )
    right.caption(f"{interval(*at['interval'])} (95 %), n = {at['n']}")


def doubt(check: Mapping[str, Any], again: Callable[[Mapping[str, Any]], None]) -> None:
    """Shows a check that did not pass, what it means, and the button that does what it advises."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"{SIGNS[check['outcome']]} **{shell.plain(check['name'])}**: {shell.plain(check['finding'])} "
            f"{shell.plain(check['advice'])}"
        )
        if check.get("action"):
            st.button(
                check.get("button") or "Do it",
                key=f"robust.mend.{check['number']}",
                on_click=again,
                args=(check["action"],),
            )


def checks(report: Mapping[str, Any]) -> None:
    """Lists all twelve checks with what was found."""
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
        key="robust.checks",
        column_config={"": st.column_config.TextColumn(width=30)},
        alt="The twelve checks, each with its outcome and what was found",
    )
    for sentence in report.get("limits", []):
        st.caption(shell.plain(sentence))

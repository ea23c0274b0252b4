"""Where is a picture from? What its file says of its making."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.datasets import allow_size
from pages.parts import shell
from pages.parts.glossary import explained

FORMS = ["png", "jpg", "jpeg", "webp", "gif", "mp4", "zip", "parquet", "tar", "npz"]
ICONS = {True: ":material/check_circle:", False: ":material/public:", None: ":material/help:"}
KINDS = {
    "xmp": "Mark in the file (XMP)",
    "recall": "Settings in the file",
    "c2pa": "C2PA manifest",
    "column": "Origin in the table",
}


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Takes pictures or exports, and says what is known of each."""
    from core.building import detect

    st.markdown(
        "Drop a picture to see whether it says that a model has made it, and which one.",
        help=explained(
            "Every picture that a model here has made carries a mark in its file when it leaves: XMP "
            "DigitalSourceType, in the words of the IPTC. A mark can be forged, and is lost when a picture is saved "
            "anew.",
            "Mark",
        ),
    )
    files = st.file_uploader(
        "Pictures, or an export",
        type=FORMS,
        accept_multiple_files=True,
        key="build.where",
        help="An export as a ZIP, Parquet, tar or NPZ is looked at as a whole. Nothing is kept.",
    )
    if not files:
        return
    with shell.guard():
        allow_size([file.size for file in files])
        for number, file in enumerate(files[:50]):
            with shell.guard():
                answer(detect.upload(file.name, file.getvalue()), number)
        if len(files) > 50:
            st.caption(f"The first 50 of {len(files)}.")


def answer(found: Any, number: int) -> None:
    """Says what is known of a file."""
    from core.building import detect

    with st.container(border=True):
        st.markdown(
            f"{ICONS[found.made_here]} **{shell.plain(found.file)}**  \n{shell.plain(found.sentence)}"
        )
        rows = [
            {
                "what": KINDS.get(mark.kind, mark.kind),
                "says": mark.says,
                "which means": detect.meaning(mark.says),
                "run": mark.run,
                "made by": mark.program,
                "how many": mark.count,
            }
            for mark in found.marks
        ]
        if rows:
            st.dataframe(
                rows, hide_index=True, key=f"build.where.{number}", alt=f"Marks of {found.file}"
            )

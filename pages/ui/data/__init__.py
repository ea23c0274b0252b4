"""What the Data page shows of a dataset as it is, and how pictures are brought."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import datasets


def load(name: str, values: dict[str, Any]) -> datasets.Dataset:
    """Opens a dataset, with a bar while it is made for the first time."""
    bar = st.empty()

    def progress(done: int, total: int) -> None:
        bar.progress(
            min(1.0, done / max(1, total)), text=f"Preparing {done:,} of {total:,} images, once"
        )

    try:
        return datasets.load(name, values, progress)
    finally:
        bar.empty()

"""What the Data page shows of a dataset as it is, and how pictures are brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from core import datasets


@contextmanager
def counting(words: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar with these words, which name done and total, while images are counted."""
    bar = st.empty()

    def progress(done: int, total: int) -> None:
        bar.progress(min(1.0, done / max(1, total)), text=words.format(done, total))

    try:
        yield progress
    finally:
        bar.empty()


def load(name: str, values: dict[str, Any]) -> datasets.Dataset:
    """Opens a dataset, with a bar while it is made for the first time."""
    with counting("Preparing {:,} of {:,} images, once") as progress:
        return datasets.load(name, values, progress)

"""The Data page takes files of other formats than pictures."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from core import datasets


def birds() -> bytes:
    """A Parquet file of 16 pictures and what is known of them."""
    rows = []
    for i in range(16):
        out = io.BytesIO()
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, "PNG")
        rows.append({"bytes": out.getvalue(), "path": f"{i}.png"})
    kinds = ["owl", "auk"] * 8
    made = pa.table({"image": rows, "species": kinds, "label": list(range(4)) * 4, "nest": kinds})
    file = io.BytesIO()
    pq.write_table(made, file)
    return file.getvalue()


def test_a_parquet_file_is_shown_before_it_is_imported(visit):
    seen = visit("data").press("data.bring")
    seen.widget("data.upload").upload("My birds.parquet", birds())
    seen.run()
    text = seen.texts("markdown")
    assert "**Format** Parquet" in text and "**Classes** 4: 0 4, 1 4, 2 4, 3 4" in text
    (column,) = [each for each in seen.at.text_input if each.label == "Column of the class"]
    column.set_value("species")
    seen.run()
    assert "**Classes** 2: auk 8, owl 8" in seen.texts("markdown")
    seen.press("data.import").calm()
    found = datasets.load("my-birds")
    assert (found.classes, len(found)) == (("auk", "owl"), 16)
    assert set((found.attributes or {})["nest"]) == {"owl", "auk"}

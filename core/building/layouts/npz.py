"""One NumPy archive, as MedMNIST has it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from core.building.layouts import layouts
from core.building.outgoing import Outgoing
from core.datasets.formats.npz import ENDS, UTF8
from core.ground import sheets
from core.ground.watch import UNWATCHED, Watch

SPLIT_KEYS = {"train": "train", "validation": "val", "test": "test"}
_ROWS = 1000  # that are in memory at a time
# Bytes of a column of texts, each as wide as the longest: one long text among 10 000 would take hundreds of megabytes.
_WIDE = 16 * 2**20


@layouts.add(
    "npz",
    "NumPy",
    opens='numpy.load("dataset.npz")["train_images"]',
    order=5,
    only="its keys name them",
    pairs=True,
)
def npz(going: Outgoing, folder: Path, watch: Watch = UNWATCHED) -> None:
    """One file of arrays with the keys of MedMNIST: train_images, train_labels, val_images …, and lineage beside.

    A set with pairs has train_pair, val_pair … as well. A column of texts that would take more than 16 MB as an array,
    all of them as wide as the longest, is two arrays: the texts behind each other in UTF-8, uint8, as
    train_parameters_utf8, and where each ends, int64, as train_parameters_ends.
    """
    dataset = going.dataset
    done, total = 0, len(dataset)
    with zipfile.ZipFile(folder / "dataset.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:

        def put(name: str, shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[np.ndarray]):
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with out.open(info, "w", force_zip64=True) as file:
                descr = np.lib.format.dtype_to_descr(dtype)
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.ascontiguousarray(part, dtype).data.cast("B"))

        def whole(name: str, values: np.ndarray) -> None:
            put(name, values.shape, values.dtype, [values] if values.size else [])

        for split, rows in going.splits():
            key = SPLIT_KEYS[split]
            pieces = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
            shape = shown(dataset.x[:1], dataset.levels).shape[1:]

            def images(pieces: list[np.ndarray] = pieces) -> Iterable[np.ndarray]:
                nonlocal done
                for piece in pieces:
                    yield shown(going.pixels(piece), dataset.levels)
                    done += len(piece)
                    watch.count("Writing NumPy", done, total, "items")

            put(f"{key}_images", (len(rows), *shape), dataset.x.dtype, images())
            if (pair := dataset.pair) is not None:
                second = shown(pair.x[:1], pair.levels).shape[1:]
                parts = (shown(np.asarray(pair.x[piece]), pair.levels) for piece in pieces)
                put(f"{key}_pair", (len(rows), *second), pair.x.dtype, parts)
            for name, none in going.columns(rows[:0]).items():
                if none.dtype.kind == "U" and len(dataset) * none.dtype.itemsize > _WIDE:
                    parts = partial(_encoded, going, name, pieces)
                    sizes = np.array([len(text) for part in parts() for text in part], np.int64)
                    ends = sizes.cumsum()
                    whole(f"{key}_{name}{ENDS}", ends)
                    put(
                        f"{key}_{name}{UTF8}",
                        (int(sizes.sum()),),
                        np.dtype(np.uint8),
                        (np.frombuffer(b"".join(part), np.uint8) for part in parts()),
                    )
                    continue
                values = going.columns(rows, only=[name])[name]
                if name == "label":
                    whole(f"{key}_labels", values[:, None])
                elif name != "split":
                    whole(f"{key}_{name}", values)
        if dataset.classes:
            whole("class_names", np.array(dataset.classes))
        whole("about", np.array([json.dumps(going.about())]))
    going.describe(folder, {})


def _encoded(going: Outgoing, name: str, pieces: list[np.ndarray]) -> Iterator[list[bytes]]:
    """Yields the texts of a column in UTF-8, some at a time."""
    for piece in pieces:
        yield [text.encode() for text in going.columns(piece, only=[name])[name].tolist()]


def shown(x: np.ndarray, levels: int) -> np.ndarray:
    """Gives pictures (n, C, H, W) as others expect them: 0 … 255, (n, H, W) grey or (n, H, W, 3)."""
    x = sheets.as_bytes(x, levels)
    return x[:, 0] if x.shape[1] == 1 else x.transpose(0, 2, 3, 1)

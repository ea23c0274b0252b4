"""An image of which a generative model has filled a part: its pixels beside the decisions, and what made them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.attributes import LINEAGE, lineage
from core.ground import files

_NAME = re.compile(r"[0-9a-f]{64}")
_LONGEST = 10_000  # characters of what is said of one


@dataclass(frozen=True)
class Filling:
    """What takes the place of an image, and what made it.

    Attributes:
        digest: SHA-256 of its pixels, the name of their file.
        run: The run whose model filled the part.
        seed: Of its noise.
        parameters: How it was made, JSON, as the column of that name has it.
    """

    digest: str
    run: str
    seed: int
    parameters: str

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Filling:
        """Reads one out of a line of the log.

        Raises:
            KeyError, TypeError, ValueError: If the line is none.
        """
        said = record["filling"]
        made = cls(str(said["digest"]), str(said["run"]), int(said["seed"]), said["parameters"])
        if not _NAME.fullmatch(made.digest) or not 0 <= made.seed < 2**63:
            raise ValueError
        if len(made.parameters) > _LONGEST or not isinstance(json.loads(made.parameters), dict):
            raise ValueError
        return made

    def pixels(self, folder: Path, dataset: Dataset, image: int) -> np.ndarray:
        """Reads the item as it is stored, of the shape of the dataset's.

        Raises:
            UserError: If its file is gone, or holds something else.
        """
        file = folder / self.digest
        try:
            with file.open("rb") as opened:
                content = opened.read(dataset.x[:1].nbytes + 1)
        except OSError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise UserError(
                f"{file} is gone or damaged, so image {image} cannot be repaired as it was decided. "
                "Take that decision back, and repair it again."
            )
        return np.frombuffer(content, dataset.x.dtype).reshape(dataset.shape)


def kept(folder: Path, dataset: Dataset, x: np.ndarray, run: str, seed: int, how: str) -> Filling:
    """Keeps the pixels of an item, (…) as it is stored.

    Raises:
        UserError: If it is no item of the dataset, or the disk is full.
    """
    if x.dtype != dataset.x.dtype or x.shape != dataset.shape or int(x.max()) >= dataset.levels:
        raise UserError(
            f"A repaired image of {dataset.name} must have the shape {dataset.shape} and {dataset.levels} levels, got "
            f"{x.shape} up to {x.max()}. Repair it with a run of images like these."
        )
    content = np.ascontiguousarray(x).tobytes()
    digest = hashlib.sha256(content).hexdigest()
    with files.full_disk_told():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / digest).exists():
            files.write_atomic(folder / digest, content)
    return Filling(digest, run, seed, how)


def columns(
    attributes: Mapping[str, np.ndarray] | None, rows: np.ndarray, made: Mapping[int, Filling]
) -> dict[str, np.ndarray] | None:
    """Writes into the attributes of some rows (n,) of a dataset where the images that were filled come from.

    An image that a model has made whole stays synthetic; any other is augmented: it is made by a model in part.
    """
    if not made:
        return dict(attributes) if attributes else None
    known = lineage(attributes or {}, len(rows))
    new = {name: column.astype(object) for name, column in known.items()}
    place = {int(row): at for at, row in enumerate(rows)}
    for image, filling in made.items():
        at, said = place[image], json.loads(filling.parameters)
        if (was := str(new["origin"][at])) != "real":
            said["before"] = {name: new[name][at] for name in ("origin", "run", "seed")}
        new["origin"][at] = "synthetic" if was == "synthetic" else "augmented"
        new["run"][at], new["seed"][at] = filling.run, filling.seed
        new["parameters"][at] = json.dumps(said)
    types = {name: np.int64 if known[name].dtype.kind in "iu" else str for name in LINEAGE}
    return {**(attributes or {}), **{name: new[name].astype(types[name]) for name in LINEAGE}}

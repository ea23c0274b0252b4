"""Names that people gave to directions: kept in the run's folder, or in this home where the run ships with the code.

A name keeps its vector, so that a direction that was found near one image, or at one checkpoint, can be gone anywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch.nn import functional as F

from core import jobs
from core.catalog import UserError
from core.ground import files
from core.ground.settings import settings
from core.latent.directions import Direction
from core.latent.space import Space

MOST_NAMED = 100  # of a run
ALIKE = 0.999  # cosine from which two directions are one
_TEXTS = ("id", "name", "direction", "vector")


def named(space: Space) -> dict[str, Direction]:
    """Reads the directions of a run that have a name, by their ids, in the order in which they were named.

    Raises:
        UserError: If the run is gone, or the file with the names is damaged.
    """
    file = _file(space)
    return {
        row["id"]: Direction(
            row["name"],
            "named",
            torch.from_numpy(_numbers(row["vector"])).to(space.device),
            notes=(f"It was {row['direction']} of step {row['step']:,}.",),
        )
        for row in _read(file, space.dim)
    }


def id_of(direction: Direction, known: Mapping[str, Direction]) -> str | None:
    """Finds the id of the named direction that points as this one does, None where nobody has named it."""
    for id, other in known.items():
        if float(F.cosine_similarity(other.vector, direction.vector.to(other.vector), 0)) > ALIKE:
            return id
    return None


def call(space: Space, direction: Direction, name: str, who: str = "") -> None:
    """Gives a direction a name, or another one; an empty one is forgotten.

    Args:
        space: Where the direction was found.
        direction: As it was found, or one of :func:`named`.
        name: For people; another direction of the run must not have it.
        who: Who names it.

    Raises:
        UserError: If the server is view-only, the name is taken, the run is gone or has too many, or the disk refuses.
    """
    settings().allow_change("name a direction")
    name, file = jobs.clean(name), _file(space)
    with files.full_disk_told():
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            rows = _read(file, space.dim)
            id = id_of(direction, named(space))
            others = [row for row in rows if row["id"] != id]
            if name and name in [row["name"] for row in others]:
                raise UserError(
                    f"Another direction of this run is called {name!r}. Each name may stand once. "
                    "Choose another, or clear that one first."
                )
            if len(others) >= MOST_NAMED and name:
                raise UserError(
                    f"A run keeps at most {MOST_NAMED} named directions, and this one has as many. Clear one first."
                )
            if id is None:
                vector = direction.vector.cpu().numpy().astype("<f4")
                new = {
                    "id": hashlib.sha256(vector.tobytes()).hexdigest()[:8],
                    "step": space.key[1],
                    "kind": direction.kind,
                    "direction": direction.name,
                    "vector": base64.b64encode(vector.tobytes()).decode(),
                }
                rows, id = [*rows, new], new["id"]
            told = {"name": name, "who": who, "time": time.time()}
            rows = [row | told if row["id"] == id else row for row in rows]
            files.write_json(file, {"directions": [row for row in rows if row["name"]]})


def _file(space: Space) -> Path:
    run = jobs.get(space.key[0])
    if run.shipped:
        return settings().home.absolute() / "directions" / f"{run.id}.json"
    return run.path / "directions.json"


def _read(file: Path, dim: int) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    rows = files.read_json(file).get("directions")
    if not isinstance(rows, list) or not all(_fits(row, dim) for row in rows):
        raise UserError(
            f"{file} is damaged: it must hold directions of {dim} numbers with their names. "
            "Restore it, or delete it and name them anew."
        )
    return rows


def _fits(row: Any, dim: int) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _TEXTS):
        return False
    try:
        numbers = _numbers(row["vector"])
    except (binascii.Error, ValueError):
        return False
    return (
        isinstance(row.get("step"), int)
        and numbers.shape == (dim,)
        and bool(np.isfinite(numbers).all())
    )


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)

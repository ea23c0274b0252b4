"""Networks that are trained once for the images of a dataset, and kept: judges, extractors, readers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load as from_bytes
from safetensors.torch import save as as_bytes
from torch import Tensor

from core.ground import files
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.training import Trainer

_one_at_a_time = threading.Lock()


def file_of(folder: str, recipe: Any) -> Path:
    """Names the file of the cache that holds what is trained by a recipe, in plain values."""
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    return settings().cache / folder / f"{key}.safetensors"


def once(
    file: Path,
    what: str,
    trainer: Callable[[], Trainer],
    weights: Callable[[Any], dict[str, Tensor]],
    watch: Watch = UNWATCHED,
) -> dict[str, Tensor]:
    """Opens the weights that a file holds; the first time they are trained, which takes seconds to minutes.

    Args:
        file: Its name tells data and recipe.
        what: What is trained, as in a sentence: "the judge of digits".
        trainer: Makes the trainer.
        weights: Gives what is kept of the published network.
        watch: Follows the training; who ends it ends it with nothing kept.

    Raises:
        UserError: If they have to be trained, and nothing may be written here.
    """
    if not file.exists():
        with _one_at_a_time:
            if not file.exists():
                settings().allow_change(f"train {what}")
                net = finished(trainer(), f"Training {what}, once for these images", watch)
                tensors = {name: value.cpu().contiguous() for name, value in weights(net).items()}
                files.keep(file, as_bytes(tensors))
                return tensors  # where the disk refuses, there is no file
    return from_bytes(file.read_bytes())


def finished(trainer: Trainer, text: str, watch: Watch = UNWATCHED) -> Any:
    """Trains to the end, and gives the published network; ``text`` says what is done."""
    watch.count(text, 0, trainer.config.images, "images")
    for at in trainer:
        watch.count(text, at.images, at.total, "images")
    return trainer.published()

"""A training of somebody else's as the referee: called in a process of its own, with the same images, seeds and steps.

The contract is ``fit(x, y, classes, seed, steps) -> predict``: ``x`` float32 (N, …) in [0, 1], ``y`` int64 (N,),
``classes`` their number, ``steps`` how many optimiser steps the small net would make. ``predict(x)`` gives the class of
each item, (N,), or a score for each class, (N, classes).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.building.experiment.referees import Bench, Pupil
from core.catalog import UserError
from core.datasets import Dataset
from core.ground import scratch
from core.ground.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLE = "Write package.module:fit, for example mytraining.small:fit."
COPIES = 10  # changed copies of each image that a chain gives to a training, at most
LOOK = 0.3  # seconds after which one looks again whether it is wanted still
CALLER = Path(__file__).with_name("caller.py")
ROOT = Path(__file__).resolve().parents[3]


def check(dataset: Dataset, config: Any) -> None:
    """Refuses an experiment whose training was not named.

    Raises:
        UserError: With how it is named.
    """
    module, _, function = config.trainer.partition(":")
    if not module or not function:
        raise UserError(
            f"experiment.referee=trainer needs a module and a function, got {config.trainer!r} for experiment.trainer. "
            f"{EXAMPLE}"
        )


def taught(bench: Bench, data: Dataset, pair: int, transform: Any, order: int) -> Pupil:
    """Lets the training learn, and keeps what it says of the test images.

    The process ends with the answers, so the test images go with it; it never sees their labels.

    Raises:
        UserError: If it cannot be called, fails, takes too long, or answers something else.
        Stopped: If the watch of the bench says so; the process is ended.
    """
    import torch

    x, y = shown(data, bench.config, transform, bench.seed(pair, order))

    def predict(seen: Tensor) -> Tensor:
        given = x, y, seen.numpy(), len(data.classes), bench.seed(pair)
        named = _answers(bench.config, *given, bench.watch)
        return torch.as_tensor(named)

    return Pupil(predict)


def shown(data: Dataset, config: Any, transform: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives what a training from outside is shown: images in [0, 1], and labels (N,).

    A chain acts on each batch of the small net; here it makes copies of each image, as many as those steps would see.
    """
    import torch

    assert data.y is not None
    items = data.items(slice(None))
    if transform is None:
        return data.medium.to_model(items).numpy(), data.y
    generator = torch.Generator().manual_seed(seed)
    copies = min(COPIES, max(1, config.steps * config.batch // max(1, len(data))))
    x = torch.cat([data.medium.to_model(transform(items, generator)) for _ in range(copies)])
    return x.numpy(), np.tile(data.y, copies)


def _called(folder: Path, home: str, seconds: float, watch: Watch) -> tuple[int, str]:
    """Runs the process until it ends; gives its exit code, and what it wrote to its errors.

    Raises:
        TimeoutError: If it takes longer.
        Stopped: If somebody asked for the end; it is over then.
    """
    with subprocess.Popen(
        [sys.executable, "-P", str(CALLER), str(folder)],
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                watch.check()
                with suppress(subprocess.TimeoutExpired):
                    _, errors = process.communicate(timeout=min(left, LOOK))
                    return process.returncode, errors
            raise TimeoutError
        finally:
            process.kill()  # nothing where it has ended


def _answers(
    config: Any,
    x: np.ndarray,
    y: np.ndarray,
    seen: np.ndarray,
    classes: int,
    seed: int,
    watch: Watch,
) -> np.ndarray:
    name = config.trainer
    with scratch.temporary() as folder:
        np.savez(folder / "given.npz", x=x, y=y, seen=seen)
        about = {"trainer": name, "classes": classes, "seed": seed, "steps": config.steps}
        about["folder"] = config.trainer_folder or str(ROOT)
        (folder / "about.json").write_text(json.dumps(about), "utf-8")
        try:
            code, errors = _called(folder, about["folder"], config.trainer_seconds, watch)
        except TimeoutError:
            raise UserError(
                f"{name} was not done after {config.trainer_seconds:g} s with {len(x):,} images and {config.steps:,} "
                "steps. Give it longer (experiment.trainer_seconds), or ask for fewer experiment.steps."
            ) from None
        said = folder / "said.npy"
        if code or not said.exists():
            lines = [line.strip() for line in errors.splitlines() if line.strip()]
            why = lines[-1][:200].rstrip(".") if lines else f"it ended with {code}"
            raise UserError(
                f"{name} failed: {why}. It is called as fit(x, y, classes, seed, steps) and gives predict(x). "
                "Call it in Python to see where."
            )
        answer = np.load(said, allow_pickle=False)
    if answer.ndim == 2 and answer.shape == (len(seen), classes) and np.isfinite(answer).all():
        answer = answer.argmax(1)
    fits = answer.shape == (len(seen),) and answer.dtype.kind in "iu"
    if not fits or (len(answer) and not 0 <= answer.min() <= answer.max() < classes):
        raise UserError(
            f"predict of {name} must give {len(seen):,} whole numbers from 0 to {classes - 1}, or finite scores "
            f"({len(seen):,}, {classes}), got {answer.dtype} {answer.shape}. Mend what it gives."
        )
    return answer.astype(np.int64)

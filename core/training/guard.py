"""What can go wrong in a training, and how it is noticed and undone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.models import Compiles
from core.tensors import alone, processes
from core.training.config import TrainConfig

COMPILED = 1_000_000  # images of the shortest training that is worth compiling for
BACKEND: Any = "inductor"  # of torch.compile
ROLLBACKS = 3  # returns to the last good state before a training is given up


class Diverged(Exception):
    """Says what stopped being a finite number."""


class Checks:
    """Numbers that have to be finite, of which each is looked at once.

    Reading a number of a GPU forces a synchronisation, so there they gather until a record is made.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Tensor]] = []

    def add(self, name: str, value: Tensor) -> None:
        """Adds a scalar under the name that a sentence calls it by."""
        self._waiting.append((name, value))

    def look(self) -> None:
        """Looks at all that were added.

        Raises:
            Diverged: At the first one that is not finite.
        """
        waiting, self._waiting = self._waiting, []
        for name, value in waiting:
            if not math.isfinite(number := float(value)):
                raise Diverged(f"{name} is {number:g}")


def checked_weights(model: nn.Module) -> None:
    """Looks at all weights.

    Raises:
        Diverged: If one is not finite.
    """
    for name, param in model.named_parameters():
        if not bool(param.isfinite().all()):
            raise Diverged(f"The weights of {name} are not finite")


class Compiler:
    """Compiles what a network lists as hot, if that was asked for or is worth its time.

    Attributes:
        modules: Those that are compiled.
        failures: Exceptions that a step raises when compiling fails.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, device: torch.device) -> None:
        self.modules: list[nn.Module] = []
        self.failures: tuple[type[Exception], ...] = ()
        compiles = config.compile == "on" or (
            config.compile == "auto"
            and device.type == "cuda"
            and processes()[0] == 1  # a graph would have to hold the exchange between processes
            and config.images >= COMPILED
        )
        if compiles and isinstance(model, Compiles):
            from torch._dynamo.exc import TorchDynamoException

            self.failures = (TorchDynamoException,)
            self.modules = model.hot()
            for module in self.modules:
                module.compile(backend=BACKEND)

    def undo(self, error: Exception, required: bool) -> str:
        """Goes on without; gives a sentence for the record.

        Args:
            error: Of the compiler.
            required: Whether the person has chosen to compile.

        Raises:
            UserError: If so.
        """
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if required:
            raise UserError(
                f"The networks cannot be compiled here: {reason}. "
                "Set train.compile to off, or install what is missing."
            ) from error
        for module in self.modules:
            module._compiled_call_impl = None
        self.failures = ()
        return f"The networks could not be compiled ({reason}), so training goes on without it."


def batch_that_fits(attempt: Callable[[int], None], batch: int) -> int:
    """Halves a batch until a step's gradients fit into the memory of this process.

    Args:
        attempt: Computes them for so many images.
        batch: What did not fit, of all processes together.
    """
    count = batch // processes()[0]
    while count > 2:
        count //= 2
        try:
            with alone():  # the others may have room
                attempt(count)
            break
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    return max(count, 2) * processes()[0]


def copied(state: Any) -> Any:
    """Copies a state to memory that training does not touch."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [copied(value) for value in state]
    return state

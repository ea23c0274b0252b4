"""What is asked of a generator before it becomes a run: that it draws what a run draws, and nothing else changes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.catalog import Config, UserError
from core.ground.writing import duration
from core.tensors import noise
from core.wrapped import as_items, raised, shares
from core.wrapped.decoder import DecoderModel, EncoderModel
from core.wrapped.sampler import SamplerModel, SamplerSampling
from core.wrapped.velocity import VelocityModel

TRIED = 4  # images that are drawn
ALIKE = 1e-5  # how far one image may differ with what is drawn beside it
BEYOND = 1e-3  # how far a value may lie outside of [0, 1], by rounding


@dataclass(frozen=True)
class Admitted:
    """What was found of a generator that may come in.

    Attributes:
        seconds: To draw one image, of a batch of four.
        notes: What to know of it, in sentences.
        x: The images that were drawn, (4, C, H, W).
    """

    seconds: float
    notes: tuple[str, ...]
    x: Tensor


def admit(model: Any, name: str, sampling: Config, program: bool = True) -> Admitted:
    """Tries a generator that was wrapped: its shapes, its range, its repeatability, and what else it changes.

    Args:
        model: One of the classes of this room, in evaluation mode.
        name: Of what it is, for people.
        sampling: How it draws.
        program: Whether it is a program, which may change what others share.

    Raises:
        UserError: With what is wrong, what is allowed, and what to do.
    """
    ids = list(range(TRIED))
    with torch.no_grad():
        _raw(model, name, ids, program)
        began = time.perf_counter()
        x = _called(name, lambda: model.sample(ids, None, 0, sampling))
        seconds = (time.perf_counter() - began) / TRIED
        alone = _called(name, lambda: model.sample(ids[2:3], None, 0, sampling))
    _items(x, name, (TRIED, *model.spec.shape))
    apart = float((alone[0] - x[2]).abs().max())
    if apart > ALIKE:
        raise UserError(
            f"{name} draws another image 2 of seed 0 alone than beside others (they differ by up to {apart:.2g}). One "
            f"id must give one image, to {ALIKE:g}. Take all that is random from seed and id, as "
            "core.tensors.noise(seed, ids, shape, 'name') does, and nothing from the batch (batch norm in training)."
        )
    notes = [f"It draws an image in {_told(seconds)} on this machine."]
    if float((x[0] - x[1:]).abs().amax()) < ALIKE:
        notes.append("The first images of seed 0 are all alike: it may ignore its noise.")
    return Admitted(seconds, tuple(notes), x)


def same(x: Tensor, again: Tensor, name: str) -> None:
    """Refuses a generator that, made a second time and given its weights, draws other images.

    Raises:
        UserError: If it does.
    """
    if x.shape != again.shape or float((x - again).abs().max()) > ALIKE:
        raise UserError(
            f"{name} draws other images when it is made again and given the same weights. Everything that they depend "
            "on must be in its state_dict. Make a parameter or a buffer of the rest."
        )


def _raw(model: Any, name: str, ids: Sequence[int], program: bool) -> None:
    """Looks at what the network itself says, before anything is cut to [0, 1], and at what else that changes."""
    net, where, items = model.net, model.anchor.device, (TRIED, *model.spec.shape)
    kinds: list[Tensor | None] = [None]  # without a class, and of certain ones
    if model.classes:
        kinds.append(shares(torch.arange(TRIED, device=where) % model.classes, model.classes))

    def ask(method: str, *inputs: Any) -> Any:
        with _untouched(name) if program else nullcontext():
            return _called(name, lambda: getattr(net, method)(*inputs))

    for y in kinds:
        if isinstance(model, VelocityModel):
            x = noise(0, ids, model.shape, "latent", device=where).requires_grad_()
            with torch.enable_grad():
                v = ask("velocity", x, x.new_full((TRIED,), 0.5), y)
            _items(v, name, items, anywhere=True)
            if not v.requires_grad:
                raise UserError(
                    f"The velocity of {name} has no derivative: its network cuts the graph. It must be made of torch's "
                    "own operations, without no_grad or detach. Take these out, or offer sample instead."
                )
        elif isinstance(model, DecoderModel):
            x = ask("decode", noise(0, ids, (model.latent_dim,), "latent", device=where), y)
            _items(x, name, items)
            if isinstance(model, EncoderModel):
                z = ask("encode", as_items(x), y)
                _items(z, name, (TRIED, model.latent_dim), anywhere=True, what="latents")
        elif isinstance(model, SamplerModel):
            _items(ask("sample", list(ids), y, 0, SamplerSampling()), name, items)


def _called(name: str, ask: Any) -> Any:
    try:
        return ask()
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's program raises
        raise UserError(
            f"{name} broke off when it was tried ({raised(error)}). It must take what the contract says: float32 "
            "tensors, and shares of the classes (N, K) or None. Call it in Python to see where it fails."
        ) from error


def _items(
    x: Any, name: str, shape: tuple[int, ...], *, anywhere: bool = False, what: str = "images"
) -> None:
    if not isinstance(x, Tensor) or tuple(x.shape) != shape or not x.is_floating_point():
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise UserError(
            f"{name} must give {what} as a tensor of floats {shape}, got {got.removeprefix('torch.')}. "
            "Bring it for the dataset whose images it makes, or shape them in its program."
        )
    if not bool(x.isfinite().all()):
        raise UserError(
            f"{name} gives {what} with nan or infinity. All numbers must be finite. Look for a division by zero."
        )
    low, high = float(x.min()), float(x.max())
    if not anywhere and (low < -BEYOND or high > 1 + BEYOND):
        raise UserError(
            f"{name} gives {what} from {low:.3g} to {high:.3g}. They must lie from 0 to 1. If it works from -1 to 1, "
            "let it give (x + 1) / 2; a clamp(0, 1) cuts what lies beside."
        )


@contextmanager
def _untouched(name: str) -> Iterator[None]:
    """Refuses what leaves another random state than it found, and puts the old one back."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
        after = torch.get_rng_state(), np.random.get_state(), random.getstate()
        changed = [
            library
            for library, moved in (
                ("torch", not torch.equal(before[0], after[0])),
                ("numpy", any(not np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))),
                ("random", before[2] != after[2]),
            )
            if moved
        ]  # fmt: skip
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
    if changed:
        raise UserError(
            f"{name} draws from the random state of {' and '.join(changed)}, which others share. It must leave it as "
            "it is. Take what is random from seed and ids: core.tensors.noise(seed, ids, shape, 'name')."
        )


def _told(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{max(1, round(1000 * seconds))} ms"

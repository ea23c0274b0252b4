"""Images are changed so that an encoder takes them for something else.

References:
    Kos et al., 2018, Adversarial examples for generative models, https://arxiv.org/abs/1702.06832
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from core.catalog import knob
from core.datasets import Dataset
from core.media import Medium
from core.models import Encodes, Spells, Traces, differentiates
from core.norms import LINF
from core.robustness.tricks import Shown, TrickConfig, images_of, noisy, rising, row, strip, tricks
from core.runs import Opened
from core.target import Target


class EncoderConfig(TrickConfig):
    """Parameters of the attack on an encoder."""

    goal: Literal["away", "another"] = knob(
        "away", "Moves the code as far away as possible, or to that of another image."
    )


def _encodes(opened: Opened) -> bool:
    # a path is followed by too many passes for each step of an attack
    if isinstance(opened.model, Traces):
        return False
    if isinstance(opened.model, Spells):
        return True
    return isinstance(opened.model, Encodes) and differentiates(opened.model, opened.usual)


@tricks.add("encoder", "Attack the encoder", EncoderConfig, fits=_encodes)
def encoder(
    config: EncoderConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Changes an image a little, and the model takes it for something else; random noise of the same size beside it."""
    x, y = images_of(opened, dataset, config.n)
    eps = tricks.get("encoder").strength(dataset, config.eps)
    code, restored = coder(opened, dataset.medium, y)
    with torch.no_grad():
        clean, back = code(x), restored(x)
        noised = restored(noisy(x, eps, config.seed))
    goal = clean.roll(1, 0)
    spread = float((clean - goal).flatten(1).norm(dim=1).mean()) or 1.0

    def score(moved: Tensor) -> Tensor:
        if config.goal == "another":
            return -(code(moved) - goal).flatten(1).square().sum(1)
        return (code(moved) - clean).flatten(1).square().sum(1)

    def shift(moved: Tensor) -> float:
        return float((code(moved) - clean).flatten(1).norm(dim=1).mean() / spread)

    for level in rising(score, shift, x, eps, config, "Shift of the code"):
        far, random = (values[-1] for values in level.lines.values())
        with torch.no_grad():
            after = restored(level.chosen)
        damage = [float((images - back).square().mean()) for images in (after, noised)]
        yield Shown(
            f"A change of {LINF.text(level.eps)} moves the code by {far:.2f} of the distance between two images, "
            f"{far / max(random, 1e-9):.1f} times as far as random noise of the same size.",
            [
                row("Shift of the code, attack", f"{far:.2f}", "1: distance of two images", len(x)),
                row("Shift of the code, noise", f"{random:.2f}", "noise of that size", len(x)),
                row("Damage, attack", f"{damage[0]:.4f}", "mean square change of the reconstruction", len(x)),
                row("Damage, noise", f"{damage[1]:.4f}", "the same for random noise", len(x)),
            ],
            [
                strip("Images", x),
                strip("What the model makes of them", back),
                strip(f"Changed by at most {LINF.text(eps)}", level.chosen),
                strip("What the model makes of these", after),
            ],
            level.curve,
            level.done,
        )  # fmt: skip


def coder(
    opened: Opened, medium: Medium, y: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Gives code and reconstruction of items by a model; of one that spells, the code before it is rounded."""
    model, seen, items = opened.model, medium.to_model, medium.from_model
    if isinstance(model, Spells):
        spell, restore, quantize = model.spell, model.restore, model.quantize
        return lambda x: spell(seen(x)), lambda x: items(restore(quantize(seen(x))))
    label, sampling = y if model.classes else None, opened.usual

    def code(x: Tensor) -> Tensor:
        return model.encode(seen(x), label, sampling)

    return code, lambda x: items(model.decode(code(x), label, sampling).clamp(0, 1))

"""Images that no data looks like are changed until a model finds them likely.

References (used throughout the code):
    [1] Nalisnick et al., 2019, Do deep generative models know what they don't know?, https://arxiv.org/abs/1810.09136
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset
from core.models import Scores, Traces
from core.norms import LINF
from core.robustness.tricks import Shown, TrickConfig, images_of, rising, row, share, strip, tricks
from core.runs import Opened
from core.target import Target


@tricks.add(
    "likelihood",
    "Attack the likelihood",
    TrickConfig,
    fits=lambda opened: (
        # a path's likelihood is an estimate without a gradient
        isinstance(opened.model, Scores) and not isinstance(opened.model, Traces)
    ),
    times=2.0,
)
def likelihood(
    config: TrickConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Turns images inside out, which no data looks like, and changes them until the model finds them likely [1]."""
    model, seen = opened.model, dataset.medium.to_model
    x, y = images_of(opened, dataset, config.n)
    strange = 1 - x
    eps = tricks.get("likelihood").strength(dataset, config.eps)
    bits = seen(x)[0].numel() * float(np.log(2))
    label = y if model.classes else None

    def likely(images: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(config.seed)
        return model.log_prob(seen(images), label, generator) / bits

    def cost(images: Tensor) -> float:
        return -float(likely(images).mean())

    with torch.no_grad():
        real = likely(x)
    for level in rising(likely, cost, strange, eps, config, "Bits per dimension"):
        attack, _ = level.lines.values()
        with torch.no_grad():
            above = int((likely(level.moved) > real.median()).sum())
        usual = -float(real.mean())
        yield Shown(
            f"Images turned inside out cost {attack[0]:.2f} bits per dimension, real ones {usual:.2f}; "
            f"after a change of {LINF.text(level.eps)}, {attack[-1]:.2f}.",
            [
                row("Real images", f"{usual:.2f}", "bits per dimension, lower is likelier", len(x)),
                row("Inside out", f"{attack[0]:.2f}", "the same before the attack", len(x)),
                row("After the attack", f"{attack[-1]:.2f}", "the same after it", len(x)),
                share("Likelier than half of the real", above, len(x), "attacked images above the median real one"),
            ],
            [strip("Inside out", strange), strip(f"Changed by at most {LINF.text(level.eps)}", level.moved)],
            level.curve,
            level.done,
        )  # fmt: skip

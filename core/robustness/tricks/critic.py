"""Generated images are changed so that a critic takes them for real ones.

References:
    Kos et al., 2018, Adversarial examples for generative models, https://arxiv.org/abs/1702.06832
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from core.datasets import Dataset
from core.ground.writing import percent
from core.models import Criticises
from core.norms import LINF
from core.robustness.tricks import Shown, TrickConfig, images_of, rising, row, share, strip, tricks
from core.runs import Opened
from core.target import Target


@tricks.add(
    "critic",
    "Attack the critic",
    TrickConfig,
    fits=lambda opened: isinstance(opened.model, Criticises),
)
def critic(
    config: TrickConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Makes the critic take generated images for real ones; how well it still tells them apart, against strength."""
    model, medium = opened.model, dataset.medium
    x, y = images_of(opened, dataset, config.n)
    label = y if model.classes else None
    fake = medium.from_model(model.sample(range(len(x)), label, config.seed, opened.usual))
    eps = tricks.get("critic").strength(dataset, config.eps)

    def score(images: Tensor) -> Tensor:
        return model.criticise(medium.to_model(images), label)

    with torch.no_grad():
        real = score(x)

    def apart(images: Tensor) -> float:
        return auc(real, score(images))

    for level in rising(score, apart, fake, eps, config, "Told apart (AUC)"):
        attack, random = level.lines.values()
        with torch.no_grad():
            taken = int((score(level.moved) > real.median()).sum())
        yield Shown(
            f"Untouched, the critic ranks a real image above a generated one in {percent(attack[0])} of the pairs; "
            f"after a change of {LINF.text(level.eps)} in {percent(attack[-1])}.",
            [
                row("Told apart before", f"{attack[0]:.3f}", "AUC: 1 always, 0.5 by chance", len(x)),
                row("After the attack", f"{attack[-1]:.3f}", "AUC after the change", len(x)),
                row("After noise", f"{random[-1]:.3f}", "AUC, random noise of the same size", len(x)),
                share("More real than half of the real", taken, len(x), "generated images above the median real one"),
            ],
            [strip("Generated", fake), strip(f"Changed by at most {LINF.text(eps)}", level.chosen)],
            level.curve,
            level.done,
        )  # fmt: skip


def auc(high: Tensor, low: Tensor) -> float:
    """Gives how often a value of the first is above one of the second; ties count half."""
    pairs = high[:, None] - low[None]
    return float(((pairs > 0).float() + (pairs == 0).float() / 2).mean())

"""How near a model comes to the true image, of which it was told a second picture such as a sketch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.ground.stats import Estimate, mean, share
from core.measure.metrics import Score, metrics

if TYPE_CHECKING:
    import torch

    from core.measure.study import Evaluator, ImageSet


@metrics.add(
    "paired_error",
    "Error to the true image",
    group="quality",
    direction="lower",
    means="How far what the model makes of the second pictures of unseen images is from these images, as a share of "
    "how far the mean training image is: 0 is the very image, 1 no better than the mean.",
    doubt="Of what the second picture leaves open, the likely is as wrong as the unlikely.",
    needs=("renders",),
    scale="share",
)
def _paired_error(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Compares what is made of the conditions of unseen images with these images, pixel by pixel."""
    import torch

    truth = torch.cat(list(evaluator.reference.images()))
    middle = torch.cat(list(evaluator.twin.images())).mean(0)
    made = torch.cat(list(evaluator.rendered.images()))
    error, usual = _squares(made, truth), float(_squares(middle, truth).mean())
    relative = mean((error / max(usual, 1e-12)).double().cpu().numpy())
    return Score(relative, details={"error": float(error.mean()), "of_the_mean": usual})


def _squares(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().flatten(1).mean(1)  # (N, C, H, W) -> (N,)


@metrics.add(
    "paired_class",
    "Class of the true image",
    group="classes",
    direction="higher",
    means="The share of unseen images of whose second picture the model makes one that the judge names as the class of "
    "the true image.",
    doubt="Where the second picture does not show the class, nobody could tell it.",
    needs=("judge", "renders"),
    scale="share",
    floor="unseen",
    praise="of what it makes shows what the true image shows",
)
def _paired_class(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Asks a classifier trained on real images whether what was made shows the class of the true image."""
    looked = evaluator.rendered if sample.index is None else sample
    return share(looked.named == looked.y)

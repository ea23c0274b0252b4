"""How likely real images are to the model, by its own account."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from core.ground.stats import Estimate, mean
from core.measure.metrics import Score, metrics
from core.media import FORMS

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet


@metrics.add(
    "bits",
    "Bits per pixel value",
    group="likelihood",
    direction="lower",
    means="How many bits the model needs for each pixel value of an unseen image: the fewer, the less it is surprised.",
    doubt="A bound, not the value itself, computed differently in each family; a good one need not mean good samples.",
    needs=("scores",),
    scale="bits",
    takes=FORMS,
)
def _bits(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Averages the negative log-probability of held-out images, in bits per dimension."""
    note = f"Uniform guessing needs {math.log2(evaluator.dataset.levels):.2f} bits."
    return Score(mean(evaluator.bits("held_out")), note, {"levels": evaluator.dataset.levels})


@metrics.add(
    "bits_gap",
    "Bits, unseen less seen",
    group="likelihood",
    direction="lower",
    means="How many bits more an unseen image takes than a training image: near 0, nothing was learned by heart.",
    doubt="The two sets of images differ by chance as well; the interval says how much.",
    needs=("scores",),
    scale="bits",
    takes=FORMS,
)
def _bits_gap(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Compares the bits of held-out images with those of training images: the reading of overfitting."""
    unseen, seen = mean(evaluator.bits("held_out")), mean(evaluator.bits("train"))
    half = math.hypot(unseen.high - unseen.value, seen.high - seen.value)
    return Estimate.around(unseen.value - seen.value, half, unseen.n)


@metrics.add(
    "losses",
    "Its own loss on unseen images",
    group="likelihood",
    direction="",
    means="What the model was trained to lower, on unseen and on training images: a gap between them is overfitting.",
    doubt="Losses of different families, or of the two players of a GAN, mean different things and never rank models.",
    needs=(),
    own=True,
)
def _losses(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Computes the family's own loss on held-out and on training images."""
    unseen, seen = evaluator.losses("held_out"), evaluator.losses("train")
    value = Estimate(next(iter(unseen.values())), math.nan, math.nan, evaluator.scored)
    return Score(value, details={"unseen": unseen, "seen": seen})

"""How near the samples are to real images, as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.catalog import UserError
from core.ground.stats import Estimate
from core.measure.metrics import Score, metrics

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet


@metrics.add(
    "kid",
    "Kernel distance (KID)",
    group="quality",
    direction="lower",
    means="How far the features of the samples are from those of real images; 0 is no difference, at any "
    "number of samples.",
    doubt="A few odd samples can move it, and it sees only what its feature network sees.",
    floor="twin",
)
def _kid(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Compares all features of samples and real images; fair at small numbers, so it ranks models."""
    from core.measure.distances import kernel_distance

    return kernel_distance(*evaluator.pair(sample))


@metrics.add(
    "frechet",
    "Fréchet distance",
    group="quality",
    direction="lower",
    means="The distance that papers report, between the mean and spread of both sets of features; 0 is equal.",
    doubt="It grows when there are few samples: compare it at the same number only, beside the value of real images.",
    floor="twin",
)
def _frechet(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Compares mean and covariance of the features: the distance behind FID, biased upwards at small numbers."""
    from core.measure.distances import frechet_estimate

    width = evaluator.width
    _enough(evaluator.n, 2 * width, f"A Fréchet distance of {width} features")
    note = ""
    if evaluator.n < 30 * width:
        note = (
            f"{evaluator.n} samples are few for {width} features, so the value is too high "
            f"(from {30 * width} samples it hardly is). Compare it with the floor, or see the extrapolated value."
        )
    return Score(frechet_estimate(sample.gaussian, evaluator.reference.gaussian), note)


@metrics.add(
    "frechet_inf",
    "Fréchet distance, extrapolated",
    group="quality",
    direction="lower",
    means="What the Fréchet distance would be with endless samples, read off a line through its values at "
    "several numbers.",
    doubt="An extrapolation: with few samples the line is not straight, and the interval knows only its scatter.",
    standard=False,
    floor="twin",
)
def _frechet_inf(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Extrapolates the Fréchet distance to endless samples, so that models of different numbers compare."""
    import numpy as np

    from core.measure.distances import frechet_limit

    least = max(4 * evaluator.width, 100)
    _enough(evaluator.n, 2 * least, f"The extrapolation for {evaluator.width} features")
    sizes = sorted({int(n) for n in 1 / np.linspace(1 / least, 1 / evaluator.n, 8)})
    note = ""
    if evaluator.n < 30 * evaluator.width:
        note = f"From {least} to {evaluator.n} samples only: read it as a rough guess."
    one, other = evaluator.pair(sample)
    return Score(frechet_limit(one, other, sizes, seed=evaluator.config.seed), note)


@metrics.add(
    "sliced",
    "Sliced Wasserstein distance",
    group="quality",
    direction="lower",
    means="How far features must move, on average over many directions, to turn samples into real images; 0 is equal.",
    doubt="It shrinks as samples grow in number, even for real images: compare it at the same number only.",
    floor="twin",
)
def _sliced(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Compares both sets along 500 random directions: quick, and robust to odd samples."""
    from core.measure.distances import sliced_estimate

    return sliced_estimate(*evaluator.pair(sample))


@metrics.add(
    "emd",
    "Earth mover's distance",
    group="quality",
    direction="lower",
    means="The least total way to carry every sample's features to a real image of its own, per image.",
    doubt="It is large even for real images against real ones, because no two pictures are equal: look at its distance "
    "from the floor.",
    fewest=100,
    standard=False,
    floor="twin",
)
def _emd(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Solves the transport between samples and real images exactly, on up to five subsets of 500."""
    from core.measure.distances import earth_mover_estimate

    size = min(500, evaluator.n // 2)
    return earth_mover_estimate(*evaluator.pair(sample), size)


@metrics.add(
    "inception_score",
    "Inception Score",
    group="quality",
    direction="higher",
    means="High when each sample is clearly of one class and all classes occur; at most the number of classes.",
    doubt="It never looks at real images: a model that repeats one perfect picture per class gets the best score.",
    needs=("judge",),
    standard=False,
    floor="twin",
)
def _inception_score(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Scores how surely and how variedly the judge names the samples."""
    from core.measure.distances import inception_score

    return inception_score(sample.probabilities)


def _enough(n: int, needed: int, what: str) -> None:
    if n < needed:
        raise UserError(
            f"{what} needs at least {needed} samples and as many real images, got {n}. "
            "Draw more samples, use a larger dataset, or read the kernel distance instead."
        )

"""Whether single samples are real, and whether all kinds of real images are among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.ground.stats import Estimate, mean, share
from core.measure.metrics import metrics

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet


@metrics.add(
    "precision",
    "Realism (precision)",
    group="variety",
    direction="higher",
    means="The share of samples that lie among real images, so that they could be one.",
    doubt="Odd real images with wide neighbourhoods make it too kind, and it says nothing of variety.",
    scale="share",
    floor="twin",
    praise="of its pictures could be real ones",
    each=lambda e: (e.samples.overlap.inside > 0, e.samples.classes[: e.n]),
)
def _precision(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Counts the samples that lie within the neighbourhood of a real image."""
    return share(sample.overlap.inside > 0)


@metrics.add(
    "recall",
    "Variety (recall)",
    group="variety",
    direction="higher",
    means="The share of real images that lie among the samples, so that the model could have made them.",
    doubt="Samples that are spread too widely, even unreal ones, raise it.",
    scale="share",
    floor="twin",
    each=lambda e: (e.samples.overlap.recalled, e.reference.classes[: e.n]),
)
def _recall(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Counts the real images that lie within the neighbourhood of a sample."""
    return share(sample.overlap.recalled)


@metrics.add(
    "density",
    "Density",
    group="variety",
    direction="higher",
    means="How many real neighbourhoods a sample lies in, compared with what is usual; 1 is as dense as real images.",
    doubt="Above 1 is not better: samples crowd where real images are most common. Never rank by it.",
    floor="twin",
)
def _density(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Averages how many neighbourhoods of real images a sample lies in."""
    return mean(sample.overlap.inside.double() / evaluator.config.neighbours)


@metrics.add(
    "coverage",
    "Coverage",
    group="variety",
    direction="higher",
    means="The share of real images that have a sample nearby: missing kinds of pictures lower it.",
    doubt="It depends on the number of samples; only nearness counts, not how good the sample looks.",
    scale="share",
    floor="twin",
    praise="of the real pictures have one of its own nearby",
    each=lambda e: (e.samples.overlap.covered, e.reference.classes[: e.n]),
)
def _coverage(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Counts the real images with a sample within their own neighbourhood."""
    return share(sample.overlap.covered)

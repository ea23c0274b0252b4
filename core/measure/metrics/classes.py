"""What a classifier that was trained on real images says of the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.ground.stats import Estimate, share
from core.measure.metrics import Score, metrics

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet


def _right(evaluator: Evaluator) -> tuple[Any, Any]:
    named, wanted = evaluator.samples.named, evaluator.samples.y
    return (named[:0], named[:0]) if wanted is None else (named == wanted, wanted)


@metrics.add(
    "accuracy",
    "Right class",
    group="classes",
    direction="higher",
    means="The share of samples that the judge, trained on real images, names as the class that was asked for.",
    doubt="It cannot tell a good picture from a caricature that is easy to name.",
    needs=("judge", "conditional"),
    scale="share",
    floor="unseen",
    praise="of its pictures show what was asked for",
    each=_right,
)
def _accuracy(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Asks a classifier trained on real images whether samples show the class that was asked for."""
    return share(sample.named == sample.y)


@metrics.add(
    "classes",
    "Wrong shares of classes",
    group="classes",
    direction="lower",
    means="The share of samples that would have to be of another class for all classes to occur as often as "
    "in real images.",
    doubt="The judge counts the classes, and its own mistakes count too; a few samples never fit exactly.",
    needs=("judge",),
    scale="share",
    floor="unseen",
)
def _classes(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Compares how often the judge sees each class in samples and in real images."""
    from core.measure.distances import class_difference

    count = len(evaluator.dataset.classes)
    return class_difference(evaluator.reference.named, sample.named, count)


@metrics.add(
    "synthetic_to_real",
    "Learning from samples",
    group="classes",
    direction="higher",
    means="The accuracy on real images of a classifier that saw samples only: what they are worth as training data.",
    doubt="One training, one seed: differences of a percent or two are luck. The floor is the same training "
    "on real images.",
    needs=("judge", "conditional"),
    standard=False,
    scale="share",
    floor="train",
)
def _synthetic_to_real(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Trains a classifier on samples and tests it on real images; the reverse is the metric "right class"."""
    return Score(share(evaluator.taught_by(sample)), details={"trained_on": len(sample.x)})

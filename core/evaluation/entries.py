"""The metrics of an evaluation: each with what it means, when not to trust it, and what it needs.

An entry is called with the study and one of its samples: with the generated images for the value, with real images
that the model never saw for the floor. What is heavy is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from core.catalog import Config, Entry, Registry, UserError

if TYPE_CHECKING:
    from core.evaluation.study import Sample, Study
    from core.stats import Estimate

GROUPS = {
    "quality": "Quality",
    "variety": "Realism and variety",
    "classes": "Classes",
    "likelihood": "Likelihood",
    "copying": "Copying",
}


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A metric; ``make(study, sample) -> Found``.

    Attributes:
        group: Of :data:`GROUPS`.
        direction: Which is better; empty if neither.
        means: What it measures, a sentence.
        doubt: When not to trust it, a sentence.
        needs: What must be there: features, judge, conditional, scores.
        fewest: Samples.
        standard: Measured unless a choice is made.
        scale: How its value is written: share, number or bits.
        floor: Which real images take the place of the samples for its floor: ``twin`` (as many as samples),
            ``unseen``, ``train``, or none.
        own: It is the model's own yardstick, not comparable between families.
    """

    group: str
    direction: Literal["lower", "higher", ""]
    means: str
    doubt: str
    needs: tuple[str, ...] = ("features",)
    fewest: int = 50
    standard: bool = True
    scale: Literal["share", "number", "bits"] = "number"
    floor: Literal["twin", "unseen", "train", ""] = ""
    own: bool = False
    config: type[Config] = Config


metrics = Registry("metric", Metric)


@dataclass(frozen=True)
class Found:
    """What a metric found: the value with its interval, number of samples, a note, and more numbers by name."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def _found(estimate: Estimate, note: str = "", **details: Any) -> Found:
    known = math.isfinite(estimate.low) and math.isfinite(estimate.high)
    low, high = (estimate.low, estimate.high) if known else (None, None)
    return Found(estimate.value, low, high, estimate.n, note, details)


# --- Quality --------------------------------------------------------------------------------------------------------


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
def _kid(study: Study, sample: Sample) -> Found:
    """Compares all features of samples and real images; fair at small numbers, so it ranks models."""
    from core.metrics import kernel_distance

    return _found(kernel_distance(sample.features[: study.n], study.reference.features[: study.n]))


@metrics.add(
    "frechet",
    "Fréchet distance",
    group="quality",
    direction="lower",
    means="The distance that papers report, between the mean and spread of both sets of features; 0 is equal.",
    doubt="It grows when there are few samples: compare it at the same number only, beside the value of real images.",
    floor="twin",
)
def _frechet(study: Study, sample: Sample) -> Found:
    """Compares mean and covariance of the features: the distance behind FID, biased upwards at small numbers."""
    from core.metrics import frechet_estimate

    width = study.width
    _enough(study.n, 2 * width, f"A Fréchet distance of {width} features")
    note = ""
    if study.n < 30 * width:
        note = (
            f"{study.n} samples are few for {width} features, so the value is too high "
            f"(from {30 * width} samples it hardly is). Compare it with the floor, or see the extrapolated value."
        )
    return _found(frechet_estimate(sample.gaussian, study.reference.gaussian), note)


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
def _frechet_inf(study: Study, sample: Sample) -> Found:
    """Extrapolates the Fréchet distance to endless samples, so that models of different numbers compare."""
    import numpy as np

    from core.metrics import frechet_limit

    least = max(4 * study.width, 100)
    _enough(study.n, 2 * least, f"The extrapolation for {study.width} features")
    sizes = sorted({int(n) for n in 1 / np.linspace(1 / least, 1 / study.n, 8)})
    note = ""
    if study.n < 30 * study.width:
        note = f"From {least} to {study.n} samples only: read it as a rough guess."
    one, other = sample.features[: study.n], study.reference.features[: study.n]
    return _found(frechet_limit(one, other, sizes, seed=study.config.seed), note)


@metrics.add(
    "sliced",
    "Sliced Wasserstein distance",
    group="quality",
    direction="lower",
    means="How far features must move, on average over many directions, to turn samples into real images; 0 is equal.",
    doubt="It shrinks as samples grow in number, even for real images: compare it at the same number only.",
    floor="twin",
)
def _sliced(study: Study, sample: Sample) -> Found:
    """Compares both sets along 500 random directions: quick, and robust to odd samples."""
    from core.metrics import sliced_estimate

    return _found(sliced_estimate(sample.features[: study.n], study.reference.features[: study.n]))


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
def _emd(study: Study, sample: Sample) -> Found:
    """Solves the transport between samples and real images exactly, on up to five subsets of 500."""
    from core.metrics import earth_mover_estimate

    size = min(500, study.n // 2)
    return _found(
        earth_mover_estimate(sample.features[: study.n], study.reference.features[: study.n], size)
    )


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
def _inception_score(study: Study, sample: Sample) -> Found:
    """Scores how surely and how variedly the judge names the samples."""
    from core.metrics import inception_score

    return _found(inception_score(study.classifier(sample)))


# --- Realism and variety --------------------------------------------------------------------------------------------


@metrics.add(
    "precision",
    "Realism (precision)",
    group="variety",
    direction="higher",
    means="The share of samples that lie among real images, so that they could be one.",
    doubt="Odd real images with wide neighbourhoods make it too kind, and it says nothing of variety.",
    scale="share",
    floor="twin",
)
def _precision(study: Study, sample: Sample) -> Found:
    """Counts the samples that lie within the neighbourhood of a real image."""
    from core.stats import share

    return _found(share(sample.overlap.inside > 0))


@metrics.add(
    "recall",
    "Variety (recall)",
    group="variety",
    direction="higher",
    means="The share of real images that lie among the samples, so that the model could have made them.",
    doubt="Samples that are spread too widely, even unreal ones, raise it.",
    scale="share",
    floor="twin",
)
def _recall(study: Study, sample: Sample) -> Found:
    """Counts the real images that lie within the neighbourhood of a sample."""
    from core.stats import share

    return _found(share(sample.overlap.recalled))


@metrics.add(
    "density",
    "Density",
    group="variety",
    direction="higher",
    means="How many real neighbourhoods a sample lies in, compared with what is usual; 1 is as dense as real images.",
    doubt="Above 1 is not better: samples crowd where real images are most common. Never rank by it.",
    floor="twin",
)
def _density(study: Study, sample: Sample) -> Found:
    """Averages how many neighbourhoods of real images a sample lies in."""
    from core.stats import mean

    return _found(mean(sample.overlap.inside.double() / study.config.neighbours))


@metrics.add(
    "coverage",
    "Coverage",
    group="variety",
    direction="higher",
    means="The share of real images that have a sample nearby: missing kinds of pictures lower it.",
    doubt="It depends on the number of samples; only nearness counts, not how good the sample looks.",
    scale="share",
    floor="twin",
)
def _coverage(study: Study, sample: Sample) -> Found:
    """Counts the real images with a sample within their own neighbourhood."""
    from core.stats import share

    return _found(share(sample.overlap.covered))


# --- Classes --------------------------------------------------------------------------------------------------------


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
)
def _accuracy(study: Study, sample: Sample) -> Found:
    """Asks a classifier trained on real images whether samples show the class that was asked for."""
    from core.stats import share

    return _found(share(sample.named == sample.y))


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
def _classes(study: Study, sample: Sample) -> Found:
    """Compares how often the judge sees each class in samples and in real images."""
    from core.metrics import class_difference

    count = len(study.dataset.classes)
    return _found(class_difference(study.reference.named, sample.named, count))


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
def _synthetic_to_real(study: Study, sample: Sample) -> Found:
    """Trains a classifier on samples and tests it on real images; the reverse is the metric "right class"."""
    from core.stats import share

    return _found(share(study.taught_by(sample)), trained_on=len(sample.x))


# --- Likelihood -----------------------------------------------------------------------------------------------------


@metrics.add(
    "bits",
    "Bits per pixel value",
    group="likelihood",
    direction="lower",
    means="How many bits the model needs for each pixel value of an unseen image: the fewer, the less it is surprised.",
    doubt="A bound, not the value itself, and of another kind in each family; it says little about how samples look.",
    needs=("scores",),
    scale="bits",
)
def _bits(study: Study, sample: Sample) -> Found:
    """Averages the negative log-probability of held-out images, in bits per dimension."""
    from core.stats import mean

    note = f"Uniform guessing needs {math.log2(study.dataset.levels):.2f} bits."
    return _found(mean(study.bits("held_out")), note, levels=study.dataset.levels)


@metrics.add(
    "bits_gap",
    "Bits, unseen less seen",
    group="likelihood",
    direction="lower",
    means="How many bits more an unseen image takes than a training image: near 0, nothing was learned by heart.",
    doubt="The two sets of images differ by chance as well; the interval says how much.",
    needs=("scores",),
    scale="bits",
)
def _bits_gap(study: Study, sample: Sample) -> Found:
    """Compares the bits of held-out images with those of training images: the reading of overfitting."""
    from core.stats import mean

    unseen, seen = mean(study.bits("held_out")), mean(study.bits("train"))
    half = math.hypot(unseen.high - unseen.value, seen.high - seen.value)
    value = unseen.value - seen.value
    return Found(value, value - half, value + half, unseen.n)


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
def _losses(study: Study, sample: Sample) -> Found:
    """Computes the family's own loss on held-out and on training images."""
    unseen, seen = study.losses("held_out"), study.losses("train")
    return Found(
        next(iter(unseen.values())), n=study.scored, details={"unseen": unseen, "seen": seen}
    )


# --- Copying --------------------------------------------------------------------------------------------------------


@metrics.add(
    "nearer",
    "Nearer to training than to unseen images",
    group="copying",
    direction="lower",
    means="The share of samples whose nearest real image is a training image, when as many unseen ones are offered; "
    "half is chance.",
    doubt="It needs unseen images of the same source; near-duplicates between the two sets hide copies.",
    needs=(),
    scale="share",
    floor="unseen",
)
def _nearer(study: Study, sample: Sample) -> Found:
    """Asks of each sample whether a training image or an equally likely unseen image is nearer, in pixels."""
    from core.metrics import nearer_to_training

    estimate = nearer_to_training(sample.pixels, study.train.pixels, study.held_out.pixels)
    return _found(estimate, **_lines(study))


def _lines(study: Study) -> dict[str, Any]:
    """Gives what copies reach of a share that is one half by chance, and from where on it counts."""
    m = min(len(study.held_out.x), len(study.train.x))
    ceiling = (1 + m / len(study.train.x)) / 2
    # where even copies cannot reach far above one half, half of the way there is the line
    return {"ceiling": ceiling, "limit": min(0.6, 0.5 + (ceiling - 0.5) / 2)}


@metrics.add(
    "ratio",
    "Nearly identical",
    group="copying",
    direction="lower",
    means="The share of samples that are three times nearer to one training image than to any other: verbatim copies.",
    doubt="Blind to copies of pictures that the training set holds twice.",
    needs=(),
    scale="share",
    floor="unseen",
)
def _ratio(study: Study, sample: Sample) -> Found:
    """Finds samples that single out one training image: those that are the same picture."""
    from core.evaluation.copying import ratios
    from core.stats import share

    return _found(share(ratios(*sample.near[0].T) < 1 / 3))


@metrics.add(
    "disguised",
    "Nearer to training, in disguise",
    group="copying",
    direction="lower",
    means="As nearer to training than to unseen images, whatever was done to the picture: mirrored, turned, "
    "shifted, lighter "
    "or darker, with noise or in grey; half is chance.",
    doubt="It looks at coarse patterns without colour, of the first samples only; a crop, a zoom or a fold "
    "hides a copy.",
    needs=(),
    scale="share",
    floor="unseen",
)
def _disguised(study: Study, sample: Sample) -> Found:
    """Asks of samples whether a training image or an unseen one is nearer, whichever way the picture is turned."""
    return _found(sample.disguised.share, **_lines(study))


@metrics.add(
    "disguised_ratio",
    "Nearly identical, in disguise",
    group="copying",
    direction="lower",
    means="The share of samples whose pattern is three times nearer to that of one training image than to "
    "any other, in one "
    "of the ways to move or to light a picture.",
    doubt="Blind to copies of pictures that the training set holds twice, the second time mirrored for example.",
    needs=(),
    scale="share",
    floor="unseen",
)
def _disguised_ratio(study: Study, sample: Sample) -> Found:
    """Finds samples that single out one training image after it was mirrored, turned, shifted, lit or turned grey."""
    from core.evaluation import disguises
    from core.evaluation.copying import ratios
    from core.stats import share

    found = sample.disguised
    same = ratios(*found.distance.T) < 1 / 3
    size = sample.x.shape[-1]
    tried, scale = disguises.ways(size), size / disguises.looked_at(size)
    turns = [
        tried[way].turn for way, is_same in zip(found.way.tolist(), same, strict=True) if is_same
    ]
    most = max(set(turns), key=turns.count) if turns else ""
    shift = round(disguises.reach(size) * scale)
    return _found(share(same), way=most, shift=shift)


@metrics.add(
    "authenticity",
    "Farther than neighbours (authenticity)",
    group="copying",
    direction="higher",
    means="The share of samples that keep more distance from their nearest training image than that one has "
    "from its own.",
    doubt="Smooth or blurred samples score low without copying: compare it with real unseen images, its floor.",
    needs=(),
    scale="share",
    floor="unseen",
)
def _authenticity(study: Study, sample: Sample) -> Found:
    """Compares the distance to the nearest training image with the distances within the training set."""
    from core.evaluation.copying import authenticity

    distance, index = sample.near
    return _found(authenticity(distance[:, 0], index[:, 0], study.train_gaps))


@metrics.add(
    "ct",
    "Too near in places (C_T)",
    group="copying",
    direction="",
    means="Whether samples lie nearer to the training images than unseen images do, place by place: far "
    "below 0 is copying, "
    "far above is blur or noise.",
    doubt="A score in standard errors: it grows with the number of samples, and bad samples hide copies.",
    needs=("features",),
    fewest=100,
    floor="unseen",
)
def _ct(study: Study, sample: Sample) -> Found:
    """Tests in each region of the data whether samples lie nearer to training images than unseen images do."""
    from core.evaluation.copying import data_copying
    from core.stats import Z

    held = study.held_out
    try:
        near = [x.near[0][:, 0].cpu().numpy() for x in (sample, held)]
        found = data_copying(near[0], near[1], study.cell(sample), study.cell(held))
    except ValueError:
        raise UserError(
            "No region of the data has 10 samples and 10 unseen images. Draw more samples, or use a larger dataset."
        ) from None
    half = Z * found.error
    return Found(
        found.value,
        found.value - half,
        found.value + half,
        found.n,
        details={"worst": found.worst, "used": found.used},
    )


@metrics.add(
    "membership",
    "Does it know its training images",
    group="copying",
    direction="lower",
    means="How well the model's own score tells training images from unseen ones; one half is a guess.",
    doubt="A weak attack: a model that withstands it may still give training images away to a stronger one.",
    needs=(),
    scale="share",
)
def _membership(study: Study, sample: Sample) -> Found:
    """Tries to tell training images from unseen ones by what the model makes of them (membership inference)."""
    from core.evaluation.copying import membership

    estimate, found = membership(study.scores("train"), study.scores("held_out"))
    return _found(estimate, found_at_1_percent=found, by=study.score_name)


def _enough(n: int, needed: int, what: str) -> None:
    if n < needed:
        raise UserError(
            f"{what} needs at least {needed} samples and as many real images, got {n}. "
            "Draw more samples, use a larger dataset, or read the kernel distance instead."
        )


def chosen(text: str) -> list[str]:
    """Reads the metrics that were asked for: ``standard``, ``all``, or names with commas.

    Raises:
        UserError: If a name does not exist, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names in (["standard"], ["all"]):
        return [entry.name for entry in metrics if names == ["all"] or entry.standard]
    if not names:
        raise UserError(
            "evaluate.metrics must name at least one metric, got none. Write standard, all, or "
            f"names with commas: {', '.join(metrics.names())}."
        )
    return [metrics.get(name).name for name in dict.fromkeys(names)]

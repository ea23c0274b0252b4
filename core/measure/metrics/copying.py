"""Whether samples are copies of training images: the measures, and after each how it is read as a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.catalog import UserError
from core.ground.stats import Estimate, Z, share
from core.ground.writing import percent, percents
from core.measure.metrics import Measurement, Score, copy_tests, metrics

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet

GUESSED = 0.55  # area under the curve from which the model is said to know its training images
Z_COPYING = -3.0  # of C_T
LOOKED_FOR = "mirrored, turned, shifted, lighter or darker, with noise or in grey"


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
def _nearer(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Asks of each sample whether a training image or an equally likely unseen image is nearer, in pixels."""
    from core.measure.distances import nearer_to_training

    estimate = nearer_to_training(sample.pixels, evaluator.train.pixels, evaluator.held_out.pixels)
    return Score(estimate, details=_lines(evaluator))


def _lines(evaluator: Evaluator) -> dict[str, Any]:
    """Gives the share that copies would reach, where chance is one half, and the limit from which it counts."""
    m = min(len(evaluator.held_out.x), len(evaluator.train.x))
    ceiling = (1 + m / len(evaluator.train.x)) / 2
    # with few held-out images even copies stay near one half, and the limit lies half of the way to them
    return {"ceiling": ceiling, "limit": min(0.6, 0.5 + (ceiling - 0.5) / 2)}


@copy_tests.add("nearer", strong=True)
def _nearer_test(m: Measurement) -> tuple[bool, str]:
    """Surely nearer to training images, and by more than near-duplicates of the two sets explain."""
    return _counts(
        m
    ), f"{percent(m.value, 0)} of the samples are nearer to a training image {_beside(m)}"


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
def _ratio(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Finds samples that single out one training image: those that are the same picture."""
    from core.measure.copying import ratios

    return share(ratios(*sample.near[0].T) < 1 / 3)


@copy_tests.add("ratio", strong=True)
def _ratio_test(m: Measurement) -> tuple[bool, str]:
    """More samples are one training image than unseen real images are, and more than one in a hundred."""
    return _singled_out(m), (
        f"{percent(m.value)} of the samples single out one training image as nearly the same picture; {_unseen(m)} do."
    )


@metrics.add(
    "disguised",
    "Nearer to training, in disguise",
    group="copying",
    direction="lower",
    means="As nearer to training than to unseen images, whatever was done to the picture: mirrored, turned, "
    "shifted, lighter or darker, with noise or in grey; half is chance.",
    doubt="It looks at coarse patterns without colour, of the first samples only; a crop, a zoom or a fold "
    "hides a copy.",
    needs=(),
    scale="share",
    floor="unseen",
    takes=("picture",),
)
def _disguised(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Asks of samples whether a training image or an unseen one is nearer, whichever way the picture is turned."""
    return Score(sample.disguised.share, details=_lines(evaluator))


@copy_tests.add("disguised", strong=True, disguise_of="nearer", looks_for=LOOKED_FOR)
def _disguised_test(m: Measurement) -> tuple[bool, str]:
    """As for samples that are nearer as they are."""
    return _counts(m), (
        f"Whatever was done to them ({LOOKED_FOR}), {percent(m.value, 0)} of {m.n:,} samples are nearer to a training "
        f"image {_beside(m)}"
    )


@metrics.add(
    "disguised_ratio",
    "Nearly identical, in disguise",
    group="copying",
    direction="lower",
    means="The share of samples whose pattern is three times nearer to that of one training image than to "
    "any other, in one of the ways to move or to light a picture.",
    doubt="Blind to copies of pictures that the training set holds twice, the second time mirrored for example.",
    needs=(),
    scale="share",
    floor="unseen",
    takes=("picture",),
)
def _disguised_ratio(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Finds samples that single out one training image after it was mirrored, turned, shifted, lit or turned grey."""
    from core.measure import disguises
    from core.measure.copying import ratios

    nearest = sample.disguised
    same = ratios(*nearest.distance.T) < 1 / 3
    size = sample.x.shape[-1]
    tried, scale = disguises.ways(size), size / disguises.looked_at(size)
    turns = [
        tried[way].turn for way, is_same in zip(nearest.way.tolist(), same, strict=True) if is_same
    ]
    most = max(set(turns), key=turns.count) if turns else ""
    shift = round(disguises.reach(size) * scale)
    return Score(share(same), details={"way": most, "shift": shift})


@copy_tests.add("disguised_ratio", strong=True, disguise_of="ratio", looks_for=LOOKED_FOR)
def _disguised_ratio_test(m: Measurement) -> tuple[bool, str]:
    """As for samples that are nearly the same picture as they are."""
    way, shift = m.details.get("way", ""), m.details.get("shift", 0)
    return _singled_out(m), (
        f"{percent(m.value)} of {m.n:,} samples single out one training image as nearly the same picture in disguise"
        + (f", most often {way}" if way else "")
        + f" (shifts up to {shift} px); {_unseen(m)} do."
    )


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
def _authenticity(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Compares the distance to the nearest training image with the distances within the training set."""
    from core.measure.copying import authenticity

    distance, index = sample.near
    return authenticity(distance[:, 0], index[:, 0], evaluator.train_gaps)


@copy_tests.add("authenticity")
def _authenticity_test(m: Measurement) -> tuple[bool | None, str]:
    """Surely a tenth of the samples less keep their distance than of unseen real images."""
    usual = m.details.get("floor_low")
    high = m.value if m.high is None else m.high
    return None if usual is None or high is None else high < usual - 0.1, (
        f"{percent(m.value, 0)} of the samples keep their distance from the training images, {_unseen(m)}."
    )


@metrics.add(
    "ct",
    "Too near in places (C_T)",
    group="copying",
    direction="",
    means="Whether samples lie nearer to the training images than unseen images do, place by place: far "
    "below 0 is copying, far above is blur or noise.",
    doubt="A score in standard errors: it grows with the number of samples, and bad samples hide copies.",
    needs=("features",),
    fewest=100,
    floor="unseen",
)
def _ct(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Tests in each region of the data whether samples lie nearer to training images than unseen images do."""
    from core.measure.copying import data_copying

    held = evaluator.held_out
    try:
        near = [x.near[0][:, 0].cpu().numpy() for x in (sample, held)]
        cells = data_copying(near[0], near[1], evaluator.cell(sample), evaluator.cell(held))
    except ValueError:
        raise UserError(
            "No region of the data has 10 samples and 10 unseen images. Draw more samples, or use a larger dataset."
        ) from None
    estimate = Estimate.around(cells.value, Z * cells.error, cells.n)
    return Score(estimate, details={"worst": cells.worst, "used": cells.used})


@copy_tests.add("ct")
def _ct_test(m: Measurement) -> tuple[bool, str]:
    """Three standard errors too near."""
    assert m.value is not None
    side = "nearer to" if m.value < 0 else "farther from"
    return m.value < Z_COPYING, (
        f"Place by place, the samples are {side} training images than unseen ones are: "
        f"{m.value:.1f} standard errors; below {Z_COPYING:.0f} counts."
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
def _membership(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Tries to tell training images from unseen ones by what the model makes of them (membership inference)."""
    from core.measure.copying import membership

    estimate, caught = membership(evaluator.scores("train"), evaluator.scores("held_out"))
    return Score(estimate, details={"found_at_1_percent": caught, "by": evaluator.score_name})


@copy_tests.add("membership", strong=True)
def _membership_test(m: Measurement) -> tuple[bool, str]:
    """Surely better than a guess, and by more than chance among many models explains."""
    return _low(m) > GUESSED, (
        f"By {m.details.get('by', 'its own score')}, the model tells training images from unseen ones in "
        f"{percent(m.value, 0)} of pairs ({_sure(m)}); 50 % is a guess, above {percent(GUESSED, 0)} counts."
    )


# --- What the tests share ---------------------------------------------------------------------------------------------


def _low(m: Measurement) -> float:
    return (m.value or 0.0) if m.low is None else m.low


def _sure(m: Measurement) -> str:
    return percents(*m.interval, 0) if m.interval else "no interval"


def _counts(m: Measurement) -> bool:
    return _low(m) > m.details["limit"]


def _beside(m: Measurement) -> str:
    limit, ceiling = m.details["limit"], m.details["ceiling"]
    return (
        f"than to an unseen one ({_sure(m)}); chance is 50 %, copies reach {percent(ceiling, 0)}, and from "
        f"{percent(limit, 0)} on it counts."
    )


def _singled_out(m: Measurement) -> bool:
    return _low(m) > max(0.01, m.details.get("floor_high") or 0.0)


def _unseen(m: Measurement) -> str:
    return f"of unseen real images {'unknown' if m.floor is None else percent(m.floor, 0)}"

"""The arm of the adversarial images of this version."""

from __future__ import annotations

from core.building.experiment.arms import Lesson, Setup, arms

ORIGINS = ("adversarial",)


@arms.add(
    "attacked",
    "The adversarial images of this version",
    order=18,
    leads=6,
    help="Trains with the adversarial images that this version has, beside the real ones that they were made from.",
    label="Its adversarial images",
    origins=ORIGINS,
    whole=True,
)
def attacked(trial: Setup, pair: int, size: int) -> Lesson:
    """Trains with the real images, and with the attacked ones that were made from them."""
    return Lesson(trial.with_items(pair, size, ORIGINS))

"""Estimates what a study will cost on this machine, before it begins."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from core.datasets import Dataset
from core.norms import SUITED
from core.robustness.attacks import Trial
from core.robustness.config import StudyConfig, images_of
from core.robustness.schedule import CLIMBS, PROBE, STILL, Schedule
from core.target import Target

PILOT = 64  # images of the longer of the two laps
SLOW = 0.1  # seconds of a step with eight images, above which only they are timed
EARLY = 0.3  # share of an attack's first start after which an image that falls has fallen


@dataclass(frozen=True)
class Cost:
    """What a study will cost on this machine.

    Attributes:
        seconds: Of the study, roughly.
        n: Images that it will attack: as many as the config says, or all that there are.
        fits: The largest number of images whose study fits into a minute.
    """

    seconds: float
    n: int
    fits: int


def estimate(target: Target, dataset: Dataset, config: StudyConfig) -> Cost:
    """Attacks a few of the images for a few steps, and tells how long a study will take and what fits into a minute.

    Raises:
        UserError: As the study itself.
    """
    classifier = target.with_(eot=config.eot, bpda=config.bpda)
    most = len(dataset.splits[config.split])
    n = min(config.n, most)
    x, y, *_ = images_of(dataset, config.model_copy(update={"n": min(PILOT, n)}))
    plan = Schedule.of(config, target)
    budget = plan.budget
    eps = budget.chosen(max(plan.given, default=SUITED))

    def lap(count: int) -> tuple[float, float]:
        """Seconds of a step with so many images, and the share of them that stands."""
        steps = {"steps": 8, "loss": "margin"}
        best, stands = math.inf, 1.0
        for _ in range(2):  # the quicker one counts: other work on the machine can only slow a lap
            began = time.perf_counter()
            trial = Trial(
                "pgd", classifier, x[:count], y[:count], eps, budget.norm, steps, active=False
            )
            for _ in trial:
                pass
            best = min(best, (time.perf_counter() - began) / 9)
            stands = 1 - float(trial.outcome.fooled.float().mean())
            if best > SLOW:
                break
        return best, stands

    few = min(8, len(x))
    short, stands = lap(few)
    if short > SLOW or len(x) == few:
        fixed, one = 0.0, short / few
    else:
        long, stands = lap(len(x))
        one = max(long - short, 1e-3 * long) / (len(x) - few)
        fixed = max(0.0, short - few * one)

    def seconds(images: int) -> float:
        steps = [*_steps(plan, images, stands), *_probes(min(PROBE, images), stands)]
        return sum(count * (fixed + one * width) for count, width in steps)

    low, high = 1, most
    while low < high:  # the cost rises with the images, but not in proportion
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= 60 else (low, middle - 1)
    return Cost(seconds(n), n, low)


def _steps(plan: Schedule, n: int, stands: float) -> list[tuple[float, float]]:
    """Lists the attacks as steps (one forward and one backward pass each) and the images that take part on average."""
    laps: list[tuple[float, float]] = []
    for turn in plan.turns:
        steps, levels = turn.passes / 2, len(turn.at)
        share = (1 + stands) / 2 if levels > 1 else stands  # weaker ones leave more
        left = 1.0 if turn.name == "noise" else share + (1 - share) * EARLY / turn.starts
        if turn.smallest or turn.free:
            laps.append((1.3 * steps, n))  # every step is judged and measured
        elif turn.left:
            laps.append((levels * steps, n * stands))
        else:
            laps.append((levels * steps, n * left))
        if (
            turn.sweeps
        ):  # about six other strengths, for groups around every image; half of them fall
            again = min(3, turn.starts)
            width = n * 2.3 * (1 + EARLY / again) / 2
            laps.append((6 * steps * again / turn.starts, width / 6))
    return laps


def _probes(n: int, stands: float) -> list[tuple[float, float]]:
    climbs = STILL + sum(values.get("steps", 1) for _, _, values, _ in CLIMBS)
    # climbs; passes of unchanged images; attacks without the gradient
    return [(climbs, n * (stands + (1 - stands) * EARLY)), (25, n), (400, n * stands)]

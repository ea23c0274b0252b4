"""Estimates what a study will cost on this machine, before it begins, and a job that measures more."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.datasets import Dataset
from core.norms import SUITED
from core.robustness import certify, corruptions
from core.robustness.attacks import Trial
from core.robustness.config import StudyConfig, images_of
from core.robustness.extras import AttackConfig
from core.robustness.probes import QUERIES
from core.robustness.schedule import CLIMBS, PROBE, STILL, Schedule
from core.target import Target

PILOT = 64  # images of the longer of the two laps
SLOW = 0.1  # seconds of a step with eight images, above which only they are timed
EARLY = 0.3  # share of an attack's first start after which an image that falls has fallen


@dataclass(frozen=True)
class Lap:
    """How fast a classifier is attacked on this machine.

    Attributes:
        fixed, one: Seconds of a step, one forward and one backward pass, without images and for each.
        stands: Share of the images that stand after a few steps.
    """

    fixed: float
    one: float
    stands: float

    def seconds(self, steps: Iterable[tuple[float, float]]) -> float:
        """Adds up steps, each given as how many there are and with how many images."""
        return sum(count * (self.fixed + self.one * width) for count, width in steps)


@dataclass(frozen=True)
class Cost:
    """What a study will cost on this machine.

    Attributes:
        seconds: Of the study, roughly.
        n: Images that it will attack: as many as the config says, or all that there are.
        fits: The largest number of images whose study fits into a minute.
        lap: What was measured for it.
    """

    seconds: float
    n: int
    fits: int
    lap: Lap


def estimate(target: Target, dataset: Dataset, config: StudyConfig, lap: Lap | None = None) -> Cost:
    """Attacks a few of the images for a few steps, and tells how long a study will take and what fits into a minute.

    Args:
        target, dataset, config: Of the study.
        lap: What was measured for a study of the same norm and strengths, so that it need not be measured again.

    Raises:
        UserError: As the study itself.
    """
    most = len(dataset.splits[config.split])
    n = min(config.n, most)
    plan = Schedule.of(config, target)
    pace = lap or _lap(target, dataset, config, plan)

    def seconds(images: int) -> float:
        steps = _steps(plan, images, pace.stands)
        probes = _probes(min(PROBE, images), pace.stands, target.answers_only)
        return pace.seconds([*steps, *probes])

    low, high = 1, most
    while low < high:  # the cost rises with the images, but not in proportion
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= 60 else (low, middle - 1)
    return Cost(seconds(n), n, low, pace)


def estimate_job(
    target: Target,
    dataset: Dataset,
    config: AttackConfig,
    others: Sequence[Target] = (),
    lap: Lap | None = None,
) -> float:
    """Tells how many seconds a job will take, roughly: its study, and whatever goes beyond it.

    Args:
        target, dataset, config: Of the job.
        others: The classifiers that are shown its images.
        lap: As for :func:`estimate`.

    Raises:
        UserError: As the study itself.
    """
    study = config.study()
    cost = estimate(target, dataset, study, lap)
    x, *_ = images_of(dataset, study.model_copy(update={"n": min(PILOT, cost.n)}))
    x, seconds = x.to(target.device), cost.seconds
    if config.corruptions:
        passes = _per_image(x, target.predict)
        drawn = sum(
            _per_image(x, lambda few, name=name: corruptions.corrupt(few, name, 3))
            for name in corruptions.names()
        )
        kinds = len(corruptions.names())
        seconds += cost.n * len(corruptions.SEVERITIES) * (drawn + kinds * passes)
    if config.certify:
        plan, draws = certify.CertifyConfig(sigma=config.certify), min(target.batch, 100)
        took = _per_image(
            x[:1], lambda one: certify.counts(target, one, config.certify, draws, 0, 0)
        )
        images = min(config.certified, cost.n)
        seconds += images * took * (plan.first + plan.draws) / draws
    if others:
        for each in (target, *others):
            name = "square" if each.answers_only else "quick"
            quick = study.model_copy(update={"attacks": name, "options": ""})
            plan_of = Schedule.of(quick, each)
            pace = cost.lap if each is target else _lap(each, dataset, quick, plan_of)
            steps = [turn.passes / 2 for turn in plan_of.turns]
            seconds += pace.seconds((count, cost.n * pace.stands) for count in steps)
    return seconds


def _per_image(x: Any, act: Any) -> float:
    """Gives the seconds that something takes for one of so many items; of a few where it is slow."""
    took = math.inf
    for count in dict.fromkeys((min(8, len(x)), len(x))):
        act(x[:count])  # the first time is longer
        began = time.perf_counter()
        act(x[:count])
        took = (time.perf_counter() - began) / count
        if took * count > SLOW:
            break
    return took


def _lap(target: Target, dataset: Dataset, config: StudyConfig, plan: Schedule) -> Lap:
    """Attacks a few of the images for a few steps."""
    classifier = target.with_(eot=config.eot, bpda=config.bpda)
    x, y, *_ = images_of(dataset, config.model_copy(update={"n": min(PILOT, config.n)}))
    budget = plan.budget
    eps = budget.chosen(max(plan.given, default=SUITED))

    def lap(count: int, steps: int) -> tuple[float, float]:
        """Seconds of a step with so many images, and the share of them that stands."""
        name, asked = "pgd", {"steps": steps, "loss": "margin"}
        if classifier.answers_only:  # two passes forward stand for one forward and one backward
            name, asked = "square", {"queries": 2 * (steps + 1)}
        began = time.perf_counter()
        trial = Trial(name, classifier, x[:count], y[:count], eps, budget.norm, asked, active=False)
        for _ in trial:
            pass
        took = (time.perf_counter() - began) / (steps + 1)
        return took, 1 - float(trial.outcome.fooled.float().mean())

    def timed(count: int) -> tuple[float, float]:
        """Gives the quicker one of two laps: other work on the machine can only slow one."""
        first, stands = lap(count, 8)
        return (first, stands) if first > SLOW else (min(first, lap(count, 8)[0]), stands)

    few = min(8, len(x))
    lap(few, 1)  # the very first one may wait for an import, and says nothing
    short, stands = timed(few)
    if short > SLOW or len(x) == few:
        return Lap(0.0, short / few, stands)
    long, stands = timed(len(x))
    one = max(long - short, 1e-3 * long) / (len(x) - few)
    return Lap(max(0.0, short - few * one), one, stands)


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


def _probes(n: int, stands: float, answers_only: bool) -> list[tuple[float, float]]:
    if answers_only:  # passes of unchanged images; two searches of a thousand queries
        return [(25, n), (QUERIES[1], n * stands)]
    climbs = STILL + sum(values.get("steps", 1) for _, _, values, _ in CLIMBS)
    # climbs; passes of unchanged images; attacks without the gradient
    return [(climbs, n * (stands + (1 - stands) * EARLY)), (25, n), (400, n * stands)]

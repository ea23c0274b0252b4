"""What an experiment has found so far: effects, intervals, a verdict when everything is done."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.building.experiment import hardness
from core.building.experiment.arms import Arm, arms
from core.building.experiment.config import QUICK
from core.building.experiment.referees import referees
from core.building.experiment.samples import samples_used
from core.building.experiment.trial import Experiment
from core.building.experiment.worth import Worth, worth
from core.ground.stats import bca, holm, sign_flip

FEWEST = 6  # pairs from which a sign-flip test can be significant


@dataclass(frozen=True)
class Cell:
    """One arm at one size.

    Attributes:
        arm: A name of :data:`core.building.experiment.arms.arms`.
        size: Real images per class.
        accuracies, plain: Of the arm and of real images only, by pair, in percent.
        idle: Why the arm was the same training as real images only; empty where it was not.
        used: What else is to be said of what it trained with.
        robust, plain_robust: What an attack leaves of these, by pair, in percent; empty where it was not measured.
        worth: How many real images would have given as much, if that was asked.
    """

    arm: str
    size: int
    accuracies: tuple[float, ...]
    plain: tuple[float, ...]
    idle: str = ""
    used: str = ""
    robust: tuple[float, ...] = ()
    plain_robust: tuple[float, ...] = ()
    worth: Worth | None = None

    def record(self, verdicts: bool) -> dict[str, Any]:
        """Gives effect, interval, test and verdict; without verdicts only the values."""
        n, title = len(self.accuracies), arms.get(self.arm).title
        change = [a - b for a, b in zip(self.accuracies, self.plain, strict=True)]
        record: dict[str, Any] = {
            "arm": self.arm,
            "size": self.size,
            "accuracies": [round(value, 4) for value in self.accuracies],
            "mean": float(np.mean(self.accuracies)),
            "plain_mean": float(np.mean(self.plain)),
            "effect": float(np.mean(change)),
            "low": None,
            "high": None,
            "p": None,
            "n": n,
            "verdict": "",
            "sentence": "",
            "idle": self.idle,
            "used": self.used,
            "robust": self._robust(verdicts),
            "worth": None if self.worth is None else self.worth.record(),
        }
        if self.idle:  # its difference of 0 was not measured
            said = f"{title}: not tested with {self.size} real images per class, {self.idle}"
            return record | {"verdict": "not tested", "sentence": said, "effect": None}
        if not verdicts or self.arm == "none" or n < FEWEST:
            return record
        low, high = bca(change)
        p = sign_flip(change)
        verdict = "cannot tell"
        if p <= 0.05 and (low > 0 or high < 0):
            verdict = "helps" if low > 0 else "hurts"
        what = f"{title} {verdict}"
        if verdict == "cannot tell":
            what = f"It cannot be told whether {_lower(title)} helps"
        written = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        sentence = (
            f"{what}: {record['effect']:+.1f} points [{low:+.1f}, {high:+.1f}] with {self.size} real images per class "
            f"({n} pairs, {written})." + (f" {self.used}" if self.used else "")
        )
        if self.worth is not None and verdict == "helps":
            sentence += f" {self.worth.sentence}"
        return record | {"low": low, "high": high, "p": p, "verdict": verdict, "sentence": sentence}

    def _robust(self, verdicts: bool) -> dict[str, Any] | None:
        """Gives what an attack leaves, and the effect on that."""
        if not self.robust:
            return None
        change = [a - b for a, b in zip(self.robust, self.plain_robust, strict=True)]
        sure = verdicts and self.arm != "none" and len(change) >= FEWEST
        low, high = bca(change) if sure else (None, None)
        return {
            "mean": float(np.mean(self.robust)),
            "plain_mean": float(np.mean(self.plain_robust)),
            "effect": float(np.mean(change)),
            "low": low,
            "high": high,
            "n": len(change),
        }


def _lower(title: str) -> str:
    return title if title.startswith("Trivial") else title[0].lower() + title[1:]


def _cell(
    trial: Experiment,
    arm: Arm,
    size: int,
    pairs: Sequence[int],
    done: Mapping[Any, float],
    synthetic: Any,
) -> Cell:
    """Gathers what is known of an arm at a size."""
    rows = [
        r for r in synthetic if (r["arm"], r["size"]) == (arm.name, size) and r["pair"] in pairs
    ]
    plain = trial.config.arms[0].name
    without, used = samples_used(rows)
    still = ""
    if arm.pipeline is not None and arm.pipeline(trial.config) in trial.still:
        still = "the chain leaves all images as they are. Raise the magnitude of a step."
    idle = ""  # why nothing of the arm, neither chain nor samples, changes the training
    if not arm.samples or arm.pipeline is None:
        idle = without or still
    elif without and still:
        idle = f"{without} And {still}"
    elif without:
        used = f"Without synthetic images: {without}"
    elif still:
        used = f"{used} But {still}"
    reached = tuple(done[pair, size, arm.name] for pair in pairs)
    hard = [
        pair
        for pair in pairs
        if {(pair, size, arm.name), (pair, size, plain)} <= trial.robust.keys()
    ]
    curve = {
        n: [done[pair, n, plain] for pair in pairs if (pair, n, plain) in done]
        for n in trial.config.sizes
    }
    whole = all(len(values) == len(pairs) for values in curve.values())
    return Cell(
        arm.name,
        size,
        reached,
        tuple(done[pair, size, plain] for pair in pairs),
        idle,
        used,
        tuple(trial.robust[pair, size, arm.name] for pair in hard),
        tuple(trial.robust[pair, size, plain] for pair in hard),
        worth(curve, reached) if whole and arm.name != plain else None,
    )


def summary(
    trial: Experiment, done: dict[tuple[int, int, str], float], synthetic: list[dict[str, Any]]
) -> dict[str, Any]:
    """Gives what is known so far, in plain values; a verdict only when everything is done."""
    config = trial.config
    whole = len(done) == len(trial.places)
    cells = []
    plain, *others = config.arms
    for arm, size in itertools.product(config.arms, config.sizes):
        pairs = [
            pair
            for pair in range(config.count)
            if (pair, size, arm.name) in done and (pair, size, plain.name) in done
        ]
        if pairs:
            cell = _cell(trial, arm, size, pairs, done, synthetic)
            cells.append(cell.record(whole and not config.quick))
    tested = [cell for cell in cells if cell["p"] is not None]
    for cell, p in zip(tested, holm([cell["p"] for cell in tested]), strict=True):
        cell["p_holm"] = p
    leading = max(others, key=lambda arm: arm.leads).name
    verdict = " ".join(
        cell["sentence"] for cell in cells if whole and cell["arm"] == leading and cell["sentence"]
    )
    n = len(trial.test)
    error = 196 * math.sqrt(0.25 / n)
    notes = [
        f"{n:,} real test images, the same for all; an accuracy near 50 % of so few is known to "
        f"±{error:.1f} points, the paired differences more closely.",
        f"Every classifier is trained for {config.steps:,} steps of {config.batch} images.",
    ]
    if trial.removed:
        notes.append(
            f"{trial.removed:,} test images were left out: they repeat another one or a training image."
        )
    entry = referees.get(config.referee)
    if entry.name != "small":
        what = config.trainer if entry.name == "trainer" else config.backbone
        notes.append(f"The referee: {entry.title} ({what}).")
    if trial.robust:
        notes.append(hardness.described(trial.eps, min(n, hardness.MOST)))
    elif config.robust and entry.name == "trainer":
        notes.append("Robust accuracy was not measured: a training by code gives no gradient.")
    if whole and len(config.sizes) > 1 and not any(cell["worth"] for cell in cells):
        notes.append(
            "How many real images a gain is worth cannot be told: their own accuracy does not grow with their number."
        )
    if config.quick:
        notes.append(f"A quick look of {QUICK} pairs: too few for a verdict.")
    notes += [cell["sentence"] for cell in cells if cell["idle"] and cell["arm"] != leading]
    if len(tested) > 1:
        notes.append("p is of one comparison; p_holm allows for how many there are.")
    return {
        "dataset": trial.dataset.name,
        "fingerprint": trial.dataset.fingerprint,
        "config": config.record(),
        "arms": {arm.name: arm.title for arm in config.arms},
        "sizes": config.sizes,
        "pairs": config.count,
        "referee": {"name": entry.name, "title": entry.title, "short": entry.short},
        "quick": config.quick,
        "n_test": n,
        "removed_test": trial.removed,
        "done": whole,
        "fits": len(done),
        "total": len(trial.places),
        "cells": cells,
        "verdict": verdict,
        "synthetic": synthetic,
        "notes": notes,
    }

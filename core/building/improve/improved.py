"""What an improvement has done so far, and what is said of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from core.building.experiment import Cell, Experiment, hardness
from core.building.experiment.arms import arms
from core.building.improve.config import Deadline, ImproveConfig
from core.building.improve.effect import FEWEST, Effect
from core.building.improve.mending import Change
from core.building.plan import Plan
from core.datasets import Dataset
from core.ground.stats import Estimate, mean_of_few
from core.ground.writing import many, percent, percents

TITLES = {
    "pace": "Baseline",
    "mend": "Mend what is safe",
    "augment": "Augmented copies",
    "generate": "Synthetic images",
    "save": "The new version",
    "prove": "Proof on the test images",
}


@dataclass
class Improved(ABC):
    """What an improvement has done so far.

    Attributes:
        before: The dataset, as it came.
        config: What was asked.
        deadline: Its clock.
        base: What the additions start from: the dataset, or its mended version.
        version: The new version; None before there is one.
        steps: What each step did or why it was left out, in plain values.
        changes: What was left out as wrong beyond doubt.
        plans: By title; each adds a source to the one before.
        fit_steps: Optimiser steps of the referee.
        baseline: The share of the validation images that a short training names rightly, and its steps.
        added: As :func:`added` counts in the new version.
        test: The bench of the proof.
        plain: What a referee reaches on the validation images without anything added: how many images these are, and
            the accuracy of each pair in percent; None where nothing was compared.
        accuracies, robust: Of the proof, by what a referee has learned from, of each pair in percent.
    """

    before: Dataset
    config: ImproveConfig
    deadline: Deadline
    base: Dataset = field(init=False)
    version: Dataset | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    plans: list[tuple[str, Plan]] = field(default_factory=list)
    fit_steps: int = 0
    baseline: tuple[Estimate, int] | None = None
    added: dict[str, dict[str, int]] = field(default_factory=dict)
    test: Experiment | None = None
    plain: tuple[int, list[float]] | None = None
    accuracies: dict[str, list[float]] = field(default_factory=dict)
    robust: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = self.before

    def record(self, ended: bool = False) -> dict[str, Any]:
        """Gives everything that is known so far, in plain values; ``ended`` names the steps that are not reached."""
        names = list(self.accuracies)
        effects = [
            {"step": after, "title": TITLES[after]}
            | Effect.of(self.accuracies[before], self.accuracies[after]).record()
            for before, after in pairwise(names)
        ]
        whole, hard = None, self._hard()
        if len(names) > 1:
            whole = Effect.of(self.accuracies[names[0]], self.accuracies[names[-1]])
        verdict, sentence = self._verdict(whole)
        plan = self.plans[-1][1] if self.plans else None
        return {
            "dataset": self.before.name,
            "fingerprint": self.before.fingerprint,
            "config": self.config.record(),
            "version": None if self.version is None else self.version.name,
            "images": None if self.version is None else len(self.version),
            "verdict": verdict,
            "sentence": sentence,
            "effect": None if whole is None else whole.record(),
            "baseline": self._baseline(),
            "before": self._mean(self.accuracies[names[0]]) if names else None,
            "after": self._mean(self.accuracies[names[-1]]) if len(names) > 1 else None,
            "robust": None if hard is None else hard.record(),
            "n_test": None if self.test is None else len(self.test.test),
            "steps": self.steps,
            "contributions": effects,
            "changes": self.changes,
            "added": self.added,
            "plans": [[title, each.record()] for title, each in self.plans],
            "plan": None if plan is None else plan.record(),
            "plan_hash": None if plan is None else plan.hash,
            "not_done": self._not_done(ended),
            "proof": self._proof(whole),
            "seconds": round(self.deadline.spent, 1),
            "limit": self.deadline.seconds,
        }

    def _hard(self) -> Effect | None:
        """Compares what an attack leaves before and after; None where that was not measured."""
        names = list(self.robust)
        return Effect.of(self.robust[names[0]], self.robust[names[-1]]) if len(names) > 1 else None

    def _baseline(self) -> dict[str, Any] | None:
        """Gives what was reached on the validation images without anything added."""
        return None if self.plain is None else self._mean(self.plain[1]) | {"images": self.plain[0]}

    def _reached(self) -> str:
        base = self._baseline()
        if base is None:
            return ""
        n = f"{base['images']:,} validation images, {many(base['n'], 'pair')}"
        if base["low"] is None:
            return f": {percent(base['mean'] / 100)} right on {n}, too few for an interval"
        return f": {percent(base['mean'] / 100)} right ({percents(base['low'] / 100, base['high'] / 100)}) on {n}"

    def _mean(self, accuracies: list[float]) -> dict[str, Any]:
        found = mean_of_few(accuracies)
        low = high = None
        if found.n >= FEWEST:
            low, high = max(0.0, found.low), min(100.0, found.high)
        return {"mean": found.value, "low": low, "high": high, "n": found.n}

    def _verdict(self, whole: Effect | None) -> tuple[str, str]:
        """Says in a word and in a sentence whether it helps; both empty before it is known."""
        done = {step["name"]: step for step in self.steps}
        if whole is None or "prove" not in done or self.test is None:
            if "save" in done and self.version is None:
                if self.plain is None and any(step.get("late") for step in self.steps):
                    return "no time", self._late()
                return (
                    "nothing",
                    f"Nothing was found that helps, so the dataset stays as it is{self._reached()}.",
                )
            return "", ""
        n = f"{len(self.test.test):,} test images"
        change = f"{percent(whole.before / 100)} before, {percent(whole.after / 100)} after on {n}: {whole.sentence}"
        start = {
            "helps": "It helps:",
            "hurts": "It hurts:",
            "cannot tell": "It does not help, as far as can be told:",
            "too few": "There was too little time for a verdict:",
        }[whole.verdict]
        hard, more = self._hard(), ""
        if hard is not None and hard.verdict in ("helps", "hurts"):
            more = f" Under attack it {hard.verdict}: {hard.sentence}"
        return whole.verdict, f"{start} {change}{more}"

    def _late(self) -> str:
        """Says that nothing was tried, what is known all the same, and how many minutes would do."""
        said = "There was too little time to try anything, so the dataset stays as it is."
        if self.baseline is not None:
            right, steps = self.baseline
            said += (
                f" Baseline, after {steps} steps of training: {percent(right.value)} "
                f"({percents(right.low, right.high)}) of {right.n:,} validation images are named rightly."
            )
        return f"{said} About {many(self.enough, 'minute')} would do."

    @property
    @abstractmethod
    def enough(self) -> int:
        """Minutes in which something can be tried, and a verdict be reached."""

    def _not_done(self, ended: bool) -> list[str]:
        """Says what was not done, and why."""
        said = [
            f"{step['title']}: {step['sentence']}"
            for step in self.steps
            if step["status"] != "done"
        ]
        reached = {step["name"] for step in self.steps}
        missing = [] if not ended or self.config.again else [n for n in TITLES if n not in reached]
        said += [f"{TITLES[name]}: it was stopped before." for name in missing]
        if any(step["name"] == "mend" and step["status"] == "done" for step in self.steps):
            said.append(
                "Labels, near copies and outliers: a person decides about these, on the page Data."
            )
        return said

    def _proof(self, whole: Effect | None) -> dict[str, Any] | None:
        """Gives the table of the proof as an experiment about the new version would."""
        if whole is None or self.test is None or self.version is None:
            return None
        names = list(self.accuracies)
        before, after = (tuple(self.accuracies[name]) for name in (names[0], names[-1]))
        size, bench = self.test.largest, self.test
        hard = [tuple(self.robust.get(name, ())) for name in (names[0], names[-1])]
        cells = [
            Cell("none", size, before, before, robust=hard[0], plain_robust=hard[0]),
            Cell("version", size, after, before, robust=hard[1], plain_robust=hard[0]),
        ]
        rows = [cell.record(True) for cell in cells]
        for row in rows:
            row["p_holm"] = row["p"]
        notes = [
            f"Measured by Improve, which chose by {many(len(self.base.splits['valid']), 'validation image')} alone.",
            f"Every classifier is trained for {self.fit_steps:,} steps of {bench.config.batch} images.",
        ]
        if self.robust:
            notes.append(hardness.described(bench.eps, min(len(bench.test), hardness.MOST)))
        return {
            "dataset": self.version.name,
            "fingerprint": self.version.fingerprint,
            "config": bench.config.record(),
            "arms": {name: arms.get(name).title for name in ("none", "version")},
            "sizes": [size],
            "pairs": whole.n,
            "referee": {
                "name": "small",
                "title": "A small net from nothing",
                "short": "the small net",
            },
            "quick": whole.n < 6,
            "n_test": len(bench.test),
            "removed_test": bench.removed,
            "done": any(step["name"] == "prove" for step in self.steps),
            "fits": whole.n * len(names),
            "total": whole.n * len(names),
            "cells": rows,
            "verdict": rows[1]["sentence"],
            "synthetic": [],
            "notes": notes,
        }

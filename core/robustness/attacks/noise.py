"""Random noise within the budget: the placebo that every attack must beat."""

from __future__ import annotations

from core.catalog import Config, knob
from core.norms import NORMS, wide
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Target


class PlaceboConfig(Config):
    """Parameters of the placebo."""

    draws: int = knob(10, "How often each image gets new noise.", ge=1, le=10_000, unit="draws")


@attacks.add(
    "noise",
    "Random noise",
    PlaceboConfig,
    norms=NORMS,
    gradient=False,
    passes=lambda config, classes: config.draws,
)
def noise(config: PlaceboConfig, target: Target, problem: Problem) -> Steps:
    """Changes values at random, without looking at the classifier: what it breaks was hardly robust."""
    for draw in range(config.draws):
        if problem.norm.box:  # the corners of the box: the strongest that chance can do
            moved = problem.x + problem.eps * (problem.uniform(f"placebo {draw}") - 0.5).sign()
        else:
            change = problem.normal(f"placebo {draw}")
            size = problem.norm.length(change).clamp_min(1e-12)
            moved = problem.x + problem.eps * change / wide(size, change)
        keep = yield Proposal(moved.clamp(0, 1))
        problem.keep(keep)

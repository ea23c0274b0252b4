"""AutoAttack, standard version: the reference's own four attacks, driven by our loop.

References:
    Croce and Hein, 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Target
from core.tensors import Images


class AutoAttackConfig(Config):
    """Parameters of AutoAttack; its four attacks have none."""

    at_once: int = knob(
        250,
        "Images attacked together; progress is told after each of these.",
        ge=1,
        le=10_000,
        unit="images",
    )


@attacks.add(
    "autoattack",
    "AutoAttack (standard)",
    AutoAttackConfig,
    takes=("picture",),
    norms=NORMS,
    gradient=True,
    needs="pyautoattack",
    passes=lambda config, classes: 200 + 400 * min(9, classes - 1) + 5000,
)
def autoattack(config: AutoAttackConfig, target: Target, problem: Problem) -> Steps:
    """Runs APGD-CE, APGD-T, FAB-T and Square of the reference, each on what the others have left: the yardstick."""
    rounds = min(9, len(target.classes) - 1)
    if rounds < 9:
        target.notes.append(
            f"AutoAttack: {rounds} target classes instead of 9, as there are no more."
        )
    if len(target.classes) < 4:
        target.notes.append("AutoAttack: APGD-T is left out, its loss needs 4 classes.")
    parts = components(target, problem.eps, problem.norm.title, problem.seed, rounds)
    for perturb in parts.values():
        todo = torch.ones(len(problem.x), dtype=torch.bool, device=problem.x.device)
        while bool(todo.any()):
            rows = todo.nonzero().squeeze(1)[: config.at_once]
            moved = problem.x.clone()
            moved[rows] = perturb(problem.x[rows], problem.y[rows])
            todo[rows] = False
            keep = yield Proposal(moved)
            problem.keep(keep)
            todo = todo[keep]


def components(
    target: Target, eps: float, norm: str, seed: int, rounds: int
) -> dict[str, Callable[[Images, torch.Tensor], Images]]:
    """Makes the four attacks with the parameters of ``run_standard_evaluation``, by name, in their order.

    Each is seeded alike at every call, and leaves the global generator as it was.
    """
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    def logits(x: torch.Tensor) -> torch.Tensor:
        out = target.once(x)
        if x.requires_grad and torch.is_grad_enabled():
            target.backward += len(x)
        return out

    shared: dict[str, Any] = {"norm": norm, "eps": eps, "seed": seed, "device": str(target.device)}
    quiet = _Silent()
    steps: dict[str, Any] = {"n_iter": 100, "n_restarts": 1, "verbose": False, **shared}
    apgd = {"eot_iter": 1, "rho": 0.75, "logger": quiet, **steps}
    parts: dict[str, Any] = {"apgd-ce": APGDAttack(logits, **apgd)}
    parts["apgd-ce"].loss = "ce"
    if len(target.classes) >= 4:
        parts["apgd-t"] = APGDAttack_targeted(logits, **apgd)
        parts["apgd-t"].n_target_classes = rounds
    parts["fab-t"] = FABAttack_PT(logits, **steps)
    parts["fab-t"].targeted = True
    parts["fab-t"].n_target_classes = rounds
    parts["square"] = SquareAttack(
        logits,
        p_init=0.8,
        n_queries=5000,
        n_restarts=1,
        resc_schedule=False,
        verbose=False,
        **shared,
    )

    def guarded(attack: Any) -> Callable[[Images, torch.Tensor], Images]:
        def perturb(x: Images, y: torch.Tensor) -> Images:
            devices = [target.device] if target.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                attack.seed = seed
                return attack.perturb(x.clone(), y.clone()).detach()

        return perturb

    return {name: guarded(attack) for name, attack in parts.items()}


class _Silent:
    """Takes what the reference logs; our own checks say it better."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

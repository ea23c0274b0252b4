"""A small network learns the classifier's own answers, and what fools it is tried on the classifier.

No gradient of the classifier is taken, so none can be masked.

References:
    Papernot et al., 2017, Practical black-box attacks against machine learning, https://arxiv.org/abs/1602.02697
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.ascent import Ascent, gradient
from core.catalog import Config, knob
from core.norms import NORMS
from core.robustness.attacks import Problem, Proposal, Steps, attacks
from core.target import Climb, Target, others
from core.tensors import Batch


class SurrogateConfig(Config):
    """Parameters of the attack by a surrogate."""

    rounds: int = knob(
        3, "Times that it learns, attacks, and asks again.", ge=1, le=100, unit="rounds"
    )
    learning: int = knob(
        100, "Steps of learning in each round.", ge=1, le=10_000, unit="steps", log=True
    )
    steps: int = knob(20, "Steps of the attack in each round.", ge=1, le=1000, unit="steps")
    width: int = knob(
        16, "Channels of the network that learns.", ge=4, le=256, unit="channels", advanced=True
    )


BATCH = 64  # images of a step of learning
NEARBY = 4  # places around each image whose answers are asked first


@attacks.add(
    "surrogate",
    "Surrogate (learned from answers)",
    SurrogateConfig,
    norms=NORMS,
    gradient=False,
    last=True,
    passes=lambda config, classes: NEARBY + 3 + config.rounds * 4,
)
def surrogate(config: SurrogateConfig, target: Target, problem: Problem) -> Steps:
    """Attacks a small network that has learned the classifier's answers near these images, and asks again there."""
    x = [problem.x]
    for draw in range(NEARBY):
        x.append(problem.start(f"near {draw}"))
    clean = target.logits(problem.x)
    answers = [_level(clean), *(_level(target.logits(part)) for part in x[1:])]
    net, optimiser = _student(config, problem, clean.shape[1])
    pick = torch.Generator().manual_seed(problem.seed)
    for turn in range(config.rounds):
        seen, said = torch.cat(x), torch.cat(answers)
        for step in range(config.learning):
            rows = torch.randint(len(seen), (BATCH,), generator=pick).to(seen.device)
            _learn(net, optimiser, seen[rows], said[rows])
            if step % 10 == 9:  # nothing new, but a chance to stop
                keep = yield Proposal(problem.x, clean)
                problem.keep(keep)
                clean = clean[keep]
        ranked = (
            others(clean.nan_to_num(0.0), problem.y).topk(min(2, clean.shape[1] - 1), 1).indices
        )
        for aim in range(-1, ranked.shape[1]):  # any wrong class, then the nearest ones
            wanted = problem.towards if aim < 0 or problem.towards is not None else ranked[:, aim]
            moved = _climbed(config, net, problem, wanted, f"start {turn}")
            logits = target.logits(moved)
            x.append(moved)
            answers.append(_level(logits))
            keep = yield Proposal(moved, logits)
            problem.keep(keep)
            clean, ranked = clean[keep], ranked[keep]


def _level(logits: Tensor) -> Tensor:
    """Brings answers to one scale: mean 0, spread 1; no number becomes 0."""
    sound = logits.nan_to_num(0.0, 0.0, 0.0)
    sound = sound - sound.mean(1, keepdim=True)
    return sound / sound.std(1, keepdim=True).clamp_min(1e-12)


def _student(
    config: SurrogateConfig, problem: Problem, classes: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    width, (channels, *sides) = config.width, problem.x.shape[1:]
    with torch.device("meta"):
        if len(sides) < 2:
            net = nn.Sequential(
                nn.Flatten(), nn.Linear(channels * math.prod(sides), 4 * width), nn.SiLU(),
                nn.Linear(4 * width, 4 * width), nn.SiLU(), nn.Linear(4 * width, classes),
            )  # fmt: skip
        else:
            net = _convolutions(channels, sides[0], width, classes)
    net.to_empty(device="cpu")
    dice = torch.Generator().manual_seed(problem.seed)
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim > 1:
                nn.init.kaiming_uniform_(value, nonlinearity="relu", generator=dice)
            else:
                value.zero_()
    net.to(problem.x.device)
    return net, torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.01)


def _convolutions(channels: int, size: int, width: int, classes: int) -> nn.Module:
    small = max(1, size // 4)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(),
        nn.Conv2d(width, 2 * width, 3, 2 if size > 8 else 1, 1), nn.SiLU(),
        nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(small), nn.Flatten(),
        nn.Linear(2 * width * small**2, 4 * width), nn.SiLU(), nn.Linear(4 * width, classes),
    )  # fmt: skip


def _learn(net: nn.Module, optimiser: torch.optim.Optimizer, x: Batch, y: Tensor) -> None:
    with torch.enable_grad():
        loss = F.mse_loss(net(2 * x - 1), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
    optimiser.step()


def _climbed(
    config: SurrogateConfig, net: nn.Module, problem: Problem, aim: Tensor | None, stream: str
) -> Batch:
    """Climbs the lead of a wrong class in the network that has learned."""
    goal, start = Climb("margin", problem.y, aim), problem.start(stream)
    ascent = Ascent(problem.norm, problem.eps, problem.x, start, config.steps, momentum=0.75)
    for _ in range(config.steps):
        ascent.step(gradient(lambda x: goal(net(2 * x - 1)), ascent.at))
    return ascent.at.detach()

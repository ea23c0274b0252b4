"""The parameters of the training loop, and the schedule that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from core.catalog import Config, UserError, knob, seed_knob
from core.models import Batches, Trainable
from core.tensors import Group, processes


class TrainConfig(Config):
    """Parameters of the training loop."""

    images: int = knob(
        200_000,
        "How long to train: images seen, repeats included.",
        title="Length of training",
        ge=1,
        le=10_000_000_000,
        unit="images",
        log=True,
    )
    seed: int = seed_knob("The same seed and settings give the same model.")
    batch: int = knob(
        0,
        "Images per step; 0 takes what suits the family and its network.",
        title="Batch",
        ge=0,
        le=16_384,
        unit="images",
        log=True,
        advanced=True,
    )
    lr: float = knob(
        0.0,
        "Learning rate; 0 takes what suits the family and its network.",
        ge=0,
        le=1,
        title="Learning rate",
        log=True,
        advanced=True,
    )
    schedule: Literal["cosine", "constant"] = knob(
        "cosine",
        "How the learning rate goes on after the warm-up: down to 2 % along a cosine, or unchanged.",
        advanced=True,
    )
    warmup: int = knob(
        100,
        "Steps in which the learning rate rises to its value.",
        ge=0,
        le=100_000,
        unit="steps",
        log=True,
        advanced=True,
    )
    clip: float = knob(
        10.0,
        "Longest gradient that is followed, 0 for any.",
        ge=0,
        le=1e6,
        title="Gradient clipping",
        log=True,
        advanced=True,
    )
    average: int = knob(
        500,
        "Half-life of the averaged weights that make the samples; it never exceeds a tenth of the steps so far.",
        ge=0,
        le=1_000_000,
        unit="steps",
        title="Weight averaging",
        log=True,
        advanced=True,
    )
    watch: bool = knob(
        True,
        "Measures samples against held-out images while it trains; the best checkpoint is the one that pages open, "
        "or the last one of a family that learns in stages.",
        title="Watch the quality",
        advanced=True,
    )
    patience: float = knob(
        0.0,
        "Ends the training when the held-out quality has not been better for this share of it, or when samples copy "
        "more than real images do; 0 goes on to the end.",
        title="Early stop",
        ge=0,
        le=1,
        advanced=True,
    )
    precision: Literal["auto", "float32", "bfloat16"] = knob(
        "auto",
        "In what the networks compute (precision); auto takes bfloat16 on a GPU.",
        title="Number format",
        advanced=True,
    )
    compile: Literal["auto", "on", "off"] = knob(
        "auto",
        "Compiles the networks before the first step, which takes a minute or two; auto does so on a single GPU, "
        "for a million images or more.",
        title="Compile the networks",
        advanced=True,
    )
    gpus: int = knob(
        1,
        "GPUs that share each batch; the model is the one that a single GPU would train.",
        title="GPUs",
        ge=1,
        le=64,
        advanced=True,
    )
    parent: str = knob(
        "",
        "Run whose trained weights it starts from, as its name or id, or RUN@STEP for one of its checkpoints; "
        "empty starts from nothing.",
        title="Start from a run",
        advanced=True,
    )

    @model_validator(mode="after")
    def _pairs(self) -> TrainConfig:
        if self.batch == 1:
            raise ValueError(
                "train.batch must be 0 or at least 2, got 1. Leave it out to use what suits the family."
            )
        if self.compile == "on" and self.gpus > 1:
            raise ValueError(
                f"train.compile must be auto or off for {self.gpus} GPUs, got on. "
                "Leave it out, or train on a single GPU."
            )
        return self


def batch_of(model: Trainable, config: TrainConfig) -> int:
    """Gives the images per step: the person's choice, else the network's advice (its ``batch``), else 128.

    Several processes share it equally: advice is rounded up for that.

    Raises:
        UserError: If a chosen batch cannot be shared equally.
    """
    count = processes()[0]
    if not config.batch:
        return -(-(model.batch if isinstance(model, Batches) else 128) // count) * count
    if config.batch % count:
        raise UserError(
            f"train.batch must be a multiple of the {count} GPUs that share it, got {config.batch}. "
            f"Set it to {-(-config.batch // count) * count}, or to 0 for what suits the family."
        )
    return config.batch


def rate(
    config: TrainConfig,
    group: Group,
    step: int,
    steps: int,
    progress: float | None = None,
    ease: float = 1.0,
) -> float:
    """Gives the learning rate of a group: linear warm-up, then the schedule over the group's own span.

    Args:
        config, group: Whose.
        step, steps: Steps done, and in all.
        progress: Share of the training that is done; that of the steps if left out.
        ease: Factor after roll-backs.
    """
    progress = step / steps if progress is None else progress
    full = (config.lr or group.lr) * ease
    done = min(1.0, max(0.0, (progress - group.start) / (group.stop - group.start)))
    begun = step - round(group.start * steps)
    warmup = min(config.warmup, steps // 10)
    if begun < warmup:
        return full * (begun + 1) / (warmup + 1)
    if config.schedule == "constant":
        return full
    return full * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def lengthened(
    config: TrainConfig, groups: Sequence[Group], step: int, old: int, new: int, ease: float = 1.0
) -> str:
    """Says what a run at ``step`` of ``old`` steps meets when it is to have ``new``; empty if its curve goes on.

    The schedule is that of a run which had the new length from the start, so that a learning rate which had come down
    goes up again, and a network that learns in stages may have to return to an earlier one.
    """

    def rates(at: int, steps: int) -> dict[str, float]:
        return {
            group.name: rate(config, group, at, steps, ease=ease)
            for group in groups
            if group.start <= at / steps < group.stop
        }

    before, after = rates(max(0, step - 1), old), rates(step, new)
    stages = [group for group in groups if group.name in after]
    if before.keys() != after.keys():
        until = max(round(group.stop * new) for group in stages)
        names = " and ".join(group.name for group in stages)
        return (
            f"It returns to the stage {names} until step {until:,}, with a learning rate of "
            f"{next(iter(after.values())):.1e}, and goes through what follows again."
        )
    name = max(after, key=lambda name: abs(math.log(after[name] / before[name])))
    old_rate, new_rate = before[name], after[name]
    if abs(new_rate / old_rate - 1) < 0.05:
        return ""
    whose = f" of the {name}" if len(after) > 1 else ""
    return (
        f"The learning rate{whose} does not go on where it was: it {'rises' if new_rate > old_rate else 'falls'} from "
        f"{old_rate:.1e} to {new_rate:.1e} at step {step:,}, where a run of {new:,} steps has it, and follows the "
        f"{config.schedule} schedule to the end of that. To go on at the rate that it had, start a new "
        f"run from this one (train.parent) with train.schedule=constant and train.lr={old_rate:.1e}."
    )


def publish_steps(steps: int, count: int = 24) -> set[int]:
    """Chooses the steps after which samples are drawn: the first, log-spaced ones, the last."""
    return {max(1, round(steps ** (k / (count - 1)))) for k in range(count)} | {steps}

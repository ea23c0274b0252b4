"""One training loop for every family and the classifier: an iterator of :class:`Progress`.

Whoever draws from it decides pace, display and stopping. Every step depends only on the state and on the generator
of that step, so that a resumed run ends where an uninterrupted one would, bit by bit on the CPU.
"""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from core.catalog import Config, UserError, knob, seed_knob
from core.datasets import Dataset
from core.models import ADAPT_EVERY, Adapts, Fits, Spec, Trainable, Validates
from core.settings import settings
from core.tensors import (
    Group,
    agreed,
    all_mean,
    alone,
    processes,
    rows,
    step_generator,
    to_float,
    whole,
)

COMPILED = 1_000_000  # images of the shortest training that is worth compiling for
LOOKS = 20  # equally spaced moments to publish of a training that may stop early
BACKEND = "inductor"  # of torch.compile
ROLLBACKS = 3  # returns to the last good state before a training is given up
Transform = Callable[[Tensor, torch.Generator], Tensor]


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
        "Ends the training when the held-out quality has not been better for this share of it; 0 goes on to the end.",
        title="Early stop",
        ge=0,
        le=1,
        advanced=True,
    )
    precision: Literal["auto", "float32", "bfloat16"] = knob(
        "auto", "Number format of the networks; auto takes bfloat16 on a GPU.", advanced=True
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
        return -(-getattr(model, "batch", 128) // count) * count
    if config.batch % count:
        raise UserError(
            f"train.batch must be a multiple of the {count} GPUs that share it, got {config.batch}. "
            f"Set it to {-(-config.batch // count) * count}, or to 0 for what suits the family."
        )
    return config.batch


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes:
        step, steps: Optimiser steps done, and in all.
        images, total: Images seen, and in all.
        values: Averages since the last record: losses, ``grad_norm/<group>``, ``lr``.
        images_per_second: Speed since the last record, without the time spent on publishing.
        seconds: Time spent in steps, over all resumptions.
        publish: The moment for a checkpoint and a sample grid.
        note: What was done about a divergence, in a sentence; the step is then one that had been passed before.
    """

    step: int
    steps: int
    images: int
    total: int
    values: dict[str, float]
    images_per_second: float
    seconds: float
    publish: bool
    note: str = ""


class Diverged(Exception):
    """Says what stopped being a finite number."""


def spec_of(dataset: Dataset) -> Spec:
    """Describes the images of a dataset to a model.

    Raises:
        UserError: If the dataset has less than two training images.
    """
    index = dataset.splits["train"]
    if len(index) < 2:
        raise UserError(
            f"Training needs at least 2 images, {dataset.name} has {len(index)}. Choose a larger dataset."
        )
    shares: tuple[float, ...] = ()
    if dataset.y is not None:
        labels = torch.as_tensor(np.asarray(dataset.y[index]))
        counts = torch.bincount(labels, minlength=len(dataset.classes)).double()
        shares = tuple((counts / counts.sum()).tolist())
    return Spec(dataset.channels, dataset.size, dataset.levels, shares)


class Trainer:
    """Trains a network on a dataset.

    Args:
        model: The network; it is moved to ``device``.
        dataset: Its ``train`` part is trained on, held-out values come from ``valid``; ``test`` is never read.
        config: Of the loop.
        device: Where to train.
        transform: Augments a batch, from images in [0, 1] to the same; draws from the step's generator only.
    """

    def __init__(
        self,
        model: Trainable,
        dataset: Dataset,
        config: TrainConfig,
        device: torch.device,
        transform: Transform | None = None,
    ) -> None:
        assert isinstance(model, nn.Module)
        # convolutions in short floats are faster on a GPU when the channels of a pixel lie side by side
        self.layout = _layout(device)
        self.model = model.to(device).to(memory_format=self.layout).train()
        self.config, self.device, self.transform = config, device, transform
        self.levels = dataset.levels
        self.x, self.y = _on_device(dataset, "train", device)
        self.valid = _on_device(dataset, "valid", device, limit=2000)
        self.groups: dict[str, Group] = {group.name: group for group in model.groups()}
        self.optimisers = {name: self._optimiser(group) for name, group in self.groups.items()}
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.batch = batch_of(model, config)
        self.processes = processes()[0]
        self.steps = math.ceil(config.images / self.batch)
        self.step, self.rollbacks, self.seconds = 0, 0, 0.0
        self._ease()
        self._compile()
        self.good = _copied(self.state())
        self.spent = dict.fromkeys(
            ("data", "forward", "backward", "optimiser", "average", "record"), 0.0
        )

    def _optimiser(self, group: Group) -> torch.optim.Optimizer:
        lr, betas = self.config.lr or group.lr, (group.beta1, group.beta2)
        if group.weight_decay:
            return torch.optim.AdamW(
                group.params, lr, betas, weight_decay=group.weight_decay, fused=True
            )
        return torch.optim.Adam(group.params, lr, betas, fused=True)

    # --- state: all that a resumed run needs ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Gives the whole state as plain values and tensors."""
        return {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": {
                name: optimiser.state_dict() for name, optimiser in self.optimisers.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.step, self.rollbacks, self.seconds = (
            state["step"],
            state["rollbacks"],
            state["seconds"],
        )
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
            for param, kept in optimiser.state.items():  # it may come from another device
                kept |= {
                    key: _laid_out(value, param)
                    for key, value in kept.items()
                    if value.shape == param.shape
                }
        self._ease()
        self.good = _copied(state)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Takes over the weights and buffers of another training.

        Raises:
            UserError: If they do not fit this network.
        """
        for model in (self.model, self.averaged):
            try:
                model.load_state_dict(weights)
            except RuntimeError as error:
                first = str(error).splitlines()[-1].strip()
                raise UserError(
                    f"The weights of the parent do not fit this network: {first} "
                    "Give the family the settings of the parent, or leave train.parent out."
                ) from None
        self.good = _copied(self.state())

    def _ease(self) -> None:
        """Halves what makes a training wild, once for each roll-back: the learning rate, and the model's penalties."""
        self.ease = 0.5**self.rollbacks
        if hasattr(self.model, "ease"):
            self.model.ease = self.ease  # type: ignore[assignment]

    def _compile(self) -> None:
        """Compiles what the model lists as hot, if that was asked for or is worth its time."""
        wanted = self.config.compile == "on" or (
            self.config.compile == "auto"
            and self.device.type == "cuda"
            and self.processes == 1  # a graph would have to hold what the processes tell each other
            and self.config.images >= COMPILED
        )
        self.compiled: list[nn.Module] = []
        self.not_compiled: tuple[type[Exception], ...] = ()  # what says that it did not work
        if wanted and hasattr(self.model, "hot"):
            from torch._dynamo.exc import TorchDynamoException

            self.not_compiled = (TorchDynamoException,)
            self.compiled = self.model.hot()  # type: ignore[operator]
            for module in self.compiled:
                module.compile(backend=BACKEND)

    def _uncompile(self, trouble: Exception) -> str:
        """Goes back to where it was before compiling failed, to go on without; gives a sentence for the record.

        Raises:
            UserError: If compiling was asked for.
        """
        reason = str(trouble).strip().splitlines()[0].rstrip(".")
        if self.config.compile == "on":
            raise UserError(
                f"The networks cannot be compiled here: {reason}. "
                "Set train.compile to off, or install what is missing."
            ) from trouble
        for module in self.compiled:
            module._compiled_call_impl = None
        self.not_compiled = ()
        self.restore(self.good)
        return f"The networks could not be compiled ({reason}), so training goes on without it."

    @property
    def whole(self) -> bool | None:
        """Whether every stage of the network has had its span by now; None without stages."""
        return whole(list(self.groups.values()), self.step / self.steps)

    def published(self) -> nn.Module:
        """Gives the averaged model, in evaluation mode, with its fitted parts; a copy that training never touches."""
        model = copy.deepcopy(self.averaged)
        if isinstance(model, Fits):
            # an early look is only a look: it is fitted to fewer images
            few = min(len(self.x), max(512, min(4096, self.step * self.batch // 8)))
            pick = torch.linspace(0, len(self.x) - 1, few, device=self.device).long()
            x, y = to_float(self.x[pick], self.levels), None if self.y is None else self.y[pick]
            with alone():
                model.fit(x, y)
        return model.eval()

    @torch.no_grad()
    def held_out(self, model: nn.Module) -> dict[str, float]:
        """Measures a published model on the held-out images; empty where it has no such measure."""
        x, y = self.valid
        if not isinstance(model, Validates) or not len(x):
            return {}
        generator = torch.Generator(self.device).manual_seed(0)
        sums: dict[str, float] = {}
        for index in torch.arange(len(x), device=self.device).split(500):
            with alone():
                part = model.held_out(
                    to_float(x[index], self.levels), None if y is None else y[index], generator
                )
            for name, value in part.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(index) / len(x)
        return sums

    # --- the loop -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        """Trains, yielding at least every quarter of a second and at every moment to publish.

        When a loss, a gradient or a weight stops being a finite number, it goes back to the last good state, which is
        that of the last moment to publish, and goes on more carefully.

        Raises:
            UserError: If that has not helped three times, or a batch does not fit into the memory of the GPU.
        """
        moments = publish_steps(self.steps)
        if self.config.patience:  # who may stop early looks at equal distances too
            moments |= {max(1, round(self.steps * k / LOOKS)) for k in range(1, LOOKS + 1)}
        while self.step < self.steps:
            try:
                yield from self._until_the_end(moments)
            except Diverged as trouble:
                step = self.step
                if self.rollbacks >= ROLLBACKS:
                    rate = max(
                        self._rate(group, step / self.steps) for group in self.groups.values()
                    )
                    clip = "" if 0 < self.config.clip <= 1 else ", or train.clip to 1"
                    raise UserError(
                        f"{trouble} at step {step}, for the {ROLLBACKS + 1}th time. "
                        f"Set train.lr below {rate:.1g}{clip}, then start again; the last good checkpoint is kept."
                    ) from None
                state = self.good
                state["rollbacks"] = self.rollbacks + 1
                self.restore(state)
                note = (
                    f"{trouble} at step {step}: went back to step {self.step}, "
                    f"with {self.ease:g} of the learning rate and of the penalties."
                )
                yield self._progress({}, 0.0, publish=True, note=note)
            except self.not_compiled as trouble:
                yield self._progress({}, 0.0, publish=True, note=self._uncompile(trouble))
            except torch.cuda.OutOfMemoryError:
                raise UserError(
                    f"A batch of {self.batch} images does not fit into the memory of the GPU. "
                    f"Set train.batch to {self._batch_that_fits()}."
                ) from None

    def _until_the_end(self, moments: set[int]) -> Iterator[Progress]:
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        since, last = self.step, time.perf_counter()
        due = (
            since + 1
        )  # where several processes record next; their clocks differ, so they agree on a step
        checking: deque[tuple[str, Tensor]] = deque()
        while self.step < self.steps:
            for name, value in self._one_step(checking).items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + 1
            now = time.perf_counter()
            publish = self.step in moments
            if publish or (now - last > 0.25 if self.processes == 1 else self.step >= due):
                self._check(checking, 0)
                if publish:
                    self._check_weights()
                    self.good = _copied(self.state())
                values = self._means(sums, counts)
                elapsed = time.perf_counter() - last
                self.spent["record"] += elapsed - (now - last)
                self.seconds += elapsed
                done = self.step - since
                yield self._progress(values, done * self.batch / elapsed, publish)
                due = self.step + agreed(max(1, min(2 * done, round(done * 0.25 / elapsed))))
                sums, counts, since, last = {}, {}, self.step, time.perf_counter()

    def _means(self, sums: dict[str, Tensor], counts: dict[str, int]) -> dict[str, float]:
        """Gives the average of each value over the steps, and over the processes."""
        if self.processes > 1:
            each = torch.stack([total.detach().to(self.device).double() for total in sums.values()])
            sums = dict(zip(sums, all_mean(each), strict=True))
        return {name: float(total) / counts[name] for name, total in sums.items()}

    def _progress(
        self, values: dict[str, float], speed: float, publish: bool, note: str = ""
    ) -> Progress:
        return Progress(
            self.step,
            self.steps,
            min(self.step * self.batch, self.config.images),
            self.config.images,
            values,
            speed,
            self.seconds,
            publish,
            note,
        )

    def _batch_that_fits(self) -> int:
        """Halves the batch until a step's gradients fit into the memory of this process."""
        count = self.batch // self.processes
        while count > 2:
            count //= 2
            try:
                with alone():  # the others may have room
                    generator = step_generator(self.device, self.config.seed, self.step)
                    x, y = self._draw(self.x, self.y, count, generator)
                    for loss in self.model.losses(x, y, generator, self.step / self.steps):
                        torch.autograd.grad(
                            loss.value, self.groups[loss.group].params, allow_unused=True
                        )
                return count * self.processes
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
        return 2 * self.processes

    def _one_step(self, checking: deque[tuple[str, Tensor]]) -> dict[str, Tensor]:
        config, clock = self.config, time.perf_counter
        start = clock()
        generator = step_generator(self.device, config.seed, self.step, self.rollbacks)
        x, y = self._draw(self.x, self.y, self.batch // self.processes, generator)
        progress = self.step / self.steps
        self.spent["data"] += clock() - start
        values: dict[str, Tensor] = {}
        losses = self.model.losses(x, y, generator, progress)
        half = config.precision == "bfloat16" or (
            config.precision == "auto" and self.device.type == "cuda"
        )
        while True:
            start = clock()
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=half, cache_enabled=False
            ):
                loss = next(losses, None)
            forward = clock()
            self.spent["forward"] += forward - start
            if loss is None:
                break
            group, optimiser = self.groups[loss.group], self.optimisers[loss.group]
            value = loss.value.detach()
            if self.processes == 1 and self.device.type == "cpu":
                self._check(deque([(f"The {loss.group} loss", value)]), 0)
            grads = torch.autograd.grad(loss.value, group.params, allow_unused=True)
            mean, *grads = _averaged(value, *grads)  # what is no number in one is none in all
            checking.append((f"The {loss.group} loss", value if mean is None else mean))
            backward = clock()
            self.spent["backward"] += backward - forward
            for param, grad in zip(group.params, grads, strict=True):
                param.grad = None if grad is None else _laid_out(grad, param)
            norm = torch.nn.utils.get_total_norm([grad for grad in grads if grad is not None])
            checking.append((f"The {loss.group} gradient", norm.detach()))
            if self.device.type == "cpu":
                self._check(checking, 0)
            if config.clip:
                held = [param for param in group.params if param.grad is not None]
                scale = (config.clip / (norm + 1e-6)).clamp(max=1.0)
                if self.device.type != "cpu" or scale < 1:  # elsewhere, looking would take as long
                    # not in place: two parameters may share a gradient
                    clipped = torch._foreach_mul([param.grad for param in held], scale)  # pyright: ignore
                    for param, grad in zip(held, clipped, strict=True):
                        param.grad = grad
            rate = self._rate(group, progress)
            for options in optimiser.param_groups:
                options["lr"] = rate
            optimiser.step()
            values |= loss.parts
            values[f"grad_norm/{loss.group}"] = norm
            values["lr"] = torch.tensor(rate)
            self.spent["optimiser"] += clock() - backward
        start = clock()
        self.step += 1
        if self.step % ADAPT_EVERY == 0 and isinstance(self.model, Adapts) and len(self.valid[0]):
            count = -(-max(self.batch, 32) // self.processes)
            batches = (
                *self._draw(self.x, self.y, count, generator),
                *self._draw(*self.valid, count, generator),
            )
            with torch.no_grad():
                values |= self.model.adapt(*batches, generator)
        self._average()
        self.spent["average"] += clock() - start
        return values

    def _draw(
        self, x: Tensor | Streamed, y: Tensor | None, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Draws images in [0, 1], transformed, with their labels: of a common draw, this process's ``count``."""
        draw = partial(torch.randint, len(x))
        index = rows(draw, (count,), generator=generator, device=self.device)
        images, labels = to_float(x[index], self.levels), None if y is None else y[index]
        images = images.contiguous(memory_format=self.layout)
        return (images if self.transform is None else self.transform(images, generator)), labels

    def _rate(self, group: Group, progress: float) -> float:
        """Gives the learning rate of a group at a share of the training, for the step that it is at."""
        return rate(self.config, group, self.step, self.steps, progress, self.ease)

    @torch.no_grad()
    def _average(self) -> None:
        half_life = min(self.config.average, self.step / 10)
        every = 4 if half_life >= 40 else 1  # a long average loses nothing by looking less often
        if self.step % every:
            return
        keep = 0.5 ** (every / half_life) if half_life > 0 else 0.0
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.averaged.parameters()), list(self.model.parameters()), 1 - keep
        )
        for mine, theirs in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            mine.copy_(theirs)

    def _check(self, checking: deque[tuple[str, Tensor]], keep: int) -> None:
        """Raises if a loss or a gradient is not finite; elsewhere than on the CPU it waits for a record."""
        while len(checking) > keep:
            what, value = checking.popleft()
            if not math.isfinite(float(value)):
                raise Diverged(f"{what} is {float(value):g}")

    def _check_weights(self) -> None:
        for name, param in self.averaged.named_parameters():
            if not bool(param.isfinite().all()):
                raise Diverged(f"The weights of {name} are not finite")


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
        here = at / steps
        return {
            group.name: rate(config, group, at, steps, ease=ease)
            for group in groups
            if group.start <= here < group.stop
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
    ended, goes_on = before[name], after[name]
    if abs(goes_on / ended - 1) < 0.05:
        return ""
    whose = f" of the {name}" if len(after) > 1 else ""
    return (
        f"The learning rate{whose} does not go on where it was: it {'rises' if goes_on > ended else 'falls'} from "
        f"{ended:.1e} to {goes_on:.1e} at step {step:,}, where a run of {new:,} steps has it, and follows the "
        f"{config.schedule} schedule to the end of that. To go on at the rate that it had, start a new "
        f"run from this one (train.parent) with train.schedule=constant and train.lr={ended:.1e}."
    )


def publish_steps(steps: int, count: int = 24) -> set[int]:
    """Chooses the steps after which samples are drawn: the first, log-spaced ones, the last."""
    return {max(1, round(steps ** (k / (count - 1)))) for k in range(count)} | {steps}


def _averaged(*tensors: Tensor | None) -> Sequence[Tensor | None]:
    """Averages tensors over the processes, all in one exchange; alone, returns them."""
    if processes()[0] == 1:
        return tensors
    held = [each for each in tensors if each is not None]
    joined = all_mean(torch.cat([each.reshape(-1) for each in held]))
    parts = iter(joined.split([each.numel() for each in held]))
    return [None if each is None else next(parts).view(each.shape) for each in tensors]


def _layout(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _laid_out(grad: Tensor, param: Tensor) -> Tensor:
    """Gives a gradient the memory layout of its parameter: fused Adam walks both in the order of their memory.

    The second derivatives of R1 and R2 come out of a convolution in another order, and a sum's is one number for all.
    """
    return grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)


def _copied(state: Any) -> Any:
    """Copies a state to memory that training does not touch."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state


class Streamed:
    """Images that stay on the disk, of which batches are read as they are needed."""

    def __init__(self, x: np.ndarray, index: np.ndarray, device: torch.device) -> None:
        self.x, self.index, self.device = x, index, device

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Reads the images of an index (n,), uint8 (n, C, H, W)."""
        batch = torch.from_numpy(self.x[self.index[index.cpu().numpy()]])
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)


def _on_device(
    dataset: Dataset, part: str, device: torch.device, limit: int = 0
) -> tuple[Tensor | Streamed, Tensor | None]:
    """Puts a part of a dataset where it is trained, or leaves it on the disk if it is too large for that."""
    index = dataset.splits[part][: limit or None]
    y = None if dataset.y is None else torch.as_tensor(np.asarray(dataset.y[index])).to(device)
    budget = settings().data_mb * 2**20
    if device.type == "cuda":  # the networks want room too
        budget = min(budget, torch.cuda.mem_get_info(device)[0] // 2)
    if len(index) * math.prod(dataset.x.shape[1:]) > budget:
        return Streamed(dataset.x, index, device), y
    return torch.as_tensor(np.asarray(dataset.x[index])).to(device), y

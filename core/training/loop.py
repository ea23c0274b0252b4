"""The training loop: steps, the averaged weights, and what to do when a step goes wrong."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.datasets import Dataset
from core.models import (
    ADAPT_EVERY,
    Adapts,
    Curve,
    Eases,
    Fits,
    Renders,
    Shortens,
    Trainable,
    Validates,
)
from core.tensors import (
    Batch,
    Group,
    Loss,
    agreed,
    all_mean,
    alone,
    processes,
    step_generator,
    whole,
)
from core.training.batches import Split, Transform
from core.training.config import TrainConfig, batch_of, publish_steps, rate
from core.training.further import merged
from core.training.guard import (
    ROLLBACKS,
    Checks,
    Compiler,
    Diverged,
    batch_that_fits,
    checked_weights,
    copied,
)
from core.training.muon import Muon
from core.training.update import Update, averaged, plain

CURVES = (
    Curve("grad_norm/", "Gradient norm", "Length of the gradient before clipping."),
    Curve("lr", "Learning rate", "Warm-up, then the schedule.", lines={"lr": "learning rate"}),
)
LOOKS = 20  # equally spaced moments to publish of a training that may stop early


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


class Laps:
    """Adds up where the time goes: each lap lasts from the one before it.

    Attributes:
        seconds: By what was done.
    """

    def __init__(self, *names: str) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self.start()

    def start(self) -> None:
        """Begins anew; the time since the last lap is not counted."""
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Counts the time since the last lap."""
        now = time.perf_counter()
        self.seconds[name] += now - self._since
        self._since = now


class Trainer:
    """Trains a network on a dataset.

    Args:
        model: The network; it is moved to ``device``. Weights that need no gradient stay as they are.
        dataset: Its ``train`` part is trained on, held-out values come from ``valid``; ``test`` is never read.
        config: Of the loop.
        device: Where to train.
        transform: Augments a batch, from items in [0, 1] to the same; draws from the step's generator only.
        update: How a step comes by its gradient; the loss's own, averaged over several processes, if left out.
        pace: Factor of the learning rate that the network advises.
        practise: Changes what the network sees of a batch of the training part; draws from the step's generator only.
    """

    def __init__(
        self,
        model: Trainable,
        dataset: Dataset,
        config: TrainConfig,
        device: torch.device,
        transform: Transform | None = None,
        update: Update | None = None,
        pace: float = 1.0,
        practise: Transform | None = None,
    ) -> None:
        assert isinstance(model, nn.Module)
        gpu, self.layout = device.type == "cuda", _layout(device)
        self.model = model.to(device).to(memory_format=self.layout).train()
        self.config, self.device, self.transform = config, device, transform
        self.practise = practise
        told = isinstance(model, Renders) and model.told > 0
        if told and transform is not None:
            raise UserError(
                "An augmentation changes the images and not their pairs, of which this network learns, so that the two "
                "would not fit together any more. Leave augment.pipeline out, or train a network that is told no pair."
            )
        once = transform is None
        self.train = Split(dataset, "train", device, told=told, once=once)
        self.valid = Split(dataset, "valid", device, limit=2000, told=told, once=once)
        self.groups = {group.name: _moving(group, pace) for group in model.groups()}
        self.optimisers = {name: self._optimiser(group) for name, group in self.groups.items()}
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.batch = batch_of(model, config)
        self.processes = processes()[0]
        self.update: Update = update or (plain if self.processes == 1 else averaged)
        self.half = config.precision == "bfloat16" or (
            config.precision == "auto"
            and (gpu or (isinstance(model, Shortens) and model.shorter()))
        )
        self.steps = math.ceil(config.images / self.batch)
        self.step, self.rollbacks, self.seconds = 0, 0, 0.0
        self.checks = Checks()
        self._ease()
        self.compiler = Compiler(self.model, config, device)
        self.good = copied(self.state())
        self.laps = Laps("data", "forward", "backward", "optimiser", "average", "record")

    def _optimiser(self, group: Group) -> torch.optim.Optimizer:
        lr, betas = self.config.lr or group.lr, (group.beta1, group.beta2)
        if group.optimiser == "muon":
            return Muon(group.params, group.matrices, lr, betas, group.weight_decay)
        if group.weight_decay:
            return torch.optim.AdamW(
                group.params, lr, betas, weight_decay=group.weight_decay, fused=True
            )
        return torch.optim.Adam(group.params, lr, betas, fused=True)

    # --- a step ---------------------------------------------------------------------------------------------------

    def one_step(self) -> dict[str, Tensor]:
        """Takes one step: each loss that the model yields is followed before it goes on to the next one.

        Returns:
            Named scalars for the record.

        Raises:
            Diverged: On the CPU at once; on a GPU the test would force a synchronisation, so ``checks`` is asked later.
        """
        self.laps.start()
        generator = step_generator(self.device, self.config.seed, self.step, self.rollbacks)
        x, y = self._draw(self.train, self.batch // self.processes, generator)
        progress = self.step / self.steps
        self.laps.lap("data")
        values: dict[str, Tensor] = {}
        losses = self.model.losses(x, y, generator, progress)
        while (loss := self._forward(losses)) is not None:
            values |= self._follow(loss, progress)
        self.step += 1
        if self.step % ADAPT_EVERY == 0 and isinstance(self.model, Adapts) and len(self.valid):
            count = -(-max(self.batch, 32) // self.processes)
            x, y = self._draw(self.train, count, generator)
            valid = self._draw(self.valid, count, generator)
            with torch.no_grad():
                values |= self.model.adapt(x, y, *valid, generator)
        self._average()
        self.laps.lap("average")
        return values

    def _draw(
        self, split: Split, count: int, generator: torch.Generator
    ) -> tuple[Batch, Tensor | None]:
        """Draws what the model sees of transformed items, with their labels."""
        if split.pair is not None:
            x, y = split.at(split.chosen(count, generator))
            return x.contiguous(memory_format=self.layout), y
        if split.seen is not None:
            x, y = split.at(split.chosen(count, generator))
        else:
            x, y = split.draw(count, generator)
            if x.ndim == 4:
                x = x.contiguous(memory_format=self.layout)
            x = x if self.transform is None else self.transform(x, generator)
            x = split.medium.to_model(x)
        if self.practise is not None and split is self.train:
            x = self.practise(x, generator)
        return x, y

    def _forward(self, losses: Iterator[Loss]) -> Loss | None:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.half, cache_enabled=False
        ):
            loss = next(losses, None)
        self.laps.lap("forward")
        if loss is not None and self.processes == 1 and self.device.type == "cpu":
            self._check(f"The {loss.group} loss", loss.value.detach())
        return loss

    def _follow(self, loss: Loss, progress: float) -> dict[str, Tensor]:
        """Moves the parameters of a loss along its gradient; gives named scalars for the record."""
        group, optimiser = self.groups[loss.group], self.optimisers[loss.group]
        value, grads = self.update(loss, group)
        self.laps.lap("backward")
        for param, grad in zip(group.params, grads, strict=True):
            param.grad = None if grad is None else _laid_out(grad, param)
        norm = torch.nn.utils.get_total_norm([grad for grad in grads if grad is not None])
        self._check(f"The {loss.group} loss", value)
        self._check(f"The {loss.group} gradient", norm.detach())
        if self.config.clip:
            scale = (self.config.clip / (norm + 1e-6)).clamp(max=1.0)
            # on a GPU the test would force a synchronisation, which takes longer than scaling by 1
            if self.device.type != "cpu" or scale < 1:
                params = [param for param in group.params if param.grad is not None]
                # not in place: two parameters may share a gradient
                clipped = torch._foreach_mul([param.grad for param in params], scale)  # pyright: ignore
                for param, grad in zip(params, clipped, strict=True):
                    param.grad = grad
        learning_rate = self._rate(group, progress)
        for options in optimiser.param_groups:
            options["lr"] = learning_rate
        optimiser.step()
        self.laps.lap("optimiser")
        return {**loss.parts, f"grad_norm/{loss.group}": norm, "lr": torch.tensor(learning_rate)}

    def _check(self, name: str, value: Tensor) -> None:
        self.checks.add(name, value)
        if self.device.type == "cpu":
            self.checks.look()

    def _rate(self, group: Group, progress: float) -> float:
        """Gives the learning rate of a group at a share of the training, for the step that it is at."""
        return rate(self.config, group, self.step, self.steps, progress, self.ease)

    @torch.no_grad()
    def _average(self) -> None:
        """Lets the averaged weights follow, with the half-life that is due."""
        half_life = min(self.config.average, self.step / 10)
        every = 4 if half_life >= 40 else 1  # a long average loses nothing by looking less often
        if self.step % every:
            return
        keep = 0.5 ** (every / half_life) if half_life > 0 else 0.0
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.averaged.parameters()), list(self.model.parameters()), 1 - keep
        )
        for average, buffer in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            average.copy_(buffer)

    # --- the loop -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        """Trains, yielding at least every quarter of a second and at every moment to publish.

        When a loss, a gradient or a weight stops being a finite number, it goes back to the last good state, which is
        that of the last moment to publish, and goes on more carefully.

        Raises:
            UserError: If that has not helped three times, or a batch does not fit into the memory of the GPU.
        """
        moments = publish_steps(self.steps)
        if self.config.patience:  # to stop early it measures at equal distances, too
            moments |= {max(1, round(self.steps * k / LOOKS)) for k in range(1, LOOKS + 1)}
        while self.step < self.steps:
            try:
                yield from self._until_the_end(moments)
            except Diverged as problem:
                yield self._progress({}, 0.0, publish=True, note=self._back(problem))
            except self.compiler.failures as error:
                note = self.compiler.undo(error, required=self.config.compile == "on")
                self.restore(self.good)
                yield self._progress({}, 0.0, publish=True, note=note)
            except torch.cuda.OutOfMemoryError:
                raise UserError(
                    f"A batch of {self.batch} images does not fit into the memory of the GPU. "
                    f"Set train.batch to {batch_that_fits(self._attempt, self.batch)}."
                ) from None

    def _until_the_end(self, moments: set[int]) -> Iterator[Progress]:
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        since, last = self.step, time.perf_counter()
        # of several processes, whose clocks differ, the step at which they record next
        due = since + 1
        self.checks = Checks()
        while self.step < self.steps:
            for name, value in self.one_step().items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + 1
            now = time.perf_counter()
            publish = self.step in moments
            if publish or (now - last > 0.25 if self.processes == 1 else self.step >= due):
                self.checks.look()
                if publish:
                    checked_weights(self.averaged)
                    self.good = copied(self.state())
                values = self._means(sums, counts)
                elapsed = time.perf_counter() - last
                self.laps.seconds["record"] += elapsed - (now - last)
                self.seconds += elapsed
                done = self.step - since
                yield self._progress(values, done * self.batch / elapsed, publish)
                due = self.step + agreed(max(1, min(2 * done, round(done * 0.25 / elapsed))))
                sums, counts, since, last = {}, {}, self.step, time.perf_counter()

    def _back(self, problem: Diverged) -> str:
        """Goes back to the last good state, to go on more carefully; gives a sentence for the record.

        Raises:
            UserError: If it has gone back often enough.
        """
        step = self.step
        if self.rollbacks >= ROLLBACKS:
            rate = max(self._rate(group, step / self.steps) for group in self.groups.values())
            clip = "" if 0 < self.config.clip <= 1 else ", or train.clip to 1"
            raise UserError(
                f"{problem} at step {step}, for the {ROLLBACKS + 1}th time. "
                f"Set train.lr below {rate:.1g}{clip}, then start again; the last good checkpoint is kept."
            ) from None
        state = self.good
        state["rollbacks"] = self.rollbacks + 1
        self.restore(state)
        return (
            f"{problem} at step {step}: went back to step {self.step}, "
            f"with {self.ease:g} of the learning rate and of the penalties."
        )

    def _attempt(self, count: int) -> None:
        """Computes the gradients of a step of so many images."""
        generator = step_generator(self.device, self.config.seed, self.step)
        x, y = self._draw(self.train, count, generator)
        for loss in self.model.losses(x, y, generator, self.step / self.steps):
            plain(loss, self.groups[loss.group])

    def _means(self, sums: dict[str, Tensor], counts: dict[str, int]) -> dict[str, float]:
        """Gives the average of each value over the steps, and over the processes."""
        if self.processes > 1:
            totals = [total.detach().to(self.device).double() for total in sums.values()]
            sums = dict(zip(sums, all_mean(torch.stack(totals)), strict=True))
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

    # --- state: all that a resumed run needs ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Gives the whole state as plain values and tensors."""
        return {
            "step": self.step,
            "rollbacks": self.rollbacks,
            "seconds": self.seconds,
            "half": self.half,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": {
                name: optimiser.state_dict() for name, optimiser in self.optimisers.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a state."""
        self.step, self.rollbacks = state["step"], state["rollbacks"]
        self.seconds = state["seconds"]
        if self.config.precision == "auto" and "half" in state:  # as it began, whatever pays here
            self.half = state["half"]
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
            for param, moments in optimiser.state.items():  # they may come from another device
                moments |= {
                    key: _laid_out(value, param)
                    for key, value in moments.items()
                    if value.shape == param.shape
                }
        self._ease()
        self.good = copied(state)

    def _ease(self) -> None:
        """Halves what makes a training wild, once for each roll-back: the learning rate, and the model's penalties."""
        self.ease = 0.5**self.rollbacks
        if isinstance(self.model, Eases):
            self.model.ease = self.ease

    # --- what it has learned --------------------------------------------------------------------------------------

    @property
    def whole(self) -> bool | None:
        """Whether every stage of the network has had its span by now; None without stages."""
        return whole(list(self.groups.values()), self.step / self.steps)

    def published(self) -> nn.Module:
        """Gives the averaged model, in evaluation mode, with its fitted parts; a copy that training never touches."""
        model = merged(copy.deepcopy(self.averaged))
        if isinstance(model, Renders):
            # those of held-out images: made of what it has learned from, its samples would be copies
            of = self.valid if len(self.valid) else self.train
            pick = torch.linspace(0, len(of) - 1, min(len(of), 1000), device=self.device).long()
            with alone():
                model.keep(of.at(pick)[0])
        if isinstance(model, Fits):
            # an early look is only a look: it is fitted to fewer images
            few = min(len(self.train), max(512, min(4096, self.step * self.batch // 8)))
            pick = torch.linspace(0, len(self.train) - 1, few, device=self.device).long()
            with alone():
                model.fit(*self.train.at(pick))
        return model.eval()

    @torch.no_grad()
    def held_out(self, model: nn.Module) -> dict[str, float]:
        """Measures a published model on the held-out images; empty where it has no such measure."""
        if not isinstance(model, Validates) or not len(self.valid):
            return {}
        generator = torch.Generator(self.device).manual_seed(0)
        sums: dict[str, float] = {}
        for index in torch.arange(len(self.valid), device=self.device).split(500):
            with alone():
                part = model.held_out(*self.valid.at(index), generator)
            for name, value in part.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(index) / len(self.valid)
        return sums


def _moving(group: Group, pace: float) -> Group:
    """Gives a group with those of its parameters that are to move, at a share of its learning rate."""
    moving = [param for param in group.params if param.requires_grad]
    return replace(group, params=moving, lr=pace * group.lr)


def _layout(device: torch.device) -> torch.memory_format:
    """Convolutions in short floats are faster on a GPU when the channels of a pixel lie side by side."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _laid_out(grad: Tensor, param: Tensor) -> Tensor:
    """Gives a gradient the memory layout of its parameter: fused Adam walks both in the order of their memory.

    The second derivatives of R1 and R2 come out of a convolution in another order, and a sum's is one number for all.
    """
    return grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)

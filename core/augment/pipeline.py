"""A pipeline is data: an ordered list of steps; a chain is a pipeline that is ready to run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.augment import geometry, policies
from core.augment.catalogue import (
    Augmentation,
    Context,
    Draws,
    Operation,
    Params,
    augmentations,
    rows,
)
from core.augment.geometry import Affine
from core.catalog import UserError, plain
from core.media import Form, form_of, media
from core.norms import wide
from core.tensors import Batch, to_bytes

FORMAT, VERSION = "simulacra-pipeline", 1
Write = Callable[[Tensor], np.ndarray]  # items in [0, 1] as they are stored
MAX_STEPS = 40
_STILL = torch.eye(2, 3)  # the map that moves nothing


@dataclass(frozen=True)
class Step:
    """One step of a pipeline.

    Attributes:
        name: Of an augmentation.
        config: Its parameters, complete.
        probability: Share of the images that it changes.
        on: Whether it is used; one that is switched off stays in the list.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    probability: float = 1.0
    on: bool = True

    @classmethod
    def of(
        cls,
        name: str,
        config: Mapping[str, Any] | None = None,
        probability: float | None = None,
        on: bool = True,
        where: str = "",
    ) -> Step:
        """Makes a step; what is left out takes the default of its augmentation.

        Raises:
            UserError: If the name, a parameter or the probability is not allowed.
        """
        entry = augmentations.get(name)
        values = entry.config.of(config, where or name).record()
        chance = entry.chance if probability is None else probability
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise UserError(
                f"{where or name}.probability must be a number at least 0 and at most 1, got {chance!r:.80}. "
                "1 changes every image."
            )
        if not isinstance(on, bool):
            raise UserError(
                f"{where or name}.enabled must be true or false, got {on!r:.80}. Leave it out to use the step."
            )
        return cls(name, values, float(chance), on)

    @property
    def entry(self) -> Augmentation:
        """What the registry says of it."""
        return augmentations.get(self.name)

    @property
    def title(self) -> str:
        """What the step is called."""
        return self.entry.title


def _read(number: int, record: Any) -> Step:
    if not isinstance(record, Mapping) or not isinstance(record.get("name"), str):
        raise UserError(
            f"Step {number} must be an object with a name, got {record!r:.80}. "
            'For example {"name": "rotate", "parameters": {"degrees": 10}}.'
        )
    odd = [key for key in record if key not in ("name", "parameters", "probability", "enabled")]
    if odd:
        raise UserError(
            f"Step {number} ({record['name']:.80}) has the field {odd[0]!r:.80}. Allowed are name, parameters, "
            "probability and enabled. Leave it out."
        )
    config = record.get("parameters") or {}
    if not isinstance(config, Mapping):
        raise UserError(
            f"The parameters of step {number} ({record['name']}) must be an object, got {config!r:.80}. "
            'For example {"degrees": 10}.'
        )
    where = f"step {number} ({record['name']})"
    return Step.of(
        record["name"], config, record.get("probability"), record.get("enabled", True), where
    )


@dataclass(frozen=True)
class Pipeline:
    """An ordered list of steps, never changed, only replaced.

    Attributes:
        steps: At most :data:`MAX_STEPS`.
        name: What a person calls it; not part of what it does.
    """

    steps: tuple[Step, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if len(self.steps) > MAX_STEPS:
            raise UserError(
                f"A pipeline has at most {MAX_STEPS} steps, got {len(self.steps)}. Leave some out."
            )

    @classmethod
    def of(cls, steps: Sequence[Any], name: str = "") -> Pipeline:
        """Makes a pipeline of records: ``name``, and where wanted ``parameters``, ``probability``, ``enabled``.

        Raises:
            UserError: If a step does not exist, or a value is not allowed.
        """
        return cls(tuple(_read(number, record) for number, record in enumerate(steps, 1)), name)

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON or YAML."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "steps": [
                {
                    "name": step.name,
                    "parameters": dict(step.config),
                    "probability": step.probability,
                    "enabled": step.on,
                }
                for step in self.steps
            ],
        }

    @property
    def hash(self) -> str:
        """The sha-256 of what it does: the steps that are on, whatever it is called."""
        active = [
            [step.name, dict(step.config), step.probability] for step in self.steps if step.on
        ]
        text = json.dumps([VERSION, active], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def slow(self) -> list[str]:
        """Titles of the steps that work image by image, which a training refuses."""
        return [step.title for step in self._active() if step.entry.slow]

    @property
    def mixing(self) -> list[str]:
        """Titles of the steps that change labels as well."""
        return [step.title for step in self._active() if step.entry.labels]

    @property
    def rigid(self) -> list[str]:
        """Titles of the steps that no gradient passes, which must not stand before a critic."""
        return [step.title for step in self._active() if not step.entry.smooth]

    def fits(self, form: Form, medium: str = "") -> bool:
        """Tells whether every step is for items of a form and a medium; empty stands for images."""
        return all(step.entry.suits(form, medium) for step in self._active())

    def allow(self, form: Form, medium: str | None = None) -> None:
        """Refuses items of a form, or of a medium where it is known, that a step is not for.

        Raises:
            UserError: With the steps that are.
        """
        for step in self._active():
            step.entry.allow(form, [e for e in augmentations if e.suits(form, medium or "")])
            if medium is not None and not step.entry.suits(form, medium):
                fit = ", ".join(entry.name for entry in augmentations if entry.suits(form, medium))
                raise UserError(
                    f"{step.title} is not for {media.get(medium).title.lower()} as they are taken here. "
                    f"Choose from: {fit or 'none yet'}."
                )

    def _active(self) -> list[Step]:
        return [step for step in self.steps if step.on]

    def with_step(self, name: str, config: Mapping[str, Any] | None = None) -> Pipeline:
        """Adds a step at the end."""
        return replace(self, steps=(*self.steps, Step.of(name, config)))


@dataclass(frozen=True)
class Drawn:
    """What one step has drawn for a batch.

    Attributes:
        step: Its position in the pipeline.
        chosen: Which images the step changes, bool (N,).
        params: One row per image, also for those that are not chosen.
    """

    step: int
    chosen: Tensor
    params: Params


class ChainStep(NamedTuple):
    """A step that is ready to run.

    Attributes:
        index: Its position in the pipeline.
        step: What it was made of.
        stream: The name of its random numbers.
        operation: What draws and applies.
    """

    index: int
    step: Step
    stream: str
    operation: Operation


class Chain:
    """A pipeline that is ready to run: its models are open, the images that it mixes in are at hand.

    An image depends on its id, the seed and the steps, never on what else is in the batch; a step that is moved or
    switched off leaves the numbers of the others alone.

    Args:
        pipeline: What to run.
        context: Other images, for the steps that mix them in.

    Raises:
        UserError: If a step has not what it needs.
    """

    def __init__(self, pipeline: Pipeline, context: Context | None = None) -> None:
        self.pipeline, self.context = pipeline, context or Context()
        self.steps: list[ChainStep] = []
        counts: dict[str, int] = {}
        for index, step in enumerate(pipeline.steps):
            count = counts[step.name] = counts.get(step.name, 0) + 1
            if step.on:
                entry = step.entry
                operation = entry.make(entry.config.of(step.config, step.name), self.context)
                stream = f"augment.{step.name}.{count}"
                self.steps.append(ChainStep(index, step, stream, operation))

    def draw(self, seed: int, ids: Sequence[int] | Tensor, y: Tensor | None = None) -> list[Drawn]:
        """Draws the parameters of every step for the images with these ids.

        Args:
            seed: Of the whole chain.
            ids: One number per image, (N,); on the device that the images lie on.
            y: Labels (N,), for the steps that make images of a class.
        """
        ids = torch.as_tensor(ids, dtype=torch.int64)
        drawn = []
        for index, step, stream, operation in self.steps:
            draws = Draws(seed, ids, stream, y)
            if step.probability >= 1:
                chosen = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
            else:
                chosen = draws.uniform("chosen") < step.probability
            drawn.append(Drawn(index, chosen, operation.draw(draws)))
        return drawn

    @torch.no_grad()
    def apply(self, x: Batch, drawn: Sequence[Drawn]) -> Batch:
        """Changes items in [0, 1], (N, …), by what was drawn; the same again gives the same images."""
        return self.last(x, drawn)

    def last(self, x: Batch, drawn: Sequence[Drawn]) -> Batch:
        """Does what :meth:`apply` does, and lets a gradient pass."""
        return self.stages(x, drawn, every=False)[-1] if drawn else x

    def stages(
        self,
        x: Batch,
        drawn: Sequence[Drawn],
        times: list[float] | None = None,
        every: bool = True,
    ) -> list[Batch]:
        """Gives the images after each step.

        Affine steps that follow each other read the image once, with one map. Without ``every``, only the last of them
        makes images. ``times`` takes the seconds of each step.
        """
        form = form_of(x.shape[1:])
        tokens = all("tokens" in ready.step.entry.takes for ready in self.steps)
        if form != "sequence" or not tokens:  # whose shape is the same
            self.pipeline.allow(form)
        stages: list[Batch] = []
        start, joint, fill = x, None, ""
        for i, ((_, _, _, operation), row) in enumerate(zip(self.steps, drawn, strict=True)):
            began = time.perf_counter()
            if isinstance(operation, Affine):
                if joint is not None and fill != operation.config.fill:
                    start, joint = stages[-1], None
                fill = operation.config.fill
                matrix = operation.matrix(row.params, x)
                matrix = torch.where(row.chosen[:, None, None], matrix, _STILL.to(x))
                joint = matrix if joint is None else geometry.after(joint, matrix)
                if not every and self._joins(i + 1, fill):
                    continue
                images = geometry.moved(start, joint, fill)
                # an image that nothing moves stays equal bit by bit
                still = (joint == _STILL.to(x)).all(2).all(1)
                images = torch.where(still[:, None, None, None], start, images)
            else:
                images = _applied(operation, stages[-1] if stages else x, row)
                start, joint = images, None
            stages.append(images)
            if times is not None:
                times.append(time.perf_counter() - began)
        return stages

    def _joins(self, index: int, fill: str) -> bool:
        """Tells whether a step of the chain joins the map of those before it."""
        if index == len(self.steps):
            return False
        operation = self.steps[index].operation
        return isinstance(operation, Affine) and operation.config.fill == fill

    def __call__(
        self, x: Batch, seed: int, ids: Sequence[int] | Tensor, y: Tensor | None = None
    ) -> Batch:
        """Draws and applies."""
        return self.apply(x, self.draw(seed, torch.as_tensor(ids, device=x.device), y))

    def labels(self, y: Tensor, drawn: Sequence[Drawn]) -> Tensor:
        """Gives the labels of the changed images: shares (N, K) if a step mixes labels, else ``y`` (N,) itself.

        Raises:
            UserError: If a step mixes labels and the images have none.
        """
        shares: Tensor | None = None
        for (_, step, _, _), row in zip(self.steps, drawn, strict=True):
            if not step.entry.labels:
                continue
            pool = self.context.y
            if pool is None:
                raise UserError(
                    f"{step.title} mixes labels, and these images have none. Choose a dataset with labels."
                )
            if shares is None:
                shares = F.one_hot(y, self.context.classes).float()
            partner = F.one_hot(pool[row.params["_partner"]].to(y), self.context.classes).float()
            share = torch.where(row.chosen, row.params["share"], 1.0)[:, None]
            shares = share * shares + (1 - share) * partner
        return y if shares is None else shares

    def values(self, drawn: Sequence[Drawn], image: int) -> list[dict[str, str] | None]:
        """Writes what each step has drawn for one image of the batch, by name; None where the step leaves it alone."""
        return [
            _values(step, {name: value[image] for name, value in row.params.items()})
            if bool(row.chosen[image])
            else None
            for (_, step, _, _), row in zip(self.steps, drawn, strict=True)
        ]


def _applied(operation: Operation, x: Batch, row: Drawn) -> Batch:
    if not len(x):
        return x
    if x.device.type == "cpu":  # on a GPU asking for all() or any() would wait for it
        if bool(row.chosen.all()):
            return operation.apply(x, row.params)
        if not bool(row.chosen.any()):
            return x
        x = x.clone()
        x[row.chosen] = operation.apply(x[row.chosen], rows(row.params, row.chosen))
        return x
    return torch.where(wide(row.chosen, x), operation.apply(x, row.params), x)


def _values(step: Step, row: Mapping[str, Tensor]) -> dict[str, str]:
    values = {}
    for name, value in row.items():
        if name == "operation":
            values[name] = policies.described(value, row["magnitude"])
        elif name == "magnitude" and "operation" in row:
            continue
        elif not name.startswith("_") and name != "label":
            values[name] = f"{plain(float(f'{float(value):.3g}'))}{step.entry.units.get(name, '')}"
    return values


# --- Looking at a chain -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """The images after one step.

    Attributes:
        title: Of the step; ``Original`` for the first frame.
        step: Its position in the pipeline, -1 for the first frame.
        images: uint8 (N, …), 0 … 255.
        values: Per image, what was drawn; None where the step left it alone.
        ms_per_image: Time of the step.
    """

    title: str
    step: int
    images: np.ndarray
    values: list[dict[str, str] | None]
    ms_per_image: float


@torch.no_grad()
def film(
    chain: Chain,
    x: Batch,
    seed: int,
    ids: Sequence[int] | Tensor,
    y: Tensor | None = None,
    write: Write = to_bytes,
) -> list[Frame]:
    """Shows images after each step, with the values drawn for each; the first frame is the original.

    ``write`` stores them, as :class:`core.media.Medium` does.
    """
    drawn = chain.draw(seed, torch.as_tensor(ids, device=x.device), y)
    values = zip(*(chain.values(drawn, image) for image in range(len(x))), strict=True)
    times: list[float] = []
    stages = chain.stages(x, drawn, times)
    return [Frame("Original", -1, write(x), [{} for _ in range(len(x))], 0.0)] + [
        Frame(ready.step.title, ready.index, write(images), list(texts), 1000 * seconds / len(x))
        for ready, images, texts, seconds in zip(chain.steps, stages, values, times, strict=True)
    ]


def grid(
    chain: Chain,
    x: Batch,
    seed: int,
    draws: int,
    y: Tensor | None = None,
    write: Write = to_bytes,
) -> np.ndarray:
    """Draws several versions of each image at once, uint8 (N, draws, C, H, W), or as ``write`` stores them.

    Version d of image i has the id ``1000 i + d``.
    """
    image = torch.arange(len(x), device=x.device).repeat_interleave(draws)
    version = torch.arange(draws, device=x.device).repeat(len(x))
    versions = chain(x[image], seed, 1000 * image + version, None if y is None else y[image])
    return write(versions).reshape(len(x), draws, *x.shape[1:])


@dataclass(frozen=True)
class Sweep:
    """One step at rising magnitudes.

    Attributes:
        knob: The magnitude's name.
        values: From the neutral value to the far end, (V,).
        images: uint8 (V, N, C, H, W); the same draws at every value.
    """

    knob: str
    values: list[float]
    images: np.ndarray


def magnitudes(name: str, count: int = 7) -> list[float]:
    """Lists values of a step's magnitude, from the neutral one to the far end of what is allowed.

    Raises:
        UserError: If the step has no magnitude.
    """
    entry = augmentations.get(name)
    strength = entry.strength
    if not strength:
        raise UserError(
            f"{entry.title} has no magnitude to sweep. Steps with one are: "
            + ", ".join(other.title for other in augmentations if other.strength)
            + "."
        )
    knob = entry.config.knobs()[strength]
    start = float(entry.neutral)
    assert knob.low is not None
    assert knob.high is not None
    end = knob.low if start == knob.high else knob.high
    values = [start + (end - start) * i / (count - 1) for i in range(count)]
    if knob.type is int:
        return [float(value) for value in dict.fromkeys(round(value) for value in values)]
    return [float(f"{value:.4g}") for value in values]


def at(name: str, config: Mapping[str, Any], value: float) -> Step:
    """Gives a step at one magnitude, for every image."""
    entry = augmentations.get(name)
    strength = entry.strength
    kind = entry.config.knobs()[strength].type
    return Step.of(name, dict(config) | {strength: kind(value)}, 1.0)


def sweep(
    name: str,
    config: Mapping[str, Any],
    x: Batch,
    values: int = 7,
    seed: int = 0,
    context: Context | None = None,
    y: Tensor | None = None,
    write: Write = to_bytes,
) -> Sweep:
    """Shows the same draws of one step at rising magnitudes.

    Raises:
        UserError: If the step has no magnitude.
    """
    chosen = magnitudes(name, values)
    chains = [Chain(Pipeline((at(name, config, value),)), context) for value in chosen]
    images = np.stack([write(chain(x, seed, range(len(x)), y)) for chain in chains])
    return Sweep(augmentations.get(name).strength, chosen, images)

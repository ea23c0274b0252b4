"""Steps made of a trained model: another image of the same class, or a neighbour of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from core import jobs, runs
from core.augment.catalogue import Context, Draws, Params, augmentations
from core.catalog import Config, UserError, knob
from core.datasets import Dataset
from core.media import FORMS, Medium, media
from core.models import Encodes, Spec
from core.norms import wide
from core.tensors import Batch, noise


def run_knob() -> Any:
    """Declares the run whose model is used."""
    return knob("", "The run whose model makes the images.", title="Run")


def opened(run: str) -> runs.Opened:
    """Opens the generative model of a run.

    Raises:
        UserError: If there is none of that name, it is a classifier, or it has no checkpoint.
    """
    if not run:
        raise UserError(
            "A generative step needs a run, got ''. Choose a trained model, or leave this step out."
        )
    return runs.open_model(runs.find(run, generator=True))


def fitting(model: runs.Opened, x: Batch) -> Medium:
    """Gives the medium of a model, and refuses items that are not of the shape that it makes.

    Raises:
        UserError: If the shapes differ.
    """
    medium = media.get(model.spec.medium)
    seen = medium.to_model(x).shape[1:]
    shapes = [" × ".join(map(str, shape)) for shape in (model.spec.shape, seen)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"The run {model.run} makes images of {shapes[0]}, and these have {shapes[1]}. "
            "Choose a run that was trained on images like these."
        )
    return medium


def runs_for(name: str, dataset: Dataset) -> list[jobs.Job]:
    """Lists the finished runs that a generative step may use on a dataset, newest first.

    Args:
        name: Of the step; ``neighbour`` needs a model that encodes and decodes.
        dataset: Whose images are augmented; runs of its own images come first, then those of its parents.
    """
    own, kin, others = [], [], []
    family, source = {dataset.name}, dataset.source
    while isinstance(source, Mapping):  # its parents
        family.add(str(source.get("name", "")))
        source = source.get("origin")
    for run in runs.generators():
        try:
            record = runs.record(run)
        except UserError:
            continue
        spec = Spec.of(record["spec"])
        if (spec.medium, spec.shape) != (dataset.medium.name, dataset.seen):
            continue
        if name == "neighbour" and not _encodes(run):
            continue
        same = record["dataset"]["fingerprint"] == dataset.fingerprint
        related = record["dataset"].get("name") in family
        (own if same else kin if related else others).append(run)
    return own + kin + others


_encoders: dict[str, bool] = {}  # by family, whether its models encode


def _encodes(run: jobs.Job) -> bool:
    family = runs.family_of(run)
    if family not in _encoders:
        try:
            model = runs.open_model(run).model
        except UserError:
            return False
        _encoders[family] = isinstance(model, Encodes)
    return _encoders[family]


class SampleConfig(Config):
    """Which model is asked."""

    run: str = run_knob()


@augmentations.add(
    "sample",
    "Another of its class",
    SampleConfig,
    group="Generative",
    chance=0.5,
    slow=True,
    needs=("run",),
    takes=FORMS,
)
class Sample:
    """Replaces the image by one that a model makes of the same class; without labels, by any."""

    def __init__(self, config: SampleConfig, context: Context) -> None:
        self.opened = opened(config.run)

    def draw(self, draws: Draws) -> Params:
        return {"_id": draws.keys()} | _label(self.opened, draws)

    def apply(self, x: Batch, params: Params) -> Batch:
        model, medium = self.opened.model, fitting(self.opened, x)
        device = next(model.parameters()).device
        y = params["label"].to(device) if model.classes else None
        with torch.inference_mode():
            samples = model.sample(params["_id"].tolist(), y, 0, self.opened.usual)
        return medium.from_model(samples).clone().to(x)


class NeighbourConfig(Config):
    """Which model is asked, and how far it goes."""

    run: str = run_knob()
    strength: float = knob(
        0.3, "How far it moves; 0 changes nothing, 1 forgets the image.", ge=0, le=1
    )


@augmentations.add(
    "neighbour",
    "Neighbour in latent space",
    NeighbourConfig,
    group="Generative",
    strength="strength",
    slow=True,
    needs=("run",),
    takes=FORMS,
    units={"moved": ""},
)
class Neighbour:
    """Encodes the image, moves it a little in the latent space, and decodes it there.

    What the model misses of the image (the difference to its reconstruction) is added, less of it the farther it moves.
    """

    def __init__(self, config: NeighbourConfig, context: Context) -> None:
        self.config, self.opened = config, opened(config.run)
        if not isinstance(self.opened.model, Encodes):
            raise UserError(
                f"The run {self.opened.run} is a {self.opened.family}, which cannot encode an image. "
                "A VAE, flow or diffusion model can: choose one of their runs."
            )

    def draw(self, draws: Draws) -> Params:
        moved = draws.uniform("moved", high=self.config.strength)
        return {"moved": moved, "_key": draws.keys()} | _label(self.opened, draws)

    def apply(self, x: Batch, params: Params) -> Batch:
        medium = fitting(self.opened, x)
        model, sampling = self.opened.model, self.opened.usual
        device = next(model.parameters()).device
        y = params["label"].to(device) if model.classes else None
        with torch.inference_mode():
            z = model.encode(medium.to_model(x.to(device)), y, sampling)
            moved = params["moved"].to(device)[:, None]
            step = noise(0, params["_key"], z.shape[1:], "neighbour", device=device)
            # a turn, so that latents keep their length
            new = z * (1 - moved.square()).sqrt() + step * moved
            old, near = (medium.from_model(model.decode(p, y, sampling)) for p in (z, new))
        rest = wide(1 - params["moved"].to(x), x) * (x - old.clone().to(x))
        return (near.clone().to(x) + rest).clamp(0, 1)


def _label(opened: runs.Opened, draws: Draws) -> Params:
    """Gives the labels to a model that makes images of a class, and nothing to any other."""
    if not opened.model.classes:
        return {}
    if draws.y is None:
        raise UserError(
            f"The run {opened.run} makes images of a class, and these have no labels. "
            "Choose a run that was trained without labels, or a dataset with labels."
        )
    return {"label": draws.y}

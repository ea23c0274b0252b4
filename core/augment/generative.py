"""Steps made of a trained model: another image of the class, a neighbour of this one, or this one partly made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from core import jobs, runs
from core.augment.catalogue import Context, Draws, Params, augmentations
from core.augment.mixing import box
from core.catalog import Config, UserError, knob
from core.datasets import Dataset
from core.media import FORMS, Medium, media
from core.models import Encodes, Spec, families
from core.norms import wide
from core.tensors import Batch, noise

ENOUGH = 0.4  # share of the work of a repair after which an augmentation takes what there is


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
        name: Of the step; ``neighbour`` needs a model that encodes and decodes, ``repair`` one that fills holes: those
            of a better method come first.
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
        if (rank := _rank(name, run)) is None:
            continue
        same = record["dataset"]["fingerprint"] == dataset.fingerprint
        related = record["dataset"].get("name") in family
        (own if same else kin if related else others).append((rank, run))
    return [run for some in (own, kin, others) for _, run in sorted(some, key=lambda at: at[0])]


def _encodes(opened: runs.Opened) -> Rank:
    return (0,) if isinstance(opened.model, Encodes) else None


def _fills(opened: runs.Opened) -> Rank:
    """Ranks by the method, and by whether the model can make every image: then it encodes them, too."""
    from core import latent
    from core.latent import repair

    if not latent.supports(opened.model):
        return None
    fitting = repair.methods(latent.open_space(opened))
    return (fitting[0].order, not isinstance(opened.model, Encodes)) if fitting else None


Rank = tuple[int, ...] | None  # lower is better; None where a model cannot do it
_RANKS: Mapping[str, Callable[[runs.Opened], Rank]] = {"neighbour": _encodes, "repair": _fills}
_known: dict[tuple[str, str], Rank] = {}  # by step and by what is known of its models at once


def _rank(name: str, run: jobs.Job) -> Rank:
    """Tells how well a run's model can do a step; models of one family that were trained here can do the same."""
    if name not in _RANKS:
        return (0,)
    family = runs.family_of(run)
    kind = family if family in families.names() else run.id
    if (name, kind) not in _known:
        try:
            opened = runs.open_model(run)
        except UserError:
            return None
        _known[name, kind] = _RANKS[name](opened)
    return _known[name, kind]


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


class RefillConfig(Config):
    """Which model is asked, and how much it fills."""

    run: str = run_knob()
    share: float = knob(0.25, "Largest share of the area.", ge=0, le=1, title="Hidden")


@augmentations.add(
    "repair",
    "Fill a hole anew",
    RefillConfig,
    group="Generative",
    strength="share",
    slow=True,
    needs=("run",),
    units={"hidden": " of the area"},
)
class Refill:
    """Hides a box of the image, and lets a model fill it with what could have been there; the rest stays as it is."""

    def __init__(self, config: RefillConfig, context: Context) -> None:
        from core import latent
        from core.latent import repair

        self.config, self.opened = config, opened(config.run)
        self.space = latent.open_space(self.opened)
        best = repair.method_of(self.space)
        self.method = best.preview or best.name  # the quick one, where there are two

    def draw(self, draws: Draws) -> Params:
        hidden = draws.uniform("hidden", high=self.config.share)
        wide = (hidden.sqrt() * draws.uniform("aspect", low=-0.35, high=0.35).exp()).clamp(max=1)
        right, down = draws.uniform("place", 2).unbind(1)
        drawn = {"hidden": hidden, "_wide": wide, "_right": right, "_down": down}
        return drawn | {"_key": draws.keys()} | ({} if draws.y is None else {"label": draws.y})

    def apply(self, x: Batch, params: Params) -> Batch:
        from core.latent import repair

        medium = fitting(self.opened, x)
        high = (params["hidden"] / params["_wide"].clamp_min(1e-6)).clamp(max=1)
        inside = box(x.shape[2:], params["_right"], params["_down"], params["_wide"], high)
        made = x.clone()
        for i in range(len(x)):
            label = None
            if self.opened.model.classes and "label" in params:
                label = int(params["label"][i])
            steps = repair.fill(
                self.space,
                medium.to_model(x[i : i + 1]),
                repair.Known.mask(~inside[i]),
                fills=1,
                label=label,
                seed=int(params["_key"][i]),
                method=self.method,
            )
            filled = next(filled for filled in steps if filled.done >= ENOUGH)
            made[i] = torch.where(inside[i], medium.from_model(filled.images)[0].to(x), x[i])
        return made


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

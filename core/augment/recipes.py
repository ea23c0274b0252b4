"""Recipes: presets, pipelines that a person saved, and their exchange with other programs."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import jobs
from core.augment import exports
from core.augment.pipeline import FORMAT, VERSION, Chain, Pipeline, Step
from core.catalog import UserError, unknown
from core.ground import files, untrusted
from core.ground.settings import settings
from core.media import Form
from core.tensors import rows
from core.training import Transform

DIALECTS = ("json", "yaml", *exports.LIBRARIES)
ADDRESS = untrusted.Limits(characters=8_000, values=1_000)
REMEMBERED = 64
_refused: dict[str, str] = {}  # why, by the sha-256 of the recipe


# --- Presets and saved pipelines --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """A pipeline that comes with the program.

    Attributes:
        id: What :func:`load` takes.
        title: A few words.
        why: For which images it is meant, and what it leaves out.
    """

    id: str
    title: str
    why: str
    pipeline: Pipeline


def _preset(id: str, title: str, why: str, *steps: tuple[Any, ...]) -> Preset:
    return Preset(id, title, why, Pipeline(tuple(Step.of(*step) for step in steps), title))


@cache
def presets() -> list[Preset]:
    """Lists the pipelines that come with the program."""
    return [
        _preset(
            "digits",
            "Handwriting",
            "Small turns, shifts, zooms and slants, as hands vary. No mirrors: a mirrored digit is no digit.",
            ("rotate", {"degrees": 10, "fill": "black"}),
            ("translate", {"share": 0.1, "fill": "black"}),
            ("scale", {"share": 0.1, "fill": "black"}),
            ("shear", {"degrees": 8, "fill": "black"}),
        ),
        _preset(
            "photos",
            "Photographs",
            "Mirror, crop and mild colours: a thing stays itself a little nearer, turned round, in other light.",
            ("flip",),
            ("crop", {"share": 0.3}),
            ("brightness", {"amount": 0.2}),
            ("contrast", {"amount": 0.2}),
            ("saturation", {"amount": 0.3}),
        ),
        _preset(
            "faces",
            "Faces",
            "Mirror, small turns and zooms, mild light. No vertical mirror, and no hue: skin has its colours.",
            ("flip",),
            ("rotate", {"degrees": 8}),
            ("scale", {"share": 0.08}),
            ("brightness", {"amount": 0.15}),
        ),
        _preset(
            "scans",
            "X-rays and scans",
            "Small turns and shifts, contrast, noise. No mirror: the heart is on the left.",
            ("rotate", {"degrees": 5, "fill": "black"}),
            ("translate", {"share": 0.05, "fill": "black"}),
            ("contrast", {"amount": 0.2}),
            ("gamma", {"amount": 0.2}),
            ("noise", {"sigma": 0.03}),
        ),
        _preset(
            "camera",
            "A poor camera",
            "Blur, noise and dark light, for a model that meets such pictures; it rarely helps on clean ones.",
            ("blur", {"sigma": 1.0}, 0.5),
            ("brightness", {"amount": 0.4}),
            ("noise", {"sigma": 0.08}, 0.5),
        ),
        _preset(
            "sounds",
            "Sounds",
            "Shifts, loudness, noise, gaps, mild speed and pitch: as another voice, room and microphone.",
            ("sound_shift",),
            ("sound_gain",),
            ("sound_speed", {"amount": 0.1}),
            ("sound_pitch", {"semitones": 3}),
            ("sound_room", {}, 0.3),
            ("sound_noise",),
            ("time_mask", {}, 0.5),
            ("frequency_mask",),
        ),
        _preset(
            "texts",
            "Texts",
            "Letters that change places, and words that go or are hidden, a few of each.",
            ("text_swap", {"share": 0.05}, 0.5),
            ("text_drop", {"share": 0.1}, 0.5),
            ("text_mask", {"share": 0.1}, 0.5),
        ),
        _preset(
            "trivial",
            "TrivialAugment",
            "One operation at one strength, drawn for each image: nothing to tune, and the one to beat.",
            ("trivial_augment",),
        ),
    ]


@dataclass(frozen=True)
class Saved:
    """A pipeline that a person saved; it never changes under its id."""

    id: str
    name: str
    hash: str
    created: float
    who: str
    pipeline: Pipeline


def _folder() -> Path:
    return settings().home.absolute() / "pipelines"


def save(pipeline: Pipeline, name: str, who: str = "") -> str:
    """Keeps a pipeline; the same steps under the same name are kept once.

    Returns:
        Its id: the name with the start of its hash.

    Raises:
        UserError: If the server is view-only, the name is empty, or there is no step.
    """
    settings().allow_change("save a pipeline")
    name = jobs.clean(name)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    if not slug:
        raise UserError(
            f"A pipeline's name needs at least one letter or digit, got {name!r}. For example 'gentle'."
        )
    if not pipeline.steps:
        raise UserError("A pipeline needs at least 1 step, got 0. Add a step, then save it.")
    whole = Pipeline(pipeline.steps, name)
    text = json.dumps(whole.record()["steps"], sort_keys=True)
    id = f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with files.full_disk_told():
        _folder().mkdir(parents=True, exist_ok=True)
        file = _folder() / f"{id}.json"
        if not file.exists():
            files.write_json(file, whole.record() | {"created": time.time(), "who": who})
    return id


def saved() -> list[Saved]:
    """Lists the saved pipelines, newest first, without those that cannot be read; :func:`load` says why."""
    pipelines = []
    for file in _folder().glob("*.json"):
        try:
            pipelines.append(_opened(file))
        except UserError:
            continue
    return sorted(pipelines, key=lambda item: (-item.created, item.id))


def _opened(file: Path) -> Saved:
    record = files.read_json(file)
    created, who = record.pop("created", 0.0), record.pop("who", "")
    pipeline = _of(record, str(file))
    return Saved(file.stem, pipeline.name, pipeline.hash, float(created), str(who), pipeline)


def load(id: str) -> Pipeline:
    """Opens a preset or a saved pipeline.

    Raises:
        UserError: If there is none of this id, or its file is damaged.
    """
    for preset in presets():
        if preset.id == id:
            return preset.pipeline
    known = [file.stem for file in _folder().glob("*.json")]
    if id not in known:  # what somebody typed never becomes a path
        raise UserError(unknown("pipeline", id, [*(p.id for p in presets()), *known]))
    return _opened(_folder() / f"{id}.json").pipeline


def forget(id: str) -> None:
    """Deletes a saved pipeline; runs that were trained with it keep its steps in their record.

    Raises:
        UserError: If the server is view-only, or there is no saved pipeline of this id.
    """
    settings().allow_change("delete a pipeline")
    if id in {preset.id for preset in presets()}:
        raise UserError(
            f"The pipeline {id!r} comes with the program and cannot be deleted. Only saved ones can."
        )
    load(id)
    with files.full_disk_told():
        (_folder() / f"{id}.json").unlink(missing_ok=True)


def trainable(form: Form = "picture", medium: str = "") -> dict[str, str]:
    """Gives the titles of the presets and the saved pipelines that a training on such items can use, by id."""
    pipelines = {preset.id: (preset.title, preset.pipeline) for preset in presets()}
    pipelines |= {item.id: (f"{item.name} (saved)", item.pipeline) for item in saved()}
    return {
        id: title
        for id, (title, pipeline) in pipelines.items()
        if pipeline.fits(form, medium) and not (pipeline.slow or pipeline.mixing)
    }


def training(pipeline: Pipeline) -> Transform:
    """Makes of a pipeline a function that augments a batch of a training, with the generator of its step.

    Raises:
        UserError: If a step works image by image, or mixes labels.
    """
    if pipeline.slow:
        raise UserError(
            f"{_sentence(pipeline.slow)} one image at a time, too slow for training. "
            "Switch it off, or apply the chain to the dataset first and train on the result."
        )
    if pipeline.mixing:
        raise UserError(
            f"{_sentence(pipeline.mixing, 'mix')} labels, which a training from a dataset cannot take. "
            "Switch it off; the experiment on the Augment page can measure it."
        )
    chain = Chain(pipeline)

    def transform(x: Tensor, generator: torch.Generator) -> Tensor:
        # a random id per image, drawn on its device, so that nothing waits for a copy
        draw = partial(torch.randint, 2**62)
        ids = rows(draw, (len(x),), generator=generator, device=x.device)
        return chain(x, 0, ids)

    return transform


def _sentence(titles: list[str], verb: str = "work") -> str:
    names = " and ".join(dict.fromkeys(titles))
    return f"{names} {verb if len(set(titles)) > 1 else verb + ('es' if verb == 'mix' else 's')}"


# --- Exchange ---------------------------------------------------------------------------------------------------------


def export(pipeline: Pipeline, dialect: str) -> str:
    """Writes a pipeline for another program.

    Args:
        pipeline: What to write.
        dialect: One of :data:`DIALECTS`; ``torchvision`` and ``albumentations`` are programs that run.

    Raises:
        UserError: If there is no such dialect.
    """
    if dialect == "json":
        return json.dumps(pipeline.record(), indent=2) + "\n"
    if dialect == "yaml":
        import yaml

        return yaml.safe_dump(pipeline.record(), sort_keys=False, allow_unicode=True)
    if dialect in exports.LIBRARIES:
        return exports.program(pipeline, dialect)
    raise UserError(unknown("recipe format", dialect, DIALECTS))


def read(text: str) -> Pipeline:
    """Reads a recipe in JSON or YAML; one that was refused is not parsed again.

    Raises:
        UserError: If it is no recipe, of an unknown version, or a step or parameter of it does not exist.
    """
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    if digest in _refused:
        raise UserError(_refused[digest])
    try:
        return _read(text)
    except UserError as error:
        _refused[digest] = str(error)
        while len(_refused) > REMEMBERED:
            _refused.pop(next(iter(_refused)), None)
        raise


def _read(text: str) -> Pipeline:
    try:
        record = untrusted.read_data(text, "A recipe")
    except untrusted.NoData as error:
        raise UserError(
            f"This is neither JSON nor YAML: it cannot be read{error}. Choose a recipe that was exported here."
        ) from None
    if not isinstance(record, dict):
        raise UserError(
            f"A recipe must be an object with format, version and steps, got {record!r:.60}. "
            "Choose a recipe that was exported here."
        )
    return _of(record, "The recipe")


def unfolded(text: str) -> Pipeline:
    """Reads the chain in an address: ``[[name, {parameters}, probability, enabled], …]``.

    Raises:
        UserError: If it is none, or a step or parameter of it does not exist.
    """
    try:
        chain = untrusted.read_json(text, "The chain in the address", ADDRESS)
        steps = [
            {"name": name, "parameters": parameters, "probability": p, "enabled": bool(on)}
            for name, parameters, p, on in chain
        ]
    except (untrusted.NoData, ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            "The chain in the address is no list of steps. Copy the whole link, or build the chain anew."
        ) from None
    return Pipeline.of(steps)


def _of(record: dict[str, Any], where: str) -> Pipeline:
    if record.get("format") != FORMAT:
        raise UserError(
            f"{where} has the format {record.get('format')!r}, and {FORMAT!r} is read. "
            "Choose a recipe that was exported here."
        )
    if record.get("version") != VERSION:
        raise UserError(
            f"{where} has version {record.get('version')!r}, and this program reads version {VERSION}. "
            "Export it again with this version, or update the program."
        )
    steps, name = record.get("steps"), record.get("name", "")
    if not isinstance(steps, list):
        raise UserError(f"{where} has no list of steps, got {steps!r:.60}. Export it again.")
    return Pipeline.of(steps, jobs.clean(str(name)))


def photos(size: int) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Gives scikit-learn's two photographs, uint8 (2, 3, size, size), with their names and the credit to show."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    squares = []
    for picture in load_sample_images().images:
        height, width, _ = picture.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(picture[top : top + side, left : left + side])
        squares.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    credit = (
        "Photographs: China by danielbuechele, flower by vultilion (Flickr, CC BY 2.0); "
        "they come with scikit-learn."
    )
    return np.stack(squares).transpose(0, 3, 1, 2), ("China", "flower"), credit

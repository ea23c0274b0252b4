"""A run in one file, which opens elsewhere: the weights of a checkpoint, and what they have learned from.

A pack is a ZIP of JSON and safetensors alone, so that opening one runs nothing. What a model of ours draws depends on
its weights, on the shares of its classes and on seed and id; all of these travel, so that the same samples come out,
bit for bit on a processor of the same kind.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as as_bytes

from core import datasets, fitted, jobs, runs, weights
from core.catalog import Config, UserError
from core.fitted import Fitted
from core.models import Spec, families
from core.weights import Package

RECORD = "simulacra.json"
MODEL = "model.safetensors"
LEARNED = "learned.safetensors"
FORMAT = 1
CLAIMED = "only its pack says so, and it was not trained here"
AGAIN = "Pack the run again where it was trained, and bring that file."


@dataclass(frozen=True)
class Pack:
    """What a pack says of the run that is in it.

    Attributes:
        family, config: The family of the model, and its parameters.
        spec: What the model makes.
        listens: How many classes it listens to; 0 for one that ignores them.
        classes: Names of the classes.
        sampling: What its owner draws with, by parameter; what differs from the usual alone.
        step, images, batch, seed: Of the checkpoint and its training.
        terms: The ``licence`` and ``consent`` of the model.
        about: Where it comes from: name, run, dataset, versions.
    """

    family: str
    config: Config
    spec: Spec
    listens: int
    classes: tuple[str, ...]
    sampling: Mapping[str, Any]
    step: int
    images: int
    batch: int
    seed: int
    terms: Mapping[str, str]
    about: Mapping[str, Any] = field(default_factory=dict)


def pack(
    run: jobs.Job,
    step: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    terms: Mapping[str, str] | None = None,
) -> bytes:
    """Puts a run of one of our families into a ZIP.

    Args:
        run: The run.
        step: Of the checkpoint; that of :func:`core.runs.preferred` by default.
        sampling: Parameters of drawing that are usual where it is opened.
        terms: Its ``licence`` and ``consent``; those of its dataset where left out.

    Raises:
        UserError: If it is no generative model of a family, has no whole checkpoint, or a parameter is not allowed.
    """
    family = runs.family_of(run)
    if not runs.generates(run) or family not in families:
        raise UserError(
            f"{run.name} is no run of a family of ours ({', '.join(families.names())}), and only these can be packed. "
            "What was brought is in the file that it came as: bring that elsewhere, too."
        )
    opened = runs.open_model(run, step)
    record = runs.record(run)
    usual = families.get(family).sampling
    asked = usual.of({**record.get("sampling", {}), **(sampling or {})}, "sampling")
    source = record["dataset"]
    said = dict(terms or {}) or dict(record.get("terms", {})) or _terms(source)
    model = (run.path / "checkpoints" / str(opened.step) / MODEL).read_bytes()
    learned = fitted.of(run)
    described = {
        "format": FORMAT,
        "name": run.name,
        "run": run.id,
        "family": family,
        "config": record[runs.trained(record).part]["config"],
        "spec": record["spec"],
        "listens": opened.model.classes,
        "classes": source["classes"],
        "sampling": {k: v for k, v in asked.record().items() if v != getattr(usual(), k)},
        "step": opened.step,
        "train": {name: record["train"][name] for name in ("batch", "images", "seed")},
        "dataset": {"name": source["name"], "fingerprint": source.get("fingerprint", "")},
        "terms": said,
        "learned": {
            "known": learned.train is not None,
            "shape": list(learned.shape),
            "levels": learned.levels,
            "unknown": learned.unknown,
        },
        "sha256": hashlib.sha256(model).hexdigest(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }
    digests = {
        part: torch.from_numpy(np.ascontiguousarray(keys).view(np.int64).copy())
        for part, keys in (("train", learned.train), ("valid", learned.valid))
        if keys is not None and len(keys)
    }
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as out:
        out.writestr(_entry(RECORD), json.dumps(described, indent=1))
        out.writestr(_entry(MODEL), model)
        if digests:
            out.writestr(_entry(LEARNED), as_bytes(digests))
    return memory.getvalue()


def read(package: Package) -> Pack:
    """Reads what a pack says; no number of its weights is read.

    Raises:
        UserError: If a later version wrote it, it is damaged, or a parameter is not allowed.
    """
    said = package.json(RECORD)
    form = said.get("format")
    if not isinstance(form, int) or isinstance(form, bool) or form < 1:
        raise _damaged("format")
    if form > FORMAT:
        raise UserError(
            f"{package.name!r} was packed by a later version of Simulacra (format {form}; this one reads up to "
            f"{FORMAT}). Open it with that version, or pack it with this one."
        )
    _typed(said, {"family": str, "config": dict, "spec": dict, "listens": int, "classes": list, "sampling": dict,
                  "step": int, "train": dict, "terms": dict, "learned": dict, "sha256": str})  # fmt: skip
    train = _typed(said["train"], {"batch": int, "images": int, "seed": int}, "train.")
    if said["family"] not in families:
        raise UserError(
            f"{package.name!r} holds a {said['family'][:40]!r}, which this version does not know. Known are: "
            f"{', '.join(families.names())}. Open it with the version that packed it."
        )
    try:
        spec = Spec.of(said["spec"])
        size = int(np.prod(spec.shape))
        plain = all(isinstance(side, int) and 0 < side <= 65_536 for side in spec.shape)
        even = len(spec.shares) <= 100_000 and all(0 <= float(s) <= 1 for s in spec.shares)
        if not (plain and size <= 2**28 and even and 1 < spec.levels <= 2**16 and spec.form):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise _damaged("spec") from None
    names = said["classes"]
    if not all(isinstance(name, str) and len(name) <= 200 for name in names) or (
        spec.shares and len(names) != len(spec.shares)
    ):
        raise _damaged("classes")
    numbers = (said["step"], *train.values(), said["listens"])
    if not all(0 <= number < 2**53 for number in numbers):
        raise _damaged("train")
    family = families.get(said["family"])
    family.sampling.of(said["sampling"], "sampling")
    return Pack(
        family.name,
        family.config.of(said["config"], "family"),
        spec,
        said["listens"],
        tuple(names),
        said["sampling"],
        said["step"],
        train["images"],
        train["batch"],
        train["seed"],
        {name: str(said["terms"].get(name, ""))[:200] for name in ("licence", "consent")},
        {
            name: said[name]
            for name in ("name", "run", "dataset", "versions")
            if isinstance(said.get(name), str | dict)
        },
    )


def whole(package: Package) -> bytes:
    """Gives the file of weights of a pack, if it is the one that was packed.

    Raises:
        UserError: If it is gone, cut off or another one.
    """
    model, said = package[MODEL], package.json(RECORD).get("sha256")
    if hashlib.sha256(model).hexdigest() != said:
        raise UserError(
            f"{MODEL} of {package.name!r} is damaged or cut off: its digest is not the one that was packed. {AGAIN}"
        )
    return model


def learned(package: Package) -> Fitted:
    """Gives what the run in a pack has learned from: what is on record here, or else what its maker claims.

    Nobody can check a claim, so it is never the whole of what is known (:attr:`core.fitted.Fitted.known`); what it
    names counts as seen all the same.

    Raises:
        UserError: If that is damaged.
    """
    if (own := _own(package)) is not None:
        return fitted.of(own)
    said = _typed(
        package.json(RECORD)["learned"],
        {"known": bool, "shape": list, "levels": int, "unknown": str},
        "learned.",
    )
    if not 0 <= said["levels"] <= 2**16 or not all(
        isinstance(side, int) and 0 <= side <= 2**28 for side in said["shape"]
    ):
        raise _damaged("learned")
    if not said["known"]:
        return Fitted(None, unknown=said["unknown"][:200] or "its pack does not say it")
    parts = {part: np.zeros(0, np.uint64) for part in ("train", "valid")}
    if LEARNED in package:
        file = package[LEARNED]
        contents = weights.look(file)
        for name, part in contents.parts.items():
            if name not in parts or part.dtype != torch.int64 or len(part.shape) != 1:
                raise _damaged(LEARNED)
        tensors = weights.load(file, contents, {name: name for name in contents.parts})
        parts |= {name: np.unique(keys.numpy().view(np.uint64)) for name, keys in tensors.items()}
    return Fitted(
        parts["train"],
        parts["valid"],
        tuple(said["shape"]),
        said["levels"],
        said["unknown"][:200] or CLAIMED,
    )


def _own(package: Package) -> jobs.Job | None:
    """Finds the run of this computer that a pack was made of, by the very weights of its checkpoint."""
    said = package.json(RECORD)
    with suppress(UserError, OSError):
        run = jobs.get(str(said.get("run", "")))
        file = run.path / "checkpoints" / str(int(said["step"])) / MODEL
        if file.stat().st_size == len(package[MODEL]) and file.read_bytes() == whole(package):
            return run
    return None


def _terms(source: Mapping[str, Any]) -> dict[str, str]:
    try:
        return datasets.terms(
            source["name"], source["config"] if source["name"] in datasets.datasets else None
        )
    except UserError:
        return {"licence": "", "consent": ""}  # the dataset is gone


def _typed(said: Mapping[str, Any], types: Mapping[str, type], where: str = "") -> dict[str, Any]:
    for name, kind in types.items():
        value = said.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _damaged(where + name)
    return {name: said[name] for name in types}


def _damaged(what: str) -> UserError:
    return UserError(f"The record of this pack is damaged ({what} is missing or wrong). {AGAIN}")


def _entry(name: str) -> zipfile.ZipInfo:
    """Names a member without a date, so that the same run gives the same bytes."""
    return zipfile.ZipInfo(name)

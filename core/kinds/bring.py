"""Brings a generative model from outside: its weights are fitted, tried, and kept as the checkpoint of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core import datasets, fitted, jobs, runs
from core.catalog import Config, UserError
from core.ground import files
from core.kinds import Task, kinds
from core.kinds.train import RECORD, described
from core.models import Spec

FITTED = 2000  # training images, evenly out of all, that a model is fitted to which computes some of itself from data


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import brought

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "brought": brought.config_of(choice["brought"]),
        "terms": brought.TermsConfig,
    }


def _build(record: Mapping[str, Any], spec: Spec) -> Any:
    from core import brought

    return brought.generator(record["brought"], None, spec, record["dataset"]["classes"]).model


def _sampling(origin: str) -> type[Config] | None:
    from core import brought

    return brought.sampling(origin)


@kinds.add(
    "bring",
    "Bring a model",
    lane="short",
    parts=_parts,
    shape={"dataset": {"name": str}, "brought": {"name": str}},
    resumes="Resume tries its weights again.",
    trained=jobs.Trained("brought", _build, lambda record: (), _sampling),
)
def bring(task: Task) -> Iterator[dict[str, Any]]:
    """Fits the weights of a generative model from outside, and keeps them as a run that pages open."""
    import torch

    from core import brought
    from core.tensors import device
    from core.training import spec_of
    from core.training.batches import Split
    from core.weights import Package

    dataset, chosen = task.dataset(), task.config("brought")
    upload = task.path / brought.UPLOAD
    # what enters by code comes without files, and is tried all the same
    package = Package.kept(upload) if upload.exists() else Package("", {})
    opened = brought.generator(chosen, package, spec_of(dataset), dataset.classes)
    origins = brought.origins
    # a name that is none of them is that of a family, whose model is whole
    if chosen["name"] in origins and origins.get(chosen["name"]).fits:
        task.say("Fitting it to your images")
        train = Split(dataset, "train", device())
        few = torch.linspace(0, len(train) - 1, min(len(train), FITTED), device=device())
        opened.model.fit(*train.at(few.long()))
    task.say("Drawing the first images")
    with torch.inference_mode():
        x = opened.model.sample(range(2), None, 0, opened.usual)
    spec = opened.spec
    if tuple(x.shape[1:]) != spec.shape or not bool(x.isfinite().all()):
        raise UserError(
            f"The model draws {tuple(x.shape[1:])}, or numbers that are not finite; {dataset.name} has {spec.shape}. "
            "Choose the dataset that it belongs to, or other parameters."
        )
    facts = chosen.get("facts", {})
    record = {
        "brought": chosen | {"facts": facts | dict(opened.card.get("facts", {}))},
        "notes": list(opened.notes),
        "classes": opened.model.classes,
        "train": facts.get(
            "train", {"batch": 1, "images": 0, "seed": 0}
        ),  # nobody knows it otherwise
        "dataset": described(task, dataset),
        "spec": spec.record(),
        "terms": task.job.config.get("terms", {}),
        "package": {
            "name": package.name,
            "sha256": package.digest,
            "seconds": brought.pace(opened),
        },
        "sampling": facts.get("sampling", {}),
    }
    files.write_json(task.path / RECORD, record)
    if (learned := brought.learned(chosen, package)) is not None:
        fitted.write(task.path, learned)
    train, step = record["train"], facts.get("step", 0)
    images = min(step * train["batch"], train["images"])
    runs.save_checkpoint(task.path, opened.model, None, {"step": step, "images": images})
    upload.unlink(missing_ok=True)
    yield {"step": step, "images": images}

"""Trains a classifier on against attacks, and measures what that has cost and gained: another classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core import datasets, jobs, runs
from core.catalog import Config, UserError
from core.ground import files
from core.ground.watch import Stopped
from core.kinds import Task, kinds, train
from core.kinds.train import AugmentConfig, augmentation, begin, follow

if TYPE_CHECKING:
    from core.datasets import Dataset
    from core.models import Curve, Spec
    from core.robustness.hardening import Hardened, Hardening
    from core.runs import Opened

BEFORE, AFTER, WEIGHTS = "before.json", "after.json", "hardened.safetensors"


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core.robustness.hardening import FurtherConfig, HardeningConfig

    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "harden": HardeningConfig,
        "augment": AugmentConfig,
        "train": FurtherConfig,
    }


def _allow(config: dict[str, Any]) -> None:
    from core.robustness import classifiers

    asked = config["harden"]
    if ":" in asked["classifier"]:
        raise UserError(
            f"A job cannot run the code {asked['classifier']!r}. Bring its weights for a network of torchvision, "
            "or train a classifier here."
        )
    for name, value, usual in (
        ("parent", config["train"]["parent"], ""),
        ("gpus", config["train"]["gpus"], 1),
    ):
        if value != usual:
            raise UserError(
                f"train.{name} has no meaning for a hardening, which goes on from harden.classifier on one processor, "
                f"got {value!r}. Leave it out."
            )
    train.allow(config, "harden")
    asked["classifier"] = classifiers.find(asked["classifier"])


def _build(record: Mapping[str, Any], spec: Spec) -> Hardened:
    from core.robustness.hardening import untrained

    return untrained(record["harden"], spec)


def _curves(record: Mapping[str, Any]) -> Sequence[Curve]:
    from core.robustness.hardening import CURVES

    return CURVES


def _read(job: jobs.Job) -> Hardening:
    from core.robustness import store
    from core.robustness.hardening import Hardening

    found = (job.path / name for name in (BEFORE, AFTER))
    return Hardening(*(store.opened(file) if file.exists() else None for file in found))


@kinds.add(
    "harden",
    "Harden a classifier",
    lane="train",
    parts=_parts,
    unit="images",
    shape={"dataset": {"name": str}, "harden": {"classifier": str}, "train": {"images": int}},
    read=_read,
    files={
        WEIGHTS: "Weights (safetensors)",
        AFTER: "Report afterwards (JSON)",
        BEFORE: "Report before (JSON)",
    },
    allow=_allow,
    resumes=train.RESUMES,
    trained=jobs.Trained("harden", _build, _curves, classifies=True, further=True),
)
def harden(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a classifier on against attacks; measures its accuracy with and without them, before and after."""
    from safetensors.torch import save as as_bytes

    from core.robustness import classifiers, hardening

    asked = task.config("harden")
    net = _net(task.job, asked["classifier"])
    dataset, record = begin(task, {"harden": {**asked, "net": net}, **augmentation(task)})
    if not (task.path / BEFORE).exists():
        task.say("Opening the classifier")
        opened = classifiers.open_model(asked["classifier"], dataset, task.aside())
        _measure(task, opened, dataset, BEFORE)
    for name in (AFTER, WEIGHTS):  # of the weights that it had before it was trained longer
        (task.path / name).unlink(missing_ok=True)
    yield from follow(
        task,
        dataset,
        record,
        None,
        lambda: hardening.begun(classifiers.open_model(asked["classifier"], dataset)),
    )
    run = jobs.get(task.job.id)
    opened = classifiers.of_run(run, runs.best_step(run.path / "checkpoints"))
    weights = hardening.bare(opened.model, record["harden"]["net"])
    with files.full_disk_told():
        files.write_atomic(task.path / WEIGHTS, as_bytes(weights))
    _measure(task, opened, dataset, AFTER)
    release = _read(run).release
    assert release is not None
    task.message = hardening.told(release)
    clean, robust = release.clean, release.robust
    yield {
        "step": opened.step,
        "images": opened.images,
        "eps": release.baseline.headline,
        "n_test": robust.change.n,
        "clean_before": clean.before.value,
        "clean_after": clean.after.value,
        "robust_before": robust.before.value,
        "robust_after": robust.after.value,
    }


def _net(run: jobs.Job, classifier: str) -> dict[str, Any]:
    """Says what the network is like: as the record has it, once there is one, for its source may be gone by then."""
    from core.robustness import hardening

    begun = (run.path / train.RECORD).exists()
    return runs.record(run)["harden"]["net"] if begun else hardening.described(classifier)


def _measure(task: Task, opened: Opened, dataset: Dataset, name: str) -> None:
    """Attacks a classifier on test images, and keeps the report.

    Raises:
        Stopped: If somebody asked for the end; nothing is kept then.
    """
    from core import robustness
    from core.robustness.hardening import HardeningConfig, measured
    from core.target import Target

    config = HardeningConfig.of(task.config("harden"), "harden")
    plan = measured(config, dataset)
    data = {"config": task.config("dataset")["config"]}
    when = "before" if name == BEFORE else "afterwards"
    task.say(f"Measuring what attacks do to it {when}")
    study = robustness.begin(Target.of(opened), dataset, plan, data=data, watch=task)
    *_, report = study
    if study.stopped:
        raise Stopped(study.stopped)
    with files.full_disk_told():
        files.write_json(task.path / name, report.record())

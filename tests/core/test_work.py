"""Kinds of work: what is asked is checked, completed, and can be asked again with changes."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import datasets, jobs, kinds, runs, worker
from core.catalog import UserError
from core.ground import files, sheets
from core.kinds import train
from core.models import families

TRAIN = {"dataset": "digits", "family": "vae"}


def refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        kinds.submit(*args, **kwargs)
    return str(caught.value)


def test_a_config_is_complete_and_plain():
    config = kinds.configure("train", TRAIN, {"beta": "2", "train.images": 1000})
    assert config["dataset"]["name"] == "digits"
    assert config["family"]["name"] == "vae"
    assert config["family"]["config"]["beta"] == 2
    assert config["train"]["images"] == 1000
    for part, cls in kinds.parts("train", TRAIN).items():
        assert (config[part].get("config", config[part])).keys() == cls.knobs().keys()
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize("family", families.names())
def test_the_settings_of_a_run_can_be_asked_again_with_changes(family):
    choice = {"dataset": "digits", "family": family}
    config = kinds.configure("train", choice, {"train.seed": 7, "train.batch": 32})
    again, values = kinds.flat(config)
    assert again == choice
    assert kinds.configure("train", again, values) == config
    changed = kinds.configure("train", again, values | {"train.seed": 8})
    assert changed["train"] == config["train"] | {"seed": 8}
    assert changed["family"] == config["family"]


def test_the_settings_of_a_classifier_come_back_too():
    config = kinds.configure("classifier", {"dataset": "faces"}, {"width": 8, "dataset.size": 16})
    choice, values = kinds.flat(config)
    assert choice == {"dataset": "faces"}
    assert kinds.configure("classifier", choice, values) == config
    assert jobs.kinds.get("classifier").lane == "train"


@pytest.mark.parametrize(
    ("kind", "choice", "values", "text"),
    [
        ("trian", TRAIN, {}, "There is no job kind 'trian'. Did you mean 'train'?"),
        ("train", {"dataset": "digitz", "family": "vae"}, {}, "There is no dataset 'digitz'. Did you mean 'digits'?"),
        ("train", {"dataset": "digits", "family": "gam"}, {}, "There is no family 'gam'. Did you mean 'gan'?"),
        ("train", {"dataset": "../etc", "family": "gan"}, {}, "There is no dataset '../etc'."),
        ("train", TRAIN, {"betta": 1}, "There is no parameter 'betta'. Did you mean 'beta'?"),
        ("train", TRAIN, {"family.beta": "nan"}, "family.beta must be a number at least 0 and at most 100, got 'nan'. Leave it out to use 1."),
        ("train", TRAIN, {"train.lr": float("nan")}, "train.lr must be a number at least 0 and at most 1, got nan. Leave it out to use 0."),
        ("train", TRAIN, {"images": -1}, "train.images must be a whole number at least 1 and at most 10000000000, got -1."),
        ("train", TRAIN, {"train.batch": 1}, "train.batch must be 0 or at least 2, got 1."),
        ("train", TRAIN, {"warmup": 1}, "The parameter 'warmup' is ambiguous. Write one of: family.warmup, train.warmup."),
        ("train", {"dataset": "digits", "family": "gan"}, {"latent_dim": 0}, "family.latent_dim must be a whole number at least 1 and at most 1024, got 0."),
        ("classifier", {"dataset": "digits"}, {"family.beta": 1}, "There is no parameter 'family.beta'."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_written(home: Path, kind, choice, values, text):
    assert refused(kind, choice, values).startswith(text)
    assert not home.exists()


def test_what_a_training_says_on_the_way_is_in_its_state(here):
    job = here("gan", images=320)
    assert job.state["total"] == 320
    assert job.state["done"] == 320
    assert job.state["last"]["images"] == 320
    assert job.state["message"] == ""
    assert {
        "critic_loss",
        "generator_loss",
        "D_real",
        "D_fake",
        "grad_norm/critic",
        "lr",
    } <= job.state["last"].keys()


def test_stopping_saves_a_checkpoint_first_and_resuming_finishes(here, monkeypatch):
    from core import runs

    append, steps = files.Log.append, []

    def stop_at_two(self: files.Log, record: dict[str, Any]) -> None:
        append(self, record)
        steps.append(record["step"])
        if len(steps) == 2:
            (self.file.parent / "STOP").touch()

    monkeypatch.setattr(files.Log, "append", stop_at_two)
    job = here(images=640)
    assert (job.status, job.message) == ("stopped", "Stopped on request. Resume goes on from here.")
    assert runs.checkpoints(job)[-1] == job.state["step"] == 3
    assert [step for step, _ in runs.samples(job)][-1] == 3
    jobs.resume(job.id)
    worker.work(job.path)
    job = jobs.get(job.id)
    assert (job.status, job.share) == ("finished", 1)
    assert steps == list(range(1, 11))


def test_a_loss_that_is_no_number_ends_the_job_and_keeps_its_checkpoints(here, monkeypatch):
    import torch

    from core import runs
    from core.models.vae import VAE

    losses = VAE.losses

    def broken(self: VAE, x: Any, y: Any, generator: Any, progress: float) -> Any:
        for loss in losses(self, x, y, generator, progress):
            yield type(loss)(
                loss.group, loss.value * (torch.nan if progress >= 0.5 else 1), loss.parts
            )

    monkeypatch.setattr(VAE, "losses", broken)
    job = here()
    (rate,) = re.findall(r"below (\S+),", job.message)
    assert float(rate) > 0
    assert (job.status, job.message) == (
        "failed",
        f"The model loss is nan at step 2, for the 4th time. Set train.lr below {rate}, or train.clip to 1, "
        "then start again; the last good checkpoint is kept.",
    )
    assert runs.checkpoints(job) == [1, 2]
    assert runs.open_model(job).step == 2


def test_a_classifier_without_classes_fails_with_a_sentence(here, monkeypatch):
    import dataclasses

    from core import datasets

    load = datasets.load
    monkeypatch.setattr(
        datasets, "load", lambda *a, **k: dataclasses.replace(load(*a, **k), y=None, classes=())
    )
    job = here(None)
    assert (job.status, job.message) == (
        "failed",
        "A classifier needs a dataset with at least 2 classes, got 0. Choose a dataset with labels.",
    )


@pytest.mark.parametrize("family", families.names())
def test_every_family_has_presets_from_a_minute_to_a_gpu_and_says_what_to_expect(family):
    entry = families.get(family)
    choice = {"dataset": "digits", "family": family}
    lengths = []
    for preset in ("quick", "good", "gpu"):
        values = dict(entry.presets[preset])
        lengths.append(kinds.configure("train", choice, values)["train"]["images"])
        assert all(name.partition(".")[0] in ("family", "train") for name in values)
    assert lengths == sorted(lengths)
    for preset, values in entry.presets.items():
        assert kinds.configure("train", choice, values), preset
    text = importlib.import_module(f"core.models.{family}").__doc__ or ""
    (told,) = re.findall(r"Reproduce: ``python -m \S+ .*?``(.*?)\n\n", text, re.DOTALL)
    assert family in text.split("Reproduce")[1][:120]
    assert re.search(r"\d", told), "what it ends at"


def test_a_classifier_that_an_attack_needs_first_tells_how_far_it_is_and_stops(here, monkeypatch):
    from core.measure import features

    job, seen = kinds.submit("attack", {"dataset": "digits"}), []

    def judge(dataset, device, watch):
        time.sleep(0.11)  # a page is told at most ten times a second
        watch.count("Training the judge of digits", 1, 10, "images")
        seen.append(jobs.read(job.path).message)
        (job.path / "STOP").touch()
        watch.count("Training the judge of digits", 2, 10, "images")
        raise AssertionError("it goes on")

    monkeypatch.setattr(features, "judge", judge)
    worker.work(job.path)
    job = jobs.read(job.path)
    assert seen == ["Training the judge of digits: 1 of 10 images"]
    assert job.status == "stopped"


ONE_MORE = '''
"""Trains a small classifier."""
from collections.abc import Iterator, Mapping
from typing import Any

from core import datasets, jobs
from core.catalog import Config, knob
from core.classifier import CURVES, Classifier, ClassifierConfig
from core.training import TrainConfig
from core.kinds import Task, kinds, train


class SmallConfig(Config):
    """What is asked of it."""

    width: int = knob(4, "Of its layers.", ge=1, le=64, title="Width")


@kinds.add(
    "small",
    "Train a small classifier",
    Config,
    lane="train",
    parts=lambda choice: {
        "dataset": datasets.config_of(choice["dataset"]),
        "small": SmallConfig,
        "augment": train.AugmentConfig,
        "train": TrainConfig,
    },
    unit="images",
    allow=lambda config: train.allow(config, "small"),
    resumes=train.RESUMES,
    trained=jobs.Trained(
        "small",
        lambda facts, spec: Classifier(ClassifierConfig(), spec),
        lambda facts: CURVES,
    ),
)
def small(task: Task) -> Iterator[dict[str, Any]]:
    """Learns the classes with few numbers."""
    dataset, facts = train.begin(task, {"small": task.config("small")})
    yield from train.follow(task, dataset, facts, None)
'''


def test_a_kind_of_job_that_trains_is_one_file(tmp_path, monkeypatch, here):
    (tmp_path / "small.py").write_text(ONE_MORE, encoding="utf-8")
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    runs._kinds.cache_clear()
    try:
        assert jobs.kinds.get("small").caption == "Learns the classes with few numbers."
        job = kinds.submit("small", {"dataset": "digits"}, {"images": 128, "batch": 64, "width": 8})
        assert worker.work(job.path) == 0
        job = jobs.get(job.id)
        assert (job.status, job.share, runs.family_of(job)) == ("finished", 1, "small")
        assert job.id in [run.id for run in runs.listing()]
        assert runs.find(job.id).id == job.id
        assert runs.open_model(job).step == 2
        assert train.extend(job.id, 256).config["train"]["images"] == 256
        assert worker.work(job.path) == 0
        assert runs.checkpoints(job)[-1] == 4
    finally:
        sys.modules.pop("core.kinds.small", None)
        jobs.kinds._entries.pop("small", None)
        runs._kinds.cache_clear()


def test_a_training_is_refused_before_it_starts_where_it_could_only_fail(here, setting, tmp_path):
    digits = datasets.load("digits")
    everything = np.concatenate([*digits.splits.values()])
    none = digits.splits["train"][:0]
    splits = {"train": none, "valid": none, "test": np.sort(everything)}
    datasets.save(
        "only-test",
        datasets.assemble(digits.x, digits.y, digits.classes, splits, levels=digits.levels),
    )
    choice = {"dataset": "only-test", "family": "vae"}
    with pytest.raises(UserError, match="only-test has no training images"):
        kinds.submit("train", choice)
    for number, image in enumerate(digits.x[:12]):
        file = tmp_path / ("valid", "test")[number % 2] / "a" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(sheets.png(image[None] * 15, 1))
    values = {"dataset.path": str(tmp_path), "dataset.size": 8}
    with pytest.raises(UserError, match="folder has no training images"):
        kinds.submit("train", {"dataset": "folder", "family": "vae"}, values)
    setting(device="mps")
    with pytest.raises(UserError, match="SIMULACRA_DEVICE is mps"):
        kinds.submit("train", choice | {"dataset": "digits"})
    assert jobs.listing() == []

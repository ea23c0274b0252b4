"""Trainings that go on: extended runs, runs that start from another, and those that end early."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core import datasets, jobs, kinds, runs, training, worker
from core.__main__ import main
from core.catalog import UserError
from core.ground import files
from core.kinds import train as training_work
from core.measure import learning
from core.tensors import Group, whole
from core.training.guard import Diverged

SMALL = {"family.width": 16, "family.latent_dim": 4, "family.components": 2, "train.batch": 32}


def weights(job: jobs.Job, step: int) -> dict[str, torch.Tensor]:
    return load_file(job.path / "checkpoints" / str(step) / "model.safetensors")


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# --- Extended ---------------------------------------------------------------------------------------


def test_the_time_of_a_training_is_foretold_by_one_of_before(here):
    choice = {"dataset": "digits", "family": "vae"}
    job = here(images=1280, **SMALL)
    asked = {**SMALL, "train.images": 12_800, "train.seed": 7}
    same = training_work.expected("train", choice, asked)
    assert same is not None and same.job.id == job.id and same.alike
    assert same.seconds == pytest.approx(10 * job.state["seconds"])
    other = training_work.expected("train", choice, {**asked, "family.width": 32})
    assert other is not None and other.job.id == job.id and not other.alike
    assert training_work.expected("train", {"dataset": "digits", "family": "gan"}) is None


def test_the_pace_of_a_training_is_that_of_its_steps_here(here):
    choice = {"dataset": "digits", "family": "vae"}
    measured = training_work.pace("train", choice, SMALL)
    job = here(images=12_800, **SMALL)
    records, _ = files.Log(job.path).read()
    quickest = max(record.get("images_per_second", 0) for record in records)
    assert 1 / 6 < measured / quickest < 6  # a busy machine may slow either
    assert "family.width" in refused(training_work.pace, "train", choice, {"family.width": -1})


def test_a_finished_run_sees_more_images(here):
    job = here(images=320, **SMALL)
    assert (job.status, job.state["step"]) == ("finished", 10)
    before = [record["lr"] for record in files.Log(job.path).read()[0]]
    old = weights(job, 10)
    again = training_work.extend(job.id, 640)
    assert again.status == "queued"
    worker.work(job.path)
    job = jobs.get(job.id)
    assert (job.status, job.state["step"], job.share) == ("finished", 20, 1)
    assert runs.record(job)["train"]["images"] == job.config["train"]["images"] == 640
    assert runs.record(job)["extended"] == [{"step": 10, "from": 320, "to": 640}]
    records = [r for r in files.Log(job.path).read()[0] if "lr" in r]
    assert [record["step"] for record in records] == sorted({r["step"] for r in records})
    # the rate goes on where a run of that length would be, and comes down again
    after = [record["lr"] for record in records if record["step"] > 10]
    assert after[0] > before[-1] > after[-1]
    assert not all(map(torch.equal, old.values(), weights(job, 20).values()))


def test_an_extended_run_is_resumed_bit_by_bit(here, monkeypatch):
    ended, cut = here(images=320, **SMALL), here(images=320, **SMALL)
    for job in (ended, cut):
        training_work.extend(job.id, 640)
    worker.work(ended.path)
    append = files.Log.append

    def stop(self: files.Log, record: dict[str, Any]) -> None:
        append(self, record)
        if record["step"] == 14:
            (self.file.parent / "STOP").touch()

    with monkeypatch.context() as patch:
        patch.setattr(files.Log, "append", stop)
        worker.work(cut.path)
    assert jobs.get(cut.id).status == "stopped"
    jobs.resume(cut.id)
    worker.work(cut.path)
    assert jobs.get(cut.id).status == "finished"
    assert len(runs.record(cut)["extended"]) == 1
    assert all(map(torch.equal, weights(ended, 20).values(), weights(cut, 20).values()))


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (320, "{} has seen 320 images already, so train.images must be above that, got 320. Ask for more."),
        (10**11, "train.images must be a whole number at least 1 and at most 10000000000, got 100000000000. "
                 "Leave it out to use 200000."),
        (2000, "train.images must be at most 1000 on this server, got 2000. Train for fewer images."),
    ],
)  # fmt: skip
def test_a_length_that_is_none_is_refused(here, setting, images, text):
    job = here(images=320, **SMALL)
    setting(max_images=1000)
    assert refused(training_work.extend, job.id, images) == text.format(job.name)
    assert jobs.get(job.id).status == "finished"
    assert jobs.get(job.id).config["train"]["images"] == 320


def test_without_a_state_to_go_on_from_it_is_refused(here):
    job = here(images=320, **SMALL)
    for file in job.path.glob("checkpoints/*/state.pt"):
        file.unlink()
    assert refused(training_work.extend, job.id, 640) == (
        f"{job.name} has no checkpoint that training could go on from. Start a new run from it instead."
    )


def test_the_command_line_extends(here, monkeypatch, capsys):
    job = here(images=320, **SMALL)
    assert main(["resume", job.id, "--images", "352"]) == 0
    assert "queued again" in capsys.readouterr().out
    assert jobs.get(job.id).config["train"]["images"] == 352


def told(job: jobs.Job) -> list[str]:
    return [r["warning"] for r in files.Log(job.path).read()[0] if "warning" in r]


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"\d\.\de[-+]\d\d", text)]


def test_a_jump_of_the_learning_rate_is_said_before_and_in_the_record(here, capsys):
    job = here(images=320, **{**SMALL, "family.width": 8})
    note = training_work.lengthened(job.id, 640)
    assert main(["resume", job.id, "--images", "640", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"] == note
    worker.work(job.path)
    assert told(job) == [note]
    jobs.set_state(job.path, status="stopped")
    jobs.resume(job.id)
    worker.work(job.path)
    assert told(job) == [note]  # once
    (group,) = runs.draft(runs.record(job)).groups
    cosine = [0.02 + 0.98 * (1 + np.cos(np.pi * done)) / 2 for done in (9 / 10, 10 / 20)]
    assert numbers(note)[:2] == pytest.approx([group.lr * each for each in cosine], rel=0.05)
    assert note.startswith("The learning rate does not go on where it was: it rises from ")
    assert "at step 10, where a run of 20 steps has it" in note
    assert training_work.lengthened(job.id, 1280) != ""  # from the end of its curve again
    steady = here(images=320, **{**SMALL, "train.schedule": "constant"})
    assert training_work.lengthened(steady.id, 640) == ""
    assert training_work.lengthened(here(work=False).id, 640) == ""


def test_a_longer_schedule_is_foretold_for_every_schedule_warm_up_and_stage():
    def says(step, old, new, *groups, **values):
        config = training.TrainConfig(**{"warmup": 0} | values)
        return training.lengthened(config, groups or (Group("model", [], 1e-3),), step, old, new)

    assert numbers(says(391, 391, 782))[:2] == pytest.approx([2e-5, 5.1e-4], rel=0.01)
    assert says(391, 391, 392) == ""  # the last steps of a cosine are flat
    assert "falls" not in says(200, 400, 800)
    assert says(391, 391, 782, schedule="constant") == ""
    # a longer run has a longer warm-up, in which a short one may find itself again
    assert "falls from 1.0e-03 to 5.1e-04" in says(40, 40, 800, schedule="constant", warmup=100)
    two = Group("critic", [], 2e-3), Group("generator", [], 1e-3)
    assert says(391, 391, 782, *two).startswith("The learning rate of the critic does not go on")
    stages = Group("autoencoder", [], 2e-3, stop=0.4), Group("prior", [], 1e-3, start=0.4)
    assert says(625, 625, 2000, *stages) == (
        "It returns to the stage autoencoder until step 800, with a learning rate of 2.6e-04, "
        "and goes through what follows again."
    )
    assert "rises from 2.0e-05 to 9.3e-04" in says(625, 625, 1250, *stages)
    assert says(625, 625, 1250, *stages, schedule="constant") == ""


# --- Stages -----------------------------------------------------------------------------------------

STAGED = {"train.batch": 32, "family.width": 8, "family.prior_width": 16, "family.prior_depth": 1}


def test_the_best_checkpoint_of_a_family_in_stages_has_all_of_them_behind_it(here, monkeypatch):
    monkeypatch.setattr(training_work, "WATCHED", 0)
    scores = iter([0.1, 0.2, *[0.5] * 100])
    look = {"copying": 0.5, "copying_low": 0.5, "copying_high": 0.5}
    monkeypatch.setattr(
        learning,
        "looks",
        lambda *about: lambda *given: look | {"distance": next(scores)},
    )
    job = here("vqvae", images=640, **STAGED, **{"train.patience": 0.1})
    assert job.status == "finished", job.message
    folder = job.path / "checkpoints"
    facts = {s: files.read_json(folder / str(s) / "facts.json") for s in runs.checkpoints(job)}
    assert min(facts, key=lambda step: facts[step]["score"]) < 20
    assert [step for step in facts if facts[step]["whole"]] == [20]
    assert runs.preferred(job) == runs.open_model(job).step == 20
    assert "best held-out quality" not in str(runs.marks(job, files.Log(job.path).read()[0]))
    # an early end would leave half a network
    assert told(job) == [
        "It learns in stages, and each has its span, so that it cannot end early: train.patience is not followed."
    ]
    # a run of an older version did not note it: its record says it
    for step, each in facts.items():
        files.write_json(
            folder / str(step) / "facts.json", {k: each[k] for k in ("step", "images", "score")}
        )
    assert runs.preferred(job) == 20
    # extended, the checkpoint that was whole stays it until another is
    training_work.extend(job.id, 6400)
    monkeypatch.setattr(training_work.Task, "stopped", lambda self: "Enough.")
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "stopped"
    assert runs.checkpoints(job)[-1] > 20
    assert runs.preferred(job) == 20


def test_a_network_is_whole_when_the_last_of_its_spans_has_ended():
    one = [Group("critic", []), Group("generator", [])]
    three = [
        Group("a", [], stop=0.2),
        Group("b", [], start=0.2, stop=0.7),
        Group("c", [], stop=0.9),
    ]
    assert [whole(one, p) for p in (0.0, 0.5, 1.0)] == [None, None, None]
    assert [whole(three, p) for p in (0.0, 0.5, 0.89, 0.9, 1.0)] == [
        False,
        False,
        False,
        True,
        True,
    ]


# --- From another run -------------------------------------------------------------------------------


def test_a_run_starts_from_the_weights_of_another(here, capsys):
    parent = here(images=320, name="First", **SMALL)
    child = here(images=64, **{**SMALL, "train.parent": "First", "train.lr": 1e-9, "beta": 2})
    assert child.status == "finished"
    step = runs.preferred(parent)
    assert child.config["train"]["parent"] == f"{parent.id}@{step}"
    facts = runs.record(child)["parent"]
    assert (facts["run"], facts["name"], facts["step"]) == (parent.id, "First", step)
    assert facts["changed"] == {
        "train.images": [320, 64],
        "train.lr": [0.0, 1e-9],
        "family.beta": [1.0, 2.0],
    }
    start, end = weights(parent, step), weights(child, 2)
    names = [name for name in start if name.endswith(("weight", "bias"))]
    assert all(torch.allclose(start[name], end[name], atol=1e-6) for name in names)
    other = weights(here(images=64, **{**SMALL, "train.lr": 1e-9}), 2)
    assert not all(torch.allclose(start[name], other[name], atol=1e-3) for name in names)
    # by the command line, with the parent's settings
    early = f"{parent.id}@{runs.checkpoints(parent)[0]}"
    assert main(["train", "--from", early, "--images", "96", "--json"]) == 0
    (made,) = [job for job in runs.listing() if job.status == "queued"]
    assert made.config["family"] == parent.config["family"]
    asked = {"images": 96, "parent": early}
    assert made.config["train"] == parent.config["train"] | asked


def test_changed_images_are_gone_on_with_and_said(here, monkeypatch):
    parent = here(images=64, **SMALL)
    load = datasets.load

    def fewer(*args: Any, **kwargs: Any) -> Any:
        dataset = load(*args, **kwargs)
        train, rest = np.split(dataset.splits["train"], [200])
        valid = np.concatenate([dataset.splits["valid"], rest])
        splits = {**dataset.splits, "train": train, "valid": valid}
        return dataclasses.replace(dataset, splits=splits, fingerprint="f" * 64)

    monkeypatch.setattr(datasets, "load", fewer)
    child = here(images=64, **{**SMALL, "train.parent": parent.id})
    assert child.status == "finished", child.message
    changed = runs.record(child)["parent"]["changed"]
    assert changed.keys() == {"images of the dataset", "content of the dataset"}
    assert [each["train"] for each in changed["images of the dataset"]][1] == 200
    jobs.resume(parent.id, parent.config)  # the parent itself cannot go on with them
    worker.work(parent.path)
    assert "start a new run on the changed ones, from this one" in jobs.get(parent.id).message


def test_weights_that_do_not_fit_are_refused_with_a_reason(here):
    parent = here(images=64, name="Narrow", **SMALL)
    child = here(images=64, **{**SMALL, "family.width": 32, "train.parent": parent.id})
    assert child.status == "failed"
    assert child.message == (
        "The weights of the parent do not fit this network: of encoder.1.first.weight it has 16 × 64, and 32 × 64 is "
        "needed. Give the family the settings of the parent, or leave train.parent out."
    )
    rng = np.random.default_rng(0)
    splits = {"train": np.arange(40), "valid": np.arange(40, 50), "test": np.arange(50, 60)}
    x = rng.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    datasets.save("colour", datasets.assemble(x, None, (), splits, name="colour"))
    asked = {"dataset": "colour", "family": "vae"}
    job = kinds.submit("train", asked, {**SMALL, "train.images": 64, "train.parent": parent.id})
    worker.work(job.path)
    assert jobs.get(job.id).message == (
        "Narrow was trained on images with 1 channel(s) of 8 px in 10 classes, and these have "
        "3 channel(s) of 8 px in 0 classes, so its weights do not fit. "
        "Choose a run on images of this kind, or leave train.parent out. "
        "Or import these images again at 8 px in grey."
    )


def test_a_parent_that_is_none_is_refused_before_anything_is_written(here, home: Path):
    here(images=64, name="Parent", **SMALL)
    waiting = here(images=64, name="Waiting", work=False, **SMALL)
    count = len(jobs.listing())
    for family, values, text in (
        ("vae", "Parrent", "There is no run 'Parrent'. Did you mean 'Parent'?"),
        ("vae", "Parent@7", "Parent has no checkpoint at step 7. It has: 1, 2."),
        ("vae", waiting.id, "Waiting has no checkpoint yet, so nothing can start from it. Wait for its first one."),
        ("gan", "Parent", "Parent is of the family vae, and a gan cannot start from it. "
                          "Choose a run of the same family, or leave train.parent out."),
        (None, "Parent", "Parent is of the family vae, and a classifier cannot start from it. "
                         "Choose a run of the same family, or leave train.parent out."),
    ):  # fmt: skip
        assert refused(here, family, **{"train.parent": values}) == text
    assert refused(here, **{"train.gpus": 2}) == (
        "train.gpus must be at most 1 on this server, got 2. Train on fewer GPUs."
    )
    assert len(jobs.listing()) == count


# --- Ended early ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vae", None])
def test_a_run_whose_quality_no_longer_grows_ends_early(here, monkeypatch, family):
    monkeypatch.setattr(training_work, "WATCHED", 0)
    scores = iter([3.0, 2.0, 1.0, *[2.0] * 100])
    look = {"copying": 0.5, "copying_low": 0.5, "copying_high": 0.5}
    monkeypatch.setattr(
        learning,
        "looks",
        lambda *about: lambda *given: look | {"distance": next(scores)},
    )
    monkeypatch.setattr(
        "core.training.Trainer.held_out",
        lambda self, model: {} if family else {"valid_loss": next(scores)},
    )
    small = SMALL if family else {}
    job = here(family, **{**small, "train.images": 2000, "train.batch": 50, "train.patience": 0.25})
    assert job.status == "finished"
    best = runs.best_step(job.path / "checkpoints")
    assert best is not None
    assert job.message == (
        f"Ended early: the held-out quality has not been better since step {best}. "
        "That checkpoint is the one that pages open."
    )
    assert runs.preferred(job) == best
    assert best + 10 <= job.state["step"] < 40
    assert job.share < 1
    # more images are a new chance
    scores = iter([0.5, 0.25, *[0.5] * 100])
    training_work.extend(job.id, 4000)
    worker.work(job.path)
    assert jobs.get(job.id).state["step"] > 40 * 0.25 + job.state["step"]


def test_without_patience_it_goes_on_to_the_end(here, monkeypatch):
    monkeypatch.setattr("core.training.Trainer.held_out", lambda self, model: {"valid_loss": 1.0})
    job = here(None, images=1000, **{"train.batch": 50})
    assert (job.status, job.message, job.share) == ("finished", "", 1)


# --- What the controllers did ------------------------------------------------------------------------


def test_roll_backs_extensions_and_the_best_state_are_marked_where_they_happened(here, monkeypatch):
    one_step, trouble = training.Trainer.one_step, iter([True, True])

    def step(self):
        if self.step == 7 and next(trouble, False):
            raise Diverged("The model loss is nan")
        return one_step(self)

    monkeypatch.setattr(training.Trainer, "one_step", step)
    monkeypatch.setattr(learning, "score", lambda look: 1.0)
    job = here(images=320, **SMALL)
    training_work.extend(job.id, 640)
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", (job.path / "worker.log").read_text()
    records = files.Log(job.path).read()[0]
    (back,) = {r["step"] for r in records if "warning" in r and "images" in r}
    best = runs.best_step(job.path / "checkpoints")
    assert back <= 7 and best is not None
    assert runs.marks(job, records) == sorted(
        [
            (32 * back, "went back here 2 times"),
            (320, "was to end here"),
            (32 * best, "best held-out quality"),
        ]
    )
    assert runs.marks(here(work=False), []) == []

"""Runs: records, checkpoints that survive damage, and models that visitors share."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core import jobs, runs, worker
from core.catalog import UserError
from core.ground import files, sheets
from core.ground.settings import settings
from core.models import Spec


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def weights(run: jobs.Job, step: int) -> Path:
    return run.path / "checkpoints" / str(step) / "model.safetensors"


def edit(run: jobs.Job, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = files.read_json(run.path / "run.json")
    change(facts)
    files.write_json(run.path / "run.json", facts)


# --- What a training leaves ---------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gan", "vae", None])
def test_a_training_leaves_a_record_checkpoints_and_samples(here, family):
    run = here(family, seed=3)
    assert run.status == "finished", (run.path / "worker.log").read_text()
    facts = runs.record(run)
    assert facts["train"]["seed"] == 3
    assert facts["dataset"]["name"] == "digits"
    assert len(facts["dataset"]["fingerprint"]) == 64
    assert facts["dataset"]["classes"] == list("0123456789")
    assert facts["spec"] | {"shares": 0} == {"channels": 1, "size": 8, "levels": 17, "shares": 0}
    assert facts["threads"] == 1
    assert {"python", "torch", "numpy"} <= facts["versions"].keys()
    assert "revision" in facts
    assert runs.checkpoints(run) == [2, 3, 4]  # 2 stands for the first ones
    assert (runs.family_of(run), runs.dataset_of(run)) == (family or "classifier", "digits")
    assert [each.id for each in runs.listing()] == [run.id]
    opened = runs.open_model(run)
    assert (opened.run, opened.step, opened.images, opened.family) == (
        run.id,
        4,
        256,
        family or "classifier",
    )
    heard = () if family == "vae" else tuple("0123456789")  # a VAE ignores labels unless told
    assert (opened.classes, opened.spec.classes) == (heard, 10)
    assert not opened.model.training
    assert not any(param.requires_grad for param in opened.model.parameters())
    assert (opened.sampling is None) == (family is None)
    assert [step for step, _ in runs.samples(run)] == ([1, 2, 3, 4] if family else [])
    records, _ = files.Log(run.path).read()
    if family is None:
        assert 0 <= records[-1]["test_accuracy"] <= 1
        assert records[-1]["n_test"] == facts["dataset"]["images"]["test"]
    else:
        assert sheets.tiles(runs.samples(run)[0][1].read_bytes()).shape == (60, 1, 8, 8)
    for record in records:
        assert {"step", "images"} <= record.keys()


def test_a_run_that_has_not_begun_says_so(here):
    run = here(name="new", work=False)
    assert refused(runs.record, run) == (
        "new has not begun to train. Wait for its first checkpoint, or choose another run."
    )
    assert (
        refused(runs.open_model, run)
        == "new has no checkpoint yet. Wait for its first one, or choose another run."
    )
    assert runs.samples(run) == []


def test_the_first_weights_depend_on_the_seed_alone(here):
    facts = runs.record(here(seed=3))
    first = runs.network(facts).state_dict()
    torch.manual_seed(8)
    state = torch.get_rng_state()
    assert all(
        torch.equal(value, first[name]) for name, value in runs.network(facts).state_dict().items()
    )
    assert torch.equal(torch.get_rng_state(), state)
    other = runs.network(facts | {"train": facts["train"] | {"seed": 4}}).state_dict()
    assert not all(torch.equal(value, first[name]) for name, value in other.items())


# --- Damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not tensors", None])
def test_a_damaged_checkpoint_is_named_and_the_one_before_opens(here, content):
    run = here()
    whole = weights(run, 4).read_bytes()
    weights(run, 4).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert runs.open_model(run).step == 3
    text = refused(runs.open_model, run, 4)
    assert text.startswith(f"{weights(run, 4)} is damaged (")
    assert text.endswith("Choose another step, or resume the run to make a new one.")
    weights(run, 3).unlink()
    assert runs.open_model(run).step == 2
    assert (
        refused(runs.open_model, run, 3)
        == f"{weights(run, 3)} is gone. Choose another step or run."
    )
    assert (
        refused(runs.open_model, run, 9)
        == f"{run.name} has no checkpoint at step 9. It has: 2, 3, 4."
    )
    weights(run, 2).write_bytes(b"")
    assert "is damaged" in refused(runs.open_model, run)


def test_weights_that_do_not_fit_the_record_are_refused(here):
    run = here()
    edit(run, lambda facts: facts["family"]["config"].update(latent_dim=5))
    assert refused(runs.open_model, run).startswith(
        f"{weights(run, 2)} does not fit the settings in run.json: size mismatch"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda facts: facts["family"].update(name="flux"),
            "There is no family 'flux'. Did you mean 'flow'?",
        ),
        (
            lambda facts: facts["family"]["config"].update(gamma=1),
            "There is no parameter of family 'gamma'.",
        ),
        (
            lambda facts: facts["family"]["config"].update(latent_dim=-1),
            "family.latent_dim must be a whole number",
        ),
        (lambda facts: facts.pop("spec"), "run.json is damaged (spec is missing or wrong)."),
        (lambda facts: facts.update(train=[]), "run.json is damaged (train is missing or wrong)."),
    ],
)
def test_a_record_that_this_version_cannot_use_is_told_and_the_list_still_works(here, change, text):
    run = here()
    edit(run, change)
    assert text in refused(runs.open_model, run)
    assert [each.id for each in runs.listing()] == [run.id]
    assert jobs.damaged() == []


def test_a_record_that_is_no_json_is_named(here):
    run = here()
    (run.path / "run.json").write_text("{")
    assert f"{run.path / 'run.json'} is damaged" in refused(runs.open_model, run)


def test_a_damaged_state_is_warned_of_and_training_goes_on_from_the_one_before(here):
    run = here()
    ends = {name: value.clone() for name, value in runs.open_model(run).model.state_dict().items()}
    (run.path / "checkpoints" / "4" / "state.pt").write_bytes(b"not a state")
    jobs.set_state(run.path, status="stopped")
    jobs.resume(run.id)
    worker.work(run.path)
    run = jobs.get(run.id)
    assert run.status == "finished"
    records, _ = files.Log(run.path).read()
    (warning,) = [record["warning"] for record in records if "warning" in record]
    assert warning.startswith(f"{run.path / 'checkpoints' / '4' / 'state.pt'} is damaged (")
    assert warning.endswith("Training goes on from step 3 instead.")
    assert [record["step"] for record in records] == [1, 2, 3, 3, 4]
    again = runs.open_model(run)
    assert again.step == 4
    assert all(torch.equal(value, ends[name]) for name, value in again.model.state_dict().items())


def test_a_run_without_a_whole_state_is_not_resumed_and_keeps_its_checkpoints(here):
    run = here()
    for file in run.path.glob("checkpoints/*/state.pt"):
        file.write_bytes(b"not a state")
    jobs.set_state(run.path, status="stopped")
    jobs.resume(run.id)
    before = runs.checkpoints(run)
    worker.work(run.path)
    run = jobs.get(run.id)
    assert run.status == "failed"
    assert run.message.startswith(f"No checkpoint of {run.name} can be resumed: {run.path}")
    assert runs.checkpoints(run) == before
    assert runs.open_model(run).step == 4


def test_a_state_with_code_in_it_is_not_run(here, tmp_path):
    run = here()
    marker = tmp_path / "was run"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    torch.save({"step": 4, "evil": Evil()}, run.path / "checkpoints" / "4" / "state.pt")
    state, problems = runs.newest_state(run)
    assert not marker.exists()
    assert state is not None
    assert state["step"] == 3
    assert len(problems) == 1


def test_a_training_that_was_killed_after_its_last_checkpoint_is_simply_finished(here):
    run = here()
    jobs.set_state(run.path, status="stopped", done=0)
    jobs.resume(run.id)
    worker.work(run.path)
    run = jobs.get(run.id)
    assert (run.status, run.share, run.state["last"]["step"]) == ("finished", 1, 4)
    assert [record["step"] for record in files.Log(run.path).read()[0]] == [1, 2, 3, 4]


def test_changed_images_are_not_resumed_on(here):
    run = here()
    edit(run, lambda facts: facts["dataset"].update(fingerprint="0" * 64))
    jobs.set_state(run.path, status="stopped")
    jobs.resume(run.id)
    worker.work(run.path)
    assert jobs.get(run.id).message == (
        "The dataset digits has changed since this run began, so it cannot be resumed. "
        "Restore the images, or start a new run on the changed ones, from this one with train.parent."
    )
    assert runs.checkpoints(run) == [2, 3, 4]


# --- What is kept -------------------------------------------------------------------------------


def save(path: Path, step: int, score: float | None = None) -> None:
    runs.save_checkpoint(
        path, nn.Linear(1, 1), {"step": step}, {"step": step, "images": step, "score": score}
    )


def kept(path: Path) -> dict[int, bool]:
    """The steps that are there, and whether they can be resumed from."""
    folder = path / "checkpoints"
    return {
        int(p.name): (p / "state.pt").exists()
        for p in sorted(folder.iterdir(), key=lambda p: int(p.name))
    }


def test_the_newest_two_the_best_and_log_spaced_checkpoints_are_kept(tmp_path):
    for step in range(1, 121):
        save(tmp_path, step, score=abs(step - 41))
    found = kept(tmp_path)
    assert [step for step, resumable in found.items() if resumable] == [119, 120]
    assert 41 in found
    assert runs.best_step(tmp_path / "checkpoints") == 41
    older = [step for step in found if step not in (41, 119, 120)]
    assert older == [3, 9, 31, 99, 118]  # the last of each half decade
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")]


def test_pages_open_the_best_checkpoint_when_the_training_has_ended(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step, score=abs(step - 3))
    job = jobs.Job("x", tmp_path, "train", "train", "", {}, "x", "", "", 0.0, {}, "running")
    assert runs.preferred(job) == 5
    assert runs.preferred(dataclasses.replace(job, status="finished")) == 3


def test_without_scores_there_is_no_best(tmp_path):
    save(tmp_path, 1)
    assert runs.best_step(tmp_path / "checkpoints") is None


def test_a_checkpoint_that_could_not_be_written_leaves_the_old_ones(tmp_path, monkeypatch):
    save(tmp_path, 1)
    save(tmp_path, 2)

    real = Path.write_bytes

    def full(file: Path, content: Any) -> int:
        real(file, bytes(content)[:10])  # what a full disk leaves behind
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 3)
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert kept(tmp_path) == {1: True, 2: True}
    save(tmp_path, 2)  # the same step once more replaces it
    assert kept(tmp_path) == {1: True, 2: True}


# --- Shared between visitors --------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, home: Path) -> list[str]:
    """Opens stand-ins of half a megabyte; remembers which were loaded."""
    done: list[str] = []

    def load(run: jobs.Job, step: int, file: Path) -> runs.Opened:
        time.sleep(0.02)
        done.append(run.id)
        return runs.Opened(
            run.id,
            step,
            0,
            "vae",
            nn.Linear(2**17, 1, bias=False),
            Spec("image", (1, 8, 8), 17),
            (),
            None,
        )

    monkeypatch.setattr(runs, "_load", load)
    runs._opened.clear()
    return done


def stand_in(name: str) -> jobs.Job:
    path = settings().jobs / name
    (path / "checkpoints" / "1").mkdir(parents=True)
    (path / "checkpoints" / "1" / "model.safetensors").write_bytes(b"x")
    config = {
        "dataset": {"name": "digits", "config": {}},
        "family": {"name": "vae", "config": {}},
        "train": {"images": 100},
    }
    words = {
        "kind": "train",
        "lane": "train",
        "config": config,
        "name": name,
        "note": "",
        "who": "",
        "created": 0.0,
    }
    files.write_json(path / "job.json", words)
    files.write_json(path / "state.json", {"status": "finished", "since": 0.0})
    return jobs.get(name)


def test_the_model_that_nobody_used_longest_goes_first(loads, setting):
    setting(models_mb=1)  # room for two
    a, b, c = (stand_in(name) for name in "abc")
    first = runs.open_model(a)
    runs.open_model(b)
    assert runs.open_model(a) is first
    runs.open_model(c)  # b goes
    assert runs.open_model(a) is first
    assert loads == ["a", "b", "c"]
    runs.open_model(b)
    assert loads == ["a", "b", "c", "b"]


def test_a_model_larger_than_the_memory_is_opened_all_the_same(loads, setting, monkeypatch):
    setting(models_mb=1)
    a = stand_in("a")
    monkeypatch.setattr(torch.Tensor, "nbytes", property(lambda self: 5 * 2**20), raising=False)
    assert runs.open_model(a) is runs.open_model(a)
    assert loads == ["a"]


def test_visitors_who_come_at_once_share_one_model(loads):
    run, found = stand_in("a"), []
    threads = [
        threading.Thread(target=lambda: found.append(runs.open_model(run))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(opened) for opened in found}) == 1
    assert len(found) == 8
    assert loads == ["a"]


def test_a_checkpoint_written_anew_is_opened_anew(loads):
    run = stand_in("a")
    runs.open_model(run)
    time.sleep(0.01)
    weights(run, 1).write_bytes(b"y")
    runs.open_model(run)
    assert loads == ["a", "a"]


def test_a_thousand_runs_are_listed_within_a_second(home):
    words = files.read_json(stand_in("20260101-000000-digits-vae-0000").path / "job.json")
    for k in range(1, 1000):
        path = settings().jobs / f"20260101-000000-digits-vae-{k:04x}"
        path.mkdir()
        (path / "job.json").write_text(json.dumps(words | {"created": k}))
        (path / "state.json").write_text('{"status": "finished", "since": 0}')
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(runs.listing()) == 1000
        times.append(time.perf_counter() - start)
    assert min(times) < 1

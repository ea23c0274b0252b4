"""The command line: every command, its JSON, and one line for what is wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import jobs, kinds, runs, worker
from core.__main__ import main
from core.commands import commands
from core.ground import sheets
from core.ground.settings import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that must succeed: `run("runs", "--json")` gives the object, without --json the text."""

    def command(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([str(word) for word in words]) == code, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out) if "--json" in words else out

    return command


@pytest.fixture
def wrong(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused with exit 2 and one line; gives that line."""

    def command(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err.removeprefix("error: ").rstrip("\n")

    return command


@pytest.fixture
def started(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does a started job at once, in this process."""
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path) and None)


TINY = ("--images", 256, "--set", "train.batch=64")

# --- Looking ------------------------------------------------------------------------------------


def test_datasets_are_listed_and_described(run):
    listed = run("datasets", "--json")["datasets"]
    assert {"digits", "faces", "mnist", "folder"} <= {row["name"] for row in listed}
    assert all(row["title"] and row["caption"] for row in listed)
    assert "digits" in run("datasets")
    digits = run("datasets", "digits", "--json")
    assert (digits["images"], digits["size"], digits["channels"], digits["levels"]) == (
        1797,
        8,
        1,
        17,
    )
    assert sum(digits["splits"].values()) == 1797
    assert digits["counts"]["3"]["train"] > 50
    assert len(digits["fingerprint"]) == 64
    assert "valid_share" in run("datasets", "digits")
    faces = run("datasets", "faces", "--set", "size=16", "--set", "count=40", "--json")
    assert (faces["images"], faces["size"], faces["channels"]) == (40, 16, 3)


def test_a_dataset_is_kept_under_a_name_and_deleted(run, wrong, setting):
    kept = run(
        "datasets", "faces", "--set", "size=16", "--set", "count=40", "--save", "My faces", "--json"
    )
    assert (kept["name"], kept["images"]) == ("my-faces", 40)
    assert "my-faces" in {row["name"] for row in run("datasets", "--json")["datasets"]}
    assert run("datasets", "my-faces", "--json")["fingerprint"] == kept["fingerprint"]
    assert wrong("datasets", "my-faces", "--delete") == (
        "This deletes the dataset my-faces for good. Add --yes to do it."
    )
    setting(view_only=1)
    assert wrong("datasets", "my-faces", "--delete", "--yes").startswith(
        "This server is for viewing only"
    )
    assert wrong("datasets", "digits", "--save", "mine").startswith(
        "This server is for viewing only"
    )
    setting(view_only=0)
    run("datasets", "my-faces", "--delete", "--yes")
    assert "my-faces" not in {row["name"] for row in run("datasets", "--json")["datasets"]}


def test_families_are_listed_and_described(run):
    listed = run("families", "--json")["families"]
    assert {"gan", "vae"} <= {row["name"] for row in listed}
    (gan,) = run("families", "gan", "--json")["families"]
    assert gan["parameters"]["latent_dim"] == {
        "default": 64, "allowed": "a whole number at least 1 and at most 1024", "unit": "",
        "help": "Numbers that one image is made from.",
    }  # fmt: skip
    assert "truncation" in gan["sampling"]
    assert "classic" in gan["presets"]
    text = run("families", "gan")
    assert "family.latent_dim" in text
    assert "presets: quick, good, gpu, classic, classic minimax" in text


def test_without_runs_the_list_says_how_to_start_one(run):
    assert run("runs").strip() == "No runs yet. Start one with: python -m core train"
    assert run("runs", "--json") == {"runs": []}


def test_a_name_in_any_script_is_printed_where_the_screen_knows_few_letters(monkeypatch, run):
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    run("train", "--images", 64, "--name", "日々")
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="cp1252"))
    assert main(["runs"]) == 0
    sys.stdout.flush()
    assert b"\\u65e5\\u3005" in screen.getvalue()


def test_a_damaged_run_is_reported_beside_the_others(started, run, capsys):
    good = run("train", "--family", "vae", *TINY, "--json")["run"]
    bad = settings().jobs / "20260101-000000-bad-0000"
    bad.mkdir()
    (bad / "job.json").write_text("{")
    with (settings().jobs / good / "log.jsonl").open("ab") as file:
        file.write(b"oops\n")
    assert main(["runs", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [row["run"] for row in json.loads(out)["runs"]] == [good]
    assert err.startswith(f"damaged: {bad / 'job.json'} is damaged")
    assert run("runs", good, "--json")["damaged_log_lines"] == 1


# --- Training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [("--family", "gan"), ("--family", "vae"), ("--classifier",)])
def test_a_training_prints_one_object_with_its_last_values(started, run, kind):
    result = run(
        "train",
        "--dataset",
        "digits",
        *kind,
        *TINY,
        "--seed",
        5,
        "--name",
        "mine",
        "--wait",
        "--json",
    )
    assert (result["status"], result["images"], result["name"], result["step"]) == (
        "finished",
        256,
        "mine",
        4,
    )
    assert result["seconds"] > 0
    assert result["images_per_second"] == pytest.approx(256 / result["seconds"], rel=0.1)
    assert "lr" in result
    assert any("loss" in key for key in result)
    assert ("test_accuracy" in result) == (kind == ("--classifier",))
    shown = run("runs", result["run"], "--json")
    assert (
        shown["config"]["train"] | {"images": 256, "seed": 5, "batch": 64}
        == shown["config"]["train"]
    )
    assert shown["checkpoints"][-1] == 4
    (row,) = run("runs", "--json")["runs"]
    assert (row["run"], row["name"], row["done"]) == (result["run"], "mine", 1)
    assert result["run"] in run("runs")
    assert "finished" in run("runs", "mine")
    assert jobs.get(result["run"]).who == "command line"


def test_a_started_training_says_where_to_follow_it(here, run):
    text = run("train", "--family", "vae", *TINY)
    (job,) = runs.listing()
    assert (
        text.strip()
        == f"Started {job.id}. Follow it on the Train page, or with: python -m core runs {job.id}"
    )
    assert run("runs", "--json")["runs"][0]["status"] == "queued"


def test_settings_come_from_a_preset_from_another_run_and_from_words_in_this_order(here, run):
    def config(*words: object) -> dict[str, Any]:
        return dict(jobs.get(run("train", *words, "--json")["run"]).config)

    first = config(
        "--preset",
        "classic",
        "--set",
        "latent_dim=50",
        "--set",
        "train.batch=64",
        "--name",
        "first",
    )
    assert first["family"]["config"]["network"] == "mlp"
    assert (
        first["family"]["config"]["latent_dim"] == 50
    )  # said aloud, so stronger than the preset's 100
    assert first["train"]["schedule"] == "constant"
    again = config("--like", "first", "--seed", 9, "--images", 1000)
    assert again["family"] == first["family"]
    assert again["train"] == first["train"] | {"seed": 9, "images": 1000}
    other = config("--like", "first", "--family", "vae")
    assert other["family"]["name"] == "vae"
    assert other["train"] == first["train"]
    judge = config("--like", "first", "--classifier", "--name", "judge")
    assert "family" not in judge
    assert judge["train"] == first["train"]
    assert config("--like", "judge") == judge
    back = config("--like", "judge", "--family", "gan")
    assert back["family"]["name"] == "gan"


def test_a_failed_training_exits_with_1(started, run, monkeypatch, capsys):
    def broken(task: kinds.Task) -> Any:
        yield {"step": 1}
        raise RuntimeError("inside")

    monkeypatch.setitem(vars(jobs.kinds.get("train")), "make", broken)
    result = run("train", *TINY, "--wait", "--json", code=1)
    assert result["status"] == "failed"
    assert result["message"].startswith("Something went wrong inside Simulacra.")


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--help"),
        ("train", "--family", "vae", "--help"),
        ("train", "--classifier", "-h", "--dataset", "faces"),
    ],
)
def test_the_help_of_train_lists_every_parameter(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    classifier = "--classifier" in words
    choice = {"dataset": "faces" if "faces" in words else "digits"}
    choice |= {} if classifier else {"family": "vae" if "vae" in words else "gan"}
    for part, config in kinds.parts("classifier" if classifier else "train", choice).items():
        for name, knob in config.knobs().items():
            (line,) = [line for line in text.splitlines() if line.split()[:1] == [f"{part}.{name}"]]
            assert knob.help in line
            assert knob.allowed.capitalize() in line
            assert "default" in line


@pytest.mark.parametrize("command", ["", *commands.names()])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m core")


# --- What is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "The following arguments are required: COMMAND. See python -m core --help."),
        ("trian", "Argument COMMAND: invalid choice: 'trian'"),
        ("train --family gam", "There is no family 'gam'. Did you mean 'gan'?"),
        ("train --dataset digitz", "There is no dataset 'digitz'. Did you mean 'digits'?"),
        ("train --images -1", "train.images must be a whole number at least 1 and at most 10000000000, got '-1'. Leave it out to use 200000."),
        ("train --images lots", "train.images must be a whole number at least 1 and at most 10000000000, got 'lots'. Leave it out to use 200000."),
        ("train --set lr=nan", "train.lr must be a number at least 0 and at most 1, got 'nan'. Leave it out to use 0."),
        ("train --set latent_dim=0", "family.latent_dim must be a whole number at least 1 and at most 1024, got '0'. Leave it out to use 64."),
        ("train --set beta", "--set takes name=value, got 'beta'. For example --set family.beta=2."),
        ("train --set latent_dimm=3", "There is no parameter 'latent_dimm'. Did you mean 'latent_dim'?"),
        ("train --family vae --set warmup=3", "The parameter 'warmup' is ambiguous. Write one of: family.warmup, train.warmup."),
        ("train --preset clasic", "There is no preset of this family 'clasic'. Did you mean 'classic'?"),
        ("train --classifier --family vae", "--classifier and --family vae exclude each other. Leave one of them out."),
        ("train --like nobody", "There is no run 'nobody'. Choose from: none yet."),
        ("train --bogus", "Unrecognized arguments: --bogus. See python -m core --help."),
        ("datasets digitz", "There is no dataset 'digitz'. Did you mean 'digits'?"),
        ("families gam", "There is no family 'gam'. Did you mean 'gan'?"),
        ("runs nobody", "There is no run 'nobody'. Choose from: none yet."),
        ("stop nobody", "There is no run 'nobody'. Choose from: none yet."),
        ("resume ../x", "There is no run '../x'. Choose from: none yet."),
        ("delete nobody --yes", "There is no run 'nobody'. Choose from: none yet."),
        ("sample nobody --out a.png", "There is no run 'nobody'. Choose from: none yet."),
        ("sample nobody --out a.gif", "--out must end in .png, .wav, .txt, .npz or .zip, in a folder that exists, got 'a.gif'. Choose another."),
        ("sample nobody --out no/such/a.png", "--out must end in .png, .wav, .txt, .npz or .zip, in a folder that exists, got 'no/such/a.png'. Choose another."),
        ("sample nobody -n 0 --out a.png", "-n must be at least 1 and at most 100000, got 0. Draw more in several calls."),
        ("sample nobody -n x --out a.png", "Argument -n: invalid int value: 'x'. See python -m core sample --help."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_writes_nothing(wrong, home, words, text):
    assert wrong(*words.split()).startswith(text)
    assert not (home / "jobs").exists()


def test_a_setting_that_is_not_usable_is_one_line_too(wrong, setting):
    setting(slots_train=0)
    assert wrong("train").startswith("SIMULACRA_SLOTS_TRAIN is not usable: ")


def test_a_view_only_server_is_view_only_from_here_too(wrong, here, setting):
    job = here(work=False)
    setting(view_only=1)
    for words in (
        ("train",),
        ("stop", job.id),
        ("delete", job.id, "--yes"),
        ("rename", job.id, "--name", "x"),
    ):
        assert wrong(*words).startswith("This server is for viewing only, so it cannot ")


def test_two_runs_of_one_name_are_told_with_their_ids(wrong, here):
    jobs_of_one_name = [here(name="same", work=False) for _ in range(2)]
    text = wrong("runs", "same")
    assert text.startswith("2 runs are called 'same'. Write the id of one: ")
    assert all(job.id in text for job in jobs_of_one_name)


# --- Samples ------------------------------------------------------------------------------------


def test_samples_are_arrays_in_0_to_1_with_their_labels(here, run, tmp_path):
    job = here("gan")
    facts = run("sample", job.id, "-n", 25, "--seed", 3, "--out", tmp_path / "x.npz", "--json")
    assert facts | {"run": job.id, "step": 4, "seed": 3, "count": 25} == facts
    with np.load(tmp_path / "x.npz") as made:
        x, y = made["x"], made["y"]
    assert (x.shape, x.dtype, y.dtype) == ((25, 1, 8, 8), np.float32, np.int64)
    assert x.min() >= 0
    assert x.max() <= 1
    assert y.tolist() == [i % 10 for i in range(25)]
    run("sample", job.id, "-n", 25, "--seed", 3, "--out", tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as made:
        assert np.array_equal(made["x"], x)
    run(
        "sample",
        job.id,
        "-n",
        3,
        "--label",
        "7",
        "--seed",
        3,
        "--step",
        2,
        "--set",
        "truncation=0.5",
        "--out",
        tmp_path / "7.npz",
    )
    with np.load(tmp_path / "7.npz") as made:
        assert made["y"].tolist() == [7, 7, 7]
        assert not np.array_equal(made["x"], x[:3])


def test_a_model_that_ignores_labels_neither_takes_nor_gives_one(here, run, wrong, tmp_path):
    job = here("vae")
    out = ("--out", tmp_path / "x.npz")
    assert "does not listen to labels" in wrong("sample", job.id, "--label", "7", *out)
    run("sample", job.id, "-n", 3, *out)
    with np.load(tmp_path / "x.npz") as made:
        assert made.files == ["x"]


def test_samples_are_a_picture_that_says_how_it_was_made(here, run, tmp_path):
    job = here("gan", name="mine")
    text = run(
        "sample", "mine", "-n", 20, "--seed", 3, "--columns", 5, "--out", tmp_path / "grid.png"
    )
    assert text.strip() == f"Wrote 20 images of {job.id}, step 4, to {tmp_path / 'grid.png'}"
    content = (tmp_path / "grid.png").read_bytes()
    facts = sheets.metadata(content)
    assert facts | {"run": job.id, "step": 4, "seed": 3, "sampling": {"truncation": 1.0}} == facts
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (40, 32)
    run("sample", "mine", "-n", 20, "--seed", 3, "--out", tmp_path / "same.npz")
    with np.load(tmp_path / "same.npz") as made:
        expected = (made["x"] * 255).round().astype(np.uint8)
    assert np.array_equal(sheets.tiles(content), expected)


def test_the_way_between_two_images_begins_and_ends_with_them(here, run, wrong, tmp_path):
    job = here("gan")
    run("sample", job.id, "-n", 8, "--seed", 3, "--out", tmp_path / "grid.npz")
    facts = run(
        "sample", job.id, "-n", 5, "--seed", 3, "--between", 2, 6, "--way", "lerp", "--json",
        "--out", tmp_path / "way.npz",
    )  # fmt: skip
    assert facts | {"between": [2, 6], "way": "lerp", "count": 5} == facts
    with np.load(tmp_path / "grid.npz") as made:
        ends = made["x"][[2, 6]]
    with np.load(tmp_path / "way.npz") as made:
        way = made["x"]
    assert len(way) == 5
    assert np.abs(way[[0, -1]] - ends).max() <= 1.01 / 255
    assert np.abs(way[1] - ends[0]).max() > 0.01
    out = ("--out", tmp_path / "x.npz")
    assert "two image numbers from 0" in wrong("sample", job.id, "--between", -1, 2, *out)


def test_what_a_run_cannot_draw_is_told(here, wrong, tmp_path):
    gan, judge = here("gan", name="g"), here(None, name="c")
    out = ("--out", tmp_path / "x.png")
    assert (
        wrong("sample", "c", *out)
        == "c is a classifier, which draws no images. Choose a run of a generative model."
    )
    assert wrong("sample", "g", "--label", "12", *out) == (
        "There is no class '12'. The classes have numbers as names: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. Choose one of them."
    )
    assert wrong("sample", "g", "--label", "³", *out).startswith("There is no class '³'.")
    assert (
        wrong("sample", "g", "--step", "99", *out)
        == "g has no checkpoint at step 99. It has: 2, 3, 4."
    )
    assert wrong("sample", "g", "--set", "truncation=9", *out) == (
        "sampling.truncation must be a number at least 0 and at most 1.5, got '9'. Leave it out to use 1."
    )
    assert wrong("sample", "g", "--set", "temperature=1", *out).startswith(
        "There is no parameter of sampling 'temperature'."
    )
    assert not (tmp_path / "x.png").exists()
    assert {gan.status, judge.status} == {"finished"}


# --- Managing -----------------------------------------------------------------------------------


def test_a_run_is_stopped_resumed_renamed_and_deleted(here, run, wrong, monkeypatch):
    job = here(work=False)
    assert run("stop", job.id, "--json") == {"run": job.id, "done": "stop"}
    worker.work(job.path)
    assert run("runs", job.id, "--json")["status"] == "stopped"
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path) and None)
    result = run("resume", job.id, "--wait", "--json")
    assert (result["status"], result["images"]) == ("finished", 256)
    assert wrong("resume", job.id) == (
        f"{job.name} has finished, so there is nothing to resume. Give it more images, or start a new one with its settings."
    )
    assert run("rename", job.id, "--name", "Anna", "--note", "good", "--json") == {
        "run": job.id,
        "name": "Anna",
        "note": "good",
    }
    assert (
        wrong("rename", "Anna") == "Nothing to change: give --name, --note, --licence or --consent."
    )
    assert (
        wrong("delete", "Anna")
        == f"This deletes {job.id} and all its files for good. Add --yes to do it."
    )
    assert job.path.exists()
    assert run("delete", "Anna", "--yes").strip() == f"{job.id}: deleted."
    assert not job.path.exists()


# --- In a process of its own --------------------------------------------------------------------


def test_the_command_runs_from_a_shell_without_torch_for_what_is_wrong(home):
    code = "import sys; from core.__main__ import main; code = main(['runs', 'x']); print('torch' in sys.modules); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (2, "False")
    assert done.stderr == "error: There is no run 'x'. Choose from: none yet.\n"
    done = subprocess.run(
        [sys.executable, "-m", "core", "runs", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"runs": []}, "")

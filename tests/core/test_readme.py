"""What README and docs promise is run, not believed."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import core
from benchmarks import evidence
from benchmarks.evidence import Row, rows
from core import jobs, kinds, models, runs, worker
from core.__main__ import main
from core.catalog import UserError
from core.ground import files
from core.ground.settings import Settings
from core.models import families
from core.robustness.tricks import tricks
from tests.core import test_models as contract

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")


@pytest.fixture
def mean(tmp_path, monkeypatch):
    """The family of the README, as a file among the others; nothing else is changed."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "mean.py").write_text(code)
    place = [*models.__path__, str(tmp_path / "families")]
    monkeypatch.setattr(models, "__path__", place)
    yield families.get("mean")
    families._entries.pop("mean")
    sys.modules.pop("core.models.mean")
    del models.mean


def test_the_family_in_the_readme_trains_and_samples(mean, monkeypatch):
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    monkeypatch.setenv("SIMULACRA_DEVICE", "cpu")
    choice = {"dataset": "digits", "family": "mean"}
    # without the watch: how often it looks depends on the machine, and it chooses the checkpoint
    values = {"train.images": 20_000, "train.watch": False, "family.start": 0.2}
    job = kinds.submit("train", choice, values)
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    opened = runs.open_model(job)
    x = opened.model.sample(range(4), None, 0, opened.sampling())
    assert x.shape == (4, 1, 8, 8)
    from core import datasets

    real = datasets.load("digits").part("train")[0] / 16
    assert abs(opened.model.mean.numpy() - real.mean(0)).max() < 0.05


def test_the_family_in_the_readme_is_offered_where_families_are(mean, toy):
    from core.building.experiment import Experiment, ExperimentConfig

    values = {"per_class": "4", "steps": 20, "width": 4, "test_images": 50, "confidence": 0}
    values |= {"synthetic": True, "model_images": 200, "synthetic_per_class": 2, "family": "mean"}
    trial = Experiment(toy(240), ExperimentConfig.of(values))
    accuracy, made = trial.run(0, 4, "synthetic")
    assert 0 <= accuracy <= 100 and made is not None and made["made"] == 4
    assert "mean" in ExperimentConfig.knobs()["family"].options
    with pytest.raises(UserError, match=r"experiment\.family must be one of diffusion, .*, mean, "):
        ExperimentConfig.of({"family": "meen"}, "experiment")


def test_the_family_in_the_readme_has_none_of_what_tricks_need(mean):
    model = mean.make(mean.config(), models.Spec("image", (1, 8, 8), 17))
    opened = runs.Opened("run", 1, 1, "mean", model, model.spec, (), mean.sampling)
    assert not any(trick.fits(opened) for trick in tricks)


def contracts():
    """What every family is held to: each contract test, with the values of its other parameters."""
    for name, test in vars(contract).items():
        marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
        if contract.every.mark in marks or contract.every_variant.mark in marks:
            others = [m for m in marks if m.args[0] in ("size", "channels", "classes")]
            lists = [[(m.args[0], value) for value in m.args[1]] for m in others]
            for values in itertools.product(*lists):
                yield pytest.param(
                    test, dict(values), id=f"{name[5:]}-{contract.named(dict(values))}"
                )


@pytest.mark.parametrize(("test", "values"), list(contracts()))
def test_the_family_in_the_readme_keeps_every_contract(mean, test, values, tmp_path):
    known = {"entry": mean, "tmp_path": tmp_path, **values}
    names = inspect.signature(test).parameters
    for variant in contract.variants(mean) if "values" in names else ({},):
        both = known | {"values": variant}
        test(**{name: both[name] for name in names})


def test_every_command_in_the_readme_is_one(capsys):
    lines = re.findall(r"^python -m core (.*)$", README, re.M)
    assert lines
    for line in lines:
        with pytest.raises(SystemExit) as left:
            main([line.split()[0], "--help"])
        assert left.value.code == 0
        known = capsys.readouterr().out
        for flag in re.findall(r"(?<=\s)--?[a-z]+", line):
            assert flag in known, (line, flag)


def test_every_setting_is_in_the_docs_with_its_default():
    rows = dict(
        re.findall(
            r"^\| `(SIMULACRA_\w+)` \| `([^`]*)`", (ROOT / "docs/deploy.md").read_text(), re.M
        )
    )
    told = {
        f"SIMULACRA_{name.upper()}": field.default for name, field in Settings.model_fields.items()
    }
    assert rows.keys() == told.keys()
    for name, default in told.items():
        if default is not None:
            assert rows[name] == str(default).lower(), name


# --- docs/architecture.md -------------------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """The programs of the architecture, by the file that each one says it is; "" is the one that is a script."""
    programs = re.findall(r"```python\n(?:# (core/\S+)\n)?(.*?)```", ARCHITECTURE, re.S)
    found = dict(programs)
    assert len(found) == len(programs) >= 7
    return found


@pytest.fixture
def block(tmp_path, monkeypatch):
    """Puts a program of the architecture where it says: `block("core/robustness/attacks/bim.py", attacks)`; forgets it afterwards."""
    written = []

    def put(file, *registries):
        package, name = file.removesuffix(".py").replace("/", ".").rpartition(".")[::2]
        parent = importlib.import_module(package)
        folder = tmp_path / package
        folder.mkdir()
        (folder / f"{name}.py").write_text(blocks()[file], "utf-8")
        monkeypatch.setattr(parent, "__path__", [*parent.__path__, str(folder)])
        written.append((parent, name, registries))
        importlib.import_module(f"{package}.{name}")
        return [registry.get(name) for registry in registries]

    yield put
    for parent, name, registries in written:
        sys.modules.pop(f"{parent.__name__}.{name}", None)
        vars(parent).pop(name, None)
        for registry in registries:
            registry._entries.pop(name, None)


def test_every_room_stands_on_the_map_of_the_architecture():
    chart = ARCHITECTURE.split("```")[1]
    rooms = {*re.findall(r"(?<![\w*])\w+(?:/|\.py)", chart)}
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for folder in ("core", "pages/parts")
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py"
        or (path / "__init__.py").exists()
        or (path / "__main__.py").exists()
    }
    assert there - {"__init__.py"} - rooms == set()
    inside = {path.name for folder in ("core", "pages") for path in (ROOT / folder).rglob("*/")}
    assert {
        room
        for room in rooms - there
        if room.rstrip("/") not in {*inside, "core", "pages", "app.py"}
    } == set()


def test_every_file_in_the_architecture_is_run():
    here = Path(__file__).read_text("utf-8")
    assert [file for file in blocks() if file and f'block("{file}"' not in here] == []


def test_the_script_in_the_architecture_runs(capsys):
    told = {}
    exec(compile(blocks()[""], "docs/architecture.md", "exec"), told)
    assert told["x"].shape == (4, 1, 8, 8) and 0 <= told["x"].min() <= told["x"].max() <= 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("128 {")


def test_the_family_in_the_architecture_learns_and_says_what_it_can(block, toy, capsys):
    (entry,) = block("core/models/linear.py", families)
    data = toy(120)
    x = data.images(data.splits["train"])
    net = entry.make(entry.config(latent_dim=4), core.spec_of(data))
    before = next(net.losses(x, None, None, 0.0)).value.item()
    trainer = core.Trainer(net, data, core.TrainConfig(images=3000, batch=20), torch.device("cpu"))
    for at in trainer:
        assert entry.curves[0].drawn(at.values) == {"error": "training"}
    model, sampling = trainer.published(), entry.sampling()
    (loss,) = model.losses(x, None, None, 1.0)
    assert loss.value < before / 3 and torch.isclose(loss.each().mean(), loss.value)
    assert all(isinstance(model, what) for what in (models.Encodes, models.Fits))
    made = model.sample([5, 7], None, 3, sampling)
    assert 0 <= made.min() <= made.max() <= 1
    assert (made[1:] - model.sample([7], None, 3, sampling)).abs().max() < 1 / 255
    assert main(["families"]) in (0, None)
    assert "Linear autoencoder" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_attack_in_the_architecture_fools_within_its_budget(block, norm):
    from core import norms
    from core.robustness import attacks
    from core.target import Target

    block("core/robustness/attacks/bim.py", attacks.attacks)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    x = torch.rand(20, 1, 4, 4)
    y, measure = net(x).argmax(1), norms.norm_of(norm)
    eps = 0.3 * measure.largest(16) ** 0.9
    done = attacks.run("bim", Target(net, ["a", "b", "c"], (1, 4, 4)), x, y, eps, norm=measure)
    assert done.fooled.float().mean() > 0.5 and 1 < done.steps <= 11
    assert measure.length(done.adversarial - x).max() <= eps + norms.NEAR


def test_the_medium_in_the_architecture_is_kept_shown_and_learned(block):
    from core.datasets import assemble
    from core.media import media

    (entry,) = block("core/media/reading.py", media)
    x = np.arange(24, dtype=np.uint8).reshape(8, 3)
    splits = {"train": np.arange(6), "valid": np.array([6]), "test": np.array([7])}
    data = assemble(x, np.arange(8) % 2, ("a", "b"), splits, medium="reading")
    seen, spec = data.images(slice(8)), core.spec_of(data)
    assert (
        np.array_equal(entry.kept(seen), x) and entry.describe(*x.shape[:1], x.shape[1:])[0] == "8"
    )
    assert entry.pictures(x)[1].tolist() == [[[3, 4, 5]]]
    assert entry.alone(x[1], 256).decode().split() == ["value", "3", "4", "5"]
    assert entry.body((3,), 4, 5)(seen).shape == (8, 5)
    vae = families.get("vae")
    net = vae.make(vae.config(latent_dim=2, width=16), spec)
    (loss,) = net.losses(seen, torch.arange(8) % 2, torch.Generator().manual_seed(0), 0.0)
    assert loss.value.isfinite() and net.spec.shape == (3,)


def test_the_metric_in_the_architecture_counts_copies_and_tells_the_verdict(block):
    from core.measure.metrics import Measurement, copy_tests, metrics

    metric, test = block("core/measure/metrics/identical.py", metrics, copy_tests)
    sample = SimpleNamespace(
        near=(torch.tensor([[0.0, 2.0], [0.1, 3.0], [0.0, 1.0], [2.0, 2.0]]), None)
    )
    found = metric.make(None, sample)
    assert (found.value, found.n) == (0.5, 4) and found.low < 0.5 < found.high
    measured = Measurement("identical", metric.title, 0.5, 0.2, 0.8, 0.0, 4, "", "", 0.0)
    assert test.make(measured) == (
        True,
        "50 % of the samples are a training image, pixel by pixel.",
    )
    assert metrics.get("identical").short == "Identical to a training image"


def test_the_check_and_the_arm_in_the_architecture_say_what_they_promise(block, toy):
    from core.building.experiment.arms import arms, ordered
    from core.robustness.checks import answers, checks
    from core.robustness.findings import Findings

    block("core/robustness/checks/few.py", checks)
    last = answers(Findings(n=20, probed=20, chance=0.1))[-1]
    assert (last.number, last.outcome, last.finding) == (14, "warn", "It rests on 20 images.")
    assert answers(Findings(n=50, probed=20, chance=0.1))[-1].outcome == "pass"
    (arm,) = block("core/building/experiment/arms/half.py", arms)
    trial = SimpleNamespace(config=None, dataset_of=toy, fit=toy, with_items=toy, seed=toy)
    trial.subset = lambda pair, size: toy(12 * size)
    assert ordered()[-1].name == "half" and len(arm.make(trial, 0, 10).data) == 60


def test_the_kind_of_job_in_the_architecture_does_its_work(block, monkeypatch):
    block("core/kinds/census.py", jobs.kinds)
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    job = kinds.submit("census", {"dataset": "digits"})
    worker.work(job.path)
    job = jobs.get(job.id)
    assert (job.status, job.share) == ("finished", 1.0), job.message
    rows = files.Log(job.path).read()[0]
    assert [row["class"] for row in rows] == list("0123456789")
    assert sum(row[split] for row in rows for split in ("train", "valid", "test")) == 1797


# --- docs/evidence.md -----------------------------------------------------------------------------------------------

WORDS = "half an?|an?|one|two|three|four|five|six|ten|twenty|a hundred|a thousand"
NUMBER = rf"(?:(?:\d[\d., ]*\d|\d)[- ]?|\b(?:{WORDS})[- ])"
UNIT = r"(?:m?s|sec(?:ond)?s?|min(?:ute)?s?|h|hours?|[kKMG]B|%|(?:percentage )?points?|times|images/s|frames/s|×|-fold)"
FIGURE = re.compile(rf"{NUMBER}{UNIT}(?![\w-])|\b1/\d+|\bhalf the time|\btwice as")


def unproven(text: str, found: list[Row]) -> list[str]:
    """The figures of a text that no row quotes, and the quotes of rows that do not stand in it."""
    prose = " ".join(re.sub(r"```.*?```|`[^`]*`", " ", text, flags=re.S).split())
    quotes = [each.in_readme for each in found if each.in_readme]
    left = prose
    for quote in quotes:
        left = left.replace(quote, "…")
    return FIGURE.findall(left) + [quote for quote in quotes if quote not in prose]


def test_every_figure_in_the_readme_has_a_row_of_evidence():
    found = rows((ROOT / "docs/evidence.md").read_text("utf-8"))
    assert len(found) >= 3 and unproven(README, found) == []
    for each in found:
        assert each.claim and each.measured and each.machine
        assert (ROOT / f"benchmarks/{each.script}.py").exists(), each.claim
        assert date.fromisoformat(each.date).year >= 2026


def test_a_figure_without_a_row_is_found_and_so_is_a_row_that_the_readme_does_not_repeat():
    said = Row("a", "61 s", "", "digits", "2026-11-24", "m", "61 s of training")
    text = "After 61 s of\ntraining it is there, in half a minute, 3 GB, 1/15 of it, one point, 12.5 %, 2 times. `4 s`"
    assert unproven(text, [said]) == [
        "half a minute",
        "3 GB",
        "1/15",
        "one point",
        "12.5 %",
        "2 times",
    ]
    assert unproven("Within seconds; four runs, 2 of 3 classes.", [said]) == ["61 s of training"]


def test_a_benchmark_replaces_its_own_row_and_leaves_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evidence, "FILE", tmp_path / "evidence.md")
    main_module = SimpleNamespace(__spec__=SimpleNamespace(name="benchmarks.digits"))
    monkeypatch.setitem(sys.modules, "__main__", main_module)
    evidence.row("Training: 61 s", "one | core", said="61 s of training")
    evidence.row("Sampling:  2 s")
    main_module.__spec__.name = "benchmarks.engine"
    evidence.row("Training: 9 s")
    main_module.__spec__.name = "benchmarks.digits"
    evidence.row("Training: 59 s", said="59 s of training")
    text = evidence.FILE.read_text("utf-8")
    got = [(each.script, each.claim, each.measured, each.in_readme) for each in rows(text)]
    assert got == [
        ("digits", "Sampling", "2 s", ""),
        ("digits", "Training", "59 s", "59 s of training"),
        ("engine", "Training", "9 s", ""),
    ]
    assert evidence.table(rows(text)) == text
    assert "Sampling:  2 s" in capsys.readouterr().out


# --- Core in ten names ----------------------------------------------------------------------------------------------


def test_core_offers_ten_names_and_imports_nothing_for_them():
    code = (
        "import sys, core; print(len(core.__all__), *(n for n in sys.modules if n.startswith('core.')), "
        "*({'torch', 'streamlit', 'numpy', 'pydantic'} & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "10", out.stderr


def test_the_ten_names_of_core_are_what_their_rooms_say_and_are_in_the_docs():
    assert {*core.__all__} <= {*dir(core)} and core.UserError is UserError
    assert core.submit is kinds.submit and core.families is families
    for name in core.__all__:
        assert f"`core.{name}" in ARCHITECTURE and getattr(core, name).__module__ != "core"
    with pytest.raises(AttributeError, match="module 'core' has no attribute 'train'"):
        core.train  # noqa: B018

"""What README and docs promise is run, not believed."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from pathlib import Path

import pytest

from core import jobs, models, runs, work, worker
from core.__main__ import main
from core.catalog import UserError
from core.deception import tricks
from core.models import families
from core.settings import Settings
from tests.core import test_models as contract

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


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
    job = work.submit("train", choice, values)
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
    from core.experiment import Experiment, ExperimentConfig

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

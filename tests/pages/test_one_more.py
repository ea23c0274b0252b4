"""One more of a thing is one more file: it is written, and form, command line, contract tests and reports find it.

The file stands in a folder of its own that the scanned package is told to look into as well, so that nothing is left
behind; what has no scanned package is a paragraph more in the file that holds its kind.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core import jobs, worker
from core.__main__ import main
from core.catalog import Registry, UserError
from core.kinds.train import extend
from tests.pages.test_pad import ask, exact

ROOT = Path(__file__).resolve().parents[2]

ATTACK = '''
from core.robustness.attacks import Problem, Proposal, attacks
from core.catalog import Config, knob
from core.norms import LINF

class GreyConfig(Config):
    share: float = knob(1.0, "How far towards grey.", ge=0, le=1)

@attacks.add("grey", "Grey", GreyConfig, norms=(LINF,), gradient=False, passes=lambda config, classes: 1)
def grey(config, target, problem: Problem):
    """Moves every pixel towards grey."""
    move = (0.5 - problem.x).clamp(-problem.eps, problem.eps)
    yield Proposal(problem.x + config.share * move)
'''
AUGMENTATION = '''
class DimConfig(Config):
    """How dark it becomes."""
    share: float = knob(0.3, "Largest share of the light that is taken.", ge=0, le=0.9)

@augmentations.add("dim", "Dim", DimConfig, group="Noise and blur", smooth=True, strength="share", units={"share": ""},
                   code=lambda c: f"x * (1 - random.uniform(0, {c.share:g}))")
class Dim(Configured[DimConfig]):
    """Takes light from the image."""
    def draw(self, draws: Draws) -> Params:
        return {"share": draws.uniform("share", high=self.config.share)}
    def apply(self, x: Images, params: Params) -> Images:
        return x * (1 - spread(params["share"]))
'''
SOURCE = '''
class BarsConfig(Config):
    """The choices of the bars."""
    valid_share: float = valid_share_knob()

@datasets.add("bars", "Bars", BarsConfig, weighs=lambda config: 240 * 64)
def bars(config: BarsConfig, place: Path, progress: Progress | None = None) -> Dataset:
    """Upright and level bars."""
    y = np.arange(240) % 2
    x = np.zeros((240, 1, 8, 8), np.uint8)
    for k in range(240):
        x[k, 0, :, k // 2 % 8] = 40 + k // 2
        x[k] = x[k].transpose(0, 2, 1) if y[k] else x[k]
    splits = split_by_content(digests(x), y, valid_share=config.valid_share, test_share=0.2)
    terms = {"licence": "CC0", "consent": "not needed"}
    return assemble(x, y, ("upright", "level"), splits, terms=terms)
'''
COMMAND = '''
from core.commands import commands, show

def arguments(parser):
    parser.add_argument("who")

@commands.add("greet", arguments=arguments)
def run(arguments):
    """Greet somebody."""
    show(arguments, {"greeting": f"Hello, {arguments.who}"}, [f"Hello, {arguments.who}"])
'''
PAGE = '''
"""Greets."""
import streamlit as st
from pages.parts import shell

TITLE = "Greeting"
ICON = ":material/waving_hand:"
ORDER = 99
shell.enter()
st.title("Hello")
'''


class Files:
    """Writes files of plug-ins, and takes them away again."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.undo: list[Callable[[], object]] = []

    def write(self, package: str, name: str, text: str, registry: Registry | None = None) -> None:
        """Writes a file of a scanned package, whose registry forgets it afterwards."""
        place = self.folder / package
        place.mkdir(exist_ok=True)
        (place / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        parent = importlib.import_module(package)
        self.patch.setattr(parent, "__path__", [*parent.__path__, str(place)])
        self.undo.append(lambda: sys.modules.pop(f"{package}.{name}", None))
        self.undo.append(lambda: vars(parent).pop(name, None))
        self._forget(registry, name)

    def append(self, module: str, name: str, text: str, registry: Registry) -> None:
        """Adds a paragraph to a file that is there, whose registry forgets it afterwards."""
        held = vars(importlib.import_module(module))
        before = dict(held)
        self.undo.append(lambda: (held.clear(), held.update(before)))
        self._forget(registry, name)
        exec(compile(text, f"{module}, and {name}", "exec"), held)

    def _forget(self, registry: Registry | None, name: str) -> None:
        if registry is not None:
            self.undo.append(lambda: registry._entries.pop(name, None))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """Writes one file more: `files.write("core.robustness.attacks", "grey", text, registry)`."""
    found = Files(tmp_path, monkeypatch)
    yield found
    for undo in reversed(found.undo):
        undo()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command here: `run("families", "mean")`; gives its lines, or its answer with `--json`."""

    def do(*words: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, words)]) in (0, None)
        out = capsys.readouterr().out
        return json.loads(out.splitlines()[-1]) if "--json" in words else out

    return do


def contracts(file: str, name: str) -> list[str]:
    """Reads a file of contract tests anew, as a new start would, and gives those that hold this one to account."""
    spec = importlib.util.spec_from_file_location(f"again_{Path(file).stem}", ROOT / file)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = []
    for title, test in vars(module).items():
        for mark in getattr(test, "pytestmark", ()):
            if mark.name == "parametrize" and title.startswith("test_"):
                values = [v if isinstance(v, tuple | list) else (v,) for v in mark.args[1]]
                named = [v for v in values if name in (v[0], getattr(v[0], "name", None))]
                found += [title] * bool(named)
    return found


def drawn(seen: Any) -> list[str]:
    """Gives the titles of the charts on a page."""
    charts = [json.loads(chart.proto.spec) for chart in seen.at.get("plotly_chart")]
    return [chart["layout"].get("title", {}).get("text", "") for chart in charts]


def test_an_attack_is_one_file(files, visit, run, tmp_path, monkeypatch):
    from core import robustness
    from core.robustness.attacks import attacks

    said = robustness.Cost(
        7, 497, 120, robustness.Lap(0, 0, 0.5)
    )  # the expected time is not measured
    monkeypatch.setattr(robustness, "estimate", lambda target, dataset, config: said)
    files.write("core.robustness.attacks", "grey", ATTACK, attacks)
    assert len(contracts("tests/core/test_attacks.py", "grey")) >= 2
    assert "Grey" in visit("robustness").calm().widget("robust.attacks").options
    (tmp_path / "grey_net.py").write_text(
        "import torch\ndef make():\n    torch.manual_seed(0)  # an image or two are named rightly by chance\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        words = [
            "--classifier",
            "grey_net:make",
            "--attacks",
            "grey",
            "--set",
            "attack.options=grey.share=0.5",
        ]
        report = run("attack", *words, "--n", 24, "--eps", "0.1", "--out", tmp_path, "--json")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("grey_net", None)
    assert "grey" in report["results"][-1]["attacks"]
    assert "grey" in (tmp_path / "report.html").read_text("utf-8").lower()


def test_a_family_is_one_file(files, visit, run, monkeypatch):
    from core.models import families

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    curve = 'curves=(Curve("loss", "Distance from the mean image", "It falls.", position="first"),)'
    code = code.replace("sampling=MeanSampling)", f"sampling=MeanSampling, {curve})")
    code = code.replace("import Spec, families", "import Curve, Spec, families")
    loss = "(x - self.mean).square().mean()"
    assert loss in code
    code = code.replace(loss, f'(far := {loss}), {{"loss": far.detach()}}')
    files.write("core.models", "mean", code, families)
    assert len(set(contracts("tests/core/test_models.py", "mean"))) >= 8
    assert "The mean image" in run("families")
    seen = visit("train").set(train__what="mean").calm()
    assert seen.all("train.mean.start")
    words = ["--family", "mean", "--images", 128, "--set", "family.start=0.25", "--json"]
    words += ["--set", "train.watch=false"]
    id = run("train", *words)["run"]
    worker.work(jobs.get(id).path)
    assert jobs.get(id).status == "finished", jobs.get(id).message
    shown = visit("train", run=id).calm()
    assert "mean" in shown.texts()
    assert "Distance from the mean image" in drawn(shown)
    assert run("sample", id, "-n", 2, "--out", files.folder / "x.npz", "--json")["count"] == 2


def test_an_augmentation_is_one_class_more(files, visit, run):
    from core.augment import augmentations

    files.append("core.augment.noise_blur", "dim", AUGMENTATION, augmentations)
    assert len(contracts("tests/core/test_augment.py", "dim")) >= 2
    assert "Takes light from the image." in run("augment")
    chain = json.dumps([["dim", {"share": 0.5}, 1.0, 1]])
    seen = visit("augment", chain=chain).calm()
    assert [step["name"] for step in seen.at.session_state["augment.chain"]] == ["dim"]
    recipe = files.folder / "dim.json"
    step = {"name": "dim", "parameters": {"share": 0.5}, "probability": 1.0, "enabled": True}
    whole = {"format": "simulacra-pipeline", "version": 1, "name": "Dim", "steps": [step]}
    recipe.write_text(json.dumps(whole), "utf-8")
    out = files.folder / "dim.png"
    assert run("augment", recipe, "-n", 2, "--draws", 2, "--out", out, "--json")["steps"] == 1
    assert "random.uniform(0, 0.5)" in run("augment", recipe, "--export", "torchvision")


def test_a_source_of_data_is_one_function_more(files, visit, run):
    from core.datasets import datasets

    files.append("core.datasets.sources", "bars", SOURCE, datasets)
    assert contracts("tests/core/test_datasets.py", "bars")
    assert "Upright and level bars." in run("datasets")
    assert run("datasets", "bars", "--json")["images"] == 240
    assert "Bars" in visit("data", data="bars").calm().texts()


def test_a_command_is_one_file(files, run):
    from core.commands import commands

    files.write("core.commands", "greet", COMMAND, commands)
    assert contracts("tests/core/test_cli.py", "greet") == ["test_every_command_has_help"]
    assert run("greet", "you", "--json") == {"greeting": "Hello, you"}


def test_a_page_is_one_file(visit, monkeypatch, tmp_path):
    from pages.parts import shell

    for file in (ROOT / "pages").glob("*.py"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "parts").symlink_to(ROOT / "pages" / "parts")
    (tmp_path / "greeting.py").write_text(PAGE, "utf-8")
    monkeypatch.setattr(shell, "PAGES", tmp_path)
    shell.pages.cache_clear()
    try:
        assert shell.pages()[-1].title == "Greeting"
        registered = visit("overview").calm().at._registered_pages.values()
        assert "Greeting" in {page["page_name"] for page in registered}
    finally:
        shell.pages.cache_clear()


CHECK = '''
from core.robustness.checks import checks
from core.robustness.findings import Answer

@checks.add("grey", "Grey images are named", number=14, urgency=0)
def grey(findings):
    """A grey image has a class, too."""
    return Answer("pass", "Grey was not asked for.")
'''
KIND = '''
from core.catalog import Config, knob
from core.jobs import kinds

class TallyConfig(Config):
    to: int = knob(3, "How far it counts.", ge=1, le=10)

@kinds.add("tally", "Count", Config, lane="short", unit="numbers", parts=lambda choice: {"tally": TallyConfig})
def tally(task):
    """Counts."""
    for number in range(TallyConfig.of(task.config("tally"), "tally").to):
        yield {"number": number}
        task.count("Counting", number + 1, 3)
'''


def test_a_check_is_one_file(files):
    import torch

    from core import robustness
    from core.robustness.checks import checks
    from core.robustness.report import html

    files.write("core.robustness.checks", "grey", CHECK, checks)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    x = torch.full((3, 1, 4, 4), 0.5)
    report = robustness.check(net, x, net(x).argmax(1), eps="0.1")
    last = report["checks"][-1]
    assert (last["number"], last["name"]) == (14, "Grey images are named")
    assert last["finding"] == "Grey was not asked for."
    assert "Grey images are named" in html(robustness.Report.of(report))


def test_a_kind_of_job_is_one_file(files, run):
    from core import kinds
    from core.ground import files as records

    files.write("core.kinds", "tally", KIND, jobs.kinds)
    job = kinds.submit("tally", {}, {"tally.to": 2}, name="Numbers")
    assert "-tally-" in job.id
    worker.work(job.path)
    assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
    assert [row["number"] for row in records.Log(job.path).read()[0]] == [0, 1]


METRIC = '''
from core.measure.metrics import copy_tests, metrics
from core.ground.stats import share

@metrics.add("glow", "Glow (share of light)", group="quality", direction="higher", means="How bright it is.",
             doubt="Of dark pictures.", scale="share", floor="unseen", praise="of its pictures glow",
             each=lambda evaluator: (evaluator.samples.features[:, 0] > 0.1, evaluator.samples.named))
def glow(evaluator, sample):
    """Counts bright samples."""
    return share(sample.features[:, 0] > 0.1)
'''
COPY_TEST = '''
from core.measure.metrics import copy_tests

@copy_tests.add("glow", strong=True)
def glows(m):
    """A sample that glows is a copy."""
    return m.value > 0.5, "Its samples glow like copies."
'''
EXTRACTOR = '''
from core.measure.features.extractors import extractors

class Light:
    name, hash = "light", "1"
    def features(self, x):
        return x.flatten(1).mean(1, keepdim=True).double().cpu().numpy()

@extractors.add("light", "Light", frechet="Lighting distance")
def light(dataset, device, weights="", watch=None):
    """The mean of all pixels."""
    return Light()
'''
ISSUE = '''
from core.catalog import Config
from core.quality.check import Issue, checks

@checks.add("dim", "Dim", Config, order=99, remedy="exclude")
def dim(survey):
    """Images without bright pixels."""
    yield Issue(3, 1.0, "It is dim.")
'''
ARM = '''
from core.catalog import Config
from core.building.experiment.arms import Lesson, arms

@arms.add("half", "Half of the images", Config, order=9, help="Trains with every second image.")
def half(trial, pair, size):
    """Trains with half of the real images."""
    data = trial.subset(pair, size)
    return Lesson(trial.dataset_of(data.x[::2], data.y[::2]))
'''
TRAINS = '''
import torch
from core import jobs, runs
from core.catalog import Config
from core.jobs import kinds
from core.models import Curve
from core.tensors import Group, Loss
from core.training import TrainConfig
from core.kinds import train

class Plane(torch.nn.Module):
    classes = 0
    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        self.mean = torch.nn.Parameter(torch.zeros(spec.channels, spec.size, spec.size))
    def groups(self):
        return [Group("model", [self.mean], lr=3e-2)]
    def losses(self, x, y, generator, progress):
        far = (x - self.mean).square().mean()
        yield Loss("model", far, {"loss": far.detach()})

class PlaneConfig(Config):
    """What a plane takes."""

def parts(choice):
    from core import datasets
    return {"dataset": datasets.config_of(choice["dataset"]), "plane": PlaneConfig, "train": TrainConfig}

@kinds.add("plane", "Train a plane", Config, lane="train", unit="images", parts=parts,
           trained=jobs.Trained("plane", lambda facts, spec: Plane(spec),
                                lambda facts: (Curve("loss", "Distance from the plane", "It falls.", position="first"),)))
def plane(task):
    """Trains a plane."""
    dataset, facts = train.begin(task, {"plane": task.config("plane")})
    yield from train.follow(task, dataset, facts, None)
'''


def test_a_metric_a_test_of_copying_and_an_extractor_are_one_file_each(
    files, visit, run, gallery, monkeypatch
):
    from core.measure import features
    from core.measure.metrics import copy_tests, metrics

    files.write("core.measure.features.extractors", "light", EXTRACTOR, features.extractors)
    files.write("core.measure.metrics", "glow", METRIC, metrics)
    files.write("core.measure.metrics", "glow_test", COPY_TEST, copy_tests)
    files.undo.append(lambda: copy_tests._entries.pop("glow", None))
    sys.modules["core.measure.metrics"].scan()  # as a new start does
    monkeypatch.setattr(jobs, "spawn", worker.work)
    name, out = "shipped-digits-vae", files.folder / "report.html"
    words = ["--metrics", "glow", "--extractor", "light", "--samples", 60, "--set", "map=false"]
    (found,) = run("evaluate", name, *words, "--report", out, "--json")["evaluations"]
    assert found["metrics"]["glow"]["extractor"] == "light@1"
    text = out.read_text("utf-8")
    assert "Glow (share of light)" in text and "Its samples glow like copies." in text
    seen = visit("evaluate", run=name).calm()
    assert "Glow" in seen.measures


def test_a_check_of_a_dataset_is_one_file(files, visit, run, monkeypatch):
    from core.datasets import datasets
    from core.quality import checks

    files.append("core.datasets.sources", "bars", SOURCE, datasets)
    files.write("core.quality.issues", "dim", ISSUE, checks)
    monkeypatch.setattr(jobs, "spawn", worker.work)
    found = run("inspect", "bars", "--list", "dim", "--json")
    assert found["counts"]["dim"] == 1 and found["issues"][0]["sentence"] == "It is dim."
    assert (
        "Dim (1)"
        in visit("data", data="bars", **{"data.view": "issues"}).calm().widget("data.kind").options
    )


def test_an_arm_of_an_experiment_is_one_file(tmp_path):
    inside = "core", "building", "experiment", "arms"
    for depth in range(4):  # a copy of the app that only this folder of is its own
        folder = tmp_path.joinpath(*inside[: depth + 1])
        folder.mkdir()
        for file in ROOT.joinpath(*inside[: depth + 1]).iterdir():
            if file.name not in (*inside[depth + 1 : depth + 2], "__pycache__"):
                (folder / file.name).symlink_to(file)
    (folder / "half.py").write_text(ARM, "utf-8")
    switches = [
        "placebo=false",
        "chain=false",
        "trivial=false",
        "half=true",
        "steps=20",
        "test_images=50",
    ]
    words = [word for each in switches for word in ("--set", f"experiment.{each}")]
    words = ["experiment", "--quick", "--per-class", "4", *words, "--json"]
    code = "import sys; from core import jobs, worker; from core.__main__ import main; jobs.spawn = worker.work; "
    code += f"sys.exit(main({words!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["arms"] == {"none": "Real images only", "half": "Half of the images"}
    assert {(cell["arm"], cell["size"]) for cell in found["cells"]} == {("none", 4), ("half", 4)}


ORIGIN = '''
import torch
from core import brought, weights
from core.catalog import Config, knob
from core.tensors import noise

class BlobConfig(Config):
    gain: float = knob(1.0, "What its latents are multiplied by.", ge=0, le=2)

class BlobSampling(Config):
    spread: float = knob(1.0, "Spread of its latents.", ge=0, le=2)

class Blob(torch.nn.Module):
    classes = 0
    def __init__(self, gain, spec):
        super().__init__()
        self.spec, self.gain, self.to_image = spec, gain, torch.nn.Linear(4, spec.size**2)
    def latent(self, ids, seed, sampling):
        return sampling.spread * noise(seed, ids, (4,), "blob", device=self.to_image.weight.device)
    def decode(self, z, y, sampling):
        return self.to_image(self.gain * z).sigmoid().view(-1, *self.spec.shape)
    def sample(self, ids, y, seed, sampling):
        return self.decode(self.latent(ids, seed, sampling), y, sampling).detach()

@brought.origins.add("blob", "Blobs", BlobConfig, files=("safetensors",), sampling=BlobSampling)
def blob(config, package, spec, classes, record):
    """Blobs of light."""
    model = Blob(config.gain, spec)
    if package is not None:
        file = package.weights
        held = weights.look(file)
        model.load_state_dict(weights.load(file, held, {name: name for name in held.parts}))
    return brought.opened(model, spec, classes, {}, ["They glow."], BlobSampling)
'''


def test_an_origin_of_generative_models_is_one_file(files, visit, run, monkeypatch):
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from core import runs
    from core.brought import origins
    from core.tensors import noise

    files.write("core.brought", "blob", ORIGIN, origins)
    monkeypatch.setattr(jobs, "spawn", worker.work)
    weights = {"to_image.weight": torch.randn(64, 4) * 2, "to_image.bias": torch.randn(64)}
    save_file(weights, file := files.folder / "w.safetensors")
    words = ["--origin", "blob", "--gain", "0.5", "--name", "Lamps", "--json"]
    kept = run("bring", file, *words)
    assert kept["notes"] == ["They glow."] and kept["id"] in {each.id for each in runs.listing()}
    out = files.folder / "x.npz"
    run("sample", "Lamps", "-n", 3, "--set", "spread=0.5", "--out", out, "--json")
    z = 0.25 * noise(0, range(3), (4,), "blob")
    true = (z @ weights["to_image.weight"].T + weights["to_image.bias"]).sigmoid()
    assert np.allclose(np.load(out)["x"].reshape(3, 64), true, atol=1e-6)
    words = ["--metrics", "standard", "--extractor", "pixels", "--samples", 60]
    (found,) = run("evaluate", "Lamps", *words, "--set", "map=false", "--json")["evaluations"]
    assert found["family"] == "blob" and found["metrics"]["kid"]["value"] > 0
    said = {
        "latent": "Lamps as it was brought.",
        "evaluate": "so it has no loss of its own",
        "about": "**Brought for images as of:** Digits",
        "train": "**Lamps** · blob",
    }
    for page in (*said, "robustness"):
        assert said.get(page, "") in visit(page, run=kept["id"]).calm().texts()
    walked = ask(visit("latent", run=kept["id"]), at=(1, 0.5)).calm()
    assert exact(walked).std() > 0
    with pytest.raises(UserError, match="trains nothing"):
        extend(kept["id"], 1000)
    save_file({"to_image.weight": torch.ones(64, 4)}, file)  # no bias
    assert main(["bring", str(file), "--origin", "blob"]) == 2


def test_a_kind_of_job_that_trains_is_one_file(files, visit, run, monkeypatch):
    from core import runs

    files.write("core.kinds", "plane", TRAINS, jobs.kinds)
    runs._kinds.cache_clear()
    files.undo.insert(0, runs._kinds.cache_clear)  # last of all
    monkeypatch.setattr(jobs, "spawn", worker.work)
    seen = visit("train").set(train__what="plane").calm()
    seen.set(train__train__images=640, train__train__batch=64).press("train.start").calm()
    (job,) = jobs.listing("plane")
    like = run("train", "--like", job.name, "--kind", "plane", "--json")["run"]
    assert jobs.get(like).config == job.config and job.config["train"]["images"] == 640
    assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
    assert job.id in {each.id for each in runs.listing()}
    assert runs.open_model(jobs.get(job.id)).model.mean.mean() > 0
    assert "Distance from the plane" in drawn(visit("train", run=job.id).calm())

"""Compares two revisions bit for bit: weights, samples, attacks, metrics, pictures, keys, and a home of the older one.

``python -m benchmarks.identity --base REV [--against .] [--only WORDS] [--keep FOLDER] [--full]``

Each side is a tree of its own (a revision, or the folder as it stands), asked through its command line in a process of
its own, on one thread, with a home of its own. Then both open copies of the home that the base has made: they list it,
draw from it, resume and export it, and open its pages. A table says of each thing that is not the same where it
differs first. The exit code is 1 when anything differs. One core, about four minutes.

What may differ by decision has rows of its own: ``intervals`` and ``texts``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Only what Python and its libraries hold stands up here: this file runs inside trees of other revisions.

FAMILIES = {  # tiny ones, of every family, and where a family has two ways, of both
    "vae": {"family.width": 16, "family.components": 2},
    "gan": {"family.width": 16, "family.latent_dim": 8},
    "vqvae": {"family.width": 8, "family.prior_width": 16, "family.prior_depth": 1},
    "flow": {"family.width": 16, "family.steps": 2},
    "diffusion": {"family.width": 16},
    "vqvae codebook": {"family.quantizer": "codebook", "family.width": 8, "family.prior_depth": 1},
    "vae conv": {"family.network": "conv", "family.width": 8, "family.conditional": "true"},
    "gan conv": {"family.network": "conv", "family.width": 8, "family.loss": "wgan-gp"},
    "flow conv": {"family.network": "conv", "family.channels": 4, "family.steps": 2},
}
KEPT = ("vae", "gan", "vqvae", "flow", "diffusion", "classifier")  # runs that are resumed
NOISE = re.compile(  # what tells of the clock, the process and the place, not of the result
    r"^(seconds.*|.*_seconds|seconds_left|images_per_second|speed|created|since|queued|started|told|begun|pid|node"
    r"|when|out|bytes|home|path|place|left|versions|age|at|run|job|id|evaluation|target|report|time|took|duration)$"
)
INTERVAL = re.compile(
    r"(interval|low|high|floor_low|floor_high|p|p_value|error)$|^(lower|upper)$|_p$"
)
JOB = re.compile(r"\b\d{8}-\d{6}-([a-z0-9-]+?)-[0-9a-f]{4}\b")

CLASSIFIER = '''
"""A classifier that writes down which images it was ever shown."""
import hashlib
import torch
from torch import nn

SEEN = set()

class Watched(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 10))

    def forward(self, x):
        SEEN.update(hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in x.detach().cpu().numpy())
        return self.net(x)

def make():
    from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Watched()
        x, y = torch.tensor(images).float().view(-1, 1, 8, 8) / 16, torch.tensor(labels)
        step = torch.optim.Adam(model.parameters(), 3e-3)
        for rows in torch.randperm(len(x) * 5).remainder(len(x)).split(64):
            step.zero_grad()
            nn.functional.cross_entropy(model.net(x[rows]), y[rows]).backward()
            step.step()
    return model.eval().requires_grad_(False)
'''


# --- Inside one tree --------------------------------------------------------------------------------------------------


class Refused(Exception):
    """What a command does not do, in its own words; the other tree must say the same."""


class Visit:
    """One tree, asked through its command line in this process; its answers are kept as results.

    Attributes:
        results: Thing (``weights: vae``) to what is compared: a digest, or a structure of plain values.
        runs: Ids of the runs of this home by their names.
    """

    def __init__(self, folder: Path, only: str) -> None:
        self.folder, self.results, self.runs = folder, {}, {}
        self.only = re.compile(only)
        self.home = Path(os.environ["SIMULACRA_HOME"])

    def do(self, thing: str, work: Callable[[], Any]) -> Any:
        """Does one thing and notes what came out; a failure is noted too, and nothing is stopped by it."""
        began = time.perf_counter()
        try:
            got = work()
        except Refused as error:
            got = {"refused": str(error)}
        except Exception as error:
            got = {"failed": f"{type(error).__name__}: {error}"}
            print(f"{thing}: {traceback.format_exc(limit=-3)}", file=sys.stderr)
        self.results[thing] = got
        print(f"{time.perf_counter() - began:6.1f} s  {thing}", file=sys.stderr, flush=True)
        return got

    def wanted(self, *things: str) -> bool:
        """Tells whether any of these things was asked for."""
        return any(self.only.search(thing) for thing in things)

    def ask(self, *arguments: object, key: str = "") -> dict[str, Any]:
        """Runs ``python -m core WORDS --json`` here, notes its keys under its name, and gives its answer.

        Raises:
            Refused: If it refuses or fails, with its own words.
        """
        from core.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*map(str, arguments), "--json"])
        if code == 2 or not out.getvalue().strip():
            raise Refused(self.plain(err.getvalue().strip().splitlines()[-1]))
        answer = json.loads(out.getvalue().strip().splitlines()[-1])
        name = key or str(arguments[0])
        known = set(self.results.get(f"keys: {name}", ()))
        self.results[f"keys: {name}"] = sorted(known | set(keys(answer)))
        return answer

    def plain(self, value: Any) -> Any:
        """Takes from an answer what differs from call to call: ids, folders, times."""
        if isinstance(value, Mapping):
            return {
                k: self.plain(v) for k, v in value.items() if not NOISE.match(str(k)) or k == "name"
            }
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        if isinstance(value, str):
            for name, path in (("HOME", self.home.absolute()), ("FOLDER", self.folder)):
                value = value.replace(str(path), name)
            return JOB.sub(r"<\1>", value)
        return value

    def answer(self, thing: str, *arguments: object, key: str = "") -> None:
        """Notes what a command answers."""
        self.do(thing, lambda: self.plain(self.ask(*arguments, key=key)))

    def train(self, name: str, *arguments: object) -> None:
        """Trains one run of this name, and notes its weights, its log and its pictures."""

        def train() -> Any:
            answer = self.ask("train", "--name", name, *arguments, "--wait")
            self.runs[name] = answer["run"]
            folder = self.home / "jobs" / answer["run"]
            self.results[f"weights: {name}"] = weights(folder)
            self.results[f"log: {name}"] = self.plain(log(folder))
            self.results[f"png of training: {name}"] = {
                f"{file.parent.name}/{file.name}": picture(file.read_bytes())
                for file in sorted(folder.glob("samples/*.png"))
            }
            known = set(self.results.get("keys: run.json", ()))
            record = json.loads((folder / "run.json").read_text("utf-8"))
            self.results["keys: run.json"] = sorted(known | set(keys(record)))
            if name in KEPT:
                self.results[f"state: {name}"] = state(folder)
            return self.plain(answer)

        self.do(f"train: {name}", train)

    def samples(self, thing: str, run: str, count: int, *arguments: object) -> None:
        """Draws images of a run twice: as numbers, and as a PNG."""
        for ending in ("npz", "png"):
            out = self.folder / f"samples.{ending}"

            def draw(out: Path = out) -> Any:
                self.ask("sample", run, "-n", count, "--seed", 3, *arguments, "--out", out)
                return arrays(out) if out.suffix == ".npz" else picture(out.read_bytes())

            self.do(f"{'samples' if ending == 'npz' else 'png'}: {thing}", draw)

    def export(self, thing: str, *arguments: object) -> None:
        """Notes the members of the ZIP that a dataset is written as."""

        def write() -> Any:
            out = self.folder / "dataset.zip"
            answer = self.plain(self.ask("export", *arguments, "--out", out))
            return {"answer": answer, "files": archive(out)}

        self.do(thing, write)

    def file(self, thing: str, name: str, *arguments: object) -> None:
        """Notes the file that a command writes to ``--out``."""

        def write() -> Any:
            out = self.folder / name
            answer = self.plain(self.ask(*arguments, "--out", out))
            return {"answer": answer, "file": picture(out.read_bytes())}

        self.do(thing, write)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def arrays(file: Path | bytes) -> dict[str, str]:
    """Describes the arrays of an .npz: shape, kind of number and digest of each."""
    import numpy as np

    with np.load(io.BytesIO(file) if isinstance(file, bytes) else file) as held:
        return {k: f"{v.dtype} {v.shape} {digest(v.tobytes())}" for k, v in sorted(held.items())}


def tensors(data: bytes) -> dict[str, str]:
    """Describes the tensors of a .safetensors."""
    from safetensors.torch import load

    return {
        name: f"{value.dtype} {tuple(value.shape)} {digest(value.numpy().tobytes())}"
        for name, value in sorted(load(data).items())
    }


def newest(folder: Path) -> Path:
    """Finds the newest checkpoint of a run."""
    return max((folder / "checkpoints").iterdir(), key=lambda each: int(each.name))


def weights(folder: Path) -> dict[str, str]:
    """Describes the weights that a run has ended with."""
    return tensors((newest(folder) / "model.safetensors").read_bytes())


def state(folder: Path) -> Any:
    """Describes all that a run goes on from: every tensor of its newest ``state.pt``, by its place."""
    import torch

    def flat(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            numbers = value.float() if value.dtype == torch.bfloat16 else value
            return f"{value.dtype} {tuple(value.shape)} {digest(numbers.cpu().numpy().tobytes())}"
        if isinstance(value, Mapping):
            return {str(k): flat(v) for k, v in value.items() if not NOISE.match(str(k))}
        if isinstance(value, list | tuple):
            return [flat(each) for each in value]
        return value if isinstance(value, int | float | str | bool | None) else str(value)

    return flat(torch.load(newest(folder) / "state.pt", map_location="cpu", weights_only=True))


def log(folder: Path) -> list[Any]:
    """Reads the records of a run."""
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def picture(data: bytes) -> dict[str, str]:
    """Describes a file: the bytes of its pixels, and its own, without the texts that name a run or a time."""
    from PIL import Image

    told: dict[str, str] = {}
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(image.convert("RGBA").tobytes())
        told["pixels"] = f"{image.size} × {len(frames)} {digest(b''.join(frames))}"
        told["keys"] = " ".join(sorted(map(str, image.info)))
    return told or {"bytes": digest(data)}


def archive(file: Path) -> dict[str, str]:
    """Describes the members of a ZIP, in their order; ids in its tables count as the same."""
    with zipfile.ZipFile(file) as held:
        members = {}
        for info in held.infolist():
            data = held.read(info)
            if not info.filename.endswith(".png"):
                data = JOB.sub(r"\1", data.decode("utf-8")).encode()
            members[info.filename] = digest(data)
        return members


def lay_pictures(folder: Path) -> Path:
    """Writes a folder of pictures in classes, the same for both trees: its place is a part of a dataset's key."""
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for number in range(0, 600, 7):
        file = folder / f"class {labels[number]}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((images[number].reshape(8, 8) * 15).astype("uint8")).save(file)
    return folder


def keys(value: Any, path: str = "") -> Iterator[str]:
    """Lists the keys of an answer as paths; items of a list count as one, and names of things as `*`."""
    if isinstance(value, Mapping):
        free = bool(value) and all(re.fullmatch(r"-?\d+|[A-Z].*|.*\s.*", str(k)) for k in value)
        for key, each in value.items():
            at = f"{path}.{'*' if free else key}".lstrip(".")
            yield at
            yield from keys(each, at)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each, f"{path}[]")


def make(visit: Visit) -> None:
    """Makes a small home with one of everything, and asks every command."""
    short = ["--images", 256, "--set", "train.batch=64", "--set", "train.seed=5"]
    for name, given in FAMILIES.items():
        if visit.wanted(f"weights: {name}", "home"):
            conv = {"dataset.size": 16, "dataset.count": 200} if "conv" in name else {}
            dataset = ["--dataset", "faces" if conv else "digits", "--family", name.split()[0]]
            visit.train(name, *dataset, *short, *sets(conv | given))
            if name in visit.runs:
                visit.samples(name, visit.runs[name], 12)
    for name, given in {"classifier": {}, "hardened": {"classifier.defence": "trades"}}.items():
        if visit.wanted(f"weights: {name}", "home"):
            chain = {"augment.pipeline": "digits"}
            visit.train(name, "--classifier", *short, *sets(given | chain))
    for part, work in {
        "datasets": _datasets, "shipped": _shipped, "latent": _latent, "augment": _augment, "attack": _attacks,
        "metric home": _metrics, "jobs home": _jobs,
    }.items():  # fmt: skip
        if visit.wanted(*part.split()):
            work(visit)
    names = [str(file.relative_to(visit.home / "cache")) for file in visit.home.glob("cache/**/*")]
    visit.results["cache keys"] = sorted(
        name for name in names if not name.endswith(".lock") and ".new-" not in name
    )


def sets(given: Mapping[str, Any]) -> list[str]:
    """Writes parameters as words of the command line."""
    return [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


def _datasets(visit: Visit) -> None:
    visit.answer("datasets: listed", "datasets")
    for name, given in {"digits": {}, "faces": {"size": 16, "count": 200}}.items():
        visit.answer(f"datasets: {name}", "datasets", name, *sets(given), key="datasets NAME")
        whole = {f"dataset.{key}": value for key, value in given.items()}
        visit.export(f"datasets: {name} as ZIP", name, *sets(whole))
    given = {"path": os.environ["IDENTITY_PICTURES"]}
    arguments = ["datasets", "folder", *sets(given | {"size": 12})]
    visit.answer("datasets: a folder of pictures", *arguments, key="datasets NAME")
    arguments = ["datasets", "folder", *sets(given), "--look"]
    visit.answer("datasets: a folder as it would be read", *arguments, key="datasets --look")


def _shipped(visit: Visit) -> None:
    for run in sorted(Path("core/gallery").glob("shipped-*")):
        if json.loads((run / "job.json").read_text("utf-8"))["kind"] == "train":
            visit.samples(run.name, run.name, 8 if "diffusion" in run.name else 16)
        visit.answer(f"listed: {run.name}", "runs", run.name, key="runs RUN")


def _latent(visit: Visit) -> None:
    run = "shipped-digits-vae"
    visit.file("latent: a way", "way.png", "sample", run, "-n", 6, "--between", 3, 7)
    film = ("interpolate", run, "--through", 0, 1, "--frames", 8)
    visit.file("latent: a film", "film.gif", *film)
    visit.file("latent: a film as strip", "strip.png", *film, "--way", "slerp")
    for name in ("vae", "flow", "gan", "diffusion"):
        visit.answer(
            f"latent: encoded by {name}", "encode", f"shipped-digits-{name}", "--test", 0, 5
        )
    for kind in ("principal", "factors", "local"):
        arguments = ("directions", "shipped-digits-gan", "--kind", kind, "--count", 2)
        visit.file(f"latent: directions, {kind}", f"{kind}.png", *arguments)


def _augment(visit: Visit) -> None:
    listed = visit.do("augment: listed", lambda: visit.ask("augment"))
    run = {"run": "shipped-faces-vae"}  # what draws from a model needs one
    given = {"sample": run, "neighbour": run}
    for name in [step["name"] for step in listed.get("steps", [])]:
        recipe = visit.folder / "recipe.json"
        one = {"name": name, "parameters": given.get(name, {}), "probability": 1, "enabled": True}
        whole = {"format": "simulacra-pipeline", "version": 1, "name": "One", "steps": [one]}
        recipe.write_text(json.dumps(whole), "utf-8")
        arguments = ("augment", recipe, "--dataset", "faces", "-n", 3, "--draws", 2)
        visit.file(f"augment: {name}", "augment.png", *arguments)
    for form in ("json", "yaml", "torchvision", "albumentations"):
        arguments = ("augment", "digits", "--export", form)
        visit.do(f"augment: as {form}", lambda w=arguments: {"recipe": visit.ask(*w)["recipe"]})
    visit.answer("augment: saved", "augment", "photos", "--save", "Kept")


def _attacks(visit: Visit) -> None:
    (visit.folder / "watched.py").write_text(CLASSIFIER, "utf-8")
    sys.path.insert(0, str(visit.folder))
    import watched  # pyright: ignore[reportMissingImports]

    out = visit.folder / "attacked"

    def attack(name: str, norm: str, eps: str) -> Any:
        watched.SEEN.clear()
        shutil.rmtree(out, ignore_errors=True)
        arguments = ["--attacks", name, "--norm", norm, "--eps", eps, "--n", 5, "--out", out]
        report = visit.ask("attack", "--classifier", "watched:make", *arguments)
        visit.results[f"attack: {name} {norm}, all that was tried"] = sorted(watched.SEEN)
        visit.results[f"report: {name} {norm}"] = visit.plain(report)
        return arrays(out / "adversarial.npz")

    for name in filter(None, os.environ["IDENTITY_ATTACKS"].split(",")):
        for norm, eps in (("linf", "0.1,0.2"), ("l2", "0.8"), ("l1", "3")):
            arguments = (name, norm, eps)
            visit.do(f"attack: {name} {norm}", lambda w=arguments: attack(*w))

    def job() -> Any:
        arguments = ["--classifier", "shipped-digits-classifier", "--attacks", "quick,autoattack"]
        arguments += ["--n", 12, "--eps", "0.1,0.2", "--out", out]
        more = {"corruptions": "true", "certify": 0.25, "certified": 4}
        more["transfer"] = "shipped-digits-robust"
        arguments += sets({f"attack.{key}": value for key, value in more.items()})
        report = visit.ask("attack", *arguments)
        folder = visit.home / "jobs" / report["job"]
        visit.results["report: a job"] = visit.plain(report)
        for name in ("corruptions", "certified", "transfer"):
            for file in folder.glob(f"{name}*.json"):
                visit.results[f"report: {name}"] = visit.plain(json.loads(file.read_text("utf-8")))
        return {file.name: arrays(file) for file in sorted(folder.glob("*.npz"))}

    visit.do("attack: a job on the shipped classifier", job)


def _metrics(visit: Visit) -> None:
    own = visit.runs.get("vae", "shipped-digits-vae")  # the home's own, with densities
    for of, run, extractor in (
        ("shipped GAN", "shipped-digits-gan", "judge"),
        ("tiny VAE", own, "pixels"),
    ):
        arguments = ["evaluate", run, "--metrics", "all", "--samples", 200, "--seed", 2]
        arguments += ["--extractor", extractor, "--report", visit.folder / "report.html"]
        visit.do(f"metrics: {of}", lambda n=of, w=arguments: _measured(visit, visit.ask(*w), n))
    for file in sorted(visit.home.glob("cache/judges/*.safetensors")):
        visit.results[f"weights: judge {file.stem}"] = tensors(file.read_bytes())


def _measured(visit: Visit, answer: Mapping[str, Any], of: str) -> Any:
    (one,) = answer["evaluations"]
    for name, each in one["metrics"].items():
        kept = ("value", "floor", "n", "extractor", "details")
        visit.results[f"metric {name}: {of}"] = {key: each[key] for key in kept}
        visit.results.setdefault(f"intervals: {of}", {})[name] = each["interval"]
    held = arrays(visit.home / "jobs" / one["evaluation"] / "arrays.npz")
    # features are kept in a basis that is random
    visit.results[f"metrics: {of}, arrays"] = {k: v for k, v in held.items() if "features" not in k}
    return visit.plain({key: value for key, value in one.items() if key != "metrics"})


def _jobs(visit: Visit) -> None:
    arguments = ["--list", "near", "--exclude", "near", "--save", "mended"]
    visit.answer("jobs: inspect", "inspect", "digits", *arguments)
    arguments = ["--drop", 3, "--drop", 12, "--label", "40=7"]
    visit.answer("jobs: decisions", "inspect", "digits", *arguments)
    arguments = ["inspect", "digits", "--against", "mended"]
    visit.answer("jobs: against", *arguments, key="inspect --against")
    arguments = ["--build", "larger", "--pipeline", "digits"]
    arguments += ["--run", visit.runs.get("gan", "shipped-digits-gan")]
    arguments += sets({"build.per_class": 6, "build.confidence": 0})
    visit.export("jobs: build", "digits", *arguments)
    small = {
        "steps": 20, "width": 4, "test_images": 100, "family": "vae", "synthetic": "true", "model_images": 400,
        "synthetic_per_class": 4, "confidence": 0, "both": "true",
    }  # fmt: skip
    arguments = sets({f"experiment.{key}": value for key, value in small.items()})
    visit.answer("jobs: experiment", "experiment", "--quick", "--per-class", 5, *arguments)
    visit.answer("families: listed", "families")
    for name in ("vae", "gan", "vqvae", "flow", "diffusion"):
        visit.answer(f"families: {name}", "families", name, key="families NAME")


def open_home(visit: Visit) -> None:
    """Opens a home that another revision may have made: lists, draws, resumes, exports, looks at its pages."""
    listed = visit.ask("runs")["runs"]
    visit.results["opened: listed"] = sorted(
        f"{row['name']}: {row['status']}, {row['family']}, {row['dataset']}" for row in listed
    )
    visit.runs = {row["name"]: row["run"] for row in listed if JOB.fullmatch(row["run"])}
    if "vae" in visit.runs:  # before it goes on
        arguments = ["evaluate", visit.runs["vae"], "shipped-digits-gan", "--compare"]
        visit.answer("opened: compared", *arguments)
    visit.answer("opened: decisions", "inspect", "digits")
    visit.answer("opened: datasets", "datasets")
    for name in ("mended", "larger"):
        visit.answer(f"opened: {name}", "datasets", name, key="datasets NAME")
        visit.export(f"opened: {name} exported", name)
    kept = [row["id"] for row in visit.ask("augment")["pipelines"] if row["title"] == "Kept"]
    for id in kept:
        arguments = ["augment", id, "--dataset", "faces", "-n", 2]
        visit.file("opened: a recipe", "kept.png", *arguments)
    for name in FAMILIES:
        if name in visit.runs:
            visit.samples(f"opened, {name}", visit.runs[name], 12)
    visit.do("opened: pages", lambda: pages(visit))
    waiting = [name for name in KEPT if name in visit.runs]
    for name in waiting:  # all are asked at once: their processes start side by side
        arguments = ("resume", visit.runs[name], "--images", 384)
        visit.answer(f"opened: {name} goes on", *arguments)
    for name in waiting:
        folder = visit.home / "jobs" / visit.runs[name]

        def resumed(folder: Path = folder) -> Any:
            for _ in range(600):
                status = json.loads((folder / "state.json").read_text("utf-8"))["status"]
                if status not in ("queued", "running"):
                    return {"status": status, "weights": weights(folder)}
                time.sleep(0.2)
            raise Refused("it is not done after two minutes")

        visit.do(f"opened: {name} resumed", resumed)


def pages(visit: Visit) -> dict[str, Any]:
    """Opens the pages that show this home, and gives the errors that each of them shows."""
    import logging

    logging.disable(logging.WARNING)  # Streamlit says of each run that there is no browser
    from streamlit.testing.v1 import AppTest

    jobs = {
        path.name: json.loads((path / "job.json").read_text("utf-8"))
        for path in sorted((visit.home / "jobs").iterdir())
        if (path / "job.json").exists()
    }
    of = lambda kind: [id for id, job in jobs.items() if job["kind"] == kind]  # noqa: E731
    gan = visit.runs.get("gan", "shipped-digits-gan")
    asked: list[tuple[str, dict[str, str]]] = [
        ("overview", {}),
        ("data", {"data": "digits"}),
        ("data", {"data": "mended"}),
        *(("train", {"run": visit.runs[name]}) for name in KEPT if name in visit.runs),
        ("race", {"race": "shipped-race"}),
        *(("evaluate", {"run": jobs[id]["target"], "evaluation": id}) for id in of("evaluate")),
        ("evaluate", {"run": "shipped-digits-gan", "evaluate.view": "Copies"}),
        ("about", {"run": "shipped-digits-gan"}),
        ("latent", {"run": gan}),
        ("latent", {"run": "shipped-digits-vae"}),
        ("augment", {"augment.preset": "digits"}),
        *(
            ("robustness", {"robust.model": jobs[id]["config"]["attack"]["classifier"]})
            for id in of("attack")
        ),
        ("robustness", {}),
    ]
    errors: dict[str, Any] = {}
    for page, query in asked:
        at = AppTest.from_file(str(Path("app.py").absolute()), default_timeout=120)
        at.run()
        at.query_params |= query
        at.switch_page(f"pages/{page}.py")
        at.run()
        name = JOB.sub(r"<\1>", " ".join([page, *query.values()]))
        errors[name] = [each.message for each in at.exception] + [each.value for each in at.error]
    return visit.plain(errors)


# --- Outside: both trees, and what differs ----------------------------------------------------------------------------


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Lists where two structures part: the path, and what stands there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            at = f"{path}.{key}".lstrip(".")
            if key not in new:
                yield at, "is gone"
            elif key not in old:
                yield at, "is new"
            else:
                yield from differences(old[key], new[key], at)
    elif isinstance(old, list) and isinstance(new, list):
        if all(isinstance(each, str) for each in old + new):
            gone, more = set(old) - set(new), set(new) - set(old)
            for how, which in (("gone", gone), ("new", more)):
                if len(which) > 40:
                    yield path, f"{len(which)} of {len(old)} are {how}"
                else:
                    yield from ((path, f"{each[:70]!r} is {how}") for each in sorted(which))
            return
        if len(old) != len(new):
            yield path, f"{len(old)} → {len(new)} rows"
        for number, pair in enumerate(zip(old, new, strict=False)):
            yield from differences(*pair, f"{path}[{number}]")
    elif old != new and not (old != old and new != new):
        yield path, f"{_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_text(value: Any) -> bool:
    return (
        isinstance(value, str)
        and " " in value.strip()
        and not re.match(r"torch\.|[a-z]+\d+ \(", value)
    )


def _parted(value: Any, where: str, out: dict[str, Any], path: str = "") -> Any:
    """Takes intervals and sentences out of an answer, into the rows of their own."""
    if isinstance(value, Mapping):
        kept = {}
        for key, each in value.items():
            at = f"{path}.{key}".lstrip(".")
            if INTERVAL.search(str(key)) and not isinstance(each, str):
                out["intervals"][at] = each
            else:
                left = _parted(each, where, out, at)
                if left is not None or each is None:
                    kept[key] = left
        return kept
    if isinstance(value, list):
        left = [_parted(each, where, out, f"{path}[{k}]") for k, each in enumerate(value)]
        return [a for a, b in zip(left, value, strict=True) if a is not None or b is None]
    if _is_text(value) and not where.startswith(("png", "weights", "samples", "state", "keys")):
        out["texts"][path] = value
        return None
    return value


def table(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Compares the results of two trees; gives each thing with its differences, none when it is the same."""
    rows = []
    apart: dict[str, dict[str, tuple[Any, Any]]] = {"intervals": {}, "texts": {}}
    for thing in [*old, *(thing for thing in new if thing not in old)]:
        if thing not in new or thing not in old:
            rows.append((thing, ["is not there any more" if thing in old else "was not there"]))
            continue
        left: dict[str, Any] = {"intervals": {}, "texts": {}}
        right: dict[str, Any] = {"intervals": {}, "texts": {}}
        if thing.startswith("intervals"):
            left["intervals"], right["intervals"], a, b = old[thing], new[thing], None, None
        else:
            a, b = _parted(old[thing], thing, left), _parted(new[thing], thing, right)
            rows.append((thing, [f"{at}: {how}".lstrip(": ") for at, how in differences(a, b)]))
        for kind in apart:
            if left[kind] or right[kind]:
                apart[kind][thing] = left[kind], right[kind]
    for kind, things in apart.items():
        parted = [
            f"{thing}: {at}: {how}"
            for thing, pair in things.items()
            for at, how in differences(*pair)
        ]
        rows.append((f"{kind}, all", parted))
    return rows


def environment(tree: Path, home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Gives the settings under which a tree is asked: one thread, nothing of this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SIMULACRA_")}
    data = {k: v for k, v in os.environ.items() if k == "SIMULACRA_DATA_DIR"}
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return kept | data | one | dict(given) | {
        "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "", "SIMULACRA_HOME": str(home),
        "SIMULACRA_THREADS": "1", "SIMULACRA_NICE": "0", "SIMULACRA_DEVICE": "cpu", "SIMULACRA_SLOTS_TRAIN": "2",
        "SIMULACRA_MIN_FREE_MB": "0",
    }  # fmt: skip


def inside(
    tree: Path, what: str, home: Path, folder: Path, only: str, given: Mapping[str, str]
) -> Any:
    """Runs this file inside a tree; gives its results."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    began = time.perf_counter()
    print(f"== {what}: {tree}", file=sys.stderr, flush=True)
    command = [
        sys.executable,
        "-P",
        "-W",
        "ignore",
        str(Path(__file__).absolute()),
        "--inside",
        what,
    ]
    subprocess.run(
        [*command, "--keep", str(folder), "--only", only],
        cwd=tree, env=environment(tree, home, given), check=True,
    )  # fmt: skip
    print(f"== {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return json.loads(results.read_text("utf-8"))


@contextlib.contextmanager
def tree_of(text: str, folder: Path) -> Iterator[Path]:
    """Gives the tree of a revision, checked out beside the others, or a folder as it stands."""
    if Path(text).is_dir():
        yield Path(text).absolute()
        return
    tree = folder / f"tree-{re.sub(r'[^0-9A-Za-z]+', '-', text)}"
    git = ["git", "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), text], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def attacks_of(tree: Path) -> set[str]:
    """Lists the attacks of a tree: each is a file of its folder ``attacks``."""
    files = (file for file in tree.glob("core/**/attacks/*.py") if file.stem != "__init__")
    return {file.stem for file in files}


def main() -> int:
    """Compares two trees and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="HEAD", help="the older revision (default HEAD)")
    parser.add_argument("--against", default=".", help="a revision or a folder (default: this one)")
    parser.add_argument("--only", default="", help="pattern of what is compared: weights, attack …")
    parser.add_argument("--keep", help="a folder that the homes and results stay in")
    parser.add_argument("--full", action="store_true", help="list every thing and difference")
    parser.add_argument("--inside", choices=("make", "open"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        visit = Visit(Path(given.keep), given.only)
        {"make": make, "open": open_home}[given.inside](visit)
        Path(given.keep, "results.json").write_text(json.dumps(visit.results, default=str), "utf-8")
        return 0
    with contextlib.ExitStack() as stack:
        folder = Path(given.keep or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        trees = {
            "old": stack.enter_context(tree_of(given.base, folder)),
            "new": stack.enter_context(tree_of(given.against, folder)),
        }
        attacks = ",".join(sorted(set.intersection(*map(attacks_of, trees.values()))))
        pictures = lay_pictures(folder / "pictures")
        shared = {"IDENTITY_ATTACKS": attacks, "IDENTITY_PICTURES": str(pictures)}
        results: dict[str, dict[str, Any]] = {"old": {}, "new": {}}
        for side, tree in trees.items():
            home = folder / f"home-{side}"
            results[side] |= inside(tree, "make", home, folder / side, given.only, shared)
        if not given.only or re.search(given.only, "home opened"):
            shutil.copytree(folder / "home-old", folder / "home-copy")
            for side, home in (("new", "home-copy"), ("old", "home-old")):
                opened = folder / f"{side}-opened"
                results[side] |= inside(
                    trees[side], "open", folder / home, opened, given.only, shared
                )
        rows = table(results["old"], results["new"])
        for thing, parted in rows:
            if not parted and not given.full:
                continue
            shown = parted if given.full else parted[:3]
            more = f" … {len(parted) - 3} more" * (len(parted) > 3 and not given.full)
            print(f"{'differs' if parted else 'same':<8} {thing}")
            for each in shown:
                print(f"         {each}{more if each is shown[-1] else ''}")
        same = sum(not parted for _, parted in rows)
        print(f"{same} of {len(rows)} things are the same.")
        return int(same < len(rows))


if __name__ == "__main__":
    sys.exit(main())

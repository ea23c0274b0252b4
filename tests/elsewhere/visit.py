"""A visit of every page, recipes on the command line, and a job of each kind, all in one process.

A process of its own runs this from the root of the project: ``python tests/elsewhere/visit.py FOLDER``. The recipes
``chain.json`` and ``chain.yaml`` lie in the folder. It prints one JSON object.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

DEVELOPMENT = ("pytest", "xdist", "beartype", "playwright", "pyright", "albumentations")
DATA = {"dataset": "digits"}
FEW = {"train.images": 64, "train.batch": 32}
KINDS: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "train": (DATA | {"family": "vae"}, FEW),
    "classifier": (DATA, FEW),
    "evaluate": (DATA, {"samples": 100, "extractor": "pca", "metrics": "precision", "map": False}),
    "attack": (DATA, {"n": 4, "attacks": "fgsm"}),
    "harden": (DATA, FEW | {"classifier": "shipped-digits-classifier", "attack_steps": 1, "n": 4}),
    "inspect": (DATA, {"map": 100, "labels": False}),
    "experiment": (
        DATA,
        {"quick": True, "steps": 20, "per_class": "2", "batch": 8, "width": 4, "test_images": 50,
         "placebo": False, "trivial": False},
    ),
    "build": (DATA, {"name": "more", "pipeline": "digits"}),
    "race": (DATA, {"seconds": 1, "turns": 2, "families": "vae, flow"}),
    "bring": (DATA | {"brought": "twin"}, {}),
    "adapt": (
        DATA,
        {"source": "augmented", "budget": 20, "rounds": 1, "pairs": 1, "steps": 20, "batch": 8, "width": 4,
         "test_images": 50},
    ),
    "drift": (DATA, {"corruption": "contrast", "images": 100}),
    "export": (DATA, {"layouts": "folder, npz", "near": False}),
    "improve": (DATA, {"minutes": 0.1, "mend": False, "augment": False, "generate": False, "width": 4}),
    "screening": (DATA, {"seeds": 2, "steps": 20, "images": 20, "width": 4}),
}  # fmt: skip


def visit() -> dict[str, list[str]]:
    """Opens every page as a new visitor would; gives what each shows in red."""
    import streamlit.testing.v1.app_test as app_test
    from streamlit.runtime.pages_manager import PagesManager

    class Visited(PagesManager):
        """A server that has had visitors: a fresh one takes `pages/` for a navigation of its own."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            PagesManager.uses_pages_directory = False
            super().__init__(*args, **kwargs)

    app_test.PagesManager = Visited  # type: ignore[misc]
    found: dict[str, list[str]] = {}
    at = app_test.AppTest.from_file(str(Path.cwd() / "app.py"), default_timeout=120).run()
    for page in sorted(path.stem for path in Path("pages").glob("*.py")):
        if page == "augment":  # a copied link of a changed chain
            at.query_params["chain"] = '[["rotate",{"degrees":12},1.0,1]]'
        at.switch_page(f"pages/{page}.py").run()
        found[page] = [each.message for each in at.exception] + [each.value for each in at.error]
        if not at.title:
            found[page].append("no title")
        if page == "augment":
            steps = [step["name"] for step in at.session_state["augment.chain"]]
            found[page] += (
                [] if steps == ["rotate"] else [f"another chain than the link's: {steps}"]
            )
    return found


def recipes(folder: Path) -> dict[str, int]:
    """Reads the recipes; gives the exit codes."""
    from core.__main__ import main

    codes = {}
    for name in ("chain.json", "chain.yaml"):
        words = ["augment", str(folder / name), "-n", "1", "--draws", "1"]
        codes[name] = main([*words, "--out", str(folder / f"{name}.png"), "--json"])
    return codes


def datasets_moved(folder: Path) -> list[str]:
    """Imports a folder of pictures, keeps a copy and deletes it: files that are written, moved and removed."""
    import numpy as np
    from PIL import Image

    from core import datasets

    for i in range(20):  # the first is grey, so that the file of pixels is widened on the way
        side = np.full((8, 8) if i == 0 else (8, 8, 3), i, np.uint8)
        (folder / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(side).save(folder / "pictures" / "ab"[i % 2] / f"{i:02}.png")
    made = datasets.load("folder", {"path": str(folder / "pictures"), "size": 8})
    datasets.save("kept", made)
    datasets.bring("brought", {"path": str(folder / "pictures"), "size": 8})
    before = [datasets.load(name).name for name in ("kept", "brought")]
    datasets.delete("kept")
    return before + [name for name in datasets.names() if name in ("kept", "brought")]


def twin() -> None:
    """Registers an origin of generative models, which gives a shipped one as if it were brought."""
    from core import brought, jobs, runs
    from core.catalog import Config

    opened = runs.open_model(jobs.get("shipped-digits-gan"))

    @brought.origins.add("twin", "Twin", Config, files=("safetensors",), sampling=opened.sampling)
    def again(config: Any, file: Any, spec: Any, classes: Any, record: Any) -> runs.Opened:
        """The shipped model."""
        return brought.opened(opened.model, spec, classes, {}, [], opened.sampling)


def each_kind() -> dict[str, list[str]]:
    """Does one small job of each kind; gives how it ended and what it says."""
    from core import brought, jobs, kinds, worker
    from core.kinds import evaluate
    from core.measure import features
    from core.weights import Package

    apart = kinds.submit(
        "train", *KINDS["train"]
    )  # in a process of its own, as all others would be
    jobs.spawn = lambda path: None
    twin()
    features.quick = lambda data, device, *_: features.components(data, device)  # needs no training
    found = {kind: ["not tried", "Add it to KINDS."] for kind in jobs.kinds.names()}
    for kind, (choice, values) in KINDS.items():
        if kind == "evaluate":
            job = evaluate.start(jobs.get("shipped-digits-gan"), values)
        else:
            target = "shipped-digits-classifier" if kind == "attack" else ""
            job = kinds.submit(kind, choice, values, target=target)
        if kind == "bring":
            (job.path / brought.UPLOAD).write_bytes(Package.alone(b"").packed())
        # the slot of the lane may be the other process's
        worker.work(job.path)
        found[kind] = [jobs.get(job.id).status, jobs.get(job.id).message]
    from core.commands import wait

    apart = wait(apart)
    return found | {"apart": [apart.status, apart.message]}


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    facts = {
        "development": [name for name in DEVELOPMENT if importlib.util.find_spec(name)],
        "kinds": each_kind(),
        "datasets": datasets_moved(Path(sys.argv[1])),
        "recipes": recipes(Path(sys.argv[1])),
        "pages": visit(),
    }
    print(json.dumps(facts), file=out)

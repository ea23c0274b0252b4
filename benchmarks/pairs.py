"""Compares the speed of two revisions: training, attacks, the first render, and the Latent page at another seed.

``python -m benchmarks.pairs --base REV [--pairs 10] [--only WORDS] [--most 1.05]``

Both sides take turns, each time in a fresh process on one thread. What is compared are CPU-seconds of that process, so
that other work on the machine counts little. For each thing: the geometric mean of the ratio new / base over the pairs,
with Student's interval of 95 % on its logarithm.
That an attack loads scipy.stats is not counted. The exit code is 1 when an upper end is above ``--most``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.evidence import row

ROOT = Path(__file__).resolve().parent.parent
THINGS = ["train gan", "train vae", "train diffusion", "attack", "first render", "pad"]

# What a side runs in its own tree, through what both sides have.
SIDE = """
import contextlib, io, json, os, sys, time
what, home = sys.argv[1:]
sys.path.insert(0, os.getcwd())
if what.startswith("train"):
    import torch
    from core import datasets
    from core.models import build
    from core.training import TrainConfig, Trainer, spec_of
    torch.set_num_threads(1)
    data = datasets.load("digits")
    model = build(what.split()[1], {}, spec_of(data))
    trainer = Trainer(model, data, TrainConfig(images=30_000, seed=0), torch.device("cpu"))
    began = time.process_time()
    for _ in trainer:
        pass
elif what == "attack":
    import scipy.stats  # once per process and 0.6 s of CPU time, which is told apart from the attack
    import torch
    from core.__main__ import main
    torch.set_num_threads(1)
    with open(home + "/shipped.py", "w") as file:  # brought, so that it is attacked in this process
        file.write("from core import jobs, runs\\n"
                   "def make():\\n    return runs.open_model(jobs.find('shipped-digits-classifier')).model\\n")
    sys.path.insert(0, home)
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(["attack", "--classifier", "shipped:make", "--dataset", "digits", "--attacks", "quick,pgd", "--n",
                     "200", "--json", "--out", home + "/attacked"])
    assert code == 0, code
else:
    from streamlit.testing.v1 import AppTest
    began = time.process_time()
    seen = AppTest.from_file("app.py", default_timeout=120)
    if what == "first render":
        seen.run()
    else:
        seen.query_params["run"] = "shipped-digits-vae"
        seen.switch_page("pages/latent.py").run()
        time.sleep(4)  # the server imports in the background what comes next
        began = time.process_time()
        for seed in range(1, 9):
            seen.session_state["latent.seed"] = seed
            seen.run()
    assert not seen.exception, seen.exception
print("took", time.process_time() - began)
"""


@contextlib.contextmanager
def tree(revision: str) -> Iterator[Path]:
    """Gives the folder of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "-q", "--detach", path, revision], cwd=ROOT, check=True
        )
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, check=True)


def seconds(tree: Path, thing: str, home: str) -> float:
    """Runs a thing in a tree; gives its CPU-seconds."""
    alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "SIMULACRA_HOME": home}
    ended = subprocess.run(
        [sys.executable, "-c", SIDE, thing, home],
        cwd=tree,
        env=os.environ | alone,
        capture_output=True,
        text=True,
        check=False,
    )
    if (took := re.search(r"^took (.*)$", ended.stdout, re.MULTILINE)) is None:
        raise SystemExit(f"{thing} failed in {tree}:\n{ended.stderr[-2000:]}")
    return float(took[1])


def main() -> None:
    """Measures the pairs and prints them; the last line is one JSON object."""
    from scipy.stats import t

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HEAD")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--only", default="", help="pattern of things: train, attack …")
    parser.add_argument("--most", type=float, default=1.05, help="the largest upper end")
    arguments = parser.parse_args()
    ratios, over = {}, False
    with tree(arguments.base) as base, tempfile.TemporaryDirectory() as homes:
        sides = {"base": base, "new": ROOT}
        for name in sides:
            (Path(homes) / name).mkdir()
        for thing in [each for each in THINGS if re.search(arguments.only, each)]:
            logs = []
            for pair in range(arguments.pairs + 1):
                order = sorted(sides, reverse=bool(pair % 2))
                took = {name: seconds(sides[name], thing, f"{homes}/{name}") for name in order}
                if pair:  # the first one prepares data and caches
                    logs.append(math.log(took["new"] / took["base"]))
            middle = statistics.mean(logs)
            half = t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / len(logs) ** 0.5
            ratio, low, high = (math.exp(x) for x in (middle, middle - half, middle + half))
            over |= high > arguments.most
            ratios[thing] = [round(x, 4) for x in (ratio, low, high)]
            row(
                f"CPU time beside an older revision, {thing}: {ratio:.3f} ({low:.3f} to {high:.3f})",
                f"{arguments.pairs} pairs, base {arguments.base}",
            )
    print(json.dumps({"base": arguments.base, "pairs": arguments.pairs, "ratio": ratios}))
    sys.exit(over)


if __name__ == "__main__":
    main()

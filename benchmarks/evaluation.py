"""Evaluation: its speed beside torch-fidelity's, its memory, how often its interval of KID is right, and its map.

    python -m benchmarks.evaluation speed      # in an environment that also has torch-fidelity
    python -m benchmarks.evaluation memory
    python -m benchmarks.evaluation interval   # with MNIST in SIMULACRA_DATA_DIR
    python -m benchmarks.evaluation map        # the same, and Chromium

``speed`` times every metric that both have, on the same arrays, in turns in one process on one thread, with their
defaults; ours give intervals, density and coverage as well. Seconds are the processor's. ``memory`` measures what
50 000 × 2048 features take beyond themselves. ``interval`` counts in how many of 100 draws of real images the interval
holds the value of a large sample. ``map`` opens the map of 10 000 samples and 10 000 real images of 28 px in a browser:
the first view, a later one, and what the pointer asks of the server while it passes over the points.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.evidence import row
from core.measure import distances


def _clouds(n: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Makes real features, generated features and logits."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(0.3, 1.7, width)
    a, b = (rng.standard_normal((n, width)) * scale for _ in range(2))
    logits = rng.standard_normal((n, 10))
    return tuple(torch.from_numpy(x).float() for x in (a, b * 0.95 + 0.05, logits))  # type: ignore[return-value]


def _timed(work: Callable[[], object]) -> float:
    """Gives the processor's seconds on one thread, which other programs on the machine change little."""
    began = time.process_time()
    work()
    return time.process_time() - began


def speed(n: int = 5000) -> None:
    """Prints seconds and ratios."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(None):  # loads both libraries
        for work in (*_ours(300, 8).values(), *_theirs(1000, 8).values()):
            work()
    for width in (64, 2048):
        print(f"{n} against {n}, {width} features")
        ours, theirs = _ours(n, width), _theirs(n, width)
        sums = np.zeros(2)
        for name, peer in theirs.items():
            times = np.array([_timed(ours[name]), _timed(peer)])
            sums += times
            print(
                f"  {name:<18} ours {times[0]:7.3f} s   torch-fidelity {times[1]:7.3f} s",
                flush=True,
            )
        row(
            f"{n} against {n}, {width}: {sums[0]:.2f} s against {sums[1]:.2f} s, {sums[1] / sums[0]:.1f} times"
        )
        for name in ours.keys() - theirs.keys():
            print(f"  {name:<24} ours {_timed(ours[name]):7.3f} s", flush=True)


def _ours(n: int, width: int) -> dict[str, Callable[[], object]]:
    a, b, logits = _clouds(n, width)
    return {
        "Fréchet distance": lambda: distances.frechet(b, a),
        "KID": lambda: distances.kernel_distance(b, a),
        "Inception Score": lambda: distances.inception_score(logits.double().softmax(1)),
        "precision, recall": lambda: distances.overlap(a, b, 3),
        "Fréchet, with interval": lambda: distances.frechet_estimate(b, a),
        "sliced": lambda: distances.sliced_estimate(b, a),
        "earth mover's": lambda: distances.earth_mover_estimate(b, a, min(500, n // 2)),
        "nearer to training": lambda: distances.nearer_to_training(b, a, b[: n // 5]),
    }


def _theirs(n: int, width: int) -> dict[str, Callable[[], object]]:
    from torch_fidelity import (  # type: ignore[import-not-found]
        metric_fid,
        metric_isc,
        metric_kid,
        metric_prc,
    )

    a, b, logits = _clouds(n, width)
    return {
        "Fréchet distance": lambda: metric_fid.fid_statistics_to_metric(
            *(metric_fid.fid_features_to_statistics(x) for x in (b, a)), verbose=False
        ),
        "KID": lambda: metric_kid.kid_features_to_metric(b, a, verbose=False),
        "Inception Score": lambda: metric_isc.isc_features_to_metric(logits),
        "precision, recall": lambda: metric_prc.prc_features_to_metric(b, a, verbose=False),
    }


def memory(n: int = 50_000, width: int = 2048) -> None:
    """Prints the highest memory beyond the features themselves."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, width, generator=generator)
    b = torch.randn(n, width, generator=generator).add_(0.02)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n} × {width}: two sets of {a.nbytes / 2**20:.0f} MB, {before:.0f} MB in use")
    works: dict[str, Callable[[], object]] = {
        "Fréchet distance": lambda: distances.frechet(a, b),
        "nearest of 5 000": lambda: distances.nearest(a[:5000], b),
        "KID": lambda: distances.kernel_distance(a, b),
        "precision to coverage": lambda: distances.overlap(a, b),
    }
    for name, work in works.items():
        seconds = _timed(work)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  {name:<24} {seconds:8.1f} s   {peak - before:6.0f} MB more", flush=True)


def interval(draws: int = 100, n: int = 500) -> None:
    """Prints how often the interval holds the value of a large sample, for changed real images."""
    from core import datasets
    from core.measure import features
    from core.tensors import device, to_float

    dataset = datasets.load("mnist")
    extractor, note = features.choose("judge", dataset, device())
    print(extractor.name, extractor.hash, note)
    rng = np.random.default_rng(0)

    def seen(index: np.ndarray, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        x = change(to_float(torch.as_tensor(np.asarray(dataset.x[index])), dataset.levels))
        return torch.from_numpy(extractor.features(x)).float()

    order = rng.permutation(dataset.splits["train"])
    half = len(order) // 2
    real = seen(order[:half], lambda x: x)
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "nothing": lambda x: x,
        "noise of 0.1": lambda x: (x + 0.1 * torch.randn(x.shape)).clamp(0, 1),
        "blur": lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1),
    }
    for name, change in changes.items():
        other = seen(order[half:], change)
        truth = distances.kernel_distance(real[:20_000], other[:20_000]).value
        shares = [
            distances.kernel_distance(
                real[torch.from_numpy(rng.permutation(len(real))[:n])],
                other[torch.from_numpy(rng.permutation(len(other))[:n])],
            )
            for _ in range(draws)
        ]
        hits = sum(one.low <= truth <= one.high for one in shares)
        row(f"Interval of KID, {name}: {truth:.5f} held in {hits} of {draws} draws of {n}")


OVER = """async moves => {
    const over = window._map.querySelector("canvas.over"), card = window._map.querySelector(".card");
    const box = over.getBoundingClientRect(), took = [];
    let seen = 0;
    for (let i = 0; i < moves; i++) {
        const x = box.left + box.width * (0.1 + 0.8 * i / moves);
        const y = box.top + box.height * (0.1 + 0.8 * (i * 7 % 11) / 11);
        const start = performance.now();
        over.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
        took.push(performance.now() - start);
        seen += !card.hidden;
        await new Promise(requestAnimationFrame);
    }
    return [took, seen];
}"""


def _repeated(file: Path, n: int) -> None:
    """Repeats what is known of each of a few images until it fills a map of as many samples and real images as asked.

    The samples are real images too, and places are drawn at random: drawing and measuring them is not what is timed.
    """
    from core import datasets

    dataset, rng = datasets.load("mnist"), np.random.default_rng(0)
    with np.load(file) as stored:
        arrays = {name: np.resize(x, (n, *x.shape[1:])) for name, x in stored.items()}
    arrays["made"] = np.asarray(dataset.x[dataset.splits["train"][:n]])
    arrays["real"] = np.resize(dataset.splits["test"], n)
    for name in ("made_features", "real_features"):
        arrays[name] = rng.standard_normal(arrays[name].shape).astype(np.float16)
    np.savez_compressed(file, **arrays)


def the_map(n: int = 10_000) -> None:
    """Prints seconds to the first view of a map, and milliseconds of a picture under the pointer."""
    import shutil
    import tempfile

    from playwright.sync_api import sync_playwright

    from benchmarks.app import FLAGS, URL, ready, serve, spread, train

    home = Path(tempfile.mkdtemp(prefix="simulacra-bench-"))
    train("--dataset", "mnist", "--family", "gan", "--images", "64", "--wait", home=home)
    (run,) = (path.name for path in (home / "jobs").glob("2*"))
    command = [sys.executable, "-m", "core", "evaluate", run, "--samples", "50"]
    command += ["--metrics", "coverage", "--extractor", "pca", "--set", "evaluate.map=false"]
    subprocess.run(command, env=os.environ | {"SIMULACRA_HOME": str(home)}, check=True)
    _repeated(next((home / "jobs").glob("2*/arrays.npz")), n)
    server = serve(home)
    try:
        ready()
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for name in ("first view", "another visitor"):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                sent: list[Any] = []
                page.on(
                    "websocket", lambda s, t=sent: s.on("framesent", lambda x, t=t: t.append(x))
                )
                page.goto(f"{URL}/evaluate?run={run}")
                page.get_by_text("Map", exact=True).first.wait_for()
                page.wait_for_selector("[data-test-script-state=notRunning]")
                began = time.perf_counter()
                page.get_by_text("Map", exact=True).first.click()
                page.wait_for_selector("canvas.points[data-drawn]")
                drawn = time.perf_counter() - began
                page.evaluate(
                    """() => { window._map = [...document.querySelectorAll("*")].map(e => e.shadowRoot).find(
                        root => root?.querySelector("canvas.points")); }"""
                )
                while not page.evaluate(OVER, 20)[1]:  # the first picture is there
                    pass
                pictures = time.perf_counter() - began
                time.sleep(2)
                before = len(sent)
                took, seen = page.evaluate(OVER, 300)
                row(
                    f"{2 * n} points, {name}: drawn {drawn:.2f} s after the press, with pictures {pictures:.2f} s; "
                    f"pointer {spread(took)}, {seen} of 300 rests on a picture, {len(sent) - before} requests"
                )
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


PARTS = {"speed": speed, "memory": memory, "interval": interval, "map": the_map}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()

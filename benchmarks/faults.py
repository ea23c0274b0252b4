"""Plants faults in 60 000 images of MNIST and measures which of them the inspection finds, and how long it takes.

``SIMULACRA_DATA_DIR=… python -m benchmarks.faults [--images 60000] [--foreign FOLDER]``

200 labels are flipped; 100 exact duplicates, 100 copies shifted by one pixel, 50 blank images, 50 foreign ones (grey
photographs of things: those in a folder, else crops of scikit-learn's two) and 30 leaks (a test image in train) are
added. A label issue counts by the rank of the whole list: average precision. One thread.

With ``--page`` it measures instead how long a page of the Data wall takes to turn in a real browser, before and while
a job inspects the same dataset. Needs Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.evidence import row
from core import datasets, quality


def foreign(folder: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Gives 50 grey photographs, uint8 (50, 1, size, size)."""
    files = sorted(Path(folder).rglob("*.jpg")) if folder else []
    if files:
        chosen = [Image.open(files[i]) for i in rng.permutation(len(files))[:50]]
    else:
        from sklearn.datasets import load_sample_images

        chosen = []
        for picture in load_sample_images().images * 25:
            top, left = (int(rng.integers(0, side - 128)) for side in picture.shape[:2])
            chosen.append(Image.fromarray(picture[top : top + 128, left : left + 128]))
    return np.stack(
        [np.asarray(picture.convert("L").resize((size, size)))[None] for picture in chosen]
    )


def planted(count: int, folder: str) -> tuple[datasets.Dataset, dict[str, np.ndarray]]:
    """Builds the dataset with faults; gives the images of each kind of fault."""
    whole, rng = datasets.load("mnist"), np.random.default_rng(0)
    assert whole.y is not None
    added = 330
    kept = {
        split: np.sort(rng.permutation(index)[: int(len(index) * (count - added) / len(whole))])
        for split, index in whole.splits.items()
    }
    rows = np.concatenate([kept[split] for split in datasets.SPLITS])
    x, y = np.asarray(whole.x[rows]), np.array(whole.y[rows])
    ends = np.cumsum([len(kept[split]) for split in datasets.SPLITS])
    train = np.arange(ends[0])
    some = rng.permutation(train)
    exact, shifted, flipped = some[:100], some[100:200], some[200:400]
    leaked = rng.permutation(np.arange(ends[1], ends[2]))[:30]
    ways = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    moved = np.stack([np.roll(x[i], ways[k % 4], (1, 2)) for k, i in enumerate(shifted)])
    grey = np.broadcast_to(rng.integers(0, 256, (50, 1, 1, 1)), (50, *x.shape[1:])).astype(np.uint8)
    parts = {
        "exact": (x[exact], y[exact]),
        "near": (moved, y[shifted]),
        "blank": (grey, rng.integers(0, 10, 50)),
        "outlier": (foreign(folder, rng, x.shape[2]), rng.integers(0, 10, 50)),
        "leak": (x[leaked], y[leaked]),
    }
    truth, at = {"label": flipped}, len(x)
    for name, (images, _) in parts.items():
        truth[name] = np.arange(at, at + len(images))
        at += len(images)
    y[flipped] = (y[flipped] + rng.integers(1, 10, len(flipped))) % 10
    new = np.arange(len(x), at)
    dataset = datasets.assemble(
        np.concatenate([x, *(images for images, _ in parts.values())]),
        np.concatenate([y, *(labels for _, labels in parts.values())]).astype(np.int64),
        whole.classes,
        {
            "train": np.concatenate([train, new]),
            "valid": np.arange(ends[0], ends[1]),
            "test": np.arange(ends[1], ends[2]),
        },
        name="planted",
    )
    # of equal and of shifted images, either may be called the copy
    truth["twins"] = np.concatenate([exact, shifted])
    return dataset, truth


def turned(page: Any, turns: int, on: Any = lambda: True) -> list[float]:
    """Turns pages of the wall, as long as ``on()``; milliseconds from the click until the images were drawn anew."""
    times, following = [], page.get_by_role("button", name="Next page")
    while len(times) < turns and on() and following.is_enabled():
        page.evaluate(
            """() => {
                const canvas = [...document.querySelectorAll(".st-key-data-wall *")]
                    .map(e => e.shadowRoot?.querySelector("canvas")).find(Boolean);
                const button = document.querySelector("[data-testid=stPaginationNext]");
                window._turned = new Promise(resolve => {
                    button.addEventListener("click", () => {
                        const start = performance.now();
                        const eye = new MutationObserver(() => {
                            eye.disconnect();
                            requestAnimationFrame(() => resolve(performance.now() - start));
                        });
                        eye.observe(canvas, { attributeFilter: ["data-drawn"] });
                    }, { once: true, capture: true });
                });
            }"""
        )
        following.click()
        times.append(float(page.evaluate("() => window._turned")))
        time.sleep(0.4)  # the rest of the page is drawn too
    return times


def responsive(count: int, turns: int) -> None:
    """Measures the Data page beside an inspection of what it shows, and prints both."""
    from playwright.sync_api import sync_playwright

    from benchmarks.app import FLAGS, URL, ready, serve, spread
    from core import jobs, kinds

    home = Path(os.environ["SIMULACRA_HOME"])
    datasets.save("planted", planted(count, "")[0])
    server = serve(home)
    try:
        ready()
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"{URL}/data?data=planted")
            page.wait_for_selector(".st-key-data-wall canvas[data-drawn]", timeout=60_000)
            time.sleep(8)  # the imports in the background are over
            turned(page, 5)
            idle = turned(page, turns)
            row(f"A page of {count:,} images, idle: {spread(idle)} (n = {len(idle)})")
            job = kinds.submit("inspect", {"dataset": "planted"}, who="benchmark")
            while jobs.get(job.id).status == "queued":
                time.sleep(0.1)
            began = time.monotonic()
            busy = turned(page, 10_000, lambda: jobs.get(job.id).active)
            row(
                f"A page while they are inspected: ({time.monotonic() - began:.0f} s, then {jobs.get(job.id).status}) "
                f"{spread(busy)} (n = {len(busy)})"
            )
            browser.close()
    finally:
        for job in jobs.listing("inspect"):
            if job.active:
                jobs.stop(job.id)
        server.terminate()
        server.wait()


def main() -> None:
    """Inspects and prints a line per kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--foreign", default="", help="a folder of photographs (.jpg)")
    parser.add_argument("--page", action="store_true", help="measure the page beside an inspection")
    parser.add_argument("--turns", type=int, default=40, help="pages that are turned while idle")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.page:
        home = tempfile.mkdtemp(prefix="simulacra-bench-")
        os.environ["SIMULACRA_HOME"] = home
        try:
            responsive(arguments.images, arguments.turns)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return
    dataset, truth = planted(arguments.images, arguments.foreign)
    began, spent = time.perf_counter(), time.process_time()
    for step in quality.inspect(dataset, quality.InspectConfig()):
        if isinstance(step, quality.Inspection):
            inspection = step
            break
        print(
            f"  {step[0]}: {time.perf_counter() - began:.0f} s, {time.process_time() - spent:.0f} CPU-s",
            flush=True,
        )
    wall, spent = time.perf_counter() - began, time.process_time() - spent
    row(f"Inspecting {len(dataset):,} images: {wall:.0f} s, {spent:.0f} CPU-s on one thread")
    copies = dict(zip(np.concatenate([truth["exact"], truth["near"]]), truth["twins"], strict=True))
    for kind in ("exact", "near", "leak", "blank", "outlier"):
        flagged = [issue for issue in inspection.issues if issue.kind == kind]
        wanted = set(truth[kind].tolist())
        hits = set()
        for issue in flagged:
            pair = {issue.image, *issue.others}
            hits |= {
                image
                for image in wanted
                if issue.image == image
                or (kind in ("exact", "near") and {image, int(copies[image])} <= pair)
            }
        precision, recall = (
            len(hits) / max(1, inspection.counts.get(kind, 0)),
            len(hits) / len(wanted),
        )
        row(
            f"Planted faults, {kind}: precision {precision:.3f}, recall {recall:.3f} "
            f"({inspection.counts.get(kind, 0)} flagged, {len(wanted)} planted)"
        )
    ranked = [
        issue.image in set(truth["label"].tolist())
        for issue in inspection.issues
        if issue.kind == "label"
    ]
    right = np.cumsum(ranked)
    average = sum(right[i] / (i + 1) for i, hit in enumerate(ranked) if hit) / len(truth["label"])
    row(
        f"Planted faults, label: average precision {average:.3f} ({len(ranked)} listed, "
        f"{int(right[-1]) if len(right) else 0} of {len(truth['label'])} planted among them)"
    )


if __name__ == "__main__":
    main()

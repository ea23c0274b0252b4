"""Figures of the latent space, each measured in one run on this machine.

* ``pad``: a new neighbourhood (15 × 15) from request to sprite, the exact image, ten visitors at once, and memory
* ``inversion``: held-out images against the best of 2 000 random draws, and the time
* ``directions``: what six attributes of faces change of themselves and of everything else, read off images

``python -m benchmarks.latent pad RUN …`` and so on, with the ids of runs; ``--json`` writes what was measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import jobs, latent, runs
from core.ground import sheets
from core.measure import features
from core.tensors import to_float

SIX = ("smile", "glasses", "turn", "skin", "beard", "head")


def spread(times: list[float]) -> dict[str, float]:
    """Gives median and 95th percentile in ms."""
    ms = sorted(1000 * value for value in times)
    return {"p50": round(statistics.median(ms), 1), "p95": round(ms[int(0.95 * (len(ms) - 1))], 1)}


def timed(
    act: Callable[[int], Any], count: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Measures every call; with the processor's clock, what others compute meanwhile does not count."""
    times = []
    for i in range(count):
        start = clock()
        act(i)
        times.append(clock() - start)
    return times


def memory() -> float:
    """Gives the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def pad(run: jobs.Job, rounds: int, refreshes: int) -> dict[str, Any]:
    """Times refreshes of the pad and exact images, alone and for ten visitors at once."""
    opened = runs.open_model(run)
    space = latent.open_space(opened)
    plane = latent.principal_plane(space, space.draw([0])[0])
    n = space.side
    places = np.random.default_rng(0).uniform(-2, 2, (max(rounds, refreshes), 2))

    def refresh(i: int) -> bytes:
        return sheets.png(latent.neighbourhood(space, plane, tuple(places[i]), 1.5, n), n)

    def exact(i: int) -> bytes:
        x = space.image(plane.points(places[i : i + 1])[0])
        return sheets.png(x[None], 1)

    timed(refresh, 3)
    result: dict[str, Any] = {
        "run": run.id, "family": opened.family, "size": opened.spec.size, "images": n * n,
        "refresh": spread(timed(refresh, rounds)), "exact": spread(timed(exact, rounds)),
        "refresh, processor": spread(timed(refresh, rounds, time.process_time)),
        "exact, processor": spread(timed(exact, rounds, time.process_time)),
    }  # fmt: skip
    waits: list[list[float]] = [[] for _ in range(10)]

    def visit(k: int) -> None:
        for i in range(rounds // 5):
            waits[k] += timed(lambda _, i=i: refresh((7 * k + i) % rounds), 1)
            time.sleep(0.25)  # what a hand takes to leave a neighbourhood

    threads = [threading.Thread(target=visit, args=(k,)) for k in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [value for each in waits for value in each]
    medians = [statistics.median(each) for each in waits]
    result["ten at once"] = spread(every) | {
        "slowest visitor's median": round(1000 * max(medians), 1),
        "fastest visitor's median": round(1000 * min(medians), 1),
    }
    before = memory()
    timed(refresh, refreshes)
    result["memory"] = {"refreshes": refreshes, "grown by MB": round(memory() - before, 1)}
    return result


def inversion(run: jobs.Job, count: int) -> dict[str, Any]:
    """Searches for held-out images, and compares with the best of 2 000 random draws."""
    space = latent.open_space(runs.open_model(run))
    dataset = latent.trained_on(run)
    index = dataset.splits["test"][:count]
    x = to_float(torch.as_tensor(dataset.x[index]), dataset.levels)
    start = time.perf_counter()
    points, images = latent.bank(space)
    drawn = time.perf_counter() - start
    flat = x.flatten(1)
    best = [float((images.float() - row).square().mean(1).min()) for row in flat]
    errors, seconds = [], []
    for i in range(len(x)):
        *_, last = latent.find(space, x[i : i + 1])
        errors.append(last.error)
        seconds.append(last.seconds)
    return {
        "run": run.id,
        "n": len(x),
        "draws": len(points),
        "error of the best draw": float(np.mean(best)),
        "error of the inversion": float(np.mean(errors)),
        "largest error": float(np.max(errors)),
        "ratio": float(np.mean(best) / np.mean(errors)),
        "better for": int(np.sum(np.array(errors) < best)),
        "seconds": {"mean": float(np.mean(seconds)), "largest": float(np.max(seconds))},
        "seconds for the draws, once": drawn,
    }


def effects(run: jobs.Job) -> dict[str, Any]:
    """Measures what one step along six attributes changes, with a reader whose own accuracy is given."""
    space = latent.open_space(runs.open_model(run))
    dataset = latent.trained_on(run)
    reading = features.reader(dataset)
    rows = []
    for each in latent.regressed(space, dataset, reading, SIX):
        leaks = np.array(list(each.leaks.values()))
        top = next(iter(each.leaks.items()))
        k = reading.names.index(each.name)
        rows.append(
            {
                "attribute": each.name,
                "effect": each.share,
                "leak (rms of others)": round(float(np.sqrt((leaks**2).mean())), 4),
                "largest leak": top,
                "others": len(leaks),
                f"read off points ({each.measure})": round(each.accuracy or 0, 3),
                "reader on true attributes": round(float(reading.accuracy[k]), 3),
            }
        )
    return {"run": run.id, "n": 64, "test images of the reader": reading.n, "rows": rows}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ways = ("pad", "inversion", "directions")
    parser.add_argument("what", nargs="?", choices=ways, default="pad")
    shipped = ["shipped-faces-gan"]
    parser.add_argument("runs", nargs="*", default=shipped, help="ids or names of runs")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--refreshes", type=int, default=1000)
    parser.add_argument("--count", type=int, default=20, help="images to invert")
    parser.add_argument("--json", type=Path, help="file for what was measured")
    arguments = parser.parse_args()
    results = []
    for name in arguments.runs:
        run = jobs.find(name, "train")
        if arguments.what == "pad":
            results.append(pad(run, arguments.rounds, arguments.refreshes))
        elif arguments.what == "inversion":
            results.append(inversion(run, arguments.count))
        else:
            results.append(effects(run))
        print(json.dumps(results[-1], indent=2), flush=True)
        figures = {k: v for k, v in results[-1].items() if isinstance(v, int | float)}
        row(f"{arguments.what} of {name}: {', '.join(f'{k} {v:.4g}' for k, v in figures.items())}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

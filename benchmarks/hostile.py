"""Measures what refused files cost a server: memory and time, and a second visitor meanwhile.

``python -m benchmarks.hostile [--page]``

The files are harmless: a few tensors, values or levels more than is allowed. In this process the limits are lowered
for them; with ``--page`` a real server refuses, at its own limits, 20 state dicts and 20 recipes of one visitor in a
real browser, and a second visitor's first render is timed before and meanwhile. Needs Chromium for that.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save as safe

from benchmarks.app import FLAGS, URL, memory, ready, serve
from benchmarks.evidence import row
from core import augment, weights
from core.augment import recipes
from core.catalog import UserError
from core.ground import untrusted

TIMES = 20


def state_dict(tensors: int) -> bytes:
    """Writes a state dict of many small tensors."""
    out = io.BytesIO()
    torch.save({f"w{i}": torch.full((256,), float(i)) for i in range(tensors)}, out)
    return out.getvalue()


def refused(what: str, act: Callable[[], object]) -> None:
    """Lets files be refused in this process, and prints time and memory."""
    times, before = [], memory(os.getpid())
    for _ in range(TIMES):
        began = time.process_time()
        try:
            act()
        except UserError:
            times.append(1000 * (time.process_time() - began))
        else:
            raise SystemExit(f"{what}: it was not refused")
    grown = memory(os.getpid()) - before
    row(
        f"{what}: {TIMES} refused, {grown:+.1f} MB, median {statistics.median(times):.1f} ms of CPU, "
        f"most {max(times):.1f} ms"
    )


def here() -> None:
    """Refuses files against lowered limits."""
    few = weights.limits.WeightLimits(tensors=1000)
    dict_of, safe_of = state_dict(1001), safe({f"w{i}": torch.zeros(256) for i in range(1001)})
    deep = json.dumps({"a": [[[[[[]]]]]]})
    with (
        mock.patch.object(weights.limits, "LIMITS", few),
        mock.patch.object(untrusted, "LIMITS", untrusted.Limits(depth=5)),
    ):
        try:
            weights.look(state_dict(8))  # what is loaded once is not counted
        except UserError as error:
            raise SystemExit(str(error)) from None
        refused(
            f"a state dict of 1,001 tensors ({len(dict_of) / 2**20:.1f} MB)",
            lambda: weights.look(dict_of),
        )
        refused(
            f"safetensors of 1,001 tensors ({len(safe_of) / 2**20:.1f} MB)",
            lambda: weights.look(safe_of),
        )

        def recipe() -> None:
            recipes._refused.clear()  # each is a new one
            untrusted.read_data(deep, "A recipe", untrusted.LIMITS)

        refused("a recipe of 6 levels", recipe)
    refused("a recipe of 100,001 characters", lambda: augment.read(" " * 100_001))


def visitor(folder: Path) -> None:
    """One visitor who brings one file after the other; says when it has begun."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{URL}/augment?augment.view=recipe")
        recipe = page.locator(".st-key-augment-recipe input[type=file]")
        recipe.wait_for(state="attached")
        other = browser.new_page()
        other.set_default_timeout(120_000)
        other.goto(f"{URL}/robustness")
        other.locator(".st-key-robust-own button").first.click()
        upload = other.locator(".st-key-robust-upload input[type=file]")
        upload.wait_for(state="attached")
        time.sleep(4)  # the page behind the dialog is drawn as well
        upload.set_input_files(folder / "first.pt")  # what is loaded once is not counted
        other.get_by_text("A state dict of").first.wait_for()
        time.sleep(10)
        print("begun", flush=True)
        sys.stdin.readline()
        for turn in range(TIMES):
            upload.set_input_files(folder / f"{turn}.pt")
            other.get_by_text("holds fewer").first.wait_for()
            recipe.set_input_files(folder / f"{turn}.json")
            page.get_by_text("at most").first.wait_for()
        print("done", flush=True)
        browser.close()


def first_render(play: object) -> float:
    """Opens the app as somebody new; milliseconds until the page is drawn."""
    browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)  # type: ignore[attr-defined]
    page = browser.new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    page.goto(f"{URL}/about")
    page.locator("[data-testid=stMain] h1").first.wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    took = 1000 * (time.perf_counter() - began)
    browser.close()
    return took


def served() -> None:
    """Refuses files of one visitor on a real server, and times another one."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="simulacra-bench-") as home:
        folder = Path(home, "files")
        folder.mkdir()
        out = io.BytesIO()
        torch.save({"w": torch.zeros(1).expand(1000)}, out)  # 1 000 numbers told, one there
        (folder / "first.pt").write_bytes(state_dict(100))
        for turn in range(TIMES):
            (folder / f"{turn}.pt").write_bytes(out.getvalue())
            (folder / f"{turn}.json").write_text(" " * (untrusted.LIMITS.characters + 1 + turn))
        server = serve(Path(home))
        try:
            ready()
            with sync_playwright() as play:
                first_render(play)
                time.sleep(8)  # the imports in the background are over
                idle = [first_render(play) for _ in range(5)]
                command = [sys.executable, "-m", "benchmarks.hostile", "--visitor", str(folder)]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                other = subprocess.Popen(command, **pipes)
                assert other.stdin is not None
                assert other.stdout is not None
                other.stdout.readline()
                before, busy = memory(server.pid), []
                other.stdin.write("go\n")
                other.stdin.flush()
                while other.poll() is None:
                    busy.append(first_render(play))
                time.sleep(2)
                grown = memory(server.pid) - before
            row(
                f"A server that refuses: {2 * TIMES} files refused, {grown:+.0f} MB; "
                f"a second visitor's first render: idle median {statistics.median(idle):.0f} ms (n = {len(idle)}), "
                f"meanwhile {statistics.median(busy):.0f} ms (n = {len(busy)})"
            )
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="measure a server and two visitors")
    parser.add_argument("--visitor", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.visitor:
        visitor(arguments.visitor)
    elif arguments.page:
        served()
    else:
        here()


if __name__ == "__main__":
    main()

"""Measures the app as a visitor meets it: a real server and a real browser on this machine.

Server start to the first render; press to the first sample sheet; slider to new image on the Latent page, idle and
while a job trains; memory of the server without a model and with one; the pages over 1 000 runs.
Needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.evidence import row

ROOT = Path(__file__).resolve().parent.parent
PORT = 8677
URL = f"http://127.0.0.1:{PORT}"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def serve(home: Path) -> subprocess.Popen[bytes]:
    """Starts a server of our own on ``home``."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            raise SystemExit(f"port {PORT} is taken: what is measured would be another server")
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.address",
        "127.0.0.1",
        "--server.port",
        str(PORT),
    ]
    command += ["--server.headless", "true", "--server.fileWatcherType", "none"]
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"SIMULACRA_HOME": str(home)},
            stdout=log,
            stderr=log,
        )


def ready() -> None:
    """Waits until the server answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{URL}/_stcore/health", timeout=1).read()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("the server did not start")


def memory(pid: int) -> float:
    """Reads the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def latency(page: Page, moves: int) -> list[float]:
    """Moves the slider of the Latent page with the keyboard; milliseconds until the canvas was drawn anew."""
    page.evaluate("""() => { window._canvas = [...document.querySelectorAll(".st-key-latent-grid *")]
        .map(e => e.shadowRoot?.querySelector("canvas")).find(Boolean); }""")
    return [one_move(page, i) for i in range(moves)]


def one_move(page: Page, number: int) -> float:
    """One key press on the slider; the time until the next drawing, whose pixels must differ, in the browser."""
    before = page.evaluate(
        """() => {
            const canvas = window._canvas;
            window._changed = new Promise(resolve => {
                let start = 0;
                const press = () => { start = performance.now(); };
                document.addEventListener("keydown", press, { once: true, capture: true });
                const eye = new MutationObserver(() => {
                    if (!start) return;
                    eye.disconnect();
                    requestAnimationFrame(() => resolve(performance.now() - start));
                });
                eye.observe(canvas, { attributeFilter: ["data-drawn"] });
            });
            return canvas.toDataURL();
        }"""
    )
    page.keyboard.press("ArrowLeft" if number % 2 == 0 else "ArrowRight")
    took = float(
        page.evaluate(
            """() => Promise.race([window._changed, new Promise((_, no) =>
                setTimeout(() => no("the canvas was not drawn anew within 10 s"), 10000))])"""
        )
    )
    if page.evaluate("() => window._canvas.toDataURL()") == before:
        raise SystemExit("the canvas was drawn anew, but shows the same")
    time.sleep(0.25)  # the rest of the page is drawn too
    return took


def spread(times: list[float]) -> str:
    """Writes median and 95th percentile of milliseconds."""
    return f"median {statistics.median(times):.0f} ms, p95 {sorted(times)[int(0.95 * len(times))]:.0f} ms"


def many(home: Path) -> None:
    """Copies one finished run into 1 000 and times the pages over them, warm, in this process."""
    jobs = home / "jobs"
    first = next(path for path in jobs.iterdir() if not path.name.startswith("."))
    for number in range(1000 - len(list(jobs.iterdir()))):
        copy = jobs / f"20200101-{number:06d}-copy-{number:04x}"
        copy.mkdir()
        for name in ("job.json", "state.json", "run.json"):
            shutil.copy(first / name, copy / name)
    os.environ["SIMULACRA_HOME"] = str(home)
    from streamlit.testing.v1 import AppTest

    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    for name in ("overview", "train"):
        test.switch_page(f"pages/{name}.py").run()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            test.run()
            times.append(time.perf_counter() - start)
        row(f"{name} over 1 000 runs: {statistics.median(times):.2f} s")


def train(*arguments: str, home: Path) -> dict[str, Any]:
    """Trains from the command line."""
    command = [sys.executable, "-m", "core", "train", *arguments, "--json"]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"SIMULACRA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="simulacra-bench-"))
    server = None
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            firsts = []
            for _ in range(arguments.starts):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                start = time.perf_counter()
                server = serve(home)
                ready()
                page.goto(URL)
                page.wait_for_selector("h1")
                firsts.append(time.perf_counter() - start)
                page.close()
                server.terminate()
                server.wait()
            row(
                f"server start to first render: median {statistics.median(firsts):.2f} s of {arguments.starts}"
            )
            server = serve(home)
            ready()
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(URL)
            button = page.locator(".st-key-overview-train button").first
            button.wait_for()
            time.sleep(10)  # the imports in the background are over
            row(f"memory of the server, no model: {memory(server.pid):.0f} MB")
            start = time.perf_counter()
            button.click()
            page.wait_for_selector(".st-key-overview-live canvas[data-drawn]", timeout=60_000)
            row(f"press to first sample sheet: {time.perf_counter() - start:.1f} s")
            page.close()
            job = next(path for path in (home / "jobs").iterdir() if not path.name.startswith("."))
            while json.loads((job / "state.json").read_text())["status"] in ("queued", "running"):
                time.sleep(0.5)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"{URL}/latent?run={job.name}")
            page.wait_for_selector(".st-key-latent-grid canvas[data-drawn]")
            page.get_by_role("slider", name="Truncation").focus()
            latency(page, 10)
            idle = latency(page, arguments.moves)
            row(f"memory of the server, one model: {memory(server.pid):.0f} MB")
            row(f"slider to new image, idle: {spread(idle)}")
            train("--images", "2000000", home=home)
            time.sleep(8)
            busy = latency(page, arguments.moves)
            row(f"slider to new image while a job trains: {spread(busy)}")
            browser.close()
        for path in (home / "jobs").iterdir():
            (path / "STOP").touch()
        time.sleep(3)
        many(home)
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait()
        for path in (home / "jobs").glob("2*"):
            (path / "STOP").touch()
        time.sleep(1)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()

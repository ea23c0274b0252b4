"""Measures dragging in a latent space, as a browser and as ten visitors meet it: a real server on this machine.

In Chromium: frames per second while dragging, a new neighbourhood from request to picture, the exact image at rest.
Without a browser, which two cores could not run ten times: ten sessions that drag at once over their web sockets, and
the memory of the server over 1 000 refreshes. Models are trained for some steps only; their speed is that of any other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import websockets
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from benchmarks.app import FLAGS, PORT, ROOT, URL, memory, ready, serve, spread, train
from benchmarks.evidence import row

DRAG = """async seconds => {
    const over = window._pad.querySelector(".over"), image = window._pad.querySelector(".image");
    const box = over.getBoundingClientRect(), middle = [box.left + box.width / 2, box.top + box.height / 2];
    const send = (kind, x, y) => over.dispatchEvent(new PointerEvent(kind, {
        pointerId: 1, clientX: x, clientY: y, bubbles: true, isPrimary: true, button: 0, buttons: 1 }));
    over.setPointerCapture = () => {};
    send("pointerdown", ...middle);
    const before = Number(image.dataset.drawn), start = performance.now(), took = [];
    let frames = 0, seen = before, last = start;
    await new Promise(done => {
        const step = now => {
            const t = (now - start) / 1000;
            if (t > seconds) return done();
            frames += 1;
            if (Number(image.dataset.drawn) !== seen) {
                took.push(now - last);
                [seen, last] = [Number(image.dataset.drawn), now];
            }
            const x = box.width * 0.4 * Math.sin(3 * t), y = box.height * 0.4 * Math.cos(2 * t);
            send("pointermove", middle[0] + x, middle[1] + y);
            requestAnimationFrame(step);
        };
        requestAnimationFrame(step);
    });
    send("pointerup", ...middle);
    return [took, frames / seconds];
}"""
ASK = """async ([what, key]) => {
    const box = window._pad.querySelector(".box") ?? window._pad, over = window._pad.querySelector(".over");
    const before = box.dataset[what + "s"] ?? "0";
    over.focus();
    over.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey: what === "sheet", bubbles: true }));
    const start = performance.now();
    while ((box.dataset[what + "s"] ?? "0") === before) {
        if (performance.now() - start > 20000) throw new Error(what + " did not come");
        await new Promise(done => setTimeout(done, 4));
    }
    return Number(box.dataset[what]);
}"""


def in_chromium(page: Page, run: str, times: int) -> dict[str, Any]:
    """Measures one run's pad in the browser; milliseconds are those that its own meter shows."""
    page.goto(f"{URL}/latent?run={run}")
    page.wait_for_selector("canvas.image[data-kind=final]", timeout=120_000)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').dataset.testScriptState == 'notRunning'"
    )
    page.evaluate(
        """() => { window._pad = [...document.querySelectorAll("*")].map(e => e.shadowRoot).find(
            root => root?.querySelector(".over")); }"""
    )
    frames, offered = page.evaluate(DRAG, 10)
    time.sleep(1)
    keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]
    sheets = []
    page.evaluate(ASK, ["sheet", "ArrowRight"])
    for i in range(times):
        # zooming in between makes every window a new one: nothing is answered from what was kept
        sheets.append(float(page.evaluate(ASK, ["sheet", keys[i % 4]])))
        page.evaluate(
            """i => { const over = window._pad.querySelector(".over"); over.dispatchEvent(
                new KeyboardEvent("keydown", { key: i % 9 < 5 ? "+" : "-", bubbles: true })); }""",
            i,
        )
        time.sleep(0.4)
    exact = [float(page.evaluate(ASK, ["exact", keys[i % 4]])) for i in range(times)]
    return {"frames": frames, "offered": offered, "sheets": sheets, "exact": exact}


def first_visit(page: Page, home: Path) -> tuple[float, float]:
    """Opens the Overview of a server that has just started; seconds to its first line, and from there to a drag."""
    server = serve(home)
    try:
        ready()
        start = time.perf_counter()
        page.goto(URL)
        page.wait_for_selector("h1")
        line = time.perf_counter()
        page.wait_for_selector("canvas.image[data-drawn]")
        box = page.locator("canvas.over").bounding_box()
        assert box is not None
        before = page.locator("canvas.image").evaluate("c => c.toDataURL()")
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 9, box["y"] + 9)
        while page.locator("canvas.image").evaluate("c => c.toDataURL()") == before:
            pass
        return line - start, time.perf_counter() - line
    finally:
        server.terminate()
        server.wait()


class Session:
    """A visitor without a browser: speaks what the browser speaks over the web socket."""

    def __init__(self) -> None:
        self.states: dict[str, WidgetState] = {}
        self.fragment = ""
        self.data: dict[str, Any] = {}

    async def connect(self) -> Session:
        """Opens the web socket."""
        self.socket = await websockets.connect(
            f"ws://127.0.0.1:{PORT}/_stcore/stream", subprotocols=["streamlit"], max_size=None,
            origin=URL,  # type: ignore[arg-type]
        )  # fmt: skip
        return self

    async def open(self, run: str) -> Session:
        """Opens the Latent space page of a run."""
        await self.connect()
        for page in ("", "latent"):  # a page is known once the navigation was drawn
            await self.run(page=page, query=f"run={run}")
        return self

    async def run(self, page: str = "latent", query: str = "", fragment: str = "") -> float:
        """Asks for a run and waits for its end; milliseconds until the pad was answered."""
        message = BackMsg()
        ask = message.rerun_script
        ask.query_string, ask.page_name, ask.fragment_id = query, page, fragment
        ask.widget_states.widgets.extend(self.states.values())
        start, took = time.perf_counter(), 0.0
        await self.socket.send(message.SerializeToString())
        while True:
            got = ForwardMsg.FromString(await self.socket.recv())
            kind = got.WhichOneof("type")
            if kind == "delta" and got.delta.WhichOneof("type") == "new_element":
                pad = got.delta.new_element.bidi_component  # empty of another element
                if pad.id.endswith("latent.pad"):
                    self.id, self.fragment = pad.id, got.delta.fragment_id
                    (self.data,) = json.loads(pad.json)
                    took = (time.perf_counter() - start) * 1000
            if kind == "script_finished":
                return took

    async def look(self, x: float, y: float, width: float, number: int, rest: bool) -> float:
        """Moves the window, as the pad does when its border is reached; milliseconds until the sheet is here."""
        view = {
            "number": number, "plane": self.data["plane"], "went": self.data["go"]["number"], "at": [x, y],
            "window": [x, y, width], "pins": [], "rest": rest, "has": "",
        }  # fmt: skip
        self.states[self.id] = WidgetState(id=self.id, json_value=json.dumps({"view": view}))
        took = await self.run(fragment=self.fragment)
        assert self.data["answer"] == number
        return took


async def ten(run: str, sessions: int, times: int) -> list[list[float]]:
    """Lets sessions drag at once, each with one request under way; milliseconds of each."""

    async def drag(session: Session, who: int) -> list[float]:
        took = []
        for i in range(times):
            x, y = round(who * 0.1 - 1 + i * 0.013, 4), round(1 - i * 0.011, 4)
            took.append(await session.look(x, y, 4.0, i + 1, i % 5 == 4))
            await asyncio.sleep(0.15)  # a hand needs longer to leave a window behind
        return took

    opened = [await Session().open(run) for _ in range(sessions)]
    return list(await asyncio.gather(*(drag(session, who) for who, session in enumerate(opened))))


async def refreshes(run: str, pid: int, times: int) -> tuple[float, float]:
    """Refreshes one session many times; memory of the server after the first hundred and at the end, in MB."""
    session = await Session().open(run)
    before = 0.0
    for i in range(times):
        await session.look(round(i * 0.003 - 2, 4), 0.5, 3.0, i + 1, True)
        if i == 150:  # what is kept of windows is full by then
            before = memory(pid)
    return before, memory(pid)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="with runs to measure; else some are trained")
    parser.add_argument("--dataset", default="mnist", help="of the runs that are trained")
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--refreshes", type=int, default=1000)
    arguments = parser.parse_args()
    home = arguments.home or Path(tempfile.mkdtemp(prefix="simulacra-bench-"))
    if arguments.home is None:
        for family in ("gan", "vae", "flow"):
            choice = ("--dataset", arguments.dataset, "--family", family, "--images", "2560")
            train(*choice, "--wait", home=home)
    runs = {
        json.loads((path / "job.json").read_text())["config"]["family"]["name"]: path.name
        for path in sorted((home / "jobs").glob("2*"))
    }
    os.environ["SIMULACRA_GALLERY"] = "false"
    command = [sys.executable, "-m", "core", "pad", runs["gan"]]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"SIMULACRA_HOME": str(home)}, check=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        visits = []
        for _ in range(3):
            visits.append(
                first_visit(browser.new_page(viewport={"width": 1280, "height": 800}), home)
            )
        browser.close()
    line, drag = (statistics.median(column) for column in zip(*visits, strict=True))
    row(
        f"Overview of a fresh server: first line after {line:.2f} s, dragged {drag:.2f} s later "
        "(median of 3)"
    )
    server = serve(home)
    try:
        ready()
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for family, run in runs.items():
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                got = in_chromium(page, run, arguments.times)
                page.close()
                middle, longest = statistics.median(got["frames"]), max(got["frames"])
                row(
                    f"{family}: dragging 10 s, median {1000 / middle:.0f} frames/s, longest frame {longest:.0f} ms "
                    f"(the browser offered {got['offered']:.0f} frames/s); "
                    f"new neighbourhood {spread(got['sheets'])}; exact image {spread(got['exact'])}"
                )
            browser.close()
        for family in ("gan", "vae"):
            took = asyncio.run(ten(runs[family], 10, arguments.times))
            every = [each for session in took for each in session]
            medians = [statistics.median(session) for session in took]
            row(
                f"{family}, ten sessions dragging: {spread(every)}; medians of the sessions "
                f"{min(medians):.0f} to {max(medians):.0f} ms"
            )
        before, after = asyncio.run(refreshes(runs["gan"], server.pid, arguments.refreshes))
        row(
            f"memory of the server over {arguments.refreshes} refreshes: {before:.0f} to {after:.0f} MB"
        )
    finally:
        server.terminate()
        server.wait()
        if arguments.home is None:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()

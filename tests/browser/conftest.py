"""What the browser tests share: a screen that knows the app, and an eye on what it sends and complains about."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    expect,
)

from core import jobs

SECONDS = 60  # enough for two cores that others use too


class Screen:
    """One tab, in words of the app."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.forgiven: re.Pattern[str] | None = None  # what a test has caused itself
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._line)
        page.on("response", self._answer)
        page.set_default_timeout(SECONDS * 1000)

    def _line(self, line: ConsoleMessage) -> None:
        # what could not be loaded is noted below, with its address
        if line.type == "error" and not line.text.startswith("Failed to load resource"):
            self.complaints.append(line.text)

    def _answer(self, response: Response) -> None:
        # below a page's address Streamlit asks for itself first, and then at the root
        if response.status >= 400 and not re.search(
            r"/[a-z]+/_stcore/(health|host-config)$", response.url
        ):
            self.complaints.append(f"{response.status} {response.url}")

    def open(self, server: Any, page: str = "", **query: str) -> Screen:
        """Goes to a page and waits until it is drawn."""
        self.page.goto(f"{server.url}/{page}" + (f"?{urlencode(query)}" if query else ""))
        return self.ready()

    def ready(self) -> Screen:
        """Waits until the page has a title and nothing runs."""
        expect(self.page.get_by_test_id("stMain").get_by_role("heading", level=1)).to_be_visible(
            timeout=SECONDS * 1000
        )
        app = self.page.get_by_test_id("stApp")
        expect(app).to_have_attribute(
            "data-test-script-state", "notRunning", timeout=SECONDS * 1000
        )
        return self

    def key(self, key: str) -> Locator:
        """Finds what has this key."""
        return self.page.locator(".st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", key))

    def button(self, key: str) -> Locator:
        """Finds a button by its key; one with help has a second node."""
        return self.key(key).locator("button").first

    def sidebar_width(self) -> float:
        """Measures the sidebar, in CSS pixels."""
        box = self.page.get_by_test_id("stSidebar").bounding_box()
        assert box is not None
        return box["width"]

    def chosen(self, key: str, words: str) -> None:
        """Waits until a choice shows these words."""
        expect(self.key(key).get_by_role("combobox")).to_have_value(
            re.compile(re.escape(words)), timeout=SECONDS * 1000
        )

    def canvas(self, key: str) -> Locator:
        """Finds the canvas of the pictures with this key, once something is drawn on it and no old one is left."""
        drawn = self.key(key).locator("canvas[data-drawn]")
        expect(drawn).to_have_count(1, timeout=SECONDS * 1000)
        return drawn

    def pixels(self, key: str) -> str:
        """Reads all pixels of the pictures with this key."""
        return self.canvas(key).evaluate("canvas => canvas.toDataURL()")

    def colours(self, key: str) -> int:
        """Counts the colours on a canvas: one means that nothing is to be seen."""
        return self.canvas(key).evaluate(
            "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
        )

    def until(self, holds: Callable[[], Any], seconds: float = SECONDS) -> float:
        """Waits until something holds, and says how long that took."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < seconds, f"did not happen within {seconds} s"
            self.page.evaluate(
                "new Promise(done => requestAnimationFrame(done))"
            )  # lets the browser work on
            time.sleep(0.05)
        return time.monotonic() - began

    def says(self, words: str, seconds: float = SECONDS) -> None:
        """Waits until the page shows these words."""
        expect(self.page.get_by_text(words).first).to_be_visible(timeout=seconds * 1000)


@pytest.fixture
def screen(tab: Page) -> Iterator[Screen]:
    """A tab of a visitor who has never been here; at the end it must have talked to the app only, and been content."""
    screen = Screen(tab)
    yield screen
    check(screen)


def check(screen: Screen) -> None:
    """Asserts that a screen sent nothing elsewhere and that the browser found nothing wrong."""
    hosts = {
        urlsplit(url).hostname for url in screen.requests if not url.startswith(("data:", "blob:"))
    }
    assert hosts <= {"127.0.0.1"}
    forgiven = screen.forgiven
    assert [line for line in screen.complaints if not (forgiven and forgiven.search(line))] == []


@pytest.fixture
def another(browser: Browser) -> Iterator[Callable[..., Screen]]:
    """Makes screens of further visitors, each with an empty browser of the same size."""
    contexts: list[BrowserContext] = []
    screens: list[Screen] = []

    def make(**options: Any) -> Screen:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, **options))
        screens.append(Screen(contexts[-1].new_page()))
        return screens[-1]

    yield make
    for screen in screens:
        check(screen)
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def gallery(
    server: Callable[..., Any], tiny_runs: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server whose home holds the tiny runs and a race; tests of a module share it."""
    home = tiny_runs.copy(tmp_path_factory.mktemp("gallery") / "home").home
    shutil.copytree(
        jobs.SHIPPED / "shipped-race", home / "jobs" / "20261101-000000-digits-race-0000"
    )
    return server(home=home)

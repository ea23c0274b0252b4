"""Takes a picture of every view of every page, to be looked at.

``python -m benchmarks.screens FOLDER [--size 390x844] [--dark] [--only PATTERN]``

Each is as high as what the view shows. What sticks out of the screen is named, and the exit code is 1 then.
Needs Chromium.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from benchmarks.app import FLAGS, URL, ready, serve
from pages.parts import shell

MAIN = "[data-testid=stMain]"
VIEWS = f"{MAIN} :is([role=tab], [role=radio]):visible"  # tabs, and the segments of a control
HIGHEST = 4000  # CSS pixels of a picture
OUT = """width => {
    const fits = (e) => e.getBoundingClientRect().right <= width + 1;
    const holds = (e) => /auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX) && fits(e);
    const out = (e) => {
        const { width, height } = e.getBoundingClientRect();
        if (width < 2 || height < 2 || fits(e) || getComputedStyle(e).visibility === "hidden") return false;
        for (let up = e.parentElement; up; up = up.parentElement) if (holds(up)) return false;
        return true;
    };
    return [...document.querySelectorAll("[data-testid=stMain] *")].filter(out)
        .map((e) => `${e.tagName} ${e.className} ${e.innerText ?? ""}`.slice(0, 90));
}"""


def calm(page: Page) -> None:
    """Waits until a page has a title and nothing runs."""
    page.locator(f"{MAIN} h1").first.wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(1200)  # what is drawn after the page


def views(page: Page) -> list[tuple[str, Locator]]:
    """Lists the views of a page that are not open, by name."""
    found = [(each.inner_text(), each) for each in page.locator(VIEWS).all()]
    return [(name, each) for name, each in found if each.get_attribute("aria-checked") != "true"]


def take(page: Page, file: Path, size: tuple[int, int]) -> list[str]:
    """Writes the picture of what a page shows, and lists what sticks out."""
    high = page.evaluate(f"document.querySelector('{MAIN}').scrollHeight")
    page.set_viewport_size({"width": size[0], "height": min(max(high, size[1]), HIGHEST)})
    page.wait_for_timeout(400)
    page.screenshot(path=file)
    out = page.evaluate(OUT, size[0])
    page.set_viewport_size({"width": size[0], "height": size[1]})
    return [f"{file.stem}: {each}" for each in out]


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="390x844")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--only", default="", help="pattern of pages")
    arguments = parser.parse_args()
    wide, high = map(int, arguments.size.split("x"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    out: list[str] = []
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = serve(Path(home))
        try:
            ready()
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            page = browser.new_page(
                viewport={"width": wide, "height": high},
                color_scheme="dark" if arguments.dark else "light",
            )
            page.set_default_timeout(120_000)
            for name in (each.name for each in shell.pages()):
                if not re.search(arguments.only, name):
                    continue
                page.goto(f"{URL}/{'' if name == 'overview' else name}")
                calm(page)
                out += take(page, arguments.folder / f"{name}.png", (wide, high))
                seen: set[str] = set()
                while waiting := [each for each in views(page) if each[0] not in seen]:
                    title, view = waiting[0]
                    seen.add(title)
                    view.click()
                    calm(page)
                    short = re.sub(r"\W+", "-", title).strip("-").lower() or "view"
                    out += take(
                        page, arguments.folder / f"{name}.{len(seen):02}.{short}.png", (wide, high)
                    )
        finally:
            server.terminate()
            server.wait()
    print("\n".join(out))
    sys.exit(bool(out))


if __name__ == "__main__":
    main()

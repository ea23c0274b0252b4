"""axe-core looks at every page, on a phone too, each of its views and the dialogs, in both themes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize

from pages.parts import shell
from tests.browser.conftest import Screen

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
THEIRS = {  # rule and widget of Streamlit 1.67.0: what is wrong there
    ("scrollable-region-focusable", "stCode"): "long code scrolls, and no key reaches it",
}
# Choices that change what is to be seen: tabs, and the segments of a control.
VIEWS = "[data-testid=stMain] :is([role=tab], [role=radio]):visible"
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=800)


@pytest.fixture(scope="module")
def shipped(server: Callable[..., Any]) -> Any:
    """A server that shows what ships with the code."""
    return server(gallery="1")


@pytest.fixture(scope="module")
def own(
    server: Callable[..., Any], tiny_runs: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server with runs that are the visitor's, which alone can be described."""
    return server(home=tiny_runs.copy(tmp_path_factory.mktemp("own") / "home").home)


def complaints(page: Page) -> list[str]:
    """Lists what axe-core finds, but what stands in :data:`THEIRS`; ``stX`` is the widget of Streamlit around it."""
    from axe_playwright_python.sync_playwright import Axe

    told = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response
    listed = []
    for violation in told["violations"]:
        for node in violation["nodes"]:
            where = page.locator(str(node["target"][0])).first
            widget = where.evaluate("e => e.closest('[data-testid]')?.dataset.testid ?? ''")
            if (violation["id"], widget) not in THEIRS:
                reason = (node["any"] or node["all"] or node["none"])[0]["message"]
                listed.append(f"{violation['id']} in {widget}: {reason}: {node['html'][:200]}")
    return listed


def unfold(screen: Screen) -> None:
    """Opens all that is folded on a page."""
    for _ in range(20):
        folded = screen.page.locator("[data-testid=stMain] details:not([open]) > summary:visible")
        if not folded.count():
            return
        folded.first.click()
        screen.page.wait_for_timeout(300)
        screen.ready()


def views(screen: Screen) -> list[tuple[str, Locator]]:
    """Lists the views of a page that are not open, by name."""
    found = [(each.inner_text(), each) for each in screen.page.locator(VIEWS).all()]
    return [(name, each) for name, each in found if each.get_attribute("aria-checked") != "true"]


def look_closely(screen: Screen) -> None:
    """Opens the first picture of the page Data at large."""
    screen.canvas("data.wall").focus()
    screen.page.keyboard.press("Enter")


DIALOGS: dict[str, tuple[str, Callable[[Screen], None]]] = {  # page, and what opens it there
    "Glossary": ("overview", lambda screen: screen.button("glossary").click()),
    "Bring your own pictures": ("data", lambda screen: screen.button("data.bring").click()),
    "Look closely": ("data", look_closely),
    "About this model": ("about", lambda screen: screen.button("about.edit").click()),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("dialog", DIALOGS)
def test_everybody_can_use_a_dialog(own, browser: Browser, dialog, theme):
    page, begin = DIALOGS[dialog]
    context = browser.new_context(viewport=DESK, color_scheme=theme)
    screen = Screen(context.new_page())
    screen.open(own, "" if page == "overview" else page)
    begin(screen)
    screen.page.get_by_role("dialog", name=dialog).wait_for()
    screen.ready().page.wait_for_timeout(1000)
    listed = complaints(screen.page)
    context.close()
    assert not listed, "\n".join(sorted(set(listed)))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [page.name for page in shell.pages()])
def test_everybody_can_use_it(shipped, browser: Browser, page, theme):
    context = browser.new_context(viewport=PHONE, color_scheme=theme)
    screen = Screen(context.new_page())
    screen.open(shipped, "" if page == "overview" else page)
    screen.page.wait_for_timeout(1500)  # what is drawn after the page
    listed = [f"On a phone: {each}" for each in complaints(screen.page)]
    screen.page.set_viewport_size(DESK)
    screen.open(shipped, "" if page == "overview" else page)
    screen.page.wait_for_timeout(1500)
    unfold(screen)
    listed += complaints(screen.page)
    seen = set()
    while waiting := [(name, view) for name, view in views(screen) if name not in seen]:
        name, view = waiting[0]
        seen.add(name)
        view.click()
        screen.page.wait_for_timeout(300)
        screen.ready()
        unfold(screen)
        screen.page.wait_for_timeout(1000)
        listed += [f"{name}: {each}" for each in complaints(screen.page)]
    context.close()
    assert not listed, "\n".join(sorted(set(listed)))

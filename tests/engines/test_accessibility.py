"""axe-core looks at every page, each of its views and the glossary, in both themes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

from pages.parts import shell
from tests.browser.conftest import Screen

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
THEIRS = {  # rule and widget of Streamlit 1.67.0: what is wrong there
    ("scrollable-region-focusable", "stCode"): "long code scrolls, and no key reaches it",
}
# Choices that change what is to be seen: tabs, and the segments of a control.
VIEWS = "[data-testid=stMain] :is([role=tab], [role=radio]):visible"


@pytest.fixture(scope="module")
def shipped(server: Callable[..., Any]) -> Any:
    """A server that shows what ships with the code."""
    return server(gallery="1")


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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [page.name for page in shell.pages()])
def test_everybody_can_use_it(shipped, browser: Browser, page, theme):
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)
    screen = Screen(context.new_page())
    screen.open(shipped, "" if page == "overview" else page)
    screen.page.wait_for_timeout(1500)  # what is drawn after the page
    unfold(screen)
    listed = complaints(screen.page)
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
    if page == "overview":
        screen.button("glossary").click()
        screen.page.get_by_role("dialog").wait_for()
        listed += [f"Glossary: {each}" for each in complaints(screen.page)]
    context.close()
    assert not listed, "\n".join(sorted(set(listed)))

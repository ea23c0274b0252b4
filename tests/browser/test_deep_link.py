"""The first request to a fresh server is a deep link: Streamlit would show the page without the shell."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from pages.parts import shell


@pytest.mark.parametrize(
    ("page", "query"),
    [("train", {"data": "plain"}), ("latent", {"data": "digits", "latent.seed": "5"})],
)
def test_first_deep_link_on_a_fresh_server(server, tiny_runs, tmp_path, screen, page, query):
    home = tiny_runs.copy(tmp_path / "home").home
    query = query | {"run": tiny_runs.runs["vae"]}
    screen.open(server(home=home), page, **query)

    names = screen.page.get_by_test_id("stSidebarNavLink")
    expect(names).to_have_count(len(shell.pages()))
    titles = [page.title for page in shell.pages()]
    assert [name.get_by_test_id("stIconMaterial").count() for name in names.all()] == [1] * len(
        titles
    )
    for name, title in zip(names.all(), titles, strict=True):
        expect(name).to_contain_text(title)
    screen.chosen("run", "Tiny vae")
    where = urlsplit(screen.page.url)
    assert where.path == f"/{page}"
    assert {name: value[0] for name, value in parse_qs(where.query).items()} == query
    if page == "latent":
        expect(screen.key("latent.seed").get_by_role("spinbutton")).to_have_value("5")
    expect(screen.page.get_by_test_id("stException")).to_have_count(0)
    assert screen.sidebar_width() == 240  # as for everybody after

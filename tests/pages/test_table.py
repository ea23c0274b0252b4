"""The table of measured values: what it shows is what it was given, letter by letter."""

from __future__ import annotations

import re

import pytest

from pages.parts import table as measures


@pytest.fixture
def drawn(monkeypatch):
    def draw(*rows):
        bodies = []
        monkeypatch.setattr(measures.st, "html", bodies.append)
        measures.table(rows, alt="Measures")
        return bodies[0]

    return draw


def test_no_text_becomes_markup(drawn):
    evil = "<b onclick=x>'\"&"
    body = drawn(measures.Row(evil, evil, 0.5, evil, (0.4, 0.6), evil, 0.9, 1.0, evil, evil, evil))
    assert "onclick" in body and "<b onclick" not in body
    assert body.count("&lt;b onclick=x&gt;&#x27;&quot;&amp;") == 8


def test_the_bar_shows_value_interval_and_real_images_on_one_scale(drawn):
    body = drawn(measures.Row("A", "25 %", 0.25, "", (0.2, 0.3), "50 %", 0.5, 1.0))
    assert re.findall('class=(\\w+) style="(.*?)"', body) == [
        ("value", "width:25.0%"),
        ("ends", "left:20.0%;width:10.0%"),
        ("real", "left:50.0%"),
    ]
    assert "scale" not in drawn(measures.Row("B", "–"))  # what was not measured has none
    assert 'value style="width:0.0%"' in drawn(measures.Row("C", "0", 0.0))


def test_a_group_has_one_head_and_the_prose_waits_behind_its_mark(drawn):
    rows = [measures.Row(name, "1", group=name[0], why="Prose.") for name in ("a1", "a2", "b1")]
    body = drawn(*rows)
    assert body.count("scope=rowgroup") == 2
    assert body.count("<details><summary>") == 3 and 'aria-label="What a1 means"' in body

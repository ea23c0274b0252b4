"""No text of a visitor, of a file or of a link is Markdown: it is shown letter by letter, wherever it appears."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages.parts import shell, show

ROOT = Path(__file__).resolve().parents[2]
JOINER = "\u2060"

# What the second look of the browser's Markdown makes something of, after the backslashes are gone.
SECOND = re.compile(
    r"https?://|www\.|[\w.+-]+@[\w-]+\.\w|:[\w+-]+:|:material/|:streamlit:|:[a-z-]+\[|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
    re.IGNORECASE,
)
WORDS = [
    "![i](http://evil.test/i.png)",
    "[l](http://evil.test)",
    "[l]: http://evil.test\n\n[l]",
    "<http://evil.test>",
    "HTTP://evil.test/x?a=b&c",
    "www.evil.test",
    "me@evil.test",
    "`code` ``c``",
    "```\ncode\n```",
    "~~~\ncode",
    "**b** __b__ *i* _i_ ~~s~~",
    "$x^2$ and $$y$$",
    "costs $5 or $6",
    "<b>b</b><img src=x onerror=y>",
    "&lt;b&gt; &#58;material/home:",
    ":material/home: x:material/home:y",
    ":smile: :+1: :100: :streamlit:",
    ":red[r] :red-background[r] :small[s] :help[h]",
    ":::box\nx\n:::",
    "# heading",
    "a\n# heading\n## another",
    "- item\n+ item\n* item\n1. item\n2) item",
    "> quote",
    "a\n===\nb\n---",
    "    four blanks",
    "a\n\n    four blanks",
    "\u2028# heading",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "[^1]\n\n[^1]: note",
    "- [x] done",
    "a -> b <- c <-> d -- e >= f <= g ~= h",
    "back\\slash\\",
    "a\r# heading",
]


def seen(escaped: str) -> str:
    """Takes away what the parser takes away, and what nobody sees."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped)


def letters(text: str) -> str:
    return " ".join(text.replace(JOINER, "").split())


@pytest.mark.parametrize("text", WORDS)
def test_what_could_be_markdown_is_text(text):
    escaped = shell.plain(text)
    assert letters(seen(escaped)) == letters(text)
    assert not SECOND.search(seen(escaped))
    bare = re.sub(r"\\.", "x", escaped)  # what the parser looks at
    assert not re.search(r"[`*_\[\]{}<>~$|&\\]", bare.removesuffix("\\"))
    assert not re.search(r"^\s*(#+|[-+=]+|\d+[.)])(\s|$)|^( {4}|\t)", bare, re.MULTILINE)


def test_ordinary_words_stay_as_they_are():
    for text in ("My first model", "Step 3, 95 % of n = 40.", "-5 to +3", "Über Größe 8 × 8", "#1"):
        assert shell.plain(text) == text


# --- Every place that shows a name ----------------------------------------------------------------------------------

LIVE = re.compile(r"(?<!\\)(\[l\]\(|:red\[|\*\*x|<b>h|\$y)|:material/home|http://evil")
EVIL = "[l](http://evil.test) :red[r] **x** <b>h $y$ :material/home:"
FOLDER = "[l](evil) :red[r] **x** <b>h $y$"  # what a folder can be called
ASKED = [
    "chain",
    "ends",
    "axes",
    "at",
    "pins",
    "evaluation",
    "among",
    "metric",
    "map.view",
    "race",
    "data.view",
    "data.kind",
    "augment.view",
    "augment.source",
    "augment.seed",
    "latent.step",
    "latent.seed",
    "latent.class",
    "latent.tool",
    "latent.plane",
    "latent.image",
    "latent.kind",
    "latent.mine",
    "latent.film.images",
    "latent.map.method",
    "robust.model",
    "robust.attacks",
    "robust.tool",
    "robust.beyond",
    "evaluate.view",
]


@pytest.fixture
def evil(trained) -> dict[str, str]:
    """Names everything after a canary: runs, notes, a dataset and its classes, a race; gives the runs' ids."""
    import shutil

    from core import datasets, jobs
    from core.ground import files
    from core.ground.settings import settings

    some = datasets.load("digits")
    classes = tuple(f"{k} {EVIL}" for k in range(10))
    splits = {"train": np.arange(60), "valid": np.arange(60, 80), "test": np.arange(80, 100)}
    assert some.y is not None
    x, y = np.asarray(some.x[:100]), np.asarray(some.y[:100])
    datasets.save("evil", datasets.assemble(x, y, classes, splits, name="evil", levels=17))
    place = settings().datasets / FOLDER
    (settings().datasets / "evil").rename(place)
    meta = json.loads((place / "meta.json").read_text())
    (place / "meta.json").write_text(json.dumps(meta | {"name": FOLDER}))
    shutil.copytree(jobs.SHIPPED / "shipped-race", settings().jobs / "20261101-000000-race-0000")
    for folder in settings().jobs.iterdir():
        words = files.read_json(folder / "job.json")
        words |= {"name": EVIL, "note": EVIL, "who": EVIL}
        words["config"]["dataset"]["name"] = FOLDER
        files.write_json(folder / "job.json", words)
        state = files.read_json(folder / "state.json") | {"message": EVIL}
        files.write_json(folder / "state.json", state)
        if (folder / "run.json").exists():
            facts = files.read_json(folder / "run.json")
            facts["dataset"] |= {"name": FOLDER, "config": {}, "fingerprint": meta["fingerprint"]}
            if facts["dataset"]["classes"]:
                facts["dataset"]["classes"] = classes
            files.write_json(folder / "run.json", facts)
    return trained.runs


def rendered(visit: Any) -> Iterator[tuple[str, str]]:
    """Gives every text of a page that the browser reads as Markdown, with the kind of its element."""
    for node in visit.at._tree:
        proto = getattr(node, "proto", None)
        kind = type(proto).__name__
        if hasattr(proto, "ListFields") and kind not in ("Code", "Text", "BidiComponent"):
            for text in texts(proto):
                yield kind, text


def texts(proto: Any) -> Iterator[str]:
    for field, value in proto.ListFields():
        for each in (
            value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
        ):
            if hasattr(each, "ListFields"):
                yield from texts(each)
            elif isinstance(each, str) and field.name in (
                "body",
                "label",
                "help",
                "text",
                "content",
            ):
                yield each


PLACES = [
    ("overview", "vae", {}),
    ("data", "vae", {}),
    ("data", "vae", {"data.view": "issues"}),
    ("data", "vae", {"data.view": "version"}),
    ("train", "gan", {}),
    ("train", "classifier", {}),
    ("race", "vae", {}),
    ("evaluate", "vae", {}),
    ("about", "vae", {}),
    ("latent", "vae", {}),
    ("augment", "vae", {"augment.view": "before"}),
    ("robustness", "classifier", {"robust.tool": "Fool it"}),
]


def test_no_page_makes_markdown_of_a_name(visit, evil):
    shown = visit(run=evil["vae"], data=FOLDER)
    for page, run, query in PLACES:
        shown.at.session_state["run"] = evil[run]
        shown.open(page, **query)
        said = list(rendered(shown))
        assert any("evil" in text for _, text in said), page  # it is there
        assert [(page.name, kind, text) for kind, text in said if LIVE.search(text)] == []
        for node in shown.at.get("plotly_chart"):
            assert "<b>h" not in node.proto.spec.replace("\\u003c", "<"), page


def test_no_page_makes_markdown_of_a_link(visit, trained, monkeypatch):
    from core.measure import features

    monkeypatch.setitem(features.LENGTHS, "digits", 640)  # of the judge that Robustness may train
    shown = visit(**dict.fromkeys([*ASKED, "data"], EVIL), run=trained.runs["classifier"])
    for page in shell.pages():
        shown.open(page.name)
        said = list(rendered(shown))
        assert [(page.name, kind, text) for kind, text in said if LIVE.search(text)] == []


def test_a_toast_quotes_a_link_letter_by_letter(visit):
    said = [text for kind, text in rendered(visit(data=EVIL, run=EVIL)) if kind == "Toast"]
    assert len(said) == 2
    for text in said:
        assert EVIL in seen(text).replace(JOINER, "")
        assert not LIVE.search(text)


def test_plotly_reads_no_tag_in_a_name(monkeypatch):
    import plotly.graph_objects as go
    import streamlit as st

    drawn: list[Any] = []
    monkeypatch.setattr(st, "plotly_chart", lambda figure, **_: drawn.append(figure))
    figure = go.Figure()
    tag = "<a href='http://evil.test'>x</a>"
    figure.add_bar(x=[tag, "b"], y=np.array([1, 2]), name=tag, customdata=[[tag]], hovertext=[tag])
    figure.add_annotation(text=tag)
    show.plot(figure, key="k", alt="a")
    assert tag not in drawn[0].to_json().replace("\\u003c", "<").replace("\\u003e", ">")
    assert list(drawn[0].data[0].y) == [1, 2]
    assert drawn[0].data[0].name == "&lt;a href='http://evil.test'&gt;x&lt;/a&gt;"


# --- The code -------------------------------------------------------------------------------------------------------

MARKDOWN = re.compile(
    "markdown|caption|error|warning|info|success|toast|title|header|subheader|button|checkbox|toggle|expander|popover|"
    "tabs|progress|spinner|status|metric|pills|segmented_control|select_slider|page_link|badge|go|press|explore"
)
FOREIGN = {"name", "note", "message", "who", "classes", "sentence", "licence", "consent", "path"}
OURS = {
    "entry.name",
    "knob.name",
    "inside.classes",
    "seen.classes",
    "strip.classes",
}  # numbers, the last three


def foreign(node: ast.AST) -> Iterator[str]:
    """Finds what comes from outside in an expression, unless it goes through :func:`shell.plain` or is counted."""
    if isinstance(node, ast.Call):
        called = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if called in ("plain", "_cell", "len", "sum", "any", "all"):
            return
        if called in ("dataset_of", "family_of"):
            yield ast.unparse(node)
    if isinstance(node, ast.Compare | ast.Lambda):
        return
    tail = node.attr if isinstance(node, ast.Attribute) else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        tail = str(node.slice.value)
    if tail in FOREIGN and ast.unparse(node) not in OURS:
        yield ast.unparse(node)
    if isinstance(node, ast.Name) and node.id in ("error", "problem"):
        yield node.id
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.IfExp) and child is node.test):
            yield from foreign(child)


def test_no_code_hands_a_name_to_markdown():
    found = []
    for file in sorted([ROOT / "app.py", *(ROOT / "pages").rglob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if MARKDOWN.fullmatch(called) or isinstance(node.func, ast.IfExp):
                given = [*node.args[:2]] + [
                    k.value for k in node.keywords if k.arg in ("label", "help", "text")
                ]
                for part in given:
                    found += [f"{file.name}:{node.lineno}: {words}" for words in foreign(part)]
    assert found == []


def test_figures_are_drawn_in_one_place():
    drawn = [
        file.name
        for file in (ROOT / "pages").rglob("*.py")
        if "st.plotly_chart(" in file.read_text()
    ]
    assert drawn == ["show.py"]

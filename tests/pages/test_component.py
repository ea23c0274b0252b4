"""What all components share: one stage in front of each script, and one folder for one more."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from pages.parts import component

UI = Path(component.__file__).parent
STAGE = (UI / "stage.js").read_text("utf-8")
NAMES = sorted(file.parent.name for file in UI.glob("*/*.js"))


def test_every_component_is_found():
    assert {"canvas", "compare", "map", "pad", "tiles", "track"} <= set(NAMES)
    assert STAGE.count("export default") == 1
    assert "return () => {" in STAGE  # the only export gives what ends a component


@pytest.mark.parametrize("name", NAMES)
def test_a_script_stands_on_the_stage_and_leaves_nothing_to_clean_up(name):
    """What goes on by itself is asked of the stage, which ends it."""
    script = (UI / name / f"{name}.js").read_text("utf-8")
    for word in ("begin()", "show(me)"):
        assert script.count(f"function {word}") == 1
    own = r"export |WeakMap|Observer|setTimeout|setInterval|requestAnimationFrame|addEventListener|devicePixelRatio"
    assert re.findall(own, script) == []
    assert "component(" in (UI / name / "__init__.py").read_text("utf-8")


@pytest.mark.parametrize("file", sorted([*UI.glob("stage.*"), *UI.glob("*/*.js"), *UI.glob("*/*.css")]))  # fmt: skip
def test_the_browser_side_reaches_no_other_place(file):
    text = file.read_text("utf-8").replace("// ", "")
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttp|import\(|innerHTML|eval\(", text)


def page(folder):
    import streamlit as st

    from tests.pages.test_component import loaded

    st.code(repr(loaded(folder).show("dial", {"at": 1})))


def loaded(folder):
    """Imports a component from anywhere."""
    spec = importlib.util.spec_from_file_location("dial", Path(folder) / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_more_component_is_one_folder(tmp_path):
    from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
    from streamlit.testing.v1 import AppTest

    folder = tmp_path / "dial"
    folder.mkdir()
    script = "function begin() { return {}; }\nfunction show(me) { return () => {}; }"
    for name, text in {
        "__init__.py": "from pages.parts.component import component\nshow = component(__file__, '<i></i>', 'turned')",
        "dial.js": script,
        "dial.css": "i { color: red; }",
    }.items():
        (folder / name).write_text(text)
    at = AppTest.from_function(page, kwargs={"folder": str(folder)}, default_timeout=60).run()
    assert not at.exception
    proto = at.get("bidi_component")[0].proto
    assert proto.component_name == "simulacra_dial"
    assert proto.js_content == f"{STAGE}\n{script}"
    assert proto.html_content == '<div class="box"><i></i></div>'
    for said, taken in (({"turned": {"by": 3}}, {"by": 3}), ({"turned": 7}, {}), ([], {})):
        state = WidgetState(id=proto.id, json_value=json.dumps(said))
        at._run(WidgetStates(widgets=[state]))
        assert at.code[0].value == repr({"turned": taken})


@pytest.mark.parametrize(
    ("value", "taken"),
    [([2, 0, 2], [0, 2]), ([3], []), ([-1, True, 1.0, "1", None, {}], []), ([0] * 4, []), ("012", []), (None, []), ({0: 1}, [])],
)  # fmt: skip
def test_indices_are_those_that_exist(value, taken):
    assert component.indices(value, 3) == taken


def test_a_picture_becomes_an_address_of_its_own_kind():
    assert component.data_url(b"\x89PNG") == "data:image/png;base64,iVBORw=="
    assert component.data_url(b"\xff\xd8\xff").startswith("data:image/jpeg;base64,")

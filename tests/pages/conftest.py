"""Fixtures of the pages' tests: a visitor in this process, and no process behind any job."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starts from empty caches, and leaves the heavy imports to those who need them."""
    import streamlit as st

    from pages.parts import shell

    monkeypatch.setattr(shell, "_import_heavy", lambda: None)
    monkeypatch.setattr(shell, "_first_asked", lambda: float("-inf"))  # a server that runs for long
    st.cache_data.clear()
    yield
    st.cache_data.clear()


@pytest.fixture(autouse=True)
def visited(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets the server be one that has had visitors; `visited(False)` makes it a fresh one at every run.

    On a fresh server Streamlit takes `pages/` for a navigation of its own, and AppTest is fresh each time.
    """
    import streamlit.testing.v1.app_test as app_test
    from streamlit.runtime.pages_manager import PagesManager

    class Visited(PagesManager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            PagesManager.uses_pages_directory = False
            super().__init__(*args, **kwargs)

    def choose(before: bool) -> None:
        monkeypatch.setattr(app_test, "PagesManager", Visited if before else PagesManager)

    choose(True)
    return choose


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the ids of the jobs that would have been started; no process is."""
    from core import jobs

    ids: list[str] = []
    monkeypatch.setattr(jobs, "spawn", lambda path: ids.append(path.name))
    return ids


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes settings: `setting(view_only=1)`."""
    from core.ground.settings import settings

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"SIMULACRA_{name.upper()}", str(value))
        settings.cache_clear()

    return change


class Visit:
    """One visitor's session of the app, without a browser.

    `visit.at` is Streamlit's own AppTest; the rest are shorter words for what these tests do often.
    """

    def __init__(self) -> None:
        from streamlit.testing.v1 import AppTest

        self.at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)

    def open(self, page: str = "", **query: str) -> Visit:
        """Goes to a page, in a new session or in the one that is open; without a name, to the first one."""
        self.at.query_params |= query
        if not page:
            return self.run()
        if not self.at._finished_page_script_hash:
            self.at.run()
        self.at.switch_page(f"pages/{page}.py")
        return self.run()

    def run(self) -> Visit:
        """Runs the page again, with what was changed, and lets no exception pass."""
        self.at.run()
        assert not self.at.exception, [error.message for error in self.at.exception]
        return self

    def all(self, key: str) -> list[Any]:
        """Finds the widgets with this key."""
        from streamlit.testing.v1.element_tree import Widget

        return [node for node in self.at._tree if isinstance(node, Widget) and node.key == key]

    def widget(self, key: str) -> Any:
        """Finds the one widget with this key."""
        found = self.all(key)
        assert len(found) == 1, f"{len(found)} widgets have the key {key!r}"
        return found[0]

    def keys(self) -> set[str]:
        """Gives the keys of all widgets."""
        from streamlit.testing.v1.element_tree import Widget

        return {node.key for node in self.at._tree if isinstance(node, Widget) and node.key}

    def set(self, **values: Any) -> Visit:
        """Sets widgets, with `__` for the dots of their keys: `set(train__what="vae")`."""
        for name, value in values.items():
            self.widget(name.replace("__", ".")).set_value(value)
        return self.run()

    def press(self, *keys: str) -> Visit:
        """Presses a button; in a dialog, name the button that opens it as well."""
        for key in keys:
            self.widget(key).click()
        return self.run()

    def force(self, *keys: str) -> Visit:
        """Sends what a hand-made request would: the press of a button that is disabled."""
        for key in keys:
            button = self.widget(key)
            assert button.disabled
            button._value = True
        return self.run()

    def told(self, component: str, value: Any) -> Visit:
        """Sends the state of a component as its JavaScript, or somebody with worse in mind, would."""
        from streamlit.proto.WidgetStates_pb2 import WidgetState

        states = self.at._tree.get_widget_states()
        states.widgets.append(
            WidgetState(id=self._tiles(component).proto.id, json_value=json.dumps(value))
        )
        self.at._run(states)
        assert not self.at.exception, [error.message for error in self.at.exception]
        return self

    def again(self, name: str) -> Visit:
        """Runs only the fragment that a function of this name draws, as its clock or a widget in it would."""
        import streamlit.testing.v1.local_script_runner as runner

        fragments = self.at._fragment_storage._fragments
        ids = [id for id, fragment in fragments.items() if name in _names_of(fragment)]
        assert len(ids) == 1, (
            f"{len(ids)} fragments are called {name!r}: {[_names_of(f) for f in fragments.values()]}"
        )
        real = runner.RerunData
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "RerunData", lambda **known: real(**known, fragment_id=ids[0]))
            return self.run()

    def _tiles(self, key: str) -> Any:
        found = [
            node for node in self.at.get("bidi_component") if node.proto.id.endswith(f"-{key}")
        ]
        assert len(found) == 1, f"{len(found)} pictures have the key {key!r}"
        return found[0]

    def pictures(self, key: str) -> dict[str, Any]:
        """Gives what a component got to draw: frames, count, marks, titles, alt …; of a map, words and facts."""
        proto, found, at = self._tiles(key).proto, {}, 0
        if proto.json:
            return json.loads(proto.json)[0]
        for _ in range(2):
            (size,) = struct.unpack_from("<I", proto.bytes, at)
            found |= json.loads(proto.bytes[at + 4 : at + 4 + size])
            at += 4 + size
        return found

    def images(self, key: str) -> Any:
        """Gives the images that a component got to draw, uint8 (N, C, H, W)."""
        from core.ground import sheets

        return sheets.tiles(base64.b64decode(self.pictures(key)["frames"][-1].partition(",")[2]))

    def shown(self, key: str) -> bool:
        """Tells whether there are pictures with this key."""
        return any(node.proto.id.endswith(f"-{key}") for node in self.at.get("bidi_component"))

    def texts(self, *kinds: str) -> str:
        """Joins what the page says: errors, warnings, markdown, captions …"""
        kinds = kinds or (
            "title",
            "subheader",
            "markdown",
            "caption",
            "info",
            "warning",
            "error",
            "toast",
            "code",
        )
        return read("\n".join(str(node.value) for kind in kinds for node in getattr(self.at, kind)))

    @property
    def tables(self) -> list[str]:
        """The tables of measures, as HTML."""
        bodies = [node.proto.body for node in self.at.get("html")]
        return [body for body in bodies if 'class="measures"' in body]

    @property
    def measures(self) -> str:
        """The table of every measure: the last one, as HTML."""
        return self.tables[-1]

    @property
    def errors(self) -> list[str]:
        """The sentences in red."""
        return [read(node.value) for node in self.at.error]

    def calm(self) -> Visit:
        """Asserts that nothing is shown in red."""
        assert not self.errors
        return self


def read(text: str) -> str:
    """Reads markdown as a person does: an escaped sign is that sign."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("\u2060", "")


def _names_of(fragment: Any) -> set[str]:
    """Finds the names of the functions that a fragment's closure holds."""
    found, todo = set(), [fragment]
    while todo:
        thing = todo.pop()
        for cell in getattr(thing, "__closure__", None) or ():
            if (
                callable(cell.cell_contents)
                and getattr(cell.cell_contents, "__name__", "") not in found
            ):
                found.add(getattr(cell.cell_contents, "__name__", ""))
                todo.append(cell.cell_contents)
    return found


@pytest.fixture
def visit() -> Iterator[Callable[..., Visit]]:
    """Opens a page as a new visitor: `visit("train", run=id)`."""

    def open(page: str = "", **query: str) -> Visit:
        return Visit().open(page, **query)

    return open


def asked(id: str) -> dict[str, Any]:
    """Reads what a job was asked to do."""
    from core.ground.settings import settings

    return json.loads((settings().jobs / id / "job.json").read_text())


@pytest.fixture(name="asked")
def asked_fixture() -> Callable[[str], dict[str, Any]]:
    """Reads the job.json of a job."""
    return asked

"""A visit of every page, and a recipe in both formats on the command line, without any development package.

A process of its own runs this from the root of the project: ``python tests/pages/bare_visit.py FOLDER``. The recipes
``chain.json`` and ``chain.yaml`` lie in the folder. It prints one JSON object.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

DEVELOPMENT = ("pytest", "xdist", "beartype", "playwright", "pyright")


def visit() -> dict[str, list[str]]:
    """Opens every page as a new visitor would; gives what each shows in red."""
    import streamlit.testing.v1.app_test as app_test
    from streamlit.runtime.pages_manager import PagesManager

    class Visited(PagesManager):
        """A server that has had visitors: a fresh one takes `pages/` for a navigation of its own."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            PagesManager.uses_pages_directory = False
            super().__init__(*args, **kwargs)

    app_test.PagesManager = Visited  # type: ignore[misc]
    found: dict[str, list[str]] = {}
    at = app_test.AppTest.from_file(str(Path.cwd() / "app.py"), default_timeout=120).run()
    for page in sorted(path.stem for path in Path("pages").glob("*.py")):
        if page == "augment":  # a copied link of a changed chain
            at.query_params["chain"] = '[["rotate",{"degrees":12},1.0,1]]'
        at.switch_page(f"pages/{page}.py").run()
        found[page] = [each.message for each in at.exception] + [each.value for each in at.error]
        if not at.title:
            found[page].append("no title")
        if page == "augment" and "12°" not in str(at.main) and "rotate" not in str(at.main).lower():
            found[page].append("the chain of the link is not there")
    return found


def commands(folder: Path) -> dict[str, int]:
    """Reads the recipes; gives the exit codes."""
    from core.__main__ import main

    codes = {}
    for name in ("chain.json", "chain.yaml"):
        words = ["augment", str(folder / name), "-n", "1", "--draws", "1"]
        codes[name] = main([*words, "--out", str(folder / f"{name}.png"), "--json"])
    return codes


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    facts = {
        "development": [name for name in DEVELOPMENT if importlib.util.find_spec(name)],
        "codes": commands(Path(sys.argv[1])),
        "pages": visit(),
    }
    print(json.dumps(facts), file=out)

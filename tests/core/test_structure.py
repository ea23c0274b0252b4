"""What the code may import, and what its files may be called."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from core import catalog
from core.catalog import EXTRAS, UserError, optional

ROOT = Path(__file__).resolve().parents[2]

# Names that say nothing about what is inside.
EMPTY_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "base",
    "manager",
    "managers",
    "misc",
}

# What a cold start loads before the first page is drawn.
FIRST_PAGE = [
    "core",
    "core.catalog",
    "core.ground.settings",
    "core.datasets",
    "core.jobs",
    "core.runs",
    "core.kinds",
    "core.measure",
]


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file; most laws read every file, and reading them takes the time."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources(root: Path) -> list[Path]:
    """The files of the app, without its tests."""
    return sorted([*root.glob("app.py"), *root.glob("core/**/*.py"), *root.glob("pages/**/*.py")])


def room_of(where: str) -> str:
    """The room that a file stands in: the folder below core or pages/parts; a file right there is one by itself."""
    deep = 3 if where.startswith("pages/parts/") else 2
    parts = where.split("/")
    return "/".join(parts[:deep]) if len(parts) > deep else where


def imports(path: Path, root: Path) -> Iterator[tuple[int, list[str]]]:
    """Every module that a file imports, also inside functions, with its line."""

    def exists(module: list[str]) -> bool:
        place = root.joinpath(*module)
        return place.is_dir() or place.with_suffix(".py").is_file()

    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            for alias in node.names:  # `from core import runs` imports core.runs
                inside = [*module, alias.name]
                yield node.lineno, inside if exists(inside) else module


def file_of(module: Sequence[str], root: Path) -> str | None:
    """The file that stands behind a dotted name, or behind the part of it that is a module; None outside the app."""
    for length in range(len(module), 0, -1):
        place = root.joinpath(*module[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if module[0] in {"core", "pages", "app"} and file.is_file():
                return str(file.relative_to(root).as_posix())
    return None


def arrows(root: Path) -> dict[str, dict[str, int]]:
    """Who imports whom: each file's own imports of the app, with the first line of each."""
    found: dict[str, dict[str, int]] = {}
    for path in sources(root):
        mine = found.setdefault(str(path.relative_to(root).as_posix()), {})
        for line, target in imports(path, root):
            file = file_of(target, root)
            if file is not None and file != str(path.relative_to(root).as_posix()):
                mine[file] = min(line, mine.get(file, line))
    return found


def way(graph: Mapping[str, Collection[str]], start: str, goal: str) -> list[str]:
    """The shortest way from one to the other along the arrows; empty where there is none."""
    ways, seen = [[start]], {start}
    for each in ways:
        for step in sorted(graph.get(each[-1], ())):
            if step == goal:
                return [*each, step]
            if step not in seen:
                seen.add(step)
                ways.append([*each, step])
    return []


def circles(graph: Mapping[str, Collection[str]]) -> list[str]:
    """One shortest circle through everything that lies on one, as sentences."""
    found, told = [], set()
    for start in sorted(graph):
        circle = way(graph, start, start)
        if circle and not told & {*circle}:
            found.append(f"{' imports '.join(circle)}.")
            told |= {*circle}
    return found


def faults(root: Path) -> list[str]:
    """Every import that does not point down, as a sentence.

    Down needs no list of what stands on what: the arrows between files make no circle, those between rooms make none,
    and the app stands on its pages, these on what they share, and that on core. A new file obeys or it does not.
    """
    found = []
    graph = arrows(root)
    floors = ["core", "pages/parts", "pages", "app.py"]
    floor = {
        name: next(k for k, each in enumerate(floors) if name.startswith(each)) for name in graph
    }
    floor |= {name: 2 for name in graph if name.startswith("pages/") and floor[name] != 1}
    for where in sorted(graph):
        for target, line in sorted(graph[where].items(), key=lambda each: each[1]):
            if floor[target] > floor[where]:
                found.append(f"{where}:{line} imports {target}, which stands above it.")
            elif room_of(where) == room_of(target) == "core/models" and not target.endswith(
                "__init__.py"
            ):
                found.append(
                    f"{where}:{line} imports {target}; families know the contract, not each other."
                )
            elif floor[where] == floor[target] == 2:
                found.append(
                    f"{where}:{line} imports {target}; what two pages share belongs in pages/parts."
                )
        if where.startswith("core/"):
            found += [
                f"{where}:{line} imports streamlit; core runs without a web page."
                for line, target in imports(root / where, root)
                if target[0] == "streamlit"
            ]
    rooms: dict[str, set[str]] = {}
    for a, targets in graph.items():
        rooms.setdefault(room_of(a), set()).update({room_of(b) for b in targets} - {room_of(a)})
    return found + (circles(graph) or circles(rooms))


def test_imports_point_down():
    assert len(sources(ROOT)) > 10
    assert faults(ROOT) == []


def written(root: Path, files: Mapping[str, str]) -> Path:
    """Writes a small app, to see that a law is more than words."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_an_import_that_points_up_is_found_wherever_it_hides(tmp_path):
    written(tmp_path, {
        "core/__init__.py": "",
        "core/catalog.py": "def late():\n    from core.ground import settings",
        "core/ground/settings.py": "from core.catalog import UserError\nimport core.tensors",
        "core/tensors.py": "from . import training",
        "core/training.py": "import streamlit as st\nfrom core.tensors import noise",
        "core/novelty.py": "from pages.parts import form\nfrom core.training import train",
        "core/models/__init__.py": "from ..tensors import noise",
        "core/models/gan.py": "from core.models import Loss, vae\nfrom core.models.vae import VAE",
        "core/models/vae.py": "from . import Loss",
        "core/views/plane.py": "from core.views import point",
        "core/views/point.py": "from core.sheets import png",
        "core/sheets.py": "from core.views.shape import Shape",
        "core/views/shape.py": "",
        "pages/train.py": "import streamlit\nimport pages.data\nfrom pages.parts import form",
        "pages/data.py": "from core.kinds import submit",
        "pages/parts/form.py": "from pages import train",
        "app.py": "from pages.parts import form\nimport pages.train\nimport streamlit",
    })  # fmt: skip
    assert faults(tmp_path) == [
        "core/models/gan.py:1 imports core/models/vae.py; families know the contract, not each other.",
        "core/novelty.py:1 imports pages/parts/form.py, which stands above it.",
        "core/training.py:1 imports streamlit; core runs without a web page.",
        "pages/parts/form.py:1 imports pages/train.py, which stands above it.",
        "pages/train.py:2 imports pages/data.py; what two pages share belongs in pages/parts.",
        "core/catalog.py imports core/ground/settings.py imports core/catalog.py.",
        "core/tensors.py imports core/training.py imports core/tensors.py.",
        "pages/parts/form.py imports pages/train.py imports pages/parts/form.py.",
    ]


def test_two_rooms_that_need_each_other_are_found_though_no_file_does(tmp_path):
    written(tmp_path, {
        "core/views/point.py": "from core.sheets import png",
        "core/sheets.py": "def late():\n    from core.views.shape import Shape",
        "core/views/shape.py": "",
    })  # fmt: skip
    assert faults(tmp_path) == ["core/sheets.py imports core/views imports core/sheets.py."]


# --- What has one name, and who knows it ------------------------------------------------------------------------------


def namesakes(root: Path) -> set[str]:
    """The names that more than one class of core has; an underscore in front makes no other name."""
    seen = Counter(
        node.name.lstrip("_")
        for path in root.glob("core/**/*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    )
    return {name for name, times in seen.items() if times > 1}


def test_a_class_of_core_has_its_name_for_itself():
    assert namesakes(ROOT) == set()


def test_a_second_class_of_a_name_is_found(tmp_path):
    written(tmp_path, {
        "core/a.py": "class Study: ...\nclass Other: ...",
        "core/b/c.py": "def late():\n    class _Study: ...",
    })  # fmt: skip
    assert namesakes(tmp_path) == {"Study"}


def known_families(root: Path, names: Collection[str]) -> list[str]:
    """Every text outside core/models that is a family's name, as file:line; the gallery's list may hold them."""
    found = []
    for path in sources(root):
        where = str(path.relative_to(root).as_posix())
        if where.startswith("core/models/"):
            continue
        lists = [
            node for node in tree_of(path).body if isinstance(node, ast.Assign | ast.AnnAssign)
        ]
        allowed = {
            id(inner)
            for node in lists
            for inner in ast.walk(node)
            if where.startswith("core/gallery/")
            or ast.unparse(node).startswith("DEFAULT_FAMILY = ")
        }
        found += [
            f"{where}:{node.lineno}"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Constant) and node.value in names and id(node) not in allowed
        ]
    return found


def test_only_the_models_know_a_family_by_its_name():
    from core.models import families

    assert known_families(ROOT, families.names()) == []


def test_a_family_that_is_known_elsewhere_is_found(tmp_path):
    written(tmp_path, {
        "core/models/gan.py": "NAME = 'gan'",
        "core/gallery/__main__.py": "LIST: list = ['gan']\nif kind == 'vae': ...",
        "core/kinds.py": "DEFAULT_FAMILY = 'gan'\nHINT = 'a gan is one'\nif name in ('mean', 'gan'): ...",
        "pages/train.py": "def draw():\n    return {'gan': 1}",
    })  # fmt: skip
    assert known_families(tmp_path, ["gan", "vae"]) == [
        "core/gallery/__main__.py:2",
        "core/kinds.py:3",
        "pages/train.py:2",
    ]


def test_a_page_chooses_calls_and_draws_in_few_lines():
    lines = {
        f"pages/{path.name}": path.read_text("utf-8").count("\n")
        for path in ROOT.glob("pages/*.py")
    }
    assert len(lines) >= 9 and {name: n for name, n in lines.items() if n > 250} == {}


def test_the_first_page_needs_no_torch_and_core_no_streamlit():
    code = f"import sys, {', '.join(FIRST_PAGE)}\ncore.measure.EvaluateConfig.knobs()\nprint(*{{'torch', 'streamlit'}} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", f"importing core loaded {done.stdout.strip()}"


def at_once(root: Path) -> list[str]:
    """What a file that is imported loads of the large packages that only some of the work needs."""
    found = []
    for path in sources(root):
        tree = tree_of(path)
        late = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in late:
                names = [alias.name for alias in node.names]
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
                found += [
                    f"{path.relative_to(root)}:{node.lineno} {name}"
                    for name in names
                    if name.split(".")[0] in {"sklearn", "scipy", "torchvision"}
                ]
    return found


def test_what_only_some_of_the_work_needs_is_imported_by_that_work(tmp_path):
    assert at_once(ROOT) == []
    written(tmp_path, {"core/x.py": "import scipy.stats\ndef f():\n    import sklearn"})
    assert at_once(tmp_path) == ["core/x.py:1 scipy.stats"]


def test_text_is_read_and_written_as_utf_8_whatever_the_system_prefers():
    loose = re.compile(r"\.(read_text\(\)|write_text\((?![^\n]*utf-8)[^\n(]*\)\s*$)", re.MULTILINE)
    assert loose.search("x = file.read_text()") and loose.search("file.write_text(text)\n")
    found = {
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in sources(ROOT)
        for match in loose.finditer(path.read_text("utf-8"))
    }
    assert found == set()


# --- What must be installed -------------------------------------------------------------------------------------------


def pins(file: Path) -> dict[str, str]:
    """The packages of a requirements file, by their normal names, with their versions."""
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    found = [line.split("==") for line in lines if line and not line.startswith("-")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def undeclared(root: Path, owners: Mapping[str, Sequence[str]]) -> list[str]:
    """Every import that a plain installation may lack, as a sentence; `owners` are packages by what they hold."""
    declared, found = pins(root / "requirements.txt"), []
    for path in sources(root):
        where = path.relative_to(root)
        for line, (name, *_) in imports(path, root):
            if name in sys.stdlib_module_names or name in {"core", "pages", "app"}:
                continue
            if name in EXTRAS:
                found.append(f"{where}:{line} imports {name} by itself; use catalog.optional.")
            elif not {re.sub(r"[-_.]+", "-", each).lower() for each in owners.get(name, ())} & {
                *declared
            }:
                found.append(
                    f"{where}:{line} imports {name}, which requirements.txt does not name."
                )
        text = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text))) if "optional(" in text else []
        late = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.Lambda)]
        for call in nodes:
            if (
                not isinstance(call, ast.Call)
                or ast.unparse(call.func).split(".")[-1] != "optional"
            ):
                continue
            name = call.args[0].value.split(".")[0]  # a name that is computed fails here
            if name not in EXTRAS:
                found.append(f"{where}:{call.lineno} imports {name}, which is in no EXTRAS.")
            if not any(node.lineno <= call.lineno <= (node.end_lineno or 0) for node in late):
                found.append(f"{where}:{call.lineno} imports {name} outside a function.")
    return found


def test_what_is_imported_is_declared_or_an_extra_that_may_be_absent():
    assert undeclared(ROOT, packages_distributions()) == []


def test_an_import_that_nobody_declared_is_found(tmp_path):
    for name, text in {
        "requirements.txt": "# ours\nPyYAML==1\nscikit_learn==2\n",
        "core/__init__.py": "import json, yaml\nimport sklearn.manifold\nimport imageio",
        "core/late.py": "def late():\n    from scipy.stats import norm\n    import umap",
        "pages/data.py": "from core.catalog import optional\nreader = optional('pi_heif', 'HEIC')",
        "app.py": "def late():\n    return catalog.optional('pandas', 'A table'), optional('umap.plot', 'A map')",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    owners = {"yaml": ["PyYAML"], "sklearn": ["scikit-learn"], "scipy": ["scipy"]}
    assert undeclared(tmp_path, owners) == [
        "app.py:2 imports pandas, which is in no EXTRAS.",
        "core/__init__.py:3 imports imageio, which requirements.txt does not name.",
        "core/late.py:2 imports scipy, which requirements.txt does not name.",
        "core/late.py:3 imports umap by itself; use catalog.optional.",
        "pages/data.py:2 imports pi_heif outside a function.",
    ]


def test_the_requirements_agree_with_each_other_and_with_the_extras_of_the_catalog():
    held, seen = pins(ROOT / "constraints.txt"), {}
    for file in sorted(ROOT.glob("requirements*.txt")):
        assert pins(file).items() <= held.items(), file.name
        seen[file.stem] = pins(file)
    for package, extra in EXTRAS.values():
        assert package in seen.pop(f"requirements-{extra}")
    assert sorted(seen) == ["requirements", "requirements-dev"]  # all others are extras


def test_a_package_that_is_missing_is_a_sentence_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(catalog, "installed", lambda module: module != "umap")
    with pytest.raises(UserError) as refused:
        optional("umap.plot", "UMAP", "take t-SNE")
    assert refused.value.args == (
        "UMAP needs the package umap-learn, which is not installed. Install it with: make extras "
        "(or: pip install -r requirements-umap.txt); or take t-SNE.",
    )


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["127.0.0.1", "localhost", "::1"]),  # a name that was made to point here is refused
        (("HOST=localhost", "HOSTS=a.example.org *.example.net"), ["a.example.org", "*.example.net", "127.0.0.1", "localhost", "::1"]),
        (("HOST=0.0.0.0",), []),
        (("HOST=0.0.0.0", "HOSTS=a.example.org"), ["a.example.org", "127.0.0.1", "localhost", "::1"]),
    ],
)  # fmt: skip
def test_make_app_says_which_names_the_app_answers_to(words, names):
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    done = subprocess.run(
        ["make", "-n", "app", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    started = done.stdout[done.stdout.rindex("exec ") :]
    assert re.findall(r"--server\.allowedHosts '([^']*)'", started) == names


def test_every_file_has_a_name_that_says_what_is_inside():
    folders = ("core", "pages", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).glob("**/*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if path.stem in EMPTY_NAMES] == []


def csv_writers(root: Path) -> list[str]:
    """Every place that writes CSV by itself, or in a way that a spreadsheet could compute."""
    found = []
    for path in sources(root):
        where = path.relative_to(root)
        if where == Path("core/ground/tables.py"):
            continue
        for node in ast.walk(tree_of(path)):
            names = {"to_csv", "writer", "DictWriter", "savetxt"}
            if isinstance(node, ast.Attribute) and node.attr in names:
                found.append(f"{where}:{node.lineno} calls {node.attr}; tables.write() is for CSV.")
            if isinstance(node, ast.ImportFrom) and node.module == "csv":
                taken = names & {alias.name for alias in node.names}
                found += [f"{where}:{node.lineno} imports {name} of csv." for name in taken]
    return found


def test_csv_is_written_in_one_place():
    assert csv_writers(ROOT) == []


def test_a_second_way_to_write_csv_is_found(tmp_path):
    (tmp_path / "pages").mkdir()
    text = (
        "import csv\nfrom csv import DictWriter\nframe.to_csv()\ncsv.writer(out)\ncsv.reader(out)"
    )
    (tmp_path / "pages/data.py").write_text(text)
    assert csv_writers(tmp_path) == [
        "pages/data.py:2 imports DictWriter of csv.",
        "pages/data.py:3 calls to_csv; tables.write() is for CSV.",
        "pages/data.py:4 calls writer; tables.write() is for CSV.",
    ]

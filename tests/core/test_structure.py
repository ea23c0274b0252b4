"""What the code may import, and what its files may be called."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from core import catalog
from core.catalog import EXTRAS, UserError, optional

ROOT = Path(__file__).resolve().parents[2]

# Bottom to top. A file may import what stands on its own line or on a line above it in this list.
# A folder counts as one name: core/models/gan.py is `models`.
LAYERS = [
    ["core"],  # core/__init__.py
    ["catalog"],
    [
        "settings",
        "slices",
        "watch",
        "files",
        "scratch",
        "tensors",
        "sheets",
        "tables",
        "machine",
        "untrusted",
        "stats",
        "writing",
        "paper",
        "metrics",
    ],
    ["faces", "nets"],
    ["datasets"],
    ["models", "classifier"],
    ["runs", "jobs"],
    ["training"],
    ["features"],
    ["evaluation"],
    ["threat"],
    ["augment", "latent", "attacks", "quality"],
    ["robustness", "build"],
    ["deception", "experiment"],
    ["work"],
    ["worker", "commands", "gallery"],
    ["__main__"],
    ["pages/ui"],
    ["pages"],
    ["app"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

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
    "core.settings",
    "core.datasets",
    "core.jobs",
    "core.runs",
    "core.work",
    "core.evaluation",
]


def sources(root: Path) -> list[Path]:
    """The files of the app, without its tests."""
    return sorted([*root.glob("app.py"), *root.glob("core/**/*.py"), *root.glob("pages/**/*.py")])


def module_of(path: Path) -> list[str]:
    """The dotted name of a file, as parts: core/models/__init__.py is core, models."""
    parts = list(path.with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def layer_of(module: list[str]) -> str:
    """The name under which a module stands in LAYERS."""
    if module[0] == "pages":
        return "pages/ui" if module[1:2] == ["ui"] else "pages"
    return module[1] if module[0] == "core" and len(module) > 1 else module[0]


def imports(path: Path, root: Path) -> Iterator[tuple[int, list[str]]]:
    """Every module that a file imports, also inside functions, with its line."""

    def exists(module: list[str]) -> bool:
        place = root.joinpath(*module)
        return place.is_dir() or place.with_suffix(".py").is_file()

    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            for alias in node.names:  # `from core import runs` imports core.runs
                inside = [*module, alias.name]
                yield node.lineno, inside if exists(inside) else module


def faults(root: Path) -> list[str]:
    """Every import that does not point down, as a sentence."""
    found = []
    for path in sources(root):
        where, module = path.relative_to(root), module_of(path.relative_to(root))
        layer = layer_of(module)
        if layer not in RANK:
            found.append(
                f"{where} stands in no layer; add '{layer}' to LAYERS in {Path(__file__).name}."
            )
            continue
        for line, target in imports(path, root):
            name = ".".join(target)
            if target[0] == "streamlit" and module[0] == "core":
                found.append(f"{where}:{line} imports streamlit; core runs without a web page.")
            if target[0] not in {"core", "pages", "app"} or target == module:
                continue
            if RANK.get(layer_of(target), len(LAYERS)) > RANK[layer]:
                found.append(f"{where}:{line} imports {name}, which stands above it.")
            elif target[:2] == ["core", "models"] and layer == "models" and len(target) > 2:
                found.append(
                    f"{where}:{line} imports {name}; families know the contract, not each other."
                )
            elif layer == layer_of(target) == "pages":
                found.append(
                    f"{where}:{line} imports {name}; what two pages share belongs in pages/ui."
                )
    return found


def test_imports_point_down():
    assert len(sources(ROOT)) > 10
    assert faults(ROOT) == []


def test_an_import_that_points_up_is_found_wherever_it_hides(tmp_path):
    for name, text in {
        "core/__init__.py": "",
        "core/catalog.py": "def late():\n    from core import settings",
        "core/settings.py": "from core.catalog import UserError\nimport core.tensors",
        "core/tensors.py": "from . import training",
        "core/training.py": "import streamlit as st\nfrom core.tensors import noise",
        "core/novelty.py": "",
        "core/models/__init__.py": "from ..tensors import noise\nfrom ..training import train",
        "core/models/gan.py": "from core.models import Loss, vae\nfrom core.classifier import judge",
        "core/models/vae.py": "from .gan import GAN\nfrom . import Loss",
        "core/classifier.py": "from core.models import Loss, vae",
        "pages/train.py": "import streamlit\nimport pages.data\nfrom pages.ui import form",
        "pages/data.py": "from core.work import submit",
        "pages/ui/form.py": "from pages import train",
        "app.py": "from pages.ui import form\nimport pages.train\nimport streamlit",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert faults(tmp_path) == [
        "core/catalog.py:2 imports core.settings, which stands above it.",
        "core/models/__init__.py:2 imports core.training, which stands above it.",
        "core/models/gan.py:1 imports core.models.vae; families know the contract, not each other.",
        "core/models/vae.py:1 imports core.models.gan; families know the contract, not each other.",
        "core/novelty.py stands in no layer; add 'novelty' to LAYERS in test_structure.py.",
        "core/tensors.py:1 imports core.training, which stands above it.",
        "core/training.py:1 imports streamlit; core runs without a web page.",
        "pages/train.py:2 imports pages.data; what two pages share belongs in pages/ui.",
        "pages/ui/form.py:1 imports pages.train, which stands above it.",
    ]


def test_the_first_page_needs_no_torch_and_core_no_streamlit():
    code = f"import sys, {', '.join(FIRST_PAGE)}\nprint(*{{'torch', 'streamlit'}} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", f"importing core loaded {done.stdout.strip()}"


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
        if where == Path("core/tables.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
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

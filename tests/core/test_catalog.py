"""Parameters, choices and the sentences of their errors."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError

import pytest
from pydantic import ValidationError, model_validator

import core
from core.catalog import (
    Config,
    Entry,
    Registry,
    UserError,
    assign,
    broken_off,
    knob,
    parse,
    plain,
    unknown,
)

ROOT = Path(__file__).resolve().parents[2]


class Sample(Config):
    """A config with one field of every kind."""

    steps: int = knob(10, "How many steps.", ge=1, le=100, unit="steps", log=True)
    eps: float = knob(0.5, "How far.", gt=0, lt=1, unit="px", title="Reach", advanced=True)
    rate: float = knob(0.0, "How fast.", ge=0)
    wide: float = knob(0.0, "Anything finite.")
    norm: Literal["linf", "l2"] = knob("linf", "Which norm.")
    size: Literal[16, 32] = knob(32, "Which size.")
    random: bool = knob(True, "Starts anywhere.")
    file: str = knob("", "Where it is.", path=True)

    @model_validator(mode="after")
    def _fits(self) -> Sample:
        if self.norm == "l2" and self.steps > 50:
            raise ValueError("norm l2 takes at most 50 steps. Lower steps.")
        return self


def refused(values: dict[str, object], where: str = "") -> str:
    with pytest.raises(UserError) as caught:
        Sample.of(values, where)
    return str(caught.value)


# --- Parameters ---------------------------------------------------------------------------------


def test_a_knob_is_read_off_its_field():
    knobs = Sample.knobs()
    assert list(knobs) == ["steps", "eps", "rate", "wide", "norm", "size", "random", "file"]
    steps, eps = knobs["steps"], knobs["eps"]
    assert (steps.type, steps.default, steps.help) == (int, 10, "How many steps.")
    assert (steps.low, steps.high, steps.open_low, steps.open_high) == (1, 100, False, False)
    assert (steps.label, steps.log, steps.advanced) == ("Steps", True, False)
    assert (eps.low, eps.high, eps.open_low, eps.open_high) == (0, 1, True, True)
    assert (eps.label, eps.advanced, eps.type) == ("Reach (px)", True, float)
    assert (knobs["norm"].type, knobs["norm"].options) == (str, ("linf", "l2"))
    assert (knobs["size"].type, knobs["size"].options) == (int, (16, 32))
    assert knobs["random"].type is bool
    assert knobs["file"].path
    assert not knobs["norm"].path


def test_what_is_allowed_is_said_in_words():
    assert {name: each.allowed for name, each in Sample.knobs().items()} == {
        "steps": "a whole number at least 1 and at most 100",
        "eps": "a number above 0 and below 1",
        "rate": "a number at least 0",
        "wide": "a number",
        "norm": "one of linf, l2",
        "size": "one of 16, 32",
        "random": "true or false",
        "file": "a text",
    }


def test_a_field_of_a_type_without_a_form_is_a_bug():
    class Odd(Config):
        values: list[int] = knob([], "A list.")

    with pytest.raises(TypeError, match="'values' must be int, float, bool, str or Literal"):
        Odd.knobs()


def test_what_is_missing_takes_its_default_and_the_rest_is_converted():
    assert Sample.of().record() == {
        "steps": 10, "eps": 0.5, "rate": 0.0, "wide": 0.0, "norm": "linf", "size": 32, "random": True, "file": "",
    }  # fmt: skip
    texts = {
        "steps": "3",
        "eps": "1e-1",
        "norm": "l2",
        "size": "16",
        "random": "false",
        "file": "a b",
    }
    config = Sample.of(texts)
    assert config == Sample(steps=3, eps=0.1, norm="l2", size=16, random=False, file="a b")
    assert Sample.of(config.record()) == config


def test_a_config_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Sample().steps = 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"steps": 0}, "steps must be a whole number at least 1 and at most 100, got 0. Leave it out to use 10."),
        ({"steps": -1}, "steps must be a whole number at least 1 and at most 100, got -1. Leave it out to use 10."),
        ({"steps": 101}, "steps must be a whole number at least 1 and at most 100, got 101. Leave it out to use 10."),
        ({"steps": 2.5}, "steps must be a whole number at least 1 and at most 100, got 2.5. Leave it out to use 10."),
        ({"steps": "two"}, "steps must be a whole number at least 1 and at most 100, got 'two'. Leave it out to use 10."),
        ({"steps": None}, "steps must be a whole number at least 1 and at most 100, got None. Leave it out to use 10."),
        ({"eps": 0}, "eps must be a number above 0 and below 1, got 0. Leave it out to use 0.5."),
        ({"eps": 1.0}, "eps must be a number above 0 and below 1, got 1.0. Leave it out to use 0.5."),
        ({"eps": float("nan")}, "eps must be a number above 0 and below 1, got nan. Leave it out to use 0.5."),
        ({"wide": float("nan")}, "wide must be a number, got nan. Leave it out to use 0."),
        ({"wide": "nan"}, "wide must be a number, got 'nan'. Leave it out to use 0."),
        ({"wide": "inf"}, "wide must be a number, got 'inf'. Leave it out to use 0."),
        ({"rate": float("inf")}, "rate must be a number at least 0, got inf. Leave it out to use 0."),
        ({"norm": "l3"}, "norm must be one of linf, l2, got 'l3'. Leave it out to use linf."),
        ({"size": "64"}, "size must be one of 16, 32, got '64'. Leave it out to use 32."),
        ({"random": "perhaps"}, "random must be true or false, got 'perhaps'. Leave it out to use true."),
        ({"file": 3}, "file must be a text, got 3. Leave it out to use ''."),
        ({"stepz": 3}, "There is no parameter of sample 'stepz'. Did you mean 'steps'?"),
        ({"norm": "l2", "steps": 60}, "norm l2 takes at most 50 steps. Lower steps."),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_told_in_three_parts(values, text):
    assert refused(values) == text


def test_the_name_in_an_error_is_the_one_that_the_person_writes():
    assert refused({"steps": 0}, "attack").startswith("attack.steps must be a whole number")
    assert refused({"q": 0}, "attack") == (
        "There is no parameter of attack 'q'. Choose from: eps, file, norm, random, rate, size, steps, wide."
    )


def test_values_are_written_as_a_person_would():
    given = [True, 2.0, 0.25, 1e-7, float("nan"), "", "a", 3]
    assert [plain(value) for value in given] == [
        "true",
        "2",
        "0.25",
        "1e-07",
        "nan",
        "''",
        "a",
        "3",
    ]


def test_an_unknown_name_gets_the_nearest_one():
    assert (
        unknown("attack", "pdg", ["pgd", "fgsm"]) == "There is no attack 'pdg'. Did you mean 'pgd'?"
    )
    assert (
        unknown("attack", "xyz", ["pgd", "fgsm"])
        == "There is no attack 'xyz'. Choose from: fgsm, pgd."
    )
    assert unknown("attack", "xyz", []) == "There is no attack 'xyz'. Choose from: none yet."


# --- From the command line ----------------------------------------------------------------------


def test_texts_are_split_at_the_first_equals_sign():
    assert parse(["family.beta=2", " name = a=b ", "empty="]) == {
        "family.beta": "2",
        "name": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("text", ["family.beta", "=3", ""])
def test_a_text_without_name_and_equals_sign_is_refused(text):
    with pytest.raises(UserError) as caught:
        parse([text])
    assert (
        str(caught.value)
        == f"--set takes name=value, got {text!r}. For example --set family.beta=2."
    )


class Other(Config):
    """Shares one name with Sample."""

    steps: int = knob(1, "Its own steps.")
    beta: float = knob(1.0, "Its own beta.")


def test_dotted_and_unique_short_names_find_their_config():
    configs = {"attack": Sample, "train": Other}
    assert assign({"beta": 2, "attack.steps": 3}, configs) == {
        "attack": {"steps": 3},
        "train": {"beta": 2},
    }
    assert assign({"train.beta": 1, "beta": 2}, configs)["train"] == {
        "beta": 2
    }  # the later one wins


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("steps", "The parameter 'steps' is ambiguous. Write one of: attack.steps, train.steps."),
        ("betta", "There is no parameter 'betta'. Did you mean 'beta'?"),
        ("train.betta", "There is no parameter 'train.betta'. Did you mean 'train.beta'?"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(name, text):
    with pytest.raises(UserError) as caught:
        assign({name: 1}, {"attack": Sample, "train": Other})
    assert str(caught.value) == text


# --- Registries ---------------------------------------------------------------------------------


def test_an_entry_is_what_the_decorator_saw():
    @dataclass(frozen=True, kw_only=True)
    class Shape(Entry):
        lane: str
        closed: bool = True

    shapes = Registry("shape", Shape)

    @shapes.add("ring", "A ring", Sample, presets={"thin": {"eps": 0.1}}, lane="short")
    def ring(config: Sample) -> str:
        """Draws a ring.

        More words.
        """
        return f"ring {config.steps}"

    entry = shapes.get("ring")
    assert (entry.name, entry.title, entry.config, entry.make) == ("ring", "A ring", Sample, ring)
    assert (entry.caption, dict(entry.presets), entry.lane, entry.closed) == (
        "Draws a ring.", {"thin": {"eps": 0.1}}, "short", True,
    )  # fmt: skip
    assert entry.make(Sample()) == "ring 10"
    assert list(shapes) == [entry]
    assert "ring" in shapes
    assert "square" not in shapes
    with pytest.raises(UserError, match=r"^There is no shape 'rung'\. Did you mean 'ring'\?$"):
        shapes.get("rung")
    for wrong in ({"lane": "short", "close": True}, {}):  # misspelt, and missing
        with pytest.raises(TypeError, match=r"close|lane"):
            shapes.add("square", "A square", Sample, **wrong)
    assert shapes.names() == ["ring"]


def test_a_callable_without_a_docstring_is_not_registered():
    shapes = Registry("shape", Entry)
    with pytest.raises(TypeError, match="needs a docstring"):
        shapes.add("dot", "A dot", Sample)(lambda config: None)
    assert shapes.names() == []


def test_a_scanned_package_is_listed_without_importing_its_modules(tmp_path, monkeypatch):
    package = tmp_path / "zoo_of_shapes"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from core.catalog import Entry, Registry\nzoo = Registry('animal', Entry, __name__)\n"
    )
    (package / "_hidden.py").write_text("raise RuntimeError('never')")
    (package / "broken.py").write_text("raise RuntimeError('imported')")
    (package / "ape.py").write_text(
        "from core.catalog import Config\nfrom zoo_of_shapes import zoo\n"
        "@zoo.add('ape', 'An ape', Config)\ndef make(config):\n    '''Climbs.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    zoo = importlib.import_module("zoo_of_shapes").zoo
    assert zoo.names() == ["ape", "broken"]
    assert "broken" in zoo
    assert "zoo_of_shapes.ape" not in sys.modules
    assert zoo.get("ape").caption == "Climbs."
    with pytest.raises(UserError, match=r"^There is no animal 'app'\. Did you mean 'ape'\?$"):
        zoo.get("app")
    with pytest.raises(RuntimeError, match="imported"):
        zoo.get("broken")


def test_listing_every_choice_of_the_core_imports_no_torch():
    code = (
        "import sys\nfrom core import datasets, jobs\nfrom core.models import families\n"
        "print(datasets.names(), families.names(), jobs.kinds.names(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip().endswith("False"), done.stdout


def registries() -> Iterator[tuple[str, Registry]]:
    """Every registry of the core, found wherever it is."""
    found = {}
    for info in pkgutil.walk_packages(core.__path__, "core."):
        if info.name != "core.__main__":
            for value in vars(importlib.import_module(info.name)).values():
                if isinstance(value, Registry):
                    found[value.kind] = value
    yield from sorted(found.items())


def entries() -> list[tuple[str, Entry]]:
    return [(kind, entry) for kind, registry in registries() for entry in registry]


def configs() -> list[tuple[str, type[Config]]]:
    found = []
    for kind, entry in entries():
        found.append((f"{kind} {entry.name}", entry.config))
        found += [
            (f"{kind} {entry.name} {name}", value)
            for name, value in vars(entry).items()
            if name != "config"
            if isinstance(value, type) and issubclass(value, Config)
        ]
    from core.classifier import ClassifierConfig
    from core.training import TrainConfig

    return [*found, ("train", TrainConfig), ("classifier", ClassifierConfig)]


def test_families_datasets_and_job_kinds_are_registered():
    kinds = dict(registries())
    assert {"family", "dataset", "job kind"} <= kinds.keys()
    assert {"gan", "vae"} <= set(kinds["family"].names())
    assert {"digits", "faces", "mnist", "fashion_mnist", "kmnist", "cifar10", "folder"} <= set(
        kinds["dataset"].names()
    )
    assert {"train", "classifier"} <= set(kinds["job kind"].names())


@pytest.mark.parametrize(
    ("kind", "entry"), entries(), ids=lambda value: getattr(value, "name", value)
)
def test_every_choice_has_a_title_and_a_sentence(kind, entry):
    assert entry.title
    assert entry.title[0].isupper() or not entry.title[0].isalpha()
    assert entry.caption.endswith("."), f"the caption of {kind} {entry.name} is no sentence"
    assert 10 < len(entry.caption) <= 120


@pytest.mark.parametrize(
    ("name", "config"), configs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_parameter_says_what_it_does_and_refuses_what_it_cannot_use(name, config):
    defaults = config()
    assert config.of(defaults.record()) == defaults
    assert (
        config.of(
            {key: plain(value) if value != "" else "" for key, value in defaults.record().items()}
        )
        == defaults
    )
    for each in config.knobs().values():
        assert each.help.endswith("."), f"{name} {each.name} has no sentence of help"
        assert len(each.help) > 10
        assert type(each.default) is each.type or each.options
        bad: list[object] = []
        if each.options:
            assert each.default in each.options
            bad = ["no such choice"]
            for option in each.options:  # a form gives the value, a command line its text
                assert getattr(config.of({each.name: str(option)}), each.name) == option
        elif each.type in (int, float):
            bad = ["some", float("nan"), float("inf"), None]
            bad += [] if each.low is None else [each.low - 1]
            bad += [] if each.high is None else [each.high + 1]
            bad += [each.low] if each.open_low else []
        elif each.type is bool:
            bad = ["perhaps", 3]
        for value in bad:
            with pytest.raises(
                UserError,
                match=rf"^part\.{each.name} must be .*, got .*\. Leave it out to use .*\.$",
            ):
                config.of({each.name: value}, "part")


@pytest.mark.parametrize(
    ("kind", "entry"), entries(), ids=lambda value: getattr(value, "name", value)
)
def test_every_preset_is_allowed(kind, entry):
    from core.kinds import configure

    if kind != "family":
        assert not entry.presets
    for values in entry.presets.values():
        assert values
        config = configure("train", {"dataset": "digits", "family": entry.name}, values)
        for name, value in values.items():
            part, _, short = name.partition(".")
            plain_values = config[part].get("config", config[part])
            assert plain_values[short] == value


def test_a_name_that_is_no_text_is_a_sentence():
    assert unknown("attack", 5, ["pgd", "fgsm"]) == "There is no attack 5. Choose from: fgsm, pgd."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (URLError(OSError(-3, "Temporary failure in name resolution")), "the server's name was not found, as without a network"),
        (URLError(ConnectionRefusedError(111, "Connection refused")), "the server refused the connection"),
        (URLError(TimeoutError("timed out")), "the server did not answer in time"),
        (HTTPError("https://x.org", 404, "Not Found", {}, None), "the server answered with an error, 404"),
        (RuntimeError("Error downloading t10k:\nTried a, got:\n<urlopen error [Errno 101] Network is unreachable>"), "the network cannot be reached"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (OSError("<urlopen error strange thing>"), "strange thing"),
        (OSError("no connection"), "no connection"),
        (EOFError(), "EOFError"),
    ],
)  # fmt: skip
def test_a_download_that_fails_is_told_in_plain_words(error, words):
    assert broken_off(error) == words

"""From a config to widgets: every parameter has its control, and what is set arrives as it was set."""

from __future__ import annotations

from typing import Literal

import pytest

from core import datasets, kinds
from core.catalog import Config, knob
from core.datasets.formats import formats
from core.models import families

CHOICES = [
    ("train", {"dataset": "digits", "family": name})
    for name in (e.name for e in families if "picture" in e.takes)
]
CHOICES += [("classifier", {"dataset": "digits"})]
BROUGHT = [entry.name for entry in datasets.datasets if entry.preview is None]


def what(choice):
    return choice.get("family", "classifier")


# --- The real configs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "choice"), CHOICES, ids=[what(choice) for _, choice in CHOICES])
def test_the_train_page_draws_every_parameter_with_its_default(visit, kind, choice):
    seen = visit("train").set(train__what=what(choice))
    for part, config in kinds.parts(kind, choice).items():
        start = (
            f"data.{choice['dataset']}" if part == "dataset" else f"train.{choice.get(part, part)}"
        )
        for name, parameter in config.knobs().items():
            if name == "gpus":  # asked for only where there are several
                assert f"{start}.gpus" not in seen.keys()
                continue
            if name in ("critic", "made_images"):  # only with a critic, only with a run
                continue
            if part == "further":  # only where a run goes on
                continue
            widget = seen.widget(f"{start}.{name}")
            assert widget.value == parameter.default, (part, name)
            if name in ("pipeline", "made_by"):  # chosen among those that there are
                continue
            assert widget.label == parameter.label
            assert widget.help.startswith(parameter.help)


@pytest.mark.parametrize("name", BROUGHT)
def test_every_dataset_has_its_parameters_on_the_train_page(visit, name):
    seen = visit("train", data=name)
    for parameter in datasets.config_of(name).knobs().values():
        assert seen.widget(f"data.{name}.{parameter.name}").value == parameter.default
    assert not any(key.endswith(".path") for key in seen.keys())


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_the_latent_page_draws_the_sampling_parameters(visit, trained, name):
    seen = visit("latent", run=trained.runs[name])
    for parameter in families.get(name).sampling.knobs().values():
        assert seen.widget(f"latent.{name}.{parameter.name}").value == parameter.default


def test_a_path_on_the_server_is_never_offered(visit):
    seen = visit("data", **{"data.view": "bring"})
    # what an upload leaves open is asked when it is there, and what its format does
    later = {"reading", "training", "range", "group"}
    later |= {name for each in formats for name in each.config.knobs()}
    for parameter in datasets.config_of("folder").knobs().values():
        offered = not parameter.path and parameter.name not in later
        assert bool(seen.all(f"data.folder.{parameter.name}")) == offered
    assert not seen.all("data.folder.path")


def test_advanced_ones_are_folded_away(visit):
    seen = visit("train")
    folded = [box for box in seen.at.expander if box.label == "Advanced"]
    inside = {node.key for box in folded for node in box if hasattr(node, "key")}
    for name, parameter in families.get("gan").config.knobs().items():
        assert (f"train.gan.{name}" in inside) == parameter.advanced


# --- Any config ---------------------------------------------------------------------------------


class Everything(Config):
    """One parameter of each sort."""

    on: bool = knob(True, "A switch.")
    few: Literal["a", "b"] = knob("b", "Few short words.")
    many: Literal["apple", "banana", "cherry"] = knob("banana", "Longer words.")
    sizes: Literal[16, 32] = knob(32, "Numbers to choose from.", unit="px")
    share: float = knob(0.25, "Between two bounds.", ge=0, le=1)
    count: int = knob(3, "Between two bounds.", ge=1, le=9)
    rate: float = knob(0.001, "Logarithmic.", ge=0, le=1, log=True)
    above: float = knob(0.5, "Above zero.", gt=0)
    whole: int = knob(7, "At least nothing.", ge=0)
    words: str = knob("hello", "A text.")
    secret: str = knob("", "A path.", path=True)
    deep: int = knob(0, "Folded away.", ge=0, advanced=True)


def page():
    import json

    import streamlit as st

    from pages.parts import form
    from tests.pages.test_form import Everything

    st.code(json.dumps(form.form({"test.one": Everything})["test.one"]), language="json")
    st.button(
        "Nothing",
        key="zero",
        on_click=form.fill,
        args=(
            "test.one",
            {"on": False, "share": 0.0, "whole": 0, "rate": 0.0, "words": "", "few": "a"},
        ),
    )


@pytest.fixture
def drawn():
    import json

    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(page, default_timeout=120).run()
    assert not at.exception, at.exception
    return at, lambda: json.loads(at.code[0].value)


def test_values_are_the_defaults_and_keep_their_types(drawn):
    _, values = drawn
    want = {
        name: parameter.default
        for name, parameter in Everything.knobs().items()
        if not parameter.path
    }
    assert values() == want
    assert {name: type(value) for name, value in values().items()} == {
        name: type(value) for name, value in want.items()
    }


def test_whole_numbers_stay_whole_when_the_page_runs_again(drawn):
    at, values = drawn
    first = {field.key: field.proto.format for field in at.number_input}
    at.button(key="zero").click().run()
    assert {field.key: field.proto.format for field in at.number_input} == first
    assert type(values()["whole"]) is int


def test_zero_and_off_survive(drawn):
    at, values = drawn
    at.toggle(key="test.one.on").set_value(False)
    at.slider(key="test.one.share").set_value(0.0)
    at.number_input(key="test.one.whole").set_value(0)
    at.number_input(key="test.one.rate").set_value(0.0)
    at.text_input(key="test.one.words").set_value("")
    for _ in range(2):
        at.run()
        got = values()
        assert (got["on"], got["share"], got["whole"], got["rate"], got["words"]) == (
            False,
            0.0,
            0,
            0.0,
            "",
        )
        Everything.of(got)


def test_fill_sets_also_zero_and_off(drawn):
    at, values = drawn
    at.button(key="zero").click().run()
    assert not at.exception
    got = values()
    assert (got["on"], got["share"], got["whole"], got["rate"], got["words"], got["few"]) == (
        False,
        0.0,
        0,
        0.0,
        "",
        "a",
    )
    assert got["many"] == "banana"


def test_bounds_of_the_widgets(drawn):
    at, _ = drawn
    share, count, above = (
        at.slider(key="test.one.share"),
        at.slider(key="test.one.count"),
        at.number_input(key="test.one.above"),
    )
    assert (share.min, share.max, count.min, count.max) == (0, 1, 1, 9)
    assert above.min is None  # whatever is typed comes through, and core has a sentence for it
    assert above.help.endswith("A number above 0.")
    assert at.slider(key="test.one.count").label == "Count"
    assert set(at.button_group(key="test.one.sizes").options) == {"16", "32"}

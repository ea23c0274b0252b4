"""Text that a visitor brings: bounded before a parser sees it, and the same for every place that reads one."""

from __future__ import annotations

import json

import pytest
import yaml

from core import augment
from core.augment import recipes
from core.catalog import UserError
from core.ground import untrusted
from core.ground.untrusted import Limits, NoData, read_data, read_json

FEW = Limits(characters=60, depth=5, values=10, digits=6, yaml=40)


@pytest.fixture
def unparsed(monkeypatch):
    """Makes every parser fail the test."""

    def called(*args, **kwargs):
        raise AssertionError("a parser was called")

    for module, name in ((json, "loads"), (yaml, "parse"), (yaml, "load"), (yaml, "scan")):
        monkeypatch.setattr(module, name, called)


WITHIN = {
    "characters": '"' + "a" * 58 + '"',
    "levels": "[[[[[1]]]]]",
    "values": json.dumps(list(range(10))),
    "number": "[123456]",
}
BEYOND = {
    "characters": ('"' + "a" * 59 + '"', "A text has at most 60 characters, got 61"),
    "levels": ("[[[[[[1]]]]]]", "A text has at most 5 levels of lists and objects, got 6"),
    "values": (json.dumps(list(range(11))), "A text has at most 10 values, got 11"),
    "number": ("[1234567]", "A text has at most 6 characters in one number, got 7"),
}


@pytest.mark.parametrize("kind", WITHIN)
def test_json_at_a_limit_is_read(kind):
    assert read_json(WITHIN[kind], "A text", FEW) == json.loads(WITHIN[kind])


@pytest.mark.parametrize("kind", BEYOND)
def test_json_beyond_a_limit_is_refused_before_it_is_parsed(kind, unparsed):
    text, words = BEYOND[kind]
    with pytest.raises(UserError, match=words):
        read_json(text, "A text", FEW)
    with pytest.raises(UserError, match=words):
        read_data(text, "A text", FEW)


def test_brackets_and_digits_inside_texts_count_for_nothing():
    text = json.dumps(["[[[[[[[[", 'a"]}', "12345678901234567890", "\\"])
    assert read_json(text, "A text", FEW) == json.loads(text)


def test_a_text_without_an_end_is_passed_once():
    assert untrusted._TEXT.sub("", '["a", "' + '\\"' * 3) == "[, "
    with pytest.raises(NoData):
        read_json('"' + '\\"' * 3, "A text", FEW)


def test_json_comes_first_and_yaml_is_shorter(unparsed):
    with pytest.raises(UserError, match="A text in YAML has at most 40 characters, got 41"):
        read_data("a: " + "b" * 38, "A text", FEW)
    many = Limits(values=20)
    with pytest.raises(UserError, match="A text in YAML has at most 2 brackets that open, got 3"):
        read_data("a: [[[", "A text", many)


def test_yaml_within_the_limits_is_what_json_would_be():
    wide = Limits(depth=3, values=40)
    text = "a:\n- b: 1\n- c: true\nd: '3 gentle turns, and as many more as there is room for'\n"
    assert read_data(text, "A text", wide) == yaml.safe_load(text)
    assert read_data("{a: [1]}", "A text", wide) == {"a": [1]}
    with pytest.raises(UserError, match="A text has at most 3 levels of lists and objects, got 4"):
        read_data("a:\n- - - 1\n", "A text", wide)


@pytest.mark.parametrize("text", ["a: &x 1\nb: 2", "a: &x 1\nb: *x"])
def test_yaml_with_anchors_or_aliases_is_refused_before_anything_is_built(text, monkeypatch):
    monkeypatch.setattr(yaml, "load", lambda *args, **kwargs: pytest.fail("it was built"))
    with pytest.raises(UserError, match="A text must not hold YAML anchors and aliases"):
        read_data(text, "A text")


@pytest.mark.parametrize(
    "text",
    ["{", "[1, 2", "nan", "[NaN]", "[1e999]", '["\\ud800"]', "1: 2", "a: .inf", "a: 2020-01-01",
     "!!python/name:os.system", "a: !!set {b}", "? [a]\n: b", "\0"],
)  # fmt: skip
def test_what_no_json_could_hold_is_no_data(text):
    if text not in ("nan", "[NaN]", "[1e999]"):  # words, to YAML
        with pytest.raises(NoData):
            read_data(text, "A text")
    with pytest.raises(NoData):
        read_json(text, "A text")


def test_text_that_began_as_json_is_told_its_line_as_json():
    with pytest.raises(NoData, match=r"^ in line 2$"):
        read_data("[1,\n2", "A text")


def test_a_refused_recipe_is_not_parsed_again(monkeypatch):
    monkeypatch.setattr(recipes, "_refused", {})
    text = "[1, 2"
    with pytest.raises(UserError, match="neither JSON nor YAML") as first:
        augment.read(text)
    monkeypatch.setattr(untrusted, "read_data", lambda *a: pytest.fail("it was parsed again"))
    with pytest.raises(UserError) as again:
        augment.read(text)
    assert str(again.value) == str(first.value)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "w"},
        {"name": "rotate", "w": 1},
        {"name": "rotate", "parameters": {"w": 1}},
        {"name": "rotate", "parameters": {"degrees": "w"}},
    ],
)
def test_what_a_recipe_repeats_of_a_long_text_is_short(step):
    text = json.dumps([step]).replace('"w"', json.dumps("w" * 9_000))
    with pytest.raises(UserError, match="w" * 70) as error:
        augment.Pipeline.of(json.loads(text))
    assert len(str(error.value)) < 1_000


def test_only_so_many_refusals_are_remembered(monkeypatch):
    monkeypatch.setattr(recipes, "_refused", {})
    monkeypatch.setattr(recipes, "REMEMBERED", 3)
    for number in range(5):
        with pytest.raises(UserError):
            augment.read(f"[{number}")
    assert len(recipes._refused) == 3


def test_the_longest_chain_that_can_be_built_comes_back_from_every_text():
    step = augment.Step.of("crop", {"share": 0.123456789, "stretch": 1.987654321}, 0.333)
    chain = augment.Pipeline((step,) * augment.MAX_STEPS, "long")
    for dialect in ("json", "yaml"):
        assert augment.read(augment.export(chain, dialect)).hash == chain.hash


def test_a_chain_in_the_address_has_the_same_bounds(monkeypatch):
    with pytest.raises(
        UserError,
        match="The chain in the address has at most 12 levels of lists and objects, got 13",
    ):
        augment.unfolded("[" * 13)
    long = '["' + "a" * (recipes.ADDRESS.characters - 4) + '"]'
    with pytest.raises(UserError, match="no list of steps"):
        augment.unfolded(long)
    monkeypatch.setattr(json, "loads", lambda *args, **kwargs: pytest.fail("it was parsed"))
    with pytest.raises(
        UserError, match="The chain in the address has at most 8,000 characters, got 8,001"
    ):
        augment.unfolded(" " + long)


@pytest.mark.parametrize(
    "words",
    ["[" * 400, "{", "[[]]", "[[1,2,3,4]]", '[["rotate",{"degrees":"x"},1,1]]', '[["rotate",{"degrees":1e999},1,1]]',
     '[["rotate",{},null,[]],["\\ud800",{},1,1]]', "\x00", "9" * 5000, '[["rotate",{"a":{"b":{"c":[]}}},1,1]]',
     '[["variations",{"run":5},1,1]]', '["rota"]', "null", "x" * 9000, '[["rotate",3,1,1]]'],
)  # fmt: skip
def test_a_damaged_chain_in_the_address_is_refused_in_words(words):
    with pytest.raises(UserError, match=r"\. [A-Z]|\?$|\.$"):
        augment.unfolded(words)

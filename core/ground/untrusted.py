"""Text that a visitor brings, read as data: its length, depth and numbers are checked before a parser reads it.

One function for JSON and one for JSON or YAML; recipes, chains in an address and the views inside pictures go through
them. What comes out is made of dicts with text as keys, lists, texts, finite numbers, booleans and None.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.catalog import UserError


@dataclass(frozen=True)
class Limits:
    """How much a text may hold.

    Attributes:
        characters: Of the whole text.
        depth: Lists and objects inside each other.
        values: Entries of all lists and objects together.
        digits: Characters of one number.
        yaml: Characters of a text that is no JSON; its parser takes a hundred times as long.
        advice: What to do about one that holds more, a sentence.
    """

    characters: int = 100_000
    depth: int = 12
    values: int = 5_000
    digits: int = 40
    yaml: int = 20_000
    advice: str = "Choose one that this program wrote."


LIMITS = Limits()
# possessive (*+), so that no text makes the search step back; a text without an end is passed once, too
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[{\]}]")
_WORD = re.compile(r"[^\s,:\[\]{}\"]++")
_SIGNS = "+-.0123456789"


class NoData(ValueError):
    """Says that a text is neither JSON nor YAML, with the line where that shows."""


def read_json(text: str, what: str, limits: Limits = LIMITS) -> Any:
    """Reads JSON.

    Args:
        text: What somebody brought.
        what: What it is, as the first words of a sentence: ``A recipe``.
        limits: How much it may hold.

    Raises:
        UserError: If it is longer, deeper or has more numbers than allowed.
        NoData: If it is no JSON.
    """
    allow = partial(_allow, limits, what)
    allow("characters", len(text), limits.characters)
    bare = _TEXT.sub('"', text)
    depth = deepest = 0
    for bracket in _BRACKET.finditer(bare):
        depth += 1 if bracket[0] in "[{" else -1
        deepest = max(deepest, depth)
    allow("levels of lists and objects", deepest, limits.depth)
    allow("values", bare.count(",") + bare.count("[") + bare.count("{"), limits.values)
    tokens = (match[0] for match in _WORD.finditer(bare))
    longest = max((len(token) for token in tokens if token[0] in _SIGNS), default=0)
    allow("characters in one number", longest, limits.digits)
    try:
        return _plain(json.loads(text))
    except json.JSONDecodeError as error:
        raise NoData(f" in line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise NoData("") from None


def read_data(text: str, what: str, limits: Limits = LIMITS) -> Any:
    """Reads JSON, or else YAML without anchors, aliases and types of its own.

    Raises:
        UserError: If it is longer, deeper or has more numbers than allowed, or YAML cannot be read here.
        NoData: If it is neither.
    """
    _allow(limits, what, "characters", len(text), limits.characters)
    no_json: NoData | None = None
    if text.lstrip()[:1] in ("{", "["):
        try:
            return read_json(text, what, limits)
        except NoData as error:
            if len(text) > limits.yaml:
                raise
            no_json = error
    _allow(limits, f"{what} in YAML", "characters", len(text), limits.yaml)
    opened = text.count("[") + text.count("{")
    _allow(limits, f"{what} in YAML", "brackets that open", opened, limits.values // 10)
    try:
        return _yaml(text, what, limits)
    except NoData as error:
        raise (no_json or error) from None


def _yaml(text: str, what: str, limits: Limits) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError(
            f"{what} in YAML needs PyYAML, which is not installed. Install it with: pip install pyyaml; or bring JSON."
        ) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = values = 0
        for event in yaml.parse(text, Loader=loader):  # one after the other, nothing is built yet
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise UserError(  # an alias could unfold to any size
                    f"{what} must not hold YAML anchors and aliases (&name, *name), got one. Write it out."
                )
            begins = isinstance(event, yaml.CollectionStartEvent)
            depth += begins - isinstance(event, yaml.CollectionEndEvent)
            _allow(limits, what, "levels of lists and objects", depth, limits.depth)
            if begins or isinstance(event, yaml.ScalarEvent):
                values += 1
                _allow(limits, what, "values", values, 2 * limits.values)  # a key is one, too
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value:
                long = len(event.value) if event.value[0] in _SIGNS else 0
                _allow(limits, what, "characters in one number", long, limits.digits)
        return _plain(yaml.load(text, Loader=loader))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        mark = getattr(error, "problem_mark", None)
        raise NoData(f" in line {mark.line + 1}" if mark else "") from None


def _plain(value: Any) -> Any:
    """Lets through what JSON could have held."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is no text")
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    if isinstance(value, str):
        value.encode()  # half a surrogate pair is no text that a browser could be sent
        return value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError("a value is of another type")


def _allow(limits: Limits, what: str, of: str, count: int, most: int) -> None:
    if count > most:
        raise UserError(f"{what} has at most {most:,} {of}, got {count:,}. {limits.advice}")

"""What a check is, and what it finds: an issue of one image, with its evidence."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from core.catalog import Config, Entry, P, Registry, knob

PACKAGE = "core.quality.issues"  # every file in it registers one check or several that go together


@dataclass(frozen=True, kw_only=True)
class IssueKind(Entry):
    """A kind of issue; ``make(survey) -> Iterator[Issue]``.

    Attributes:
        order: When it is looked for; a check sees what earlier ones have flagged.
        remedy: What usually helps.
        single: A person decides one issue at a time, and nothing is offered for all of them.
        compared: What is compared, a sentence; empty where there is nothing to say.
        blind: What therefore cannot be seen.
    """

    order: int
    remedy: Literal["exclude", "relabel", "look"]
    single: bool = False
    compared: str = ""
    blind: str = ""


K = TypeVar("K", bound=IssueKind)


class _IssueKinds(Registry[P, K]):
    """The kinds of issue, in the order in which they are looked for."""

    def names(self) -> list[str]:
        for file in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
            importlib.import_module(f"{PACKAGE}.{file.name}")
        return sorted(self._entries, key=lambda name: self._entries[name].order)

    def get(self, name: str) -> K:
        self.names()
        return super().get(name)


checks = _IssueKinds("check", IssueKind)


class InspectConfig(Config):
    """What is looked for, and how strictly."""

    strictness: float = knob(
        1.0,
        "Below 1 fewer images are flagged as unusual, above 1 more.",
        ge=0.5,
        le=2.0,
        title="Strictness",
    )
    labels: bool = knob(True, "Looks for labels that are probably wrong.", title="Label errors")
    near: bool = knob(
        True, "Looks for copies that are shifted or slightly changed.", title="Near duplicates"
    )
    map: int = knob(
        1500, "Images on the map, the flagged ones among them.", ge=100, le=4000, advanced=True
    )


@dataclass(frozen=True)
class Issue:
    """Something about one image.

    Attributes:
        kind: A name of :data:`checks`; filled in by the inspection, as ``split`` is.
        image: Index of the image.
        score: Rank within the kind, higher is worse.
        sentence: The evidence in words.
        others: Images to show beside it.
        label: Label that fits better, if any.
        split: Split of the image.
        sure: Whether it may be decided together with others; of the rest a person looks at each.
    """

    kind: str = field(default="", kw_only=True)
    image: int
    score: float
    sentence: str
    others: tuple[int, ...] = ()
    label: int | None = None
    split: str = ""
    sure: bool = True

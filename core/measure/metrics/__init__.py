"""The metrics of an evaluation, and the tests of copying that are read off them; each file beside this one adds some.

A metric says what it means, when not to trust it, and what it needs; charts, tables and reports show it by that alone.
It is called with the evaluator and one set of images: the generated ones for the value, real images that the model
never saw for the floor. What is heavy is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.catalog import Config, Entry, Registry, UserError
from core.ground.stats import Estimate
from core.ground.writing import percent
from core.media import EVERY, Form, Taker

GROUPS = {
    "quality": "Quality",
    "variety": "Realism and variety",
    "classes": "Classes",
    "likelihood": "Likelihood",
    "copying": "Copying",
}


@dataclass(frozen=True, kw_only=True)
class Metric(Taker):
    """A metric; ``make(evaluator, sample) -> Estimate | Score``. It takes what a model sees.

    Attributes:
        group: Of :data:`GROUPS`.
        direction: Which is better; empty if neither.
        means: What it measures, a sentence.
        doubt: When not to trust it, a sentence.
        needs: What must be there: features, judge, conditional, scores; renders for what is measured only of a model
            that turns a second picture into an image.
        fewest: Samples.
        standard: Measured unless a choice is made.
        scale: How its value is written: share, number or bits.
        floor: Which real images take the place of the samples for its floor: ``twin`` (as many as samples),
            ``unseen``, ``train``, or none.
        own: It is the model's own loss, not comparable between families.
        praise: What follows "47 % " in the sentence on what the model does best; empty to leave the metric out of it.
        each: Gives its value image by image, (N,), and the class of each image, (N,): their mean per class is shown
            class by class, where there is a judge. None for a metric that knows no single images.
    """

    group: str
    direction: Literal["lower", "higher", ""]
    means: str
    doubt: str
    needs: tuple[str, ...] = ("features",)
    takes: tuple[Form, ...] = EVERY
    fewest: int = 50
    standard: bool = True
    scale: Literal["share", "number", "bits"] = "number"
    floor: Literal["twin", "unseen", "train", ""] = ""
    own: bool = False
    praise: str = ""
    each: Callable[[Any], tuple[Any, Any]] | None = None

    @property
    def short(self) -> str:
        """The title without what stands in brackets, for a narrow column."""
        return self.title.partition(" (")[0]


metrics = Registry("metric", Metric)


@dataclass(frozen=True)
class Score:
    """The value of a metric, with a note or more numbers by name."""

    estimate: Estimate
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One metric of one evaluation.

    Attributes:
        metric: Name in :data:`metrics`.
        title: With the extractor, because values of different ones are different things.
        value: None if it was not possible; ``note`` then says why, and what it needs.
        low, high: The interval of 95 %.
        floor: The same metric of real images in the place of the samples, of the same number.
        n: Samples in the value.
        extractor, hash: What saw the images; empty if nothing did.
        seconds: Time it took.
        note: A warning, or the reason for having no value.
        details: More numbers by name.
    """

    metric: str
    title: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    n: int
    extractor: str
    hash: str
    seconds: float
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> Metric:
        """Its entry in :data:`metrics`."""
        return metrics.get(self.metric)

    @property
    def known(self) -> bool:
        """Whether it has a value."""
        return self.value is not None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The two ends of its interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def half(self) -> float:
        """Half the width of the interval, 0 without one."""
        return (self.interval[1] - self.interval[0]) / 2 if self.interval else 0.0

    def written(self, number: float | None, digits: int = 4) -> str:
        """Writes a number of its scale: a share in percent, all else in so many digits; a dash for None."""
        if number is None or self.entry.scale == "share":
            return percent(number)
        return f"{number:.{digits}g}"

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CopyTest(Entry):
    """A test of copying that is read off the metric of its name; ``make(measurement) -> (flagged, sentence)``.

    ``flagged`` says whether it speaks for copying, None if it cannot say.

    Attributes:
        strong: Smooth samples alone do not set it off: without such a test nothing is called a copy.
        disguise_of: The test that it repeats for copies in disguise; the two together count as one.
        looks_for: What disguises it sees through, in words.
    """

    strong: bool = False
    disguise_of: str = ""
    looks_for: str = ""


copy_tests = Registry("test of copying", CopyTest)


def chosen(text: str) -> list[str]:
    """Reads the metrics that were asked for: ``standard``, ``all``, or names with commas.

    Raises:
        UserError: If a name does not exist, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names in (["standard"], ["all"]):
        return [entry.name for entry in metrics if names == ["all"] or entry.standard]
    if not names:
        raise UserError(
            "evaluate.metrics must name at least one metric, got none. Write standard, all, or "
            f"names with commas: {', '.join(metrics.names())}."
        )
    return [metrics.get(name).name for name in dict.fromkeys(names)]


def by_class(rows: Iterable[Mapping[str, Any]]) -> list[Metric]:
    """Lists the metrics that have a value in a table of classes."""
    rows = list(rows)
    return [m for m in metrics if m.each and any(row.get(m.name) is not None for row in rows)]


def scan() -> None:
    """Imports the files of this folder: first those of the groups, in their order, which is that of the metrics."""
    modules = {module.name for module in pkgutil.iter_modules(__path__)}
    for name in [
        *(group for group in GROUPS if group in modules),
        *sorted(modules - GROUPS.keys()),
    ]:
        importlib.import_module(f"{__name__}.{name}")


scan()

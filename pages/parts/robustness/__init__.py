"""What the Robustness page is made of: the question that a visitor asks, its answer, and one file per tool.

A screening runs here, in slices and in turns, and is shared between visitors who ask the same; what is longer is a job.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import datasets
from core.catalog import UserError
from core.datasets import Dataset
from core.ground import slices
from core.ground.cache import Cache
from core.ground.watch import Watch

if TYPE_CHECKING:
    from core.robustness import AttackStudy, Cost, Report, StudyConfig
    from core.target import Target

KEPT = 12  # screenings that the server remembers
TURNS = threading.BoundedSemaphore(1)  # one slice at a time, so that no visitor starves another
COLOURS = {  # of a verdict: how a callout shows it, its sign, and its word
    "green": ("success", ":material/verified:", "Believable"),
    "amber": ("warning", ":material/help:", "With care"),
    "red": ("error", ":material/dangerous:", "Not believable"),
}
ROBUST = {"green": "success", "amber": "warning", "red": "error"}  # how robust it is, as a callout


@dataclass(frozen=True)
class Question:
    """A classifier, the dataset whose images attack it, and the config of the study.

    Attributes:
        dataset: Whose images are attacked.
        classifier: Which one of :func:`core.robustness.classifiers.available`.
        config: The study, checked.
    """

    dataset: Dataset
    classifier: str
    config: StudyConfig

    @property
    def data(self) -> str:
        """Name of the dataset."""
        return self.dataset.name

    @property
    def key(self) -> str:
        """Identity of the question."""
        text = json.dumps([self.data, self.classifier, self.config.record()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def job_values(self) -> dict[str, Any]:
        """Gives the question as the parameters of a job of the kind ``attack``."""
        values = {"classifier": self.classifier, **self.config.record()}
        return {f"attack.{name}": value for name, value in values.items()}


# how Streamlit's caches identify a question
BY_KEY: dict[str | type[Any], Callable[[Any], Any]] = {Question: lambda question: question.key}


@st.cache_data(max_entries=8, show_spinner="Preparing the data")
def _opened(name: str, _stamp: str) -> Dataset:
    return datasets.load(name, {})


def dataset(name: str) -> Dataset:
    """Opens a dataset as it is by default, once for all visitors."""
    return _opened(name, datasets.describe(name).title)


@st.cache_resource(max_entries=8, show_spinner="Opening the classifier")
def _target(classifier: str, _dataset: Dataset, fingerprint: str) -> Target:
    from core.robustness import classifiers

    return classifiers.target_of(classifier, _dataset)


def there(classifier: str, of: Dataset) -> bool:
    """Tells whether a classifier can be opened at once; a dataset's own plain one has to be trained first."""
    from core.measure import features

    return bool(classifier) or features.judged(of)


def blind(question: Question) -> bool:
    """Tells whether the classifier gives answers only, so that nothing that needs its gradients is offered."""
    from core.robustness import classifiers

    of = classifiers.available(question.data)
    return any(each.answers_only for each in of if each.id == question.classifier)


def target(question: Question) -> Target:
    """Opens the classifier, once for all visitors; each use takes a copy, which counts its own passes.

    Raises:
        UserError: If there is none yet: a page trains none in passing.
    """
    of = question.dataset
    if not there(question.classifier, of):
        raise UserError(
            f"There is no classifier of {of.name} yet. Train one, which is a job of its own, or bring yours."
        )
    return _target(question.classifier, of, of.fingerprint).with_()


@st.cache_data(
    max_entries=64, ttl="10m", show_spinner="Measuring how fast it is", hash_funcs=BY_KEY
)
def expected(question: Question) -> Cost:
    """Tells how long a screening will take, and how many images fit into a minute; measured once in a while."""
    from core import robustness

    return robustness.estimate(target(question), question.dataset, question.config)


class Screening(Watch):
    """A study that visitors' turns carry on: whoever looks at it does the next slice, and may stop it.

    Attributes:
        study, report: The study, and its report as far as it has come.
        seconds: How long it has worked, without the time between two turns.
    """

    def __init__(self, target: Target, question: Question) -> None:
        from core.robustness.measure import begin

        self.study = begin(target, question.dataset, question.config, watch=self)
        self.report: Report | None = None
        self.seconds, self._ends = 0.0, ""
        self._slices = iter(self.study)
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Ends it with what it has, at the next turn."""
        self._ends = "Stopped on request."

    def stopped(self) -> str:
        return self._ends

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.report is not None and self.report.done

    def advance(self, seconds: float) -> None:
        """Works for about so many seconds, unless another visitor's turn is at work."""
        if self._lock.acquire(blocking=False):
            try:
                until = time.monotonic() + seconds
                while not self.done and time.monotonic() < until:
                    with TURNS, slices.whole():
                        began = time.monotonic()
                        self.report = next(self._slices, self.report)
                        self.seconds += time.monotonic() - began
            finally:
                self._lock.release()


_screenings = Cache[Screening](KEPT)


def known(question: Question) -> Screening | None:
    """Gives the screening of this question as far as it has come; None before its first result."""
    screening = _screenings.peek(question.key)
    return screening if screening is not None and screening.report else None


def forget_stopped(question: Question) -> None:
    """Lets the screening of this question begin again if it was stopped."""
    screening = known(question)
    if screening and screening.report and screening.report.stopped:
        _screenings.drop(lambda entry: entry is screening)


def screen(question: Question, target: Target, seconds: float = 0.6) -> Screening:
    """Begins the screening of a question, or carries it on."""
    screening = _screenings.get(question.key, lambda: Screening(target, question))
    screening.advance(seconds)
    return screening

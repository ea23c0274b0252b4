"""What the Robustness page is made of: the question that a visitor asks, its answer, and one file per tool.

A screening runs here, in slices and in turns, and is shared between visitors who ask the same; everything longer is a job.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core import datasets

KEPT = 12  # screenings that the server remembers
TURNS = threading.BoundedSemaphore(1)  # one slice at a time, so that no visitor starves another
COLOURS = {  # of a verdict: how a callout shows it, its sign, and its word
    "green": ("success", ":material/verified:", "Believable"),
    "amber": ("warning", ":material/help:", "With care"),
    "red": ("error", ":material/dangerous:", "Not believable"),
}


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        data: Name of the dataset.
        classifier: Which one of :func:`core.foreign.available`.
        values: Of the study's config, as (name, value).
    """

    data: str
    classifier: str
    values: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        """Identity of the question."""
        text = json.dumps([self.data, self.classifier, self.values])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def job_values(self) -> dict[str, Any]:
        """Gives the question as the parameters of a job of the kind ``attack``."""
        return {"attack.classifier": self.classifier} | {
            f"attack.{name}": value for name, value in self.values
        }


@st.cache_data(max_entries=8, show_spinner="Preparing the data")
def _opened(name: str, _stamp: str) -> Any:
    return datasets.load(name, {})


def dataset(name: str) -> Any:
    """Opens a dataset as it is by default, once for all visitors."""
    return _opened(name, datasets.describe(name).title)


@st.cache_resource(max_entries=8, show_spinner="Opening the classifier")
def _target(classifier: str, data: str, _fingerprint: str) -> Any:
    from core import foreign

    return foreign.target_of(classifier, dataset(data))


def target(question: Question) -> Any:
    """Opens the classifier, once for all visitors; each use takes a copy, which counts its passes for itself."""
    found = dataset(question.data)
    return _target(question.classifier, question.data, found.fingerprint).with_()


_studies: OrderedDict[str, Any] = OrderedDict()
_guard = threading.Lock()


def known(question: Question) -> Any | None:
    """Gives the screening of this question as far as it has come; None before its first result."""
    with _guard:
        study = _studies.get(question.key)
        if study is not None:
            _studies.move_to_end(question.key)
        return study if study is not None and study.report else None


def screen(question: Question) -> Iterator[Mapping[str, Any]]:
    """Screens in slices, each in its turn, and yields the growing report."""
    from core import robustness

    found = dataset(question.data)
    config = robustness.StudyConfig.of(dict(question.values), "study")
    study = robustness.Study.of(target(question), found, config)
    with _guard:
        _studies[question.key] = study
        while len(_studies) > KEPT:
            _studies.popitem(last=False)
    slices = iter(study)
    while True:
        with TURNS:
            report = next(slices, None)
        if report is None:
            return
        yield report


def percent(share: float) -> str:
    """Writes a share as people read it: 41.3 %."""
    return f"{100 * share:.1f} %"


def interval(low: float, high: float) -> str:
    """Writes an interval of shares."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"

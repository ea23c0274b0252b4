"""What was measured as jobs, which go on when a visitor leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import jobs, kinds, runs
from core.ground.writing import duration
from pages.parts import shell
from pages.parts.robustness import BY_KEY, TURNS, Question, expected, target, there

if TYPE_CHECKING:
    from core.robustness import Report


def listing(question: Question) -> list[jobs.Job]:
    """Lists the jobs about this classifier and data, newest first."""
    return [
        job
        for job in jobs.listing("attack")
        if job.config["dataset"]["name"] == question.data
        and job.config["attack"]["classifier"] == question.classifier
    ]


def newest(question: Question) -> jobs.Job | None:
    """Finds the newest job about this classifier and data that has something to show."""
    return next((job for job in listing(question) if (job.path / "report.json").exists()), None)


def read(job: jobs.Job | None) -> Report | None:
    """Reads the report of a job, as far as it has come."""
    return job.result() if job else None


def confirm(question: Question, **values: Any) -> None:
    """Starts the thorough measurement as a job."""
    target_of = question.classifier if question.classifier in {r.id for r in runs.listing()} else ""
    values = question.job_values() | values
    kinds.submit("attack", {"dataset": question.data}, values, target=target_of, who=shell.who())


def takes(question: Question, **values: Any) -> str:
    """Says how long :func:`confirm` will take; nothing to who may not start it, and before there is a classifier."""
    if not shell.may_change() or not there(question.classifier, question.dataset):
        return ""
    return f"About {duration(_seconds(question, values))}."


@st.cache_data(
    max_entries=64, ttl="10m", show_spinner="Measuring how fast it is", hash_funcs=BY_KEY
)
def _seconds(question: Question, values: Mapping[str, Any]) -> float:
    from core.robustness import estimate_job
    from core.robustness.extras import AttackConfig

    given = {
        name.removeprefix("attack."): value
        for name, value in {**question.job_values(), **values}.items()
    }
    config, lap = AttackConfig.of(given, "attack"), expected(question).lap
    others = [target(replace(question, classifier=id)) for id in config.transfer.split(",") if id]
    with TURNS:
        return estimate_job(target(question), question.dataset, config, others, lap)

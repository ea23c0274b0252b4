"""What was measured as jobs, which go on when a visitor leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core import jobs, kinds, runs
from pages.parts import shell
from pages.parts.robustness import Question

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

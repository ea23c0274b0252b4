"""What models and classifiers get wrong on the images of a dataset, image by image, from what was measured before."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from core import jobs, measure
from core.building.coverage import Failure
from core.building.version import provenance
from core.catalog import UserError
from core.datasets import Dataset

NEWEST = 3  # models, and classifiers, that are listed


def failures(dataset: Dataset) -> list[Failure]:
    """Finds the newest evaluations and attacks on these images: which of them a model leaves out, which fool.

    What was found of the images that a version was made from counts for those images of the version.
    """
    return [*_evaluations(dataset), *_attacks(dataset)]


def _rows(dataset: Dataset, fingerprint: str, index: np.ndarray) -> np.ndarray | None:
    """Tells which of the rows that something was measured on are the same images here; None where none are known."""
    if fingerprint == dataset.fingerprint:
        return np.ones(len(index), bool)
    if fingerprint != dataset.parent or _moved(dataset):
        return None
    added = np.flatnonzero(provenance(dataset)["origin"] != "real")
    first = int(added[0]) if len(added) else 0  # what is added stands behind what it was added to
    return index < first if len(added) and len(dataset) - first == len(added) else None


def _moved(dataset: Dataset) -> bool:
    """Tells whether rows were left out on the way from the parent, so that those behind them have other numbers."""
    return bool(dataset.imported("moved"))


def _evaluations(dataset: Dataset) -> list[Failure]:
    found: dict[str, Failure] = {}
    for job in measure.listing():
        if job.target in found or len(found) == NEWEST or not (job.path / "arrays.npz").exists():
            continue
        try:
            evaluation = measure.read(job)
            fingerprint = str(evaluation.conditions.get("fingerprint"))
            if fingerprint not in (dataset.fingerprint, dataset.parent):
                continue
            arrays = evaluation.arrays()
        except UserError:  # damaged, or nothing measured
            continue
        if arrays is None or (same := _rows(dataset, fingerprint, arrays.real)) is None:
            continue
        title = f"left out by {evaluation.name} ({evaluation.family})"
        found[job.target] = Failure(job.id, title, arrays.real[same], ~arrays.covered[same])
    return list(found.values())


def _names(job: jobs.Job, dataset: Dataset) -> bool:
    """Tells whether a file of a job names a dataset or its parent, since reading a whole report loads torch."""
    marks = [mark.encode() for mark in (dataset.fingerprint, dataset.parent) if mark]
    with suppress(OSError):
        texts = [file.read_bytes() for file in job.path.glob("*.json")]
        return any(mark in text for text in texts for mark in marks)
    return False


def _attacks(dataset: Dataset) -> list[Failure]:
    found: dict[str, Failure] = {}
    for job in jobs.listing("attack"):
        if not _names(job, dataset):
            continue
        try:
            report = job.result()
        except UserError:
            continue
        if report is None or not report.done or len(found) == NEWEST:
            continue
        name = str(report.model.get("name", "a classifier"))
        fingerprint = str(report.data.get("fingerprint"))
        index = np.array([image.index for image in report.images], np.int64)
        if name in found or fingerprint not in (dataset.fingerprint, dataset.parent):
            continue
        if not len(index) or (same := _rows(dataset, fingerprint, index)) is None:
            continue
        failed = np.array([not image.stands(report.headline) for image in report.images])
        from core.norms import norm_of  # torch, which a card without an attack does not need

        strength = norm_of(report.norm).text(report.headline)
        title = f"wrong by {name} under attack ({strength})"
        found[name] = Failure(job.id, title, index[same], failed[same])
    return list(found.values())

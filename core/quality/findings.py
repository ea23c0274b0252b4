"""What an inspection has found, on the disk and back."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core import jobs
from core.catalog import UserError
from core.datasets import Dataset
from core.ground import files
from core.ground.cache import Cache
from core.quality.check import Issue, checks

CAP = 2000  # issues of one kind that are listed
FOUND = "findings.json"
SCORES = "scores.npz"
RULES = 2  # version of the checks; findings of another version are not shown


@dataclass(frozen=True)
class Inspection:
    """What an inspection has found.

    Attributes:
        fingerprint: Of the content that was looked at.
        n: Number of images.
        seconds: How long it took.
        counts: Issues of each kind, also those beyond the list.
        issues: Ranked within each kind, at most :data:`CAP` of each.
        overview: ``labels`` (whether they can be judged), ``balance``, ``diversity``, ``coverage``, ``bias`` (a list),
            ``accuracy``: what could be said of the whole, each with a ``sentence``.
        map: Indices (M,) and places (M, 2) of images on the map.
        scores: Of every image, float32 (N,): ``distance`` to others, and ``doubt`` of its label (0 to 1, nan where it
            is not judged); empty of an inspection that kept none.
    """

    fingerprint: str
    n: int
    seconds: float
    counts: dict[str, int]
    issues: list[Issue]
    overview: dict[str, Any]
    map: tuple[np.ndarray, np.ndarray]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def by_kind(self) -> dict[str, list[Issue]]:
        """Groups the issues, in the order of :data:`checks`."""
        groups: dict[str, list[Issue]] = {}
        for issue in self.issues:
            groups.setdefault(issue.kind, []).append(issue)
        return {name: groups[name] for name in checks.names() if name in groups}

    def looked(self) -> list[dict[str, Any]]:
        """Says of every check for copies and strangers what it compared, what it cannot see, and how much it found."""
        return [
            {
                "name": entry.name,
                "title": entry.title,
                "found": self.counts.get(entry.name, 0),
                "compared": entry.compared,
                "cannot_see": entry.blind,
            }
            for entry in checks
            if entry.compared
        ]

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return {
            "fingerprint": self.fingerprint,
            "n": self.n,
            "seconds": self.seconds,
            "counts": self.counts,
            "issues": [asdict(issue) for issue in self.issues],
            "facts": self.overview,
            "map": [self.map[0].tolist(), self.map[1].round(4).tolist()],
        }


def keep(found: Inspection, folder: Path) -> None:
    """Writes what was found into the folder of a job."""
    with (folder / SCORES).open("wb") as out:
        np.savez(out, allow_pickle=False, **found.scores)
    files.write_json(folder / FOUND, found.record())


def findings(job: jobs.Job) -> Inspection | None:
    """Reads what a job has found; None before its end.

    Raises:
        UserError: If the file is damaged.
    """
    file = job.path / FOUND
    if not file.exists():
        return None
    return _read.get((file, file.stat().st_mtime_ns), lambda: _findings(file))


_read = Cache[Inspection](8)


def _findings(file: Path) -> Inspection:
    record, kept = files.read_json(file), file.with_name(SCORES)
    try:
        scores: dict[str, np.ndarray] = {}
        if kept.exists():
            with np.load(kept, allow_pickle=False) as stored:
                scores = {name: stored[name] for name in stored.files}
        index, places = record["map"]
        return Inspection(
            record["fingerprint"],
            record["n"],
            record["seconds"],
            record["counts"],
            [Issue(**(issue | {"others": tuple(issue["others"])})) for issue in record["issues"]],
            record["facts"],
            (np.array(index, np.int64), np.array(places, np.float64).reshape(-1, 2)),
            {name: of for name, of in scores.items() if of.shape == (record["n"],)},
        )
    except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} is damaged ({error!r}). Delete this inspection, and start another one."
        ) from None


def newest(dataset: Dataset) -> jobs.Job | None:
    """Finds the newest inspection of this very content, at work or finished; None without one."""
    for job in jobs.listing("inspect"):
        if job.active and job.config["dataset"]["name"] == dataset.name:
            return job
        try:
            content = json.loads((job.path / "content.json").read_bytes())
        except (OSError, ValueError):
            continue
        mine = content.get("fingerprint") == dataset.fingerprint and content.get("rules") == RULES
        if mine and (job.path / FOUND).exists():
            return job
    return None

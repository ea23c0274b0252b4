"""What a kind of job says of itself, and the registry of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.catalog import Config, Entry, Registry


@dataclass(frozen=True)
class Trained:
    """What the jobs of a kind train: they are runs, which others open.

    Attributes:
        part: The part of the config, and of the run's record, that describes the network: ``family``.
        build: Makes the untrained network of a record for images of a :class:`core.models.Spec`; its weights come from
            torch's global generator.
        curves: Gives the charts (:class:`core.models.Curve`) of what the network of a record logs in training.
        sampling: Gives how one of a name draws, None if it knows none of it; itself None for what makes nothing.
        classifies: Whether it tells classes apart.
        further: Whether it goes on from what is trained already, which a place of its own asks for.
    """

    part: str
    build: Callable[[Mapping[str, Any], Any], Any]
    curves: Callable[[Mapping[str, Any]], Sequence[Any]]
    sampling: Callable[[str], type[Config] | None] | None = None
    classifies: bool = False
    further: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind(Entry):
    """A kind of job: all that lists, pages and the job's process have to know of it.

    ``make(task) -> Iterator[dict]`` does the work and yields what is worth logging. It has finished when it ends by
    itself; when its :class:`core.kinds.Task` is stopped, it lets :class:`core.ground.watch.Stopped` pass.

    Attributes:
        lane: Jobs of one lane wait for each other.
        parts: Gives the config classes of a job by part, from what was chosen (``{"dataset": "digits"}``).
        unit: Of what it counts: ``images``, ``fits``; empty when it tells shares.
        shape: By part of the config, what lists and pages rely on, and of which type it is.
        read: Reads the result of a :class:`core.jobs.Job`, as far as there is one; else None.
        files: Results that can be taken away, by name, and what they are called.
        allow: Refuses a config before the job is made, and completes it where names stand for something.
        processes: How many processes a config asks for.
        resumes: What resuming an interrupted one would do.
        trained: What it trains, None if it trains nothing that others open.
    """

    lane: Literal["train", "short"]
    parts: Callable[[Mapping[str, str]], dict[str, type[Config]]]
    unit: str = ""
    shape: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    read: Callable[[Any], Any] = lambda job: None
    files: Mapping[str, str] = field(default_factory=dict)
    allow: Callable[[dict[str, Any]], None] = lambda config: None
    processes: Callable[[Mapping[str, Any]], int] = lambda config: 1
    resumes: str = "Resume starts it again."
    trained: Trained | None = None


kinds = Registry("job kind", Kind, "core.kinds")

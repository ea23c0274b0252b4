"""The commands of ``python -m core``: one file in this folder is one command, of the file's name.

A module registers its ``run(arguments)``, which gives the exit code, None for 0, with ``@commands.add``; the first line
of its docstring is the help. What is heavy is imported inside functions, so that any command starts at once.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jobs
from core.catalog import Config, Entry, Registry, UserError, parse, plain, unknown
from core.ground import files
from core.ground.watch import Watch
from core.ground.writing import percent

if TYPE_CHECKING:
    from core.runs import Opened


@dataclass(frozen=True, kw_only=True)
class Command(Entry):
    """A command; ``make(arguments)`` runs it and gives the exit code, None for 0.

    Attributes:
        arguments: Adds what it takes to a parser; ``--json`` is there.
        parameters: Gives the configs that its ``--set`` takes, by their prefix, for its help.
    """

    title: str = ""
    arguments: Callable[[argparse.ArgumentParser], None]
    parameters: Callable[[argparse.Namespace], Mapping[str, type[Config]]] | None = None


commands = Registry("command", Command, "core.commands")


def show(arguments: argparse.Namespace, result: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Prints the result: one JSON object with ``--json``, else lines."""
    print(json.dumps(result) if arguments.json else "\n".join(lines))


def takes_values(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds ``--set NAME=VALUE``, which may be repeated; read it with :func:`core.catalog.parse`."""
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=help)


def given(arguments: argparse.Namespace, part: str, *names: str) -> dict[str, Any]:
    """Gives the values of ``--set``, and of those flags that were given, which stand for parameters of a part."""
    flags = {f"{part}.{name}": getattr(arguments, name) for name in names}
    return parse(arguments.set) | {name: v for name, v in flags.items() if v is not None}


def takes_run(parser: argparse.ArgumentParser, step: bool = False) -> None:
    """Adds the run that the command is about, and the ``step`` of its checkpoint."""
    parser.add_argument("run_id", metavar="RUN", help="id, start of an id, or name")
    if step:
        parser.add_argument("--step", type=int, help="of the checkpoint (default: the best one)")


def out_file(text: str, *suffixes: str, flag: str = "--out") -> Path:
    """Gives the path of a file that is to be written.

    Raises:
        UserError: If it has another ending, or its folder does not exist.
    """
    out = Path(text)
    if out.suffix not in suffixes or not out.parent.is_dir():
        allowed = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise UserError(
            f"{flag} must end in {allowed}, in a folder that exists, got {text!r}. Choose another."
        )
    return out


def write(out: Path, content: bytes) -> None:
    """Writes a result in one piece or not at all.

    Raises:
        UserError: If the disk is full.
    """
    with files.full_disk_told():
        files.write_atomic(out, content)


def sampling_of_run(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the sampling configs that ``--set`` takes: of the run's family, or of all before a run is named."""
    from core import runs
    from core.models import families

    wanted = families.names()
    if chosen.run_id:
        wanted = [runs.family_of(runs.find(chosen.run_id))]
    return {f"({name}) ": runs.sampling(name) for name in wanted}


def knob_lines(config: type[Config], prefix: str) -> list[str]:
    """Describes every parameter of a config in a line."""
    lines = []
    for name, knob in config.knobs().items():
        unit = f" {knob.unit}" if knob.unit else ""
        lines.append(
            f"  {prefix + name:<26} {knob.help} {knob.allowed.capitalize()}; default {plain(knob.default)}{unit}."
        )
    return lines


class Terminal(Watch):
    """Says on stderr what is done: on a terminal in one line that changes, elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        now, live = time.monotonic(), sys.stderr.isatty()
        if text and now - self._told > (0.2 if live else 5.0):
            self._told = now
            print(f"\r\033[K{text} " if live else text, end="" if live else "\n", file=sys.stderr)


def told(job: jobs.Job) -> jobs.Job:
    """Waits for the end of a job, with each of its messages in a line on stderr; gives the job as it ended."""
    shown = ""
    while job.active:
        if job.message != shown and (shown := job.message):
            print(shown, file=sys.stderr, flush=True)
        time.sleep(0.2)
        job = jobs.get(job.id)
    return job


def wait(job: jobs.Job) -> jobs.Job:
    """Waits for the end of a job, with its progress on stderr; gives the job as it ended."""
    shown, unit = "", jobs.kinds.get(job.kind).unit
    while job.active:
        if job.status == "queued":
            line = f"place {jobs.position(job)} in the queue"
        else:
            left = job.seconds_left
            line = (
                job.message
                or f"{percent(job.share, 0):>5}  {job.state.get('speed', 0):,.0f} {unit}/s"
                + (f"  {left:.0f} s left" if left is not None else "")
            )
        if line != shown:
            end = "" if sys.stderr.isatty() else "\n"
            if sys.stderr.isatty() or line[:3] != shown[:3]:
                print(f"\r\033[K{line}" if not end else line, end=end, file=sys.stderr, flush=True)
            shown = line
        time.sleep(0.2)
        job = jobs.get(job.id)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return job


def ended(job: jobs.Job) -> jobs.Job:
    """Waits for the end of a job, for a command that prints what it made.

    Raises:
        UserError: If it failed, with its own words.
    """
    job = wait(job)
    if job.status not in ("finished", "stopped"):
        raise UserError(
            job.message or f"The job {job.id} is {job.status}. Resume it, or start another one."
        )
    return job


def follow(job: jobs.Job, as_json: bool) -> int:
    """Waits for the end of a job, with its progress on stderr; prints one object or one line, gives the exit code."""
    job = wait(job)
    result, unit = summary(job), jobs.kinds.get(job.kind).unit
    done = f"{result['images']} {unit}" if unit else percent(job.share, 0)
    if as_json:
        print(json.dumps(result))
    else:
        print(f"{job.id}: {job.status} after {done}, {result['seconds']} s. {job.message}".strip())
    if job.status in ("failed", "interrupted"):
        print(f"error: {job.message}", file=sys.stderr)
    return 0 if job.status in ("finished", "stopped") else 1


def summary(job: jobs.Job) -> dict[str, Any]:
    """Gives what a job is and the last value of each of its records."""
    records, damaged = files.Log(job.path).read()
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    images = last.pop("images", int(job.state.get("done") or 0))
    seconds = last.pop("seconds", 0.0)
    last.pop("images_per_second", None)
    summary = {
        "run": job.id,
        "name": job.name,
        "note": job.note,
        "status": job.status,
        "message": job.message,
        "kind": job.kind,
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else 0.0,
        **last,
    }
    return summary | ({"damaged_log_lines": damaged} if damaged else {})


def label_of(job: jobs.Job, opened: Opened, text: str) -> int:
    """Finds the class that ``--label`` names.

    Raises:
        UserError: If the model listens to no labels, or there is no such class.
    """
    if not opened.classes:
        raise UserError(
            f"{job.name} does not listen to labels, so --label has no meaning. Leave it out."
        )
    return named_class(text, opened.classes)


def named_class(text: str, classes: Sequence[str]) -> int:
    """Finds a class by its name, or by its position from 0 where no class is named by a number.

    Raises:
        UserError: If there is none.
    """
    text = unicodedata.normalize("NFC", text)
    if text in classes:
        return list(classes).index(text)
    numbers = {i: value for i, name in enumerate(classes) if (value := _number(name)) is not None}
    wanted = _number(text)
    if numbers and wanted is not None:
        same = [i for i, value in numbers.items() if value == wanted]  # 7 is 07
        if len(same) == 1:
            return same[0]
        some = ", ".join(classes[:40]) + (" …" if len(classes) > 40 else "")
        raise UserError(
            f"There is no class {text!r}. The classes have numbers as names: {some}. Choose one of them."
        )
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise UserError(unknown("class", text, classes))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", text.strip()) else None

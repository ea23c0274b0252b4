"""What was measured, beside what is claimed: ``docs/evidence.md``, a row per figure, written by the benchmark itself.

A benchmark calls :func:`row` instead of ``print`` for what it has found; the row of the same script for the same claim
gives way. A figure of speed, size or quality in README stands in the words that its row says (``said``): a run that
measures another number changes the words, and the tests fail until README says the same.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"
INTRODUCTION = """# Evidence

What is claimed, and what measured it. `python -m benchmarks.NAME` prints its figures and replaces its rows; a row that
was measured earlier keeps its date and its machine. "In README" are the words that rest on the row.
"""


@dataclass(frozen=True)
class Row:
    """One figure: the claim, what was measured, how, by which script, when, where, and README's words for it."""

    claim: str
    measured: str
    conditions: str
    script: str
    date: str
    machine: str
    in_readme: str = ""


def rows(text: str) -> list[Row]:
    """Reads the rows of the table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [Row(*(cell.strip() for cell in line.strip("| ").split(" | "))) for line in lines]


def table(rows: Sequence[Row]) -> str:
    """Writes the whole file, by script and claim."""
    heads = [field.name.replace("_", " ").capitalize() for field in fields(Row)]
    heads[-1] = "In README"
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for each in sorted(rows, key=lambda each: (each.script, each.claim)):
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in astuple(each))} |")
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"


def machine() -> str:
    """Names the computer: cores, processor, GPU, and how many processes want its cores just now."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = named[0].partition(":")[2].strip() if named else name
    torch = sys.modules.get("torch")
    gpu = f", {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else ""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores, {name}{gpu}{load}"


def row(line: str, conditions: str = "", said: str = "") -> None:
    """Prints a figure, and writes its row.

    Args:
        line: ``claim: what was measured``, with unit, n and spread; the claim has no number that is measured.
        conditions: What it depends on beside the machine.
        said: The words in README that rest on it, with the number; empty where there are none.
    """
    print(line, flush=True)
    claim, _, measured = " ".join(line.split()).partition(": ")
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    script = (spec.name if spec else "").removeprefix("benchmarks.")
    today = datetime.date.today().isoformat()
    new = Row(claim, measured, conditions, script, today, machine(), said)
    kept = rows(FILE.read_text("utf-8")) if FILE.exists() else []
    kept = [each for each in kept if (each.script, each.claim) != (script, claim)]
    FILE.write_text(table([*kept, new]), "utf-8")

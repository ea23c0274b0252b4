"""A dataset leaves: written in the layouts that people use, read back, compared, and only then done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.building import door, readback
from core.building.door import DoorConfig
from core.building.layouts import Layout, layouts
from core.building.optout import without
from core.building.outgoing import Outgoing
from core.building.version import origins
from core.building.watermark import Watermark, own
from core.building.watermark import refuses as watermark_refuses
from core.catalog import UserError, knob
from core.datasets import Dataset
from core.ground import files, scratch
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many

PLAN = "plan.json"  # what the dataset was built by, where it was


class ExportConfig(DoorConfig):
    """How a dataset leaves."""

    layouts: str = knob(
        "parquet",
        f"The layouts, with commas between them: {', '.join(layouts.names())}.",
        title="Layouts",
    )
    overrides: str = knob(
        "",
        "Why it leaves although a check at the door holds it: check=reason, one a line.",
        title="Overrides",
    )

    watermark: bool = knob(
        False,
        "Write an invisible watermark of this server into the pixels of synthetic pictures of 64 px or more; "
        "detect finds it again.",
        title="Watermark",
    )

    def chosen(self) -> list[str]:
        """Lists the names of the layouts."""
        return [name.strip() for name in self.layouts.split(",") if name.strip()]

    def reasons(self) -> dict[str, str]:
        """Gives the reasons of the overrides by the names of their checks.

        Raises:
            UserError: If one names no check, or no reason.
        """
        return door.parsed(filter(None, map(str.strip, self.overrides.splitlines())))


def export(
    dataset: Dataset,
    names: Sequence[str],
    out: Path,
    watch: Watch = UNWATCHED,
    *,
    config: DoorConfig | None = None,
    overrides: Mapping[str, str] | None = None,
    watermark: bool = False,
) -> dict[str, Any]:
    """Writes a dataset in some layouts, reads each back and compares it; all of them are done, or nothing is there.

    Args:
        dataset: What leaves.
        names: Of :data:`core.building.layouts.layouts`.
        out: The folder that comes to be, with one folder in it for each layout.
        watch: Told how far it is; may end it.
        config: What it leaves for, and how closely it is looked at.
        overrides: By the name of a check at the door, why the dataset leaves all the same; the card says so.
        watermark: Whether the pixels of synthetic items carry the invisible mark of this server.

    Returns:
        ``dataset``, ``fingerprint``, ``out``, ``left_out``, the number of items that must not be used, ``door``, what
        the checks there said, ``watermarked``, the number of items, ``unpaired``, the layouts that lack the second
        images of the items, and ``layouts``: of each what was written and what was compared.

    Raises:
        UserError: If a layout does not exist or cannot take these items, the folder is there already, the disk is full,
            a check at the door holds the dataset, or what was read back is not what was written.
    """
    chosen, config, overrides = _chosen(dataset, names), config or DoorConfig(), overrides or {}
    try:
        there = out.exists()
    except OSError as error:
        raise UserError(
            f"{str(out)!r:.120} cannot be the name of a folder ({error.strerror}). Choose another."
        ) from None
    if there:
        raise UserError(
            f"{str(out)!r} is there already, and an export never writes into what is there. Choose another folder."
        )
    if not out.absolute().parent.is_dir():
        raise UserError(
            f"The folder around {str(out)!r} does not exist. Make it, or choose another folder."
        )
    whole = len(dataset)
    dataset = without(dataset)
    mark = _mark(dataset) if watermark else None
    _allow_room(dataset, out, len(chosen))
    scratch.abandoned(out.absolute().parent)
    watch.say("Asking at the door", 0.0)
    refusals = door.check(dataset, config, overrides=overrides, watch=watch.aside())
    door.allow(refusals)
    # only what was needed is recorded: a reason for what nobody holds against it would look like a fault
    used = {refusal.check: refusal.reason for refusal in refusals}
    purpose = "" if config.purpose == "not said" else config.purpose
    going, done = Outgoing(dataset, purpose, used, mark), []
    try:
        with files.full_disk_told(out), files.new_folder(out) as new:
            for number, layout in enumerate(chosen):
                start, stop = number / len(chosen), (number + 1) / len(chosen)
                done.append(_written(going, layout, new / layout.name, watch.part(start, stop)))
            if plan := dataset.imported(
                "plan"
            ):  # beside the layouts, whose readers would stumble over it
                files.write_json(new / PLAN, plan)
            if wrong := [f"{row['title']}: {text}" for row in done for text in row["differences"]]:
                raise UserError(
                    f"What was written is not what {dataset.name or 'the dataset'} holds, so nothing was kept. "
                    f"{' '.join(wrong[:5])} Export without that layout, and report this."
                )
    except FileExistsError:
        raise UserError(
            f"Somebody else made {str(out)!r} meanwhile. Choose another folder."
        ) from None
    return {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "out": str(out),
        "images": len(dataset),
        "left_out": whole - len(dataset),
        "watermarked": going.watermarked,
        "unpaired": [layout.title for layout in chosen if dataset.pair and not layout.pairs],
        "door": [refusal.record() for refusal in refusals],
        "layouts": done,
    }


def _chosen(dataset: Dataset, names: Sequence[str]) -> list[Layout]:
    chosen = [layouts.get(name) for name in dict.fromkeys(names)]
    if not chosen:
        raise UserError(f"An export needs a layout. Choose from: {', '.join(layouts.names())}.")
    if not len(dataset):
        raise UserError("There is nothing to export: the dataset is empty. Choose another one.")
    for layout in chosen:
        if why := layout.refuses(dataset):
            able = ", ".join(other.name for other in layouts if not other.refuses(dataset))
            other = f"Choose from: {able}." if able else "Make a version with fewer of them."
            raise UserError(f"{why} {other}")
    return chosen


def _mark(dataset: Dataset) -> Watermark:
    """Gives the watermark of this server for a dataset that can carry it."""
    if why := watermark_refuses(dataset):
        raise UserError(f"{why} Export without the watermark.")
    if not origins(dataset)["synthetic"]:
        raise UserError(
            f"{dataset.name} has no synthetic items, and only these carry a watermark. Export without it."
        )
    return own()


def _allow_room(dataset: Dataset, out: Path, times: int) -> None:
    """Refuses at once what cannot fit: an item never takes more room than its pixels, about."""
    needed = times * dataset.x.nbytes / 2**20 * 0.5
    free = shutil.disk_usage(out.absolute().parent).free / 2**20
    if free - needed < settings().min_free_mb:
        raise UserError(
            f"The disk of {str(out)!r} has {free:.0f} MB left, and about {needed + settings().min_free_mb:.0f} MB are "
            "needed. Make room, or choose a folder on another disk."
        )


def _written(going: Outgoing, layout: Layout, folder: Path, watch: Watch) -> dict[str, Any]:
    """Writes one layout, and compares what its own reader finds."""
    began = time.perf_counter()
    folder.mkdir()
    layout.make(going, folder, watch.part(0, 0.6))
    between = time.perf_counter()
    found = readback.compare(going, folder, watch.part(0.6, 1))
    own = [file for file in folder.rglob("*") if file.is_file()]
    return {
        "layout": layout.name,
        "title": layout.title,
        "files": len(own),
        "bytes": sum(file.stat().st_size for file in own),
        "rows": found.rows,
        "pixels": found.pixels,
        "checked": found.sentence,
        "differences": found.differences,
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_check": round(time.perf_counter() - between, 2),
        "opens": layout.opens,
    }


def sentence(record: Mapping[str, Any]) -> str:
    """Says in one sentence what an export has written."""
    left = record.get("left_out", 0)
    size = sum(row["bytes"] for row in record["layouts"]) / 2**20
    return (
        f"{many(record['images'], 'item')} of {record['dataset']} in {many(record['layouts'], 'layout')}, "
        f"{size:.1f} MB, each read back and found equal."
        + (
            f" {many(left, 'item')} stayed out: on the list of what must not be used."
            if left
            else ""
        )
        + (
            f" {many(marked, 'item')} {'carries' if marked == 1 else 'carry'} the watermark of this server."
            if (marked := record.get("watermarked", 0))
            else ""
        )
        + (
            f" The second images stayed out of {', '.join(unpaired)}, which has no place for them."
            if (unpaired := record.get("unpaired"))
            else ""
        )
    )

"""The pad that the Overview opens with: drawn from a picture in a run's folder, before any model is loaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from core.ground import sheets
from pages.parts import pad, shell
from pages.parts.latent import Checkpoint, Choice, Spot, image, plane_key


def opening() -> None:
    """Draws the pad of the run that has one, faces before others; nothing where no run has."""
    run = chosen()
    if run is None:
        return
    metadata = sheets.metadata((run.path / sheets.PAD).read_bytes())
    with st.container(border=True):
        picture, side = st.columns([3.4, 1], gap="medium")
        with picture:
            wander(run.id)
        with side:
            st.markdown(
                "**Drag over the small pictures**, and see what this model would draw there."
            )
            st.caption(
                f"{shell.plain(run.name)} ({shell.plain(runs.family_of(run))}{shell.on(run)}), "
                + shell.plain(f"step {metadata['step']:,}, seed {metadata['seed']}.")
            )
            shell.explore(run, key="overview.pad.explore")


def chosen() -> jobs.Job | None:
    """Finds the run to open with."""
    ready = [run for run in runs.generators() if whole(run.path / sheets.PAD)]
    return min(ready, key=lambda run: runs.dataset_of(run) != "faces", default=None)


def whole(file: Path) -> bool:
    """Tells whether there is a sheet that can be read."""
    try:
        return _whole(str(file), file.stat().st_mtime_ns)
    except OSError:
        return False


@st.cache_data(max_entries=1000, show_spinner=False)
def _whole(file: str, _mtime: int) -> bool:
    metadata = sheets.whole(Path(file).read_bytes())
    return metadata is not None and {"cells", "width", "step", "seed", "names"} <= metadata.keys()


@st.fragment
@shell.guard()
def wander(id: str) -> None:
    """Draws the pad; the exact image comes as soon as the server has loaded what it needs for that."""
    run = jobs.get(id)
    content = (run.path / sheets.PAD).read_bytes()
    metadata = sheets.metadata(content)
    checkpoint, choice = Checkpoint(run.id, metadata["step"]), choice_of(metadata)
    key = plane_key(checkpoint, choice)
    view = pad.view("overview.pad", key, choice.start, metadata["width"])
    exact, took = None, {}
    # only once the imports are done: the first visitor would wait seconds for them
    if view.rest and view.number and not shell.warm().is_alive():
        with suppress(UserError):  # the checkpoint is gone; its sheet can still be dragged on
            exact, took = image(Spot(checkpoint, choice, view))
    first, second = metadata["names"]
    pad.pad(
        key="overview.pad",
        plane=key,
        tile=tuple(metadata["tile"]),
        alt=f"A plane of the latent space of {run.name}: {first} to the right, {second} downwards. "
        "Drag, or use the arrow keys.",
        seen=f"Image of {run.name}",
        start=choice.start,
        view=view,
        sheet=pad.Sheet(
            f"{key} stored", content, metadata["cells"], (0.0, 0.0, float(metadata["width"]))
        ),
        exact=exact,
        ms=took,
        limit=metadata["width"] / 2,
        side=300,
        roams=False,
    )


def choice_of(metadata: dict[str, Any]) -> Choice:
    """Gives the choice whose plane the stored sheet shows: the one that the Latent space page starts with."""
    return Choice(
        metadata["seed"],
        metadata.get("label"),
        tuple(metadata.get("sampling", {}).items()),
        metadata.get("plane", "principal"),
        tuple(metadata.get("which", (0, 1))),
    )

"""The picture of a plane in a run's folder: it is dragged on before any model is loaded."""

from __future__ import annotations

from pathlib import Path

from core import jobs, runs
from core.catalog import UserError
from core.ground import files, sheets, xmp
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import duration
from core.latent.directions import principal
from core.latent.planes import contrast, first_plane, labels_plane, neighbourhood, principal_plane
from core.latent.space import Space, open_space

SEED = 0
CELLS = 15  # per side
WIDTHS = {"principal": 6.0, "labels": 3.0}  # of each kind of plane


def shelve(run: jobs.Job, watch: Watch = UNWATCHED) -> Path:
    """Decodes the plane that the pages start with, and keeps it in the run's folder as :data:`core.ground.sheets.PAD`.

    Cells are exact, not previews. The picture says what it shows: ``cells`` per side, ``width`` in units of the plane,
    ``step``, ``seed``, ``label``, ``sampling``, the kind of ``plane`` and ``which`` two directions or classes it spans,
    and the ``names`` of the axes.

    Raises:
        UserError: If the run has no latent space, or the server is view-only.
    """
    settings().allow_change("keep a picture beside a run")
    if not runs.generates(run):
        raise UserError(
            f"{run.name} makes no images, so it has no plane to show. Choose a generative model."
        )
    opened = runs.open_model(run)
    space = open_space(opened)
    (origin,) = space.draw([0], [0] if space.model.classes else None, SEED)
    kind = "labels" if first_plane(space) == "labels" else "principal"
    principal(space, watch=watch)  # of a large model that takes long
    which = contrast(space) if kind == "labels" else (0, 1)
    if kind == "labels":
        plane = labels_plane(space, origin, *which, classes=opened.classes)
    else:
        plane = principal_plane(space, origin, which)
    width = WIDTHS[kind]
    span = width * (CELLS - 1) / CELLS / 2  # from the middle to the middle of the last cell
    took = _seconds(space)
    watch.say(f"Drawing {CELLS**2} images" + (f", up to {duration(took)}" if took else ""))
    x = neighbourhood(space, plane, (0.0, 0.0), span, CELLS, quick=False)
    metadata = {
        "cells": CELLS,
        "width": width,
        "step": opened.step,
        "images": opened.images,
        "seed": SEED,
        "label": None,
        "sampling": space.sampling.record(),
        "plane": kind,
        "which": list(which),
        "names": list(plane.names),
    }
    file = run.path / sheets.PAD
    files.write_atomic(file, sheets.png(x, CELLS, metadata, mark=xmp.made_by(run.id)))
    return file


def _seconds(space: Space) -> float:
    """Says how long the picture takes at most where each image takes many steps: as if they were drawn one by one."""
    if not space.slow:
        return 0.0
    steps, few = (of.record().get("steps", 1) for of in (space.sampling, space.preview))
    return CELLS**2 * space.pace * steps / few

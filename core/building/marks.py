"""The mark that an item of a dataset carries when it leaves as a picture: how it was made, and by which run."""

from __future__ import annotations

import json

import numpy as np

from core.building.version import ORIGINS, generator, provenance
from core.datasets import Dataset
from core.ground import xmp

# The steps of a chain that ask a trained generator; to ask the steps themselves would load torch for every export.
GENERATIVE = frozenset({"sample", "neighbour", "repair"})


def source_type(origin: str, run: str = "", parameters: str = "") -> xmp.SourceType | None:
    """Gives the digital source type of an item, a word of the IPTC; None where nothing is to be said.

    A synthetic item comes out of a trained generator. An augmented or adversarial one is a capture that an algorithm
    has changed; where a step of the chain was a trained generator, it is a composite with what that has made. Nobody
    knows how a real item came to be, so none says so.

    Args:
        origin: One of :data:`ORIGINS`.
        run: The run that had a part in it. Of an augmented item that is a generative one, since no other makes any.
        parameters: How it was made, as JSON; the steps of a chain name the run that they ask, and an adversarial item
            the run that made what was attacked.
    """
    if origin == "synthetic":
        return "trainedAlgorithmicMedia"
    if origin == "augmented" and (run or _asks(parameters)):
        return "compositeWithTrainedAlgorithmicMedia"
    if origin == "adversarial" and generator(parameters):
        return "compositeWithTrainedAlgorithmicMedia"
    return "algorithmicallyEnhanced" if origin in ORIGINS[1:] else None


def _asks(parameters: str) -> bool:
    """Tells whether a step of a chain asks a trained generator."""
    if '"step"' not in parameters:
        return False
    try:
        steps = json.loads(parameters)
    except ValueError:
        return False
    steps = steps.get("steps", []) if isinstance(steps, dict) else steps
    return any(isinstance(step, dict) and step.get("step") in GENERATIVE for step in steps)


def mark(png: bytes, origin: str, run: str, parameters: str = "") -> bytes:
    """Writes into a picture how it was made; a real one stays as it is. The pixels never change.

    Args:
        png: The file; a PNG, or what :func:`core.ground.xmp.write` takes.
        origin, run, parameters: As the columns of the dataset have them.

    Returns:
        The file with its mark; the same input gives the same bytes.
    """
    source = source_type(origin, run, parameters)
    return png if source is None else xmp.write(png, xmp.Mark(source, run, origin))


def of_sheet(dataset: Dataset, rows: np.ndarray) -> xmp.Mark | None:
    """Gives the mark of one picture that shows some items (n,): by what is farthest from a capture among them."""
    columns = provenance(dataset)
    found = {
        source_type(*map(str, (columns[name][row] for name in ("origin", "run", "parameters"))))
        for row in rows
    }
    if len(found) > 1 and found & {*xmp.TYPES[:2]}:
        return xmp.partly_by("")
    return next((xmp.Mark(source) for source in xmp.TYPES if source in found), None)

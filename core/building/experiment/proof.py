"""The proof of a version: which arms it implies, what was found about it, and whether its referees agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core import jobs
from core.building.experiment.arms import ordered
from core.building.experiment.config import ExperimentConfig
from core.building.experiment.referees import referees
from core.building.experiment.trial import real
from core.building.version import kinds
from core.catalog import UserError
from core.datasets import Dataset

SIZES = 4  # of the learning curve of real images that a proof draws
KINDS = ("experiment", "improve")


def implied(dataset: Dataset) -> dict[str, Any]:
    """Gives the parameters of the experiment that proves a version: an arm for each origin that it has.

    A set of real images alone has the arms of an experiment that makes its own: the chain and attacked images. Samples
    take a generative model for each pair and size, so they are there to be switched on.

    Raises:
        UserError: If the dataset has no labels.
    """
    if dataset.y is None:
        raise UserError(
            f"A proof measures a classifier, so it needs labels, and {dataset.name} has none. "
            "Choose a dataset with labels."
        )
    origins = kinds(dataset)[dataset.splits["train"]]
    names, counts = np.unique(origins, return_counts=True)
    here = dict(zip(map(str, names), map(int, counts), strict=True))
    most = int(np.bincount(dataset.y[real(dataset)], minlength=1).max())
    sizes = np.unique(np.geomspace(min(5, max(1, most)), max(1, most), SIZES).round().astype(int))
    added = [arm for arm in ordered() if arm.origins]
    own = {arm.name: bool(here.keys() & set(arm.origins)) for arm in added}
    if any(own.values()):
        several = len(here.keys() - {"real"}) > 1
        values = dict.fromkeys(_made(), False)
        return (
            values
            | own
            | {
                "version": several,  # with one kind of items, its arm is the version
                "placebo": True,
                "per_class": ",".join(map(str, sizes)),
            }
        )
    pipeline = dataset.chain
    return {
        **own,
        **dict.fromkeys(_made(), False),
        "chain": True,
        "adversarial": True,
        "pipeline": pipeline,
        "placebo": True,
        "per_class": ",".join(map(str, sizes)),
    }


def along(dataset: Dataset, values: Mapping[str, Any]) -> tuple[str, str]:
    """Takes the largest size along where an arm stands at it alone: that of the items that a version has.

    Returns:
        The sizes as ``per_class`` has them, and a sentence where one was added.

    Raises:
        UserError: If the sizes are no list of numbers.
    """
    text = str(values["per_class"])
    config = ExperimentConfig(per_class=text)
    whole = any(values.get(arm.name) for arm in ordered() if arm.origins)
    if dataset.y is None or not whole:
        return text, ""
    most = int(np.bincount(dataset.y[real(dataset)], minlength=1).max())
    if config.sizes[-1] >= most:
        return text, ""
    said = (
        f"All {most:,} real images of a class are taken along: what was added is measured beside all of them, and the "
        "smaller numbers are of the real images alone."
    )
    sizes = config.sizes if len(config.sizes) < 8 else config.sizes[-7:]
    return ",".join(map(str, [*sizes, most])), said


def _made() -> list[str]:
    """Lists the arms that make what they add."""
    plain = {"none", "placebo"}
    return [arm.name for arm in ordered() if not arm.origins and arm.name not in plain]


def proofs(dataset: Dataset, quick: bool = False) -> list[dict[str, Any]]:
    """Reads the experiments about this very version that have ended with a verdict, the newest first.

    Args:
        dataset: The version; another content has other proofs.
        quick: Whether those of too few pairs for a verdict are given, too.

    Returns:
        As :func:`core.building.experiment.summary` gives them, with ``job``, the id of the job, and ``when``.
    """
    found = []
    for job in jobs.listing(*(kind for kind in KINDS if kind in jobs.kinds)):
        try:
            result = job.result()
        except UserError:  # a damaged one proves nothing
            continue
        proof = result.get("proof") if result and job.kind == "improve" else result
        fits = proof and proof.get("fingerprint") == dataset.fingerprint
        if proof and fits and proof["done"] and (quick or not proof["quick"]):
            found.append({**proof, "job": job.id, "when": job.created})
    return found


def agreement(results: Sequence[dict[str, Any]]) -> str:
    """Says of several proofs whether their referees agree; empty where there is one referee, or nothing in common.

    Args:
        results: Of :func:`proofs`, the newest first; of each referee the newest counts.
    """
    newest: dict[str, dict[str, str]] = {}
    for result in results:
        name = result.get("referee", {"name": "small"})["name"]
        largest = max(result["sizes"])
        newest.setdefault(
            name,
            {
                c["arm"]: c["verdict"]
                for c in result["cells"]
                if c["size"] == largest and c["verdict"]
            },
        )
    if len(newest) < 2:
        return ""
    sentences = []
    first, *others = newest.values()
    for arm in ordered():
        if arm.name not in first or not all(arm.name in other for other in others):
            continue
        said = {name: verdicts[arm.name] for name, verdicts in newest.items()}
        helps = [name for name, verdict in said.items() if verdict == "helps"]
        title = arm.title[0].lower() + arm.title[1:]
        if len(helps) == len(said):
            sentences.append(f"All {len(said)} referees agree: {title} helps.")
        elif helps:
            whom = " and ".join(referees.get(name).short for name in helps)
            rest = " and ".join(
                f"{referees.get(name).short} ({verdict})"
                for name, verdict in said.items()
                if name not in helps
            )
            sentences.append(
                f"{title[0].upper() + title[1:]} helps only {whom}, not {rest}: the gain is not one of the data alone."
            )
        elif "hurts" in said.values():
            sentences.append(f"{title[0].upper() + title[1:]} helps no referee, and hurts one.")
    return " ".join(sentences)

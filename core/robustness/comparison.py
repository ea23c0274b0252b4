"""Two classifiers on the same images, and published numbers beside one's own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.catalog import UserError
from core.ground.stats import mcnemar
from core.norms import NEAR, norm_of
from core.robustness.store import Report


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images.

    Attributes:
        both, only_first, only_second, neither: Images that withstand, by whom.
        p: Probability of a difference as large by chance, were they equally robust (exact McNemar test).
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @property
    def n(self) -> int:
        """Number of images."""
        return self.both + self.only_first + self.only_second + self.neither


def compare(first: Report, second: Report, eps: float) -> Paired:
    """Compares two reports at one strength, image by image, by the exact test of McNemar.

    Raises:
        UserError: If they have no image in common, or are not of the same data, norm and strength.

    References:
        McNemar, 1947, Note on the sampling error of the difference between correlated proportions
    """
    for key in ("fingerprint", "split"):
        if first.data.get(key) != second.data.get(key):
            raise UserError(
                "The two reports are of different images, so they cannot be compared image by image. "
                "Attack both models on the same dataset."
            )
    for report in (first, second):
        if report.at(eps) is None:
            raise UserError(
                f"{report.model['name']} was not attacked at {norm_of(report.norm).text(eps)}. "
                "Attack it at this strength first."
            )
    tables = [
        {image.index: image.stands(eps + NEAR) for image in report.images}
        for report in (first, second)
    ]
    shared = sorted(tables[0].keys() & tables[1].keys())
    if not shared or first.norm != second.norm:
        raise UserError(
            "The two reports share no image or norm. Attack both models on the same images."
        )
    a, b = (np.array([table[i] for i in shared]) for table in tables)
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    return Paired(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), mcnemar(only_a, only_b))


def boards(reports: Iterable[Report]) -> list[list[Report]]:
    """Groups whole reports into those that may be ranked: the same images, norm, strength and attacks.

    Args:
        reports: Newest first; of a model under the same conditions the first one counts.

    Returns:
        The largest group first; in each, the most robust first, and those behind all that cannot be believed.
    """
    groups: dict[str, dict[str, Report]] = {}
    for report in reports:
        data, config = report.data, report.config
        asked = [config.get(name) for name in ("attacks", "options", "eot", "bpda")]
        images = [data.get(name) for name in ("fingerprint", "split", "n", "seed")]
        key = repr([images, report.norm, report.headline, asked])
        if report.complete:
            model = repr([report.model.get(name) for name in ("hash", "name")])
            groups.setdefault(key, {}).setdefault(model, report)
    return [
        sorted(group.values(), key=lambda r: (not r.verdict.believable, -r.head.robust))
        for group in sorted(groups.values(), key=len, reverse=True)
    ]


# AutoAttack, standard: what, norm, strength, model, clean and robust accuracy
REFERENCES = (
    ("cifar10", "linf", 8 / 255, "Bartoldson 2024 (WRN-94-16)", 0.9368, 0.7371),
    ("cifar10", "linf", 8 / 255, "Standard training (WRN-28-10)", 0.9478, 0.0),
    ("cifar10", "l2", 0.5, "Wang 2023", 0.9554, 0.8497),
    ("cifar10", "l2", 0.5, "Standard training (WRN-28-10)", 0.9478, 0.0),
    ("cifar100", "linf", 8 / 255, "Wang 2023", 0.7522, 0.4266),
)


def references(dataset: str, norm: str, eps: float) -> list[dict[str, Any]]:
    """Gives published numbers of AutoAttack at this very dataset, norm and strength; empty where none apply.

    References:
        RobustBench, model_info of 2025-03-31, https://github.com/RobustBench/robustbench
    """
    return [
        {
            "model": model,
            "clean": clean,
            "robust": robust,
            "source": "RobustBench, 2025-03-31",
            "link": "https://robustbench.github.io",
        }
        for data, kind, strength, model, clean, robust in REFERENCES
        if data == dataset.lower().replace("-", "")
        and kind == norm
        and math.isclose(strength, eps, rel_tol=1e-3)
    ]

"""All that one job may measure: the study, common corruptions, a certificate, transfer to other classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from core.catalog import knob
from core.datasets import Dataset
from core.ground.stats import proportion
from core.ground.watch import UNWATCHED, Watch
from core.media import Medium
from core.norms import LINF, Budget, Norm, norm_of
from core.robustness import attacks, certify, classifiers, corruptions
from core.robustness.config import StudyConfig, names_of
from core.robustness.measure import AttackStudy
from core.target import Target
from core.tensors import Batch


class AttackConfig(StudyConfig):
    """Parameters of a job that attacks a classifier."""

    classifier: str = knob(
        "", "Id of a classifier; empty takes the dataset's own plain one.", advanced=True
    )
    corruptions: bool = knob(
        False,
        "Measures accuracy under the fifteen common corruptions in five severities as well.",
        title="Common corruptions",
    )
    certify: float = knob(
        0.0,
        "Spread of the noise of a certificate (randomized smoothing), 0 for none; use what it was trained with.",
        title="Certify with noise (sigma)",
        ge=0,
        le=2,
    )
    certified: int = knob(
        100, "Images that are certified.", ge=1, le=100_000, unit="images", log=True, advanced=True
    )
    transfer: str = knob(
        "",
        "Ids of other classifiers, with commas, that are shown the adversarial images.",
        advanced=True,
    )

    def allow(self, medium: Medium) -> None:
        """Refuses what cannot be measured on items of a medium.

        Raises:
            UserError: With what can be.
        """
        names_of(self, medium)
        Budget(norm_of(self.norm), (), medium.name)  # whatever the shape
        if self.corruptions:
            medium.require("corruptions")

    def study(self) -> StudyConfig:
        """Gives the part that is the study."""
        names = StudyConfig.knobs()
        return StudyConfig.of({k: v for k, v in self.record().items() if k in names}, "attack")


def extras(
    config: AttackConfig,
    study: AttackStudy,
    target: Target,
    dataset: Dataset,
    watch: Watch = UNWATCHED,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measures what goes beyond the study, yielding the name and the growing table of each; ends early when stopped."""
    if config.corruptions:
        for table in corruptions.accuracy(target, study.x, study.y, config.seed):
            done = sum(len(row) for row in table["accuracy"].values())
            yield (
                "corruptions",
                table | {"done": f"{done} of {5 * len(corruptions.names())}"},
            )
            if watch.stopped():
                return
    if config.certify:
        settings = certify.CertifyConfig(sigma=config.certify)
        images: list[certify.Certified] = []
        x, y = study.x[: config.certified], study.y[: config.certified]
        for image in certify.certify(target, x, y, settings, config.seed):
            images.append(replace(image, index=study.indices[image.index]))
            if len(images) % 5 == 0 or len(images) == len(x):
                yield (
                    "certified",
                    certificate(images, settings) | {"done": f"{len(images)} of {len(x)}"},
                )
            if watch.stopped():
                return
    if config.transfer:
        others = [classifiers.target_of(id.strip(), dataset) for id in config.transfer.split(",")]
        yield (
            "transfer",
            transfer([target, *others], study.x, study.y, study.grid[study.head], study.norm),
        )


def certificate(
    images: Sequence[certify.Certified], config: certify.CertifyConfig
) -> dict[str, Any]:
    """Sums up certified images as plain values: the curve, and how often the classifier abstained."""
    radii, shares = certify.curve(images)
    right = sum(image.right for image in images)
    low, high = proportion(right, len(images)).interval
    return {
        "config": config.record(),
        "n": len(images),
        "radii": radii,
        "accuracy": shares,
        "smoothed": {"value": right / max(1, len(images)), "interval": [low, high]},
        "abstained": sum(image.abstained for image in images),
        "images": [
            {"index": e.index, "said": e.said, "right": e.right, "radius": e.radius} for e in images
        ],
        "guarantee": f"The smoothed classifier, L2, each image with probability {1 - config.alpha:g}.",
    }


def transfer(
    targets: Sequence[Target],
    x: Batch,
    y: Tensor,
    eps: float,
    norm: Norm = LINF,
) -> dict[str, Any]:
    """Attacks each classifier and shows its adversarial images to all the others: which of them are fooled.

    Only images that both of a pair name rightly are counted, so that a mistake is not taken for transfer.

    Args:
        targets: The classifiers, of the same classes.
        x, y: Items (N, …) and labels (N,).
        eps, norm: Budget.

    Returns:
        ``names``, ``attacks`` (that made the images against each), ``fooled`` (from row to column; share of the
        counted images), ``n`` (counted), ``eps``, ``norm``.
    """
    made_by = ["square" if target.answers_only else "quick" for target in targets]
    right = [(target.predict(x) == y.to(target.device)).cpu() for target in targets]
    adversarial = [
        attacks.run(attack, target, x, y, eps, norm=norm).adversarial
        for attack, target in zip(made_by, targets, strict=True)
    ]
    fooled = np.zeros((len(targets), len(targets)))
    counted = np.zeros(fooled.shape, int)
    for i, moved in enumerate(adversarial):
        for j, target in enumerate(targets):
            both = right[i] & right[j]
            wrong = (target.predict(moved.to(target.device)) != y.to(target.device)).cpu()
            counted[i, j] = int(both.sum())
            fooled[i, j] = float((wrong & both).sum() / both.sum().clamp_min(1))
    return {
        "names": [target.name for target in targets],
        "attacks": made_by,
        "fooled": fooled.tolist(),
        "n": counted.tolist(),
        "eps": eps,
        "norm": norm.name,
    }

"""A radius within which no attack exists, proved: randomized smoothing.

The guarantee is of the *smoothed* classifier, which answers with the class that the base gives most often under
Gaussian noise; it holds in L2, and per image with probability ``1 - alpha``. Train the base with the same noise.

References (used throughout the code):
    [1] Cohen et al., 2019, Certified adversarial robustness via randomized smoothing, https://arxiv.org/abs/1902.02918
    [2] Clopper and Pearson, 1934, The use of confidence or fiducial limits
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core import tensors
from core.catalog import Config, knob
from core.target import Target
from core.tensors import Batch

ABSTAIN = -1
POINTS = 50  # of the curve


class CertifyConfig(Config):
    """Parameters of the certificate."""

    sigma: float = knob(
        0.25,
        "Spread of the noise, of a range of 1; the one that the classifier was trained with.",
        gt=0,
        le=2,
    )
    first: int = knob(
        100, "Draws that choose the class.", ge=1, le=100_000, unit="draws", advanced=True
    )
    draws: int = knob(1000, "Draws that prove the radius; ten times as many prove little more.", ge=10, le=1_000_000,
                      unit="draws", log=True)  # fmt: skip
    alpha: float = knob(
        0.001,
        "Probability, per image, that the certificate is wrong.",
        gt=0,
        lt=0.5,
        log=True,
        advanced=True,
    )


@dataclass(frozen=True)
class Certified:
    """What is proved of one image.

    Attributes:
        index: Of the image.
        said: The class of the smoothed classifier, or -1 where it abstains.
        right: Whether that is the label.
        radius: L2 length of change below which nothing can alter the answer; 0 where it abstains.
        share: Lower bound of the share of draws that give this class.
    """

    index: int
    said: int
    right: bool
    radius: float
    share: float

    @property
    def abstained(self) -> bool:
        """Whether it gives no answer."""
        return self.said == ABSTAIN


def certify(
    target: Target, x: Batch, y: Tensor, config: CertifyConfig, seed: int = 0
) -> Iterator[Certified]:
    """Certifies image after image; draws are batched on the device ([1], algorithm 2)."""
    for index in range(len(x)):
        image = x[index : index + 1].to(target.device)
        chosen = int(counts(target, image, config.sigma, config.first, seed, 2 * index).argmax())
        many = counts(target, image, config.sigma, config.draws, seed, 2 * index + 1)
        share = lower(int(many[chosen]), config.draws, config.alpha)
        if share <= 0.5:
            yield Certified(index, ABSTAIN, False, 0.0, share)
        else:
            radius = config.sigma * float(
                torch.special.ndtri(torch.tensor(share, dtype=torch.float64))
            )
            yield Certified(index, chosen, chosen == int(y[index]), radius, share)


def counts(
    target: Target, image: Batch, sigma: float, draws: int, seed: int, stream: int
) -> Tensor:
    """Counts how often each class is named under noise, (K,); the noise is not clipped, as in the proof."""
    total = torch.zeros(len(target.classes), dtype=torch.long, device=target.device)
    for ids in torch.arange(draws).split(target.batch):
        noise = tensors.noise(
            seed, ids, image.shape[1:], f"smoothing {stream}", device=target.device
        )
        said = target.predict(image + sigma * noise)
        total += torch.bincount(said[said >= 0], minlength=len(total))
    return total


def lower(successes: int, n: int, alpha: float) -> float:
    """Gives the one-sided lower bound of a share with confidence ``1 - alpha`` [2]."""
    from scipy.stats import beta

    return 0.0 if successes == 0 else float(beta.ppf(alpha, successes, n - successes + 1))


def curve(certified: Sequence[Certified]) -> tuple[list[float], list[float]]:
    """Gives radii and the share of images that are rightly named with at least that radius."""
    top = max([image.radius for image in certified], default=0.0) * 1.05 or 1.0
    radii = [top * k / (POINTS - 1) for k in range(POINTS)]
    shares = [
        sum(image.right and image.radius >= radius for image in certified) / max(1, len(certified))
        for radius in radii
    ]
    return radii, shares

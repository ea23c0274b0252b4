"""How probable a latent is: the draws of a model, described by normal distributions."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.latent.space import Space, remember

NORMALS = 12  # of a mixture
LARGEST = 256  # numbers of a latent up to which their covariances are estimated


@dataclass(frozen=True, eq=False)
class Density:
    """The density of latents (N, D), up to a constant: a mixture of K normals, and the one normal around all of them.

    Attributes:
        mean: Of all draws, (D,).
        scale: Lower triangular (D, D), or (D,) where the numbers are taken as independent; the square root of
            the covariance.
        weights: Logarithms of the shares of the normals, (K,); a single normal is that of all draws.
        means: Their means, (K, D).
        whitening: Their precisions' Cholesky factors, (K, D, D).
    """

    mean: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    weights: Tensor | None = field(default=None, repr=False)
    means: Tensor | None = field(default=None, repr=False)
    whitening: Tensor | None = field(default=None, repr=False)

    def white(self, z: Tensor) -> Tensor:
        """Turns latents into numbers that have mean 0 and covariance 1 among all draws."""
        off = z - self.mean
        if self.scale.ndim == 1:
            return off / self.scale
        return torch.linalg.solve_triangular(self.scale, off.T, upper=False).T

    def latent(self, white: Tensor) -> Tensor:
        """Turns such numbers back into latents."""
        return self.mean + (white * self.scale if self.scale.ndim == 1 else white @ self.scale.T)

    def log(self, z: Tensor) -> Tensor:
        """Gives the logarithm of the density up to a constant, (N,); differentiable."""
        if self.weights is None or self.means is None or self.whitening is None:
            return -self.white(z).square().sum(1) / 2
        off = torch.einsum("nkd,kde->nke", z[:, None] - self.means, self.whitening)
        volume = torch.diagonal(self.whitening, dim1=1, dim2=2).log().sum(1)  # (K,)
        return torch.logsumexp(self.weights + volume - off.square().sum(2) / 2, 1)


def density(space: Space) -> Density:
    """Describes the draws of a model, once: by one normal where they vary alike in all directions, else by several."""
    return remember(space, "density", lambda: _fitted(space))


def _fitted(space: Space) -> Density:
    z = space.studied()[:, : space.latent].float()
    mean, spread = z.mean(0), z.std(0)
    if float(spread.max()) < 1e-6:  # a truncation of 0 leaves a single latent
        return Density(mean, torch.ones_like(mean))
    if space.even:
        return Density(mean, spread.mean().expand_as(spread).clone())
    if space.latent > LARGEST:
        return Density(mean, spread.clamp_min(1e-3 * float(spread.max())))
    covariance = torch.cov(z.T.double())
    ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
    scale = torch.linalg.cholesky(covariance + ridge).to(z)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    count = max(1, min(NORMALS, len(z) // (4 * space.latent)))
    mixture = GaussianMixture(
        count, reg_covar=1e-3 * float(spread.square().mean()), max_iter=30, tol=1e-2, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds describe them well enough
        mixture.fit(z.double().cpu().numpy())
    parts = (mixture.weights_, mixture.means_, mixture.precisions_cholesky_)
    weights, means, whitening = (torch.as_tensor(part).to(z) for part in parts)
    return Density(mean, scale, weights.clamp_min(math.exp(-50)).log(), means, whitening)

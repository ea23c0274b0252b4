"""An optimiser for matrices: their momentum, made orthogonal, so that every direction of a layer learns.

References:
    [1] Jordan et al., 2024, Muon: an optimizer for hidden layers in neural networks, https://kellerjordan.github.io/posts/muon/
    [2] Liu et al., 2025, Muon is scalable for LLM training, https://arxiv.org/abs/2502.16982
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of [1]: steep at 0, so that few rounds bring 0.001 … 1 near 1
MOMENTUM = 0.95
STEP = 0.4  # root mean square of a step over its learning rate: about what Adam's is


def orthogonal(x: Tensor) -> Tensor:
    """Brings the singular values of matrices near 1, between 0.7 and 1.2; their singular vectors stay.

    Every round multiplies by a polynomial of the small Gram matrix, so that the long side is met only twice.

    Args:
        x: Matrices of one shape, (N, rows, columns).
    """
    wide = x if x.shape[1] <= x.shape[2] else x.mT  # (N, m, n), m ≤ n
    gram = wide @ wide.mT  # (N, m, m)
    # at least the largest singular value, and at most the fourth root of m times it
    square = gram.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-20)
    gram = gram / square
    a, b, c = QUINTIC
    eye = torch.eye(gram.shape[1], device=x.device, dtype=gram.dtype)
    factor: Tensor | None = None
    for left in range(ROUNDS, 0, -1):
        bend = torch.baddbmm(
            a * eye + b * gram, gram, gram, alpha=c
        )  # commutes with the Gram matrix
        factor = bend if factor is None else bend @ factor
        if left > 1:
            gram = bend @ gram @ bend
    assert factor is not None
    wide = factor @ (wide / square.sqrt())
    return wide if x.shape[1] <= x.shape[2] else wide.mT


class Muon(torch.optim.Optimizer):
    """Steps matrices along their orthogonalised momentum [1], and all other parameters as AdamW does.

    A step of a matrix is scaled to the length that Adam's would have [2], so that one learning rate serves both.

    Args:
        params: All parameters.
        matrices: Those of them, (outputs, inputs), that are orthogonalised.
        lr: Learning rate.
        betas: Moments of Adam.
        weight_decay: Decoupled.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        matrices: Sequence[Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float = 0.0,
    ) -> None:
        params, own = list(params), {id(matrix) for matrix in matrices}
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        groups = [
            {"params": [param for param in params if (id(param) in own) == turned], "muon": turned}
            for turned in (True, False)
        ]
        super().__init__([group for group in groups if group["params"]], options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes a step; parameters without a gradient stay."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore
            if group["muon"]:
                self._turn(params, group["lr"])
            else:
                self._adam(params, group["lr"], group["betas"])

    def _turn(self, params: list[Parameter], lr: float) -> None:
        moments = self._state(params, "momentum")
        grads = [param.grad for param in params]
        torch._foreach_lerp_(moments, grads, 1 - MOMENTUM)  # pyright: ignore
        ahead = torch._foreach_lerp(grads, moments, MOMENTUM)  # pyright: ignore
        shapes = [tuple(param.shape) for param in params]
        order = sorted(range(len(params)), key=shapes.__getitem__)
        for (rows, columns), same in groupby(order, key=shapes.__getitem__):
            places = list(same)
            turned = orthogonal(torch.stack([ahead[i] for i in places]))
            scale = -lr * STEP * math.sqrt(max(rows, columns))
            torch._foreach_add_([params[i] for i in places], list(turned.unbind()), alpha=scale)  # pyright: ignore

    def _adam(self, params: list[Parameter], lr: float, betas: tuple[float, float]) -> None:
        first, second = self._state(params, "first"), self._state(params, "second")
        for param in params:
            self.state[param].setdefault("step", torch.zeros(())).add_(1)
        grads = [param.grad for param in params]
        torch._foreach_lerp_(first, grads, 1 - betas[0])  # pyright: ignore
        torch._foreach_mul_(second, betas[1])  # pyright: ignore
        torch._foreach_addcmul_(second, grads, grads, 1 - betas[1])  # pyright: ignore
        for param, mean, square in zip(params, first, second, strict=True):
            step = float(self.state[param]["step"])
            over = (square / (1 - betas[1] ** step)).sqrt_().add_(1e-8)
            param.addcdiv_(mean, over, value=-lr / (1 - betas[0] ** step))

    def _state(self, params: list[Parameter], name: str) -> list[Tensor]:
        for param in params:
            self.state[param].setdefault(name, torch.zeros_like(param))
        return [self.state[param][name] for param in params]

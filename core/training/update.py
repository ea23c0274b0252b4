"""How a step comes by its gradient.

This is the one seam where a gradient may be something else than that of the loss: averaged over the processes that
share a batch, clipped per image and made private by noise, or exchanged between sites.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from core.tensors import Group, Loss, all_mean


@runtime_checkable
class Update(Protocol):
    """Gives what a group of parameters follows in a step."""

    def __call__(self, loss: Loss, group: Group) -> tuple[Tensor, list[Tensor | None]]:
        """Differentiates a loss; what it gives is the same in every process, and nothing else changes.

        Args:
            loss: Of the group; its graph is used up.
            group: The parameters that alone are differentiated.

        Returns:
            The loss that is watched and recorded, without gradient; and for each parameter its gradient, of the
            parameter's shape, or None for one that has no part in the loss.
        """
        ...


def plain(loss: Loss, group: Group) -> tuple[Tensor, list[Tensor | None]]:
    """Gives the loss and its own gradient."""
    grads = torch.autograd.grad(loss.value, group.params, allow_unused=True)
    return loss.value.detach(), list(grads)


def averaged(loss: Loss, group: Group) -> tuple[Tensor, list[Tensor | None]]:
    """Averages the loss and its gradient over the processes, all in one exchange."""
    value, grads = plain(loss, group)  # nan in one process is nan in all
    tensors = [value, *(grad for grad in grads if grad is not None)]
    joint = all_mean(torch.cat([tensor.reshape(-1) for tensor in tensors]))
    parts = iter(joint.split([tensor.numel() for tensor in tensors]))
    return next(parts).view(value.shape), [
        None if grad is None else next(parts).view(grad.shape) for grad in grads
    ]

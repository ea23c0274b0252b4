"""A VAE is trained on against the attack on its encoder.

References (used throughout the code):
    [1] Camuto et al., 2021, Towards a theoretical understanding of the robustness of VAEs, https://arxiv.org/abs/2007.07365
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from core.ascent import climb
from core.catalog import Config, knob
from core.datasets import Dataset
from core.media import Medium, media
from core.models import Batches, Fits, Spreads, Trainable
from core.norms import LINF
from core.robustness.tricks import Shown, TrickConfig, images_of, pushed, row, strip, tricks
from core.runs import Opened
from core.target import Target
from core.tensors import Group, Images, Loss


class HardenConfig(TrickConfig):
    """Parameters of training a VAE against the attack on its encoder."""

    images: int = knob(
        20_000,
        "How long to train on.",
        ge=100,
        le=100_000_000,
        unit="images",
        log=True,
        visitor=20_000,
    )
    weight: float = knob(
        10.0, "Weight of the constancy of the code under attack.", ge=0, le=10_000, log=True
    )


class Steadied(nn.Module):
    """A VAE that is trained to keep its code under attack; what the trainer needs, the VAE gives [1]."""

    def __init__(self, model: Any, eps: float, weight: float, sampling: Config) -> None:
        super().__init__()
        self.model, self.eps, self.weight, self.sampling = model, eps, weight, sampling
        self.medium = media.get(model.spec.medium)
        self.batch = model.batch if isinstance(model, Batches) else 128

    def groups(self) -> list[Group]:
        """Gives the VAE's parameters."""
        return self.model.groups()

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the VAE's loss, and the square shift of its code under the attack that it meets."""
        label = y if self.model.classes else None
        code = self.model.encode(x, label, self.sampling)
        with torch.no_grad():
            fixed = code.detach()
        items, seen = self.medium.from_model(x), self.medium.to_model
        u = torch.rand(items.shape, generator=generator, device=x.device)
        moved = climb(
            lambda m: (self.model.encode(seen(m), label, self.sampling) - fixed).square().sum(1),
            items, items + self.eps * (2 * u - 1), self.eps, 3,
        )  # fmt: skip
        shift = (self.model.encode(seen(moved), label, self.sampling) - code).square().sum(1).mean()
        for loss in self.model.losses(x, y, generator, 1.0):
            yield Loss(
                loss.group,
                loss.value + self.weight * shift,
                {**loss.parts, "shift": shift.detach()},
            )

    def fit(self, x: Images, y: Tensor | None) -> None:
        """Fits what the VAE fits."""
        if isinstance(self.model, Fits):
            self.model.fit(x, y)


@tricks.add(
    "harden",
    "Train the VAE against it",
    HardenConfig,
    fits=lambda opened: isinstance(opened.model, Spreads) and isinstance(opened.model, Trainable),
)
def harden(
    config: HardenConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Trains the VAE on with the attack on its encoder; damage and clean quality, before and after."""
    from core.training import TrainConfig, Trainer

    eps = tricks.get("harden").strength(dataset, config.eps)
    x, y = images_of(opened, dataset, config.n)
    sampling = opened.usual
    before = _damage(opened.model, dataset.medium, x, y, eps, config, sampling)
    own = copy.deepcopy(opened.model).train().requires_grad_(True)
    net = Steadied(own, eps, config.weight, sampling)
    device = next(opened.model.parameters()).device
    train = TrainConfig(images=config.images, seed=config.seed)
    for progress in Trainer(net, dataset, train, device):
        if progress.step == progress.steps:
            break
        yield Shown("Training against the attack.", done=0.95 * progress.images / progress.total)
    model = net.model.eval().requires_grad_(False)
    after = _damage(model, dataset.medium, x, y, eps, config, sampling)
    yield Shown(
        f"The attack of {LINF.text(eps)} damaged reconstructions by {before['damage']:.4f} before and "
        f"{after['damage']:.4f} after; the error of untouched images went from {before['clean']:.4f} "
        f"to {after['clean']:.4f}.",
        [
            row("Damage before", f"{before['damage']:.4f}", "mean square change of the reconstruction", len(x)),
            row("Damage after", f"{after['damage']:.4f}", "the same after the training", len(x)),
            row("Clean error before", f"{before['clean']:.4f}", "mean square error of untouched images", len(x)),
            row("Clean error after", f"{after['clean']:.4f}", "the same after the training", len(x)),
        ],
        [
            strip("Images", x),
            strip("Reconstructed under attack, before", before["shown"]),
            strip("Reconstructed under attack, after", after["shown"]),
        ],
        None,
        1.0,
    )  # fmt: skip


def _damage(
    model: Any,
    medium: Medium,
    x: Images,
    y: Tensor,
    eps: float,
    config: TrickConfig,
    sampling: Config,
) -> dict[str, Any]:
    label = y if model.classes else None

    def reconstruct(images: Tensor) -> Tensor:
        z = model.encode(medium.to_model(images), label, sampling)
        return medium.from_model(model.decode(z, label, sampling))

    with torch.no_grad():
        back = reconstruct(x)
    moved = pushed(
        lambda m: (reconstruct(m) - back).square().flatten(1).sum(1),
        x,
        eps,
        config.steps,
        config.seed,
    )
    with torch.no_grad():
        shown = reconstruct(moved)
    return {
        "damage": float((shown - back).square().mean()),
        "clean": float((back - x).square().mean()),
        "shown": shown,
    }

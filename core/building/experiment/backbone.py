"""A brought network as the referee: its features under a new last layer, or all of it trained further."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from core.building.experiment.referees import Bench, Pupil
from core.catalog import UserError
from core.datasets import Dataset

if TYPE_CHECKING:
    from torch import Tensor, nn

PROBE_LR, TUNE_LR = 1e-2, 1e-3  # of AdamW


def check(dataset: Dataset, config: Any) -> None:
    """Refuses an experiment whose network was not named or does not take the images of the dataset.

    Raises:
        UserError: With what is missing.
    """
    _layers(dataset, config)


def _layers(dataset: Dataset, config: Any) -> tuple[nn.Module, str]:
    """Opens a copy of the network, and finds the name of its last layer."""
    from torch import nn

    from core import brought

    if not config.backbone:
        raise UserError(
            f"experiment.referee={config.referee} needs a network that was brought, and experiment.backbone is empty. "
            "Bring one on Robustness or with the command bring, and give its name; or choose experiment.referee=small."
        )
    opened = brought.open_model(config.backbone, dataset)
    if opened.spec.shape != dataset.seen:
        raise UserError(
            f"{config.backbone} takes items of {opened.spec.shape}, and those of {dataset.name} are {dataset.seen}. "
            "Choose another experiment.backbone."
        )
    names = [n for n, part in opened.model.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        raise UserError(
            f"{config.backbone} has no linear layer at its end, which a new one could replace. "
            "Choose another experiment.backbone, or experiment.referee=small."
        )
    return copy.deepcopy(opened.model), names[-1]


def taught(
    bench: Bench, data: Dataset, pair: int, transform: Any, order: int, frozen: bool
) -> Pupil:
    """Trains a network that was brought for as many steps as all arms have.

    Its batch statistics stay those that it came with: a few images would spoil them.

    Args:
        bench, data, pair, transform, order: See :class:`core.building.experiment.referees.Referee`.
        frozen: Whether only the new last layer learns.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    config = bench.config
    whole, name = _layers(bench.dataset, config)
    old = whole.get_submodule(name)
    assert isinstance(old, nn.Linear)
    last = nn.Linear(old.in_features, len(data.classes))
    start = torch.Generator().manual_seed(bench.seed(pair))  # first weights: those of the pair
    with torch.no_grad():
        last.weight.copy_(torch.randn(last.weight.shape, generator=start) * 0.01)
        assert last.bias is not None
        last.bias.zero_()
    whole.set_submodule(name, nn.Identity())
    whole.eval().requires_grad_(not frozen)
    mean, spread = torch.zeros(1), torch.ones(1)
    known = None
    if frozen:
        with torch.no_grad():
            known = torch.cat([whole(x) for x in data.batches(np.arange(len(data)))])
        mean, spread = known.mean(0), known.std(0).clamp_min(1e-3)

    def logits(x: Tensor) -> Tensor:
        return last((whole(x) - mean) / spread)

    learned = [*last.parameters(), *(() if frozen else whole.parameters())]
    optimiser = torch.optim.AdamW(learned, PROBE_LR if frozen else TUNE_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    generator = torch.Generator().manual_seed(bench.seed(pair, order))
    items = data.items(slice(None))
    y = torch.as_tensor(data.y)
    for _ in range(config.steps):
        index = torch.randint(len(data), (config.batch,), generator=generator)
        if known is not None and transform is None:  # features of unchanged images stay the same
            answer = last((known[index] - mean) / spread)
        else:
            x = items[index] if transform is None else transform(items[index], generator)
            answer = logits(data.medium.to_model(x))
        loss = F.cross_entropy(answer, y[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    whole.requires_grad_(False)
    last.requires_grad_(False)
    return Pupil(lambda x: logits(x).argmax(1), logits)

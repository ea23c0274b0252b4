"""Training further from what another run has learned: which weights move, and what becomes of its classes.

A low-rank change (LoRA) is a parametrisation of a weight, so that the network itself, its groups and its losses never
know of it; it is added to the weight before the network is published, and a checkpoint opens as any other.

References (used throughout the code):
    [1] Hu et al., 2021, LoRA: Low-rank adaptation of large language models, https://arxiv.org/abs/2106.09685
    [2] Mo et al., 2020, Freeze the discriminator: a simple baseline for fine-tuning GANs,
        https://arxiv.org/abs/2002.10964 (the layers nearest to the output alone)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from core.catalog import Config, UserError, knob
from core.models import LAYERS, GenerativeModel, Orders, Renders, Traces
from core.nets import LabelEmbedding
from core.tensors import noise

RATES = {"all": 0.25, "last": 0.5, "lora": 3.0, "embeddings": 10.0}  # of the rate from scratch
LAST = 3  # one of so many layers is among the last


class FineTuneConfig(Config):
    """What is learned anew of a run that a training starts from (``train.parent``)."""

    layers: Literal["all", "last", "lora", "embeddings"] = knob(
        "all",
        "What moves: all weights; the last third of the layers; a low-rank change of every layer (LoRA); or the "
        "class embeddings alone. Fewer weights learn less, and copy less. Class embeddings are learned with each.",
        title="Layers that learn",
        advanced=True,
    )
    rank: int = knob(
        8,
        "Rank of the low-rank changes: more can learn more. Only for lora.",
        ge=1,
        le=1024,
        log=True,
        advanced=True,
    )
    alpha: float = knob(
        8.0,
        "Weight of the low-rank changes, which is divided by their rank. Only for lora.",
        gt=0,
        le=4096,
        log=True,
        advanced=True,
    )
    rate: float = knob(
        0.0,
        "Share of the learning rate from scratch; 0 takes what suits the layers. train.lr, if set, stands above it.",
        title="Learning rate, as a share",
        ge=0,
        le=10,
        log=True,
        advanced=True,
    )

    @property
    def share(self) -> float:
        """The share of the learning rate from scratch that is taken."""
        return self.rate or RATES[self.layers]


class LowRank(nn.Module):
    """Adds a product of two thin matrices to a weight, which starts at nothing ([1], section 4.1).

    Args:
        weight: Of a linear layer or a convolution, (rows, …); all but its rows count as columns.
        rank, alpha: The change is ``alpha / rank * B A``, with a rank of at most what the weight can have.
        seed, number: Of the training and of the layer; A is drawn by them.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, seed: int, number: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = alpha / rank
        (start,) = noise(seed, [number], (rank, columns), "low-rank")
        self.a = nn.Parameter(start / math.sqrt(columns))
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.b @ self.a).view_as(
            weight
        )  # (rows, columns) -> (rows, …)


# --- which weights move ---------------------------------------------------------------------------------------------


def ways(model: GenerativeModel) -> list[str]:
    """Lists what can be learned anew of a network: those of the layers of a :class:`FineTuneConfig` that it has."""
    assert isinstance(model, nn.Module)
    groups = [{id(param) for param in group.params} for group in model.groups()]
    low, tables, units = _low(model), _tables(model), _units(model)

    def each(modules: Sequence[nn.Module], least: int = 1) -> bool:
        """Tells whether every group has some of them, as a group without any could not learn."""
        owned = [{id(param) for param in module.parameters(False)} for module in modules]
        return all(sum(bool(own & group) for own in owned) >= least for group in groups)

    able = {
        "all": True,
        "last": each(units, LAST),
        "lora": each(low),
        "embeddings": each(list(tables.values())),
    }
    return [name for name, can in able.items() if can]


def able(model: GenerativeModel, config: FineTuneConfig) -> None:
    """Asks whether a network has the layers that are to learn.

    Raises:
        UserError: If not.
    """
    if config.layers not in (has := ways(model)):
        raise UserError(
            f"further.layers={config.layers} stands for {LAYERS[config.layers]}, and not every part of this network "
            f"has them. Choose from: {', '.join(has)}."
        )


def choose(model: GenerativeModel, config: FineTuneConfig, usual: Config, seed: int) -> None:
    """Lets only the chosen layers of a network learn, in place.

    Args:
        model: The network, with the weights that it starts from, on the processor.
        config: What is to be learned.
        usual: How it draws samples.
        seed: Of the training.

    Raises:
        UserError: If the network has no such layers.
    """
    assert isinstance(model, nn.Module)
    able(model, config)
    if config.layers == "all":
        return
    chosen: list[nn.Parameter] = []
    if config.layers == "last":
        order = _order(model, usual)
        for group in model.groups():
            owned = {id(param) for param in group.params}
            mine = [unit for unit in order if owned & {id(p) for p in unit.parameters(False)}]
            for unit in mine[-math.ceil(len(mine) / LAST) :]:
                chosen += unit.parameters(False)
    model.requires_grad_(False)
    if config.layers == "lora":
        for number, module in enumerate(_low(model)):
            change = LowRank(module.weight, config.rank, config.alpha, seed, number)  # type: ignore[arg-type]
            parametrize.register_parametrization(module, "weight", change)
    for param in [
        *chosen,
        *(param for table in _tables(model).values() for param in table.parameters()),
    ]:
        param.requires_grad_(True)


@torch.no_grad()
def merged(model: nn.Module) -> nn.Module:
    """Adds the low-rank changes of a network to its weights, in place, so that it is as it was built."""
    for module in [part for part in model.modules() if parametrize.is_parametrized(part)]:
        weight: Tensor = module.weight.detach()  # type: ignore[assignment]
        # not by remove_parametrizations: a copy shares its class with what was copied, which would lose its weight
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        rest = dict(module._parameters)
        module._parameters.clear()
        module._parameters.update({"weight": nn.Parameter(weight, requires_grad=False)} | rest)
    return model


def _tables(model: nn.Module) -> dict[str, LabelEmbedding]:
    """Finds what holds a row for each class."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LabelEmbedding)}


def _units(model: nn.Module) -> list[nn.Module]:
    """Lists the modules below the network that hold weights themselves: its layers."""
    return [
        part
        for part in model.modules()
        if part is not model and any(True for _ in part.parameters(False))
    ]


def _low(model: nn.Module) -> list[nn.Module]:
    """Lists the layers whose weight is a matrix, or one of each pixel."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d
    return [part for part in model.modules() if isinstance(part, kinds)]


def _order(model: nn.Module, usual: Config) -> list[nn.Module]:
    """Lists the layers in the order in which they last began to compute, from the input of the network to its output.

    It is watched at work, so that nobody has to say it of a network: in a step of training, and then while it draws a
    sample (but for a path of many passes, each of which is as in training).
    """
    twin = copy.deepcopy(model).train()
    names = {unit: name for name, unit in twin.named_modules()}
    began: dict[str, int] = {}
    clock = iter(range(10**9))

    def note(unit: nn.Module, given: Any) -> None:
        began[names[unit]] = next(clock)

    for unit in _units(twin):
        unit.register_forward_pre_hook(note)
    generator = torch.Generator().manual_seed(0)
    channels, *rest = twin.spec.shape  # type: ignore[union-attr]
    channels += twin.told if isinstance(twin, Renders) else 0
    x = torch.rand((4, channels, *rest), generator=generator)  # type: ignore[call-overload]
    y = torch.arange(4) % twin.classes if twin.classes else None  # type: ignore[operator]
    with torch.random.fork_rng(devices=[]):
        for start in sorted({group.start for group in twin.groups()}):  # type: ignore[operator]
            for _ in twin.losses(x, y, generator, start):  # type: ignore[operator]
                pass
        if not isinstance(
            twin, Traces | Renders
        ):  # the latter draws from pictures that it has kept
            twin.eval().sample(range(2), None, 0, usual)  # type: ignore[operator]
    parts = dict(model.named_modules())
    return [parts[name] for name in sorted(began, key=began.__getitem__)]


# --- what it starts from --------------------------------------------------------------------------------------------


def inherited(
    model: nn.Module, parent: nn.Module, old: Sequence[str], new: Sequence[str]
) -> dict[str, Tensor]:
    """Gives the weights of another network of the same kind, on the processor; rows of classes follow their names.

    A class that the other one did not know begins as the mean of those that it knew, and with nothing where it listened
    to none.

    Args:
        model: The network that is to get them.
        parent: The one that has learned.
        old, new: Names of the classes that the parent listens to, and that the network will.

    Raises:
        UserError: If they do not fit.
    """
    weights = {name: value.cpu() for name, value in parent.state_dict().items()}
    tables, theirs = _tables(model), _tables(parent)
    for name in theirs.keys() - tables.keys():
        del weights[f"{name}.weight"]
    before = dict(zip(old, _order_of(parent, old), strict=True))
    after = dict(zip(new, _order_of(model, new), strict=True))
    for name, table in tables.items():
        rows = weights.get(f"{name}.weight", torch.zeros(0, table.weight.shape[1]))
        weights[f"{name}.weight"] = _rows(rows, len(table.weight), before, after)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    wrong = [name for name in wanted if name not in weights or weights[name].shape != wanted[name]]
    for name in [*wrong, *(name for name in weights if name not in wanted)]:
        has, needs = (
            "none" if each is None else " × ".join(map(str, each)) or "a number"
            for each in (
                weights[name].shape if name in weights else None,
                wanted.get(name),
            )
        )
        remedy = "Give the family the settings of the parent, or leave train.parent out."
        if bool(tables) != bool(theirs):
            remedy = (
                f"The parent listens to {len(old) or 'no'} classes and this network to {len(new) if tables else 'no'}: "
                "choose images that have labels where the parent's had them, and none where they had none."
            )
        raise UserError(
            f"The weights of the parent do not fit this network: of {name} it has {has}, and {needs} is needed. "
            f"{remedy}"
        )
    return weights


def _order_of(model: nn.Module, classes: Sequence[str]) -> Sequence[int]:
    """Gives the row of each class: their order, but for a network that numbers them in its own way."""
    return model.order if isinstance(model, Orders) else range(len(classes))


def _rows(rows: Tensor, count: int, old: Mapping[str, int], new: Mapping[str, int]) -> Tensor:
    """Makes the rows of new classes, (count, D), of those that were known.

    Args:
        rows: Of the parent, (K, D).
        count: How many there are to be.
        old, new: Row of each class, by name, before and afterwards.
    """
    mean = rows[list(old.values())].mean(0) if len(rows) else torch.zeros(rows.shape[1])
    made = mean.expand(count, -1).clone()
    for place in set(range(min(count, len(rows)))) - set(new.values()):
        made[place] = rows[place]  # no class of the new set, such as that of any image
    for label in old.keys() & new.keys() if len(rows) else ():
        made[new[label]] = rows[old[label]]
    return made


def lineage(old: Sequence[str], new: Sequence[str]) -> Mapping[str, list[str]]:
    """Says which classes a training takes over by their name, and which are new to the network."""
    return {
        "kept": [name for name in new if name in old],
        "new": [name for name in new if name not in old],
    }

"""A second medium, to prove that one file is enough: short signals, of which a model sees companded vectors.

The dataset beside it holds slow and fast waves; a speaker's waves are never divided among the splits.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.augment.catalogue import Configured, Draws, Params, augmentations
from core.catalog import Config, knob
from core.datasets import Dataset, assemble, datasets, digests, split_by_content
from core.datasets.dataset import together
from core.ground import tables
from core.ground.watch import UNWATCHED, Watch
from core.media import media
from core.norms import wide

LENGTH = 16
HEIGHT = 12  # of a picture
MU = 15.0  # of the mu-law


def _companded(x: Tensor) -> Tensor:
    centred = 2 * x.flatten(1) - 1
    loud = torch.log1p(MU * centred.abs()) / math.log1p(MU)
    return (centred.sign() * loud + 1) / 2


def _expanded(x: Tensor) -> Tensor:
    centred = 2 * x.clamp(0, 1) - 1
    loud = torch.expm1(centred.abs() * math.log1p(MU)) / MU
    return ((centred.sign() * loud + 1) / 2)[:, None]


def _alone(x: np.ndarray, levels: int) -> bytes:
    return tables.write(("value",), [(int(value),) for value in x[0]]).encode()


def _body(shape: tuple[int, ...], width: int, features: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(shape[0], 4 * width), nn.ReLU(), nn.Linear(4 * width, features), nn.ReLU()
    )


@media.add(
    "signal",
    "Signals",
    item="sequence",
    model="vector",
    shape="(N, 1, L)",
    fits=lambda shape: len(shape) == 2 and shape[0] == 1,
    describe=lambda count, shape: f"{count} signals of {shape[-1]} values",
    files=lambda x, levels: [_alone(item, levels) for item in x],
    suffix=".csv",
    mime="text/csv",
    body=_body,
    usual=lambda shape: 0.05,
    norms=("linf", "l2"),
    to_model=_companded,
    from_model=_expanded,
)
def signal(x: np.ndarray, levels: int) -> np.ndarray:
    """Draws signals as dark lines on white."""
    row = (HEIGHT - 1) - x.astype(int) * (HEIGHT - 1) // (levels - 1)  # (N, 1, L)
    line = row[:, :, None] == np.arange(HEIGHT)[:, None]  # (N, 1, H, L)
    return np.where(line, 0, 255).astype(np.uint8)


class GainConfig(Config):
    """How much louder, or softer."""

    amount: float = knob(0.2, "Largest change of the loudness; 0 changes nothing.", ge=0, le=0.9)


@augmentations.add(
    "gain", "Gain", GainConfig, group="Loudness", takes=("sequence",), strength="amount",
    smooth=True, units={"gain": " times"}, absent="is of signals",
)  # fmt: skip
class Gain(Configured[GainConfig]):
    """Makes a signal louder or softer."""

    def draw(self, draws: Draws) -> Params:
        amount = self.config.amount
        return {"gain": draws.uniform("gain", low=1 - amount, high=1 + amount)}

    def apply(self, x: Tensor, params: Params) -> Tensor:
        return (0.5 + (x - 0.5) * wide(params["gain"], x)).clamp(0, 1)


def _own(data: bytes | np.ndarray, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    assert isinstance(data, bytes)  # nobody draws one by hand
    values = [int(line) for line in data.decode().split()[1:]]
    return np.array([values[:LENGTH]], np.uint8), [f"{len(values)} values were read."]


@datasets.add(
    "waves",
    "Waves",
    Config,
    medium="signal",
    weighs=lambda config: 600 * LENGTH,
    own=_own,
    suffixes=("csv",),
)
def waves(config: Config, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Slow and fast waves of 60 speakers, each with a loudness of its own."""
    rng = np.random.default_rng(0)
    y, speaker = np.arange(600) % 2, np.arange(600) % 60
    turns = np.where(y == 0, 1.0, 3.0)[:, None] * np.arange(LENGTH) / LENGTH
    loud = 0.3 + 0.2 * speaker[:, None] / 60
    x = 0.5 + loud * np.sin(2 * np.pi * (turns + 0.1 * rng.random((600, 1))))
    x = (x * 255).round().astype(np.uint8)[:, None]  # (N, 1, L)
    keys = together(digests(x), speaker)
    splits = split_by_content(keys, y, valid_share=0.3, test_share=0.2)
    return assemble(
        x,
        y,
        ("slow", "fast"),
        splits,
        medium="signal",
        attributes={"speaker": speaker},
        terms={"licence": "Apache-2.0", "consent": "not needed"},
    )


SECOND = [
    (registry, registry._entries.pop(name))  # type: ignore[attr-defined]
    for registry, name in ((media, "signal"), (datasets, "waves"), (augmentations, "gain"))
]  # which are known to those who ask for them alone, so that no other test meets them


def second(patch: pytest.MonkeyPatch) -> None:
    """Makes the medium and the dataset known until the patch is undone."""
    for registry, entry in SECOND:
        patch.setitem(registry._entries, entry.name, entry)  # type: ignore[attr-defined]

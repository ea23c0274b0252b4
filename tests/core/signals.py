"""A second medium, to prove that one file is enough: short signals, of which a model sees companded vectors.

The dataset beside it holds slow and fast waves; a speaker's waves are never divided among the splits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.catalog import Config
from core.datasets import Dataset, assemble, datasets, digests, split_by_content
from core.datasets.dataset import together
from core.ground import tables
from core.ground.watch import UNWATCHED, Watch
from core.media import media

LENGTH = 16
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
    told=lambda count, shape: f"{count} signals of {shape[-1]} values",
    alone=_alone,
    suffix=".csv",
    mime="text/csv",
    body=_body,
    usual=lambda shape: 0.05,
    norms=("linf", "l2"),
    to_model=_companded,
    from_model=_expanded,
)
def signal(
    x: np.ndarray, columns: int, facts: Mapping[str, Any] | None = None, **layout: int
) -> bytes:
    """Shows signals as a table, one in each row."""
    return tables.write(tuple(map(str, range(x.shape[-1]))), x[:, 0].tolist()).encode()


@datasets.add("waves", "Waves", Config, medium="signal", weighs=lambda config: 600 * LENGTH)
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

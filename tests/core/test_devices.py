"""Which device does what, and a device without float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from core import tensors
from core.catalog import UserError
from core.models import families
from core.training import TrainConfig, Trainer, spec_of


def test_the_gpu_of_apple_trains_and_does_nothing_else(setting, monkeypatch):
    setting(device="mps")
    with pytest.raises(UserError) as refused:
        tensors.device()
    assert str(refused.value).startswith(
        "SIMULACRA_DEVICE is mps, and PyTorch finds no such device on this computer. It finds cpu"
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert tensors.device(training=True) == torch.device("mps")
    assert tensors.device() == torch.device("cpu")
    assert "has not been tried" in tensors.caveat(torch.device("mps"))
    setting(device="auto")
    assert tensors.device(training=True).type in ("cpu", "cuda")  # never by itself
    assert tensors.caveat(torch.device("cpu")) == tensors.caveat(torch.device("cuda")) == ""


def test_a_device_that_is_not_there_is_a_sentence(setting, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    setting(device="cuda")
    with pytest.raises(
        UserError, match="SIMULACRA_DEVICE is cuda, and PyTorch finds no such device"
    ):
        tensors.device(training=True)


class Doubles(TorchFunctionMode):
    """Notes who makes float64 on the device of the training: all but what was fetched from it or made beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.apart: set[int] = set()  # addresses of tensors that are not on the device
        self.kept: list[Tensor] = []  # so that no address is used twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each for each in args if isinstance(each, Tensor)]
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if not isinstance(out, Tensor) or name in ("__get__", "__set__"):
            return out
        if name == "cpu":
            out = out.clone()
        beside = name in ("cpu", "as_tensor", "from_numpy") or any(
            id(g) in self.apart for g in given
        )
        if beside and name != "copy_":
            self.apart.add(id(out))
            self.kept.append(out)
        elif torch.float64 in {out.dtype, *(g.dtype for g in given)}:
            self.found.append(name)
        return out


@pytest.mark.parametrize("family", [e.name for e in families if "picture" in e.takes])
def test_no_family_needs_float64_where_it_trains(toy, family):
    dataset = toy(60, size=8)
    entry = families.get(family)
    small = {"width": 8} if "width" in entry.config.knobs() else {}
    model = entry.make(entry.config.of(small, "family"), spec_of(dataset))
    watch = Doubles()
    trainer = Trainer(model, dataset, TrainConfig(images=64, batch=16), torch.device("cpu"))
    with watch:
        for _ in trainer:
            pass
        published = trainer.published()
        published.sample(torch.arange(2), None, 0, entry.sampling())
    assert watch.found == []
    with watch:  # it does notice
        torch.ones(2) * torch.ones(2).double()
    assert watch.found

"""The annotations of core are executed: what each test calls gets and gives what it says."""

from __future__ import annotations

import sys

import pytest
import torch
from jaxtyping import TypeCheckError

MODULE = """
from __future__ import annotations
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from jaxtyping import Float
from torch import Tensor

@dataclass
class Pair:
    left: int
    right: Later = None

class Later: ...

def added(x: Float[Tensor, "n c"], *more: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    return x + sum(more)

def halved(x: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    return x[:, :1]

def counted(n: int = 0) -> Iterator[int]:
    yield from range(n)

def maker(scale: float) -> Callable[..., float]:
    def times(x: float) -> float:
        return scale * x if x else "nothing"
    return times
"""


@pytest.fixture
def one(tmp_path, monkeypatch):
    import core

    (tmp_path / "annotated.py").write_text(MODULE, "utf-8")
    monkeypatch.setattr(core, "__path__", [*core.__path__, str(tmp_path)])
    import core.annotated as one

    yield one
    del sys.modules["core.annotated"], core.annotated


def test_annotations_are_executed(one):
    x = torch.zeros(3, 2)
    assert one.added(x, x + 1, x + 2).sum() == 18
    with pytest.raises(TypeCheckError, match="parameter x"):
        one.added(x[0])
    with pytest.raises(TypeCheckError, match="more"):
        one.added(x, x[:2])
    with pytest.raises(TypeCheckError, match="return"):
        one.halved(x)  # its n and c are those of what it got
    assert one.Pair(1, one.Later()).left == 1
    with pytest.raises(TypeCheckError, match="left"):
        one.Pair("1")
    with pytest.raises(TypeCheckError, match="right"):
        one.Pair(1, 2)  # of a class that stands below
    assert list(one.counted(2)) == [0, 1]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'scale'"):
        one.maker()


def test_functions_inside_others_are_checked_each_with_what_it_holds(one):
    double, triple = one.maker(2), one.maker(3.5)
    assert (double(2.0), triple(2)) == (4, 7)
    for times in (double, triple):
        with pytest.raises(TypeCheckError, match="parameter x"):
            times("2")
        with pytest.raises(TypeCheckError, match="return"):
            times(0)

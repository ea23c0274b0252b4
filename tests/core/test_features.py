"""Feature extractors: what they know, that they are frozen, and that they stay themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import datasets, features
from core.catalog import UserError
from core.tensors import to_float

CPU = torch.device("cpu")


def images(dataset, part):
    return to_float(torch.as_tensor(dataset.part(part)[0]), dataset.levels)


def test_the_judge_knows_digits_and_is_the_same_when_it_is_opened_again():
    dataset = datasets.load("digits")
    first = features.judge(dataset, CPU)
    assert first.accuracy > 0.95
    x = images(dataset, "train")
    made = first.features(x)
    assert made.dtype == np.float64
    assert abs(made.mean(0)).max() < 1e-3
    alive = made.std(0) > 0  # a feature that never fires has no spread
    assert made.std(0)[alive] == pytest.approx(1, abs=0.01)
    named = first.probabilities(images(dataset, "test"))
    assert named.sum(1) == pytest.approx(1)
    assert (named.argmax(1) == dataset.part("test")[1]).mean() == pytest.approx(first.accuracy)
    again = features.judge(dataset, CPU)
    assert again.hash == first.hash
    assert np.array_equal(again.features(x[:50]), first.features(x[:50]))
    assert features.quick(dataset, CPU).hash == first.hash


def test_a_set_without_classes_has_no_judge(toy):
    with pytest.raises(UserError, match="at least 2 classes"):
        features.judge(toy(60, classes=0), CPU)


def test_components_are_uncorrelated_with_unit_variance(toy):
    dataset = toy(300, classes=0, size=40)
    found = features.quick(dataset, CPU)
    assert found.name == "pca"
    made = found.features(images(dataset, "train"))
    assert np.cov(made, rowvar=False) == pytest.approx(np.eye(made.shape[1]), abs=0.02)


def test_a_unit_that_no_image_moves_keeps_its_own_scale():
    """One sample that stirs it a little must not outweigh all others."""
    reference = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [2.0, 0.0, 0.05]
    )
    found = features.spread(reference)
    assert found[1] == 1
    assert torch.allclose(found[[0, 2]], torch.tensor([2.0, 0.05]), rtol=0.1)

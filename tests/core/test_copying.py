"""Tests of copying: formulas by brute force, and models of which it is known whether they copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core import datasets, metrics
from core.catalog import Config
from core.evaluation import EvaluateConfig, Evaluation, copying, verdict
from core.evaluation.study import Study
from core.models import Spec
from core.runs import Opened
from core.tensors import to_float


class Replay:
    """A model whose samples are given images, drawn at random."""

    def __init__(self, x: np.ndarray, levels: int, noise: float = 0.0) -> None:
        self.x, self.noise, self.classes = to_float(torch.as_tensor(x), levels), noise, 0
        self.spec = Spec(x.shape[1], x.shape[2], levels)

    def sample(self, ids, y, seed, sampling):
        generator = torch.Generator().manual_seed(int(ids[0]) + seed)
        pick = torch.randint(len(self.x), (len(ids),), generator=generator)
        x = self.x[pick]
        return (x + self.noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def study(model, dataset, **values):
    opened = Opened("replay", 1, 1, "replay", model, model.spec, (), Config)
    config = EvaluateConfig.of({"extractor": "pca", **values})
    made = Study(opened, dataset, config, Config())
    made.prepare()
    return made


def judged(model, dataset, samples=400):
    measured = study(
        model, dataset, metrics="nearer,ratio,authenticity,ct", samples=samples
    ).measure()
    return verdict(
        Evaluation(*("",) * 5, 1, 1, 0.0, True, {}, tuple(measured), (), (), {}, path=Path())
    )


@pytest.fixture
def draws():
    """Cuts the digits at random: into a dataset, and fresh images that are in none of its splits."""
    digits = datasets.load("digits")

    def draw(seed: int):
        order = np.random.default_rng(seed).permutation(len(digits))
        kept, fresh = order[:1350], order[1350:]
        splits = {"train": slice(0, 700), "valid": slice(700, 950), "test": slice(950, 1350)}
        own = datasets.assemble(
            digits.x[kept],
            digits.y[kept],
            digits.classes,
            {name: np.arange(1350)[part] for name, part in splits.items()},
            levels=digits.levels,
            name="digits cut anew",
        )
        return own, digits.x[fresh]

    return draw


def test_a_model_that_replays_its_training_images_is_called_a_copy_and_fresh_images_are_not(draws):
    copies, honest = [], []
    for seed in range(20):
        dataset, fresh = draws(seed)
        copies.append(judged(Replay(dataset.part("train")[0], dataset.levels), dataset))
        honest.append(judged(Replay(fresh, dataset.levels), dataset))
    for found in copies:
        assert found.copies is True
        assert sum(bool(test.flagged) for test in found.tests) >= 2
    assert sum(found.copies is not False for found in honest) <= 1
    flags = [test.metric for found in honest for test in found.tests if test.flagged]
    assert len(flags) <= 3, flags


def test_noise_on_copies_does_not_hide_them(draws):
    dataset, _ = draws(0)
    found = judged(Replay(dataset.part("train")[0], dataset.levels, noise=0.05), dataset)
    assert found.copies is True


def test_the_share_nearer_to_training_is_the_mean_over_all_draws_of_training_images():
    rng = np.random.default_rng(0)
    s, t, h = (rng.integers(0, 4, (n, 3)).astype(float) for n in (40, 12, 5))  # with many ties

    def to(a, b):
        return np.square(a[:, None] - b).sum(2)

    wins, near = [], to(s, h).min(1)
    for _ in range(20_000):
        mine = to(s, t)[:, rng.permutation(12)[:5]].min(1)
        wins.append((mine < near) + 0.5 * (mine == near))
    found = metrics.nearer_to_training(s, t, h)
    assert found.value == pytest.approx(np.mean(wins), abs=0.004)


def test_authenticity_and_ratio_by_hand():
    distance, index = np.array([1.0, 3.0, 0.5]), np.array([0, 1, 0])
    found = copying.authenticity(distance, index, np.array([0.8, 4.0]))
    assert found.value == pytest.approx(1 / 3)
    assert copying.ratios(np.array([0.0, 1, 0]), np.array([2.0, 4, 0])).tolist() == [0, 0.25, 0]


def test_the_z_of_each_cell_is_that_of_mann_and_whitney():
    from scipy.stats import mannwhitneyu, norm

    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, 60) / 3, rng.integers(1, 10, 45) / 3
    cells = np.zeros(60, int), np.zeros(45, int)
    found = copying.data_copying(ours, theirs, *cells)
    p = mannwhitneyu(
        ours, theirs, alternative="less", method="asymptotic", use_continuity=False
    ).pvalue
    assert norm.cdf(found.value) == pytest.approx(p)
    assert found.value < 0
    assert found.error == 1
    two = copying.data_copying(
        np.r_[ours, theirs],
        np.r_[theirs, ours],
        np.r_[cells[0], cells[1] + 1],
        np.r_[cells[1], cells[0] + 1],
    )
    weights = np.array([45, 60]) / 105
    assert two.value == pytest.approx(found.value * weights[0] - found.value * weights[1])
    assert two.worst == pytest.approx(found.value)
    with pytest.raises(ValueError, match="no cell"):
        copying.data_copying(ours[:5], theirs[:5], cells[0][:5], cells[1][:5])


def test_the_area_under_the_curve_and_its_interval():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        members, others = rng.normal(0.5, 1, 80).round(1), rng.normal(0, 1, 60).round(1)
        found, _ = copying.membership(members, others)
        hits += found.low <= 0.638163 <= found.high  # the normal's: Phi(0.5 / sqrt(2))
    truth = roc_auc_score(np.r_[np.ones(80), np.zeros(60)], np.r_[members, others])
    assert found.value == pytest.approx(truth)
    assert 90 <= hits <= 99
    sure, caught = copying.membership(np.arange(10, 20), np.arange(10))
    assert (sure.value, caught) == (1, 1)

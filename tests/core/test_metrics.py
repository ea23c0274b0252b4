"""Metrics against closed forms and independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from scipy.stats import wasserstein_distance

from core import metrics


def cloud(seed, n=4000, d=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)


def test_the_frechet_distance_is_the_textbook_formula_with_a_general_square_root():
    a, b = cloud(0), cloud(1)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first + second - 2 * root)
    assert metrics.frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_a_shift_moves_the_frechet_distance_by_its_square():
    a = cloud(0)
    assert metrics.frechet(a, a + 2.0) == pytest.approx(4 * a.shape[1])


def test_the_sliced_distance_of_a_shift_is_its_mean_projection():
    a = cloud(0)
    shift = np.full(a.shape[1], 0.5)
    # the mean square of a projection on a random direction is that of the vector over its dimensions
    assert metrics.sliced_wasserstein(a, a + shift, 4000) == pytest.approx(0.25, rel=0.05)
    one, other = a[:, :1], cloud(1)[:, :1] * 2
    by_hand = np.mean((np.sort(one, 0) - np.sort(other, 0)) ** 2)
    assert metrics.sliced_wasserstein(one, other) == pytest.approx(by_hand)
    assert by_hand >= wasserstein_distance(one[:, 0], other[:, 0]) ** 2


def test_overlap_by_brute_force():
    rng = np.random.default_rng(0)
    real, fake, k = rng.standard_normal((60, 3)), rng.standard_normal((60, 3)) * 0.6 + 0.3, 3

    def reach(x):
        return [sorted(np.linalg.norm(x - point, axis=1))[k] for point in x]

    far = np.linalg.norm(real[:, None] - fake[None], axis=2)
    real_reach, fake_reach = np.array(reach(real)), np.array(reach(fake))
    found = metrics.overlap(real, fake, k)
    assert found.precision == pytest.approx((far <= real_reach[:, None]).any(0).mean())
    assert found.recall == pytest.approx((far <= fake_reach[None]).any(1).mean())
    assert found.coverage == pytest.approx((far <= real_reach[:, None]).any(1).mean())
    assert found.density == pytest.approx((far <= real_reach[:, None]).sum(0).mean() / k)


def test_a_missing_mode_is_seen_in_recall_and_noise_in_precision():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((600, 2)) + np.repeat([[0, 0], [20, 20]], 300, 0)
    dropped = metrics.overlap(real, rng.standard_normal((600, 2)))
    assert dropped.precision > 0.9
    assert dropped.recall < 0.55
    noisy = metrics.overlap(real, np.r_[real[:300], rng.uniform(-200, 200, (300, 2))])
    assert noisy.precision < 0.6


def test_fresh_samples_are_no_copies_and_copies_reach_their_share():
    rng = np.random.default_rng(0)
    train, held, fresh = (rng.standard_normal((n, 8)) for n in (1200, 400, 900))
    found = metrics.nearer_to_training(fresh, train, held)
    assert found.low < 0.5 < found.high
    assert found.n == 900
    copies = metrics.nearer_to_training(train[:900], train, held)
    # a copied image is among the m of n with chance m / n, and is then nearest; else it is a fair coin
    assert copies.value == pytest.approx((1 + 400 / 1200) / 2, abs=0.03)
    assert copies.low > 0.6

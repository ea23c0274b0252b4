"""Metrics against closed forms and independent computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.stats import wasserstein_distance, wasserstein_distance_nd

from core.ground import stats
from core.measure import distances


def cloud(seed, n=4000, d=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)


def test_the_frechet_distance_is_the_textbook_formula_with_a_general_square_root():
    a, b = cloud(0), cloud(1)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first + second - 2 * root)
    assert distances.frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_a_shift_moves_the_frechet_distance_by_its_square():
    a = cloud(0)
    assert distances.frechet(a, a + 2.0) == pytest.approx(4 * a.shape[1])


def test_the_sliced_distance_of_a_shift_is_its_mean_projection():
    a = cloud(0)
    shift = np.full(a.shape[1], 0.5)
    # the mean square of a projection on a random direction is that of the vector over its dimensions
    assert distances.sliced_wasserstein(a, a + shift, 4000) == pytest.approx(0.25, rel=0.05)
    one, other = a[:, :1], cloud(1)[:, :1] * 2
    by_hand = np.mean((np.sort(one, 0) - np.sort(other, 0)) ** 2)
    assert distances.sliced_wasserstein(one, other) == pytest.approx(by_hand)
    assert by_hand >= wasserstein_distance(one[:, 0], other[:, 0]) ** 2


def test_overlap_by_brute_force():
    rng = np.random.default_rng(0)
    real, fake, k = rng.standard_normal((60, 3)), rng.standard_normal((60, 3)) * 0.6 + 0.3, 3

    def reach(x):
        return [sorted(np.linalg.norm(x - point, axis=1))[k] for point in x]

    far = np.linalg.norm(real[:, None] - fake[None], axis=2)
    real_reach, fake_reach = np.array(reach(real)), np.array(reach(fake))
    found = distances.overlap(real, fake, k)
    assert found.precision == pytest.approx((far <= real_reach[:, None]).any(0).mean())
    assert found.recall == pytest.approx((far <= fake_reach[None]).any(1).mean())
    assert found.coverage == pytest.approx((far <= real_reach[:, None]).any(1).mean())
    assert found.density == pytest.approx((far <= real_reach[:, None]).sum(0).mean() / k)


def test_a_missing_mode_is_seen_in_recall_and_noise_in_precision():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((600, 2)) + np.repeat([[0, 0], [20, 20]], 300, 0)
    dropped = distances.overlap(real, rng.standard_normal((600, 2)))
    assert dropped.precision > 0.9
    assert dropped.recall < 0.55
    noisy = distances.overlap(real, np.r_[real[:300], rng.uniform(-200, 200, (300, 2))])
    assert noisy.precision < 0.6


def test_fresh_samples_are_no_copies_and_copies_reach_their_share():
    rng = np.random.default_rng(0)
    train, held, fresh = (rng.standard_normal((n, 8)) for n in (1200, 400, 900))
    found = distances.nearer_to_training(fresh, train, held)
    assert found.low < 0.5 < found.high
    assert found.n == 900
    copies = distances.nearer_to_training(train[:900], train, held)
    # a copied image is among the m of n with chance m / n, and is then nearest; else it is a fair coin
    assert copies.value == pytest.approx((1 + 400 / 1200) / 2, abs=0.03)
    assert copies.low > 0.6


RECORDED = np.load(Path(__file__).parent / "oracles" / "metrics.npz")
ASKED = sorted(name for name in RECORDED.files if name.count("/") == 2)


@pytest.mark.parametrize("name", ASKED)
def test_values_equal_those_of_the_reference_libraries(name):
    case, metric, _ = name.split("/")
    real, fake = (RECORDED[f"{case}/{part}"].astype(np.float64) for part in ("real", "fake"))
    if metric == "frechet":
        value = distances.frechet(real, fake)
        assert distances.frechet_estimate(real, fake).value == pytest.approx(value)
    elif metric == "kid":
        value = distances.kernel_distance(real, fake).value
    elif metric == "inception_score":
        logits = torch.from_numpy(RECORDED[f"{case}/logits"]).double()
        value = distances.inception_score(logits.softmax(1)).value
    elif metric == "emd":
        value = distances.earth_mover(real, fake)
    elif metric == "sliced":
        value = distances.sliced_wasserstein(real, fake)
        assert distances.sliced_estimate(real, fake).value == pytest.approx(value)
    else:
        value = getattr(distances.overlap(real, fake, int(metric[-1])), metric[:-1])
    assert value == pytest.approx(float(RECORDED[name]), rel=1e-4, abs=1e-9)


def test_the_earth_mover_agrees_with_the_linear_programme():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((18, 4)), rng.standard_normal((18, 4)) + 0.3
    assert distances.earth_mover(a, b) == pytest.approx(wasserstein_distance_nd(a, b))
    found = distances.earth_mover_estimate(np.r_[a, a], np.r_[b, b], 18)
    assert (found.value, found.low, found.n) == (
        pytest.approx(distances.earth_mover(a, b)),
    ) * 2 + (18,)


def test_equal_sets_are_at_no_distance_and_cover_each_other():
    a = cloud(0, 300)
    assert distances.frechet(a, a.copy()) == pytest.approx(0, abs=1e-8)
    assert distances.sliced_wasserstein(a, a[::-1].copy()) == 0
    assert distances.earth_mover(a, a[::-1].copy()) == pytest.approx(0, abs=1e-6)
    found = distances.overlap(a, a.copy())
    assert found.precision == found.recall == found.coverage == 1
    assert (found.gap == 0).all()


def test_constant_samples_have_values_and_no_variety():
    a, same = cloud(0, 300), np.zeros((300, 6))
    value = np.trace(np.cov(a, rowvar=False)) + np.square(a.mean(0)).sum()
    assert distances.frechet(a, same) == pytest.approx(value)
    assert distances.frechet_estimate(same, a).value == pytest.approx(value)
    assert distances.kernel_distance(same, a).value > 0
    found = distances.overlap(a, same)
    assert found.recall == 0
    assert found.coverage < 0.2


def test_features_that_never_vary_change_no_distance():
    a, b = cloud(0, 400), cloud(1, 400)
    dead = np.ones((400, 1))
    more = distances.frechet_estimate(np.c_[a, dead], np.c_[b, dead * 3])
    less = distances.frechet_estimate(a, b)
    assert more.value == pytest.approx(less.value + 4)
    assert more.high - more.low == pytest.approx(less.high - less.low)


def draws(rng, n, shift):
    return rng.standard_normal((n, 6)), rng.standard_normal((n, 6)) + shift


@pytest.mark.parametrize("shift", [0.15, 0.5])
def test_the_interval_of_the_kernel_distance_holds_the_value_of_a_large_sample(shift):
    rng = np.random.default_rng(5)
    found = [distances.kernel_distance(*draws(rng, 200, shift)) for _ in range(100)]
    truth = np.mean([distances.kernel_distance(*draws(rng, 3000, shift)).value for _ in range(3)])
    assert 90 <= sum(one.low <= truth <= one.high for one in found) <= 99


@pytest.mark.parametrize("measure", [distances.frechet_estimate, distances.sliced_estimate])
def test_intervals_hold_the_mean_of_the_same_number_of_samples(measure):
    rng = np.random.default_rng(5)
    more = {} if measure is distances.frechet_estimate else {"projections": 40}
    found = [measure(*draws(rng, 200, 0.5), **more) for _ in range(100)]
    truth = np.mean([measure(*draws(rng, 200, 0.5), **more).value for _ in range(200)])
    assert 90 <= sum(one.low <= truth <= one.high for one in found) <= 99


def test_a_feature_that_one_set_alone_moves_leaves_the_frechet_distance_an_interval():
    rng = np.random.default_rng(5)

    def some():
        a, b = draws(rng, 200, 0.3)
        return np.c_[a, np.maximum(0, a[:, 0] - 2.2)], np.c_[b, np.zeros(200)]

    found = [distances.frechet_estimate(*some()) for _ in range(100)]
    truth = np.mean([distances.frechet(*some()) for _ in range(200)])
    assert 90 <= sum(one.low <= truth <= one.high for one in found) <= 99


@pytest.mark.parametrize(
    ("n", "k", "cells"), [(2, 5, 16), (6, 5, 16), (7, 5, 4), (50, 3, 9), (33, 50, 16), (60, 4, 100)]
)
def test_neighbourhoods_of_few_points_of_equal_ones_and_in_small_pieces(n, k, cells, monkeypatch):
    monkeypatch.setattr(distances, "_CELLS", cells)
    x = cloud(0, n)
    x[n // 2] = x[0]
    distance = np.square(x[:, None] - x[None]).sum(-1)
    np.fill_diagonal(distance, np.inf)
    expected = np.sort(distance, 1)[:, min(k, n - 1) - 1]
    assert distances._reach(torch.as_tensor(x), k).numpy() == pytest.approx(expected)
    found = distances.overlap(x, x.copy(), k)
    assert found.precision == found.recall == found.coverage == 1


def test_the_kernel_distance_has_no_bias_and_knows_its_noise():
    rng = np.random.default_rng(0)
    found = [
        distances.kernel_distance(rng.standard_normal((60, 4)), rng.standard_normal((60, 4)))
        for _ in range(300)
    ]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / 300**0.5
    half = np.mean([one.high - one.low for one in found]) / 2
    assert half / stats.Z == pytest.approx(values.std(), rel=0.25)


def test_the_extrapolation_takes_the_bias_away():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3000, 16)), rng.standard_normal((3000, 16)) + 0.1
    truth = 16 * 0.1**2
    found = distances.frechet_limit(a, b, [300, 500, 800, 1300, 2000, 3000])
    assert abs(found.value - truth) < 0.2 * abs(distances.frechet(a[:500], b[:500]) - truth)
    assert found.low < truth < found.high


def test_the_inception_score_of_sure_and_of_unsure_judges():
    sure = np.eye(5)[np.arange(50) % 5]
    assert distances.inception_score(sure).value == pytest.approx(5)
    assert distances.inception_score(np.full((50, 5), 0.2)).value == pytest.approx(1)
    assert distances.inception_score(sure[:, [0, 0, 0, 0, 0]] * 0 + sure[0]).value == pytest.approx(
        1
    )


def test_wrong_shares_are_the_samples_that_would_have_to_change():
    real, fake = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [80, 10, 10])
    found = distances.class_difference(real, fake, 3)
    assert found.value == pytest.approx(0.3)
    assert 0 < found.low < 0.3 < found.high < 1


def test_nearest_neighbours_by_brute_force_and_in_pieces(monkeypatch):
    a, b = (torch.from_numpy(cloud(k, 50)) for k in (0, 1))
    far = torch.linalg.norm(a[:, None] - b, dim=2)
    for cells in (4_000_000, 120):
        monkeypatch.setattr(distances, "_CELLS", cells)
        distance, index = distances.nearest(a, b, 2)
        assert torch.equal(index, far.topk(2, 1, largest=False).indices)
        assert torch.allclose(distance, far.topk(2, 1, largest=False).values)
        own, which = distances.nearest(a, a, same=True)
        assert (which[:, 0] != torch.arange(50)).all()
        assert own.min() > 0


def test_pieces_change_no_value(monkeypatch):
    a, b = cloud(0, 90), cloud(1, 90)

    def all_values():
        kid = distances.kernel_distance(a, b)
        over = distances.overlap(a, b)
        shares = [over.precision, over.recall, over.density, over.coverage]
        nearer = distances.nearer_to_training(a, b, a[:50] + 1).value
        lengths = [distances.frechet(a, b), distances.sliced_estimate(a, b).high]
        return [kid.value, kid.high, nearer, *lengths, *shares]

    whole = all_values()
    monkeypatch.setattr(distances, "_CELLS", 700)
    assert all_values() == pytest.approx(whole)

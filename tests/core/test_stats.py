"""Statistics against closed forms and enumeration, and numbers as people read them."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from core.ground import stats, writing


def test_shares_have_wilsons_interval():
    found = stats.proportion(142, 300)
    # as in the literature on 47.3 % of 300
    assert (round(found.low, 3), round(found.high, 3)) == (0.418, 0.530)
    z = NormalDist().inv_cdf(0.975)
    for p in found.interval:  # the score test's borders, which Wilson's interval is made of
        assert abs(found.value - p) == pytest.approx(z * (p * (1 - p) / 300) ** 0.5)
    assert stats.proportion(0, 50).low == 0 and stats.proportion(50, 50).high == 1
    assert stats.proportion(0, 0).interval == (0, 1)
    for count, n in ((0, 7), (1, 3), (7, 7), (142, 300), (4_321, 5_000)):
        low, high = binomtest(count, n).proportion_ci(method="wilson")
        assert stats.proportion(count, n).interval == (float(low), float(high))
    flags = np.arange(40) < 3
    assert stats.share(flags) == stats.share(torch.as_tensor(flags)) == stats.proportion(3, 40)


def test_means_have_the_interval_of_their_error():
    x = np.array([1.0, 2.0, 4.0, 5.0])
    error = x.std(ddof=1) / 2
    many, few = stats.mean(x), stats.mean_of_few(x)
    assert many.value == few.value == 3
    assert many.interval == pytest.approx((3 - stats.Z * error, 3 + stats.Z * error))
    assert few.interval == pytest.approx((3 - 3.1824463 * error, 3 + 3.1824463 * error))
    assert np.isinf(stats.mean(x[:1]).high) and np.isnan(stats.mean_of_few(x[:1]).high)


def test_the_bootstrap_is_corrected_for_bias_ties_and_skew():
    x = np.random.default_rng(0).exponential(2, 12)
    low, high = stats.bca(x)
    assert low < x.mean() < high and high - x.mean() > x.mean() - low
    low, high = stats.bca([0.0, 1.0] * 10)  # many draws are as large as the mean itself
    assert low + high == pytest.approx(1) and 0.2 < low < 0.35
    assert stats.bca([2.0, 2.0, 2.0]) == (2, 2) and stats.bca([5.0]) == (5, 5)


def test_a_sign_flip_test_counts_patterns():
    assert stats.sign_flip([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    x = np.array([3.0, -1.0, 2.0, 0.5])
    patterns = [
        abs(np.dot(s, x)) >= abs(x.sum()) - 1e-9 for s in itertools.product((1, -1), repeat=4)
    ]
    assert stats.sign_flip(x) == pytest.approx(np.mean(patterns), abs=1e-12)
    assert stats.sign_flip(np.random.default_rng(0).standard_normal(20) + 2) < 0.01
    assert stats.sign_flip([0.0] * 6) == 1
    # 0.1 + 0.2 is not 0.3 to a computer, and counts as large all the same
    assert stats.sign_flip([0.1, 0.2, -0.3, 0.0, 0.0, 0.0]) == 1


def test_a_split_of_disagreements_is_that_of_a_coin():
    assert stats.mcnemar(0, 0) == 1
    assert stats.mcnemar(1, 9) == stats.mcnemar(9, 1) == pytest.approx(22 / 1024)


def test_the_z_of_ranks_goes_on_where_its_probability_is_nothing():
    ours = np.arange(200.0)
    assert stats.mann_whitney(ours, ours + 1000) == pytest.approx(-17.29, abs=0.01)
    assert stats.mann_whitney(ours[:10] * 0, ours[:5] * 0) == 0


def test_holm_is_the_step_down_of_bonferroni():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


def test_numbers_are_written_in_one_way():
    shares = (0, 0.004, 0.4733, 1, None)
    assert [writing.percent(v) for v in shares] == ["0 %", "0.4 %", "47.3 %", "100 %", "–"]
    assert [writing.percent(v, 0) for v in shares] == ["0 %", "0 %", "47 %", "100 %", "–"]
    assert writing.percents(0.4, 0.523) == "40 to 52.3 %"
    times = ["0 s", "59 s", "2 min 5 s", "3 h 10 min"]
    assert [writing.duration(s) for s in (0, 59.4, 125, 11_400)] == times
    assert writing.many(1, "run") == "1 run" and writing.many(range(1200), "run") == "1,200 runs"


def test_a_paired_change_has_tangos_interval():
    # 7 of 21 lost and 1 gained: the interval of this table in the literature is -0.517 to -0.026
    found = stats.paired_change(1, 7, 21)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.517, -0.026)
    for gained, lost, n in itertools.product((0, 3, 9, 40), (0, 3, 9, 17), (60, 500)):
        here, turned = stats.paired_change(gained, lost, n), stats.paired_change(lost, gained, n)
        assert here.low <= here.value == (gained - lost) / n <= here.high
        assert here.interval == pytest.approx((-turned.high, -turned.low), abs=1e-9)
        # it leaves 0 out where McNemar's uncorrected test does
        differs = abs(gained - lost) > stats.Z * (gained + lost) ** 0.5
        assert differs == (here.low > 0 or here.high < 0)
    assert stats.paired_change(0, 0, 0).interval == (-1, 1)
    assert stats.paired_change(5, 0, 5).high == 1 and stats.paired_change(0, 0, 50).low < 0

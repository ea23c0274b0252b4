"""Distances of pairs against float64, wherever the points lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import building
from core.measure import copying, distances

OFFSETS = [0.0, 1.0, 10.0, 100.0]


def apart(a, b):
    """Distances of all pairs by differences, one row at a time, in float64."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.stack([np.sqrt(np.square(b - row).sum(1)) for row in a])


def clouds(offset, n=160, d=600, spread=0.1):
    """Two clouds far from 0, the second a little narrower and moved; as float32."""
    rng = np.random.default_rng(0)
    a = offset + spread * rng.standard_normal((n, d))
    b = offset + spread * (0.97 * rng.standard_normal((n, d)) + 0.02)
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("d", [48, 600])
def test_distances_and_neighbours_are_those_of_float64_at_every_offset(offset, d, monkeypatch):
    monkeypatch.setattr(distances, "_CELLS", 5000)  # several pieces
    a, b = clouds(offset, d=d)
    truth = apart(a, b)
    found = distances.squared(torch.from_numpy(a), torch.from_numpy(b)).sqrt()
    np.testing.assert_allclose(found.numpy(), truth, rtol=1e-3)
    away, index = distances.nearest(torch.from_numpy(a), torch.from_numpy(b), 2)
    np.testing.assert_allclose(away.numpy(), np.sort(truth, 1)[:, :2], rtol=1e-3)
    assert (index.numpy() == truth.argsort(1)[:, :2]).mean() > 0.99


@pytest.mark.parametrize("noise", [1e-5, 0.001, 0.002, 0.004])
def test_near_copies_of_colour_images_keep_their_distance_and_copies_have_none(noise):
    rng = np.random.default_rng(0)
    x = rng.random((60, 3072)).astype(np.float32)
    y = x + (noise * rng.standard_normal(x.shape)).astype(np.float32)
    away, index = distances.nearest(torch.from_numpy(y), torch.from_numpy(x))
    np.testing.assert_allclose(away[:, 0].numpy(), apart(y, x).diagonal(), rtol=5e-3)
    assert (index[:, 0].numpy() == np.arange(60)).all()
    assert (distances.nearest(torch.from_numpy(x), torch.from_numpy(x))[0] == 0).all()


def test_clusters_far_from_each_other_and_sets_of_equal_points_keep_their_distances():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((120, 600)) * 0.1 + np.repeat([[0.0], [100.0]], 60, 0)).astype("f4")
    found = distances.squared(torch.from_numpy(x), torch.from_numpy(x)).sqrt().numpy()
    np.testing.assert_allclose(found, apart(x, x), rtol=1e-3)
    same = torch.full((90, 600), 0.3)
    assert (distances.squared(same, same) == 0).all()


@pytest.mark.parametrize("offset", OFFSETS)
def test_shares_and_kernel_and_frechet_distance_are_those_of_float64_at_every_offset(offset):
    a, b = clouds(offset)
    fine_a, fine_b = a.astype(np.float64), b.astype(np.float64)
    within_a, within_b, across = apart(a, a), apart(b, b), apart(a, b)
    reach_a, reach_b = np.sort(within_a, 1)[:, 5], np.sort(within_b, 1)[:, 5]
    found = distances.overlap(a, b)
    inside = across <= reach_a[:, None]
    assert found.precision == pytest.approx(inside.any(0).mean(), abs=0.01)
    assert found.density == pytest.approx(inside.sum(0).mean() / 5, abs=0.01)
    assert found.coverage == pytest.approx(inside.any(1).mean(), abs=0.01)
    assert found.recall == pytest.approx((across <= reach_b).any(1).mean(), abs=0.01)
    assert 0.05 < found.precision < 0.99

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    n = len(a)
    own = sum(
        (k.sum() - np.trace(k)) / (n * (n - 1))
        for x in (fine_a, fine_b)
        if (k := kernel(x, x)) is not None
    )
    kid = own - 2 * kernel(fine_a, fine_b).mean()
    assert distances.kernel_distance(a, b).value == pytest.approx(kid, rel=1e-3, abs=1e-6)
    low = fine_a[:, :8], fine_b[:, :8]
    moved = [x - offset for x in low]
    assert distances.frechet(a[:, :8], b[:, :8]) == pytest.approx(
        distances.frechet(*moved), rel=1e-4
    )


@pytest.mark.parametrize("offset", OFFSETS)
def test_tests_of_copying_and_the_gate_see_float64_at_every_offset(offset):
    a, b = clouds(offset, spread=0.5)
    held = clouds(offset, spread=0.5)[0][::-1] + np.float32(0.05)
    made = np.concatenate([b[:80] + np.float32(0.002), a[:80]])
    truth = apart(made, b)
    near, index = distances.nearest(torch.from_numpy(made), torch.from_numpy(b), 2)
    assert copying.ratios(*near.T)[:80].max() < 0.02
    own, _ = distances.nearest(torch.from_numpy(b), torch.from_numpy(b), same=True)
    usual = apart(b, b) + np.diag(np.full(len(b), np.inf))
    expected = (truth.min(1) > usual.min(1)[truth.argmin(1)]).mean()
    found = copying.authenticity(near[:, 0], index[:, 0], own[:, 0])
    assert found.value == pytest.approx(expected, abs=0.01)
    share = distances.nearer_to_training(made, b, held).value
    again = distances.nearer_to_training(
        *((x - offset).astype(np.float64) for x in (made, b, held))
    )
    assert share == pytest.approx(again.value, abs=0.01)
    passed = building.gate(made, b, distinct=False)
    assert passed.refused["authenticity"] == round((1 - expected) * len(made))

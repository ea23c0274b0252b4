"""Corruptions beside those of imagecorruptions, and certificates against the closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.catalog import UserError
from core.robustness import certify, corruptions
from core.target import Target

ARRAYS = Path(__file__).parent / "oracles" / "corruptions.npz"
# mean difference of local means, of 255, that is allowed: what is drawn at random differs by its luck
CLOSE = {
    "gaussian_noise": 15, "shot_noise": 15, "impulse_noise": 15, "defocus_blur": 3, "motion_blur": 25, "zoom_blur": 6,
    "snow": 60, "frost": 90, "brightness": 3, "contrast": 3, "elastic_transform": 12, "pixelate": 4,
    "jpeg_compression": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CLOSE))
def test_a_corruption_is_near_that_of_imagecorruptions(name):
    with np.load(ARRAYS) as file:
        photo, theirs = torch.as_tensor(file["photo"]), torch.as_tensor(file[name]).float()
        change = float(file[f"{name}_change"])
    x = photo.permute(2, 0, 1)[None].float() / 255
    made = corruptions.corrupt(x, name, 3)
    local = F.avg_pool2d(255 * made, 4)[0].permute(1, 2, 0)
    assert float((local - theirs).abs().mean()) < CLOSE[name]
    assert float(255 * (made - x).abs().mean()) == pytest.approx(change, rel=0.15)


@pytest.mark.parametrize("name", corruptions.names())
@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 30, 30)])
def test_every_corruption_stays_in_range_repeats_and_depends_on_the_image_alone(name, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    made = corruptions.corrupt(x, name, 4, seed=1)
    assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1 and made.isfinite().all()
    assert not torch.equal(made, x)
    alone = corruptions.corrupt(x[1:2], name, 4, seed=1, ids=[1])
    assert torch.allclose(alone[0], made[1], atol=1e-5)
    assert torch.equal(corruptions.corrupt(x, name, 0), x)


def test_there_are_fifteen_and_others_are_refused():
    assert len(corruptions.names()) == 15
    x = torch.rand(1, 1, 8, 8)
    with pytest.raises(UserError, match="There is no corruption 'fogg'"):
        corruptions.corrupt(x, "fogg", 1)
    with pytest.raises(UserError, match="A severity must be 0 to 5, got 6"):
        corruptions.corrupt(x, "fog", 6)


def test_photons_are_counted_as_poisson_says():
    mean = torch.tensor([0.5, 3.0, 20.0]).view(3, 1).expand(3, 4000)
    counts = corruptions.poisson(
        mean, torch.rand(3, 4000, generator=torch.Generator().manual_seed(0))
    )
    assert torch.allclose(counts.mean(1), mean[:, 0], rtol=0.05)
    assert torch.allclose(counts.var(1), mean[:, 0], rtol=0.1)


# --- certificates -------------------------------------------------------------------------------


def test_the_certified_radius_of_a_linear_classifier_is_below_and_near_its_distance():
    """Smoothing leaves a linear classifier as it is, so that the true radius is the distance to its plane."""
    plane = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    weights = torch.randn(16, generator=torch.Generator().manual_seed(0))
    plane[1].weight.data, plane[1].bias.data = torch.stack([weights, -weights]), torch.zeros(2)
    plane.requires_grad_(False)
    target = Target(plane, ["a", "b"], (1, 4, 4))
    unit = (weights / weights.norm()).view(1, 1, 4, 4)
    x = torch.cat([0.3 * unit, 0.15 * unit, 0.0 * unit])
    config = certify.CertifyConfig(sigma=0.25, draws=4000)
    first, second, none = certify.certify(target, x, torch.zeros(3, dtype=torch.long), config)
    assert 0.25 < first.radius <= 0.3 and first.right and first.said == 0
    assert 0.12 < second.radius <= 0.15
    assert none.abstained and none.radius == 0 and not none.right
    radii, shares = certify.curve([first, second, none])
    assert shares[0] == pytest.approx(2 / 3) and shares[-1] == 0 and radii[0] == 0
    assert shares == sorted(shares, reverse=True)


def test_the_lower_bound_is_that_of_clopper_and_pearson():
    assert certify.lower(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert certify.lower(0, 10, 0.001) == 0
    assert certify.lower(10, 10, 0.001) < 0.51  # ten draws can hardly prove anything

"""Two models moved together show the same latent or the same image, wherever the pad is dragged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core import latent
from core.catalog import UserError
from tests.core.test_latent import Linear, linear_space, space_of
from tests.core.test_latent_meaning import matrix

PLACES = np.asarray([[0, 0], [1, 0], [0, 1], [-2.5, 0.75], [3, -3]])


class Both(Linear):
    """A linear decoder, and its exact encoder."""

    def encode(self, x, y, sampling):
        return (x.flatten(1) - 0.5) @ torch.linalg.pinv(self.first.weight).T


def test_by_the_same_image_another_linear_model_draws_the_same_everywhere():
    a = matrix(0.2, 0.1, 0.05)
    turned = a @ torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    first, other = linear_space(a), linear_space(2 * turned, Both)
    assert latent.joints(first, other) == ["point", "image"]
    assert latent.joints(other, first) == ["point"]  # which has no encoder
    plane = latent.principal_plane(first, first.draw([0])[0])
    for holds in ("middle", "sides", "corners"):
        found = latent.beside(plane, other, "image", holds=holds)
        assert not torch.allclose(found.u, plane.u, atol=0.1)
        wanted = first.decode(plane.points(PLACES))
        torch.testing.assert_close(other.decode(found.points(PLACES)), wanted, rtol=0, atol=1e-5)
    x = torch.full(
        (1, 1, 4, 4), 0.5
    )  # somebody's own picture, which the first model may not make so
    origin = latent.beside(plane, other, "image", x=x).points([[0, 0]])
    torch.testing.assert_close(origin, torch.zeros(1, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["gan", "vae", "vqvae", "diffusion"])
def test_by_the_same_point_it_is_given_the_same_numbers(family):
    first, other = space_of(family), space_of(family)
    assert latent.joints(first, other)[0] == "point"
    plane = latent.principal_plane(first, first.draw([0], [1] if first.classes else None)[0])
    found = latent.beside(plane, other, "point")
    assert torch.equal(found.points(PLACES), plane.points(PLACES))
    assert (other.images(found.points(PLACES)) == first.images(plane.points(PLACES))).all()


def test_classes_are_told_where_both_models_listen_to_them():
    first, other, deaf = space_of("flow"), space_of("flow"), space_of("flow", shares=())
    plane = latent.labels_plane(first, first.draw([0], [0])[0], 0, 1)
    ends = np.asarray([[-1, 0], [1, 0]])
    found = latent.beside(plane, other, "image", holds="sides").points(ends)
    torch.testing.assert_close(found[:, -2:], torch.eye(2), rtol=0, atol=1e-5)
    assert latent.beside(plane, deaf, "point").u.abs().max() == 0  # only the class changes across
    told = latent.beside(latent.principal_plane(deaf, deaf.draw([0])[0]), other, "point", label=1)
    assert told.points(PLACES)[:, -2:].tolist() == [[0, 1]] * len(PLACES)


def test_what_cannot_be_moved_together_is_said():
    gan, small, vae = space_of("gan"), space_of("gan", latent_dim=3), space_of("vae", latent_dim=5)
    assert latent.joints(gan, small) == []
    assert latent.joints(gan, vae) == ["image"]
    larger = replace(vae, model=space_of("vae", size=16).model)
    assert latent.joints(gan, larger) == []  # of pictures of another size
    plane = latent.principal_plane(gan, gan.draw([0], [0])[0])
    with pytest.raises(
        UserError, match="There is no way to move these two models together 'point'"
    ):
        latent.beside(plane, vae, "point")

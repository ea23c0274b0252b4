"""Latent spaces: points, planes, walks, and what they must stand."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import nn

from core import latent, runs
from core.catalog import UserError
from core.models import Spec, build, families
from core.tensors import to_bytes

TINY: dict[str, dict[str, Any]] = {
    "gan": {"width": 16, "latent_dim": 12},
    "vae": {"width": 16, "latent_dim": 6, "components": 2},
    "vqvae": {"width": 8, "prior_width": 16, "prior_depth": 1},
    "flow": {"width": 16, "steps": 2},
    "diffusion": {"width": 4},
}


def space_of(
    family: str,
    *,
    shares: tuple[float, ...] = (0.5, 0.5),
    size: int = 8,
    channels: int = 1,
    **config: Any,
) -> latent.Space:
    """The space of an untrained model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = build(
            family, TINY[family] | config, Spec("image", (channels, size, size), 17, shares)
        )
    model.eval().requires_grad_(False)
    sampling = families.get(family).sampling
    classes = tuple(f"class {k}" for k in range(model.classes))
    return latent.open_space(runs.Opened("run", 1, 0, family, model, model.spec, classes, sampling))


class Linear(nn.Module):
    """A decoder whose every derivative is known: pixels are a matrix times the latent, around a half."""

    classes = 0

    def __init__(self, matrix: torch.Tensor, size: int = 4) -> None:
        super().__init__()
        self.spec = Spec("image", (1, size, size), 256)
        self.first = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        self.first.weight.data.copy_(matrix)

    def latent(self, ids, seed, sampling):
        from core.tensors import noise

        return noise(seed, ids, (self.first.in_features,), "latent")

    def decode(self, z, y, sampling):
        return (0.5 + self.first(z)).view(-1, 1, self.spec.size, self.spec.size)


def linear_space(matrix: torch.Tensor, kind: type = Linear) -> latent.Space:
    model = kind(matrix).eval().requires_grad_(False)
    return latent.Space(model, families.get("gan").sampling(), ("toy", 1), matrix.shape[1], 0)


# --- Points -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("shares", [(), (0.5, 0.5)])
def test_points_decode_to_the_samples(family, shares):
    space = space_of(family, shares=shares)
    labels = [1, 0, 1] if shares else None
    y = torch.tensor(labels) if labels else None
    points = space.draw([3, 4, 9], labels, seed=5)
    assert points.shape == (3, space.dim)
    sample = to_bytes(space.model.sample([3, 4, 9], y, 5, space.sampling))
    assert np.abs(space.images(points).astype(int) - sample).max() <= 1
    one = space.image(points[1])
    assert one.shape == sample[1].shape
    assert (one == space.image(points[1].tolist())).all()


@pytest.mark.parametrize("family", TINY)
def test_every_family_has_planes_directions_and_a_preview(family):
    space = space_of(family)
    origin = space.draw([0], [1])[0]
    for plane in (
        latent.principal_plane(space, origin),
        latent.coordinates_plane(space, origin, 0, 3),
        latent.anchors_plane(space, space.draw([0, 1, 2], [0, 1, 1])),
    ):
        x = latent.neighbourhood(space, plane, (0.5, -0.5), 2, 3)
        assert x.shape == (9, 1, 8, 8)
        assert x.dtype == np.uint8
    found = latent.principal(space)
    assert 1 <= len(found) <= latent.MOST
    again = space_of(family)
    for a, b in zip(found, latent.principal(again), strict=True):
        torch.testing.assert_close(a.vector, b.vector, rtol=1e-3, atol=1e-3)
    near = latent.local(space, origin, 3)
    assert len(near) == 3
    x, classes = latent.filmstrip(space, origin, near[0], quick=True)
    assert x.shape == (7, 1, 8, 8)
    assert classes is None


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("gan", {"latent_dim": 1}),
        ("vae", {"latent_dim": 1}),
        ("gan", {"latent_dim": 512}),
        ("vae", {"latent_dim": 512}),
    ],
)
def test_one_dimension_and_many(family, config):
    space = space_of(family, shares=(), **config)
    assert space.dim == config["latent_dim"]
    origin = space.draw([0])[0]
    plane = latent.principal_plane(space, origin)
    assert latent.neighbourhood(space, plane, n=3).shape == (9, 1, 8, 8)
    if space.dim == 1:
        assert not plane.v.any()
    assert len(latent.factors(space)) == min(6, space.dim)
    assert len(latent.local(space, origin)) == min(6, space.dim)


def test_a_hundred_classes_are_shares_of_a_point():
    space = space_of("gan", shares=(0.01,) * 100)
    assert space.dim == 12 + 100
    origin = space.draw([0], [99])[0]
    plane = latent.labels_plane(space, origin, 3, 99)
    ends = space.split(plane.points([[-1, 0], [0, 0], [1, 0], [5, 0]]))[1]
    assert ends is not None
    assert ends[0].argmax() == 3
    assert ends[2].argmax() == ends[3].argmax() == 99
    assert ends[1, [3, 99]].tolist() == pytest.approx([0.5, 0.5])
    torch.testing.assert_close(ends.sum(1), torch.ones(4))
    sample = to_bytes(space.model.sample([0], torch.tensor([99]), 0, space.sampling))[0]
    assert np.abs(space.image(plane.points([[1, 0]])[0]).astype(int) - sample).max() <= 1
    with pytest.raises(UserError, match="from 0 to 99, got 100"):
        latent.labels_plane(space, origin, 3, 100)


def test_the_classes_to_begin_with_are_those_that_differ_most():
    space = space_of("gan", shares=(0.2,) * 5)
    z = space.draw([0], [0])[0, : space.latent]
    images = [space.decode(torch.cat([z, torch.eye(5)[k]])[None])[0].numpy() for k in range(5)]
    far = {
        (a, b): np.square(images[a] - images[b]).sum() for a in range(5) for b in range(a + 1, 5)
    }
    assert latent.contrast(space) == max(far, key=lambda pair: far[pair])
    assert latent.first_plane(space) == "labels"
    alone = space_of("vae")
    assert latent.first_plane(alone) == "principal"
    with pytest.raises(UserError, match="listens to 0"):
        latent.contrast(alone)


def test_what_is_no_point_is_refused():
    space = space_of("vae")
    point = space.draw([0])[0]
    for bad in (float("nan"), float("inf")):
        broken = point.clone()
        broken[2] = bad
        with pytest.raises(UserError, match="finite numbers, got nan or infinity"):
            space.image(broken)
    with pytest.raises(UserError, match="has 6 numbers, got 5"):
        space.images(point[:5])
    with pytest.raises(UserError, match="knows no classes, got class 0"):
        space.known(0)
    plane = latent.principal_plane(space, point)
    for place in ([[float("nan"), 0]], [[1e9, 0]]):
        with pytest.raises(UserError, match="within 1000 steps"):
            plane.points(place)
    with pytest.raises(UserError, match="from 0 to 5, got 6"):
        latent.coordinates_plane(space, point, 6, 0)
    with pytest.raises(UserError, match="Two of the 3 anchors are the same"):
        latent.anchors_plane(space, point.repeat(3, 1))
    with pytest.raises(UserError, match="differ, got 1 twice"):
        latent.labels_plane(space_of("gan"), space_of("gan").draw([0])[0], 1, 1)
    with pytest.raises(UserError, match="does not listen to classes"):
        latent.labels_plane(space, point, 0, 1)


def test_a_model_that_makes_nan_gives_black_and_no_crash():
    space = space_of("gan", shares=())
    for weight in space.model.generator.parameters():
        weight.data.fill_(float("nan"))
    assert not space.image(torch.zeros(12)).any()


def test_a_classifier_has_no_space():
    opened: Any = runs.Opened(
        "run", 1, 0, "classifier", nn.Linear(2, 2), Spec("image", (1, 8, 8), 17), (), None
    )
    with pytest.raises(UserError, match="A classifier has no latent space"):
        latent.open_space(opened)


# --- Planes -------------------------------------------------------------------------------------


def test_points_of_a_sphere_keep_its_length():
    assert not space_of("vae").sphere
    space = space_of("flow")
    plane = latent.principal_plane(space, space.draw([0])[0])
    lengths = plane.points([[0, 0], [1, -2], [-2.5, 0.5], [3, 3]])[:, : space.latent].norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand(4))


def test_a_neighbourhood_lies_as_on_a_screen():
    matrix = torch.zeros(16, 2)
    matrix[0, 0] = matrix[1, 1] = 0.1
    space = linear_space(matrix)
    plane = latent.coordinates_plane(space, torch.zeros(2), 0, 1)
    x = latent.neighbourhood(space, plane, (0, 0), 2, 5).reshape(5, 5, 16).astype(int)
    assert (np.diff(x[..., 0], axis=1) > 0).all()  # to the right, the first number grows
    assert (np.diff(x[..., 0], axis=0) == 0).all()
    assert (np.diff(x[..., 1], axis=0) > 0).all()  # down, the second one does
    assert (np.diff(x[..., 1], axis=1) == 0).all()
    assert (x[2, 2] == space.image([0, 0]).ravel()).all()
    shifted = latent.neighbourhood(space, plane, (1, 0), 2, 5).reshape(5, 5, 16)
    assert (shifted[:, :4] == x[:, 1:]).all()  # half of the span is one column
    for span, n in ((0, 5), (float("nan"), 5), (1, 0), (1, 100)):
        with pytest.raises(UserError, match="must"):
            latent.neighbourhood(space, plane, (0, 0), span, n)


# --- Paths --------------------------------------------------------------------------------------


def test_slerp_keeps_the_length_and_turns_evenly():
    a, b = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    b = b / b.norm() * a.norm()
    way = latent.slerp(a, b, torch.linspace(0, 1, 11))
    torch.testing.assert_close(way.norm(dim=1), a.norm().expand(11))
    turns = torch.cosine_similarity(way[:-1], way[1:])
    torch.testing.assert_close(turns, turns[:1].expand(10))
    assert latent.lerp(a, b, torch.tensor([0.5])).norm() < 0.9 * a.norm()


def test_a_spline_is_smooth_and_its_loop_closes():
    keys = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    at = torch.arange(5).double()
    torch.testing.assert_close(latent.spline(keys, at), keys)
    torch.testing.assert_close(latent.spline(keys, at, loop=True), keys)
    step = 1e-5
    for loop, places in ((False, (1.0, 2.0, 3.0)), (True, (1.0, 2.0, 3.0, 4.0, 5.0))):
        for place in places:
            near = torch.tensor([place - step, place, place + step]).double()
            if place == 5:  # behind the end comes the beginning
                near[2] -= 5
                near[1] -= 5
            before, here, after = latent.spline(keys, near, loop)
            torch.testing.assert_close(
                (here - before) / step, (after - here) / step, rtol=0, atol=1e-3
            )


@pytest.mark.parametrize("way", latent.WAYS)
@pytest.mark.parametrize("family", ["flow", "vae"])
def test_a_walk_passes_its_keyframes(family, way):
    space = space_of(family)
    keys = space.draw([0, 1, 2], [0, 1, 1] if space.classes else None)
    loop = latent.walk(space, keys, 30, way, loop=True)
    torch.testing.assert_close(loop[[0, 10, 20]], keys, rtol=1e-4, atol=1e-4)
    jumps = (loop.roll(-1, 0) - loop).norm(dim=1)
    assert (
        jumps.max() < 3 * jumps.mean()
    )  # the last step, back to the first frame, is like any other
    line = latent.walk(space, keys, 21, way, loop=False)
    torch.testing.assert_close(line[[0, 10, 20]], keys, rtol=1e-4, atol=1e-4)
    if space.sphere and way != "lerp":
        lengths = loop[:, : space.latent].norm(dim=1)
        assert lengths.min() > 0.9 * keys[:, : space.latent].norm(dim=1).min()


def test_a_walk_that_cannot_be_is_refused():
    space = space_of("vae")
    keys = space.draw([0, 1, 2])
    for arguments, words in (
        ((keys[:1], 10), "at least 2 keyframes, got 1"),
        ((keys, 2), "from 3, the keyframes, to 2000, got 2"),
        ((keys, 10, "sprint"), "There is no way 'sprint'"),
    ):
        with pytest.raises(UserError, match=words):
            latent.walk(space, *arguments)


# --- Films --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_films_hold_all_frames_and_what_made_them(channels):
    x = np.zeros((7, channels, 5, 5), np.uint8)
    for i in range(7):
        x[i, :, i % 5, :] = 255
    gif = Image.open(io.BytesIO(latent.gif(x, 20, {"run": "abc"}, scale=3)))
    assert gif.info["loop"] == 0
    assert b'{"run": "abc"}' in gif.info["comment"]
    assert gif.info["duration"] == 50
    frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert len(frames) == 7
    assert np.abs(frames[2][::3, ::3, 0].astype(int) - x[2, 0]).max() <= 2
    webp = Image.open(io.BytesIO(latent.webp(x, 24, {"run": "abc"}, scale=3)))
    assert webp.info["loop"] == 0
    assert webp.getexif()[0x010E] == '{"run": "abc"}'
    taken = []
    for i in range(webp.n_frames):
        webp.seek(i)
        assert (np.asarray(webp.convert("RGB"))[::3, ::3, 0] == x[i, 0]).all()
        taken.append(webp.info["duration"])
    assert len(taken) == 7 and sum(taken) == 292  # 7 / 24 s, whatever a frame is rounded to
    with pytest.raises(UserError, match="1 to 50 frames per second, got 0"):
        latent.gif(x, 0, {})
    with pytest.raises(UserError, match="at least 1 frame, got none"):
        latent.webp(x[:0], 20, {})
    if not latent.mp4_ready():
        pytest.skip("there is no ffmpeg")
    content = latent.mp4(x, 20, {"run": "abc"}, scale=3)
    assert content[4:8] == b"ftyp"
    assert b'{"run": "abc"}' in content


def test_an_mp4_without_ffmpeg_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not latent.mp4_ready()
    with pytest.raises(
        UserError, match=r"needs the program ffmpeg, which .* take the GIF or WebP\."
    ):
        latent.mp4(np.zeros((2, 1, 4, 4), np.uint8), 20, {})
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho broken >&2\nexit 3")
    (tmp_path / "ffmpeg").chmod(0o755)
    assert latent.mp4_ready()  # the one of this computer is what is called
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(UserError, match=r"could not be made \(broken\)\. Take the GIF or WebP"):
        latent.mp4(np.zeros((2, 1, 4, 4), np.uint8), 20, {})

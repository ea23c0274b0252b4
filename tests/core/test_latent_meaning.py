"""Directions, inversion, maps and views, each against something that is known exactly."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core import datasets, latent
from core.catalog import UserError
from core.datasets import assemble
from core.ground.watch import Watch
from core.latent import directions, regression
from core.measure import features
from core.measure.features import reading
from core.tensors import to_float
from tests.core.test_latent import Linear, linear_space, space_of


def matrix(*scales: float, seed: int = 0) -> torch.Tensor:
    """A 16 by D matrix with these singular values, and right vectors that are not the axes."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(16, len(scales), generator=generator))[0]
    right = torch.linalg.qr(torch.randn(len(scales), len(scales), generator=generator))[0]
    return left @ torch.diag(torch.tensor(scales)) @ right.T


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0).abs())


class Layers(Linear):
    """The same in two layers, and it shows them."""

    def __init__(self, matrix):
        super().__init__(matrix)
        self.last = torch.nn.Linear(16, 16, bias=False)
        self.last.weight.data.copy_(torch.eye(16))

    def decode(self, z, y, sampling):
        return (0.5 + self.last(self.first(z))).view(-1, 1, 4, 4)

    def layered(self):
        return self


# --- Directions without labels ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Linear, Layers])
def test_principal_directions_of_a_linear_decoder_are_its_singular_vectors(kind):
    a = matrix(0.2, 0.1, 0.05, 0.02)
    space = linear_space(a, kind)
    assert space.even
    _, scale, right = torch.linalg.svd(a, full_matrices=False)
    found = latent.principal(space, 3)
    for k, each in enumerate(found):
        assert cosine(each.vector, right[k]) > 0.99
        assert each.share == pytest.approx(float(scale[k] ** 2 / scale.square().sum()), abs=0.05)
        assert float(each.vector.norm()) == pytest.approx(1, abs=0.1)  # a standard deviation


@pytest.mark.parametrize("network", ["mlp", "conv", "residual"])
def test_factors_are_the_eigenvectors_of_the_first_layer(network):
    space = space_of("gan", network=network)
    if network == "conv":  # a batch norm that does something
        norm = space.model.generator.net[0].first[1]
        norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        norm.weight.data.uniform_(-2, 2, generator=torch.Generator().manual_seed(1))
    layer = next(m for m in space.model.generator.modules() if isinstance(m, torch.nn.Linear))
    a = layer.weight[:, :12].double().numpy()
    if network == "conv":
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        a = gain.double().numpy()[:, None] * a
    values, vectors = np.linalg.eigh(a.T @ a)
    found = latent.factors(space)
    assert len(found) == 6
    for k, each in enumerate(found):
        assert cosine(each.vector[:12], torch.as_tensor(vectors[:, -1 - k])) > 0.9999
        assert each.share == pytest.approx(values[-1 - k] / values.sum(), rel=1e-4)
        assert not each.vector[12:].any()
    assert latent.factors(space_of("flow")) == []


@pytest.mark.parametrize("family", ["gan", "vae", "vqvae", "flow"])
def test_local_directions_against_finite_differences(family):
    space = space_of(family)
    point = space.draw([0], [1])[0]
    exact, step, error = (False, 1e-2, 2e-3) if family == "vae" else (True, 1e-5, 1e-6)
    space.image(point)
    if exact:  # a VAE always answers in float32
        space.model.double()
        point = point.double()
    z, shares = point.split([space.latent, space.classes])
    decode = directions._decoder(space, shares)
    eye = torch.eye(space.latent, dtype=z.dtype) * step
    differences = ((decode(z + eye) - decode(z - eye)) / (2 * step)).T  # (P, D)
    found = directions.jacobian(decode, z)
    torch.testing.assert_close(found, differences, rtol=1e-2, atol=error)
    scale, axes = directions._subspace(decode, z, 4, rounds=60)
    _, wanted, right = torch.linalg.svd(differences.double())
    torch.testing.assert_close(scale[:2].double(), wanted[:2], rtol=2e-2, atol=error)
    space.model.float()
    best = latent.local(space, point.float(), 1)[0]
    if wanted[0] > 1.1 * wanted[1]:  # else it is any direction of a plane
        assert cosine(axes[0], right[0]) > 0.99
        assert cosine(best.vector[: space.latent], right[0]) > 0.99


def test_a_strip_says_when_the_class_changes():
    a = torch.zeros(16, 2)
    a[0, 0] = 0.15
    space = linear_space(a)

    def brightness(x):
        bright = x[:, 0, 0, 0]
        return torch.stack([1 - bright, bright], 1)

    first, second = (
        latent.Direction(name, "local", axis)
        for name, axis in zip(("x", "y"), torch.eye(2), strict=True)
    )
    _, classes = latent.filmstrip(space, torch.zeros(2), first, brightness)
    assert classes == (0, 0, 0, 0, 1, 1, 1)
    _, classes = latent.filmstrip(space, torch.zeros(2), second, brightness)
    assert classes == (0,) * 7
    with pytest.raises(UserError, match="finite"):
        latent.move(space, torch.zeros(2), first.vector, float("nan"))


# --- Directions of labels and attributes --------------------------------------------------------


def attributed(n: int = 600) -> Any:
    """Images of a linear decoder, with two true attributes that go together, and one that is noise."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 3))
    tone = z[:, 0]
    smile = 0.8 * z[:, 0] + 0.6 * z[:, 1]
    x = (128 + 25 * np.concatenate([z, rng.normal(size=(n, 13))], 1)).clip(0, 255)
    splits = {
        "train": np.arange(n - 100), "valid": np.arange(n - 100, n - 50), "test": np.arange(n - 50, n)
    }  # fmt: skip
    hat = (z[:, 2] > 0).astype(np.int64)
    return assemble(
        x.round().astype(np.uint8).reshape(n, 1, 4, 4),
        None,
        (),
        splits,
        attributes={"tone": tone, "smile": smile, "hat": hat, "constant": np.zeros(n)},
        name="toy",
    )


class Encoder(Linear):
    def encode(self, x, y, sampling):
        return (x.flatten(1) * 255 - 128) / 25


def test_attribute_directions_move_theirs_and_hold_the_others():
    space = linear_space(torch.eye(16) * 25 / 255, Encoder)
    dataset = attributed()
    assert datasets.columns(dataset).names == ("tone", "smile", "hat=1")
    found = {each.name: each for each in latent.regressed(space, dataset)}
    assert found["tone"].accuracy == pytest.approx(1, abs=0.05)
    assert found["hat=1"].measure == "accuracy"
    assert (found["hat=1"].accuracy or 0) > 0.9
    assert found["hat=1"].chance < 0.6
    assert cosine(found["hat=1"].vector, torch.eye(16)[2]) > 0.97
    # they correlate by 0.8: neither can be held, so each takes the other along
    assert abs(found["smile"].leaks["tone"]) > 0.4
    assert abs(found["smile"].leaks["hat=1"]) < 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "TIED", 2.0)  # now all others are held
        alone = latent.regressed(space, dataset, names=["smile"])[0]
    assert cosine(alone.vector, torch.eye(16)[1]) > 0.97
    assert float(found["tone"].vector[0]) == pytest.approx(1, abs=0.1)  # one standard deviation
    with pytest.raises(
        UserError, match=r"There is no label or attribute 'smil'\. Did you mean 'smile'"
    ):
        latent.regressed(space, dataset, names=["smil"])


def test_a_direction_without_a_name_is_told_by_what_it_changes():
    space, dataset = linear_space(torch.eye(16) * 25 / 255), attributed()

    class Reads(features.Reader):
        """Reads the attributes as they were made."""

        def __init__(self):
            pass

        def read(self, x):
            z = (x.flatten(1) * 255 - 128) / 25
            columns = z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1], (z[:, 2] > 0).float()
            return torch.stack(columns, 1)

    axes = [latent.Direction(f"z{k}", "principal", torch.eye(16)[k]) for k in (1, 0)]
    second, first = latent.explained(space, dataset, Reads(), axes)
    assert next(iter(second.leaks)) == "smile"
    assert second.leaks["smile"] == pytest.approx(0.6, abs=0.08)
    assert second.leaks["tone"] == pytest.approx(0, abs=0.08)
    assert next(iter(first.leaks)) == "tone"
    assert first.leaks["smile"] == pytest.approx(0.8, abs=0.08)


def test_arithmetic_of_attributes():
    space = linear_space(torch.eye(16) * 25 / 255, Encoder)
    dataset = attributed()
    plus, minus = (latent.condition(space, dataset, text) for text in ("hat=1", "hat=1=no"))
    start = torch.zeros(16)
    start[0] = 2
    found = latent.arithmetic(space, plus, minus, start)
    assert 0.6 < found[2] / found[0] < 1  # the mean of a half normal twice, 1.6, to 2
    assert float(found.norm()) == pytest.approx(2)
    high, low = (latent.condition(space, dataset, text) for text in ("tone=high", "tone=low"))
    assert high[0] > 1
    assert low[0] < -1
    for text, words in (("tone=no", "high or low, got 'no'"), ("beard", "no label or attribute")):
        with pytest.raises(UserError, match=words):
            latent.condition(space, dataset, text)


def test_what_cannot_be_regressed_is_said(toy):
    space = space_of("gan")
    with pytest.raises(UserError, match="neither classes nor attributes"):
        latent.regressed(space, toy(60, classes=0))
    with pytest.raises(UserError, match="Give a reader"):
        latent.regressed(space, toy(60))
    with pytest.raises(UserError, match="by many steps"):
        latent.regressed(space_of("diffusion"), toy(60))


class Heard(Watch):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        self.said.append(text)


def test_a_reader_learns_and_is_kept(toy, monkeypatch):
    monkeypatch.setattr(reading, "IMAGES", 1500)
    monkeypatch.setattr(regression, "POINTS", 500)
    dataset = toy(240, classes=3)
    assert features.readable(dataset)
    assert not features.reader_ready(dataset)
    heard = Heard()
    first = features.reader(dataset, heard)
    assert (
        heard.said[-1]
        == f"Training the reader of {dataset.name}, once for these images: 1,500 of 1,500 images"
    )
    assert features.reader_ready(dataset)
    assert first.accuracy.min() > 0.9
    heard.said.clear()
    again = features.reader(dataset, heard)
    assert not heard.said, "it was trained again"
    x = to_float(torch.as_tensor(dataset.x[:5]))
    torch.testing.assert_close(first.read(x), again.read(x))
    found = latent.regressed(space_of("gan", shares=(1 / 3,) * 3), dataset, again)
    assert {each.kind for each in found} <= {"labels"}


# --- Encoding and inversion ---------------------------------------------------------------------


def test_the_flow_encodes_exactly():
    space = space_of("flow")
    space.model.double()
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    y = torch.eye(2).double()[[0, 1, 1, 0]]
    torch.testing.assert_close(
        space.model.decode(space.model.encode(x, y, space.sampling), y, space.sampling),
        x,
        rtol=0,
        atol=1e-6,
    )
    space.model.float()
    found = latent.encode(space, x.float(), [0, 1, 1, 0])
    assert found.error.max() < 1e-8  # 1e-4 per pixel
    assert np.abs(found.recon.astype(int) - space.medium.shown(x.float())).max() <= 1
    assert latent.encode(space, x.float()).error.max() < 1e-8  # of no class in particular


@pytest.mark.parametrize("family", ["vae", "vqvae", "diffusion"])
def test_encoders_find_their_own_samples(family):
    space = space_of(family)
    labels = [1, 0] if space.classes else None
    points = space.draw([0, 1], labels)
    x = space.decode(points).detach()
    found = latent.encode(space, x, labels)
    assert found.points.shape == points.shape
    assert found.error.shape == (2,)
    if family == "diffusion":
        assert found.error.max() < 1e-3
    assert latent.difference(space.medium.shown(x), found.recon).dtype == np.uint8


def test_an_inversion_finds_what_a_linear_decoder_made():
    space = linear_space(matrix(0.2, 0.15, 0.1))
    wanted = torch.tensor([0.7, -0.4, 0.9])
    x = space.decode(wanted[None])
    steps = list(latent.invert(space, x, steps=200, every=50))
    errors = [step.error for step in steps]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6
    assert errors[-1] < errors[0] / 100
    torch.testing.assert_close(steps[-1].point, wanted, rtol=0, atol=0.02)
    assert steps[-1].done == 1
    assert (steps[-1].image == space.image(steps[-1].point)).all()


def test_an_inversion_beats_all_draws_and_keeps_the_class():
    space = space_of("gan")
    x = space.decode(space.draw([7], [1], seed=99)).detach()
    *_, last = latent.invert(space, x, 1, steps=40)
    _, images = latent.bank(space)
    best = (images.float() - x.flatten(1)).square().mean(1).min()
    assert last.error < float(best)
    assert last.point[-2:].tolist() == [0, 1]
    with pytest.raises(UserError, match="1 × 8 × 8 numbers, got 1 × 9 × 9"):
        next(latent.invert(space, torch.zeros(1, 1, 9, 9)))
    with pytest.raises(UserError, match="nan or infinity"):
        next(latent.invert(space, torch.full((1, 1, 8, 8), float("nan"))))
    with pytest.raises(UserError, match="This model has no encoder"):
        latent.encode(space, x)


# --- Preparing ----------------------------------------------------------------------------------


def of_source(name: str, toy: Any, **options: Any) -> Any:
    from dataclasses import replace

    return replace(toy(60, **options), source={"name": name})


def test_digits_are_counted_in_blocks(toy):
    dataset = of_source("digits", toy, levels=17)
    ink = np.full((200, 300), 255, np.uint8)
    ink[50:150, 100:200] = 0  # a dark square on paper
    found = datasets.prepare(ink, dataset)
    assert (found.x == 16).all()  # it fills the box, and every block is full
    ink[50:150, 150:200] = 255
    ink[50:60, 100:200] = 0  # now it is an angle
    found = datasets.prepare(ink, dataset)
    assert found.x.shape == (1, 8, 8)
    assert found.x[0, 7, 3] == 16
    assert found.x[0, 7, 5] == 0
    assert found.picture.max() == 255
    assert any("counted in blocks" in note for note in found.notes)
    assert any("inverted" in note for note in found.notes)
    white = 255 - ink
    assert (datasets.prepare(white, dataset).x == found.x).all()
    with pytest.raises(UserError, match="no ink in the drawing"):
        datasets.prepare(np.full((64, 64), 255, np.uint8), dataset)


def test_mnist_is_centred_by_its_mass(toy):
    dataset = of_source("mnist", toy, size=28)
    ink = np.zeros((300, 300), np.uint8)
    ink[10:110, 20:40] = 255
    ink[90:110, 20:80] = 255  # a heavy foot
    x = datasets.prepare(ink, dataset).x[0] / 255
    rows, columns = np.flatnonzero(x.any(1)), np.flatnonzero(x.any(0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 <= 20
    places = np.arange(28) + 0.5
    assert (x.sum(1) * places).sum() / x.sum() == pytest.approx(14, abs=0.5)
    assert (x.sum(0) * places).sum() / x.sum() == pytest.approx(14, abs=0.5)


def test_uploads_of_every_kind_are_brought_to_the_models_shape(toy):
    colour = toy(60, channels=3, size=16)
    base = np.zeros((40, 40, 3), np.uint8)
    base[:20, :, 0] = 255  # red above
    picture = Image.fromarray(base)

    def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    plain = datasets.prepare(packed(picture), colour).x
    assert plain.shape == (3, 16, 16)
    assert plain[0, 0].min() > 250
    assert plain[0, -1].max() < 5
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    rotated = datasets.prepare(
        packed(picture.rotate(180), "JPEG", exif=turned, quality=95), colour
    ).x
    assert np.abs(rotated.astype(int) - plain)[:, [0, -1]].max() < 30
    for mode in ("P", "L", "RGBA", "1", "I;16"):
        changed = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
        assert datasets.prepare(packed(changed), colour).x.shape == (3, 16, 16)
        assert datasets.prepare(packed(changed), toy(60, size=9)).x.shape == (1, 9, 9)
    clear = np.zeros((40, 40, 4), np.uint8)  # an empty canvas is white
    assert datasets.prepare(clear, colour).x.min() == 255
    for bad, words in (
        (b"GIF89a", "is not a PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC picture"),
        (packed(picture)[:60], "cut off|damaged|not a"),
        (np.zeros((4, 4)), "must be bytes of grey, RGB or RGBA, got float64"),
    ):
        with pytest.raises(UserError, match=words):
            datasets.prepare(bad, colour)


# --- Maps ---------------------------------------------------------------------------------------


def test_neighbours_are_the_nearest_training_images(toy):
    dataset = toy(200, classes=4)
    x = dataset.x[dataset.splits["test"][:6]]
    found, far = latent.neighbours(dataset, x, 3)
    train = dataset.splits["train"]
    flat = dataset.x[train].reshape(len(train), -1) / 255
    for row in range(6):
        rms = np.sqrt(((flat - x[row].ravel() / 255) ** 2).mean(1))
        assert found[row].tolist() == train[np.argsort(rms)[:3]].tolist()
        np.testing.assert_allclose(far[row], np.sort(rms)[:3], atol=1e-5)
    own = train[:4]
    assert (latent.neighbours(dataset, dataset.x[own], 1)[0][:, 0] == own).all()
    other, far = latent.neighbours(dataset, dataset.x[own], 1, but=own)
    assert (other[:, 0] != own).all()
    assert far.min() > 0.01
    guessed = latent.guess(dataset, x)
    assert guessed is not None
    assert (guessed == dataset.y[dataset.splits["test"][:6]]).all()
    assert latent.guess(toy(60, classes=0), x[:1]) is None
    with pytest.raises(UserError, match="are 1 × 8 × 8, got 3 × 8 × 8"):
        latent.neighbours(dataset, np.zeros((1, 3, 8, 8), np.uint8))


def test_a_straight_map_goes_there_and_back(toy):
    space = space_of("vae", shares=())
    scale = torch.linspace(1, 4, 6)  # latents that vary unevenly
    space.model.mixture_factors.mul_(scale[:, None])
    m = latent.chart(space, toy(100), "pca", 40)
    assert m.xy.shape == (int(m.real.sum()) + 40, 2)
    assert m.real.sum() == 40
    places = np.array([[0.5, -1.0], [2, 2]])
    np.testing.assert_allclose(m.project(m.point_at(places)), places, atol=1e-4)
    np.testing.assert_allclose(m.project(m.points), m.xy, atol=1e-4)
    left, top, right, bottom = m.box
    assert left < m.xy[:, 0].min() < m.xy[:, 0].max() < right
    assert m.lattice(4).shape == (16, 1, 8, 8)
    corner = m.point_at([[left + (right - left) / 8, top + (bottom - top) / 8]])
    assert (m.lattice(4)[0] == space.images(corner)[0]).all()
    assert 0 <= m.density.min() < m.density.max() <= 1
    assert m.nearest.min() > 0
    assert m.labels is not None


@pytest.mark.parametrize("family", ["gan", "diffusion"])
def test_a_map_of_what_does_not_encode_shows_samples(family, toy):
    space = space_of(family)
    m = latent.chart(space, toy(100), "pca", 30)
    assert not m.real.any()
    assert any("samples" in note for note in m.notes)
    assert m.labels is not None
    assert (m.labels == m.points[:, space.latent :].argmax(1).numpy()).all()
    only = latent.chart(space, toy(100), "pca", 30, label=1)
    assert only.labels is not None
    assert (only.labels == 1).all()
    assert (m.lattice(3).shape) == (9, 1, 8, 8)


def test_a_map_of_neighbours_is_kept(toy, monkeypatch, home):
    space = space_of("flow")
    m = latent.chart(space, toy(60), "tsne", 25)
    assert len(list((home / "cache" / "maps").iterdir())) == 1
    np.testing.assert_allclose(m.project(m.points[:5]), m.xy[:5], atol=0.1)
    torch.testing.assert_close(m.point_at(m.xy[:3])[:, -2:], m.points[:3, -2:], rtol=0, atol=0.05)
    monkeypatch.setattr("sklearn.manifold.TSNE", lambda *a, **k: pytest.fail("computed again"))
    again = space_of("flow")  # another visitor after a restart
    assert (latent.chart(again, toy(60), "tsne", 25).xy == m.xy).all()
    with pytest.raises(UserError, match="There is no projection 'magic' here"):
        latent.chart(space, toy(60), "magic")


# --- How a sample is made -----------------------------------------------------------------------


def test_views_are_asked_of_protocols():
    assert {f: latent.views(space_of(f)) for f in ("gan", "vae", "vqvae", "flow", "diffusion")} == {
        "gan": ["activations"],
        "vae": ["posterior", "activations"],
        "vqvae": ["codes", "activations"],
        "flow": ["unrolled"],
        "diffusion": ["denoising"],
    }
    with pytest.raises(
        UserError, match=r"no steps from noise to image\. Choose a view that it offers: activ"
    ):
        latent.denoising(space_of("gan"), 0)


@pytest.mark.parametrize("sampler", ["heun", "euler", "stochastic"])
def test_denoising_ends_in_the_sample(sampler):
    from dataclasses import replace

    space = space_of("diffusion")
    for value in space.model.net.parameters():
        value.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    space = replace(
        space, sampling=space.sampling.model_copy(update={"steps": 4, "sampler": sampler})
    )
    moments = latent.denoising(space, 5, 1, seed=2)
    assert [moment.time for moment in moments] == [0, 0.25, 0.5, 0.75, 1]
    sample = space.model.sample([5], torch.tensor([1]), 2, space.sampling)
    from core.tensors import to_bytes

    assert (moments[-1].clean == to_bytes(sample)[0]).all()
    assert (moments[-1].noisy == moments[-1].clean).all()
    assert not (moments[0].noisy == moments[0].clean).all()


@pytest.mark.parametrize("size", [8, 20])
def test_a_flow_unrolls_to_its_image(size):
    space = (
        space_of("flow", size=size, channels=4, network="auto")
        if size == 8
        else space_of("flow", size=size, network="conv")
    )
    point = space.draw([0], [1])[0]
    steps = latent.unrolled(space, point)
    assert (steps[-1][1] == space.image(point)).all()
    assert steps[0][0] == "noise"
    assert len(steps) == 1 + 2 * len(space.model.shapes)
    z = torch.linspace(-2, 2, space.latent)[
        None
    ]  # the places of the noise: no number is lost or doubled
    name, x = next(iter(space.model.unroll(z, None)))
    assert name == "noise"
    if size == 8:
        assert len(x.unique()) > 0.9 * x.numel()


@pytest.mark.parametrize("network", ["conv", "mlp", "residual"])
def test_units_can_be_switched_off(network):
    space = space_of("gan", network=network, size=16 if network == "conv" else 8)
    point = space.draw([0], [1])[0]
    layers = latent.activations(space, point)
    assert all(layer.maps.shape[0] == layer.units for layer in layers)
    assert (latent.without(space, point, {}) == space.image(point)).all()
    units, change = latent.effects(space, point, layers[0].name, 5)
    assert (np.diff(change) <= 0).all()
    assert change[0] > 0
    alone = latent.without(space, point, {layers[0].name: [int(units[0])]})
    moved = (alone.astype(float) - space.image(point)) / 255
    assert np.sqrt((moved**2).mean()) == pytest.approx(change[0], abs=1 / 255)
    # by hand: no unit of the last layer leaves what its bias draws
    last = layers[-1]
    none = latent.without(space, point, {last.name: list(range(last.units))})
    if network == "mlp":
        bias = space.model.generator.net[-2].bias
        wanted = (torch.tanh(bias) + 1) / 2 * 255
        assert np.abs(none.ravel() - wanted.numpy()).max() <= 1
    assert (space.image(point) == latent.without(space, point, {})).all()  # nobody else notices
    with pytest.raises(UserError, match="There is no layer 'Layer 99'"):
        latent.without(space, point, {"Layer 99": [0]})
    with pytest.raises(UserError, match="got 100000"):
        latent.without(space, point, {last.name: [100000]})


@pytest.mark.parametrize("quantizer", ["levels", "codebook"])
def test_codes_can_be_repainted(quantizer):
    space = space_of("vqvae", quantizer=quantizer, codebook=16)
    point = space.draw([0])[0]
    codes = latent.code_map(space, point)
    assert codes.shape == (4, 4)
    image, same = latent.repaint(space, codes)
    assert (image == space.image(point)).all()
    assert (latent.code_map(space, same) == codes).all()
    changed = codes.copy()
    changed[0, 0] = (codes[0, 0] + 5) % 16
    _, other = latent.repaint(space, changed)
    assert (latent.code_map(space, other) == changed).all()
    token = latent.token(space, int(codes[0, 0]), 3)
    assert len(token.neighbours) == 3
    assert int(codes[0, 0]) not in token.neighbours
    count = 125 if quantizer == "levels" else 16
    assert len(latent.vocabulary(space)) == count
    assert sum(latent.token(space, k).use for k in range(count)) == pytest.approx(1, abs=1e-4)
    far = latent.code_map(space, point * 0 + 50)  # outside of all levels: the nearest there are
    assert far.max() < count
    for bad in (codes[:2], codes + 1000, codes * 1.0):
        with pytest.raises(UserError, match="An image has 16 codes"):
            latent.repaint(space, bad)
    with pytest.raises(UserError, match="got -1"):
        latent.token(space, -1)


def test_dead_dimensions_of_a_vae_are_marked(toy):
    space = space_of("vae", shares=())
    space.model.posterior.weight.data[2] = 0  # the mean of dimension 2 hears nothing
    space.model.posterior.weight.data[:2] *= 10
    dataset = toy(100)
    others = to_float(torch.as_tensor(dataset.x))
    kl, dead = latent.posterior(space, others[:1], others)
    assert dead[2]
    assert not dead[:2].any()
    mean, log_var = (value[0].numpy() for value in space.model.spread(others[:1], None))
    np.testing.assert_allclose(kl, 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var), rtol=1e-4)

"""Pictures turned into another kind: by points, along velocities, by colours; what stays, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core import datasets, latent
from core.catalog import Config, UserError
from core.datasets import faces
from core.latent.space import Space
from core.latent.translate import DEPTH, differing, way
from core.measure.features.reading import Reader, ReaderNet
from core.models import Carries, Encodes, Spec
from core.tensors import noise


class Line(nn.Module):
    """An autoencoder of one matrix with orthogonal rows, which loses what lies outside of them."""

    classes = 0

    def __init__(self, spec: Spec, dims: int = 6) -> None:
        super().__init__()
        self.spec = spec
        pixels = int(np.prod(spec.shape))
        turn = torch.linalg.qr(
            torch.randn(pixels, pixels, generator=torch.Generator().manual_seed(1))
        )[0]
        self.rows = nn.Parameter(turn[:dims], requires_grad=False)

    def latent(self, ids: Any, seed: int, sampling: Config) -> Tensor:
        return noise(seed, ids, (len(self.rows),), "line")

    def encode(self, x: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        return x.flatten(1) @ self.rows.T

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        return (z @ self.rows).view(-1, *self.spec.shape)


class Normals(nn.Module):
    """The exact velocity field of one normal distribution of centred pictures per class."""

    classes = 2

    def __init__(self, spec: Spec, means: Tensor, spread: float) -> None:
        super().__init__()
        self.spec, self.s = spec, spread
        self.means = nn.Parameter(means, requires_grad=False)

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        assert y is not None
        mean, t = self.means[y], t.view(-1, 1, 1, 1)
        a = (t * self.s**2 - (1 - t)) / (t**2 * self.s**2 + (1 - t) ** 2)
        return mean + a * (x - t * mean)

    def latent(self, ids: Any, seed: int, sampling: Config) -> Tensor:
        return noise(seed, ids, (self.means[0].numel(),), "latent")

    def encode(self, x: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        raise AssertionError("a drift needs no way back")

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        return z.view(-1, *self.spec.shape)

    trace = states = encode


class Steps(Config):
    """So many steps."""

    steps: int = 200


@pytest.fixture(scope="module")
def some(toy: Any) -> Any:
    """A dataset of noise around one mean image per class."""
    return toy(240, size=4, classes=3)


def spaced(model: Any, name: str, sampling: Config | None = None) -> Space:
    z = model.latent([0], 0, sampling or Config()).shape[1]
    return Space(model, sampling or Config(), (name, 0), z, model.classes)


def test_a_way_between_classes_is_the_difference_of_their_mean_points(some: Any) -> None:
    model = Line(Spec("image", some.shape, 256, (1 / 3,) * 3))
    assert isinstance(model, Encodes) and not isinstance(model, Carries)
    space = spaced(model, "line")
    step = way(space, some, latent.aspects(some)["class"], 0, 2)
    train = some.splits["train"]
    points = space.encode(some.images(train))
    means = [points[torch.as_tensor(some.y[train] == k)].mean(0) for k in (0, 2)]
    assert torch.allclose(step, means[1] - means[0], atol=0.01)


def test_what_the_model_cannot_draw_of_a_picture_stays(some: Any) -> None:
    model = Line(Spec("image", some.shape, 256, (1 / 3,) * 3))
    space = spaced(model, "line")
    x = some.images(some.splits["test"])[:5] * 0.2 + 0.4
    done = latent.translate(space, some, x, "class 0", "class 1", strength=0.3)
    outside = torch.eye(16) - model.rows.T @ model.rows
    assert done.method == "difference" and float((done.images - x).abs().max()) > 0.01
    assert torch.allclose(done.images.flatten(1) @ outside, x.flatten(1) @ outside, atol=1e-5)
    assert done.points is not None
    there = space.decode(done.points) - space.decode(space.encode(x))
    assert torch.allclose(done.images, x + there, atol=1e-5)


def test_a_drift_between_two_normal_classes_ends_where_its_equation_is_solved_by_hand(
    toy: Any,
) -> None:
    two = toy(60, size=4, classes=2)
    means = torch.stack([torch.full((1, 4, 4), -0.1), torch.full((1, 4, 4), 0.2)])
    model = Normals(Spec("image", two.shape, 256, (0.5, 0.5)), means, spread=0.3)
    space = spaced(model, "normals", Steps())
    assert isinstance(model, Carries) and space.slow
    x = torch.full((3, 1, 4, 4), 0.5)
    done = latent.translate(space, two, x, "class 0", "class 1", masked=False)
    start = 1 - DEPTH
    gone = (
        start * 0.3 / ((start * 0.3) ** 2 + (1 - start) ** 2) ** 0.5
    )  # of the way, missed at first
    assert done.method == "drift" and done.points is None
    assert torch.allclose(done.images - x, torch.tensor(0.3 / 2 * (1 - gone)), atol=2e-3)
    little = latent.translate(space, two, x, "class 0", "class 1", masked=False, strength=0.2)
    assert float((little.images - x).mean()) < float((done.images - x).mean()) / 2


def test_a_drift_leaves_alone_what_both_classes_have_in_common(toy: Any) -> None:
    two = toy(60, size=8, classes=2)
    means = torch.zeros(2, 1, 8, 8)
    means[1, :, :3, :3] = 0.5
    model = Normals(Spec("image", two.shape, 256, (0.5, 0.5)), means, spread=0.3)
    mask = differing(model, torch.zeros(1, 1, 8, 8), (0, 1), [0], seed=0)
    assert bool((mask[0, 0, :3, :3] == 1).all()) and not float(mask[0, 0, 5:, 5:].sum())
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    space = spaced(model, "corner", Steps(steps=5))
    done = latent.translate(space, two, x, "class 0", "class 1")
    assert torch.equal(done.images[..., 5:, 5:], x[..., 5:, 5:])
    assert not torch.equal(done.images, x)


def test_a_picture_becomes_the_same_whatever_is_beside_it(gallery: Any) -> None:
    from core import jobs, runs

    run = jobs.get("shipped-digits-diffusion")
    space, digits = latent.open_space(runs.open_model(run)), datasets.load("digits")
    rows = digits.splits["test"][:3]
    x = digits.images(rows)
    all_ = latent.translate(space, digits, x, "3", "8", ids=rows.tolist())
    last = latent.translate(space, digits, x[2:], "3", "8", ids=rows[2:].tolist())
    other = latent.translate(space, digits, x[2:], "3", "8", ids=rows[2:].tolist(), seed=1)
    assert torch.allclose(all_.images[2:], last.images, atol=1e-5)
    assert not torch.allclose(last.images, other.images, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("class 0", "class 0", "twice. Choose two different values"),
        ("class 0", "class 9", "There is no class or value of an attribute 'class 9'"),
        ("tall=yes", "class 0", "'tall=yes' is a value of tall, and 'class 0' is not"),
    ],
)
def test_two_values_that_do_not_fit_are_refused(
    some: Any, source: str, target: str, said: str
) -> None:
    from dataclasses import replace

    tall = replace(some, attributes={"tall": np.arange(len(some)) % 2 > 0})
    space = spaced(Line(Spec("image", some.shape, 256, (1 / 3,) * 3)), "line")
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        latent.translate(space, tall, some.images(slice(2)), source, target)


def test_a_path_without_classes_says_what_it_lacks(toy: Any) -> None:
    plain = toy(60, size=4, classes=0)
    model = Normals(Spec("image", plain.shape, 256), torch.zeros(1, 1, 4, 4), 0.3)
    model.classes = 0
    with pytest.raises(UserError, match=r"was not told the classes.*Train it with"):
        latent.translate(spaced(model, "plain"), plain, plain.images(slice(1)), "a", "b")


def test_the_same_person_smiles_and_everything_else_of_the_face_is_as_before() -> None:
    drawn = datasets.load("faces", {"size": 16, "count": 40})
    rows = np.flatnonzero(drawn.y == 0)[:4]
    aspects = latent.aspects(drawn)
    happy = latent.truth(drawn, rows, aspects["class"], "happy")
    assert happy is not None
    assert drawn.attributes is not None
    who = {name: drawn.attributes[name][rows] for name in (*faces.NAMES, *faces.RANGES)}
    smiling = faces.become(who, "expression", "happy")
    assert all(0.70 <= smile <= 1 for smile in smiling["smile"])
    assert {k for k in who if not np.array_equal(who[k], smiling[k])} == {
        *("expression", "smile", "eyes", "mouth"),
    }
    assert (happy[:, :, :3] == drawn.x[rows][:, :, :3]).all()  # above the face nothing moves
    back = faces.become(smiling, "expression", "neutral")
    assert np.allclose(back["smile"], who["smile"], atol=1e-6)
    worn = latent.truth(drawn, rows, aspects["glasses"], "glasses=yes")
    assert worn is not None and not np.array_equal(worn, drawn.x[rows])
    assert latent.truth(drawn, rows, aspects["skin"], "skin=high") is None


class Sure(Reader):
    """Reads what two pixels say: the class, and whether it is tall."""

    def read(self, x: Tensor) -> Tensor:
        first = (x[:, 0, 0, 0] * 4).long()
        return torch.cat([torch.eye(3)[first.clamp(0, 2)], x[:, :1, 1, 1]], 1)


def test_a_judge_counts_what_was_reached_and_what_stayed(some: Any) -> None:
    from dataclasses import replace

    tall = replace(some, attributes={"tall": np.arange(len(some)) % 2 > 0})
    before = torch.zeros(4, 1, 4, 4)
    after = before.clone()
    after[:3, :, 0, 0] = 0.3  # three of four become class 1
    after[0, :, 1, 1] = 1.0  # and one of them tall
    table, accuracy = datasets.columns(tall), np.array([1.0, 0.9, 0.8, 0.7])
    net, none = ReaderNet(1, 8, 4), torch.zeros(4)
    reading = Sure(table.names, table.binary, table.labels, net, none, none, accuracy, 40)
    aspect = latent.aspects(tall)["class"]
    found = latent.judged(tall, reading, aspect, "class 1", before, after)
    assert found.reached.value == 0.75 and found.reached.n == 4
    assert found.least == ("tall", found.kept["tall"]) and found.kept["tall"].value == 0.75
    assert found.accuracy == pytest.approx(0.9)


def test_grey_levels_are_transported_in_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.rand(1, 1, 40, 40, generator=generator) ** 3
    theirs = 0.2 + 0.7 * torch.rand(1, 1, 40, 40, generator=generator)
    mapped = latent.Transport.between(ours, theirs)(ours)
    order = ours.flatten().argsort()
    assert torch.allclose(mapped.flatten()[order], theirs.flatten().sort().values, atol=5e-3)


def test_colours_are_transported_to_the_distribution_of_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.tensor([[0.6, 0.2, 0.0], [0.0, 0.5, 0.3], [0.1, 0.0, 0.4]])
    ours = torch.rand(30, 3, 12, 12, generator=generator)
    theirs = torch.einsum("nchw,cd->ndhw", torch.rand(30, 3, 12, 12, generator=generator), mix)
    moved = latent.Transport.between(ours, theirs)(ours)
    a, b = (x.movedim(1, -1).reshape(-1, 3) for x in (moved, theirs))
    assert torch.allclose(a.mean(0), b.mean(0), atol=0.01)
    assert torch.allclose(torch.cov(a.T), torch.cov(b.T), atol=0.003)

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
from core.latent.translation import DEPTH, differing, way
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
        self.spec, self.s, self.bent = spec, spread, False
        self.means = nn.Parameter(means, requires_grad=False)

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        assert y is not None
        mean, t = self.means[y], t.view(-1, 1, 1, 1)
        a = (t * self.s**2 - (1 - t)) / (t**2 * self.s**2 + (1 - t) ** 2)
        field = mean + a * (x - t * mean)
        return field + torch.sin(4 * x) if self.bent else field  # so that the noise matters

    def latent(self, ids: Any, seed: int, sampling: Config) -> Tensor:
        return noise(seed, ids, (self.means[0].numel(),), "latent")

    def encode(self, x: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        raise AssertionError("a drift needs no way back")

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        return z.view(-1, *self.spec.shape)

    trace = states = encode


class Steps(Config):
    """So many steps."""

    steps: int = 100


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
    assert torch.allclose(done.images - x, torch.tensor(0.3 / 2 * (1 - gone)), atol=3e-3)
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


def test_a_picture_becomes_the_same_whatever_is_beside_it(toy: Any) -> None:
    two = toy(60, size=8, classes=2)
    means = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    model = Normals(Spec("image", two.shape, 256, (0.5, 0.5)), means, spread=0.3)
    model.bent = True
    space = spaced(model, "beside", Steps(steps=5))
    x, ids = two.images(two.splits["test"][:3]), [7, 8, 9]
    together = latent.translate(space, two, x, "class 0", "class 1", ids=ids)
    alone = latent.translate(space, two, x[2:], "class 0", "class 1", ids=[9])
    other = latent.translate(space, two, x[2:], "class 0", "class 1", ids=[9], seed=1)
    assert torch.allclose(together.images[2:], alone.images, atol=1e-6)
    assert not torch.allclose(alone.images, other.images, atol=1e-3)


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


def test_a_sample_takes_the_channels_of_another_and_of_itself_nothing(gallery: Any) -> None:
    from core import jobs, runs

    space = latent.open_space(runs.open_model(jobs.get("shipped-faces-gan")))
    points = space.draw([0, 1], [0, 1] if space.classes else None, 0)
    same = latent.mixed(space, points, points)
    assert torch.allclose(same, space.decode(points).clamp(0, 1), atol=1e-4)
    both = latent.mixed(space, points[:1], points[1:])
    shape, look, made = (x.mean((2, 3))[0] for x in (same[:1], same[1:], both))  # colours
    assert (made - look).norm() < (made - shape).norm()
    with pytest.raises(UserError, match="first layer must be from 0"):
        latent.mixed(space, points, points, 9)
    flat = latent.open_space(runs.open_model(jobs.get("shipped-digits-flow")))
    assert not latent.mixable(flat)
    with pytest.raises(UserError, match="no convolutional layers"):
        latent.mixed(flat, points, points)


# --- Between two sets -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inks() -> tuple[Any, Any]:
    """Squares of ink that fill pictures of 8 px, and others in the middle of 16 px, in two classes each."""
    sets = []
    for size, ink, count in ((8, 8, 60), (16, 10, 400)):
        rng = np.random.default_rng(size)
        x = np.zeros((count, 1, size, size), np.uint8)
        edge = (size - ink) // 2
        x[:, :, edge : size - edge, edge : size - edge] = rng.integers(
            120, 255, (count, 1, ink, ink)
        )
        x[:, :, [0, -1]] = x[:, :, :, [0, -1]] = 0
        middle = slice(size // 2 - 1, size // 2 + 1)
        x[:, :, 0, middle] = x[:, :, -1, middle] = x[:, :, middle, 0] = x[:, :, middle, -1] = (
            200 if size == 8 else 0
        )
        splits = {
            "train": np.arange(count // 2),
            "valid": np.arange(count // 2, 3 * count // 4),
            "test": np.arange(3 * count // 4, count),
        }
        sets.append(
            datasets.assemble(
                x, (np.arange(count) % 2).astype(np.int64), ("a", f"b{size}"), splits,
                name=f"ink-{size}", terms={"licence": f"L{size}", "consent": "not needed"},
            )
        )  # fmt: skip
    return sets[0], sets[1]


def test_two_sets_join_in_one_frame_with_their_splits_contents_and_licences(inks: Any) -> None:
    from core.building import domains

    small, large = inks
    both = domains.joined(small, large)
    assert both.classes == ("ink-8", "ink-16") and both.shape == large.shape
    sides = [domains.extent_of(each).side for each in (large, both)]
    lying = both.x[both.y == 0].max((0, 1)) > 80  # the small ones became as large as the large
    rows = np.flatnonzero(lying.any(1))
    assert abs((rows[-1] + 1 - rows[0]) / 16 - sides[0]) <= 1 / 16 + 1e-6
    assert both.counts()["ink-8"] == {"train": 30, "valid": 15, "test": 15}
    assert both.counts()["ink-16"] == {"train": 120, "valid": 60, "test": 60}  # four for each
    assert both.imported("domains") and both.terms["licence"] == "L8 and L16"
    assert both.attributes is not None
    assert set(both.attributes["licence"][both.y == 1]) == {"L16"}
    aspect = latent.aspects(both)["content"]
    assert aspect.terms == ("content=a", "content=b8", "content=b16")
    met = aspect.met(datasets.columns(both).values)
    assert set(met[both.y == 0]) == {0, 1} and set(met[both.y == 1]) == {0, 2}
    kept = datasets.save("inks", both)
    assert kept.fingerprint == both.fingerprint and kept.imported("domains")


def test_sets_that_cannot_be_joined_are_refused(inks: Any) -> None:
    from core.building import domains

    with pytest.raises(UserError, match="hold the same items"):
        domains.joined(inks[0], inks[0])
    with pytest.raises(UserError, match="two different names, got 'x', 'x'"):
        domains.joined(*inks, names=("x", "x"))


def test_the_model_is_taken_only_where_it_beats_colours(inks: Any, home: Any) -> None:
    from core.building import domains

    class Whole(Sure):
        def read(self, x: Tensor) -> Tensor:
            bright = x.flatten(1).mean(1) > 0.3
            first = torch.stack([~bright, bright], 1).float()
            return torch.cat([first, torch.eye(3)[[0] * len(x)]], 1)

        def features(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, 100:104].double()

    both = domains.joined(*inks)
    table = datasets.columns(both)
    net, none = ReaderNet(1, 16, 5), torch.zeros(5)
    reading = Whole(table.names, table.binary, table.labels, net, none, none, np.ones(5), 9)
    means = torch.stack([torch.full((1, 16, 16), -0.5), torch.full((1, 16, 16), 0.9)])
    good = spaced(
        Normals(Spec("image", both.shape, 256, (0.5, 0.5)), means, 0.3), "good", Steps(steps=5)
    )
    found = latent.standings(good, both, *both.classes, reading, count=12, masked=False)
    assert [way.method for way in found.ways] == ["model", "colours", "nothing"]
    model, colours, _ = found.ways
    rows = latent.examples(both, latent.aspects(both)["class"], "ink-8", 12)
    assert both.attributes is not None
    first = float((both.attributes["content"][rows] == 0).mean())  # all that this reader ever sees
    assert model.reached.value == 1 and model.kept is not None and model.kept.value == first
    assert colours.both.value <= model.both.value
    assert found.best == ("model" if found.better.low > 0 else "colours")
    same = spaced(
        Normals(Spec("image", both.shape, 256, (0.5, 0.5)), means[[0, 0]], 0.3),
        "same",
        Steps(steps=5),
    )
    poor = latent.standings(same, both, *both.classes, reading, count=12, masked=False)
    assert poor.best == "colours" and "does not beat what costs nothing" in poor.sentence
    again = latent.standings(good, both, *both.classes, reading, count=12, masked=False)
    assert again == found  # read from what was kept


def test_the_command_translates_items_and_joins_sets(
    trained: Any, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from core.__main__ import main
    from core.measure.features import reading

    monkeypatch.setattr(reading, "IMAGES", 256)
    out = tmp_path / "made.npz"
    run = trained.runs["vae"]
    words = [
        "translate",
        run,
        "--split",
        "test",
        "-n",
        "5",
        "--from",
        "3",
        "--to",
        "8",
        "--out",
        str(out),
    ]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n"] == 5 and said["method"] == "difference" and 0 <= said["reached"] <= 1
    with np.load(out) as file:
        assert file["x"].shape == file["before"].shape == (5, 1, 8, 8)
    assert main(["translate", run, "--from", "3", "--to", "8"]) == 2
    assert "There is nothing to translate" in capsys.readouterr().err
    assert main(["translate", "--domains", "digits", "plain", "--name", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["domains"] == ["digits", "plain"]
    assert main(["translate", "--domains", "digits", "plain", "--name", "a b"]) == 0
    assert "train --dataset a-b --family diffusion" in capsys.readouterr().out
    assert datasets.load("both").classes == ("digits", "plain")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("RUN --mix 0 1 --to 8", "--mix does nothing with --to"),
        ("RUN --from 3 --to 8 --colours --strength 2 --split test", "does nothing with --strength"),
        ("RUN --from 3 --to 8 --compare --out a.png", "--compare does nothing with --out"),
        ("RUN --domains digits faces", "--domains does nothing with RUN"),
        ("RUN a.png --from 3 --to 8 --split test", "Pictures are named, or taken"),
        ("RUN --from 3 --to 8 --split test --name both", "--name is that of a set"),
        ("RUN --mix 0 99999999999999999999", "--mix takes numbers from 0"),
    ],
)
def test_the_command_refuses_what_would_do_nothing(
    trained: Any, capsys: pytest.CaptureFixture[str], words: str, why: str
) -> None:
    from core.__main__ import main

    assert main(["translate", *words.replace("RUN", trained.runs["gan"]).split()]) == 2
    assert why in capsys.readouterr().err

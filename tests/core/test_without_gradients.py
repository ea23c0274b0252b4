"""What has no gradients: decoders that are searched all the same, and classifiers that are attacked by their answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core import datasets, latent, robustness
from core.catalog import UserError
from core.latent import repair
from core.latent.directions import differences, jacobian, local, principal
from core.latent.evolution import minimise
from core.latent.repair import slices
from core.latent.repair.slices import elliptical
from core.models import Spec
from core.robustness import attacks, hardening, one_image
from core.robustness.config import StudyConfig
from core.robustness.tricks import tricks
from core.runs import Opened
from core.target import Climb, Target
from core.wrapped.decoder import DecoderModel, DecoderSampling


def test_evolution_finds_the_bottom_of_a_narrow_turned_valley():
    turn = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(0)))[0]
    goal = torch.linspace(-2, 2, 10)
    steep = torch.logspace(0, 4, 10)
    *_, last = minimise(
        lambda x: (((x - goal) @ turn).square() * steep).sum(1), torch.zeros(10), 0.5, rounds=250
    )
    assert torch.allclose(last.at, goal, atol=2e-2) and last.value < 1e-3
    many = torch.linspace(-1, 1, 240)  # each dimension by itself
    values = [s.value for s in minimise(lambda x: (x - many).square().sum(1), 0 * many, 0.5, rounds=200)]  # fmt: skip
    assert values[-1] < 0.05 * values[0] and values == sorted(values, reverse=True)


def test_slices_draw_from_the_posterior_that_algebra_gives():
    """A normal prior and a linear measurement: mean and covariance are known in closed form."""
    line = torch.tensor([[1.0, 0.5], [0.0, 2.0], [0.3, -0.4]])  # (3, D)
    seen, width = torch.tensor([1.0, -1.0, 0.5]), 0.6
    precision = torch.eye(2) + line.T @ line / width**2
    mean = torch.linalg.solve(precision, line.T @ seen / width**2)

    def measure(z):
        return (z @ line.T - seen).square().sum(1)

    start = torch.zeros(400, 2)
    walk = elliptical(
        measure, lambda z, off: -off / (2 * width**2), start, measure(start), range(400), 0, 40
    )
    drawn = torch.cat([z for k, (z, _) in enumerate(walk) if k >= 10])
    assert torch.allclose(drawn.mean(0), mean, atol=0.02)
    assert torch.allclose(torch.cov(drawn.T), torch.linalg.inv(precision), atol=0.02)


class Line(nn.Module):
    """The sigmoid of a line; without derivatives, as a graph of another library is."""

    latent_dim, classes = 4, 0

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("line", torch.randn(4, 64, generator=generator))

    def decode(self, z, y):
        return (z.detach() @ self.line).sigmoid().view(-1, 1, 8, 8)


@pytest.fixture(scope="module")
def opened():
    model = DecoderModel(Line(), Spec("image", (1, 8, 8), 17, (0.1,) * 10), 0).eval()
    model.requires_grad_(False)
    return Opened("line", 0, 0, "decoder", model, model.spec, (), DecoderSampling)


def test_an_image_is_found_and_directions_are_measured_without_derivatives(opened):
    space = latent.open_space(opened)
    assert not space.differentiable
    z = torch.tensor([[0.5, -1.0, 0.3, 0.8]])
    steps = list(latent.find(space, space.decode(z)))
    assert steps[-1].error < 1e-6 and torch.allclose(steps[-1].point, z[0], atol=1e-2)
    assert [step.done for step in steps] == sorted(step.done for step in steps)

    def smooth(z):
        return (z @ opened.model.net.line).sigmoid()

    assert torch.allclose(differences(smooth, z[0]), jacobian(smooth, z[0]), atol=1e-3)
    exact = torch.linalg.svd(jacobian(smooth, z[0]))[2][0]
    found = local(space, z[0])[0].vector[:4]
    assert abs(torch.cosine_similarity(found, exact, 0)) > 0.99
    assert len(principal(space)) == 4
    assert "latent" not in [trick.name for trick in tricks if trick.fits(opened)]


def test_holes_are_filled_without_derivatives_and_what_is_known_stays(opened, monkeypatch):
    monkeypatch.setattr(slices, "ROUNDS", 40)
    monkeypatch.setattr(slices, "SETTLING", 30)
    space = latent.open_space(opened)
    x = space.decode(torch.tensor([[0.5, -1.0, 0.3, 0.8]]))
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[2:6, 2:6] = False
    known = repair.Known.mask(mask)
    assert repair.method_of(space).name == "slices"
    with pytest.raises(UserError, match="needs a model whose images are one pass from a latent, with a"):  # fmt: skip
        repair.method_of(space, "search")
    some = repair.last(repair.fill(space, x, known, fills=3, seed=1)).images
    more = repair.last(repair.fill(space, x, known, fills=5, seed=1)).images
    assert torch.equal(some, more[:3])
    assert torch.equal(some[:, 0, mask], x[0, 0, mask].expand(3, -1))
    assert float((some - x)[:, 0, ~mask].square().mean()) < 0.01  # 48 pixels say what 4 numbers are
    assert float((some[0] - some[1]).abs().max()) > 0


# --- Classifiers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def target(gallery):
    """The shipped digits' classifier, as if it were a graph."""
    from core.robustness import classifiers

    digits = datasets.load("digits")
    net = classifiers.open_model(classifiers.find("shipped-digits-classifier"), digits).model

    class Graph(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return net(x)

    card = {"kind": "brought", "answers_only": True, "hash": "0" * 16}
    return Target(Graph(), digits.classes, (1, 8, 8), name="graph", card=card)


def test_what_gives_answers_only_is_attacked_without_gradients_and_the_verdict_says_so(target):
    config = StudyConfig.of({"n": 50, "eps": "0.6", "options": "square.queries=60"}, "study")
    *_, report = robustness.begin(target, datasets.load("digits"), config)
    assert [each.name for each in report.attacks] == ["noise", "square", "surrogate"]
    assert sum(each.backward for each in report.attacks) == 0 and target.backward == 0
    apart = {c.number for c in report.checks if c.outcome == "inapplicable"}
    assert apart == {4, 5, 6, 7, 12} and {c.outcome for c in report.checks} <= {"pass", "warn", "inapplicable"}  # fmt: skip
    assert "It gives answers only, so it was attacked without gradients" in report.verdict.sentence
    assert "5 of 13 checks, about gradients, do not apply" in report.verdict.sentence
    assert not report.verdict.believable and report.robustness.colour != "green"
    assert report.threat["knowledge"] == "its answers only (black box)"
    assert "not its weights or gradients (black box)" in report.limits[-1]
    from core.robustness.store import Report

    assert Report.of(report.record()).verdict == report.verdict


def test_what_takes_gradients_is_refused_where_there_are_none(target):
    digits = datasets.load("digits")
    x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    with pytest.raises(UserError, match=r"PGD takes gradients, and graph gives answers only. Choose from: .*square"):  # fmt: skip
        attacks.run("pgd", target, x, y, 0.1)
    config = StudyConfig.of({"attacks": "noise,pgd"}, "study")
    with pytest.raises(UserError, match="takes gradients, and graph gives answers only"):
        robustness.begin(target, digits, config)
    with pytest.raises(UserError, match="graph gives answers only, without gradients, and this needs"):  # fmt: skip
        target.climb(x, Climb("ce", y))
    cost = robustness.estimate(target, digits, StudyConfig.of({"n": 8}, "study"))
    assert cost.seconds > 0 and target.backward == 0
    seen = one_image.look(target, x[0], 0)
    assert len(seen.said) == len(seen.eps) and seen.smallest["l2"] is None


def test_a_graph_cannot_be_hardened(monkeypatch):
    from types import SimpleNamespace

    found = SimpleNamespace(name="graph", record={"facts": {"answers_only": True}})
    monkeypatch.setattr(hardening.brought, "find", lambda id: found)
    with pytest.raises(UserError, match="graph gives answers only, without gradients, so it cannot be trained"):  # fmt: skip
        hardening.described("own/graph")

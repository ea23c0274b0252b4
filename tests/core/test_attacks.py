"""Attacks: the wrapper's promises, each attack against others' arrays, and the norms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core.ascent import climb
from core.catalog import Config, UserError
from core.ground.watch import Stopped
from core.norms import L1, L2, LINF, NORMS, Budget, norm_of
from core.robustness import attacks
from core.robustness.attacks import Proposal, Trial, run
from core.target import Climb, Target, dlr, margin

HERE = Path(__file__).parent / "oracles"
EPS, LONG = 0.1, 0.4


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    """What the other libraries computed; see oracles/attacks.py."""
    with np.load(HERE / "attacks.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def net(arrays) -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Softplus(), nn.Linear(32, 10))
    made.load_state_dict({k[4:]: v for k, v in arrays.items() if k.startswith("net.")})
    return made.eval().requires_grad_(False)


@pytest.fixture
def target(net) -> Target:
    return Target(net, [str(k) for k in range(10)], (1, 8, 8))


# --- as others do -------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["foolbox", "torchattacks"])
def test_fgsm_is_that_of_other_libraries_image_by_image(target, arrays, library):
    out = run("fgsm", target, arrays["x"], arrays["y"], EPS, active=False)
    assert (out.adversarial - arrays[f"{library}_fgsm"]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("library", "start"), [("foolbox", "start"), ("torchattacks", "torchattacks_start")]
)
def test_pgd_from_the_same_start_is_that_of_other_libraries_image_by_image(
    target, arrays, library, start
):
    out = run(
        "pgd",
        target,
        arrays["x"],
        arrays["y"],
        EPS,
        config={"steps": 20},
        active=False,
        start=arrays[start],
    )
    assert (out.adversarial - arrays[f"{library}_pgd"]).abs().max() < 1e-5


def test_pgd_in_l2_is_that_of_foolbox_image_by_image(target, arrays):
    values = {"steps": 20, "random_start": False}
    out = run("pgd", target, arrays["x"], arrays["y"], LONG, norm=L2, config=values, active=False)
    assert (out.adversarial - arrays["foolbox_pgd_l2"]).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "steps"), [("deepfool", 50), ("ddn", 200)])
def test_the_smallest_changes_are_as_small_as_those_of_adv_lib(target, arrays, name, steps):
    out = run(name, target, arrays["x"], arrays["y"], None, norm=L2, config={"steps": steps})
    assert bool(out.fooled.all())
    assert float(out.distance.mean()) == pytest.approx(float(arrays[name].mean()), rel=0.01)


def test_autoattack_fools_the_very_images_that_the_original_fools(target, net, arrays):
    pytest.importorskip("pyautoattack")
    before = torch.random.get_rng_state()
    out = run("autoattack", target, arrays["x"][:6], arrays["y"][:6], EPS)
    theirs = net(arrays["autoattack"]).argmax(1) != arrays["y"][:6]
    assert torch.equal(out.fooled, theirs)
    assert (out.adversarial - arrays["autoattack"])[theirs].abs().max() < 1e-5
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's dice were touched


def test_one_full_step_of_pgd_without_a_random_start_is_fgsm(target, arrays):
    values = {"steps": 1, "step_size": 1.0, "random_start": False}
    one = run("pgd", target, arrays["x"], arrays["y"], EPS, config=values, active=False)
    assert torch.allclose(one.adversarial, arrays["foolbox_fgsm"], atol=1e-6)


def test_screening_finds_nearly_what_autoattack_finds(target, arrays):
    quick = run("quick", target, arrays["x"][:6], arrays["y"][:6], EPS)
    theirs = (arrays["autoattack"] != arrays["x"][:6]).flatten(1).any(1)
    assert abs(int(quick.fooled.sum()) - int(theirs.sum())) <= 1


# --- the promise --------------------------------------------------------------------------------

QUICK = {
    "noise": {"draws": 3},
    "pgd": {"steps": 5},
    "quick": {"steps": 4, "targets": 2},
    "square": {"queries": 30},
    "ddn": {"steps": 30},
    "fmn": {"steps": 30},
    "cw": {"searches": 2, "steps": 20},
    "geometric": {"tries": 5},
}
CASES = [
    (name, norm)
    for name in attacks.attacks.names()
    if name != "autoattack"
    for norm in attacks.attacks.get(name).norms
]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_attack_stays_within_range_and_budget_and_counts_its_passes(
    target, arrays, name, norm
):
    entry = attacks.attacks.get(name)
    eps = {LINF: 0.2, L2: 1.0, L1: 5.0}[norm]
    x, y = arrays["x"][:12], arrays["y"][:12]
    out = run(name, target, x, y, eps, norm=norm, config=QUICK.get(name))
    assert out.complete
    assert (
        out.adversarial.isfinite().all()
        and out.adversarial.min() >= 0
        and out.adversarial.max() <= 1
    )
    size = norm.length(out.adversarial - x)
    if not entry.free:
        assert (size[out.fooled] <= (math.inf if entry.smallest else eps) + 1e-5).all()
    assert torch.equal(target.predict(out.adversarial) != y, out.fooled)
    assert torch.allclose(size[out.fooled], out.distance[out.fooled], atol=1e-5)
    assert out.distance[~out.fooled].isinf().all()
    assert out.forward == target.forward - len(x) > 0  # the last look is ours
    assert (out.backward > 0) == entry.gradient
    assert entry.passes(entry.config.of(QUICK.get(name)), 10) > 0


@pytest.mark.parametrize("name", ["noise", "fgsm", "pgd", "quick", "square"])
def test_an_attack_of_strength_zero_changes_nothing(target, arrays, name):
    out = run(name, target, arrays["x"][:6], arrays["y"][:6], 0.0, config=QUICK.get(name))
    assert torch.equal(out.adversarial, arrays["x"][:6])
    assert not out.fooled.any()


@pytest.mark.parametrize(
    ("name", "norm"), [c for c in CASES if c[0] not in ("noise", "geometric", "square")]
)
def test_every_attack_finds_the_flip_of_a_linear_classifier(name, norm):
    weights = torch.ones(16) / 4
    plane = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    plane[1].weight.data, plane[1].bias.data = (
        torch.stack([weights, -weights]),
        torch.tensor([-2.0, 2.0]),
    )
    target = Target(plane, ["yes", "no"], (1, 4, 4))
    x = torch.full((3, 1, 4, 4), 0.52) + 0.002 * torch.arange(3).view(3, 1, 1, 1)
    y = torch.where(target.predict(x) == 0, 0, 1)
    far = (weights @ x.flatten(1).T - 2).abs().max() + 1e-3  # in logits
    reach = far / {LINF: 4.0, L2: 1.0, L1: 0.25}[norm] * 1.3
    out = run(name, target, x, y, float(reach), norm=norm, config=QUICK.get(name))
    assert bool((out.distance <= (math.inf if name == "cw" else 3 * reach)).all()), out.distance


def test_an_attack_that_strays_is_cut_back_and_judged_on_what_is_left(target, arrays):
    @attacks.attacks.add(
        "stray", "Stray", Config, norms=(LINF,), gradient=False, passes=lambda c, k: 1
    )
    def stray(config, target, problem):
        """Leaves every budget, and lies about its success."""
        yield Proposal(problem.x + 9, logits=torch.eye(10)[(problem.y + 1) % 10])

    try:
        out = run("stray", target, arrays["x"], arrays["y"], 0.01)
    finally:
        del attacks.attacks._entries["stray"]
    assert out.clipped == len(arrays["x"])
    assert ((out.adversarial - arrays["x"]).abs() <= 0.01 + 1e-6).all()
    assert torch.equal(out.fooled, target.predict(out.adversarial) != arrays["y"])


def test_a_proposal_that_is_not_a_number_is_judged_on_what_is_kept_of_it(target, arrays):
    @attacks.attacks.add(
        "broken", "Broken", Config, norms=(LINF,), gradient=False, passes=lambda c, k: 1
    )
    def broken(config, target, problem):
        """Proposes nonsense, and says that it fools."""
        yield Proposal(problem.x * math.nan, logits=-target.logits(problem.x))

    try:
        x, y = arrays["x"][:6], target.predict(arrays["x"][:6])
        out = run("broken", target, x, y, EPS)
    finally:
        del attacks.attacks._entries["broken"]
    assert out.clipped == 6
    assert bool(out.adversarial.isfinite().all())
    assert torch.equal(out.fooled, target.predict(out.adversarial) != y)


def test_fooled_images_leave_the_batch_and_the_answer_is_the_same(target, arrays):
    x, y = arrays["x"], arrays["y"]
    kept = run("pgd", target, x, y, 0.15, config={"steps": 20})
    passes = target.forward
    whole = run("pgd", target, x, y, 0.15, config={"steps": 20}, active=False)
    assert target.forward - passes > 1.3 * passes
    assert (whole.fooled & ~kept.fooled).sum() == 0
    # and an image is attacked alike in any batch
    alone = run("pgd", target, x[5:6], y[5:6], 0.15, config={"steps": 20}, ids=[5])
    assert torch.allclose(alone.adversarial[0], kept.adversarial[5], atol=1e-5)


def test_an_attack_without_masks_asks_once_per_step_and_once_for_its_end(target, arrays):
    x, y = arrays["x"], arrays["y"]
    out = run("pgd", target, x, y, EPS, config={"steps": 5}, active=False)
    assert (out.forward, out.backward) == (6 * len(x), 5 * len(x))
    assert torch.equal(out.fooled, target.predict(out.adversarial) != y)
    size = LINF.length(out.adversarial - x).masked_fill(~out.fooled, torch.inf)
    assert torch.equal(out.distance, size)


def test_a_targeted_attack_aims(target, arrays):
    x, y = arrays["x"][:8], arrays["y"][:8]
    towards = (y + 3) % 10
    out = run("pgd", target, x, y, 0.5, config={"steps": 30, "loss": "margin"}, towards=towards)
    assert out.fooled.sum() >= 6
    assert torch.equal(target.predict(out.adversarial)[out.fooled], towards[out.fooled])


def test_a_stopped_attack_keeps_what_it_has(target, arrays):
    trial = Trial("pgd", target, arrays["x"], arrays["y"], EPS, config={"steps": 40})
    steps = 0

    def stop() -> None:
        nonlocal steps
        steps += 1
        if steps > 12:
            raise Stopped

    target.on_pass = stop
    *_, last = trial
    assert not last.complete and 0 < last.steps < 20
    assert last.fooled.any()


def test_memory_that_is_short_halves_the_batch_and_says_so(net, arrays):
    def narrow(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return net(x)

    target = Target(narrow, [str(k) for k in range(10)], (1, 8, 8))
    out = run("pgd", target, arrays["x"], arrays["y"], EPS, config={"steps": 5}, active=False)
    wide = run(
        "pgd",
        Target(net, target.classes, (1, 8, 8)),
        arrays["x"],
        arrays["y"],
        EPS,
        config={"steps": 5},
        active=False,
    )
    assert torch.allclose(out.adversarial, wide.adversarial, atol=1e-6)
    assert target.batch <= 5
    assert target.notes[-1].startswith("Memory was short: it is given")

    def never(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="Not even one image fits into the memory"):
        Target(never, ["a", "b"], (1, 8, 8)).logits(arrays["x"])


@pytest.mark.parametrize(
    ("name", "eps", "norm", "text"),
    [
        ("pdg", 0.1, LINF, "There is no attack 'pdg'. Did you mean 'pgd'?"),
        ("pgd", None, LINF, "PGD needs an attack strength eps, got none. For example 8/255."),
        (
            "ddn",
            None,
            LINF,
            "DDN (smallest L2 change) must be bounded by one of l2, got linf. Choose one of these.",
        ),
    ],
)
def test_what_cannot_be_attacked_is_said(target, arrays, name, eps, norm, text):
    with pytest.raises(UserError) as caught:
        Trial(name, target, arrays["x"], arrays["y"], eps, norm)
    assert str(caught.value) == text


# --- classifier, norms, losses ------------------------------------------------------------------


def test_a_gradient_passes_a_rounding_only_where_it_is_let(net, arrays):
    rounded = Target(
        lambda x: net(torch.round(x * 16) / 16), [str(k) for k in range(10)], (1, 8, 8)
    )
    score = Climb("margin", arrays["y"])
    assert not rounded.climb(arrays["x"], score)[2].any()
    through = rounded.with_(bpda=True)
    _, _, slope = through.climb(arrays["x"], score)
    plain = Target(net, rounded.classes, (1, 8, 8)).climb(
        torch.round(arrays["x"] * 16) / 16, score
    )[2]
    assert torch.allclose(slope, plain, atol=1e-6)
    cast = Target(
        lambda x: net((x * 16).to(torch.uint8).float() / 16),
        rounded.classes,
        (1, 8, 8),
        name="cast",
    )
    assert cast.with_(bpda=True).climb(arrays["x"], score)[2].any()


def test_a_random_model_is_averaged_over_draws(net, arrays):
    generator = torch.Generator().manual_seed(0)
    target = Target(
        lambda x: net(x + 0.3 * torch.randn(x.shape, generator=generator)),
        [str(k) for k in range(10)],
        (1, 8, 8),
    )

    def spread(t):
        return torch.stack([t.probabilities(arrays["x"]) for _ in range(5)]).std(0).mean()

    assert spread(target.with_(eot=40)) < spread(target) / 3
    many = target.with_(eot=5)
    many.climb(arrays["x"], Climb("ce", arrays["y"]))
    assert (many.forward, many.backward) == (5 * 32, 5 * 32)


@pytest.mark.parametrize("norm", NORMS)
def test_cutting_back_gives_the_nearest_point_of_the_ball(norm):
    rng = torch.Generator().manual_seed(0)
    x = torch.full((5, 1, 4, 4), 0.5)
    moved = x + 0.1 * torch.randn(x.shape, generator=rng)
    cut = norm.within(x, moved, 0.25)
    assert (norm.length(cut - x) <= 0.25 + 1e-6).all()
    # no point of the ball is nearer: a projection's remainder makes no acute angle with any way inside
    for k in range(50):
        inside = norm.within(
            x, x + torch.randn(x.shape, generator=torch.Generator().manual_seed(k)), 0.25
        )
        assert (((moved - cut) * (inside - cut)).flatten(1).sum(1) <= 1e-5).all()
    near = x + 0.001 * torch.ones_like(x)
    assert torch.allclose(norm.within(x, near, 0.25), near)


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_change_gains_what_the_dual_norm_measures(norm):
    slope = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    ahead = norm.steepest(slope)
    assert torch.allclose(norm.length(ahead), torch.ones(3))
    gain = (ahead * slope).flatten(1).sum(1)
    assert torch.allclose(gain, norm.dual.length(slope))
    assert norm.dual.dual is norm


def test_the_attack_and_the_training_against_it_climb_alike(target, net, arrays):
    x, y = arrays["x"], arrays["y"]
    start = LINF.within(x, arrays["start"], EPS)
    out = run("pgd", target, x, y, EPS, config={"steps": 6}, active=False, start=start)
    moved = climb(lambda m: F.cross_entropy(net(m), y, reduction="none"), x, start, EPS, 6)
    assert torch.equal(out.adversarial, moved)


def test_losses_are_what_their_papers_say():
    logits, y = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.5, 1.0]]), torch.tensor([0, 2])
    assert margin(logits, y).tolist() == [-2.0, 0.5]
    assert margin(logits, y, torch.tensor([2, 0])).tolist() == [-3.0, -1.5]
    assert torch.allclose(dlr(logits, y), torch.tensor([-2 / 3, 0.5 / 1.0]))
    assert torch.allclose(
        dlr(logits, y, torch.tensor([2, 0])), torch.tensor([-3 / 3.5, -1.5 / 1.5])
    )
    assert torch.allclose(dlr(1000 * logits, y), dlr(logits, y))
    two = logits[:, :2]
    assert torch.allclose(dlr(two, torch.tensor([0, 1])), margin(two, torch.tensor([0, 1])))


@pytest.mark.parametrize(
    ("text", "norm", "found"),
    [
        ("8/255, 4/255", "linf", [4 / 255, 8 / 255]),
        ("0", "linf", [0.0]),
        ("1;0.5", "linf", [0.5, 1.0]),
        ("", "l2", []),
        ("3", "l2", [3.0]),
    ],
)
def test_strengths_are_read_as_people_write_them(text, norm, found):
    budget = Budget(norm_of(norm), (1, 8, 8))
    assert budget.read(text) == pytest.approx(found)
    written = ",".join(map(budget.norm.text, found))  # to three digits
    assert budget.read(written) == pytest.approx(found, abs=1 / 255)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "8",
            "An attack strength must be at most 1 (linf, values from 0 to 1), got 8. Did you mean 8/255?",
        ),
        ("-1", "An attack strength must be 0 or more, got -1. For example 8/255."),
        ("much", "An attack strength must be a number, got 'much'. For example 8/255, or 0.1."),
        ("nan", "An attack strength must be 0 or more, got nan. For example 8/255."),
    ],
)
def test_strengths_that_make_no_sense_are_asked_back(text, said):
    with pytest.raises(UserError) as caught:
        Budget(LINF, (1, 8, 8)).read(text)
    assert str(caught.value) == said

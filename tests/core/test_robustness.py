"""Studies: masked, random and awkward classifiers; jobs, the command, the report."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from core import datasets, jobs, kinds, worker
from core.__main__ import main
from core.catalog import UserError
from core.ground import files
from core.ground.watch import Watch
from core.media import media
from core.norms import L2, LINF, NORMS, Budget
from core.robustness import (
    AttackStudy,
    Report,
    StudyConfig,
    begin,
    check,
    classifiers,
    comparison,
    cost,
    estimate,
    estimate_job,
    images_of,
    look,
    sanity,
)
from core.robustness.attacks import run
from core.robustness.config import names_of
from core.robustness.extras import AttackConfig, extras, transfer
from core.robustness.report import batch, html, pictures, python
from core.robustness.schedule import COSTLY, Schedule
from core.target import Climb, Target

EPS = "26/255"


@pytest.fixture
def digits():
    return datasets.load("digits")


@pytest.fixture
def plain(digits, gallery) -> Target:
    return classifiers.target_of("shipped-digits-classifier", digits)


@pytest.fixture
def robust(digits, gallery) -> Target:
    return classifiers.target_of("shipped-digits-robust", digits)


@pytest.fixture(autouse=True)
def few_looks(monkeypatch):
    """A study reports at its ends alone: how often it does between them depends on the machine, and takes its time."""
    monkeypatch.setattr("core.robustness.measure.SLICE", math.inf)


class Outside(nn.Module):
    """A classifier with something around it."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net, x)


CHANGES = {
    "plain": lambda net, x: net(x),
    "large": lambda net, x: 1000 * net(x),
    "low": lambda net, x: net(x) - 100,
    "rounded": lambda net, x: net(torch.round(x * 16) / 16),
    "softmax": lambda net, x: net(x).softmax(1),
    "dropout": lambda net, x: net(F.dropout(x, 0.2, True)),
    "argmax": lambda net, x: F.one_hot(net(x).argmax(1), 10).float(),
    "rippled": lambda net, x: net(x + 0.02 * torch.sin(20000 * x)),
    "straight": lambda net, x: net(x + ((16 * x).round() / 16 - x).detach()),
    "normalised": lambda net, x: net(0.25 * x + 0.5),  # so that it expects (x - 0.5) / 0.25
    "turned": lambda net, x: net(x).roll(1, 1),
}


def changed(target: Target, name: str) -> Target:
    return Target(
        Outside(target.module, CHANGES[name]).eval(), target.classes, (1, 8, 8), name=name
    )


def study(target: Target, digits, n: int = 50, **values) -> AttackStudy:
    config = StudyConfig.of({"eps": EPS, "n": n, **values})
    x, y, indices, data = images_of(digits, config)
    made = AttackStudy(target, x, y, config, indices=indices, data=data, dataset=digits)
    for _ in made:
        pass
    return made


REPORTS: dict[tuple[str, str], Any] = {}  # of the studies that more than one test asks for


def report_of(target: Target, digits, name: str = "plain") -> Any:
    """What a study of 50 images says of a classifier that is changed in this way."""
    key = target.name, name
    if key not in REPORTS:
        REPORTS[key] = study(changed(target, name), digits).report
    return REPORTS[key]


def robust_at(report) -> float:
    return report.head.robust


# --- masking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["plain", "robust"])
def test_masked_gradients_are_found_and_robustness_is_not_called_masked(base, request, digits):
    target, found = request.getfixturevalue(base), {}
    colours = {"plain": "green", "large": "amber", "low": "green", "rounded": "red"}
    if base == "robust":  # a study of it takes four times as long: the two ends alone
        colours = {"plain": "green", "rounded": "red"}
    for name in colours:
        found[name] = report_of(target, digits, name)
    assert {name: r.verdict.colour for name, r in found.items()} == colours
    truth = robust_at(found["plain"])
    if base == "plain":
        assert abs(robust_at(found["large"]) - truth) < 0.02
        assert robust_at(found["low"]) == truth
        assert "cross-entropy gradients are zero" in found["large"].verdict.sentence
    assert found["rounded"].verdict.sentence.endswith(
        "is not robustness: 100 % of the gradients are zero."
    )
    repaired = study(changed(target, "rounded"), digits, **found["rounded"].checks[5].action).report
    assert repaired.verdict.colour == "green"
    assert robust_at(repaired) <= truth + 0.2


def test_a_ripple_that_shatters_gradients_is_red_and_what_probes_fool_counts(plain, digits):
    made = study(changed(plain, "rippled"), digits)
    report = made.report
    assert report.verdict.colour == "red" and not report.verdict.believable
    assert report.robustness.colour != "green"
    outcome = {check.number: check.outcome for check in report.checks}
    assert outcome[6] == outcome[7] == "fail"
    assert "a step along the gradient gains" in report.checks[5].finding
    assert report.checks[5].action["attacks"].startswith("noise,fgsm,quick,adaptive")
    # its own gradients leave far more; what fooled it otherwise is counted, image by image
    truth = float((~run("quick", plain, made.x, made.y, 26 / 255).fooled).float().mean())
    assert robust_at(report) <= truth + 0.06
    assert min(report.results[1].attacks.values()) > truth + 0.06
    assert "adaptive" in made.by


def test_straight_through_rounding_is_no_mask(robust, digits):
    assert study(changed(robust, "straight"), digits).report.verdict.colour == "green"


def test_a_module_in_front_of_the_network_is_passed_whatever_it_does(plain, digits):
    x, y, *_ = images_of(digits, StudyConfig(n=8))
    behind = changed(plain, "rippled").with_(bypass=True)
    _, _, slope = behind.climb(x, Climb("margin", y))
    moved = x + 0.02 * torch.sin(20000 * x)
    _, _, inner = plain.climb(moved, Climb("margin", y))
    assert torch.allclose(slope, inner, rtol=0.03, atol=1e-2)
    torch.testing.assert_close(
        behind.logits(x), changed(plain, "rippled").logits(x), rtol=1e-4, atol=1e-3
    )


# --- is it the model that is meant? --------------------------------------------------------------


def test_a_normalisation_that_is_missing_is_named(plain, digits):
    report = study(changed(plain, "normalised"), digits).report
    assert report.verdict.colour == "red"
    assert report.identity.reading.name == "mean 0.5 and std 0.25"
    assert report.identity.reading.share == pytest.approx(0.98, abs=0.03)
    assert "with mean 0.5 and std 0.25 it names" in report.verdict.sentence


def test_a_normalisation_too_many_is_taken_out(plain, digits):
    inside = {"mean": [-1.0], "std": [0.5]}
    made = Outside(plain.module, lambda net, x: net((x + 1) / 0.5)).eval()
    target = Target(made, plain.classes, (1, 8, 8), card={"preprocessing": inside})
    x, y, *_ = images_of(digits, StudyConfig(n=60))
    said = target.predict(x).numpy()
    *_, found = sanity.look(target, x, y, said, digits)
    assert found.reading.share > 0.9 > 0.2 > found.reading.given
    mean, std = torch.tensor([0.3]), torch.tensor([0.4])
    ways = dict(sanity.readings(1, 8, mean, std, inside))
    seen = {name: (change(x) + 1) / 0.5 for name, change in ways.items() if "px" not in name}
    assert torch.allclose(seen["pixels from 0 to 1, without a normalisation"], x, atol=1e-5)
    assert torch.allclose(seen["mean 0.5 and std 0.25"], (x - 0.5) / 0.25, atol=1e-5)
    assert torch.allclose(seen["this dataset's own mean and std"], (x - 0.3) / 0.4, atol=1e-5)


def test_images_with_dark_and_light_exchanged_are_no_other_order(plain, digits):
    made = Outside(plain.module, lambda net, x: net(1 - x)).eval()
    target = Target(made, plain.classes, (1, 8, 8))
    x, y, *_ = images_of(digits, StudyConfig(n=200))
    said = target.predict(x).numpy()
    first, *_, found = sanity.look(target, x, y, said, digits)
    assert first.order is not None and found.order is None
    assert found.reading.name == "dark and light exchanged"


def test_classes_in_another_order_are_found_and_every_check_says_why_it_was_not_made(plain, digits):
    report = study(changed(plain, "turned"), digits).report
    assert report.clean.value == 0 and report.complete
    assert report.verdict.colour == "red"
    assert report.identity.order.pairs == tuple(
        (name, digits.classes[(k + 1) % 10])
        for k, name in [(9, "9"), *enumerate(digits.classes[:9])]
    )
    assert "it answers 9 as 0, 0 as 1, 1 as 2" in report.verdict.sentence
    left = [check for check in report.checks if check.outcome == "open"]
    assert left and {check.finding for check in left} == {
        "No image is named rightly, so there is none to attack."
    }


def test_an_order_of_classes_is_not_seen_in_what_chance_makes():
    dice = np.random.default_rng(0)
    y, said = dice.integers(0, 10, 300), dice.integers(0, 10, 300)
    assert sanity.order(y, said, [str(k) for k in range(10)]) is None
    assert sanity.order(y, y, [str(k) for k in range(10)]) is None
    swapped = np.where(y == 3, 5, np.where(y == 5, 3, y))
    found = sanity.order(y, swapped, [str(k) for k in range(10)])
    assert found is not None and found.pairs == (("5", "3"), ("3", "5"))
    assert found.share == 1


def test_a_part_in_training_mode_is_put_into_evaluation_and_what_cannot_be_is_told(digits):
    class Stuck(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(64, 10)

        def forward(self, x):
            flat = x.flatten(1)
            return self.last(
                (flat - flat.mean(0)) / (flat.std(0, correction=0) + 0.1)
            )  # of the batch

    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).eval()
    net[1].train()
    assert Target(net, digits.classes, (1, 8, 8)).notes and not net[1].training
    report = study(Target(Stuck().eval(), digits.classes, (1, 8, 8)), digits, n=20).report
    assert report.checks[8].outcome == "fail"
    assert "depend on the images beside them" in report.checks[8].finding


def test_nothing_is_trained_to_compare_with(plain, digits, monkeypatch):
    from core.measure import features

    monkeypatch.setattr(features, "judge", lambda *_: pytest.fail("a judge is trained in passing"))
    x, y, indices, _ = images_of(digits, StudyConfig(n=60))
    found = {peer.name: peer for peer in sanity.peers(digits, x, y, indices, plain)}
    assert found["the nearest training image"].right.mean() > 0.9
    assert [name for name in found if "plain classifier" in name] == []
    hardened = found["Digits, adversarially trained classifier"]
    assert hardened.target is not None and hardened.right.mean() > 0.9
    assert "Digits, classifier" not in found  # the one under attack


def test_few_images_of_a_poor_classifier_are_neither_robust_nor_believed(digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    report = study(Target(net, digits.classes, (1, 8, 8)), digits, n=17).report
    assert report.robustness.colour == "red" and report.robustness.n == 17
    assert not report.verdict.believable and report.verdict.colour != "green"
    assert "17 images are too few" in report.robustness.sentence


def test_a_weak_attack_alone_is_not_believed_on_saturated_logits(plain, digits):
    report = study(changed(plain, "large"), digits, attacks="fgsm,pgd").report
    assert report.verdict.colour == "red"
    assert report.verdict.sentence.endswith("withstand every attack") is False
    action = report.checks[4].action
    again = study(changed(plain, "large"), digits, **action).report
    assert again.verdict.colour == "amber"


def test_probabilities_are_found_and_attacked_through_their_logarithm(plain, digits):
    report = study(changed(plain, "softmax"), digits).report
    assert report.checks[9].outcome == "warn"
    assert robust_at(report) == robust_at(report_of(plain, digits))


def test_dropout_left_on_is_red_until_draws_are_averaged(plain, digits):
    report = study(changed(plain, "dropout"), digits).report
    assert report.verdict.colour == "red"
    assert report.checks[8].action == {"eot": 20}
    assert "two passes of the same image differ" in report.verdict.sentence


def test_a_classifier_that_only_decides_is_red(plain, digits):
    report = study(changed(plain, "argmax"), digits, n=30).report
    assert report.verdict.colour == "red"
    assert "decisions only" in report.verdict.sentence


def test_a_gradient_taken_inside_is_noticed(plain, digits):
    def inner(net, x):
        with torch.enable_grad():
            moved = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(net(moved).square().sum(), moved)
        return net((x - 0.01 * slope.sign()).clamp(0, 1))

    made = Target(Outside(plain.module, inner).eval(), plain.classes, (1, 8, 8))
    report = study(made, digits, n=20).report
    assert report.checks[10].outcome == "fail"


def test_outputs_that_are_no_numbers_count_as_errors(plain, digits):
    def broken(net, x):
        out = net(x)
        return torch.where((x.mean((1, 2, 3)) > 0.32)[:, None], math.nan, out)

    made = study(Target(Outside(plain.module, broken).eval(), plain.classes, (1, 8, 8)), digits)
    json.dumps(made.report.record(), allow_nan=False)
    assert made.report.clean.value < 0.95
    assert "not a number" in {image.clean for image in made.report.images}


# --- the sweep and the report -------------------------------------------------------------------


def test_a_sweep_falls_to_chance_and_reports_all_that_a_reader_needs(plain, digits, monkeypatch):
    monkeypatch.setattr("core.robustness.measure.SLICE", 0.25)
    made = study(plain, digits, eps="", n=80)
    plainly = json.loads(json.dumps(made.report.record(), allow_nan=False))
    report = Report.of(plainly)
    assert report.record() == plainly  # what is written is what is read
    values = [row.robust for row in report.results]
    assert values == sorted(values, reverse=True)
    assert values[0] == report.clean.value > 0.9 and values[-1] == 0
    assert report.complete and report.stopped == ""
    for row in report.results:
        assert row.interval[0] <= row.robust <= row.interval[1]
        assert sum(c.n for c in row.classes) == row.n == 80
        assert all(0 <= value <= report.clean.value for value in row.attacks.values())
        # the number is the worst per image, so no attack alone is below it
        assert all(value >= row.robust - 1e-9 for value in row.attacks.values())
    for key in ("verdict", "checks", "threat", "versions", "model", "data", "limits", "config"):
        assert plainly[key]
    quick = next(a for a in report.attacks if a.name == "quick")
    assert quick.forward > 0 and quick.backward > 0 and quick.parameters["steps"] == 20
    assert len(report.checks) == 13
    # what is said to fool does, within what it is said to cost
    fell = np.isfinite(made.smallest)
    moved = made.adversarial[torch.as_tensor(fell)]
    assert (plain.predict(moved) != made.y[torch.as_tensor(fell)]).all()
    size = (moved - made.x[torch.as_tensor(fell)]).abs().flatten(1).amax(1).numpy()
    assert (size <= made.smallest[fell] + 1e-5).all()
    page = html(report, pictures(made))
    assert report.verdict.sentence in page
    assert "http" not in page  # it needs nothing else
    assert page.count("<img") == 8 and "<script" not in page
    odd = html(dataclasses.replace(report, notes=["<script>"]), [pictures(made)[0] | {"by": "<i>"}])
    assert "<li>&lt;script&gt;</li>" in odd and "(&lt;i&gt;)" in odd and "<script>" not in odd
    with np.load(io.BytesIO(batch(made))) as kept:
        assert kept["adversarial"].shape == (80, 1, 8, 8)
        said = plain.predict(torch.as_tensor(kept["adversarial"])).numpy()
        held = robust_at(report)
        assert (said == kept["y"]).mean() == pytest.approx(held)


def test_the_program_of_a_report_repeats_its_number(plain, digits, capsys):
    report = study(plain, digits, n=20).report
    exec(compile(python(report), "report", "exec"), {})
    assert capsys.readouterr().out.strip() == report.verdict.sentence


def test_the_program_of_an_earlier_report_still_runs(plain, digits, capsys):
    report = study(plain, digits, n=4, eps="0").report
    earlier = python(report).replace("AttackStudy", "Study")
    imports = "from core import datasets, robustness\nfrom core.robustness import classifiers\n"
    assert imports in earlier
    earlier = earlier.replace(
        imports, "from core import datasets, robustness\nfrom core.robustness import foreign\n"
    ).replace("classifiers.target_of", "foreign.target_of")
    exec(
        compile(
            earlier.replace("report.verdict.sentence", "report['verdict']['sentence']"), "", "exec"
        ),
        {},
    )
    assert capsys.readouterr().out.strip() == report.verdict.sentence


def test_a_report_of_before_says_how_robust_from_its_numbers(gallery):
    written = files.read_json(gallery / "shipped-digits-classifier-attacked" / "report.json")
    for later in ("robustness", "identity"):
        del written[later]
    report = Report.of(written | {"of_later": 1})
    assert report.robustness.sentence.startswith("Hardly robust: 19.9 % of 497")
    assert report.head.eps == report.headline and report.identity is None
    now = report.record()
    assert now["verdict"].pop("answers_only") is False  # nobody said so then
    assert {key: now[key] for key in written} == written


def test_what_is_dear_is_tried_last_and_the_cost_reads_the_same_schedule(plain):
    def plan(**values):
        return Schedule.of(StudyConfig(**values), plain)

    for queries, left in ((COSTLY, False), (COSTLY + 1, True)):
        made = plan(attacks="square,fgsm,geometric", options=f"square.queries={queries}")
        *_, last = made.turns
        square = next(turn for turn in made.turns if turn.name == "square")
        assert (square.left, last is square) == (left, left)
        assert square.sweeps != left and made.turns[0].name == "geometric"
    assert plan(eps="0").turns[0].at == () and plan(eps="0,4/255,8/255").turns[0].at == (0, 1)
    few, many = (StudyConfig(eps=eps, attacks="quick") for eps in ("0,8/255", "4/255,8/255"))
    few, many = (cost._steps(Schedule.of(config, plain), 10, 1.0) for config in (few, many))
    assert [2 * steps for steps, _ in few] == [steps for steps, _ in many]


def test_strengths_zero_and_one_are_the_ends(plain, digits):
    report = study(plain, digits, eps="0, 1", n=20).report
    assert [row.eps for row in report.results] == [0, 1]
    assert report.results[1].robust == 0
    only = study(plain, digits, eps="0", n=20).report
    assert [row.eps for row in only.results] == [0] and only.complete


def test_a_stopped_study_keeps_and_marks_what_it_has(plain, digits):
    config = StudyConfig.of({"eps": EPS, "n": 60})
    x, y, *_ = images_of(digits, config)

    class Impatient(Watch):
        asked = 0

        def stopped(self) -> str:
            self.asked += 1
            return "Stopped on request." if self.asked > 25 else ""

    *_, report = AttackStudy(plain, x, y, config, watch=Impatient())
    assert not report.complete and report.stopped == "Stopped on request."
    assert report.clean.n == 60 and report.verdict.colour == "amber"


@pytest.mark.parametrize("values", [{"n": 60}, {"attacks": "quick", "eps": EPS, "n": 150}])
def test_the_cost_is_told_before(plain, digits, values):
    every = estimate(plain, digits, StudyConfig(**values | {"n": 1000}))
    assert every.n == 497  # there are no more
    told = estimate(plain, digits, StudyConfig(**values))
    assert told.n == values["n"] and told.fits <= 497
    made = study(plain, digits, **{"eps": "", **values})
    assert 1 / 6 < told.seconds / made.seconds < 6  # a busy machine may slow either


@pytest.mark.parametrize(
    "values",
    [{"corruptions": True}, {"certify": 0.25, "certified": 10}, {"transfer": "another"}],
)
def test_the_time_of_a_job_has_what_goes_beyond_its_study(plain, digits, monkeypatch, values):
    monkeypatch.setattr(classifiers, "target_of", lambda id, dataset: plain.with_())
    config = AttackConfig(attacks="noise", n=60, **values)
    others = [plain.with_()] if config.transfer else []
    alone = estimate(plain, digits, config.study())
    told = estimate_job(plain, digits, config, others, alone.lap) - alone.seconds
    measured = begin(plain, digits, config.study())
    began = time.perf_counter()
    for _ in extras(config, measured, plain, digits):
        pass
    assert 1 / 6 < told / (time.perf_counter() - began) < 6  # a busy machine may slow either


def test_a_first_pass_that_waits_makes_no_study_slow(plain, digits, monkeypatch):
    usual, waits, trial = estimate(plain, digits, StudyConfig()).seconds, iter([1.5]), cost.Trial

    def waiting(*args, **options):
        time.sleep(next(waits, 0))
        return trial(*args, **options)

    monkeypatch.setattr(cost, "Trial", waiting)
    assert estimate(plain, digits, StudyConfig()).seconds < 6 * usual


def test_a_larger_question_costs_more(plain, digits):
    quick, thorough = (
        estimate(plain, digits, StudyConfig(attacks=names))
        for names in ("quick", "quick,autoattack")
    )
    assert quick.seconds < thorough.seconds and quick.fits >= thorough.fits


def test_a_sweep_reaches_from_little_to_everything():
    grey = Budget(LINF, (1, 8, 8))
    found = grey.sweep()
    assert found[-1] == grey.largest == 1 and grey.usual in found
    assert Budget(L2, (3, 32, 32)).usual == pytest.approx(0.5, abs=0.01)


# --- what cannot be attacked --------------------------------------------------------------------

LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
IMAGES, LABELS = (
    torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)),
    torch.arange(6) % 3,
)


@pytest.mark.parametrize(
    ("x", "y", "values", "text"),
    [
        (IMAGES * 255, LABELS, {}, "Values must lie in 0 … 1, got .* Take the normalisation out of the data"),
        (IMAGES, LABELS + 1, {}, "Labels must lie in 0 … 2, got 1 … 3. Choose the dataset"),
        (IMAGES, LABELS[:3], {}, "Labels must be 6 whole numbers, one per image, got"),
        (IMAGES[0], LABELS, {}, "Images must be floats of shape .N, C, H, W. in 0 … 1, got torch.float32 .1, 4, 4."),
        ((IMAGES * 255).byte(), LABELS, {}, "Images must be floats of shape .* Divide bytes by 255."),
        (IMAGES, LABELS, {"eps": "8"}, "Did you mean 8/255?"),
        (IMAGES, LABELS, {"attacks": "pdg"}, "There is no attack 'pdg'. Did you mean 'pgd'?"),
        (IMAGES, LABELS, {"attacks": "ddn"}, "cannot be bounded by linf. It knows l2: choose"),
        (IMAGES, LABELS, {"options": "pgd.stpes=3"}, "There is no parameter of pgd 'stpes'. Did you mean 'steps'?"),
        (IMAGES, LABELS, {"options": "pgd"}, "--set takes name=value, got 'pgd'"),
    ],
)  # fmt: skip
def test_what_cannot_be_attacked_is_said_in_a_sentence(x, y, values, text):
    with pytest.raises(UserError, match=text):
        check(LINEAR, x, y, **values)


def test_images_that_do_not_fit_the_model_are_refused(plain, digits):
    x, y, *_ = images_of(digits, StudyConfig(n=4))
    with pytest.raises(UserError, match="takes images of 1 × 8 × 8, these have 3 × 8 × 8"):
        AttackStudy(plain, x.repeat(1, 3, 1, 1), y, StudyConfig(n=4))
    with pytest.raises(UserError, match="takes images of 1 × 8 × 8, these have 1 × 16 × 16"):
        AttackStudy(plain, F.interpolate(x, (16, 16)), y, StudyConfig(n=4))
    wrong = Target(LINEAR, ["a", "b"], (1, 4, 4), name="linear")
    with pytest.raises(UserError, match="linear gives 3 logits, but the data has 2 classes"):
        wrong.logits(IMAGES)
    with pytest.raises(UserError, match="must give one row of logits per image"):
        Target(lambda x: x, ["a", "b"], (1, 4, 4)).logits(IMAGES)


@pytest.mark.parametrize("classes", [2, 1000])
def test_any_module_is_checked_from_python_whatever_its_classes(classes):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).train()
    x = IMAGES[:4]
    net.eval()
    y = net(x).argmax(1)
    report = check(net.train(), x, y, eps="0.1", name="mine", n=99)
    assert report["complete"] and report["clean"]["value"] == 1 and report["clean"]["n"] == 4
    assert any("99 images were asked for; there are 4." in note for note in report["notes"])
    assert not net.training
    one = check(net, x[:2], torch.zeros(2, dtype=torch.long) + y[0], eps="0.1")  # one class only
    assert one["complete"]


def test_a_model_of_one_class_is_refused():
    with pytest.raises(
        UserError,
        match="A classifier needs at least 2 classes, got 1",
    ):
        check(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), IMAGES, LABELS * 0)


# --- pairs, close-ups, transfer -----------------------------------------------------------------


def test_two_models_are_compared_image_by_image(plain, robust, digits):
    first, second = (report_of(target, digits) for target in (plain, robust))
    pair = comparison.compare(first, second, first.headline)
    assert pair.n == 50
    assert pair.both + pair.only_first == round(50 * robust_at(first))
    assert pair.only_second > pair.only_first and pair.p < 0.05
    with pytest.raises(UserError, match="was not attacked at 51/255"):
        comparison.compare(first, second, 0.2)
    assert comparison.references("cifar10", "linf", 8 / 255)[0]["robust"] == 0.7371
    assert comparison.references("digits", "linf", 8 / 255) == []


def test_only_classifiers_under_equal_attacks_are_ranked(plain, robust, digits):
    weak, strong = (report_of(target, digits) for target in (plain, robust))
    elsewhere = dataclasses.replace(strong, data={**strong.data, "n": 7})
    half = dataclasses.replace(strong, complete=False)
    unsound = dataclasses.replace(
        strong,
        verdict=dataclasses.replace(strong.verdict, believable=False),
        model={**strong.model, "hash": "unsound"},
    )
    sound = [
        dataclasses.replace(
            each,
            verdict=dataclasses.replace(each.verdict, believable=True),
            model={**each.model, "hash": hash},
        )
        for each, hash in ((weak, "weak"), (strong, "strong"))
    ]
    ranked, alone = comparison.boards([half, unsound, *sound, elsewhere])
    assert ranked == [sound[1], sound[0], unsound]
    assert alone == [elsewhere]


def test_one_image_under_attack_rises_from_its_label_to_another(plain, digits):
    x, y, *_ = images_of(digits, StudyConfig(n=10))
    found = look(plain, x[3], int(y[3]))
    names = plain.classes
    assert found.eps[0] == 0 and torch.equal(found.images[0], x[3])
    assert found.said[0] == names[int(y[3])] != found.said[-1]
    assert all(
        abs((found.images[k] - x[3]).abs().max()) <= e + 1e-6 for k, e in enumerate(found.eps)
    )
    assert all(len(row) == 5 and 0.2 <= row[0][1] <= 1 for row in found.top)
    assert found.trace[0] < 0 < found.trace[-1]
    smallest = {norm: value or 0.0 for norm, value in found.smallest.items()}
    assert 0 < smallest["linf"] < 1 < 8 > smallest["l2"] > smallest["linf"]
    assert all(look(plain, x[k], int(y[k])).smallest["l2"] for k in (0, 1, 2, 4))
    aimed = look(plain, x[3], int(y[3]), towards=(int(y[3]) + 1) % 10)
    assert aimed.said[-1] == names[(int(y[3]) + 1) % 10]


@pytest.mark.parametrize("norm", NORMS)
def test_fmn_finds_a_change_of_every_image_where_the_range_cuts_most_steps(plain, digits, norm):
    x, y, *_ = images_of(digits, StudyConfig(n=60))  # a third of a digit's pixels are 0
    found = run("fmn", plain, x, y, None, norm=norm)
    assert found.fooled.all()
    if norm is L2:
        best = run("ddn", plain, x, y, None, norm=L2)
        assert found.distance.mean() < 1.1 * best.distance.mean()


def test_adversarial_images_fool_their_own_model_most(plain, robust, digits):
    x, y, *_ = images_of(digits, StudyConfig(n=40))
    table = transfer([plain, robust], x, y, 0.15)
    fooled = np.array(table["fooled"])
    assert table["attacks"] == ["quick", "quick"]
    assert fooled[0, 0] > fooled[0, 1] and fooled[1, 1] >= fooled[1, 0] - 0.2 and fooled[0, 0] > 0.5


# --- jobs and the command -----------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch, setting, gallery):
    """Does a job in this process when it is submitted."""
    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))


def test_a_job_leaves_report_arrays_and_tables(at_once):
    values = {"attack.n": 20, "attack.eps": EPS, "attack.corruptions": True, "attack.certify": 0.2, "attack.certified": 2,
              "attack.transfer": "shipped-digits-robust"}  # fmt: skip
    job = kinds.submit("attack", {"dataset": "digits"}, values, target="shipped-digits-classifier")
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    report = Report.of(files.read_json(job.path / "report.json"))
    assert report.complete and report.model["run"] == "shipped-digits-classifier"
    assert len(files.read_json(job.path / "corruptions.json")["accuracy"]) == 15
    assert files.read_json(job.path / "certified.json")["n"] == 2
    assert files.read_json(job.path / "transfer.json")["names"][1].startswith("Digits")
    with np.load(job.path / "matrix.npz") as matrix:
        assert matrix["fooled"].shape == (3, 1, 20) and list(matrix["attacks"]) == [
            "noise",
            "fgsm",
            "quick",
        ]
    assert (job.path / "adversarial.npz").exists()
    assert report.verdict.sentence.replace("%", "") in (
        job.path / "report.html"
    ).read_text().replace("%", "")


def test_a_job_that_is_stopped_keeps_its_part(at_once, monkeypatch):
    calls = iter(range(10_000))
    monkeypatch.setattr(
        kinds.Task, "stopped", lambda self: "Stopped on request." if next(calls) > 30 else ""
    )
    job = kinds.submit(
        "attack", {"dataset": "digits"}, {"attack.n": 60}, target="shipped-digits-classifier"
    )
    job = jobs.get(job.id)
    report = Report.of(files.read_json(job.path / "report.json"))
    assert (
        job.status == "stopped" and not report.complete and report.stopped == "Stopped on request."
    )
    assert (job.path / "adversarial.npz").exists() and "Not complete." in (
        job.path / "report.html"
    ).read_text()


def test_a_job_never_runs_code_by_name(at_once):
    job = kinds.submit("attack", {"dataset": "digits"}, {"attack.classifier": "os:getcwd"})
    assert "A job cannot run the code 'os:getcwd'" in jobs.get(job.id).message


def test_the_command_prints_the_report_and_its_exit_code_serves_a_pipeline(
    at_once, capsys, tmp_path
):
    base = ["attack", "--classifier", "shipped-digits-robust", "--n", "50", "--eps", EPS, "--json"]
    assert main([*base, "--min-robust", "0.3", "--out", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"robustness", "verdict", "checks", "clean"} <= report.keys()
    assert report["robustness"]["robust"] == report["results"][1]["robust"]
    assert {"robust", "interval", "n", "eps"} <= report["results"][1].keys()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "report.json",
        "report.html",
        "adversarial.npz",
        "matrix.npz",
    }
    plain = [word.replace("robust", "classifier") for word in base]
    assert main([*plain, "--min-robust", "0.99"]) == 1
    few = [word if word != "50" else "20" for word in plain]
    assert main([*few[:-1], "--min-robust", "0"]) == 1  # too few to be believed, whatever is asked
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("amber: 20 images are too few") for line in lines)
    assert any(line.startswith("amber: Not known: ") for line in lines)
    assert main([*base, "--min-robust", "40"]) == 2
    assert "--min-robust must be 0 to 1, got 40" in capsys.readouterr().err
    assert main(["attack", "--eps", "8"]) in (1, 2)
    assert "Did you mean 8/255?" in capsys.readouterr().err


def test_the_command_attacks_any_module_of_this_machine(tmp_path, monkeypatch, capsys):
    from safetensors.torch import save_file

    (tmp_path / "mymodels.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    line = [
        "attack",
        "--classifier",
        "mymodels:make",
        "--weights",
        "w.safetensors",
        "--n",
        "10",
        "--eps",
        EPS,
        "--json",
    ]
    try:
        assert main(line) == 0
        assert json.loads(capsys.readouterr().out)["model"]["place"] == "mymodels:make"
        assert main(["attack", "--classifier", "mymodels:none"]) == 2
        assert "mymodels has no none. Write package.module:factory" in capsys.readouterr().err
        assert main(["attack", "--classifier", "nowhere:make"]) == 2
        assert "nowhere cannot be imported" in capsys.readouterr().err
    finally:
        sys.modules.pop("mymodels", None)


def test_the_help_says_what_a_factory_gets_and_must_answer(capsys):
    with pytest.raises(SystemExit):
        main(["attack", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "gets images as float32 (N, channels, size, size), pixels from 0 to 1" in words
    assert "answers logits (N, classes), no softmax, in the order of the dataset's classes" in words
    assert "attack.seed" in words  # the parameters are listed as before


def test_the_config_of_a_job_holds_that_of_the_study():
    assert set(StudyConfig.knobs()) < set(AttackConfig.knobs())
    assert AttackConfig(n=7, classifier="x").study() == StudyConfig(n=7)
    assert names_of(StudyConfig(attacks="QUICK, fgsm,quick"), media.get("image")) == [
        "noise",
        "quick",
        "fgsm",
    ]

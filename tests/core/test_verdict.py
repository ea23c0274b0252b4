"""The checks, the verdict and how robust it is, rule by rule."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from core.catalog import UserError
from core.ground.stats import proportion
from core.robustness.checks import answers, checks, ordered
from core.robustness.findings import Answer, Climbs, Findings, Past, Standing
from core.robustness.sanity import Beside, Identity, OtherOrder, OtherReading
from core.robustness.verdict import FEWEST, LITTLE, MOST, Robustness, Soundness, robustness, verdict

IDENTITY = Identity(
    clean=0.97, largest=0.12, ours=False, hardened=False, compared=True, peers=(Beside("digits-classifier", 0.98, 0.4),),
)  # fmt: skip
CLIMBS = Climbs(0.6, 0.5, 0.5, 0.5, (0.5, 0.5, 0.51), 0.5, 1.0, 1.0)
BEYOND = Past(60, {}, 0)
NOTHING = Findings(n=300, probed=128, chance=0.1, strong=True, sees_margin=True)
GOOD = replace(
    NOTHING, zero_changed=0, doubtful=0, widest=0.0, climbs=CLIMBS, ce_zero=0.0, margin_zero=0.0, not_numbers=0,
    past=BEYOND, differs=0.0, probabilities=False, inner_gradient=False, promise=1.0, identity=IDENTITY,
    measured={"noise": 0},
)  # fmt: skip
ROW = Standing(8 / 255, "8/255", 0.5, (0.44, 0.56), 300)
CLEAN = 0.97
SOUND, CARE, MASKED = (Soundness(colour, "", True) for colour in ("green", "amber", "red"))
PAST = {"attacks": "noise,fgsm,quick,adaptive,surrogate,square"}


def meant(**found):
    return {"identity": replace(IDENTITY, **found)}


def climbs(**found):
    return {"climbs": replace(CLIMBS, **found)}


def past(tried: int = 60, gain: int = 0, **by: int):
    return {"past": Past(tried, by, gain)}


def peer(share: float, p: float = 1e-6, name: str = "digits-classifier"):
    return (Beside(name, share, p),)


LOST = climbs(short=0.02, long=0.43, ce=0.02, starts=(0.02,) * 3, union=0.02, undone=1e-6)
SWAPPED = OtherOrder((("cat", "dog"), ("dog", "cat")), 0.97, 0.1, 300)
SHIFTED = OtherReading("mean 0.5 and std 0.25", 1.0, 0.686, 256)


TROUBLE = [
    (1, {"zero_changed": 3}, "fail", {"eot": 20}),
    (2, {"outside": 1}, "fail", {}),
    (2, {"doubtful": 50}, "warn", {"eot": 20}),
    (3, {"widest": 0.4}, "fail", {"bpda": True}),
    (4, climbs(short=0.7, ce=0.7), "fail", {"bpda": True}),
    (4, LOST, "fail", PAST),
    (4, LOST | {"unmasking": True}, "warn", {}),
    (4, climbs(long=0.4), "warn", {"options": "pgd.steps=100 quick.steps=60"}),
    (5, climbs(ce=0.97) | {"ce_zero": 0.967}, "warn", {}),
    (5, climbs(ce=0.97) | {"ce_zero": 0.967, "sees_margin": False}, "fail",
     {"attacks": "noise,fgsm,quick", "options": "pgd.loss=margin fgsm.loss=margin"}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0}, "fail", {"bpda": True}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0, "bpda": True}, "fail", {}),
    (6, {"decisions": True}, "fail", {}),
    (6, {"not_numbers": 2}, "warn", {}),
    (6, {"promise": 0.49} | past(tried=0), "fail", PAST),
    (6, {"promise": 2.01} | past(tried=0), "fail", PAST),
    (6, {"promise": -0.9, "unmasking": True} | past(tried=0), "warn", {}),
    (7, past(blind=10), "fail", PAST),
    (7, past(blind=3), "fail", PAST),
    (7, past(averaged=3), "fail", PAST),
    (7, past(blind=2), "warn", {"attacks": "noise,quick,adaptive,surrogate,autoattack"}),
    (8, {"measured": {"noise": 20}}, "fail", {"bpda": True}),
    (9, {"differs": 0.9}, "fail", {"eot": 20}),
    (9, {"differs": 0.9, "eot": 20}, "warn", {}),
    (9, meant(company=0.5), "fail", {}),
    (10, {"probabilities": True}, "warn", {}),
    (11, {"inner_gradient": True}, "fail", {}),
    (11, {"purifier": True}, "fail", {}),
    (12, {"strong": False} | climbs(union=0.45), "warn", {"attacks": "noise,fgsm,quick"}),
    (13, meant(order=SWAPPED), "fail", {}),
    (13, meant(reading=SHIFTED), "fail", {}),
    (13, meant(clean=0.15), "fail", {}),
    (13, meant(clean=0.686, peers=peer(0.97)), "fail", {}),
    (13, meant(clean=0.686, peers=peer(0.97), ours=True), "warn", {}),
    (13, meant(clean=0.85, peers=peer(0.97)), "warn", {}),
]  # fmt: skip


def test_a_classifier_without_faults_is_believed():
    given = answers(GOOD)
    assert [a.number for a in given] == list(range(1, 14))
    assert {a.outcome for a in given} == {"pass"}
    assert [a.name for a in given] == [check.title for check in ordered()]
    said = verdict(GOOD, given, ROW, CLEAN)
    assert said == Soundness(
        "green", "All 13 checks say that the measurement can be believed.", True
    )
    assert robustness(ROW, 0.1, said) == Robustness(
        "amber",
        "Partly robust: 50 % of 300 images withstand every attack of 8/255 that was tried (interval 44 % to 56 %).",
        0.5,
        300,
        (0.44, 0.56),
    )


def test_every_check_has_its_own_number_and_urgency_and_masking_is_named_before_its_signs():
    assert len({check.urgency for check in checks}) == len(checks.names())
    ranked = sorted(checks, key=lambda check: -check.urgency)
    assert [check.number for check in ranked] == [9, 13, 6, 5, 10, 11, 7, 8, 3, 4, 2, 1, 12]


@pytest.mark.parametrize(("number", "found", "outcome", "action"), TROUBLE)
def test_each_trouble_is_found_alone_with_what_to_do(number, found, outcome, action):
    from core.robustness import StudyConfig

    given = answers(replace(GOOD, **found))
    assert [(a.number, a.outcome) for a in given if a.outcome != "pass"] == [(number, outcome)]
    answer = given[number - 1]
    assert dict(answer.action) == action
    assert bool(answer.button) == bool(action)
    StudyConfig.of(action)  # a button can be pressed
    said = verdict(GOOD, given, ROW, CLEAN)
    assert said.colour == {"fail": "red", "warn": "amber"}[outcome]
    assert said.believable == (outcome == "warn")


def test_the_sentence_of_a_masked_gradient_names_it():
    found = replace(
        GOOD, margin_zero=0.967, ce_zero=0.967, measured={"noise": 50}, **past(blind=40)
    )
    said = verdict(found, answers(found), replace(ROW, robust=0.97), CLEAN)
    assert said.sentence == "97 % is not robustness: 96.7 % of the gradients are zero."


@pytest.mark.parametrize(
    ("flat", "finding"),
    [
        (0.97, "Logits saturate: 97 % of the cross-entropy gradients are zero; cross entropy leaves 80 %"),
        (0.0, "Cross entropy leaves 80 %, the lead of a wrong class 50 %."),
    ],
)  # fmt: skip
def test_cross_entropy_that_finds_less_is_told_with_zeros_only_where_there_are_any(flat, finding):
    found = replace(GOOD, ce_zero=flat, **climbs(ce=0.8, blinder=1e-6))
    answer = answers(found)[4]
    assert answer.outcome == "warn" and answer.finding.startswith(finding)


def test_a_strength_at_which_nothing_falls_says_nothing():
    said = verdict(GOOD, answers(GOOD), replace(ROW, robust=0.97), CLEAN)
    assert said.colour == "amber" and not said.believable
    assert "nothing falls at 8/255" in said.sentence


def test_what_was_not_looked_at_stays_open():
    given = answers(NOTHING)
    assert {a.outcome for a in given} == {"open"}
    assert {a.finding for a in given} == {"Not looked at yet."}
    said = verdict(NOTHING, given, ROW, CLEAN)
    assert said.sentence == "13 of 13 checks are still to be made."
    why = "No image is named rightly, so there is none to attack."
    ended = replace(NOTHING, why_open=why)
    assert {a.finding for a in answers(ended)} == {why}
    said = verdict(ended, answers(ended), ROW, CLEAN)
    assert said.sentence == f"13 of 13 checks were not made. {why}"


def at(successes: int, n: int) -> Standing:
    return replace(ROW, robust=successes / n, n=n, interval=proportion(successes, n).interval)


def test_too_few_images_are_said_and_never_believed():
    for n, colour in ((FEWEST, "green"), (FEWEST - 1, "amber")):
        row = at(n // 2, n)
        said = verdict(GOOD, answers(replace(GOOD, n=n)), row, CLEAN)
        assert (said.colour, said.believable) == (colour, colour == "green")
        few = f"{n} images are too few"
        assert (
            (few in said.sentence) == (few in robustness(row, 0.1, said).sentence) == (n < FEWEST)
        )
    assert f"take at least {FEWEST}." in said.sentence
    for n, colour in ((FEWEST, "green"), (FEWEST - 1, "amber")):
        assert robustness(at(n, n), 0.1, CARE).colour == colour


def test_how_robust_it_is_goes_by_the_ends_of_the_interval():
    for n in range(201):
        low = proportion(n, 200).low
        colour = "green" if low >= MOST else "red" if low <= 0.1 else "amber"
        said = robustness(at(n, 200), 0.1, SOUND)
        assert said.colour == colour
        hardly = colour == "amber" and proportion(n, 200).high < LITTLE
        assert said.sentence.startswith("Hardly robust: ") == hardly
    assert robustness(at(0, 17), 0.1, SOUND).sentence == (
        "Not robust: 0 % of 17 images withstand every attack of 8/255 that was tried (interval 0 % to 18.4 %); "
        "17 images are too few to say more."
    )
    masked = robustness(at(199, 200), 0.1, MASKED)
    assert masked.colour == "amber" and masked.sentence.startswith("Not known: 99.5 % of 200")
    assert robustness(at(0, 200), 0.1, MASKED).colour == "red"
    early = robustness(at(200, 200), 0.1, SOUND, complete=False)
    assert early.colour == "amber" and early.sentence.startswith("So far: 100 % of 200")
    none = robustness(replace(ROW, eps=0.0), 0.1, SOUND)
    assert (none.colour, none.sentence) == ("amber", "Not known: no attack was tried.")


def test_an_image_that_steps_but_whose_number_others_confirm_is_believed():
    found = replace(GOOD, promise=0.1)
    answer = answers(found)[5]
    assert answer.outcome == "pass"
    assert "attacks that do not rest on it fool none of 60 images" in answer.finding
    assert answers(replace(found, **past(averaged=1)))[5].outcome == "fail"
    # what was found past the gradient before counts as well: the number holds, the gradient does not
    found = replace(found, unmasking=True, **past(gain=10))
    assert answers(found)[5].outcome == "warn"


@pytest.mark.parametrize(
    ("found", "outcome", "text"),
    [
        (meant(clean=0.72), "pass", "72 % of 300 images are named rightly without an attack (chance 10 %, the largest"),
        (meant(clean=0.72, compared=False, peers=()), "pass", "there is no reference yet: train a classifier on this"),
        (meant(clean=0.76, peers=peer(0.97)), "fail", "where digits-classifier names 97 %"),
        (meant(clean=0.78, peers=peer(0.97)), "warn", "where digits-classifier names 97 %"),
        (meant(clean=0.86, peers=peer(0.97)), "warn", "where digits-classifier names 97 %"),
        (meant(clean=0.88, peers=peer(0.97)), "pass", "digits-classifier 97 %"),
        (meant(clean=0.82, peers=peer(0.97), hardened=True), "pass", "digits-classifier 97 %"),
        (meant(clean=0.68, peers=peer(0.97, 0.02)), "pass", "digits-classifier 97 %"),  # of too few images
        (meant(clean=0.5, largest=0.45), "fail", "not surely better than guessing"),
        (meant(clean=0.51, largest=0.45), "pass", "the largest class 45 %"),
        (meant(order=OtherOrder((("a", "b"),) * 7, 1.0, 0.0, 300)), "fail",
         "it answers a as b, a as b, a as b, a as b, a as b, a as b, …; in that order 100 % of 300"),
        (meant(reading=SHIFTED), "fail",
         "with mean 0.5 and std 0.25 it names 100 % of 256 images rightly, as it is 68.6 %"),
    ],
)  # fmt: skip
def test_the_clean_accuracy_tells_whether_it_is_the_model_that_is_meant(found, outcome, text):
    given = answers(replace(GOOD, **found))
    answer = given[12]
    assert (answer.outcome, answer.name) == (outcome, "Is this the model you mean?")
    assert text in answer.finding
    said = verdict(replace(GOOD, **found), given, ROW, CLEAN)
    assert said.believable == (outcome != "fail")
    if not found["identity"].compared:
        assert said.sentence.endswith(
            "; there is no reference yet to compare its clean accuracy with."
        )


def test_a_check_in_a_file_of_its_own_is_asked_measured_and_listed(tmp_path, monkeypatch):
    from core import robustness
    from core.robustness import checks as folder

    (tmp_path / "even.py").write_text(
        "from core.robustness.checks import checks\n"
        "from core.robustness.findings import Answer\n"
        "def count(tally):\n"
        "    yield\n"
        "    return len(tally.x)\n"
        "@checks.add('even', 'An even number of images', number=14, urgency=-1, probe=count)\n"
        "def even(findings):\n"
        "    'Half of them must be a whole number.'\n"
        "    n = findings.measured.get('even')\n"
        "    return None if n is None else Answer('fail' if n % 2 else 'pass', f'{n} images.')\n"
    )
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    monkeypatch.setattr(checks, "_entries", dict(checks._entries))
    assert answers(GOOD)[13] == Answer(
        "open", "Not looked at yet.", "", "", {}, 14, "An even number of images", -1
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()
    report = robustness.check(net, torch.zeros(3, 1, 4, 4), torch.zeros(3).long(), eps="0")
    assert report["checks"][13]["finding"] == "3 images." and report["verdict"]["colour"] == "red"
    sys.modules.pop("core.robustness.checks.even")


@pytest.mark.parametrize("words", ["[]", "{}", '{"results": [], "headline": 0}', "{"])
def test_a_damaged_report_is_a_sentence(tmp_path, words):
    from core.robustness import store

    assert store.read(tmp_path) is None
    (tmp_path / store.FILE).write_text(words)
    with pytest.raises(UserError, match="damaged"):
        store.read(tmp_path)

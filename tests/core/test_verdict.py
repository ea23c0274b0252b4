"""The twelve checks and the verdict, rule by rule."""

from __future__ import annotations

import pytest

from core.robustness.verdict import NAMES, checks, interval, percent, verdict

GOOD = {
    "n": 300, "probe": 128, "bpda": False, "eot": 1, "strong": True, "sees_margin": True, "chance": 0.1, "purifier": False,
    "zero_changed": 0, "outside": 0, "doubtful": 0, "widest": 0.0, "fgsm": 0.6, "pgd": 0.5, "pgd_long": 0.5,
    "ce": 0.5, "margin": 0.5, "ce_zero": 0.0, "margin_zero": 0.0, "not_numbers": 0, "decisions": False,
    "blind_only": 0, "blind_tried": 60, "noise_only": 0, "differs": 0.0, "probabilities": False, "inner_gradient": False,
    "seeds": [0.5, 0.5, 0.51], "union": 0.5,
}  # fmt: skip
ROW = {"robust": 0.5, "n": 300, "interval": (0.44, 0.56), "text": "8/255", "clean": 0.97}
TROUBLE = [
    (1, {"zero_changed": 3}, "fail", {"eot": 20}),
    (2, {"outside": 1}, "fail", {}),
    (2, {"doubtful": 50}, "warn", {"eot": 20}),
    (3, {"widest": 0.4}, "fail", {"bpda": True}),
    (4, {"pgd": 0.7, "margin": 0.7, "ce": 0.7}, "fail", {"bpda": True}),
    (4, {"pgd_long": 0.4}, "warn", {"options": "pgd.steps=100 quick.steps=60"}),
    (5, {"ce": 0.97, "ce_zero": 0.967}, "warn", {}),
    (5, {"ce": 0.97, "ce_zero": 0.967, "sees_margin": False}, "fail",
     {"attacks": "noise,fgsm,quick", "options": "pgd.loss=margin fgsm.loss=margin"}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0}, "fail", {"bpda": True}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0, "bpda": True}, "fail", {}),
    (6, {"decisions": True}, "fail", {}),
    (6, {"not_numbers": 2}, "warn", {}),
    (7, {"blind_only": 10}, "fail", {"bpda": True}),
    (7, {"blind_only": 2}, "warn", {"attacks": "noise,fgsm,quick,autoattack"}),
    (8, {"noise_only": 20}, "fail", {"bpda": True}),
    (9, {"differs": 0.9}, "fail", {"eot": 20}),
    (9, {"differs": 0.9, "eot": 20}, "warn", {}),
    (10, {"probabilities": True}, "warn", {}),
    (11, {"inner_gradient": True}, "fail", {}),
    (11, {"purifier": True}, "fail", {}),
    (12, {"strong": False, "union": 0.45}, "warn", {"attacks": "noise,fgsm,quick"}),
]  # fmt: skip


def test_a_classifier_without_faults_is_believed():
    answers = checks(GOOD)
    assert [a.number for a in answers] == list(range(1, 13))
    assert {a.outcome for a in answers} == {"pass"}
    assert all(a.name == NAMES[a.number] for a in answers)
    said = verdict(GOOD, answers, ROW)
    assert said == {
        "colour": "green",
        "sentence": "50 % of 300 images withstand every attack of 8/255 that was tried (interval 44 % to 56 %); "
        "all 12 checks say that this can be believed.",
        "believable": True,
    }


@pytest.mark.parametrize(("number", "found", "outcome", "action"), TROUBLE)
def test_each_trouble_is_found_alone_with_what_to_do(number, found, outcome, action):
    from core.robustness import StudyConfig

    answers = checks(GOOD | found)
    assert [(a.number, a.outcome) for a in answers if a.outcome != "pass"] == [(number, outcome)]
    answer = answers[number - 1]
    assert dict(answer.action) == action
    assert bool(answer.button) == bool(action)
    StudyConfig.of(action)  # a button can be pressed
    said = verdict(GOOD | found, answers, ROW)
    assert said["colour"] == {"fail": "red", "warn": "amber"}[outcome]
    assert said["believable"] == (outcome == "warn")


def test_the_sentence_of_a_masked_gradient_names_it():
    found = GOOD | {"margin_zero": 0.967, "ce_zero": 0.967, "noise_only": 50, "blind_only": 40}
    said = verdict(found, checks(found), ROW | {"robust": 0.97})
    assert said["sentence"] == "97 % is not robustness: 96.7 % of the gradients are zero."


def test_a_strength_at_which_nothing_falls_says_nothing():
    said = verdict(GOOD, checks(GOOD), ROW | {"robust": 0.97})
    assert said["colour"] == "amber" and not said["believable"]
    assert "nothing falls at 8/255" in said["sentence"]


def test_what_was_not_looked_at_stays_open():
    few = {
        k: GOOD[k]
        for k in ("n", "probe", "bpda", "eot", "strong", "sees_margin", "chance", "purifier")
    }
    answers = checks(few)
    assert {a.outcome for a in answers} == {"open"}
    assert verdict(few, answers, ROW)["sentence"].endswith("12 of 12 checks are still to be made.")


def test_the_interval_is_wilsons():
    low, high = interval(142, 300)
    assert (round(low, 3), round(high, 3)) == (
        0.418,
        0.530,
    )  # as in the literature on 47.3 % of 300
    assert interval(0, 50)[0] == 0 and interval(50, 50)[1] == 1 and interval(0, 0) == (0, 1)
    assert [percent(v) for v in (0, 0.004, 0.4733, 1)] == ["0 %", "0.4 %", "47.3 %", "100 %"]

"""The checks, the verdict and how robust it is, rule by rule."""

from __future__ import annotations

import pytest

from core.robustness.verdict import (
    FEWEST,
    MOST,
    NAMES,
    checks,
    robustness,
    verdict,
)
from core.stats import proportion

IDENTITY = {
    "clean": 0.97, "largest": 0.12, "order": None, "reading": None, "company": 0.0, "ours": False, "hardened": False,
    "compared": True, "peers": [{"name": "digits-classifier", "share": 0.98, "p": 0.4}],
}  # fmt: skip
GOOD = {
    "n": 300, "probe": 128, "bpda": False, "eot": 1, "strong": True, "sees_margin": True, "chance": 0.1, "purifier": False,
    "zero_changed": 0, "outside": 0, "doubtful": 0, "widest": 0.0, "fgsm": 0.6, "pgd": 0.5, "pgd_long": 0.5,
    "ce": 0.5, "margin": 0.5, "ce_zero": 0.0, "margin_zero": 0.0, "not_numbers": 0, "decisions": False,
    "blind_only": 0, "blind_tried": 60, "noise_only": 0, "differs": 0.0, "probabilities": False, "inner_gradient": False,
    "seeds": [0.5, 0.5, 0.51], "union": 0.5, "undone": 1.0, "promise": 1.0, "past_only": 0, "past_by": {}, "unmasking": False,
    "identity": IDENTITY,
}  # fmt: skip
ROW = {
    "robust": 0.5, "n": 300, "interval": (0.44, 0.56), "eps": 8 / 255, "text": "8/255", "clean": 0.97,
}  # fmt: skip
PAST = {"attacks": "noise,fgsm,quick,adaptive,surrogate,square"}


def meant(**found):
    return {"identity": IDENTITY | found}


def peer(share: float, p: float = 1e-6, name: str = "digits-classifier"):
    return [{"name": name, "share": share, "p": p}]


TROUBLE = [
    (1, {"zero_changed": 3}, "fail", {"eot": 20}),
    (2, {"outside": 1}, "fail", {}),
    (2, {"doubtful": 50}, "warn", {"eot": 20}),
    (3, {"widest": 0.4}, "fail", {"bpda": True}),
    (4, {"pgd": 0.7, "margin": 0.7, "ce": 0.7}, "fail", {"bpda": True}),
    (4, {"pgd": 0.02, "pgd_long": 0.43, "margin": 0.43, "ce": 0.43, "seeds": [0.02] * 3, "union": 0.02, "undone": 1e-6},
     "fail", PAST),
    (4, {"pgd": 0.02, "pgd_long": 0.43, "margin": 0.43, "ce": 0.43, "seeds": [0.02] * 3, "union": 0.02, "undone": 1e-6,
         "unmasking": True}, "warn", {}),
    (4, {"pgd_long": 0.4}, "warn", {"options": "pgd.steps=100 quick.steps=60"}),
    (5, {"ce": 0.97, "ce_zero": 0.967}, "warn", {}),
    (5, {"ce": 0.97, "ce_zero": 0.967, "sees_margin": False}, "fail",
     {"attacks": "noise,fgsm,quick", "options": "pgd.loss=margin fgsm.loss=margin"}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0}, "fail", {"bpda": True}),
    (6, {"margin_zero": 1.0, "ce_zero": 1.0, "bpda": True}, "fail", {}),
    (6, {"decisions": True}, "fail", {}),
    (6, {"not_numbers": 2}, "warn", {}),
    (6, {"promise": 0.49, "blind_tried": 0}, "fail", PAST),
    (6, {"promise": 2.01, "blind_tried": 0}, "fail", PAST),
    (6, {"promise": -0.9, "blind_tried": 0, "unmasking": True}, "warn", {}),
    (7, {"blind_only": 10}, "fail", PAST),
    (7, {"blind_only": 3}, "fail", PAST),
    (7, {"past_by": {"averaged gradients": 3}}, "fail", PAST),
    (7, {"blind_only": 2}, "warn", {"attacks": "noise,quick,adaptive,surrogate,autoattack"}),
    (8, {"noise_only": 20}, "fail", {"bpda": True}),
    (9, {"differs": 0.9}, "fail", {"eot": 20}),
    (9, {"differs": 0.9, "eot": 20}, "warn", {}),
    (9, meant(company=0.5), "fail", {}),
    (10, {"probabilities": True}, "warn", {}),
    (11, {"inner_gradient": True}, "fail", {}),
    (11, {"purifier": True}, "fail", {}),
    (12, {"strong": False, "union": 0.45}, "warn", {"attacks": "noise,fgsm,quick"}),
    (13, meant(order={"pairs": [["cat", "dog"], ["dog", "cat"]], "share": 0.97, "given": 0.1, "n": 300}), "fail", {}),
    (13, meant(reading={"name": "mean 0.5 and std 0.25", "share": 1.0, "given": 0.686, "n": 256}), "fail", {}),
    (13, meant(clean=0.15), "fail", {}),
    (13, meant(clean=0.686, peers=peer(0.97)), "fail", {}),
    (13, meant(clean=0.686, peers=peer(0.97), ours=True), "warn", {}),
    (13, meant(clean=0.85, peers=peer(0.97)), "warn", {}),
]  # fmt: skip


def test_a_classifier_without_faults_is_believed():
    answers = checks(GOOD)
    assert [a.number for a in answers] == list(range(1, 14))
    assert {a.outcome for a in answers} == {"pass"}
    assert all(a.name == NAMES[a.number] for a in answers)
    said = verdict(GOOD, answers, ROW)
    assert said == {
        "colour": "green",
        "sentence": "All 13 checks say that the measurement can be believed.",
        "believable": True,
    }
    assert robustness(ROW, 0.1, said) == {
        "colour": "amber",
        "sentence": "Partly robust: 50 % of 300 images withstand every attack of 8/255 that was tried "
        "(interval 44 % to 56 %).",
        "robust": 0.5, "n": 300, "interval": [0.44, 0.56],
    }  # fmt: skip


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


@pytest.mark.parametrize(
    ("flat", "finding"),
    [
        (0.97, "Logits saturate: 97 % of the cross-entropy gradients are zero; cross entropy leaves 80 %"),
        (0.0, "Cross entropy leaves 80 %, the lead of a wrong class 50 %."),
    ],
)  # fmt: skip
def test_cross_entropy_that_finds_less_is_told_with_zeros_only_where_there_are_any(flat, finding):
    found = GOOD | {"ce": 0.8, "ce_zero": flat, "blinder": 1e-6}
    answer = checks(found)[4]
    assert answer.outcome == "warn" and answer.finding.startswith(finding)


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
    assert {a.finding for a in answers} == {"Not looked at yet."}
    assert verdict(few, answers, ROW)["sentence"] == "13 of 13 checks are still to be made."
    why = "No image is named rightly, so there is none to attack."
    ended = few | {"why_open": why}
    assert {a.finding for a in checks(ended)} == {why}
    assert verdict(ended, checks(ended), ROW)["sentence"] == f"13 of 13 checks were not made. {why}"


def at(successes: int, n: int) -> dict:
    return ROW | {"robust": successes / n, "n": n, "interval": proportion(successes, n).interval}


def test_too_few_images_are_said_and_never_believed():
    for n, colour in ((FEWEST, "green"), (FEWEST - 1, "amber")):
        row = at(n // 2, n)
        said = verdict(GOOD | {"n": n}, checks(GOOD | {"n": n}), row)
        assert (said["colour"], said["believable"]) == (colour, colour == "green")
        few = f"{n} images are too few"
        assert (
            (few in said["sentence"])
            == (few in robustness(row, 0.1, said)["sentence"])
            == (n < FEWEST)
        )
    assert f"take at least {FEWEST}." in said["sentence"]
    for n, colour in ((FEWEST, "green"), (FEWEST - 1, "amber")):
        assert robustness(at(n, n), 0.1, {"colour": "amber"})["colour"] == colour


def test_how_robust_it_is_goes_by_the_ends_of_the_interval():
    sound = {"colour": "green"}
    for n in range(201):
        low = proportion(n, 200).low
        colour = "green" if low >= MOST else "red" if low <= 0.1 else "amber"
        assert robustness(at(n, 200), 0.1, sound)["colour"] == colour
    assert robustness(at(0, 17), 0.1, sound)["sentence"] == (
        "Not robust: 0 % of 17 images withstand every attack of 8/255 that was tried (interval 0 % to 18.4 %); "
        "17 images are too few to say more."
    )
    masked = robustness(at(199, 200), 0.1, {"colour": "red"})
    assert masked["colour"] == "amber" and masked["sentence"].startswith("Not known: 99.5 % of 200")
    assert robustness(at(0, 200), 0.1, {"colour": "red"})["colour"] == "red"
    early = robustness(at(200, 200), 0.1, sound, complete=False)
    assert early["colour"] == "amber" and early["sentence"].startswith("So far: 100 % of 200")
    none = robustness(ROW | {"eps": 0.0}, 0.1, sound)
    assert (none["colour"], none["sentence"]) == ("amber", "Not known: no attack was tried.")


def test_an_image_that_steps_but_whose_number_others_confirm_is_believed():
    found = GOOD | {"promise": 0.1}
    (answer,) = [a for a in checks(found) if a.number == 6]
    assert answer.outcome == "pass"
    assert "attacks that do not rest on it fool none of 60 images" in answer.finding
    assert checks(found | {"past_only": 1})[5].outcome == "fail"
    # what was found past the gradient before counts as well: the number holds, the gradient does not
    found |= {"past_gain": 10, "unmasking": True}
    assert checks(found)[5].outcome == "warn"


@pytest.mark.parametrize(
    ("found", "outcome", "text"),
    [
        (meant(clean=0.72), "pass", "72 % of 300 images are named rightly without an attack (chance 10 %, the largest"),
        (meant(clean=0.72, compared=False, peers=[]), "pass", "there is no reference yet: train a classifier on this"),
        (meant(clean=0.76, peers=peer(0.97)), "fail", "where digits-classifier names 97 %"),
        (meant(clean=0.78, peers=peer(0.97)), "warn", "where digits-classifier names 97 %"),
        (meant(clean=0.86, peers=peer(0.97)), "warn", "where digits-classifier names 97 %"),
        (meant(clean=0.88, peers=peer(0.97)), "pass", "digits-classifier 97 %"),
        (meant(clean=0.82, peers=peer(0.97), hardened=True), "pass", "digits-classifier 97 %"),
        (meant(clean=0.68, peers=peer(0.97, 0.02)), "pass", "digits-classifier 97 %"),  # of too few images
        (meant(clean=0.5, largest=0.45), "fail", "not surely better than guessing"),
        (meant(clean=0.51, largest=0.45), "pass", "the largest class 45 %"),
        (meant(order={"pairs": [["a", "b"]] * 7, "share": 1.0, "given": 0.0, "n": 300}), "fail",
         "it answers a as b, a as b, a as b, a as b, a as b, a as b, …; in that order 100 % of 300"),
        (meant(reading={"name": "mean 0.5 and std 0.25", "share": 1.0, "given": 0.686, "n": 256}), "fail",
         "with mean 0.5 and std 0.25 it names 100 % of 256 images rightly, as it is 68.6 %"),
    ],
)  # fmt: skip
def test_the_clean_accuracy_tells_whether_it_is_the_model_that_is_meant(found, outcome, text):
    answer = checks(GOOD | found)[12]
    assert (answer.outcome, answer.name) == (outcome, "Is this the model you mean?")
    assert text in answer.finding
    said = verdict(GOOD | found, checks(GOOD | found), ROW)
    assert said["believable"] == (outcome != "fail")
    if not found["identity"]["compared"]:
        assert said["sentence"].endswith(
            "; there is no reference yet to compare its clean accuracy with."
        )

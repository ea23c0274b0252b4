"""The Robustness page: a question, its verdict, and what follows from it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core import datasets, jobs

SMALL = {"robust.study.n": "50", "robust.study.eps": "38/255"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """No screening of another test is remembered, and the expected time is not measured."""
    from core import robustness
    from pages.parts import robustness as parts

    parts._screenings.clear()
    monkeypatch.setattr(
        robustness,
        "estimate",
        lambda target, dataset, config: robustness.Cost(7, 497, 120, robustness.Lap(0, 0, 0.5)),
    )


SCREENED: dict[tuple[str, ...], dict[str, Any]] = {}  # by what was asked beside SMALL


def screened(visit: Any, **query: str) -> Any:
    """The page with a screening that has ended; a question that a test has asked before is one of an earlier visit."""
    from pages.parts import robustness as parts

    key = tuple(f"{name} {value}" for name, value in sorted(query.items()))
    for question, found in SCREENED.get(key, {}).items():
        parts._screenings.put(question, found)
    seen = visit("robustness", **SMALL, **query).calm()
    if key not in SCREENED:
        seen.press("robust.screen")
    for _ in range(200):
        if seen.all("robust.html"):
            SCREENED[key] = {
                question: found for question, (found, _) in parts._screenings._entries.items()
            }
            return seen.calm()
        seen.run()
    raise AssertionError("the screening does not end")


def test_a_fresh_server_opens_with_the_verdict_on_what_ships(visit, gallery):
    seen = visit("robustness").calm()
    assert "Believable" in seen.texts("success")
    # the report that ships is older than this statement, which is made of its numbers
    assert "**Hardly robust.** 19.9 % of 497 images withstand" in seen.texts("warning")
    assert [metric.label for metric in seen.at.metric] == [
        "Without an attack", "Under attack, eps 38/255",
    ]  # fmt: skip
    assert "n = 497" in seen.texts("caption")
    assert "Digits, classifier, attacked, measured as a job" in seen.texts("caption")
    assert "AutoAttack" in seen.texts("markdown")
    (table,) = [table.value for table in seen.set(robust__tool="checks").calm().at.table]
    assert set(table["outcome"]) == {"passed"}


def test_before_anything_was_measured_it_says_what_the_buttons_do(visit, gallery):
    seen = visit("robustness").set(robust__model="shipped-digits-robust").calm()
    assert "Nothing was measured with these settings yet" in seen.texts("markdown")
    assert "About 7 s for 497 images" in seen.texts("caption")
    assert seen.widget("robust.model").value == "shipped-digits-robust"


def test_a_screening_ends_with_a_verdict_a_number_and_its_interval(visit, gallery):
    seen = screened(visit)
    words = " ".join(
        node.value for kind in ("success", "warning", "error") for node in getattr(seen.at, kind)
    )
    assert "Believable" in words or "With care" in words
    (clean, attacked) = seen.at.metric
    assert clean.label == "Without an attack"
    assert attacked.label == "Under attack, eps 38/255"
    assert float(attacked.value.rstrip(" %")) <= float(clean.value.rstrip(" %"))
    assert "(95 %), n = 50" in seen.texts("caption")
    curve = json.loads(seen.at.get("plotly_chart")[0].proto.spec)
    assert curve["layout"]["xaxis"]["type"] == "category"  # each strength has the same room
    strengths = curve["data"][1]["x"]
    (budget,) = [line for line in curve["layout"]["shapes"] if line["x0"] == line["x1"]]
    assert strengths[budget["x0"]] == "38"


def test_a_screening_tells_how_far_it_is_and_is_stopped_with_what_it_has(
    visit, gallery, monkeypatch
):
    from pages.parts import robustness as parts

    monkeypatch.setattr(parts.Screening, "advance", lambda self, seconds: next_slice(self))

    def next_slice(screening: Any) -> None:
        screening.report = next(screening._slices, screening.report)
        screening.seconds += 2.0

    seen = visit("robustness", **SMALL).press("robust.screen").calm()
    (bar,) = seen.at.get("progress")
    assert (bar.proto.value, bar.proto.text) == (28, "Attacking 50 images: about 5 s left")
    seen.press("robust.screening.stop").run().calm()
    assert "Stopped on request. What it had is shown." in seen.texts("caption")
    assert not seen.all("robust.screening.stop")
    assert seen.widget("robust.html")  # marked as not complete
    again = seen.press("robust.screen").calm()
    assert again.all("robust.screening.stop")  # begins anew


def test_what_was_screened_is_there_for_the_next_visitor(visit, gallery):
    screened(visit)
    seen = visit("robustness", **SMALL).calm()
    assert "n = 50" in seen.texts("caption")
    other = visit("robustness", **(SMALL | {"robust.study.n": "51"}))
    assert "n = 50" not in other.texts("caption")


def test_the_images_open_one_by_one(visit, gallery):
    seen = screened(visit).set(robust__tool="images").calm()
    assert seen.pictures("robust.wall")["count"] == 48
    assert any("image" in frame.value.columns for frame in seen.at.dataframe)
    assert "The change, amplified" in seen.texts("markdown")
    assert "each value a little (Linf)" in seen.texts("caption")
    seen.told("robust.wall", {"clicked": {"number": 5, "index": 3}}).calm()
    assert seen.at.session_state["robust.image"] == 3


def test_an_image_that_is_taken_stands_beside_its_change_and_what_it_became(visit, gallery):
    seen = visit("robustness", **SMALL, **{"robust.tool": "Fool it"}).calm()
    assert "an **adversarial attack**" in seen.texts("markdown")
    offered = f"robust.offered.{datasets.load('digits').fingerprint[:8]}"
    seen.told(f"{offered}.test", {"clicked": {"number": 5, "index": 3}}).calm()
    named = re.search(r"2. It says: (\w)", seen.texts("markdown"))[1]
    seen.press("robust.fool").calm()
    clean, change, moved = (
        seen.images(f"robust.mine.{name}").astype(int) for name in ("clean", "change", "moved")
    )
    louder = int(re.search(r"amplified (\d+)×", seen.texts("markdown"))[1])
    assert np.array_equal(change, 128 + louder * (moved - clean))
    assert f"As it is: **{named}**" in seen.texts("markdown")
    assert f"Now it says: **{named}**" not in seen.texts("markdown")
    seen.told(f"{offered}.test", {"clicked": {"number": 6, "index": 4}}).calm()
    assert "Now it says" not in seen.texts("markdown")  # another one, which was not attacked
    seen.set(robust__study__split="valid").calm()  # other images are offered, and none is taken
    assert seen.pictures(f"{offered}.valid")["count"] == 8
    assert "2. It says" not in seen.texts("markdown")


def test_a_strength_typed_right_before_the_press_is_the_one_that_is_tried(visit, gallery):
    seen = visit("robustness", **SMALL)
    seen.widget("robust.study.eps").set_value("12/255")  # no run of the page in between
    seen.press("robust.screen")
    for _ in range(200):
        if seen.all("robust.html"):
            break
        seen.run()
    assert "Under attack, eps 12/255" in [metric.label for metric in seen.calm().at.metric]


def test_a_press_that_was_refused_does_not_act_later(visit, gallery, spawned):
    seen = visit("robustness", **SMALL)
    seen.widget("robust.study.n").set_value(0)
    assert seen.press("robust.confirm").errors
    seen.set(robust__study__n=20).calm()
    assert not spawned


def test_all_checks_are_listed(visit, gallery):
    seen = screened(visit).set(robust__tool="checks").calm()
    (table,) = [table.value for table in seen.at.table]
    assert len(table) == 13
    assert set(table["outcome"]) <= {"passed", "look at it", "failed", "not made"}


def test_on_red_the_number_is_struck_out_and_a_button_mends_it(visit, gallery):
    from core.robustness.verdict import Soundness
    from pages.parts import robustness as parts

    seen = screened(visit)
    (found,) = parts._screenings.values()
    checks = list(found.report.checks)
    checks[5] = replace(
        checks[5], outcome="fail", finding="96.7 % of the gradients are zero.", advice="Let them pass.",
        button="Let gradients pass (BPDA)", action={"bpda": True},
    )  # fmt: skip
    masked = Soundness("red", "97 % is not robustness.", False)
    found.report = replace(found.report, verdict=masked, checks=checks)
    seen.run()
    assert any("Not believable" in text for text in seen.errors)
    assert "~~" in "".join(node.value for node in seen.at.markdown)
    seen.press("robust.mend.6")
    assert seen.widget("robust.study.bpda").value is True


def test_confirming_starts_a_job_with_autoattack(visit, gallery, spawned, asked):
    seen = visit("robustness", **SMALL).press("robust.confirm").calm()
    job = jobs.get(spawned[0])
    assert (job.kind, job.target) == ("attack", "shipped-digits-classifier")
    assert job.config["attack"]["attacks"] == "noise,quick,adaptive,surrogate,autoattack"
    assert job.config["attack"]["n"] == 50
    assert "Measured as jobs (2)" in [expander.label for expander in seen.at.expander]


@pytest.mark.parametrize(
    ("tool", "key", "values"),
    [
        ("corruptions", "robust.start.Measure corruptions", {"corruptions": True}),
        ("certified", "robust.start.Certify", {"certify": 0.25}),
        ("transfer", "robust.start.Measure transfer", {"transfer": "shipped-digits-robust"}),
    ],
)
def test_what_goes_beyond_attacks_is_a_job(visit, gallery, spawned, tool, key, values):
    seen = visit("robustness", **SMALL).set(robust__tool="beyond").calm()
    seen.set(robust__beyond=tool)
    if tool == "transfer":
        assert seen.widget(key).disabled  # until there is something to compare with
        seen.set(robust__others=["shipped-digits-robust"])
    assert seen.texts("caption").count("About ") == 3  # to screen, to confirm, and this
    seen.press(key).calm()
    config = jobs.get(spawned[0]).config["attack"]
    assert config | values == config


def test_a_certificate_is_drawn_with_its_draws(visit, gallery, monkeypatch):
    from core.robustness import certify, extras
    from pages.parts.robustness import beyond

    images = [certify.Certified(0, 3, True, 0.4, 0.9), certify.Certified(1, -1, False, 0.0, 0.4)]
    table = extras.certificate(images, certify.CertifyConfig(draws=1234)) | {"job": "a job"}
    monkeypatch.setattr(
        beyond, "_newest", lambda of, name: table if name == "certified.json" else None
    )
    seen = visit("robustness", **SMALL).set(robust__tool="beyond").calm()
    seen.set(robust__beyond="certified").calm()
    assert "n = 2, 1,234 draws each. Abstained on 1, which count as wrong." in seen.texts("caption")


def test_generative_models_offer_what_they_can(visit, gallery):
    seen = visit("robustness", **SMALL).set(robust__tool="generative").calm()
    assert "Press **Try it**" in seen.texts("markdown")
    names = seen.widget("robust.trick.gan").options
    assert names


@pytest.mark.parametrize(
    ("run", "trick", "eps"), [("gan", "critic", 38), ("vae", "likelihood", 76)]
)
def test_the_strength_that_a_trick_runs_at_is_the_one_that_is_read(visit, gallery, run, trick, eps):
    seen = visit("robustness", **SMALL).set(robust__tool="generative").calm()
    seen.set(robust__generator=f"shipped-digits-{run}").calm()
    seen.set(**{f"robust__trick__{run}": trick}).calm()
    slider = seen.widget(f"robust.trick.{trick}.eps")
    assert slider.value == pytest.approx(eps / 255, abs=1e-4)
    assert f"Runs at an attack strength of {eps}/255." in seen.texts("caption")
    seen.set(**{f"robust__trick__{trick}__eps": 0.0}).calm()
    assert f"Runs at an attack strength of {eps}/255." in seen.texts("caption")


def test_a_trick_shows_what_it_has_as_it_works(visit, gallery):
    seen = visit("robustness", **SMALL).set(robust__tool="generative").calm()
    seen.set(robust__trick__gan="critic").calm()
    seen.press("robust.try").calm()
    assert seen.images("robust.pictures.critic.0") is not None
    assert "Press **Try it**" not in " ".join(seen.texts())


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch):
    """Makes sure that nothing is trained inside the page: there is no judge, and none can be made."""
    from core.measure import features

    def never(*_: Any) -> None:
        raise AssertionError("the page trains a classifier in passing")

    monkeypatch.setattr(features, "judged", lambda dataset: False)
    monkeypatch.setattr(features, "judge", never)


def test_a_dataset_without_a_classifier_is_trained_one_as_a_job_only(visit, unjudged, spawned):
    seen = visit("robustness").calm()
    assert "There is no classifier of digits to attack yet" in seen.texts("markdown")
    assert not seen.all("robust.screen") and not seen.all("robust.confirm")
    assert seen.widget("robust.own")  # bringing one's own needs none
    assert not spawned
    seen.press("robust.teach").calm()
    job = jobs.get(spawned[0])
    assert (job.kind, job.config["dataset"]["name"]) == ("classifier", "digits")
    assert not seen.all("robust.teach")
    seen.press("robust.teach.stop").calm()
    assert jobs.get(job.id).stopping
    seen.set(robust__tool="generative").calm()


def test_the_classifiers_that_are_there_are_offered_without_the_one_that_is_not(
    visit, gallery, unjudged
):
    seen = visit("robustness").calm()
    offered = seen.widget("robust.model").options
    assert offered and "Plain classifier of this dataset" not in offered
    assert seen.all("robust.screen") and not seen.all("robust.teach")


def test_a_view_only_server_starts_no_job(visit, gallery, setting, spawned):
    setting(view_only=1)
    visit("robustness", **SMALL).force("robust.confirm")
    assert not spawned


def test_eps_without_a_unit_is_asked_back(visit, gallery):
    seen = visit("robustness", **{"robust.study.eps": "8"})
    seen.press("robust.screen")
    assert any("8/255" in text for text in seen.errors)


def test_a_dataset_without_labels_says_so(visit, trained):
    seen = visit("robustness", data="plain").calm()
    assert "has no labels" in seen.texts("markdown")


def test_weights_that_are_refused_are_looked_at_once(monkeypatch):
    from core import brought
    from core.catalog import UserError
    from pages.parts.robustness import bring

    monkeypatch.setattr(bring.st, "session_state", {})
    monkeypatch.setattr(bring.threading, "Timer", lambda *a: type("T", (), {"start": print})())
    said = []
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            bring.looked([("one.safetensors", b"nothing")])
        said.append(str(refused.value))
        monkeypatch.setattr(brought, "sent", lambda files: pytest.fail("it was looked at again"))
    assert said[0] == said[1] and "holds no weights that can be read" in said[0]


def test_what_needs_gradients_is_not_offered_for_a_classifier_that_gives_answers_only(
    visit, gallery, monkeypatch
):
    from core.robustness import classifiers

    usual = classifiers.available
    offered = visit("robustness", **{"robust.tool": "Generative", "run": "shipped-digits-vae"})
    assert "this is left out" not in offered.calm().texts("caption")
    monkeypatch.setattr(
        classifiers,
        "available",
        lambda data: [replace(choice, answers_only=True) for choice in usual(data)],
    )
    seen = visit("robustness", **{"robust.tool": "Harden"}).calm()
    assert "so it cannot be trained against attacks" in seen.texts()
    seen = visit("robustness", **{"robust.tool": "Generative", "run": "shipped-digits-vae"}).calm()
    assert "without gradients, so this is left out: " in seen.texts("caption")

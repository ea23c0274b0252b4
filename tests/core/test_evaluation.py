"""Evaluations: from a run to its numbers, what they must stand, side by side, and in words."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
import time

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from core import datasets, jobs, measure, runs, worker
from core.__main__ import main
from core.catalog import Config, UserError
from core.ground import files
from core.kinds import evaluate
from core.measure import EvaluateConfig, features, report
from core.measure.breakdown import _few_dimensions, per_class, per_image
from core.measure.features.extractors import judge as judges
from core.measure.study import Evaluator
from core.models import Spec
from core.runs import Opened
from core.training import trained

CHEAP = {"metrics": "kid,precision,coverage,nearer", "extractor": "pca", "map": False}


@pytest.fixture
def asked(evaluated, setting, monkeypatch):
    """Evaluates a tiny run in this process: `asked("gan", samples=100)` gives the job when it has ended."""
    setting(nice=0, threads=1)
    monkeypatch.setattr(jobs, "spawn", lambda path: None)

    def do(name="gan", **values):
        job = evaluate.start(jobs.get(evaluated.runs[name]), {"samples": 100} | CHEAP | values)
        worker.work(job.path)
        return jobs.get(job.id)

    return do


class Fixed:
    """A model that draws what a function of the ids says."""

    classes = 0

    def __init__(self, draw, channels=1, size=8):
        self.draw, self.spec = draw, Spec("image", (channels, size, size), 256)

    def sample(self, ids, y, seed, sampling):
        return self.draw(ids).expand(len(ids), self.spec.channels, self.spec.size, self.spec.size)


def study(model, dataset, **values):
    opened = Opened("fixed", 7, 1, "fixed", model, model.spec, (), Config)
    made = Evaluator(opened, dataset, EvaluateConfig.of(CHEAP | {"samples": 60} | values), Config())
    made.prepare()
    return made


def values(made):
    return {m.metric: m for m in made.measure()}


# --- From a run to its numbers --------------------------------------------------------------------------------------


def test_an_evaluation_measures_and_keeps_every_sample(evaluated):
    found = measure.read(evaluated.runs["gan evaluation"])
    assert found.finished
    assert (found.run, found.family, found.dataset) == (evaluated.runs["gan"], "gan", "digits")
    asked = [
        entry.name
        for entry in measure.metrics
        if entry.standard and not entry.name.startswith("paired_")
    ]
    assert [m.metric for m in found.measurements] == asked
    kid = found.get("kid")
    assert kid.low < kid.value < kid.high
    assert kid.value > kid.floor
    assert kid.title == "Kernel distance (KID), judge"
    assert (kid.extractor, kid.hash) == (found.conditions["extractor"], found.conditions["hash"])
    assert found.get("bits") is None  # a GAN has none, and says so
    assert "gives no probability" in next(m.note for m in found.measurements if m.metric == "bits")
    assert measure.read(evaluated.runs["vae evaluation"]).get("bits").value > 0
    assert (
        found.get("losses").details["unseen"].keys() == found.get("losses").details["seen"].keys()
    )


def test_arrays_say_of_each_image_what_the_numbers_count(evaluated):
    found = measure.read(evaluated.runs["gan evaluation"])
    arrays = found.arrays()
    n, m = len(arrays.made), len(arrays.real)
    assert (n, m) == (300, 300)
    assert arrays.realistic.mean() == pytest.approx(found.get("precision").value)
    assert arrays.covered.mean() == pytest.approx(found.get("coverage").value)
    assert arrays.recalled.mean() == pytest.approx(found.get("recall").value)
    assert (arrays.gap[arrays.covered] <= 1.0001).all()
    assert (arrays.made_named == arrays.made_y).mean() == pytest.approx(found.get("accuracy").value)
    near = measure.training_images(found, arrays.near_pixels)
    far = (arrays.made.astype(float) - near).reshape(n, -1) / 255
    assert np.sqrt(np.square(far).mean(1)) == pytest.approx(arrays.near_pixels_distance, abs=2e-3)
    assert sorted(arrays.suspects) == list(range(n))
    rank = np.fmin(arrays.near_rank, arrays.disguise_rank)
    assert np.all(np.diff(rank[arrays.suspects]) >= 0)
    assert measure.reference_images(found).shape == (m, 1, 8, 8)
    for way in ("pca", "tsne"):
        assert measure.projection(found, way).shape == (n + m, 2)
    assert sum(row["n_real"] for row in found.classes) == m
    assert sum(row["made_share"] for row in found.classes) == pytest.approx(1)


def test_the_same_seed_gives_the_same_numbers(asked):
    first, again, other = (measure.read(asked(seed=seed)) for seed in (1, 1, 2))
    assert [m.value for m in first.measurements] == [m.value for m in again.measurements]
    assert first.get("kid").value != other.get("kid").value


def test_progress_and_records_arrive_metric_by_metric(asked):
    job = asked()
    assert (job.status, job.share) == ("finished", 1)
    records = files.Log(job.path).read()[0]
    assert [record["metric"] for record in records] == ["kid", "precision", "coverage", "nearer"]
    assert measure.listing(job.target)[0].id == job.id
    assert measure.latest(job.target).job == job.id


def test_a_stopped_evaluation_keeps_what_it_has(asked, monkeypatch):
    from core.kinds import Task

    told = []

    def stopped(task):
        told.append(1)
        return "Stopped on request." if (task.path / "evaluation.json").exists() else ""

    monkeypatch.setattr(Task, "stopped", stopped)
    job = asked()
    assert job.status == "stopped"
    found = measure.read(job)
    assert not found.finished
    assert found.arrays() is not None


def test_no_judge_is_trained_for_metrics_that_ask_for_none(asked, monkeypatch):
    monkeypatch.setattr(trained, "finished", None)  # it would fail
    monkeypatch.setitem(features.LENGTHS, "digits", 2_000)  # a judge that is not there
    job = asked(extractor="pixels", metrics="kid,nearer,disguised")
    assert job.status == "finished", job.message
    # a model without classes is never asked for a class, so that nothing needs one either
    few = study(
        Fixed(lambda ids: ids.view(-1, 1, 1, 1) / 60), datasets.load("digits"), metrics="accuracy"
    )
    assert (
        "listen to classes" in values(few)["accuracy"].note
        or "judge" in values(few)["accuracy"].note
    )


@pytest.fixture
def judgeless(monkeypatch):
    """Makes a judge of digits that is not there yet and soon trained; gives what jobs say, with the share."""
    from core.kinds import Task

    told = []
    monkeypatch.setitem(features.LENGTHS, "digits", 2_000)
    monkeypatch.setattr(features, "POOR", 0.0)  # so that no other extractor takes its place
    monkeypatch.setattr("core.measure.features.choice.POOR", 0.0)
    say = Task.say

    def heard(task, message, done=None, total=1.0, **fields):
        told.append((message, done or 0))
        say(task, message, done, total, **fields)

    monkeypatch.setattr(Task, "say", heard)
    return told


def test_a_judge_for_some_metrics_alone_comes_last_and_tells_how_far_it_is(asked, judgeless):
    job = asked(extractor="pixels", metrics="classes,kid,accuracy,nearer")
    assert job.status == "finished", job.message
    records = [record["metric"] for record in files.Log(job.path).read()[0]]
    assert records == ["kid", "nearer", "classes", "accuracy"]
    words = [text for text, _ in judgeless]
    training = [text for text in words if text.startswith("Training the judge of digits, once")]
    assert training[0].endswith(": 0 of 2,000 images")
    assert training[-1].endswith(": 2,000 of 2,000 images")
    shares = [done for _, done in judgeless if done]
    assert shares == sorted(shares)
    assert words.index(training[0]) > words.index("Measuring: Kernel distance (KID)")
    found = measure.read(job)
    assert found.conditions["judge_accuracy"] > 0
    assert found.classes
    assert (found.arrays().made_named >= 0).all()


def test_a_judge_that_sees_the_images_is_trained_first_with_progress(asked, judgeless):
    job = asked(extractor="judge", metrics="kid")
    assert job.status == "finished", job.message
    training = [done for text, done in judgeless if text.startswith("Training the judge")]
    assert training[-1] == 30
    assert [done for _, done in judgeless if done] == sorted(done for _, done in judgeless if done)


@pytest.mark.parametrize("extractor", ["pixels", "judge", "self"])
def test_stop_ends_a_training_in_passing_and_keeps_what_is_measured(
    asked, judgeless, monkeypatch, extractor
):
    from core.kinds import Task

    monkeypatch.setattr(
        Task,
        "stopped",
        lambda task: "Enough." if any(text.startswith("Training") for text, _ in judgeless) else "",
    )
    job = asked(extractor=extractor, metrics="classes,kid")
    assert job.status == "stopped"
    assert [text for text, _ in judgeless if text.startswith("Training")][1:] == []
    assert not features.judged(datasets.load("digits"))
    if extractor == "pixels":
        assert [m.metric for m in measure.read(job).measurements] == ["kid"]


def test_sets_that_are_sorted_by_class_lose_none_where_only_the_first_count():
    digits = datasets.load("digits")
    splits = {
        name: index[np.argsort(digits.y[index], kind="stable")]
        for name, index in digits.splits.items()
    }
    ordered = dataclasses.replace(digits, splits=splits)
    model = Fixed(lambda ids: ids.view(-1, 1, 1, 1) / 500)
    opened = Opened("fixed", 7, 1, "fixed", model, model.spec, (), Config)
    made = Evaluator(opened, ordered, EvaluateConfig.of(CHEAP | {"samples": 1000}), Config())
    assert made.n < 600 < len(made.twin.x)  # fewer real images than samples
    for sample, few in ((made.twin, made.n), (made.train, made.scored), (made.reference, 100)):
        assert set(sample.y[:few]) == set(range(10))
        assert np.array_equal(sample.x, ordered.x[sample.index])
        assert np.array_equal(sample.y, ordered.y[sample.index])


def test_a_run_that_goes_on_training_is_measured_as_it_was_opened(asked, evaluated):
    run = jobs.get(evaluated.runs["vae"])
    step = runs.checkpoints(run)[0]
    job = asked("vae", step=step)
    assert measure.read(job).step == step
    jobs.set_state(run.path, status="running")
    assert measure.read(asked("vae")).step == runs.checkpoints(run)[-1]


# --- What is refused, and what it must stand ------------------------------------------------------------------------


def test_what_cannot_be_evaluated_is_refused_at_once(evaluated):
    gan = jobs.get(evaluated.runs["gan"])
    for run, given, words in [
        (
            jobs.get(evaluated.runs["classifier"]),
            {},
            "is a classifier, which draws no images. Choose",
        ),
        (gan, {"metrics": "kid,fidd"}, "There is no metric 'fidd'."),
        (gan, {"metrics": ","}, "must name at least one metric, got none. Write standard, all, or"),
        (gan, {"step": 99_999}, "has no checkpoint at step 99999. It has: "),
        (gan, {"samples": 10}, "evaluate.samples must be a whole number at least 50"),
        (gan, {"extractor": "jury"}, "must be one of judge, dinov2, inception, pca, pixels, self"),
    ]:
        with pytest.raises(UserError, match=re.escape(words)):
            evaluate.start(run, given)


def test_too_few_real_images_are_refused_with_the_number_needed(toy):
    with pytest.raises(UserError, match="at least 50 images of the test split, toy has 10"):
        study(Fixed(lambda ids: torch.zeros(1, 1, 1, 1)), toy(60))


def test_a_reference_smaller_than_the_features_says_how_many_it_needs(toy):
    dataset = toy(360, size=16, classes=1)
    model = Fixed(lambda ids: torch.rand(len(ids), 1, 16, 16), size=16)
    found = values(study(model, dataset, metrics="frechet,frechet_inf,kid"))
    assert found["frechet"].value is None
    assert re.search(
        r"64 features needs at least 128 samples .* got 60\. Draw more", found["frechet"].note
    )
    assert "needs at least 512 samples" in found["frechet_inf"].note
    assert found["kid"].known


def test_few_samples_have_a_distance_with_its_warning_and_many_an_extrapolated_one(toy):
    dataset = toy(2400, size=4, classes=2)
    model = Fixed(lambda ids: torch.rand(len(ids), 1, 4, 4), size=4)
    few = values(study(model, dataset, metrics="frechet,frechet_inf", samples=400))
    assert "400 samples are few for 16 features" in few["frechet"].note
    assert few["frechet_inf"].value == pytest.approx(few["frechet"].value, rel=0.02)
    assert few["frechet_inf"].low < few["frechet_inf"].value < few["frechet_inf"].high


def test_one_class_and_no_labels_fall_back_and_say_so(toy, monkeypatch):
    monkeypatch.setitem(features.LENGTHS, "other", 512)
    for classes, words in ((1, "one class only"), (0, "no labels")):
        made = study(
            Fixed(lambda ids: torch.rand(len(ids), 1, 8, 8)),
            toy(360, classes=classes),
            extractor="judge",
            metrics="kid,accuracy",
        )
        assert made.extractor.name == "self"
        assert any(f"toy has {words}, so there is no judge" in text for text in made.warnings)
        found = values(made)
        assert found["kid"].title == "Kernel distance (KID), self-supervised"
        assert "needs a judge of the classes" in found["accuracy"].note
        assert per_class(made) == []


def test_what_is_kept_of_features_is_the_same_every_time_and_has_most_of_their_spread():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(200, 48, generator=draws) * torch.logspace(0, -3, 48)
    before = torch.get_rng_state()
    made, real = _few_dimensions(x[:50], x)
    assert torch.equal(before, torch.get_rng_state())
    assert made.shape == (50, 32) and real.shape == (200, 32) and np.array_equal(made, real[:50])
    spread = real.astype(np.float64).var(0)
    assert (np.diff(spread) <= 0).all()
    assert spread.sum() == pytest.approx(float(x.double().var(0, correction=0).sum()), rel=1e-2)


def test_a_poor_judge_is_named_and_not_asked(toy, monkeypatch):
    monkeypatch.setitem(features.LENGTHS, "other", 512)
    dataset = toy(360)
    poor = dataclasses.replace(features.judge(dataset, torch.device("cpu")), accuracy=0.62)
    monkeypatch.setattr(judges, "judge", lambda *_: poor)
    made = study(Fixed(lambda ids: torch.rand(len(ids), 1, 8, 8)), dataset, extractor="judge")
    assert made.extractor.name == "self"
    assert "names only 62 % of the test images rightly, below 90 %" in " ".join(made.warnings)


def test_constant_samples_are_told_and_measured(toy):
    made = study(
        Fixed(lambda ids: torch.full((1, 1, 1, 1), 0.5)),
        toy(360),
        metrics="kid,frechet,sliced,precision,recall,coverage,nearer,ratio,authenticity,ct",
        samples=100,
    )
    assert "All 100 samples are the same picture" in " ".join(made.warnings)
    found = values(made)
    assert found["recall"].value == 0
    assert found["kid"].value > found["kid"].floor
    assert all(m.known or m.note for m in found.values())
    assert all(len(array) for array in per_image(made).values())


def test_samples_that_are_no_numbers_are_told_or_refused(toy):
    def some(ids):
        return torch.where(ids.view(-1, 1, 1, 1) % 4 == 0, torch.nan, 0.5)

    assert "15 of 60 samples hold values that are not numbers" in " ".join(
        study(Fixed(some), toy(360)).warnings
    )
    with pytest.raises(
        UserError, match=r"samples of step 7 are not numbers .* all 60 of them. Evaluate"
    ):
        study(Fixed(lambda ids: torch.full((1, 1, 1, 1), torch.nan)), toy(360))


def test_colour_is_measured_like_grey(toy):
    model = Fixed(lambda ids: torch.rand(len(ids), 3, 8, 8), channels=3)
    made = study(model, toy(360, channels=3))
    assert per_image(made)["made"].shape == (60, 3, 8, 8)
    assert all(m.known for m in values(made).values())


def test_another_version_of_the_dataset_is_refused(asked, evaluated):
    run = jobs.get(evaluated.runs["gan"])
    facts = files.read_json(run.path / "run.json")
    facts["dataset"]["fingerprint"] = "0" * 64
    files.write_json(run.path / "run.json", facts)
    job = asked()
    assert job.status == "failed"
    assert "digits has changed since Tiny gan was trained" in job.message


def test_features_of_another_dataset_are_never_taken_from_the_cache(toy):
    one, other = toy(120), toy(121)
    index = np.arange(40)
    seen = [
        features.of_split(features.components(d, torch.device("cpu")), d, index)
        for d in (one, other, one)
    ]
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def test_damaged_files_are_named(asked):
    job = asked()
    (job.path / "arrays.npz").write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match=r"arrays\.npz is damaged .* Start the evaluation again"):
        measure.read(job).arrays()
    (job.path / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match=r"evaluation\.json is damaged .* Delete the evaluation"):
        measure.read(job)


# --- Side by side ---------------------------------------------------------------------------------------------------


def changed(one, metric, **fields):
    """Copies an evaluation with one measurement changed."""
    cells = [
        dataclasses.replace(m, **fields) if m.metric == metric else m for m in one.measurements
    ]
    return dataclasses.replace(one, measurements=tuple(cells))


def row(comparison, metric):
    return next(row for row in comparison.rows if row.metric == metric)


def test_a_difference_within_the_intervals_is_a_tie(evaluated):
    one = measure.read(evaluated.runs["gan evaluation"])
    base = changed(one, "kid", value=0.50, low=0.40, high=0.60)
    near = changed(one, "kid", value=0.62, low=0.52, high=0.72)
    far = changed(one, "kid", value=0.80, low=0.70, high=0.90)
    assert row(measure.compare([near, base]), "kid").best == (0, 1)
    assert row(measure.compare([far, base]), "kid").best == (1,)
    assert row(measure.compare([base]), "kid").best == ()
    vague = changed(one, "kid", value=0.80, low=None, high=None)
    assert row(measure.compare([vague, base]), "kid").best == ()


def test_other_conditions_are_refused_by_name(evaluated):
    one = measure.read(evaluated.runs["gan evaluation"])
    for changes, words in [
        ({"conditions": {**one.conditions, "fingerprint": "f" * 64}}, "the dataset (digits "),
        (
            {"conditions": {**one.conditions, "reference": "valid"}},
            "compared with (test and valid)",
        ),
    ]:
        refused = row(measure.compare([one, dataclasses.replace(one, **changes)]), "kid").refused
        assert words in refused
        assert refused.endswith("Evaluate them in the same way.")
    for fields, words in [
        ({"hash": "0" * 16}, "what sees the images (judge "),
        ({"n": 100}, "the number of samples (300 and 100)"),
    ]:
        refused = row(measure.compare([one, changed(one, "kid", **fields)]), "kid").refused
        assert words in refused
    other = measure.read(evaluated.runs["vae evaluation"])
    both = measure.compare([one, other])
    assert "the family (gan and vae)" in row(both, "losses").refused
    assert row(both, "kid").refused == ""
    assert any("the sampling settings" in text for text in both.differences)


def test_only_equal_conditions_are_ranked_together(evaluated):
    good, bad = (
        changed(
            dataclasses.replace(measure.read(evaluated.runs["gan evaluation"]), run=name),
            "kid",
            value=value,
            low=value - 0.1,
            high=value + 0.1,
        )
        for name, value in (("good", 0.3), ("bad", 0.9))
    )
    elsewhere = dataclasses.replace(
        good, run="elsewhere", conditions={**good.conditions, "n_samples": 999}
    )
    older = changed(good, "kid", value=5.0)
    first, second = measure.boards([bad, elsewhere, good, older])
    assert first.leading is not None and first.leading.metric == "kid"
    assert [first.evaluations[k].run for k in first.leading.order] == ["good", "bad"]
    assert [one.run for one in second.evaluations] == ["elsewhere"]


def test_the_table_has_a_line_per_value(evaluated):
    both = [measure.read(evaluated.runs[f"{name} evaluation"]) for name in ("gan", "vae")]
    lines = list(csv.DictReader(io.StringIO(measure.compare(both).csv())))
    kid = [line for line in lines if line["metric"] == "kid"]
    assert [float(line["value"]) for line in kid] == [one.get("kid").value for one in both]
    assert {line["best"] for line in lines} <= {"", "yes", "no"}


def test_quality_over_the_steps(asked, evaluated):
    run = jobs.get(evaluated.runs["gan"])
    steps = runs.checkpoints(run)[:2]
    for step in (*steps, steps[0]):
        asked(step=step)
    asked(step=steps[1], samples=120)  # another number of samples is another curve
    asked(step=steps[0])
    asked(step=steps[1])
    found = measure.trajectory(run)["precision"]
    assert [step for step, _ in found] == steps
    assert {m.n for _, m in found} == {100}


# --- In words -------------------------------------------------------------------------------------------------------


def test_sentences_and_verdict_follow_the_numbers(evaluated):
    one = measure.read(evaluated.runs["gan evaluation"])
    good, fails, copies = measure.sentences(one)
    assert "%" in good
    assert "“" in fails
    assert copies == measure.verdict(one).sentence
    alarming = {
        "nearer": {
            "value": 0.7,
            "low": 0.66,
            "high": 0.74,
            "details": {"limit": 0.6, "ceiling": 0.73},
        },
        "ratio": {"value": 0.3, "low": 0.25, "high": 0.35},
        "authenticity": {"value": 0.6, "low": 0.55, "high": 0.65, "details": {"floor_low": 0.55}},
        "ct": {"value": 0.5},
        "membership": {"value": 0.5, "low": 0.45, "high": 0.55},
    }
    for metric, fields in alarming.items():
        one = changed(one, metric, **fields)
    assert measure.verdict(one).copies is True
    assert "2 of 7 tests say so" in measure.verdict(one).sentence
    only = changed(one, "ratio", value=0.0, low=0.0, high=0.001)
    assert measure.verdict(only).copies is None
    smooth = changed(only, "nearer", value=0.5, low=0.45, high=0.55)
    assert measure.verdict(smooth).copies is False
    smooth = changed(smooth, "ct", value=-9.0)
    assert measure.verdict(smooth).copies is False
    assert "as smooth samples also are" in measure.verdict(smooth).sentence
    unmeasured = dataclasses.replace(one, measurements=(), classes=())
    assert measure.verdict(unmeasured).copies is None
    assert measure.sentences(unmeasured)[0] == "What it is good at was not measured."


def test_a_claim_has_its_number_with_interval_and_what_real_images_have(evaluated):
    one = measure.read(evaluated.runs["gan evaluation"])
    good, fails, copies = measure.claims(one)
    assert [claim.topic for claim in (good, fails, copies)] == ["Good at", "Fails at", "Copies"]
    assert good.number in one.measurements and copies.number in one.measurements
    rows = [
        {"class": "7", "coverage": 0.8, "n_real": 50, "made_share": 0.5, "real_share": 0.5},
        {"class": "8", "coverage": 0.65, "n_real": 40, "made_share": 0.5, "real_share": 0.5},
    ]
    one = changed(dataclasses.replace(one, classes=tuple(rows)), "coverage", value=0.7, floor=0.96)
    fails = measure.claims(one)[1]
    assert fails.sentence == (
        "It does worst at “8”: 35 % of the real ones have nothing like them among its pictures."
    )
    # the worst of two: both intervals hold at once
    low, high = binomtest(14, 40).proportion_ci(0.975, method="wilson")
    assert fails.number.note.startswith("the worst of 2 classes")
    assert fails.number.value == 0.35
    assert fails.number.interval == pytest.approx((low, high))
    assert fails.number.floor == pytest.approx(0.04)
    rows[0]["made_share"] = 0.1
    rows[0]["coverage"] = 0.1
    fails = measure.claims(one)[1]
    assert "hardly ever makes “7”: 10 % of its pictures, where 50 %" in fails.sentence
    assert (fails.number.value, fails.number.floor) == (0.1, 0.5)
    plain = changed(dataclasses.replace(one, classes=()), "coverage", low=0.6, high=0.8)
    fails = measure.claims(plain)[1]
    assert fails.number.interval == pytest.approx((0.2, 0.4))
    assert measure.sentences(plain)[1] == "It has nothing near 30 % of the real pictures."


@pytest.mark.parametrize(
    ("precision", "coverage", "words"),
    [
        (
            0.95,
            0.9,
            "Its pictures come close to real ones in realism (95 % against 100 %) and variety (90 % against 100 %), ",
        ),
        (
            0.95,
            0.75,
            "come close to real ones in realism (95 % against 100 %) but fall short of them in variety (75 % against 100 %), ",
        ),
        (
            0.1,
            0.1,
            "Its pictures are far from real ones in realism (10 % against 100 %) and variety (10 % against 100 %), ",
        ),
        (None, 0.95, "Its pictures come close to real ones in variety (95 % against 100 %), "),
        (None, None, "How real they are was not measured, "),
    ],
)
def test_one_sentence_sets_realism_and_variety_beside_real_images(
    evaluated, precision, coverage, words
):
    one = measure.read(evaluated.runs["gan evaluation"])
    one = changed(one, "precision", value=precision, floor=1.0)
    one = changed(one, "coverage", value=coverage, floor=1.0)
    assert words in measure.overall(one)
    assert measure.overall(dataclasses.replace(one, measurements=())).endswith(
        "whether it copies is open."
    )


def test_the_card_says_data_terms_days_and_who(evaluated, setting):
    from core.measure import card

    run = jobs.get(evaluated.runs["gan"])
    about = card.of(run)
    assert about.sentence == measure.overall(about.evaluation)
    assert about.fact("Licence of the images").text == "CC BY 4.0"
    assert about.fact("Learned from").text.startswith("Digits, 8 px: 1,094 grey images of 8×8 px")
    assert "with 300 pictures of its own beside" in about.fact("Measured").text
    assert (about.fact("Made by").text, about.said) == (card.UNKNOWN, ())
    assert any("0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in text for text in about.limits)
    card.state(run, use="For a talk.", limits="No faces.\n\nNo text.", who="Ada")
    mine = card.of(run)
    assert (mine.use, mine.limits, mine.said) == (
        "For a talk.",
        ("No faces.", "No text."),
        card.SAID,
    )
    assert mine.fact("Made by").text == "Ada"
    card.state(run, use=" ", who="", limits="")
    assert card.of(run) == about
    with pytest.raises(UserError, match="use must have at most 2,000 characters, got 2,001"):
        card.state(run, use="x" * 2001)
    setting(view_only=1)
    with pytest.raises(UserError, match="for viewing only"):
        card.state(run, use="For a talk.")


def test_what_two_people_say_at_once_is_kept(evaluated, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from core.measure import card

    run, read = jobs.get(evaluated.runs["gan"]), card.words

    def slow(run):
        kept = read(run)
        time.sleep(0.1)
        return kept

    monkeypatch.setattr(card, "words", slow)
    with ThreadPoolExecutor() as people:
        list(people.map(lambda name: card.state(run, **{name: "Said."}), card.SAID))
    assert read(run) == dict.fromkeys(card.SAID, "Said.")


def test_terms_that_nobody_has_recorded_are_said_and_come_with_the_dataset(evaluated):
    from core.measure import card

    run = jobs.get(evaluated.runs["gan"])
    record = json.loads((run.path / "run.json").read_text())
    record["dataset"] |= {"name": "mine", "config": {}}
    (run.path / "run.json").write_text(json.dumps(record))
    gone = card.of(run).fact("Licence of the images")
    assert (gone.text, gone.remedy) == (
        "not recorded",
        "The dataset mine is not here any more. Import it again to say it.",
    )
    digits = datasets.load("digits")
    datasets.save("mine", dataclasses.replace(digits, terms={"consent": "unknown"}))
    about = card.of(run)
    assert about.fact("Consent of the people shown").text == "not recorded"
    assert "Licence and consent" in about.fact("Consent of the people shown").remedy
    assert any(text.startswith("Find out the terms") for text in about.limits)
    datasets.state("mine", licence="CC0", consent="given")
    about = card.of(run)
    assert about.fact("Licence of the images").text == "CC0"
    assert about.fact("Consent of the people shown").text == "given"
    assert not any(text.startswith("Find out the terms") for text in about.limits)


def test_every_metric_says_what_it_means_and_when_not_to_trust_it():
    for entry in measure.metrics:
        assert entry.group in measure.GROUPS
        assert entry.direction in ("lower", "higher", "")
        assert entry.scale in ("share", "number", "bits")
        for text in (entry.caption, entry.means, entry.doubt):
            assert text.endswith(".")
            assert text[0].isupper()
        assert entry.fewest >= 50


def test_the_report_is_one_file_with_pictures_settings_versions_and_seeds(evaluated):
    found = measure.read(evaluated.runs["gan evaluation"])
    page = report.html(dataclasses.replace(found, name="A <b>bold</b> name")).decode()
    assert "A &lt;b&gt;bold&lt;/b&gt; name" in page
    assert page.count("data:image/png;base64,") > 12
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert page.index('class="card"') < page.index("The numbers")
    for words in (
        measure.overall(found),
        *measure.sentences(found),
        "Licence of the images",
        "Kernel distance (KID), judge",
        '"seed": 0',
        '"torch": "',
        "prefers-color-scheme",
    ):
        assert words in html.unescape(page)
    for m in found.measurements:
        assert m.entry.doubt in html.unescape(page)


def test_the_command_prints_numbers_with_interval_floor_and_n(evaluated, capsys, setting):
    setting(nice=0, threads=1)
    ids = [evaluated.runs["gan"], evaluated.runs["vae"]]
    assert main(["evaluate", *ids, "--compare", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kid = found["evaluations"][0]["metrics"]["kid"]
    assert kid["interval"][0] < kid["value"] < kid["interval"][1]
    assert kid["floor"] < kid["value"]
    assert kid["n"] == 300
    assert kid["extractor"].startswith("judge@")
    rows = {one["metric"]: one for one in found["comparison"]}
    assert set(rows["kid"]["best"]) <= set(ids)
    assert "the family" in rows["losses"]["refused"]
    assert main(["evaluate", ids[0], "--metrics", "kidd"]) == 2
    assert "Did you mean 'kid'?" in capsys.readouterr().err
    assert main(["evaluate", evaluated.runs["plain"], "--compare"]) == 2
    assert "has no evaluation yet. Leave --compare out to measure it." in capsys.readouterr().err


def test_the_command_measures_and_writes_the_report(evaluated, capsys, setting, tmp_path):
    setting(nice=0, threads=1)
    out = tmp_path / "report.html"
    words = ["--samples", "60", "--extractor", "pca", "--set", "map=false", "--report", str(out)]
    assert main(["evaluate", "Tiny gan", "--metrics", "kid,nearer", *words]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"Kernel distance \(KID\), principal components +\S+ \[.*real images", printed)
    assert out.read_text().startswith("<!doctype html>")


def test_the_command_says_the_card_and_keeps_what_the_owner_says(evaluated, capsys):
    id = evaluated.runs["gan"]
    assert main(["card", id, "--use", "For a talk.", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentence"] == measure.overall(measure.latest(id))
    assert (found["use"], found["said_by_owner"]) == ("For a talk.", ["use"])
    assert [claim["topic"] for claim in found["claims"]] == ["Good at", "Fails at", "Copies"]
    assert found["facts"]["Licence of the images"] == "CC BY 4.0"
    assert main(["card", evaluated.runs["plain"]]) == 0
    assert "It has not been measured yet" in capsys.readouterr().out


def test_the_command_refuses_all_before_it_measures_one(evaluated, capsys):
    before = len(measure.listing())
    assert main(["evaluate", "Tiny gan", evaluated.runs["classifier"], "--samples", "60"]) == 2
    assert "is a classifier, which draws no images" in capsys.readouterr().err
    assert len(measure.listing()) == before

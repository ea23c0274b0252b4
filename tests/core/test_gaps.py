"""What a dataset lacks, what a budget is spent on, how far it drifted: each against another way of computing it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from core import datasets, jobs, runs, worker
from core.__main__ import main
from core.building import axes, drift, set_measures, shares
from core.building.adaptive import AdaptConfig, Adaptive
from core.building.adaptive_result import gained, result
from core.building.coverage import Failure, GapsConfig, coverage
from core.building.drift import DriftConfig
from core.catalog import UserError
from core.commands import drift as command
from core.datasets.optout import kept
from core.ground import stats

TINY = {
    "budget": 16,
    "rounds": 2,
    "steps": 20,
    "width": 4,
    "test_images": 50,
    "source": "augmented",
}


@pytest.fixture
def starved(toy):
    """240 noisy images of 3 classes, of which the last has 4 training images."""
    base = toy(240, classes=3)
    train = base.splits["train"]
    few = train[base.y[train] == 2]
    keep = np.sort(np.setdiff1d(np.arange(240), few[4:]))
    return datasets.assemble(
        base.x[keep],
        base.y[keep],
        base.classes,
        {name: np.searchsorted(keep, np.intersect1d(rows, keep)) for name, rows in base.splits.items()},
        name="starved",
        attributes={"side": np.where(keep % 2, "left", "right"), "weight": keep.astype(float)},
    )  # fmt: skip


# --- Coverage ---------------------------------------------------------------------------------------------------------


def test_a_class_with_few_images_is_short_and_counts_are_those_of_the_dataset(here, starved):
    found = coverage(starved, GapsConfig())
    table = starved.counts()
    assert {s.name: s.n for s in found.slices} == {n: c["train"] for n, c in table.items()}
    assert [s.verdict for s in found.slices] == ["more than enough", "more than enough", "short"]
    (short,) = (s for s in found.slices if s.verdict == "short")
    total = len(starved.splits["train"])
    assert short.missing == round(total / 3) - 4
    assert short.gap.value == pytest.approx(4 / total - 1 / 3)
    assert found.sentence.startswith(f"Short of images: class 2 (4 there, {short.missing} missing)")
    wanted = coverage(starved, GapsConfig(), wanted={"class 0": 3, "class 2": 1})
    assert [s.target for s in wanted.slices] == [0.75, 0, 0.25]
    with pytest.raises(UserError, match="There is no class 'class 9'"):
        coverage(starved, GapsConfig(), wanted={"class 9": 1})
    with pytest.raises(UserError, match="There is no axis of starved for gaps"):
        coverage(starved, GapsConfig(by="class,sid"))


def test_slices_of_class_attribute_and_cluster_hold_every_training_image_once(here, starved):
    found = coverage(starved, GapsConfig(by="class,side,cluster", clusters=2))
    assert axes.axes(starved) == ["class", "cluster", "side", "weight"]
    for row, each in enumerate(found.slices):
        rows = np.flatnonzero(found.of == row)
        assert {starved.classes[k] for k in starved.y[rows]} <= {each.values[0]}
        assert {f"side={v}" for v in starved.attributes["side"][rows]} <= {each.values[1]}
        assert each.n == np.isin(rows, starved.splits["train"]).sum()
    assert sum(s.n for s in found.slices) == len(starved.splits["train"])
    # of 40 held-out images no slice of a cluster has 30
    assert {s.verdict for s in found.slices if s.reference < 30} == {"cannot tell"}
    assert "it cannot be told (n < 30)" in found.sentence
    third = coverage(starved, GapsConfig(by="weight"))
    assert len(third.slices) == 3
    assert np.ptp([s.n for s in third.slices]) <= 2  # a number is counted in thirds
    weight = np.where(np.arange(len(starved)) % 5, starved.attributes["weight"], np.nan)
    some = dataclasses.replace(starved, attributes={**starved.attributes, "weight": weight})
    left = coverage(some, GapsConfig(by="weight"))
    assert [s.target for s in left.slices] == [1 / 3] * 3  # what is not known has no target
    assert "not counted: nobody has said their attributes" in left.notes[-1]


def test_what_failed_is_counted_in_the_slices_and_asked_for_by_its_rate(here, starved):
    index = starved.splits["test"]
    failed = Failure("job", "left out by a model", index, starved.y[index] == 1)
    found = coverage(starved, GapsConfig(target="failures"), failures=[failed])
    assert [s.failures[0].value for s in found.slices] == [0, 1, 0]
    assert found.slices[1].target > 0.8
    assert found.record()["slices"][1]["failures"][0]["told"] is False  # of 13 images
    nothing = coverage(starved, GapsConfig(target="failures"))
    assert "No evaluation and no attack" in nothing.notes[0]


def test_a_budget_raises_the_worst_slice_as_far_as_any_sharing_out_can():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts, target = rng.integers(0, 9, 3), rng.integers(1, 5, 3) / 10
        budget = int(rng.integers(0, 8))
        given = shares.filled(counts, target, budget)
        assert given.sum() == budget
        assert (given >= 0).all()
        ways = (w for w in itertools.product(range(budget + 1), repeat=3) if sum(w) == budget)
        best = max(min((counts + np.array(way)) / target) for way in ways)
        # whole images: the water level is met to less than one image of the worst slice
        assert min((counts + given + 1) / target) >= best
    assert shares.filled(np.array([5, 100, 100]), np.ones(3) / 3, 50).tolist() == [50, 0, 0]
    assert shares.filled(np.array([0, 0]), np.array([1.0, 0.0]), 7).tolist() == [7, 0]
    assert shares.apportioned(np.array([1, 1, 1]), 10).sum() == 10
    assert shares.bounded(np.array([8, 1, 1]), np.array([3, 9, -1]), 10).tolist() == [3, 7, 0]
    assert shares.bounded(np.array([8, 1, 1]), np.array([3, 1, 0]), 14).tolist() == [11, 2, 1]


def test_the_measures_of_a_set_tell_copies_from_its_own(here, toy):
    base = toy(240)
    rng = np.random.default_rng(0)
    train = base.splits["train"]
    added = {
        "copies": base.x[train[:60]],
        "own": (base.x[train[:60]] // 2 + rng.integers(0, 120, base.x[train[:60]].shape)).astype(np.uint8),
    }  # fmt: skip
    value = {}
    for name, x in added.items():
        version = datasets.assemble(
            np.concatenate([base.x, x]),
            np.concatenate([base.y, base.y[train[:60]]]),
            base.classes,
            {**base.splits, "train": np.concatenate([train, np.arange(240, 300)])},
            attributes={"origin": np.array(["real"] * 240 + ["synthetic"] * 60)},
            name="version",
        )
        config = GapsConfig()
        found = coverage(version, config)
        assert found.slices[0].origins["synthetic"] == 30
        value[name] = {m.name: m for m in set_measures.set_measures(version, found, config)}
    copied, own = value["copies"], value["own"]
    assert copied["authenticity"].after.value == 0
    assert own["authenticity"].after.value > 0.8
    assert copied["distinct"].before.value == 1
    assert copied["distinct"].after.value == pytest.approx(100 / 220)
    assert own["diversity"].after.value > own["diversity"].before.value
    for measure in own.values():
        for estimate in filter(None, (measure.before, measure.after, measure.floor)):
            assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_of_a_share_widens_where_images_belong_together():
    flags = np.random.default_rng(0).random(200) < 0.3
    alone = set_measures.grouped_share(flags, np.arange(200))
    assert alone == stats.share(flags)
    fours = set_measures.grouped_share(np.repeat(flags, 4), np.repeat(np.arange(200), 4))
    wide, narrow = fours.high - fours.low, alone.high - alone.low
    assert wide == pytest.approx(narrow, rel=0.01)  # four copies of each tell nothing more


# --- Statistics -------------------------------------------------------------------------------------------------------


def test_a_difference_of_shares_is_that_of_newcombes_paper():
    found = stats.difference_of_shares(stats.proportion(56, 70), stats.proportion(48, 80))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_an_auc_is_the_share_of_pairs_and_its_interval_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.6, 1, 120).round(1), rng.normal(0, 1, 150).round(1)
    found = stats.auc(ours, theirs)
    pairs = [(a > b) + (a == b) / 2 for a in ours for b in theirs]
    assert found.value == pytest.approx(np.mean(pairs))
    drawn = [stats.auc(rng.choice(ours, 120), rng.choice(theirs, 150)).value for _ in range(400)]
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)
    assert stats.auc(ours + 100, theirs).interval[0] < 1 == stats.auc(ours + 100, theirs).high
    fours = stats.auc(np.repeat(ours, 4), np.repeat(theirs, 4), (np.repeat(np.arange(120), 4), np.repeat(np.arange(120, 270), 4)))  # fmt: skip
    assert fours.interval == pytest.approx(found.interval, abs=0.01)


# --- Drift ------------------------------------------------------------------------------------------------------------


def test_halves_of_one_set_do_not_drift_and_a_corrupted_half_does(here, toy):
    dataset = toy(400, size=12, classes=2)
    same = drift.drift(dataset, dataset, DriftConfig())
    assert same.whole.auc
    assert same.whole.kid
    assert same.whole.auc.low <= 0.5 <= same.whole.auc.high
    assert same.whole.kid.low <= 0 <= same.whole.kid.high
    assert same.sentence.startswith("No drift can be seen from toy to other images of toy: ")
    assert [each.name for each in same.classes] == ["class 0", "class 1"]
    far = drift.drift(dataset, dataset, DriftConfig(corruption="contrast", severity=5))
    assert far.whole.auc
    assert far.whole.kid
    assert far.whole.auc.low > 0.95
    assert far.whole.kid.low > 0
    assert "with contrast 5 differs completely from toy" in far.sentence
    few = drift.drift(toy(120), toy(120), DriftConfig(images=40))
    assert {each.why for each in few.classes} == {"cannot tell: fewer than 30 images of a side"}
    with pytest.raises(UserError, match="at least 40 images of each side"):
        drift.sides(toy(60), toy(60), DriftConfig())


def test_copies_of_one_picture_are_on_one_side_and_count_once(here, toy):
    rng = np.random.default_rng(0)
    plain = toy(160, size=8, classes=1)
    x = np.asarray(plain.x).repeat(4, 0)  # each with three slightly changed copies
    x = np.clip(
        x + rng.integers(-3, 4, x.shape) * (np.arange(640) % 4 > 0)[:, None, None, None], 0, 255
    )
    parent = np.where(np.arange(640) % 4, np.arange(640) // 4 * 4, -1)
    attributes = {"origin": np.where(parent < 0, "real", "augmented"), "parent": parent}
    splits = {"train": np.arange(640), "valid": np.arange(0), "test": np.arange(0)}
    version = datasets.assemble(
        x.astype(np.uint8), None, (), splits, name="many", attributes=attributes
    )
    a, b = drift.sides(version, version, DriftConfig())
    assert not np.isin(a.units, b.units).any()
    assert len(np.unique(a.units)) == len(np.unique(b.units)) == 80  # families, none of them torn
    assert a.once.sum() == b.once.sum() == 80
    found = drift.drift(version, version, DriftConfig())
    assert found.whole.kid and found.whole.auc
    assert found.whole.kid.low <= 0 <= found.whole.kid.high
    assert found.whole.auc.low <= 0.5 <= found.whole.auc.high
    assert found.whole.moved is False
    against = drift.drift(
        version, plain, DriftConfig()
    )  # what it was made from has the same pictures
    assert against.same == 160


# --- Rounds -----------------------------------------------------------------------------------------------------------


def test_rounds_ask_for_the_starved_class_and_never_look_at_test(here, starved):
    config = AdaptConfig(**TINY, pairs=6)
    trial = Adaptive(starved, config)
    pair = trial.pair(0)
    poisoned = np.array(starved.y)
    poisoned[starved.splits["test"]] = 0
    other = dataclasses.replace(starved, y=poisoned)
    blind = Adaptive(other, config).pair(0)
    assert [row["asked"] for row in blind["rounds"]] == [row["asked"] for row in pair["rounds"]]
    assert pair["added"]["uniform"]["added"] == pair["added"]["adaptive"]["added"] == 16
    assert set(pair["added"]["uniform"]["asked"].values()) <= {5, 6}
    found = result(trial, [{**pair, "pair": number} for number in range(6)])
    assert found["classes"] == ["class 2"]
    assert found["counted"]
    head = found["gains"][0]
    assert (head["of"], head["arm"], head["against"], head["n"]) == (
        "lacking",
        "adaptive",
        "uniform",
        6,
    )
    assert head["effect"] == pytest.approx(
        pair["accuracy"]["adaptive"]["classes"]["class 2"]
        - pair["accuracy"]["uniform"]["classes"]["class 2"]
    )
    splits = {**starved.splits, "valid": np.zeros(0, np.int64)}
    splits["train"] = np.sort(np.concatenate([starved.splits["train"], starved.splits["valid"]]))
    with pytest.raises(UserError, match="at least 20, and starved has 0"):
        Adaptive(dataclasses.replace(starved, splits=splits), config)


def test_a_gain_has_the_interval_of_its_pairs():
    facts = gained([3, 4, 2, 5, 3, 4])
    assert facts["verdict"] == "helps"
    assert facts["low"] > 2
    assert gained([3, 4, 2])["low"] is None
    assert gained([2, -3, 4, -2, 3, -4])["verdict"] == "cannot tell"


# --- Commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys, monkeypatch, here):
    """Runs a command and its job in this process, and gives the object that it prints."""
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path) and None)

    def command(*words: object, code: int = 0):
        capsys.readouterr()
        assert main([str(word) for word in words]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return err if code else json.loads(out)

    return command


def test_the_commands_say_what_is_missing_what_drifted_and_what_rounds_gain(
    run, starved, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    datasets.save("starved", starved)
    facts = run("gaps", "starved", "--budget", 40, "--json")
    assert facts["sentence"].startswith("Short of images: class 2")
    assert facts["proposed"] == {"class 2": 40}
    run("gaps", "starved", "--budget", 6, "--out", "plan.json", "--pipeline", "digits", "--json")
    built = run("build", "plan.json", "--name", "filled", "--json")
    assert datasets.load(built["dataset"]).counts()["class 2"]["train"] == 10
    assert {m["measure"] for m in facts["measures"]} == {"diversity", "representativeness", "authenticity", "distinct"}  # fmt: skip
    assert "--want must be CLASS=SHARE" in run("gaps", "starved", "--want", "x", code=2)
    moved = run("drift", "starved", "--corruption", "brightness", "--severity", 5, "--json")
    assert moved["whole"]["moved"]
    assert moved["worth"] is None
    with monkeypatch.context() as only:  # with a model the job alone measures
        only.setattr(drift, "drift", lambda *given: pytest.fail("measured twice"))
        only.setattr(runs, "find", lambda id, generator: SimpleNamespace(id=id))
        only.setattr(command.kinds, "submit", lambda *given, **more: None)
        job = SimpleNamespace(id="job", result=lambda: moved)
        only.setattr(command, "ended", lambda submitted: job)
        assert run("drift", "starved", "--run", "any", "--json") == moved | {"job": "job"}
    words = [f"adapt.{name}={value}" for name, value in TINY.items()]
    rounds = run("adapt", "starved", "--pairs", 1, "--json", *itertools.chain(*(("--set", w) for w in words)))  # fmt: skip
    assert rounds["done"]
    assert rounds["verdict"].startswith("On class 2: adaptive ")
    assert "a verdict needs 6 pairs" in rounds["verdict"]


# --- The edges --------------------------------------------------------------------------------------------------------


def test_sets_without_labels_with_many_classes_and_of_other_media_are_counted_too(here, toy):
    from core.building.proposal import proposal, shared_out

    plain = toy(120, classes=0)
    found = coverage(plain, GapsConfig(clusters=3))
    assert found.axes == ("cluster",)
    given = shared_out(found, 9)
    plan = proposal(plain, found, given, start="toy", pipeline="digits")
    assert dict(plan.sources[0].counts) == {"all": 9}
    assert not shared_out(found, 0).any()
    many = toy(1200, classes=400)
    found = coverage(many, GapsConfig())
    assert len(found.slices) == 400
    with pytest.raises(UserError, match="makes 25,600 slices of toy, and at most 5,000"):
        coverage(many, GapsConfig(by="class,cluster", clusters=64))
    by_look = coverage(many, GapsConfig(by="cluster"))
    spread = proposal(many, by_look, shared_out(by_look, 50), start="toy", pipeline="digits")
    assert sum(sum(source.counts.values()) for source in spread.sources) == 50


def test_what_was_measured_before_is_joined_image_by_image(gallery):
    from core.building.failures import failures

    digits = datasets.load("digits")
    assert digits.y is not None
    wrong = failures(digits)
    assert [each.title.split(" by ")[0] for each in wrong] == ["left out"] * 3 + ["wrong"]
    found = coverage(digits, GapsConfig(), failures=wrong)
    report = jobs.get(wrong[-1].job).result()
    by_class = {row.name: (1 - row.robust, row.n) for row in report.head.classes}
    for each in found.slices:  # counted by image here, and by class in the report
        assert (each.failures[-1].value, each.failures[-1].n) == pytest.approx(by_class[each.name])
    more = datasets.assemble(
        np.concatenate([digits.x, digits.x[:5]]),
        np.concatenate([digits.y, digits.y[:5]]),
        digits.classes,
        {**digits.splits, "train": np.concatenate([digits.splits["train"], np.arange(1797, 1802)])},
        levels=digits.levels,
        attributes={"origin": np.array(["real"] * 1797 + ["augmented"] * 5)},
        parent=digits.fingerprint,
    )
    again = failures(more)
    assert [each.failed.sum() for each in again] == [each.failed.sum() for each in wrong]
    assert failures(dataclasses.replace(more, parent="another")) == []
    row = int(digits.splits["train"][0])
    fewer = kept(more, np.delete(np.arange(1802), row), "one left out")
    assert failures(fewer) == []  # the rows behind it are other ones now

"""The Evaluate page: what it shows is what was measured, and every state of a run has its words."""

from __future__ import annotations

import csv
import html
import io
import json
import re

import numpy as np
import pytest
from filelock import FileLock

from core import datasets, jobs, kinds, measure, runs, worker
from core.ground import sheets
from core.ground.writing import percent, percents
from core.kinds import evaluate


@pytest.fixture
def gan(evaluated):
    return jobs.get(evaluated.runs["gan"])


@pytest.fixture
def found(evaluated):
    return measure.read(evaluated.runs["gan evaluation"])


def set_state(id, **state):
    path = jobs.get(id).path / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | state))


def table(seen):
    """The rows of the table of measures, by name: name, value with interval, bar, real images'."""
    rows = [re.findall("<td>(.*?)</td>", row) for row in seen.measures.split("<tr>")]
    read = [[html.unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in rows if row]
    names = [re.match("(?:<details><summary>)?([^<]*)", row[0])[1] for row in rows if row]
    return {
        re.sub("[\u00a0↑↓ ]+$", "", html.unescape(name)): row
        for name, row in zip(names, read, strict=True)
    }


# --- Before anything was measured ---------------------------------------------------------------


def test_without_a_run_it_says_where_to_begin(visit):
    seen = visit("evaluate").calm()
    assert "There is no trained model to measure on this dataset yet." in seen.texts("markdown")
    assert not seen.all("evaluate.start")


def test_a_fresh_server_opens_with_the_shipped_run_measured(visit, gallery, setting, spawned):
    setting(view_only=1)
    seen = visit("evaluate").calm()
    shipped = measure.latest("shipped-digits-gan")
    for sentence in measure.sentences(shipped):
        assert sentence in html.unescape(seen.tables[0])
    assert "500 images · shipped" in seen.at.selectbox(key="evaluate.job").placeholder
    assert float(table(seen)["Right class"][1].split("%")[0].strip("*")) > 90
    seen = visit("about").calm()
    assert measure.overall(shipped) in seen.texts("subheader")
    assert (seen.images("about.samples") == shipped.arrays().made[:12]).all()


def test_an_unmeasured_run_is_measured_with_the_settings_of_the_form(
    visit, trained, asked, spawned
):
    seen = visit("evaluate", run=trained.runs["gan"])
    assert "Tiny gan has not been measured yet." in seen.texts("markdown").replace("**", "")
    seen.set(evaluate__set__samples=700, evaluate__set__map=False, evaluate__gan__truncation=0.5)
    seen.press("evaluate.start").calm()
    (id,) = spawned
    job = asked(id)
    assert (job["kind"], job["target"]) == ("evaluate", trained.runs["gan"])
    assert (job["config"]["evaluate"]["samples"], job["config"]["evaluate"]["map"]) == (700, False)
    assert job["config"]["sampling"] == {"name": "gan", "config": {"truncation": 0.5}}
    assert "waits, place 1" in seen.at.get("progress")[0].proto.text
    assert seen.at.query_params["evaluation"] == id
    seen.press("evaluate.stop")
    assert (jobs.get(id).path / "STOP").exists()


def test_it_says_how_long_it_takes_at_the_pace_of_one_before(visit, evaluated, gan, found):
    assert "at the pace" not in visit("evaluate", run=evaluated.runs["plain"]).texts("caption")
    half = {"started": 1000.0, "since": 1020.0, "begun": 50, "total": 100}  # in 20 s
    set_state(found.job, **half)
    asked = jobs.get(found.job).config["evaluate"]
    seen = visit("evaluate", run=gan.id)
    for name in ("samples", "map", "metrics", "extractor"):
        value = asked[name] * 3 if name == "samples" else asked[name]
        seen.set(**{f"evaluate.set.{name}": value})
    words = "It takes **about 2 min 0 s** at the pace of an evaluation of Tiny gan"
    assert f"{words}." in seen.texts("caption")
    seen.set(evaluate__set__map=not asked["map"])
    assert f"{words}, which had other settings." in seen.texts("caption")
    set_state(found.job, status="stopped")
    assert "at the pace" not in seen.run().texts("caption")


def test_too_few_samples_are_refused_with_the_number_needed(visit, trained, spawned):
    seen = visit("evaluate", run=trained.runs["gan"]).set(evaluate__set__samples=10)
    (words,) = seen.press("evaluate.start").errors
    assert "samples" in words and "50" in words and "10" in words
    assert spawned == []


def test_who_only_looks_starts_nothing(visit, evaluated, setting, spawned):
    setting(view_only=1)
    seen = visit("evaluate", run=evaluated.runs["gan"]).calm()
    seen.force("evaluate.start")
    assert spawned == []


def test_a_classifier_is_no_model_to_measure(visit, trained):
    seen = visit("evaluate", run=trained.runs["classifier"]).calm()
    assert "Tiny classifier is a classifier, which makes no images." in seen.texts("caption")
    assert seen.all("evaluate.start")


def test_a_run_without_a_checkpoint_says_so(visit, trained):
    import shutil

    shutil.rmtree(jobs.get(trained.runs["gan"]).path / "checkpoints")
    seen = visit("evaluate", run=trained.runs["gan"]).calm()
    assert "Tiny gan has no checkpoint: it is finished." in seen.texts("markdown")


def test_a_run_that_still_learns_is_measured_at_its_newest_checkpoint(
    visit, trained, spawned, asked
):
    run = jobs.get(trained.runs["gan"])
    set_state(run.id, status="running", done=1, total=2)
    with FileLock(run.path / "alive.lock"):
        seen = visit("evaluate", run=run.id).calm()
        assert (
            "Tiny gan is still learning; what is measured is its newest checkpoint." in seen.texts()
        )
        seen.press("evaluate.start").calm()
    (id,) = spawned
    assert asked(id)["config"]["evaluate"]["step"] == 0  # the newest one, when its turn comes


# --- How good -----------------------------------------------------------------------------------


def test_every_measure_has_value_interval_floor_number_and_meaning(visit, gan, found):
    seen = visit("evaluate", run=gan.id).calm()
    rows = table(seen)
    known = [m for m in found.measurements if m.known]
    assert len(rows) == len(known) > 8
    m = found.get("precision")
    name, value, _, floor = rows["Realism (precision)"]
    assert "↑" in name
    assert value.startswith(percent(m.value))
    assert percents(m.low, m.high).replace(" ", "\u00a0") in value
    assert floor == percent(m.floor)
    assert f"n\u00a0=\u00a0{m.n:,}" in value
    assert m.entry.means in name and m.entry.doubt in name
    for sentence in measure.sentences(found):
        assert sentence in html.unescape(seen.tables[0])
    assert f"{found.conditions['n']:,} generated images from step {found.step}" in seen.texts(
        "caption"
    )


def test_what_could_not_be_measured_says_why(visit, gan, found):
    seen = visit("evaluate", run=gan.id)
    refused = [m for m in found.measurements if not m.known]
    assert refused
    assert all(m.note in seen.texts("caption") for m in refused)


def test_the_newest_is_shown_and_the_address_names_another(visit, gan, found):
    other = evaluate.start(gan, {"samples": 60, "extractor": "pca", "map": False, "metrics": "kid"})
    assert worker.work(other.path) == 0
    assert set(table(visit("evaluate", run=gan.id))) == {"Kernel distance (KID)"}
    seen = visit("evaluate", run=gan.id, evaluation=found.job).calm()
    assert "Realism (precision)" in table(seen)
    seen = visit("evaluate", run=gan.id, evaluation="gone").calm()
    assert set(table(seen)) == {"Kernel distance (KID)"}


@pytest.mark.parametrize("word", ["Poems", "", "map"])
def test_a_view_that_there_is_not_is_the_first_one(visit, gan, word):
    assert table(visit("evaluate", run=gan.id, **{"evaluate.view": word}).calm())


def test_a_running_evaluation_shows_what_is_there_already(visit, gan, found):
    file = found.path / "evaluation.json"
    facts = json.loads(file.read_text())
    file.write_text(
        json.dumps(facts | {"measurements": facts["measurements"][:2], "finished": False})
    )
    set_state(found.job, status="running", done=40, total=100, message="Measuring: Coverage")
    with FileLock(found.path / "alive.lock"):
        seen = visit("evaluate", run=gan.id).calm()
        assert len(table(seen)) == 2
        assert seen.at.get("progress")[0].proto.text.startswith("Measuring: Coverage · 40 % · ")
        file.write_text(json.dumps(facts))
        seen.again("follow")
        assert len(table(seen.run())) > 2


@pytest.mark.parametrize("view", ["Map", "Copies", "Failures"])
def test_a_view_that_needs_the_images_says_when_it_appears(visit, gan, found, view):
    (found.path / "arrays.npz").unlink()
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": view}).calm()
    assert "The images are being drawn. This view appears" in seen.texts("markdown")


def test_a_failed_evaluation_says_why_and_keeps_what_an_older_one_found(visit, gan, found):
    broken = evaluate.start(gan)
    set_state(broken.id, status="failed", message="The disk is full.")
    seen = visit("evaluate", run=gan.id)
    assert seen.errors == ["The disk is full."]
    assert "Realism (precision)" in table(seen)
    assert "newest evaluation of this run that has results" in seen.texts("caption")


def test_a_failed_first_evaluation_leaves_the_page_whole(visit, trained):
    broken = evaluate.start(jobs.get(trained.runs["gan"]))
    set_state(broken.id, status="failed", message="The disk is full.")
    seen = visit("evaluate", run=trained.runs["gan"])
    assert seen.errors == ["The disk is full."]
    assert "**Measure it** draws images" in seen.texts("markdown")


def test_a_damaged_evaluation_is_named(visit, gan, found):
    (found.path / "evaluation.json").write_text('{"measurements": 3}')
    (words,) = visit("evaluate", run=gan.id).errors
    assert "evaluation.json is damaged" in words


# --- The map ------------------------------------------------------------------------------------


def map_of(seen):
    from tests.pages.test_map import unpack

    proto = seen._tiles("evaluate.map").proto
    packed = bytes(proto.bytes)
    size = int.from_bytes(packed[:4], "little")
    return unpack(packed[4 + size :]), json.loads(packed[4 : 4 + size])


def test_the_map_holds_every_image_of_both_kinds(visit, gan, found):
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Map"}).calm()
    (facts, places, codes, rings, sheet), words = map_of(seen)
    arrays = found.arrays()
    n, m = len(arrays.made), len(arrays.real)
    assert facts["count"] == n + m
    assert list(places) == ["PCA", "t-SNE"]
    assert np.allclose(places["PCA"], measure.projection(found, "pca"))
    assert (codes["Origin"][:n] == 1).all() and (rings[n:] == 1).all()
    names = next(t["names"] for t in facts["traits"] if t["title"] == "Realism and coverage")
    flags = [names[code] for code in codes["Realism and coverage"]]
    assert [f == "generated, realistic" for f in flags[:n]] == arrays.realistic.tolist()
    assert [f == "real, missing" for f in flags[n:]] == (~arrays.covered).tolist()
    assert (sheets.tiles(sheet)[:n] == arrays.made).all()
    assert str(n) in words["alt"] and str(m) in words["alt"]


def test_a_lasso_shows_the_images_that_it_took(visit, gan, found):
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Map"})
    (facts, *_), _ = map_of(seen)
    arrays = found.arrays()
    n = len(arrays.made)
    look = {"view": "t-SNE", "colour": "Class", "marks": "dots"}
    seen.told(
        "evaluate.map", {"picked": {"of": facts["id"], "indices": [3, n + 2, 8]}, "look": look}
    )
    assert (seen.images("evaluate.taken.generated") == arrays.made[[3, 8]]).all()
    assert (seen.images("evaluate.taken.real") == measure.reference_images(found)[[2]]).all()
    assert "Generated: 2" in seen.texts("markdown") and "Real: 1" in seen.texts("markdown")
    assert seen.at.query_params["map.view"] == "t-SNE"
    again = visit("evaluate", run=gan.id, **{"evaluate.view": "Map", "map.view": "t-SNE"})
    assert map_of(again)[1]["look"]["view"] == "t-SNE"


# --- Is it a copy? ------------------------------------------------------------------------------


def test_suspects_stand_above_their_nearest_training_images(visit, gan, found):
    arrays = found.arrays()
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Copies"}).calm()
    at = arrays.suspects[:12]
    assert (seen.images("evaluate.pairs.0") == arrays.made[at]).all()
    near = measure.training_images(found, arrays.near_pixels[at])
    assert (seen.images("evaluate.pairs.1") == near).all()
    hidden = measure.in_disguise(arrays, at)
    assert hidden is not None
    place = np.array([one for one, _, _ in hidden])
    assert (seen.images("evaluate.pairs.2") == measure.training_images(found, place)).all()
    titles = seen.pictures("evaluate.pairs.2")["titles"]
    assert titles == [
        f"{done}: {percent(share)} of unseen real images lie as near in disguise"
        for _, done, share in hidden
    ]
    assert any(title.startswith(("mirrored", "shifted", "turned")) for title in titles)
    said = " · ".join(done for _, done, _ in hidden)
    assert f"In disguise, from the left: {said}." in seen.texts("caption")
    assert (
        seen.images("evaluate.pairs.3") == measure.training_images(found, arrays.near_features[at])
    ).all()
    words = seen.texts("markdown", "success", "info", "error")
    assert measure.verdict(found).sentence in words and measure.verdict(found).believe in words
    assert all(test.sentence in words for test in measure.verdict(found).tests)
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Copies", "evaluate.suspects": "2"})
    assert (seen.images("evaluate.pairs.0") == arrays.made[arrays.suspects[12:24]]).all()


# --- Where it fails -----------------------------------------------------------------------------


def test_the_least_real_and_the_worst_covered_are_shown(visit, gan, found):
    arrays = found.arrays()
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Failures"}).calm()
    assert (seen.images("evaluate.unreal") == arrays.made[arrays.unreal[:40]]).all()
    worst = measure.reference_images(found)[arrays.uncovered[:40]]
    assert (seen.images("evaluate.uncovered") == worst).all()
    frame = seen.at.dataframe[0].value
    assert frame["class"].tolist() == [row["class"] for row in found.classes]
    assert frame["precision"].tolist() == [row["precision"] for row in found.classes]


def test_a_run_without_labels_has_no_classes_to_show(visit, home):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (240, 1, 8, 8)).astype(np.uint8)
    splits = {"train": np.arange(120), "valid": np.arange(120, 180), "test": np.arange(180, 240)}
    datasets.save("bare", datasets.assemble(x, None, (), splits, name="bare"))
    small = {"train.images": 128, "train.batch": 64, "family.width": 32}
    run = kinds.submit("train", {"dataset": "bare", "family": "gan"}, small, name="Bare")
    assert worker.work(run.path) == 0
    job = evaluate.start(run, {"samples": 60, "extractor": "pca", "map": False})
    assert worker.work(job.path) == 0
    for view in ("How good", "Map", "Copies", "Failures", "Compare"):
        seen = visit("evaluate", run=run.id, **{"evaluate.view": view}).calm()
        if view == "Map":
            facts = map_of(seen)[0][0]
            assert [t["title"] for t in facts["traits"]] == ["Realism and coverage", "Origin"]
            assert [v["name"] for v in facts["views"]] == ["PCA"]
        if view == "Failures":
            assert "bare has no labels" in seen.texts("caption")


def test_too_few_real_images_are_refused_with_the_number_needed(visit, trained):
    job = evaluate.start(jobs.get(trained.runs["plain"]), {"samples": 60, "extractor": "pca"})
    worker.work(job.path)
    (words,) = visit("evaluate", run=trained.runs["plain"]).errors
    assert words.startswith(
        "An evaluation needs at least 50 images of the test split, plain has 10."
    )


# --- Comparing ----------------------------------------------------------------------------------


def comparison(seen):
    return seen.at.dataframe[0].value.set_index("measure")


def test_runs_stand_side_by_side_with_ties_and_verdicts(visit, evaluated, gan, found):
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Compare"}).calm()
    vae = measure.read(evaluated.runs["vae evaluation"])
    frame = comparison(seen)
    names = [f"{each.name} · step {each.step}" for each in (found, vae)]
    assert list(frame.columns) == ["better", "verdict", *names]
    result = measure.compare([found, vae])
    for row in result.rows:
        words = frame.loc[row.title, "verdict"]
        if row.refused:
            assert words == row.refused
        elif sum(cell is not None and cell.known for cell in row.cells) < 2 or not row.best:
            assert words == ""
        else:
            assert words == ("tie" if len(row.best) == 2 else f"{names[row.best[0]]} is better")
    assert any(words == "tie" or "better" in words for words in frame["verdict"])


def test_differing_conditions_are_refused_by_name(visit, gan, found):
    other = evaluate.start(gan, {"samples": 60, "extractor": "pca", "map": False, "metrics": "kid"})
    assert worker.work(other.path) == 0
    seen = visit(
        "evaluate",
        run=gan.id,
        metric="kid",
        among=f"{found.job} {other.id}",
        **{"evaluate.view": "Compare"},
    ).calm()
    assert "Not comparable" in seen.texts("info")
    assert "pca" in seen.texts("info")
    (row,) = [row for name, row in comparison(seen).iterrows() if "KID" in name]
    assert "Not comparable" in row["verdict"]
    assert not any(cell.startswith("★") for cell in row.drop("verdict"))


def test_the_table_is_taken_away_as_csv(visit, gan, found):
    rows = list(csv.DictReader(io.StringIO(measure.compare([found]).csv())))
    assert {row["metric"] for row in rows} == {m.metric for m in found.measurements}
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Compare"})
    assert seen.at.get("download_button")


def test_an_empty_comparison_asks_for_one(visit, gan):
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Compare"}).set(evaluate__among=[])
    assert "Choose at least one evaluation above." in seen.texts("markdown")


def test_further_checkpoints_are_measured_under_the_same_conditions(
    visit, gan, found, asked, spawned
):
    steps = [step for step in runs.checkpoints(gan) if step != found.step]
    seen = visit("evaluate", run=gan.id, **{"evaluate.view": "Compare"})
    seen.set(evaluate__steps=steps[:2]).press("evaluate.more").calm()
    got = [asked(id)["config"] for id in spawned]
    assert [config["evaluate"]["step"] for config in got] == steps[:2]
    usual = jobs.get(found.job).config
    assert all(config["evaluate"] | {"step": 0} == usual["evaluate"] for config in got)
    assert all(config["sampling"] == usual["sampling"] for config in got)


# --- What is taken away -------------------------------------------------------------------------


def test_the_report_is_one_file_with_every_measure(found):
    from core.measure import report

    text = report.html(found).decode()
    assert all(m.entry.title in text for m in found.measurements if m.known)
    assert not re.search(r'(src|href)="(?!data:|#)', text)

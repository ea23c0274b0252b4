"""The Latent space page: what is drawn follows what is chosen, and nothing else."""

from __future__ import annotations

import base64
import json
import shutil

import numpy as np
import pytest

from core import jobs, kinds, runs
from core.ground import files, sheets
from tests.pages.test_pad import ask, drawn, exact, pad, pixels


def grid(seen):
    return seen.pictures("latent.grid")["frames"]


def strip(seen):
    return seen.pictures("latent.strip")["frames"]


def marks(seen):
    return {letter: int(index) for index, letter in seen.pictures("latent.grid")["marks"].items()}


# --- Drawing ------------------------------------------------------------------------------------


def test_the_seed_changes_the_images_and_gives_them_back(visit, trained):
    seen = visit("latent")
    first = grid(seen)
    assert grid(seen.set(latent__seed=1)) != first
    assert grid(seen.set(latent__seed=0)) == first
    assert grid(visit("latent")) == first  # another visitor sees the same


def test_the_address_sets_seed_and_truncation(visit, trained):
    seen = visit("latent").set(latent__seed=5, latent__gan__truncation=0.3)
    again = visit("latent", **{"latent.seed": "5", "latent.gan.truncation": "0.3"})
    assert again.widget("latent.seed").value == 5
    assert again.widget("latent.gan.truncation").value == 0.3
    assert grid(again) == grid(seen) != grid(visit("latent"))


@pytest.mark.parametrize("text", ["x", "1e99", "1.5"])
def test_a_seed_that_is_none_is_left_alone(visit, trained, text):
    assert visit("latent", **{"latent.seed": text}).calm().shown("latent.grid")


@pytest.mark.parametrize("text", ["-1", "99999999999"])
def test_a_seed_out_of_range_gives_a_sentence(visit, trained, text):
    (words,) = visit("latent", **{"latent.seed": text}).errors
    assert words == f"The seed must be from 0 to 2147483647, got {text}. Choose another."


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gan", {"latent.gan.truncation": 0.2}), ("vae", {"latent.vae.temperature": 0.2}), ("vae", {"latent.vae.prior": "normal"}),
        ("plain", {"latent.gan.truncation": 0.2}),
    ],
)  # fmt: skip
def test_sampling_parameters_change_the_images(visit, trained, name, values):
    seen = visit("latent", run=trained.runs[name])
    first = grid(seen), strip(seen)
    seen.set(**values).calm()
    assert grid(seen) != first[0]
    assert strip(seen) != first[1]


def test_truncation_zero_is_taken(visit, trained):
    seen = visit("latent", run=trained.runs["plain"]).set(**{"latent.gan.truncation": 0.0}).calm()
    x = sheets.tiles(base64.b64decode(grid(seen)[0].partition(",")[2]))
    assert (x == x[0]).all()  # everything in the centre


def test_a_class_fills_the_grid(visit, trained):
    seen = visit("latent")
    titles = seen.pictures("latent.grid")["titles"]
    assert titles[:11] == [f"image {i}: {i % 10}" for i in range(11)]
    first = grid(seen)
    seen.set(**{"latent.class": 7})
    assert {title.partition(": ")[2] for title in seen.pictures("latent.grid")["titles"]} == {"7"}
    assert grid(seen) != first


@pytest.mark.parametrize("name", ["plain", "vae"])
def test_a_run_without_labels_has_no_class_to_choose(visit, trained, name):
    seen = visit("latent", run=trained.runs[name]).calm()
    assert not seen.all("latent.class")
    assert seen.pictures("latent.grid")["titles"][3] == "image 3"
    seen.told("latent.grid", {"clicked": {"number": 1, "index": 9}}).calm()
    assert marks(seen)["A"] == 9


def test_a_number_in_the_address_is_the_name_of_a_class(visit, trained):
    run = trained.runs["gan"]
    file = jobs.get(run).path / "run.json"
    facts = json.loads(file.read_text())
    names = ["0", "1", "4", "8", "9", "10", "11", "12", "13", "14"]
    facts["dataset"]["classes"] = names
    file.write_text(json.dumps(facts))
    seen = visit("latent", run=run, **{"latent.class": "4"}).calm()
    titles = seen.pictures("latent.grid")["titles"]
    assert {title.partition(": ")[2] for title in titles} == {"4"}
    other = visit("latent", run=run, **{"latent.class": "2"}).calm()  # no such class: all of them
    titles = other.pictures("latent.grid")["titles"]
    assert {title.partition(": ")[2] for title in titles} == set(names)


def test_an_older_checkpoint_shows_other_images(visit, trained):
    seen = visit("latent")
    newest = grid(seen)
    steps = runs.checkpoints(jobs.get(trained.runs["gan"]))
    assert len(steps) > 1
    seen.set(**{"latent.step": steps[0]}).calm()
    assert f"(step {steps[0]})" in seen.texts("caption")
    assert grid(seen) != newest


def test_a_checkpoint_in_the_address_that_is_not_there_is_left_alone(visit, trained):
    seen = visit("latent", **{"latent.step": "99999"}).calm()
    assert seen.shown("latent.grid")


def test_a_step_of_one_run_is_no_hindrance_in_another(visit, trained):
    steps = runs.checkpoints(jobs.get(trained.runs["gan"]))
    seen = visit("latent").set(**{"latent.step": steps[0]})
    shutil.rmtree(trained.home / "jobs" / trained.runs["vae"] / "checkpoints" / str(steps[0]))
    seen.set(run=trained.runs["vae"]).calm()
    assert seen.shown("latent.grid")


# --- The way from A to B ------------------------------------------------------------------------


def test_the_way_starts_and_ends_at_its_ends(visit, trained):
    seen = visit("latent")
    x = sheets.tiles(base64.b64decode(grid(seen)[0].partition(",")[2])).astype(int)
    way = sheets.tiles(base64.b64decode(strip(seen)[0].partition(",")[2])).astype(int)
    assert len(way) == 12
    assert abs(way[0] - x[0]).max() <= 1
    assert abs(way[-1] - x[1]).max() <= 1


def test_lerp_is_another_way_than_slerp(visit, trained):
    seen = visit("latent")
    first = strip(seen)
    assert strip(seen.set(**{"latent.way": "lerp"})) != first
    assert strip(seen.set(**{"latent.way": "slerp"})) == first


def test_the_number_of_images_on_the_way(visit, trained):
    for number in (3, 24):
        assert (
            visit("latent").set(**{"latent.steps": number}).pictures("latent.strip")["count"]
            == number
        )


def test_the_ends_come_from_the_address(visit, trained):
    seen = visit("latent", ends="13-20")
    assert marks(seen) == {"A": 13, "B": 20}
    assert strip(seen) != strip(visit("latent"))


@pytest.mark.parametrize(
    "text", ["", "x-y", "1", "1-2-3", "-1-2", "1.5-2", "--", "²-3", "9" * 5000 + "-1", "%00-1"]
)
def test_nonsense_in_the_address_gives_the_first_two(visit, trained, text):
    seen = visit("latent", ends=text).calm()
    assert set(marks(seen)) == {"A", "B"}
    assert all(0 <= index < 60 for index in marks(seen).values())


def test_ends_beyond_the_grid_are_its_last_image(visit, trained):
    seen = visit("latent", ends="10-100000000").calm()
    assert marks(seen) == {"A": 10, "B": 59}


def test_clicks_move_a_then_b_and_stand_in_the_address(visit, trained):
    seen = visit("latent")
    before = strip(seen)
    seen.told("latent.grid", {"clicked": {"number": 1, "index": 25}}).calm()
    assert marks(seen) == {"A": 25, "B": 1}
    assert strip(seen) != before
    assert seen.at.query_params["ends"] in ("25-1", ["25-1"])
    seen.told("latent.grid", {"clicked": {"number": 2, "index": 33}})
    assert marks(seen) == {"A": 25, "B": 33}
    seen.told(
        "latent.grid", {"clicked": {"number": 2, "index": 33}}
    )  # the same click again is no new one
    assert marks(seen) == {"A": 25, "B": 33}


def test_both_ends_on_one_image(visit, trained):
    seen = visit("latent", ends="4-4").calm()
    way = sheets.tiles(base64.b64decode(strip(seen)[0].partition(",")[2]))
    assert (abs(way.astype(int) - way[0]) <= 1).all()


@pytest.mark.parametrize(
    "value",
    [
        {"clicked": {"number": "x", "index": 10**9}}, {"clicked": {"number": 5, "index": 10**9}}, {"clicked": {"number": 5, "index": -1}},
        {"clicked": {"number": 5, "index": 1.5}}, {"clicked": {"number": 5}}, {"clicked": "x"}, {"clicked": [1, 2]}, {"clicked": None},
        {"clicked": {"number": 5, "index": None}}, {"clicked": {"number": {}, "index": "3"}}, {}, [], 7, None, "x", {"other": 1},
    ],
)  # fmt: skip
def test_hostile_values_of_the_component_are_ignored(visit, trained, value):
    seen = visit("latent").told("latent.grid", value).calm()
    assert marks(seen) == {"A": 0, "B": 1}
    assert "ends" not in seen.at.query_params


# --- What may be missing ------------------------------------------------------------------------


def test_without_any_run_it_leads_to_the_first_one(visit):
    seen = visit("latent").calm()
    assert "There is no trained model on this dataset yet" in seen.texts("markdown")
    assert [link.label for link in seen.at.main.get("page_link")] == ["Train one"]


def test_a_run_that_waits_has_no_checkpoint_yet(visit, trained):
    job = kinds.submit("train", {"dataset": "digits", "family": "gan"}, name="Patient")
    seen = visit("latent", run=job.id).calm()
    assert "Patient has no checkpoint yet. " in seen.texts("markdown")
    assert not seen.shown("latent.grid")


def test_a_classifier_has_no_latent_space_so_the_newest_model_is_shown(visit, trained):
    seen = visit("latent", run=trained.runs["classifier"]).calm()
    assert "Tiny gan" in seen.pictures("latent.grid")["alt"]
    assert seen.widget("run").value == trained.runs["classifier"]


def test_a_damaged_checkpoint_is_passed_over_or_said(visit, trained):
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    damage(run, steps[-1])
    seen = visit("latent").calm()
    assert f"(step {steps[-2]})" in seen.texts("caption")
    for step in steps:
        damage(run, step)
    (words,) = seen.run().errors
    assert "is damaged" in words


def damage(run, step):
    file = run.path / "checkpoints" / str(step) / "model.safetensors"
    file.unlink()  # linked to the one of the other tests
    file.write_bytes(b"nothing to see")


def test_an_unknown_family_in_the_record_is_said(visit, trained):
    run = jobs.get(trained.runs["gan"])
    facts = files.read_json(run.path / "run.json")
    facts["family"]["name"] = "unicorn"
    (run.path / "run.json").write_text(json.dumps(facts))
    (words,) = visit("latent").errors
    assert "There is no family 'unicorn'" in words


def test_a_run_deleted_meanwhile_is_no_bug(visit, trained):
    seen = visit("latent")
    shutil.rmtree(trained.home / "jobs" / trained.runs["gan"])
    seen.again("explore")
    assert all("your fault" not in words for words in seen.errors)
    seen.run().calm()
    assert seen.widget("run").value == trained.runs["vae"]


def test_the_files_carry_their_settings(visit, trained):
    seen = visit("latent").set(latent__seed=3)
    labels = {button.label for button in seen.at.get("download_button")}
    assert labels == {"Grid", "Strip", "Save image"}
    facts = sheets.metadata(base64.b64decode(grid(seen)[0].partition(",")[2]))
    assert facts["count"] == 60


# --- The first plane ----------------------------------------------------------------------------


def begins(seen):
    return seen.calm().widget("latent.plane").value


def test_a_model_with_classes_begins_on_one_and_leads_to_another(visit, trained):
    from core import latent

    seen = visit("latent")
    assert begins(seen) == "labels"
    space = latent.open_space(runs.open_model(jobs.get(trained.runs["gan"])))
    first, second = latent.contrast(space)
    assert [mark["label"] for mark in pad(seen)["marks"]] == [str(first), str(second)]
    assert pad(seen)["go"]["at"] == [-1, 0]
    assert seen.at.query_params["latent.plane"] in ("Two classes", ["Two classes"])
    assert begins(seen.set(run=trained.runs["vae"])) == "principal"  # it listens to none
    assert begins(seen.set(run=trained.runs["gan"])) == "labels"


def test_a_link_from_before_and_a_chosen_plane_are_kept(visit, trained):
    seen = visit("latent", at="1.25_-0.5_0_0_6")
    assert begins(seen) == "principal"
    assert (exact(seen) == drawn(trained.runs["gan"], (1.25, -0.5))).all()
    step = f"step {runs.checkpoints(jobs.get(trained.runs['gan']))[0]:,}"
    for name, text in {"seed": "3", "step": step, "tool": "Your image"}.items():
        assert begins(visit("latent", **{f"latent.{name}": text})) == "principal"
    seen = visit("latent").set(latent__seed=3)
    assert begins(seen.open("train").open("latent")) == "labels"
    seen = visit("latent").set(latent__plane="principal")
    assert begins(seen.set(latent__seed=3)) == "principal"
    link = {name: each[0] for name, each in seen.at.query_params.items()}
    assert begins(visit("latent", **link)) == "principal"
    assert begins(seen.set(latent__plane="coordinates").open("train").open("latent")) == (
        "coordinates"
    )


def test_a_chosen_class_is_shown_on_the_pad(visit, trained):
    seen = visit("latent").set(**{"latent.class": 7})
    assert begins(seen) == "principal"
    assert [mark["label"] for mark in pad(seen)["marks"]] == ["image 0"]


def test_the_stored_plane_is_the_one_that_the_page_starts_with(visit, trained):
    from core import latent

    latent.shelve(jobs.get(trained.runs["gan"]))
    stored = visit("overview").pictures("overview.pad")
    fresh = pad(visit("latent"))
    assert stored["plane"] == fresh["plane"]
    assert stored["go"] == fresh["go"]
    both = [pixels(data["sheet"]["src"]).astype(int) for data in (stored, fresh)]
    assert abs(both[0] - both[1]).max() <= 1


# --- A walk, a die, and which state is shown ----------------------------------------------------


def test_a_walk_comes_back_to_the_ring_without_a_jump_and_can_be_left_anywhere(visit, trained):
    seen = ask(visit("latent"), at=(0.5, -0.25), window=(0, 0, 3))
    assert "walk" not in pad(seen)
    ask(seen, at=(0.5, -0.25), window=(0, 0, 3), walks=True, number=2).calm()
    walk = pad(seen)["walk"]
    assert walk["at"] == [0.5, -0.25]
    x = sheets.tiles(base64.b64decode(walk["src"].partition(",")[2]))[: walk["cells"] ** 2]
    x = x.astype(int)
    assert abs(x[0][0] - exact(seen)).max() <= 1
    steps = abs(x - np.roll(x, 1, axis=0)).mean((1, 2, 3))  # of the first: from the last
    assert steps[0] <= np.sort(steps)[-len(steps) // 10]
    assert abs(x - x[0]).mean((1, 2, 3)).max() > 5 * steps.mean()  # it leads somewhere
    stayed = {"plane": pad(seen)["plane"], "at": walk["at"], "share": 112 / len(x)}
    seen.told("latent.pad", {"stayed": stayed}).calm()
    assert "In the middle: **a moment of the walk**" in seen.texts("caption")
    assert abs(exact(seen) - x[112][0]).max() <= 1


@pytest.mark.parametrize("stayed", [None, 7, {}, {"share": 2}, {"share": 0.5, "at": [0, 99]}, {"share": 0.5, "at": [0, 0], "plane": "?"}])  # fmt: skip
def test_a_stay_that_is_none_is_ignored(visit, trained, stayed):
    seen = visit("latent").told("latent.pad", {"stayed": stayed}).calm()
    assert "In the middle" not in seen.texts("caption")


def test_the_die_gives_another_seed(visit, trained, monkeypatch):
    import secrets

    monkeypatch.setattr(secrets, "randbelow", lambda most: most - 1)
    seen = visit("latent")
    first = grid(seen)
    seen.press("latent.dice").calm()
    assert seen.widget("latent.seed").value == 99_999
    assert grid(seen) != first
    assert seen.at.query_params["latent.seed"] in ("99999", ["99999"])


def test_a_best_state_that_is_not_the_newest_is_said(visit, trained):
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    assert "its best one" not in visit("latent").texts("caption")
    for score, step in enumerate(steps):
        file = run.path / "checkpoints" / str(step) / "facts.json"
        file.write_text(json.dumps(files.read_json(file) | {"score": score}))
    seen = visit("latent").calm()
    assert f"(step {steps[0]})" in seen.texts("caption")
    assert f"its best one. The newest, step {steps[-1]}, can be chosen" in seen.texts("caption")

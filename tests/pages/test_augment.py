"""The Augment page: a chain that is built by hand, what it shows, and what it asks for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core import augment, datasets, jobs
from core.catalog import UserError
from core.ground import files


def chain(seen):
    return [step["name"] for step in seen.at.session_state["augment.chain"]]


def numbers(seen):
    return [step["number"] for step in seen.at.session_state["augment.chain"]]


DIGITS = {"chain": json.dumps([["rotate", {"degrees": 12}, 1.0, 1], ["translate", {}, 0.5, 1]])}


def test_it_opens_on_the_chosen_dataset_with_a_chain_that_does_something(visit):
    seen = visit("augment").calm()
    steps = augment.load("digits").steps
    assert chain(seen) == [step.name for step in steps]
    strip = seen.pictures("augment.film.2")
    assert (strip["tile"], strip["count"]) == ([8, 8], 1 + len(steps))
    first, second, *_ = strip["captions"]
    assert first.startswith("As it is\nimage ")
    assert second.startswith("Rotate\nangle ") and second.endswith("°")
    seen.set(augment__source="photos").calm()
    assert min(seen.pictures("augment.film.1")["tile"]) >= 96
    assert not seen.shown("augment.film.2")
    assert "scikit-learn" in seen.texts("caption").lower()


def test_steps_are_added_moved_switched_off_and_removed(visit):
    seen = visit("augment", **DIGITS).calm()
    assert chain(seen) == ["rotate", "translate"]
    seen.set(augment__add="noise")
    assert chain(seen) == ["rotate", "translate", "noise"]
    last = numbers(seen)[-1]
    seen.press(f"augment.up.{last}")
    assert chain(seen) == ["rotate", "noise", "translate"]
    seen.set(**{f"augment__on__{last}": False})
    assert seen.pictures("augment.film.0")["count"] == 3
    seen.press(f"augment.down.{numbers(seen)[0]}")
    assert chain(seen) == ["noise", "rotate", "translate"]
    seen.press(f"augment.down.{last}")
    assert chain(seen) == ["rotate", "noise", "translate"]
    seen.press(f"augment.remove.{last}")
    assert chain(seen) == ["rotate", "translate"]


def test_a_step_is_dropped_where_it_is_dragged_to(visit):
    seen = visit("augment", **DIGITS).set(augment__add="noise").calm()
    rows = seen.pictures("augment.order")["rows"]
    assert rows == [f"augment.row.{number}" for number in numbers(seen)]
    seen.told("augment.order", {"moved": {"number": 1, "row": rows[2], "to": 0}})
    assert chain(seen) == ["noise", "rotate", "translate"]
    for number, (row, to) in enumerate([(rows[0], 3), (rows[0], -1), ("x", 0), (rows[0], True)], 2):
        seen.told("augment.order", {"moved": {"number": number, "row": row, "to": to}}).calm()
        assert chain(seen) == ["noise", "rotate", "translate"]


def test_a_setting_changes_the_images_and_stands_in_the_address(visit):
    seen = visit("augment", **DIGITS)
    before = seen.pictures("augment.film.0")["frames"]
    first = numbers(seen)[0]
    seen.set(**{f"augment__step__{first}__degrees": 60.0}).calm()
    assert seen.pictures("augment.film.0")["frames"] != before
    address = seen.at.query_params["chain"]
    link = address[0] if isinstance(address, list) else address
    assert json.loads(link)[0][:2] == ["rotate", {"degrees": 60.0}]
    again = visit("augment", chain=link)
    assert again.pictures("augment.film.0")["frames"] == seen.pictures("augment.film.0")["frames"]


def test_the_seed_gives_other_draws_and_gives_them_back(visit):
    seen = visit("augment", **DIGITS)
    first = seen.pictures("augment.film.0")["frames"]
    assert seen.set(augment__seed=4).pictures("augment.film.0")["frames"] != first
    assert seen.set(augment__seed=0).pictures("augment.film.0")["frames"] == first


def test_a_link_with_a_damaged_chain_opens_with_a_preset(visit):
    seen = visit("augment", chain="[[1]]").calm()
    assert "no list of steps" in seen.texts("toast")
    assert chain(seen) == [step.name for step in augment.load("digits").steps]


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("grid", "augment.grid"),
        ("before", "augment.compare"),
        ("sweep", "augment.swept"),
    ],
)
def test_every_view_draws_the_dataset_that_was_chosen(visit, view, shown):
    seen = visit("augment", **DIGITS).set(augment__source="data", augment__view=view).calm()
    assert seen.shown(shown)


def test_classes_stand_side_by_side(visit):
    seen = visit("augment", **DIGITS).set(augment__view="classes")
    sheet = seen.pictures("augment.classes")
    assert sheet["columns"] == 10
    assert sheet["captions"] == [str(k) for k in range(10)]


def test_how_far_a_chain_leads_is_measured_at_once(visit, monkeypatch):
    from core.augment import screening
    from core.ground.stats import Estimate

    rows = [screening.Strain("Rotate", 0, 0.4, Estimate(0.3, 0.25, 0.35, 300), 0.05)]
    monkeypatch.setattr(screening, "Manifold", lambda dataset: None)
    monkeypatch.setattr(screening, "strain", lambda manifold, chain: rows)
    seen = visit("augment", **DIGITS).set(augment__view="harm").calm()
    for words in ("Rotate", "too much", "<b>30 %</b>", "25 to 35 % (95 %)", "5 %", "Drift 0.40"):
        assert words in seen.measures
    assert "n = 300" in seen.texts("caption")


def test_an_empty_chain_says_so(visit):
    seen = visit("augment", chain="[]").calm()
    assert "chain is empty" in seen.texts("caption")
    assert "chain is empty" in seen.set(augment__view="harm").texts("markdown")
    seen.set(augment__view="film")
    assert seen.pictures("augment.film.0")["count"] == 1


def test_a_chain_is_saved_under_a_name_and_taken_away(visit):
    seen = visit("augment", **DIGITS).set(augment__view="recipe")
    seen.set(augment__name__new="Gentle").press("augment.save").calm()
    (one,) = augment.saved()
    assert one.name == "Gentle"
    assert [step.name for step in one.pipeline.steps] == ["rotate", "translate"]
    assert "random.uniform(-12, 12)" in seen.texts("code")
    seen.set(augment__dialect="json")
    assert json.loads(seen.at.code[0].value)["format"] == "simulacra-pipeline"


def test_a_recipe_is_brought_in_and_a_bad_one_gives_its_sentence(visit):
    seen = visit("augment").set(augment__view="recipe")
    recipe = augment.export(augment.load("digits"), "yaml")
    seen.widget("augment.recipe").upload("mine.yaml", recipe.encode())
    seen.run().calm()
    assert chain(seen) == [step.name for step in augment.load("digits").steps]
    other = visit("augment").set(augment__view="recipe")
    other.widget("augment.recipe").upload("odd.json", recipe.replace("rotate", "rotat").encode())
    (words,) = other.run().errors
    assert "rotat" in words


def test_a_view_only_server_saves_nothing(visit, setting):
    setting(view_only=1)
    seen = visit("augment", **DIGITS).set(augment__view="recipe")
    seen.set(augment__name__new="Gentle")
    seen.force("augment.save")
    assert not augment.saved()
    with pytest.raises(UserError, match="for viewing only"):
        augment.save(augment.load("digits"), "Gentle")


def test_an_experiment_is_asked_for_with_the_chain(visit, spawned, asked):
    seen = visit("augment", **DIGITS).set(augment__view="proof").calm()
    assert "Expected time" in seen.texts("caption")
    seen.press("augment.prove").calm()
    job = jobs.get(spawned[0])
    assert job.kind == "experiment"
    assert (
        augment.load(job.config["experiment"]["pipeline"]).hash
        == augment.read(
            json.dumps(
                augment.Pipeline.of(
                    [
                        {"name": "rotate", "parameters": {"degrees": 12}},
                        {"name": "translate", "probability": 0.5},
                    ]
                ).record()
            )
        ).hash
    )


def test_the_first_chain_suits_the_dataset_until_somebody_touches_it(visit):
    seen = visit("augment").calm()
    assert "flip" not in chain(seen)  # a mirrored digit is no digit
    seen.set(data="faces").calm()
    assert chain(seen) == [step.name for step in augment.load("faces").steps]
    assert "chain" not in seen.at.query_params
    seen.set(augment__add="noise").set(data="digits").calm()
    assert chain(seen)[-1] == "noise"


def test_the_address_names_a_view_by_its_short_id(visit):
    seen = visit("augment").set(augment__view="recipe")
    assert seen.at.query_params["augment.view"] == "recipe"
    seen.set(augment__view="film")
    assert "augment.view" not in seen.at.query_params
    again = visit("augment", **{"augment.view": "recipe"})
    assert again.widget("augment.view").value == "recipe"
    again.at.query_params.pop("augment.view")  # as the browser's way back does
    assert again.run().widget("augment.view").value == "film"
    odd = visit("augment", **{"augment.view": "nonsense"}).calm()
    assert odd.widget("augment.view").value == "film"


def test_train_with_this_chain_arrives_with_it(visit, spawned, asked):
    seen = visit("augment", **DIGITS).press("augment.train").calm()
    (one,) = augment.saved()
    assert seen.widget("train.augment.pipeline").value == one.id
    seen.open("train").press("train.start").calm()
    assert asked(spawned[0])["config"]["augment"] == {"pipeline": one.id, "critic": False}


def test_only_a_gan_asks_whether_the_chain_stands_before_its_critic(visit, spawned, asked):
    seen = visit("train").calm()
    assert seen.widget("train.augment.critic").disabled  # no chain yet
    seen.set(train__augment__pipeline="digits").set(train__augment__critic=True)
    assert "before the critic" in seen.texts("caption")
    assert "augment.critic=True" in seen.texts("code")
    seen.set(train__what="vae")
    assert "train.augment.critic" not in seen.keys()
    assert "augment.critic" not in seen.texts("code")
    seen.set(train__what="gan").press("train.start").calm()
    assert asked(spawned[0])["config"]["augment"] == {"pipeline": "digits", "critic": True}


def test_a_preset_is_not_saved_again_to_train_with_it(visit):
    seen = visit("augment").press("augment.train").calm()
    assert not augment.saved()
    assert seen.widget("train.augment.pipeline").value == "digits"
    assert "augment.pipeline=digits" in seen.texts("code")


def test_a_chain_that_cannot_be_trained_with_stays_here(visit):
    seen = visit("augment", chain=json.dumps([["mixup", {}, 1.0, 1]])).press("augment.train")
    (words,) = seen.errors
    assert "labels, which a training from a dataset cannot take" in words
    assert seen.keys() >= {"augment.train"}
    assert not augment.saved()


def finished(kind, choice, values, name, content):
    """Makes a job that is done, with this result."""
    from core import kinds
    from core.ground.settings import settings

    job = kinds.submit(kind, choice, values)
    files.write_json(job.path / name, content)
    state = files.read_json(job.path / "state.json")
    files.write_json(job.path / "state.json", state | {"status": "finished"})
    return settings().jobs / job.id


def test_an_experiment_is_shown_in_percent_and_points(visit):
    from core.building import experiment

    config = experiment.ExperimentConfig(pipeline="digits", trivial=False)
    trial = experiment.Experiment(datasets.load("digits"), config)
    rng = np.random.default_rng(0)
    done = {
        place: 85.0 + 5 * (place[2] == "chain") + float(rng.normal(0, 0.5))
        for place in trial.places
    }
    finished(
        "experiment",
        {"dataset": "digits"},
        {"experiment.pipeline": "digits"},
        "experiment.json",
        experiment.summary(trial, done, []),
    )
    seen = visit("augment", **{"augment.view": "proof"}).calm()
    assert "helps" in seen.texts("markdown")
    (chart,) = seen.at.get("plotly_chart")
    axis = json.loads(chart.proto.spec)["layout"]["yaxis"]
    assert axis["ticksuffix"] == " %"
    assert "tickformat" not in axis
    columns = json.loads(seen.at.dataframe[0].proto.columns)
    assert columns["accuracy"]["type_config"]["format"] == "%.1f %%"
    effects = dict(
        zip(*(seen.at.dataframe[0].value[k] for k in ("trained with", "effect")), strict=True)
    )
    assert 4 < effects["The chain"] < 6
    assert "augment.proof.further" not in seen.keys()


def test_a_quick_look_is_the_default_and_goes_on_to_a_verdict_with_the_time(
    visit, spawned, asked, monkeypatch
):
    from core.building import experiment

    monkeypatch.setattr(experiment, "expected_seconds", lambda dataset, config: 30)
    seen = visit("augment", **DIGITS, **{"augment.view": "proof"}).calm()
    assert seen.widget("augment.experiment.quick").value is True
    config = experiment.ExperimentConfig(pipeline="digits", quick=True)
    trial = experiment.Experiment(datasets.load("digits"), config)
    done = dict.fromkeys(trial.places, 85.0)
    path = finished(
        "experiment",
        {"dataset": "digits"},
        {"experiment.pipeline": "digits", "experiment.quick": True},
        "experiment.json",
        experiment.summary(trial, done, []),
    )
    fits = len(trial.places)  # of 3 pairs, in 30 seconds; 7 more pairs take 70
    state = files.read_json(path / "state.json")
    pace = {"begun": 0, "done": fits, "total": fits, "started": 1000.0, "told": 1030.0}
    files.write_json(path / "state.json", state | pace)
    seen.run().calm()
    assert "too few for a verdict" in seen.texts("markdown")
    button = seen.widget("augment.proof.further")
    assert button.label == "Go on to 10 pairs, about 1 min 10 s"
    seen.press("augment.proof.further").calm()
    assert spawned == [path.name, path.name]
    config = asked(path.name)["config"]["experiment"]
    assert (config["quick"], config["pairs"], config["pipeline"]) == (False, 10, "digits")


def test_referees_are_shown_while_there_is_no_interval_yet(visit):
    row = {"title": "Rotate", "accuracy": 91.5, "plain": 90.0, "change": 1.5}
    row |= {"low": None, "high": None, "n_seeds": 1, "n_test": 400}
    slow = row | {"title": "Mix", "accuracy": None}
    finished(
        "screening",
        {"dataset": "digits"},
        {"screening.pipeline": "digits"},
        "screening.json",
        {"rows": [row, slow], "leak": None, "done": True},
    )
    seen = visit("augment", **DIGITS | {"augment.view": "harm"}).calm()
    table = seen.at.dataframe[-1].value
    assert table.to_dict("records") == [
        {
            "step": "Rotate",
            "accuracy with it": 91.5,
            "without": 90.0,
            "change (points)": 1.5,
            "referees": 1,
            "test images": 400,
        }
    ]
    assert "No referee can learn with Mix" in seen.texts("caption")


def test_a_chain_in_the_address_that_is_too_deep_is_a_sentence(visit):
    seen = visit("augment", chain="[" * 400).calm()
    assert "The chain in the link was left out" in seen.texts("toast")
    assert chain(seen) == [step.name for step in augment.load("digits").steps]


@pytest.mark.parametrize("value", ["1e999", "1e300", "-1"])
def test_a_damaged_seed_or_view_in_the_address_is_no_apology(visit, value):
    seen = visit(
        "augment", **{"augment.seed": value, "augment.view": value, "augment.source": value}
    )
    assert "Something went wrong" not in seen.texts("error")


def test_a_refused_recipe_is_not_read_again_when_the_page_runs_again(visit, monkeypatch, setting):
    setting(view_only=1)
    seen = visit("augment").set(augment__view="recipe")
    seen.at.file_uploader(key="augment.recipe").set_value(("r.json", b"[1, 2", "application/json"))
    seen.at.run()
    assert "neither JSON nor YAML" in seen.texts("error")
    monkeypatch.setattr(augment, "read", lambda text: pytest.fail("it was read again"))
    seen.at.run()
    assert "neither JSON nor YAML" in seen.texts("error")

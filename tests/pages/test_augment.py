"""The Augment page: a chain that is built by hand, what it shows, and what it asks for."""

from __future__ import annotations

import json

import pytest

from core import augment, jobs
from core.catalog import UserError


def chain(seen):
    return [step["name"] for step in seen.at.session_state["augment.chain"]]


def numbers(seen):
    return [step["number"] for step in seen.at.session_state["augment.chain"]]


DIGITS = {"chain": json.dumps([["rotate", {"degrees": 12}, 1.0, 1], ["translate", {}, 0.5, 1]])}


def test_it_opens_on_photographs_with_a_chain_that_does_something(visit):
    seen = visit("augment").calm()
    assert chain(seen) == [step.name for step in augment.load("photos").steps]
    film = seen.pictures("augment.film")
    assert film["count"] == 2 * (1 + len(chain(seen)))
    assert min(film["tile"]) >= 96
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
    assert seen.pictures("augment.film")["count"] == 2 * 3
    seen.press(f"augment.remove.{last}")
    assert chain(seen) == ["rotate", "translate"]


def test_a_setting_changes_the_images_and_stands_in_the_address(visit):
    seen = visit("augment", **DIGITS)
    before = seen.pictures("augment.film")["frames"]
    first = numbers(seen)[0]
    seen.set(**{f"augment__step__{first}__degrees": 60.0}).calm()
    assert seen.pictures("augment.film")["frames"] != before
    address = seen.at.query_params["chain"]
    link = address[0] if isinstance(address, list) else address
    assert json.loads(link)[0][:2] == ["rotate", {"degrees": 60.0}]
    again = visit("augment", chain=link)
    assert again.pictures("augment.film")["frames"] == seen.pictures("augment.film")["frames"]


def test_the_seed_gives_other_draws_and_gives_them_back(visit):
    seen = visit("augment", **DIGITS)
    first = seen.pictures("augment.film")["frames"]
    assert seen.set(augment__seed=4).pictures("augment.film")["frames"] != first
    assert seen.set(augment__seed=0).pictures("augment.film")["frames"] == first


def test_a_link_with_a_damaged_chain_opens_with_a_preset(visit):
    seen = visit("augment", chain="[[1]]").calm()
    assert "no list of steps" in seen.texts("toast")
    assert chain(seen) == [step.name for step in augment.load("photos").steps]


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
    assert sheet["titles"][:10] == [str(k) for k in range(10)]


def test_how_far_a_chain_leads_is_measured_at_once(visit, monkeypatch):
    from core.augment import harm
    from core.metrics import Estimate

    rows = [harm.Strain("Rotate", 0, 0.4, Estimate(0.3, 0.25, 0.35, 300), 0.05)]
    monkeypatch.setattr(harm, "strain", lambda dataset, chain: rows)
    seen = visit("augment", **DIGITS).set(augment__view="harm").calm()
    (table,) = [frame.value for frame in seen.at.dataframe]
    assert (
        table.to_dict("records")[0] | {"reads": "too much", "95 %": "25 to 35 %", "n": 300}
        == (table.to_dict("records")[0])
    )


def test_an_empty_chain_says_so(visit):
    seen = visit("augment", chain="[]").calm()
    assert "chain is empty" in seen.texts("caption")
    assert seen.pictures("augment.film")["count"] == 2


def test_a_chain_is_saved_under_a_name_and_taken_away(visit):
    seen = visit("augment", **DIGITS).set(augment__view="recipe")
    seen.set(augment__name__new="Gentle").press("augment.save").calm()
    (one,) = augment.saved()
    assert one.name == "Gentle"
    assert [step.name for step in one.pipeline.steps] == ["rotate", "translate"]
    assert "v2.RandomRotation(12" in seen.texts("code")
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

"""The page about one model: what a person with a link sees, and that it is this model's."""

from __future__ import annotations

import html
import shutil

import numpy as np
import pytest

from core import jobs, measure, runs
from core.ground.writing import percent
from core.measure import card


@pytest.fixture
def found(evaluated):
    return measure.read(evaluated.runs["gan evaluation"])


def test_without_a_run_it_says_where_to_begin(visit):
    assert "There is no trained model on this dataset yet." in visit("about").calm().texts(
        "markdown"
    )


def test_it_says_what_the_model_is_good_at_where_it_fails_and_whether_it_copies(visit, found):
    seen = visit("about", run=found.run).calm()
    words = seen.texts("markdown")
    assert "Tiny gan" in words and "1,094 grey images of 8×8 px, 10 classes" in words
    assert measure.overall(found) in seen.texts("subheader")
    table = html.unescape(seen.measures)
    for claim in measure.claims(found):
        assert claim.sentence in table and f">{claim.topic}<" in table
        assert percent(claim.number.value) in table and percent(claim.number.floor) in table
    assert seen.at.get("download_button")
    assert f"{found.conditions['n']:,} generated images" in seen.texts("caption")


def test_its_images_are_the_first_ones_that_were_measured(visit, found):
    seen = visit("about", run=found.run)
    assert (seen.images("about.samples") == found.arrays().made[:12]).all()


@pytest.mark.parametrize("measured", [False, True])
def test_the_ways_lead_from_each_image_to_the_next_one(visit, measured, request):
    home = request.getfixturevalue("evaluated" if measured else "trained")
    seen = visit("about", run=home.runs["gan"]).calm()
    data = seen.pictures("about.ways")
    assert (len(data["frames"]), data["count"], data["labels"][8]) == (17, 6, "50 %")
    assert data["film"] == "the way"
    last = seen.images("about.ways")
    assert np.abs(last.astype(int) - seen.images("about.samples")[1::2]).max() <= 1
    assert len(set(data["frames"])) == 17


def test_an_unmeasured_model_claims_nothing(visit, trained):
    seen = visit("about", run=trained.runs["plain"]).calm()
    assert "It has not been measured yet" in seen.texts("subheader")
    assert "Press Measure on the page Evaluate." in seen.texts("markdown")
    assert seen.pictures("about.samples")["count"] == 12
    assert not seen.at.get("download_button")


def test_a_model_without_a_way_shows_how_it_learned(visit, trained, monkeypatch):
    from core import models

    monkeypatch.setattr(models, "Decodes", type("Nobody", (), {}))
    seen = visit("about", run=trained.runs["vae"]).calm()
    assert not seen.shown("about.ways")
    assert len(seen.pictures("about.film")["frames"]) > 1


def test_a_measured_checkpoint_that_is_gone_is_said(visit, found):
    run = jobs.get(found.run)
    assert len(runs.checkpoints(run)) > 1
    shutil.rmtree(run.path / "checkpoints" / str(found.step))
    seen = visit("about", run=found.run).calm()
    left = runs.preferred(run)
    assert (
        f"Images and measures are of step {found.step:,}, whose checkpoint was deleted since; "
        f"what you drag is of step {left:,}."
    ) in seen.texts("caption")
    assert (seen.images("about.samples") == found.arrays().made[:12]).all()


def test_what_its_owner_says_is_kept_with_the_run_and_shown(visit, found):
    seen = visit("about", run=found.run).calm()
    assert "**Licence of the images:** CC BY 4.0" in seen.texts("markdown")
    assert "**Made by:** not recorded" in seen.texts("markdown")
    seen.press("about.edit")
    seen.widget("about.edit.use").set_value("For *one* talk.")
    seen.widget("about.edit.who").set_value("Ada")
    seen.press("about.edit", "about.edit.save")
    again = visit("about", run=found.run).calm().texts("markdown")
    assert "**Intended use.** For *one* talk." in again and "**Made by:** Ada" in again
    assert "It knows nothing but Digits" in again  # what was not said follows from the measures
    assert card.words(jobs.get(found.run)) == {"use": "For *one* talk.", "who": "Ada"}


def test_who_only_looks_and_what_ships_are_not_to_be_edited(visit, found, setting, gallery):
    assert not visit("about", run="shipped-digits-gan").calm().all("about.edit")
    setting(view_only=1)
    assert visit("about", run=found.run).calm().widget("about.edit").disabled


def test_the_link_to_copy_opens_this_model(visit, found):
    assert (
        visit("about", run=found.run)
        .pictures("about.share")["link"]
        .endswith(f"/about?run={found.run}")
    )


def test_a_name_with_marks_stays_a_name(visit, found):
    jobs.describe(found.run, name="**bold** [x](y)")
    assert "**bold** [x](y)" in visit("about", run=found.run).calm().texts("markdown")


def test_a_classifier_is_no_model_that_makes_images(visit, trained):
    seen = visit("about", run=trained.runs["classifier"]).calm()
    assert "Tiny classifier is a classifier, which makes no images." in seen.texts("caption")
    assert seen.shown("about.samples")

"""The tool Translate of the Latent space page, and joining two sets on the Data page."""

from __future__ import annotations

import base64

import numpy as np

from core import datasets
from core.building import domains
from core.ground import sheets


def images(seen, key="latent.translated"):
    data = seen.pictures(key)
    return sheets.tiles(base64.b64decode(data["frames"][0].partition(",")[2]))


def test_a_picture_becomes_another_kind_and_goes_to_the_pad(visit, trained):
    seen = visit("latent", run=trained.runs["vae"])
    seen.set(latent__tool="translate").set(latent__turn="dataset", latent__kind__to="3").calm()
    before, after, changed = images(seen)
    assert (np.abs(before.astype(int) - after) == changed).all() and changed.any()
    assert "From 6 to 3" in seen.texts("caption").replace("\\", "")
    stronger = seen.set(latent__strength=2.0).calm()
    assert (images(stronger)[1] != after).any()
    link = {"latent.tool": "Translate", "latent.turn": "Dataset", "latent.kind.to": "3"}
    linked = visit("latent", run=trained.runs["vae"], **link).calm()
    assert (images(linked)[1] == after).all()
    seen.press("latent.translated.land").calm()
    assert "as 3" in seen.pictures("latent.pad")["alt"] or seen.shown("latent.translated")


def test_several_held_out_images_are_turned_at_once(visit, trained):
    seen = visit("latent", run=trained.runs["vae"])
    seen.set(latent__tool="translate").set(latent__several="several", latent__kind__to="8")
    seen.set(**{"latent.kind.from": "3"}).calm()
    assert len(images(seen)) == 16  # eight before, eight after
    assert "8 held-out images, row 1: before; row 2: after" in seen.texts("caption").replace(
        "\\", ""
    )
    seen.set(**{"latent.kind.from": "8"}).calm()
    assert "Choose two different values" in seen.texts("caption")


def test_what_cannot_be_translated_says_why(visit, trained):
    seen = visit("latent", run=trained.runs["plain"]).set(latent__tool="translate").calm()
    assert "neither classes nor attributes" in seen.texts("caption")
    seen = visit("latent", run=trained.runs["gan"]).set(latent__tool="translate").calm()
    assert "latent.reader" in seen.keys()
    assert "This model does not encode" in seen.texts("caption")


def test_two_sets_are_joined_as_domains_on_the_data_page(visit, trained):
    seen = visit("data", data="plain").set(data__view="version")
    seen.set(**{"data.domains.plain": "digits"})
    assert seen.widget("data.domains.name.plain.digits").value == "digits-plain"
    seen.press("data.domains.join")
    joined = datasets.load("digits-plain")
    assert joined.classes == ("digits", "plain")
    assert "of digits and 60 of plain, as two classes" in seen.texts("toast")


def test_between_two_sets_what_costs_nothing_comes_first_until_the_model_is_better(
    visit, trained, setting, monkeypatch
):
    from core import latent, worker
    from core.ground.stats import Estimate
    from core.kinds import submit

    setting(nice=0, threads=1)
    both = domains.joined(datasets.load("plain"), datasets.load("digits"))
    datasets.save(datasets.free("both"), both)
    job = submit("train", {"dataset": "both", "family": "diffusion"}, {"train.images": 64})
    worker.work(job.path)
    seen = visit("latent", run=job.id).set(latent__tool="translate").calm()
    assert seen.widget("latent.by").value == "colours"
    assert seen.widget("latent.strength").disabled
    assert "until the model is measured to be better" in seen.texts("caption")
    seen.set(latent__by="model").calm()
    assert not seen.widget("latent.strength").disabled

    share = Estimate(0.5, 0.4, 0.6, 9)
    ways = tuple(
        latent.MeasuredWay(method, share, None, share, 1.0) for method in latent.TRANSLATIONS
    )
    better = latent.Standings("plain", "digits", 9, ways, Estimate(0.2, 0.1, 0.3, 9), 1.0)
    monkeypatch.setattr(latent, "measured", lambda *given, **more: better)
    fresh = visit("latent", run=job.id).set(latent__tool="translate").calm()
    assert fresh.widget("latent.by").value == "model"
    assert fresh.texts("success").startswith("The model is better")

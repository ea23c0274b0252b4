"""The Latent space page of a model that takes long to decode: it begins on images, and asks before it looks for more."""

from __future__ import annotations

from core import latent


def test_a_model_that_takes_long_begins_on_images_and_says_what_main_directions_cost(
    visit, trained, monkeypatch
):
    monkeypatch.setattr(latent.Space, "pace", 0.05)
    seen = visit("latent", run=trained.runs["gan"]).calm()
    assert seen.widget("latent.plane").value == "anchors"
    assert "main directions would take about 1 min 40 s to find here" in seen.texts()
    seen.set(latent__plane="principal").calm()
    assert "Until then the pad shows two numbers of the latent." in seen.texts()
    seen.press("latent.find").calm()
    assert not seen.errors and "would take about" not in seen.texts()
    assert seen.widget("latent.plane").value == "principal"

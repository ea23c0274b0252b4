"""The Latent space page of a text-to-image run: prompts among the controls, and a plane from one to the other."""

from __future__ import annotations

import pytest

from core import brought, datasets, jobs, worker
from tests import text_to_image as small


@pytest.fixture
def painter(monkeypatch, tmp_path):
    """The id of a small text-to-image run for digits."""
    small.stand_in(monkeypatch)
    monkeypatch.setattr(jobs, "spawn", worker.work)
    small.write_folder(tmp_path / "sd")
    kept = brought.keep("Painter", brought.read(tmp_path / "sd"), {}, datasets.load("digits"))
    assert jobs.get(kept.id).status == "finished", jobs.get(kept.id).message
    return kept.id


def test_two_prompts_make_a_plane_between_them_and_stand_in_the_link(painter, visit):
    page = visit("latent", run=painter).calm()
    assert page.widget("latent.plane").value == "anchors"  # quick to draw, whatever the model
    assert "prompts" not in page.widget("latent.plane").options
    page.set(latent__text_to_image__prompt="a cat", latent__text_to_image__steps=3).calm()
    page.set(latent__text_to_image__second="a dog").calm()
    assert page.widget("latent.plane").value == "prompts"
    linked = visit(
        "latent",
        run=painter,
        **{"latent.text_to_image.prompt": "a cat", "latent.text_to_image.second": "a dog"},
    ).calm()
    assert linked.widget("latent.plane").value == "prompts"
    linked.set(latent__other=0)
    assert linked.errors == ["The two images are the same. Choose another one to go down to."]

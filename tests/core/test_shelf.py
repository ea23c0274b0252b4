"""The plane that rests beside a run as a picture: what it shows, and who may write it."""

from __future__ import annotations

import numpy as np
import pytest

from core import jobs, latent, runs
from core.__main__ import main
from core.catalog import UserError
from core.ground import sheets
from core.ground.settings import settings


def test_the_picture_says_what_it_shows_and_is_exact(trained):
    run = jobs.get(trained.runs["gan"])
    content = latent.shelve(run).read_bytes()
    facts = sheets.metadata(content)
    assert (facts["cells"], facts["count"], facts["tile"]) == (15, 225, [8, 8])
    assert (facts["seed"], facts["label"]) == (0, None)
    opened = runs.open_model(run)
    assert facts["step"] == opened.step
    space = latent.open_space(opened)
    assert facts["plane"] == "labels"  # on the main directions there would be one class only
    plane = latent.labels_plane(space, space.draw([0], [0], 0)[0], *facts["which"])
    row, column, width = 2, 11, facts["width"]
    place = [((i + 0.5) / 15 - 0.5) * width for i in (column, row)]  # of the middle of a cell
    x = space.images(plane.points(np.asarray([place])))[0]
    assert abs(sheets.tiles(content)[row * 15 + column].astype(int) - x).max() <= 1


def test_the_command_keeps_it(trained, capsys):
    assert main(["pad", trained.runs["vae"]]) == 0
    file = jobs.get(trained.runs["vae"]).path / sheets.PAD
    assert capsys.readouterr().out == f"Kept {file}.\n"
    assert sheets.metadata(file.read_bytes())["cells"] == 15


def test_a_classifier_has_no_plane(trained):
    with pytest.raises(UserError, match=r"Tiny classifier makes no images.* Choose a generative"):
        latent.shelve(jobs.get(trained.runs["classifier"]))


def test_on_a_server_for_viewing_nothing_is_written(trained, monkeypatch):
    monkeypatch.setenv("SIMULACRA_VIEW_ONLY", "1")
    settings.cache_clear()
    with pytest.raises(UserError, match="for viewing only"):
        latent.shelve(jobs.get(trained.runs["gan"]))


def test_beside_a_shipped_run_nothing_is_written(gallery, capsys):
    assert main(["pad", "shipped-digits-gan"]) == 2
    assert "ships with Simulacra and is for looking only" in capsys.readouterr().err
    assert not (gallery / "shipped-digits-gan" / sheets.PAD).exists()

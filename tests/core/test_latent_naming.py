"""Names of directions are kept with the run, in one piece; a run that ships keeps them in the home of who looks at it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from core import jobs, latent, runs
from core.catalog import UserError


def space_of(run):
    return latent.open_space(runs.open_model(jobs.get(run)))


def refused(act, *args):
    with pytest.raises(UserError) as error:
        act(*args)
    return str(error.value)


def test_a_name_stays_with_the_run_and_its_vector_with_the_name(trained):
    run = trained.runs["gan"]
    first, second = latent.principal(space_of(run), 2)
    latent.call(space_of(run), second, "  rounder\n")
    runs._opened.clear()  # another day
    space = space_of(run)
    ((id, kept),) = latent.named(space).items()
    assert (kept.name, kept.kind) == ("rounder", "named")
    assert torch.equal(kept.vector.cpu(), second.vector.cpu())
    assert kept.notes == (f"It was Main direction 2 of step {space.key[1]:,}.",)
    assert latent.id_of(second, latent.named(space)) == id
    assert latent.id_of(first, latent.named(space)) is None
    steps = runs.checkpoints(jobs.get(run))
    older = latent.open_space(runs.open_model(jobs.get(run), steps[0]))
    assert torch.equal(latent.named(older)[id].vector.cpu(), second.vector.cpu())
    latent.call(space, latent.named(space)[id], "rounder still")  # another name, the same id
    assert [each.name for each in latent.named(space).values()] == ["rounder still"]
    assert list(latent.named(space)) == [id]
    latent.call(space, second, "")
    assert latent.named(space) == {}


def test_one_name_stands_once_and_the_file_stays_whole(trained, setting):
    run = trained.runs["gan"]
    space, (first, second) = space_of(run), latent.principal(space_of(run), 2)
    latent.call(space, first, "thicker")
    file = jobs.get(run).path / "directions.json"
    before = file.read_bytes()
    assert refused(latent.call, space, second, "thicker") == (
        "Another direction of this run is called 'thicker'. Each name may stand once. "
        "Choose another, or clear that one first."
    )
    setting(view_only=1)
    assert "for viewing only, so it cannot name a direction" in refused(
        latent.call, space, second, "thinner"
    )
    assert file.read_bytes() == before
    setting(view_only=0)
    rows = json.loads(before)["directions"]
    for wrong in ({"vector": "AAAA"}, {"vector": "?"}, {"name": 3}, {"step": "x"}):
        file.write_text(json.dumps({"directions": [rows[0] | wrong]}))
        assert "directions.json is damaged" in refused(latent.named, space)
        assert "directions.json is damaged" in refused(latent.call, space, second, "thinner")
    assert (
        json.loads(file.read_text())["directions"][0]["step"] == "x"
    )  # nothing was written over it
    shutil.rmtree(jobs.get(run).path)
    assert "There is no job or run" in refused(latent.call, space, first, "gone")


def test_a_run_that_ships_is_named_in_the_home(home, setting):
    setting(gallery=1)
    run = jobs.get("shipped-digits-vae")
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}
    direction = latent.principal(space_of(run.id), 1)[0]
    latent.call(space_of(run.id), direction, "loop")
    assert [each.name for each in latent.named(space_of(run.id)).values()] == ["loop"]
    assert (home / "directions" / f"{run.id}.json").exists()
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before

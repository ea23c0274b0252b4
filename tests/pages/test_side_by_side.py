"""Side by side: the pad moves two models at once, and a link brings both back."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from core import jobs, latent, runs
from tests.pages.test_explore import tool
from tests.pages.test_pad import ask, drawn, exact, pad, pixels, short_training


def second(seen):
    return pixels(pad(seen)["exact"]["second"]["src"])


def said(seen):
    return seen.texts("caption")


def test_two_states_of_a_run_are_moved_by_one_drag(visit, trained):
    run = jobs.get(trained.runs["gan"])
    steps = runs.checkpoints(run)
    seen = tool(visit("latent").set(latent__plane="principal"), "beside")
    assert "names" not in pad(seen)
    seen.set(latent__beside__run=run.id).calm()
    assert seen.at.query_params["beside"] in (run.id, [run.id])
    older = steps[:-1][::-1]
    step = older[len(older) // 2]
    assert pad(seen)["names"] == [f"step {steps[-1]}", f"step {step}"]
    ask(seen, at=(1.25, -0.5)).calm()
    assert (exact(seen) == drawn(run.id, (1.25, -0.5))).all()
    first = latent.open_space(runs.open_model(run))
    plane = latent.principal_plane(first, first.draw([0], [0], 0)[0])
    other = latent.open_space(runs.open_model(run, step))
    point = plane.points(np.asarray([[1.25, -0.5]]))[0]
    assert (second(seen) == other.image(point)[0]).all()
    sheet = pad(seen)["sheet"]
    assert pixels(sheet["second"]["src"]).shape == (15 * 8, 15 * 8)
    ask(seen, at=(1, 1), has=sheet["key"], number=2)
    assert "sheet" not in pad(seen)  # the browser holds both
    walk = pad(ask(seen, at=(1, 1), walks=True, number=3).calm())["walk"]
    assert pixels(walk["second"]["src"]).shape == pixels(walk["src"]).shape
    plane = {"latent.plane": "Two main directions"}
    again = visit("latent", beside=f"{run.id}@{step}", at="1_1_0_0_6", **plane).calm()
    assert (second(again) == second(seen)).all()
    seen.set(latent__beside__run=None).calm()
    assert "names" not in pad(seen)
    assert "second" not in pad(seen)["exact"]


def test_two_models_begin_with_the_same_image(visit, trained):
    gan, vae = trained.runs["gan"], trained.runs["vae"]
    seen = tool(
        visit("latent").set(latent__plane="principal"), "beside", latent__beside__run=vae
    ).calm()
    assert pad(seen)["names"] == ["Tiny gan", "Tiny vae"]
    assert "Tiny vae finds the image in the middle" in said(seen)
    spaces = [latent.open_space(runs.open_model(jobs.get(run))) for run in (gan, vae)]
    x = spaces[0].decode(spaces[0].draw([0], [0], 0)).detach()
    assert (second(seen) == spaces[1].image(spaces[1].encode(x)[0])[0]).all()
    ask(seen, at=(2, 0)).calm()
    assert (second(seen) != exact(seen)).any()
    # the vae's points are not those of the gan, and the gan has no encoder
    other = visit("latent", run=vae, beside=gan).calm()
    assert "names" not in pad(other)
    assert "Tiny gan cannot follow Tiny vae" in said(other)
    assert "Swap the two under Side by side, or choose another model." in said(other)
    tool(other, "beside").press("latent.beside.swap").calm()
    assert pad(other)["names"] == ["Tiny gan", "Tiny vae"]


def test_both_ways_are_offered_where_both_work(visit, trained):
    vae = jobs.get(trained.runs["vae"])
    seen = tool(visit("latent", run=vae.id), "beside", latent__beside__run=vae.id).calm()
    assert seen.widget("latent.beside.by").value == "point"
    before = second(ask(seen, at=(1, 1)))
    seen.set(latent__beside__by="image").calm()
    assert (second(seen) != before).any()
    assert "by its encoder" in said(seen)


def test_your_own_image_is_the_middle_of_both(visit, trained):
    gan, vae = trained.runs["gan"], trained.runs["vae"]
    seen = visit("latent").set(latent__plane="principal")
    seen = tool(seen, "picture", latent__mine="dataset").calm()
    seen.press("latent.mine.land").calm()
    tool(seen, "beside", latent__beside__run=vae).calm()
    assert "finds your image" in said(seen)
    dataset = latent.trained_on(jobs.get(gan))
    x = dataset.images(dataset.splits["test"][:1])
    space = latent.open_space(runs.open_model(jobs.get(vae)))
    wanted = space.image(space.encode(x)[0])[0]
    assert abs(second(seen).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("nothing", "There is no job or run 'nothing'"),
        ("{gan}@99999", "has no checkpoint at step 99999"),
        ("{classifier}", "makes no images"),
        ("{gan}", "has no state that could stand beside this one"),
    ],
)
def test_a_link_to_what_is_not_here_says_so_and_the_pad_stays(visit, trained, beside, words):
    for step in runs.checkpoints(jobs.get(trained.runs["gan"]))[:-1]:
        shutil.rmtree(jobs.get(trained.runs["gan"]).path / "checkpoints" / str(step))
    seen = visit("latent", beside=beside.format(**trained.runs), by="nonsense").calm()
    assert words in said(seen)
    assert exact(seen).shape == (8, 8)
    assert "names" not in pad(seen)


def test_a_model_of_another_dataset_does_not_stand_beside(visit, trained):
    gan = jobs.get(trained.runs["gan"])
    shutil.copytree(gan.path, gan.path.with_name("elsewhere"))
    for name in ("job.json", "run.json"):
        file = gan.path.with_name("elsewhere") / name
        content = json.loads(file.read_text())
        content.get("config", content)["dataset"]["name"] = "other"
        file.write_text(json.dumps(content))
    seen = visit("latent", run=gan.id, beside="elsewhere").calm()
    assert "learned from other images than Tiny gan. Choose a model of the same dataset." in said(
        seen
    )
    assert "names" not in pad(seen)


def test_models_of_all_kinds_stand_beside(visit, home):
    first = short_training("vqvae")
    other = short_training("diffusion")
    for one, two in ((first, other), (other, first)):
        seen = visit("latent", run=one.id, beside=two.id).calm()
        assert second(ask(seen, at=(1, -1))).shape == (8, 8)

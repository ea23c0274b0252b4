"""Pages show and play items of any medium: of a second one, which only a file of the tests knows, nothing is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import augment, catalog, datasets, jobs, worker
from core.__main__ import main
from core.ground import sheets
from core.kinds import submit
from core.media import media
from tests.core.signals import second

SENT = {"data": "waves"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Trains one VAE of the waves for all these tests, evaluates it, and lets it race."""
    from core.ground.settings import settings

    place = tmp_path_factory.mktemp("waves") / "home"
    with pytest.MonkeyPatch.context() as patch:
        second(patch)
        patch.setenv("SIMULACRA_HOME", str(place))
        patch.setenv("SIMULACRA_GALLERY", "0")
        patch.setattr(jobs, "spawn", lambda path: None)
        settings.cache_clear()

        def done(
            kind: str, choice: dict[str, str], values: dict[str, Any], target: str = ""
        ) -> str:
            job = submit(kind, choice, values, **({"target": target} if target else {}))
            worker.work(job.path)
            assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
            return job.id

        few = {"train.images": 256, "train.batch": 64}
        run = done("train", {"dataset": "waves", "family": "vae"}, few)
        asked = {"samples": 100, "map": False, "extractor": "pca", "metrics": "kid,nearer"}
        done("evaluate", {"sampling": "vae"}, asked, run)
        done("race", {"dataset": "waves"}, {"race.seconds": 1, "race.turns": 2})
        yield place, run
    settings.cache_clear()


@pytest.fixture
def waves(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Opens the home with the run, and gives the run's id."""
    from core.ground.settings import settings

    second(monkeypatch)
    monkeypatch.setenv("SIMULACRA_HOME", str(made[0]))
    settings.cache_clear()
    return made[1]


def test_the_wall_draws_every_signal_and_the_chosen_one_is_read_and_taken_away(visit, waves):
    data = datasets.load("waves")
    seen = visit("data", **SENT).calm()
    assert (seen.images("data.wall") == data.pictures(slice(60))).all()
    assert seen.images("data.wall").shape == (60, 1, 12, 16)
    assert "600 signals of 16 values" in seen.texts("markdown")
    seen.told("data.wall", {"clicked": {"number": 1, "index": 7}}).calm()
    (table,) = [frame.value for frame in seen.at.dataframe if "value" in frame.value.columns]
    assert table["value"].tolist() == data.x[7, 0].tolist()
    assert seen.widget("data.item.of.file").label == "This one (CSV)"


def test_what_only_images_have_is_said_in_a_sentence(visit, waves):
    for page, view, part in (
        ("data", {"data__view": "issues"}, "inspection"),
        ("data", {"data__view": "map"}, "inspection"),
    ):
        seen = visit(page, **SENT).set(**view).calm()
        assert f"{part.capitalize()}: not available for signals yet, only for images" in seen.texts(
            "info"
        )
    for kind, why in (
        ("inspect", "Inspection: not available for signals yet"),
        ("experiment", "takes pictures, and this is a sequence. Choose from: .*gain"),
    ):
        with pytest.raises(catalog.UserError, match=why):
            submit(kind, {"dataset": "waves"}, {})


def test_augmentations_are_those_that_take_a_signal(visit, waves):
    assert visit("train", **SENT).calm().widget("train.augment.pipeline").options == ["none"]
    seen = visit("augment", **SENT).calm()
    assert [each.split(": ")[1] for each in seen.widget("augment.add").options] == [
        "Another of its class",
        "Neighbour in latent space",
        "Gain",
    ]
    seen.set(augment__add="gain").calm()
    shown = seen.images("augment.film.0")
    assert shown.shape == (2, 1, 12, 16) and (shown[0] != shown[1]).any()
    for view in ("grid", "before", "sweep", "classes"):
        seen.set(augment__view=view).calm()
    augment.save(augment.Pipeline.of([{"name": "gain"}]), "Louder")
    assert (
        "Louder (saved)" in visit("train", **SENT).calm().widget("train.augment.pipeline").options
    )


def test_a_classifier_of_signals_is_attacked_with_what_fits(visit, waves, monkeypatch):
    asked = {"train.images": 4000, "train.batch": 64, "classifier.width": 8}
    run = submit("classifier", {"dataset": "waves"}, asked)
    worker.work(run.path)
    seen = visit("robustness", **SENT, **{"robust.model": run.id}).calm()
    assert not {"AutoAttack (standard)", "Rotation and shift"} & {
        *seen.widget("robust.attacks").options
    }
    norms = ["Each value a little (Linf)", "All values together (L2)"]
    assert seen.widget("robust.study.norm").options == norms
    seen.set(robust__study__n=24).press("robust.screen")
    for _ in range(200):
        if seen.all("robust.html"):
            break
        seen.run()
    for tool in ("images", "checks", "fool", "generative", "beyond"):
        seen.set(robust__tool=tool).calm()
        if tool == "images":
            assert seen.images("robust.wall").shape == (24, 1, 12, 16)
        if tool == "generative":
            assert "For a sequence, there is nothing to attack here" in seen.texts("caption")
    assert "Corruptions: not available for signals yet" in seen.texts("info")
    seen.press("robust.confirm").calm()
    assert jobs.listing("attack")[0].config["attack"]["attacks"] == "noise,quick,adaptive,surrogate"


def test_a_training_a_race_and_an_evaluation_show_what_was_made(visit, waves):
    film = visit("train", run=waves, **SENT).calm().pictures("train.film." + waves)
    assert film["tile"] == [12, 16] and len(film["frames"]) > 1
    assert visit(run=waves, **SENT).calm().pictures("overview.live")["tile"] == [12, 16]
    lanes = visit("race", **SENT).calm().pictures("race.track." + jobs.listing("race")[0].id)
    assert len(lanes["lanes"]) == 2  # of five: those that take a vector
    for view in ("How good", "Map", "Copies", "Failures", "Compare"):
        seen = visit("evaluate", run=waves, **SENT).set(evaluate__view=view).calm()
        if view == "Copies":
            assert seen.images("evaluate.pairs.0").shape[1:] == (1, 12, 16)
    assert visit("about", run=waves, **SENT).calm().images("about.samples").shape[1:] == (1, 12, 16)


@pytest.mark.parametrize("tool", ["samples", "directions", "map", "picture", "making", "film"])
def test_the_latent_space_is_walked_through(visit, waves, tool):
    seen = visit("latent", run=waves, **SENT).set(latent__tool=tool).calm()
    assert seen.pictures("latent.pad")["tile"] == [12, 16]
    assert len(seen.at.dataframe) and seen.widget("latent.item.file").label == "This one (CSV)"
    if tool == "samples":
        assert seen.images("latent.grid").shape[1:] == (1, 12, 16)
    if tool == "picture":  # nobody draws a signal by hand
        assert seen.widget("latent.mine").options == ["Upload", "Dataset"]
        seen.set(latent__mine="dataset").calm()
        assert seen.images("latent.found").shape == (3, 1, 12, 16)
        file = media.get("signal").alone(datasets.load("waves").x[3], 256)
        seen.set(latent__mine="upload").widget("latent.upload").upload("mine.csv", file)
        shown = seen.run().calm().images("latent.found")
        assert (shown[0] == datasets.load("waves").pictures([3])[0]).all()
        assert "16 values were read" in seen.texts("caption")


def test_commands_work_or_refuse_in_a_sentence(waves, tmp_path, capsys):
    own = tmp_path / "own.csv"
    assert main(["sample", waves, "-n", "1", "--out", str(own)]) == 0
    out = str(tmp_path / "x.png")
    for words in (
        ["sample", waves, "-n", "4", "--out", out],
        ["encode", waves, str(own), "--test", "0", "--out", out],
        ["interpolate", waves, "--frames", "5", "--out", out],
        ["directions", waves, "--out", out],
    ):
        assert main(words) == 0, words
        assert sheets.metadata(Path(out).read_bytes())["tile"] == [12, 16]
    assert main(["encode", waves, str(own), "--out", str(tmp_path / "x.npz")]) == 0
    assert np.load(tmp_path / "x.npz")["x"].shape == (1, 1, 16)
    assert main(["pad", waves]) == 0
    capsys.readouterr()
    for words, why in (
        (["sample", waves, "--out", str(own)], "with -n 1, .csv"),
        (["directions", waves, "--kind", "attributes"], "can be read off images"),
        (["race", "--dataset", "waves", "--families", "gan,vae"], "takes pictures"),
        (["inspect", "waves"], "Inspection: not available for signals"),
        (
            ["augment", "faces", "--dataset", "waves", "--out", out],
            "takes pictures, and this is a seq",
        ),
        (["experiment", "--dataset", "waves"], "takes pictures, and this is a seq"),
    ):
        assert main(words) == 2, words
        assert why in capsys.readouterr().err

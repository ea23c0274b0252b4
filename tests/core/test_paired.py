"""Pairs: a second image of each item, and the network that turns it into the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core import datasets, measure, runs
from core.__main__ import main
from core.building.layouts import layouts
from core.building.outgoing import Outgoing
from core.building.readback import compare
from core.catalog import UserError
from core.datasets import Dataset, SecondImages, optout, store
from core.datasets import faces as drawing
from core.datasets.optout import kept
from core.latent.rendering import ground, inks
from core.measure.study import Evaluator
from core.models import Renders, Spec, families
from core.tensors import edges
from core.training import TrainConfig, Trainer, spec_of

FACES = {"count": 60, "size": 16, "pair": "sketch"}


@pytest.fixture(scope="module")
def paired() -> Dataset:
    """Faces with their sketches."""
    return datasets.load("faces", FACES)


def pix2pix(dataset: Dataset, **values: Any) -> Any:
    entry = families.get("pix2pix")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return entry.make(entry.config.of({"width": 8, **values}, "family"), spec_of(dataset))


# --- The contract ---------------------------------------------------------------------------------


def test_a_pair_is_content_and_its_absence_changes_no_fingerprint(paired):
    content = (paired.x, paired.y, paired.classes, paired.splits, paired.levels)
    plain = datasets.load("faces", FACES | {"pair": "none"})
    assert plain.pair is None
    assert plain.fingerprint == datasets.fingerprint(*content) != paired.fingerprint
    other = np.array(paired.pair.x)
    other[3, 0, 0, 0] ^= 1
    assert datasets.fingerprint(*content, SecondImages(other)) != paired.fingerprint
    assert (
        datasets.fingerprint(*content, SecondImages(np.array(paired.pair.x))) == paired.fingerprint
    )


def test_a_pair_that_does_not_fit_is_refused(paired):
    pair = np.zeros((60, 1, 16, 16), np.uint8)
    assert replace(paired, pair=SecondImages(pair)).pair.channels == 1
    for wrong in (pair[:59], pair[:, :, :8, :8]):
        with pytest.raises(ValueError, match="has another size"):
            replace(paired, pair=SecondImages(wrong))
    with pytest.raises(ValueError, match="uint8"):
        SecondImages(pair.astype(np.float32))


def test_a_pair_is_stored_and_every_version_has_its_own(paired, tmp_path):
    store.write(paired, tmp_path)
    again = store.read(tmp_path)
    assert isinstance(again.pair.x, np.memmap)
    assert np.array_equal(again.pair.x, paired.pair.x)
    assert (again.pair.levels, again.pair.name) == (256, "sketch")
    rows = np.array([7, 3, 50])
    few = kept(paired, rows, "Three.")
    assert np.array_equal(few.pair.x, paired.pair.x[rows])


def test_a_model_is_told_the_channels_of_the_pair_and_old_records_tell_none(paired):
    spec = spec_of(paired)
    assert spec.condition == 3
    assert Spec.of(spec.record()) == spec
    old = {k: v for k, v in spec.record().items() if k != "condition"}
    assert Spec.of(old) == replace(spec, condition=0)
    assert "condition" not in replace(spec, condition=0).record()
    told = paired.told(slice(4))
    assert told.shape == (4, 6, 16, 16)
    assert torch.equal(told[:, :3], paired.images(slice(4)))
    assert torch.allclose(told[:, 3:] * 255, torch.as_tensor(np.array(paired.pair.x[:4])).float())


def test_a_sketch_has_the_lines_of_the_face_and_paper_elsewhere(paired):
    who = {name: np.repeat(v[:1], 2) for name, v in drawing.attributes(0, 1).items()}
    who["glasses"], who["background"] = np.array([0, 1]), np.array([0, 3])
    bare, worn = drawing.sketch(who, 32).astype(int)
    changed = (bare != worn).any(0)
    assert changed[10:20, 5:-5].any()  # the glasses
    assert changed[:, 0].all()  # the background is a frame
    assert not changed[1:6, 1:-1].any()
    assert (bare[:, 1:4, 1:4] == 255).all()  # paper
    assert (bare[:, 1:-1, 1:-1].min(0) < 160).sum() > 40  # lines


def test_edges_are_those_of_sobel():
    from scipy import ndimage

    x = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    for image, found in zip(x.numpy(), edges(x).numpy(), strict=True):
        slopes = [ndimage.sobel(image[0], axis, mode="nearest") / 4 for axis in (0, 1)]
        assert np.allclose(found[0], np.hypot(*slopes).clip(0, 1), atol=1e-5)


# --- The family -----------------------------------------------------------------------------------


def test_training_learns_what_belongs_to_a_sketch_and_keeps_held_out_ones(paired):
    model = pix2pix(paired)
    assert isinstance(model, Renders)
    assert model.told == 3
    config = TrainConfig(images=640, batch=16, watch=False)
    trainer = Trainer(model, paired, config, torch.device("cpu"))
    before = trainer.held_out(trainer.published())
    for _ in trainer:
        pass
    published = trainer.published()
    after = trainer.held_out(published)
    assert after["valid_error"] < before["valid_error"] / 2
    held_out = torch.as_tensor(np.asarray(paired.pair.x[paired.splits["valid"]]))
    for condition in published.conditions(range(8), 0):
        byte = (condition * 255).round().to(torch.uint8)
        assert (held_out == byte).flatten(1).all(1).any()
    # the picture of a condition does not depend on what is beside it
    usual = families.get("pix2pix").sampling()
    x = paired.told(paired.splits["test"][:5])
    told = published.condition(x)
    whole = published.render(told, range(5), None, 0, usual)
    assert torch.allclose(published.render(told[3:4], [3], None, 0, usual)[0], whole[3], atol=1e-5)
    error = (whole - x[:, :3]).square().mean()
    turned = (whole - x.roll(1, 0)[:, :3]).square().mean()
    assert error < turned  # each belongs to its own sketch


def test_without_a_pair_the_condition_is_made_of_the_image(toy):
    dataset = toy(60)
    x = dataset.images(slice(4))
    model = pix2pix(dataset)
    assert (model.told, model.means) == (0, "edges")
    assert torch.equal(model.condition(x), edges(x))
    small = pix2pix(dataset, condition="coarse")
    assert torch.allclose(
        small.condition(x)[:, :, :4, :4].mean((2, 3)), x[:, :, :4, :4].mean((2, 3))
    )


def test_pictures_are_not_changed_without_their_pairs(paired):
    config = TrainConfig(images=64, batch=16)
    with pytest.raises(UserError, match="An augmentation changes the images and not their pairs"):
        Trainer(pix2pix(paired), paired, config, torch.device("cpu"), lambda x, generator: x)


def test_other_families_do_not_listen(paired):
    entry = families.get("vae")
    model = entry.make(entry.config(width=8), spec_of(paired))
    trainer = Trainer(model, paired, TrainConfig(images=32, batch=16), torch.device("cpu"))
    trainer.one_step()
    assert trainer.train.pair is None


# --- In and out -----------------------------------------------------------------------------------


def written(folder: Path, names: dict[str, np.ndarray]) -> Path:
    for name, x in names.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.transpose(1, 2, 0)).save(file)
    return folder


@pytest.fixture(scope="module")
def twelve(paired) -> tuple[np.ndarray, np.ndarray]:
    """Twelve faces, and their sketches."""
    return np.array(paired.x[:12]), np.array(paired.pair.x[:12])


def in_order(found: Dataset, x: np.ndarray) -> list[int]:
    """Finds out which of some images each item is."""
    return [int(np.flatnonzero((x == item).all((1, 2, 3)))[0]) for item in found.x]


@pytest.mark.parametrize("way", ["left", "right", "A", "pair"])
def test_second_images_are_found_where_people_have_them(way, twelve, tmp_path):
    x, pair = twelve
    if way in ("left", "right"):
        both = (pair, x) if way == "left" else (x, pair)
        files = {f"{i}.png": np.concatenate([each[i] for each in both], 2) for i in range(12)}
    elif way == "A":
        files = {f"A/{i}.png": pair[i] for i in range(12)} | {f"B/{i}.png": x[i] for i in range(12)}
    else:
        files = {f"pair/cat/{i}.png": pair[i] for i in range(12)} | {
            f"cat/{i}.png": x[i] for i in range(12)
        }
    folder = written(tmp_path / "mine", files)
    wanted = {} if way == "pair" else {"pair": way}
    found = datasets.load("folder", {"path": str(folder), "size": 16, **wanted})
    assert len(found) == 12
    rows = in_order(found, x)
    assert np.array_equal(found.pair.x, pair[rows])
    assert f"Each picture has a second image: {found.pair.name}." in found.notes


def test_a_folder_of_second_images_that_is_not_there_is_refused(twelve, tmp_path):
    x, pair = twelve
    folder = written(tmp_path, {f"B/{i}.png": x[i] for i in range(12)} | {"A/other.png": pair[0]})
    for wanted, why in (("C", "must be left, right, or the name"), ("A", "is called like a")):
        with pytest.raises(UserError, match=why):
            datasets.load("folder", {"path": str(folder), "size": 16, "pair": wanted})
    written(tmp_path, {f"A/{i}.png": pair[i] for i in range(10)})
    found = datasets.load("folder", {"path": str(folder), "size": 16, "pair": "A"})
    assert len(found) == len(found.pair.x) == 10
    assert ("B/11.png", "has no second image") in found.refused


def test_a_class_that_is_called_pair_stays_a_class(twelve, tmp_path):
    x, pair = twelve
    files = {f"pair/{i}.png": x[i] for i in range(6)} | {
        f"apple/{i}.png": pair[i] for i in range(6)
    }
    found = datasets.load("folder", {"path": str(written(tmp_path, files)), "size": 16})
    assert found.pair is None
    assert found.classes == ("apple", "pair")


@pytest.mark.parametrize("layout", ["folder", "npz", "parquet"])
def test_second_images_leave_and_come_back(layout, paired, tmp_path):
    rows = np.sort(np.concatenate([paired.splits[s][:6] for s in datasets.SPLITS]))
    few = kept(paired, rows, "Some.")
    going = Outgoing(few)
    layouts.get(layout).make(going, tmp_path)
    told = compare(going, tmp_path)
    assert (told.differences, told.compared[-1]) == ([], "second images")
    found = datasets.load("folder", {"path": str(tmp_path), "size": 16})
    assert np.array_equal(found.pair.x, few.pair.x[in_order(found, np.array(few.x))])


def test_an_export_whose_second_images_are_mixed_up_is_found_out(paired, tmp_path):
    few = kept(paired, np.sort(np.concatenate([paired.splits[s][:6] for s in datasets.SPLITS])), "")
    going = Outgoing(few)
    layouts.get("folder").make(going, tmp_path)
    first, second = sorted((tmp_path / "pair").rglob("*.png"))[:2]
    first.rename(tmp_path / "other.bin")
    second.rename(first)
    (tmp_path / "other.bin").rename(second)
    assert compare(going, tmp_path).differences == ["2 second images differ."]


def test_what_is_left_out_of_an_import_takes_its_second_image_along(twelve, tmp_path):
    x, pair = twelve
    folder = written(
        tmp_path / "mine",
        {f"A/{i}.png": pair[i] for i in range(12)} | {f"B/{i}.png": x[i] for i in range(12)},
    )
    values = {"path": str(folder), "size": 16, "pair": "A"}
    whole = datasets.load("folder", values)
    optout.forget(whole, [3], "gone", "me", near=False)
    fewer = datasets.load("folder", values)
    assert len(fewer) == len(fewer.pair.x) == 11
    assert np.array_equal(fewer.pair.x, pair[in_order(fewer, x)])


# --- Evaluation and command -----------------------------------------------------------------------


def test_an_evaluation_says_how_near_it_comes_to_the_truth(here):
    job = here("pix2pix", **{"dataset.pair": "edges", "family.width": 8, "train.images": 512})
    opened, dataset = runs.open_model(job), datasets.load("digits", {"pair": "edges"})
    config = measure.EvaluateConfig(metrics="standard", samples=60)
    evaluator = Evaluator(opened, dataset, config, opened.usual)
    assert {"paired_error", "paired_class"} <= {metric.name for metric in evaluator.metrics}

    class Judge:
        """Names an image after its brightness, in tenths."""

        def probabilities(self, x: torch.Tensor) -> np.ndarray:
            return np.eye(10)[(x.mean((1, 2, 3)) * 9.99).long().numpy()]

    evaluator.judge = Judge()  # one that is trained takes longer than all of this
    error, same = (
        measure.metrics.get(name).make(evaluator, evaluator.rendered)
        for name in ("paired_error", "paired_class")
    )
    index = evaluator.reference.index
    x, told = dataset.images(index), dataset.pair.images(index)
    made = (opened.model.render(told, range(len(x)), None, 0, opened.usual) * 255).round() / 255
    usual = (dataset.images(evaluator.twin.index).mean(0) - x).square().mean()
    assert error.estimate.value == pytest.approx(
        float((made - x).square().mean() / usual), rel=1e-3
    )
    named = (made.mean((1, 2, 3)) * 9.99).long().numpy()
    assert same.value == pytest.approx((named == dataset.y[index]).mean())
    bare = Evaluator(opened, datasets.load("digits"), config, opened.usual)
    with pytest.raises(UserError, match="has none that it could be told"):
        measure.metrics.get("paired_error").make(bare, evaluator.rendered)


def test_the_command_makes_an_image_of_a_picture(here, tmp_path, capsys):
    job = here("pix2pix", **{"dataset.pair": "edges", "family.width": 8, "train.images": 64})
    dataset = datasets.load("digits", {"pair": "edges"})
    first = int(dataset.splits["test"][0])
    file = tmp_path / "edges.png"
    Image.fromarray(np.asarray(dataset.pair.x[first, 0])).save(file)
    out = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for condition, to in zip(("0", str(file)), out, strict=True):
        assert main(["sample", job.id, "--condition", condition, "--out", str(to)]) == 0
    assert "Mean squared error to the true image" in capsys.readouterr().out
    one, two = (np.load(each)["x"] for each in out)
    assert one.shape == (1, 1, 8, 8)
    assert np.allclose(one, two, atol=1e-5)
    for condition in ("9999", str(tmp_path / "none.png")):
        assert main(["sample", job.id, "--condition", condition, "--out", str(out[0])]) == 2


def test_the_first_pencil_is_the_one_that_is_seen_best_on_the_paper():
    x = np.full((4, 3, 8, 8), 255, np.uint8)
    x[:, :, 0] = np.array([255, 240, 200])[:, None]  # pale, and the most usual
    x[:, :, 1, :3] = 20
    assert ground(x) == "#ffffff"
    assert inks(x) == ["#141414", "#fff0c8"]

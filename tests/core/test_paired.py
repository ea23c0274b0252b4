"""Pairs: a second image of each item, and the network that turns it into the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core import datasets
from core.catalog import UserError
from core.datasets import Dataset, SecondImages, store
from core.datasets import faces as drawing
from core.datasets.optout import kept
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

"""Feature extractors: what they know, that they are frozen, and that they stay themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core import catalog, datasets
from core.catalog import UserError
from core.measure import features
from core.measure.features import embedding
from core.tensors import to_float

CPU = torch.device("cpu")


def images(dataset, part):
    return to_float(torch.as_tensor(dataset.part(part)[0]), dataset.levels)


def test_the_judge_knows_digits_and_is_the_same_when_it_is_opened_again():
    dataset = datasets.load("digits")
    first = features.judge(dataset, CPU)
    assert first.accuracy > 0.95
    x = images(dataset, "train")
    made = first.features(x)
    assert made.dtype == np.float64
    assert abs(made).max() <= 10
    # a feature that never fires has no spread, and what is farther than ten of them is cut
    alive = (made.std(0) > 0) & (abs(made).max(0) < 10)
    assert alive.sum() > 30
    assert abs(made.mean(0))[alive].max() < 1e-3
    assert made.std(0)[alive] == pytest.approx(1, abs=0.01)
    named = first.probabilities(images(dataset, "test"))
    assert named.sum(1) == pytest.approx(1)
    assert (named.argmax(1) == dataset.part("test")[1]).mean() == pytest.approx(first.accuracy)
    again = features.judge(dataset, CPU)
    assert again.hash == first.hash
    assert np.array_equal(again.features(x[:50]), first.features(x[:50]))
    assert features.quick(dataset, CPU).hash == first.hash


def test_a_set_without_classes_has_no_judge(toy):
    with pytest.raises(UserError, match="at least 2 classes"):
        features.judge(toy(60, classes=0), CPU)


def test_components_are_uncorrelated_with_unit_variance(toy):
    dataset = toy(300, classes=0, size=40)
    found = features.quick(dataset, CPU)
    assert found.name == "pca"
    made = found.features(images(dataset, "train"))
    assert np.cov(made, rowvar=False) == pytest.approx(np.eye(made.shape[1]), abs=0.02)


def test_a_unit_that_no_image_moves_keeps_its_own_scale():
    """One sample that stirs it a little must not outweigh all others."""
    reference = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [2.0, 0.0, 0.05]
    )
    found = embedding.spread(reference)
    assert found[1] == 1
    assert torch.allclose(found[[0, 2]], torch.tensor([2.0, 0.05]), rtol=0.1)


def test_an_extractor_without_labels_finds_an_image_again_after_a_shift(monkeypatch):
    dataset = datasets.load("digits")
    monkeypatch.setitem(features.LENGTHS, "other", 20_000)
    made = features.self_supervised(dataset, CPU)
    x = images(dataset, "test")[:200]
    moved = torch.roll(x, 1, 3) * 0.8 + 0.1

    def found(by):
        a, b = (torch.from_numpy(by.features(part)) for part in (x, moved))
        return (torch.cdist(b, a).argmin(1) == torch.arange(200)).double().mean()

    pixels, note = features.choose("pixels", dataset, CPU)
    assert note == ""
    assert found(made) > 2 * found(pixels)
    seen = made.features(images(dataset, "train"))
    assert abs(seen.mean(0)).max() < 0.05
    again = features.self_supervised(dataset, CPU)
    assert again.hash == made.hash
    assert np.array_equal(again.features(x), made.features(x))


def test_every_extractor_has_a_caption_and_a_missing_one_a_sentence(tmp_path, monkeypatch):
    for entry in features.extractors:
        assert entry.caption.endswith(".")
    dataset = datasets.load("digits")
    monkeypatch.setattr(catalog, "installed", lambda module: False)
    with pytest.raises(
        UserError,
        match=r"needs the package torch-fidelity, which is not installed\. Install it with: make extras "
        r"\(or: pip install -r requirements-inception\.txt\); or choose judge",
    ):
        features.choose("inception", dataset, CPU)
    monkeypatch.setattr(catalog, "installed", lambda module: True)
    with pytest.raises(UserError, match=r"must name a file on the server, got '/none'\. Correct"):
        features.choose("dinov2", dataset, CPU, "/none")
    (tmp_path / "weights.pth").write_bytes(b"import os")
    with pytest.raises(UserError, match=r"weights\.pth holds no plain weights .* or leave"):
        features.choose("inception", dataset, CPU, str(tmp_path / "weights.pth"))
    with pytest.raises(UserError, match=r"There is no extractor 'juge'\. Did you mean 'judge'"):
        features.choose("juge", dataset, CPU)


def test_weights_that_cannot_be_loaded_are_a_sentence(tmp_path, monkeypatch):
    import sys
    import types

    def refuses(*_, **__):
        raise OSError("no connection")

    package, registry = types.ModuleType("torch_fidelity"), types.ModuleType("registry")
    registry.FEATURE_EXTRACTORS_REGISTRY = {"inception-v3-compat": refuses}
    monkeypatch.setattr(catalog, "installed", lambda module: True)
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.registry", registry)
    with pytest.raises(
        UserError, match=r"cannot be loaded \(no connection\).* without a connection"
    ):
        features.choose("inception", datasets.load("digits"), CPU)


def test_the_room_offers_its_names_where_they_are_and_no_others():
    import ast
    from pathlib import Path

    from core.measure import features

    (seen_by_types,) = (
        line.body
        for line in ast.parse(Path(features.__file__).read_text("utf-8")).body
        if isinstance(line, ast.If)
    )
    assert set(features._ROOM_OF) == {name.name for line in seen_by_types for name in line.names}
    for name in features._ROOM_OF:
        assert getattr(features, name) is not None
    for wrong in ("jugde", "np"):  # misspelt, and what only a file inside imports
        with pytest.raises(AttributeError, match=wrong):
            getattr(features, wrong)

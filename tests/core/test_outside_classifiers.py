"""Classifiers of Hugging Face and timm: what a folder may say, and that they answer as their library does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as as_bytes
from torch import nn

from core import brought, datasets, weights
from core.brought import huggingface
from core.brought.huggingface import HuggingfaceConfig, class_of, names_of, prepared
from core.catalog import UserError
from core.robustness import classifiers
from core.weights import Package
from core.wrapped.preparation import told
from core.wrapped.strict import filled

PREPROCESSOR = {
    "do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.2],
}  # fmt: skip


def package(config: dict[str, Any], weights: bytes = b"", **preprocessor: Any) -> Package:
    files = {"config.json": json.dumps(config, default=str).encode()}
    if preprocessor:
        files["preprocessor_config.json"] = json.dumps(preprocessor).encode()
    return Package("mine", files | ({"model.safetensors": weights} if weights else {}))


VIT = {"architectures": ["ViTForImageClassification"], "id2label": {"0": "cat", "1": "dog"}}


def test_a_config_names_one_class_of_a_list_and_never_a_program():
    assert class_of(VIT) == "ViTForImageClassification" and names_of(VIT) == ["cat", "dog"]
    assert brought.origin_of(package(VIT, as_bytes({"w": torch.zeros(1)}))).name == "huggingface"
    for change, said in (
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "asks for a program of the folder .auto_map"),
        ({"architectures": ["EvilForImageClassification"]}, "config.json names 'EvilForImageClassification' as its class"),
        ({"architectures": [["x"]]}, "as its class. Choose from: Beit"),
        ({"quantization_config": {"bits": 4}}, "describes quantised weights"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            class_of(VIT | change)
    for known in ({"1": "cat"}, {}, {"0": "a", "2": "b"}, ["cat"], 3):
        with pytest.raises(
            UserError, match=r"id2label of config\.json must name the answers from 0 on"
        ):
            names_of(VIT | {"id2label": known})


def test_preprocessing_is_read_off_the_folder_and_said_of_pixels_from_0_to_1():
    config = HuggingfaceConfig()
    done = prepared(package(VIT, **PREPROCESSOR), config, VIT, 3)
    assert (done["resize"], done["crop"], done["resample"]) == (16, -1, "bilinear")
    assert done["mean"] == pytest.approx([0.5, 0.4, 0.3]) and done["std"][1] == pytest.approx(0.5)
    lanczos = prepared(package(VIT, **PREPROCESSOR | {"resample": 1}), config, VIT, 3)
    assert lanczos["resample"] == "bicubic" and "(bicubic in place of its lanczos" in told(lanczos)
    assert "in place" not in told(done)
    whole = prepared(package(VIT, **PREPROCESSOR | {"rescale_factor": 1 / 127.5}), config, VIT, 3)
    assert whole["mean"][0] == pytest.approx(0.25)  # (2 x - 0.5) / 0.25 is (x - 0.25) / 0.125
    assert whole["std"][0] == pytest.approx(0.125)
    convnext = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}
    done = prepared(package(VIT, **PREPROCESSOR | convnext | {"crop_pct": 0.875}), config, VIT, 3)
    assert (done["resize"], done["crop"]) == (256, 224)
    own = HuggingfaceConfig(mean="0.5", std="0.5", resize=32)
    done = prepared(package(VIT), own, VIT, 1)
    assert (done["resize"], done["mean"], done["from"]) == (32, [0.5], "as given")
    for change, said in (
        ({"do_flip_channel_order": True}, "asks for do_flip_channel_order, which is not done here"),
        ({"size": {"height": 16, "width": 20}}, "says no size that can be used"),
        ({"size": {"height": 10**9, "width": 10**9}}, "says no size that can be used"),
        ({"image_std": [0, 1, 1]}, "where a number above 0 is needed"),
        ({"image_mean": [0.5, 0.5]}, "where a number for each of 3 channels is needed"),
        ({"rescale_factor": "x"}, "where a number above 0 is needed"),
    ):
        with pytest.raises(UserError, match=said):
            prepared(package(VIT, **PREPROCESSOR | change), config, VIT, 3)
    with pytest.raises(
        UserError, match=r"has no preprocessor_config\.json, which says what is done"
    ):
        prepared(package(VIT), config, VIT, 3)


def test_every_tensor_must_meet_one_of_its_shape_and_nothing_larger_is_built():
    def make() -> nn.Module:
        return nn.Linear(3, 2)

    whole = make().state_dict()
    file = as_bytes(whole)
    state = torch.get_rng_state()
    net = filled(make, file, weights.look(file), "a line")
    assert torch.equal(net.weight, whole["weight"]) and not net.training
    assert torch.equal(torch.get_rng_state(), state)
    for tensors, said in (
        ({"weight": whole["weight"]}, "'bias' is missing"),
        (whole | {"more": torch.zeros(2)}, "'more' belongs to no part of it"),
        (
            whole | {"weight": torch.zeros(2, 4)},
            r"'weight' must have the shape \(2, 3\), got \(2, 4\)",
        ),
        (whole | {"bias": torch.zeros(2, dtype=torch.int64)}, "'bias' is of int64"),
        (whole | {"bias": torch.full((2,), torch.inf)}, "holds a number that is not finite"),
    ):
        file = as_bytes(tensors)
        with pytest.raises(UserError, match=said):
            filled(make, file, weights.look(file), "a line")

    def huge() -> nn.Module:
        return nn.Linear(10**6, 10**5)  # 400 GB, which is never taken

    with pytest.raises(UserError, match=r"must have the shape \(100000, 1000000\)"):
        filled(huge, as_bytes(whole), weights.look(as_bytes(whole)), "a wide line")


# --- With the packages that build them --------------------------------------------------------------------------------


@pytest.fixture
def vit(monkeypatch):
    """A tiny ViT whose classes stand in another order than the dataset's, and its folder."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {k: str(9 - k) for k in range(10)}
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4, id2label=names,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        net = transformers.ViTForImageClassification(config).eval()
    said = config.to_dict() | {"architectures": ["ViTForImageClassification"]}
    return net, said, as_bytes(net.state_dict())


def test_a_folder_answers_as_its_library_does_with_classes_matched_by_name(vit):
    net, said, file = vit
    digits = datasets.load("digits")
    kept = brought.keep("vit", package(said, file, **PREPROCESSOR), {}, digits)
    assert kept.record["facts"]["outputs"] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert kept.record["notes"] == ["Its classes are matched by name."]
    opened = brought.open_model(kept.id, digits)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    x = torch.as_tensor(pixels / 255, dtype=torch.float32)[:, None]
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor(**PREPROCESSOR)
    seen = processor([np.stack([p] * 3, -1) for p in pixels], return_tensors="pt")["pixel_values"]
    # the library rounds to bytes after resizing; ours has a derivative instead
    assert float((opened.model.prepared(x) - seen).abs().max()) <= 1.01 / 255 / 0.2
    ours, theirs = opened.model(x), net(pixel_values=seen).logits.flip(1)
    assert torch.allclose(ours, theirs, atol=2e-2)
    assert torch.allclose(ours, net(pixel_values=opened.model.prepared(x)).logits.flip(1), atol=1e-6)  # fmt: skip
    target = classifiers.target_of(kept.id, digits)
    from core.target import Climb

    assert float(target.climb(x, Climb("ce", torch.zeros(3, dtype=torch.int64)))[2].abs().max()) > 0


def test_a_hostile_folder_of_hugging_face_is_a_sentence(vit):
    _, said, file = vit
    digits = datasets.load("digits")
    for change, text in (
        ({"hidden_size": 10**11}, "hidden_size of config.json must be numbers from 0 to 100,000"),
        ({"hidden_size": -4}, "hidden_size of config.json must be numbers from 0"),
        ({"num_hidden_layers": 90_000}, "asks for 90,000 layers, and the weights hold 40 tensors"),
        ({"image_size": 50_000}, "image_size of config.json must be at most 2048 px"),
        ({"hidden_size": 32}, "must have the shape"),
        ({"surprise": 3}, "config.json holds 'surprise', which ViTConfig does not know"),
        ({"attn_implementation": "hub/kernel"}, "config.json holds 'attn_implementation'"),
        ({"hidden_act": "evil"}, "cannot be built of this config.json|cannot take images"),
        ({"num_attention_heads": 3}, "The weights do not fit|cannot be built of this config.json"),
        ({"id2label": {str(k): f"thing {k}" for k in range(10)}}, "No answer of this network is called '0'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            brought.keep("vit", package(said | change, file, **PREPROCESSOR), {}, digits)
    told = ";".join(f"{name}={k}" for k, name in enumerate(digits.classes))
    other = said | {"id2label": {str(k): f"thing {k}" for k in range(10)}}
    kept = brought.keep("told", package(other, file, **PREPROCESSOR), {"classes": told}, digits)
    assert kept.record["facts"]["outputs"] == list(range(10))


def test_weights_of_timm_get_the_preprocessing_that_timm_knows():
    timm = pytest.importorskip("timm")
    digits = datasets.load("digits")
    with torch.random.fork_rng(devices=[]):
        net = timm.create_model("test_vit", pretrained=False, num_classes=10).eval()
    file = as_bytes(net.state_dict())
    kept = brought.keep("t", Package.alone(file), {"architecture": "test_vit"}, digits, "timm")
    opened, x = brought.open_model(kept.id, digits), torch.rand(2, 1, 8, 8)
    assert torch.equal(opened.model(x), net(opened.model.prepared(x)))
    known = timm.data.resolve_model_data_config(net)
    done = kept.record["preprocessing"]
    assert (tuple(done["mean"]), tuple(done["std"])) == (known["mean"], known["std"])
    assert done["crop"] == known["input_size"][-1]
    for values, text in (
        ({"architecture": "hf-hub:somebody/net"}, "There is no architecture 'hf-hub:somebody/net'"),
        ({"architecture": "test_resnet"}, "The weights do not fit test_resnet"),
        ({}, "Weights alone do not say which network of timm they are of"),
    ):
        with pytest.raises(UserError, match=text):
            brought.keep("t2", Package.alone(file), values, digits, "timm")


def test_a_package_that_is_missing_is_a_sentence(monkeypatch):
    from core import catalog

    monkeypatch.setattr(catalog, "installed", lambda module: False)
    with pytest.raises(UserError, match="needs the package transformers, which is not installed"):
        huggingface.checked(VIT, "ViTForImageClassification", 10, 2)

"""Files of weights that nobody vouches for: names that wrappers change, checkpoints, and limits before any tensor."""

from __future__ import annotations

import argparse
import collections
import io
import json
import pickletools
import re
import struct
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import save as as_bytes
from torch import nn

from core import brought, datasets, weights
from core.brought import torchvision
from core.brought.torchvision import TorchvisionConfig
from core.catalog import UserError
from core.robustness import classifiers
from core.weights import Package
from core.weights.limits import WeightLimits
from core.weights.pickled import Walk


def saved(value, **how) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory, **how)
    return memory.getvalue()


def tensors(count: int) -> dict[str, torch.Tensor]:
    return {f"w{i}": torch.full((2,), float(i)) for i in range(count)}


def read(file: bytes) -> dict[str, torch.Tensor]:
    found = weights.look(file)
    return weights.load(file, found, {name: name for name in found.parts})


@pytest.fixture(scope="module")
def net():
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        return models.get_model("squeezenet1_1", weights=None, num_classes=10).eval()


@pytest.fixture
def untouched(monkeypatch):
    """Makes every reader of numbers fail the test."""

    def called(*args, **kwargs):
        raise AssertionError("the numbers were read")

    monkeypatch.setattr(torch, "load", called)
    monkeypatch.setattr(torch, "frombuffer", called)
    monkeypatch.setattr(safetensors.torch, "load", called)


# --- What a state dict says is what torch reads ---------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_is_read_is_what_torch_reads(protocol):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 5, generator=generator)
    value = collections.OrderedDict(
        plain=base,
        turned=base.T,
        part=base[1:, ::2],
        same=base,
        one=torch.tensor(3),
        half=base.half(),
        brain=base.bfloat16(),
        yes=base > 0,
        last=base.to(memory_format=torch.contiguous_format)[-1],
        parameter=nn.Parameter(base[:2]),
    )
    file = saved(value, pickle_protocol=protocol)
    expected = torch.load(io.BytesIO(saved(value)), weights_only=True)
    found = read(file)
    assert list(found) and found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_a_state_dict_without_check_sums_is_read():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        file = saved(tensors(2))
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read(file)["w1"], torch.ones(2))


# --- WeightLimits, before any number is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [as_bytes, saved])
def test_so_many_tensors_pass_and_one_more_is_refused_before_it_is_read(make, monkeypatch, request):
    monkeypatch.setattr(weights.limits, "LIMITS", WeightLimits(tensors=20))
    assert len(read(make(tensors(20)))) == 20
    request.getfixturevalue("untouched")
    with pytest.raises(
        UserError, match=r"A file of weights may have at most 20 tensors, got 21\. Open it where"
    ):
        weights.look(make(tensors(21)))


def test_the_parts_steps_levels_and_bytes_of_a_state_dict_are_bounded(monkeypatch, request):
    plain, deep = saved(tensors(3)), saved({"a": {"b": {"state_dict": tensors(1)}}})
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        parts = len(archive.namelist())
        size = archive.getinfo("archive/data.pkl").file_size
    steps = sum(1 for _ in pickletools.genops(zipped(plain, "archive/data.pkl")))
    levels = 4  # dicts inside each other
    for limits, file in (
        (WeightLimits(members=parts), plain),
        (WeightLimits(text=size), plain),
        (WeightLimits(steps=steps), plain),
        (WeightLimits(depth=levels), deep),
    ):
        monkeypatch.setattr(weights.limits, "LIMITS", limits)
        assert read(file)
    request.getfixturevalue("untouched")
    for limits, file, words in (
        (WeightLimits(members=parts - 1), plain, f"at most {parts - 1} parts, got {parts}"),
        (WeightLimits(text=size - 1), plain, f"at most {size - 1} bytes, got {size}"),
        (WeightLimits(steps=steps - 1), plain, f"at most {steps - 1} instructions, got {steps}"),
        (WeightLimits(depth=levels - 1), deep, f"at most {levels - 1} levels, got {levels}"),
    ):
        monkeypatch.setattr(weights.limits, "LIMITS", limits)
        with pytest.raises(UserError, match=words):
            weights.look(file)


@pytest.mark.parametrize("make", [as_bytes, saved])
def test_a_name_at_the_limit_is_read_and_one_longer_is_refused(make, monkeypatch, request):
    monkeypatch.setattr(weights.limits, "LIMITS", WeightLimits(name=5))
    assert list(read(make({"abcde": torch.ones(1)}))) == ["abcde"]
    request.getfixturevalue("untouched")
    with pytest.raises(UserError, match="name of a tensor may have at most 5 characters, got 6"):
        weights.look(make({"abcdef": torch.ones(1)}))


def test_a_shape_in_a_checkpoint_has_at_most_eight_sides(request):
    whole = {"state_dict": tensors(1), "shape": torch.Size([2] * 8)}
    assert len(read(saved(whole))) == 1
    request.getfixturevalue("untouched")
    with pytest.raises(UserError, match="its pickle cannot be followed"):
        weights.look(saved(whole | {"shape": torch.Size([2] * 9)}))


@pytest.mark.parametrize(
    "code",
    [
        b"}K\x01a.",  # appends to a dict
        b"K\x01K\x02R.",  # calls a number
        b"ctorch\nSize\nX\x02\x00\x00\x0012\x85R.",  # a shape of a text
        b"ctorch\nSize\n]K\x01a\x85R.",  # a shape of a list
        b"ccollections\nOrderedDict\n]K\x01K\x02\x86a\x85R.",  # entries that are not set one by one
        b"K\x01\x85X\x04\x00\x00\x00Size\x93.",  # a module's name that is no text
        b"}\x8a\x06\x00\x00\x00\x00\x00\x01K\x02s.",  # a key of 2**40
    ],
)
def test_instructions_that_torch_never_writes_are_refused(code, untouched):
    with pytest.raises(UserError, match="its pickle cannot be followed"):
        Walk({}).walk(b"\x80\x02" + code)


def test_the_header_of_safetensors_is_bounded(monkeypatch, request):
    file = as_bytes(tensors(3))
    size = int.from_bytes(file[:8], "little")
    monkeypatch.setattr(weights.limits, "LIMITS", WeightLimits(text=size))
    assert len(read(file)) == 3
    request.getfixturevalue("untouched")
    monkeypatch.setattr(weights.limits, "LIMITS", WeightLimits(text=size - 1))
    with pytest.raises(UserError, match=f"A header may have at most {size - 1} bytes, got {size}"):
        weights.look(file)


def test_what_would_be_built_is_bounded_not_only_what_is_there(setting, request):
    shared = torch.zeros(2**18)  # 1 MB
    setting(max_upload_mb=2)
    assert len(read(saved({"a": shared, "b": shared}))) == 2
    request.getfixturevalue("untouched")
    with pytest.raises(UserError, match="would take 3 MB of memory, and at most 2 MB are allowed"):
        weights.look(saved({"a": shared, "b": shared, "c": shared}))


def test_safetensors_whose_length_begins_like_a_pickle_are_read():
    for size in (0x80, 0x180):
        text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
        file = struct.pack("<Q", size) + text.ljust(size).encode() + struct.pack("<f", 2.5)
        assert file[:1] == b"\x80"
        assert read(file)["w"].tolist() == [2.5]


def zipped(file: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return archive.read(name)


def header(entries: dict, numbers: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + numbers


FOUR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (lambda: saved({"w": torch.zeros(0)}), "The tensor 'w' has no numbers"),
        (lambda: as_bytes({"w": torch.zeros(0)}), "The tensor 'w' has no numbers"),
        (lambda: saved({"w": torch.zeros(1).expand(9)}), "The tensor 'w' claims 9 numbers and holds fewer"),
        (lambda: saved({"w": torch.zeros(3, device="meta")}), "'torch._utils._rebuild_meta_tensor_no_storage'"),
        (lambda: saved({"w": torch.eye(2).to_sparse()}), "more than weights: 'torch._utils._rebuild_sparse_tensor'"),
        (lambda: saved({"state_dict": tensors(1), "args": argparse.Namespace(lr=1)}), "weights: 'argparse.Namespace'"),
        (lambda: saved({"state_dict": tensors(1), "best": np.float64(0.9)}), "more than weights: 'numpy"),
        (lambda: saved({"state_dict": collections.defaultdict(int)}), "weights: 'collections.defaultdict'"),
        (lambda: header({"w": FOUR | {"shape": [2]}}, b"1234"), "'w' claims more numbers than there are"),
        (lambda: header({"w": FOUR | {"shape": [-1]}}, b"1234"), "'w' has no plain shape"),
        (lambda: header({"w": FOUR | {"dtype": "F3"}}, b"1234"), "'w' is described in an unknown way"),
        (lambda: header({"w": FOUR}, b"12345678"), "its tensors do not fill it"),
        (lambda: header({"w": FOUR, "v": FOUR}, b"1234"), "its tensors do not fill it"),
        (lambda: header({}), "it has no tensor"),
        (lambda: header({"w": FOUR})[:9], "or is cut off"),
        (lambda: struct.pack("<Q", 2) + b"{{", "its header is damaged"),
    ],
)  # fmt: skip
def test_what_is_no_plain_tensor_is_refused_before_it_is_read(file, words, request):
    content = file()
    request.getfixturevalue("untouched")
    with pytest.raises(UserError, match=words) as error:
        weights.look(content)
    assert "torch.save(model.state_dict(), file)" in str(error.value)


def test_a_storage_that_is_shorter_than_it_claims_is_refused(untouched):
    plain, cut = saved(tensors(1)), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as old, zipfile.ZipFile(cut, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 4 if "/data/" in name else None])
    with pytest.raises(UserError, match="The storage '0' of this file claims 2 numbers and holds"):
        weights.look(cut.getvalue())


def test_numbers_that_are_not_finite_name_their_tensor(net):
    digits = datasets.load("digits")
    config = {"architecture": "squeezenet1_1"}
    name = "features.3.squeeze.weight"
    for bad in (float("nan"), float("inf")):
        state = {key: value.clone() for key, value in net.state_dict().items()}
        state[name].view(-1)[5] = bad
        for file in (as_bytes(state), saved(state)):
            with pytest.raises(
                UserError, match=f"The tensor '{name}' of this file holds a number that is"
            ):
                brought.keep("net", Package.alone(file), config, digits)
    wide = net.state_dict() | {name: net.state_dict()[name].double() + 1e300}
    with pytest.raises(UserError, match=f"The tensor '{name}' .* too large for float32"):
        brought.keep("net", Package.alone(saved(wide)), config, digits)
    coarse = net.state_dict() | {name: net.state_dict()[name].to(torch.int8)}
    with pytest.raises(UserError, match=f"The tensor '{name}' of this file is of int8"):
        brought.keep("net", Package.alone(saved(coarse)), config, digits)
    variance = {"running_var": torch.tensor([1.0, -0.1])}
    with pytest.raises(UserError, match="'running_var' of this file is a variance and holds"):
        read(saved(variance))
    for field in ("mean", "std"):
        for value in ("nan", "0.5,inf,0.5"):
            with pytest.raises(UserError, match=f"{field} must be one or three numbers"):
                brought.keep(
                    "net", Package.alone(as_bytes(net.state_dict())), {"architecture": "squeezenet1_1", field: value}, digits
                )  # fmt: skip
    assert not (brought._folder()).exists()  # nothing was left behind


# --- Names ----------------------------------------------------------------------------------------------------------


def same(file: bytes, net: nn.Module, architecture: str = "squeezenet1_1") -> list[str]:
    """Brings a file, and checks that it answers as the network does; gives the notes."""
    made, notes = torchvision.network(TorchvisionConfig(architecture=architecture), file, 10)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(made(x), net(x))
    return notes


PREFIXES = [
    "", "_orig_mod.", "module.", "net.", "module._orig_mod.", "_orig_mod.module.", "model.net.", "any_name.",
    "model._fsdp_wrapped_module.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_a_wrapper_puts_before_all_names_is_taken_away(net, prefix):
    state = {prefix + name: value for name, value in net.state_dict().items()}
    assert same(as_bytes(state), net) == []
    assert same(saved({"state_dict": state, "epoch": 3}), net) == [
        "Taken from 'state_dict' of the checkpoint."
    ]
    assert weights.look(as_bytes(state)).classes == 10


def test_a_name_in_the_middle_that_compiling_has_put_there_is_taken_away(net):
    state = {
        name.replace("features.", "features._orig_mod."): v for name, v in net.state_dict().items()
    }
    assert same(saved(state), net) == []
    twice = state | net.state_dict()
    with pytest.raises(UserError, match="name the same tensor"):
        weights.look(saved(twice))


KEYS = ["state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "weights", "params", "network",
        "module", "model_ema", "something_else"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_weights_under_a_key_of_a_checkpoint_are_found(net, key):
    optimiser = torch.optim.Adam(net.parameters()).state_dict()
    optimiser["state"] = {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}
    file = saved({"epoch": 3, "best": 0.5, key: net.state_dict(), "optimizer": optimiser})
    assert same(file, net) == [f"Taken from {key!r} of the checkpoint."]
    inner = saved({"checkpoint": {key: net.state_dict()}})
    assert same(inner, net) == [f"Taken from 'checkpoint.{key}' of the checkpoint."]


def test_of_two_sets_the_trained_one_is_taken_and_the_other_told(net):
    other = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    notes = same(saved({"model_ema": other, "model": net.state_dict()}), net)
    assert notes[1] == "Another set of weights, 'model_ema', was left."
    notes = same(saved({"teacher": other, "student": net.state_dict()}), net)
    assert notes[1] == "Another set of weights, 'teacher', was left."
    both = {f"ema_model.{n}": v for n, v in other.items()} | {
        f"model.{n}": v for n, v in net.state_dict().items()
    }
    notes = same(saved({"state_dict": both}), net)
    assert notes[1].startswith("Left out, because they stand outside the network: 'ema_model.")


def test_what_stands_outside_the_network_is_left_out_and_told(net):
    state = {f"model.{name}": value for name, value in net.state_dict().items()}
    state |= {"normalise.mean": torch.zeros(3), "loss.weight": torch.ones(10)}
    notes = same(saved(state), net)
    assert notes == [
        "Left out, because they stand outside the network: 'normalise.mean', 'loss.weight'.",
        "If these normalise the images, write their numbers in mean and std.",
    ]


@pytest.fixture
def few(monkeypatch):
    some = ["resnet18", "squeezenet1_0", "squeezenet1_1", "vgg11"]
    monkeypatch.setattr(torchvision, "architectures", lambda: some)


def remedy(file: bytes, architecture: str, classes: int = 10) -> str:
    with pytest.raises(UserError) as error:
        torchvision.network(TorchvisionConfig(architecture=architecture), file, classes)
    return str(error.value)


def test_the_remedy_is_the_right_one(net, few):
    state = {f"_orig_mod.{name}": value for name, value in net.state_dict().items()}
    file = as_bytes(state)
    assert remedy(file, "squeezenet1_0").endswith(
        "They fit squeezenet1_1. Choose that architecture."
    )
    assert remedy(file, "resnet18").endswith("They fit squeezenet1_1. Choose that architecture.")
    assert remedy(file, "squeezenet1_1", 7).endswith(
        "They tell 10 classes apart. Choose a dataset with as many classes."
    )
    grey = state | {"_orig_mod.features.0.weight": torch.zeros(64, 1, 3, 3)}
    assert "'features.0.weight' must have the shape (64, 3, 3, 3), got (64, 1, 3, 3)" in remedy(
        as_bytes(grey), "squeezenet1_1"
    )
    assert "so the network was changed after torchvision made it. Bring it by code" in remedy(
        as_bytes(grey), "squeezenet1_1"
    )
    timm = {"patch_embed.proj.weight": torch.zeros(2), "blocks.0.attn.qkv.weight": torch.zeros(2)}
    assert "No network of torchvision has these tensors (they are timm's names)" in remedy(
        as_bytes(timm), "resnet18"
    )


def test_the_right_depth_of_a_family_is_found_whatever_stands_first_in_it(monkeypatch):
    monkeypatch.setattr(torchvision, "architectures", lambda: ["resnet101", "resnet18", "resnet34"])
    shapes = torchvision._shapes("resnet18") | {"fc.weight": (10, 512), "fc.bias": (10,)}
    for wrong in ("resnet34", "resnet101"):
        assert torchvision._nearest(wrong, shapes) == "resnet18"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_googlenet_and_inception_answer_as_those_of_torchvision(name):
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        theirs = models.get_model(
            name, weights=None, num_classes=10, init_weights=False, aux_logits=True, transform_input=True
        ).eval()  # fmt: skip
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    state = theirs.state_dict()
    without = {n: v for n, v in state.items() if not n.startswith(("aux", "AuxLogits"))}
    assert len(without) < len(state)
    with torch.no_grad():
        expected = theirs(x)
        theirs.transform_input = False
        plain = theirs(x)
    assert not torch.equal(expected, plain)
    for given, transform, answer in ((state, True, expected), (without, False, plain)):
        config = TorchvisionConfig(architecture=name, transform_input=transform)
        made, _ = torchvision.network(config, as_bytes(given), 10)
        with torch.no_grad():
            assert torch.equal(made(x), answer)


def test_a_network_that_computes_its_widths_is_built_without_memory():
    net = torchvision._bare("regnet_y_400mf", 10)
    assert all(part.is_meta for part in net.parameters())


# --- What is done to an image ---------------------------------------------------------------------------------------


def settled(architecture: str, size: int, takes: bool = True, **given) -> tuple[int, int]:
    said = torchvision.settled(
        TorchvisionConfig(architecture=architecture, **given), lambda: takes, size
    )
    return said["resize"], said["crop"]


def test_small_images_are_not_blown_up_unless_the_network_needs_it():
    assert settled("resnet18", 32) == (-1, -1)
    assert settled("resnet18", 223) == (-1, -1)
    assert settled("resnet18", 224) == (256, 224)
    assert settled("resnet18", 32, takes=False) == (256, 224)
    assert settled("resnet18", 32, resize=64) == (64, -1)
    assert settled("resnet18", 32, resize=256) == (256, 224)
    assert settled("resnet18", 32, resize=64, crop=56) == (64, 56)
    assert settled("resnet18", 32, crop=28) == (-1, 28)
    assert settled("resnet18", 300, resize=-1, crop=-1) == (-1, -1)


def test_what_a_kept_classifier_does_to_an_image_is_always_told(net, home):
    digits = datasets.load("digits")
    id = brought.keep(
        "told", Package.alone(as_bytes(net.state_dict())), {"architecture": "squeezenet1_1", "resize": 64, "std": "0.5"}, digits
    ).id  # fmt: skip
    words = (
        "Brought: squeezenet1_1. Images are resized to 64 px; minus 0.485, 0.456, 0.406, divided by 0.5, 0.5, 0.5 "
        "(from torchvision's weights of squeezenet1_1)."
    )
    assert words in [choice.note for choice in classifiers.available("digits")]
    assert classifiers.target_of(id, digits).card["preprocessing"]["resize"] == 64
    file = home / "classifiers" / "told" / "classifier.json"
    old = json.loads(file.read_text())
    del old["preprocessing"], old["notes"], old["origin"]
    old["config"] = {
        "architecture": "squeezenet1_1"
    }  # kept by an earlier version, with zeros that meant torchvision
    file.write_text(json.dumps(old))
    old = classifiers.open_model(id, digits)
    assert old.card["preprocessing"]["resize"] == 256
    assert old.card["preprocessing"]["crop"] == 224


def test_a_network_that_cannot_take_the_images_says_so(net):
    digits = datasets.load("digits")
    with pytest.raises(
        UserError, match="squeezenet1_1 cannot take images of 8 px at their own size"
    ):
        brought.keep(
            "net", Package.alone(as_bytes(net.state_dict())), {"architecture": "squeezenet1_1", "resize": -1}, digits
        )  # fmt: skip


def test_a_file_gives_a_name_that_is_allowed():
    names = [
        brought.called(file) for file in ("w.pt", "best model.ckpt.pt", "été.pt", "….pt", "a" * 99)
    ]
    assert names == ["w", "best model-ckpt", "t", "classifier", "a" * 60]


def test_the_command_brings_tells_and_deletes(net, tmp_path, capsys):
    from core.__main__ import main

    file = tmp_path / "my.net.pt"
    file.write_bytes(saved({"state_dict": {f"net.{n}": v for n, v in net.state_dict().items()}}))
    common = ["bring", str(file), "--architecture", "squeezenet1_1", "--json"]
    assert main([*common, "--resize", "64", "--crop", "60", "--mean", "0.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["tensors"], told["classes"]) == ("own/my-net", 52, 10)
    assert told["preprocessing"]["resize"] == 64 and told["preprocessing"]["crop"] == 60
    assert told["preprocessing"]["mean"] == [0.5] * 3
    assert told["notes"] == ["Taken from 'state_dict' of the checkpoint."]
    assert main([*common, "--name", "other", "--mean", "nan"]) == 2
    assert "mean must be one or three numbers" in capsys.readouterr().err
    assert main(["delete", "own/my-net"]) == 2
    assert main(["delete", "own/my-net", "--yes"]) == 0
    assert "own/my-net" not in [choice.id for choice in classifiers.available("digits")]


def test_a_factory_of_this_machine_gets_weights_under_any_wrapper(net, tmp_path, monkeypatch):
    (tmp_path / "mine_made.py").write_text(
        "from torch.nn.functional import interpolate\n"
        "from torchvision.models import SqueezeNet\n"
        "class Grey(SqueezeNet):\n"
        "    def forward(self, x):\n"
        "        return super().forward(interpolate(x.expand(-1, 3, -1, -1), (32, 32)))\n"
        "def make():\n    return Grey('1_1', num_classes=10)\n"
    )
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pt"
    file.write_bytes(saved({"model": {f"module.{n}": v for n, v in net.state_dict().items()}}))
    with torch.random.fork_rng(devices=[]):
        target = classifiers.from_code("mine_made:make", file, datasets.load("digits"))
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wide = nn.functional.interpolate(x.expand(-1, 3, -1, -1), (32, 32))
    with torch.no_grad():
        assert torch.allclose(target.logits(x), net(wide), atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (
            "wide",
            r"wide cannot answer images of 1 × 8 × 8 \(RuntimeError: .*Resize them or repeat",
        ),
        ("asks", r"asks could not be called without arguments \(TypeError: .*Call it in Python"),
        ("three", r"three could not be called without arguments \(TypeError"),
        ("few", "gives 9 logits, but the data has 10 classes"),
        ("words", "gave str, not a torch.nn.Module"),
    ],
)
def test_a_factory_that_does_not_fit_is_told_and_not_taken_for_a_weak_one(
    factory, words, tmp_path, monkeypatch, capsys
):
    from core.__main__ import main

    (tmp_path / "mine_wrong.py").write_text(
        "from torch import nn\n"
        "def wide():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        "def few():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))\n"
        "def asks(size):\n    return None\n"
        "def words():\n    return 'a network'\n"
        "three = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["attack", "--classifier", f"mine_wrong:{factory}", "--min-robust", "0.1"]
    assert main(command) == 2  # 1 is for what is not robust
    assert re.search(words, capsys.readouterr().err)

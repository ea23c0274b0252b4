"""ONNX graphs from outside: what is let in, what is refused before it runs, and that they answer as torch does."""

from __future__ import annotations

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from core import brought, datasets, graphs, jobs, latent, runs, worker
from core.__main__ import main
from core.catalog import UserError
from core.graphs.wire import BrokenGraph, described
from core.models import Spec
from core.robustness import classifiers
from core.robustness.extras import transfer
from core.target import Target
from core.weights import Package
from core.wrapped.preparation import Preparation, matched
from tests.core import graph_files as onnx

GREY = (1, 8, 8)


def lines(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(rows, columns)) / 4, draw.normal(size=columns) / 4


def test_the_outline_of_a_graph_is_read_without_running_it():
    line, bias = lines(5, 64)
    found = graphs.look(onnx.decoder(line, bias))
    assert [(v.name, v.dtype, v.shape) for v in found.inputs] == [("z", "float32", (None, 5))]
    assert [v.shape for v in found.outputs] == [(None, 1, 8, 8)]
    assert (found.opset, found.numbers) == (17, 5 * 64 + 64 + 4)
    assert dict(found.operators) == {"Gemm": 1, "Sigmoid": 1, "Reshape": 1}


def hostile() -> dict[str, tuple[bytes, str]]:
    """Graphs that no exporter in evaluation mode writes, and what is said of each."""
    x, y = onnx.value("x", ("n", *GREY)), onnx.value("y", ("n", 10))
    weight = np.zeros((64, 10))

    def of(*nodes: bytes, weights: list[bytes] = [], more: bytes = b"") -> bytes:  # noqa: B006
        return onnx.model(list(nodes), [x], [y], weights, more=more)

    plain = onnx.node("Flatten", "x", "y")
    inner = onnx.part(6, onnx.part(1, plain))
    return {
        "outside": (of(plain, weights=[onnx.tensor("w", weight, "../w.bin")]), "The tensor 'w' of this graph lies in another file"),
        "outside, in a constant": (of(onnx.node("Constant", "", "y", onnx.part(1, "value") + onnx.part(5, onnx.tensor("w", weight, "w.bin")))), "lies in another file"),
        "random": (of(onnx.node("RandomNormalLike", "x", "y")), "draws random numbers by itself .RandomNormalLike"),
        "multinomial": (of(onnx.node("Multinomial", "x", "y")), "draws random numbers by itself"),
        "dropout in training": (of(onnx.node("Dropout", "x,ratio,training", "y")), "exported in training mode .Dropout"),
        "batch norm in training": (of(onnx.node("BatchNormalization", "x,a,b,c,d", "y", onnx.ints("training_mode", 1))), "exported in training mode .BatchNorm"),
        "loop": (of(onnx.node("Loop", "x", "y")), "This graph loops or branches .Loop"),
        "nested": (of(onnx.node("Identity", "x", "y", onnx.part(1, "body") + inner)), "holds graphs or functions inside"),
        "function": (of(plain, more=onnx.part(25, onnx.part(1, "f"))), "holds graphs or functions inside"),
        "custom": (of(onnx.node("Anything", "x", "y", domain="my.own")), "uses operators of 'my.own'"),
        "no nodes": (of(), "it holds no graph|no ONNX graph"),
        "no opset": (onnx.part(1, 8) + onnx.part(7, onnx.part(1, plain)), "does not say which opset"),
        "text": (b"nothing at all, really", "is no ONNX graph that can be read"),
        "empty": (b"", "it holds no graph"),
        "endless number": (b"\xff" * 40, "a number in it has no end"),
        "longer than the file": (onnx.varint(7 << 3 | 2) + onnx.varint(2**40), "it is cut off"),
        "huge shape": (of(plain, weights=[onnx.tensor("w", np.zeros((1, 1))).replace(b"\x08\x01\x08\x01", b"\x08" + onnx.varint(2**50) + b"\x08\x01")]), "has no plain shape"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_what_could_read_draw_or_run_without_end_is_refused_before_it_runs(name):
    file, said = hostile()[name]
    with pytest.raises(UserError, match=said):
        graphs.look(file)


def test_a_graph_has_no_more_operators_than_is_allowed(monkeypatch):
    monkeypatch.setattr(graphs, "NODES", 2)
    with pytest.raises(UserError, match="more than 2 operators"):
        graphs.look(onnx.decoder(*lines(5, 64)))


def test_a_damaged_graph_is_a_sentence_wherever_it_is_cut_or_changed():
    line, bias = lines(5, 64)
    file, draw = onnx.decoder(line, bias)[:700], random.Random(0)
    for _ in range(300):
        changed = bytearray(file)
        for _ in range(3):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        with contextlib.suppress(BrokenGraph):
            described(bytes(changed[: draw.randrange(len(changed))]), 100)


def test_a_missing_package_is_a_sentence(monkeypatch):
    from core import catalog

    monkeypatch.setattr(catalog, "installed", lambda module: False)
    with pytest.raises(UserError, match=r"An ONNX graph needs the package onnxruntime.*requirements-onnx\.txt"):  # fmt: skip
        graphs.tried(onnx.decoder(*lines(5, 64)), [])


# --- Preprocessing and classes, for whatever classifier comes from outside ---------------------------------------------


def test_answers_are_put_into_the_order_of_the_datasets_classes():
    names = ["dog", "Sea Lion", "tabby, tabby cat", "car"]
    assert matched(["tabby", "sea_lion"], names, 4, "") == (
        [2, 1],
        "Its classes are matched by name, 2 of its answers are left out.",
    )
    assert matched(["cat", "dog"], names, 4, "cat = tabby, tabby cat; dog=0")[0] == [2, 0]
    assert matched(["a", "b"], (), 2, "")[0] == [0, 1]
    assert matched(["a", "b"], (), 5, "a=3, b=1")[0] == [3, 1]
    for classes, known, count, said, text in (
        (["cat", "dog"], names, 4, "", "No answer of this network is called 'cat'"),
        (["a", "b"], (), 5, "", "tells 5 classes apart and does not name them, and the dataset has 2"),
        (["a", "b"], (), 5, "a=3", "No answer of this network is called 'b'"),
        (["a", "b"], (), 5, "a=3,b=3", "would have the same answer, number 3"),
        (["a", "b"], (), 5, "a=3,b=5", "'5' is no answer of this network. Give one of its names, or a number from 0 to 4"),
        (["a", "b"], (), 5, "a=3,c=1", "The dataset has no class 'c'"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=text):
            matched(classes, known, count, said)


def test_preparation_is_differentiable_and_reads_as_written():
    done = {"resize": 12, "crop": 10, "resample": "bicubic", "channels": 3, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2]}  # fmt: skip
    net = nn.Sequential(nn.Flatten(), nn.Linear(300, 4))
    ready = Preparation(net, done, [3, 1])
    x = torch.rand(2, 1, 8, 8).requires_grad_()
    seen = ready.prepared(x)
    assert seen.shape == (2, 3, 10, 10)
    back = seen * torch.tensor(done["std"]).view(1, 3, 1, 1) + torch.tensor(done["mean"]).view(1, 3, 1, 1)  # fmt: skip
    assert torch.allclose(back[:, 0], back[:, 2], atol=1e-6)  # grey in all three
    assert torch.allclose(ready(x), net(seen)[:, [3, 1]])
    (slope,) = torch.autograd.grad(ready(x).sum(), x)
    assert float(slope.abs().min()) > 0


# --- With the package that runs them ----------------------------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch, setting):
    monkeypatch.setattr(jobs, "spawn", lambda path: None)
    setting(nice=0, threads=1)
    return pytest.importorskip("onnxruntime")


def bring(file: bytes, name: str, **values) -> jobs.Job:
    package = Package.alone(file, f"{name}.onnx")
    job = brought.keep(name, package, values, datasets.load("digits"))
    worker.work(job.path)
    return jobs.get(job.id)


def test_a_graph_that_decodes_becomes_a_run_that_is_searched_without_gradients(runtime):
    line, bias = lines(5, 64)
    run = bring(onnx.decoder(line, bias), "mine")
    assert run.status == "finished", run.message
    opened = runs.open_model(run)
    z = torch.linspace(-1, 1, 35).view(7, 5)
    by_hand = 1 / (1 + np.exp(-(z.numpy() @ line + bias)))
    x = opened.model.decode(z, None, opened.usual)
    assert x.shape == (7, 1, 8, 8) and np.allclose(x.flatten(1).numpy(), by_hand, atol=1e-6)
    assert torch.equal(copy.deepcopy(opened.model).decode(z, None, opened.usual), x)
    space = latent.open_space(opened)
    assert not space.differentiable and not space.encodes
    *_, last = latent.find(space, x[:1])
    assert last.error < 1e-4 and last.done == 1
    for batch, squash, values, said in (
        (1, "Sigmoid", {}, ""),
        ("n", "Tanh", {"centred": True}, ""),
        ("n", "Tanh", {}, "must lie from 0 to 1"),
        (4, "Sigmoid", {}, "takes 4 rows at once and no other number"),
    ):
        run = bring(onnx.decoder(line, bias, batch=batch, squash=squash), "other", **values)
        assert run.status == ("failed" if said else "finished"), run.message
        assert said in run.message


def test_a_graph_that_classifies_answers_as_torch_does_and_is_attacked_without_gradients(runtime):
    digits = datasets.load("digits")
    line, bias = lines(64, 10)
    kept = brought.keep("graph", Package.alone(onnx.classifier(line, bias, GREY), "g.onnx"), {}, digits)  # fmt: skip
    target = classifiers.target_of(kept.id, digits)
    x = torch.rand(6, 1, 8, 8)
    assert np.allclose(target.logits(x).numpy(), x.flatten(1).numpy() @ line + bias, atol=1e-5)
    assert target.answers_only and kept.record["facts"]["outputs"] == list(range(10))
    (choice,) = [each for each in classifiers.available("digits") if each.id == kept.id]
    assert choice.answers_only and "without gradients" in choice.note
    alone = brought.keep("one", Package.alone(onnx.classifier(line, bias, GREY, 1), "g.onnx"), {}, digits)  # fmt: skip
    one = classifiers.target_of(alone.id, digits)
    assert torch.allclose(one.logits(x), target.logits(x), atol=1e-6)
    colour = onnx.classifier(lines(3 * 256, 12)[0], lines(3 * 256, 12)[1], (3, 16, 16))
    with pytest.raises(UserError, match="tells 12 classes apart and does not name them"):
        brought.keep("rgb", Package.alone(colour, "g.onnx"), {}, digits)
    told = ",".join(f"{name}={k + 2}" for k, name in enumerate(digits.classes))
    rgb = brought.keep("rgb", Package.alone(colour, "g.onnx"), {"classes": told}, digits)
    assert rgb.record["preprocessing"]["resize"] == 16
    assert classifiers.target_of(rgb.id, digits).logits(x).shape == (6, 10)


def test_images_against_a_graph_are_made_by_queries_and_fool_its_twin_as_often(runtime):
    digits = datasets.load("digits")
    line, bias = lines(64, 10)
    kept = brought.keep("graph", Package.alone(onnx.classifier(line, bias, GREY), "g.onnx"), {}, digits)  # fmt: skip
    graph = classifiers.target_of(kept.id, digits)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].load_state_dict({"weight": torch.tensor(line.T), "bias": torch.tensor(bias)})
    twin = Target(net, digits.classes, GREY, name="twin")
    x = digits.images(digits.splits["test"][:12])
    table = transfer([graph, twin], x, twin.predict(x), 0.2)
    assert table["attacks"] == ["square", "quick"]
    assert table["n"] == [[12, 12], [12, 12]]
    assert table["fooled"][0][0] == pytest.approx(table["fooled"][0][1])
    assert table["fooled"][0][0] > 0.5


def test_the_command_says_what_a_graph_is_and_keeps_it(runtime, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "spawn", worker.work)
    for file, name, *wanted in (
        (onnx.classifier(*lines(64, 10), GREY), "net", "takes 1 × 8 × 8, 10 classes.", "own/net: 1 file, for digits."),
        (onnx.decoder(*lines(5, 64)), "art", "no classes, one pass from 5 numbers.", "Brought: an ONNX graph that decodes"),
    ):  # fmt: skip
        (tmp_path / f"{name}.onnx").write_bytes(file)
        assert main(["bring", str(tmp_path / f"{name}.onnx"), "--name", name]) == 0
        said = capsys.readouterr().out
        assert all(words in said for words in wanted), said


def test_a_graph_that_fails_or_asks_for_too_much_ends_its_own_process_alone(runtime):
    line, bias = lines(60, 10)
    wrong = onnx.classifier(line, bias, GREY)  # of 60 pixels, where there are 64
    with pytest.raises(UserError, match="could not be run on items of the dataset"):
        graphs.tried(wrong, [{"x": ("float32", [1, *GREY])}])
    size = np.array([40_000, 40_000])  # 6 GB
    bomb = onnx.model(
        [onnx.node("ConstantOfShape", "size", "a"), onnx.node("ReduceSum", "a", "y")],
        [onnx.value("x", ("n", *GREY))],
        [onnx.value("y", ("n", 10))],
        [onnx.tensor("size", size)],
    )
    with pytest.raises(UserError, match="could not be run on items of the dataset"):
        graphs.tried(bomb, [{"x": ("float32", [1, *GREY])}])


def digits_spec() -> Spec:
    return Spec("image", GREY, 17, (0.1,) * 10)

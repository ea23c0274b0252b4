"""Bringing a generator on the page Train: what is told before it is kept, and what is refused."""

from __future__ import annotations

import pytest

from core import brought, jobs, packs, runs, worker
from core.weights import Package


def opened(visit):
    return visit("train", **{"train.view": "bring"}).calm()


def send(seen, name: str, content: bytes) -> None:
    seen.widget("train.bring.files").set_value([(name, content, "")])
    seen.run()


def test_a_pack_is_told_kept_and_explored_on_the_pages(gallery, visit, monkeypatch):
    content = packs.pack(jobs.get("shipped-digits-vae"), sampling={}, terms={"licence": "MIT"})
    monkeypatch.setattr(jobs, "spawn", worker.work)
    seen = opened(visit)
    assert "Only numbers (.safetensors), text (.json) and graphs (.onnx) are read" in seen.texts()
    send(seen, "mine.zip", content)
    said = seen.calm().texts() + seen.texts("success")
    for words in (
        "The run Digits, VAE · VAE",
        "660,683",
        "Makes: 1 × 8 × 8",
        "for a picture on this machine",
    ):
        assert words in said
    assert seen.widget("train.bring.terms.licence").value == "MIT"
    seen.set(train__bring__name="Mine").press("train.bring.keep").calm()
    (run,) = [run for run in runs.listing() if run.name == "Mine"]
    assert run.status == "finished" and runs.record(run)["terms"]["licence"] == "MIT"
    assert "Mine" in seen.texts()


def test_what_is_no_generator_and_a_pickle_are_refused_with_the_reason(gallery, visit, setting):
    seen = visit("train", **{"train.view": "bring"}).calm()
    package = Package("x", {"a.safetensors": b"1", "b.json": b"{}"})
    send(seen, "x.zip", package.packed())
    assert "is none of the models that are known here" in seen.errors[0]
    assert seen.widget("train.bring.keep").disabled
    evil = Package("x", {"unet/config.json": b"{}", "unet/w.bin": b"\x80"}).packed()
    send(seen, "x.zip", evil)
    assert "may be a pickle" in seen.errors[0]


def test_a_dataset_of_another_shape_says_which_size_to_import(gallery):
    from core import datasets

    seen = brought.Seen("it", 10, (3, 32, 32))
    with pytest.raises(ValueError, match="import its items at 32 px in colour on the page Data"):
        brought.allow_dataset(seen, datasets.load("digits"))
    brought.allow_dataset(brought.Seen("it", 10), datasets.load("digits"))

"""Train further: what a run has learned goes on with another dataset."""

from __future__ import annotations

import numpy as np

from core import datasets, jobs, runs


def birds(size: int = 8, classes: tuple[str, ...] = ("0", "owl")) -> datasets.Dataset:
    rng = np.random.default_rng(0)
    splits = {"train": np.arange(40), "valid": np.arange(40, 52), "test": np.arange(52, 60)}
    x = rng.integers(0, 256, (60, 1, size, size), dtype=np.uint8)
    y = np.arange(60) % len(classes)
    return datasets.assemble(x, y, classes, splits, name="birds")


def test_a_run_goes_on_with_another_set_of_its_size(visit, trained, spawned, asked):
    datasets.save("birds", birds())
    datasets.save("large birds", birds(16))
    id = trained.runs["vae"]
    seen = visit("train", run=id).press("train.further")
    offered = seen.widget("further.data").options
    assert offered[0] == "birds (60)" and not any("large" in title for title in offered)
    # what this network has, and nothing else
    ways = seen.widget("further.layers").options
    listens = runs.classes_of(jobs.get(id)) > 0
    assert ("Classes only" in ways) is listens
    assert "It learns from 40 images alone and may come to copy them." in seen.texts()
    seen.widget("further.layers").set_value("lora")
    seen.press("train.further").widget("further.rank").set_value(3)
    seen.widget("further.images").set_value(640)
    seen.press("train.further", "further.start").calm()
    (new,) = spawned
    config = asked(new)["config"]
    assert config["dataset"]["name"] == "birds"
    assert config["train"]["parent"].startswith(f"{id}@")
    assert config["family"] == jobs.get(id).config["family"]
    assert (config["train"]["images"], config["train"]["patience"]) == (640, 0.3)
    assert (config["further"]["layers"], config["further"]["rank"]) == ("lora", 3)


def test_new_classes_are_named_before_they_are_learned(visit, trained):
    datasets.save("birds", birds())
    seen = visit("train", run=trained.runs["gan"]).press("train.further")
    assert "begin as the mean of those that it knows: owl." in seen.texts()


def test_a_view_only_server_trains_nothing_further(visit, trained, setting, spawned):
    setting(view_only=1)
    seen = visit("train", run=trained.runs["vae"]).press("train.further")
    assert seen.widget("further.start").disabled
    assert spawned == []


def test_where_no_other_set_fits_its_own_stands_first(gallery):
    from core.models import Spec
    from pages.parts.train.further import fitting

    run = jobs.get("shipped-faces-vae")
    assert next(iter(fitting(run, Spec.of(runs.record(run)["spec"])))) == "faces"

"""The Data page: labels that are given in Label Studio, out and back."""

from __future__ import annotations

import json

import numpy as np

from core import datasets
from core.quality import decisions, relabelling


def birds():
    """A dataset of two classes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (24, 1, 8, 8)).astype(np.uint8)
    splits = {"train": np.arange(16), "valid": np.arange(16, 20), "test": np.arange(20, 24)}
    y = np.arange(24, dtype=np.int64) % 2
    terms = {"licence": "", "consent": "unknown"}
    made = datasets.assemble(x, y, ("hen", "owl"), splits, name="birds", terms=terms)
    return datasets.save("birds", made)


def export(dataset, **choices):
    tasks = relabelling.tasks(dataset, [int(image[1:]) for image in choices])
    for task, name in zip(tasks, choices.values(), strict=True):
        task["annotations"] = [{"result": [{"type": "choices", "value": {"choices": [name]}}]}]
    return json.dumps(tasks).encode()


def test_answers_are_told_before_they_become_decisions_that_can_be_undone(visit):
    dataset = birds()
    seen = visit("data", data="birds", **{"data.view": "version"}).calm()
    assert "Inspect it first" in seen.texts("caption")  # nothing is known of doubt yet
    seen.set(data__relabel__way="all").calm()
    assert "24 images. In Label Studio" in seen.texts("caption")
    seen.widget("data.relabel.file.0").upload(
        "x.json", export(dataset, i0="owl", i3="owl", i4="bee")
    )
    seen.run().calm()
    assert "1 relabelled, 1 confirmed. 1 task without an answer" in seen.texts("markdown")
    assert "task 5 was answered 'bee', which is no class" in seen.texts("caption")
    seen.press("data.relabel.take").calm()
    assert decisions.open(dataset).state == {0: ("relabel", 1), 3: ("accept", None)}
    assert "Label Studio, x.json" in seen.texts("caption")
    for key in [key for key in seen.keys() if key.startswith("data.undo.")]:
        seen.press(key).calm()
    assert not decisions.open(dataset).state


def test_an_export_of_another_set_is_a_sentence_and_view_only_takes_none(visit, setting):
    dataset = birds()
    other = datasets.assemble(dataset.x ^ 1, dataset.y, dataset.classes, dataset.splits)
    seen = visit("data", data="birds", **{"data.view": "version"})
    seen.widget("data.relabel.file.0").upload("x.json", export(other, i0="owl"))
    assert "None of these 1 tasks is about an image of birds" in seen.run().errors[0]
    setting(view_only=1)
    seen = visit("data", data="birds", **{"data.view": "version"})
    assert seen.widget("data.relabel.file.0").disabled

"""Evaluations: from a run to its numbers, what they must stand, and side by side."""

from __future__ import annotations

from core import evaluation


def test_an_evaluation_measures_and_keeps_every_sample(evaluated):
    found = evaluation.read(evaluated.runs["gan evaluation"])
    assert found.finished
    assert found.run == evaluated.runs["gan"]
    kid = found.get("kid")
    assert kid.low < kid.value < kid.high
    assert kid.value > kid.floor
    arrays = found.arrays()
    assert len(arrays.made) == 300
    assert evaluation.projection(found, "pca").shape == (300 + len(arrays.real), 2)
    assert evaluation.projection(found, "tsne").shape == (300 + len(arrays.real), 2)
    assert evaluation.reference_images(found).shape == (len(arrays.real), 1, 8, 8)

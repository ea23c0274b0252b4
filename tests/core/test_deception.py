"""Tricks with generative models: each runs to its end on a shipped run, and means what it says."""

from __future__ import annotations

import pytest
import torch

from core import datasets, jobs, runs
from core.catalog import Config
from core.models import Spec
from core.robustness import classifiers, tricks
from core.robustness.tricks.critic import auc

QUICK = {
    "encoder": {}, "critic": {}, "likelihood": {"steps": 5}, "latent": {"steps": 60},
    "purify": {"steps": 3, "inner": 3, "draws": 1}, "harden": {"images": 600, "steps": 5},
}  # fmt: skip
CASES = [
    ("encoder", "vae"), ("encoder", "vqvae"), ("critic", "gan"), ("likelihood", "flow"), ("latent", "vae"),
    ("purify", "diffusion"), ("harden", "vae"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_trick_goes_to_its_end_with_numbers_and_pictures(gallery, name, family):
    digits = datasets.load("digits")
    opened = runs.open_model(jobs.get(f"shipped-digits-{family}"))
    entry = tricks.tricks.get(name)
    assert entry.fits(opened)
    target = (
        classifiers.target_of("shipped-digits-classifier", digits) if entry.classifier else None
    )
    config = entry.config.of({"n": 8, **QUICK[name]}, name)
    *_, last = entry.make(config, opened, digits, target)
    assert last.done == 1 and last.sentence and last.pictures
    assert all(p["x"].dtype == "uint8" and p["x"].ndim == 4 for p in last.pictures)
    assert all(row["value"] and row["what"] for row in last.numbers)
    if name in ("encoder", "critic", "likelihood"):
        lines = last.curve["lines"]
        assert len(lines["attack"]) == len(last.curve["x"]) == 5
        worse = lines["attack"][-1] > lines["random noise"][-1]
        assert worse == (name == "encoder")  # the others fall
    if name == "purify":
        unaware, *aware = last.numbers[3:]
        assert [row["name"][:2] for row in (unaware, *aware)] == ["1.", "2.", "3."]
        lowest = min((row["value"] for row in aware), key=lambda value: float(value.split()[0]))
        # the sentence says what the rows say, although the purifier draws anew each time it is asked
        assert f"{unaware['value']} against" in last.sentence
        assert f"{lowest} against" in last.sentence


class Drawn(torch.nn.Module):
    """Makes images of latents, and says no more of itself."""

    classes = 0

    def latent(self, ids, seed, sampling):
        return torch.zeros(len(ids), 2)

    def decode(self, z, y, sampling):
        return z * 2


class Exact(Drawn):
    def encode(self, x, y, sampling):
        return x / 2

    def log_prob(self, x, y, generator): ...


class Uncertain(Exact):
    def spread(self, x, y): ...


class Learning(Uncertain):
    def groups(self): ...
    def losses(self, x, y, generator, progress): ...


class Path(Exact):
    def trace(self, ids, y, seed, sampling): ...
    def states(self, ids, y, seed, sampling): ...


class Cleaning(Path):
    def purify(self, x, noise, steps, generator): ...


class Critical(Drawn):
    def criticise(self, x, y): ...
    def shown_through(self, augmentation): ...


@pytest.mark.parametrize(
    ("kind", "fitting"),
    [
        (torch.nn.Identity, set()),
        (Drawn, {"latent", "purify"}),
        (Exact, {"latent", "encoder", "likelihood"}),
        (Uncertain, {"latent", "encoder", "likelihood", "purify"}),
        (Learning, {"latent", "encoder", "likelihood", "harden", "purify"}),
        (Path, set()),
        (Cleaning, {"purify"}),
        (Critical, {"critic", "latent", "purify"}),
    ],
)
def test_what_a_model_can_decides_which_tricks_it_is_put_to(kind, fitting):
    opened = runs.Opened("run", 1, 1, "new", kind(), Spec("image", (1, 8, 8), 17), (), Config)
    assert {trick.name for trick in tricks.tricks if trick.fits(opened)} == fitting


def test_the_area_under_the_curve_counts_pairs():
    high, low = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    assert auc(high, low) == (1 + 0.5 + 1 + 1) / 4


def test_a_second_opinion_is_never_trained_in_passing(monkeypatch):
    from core import datasets
    from core.catalog import UserError
    from core.measure import features
    from core.robustness.tricks.latent import second_opinion
    from core.target import Target

    monkeypatch.setattr(features, "judge", lambda *_: pytest.fail("a judge is trained in passing"))
    digits = datasets.load("digits")
    alone = Target(lambda x: x.flatten(1)[:, :10], digits.classes, (1, 8, 8), card={"run": "x"})
    with pytest.raises(UserError, match="A second classifier of digits is needed"):
        second_opinion(alone, digits)

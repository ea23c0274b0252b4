"""Tests of copying: formulas by brute force, and models of which it is known whether they copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core import datasets
from core.catalog import Config
from core.measure import (
    EvaluateConfig,
    Evaluation,
    Measurement,
    copying,
    disguises,
    distances,
    verdict,
)
from core.measure.study import Evaluator
from core.models import Spec
from core.runs import Opened
from core.tensors import to_float


class Replay:
    """A model whose samples are given images, drawn at random."""

    def __init__(self, x: np.ndarray, levels: int, noise: float = 0.0, change=None) -> None:
        self.x, self.noise, self.classes = to_float(torch.as_tensor(x), levels), noise, 0
        self.change = change
        self.spec = Spec("image", (x.shape[1], x.shape[2], x.shape[2]), levels)

    def sample(self, ids, y, seed, sampling):
        generator = torch.Generator().manual_seed(int(ids[0]) + seed)
        pick = torch.randint(len(self.x), (len(ids),), generator=generator)
        x = self.x[pick]
        if self.change is not None:
            x = self.change(x, generator)
        return (x + self.noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def study(model, dataset, **values):
    opened = Opened("replay", 1, 1, "replay", model, model.spec, (), Config)
    config = EvaluateConfig.of({"extractor": "pca", **values})
    made = Evaluator(opened, dataset, config, Config())
    made.prepare()
    return made


def judged(model, dataset, samples=400):
    measured = study(
        model,
        dataset,
        metrics="nearer,ratio,disguised,disguised_ratio,authenticity,ct",
        samples=samples,
    ).measure()
    return verdict(
        Evaluation(*("",) * 5, 1, 1, 0.0, True, {}, tuple(measured), (), (), {}, path=Path())
    )


@pytest.fixture
def draws():
    """Cuts the digits at random: into a dataset, and fresh images that are in none of its splits."""
    digits = datasets.load("digits")

    def draw(seed: int):
        order = np.random.default_rng(seed).permutation(len(digits))
        kept, fresh = order[:1350], order[1350:]
        splits = {"train": slice(0, 700), "valid": slice(700, 950), "test": slice(950, 1350)}
        own = datasets.assemble(
            digits.x[kept],
            digits.y[kept],
            digits.classes,
            {name: np.arange(1350)[part] for name, part in splits.items()},
            levels=digits.levels,
            name="digits cut anew",
        )
        return own, digits.x[fresh]

    return draw


def test_a_model_that_replays_its_training_images_is_called_a_copy_and_fresh_images_are_not(draws):
    copies, honest = [], []
    for seed in range(20):
        dataset, fresh = draws(seed)
        if seed < 6:
            copies.append(judged(Replay(dataset.part("train")[0], dataset.levels), dataset))
        honest.append(judged(Replay(fresh, dataset.levels), dataset))
    for found in copies:
        assert found.copies is True
        assert sum(bool(test.flagged) for test in found.tests) >= 2
    assert sum(found.copies is not False for found in honest) <= 1
    flags = [test.test.name for found in honest for test in found.tests if test.flagged]
    assert len(flags) <= 3, flags


def test_noise_on_copies_does_not_hide_them(draws):
    dataset, _ = draws(0)
    found = judged(Replay(dataset.part("train")[0], dataset.levels, noise=0.05), dataset)
    assert found.copies is True


# --- In disguise ------------------------------------------------------------------------------------------------------


def shifted(x, generator):
    places = torch.randint(8, (len(x),), generator=generator)
    moved = torch.empty_like(x)
    for i, place in enumerate(places.tolist()):
        wide = torch.nn.functional.pad(x[i : i + 1], (1, 1, 1, 1), mode="replicate")[0]
        top, left = divmod(place + (place >= 4), 3)  # all but the middle one
        moved[i] = wide[:, top : top + x.shape[2], left : left + x.shape[3]]
    return moved


def lit(x, generator):
    gain, bias = torch.rand(2, len(x), 1, 1, 1, generator=generator)
    return (x * (0.6 + 0.6 * gain) + 0.2 * bias).clamp(0, 1)


def noisy(x, generator):
    return (x + 0.06 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


CHANGES = {
    "mirrored": lambda x, generator: x.flip(-1),
    "turned by 90°": lambda x, generator: x.rot90(1, (-2, -1)),
    "upside down": lambda x, generator: x.flip(-2),
    "shifted": shifted,
    "lit": lit,
    "noisy": noisy,
    "grey": lambda x, generator: x.mean(1, keepdim=True).expand_as(x),
    "mirrored, shifted and lit": lambda x, generator: lit(
        shifted(x.flip(-1), generator), generator
    ),
}


def coloured(dataset, fresh, seed=0):
    """Gives the digits a colour each, so that turning grey changes them."""
    rng = np.random.default_rng(seed)

    def paint(x):
        return (x * rng.uniform(0.2, 1, (len(x), 3, 1, 1)) * 255 / 16).round().astype(np.uint8)

    x = paint(dataset.x)
    painted = datasets.assemble(x, dataset.y, dataset.classes, dataset.splits, name="painted")
    return painted, paint(fresh)


@pytest.mark.parametrize("change", CHANGES)
def test_training_images_that_were_changed_as_augmentation_does_are_copies(draws, change):
    dataset, _ = coloured(*draws(0))
    found = judged(
        Replay(dataset.part("train")[0], 256, change=CHANGES[change]), dataset, samples=300
    )
    assert found.copies is True, found
    if change in disguises._TURNS:
        assert found.sentence.startswith(f"It copies training images in disguise ({change}): ")


@pytest.mark.parametrize("change", ["mirrored", "grey", "lit", "noisy", "shifted"])
def test_fresh_images_that_were_changed_in_the_same_way_are_none(draws, change):
    dataset, fresh = coloured(*draws(1))
    found = judged(Replay(fresh, 256, change=CHANGES[change]), dataset, samples=300)
    assert found.copies is False, found
    assert not [t for t in found.tests if t.test.name.startswith("disguised") and t.flagged]


def test_pictures_that_are_their_own_mirror_image_are_no_copies(draws):
    flags = []
    for seed in range(6):
        dataset, fresh = draws(seed)

        def folded(x):
            return np.maximum(x, x[..., ::-1])

        alike = datasets.assemble(
            folded(dataset.x),
            dataset.y,
            dataset.classes,
            dataset.splits,
            levels=17,
            name="folded",
        )
        found = judged(Replay(folded(fresh), 17), alike, samples=300)
        flags.append(found.copies is not False)
        assert not [t for t in found.tests if t.test.name.startswith("disguised") and t.flagged]
    assert sum(flags) <= 1


def test_a_way_is_found_and_said_for_each_sample(draws):
    dataset, _ = coloured(*draws(0))
    x = to_float(torch.as_tensor(dataset.part("train")[0][:200]))
    train, held = disguises.patterns(x), disguises.patterns(x.flip(0) * 0.5)
    for words, change in CHANGES.items():
        if words in disguises._TURNS:
            made = disguises.compare(change(x, torch.Generator()), train, held)
            assert (made.index[:, 0] == torch.arange(200)).double().mean() > 0.95
            tried = disguises.ways(8)
            said = [tried[way].text() for way in made.way.tolist()]
            assert said.count(words) > 150, (words, set(said))
    away = shifted(x, torch.Generator().manual_seed(0))
    said = [
        disguises.ways(8)[w].text(2.0) for w in disguises.compare(away, train, held).way.tolist()
    ]
    assert said.count("shifted by 2 px") > 150


def test_an_older_evaluation_says_what_it_did_not_look_for(draws):
    dataset, fresh = draws(0)
    measured = study(Replay(fresh, 17), dataset, metrics="nearer,ratio", samples=100).measure()
    found = verdict(
        Evaluation(*("",) * 5, 1, 1, 0.0, True, {}, tuple(measured), (), (), {}, path=Path())
    )
    assert found.copies is False
    assert "did not look for copies that are mirrored, turned, shifted" in found.sentence


def test_a_test_and_the_same_one_in_disguise_are_one():
    def measured(metric, value, **details):
        return Measurement(
            metric, "", value, value - 0.01, value + 0.01, 0.5, 500, "", "", 0.0, "", details
        )

    lines = {"limit": 0.6, "ceiling": 0.75}
    one = measured("nearer", 0.7, **lines), measured("disguised", 0.7, **lines)
    quiet = measured("ratio", 0.0), measured("disguised_ratio", 0.0)

    def judge(*all):
        return verdict(Evaluation(*("",) * 5, 1, 1, 0.0, True, {}, all, (), (), {}, path=Path()))

    found = judge(*one, *quiet)
    assert found.copies is None
    assert found.sentence.startswith("Two of 4 tests speak for copying, the others do not")
    both = judge(
        one[1], measured("disguised_ratio", 0.4, way="mirrored"), measured("nearer", 0.5, **lines)
    )
    assert both.copies is True
    assert both.sentence == "It copies training images in disguise (mirrored): 2 of 3 tests say so."
    assert judge(*quiet).sentence == (
        "No sign of copies in 2 tests. Copies that are cropped, zoomed, folded, in inverted colours or turned by a few "
        "degrees are not looked for."
    )


@pytest.mark.parametrize("tests", [("authenticity", "ct"), ("authenticity",), ("ct",)])
def test_weak_tests_are_no_copying_however_many_agree(tests):
    made = {
        "authenticity": Measurement(
            "authenticity", "", 0.2, 0.1, 0.3, 0.8, 500, "", "", 0.0, "", {"floor_low": 0.75}
        ),
        "ct": Measurement("ct", "", -9.0, -11.0, -7.0, 0.0, 500, "", "", 0.0),
        "nearer": Measurement(
            "nearer",
            "",
            0.5,
            0.45,
            0.55,
            0.5,
            500,
            "",
            "",
            0.0,
            "",
            {"limit": 0.6, "ceiling": 0.75},
        ),
    }
    found = verdict(
        Evaluation(
            *("",) * 5, 1, 1, 0.0, True, {},
            (*(made[name] for name in tests), made["nearer"]), (), (), {}, path=Path(),
        )
    )  # fmt: skip
    assert [test.test.name for test in found.tests if test.flagged] == list(tests)
    assert found.copies is False
    assert "as smooth samples also are" in found.sentence


# --- Formulas ---------------------------------------------------------------------------------------------------------


def test_the_share_nearer_to_training_is_the_mean_over_all_draws_of_training_images():
    rng = np.random.default_rng(0)
    s, t, h = (rng.integers(0, 4, (n, 3)).astype(float) for n in (40, 12, 5))  # with many ties

    def to(a, b):
        return np.square(a[:, None] - b).sum(2)

    wins, near = [], to(s, h).min(1)
    for _ in range(20_000):
        mine = to(s, t)[:, rng.permutation(12)[:5]].min(1)
        wins.append((mine < near) + 0.5 * (mine == near))
    found = distances.nearer_to_training(s, t, h)
    assert found.value == pytest.approx(np.mean(wins), abs=0.004)


def test_authenticity_and_ratio_by_hand():
    distance, index = np.array([1.0, 3.0, 0.5]), np.array([0, 1, 0])
    found = copying.authenticity(distance, index, np.array([0.8, 4.0]))
    assert found.value == pytest.approx(1 / 3)
    assert copying.ratios(np.array([0.0, 1, 0]), np.array([2.0, 4, 0])).tolist() == [0, 0.25, 0]


def test_the_z_of_each_cell_is_that_of_mann_and_whitney():
    from scipy.stats import mannwhitneyu, norm

    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 9, 60) / 3, rng.integers(1, 10, 45) / 3
    cells = np.zeros(60, int), np.zeros(45, int)
    found = copying.data_copying(ours, theirs, *cells)
    p = mannwhitneyu(
        ours, theirs, alternative="less", method="asymptotic", use_continuity=False
    ).pvalue
    assert norm.cdf(found.value) == pytest.approx(p)
    assert found.value < 0
    assert found.error == 1
    two = copying.data_copying(
        np.r_[ours, theirs],
        np.r_[theirs, ours],
        np.r_[cells[0], cells[1] + 1],
        np.r_[cells[1], cells[0] + 1],
    )
    weights = np.array([45, 60]) / 105
    assert two.value == pytest.approx(found.value * weights[0] - found.value * weights[1])
    assert two.worst == pytest.approx(found.value)
    with pytest.raises(ValueError, match="no cell"):
        copying.data_copying(ours[:5], theirs[:5], cells[0][:5], cells[1][:5])


def test_the_area_under_the_curve_and_its_interval():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        members, others = rng.normal(0.5, 1, 80).round(1), rng.normal(0, 1, 60).round(1)
        found, _ = copying.membership(members, others)
        hits += found.low <= 0.638163 <= found.high  # the normal's: Phi(0.5 / sqrt(2))
    truth = roc_auc_score(np.r_[np.ones(80), np.zeros(60)], np.r_[members, others])
    assert found.value == pytest.approx(truth)
    assert 90 <= hits <= 99
    sure, caught = copying.membership(np.arange(10, 20), np.arange(10))
    assert (sure.value, caught) == (1, 1)

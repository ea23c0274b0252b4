"""What is wrong with a dataset: planted faults are found, decisions are kept, versions are made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core import datasets, jobs, kinds, quality, worker
from core.catalog import UserError
from core.datasets import assemble, faces
from core.quality import InspectConfig, check, decisions, labels, likeness, measures, search, sets


def shapes(n: int = 300, size: int = 16, channels: int = 1, seed: int = 0):
    """Bars and blobs at random places with noise: two classes that are easy to tell."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    grid = np.mgrid[0:size, 0:size]
    x = np.zeros((n, channels, size, size))
    for i in range(n):
        middle, wide = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.08, 0.16) * size
        if y[i]:
            x[i] = np.exp(-((grid[0] - middle[0]) ** 2 + (grid[1] - middle[1]) ** 2) / (8 * wide))
        else:
            angle = rng.uniform(0, np.pi)
            along = (grid[0] - middle[0]) * np.cos(angle) + (grid[1] - middle[1]) * np.sin(angle)
            x[i] = np.exp(-(along**2) / wide)
    x = x * 200 + rng.uniform(0, 20, x.shape)
    return x.clip(0, 255).astype(np.uint8), y.astype(np.int64), rng


def dataset_of(x, y=None, held: int = 60, classes=("bar", "blob"), **options):
    n = len(x)
    splits = {
        "train": np.arange(2 * held, n),
        "valid": np.arange(held),
        "test": np.arange(held, 2 * held),
    }
    return assemble(x, y, classes if y is not None else (), splits, name="shapes", **options)


def found(dataset, **values) -> quality.Inspection:
    last = list(quality.inspect(dataset, InspectConfig(map=100, **values)))[-1]
    assert isinstance(last, quality.Inspection)
    return last


@pytest.fixture(scope="module")
def planted():
    """Shapes with faults at known places, and what was found."""
    x, y, rng = shapes(360)
    x[300] = x[200]  # exact, both in train
    x[301] = x[70]  # a leak from test
    x[302] = np.roll(x[201], 1, 2)  # shifted by a pixel
    x[303] = np.roll(x[71], 1, 1)  # a near leak
    x[304] = 7  # blank
    x[305] = rng.integers(0, 256, x[0].shape)  # nothing like the others
    y[300:304] = y[[200, 70, 201, 71]]
    wrong = [210, 221, 232]
    y[wrong] = 1 - y[wrong]
    dataset = dataset_of(x, y)
    return dataset, found(dataset), wrong


def test_planted_faults_are_found_each_as_what_it_is(planted):
    _, result, wrong = planted
    by = {kind: [issue.image for issue in issues] for kind, issues in result.by_kind().items()}
    assert by["exact"] == [300]
    assert by["leak"] == [301]
    assert by["near"][0] == 302  # two blobs may well look the same
    assert by["near_leak"][0] == 303
    assert by["blank"] == [304]
    assert by["outlier"][0] == 305
    assert set(wrong) <= set(by["label"])
    assert len(by["label"]) <= 6
    assert result.counts == {kind: len(images) for kind, images in by.items()}


@pytest.mark.parametrize(("own", "strangers"), [(1797, 0), (1797, 8), (1797, 20), (30, 0), (30, 1)])
def test_strangers_are_found_though_they_are_each_others_neighbours(own, strangers):
    base = datasets.load("digits")
    pictures = faces.draw(faces.attributes(3, 20), 16)[:strangers]
    grey = pictures.mean(1, keepdims=True).reshape(strangers, 1, 8, 2, 8, 2).mean((3, 5))
    strange = np.round(grey / 255 * (base.levels - 1)).astype(base.x.dtype)
    x, none = np.concatenate([base.x[:own], strange]), np.arange(0)
    splits = {"train": np.arange(len(x)), "valid": none, "test": none}
    mixed = assemble(x, None, (), splits, levels=base.levels, name="mixed")
    far, _ = search.strangeness(measures.measure(mixed))
    found = np.flatnonzero(search.surprising(search.rarity(far), 1.0))
    assert set(range(own, own + strangers)) <= set(found.tolist())
    assert len(found) <= strangers + (strangers == 20)


def test_a_tail_is_read_off_the_set_and_few_finds_are_chance():
    rng = np.random.default_rng(0)
    plain = rng.exponential(size=20_000)
    rarity = search.rarity(plain)
    assert rarity == pytest.approx(plain / np.log(10), abs=0.3, rel=0.1)  # of an exponential tail
    assert search.surprising(rarity, 1.0).sum() <= 2
    mixed = np.concatenate([plain, rng.uniform(14, 16, 60)])
    chosen = search.surprising(search.rarity(mixed), 1.0)
    assert chosen[20_000:].all()
    assert chosen[:20_000].sum() <= 10
    assert search.surprising(search.rarity(mixed), 7.0).sum() == 0
    for flat in (np.ones(5), np.zeros(1)):
        assert not search.surprising(search.rarity(flat), 1.0).any()


def test_every_issue_has_its_evidence(planted):
    dataset, result, wrong = planted
    issues = {issue.image: issue for kind in result.by_kind().values() for issue in kind}
    assert issues[301].others == (70,)
    assert issues[301].sentence == "Image 70 (test) has the same pixels."
    assert issues[301].split == "train"
    assert "shifted by 1 px across" in issues[302].sentence
    assert "shifted by 1 px up or down" in issues[303].sentence
    assert issues[wrong[0]].label == 1 - dataset.y[wrong[0]]
    assert issues[wrong[0]].sentence.startswith("Labelled b")
    for issue in result.issues:
        assert issue.sentence.endswith(".")
        assert issue.image not in issue.others
    for kind in result.by_kind().values():
        assert [i.score for i in kind] == sorted((i.score for i in kind), reverse=True)
    for fact in ("balance", "diversity", "coverage", "accuracy"):
        assert result.overview[fact]["sentence"].endswith(".")
    index, places = result.map
    assert len(index) == len(places) == 100
    assert {300, 301, 302, 303, 304, 305} <= set(index.tolist())


def test_findings_survive_the_disk(planted, here, tmp_path):
    dataset, result, _ = planted
    kept = datasets.save("shapes", dataset)
    job = kinds.submit("inspect", {"dataset": "shapes"}, {"inspect.map": 100})
    assert quality.findings(job) is None
    assert quality.newest(kept) is not None  # it waits
    worker.work(job.path)
    job = jobs.get(job.id)
    assert job.status == "finished", job.message
    back = quality.findings(job)
    assert back is not None
    assert back.counts == result.counts
    plain = [[replace(issue, score=0.0) for issue in each.issues] for each in (back, result)]
    assert plain[0] == plain[1]
    scores = [[issue.score for issue in each.issues] for each in (back, result)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)  # a worker has other threads
    assert set(back.scores) == {"distance", "doubt"}
    for name, of in back.scores.items():
        assert of == pytest.approx(result.scores[name], rel=1e-3, abs=1e-4, nan_ok=True)
    wrong = [issue.image for issue in back.issues if issue.kind == "label"]
    doubt = np.nan_to_num(back.scores["doubt"], nan=-1.0)
    assert set(np.argsort(-doubt)[: len(wrong)]) == set(wrong)  # the most doubtful are the suspects
    assert back.scores["distance"].argmax() == 305  # nothing like the others
    newest = quality.newest(kept)
    assert newest is not None
    assert newest.id == job.id
    (job.path / "scores.npz").unlink()
    (job.path / "findings.json").touch()
    older = quality.findings(job)
    assert older is not None
    assert (older.scores, older.counts) == ({}, back.counts)
    (job.path / "findings.json").write_text(json.dumps({"map": [[], []]}))
    with pytest.raises(UserError, match=r"findings\.json is damaged .* Delete this inspection"):
        quality.findings(jobs.get(job.id))


@pytest.mark.parametrize(
    ("n", "size", "channels", "labelled"),
    [(1, 8, 1, False), (1, 8, 3, True), (9, 8, 3, True), (40, 128, 3, False), (40, 8, 1, True)],
)
def test_small_and_large_images_one_image_and_no_labels_are_inspected(n, size, channels, labelled):
    x, y, _ = shapes(n, size, channels)
    held = min(2, n // 4)
    result = found(dataset_of(x, y if labelled else None, held))
    assert result.n == n
    assert "label" not in result.counts or labelled
    assert result.overview["labels"]["reason"] != "" or result.overview["labels"]["judged"]


def test_a_class_of_one_and_a_constant_set_are_no_trouble():
    x, y, _ = shapes(40, 8)
    y[:] = 0
    y[30] = 1
    assert 30 not in [i.image for i in found(dataset_of(x, y, 5)).issues if i.kind == "label"]
    flat = np.full((30, 1, 8, 8), 9, np.uint8)
    assert found(dataset_of(flat, None, 4)).counts == {"blank": 30}


def test_imported_sizes_are_looked_at():
    x, y, _ = shapes(40)
    wide, high = np.full(40, 200), np.full(40, 200)
    wide[3], high[3] = 10, 10
    wide[4] = 600
    dataset = dataset_of(x, y, 5, attributes={"width": wide, "height": high})
    issues = {i.image: i.sentence for i in found(dataset).issues if i.kind == "size"}
    assert issues == {
        3: "It was 10 × 10 px, less than the 16 px here.",
        4: "It was 600 × 200 px; the usual shape is 1.00 times as wide as high.",
    }


# --- Truth ------------------------------------------------------------------------------------------------------------


def test_ridge_leaves_its_own_fold_out():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((60, 5))).float()
    y = torch.from_numpy(rng.integers(0, 3, 60))
    keys = rng.integers(0, 2**63, 60).astype(np.uint64)
    scores = labels.out_of_fold(features, y, 3, keys, [0.003])
    fold = (keys % np.uint64(labels.FOLDS)).astype(int)
    rows = np.flatnonzero(fold != 2)
    target = np.eye(3)[y.numpy()]
    f = features.double().numpy()
    centre = target.mean(0)
    weight = np.linalg.solve(
        f[rows].T @ f[rows] + 0.003 * 60 * np.eye(5), f[rows].T @ (target[rows] - centre)
    )
    mine = np.flatnonzero(fold == 2)
    assert np.allclose(scores.numpy()[mine], f[mine] @ weight + centre, atol=1e-4)


def test_fewer_images_than_numbers_are_predicted_the_same():
    generator = torch.Generator().manual_seed(0)
    features, y = torch.randn(20, 64, generator=generator), torch.arange(20) % 2
    keys = np.arange(20).astype(np.uint64)
    turned = labels.out_of_fold(features, y, 2, keys, [0.1])
    features = torch.cat([features, torch.zeros(20, 1)], 1)[:, :40]  # 40 of 20: not turned
    same = labels.out_of_fold(features, y, 2, keys, [0.1])
    again = labels.out_of_fold(torch.cat([features, torch.zeros(20, 24)], 1), y, 2, keys, [0.1])
    assert torch.allclose(same, again, atol=1e-4)
    assert not torch.allclose(same, turned, atol=1e-2)


def test_confident_learning_follows_the_paper_by_hand():
    chances = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.9, 0.1]])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    # bars: class 0 (0.9 + 0.7 + 0.8) / 3 = 0.8, class 1 (0.7 + 0.9 + 0.1) / 3 = 0.567
    assert labels.confident(chances, y).tolist() == [-1] * 5 + [0]
    doubts = labels.doubts(chances, y, 0.2)
    assert doubts.suspect.tolist() == [False] * 5 + [True]
    assert doubts.named[5] == 0
    assert doubts.accuracy == pytest.approx(5 / 6)
    # by Bayes: exchanged 0.2 * 0.9, right 0.8 * 0.1
    assert doubts.wrong[5] == pytest.approx(0.18 / 0.26)
    # exchanged ones that are then called surely wrong: all six at 0.2 have 0.2 (1 - p) > 0.8 p below p = 0.2
    assert doubts.recall == 0.0  # at 1 in 20 below p = 0.05, and none is
    sharp = torch.tensor([[0.96, 0.04], [0.04, 0.96], [0.94, 0.06], [0.3, 0.7]])
    assert labels.doubts(sharp, torch.tensor([0, 1, 0, 1]), 0.2).recall == pytest.approx(0.5)


@pytest.mark.parametrize("case", ["two", "uneven", "ten", "unsure"])
def test_cleanlab_calls_the_same_labels_wrong_and_ranks_them_alike(case):
    kept = np.load(Path(__file__).parent / "oracles" / "labels.npz")
    chances, given = (torch.from_numpy(kept[f"{case}/{name}"]) for name in ("chances", "given"))
    assert torch.equal(
        labels.confident(chances, given) >= 0, torch.from_numpy(kept[f"{case}/wrong"])
    )
    own = labels.doubts(chances, given, 0.1).chance[0]
    assert np.argsort(own, kind="stable").tolist() == kept[f"{case}/order"].tolist()


def simulated(n: int, sure: float, wrong: float, classes: int = 4):
    """Features of which ``sure`` says how plainly they tell the class, and labels of which a share is wrong."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % classes
    features = rng.standard_normal((n, 12))
    features[:, :classes] += sure * np.eye(classes)[truth]
    flipped = rng.permutation(n)[: round(wrong * n)]
    y = truth.copy()
    y[flipped] = (y[flipped] + rng.integers(1, classes, len(flipped))) % classes
    return (
        torch.from_numpy(features).float(),
        y,
        rng.integers(0, 2**63, n).astype(np.uint64),
        flipped,
    )


def judged(n: int, sure: float, wrong: float, classes: int = 4):
    features, y, keys, flipped = simulated(n, sure, wrong, classes)
    names = [f"class {k}" for k in range(classes)]
    return labels.judge(features, y, names, keys, np.zeros(n, bool)), flipped


@pytest.mark.parametrize("wrong", [0.03, 0.1, 0.2])
def test_the_share_of_suspects_that_is_really_wrong_is_estimated(wrong):
    found, flipped = judged(1200, 6.0, wrong)
    suspects = found.rows[found.suspect]
    real = np.isin(suspects, flipped).mean()
    assert found.summary["judged"]
    assert found.summary["suspects"] == len(suspects)
    assert found.summary["precision"] == pytest.approx(real, abs=0.12)
    assert np.isin(flipped, suspects).mean() > 0.85
    assert labels.judge(*_args(1200, 6.0, 0.0)).summary["suspects"] <= 2


def _args(n: int, sure: float, wrong: float):
    features, y, keys, _ = simulated(n, sure, wrong)
    return features, y, list("abcd"), keys, np.zeros(n, bool)


@pytest.mark.parametrize(("sure", "wrong"), [(1.0, 0.0), (1.0, 0.1), (0.0, 0.0)])
def test_a_predictor_that_is_often_wrong_calls_no_label_wrong(sure, wrong):
    found, _ = judged(600, sure, wrong)
    facts = found.summary
    assert (facts["judged"], facts["suspects"], facts["precision"]) == (False, 0, None)
    assert not found.suspect.any()
    assert len(found.look) <= labels.LOOK
    known = sets.percent(facts["accuracy"])
    assert facts["sentence"].startswith(
        f"Labels cannot be judged on this set, because the predictor behind it names {known} of the labels (each image "
        "by others, n = 600), and of labels that are exchanged at random it would find "
    )
    assert facts["sentence"].endswith("less than 80 %. No label is called wrong.")


def test_the_limit_of_what_can_be_judged_is_the_one_that_is_told(monkeypatch):
    found = judged(600, 3.0, 0.05)[0].summary["found"]
    for limit, passes in ((found, True), (found + 1e-6, False)):
        monkeypatch.setattr(labels, "RELIABLE", limit)
        facts = judged(600, 3.0, 0.05)[0].summary
        assert facts["judged"] is passes
        assert ("exchanged at random" in facts["reason"]) is not passes


def test_suspects_of_which_less_than_half_are_wrong_are_not_called_so(monkeypatch):
    monkeypatch.setattr(labels, "RELIABLE", 0.0)
    share = judged(600, 4.0, 0.05)[0].summary["precision"]
    for limit, passes in ((share, True), (1.01, False)):
        monkeypatch.setattr(labels, "REAL", limit)
        monkeypatch.setattr(labels, "_BARS", labels._BARS if passes else (labels.SURE,))
        facts = judged(600, 4.0, 0.05)[0].summary
        assert facts["judged"] is passes
        assert ("of the labels that it doubts only about" in facts["reason"]) is not passes


def test_fewer_labels_than_are_needed_are_not_judged():
    for n, passes in ((labels.LEAST, True), (labels.LEAST - 1, False)):
        facts = judged(n, 6.0, 0.0, 2)[0].summary
        assert facts["judged"] is passes
        assert facts["reason"] == (
            ""
            if passes
            else "at least 100 labels of classes with 20 images are needed, and there are 99"
        )


def test_a_class_needs_enough_images_before_a_label_of_it_is_judged():
    features, y, keys, _ = simulated(400, 6.0, 0.0)
    names = ["a", "b", "c", "rare"]
    for many in (labels.ENOUGH - 1, labels.ENOUGH):
        kept = np.flatnonzero((y < 3) | (np.cumsum(y == 3) <= many))
        mine = y[kept].copy()
        mine[np.flatnonzero(mine == 0)[:3]] = 1
        found = labels.judge(features[kept], mine, names, keys[kept], np.zeros(len(kept), bool))
        assert found.summary["judged"]
        assert (3 in mine[found.rows]) is (many == labels.ENOUGH)
        assert ("left out: rare." in found.summary["sentence"]) is (many < labels.ENOUGH)
    alone = np.flatnonzero((y == 0) | (np.cumsum(y == 3) <= 2) & (y == 3))
    found = labels.judge(features[alone], y[alone], names, keys[alone], np.zeros(len(alone), bool))
    assert (
        found.summary["reason"] == "fewer than two of its classes have at least 20 images (n = 102)"
    )
    assert not len(found.look)


@pytest.mark.parametrize("labelled", [True, False])
def test_labels_that_cannot_be_looked_at_are_told(labelled):
    x, _, _ = shapes(30, 8)
    one = dataset_of(x, np.zeros(30, np.int64) if labelled else None, 5, classes=("bar",))
    look = quality.Survey(one, InspectConfig(), measures.measure(one), np.zeros(30, np.int64))
    assert look.judgement is None
    told = look.overview["labels"]
    assert told["reason"] == (
        "there is only one class" if labelled else "the images have no labels"
    )
    assert not told["judged"]


def test_drawn_faces_with_flipped_labels_are_judged():
    base = datasets.load("faces", {"size": 32, "count": 400})
    rng, y = np.random.default_rng(0), np.array(base.y)
    flipped = rng.permutation(400)[:20]
    y[flipped] = (y[flipped] + rng.integers(1, 5, 20)) % 5
    found = labels.judge(
        measures.measure(base).features,
        y,
        base.classes,
        np.arange(400).astype(np.uint64),
        np.zeros(400, bool),
    )
    assert found.summary["judged"]
    hits = np.isin(np.argsort(found.chance[0]), flipped)
    average = (np.cumsum(hits) / np.arange(1, 401))[hits].mean()
    assert average >= 0.8


def test_a_class_that_no_label_names_is_told():
    x, y, _ = shapes(40, 8)
    fact = sets.balance(dataset_of(x, y, 5, classes=("bar", "blob", "Ring")))
    assert fact["empty"] == ["Ring"]
    assert fact["sentence"].endswith("No label names this class: Ring.")
    assert sets.balance(dataset_of(x, y, 5))["sentence"].startswith(
        "Even: each class has 20 images;"
    )


def test_a_robust_deviation_is_that_of_normal_values():
    scored = search.robust(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert scored[4] == pytest.approx(2 / 1.4826)
    normal = np.random.default_rng(0).standard_normal(20_000)
    assert search.robust(normal).std() == pytest.approx(1.0, abs=0.02)


# --- Copies -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contradicting():
    """Shapes of the classes Box and Ring: pairs and a group of three with two labels, and one near copy."""
    x, y, _ = shapes(300)
    x[250], x[251] = x[200], x[201]
    y[250], y[251] = 1 - y[200], y[201]
    x[252] = x[253] = x[202]  # three, of which two agree
    y[252], y[253] = y[202], 1 - y[202]
    x[254], y[254] = x[10], 1 - y[10]  # the other one is held out
    x[255] = np.roll(x[203], 1, 2)
    y[255] = 1 - y[203]
    dataset = dataset_of(x, y, classes=("Box", "Ring"))
    return dataset, found(dataset)


def test_contradicting_copies_are_a_kind_of_their_own_and_no_duplicates(contradicting):
    dataset, result = contradicting
    by = result.by_kind()
    groups = {tuple(sorted((issue.image, *issue.others))) for issue in by["contradiction"]}
    assert {(200, 250), (202, 252, 253), (10, 254), (203, 255)} <= groups
    assert [issue.image for issue in by["exact"]] == [251, 252]  # of equal labels only
    assert 254 not in [issue.image for issue in by.get("leak", [])]
    assert 255 not in [issue.image for issue in by.get("near", [])]
    said = next(
        issue.sentence for issue in by["contradiction"] if 202 in (issue.image, *issue.others)
    )
    two = sorted([("Box", "Ring")[dataset.y[202]], ("Box", "Ring")[dataset.y[253]]])
    assert two == ["Box", "Ring"]
    assert "Box (image" in said
    assert "Ring (image" in said
    near = next(issue for issue in by["contradiction"] if issue.image == 255)
    assert near.sentence.startswith(
        "Image 203 (train) is the same, shifted by 1 px across, but for"
    )
    assert "Their labels differ: " in near.sentence
    assert not {200, 202, 250, 253, 254} & {i.image for i in by.get("label", [])}
    assert quality.checks.get("contradiction").single


def test_a_person_says_which_label_of_copies_is_right(contradicting):
    dataset, _ = contradicting
    group, right = [202, 252, 253], int(dataset.y[202])
    book = decisions.settle(dataset, group, right, seen=0)
    assert book.state == {202: ("accept", None), 252: ("accept", None), 253: ("relabel", right)}
    assert book.summary["changed"] == 1
    book = decisions.settle(dataset, group, 1 - right, one=True, seen=book.version)
    assert book.state == {202: ("exclude", None), 252: ("exclude", None), 253: ("accept", None)}
    # of one press, for one Undo
    assert list(book.new) == [entry.id for entry in book.entries[1:]]
    assert len(book.new) == 2
    book = decisions.settle(dataset, [10, 254], int(dataset.y[10]), one=True, seen=book.version)
    assert book.state[254] == ("exclude", None)
    assert 10 not in book.state  # the one that is held out stays, as it was
    with pytest.raises(UserError, match="None of the images 10, 11 has the label"):
        decisions.settle(dataset, [10, 11], 7, one=True, seen=book.version)


PLANTED = {
    "mirrored": lambda x: x[..., ::-1],
    "turned": lambda x: np.rot90(x, axes=(-2, -1)),
    "cropped": lambda x: np.kron(x[..., 4:12, 4:12], np.ones((2, 2), x.dtype)),
    "brighter": lambda x: (x * 0.7 + 75).astype(np.uint8),
    "of other contrast": lambda x: ((x - 128.0) * 0.6 + 128).clip(0, 255).astype(np.uint8),
}


def test_what_the_checks_for_copies_cannot_see_is_said_and_true():
    rng = np.random.default_rng(0)
    rough = np.kron(rng.integers(0, 200, (200, 1, 4, 4)), np.ones((4, 4), int))
    x, n = (rough + rng.integers(0, 50, rough.shape)).astype(np.uint8), 20
    said = " ".join(quality.checks.get(kind).blind for kind in ("exact", "near"))
    for word, change in PLANTED.items():
        assert word in said
        assert copies(x, [change(image) for image in x[:n]]) <= 1, word
    assert copies(x, np.roll(x[:n], 1, 3)) >= n / 2  # what is looked for is mostly found
    assert copies(x, x[:n]) == n


def copies(x, planted) -> int:
    """Counts the planted copies that are found with the image that they were made of."""
    whole, none = np.concatenate([x, np.stack(list(planted))]), np.arange(0)
    splits = {"train": np.arange(len(whole)), "valid": none, "test": none}
    dataset = assemble(whole, None, (), splits, name="copies")
    known = measures.measure(dataset)
    near = search.near(dataset, known, np.zeros(len(whole), bool))
    pairs = {(pair.a, pair.b) for pair in near}
    pairs |= {(int(group[0]), int(group[1])) for group in search.same(known.keys)}
    return sum((i, len(x) + i) in pairs for i in range(len(planted)))


def test_every_check_for_copies_and_strangers_says_what_it_compared(planted):
    _, result, _ = planted
    rows = {row["name"]: row for row in result.looked()}
    assert list(rows) == ["contradiction", "exact", "leak", "near", "near_leak", "group", "outlier"]
    assert (rows["exact"]["found"], rows["contradiction"]["found"]) == (1, 0)
    parts = [row[part] for row in rows.values() for part in ("compared", "cannot_see")]
    assert all(part.endswith(".") for part in parts)


def test_a_vendi_score_counts_what_differs():
    assert sets.vendi(np.eye(4)) == pytest.approx(4)
    assert sets.vendi(np.ones((5, 3))) == pytest.approx(1)
    assert sets.vendi(np.repeat(np.eye(2), 3, 0)) == pytest.approx(2)


def test_spectra_do_not_see_a_shift_and_neighbours_are_exact():
    x = torch.zeros(2, 1, 16, 16)
    x[:, :, 5:9, 6:9] = torch.rand(1, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    x[1] = torch.roll(x[1], (1, 2), (1, 2))
    one, two = measures.spectra(x)
    assert torch.allclose(one, two, atol=1e-5)
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    away, index = search.nearest(rows, rows, 3)
    exact = torch.cdist(rows.double(), rows.double()).sort(1)
    assert torch.equal(index, exact.indices[:, :3])
    assert torch.allclose(away.double(), exact.values[:, :3], atol=2e-3)


def test_biases_are_shares_of_variance():
    x, y, _ = shapes(80)
    x[y == 0] //= 4
    fact = sets.biases(dataset_of(x, y, 10), measures.measure(dataset_of(x, y, 10)))[0]
    values = x.mean((1, 2, 3)) / 255
    means = np.array([values[y == k].mean() for k in (0, 1)])
    between = 40 * np.square(means - values.mean()).sum() / np.square(values - values.mean()).sum()
    by = {
        f["property"]: f["share"]
        for f in sets.biases(dataset_of(x, y, 10), measures.measure(dataset_of(x, y, 10)))
    }
    assert by["brightness"] == pytest.approx(between, rel=1e-3)
    assert fact["sentence"].endswith(").")


def test_copies_and_noise_are_told_from_real_images():
    x, y, rng = shapes(400)
    real = dataset_of(x, y, 80)
    train = x[real.splits["train"]]
    copies = sets.compare(real, dataset_of(train[:100].copy(), None, 10), n=100)
    assert copies["copying_low"] > 0.6
    assert "they repeat it" in copies["sentence"]
    noise = rng.integers(0, 256, (100, 1, 16, 16)).astype(np.uint8)
    far = sets.compare(real, dataset_of(noise, None, 10), n=100)
    assert far["precision"] < 0.1 < far["floor"]["precision"]
    with pytest.raises(
        UserError, match=r"Both sets need images of one kind: shapes has 1 × 16 px, shapes 3 × 8"
    ):
        sets.compare(real, dataset_of(np.zeros((40, 3, 8, 8), np.uint8), None, 5))


# --- Decisions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole():
    x, y, _ = shapes(60)
    return dataset_of(x, y, 10)


def test_decisions_hold_until_they_are_undone(whole):
    book = decisions.open(whole)
    assert (book.version, book.state) == (0, {})
    book = decisions.decide(whole, "exclude", [3, 40, 3], kind="near", who="Ada", seen=0)
    book = decisions.decide(whole, "relabel", [41, 42], [0, 1], who="Ada", seen=book.version)
    book = decisions.decide(whole, "accept", [40], seen=book.version)
    assert book.state == {
        3: ("exclude", None), 40: ("accept", None), 41: ("relabel", 0), 42: ("relabel", 1),
    }  # fmt: skip
    assert book.summary["sentence"] == "1 left out, 2 relabelled, 1 kept."
    assert book.entries[0].images == (3, 40)
    book = decisions.undo(whole, book.entries[2].id, seen=book.version)
    assert book.state[40] == ("exclude", None)
    assert [entry.undone for entry in book.entries] == [False, False, True]
    set_right = decisions.decide(whole, "relabel", [40, 41], 0, seen=book.version)
    assert set_right.news == (
        "1 of them was already relabelled: new for 1. Image 40 was left out until now, and no longer."
    )
    decisions.undo(whole, set_right.new[0], seen=set_right.version)
    with pytest.raises(UserError, match="is undone already"):
        decisions.undo(whole, book.entries[2].id, seen=book.version)
    with pytest.raises(UserError, match="There is no decision 'x'"):
        decisions.undo(whole, "x", seen=book.version)


def test_a_decision_keeps_its_reason_and_is_found_by_its_image(whole, home):
    book = decisions.decide(whole, "exclude", [3, 40], kind="near", reason="  too \n dark ", seen=0)
    (first,) = book.new
    assert book.about(40) == book.entries[0]
    assert (book.entries[0].id, book.entries[0].reason) == (first, "too dark")
    assert decisions.told(book.entries[0]) == "2 × left out: images 3, 40. too dark"
    again = decisions.decide(whole, "exclude", [3], reason="again", seen=book.version)
    assert again.new == ()  # nothing was written
    book = decisions.decide(whole, "accept", [40], kind="near", seen=book.version)
    assert decisions.told(book.entries[1]) == "1 × kept: image 40. Near duplicates."
    undone = decisions.undo(whole, book.new[0], seen=book.version)
    assert undone.about(40) == book.entries[0]
    assert undone.about(5) is None
    older = json.dumps({"id": "q", "time": 1, "who": "", "action": "exclude", "images": [9]})
    (log,) = (home / "decisions").rglob("log.jsonl")
    log.write_text(log.read_text() + older + "\n")  # as it was written before there were reasons
    found = decisions.open(whole).about(9)
    assert found is not None
    assert decisions.told(found) == "1 × left out: image 9"


def test_the_most_alike_come_first_and_brightness_is_the_mean(whole):
    seen = likeness.likeness(whole)
    x = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(whole.x) / 255, 14).flatten(1)
    for item in (0, 31):
        order = seen.alike(item)
        assert order[0] == item
        assert sorted(order) == list(range(60))
        away = (x - x[item]).norm(dim=1)[order.tolist()]
        assert (away[1:] - away[:-1] > -1e-5).all()
    assert seen.brightness == pytest.approx(whole.x.mean((1, 2, 3)) / 255, abs=1e-6)
    assert likeness.likeness(whole) is seen  # one pass for one content


def test_the_second_of_two_people_is_told_and_nothing_is_lost(whole):
    seen = decisions.open(whole).version
    decisions.decide(whole, "exclude", [1, 2], who="Ada", seen=seen)
    with pytest.raises(
        UserError,
        match=r"Ada decided about one of the same images at \d\d:\d\d, after you looked\.",
    ):
        decisions.decide(whole, "accept", [2, 3], who="Bob", seen=seen)
    assert set(decisions.open(whole).state) == {1, 2}
    book = decisions.decide(whole, "accept", [3], who="Bob", seen=seen)
    assert book.news == "Ada decided about 2 other images meanwhile."
    assert set(book.state) == {1, 2, 3}
    with pytest.raises(UserError, match=r"Bob decided about one of the same images"):
        decisions.undo(whole, book.entries[1].id, who="Ada", seen=1)
    again = decisions.decide(whole, "exclude", [3], who="Ada", seen=book.version)
    assert again.news == ""
    assert again.state[3] == ("exclude", None)


def test_a_damaged_log_is_told_and_the_rest_holds(whole, home):
    book = decisions.decide(whole, "exclude", [1], seen=0)
    decisions.decide(whole, "exclude", [2], seen=book.version)
    (log,) = (home / "decisions").rglob("log.jsonl")
    first, second = log.read_text().splitlines()
    outside = json.dumps({"id": "q", "time": 1, "who": "", "action": "exclude", "images": [999]})
    log.write_text("\n".join([first, second[: len(second) // 2], outside, ""]))
    book = decisions.open(whole)
    assert set(book.state) == {1}
    assert "log.jsonl is damaged: 2 lines are not readable and left out." in book.damaged
    book = decisions.decide(whole, "exclude", [5], seen=book.version)
    assert set(book.state) == {1, 5}


@pytest.mark.parametrize(
    ("action", "images", "label", "text"),
    [
        ("remove", [1], None, "There is no decision 'remove'"),
        ("exclude", [], None, "A decision needs at least 1 image, got none"),
        ("exclude", [60], None, "There is no image 60: shapes has images 0 to 59"),
        ("relabel", [1], 2, "A new label must be a class 0 to 1 for each image, got 2"),
        ("relabel", [1, 2], [0], "A new label must be a class 0 to 1 for each image"),
    ],
)  # fmt: skip
def test_a_decision_that_means_nothing_is_refused(whole, action, images, label, text):
    with pytest.raises(UserError, match=text):
        decisions.decide(whole, action, images, label, seen=0)
    assert decisions.open(whole).version == 0


def test_what_is_decided_already_is_not_decided_again(whole):
    book = decisions.decide(whole, "exclude", [3, 4], seen=0)
    again = decisions.decide(whole, "exclude", [3, 4], seen=book.version)
    assert again.version == book.version
    assert again.news == "Nothing is new: images 3, 4 were already left out."
    more = decisions.decide(whole, "exclude", [4, 5], seen=book.version)
    assert more.news == "1 of them was already left out: new for 1."
    assert [entry.images for entry in more.entries] == [(3, 4), (5,)]
    own = int(whole.y[7])
    book = decisions.decide(whole, "relabel", [7, 8], [own, 1 - int(whole.y[8])], seen=more.version)
    assert book.state[7] == ("accept", None)  # it has that label
    again = decisions.decide(whole, "relabel", [7], own, seen=book.version)
    assert again.version == book.version
    assert decisions.named((7,)) == "image 7"
    assert decisions.named(tuple(range(9))) == "images 0, 1, 2, 3, 4 and 4 more"


def test_a_version_without_a_name_takes_the_next_free_one(whole):
    decisions.decide(whole, "exclude", [3], seen=0)
    assert decisions.version_name(whole) == "shapes-2"
    second = decisions.apply(whole, "")
    assert second.name == "shapes-2"
    assert decisions.version_name(whole) == "shapes-3"
    decisions.decide(second, "exclude", [3], seen=0)
    assert decisions.apply(second, " ").name == "shapes-3"
    assert decisions.version_name(replace(whole, name="cifar-10")) == "cifar-10-2"


def test_a_version_does_what_was_decided_and_keeps_its_parent(whole, setting):
    with pytest.raises(UserError, match="Nothing of shapes is left out, relabelled or repaired"):
        decisions.apply(whole, "clean")
    book = decisions.decide(whole, "exclude", [0, 15, 30], seen=0)  # valid, test, train
    book = decisions.decide(whole, "relabel", [41], 0, seen=book.version)
    assert book.summary["test"] == 1
    assert book.summary["warning"].startswith("1 of the changed images lie in the test split")
    made = decisions.apply(whole, "clean", who="Ada")
    assert (made.parent, len(made)) == (whole.fingerprint, 57)
    assert {name: len(index) for name, index in made.splits.items()} == {
        "train": 39,
        "valid": 9,
        "test": 9,
    }
    kept = np.setdiff1d(np.arange(60), [0, 15, 30])
    assert np.array_equal(made.x, whole.x[kept])
    assert whole.y is not None
    assert made.y is not None
    changed = np.flatnonzero(made.y != whole.y[kept])
    assert kept[changed].tolist() == [41]
    assert made.source["origin"]["changes"]["excluded"] == 3
    assert "Made from shapes: 3 images left out, 1 relabelled." in made.notes
    assert datasets.load("clean").fingerprint == made.fingerprint
    decisions.decide(whole, "exclude", list(range(55)), seen=decisions.open(whole).version)
    with pytest.raises(UserError, match=r"Only 5 images would be left, and at least 8 are needed"):
        decisions.apply(whole, "few")
    setting(view_only=1)
    for act in (
        lambda: decisions.decide(whole, "accept", [1], seen=0),
        lambda: decisions.apply(whole, "other"),
    ):
        with pytest.raises(UserError, match="This server is for viewing only"):
            act()


def test_an_augmented_image_still_names_the_one_that_it_was_made_from(whole):
    parents = np.full(60, -1)
    parents[30:] = np.arange(30)
    made = replace(whole, attributes={"parent": parents, "own": np.arange(60)})
    kept = np.setdiff1d(np.arange(60), [0, 12])
    left = decisions.derived(made, kept, made.y, [], {}).attributes
    assert left is not None
    for parent, own in zip(left["parent"], left["own"], strict=True):
        wanted = parents[own] if parents[own] not in (0, 12) else -1  # it was left out
        assert (left["own"][parent] if parent >= 0 else -1) == wanted


@pytest.mark.parametrize(
    "own", [np.array(list("abcdef") * 10), np.linspace(-1, 9, 60), np.arange(60) + 900]
)
def test_a_column_of_an_import_that_is_called_parent_stays_as_it_is(whole, own):
    kept = np.arange(3, 60)
    left = decisions.derived(
        replace(whole, attributes={"parent": own}), kept, whole.y, [], {}
    ).attributes
    assert left is not None
    assert np.array_equal(left["parent"], own[kept])


def test_a_check_is_one_file(tmp_path, monkeypatch):
    folder = tmp_path / "more_checks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "first.py").write_text(
        "from core.catalog import Config\n"
        "from core.quality.check import Issue, checks\n\n\n"
        '@checks.add("first", "First", Config, order=-1, remedy="look")\n'
        "def first(survey):\n"
        '    """Images that come first."""\n'
        '    yield Issue(0, 1.0, "It comes first.")\n',
        "utf-8",
    )
    monkeypatch.setattr(
        quality.checks,
        "_entries",
        {name: quality.checks.get(name) for name in quality.checks.names()},
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(check, "PACKAGE", "more_checks")
    assert quality.checks.names()[:2] == ["first", "blank"]
    seen = found(dataset_of(shapes(200)[0]))
    assert seen.counts["first"] == 1
    assert seen.by_kind()["first"][0].sentence == "It comes first."

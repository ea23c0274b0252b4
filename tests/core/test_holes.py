"""What is not known of a picture: frames and boxes, a repaired image that takes another's place, and the step that hides."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from core import datasets
from core.building import marks
from core.building.version import generators, provenance
from core.catalog import UserError
from core.datasets.dataset import assemble
from core.latent import holes
from core.quality import decisions

# --- Frames and boxes ---------------------------------------------------------------------------


def test_a_picture_stands_in_its_frame_scaled_down():
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    frame, known = holes.framed(x, 0.5, "middle")
    assert known.sum() == 16
    blocks = x.view(1, 3, 4, 2, 4, 2).mean((3, 5))  # each pixel is the mean of four
    assert torch.allclose(frame[:, :, 2:6, 2:6], blocks, atol=1e-6)
    assert float(frame[:, :, ~known].abs().max()) == 0
    corners = {"left": (2, 0), "right": (2, 4), "top": (0, 2), "bottom": (4, 2)}
    for place, (top, left) in corners.items():
        _, known = holes.framed(x, 0.5, place)
        assert bool(known[top : top + 4, left : left + 4].all()), place
    whole, known = holes.framed(x, 1.0, "left")
    assert bool(known.all())
    assert torch.equal(whole, x)


@pytest.mark.parametrize(
    ("share", "place", "said"),
    [
        (0.1, "left", "0.2 to 1 of its frame's side, got 0.1"),
        (float("nan"), "left", "got nan"),
        (0.5, "corner", "one of middle, left, right, top, bottom in its frame, got 'corner'"),
    ],
)
def test_a_frame_that_is_none_is_refused(share, place, said):
    with pytest.raises(UserError, match=said):
        holes.framed(torch.zeros(1, 1, 8, 8), share, place)


def test_boxes_are_the_mask_and_no_more():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random((7, 11)) < share
        counted = np.zeros(mask.shape, int)
        for x, y, w, h in holes.boxes(mask):
            counted[y : y + h, x : x + w] += 1
        assert (counted == mask).all()  # each pixel in one box only
    one = np.zeros((8, 8), bool)
    one[2:5, 3:7] = True
    assert holes.boxes(one) == [[3, 2, 4, 3]]


# --- A repaired image takes another's place -----------------------------------------------------


@pytest.fixture
def whole(home):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
    splits = {"train": np.arange(30), "valid": np.arange(30, 34), "test": np.arange(34, 40)}
    return assemble(x, rng.integers(0, 2, 40), ("a", "b"), splits, levels=17, name="small")


def repaired(dataset, image, seen=0, **more):
    item = dataset.x[image].copy()
    item[:, 2:6, 2:6] = 16 - item[:, 2:6, 2:6]
    how = {"method": "search", "hole": [[2, 2, 4, 4]], "fill": 1, "label": None}
    choice = {"run": "some-run", "seed": 5, "how": how, "who": "Ada"} | more
    return item, decisions.repair(dataset, image, item, seen=seen, **choice)


def test_a_repaired_image_takes_the_place_of_another_in_its_split(whole):
    item, book = repaired(whole, 36)
    assert book.summary["sentence"] == "1 repaired."
    assert "1 of the changed images lie in the test split" in book.summary["warning"]
    assert (
        decisions.told(book.entries[0]) == "1 × repaired: image 36. A part was filled by some-run."
    )
    assert book.about(36) is None  # of its label nobody has decided
    assert (decisions.repaired_item(whole, book, 36) == item).all()
    book = decisions.decide(whole, "relabel", [36], 1 - int(whole.y[36]), seen=book.version)
    book = decisions.decide(whole, "exclude", [3], seen=book.version)
    version = decisions.apply(whole, "next", "Ada")
    at = 35  # one before it is left out
    assert len(version) == 39
    assert (version.x[at] == item).all()
    assert version.y[at] == 1 - whole.y[36]
    assert at in version.splits["test"]
    same = np.delete(np.arange(40), [3, 36])
    assert (np.delete(version.x, at, 0) == whole.x[same]).all()
    columns = provenance(version)
    assert columns["origin"].tolist() == ["real"] * at + ["augmented"] + ["real"] * 3
    assert (generators(version)[at], int(columns["seed"][at])) == ("some-run", 5)
    said = json.loads(columns["parameters"][at])
    assert said["of"] == "small:36"
    assert said["steps"][0]["hole"] == [[2, 2, 4, 4]]
    assert version.parent == whole.fingerprint
    assert version.source["origin"]["changes"]["repaired"] == 1
    assert "1 repaired" in version.notes[-2]
    # a picture of it that leaves says that a model made it in part
    told = marks.source_type(*(str(columns[c][at]) for c in ("origin", "run", "parameters")))
    assert told == "compositeWithTrainedAlgorithmicMedia"
    assert (datasets.load("next").x == version.x).all()


def test_what_was_repaired_is_told_as_other_pixels_of_the_same_image(whole):
    from core import building

    before = datasets.save("base", whole)
    book = decisions.decide(before, "exclude", [3, 20], seen=0)
    _, book = repaired(before, 36, seen=book.version)
    version = decisions.apply(before, "next")
    found = building.compare(before, version)
    assert found.counts == {"gone": 2, "came": 0, "label": 0, "pixels": 1, "split": 0, "same": 37}
    assert found.pairs["pixels"].tolist() == [[36, 34]]
    # repaired again, it is told beside the one that it was then
    repaired(version, 34)
    twice = decisions.apply(version, "again")
    assert building.compare(version, twice).pairs["pixels"].tolist() == [[34, 34]]
    # what only says so, of a dataset of another name, is another image
    stranger = replace(before, name="other")
    assert building.compare(stranger, version).counts["pixels"] == 0


def test_a_repair_is_undone_and_the_one_before_holds_again(whole):
    first, book = repaired(whole, 7)
    assert repaired(whole, 7, seen=book.version)[1].new == ()  # the very same is nothing new
    other = first.copy()
    other[0, 3, 3] = (int(other[0, 3, 3]) + 1) % 17
    how = {"method": "search"}
    book = decisions.repair(
        whole, 7, other, run="r", seed=1, how=how, reason="nicer", seen=book.version
    )
    assert decisions.reason(book.repaired[7]) == "nicer"
    assert (decisions.repaired_item(whole, book, 7) == other).all()
    book = decisions.undo(whole, book.new[0], seen=book.version)
    assert (decisions.repaired_item(whole, book, 7) == first).all()
    book = decisions.undo(whole, book.entries[0].id, seen=book.version)
    assert book.repaired == {}
    assert decisions.repaired_item(whole, book, 7) is None
    with pytest.raises(UserError, match="is left out, relabelled or repaired"):
        decisions.apply(whole, "same")


def test_a_repair_of_what_is_left_out_changes_nothing(whole):
    _, book = repaired(whole, 7)
    decisions.decide(whole, "exclude", [7], seen=book.version)
    version = decisions.apply(whole, "without")
    assert len(version) == 39
    assert version.attributes is None


def test_a_fill_that_is_the_image_itself_is_no_repair(whole):
    said = {"run": "some-run", "seed": 5, "how": {}, "seen": 0}
    with pytest.raises(UserError, match="nothing is repaired"):
        decisions.repair(whole, 7, whole.x[7].copy(), **said)
    assert not decisions.open(whole).entries


def test_what_is_no_item_is_refused_and_a_damaged_file_is_named(whole):
    for bad in (
        np.zeros((1, 4, 4), np.uint8),
        np.full((1, 8, 8), 17, np.uint8),
        np.zeros((1, 8, 8)),
    ):
        with pytest.raises(UserError, match=r"must have the shape \(1, 8, 8\) and 17 levels"):
            decisions.repair(whole, 3, bad, run="r", seed=0, how={}, seen=0)
    with pytest.raises(UserError, match="There is no image 40"):
        decisions.repair(whole, 40, whole.x[0], run="r", seed=0, how={}, seen=0)
    _, book = repaired(whole, 7)
    with pytest.raises(UserError, match="decided about one of the same images"):
        repaired(whole, 7, seen=0, seed=9)
    filling = book.repaired[7].filling
    folder = decisions._folder(whole)
    (folder / filling.digest).write_bytes(b"x")
    with pytest.raises(UserError, match="so image 7 cannot be repaired as it was decided"):
        decisions.apply(whole, "next")
    # a line of somebody's that names another file is no decision
    line = {"id": "q", "time": 1, "who": "", "action": "repair", "images": [2]}
    for filling in (None, {}, {"digest": "../../x", "run": "", "seed": 1, "parameters": "{}"}):
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line | {"filling": filling}) + "\n")
    again = decisions.open(whole)
    assert set(again.repaired) == {7}
    assert "3 lines are not readable" in again.damaged


def test_what_a_model_made_whole_stays_synthetic(whole):
    attributes = {
        "origin": np.array(["real"] * 39 + ["synthetic"]),
        "parent": np.full(40, -1),
        "run": np.array([""] * 39 + ["older"]),
        "seed": np.full(40, 3),
        "parameters": np.array([""] * 40),
    }
    made = assemble(
        whole.x, whole.y, whole.classes, whole.splits, levels=17, attributes=attributes, name="made"
    )
    _, book = repaired(made, 39)
    assert len(book.repaired) == 1
    columns = provenance(decisions.apply(made, "next"))
    assert (columns["origin"][39], columns["run"][39]) == ("synthetic", "some-run")
    before = json.loads(columns["parameters"][39])["before"]
    assert before == {"origin": "synthetic", "run": "older", "seed": 3}


# --- The step of an augmentation ----------------------------------------------------------------


def test_a_hole_is_filled_anew_by_id_and_the_rest_stays(trained, monkeypatch):
    from core.augment import Chain, Pipeline, Step, runs_for
    from core.latent.repair import search

    for name, value in (("STEPS", 3), ("ROUNDS", 2), ("TUNED", 1)):
        monkeypatch.setattr(search, name, value)
    digits = datasets.load("digits")
    x, y = digits.images(np.arange(2)), torch.tensor(digits.y[:2])
    config = {"run": trained.runs["vae"], "share": 0.4}
    chain = Chain(Pipeline((Step.of("repair", config, 1.0),)))
    whole = chain(x, 1, range(2), y)
    assert torch.equal(chain(x[1:], 1, [1], y[1:]), whole[1:])
    changed = (whole != x).flatten(1).float().mean(1)
    assert bool((changed > 0).all())
    assert bool((changed <= 0.5).all())  # boxes of at most 0.4, to whole pixels
    assert not torch.equal(chain(x, 2, range(2), y), whole)
    assert chain.pipeline.slow
    still = Chain(Pipeline((Step.of("repair", config | {"share": 0.0}, 1.0),)))
    assert torch.equal(still(x, 1, range(2), y), x)
    offered = [run.id for run in runs_for("repair", digits)]
    assert {trained.runs["vae"], trained.runs["gan"]} <= set(offered)
    # of one method, those that also encode come first, however old they are
    assert offered.index(trained.runs["vae"]) < offered.index(trained.runs["gan"])


def test_by_command_a_fill_takes_the_place_of_an_image(trained, monkeypatch, capsys):
    from core.__main__ import main
    from core.latent.repair import search

    for name, value in (("STEPS", 3), ("ROUNDS", 2), ("TUNED", 1)):
        monkeypatch.setattr(search, name, value)
    base = ["repair", trained.runs["vae"], "--fills", "2", "--json"]
    into = ["--into", "digits:3", "--hole", "2,2,3,4", "--take", "1", "--save", "mended"]
    assert main([*base, *into]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["decisions"]["repaired"] == 1
    version, digits = datasets.load("mended"), datasets.load("digits")
    hidden = np.zeros((8, 8), bool)
    hidden[2:6, 2:5] = True
    assert (version.x[3][:, ~hidden] == digits.x[3][:, ~hidden]).all()
    assert json.loads(str(version.attributes["parameters"][3]))["steps"][0]["fill"] == 1
    assert main([*base, "--test", "0", "--beyond", "0.5,left"]) == 0
    assert json.loads(capsys.readouterr().out)["hole"] == 48
    for wrong, words in (
        (["--into", "digits"], "name of a dataset and the number of an image, got 'digits'"),
        (["--into", "digits:1797"], "There is no image 1797"),
        (["--into", "digits:3", "--take", "2"], "--take must be from 0 to 1"),
        (["--into", "digits:4", "--save", "a/b"], "A dataset's name must be"),
        (["--test", "0", "--save", "x"], "--save keeps a version with what --into has changed"),
    ):
        assert main([*base, "--hole", "1,1,2,2", *wrong]) == 2
        assert words in capsys.readouterr().err
    assert main([*base, "--test", "0", "--beyond", "half"]) == 2
    assert "--beyond takes a share" in capsys.readouterr().err

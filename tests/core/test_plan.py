"""Plans: what they say, what they refuse, what they give again; and what a run must not be used for."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from core import building, datasets, fitted, jobs, kinds, runs, worker
from core.__main__ import main
from core.building import GateConfig, Plan, bias, door, expected, history, makers, optout, pinned
from core.building.coverage import GapsConfig, coverage
from core.building.door.leaving import Leaving
from core.building.door.memory import KeptMemory
from core.building.gate import on_manifold
from core.building.outgoing import Outgoing
from core.building.version import generators, provenance
from core.catalog import UserError
from core.datasets import optout as listed
from core.datasets.attributes import unknown
from core.ground import sheets
from core.kinds import build as building_kind


def plan_of(dataset, *sources, **more):
    """A plan on a dataset, of records of sources."""
    return Plan.of({"dataset": dataset.name, "sources": list(sources), **more})


def augmented(**more):
    return {"kind": "augmented", "parameters": {"pipeline": "digits"}, **more}


def test_a_plan_is_the_same_after_json_whatever_it_says():
    rng = random.Random(0)
    names = ["a", "b/c", "d\ne", "f=g", "train", "ü"]

    def some(give):
        return {name: give() for name in rng.sample(names, rng.randrange(len(names)))}

    for _ in range(50):
        kind = rng.choice(makers.names())
        record = {
            "kind": kind,
            "each": rng.choice([None, 3]) if kind == "real" else rng.randrange(10),
            "counts": some(lambda: rng.randrange(100)),
            "share": rng.random(),
            "shares": some(rng.random),
            "where": rng.choice(["", "glasses=round"]),
            "why": some(lambda: "because"),
        }
        plan = Plan.of({
            "dataset": {"name": "x", "config": {"size": 8}},
            "sources": [record] * rng.randrange(4),
            "budget": rng.choice([None, 7]),
            "seed": rng.randrange(2**31),
            "gate": {"tries": rng.randrange(1, 9)},
            "overrides": rng.choice([{}, {"seen": "asked"}]),
        })  # fmt: skip
        again = Plan.read(plan.text())
        assert again == plan and again.hash == plan.hash
        assert plan.with_(name="other").hash == plan.hash
        assert plan.with_(seed=(plan.seed + 1) % 2**31).hash != plan.hash


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ([], "A plan must be an object"),
        ({"datasets": "x"}, "There is no field of A plan 'datasets'. Did you mean 'dataset'?"),
        ({"dataset": "x", "version": 2}, "The plan has version 2, and this program reads version 1"),
        ({"dataset": "x", "format": "recipe"}, "The plan has the format 'recipe'"),
        ({"sources": []}, "dataset of the plan must be an object, got None"),
        ({"dataset": "x", "budget": 0}, "budget must be a whole number from 1 to 1,000,000, got 0"),
        ({"dataset": "x", "budget": 10**7}, "budget must be a whole number from 1 to 1,000,000"),
        ({"dataset": "x", "sources": [{"kind": "sythetic"}]}, "There is no kind of source 'sythetic'. Did you mean 'synthetic'"),
        ({"dataset": "x", "sources": [augmented(counts={"a": -1})]}, "counts of source 1 must be a whole number"),
        ({"dataset": "x", "sources": [augmented(each=True)]}, "each of source 1 must be a whole number"),
        ({"dataset": "x", "sources": [augmented(share=2)]}, "share of source 1 must be a number from 0 to 1"),
        ({"dataset": "x", "sources": [augmented(each=None)]}, "each of source 1 must be a whole number: only"),
        ({"dataset": "x", "overrides": {"licence": "asked"}}, "There is no check to override in a plan 'licence'"),
        ({"dataset": "x", "gate": {"manifolds": 3}}, "There is no parameter of gate 'manifolds'"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_read_is_refused_in_a_sentence(record, text):
    with pytest.raises(UserError) as error:
        Plan.of(record)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("sources", "more", "text"),
    [
        ([augmented(counts={"class 9": 1})], {}, "There is no class of toy 'class 9'. Did you mean"),
        ([augmented(share=0.5)], {}, "Shares are shares of the budget, and the plan has none"),
        ([augmented(each=10**6)], {}, "The plan adds 2,000,000 items, and a plan may add 1,000,000"),
        ([augmented(each=10)], {"budget": 19}, "The plan adds 20 items, and its budget allows 19"),
        ([], {}, "The plan adds nothing"),
        ([augmented()], {}, "The plan adds nothing"),
        ([{"kind": "augmented", "each": 1}], {}, "An augmented source needs a chain, got ''"),
        ([{"kind": "synthetic", "each": 1}], {}, "A synthetic source needs a run, got ''"),
        ([augmented(each=1, where="hat=1")], {}, "There is no attribute of toy 'hat=1'"),
        ([{"kind": "real", "parameters": {"dataset": "digits"}}], {}, "digits has the levels 17, and toy has 256"),
        ([{"kind": "adversarial", "each": 1, "parameters": {"eps": "8"}}], {}, "An attack strength must be at most 1"),
        ([augmented(each=1)], {"dataset": {"name": "toy", "fingerprint": "0"}}, "The dataset toy has changed since"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_built_is_refused_in_a_sentence(toy, sources, more, text):
    made = datasets.save("toy", toy(60))
    with pytest.raises(UserError) as error:
        building.build(Plan.of({"dataset": "toy", "sources": sources, **more}))
    assert str(error.value).startswith(text), error.value
    assert made.name == "toy" and datasets.names()[-1] == "toy"


def test_a_plan_has_one_hash_whether_the_usual_parameters_are_written_or_not():
    plan = Plan.of({"dataset": "digits", "sources": [augmented(each=1)]})
    assert pinned(plan).hash == pinned(plan.with_(values={"valid_share": 0.1})).hash


def test_shares_of_a_budget_are_rounded_to_its_sum(toy):
    dataset = toy(60, classes=3)
    source = augmented(share=0.5, shares={"class 0": 0.25})
    plan = plan_of(dataset, source, augmented(share=0.25), budget=101)
    rows = plan.wanted(dataset)
    shares = np.array([[0.25, 0.25, 0.25], [0.25 / 3] * 3]) * 101
    assert sum(int(row.sum()) for row in rows) == 101
    assert (np.abs(np.array(rows) - shares) < 1).all()
    table = expected(plan, dataset)
    assert table["added"] == 101
    assert sum(n["augmented"] for n in table["by_origin"].values()) == 101


def test_the_manifold_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    real, labels = rng.standard_normal((60, 3)).astype(np.float32), rng.integers(0, 3, 60)
    labels[labels == 2] = np.where(
        np.arange(60)[labels == 2] == np.flatnonzero(labels == 2)[0], 2, 0
    )
    made, ours = 1.5 * rng.standard_normal((80, 3)).astype(np.float32), np.arange(80) % 3
    inside = []
    for x, label in zip(made, ours, strict=True):
        mates = real[labels == label]
        reach = (
            [sorted(np.linalg.norm(mates - mate, axis=1))[4] for mate in mates]
            if len(mates) > 4
            else []
        )
        near = (
            [np.linalg.norm(x - mate) <= far for mate, far in zip(mates, reach, strict=True)]
            if reach
            else [True]
        )
        inside.append(any(near))
    found = on_manifold(made, real, 4, ours, labels)
    assert found.tolist() == inside
    assert 0 < found[ours != 2].sum() < (ours != 2).sum()  # and the class of one item lets all pass


REBUILD = """
import sys
import hashlib, io
from core.building import Plan, archive, build
version, record, _ = build(Plan.read(open(sys.argv[1]).read()))
archive(version, out := io.BytesIO())
print(version.fingerprint, record["plan_hash"], hashlib.sha256(out.getvalue()).hexdigest())
"""


def test_the_same_plan_gives_the_same_items_in_another_process(trained, tmp_path):
    source = {"kind": "synthetic", "parameters": {"run": trained.runs["plain"]}, "each": 5}
    plan = Plan.of({
        "dataset": "plain",
        "sources": [source, augmented(each=7)],
        "gate": {"manifold": 0, "authentic": False, "copies": False},
        "batch": 16,
    })  # fmt: skip
    version, record, _ = building.build(plan)
    assert record["added"] == {"augmented": 7, "synthetic": 5, "adversarial": 0}
    assert version.attributes is not None
    assert (
        json.loads(version.attributes["parameters"][60])["step"]
        == pinned(plan).sources[0].config["step"]
    )
    file = tmp_path / "plan.json"
    file.write_text(Plan.of(record["plan"]).text())
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(file)], capture_output=True, text=True, check=True
    )
    building.archive(version, out := io.BytesIO())
    same = hashlib.sha256(out.getvalue()).hexdigest()
    assert done.stdout.split() == [version.fingerprint, record["plan_hash"], same]


def test_a_gate_that_nothing_passes_ends_and_says_why(trained):
    source = {"kind": "synthetic", "parameters": {"run": trained.runs["plain"]}, "each": 20}
    plan = Plan.of({
        "dataset": "plain", "sources": [source], "gate": {"tries": 2, "distinct": True}, "batch": 16
    })  # fmt: skip
    with pytest.raises(UserError, match=r"No sample passed the filters: \d+ refused by"):
        building.build(plan)
    version, record, rejected = building.build(
        plan.with_(
            sources=(*plan.sources, *plan_of(version_of("plain"), augmented(each=1)).sources)
        )
    )
    assert record["drawn"] == 48 and sum(record["refused"].values()) == 48
    assert "gave 0 of 20 samples (all short): after 48 drawn" in record["notes"][0]
    assert record["notes"][0] in version.notes
    assert sum(map(len, rejected.values())) == 48


def version_of(name):
    return datasets.load(name)


def test_a_slice_and_a_reason_go_with_every_item(toy):
    dataset = toy(60)
    hat = (np.arange(60) % 3 == 0).astype(np.int64)
    dressed = datasets.assemble(
        dataset.x, dataset.y, dataset.classes, dataset.splits, attributes={"hat": hat}, name="toy"
    )
    plan = plan_of(
        dressed, augmented(counts={"class 1": 9}, where="hat=1", why={"class 1": "rare"})
    )
    made, _, _ = building.build(plan, dataset=dressed)
    assert made.attributes is not None
    parents = made.attributes["parent"][60:]
    assert hat[parents].all() and (np.asarray(made.y)[60:] == 1).all() and len(parents) == 9
    assert np.isin(parents, dressed.splits["train"]).all()
    assert (made.attributes["hat"][60:] == 1).all()  # a copy has what its parent has
    sample = np.where(hat == 1, "a run", "")
    sampled = datasets.assemble(
        dataset.x, dataset.y, dataset.classes, dataset.splits, name="toy",
        attributes={"hat": hat, "origin": np.where(hat == 1, "synthetic", "real"), "run": sample},
    )  # fmt: skip
    copies, _, _ = building.build(plan, dataset=sampled)
    assert set(copies.attributes["run"][60:]) == {"a run"}  # a copy of a sample is one, too
    assert {json.loads(said)["why"] for said in made.attributes["parameters"][60:]} == {"rare"}


def test_what_nobody_has_said_of_an_item_is_unknown_and_no_value(toy):
    base, other = toy(60), toy(90)
    side = (np.arange(60) % 2).astype(np.uint8)
    known = {"hat": side == 1, "side": side, "sign": side.astype(int) * 2 - 1}
    own = datasets.assemble(base.x, base.y, base.classes, base.splits, attributes=known, name="own")
    datasets.save("other", other)
    source = {"kind": "real", "parameters": {"dataset": "other"}, "each": 5}
    made, _, _ = building.build(plan_of(own, source, augmented(each=1)), dataset=own)
    new = made.attributes["origin"] == "real"
    new[:60] = False
    assert new.sum() == 10
    for name in known:
        assert np.array_equal(unknown(made.attributes, name), new)
    found = bias.table(made)
    sides = {row.value: row.n for row in found if row.column == "side"}
    assert sides == {str(k): int((made.attributes["side"][~new] == k).sum()) for k in (0, 1)}
    table = datasets.columns(made)
    assert not table.values[new][:, table.index("side=1")].any()
    counted = coverage(made, GapsConfig(by="side"))
    said = made.attributes["side"][made.splits["train"]]
    assert [s.n for s in counted.slices] == [(said == k).sum() for k in (0, 1)]
    assert (counted.of[new] == -1).all() and "10 items not counted" in counted.notes[-1]
    told = Outgoing(made).further["side"]
    assert np.array_equal(np.isnan(told), new)
    again, _, _ = building.build(plan_of(made, augmented(each=2)), dataset=made)
    assert set(again.attributes["side"].tolist()) == {-1, 0, 1}


def test_real_items_of_another_set_join_without_what_is_known_or_held_out(toy):
    base, other = toy(60), toy(90)
    held = base.splits["test"][:4]
    mixed = np.array(other.x)
    mixed[other.splits["train"][:4]] = base.x[held]
    datasets.save("base", base)
    datasets.save("other", datasets.assemble(mixed, other.y, other.classes, other.splits, name="o"))
    real = {"kind": "real", "parameters": {"dataset": "other"}, "each": None}
    mine = {"kind": "real", "each": 5}
    made, record, _ = building.build(Plan.of({"dataset": "base", "sources": [real, mine]}))
    assert "held out here" in record["notes"][0] and ", 4 of them" in record["notes"][0]
    keys = datasets.digests(np.asarray(made.x))
    assert len(set(keys.tolist())) == len(keys)  # nothing twice
    assert np.array_equal(made.x[made.splits["test"]], base.x[base.splits["test"]])
    assert record["by_origin"]["class 0"]["real"] == 5 + (np.asarray(made.y)[30:] == 0).sum()


def test_real_items_join_without_whom_is_held_out_here_and_with_their_rights(toy):
    base, other = toy(60), toy(90)
    ours = np.array([f"anna {n // 2}" for n in range(60)])
    theirs = np.array(["anna 0", "", *(f"ben {n}" for n in range(88))])
    one, two, three, *_ = other.splits["train"][other.splits["train"] >= 60]  # not in base
    theirs[one] = ours[base.splits["test"][0]]
    consent = np.where(np.arange(90) == two, "withdrawn", "")
    for name, plain, attributes in (
        ("base", base, {"group": ours}),
        ("other", other, {"group": theirs, "consent": consent}),
    ):
        made = datasets.assemble(
            plain.x, plain.y, plain.classes, plain.splits, attributes=attributes, group="patient"
        )
        datasets.save(name, made)
        datasets.state(name, licence="CC0-1.0", consent="not needed")
    datasets.state("other", licence="CC-BY-NC-4.0")
    listed.forget(datasets.load("other"), [int(three)], "asked")
    plan = Plan.of(
        {"dataset": "base", "sources": [{"kind": "real", "parameters": {"dataset": "other"}}]}
    )
    mixed, record, _ = building.build(plan)
    assert "1 item of other stayed out: by patient" in record["notes"][0]
    new = mixed.members[60:]
    assert not set(new) & set(ours) and set(new) <= set(theirs)
    assert listed.matches(mixed) == {}
    config = door.DoorConfig(purpose="commercial", near=False)
    said = {each.check: each for each in door.check(mixed, config)}
    assert said.keys() == {"commercial", "withdrawn"} and said["withdrawn"].count == 1
    assert said["commercial"].count == len(new)
    datasets.save("mixed", mixed)
    again, _, _ = building.build(plan_of(datasets.load("mixed"), augmented(each=1)))
    assert "commercial" in {each.check for each in door.check(again, config)}


def test_adversarial_items_fool_keep_their_labels_and_stay_within_eps(trained):
    source = {
        "kind": "adversarial",
        "parameters": {"classifier": trained.runs["classifier"], "attack": "fgsm", "eps": "0.25"},
        "counts": {"1": 3},
    }
    made, record, rejected = building.build(
        Plan.of({"dataset": "digits", "sources": [source], "batch": 32})
    )
    digits = datasets.load("digits")
    n = len(digits)
    assert record["added"]["adversarial"] == 3 and record["drawn"] >= 3
    assert made.attributes is not None
    parents = made.attributes["parent"][n:]
    assert np.isin(parents, digits.splits["train"]).all()
    assert (np.asarray(made.y)[n:] == 1).all() and (np.asarray(digits.y)[parents] == 1).all()
    moved = np.abs(made.x[n:].astype(int) - digits.x[parents].astype(int))
    assert 0 < moved.max() <= 4  # 0.25 of 16 levels
    opened = runs.open_model(jobs.get(trained.runs["classifier"]))
    said = opened.model(made.images(np.arange(n, len(made)))).argmax(1)
    assert (said != 1).all()
    assert set(rejected) <= {"harmless"}
    assert not generators(made).any()
    origin = np.where(np.arange(n) % 2, "synthetic", "real")
    some = dataclasses.replace(
        digits, attributes={"origin": origin, "run": np.where(np.arange(n) % 2, "a run", "")}
    )
    again, _, _ = building.build(
        Plan.of({"dataset": "digits", "sources": [{**source, "counts": {"1": 6}}], "batch": 32}),
        dataset=some,
    )
    new = provenance(again)["parent"][n:]
    made_by = generators(again)[n:]
    assert np.array_equal(made_by == "a run", new % 2 == 1) and (made_by == "a run").any()
    leaving = Leaving(again, door.DoorConfig(near=False), KeptMemory())
    assert len(leaving.runs["a run"]) == (origin == "synthetic").sum() + (new % 2).sum()


# --- What a run has learned from --------------------------------------------------------------------------------------


def test_a_training_keeps_digests_of_what_it_learns_from_and_a_child_those_of_its_parent(
    trained, here
):
    digits = datasets.load("digits")
    run = jobs.get(trained.runs["vae"])
    assert (run.path / fitted.FILE).exists()
    known = fitted.of(run)
    keys = datasets.digests(np.asarray(digits.x))
    assert known.known and known.compares(digits)
    assert known.seen(keys[digits.splits["train"]], "train").all()
    assert known.seen(keys[digits.splits["valid"]], "valid").all()
    assert not known.seen(keys[digits.splits["test"]]).any()
    (run.path / fitted.FILE).unlink()  # as of an older run: from its dataset
    old = fitted.of(jobs.get(run.id))
    assert np.array_equal(np.asarray(old.train), np.asarray(known.train)) and old.known
    record = json.loads((run.path / "run.json").read_text())
    record["dataset"]["fingerprint"] = "0"
    (run.path / "run.json").write_text(json.dumps(record))
    unknown = fitted.of(jobs.get(run.id))
    assert not unknown.known and "digits has changed since" in unknown.unknown
    source = {"kind": "synthetic", "parameters": {"run": run.id}, "each": 1}
    with pytest.raises(
        UserError, match=r"is not known .it is an older run, and digits has changed"
    ):
        pinned(Plan.of({"dataset": "digits", "sources": [source]}))
    plan = Plan.of({"dataset": "digits", "sources": [source], "overrides": {"seen": "mine"}})
    assert pinned(plan).overrides == {"seen": "mine"}
    family = json.loads((run.path / "job.json").read_text())["config"]["family"]["config"]
    same = {f"family.{name}": value for name, value in family.items()}
    child = here(**{"train.parent": run.id}, **same)
    assert child.status == "finished", child.message
    assert fitted.of(
        child
    ).unknown  # what its parent has seen is not known, so neither is what it has


def test_what_is_compared_across_sizes_or_levels_cannot_be_told(trained, toy):
    run = jobs.get(trained.runs["gan"])
    cleared = fitted.clearance(run, toy(60))
    assert not cleared.leaks and "of another size, and these cannot be compared" in cleared.unknown


# --- What must not be used --------------------------------------------------------------------------------------------


def test_what_is_forgotten_is_known_again_lighter_mirrored_moved_and_at_another_size(toy):
    import torch
    from torch.nn import functional as F

    faces = datasets.load("faces", {"count": 64, "size": 32})
    assert listed.forget(faces, [5], "asked by mail", "me") == 1
    assert listed.forget(faces, [5], "asked again", "me") == 0
    x = faces.items(slice(5, 6))
    disguised = {
        "lighter": (x * 0.8 + 0.15).clamp(0, 1),
        "mirrored": x.flip(-1),
        "moved": torch.roll(x, 2, -1),
        "larger": F.interpolate(F.interpolate(x, 64, mode="bilinear"), 32, mode="area"),
    }
    raw = [faces.medium.write(image, faces.levels) for image in disguised.values()]
    mixed = datasets.assemble(
        np.concatenate([np.asarray(faces.x), *raw]), None, (),
        {"train": np.arange(64 + len(raw)), "valid": np.zeros(0, int), "test": np.zeros(0, int)},
        name="mixed",
    )  # fmt: skip
    found = optout.matches(mixed)
    assert set(found) >= {5, 64, 65, 66, 67}
    assert len(found) <= 8  # and hardly any other face
    assert found[64].reason == "asked by mail" and found[64].source == "faces:5"
    left = optout.without(mixed)
    assert len(left) == len(mixed) - len(found)
    assert "on the list of what must not be used" in left.notes[-1]


def test_a_run_that_saw_what_is_forgotten_is_refused_and_later_sets_are_made_without_it(
    trained, capsys, tmp_path
):
    digits = datasets.load("digits")
    row = int(digits.splits["train"][3])
    assert main(["forget", f"digits:{row}", "--reason", "consent withdrawn", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["added"] == 1 and trained.runs["gan"] in said["retrain"]
    assert optout.retrain(jobs.get(trained.runs["plain"])) == ""
    source = {"kind": "synthetic", "parameters": {"run": trained.runs["gan"]}, "each": 1}
    with pytest.raises(UserError, match="has learned from 1 item that must not be used any more"):
        building.build(Plan.of({"dataset": "digits", "sources": [source]}))
    made, _, _ = building.build(Plan.of({"dataset": "digits", "sources": [augmented(each=1)]}))
    assert not np.isin(
        datasets.digests(np.asarray(digits.x[[row]])), datasets.digests(np.asarray(made.x))
    )
    listed.file().unlink()
    file = tmp_path / "me.png"
    file.write_bytes(sheets.png(digits.pictures([row]), 1))
    assert main(["forget", str(file), "--reason", "consent withdrawn", "--json"]) == 0
    assert trained.runs["gan"] in json.loads(capsys.readouterr().out)["retrain"]
    file.write_bytes(sheets.png(np.full((1, 1, 8, 8), 9, np.uint8), 1))
    assert main(["forget", str(file), "--reason", "x"]) == 2
    assert "is of nearly one colour" in capsys.readouterr().err
    assert main(["forget", "nothing.png", "--reason", "x"]) == 2
    assert "neither an item as digits:5 nor a file" in capsys.readouterr().err
    listed.file().write_bytes(b"{}\n")
    with pytest.raises(UserError, match="damaged in line 1"):
        optout.without(digits)


def test_an_import_leaves_out_what_is_on_the_list(toy, tmp_path):
    from PIL import Image

    dataset = toy(24)
    for row, image in enumerate(dataset.x):
        folder = tmp_path / "in" / str(dataset.y[row])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).resize((16, 16), 0).save(folder / f"{row}.png")
    values = {"path": str(tmp_path / "in"), "size": 16}
    before = datasets.load("folder", values)
    data = (tmp_path / "in" / "0" / "4.png").read_bytes()
    assert listed.forget_file(data, "4.png", "asked") == 1
    after = datasets.load("folder", values)
    assert len(before) - 4 <= len(after) < len(before)
    assert "left out" in after.notes[-1]
    brought = datasets.bring("mine", values)
    assert brought.fingerprint == after.fingerprint
    assert isinstance(brought.x, np.memmap)


def test_a_column_of_an_import_that_is_only_called_like_lineage_tells_nothing(toy):
    from core.building import origins, provenance

    known = {
        "parent": np.array(["mother"] * 60),
        "seed": np.full(60, 0.5),
        "origin": np.zeros(60, int),
    }
    dataset = datasets.assemble(
        toy(60).x, toy(60).y, toy(60).classes, toy(60).splits, attributes=known, name="toy"
    )
    columns = provenance(dataset)
    assert (columns["parent"] == -1).all() and (columns["seed"] == -1).all()
    assert origins(dataset)["real"] == 60
    made, _, _ = building.build(plan_of(dataset, augmented(each=1)), dataset=dataset)
    assert provenance(made)["parent"].tolist()[60:] == [20, 21]


def test_what_leaves_later_leaves_without_it_and_with_its_plan(toy, tmp_path):
    dataset = datasets.save("toy", toy(60))
    made, _, _ = building.build(Plan.of({"dataset": "toy", "sources": [augmented(each=2)]}))
    listed.forget(dataset, [int(building.provenance(made)["parent"][60])], "asked")
    reasons = dict.fromkeys(["licence", "consent"], "a test")
    record = building.export(made, ["npz"], tmp_path / "out", overrides=reasons)
    assert record["left_out"] >= 1 and record["images"] == 64 - record["left_out"]
    plan = Plan.of(json.loads((tmp_path / "out" / "plan.json").read_text()))
    assert plan.fingerprint == dataset.fingerprint
    assert building.archive(made, tmp_path / "out.zip")["images"] == record["images"]


# --- What a plan must stand -------------------------------------------------------------------------------------------


def many_classes(count):
    """A set of so many classes of three items and names of all kinds, and one more of a single item."""
    rng = np.random.default_rng(0)
    y = np.concatenate([np.repeat(np.arange(count), 3), [count]]).astype(np.int64)
    names = ("a/b", "c\nd", "e=f", "train", *(f"class {k}" for k in range(4, count + 1)))
    x = rng.integers(0, 256, (len(y), 1, 8, 8)).astype(np.uint8)
    rows = np.arange(len(y))
    splits = {"train": np.delete(rows, [0, 3, 6, 9]), "valid": rows[[0, 3]], "test": rows[[6, 9]]}
    return datasets.assemble(x, y, names, splits, name="toy")


def test_five_hundred_classes_of_any_name_and_one_of_a_single_item_are_counted_rightly():
    datasets.save("toy", many_classes(500))
    counts = {"c\nd": 2, "e=f": 1, "train": 3, "class 500": 4}
    made, record, _ = building.build(
        Plan.of({"dataset": "toy", "sources": [augmented(counts=counts)]})
    )
    assert {
        name: n["augmented"] for name, n in record["by_origin"].items() if n["augmented"]
    } == counts
    assert len(made) == 1501 + 10


def test_two_that_build_the_same_name_get_one_set_and_one_sentence(toy, here):
    datasets.save("toy", toy(60))
    plan = Plan.of({"dataset": "toy", "name": "more", "sources": [augmented(each=1)]})
    first, second = (
        building_kind.start(plan),
        building_kind.start(plan),
    )  # both while there is none yet
    worker.work(first.path)
    worker.work(second.path)
    assert [jobs.get(job.id).status for job in (first, second)] == ["finished", "failed"]
    assert jobs.get(second.id).message.startswith("There is a dataset 'more' already")


def test_a_source_that_is_gone_meanwhile_and_a_full_disk_are_told_and_leave_nothing(
    toy, here, setting
):
    for name in ("toy", "other"):
        datasets.save(name, toy(60))
    real = {"kind": "real", "parameters": {"dataset": "other"}}
    job = building_kind.start(Plan.of({"dataset": "toy", "name": "more", "sources": [real]}))
    datasets.delete("other")
    worker.work(job.path)
    assert jobs.get(job.id).message.startswith("There is no dataset 'other'")
    setting(min_free_mb=10**9)
    with pytest.raises(UserError, match="MB are needed"):
        building.build(Plan.of({"dataset": "toy", "sources": [augmented(each=1)]}))
    assert "more" not in datasets.names()


def test_a_set_that_is_split_anew_asks_its_runs_again(trained):
    digits = datasets.load("digits")
    source = {"kind": "synthetic", "parameters": {"run": trained.runs["gan"]}, "each": 1}
    plan = Plan.of({
        "dataset": "digits", "sources": [source], "splits": {"rule": "content", "test_share": 0.5}
    })  # fmt: skip
    with pytest.raises(UserError, match=r"has learned from [0-9]+ images that are held out here"):
        building.build(plan)
    anew, record, _ = building.build(plan.with_(sources=()))
    assert len(anew) == len(digits) == record["images"]
    assert len(anew.splits["test"]) > 1.2 * len(digits.splits["test"])


def test_a_run_says_what_it_guarantees_and_none_guarantees_anything_yet(trained):
    record = runs.record(jobs.get(trained.runs["gan"]))
    assert runs.privacy(record) == {"epsilon": None, "delta": None, "unit": None}


def test_what_several_runs_promise_of_the_same_people_adds_up(toy, monkeypatch):
    promised = {"a": {"epsilon": 1.0, "delta": 1e-6, "unit": "image"}}
    promised["b"] = {**promised["a"], "epsilon": 2.0}
    monkeypatch.setattr(history.jobs, "get", lambda id: id)
    monkeypatch.setattr(history.runs, "record", lambda id: {"privacy": promised.get(id)})
    plain = toy(30)

    def of(*names):
        run = np.array([names[n % len(names)] for n in range(30)])
        return history.privacy(dataclasses.replace(plain, attributes={"run": run}))

    assert of("a", "b") == {"epsilon": 3.0, "delta": pytest.approx(2e-6), "unit": "image"}
    assert of("a", "b", "c") == of("a", "") == history.PRIVACY


# --- Jobs and commands ------------------------------------------------------------------------------------------------


def test_a_build_that_was_killed_before_its_record_ends_with_the_set_that_it_saved(
    toy, here, monkeypatch
):
    datasets.save("toy", toy(60))
    plan = Plan.of({"dataset": "toy", "name": "more", "sources": [augmented(each=2)]})
    job = building_kind.start(plan)
    with monkeypatch.context() as patch:
        patch.setattr(building_kind, "_ended", lambda task, record: 1 / 0)
        worker.work(job.path)
    assert jobs.get(job.id).status == "failed" and jobs.get(job.id).result() is None
    assert len(datasets.load("more")) == 64
    kinds.resume(job.id)
    worker.work(job.path)
    done = jobs.get(job.id)
    assert done.status == "finished", done.message
    assert done.result()["fingerprint"] == datasets.load("more").fingerprint
    kept = Plan.read((job.path / "plan.json").read_text())
    assert kept.fingerprint == datasets.load("toy").fingerprint
    assert datasets.load("more").source["origin"]["plan_hash"] == kept.hash


def test_a_plan_is_built_by_command_and_told_before(toy, here, monkeypatch, tmp_path, capsys):
    datasets.save("toy", toy(60))
    file = tmp_path / "plan.json"
    file.write_text(Plan.of({"dataset": "toy", "sources": [augmented(each=2)]}).text())
    out = tmp_path / "pinned.json"
    assert main(["build", str(file), "--dry-run", "--json", "--save-plan", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["added"] == 4 and told["by_origin"]["class 0"]["augmented"] == 2
    assert Plan.read(out.read_text()).fingerprint
    monkeypatch.setattr(jobs, "spawn", lambda path: worker.work(path))
    assert main(["build", str(out), "--name", "more", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["dataset"] == "more" and made["plan_hash"] == told["plan_hash"]
    assert made["counts"]["class 1"]["augmented"] == 2 and made["rejected"]["manifold"] == 0
    assert made["fingerprint"] == datasets.load("more").fingerprint
    file.write_text("{")
    assert main(["build", str(file)]) == 2
    assert "This is no JSON: it cannot be read in line 1" in capsys.readouterr().err


def test_a_gate_names_its_parameters_once():
    assert set(GateConfig.knobs()) >= {"confidence", "manifold", "authentic", "copies", "distinct"}

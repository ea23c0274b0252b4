"""What is asked of a dataset before it goes out: twelve that are refused, and a neighbour of each that passes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core import jobs
from core.building import door
from core.building.door import DoorConfig
from core.catalog import UserError
from core.datasets import Dataset, assemble, digests

RUN = "shipped-digits-gan"  # was trained on digits: CC BY 4.0, nobody shown
CLEAN = {"licence": "CC-BY-4.0", "consent": "not needed"}


@dataclasses.dataclass
class Remembered:
    """Says what a test wants runs to have seen."""

    learned: Any = ()
    out: Any = ()

    def seen(self, run: jobs.Job, dataset: Dataset) -> tuple[int, str]:
        if self.learned is None:
            return 0, "it was brought"
        keys = digests(np.asarray(dataset.x))[dataset.split_of() > 0]
        return int(np.isin(keys, self.learned).sum()), ""

    def opted_out(self, dataset: Dataset) -> np.ndarray:
        keys = digests(np.asarray(dataset.x))
        return np.flatnonzero(np.isin(keys, np.asarray(self.out, np.uint64)))

    def tainted(self, run: jobs.Job) -> bool:
        return bool(np.isin(self.learned, self.out).any())


@dataclasses.dataclass
class Fixture:
    """A dataset at the door, and what is remembered."""

    dataset: Dataset
    config: DoorConfig = dataclasses.field(default_factory=lambda: DoorConfig(near=False))
    memory: Remembered = dataclasses.field(default_factory=Remembered)


def of_rows(base: Dataset, **changes: tuple[list[int], Any]) -> dict[str, np.ndarray]:
    """Makes attributes that have a value in some rows."""
    usual = {"origin": "real", "parent": -1, "seed": -1}
    made = {}
    for name, (rows, value) in changes.items():
        column = np.full(
            len(base), usual.get(name, ""), dtype=int if name in ("parent", "seed") else "U40"
        )
        column[rows] = value
        made[name] = column
    return made


def stated(base: Dataset, **terms: str) -> Fixture:
    return Fixture(dataclasses.replace(base, terms=CLEAN | terms))


def with_pixels(base: Dataset, change: Callable[[np.ndarray], Any]) -> Fixture:
    x = np.array(base.x)
    change(x)
    return Fixture(assemble(x, base.y, base.classes, base.splits, name="toy", terms=CLEAN))


def with_rows(base: Dataset, memory: Remembered | None = None, **changes: Any) -> Fixture:
    dataset = dataclasses.replace(base, attributes=of_rows(base, **changes), terms=CLEAN)
    return Fixture(dataset, memory=memory or Remembered())


def pair(base: Dataset, name: str, bad: bool) -> Fixture:
    """Gives the fixture that a check refuses, or its neighbour; rows 0–9 validate, 10–19 test, 20–59 train."""
    last, row = (30, 31) if bad else (11, 12)
    made = {"origin": ([40, 41], "synthetic"), "run": ([40, 41], RUN), "seed": ([40, 41], 0)}
    keys = digests(np.asarray(base.x))
    match name:
        case "licence":
            return stated(base, licence="" if bad else "CC0-1.0")
        case "spdx":
            return stated(base, licence="cc by five" if bad else "cc by-sa 4.0")
        case "commercial":
            fixture = stated(base, licence="CC-BY-NC-4.0")
            purpose = "commercial" if bad else "research"
            return dataclasses.replace(fixture, config=DoorConfig(purpose=purpose, near=False))
        case "share-alike":
            fixture = with_rows(base, licence=([25, 26], "CC-BY-SA-3.0"))
            own = CLEAN | {"licence": "CC-BY-4.0" if bad else "CC-BY-SA-4.0"}
            return Fixture(dataclasses.replace(fixture.dataset, terms=own))
        case "consent":
            return stated(base, consent="unknown" if bad else "given")
        case "withdrawn":
            return with_rows(base, consent=([33], "withdrawn" if bad else "given"))
        case "test":
            return with_pixels(base, lambda x: x.__setitem__(last, x[10]))
        case "near":
            fixture = with_pixels(base, lambda x: x.__setitem__(row, np.roll(x[10], 1, -1)))
            return dataclasses.replace(fixture, config=DoorConfig())
        case "group":
            fixture = with_rows(base, group=([10, last], "anna"))
            return Fixture(dataclasses.replace(fixture.dataset, group="patient"))
        case "mark":
            rows = [40, 41]
            return with_rows(
                base,
                Remembered(keys[20:]),
                **(made | {"origin": (rows, "real" if bad else "synthetic")}),
            )
        case "seen":
            return with_rows(base, Remembered(keys[19 if bad else 20 :]), **made)
        case _:
            return with_rows(base, Remembered(keys[20:50], [keys[22]] if bad else [7]), **made)


SAID = {
    "licence": ("This dataset has no licence that anybody has stated. State its SPDX id", 60),
    "spdx": ("'cc by five' is no licence of the SPDX list. Did you mean 'CC-BY", 60),
    "commercial": ("stands under CC-BY-NC-4.0, which does not allow commercial use", 60),
    "share-alike": ("An item under CC-BY-SA-3.0 stands under CC-BY-SA-3.0, which asks for the same licence", 2),
    "consent": ("nobody has stated whether people are shown, and if so whether they agreed", 60),
    "withdrawn": ("Consent was withdrawn for 1 of its items", 1),
    "test": ("1 training item gives held-out items away: 1 with the very pixels of a held-out one", 1),
    "near": ("1 training item is nearly a held-out one, but for a shift of a few pixels", 1),
    "group": ("1 group by patient has items in more than one split (such as 'anna')", 2),
    "mark": ("item 40 calls itself real and names a run, parent or seed that it was made by", 2),
    "seen": (f"the run {RUN} has learned from 1 item held out here", 2),
    "opted-out": (f"2 items of the run {RUN}, which has learned from an item that somebody has opted out of", 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(toy) -> Dataset:
    """Gives 60 pictures of noise, none of which is like another."""
    plain = toy(60)
    x = np.random.default_rng(1).integers(0, 256, plain.x.shape).astype(np.uint8)
    return assemble(x, plain.y, plain.classes, plain.splits, name="toy", terms=CLEAN)


def test_the_checks_at_the_door_are_twelve():
    assert [entry.name for entry in door.ordered()] == list(SAID)


@pytest.mark.parametrize("name", SAID)
def test_a_dataset_is_refused_with_its_sentence_and_its_neighbour_passes(base, setting, name):
    setting(gallery=1)
    bad, good = pair(base, name, True), pair(base, name, False)
    refused = door.check(bad.dataset, bad.config, memory=bad.memory)
    assert [refusal.check for refusal in refused] == [name]
    sentence, count = SAID[name]
    assert sentence in refused[0].sentence
    assert refused[0].count == count
    assert 0 < len(refused[0].examples) <= 12
    assert door.check(good.dataset, good.config, memory=good.memory) == []


def test_an_override_needs_a_reason_and_lets_out_only_what_it_is_about(base):
    bad = stated(base, licence="", consent="")
    with pytest.raises(UserError, match=r"\(licence\) .* \(consent\) .*--override licence="):
        door.allow(door.check(bad.dataset, bad.config))
    half = door.check(
        bad.dataset, bad.config, overrides=door.parsed(["licence= asked  by letter "])
    )
    assert [(refusal.check, refusal.reason) for refusal in half] == [
        ("licence", "asked by letter"),
        ("consent", ""),
    ]
    assert half[0].record()["reason"] == "asked by letter"
    with pytest.raises(UserError, match=r"^It is not let out at the door. \(consent\)"):
        door.allow(half)
    door.allow(door.check(bad.dataset, bad.config, overrides={"licence": "a", "consent": "b"}))
    with pytest.raises(UserError, match="There is no check at the door 'licens'"):
        door.parsed(["licens=x"])
    for text in ("licence", "licence=  "):
        with pytest.raises(UserError, match="needs a reason, which is kept with the export"):
            door.parsed([text])


def test_a_child_of_a_held_out_item_and_a_run_that_is_gone_are_refused(base, setting):
    child = with_rows(base, origin=([30], "augmented"), parent=([30], 10))
    (refused,) = door.check(child.dataset, child.config)
    assert refused.check == "test"
    assert "1 made from a held-out one" in refused.sentence
    setting(gallery=1)
    gone = with_rows(base, origin=([30], "synthetic"), run=([30], "20200101-gone"))
    (refused,) = door.check(gone.dataset, gone.config)
    assert (
        "the run 20200101-gone has learned from is not known (it is not here any more)"
        in refused.sentence
    )
    unsure = with_rows(base, Remembered(None), origin=([30], "synthetic"), run=([30], RUN))
    (refused,) = door.check(unsure.dataset, unsure.config, memory=unsure.memory)
    assert "may have seen all of them" in refused.sentence


def test_what_cannot_say_how_it_was_made_is_named_with_its_reason(base):
    nameless = with_rows(base, origin=([30], "synthetic"))
    (refused,) = door.check(nameless.dataset, nameless.config)
    assert "item 30 is synthetic and names no run" in refused.sentence
    odd = with_rows(base, origin=([31, 32], "drawn"))
    (refused,) = door.check(odd.dataset, odd.config)
    assert "item 31 names the origin 'drawn', which is none of real, augmented" in refused.sentence


def test_what_was_not_looked_for_is_said(base):
    said: dict[str, str] = {}
    assert door.check(base, DoorConfig(near=False), unlooked=said) == []
    assert said == {"near": "not looked for here."}


def test_ten_thousand_images_are_asked_in_a_second():
    rng = np.random.default_rng(0)
    n = 10_000
    x = rng.integers(0, 256, (n, 3, 32, 32), np.uint8)
    splits = {
        "train": np.arange(n - 2000),
        "valid": np.arange(n - 2000, n - 1000),
        "test": np.arange(n - 1000, n),
    }
    many = assemble(x, np.arange(n) % 10, tuple("0123456789"), splits, name="many", terms=CLEAN)
    began = time.process_time()
    assert door.check(many, DoorConfig(near=False)) == []
    assert time.process_time() - began < 1

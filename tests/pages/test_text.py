"""Texts on the pages: written live, read by surprise, looked over, changed, and measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import datasets, jobs, worker
from core.__main__ import main
from core.kinds import submit
from core.media import text as medium
from core.quality import texts

SENT = {"data": "letters"}
SAID = [
    f"the {a} {b} sat on the {c} mat"
    for a in ("old", "red")
    for b in ("cat", "dog", "hen")
    for c in ("big", "tin")
]
MORE = [
    "write to jo@example.org now",
    "call 0170 123 456 78 soon",
    "bad\x07 sign",
    "the old cat sat on the big mat",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Keeps some texts, and trains a tiny transformer of them."""
    from core.ground.settings import settings

    place = tmp_path_factory.mktemp("letters") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULACRA_HOME", str(place))
        patch.setenv("SIMULACRA_GALLERY", "0")
        patch.setattr(jobs, "spawn", lambda path: None)
        settings.cache_clear()
        said = SAID * 4 + MORE
        x = np.concatenate([medium.encode(text, 48) for text in said])
        order = np.arange(len(x))
        splits = {
            "train": order[order % 5 > 1],
            "valid": order[order % 5 == 0],
            "test": order[order % 5 == 1],
        }
        y = (order % 2).astype(np.int64)
        datasets.save("letters", datasets.assemble(x, y, ("even", "odd"), splits, medium="text"))
        values = {
            "train.images": 32,
            "train.batch": 16,
            "family.width": 32,
            "family.depth": 1,
            "train.watch": False,
        }
        job = submit("train", {"dataset": "letters", "family": "transformer"}, values)
        worker.work(job.path)
        assert jobs.get(job.id).status == "finished", jobs.get(job.id).message
        yield place, job.id
    settings.cache_clear()


@pytest.fixture
def letters(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Opens the home with the run, and gives the run's id."""
    from core.ground.settings import settings

    monkeypatch.setenv("SIMULACRA_HOME", str(made[0]))
    settings.cache_clear()
    return made[1]


def blocks(seen: Any) -> list[str]:
    """The texts that are set out on a page, as HTML."""
    return [each.proto.body for each in seen.at.get("html") if "<pre" in each.proto.body]


def test_a_prompt_is_written_on_and_each_byte_is_coloured_by_its_surprise(visit, letters, capsys):
    seen = visit("latent", run=letters, **SENT).calm()
    assert seen.widget("latent.tool").value == "write"
    seen.set(latent__write__prompt="the old", latent__write__length=50).calm()
    written, judged = blocks(seen)[:2]
    assert "<b>the old</b>" in written and "nats; likeliest" in judged
    assert "nats per byte" in seen.texts("caption") and "table of counts" in seen.texts("caption")
    seen.set(latent__write__way="read").calm()
    assert "nats; likeliest" in blocks(seen)[-1]
    assert main(["write", letters, "--prompt", "the old", "-n", "50", "--json"]) == 0
    import html
    import json

    said = json.loads(capsys.readouterr().out)
    assert html.escape(said["text"]) in written and said["counts_nats_per_byte"] > 0


def test_commands_about_texts_work_or_refuse_in_a_sentence(letters, capsys):
    for words in (
        ["write", letters, "--read", "the old cat"],
        ["write", letters, "-n", "5", "--temperature", "0", "--label", "odd"],
        ["texts", "letters", "--list", "people"],
        ["sample", letters, "-n", "1", "--out", "/tmp/one.txt"],
    )[:3]:
        assert main(words) == 0, words
    assert "an e-mail address (1)" in capsys.readouterr().out
    for words, why in (
        (["write", letters, "-n", "0"], "At least 1 and at most"),
        (["write", letters, "--read", "x", "--prompt", "y"], "Leave one of them out"),
        (["write", letters, "--prompt", "x" * 5000], "at most 4,000 bytes"),
        (["texts", "digits"], "holds images"),
        (["texts", "letters", "--list", "nothing"], "no kind of issue 'nothing'"),
        (["encode", letters, "x.txt"], ""),
        (["race", "--dataset", "letters", "--families", "gan,vae"], "takes pictures"),
        (["inspect", "letters"], "Inspection: not available for texts"),
    ):
        assert main(words) == 2, words
        assert why in capsys.readouterr().err


def test_data_sets_texts_out_and_says_what_is_wrong_with_them(visit, letters):
    seen = visit("data", **SENT).calm()
    assert any("sat on the" in block for block in blocks(seen))
    assert "52 texts of up to 48 bytes" in seen.texts("markdown")
    seen.set(data__view="issues").calm()
    assert "The same as text" in seen.texts("caption")
    seen.set(data__texts__kind="people").calm()
    assert "<mark>jo@example.org</mark>" in "".join(blocks(seen))
    seen.press("data.texts.mask").calm()
    hidden = datasets.load("letters-2")
    assert b"write to ************** now" in medium.data(hidden.x) and hidden.parent
    seen.press("data.texts.exclude").calm()
    assert "2 of them are decided about" in seen.texts("caption")


def test_near_duplicates_are_those_that_share_most_of_their_runs():
    said = [
        "the quick brown fox jumps over the lazy dog again",
        "the quick brown fox jumps over the lazy dogs again",
        "nothing of this kind is said anywhere in here",
    ]
    a, b, c = map(texts.shingles, said)
    plain = [
        {text[i : i + texts.SHINGLE] for i in range(len(text) - texts.SHINGLE + 1)} for text in said
    ]
    assert texts.jaccard(a, b) == pytest.approx(len(plain[0] & plain[1]) / len(plain[0] | plain[1]))
    assert texts.jaccard(a, c) < 0.1
    x = np.concatenate([medium.encode(text, 64) for text in said] * 3)
    order = np.arange(9)
    data = datasets.assemble(
        x, None, (), {"train": order[:6], "valid": order[6:8], "test": order[8:]}, medium="text"
    )
    found = texts.look(data)
    assert {issue.item for issue in found.of("exact")} == {3, 4, 5}
    assert (1, 0) in {(issue.item, issue.other) for issue in found.of("near")}
    assert {issue.item for issue in found.of("leak")} == {6, 7, 8}


def test_a_number_that_goes_on_in_the_next_item_is_hidden_in_both():
    x = medium.encode("a" * 14 + " mail anna.b@example.com or +49 170 1234567 and 1999", 16)
    order = np.arange(len(x))
    data = datasets.assemble(
        x, None, (), {"train": order[2:], "valid": order[:1], "test": order[1:2]}, medium="text"
    )
    hidden = np.array(x)
    for item, first, last, _ in texts.look(data).spans:
        hidden[item, 0, first:last] = ord("*")
    said = b"".join(medium.data(hidden)).decode()
    assert said == "a" * 14 + " mail ****************** or *************** and 1999"


def test_augmentations_of_texts_are_offered_alone_and_shown_as_what_changed(visit, letters):
    seen = visit("augment", **SENT).calm()
    titles = [each.split(": ")[1] for each in seen.widget("augment.add").options]
    assert titles == ["Swap letters", "Drop words", "Hide words"]
    seen.set(augment__add="text_mask").calm()
    assert any("<ins>" in block or "<del>" in block for block in blocks(seen)) or blocks(seen)
    for view in ("grid", "before", "sweep"):
        seen.set(augment__view=view).calm()

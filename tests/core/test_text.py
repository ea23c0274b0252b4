"""Texts: what a dataset keeps of them, the table of counts, copied runs, and the transformer that writes them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core import datasets
from core.building import readback
from core.building.layouts import layouts
from core.building.outgoing import Outgoing
from core.catalog import UserError
from core.commands import commands  # noqa: F401  registers
from core.measure.metrics import metrics
from core.media import FORMS, media
from core.media import text as medium
from core.models import Scores, Spec, Writes, build
from core.models.transformer import Transformer, TransformerConfig, TransformerSampling
from core.tensors import Group
from core.text import copies
from core.text.counts import Counts
from core.training import TrainConfig, Trainer, spec_of
from core.training.muon import Muon, orthogonal

SAID = [
    f"the {a} {b} sat on the {c}"
    for a in ("old", "red")
    for b in ("cat", "dog", "hen")
    for c in ("mat", "box")
]


def windows(texts: list[str], length: int = 32) -> np.ndarray:
    return np.concatenate([medium.encode(text, length) for text in texts])


def known(data: datasets.Dataset, name: str) -> np.ndarray:
    """What is known beside the items."""
    assert data.attributes is not None
    return data.attributes[name]


def small(context: int = 8, classes: int = 0, length: int = 24) -> Transformer:
    """Gives a tiny transformer whose layers all do something."""
    torch.manual_seed(0)
    spec = Spec("text", (1, length), 256, (1 / classes,) * classes if classes else ())
    model = Transformer(TransformerConfig(width=32, depth=2, context=context), spec).eval()
    for name, param in model.named_parameters():
        if "mix" in name or "down" in name or "last" in name:
            torch.nn.init.normal_(param, 0, 0.2)
    return model


# --- The medium -----------------------------------------------------------------------------------------------------


def test_a_text_comes_back_out_of_its_windows_byte_by_byte():
    said = "Grüße, Ψυχή 🙂\n\ttwo lines"
    x = medium.encode(said, 8)
    assert x.shape[1:] == (1, 8) and x.dtype == np.uint8
    assert b"".join(medium.data(x)).decode() == said
    assert medium.lengths(x).tolist() == [8] * (len(x) - 1) + [len(said.encode()) % 8 or 8]
    text = media.get("text")
    assert text.alone(x[0], 256) == said.encode()[:8]
    back = text.kept(text.seen(torch.as_tensor(x), 256))
    assert (back == x).all()


def test_a_drawn_text_shows_its_signs_where_they_stand():
    text = media.get("text")
    blank, one, two = text.pictures(windows(["", "a", "b"]))
    assert (blank == 255).all() and (one != two).any() and one.shape == two.shape
    assert (text.pictures(windows(["x" * 33], 64))[0][:, 13:24] < 255).any()  # in the second line


def test_what_is_told_of_copies_sees_the_same_words_elsewhere():
    near = media.get("text").near(
        media.get("text").seen(
            torch.as_tensor(windows(["old red cat sat", "a red cat sat", "blue hens fly on"])), 256
        )
    )
    gaps = torch.cdist(near, near)
    assert gaps[0, 1] < 0.8 * gaps[0, 2] and gaps.diagonal().max() < 1e-3


# --- Counts and copies ----------------------------------------------------------------------------------------------


def test_the_counts_are_those_of_the_formula_written_out():
    texts = ["abab", "abc"]
    counts, rows = Counts.of(windows(texts, 6)), [b"abab\0", b"abc\0"]

    def p(byte: int, before: bytes) -> float:
        """Witten and Bell's, with lists instead of tables."""
        share = 1 / 256
        for order in range(len(before) + 1):
            context = before[len(before) - order :]
            after = [
                row[i + order]
                for row in rows
                for i in range(len(row) - order)
                if row[i : i + order] == context
            ]
            if after:
                kinds = len(set(after))
                share = (after.count(byte) + kinds * share) / (len(after) + kinds)
        return share

    nats = counts.nats(windows(["abca"], 6))[0]
    wanted = [-np.log(p(byte, b"abca\0"[:i])) for i, byte in enumerate(b"abca\0")]
    assert np.allclose(nats[:5], wanted) and np.isnan(nats[5])
    assert counts.following(b"ab").sum() == pytest.approx(1) and counts.following(
        b""
    ).argmax() == ord("a")


def test_copied_runs_are_those_that_a_search_finds():
    rng = np.random.default_rng(0)
    known = rng.integers(97, 100, (4, 60), np.uint8)
    mine = np.concatenate([rng.integers(97, 100, (3, 40), np.uint8), known[1:2, 7:47]])
    mine[0, 30:] = 0
    found, text = copies.runs(mine, known), known.tobytes()
    for row, longest in zip(mine, found, strict=True):
        said = row.tobytes().partition(b"\0")[0]
        for i, length in enumerate(longest):
            fits = [n for n in range(1, len(said) - i + 1) if said[i : i + n] in text]
            assert length == max(fits, default=0)
    assert copies.share(found, 40)[3].all() and not copies.share(found, 41).any()


def test_a_run_is_as_long_as_the_best_of_many_that_begin_alike():
    rng = np.random.default_rng(1)
    begin, ends = rng.integers(97, 123, 64, np.uint8), rng.integers(97, 123, (9, 50), np.uint8)
    rows = np.stack([np.concatenate([begin, end]) for end in ends])
    known = np.pad(rows, ((0, 0), (0, 1)))
    assert (copies.runs(rows, known)[:, 0] == 114).all()
    text = known.tobytes() + bytes(rng.integers(97, 99, 400, np.uint8)) + bytes(9)
    said = rows[4, 3:].tobytes() + b"!" + text[-300:-3] + b"ab"
    for i, length in enumerate(copies.runs_of(said, text, copies.places(text))):
        assert said[i : i + length] in text
        assert i + length == len(said) or said[i : i + length + 1] not in text
    assert copies.runs_of(b"ab", b"", copies.places(b"")) == [0, 0]


# --- Training -------------------------------------------------------------------------------------------------------


def test_an_orthogonal_step_has_the_singular_vectors_of_the_momentum_and_values_near_one():
    for shape in ((6, 16), (16, 6), (8, 8)):
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
        values = torch.linalg.svdvals(orthogonal(x))
        assert values.min() > 0.5 and values.max() < 1.3
        left, _, right = torch.linalg.svd(x, full_matrices=False)
        assert torch.einsum("nij,nij->n", orthogonal(x), left @ right).min() > 0.75 * min(shape)


def test_what_is_no_matrix_follows_adam():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    ours, theirs = (
        Muon([first], [], 0.01, (0.9, 0.95)),
        torch.optim.Adam([second], 0.01, (0.9, 0.95)),
    )
    for step in range(5):
        for param, optimiser in ((first, ours), (second, theirs)):
            param.grad = torch.tensor([1.0, -2.0, 0.1 * step])
            optimiser.step()
    assert torch.allclose(first, second, atol=1e-6)


def test_a_training_with_muon_goes_on_where_it_stopped():
    x = windows(SAID * 3, 24)
    order = np.arange(len(x))
    data = datasets.assemble(
        x, None, (), {"train": order[4:], "valid": order[:2], "test": order[2:4]}, medium="text"
    )
    config = TrainConfig(images=6 * 8, batch=8)

    def trainer() -> Trainer:
        torch.manual_seed(0)
        model = build("transformer", {"width": 32, "depth": 1, "context": 8}, spec_of(data))
        return Trainer(model, data, config, torch.device("cpu"))

    whole, part, rest = trainer(), trainer(), trainer()
    for _ in range(6):
        whole.one_step()
    for _ in range(3):
        part.one_step()
    memory = io.BytesIO()
    torch.save(part.state(), memory)
    memory.seek(0)
    rest.restore(torch.load(memory, weights_only=True))
    for _ in range(3):
        rest.one_step()
    for one, other in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert isinstance(whole.optimisers["model"], Muon)
    assert Group("model", []).optimiser == "adam"


# --- The transformer ------------------------------------------------------------------------------------------------


def test_a_byte_is_foretold_by_those_before_it_and_by_none_that_follow():
    model = small()
    codes = torch.randint(1, 256, (2, 20), generator=torch.Generator().manual_seed(0))
    told = model.foretell(codes, None)
    assert told.shape == (2, 21, 256) and told.exp().sum(-1).sub(1).abs().max() < 1e-4
    other = codes.clone()
    other[:, 12:] = 7
    assert torch.allclose(model.foretell(other, None)[:, :13], told[:, :13], atol=1e-5)
    assert not torch.allclose(model.foretell(other, None)[:, 13:], told[:, 13:], atol=1e-3)


def test_writing_with_the_cache_gives_the_bytes_of_writing_without():
    model, greedy = small(), TransformerSampling(temperature=0)
    prompt = torch.tensor(list(b"Hello"))
    free = TransformerSampling(temperature=1, top_p=0.9)
    for sampling in (greedy, free):
        with_, without = (
            torch.stack(list(model.write(prompt, [3, 8], None, 0, sampling, 24, cached=cached)), 1)
            for cached in (True, False)
        )
        assert torch.equal(with_, without)
    told = model.foretell(torch.cat([prompt, without[0]])[None], None)[0, 5:-1]
    first = next(model.write(prompt, [3], None, 0, greedy, 24))
    assert told[0].argmax() == first


def test_a_text_depends_on_its_id_and_seed_alone():
    model, sampling = small(classes=2), TransformerSampling()
    alone = model.sample([5], torch.tensor([1]), 3, sampling)
    among = model.sample([2, 5, 9], torch.tensor([0, 1, 0]), 3, sampling)
    assert torch.equal(alone[0], among[1]) and not torch.equal(among[0], among[2])
    assert alone.shape == (1, 1, 24) and isinstance(model, Writes) and isinstance(model, Scores)


def test_nothing_follows_the_end_of_a_text():
    model = small()
    with torch.no_grad():
        model.last.weight.zero_()
        model.last.weight[0] = 0.02  # ends soon
    x = (
        model.sample(range(40), None, 0, TransformerSampling(temperature=1, top_p=1))
        .mul(255)
        .round()
    )
    ended = (x == 0).cumsum(2) > 0
    assert ((x == 0) == ended).all() and ended.any()


def test_the_likelihood_of_a_text_counts_its_end_and_not_what_stands_behind():
    model = small()
    x = torch.as_tensor(windows(["hello"], 24)) / 255
    codes = model.tokens(x)
    log = model.foretell(codes, None)[0]
    wanted = sum(float(log[i, code]) for i, code in enumerate(b"hello\0"))
    generator = torch.Generator()
    assert float(model.log_prob(x, None, generator)) == pytest.approx(wanted, abs=1e-4)


@pytest.fixture(scope="module")
def learned() -> Transformer:
    """Trains a small transformer on a few sentences."""
    x = windows(SAID, 32)
    order = np.arange(len(x))
    data = datasets.assemble(
        x, None, (), {"train": order[2:], "valid": order[:1], "test": order[1:2]}, medium="text"
    )
    torch.manual_seed(0)
    model = build("transformer", {"width": 32, "depth": 2, "context": 32}, spec_of(data))
    config = TrainConfig(images=12 * 100, batch=12, warmup=5)
    trainer = Trainer(model, data, config, torch.device("cpu"))
    for _ in trainer:
        pass
    return trainer.published()  # type: ignore[return-value]


def test_it_learns_to_write_what_it_has_read(learned):
    empty = torch.zeros(0, dtype=torch.int64)
    written = torch.stack(
        list(learned.write(empty, range(8), None, 0, TransformerSampling(temperature=0.5), 32)), 1
    )
    said = medium.decode(written.numpy().astype(np.uint8))
    assert sum(text in SAID for text in said) >= 6
    right, wrong = (
        torch.as_tensor(windows([text])) / 255
        for text in ("the old cat sat on the box", "the old cat sat on the qqq")
    )
    generator = torch.Generator()
    assert learned.log_prob(right, None, generator) > learned.log_prob(wrong, None, generator) + 5


def test_an_evaluation_says_nats_beside_the_counts_and_copied_runs(learned):
    x = windows(SAID, 32)
    sets = {
        name: SimpleNamespace(x=x[rows])
        for name, rows in (("train", slice(2, 12)), ("held_out", slice(0, 2)))
    }
    log = learned.log_prob(torch.as_tensor(x[:2]) / 255, None, torch.Generator()).numpy()
    evaluator: Any = SimpleNamespace(**sets, scored=2, log_probs=lambda part: log)
    score = metrics.get("nats").make(evaluator, sets["held_out"])
    bytes_ = sum(len(text) + 1 for text in SAID[:2])
    assert score.estimate.value == pytest.approx(-log.sum() / bytes_)
    counted = np.nansum(Counts.of(x[2:12]).nats(x[:2]))
    assert (
        score.details["counts"] == pytest.approx(counted / bytes_)
        and "table of counts" in score.note
    )
    copied = metrics.get("copied_run").make(evaluator, sets["train"])
    unseen = metrics.get("copied_run").make(evaluator, sets["held_out"])
    assert copied.value > unseen.value and copied.low <= copied.value <= copied.high
    assert metrics.get("bits").takes == FORMS and "tokens" in metrics.get("kid").takes


# --- Imports --------------------------------------------------------------------------------------------------------


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def test_a_zip_of_texts_has_a_class_for_each_folder_and_keeps_documents_whole(tmp_path, setting):
    setting(data_dir=tmp_path)
    files = {
        f"{word}/{i}.txt": f"{word} {i} ".encode() * 40
        for word in ("one", "two")
        for i in range(30)
    }
    path = packed(
        tmp_path / "texts.zip", files | {"one/bad.txt": b"\xff\xfe\xfd", "one/void.txt": b" "}
    )
    seen = datasets.preview({"path": str(path)})
    assert (seen.source, seen.pictures) == ("texts", 60) and len(seen.refused) == 2
    data = datasets.bring("words", {"path": str(path)}, source="texts")
    assert (
        data.classes == ("one", "two") and data.medium.name == "text" and data.group == "document"
    )
    for document in np.unique(known(data, "group")):
        assert len(np.unique(data.split_of()[known(data, "group") == document])) == 1
    (which,) = np.flatnonzero(
        (known(data, "document") == "two/7.txt") & (known(data, "start") == 0)
    )
    assert (
        medium.data(data.x[[which]])[0] == files["two/7.txt"][:256]
        and np.asarray(data.y)[which] == 1
    )


def test_a_long_text_is_divided_where_paragraphs_end(tmp_path, setting):
    setting(data_dir=tmp_path)
    said = "\n\n".join(f"Paragraph {i}. " + "words " * (i % 7 + 1) for i in range(200))
    (tmp_path / "book.txt").write_text(said)
    data = datasets.load("texts", {"path": str(tmp_path / "book.txt"), "length": 64})
    order = np.argsort(known(data, "start"))
    assert b"".join(medium.data(data.x[order])).decode() == said
    assert data.group == "passage" and all(len(data.splits[name]) for name in datasets.SPLITS)
    for split in datasets.SPLITS:
        begins = [
            i
            for i in data.splits[split]
            if known(data, "start")[i] and known(data, "group")[i] != known(data, "group")[i - 1]
        ]
        assert all(medium.data(data.x[[i]])[0].startswith(b"Paragraph") for i in begins)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_a_table_becomes_texts_with_the_classes_of_another(tmp_path, kind):
    rows = [
        {
            "id": i,
            "review": f'It was {"good" if i % 2 else "bad"}, {i} said, "truly".',
            "author": "ab"[i % 2],
        }
        for i in range(40)
    ]
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        import csv

        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    from core.datasets import texts

    reading = texts.found(texts.TextsConfig(path=str(path)))
    assert [document.text for document in reading.documents] == [row["review"] for row in rows]
    assert reading.by == "author" and reading.documents[1].label == "b"
    with pytest.raises(UserError, match="no column 'nothing'"):
        texts.found(texts.TextsConfig(path=str(path), column="nothing"))


def test_files_named_after_splits_are_those_splits(tmp_path, setting):
    setting(data_dir=tmp_path)
    for name in ("train", "valid", "test"):
        (tmp_path / "book").mkdir(exist_ok=True)
        (tmp_path / "book" / f"{name}.txt").write_text(f"{name} words\n\n" * 60)
    data = datasets.load("texts", {"path": str(tmp_path / "book"), "length": 64})
    for name, rows in data.splits.items():
        assert set(known(data, "document")[rows]) == {f"{name}.txt"}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", b"\0\1\2" * 99, "zero byte"),
        ("a.txt", b"caf\xe9 " * 99, "no UTF-8 text"),
        ("a.csv", b'text,label\n"open,1\n', "no CSV"),
        ("a.csv", b"x,y\n1,2\n", "no column of texts"),
        ("a.jsonl", b'{"text": ' + b"[" * 5000, "too deep"),
        ("a.jsonl", b'["text"]', "no object"),
        ("a.parquet", b"PAR1" + b"\0" * 50, "no text that can be read"),
        ("a.zip", b"PK\3\4 and nothing", "no ZIP"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(tmp_path, name, content, why):
    from core.datasets import texts

    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=why):
        texts.found(texts.TextsConfig(path=str(tmp_path / name)))


def test_a_row_of_a_table_that_says_half_of_something_does_not_end_the_others(tmp_path):
    from core.datasets import texts

    rows = [
        {"text": "half of \ud800 a letter", "label": "a"},
        {"text": "half of a class", "label": 0.5},
        {"text": "no class at all", "label": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reading = texts.found(texts.TextsConfig(path=str(tmp_path / "a.jsonl")))
    assert [(d.text, d.label) for d in reading.documents] == [
        ("half of ? a letter", "a"),
        ("no class at all", "none"),
    ]
    assert [name for name, _ in reading.refused] == ["a.jsonl, row 2"]


def test_a_text_of_two_splits_is_left_out_of_the_earlier_one(tmp_path, setting):
    setting(data_dir=tmp_path)
    (tmp_path / "book").mkdir()
    for name, numbers in {"train": range(30), "test": range(25, 40)}.items():
        lines = "\n\n".join(f"number {i} " * 40 for i in numbers)
        (tmp_path / "book" / f"{name}.txt").write_text(lines + "\n\n")
    data = datasets.load("texts", {"path": str(tmp_path / "book"), "length": 64})
    said = {name: set(medium.decode(data.x[rows])) for name, rows in data.splits.items()}
    assert not said["train"] & said["test"] and any("number 30 " in text for text in said["test"])
    assert any("5 passages that a later split holds as well left out" in n for n in data.notes)


def test_pictures_with_a_table_beside_them_stay_pictures(tmp_path):
    from core.datasets import texts

    png = media.get("image").alone(np.zeros((1, 8, 8), np.uint8), 256)
    files = {f"{i}.png": png for i in range(9)} | {
        "captions.csv": b"file,text\n" + b"1.png,a long caption here\n" * 90
    }
    path = packed(tmp_path / "both.zip", files)
    with pytest.raises(UserError, match="read as pictures"):
        texts.found(texts.TextsConfig(path=str(path)))
    assert datasets.preview({"path": str(path)}).source == "folder"


@pytest.mark.parametrize("name", ["folder", "parquet", "webdataset"])
def test_texts_leave_and_come_back_byte_by_byte(tmp_path, name):
    pytest.importorskip("pyarrow")
    x = windows([*SAID, "a letter cut: ÄÖÜ"], 15)
    order = np.arange(len(x))
    splits = {"train": order[2:], "valid": order[:1], "test": order[1:2]}
    data = datasets.assemble(x, order % 2, ("a", "b"), splits, medium="text")
    going = Outgoing(data)
    layouts.get(name).make(going, tmp_path)
    assert readback.compare(going, tmp_path).differences == []


def test_what_is_wrong_with_texts_is_left_out_of_a_saved_version(tmp_path, setting, capsys):
    from core.__main__ import main

    setting(data_dir=tmp_path)
    lines = [{"text": f"{i} is a number beside {i * i}"} for i in range(40)]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, [*lines, lines[7]])))
    place = ["--set", f"path={tmp_path / 'said.jsonl'}"]
    assert main(["texts", "texts", *place, "--exclude", "exact", "--save", "once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["issues"]["exact"] == 1 and found["saved"]["texts"] == 40
    assert main(["texts", "once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["issues"]["exact"] == 0


def test_the_sentences_say_what_is_true_of_each_face():
    data = datasets.load("sentences", {"count": 200})
    assert data.classes[0] == "neutral" and (data.x[:, :, -1] == 0).all()
    from core.datasets import faces

    said = medium.decode(data.x)
    for i, text in enumerate(said):
        colour = faces.HAIR_COLOURS[known(data, "hair_colour")[i]]
        worn = faces.GLASSES[known(data, "glasses")[i]]
        assert (
            colour in text
            and (worn == "none") == ("glasses" not in text)
            and (worn == "none" or worn in text)
        )
    assert len(set(said)) > 190 and len(data) == 200


def test_bytes_that_are_no_letters_are_judged_as_they_were_written(learned):
    from core import runs
    from core.latent import writing
    from core.models import families

    opened = runs.Opened(
        "run", 1, 0, "transformer", learned, learned.spec, (), families.get("transformer").sampling
    )
    x = windows(SAID, 32)
    parts = {"train": np.arange(2, len(x)), "valid": np.arange(1), "test": np.arange(1, 2)}
    set_ = datasets.assemble(x, None, (), parts, medium="text")
    data = b"a \xff\xc3 b"  # a byte of no letter, and half of one
    found = writing.read(opened, data, set_)
    assert found.data == data and len(found.nats) == len(found.copied) == len(data)
    assert found.others and all(len(row) == writing.SHOWN for row in found.others)


def test_what_a_set_of_texts_is_and_why_it_is_not_attacked_is_said(capsys, setting, tmp_path):
    from core.__main__ import main

    setting(data_dir=tmp_path)
    assert main(["datasets", "sentences", "--set", "count=16", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["medium"], said["shape"]) == ("text", [1, 160]) and "channels" not in said
    from core.robustness import config as robust

    with pytest.raises(UserError, match="texts are made of symbols"):
        robust.names_of(robust.StudyConfig(), media.get("text"))

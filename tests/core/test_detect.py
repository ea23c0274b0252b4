"""What is known of pictures and exports: every own export is found marked, and nothing known is an answer."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import zipfile

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core import __main__, jobs, latent, runs
from core.building import archive, detect, door
from core.building.export import export
from core.building.layouts import layouts
from core.building.marks import mark
from core.catalog import UserError
from core.ground import sheets, xmp

GAN = "shipped-digits-gan"
GONE = "20200101-000000-gone"


def png(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_nothing_known_is_an_answer_and_proves_nothing():
    found = detect.picture("a.png", png())
    assert (found.made_here, found.run, found.marks) == (None, "", ())
    assert found.sentence.startswith(
        "Nothing is known of it: it carries no mark. That proves nothing"
    )
    assert detect.picture("real.png", mark(png(), "real", "")).made_here is None


def test_a_picture_names_its_run_and_whether_that_is_here(gallery):
    here = detect.picture("a.png", mark(png(), "synthetic", GAN))
    assert (here.made_here, here.run, here.marked) == (True, GAN, 1)
    assert "Its mark says that it was made by a trained generator." in here.sentence
    assert f"The run is {GAN}, which is on this computer" in here.sentence
    gone = detect.picture("a.png", mark(png(), "synthetic", GONE))
    assert (gone.made_here, gone.run) == (False, GONE)
    other = detect.picture("a.png", xmp.write(png(), xmp.Mark("humanEdits", program="Paint")))
    assert (other.made_here, other.run) == (False, "")
    changed = detect.picture("a.png", mark(png(), "augmented", ""))
    assert changed.made_here is None
    assert "was changed by an algorithm" in changed.sentence


def test_our_own_texts_and_foreign_manifests_are_read(gallery):
    sheet = detect.picture("a.png", sheets.png(np.zeros((1, 1, 8, 8), np.uint8), 1, {"run": GAN}))
    assert [(each.kind, each.run) for each in sheet.marks] == [("recall", GAN)]
    assert sheet.made_here is True
    view = latent.SavedView.of({"run": GAN, "step": 1})
    saved = detect.picture("a.png", latent.write_view(np.zeros((1, 8, 8), np.uint8), view))
    assert {each.kind for each in saved.marks} == {"xmp", "recall"}
    forged = png(**{"simulacra": '{"run": 3}', "simulacra.view": "[" * 5000})
    assert detect.picture("a.png", forged).marks == ()
    jumbf = b"\xff\xeb\0\x1eJP\0\1\0\0\0\1\0\0\0\x12jumb" + b"\0" * 10
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG")
    signed = detect.picture("a.jpg", out.getvalue()[:2] + jumbf + out.getvalue()[2:])
    assert [each.kind for each in signed.marks] == ["c2pa"]
    assert "whether it is valid was not checked" in signed.sentence


def test_a_zip_a_folder_a_tar_and_arrays_are_counted_as_wholes(tmp_path, gallery):
    made, real = mark(png(), "synthetic", GAN), png()
    rows = [("real", ""), ("synthetic", GAN), ("synthetic", GAN)]
    folder = tmp_path / "export"
    (folder / "train").mkdir(parents=True)
    with (
        zipfile.ZipFile(tmp_path / "x.zip", "w") as packed,
        tarfile.open(tmp_path / "x.tar", "w") as tar,
    ):
        for i, (origin, run) in enumerate(rows):
            picture = made if origin == "synthetic" else real
            (folder / f"train/{i}.png").write_bytes(picture)
            packed.writestr(f"train/{i}.png", picture)
            said = json.dumps({"origin": origin, "run": run}).encode()
            for name, content in ((f"{i}.png", picture), (f"{i}.json", said)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    origin, run = (np.array(column) for column in zip(*rows, strict=True))
    np.savez(tmp_path / "x.npz", origin=origin, run=run, x=np.zeros((3, 8, 8)))
    images = [{"bytes": made if name == "synthetic" else real, "path": "a.png"} for name, _ in rows]
    table = pyarrow.table({"image": images, "origin": origin.tolist(), "run": run.tolist()})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    names = ("export", "x.zip", "x.tar", "x.npz", "x.parquet")
    found = {name: detect.file(tmp_path / name) for name in names}
    assert {name: each.items for name, each in found.items()} == dict.fromkeys(found, 3)
    assert {name: each.run for name, each in found.items()} == dict.fromkeys(found, GAN)
    assert [found[name].marked for name in names if name != "x.npz"] == [2] * 4
    assert [found[name].not_real for name in names] == [None, None, 2, 2, 2]
    assert (
        "3 pictures: 2 carry a mark (2 of the kind trainedAlgorithmicMedia)."
        in found["x.zip"].sentence
    )
    sent = detect.upload("their.tar", (tmp_path / "x.tar").read_bytes())
    assert dataclasses.replace(sent, file="") == dataclasses.replace(found["x.tar"], file="")


def test_what_cannot_be_read_is_a_sentence(tmp_path, setting):
    with pytest.raises(UserError, match=r"'.*none.png' cannot be read \(No such file"):
        detect.file(tmp_path / "none.png")
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    with pytest.raises(UserError, match=r"cannot be read as \.tar"):
        detect.file(tmp_path / "x.tar")
    objects = np.array([{}], object)
    np.savez(tmp_path / "x.npz", origin=objects)
    with pytest.raises(UserError, match=r"cannot be read as \.npz: .*pickle"):
        detect.file(tmp_path / "x.npz")
    with tarfile.open(tmp_path / "large.tar", "w") as packed:
        packed.addfile(tarfile.TarInfo("a.txt"))
        (tmp_path / "a.png").write_bytes(bytes(2 * 2**20))
        packed.add(tmp_path / "a.png", "a.png")
    setting(max_unpacked_mb=1)
    with pytest.raises(UserError, match=r"more than 1 MB or .* no more are looked at"):
        detect.file(tmp_path / "large.tar")


def test_every_picture_and_film_that_a_command_writes_is_marked(tmp_path, gallery, trained):
    out = tmp_path / "grid.png"
    for words in (
        ("sample", GAN, "-n", "4"),
        ("interpolate", GAN, "--frames", "4"),
        ("directions", GAN, "--count", "1"),
        ("encode", "shipped-digits-vae", "--test", "0"),
    ):
        assert __main__.main([*words, "--out", str(out)]) == 0
        said = xmp.read(out.read_bytes())
        assert said is not None
        assert said.run == words[1]
        assert said.source == (
            "compositeWithTrainedAlgorithmicMedia"
            if words[0] == "encode"
            else "trainedAlgorithmicMedia"
        )
    frames = np.zeros((3, 1, 8, 8), np.uint8)
    for write in (latent.gif, latent.webp, *[latent.mp4] * latent.mp4_ready()):
        assert xmp.read(write(frames, 10, {"run": GAN})) == xmp.made_by(GAN)
    run = jobs.get(trained.runs["gan"])
    (_, sheet), *_ = runs.samples(run)
    assert xmp.read(sheet.read_bytes()) == xmp.made_by(run.id)
    assert len(sheets.tiles(sheet.read_bytes())) == sheets.metadata(sheet.read_bytes())["count"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png())
    words = ["augment", "digits", "--folder", str(tmp_path / "in"), "--to", str(tmp_path / "to")]
    assert __main__.main([*words, "--size", "8"]) == 0
    said = xmp.read((tmp_path / "to/a.png").read_bytes())
    assert said == xmp.Mark("algorithmicallyEnhanced", "", "augmented")


def test_the_command_says_it_of_each_file(tmp_path, gallery, capsys):
    (tmp_path / "a.png").write_bytes(mark(png(), "synthetic", GAN))
    (tmp_path / "b.png").write_bytes(png())
    files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert __main__.main(["detect", *files, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["files"]
    assert first.keys() >= {"file", "made_here", "run", "marks"}
    assert (first["made_here"], first["run"]) == (True, GAN)
    assert (second["made_here"], second["marks"]) == (None, [])
    assert __main__.main(["detect", files[1]]) == 0
    assert "Nothing is known of it" in capsys.readouterr().out


def test_every_own_export_is_found_marked_whole_with_its_run(toy, tmp_path, gallery):
    base = toy(30)
    made = np.arange(30) >= 20
    columns = {
        "origin": np.where(made, np.where(np.arange(30) < 27, "synthetic", "augmented"), "real"),
        "run": np.where(np.arange(30) < 27, np.where(made, GAN, ""), ""),
        "parent": np.where(np.arange(30) >= 27, 15, -1),
    }
    terms = {"licence": "CC0-1.0", "consent": "not needed"}
    dataset = dataclasses.replace(base, attributes=columns, terms=terms)
    config, out = door.DoorConfig(near=False), tmp_path / "out"
    export(dataset, layouts.names(), out, config=config, overrides={"seen": "drawn by this test"})
    archive(dataset, tmp_path / "whole.zip")
    found = [detect.file(path) for path in (*sorted(out.iterdir()), tmp_path / "whole.zip")]
    assert len(found) == 7
    for each in found:
        arrays = each.file.endswith(
            "npz"
        )  # which cannot carry a mark, but name the origin of each row
        assert (each.items, each.marked) == (30, 0 if arrays else 10), each.file
        assert each.not_real == (None if each.file.endswith("coco") else 10), each.file
        assert (each.made_here, each.run) == (True, GAN)
    text = (out / "parquet" / "README.md").read_text("utf-8")
    assert "  - `seen`: drawn by this test" in text

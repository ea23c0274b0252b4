"""The invisible watermark: found after what happens to pictures, seen nowhere else, and told by card and detect."""

from __future__ import annotations

import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from core import building
from core.__main__ import main
from core.building import card, detect, watermark
from core.building.door import DoorConfig
from core.building.export import sentence
from core.building.outgoing import Outgoing
from core.building.watermark import PSNR, THRESHOLD, Watermark
from core.catalog import UserError
from core.datasets import assemble, save
from core.ground.settings import settings

MARK = Watermark(b"k" * 32)


def scene(seed, side=64):
    """Draws shades, edges and grain, uint8 (3, side, side)."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, side, side)), (0, side / 10, side / 10))
    smooth = smooth / smooth.std() * 45 + 128
    smooth[:, side // 4 : side // 2, side // 3 :] += 50
    grain = ndimage.gaussian_filter(rng.normal(size=(3, side, side)), (0, 0.7, 0.7)) * 12
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def picture(x):
    return Image.fromarray(x.transpose(1, 2, 0))


def jpeg(shown):
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=75)
    return Image.open(io.BytesIO(out.getvalue()))


def distance(a, b):
    return 10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean())


@pytest.mark.parametrize("side", [64, 100])
def test_it_is_found_after_jpeg_scaling_and_crops_and_by_its_key_only(side):
    for seed in range(2):
        was = scene(seed, side)
        now = MARK.write(was)
        assert distance(was, now) >= PSNR and (now == MARK.write(was)).all()
        shown = picture(now)
        for size in (round(side * 0.9), side, round(side * 1.1)):
            assert MARK.found(jpeg(shown.resize((size, size), Image.Resampling.BICUBIC)))
        cut = side // 10
        assert MARK.found(jpeg(shown.crop((cut, cut // 2, side, side))))
        assert MARK.found(shown.convert("L"))
        assert MARK.strength(picture(was)) < THRESHOLD
        assert not Watermark(b"another key, 32 bytes long, too!").found(shown)


def test_it_survives_where_there_is_little_to_hide_it_in_and_flat_pictures_are_no_alarm():
    for level in (0, 128, 255):
        flat = np.full((1, 64, 64), level, np.uint8)
        assert MARK.strength(Image.fromarray(flat[0])) == 0
        assert MARK.found(Image.fromarray(MARK.write(flat)[0]))
    stripes = np.tile(np.arange(64, dtype=np.uint8) % 8 * 32, (64, 1))
    assert not MARK.found(Image.fromarray(stripes))
    assert not MARK.found(Image.fromarray(np.zeros((20, 20), np.uint8)))


def test_its_statistic_is_a_sum_of_cosines_over_what_chance_spreads_it():
    grey = scene(5).mean(0).astype(np.float32)
    spectrum, phases = watermark._spectrum(grey), MARK._phases
    u, v = np.nonzero(phases)
    angle = np.angle(spectrum[u, v]) - np.angle(phases[u, v])
    best = max(
        np.cos(angle + 2 * np.pi * (u * a + v * b) / 64).sum()
        for a in range(64)
        for b in range(64)
    )  # fmt: skip
    assert MARK._match(grey) == pytest.approx(best / np.sqrt(len(u) / 2), rel=1e-3)


def test_what_is_too_small_is_told():
    with pytest.raises(UserError, match=r"A picture of 60 × 64 is too small for a watermark"):
        MARK.write(scene(0)[:, :, :60])


def test_the_key_is_made_once_and_a_viewer_makes_none(setting):
    assert watermark.kept() is None
    setting(view_only=1)
    with pytest.raises(UserError, match="viewing only"):
        watermark.own()
    setting(view_only=0)
    first = watermark.own()
    file = settings().home / watermark.KEY
    assert file.stat().st_mode & 0o77 == 0 and file.read_bytes() == first.key
    assert watermark.own() == first == watermark.kept()
    assert [path.name for path in file.parent.glob("*watermark*")] == [watermark.KEY]
    file.write_bytes(b"short")
    with pytest.raises(UserError, match="is not a key of a watermark"):
        watermark.own()
    assert file.read_bytes() == b"short"


def mixed(side=64):
    x = np.stack([scene(i, 64)[:, :side, :side] for i in range(8)])
    rows = np.arange(8)
    made = rows >= 6
    columns = {
        "origin": np.where(made, "synthetic", "real"),
        "parent": np.full(8, -1),
        "run": np.where(made, "20260101-000000-gone", ""),
        "seed": np.where(made, 3, -1),
        "parameters": np.full(8, ""),
    }
    splits = {"train": rows[2:], "valid": rows[:1], "test": rows[1:2]}
    terms = {"licence": "CC0-1.0", "consent": "not needed"}
    return assemble(x, rows % 2, ("a", "b"), splits, name="mix", attributes=columns, terms=terms)


def test_an_export_marks_what_is_synthetic_only_and_detect_finds_it_without_any_metadata(
    tmp_path, capsys
):
    dataset, out = mixed(), tmp_path / "out"
    save("mix", dataset)
    words = ["export", "mix", "--as", "folder,npz", "--out", str(out), "--watermark", "--json"]
    assert main([*words, "--set", "export.near=false", "--override", "seen=a test"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["watermarked"] == 2
    assert all(not row["differences"] for row in record["layouts"])
    assert "2 items carry the watermark of this server" in sentence(record)
    readme = (out / "folder" / "README.md").read_text("utf-8")
    assert "The pixels of 2 synthetic items carry an invisible watermark" in readme
    assert watermark.KEY not in {path.name for path in out.rglob("*")}
    with np.load(out / "npz" / "dataset.npz") as arrays:
        images, origin = arrays["train_images"], arrays["train_origin"]
        assert json.loads(str(arrays["about"][0]))["watermarked"] == 2
    was = dataset.x[2:].transpose(0, 2, 3, 1)
    assert [(a == b).all() for a, b in zip(images, was, strict=True)] == (origin == "real").tolist()
    whole = detect.file(out / "folder")
    assert "The pixels of 2 of 8 that were searched carry the watermark" in whole.sentence
    bare = io.BytesIO()
    Image.fromarray(images[-1]).save(bare, "JPEG", quality=75)
    found = detect.picture("a.jpg", bare.getvalue())
    assert (found.made_here, found.run, found.marked) == (True, "", 0)
    assert [each.kind for each in found.marks] == ["watermark"]
    assert found.sentence.startswith("Its pixels carry the watermark of this server")
    intact, huge = io.BytesIO(), b"IHDR" + (10**6).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    Image.fromarray(images[-1]).save(intact, "PNG")
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + huge + zlib.crc32(huge).to_bytes(4, "big")
    for hostile in (bomb, intact.getvalue()[:300], b"\x89PNG", b"GIF89a", b"RIFF", b"\xff\xd8\xff"):
        assert detect.picture("a.png", hostile).marks == ()
    (settings().home / watermark.KEY).unlink()
    assert detect.picture("a.jpg", bare.getvalue()).made_here is None
    assert "watermark" not in card.readme(dataset)


def test_what_cannot_carry_it_is_told_before_anything_is_written(tmp_path, capsys):
    assert main(["export", "digits", "--out", str(tmp_path / "x.zip"), "--watermark"]) == 2
    assert "--push and --watermark belong to layouts" in capsys.readouterr().err
    quick = DoorConfig(near=False)
    with pytest.raises(UserError, match=r"Pictures of 32 × 32 are too small for a watermark"):
        building.export(mixed(32), ["npz"], tmp_path / "b", config=quick, watermark=True)
    real = mixed()
    assert real.attributes is not None
    real.attributes["origin"][:] = "real"
    with pytest.raises(UserError, match=r"mix has no synthetic items"):
        building.export(real, ["npz"], tmp_path / "b", config=quick, watermark=True)
    assert not (tmp_path / "b").exists()
    assert Outgoing(real).watermarked == 0

"""The view Take away of the page Build."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np

from core import datasets, jobs, worker
from core.datasets import assemble


def small():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (24, 1, 8, 8)).astype(np.uint8)
    rows = np.arange(24)
    splits = {"train": rows[8:], "valid": rows[:4], "test": rows[4:8]}
    return datasets.save("small", assemble(x, rows % 2, ("a", "b"), splits, name="small"))


def agreed():
    """States what the door asks for."""
    datasets.state("small", licence="CC0-1.0", consent="not needed")


def test_a_dataset_is_exported_followed_and_downloaded(visit, asked, spawned, setting):
    setting(nice=0, threads=1)
    small()
    seen = visit("build", data="small", **{"build.view": "take"}).calm()
    assert "**Licence unknown.**" in seen.texts("warning")
    assert seen.widget("build.take.export").disabled and seen.widget("data.zip").disabled
    assert "into the field below each sentence" in seen.texts("caption")
    seen.set(build__take__why__consent="nobody is shown")
    assert seen.widget("build.take.export").disabled and not seen.widget("data.zip").disabled
    seen.set(build__take__why__licence="I made it").press("build.take.export")
    first = spawned.pop()
    assert asked(first)["config"]["export"]["overrides"] == (
        "licence=I made it\nconsent=nobody is shown"
    )
    shutil.rmtree(jobs.get(first).path)  # or the next one waits for it
    agreed()
    seen = visit("build", data="small", **{"build.view": "take"}).calm()
    assert "build.take.why.licence" not in seen.keys()
    assert seen.widget("build.take.layouts").value == ["parquet"]
    seen.set(build__take__layouts=["parquet", "npz"]).press("build.take.export").calm()
    assert asked(spawned[0])["config"]["export"]["layouts"] == "parquet,npz"
    file = jobs.get(spawned[0]).path / "job.json"
    told = json.loads(file.read_text("utf-8"))
    told["config"]["export"]["near"] = False  # the long look has tests of its own
    file.write_text(json.dumps(told), "utf-8")
    worker.work(file.parent)
    seen.run().calm()
    (table,) = seen.tables
    assert "✓ 24 equal" in table and "24 items read back (16 train, 4 validation, 4 test)" in table
    assert {"build.take.parquet", "build.take.npz", "data.zip"} <= seen.keys()


def test_nothing_chosen_and_view_only_disable_the_export(visit, setting):
    small()
    seen = visit("build", data="small", **{"build.view": "take"})
    assert seen.set(build__take__layouts=[]).widget("build.take.export").disabled
    setting(view_only=1)
    seen = visit("build", data="small", **{"build.view": "take"}).calm()
    assert seen.widget("build.take.export").disabled


def test_a_packed_layout_hides_from_readers_that_would_mix_its_splits(tmp_path):
    from core import building

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test-00000-of-00001.parquet").write_bytes(b"x")
    with zipfile.ZipFile(io.BytesIO(building.zipped(tmp_path, "small-parquet"))) as packed:
        assert packed.namelist() == [
            "__small-parquet/data/",
            "__small-parquet/data/test-00000-of-00001.parquet",
        ]


def test_a_watermark_is_offered_for_synthetic_pictures_only_and_asked_for(visit, asked, spawned):
    small()
    agreed()
    seen = visit("build", data="small", **{"build.view": "take"}).calm()
    assert seen.widget("build.take.watermark").disabled
    assert "Pictures of 8 × 8 are too small for a watermark" in seen.texts("caption")
    rows = np.arange(12)
    x = np.random.default_rng(0).integers(0, 256, (12, 1, 64, 64)).astype(np.uint8)
    columns = {"origin": np.where(rows > 9, "synthetic", "real")}
    splits = {"train": rows[4:], "valid": rows[:2], "test": rows[2:4]}
    datasets.save("large", assemble(x, rows % 2, ("a", "b"), splits, name="large", attributes=columns))  # fmt: skip
    datasets.state("large", licence="CC0-1.0", consent="not needed")
    seen = visit("build", data="large", **{"build.view": "take"}).calm()
    seen.set(build__take__why__mark="a test")
    seen.set(build__take__watermark=True).press("build.take.export").calm()
    assert asked(spawned[-1])["config"]["export"]["watermark"] is True

"""What we export, opened by the libraries that people open it with: counts, names, splits, pixels and lineage."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import building
from core.building.door import DoorConfig
from core.building.layouts import layouts
from core.datasets import Dataset, assemble

CLASSES = ("train", "a/b", "new\nline", "x=1")
OUTSIDE = {"train": "train", "valid": "validation", "test": "test"}
LINEAGE = ("origin", "parent", "run", "seed", "parameters")


def _made() -> Dataset:
    rng = np.random.default_rng(0)
    n, rows = 72, np.arange(72)
    child = rows >= 60
    return assemble(
        rng.integers(0, 256, (n, 3, 8, 8)).astype(np.uint8),
        rows % 4,
        CLASSES,
        {"train": rows[24:], "valid": rows[:12], "test": rows[12:24]},
        name="odd set",
        attributes={
            "origin": np.where(child, np.array(["augmented", "synthetic"])[rows % 2], "real"),
            "parent": np.where(child & (rows % 2 == 0), rows - 30, -1),
            "run": np.where(child & (rows % 2 == 1), "20261201-digits-gan-1a2b", ""),
            "seed": np.where(child, 3, -1),
            "parameters": np.where(child, json.dumps([{"step": "rotate", "angle": 7.5}]), ""),
            "age": rows + 20,
            "group": np.char.add("patient ", (rows % 7).astype(str)),
        },
        group="patient",
        terms={"licence": "CC-BY-4.0", "consent": "not needed"},
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return _made()


@pytest.fixture(scope="module")
def out(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports all layouts in one press, and the ZIP."""
    folder = tmp_path_factory.mktemp("foreign")
    why = dict.fromkeys(("group", "seen"), "a test")
    quick = DoorConfig(near=False)
    building.export(dataset, layouts.names(), folder / "out", config=quick, overrides=why)
    building.archive(dataset, folder / "set.zip")
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Hugging Face datasets, with a cache of its own and without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pytest.importorskip("datasets")


def pixels(dataset: Dataset, row: int) -> bytes:
    return np.asarray(dataset.x[row]).transpose(1, 2, 0).tobytes()


def compare(dataset: Dataset, split: str, found: list[dict[str, Any]]) -> None:
    """Compares the rows of a split, each with pixels, label (a name) and lineage, in any order."""
    rows = dataset.splits[split]
    known, attributes = {int(row["id"]): row for row in found}, dataset.attributes
    assert sorted(known) == rows.tolist() and len(found) == len(rows)
    assert dataset.y is not None and attributes is not None
    for row, got in known.items():
        assert got["pixels"] == pixels(dataset, row)
        assert got["label"] == CLASSES[dataset.y[row]]
        parent, seed = attributes["parent"][row], attributes["seed"][row]
        assert got["parent"] == ("" if parent < 0 else f"{parent:02d}")
        assert got["seed"] in ((None, -1) if seed < 0 else (seed,))
        for name in ("origin", "run", "parameters", "group", "age"):
            assert got[name] == attributes[name][row], name


def picture(image: Any) -> bytes:
    return np.asarray(image).tobytes()


@pytest.mark.parametrize("layout", ["folder", "parquet", "croissant", "webdataset"])
def test_datasets_opens_the_folder_with_splits_names_pixels_and_lineage(
    hub, out, dataset, layout, tmp_path
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = hub.load_dataset(str(out / "out" / layout), cache_dir=str(tmp_path))
    assert set(opened) == set(OUTSIDE.values())
    for split, name in OUTSIDE.items():
        part = opened[name]
        if layout == "webdataset":
            found = [row["json"] | {"pixels": picture(row["png"])} for row in part]
            assert [CLASSES[row["cls"]] for row in part] == [row["label"] for row in found]
        else:
            found = [row | {"pixels": picture(row["image"])} for row in part]
        if layout in ("parquet", "croissant"):
            assert part.features["label"].names == list(CLASSES)
            found = [row | {"label": CLASSES[row["label"]]} for row in found]
        compare(dataset, split, found)


def test_the_zip_in_a_folder_opens_as_training_items_only_and_unpacked_as_all(
    hub, out, dataset, tmp_path
):
    (tmp_path / "holds").mkdir()
    shutil.copy(out / "set.zip", tmp_path / "holds" / "set.zip")
    shutil.unpack_archive(out / "set.zip", tmp_path / "unpacked")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = hub.load_dataset(str(tmp_path / "holds"), cache_dir=str(tmp_path / "c1"))
        whole = hub.load_dataset(str(tmp_path / "unpacked"), cache_dir=str(tmp_path / "c2"))
    assert set(packed) == {"train"} and set(whole) == set(OUTSIDE.values())
    for split, name in OUTSIDE.items():
        compare(dataset, split, [row | {"pixels": picture(row["image"])} for row in whole[name]])
    compare(dataset, "train", [r | {"pixels": picture(r["image"])} for r in packed["train"]])


@pytest.mark.parametrize("layout", ["folder", "parquet", "croissant", "webdataset", "coco"])
def test_a_packed_layout_is_refused_rather_than_opened_with_test_items_as_training(
    hub, out, layout, tmp_path
):
    packed = building.zipped(out / "out" / layout, f"odd-set-{layout}")
    (tmp_path / "odd.zip").write_bytes(packed)
    opened = None
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        opened = hub.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert opened is None


def test_mlcroissant_reads_every_record_and_finds_no_fault(out, dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlc = pytest.importorskip("mlcroissant")
        described = mlc.Dataset(str(out / "out" / "croissant" / "croissant.json"))
        assert not described.metadata.issues.errors, described.metadata.issues.report()
        # nobody has said how to cite it, and a day would give the same dataset other bytes
        wanted = sorted(
            warning.split('"')[1].rpartition("/")[2]
            for warning in described.metadata.issues.warnings
        )
        assert wanted == ["citeAs", "datePublished"], described.metadata.issues.report()
        records = list(described.records("default"))

    def text(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    for split, name in OUTSIDE.items():
        found = []
        for record in records:
            row = {key.removeprefix("default/"): text(value) for key, value in record.items()}
            if row["split"] == name:
                seed = None if row["seed"] is None or row["seed"] != row["seed"] else row["seed"]
                label, image = CLASSES[row["label"]], picture(row["image"])
                found.append(row | {"pixels": image, "label": label, "seed": seed})
        compare(dataset, split, found)


def test_webdataset_streams_every_sample(out, dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wds = pytest.importorskip("webdataset")
        for split, name in OUTSIDE.items():
            url = str(out / "out" / "webdataset" / f"{name}-000000.tar")
            found = []
            for sample in wds.WebDataset(url, shardshuffle=False):
                row = json.loads(sample["json"])
                assert CLASSES[int(sample["cls"])] == row["label"]
                image = Image.open(io.BytesIO(sample["png"]))
                found.append(row | {"pixels": picture(image)})
            compare(dataset, split, found)


def test_torchvision_finds_a_folder_per_class(out, dataset):
    from torchvision.datasets import ImageFolder

    from core.building.outgoing import folder_names

    assert dataset.y is not None
    folders = folder_names(CLASSES)
    for split, name in OUTSIDE.items():
        part = ImageFolder(str(out / "out" / "folder" / name))
        assert part.classes == sorted(folders) and len(part) == len(dataset.splits[split])
        for (image, label), (path, _) in zip(part, part.samples, strict=True):
            row = int(Path(path).stem)
            assert picture(image) == pixels(dataset, row)
            assert part.classes[label] == folders[dataset.y[row]]


def test_pandas_and_numpy_and_pycocotools_find_the_same(out, dataset, capsys):
    import pandas

    coco = pytest.importorskip("pycocotools.coco")
    arrays = np.load(out / "out" / "npz" / "dataset.npz", allow_pickle=False)
    assert arrays["class_names"].tolist() == list(CLASSES)
    for split, name in OUTSIDE.items():
        (shard,) = (out / "out" / "parquet" / "data").glob(f"{name}-*.parquet")
        table = pandas.read_parquet(shard).astype({"seed": object}).to_dict("records")
        for row in table:
            row["pixels"] = picture(Image.open(io.BytesIO(row["image"]["bytes"])))
            row["label"] = CLASSES[row["label"]]
            row["seed"] = None if row["seed"] != row["seed"] else row["seed"]
        compare(dataset, split, table)

        key = {"validation": "val"}.get(name, name)
        columns = (*LINEAGE, "id", "age", "group")
        found = [
            {column: arrays[f"{key}_{column}"][i] for column in columns}
            | {"pixels": arrays[f"{key}_images"][i].tobytes()}
            | {"label": CLASSES[arrays[f"{key}_labels"][i, 0]]}
            for i in range(len(arrays[f"{key}_images"]))
        ]
        compare(dataset, split, found)

        boxes = coco.COCO(str(out / "out" / "coco" / "annotations" / f"{name}.json"))
        assert min(boxes.getAnnIds()) >= 1 and min(boxes.getImgIds()) >= 1
        names = {each["id"]: each["name"] for each in boxes.loadCats(boxes.getCatIds())}
        found = []
        for image in boxes.loadImgs(boxes.getImgIds()):
            (box,) = boxes.loadAnns(boxes.getAnnIds(image["id"]))
            assert box["bbox"] == [0, 0, 8, 8]
            file = out / "out" / "coco" / image["file_name"]
            own = {"id": file.stem, "label": names[box["category_id"]]}
            found.append(image["lineage"] | own | {"pixels": picture(Image.open(file))})
        compare(dataset, split, found)

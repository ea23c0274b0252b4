"""The formats in which pictures come: what an oracle has written is read as it was, and hostile files are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core import datasets
from core.__main__ import main
from core.catalog import UserError
from core.datasets import Dataset, hub
from core.datasets.plan import FolderConfig, opened, plan
from core.datasets.tape import Tape

N = 16
X = np.random.default_rng(0).integers(0, 256, (N, 8, 8), dtype=np.uint8)
Y = np.arange(N) % 3
NAMES = ["owl", "auk", "emu"]  # not in the order of the alphabet


def png(array: np.ndarray) -> bytes:
    """A picture with exactly these values."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def load(path: Path, **values: object) -> Dataset:
    """Imports it at 8 pixels."""
    return datasets.load("folder", {"path": str(path), "size": 8, **values})


def refusal(path: Path, **values: object) -> str:
    """The sentence with which it is refused, before a pixel is decoded."""
    with pytest.raises(UserError) as told:
        plan(FolderConfig.of({"path": str(path), **values}))
    return str(told.value)


def same(
    found: Dataset, x: np.ndarray = X, y: np.ndarray = Y, names: Sequence[str] = NAMES
) -> None:
    """The pixels and the name of each class are those that were written, in any order."""

    def rows(x: Any, labels: Any) -> list[tuple[bytes, str]]:
        return sorted(
            (np.ascontiguousarray(a).tobytes(), str(b)) for a, b in zip(x, labels, strict=True)
        )

    images = x[:, None] if x.ndim == 3 else x
    assert found.y is not None
    assert rows(np.asarray(found.x), [found.classes[k] for k in found.y]) == rows(
        images, [names[k] for k in y]
    )


# --- Parquet ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[int] = range(N), names: Sequence[str] = NAMES, **columns: Any) -> pa.Table:
    """Pictures as Hugging Face's datasets keeps them."""
    image = [{"bytes": png(X[i]), "path": f"{i}.png"} for i in rows]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    number = [list(names).index(NAMES[Y[i]]) for i in rows]
    made = pa.table({"image": image, "label": number, **columns})
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def shard(folder: Path, name: str, made: pa.Table, **options: Any) -> Path:
    """Writes one, with its folders."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, folder / name, **options)
    return folder / name


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 5},
        {"use_dictionary": False, "compression": "zstd", "data_page_size": 100},
    ],
)
def test_a_parquet_file_is_read_whatever_its_pages(tmp_path, options):
    found = load(shard(tmp_path, "x.parquet", table(), **options))
    same(found)
    assert found.classes == tuple(NAMES)


def test_shards_are_one_set_by_the_names_of_their_classes(tmp_path):
    shard(tmp_path, "data/train-00000-of-00002.parquet", table(range(6)))
    shard(tmp_path, "data/train-00001-of-00002.parquet", table(range(6, 10), names=NAMES[::-1]))
    shard(tmp_path, "data/validation-00000-of-00001.parquet", table(range(10, 12)))
    shard(tmp_path, "data/test-00000-of-00001.parquet", table(range(12, 16)))
    (tmp_path / "README.md").write_text("A card.", "utf-8")
    found = load(tmp_path)
    same(found)
    assert [len(found.splits[name]) for name in datasets.SPLITS] == [10, 2, 4]
    (tmp_path / "data/train-00001-of-00002.parquet").unlink()
    assert "only 1 are here; missing is number 1" in refusal(tmp_path)


def test_shards_with_a_hash_behind_their_number_and_a_column_of_any_name_are_one_set(tmp_path):
    more = {"file": ["a"] * 8, "allow_pickle": ["b"] * 8}
    shard(tmp_path, "train-00000-of-00002-0a1b2c3d4e5f6071.parquet", table(range(8), **more))
    shard(tmp_path, "train-00001-of-00002-ff1b2c3d4e5f6072.parquet", table(range(8, 16), **more))
    found = load(tmp_path)
    same(found)
    assert found.attributes is not None and {"file", "allow_pickle"} <= set(found.attributes)


def test_lineage_and_further_columns_come_back_typed(tmp_path):
    made = table(
        id=[f"{i:03}" for i in range(N)],
        split=["train"] * 10 + ["validation"] * 2 + ["test"] * 4,
        origin=["augmented"] + ["real"] * 15,
        parent=["005"] + [""] * 15,
        run=["r"] + [""] * 15,
        seed=pa.array([7] + [None] * 15, pa.int64()),
        parameters=['{"a":1}'] + ["{}"] * 15,
        age=[i / 2 for i in range(N)],
        ward=[f"w{i // 4}" for i in range(N)],
        ill=[i % 2 == 0 for i in range(N)],
        boxes=[[1, 2]] * N,
    )
    found = load(shard(tmp_path, "x.parquet", made))
    known = dict(found.attributes or {})
    row = list(known["origin"]).index("augmented")
    assert known["picture"][known["parent"][row]] == "5.png"
    assert (known["parent"] >= 0).sum() == 1 and set(known["seed"]) == {7, -1}
    assert (known["run"][row], known["parameters"][row]) == ("r", '{"a":1}')
    assert [known[n].dtype.kind for n in ("age", "ward", "ill")] == ["f", "U", "b"]
    assert "id" not in known and "Columns of lists and the like are left out: boxes." in found.notes
    assert [len(found.splits[name]) for name in datasets.SPLITS] == [10, 2, 4]
    assert row in found.splits["train"]
    grouped = load(tmp_path / "x.parquet", group="ward", label="origin")
    assert (grouped.group, grouped.classes) == ("ward", ("augmented", "real"))


def test_what_was_made_of_others_is_never_held_out_by_chance(tmp_path):
    origin = ["real"] * 8 + ["synthetic"] * 8
    found = load(
        shard(tmp_path, "x.parquet", table(origin=origin)), valid_share=0.4, test_share=0.4
    )
    held = np.concatenate([found.splits["valid"], found.splits["test"]])
    assert len(held) and set((found.attributes or {})["origin"][held]) == {"real"}


def forged(folder: Path, name: str) -> Path:
    """A Parquet file that is not what it should be."""
    file = shard(folder, "x.parquet", table())
    data = file.read_bytes()
    if name == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif name == "footer":  # its length points before the beginning
        file.write_bytes(data[:-8] + struct.pack("<I", 2**30) + b"PAR1")
    elif name == "noise":
        file.write_bytes(data[:-60] + bytes(52) + data[-8:])
    elif name == "pictureless":
        pq.write_table(pa.table({"a": [1, 2]}), file)
    elif name == "names":
        pq.write_table(table(names=[*NAMES, "owl"]), file)
    elif name == "schema":
        pq.write_table(table().replace_schema_metadata({"huggingface": "{"}), file)
    elif name == "bomb":
        rows = pa.table({"image": pa.array([bytes(2**17)] * 9, pa.binary())})
        pq.write_table(rows, file, compression="zstd", use_dictionary=False)
    elif name == "classes":
        shard(folder, "y.parquet", table(names=[*NAMES, "tit"]))
        return folder
    elif name == "columns":
        shard(folder, "y.parquet", pa.table({"photo": [png(X[0])]}))
        return folder
    return file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut", "is no Parquet file that can be read, or is damaged"),
        ("footer", "is no Parquet file that can be read, or is damaged"),
        ("noise", "is no Parquet file that can be read, or is damaged"),
        ("pictureless", "has no column of pictures"),
        ("names", "does not name each class of 'label' once"),
        ("schema", "has a schema of Hugging Face that cannot be read"),
        ("bomb", "times its size, and at most 250 times is allowed"),
        ("classes", "names other classes in 'label'"),
        ("columns", "has no column 'image' of pictures"),
    ],
)
def test_a_forged_parquet_file_is_a_sentence(tmp_path, monkeypatch, name, said):
    monkeypatch.setattr("core.datasets.formats.parquet.SMALL", 2**20)
    assert said in refusal(forged(tmp_path, name))


def test_numbers_of_classes_that_a_gap_has_turned_into_floats_are_classes(tmp_path):
    numbers = pa.array([None if i == 3 else float(Y[i]) for i in range(N)])
    made = table().drop_columns("label").append_column("label", numbers)
    found = load(shard(tmp_path, "x.parquet", made.replace_schema_metadata(None)))
    assert found.classes == ("0", "1", "2") and len(found) == N - 1
    made = made.set_column(1, "label", pa.array([i / 7 for i in range(N)]))
    assert not load(shard(tmp_path, "y.parquet", made.replace_schema_metadata(None))).classes


def test_one_large_value_that_a_million_rows_name_is_held_once(tmp_path):
    value = np.random.default_rng(0).bytes(2**20)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), [value])
    made = pa.table({"image": column})
    file = shard(
        tmp_path, "x.parquet", made, store_schema=False
    )  # which says that it is a dictionary
    before = pa.total_allocated_bytes()
    with opened(FolderConfig.of({"path": str(file)})) as source:
        assert len(source.files) == 50_000
        assert source.read(source.files[40_000], 2**30) == value
        assert pa.total_allocated_bytes() - before < 2**26  # not 50 GB


def test_rows_without_a_picture_or_a_class_are_named(tmp_path):
    image = [{"bytes": png(X[i]), "path": f"{i}.png"} for i in range(N)]
    image[3], image[4] = None, {"bytes": b"no picture", "path": "4.png"}  # type: ignore[call-overload]
    label = ["a"] * 15 + [None]
    found = load(shard(tmp_path, "x.parquet", pa.table({"image": image, "label": label})))
    assert len(found) == 13
    reasons = dict(found.refused)
    assert reasons["x/000003"] == "has no picture in its row"
    assert reasons["4.png"].startswith("is not a PNG")
    assert reasons["15.png"] == "has no label in the Parquet file"


def test_tables_beside_pictures_bring_their_columns_also_as_parquet(tmp_path):
    for split, rows in {"train": range(10), "val": range(10, 12), "test": range(12, 16)}.items():
        (tmp_path / split).mkdir()
        for i in rows:
            (tmp_path / split / f"{i}.png").write_bytes(png(X[i]))
        made = pa.table({
            "file_name": [f"{i}.png" for i in rows], "label": [NAMES[Y[i]] for i in rows], "age": [float(i) for i in rows],
            "seed": pa.array([None for _ in rows], pa.int64()), "origin": ["real" for _ in rows],
        })  # fmt: skip
        about = {"classes": NAMES, "terms": {"licence": "CC0-1.0", "consent": "given"}}
        made = made.replace_schema_metadata({"simulacra": json.dumps(about)})
        shard(tmp_path, f"{split}/metadata.parquet", made)
    found = load(tmp_path)
    same(found)
    assert found.classes == tuple(NAMES)
    assert found.terms == {"licence": "CC0-1.0", "consent": "given"}
    assert [len(found.splits[name]) for name in datasets.SPLITS] == [10, 2, 4]
    assert set((found.attributes or {})["age"]) == set(map(float, range(N)))


# --- NPZ ----------------------------------------------------------------------------------------------------------


def npz(file: Path, arrays: Mapping[str, Any], packed: bool = True, pickled: bool = False) -> Path:
    """Writes one by numpy."""
    (np.savez_compressed if packed else np.savez)(file, allow_pickle=pickled, **arrays)
    return file


PARTS = {"train": slice(0, 10), "val": slice(10, 12), "test": slice(12, 16)}
MEDMNIST = {
    f"{part}_{name}": values[at]
    for part, at in PARTS.items()
    for name, values in {"images": X, "labels": Y[:, None]}.items()
}


@pytest.mark.parametrize("packed", [True, False])
def test_an_npz_with_the_keys_of_medmnist(tmp_path, packed):
    found = load(npz(tmp_path / "x.npz", MEDMNIST, packed))
    same(found, names=["0", "1", "2"])
    assert [len(found.splits[name]) for name in datasets.SPLITS] == [10, 2, 4]


def test_an_npz_with_names_columns_and_colours_before_the_rows(tmp_path):
    colour = np.random.default_rng(1).integers(0, 256, (N, 3, 8, 8), dtype=np.uint8)
    arrays = {"x": colour, "y": Y, "class_names": np.array(NAMES), "age": np.arange(N)}
    (tmp_path / "set").mkdir()
    npz(tmp_path / "set/x.npz", arrays)
    found = load(tmp_path / "set")
    same(found, colour)
    assert found.classes == tuple(NAMES)
    assert sorted((found.attributes or {})["age"]) == list(range(N))


@pytest.mark.parametrize("packed", [True, False])
def test_an_npz_inside_a_zip_is_read_as_an_upload_of_its_folder_comes(tmp_path, packed):
    inside = npz(tmp_path / "x.npz", MEDMNIST, packed).read_bytes()
    found = load(zipped(tmp_path / "set.zip", {"set/x.npz": inside, "set/README.md": b"A card."}))
    same(found, names=["0", "1", "2"])
    assert [len(found.splits[name]) for name in datasets.SPLITS] == [10, 2, 4]
    assert "cut off" in refusal(zipped(tmp_path / "cut.zip", {"x.npz": inside[:-300]}))


def test_an_npz_of_16_bits_keeps_its_range(tmp_path):
    deep = (X.astype(np.uint16) * 16)[:, None].repeat(1, 1)[:, 0]
    found = load(npz(tmp_path / "x.npz", {"images": deep}))
    assert found.imported("range")["largest"] == deep.max() and not found.classes


def npy(head: str, version: bytes = b"\x01\x00", body: bytes = b"") -> bytes:
    """An array with a head as somebody wishes."""
    text = head.encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body


def zipped(file: Path, members: Mapping[str, bytes]) -> Path:
    """Writes a ZIP of these."""
    import zipfile

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


HEAD = "{'descr': '|u1', 'fortran_order': False, 'shape': %s}"
HOSTILE_NPZ: dict[str, tuple[Callable[[Path], Path], str]] = {
    "objects": (lambda f: npz(f, {"x": np.array([{}] * 8, object)}, pickled=True), "a pickle, which runs code"),
    "volumes": (lambda f: npz(f, {"x": np.zeros((4, 28, 28, 28), np.uint8)}), "volumes of three dimensions"),
    "several": (lambda f: npz(f, {"x": X, "y": np.zeros((N, 14), np.uint8)}), "several labels for an image"),
    "counts": (lambda f: npz(f, {"x": X, "y": Y[:5]}), "has 16 images in 'x' and 5 labels in 'y'"),
    "doubles": (lambda f: npz(f, {"x": X.astype(float)}), "holds 'x' as float64"),
    "columns": (lambda f: npz(f, {"x": np.asfortranarray(X)}), "Fortran order"),
    "nameless": (lambda f: npz(f, {"a": X}), "has no images under a name that is known"),
    "numbers": (lambda f: npz(f, {"x": X, "y": Y, "classes": np.array(["a"])}), "1 names of classes, and labels from 0"),
    "huge": (lambda f: zipped(f, {"x.npy": npy(HEAD % "(1000000000, 8, 8)", body=bytes(64))}), "which is cut off"),
    "negative": (lambda f: zipped(f, {"x.npy": npy(HEAD % "(-1, 8, 8)")}), "whose shape (-1, 8, 8) is none"),
    "head": (lambda f: zipped(f, {"x.npy": npy("{'descr': __import__('os')}")}), "no array that can be read"),
    "magic": (lambda f: zipped(f, {"x.npy": b"hello"}), "no array that can be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NPZ)
def test_a_hostile_npz_is_a_sentence(tmp_path, name):
    make, said = HOSTILE_NPZ[name]
    assert said in refusal(make(tmp_path / "x.npz"))


def test_an_array_may_not_unpack_to_more_than_is_allowed(tmp_path, setting):
    setting(max_unpacked_mb=1)
    file = npz(tmp_path / "x.npz", {"x": np.zeros((30_000, 8, 8), np.uint8)})
    assert "at most 1 MB are allowed" in refusal(file)


# --- IDX ----------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray, kind: int = 8, dims: Sequence[int] = ()) -> bytes:
    """A file of MNIST."""
    dims = dims or values.shape
    return struct.pack(f">HBB{len(dims)}I", 0, kind, len(dims), *dims) + values.tobytes()


def mnist(folder: Path, packed: bool = True, **more: bytes) -> Path:
    """A folder of four files as MNIST has them; others take the place of some."""
    folder.mkdir(exist_ok=True)
    small = Y.astype(np.uint8)
    files = {
        "train-images-idx3-ubyte": idx(X[:12]), "train-labels-idx1-ubyte": idx(small[:12]),
        "t10k-images-idx3-ubyte": idx(X[12:]), "t10k-labels-idx1-ubyte": idx(small[12:]),
    } | {name.replace("_", "-"): content for name, content in more.items()}  # fmt: skip
    for name, content in files.items():
        place = folder / f"{name}.gz" if packed else folder / name
        place.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_the_files_of_mnist(tmp_path, packed):
    found = load(mnist(tmp_path / "x", packed))
    same(found, names=["0", "1", "2"])
    assert len(found.splits["test"]) == 4


IMAGES = "train_images_idx3_ubyte"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({IMAGES: idx(X[:12], dims=(10**6, 28, 28))}, "is cut off"),
        ({IMAGES: idx(X[:12], dims=(2**32 - 1,) * 3)}, "is cut off"),
        ({IMAGES: idx(X[:12])[:-5]}, "is cut off"),
        ({IMAGES: idx(X[:12]) + b"more"}, "is longer than"),
        ({IMAGES: idx(X[:12], kind=13)}, "numbers of the type float32"),
        ({IMAGES: idx(X[:11])}, "holds 11 images, and"),
        ({IMAGES: idx(X[:12], dims=(12, 64))}, "which is none of images"),
        ({IMAGES: idx(X[:0], dims=(12, 0, 8))}, "which is not allowed"),
    ],
)
def test_hostile_files_of_mnist_are_a_sentence(tmp_path, more, said):
    assert said in refusal(mnist(tmp_path / "x", **more))


def test_a_damaged_gzip_and_one_that_unpacks_to_too_much(tmp_path, setting):
    whole = gzip.compress(idx(X))
    (tmp_path / "x.gz").write_bytes(whole[: len(whole) - 20])
    assert "is damaged" in refusal(tmp_path / "x.gz")
    setting(max_unpacked_mb=1)
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(np.zeros((30_000, 8, 8), np.uint8))))
    assert "unpacks to more than 1 MB" in refusal(tmp_path / "x.gz")


# --- CIFAR --------------------------------------------------------------------------------------------------------

COLOUR = np.random.default_rng(2).integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)


def batch(rows: slice, labels: Sequence[Sequence[int]]) -> bytes:
    """Records of CIFAR: the labels of an image, then its colours."""
    pairs = zip(labels, COLOUR[rows], strict=True)
    return b"".join(bytes(numbers) + image.tobytes() for numbers, image in pairs)


def cifar(file: Path, **more: bytes | None) -> Path:
    """A tar as it is given away, packed by gzip; others take the place of some files, or they are left out."""
    names = "\n".join(["plane", "car", "bird", *"defghij"]) + "\n\n"
    files = {
        "data_batch_1.bin": batch(slice(0, 12), [[k] for k in Y[:12]]),
        "test_batch.bin": batch(slice(12, 16), [[k] for k in Y[12:]]),
        "batches.meta.txt": names.encode(),
    } | {name.replace("__", "."): content for name, content in more.items()}  # fmt: skip
    with tarfile.open(file, "w:gz") as tar:
        for name, content in files.items():
            if content is not None:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file


def test_cifar_10_in_its_binary_version(tmp_path):
    found = datasets.load("folder", {"path": str(cifar(tmp_path / "cifar-10-binary.tar.gz"))})
    same(found, COLOUR, names=["plane", "car", "bird"])
    assert len(found.classes) == 10 and len(found.splits["test"]) == 4


def test_cifar_100_has_two_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(batch(slice(0, 12), [[k, 30 + k] for k in Y[:12]]))
    (tmp_path / "test.bin").write_bytes(batch(slice(12, 16), [[k, 30 + k] for k in Y[12:]]))
    found = datasets.load("folder", {"path": str(tmp_path)})
    assert found.classes == ("30", "31", "32") and set((found.attributes or {})["coarse"]) == {
        0,
        1,
        2,
    }


PICKLED = pickle.dumps({"data": 1}, protocol=2)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"data_batch_2": PICKLED},
            "is a pickle, as CIFAR's Python version is, and a pickle runs code",
        ),
        (
            {"data_batch_1__bin": None, "test_batch__bin": None, "data_batch_1": PICKLED},
            "Take the binary version",
        ),
        (
            {"data_batch_1__bin": batch(slice(0, 12), [[0]] * 12)[:-1], "test_batch__bin": None},
            "No picture",
        ),
        (
            {"test_batch__bin": batch(slice(0, 12), [[0, 99]] * 12)},
            "mixes batches of CIFAR-10 and CIFAR-100",
        ),
        ({"batches__meta__txt": b"a\nb\n"}, "must name 10 classes, each once"),
        ({"batches__meta__txt": b"a\n" * 10}, "must name 10 classes, each once"),
    ],
)
def test_hostile_batches_are_a_sentence(tmp_path, more, said):
    file = cifar(tmp_path / "x.tar.gz", **more)
    if said == "No picture":  # a batch that is cut off is none of a format that is known
        with pytest.raises(UserError, match=said):
            load(file)
    else:
        assert said in refusal(file)


def test_a_label_that_none_of_the_classes_has_is_a_sentence(tmp_path, monkeypatch):
    from core.datasets.formats import cifar as format

    (tmp_path / "data_batch_1.bin").write_bytes(batch(slice(0, 2), [[3], [77]]))
    monkeypatch.setattr(format, "_labels", lambda volume, file: 1)  # the first ones looked right
    assert "has a label 77, and CIFAR-10 has at most 9" in refusal(tmp_path)


# --- WebDataset ---------------------------------------------------------------------------------------------------


def tar(
    file: Path, members: Sequence[tuple[str, bytes]], change: Any = None, mode: str = "w"
) -> Path:
    """Writes a tar by tarfile; `change` forges the head of each member."""
    with tarfile.open(file, mode) as out:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if change:
                change(member)
            out.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return file


def samples(
    rows: Sequence[int], said: Callable[[int], dict[str, bytes]]
) -> list[tuple[str, bytes]]:
    """A picture and what is said of it, for each row."""
    return [
        (f"{i:06}.{ending}", content)
        for i in rows
        for ending, content in ({"png": png(X[i])} | said(i)).items()
    ]


def test_tars_with_numbers_and_names_are_one_set(tmp_path):
    def said(i: int) -> dict[str, bytes]:
        record = {"label": NAMES[Y[i]], "id": f"{i:03}", "origin": "real", "age": i}
        return {"cls": str(Y[i]).encode(), "json": json.dumps(record).encode()}

    tar(tmp_path / "train-000000.tar", samples(range(12), said))
    tar(tmp_path / "test-000000.tar", samples(range(12, 16), said))
    found = load(tmp_path)
    same(found)
    assert found.classes == tuple(NAMES) and len(found.splits["test"]) == 4
    assert sorted((found.attributes or {})["age"]) == list(range(N))


def test_one_tar_packed_by_gzip_with_classes_alone(tmp_path):
    file = tar(
        tmp_path / "x.tar.gz", samples(range(N), lambda i: {"cls": str(Y[i]).encode()}), mode="w:gz"
    )
    same(load(file), names=["0", "1", "2"])


def test_a_tar_of_folders_is_read_as_folders_are(tmp_path):
    file = tar(tmp_path / "x.tar", [(f"./{NAMES[Y[i]]}/{i}.png", png(X[i])) for i in range(N)])
    same(load(file))


def linked(kind: bytes) -> Callable[[Any], None]:
    """Makes a member a link out of the tar."""

    def change(member: Any) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    return change


def cut(file: Path, most: int) -> Path:
    """Leaves only the beginning."""
    file.write_bytes(file.read_bytes()[:most])
    return file


def before(file: Path, count: int) -> Path:
    """Puts heads of long names before the first member, one before the other."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 5
    file.write_bytes((name.tobuf() + b"a.png".ljust(512, b"\0")) * count + file.read_bytes())
    return file


ONE = samples(range(2), lambda i: {"cls": b"1"})
HOSTILE_TARS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "up": (lambda f: tar(f, [("../x.png", b"x"), *ONE]), "whose path leads out of it"),
    "root": (lambda f: tar(f, [("/etc/x.png", b"x"), *ONE]), "whose path leads out of it"),
    "link": (lambda f: tar(f, ONE, linked(tarfile.SYMTYPE)), "which is a link"),
    "hard": (lambda f: tar(f, ONE, linked(tarfile.LNKTYPE)), "which is a link"),
    "device": (lambda f: tar(f, ONE, linked(tarfile.CHRTYPE)), "which is no plain file"),
    "torn": (lambda f: tar(f, [*ONE, ("000000.json", b"{}")]), "has the key '000000' twice"),
    "dots": (lambda f: tar(f, [("img_0.5.png", png(X[0])), ("img_0.7.png", png(X[1])), ("img_0.cls", b"1")]),
             "two pictures under the key 'img_0'"),
    "json": (lambda f: tar(f, [("0.png", png(X[0])), ("0.json", b"{")]), "which is no JSON"),
    "deep": (lambda f: tar(f, [("0.png", png(X[0])), ("0.json", b"[" * 5000)]), "at most 20 levels"),
    "cut": (lambda f: cut(tar(f, ONE), 700), "unexpected end of data"),
    "name": (lambda f: tar(f, [("x" * 2**21, b""), *ONE]), "a name or a header that is too long"),
    "names": (lambda f: before(tar(f, ONE), 40), "too many headers before a file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_a_hostile_tar_is_a_sentence(tmp_path, name):
    make, said = HOSTILE_TARS[name]
    assert said in refusal(make(tmp_path / "x.tar"))


def test_the_members_of_a_tar_are_bounded(tmp_path, setting):
    setting(max_files=2)
    file = tar(tmp_path / "x.tar", [(f"{i}.txt", b"") for i in range(9)])
    with pytest.raises(UserError, match="more than 2 files"):
        Tape.of(file)


# --- Croissant ----------------------------------------------------------------------------------------------------


def described(folder: Path, **change: Any) -> Path:
    """A Parquet file, and its description."""
    file = shard(folder, "data/train-00000-of-00001.parquet", table())
    entry = {
        "@type": "cr:FileObject", "contentUrl": "data/train-00000-of-00001.parquet",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "encodingFormat": "application/x-parquet",
    } | change  # fmt: skip
    about = {
        "name": "birds",
        "license": "https://spdx.org/licenses/CC-BY-4.0",
        "distribution": [entry],
    }
    (folder / "croissant.json").write_text(json.dumps(about), "utf-8")
    return folder


def test_a_croissant_gives_its_licence_and_its_checksum_is_held(tmp_path):
    found = load(described(tmp_path))
    same(found)
    assert found.terms["licence"] == "CC-BY-4.0"
    assert "Its description calls it 'birds'." in found.notes
    assert load(tmp_path, licence="mine").terms["licence"] == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "is not the file that croissant.json describes"),
        ({"sha256": None}, "must name its sha256"),
        ({"sha256": 5}, "must name its sha256"),
        ({"contentUrl": "data/other.parquet"}, "which is not here"),
        ({"contentUrl": "../../etc/passwd"}, "which is not here"),
        ({"contentUrl": "https://example.org/x.parquet"}, "describes no Parquet file that is here"),
    ],
)
def test_a_hostile_croissant_is_a_sentence(tmp_path, change, said):
    assert said in refusal(described(tmp_path, **change))


def test_a_croissant_that_is_no_json_is_a_sentence(tmp_path):
    described(tmp_path)
    (tmp_path / "croissant.json").write_text("{", "utf-8")
    assert "is no JSON that can be read" in refusal(tmp_path)


# --- All of them --------------------------------------------------------------------------------------------------


def test_a_format_is_told_by_content_and_shown_before(tmp_path, capsys):
    file = shard(tmp_path, "birds.zip", table())  # whatever its name
    told = datasets.preview({"path": str(file)})
    assert (told.format, told.pictures, told.readings[0]["classes"]) == (
        "Parquet",
        N,
        {"auk": 5, "emu": 5, "owl": 6},
    )
    assert main(["datasets", "folder", "--look", "--set", f"path={file}"]) == 0
    assert "format: Parquet" in capsys.readouterr().out


def test_files_of_a_visitor_are_read_alone_or_together(tmp_path):
    parts = {
        f"train-0000{i}-of-00002.parquet": shard(tmp_path, "x", table(rows)).read_bytes()
        for i, rows in enumerate((range(9), range(9, N)))
    }
    for files in (
        list(parts.items()),
        [("x.npz", npz(tmp_path / "y.npz", MEDMNIST).read_bytes())],
    ):
        with datasets.received("birds", files) as path:
            assert path.parent != tmp_path and path.name.startswith("birds")
            assert plan(FolderConfig.of({"path": str(path)})).taken == "file"


def test_a_job_finds_a_file_of_any_format_that_was_named_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shard(tmp_path, "x.parquet", table())
    assert datasets.check("folder", {"path": "x.parquet"})["path"] == str(tmp_path / "x.parquet")
    assert datasets.teaches("folder", {"path": "x.parquet"})


# --- The hub ------------------------------------------------------------------------------------------------------


def test_a_dataset_of_the_hub_is_fetched_once_and_whole(tmp_path, monkeypatch, setting):
    setting(data_dir=tmp_path / "data")  # the data of this computer stay as they are
    library = pytest.importorskip("huggingface_hub")
    source, asked = tmp_path / "hub", []
    shard(source, "data/train-00000-of-00001.parquet", table())
    listed = [SimpleNamespace(rfilename="data/train-00000-of-00001.parquet", size=9),
              SimpleNamespace(rfilename="run_me.py", size=9)]  # fmt: skip

    def snapshot(id: str, *, local_dir: Path, allow_patterns: list[str], **more: Any) -> None:
        asked.append((id, allow_patterns))
        for name in allow_patterns:
            (local_dir / name).parent.mkdir(parents=True)
            (local_dir / name).write_bytes((source / name).read_bytes())

    about = SimpleNamespace(sha="abc", siblings=listed)
    monkeypatch.setattr(
        library, "HfApi", lambda: SimpleNamespace(dataset_info=lambda *a, **b: about)
    )
    monkeypatch.setattr(library, "snapshot_download", snapshot)
    for _ in range(2):
        found = datasets.load("folder", {"path": "hf://datasets/me/birds", "size": 8})
    same(found)
    assert asked == [("me/birds", ["data/train-00000-of-00001.parquet"])]
    assert found.source["config"]["path"] == "hf://datasets/me/birds"


def test_without_a_network_a_dataset_of_the_hub_is_a_sentence(tmp_path, monkeypatch, setting):
    setting(data_dir=tmp_path / "data")
    library = pytest.importorskip("huggingface_hub")

    def offline(*args: object, **more: object) -> None:
        raise library.errors.OfflineModeIsEnabled("no")

    monkeypatch.setattr(library, "HfApi", lambda: SimpleNamespace(dataset_info=offline))
    with pytest.raises(UserError, match="is set to work without a network"):
        hub.fetched("hf://datasets/me/birds")
    for wrong in (
        "hf://datasets/birds",
        "hf://datasets/../../etc",
        "hf://datasets/a/b/c",
        "hf://datasets/",
    ):
        with pytest.raises(UserError, match="is named hf://datasets/OWNER/NAME"):
            hub.place(wrong)

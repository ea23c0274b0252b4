"""Datasets: what every source promises, what is done with hostile files, and what is on disk after."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from core import datasets
from core.catalog import UserError
from core.datasets import SPLITS, Dataset, assemble, digests, split_by_content, store
from core.datasets.pictures import KINDS, NO_PICTURE, Span, decode
from core.ground import scratch
from core.ground.settings import settings
from core.ground.watch import Watch

ROOT = Path(__file__).resolve().parents[2]
FACES = {"count": 60, "size": 16}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloaded datasets, whatever the machine has."""
    monkeypatch.setenv("SIMULACRA_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    return tmp_path / "data"


def encoded(
    seed: int, kind: str = "PNG", size: tuple[int, int] = (12, 10), mode: str = "RGB"
) -> bytes:
    """A picture of noise, as a file."""
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], *bands), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A ZIP."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def spread(root: Path, members: dict[str, bytes]) -> Path:
    """The same files as a directory."""
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def classes_of(*names: str, each: int = 8) -> dict[str, bytes]:
    """Pictures in one folder per class."""
    return {
        f"{name}/{i}.png": encoded(100 * number + i)
        for number, name in enumerate(names)
        for i in range(each)
    }


def load(path: Path, **values: object) -> Dataset:
    """Imports a directory or a ZIP at 8 pixels."""
    return datasets.load("folder", {"path": str(path), "size": 8, **values})


def refusal(path: Path, **values: object) -> str:
    """Imports what cannot be imported: gives the text, and sees that nothing is left of it."""
    with pytest.raises(UserError) as caught:
        load(path, **values)
    left = [
        file for file in settings().cache.rglob("*") if file.suffix != ".lock" and file.is_file()
    ]
    assert left == []
    return str(caught.value)


def write_idx(folder: Path, images: int = 60, tests: int = 20, repeat: int = 0) -> None:
    """The four files of MNIST, tiny; the first `repeat` training images are test images too."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    test = random.integers(0, 256, (tests, 28, 28), dtype=np.uint8)
    train = random.integers(0, 256, (images, 28, 28), dtype=np.uint8)
    train[:repeat] = test[:repeat]
    for part, pixels in (("train", train), ("t10k", test)):
        labels = (np.arange(len(pixels)) % 10).astype(np.uint8)
        head = struct.pack(">4i", 0x803, len(pixels), 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">2i", 0x801, len(pixels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def fake_cifar10(data: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Puts 80 + 20 images in the place of CIFAR-10's checksummed ones; gives the training pixels."""
    import torchvision

    from core.datasets import sources

    class Tiny:
        classes = ("airplane", "truck")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            n = 80 if train else 20
            self.data = np.random.default_rng(train).integers(0, 256, (n, 32, 32, 3), np.uint8)
            self.targets = [i % 2 for i in range(n)]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Tiny)
    spread(data / "cifar-10-batches-py", dict.fromkeys(sources._BATCHES, b"x"))
    return Tiny("", True, False).data


# --- What every source promises -------------------------------------------------------------------


def test_importing_them_is_cheap():
    code = (
        "import sys; from core import datasets; datasets.names(); datasets.describe('mnist');"
        "print(*[m for m in ('torch', 'torchvision', 'sklearn', 'pandas', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (out.stdout.strip(), out.stderr) == ("", "")


def test_a_cached_set_is_opened_without_what_built_it(data: Path):
    write_idx(data / "MNIST/raw")
    datasets.load("mnist")
    datasets.load("digits")
    code = (
        "import sys; from core import datasets; datasets.load('digits'); datasets.load('mnist');"
        "print(*[m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (out.stdout.strip(), out.stderr) == ("", "")


@pytest.mark.parametrize("name", [e.name for e in datasets.datasets if e.medium == "image"])
def test_every_source_keeps_the_contract(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    values: dict[str, object] = {}
    if name in ("mnist", "fashion_mnist", "kmnist"):
        folder = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}[name]
        write_idx(data / folder / "raw")
    if name == "cifar10":
        fake_cifar10(data, monkeypatch)
    if name == "faces":
        values = dict(FACES)
    if name == "folder":
        values = {"path": str(pack(tmp_path / "x.zip", classes_of("a", "b"))), "size": 8}
    calls: list[tuple[int, int]] = []

    class Heard(Watch):
        def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
            assert done is not None
            calls.append((int(done), int(total)))

    found = datasets.load(name, values, Heard())
    assert found.name == name
    assert found.medium.name == "image"
    assert found.parent is None
    assert found.x.dtype == np.uint8
    assert found.x.shape[1:] == (
        found.channels,
        found.size,
        found.size,
    )
    assert found.x.max() < found.levels
    assert not found.x.flags.writeable
    assert set(found.splits) == set(SPLITS)
    assert all(len(index) for index in found.splits.values())
    assert all((np.diff(index) > 0).all() for index in found.splits.values())
    assert found.labelled
    assert found.y is not None
    assert set(found.y) <= set(range(len(found.classes)))
    total = sum(n for row in found.counts().values() for n in row.values())
    assert total == len(found) == len(found.x)
    x, y = found.part("valid")
    assert y is not None
    assert len(x) == len(y) == len(found.splits["valid"])
    keys = digests(found.x)
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not np.isin(keys[found.splits[one]], keys[found.splits[other]]).any()
    assert name == "digits" or calls[-1][0] == calls[-1][1]
    again = datasets.load(found.source["name"], found.source["config"])
    assert again.fingerprint == found.fingerprint
    assert len(found.fingerprint) == 64
    described = datasets.describe(name)
    assert described.title
    assert described.caption.endswith(".")
    assert not described.saved


def test_digits_are_the_real_ones():
    digits = datasets.load("digits")
    assert digits.x.shape == (1797, 1, 8, 8)
    assert digits.levels == 17
    assert digits.x.max() == 16
    assert digits.classes == tuple("0123456789")
    assert 480 <= len(digits.splits["test"]) <= 520
    assert min(n for row in digits.counts().values() for n in row.values()) >= 5
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    assert np.array_equal(digits.x.reshape(-1, 64), x)
    assert np.array_equal(digits.y, y)


def test_faces_keep_their_attributes():
    faces = datasets.load("faces", FACES)
    assert faces.x.shape == (60, 3, 16, 16)
    assert faces.attributes is not None
    assert faces.attributes["expression"].shape == (60,)
    assert "glasses" in faces.attributes
    assert np.array_equal(faces.attributes["expression"], faces.y)
    other = datasets.load("faces", FACES | {"seed": 1})
    assert other.fingerprint != faces.fingerprint


def test_a_parameter_is_checked():
    with pytest.raises(UserError, match=r"dataset\.size must be one of 16, 32, 64, got 17"):
        datasets.load("faces", {"size": 17})
    with pytest.raises(UserError, match=r"There is no dataset 'digts'. Did you mean 'digits'\?"):
        datasets.load("digts")
    with pytest.raises(UserError, match="There is no dataset"):
        datasets.load("../../etc")


def test_the_fingerprint_is_of_all_content():
    x = np.arange(10 * 4, dtype=np.uint8).reshape(10, 1, 2, 2)
    y = np.arange(10) % 2
    splits = {"train": np.arange(8), "valid": np.array([8]), "test": np.array([9])}
    moved = splits | {"train": np.arange(7), "valid": np.array([7, 8])}
    other = x.copy()
    other[3, 0, 0, 0] += 1
    sets = [
        assemble(x, y, ("a", "b"), splits),
        assemble(other, y, ("a", "b"), splits),
        assemble(x, 1 - y, ("a", "b"), splits),
        assemble(x, y, ("a", "c"), splits),
        assemble(x, y, ("a", "b"), moved),
        assemble(x, y, ("a", "b"), splits, levels=64),
        assemble(x, None, (), splits),
    ]
    assert len({each.fingerprint for each in sets}) == len(sets)
    assert sets[0].fingerprint == assemble(x, y, ("a", "b"), splits, name="b").fingerprint
    with pytest.raises(ValueError, match="every image exactly once"):
        assemble(x, y, ("a", "b"), splits | {"valid": np.array([7])})
    with pytest.raises(ValueError, match="y must lie in 0 … 1"):
        assemble(x, y + 1, ("a", "b"), splits)


# --- Splits ---------------------------------------------------------------------------------------


def test_splits_have_their_shares_and_do_not_move():
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (4000, 1, 4, 4), dtype=np.uint8)
    before = split_by_content(digests(x), valid_share=0.1, test_share=0.25)
    assert abs(len(before["test"]) - 1000) < 100
    assert abs(len(before["valid"]) - 400) < 70
    more = np.concatenate([x, random.integers(0, 256, (500, 1, 4, 4), dtype=np.uint8)])
    after = split_by_content(digests(more), valid_share=0.1, test_share=0.25)
    for name in SPLITS:
        assert np.array_equal(after[name][after[name] < 4000], before[name])


def test_duplicates_stay_on_one_side_even_with_other_labels():
    x = np.random.default_rng(0).integers(0, 256, (300, 1, 4, 4), dtype=np.uint8)
    x = np.concatenate([x, x, x])
    keys = digests(x)
    splits = split_by_content(keys, np.arange(900) % 7)
    side = np.zeros(900, int)
    for number, name in enumerate(SPLITS):
        side[splits[name]] = number
    assert (side[:300] == side[300:600]).all()
    assert (side[:300] == side[600:]).all()


def test_a_grey_picture_hashes_alike_in_one_channel_or_three():
    grey = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    assert np.array_equal(digests(grey), digests(grey.repeat(3, axis=1)))


@pytest.mark.parametrize("seed", range(20))
def test_small_sets_are_repaired(seed: int):
    keys = np.random.default_rng(seed).integers(0, 2**63, 9).astype(np.uint64)
    splits = split_by_content(keys, np.array([0] * 4 + [1] * 4 + [2]))
    assert all(len(splits[name]) for name in SPLITS)
    assert 8 in splits["train"]
    assert {0, 1, 2} == set(np.array([0] * 4 + [1] * 4 + [2])[splits["train"]])


def test_what_cannot_be_split_stays_for_training():
    splits = split_by_content(np.arange(9).astype(np.uint64), np.arange(9))
    assert len(splits["train"]) == 9
    assert not len(splits["test"])


# --- Sources through torchvision ------------------------------------------------------------------


def test_mnist_keeps_its_test_set_and_drops_leaks(data: Path):
    write_idx(data / "MNIST/raw", repeat=3)
    before = sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*"))
    mnist = datasets.load("mnist")
    assert len(mnist) == 77
    assert mnist.classes == tuple("0123456789")
    assert mnist.splits["test"].tolist() == list(range(57, 77))
    assert mnist.notes == ("3 training images that are also test images were left out.",)
    assert sorted((path, path.stat().st_mtime_ns) for path in data.rglob("*")) == before


def test_mnist_is_scaled_and_thinned(data: Path):
    write_idx(data / "MNIST/raw")
    full = datasets.load("mnist")
    half = datasets.load("mnist", {"size": 14, "count": 40})
    assert half.x.shape == (40, 1, 14, 14)
    assert [len(half.splits["test"]), len(half.splits["train"]) > 20] == [10, True]
    block = full.x[0, 0, :2, :2].mean()
    assert abs(float(half.x[0, 0, 0, 0]) - block) <= 0.5  # the area of 2 x 2 pixels
    assert datasets.load("mnist", {"size": 56}).x.shape == (80, 1, 56, 56)
    with pytest.raises(UserError, match=r"dataset\.count must be 0, .* at least 8, got 5"):
        datasets.load("mnist", {"count": 5})


def test_cifar10_is_scaled(data: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = fake_cifar10(data, monkeypatch)
    colour = datasets.load("cifar10")
    assert colour.x.shape == (100, 3, 32, 32)
    assert colour.classes == ("airplane", "truck")
    assert np.array_equal(colour.x[0, :, 2, 3], pixels[0, 2, 3])
    grey = datasets.load("cifar10", {"channels": "grey", "size": 16})
    assert grey.x.shape == (100, 1, 16, 16)


def test_a_failed_download_says_where_and_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch):
    from urllib.error import URLError

    import torchvision

    def fail(self: object) -> None:
        Path(self.root, "half").write_text("half a file")
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", fail)
    with pytest.raises(UserError) as caught:
        datasets.load("fashion_mnist")
    text = str(caught.value)
    assert text.startswith(f"The dataset 'fashion_mnist' could not be downloaded to {data}: ")
    assert "no route to host" in text
    assert f"copy its files to {data / 'FashionMNIST/raw'}" in text
    assert list(data.iterdir()) == []


def test_a_download_arrives_whole(data: Path, monkeypatch: pytest.MonkeyPatch):
    import torchvision

    monkeypatch.setattr(
        torchvision.datasets.MNIST, "download", lambda self: write_idx(Path(self.raw_folder))
    )
    assert len(datasets.load("mnist")) == 80
    assert [path.name for path in data.iterdir()] == ["MNIST"]


def test_damaged_downloads_are_named(data: Path):
    write_idx(data / "KMNIST/raw")
    (data / "KMNIST/raw/train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03rubbish")
    with pytest.raises(UserError, match=r"The files of 'kmnist' in .*KMNIST/raw cannot be read"):
        datasets.load("kmnist")


def test_a_server_for_viewing_does_not_download(setting: Callable[..., None]):
    setting(view_only=1)
    assert len(datasets.load("faces", FACES)) == 60
    with pytest.raises(UserError, match="viewing only, so it cannot download mnist"):
        datasets.load("mnist")


# --- Pictures of one's own ------------------------------------------------------------------------


def test_a_directory_and_its_zip_are_the_same_set(tmp_path: Path):
    members = classes_of("owl", "wren", "kiwi") | {"kiwi/.DS_Store": b"x", "Thumbs.db": b"x"}
    one = load(spread(tmp_path / "birds", members))
    packed = {f"birds/{name}": content for name, content in members.items()}
    two = load(pack(tmp_path / "birds.zip", packed | {"__MACOSX/birds/._0.png": b"x"}))
    assert one.classes == ("kiwi", "owl", "wren")
    assert len(one) == 24
    assert one.refused == ()
    assert one.fingerprint == two.fingerprint
    assert one.x.shape == (24, 3, 8, 8)


def test_a_zip_is_known_by_its_content(tmp_path: Path):
    first = pack(tmp_path / "a.zip", classes_of("a", "b"))
    load(first)
    (tmp_path / "b.zip").write_bytes(first.read_bytes())
    silent = Watch()
    silent.say = lambda *_: pytest.fail("it was decoded again")
    again = datasets.load("folder", {"path": str(tmp_path / "b.zip"), "size": 8}, silent)
    assert again.source["config"]["path"] == str(tmp_path / "b.zip")


def test_a_changed_directory_is_decoded_again(tmp_path: Path):
    birds = spread(tmp_path / "birds", classes_of("a", "b"))
    assert len(load(birds)) == 16
    (birds / "a/new.png").write_bytes(encoded(999))
    assert len(load(birds)) == 17


def test_flat_folders_have_no_labels(tmp_path: Path):
    flat = load(spread(tmp_path / "flat", {f"{i}.png": encoded(i) for i in range(20)}))
    assert not flat.labelled
    assert flat.classes == ()
    assert flat.y is None
    assert flat.part("train")[1] is None
    assert sum(flat.counts()["all"].values()) == 20
    wrapped = {f"a/b/{i}.png": encoded(i) for i in range(20)}
    assert not load(pack(tmp_path / "w.zip", wrapped)).labelled
    beside = classes_of("x", "y") | {"cover.png": encoded(1234)}
    mixed = load(spread(tmp_path / "mixed", beside))
    assert mixed.classes == ("x", "y")
    assert mixed.refused == (
        ("cover.png", "lies beside the folders of the classes, so it has no class"),
    )


def test_given_splits_are_kept(tmp_path: Path):
    members = {f"Train/{name}": file for name, file in classes_of("a", "b", each=20).items()}
    members |= {f"test/{c}/{i}.png": encoded(5000 + ord(c) + 7 * i) for c in "ab" for i in range(5)}
    members["test/a/again.png"] = members["Train/a/0.png"]
    found = load(pack(tmp_path / "x.zip", members))
    assert found.classes == ("a", "b")
    assert len(found.splits["test"]) == 11
    assert len(found.splits["valid"]) > 0
    assert len(found) == 50
    assert found.notes == (
        "The folders are taken as the splits: 'Train' as train, 'test' as test.",
        "1 pictures that a later split holds as well were left out.",
        "Class 'a' has 18 training, 1 validation and 6 test images of 25; 'b' has 19 training, 1 validation and 5 test "
        "images of 25: too few to judge a class by. Import with more images, or with another Test or Validation share "
        "under Advanced.",
        "The pictures had 12 × 10 pixels before they were scaled.",
    )


def test_pictures_of_every_kind(tmp_path: Path):
    kinds = {"a.png": "PNG", "b.jpg": "JPEG", "c.webp": "WEBP", "d.bmp": "BMP", "e.txt": "PNG"}
    members = {name: encoded(i, kind) for i, (name, kind) in enumerate(kinds.items())}
    members |= {f"{i}.png": encoded(50 + i) for i in range(5)}
    members |= {"t.png": encoded(71, "TIFF"), "v.png": encoded(72, "AVIF")}
    members |= {"g.png": encoded(70, "GIF"), "n.png": b"not one"}
    found = load(spread(tmp_path / "kinds", members))
    assert len(found) == 12  # by content, not by name
    assert dict(found.refused) == dict.fromkeys(("g.png", "n.png"), NO_PICTURE)


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "EPS", "TGA"])
def test_only_the_listed_decoders_are_ever_called(kind: str):
    assert decode(encoded(1, kind, (16, 16)), 8) == NO_PICTURE


def test_grey_is_found_or_asked_for(tmp_path: Path):
    grey = {f"{i}.png": encoded(i, mode="L") for i in range(9)}
    mixed = spread(tmp_path / "mixed", grey | {"z.png": encoded(50)})
    assert load(spread(tmp_path / "grey", grey)).channels == 1
    assert load(spread(tmp_path / "grey", grey), channels="colour").channels == 3
    found = load(mixed)  # the colour comes last, when nine are written in grey
    assert found.channels == 3
    assert len(found) == 10
    assert (found.x[:9, :1] == found.x[:9]).all()
    assert not (found.x[9, :1] == found.x[9]).all()
    assert load(mixed, channels="grey").channels == 1


def test_orientation_transparency_palettes_and_depth():
    tall = Image.new("RGB", (4, 8), "red")
    tall.paste("blue", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: blue comes to the right
    turned = decode(saved(tall, exif=exif.tobytes()), 8, fit="pad")[0]
    assert turned[:, 4, 1].tolist() == [255, 0, 0]
    assert turned[:, 4, 6].tolist() == [0, 0, 255]

    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (decode(saved(clear), 8)[0] == 255).all()
    half = Image.new("LA", (8, 8), (0, 128))
    assert abs(int(decode(saved(half), 8)[0][0, 0, 0]) - 127) <= 1

    palette = Image.new("RGB", (8, 8), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode(saved(palette), 8)[0][:, 0, 0].tolist() == [10, 200, 30]

    deep = Image.fromarray(np.full((8, 8), 32896, np.uint16))  # 128 * 257
    assert (
        decode(saved(deep), 8, span=Span(65535.0))[0].tolist() == np.full((1, 8, 8), 128).tolist()
    )
    bits = Image.new("1", (8, 8), 1)
    assert (decode(saved(bits), 8)[0] == 255).all()
    print_colours = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode(saved(print_colours, "JPEG", quality=95), 8)[0][0, 0, 0] > 200


def test_fit_crops_or_pads():
    wide = Image.new("L", (24, 8), 0)
    wide.paste(255, (8, 0, 16, 8))
    assert (decode(saved(wide), 8, fit="crop")[0] == 255).all()
    padded = decode(saved(Image.new("L", (16, 8), 0)), 8, fit="pad")[0]
    assert padded[0, 0, 0] == 255
    assert padded[0, 4, 4] == 0
    same = encoded(3, size=(8, 8))
    with Image.open(io.BytesIO(same)) as picture:
        assert np.array_equal(decode(same, 8)[0], np.asarray(picture).transpose(2, 0, 1))


def test_count_takes_some(tmp_path: Path):
    root = spread(tmp_path / "birds", classes_of("a", "b", each=30))
    some = load(root, count=20)
    assert len(some) == 20
    assert some.classes == ("a", "b")
    assert some.notes[0] == "20 of 60 pictures are used."


def test_classes_are_sorted_as_people_count(tmp_path: Path):
    found = load(spread(tmp_path / "x", classes_of("class 10", "class 2", "class 1")))
    assert found.classes == ("class 1", "class 2", "class 10")


def test_progress_can_stop_it(tmp_path: Path):
    class Stop(BaseException):
        pass

    class Stopping(Watch):
        def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
            raise Stop

    root = spread(tmp_path / "birds", classes_of("a", "b"))
    with pytest.raises(Stop):
        datasets.load("folder", {"path": str(root)}, Stopping())
    assert {file.suffix for file in settings().cache.rglob("*") if file.is_file()} == {".lock"}


# --- Bad input ------------------------------------------------------------------------------------


def test_a_missing_path(tmp_path: Path):
    assert refusal(tmp_path / "nowhere") == (
        f"There is no file or folder '{tmp_path / 'nowhere'}'. A directory, a ZIP or a file of pictures "
        "on the server is read; check the path for a typing error."
    )
    with pytest.raises(
        UserError, match="must name a directory, a ZIP or a file of pictures, got ''"
    ):
        datasets.load("folder")
    assert "cannot be opened" in refusal(tmp_path / ("x" * 300))
    assert "cannot be opened" in refusal(Path("a\0b"))
    os.mkfifo(tmp_path / "pipe")
    assert "must be a directory, a ZIP or a file, and is none" in refusal(tmp_path / "pipe")


def test_a_file_that_is_no_zip(tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"hello")
    (tmp_path / "none.zip").write_bytes(b"")
    whole = pack(tmp_path / "whole.zip", classes_of("a", "b")).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    for name in ("x.zip", "none.zip", "cut.zip"):
        text = refusal(tmp_path / name)
        said = (
            "is no ZIP that can be read"
            if name == "cut.zip"
            else "must be a directory, a ZIP or a file of a"
        )
        assert text.startswith(f"'{name}' {said}") and "is cut off" in text
        assert text.endswith("Pack the pictures into a ZIP again.")


def test_an_empty_zip(tmp_path: Path):
    assert refusal(pack(tmp_path / "x.zip", {})) == (
        f"The ZIP 'x.zip' is empty. It must hold at least 8 pictures: {KINDS}, "
        "one folder per class or all in one."
    )
    (tmp_path / "empty").mkdir()
    assert "No picture in 'empty' could be read" in refusal(tmp_path / "empty")


def test_a_zip_of_text_files(tmp_path: Path):
    texts = {f"{i}.txt": b"hello" for i in range(5)}
    assert refusal(pack(tmp_path / "x.zip", texts)) == (
        "No picture in 'x.zip' could be read, and at least 8 are needed. Left out: "
        f"0.txt {NO_PICTURE}; 1.txt {NO_PICTURE}; 2.txt {NO_PICTURE}; and 2 more. Add {KINDS} pictures."
    )


def forged(path: Path, content: bytes, entries: list[tuple[str, int, int]]) -> Path:
    """A ZIP with one deflated body, and a directory that says (name, size, packed size) about it."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(content) + body.flush()
    out, directory = b"", b""
    crc = zlib.crc32(content)
    for number, (name, size, length) in enumerate(entries):
        text = name.encode()
        if number == 0:
            head = struct.pack(
                "<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, length, size, len(text), 0
            )
            out = head + text + packed
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, length or len(packed), size,
            len(text), 0, 0, 0, 0, 0, 0,
        ) + text  # fmt: skip
    n = len(entries)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n, n, len(directory), len(out), 0)
    path.write_bytes(out + directory + end)
    return path


def test_a_zip_bomb(tmp_path: Path):
    """10 kB that say they are 10 GB; the same by members that share one body; and a lie."""
    kernel = bytes(5 * 2**20)  # 5 MB that pack to 5 kB
    gigabytes = [(f"{i}.png", 2**31, 0) for i in range(5)]
    bomb = forged(tmp_path / "declared.zip", kernel, gigabytes)
    assert bomb.stat().st_size < 10_000
    text = refusal(bomb)
    assert text == (
        "The ZIP 'declared.zip' unpacks to 10240 MB, and at most 2000 MB are allowed "
        "(SIMULACRA_MAX_UNPACKED_MB). Nothing of it was kept. Pack fewer or smaller pictures, without tricks."
    )
    ratio = forged(tmp_path / "ratio.zip", kernel, [(f"{i}.png", 5 * 2**20, 0) for i in range(20)])
    assert "times its size, and at most 250 times is allowed" in refusal(ratio)
    nested = forged(tmp_path / "nested.zip", kernel, [(f"{i}.png", 2**20, 0) for i in range(20)])
    assert "The ZIP 'nested.zip' has members that lie inside each other" in refusal(nested)


def test_a_member_that_unpacks_to_more_than_it_says(tmp_path: Path):
    import tracemalloc

    liar = forged(tmp_path / "liar.zip", encoded(1) + bytes(200 * 2**20), [("a.png", 700, 0)])
    tracemalloc.start()
    text = refusal(liar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a.png is damaged inside the ZIP (Bad CRC-32 for file 'a.png')" in text
    assert peak < 20 * 2**20


def test_what_is_really_unpacked_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: Callable[..., None]
):
    from core.datasets.files import Archive

    setting(max_unpacked_mb=1)
    monkeypatch.setattr(Archive, "_check", lambda self, size: None)
    big = {f"{i}.png": encoded(i, size=(200, 200)) for i in range(12)}
    assert "The ZIP 'x.zip' unpacks to more than 1 MB." in refusal(pack(tmp_path / "x.zip", big))


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "a\\..\\evil.png", "C:/evil.png"]
)
def test_a_path_that_climbs_out(tmp_path: Path, name: str):
    bad = pack(tmp_path / "x.zip", classes_of("a", "b") | {name: encoded(1)})
    assert refusal(bad) == (
        f"The ZIP 'x.zip' has the member {name!r}, whose path leads out of it. Only paths "
        "that stay inside are allowed, so nothing of it was read. Pack it again."
    )
    assert not list(tmp_path.rglob("evil.png"))


def test_links_and_passwords(tmp_path: Path):
    good = classes_of("a", "b")
    link = pack(tmp_path / "link.zip", good)
    with zipfile.ZipFile(link, "a") as archive:
        info = zipfile.ZipInfo("passwd.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "has the member 'passwd.png', which is a link" in refusal(link)
    locked = pack(tmp_path / "locked.zip", good)
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    locked.write_bytes(content)
    assert "is protected by a password ('a/0.png')" in refusal(locked)


def test_unusual_packing_and_damage_leave_one_file_out(tmp_path: Path):
    path = pack(tmp_path / "x.zip", classes_of("a", "b"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/odd.png", encoded(77), zipfile.ZIP_LZMA)
        archive.writestr("b/bad.png", encoded(78), zipfile.ZIP_STORED)
    content = path.read_bytes()
    path.write_bytes(content.replace(encoded(78)[60:90], bytes(30)))
    found = load(path)
    assert len(found) == 16
    assert dict(found.refused) == {
        "b/odd.png": "is packed in an unusual way; only stored and deflated files are read",
        "b/bad.png": "is damaged inside the ZIP (Bad CRC-32 for file 'b/bad.png')",
    }


def test_too_many_files(tmp_path: Path, setting: Callable[..., None]):
    setting(max_files=10)
    text = "'{}' holds more than 10 files, which is all that is allowed."
    assert text.format("x.zip") in refusal(pack(tmp_path / "x.zip", classes_of("a", "b")))
    assert text.format("x") in refusal(spread(tmp_path / "x", classes_of("a", "b")))
    many = pack(tmp_path / "many.zip", {f"{i}.png": b"" for i in range(50)})
    assert text.format("many.zip") in refusal(many)  # before zipfile reads its directory


def test_a_truncated_jpeg_is_listed_and_left_out(tmp_path: Path):
    members = classes_of("a", "b")
    members["a/cut.jpg"] = encoded(1, "JPEG", (64, 64))[:1500]
    members["b/text.jpg"] = b"\xff\xd8\xff but then text"
    found = load(pack(tmp_path / "x.zip", members))
    assert len(found) == 16
    assert dict(found.refused) == {
        "a/cut.jpg": "is cut off (truncated)",
        "b/text.jpg": NO_PICTURE,
    }
    assert "2 files were left out." in found.notes


def huge_png() -> bytes:
    """30 000 x 30 000 white pixels in about 110 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    pack = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (30_000 // 8)
    rows = b"".join(pack.compress(row) for _ in range(30_000)) + pack.flush()
    head = struct.pack(">2I5B", 30_000, 30_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_huge_png(tmp_path: Path):
    huge = huge_png()
    assert len(huge) < 300_000
    reason = "has 30000 × 30000 pixels, and at most 16 megapixels are allowed"
    alone = refusal(pack(tmp_path / "x.zip", {"huge.png": huge}))
    assert (
        f"No picture in 'x.zip' could be read, and at least 8 are needed. Left out: huge.png {reason}"
        in alone
    )
    found = load(spread(tmp_path / "x", classes_of("a", "b") | {"a/huge.png": huge}))
    assert found.refused == (("a/huge.png", reason),)


def test_a_large_picture_is_not_decoded():
    big = saved(Image.new("1", (5000, 4000)))
    assert decode(big, 8) == "has 5000 × 4000 pixels, and at most 16 megapixels are allowed"
    assert decode(big, 8, megapixels=20)[1] == (5000, 4000)
    huge = saved(Image.new("1", (10_000, 10_000)))  # more than Pillow itself would allow
    assert decode(huge, 8, megapixels=120)[1] == (10_000, 10_000)


def test_one_image_only(tmp_path: Path):
    text = refusal(spread(tmp_path / "x", {"a.png": encoded(0)}))
    assert text == (
        "Only one picture in 'x' could be read, and at least 8 are needed. Add PNG, JPEG, WebP, "
        "BMP, TIFF, AVIF or HEIC pictures."
    )
    seven = {f"{i}.png": encoded(i) for i in range(7)}
    assert "Only 7 pictures in 'y' could be read" in refusal(spread(tmp_path / "y", seven))
    assert len(load(spread(tmp_path / "y", seven | {"7.png": encoded(7)}))) == 8


def test_many_classes(tmp_path: Path):
    picture = encoded(0, size=(8, 8))
    more = pack(
        tmp_path / "y.zip", {f"{i}/a.png": picture for i in range(1001)}, zipfile.ZIP_STORED
    )
    assert refusal(more) == (
        "'y.zip' has 1001 folders of pictures, and at most 1000 classes are allowed. Put several "
        "folders together, or all pictures into one for a set without classes."
    )
    members = {
        f"{i}/{j}.png": encoded(2 * i + j, size=(8, 8)) for i in range(500) for j in range(2)
    }
    found = load(pack(tmp_path / "x.zip", members, zipfile.ZIP_STORED))
    assert len(found.classes) == 500
    assert len(found) == 1000
    assert len(np.unique(found.y[found.splits["train"]])) == 500


def test_a_class_with_one_image_trains(tmp_path: Path):
    members = classes_of("hen", "jay") | {"owl/only.png": encoded(7)}
    found = load(pack(tmp_path / "x.zip", members))
    assert found.counts()["owl"] == {"train": 1, "valid": 0, "test": 0}
    assert "class 'owl' has one image: it is used for training only." in found.notes


def test_a_class_without_a_readable_image(tmp_path: Path):
    members = classes_of("hen", "jay") | {"owl/cut.jpg": encoded(1, "JPEG", (64, 64))[:1500]}
    found = load(pack(tmp_path / "x.zip", members))
    assert found.classes == ("hen", "jay")
    assert "class 'owl' without a readable picture: left out." in found.notes


def test_names_cannot_write_on_the_page(tmp_path: Path):
    members = classes_of("a", "b") | {"a/\x1b[31m\nred.png": b"text"}
    found = load(pack(tmp_path / "x.zip", members))
    assert [name for name, _ in found.refused] == ["a/�[31m�red.png"]


def test_view_only_imports_nothing(tmp_path: Path, setting: Callable[..., None]):
    root = spread(tmp_path / "x", classes_of("a", "b"))
    digits = datasets.load("digits")
    setting(view_only=1)
    with pytest.raises(UserError, match="viewing only, so it cannot import images"):
        load(root)
    with pytest.raises(UserError, match="cannot save a dataset"):
        datasets.save("mine", digits)
    with pytest.raises(UserError, match="cannot delete a dataset"):
        datasets.delete("mine")


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = spread(tmp_path / "x", classes_of("a", "b"))

    def refuse(place: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    with monkeypatch.context() as patched:
        patched.setattr("os.scandir", refuse)
        assert refusal(root).startswith(f"This program may not read '{root}'.")


# --- Disk -----------------------------------------------------------------------------------------


def test_a_nearly_full_disk_is_seen_before(tmp_path: Path, setting: Callable[..., None]):
    root = spread(tmp_path / "x", classes_of("a", "b"))
    setting(min_free_mb=10**9)
    assert "MB left, and 1000000000 MB are needed" in refusal(root)
    with pytest.raises(UserError, match="MB left"):
        datasets.load("digits")


@pytest.mark.parametrize("source", ["folder", "digits"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str):
    values = (
        {"path": str(spread(tmp_path / "x", classes_of("a", "b")))} if source == "folder" else {}
    )

    def full(out: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_sync", full)
        with pytest.raises(UserError) as caught:
            datasets.load(source, values)
    text = str(caught.value)
    assert text.startswith(f"The disk of {settings().cache / 'datasets'} is full")
    assert "Delete old runs, or set SIMULACRA_HOME to a larger disk." in text
    assert [path.suffix for path in (settings().cache / "datasets").iterdir()] == [".lock"]
    assert len(datasets.load(source, values)) >= 16


def test_a_home_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError, match=r"may not write to .*cache/datasets\. Give it the"):
            datasets.load("faces", {"size": 64})  # a small one is made in memory


def entry_of_cache() -> Path:
    [place] = [path for path in (settings().cache / "datasets").iterdir() if path.is_dir()]
    return place


@pytest.mark.parametrize("file", ["x.npy", "y.npy", "splits.npz", "attributes.npz", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "rubbish", "missing"])
def test_a_damaged_cache_is_built_again(file: str, damage: str):
    before = datasets.load("faces", FACES)
    victim = entry_of_cache() / file
    whole = victim.read_bytes()
    victim.unlink()  # the map of the first stays whole
    if damage != "missing":
        victim.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"rubbish")
    store.memo.clear()
    after = datasets.load("faces", FACES)
    assert after.fingerprint == before.fingerprint
    assert victim.read_bytes() == whole


def test_a_pickle_in_the_cache_is_not_opened(tmp_path: Path):
    datasets.load("faces", FACES)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    np.save(entry_of_cache() / "y.npy", np.array([Evil()], object), allow_pickle=True)
    store.memo.clear()
    assert len(datasets.load("faces", FACES)) == 60
    assert not (tmp_path / "owned").exists()


def test_what_a_killed_process_left_is_swept(home: Path):
    datasets.load("faces", FACES)
    place = entry_of_cache()
    half = place.with_name(".new-0")
    place.rename(half)  # as if it had died before the last step
    (half / "x.npy").unlink()
    store.memo.clear()
    assert len(datasets.load("faces", FACES)) == 60
    os.utime(half, (0, 0))
    scratch.sweep(place.parent)
    assert not half.exists()
    assert entry_of_cache() == place


def test_two_processes_decode_once(tmp_path: Path):
    root = spread(tmp_path / "x", classes_of("a", "b", each=150))
    code = (
        "import sys; from core import datasets; from core.ground import watch; calls = []; heard = watch.Watch();"
        "heard.say = lambda *a: calls.append(a);"
        "d = datasets.load('folder', {'path': sys.argv[1]}, heard);"
        "print(d.fingerprint, len(calls) > 0)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60)[0].decode().split() for process in running]
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1] for answer in answers) == ["False", "True"]


# --- Saved sets -----------------------------------------------------------------------------------


def test_a_set_is_saved_opened_and_deleted(tmp_path: Path):
    root = spread(tmp_path / "x", classes_of("a", "b") | {"a/no.png": b"text"})
    found = load(root)
    kept = datasets.save("My birds", found)
    assert kept.name == "my-birds"
    assert "my-birds" in datasets.names()
    assert kept.fingerprint == found.fingerprint
    assert np.array_equal(kept.x, found.x)
    assert kept.refused == found.refused
    assert kept.notes == found.notes
    assert kept.source["origin"]["config"]["path"] == str(root)
    again = datasets.load(kept.source["name"], kept.source["config"])
    assert again.fingerprint == found.fingerprint
    assert datasets.config_of("my-birds").knobs() == {}
    assert "seed" in datasets.config_of("faces").knobs()
    described = datasets.describe("my-birds")
    assert described.saved
    assert described.caption == "16 colour images of 8×8 px, 2 classes."
    with pytest.raises(UserError, match="'my-birds' takes no parameters, got size"):
        datasets.load("my-birds", {"size": 8})
    with pytest.raises(UserError, match="There is a dataset 'my-birds' already"):
        datasets.save("my-birds", found)
    datasets.delete("my-birds")
    assert "my-birds" not in datasets.names()
    assert not list(settings().datasets.iterdir())
    with pytest.raises(UserError, match="There is no dataset 'my-birds'"):
        datasets.load("my-birds")


def test_a_version_keeps_its_parent_and_attributes():
    faces = datasets.load("faces", FACES)
    child = assemble(
        255 - np.asarray(faces.x),
        faces.y,
        faces.classes,
        faces.splits,
        attributes=faces.attributes,
        parent=faces.fingerprint,
    )
    kept = datasets.save("negative", child)
    assert kept.parent == faces.fingerprint
    assert kept.fingerprint != faces.fingerprint
    assert kept.attributes is not None
    assert faces.attributes is not None
    assert all(
        np.array_equal(kept.attributes[name], faces.attributes[name]) for name in faces.attributes
    )


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", " ", ".", "..", "a\\b", "x" * 80, "-x", "a\nb", "a:b"]
)
def test_unsafe_names(name: str):
    digits = datasets.load("digits")
    with pytest.raises(UserError, match="A dataset's name must be 1 to 60 letters, digits"):
        datasets.save(name, digits)
    with pytest.raises(UserError, match="There is no dataset"):
        datasets.delete(name)


def test_registered_names_are_taken():
    digits = datasets.load("digits")
    with pytest.raises(
        UserError, match="'digits' belongs to a dataset that comes with the program"
    ):
        datasets.save("Digits", digits)
    with pytest.raises(UserError, match="'digits' comes with the program and cannot be deleted"):
        datasets.delete("digits")


def test_a_false_fingerprint_is_not_saved():
    from dataclasses import replace

    digits = datasets.load("digits")
    with pytest.raises(ValueError, match="fingerprint does not belong"):
        datasets.save("mine", replace(digits, fingerprint=hashlib.sha256().hexdigest()))
    wrong = assemble(np.asarray(digits.x), digits.y, digits.classes, digits.splits, levels=16)
    with pytest.raises(ValueError, match="x must lie in 0 … 15"):
        datasets.save("mine", wrong)
    assert not settings().datasets.exists()


@pytest.mark.parametrize("file", ["x.npy", "y.npy", "splits.npz", "meta.json"])
def test_a_damaged_saved_set_is_named(file: str):
    datasets.save("mine", datasets.load("digits"))
    victim = settings().datasets / "mine" / file
    victim.unlink()
    victim.write_bytes(b"rubbish")
    store.memo.clear()
    with pytest.raises(UserError) as caught:
        datasets.load("mine")
    assert str(caught.value).startswith(
        f"The saved dataset 'mine' is damaged: {victim} cannot be read"
    )
    assert datasets.describe("mine").name == "mine"
    assert "mine" in datasets.names()
    assert datasets.describe("mine").caption.startswith("Damaged") == (file == "meta.json")


def test_saving_on_a_full_disk_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    digits = datasets.load("digits")

    def full(out: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_sync", full)
        with pytest.raises(UserError, match="is full, so the dataset was not written"):
            datasets.save("mine", digits)
    assert list(settings().datasets.iterdir()) == []
    assert "mine" not in datasets.names()


def test_the_cache_drops_what_was_not_used_for_longest(setting: Callable[..., None]):
    place = settings().cache / "datasets"
    for seed in (1, 2):
        datasets.load("faces", {"count": 400, "size": 32, "seed": seed})  # a good megabyte each
    first, second = sorted(
        (path for path in place.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    os.utime(second, (1, 1))
    setting(cache_mb=3)
    datasets.load("faces", {"count": 400, "size": 32, "seed": 3})
    left = [path for path in place.iterdir() if path.is_dir()]
    assert len(left) == 2
    assert first in left
    assert second not in left


def test_what_is_brought_lies_on_the_disk_once(tmp_path: Path):
    spread(tmp_path / "birds", {f"owl/{i}.png": encoded(i) for i in range(12)})
    made = datasets.bring("owls", {"path": str(tmp_path / "birds")})
    assert made.fingerprint == datasets.load("owls").fingerprint
    assert not [path for path in (settings().cache / "datasets").glob("*") if path.is_dir()]
    datasets.delete("owls")
    assert not list(settings().datasets.iterdir())


def test_a_record_that_knows_fewer_parameters_means_the_same_dataset():
    today = datasets.check("faces", {"size": 32})
    older = {name: value for name, value in today.items() if name != "pair"}
    assert "pair" in today
    record = lambda config, name="faces": {"name": name, "config": config}  # noqa: E731
    assert datasets.alike(record(older), record(today))
    assert not datasets.alike(record(older), record(today | {"pair": "sketch"}))
    assert not datasets.alike(record(older), record(today | {"size": 16}))
    assert not datasets.alike(record({}, "digits"), record({}))
    assert not datasets.alike(record(older | {"of a later version": 1}), record(today))
    assert datasets.alike(record({}, "a set that is gone"), record({}, "a set that is gone"))

"""The datasets that come with the program or with torchvision."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from filelock import FileLock

from core.catalog import Config, UserError, broken_off, knob, reason, seed_knob
from core.datasets.dataset import (
    FEWEST,
    Dataset,
    SecondImages,
    assemble,
    datasets,
    digests,
    group_notes,
    leaks,
    split_by_content,
    together,
)
from core.datasets.own import centred, counted, ink
from core.datasets.pictures import SUFFIXES
from core.datasets.store import explained
from core.ground import scratch
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch


def valid_share_knob(what: str = "images") -> Any:
    """Declares the share of the items, by their word, that are for validation."""
    return knob(
        0.1,
        f"Share of the {what} that is held back for choices made during training.",
        ge=0.01,
        le=0.4,
        title="Validation share",
        advanced=True,
    )


def final_share_knob(what: str = "images", share: float = 0.2) -> Any:
    """Declares the share of the items, by their word, that are for testing."""
    return knob(
        share,
        f"Share of the {what} that is kept for the final report.",
        ge=0.01,
        le=0.4,
        title="Test share",
        advanced=True,
    )


def count_knob(what: str = "images") -> Any:
    """Declares how many items, by their word, are used."""
    return knob(
        0,
        f"How many {what} to use; 0 takes all of them.",
        ge=0,
        unit=what,
        title=f"Number of {what}",
    )


FEW = 5  # training items that are left of a rare class


def rare_knob() -> Any:
    """Declares whether two classes are rare."""
    return knob(
        False,
        f"Leaves {FEW} training images of two of the classes, to try what helps a dataset with rare ones.",
        title="Two rare classes",
        advanced=True,
    )


def with_rare(whole: Dataset) -> Dataset:
    """Leaves the first :data:`FEW` training items of two classes; validation and test stay as they are."""
    assert whole.y is not None
    train = whole.splits["train"]
    labels = [len(whole.classes) * tenths // 10 for tenths in (3, 8)]
    stays = np.ones(len(whole), bool)
    for label in labels:
        stays[train[whole.y[train] == label][FEW:]] = False
    rows, place = np.flatnonzero(stays), np.cumsum(stays) - 1
    named = " and of ".join(whole.classes[label] for label in labels)
    return assemble(
        whole.x[rows],
        whole.y[rows],
        whole.classes,
        {split: place[index[stays[index]]] for split, index in whole.splits.items()},
        levels=whole.levels,
        attributes=whole.attributes and {n: column[rows] for n, column in whole.attributes.items()},
        notes=(*whole.notes, f"Two classes are rare: {FEW} training images are left of {named}."),
        terms=whole.terms,
        group=whole.group,
        pair=whole.pair and whole.pair.at(rows),
    )


def allow_count(wanted: int) -> None:
    """Refuses a number of images that is too small to split.

    Raises:
        UserError: If it is 1 to 7.
    """
    if 0 < wanted < FEWEST:
        raise UserError(
            f"dataset.count must be 0, for all images, or at least {FEWEST}, got {wanted}. "
            "Leave it out to use all of them."
        )


class DigitsConfig(Config):
    """The choices of the embedded digits."""

    valid_share: float = valid_share_knob()
    pair: Literal["none", "edges"] = knob(
        "none",
        "A second image of each digit, its edges, for a model that learns to turn one into the other.",
        title="Second image",
        advanced=True,
    )
    rare: bool = rare_knob()


@datasets.add(
    "digits",
    "Digits, 8 px",
    DigitsConfig,
    chain="digits",
    weighs=lambda config: 1797 * 8 * 8,
    own=ink(counted),
    suffixes=SUFFIXES,
    terms=lambda config: {"licence": "CC BY 4.0", "consent": "not needed"},
)
def digits(config: DigitsConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Real handwritten digits, tiny enough to learn in a minute; they come with the program.

    1 797 grey images of 8×8 pixels with 17 levels (0 … 16), about 500 of them for testing.

    References:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; scikit-learn's copy
        https://archive.ics.uci.edu/dataset/80
    """
    # the file itself: importing scikit-learn would cost the first page half a second
    package = cast(ModuleSpec, find_spec("sklearn"))
    file = Path(cast(str, package.origin)).parent / "datasets/data/digits.csv.gz"
    table = np.loadtxt(file, np.uint8, delimiter=",")  # (N, 65): the pixels, and the class
    x = table[:, :64].reshape(-1, 1, 8, 8)
    y = table[:, 64].astype(np.int64)
    splits = split_by_content(digests(x), y, valid_share=config.valid_share, test_share=0.278)
    terms = datasets.get("digits").terms(config)
    pair = None
    if config.pair == "edges":
        import torch

        from core.tensors import edges, to_bytes, to_float

        pair = SecondImages(to_bytes(edges(to_float(torch.as_tensor(x), 17))), name="edges")
    whole = assemble(x, y, tuple("0123456789"), splits, levels=17, terms=terms, pair=pair)
    return with_rare(whole) if config.rare else whole


class FacesConfig(Config):
    """The choices of the drawn faces."""

    size: Literal[16, 32, 64] = knob(32, "Height and width of a face.", unit="px")
    count: int = knob(
        10_000,
        "How many faces to draw.",
        ge=16,
        le=100_000,
        unit="images",
        title="Number of images",
        log=True,
    )
    seed: int = seed_knob("Another seed draws other faces; the same seed always draws the same.")
    correlated: bool = knob(
        True,
        "Attributes go together as they do in life, for example age and glasses.",
        title="Realistic correlations",
    )
    valid_share: float = valid_share_knob()
    group: Literal[
        "", "hair_style", "hair_colour", "eye_colour", "glasses", "shirt", "background"
    ] = knob(
        "",
        "What all faces of one split share with no face of another; empty for nothing.",
        title="Keep together by",
        advanced=True,
    )
    pair: Literal["none", "sketch"] = knob(
        "none",
        "A second image of each face, its outlines in coloured pencil, for a model that learns to turn one into the "
        "other.",
        title="Second image",
        advanced=True,
    )
    rare: bool = rare_knob()


def _faces_ready(config: FacesConfig) -> tuple[FacesConfig, str]:
    spec = find_spec("core.datasets.faces")
    code = Path(spec.origin).read_bytes() if spec and spec.origin else b""
    return config, hashlib.sha256(code).hexdigest()  # other drawing code draws other faces


@datasets.add(
    "faces",
    "Cartoon faces",
    FacesConfig,
    prepare=_faces_ready,
    chain="faces",
    weighs=lambda config: config.count * 3 * config.size**2 * (1 + (config.pair != "none")),
    terms=lambda config: {
        "licence": "Apache-2.0",
        "consent": "not needed",
    },
)
def faces(config: FacesConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """Cartoon faces that the program draws itself, with the truth about each: smile, glasses, hair, turn.

    Colour images of 16, 32 or 64 px; the class is the expression, and every attribute is kept beside the image.
    """
    from core.datasets import faces as drawing

    attributes = drawing.attributes(config.seed, config.count, config.correlated)
    x = drawing.draw(attributes, config.size, watch)
    pair = None
    if config.pair == "sketch":
        pair = SecondImages(drawing.sketch(attributes, config.size, watch), name="sketch")
    y = attributes["expression"].astype(np.int64)
    if config.group:
        attributes["group"] = attributes[config.group].astype(str)
    members = attributes.get("group")
    shares = {"valid": config.valid_share, "test": 0.2}
    keys = together(digests(x), members)
    splits = split_by_content(keys, y, valid_share=shares["valid"], test_share=shares["test"])
    whole = assemble(
        x,
        y,
        drawing.CLASSES,
        splits,
        attributes=attributes,
        notes=() if members is None else tuple(group_notes(config.group, members, splits, shares)),
        terms=datasets.get("faces").terms(config),
        group=config.group,
        pair=pair,
    )
    return with_rare(whole) if config.rare else whole


class ScansConfig(Config):
    """The choices of the 28-pixel sets."""

    size: int = knob(28, "Height and width that the images are scaled to.", ge=8, le=128, unit="px")
    count: int = count_knob()
    valid_share: float = valid_share_knob()


class CifarConfig(Config):
    """The choices of CIFAR-10."""

    size: int = knob(32, "Height and width that the images are scaled to.", ge=8, le=128, unit="px")
    channels: Literal["colour", "grey"] = knob(
        "colour", "Whether the images keep their colours.", title="Colours"
    )
    count: int = count_knob()
    valid_share: float = valid_share_knob()


_IDX = tuple(
    f"{part}-{kind}"
    for part in ("train", "t10k")
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_OFFICIAL = {  # torchvision's class, the folder and the files that it keeps, the licence
    "mnist": ("MNIST", "MNIST/raw", _IDX, "CC BY-SA 3.0"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw", _IDX, "MIT"),
    "kmnist": ("KMNIST", "KMNIST/raw", _IDX, "CC BY-SA 4.0"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", _BATCHES, "none given by its authors"),
}


def _terms(name: str, config: Any) -> dict[str, str]:
    return {"licence": _OFFICIAL[name][-1], "consent": "not needed"}


def _on_disk(name: str) -> str:
    """Describes the downloaded files by size and time; empty if one is missing."""
    _, below, files, _ = _OFFICIAL[name]
    try:
        stats = [(settings().data / below / file).stat() for file in files]
    except OSError:
        return ""
    return ";".join(f"{stat.st_size},{stat.st_mtime_ns}" for stat in stats)


def _download(name: str) -> None:
    """Downloads into a folder of its own, and moves the whole files to where they belong."""
    import torchvision

    kind, folder, files, _ = _OFFICIAL[name]
    data = settings().data
    settings().allow_disk(600 if name == "cifar10" else 150)
    new = data / f".new-{name}-{secrets.token_hex(4)}"
    try:
        data.mkdir(parents=True, exist_ok=True)
        scratch.sweep(data)
        with scratch.owned(new):
            new.mkdir()
            getattr(torchvision.datasets, kind)(root=str(new), train=True, download=True)
            (data / folder).mkdir(parents=True, exist_ok=True)
            for file in files:
                (new / folder / file).replace(data / folder / file)
    except (OSError, RuntimeError, EOFError) as error:  # URLError is an OSError
        raise UserError(
            f"The dataset {name!r} could not be downloaded to {data}: {broken_off(error)}. "
            f"Check the connection and the permissions, or copy its files to {data / folder}; "
            "'digits' and 'faces' work without download."
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _ready(name: str, config: Any) -> tuple[Any, str]:
    allow_count(config.count)
    if not (files := _on_disk(name)):
        settings().allow_change(f"download {name}")
        lock = settings().cache / "datasets" / f"download-{name}.lock"
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if not _on_disk(name):
                    _download(name)
        files = _on_disk(name)
    return config, f"{settings().data};{files}"


def _official(name: str, config: Any, watch: Watch) -> Dataset:
    import torchvision

    kind, folder, _, _ = _OFFICIAL[name]
    try:
        parts = [
            getattr(torchvision.datasets, kind)(
                root=str(settings().data), train=train, download=False
            )
            for train in (True, False)
        ]
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(
            f"The files of {name!r} in {settings().data / folder} cannot be read: {reason(error)}. "
            "Delete that folder: it is downloaded again at the next use."
        ) from error
    x = np.concatenate([np.asarray(part.data) for part in parts])
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)  # (N, C, H, W)
    y = np.concatenate([np.asarray(part.targets) for part in parts]).astype(np.int64)
    given = np.repeat(np.array([0, 2], np.int8), [len(part.data) for part in parts])
    if 0 < config.count < len(x):  # evenly spread, so train and test keep their proportion
        taken = np.arange(config.count) * len(x) // config.count
        x, y, given = x[taken], y[taken], given[taken]
    x = _rescaled(x, config.size, grey=getattr(config, "channels", "") == "grey", watch=watch)
    keys = digests(x)
    leaked = leaks(keys, given)
    notes = []
    if leaked.any():
        notes = [f"{leaked.sum()} training images that are also test images were left out."]
    x, y, given, keys = (values[~leaked] for values in (x, y, given, keys))
    splits = split_by_content(keys, y, valid_share=config.valid_share, given=given)
    classes = tuple("0123456789") if name == "mnist" else tuple(parts[0].classes)
    terms = _terms(name, config)
    return assemble(x, y, classes, splits, notes=tuple(notes), terms=terms)


def _rescaled(x: np.ndarray, size: int, grey: bool, watch: Watch) -> np.ndarray:
    """Scales to ``size`` (area when smaller, bilinear when larger); ``grey`` takes the luminance."""
    import torch
    from torch.nn.functional import interpolate

    grey = grey and x.shape[1] == 3
    if x.shape[-1] == size and not grey:
        watch.count("Preparing", len(x), len(x), "images")
        return np.ascontiguousarray(x)
    out = np.empty((len(x), 1 if grey else x.shape[1], size, size), np.uint8)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
    for start in range(0, len(x), 1000):
        batch = torch.from_numpy(np.ascontiguousarray(x[start : start + 1000])).float()
        if grey:
            batch = (batch * luma).sum(1, keepdim=True)
        if size < batch.shape[-1]:
            batch = interpolate(batch, size=(size, size), mode="area")
        elif size > batch.shape[-1]:
            batch = interpolate(batch, size=(size, size), mode="bilinear", align_corners=False)
        out[start : start + 1000] = batch.round().clamp(0, 255).to(torch.uint8).numpy()
        watch.count("Preparing", min(start + 1000, len(x)), len(x), "images")
    return out


@datasets.add(
    "mnist",
    "MNIST",
    ScansConfig,
    prepare=partial(_ready, "mnist"),
    terms=partial(_terms, "mnist"),
    chain="digits",
    own=ink(centred),
    suffixes=SUFFIXES,
)
def mnist(config: ScansConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """70 000 handwritten digits of 28 px, the classic; downloaded at first use (12 MB).

    References:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998
    """
    return _official("mnist", config, watch)


@datasets.add(
    "fashion_mnist",
    "Fashion-MNIST",
    ScansConfig,
    prepare=partial(_ready, "fashion_mnist"),
    terms=partial(_terms, "fashion_mnist"),
)
def fashion_mnist(config: ScansConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """70 000 grey pictures of clothes, 28 px, harder than digits; downloaded at first use (31 MB).

    References:
        Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017 https://arxiv.org/abs/1708.07747
    """
    return _official("fashion_mnist", config, watch)


@datasets.add(
    "kmnist",
    "Kuzushiji-MNIST",
    ScansConfig,
    prepare=partial(_ready, "kmnist"),
    terms=partial(_terms, "kmnist"),
    chain="digits",
)
def kmnist(config: ScansConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """70 000 handwritten Japanese characters from old books, 28 px; downloaded at first use (21 MB).

    References:
        Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018 https://arxiv.org/abs/1812.01718
    """
    return _official("kmnist", config, watch)


@datasets.add(
    "cifar10",
    "CIFAR-10",
    CifarConfig,
    prepare=partial(_ready, "cifar10"),
    terms=partial(_terms, "cifar10"),
)
def cifar10(config: CifarConfig, folder: Path, watch: Watch = UNWATCHED) -> Dataset:
    """60 000 small colour photographs of ten things, 32 px; downloaded at first use (170 MB).

    References:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009
    """
    return _official("cifar10", config, watch)

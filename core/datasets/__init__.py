"""Datasets by name: the registered sources, and the sets that a person saved.

>>> from core import datasets
>>> datasets.load("digits").size
8

Neither torch nor scikit-learn is imported before a source needs it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from core.catalog import Config, UserError, unknown
from core.datasets import folder as _folder  # registers
from core.datasets import recordings as _recordings  # registers
from core.datasets import sources as _sources  # registers
from core.datasets import store
from core.datasets import texts as _texts  # registers
from core.datasets.columns import Columns, columns, scores
from core.datasets.dataset import (
    LONGEST_TERM,
    SPLITS,
    TERMS,
    Consent,
    Dataset,
    Preview,
    SecondImages,
    Source,
    assemble,
    chunks,
    datasets,
    digests,
    evenly,
    fingerprint,
    imported,
    split_by_content,
)
from core.datasets.files import allow_size, received
from core.datasets.own import PreparedItem, prepare, reader
from core.ground import scratch
from core.ground.files import delete_folder, new_folder, write_atomic
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.media import Medium, media


@dataclasses.dataclass(frozen=True)
class Description:
    """A dataset before it is loaded: what a list shows."""

    name: str
    title: str
    caption: str
    entry: Source | None = None  # with its config, for a registered source
    size: Mapping[str, int] | None = None  # images, channels, size, classes, for a saved set
    medium: Medium = dataclasses.field(default_factory=lambda: media.get("image"))
    chain: str = ""  # the usual augmentations, where the source or the import says them

    @property
    def saved(self) -> bool:
        """Whether a person saved it, so that it can be deleted."""
        return self.entry is None


def names() -> list[str]:
    """Lists the registered sources, then the saved sets by name."""
    return [*datasets.names(), *_saved()]


def config_of(name: str) -> type[Config]:
    """Gives the parameters of a dataset; a saved set has none.

    Raises:
        UserError: If there is no such dataset.
    """
    if name in datasets:
        return datasets.get(name).config
    _folder_of(name)
    return Config


def load(name: str, values: Mapping[str, Any] | None = None, watch: Watch = UNWATCHED) -> Dataset:
    """Opens a dataset; a registered source is built at first use, then comes from the cache.

    Args:
        name: One of :func:`names`.
        values: Parameters of a registered source, by name.
        watch: Follows the building of a source; ended by it, nothing is left behind.

    Raises:
        UserError: If there is no such dataset, a parameter is not allowed, or its files cannot be used.
    """
    if name in datasets:
        entry = datasets.get(name)
        return store.cached(entry, entry.config.of(values, where="dataset"), watch)
    folder = _folder_of(name)
    if values:
        raise UserError(
            f"The saved dataset {name!r} takes no parameters, got {', '.join(values)}. Leave them out; "
            "another size needs another import."
        )
    try:
        stat = (folder / "meta.json").stat()
        key = f"{folder} {stat.st_mtime_ns} {stat.st_ino}"
        return store.memo.get(key, lambda: store.read(folder))
    except OSError as error:
        raise _damaged(name, folder / "meta.json", error) from error
    except store.Damaged as error:
        raise _damaged(name, error.file, error.why) from error


def check(name: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Refuses at once a dataset that a job could not load; nothing is downloaded, drawn or decoded.

    Returns:
        The values, with paths that hold in any working directory.

    Raises:
        UserError: As :func:`load`.
    """
    if name not in datasets:
        load(name, values)
        return dict(values or {})
    entry = datasets.get(name)
    return entry.check(entry.config.of(values, where="dataset")).record()


def alike(source: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tells whether two records mean the same dataset, prepared alike; an older one knows fewer parameters.

    Args:
        source, other: Each ``{"name": …, "config": {…}}``; what a config leaves out stands at its default.
    """
    if source["name"] != other["name"]:
        return False
    if source["config"] == other["config"] or source["name"] not in datasets:
        return source["config"] == other["config"]
    config = datasets.get(source["name"]).config
    try:
        first, second = (config.of(each["config"], where="dataset") for each in (source, other))
    except UserError:  # a later version has written one of them
        return False
    return first == second


def teaches(name: str, values: Mapping[str, Any]) -> bool:
    """Tells whether a dataset has training images, before anything is downloaded or decoded.

    Raises:
        UserError: As :func:`load`.
    """
    if name not in datasets:  # a saved set says at once what it holds
        return len(load(name).splits["train"]) > 0
    entry = datasets.get(name)
    return entry.teaches(entry.config.of(values, where="dataset"))


def save(name: str, dataset: Dataset) -> Dataset:
    """Keeps a dataset under a name, whole or not at all.

    Args:
        name: Letters, digits, dash, underscore and space; kept in lower case with dashes for spaces.
        dataset: What to keep; its own source is kept as ``source["origin"]``.

    Returns:
        The dataset as :func:`load` opens it under its name.

    Raises:
        UserError: If the server is view-only, the name is not allowed or taken, or the disk is full.
        ValueError: If the fingerprint or the levels do not belong to the content.
    """
    settings().allow_change("save a dataset")
    name = free(name)
    content = (dataset.x, dataset.y, dataset.classes, dataset.splits, dataset.levels)
    if fingerprint(*content, dataset.pair) != dataset.fingerprint:
        raise ValueError(
            "the fingerprint does not belong to this content; build the dataset with assemble()"
        )
    if dataset.medium.dtype == "uint8" and any(
        chunk.max() >= dataset.levels for chunk in chunks(dataset.x)
    ):
        raise ValueError(f"x must lie in 0 … {dataset.levels - 1}")
    if (pair := dataset.pair) and any(chunk.max() >= pair.levels for chunk in chunks(pair.x)):
        raise ValueError(f"the pair must lie in 0 … {pair.levels - 1}")
    return _keep(name, lambda new: dataset)


def importers() -> list[Source]:
    """Lists the sources that import files, as the media name them."""
    return [datasets.get(name) for name in dict.fromkeys(medium.source for medium in media) if name]


def preview(values: Mapping[str, Any], source: str = "") -> Preview:
    """Says what an import would make of a file or folder; nothing is kept.

    Args:
        values: Parameters of the importer.
        source: Name of an importer; empty takes the one that finds the most items.

    Raises:
        UserError: If none can read it, or a choice does not fit.
    """
    previews: list[Preview] = []
    refused: list[UserError] = []
    able = [entry for entry in importers() if values.keys() <= entry.config.knobs().keys()]
    for entry in [datasets.get(source)] if source else able or importers():
        assert entry.preview is not None
        try:
            preview = entry.preview(entry.config.of(values, where="dataset"))
            previews.append(dataclasses.replace(preview, source=entry.name))
        except UserError as error:
            refused.append(error)
    if not previews:
        raise refused[0]
    return max(previews, key=lambda preview: preview.pictures)


def bring(
    name: str, values: Mapping[str, Any], watch: Watch = UNWATCHED, *, source: str = ""
) -> Dataset:
    """Imports a file or folder under a name, whole or not at all.

    Args:
        name: As in :func:`save`.
        values: Parameters of the importer.
        watch: Follows the import; ended by it, nothing is left behind.
        source: Name of the importer; as in :func:`preview`.

    Raises:
        UserError: As :func:`save` and the importer.
    """
    settings().allow_change("import images")
    name = free(name)
    if not source:  # a look at all of it, where there is a choice
        able = importers()
        source = able[0].name if len(able) == 1 else preview(values).source
    entry = datasets.get(source)
    config, _ = entry.prepare(entry.config.of(values, where="dataset"))
    origin = {"name": entry.name, "config": config.record()}

    def make(new: Path) -> Dataset:
        dataset = store.made(entry, config, new, watch)
        return dataclasses.replace(dataset, source={**dataset.source, **origin})

    return _keep(name, make)


def free(name: str) -> str:
    """Gives the form in which a name is kept.

    Raises:
        UserError: If a dataset has it already, or it holds nothing that a name may.
    """
    name = slug(name)
    if name in datasets:
        raise UserError(
            f"The name {name!r} belongs to a dataset that comes with the program. Choose another name."
        )
    if _is_taken(name):
        raise _taken(name)
    return name


def suggest(text: str) -> str:
    """Finds a name that is free and allowed after the name of a file or folder: ``My birds (2)`` -> ``my-birds-2``."""
    # of small letters some are written with a mark, such as that of İ, which is no letter by itself
    small = unicodedata.normalize("NFC", text.lower())
    letters = "".join(sign for sign in small if not unicodedata.category(sign).startswith("M"))
    words = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", letters)).strip("-")
    base = words.encode()[:50].decode(errors="ignore") or "pictures"
    more = (f"{base}-{i}" for i in itertools.count(2))
    return next(name for name in itertools.chain([base], more) if not _is_taken(name))


def _is_taken(name: str) -> bool:
    return name in datasets or (settings().datasets / name).exists()


def _taken(name: str) -> UserError:
    return UserError(
        f"There is a dataset {name!r} already. Names are used once: choose another, "
        "or delete that one first."
    )


def _keep(name: str, make: Callable[[Path], Dataset]) -> Dataset:
    """Writes the dataset of ``make``, which may stream its pixels into the folder that it gets, under a free name."""
    folder = settings().datasets / name
    scratch.sweep(settings().datasets)
    try:
        with store.explained(folder), new_folder(folder) as new:
            store.fill(new, lambda: make(new), name)
    except FileExistsError:
        raise _taken(name) from None
    return load(name)


def terms(name: str, values: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Says under which ``licence`` a dataset stands and what is known of ``consent``, without loading it.

    Both are empty where nobody has said it.

    Raises:
        UserError: If there is no such dataset, a parameter is not allowed, or it is damaged.
    """
    if name in datasets:
        entry = datasets.get(name)
        said = entry.terms(entry.config.of(values or {}, where="dataset"))
    else:
        folder = _folder_of(name)
        try:
            said = store.read_meta(folder).get("terms", {})
        except store.Damaged as error:
            raise _damaged(name, error.file, error.why) from error
    consent = said.get("consent", "")
    return {"licence": said.get("licence", ""), "consent": "" if consent == "unknown" else consent}


def state(
    name: str,
    *,
    licence: str | None = None,
    consent: str | None = None,
    creator: str | None = None,
    maintainer: str | None = None,
) -> Dataset:
    """Sets the terms of a saved dataset, as :class:`Dataset` has them; what is None stays.

    Raises:
        UserError: If the server is view-only, there is no such saved set, or the consent is not one of the choices.
    """
    settings().allow_change("change what is said about a dataset")
    if name in datasets:
        raise UserError(
            f"The dataset {name!r} comes with the program, with terms of its own. Save it under another name first."
        )
    folder = _folder_of(name)
    options = get_args(Consent)
    if consent is not None and consent not in options:
        raise UserError(
            f"consent must be one of {', '.join(options)}, got {consent!r}. Choose one of them."
        )
    try:
        meta = store.read_meta(folder)
    except store.Damaged as error:
        raise _damaged(name, error.file, error.why) from error
    terms = dict(meta.get("terms", {}))
    for key, said in {"licence": licence, "creator": creator, "maintainer": maintainer}.items():
        if said is not None:
            terms[key] = " ".join(said.split())[:LONGEST_TERM]
    if consent is not None:
        terms["consent"] = consent
    meta["terms"] = terms
    with store.explained(folder):
        write_atomic(folder / "meta.json", json.dumps(meta, indent=1).encode())
    return load(name)


def delete(name: str) -> None:
    """Deletes a saved dataset.

    Raises:
        UserError: If the server is view-only, or there is no saved set of that name.
    """
    settings().allow_change("delete a dataset")
    if name in datasets:
        raise UserError(
            f"The dataset {name!r} comes with the program and cannot be deleted. Only saved sets can."
        )
    folder = _folder_of(name)
    store.forget(folder)
    with store.explained(folder):
        delete_folder(folder)


def describe(name: str) -> Description:
    """Says what a dataset is, without loading it.

    Raises:
        UserError: If there is no such dataset.
    """
    if name in datasets:
        entry = datasets.get(name)
        return Description(
            name,
            entry.title,
            entry.caption,
            entry,
            medium=media.get(entry.medium),
            chain=entry.chain,
        )
    folder = _folder_of(name)
    try:
        meta = store.read_meta(folder)
        medium = meta["modality"]
        if medium not in media:
            return Description(
                name,
                name,
                f"Of a medium that this version does not know: {medium!r}. "
                "Put its file back into core/media.",
            )
        n, *shape = meta["shape"]
        classes = len(meta["classes"])
        caption = f"{media.get(medium).describe(n, tuple(shape))}, {classes or 'no'} class{'es' * (classes != 1)}"
        if meta.get("group"):
            caption += f", kept together by {meta['group']}"
        size = {"images": n, "channels": shape[0], "size": shape[-1], "classes": classes}
        chain = imported(meta.get("source", {}), "chain")
        return Description(
            name, name, f"{caption}.", size=size, medium=media.get(medium), chain=str(chain or "")
        )
    except (store.Damaged, ValueError, KeyError, TypeError):
        return Description(
            name, name, "Damaged: its meta.json cannot be read. Delete it, and import it again."
        )


def usual_chain(dataset: Dataset) -> str:
    """Names the usual augmentations of a dataset: a preset of Augment."""
    return datasets.get(dataset.origin).chain if dataset.origin in datasets else "photos"


def slug(name: str) -> str:
    """Turns a name into that of a folder: ``My birds`` -> ``my-birds``.

    Raises:
        UserError: If the name is empty, too long, or has other signs than letters, digits, dash, underscore, space.
    """
    text = unicodedata.normalize("NFC", name).strip()
    if not re.fullmatch(r"\w[\w -]*", text) or len(text.encode()) > 60:
        raise UserError(
            f"A dataset's name must be 1 to 60 letters, digits, dashes, underscores or spaces, got "
            f"{name!r}. For example 'my-birds'."
        )
    return re.sub(r"\s+", "-", text).lower()


def _saved() -> list[str]:
    try:
        with os.scandir(settings().datasets) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:
        return []


def _folder_of(name: str) -> Path:
    known = _saved()
    if name not in known:  # never a path made of what somebody typed
        raise UserError(unknown("dataset", name, [*datasets.names(), *known]))
    return settings().datasets / name


def _damaged(name: str, file: Path, why: object) -> UserError:
    return UserError(
        f"The saved dataset {name!r} is damaged: {file} cannot be read ({why}). "
        "Delete it, and import or build it again."
    )

"""Datasets of the Hugging Face hub, fetched whole into the folder of downloads at first use.

References:
    Hugging Face Hub, the client library https://huggingface.co/docs/huggingface_hub
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from core.catalog import UserError, broken_off, optional
from core.datasets.pictures import SUFFIXES
from core.ground.files import full_disk_told, new_folder
from core.ground.settings import settings
from core.ground.writing import many

SCHEME = "hf://datasets/"  # as the hub's own tools write it
_FORM = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w.-]{1,80}))?")
# no program of somebody else, no pickle, and nothing that is not read
_WANTED = {*SUFFIXES, "parquet", "csv", "jsonl", "json", "tar", "npz", "gz", "zip", "md", "txt"}


def is_hub(path: str) -> bool:
    """Tells whether a path names a dataset of the hub: ``hf://datasets/owner/name``."""
    return path.strip().startswith(SCHEME)


def place(path: str) -> Path:
    """Gives the folder of a dataset of the hub, whether it has been fetched or not.

    Raises:
        UserError: If the name is none.
    """
    id, revision = _parts(path)
    name = id.replace("/", "--") + (f"@{revision}" if revision else "")
    return settings().data / "hub" / name


def fetched(path: str) -> Path:
    """Gives the folder of a dataset of the hub, and fetches it first where it is not there yet, whole or not at all.

    Raises:
        UserError: If the name is none, there is no network or no such dataset, or it is too large.
    """
    folder = place(path)
    if folder.is_dir():
        return folder
    hub = optional(
        "huggingface_hub", "A dataset of the hub", "fetch it by hand, and name its folder"
    )
    id, revision = _parts(path)
    try:
        about = hub.HfApi().dataset_info(id, revision=revision, files_metadata=True, timeout=30)
        files = [
            file
            for file in about.siblings or []
            if file.rfilename.casefold().rpartition(".")[2] in _WANTED
        ]
        most, size = settings().max_files, sum(file.size or 0 for file in files)
        if len(files) > most:
            raise UserError(
                f"{id!r} holds {many(files, 'file')}, and at most {most:,} are allowed. Choose another dataset."
            )
        settings().allow_disk(size / 2**20)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_told(), new_folder(folder) as new:
            hub.snapshot_download(
                id,
                repo_type="dataset",
                revision=about.sha,
                local_dir=new,
                allow_patterns=[file.rfilename for file in files],
            )
            shutil.rmtree(new / ".cache", ignore_errors=True)
    except UserError:
        raise
    except FileExistsError:  # somebody else was quicker
        return folder
    except Exception as error:  # whatever the network, the hub or its library raise
        raise UserError(
            f"The dataset {id!r} of the hub could not be fetched: {_why(error)}. Check the name and the network, or "
            "fetch it elsewhere, and name its folder (dataset.path)."
        ) from error
    return folder


def _parts(path: str) -> tuple[str, str | None]:
    match = _FORM.fullmatch(path.strip().removeprefix(SCHEME).strip("/"))
    if match is None or ".." in path:
        raise UserError(
            f"A dataset of the hub is named {SCHEME}OWNER/NAME, with @REVISION if need be, got {path!r:.120}. For "
            f"example {SCHEME}ylecun/mnist."
        )
    return match[1], match[2]


def _why(error: Exception) -> str:
    kind = type(error).__name__
    known = {
        "OfflineModeIsEnabled": "the hub's library is set to work without a network (HF_HUB_OFFLINE)",
        "RepositoryNotFoundError": "there is none of that name, or it is private",
        "GatedRepoError": "its owner gives it only to whoever has asked for it",
        "RevisionNotFoundError": "it has no such revision",
    }
    return known.get(kind) or broken_off(error)

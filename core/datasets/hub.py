"""Datasets of the Hugging Face hub: fetched whole into the folder of downloads at first use, and sent there.

References:
    Hugging Face Hub, the client library https://huggingface.co/docs/huggingface_hub
"""

from __future__ import annotations

import os
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


def allow_push(id: str) -> None:
    """Refuses what cannot be sent before anything is written for it.

    Args:
        id: ``owner/name`` of the dataset on the hub.

    Raises:
        UserError: If the name is none, the extra, the token or the network is not there, or the server is view-only.
    """
    settings().allow_change("send a dataset to the hub")
    if is_hub(id) or _parts(id)[1] is not None:
        raise UserError(
            f"What is sent to the hub is named OWNER/NAME, without a scheme or a revision, got {id!r:.120}."
        )
    constants = optional(
        "huggingface_hub.constants",
        "Sending to the hub",
        "upload the folder of the export on its website",
    )
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{id!r} cannot be sent to the hub: its library is set to work without a network (HF_HUB_OFFLINE). "
            "Unset that, or upload the folder of the export on its website."
        )
    _token()


def pushed(folder: Path, id: str, private: bool = False, replace: bool = False) -> dict[str, str]:
    """Sends a folder to the hub as one commit of a dataset.

    Args:
        folder: What is sent, all of it.
        id: ``owner/name``; a new one comes to be.
        private: Whether only its owner sees a new one.
        replace: Whether the files of one that is there give way; its history keeps them.

    Returns:
        ``repository``, ``url`` and ``commit``.

    Raises:
        UserError: As :func:`allow_push`; if there is no network, the hub refuses, or holds files of that name already.
    """
    allow_push(id)
    hub = optional("huggingface_hub", "Sending to the hub")
    made = False
    try:
        api = hub.HfApi(token=_token())
        if api.repo_exists(id, repo_type="dataset"):
            there = [
                name
                for name in api.list_repo_files(id, repo_type="dataset")
                if not name.startswith(".git")
            ]
            if there and not replace:
                raise UserError(
                    f"{id!r} is on the hub already, and holds {many(there, 'file')}. Choose another name, or add "
                    "--replace: its files give way then, and its history keeps them."
                )
        else:
            api.create_repo(id, repo_type="dataset", private=private)
            made = True
        commit = api.upload_folder(
            repo_id=id,
            folder_path=str(folder),
            repo_type="dataset",
            commit_message="Export with its lineage and card",
            delete_patterns="*" if replace else None,
        )
    except UserError:
        raise
    except Exception as error:  # whatever the network, the hub or its library raise
        left = f" The empty dataset {id!r} was made there, and stays." if made else ""
        raise UserError(
            f"{id!r} could not be sent to the hub: {_why(error)}.{left} Check the name, the network and whether the "
            "token may write."
        ) from error
    return {
        "repository": id,
        "url": f"{api.endpoint}/datasets/{id}",
        "commit": str(commit.oid),
    }


def _token() -> str:
    """Gives the token of the environment; it is taken from nowhere else, and never kept."""
    if not (token := os.environ.get("HF_TOKEN", "").strip()):
        raise UserError(
            "Sending to the hub needs a token that may write, in the environment variable HF_TOKEN, which is not set. "
            "Make one on huggingface.co under Settings, Access Tokens."
        )
    return token


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
        "ConnectError": "there is no network, or the hub does not answer",
        "ConnectTimeout": "the hub does not answer",
    }
    return known.get(kind) or broken_off(error)

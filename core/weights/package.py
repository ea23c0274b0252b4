"""What somebody brings: files of numbers and of text out of a folder, a ZIP or by themselves; never a program.

Nothing is unpacked to a place, imported or run: every file is bytes under its name, read within bounds. Whatever a
pickle can be in is refused by its name, since opening one runs any program.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from core.catalog import UserError
from core.datasets import files as volumes
from core.datasets.container import Volume
from core.datasets.pictures import Refused
from core.ground import untrusted
from core.ground.settings import settings

SAFE = frozenset({"safetensors", "json", "txt"})
PICKLED = frozenset({
    "bin", "pkl", "pickle", "pt", "pth", "ckpt", "npy", "npz", "joblib", "dill", "mar", "msgpack", "h5", "hdf5",
    "keras", "pb",
})  # fmt: skip
_PROGRAMS = frozenset({
    "py", "pyc", "pyd", "pyi", "pyx", "ipynb", "so", "dll", "dylib", "exe", "sh", "bat", "cmd", "ps1", "js", "mjs",
    "wasm", "jar", "whl", "egg", "lua", "rb", "pl",
})  # fmt: skip
_ASIDE = frozenset({"md", "rst", "pdf", "png", "jpg", "jpeg", "webp", "gif", "svg", ""})
FILES = 300  # of a package
DOCUMENT = 8 * 2**20  # bytes of a file of text
_JSON = untrusted.Limits(
    characters=DOCUMENT,
    depth=8,
    values=400_000,  # a vocabulary of words has 50 000
    advice="Bring the folder as the library wrote it.",
)
ADVICE = "Bring the weights as .safetensors, with their .json files beside them."


@dataclass(frozen=True, eq=False)
class Package:
    """What somebody brings, read within bounds.

    Attributes:
        name: Of the file or folder that it came as, for people.
        files: Contents by path, with slashes, below the folder.
        aside: Paths that were left out: descriptions and pictures, which say nothing to a program.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    aside: tuple[str, ...] = ()

    @classmethod
    def alone(cls, file: bytes, name: str = "model.safetensors") -> Package:
        """Makes one of a single file."""
        return cls(name, {PurePosixPath(name.replace("\\", "/")).name: file})

    @classmethod
    def read(cls, path: Path, also: Collection[str] = ()) -> Package:
        """Reads a folder, a ZIP or a single file of this machine.

        Args:
            path: Where it is; what ends in ``.zip`` is a ZIP.
            also: Endings that are read beside those of :data:`SAFE`. Those of pickles only as a file by itself, whose
                content :func:`core.weights.look` checks.

        Raises:
            UserError: If it cannot be read, holds too much, or a file that is not allowed; the first is named.
        """
        path = path.expanduser()
        if path.is_dir():
            return cls._of(volumes.Directory(path), path.name, SAFE | (set(also) - PICKLED))
        if path.suffix.casefold() == ".zip":
            try:
                volume = volumes.Archive(path, "files of weights")
            except OSError as error:
                raise _unreadable(path, error) from None
            return cls._of(volume, path.name, SAFE | (set(also) - PICKLED))
        _allow(path.name, ending(path.name), SAFE | set(also) | _ASIDE)
        try:
            allow_size(path.stat().st_size)
            with path.open("rb") as opened:
                file = opened.read(settings().upload_mb * 2**20 + 1)
        except OSError as error:
            raise _unreadable(path, error) from None
        allow_size(len(file))
        return cls.alone(file, path.name)

    @classmethod
    def sent(cls, files: Sequence[tuple[str, bytes]], also: Collection[str] = ()) -> Package:
        """Reads what a visitor sent: one ZIP, one file, or the files of a folder by their paths.

        Raises:
            UserError: As :meth:`read`.
        """
        name = PurePosixPath(files[0][0].replace("\\", "/")).name
        if len(files) == 1 and not name.casefold().endswith(".zip"):
            _allow(name, ending(name), SAFE | set(also) | _ASIDE)
            allow_size(len(files[0][1]))
            return cls.alone(files[0][1], name)
        allow_size(sum(len(content) for _, content in files), len(files))
        if len(files) > 1:
            name = files[0][0].replace("\\", "/").partition("/")[0]
            name = PurePosixPath(name).stem
        with volumes.received("package", files) as path:
            volume = volumes.Archive(path, "files of weights")
            return cls._of(volume, name, SAFE | (set(also) - PICKLED))

    @classmethod
    def kept(cls, path: Path) -> Package:
        """Reads again what :meth:`packed` gave.

        Raises:
            UserError: If the file is damaged.
        """
        volume = volumes.Archive(path, "files of weights")
        return cls._of(volume, volume.zip.comment.decode() or path.stem, None)

    @classmethod
    def _of(cls, volume: Volume, name: str, endings: Collection[str] | None) -> Package:
        with volume:
            listed = sorted(volume.files, key=lambda file: file.name)
            for file, why in volume.refused:
                raise UserError(f"{file[:120]!r} {why}. {ADVICE}")
            if len(listed) > FILES:
                raise UserError(
                    f"{name!r} holds {len(listed):,} files, and at most {FILES} are allowed. Bring one model."
                )
            taken, aside = [], []
            for file in listed:
                kind = ending(file.name)
                if endings is not None and kind in _ASIDE and kind not in endings:
                    aside.append(file.name)
                    continue
                if endings is not None:
                    _allow(file.name, kind, endings)
                taken.append(file)
            allow_size(sum(file.size for file in taken), len(taken))
            found: dict[str, bytes] = {}
            total = 0
            for file in taken:
                text = ending(file.name) in {"json", "txt"}
                most = DOCUMENT if text else settings().upload_mb * 2**20
                try:
                    found[file.name] = volume.read(file, most + 1)
                except Refused as error:
                    raise UserError(f"{file.name[:120]!r} {error}. {ADVICE}") from None
                if text and len(found[file.name]) > most:
                    raise UserError(
                        f"{file.name[:120]!r} is a text of more than {most // 2**20} MB, which no model needs. {ADVICE}"
                    )
                allow_size(total := total + len(found[file.name]), len(taken))
        if not found:
            raise UserError(f"{name!r} holds no weights and no description of any. {ADVICE}")
        # a folder inside a folder: what describes the model is to stand first
        while endings is not None and len(tops := {path.partition("/")[0] for path in found}) == 1:
            if (top := f"{tops.pop()}/") == f"{next(iter(found))}/":
                break
            found = {path.removeprefix(top): content for path, content in found.items()}
        return cls(name, found, tuple(aside))

    def __contains__(self, path: object) -> bool:
        return path in self.files

    def __getitem__(self, path: str) -> bytes:
        if path not in self.files:
            raise UserError(
                f"{self.name!r} has no {path}. It holds: {_some(self.files)}. Bring the whole folder."
            )
        return self.files[path]

    def json(self, path: str) -> dict[str, Any]:
        """Reads a file as an object of JSON.

        Raises:
            UserError: If there is none, it is too long or too deep, or it is no object.
        """
        try:
            read = untrusted.read_json(self[path].decode("utf-8-sig"), f"{path}", _JSON)
        except untrusted.NoData as error:
            raise UserError(f"{path} of {self.name!r} is no JSON{error}. {_JSON.advice}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} of {self.name!r} is no text. {_JSON.advice}") from None
        if not isinstance(read, dict):
            raise UserError(
                f"{path} of {self.name!r} holds {type(read).__name__}, no object. {_JSON.advice}"
            )
        return read

    def described(self, path: str) -> dict[str, Any]:
        """Reads a file as :meth:`json`, and gives an empty object where there is none or it is none."""
        if path not in self:
            return {}
        try:
            return self.json(path)
        except UserError:
            return {}

    def below(self, folder: str) -> Package:
        """Gives the files of one of its folders, by their paths below it."""
        start = f"{folder.strip('/')}/"
        found = {
            path.removeprefix(start): f for path, f in self.files.items() if path.startswith(start)
        }
        return Package(f"{self.name}/{folder}", found)

    @property
    def tensors(self) -> list[str]:
        """Paths of the files that are neither JSON nor text."""
        return [path for path in self.files if ending(path) not in {"json", "txt"}]

    @property
    def weights(self) -> bytes:
        """The only file of weights that there is.

        Raises:
            UserError: If there is none, or there are several.
        """
        found = self.tensors
        if len(found) != 1:
            what = f"{len(found)} files of weights ({_some(found)})" if found else "no weights"
            raise UserError(f"{self.name!r} holds {what}, and one is needed. {ADVICE}")
        return self.files[found[0]]

    @property
    def lone(self) -> bool:
        """Whether it is one file of weights, and nothing says what these are."""
        return len(self.files) == 1 == len(self.tensors)

    @property
    def megabytes(self) -> float:
        """Of all its files."""
        return sum(map(len, self.files.values())) / 2**20

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its names and contents, in hexadecimal digits."""
        mark = hashlib.sha256()
        for path in sorted(self.files):
            content = self.files[path]
            mark.update(f"{len(path.encode())}:{path}:{len(content)}:".encode())
            mark.update(content)
        return mark.hexdigest()

    def packed(self) -> bytes:
        """Puts all of it into one file, of which :meth:`kept` makes it again."""
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as packed:
            packed.comment = self.name.encode()[:200].decode(errors="ignore").encode()
            for path, content in self.files.items():
                packed.writestr(zipfile.ZipInfo(path), content)
        return memory.getvalue()


def ending(path: str) -> str:
    """Gives the ending of a path, without its point.

    >>> ending("unet/Model.SafeTensors"), ending("LICENSE"), ending("weights.pt.")
    ('safetensors', '', 'pt')
    """
    name = re.sub(r"[. ]+$", "", PurePosixPath(path).name)
    return PurePosixPath(name).suffix.casefold().removeprefix(".")


def _allow(path: str, kind: str, endings: Collection[str]) -> None:
    """Refuses a file by its ending, and says why."""
    if kind in endings:
        return
    if kind in PICKLED:
        why = "may be a pickle, which can run any program when it is opened"
    elif kind in _PROGRAMS:
        why = "is a program, and nothing that is brought is ever run"
    else:
        why = f"is of a kind that is not read ({kind[:20]!r})"
    allowed = ", ".join(f".{each}" for each in sorted(endings) if each and each not in _ASIDE)
    raise UserError(
        f"{path[:120]!r} {why}, so nothing of it was kept. Allowed are {allowed}. Take it out, or save the weights "
        "with safetensors."
    )


def allow_size(size: int, files: int = 1) -> None:
    """Refuses weights of more bytes than a visitor may send, of one file or of several together.

    Raises:
        UserError: If they are; names the setting that raises the limit.
    """
    most = settings().upload_mb
    if size > most * 2**20:
        together = f" in {files} files together" if files > 1 else ""
        raise UserError(
            f"Weights must be at most {most:,} MB on this server, got {size / 2**20:,.0f} MB{together}. Use a smaller "
            "network, or raise SIMULACRA_MAX_UPLOAD_MB on your own machine; docs/bring.md says what Stable Diffusion "
            "needs."
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be read ({error.strerror}). Give a .safetensors or .pt file, a folder or a ZIP."
    )


def _some(paths: Collection[str]) -> str:
    def first() -> Iterator[str]:
        for path in list(paths)[:5]:
            yield path[:60]

    return ", ".join(first()) + (" …" if len(paths) > 5 else "")

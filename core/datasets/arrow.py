"""Parquet files that nobody vouches for, read in batches; the one place that reads them.

Texts and pictures are read as dictionaries: a file whose pages name one large value a million times then stays small.

References:
    Apache Parquet, the format https://parquet.apache.org/docs/file-format
    Hugging Face datasets, the schema's key ``huggingface`` https://huggingface.co/docs/datasets/about_dataset_features
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from core.catalog import UserError, reason
from core.datasets.attributes import described
from core.datasets.pictures import Refused
from core.ground.untrusted import Limits, NoData, read_json

MAGIC = b"PAR1"
BUFFER = 2**20  # bytes of a column that are read at once
_ROWS = 1024  # of a batch without pictures
_BATCH = 2**23  # bytes of a batch with pictures, about
_LIMITS = Limits(characters=4_000_000, depth=20, values=100_000)


class Parquet:
    """One Parquet file.

    Attributes:
        rows: How many it holds.
        unpacked: Bytes that its footer says it unpacks to.
        names: Names of the classes of each column that is one of numbers with names, by the ``huggingface`` schema.
        kinds: Of each plain column, in order: ``bool``, ``int``, ``float``, ``text`` or ``time``.
        pictures: Columns that may hold pictures, those that say so first.
        about: What this program has written of the set: ``classes``, ``terms``, ``group``; empty for others' files.
        left_out: Columns of lists and the like, which are not read.

    Raises:
        Refused: If it cannot be read.
    """

    def __init__(self, source: Path | BinaryIO | BytesIO) -> None:
        with _explained():
            from pyarrow import parquet

            file = parquet.ParquetFile(source)
            texts = [
                leaf.path
                for leaf in map(file.schema.column, range(len(file.schema)))
                if leaf.physical_type == "BYTE_ARRAY" and leaf.max_repetition_level == 0
            ]
            if hasattr(source, "seek"):
                source.seek(0)  # type: ignore[union-attr]
            self._file = parquet.ParquetFile(
                source, metadata=file.metadata, read_dictionary=texts, buffer_size=BUFFER
            )
            self._source = source
            about = file.metadata
            self._groups = [about.row_group(i) for i in range(about.num_row_groups)]
            self.rows = int(about.num_rows)
            self.unpacked = sum(group.total_byte_size for group in self._groups)
            if self.rows < 0 or any(group.num_rows < 0 for group in self._groups):
                raise Refused("says that it has fewer than 0 rows")
            if sum(group.num_rows for group in self._groups) != self.rows:
                raise Refused("says two numbers of rows")
            schema = file.schema_arrow
            features = _features(schema.metadata or {})
            self.about = described((schema.metadata or {}).get(b"simulacra", b""))
        self.names = {
            name: _names(name, feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
        said = [
            name
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "Image"
        ]
        self.kinds: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self.left_out: list[str] = []
        for field in schema:
            if kind := _kind(field.type):
                self.kinds[field.name] = kind
            elif (part := _picture(field.type)) is not None:
                self._parts[field.name] = f"{field.name}.{part}" if part else field.name
            else:
                self.left_out.append(field.name)
        self.pictures = sorted(self._parts, key=lambda name: name not in said)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        if not isinstance(self._source, Path):
            self._source.close()

    def has_path(self, column: str) -> bool:
        """Tells whether a column of pictures names the file of each."""
        return self._parts[column] == f"{column}.bytes" and any(
            self._file.schema.column(i).path == f"{column}.path"
            for i in range(len(self._file.schema))
        )

    def records(self, columns: Sequence[str], paths: str = "") -> Iterator[dict[str, Any]]:
        """Yields the plain columns of each row, and the path in the column ``paths`` of pictures, under its name.

        Raises:
            Refused: If the file is damaged.
        """
        wanted = [*columns, *([f"{paths}.path"] if paths else [])]
        if not wanted:
            yield from ({} for _ in range(self.rows))
            return
        with _explained():
            for batch in self._batches(_ROWS, wanted):
                values = {name: self._plain(name, batch.column(name)) for name in columns}
                if paths:
                    values[paths] = _texts(batch.column(paths).flatten()[0])
                for row in zip(*values.values(), strict=True):
                    yield dict(zip(values, row, strict=True))

    def values(self, column: str, row: int) -> Iterator[tuple[int, Any]]:
        """Yields batches of a column of pictures from about a row on: the number of the first row, and the bytes.

        Raises:
            Refused: If the file is damaged.
        """
        first, group = 0, 0
        while group < len(self._groups) - 1 and first + self._groups[group].num_rows <= row:
            first += self._groups[group].num_rows
            group += 1
        size = max(1, min(_ROWS, _BATCH * self.rows // max(1, self.unpacked)))
        part = self._parts[column]
        with _explained():
            for batch in self._batches(size, [part], group):
                array = batch.column(column)
                yield first, array.flatten()[0] if part != column else array
                first += len(array)

    def _batches(self, size: int, columns: Sequence[str], group: int = 0) -> Iterator[Any]:
        # group by group: a batch of two groups would have two dictionaries, which a column of pictures cannot have
        for i in range(group, len(self._groups)):
            yield from self._file.iter_batches(batch_size=size, columns=columns, row_groups=[i])

    def _plain(self, name: str, array: Any) -> list[Any]:
        kind = self.kinds[name]
        if kind == "text":
            return _texts(array)
        values = array.to_pylist()
        return [None if v is None else str(v) for v in values] if kind == "time" else values


def _texts(array: Any) -> list[Any]:
    """Reads a column of texts that is a dictionary; each value of it becomes a text once."""
    if not hasattr(array, "dictionary"):
        return array.to_pylist()
    known = array.dictionary.to_pylist()
    return [None if i is None else known[i] for i in array.indices.to_pylist()]


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Reads what Hugging Face's schema says of each column; empty where there is none."""
    if b"huggingface" not in metadata:
        return {}
    try:
        said = read_json(metadata[b"huggingface"].decode(), "The schema of a Parquet file", _LIMITS)
        features = said["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (NoData, UnicodeDecodeError, KeyError, TypeError):
        raise Refused("has a schema of Hugging Face that cannot be read") from None


def _names(column: str, names: object) -> list[str]:
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise Refused(f"does not name each class of {column!r:.80} once")
    return names


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    for name, tests in {
        "bool": (types.is_boolean,),
        "int": (types.is_integer,),
        "float": (types.is_floating,),
        "text": (types.is_string, types.is_large_string),
        "time": (types.is_temporal, types.is_decimal),
    }.items():
        if any(test(kind) for test in tests):
            return name
    return ""


def _picture(kind: Any) -> str | None:
    """Finds the part of a column that holds bytes, below the name of the column; None where there is none."""
    from pyarrow import types

    def binary(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_binary(kind) or types.is_large_binary(kind)

    if binary(kind):
        return ""
    if types.is_struct(kind) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}:
        return "bytes" if binary(kind.field("bytes").type) else None
    return None


@contextmanager
def _explained() -> Iterator[None]:
    """Turns whatever a forged file makes the reader raise into a reason.

    Raises:
        Refused: With that reason.
    """
    try:
        yield
    except (Refused, UserError, GeneratorExit):
        raise
    except Exception as error:
        raise Refused(
            f"is no Parquet file that can be read, or is damaged ({reason(error)})"
        ) from error

"""A model that writes: how it goes on from a beginning, how much a text surprises it, and what it has read before.

Beside every number of the model stands that of a table of counts of the same texts, which needs no network.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from core.catalog import UserError
from core.ground.cache import Cache
from core.media import text as medium
from core.models import Writes, families

if TYPE_CHECKING:
    from core.catalog import Config
    from core.datasets import Dataset
    from core.runs import Opened
    from core.text.counts import Counts

MOST = 4000  # bytes that are read or written at once
SHOWN = 5  # bytes that might stand at a place instead, the likeliest ones
KNOWN = 2**24  # bytes of training texts that are counted and searched
UNSEEN = 100  # held-out items whose runs say what is usual
PART, ROOM = (
    160,
    32,
)  # bytes of each that are looked at, and those at the end where no run begins that is counted
_known: Cache[Knowledge] = Cache(256 * 2**20, lambda known: known.weighs)


def writes(opened: Opened) -> bool:
    """Tells whether a model writes."""
    return isinstance(opened.model, Writes)


def allow(opened: Opened) -> None:
    """Refuses a model that does not write.

    Raises:
        UserError: If it does not.
    """
    if not writes(opened):
        able = ", ".join(family.name for family in families if "tokens" in family.takes)
        raise UserError(
            f"{opened.name or opened.family} makes {opened.medium.title.lower()} and writes none. Choose a run of a "
            f"family that writes texts: {able}."
        )


def data_of(text: str, what: str = "The text") -> bytes:
    """Gives the bytes of a text that somebody has typed.

    Raises:
        UserError: If it is too long, or holds a zero byte.
    """
    return _allowed(text.encode("utf-8", "replace"), what)


def _allowed(data: bytes, what: str) -> bytes:
    if len(data) > MOST or b"\0" in data:
        raise UserError(
            f"{what} has at most {MOST:,} bytes and no zero byte among them, got {len(data):,}. Shorten it."
        )
    return data


def write(
    opened: Opened,
    prompt: str,
    sampling: Config,
    *,
    length: int = 400,
    seed: int = 0,
    id: int = 0,
    label: int | None = None,
) -> Iterator[int]:
    """Yields the bytes that a model writes after a prompt, until it ends the text or there are as many as wanted.

    Args:
        opened: The model.
        prompt: What the text begins with; may be empty.
        sampling: The family's sampling config.
        length: How many bytes at most.
        seed, id: On which the text depends, and on nothing else that is drawn.
        label: The class; None for any.

    Raises:
        UserError: If it does not write, or what is asked for is too long.
    """
    allow(opened)
    if not 1 <= length <= MOST:
        raise UserError(
            f"At least 1 and at most {MOST:,} bytes are written, got {length:,}. Write fewer."
        )
    begin = _tokens(data_of(prompt, "A prompt"), opened)
    for token in opened.model.write(begin, [id], _label(opened, label), seed, sampling, length):
        if not (byte := int(token[0])):
            return
        yield byte


def kept(data: Iterable[int], written: bytearray) -> Iterator[int]:
    """Passes bytes on, and puts each behind those that are written."""
    for byte in data:
        written.append(byte)
        yield byte


def decoded(data: Iterable[int]) -> Iterator[str]:
    """Yields bytes as text, letter by letter: a letter of several bytes when it is whole."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for byte in data:
        if part := decoder.decode(bytes([byte])):
            yield part
    if rest := decoder.decode(b"", True):
        yield rest


def judged(prompt: str, written: bytes) -> tuple[bytes, int]:
    """Joins a prompt and what follows it to what :func:`read` takes, and says how many bytes of it are the prompt's.

    Of what is too long together, the beginning is left out.
    """
    data = (prompt.encode("utf-8", "replace") + written)[-MOST:]
    return data, max(0, len(data) - len(written))


@dataclass(frozen=True)
class Read:
    """How a model reads a text.

    Attributes:
        data: Its bytes.
        nats: How much each surprises the model, (T,).
        counted: How much each surprises a table of counts, (T,).
        others: The likeliest bytes at each place, with their probabilities.
        copied: How many bytes from each place on stand in the training texts, (T,).
        usual: How long such a run is at most in 95 of 100 places of unseen texts.
        share: Of the training texts that were looked at.
    """

    data: bytes
    nats: np.ndarray = field(repr=False)
    counted: np.ndarray = field(repr=False)
    others: Sequence[Sequence[tuple[int, float]]] = field(repr=False)
    copied: Sequence[int] = field(repr=False)
    usual: int = 0
    share: float = 1.0

    @property
    def marked(self) -> np.ndarray:
        """Marks the bytes that lie in a copied run longer than usual, bool (T,)."""
        from core.text import copies

        if not self.data:
            return np.zeros(0, bool)
        return copies.share(np.array([self.copied]), self.usual + 1)[0]

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        count = max(1, len(self.data))
        return {
            "bytes": len(self.data),
            "nats_per_byte": float(self.nats.sum()) / count,
            "counts_nats_per_byte": float(self.counted.sum()) / count,
            "longest_copied_run": max(self.copied, default=0),
            "usual_copied_run": self.usual,
            "copied_bytes": int(self.marked.sum()),
            "looked_at": self.share,
        }


def read(
    opened: Opened, data: bytes, dataset: Dataset, *, label: int | None = None, begin: int = 0
) -> Read:
    """Reads a text as a model does.

    Args:
        opened: The model.
        data: What is read; a model may have written bytes that are no letters.
        dataset: What the model was trained on.
        label: The class; None for any.
        begin: Bytes at the beginning that are known, and not judged.

    Raises:
        UserError: If the model does not write, or the text is too long.
    """
    allow(opened)
    from core.text import copies

    codes = _tokens(_allowed(data, "The text"), opened)
    told = opened.model.foretell(codes[None], _label(opened, label))[0, :-1]  # (T, V)
    nats = -told.gather(1, codes[:, None])[:, 0].cpu().numpy().astype(float)
    best = told.topk(SHOWN, dim=1)
    others = [
        [(int(code), math.exp(log)) for code, log in zip(row, logs, strict=True)]
        for row, logs in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    known = knowledge(dataset)
    rows = np.frombuffer(data, np.uint8)[None]
    counted = known.counts.nats(rows)[0] if len(data) else np.zeros(0)
    part = data[begin:]
    copied = copies.runs_of(part, known.texts, known.order)
    return Read(
        part, nats[begin:], counted[begin:], others[begin:], copied, known.usual, known.share
    )


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the training texts of a dataset say of others.

    Attributes:
        counts: A table of counts of them.
        texts: Their bytes, one behind the other.
        order: Of their places, as :func:`core.text.copies.places` gives it.
        usual: How long a run that they hold, too, is at most in 95 of 100 places of unseen texts.
        share: Of all training texts.
    """

    counts: Counts = field(repr=False)
    texts: bytes = field(repr=False)
    order: np.ndarray = field(repr=False)
    usual: int
    share: float

    @property
    def weighs(self) -> int:
        """Bytes that it takes, about."""
        return len(self.texts) + self.order.nbytes + 16 * self.counts.entries


def knowledge(dataset: Dataset) -> Knowledge:
    """Counts the training texts of a dataset, of many an even choice; the first time it takes some seconds."""

    def made() -> Knowledge:
        from core.datasets import evenly
        from core.text import copies
        from core.text.counts import Counts

        rows = dataset.splits["train"]
        picked = evenly(rows, max(1, KNOWN // dataset.shape[-1]))
        train = np.asarray(dataset.x[picked])
        texts = train.tobytes()
        order = copies.places(texts)
        held = dataset.x[evenly(dataset.splits["valid"], UNSEEN)]
        runs: list[int] = []
        for part in medium.data(held):
            runs += copies.runs_of(part[:PART], texts, order)[: max(0, len(part[:PART]) - ROOM)]
        usual = round(float(np.percentile(runs, 95))) if runs else 0
        return Knowledge(Counts.of(train), texts, order, usual, len(picked) / max(1, len(rows)))

    return _known.get(dataset.fingerprint, made)


def _tokens(data: bytes, opened: Opened) -> Any:
    import torch

    where = next(opened.model.parameters()).device
    return torch.tensor(list(data), dtype=torch.int64, device=where)


def _label(opened: Opened, label: int | None) -> Any:
    import torch

    if label is None or not opened.classes:
        return None
    return torch.tensor([label], device=next(opened.model.parameters()).device)

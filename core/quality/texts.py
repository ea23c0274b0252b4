"""What is wrong with texts: twice the same, nearly the same, in two splits, odd signs, and what tells of people.

Near duplicates are found by MinHash: of the short runs of signs that a text holds, the least by many random orders;
texts that share many of them share many runs. What is found so is then compared run by run.

References:
    [1] Broder, 1997, On the resemblance and containment of documents, https://doi.org/10.1109/SEQUEN.1997.666900
    [2] Lee et al., 2021, Deduplicating training data makes language models better, https://arxiv.org/abs/2107.06499
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from core import datasets
from core.catalog import UserError
from core.datasets import SPLITS, Dataset
from core.datasets.attributes import of_rows
from core.datasets.dataset import assemble, digests
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many, percent
from core.media import text as medium

SHINGLE = 6  # signs of a run
ORDERS, BANDS = 64, 16  # random orders, and the groups of them by which candidates are found
ALIKE = 0.7  # share of runs that two texts have in common from which they are nearly the same
SHORT = 16  # bytes below which a text says little
MASK = "*"

# kinds of findings: title, and what it means
KINDS = {
    "exact": (
        "The same text twice",
        "The same bytes as an earlier text of its split; it counts twice.",
    ),
    "near": (
        "Nearly the same",
        f"Of the runs of {SHINGLE} signs in it and an earlier text, at least {percent(ALIKE, 0)} are in both.",
    ),
    "leak": (
        "In two splits",
        "A held-out text that stands, or nearly stands, in training as well.",
    ),
    "odd": (
        "Odd signs",
        "Control signs, bytes that are no letters, or a mixture of writings within words.",
    ),
    "people": (
        "Tells of people",
        "E-mail addresses and long numbers, such as those of telephones and accounts.",
    ),
    "short": ("Says little", f"Fewer than {SHORT} bytes before its end."),
}

_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")
_NUMBER = re.compile(r"(?<![\w.])\+?\d(?:[ ()/.\-]?\d){6,24}(?![\w])")
_CONTROL = re.compile(
    r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffd]"
)
_MIXED = re.compile(
    r"[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]|[A-Za-z][\u0370-\u03ff]|[\u0370-\u03ff][A-Za-z]"
)


@dataclass(frozen=True)
class TextIssue:
    """One thing that was found about one text.

    Attributes:
        kind: Of :data:`KINDS`.
        item: Its index.
        other: Of the text that it repeats; -1 for none.
        says: What was found, a sentence.
    """

    kind: str
    item: int
    other: int = -1
    says: str = ""


@dataclass(frozen=True, eq=False)
class TextFindings:
    """All that was found in the texts of a dataset.

    Attributes:
        issues: In the order of the kinds, then of the texts.
        spans: Where texts tell of people: item, first byte, byte behind, and what it is.
    """

    issues: tuple[TextIssue, ...]
    spans: tuple[tuple[int, int, int, str], ...] = field(repr=False, default=())

    def of(self, kind: str) -> list[TextIssue]:
        """Lists those of one kind."""
        return [issue for issue in self.issues if issue.kind == kind]

    @property
    def counts(self) -> dict[str, int]:
        """Counts the texts with each kind."""
        return {kind: len({issue.item for issue in self.of(kind)}) for kind in KINDS}


def look(dataset: Dataset, watch: Watch = UNWATCHED) -> TextFindings:
    """Looks for what is wrong with the texts of a dataset.

    Raises:
        UserError: If it holds no texts.
        Stopped: When the watch says so.
    """
    _allow(dataset)
    x = np.asarray(dataset.x)
    said, split = medium.decode(x), dataset.split_of()
    issues = [*_exact(x, split), *_near(said, split, watch)]
    known = {issue.item for issue in issues if issue.kind == "exact"}
    issues = [issue for issue in issues if issue.kind != "near" or issue.item not in known]
    issues += _odd(said)
    spans = tuple(_people(dataset))
    named: dict[int, list[str]] = {}
    for item, _, _, what in spans:
        named.setdefault(item, []).append(what)
    issues += [
        TextIssue(
            "people",
            item,
            says=" and ".join(f"{what} ({whats.count(what)})" for what in dict.fromkeys(whats)),
        )
        for item, whats in sorted(named.items())
    ]
    size = medium.lengths(x)
    issues += [
        TextIssue("short", int(i), says=f"{size[i]} bytes") for i in np.flatnonzero(size < SHORT)
    ]
    order = list(KINDS)
    issues.sort(key=lambda issue: (order.index(issue.kind), issue.item))
    return TextFindings(tuple(issues), spans)


def _allow(dataset: Dataset) -> None:
    if dataset.medium.item != "tokens":
        raise UserError(
            f"{dataset.name} holds {dataset.medium.title.lower()}, and texts are looked at here. Choose one "
            "of texts."
        )


def _exact(x: np.ndarray, split: np.ndarray) -> Iterator[TextIssue]:
    first: dict[tuple[int, int], int] = {}
    train: dict[int, int] = {}
    keys = digests(x).tolist()
    for i, key in enumerate(keys):
        if split[i] == 0:
            train.setdefault(key, i)
    for i, key in enumerate(keys):
        earlier = first.setdefault((int(split[i]), key), i)
        if earlier != i:
            yield TextIssue("exact", i, earlier, f"The same as text {earlier}.")
        elif split[i] and key in train:
            yield TextIssue("leak", i, train[key], f"The same as text {train[key]} of train.")


def shingles(text: str) -> np.ndarray:
    """Gives the runs of :data:`SHINGLE` signs of a text, without case and blanks, as different numbers, uint64 (n,)."""
    codes = np.array([ord(sign) for sign in " ".join(text.lower().split())], np.uint64)
    if len(codes) < SHINGLE:
        return np.zeros(0, np.uint64)
    mixed = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for at in range(SHINGLE):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[at : at + len(mixed)]
    return np.unique(mixed ^ (mixed >> np.uint64(29)))


def _signatures(parts: Sequence[np.ndarray], watch: Watch) -> np.ndarray:
    """Gives the least run of each text by each of the random orders [1], uint64 (N, ORDERS)."""
    rng = np.random.default_rng(0)
    factor = rng.integers(1, 2**63, ORDERS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shift = rng.integers(0, 2**63, ORDERS, dtype=np.uint64)
    found = np.zeros((len(parts), ORDERS), np.uint64)
    for i, part in enumerate(watch.each(parts)):
        if len(part):
            found[i] = ((part[:, None] * factor + shift) >> np.uint64(16)).min(0)
    return found


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Gives the share of the runs of two texts that both have."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)


def _near(said: Sequence[str], split: np.ndarray, watch: Watch) -> Iterator[TextIssue]:
    parts = [shingles(text) for text in said]
    signatures = _signatures(parts, watch)
    rows = ORDERS // BANDS
    best: dict[int, tuple[float, int]] = {}
    tried: set[tuple[int, int]] = set()
    for band in range(BANDS):
        keys: dict[bytes, int] = {}
        last: dict[bytes, int] = {}
        part = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        for i in range(len(said)):
            if not len(parts[i]):
                continue
            key = part[i].tobytes()
            # the first and the last one with the same least runs: all pairs of many alike would be too many
            for other in {keys.setdefault(key, i), last.get(key, i)} - {i}:
                if (other, i) not in tried:
                    tried.add((other, i))
                    share = jaccard(parts[i], parts[other])
                    if share >= ALIKE:
                        for a, b in ((i, other), (other, i)):
                            if (split[a] == split[b] and b < a) or (split[a] > 0 and split[b] == 0):
                                best[a] = max(best.get(a, (0.0, -1)), (share, b))
            last[key] = i
    for i, (share, other) in sorted(best.items()):
        kind = "leak" if split[i] and split[other] == 0 else "near"
        where = f" of {SPLITS[split[other]]}" if kind == "leak" else ""
        yield TextIssue(
            kind, i, other, f"{percent(share, 0)} of all runs are in it and in text {other}{where}."
        )


def _odd(said: Sequence[str]) -> Iterator[TextIssue]:
    for i, text in enumerate(said):
        inner = text.strip("\ufffd")  # at its ends a letter may be cut
        found = [f"U+{ord(sign):04X}" for sign in dict.fromkeys(_CONTROL.findall(inner))]
        if found:
            yield TextIssue("odd", i, says=f"Signs {', '.join(found[:5])}.")
        elif mixed := _MIXED.search(inner):
            yield TextIssue("odd", i, says=f"Letters of two writings side by side: {mixed[0]}.")


def _people(dataset: Dataset) -> Iterator[tuple[int, int, int, str]]:
    """Finds what tells of people, also where it goes on in the next item: item, first byte, byte behind, what."""
    rows = np.asarray(dataset.x).reshape(len(dataset), -1)
    members = dataset.members
    width, begin = rows.shape[1], 0
    while begin < len(rows):
        end = begin + 1  # a full item goes on in the next one of its group
        while (
            end < len(rows)
            and rows[end - 1, -1] != 0
            and (members is None or members[end] == members[end - 1])
        ):
            end += 1
        # one sign for each byte, so that places are places of bytes
        text = b"".join(medium.data(rows[begin:end])).decode("latin-1")
        for what, pattern in (("an e-mail address", _MAIL), ("a long number", _NUMBER)):
            for match in pattern.finditer(text):
                for row in range(match.start() // width, (match.end() - 1) // width + 1):
                    first, last = (
                        max(0, match.start() - row * width),
                        min(width, match.end() - row * width),
                    )
                    yield begin + row, first, last, what
        begin = end


def masked(dataset: Dataset, name: str = "", watch: Watch = UNWATCHED) -> Dataset:
    """Makes and saves a version in which what tells of people is hidden behind as many signs.

    Args:
        dataset: The parent; it stays as it is.
        name: Of the new version; the next free one where it is empty.
        watch: Follows the work.

    Raises:
        UserError: If nothing tells of people, or the name cannot be used.
    """
    from core.quality.decisions import version_name

    settings().allow_change("save a dataset")
    _allow(dataset)
    spans = list(_people(dataset))
    if not spans:
        raise UserError(
            f"No e-mail address and no long number was found in {dataset.name}, so nothing is to be hidden."
        )
    x = np.array(dataset.x)
    for item, first, last, _ in watch.each(spans):
        x[item, 0, first:last] = ord(MASK)
    count = len({item for item, *_ in spans})
    note = f"Made from {dataset.name}: e-mail addresses and long numbers are hidden in {many(count, 'text')}."
    version = assemble(
        x,
        dataset.y,
        dataset.classes,
        dataset.splits,
        levels=dataset.levels,
        attributes=of_rows(dataset, np.arange(len(dataset))),
        name=dataset.name,
        parent=dataset.fingerprint,
        refused=dataset.refused,
        notes=(*dataset.notes, note),
        source={**dataset.source, "changes": {"masked": count}},
        terms=dataset.terms,
        medium=dataset.medium.name,
        group=dataset.group,
    )
    return datasets.save(name.strip() or version_name(dataset), version)

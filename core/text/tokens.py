"""A text becomes tokens: the byte pairs of CLIP, read from the two files of a vocabulary.

References:
    Sennrich et al., 2016, Neural machine translation of rare words with subword units, https://arxiv.org/abs/1508.07909
    Radford et al., 2019, Language models are unsupervised multitask learners (pairs of bytes)
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from core.catalog import UserError

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"  # of the last token of a word
MOST = 200_000  # words of a vocabulary, and pairs
LONGEST = 1000  # characters of a text
_WHOLE = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d")


@dataclass(frozen=True, eq=False)
class Tokens:
    """Turns texts into rows of numbers of one length.

    Attributes:
        vocabulary: The number of each token.
        merges: Pairs of tokens that become one, the first to be merged first.
        length: Of a row, its start and its end included.
        padding: The token that fills a row behind its end.
    """

    vocabulary: Mapping[str, int] = field(repr=False)
    merges: Sequence[tuple[str, str]] = field(repr=False)
    length: int = 77
    padding: str = END
    ranks: Mapping[tuple[str, str], int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks what was read from files that nobody vouches for.

        Raises:
            UserError: If it is too large, or the tokens that begin, end and fill a row are not in it.
        """
        if max(len(self.vocabulary), len(self.merges)) > MOST:
            raise UserError(
                f"A vocabulary may have at most {MOST:,} tokens and pairs, got {len(self.vocabulary):,} and "
                f"{len(self.merges):,}. Bring vocab.json and merges.txt as they were saved."
            )
        for token in (START, END, self.padding):
            if token not in self.vocabulary:
                raise UserError(
                    f"The vocabulary has no token {token[:80]!r}, which every text needs. "
                    "Bring the tokenizer that belongs to the text encoder."
                )
        if not 3 <= self.length <= 1024:
            raise UserError(
                f"A text must have from 3 to 1,024 tokens, got {self.length}. Correct model_max_length."
            )
        object.__setattr__(
            self, "ranks", {pair: rank for rank, pair in reversed([*enumerate(self.merges)])}
        )

    @property
    def largest(self) -> int:
        """The largest number of a token."""
        return max(self.vocabulary.values())

    def row(self, text: str) -> list[int]:
        """Turns a text into the numbers of its tokens, with start, end and filling.

        Raises:
            UserError: If it is too long.
        """
        if len(text) > LONGEST:
            raise UserError(
                f"A prompt may have at most {LONGEST:,} characters, got {len(text):,}. Shorten it."
            )
        numbers = [
            self.vocabulary.get(token, self.vocabulary[END])
            for word in words(text)
            for token in ([word] if word in (START, END) else self._merged(word))
        ]
        room = self.length - 2
        if len(numbers) > room:
            raise UserError(
                f"A prompt may have at most {room} tokens, parts of words that this model knows, got {len(numbers)}: "
                f"{text[:60]!r} … Shorten it."
            )
        row = [self.vocabulary[START], *numbers, self.vocabulary[END]]
        return row + [self.vocabulary[self.padding]] * (self.length - len(row))

    def _merged(self, word: str) -> list[str]:
        """Splits a word into tokens: its bytes, of which pairs are merged in the order of their ranks."""
        letters = _letters()
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += WORD_END
        while len(parts) > 1:
            pair = min(itertools.pairwise(parts), key=lambda p: self.ranks.get(p, MOST))
            if pair not in self.ranks:
                break
            merged, at = [], 0
            while at < len(parts):
                both = tuple(parts[at : at + 2]) == pair
                merged.append(pair[0] + pair[1] if both else parts[at])
                at += 2 if both else 1
            parts = merged
        return parts


def words(text: str) -> Iterator[str]:
    """Splits a text into words in lower case: runs of letters, single digits, runs of other signs, endings.

    >>> list(words("It's 42 x  Cats!"))
    ['it', "'s", '4', '2', 'x', 'cats', '!']
    """
    # sign by sign: a Greek sigma at the end of a word stays like any other
    text = "".join(sign.lower() for sign in unicodedata.normalize("NFC", text))
    at = 0
    while at < len(text):
        if whole := _WHOLE.match(text, at):
            yield whole[0]
            at = whole.end()
            continue
        kind, end = _kind(text[at]), at + 1
        if kind in ("letter", "sign"):
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "space":
            yield text[at:end]
        at = end


def _kind(sign: str) -> str:
    if sign.isspace():
        return "space"
    if sign.isalpha():
        return "letter"
    return "digit" if unicodedata.category(sign).startswith("N") else "sign"


@cache
def _letters() -> list[str]:
    """Gives each byte a sign that can be seen: itself where it is one, else one of those from 256 on."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = itertools.count(256)
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


def read_vocabulary(read: Mapping[str, Any]) -> dict[str, int]:
    """Checks what a vocab.json holds: the number of each token.

    Raises:
        UserError: If a value is no such number.
    """
    if not all(type(number) is int and 0 <= number < MOST for number in read.values()):
        raise UserError(
            f"A vocabulary must number its tokens from 0 to {MOST - 1:,}, got something else. "
            "Bring vocab.json as it was saved."
        )
    return dict(read)


def read_merges(text: str) -> list[tuple[str, str]]:
    """Reads the pairs of a merges.txt, one in a line.

    Raises:
        UserError: If a line is no pair.
    """
    pairs = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#version"):
            continue
        parts = line.split()
        if len(parts) != 2:
            raise UserError(
                f"Line {number} of merges.txt is no pair of tokens, got {line[:60]!r}. Bring the file as it was saved."
            )
        pairs.append((parts[0], parts[1]))
    return pairs

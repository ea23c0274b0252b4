"""Steps that change texts, bytes (N, 1, T) in [0, 1]: letters change places, words go or are hidden.

A text stays as long as its item: behind its end stands 0, and one that went on in the next item gets blanks at its end.

References:
    Wei and Zou, 2019, EDA: easy data augmentation techniques for text classification, https://arxiv.org/abs/1901.11196
    Devlin et al., 2018, BERT (masked words), https://arxiv.org/abs/1810.04805
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.augment.catalogue import Configured, Draws, Params, augmentations
from core.catalog import Config, knob
from core.tensors import noise

BLANK, HIDDEN = 32, 95  # what fills a text up, and what stands for a hidden letter


def _codes(x: Tensor) -> Tensor:
    """Reads items in [0, 1] as bytes, int64 (N, T)."""
    return x.flatten(1).mul(255).round().long()


def _items(codes: Tensor) -> Tensor:
    """Makes items of bytes, (N, T) to (N, 1, T)."""
    return codes[:, None].float() / 255


def _letters(codes: Tensor) -> Tensor:
    """Marks the letters of ASCII, bool (N, T)."""
    low = codes | 32
    return (low >= 97) & (low <= 122)


def _chosen(codes: Tensor, share: Tensor, key: Tensor) -> Tensor:
    """Marks the bytes of a share of the words, bool (N, T); the blanks between them are never marked."""
    between = (codes <= BLANK) & (codes >= 0)
    word = between.cumsum(1)  # the number of the word that a byte is in
    u = noise(0, key, (codes.shape[1] + 1,), "words", uniform=True, device=codes.device)
    return (u.gather(1, word) < share[:, None]) & ~between


class TextShareConfig(Config):
    """How much is changed."""

    share: float = knob(0.1, "Largest share of the words that are changed.", ge=0, le=1)


class _Shared(Configured[TextShareConfig]):
    """A step that draws how much it changes."""

    def draw(self, draws: Draws) -> Params:
        return {"share": draws.uniform("share", high=self.config.share), "_key": draws.keys()}


@augmentations.add(
    "text_swap", "Swap letters", TextShareConfig, group="Text", takes=("tokens",), medium="text",
    strength="share", units={"share": " of the letters"}, absent="is of texts",
)  # fmt: skip
class TextSwap(_Shared):
    """Lets neighbouring letters change places, as quick fingers do."""

    def apply(self, x: Tensor, params: Params) -> Tensor:
        codes = _codes(x)
        letters = _letters(codes)
        u = noise(0, params["_key"], (codes.shape[1],), "swap", uniform=True, device=x.device)
        begin = (u < params["share"][:, None] / 2)[:, :-1] & letters[:, :-1] & letters[:, 1:]
        # of pairs that overlap, the first one
        begin[:, 1:] &= ~begin[:, :-1]
        first = torch.nn.functional.pad(begin, (0, 1))
        second = torch.nn.functional.pad(begin, (1, 0))
        after, before = codes.roll(-1, 1), codes.roll(1, 1)
        return _items(torch.where(first, after, torch.where(second, before, codes)))


@augmentations.add(
    "text_drop", "Drop words", TextShareConfig, group="Text", takes=("tokens",), medium="text",
    strength="share", units={"share": " of the words"}, absent="is of texts",
)  # fmt: skip
class TextDrop(_Shared):
    """Leaves words out; what stands behind them moves up."""

    def apply(self, x: Tensor, params: Params) -> Tensor:
        codes = _codes(x)
        gone = _chosen(codes, params["share"], params["_key"])
        # the blank behind a word goes with it
        gone = gone | (torch.nn.functional.pad(gone, (1, 0))[:, :-1] & (codes == BLANK))
        order = gone.long().argsort(dim=1, stable=True)
        kept = (~gone).sum(1, keepdim=True)
        place = torch.arange(codes.shape[1], device=x.device)
        full = (codes != 0).all(1, keepdim=True)  # it goes on in the next item
        rest = torch.where(full, BLANK, 0)
        return _items(torch.where(place < kept, codes.gather(1, order), rest))


@augmentations.add(
    "text_mask", "Hide words", TextShareConfig, group="Text", takes=("tokens",), medium="text",
    strength="share", units={"share": " of the words"}, absent="is of texts",
)  # fmt: skip
class TextMask(_Shared):
    """Puts a line in the place of each letter of some words."""

    def apply(self, x: Tensor, params: Params) -> Tensor:
        codes = _codes(x)
        return _items(torch.where(_chosen(codes, params["share"], params["_key"]), HIDDEN, codes))

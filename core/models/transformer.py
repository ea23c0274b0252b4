"""A transformer that writes tokens one after the other: texts byte by byte.

What it learns is one number for each place, how likely every token is there, given those before it. So it can say how
much a text surprises it, and write on from any beginning.

Reproduce: ``python -m core train --family transformer --dataset sentences --preset quick --wait``. A training of that
length took 325 seconds of one core that has no fast bfloat16, and ended at 1.63 nats per byte of plays that it had not
seen, where a table of counts is at 1.71.

References (used throughout the code):
    [1] Radford et al., 2019, Language models are unsupervised multitask learners,
        https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    [2] Su et al., 2021, RoFormer: enhanced transformer with rotary position embedding, https://arxiv.org/abs/2104.09864
    [3] Henry et al., 2020, Query-key normalization for transformers, https://arxiv.org/abs/2010.04245
    [4] So et al., 2021, Primer: searching for efficient transformers (squared ReLU), https://arxiv.org/abs/2109.08668
    [5] Zhang and Sennrich, 2019, Root mean square layer normalization, https://arxiv.org/abs/1910.07467
    [6] Holtzman et al., 2019, The curious case of neural text degeneration (top-p), https://arxiv.org/abs/1904.09751
    [7] Child et al., 2019, Generating long sequences with sparse transformers (windows), https://arxiv.org/abs/1904.10509
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import Config, knob
from core.models import MEMORISES, Curve, Spec, families
from core.nets import LabelEmbedding, labels_for
from core.tensors import Group, Ids, Loss, full, noise, rows

HEAD = 32  # width of a head of attention
HIDDEN = (
    0.1  # share of the texts whose class is hidden in training, so that it also writes without one
)
SCALE = 12.0  # of a query times a key of length 1 each
ROOM = 2**22  # pairs of tokens that are looked at in one pass: 32 items of about 360
HELD_OUT = 16  # items of a batch of held-out ones that are measured, because each takes many passes' worth of work


class TransformerConfig(Config):
    """Parameters of a transformer."""

    depth: int = knob(4, "Layers, one after the other.", ge=1, le=48)
    width: int = knob(128, "Width of the layers, in steps of 32.", ge=32, le=2048, log=True)
    context: int = knob(
        128,
        "How many tokens back a layer looks; a longer text is learned from in parts of this length.",
        ge=8,
        le=4096,
        unit="tokens",
        log=True,
    )
    conditional: bool = knob(
        True,
        title="Learn the classes",
        help="It learns to write texts of the class that you ask for, when the dataset has labels.",
    )
    dropout: float = knob(
        0.0,
        "Share of the channels that is silenced in training, against learning by heart.",
        ge=0,
        le=0.9,
        advanced=True,
    )


class TransformerSampling(Config):
    """Choices when a transformer writes."""

    temperature: float = knob(
        0.8, "Freedom of the writing: lower is more typical, higher more varied.", ge=0, le=2
    )
    top_p: float = knob(
        0.95,
        "Draws from the likeliest tokens that together have this probability.",
        title="Likeliest share (top-p)",
        ge=0.05,
        le=1,
    )


CURVES = (
    Curve(
        "loss",
        "Nats per token",
        "How much a token surprises the model, given those before it; 0 is perfect foresight. "
        + MEMORISES,
        position="first",
    ),
)


class Transformer(nn.Module):
    """A causal transformer; see :class:`core.models.GenerativeModel` and :class:`core.models.Writes`.

    Tokens come and go as their share of the last one, (N, 1, T) in [0, 1]. The first 0 of an item is its end, and
    nothing is learned of what stands behind it.
    """

    def __init__(self, config: TransformerConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.count, self.length = spec.levels, spec.shape[-1]
        self.width = width = -(-config.width // HEAD) * HEAD
        self.context = min(config.context, self.length)
        self.batch = max(2, round(1536 / self.context))
        self.classes = spec.classes if config.conditional else 0
        self.embed = nn.Embedding(self.count + 1, width)  # the last one stands before a text
        self.label = LabelEmbedding(self.classes, width) if self.classes else None
        self.blocks = nn.ModuleList(CausalBlock(width, self.context) for _ in range(config.depth))
        self.last = nn.Linear(width, self.count, bias=False)
        nn.init.zeros_(self.last.weight)

    def groups(self) -> list[Group]:
        """Gives one group: matrices of the blocks follow Muon, the rest Adam; wide networks learn more slowly."""
        matrices = [param for param in self.blocks.parameters() if param.ndim == 2]
        lr = 4e-3 * (128 / self.width) ** 0.5
        return [
            Group(
                "model",
                list(self.parameters()),
                lr,
                beta2=0.95,
                optimiser="muon",
                matrices=matrices,
            )
        ]

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return list(self.blocks)

    def shorter(self) -> bool:
        """Tells whether multiplying matrices is faster in bfloat16 on this processor."""
        took = {}
        for kind in (torch.float32, torch.bfloat16):
            a = torch.ones(256, self.width, dtype=kind)
            b = torch.ones(self.width, 4 * self.width, dtype=kind)
            torch.mm(a, b)  # the first one prepares
            times = []
            for _ in range(5):
                began = time.perf_counter()
                torch.mm(a, b)
                times.append(time.perf_counter() - began)
            took[kind] = min(times)
        return took[torch.bfloat16] < 0.7 * took[torch.float32]

    # --- learning -------------------------------------------------------------------------------------------------

    def tokens(self, x: Tensor) -> Tensor:
        """Reads items in [0, 1], (N, 1, T), as tokens, int64 (N, T)."""
        return x.flatten(1).mul(self.count - 1).round().long().clamp(0, self.count - 1)

    def losses(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the nats per token of a part of each text that is as long as the context."""
        codes = self._led(self.tokens(x))  # (N, T + 1)
        most = self.length - self.context
        if most:
            draw = rows(torch.rand, (len(x), 1), generator=generator, device=x.device)
            until = _until(codes[:, 1:]).clamp(max=self.length)[:, None]  # (N, 1)
            start = (draw * ((until - self.context).clamp(0, most) + 1)).long()  # (N, 1)
            places = start + torch.arange(self.context + 1, device=x.device)
            codes = codes.gather(1, places)  # (N, T + 1) -> (N, context + 1)
        keep = None
        if self.classes:
            draw = rows(torch.rand, (len(x), 1), generator=generator, device=x.device)
            keep = draw >= HIDDEN
        silenced = generator if self.config.dropout else None
        logits = full(self._logits(codes[:, :-1], y, keep, silenced))
        nats = F.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten(), reduction="none")
        there = _there(codes[:, 1:])
        value = (nats.view(there.shape) * there).sum() / there.sum()
        yield Loss("model", value, {"loss": value.detach()})

    @torch.no_grad()
    def held_out(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives the nats per token of some of the texts, of each as a whole."""
        few = slice(HELD_OUT)
        codes = self.tokens(x[few])
        nats = -self.log_prob(x[few], None if y is None else y[few], generator)
        return {"valid_loss": nats.sum() / _there(codes).sum()}

    @torch.no_grad()
    def log_prob(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> Tensor:
        """Gives the log-probability of items (N, 1, T) up to their end, that included, in nats, (N,); exact.

        Nothing is drawn: tokens are symbols, to which no noise can be added.
        """
        codes = self.tokens(x)
        found = self.foretell(codes, y)[:, :-1].gather(2, codes[..., None])[..., 0]  # (N, T)
        return (found * _there(codes)).sum(1)

    @torch.no_grad()
    def foretell(self, tokens: Tensor, y: Tensor | None) -> Tensor:
        """Gives log-probabilities of the token at each place and of the one that follows, (N, T + 1, V)."""
        if not self.classes:
            y = None
        size = max(1, ROOM // (tokens.shape[1] + 1) ** 2)  # attention grows with the square
        parts = [
            full(self._logits(codes, None if y is None else y[i : i + size])).log_softmax(-1)
            for i, codes in enumerate_parts(self._led(tokens), size)
        ]
        return torch.cat(parts)

    # --- writing --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: TransformerSampling
    ) -> Tensor:
        """Writes items with these ids of this seed, (N, 1, T); nothing but 0 follows the end of a text."""
        y = labels_for(self, ids, y, seed)
        empty = torch.zeros(0, dtype=torch.int64, device=self.last.weight.device)
        codes = torch.stack(list(self.write(empty, ids, y, seed, sampling, self.length)), 1)
        return codes[:, None].float() / (self.count - 1)

    @torch.no_grad()
    def write(
        self,
        prompt: Tensor,
        ids: Ids,
        y: Tensor | None,
        seed: int,
        sampling: TransformerSampling,
        length: int,
        cached: bool = True,
    ) -> Iterator[Tensor]:
        """Yields the tokens that follow a prompt (P,), int64 (N,); without the cache it computes all anew each time."""
        draws = noise(seed, ids, (length,), "text", uniform=True, device=self.last.weight.device)
        y = y if self.classes else None
        codes = self._led(prompt.expand(len(draws), -1))  # (N, 1 + P)
        caches: list[list[Tensor]] | None = [[] for _ in self.blocks] if cached else None
        ended = torch.zeros(len(draws), dtype=torch.bool, device=codes.device)
        at, new = 0, codes
        for draw in draws.unbind(1):
            logits = self._logits(new, y, caches=caches, at=at)[:, -1]
            code = choose(full(logits), draw, sampling).masked_fill(ended, 0)
            ended |= code == 0
            yield code
            if cached:
                at, new = at + new.shape[1], code[:, None]
            else:
                new = torch.cat([new, code[:, None]], 1)

    def _led(self, codes: Tensor) -> Tensor:
        """Puts the token before tokens (N, T) that stands before every text, (N, T + 1)."""
        return F.pad(codes, (1, 0), value=self.count)

    def _logits(
        self,
        codes: Tensor,
        y: Tensor | None,
        keep: Tensor | None = None,
        generator: torch.Generator | None = None,
        caches: list[list[Tensor]] | None = None,
        at: int = 0,
    ) -> Tensor:
        """Gives logits (N, t, V) of what follows each of the codes (N, t), the first of which stands at a place."""
        h = self.embed(codes)  # (N, t, D)
        if self.label is not None and y is not None:
            label = self.label(y)
            h = h + (label if keep is None else label * keep)[:, None]
        if generator is not None:
            shape = (len(h), 1, self.width)
            stay = (
                rows(torch.rand, shape, generator=generator, device=h.device) >= self.config.dropout
            )
            h = h * stay / (1 - self.config.dropout)
        turn = rotation(codes.shape[1], at, h.device)
        h = scaled(h)
        for layer, block in enumerate(self.blocks):
            h = block(h, turn, None if caches is None else caches[layer])
        return self.last(scaled(h))


def enumerate_parts(x: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yields parts of so many rows, each with its first row's place."""
    for start in range(0, len(x), size):
        yield start, x[start : start + size]


def _there(codes: Tensor) -> Tensor:
    """Marks the tokens (N, T) up to the end of each text, that included."""
    before = F.pad((codes == 0).cumsum(1), (1, 0))[:, :-1]
    return before == 0


def _until(codes: Tensor) -> Tensor:
    """Counts the tokens (N, T) up to the end of each text, that included, (N,)."""
    return _there(codes).sum(1)


def choose(logits: Tensor, draw: Tensor, sampling: TransformerSampling) -> Tensor:
    """Picks tokens by inverse transform, the likeliest ones first, (N, V) and uniform draws (N,) to int64 (N,) [6].

    With a temperature of 0 it takes the likeliest.
    """
    if sampling.temperature < 1e-3:
        return logits.argmax(-1)
    p, order = (logits / sampling.temperature).softmax(-1).sort(-1, descending=True)
    reach = p.cumsum(-1)
    p = p * (reach - p < sampling.top_p)
    reach = p.cumsum(-1)
    place = torch.searchsorted(reach, draw[:, None] * reach[:, -1:])
    return order.gather(1, place.clamp(max=p.shape[1] - 1))[:, 0]


def scaled(h: Tensor) -> Tensor:
    """Brings vectors (..., D) to a mean square of 1 [5]."""
    return F.rms_norm(h, h.shape[-1:])


def rotation(count: int, at: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gives cosine and sine of the turns at so many places from one on, each (count, HEAD / 2) [2]."""
    speed = 10_000 ** -torch.linspace(0, 1, HEAD // 2, device=device)
    angle = torch.arange(at, at + count, device=device)[:, None] * speed
    return angle.cos(), angle.sin()


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turns pairs of numbers of heads (N, heads, t, HEAD) by their place [2]."""
    cosine, sine = (part.to(x.dtype) for part in turn)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


class CausalBlock(nn.Module):
    """Attention to the last tokens, then two dense layers on each; both are added, and add nothing at first."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.down.weight)

    def forward(
        self, h: Tensor, turn: tuple[Tensor, Tensor], cache: list[Tensor] | None = None
    ) -> Tensor:
        """Maps (N, t, D) to the same; a cache holds keys and values of what came before, and grows by these."""
        heads = self.ask(scaled(h)).unflatten(2, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind()  # (N, heads, t, HEAD)
        # unit vectors [3], so that no logit runs away
        q, k = turned(F.normalize(q, dim=-1), turn), turned(F.normalize(k, dim=-1), turn)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = k[:, :, -self.context :], v[:, :, -self.context :]
        h = h + self.mix(self._attend(q, k, v).transpose(1, 2).flatten(2))
        return h + self.down(F.relu(self.up(scaled(h))).square())  # [4]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Looks from queries (N, heads, t, HEAD), the last of the keys' places, at the last ones up to each [7]."""
        new, old = q.shape[2], k.shape[2]
        behind = torch.arange(old - new, old, device=q.device)[:, None] - torch.arange(
            old, device=q.device
        )
        seen = (behind >= 0) & (behind < self.context)  # (new, old)
        if q.device.type != "cpu":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=SCALE)
        # plain products: on a processor, the fused ones take several times as long on their way back
        bias = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, -torch.inf)
        flat = [part.flatten(0, 1) for part in (q, k, v)]
        weight = torch.baddbmm(bias, flat[0], flat[1].mT, alpha=SCALE).softmax(-1)
        return torch.bmm(weight, flat[2]).view(q.shape)


PRESETS = {
    # a long average lags behind weights that still learn: 0.007 nats after 10 000 images
    "quick": {"train.images": 10_000, "train.average": 50},
    "good": {"train.images": 60_000, "train.average": 100, "family.dropout": 0.05},
    "gpu": {
        "family.depth": 8,
        "family.width": 512,
        "family.context": 256,
        "family.dropout": 0.2,
        "train.images": 2_000_000,
        "train.batch": 128,
    },
}


@families.add(
    "transformer",
    "Transformer (writes texts)",
    TransformerConfig,
    sampling=TransformerSampling,
    curves=CURVES,
    presets=PRESETS,
    takes=("tokens",),
    exact=True,
)
def build(config: TransformerConfig, spec: Spec) -> Transformer:
    """Learns which byte follows which others, and writes texts byte by byte: exact likelihoods, any beginning."""
    return Transformer(config, spec)

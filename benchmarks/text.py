"""How well a transformer foretells tiny shakespeare on one thread, beside counts and nanoGPT's CPU recipe.

The first nine tenths of the bytes train, the last tenth is foretold, in windows of the context that do not overlap: of
each, every byte but the first. CPU-seconds are those of the process; evaluation is not counted.

    python -m benchmarks.text --book FILE --folder DIR [--only ours,quick,nano,write] [--seconds 150] [--sitting N]

``ours`` sees 1.35 million bytes, ``quick`` and ``nano`` train for ``--seconds``; ``write`` measures what ``ours``
writes. A training that is not over after ``--sitting`` CPU-seconds is kept in the folder, and goes on the next time.

References:
    Karpathy, 2022, nanoGPT, https://github.com/karpathy/nanoGPT (the recipe for a CPU in its README; written anew here)
    Karpathy, 2015, The unreasonable effectiveness of recurrent neural networks (tiny shakespeare),
        https://karpathy.github.io/2015/05/21/rnn-effectiveness/
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import evidence
from core.datasets import Dataset, assemble
from core.models import build
from core.models.transformer import Transformer, TransformerSampling
from core.text import copies
from core.text.counts import Counts
from core.training import TrainConfig, Trainer, spec_of

LENGTH = 256  # bytes of an item
SEEN = 1_350_000  # bytes that `ours` learns from
WRITTEN = 16  # texts that are looked at for copies


def dataset(raw: bytes) -> tuple[Dataset, bytes]:
    """Gives the first nine tenths as items, the last of them for validation, and the bytes of the last tenth."""
    edge = len(raw) * 9 // 10
    x = np.frombuffer(raw[: edge // LENGTH * LENGTH], np.uint8).reshape(-1, 1, LENGTH)
    order = np.arange(len(x))
    splits = {"train": order[: len(x) - 16], "valid": order[-16:-8], "test": order[-8:]}
    return assemble(x, None, (), splits, medium="text"), raw[edge:]


def windows(data: bytes, context: int) -> Tensor:
    """Cuts bytes into windows of the context and one byte more, int64 (N, context + 1)."""
    b = np.frombuffer(data, np.uint8)
    starts = np.arange(0, len(b) - context, context)
    return torch.as_tensor(b[starts[:, None] + np.arange(context + 1)].astype(np.int64))


@torch.no_grad()
def nats(logits: Callable[[Tensor], Tensor], data: bytes, context: int) -> float:
    """Averages the surprise of all bytes of windows but the first ones."""
    total, count = 0.0, 0
    for part in windows(data, context).split(64):
        found = logits(part[:, :-1]).flatten(0, 1)
        total += float(F.cross_entropy(found, part[:, 1:].flatten(), reduction="sum"))
        count += part[:, 1:].numel()
    return total / count


def paced(step: Callable[[], Any], seconds: float, begin: int = 3) -> int:
    """Counts the steps that fit into so many CPU-seconds, by the time of a few."""
    for _ in range(begin):
        step()
    began = time.process_time()
    for _ in range(10):
        step()
    return round(seconds / ((time.process_time() - began) / 10))


def ours(
    data: Dataset, rest: bytes, folder: Path, name: str, images: int, sitting: float
) -> dict[str, Any] | None:
    """Trains the transformer with its usual settings; None while it is not over."""
    file = folder / f"{name}.pt"
    kept = torch.load(file, weights_only=True) if file.exists() else None
    torch.manual_seed(0)
    model = build("transformer", {}, spec_of(data))
    assert isinstance(model, Transformer)
    images = kept["images"] if kept else images
    trainer = Trainer(model, data, TrainConfig(images=images), torch.device("cpu"))
    spent = kept["spent"] if kept else 0.0
    if kept:
        trainer.restore(kept["state"])
    began = time.process_time()
    while trainer.step < trainer.steps and time.process_time() - began < sitting:
        trainer.one_step()
    spent += time.process_time() - began
    torch.save({"state": trainer.state(), "spent": spent, "images": images}, file)
    if trainer.step < trainer.steps:
        print(f"{name}: step {trainer.step} of {trainer.steps}, {spent:.0f} CPU-s; run it again")
        return None
    model = trainer.published()
    assert isinstance(model, Transformer)
    torch.save(model.state_dict(), folder / f"{name}-model.pt")
    context = model.context
    counts = Counts.of(np.asarray(data.x).reshape(1, -1))
    held = windows(rest, context).numpy().astype(np.uint8)
    return {
        "nats": nats(lambda codes: model._logits(codes, None), rest, context),
        "counts": float(np.nanmean(counts.nats(held)[:, 1:])),
        "seconds": spent,
        "bytes": trainer.steps * trainer.batch * context,
        "half": trainer.half,
    }


class Attention(nn.Module):
    """A block as GPT-2 has it: layer norms before, attention and two dense layers with GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width, bias=False) for _ in range(2)])
        self.qkv, self.out = (
            nn.Linear(width, 3 * width, bias=False),
            nn.Linear(width, width, bias=False),
        )
        self.up, self.down = (
            nn.Linear(width, 4 * width, bias=False),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(self.norms[0](h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.down(F.gelu(self.up(self.norms[1](h))))


class Recipe(nn.Module):
    """nanoGPT's model for a CPU: 4 layers, 4 heads, width 128, context 64, learned places, one table for in and out."""

    def __init__(self, width: int = 128, depth: int = 4, context: int = 64) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(256, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Attention(width, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, param in self.named_parameters():
            if param.ndim == 2:
                small = (2 * depth) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(param, 0.0, 0.02 * small)

    def forward(self, codes: Tensor) -> Tensor:
        h = self.embed(codes) + self.place.weight[: codes.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.norm(h) @ self.embed.weight.T


def nano(raw: bytes, rest: bytes, seconds: float) -> dict[str, Any]:
    """Trains nanoGPT's recipe for so many CPU-seconds: AdamW, 1e-3 to 1e-4 along a cosine, batches of 12."""
    torch.manual_seed(0)
    model, context = Recipe(), 64
    data = torch.as_tensor(np.frombuffer(raw[: len(raw) * 9 // 10], np.uint8).astype(np.int64))
    decayed = [param for param in model.parameters() if param.ndim == 2]
    plain = [param for param in model.parameters() if param.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    draw = torch.Generator().manual_seed(0)
    places = torch.arange(context + 1)

    def step(lr: float = 0.0) -> None:
        at = torch.randint(len(data) - context - 1, (12, 1), generator=draw)
        part = data[at + places]
        loss = F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.step()

    steps, began, done = paced(step, seconds), time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        share = min(1.0, max(done / steps, spent / seconds))  # the schedule ends with the time
        lr = 1e-4 + 9e-4 * 0.5 * (1 + math.cos(math.pi * share))
        step(lr * min(1.0, (done + 1) / 100))
        done += 1
    return {"nats": nats(model, rest, context), "seconds": seconds, "bytes": done * 12 * context}


def written(data: Dataset, rest: bytes, folder: Path) -> dict[str, Any]:
    """Measures what the trained model writes: how fast, how soon, the same without the cache, and copied runs."""
    model = build("transformer", {}, spec_of(data))
    assert isinstance(model, Transformer)
    model.load_state_dict(torch.load(folder / "ours-model.pt", weights_only=True))
    model.eval()
    greedy, free = TransformerSampling(temperature=0), TransformerSampling(temperature=0.8, top_p=1)
    prompt = torch.tensor(list(b"ROMEO:\n"))
    took, said = {}, {}
    for cached in (True, False):
        began = time.process_time()
        codes = [int(c[0]) for c in model.write(prompt, [0], None, 0, greedy, 400, cached=cached)]
        took[cached], said[cached] = time.process_time() - began, codes
    first = []
    for i in range(20):
        long = torch.tensor(list(rest[200 * i : 200 * (i + 1)]))
        began = time.perf_counter()
        next(model.write(long, [0], None, i, free, 400))
        first.append(1000 * (time.perf_counter() - began))
    texts = model.sample(range(WRITTEN), None, 0, free).mul(255).round().to(torch.uint8).numpy()
    train = np.asarray(data.x)
    held = (
        windows(rest, LENGTH)[:: max(1, len(rest) // LENGTH // 100), :LENGTH]
        .numpy()
        .astype(np.uint8)
    )
    ends = {}
    for name, x in (("written", texts[:, 0]), ("held out", held)):
        longest = copies.runs(x, train)
        ends[name] = float(np.percentile(longest[copies.starts(x)], 95))
    return {
        "ratio": took[False] / took[True],
        "equal": said[True] == said[False],
        "bytes_per_second": 400 / took[True],
        "first_ms": float(np.percentile(first, 95)),
        "copied": ends["written"],
        "copied_held_out": ends["held out"],
    }


def main() -> None:
    """Measures what is asked for, keeps it in the folder, and writes the rows of what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="ours,quick,nano,write")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--sitting", type=float, default=1e9)
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    raw = asked.book.read_bytes()
    data, rest = dataset(raw)
    file = asked.folder / "figures.json"
    figures: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for part in filter(None, asked.only.split(",")):  # none: only the rows
        if part == "ours":
            found = ours(data, rest, asked.folder, "ours", round(SEEN / 128), asked.sitting)
        elif part == "quick":
            images = 0
            if not (asked.folder / "quick.pt").exists():
                trainer = Trainer(
                    build("transformer", {}, spec_of(data)),
                    data,
                    TrainConfig(images=10**6),
                    torch.device("cpu"),
                )
                images = paced(trainer.one_step, asked.seconds) * trainer.batch
            found = ours(data, rest, asked.folder, "quick", images, asked.sitting)
        elif part == "nano":
            found = nano(raw, rest, asked.seconds)
        else:
            found = written(data, rest, asked.folder)
        if found is not None:
            figures[part] = found
            print(part, json.dumps(found), flush=True)
        file.write_text(json.dumps(figures), "utf-8")
    if asked.dry:
        return
    where = "tiny shakespeare, last tenth, windows of the context; one thread"
    if "ours" in figures:
        it = figures["ours"]
        evidence.row(
            f"A transformer of texts after 1.35 million bytes: {it['nats']:.3f} nats per byte; a table of counts "
            f"{it['counts']:.3f}",
            f"{where}; {it['seconds']:.0f} CPU-seconds, {'bfloat16' if it['half'] else 'float32'}",
        )
    if "quick" in figures and "nano" in figures:
        it, other = figures["quick"], figures["nano"]
        evidence.row(
            f"A transformer of texts beside nanoGPT's CPU recipe: {it['nats']:.3f} against {other['nats']:.3f} nats "
            "per byte",
            f"{where}; {it['seconds']:.0f} and {other['seconds']:.0f} CPU-seconds, {it['bytes']:,} and "
            f"{other['bytes']:,} bytes seen",
        )
    if "write" in figures:
        it = figures["write"]
        evidence.row(
            f"Writing texts with a cache: {it['ratio']:.1f} times as fast, "
            f"{'the same' if it['equal'] else 'other'} bytes; first byte after {it['first_ms']:.0f} ms; "
            f"longest copied run {it['copied']:.0f} bytes, of held-out text {it['copied_held_out']:.0f}",
            f"{where}; 400 bytes, 95 % of 20 prompts, 95 % of places of {WRITTEN} texts",
        )


if __name__ == "__main__":
    main()

"""Samples of a trained model that pass the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from core import runs
from core.building.gate import REASONS, gate
from core.building.makers import Items, Row, Work, having, makers
from core.building.optout import allow_run
from core.catalog import Config, UserError, knob, parse, unknown
from core.datasets import Dataset, columns
from core.ground.writing import many

if TYPE_CHECKING:
    from torch import Tensor

    from core.measure.features import Judge
    from core.runs import Opened

SHOWN = 64  # rejected samples that are kept to look at, of each reason


class SyntheticConfig(Config):
    """Whose samples, and how they are drawn."""

    run: str = knob("", "The run whose model makes them, by id or name.", title="Run")
    step: int = knob(
        0, "Of its checkpoint; 0 is the best one.", ge=0, le=10**12, log=True, advanced=True
    )
    sampling: str = knob(
        "",
        "How they are drawn, as temperature=0.8 steps=20; empty is the family's usual way.",
        advanced=True,
    )


def opened(config: SyntheticConfig) -> tuple[Opened, Config]:
    """Opens the model, and says how it draws.

    Raises:
        UserError: If there is no such run, checkpoint or parameter.
    """
    if not config.run:
        raise UserError("A synthetic source needs a run, got ''. Name one: parameters.run.")
    run = runs.find(config.run, generator=True)
    source = runs.open_model(run, config.step or None)
    assert source.sampling is not None
    values = parse(config.sampling.replace(",", " ").split())
    return source, source.sampling.of(values, "sampling")


def _pin(
    config: SyntheticConfig, dataset: Dataset, overrides: Mapping[str, str]
) -> SyntheticConfig:
    from core.augment.generative import fitting

    source, _ = opened(config)
    run = runs.find(config.run, generator=True)
    fitting(source, dataset.items(slice(1)))
    classes = len(dataset.classes)
    if source.model.classes not in (0, classes):
        raise UserError(
            f"The run {run.name} knows {source.model.classes} classes, and {dataset.name} has {classes}. "
            "Choose a run that was trained on this dataset."
        )
    if classes == 1 and not source.model.classes:
        raise UserError(
            f"The run {run.name} ignores labels, and one class is too few for a judge to sort its samples. "
            "Choose a model that listens to labels."
        )
    if source.model.classes and source.classes != tuple(dataset.classes):
        raise UserError(
            f"The run {run.name} learned the classes {', '.join(source.classes[:5])}, in this order, and "
            f"{dataset.name} has {', '.join(dataset.classes[:5])}. Choose a run that was trained on this dataset."
        )
    allow_run(run, dataset, overrides)
    return config.model_copy(update={"run": run.id, "step": source.step})


class _Look:
    """What is asked of samples: features, the chance of their class, the attribute."""

    def __init__(self, work: Work) -> None:
        from core.measure import features
        from core.tensors import device

        dataset, watch = work.dataset, work.watch
        watch.say("Preparing the judge", 0.0)
        self.judge: Judge | None = None
        if len(dataset.classes) > 1:
            self.judge = features.judge(dataset, device(), watch.part(0.0, 0.2))
        extractor = self.judge or features.components(dataset, device())
        self.features = extractor.features
        train = dataset.splits["train"]
        self.real = np.concatenate([self.features(x) for x in dataset.batches(train)])
        self.labels = np.zeros(len(train), np.int64) if dataset.y is None else dataset.y[train]
        self.column, self.reader = -1, None
        if work.where:
            table = columns(dataset)
            usable = [n for n, b in zip(table.names, table.binary, strict=True) if b]
            if work.where not in usable:
                raise UserError(
                    unknown("attribute that can be read off samples", work.where, usable)
                )
            self.column = table.names.index(work.where)
            self.reader = features.reader(dataset, watch.part(0.2, 0.3))

    def has(self, x: Tensor) -> np.ndarray | None:
        """Tells which samples have the attribute; None where none is wanted."""
        if self.reader is None:
            return None
        return (self.reader.read(x)[:, self.column] > 0.5).cpu().numpy()


@makers.add("synthetic", "Synthetic", SyntheticConfig, pin=_pin, draws=True)
def synthetic(config: SyntheticConfig, work: Work) -> Iterator[Items]:
    """Draws samples of a model, and keeps those that pass the gate, until each class has as many as are wanted."""
    import torch

    dataset, rules = work.dataset, work.gate
    source, sampling = opened(config)
    model, labelled = source.model, dataset.labelled
    look = _Look(work)
    told = {k: v for k, v in sampling.record().items() if v != getattr(source.usual, k)}
    left, total = work.wanted.copy(), int(work.wanted.sum())
    known = _told(dataset, work.where)
    drawn = np.zeros(len(left), np.int64)
    why: Counter[str] = Counter()
    earlier: list[np.ndarray] = []
    shown: Counter[str] = Counter()
    where = next(model.parameters()).device
    number = 0
    while (open_ := _open(left, drawn, number, work, bool(model.classes))) is not None:
        ids = list(range(number, number + work.batch))
        labels = torch.as_tensor(open_[np.arange(work.batch) % len(open_)])
        with torch.inference_mode():
            y = labels.to(where) if model.classes else None
            x = model.sample(ids, y, work.seed, sampling).clone().float().cpu()
        number += len(ids)
        raw = dataset.medium.kept(x, dataset.levels)
        x = dataset.medium.seen(torch.as_tensor(raw), dataset.levels)
        points, chances = look.features(x), None
        if look.judge is not None:
            shares = look.judge.probabilities(x)
            if not model.classes:  # the judge names what the model does not
                labels = torch.as_tensor(shares.argmax(1))
            chances = shares[np.arange(len(ids)), labels.numpy()]
        mine = labels.numpy().astype(np.int64)
        drawn += np.bincount(mine, minlength=len(left))
        passed = gate(
            points,
            look.real,
            chances=chances,
            confidence=rules.confidence,
            attribute=look.has(x),
            manifold=rules.manifold,
            labels=mine if labelled else None,
            real_labels=look.labels if labelled else None,
            authentic=rules.authentic,
            copies=rules.copies,
            distinct=rules.distinct,
            earlier=np.concatenate(earlier) if earlier else None,
        )
        taken: list[int] = []
        rows: list[Row] = []
        for i in np.flatnonzero(passed.keep):
            label = int(mine[i])
            if left[label] <= 0:
                continue
            left[label] -= 1
            taken.append(int(i))
            values: dict[str, Any] = {"id": ids[i], "step": source.step}
            if told:
                values["sampling"] = told
            if chances is not None:
                values["confidence"] = round(float(chances[i]), 4)
            values |= {"has": work.where} if known else {}
            rows.append(("synthetic", -1, source.run, work.seed, work.parameters(label, **values)))
        rejected: dict[str, list[np.ndarray]] = {}
        for i in np.flatnonzero(~passed.keep):
            if shown[reason := str(passed.why[i])] < SHOWN:
                shown[reason] += 1
                rejected.setdefault(reason, []).append(raw[i])
        why.update(passed.refused)
        if taken:
            earlier.append(points[taken])
        done = total - int(left.sum())
        share = 0.3 + 0.7 * max(done / total, number / (rules.tries * total + work.batch))
        work.watch.say(f"Sampling: {done:,} of {total:,} kept, {number:,} drawn", min(1.0, share))
        work.watch.check()
        yield Items(
            raw[taken],
            mine[taken] if labelled else None,
            rows,
            passed.refused,
            rejected,
            len(ids),
            {name: np.full(len(taken), value) for name, value in known.items()},
        )
    if left.any():
        short = [work.names[k] for k in np.flatnonzero(left)]
        some = ", ".join(short[:5]) + (" …" if len(short) > 5 else "")
        most = ", ".join(f"{n:,} were {REASONS[name]}" for name, n in why.most_common(3) if n)
        work.note(
            f"{source.run} gave {total - int(left.sum()):,} of {total:,} samples ({some} short): after {number:,} "
            f"drawn, {rules.tries} for each that was wanted, it ended. {_capital(most) or 'None was refused'}. "
            "Loosen the gate, raise its tries, or choose a better model."
        )
    elif number:
        work.note(
            f"{many(total, 'sample')} of {source.run} kept of {number:,} drawn at batches of {work.batch}."
        )


def _open(
    left: np.ndarray, drawn: np.ndarray, number: int, work: Work, listens: bool
) -> np.ndarray | None:
    """Lists the classes that still want samples and may be drawn; None to end."""
    tries, wanted = work.gate.tries, work.wanted
    if not left.any():
        return None
    if not listens:  # nobody can ask for a class
        return np.flatnonzero(left) if number < tries * wanted.sum() else None
    rest = np.flatnonzero((left > 0) & (drawn < tries * wanted))
    return rest if len(rest) else None


def _told(dataset: Dataset, where: str) -> dict[str, Any]:
    """Gives the attribute that samples were chosen by, and its value; nothing where several values are meant."""
    name, column = where.partition("=")[0], (dataset.attributes or {}).get(where.partition("=")[0])
    if not where or column is None or column.dtype.kind == "f":
        return {}
    kinds = np.unique(column[having(dataset, where)])
    return {name: kinds[0]} if len(kinds) == 1 else {}


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]

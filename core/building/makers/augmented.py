"""Copies of the training items, changed by a chain of augmentations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np

from core import runs
from core.building.makers import Items, Row, Work, makers, spread
from core.building.marks import GENERATIVE
from core.building.optout import allow_run
from core.building.version import generators, provenance
from core.catalog import Config, UserError, knob
from core.datasets import Dataset

_ROUNDS = 1000  # an item's copies have ids of their own up to so many


class AugmentedConfig(Config):
    """Which chain changes them."""

    pipeline: str = knob(
        "",
        "A preset or a saved chain of Augment, by its id; or the chain itself as it is exported, in JSON.",
        title="Chain",
    )


def _pin(
    config: AugmentedConfig, dataset: Dataset, overrides: Mapping[str, str]
) -> AugmentedConfig:
    from core import augment

    text = config.pipeline
    if not text:
        raise UserError("An augmented source needs a chain, got ''. Name one: parameters.pipeline.")
    pipeline = augment.read(text) if text.lstrip().startswith("{") else augment.load(text)
    if mixing := pipeline.mixing:
        raise UserError(
            f"{mixing[0]} mixes labels, and an image of a dataset has one class. Switch it off."
        )
    pipeline.allow(dataset.medium.item, dataset.medium.name)
    for (
        step
    ) in pipeline.steps:  # one that draws from a model brings along what that has learned from
        if step.on and step.config.get("run"):
            allow_run(runs.find(step.config["run"], generator=True), dataset, overrides)
    return config.model_copy(update={"pipeline": augment.export(pipeline, "json").strip()})


@makers.add("augmented", "Augmented", AugmentedConfig, pin=_pin)
def augmented(config: AugmentedConfig, work: Work) -> Iterator[Items]:
    """Changes copies of training items, each as often as the others of its class."""
    import torch

    from core import augment

    dataset, train = work.dataset, work.dataset.splits["train"]
    pipeline = augment.read(config.pipeline)
    x = dataset.items(train)
    y = None if dataset.y is None else torch.as_tensor(dataset.y[train])
    chain = augment.Chain(pipeline, augment.Context(x, y, len(dataset.classes)))
    # a copy of a sample is one of its run, too
    made = np.where(provenance(dataset)["origin"] == "real", "", generators(dataset))
    asks = [step for step in pipeline.steps if step.on and step.config.get("run")]
    asked = runs.find(asks[0].config["run"], generator=True).id if asks else ""
    done, rounds = 0, []
    for label in np.flatnonzero(work.wanted).tolist():
        for parents, number in spread(work.parents(label), int(work.wanted[label])):
            rounds.append(np.stack([np.full(len(parents), number), parents], 1))
    order = np.concatenate(rounds)  # (n, 2): which copy of which item
    order = order[np.lexsort((order[:, 1], order[:, 0]))]
    for start in range(0, len(order), work.batch):
        number, part = torch.as_tensor(order[start : start + work.batch]).unbind(1)
        labels = None if dataset.y is None else dataset.y[part.numpy()]
        drawn = chain.draw(
            work.seed, part * _ROUNDS + number, None if labels is None else torch.as_tensor(labels)
        )
        changed = chain.apply(dataset.items(part.numpy()), drawn)
        rows: list[Row] = []
        for i, parent in enumerate(part.tolist()):
            steps = [
                {"step": step.name, **values}
                for (_, step, _, _), values in zip(chain.steps, chain.values(drawn, i), strict=True)
                if values is not None
            ]
            why = work.why.get(work.names[0 if labels is None else int(labels[i])])
            said = json.dumps({"steps": steps, "why": why} if why else steps)
            run = asked if any(step["step"] in GENERATIVE for step in steps) else ""
            rows.append(("augmented", parent, run or str(made[parent]), work.seed, said))
        done += len(rows)
        work.watch.count("Augmenting", done, len(order))
        yield Items(dataset.medium.write(changed, dataset.levels), labels, rows)

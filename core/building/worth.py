"""What a generative model is worth on two datasets: kept, trained on, and trained anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from core.building.axes import real_part
from core.building.coverage import FEWEST
from core.building.drift import DriftConfig, points_of, three
from core.building.glance import glance
from core.catalog import UserError
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch

if TYPE_CHECKING:
    from torch import Tensor

FORMS: Mapping[str, str] = {
    "kept": "kept as it is",
    "continued": "trained on with the other images",
    "retrained": "trained anew on the other images",
}


def worth(
    dataset: Dataset, other: Dataset, config: DriftConfig, watch: Watch = UNWATCHED
) -> dict[str, Any]:
    """Measures a generator on the held-out images of both sides: kept, continued and retrained on the other one.

    Its samples are compared with held-out images by KID, through one extractor for all; beside it training images of
    the side itself, as many. The second side is the other dataset, under the corruption if there is one. The two that
    are trained see equally many images.

    Raises:
        UserError: If the run cannot be opened, or does not fit.
    """
    from core import runs
    from core.measure import distances

    run = runs.find(config.run, generator=True)
    opened = runs.open_model(run)
    if opened.model.spec.shape != dataset.seen:
        raise UserError(
            f"The run {run.name} makes images of another shape than those of {dataset.name}. "
            "Choose a run that was trained on images like these."
        )
    worlds = [real_part(dataset), _corrupted(real_part(other), config)]
    if opened.model.classes and worlds[0].classes != worlds[1].classes:
        raise UserError(
            f"The run {run.name} listens to the classes of {dataset.name}, and {other.name} has others. "
            "Choose a run without labels."
        )
    models = {"kept": opened.model}
    for number, form in enumerate(("continued", "retrained")):
        part = watch.part(0.05 + 0.4 * number, 0.45 + 0.4 * number)
        models[form] = _trained(run, worlds[1], form == "continued", config, part)
    embedding = glance(worlds[0])
    rows = []
    for world, title in zip(worlds, (dataset.name, _side(other, config)), strict=True):
        held = np.concatenate([world.splits["valid"], world.splits["test"]])
        held = held[: min(1000, len(held), len(world.splits["train"]))]
        if len(held) < FEWEST:
            raise UserError(
                f"{world.name} has {len(held)} held-out images, and {FEWEST} are needed. Choose a larger dataset."
            )
        real = points_of(embedding, world.images(held))
        train = points_of(embedding, world.images(world.splits["train"][: len(held)]))
        floor = distances.kernel_distance(train, real)
        for form, model in models.items():
            watch.say(f"Measuring: {FORMS[form]}", 0.9)
            x = _samples(model, world, held, opened.usual, config.seed)
            kid = distances.kernel_distance(points_of(embedding, x), real)
            rows.append(
                {
                    "model": form,
                    "title": FORMS[form],
                    "on": title,
                    "kid": {"value": kid.value, "low": kid.low, "high": kid.high},
                    "floor": {"value": floor.value, "low": floor.low, "high": floor.high},
                    "n": len(held),
                }
            )
            watch.check()
    return {
        "run": run.id, "name": run.name, "images": config.model_images, "rows": rows, "sentence": _best(rows),
    }  # fmt: skip


def _best(rows: list[dict[str, Any]]) -> str:
    sentences = []
    for on in dict.fromkeys(row["on"] for row in rows):
        mine = sorted((row for row in rows if row["on"] == on), key=lambda row: row["kid"]["value"])
        best, next_one = mine[0], mine[1]
        apart = best["kid"]["high"] < next_one["kid"]["low"]
        said = f"KID {three(best['kid']['value'])}, real images {three(best['floor']['value'])}"
        sentences.append(
            f"On {on}, best is the model {best['title']} ({said})."
            if apart
            else f"On {on}, the best cannot be told: {best['title']} ({said}) and {next_one['title']} overlap."
        )
    return " ".join(sentences)


def _side(other: Dataset, config: DriftConfig) -> str:
    if not config.corruption:
        return other.name
    return f"{other.name} with {config.corruption.replace('_', ' ')} {config.severity}"


def _corrupted(dataset: Dataset, config: DriftConfig) -> Dataset:
    """Gives a dataset under the corruption of a comparison; itself without one."""
    if not config.corruption:
        return dataset
    from core.datasets.dataset import assemble
    from core.robustness.corruptions import corrupt

    x = np.concatenate(
        [
            dataset.medium.write(
                corrupt(
                    dataset.items(rows),
                    config.corruption,
                    config.severity,
                    config.seed,
                    rows.tolist(),
                ),
                dataset.levels,
            )
            for rows in np.array_split(np.arange(len(dataset)), max(1, len(dataset) // 500))
        ]
    )
    return assemble(
        x, dataset.y, dataset.classes, dataset.splits, medium=dataset.medium.name, levels=dataset.levels,
        name=dataset.name, pair=dataset.pair,
    )  # fmt: skip


def _trained(run: Any, data: Dataset, go_on: bool, config: DriftConfig, watch: Watch) -> Any:
    """Trains the network of a run on other images, from its weights or from fresh ones."""
    import torch

    from core import runs
    from core.tensors import device
    from core.training import TrainConfig, Trainer
    from core.training.trained import finished

    record = runs.record(run)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = runs.network(record)
    if go_on:
        model.load_state_dict(runs.open_model(run).model.state_dict())
    kept = {name: record["train"][name] for name in ("lr", "batch") if record["train"].get(name)}
    train = TrainConfig.of(
        {**kept, "images": config.model_images, "seed": config.seed, "watch": False}, "train"
    )
    text = "Training on with the other images" if go_on else "Training anew on the other images"
    return finished(Trainer(model, data, train, device(training=True)), text, watch)


def _samples(model: Any, world: Dataset, held: np.ndarray, sampling: Any, seed: int) -> Tensor:
    """Draws as many samples as there are held-out images, of the same classes."""
    import torch

    where = next(model.parameters()).device
    parts = []
    with torch.inference_mode():
        for ids in np.array_split(np.arange(len(held)), max(1, len(held) // 200)):
            y = None
            if model.classes and world.y is not None:
                y = torch.as_tensor(world.y[held[ids]]).to(where)
            parts.append(model.sample(ids.tolist(), y, seed, sampling).clone().cpu())
    x = torch.cat(parts)
    return world.medium.seen(torch.as_tensor(world.medium.kept(x, world.levels)), world.levels)

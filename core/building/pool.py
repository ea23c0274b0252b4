"""Items that can join the training images of a class: each the next in a fixed order, so that two ways share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.building.experiment.samples import Draw, sift
from core.building.gate import GateConfig
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch

_DRAWN = 200  # samples at a time
FEWEST = 30  # real images of a class from which a judge can vouch for samples of it
Items = tuple[np.ndarray, int]  # levels (n, C, H, W), and how many could not be made


class Augmented:
    """Copies of the training images of a part, changed by a chain.

    Args:
        dataset: With labels.
        pipeline: Id of the chain.
        parents: Rows of the images to copy by part, each (n,).
        seed: Of the chain; copy after copy of each image, in their order.
    """

    def __init__(
        self, dataset: Dataset, pipeline: str, parents: Mapping[int, np.ndarray], seed: int
    ) -> None:
        from core import augment

        self.dataset, self.parents, self.seed = dataset, parents, seed
        chain = augment.load(pipeline)
        augment.training(chain)  # refuses what mixes labels, or works image by image
        import torch

        train = dataset.splits["train"]
        y = None if dataset.y is None else torch.as_tensor(dataset.y[train])
        context = augment.Context(dataset.items(train), y, len(dataset.classes))
        self.chain = augment.Chain(chain, context)

    def take(self, part: int, label: int, start: int, count: int) -> Items:
        """Makes the copies from ``start`` on, ``count`` of them, of the images of a part."""
        import torch

        rows = self.parents[part]
        if not len(rows) or not count:
            return np.asarray(self.dataset.x[:0]), count
        number = np.arange(start, start + count)
        chosen, copy = rows[number % len(rows)], number // len(rows)
        ids = torch.as_tensor(chosen * 1000 + copy)
        y = None if self.dataset.y is None else torch.as_tensor(self.dataset.y[chosen])
        x = self.chain.apply(self.dataset.items(chosen), self.chain.draw(self.seed, ids, y))
        return self.dataset.medium.write(x, self.dataset.levels), 0


class Synthetic:
    """Samples of a model that pass the gate, class by class, drawn as they are needed.

    Args:
        real: The training images that the model has seen.
        draw: Makes samples of ids and labels as a model sees them; the labels may be another's choice, (n,).
        judge: Names the images of the real ones, and has their ``features``.
        gates: What a sample has to pass.
    """

    def __init__(
        self,
        real: Dataset,
        draw: Draw,
        judge: Any,
        gates: GateConfig,
        watch: Watch = UNWATCHED,
    ) -> None:
        import torch

        self.real, self.draw, self.judge, self.gates, self.watch = real, draw, judge, gates, watch
        assert real.y is not None
        counts = np.bincount(real.y, minlength=len(real.classes))
        self.vouched = {label for label, n in enumerate(counts.tolist()) if n >= FEWEST}
        self.kept: dict[int, list[np.ndarray]] = {}
        self.points: list[np.ndarray] = []
        self.refused: dict[str, int] = {}
        self.drawn: dict[int, int] = {}
        self.next = 0
        with torch.inference_mode():
            self.known = judge.features(real.images(slice(None))).numpy()

    def take(self, part: int, label: int, start: int, count: int) -> Items:
        """Gives the samples of a class from ``start`` on, as many of ``count`` as pass the gate in a bounded search.

        None of a class with so few real images that nobody can tell whether a sample is of it.
        """
        if label not in self.vouched:
            return np.asarray(self.real.x[:0]), count
        end = start + count
        while (
            len(self.kept.get(label, ())) < end
            and self.drawn.get(label, 0) < self.gates.tries * end
        ):
            self._more(label)
            self.watch.check()
        got = self.kept.get(label, [])[start:end]
        empty = np.asarray(self.real.x[:0])
        return (np.stack(got) if got else empty), count - len(got)

    def _more(self, label: int) -> None:
        """Draws some samples of a class, and keeps what passes, under the class that it belongs to."""
        import torch

        ids = torch.arange(self.next, self.next + _DRAWN)
        self.next += _DRAWN
        self.drawn[label] = self.drawn.get(label, 0) + _DRAWN
        with torch.inference_mode():
            samples, y = self.draw(ids, torch.full((_DRAWN,), label))
        earlier = np.concatenate(self.points) if self.points else None
        sifted = sift(self.real, self.judge, self.known, samples, y, self.gates, earlier)
        passed = sifted.gated
        for name, n in passed.refused.items():
            self.refused[name] = self.refused.get(name, 0) + n
        self.points.append(sifted.points[passed.keep])
        for i in np.flatnonzero(passed.keep):
            self.kept.setdefault(int(sifted.labels[i]), []).append(sifted.x[i])

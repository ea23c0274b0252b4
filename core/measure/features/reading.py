"""Reads labels and attributes off any image, by a network that is trained once for the images of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.catalog import UserError
from core.datasets import Columns, Dataset, columns, scores
from core.ground.watch import UNWATCHED, Watch
from core.nets import Downward
from core.tensors import Group, Images, Loss, device
from core.training import TrainConfig, Trainer
from core.training.trained import file_of, once

IMAGES = 40_000  # seen in training
WIDTH = 16  # of the first convolution


class ReaderNet(nn.Module):
    """Maps images to one number per column."""

    def __init__(self, channels: int, size: int, count: int) -> None:
        super().__init__()
        self.body = Downward(channels, size, WIDTH, 128)
        self.last = nn.Linear(128, count)

    def forward(self, x: Images) -> Tensor:
        """Gives logits of what is or is not, and standardised numbers, (N, A)."""
        return self.last(self.body(x * 2 - 1))


class ReadingLesson(nn.Module):
    """Trains a reader; the label of each image is its own index, by which it finds what is known of the image.

    Attributes:
        net: The reader.
        mean, std: Of the numbers among the training images, 0 and 1 for what is or is not, (A,).
        known: Of each image, standardised, (N, A).
        binary: Which columns are 0 or 1, bool (A,).
    """

    def __init__(self, net: ReaderNet, table: Columns, train: np.ndarray) -> None:
        super().__init__()
        self.net, self.binary = net, torch.as_tensor(table.binary)
        values = torch.as_tensor(table.values)
        self.mean = torch.where(self.binary, 0.0, values[train].mean(0))
        self.std = torch.where(self.binary, 1.0, values[train].std(0).clamp_min(1e-6))
        self.known = (values - self.mean) / self.std

    def groups(self) -> list[Group]:
        """Gives all parameters as one group."""
        return [Group("reader", list(self.net.parameters()), 3e-3, weight_decay=0.01)]

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy of what is or is not, in nats, and the squared error of numbers, over columns."""
        assert y is not None
        raw, yes = self.net(x), self.binary.to(x.device)
        wanted = self.known[y.cpu()].to(x.device)
        entropy = F.binary_cross_entropy_with_logits(raw, wanted * yes, reduction="none")
        yield Loss("reader", torch.where(yes, entropy, (raw - wanted).square()).mean())

    @torch.no_grad()
    def measured(self, dataset: Dataset, table: Columns) -> dict[str, Tensor]:
        """Gives the weights of the reader, and how well it reads test images, or else validation images."""
        where = next(self.net.parameters()).device
        test = dataset.splits["test"][:2000]
        if not len(test):
            test = dataset.splits["valid"][:2000]
        raw = torch.cat([self.net(x) for x in dataset.batches(test, device=where)]).cpu()
        read = torch.where(self.binary, (raw > 0).float(), raw * self.std + self.mean).numpy()
        accuracy = scores(read, table.values[test], table.binary)
        return {
            **self.net.state_dict(),
            "mean": self.mean,
            "std": self.std,
            "accuracy": torch.as_tensor(accuracy, dtype=torch.float32),
            "n": torch.tensor(len(test)),
        }


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads labels and attributes off images; trained on a dataset's training images, and then frozen.

    Attributes:
        names, binary, labels: As in :class:`core.datasets.Columns`.
        accuracy: On test images: share read rightly of what is or is not, R² of numbers, (A,).
        n: Test images.
    """

    names: tuple[str, ...]
    binary: np.ndarray
    labels: np.ndarray
    net: ReaderNet = field(repr=False)
    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    accuracy: np.ndarray
    n: int

    @torch.no_grad()
    def read(self, x: Images) -> Tensor:
        """Reads images in [0, 1]: probabilities, and numbers in the dataset's units, (N, A)."""
        parts = []
        for part in x.split(500):
            raw = self.net(part.to(self.mean.device))
            binary = torch.as_tensor(self.binary, device=raw.device)
            parts.append(torch.where(binary, torch.sigmoid(raw), raw * self.std + self.mean))
        return torch.cat(parts)

    @torch.no_grad()
    def features(self, x: Images) -> Tensor:
        """Gives what the reader goes by, of images in [0, 1], (N, 128)."""
        return torch.cat(
            [self.net.body(part.to(self.mean.device) * 2 - 1) for part in x.split(500)]
        )


def readable(dataset: Dataset) -> bool:
    """Says whether there is anything to read: labels or attributes, off what looks like an image to a model."""
    return dataset.medium.model == "picture" and bool(columns(dataset).names)


def _file(dataset: Dataset, table: Columns) -> Path:
    recipe = [dataset.fingerprint, table.names, IMAGES, WIDTH, float(np.abs(table.values).sum())]
    return file_of("readers", recipe)


def reader_ready(dataset: Dataset) -> bool:
    """Says whether the reader of a dataset is trained already."""
    return _file(dataset, columns(dataset)).exists()


def reader(dataset: Dataset, watch: Watch = UNWATCHED) -> Reader:
    """Opens the reader of a dataset; the first time it is trained, which takes half a minute.

    Args:
        dataset: One with labels or attributes.
        watch: Follows the training; who ends it ends it with nothing kept.

    Raises:
        UserError: If it has neither.
    """
    table = columns(dataset)
    if not readable(dataset):
        raise UserError(
            f"{dataset.name} has neither classes nor attributes that can be read off images, to find directions for. "
            "Use the main directions, or label the images."
        )
    weights = once(
        _file(dataset, table),
        f"the reader of {dataset.name}",
        lambda: taught_to_read(dataset, table, device()),
        lambda lesson: lesson.measured(dataset, table),
        watch,
    )
    more = {name: weights.pop(name) for name in ("mean", "std", "accuracy", "n")}
    net = ReaderNet(dataset.channels, dataset.size, len(table.names))
    net.load_state_dict(weights)
    where = device()
    return Reader(
        table.names,
        table.binary,
        table.labels,
        net.to(where).eval().requires_grad_(False),
        more["mean"].to(where),
        more["std"].to(where),
        more["accuracy"].numpy(),
        int(more["n"]),
    )


def taught_to_read(dataset: Dataset, table: Columns, where: torch.device, seed: int = 0) -> Trainer:
    """Makes the trainer of a reader; another seed, another reader."""
    net = ReaderNet(dataset.channels, dataset.size, len(table.names))
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, 0.2, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    count = len(dataset)
    lessons = dataclasses.replace(dataset, y=np.arange(count), classes=("",) * count)
    config = TrainConfig(images=IMAGES, batch=64, seed=seed, precision="float32")
    return Trainer(ReadingLesson(net, table, dataset.splits["train"]), lessons, config, where)

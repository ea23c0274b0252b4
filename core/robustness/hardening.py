"""A classifier is trained on against attacks: the network that learns so, and what that has cost and gained.

Each step meets the images as the attack on the classifier of that moment leaves them [1]. It is the same climb that
the attack PGD and the training against attacks make; here it begins from what a classifier knows already, whoever
trained it.

References:
    [1] Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from core import brought, jobs, runs
from core.ascent import climb
from core.catalog import Config, UserError, knob
from core.classifier import CURVES as LEARNING
from core.classifier import SURVIVORS, Classifier, ClassifierConfig
from core.datasets import Dataset
from core.ground.writing import percent
from core.media import media
from core.models import Spec, Trainable
from core.nets import refresh_batch_statistics
from core.norms import LINF, SUITED, Budget
from core.robustness.config import StudyConfig
from core.robustness.cost import estimate
from core.robustness.releases import Release, against
from core.robustness.store import Report
from core.runs import Opened
from core.target import Target
from core.tensors import Batch, Group, Loss, rows
from core.training import TrainConfig, Trainer

RAMP = 0.3  # share of the training over which the attack grows to its full strength
RATE = 3e-4  # learning rate of a network from outside, which tells none
FITTED = 1024  # images that the batch statistics are taken of
SLOW = 1.0  # seconds of a step of eight images above which only they are timed
CURVES = LEARNING[:2]


class HardeningConfig(Config):
    """Parameters of training a classifier on against attacks."""

    classifier: str = knob(
        "", "Id of a classifier; empty takes the dataset's own plain one.", advanced=True
    )
    eps: float = knob(
        SUITED,
        "Largest change of a value that it is trained against, of a range of 1; more costs more accuracy without an "
        "attack. 0 takes what suits the dataset (images: 38/255 at 8 px, 51/255 grey, 8/255 colour).",
        title="Attack strength trained against (eps)",
        ge=0,
        le=1,
    )
    attack_steps: int = knob(
        7,
        "Steps of the attack in each step of the training; each costs as much as one.",
        ge=1,
        le=100,
        unit="steps",
        advanced=True,
    )
    n: int = knob(
        500,
        "Test images, which the training never sees, on which price and gain are measured.",
        title="Images to measure on",
        ge=1,
        le=1_000_000,
        unit="images",
        log=True,
        advanced=True,
    )


class FurtherConfig(TrainConfig):
    """Parameters of the training loop, for what begins with a trained network."""

    images: int = knob(
        60_000,
        "How long to train on: images seen, repeats included.",
        title="Length of training",
        ge=1,
        le=10_000_000_000,
        unit="images",
        log=True,
    )


class Hardened(nn.Module):
    """A classifier that learns from attacked images alone; what the trainer needs beyond that, it brings."""

    def __init__(self, net: nn.Module, config: HardeningConfig, spec: Spec) -> None:
        super().__init__()
        self.net = net.requires_grad_(True)
        self.config, self.spec, self.classes = config, spec, spec.classes
        self.batch = max(8, min(128, 2**22 // math.prod(spec.shape)))

    def forward(self, x: Batch) -> Tensor:
        """Gives logits, (N, classes), of images in [0, 1]."""
        return self.net(x)

    def groups(self) -> list[Group]:
        """Gives the classifier's parameters as one group."""
        if isinstance(self.net, Trainable):
            return self.net.groups()
        return [Group("classifier", list(self.net.parameters()), RATE, 0.9, 0.99, 0.01)]

    def losses(
        self, x: Batch, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the cross entropy in nats of attacked images ([1], eq. 2.1)."""
        assert y is not None
        hard = self._attacked(x, y, generator, min(1.0, progress / RAMP))
        with _chance(generator):
            logits = self.net(hard)
        value = F.cross_entropy(logits, y)
        accuracy = (logits.detach().argmax(1) == y).float().mean()
        yield Loss("classifier", value, {"loss": value.detach(), "accuracy": accuracy})

    def held_out(self, x: Batch, y: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
        """Gives the cross entropy under attack (decides the best checkpoint) and accuracy on held-out images."""
        assert y is not None
        few, labels = x[:SURVIVORS], y[:SURVIVORS]
        hard = self.net(self._attacked(few, labels, generator, 1.0))
        return {
            "valid_loss": F.cross_entropy(hard, labels),
            "valid_accuracy": (self.net(x).argmax(1) == y).float().mean(),
            "valid_hard_accuracy": (hard.argmax(1) == labels).float().mean(),
        }

    def fit(self, x: Batch, y: Tensor | None) -> None:
        """Recomputes the batch statistics for the averaged weights, of attacked images."""
        if y is None or not any(isinstance(part, _BatchNorm) for part in self.modules()):
            return
        generator = torch.Generator(x.device).manual_seed(0)
        x, y = x[:FITTED], y[:FITTED]
        parts = torch.arange(len(x), device=x.device).tensor_split(-(-len(x) // 256))
        hard = [self._attacked(x[i], y[i], generator, 1.0) for i in parts]
        with _chance(generator):
            refresh_batch_statistics(self, (partial(self.net, part) for part in hard))

    def _attacked(self, x: Batch, y: Tensor, generator: torch.Generator, ramp: float) -> Batch:
        """Gives what a model sees of items that an attack has changed within a share of the budget.

        It is attacked as it will be, in evaluation mode.
        """
        medium, mode = media.get(self.spec.medium), self.net.training
        items = medium.from_model(x)
        eps = ramp * Budget(LINF, items.shape[1:], medium.name).chosen(self.config.eps)
        start = rows(torch.rand, items.shape, generator=generator, device=x.device)
        self.net.eval()
        moved = climb(
            lambda at: F.cross_entropy(self.net(medium.to_model(at)), y, reduction="none"),
            items, items + eps * (2 * start - 1), eps, self.config.attack_steps,
        )  # fmt: skip
        self.net.train(mode)
        return medium.to_model(moved)


@contextmanager
def _chance(generator: torch.Generator) -> Iterator[None]:
    """Lets what a network itself leaves to chance, such as dropout, follow from a generator."""
    where = generator.device
    cuda = where.type == "cuda"
    seed = int(torch.randint(2**31, (), generator=generator, device=where))
    with torch.random.fork_rng(devices=[where] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.default_generators[where.index or 0].manual_seed(seed)
        yield


# --- What it is made of ---------------------------------------------------------------------------------------------


def described(id: str) -> dict[str, Any]:
    """Says what the network of a classifier is like, so that it can be built again when that one is gone.

    Args:
        id: Of :func:`core.robustness.classifiers.available`.

    Raises:
        UserError: If there is none of this id, or its record is damaged.
    """
    if brought.holds(id):
        record = brought.find(id).record
        if record.get("facts", {}).get("answers_only"):
            raise UserError(
                f"{brought.find(id).name} gives answers only, without gradients, so it cannot be trained against "
                "attacks. Choose a classifier that was brought by its weights."
            )
        return {"origin": brought.USUAL, **record}
    if not id:
        return {"classifier": ClassifierConfig().record()}
    record = runs.record(jobs.get(id))
    return record["harden"]["net"] if "harden" in record else {"classifier": record["classifier"]}


def untrained(record: Mapping[str, Any], spec: Spec) -> Hardened:
    """Builds the network that the record of a hardening describes, with weights of no meaning."""
    config = HardeningConfig.of(
        {name: record[name] for name in HardeningConfig.knobs() if name in record}, "harden"
    )
    net = record["net"]
    if "origin" in net:
        return Hardened(brought.untrained(net, spec), config, spec)
    return Hardened(
        Classifier(ClassifierConfig.of(net["classifier"], "classifier"), spec), config, spec
    )


def begun(opened: Opened) -> dict[str, Tensor]:
    """Gives the weights that a hardening of an opened classifier starts from, on the processor."""
    net = opened.model.net if isinstance(opened.model, Hardened) else opened.model
    return {f"net.{name}": value.cpu() for name, value in net.state_dict().items()}


def bare(model: Hardened, net: Mapping[str, Any]) -> dict[str, Tensor]:
    """Gives the weights to take away, under the names that they have where the network is from."""
    inner: Any = model.net.net if "origin" in net else model.net
    return {name: value.cpu().contiguous() for name, value in inner.state_dict().items()}


# --- What it has cost, and gained -----------------------------------------------------------------------------------


def measured(config: HardeningConfig, dataset: Dataset) -> StudyConfig:
    """Gives the study that measures price and gain, before and after: test images, at the strength trained against.

    Raises:
        UserError: If there are no test images.
    """
    if not len(dataset.splits["test"]):
        raise UserError(
            f"{dataset.name} has no test images, so nothing would tell what a hardening costs. "
            "Choose a dataset with a test part, or import it again with one."
        )
    eps = Budget(LINF, dataset.shape, dataset.medium.name).chosen(config.eps)
    return StudyConfig(eps=f"{eps:.8g}", n=config.n)


@dataclass(frozen=True)
class Hardening:
    """What a hardening has done; the reports are None before they are made."""

    before: Report | None
    after: Report | None

    @property
    def release(self) -> Release | None:
        """What has changed, image by image."""
        return against(self.before, self.after) if self.before and self.after else None


def told(release: Release) -> str:
    """Says what was paid without an attack, and what was gained under it."""
    gain, price = release.robust, release.clean
    n = gain.change.n
    return (
        f"Under every attack of {release.strength} that was tried, {percent(gain.after.value)} of {n} unseen images "
        f"stay right, {percent(gain.before.value)} before: {gain.text}. Without an attack it is "
        f"{percent(price.after.value)}, {percent(price.before.value)} before: {price.text}."
    )


@dataclass(frozen=True)
class Pace:
    """How fast a hardening is on this machine.

    Attributes:
        step: Seconds of a step.
        batch: Images in a step.
        measuring: Seconds of both measurements together.
    """

    step: float
    batch: int
    measuring: float

    def seconds(self, images: int) -> float:
        """Foretells the seconds of a hardening that sees so many images."""
        return self.step * math.ceil(images / self.batch) + self.measuring


def pace(opened: Opened, dataset: Dataset, config: HardeningConfig, train: TrainConfig) -> Pace:
    """Tells how fast a hardening is on this machine, by a few of its steps and a few attacked images.

    Raises:
        UserError: As the study that measures it.
    """
    net = opened.model.net if isinstance(opened.model, Hardened) else opened.model

    def step(batch: int) -> float:
        model = Hardened(copy.deepcopy(net), config, opened.spec)
        one = train.model_copy(update={"batch": batch, "images": 4 * batch, "average": 0})
        trainer = Trainer(model, dataset, one, next(net.parameters()).device)
        best = math.inf
        # the first one warms up; of the others the quicker counts: other work can only slow a step
        for lap in range(3):
            began = time.perf_counter()
            trainer.one_step()
            spent = time.perf_counter() - began
            best = min(best, spent) if lap else best
            if lap and best > SLOW:
                break
        return best

    batch = train.batch or Hardened(copy.deepcopy(net), config, opened.spec).batch
    few = min(8, batch)
    seconds = step(few)
    whole = step(batch) if seconds < SLOW else seconds * batch / few
    study = estimate(Target.of(opened), dataset, measured(config, dataset))
    return Pace(whole, batch, 2 * study.seconds)

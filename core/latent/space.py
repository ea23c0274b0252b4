"""The latent space of any model as rows of numbers: the only file of this room that knows how families differ.

A *point* is one row of float32: the latent (D), followed by the shares of the classes (K) where the model listens to
any. So a blend of classes is an axis like any other, and paths, planes, directions and inversion work on points alone.
A model that draws what texts say (:class:`core.models.Prompts`) has the two texts of its sampling for classes.
A model that spells (:class:`core.models.Spells`) has the vectors of its codes for a latent; they are rounded to codes
before they are shown. Its classes steer which codes are written, and nothing after that, so its K is 0.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import datasets, jobs, runs
from core.catalog import Config, UserError
from core.datasets import Dataset
from core.ground.cache import Cache
from core.ground.timing import least
from core.ground.watch import UNWATCHED, Watch
from core.media import Medium, media
from core.models import Decodes, Encodes, Prompts, Spells, Spreads, Traces, differentiates
from core.nets import labels_for
from core.tensors import Batch

BATCH = 512  # images decoded at once
IN_CACHE = 64  # above 16 px on a CPU: more leave its caches, and a flow takes twice the time
TIMED = 4  # images decoded at once to learn how long one takes
PATIENCE = 4.0  # seconds that a neighbourhood of a large model may take
FEW = 5  # steps of a preview of a model whose sampling is a path
ROUND = 16  # dimensions from which noise lies near a sphere, so that ways and planes keep to it
STUDIED = 2000  # draws that say where latents lie; fewer where they are large or slowly drawn


def supports(model: Any) -> bool:
    """Says whether a model has a latent space."""
    return isinstance(model, Decodes | Spells)


@dataclass(frozen=True, eq=False)
class Space:
    """A model's latent space; cheap to make, safe to share.

    Attributes:
        model: The network, shared with others: never changed.
        sampling: The family's sampling config.
        key: The run and its step.
        latent: Numbers of a latent, D.
        classes: Classes that decoding listens to, K; the texts of a model that draws what they say.
    """

    model: Any
    sampling: Config
    key: tuple[str, int]
    latent: int
    classes: int

    @property
    def dim(self) -> int:
        """Length of a point, D + K."""
        return self.latent + self.classes

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @property
    def medium(self) -> Medium:
        """What the model makes."""
        return media.get(self.model.spec.medium)

    @property
    def slow(self) -> bool:
        """Whether an image takes many steps, so that a preview takes fewer."""
        return isinstance(self.model, Traces)

    @property
    def prompted(self) -> bool:
        """Whether the classes are texts of the sampling."""
        return self.classes > 0 and isinstance(self.model, Prompts)

    @property
    def side(self) -> int:
        """Images per row of a neighbourhood, so few that it is decoded fast enough to drag over."""
        if not self.slow:
            return 15
        if not isinstance(self.model, Prompts):
            return 7
        return next((side for side in (7, 5) if side**2 * self.pace < PATIENCE), 3)

    @property
    def pace(self) -> float:
        """Seconds that the preview of an image takes here, of a few at once where it is quick; measured once."""

        @torch.no_grad()
        def measure() -> float:
            points = self.draw(range(TIMED))
            alone = least(lambda: self.decode(points[:1], quick=True), patience=0.5)
            if alone > 0.5:
                return alone
            return min(alone, least(lambda: self.decode(points, quick=True), patience=0.5) / TIMED)

        return remember(self, "pace", measure)

    @property
    def encodes(self) -> str:
        """How images are encoded: ``codes``, ``path``, ``mean``, ``exact``, or empty where they are not."""
        if isinstance(self.model, Spells):
            return "codes"
        if not isinstance(self.model, Encodes):
            return ""
        if self.slow:
            return "path"
        return "mean" if isinstance(self.model, Spreads) else "exact"

    @functools.cached_property
    def differentiable(self) -> bool:
        """Whether what is decoded has a derivative, which a graph from outside has not."""
        if isinstance(self.model, Spells):
            return True
        if self.slow:  # a path of ours, whose velocity was asked for its derivative when it came in
            return True
        return remember(self, "differentiable", lambda: differentiates(self.model, self.sampling))

    # --- between points and images ------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self, ids: Sequence[int], labels: Sequence[int] | None = None, seed: int = 0
    ) -> Tensor:
        """Draws the points of the samples with these ids of this seed, (N, D + K).

        Args:
            ids: One number per sample.
            labels: A class per sample; None draws them as often as the training data has them.
            seed: Of the samples.
        """
        y = None
        if self.prompted:
            labels = [0] * len(ids) if labels is None else labels  # of the first text
        if (self.model.classes or self.prompted) and labels is not None:
            y = torch.as_tensor([self.known(label) for label in labels], device=self.device)
        y = labels_for(self.model, ids, y, seed)
        if isinstance(self.model, Spells):
            codes = self.model.write(ids, y, seed, self.sampling)
            return self.model.vectors(codes).flatten(1).float()
        z = self.model.latent(ids, seed, self.sampling)
        return self.join(z, y)

    def known(self, label: int) -> int:
        """Checks the number of a class.

        Raises:
            UserError: If the model has no such class.
        """
        count = self.classes if self.prompted else self.model.classes
        if not 0 <= label < count:
            most = count - 1
            raise UserError(
                f"The class must be a number from 0 to {most}, got {label}. Choose one of them."
                if most >= 0
                else f"This model knows no classes, got class {label}. Leave the class out."
            )
        return int(label)

    def join(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Makes points of latents (N, D) and labels (N,) or shares (N, K); without either, all classes share alike."""
        if not self.classes:
            return z
        if y is None:
            y = z.new_full((len(z), self.classes), 1 / self.classes)
        elif not y.is_floating_point():
            y = F.one_hot(y.long(), self.classes)
        return torch.cat([z, y.to(z)], 1)

    def split(self, points: Tensor) -> tuple[Tensor, Tensor | None]:
        """Takes points apart: latents (N, D), and shares (N, K) brought to 0 … 1 with a sum of 1."""
        z, y = points.split([self.latent, self.classes], 1)
        if not self.classes:
            return z, None
        y = y.clamp_min(0)
        total = y.sum(1, keepdim=True)
        return z, torch.where(total > 1e-6, y / total.clamp_min(1e-6), 1 / self.classes)

    def checked(self, points: Tensor | np.ndarray | Sequence[Any]) -> Tensor:
        """Brings points onto the device, float32 (N, D + K); one point may come without its axis.

        Raises:
            UserError: If their length is not that of this space, or a number is not finite.
        """
        points = torch.as_tensor(points, dtype=torch.float32, device=self.device)
        points = points[None] if points.ndim == 1 else points
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise UserError(
                f"A point of this model has {self.dim} numbers, got {tuple(points.shape)[-1]}. "
                "Take a point that was made with this run."
            )
        if not bool(points.isfinite().all()):
            raise UserError(
                "A point must consist of finite numbers, got nan or infinity. "
                "Go back to the last position, or start from another seed."
            )
        return points

    def decode(self, points: Tensor, quick: bool = False) -> Batch:
        """Turns points into what a model sees, (N, …) in [0, 1]; differentiable, and unchecked.

        Args:
            points: Shape (N, D + K).
            quick: Takes fewer steps where an image takes many.
        """
        z, y = self.split(points)
        if isinstance(self.model, Spells):
            return self.model.restore(self.codes(points))
        return self.model.decode(z, y, self.preview if quick else self.sampling)

    def smooth(self, points: Tensor) -> Batch:
        """Decodes without rounding to codes, so that it has a derivative."""
        if isinstance(self.model, Spells):
            return self.model.paint(self._vectors(points))
        return self.decode(points)

    def codes(self, points: Tensor) -> Tensor:
        """Rounds the points of a model that spells to codes, (N, T)."""
        return self.model.nearest(self._vectors(points))

    def _vectors(self, points: Tensor) -> Tensor:
        return points.view(len(points), self.tokens, -1)

    @functools.cached_property
    def tokens(self) -> int:
        """How many codes spell an image, for a model that spells."""
        x = torch.zeros(1, *self.model.spec.shape)
        return self.model.quantize(x.to(self.device)).shape[1]

    @functools.cached_property
    def preview(self) -> Config:
        """The sampling of a preview: at most a few steps, where an image takes any."""
        steps = self.sampling.record().get("steps")
        if steps is None:
            return self.sampling
        return self.sampling.model_copy(update={"steps": min(steps, FEW)})

    @torch.no_grad()
    def items(self, points: Tensor | np.ndarray | Sequence[Any], quick: bool = False) -> np.ndarray:
        """Decodes points to items as they are stored, (N, …); one point alone always gives the same item.

        Raises:
            UserError: If a point is not one of this space.
        """
        return self._each(points, lambda part: self.medium.kept(self.decode(part, quick)))

    @torch.no_grad()
    def images(
        self, points: Tensor | np.ndarray | Sequence[Any], quick: bool = False
    ) -> np.ndarray:
        """Decodes points and draws what they are, uint8 (N, 1 or 3, H, W); raises as :meth:`items`."""
        return self._each(points, lambda part: self.medium.shown(self.decode(part, quick)))

    def _each(
        self, points: Tensor | np.ndarray | Sequence[Any], make: Callable[[Tensor], np.ndarray]
    ) -> np.ndarray:
        large = self.device.type == "cpu" and self.model.spec.shape[-1] > 16
        parts = self.checked(points).split(IN_CACHE if large else BATCH)
        return np.concatenate([make(part) for part in parts])

    def image(self, point: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
        """Draws what one point is, uint8 (1 or 3, H, W); raises as :meth:`items`."""
        return self.images(point)[0]

    @torch.no_grad()
    def encode(self, x: Batch, labels: Sequence[int] | Tensor | None = None) -> Tensor:
        """Finds the points of images in [0, 1], (N, D + K).

        Args:
            x: The images, (N, …).
            labels: A class per image, or shares of the classes (N, K) as a tensor.

        Raises:
            UserError: If the model cannot encode, or has no such class.
        """
        if not self.encodes:
            raise UserError(
                "This model has no encoder, so an image has no latent until one is searched for. "
                "Invert the image instead, or choose a run of another family."
            )
        y = None
        if self.prompted and labels is None:
            labels = [0] * len(x)
        if (self.model.classes or self.prompted) and labels is not None:
            if not isinstance(labels, Tensor):
                labels = torch.as_tensor([self.known(label) for label in labels])
            y = labels.to(self.device)
        parts = []
        for i in torch.arange(len(x)).split(BATCH):
            part, label = x[i].to(self.device), None if y is None else y[i.to(self.device)]
            if isinstance(self.model, Spells):
                parts.append(self.model.vectors(self.model.quantize(part)).flatten(1).float())
                continue
            shares = self.split(self.join(part.new_zeros(len(part), self.latent), label))[1]
            parts.append(self.join(self.model.encode(part, shares, self.sampling), shares))
        return torch.cat(parts)

    # --- where latents lie --------------------------------------------------------------------------------------

    def studied(self) -> Tensor:
        """Draws many points, always the same, (M, D + K)."""
        slow = self.latent > 512 or isinstance(self.model, Spells)  # which writes code by code
        count = STUDIED // 4 if slow else STUDIED
        return remember(self, "studied", lambda: self.draw(range(count), None, 0))

    @property
    def spread(self) -> Tensor:
        """The standard deviation of each number of the latents that are drawn, (D,)."""
        return self.studied()[:, : self.latent].std(0)

    @property
    def even(self) -> bool:
        """Whether the latents that are drawn vary alike in all directions."""

        def measure() -> bool:
            z = self.studied()[:, : self.latent]
            largest = components(z - z.mean(0), 1)[0][0]
            # the largest of equal variances is estimated as up to this (Marchenko and Pastur, 1967)
            edge = (1 + (self.latent / len(z)) ** 0.5) ** 2
            return bool(largest <= 1.2 * edge / self.latent)

        return remember(self, "even", measure)

    @property
    def sphere(self) -> bool:
        """Whether latents lie near a sphere around zero, which ways and planes then keep to."""
        return self.even and self.latent >= ROUND

    def unit(self, axis: Tensor) -> Tensor:
        """Makes a direction of latents (D,) as long as a step of 1: a standard deviation of the draws.

        On a sphere it is a third of the radius, so that three steps turn a point by 45 degrees in any number of
        dimensions; a standard deviation would turn it less the more there are.
        """
        axis = axis / axis.norm().clamp_min(1e-12)
        z = self.studied()[:, : self.latent]
        length = z.norm(dim=1).mean() / 3 if self.sphere else ((z - z.mean(0)) @ axis).std()
        return axis * length.clamp_min(1e-6)


def open_space(opened: runs.Opened, sampling: Config | None = None) -> Space:
    """Opens the latent space of a model.

    Args:
        opened: A checkpoint of a run.
        sampling: How it draws; the family's defaults without one.

    Raises:
        UserError: If the model has none.
    """
    model = opened.model
    if not supports(model):
        raise UserError(
            f"A {opened.family} has no latent space to walk in. Choose a run that makes images of latents."
        )
    sampling = sampling or opened.usual
    spells = isinstance(model, Spells)
    with torch.no_grad():
        if spells:
            latent = model.vectors(model.write([0], None, 0, sampling)).numel()
        else:
            latent = model.latent([0], 0, sampling).shape[1]
    classes = 0 if spells else model.classes
    if isinstance(model, Prompts) and len(texts := model.texts(sampling)) > 1:
        classes = len(texts)
    return Space(model, sampling, (opened.run, opened.step), latent, classes)


def components(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Finds the first principal components of centred rows (M, F): shares of the variance (k,), and axes (F, k).

    Subspace iteration from a fixed start, so that the same rows always give the same components.
    """
    count = min(count, *values.shape)
    generator = torch.Generator().manual_seed(0)
    width = min(count + 6, *values.shape)
    basis = torch.randn(values.shape[1], width, generator=generator).to(values)
    for _ in range(8):
        basis = torch.linalg.qr(values.T @ (values @ basis))[0]
    _, scale, turn = torch.linalg.svd(values @ basis, full_matrices=False)
    shares = scale.square() / values.square().sum().clamp_min(1e-12)
    return shares[:count], (basis @ turn.T)[:, :count]


def trained_on(run: jobs.Job, watch: Watch = UNWATCHED) -> Dataset:
    """Loads the dataset that a run was trained on; a source is made first where it was not yet, which may take long.

    Raises:
        UserError: If it is not here any more.
    """
    chosen = runs.record(run)["dataset"]
    return datasets.load(chosen["name"], chosen["config"], watch)


# --- What is computed once per checkpoint ---------------------------------------------------------------------------

_computed = Cache[Any](40)
_numbers = itertools.count()
_networks = weakref.WeakKeyDictionary[
    nn.Module, int
]()  # an id is given anew once its network is gone


def remember(space: Space, name: Any, make: Callable[[], Any]) -> Any:
    """Makes something of a space once for all visitors; beyond 40 things, the least recently used is forgotten."""
    return _computed.get(_key(space, name), make)


def remembers(space: Space, name: Any) -> bool:
    """Tells whether something of a space is there, so that :func:`remember` gives it at once."""
    return _computed.peek(_key(space, name)) is not None


def _key(space: Space, name: Any) -> tuple[Any, ...]:
    # the network is part of the key: a folder that was replaced holds other weights under the same run and step
    network = _networks.setdefault(space.model, next(_numbers))
    return (*space.key, network, space.sampling, name)

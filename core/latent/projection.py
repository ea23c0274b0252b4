"""Maps of encoded images and samples in two dimensions, and the training images nearest to an image."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError, installed, optional
from core.datasets import Dataset, evenly
from core.ground import files
from core.ground.settings import settings
from core.latent.planes import MOST_SIDE
from core.latent.space import Space, components, remember

METHODS = {"pca": "Straight (PCA)", "tsne": "Neighbours (t-SNE)", "umap": "Neighbours (UMAP)"}
REFERENCE = 10_000  # training images that samples of a map are compared with
FEATURES = 50  # numbers that a projection starts from
BLEND = 4  # neighbours that a place between points is averaged from


def methods() -> list[str]:
    """Lists the projections that are installed."""
    return [name for name in METHODS if name != "umap" or installed("umap")]


# --- Nearest training images ----------------------------------------------------------------------------------------


@torch.no_grad()
def neighbours(
    dataset: Dataset,
    x: Tensor | np.ndarray,
    k: int = 4,
    *,
    most: int = 0,
    but: Sequence[int] | np.ndarray | None = None,
    only: Callable[[Tensor], Tensor] = lambda x: x,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the training images nearest to images, by the distance of their pixels.

    Args:
        dataset: Where to look.
        x: What a model sees, (N, …) in [0, 1], or items as it makes them, of 256 levels.
        k: How many for each image.
        most: Looks at this many training images, evenly chosen; 0 looks at all.
        but: One image per row that does not count, as its index in the dataset.
        only: Gives what is compared of images (N, …), in the same shape.

    Returns:
        Indices in the dataset, int64 (N, k), nearest first, and distances: root mean square of the difference of
        pixels in [0, 1], (N, k).

    Raises:
        UserError: If the images are not of the dataset's shape.
    """
    x = torch.as_tensor(x)
    x = x.float().cpu() if x.is_floating_point() else dataset.medium.seen(x, 256)
    index = dataset.splits["train"]
    shape = dataset.seen
    if tuple(x.shape[1:]) != shape:
        raise UserError(
            f"The images of {dataset.name} are {' × '.join(map(str, shape))}, got "
            f"{' × '.join(map(str, x.shape[1:]))}. Prepare the picture first."
        )
    index = evenly(index, most or len(index))
    k = min(k, len(index) - (but is not None))
    query = only(x).flatten(1)
    own = None if but is None else torch.as_tensor(np.asarray(but))[:, None]
    best = torch.full((len(query), k), torch.inf)
    where = torch.zeros(len(query), k, dtype=torch.int64)
    for part in np.array_split(index, max(1, len(index) // 4096)):
        real = only(dataset.images(part)).flatten(1)
        far = real.square().sum(1) - 2 * query @ real.T  # (N, m), without the terms that all share
        names = torch.as_tensor(part)[None].expand(len(query), -1)
        if own is not None:
            far = far.masked_fill(names == own, torch.inf)
        far, names = torch.cat([best, far], 1), torch.cat([where, names], 1)
        best, order = far.topk(k, largest=False)
        where = names.gather(1, order)
    square = (best + query.square().sum(1, keepdim=True)).clamp_min(0) / query.shape[1]
    return where.numpy(), square.sqrt().numpy()


def guess(dataset: Dataset, x: Tensor | np.ndarray, k: int = 5) -> np.ndarray | None:
    """Guesses the class of images by those of the nearest training images, int64 (N,); None without labels."""
    if dataset.y is None:
        return None
    index, _ = neighbours(dataset, x, k)
    votes = np.eye(len(dataset.classes))[dataset.y[index]].sum(1)
    votes += 0.5 * np.eye(len(dataset.classes))[dataset.y[index[:, 0]]]  # a tie goes to the nearest
    return votes.argmax(1)


# --- The map --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Map:
    """Points of a latent space in two dimensions.

    Attributes:
        space: Where they lie.
        xy: Places, float32 (N, 2); y points down, as on a screen.
        points: Shape (N, D + K).
        labels: Class of each, int64 (N,): of an encoded image its own; of a sample the one asked for or, where the
            model listens to none, that of the nearest training image. None without labels.
        real: Which are encoded images, bool (N,).
        nearest: Distance to the nearest (other) training image, root mean square of pixels in [0, 1], (N,).
        density: How crowded the map is there, 0 to 1, (N,).
        notes: What to know about it, as sentences.
        features: What the projection starts from.
    """

    space: Space
    xy: np.ndarray = field(repr=False)
    points: Tensor = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    real: np.ndarray = field(repr=False)
    nearest: np.ndarray = field(repr=False)
    density: np.ndarray = field(repr=False)
    notes: tuple[str, ...]
    features: Features = field(repr=False)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The part of the plane that holds all points: left, top, right, bottom."""
        low, high = self.xy.min(0), self.xy.max(0)
        margin = 0.03 * np.maximum(high - low, 1e-6)
        (left, top), (right, bottom) = (low - margin).tolist(), (high + margin).tolist()
        return left, top, right, bottom

    def project(self, points: Tensor | np.ndarray) -> np.ndarray:
        """Finds the places of other points (M, D + K), float32 (M, 2)."""
        points = self.space.checked(points)
        if self.features.axes is not None:
            return self.features.straight(points)
        return _blend(
            self.features.of(points), self.features.of(self.points), torch.as_tensor(self.xy)
        ).numpy()

    def point_at(self, xy: np.ndarray | Sequence[Any]) -> Tensor:
        """Finds points for places (M, 2), (M, D + K): exact where the map is straight, else averaged from neighbours.

        Raises:
            UserError: If a place is not finite.
        """
        at = torch.as_tensor(np.asarray(xy, np.float32)).reshape(-1, 2)
        if not bool(at.isfinite().all()):
            raise UserError("A place on the map must be finite. Click inside it.")
        if self.features.axes is not None:
            return self.features.back(at)
        points = _blend(at, torch.as_tensor(self.xy), self.points.cpu()).to(self.points)
        if self.space.sphere:  # a mean of points on a sphere lies inside it
            inner = self.space.latent
            length = self.points[:, :inner].norm(dim=1).mean()
            z = points[:, :inner]
            points[:, :inner] = z * (length / z.norm(dim=1, keepdim=True).clamp_min(1e-8))
        return points

    def lattice(self, n: int) -> np.ndarray:
        """Decodes previews of n × n places over :attr:`box`, uint8 (n², C, H, W), row by row from the top.

        Raises:
            UserError: If there are too few or too many images a side.
        """
        if not 2 <= n <= MOST_SIDE:
            raise UserError(f"A lattice must have 2 to {MOST_SIDE} images a side, got {n}. Try 15.")
        left, top, right, bottom = self.box
        across = left + (np.arange(n) + 0.5) / n * (right - left)
        down = top + (np.arange(n) + 0.5) / n * (bottom - top)
        rows, columns = np.meshgrid(down, across, indexing="ij")
        return self.space.images(self.point_at(np.stack([columns.ravel(), rows.ravel()], 1)), True)


def _blend(at: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Averages values (N, V) of the nearest of known places (N, F) for other places (M, F); near ones count most."""
    far, order = torch.cdist(at.float(), known.float()).topk(min(BLEND, len(known)), largest=False)
    weight = 1 / (far + 1e-6 * (1 + far.amax(1, keepdim=True))) ** 2
    weight = weight / weight.sum(1, keepdim=True)
    return (weight[..., None] * values[order]).sum(1)


@dataclass(frozen=True, eq=False)
class Features:
    """What a projection starts from: latents where these vary unevenly, else the images that are decoded from them.

    Attributes:
        space: Of the points.
        mean: Of latents or pixels.
        basis: Their principal components, (F, k).
        axes: The two that make a straight map of latents, (D, 2); None for other maps.
        shares: Class shares of a straight map's points, (K,).
    """

    space: Space
    mean: Tensor
    basis: Tensor
    axes: Tensor | None
    shares: Tensor

    @torch.no_grad()
    def of(self, points: Tensor) -> Tensor:
        """Gives the features of points, (M, k)."""
        return ((_raw(self.space, points) - self.mean) @ self.basis).cpu()

    def straight(self, points: Tensor) -> np.ndarray:
        """Projects latents onto the two axes, float32 (M, 2)."""
        assert self.axes is not None
        z = points[:, : self.space.latent] - self.mean
        return (z @ self.axes).cpu().numpy()

    def back(self, at: Tensor) -> Tensor:
        """Gives the points of places on the axes, (M, D + K)."""
        assert self.axes is not None
        z = self.mean + at.to(self.axes) @ self.axes.T
        return torch.cat([z, self.shares.to(z).expand(len(z), -1)], 1)


def _raw(space: Space, points: Tensor) -> Tensor:
    if not space.even:
        return points[:, : space.latent]
    parts = [space.decode(part, quick=True).flatten(1) for part in points.split(256)]
    return torch.cat(parts)


def chart(
    space: Space,
    dataset: Dataset,
    method: str = "pca",
    count: int = 600,
    seed: int = 0,
    label: int | None = None,
) -> Map:
    """Makes a map of up to ``count`` encoded training images and as many samples; kept on the disk.

    Args:
        space: Of the model.
        dataset: What it was trained on.
        method: One of :func:`methods`.
        count: Of each kind.
        seed: Of the samples, and of the projection.
        label: Only this class; None for all.

    Raises:
        UserError: If there is no such projection or class, or the images are not the model's.

    References:
        van der Maaten and Hinton, 2008, Visualizing data using t-SNE
        McInnes et al., 2018, UMAP, https://arxiv.org/abs/1802.03426
    """
    if method == "umap":  # also where no page offers it
        optional("umap", METHODS[method], f"choose one of: {', '.join(methods())}")
    if method not in METHODS:
        raise UserError(
            f"There is no projection {method!r} here. Choose one of: {', '.join(methods())}."
        )
    if not 20 <= count <= 5000:
        raise UserError(f"A map must have 20 to 5000 points of a kind, got {count}. Try 600.")
    if label is not None and not 0 <= label < len(dataset.classes):
        raise UserError(
            f"The class must be a number from 0 to {len(dataset.classes) - 1}, got {label}. Choose another."
        )
    key = ("map", dataset.fingerprint, method, count, seed, label)
    return remember(space, key, lambda: _make(space, dataset, method, count, seed, label))


@torch.no_grad()
def _make(
    space: Space, dataset: Dataset, method: str, count: int, seed: int, label: int | None
) -> Map:
    notes = []
    parts: list[Tensor] = []
    labels: list[np.ndarray] = []
    nearest: list[np.ndarray] = []
    if space.encodes and not space.slow:
        chosen = dataset.splits["train"]
        if label is not None and dataset.y is not None:
            chosen = chosen[dataset.y[chosen] == label]
        chosen = evenly(chosen, count)
        y = None if dataset.y is None else dataset.y[chosen]
        x = dataset.images(chosen)
        parts.append(space.encode(x, None if y is None else y.tolist()))
        nearest.append(neighbours(dataset, x, 1, most=REFERENCE, but=chosen)[1][:, 0])
        labels.append(np.zeros(len(chosen), np.int64) if y is None else y)
    else:
        notes.append(
            "This model encodes too slowly for a map of images, so it shows samples."
            if space.encodes
            else "This model does not encode, so the map shows samples, and no training images."
        )
    samples = space.draw(range(count), None if label is None else [label] * count, seed)
    x = torch.cat([space.decode(part, quick=True) for part in samples.split(256)]).cpu()
    near, far = neighbours(dataset, x, 1, most=REFERENCE)
    keep = np.ones(count, bool)
    if dataset.y is not None:
        own = dataset.y[near[:, 0]]
        if space.classes:
            own = samples[:, space.latent :].argmax(1).cpu().numpy()
        elif label is not None:  # samples of all classes are chosen by their nearest training image
            keep = own == label if bool((own == label).any()) else keep
        labels.append(own[keep])
    else:
        labels.append(np.zeros(int(keep.sum()), np.int64))
    parts.append(samples[torch.as_tensor(keep, device=samples.device)])
    nearest.append(far[keep, 0])
    points = torch.cat(parts)
    real = np.zeros(len(points), bool)
    real[: len(points) - len(parts[-1])] = True

    raw = _raw(space, points)
    mean = raw.mean(0)
    _, basis = components(raw - mean, FEATURES)
    straight = method == "pca" and not space.even
    shares = points[:, space.latent :].mean(0)
    axes = None
    if straight:
        axes = basis[:, :2]
        if axes.shape[1] < 2:  # a single latent dimension: a line
            axes = torch.cat([axes, torch.zeros_like(axes)], 1)
    if straight and space.classes:
        notes.append(
            "Its lattice blends the classes of the map evenly; choose one class to see it."
        )
    features = Features(space, mean, basis, axes, shares)
    xy = _projected(space, features, points, method, seed, dataset.fingerprint, (count, label))
    return Map(
        space, xy, points, None if dataset.y is None else np.concatenate(labels), real,
        np.concatenate(nearest), _density(xy), tuple(notes), features,
    )  # fmt: skip


def _projected(
    space: Space,
    features: Features,
    points: Tensor,
    method: str,
    seed: int,
    data: str,
    ask: tuple[Any, ...],
) -> np.ndarray:
    if features.axes is not None:
        return features.straight(points).astype(np.float32)
    values = features.of(points).double().numpy()
    if method == "pca":
        return np.pad(values[:, :2], ((0, 0), (0, max(0, 2 - values.shape[1])))).astype(np.float32)
    recipe = [
        *space.key,
        space.sampling.record(),
        method,
        seed,
        data,
        ask,
        values.shape,
        float(np.abs(values).sum()),
    ]
    name = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:20]
    file = settings().cache / "maps" / f"{name}.npy"
    stored = _stored(file, len(values))
    if stored is not None:
        return stored
    values = values / max(1e-9, float(values.std(0).max()))
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(values) - 1) / 3)
        xy = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(
            values
        )
    else:
        umap = optional("umap", METHODS[method])
        model = umap.UMAP(n_neighbors=min(15, len(values) - 1), random_state=seed, n_jobs=1)
        xy = model.fit_transform(values)
    xy = np.asarray(xy, np.float32)
    memory = io.BytesIO()
    np.save(memory, xy, allow_pickle=False)
    files.keep(file, memory.getvalue())
    return xy


def _stored(file: Path, count: int) -> np.ndarray | None:
    try:
        xy = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = xy.shape == (count, 2) and xy.dtype == np.float32 and np.isfinite(xy).all()
    return xy if fits else None


def _density(xy: np.ndarray) -> np.ndarray:
    """Ranks places by how near their tenth neighbour is: 0 the loneliest, 1 the most crowded."""
    places = torch.as_tensor(xy)
    k = min(11, len(places))
    reach = torch.cdist(places, places).topk(k, largest=False).values[:, -1]
    rank = (-reach).argsort().argsort().float()
    return (rank / max(1, len(places) - 1)).numpy()

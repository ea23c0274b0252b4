"""What is measured of every image in one pass: hash, plain properties, features, and a spectrum blind to shifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.datasets import Dataset, evenly
from core.datasets.dataset import digests
from core.ground.watch import UNWATCHED, Watch
from core.tensors import Images, to_float

BATCH = 500
LARGEST = 32  # px that features are taken of
PROPERTIES = ("brightness", "contrast", "sharpness", "saturation", "dark", "clipped", "highest")


@dataclass(frozen=True)
class Measures:
    """What one pass has found.

    Attributes:
        keys: Content hashes, uint64 (N,).
        properties: By name, float32 (N,).
        pixels: The images averaged down to a few pixels, float32 (N, P).
        features: Standardised, float32 (N, D): rectified responses to patches of the images themselves.
        points: The features along their main directions, float32 (N, d), for distances.
        spectra: The sizes of the frequencies along their main directions, float32 (N, s).
    """

    keys: np.ndarray
    properties: dict[str, np.ndarray]
    pixels: Tensor
    features: Tensor
    points: Tensor
    spectra: Tensor


class Patches:
    """Features without training: responses to whitened patches of the images, rectified and averaged over regions.

    References:
        Coates and Ng, 2012, Learning feature representations with k-means
    """

    REGIONS = 4

    def __init__(self, few: Images, count: int, seed: int = 0) -> None:
        few = smaller(few)
        channels, size = few.shape[1:3]
        self.side = 3 if size < 12 else 6
        self.stride = 1 if size < 20 else 2
        generator = torch.Generator().manual_seed(seed)
        patches = F.unfold(few, self.side, stride=self.stride).transpose(1, 2).flatten(0, 1)
        patches = patches[torch.randperm(len(patches), generator=generator)[:50_000]]
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        ridge = 0.1 * values.mean().clamp_min(1e-6)
        white = vectors @ torch.diag((values.clamp_min(0) + ridge).rsqrt()) @ vectors.T
        whitened = (patches - mean) @ white
        lengths = whitened.norm(dim=1)
        lively = whitened[lengths > lengths.median()]  # flat patches say nothing
        lively = lively if len(lively) else whitened
        chosen = lively[torch.randperm(len(lively), generator=generator)[:count]]
        chosen = chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-6)
        weight = (white @ chosen.T).T  # (count, C side side)
        self.bias = -(weight @ mean) - 0.5
        self.weight = weight.view(-1, channels, self.side, self.side)

    def __call__(self, x: Images) -> Tensor:
        """Gives raw features (N, D)."""
        h = F.conv2d(smaller(x), self.weight, self.bias, stride=self.stride).relu_()
        return F.adaptive_avg_pool2d(h, self.REGIONS).flatten(1)


def smaller(x: Images) -> Tensor:
    """Averages images down to at most 32 px."""
    return x if x.shape[-1] <= LARGEST else F.adaptive_avg_pool2d(x, LARGEST)


def properties(x: Images) -> dict[str, Tensor]:
    """Measures plain properties of images in [0, 1], each (N,)."""
    grey = x.mean(1)
    flat = grey.flatten(1)
    contrast = flat.std(1)
    edges = (
        (grey[:, 1:-1, 1:-1] * 4 - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1])
        - grey[:, 1:-1, :-2]
        - grey[:, 1:-1, 2:]
    )
    ends = ((x <= 0) | (x >= 1)).all(1)
    return {
        "brightness": flat.mean(1),
        "contrast": contrast,
        "sharpness": edges.flatten(1).std(1) / contrast.clamp_min(1e-3),
        "saturation": (x.amax(1) - x.amin(1)).mean((1, 2)),
        "dark": flat.quantile(0.95, dim=1),  # of a dark image even the light parts are dark
        "clipped": ends.flatten(1).float().mean(1),
        "highest": flat.amax(1) - flat.amin(1),
    }


def spectra(x: Images) -> Tensor:
    """Gives the sizes of the spatial frequencies, (N, F): a shift by some pixels hardly changes them."""
    grey = smaller(x.mean(1, keepdim=True))[:, 0]
    grey = grey - grey.mean((1, 2), keepdim=True)
    return torch.fft.rfft2(grey, norm="ortho").abs().flatten(1)


def components(x: Tensor, count: int) -> Tensor:
    """Projects rows (N, D) onto their main directions, learned from at most 6 000 of them."""
    few = x[:: max(1, len(x) // 6000)]
    mean = few.mean(0)
    if len(few) < 2:
        return x[:, :count]
    _, vectors = torch.linalg.eigh(torch.atleast_2d(torch.cov((few - mean).T)))
    return (x - mean) @ vectors[:, -count:]


@torch.inference_mode()
def measure(dataset: Dataset, watch: Watch = UNWATCHED) -> Measures:
    """Looks at every image once, in batches, so that a memory map never has to be in memory whole."""
    count = len(dataset)
    spaced = evenly(np.arange(count), 2000)
    few = dataset.images(spaced)
    patches = Patches(few, 128 if count <= 80_000 else 32)
    whole = torch.empty(count, patches(few[:1]).shape[1])
    side = min(dataset.size, 14 if dataset.channels == 1 else 8)
    keys, plain, pixels, frequencies = [], [], [], []
    for start in range(0, count, BATCH):
        raw = np.array(dataset.x[start : start + BATCH])
        keys.append(digests(raw))
        x = to_float(torch.as_tensor(raw), dataset.levels)
        plain.append(properties(x))
        whole[start : start + BATCH] = patches(x)
        pixels.append(F.adaptive_avg_pool2d(x, side).flatten(1))
        frequencies.append(spectra(x))
        watch.count("Looking at", min(start + BATCH, count), count, "images")
    whole = whole.sub_(whole.mean(0)).div_(whole.std(0).clamp_min(1e-3) if count > 1 else 1.0)
    return Measures(
        np.concatenate(keys),
        {name: torch.cat([part[name] for part in plain]).numpy() for name in PROPERTIES},
        torch.cat(pixels),
        whole,
        components(whole, 48),
        components(torch.cat(frequencies), 32),
    )

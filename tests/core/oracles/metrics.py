"""Records what the reference libraries say about fixed arrays; the tests of the metrics compare with it.

The libraries are no dependency of the program. Run it in an environment of their own, after
``pip install torch-fidelity==0.4.0 torchmetrics==1.9.0 prdc==0.2 POT==0.9.7.post1``::

    python tests/core/oracles/metrics.py

Each value is stored as ``case/metric/library`` beside the arrays of its case.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ot  # type: ignore[import-not-found]
import torch
from prdc import compute_prdc  # type: ignore[import-not-found]
from torch_fidelity.metric_fid import (  # type: ignore[import-not-found]
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_isc import isc_features_to_metric  # type: ignore[import-not-found]
from torch_fidelity.metric_kid import kernel_mmd  # type: ignore[import-not-found]
from torch_fidelity.metric_prc import (  # type: ignore[import-not-found]
    calculate_precision_recall_full,
)
from torchmetrics.image.fid import _compute_fid  # type: ignore[import-not-found]
from torchmetrics.image.kid import poly_mmd  # type: ignore[import-not-found]

OUT = Path(__file__).with_name("metrics.npz")


def cases() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Makes real features, generated features and logits: alike, shifted with other scales, and few of many numbers.

    None is a copy of another: prdc leaves the border of a neighbourhood out, and a copy of a k-th neighbour lies on it.
    """
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((16, 16)) / 4
    real = rng.standard_normal((300, 16)) @ (np.eye(16) + mix)
    alike = rng.standard_normal((300, 16)) @ (np.eye(16) + mix)
    shifted = rng.standard_normal((300, 16)) * np.linspace(0.3, 1.6, 16) + 0.4
    wide = rng.standard_normal((260, 48)) * np.geomspace(0.1, 3, 48)
    other = np.concatenate([wide[:60] + 0.05, rng.standard_normal((200, 48)) + 0.2])
    logits = rng.standard_normal((300, 10)) * 2
    return {
        name: (a.astype(np.float32), b.astype(np.float32), c.astype(np.float32))
        for name, (a, b, c) in {
            "alike": (real, alike, logits),
            "shifted": (real, shifted, logits * 3),
            "wide": (wide, other, logits - np.linspace(0, 4, 10)),
        }.items()
    }


def values(real: np.ndarray, fake: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Asks every library."""
    a, b = (torch.from_numpy(x).double() for x in (real, fake))
    found = {}
    statistics = [fid_features_to_statistics(x) for x in (b, a)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)
    found["frechet/torch-fidelity"] = fid["frechet_inception_distance"]
    found["frechet/torchmetrics"] = float(
        _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    )
    found["kid/torch-fidelity"] = float(
        kernel_mmd(
            fake.astype(np.float64),
            real.astype(np.float64),
            kid_kernel="poly",
            kid_kernel_poly_degree=3,
            kid_kernel_poly_gamma=None,
            kid_kernel_poly_coef0=1.0,
        )
    )
    found["kid/torchmetrics"] = float(poly_mmd(a, b))
    for k in (3, 5):
        precision, recall = calculate_precision_recall_full(b, a, k)
        found[f"precision{k}/torch-fidelity"] = precision
        found[f"recall{k}/torch-fidelity"] = recall
        for name, value in compute_prdc(real, fake, k).items():
            found[f"{name}{k}/prdc"] = float(value)
    found["inception_score/torch-fidelity"] = isc_features_to_metric(
        torch.from_numpy(logits), 1, shuffle=False
    )["inception_score_mean"]
    n = min(len(a), len(b))
    weights = np.full(n, 1 / n)
    found["emd/POT"] = float(
        ot.emd2(weights, weights, ot.dist(real[:n], fake[:n], metric="euclidean"))
    )
    directions = np.random.default_rng(0).standard_normal((real.shape[1], 500))
    directions /= np.linalg.norm(directions, axis=0)
    found["sliced/POT"] = float(
        ot.sliced_wasserstein_distance(
            real[:n].astype(np.float64), fake[:n].astype(np.float64), projections=directions, p=2
        )
        ** 2
    )
    return found


def main() -> None:
    """Writes the file."""
    stored: dict[str, np.ndarray] = {}
    for name, (real, fake, logits) in cases().items():
        stored |= {f"{name}/real": real, f"{name}/fake": fake, f"{name}/logits": logits}
        for key, value in values(real, fake, logits).items():
            stored[f"{name}/{key}"] = np.float64(value)
            print(f"{name}/{key}: {value:.8g}")
    np.savez_compressed(OUT, **stored)


if __name__ == "__main__":
    main()

"""Records what cleanlab says about fixed probabilities; the tests of the label errors compare with it.

The library is no dependency of the program. Run it in an environment of its own, after ``pip install cleanlab==2.9.0``::

    python tests/core/oracles/labels.py

Each case stores its probabilities and labels, the labels that cleanlab calls wrong by confident learning, and all of
them in the order of its label quality, worst first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]
from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]

OUT = Path(__file__).with_name("labels.npz")


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Makes probabilities and labels: of few and many classes, even and uneven, surer and less sure."""
    rng = np.random.default_rng(0)
    made = {}
    for name, shares, sure, wrong in (
        ("two", [0.5, 0.5], 3.0, 0.1),
        ("uneven", [0.8, 0.15, 0.05], 2.0, 0.05),
        ("ten", [0.1] * 10, 4.0, 0.1),
        ("unsure", [0.25] * 4, 0.7, 0.05),
    ):
        truth = rng.choice(len(shares), 200, p=shares)
        logits = rng.standard_normal((200, len(shares)))
        logits[np.arange(200), truth] += sure
        given = np.where(rng.random(200) < wrong, rng.choice(len(shares), 200), truth)
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        made[name] = (chances.astype(np.float32), given.astype(np.int64))
    return made


def main() -> None:
    """Asks cleanlab, and writes what it says beside this file."""
    kept = {}
    for name, (chances, given) in cases().items():
        kept[f"{name}/chances"], kept[f"{name}/given"] = chances, given
        kept[f"{name}/wrong"] = find_label_issues(
            given, chances, filter_by="confident_learning", n_jobs=1
        )
        quality = get_label_quality_scores(given, chances, method="self_confidence")
        kept[f"{name}/order"] = np.argsort(quality, kind="stable")
    np.savez_compressed(OUT, **kept)


if __name__ == "__main__":
    main()

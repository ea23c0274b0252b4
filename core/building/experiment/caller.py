"""What the process of a training from outside runs: it needs nothing of Simulacra, so that it starts at once."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Calls the training, and writes what it says of the images that it is to name."""
    about = json.loads((folder / "about.json").read_text("utf-8"))
    sys.path.insert(0, about["folder"])
    module, _, function = about["trainer"].partition(":")
    fit = getattr(importlib.import_module(module), function)
    with np.load(folder / "given.npz", allow_pickle=False) as given:
        x, y, seen = (given[name] for name in ("x", "y", "seen"))
    predict = fit(x, y, about["classes"], about["seed"], about["steps"])
    np.save(folder / "said.npy", np.asarray(predict(seen)), allow_pickle=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How near a face comes to the truth of whose sketch it was made: error, attributes, and the time of a drawing.

Of the run that ships, on test faces: the mean squared error beside that of the mean training face, and the share whose
smile, glasses and hair a judge names as they truly are. A judge is trained for each of these on real training faces.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from PIL import Image

from benchmarks.evidence import row
from core import latent, runs
from core.classifier import Classifier, ClassifierConfig
from core.datasets import Dataset, assemble, faces
from core.ground.stats import mean, share
from core.training import TrainConfig, Trainer, spec_of
from core.training.trained import finished

RUN = "shipped-faces-pix2pix"
SMILING = 0.4  # from which a smile is one; no face lies between 0.12 and 0.6


def judge(dataset: Dataset, y: np.ndarray, names: tuple[str, ...]) -> torch.nn.Module:
    """Trains a classifier to name an attribute of real faces."""
    labelled = assemble(dataset.x, y.astype(np.int64), names, dataset.splits)
    torch.manual_seed(0)
    network = Classifier(ClassifierConfig(width=16), spec_of(labelled))
    config = TrainConfig(images=12_800, batch=64, watch=False)
    return finished(Trainer(network, labelled, config, torch.device("cpu")), "judge").eval()


def main() -> None:
    """Measures and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default=RUN)
    parser.add_argument("-n", type=int, default=1000, help="test faces")
    arguments = parser.parse_args()
    run = runs.find(arguments.run)
    opened, dataset = runs.open_model(run), latent.trained_on(run)
    assert dataset.attributes is not None
    index = dataset.splits["test"][: arguments.n]
    told = latent.condition_of(opened, dataset, index)
    made = torch.cat([latent.render(opened, part) for part in told.split(100)])
    truth = dataset.images(index)
    middle = dataset.images(dataset.splits["train"]).mean(0)
    error = (made - truth).square().flatten(1).mean(1)
    usual = (middle - truth).square().flatten(1).mean(1)
    relative = mean(error / usual.mean())
    conditions = f"{run.id}, {opened.images} training images, {len(index)} test faces of 32 px"
    row(
        f"sketch to face, squared error beside the mean face's: {relative.value:.3f} [{relative.low:.3f}, "
        f"{relative.high:.3f}] ({float(error.mean()):.4f} beside {float(usual.mean()):.4f})",
        conditions,
    )
    known = dataset.attributes
    wanted = {
        "smile": ((known["smile"] > SMILING).astype(int), ("no", "yes")),
        "glasses": (known["glasses"], faces.GLASSES),
        "hair style": (known["hair_style"], faces.HAIR_STYLES),
        "hair colour": (known["hair_colour"], faces.HAIR_COLOURS),
    }
    for name, (y, names) in wanted.items():
        network = judge(dataset, y, names)
        with torch.inference_mode():
            right, real = (
                share(
                    torch.cat([network(x).argmax(1) for x in images.split(500)]).numpy() == y[index]
                )
                for images in (made, truth)
            )
        row(
            f"sketch to face, {name} as it truly is: {right.value:.3f} [{right.low:.3f}, {right.high:.3f}], of the "
            f"true images {real.value:.3f}",
            conditions,
        )
    sheet = (told[0].permute(1, 2, 0) * 255).byte().numpy()  # (K, H, W) -> (H, W, K)
    drawing = np.asarray(Image.fromarray(sheet).resize((224, 224), Image.Resampling.NEAREST))
    took = []
    for _ in range(50):
        began = time.perf_counter()
        latent.drawn(opened, dataset, drawing)
        took.append((time.perf_counter() - began) * 1e3)
    row(
        f"sketch to face, time from a drawing of 224 px to the image: {np.median(took):.0f} ms, of 20 the slowest "
        f"{np.quantile(took, 0.95):.0f} ms",
        f"{torch.get_num_threads()} threads, without the browser",
    )


if __name__ == "__main__":
    main()

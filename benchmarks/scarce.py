"""Trains the GAN on few images of MNIST at 16×16, with and without adaptive augmentation, and measures both.

``python -m benchmarks.scarce --count 500 --images 100000 --seeds 0 1 2``

Same seeds, same number of images seen. The distance is taken to all 20 000 images that the few were chosen from, as a
ratio to that of real test images; the judge, the floor and the other columns are those of ``benchmarks.quality``. Also
printed: copying of the few, and how far the augmentation and the overfitting of the critic went. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from benchmarks.evidence import row
from benchmarks.quality import CPU, fewer, measured, prepared, started
from core.augment import CriticChain, load
from core.catalog import assign
from core.measure.features import judge
from core.models.gan import GANConfig
from core.training import TrainConfig


def main() -> None:
    """Trains, measures and prints one line per run and one per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="training images")
    parser.add_argument("--images", type=int, default=100_000, help="images seen, repeats included")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--augment", nargs="*", default=["off", "adaptive"])
    parser.add_argument("--chain", default="", help="a chain of Augment in place of the GAN's own")
    parser.add_argument(
        "--set", nargs="*", default=[], help="parameters: family.augment_target=0.3"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    whole = prepared("mnist16")
    few, by = fewer(whole, arguments.count), judge(whole, CPU)
    given = dict(item.split("=", 1) for item in arguments.set)
    parts = assign(given, {"family": GANConfig, "train": TrainConfig})
    print(f"{arguments.count} of {len(whole.splits['train'])} images, judge {by.accuracy:.1%}")
    for augment in arguments.augment:
        ratios = []
        for seed in arguments.seeds:
            config = parts["train"] | {"seed": seed, "images": arguments.images}
            trainer = started(
                "gan",
                parts["family"] | {"augment": augment},
                TrainConfig.of(config, "train"),
                few,
            )
            if arguments.chain and augment != "off":
                trainer.model.shown_through(CriticChain(load(arguments.chain)))
            began, course = time.process_time(), ""
            for progress in trainer:
                if "overfitting" in progress.values:
                    course = ", ".join(
                        f"{name} {progress.values[name]:.2f}"
                        for name in ("augmentation", "overfitting")
                    )
            spent = time.process_time() - began
            model = trainer.published()
            figures = measured(model, "gan", {}, whole, by, seed)
            figures["copying"] = measured(model, "gan", {}, few, by, seed)["copying"]
            ratios.append(figures["ratio"])
            names = ("ratio", "precision", "recall", "coverage", "conditional_accuracy", "copying")
            print(
                f"  {augment} seed {seed}: {trainer.steps} steps in {spent:.0f} CPU-s, "
                + ", ".join(f"{name} {figures[name]:.3g}" for name in names)
                + (f"; at the end {course}" if course else ""),
                flush=True,
            )
        row(
            f"{arguments.count} images, {augment}: ratio {statistics.mean(ratios):.3g} "
            f"({min(ratios):.3g} to {max(ratios):.3g})",
            f"{len(ratios)} seeds, {arguments.images:,} images seen",
        )


if __name__ == "__main__":
    main()

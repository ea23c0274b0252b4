"""Measures the preview of a chain, and its throughput against torchvision and Albumentations used image by image.

``python -m benchmarks.augment`` (Albumentations is measured where it is installed; it is no dependency of the project)

The same five steps everywhere, on the same images, one thread, in one run: rotate, shift, zoom, brightness, noise.
Throughput is told per second of the processor, which what else the machine does changes little; the preview also in
seconds of the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row
from core import augment
from core.augment import Chain, Pipeline, Step
from core.ground import sheets

STEPS = (
    Step.of("rotate", {"degrees": 15.0}),
    Step.of("translate", {"share": 0.1}),
    Step.of("scale", {"share": 0.2}),
    Step.of("brightness", {"amount": 0.3}),
    Step.of("noise", {"sigma": 0.1}),
)


def speed(act: Callable[[], Any], images: int, seconds: float) -> float:
    """Measures images per CPU-second: the best of three runs, for what else the machine does only slows down."""
    rates = []
    for _ in range(3):
        began, done = time.process_time(), 0
        while time.process_time() - began < seconds / 3:
            act()
            done += images
        rates.append(done / (time.process_time() - began))
    return max(rates)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[28, 96])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline(STEPS, "five")
    chain = Chain(pipeline)
    photos, _, _ = augment.photos(96)
    x = torch.as_tensor(np.tile(photos, (8, 1, 1, 1))).float() / 255  # 16 images
    print("preview of 16 images x 6 draws of 96 px, five steps, as PNG:")
    took: dict[str, list[float]] = {"by the clock": [], "of the processor": []}
    for repeat in range(arguments.repeats + 2):
        began, spent = time.perf_counter(), time.process_time()
        sheets.png(augment.grid(chain, x, repeat, 6).reshape(-1, *x.shape[1:]), 6)
        took["by the clock"].append(1000 * (time.perf_counter() - began))
        took["of the processor"].append(1000 * (time.process_time() - spent))
    for what, times in took.items():
        times = sorted(times[2:])
        p95 = times[int(0.95 * len(times))]
        print(
            f"  {what}: median {statistics.median(times):.0f} ms, p95 {p95:.0f} ms (n = {len(times)})"
        )
    for size in arguments.sizes:
        for channels in (1, 3):
            compared(chain, size, channels, arguments.seconds)


def compared(chain: Chain, size: int, channels: int, seconds: float) -> None:
    """Prints the throughput of the three for one kind of image."""
    x = torch.rand(128, channels, size, size, generator=torch.Generator().manual_seed(0))
    rates = {"this, batched": speed(lambda: chain(x, 0, range(128)), 128, seconds)}
    from torchvision.transforms import v2

    theirs = v2.Compose(
        [
            v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
            v2.RandomAffine(0, translate=(0.1, 0.1)),
            v2.RandomAffine(0, scale=(0.8, 1.2)),
            v2.ColorJitter(brightness=0.3),
            v2.Lambda(lambda x: (x + torch.randn_like(x) * 0.1 * torch.rand(1)).clamp(0, 1)),
        ]
    )
    rates["torchvision, per image"] = speed(
        lambda: [theirs(image) for image in x[:16]], 16, seconds
    )
    try:
        import albumentations as A
        import cv2

        cv2.setNumThreads(0)
    except ImportError:
        print(
            "  Albumentations is not installed, and left out (pip install 'albumentations<3', MIT)."
        )
    else:
        other = A.Compose(
            [
                A.Rotate(limit=15, p=1),
                A.Affine(translate_percent=(-0.1, 0.1), p=1),
                A.Affine(scale=(0.8, 1.2), p=1),
                A.RandomBrightnessContrast(brightness_limit=0.3, contrast_limit=0, p=1),
                A.GaussNoise(std_range=(0.0, 0.1), p=1),
            ]
        )
        arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in x[:64]]
        rates["Albumentations, per image"] = speed(
            lambda: [other(image=array)["image"] for array in arrays], 64, seconds
        )
    mine = rates["this, batched"]
    row(
        f"{channels} x {size} px: "
        + "; ".join(
            f"{name} {rate:,.0f} per CPU-s (1 : {mine / rate:.2f})" for name, rate in rates.items()
        )
    )


if __name__ == "__main__":
    main()

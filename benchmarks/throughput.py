"""Trains the classic GAN and the VAE at 28×28 with our loop and with the textbook one, in turns, in one process.

The textbook loop is what tutorials show: a torchvision dataset with ToTensor, a DataLoader, Adam, ``.item()`` at each
step. Both sides train the same networks from the same weights, float32, batch 128. Needs MNIST in SIMULACRA_DATA_DIR
(or downloads it). Prints images per second of each round, the ratio, and where our step spends its time.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets as tv
from torchvision import transforms

from benchmarks.evidence import row
from core import datasets
from core.catalog import assign
from core.ground.settings import settings
from core.models import build
from core.models.gan import CLASSIC, GANConfig
from core.training import TrainConfig, Trainer, spec_of

BATCH = 128


def textbook(model: Any, family: str, loader: DataLoader, steps: int) -> float:
    """Trains as tutorials do; gives the seconds."""
    bce = torch.nn.BCEWithLogitsLoss()
    if family == "gan":
        adam_d = torch.optim.Adam(model.critic.parameters(), 2e-4, (0.5, 0.999))
        adam_g = torch.optim.Adam(model.generator.parameters(), 2e-4, (0.5, 0.999))
    else:
        adam = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    done, start = 0, time.perf_counter()
    while True:
        for x, _ in loader:
            if family == "gan":
                real, fake = torch.ones(len(x)), torch.zeros(len(x))
                images = model.generator(torch.randn(len(x), model.config.latent_dim), None)
                adam_d.zero_grad()
                loss_d = bce(model.critic(x * 2 - 1, None), real) + bce(
                    model.critic(images.detach(), None), fake
                )
                loss_d.backward()
                adam_d.step()
                adam_g.zero_grad()
                loss_g = bce(model.critic(images, None), real)
                loss_g.backward()
                adam_g.step()
                _ = loss_d.item() + loss_g.item()
            else:
                adam.zero_grad()
                (loss,) = model.losses(x, None, generator, 1.0)
                loss.value.backward()
                adam.step()
                _ = loss.value.item()
            done += 1
            if done == steps:
                return time.perf_counter() - start


def ours(
    model: Any, dataset: datasets.Dataset, steps: int, values: dict[str, Any]
) -> tuple[float, dict[str, float]]:
    """Trains with our loop; gives the seconds and their split."""
    config = TrainConfig(images=steps * BATCH, batch=BATCH, precision="float32", **values)
    trainer = Trainer(model, dataset, config, torch.device("cpu"))
    start = time.perf_counter()
    for _ in trainer:
        pass
    return time.perf_counter() - start, trainer.laps.seconds


def main() -> None:
    """Measures all cases and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=settings().worker_threads)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = datasets.load("mnist")
    spec = spec_of(dataset)
    plain = tv.MNIST(settings().data, train=True, download=False, transform=transforms.ToTensor())
    loader = DataLoader(plain, BATCH, shuffle=True, drop_last=True)
    sorted_classic = assign(CLASSIC, {"family": GANConfig, "train": TrainConfig})
    print(
        f"MNIST 28×28, batch {BATCH}, float32, {arguments.threads} thread(s), "
        f"{arguments.rounds} rounds of {arguments.steps} steps"
    )
    for title, family, values, train in (
        ("classic GAN (mlp)", "gan", sorted_classic["family"], sorted_classic["train"]),
        ("VAE (dense)", "vae", {"network": "dense"}, {}),
        ("VAE (conv, default)", "vae", {}, {}),
    ):
        model = build(family, values, spec)
        ratios, speeds, peers, split = [], [], [], {}
        for _ in range(arguments.rounds):
            mine, split = ours(copy.deepcopy(model), dataset, arguments.steps, train)
            theirs = textbook(copy.deepcopy(model).train(), family, loader, arguments.steps)
            images = arguments.steps * BATCH
            speeds, peers, ratios = (
                [*speeds, images / mine],
                [*peers, images / theirs],
                [*ratios, theirs / mine],
            )
        total = sum(split.values())
        core = sum(split[name] for name in ("forward", "backward", "optimiser")) / total
        row(
            f"{title}, beside the textbook: ours {statistics.median(speeds):>7,.0f} images/s, "
            f"textbook {statistics.median(peers):>7,.0f}, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"outside forward, backward, optimiser {1 - core:.1%}: "
            + ", ".join(f"{name} {value / total:.1%}" for name, value in split.items())
        )


if __name__ == "__main__":
    main()

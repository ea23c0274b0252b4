"""Measures the training engine: images per second of every family, against public implementations, and on a GPU.

``python -m benchmarks.engine families``      training and sampling of every family, and the prior's key-value cache
``python -m benchmarks.engine peers``         the VAE against pythae, the diffusion model against
                                              denoising-diffusion-pytorch, on the same networks
``python -m benchmarks.engine accelerators``  on a GPU: what each accelerator gains, and the share of its bf16 peak

Digits, 8×8, float32 on the CPU, one thread unless told. Speeds are images per *CPU-second*, so that other work on the
machine counts little; sides that are compared take turns in one process. What is not installed, or not there, is said
and left out: ``pip install pythae denoising-diffusion-pytorch`` into an environment of its own.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.evidence import row
from core import datasets
from core.models import build, families
from core.models.vqvae import VQVAE, VQVAESampling
from core.tensors import to_float
from core.training import TrainConfig, Trainer, spec_of

CPU = torch.device("cpu")
BATCH = 64  # images per step that both sides of a comparison take


def seconds(run: Callable[[], Any]) -> float:
    """Gives the CPU-seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def in_turns(rounds: int, *sides: Callable[[], Any]) -> list[list[float]]:
    """Runs the sides in turns; gives the seconds of each round, by side. The first round is not counted."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds + 1):
        for column, side in zip(times, sides, strict=True):
            column.append(seconds(side))
    return [column[1:] for column in times]


def trainer(dataset: datasets.Dataset, model: Any, batch: int = 0, **values: Any) -> Trainer:
    """Makes a training that is in full swing, and ends by no means soon."""
    config = TrainConfig(images=10**9, batch=batch, **values)
    run = Trainer(model, dataset, config, CPU)
    run.step = 10_000  # where the averaged weights follow as slowly as in most of a training
    return run


def steps(run: Trainer, count: int) -> None:
    """Takes steps as the loop does, with a record at the end."""
    stop = run.step + count
    while run.step < stop:
        run.one_step()
    run.checks.look()


def by_family(rounds: int) -> None:
    """Prints training and sampling of every family at its defaults, and the prior with and without its cache."""
    dataset = datasets.load("digits")
    spec = spec_of(dataset)
    print(
        "family      training images/CPU-s   CPU-s of `quick`   sampling images/CPU-s (64 at once)"
    )
    for entry in families:
        model: Any = build(entry.name, {}, spec)
        run = trainer(dataset, model)
        count = 40 if entry.name != "vqvae" else 20
        each = in_turns(rounds, lambda run=run, count=count: steps(run, count))[0]
        speeds = [count * run.batch / one for one in each]
        if entry.name == "vqvae":  # two stages of different cost
            speeds = [
                1 / (0.4 / one + 0.6 / two)
                for one, two in zip(speeds, prior(dataset, rounds), strict=True)
            ]
        quick = entry.presets["quick"]["train.images"]
        published, sampling = run.published(), entry.sampling()
        if entry.name == "vqvae":
            published.begun.fill_(1.0)  # type: ignore[operator]
        draw: Any = published.sample
        (times,) = in_turns(
            rounds, lambda draw=draw, sampling=sampling: draw(range(64), None, 0, sampling)
        )
        speed = statistics.median(speeds)
        print(
            f"{entry.name:<11} {speed:>10,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
            f"{quick / speed:>16,.0f}{64 / statistics.median(times):>20,.0f}"
        )
    cache(rounds)


def prior(dataset: datasets.Dataset, rounds: int) -> list[float]:
    """Gives the images per CPU-second of the second stage of a VQ-VAE."""
    run = trainer(dataset, build("vqvae", {}, spec_of(dataset)))
    run.step = run.steps // 2
    (each,) = in_turns(rounds, lambda: steps(run, 20))
    return [20 * run.batch / one for one in each]


def cache(rounds: int) -> None:
    """Prints the drawing of codes with and without the key-value cache, for 4×4 and for 8×8 codes."""
    for size in (8, 32):
        dataset = datasets.load("faces", {"size": size}) if size > 8 else datasets.load("digits")
        model = build("vqvae", {}, spec_of(dataset))
        assert isinstance(model, VQVAE)
        model.eval().begun.fill_(1.0)
        y = torch.arange(64) % max(1, model.classes)

        def write(cached: bool, model: VQVAE = model, y: torch.Tensor = y) -> None:
            with torch.no_grad():
                model.write(range(64), y, 0, VQVAESampling(), cached)

        with_cache, without = in_turns(rounds, lambda: write(True), lambda: write(False))
        ratios = [b / a for a, b in zip(with_cache, without, strict=True)]
        row(
            f"prior, {model.grid}×{model.grid} codes, 64 at once: with the cache "
            f"{64 / statistics.median(with_cache):,.0f} images/CPU-s, without {64 / statistics.median(without):,.0f}; "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


# --- Against public implementations ---------------------------------------------------------------------------------


def peers(rounds: int) -> None:
    """Prints our loop and that of each library, with the same batch, on the same network or one as large."""
    dataset = datasets.load("digits")
    for name, values, peer in (
        ("vae", {"network": "dense"}, pythae_epoch),
        ("diffusion", {"network": "unet", "width": 48, "conditional": False}, ddpm_epoch),
        ("diffusion", {"network": "unet", "width": 48, "conditional": False}, ddpm_own_epoch),
    ):
        model: Any = build(name, values, spec_of(dataset))
        size = weights(model)
        try:
            theirs, their_size, title = peer(dataset, copy.deepcopy(model))
        except ImportError as error:
            print(f"{name}: left out, {error.name} is not installed.")
            continue
        run = trainer(dataset, model, BATCH)
        count = len(run.train) // BATCH  # as many as in an epoch
        mine, other = in_turns(rounds, partial(steps, run, count), theirs)
        ratios = [b / a for a, b in zip(mine, other, strict=True)]
        speed, peer_speed = (count * BATCH / statistics.median(each) for each in (mine, other))
        row(
            f"{name}: ours {speed:,.0f} images/CPU-s ({size:,} weights), "
            f"{title} {peer_speed:,.0f} ({their_size:,}); ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def pythae_epoch(dataset: datasets.Dataset, ours: Any) -> tuple[Callable[[], Any], int, str]:
    """Prepares an epoch of pythae's VAE on our networks, with its own loss and trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = ours.encoder, ours.posterior

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_var = self.last(self.body(x * 2 - 1)).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.body = ours.decoder

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=torch.tanh(self.body(z)).add(1).div(2))

    config = VAEConfig(input_dim=(1, 8, 8), latent_dim=ours.dim)
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    x = pictures(dataset)
    training = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, no_cuda=True
    )
    loop = BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=training)
    loop.prepare_training()
    return partial(loop.train_step, 1), weights(model), "pythae on the same networks"


def ddpm_epoch(dataset: datasets.Dataset, ours: Any) -> tuple[Callable[[], Any], int, str]:
    """Prepares an epoch of denoising-diffusion-pytorch on our network, with its own loss."""

    class Wrapped(nn.Module):
        channels = out_dim = 1
        self_condition = random_or_learned_sinusoidal_cond = False

        def __init__(self) -> None:
            super().__init__()
            self.code, self.net = ours.code, ours.net

        def forward(self, x: torch.Tensor, t: torch.Tensor, _: Any = None) -> torch.Tensor:
            return self.net(x, self.code(t / 1000, None, None))

    return _ddpm(dataset, Wrapped(), "denoising-diffusion-pytorch on the same network")


def ddpm_own_epoch(dataset: datasets.Dataset, ours: Any) -> tuple[Callable[[], Any], int, str]:
    """Prepares an epoch of denoising-diffusion-pytorch on its own UNet, about as large as ours."""
    from denoising_diffusion_pytorch import Unet

    return _ddpm(
        dataset,
        Unet(dim=16, dim_mults=(1, 2), channels=1),
        "denoising-diffusion-pytorch's own UNet",
    )


def _ddpm(
    dataset: datasets.Dataset, net: nn.Module, title: str
) -> tuple[Callable[[], Any], int, str]:
    """Trains as the library's Trainer does: its loss, Adam, clipping and average; batches of a DataLoader."""
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA

    model = GaussianDiffusion(net, image_size=8, timesteps=1000)
    adam = torch.optim.Adam(model.parameters(), 1e-4, (0.9, 0.99))
    ema = EMA(model, beta=0.995, update_every=10)
    images = torch.utils.data.TensorDataset(pictures(dataset))
    loader = torch.utils.data.DataLoader(images, BATCH, shuffle=True, drop_last=True)

    def epoch() -> None:
        for (batch,) in loader:
            loss = model(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad()
            ema.update()
            loss.item()

    return epoch, weights(net), title


def pictures(dataset: datasets.Dataset) -> torch.Tensor:
    """Gives whole batches of training images in [0, 1]."""
    x = to_float(torch.as_tensor(dataset.part("train")[0]), dataset.levels)
    return x[: len(x) // BATCH * BATCH]


def weights(model: nn.Module) -> int:
    """Counts the parameters."""
    return sum(param.numel() for param in model.parameters())


# --- On a GPU -------------------------------------------------------------------------------------------------------


def accelerators(rounds: int) -> None:
    """Prints what each accelerator gains, one by one, and how much of the bf16 peak a step reaches."""
    if not torch.cuda.is_available():
        print("accelerators: left out, there is no GPU that torch can use.")
        return
    gpu = torch.device("cuda")
    dataset = datasets.load("faces", {"size": 32})
    spec = spec_of(dataset)
    print(
        torch.cuda.get_device_name(),
        f"faces 32 px, batch 256, bf16 peak {peak() / 1e12:,.0f} TFLOP/s measured",
    )
    for entry in families:
        preset = {
            key.removeprefix("family."): value
            for key, value in entry.presets["gpu"].items()
            if key.startswith("family.")
        }
        base = 0.0
        for title, values, wide in (
            ("float32", {"precision": "float32", "compile": "off"}, False),
            ("+ bf16", {"precision": "bfloat16", "compile": "off"}, False),
            ("+ channels last", {"precision": "bfloat16", "compile": "off"}, True),
            ("+ compiled", {"precision": "bfloat16", "compile": "on"}, True),
        ):
            model = build(entry.name, preset, spec)
            config = TrainConfig.of({"images": 10**9, "batch": 256, **values}, "train")
            run = Trainer(model, dataset, config, gpu)
            if not wide:
                run.layout = torch.contiguous_format
                run.model.to(memory_format=run.layout)
            steps(run, 10)
            speeds = []
            for _ in range(rounds):
                torch.cuda.synchronize()
                start = time.perf_counter()
                steps(run, 20)
                torch.cuda.synchronize()
                speeds.append(20 * 256 / (time.perf_counter() - start))
            speed = statistics.median(speeds)
            base = base or speed
            row(
                f"{entry.name}, {title}: {speed:,.0f} images/s, {speed / base:.2f} of float32; "
                f"{share(run):.1%} of the peak, {torch.cuda.max_memory_allocated() / 2**20:,.0f} MB"
            )
            torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Measures the bf16 matrix product of this GPU, in FLOP/s."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    best = 0.0
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        best = max(best, 2 * 8192**3 / (time.perf_counter() - start))
    return best


def share(run: Trainer) -> float:
    """Gives the share of the bf16 peak that the products of a step reach."""
    from torch.utils.flop_counter import FlopCounterMode

    for module in run.model.modules():
        module._compiled_call_impl = None  # the counter looks at single operations
    with FlopCounterMode(display=False) as counter:
        steps(run, 1)
    torch.cuda.synchronize()
    start = time.perf_counter()
    steps(run, 20)
    torch.cuda.synchronize()
    return counter.get_total_flops() / ((time.perf_counter() - start) / 20) / peak()


def main() -> None:
    """Runs the parts that were named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    every = {"families": by_family, "peers": peers, "accelerators": accelerators}
    parser.add_argument("parts", nargs="*", choices=[*every, []], default=list(every))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        every[part](arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())

"""Figures of generators that come from outside, measured in one run on this machine.

A ``UNet2DModel`` of diffusers is trained on digits by that library's own recipe, written as its folder, and brought.

* ``frechet``: our paths against the library's own samplers at equal calls of the network, in principal components;
  what counts is the sampler that is usual here against the best of theirs
* ``inverse``: the squared error of images that are encoded and decoded again, and the calls that the way back takes
* ``pack``: 1 000 samples of a run that was packed and opened in another home, bit for bit

``python -m benchmarks.brought --seconds 300 --out FOLDER`` keeps the folder, which ``bring`` takes. Needs the extra
``diffusers``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.evidence import row
from core import brought, datasets, jobs, packs, runs, worker
from core.catalog import optional
from core.datasets import Dataset
from core.ground.settings import settings
from core.measure import distances, features
from core.models import Spec
from core.runs import Opened
from core.weights import Package

CALLS = (20, 50)
THEIRS = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")


def trained(data: Dataset, seconds: float, out: Path) -> Path:
    """Trains a network for so many CPU-seconds as the library's tutorial does, and writes its folder."""
    library = optional("diffusers", "This benchmark")
    torch.manual_seed(0)
    net = library.UNet2DModel(
        sample_size=data.size, in_channels=data.channels, out_channels=data.channels, layers_per_block=1,
        block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=8, attention_head_dim=16,
        num_class_embeds=len(data.classes),
    )  # fmt: skip
    scheduler = library.DDPMScheduler(num_train_timesteps=1000)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    index = data.splits["train"]
    x, y = data.images(index) * 2 - 1, torch.as_tensor(np.asarray(data.y)[index])
    average = {name: value.clone() for name, value in net.state_dict().items()}
    began, step = time.process_time(), 0
    while (used := time.process_time() - began) < seconds:
        rows = torch.randint(len(x), (64,))
        noise, at = torch.randn(64, *x.shape[1:]), torch.randint(1000, (64,))
        noisy = scheduler.add_noise(x[rows], noise, at)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, 20 * (1 - used / seconds) + 0.02) * min(1, (step + 1) / 50)
        loss = F.mse_loss(net(noisy, at, class_labels=y[rows]).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        keep = min(0.998, step / (step + 10))
        for name, value in net.state_dict().items():
            average[name].lerp_(value, 1 - keep)
    net.load_state_dict(average)
    print(f"{step} steps in {used:.0f} CPU-seconds, last loss {float(loss.detach()):.4f}")
    net.save_pretrained(out / "unet")
    scheduler.save_pretrained(out / "scheduler")
    index_of = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],
                "scheduler": ["diffusers", "DDPMScheduler"]}  # fmt: skip
    (out / "model_index.json").write_text(json.dumps(index_of), encoding="utf-8")
    return out


def theirs(name: str, opened: Opened, y: torch.Tensor, calls: int) -> torch.Tensor:
    """Draws with a sampler of the library, in so many calls."""
    library = optional("diffusers", "This benchmark")
    taught = {"num_train_timesteps": 1000}
    scheduler = getattr(library, name)(**taught)
    scheduler.set_timesteps(calls)
    draw = torch.Generator().manual_seed(0)
    shares = torch.eye(len(opened.classes))[y]
    x = torch.randn(len(y), *opened.spec.shape, generator=draw) * getattr(
        scheduler, "init_noise_sigma", 1.0
    )
    for at in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, at)
        out = opened.model.net(scaled, at.expand(len(x)), class_labels=shares).sample
        more = {} if name == "DPMSolverMultistepScheduler" else {"generator": draw}
        x = scheduler.step(out, at, x, **more).prev_sample
    return (x / 2 + 0.5).clamp(0, 1)


def ours(opened: Opened, y: torch.Tensor, sampler: str, steps: int) -> torch.Tensor:
    """Draws along our path."""
    sampling = opened.sampling.of({"sampler": sampler, "steps": steps})  # type: ignore[union-attr]
    return opened.model.sample(range(len(y)), y, 0, sampling)


@torch.no_grad()
def frechet(
    opened: Opened, data: Dataset, n: int, counts: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Compares Fréchet distances to the test images at equal calls of the network."""
    extractor = features.components(data, torch.device("cpu"))
    test = data.images(data.splits["test"])
    real = extractor.features(test)
    floor = distances.frechet(
        extractor.features(data.images(data.splits["train"][: len(test)])), real
    )
    y = torch.arange(n) % len(data.classes)
    found = []
    for calls in counts:
        ways = {
            f"their {name.removesuffix('Scheduler')}": lambda name=name, calls=calls: theirs(
                name, opened, y, calls
            )
            for name in names
        } | {
            "our Euler": lambda calls=calls: ours(opened, y, "euler", calls),
            "our Heun": lambda calls=calls: ours(opened, y, "heun", calls // 2),
        }
        for way, draw in ways.items():
            began = time.process_time()
            x = draw()
            value = distances.frechet(
                extractor.features(data.medium.to_model(data.medium.items(x))), real
            )
            found.append({
                "calls": calls, "way": way, "frechet": round(value, 4), "times floor": round(value / floor, 2),
                "cpu seconds": round(time.process_time() - began, 1),
            })  # fmt: skip
            print(found[-1])
    return found


@torch.no_grad()
def inverse(opened: Opened, data: Dataset) -> list[dict[str, Any]]:
    """Encodes and decodes test images, of their classes and unguided, by each sampler."""
    index = data.splits["test"][:100]
    x, y = data.images(index), torch.as_tensor(np.asarray(data.y)[index])
    looks = [0]
    hook = opened.model.net.register_forward_hook(lambda *call: looks.append(looks.pop() + 1))
    found = []
    for sampler, steps in (("euler", 20), ("euler", 50), ("heun", 20)):
        looks[0] = 0
        sampling = opened.sampling.of({"sampler": sampler, "steps": steps})  # type: ignore[union-attr]
        z = opened.model.encode(x, y, sampling)
        back = looks[0]
        error = (opened.model.decode(z, y, sampling) - x).square().flatten(1).mean(1)
        found.append({
            "sampler": sampler, "steps": steps, "calls": back, "error": float(error.mean()),
            "worst": float(error.max()), "square of the noise": round(float(z.square().mean()), 3),
        })  # fmt: skip
        print(found[-1])
    hook.remove()
    return found


def packed(name: str, count: int = 1000) -> bool:
    """Packs a shipped run, opens it in another home, and compares samples bit for bit."""
    source = jobs.get(name)
    opened = runs.open_model(source)
    old = opened.model.sample(range(count), None, 0, opened.usual)
    package = Package.sent([("run.zip", packs.pack(source))])
    job = jobs.get(brought.keep("packed", package, {}, datasets.load("digits")).id)
    again = runs.open_model(job)
    return torch.equal(old, again.model.sample(range(count), None, 0, again.usual))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300, help="CPU-seconds of training (300)")
    parser.add_argument("--samples", type=int, default=1000, help="of each way (1000)")
    parser.add_argument("--folder", type=Path, help="one that is trained already")
    parser.add_argument(
        "--calls", type=int, nargs="+", default=CALLS, help="of the network (20 50)"
    )
    parser.add_argument(
        "--theirs", nargs="+", default=THEIRS, help="samplers of the library (three)"
    )
    parser.add_argument("--out", type=Path, help="where the trained folder is kept")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["SIMULACRA_HOME"] = place
        settings.cache_clear()
        jobs.spawn = worker.work
        data = datasets.load("digits")
        folder = arguments.folder or trained(
            data, arguments.seconds, arguments.out or Path(place) / "net"
        )
        kept = brought.keep("theirs", brought.read(folder), {}, data)
        run = jobs.get(kept.id)
        if run.status != "finished":
            raise SystemExit(run.message)
        opened = runs.open_model(run)
        result: dict[str, Any] = {
            "parameters": sum(p.numel() for p in opened.model.parameters()),
            "seconds per picture": runs.record(run)["package"]["seconds"],
            "spec": str(Spec.of(runs.record(run)["spec"])),
            "frechet": frechet(opened, data, arguments.samples, arguments.calls, arguments.theirs),
            "inverse": inverse(opened, data),
            "packed": {
                name: packed(name) for name in ("shipped-digits-gan", "shipped-digits-diffusion")
            },
        }
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    euler, fine, heun = result["inverse"]
    row(
        f"Images encoded and decoded again by a brought DDPM: squared error {euler['error']:.1e}, "
        f"{euler['calls']} calls for the way back",
        f"digits, 100 test images, Euler of 20 steps, guidance 1; of 50 steps {fine['error']:.1e} and "
        f"{fine['calls']} calls, Heun of 20 steps {heun['error']:.1e} and {heun['calls']}",
    )
    usual = {"euler": "our Euler", "heun": "our Heun"}[opened.usual.sampler]  # type: ignore[attr-defined]
    for calls in arguments.calls:
        at = {each["way"]: each["frechet"] for each in result["frechet"] if each["calls"] == calls}
        best = min((value, way) for way, value in at.items() if way.startswith("their"))
        row(
            f"A brought DDPM beside its own best sampler at {calls} calls: "
            f"{at[usual] / best[0]:.2f} × the Fréchet distance",
            f"digits, {arguments.samples} samples, {arguments.seconds:.0f} CPU-seconds of training, principal "
            f"components; {at[usual]:.2f} ({usual}) against {best[0]:.2f} ({best[1]}); "
            + ", ".join(
                f"{way} {value:.2f}" for way, value in at.items() if way not in (usual, best[1])
            ),
        )


if __name__ == "__main__":
    main()

"""Figures of sounds: what a judge hears, what a model makes, and how soon it is heard.

    python -m benchmarks.sound speech RECORDINGS --seconds 150 --json speech.json
    python -m benchmarks.sound keep speech.json      # writes the rows of docs/evidence.md
    python -m benchmarks.sound made RUN
    python -m benchmarks.sound press URL

``speech`` wants recordings of spoken digits of three speakers, ``<digit>_<speaker>_<n>.wav``: two of them are learned
from (those from the tenth on; the first five of each are the test), the third is never heard. Two judges are trained,
with and without practice on changed sounds, then a diffusion model for so many CPU-seconds of this process, whose
samples are heard as sounds. ``made`` times what a server does for a press on the pad of a model of sounds, and
``press`` presses there in a browser, and times the first sound.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evidence import row

HELD = 5  # recordings of each digit and speaker for the test, and as many that only steer


def spoken(folder: Path) -> tuple[Any, Any]:
    """Gives the recordings of two speakers as a dataset, and those of the third as another."""
    from core import datasets
    from core.datasets import assemble

    whole: Any = datasets.bring("spoken", {"path": str(folder), "names": "label_speaker_number"})
    names = [Path(name).stem.split("_") for name in whole.attributes["picture"]]
    who, n = np.array([name[1] for name in names]), np.array([int(name[2]) for name in names])
    third = sorted(set(who))[1] if "lucas" not in who else "lucas"
    known = who != third
    part = {
        "train": np.flatnonzero(known & (n >= 2 * HELD)),
        "valid": np.flatnonzero(known & (n >= HELD) & (n < 2 * HELD)),
        "test": np.flatnonzero(known & (n < HELD)),
    }
    kept = np.sort(np.concatenate(list(part.values())))
    place = np.full(len(whole), -1)
    place[kept] = np.arange(len(kept))
    x = np.asarray(whole.x)
    data = assemble(
        x[kept], whole.y[kept], whole.classes,
        {name: place[rows] for name, rows in part.items()}, medium="sound", name="spoken",
    )  # fmt: skip
    return data, assemble(
        x[who == third], whole.y[who == third], whole.classes,
        {"train": np.arange((who == third).sum()), "valid": np.zeros(0, int), "test": np.zeros(0, int)},
        medium="sound", name="third",
    )  # fmt: skip


@torch.no_grad()
def heard(net: Any, seen: torch.Tensor) -> np.ndarray:
    """Names the classes that a judge hears."""
    return torch.cat([net(part).argmax(1) for part in seen.split(100)]).numpy()


def judge(data: Any, images: int, practised: bool) -> tuple[Any, float]:
    """Trains a judge; gives it, and the CPU-seconds."""
    from core.classifier import Classifier, ClassifierConfig
    from core.training import TrainConfig, Trainer, spec_of

    began = time.process_time()
    torch.manual_seed(0)
    net = Classifier(ClassifierConfig(width=16), spec_of(data))
    config = TrainConfig(images=images, batch=64, precision="float32")
    practise = data.medium.practise if practised else None
    trainer = Trainer(net, data, config, torch.device("cpu"), practise=practise)
    for _ in trainer:
        pass
    return trainer.published(), time.process_time() - began


def generator(
    data: Any, seconds: float, batch: int, values: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Trains a diffusion model for so many CPU-seconds of this process."""
    from core.models import families
    from core.training import TrainConfig, Trainer, spec_of

    family = families.get("diffusion")
    torch.manual_seed(0)
    model = family.make(family.config.of(values, "family"), spec_of(data))
    began = time.process_time()
    pilot = Trainer(model, data, TrainConfig(images=8 * batch, batch=batch), torch.device("cpu"))
    pilot.one_step()
    at = time.process_time()
    for _ in range(6):
        pilot.one_step()
    pace = (time.process_time() - at) / 6
    torch.manual_seed(0)
    model = family.make(family.config.of(values, "family"), spec_of(data))
    left = seconds - (time.process_time() - began)
    steps = max(10, int(left / pace * 0.97))
    config = TrainConfig(images=steps * batch, batch=batch)
    trainer = Trainer(model, data, config, torch.device("cpu"))
    while trainer.step < trainer.steps and time.process_time() - began < seconds:
        trainer.one_step()
    took = time.process_time() - began
    facts = {"steps": trainer.step, "of": trainer.steps, "batch": batch, "seconds": took}
    return trainer.published(), family, facts


def speech(
    folder: Path, seconds: float, batch: int, guidance: list[float], images: int, bare: bool
) -> dict[str, Any]:
    """Measures judges, and samples as they are heard."""
    from core.measure.distances import frechet

    data, third = spoken(folder)
    medium = data.medium
    result: dict[str, Any] = {}
    test, y = data.images(data.splits["test"]), data.y[data.splits["test"]]
    began = time.process_time()
    again = medium.to_model(medium.items(test))
    result["voice"] = {
        "ms": (time.process_time() - began) / len(test) * 1000,
        "dB": 80 * float((again - test).square().mean().sqrt()),
    }
    other = third.images(third.splits["train"])
    for name, practised in [("bare", False)] * bare + [("practised", True)]:
        net, took = judge(data, images, practised)
        result[name] = {
            "seconds": took,
            "test": float((heard(net, test) == y).mean()),
            "after the waveform": float((heard(net, again) == y).mean()),
            "third speaker": float((heard(net, other) == third.y).mean()),
        }
        print(name, result[name], flush=True)
    if seconds:
        train = data.images(data.splits["train"])
        model, family, facts = generator(data, seconds, batch, {})
        result["diffusion"] = facts

        @torch.no_grad()
        def features(seen: torch.Tensor) -> np.ndarray:
            return torch.cat([net.features(part) for part in seen.split(100)]).double().numpy()

        real, floor = features(train), frechet(features(train), features(test))
        near = medium.near(data.items(data.splits["train"]))
        unseen = torch.cdist(medium.near(data.items(data.splits["test"])), near).min(1).values
        asked = torch.arange(200) % 10
        for pull in guidance:
            sampling = family.sampling.of({"guidance": pull}, "sampling")
            began = time.process_time()
            seen = torch.cat(
                [
                    model.sample(range(i, i + 50), asked[i : i + 50], 0, sampling)
                    for i in range(0, 200, 50)
                ]
            )
            items = medium.items(seen)
            took = (time.process_time() - began) / 200 * 1000
            wave = medium.to_model(items)
            apart = torch.cdist(medium.near(items), near).min(1).values
            halves = [frechet(real, features(wave[i::2])) for i in range(2)]
            result[f"guidance {pull:g}"] = {
                "asked digit, as made": float((heard(net, seen) == asked.numpy()).mean()),
                "asked digit, as heard": float((heard(net, wave) == asked.numpy()).mean()),
                "Fréchet over floor": float(np.mean(halves)) / floor,
                "nearest ratio": float(apart.median() / unseen.median()),
                "ms": took,
            }
            print(pull, result[f"guidance {pull:g}"], flush=True)
    return result


def keep(result: dict[str, Any]) -> None:
    """Writes the rows of what was measured of speech."""
    known = "800 recordings of two speakers, 100 others for the test, 500 of a third speaker"
    for name, words in (("bare", "without practice"), ("practised", "that practised")):
        if found := result.get(name):
            row(
                f"spoken digits, accuracy of a judge {words}: {found['test']:.3f}, after the waveform "
                f"{found['after the waveform']:.3f}, on a speaker never heard {found['third speaker']:.3f}",
                f"{known}; {found['seconds']:.0f} CPU-s of training",
            )
    if voice := result.get("voice"):
        row(
            f"spoken digits, way to the waveform and back: {voice['dB']:.2f} dB between the spectrograms, "
            f"{voice['ms']:.0f} ms a sound",
            "100 recordings, 1.024 s at 8 kHz, one thread",
        )
    for name, found in result.items():
        if name.startswith("guidance"):
            training = result["diffusion"]
            row(
                f"spoken digits, diffusion, {name}: the judge hears the digit that was asked for in "
                f"{found['asked digit, as heard']:.3f} of the sounds ({found['asked digit, as made']:.3f} before the "
                f"waveform); Fréchet distance {found['Fréchet over floor']:.1f} times the floor; nearest training "
                f"sound {found['nearest ratio']:.2f} times as far as of real test sounds",
                f"{training['seconds']:.0f} CPU-s, {training['steps']} steps of {training['batch']}, 200 samples, "
                f"{found['ms']:.0f} ms each",
            )


def made(run: str, count: int = 60) -> dict[str, float]:
    """Times what the server does for a press on the pad: the point decoded, its picture, its sound, and the files."""
    from core import jobs, latent, runs
    from core.ground import sheets

    space = latent.open_space(runs.open_model(jobs.get(run)))
    waits = []
    for point in space.draw(list(range(count)), None, 0):
        began = time.perf_counter()
        picture, item = space.image(point), space.items(point[None])[0]
        sheets.png(picture[None], 1)
        space.medium.alone(item, 256)
        sheets.png(space.medium.pictures(item[None]), 1)
        waits.append(1000 * (time.perf_counter() - began))
    waits = waits[3:]
    return {"p50": statistics.median(waits), "p95": float(np.quantile(waits, 0.95))}


def press(url: str, presses: int = 30) -> list[float]:
    """Presses on the pad of a page of a running app; gives the milliseconds from each press to its sound."""
    from playwright.sync_api import sync_playwright

    waits = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        pad = page.locator("canvas.over").first
        pad.wait_for(timeout=120_000)
        page.wait_for_timeout(6000)
        box = pad.bounding_box()
        assert box is not None
        player = page.locator(".st-key-latent-item .box").first
        rng = np.random.default_rng(0)
        for number in range(presses):
            x, y = (0.1 + 0.8 * rng.random(2)) * [box["width"], box["height"]]
            before = player.get_attribute("data-plays") or "0"
            page.mouse.move(box["x"] + x, box["y"] + y)
            page.mouse.down()
            for _ in range(200):
                if (player.get_attribute("data-plays") or "0") != before:
                    break
                page.wait_for_timeout(10)
            if number > 2:  # the first ones warm everything up
                waits.append(float(player.get_attribute("data-wait") or "nan"))
            page.mouse.up()
            page.wait_for_timeout(600)
        browser.close()
    return waits


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speech", "keep", "made", "press"))
    parser.add_argument(
        "of",
        help="the folder of recordings, what --json wrote, a run, or the address of Latent space",
    )
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.75, 3.0])
    parser.add_argument("--images", type=int, default=20_000, help="that a judge sees")
    parser.add_argument(
        "--bare", action="store_true", help="also measure a judge that does not practise"
    )
    parser.add_argument("--json", help="where what was measured is written")
    arguments = parser.parse_args()
    if arguments.what == "keep":
        keep(json.loads(Path(arguments.of).read_text("utf-8")))
        return
    if arguments.what == "made":
        result: Any = made(arguments.of)
        print(json.dumps(result))
    elif arguments.what == "press":
        waits = press(arguments.of)
        result = {
            "p50": statistics.median(waits),
            "p95": float(np.quantile(waits, 0.95)),
            "n": len(waits),
        }
        print(json.dumps(result))
    else:
        os.environ["SIMULACRA_HOME"] = tempfile.mkdtemp()
        result = speech(
            Path(arguments.of),
            arguments.seconds,
            arguments.batch,
            arguments.guidance,
            arguments.images,
            arguments.bare,
        )
        print(json.dumps(result, indent=1))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()

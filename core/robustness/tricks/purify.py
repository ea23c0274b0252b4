"""Images are cleaned by a generative model before they are classified, and that defence is attacked in three ways.

References (used throughout the code):
    [1] Samangouei et al., 2018, Defense-GAN, https://arxiv.org/abs/1805.06605
    [2] Nie et al., 2022, Diffusion models for adversarial purification, https://arxiv.org/abs/2205.07460
    [3] Athalye et al., 2018, Obfuscated gradients (BPDA, EOT), https://arxiv.org/abs/1802.00420
    [4] Lee and Kim, 2023, Robust evaluation of diffusion-based adversarial purification, https://arxiv.org/abs/2303.09051
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import Config, knob
from core.datasets import Dataset
from core.ground.writing import percent
from core.models import Decodes, Encodes, Purifies, Spreads, Traces, differentiates
from core.norms import LINF
from core.robustness import attacks
from core.robustness.tricks import Shown, TrickConfig, images_of, row, share, strip, tricks
from core.runs import Opened
from core.target import Target
from core.tensors import Images, noise

DRAWS = 20  # of a random defence, for its final score


class PurifyConfig(TrickConfig):
    """Parameters of purification."""

    noise: float = knob(
        0.3,
        "Share of the way to noise that a diffusion model purifies from.",
        ge=0.02,
        le=0.9,
        advanced=True,
    )
    inner: int = knob(
        8,
        "Steps of the purifier (diffusion); an inversion takes ten times as many.",
        ge=1,
        le=100,
        advanced=True,
        visitor=20,
    )
    draws: int = knob(
        4,
        "Draws that each gradient is the mean of, for a random purifier (EOT).",
        ge=1,
        le=50,
        advanced=True,
        visitor=10,
    )


class Purified(nn.Module):
    """A classifier behind a purifier.

    Args:
        purify: From images to images, perhaps random.
        classify: From images to logits.
        through: ``full`` differentiates the purifier; ``identity`` takes its gradient for that of the identity [3].
    """

    def __init__(
        self, purify: Callable[[Tensor], Tensor], classify: Callable[[Tensor], Tensor], through: str
    ) -> None:
        super().__init__()
        self.purify, self.classify, self.through = purify, classify, through

    def forward(self, x: Images) -> Tensor:
        """Gives the logits of purified images."""
        if self.through == "full":
            return self.classify(self.purify(x))
        with torch.no_grad():
            clean = self.purify(x.detach())
        return self.classify(x + (clean - x).detach())


def _purifies(opened: Opened) -> bool:
    model = opened.model
    # an exact encoder would leave everything in, and along a path a search takes too many passes
    return isinstance(model, Purifies | Spreads) or (
        isinstance(model, Decodes)
        and not isinstance(model, Encodes | Traces)
        and differentiates(model, opened.usual)
    )


@tricks.add("purify", "Purify before classifying", PurifyConfig, fits=_purifies, classifier=True)
def purification(
    config: PurifyConfig, opened: Opened, dataset: Dataset, target: Target
) -> Iterator[Shown]:
    """Cleans images with the model before they are classified, and attacks that in three ways, ever stronger [3, 4]."""
    x, y = images_of(opened, dataset, config.n)
    y = y.to(target.device)
    eps = tricks.get("purify").strength(dataset, config.eps)
    purify, random, why_not = purifier(config, opened)
    draws = DRAWS if random else 1

    def shown(images: Images) -> Images:
        return dataset.medium.from_model(purify(dataset.medium.to_model(images)))

    def behind(through: str, eot: int) -> Target:
        purified = Target(
            Purified(purify, target.module, through), target.classes, target.shape,
            medium=target.medium.name, name="purified", device=target.device,
            card={**target.card, "purifier": opened.run},
        )  # fmt: skip
        return purified.with_(eot=eot, logs=target.logs)

    def score(images: Images) -> float:
        """The mean over draws: one lucky draw is no success, and no defence."""
        with torch.no_grad():
            defended = behind("identity", 1)
            right = [(defended.predict(images) == y).float() for _ in range(draws)]
            return float(torch.stack(right).mean())

    def undefended(images: Images) -> float:
        return float((target.predict(images) == y).float().mean())

    def accuracy(name: str, right: float, what: str) -> dict[str, Any]:
        counted = share(name, round(right * len(x)), len(x), what)
        return counted | {"value": percent(right)}  # a mean over draws need not be whole images

    numbers = [
        accuracy("Clean, no defence", undefended(x), "accuracy of the classifier alone"),
        accuracy("Clean, purified", score(x), "what purification costs"),
    ]
    with torch.no_grad():
        cleaned = shown(x)
    pictures = [strip("Images", x), strip("Purified", cleaned)]
    yield Shown("Attacking the classifier alone.", list(numbers), pictures, None, 0.1)
    more = {"config": {"steps": config.steps, "loss": "margin"}, "seed": config.seed}
    moved = attacks.run("pgd", target, x, y, eps, **more).adversarial
    grey = score(moved)
    unaware = "the attacker does not know of the purifier"
    numbers += [
        accuracy("No defence, attacked", undefended(moved), f"PGD of {LINF.text(eps)}"),
        accuracy("1. Attack on the classifier alone", grey, unaware),
    ]
    doing = "Attacking through the purifier, taken for the identity (BPDA)."
    yield Shown(doing, list(numbers), pictures, None, 0.4)
    more |= {"active": False}
    eot = config.draws if random else 1
    moved = attacks.run("pgd", behind("identity", eot), x, y, eps, **more).adversarial
    last = score(moved)
    numbers.append(
        accuracy("2. BPDA + EOT", last, "the purifier's gradient is taken for the identity's")
    )
    pictures = [
        *pictures,
        strip("Attacked (BPDA)", moved),
        strip("Purified after the attack", shown(moved).detach()),
    ]
    if why_not:
        numbers.append(row("3. Full gradient", "–", why_not, 0))
    else:
        yield Shown("Attacking through the whole purifier.", list(numbers), pictures, None, 0.7)
        moved = attacks.run("pgd", behind("full", eot), x, y, eps, **more).adversarial
        full = score(moved)
        numbers.append(accuracy("3. Full gradient", full, "the gradient goes through every step"))
        last = min(last, full)
    yield Shown(
        f"Purification seems to give {percent(grey)} against an attacker who does not know of it, and "
        f"{percent(last)} against the strongest of those who do. Published purifiers fell in the same way when attacks "
        "followed them (Athalye et al. 2018; Lee and Kim 2023): believe the lowest number, as an upper bound.",
        numbers,
        pictures,
        None,
        1.0,
    )  # fmt: skip


def purifier(config: PurifyConfig, opened: Opened) -> tuple[Callable[[Tensor], Tensor], bool, str]:
    """Gives how a model cleans images, whether that is random, and why it has no full gradient (or nothing)."""
    model, sampling, classes = opened.model, opened.usual, opened.model.classes
    device = next(model.parameters()).device
    if isinstance(model, Purifies):
        drawn = torch.Generator(device).manual_seed(config.seed)
        return lambda x: model.purify(x, config.noise, config.inner, drawn), True, ""
    if isinstance(model, Spreads):

        def encoded(x: Tensor) -> Tensor:
            # shares of classes for a model that wants a class where none is known
            shares = x.new_full((len(x), classes), 1 / classes) if classes else None
            return model.decode(model.encode(x, shares, sampling), shares, sampling).clamp(0, 1)

        return encoded, False, ""

    def inverted(x: Tensor) -> Tensor:
        return invert(model, x.detach(), 10 * config.inner, config.seed, sampling)

    return (
        inverted,
        False,
        "An inversion is itself an optimisation: its gradient would have to unroll every step of it.",
    )


def invert(model: Any, x: Images, steps: int, seed: int, sampling: Config) -> Images:
    """Finds the generated images nearest to some, over all classes, by Adam on the latents [1]."""
    classes = max(1, model.classes)
    count, where = len(x), x.device
    y = torch.arange(classes, device=where).repeat_interleave(count) if model.classes else None
    goal = x.repeat(classes, 1, 1, 1)
    dims = model.latent([0], seed, sampling).shape[1]
    z = 0.5 * noise(seed, torch.arange(len(goal)), (dims,), "inversion", device=where)
    z.requires_grad_()
    adam = torch.optim.Adam([z], 0.1)
    with torch.enable_grad():
        for _ in range(steps):
            error = (model.decode(z, y, sampling) - goal).square().flatten(1).mean(1)
            (z.grad,) = torch.autograd.grad(error.sum(), z)
            adam.step()
    with torch.no_grad():
        images = model.decode(z, y, sampling).clamp(0, 1)
        error = (images - goal).square().flatten(1).mean(1).view(classes, count)
    return images.view(classes, count, *x.shape[1:])[
        error.argmin(0), torch.arange(count, device=where)
    ]

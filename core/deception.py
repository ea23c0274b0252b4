"""Generative models attacked, attacking, and used as a defence; each trick says what happened in numbers and pictures.

A trick is an entry of :data:`tricks`: ``make(config, opened, dataset, target)`` yields :class:`Shown` as it goes on.
``extra["fits"](opened)`` tells whether a model can be put to it, ``extra["classifier"]`` whether it needs a classifier.

References (used throughout the code):
    [1] Kos et al., 2018, Adversarial examples for generative models, https://arxiv.org/abs/1702.06832
    [2] Song et al., 2018, Constructing unrestricted adversarial examples, https://arxiv.org/abs/1805.07894
    [3] Samangouei et al., 2018, Defense-GAN, https://arxiv.org/abs/1805.06605
    [4] Nie et al., 2022, Diffusion models for adversarial purification, https://arxiv.org/abs/2205.07460
    [5] Athalye et al., 2018, Obfuscated gradients (BPDA, EOT), https://arxiv.org/abs/1802.00420
    [6] Lee and Kim, 2023, Robust evaluation of diffusion-based adversarial purification, https://arxiv.org/abs/2303.09051
    [7] Camuto et al., 2021, Towards a theoretical understanding of the robustness of VAEs, https://arxiv.org/abs/2007.07365
    [8] Nalisnick et al., 2019, Do deep generative models know what they don't know?, https://arxiv.org/abs/1810.09136
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from core import attacks
from core.catalog import Config, Registry, UserError, knob
from core.classifier import climb
from core.datasets import Dataset
from core.models import Decodes, Quantizes, Scores
from core.robustness import foreign
from core.robustness.verdict import interval, percent
from core.runs import Opened
from core.tensors import Group, Images, Loss, noise, to_bytes, to_float
from core.threat import Climb, Target, default_eps, eps_text

tricks = Registry("trick")
LEVELS = (0.25, 0.5, 1.0, 2.0)  # of the strength that was asked for, on a curve
DRAWS = 20  # of a random defence, for its final score


@dataclass
class Shown:
    """What a trick has found so far.

    Attributes:
        sentence: The result in words.
        numbers: Rows of ``name``, ``value`` and ``what`` (texts); with ``low``, ``high``, ``n`` for a share.
        pictures: Rows of ``title``, ``x`` (uint8, (N, C, H, W)) and ``columns``.
        curve: ``x``, ``x_title``, ``y_title``, ``lines`` (name to values), or None.
        done: Share of the work, 0 to 1.
    """

    sentence: str
    numbers: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    curve: dict[str, Any] | None = None
    done: float = 0.0


class TrickConfig(Config):
    """Parameters that most tricks share."""

    n: int = knob(32, "How many images are attacked.", title="Images", ge=1, le=1000, unit="images")
    eps: float = knob(
        0.0,
        "Largest change of a pixel, of a range of 1: 0.1 is 26/255. 0 takes what suits the images.",
        title="Attack strength (eps)",
        ge=0,
        le=1,
    )
    steps: int = knob(20, "Steps of the attack.", ge=1, le=1000, unit="steps", advanced=True)
    seed: int = knob(0, "Of everything random.", ge=0, le=2**31 - 1, log=True, advanced=True)


class EncoderConfig(TrickConfig):
    """Parameters of the attack on an encoder."""

    goal: Literal["away", "another"] = knob(
        "away", "Moves the code as far away as possible, or to that of another image."
    )


class LatentConfig(Config):
    """Parameters of the search for deceptive latents."""

    n: int = knob(32, "How many images are attacked.", title="Images", ge=1, le=1000, unit="images")
    steps: int = knob(200, "Steps of the search.", ge=1, le=5000, unit="steps")
    near: float = knob(
        0.01, "Pull towards the latent that it began with.", ge=0, le=10, log=True, advanced=True
    )
    seed: int = knob(0, "Of the latents.", ge=0, le=2**31 - 1, log=True, advanced=True)


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
    )
    draws: int = knob(
        4,
        "Draws that each gradient is the mean of, for a random purifier (EOT).",
        ge=1,
        le=50,
        advanced=True,
    )


class HardenConfig(TrickConfig):
    """Parameters of training a VAE against the attack on its encoder."""

    images: int = knob(
        20_000, "How long to train on.", ge=100, le=100_000_000, unit="images", log=True
    )
    weight: float = knob(
        10.0, "Weight of the constancy of the code under attack.", ge=0, le=10_000, log=True
    )


# --- Attacked -------------------------------------------------------------------------------------------------------


def _encodes(opened: Opened) -> bool:
    return opened.family in ("vae", "flow") or isinstance(opened.model, Quantizes)


@tricks.add("encoder", "Attack the encoder", EncoderConfig, fits=_encodes, classifier=False)
def encoder_attack(
    config: EncoderConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Changes an image a little, and the model takes it for something else; random noise of the same size beside it."""
    x, y = _images(opened, dataset, config.n)
    eps = config.eps or default_eps(opened.spec.channels, opened.spec.size, "linf")
    code, restored = _coder(opened, y)
    with torch.no_grad():
        clean, back = code(x), restored(x)
    spread = float((clean - clean.roll(1, 0)).flatten(1).norm(dim=1).mean()) or 1.0
    goal = clean.roll(1, 0)

    def score(moved: Tensor) -> Tensor:
        if config.goal == "another":
            return -(code(moved) - goal).flatten(1).square().sum(1)
        return (code(moved) - clean).flatten(1).square().sum(1)

    lines: dict[str, list[float]] = {"attack": [0.0], "random noise": [0.0]}
    kept = x
    for k, level in enumerate(LEVELS, start=1):
        budget = min(1.0, level * eps)
        moved = _attacked(score, x, budget, config.steps, config.seed)
        random = _noisy(x, budget, config.seed)
        with torch.no_grad():
            for name, images in (("attack", moved), ("random noise", random)):
                far = (code(images) - clean).flatten(1).norm(dim=1).mean() / spread
                lines[name].append(float(far))
        if level == 1.0:
            kept = moved
        with torch.no_grad():
            after, noisy = restored(kept), restored(_noisy(x, eps, config.seed))
        damage = [float((images - back).square().mean()) for images in (after, noisy)]
        factor = lines["attack"][-1] / max(lines["random noise"][-1], 1e-9)
        yield Shown(
            f"A change of {eps_text(budget)} moves the code by {lines['attack'][-1]:.2f} of the distance between two "
            f"images, {factor:.1f} times as far as random noise of the same size.",
            [
                _plain("Shift of the code, attack", f"{lines['attack'][-1]:.2f}", "1: distance of two images", len(x)),
                _plain("Shift of the code, noise", f"{lines['random noise'][-1]:.2f}", "noise of that size", len(x)),
                _plain("Damage, attack", f"{damage[0]:.4f}", "mean square change of the reconstruction", len(x)),
                _plain("Damage, noise", f"{damage[1]:.4f}", "the same for random noise", len(x)),
            ],
            [
                _strip("Images", x),
                _strip("What the model makes of them", back),
                _strip(f"Changed by at most {eps_text(eps)}", kept),
                _strip("What the model makes of these", after),
            ],
            _line([0, *(255 * min(1.0, v * eps) for v in LEVELS[:k])], "Shift of the code", lines),
            k / len(LEVELS),
        )  # fmt: skip


@tricks.add(
    "critic",
    "Attack the critic",
    TrickConfig,
    fits=lambda opened: opened.family == "gan",
    classifier=False,
)
def critic_attack(
    config: TrickConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Makes the critic take generated images for real ones; how well it still tells them apart, against strength."""
    model = opened.model
    x, y = _images(opened, dataset, config.n)
    fake = model.sample(range(len(x)), y if model.classes else None, config.seed, _usual(opened))
    eps = config.eps or default_eps(opened.spec.channels, opened.spec.size, "linf")

    def score(images: Tensor) -> Tensor:
        return model.critic(images * 2 - 1, y if model.classes else None)

    with torch.no_grad():
        real, before = score(x), score(fake)
    lines = {"attack": [auc(real, before)], "random noise": [auc(real, before)]}
    moved = fake
    for k, level in enumerate(LEVELS, start=1):
        budget = min(1.0, level * eps)
        found = _attacked(score, fake, budget, config.steps, config.seed)
        moved = found if level == 1.0 else moved
        with torch.no_grad():
            lines["attack"].append(auc(real, score(found)))
            lines["random noise"].append(auc(real, score(_noisy(fake, budget, config.seed))))
            taken = int((score(found) > real.median()).sum())
        yield Shown(
            f"Untouched, the critic ranks a real image above a generated one in {percent(lines['attack'][0])} of the "
            f"pairs; after a change of {eps_text(budget)} in {percent(lines['attack'][-1])}.",
            [
                _plain("Told apart before", f"{lines['attack'][0]:.3f}", "AUC: 1 always, 0.5 by chance", len(x)),
                _plain("After the attack", f"{lines['attack'][-1]:.3f}", "AUC after the change", len(x)),
                _plain("After noise", f"{lines['random noise'][-1]:.3f}", "AUC, random noise of the same size", len(x)),
                _share("More real than half of the real", taken, len(x), "generated images above the median real one"),
            ],
            [_strip("Generated", fake), _strip(f"Changed by at most {eps_text(eps)}", moved)],
            _line([0, *(255 * min(1.0, v * eps) for v in LEVELS[:k])], "Told apart (AUC)", lines),
            k / len(LEVELS),
        )  # fmt: skip


@tricks.add(
    "likelihood",
    "Attack the likelihood",
    TrickConfig,
    fits=lambda opened: opened.family in ("vae", "flow") and isinstance(opened.model, Scores),
    classifier=False,
)
def likelihood_attack(
    config: TrickConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Turns images inside out, which no data looks like, and changes them until the model finds them likely [8]."""
    model = opened.model
    x, y = _images(opened, dataset, config.n)
    strange = 1 - x
    eps = config.eps or 2 * default_eps(opened.spec.channels, opened.spec.size, "linf")
    bits = x[0].numel() * float(np.log(2))
    label = y if model.classes else None

    def likely(images: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(config.seed)
        return model.log_prob(images, label, generator) / bits

    with torch.no_grad():
        real, before = likely(x), likely(strange)
    lines = {"attack": [-float(before.mean())], "random noise": [-float(before.mean())]}
    for k, level in enumerate(LEVELS, start=1):
        budget = min(1.0, level * eps)
        moved = _attacked(likely, strange, budget, config.steps, config.seed)
        with torch.no_grad():
            after, noisy = likely(moved), likely(_noisy(strange, budget, config.seed))
        lines["attack"].append(-float(after.mean()))
        lines["random noise"].append(-float(noisy.mean()))
        above = int((after > real.median()).sum())
        yield Shown(
            f"Images turned inside out cost {-float(before.mean()):.2f} bits per dimension, real ones "
            f"{-float(real.mean()):.2f}; after a change of {eps_text(budget)}, {-float(after.mean()):.2f}.",
            [
                _plain("Real images", f"{-float(real.mean()):.2f}", "bits per dimension, lower is likelier", len(x)),
                _plain("Inside out", f"{-float(before.mean()):.2f}", "the same before the attack", len(x)),
                _plain("After the attack", f"{-float(after.mean()):.2f}", "the same after it", len(x)),
                _share("Likelier than half of the real", above, len(x), "attacked images above the median real one"),
            ],
            [_strip("Inside out", strange), _strip(f"Changed by at most {eps_text(budget)}", moved)],
            _line([0, *(255 * min(1.0, v * eps) for v in LEVELS[:k])], "Bits per dimension", lines),
            k / len(LEVELS),
        )  # fmt: skip


# --- Attacking ------------------------------------------------------------------------------------------------------


@tricks.add(
    "latent",
    "Latent adversarial examples",
    LatentConfig,
    fits=lambda opened: (
        opened.family in ("gan", "vae", "flow") and isinstance(opened.model, Decodes)
    ),
    classifier=True,
)
def latent_attack(
    config: LatentConfig, opened: Opened, dataset: Dataset, target: Target
) -> Iterator[Shown]:
    """Searches images that the model draws, that fool the classifier, and whose label a second classifier keeps [2]."""
    second = second_opinion(target, dataset)
    model, classes, where = opened.model, len(target.classes), target.device
    ids = torch.arange(config.n)
    label = (ids % classes).to(where)
    given = label if model.classes else None
    start = model.latent(ids, config.seed, _usual(opened)).detach()
    with torch.no_grad():
        drawn = model.decode(start, given).clamp(0, 1)
    # only images that both name alike can become deceptive; without classes, that name is the label
    y = label if model.classes else second.predict(drawn)
    alike = (target.predict(drawn) == y) & (second.predict(drawn) == y)
    if not bool(alike.any()):
        raise UserError(
            f"Both classifiers agree on none of {config.n} images of {opened.run}. "
            "Draw more images, or train the model longer."
        )
    start, drawn, y = start[alike], drawn[alike], y[alike]
    given = y if model.classes else None
    z = start.clone().requires_grad_()
    adam = torch.optim.Adam([z], 0.05)
    best, fooled = drawn.clone(), torch.zeros(len(y), dtype=torch.bool, device=where)
    for step in range(1, config.steps + 1):
        x = model.decode(z, given).clamp(0, 1)
        first, judge = target.raw(x), second.raw(x)
        lead = Climb("margin", y)(first).clamp(max=1.0)
        kept = Climb("margin", y)(judge)  # below 0 while the label is kept
        loss = -lead + (kept + 2).clamp_min(0) + config.near * (z - start).square().sum(1)
        (grad,) = torch.autograd.grad(loss.sum(), z)
        z.grad = grad
        with torch.no_grad():
            hit = (first.argmax(1) != y) & (judge.argmax(1) == y)
            best[hit] = x[hit]
            fooled |= hit
        adam.step()
        if step % max(1, config.steps // 20) == 0 or step == config.steps:
            # decided once more on the images themselves
            sure = fooled & (target.predict(best) != y) & (second.predict(best) == y)
            count = int(sure.sum())
            said = target.predict(best[sure])[:12]
            names = ", ".join(target.classes[int(k)] for k in said) or "none yet"
            yield Shown(
                f"{count} of {len(y)} images fool {target.name} while {second.name} keeps the label. "
                "There is no eps here, so this is no robust accuracy: look at them yourself.",
                [
                    _share("Fooled and label kept", count, len(y), "of the images that both classifiers named alike"),
                    _plain("Distance from the start", f"{float((z - start).detach().norm(dim=1).mean()):.2f}",
                           "of the latents, mean", len(y)),
                ],
                [
                    _strip("As drawn", drawn[sure] if count else drawn),
                    _strip(f"Deceptive; the classifier says: {names}", best[sure] if count else best),
                ],
                None,
                step / config.steps,
            )  # fmt: skip


def second_opinion(target: Target, dataset: Dataset) -> Target:
    """Finds another classifier of the same dataset, which keeps the label.

    Raises:
        UserError: If there is no other.
    """
    # one that was trained against attacks goes wrong in other places than a plain one
    for choice in sorted(foreign.available(dataset.name), key=lambda c: "against" not in c.note):
        if choice.id != target.facts.get("run", ""):
            try:
                other = foreign.target_of(choice.id, dataset)
            except UserError:
                continue
            if other.facts.get("hash") != target.facts.get("hash"):
                return other
    raise UserError(
        f"A second classifier of {dataset.name} is needed to keep the label, and there is none. "
        "Train one on the Train page (family: classifier)."
    )


# --- Defending ------------------------------------------------------------------------------------------------------


class Purified(nn.Module):
    """A classifier behind a purifier.

    Args:
        purify: From images to images, perhaps random.
        classify: From images to logits.
        through: ``full`` differentiates the purifier; ``identity`` takes its gradient for that of the identity [5].
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
    return opened.family in ("vae", "gan", "diffusion")


@tricks.add("purify", "Purify before classifying", PurifyConfig, fits=_purifies, classifier=True)
def purification(
    config: PurifyConfig, opened: Opened, dataset: Dataset, target: Target
) -> Iterator[Shown]:
    """Cleans images with the model before they are classified, and attacks that in three ways, ever stronger [5, 6]."""
    x, y = _images(opened, dataset, config.n)
    y = y.to(target.device)
    eps = config.eps or default_eps(opened.spec.channels, opened.spec.size, "linf")
    purify, random, why_not = purifier(config, opened)
    draws = DRAWS if random else 1
    facts = {**target.facts, "purifier": opened.run}

    def behind(through: str, eot: int) -> Target:
        module = Purified(purify, target.module, through)
        made = Target(
            module,
            target.classes,
            target.channels,
            target.size,
            name="purified",
            facts=facts,
            device=target.device,
        )
        return made.with_(eot=eot, logs=target.logs)  # fmt: skip

    def score(images: Images) -> float:
        """The mean over draws: one lucky draw is no success, and no defence."""
        with torch.no_grad():
            asked = behind("identity", 1)
            return float(
                torch.stack([(asked.predict(images) == y).float() for _ in range(draws)]).mean()
            )

    def undefended(images: Images) -> float:
        return float((target.predict(images) == y).float().mean())

    numbers = [
        _part("Clean, no defence", undefended(x), len(x), "accuracy of the classifier alone"),
        _part("Clean, purified", score(x), len(x), "what purification costs"),
    ]
    with torch.no_grad():
        cleaned = purify(x)
    pictures = [_strip("Images", x), _strip("Purified", cleaned)]
    yield Shown("Attacking the classifier alone.", list(numbers), pictures, None, 0.1)
    pgd = {"steps": config.steps, "loss": "margin"}
    more: dict[str, Any] = {"config": pgd, "seed": config.seed}
    grey = attacks.run("pgd", target, x, y, eps, **more).adversarial
    numbers.append(
        _part("No defence, attacked", undefended(grey), len(x), f"PGD of {eps_text(eps)}")
    )
    numbers.append(
        _part(
            "1. Attack on the classifier alone",
            score(grey),
            len(x),
            "the attacker does not know of the purifier",
        )
    )
    yield Shown(
        "Attacking through the purifier, taken for the identity (BPDA).",
        list(numbers),
        pictures,
        None,
        0.4,
    )
    eot = config.draws if random else 1
    adaptive = attacks.run(
        "pgd", behind("identity", eot), x, y, eps, active=False, **more
    ).adversarial
    numbers.append(
        _part(
            "2. BPDA + EOT",
            score(adaptive),
            len(x),
            "the purifier's gradient is taken for the identity's",
        )
    )
    pictures = [
        *pictures,
        _strip("Attacked (BPDA)", adaptive),
        _strip("Purified after the attack", purify(adaptive).detach()),
    ]
    last = score(adaptive)
    if why_not:
        numbers.append(_plain("3. Full gradient", "–", why_not, 0))
    else:
        yield Shown("Attacking through the whole purifier.", list(numbers), pictures, None, 0.7)
        full = attacks.run("pgd", behind("full", eot), x, y, eps, active=False, **more).adversarial
        numbers.append(
            _part("3. Full gradient", score(full), len(x), "the gradient goes through every step")
        )
        last = min(last, score(full))
    yield Shown(
        f"Purification seems to give {percent(score(grey))} against an attacker who does not know of it, and "
        f"{percent(last)} against the strongest of those who do. Published purifiers fell in the same way when attacks "
        "followed them (Athalye et al. 2018; Lee and Kim 2023): believe the lowest number, as an upper bound.",
        numbers,
        pictures,
        None,
        1.0,
    )  # fmt: skip


def purifier(config: PurifyConfig, opened: Opened) -> tuple[Callable[[Tensor], Tensor], bool, str]:
    """Gives how a model cleans images, whether that is random, and why it has no full gradient (or nothing)."""
    model = opened.model
    if opened.family == "vae":

        def encoded(x: Tensor) -> Tensor:
            shares = _any_class(model, x)
            return model.decode(model.encode(x, shares), shares).clamp(0, 1)

        return encoded, False, ""
    if opened.family == "diffusion":
        drawn = torch.Generator(next(model.parameters()).device).manual_seed(config.seed)

        def denoised(x: Tensor) -> Tensor:
            t = 1 - config.noise
            fresh = torch.randn(x.shape, generator=drawn, device=x.device)
            state = t * (x * 2 - 1) + (1 - t) * fresh
            for k in range(config.inner):
                now = t + (1 - t) * k / config.inner
                state = state + (1 - t) / config.inner * model.velocity(
                    state, state.new_full((len(x),), now)
                )
            return ((state + 1) / 2).clamp(0, 1)

        return denoised, True, ""

    def inverted(x: Tensor) -> Tensor:
        return invert(model, x.detach(), 10 * config.inner, config.seed)

    return (
        inverted,
        False,
        "An inversion is itself an optimisation: its gradient would have to unroll every step of it.",
    )


def invert(model: Any, x: Images, steps: int, seed: int) -> Images:
    """Finds the generated images nearest to some, over all classes, by Adam on the latents [3]."""
    classes = max(1, model.classes)
    count, where = len(x), x.device
    y = torch.arange(classes, device=where).repeat_interleave(count) if model.classes else None
    goal = x.repeat(classes, 1, 1, 1)
    z = 0.5 * noise(
        seed, torch.arange(len(goal)), (model.config.latent_dim,), "inversion", device=where
    )
    z.requires_grad_()
    adam = torch.optim.Adam([z], 0.1)
    with torch.enable_grad():
        for _ in range(steps):
            error = (model.decode(z, y) - goal).square().flatten(1).mean(1)
            (z.grad,) = torch.autograd.grad(error.sum(), z)
            adam.step()
    with torch.no_grad():
        found = model.decode(z, y).clamp(0, 1)
        error = (found - goal).square().flatten(1).mean(1).view(classes, count)
    return found.view(classes, count, *x.shape[1:])[
        error.argmin(0), torch.arange(count, device=where)
    ]


# --- Hardened -------------------------------------------------------------------------------------------------------


class Steadied(nn.Module):
    """A VAE that is trained to keep its code under attack; what the trainer needs, the VAE gives [7]."""

    def __init__(self, model: Any, eps: float, weight: float) -> None:
        super().__init__()
        self.model, self.eps, self.weight = model, eps, weight
        self.batch = model.batch

    def groups(self) -> list[Group]:
        """Gives the VAE's parameters."""
        return self.model.groups()

    def losses(
        self, x: Images, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the VAE's loss, and the square shift of its code under the attack that it meets."""
        label = y if self.model.classes else None
        code = self.model.encode(x, label)
        with torch.no_grad():
            fixed = code.detach()
        u = torch.rand(x.shape, generator=generator, device=x.device)
        moved = climb(
            lambda m: (self.model.encode(m, label) - fixed).square().sum(1),
            x, x + self.eps * (2 * u - 1), self.eps, 3,
        )  # fmt: skip
        shift = (self.model.encode(moved, label) - code).square().sum(1).mean()
        for loss in self.model.losses(x, y, generator, 1.0):
            yield Loss(
                loss.group,
                loss.value + self.weight * shift,
                {**loss.parts, "shift": shift.detach()},
            )

    def fit(self, x: Images, y: Tensor | None) -> None:
        """Fits what the VAE fits."""
        self.model.fit(x, y)


@tricks.add(
    "harden",
    "Train the VAE against it",
    HardenConfig,
    fits=lambda opened: opened.family == "vae",
    classifier=False,
)
def harden(
    config: HardenConfig, opened: Opened, dataset: Dataset, target: Target | None
) -> Iterator[Shown]:
    """Trains the VAE on with the attack on its encoder; damage and clean quality, before and after."""
    from core.training import TrainConfig, Trainer

    eps = config.eps or default_eps(opened.spec.channels, opened.spec.size, "linf")
    x, y = _images(opened, dataset, config.n)
    before = _damage(opened.model, x, y, eps, config)
    net = Steadied(copy.deepcopy(opened.model).train().requires_grad_(True), eps, config.weight)
    device = next(opened.model.parameters()).device
    train = TrainConfig(images=config.images, seed=config.seed)
    for progress in Trainer(net, dataset, train, device):
        if progress.step == progress.steps:
            break
        yield Shown("Training against the attack.", done=0.95 * progress.images / progress.total)
    model = net.model.eval().requires_grad_(False)
    after = _damage(model, x, y, eps, config)
    yield Shown(
        f"The attack of {eps_text(eps)} damaged reconstructions by {before['damage']:.4f} before and "
        f"{after['damage']:.4f} after; the error of untouched images went from {before['clean']:.4f} "
        f"to {after['clean']:.4f}.",
        [
            _plain("Damage before", f"{before['damage']:.4f}", "mean square change of the reconstruction", len(x)),
            _plain("Damage after", f"{after['damage']:.4f}", "the same after the training", len(x)),
            _plain("Clean error before", f"{before['clean']:.4f}", "mean square error of untouched images", len(x)),
            _plain("Clean error after", f"{after['clean']:.4f}", "the same after the training", len(x)),
        ],
        [
            _strip("Images", x),
            _strip("Reconstructed under attack, before", before["shown"]),
            _strip("Reconstructed under attack, after", after["shown"]),
        ],
        None,
        1.0,
    )  # fmt: skip


def _damage(model: Any, x: Images, y: Tensor, eps: float, config: TrickConfig) -> dict[str, Any]:
    label = y if model.classes else None

    def made(images: Tensor) -> Tensor:
        return model.decode(model.encode(images, label), label)

    with torch.no_grad():
        back = made(x)
    moved = _attacked(
        lambda m: (made(m) - back).square().flatten(1).sum(1), x, eps, config.steps, config.seed
    )
    with torch.no_grad():
        shown = made(moved)
    return {
        "damage": float((shown - back).square().mean()),
        "clean": float((back - x).square().mean()),
        "shown": shown,
    }


# --- Shared ---------------------------------------------------------------------------------------------------------


def _images(opened: Opened, dataset: Dataset, n: int) -> tuple[Images, Tensor]:
    """Takes test images, spread evenly, where the model lives; labels are 0 without classes."""
    index = dataset.splits["test"]
    if not len(index):
        raise UserError(f"{dataset.name} has no test images. Choose a larger dataset.")
    pick = index[np.linspace(0, len(index) - 1, min(n, len(index))).astype(int)]
    where = next(opened.model.parameters()).device
    x = to_float(torch.as_tensor(np.asarray(dataset.x[pick])).to(where), dataset.levels)
    if tuple(x.shape[1:]) != (opened.spec.channels, opened.spec.size, opened.spec.size):
        raise UserError(
            f"{opened.run} makes images of {opened.spec.size} px, {dataset.name} has {dataset.size} px. "
            "Choose the dataset that it was trained on, at the same size."
        )
    y = np.zeros(len(pick), np.int64) if dataset.y is None else dataset.y[pick]
    return x, torch.as_tensor(y).to(where)


def _usual(opened: Opened) -> Config:
    """Gives the family's usual choices of sampling."""
    assert opened.sampling is not None
    return opened.sampling()


def _coder(
    opened: Opened, y: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Gives code and reconstruction of a model; of a VQ-VAE, the code before it is rounded."""
    model = opened.model
    if isinstance(model, Quantizes):
        return model._encode, lambda x: model.restore(model.quantize(x))  # pyright: ignore
    label = y if model.classes else None
    return (
        lambda x: model.encode(x, label),
        lambda x: model.decode(model.encode(x, label), label).clamp(0, 1),
    )


def _any_class(model: Any, x: Tensor) -> Tensor | None:
    """Gives shares of classes for a model that wants a class where none is known."""
    return x.new_full((len(x), model.classes), 1 / model.classes) if model.classes else None


def _attacked(
    score: Callable[[Tensor], Tensor], x: Images, eps: float, steps: int, seed: int
) -> Images:
    u = noise(seed, torch.arange(len(x)), x.shape[1:], "trick", uniform=True, device=x.device)
    return climb(score, x, x + eps * (2 * u - 1), eps, steps)


def _noisy(x: Images, eps: float, seed: int) -> Images:
    u = noise(seed, torch.arange(len(x)), x.shape[1:], "trick noise", uniform=True, device=x.device)
    return (x + eps * (u - 0.5).sign()).clamp(0, 1)


def auc(high: Tensor, low: Tensor) -> float:
    """Gives how often a value of the first is above one of the second; ties count half."""
    pairs = high[:, None] - low[None]
    return float(((pairs > 0).float() + (pairs == 0).float() / 2).mean())


def _plain(name: str, value: str, what: str, n: int) -> dict[str, Any]:
    return {"name": name, "value": value, "what": what, "n": n}


def _share(name: str, count: int, n: int, what: str) -> dict[str, Any]:
    low, high = interval(count, n)
    return _plain(name, percent(count / n), what, n) | {"low": percent(low), "high": percent(high)}


def _part(name: str, share: float, n: int, what: str) -> dict[str, Any]:
    return _share(name, round(share * n), n, what) | {"value": percent(share)}


def _strip(title: str, x: Images) -> dict[str, Any]:
    shown = to_bytes(x[:12])
    return {"title": title, "x": shown, "columns": len(shown)}


def _line(x: Sequence[float], title: str, lines: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "x": list(x),
        "x_title": "Largest change of a pixel (of 255)",
        "y_title": title,
        "lines": {name: list(values) for name, values in lines.items()},
    }

"""Latents are searched whose images fool a classifier while a second one keeps their label.

References (used throughout the code):
    [1] Song et al., 2018, Constructing unrestricted adversarial examples, https://arxiv.org/abs/1805.07894
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from core.catalog import UserError, knob, seed_knob
from core.datasets import Dataset
from core.measure import features
from core.models import Decodes, Traces, differentiates
from core.robustness import classifiers
from core.robustness.tricks import ImagesConfig, Shown, row, share, strip, tricks
from core.runs import Opened
from core.target import Climb, Target


class LatentConfig(ImagesConfig):
    """Parameters of the search for deceptive latents."""

    steps: int = knob(200, "Steps of the search.", ge=1, le=5000, unit="steps", visitor=400)
    near: float = knob(
        0.01, "Pull towards the latent that it began with.", ge=0, le=10, log=True, advanced=True
    )
    seed: int = seed_knob("Of the latents.", advanced=True)


@tricks.add(
    "latent",
    "Latent adversarial examples",
    LatentConfig,
    fits=lambda opened: (
        # a path is followed by too many passes for each step of a search
        isinstance(opened.model, Decodes)
        and not isinstance(opened.model, Traces)
        and differentiates(opened.model, opened.usual)
    ),
    classifier=True,
)
def latent(
    config: LatentConfig, opened: Opened, dataset: Dataset, target: Target
) -> Iterator[Shown]:
    """Searches images that the model draws, that fool the classifier, and whose label a second classifier keeps [1].

    Raises:
        UserError: If the two classifiers agree on none of the model's images.
    """
    target.allow_gradients()
    second = second_opinion(target, dataset)
    model, classes, where = opened.model, len(target.classes), target.device
    items = dataset.medium.from_model
    ids = torch.arange(config.n)
    label = (ids % classes).to(where)
    given = label if model.classes else None
    sampling = opened.usual
    start = model.latent(ids, config.seed, sampling).detach()
    with torch.no_grad():
        drawn = model.decode(start, given, sampling).clamp(0, 1)
    # only images that both name alike can become deceptive; without classes, that name is the label
    y = label if model.classes else second.predict(items(drawn))
    alike = (target.predict(items(drawn)) == y) & (second.predict(items(drawn)) == y)
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
        x = model.decode(z, given, sampling).clamp(0, 1)
        first, judge = target.raw(x), second.raw(x)
        lead = Climb("margin", y)(first).clamp(max=1.0)
        behind = Climb("margin", y)(judge)  # below 0 while the label is kept
        loss = -lead + (behind + 2).clamp_min(0) + config.near * (z - start).square().sum(1)
        (grad,) = torch.autograd.grad(loss.sum(), z)
        z.grad = grad
        with torch.no_grad():
            hit = (first.argmax(1) != y) & (judge.argmax(1) == y)
            best[hit] = x[hit]
            fooled |= hit
        adam.step()
        if step % max(1, config.steps // 20) == 0 or step == config.steps:
            # decided once more on the images themselves
            answers = target.predict(items(best))
            sure = fooled & (answers != y) & (second.predict(items(best)) == y)
            count = int(sure.sum())
            said = answers[sure][:12]
            names = ", ".join(target.classes[int(k)] for k in said) or "none yet"
            yield Shown(
                f"{count} of {len(y)} images fool {target.name} while {second.name} keeps the label. "
                "There is no eps here, so this is no robust accuracy: look at them yourself.",
                [
                    share("Fooled and label kept", count, len(y), "of the images that both classifiers named alike"),
                    row("Distance from the start", f"{float((z - start).detach().norm(dim=1).mean()):.2f}",
                           "of the latents, mean", len(y)),
                ],
                [
                    strip("As drawn", items(drawn[sure] if count else drawn)),
                    strip(f"Deceptive; the classifier says: {names}", items(best[sure] if count else best)),
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
    for choice in sorted(
        classifiers.available(dataset.name), key=lambda choice: not choice.hardened
    ):
        if not choice.id and not features.judged(dataset):
            continue  # nothing is trained in passing
        if choice.id != target.card.get("run", ""):
            try:
                other = classifiers.target_of(choice.id, dataset)
            except UserError:
                continue
            if other.card.get("hash") != target.card.get("hash"):
                return other
    raise UserError(
        f"A second classifier of {dataset.name} is needed to keep the label, and there is none. "
        "Train one on the Train page (family: classifier)."
    )

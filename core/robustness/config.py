"""The config of a study, checked before anything is computed: attacks, their parameters, strengths, images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from core.catalog import Config, UserError, knob, parse, seed_knob, unknown
from core.datasets import Dataset, evenly
from core.media import Medium
from core.norms import Budget, norm_of
from core.robustness.attacks import attacks, blind_ones, ready
from core.target import Target
from core.tensors import Batch

BLIND = "noise,square,surrogate"  # for a classifier that gives answers only


class StudyConfig(Config):
    """Parameters of a study."""

    attacks: str = knob(
        "noise,fgsm,quick",
        "Names of the attacks, with commas; the number counts an image as robust only if it withstands all of them.",
    )
    eps: str = knob(
        "",
        "Attack strengths with commas, for example 4/255,8/255; empty sweeps from 0 until accuracy reaches chance.",
        title="Attack strength (eps)",
    )
    norm: Literal["linf", "l2", "l1"] = knob(
        "linf",
        "What eps bounds: the largest change of a value (linf), the length of the change (l2), or its sum (l1).",
    )
    n: int = knob(
        1000,
        "How many items of the dataset are attacked.",
        title="Images",
        ge=1,
        le=1_000_000,
        unit="images",
        log=True,
        visitor=1000,
    )
    split: Literal["test", "valid", "train"] = knob(
        "test", "Which part of the dataset is attacked."
    )
    seed: int = seed_knob("Of everything random in the attacks.", advanced=True)
    eot: int = knob(
        1,
        "Draws that every answer and gradient is the mean of; for a model that is random itself.",
        title="Average over draws (EOT)",
        ge=1,
        le=100,
        advanced=True,
        visitor=10,
    )
    bpda: bool = knob(
        False,
        "Lets gradients pass roundings, signs and casts inside the model as if they were not there.",
        title="Let gradients pass (BPDA)",
        advanced=True,
    )
    options: str = knob(
        "",
        "Parameters of single attacks, for example pgd.steps=100 pgd.loss=margin.",
        advanced=True,
        visitor="",
    )
    batch: int = knob(
        0,
        "Items that the model is given at once; 0 takes what fits, and is halved when memory is short.",
        ge=0,
        le=100_000,
        unit="images",
        advanced=True,
    )

    def budget(self, of: Target | Dataset) -> Budget:
        """Gives the norm of this study and the strengths on the items of a classifier or a dataset."""
        return Budget(norm_of(self.norm), of.shape, of.medium.name)


def names_of(config: StudyConfig, medium: Medium) -> list[str]:
    """Lists the attacks of a study on a medium; the placebo is always among them.

    Raises:
        UserError: If one does not exist, needs a package, does not take such items, or does not know the norm.
    """
    if not medium.norms:
        raise UserError(
            f"An attack makes the numbers of an item a little larger or smaller, and {medium.title.lower()} are made "
            "of symbols, which have no such numbers. Choose a dataset of another kind."
        )
    names = [word.strip().lower() for word in config.attacks.split(",") if word.strip()]
    names = list(dict.fromkeys(["noise", *names]))
    for name in names:
        entry = ready(name)
        entry.allow(medium.item, attacks)
        known = [norm.name for norm in entry.norms]
        if config.norm not in known:
            raise UserError(
                f"{entry.title} cannot be bounded by {config.norm}. It knows {', '.join(known)}: "
                "choose one of these norms, or leave the attack out."
            )
    return names


def suited(config: StudyConfig, target: Target) -> StudyConfig:
    """Chooses attacks without gradients for a classifier that has none, where nobody has chosen others.

    Raises:
        UserError: If an attack was chosen that takes gradients.
    """
    if not target.answers_only:
        return config
    if config.attacks == StudyConfig().attacks:
        return config.model_copy(update={"attacks": BLIND})
    for name in names_of(config, target.medium):
        if attacks.get(name).gradient:
            known = ", ".join(blind_ones(target.medium.item))
            raise UserError(
                f"{attacks.get(name).title} takes gradients, and {target.name} gives answers only. "
                f"Choose from: {known}."
            )
    return config


def settings_of(config: StudyConfig, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sorts ``pgd.steps=100`` into the parameters of each attack, and checks them.

    Raises:
        UserError: If a text has no value, or a name or value is not allowed.
    """
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    for dotted, value in parse(config.options.replace(",", " ").split()).items():
        name, _, parameter = dotted.partition(".")
        if name not in attacks:
            raise UserError(unknown("attack", name, attacks.names()))
        settings.setdefault(name, {})[parameter] = value
    for name, values in settings.items():
        attacks.get(name).config.of(values, name)
    return settings


def fitting(target: Target, x: Any, y: Any) -> tuple[Batch, Tensor]:
    """Checks that images and labels fit the classifier, and gives them as tensors.

    Raises:
        UserError: With what is wrong: shape, range, number of channels, size, labels.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    floats(x, len(target.shape))
    if not len(x):
        raise UserError("There is nothing to attack. Choose another split, or a larger dataset.")
    if y.shape != (len(x),) or y.is_floating_point():
        raise UserError(
            f"Labels must be {len(x)} whole numbers, one per image, got {y.dtype} {tuple(y.shape)}. "
            "Give class numbers."
        )
    if tuple(x.shape[1:]) != target.shape:
        takes, given = (" × ".join(map(str, shape)) for shape in (target.shape, x.shape[1:]))
        raise UserError(
            f"{target.name} takes {target.medium.name}s of {takes}, these have {given}. "
            "Choose the dataset that it was trained for, or let the model's preprocessing change them."
        )
    if not bool(x.isfinite().all()) or float(x.min()) < 0 or float(x.max()) > 1:
        raise UserError(
            f"Values must lie in 0 … 1, got {float(x.min()):.3g} … {float(x.max()):.3g}. "
            "Take the normalisation out of the data: it belongs into the model."
        )
    if int(y.min()) < 0 or int(y.max()) >= len(target.classes):
        raise UserError(
            f"Labels must lie in 0 … {len(target.classes) - 1}, got {int(y.min())} … {int(y.max())}. "
            "Choose the dataset that the classifier was trained for."
        )
    return x.float(), y.long()


def floats(x: Tensor, axes: int = 3) -> None:
    """Checks that a tensor holds items of so many axes; images have three.

    Raises:
        UserError: With what it holds instead.
    """
    if x.ndim != 1 + axes or not x.is_floating_point():
        what = {1: "Vectors", 2: "Sequences"}.get(axes, "Images")
        side = {1: "D", 2: "C, T"}.get(axes, "C, H, W")
        raise UserError(
            f"{what} must be floats of shape (N, {side}) in 0 … 1, got {x.dtype} {tuple(x.shape)}. "
            "Divide bytes by 255."
        )


def images_of(
    dataset: Dataset, config: StudyConfig
) -> tuple[Batch, Tensor, list[int], dict[str, Any]]:
    """Takes the images of a study from a dataset, spread evenly: images, labels, their indices, what a report says.

    Raises:
        UserError: If the dataset has no labels, or the split no images.
    """
    if dataset.y is None:
        raise UserError(
            f"{dataset.name} has no labels, so no answer is right or wrong. Choose a dataset with labels."
        )
    index = dataset.splits[config.split]
    if not len(index):
        raise UserError(
            f"The split {config.split} of {dataset.name} has no images. Choose another split."
        )
    pick = evenly(index, config.n)
    x = dataset.items(pick)
    data = {"name": dataset.name, "split": config.split, "fingerprint": dataset.fingerprint}
    return x, torch.as_tensor(dataset.y[pick]), [int(i) for i in pick], data

"""What an experiment compares, and how carefully; every arm has a switch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import create_model

from core.building.experiment.arms import Arm, ordered
from core.building.experiment.referees import referees
from core.building.gate import GateConfig
from core.catalog import Config, UserError, knob, seed_knob
from core.models import SYNTHETIC_FAMILY, families

QUICK = 3  # pairs of a quick look, which allows no verdict


class TrialConfig(Config):
    """What every comparison by a referee takes: its training, its test images, and samples of a generative model."""

    steps: int = knob(
        300, "Optimiser steps of every classifier.", ge=20, le=20_000, unit="steps", log=True
    )
    batch: int = knob(64, "Images per step.", ge=8, le=1024, unit="images", advanced=True)
    width: int = knob(16, "Channels of the classifier's first layer.", ge=4, le=128, advanced=True)
    family: str = knob(
        SYNTHETIC_FAMILY,
        "The generative model of the synthetic images.",
        advanced=True,
        choices=families.names,
    )
    model_images: int = knob(
        20_000,
        "Images that the generative model sees in its training, repeats included.",
        ge=200,
        le=10_000_000,
        unit="images",
        log=True,
        advanced=True,
    )
    confidence: float = knob(
        0.5,
        "Least probability of the wanted class, by a classifier trained on the same real images; 0 keeps all.",
        ge=0,
        le=1,
        advanced=True,
    )
    authentic: bool = knob(True, "Leaves out samples that copy a training image.", advanced=True)
    distinct: bool = knob(True, "Leaves out samples that repeat another one.", advanced=True)
    test_images: int = knob(
        2000,
        "Real test images, at most.",
        ge=50,
        le=100_000,
        unit="images",
        log=True,
        advanced=True,
    )
    seed: int = seed_knob("Of everything.", advanced=True)

    def trial(self) -> dict[str, Any]:
        """Gives the values that any other comparison takes as well."""
        return {name: getattr(self, name) for name in TrialConfig.knobs()}

    @property
    def gate(self) -> GateConfig:
        """What its samples have to pass; a referee of few images knows no manifold."""
        asked = {name: getattr(self, name) for name in ("confidence", "authentic", "distinct")}
        return GateConfig(manifold=0, copies=False, **asked)


class Asked(Config):
    """What is asked, of how many images, how often."""

    pipeline: str = knob("digits", "The saved pipeline in question.", title="Pipeline")
    per_class: str = knob(
        "10",
        "Real training images of each class, few to many, for example 5,10,20.",
        title="Images per class",
    )
    pairs: int = knob(10, "Paired repetitions; 6 are the fewest for a verdict.", ge=6, le=30)
    quick: bool = knob(False, "A first look: 3 pairs, and no verdict.", title="Quick look")


def _switches(entries: list[Arm]) -> dict[str, Any]:
    """Declares a switch for each arm that has one, by its name."""
    return {
        arm.name: (bool, knob(arm.on, arm.help, title=arm.label)) for arm in entries if arm.help
    }


_Switched: Any = create_model("_Switched", __base__=Asked, **_switches(ordered()))


class _Refereed(_Switched):
    """Who judges."""

    referee: str = knob(
        "small",
        "What learns from the images of each arm; what helps only one of them is worth less.",
        title="Referee",
        choices=referees.names,
    )
    backbone: str = knob(
        "",
        "Id of a classifier that was brought, own/NAME, for the linear probe and for fine-tuning.",
        title="Brought network",
        advanced=True,
    )
    trainer: str = knob(
        "",
        "package.module:fit here, for the referee trainer; fit(x, y, classes, seed, steps) gives predict(x).",
        path=True,
    )
    trainer_folder: str = knob(
        "", "Folder that the module is imported from; empty takes the one of Simulacra.", path=True
    )
    trainer_seconds: float = knob(
        600.0,
        "The longest that one of its trainings may take.",
        gt=0,
        le=86_400,
        unit="s",
        path=True,
    )
    robust: bool = knob(
        True,
        "Also measures how much of the accuracy is left under a cheap attack of the usual strength.",
        title="Under attack",
        advanced=True,
    )
    synthetic_per_class: int = knob(
        100, "Synthetic images of each class.", ge=1, le=10_000, unit="images", advanced=True
    )


class ExperimentConfig(TrialConfig, _Refereed):  # in a form, the fields of the last one come first
    """What is compared, and how carefully."""

    if TYPE_CHECKING:  # the switches come to be at import

        def __init__(self, **values: Any) -> None: ...

    @property
    def sizes(self) -> list[int]:
        """The real images per class, ascending.

        Raises:
            UserError: If the text is no list of such numbers.
        """
        parts = self.per_class.replace(";", ",").split(",")
        try:
            sizes = sorted({int(part) for part in parts if part.strip()})
        except ValueError:
            sizes = []
        if not sizes or sizes[0] < 1 or len(sizes) > 8:
            raise UserError(
                "experiment.per_class must be 1 to 8 whole numbers from 1, separated by commas, got "
                f"{self.per_class!r}. For example 5,10,20."
            )
        return sizes

    @property
    def count(self) -> int:
        """Pairs that are done."""
        return QUICK if self.quick else self.pairs

    @property
    def arms(self) -> list[Arm]:
        """The arms, the plain one first."""
        return [arm for arm in ordered() if not arm.help or getattr(self, arm.name)]

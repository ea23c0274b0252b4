"""What is asked of a dataset before it goes out: rights, leaks, and the marks of what is not real.

Each check is an entry; whoever overrides one says why, and the reason travels with the export.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from core.building.door.leaving import (
    DoorCheck,
    DoorConfig,
    Leaving,
    Memory,
    Purpose,
    Refusal,
    checks,
)
from core.building.door.memory import KEPT
from core.catalog import UserError
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Watch

for _file in pkgutil.iter_modules(__path__):  # each registers its checks
    importlib.import_module(f"{__name__}.{_file.name}")


def ordered() -> list[DoorCheck]:
    """Lists the checks in their order."""
    return sorted(checks, key=lambda entry: entry.order)


def check(
    dataset: Dataset,
    config: DoorConfig | None = None,
    *,
    overrides: Mapping[str, str] | None = None,
    memory: Memory = KEPT,
    watch: Watch = UNWATCHED,
    unlooked: dict[str, str] | None = None,
) -> list[Refusal]:
    """Asks a dataset at the door.

    Args:
        dataset: What is to leave.
        config: What for, and how closely it is looked at.
        overrides: By the name of a check, why the dataset leaves all the same.
        memory: What runs have seen, and what was opted out of.
        watch: Follows the checks; may end them.
        unlooked: Filled, by the name of a check, with why it could not look.

    Returns:
        What is wrong, in the order of the checks; with a ``reason`` where it is overridden.

    Raises:
        UserError: If an override names no check, or no reason.
    """
    reasons = allowed(overrides or {})
    leaving = Leaving(dataset, config or DoorConfig(), memory, watch)
    refusals = []
    for entry in ordered():
        watch.check()
        refusals += [
            replace(refusal, check=entry.name, reason=reasons.get(entry.name, ""))
            for refusal in entry.make(leaving)
        ]
    if unlooked is not None:
        unlooked.update(leaving.unlooked)
    return refusals


STATED = {"licence", "spdx", "consent"}  # checks that look at what somebody has to say of a set
ONLY_TOLD = ("licence", "spdx")  # of a ZIP, which is for oneself, too


def holding(refusals: Sequence[Refusal], told: Sequence[str] = ()) -> list[Refusal]:
    """Lists the refusals that nobody has overridden, without the checks that are only told."""
    return [refusal for refusal in refusals if refusal.holds and refusal.check not in told]


def allow(refusals: Sequence[Refusal], told: Sequence[str] = ()) -> None:
    """Lets a dataset out.

    Args:
        refusals: Of :func:`check`.
        told: Checks that do not hold it: :data:`ONLY_TOLD` for a ZIP.

    Raises:
        UserError: If there is a refusal that nobody has overridden.
    """
    hold = holding(refusals, told)
    if hold:
        said = " ".join(f"({refusal.check}) {refusal.sentence}" for refusal in hold)
        if STATED & {refusal.check for refusal in hold}:
            said += (
                " In a terminal both are stated by: python -m core datasets NAME --licence CC-BY-4.0 "
                '--consent "not needed".'
            )
        raise UserError(
            f"It is not let out at the door. {said} Whoever may decide it overrides a check with a reason, which is "
            f'kept: --override {hold[0].check}="the reason".'
        )


def allowed(overrides: Mapping[str, str]) -> dict[str, str]:
    """Checks overrides, by the name of a check.

    Raises:
        UserError: If one names no check, or no reason.
    """
    for name, reason in overrides.items():
        checks.get(name)
        if not reason.strip():
            raise UserError(
                f"The override of {name!r} needs a reason, which is kept with the export, got {reason!r}. For example "
                f'--override {name}="the owner has agreed by letter".'
            )
    return {name: " ".join(reason.split())[:500] for name, reason in overrides.items()}


def parsed(texts: Iterable[str]) -> dict[str, str]:
    """Reads overrides as they are typed, ``check=reason`` each.

    Raises:
        UserError: As :func:`allowed`.
    """
    pairs = (text.partition("=") for text in texts)
    return allowed({name.strip(): reason for name, _, reason in pairs})

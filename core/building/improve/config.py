"""What an improvement may cost, and what it may do."""

from __future__ import annotations

import time
from collections.abc import Callable

from core.catalog import Config, knob, seed_knob
from core.ground.watch import Watch
from core.models import SYNTHETIC_FAMILY, families


class ImproveConfig(Config):
    """How long it may take, and what is tried."""

    minutes: float = knob(
        15.0,
        "How long it may take; it plans its steps by that.",
        title="Time",
        ge=0.1,
        le=1440,
        unit="min",
    )
    name: str = knob("", "What the new version is called; empty takes a free name.", title="Name")
    mend: bool = knob(
        True,
        "Leaves out exact copies of the same label, blank images, and training images that are held out too.",
        title="Mend what is safe",
    )
    augment: bool = knob(
        True,
        "Adds augmented copies by the chain that helps most on the validation images.",
        title="Augmented copies",
    )
    generate: bool = knob(
        True,
        "Trains a generative model where the images suffice, and adds its samples if they help on validation images.",
        title="Synthetic images",
    )
    family: str = knob(
        SYNTHETIC_FAMILY,
        "The generative model of the synthetic images.",
        advanced=True,
        choices=families.names,
    )
    width: int = knob(
        16, "Channels of the first layer of the referee.", ge=4, le=128, advanced=True
    )
    again: str = knob(
        "",
        "Id of an improvement of before whose plan is done again, without what was taken back since.",
        advanced=True,
    )
    seed: int = seed_knob("Of all its choices.", advanced=True)


class Deadline:
    """How much of a time is left.

    Args:
        seconds: From now on.
        now: The clock.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.now, self.began = seconds, now, now()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.now() - self.began

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.seconds - self.spent

    def until(self, share: float) -> float:
        """Seconds until a share of the whole time is over; below 0 after that."""
        return share * self.seconds - self.spent


class Limited(Watch):
    """The watch of a step that may only take so long.

    Args:
        whole: The watch of the whole work.
        deadline: Its clock.
        share: Of the whole time, until which the step must have ended.
    """

    def __init__(self, whole: Watch, deadline: Deadline, share: float) -> None:
        self.whole, self.deadline, self.share = whole, deadline, share

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        self.whole.say(text)

    def stopped(self) -> str:
        if reason := self.whole.stopped():
            return reason
        return "Its time was over." if self.deadline.until(self.share) < 0 else ""


class Beat(Watch):
    """The watch of a training: whatever it tells, it lets the clock be told.

    Args:
        step: The watch of its step, which may end it.
        tick: Tells how much of the time is over.
    """

    def __init__(self, step: Watch, tick: Callable[[], None]) -> None:
        self.step, self.tick = step, tick

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        self.tick()

    def stopped(self) -> str:
        return self.step.stopped()

    def quiet(self) -> Watch:
        return self

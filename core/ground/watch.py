"""How long work tells its progress, and how it is stopped.

A function that takes long takes ``watch: Watch = UNWATCHED`` and calls it as it goes; it knows nothing of jobs, pages
or terminals. A loop counts, work of several steps says a share of itself and gives parts of it away::

    judge = features.judge(dataset, device, watch.part(0.0, 0.3))
    for start in range(0, len(x), BATCH):
        ...
        watch.count("Looking at", min(start + BATCH, len(x)), len(x), "images")  # says and checks
    for batch in watch.each(batches):  # checks only
        ...
    watch.say("Drawing the map", 0.9)

``say`` only tells. ``check`` raises :class:`Stopped` when nobody wants the work any longer: let it pass, and catch it
only to keep what there is, then raise it again. A loop that first has to save asks ``stopped()`` instead, saves, and
calls ``check`` after that.

The job's own is ``core.kinds.Task``, the terminal's ``core.commands.Terminal``. Another one overrides ``say`` and
``stopped``. Work calls them often; how often something is shown, the watch decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from core.ground import slices

Item = TypeVar("Item")


class Stopped(Exception):
    """Somebody asked for the end of the work; the text says who, in a sentence for people."""


class Watch:
    """The watch of nobody: shows nothing and never stops the work; a page's visitor who leaves still does."""

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        """Tells what is being done.

        Args:
            text: A sentence or a few words for people; empty for a work whose numbers say enough.
            done: How much is done, 0 … ``total``; None where that has not changed.
            total: How much there is; left out, ``done`` is a share.
        """

    def stopped(self) -> str:
        """Tells why to stop now, in a sentence for people; empty to go on."""
        return ""

    def check(self) -> None:
        """Ends the work here if nobody wants it any longer.

        Raises:
            Stopped: If somebody asked for the end.
        """
        slices.between()
        if reason := self.stopped():
            raise Stopped(reason)

    def count(self, text: str, done: int, total: int, unit: str = "") -> None:
        """Says ``text: 1,200 of 5,000 unit``, and checks.

        Raises:
            Stopped: If somebody asked for the end.
        """
        self.say(f"{text}: {done:,} of {total:,} {unit}".rstrip(), done, total)
        self.check()

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """Passes items on until somebody asks for the end.

        Raises:
            Stopped: Before an item, if somebody asked for the end.
        """
        for item in items:
            self.check()
            yield item

    def part(self, start: float, stop: float) -> Watch:
        """Gives the watch of a part of the work, whose own way leads from one share of the whole to another."""
        return _Part(self, start, stop)

    def aside(self) -> Watch:
        """Gives the watch of something on the way (data, a judge): its words are told, what it counts is not."""
        return _Part(self)

    def quiet(self) -> Watch:
        """Gives the watch of something too small to be told of, which ends as this one does."""
        return _Quiet(self)


class _Quiet(Watch):
    """Tells nothing of what another one watches."""

    def __init__(self, whole: Watch) -> None:
        self.whole = whole

    def stopped(self) -> str:
        return self.whole.stopped()


class _Part(Watch):
    """A part of what another one watches; without a span, its progress is not counted."""

    def __init__(self, whole: Watch, start: float = 0.0, stop: float | None = None) -> None:
        self.whole, self.start, self.stop = whole, start, stop

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        if done is None or self.stop is None:
            self.whole.say(text)
        else:
            self.whole.say(text, self.start + (self.stop - self.start) * done / max(total, 1e-9))

    def stopped(self) -> str:
        return self.whole.stopped()


UNWATCHED = Watch()

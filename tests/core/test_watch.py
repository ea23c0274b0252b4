"""Following long work: it is told, counted and stopped in one way."""

from __future__ import annotations

import pytest

from core.ground import slices
from core.ground.watch import UNWATCHED, Stopped, Watch


class Listener(Watch):
    """Keeps what it hears, and asks for the end after so many looks."""

    def __init__(self, patience: int = 1000) -> None:
        self.heard: list[tuple[str, float | None, float]] = []
        self.patience = patience

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        self.heard.append((text, done, total))

    def stopped(self) -> str:
        self.patience -= 1
        return "Enough." if self.patience < 0 else ""


def test_work_that_nobody_watches_goes_on_to_its_end():
    UNWATCHED.say("Drawing", 0.5)
    UNWATCHED.count("Drawing", 1, 2)
    UNWATCHED.part(0, 1).check()
    assert list(UNWATCHED.each([1, 2, 3])) == [1, 2, 3]
    assert UNWATCHED.stopped() == ""


def test_thousands_are_separated_and_a_count_may_have_no_unit():
    watch = Listener()
    watch.count("Referee", 1200, 5000)
    assert watch.heard == [("Referee: 1,200 of 5,000", 1200, 5000)]


def test_the_reason_of_the_end_travels_with_it():
    items = Listener(patience=2).each(range(10))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(Stopped, match=r"^Enough\.$"):
        next(items)


def test_saying_never_ends_the_work():
    watch = Listener(patience=0)
    watch.say("Saving", 1)
    watch.part(0, 1).say("Saving", 1)
    assert len(watch.heard) == 2


def test_parts_are_shares_of_the_whole_also_inside_each_other():
    watch = Listener()
    half = watch.part(0.5, 1.0)
    half.say("begins", 0)
    half.part(0.0, 0.5).count("inside", 500, 1000)
    half.say("words only")
    assert watch.heard == [
        ("begins", 0.5, 1.0),
        ("inside: 500 of 1,000", 0.625, 1.0),
        ("words only", None, 1.0),
    ]


def test_what_is_done_aside_does_not_count_but_can_be_stopped():
    watch = Listener(patience=1)
    aside = watch.aside()
    aside.count("Preparing the data", 1, 2, "images")
    assert watch.heard == [("Preparing the data: 1 of 2 images", None, 1.0)]
    with pytest.raises(Stopped, match="Enough"):
        aside.part(0, 1).check()


def test_a_visitor_who_leaves_ends_work_that_nobody_watches(monkeypatch):
    class Left(BaseException):
        """What a page raises."""

    def left() -> None:
        raise Left

    monkeypatch.setattr(slices, "_look", left)
    monkeypatch.setattr(slices, "EVERY", 0.0)
    with pytest.raises(Left):
        UNWATCHED.check()
    with slices.whole():  # what others share
        UNWATCHED.check()

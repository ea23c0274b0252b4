"""Numbers as people read them: percent, intervals, durations, so many of something; texts in one line."""

from __future__ import annotations

import re
from collections.abc import Sized
from time import localtime, strftime
from typing import SupportsFloat


def percent(share: SupportsFloat | None, digits: int = 1) -> str:
    """Writes a share: 0 %, 0.4 %, 47.3 %, 100 %; a dash for one that is not known.

    >>> percent(0.4731), percent(0.4731, 0), percent(1)
    ('47.3 %', '47 %', '100 %')
    """
    if share is None:
        return "–"
    text = f"{100 * float(share):.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + " %"


def percents(low: SupportsFloat, high: SupportsFloat, digits: int = 1) -> str:
    """Writes an interval of shares.

    >>> percents(0.4, 0.523)
    '40 to 52.3 %'
    """
    return f"{percent(low, digits).removesuffix(' %')} to {percent(high, digits)}"


def points(change: SupportsFloat, digits: int = 1) -> str:
    """Writes a change of a share in points of percent, with its sign.

    >>> points(0.0312), points(-0.5), points(-0.0001)
    ('+3.1', '-50.0', '+0.0')
    """
    return f"{round(100 * float(change), digits) + 0.0:+.{digits}f}"


def duration(seconds: float) -> str:
    """Writes a time.

    >>> duration(8.2), duration(125), duration(11400)
    ('8 s', '2 min 5 s', '3 h 10 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def day(when: float) -> str:
    """Writes a day, of seconds since 1970: 30 November 2026."""
    return strftime("%d %B %Y", localtime(when)).lstrip("0")


def one_line(text: str) -> str:
    """Writes a text in one line, without what cannot be printed.

    >>> one_line(" two\\tlines\\n of it")
    'twolines of it'
    """
    return " ".join("".join(char for char in text if char.isprintable()).split())


def letters(text: str) -> str:
    """Writes a text in one line of Markdown that is read letter by letter: no link, mention, table or HTML comes of it.

    >>> letters("a|b <i> @you")
    'a\\\\|b \\\\<i\\\\> \\\\@\\u2060you'
    """
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", one_line(text)).replace("@", "@\u2060")


def many(n: int | Sized, noun: str) -> str:
    """Writes how many there are of something whose plural ends in s.

    >>> many(1, "picture"), many(1200, "test image"), many([], "run")
    ('1 picture', '1,200 test images', '0 runs')
    """
    n = n if isinstance(n, int) else len(n)
    return f"{n:,} {noun}{'s' * (n != 1)}"

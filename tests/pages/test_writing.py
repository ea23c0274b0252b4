"""What a model wrote, as the page sets it out."""

from __future__ import annotations

import re

import numpy as np

from core.latent import writing
from pages.parts.latent import write


def test_each_letter_has_the_surprise_of_its_own_bytes():
    data = "é�a".encode() + b"\xe2\x82" + b"b"  # two, three and one byte, two that are no letter
    nats = np.arange(len(data), dtype=float)
    others = [[(ord("x"), 0.5)]] * len(data)
    found = writing.Read(data, nats, nats, others, [0] * len(data))
    said = re.findall(r'title="([\d.]+) nats[^>]*>([^<]+)</span>', write.coloured(found))
    assert said == [
        ("1.00", "é"),
        ("9.00", "�"),
        ("5.00", "a"),
        ("6.00", "�"),
        ("7.00", "�"),
        ("8.00", "b"),
    ]


def test_what_is_too_long_to_be_read_loses_its_beginning():
    data, begin = writing.judged("é" * 2000, b"and on")
    assert data == ("é" * 1997 + "and on").encode() and begin == 2 * 1997
    assert writing.judged("", b"all") == (b"all", 0) and writing.judged("so", b"") == (b"so", 2)
    assert writing.judged("so", b"\xff\xc3") == (
        b"so\xff\xc3",
        2,
    )  # what is no letter stays what it is

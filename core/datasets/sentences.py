"""Sentences about the faces that this program draws: a small grammar with several wordings of everything it can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.datasets.faces import NAMES

_MOODS = {
    "neutral": ("calm", "quiet", "composed"),
    "happy": ("happy", "smiling", "cheerful"),
    "sad": ("sad", "gloomy", "downcast"),
    "surprised": ("surprised", "astonished", "startled"),
    "wink": ("winking", "playful", "impish"),
}
_GLASSES = {"none": "", "round": "round glasses", "square": "square glasses"}
_STYLES = {
    "short": "short {colour} hair",
    "swept": "{colour} hair swept aside",
    "bob": "a {colour} bob",
    "long": "long {colour} hair",
    "curly": "{colour} curls",
    "bun": "{colour} hair in a bun",
}
_BEARDS = {"none": "", "beard": "a beard"}
_FRECKLES = {"none": "", "freckles": "freckles"}
_FRAMES = (
    "{A} {mood} person with {look}, in a {shirt} shirt.",
    "{A} {mood} face: {look}; a {shirt} shirt before a {background} wall.",
    "Somebody {mood} with {look} wears a {shirt} shirt.",
    "The person looks {mood} and has {look}.",
    "{A} {mood} person with {look} stands before a {background} wall.",
    "Here is {a} {mood} one, with {look} and a {shirt} shirt.",
)


def listed(parts: Sequence[str]) -> str:
    """Joins parts as a sentence does: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def written(who: Mapping[str, np.ndarray], seed: int) -> list[str]:
    """Writes a sentence about each face; which wording is drawn by the seed, face by face.

    Args:
        who: The attributes of :func:`core.datasets.faces.attributes`.
        seed: Of the wordings.
    """
    count = len(who["expression"])
    draws = np.random.Generator(np.random.Philox(key=[seed, 1])).random((count, 4))
    return [
        _sentence({name: NAMES[name][who[name][i]] for name in NAMES}, draws[i].tolist())
        for i in range(count)
    ]


def _sentence(face: Mapping[str, str], draw: Sequence[float]) -> str:
    def pick(options: Sequence[str], at: int) -> str:
        return options[int(draw[at] * len(options))]

    mood = pick(_MOODS[face["expression"]], 0)
    article = "an" if mood[0] in "aeiou" else "a"
    hair = _STYLES[face["hair_style"]].format(colour=face["hair_colour"])
    parts = [hair, f"{face['eye_colour']} eyes" * (draw[1] < 0.6), _GLASSES[face["glasses"]]]
    parts += [_BEARDS[face["beard"]], _FRECKLES[face["freckles"]]]
    parts = [part for part in parts if part]
    if draw[2] < 0.5:  # what is said first is no rule of the language
        parts = parts[1:] + parts[:1]
    return pick(_FRAMES, 3).format(
        A=article.capitalize(),
        a=article,
        mood=mood,
        look=listed(parts),
        shirt=face["shirt"],
        background=face["background"],
    )

"""What adaptive building has found so far: gains over the pairs, with interval and verdict when all are done."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.building.adaptive import AdaptConfig, Adaptive
from core.building.pool import FEWEST as VOUCHED
from core.ground.stats import bca, sign_flip
from core.ground.writing import many

FEWEST = 6  # pairs from which a sign-flip test can be significant
ARMS = {"real": "Real images only", "uniform": "Equal shares", "adaptive": "Adaptive"}


def lacking(trial: Adaptive, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names the classes that lack most: those with fewer than half of the usual number of real images.

    Where there are none: the third that the first referees of all pairs got wrong most often on valid.
    """
    classes = trial.dataset.classes
    if trial.few:
        return [classes[label] for label in trial.few]
    wrong = dict.fromkeys(classes, 0.0)
    for pair in pairs:
        for name, count in pair["rounds"][0]["asked"].items():
            wrong[name] += count
    ranked = sorted(classes, key=lambda name: -wrong[name])
    return ranked[: max(1, math.ceil(len(classes) / 3))]


def result(trial: Adaptive, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Gives what is known so far in plain values: gains over all pairs, with interval and verdict when all are done."""
    config = trial.config
    names = lacking(trial, pairs) if pairs else []
    whole = len(pairs) == config.pairs

    def at(pair: Mapping[str, Any], arm: str, of: str) -> float:
        found = pair["accuracy"][arm]
        if of == "all":
            return found["all"]
        values = [found["classes"][name] for name in names if found["classes"][name] is not None]
        return float(np.mean(values)) if values else math.nan

    gains = []
    for of in ("lacking", "all"):
        for arm, against in (("adaptive", "uniform"), ("adaptive", "real"), ("uniform", "real")):
            change = [at(pair, arm, of) - at(pair, against, of) for pair in pairs]
            if pairs and not any(math.isnan(value) for value in change):
                gains.append({"of": of, "arm": arm, "against": against, **gained(change, whole)})
    head = next((g for g in gains if (g["of"], g["against"]) == ("lacking", "uniform")), None)
    return {
        "done": whole,
        "pairs": len(pairs),
        "of": config.pairs,
        "classes": names,
        "counted": bool(trial.few),
        "arms": ARMS,
        "gains": gains,
        "mean": {
            of: {arm: float(np.mean([at(pair, arm, of) for pair in pairs])) for arm in ARMS}
            for of in ("lacking", "all")
        }
        if gains
        else {},
        "n_test": len(trial.trial.test),
        "n_lacking": int(
            np.isin(trial.trial.test_y, [trial.dataset.classes.index(n) for n in names]).sum()
        ),
        "verdict": _verdict(head, names, config) if head else "",
        "asked": {
            name: round(float(np.mean([p["added"]["adaptive"]["asked"][name] for p in pairs])))
            for name in trial.dataset.classes
        }
        if pairs
        else {},
        "each": list(pairs),
        "notes": _notes(trial, pairs),
    }


def gained(change: Sequence[float], whole: bool = True) -> dict[str, Any]:
    """Gives the mean of paired differences in points, its interval, the test and what can be said; (n,) of them."""
    n, mean = len(change), float(np.mean(change))
    record = {"effect": mean, "low": None, "high": None, "p": None, "n": n, "verdict": ""}
    if n < FEWEST or not whole:
        return record
    low, high = bca(change)
    p = sign_flip(change)
    told = p <= 0.05 and (low > 0 or high < 0)
    verdict = ("helps" if low > 0 else "hurts") if told else "cannot tell"
    return record | {"low": low, "high": high, "p": p, "verdict": verdict}


def _verdict(head: Mapping[str, Any], names: Sequence[str], config: AdaptConfig) -> str:
    of = ", ".join(names)
    if not head["verdict"]:
        few = (
            f"a verdict needs {FEWEST} pairs" if config.pairs < FEWEST else "not all pairs are done"
        )
        why = f"{many(head['n'], 'pair')}; {few}"
        return f"On {of}: adaptive {head['effect']:+.1f} points against equal shares ({why})."
    size = f"{head['effect']:+.1f} points [{head['low']:+.1f}, {head['high']:+.1f}]"
    why = f"{many(head['n'], 'pair')}, p = {head['p']:.3f}"
    said = {
        "helps": f"Asking for what is lacking helps {of}: {size} against equal shares at the same budget ({why}).",
        "hurts": f"Asking for what is lacking hurts {of}: {size} against equal shares at the same budget ({why}).",
    }
    return said.get(
        head["verdict"],
        f"It cannot be told whether asking for what is lacking helps {of}: {size} against equal shares ({why}).",
    )


def _notes(trial: Adaptive, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    config, notes = trial.config, []
    n = len(trial.trial.test)
    notes.append(
        f"{n:,} real test images, looked at once at the end of each pair; every referee is trained for "
        f"{config.steps:,} steps of {config.batch} images."
    )
    stopped = [len(pair["rounds"]) for pair in pairs if pair["stopped"]]
    if stopped:
        spent = " to ".join(dict.fromkeys(str(end(stopped)) for end in (min, max)))
        notes.append(
            f"{len(stopped)} of {many(len(pairs), 'pair')} stopped early, after {spent} rounds: two "
            "of them brought no gain beyond chance. Equal shares got as many images as were spent."
        )
    missing = {
        arm: sum(pair["added"][arm]["missing"] for pair in pairs) for arm in ("uniform", "adaptive")
    }
    for arm, count in missing.items():
        if count:
            notes.append(
                f"{ARMS[arm]}: {count:,} images could not be made; the gate refused too many samples."
            )
    unvouched = sorted({name for pair in pairs for name in pair["unvouched"]})
    if unvouched:
        notes.append(
            f"No samples of {', '.join(unvouched)} were used: with fewer than {VOUCHED} real images nobody can tell "
            "whether a sample is of the class."
        )
    refused: dict[str, int] = {}
    for pair in pairs:
        for name, count in pair["refused"].items():
            refused[name] = refused.get(name, 0) + count
    if any(refused.values()):
        said = ", ".join(f"{count:,} by {name}" for name, count in refused.items() if count)
        notes.append(f"Samples that the gate refused: {said}.")
    return notes

"""Says what a model is on one page, and keeps what its owner says of it."""

from __future__ import annotations

import argparse
from typing import Any

from core import runs
from core.commands import commands, show, takes_run
from core.measure import card
from core.measure.card import ModelCard
from core.measure.verdict import Claim


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser)
    parser.add_argument("--use", help="say what it is meant for; empty for what measures say")
    parser.add_argument("--limits", help="say what it must not be taken for, a line each")
    parser.add_argument("--who", help="say who made it")


@commands.add("card", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Say what a model is on one page: what it can, its limits, data, licence, date, who."""
    found = runs.find(arguments.run_id, generator=True)
    said = {name: text for name in card.SAID if (text := getattr(arguments, name)) is not None}
    if said:
        card.state(found, **said)
    about = card.of(found)
    show(arguments, _result(about), _lines(about))


def _result(about: ModelCard) -> dict[str, Any]:
    return {
        "run": about.run,
        "name": about.name,
        "sentence": about.sentence,
        "claims": [_claim(claim) for claim in about.claims],
        "use": about.use,
        "limits": list(about.limits),
        "said_by_owner": list(about.said),
        "facts": {fact.name: fact.text for fact in about.facts},
        "evaluation": about.evaluation.job if about.evaluation else None,
    }


def _claim(claim: Claim) -> dict[str, Any]:
    m = claim.number
    return {
        "topic": claim.topic,
        "sentence": claim.sentence,
        "measure": m.title if m else "",
        "value": m.value if m else None,
        "interval": list(m.interval) if m and m.interval else None,
        "floor": m.floor if m else None,
    }


def _lines(about: ModelCard) -> list[str]:
    lines = [f"{about.name}: {about.sentence}"]
    for claim in about.claims:
        m = claim.number
        lines.append(f"{claim.topic:<28} {claim.sentence}")
        if m is not None:
            sure = f" ({m.written(m.low)} to {m.written(m.high)})" if m.interval else ""
            real = f"; real images {m.written(m.floor)}" if m.floor is not None else ""
            lines.append(f"{'':<28} {m.title}: {m.written(m.value)}{sure}{real}")
    lines.append(f"{'Intended use':<28} {about.use}")
    lines += [f"{'Limits' if i == 0 else '':<28} {text}" for i, text in enumerate(about.limits)]
    return lines + [
        f"{fact.name:<28} {fact.text}" + (f". {fact.remedy}" if fact.remedy else "")
        for fact in about.facts
    ]

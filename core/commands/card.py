"""Says what a model or a dataset is on one page, and keeps what the owner of a model says of it."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from core import datasets, runs
from core.building.door import Purpose
from core.catalog import UserError, assign, parse
from core.commands import Terminal, commands, out_file, show, takes_values, write
from core.measure import card
from core.measure.card import ModelCard
from core.measure.verdict import Claim


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "run_id", metavar="RUN", help="a run (id, start of an id, or name), or a dataset"
    )
    parser.add_argument("--use", help="say what it is meant for; empty for what measures say")
    parser.add_argument("--limits", help="say what it must not be taken for, a line each")
    parser.add_argument("--who", help="say who made it")
    parser.add_argument(
        "--purpose", choices=get_args(Purpose), default="not said", help="what a dataset leaves for"
    )
    parser.add_argument(
        "--near", action="store_true", help="also look for near copies of held-out images"
    )
    parser.add_argument("--out", help="README.md: the card of a dataset, as exports carry it")
    takes_values(parser, "a parameter of a dataset, for example dataset.size=16")


@commands.add("card", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Say what a model is on one page (what it can, its limits, data, who), or what a dataset is and may."""
    if not _is_run(arguments.run_id) and arguments.run_id in datasets.names():
        _dataset(arguments)
        return
    found = runs.find(arguments.run_id, generator=True)
    said = {name: text for name in card.SAID if (text := getattr(arguments, name)) is not None}
    if said:
        card.state(found, **said)
    about = card.of(found)
    show(arguments, _result(about), _lines(about))


def _is_run(text: str) -> bool:
    try:
        runs.find(text, generator=True)
    except UserError:
        return False
    return True


def _dataset(arguments: argparse.Namespace) -> None:
    from core.building import card as cards
    from core.building import door

    out = out_file(arguments.out, ".md") if arguments.out else None
    name = arguments.run_id
    if flags := [f"--{word}" for word in card.SAID if getattr(arguments, word) is not None]:
        raise UserError(
            f"{name!r} is a dataset, and {', '.join(flags)} is said of a run. Leave it out; licence and consent of a "
            "dataset are stated on the page Data."
        )
    config = assign(parse(arguments.set), {"dataset": datasets.config_of(name)})["dataset"]
    dataset = datasets.load(name, config, Terminal())
    purpose = "" if arguments.purpose == "not said" else arguments.purpose
    about = cards.of(dataset, purpose=purpose)
    asked = door.DoorConfig(purpose=arguments.purpose, near=arguments.near)
    unlooked: dict[str, str] = {}
    refusals = door.check(dataset, asked, watch=Terminal(), unlooked=unlooked)
    result = about.record() | {"door": [each.record() for each in refusals], "unlooked": unlooked}
    lines = [f"{about.name}: {about.sentence}"]
    lines += [f"held at the door ({each.check}): {each.sentence}" for each in refusals]
    lines += [f"not looked for ({check}): {why}" for check, why in unlooked.items()]
    if not refusals:
        lines.append("No check at the door holds it.")
    lines += about.remarks
    lines += [f"{answer.question} {answer.text}" for answer in about.answers if answer.known]
    unknown = [answer.question for answer in about.answers if not answer.known]
    lines.append(f"Not known: {' '.join(unknown) or 'nothing.'}")
    if out is not None:
        write(out, cards.readme(dataset, purpose=purpose).encode())
        result["out"] = str(out)
        lines.append(f"Wrote {out}")
    show(arguments, result, lines)


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

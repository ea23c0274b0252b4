"""Lists the families of models."""

from __future__ import annotations

import argparse
from typing import Any

from core.catalog import Config
from core.commands import commands, knob_lines, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("name", nargs="?", help="describe this one")


@commands.add("families", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """List the families of models, or the parameters of one."""
    from core.models import families

    chosen = [families.get(arguments.name)] if arguments.name else list(families)
    rows, lines = [], []
    for entry in chosen:
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "caption": entry.caption,
                "presets": dict(entry.presets),
                "parameters": _parameters(entry.config),
                "sampling": _parameters(entry.sampling),
            }
        )
        lines.append(f"{entry.name:<12} {entry.title}: {entry.caption}")
        if arguments.name:
            lines += knob_lines(entry.config, "family.")
            lines += ["for sample --set:", *knob_lines(entry.sampling, "")]
            if entry.presets:
                lines.append(f"presets: {', '.join(entry.presets)}")
    show(arguments, {"families": rows}, lines)


def _parameters(config: type[Config]) -> dict[str, Any]:
    return {
        name: {key: getattr(knob, key) for key in ("default", "allowed", "unit", "help")}
        for name, knob in config.knobs().items()
    }

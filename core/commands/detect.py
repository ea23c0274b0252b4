"""Says what is known of pictures and exports: whether they are marked as made, and by which run."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.commands import commands, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="PNG, JPEG, WebP, GIF, MP4, or an export: a folder, ZIP, Parquet, tar or NPZ",
    )


@commands.add("detect", arguments=arguments)
def run(arguments: argparse.Namespace) -> None:
    """Say what is known of a picture or an export: made here, by which run, with which marks."""
    from core.building import detect

    found = [detect.file(Path(file)) for file in arguments.files]
    lines = [f"{each.file}: {each.sentence}" for each in found]
    show(arguments, {"files": [each.record() for each in found]}, lines)

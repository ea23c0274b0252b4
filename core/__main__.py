"""The command line: ``python -m core …``; anything a page can do, a script can do."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from core import commands
from core.catalog import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line and exit 2, like any other UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0 done, 1 the work failed, 2 the request was wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows cannot write every letter
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser(argv).parse_args(argv)
        return arguments.run(arguments) or 0
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "Interrupted. A job that was started goes on; stop it with: python -m core stop RUN",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 0


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser(
        prog="python -m core", description="Train, list, sample and manage generative models."
    )
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands.commands:
        chosen = argv[:1] == [command.name]
        subparser = choices.add_parser(
            command.name,
            help=command.caption,
            description=command.caption,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=_parameters(command, argv[1:]) if chosen else "",
        )
        subparser.set_defaults(run=command.make)
        subparser.add_argument("--json", action="store_true", help="print JSON, one object")
        if chosen:  # the arguments of the others are not needed, and may cost time to know
            command.arguments(subparser)
    return parser


def _parameters(command: commands.Command, argv: Sequence[str]) -> str:
    """Lists the parameters that ``--set`` takes for what the command line names; only when help is asked for."""
    if not {"-h", "--help"} & set(argv) or command.parameters is None:
        return ""
    peek = Parser(prog="python -m core", add_help=False)
    command.arguments(peek)  # nothing is required of a line that is not finished
    for action in peek._actions:
        action.required = False
        if not action.option_strings and action.nargs is None:
            action.nargs = "?"
    chosen = peek.parse_known_args([word for word in argv if word not in ("-h", "--help")])[0]
    lines = ["parameters, for --set:"]
    for part, config in command.parameters(chosen).items():
        lines += commands.knob_lines(config, part if not part or part.endswith(" ") else f"{part}.")
    return "\n".join(lines) if len(lines) > 1 else ""


if __name__ == "__main__":
    sys.exit(main())

"""Writes a text with a run that has learned to, or says how much a text surprises it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from core import runs
from core.catalog import UserError
from core.commands import (
    commands,
    given,
    label_of,
    sampling_of_run,
    show,
    takes_run,
    takes_values,
)

parameters = sampling_of_run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    takes_run(parser, step=True)
    parser.add_argument("--prompt", default="", help="what the text begins with (default nothing)")
    parser.add_argument("-n", type=int, default=400, help="bytes at most (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--id", type=int, default=0, help="another text of the seed (default 0)")
    parser.add_argument("--label", help="class to write, by its name; any otherwise")
    parser.add_argument("--temperature", type=float, help="lower is more typical, 0 the likeliest")
    parser.add_argument("--top-p", type=float, dest="top_p", help="share of the likeliest bytes")
    parser.add_argument(
        "--read", metavar="TEXT", help="write nothing: say how much this text surprises the run"
    )
    takes_values(parser, "a sampling parameter, for example temperature=0.8")


@commands.add("write", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """Write a text with a run, from a prompt."""
    from core import latent
    from core.latent import writing

    job = runs.find(arguments.run_id)
    opened = runs.open_model(job, arguments.step)
    writing.allow(opened)
    assert opened.sampling is not None
    values = given(arguments, "sampling", "temperature", "top_p")
    sampling = opened.sampling.of(
        {name.removeprefix("sampling."): value for name, value in values.items()}, "sampling"
    )
    label = None if arguments.label is None else label_of(job, opened, arguments.label)
    prompt, written = _typed(arguments.prompt), bytearray()
    if arguments.read is not None:
        if prompt:
            raise UserError("--read judges a text, and --prompt begins one. Leave one of them out.")
        data, begin = writing.data_of(_typed(arguments.read)), 0
    else:
        stream = writing.write(
            opened,
            prompt,
            sampling,
            length=arguments.n,
            seed=arguments.seed,
            id=arguments.id,
            label=label,
        )
        if not arguments.json:
            print(prompt, end="", flush=True)
        for part in writing.decoded(writing.kept(stream, written)):
            if not arguments.json:
                print(part, end="", flush=True)
        if not arguments.json:
            print()
        data, begin = writing.judged(prompt, bytes(written))
    found = writing.read(opened, data, latent.trained_on(job), label=label, begin=begin).record()
    result: dict[str, Any] = {"run": job.id, "step": opened.step, "sampling": sampling.record()}
    if arguments.read is None:
        text = written.decode("utf-8", "replace")
        result |= {"prompt": prompt, "text": text, "seed": arguments.seed, "id": arguments.id}
    else:
        result |= {"text": data.decode()}
    if label is not None:
        result |= {"label": label, "class": opened.classes[label]}
    line = (
        f"{found['nats_per_byte']:.3f} nats per byte, by a table of counts {found['counts_nats_per_byte']:.3f}. "
        f"Longest run that the training texts hold: {found['longest_copied_run']} bytes; in 95 of 100 places of unseen "
        f"texts at most {found['usual_copied_run']}."
    )
    if arguments.json:
        show(arguments, result | found, [])
    else:
        print(line, file=sys.stdout if arguments.read is not None else sys.stderr)


def _typed(text: str) -> str:
    """Reads an argument, in which what is no UTF-8 becomes a question mark."""
    return text.encode("utf-8", "replace").decode()

"""Lists the datasets; prepares, keeps or deletes one."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping

from core.catalog import Config, UserError, parse
from core.commands import Terminal, commands, knob_lines, show, takes_values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("name", nargs="?", help="prepare and describe this one")
    takes_values(parser, "parameters of the dataset, for example size=16")
    parser.add_argument(
        "--look",
        action="store_true",
        help="only say how a folder, ZIP or file of pictures would be read",
    )
    parser.add_argument("--save", metavar="NAME", help="keep what was prepared under this name")
    parser.add_argument("--licence", help="say under which licence a saved dataset stands")
    parser.add_argument(
        "--consent",
        help="say whether the people on it agreed: unknown, given, not needed or withdrawn",
    )
    parser.add_argument("--creator", help="say who created a saved dataset, and who paid for it")
    parser.add_argument("--maintainer", help="say who maintains it, and how they are reached")
    parser.add_argument("--delete", action="store_true", help="delete this saved dataset, for good")
    parser.add_argument("--yes", action="store_true", help="really delete")


def parameters(chosen: argparse.Namespace) -> Mapping[str, type[Config]]:
    """Lists the configs that ``--set`` takes."""
    from core import datasets

    return {"": datasets.config_of(chosen.name)} if chosen.name else {}


@commands.add("datasets", arguments=arguments, parameters=parameters)
def run(arguments: argparse.Namespace) -> None:
    """List the datasets, or prepare and describe one."""
    from core import datasets
    from core.media import recorded

    if arguments.name is None:
        rows = [
            {"name": about.name, "title": about.title, "caption": about.caption}
            for about in map(datasets.describe, datasets.names())
        ]
        show(
            arguments,
            {"datasets": rows},
            [f"{row['name']:<16} {row['title']}: {row['caption']}" for row in rows],
        )
        return
    if arguments.delete:
        if not arguments.yes:
            raise UserError(
                f"This deletes the dataset {arguments.name} for good. Add --yes to do it."
            )
        datasets.delete(arguments.name)
        show(
            arguments,
            {"dataset": arguments.name, "done": "delete"},
            [f"{arguments.name}: deleted."],
        )
        return
    if arguments.look:
        _look(arguments)
        return
    if arguments.save and arguments.name in _importers():
        values = parse(arguments.set)
        dataset = datasets.bring(arguments.save, values, Terminal(), source=arguments.name)
    else:
        dataset = datasets.load(arguments.name, parse(arguments.set), Terminal())
        if arguments.save:
            dataset = datasets.save(arguments.save, dataset)
    terms = {key: getattr(arguments, key) for key in datasets.TERMS}
    if any(said is not None for said in terms.values()):
        dataset = datasets.state(arguments.save or arguments.name, **terms)
    result = {
        "name": dataset.name,
        "images": len(dataset.x),
        **recorded(dataset.medium.name, dataset.shape),
        "levels": dataset.levels,
        "classes": list(dataset.classes),
        "splits": {part: len(index) for part, index in dataset.splits.items()},
        "counts": dataset.counts(),
        "fingerprint": dataset.fingerprint,
        "parent": dataset.parent,
        "group": dataset.group,
        **{key: dataset.terms.get(key, "") for key in datasets.TERMS},
        "refused": [list(pair) for pair in dataset.refused],
        # sentences, then what each folder at the top was taken as
        "notes": [
            *dataset.notes,
            *(
                {"folder": name, "taken_as": kind}
                for name, kind in dataset.imported("folders") or []
            ),
        ],
        "range": dataset.imported("range"),
    }
    lines = [
        f"{key:<12} {value}"
        for key, value in result.items()
        if key not in ("counts", "refused", "notes", "range")
    ]
    lines += [f"{name}: {counts}" for name, counts in result["counts"].items()]
    lines += [f"left out     {file}: {reason}" for file, reason in dataset.refused]
    lines += dataset.notes
    config = datasets.config_of(dataset.name)
    if config.knobs():
        lines += ["parameters, for --set:", *knob_lines(config, "")]
    show(arguments, result, lines)


def _look(arguments: argparse.Namespace) -> None:
    """Says how a folder, ZIP or file would be read, in every way that it can be."""
    from core import datasets

    if arguments.name not in _importers():
        raise UserError(
            f"--look is for a folder or ZIP of pictures, got the dataset {arguments.name!r}. "
            "Write: datasets folder --set path=birds.zip --look."
        )
    values = parse(arguments.set)
    preview = datasets.preview(values, arguments.name)
    lines = [f"format: {preview.format}"] if preview.format else []
    lines += [f"{preview.pictures:,} pictures" + (f"; {preview.beside}" if preview.beside else "")]
    if preview.oblong:
        lines.append(f"{preview.oblong:,} of them are not square: --set fit=crop or fit=pad.")
    if preview.reach:
        lines.append(
            f"Annotated boxes of {preview.reach:,} of them reach into what a crop cuts off."
        )
    for reading in preview.readings:
        mark = "taken" if reading["kind"] == preview.taken else "or   "
        lines.append(f"{mark} {reading['kind']:<8} {reading['sentence']}")
        lines += [f"{'':<14} {note}" for note in reading["notes"]]
    if preview.problem:
        lines.append(preview.problem)
    if preview.deep:
        lines.append(
            f"{preview.deep:,} pictures hold more than 8 bits"
            + ("." if preview.largest is None else f"; their largest value is {preview.largest:g}.")
        )
    if preview.ones:
        lines.append("The pictures hold only the values 0 and 1; 1 becomes white.")
    if group := values.get("group") or preview.group:
        lines.append(f"Pictures of one {group} stay in one split.")
    if preview.columns:
        listed = ", ".join(preview.columns)
        lines.append(f"Pictures are kept in one split with --set group=COLUMN, one of: {listed}.")
    lines.append("Another way is chosen with --set reading=splits, classes, file or none.")
    told = dataclasses.asdict(preview)
    del told["samples"]
    show(arguments, told, lines)


def _importers() -> list[str]:
    from core import datasets

    return [entry.name for entry in datasets.importers()]

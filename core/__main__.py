"""The command line: ``python -m core …``; anything a page can do, a script can do."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from core import jobs, runs, worker
from core.catalog import Config, UserError, parse, plain


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line and exit 2, like any other UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0 done, 1 the work failed, 2 the request was wrong."""
    argv = list(sys.argv[1:] if argv is None else argv)
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    epilog = _parameters(argv)

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], help: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help,
            description=help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=epilog if argv and argv[0] == name else "",
        )
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="print JSON, one object")
        return made

    listing = command("datasets", _datasets, "List the datasets, or prepare and describe one.")
    listing.add_argument("name", nargs="?", help="prepare and describe this one")
    _set(listing, "parameters of the dataset, for example size=16")
    listing.add_argument("--save", metavar="NAME", help="keep what was prepared under this name")
    listing.add_argument(
        "--delete", action="store_true", help="delete this saved dataset, for good"
    )
    listing.add_argument("--yes", action="store_true", help="really delete")

    listing = command(
        "families", _families, "List the families of models, or the parameters of one."
    )
    listing.add_argument("name", nargs="?", help="describe this one")

    train = command("train", _train, "Train a model or a classifier as a job of its own.")
    train.add_argument("--dataset", default=None, help="name of a dataset (default digits)")
    train.add_argument("--family", default=None, help="name of a family (default gan)")
    train.add_argument(
        "--classifier", action="store_true", help="train a classifier instead of a generative model"
    )
    train.add_argument("--preset", help="start from a preset of the family")
    train.add_argument("--like", metavar="RUN", help="start from the settings of another run")
    train.add_argument("--images", help="images to see (train.images)")
    train.add_argument("--seed", help="seed (train.seed)")
    train.add_argument("--name", default="", help="what to call the run")
    _set(train, "a parameter, for example family.beta=2; the short name works while it is unique")
    train.add_argument("--wait", action="store_true", help="follow the training to its end")

    listing = command("runs", _runs, "List the runs, or show one.")
    listing.add_argument("run_id", nargs="?", metavar="RUN", help="show this one")

    sample = command("sample", _sample, "Draw images from a run.")
    sample.add_argument("run_id", metavar="RUN", help="id, start of an id, or name")
    sample.add_argument("-n", type=int, default=64, help="how many (default 64)")
    sample.add_argument("--seed", type=int, default=0, help="seed of the noise (default 0)")
    sample.add_argument("--label", help="class to draw, by name or number; all classes otherwise")
    sample.add_argument("--step", type=int, help="step of the checkpoint (default: the newest)")
    sample.add_argument("--columns", type=int, default=0, help="images per row of a PNG")
    sample.add_argument(
        "--out", required=True, help="grid.png, or samples.npz with x (N, C, H, W) in [0, 1] and y"
    )
    sample.add_argument(
        "--between", type=int, nargs=2, metavar=("A", "B"), help="draw the way from image A to B"
    )
    sample.add_argument("--way", choices=("slerp", "lerp"), default="slerp", help="of --between")
    _set(sample, "a sampling parameter, for example temperature=0.8")

    for name, act, help in (
        ("stop", jobs.stop, "Stop a run; it saves a checkpoint first."),
        ("resume", jobs.resume, "Go on with a stopped, failed or interrupted run."),
        ("delete", jobs.delete, "Delete a run and all its files, for good."),
    ):
        one = command(name, _act(act, name), help)
        one.add_argument("run_id", metavar="RUN", help="id, start of an id, or name")
        if name == "delete":
            one.add_argument("--yes", action="store_true", help="really delete")
        if name == "resume":
            one.add_argument("--wait", action="store_true", help="follow the training to its end")
    rename = command("rename", _rename, "Give a run another name or note.")
    rename.add_argument("run_id", metavar="RUN", help="id, start of an id, or name")
    rename.add_argument("--name", help="the new name")
    rename.add_argument("--note", help="the new note")
    return parser


def _set(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=help)


def _parameters(argv: Sequence[str]) -> str:
    """Lists the parameters that ``--set`` takes for what the command line names; only when help is asked for."""
    if not {"-h", "--help"} & set(argv):
        return ""
    peek = argparse.ArgumentParser(add_help=False)
    peek.add_argument("command", nargs="?")
    peek.add_argument("name", nargs="?")
    peek.add_argument("--dataset", default="digits")
    peek.add_argument("--family", default="gan")
    peek.add_argument("--classifier", action="store_true")
    chosen = peek.parse_known_args([word for word in argv if word not in ("-h", "--help")])[0]
    parts: Mapping[str, type[Config]] = {}
    if chosen.command == "train":
        parts = worker.parts(*_choice(chosen.classifier, chosen.dataset, chosen.family))
    elif chosen.command == "datasets" and chosen.name:
        from core import datasets

        parts = {"": datasets.config_of(chosen.name)}
    elif chosen.command == "sample":
        from core.models import families

        wanted = (
            [runs.family_of(jobs.find(chosen.name, *runs.KINDS))]
            if chosen.name
            else families.names()
        )
        parts = {f"({name}) ": families.get(name).extra["sampling"] for name in wanted}
    lines = ["parameters, for --set:"]
    for part, config in parts.items():
        lines += _knob_lines(config, part if not part or part.endswith(" ") else f"{part}.")
    return "\n".join(lines) if len(lines) > 1 else ""


def _knob_lines(config: type[Config], prefix: str) -> list[str]:
    lines = []
    for name, knob in config.knobs().items():
        unit = f" {knob.unit}" if knob.unit else ""
        lines.append(
            f"  {prefix + name:<26} {knob.help} {knob.allowed.capitalize()}; default {plain(knob.default)}{unit}."
        )
    return lines


def _choice(classifier: bool, dataset: str, family: str) -> tuple[str, dict[str, str]]:
    return (
        ("classifier", {"dataset": dataset})
        if classifier
        else ("train", {"dataset": dataset, "family": family})
    )


# --- Commands -------------------------------------------------------------------------------------------------------


def _datasets(arguments: argparse.Namespace) -> None:
    from core import datasets

    if arguments.name is None:
        rows = [{"name": name, **_described(datasets.describe(name))} for name in datasets.names()]
        _print(
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
        _print(
            arguments,
            {"dataset": arguments.name, "done": "delete"},
            [f"{arguments.name}: deleted."],
        )
        return
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if sys.stderr.isatty() and time.monotonic() - told > 0.2:
            told = time.monotonic()
            print(f"\r{done} of {total} images ", end="", file=sys.stderr)

    if arguments.save and arguments.name == "folder":
        dataset = datasets.bring(arguments.save, parse(arguments.set), progress)
    else:
        dataset = datasets.load(arguments.name, parse(arguments.set), progress)
        if arguments.save:
            dataset = datasets.save(arguments.save, dataset)
    facts = {
        "name": dataset.name,
        "images": len(dataset.x),
        "size": dataset.size,
        "channels": dataset.channels,
        "levels": dataset.levels,
        "classes": list(dataset.classes),
        "splits": {part: len(index) for part, index in dataset.splits.items()},
        "counts": dataset.counts(),
        "fingerprint": dataset.fingerprint,
        "parent": dataset.parent,
        "refused": [list(pair) for pair in dataset.refused],
        "notes": list(dataset.notes),
    }
    lines = [
        f"{key:<12} {value}"
        for key, value in facts.items()
        if key not in ("counts", "refused", "notes")
    ]
    lines += [f"{name}: {counts}" for name, counts in facts["counts"].items()]
    lines += [f"left out     {file}: {reason}" for file, reason in dataset.refused] + list(
        dataset.notes
    )
    config = datasets.config_of(dataset.name)
    _print(
        arguments,
        facts,
        [*lines, *(["parameters, for --set:", *_knob_lines(config, "")] if config.knobs() else [])],
    )


def _described(about: Any) -> dict[str, str]:
    return {"title": about.title, "caption": about.caption}


def _families(arguments: argparse.Namespace) -> None:
    from core.models import families

    chosen = [families.get(arguments.name)] if arguments.name else list(families)
    rows, lines = [], []
    for entry in chosen:
        sampling = entry.extra["sampling"]
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "caption": entry.caption,
                "presets": dict(entry.presets),
                "parameters": _knob_facts(entry.config),
                "sampling": _knob_facts(sampling),
            }
        )
        lines.append(f"{entry.name:<12} {entry.title}: {entry.caption}")
        if arguments.name:
            lines += _knob_lines(entry.config, "family.")
            lines += ["for sample --set:", *_knob_lines(sampling, "")]
            if entry.presets:
                lines.append(f"presets: {', '.join(entry.presets)}")
    _print(arguments, {"families": rows}, lines)


def _knob_facts(config: type[Config]) -> dict[str, Any]:
    return {
        name: {
            "default": knob.default,
            "allowed": knob.allowed,
            "unit": knob.unit,
            "help": knob.help,
        }
        for name, knob in config.knobs().items()
    }


def _train(arguments: argparse.Namespace) -> int:
    values: dict[str, Any] = {}
    classifier, dataset, family = arguments.classifier, arguments.dataset, arguments.family
    if arguments.like:
        model = jobs.find(arguments.like, *runs.KINDS)
        chosen, old = worker.flat(model.config)
        classifier = classifier or (model.kind == "classifier" and family is None)
        # another dataset or family has other parameters: only the rest is taken over
        same = {
            "dataset": dataset in (None, chosen["dataset"]),
            "family": not classifier and family in (None, chosen.get("family")),
            "classifier": classifier,
        }
        values = {
            name: value for name, value in old.items() if same.get(name.partition(".")[0], True)
        }
        dataset, family = dataset or chosen["dataset"], family or chosen.get("family")
    kind, choice = _choice(classifier, dataset or "digits", family or "gan")
    if classifier and family and not arguments.like:
        raise UserError(
            f"--classifier and --family {family} exclude each other. Leave one of them out."
        )
    if arguments.preset:
        values |= _preset(choice, arguments.preset)
    values |= parse(arguments.set)
    values |= {
        f"train.{n}": v for n in ("images", "seed") if (v := getattr(arguments, n)) is not None
    }
    job = worker.submit(kind, choice, values, name=arguments.name, who="command line")
    if arguments.wait:
        return _follow(job, arguments.json)
    lines = [
        f"Started {job.id}. Follow it on the Train page, or with: python -m core runs {job.id}"
    ]
    _print(arguments, {"run": job.id, "status": job.status}, lines)
    return 0


def _preset(choice: Mapping[str, str], name: str) -> dict[str, Any]:
    from core.catalog import unknown
    from core.models import families

    presets = families.get(choice["family"]).presets if "family" in choice else {}
    if name not in presets:
        raise UserError(unknown("preset of this family", name, presets))
    return dict(presets[name])


def _follow(job: jobs.Job, as_json: bool) -> int:
    """Waits for the end of a job, with its progress on stderr; prints one object or one line, gives the exit code."""
    shown = ""
    while job.active:
        if job.status == "queued":
            line = f"place {jobs.place(job)} in the queue"
        else:
            left = job.seconds_left
            line = job.message or f"{job.share:4.0%}  {job.state.get('speed', 0):,.0f} images/s" + (
                f"  {left:.0f} s left" if left is not None else ""
            )
        if line != shown:
            end = "" if sys.stderr.isatty() else "\n"
            if sys.stderr.isatty() or line[:3] != shown[:3]:
                print(f"\r\033[K{line}" if not end else line, end=end, file=sys.stderr, flush=True)
            shown = line
        time.sleep(0.2)
        job = jobs.get(job.id)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    result = _summary(job)
    if as_json:
        print(json.dumps(result))
    else:
        print(
            f"{job.id}: {job.status} after {result['images']} images, {result['seconds']} s. {job.message}".strip()
        )
    if job.status == "failed":
        print(f"error: {job.message}", file=sys.stderr)
    return 0 if job.status in ("finished", "stopped") else 1


def _summary(job: jobs.Job) -> dict[str, Any]:
    records, damaged = jobs.Log(job.path).read()
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    images, seconds = last.pop("images", 0), last.pop("seconds", 0.0)
    last.pop("images_per_second", None)
    facts = {
        "run": job.id,
        "name": job.name,
        "note": job.note,
        "status": job.status,
        "message": job.message,
        "kind": job.kind,
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else 0.0,
        **last,
    }
    return facts | ({"damaged_log_lines": damaged} if damaged else {})


def _runs(arguments: argparse.Namespace) -> None:
    if arguments.run_id:
        job = jobs.find(arguments.run_id, *runs.KINDS)
        facts = _summary(job) | {
            "path": str(job.path),
            "config": dict(job.config),
            "checkpoints": runs.checkpoints(job),
        }
        _print(arguments, facts, [f"{key:<22} {value}" for key, value in facts.items()])
        return
    rows = [
        {
            "run": job.id,
            "name": job.name,
            "status": job.status,
            "family": runs.family_of(job),
            "dataset": runs.dataset_of(job),
            "done": job.share,
            "message": job.message,
        }
        for job in runs.listing()
    ]
    lines = [
        f"{row['run']:<44} {row['status']:<12} {row['done']:>4.0%}  {row['family']:<10} "
        f"{row['dataset']:<14} {row['name']}"
        for row in rows
    ]
    problems = [f"damaged: {text}" for _, text in jobs.damaged()]
    if problems:
        print("\n".join(problems), file=sys.stderr)
    _print(
        arguments, {"runs": rows}, lines or ["No runs yet. Start one with: python -m core train"]
    )


def _sample(arguments: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from core import latent, sheets
    from core.models import Decodes
    from core.tensors import device, to_bytes

    if not 1 <= arguments.n <= 100_000:
        raise UserError(
            f"-n must be at least 1 and at most 100000, got {arguments.n}. Draw more in several calls."
        )
    out = Path(arguments.out)
    if out.suffix not in (".png", ".npz"):
        raise UserError(
            f"--out must end in .png or .npz, got {arguments.out!r}. Choose one of the two."
        )
    if not out.parent.is_dir():
        raise UserError(
            f"The folder {out.parent} of --out does not exist. Make it, or choose another."
        )
    job = jobs.find(arguments.run_id, *runs.KINDS)
    if job.kind != "train":
        raise UserError(
            f"{job.name} is a classifier, which draws no images. Choose a run of a generative model."
        )
    opened = runs.open_model(job, arguments.step)
    walks = isinstance(opened.model, Decodes)
    if arguments.between and not walks:
        raise UserError(f"{job.name} has no latent space to walk in. Leave --between out.")
    if min(arguments.between or [0]) < 0:
        raise UserError(f"--between takes two image numbers from 0, got {arguments.between}.")
    assert opened.sampling is not None
    sampling = opened.sampling.of(parse(arguments.set), "sampling")
    y = None
    if opened.classes:
        label = _label(arguments.label, opened.classes) if arguments.label is not None else None
        count = max([arguments.n, *(end + 1 for end in arguments.between or ())])
        y = (
            torch.arange(count) % len(opened.classes)
            if label is None
            else torch.full((count,), label)
        )
        y = y.to(device())
    elif arguments.label is not None:
        raise UserError(
            f"{job.name} does not listen to labels, so --label has no meaning. Leave it out."
        )
    if arguments.between:
        way = latent.path(
            opened.model,
            tuple(arguments.between),
            y,
            arguments.seed,
            sampling,
            arguments.way,
            arguments.n,
        )
        x, y = torch.as_tensor(way).float() / 255, None
    else:
        x = torch.cat(
            [
                opened.model.sample(
                    range(i, min(i + 500, arguments.n)),
                    None if y is None else y[i : i + 500],
                    arguments.seed,
                    sampling,
                ).cpu()
                for i in range(0, arguments.n, 500)
            ]
        )
    facts = {
        "run": job.id,
        "step": opened.step,
        "seed": arguments.seed,
        "sampling": sampling.record(),
        **({"between": arguments.between, "way": arguments.way} if arguments.between else {}),
        "count": arguments.n,
        "out": str(out),
    }
    with jobs.full_disk_told():
        if out.suffix == ".npz":
            arrays = {"x": x.numpy()} | ({"y": y.cpu().numpy()} if y is not None else {})
            memory = io.BytesIO()
            np.savez_compressed(memory, allow_pickle=False, **arrays)
            jobs.write_atomic(out, memory.getvalue())
        else:
            columns = arguments.columns or max(
                sheets.columns(len(opened.classes)), math.isqrt(arguments.n)
            )
            jobs.write_atomic(out, sheets.png(to_bytes(x), columns, facts))
    _print(
        arguments, facts, [f"Wrote {arguments.n} images of {job.id}, step {opened.step}, to {out}"]
    )


def _label(text: str, classes: Sequence[str]) -> int:
    from core.catalog import unknown

    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise UserError(unknown("class", text, classes))


def _act(act: Callable[[str], Any], name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        job = jobs.find(arguments.run_id)
        if name == "delete" and not arguments.yes:
            raise UserError(
                f"This deletes {job.id} and all its files for good. Add --yes to do it."
            )
        act(job.id)
        if getattr(arguments, "wait", False):
            return _follow(jobs.get(job.id), arguments.json)
        word = {"stop": "asked to stop", "resume": "queued again", "delete": "deleted"}[name]
        _print(arguments, {"run": job.id, "done": name}, [f"{job.id}: {word}."])
        return 0

    return run


def _rename(arguments: argparse.Namespace) -> None:
    if arguments.name is None and arguments.note is None:
        raise UserError("Nothing to change: give --name or --note.")
    job = jobs.describe(jobs.find(arguments.run_id).id, name=arguments.name, note=arguments.note)
    _print(
        arguments,
        {"run": job.id, "name": job.name, "note": job.note},
        [f"{job.id}: {job.name}. {job.note}"],
    )


def _print(arguments: argparse.Namespace, facts: Mapping[str, Any], lines: Sequence[str]) -> None:
    print(json.dumps(facts) if arguments.json else "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())

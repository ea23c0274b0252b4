"""The jobs that trained something: their record, checkpoints and samples, and the models that visitors share.

A run's folder adds to a job's: ``run.json`` (everything that made the model), ``checkpoints/<step>/`` with
``model.safetensors`` (the averaged weights, for use) and ``state.pt`` (all that resuming needs, newest two only),
and ``samples/<step>.png`` (a sheet of the same noise at each of these steps).
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import jobs
from core.catalog import Config, UserError, unknown
from core.ground import files, slices
from core.ground.cache import Cache
from core.ground.settings import settings
from core.media import Medium, media
from core.models import Spec, families

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

NEWEST = 2  # checkpoints that can be resumed from
_PARTS = {  # what a record must hold, and of which kind
    "dataset": {"name": str, "config": dict, "classes": list, "images": dict},
    "train": {"batch": int, "images": int, "seed": int},
    "spec": {"levels": int, "shares": list},
}
SPACED = 12  # older ones that are kept to look at, spread evenly over the logarithm of the step


@dataclass(frozen=True)
class Opened:
    """A trained network, ready for use and shared between visitors: never change it.

    Attributes:
        run: Id of the run, or of what was brought from outside; empty for what is kept under none.
        step: Step of the checkpoint; 0 for what is no run.
        images: Images seen until then; 0 for what is no run.
        family: Name of the family, or ``classifier``.
        model: The network in evaluation mode; its parameters need no gradient.
        classes: Names of the classes that the model listens to, or tells apart; empty for a model without labels.
        sampling: The family's sampling config class; None for a classifier.
        name: For people.
        card: What a report says of it: hash, architecture, preprocessing.
        notes: What was left out when it was brought, in sentences.
    """

    run: str
    step: int
    images: int
    family: str
    model: Any
    spec: Spec
    classes: tuple[str, ...]
    sampling: type[Config] | None
    name: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def medium(self) -> Medium:
        """What a generative model makes, and a classifier tells apart."""
        return media.get(self.spec.medium)

    @property
    def blank(self) -> np.ndarray:
        """One item (…) of nothing but zeros to the model, which says what shape its items have."""
        return blank(self.spec)

    @property
    def age(self) -> str:
        """How far it was trained, for people; that it was brought where nobody knows."""
        if not self.images:
            return "as it was brought"
        return f"after {self.images:,} images (step {self.step:,})"

    @property
    def usual(self) -> Config:
        """The family's usual choices when it draws images; of a generative model alone."""
        assert self.sampling is not None
        return self.sampling()


def blank(spec: Spec) -> np.ndarray:
    """Gives one stored item (…) of nothing but zeros to a model of this spec."""
    import torch

    return media.get(spec.medium).kept(torch.zeros(1, *spec.shape))[0]


@cache
def _kinds() -> dict[str, jobs.Trained]:
    """Gives what the kinds of jobs train that train something, by kind."""
    return {kind.name: kind.trained for kind in jobs.kinds if kind.trained}


def listing() -> list[jobs.Job]:
    """Lists the runs, newest first."""
    return jobs.listing(*_kinds())


def generators(dataset: str = "") -> list[jobs.Job]:
    """Lists the generative models that can be opened, of one dataset or of all, newest first."""
    return [
        run
        for run in listing()
        if generates(run) and dataset in ("", dataset_of(run)) and checkpoints(run)
    ]


def generates(run: jobs.Job) -> bool:
    """Tells whether what a run holds makes something, as no classifier does."""
    return is_run(run) and _kinds()[run.kind].sampling is not None


def classifies(run: jobs.Job) -> bool:
    """Tells whether what a run holds tells classes apart."""
    return is_run(run) and _kinds()[run.kind].classifies


def sampling(name: str) -> type[Config]:
    """Finds how a generative model draws, by what :func:`family_of` names it.

    Raises:
        UserError: If this version knows none of this name.
    """
    for trained in _kinds().values():
        if trained.sampling and (config := trained.sampling(name)):
            return config
    raise UserError(unknown("family", name, families.names()))


def find(text: str, generator: bool = False) -> jobs.Job:
    """Finds a run, or a generative model alone, as :func:`core.jobs.find` does.

    Raises:
        UserError: If nothing fits, or several do.
    """
    return jobs.find(
        text, *(name for name, trained in _kinds().items() if trained.sampling or not generator)
    )


def is_run(job: jobs.Job) -> bool:
    """Tells whether a job trains something that others open."""
    return job.kind in _kinds()


def family_of(run: jobs.Job) -> str:
    """Names the family of a run; the kind where it has none (``classifier``)."""
    part = run.config.get(_kinds()[run.kind].part, {})
    return part["name"] if "config" in part else run.kind


def trained(record: Mapping[str, Any]) -> jobs.Trained:
    """Finds what a record describes.

    Raises:
        UserError: If no kind of job that this version knows has written it.
    """
    for network in _kinds().values():
        if network.part in record:
            return network
    raise UserError(
        "This record describes no network that this version knows. Open it with the version that has written it."
    )


def dataset_of(run: jobs.Job) -> str:
    """Names the dataset of a run."""
    return run.config["dataset"]["name"]


def record(run: jobs.Job) -> dict[str, Any]:
    """Reads what made the model: every config, fingerprint, seed, threads, versions.

    Raises:
        UserError: If training has not begun, or the file is damaged.
    """
    if not (run.path / "run.json").exists():
        raise UserError(
            f"{run.name} has not begun to train. Wait for its first checkpoint, or choose another run."
        )
    content = files.read_json(run.path / "run.json")
    if wrong := next(_wrong(content), ""):
        raise UserError(
            f"{run.path / 'run.json'} is damaged ({wrong} is missing or wrong). Restore it, or delete its folder."
        )
    return content


def privacy(record: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what a run guarantees of the people in its data: ``epsilon``, ``delta`` and ``unit``, None for nothing."""
    said = record.get("privacy") or {}
    return {name: said.get(name) for name in ("epsilon", "delta", "unit")}


def _wrong(record: Mapping[str, Any]) -> Iterator[str]:
    """Names what a record lacks, or holds in another form."""
    for key, types in _PARTS.items():
        part = record.get(key)
        if not isinstance(part, dict):
            yield key
        else:
            yield from (
                f"{key}.{name}" for name in types if not isinstance(part.get(name), types[name])
            )
    try:
        Spec.of(record["spec"])
    except (KeyError, TypeError):
        yield "spec.shape"


def checkpoints(run: jobs.Job) -> list[int]:
    """Lists the steps that have a checkpoint, oldest first."""
    try:
        with os.scandir(run.path / "checkpoints") as entries:
            return sorted(int(entry.name) for entry in entries if entry.name.isdigit())
    except FileNotFoundError:
        return []


def resumable(run: jobs.Job) -> bool:
    """Tells whether a checkpoint has all that training needs to go on."""
    folder = run.path / "checkpoints"
    return any((folder / str(step) / "state.pt").exists() for step in checkpoints(run))


def named(text: str) -> tuple[jobs.Job, int]:
    """Finds a run and one of its checkpoints by RUN or RUN@STEP; without a step, that of :func:`preferred`.

    Raises:
        UserError: If there is no such run or checkpoint.
    """
    name, _, digits = text.rpartition("@")
    step = int(digits) if name and digits.isdecimal() else None
    run = find(text if step is None else name)
    if not checkpoints(run):
        raise UserError(
            f"{run.name} has no checkpoint yet, so nothing can start from it. Wait for its first one."
        )
    return run, preferred(run) if step is None else _existing(run, step)


def _existing(run: jobs.Job, step: int) -> int:
    steps = checkpoints(run)
    if step not in steps:
        raise UserError(
            f"{run.name} has no checkpoint at step {step}. It has: {', '.join(map(str, steps))}."
        )
    return step


def samples(run: jobs.Job) -> list[tuple[int, Path]]:
    """Lists the sample sheets as (step, file), oldest first."""
    files = (run.path / "samples").glob("*")
    return sorted((int(file.stem), file) for file in files if file.stem.isdecimal())


# --- Writing, in the job's process ----------------------------------------------------------------------------------


def save_checkpoint(
    path: Path, published: nn.Module, state: dict[str, Any] | None, summary: dict[str, Any]
) -> None:
    """Writes a checkpoint in one piece, then drops those that are no longer needed.

    Args:
        path: The run's folder.
        published: The averaged network with its fitted parts.
        state: Of the trainer; None for what is not trained on.
        summary: ``step``, ``images``, and for the choice of the best ``score`` (lower is better, or None) and ``whole``
            (whether every stage has had its span; None without stages).
    """
    import torch
    from safetensors.torch import save as as_bytes

    folder = path / "checkpoints"
    with files.new_folder(folder / str(summary["step"]), replace=True) as new:
        weights = {
            name: w.detach().cpu().contiguous() for name, w in published.state_dict().items()
        }
        # in memory first: their own writers hide that the disk is full behind errors of other kinds
        (new / "model.safetensors").write_bytes(as_bytes(weights))
        if state is not None:
            memory = io.BytesIO()
            torch.save(state, memory)
            (new / "state.pt").write_bytes(memory.getbuffer())
        files.write_json(new / "facts.json", summary)
    _prune(folder)


def _prune(folder: Path) -> None:
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    older, newest = steps[:-NEWEST], steps[-NEWEST:]
    keep = {*newest, best_step(folder)}
    # of the others, the ones nearest to evenly log-spaced marks; a mark depends on nothing but itself
    for mark in range(SPACED):
        near = [step for step in older if 10 ** (mark / 2) <= step < 10 ** ((mark + 1) / 2)]
        keep |= set(near[-1:])
    for step in steps:
        if step not in keep:
            shutil.rmtree(folder / str(step), ignore_errors=True)
        elif step not in newest:
            (folder / str(step) / "state.pt").unlink(missing_ok=True)


def best_step(folder: Path) -> int | None:
    """Finds the checkpoint with the lowest held-out score; None where nothing was scored.

    Of a family that learns in stages it is the newest one whose every stage has had its span, if there is any: scores
    of a half-trained network say nothing, and in the last stage the weights are best when its schedule ends.
    """
    staged, summaries = _summaries(folder)
    if staged:
        return max((step for step, s in summaries.items() if s.get("whole")), default=None)
    scores = [
        (s["score"], step)
        for step, s in summaries.items()
        if isinstance(s.get("score"), int | float)
    ]
    return min(scores)[1] if scores else None


def _summaries(folder: Path) -> tuple[bool, dict[int, dict[str, Any]]]:
    """Tells whether the run learns in stages, and reads the summary of each checkpoint."""
    summaries: dict[int, dict[str, Any]] = {}
    for path in folder.iterdir():
        if path.name.isdigit():
            with suppress(UserError):
                summaries[int(path.name)] = files.read_json(path / "facts.json")
    older = [step for step, summary in summaries.items() if "whole" not in summary]
    if len(summaries) > 1 and older:  # written before it was noted
        for step, whole in _wholes(folder.parent, older).items():
            summaries[step]["whole"] = whole
    return any(s.get("whole") is not None for s in summaries.values()), summaries


def _wholes(path: Path, steps: Iterable[int]) -> dict[int, bool | None]:
    """Works out from the run's record which of its steps had all stages behind them."""
    try:
        record = files.read_json(path / "run.json")
        groups = draft(record).groups
    except (UserError, KeyError, TypeError, OSError):  # without a record, as if without stages
        return dict.fromkeys(steps)
    from core.tensors import whole

    wholes: dict[int, bool | None] = {}
    for step in steps:
        # the length that the run had then: later ones were given to it when it had come further
        lengths = [
            change["from"] for change in record.get("extended", []) if change["step"] >= step
        ]
        images = (lengths or [record["train"]["images"]])[0]
        wholes[step] = whole(groups, step / math.ceil(images / (record["train"]["batch"] or 1)))
    return wholes


def classes_of(run: jobs.Job) -> int:
    """Tells how many classes the network of a run listens to, or tells apart.

    Raises:
        UserError: As :func:`record` and :func:`draft`.
    """
    recorded = record(run)
    if "classes" in recorded:  # older runs have none
        return recorded["classes"]
    return draft(recorded).classes


@dataclass(frozen=True)
class Draft:
    """What the network of a record is like, without its weights.

    Attributes:
        groups: Its groups, without their parameters.
        classes: How many classes it listens to, or tells apart.
    """

    groups: list[Any]
    classes: int


def draft(record: Mapping[str, Any]) -> Draft:
    """Says what the network is like that a record describes.

    Raises:
        UserError: If the family or a parameter is not known to this version.
    """
    parts = (trained(record).part, "spec", "train")
    said = {key: record[key] for key in parts}
    return _draft(json.dumps(said | {"dataset": {"classes": record["dataset"]["classes"]}}))


@lru_cache(64)
def _draft(record: str) -> Draft:
    model = network(json.loads(record))
    return Draft([replace(group, params=[]) for group in model.groups()], model.classes)


def newest_state(run: jobs.Job) -> tuple[dict[str, Any] | None, list[str]]:
    """Loads the newest whole state to resume from, None before the first; and says which checkpoints were damaged.

    Raises:
        UserError: If there are checkpoints, but none that training could go on from.
    """
    import torch

    problems = []
    for step in reversed(checkpoints(run)):
        file = run.path / "checkpoints" / str(step) / "state.pt"
        if not file.exists():
            continue
        try:
            return torch.load(file, map_location="cpu", weights_only=True), problems
        except Exception as error:  # torch raises many kinds for a damaged file
            problems.append(f"{file} is damaged ({type(error).__name__}).")
    if checkpoints(run):
        raise UserError(
            f"No checkpoint of {run.name} can be resumed: {' '.join(problems) or 'their state.pt files are gone.'} "
            "Explore the run as it is, or start a new one with its settings."
        )
    return None, problems


def cut(run: jobs.Job, step: int) -> None:
    """Drops all that came after a step, and what was half written, before training goes on from there."""
    for half in (run.path / "checkpoints").glob(".new-*"):  # a folder, or its lock
        shutil.rmtree(half, ignore_errors=True)
        half.with_suffix(".lock").unlink(missing_ok=True)
    files.Log(run.path).cut(step)
    for later, file in samples(run):
        if later > step:
            file.unlink()
    for later in checkpoints(run):
        if later > step:
            shutil.rmtree(run.path / "checkpoints" / str(later), ignore_errors=True)


# --- Opening, shared between visitors -------------------------------------------------------------------------------

_opened = Cache["Opened"](
    lambda: settings().models_mb,
    lambda opened: sum(weights.nbytes for weights in opened.model.state_dict().values()) / 2**20,
)


def open_model(run: jobs.Job, step: int | None = None) -> Opened:
    """Opens the checkpoint of a step, or the one of :func:`preferred`; models are shared, and bounded by memory.

    A damaged one is passed over for the newest whole one, unless its step was asked for.

    Raises:
        UserError: If there is no such checkpoint, none is whole, or the run's family is not known here.
    """
    steps = checkpoints(run)
    if not steps:
        raise UserError(
            f"{run.name} has no checkpoint yet. Wait for its first one, or choose another run."
        )
    if step is not None:
        return _open(run, _existing(run, step))
    candidates = [preferred(run), *reversed(steps)]
    for candidate in candidates[:-1]:
        with suppress(UserError):
            return _open(run, candidate)
    return _open(run, candidates[-1])


def preferred(run: jobs.Job) -> int:
    """Chooses the checkpoint to look at: the newest while it trains, then the one of :func:`best_step`."""
    best = None if run.active else best_step(run.path / "checkpoints")
    return checkpoints(run)[-1] if best is None else best


def marks(run: jobs.Job, records: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Says what controllers did, as images seen and a few words: roll-backs, extensions, the best checkpoint."""
    images = {line["step"]: line["images"] for line in records if "images" in line}
    returns = Counter(line["step"] for line in records if {"warning", "images"} <= line.keys())
    marks = [
        (images[step], "went back here" + f" {count} times" * (count > 1))
        for step, count in returns.items()
    ]
    if (run.path / "run.json").exists():
        extended = record(run).get("extended", [])
        marks += [(change["from"], "was to end here") for change in extended]
    folder = run.path / "checkpoints"
    best = best_step(folder) if folder.is_dir() and not _summaries(folder)[0] else None
    if best in images:
        marks.append((images[best], "best held-out quality"))
    return sorted(marks)


def _open(run: jobs.Job, step: int) -> Opened:
    file = run.path / "checkpoints" / str(step) / "model.safetensors"
    try:
        key = (str(run.path), step, file.stat().st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{file} is gone. Choose another step or run.") from None
    return _opened.get(key, lambda: _load(run, step, file))


def _load(run: jobs.Job, step: int, file: Path) -> Opened:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from core.tensors import device

    recorded = record(run)
    model = network(recorded)
    try:
        weights = load_file(file)
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise UserError(
                f"{file} is damaged (it holds numbers that are not finite). Choose another step, or resume the run to "
                "make a new one."
            )
        model.load_state_dict(weights)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is damaged ({error}). Choose another step, or resume the run to make a new one."
        ) from None
    except RuntimeError as error:
        raise UserError(
            f"{file} does not fit the settings in run.json: {str(error).splitlines()[-1].strip()}"
        ) from None
    model = model.to(device()).eval().requires_grad_(False)
    for part in model.children():  # before each pass, work that no visitor waits for ends
        part.register_forward_pre_hook(slices.between)
    family = family_of(run)
    images = min(step * recorded["train"]["batch"], recorded["train"]["images"])
    classes = tuple(recorded["dataset"]["classes"]) if model.classes else ()
    draws = sampling(family) if generates(run) else None
    with suppress(UserError):  # what its owner draws with; a later version may not know it
        draws = draws and draws.starting(recorded.get("sampling", {}))
    return Opened(run.id, step, images, family, model, model.spec, classes, draws)


def network(record: dict[str, Any]) -> Any:
    """Builds the untrained network that a record describes; its first weights depend on the seed alone.

    Raises:
        UserError: If the family or a parameter is not known to this version.
    """
    import torch

    spec = Spec.of(record["spec"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(record["train"]["seed"])
        return trained(record).build(record, spec)

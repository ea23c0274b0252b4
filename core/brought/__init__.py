"""The door for models from outside: what comes out is what a run comes out as, :class:`core.runs.Opened`.

One file in this folder is one origin, of the file's name. What is brought is kept by its weights alone, never as a
program. A classifier is ``classifiers/NAME/`` with ``model.safetensors`` and ``classifier.json``, what was written down
of it; its id is ``own/NAME``. A generative model is a run with one checkpoint, which a job
of ``core/kinds/bring.py`` makes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from core import datasets, jobs, runs
from core.catalog import Config, Entry, Registry, UserError, knob, reason, unknown
from core.datasets import Dataset
from core.fitted import Fitted
from core.ground.files import delete_folder, full_disk_told, new_folder, read_json, write_json
from core.ground.settings import settings
from core.ground.timing import least
from core.models import Spec, Traces, families
from core.runs import Opened
from core.tensors import device
from core.weights import Package
from core.wrapped import raised

OWN = "own/"
_PACKED = "packed"  # the origin of runs of our own families
UPLOAD = "package.zip"  # what a job that brings a generative model finds in its folder
USUAL = "torchvision"  # the origin of what was kept before it was written down
_RECORD = {"config": dict, "dataset": str, "classes": list}  # what a record must hold


@dataclass(frozen=True)
class Seen:
    """What a package says that it holds; no memory was taken for it yet.

    Attributes:
        title: What it is: ``UNet2DModel with DDPMScheduler (diffusers)``.
        parameters: Numbers that its networks have.
        shape: Of one item that it makes or takes, (C, H, W); empty where it says none.
        classes: How many it listens to or tells apart; 0 for none.
        names: Of the classes, in the order of their numbers, where it says them; else empty.
        sampler: How it draws, in words.
        licence, consent: Its terms, where it says them.
        notes: What else is worth knowing, in sentences.
    """

    title: str
    parameters: int
    shape: tuple[int, ...] = ()
    classes: int = 0
    names: tuple[str, ...] = ()
    sampler: str = ""
    licence: str = ""
    consent: str = ""
    notes: tuple[str, ...] = ()

    @property
    def megabytes(self) -> float:
        """Memory that its numbers take once it is built, as float32."""
        return 4 * self.parameters / 2**20


@dataclass(frozen=True, kw_only=True)
class Origin(Entry):
    """A way in for models; ``make(config, package, spec, classes, record) -> Opened`` gives one for a ``Spec``.

    ``package`` is what was brought, and ``record`` what was written down when it was kept; None at first. What is kept
    of a classifier are the weights of its ``net``, as a package of one file; of a generative model all its weights. Of
    its card ``preprocessing`` and ``facts`` are written down, plain values that JSON holds: ``facts`` is whatever else
    it is made of. Without a ``package`` (None) it is made of its record alone, and gets its weights afterwards.

    Attributes:
        files: Endings of the files of weights that it takes; empty for what enters by code.
        code: Its models are made by a program of this machine. A run of them records the place and keeps the weights,
            and is opened where the owner of the server allows that place; classifiers by code are never kept.
        sampling: How its models draw, for generative ones; None for classifiers.
        note: Makes a sentence of a record: what the model is, and what it does to an image.
        knows: Tells by what a package holds, never by its name, whether it is one of its own.
        see: Says of a package that it knows what is in it, before anything is built.
        recorded: Gives what a job writes down of a package; ``name`` may be that of a family, whose model it then is.
        fits: Its models compute some of themselves from the training images that they are brought for
            (:class:`core.models.Fits`).
        learned: Gives what the model in a package has learned from, where that travels with it.
        further: Gives the facts of a network that is trained further, from those of the one that it starts from, its
            classes and those of the new dataset; None where its models are not trained here.
    """

    files: tuple[str, ...] = ()
    code: bool = False
    sampling: type[Config] | None = None
    note: Callable[[Mapping[str, Any]], str] = lambda record: ""
    knows: Callable[[Package], bool] = lambda package: False
    see: Callable[[Package], Seen] | None = None
    recorded: Callable[[Package, dict[str, Any]], dict[str, Any]] = lambda package, record: record
    fits: bool = False
    learned: Callable[[Package], Fitted] | None = None
    further: Callable[[Mapping[str, Any], Sequence[str], Sequence[str]], dict[str, Any]] | None = (
        None
    )


origins = Registry("origin of models", Origin, "core.brought")


@dataclass(frozen=True)
class Brought:
    """A model that was brought.

    Attributes:
        id: ``own/NAME`` of a classifier, the id of a run of a generative model.
        path: Its folder.
        record: What was written down of it.
    """

    id: str
    path: Path
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.path.name

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        return _kept(self.record.get("origin", USUAL))

    @property
    def note(self) -> str:
        """What it is and does to an image, in words."""
        if (name := self.record.get("origin", USUAL)) not in origins:
            return f"Brought from {name}, which this version does not know."
        return f"Brought: {self.origin.note(self.record)}"


def read(path: Path) -> Package:
    """Reads what somebody brings from this machine: a folder, a ZIP or a file.

    Raises:
        UserError: If it cannot be read, holds too much, or a file that is not allowed.
    """
    return Package.read(path, _endings())


def sent(files: Sequence[tuple[str, bytes]]) -> Package:
    """Reads what a visitor sent: a ZIP, a file, or the files of a folder by their paths.

    Raises:
        UserError: As :func:`read`.
    """
    return Package.sent(files, _endings())


def _endings() -> set[str]:
    return {ending for origin in origins for ending in origin.files}


def origin_of(package: Package) -> Origin:
    """Tells by what a package holds where it comes from.

    Raises:
        UserError: If no origin knows it.
    """
    known = next((o for o in origins if o.files and o.knows(package)), None)
    if known is None and package.lone:
        known = origins.get(USUAL)  # names of tensors say nothing before an architecture is chosen
    if known is None:
        ways = "; ".join(origin.title for origin in origins if origin.files)
        raise UserError(
            f"{package.name!r} is none of the models that are known here, by what its files hold. Known are: {ways}. "
            "Bring the whole folder as the library wrote it, or name its --origin."
        )
    return known


def holds(id: str) -> bool:
    """Tells whether an id is one of those that are given here."""
    return id.startswith(OWN)


def listing(dataset: str) -> list[Brought]:
    """Lists what was brought for a dataset, by name."""
    models = map(_read, _folders())
    return [model for model in models if model.record["dataset"] == dataset]


def find(id: str) -> Brought:
    """Finds what was brought by its id.

    Raises:
        UserError: If there is none of this id, or its record is damaged.
    """
    known = {path.name: path for path in _folders()}
    name = id.removeprefix(OWN)
    if name not in known:  # never a path made of what somebody typed
        raise UserError(unknown("classifier", name, known))
    return _read(known[name])


def open_model(id: str, dataset: Dataset) -> Opened:
    """Opens what was brought, for the images of a dataset.

    Raises:
        UserError: If there is none of this id, or it is damaged.
    """
    model = find(id)
    config = model.origin.config.of(model.record["config"], "classifier")
    try:
        file = (model.path / "model.safetensors").read_bytes()
    except OSError as error:
        raise UserError(
            f"The weights of {model.name} cannot be read: {reason(error)}. Delete it and bring it again."
        ) from None
    opened = model.origin.make(
        config, Package.alone(file), spec_of(dataset), model.record["classes"], model.record
    )
    return replace(opened, run=id, name=model.name)


def untrained(record: Mapping[str, Any], spec: Spec) -> nn.Module:
    """Makes the classifier that a record describes, without the weights that it had.

    Raises:
        UserError: If its origin is not known.
    """
    origin = _kept(record["origin"])
    config = origin.config.of(record["config"], "classifier")
    return origin.make(config, None, spec, record["classes"], record).model


class TermsConfig(Config):
    """Under which terms a model stands."""

    licence: str = knob("", "Licence of the model, best as an SPDX id such as MIT or CC-BY-4.0.")
    consent: Literal["unknown", "given", "not needed", "withdrawn"] = knob(
        "unknown",
        "Whether the people whose pictures it has learned from agreed; not needed where nobody is shown.",
    )


def keep(
    name: str,
    package: Package,
    values: Mapping[str, Any],
    dataset: Dataset,
    origin: str = "",
    terms: Mapping[str, Any] | None = None,
) -> Brought:
    """Keeps what was brought for a dataset; ``values`` are the parameters of the origin, which it tells by itself.

    ``terms`` are its licence and consent, see :class:`TermsConfig`; what it says itself where left out.

    A job fits and keeps those of a generative model; what does not fit is then the message of the job.

    Raises:
        UserError: If the server is view-only, the name is not allowed or taken, the origin takes no weights, a
            parameter is not allowed, the weights are not safe or do not fit.
    """
    from safetensors.torch import save as as_bytes

    entry = _kept(origin) if origin else origin_of(package)
    origin = entry.name
    settings().allow_change("bring a classifier" if entry.sampling is None else "bring a model")
    config = entry.config.of(values, origin if entry.sampling else "classifier")
    if entry.sampling is not None:
        seen = (
            entry.see(package) if entry.see and package.files else None
        )  # refuses before it is kept
        if seen is not None:
            allow_dataset(seen, dataset)
        if terms is None and seen is not None:
            terms = {"licence": seen.licence, "consent": seen.consent or "unknown"}
        said = TermsConfig.of(terms, "terms").record()
        said["licence"] = " ".join(said["licence"].split())[:200]
        record = entry.recorded(package, {"name": origin, "config": config.record()})
        about = {"name": dataset.name, "config": datasets.check(dataset.name)}
        job = jobs.create(
            "bring",
            "short",
            {"dataset": about, "brought": record, "terms": said},
            title=f"{dataset.name}-{origin}",
            name=name,
            put={UPLOAD: package.packed()} if package.files else {},
        )
        return Brought(job.id, job.path, {"origin": origin, **record})
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,59}", name.strip()):
        raise UserError(
            f"A classifier's name must be 1 to 60 letters, digits, dashes, underscores or spaces, got {name!r}. "
            "For example 'my-resnet'."
        )
    name = re.sub(r"\s+", "-", name.strip()).lower()
    path = _folder() / name
    if path.exists():
        raise UserError(
            f"There is a classifier {name!r} already. Choose another name, or delete that one first."
        )
    settings().allow_disk(package.megabytes)
    opened = entry.make(config, package, spec_of(dataset), dataset.classes, None)
    weights = {n: v.cpu().contiguous() for n, v in opened.model.net.state_dict().items()}
    record = {
        "origin": origin,
        "config": config.record(),
        "preprocessing": opened.card.get("preprocessing", {}),
        "facts": opened.card.get("facts", {}),
        "notes": list(opened.notes),
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "channels": dataset.channels,
        "size": dataset.size,
    }
    with full_disk_told(), new_folder(path) as new:
        (new / "model.safetensors").write_bytes(as_bytes(weights))
        write_json(new / "classifier.json", record)
    return Brought(OWN + name, path, record)


def state(run: jobs.Job, *, licence: str | None = None, consent: str | None = None) -> None:
    """Sets the licence of a generative model that was brought, and whether the people that it learned from agreed.

    Raises:
        UserError: If the server is view-only, the run was trained here or ships with the code, or the consent is not
            one of the choices.
    """
    settings().allow_change("change what is said about a model")
    jobs.own(run.id, "changed")
    record = runs.record(run)
    if "terms" not in record:
        raise UserError(
            f"{run.name} was trained here, so it stands under the terms of its dataset. State them there: on the page "
            "Build, under Licence and consent."
        )
    given = {"licence": licence, "consent": consent}
    terms = record["terms"] | {name: value for name, value in given.items() if value is not None}
    said = TermsConfig.of({name: terms[name] for name in given if name in terms}, "terms").record()
    said["licence"] = " ".join(said["licence"].split())[:200]
    with full_disk_told():
        write_json(run.path / "run.json", record | {"terms": said})


def delete(id: str) -> None:
    """Deletes what was brought.

    Raises:
        UserError: If the server is view-only, or there is none of this id.
    """
    settings().allow_change("delete a classifier")
    with full_disk_told():
        delete_folder(find(id).path)


def called(file: str) -> str:
    """Makes a classifier's name of the name of its file.

    >>> called("best model.ckpt.pt")
    'best model-ckpt'
    """
    plain = re.sub(r"[^A-Za-z0-9 _-]+", "-", Path(file).stem).strip("-_ ")
    return plain[:60] or "classifier"


def opened(
    model: nn.Module,
    spec: Spec,
    classes: Sequence[str],
    about: Mapping[str, Any],
    notes: Sequence[str] = (),
    sampling: type[Config] | None = None,
) -> Opened:
    """Gives a module as a run gives its model: a generative one, or one that maps what it sees to logits (N, K)."""
    model = model.to(device()).eval().requires_grad_(False)
    family = "classifier" if sampling is None else ""
    return Opened("", 0, 0, family, model, spec, tuple(classes), sampling, "", about, tuple(notes))


def by_code(kind: str, title: str, sampling: type[Config], caption: str | None) -> None:
    """Registers an origin whose models a program of this machine makes.

    Args:
        kind: What the program must offer, a name of :data:`core.wrapped.program.KINDS`, and the name of the origin.
        title: For people.
        sampling: How its models draw.
        caption: What they are, the docstring of the origin's file.
    """
    from core.wrapped import program

    def make(
        config: Any,
        package: Package | None,
        spec: Spec,
        classes: Sequence[str],
        record: Mapping[str, Any] | None,
    ) -> Opened:
        model, facts, notes = program.generator(config, kind, spec, classes, record, sampling())
        return opened(model, spec, classes, {"facts": facts}, notes, sampling)

    make.__doc__ = caption
    config, note = program.ProgramConfig, program.note
    origins.add(kind, title, config, sampling=sampling, code=True, note=note)(make)


def allow_dataset(seen: Seen, dataset: Dataset) -> None:
    """Refuses a dataset whose items are not those that a model makes.

    Raises:
        UserError: If they are of another shape; says which to import.
    """
    if not seen.shape or seen.shape == tuple(dataset.seen):
        return
    made, has = (" × ".join(map(str, shape)) for shape in (seen.shape, dataset.seen))
    size = ""
    if len(seen.shape) == 3:
        size = f" at {seen.shape[-1]} px in {'grey' if seen.shape[0] == 1 else 'colour'}"
    raise UserError(
        f"It makes items of {made}, and those of {dataset.name} have {has}. Choose the dataset that it belongs to, or "
        f"import its items{size} on the page Data." + beyond(seen.shape[-1] if size else 0)
    )


def beyond(side: int) -> str:
    """Says what lets pictures of a side be imported here, after another sentence; empty where they can be."""
    most = settings().max_side
    if side <= most:
        return ""
    return f" Pictures of datasets have at most {most} px here; SIMULACRA_MAX_SIDE raises that, on your own machine."


def measured(
    package: Package, values: Mapping[str, Any], dataset: Dataset, origin: str = ""
) -> float:
    """Builds what was brought, draws with it, and gives the seconds for a picture on this machine; nothing is kept.

    Raises:
        UserError: If it does not fit the dataset, or its weights are not safe.
    """
    entry = _kept(origin) if origin else origin_of(package)
    config = entry.config.of(values, entry.name)
    opened = entry.make(config, package, spec_in_full(dataset), dataset.classes, None)
    return pace(opened)


def pace(opened: Opened) -> float:
    """Measures how many seconds a generative model takes for a picture, of several at once where it is quick.

    The least of a few runs counts; see :func:`core.ground.timing.least`. Of one that draws in steps the first step is
    timed.
    """
    import torch

    traces = isinstance(opened.model, Traces)
    steps = getattr(opened.usual, "steps", 1) if traces else 1

    def draw(count: int) -> None:
        if traces:
            next(opened.model.trace(range(count), None, 0, opened.usual))
        else:
            opened.model.sample(range(count), None, 0, opened.usual)

    with torch.inference_mode():
        alone = steps * least(lambda: draw(1), patience=2.0)
        count = max(1, min(32, int(2 / max(alone, 1e-4))))
        if count > 1:
            alone = min(alone, steps * least(lambda: draw(count), 2, patience=1.0) / count)
        return round(alone, 2 if alone > 10 else 5)


def generator(
    record: Mapping[str, Any], package: Package | None, spec: Spec, classes: Sequence[str]
) -> Opened:
    """Makes the generative model that a run's record describes, out of a package, or of the record alone.

    Raises:
        UserError: If its origin is not known, or the weights are not safe or do not fit.
    """
    origin = _kept(_PACKED if record["name"] in families else record["name"])
    config = config_of(record["name"]).of(record["config"], origin.name)
    return origin.make(config, package, spec, classes, record if package is None else None)


def config_of(name: str) -> type[Config]:
    """Gives the parameters of an origin; those of a family for a run that was packed."""
    return families.get(name).config if name in families else origins.get(name).config


def learned(record: Mapping[str, Any], package: Package) -> Fitted | None:
    """Gives what the model in a package has learned from; None where that does not travel with it.

    Raises:
        UserError: If what travels is damaged.
    """
    origin = _kept(_PACKED if record["name"] in families else record["name"])
    return origin.learned(package) if origin.learned else None


def sampling(name: str) -> type[Config] | None:
    """Gives how the generative models of an origin draw; None for an origin of classifiers, or a name of none."""
    return origins.get(name).sampling if name in origins else None


def spec_of(dataset: Dataset) -> Spec:
    """Describes the images of a dataset to a model from outside."""
    return Spec(dataset.medium.name, dataset.seen, dataset.levels)


def spec_in_full(dataset: Dataset) -> Spec:
    """Describes the images of a dataset to a model that makes them, with the shares of its classes."""
    from core.training import spec_of

    return spec_of(dataset)


def _kept(name: str) -> Origin:
    entry = origins.get(name)
    if not entry.files and not (entry.code and entry.sampling):  # a flag never runs a program
        allowed = ", ".join(origin.name for origin in origins if origin.files)
        raise UserError(f"{entry.title} is code, which is never kept. Choose from: {allowed}.")
    return entry


def _folder() -> Path:
    return settings().home.absolute() / "classifiers"


def _folders() -> list[Path]:
    try:
        with os.scandir(_folder()) as entries:
            return sorted(
                Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")
            )
    except FileNotFoundError:
        return []


def _read(path: Path) -> Brought:
    file = path / "classifier.json"
    record = read_json(file)
    for key, kind in _RECORD.items():
        if not isinstance(record.get(key), kind):
            raise UserError(
                f"{file} is damaged ({key} is missing or wrong). Restore it, or delete its folder."
            )
    return Brought(OWN + path.name, path, record)

"""Programs of this machine, by the place ``package.module:factory``: the only ones that are ever imported.

Whoever types a place on the command line has chosen it. What a record, a link or a page says is opened only where the
owner of the server allows that very place (``SIMULACRA_CODE``).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from core.catalog import Config, UserError, knob, reason
from core.ground.settings import settings
from core.models import Spec
from core.wrapped import HasDecoder, HasEncoder, HasSampler, HasVelocity, admission, raised
from core.wrapped.decoder import DecoderModel, EncoderModel
from core.wrapped.sampler import SamplerModel
from core.wrapped.velocity import VelocityModel

EXAMPLE = "Write package.module:factory, for example mymodels.resnet:make."
MOST_LATENT = 65_536
# by name: what a network offers, and what it becomes; the richest first
KINDS: Mapping[str, tuple[Any, type[Any]]] = {
    "velocity": (HasVelocity, VelocityModel),
    "decoder": (HasDecoder, DecoderModel),
    "sampler": (HasSampler, SamplerModel),
}


class ProgramConfig(Config):
    """Which program of this machine makes the generator."""

    place: str = knob("", "package.module:factory, which gives a torch.nn.Module.")
    weights: str = knob(
        "", "File of weights whose path the factory gets; empty gives it None.", path=True
    )


def found(place: str, what: str) -> tuple[ModuleType, Any]:
    """Imports the module of a place, and gives what it names there; the folder of the process is looked in first.

    Args:
        place: ``package.module:factory``.
        what: What is to come in so, the subject of a sentence.

    Raises:
        UserError: If it names nothing that can be imported.
    """
    module, _, factory = place.partition(":")
    if not module or not factory:
        raise UserError(f"{what} by code needs a module and a function, got {place!r}. {EXAMPLE}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        imported = importlib.import_module(module)
        return imported, getattr(imported, factory)
    except ImportError as error:
        raise UserError(f"{module} cannot be imported ({error}). {EXAMPLE}") from None
    except AttributeError:
        raise UserError(f"{module} has no {factory}. {EXAMPLE}") from None
    except Exception as error:  # whatever the program of this machine raises
        raise UserError(
            f"{module} broke off when it was imported ({raised(error)}). Import it in Python to see where."
        ) from error


def called(place: str, make: Any, how: str, wanted: str) -> Any:
    """Calls what stands at a place.

    Raises:
        UserError: With what it raised, how it was called, and what it must give.
    """
    try:
        return make()
    except UserError:
        raise
    except Exception as error:  # whatever the program of this machine raises
        raise UserError(
            f"{place} could not be called {how} ({raised(error)}). "
            f"It must give {wanted}. Call it in Python to see where it fails."
        ) from error


def takes_weights(factory: Any) -> bool:
    """Tells whether a factory takes the file of its weights."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # one that is written in C says nothing
        return False
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return any(parameter.kind in kinds for parameter in signature.parameters.values())


def made(place: str, weights: Path | None) -> tuple[nn.Module, str]:
    """Calls ``factory(weights)`` and gives its module, with a digest of the file that the program stands in.

    Raises:
        UserError: If it cannot be imported or called, or gives no module.
    """
    module, factory = found(place, "A generator")
    wanted = "a torch.nn.Module with sample, velocity, or decode and latent_dim"
    if isinstance(factory, nn.Module):
        net = factory
    elif takes_weights(factory):
        how = "without weights" if weights is None else f"with {weights.name}"
        net = called(place, lambda: factory(weights), how, wanted)
    else:
        if weights is not None:
            raise UserError(
                f"{place} takes no arguments, and weights were given. It must take the path of their file, or None. "
                "Write def make(weights=None), or leave the weights out."
            )
        net = called(place, factory, "without arguments", wanted)
    if not isinstance(net, nn.Module):
        raise UserError(f"{place} gave {type(net).__name__}, not {wanted}. {EXAMPLE}")
    return net, digest(module)


def digest(module: ModuleType) -> str:
    """Gives the SHA-256 of the file that a module stands in; empty for one without a file."""
    file = getattr(module, "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""


def generator(
    config: ProgramConfig,
    kind: str,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
    sampling: Config,
) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Makes a generator of what stands at a place, if the owner of this server allows it.

    Args:
        config: The place, and the weights that its factory gets; a record has none, as a checkpoint holds them.
        kind: What it must offer, a name of :data:`KINDS`.
        spec: What it makes.
        classes: Names of the dataset's classes.
        record: What was written down when it was brought; None at first, when it is tried.
        sampling: How it draws.

    Returns:
        The model, what is to be written down, and what to know of it in sentences.

    Raises:
        UserError: If the place is not allowed, its program has changed, or what it gives is not admitted.
    """
    allow(config.place)
    weights = Path(config.weights) if config.weights and record is None else None
    model, source = _wrapped(config.place, weights, kind, spec, classes)
    if record is not None:
        facts = dict(record.get("facts", {}))
        if facts.get("source") != source:
            raise UserError(
                f"The program of {config.place} has changed since it was brought, so its images would be others. "
                "Restore the file that it stands in, or bring it again."
            )
        return model, facts, ()
    model = model.eval().requires_grad_(False)
    facts = {"source": source}
    if weights is not None:
        facts["weights"] = _sha256(weights)
    admitted = admission.admit(model, config.place, sampling)
    # what pages will open: made again without the file, and given the weights of a checkpoint
    again, _ = _wrapped(config.place, None, kind, spec, classes)
    try:
        again.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"{config.place} gives a network of other tensors without its weights than with them "
            f"({str(error).splitlines()[-1].strip()[:160]}). It must be made of the same size without them."
        ) from None
    with torch.no_grad():
        drawn = again.eval().sample(range(len(admitted.x)), None, 0, sampling)
    admission.same(admitted.x, drawn, config.place)
    return model, facts, admitted.notes


def note(record: Mapping[str, Any]) -> str:
    """Says which program makes a generator."""
    return f"made by {record['config']['place']}, a program of this machine."


def kind_of(net: Any, place: str) -> str:
    """Names what a network offers, the richest first: a name of :data:`KINDS`.

    Raises:
        UserError: If it offers nothing of them.
    """
    for kind, (offers, _) in KINDS.items():
        if isinstance(net, offers):
            return kind
    raise UserError(
        f"{place} gave a {type(net).__name__} that cannot draw. It must have velocity(x, t, y), or decode(z, y) and "
        "latent_dim, or sample(ids, y, seed, sampling). Give its module one of these methods."
    )


def allow(place: str) -> None:
    """Refuses a place that the owner of this server has not named.

    Raises:
        UserError: With the setting that allows it.
    """
    allowed = [each.strip() for each in settings().code.split(",") if each.strip()]
    if place not in allowed:
        raise UserError(
            f"This model is made by {place[:200]}, a program of the machine that it was brought on. This server runs "
            f"{', '.join(allowed) or 'no programs'}. Its owner allows it with SIMULACRA_CODE={place[:200]}."
        )


def _wrapped(
    place: str, weights: Path | None, kind: str, spec: Spec, classes: Sequence[str]
) -> tuple[Any, str]:
    net, source = made(place, weights)
    offered = kind_of(net, place)
    if offered != kind:
        raise UserError(
            f"{place} gave a {offered}, where a {kind} is wanted. Bring it again, as what it is now."
        )
    listens = getattr(net, "classes", 0)
    if type(listens) is not int or listens not in (0, len(classes)):
        raise UserError(
            f"{place} listens to {listens!r:.40} classes, and the dataset has {len(classes)}. Its attribute classes "
            "must be that number, or 0 for a network that ignores them. Set it, or choose the dataset that it belongs "
            "to."
        )
    width = getattr(net, "latent_dim", 1)
    if kind == "decoder" and (type(width) is not int or not 1 <= width <= MOST_LATENT):
        raise UserError(
            f"latent_dim of {place} must be a whole number from 1 to {MOST_LATENT:,}, got {width!r:.40}. Set it to the "
            "length of the rows that decode takes."
        )
    wrap: Any = KINDS[kind][1]
    if kind == "decoder" and isinstance(net, HasEncoder):
        wrap = EncoderModel
    return wrap(net, spec, listens), source


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({reason(error)}). Give a file of weights."
        ) from None

"""The ground floor: errors a user can act on, parameters that are written once, and registries of choices.

A *parameter* is a field of a flat, frozen :class:`Config`, made with :func:`knob`. Its validation, its
widget, its command-line flag, its place in a run's record and its test grid are all derived from that one line.
A *choice* (a dataset, a family, an attack …) is an :class:`Entry` in a :class:`Registry`.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model


class UserError(ValueError):
    """Tells a person what is wrong with which value, what is allowed, and what to do.

    Pages show the text; the command line prints it on one line and exits with 2. Any other exception is a bug.
    """


# What only some features need: by the name to import, the package and the requirements-….txt that pins it.
EXTRAS = {
    "c2pa": ("c2pa-python", "c2pa"),
    "diffusers": ("diffusers", "diffusers"),
    "pi_heif": ("pi-heif", "heic"),
    "pydicom": ("pydicom", "dicom"),
    "soundfile": ("soundfile", "sound"),
    "timm": ("timm", "timm"),
    "transformers": ("transformers", "transformers"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "huggingface_hub": ("huggingface-hub", "hub"),
    "torch_fidelity": ("torch-fidelity", "inception"),
    "umap": ("umap-learn", "umap"),
}


def installed(module: str) -> bool:
    """Tells whether a package of :data:`EXTRAS` is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def optional(module: str, what: str, instead: str = "") -> ModuleType:
    """Imports a package of :data:`EXTRAS`, or a module of one; nothing else imports these.

    Args:
        module: Its name.
        what: What needs it, the subject of a sentence.
        instead: What can be done without it, the end of a sentence.

    Raises:
        UserError: If the package is not installed.
    """
    root = module.partition(".")[0]
    package, extra = EXTRAS[root]
    if not installed(root):
        raise UserError(
            f"{what} needs the package {package}, which is not installed. Install it with: make extras "
            f"(or: pip install -r requirements-{extra}.txt)"
            + (f"; or {instead}." if instead else ".")
        )
    return importlib.import_module(module)


def knob(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    lt: float | None = None,
    unit: str = "",
    title: str = "",
    log: bool = False,
    advanced: bool = False,
    path: bool = False,
    visitor: float | str | None = None,
    choices: Callable[[], Iterable[str]] | None = None,
) -> Any:
    """Declares one parameter: default, bounds, unit and one sentence of help.

    Args:
        default: The value without a choice; decides the type that the form shows.
        help: One sentence, shown as the tooltip and in ``--help``.
        ge, le, gt, lt: Bounds; both sides closed makes a slider, an open side a number input.
        unit: Shown behind the label, for example ``px`` or ``images``.
        title: The label; the field's name with spaces when empty.
        log: The scale is logarithmic, so a slider would be useless: number input.
        advanced: Folded away on the page.
        path: The value names a file or folder on the server; the page never offers it.
        visitor: The most that a visitor of a view-only server may ask for, "" of a text for none of it; see
            :meth:`Config.capped`.
        choices: Lists the texts that are allowed, where they are the names of entries; asked whenever it matters.
    """
    extra = {
        "choices": choices,
        "low": ge if gt is None else gt,
        "high": le if lt is None else lt,
        "open_low": gt is not None,
        "open_high": lt is not None,
        "unit": unit,
        "title": title,
        "log": log,
        "advanced": advanced,
        "path": path,
        "visitor": visitor,
    }
    finite: dict[str, Any] = {"allow_inf_nan": False} if isinstance(default, float) else {}
    return Field(
        default, description=help, ge=ge, le=le, gt=gt, lt=lt, json_schema_extra=extra, **finite
    )


def seed_knob(help: str, *, advanced: bool = False) -> Any:
    """Declares a seed: a whole number from 0 to 2³¹ - 1, 0 by default."""
    return knob(0, help, ge=0, le=2**31 - 1, log=True, advanced=advanced)


@dataclass(frozen=True)
class Knob:
    """One parameter, as forms, flags and tests read it."""

    name: str
    type: type  # bool, int, float or str
    default: Any
    help: str
    options: tuple[Any, ...] = ()  # of a Literal; else empty
    low: float | None = None
    high: float | None = None
    open_low: bool = False  # the bound itself is excluded
    open_high: bool = False
    unit: str = ""
    title: str = ""
    log: bool = False
    advanced: bool = False
    path: bool = False
    visitor: float | str | None = None

    @property
    def label(self) -> str:
        """Title and unit, as a page writes it; a unit that the title names already is left out."""
        name = self.title or self.name.replace("_", " ").capitalize()
        return f"{name} ({self.unit})" if self.unit and self.unit != name.lower() else name

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error texts and ``--help``."""
        if self.options:
            return "one of " + ", ".join(map(plain, self.options))
        if self.type is bool:
            return "true or false"
        noun = {int: "a whole number", float: "a number", str: "a text"}[self.type]
        bounds = []
        if self.low is not None:
            bounds.append(f"{'above' if self.open_low else 'at least'} {plain(self.low)}")
        if self.high is not None:
            bounds.append(f"{'below' if self.open_high else 'at most'} {plain(self.high)}")
        return f"{noun} {' and '.join(bounds)}".rstrip()


class Config(BaseModel):
    """The base of every set of parameters: flat, frozen, complete, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """Describes every parameter in its declared order."""
        return {name: _knob(name, info) for name, info in cls.model_fields.items()}

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None, where: str = "") -> Self:
        """Builds the config from plain values or texts.

        Args:
            values: By parameter name; what is missing takes its default.
            where: The prefix that the person knows these names by, for example ``family``.

        Raises:
            UserError: With the name, the value, what is allowed and, for a misspelt name, the nearest one.
        """
        values = dict(values or {})
        knobs = cls.knobs()
        for name in values:
            if name not in knobs:
                kind = where or cls.__name__.removesuffix("Config").lower()
                raise UserError(unknown(f"parameter of {kind}", name, knobs))
        # pydantic reads "3" as a number, but not as the choice 3 of a Literal
        chosen = values | {
            n: next((o for o in knobs[n].options if str(o) == v), v)
            for n, v in values.items()
            if isinstance(v, str)
        }

        def refused(name: str) -> UserError:
            dotted = f"{where}.{name}" if where else name
            return UserError(
                f"{dotted} must be {knobs[name].allowed}, got {values.get(name)!r:.80}. "
                f"Leave it out to use {plain(knobs[name].default)}."
            )

        for name, value in chosen.items():  # pydantic does not know the names of entries
            if knobs[name].options and value not in knobs[name].options:
                raise refused(name)
        try:
            return cls.model_validate(chosen)
        except ValidationError as error:
            problem = error.errors()[0]
            if not problem["loc"]:  # a rule across fields: its own text says everything
                raise UserError(problem["msg"].removeprefix("Value error, ")) from None
            raise refused(str(problem["loc"][0])) from None

    def capped(self) -> tuple[Self, list[str]]:
        """Gives the config as a visitor of a view-only server may run it, and says what was capped.

        A link may ask for anything that is allowed, and the server works for anybody who follows it.
        """
        lower, sentences = {}, []
        for name, knob in type(self).knobs().items():
            most, value = knob.visitor, getattr(self, name)
            if most is not None and value > most:
                lower[name] = knob.type(most)
                limit = f"capped at {plain(most)}" if most != "" else "left out"
                sentences.append(f"{knob.label}: {plain(value)}, {limit} in view-only.")
        return self.model_copy(update=lower), sentences

    @classmethod
    def starting(cls, values: Mapping[str, Any]) -> type[Self]:
        """Gives a config of the same parameters with other defaults.

        Raises:
            UserError: If a name or value is not allowed.
        """
        changed = {name: getattr(cls.of(values), name) for name in values}
        fields: dict[str, Any] = {}
        for name, value in changed.items():
            info = copy.copy(cls.model_fields[name])
            info.default = value
            fields[name] = (info.annotation, info)
        if not fields:
            return cls
        return create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, **fields)

    def record(self) -> dict[str, Any]:
        """Gives the plain values, ready for JSON."""
        return self.model_dump()


def _knob(name: str, info: Any) -> Knob:
    extra = dict(info.json_schema_extra or {})
    choices = extra.pop("choices", None)
    literal = get_origin(info.annotation) is Literal
    options = get_args(info.annotation) if literal else tuple(choices()) if choices else ()
    kind = type(options[0]) if options else info.annotation
    if kind not in (bool, int, float, str):
        raise TypeError(
            f"parameter {name!r} must be int, float, bool, str or Literal, got {info.annotation!r}"
        )
    return Knob(name, kind, info.default, info.description or "", options, **extra)


def plain(value: Any) -> str:
    """Writes a value as a person would: no trailing zeros, no quotes around an empty text but their own."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else f"{value:g}"
    return repr(value) if value == "" else str(value)


_BROKEN = {  # what a download that fails says, in the words of many libraries
    r"HTTP Error (\d+)|(\d{3}) (?:Client|Server) Error": "the server answered with an error, {}",
    r"name resolution|not known|getaddrinfo|resolve|no address": (
        "the server's name was not found, as without a network"
    ),
    r"timed? ?out": "the server did not answer in time",
    r"refused": "the server refused the connection",
    r"unreachable": "the network cannot be reached",
    r"certificate|\bssl\b": "the server's certificate was not accepted",
    r"reset by peer|broken pipe|incomplete ?read|retrieval incomplete|closed": "the connection broke off",
    r"hash|md5|corrupt": "what came is not what was expected",
    r"no space left": "the disk is full",
    r"permission denied|read-only": "it must not be written there",
}


def broken_off(error: BaseException) -> str:
    """Says in plain words why a download failed.

    >>> broken_off(OSError("<urlopen error [Errno -3] Temporary failure in name resolution>"))
    "the server's name was not found, as without a network"
    """
    text = str(error)
    for pattern, cause in _BROKEN.items():
        if match := re.search(pattern, text, re.IGNORECASE):
            return cause.format(next(filter(None, match.groups()), ""))
    return re.sub(r"<urlopen error (.*)>|\[Errno -?\d+\] ?", r"\1", reason(error)).rstrip(". ")


def reason(error: BaseException) -> str:
    """Gives the last line of what an error says, or its kind where it says nothing; at most 200 characters.

    >>> reason(RuntimeError("Error downloading:\\nno connection."))
    'no connection'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(". ")


def unknown(kind: str, name: object, names: Iterable[str]) -> str:
    """Writes the sentence for a name that does not exist, with the nearest one that does.

    >>> unknown("attack", "pdg", ["pgd", "fgsm"])
    "There is no attack 'pdg'. Did you mean 'pgd'?"
    """
    names = sorted(names)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)  # YAML may name a number
    if near:
        return f"There is no {kind} {name!r:.80}. Did you mean {near[0]!r}?"
    return f"There is no {kind} {name!r:.80}. Choose from: {', '.join(names) or 'none yet'}."


@dataclass(frozen=True)
class Entry:
    """One choice: what it is called, what it takes, and what it does.

    An empty title takes the name. A registry whose choices say more about themselves has a subclass of its own, whose
    fields are written by keyword.
    ``presets`` map a name to dotted parameters (``{"quick": {"train.images": 50_000}}``). ``make`` is what was
    decorated; it is called with a config of type ``config`` first, and what else it takes is the registry's contract.
    """

    name: str
    title: str = ""
    config: type[Config] = Config
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)
    make: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    @property
    def caption(self) -> str:
        """The first line of the docstring, shown on the page."""
        return (self.make.__doc__ or "").strip().split("\n")[0]


P = ParamSpec("P")
E = TypeVar("E", bound=Entry)
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[P, E]):
    """Maps names to entries; a scanned package is imported only when one of its entries is asked for.

    Args:
        kind: What an entry is, in a sentence: ``attack`` gives "There is no attack 'pdg'."
        entry: The class of its entries, a dataclass.
        package: Name of a package whose modules each register one entry of the module's name.
    """

    def __init__(self, kind: str, entry: Callable[P, E], package: str | None = None) -> None:
        self.kind = kind
        self._entry = entry
        self._package = package
        self._entries: dict[str, E] = {}

    def add(self, *args: P.args, **fields: P.kwargs) -> Callable[[F], F]:
        """Registers the decorated callable; takes the fields of the entry.

        Raises:
            TypeError: If a field is misspelt or missing, or the callable has no docstring.
        """
        entry = self._entry(*args, **fields)

        def register(make: F) -> F:
            if not (make.__doc__ or "").strip():
                raise TypeError(
                    f"{self.kind} {entry.name!r} needs a docstring: its first line is the caption on the page"
                )
            object.__setattr__(entry, "make", make)  # the one field that the decorator fills
            self._entries[entry.name] = entry
            return make

        return register

    def names(self) -> list[str]:
        """Lists the names, without importing a scanned module."""
        return list(dict.fromkeys([*self._modules(), *self._entries]))

    def get(self, name: str) -> E:
        """Finds an entry.

        Raises:
            UserError: If there is no such name; the text offers the nearest one.
        """
        if name not in self._entries and name in self._modules():
            importlib.import_module(f"{self._package}.{name}")
        if name not in self._entries:
            raise UserError(unknown(self.kind, name, self.names()))
        return self._entries[name]

    def __iter__(self) -> Iterator[E]:
        return (self.get(name) for name in self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _modules(self) -> list[str]:
        if self._package is None:
            return []
        modules = pkgutil.iter_modules(importlib.import_module(self._package).__path__)
        return sorted(info.name for info in modules if not info.name.startswith("_"))


def parse(texts: Iterable[str]) -> dict[str, str]:
    """Splits ``name=value`` texts from a command line.

    Raises:
        UserError: If a text has no ``=``.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(
                f"--set takes name=value, got {text!r}. For example --set family.beta=2."
            )
        values[name.strip()] = value.strip()
    return values


def assign(
    values: Mapping[str, Any], configs: Mapping[str, type[Config]]
) -> dict[str, dict[str, Any]]:
    """Sorts dotted or short parameter names into their configs.

    ``{"family.beta": 2}`` and, where ``beta`` is unique, ``{"beta": 2}`` both give ``{"family": {"beta": 2}, …}``.

    Raises:
        UserError: If a name is unknown, or short and shared by several configs.
    """
    by_config: dict[str, dict[str, Any]] = {part: {} for part in configs}
    dotted = {
        f"{part}.{name}": (part, name)
        for part, config in configs.items()
        for name in config.knobs()
    }
    for text, value in values.items():
        owners = [key for key, (_, name) in dotted.items() if text in (key, name)]
        if not owners:
            short = [name for _, name in dotted.values()] if "." not in text else []
            raise UserError(unknown("parameter", text, [*dotted, *short]))
        if len(owners) > 1:
            raise UserError(
                f"The parameter {text!r} is ambiguous. Write one of: {', '.join(sorted(owners))}."
            )
        part, name = dotted[owners[0]]
        by_config[part][name] = value
    return by_config

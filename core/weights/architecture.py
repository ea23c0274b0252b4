"""Networks of libraries, made from configs that nobody vouches for: each word of one is checked before it is used.

A network is made on the meta device first, which takes no memory; it gets memory only when the files hold exactly
its tensors. Nothing that a config names is ever imported: the class is the :class:`Architecture`'s own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import UserError, reason, unknown
from core.weights import Package, load, look
from core.weights.package import ADVICE

BRING = "Bring the folder as the library wrote it."


@dataclass(frozen=True)
class Rule:
    """What a value of a config may be.

    Attributes:
        words: The allowed values, the end of a sentence.
        holds: Tells whether a value is one of them.
    """

    words: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """Allows whole numbers between two bounds, both included."""
    return Rule(
        f"a whole number from {low} to {high:,}", lambda v: type(v) is int and low <= v <= high
    )


def real(low: float, high: float) -> Rule:
    """Allows numbers between two bounds, both included."""
    return Rule(
        f"a number from {low:g} to {high:g}",
        lambda v: type(v) in (int, float) and math.isfinite(v) and low <= v <= high,
    )


def flag() -> Rule:
    """Allows true and false."""
    return Rule("true or false", lambda v: type(v) is bool)


def only(*values: Any) -> Rule:
    """Allows these values."""
    words = " or ".join("null" if v is None else repr(v) for v in values)
    return Rule(words, lambda v: any(type(v) is type(each) and v == each for each in values))


def row(rule: Rule, most: int = 8) -> Rule:
    """Allows a list of values that a rule allows."""
    return Rule(
        f"a list of at most {most}, each {rule.words}",
        lambda v: isinstance(v, list) and 0 < len(v) <= most and all(map(rule.holds, v)),
    )


def either(*rules: Rule) -> Rule:
    """Allows what any of several rules allows."""
    return Rule(" or ".join(rule.words for rule in rules), lambda v: any(r.holds(v) for r in rules))


@dataclass(frozen=True)
class Architecture:
    """A class of networks that may be made from a config.

    Attributes:
        name: Of the class, as configs write it.
        make: Gives the class; imports its library.
        rules: What each value may be; a value that has no rule is unknown and refused.
        renamed: Parts of the names of tensors in old files, and what they are called now.
        ignored: Ends of names of tensors that old files hold and the network makes itself.
    """

    name: str
    make: Callable[[], Callable[..., nn.Module]]
    rules: Mapping[str, Rule] = field(repr=False)
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def checked(self, described: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Gives the values of a config that the class takes.

        Args:
            described: The config; names that begin with an underscore are notes of the library.
            where: Its file, for people.

        Raises:
            UserError: If a value is unknown or not allowed.
        """
        config = {name: v for name, v in described.items() if not name.startswith("_")}
        for name, value in config.items():
            if name not in self.rules:
                raise UserError(
                    f"{where}: {unknown(f'value of {self.name}', name, self.rules)} {BRING}"
                )
            if not self.rules[name].holds(value):
                raise UserError(
                    f"{where}: {name} must be {self.rules[name].words}, got {str(value)[:60]!r}. "
                    f"Other kinds of {self.name} cannot be brought. {BRING}"
                )
        return config

    def bare(self, config: Mapping[str, Any], where: str) -> nn.Module:
        """Makes the network of a checked config without memory, on the meta device.

        Raises:
            UserError: If the values do not go together.
        """
        make = self.make()
        try:
            with torch.device("meta"):
                net = make(**config)
        except Exception as error:  # whatever the library says of values that contradict each other
            raise UserError(
                f"{where}: {self.name} cannot be made of these values ({reason(error)}). {BRING}"
            ) from None
        return net.eval().requires_grad_(False)

    def new(self, config: Mapping[str, Any], where: str) -> nn.Module:
        """Makes the network with memory, for weights that will follow; its numbers are zeros."""
        net = self.bare(config, where).to_empty(device="cpu")
        for value in net.state_dict().values():
            value.zero_()
        return net

    def filled(self, config: Mapping[str, Any], files: Sequence[bytes], where: str) -> nn.Module:
        """Makes the network with the numbers of files, as float32.

        Args:
            config: Checked values.
            files: Of weights, together one tensor for each of the network's.
            where: What the files are, for people.

        Raises:
            UserError: If a file is not safe, or a tensor is missing, unknown, of another shape or twice there.
        """
        net = self.bare(config, where)
        wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
        contents, place = [look(file) for file in files], {}
        for number, found in enumerate(contents):
            for stored in found.parts:
                name = self._now(stored)
                if name in place:
                    raise UserError(
                        f"{where}: the tensor {name[:80]!r} is in two files. One of each is needed; bring the weights "
                        "in one precision, without fp16 or ema copies beside them."
                    )
                if not name.endswith(self.ignored):
                    place[name] = number, stored
        shapes = {name: contents[number].shapes[stored] for name, (number, stored) in place.items()}
        self._fits(wanted, shapes, where)
        tensors: dict[str, Tensor] = {}
        for number, file in enumerate(files):
            chosen = {name: stored for name, (at, stored) in place.items() if at == number}
            tensors |= load(file, contents[number], chosen)
        for name, value in net.state_dict().items():
            if tensors[name].is_floating_point() != value.is_floating_point():
                raise UserError(
                    f"{where}: the tensor {name[:80]!r} is of {str(tensors[name].dtype).removeprefix('torch.')}. "
                    "Quantised weights cannot be read. Save them before they are quantised."
                )
            tensors[name] = tensors[name].to(value.dtype)
        net.load_state_dict(tensors, assign=True)
        return net.requires_grad_(False)

    def count(self, config: Mapping[str, Any], where: str) -> int:
        """Counts the parameters that a checked config asks for, without memory for them."""
        return sum(value.numel() for value in self.bare(config, where).parameters())

    def _now(self, name: str) -> str:
        for old, new in self.renamed.items():
            name = name.replace(old, new)
        return name

    def _fits(
        self, wanted: Mapping[str, tuple[int, ...]], held: Mapping[str, tuple[int, ...]], where: str
    ) -> None:
        wrong = [
            *(f"{n!r} is missing" for n in wanted if n not in held),
            *(f"{n[:80]!r} belongs to no part of it" for n in held if n not in wanted),
            *(
                f"{n!r} must have the shape {wanted[n]}, got {held[n]}"
                for n in wanted
                if n in held and held[n] != wanted[n]
            ),
        ]
        if wrong:
            asked = sum(map(math.prod, wanted.values()))
            there = sum(map(math.prod, held.values()))
            more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
            raise UserError(
                f"{where}: the weights do not fit this {self.name}: {wrong[0]}{more}; the config asks for {asked:,} "
                f"numbers, and the files hold {there:,}. Bring the config and the weights that belong together."
            )


def shards(package: Package) -> list[bytes]:
    """Gives the files of weights of a folder, one or several; that they are whole, :meth:`Architecture.filled` says.

    Raises:
        UserError: If there is none.
    """
    if not package.tensors:
        raise UserError(f"{package.name!r} holds no weights. {ADVICE}")
    return [package.files[path] for path in package.tensors]

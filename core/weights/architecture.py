"""One class of networks that a folder may describe: what its description may say, and how it is made of that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from core.catalog import UserError
from core.weights import Package, component


@dataclass(frozen=True)
class Architecture:
    """A class of networks that may be made of a description.

    Attributes:
        name: Of the class, as descriptions write it.
        make: Gives the class; imports its library.
        choices: By parameter, the values that are allowed: of a list, those of its entries.
        bounds: By parameter, the least and the most.
        others: Parameters that may have any plain value.
        stem: What its files of weights are called.
        renamed: Parts of the names of tensors in old files, and what they are called now.
        ignored: Ends of the names of tensors that old files hold and the network makes itself.
    """

    name: str
    make: Callable[[], Callable[..., nn.Module]]
    choices: Mapping[str, Collection[Any]] = field(repr=False)
    bounds: Mapping[str, tuple[float, float]] = field(repr=False)
    others: tuple[str, ...] = ()
    stem: str = "diffusion_pytorch_model"
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def read(self, package: Package, folder: str = "") -> dict[str, Any]:
        """Reads and checks the description in a folder of a package.

        Raises:
            UserError: If there is none, it is of another class, or a value is unknown or not allowed.
        """
        at = f"{folder}config.json"
        said = package.json(at)
        if said.get("_class_name", self.name) != self.name:
            raise UserError(
                f"{at} describes {said['_class_name']!r:.60}, and {self.name} is needed there. {component.ASIS}"
            )
        known = {*self.choices, *self.bounds, *self.others}
        return component.described(said, at, known, self.choices, self.bounds)

    def count(self, config: Mapping[str, Any]) -> int:
        """Counts the parameters of the network of a checked description, without memory for them.

        Raises:
            UserError: If its values do not go together, or ask for too many.
        """
        bare = component.outline(lambda: self.make()(**config), self.name)
        return sum(weight.numel() for weight in bare.parameters())

    def built(self, config: Mapping[str, Any], package: Package | None) -> nn.Module:
        """Makes the network of a checked description with the weights of its folder; without a package, with others.

        Raises:
            UserError: If a file is not safe, or a tensor is missing, unknown, of another shape or twice there.
        """
        files = None
        if package is not None:
            files = [
                (file, replace(contents, parts=self._needed(contents.parts)))
                for file, contents in component.stored(package, self.stem)
            ]
        return component.build(lambda: self.make()(**config), files, self.name, self._now)

    def _needed(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in parts.items() if not name.endswith(self.ignored)}

    def _now(self, name: str) -> str:
        for old, new in self.renamed.items():
            name = name.replace(old, new)
        return name

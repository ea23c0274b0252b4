"""The names of tensors: those that wrappers change, and how those in a file meet those of a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# names that torch.compile and wrappers for several GPUs put into the middle of others
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
COPIES = re.compile("ema|avg|averaged|teacher|target")  # of the weights that were trained


def clean(name: str) -> str:
    """Takes the names of wrappers out of a name: ``module._orig_mod.conv1.weight`` is ``module.conv1.weight``."""
    return _WRAPPERS.sub("", name)


@dataclass(frozen=True)
class Fit:
    """How the names in a file meet those of a network.

    Attributes:
        prefix: What stands before each of the network's names in the file.
        chosen: The network's names: those in the file.
        missing, extra: Names that only the network has, and that only the file has, below the prefix.
        shapes: Names of another shape.
        left: Names in the file that do not begin with the prefix.
    """

    prefix: str
    chosen: dict[str, str]
    missing: list[str]
    extra: list[str]
    shapes: list[str]
    left: list[str]

    @property
    def whole(self) -> bool:
        """Whether the network gets all its tensors, and no other is left below the prefix."""
        return not (self.missing or self.extra or self.shapes)


def fit(
    stored: Mapping[str, tuple[int, ...]], needed: Mapping[str, tuple[int, ...]], may_miss: set[str]
) -> Fit:
    """Finds the network's names among those in a file, whatever a wrapper has put before all of them.

    Args:
        stored: The shapes of the tensors in the file.
        needed: The shapes of the network's tensors.
        may_miss: Names that the network can make itself.
    """
    short = {clean(name): name for name in needed}
    if all(name.startswith("module.") for name in short):  # a factory wraps it for several GPUs
        short = {name.removeprefix("module."): own for name, own in short.items()}
    endings = [name for name in short if short[name] not in may_miss]
    some = {*endings[:3], *endings[-3:], *endings[len(endings) // 2 :][:3]}
    before = [name.removesuffix(end) for name in stored for end in some if name.endswith("." + end)]
    prefixes = list(dict.fromkeys(["", *before]))[:50]
    # a plain name beats one of an averaged copy or a teacher, where both are whole
    plain = ["", "model.", "net.", "module.", "network.", *prefixes]

    def rank(prefix: str) -> tuple[int, int, int]:
        fitting = sum(prefix + name in stored for name in short)
        return fitting, -len(COPIES.findall(prefix)), -plain.index(prefix)

    best = max(prefixes, key=rank)
    chosen = {own: best + name for name, own in short.items() if best + name in stored}
    below = [name for name in stored if name.startswith(best)]
    known = {best + name for name in short}
    return Fit(
        best,
        chosen,
        [own for own in needed if own not in chosen and own not in may_miss],
        [name for name in below if name not in known],
        [own for own, name in chosen.items() if stored[name] != needed[own]],
        [name for name in stored if not name.startswith(best)],
    )

"""A network of somebody's library, out of a description and files of weights that nobody vouches for.

The description is compared with what the class takes, number by number, before the class sees it. Then the network is
built on torch's meta device, where it takes no memory, and counted. Only one that is small enough, and whose tensors
are exactly those of the files, is built for real.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.ground.settings import settings
from core.weights.contents import Contents
from core.weights.package import Package

WIDEST = 65_536  # of any number that counts something in a description
LONGEST = 64  # entries of a list in one
_PLAIN = (bool, int, float, str, type(None))
ASIS = "Bring the folder as the library wrote it."


def described(
    config: Mapping[str, Any],
    what: str,
    known: Collection[str],
    choices: Mapping[str, Collection[Any]] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Checks what a description says, and gives it without the library's own marks (names that begin with ``_``).

    Args:
        config: The description.
        what: What it describes, for messages: ``unet/config.json``.
        known: The names that it may have.
        choices: By name, the values that are allowed: of a list, those of its entries.
        bounds: By name, the least and the most; any other number is from 0 to :data:`WIDEST`.

    Raises:
        UserError: If a name is not known, or a value is not allowed; the first one is named.
    """
    kept = {}
    for name, value in config.items():
        if name.startswith("_"):
            continue
        if name not in known:
            raise UserError(
                f"{what} asks for {name[:60]!r}, which this version does not know. Allowed are the parameters that the "
                f"class has. {ASIS}"
            )
        values = value if isinstance(value, list) else [value]
        if len(values) > LONGEST or not all(isinstance(each, _PLAIN) for each in values):
            raise UserError(
                f"{what} has {name}={str(value)[:60]!r}, and a plain value or a list of at most {LONGEST} is allowed. "
                f"{ASIS}"
            )
        low, high = (bounds or {}).get(name, (0, WIDEST))
        for each in values:
            number = isinstance(each, int | float) and not isinstance(each, bool)
            if number and not (math.isfinite(each) and low <= each <= high):
                raise UserError(
                    f"{what} has {name}={each}, and numbers from {low:g} to {high:g} are allowed. {ASIS}"
                )
            if isinstance(each, str) and len(each) > 200:
                raise UserError(f"{what} has a text of {len(each):,} characters as {name}. {ASIS}")
            if choices and name in choices and each not in choices[name]:
                some = ", ".join(map(str, choices[name]))
                raise UserError(f"{what} has {name}={each!r:.60}. Known are: {some}. {ASIS}")
        kept[name] = value
    return kept


def outline(make: Callable[[], nn.Module], what: str) -> nn.Module:
    """Builds a network without memory, to count it and to know the names and shapes of its tensors.

    Raises:
        UserError: If its class refuses the description, or it has more numbers than this server allows.
    """
    try:
        with torch.device("meta"):
            net = make()
    except UserError:
        raise
    except Exception as error:  # whatever a class raises at a description that it does not like
        raise UserError(
            f"{what} describes no network that can be built ({_raised(error)}). {ASIS}"
        ) from None
    allow_parameters(sum(weight.numel() for weight in net.parameters()), what)
    return net


def allow_parameters(count: int, what: str) -> None:
    """Refuses a network of more numbers than this server allows.

    Raises:
        UserError: If it has.
    """
    most = settings().max_parameters * 10**6
    if count > most:
        raise UserError(
            f"{what} asks for {count / 1e6:,.0f} million numbers, and at most {most / 1e6:,.0f} million are allowed on "
            "this server. Bring a smaller network, or raise SIMULACRA_MAX_PARAMETERS on your own machine."
        )


def stored(package: Package, stem: str) -> list[tuple[bytes, Contents]]:
    """Finds the files of weights of a component, and looks at them: one, or its numbered parts.

    Args:
        package: The component's folder.
        stem: What they are called: ``diffusion_pytorch_model``.

    Raises:
        UserError: If there is none, or one cannot be read.
    """
    from core import weights

    parts = re.compile(re.escape(stem) + r"-\d{5}-of-(\d{5})\.safetensors")
    found = [f"{stem}.safetensors"] if f"{stem}.safetensors" in package else []
    if not found and (found := sorted(filter(parts.fullmatch, package.files))):
        wanted = int(parts.fullmatch(found[0])[1])  # type: ignore[index]
        if len(found) != wanted:
            raise UserError(
                f"{package.name!r} holds {len(found)} of the {wanted} parts of its weights. {ASIS}"
            )
    if not found:
        found = sorted(path for path in package.files if path.endswith(".safetensors"))[:1]
    if not found:
        raise UserError(
            f"{package.name!r} holds no weights. Needed is {stem}.safetensors. Save them with safetensors."
        )
    return [(package[path], weights.look(package[path])) for path in found]


def fitting(
    files: list[tuple[bytes, Contents]],
    net: nn.Module,
    what: str,
    renamed: Callable[[str], str] = lambda name: name,
) -> None:
    """Compares the tensors of files with those of a network, by names and shapes.

    Args:
        files: As :func:`stored` gives them.
        net: The network, of which no number is read.
        what: What it is, for messages.
        renamed: Gives the name that a tensor of the files has in the network.

    Raises:
        UserError: If one is missing, is of another shape, is there twice or belongs to no part of it: a network with
            such weights would draw noise, and no library says so.
    """
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    held: dict[str, tuple[int, ...]] = {}
    for _, contents in files:
        for name, shape in contents.shapes.items():
            if (name := renamed(name)) in held:
                raise UserError(f"The weights of {what} hold {name[:80]!r} twice. {ASIS}")
            held[name] = shape
    missing = [name for name in wanted if name not in held]
    strange = [name for name in held if name not in wanted]
    other = [name for name in wanted if name in held and held[name] != wanted[name]]
    if not (missing or strange or other):
        return
    if missing:
        said = f"{len(missing):,} of its {len(wanted):,} tensors are missing, the first is {missing[0]!r}"
    elif other:
        name = other[0]
        said = f"{name!r} must have the shape {wanted[name]}, got {held[name]}"
    else:
        said = f"{strange[0][:80]!r} belongs to no part of it"
    raise UserError(
        f"The weights do not fit {what}: {said}. All tensors must be there, and no other. Bring the description and "
        "the weights that were saved together."
    )


def build(
    make: Callable[[], Any],
    files: list[tuple[bytes, Contents]] | None,
    what: str,
    renamed: Callable[[str], str] = lambda name: name,
) -> nn.Module:
    """Builds a network for real, after :func:`outline`, and gives it the weights of files, as float32.

    Args:
        make: Makes the network.
        files: As :func:`stored` gives them; None leaves it without its weights.
        what: What it is, for messages.
        renamed: Gives the name that a tensor of the files has in the network.

    Raises:
        UserError: As :func:`outline` and :func:`fitting`, or if a number is not finite.
    """
    from core import weights

    bare = outline(make, what)
    if files is not None:
        fitting(files, bare, what, renamed)
    with torch.random.fork_rng(
        devices=[]
    ):  # what it draws at first is overwritten, and is nobody's noise
        net = make().float()
    if files is not None:
        full: dict[str, Tensor] = {}
        for file, contents in files:
            chosen = {name: name for name in contents.parts}
            for name, value in weights.load(file, contents, chosen).items():
                full[renamed(name)] = value.float() if value.is_floating_point() else value
        net.load_state_dict(full, assign=True)
    return net.eval().requires_grad_(False)


def unresized(net: Callable[[], Any], what: str, shape: tuple[int, ...]) -> None:
    """Passes an item without memory through a network on the meta device, to see that it takes this shape.

    Args:
        net: Calls the network; its answer is compared.
        what: What it is, for messages.
        shape: Of the item and of the answer, without the batch.

    Raises:
        UserError: If it does not take it, or answers in another shape.
    """
    try:
        out = net()
    except Exception as error:  # whatever a network raises at what does not fit
        raise UserError(
            f"{what} cannot take items of {' × '.join(map(str, shape))} ({_raised(error)}). {ASIS}"
        ) from None
    if tuple(out.shape[1:]) != shape:
        raise UserError(
            f"{what} makes {' × '.join(map(str, out.shape[1:]))} of {' × '.join(map(str, shape))}. {ASIS}"
        )


def _raised(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"

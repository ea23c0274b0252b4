"""Low-rank changes of a network (LoRA), read from safetensors in the names of several programs, and added to it.

A change of a layer is ``strength · alpha / r · B A``, with A (r, in) and B (out, r); one of a convolution is the same
on its windows.

References:
    Hu et al., 2021, LoRA: low-rank adaptation of large language models, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.ground import untrusted
from core.weights import load, look

# what programs write behind the name of a layer, and which of the factors it is
_FACTORS = {
    r"\.lora_A(?:\.default)?\.weight": "down",
    r"\.lora_B(?:\.default)?\.weight": "up",
    r"\.lora_down\.weight": "down",
    r"\.lora_up\.weight": "up",
    r"\.lora(?:_linear_layer)?\.down\.weight": "down",
    r"\.lora(?:_linear_layer)?\.up\.weight": "up",
    r"_lora\.down\.weight": "down",
    r"_lora\.up\.weight": "up",
    r"\.alpha": "alpha",
}
_KEY = re.compile(f"({'|'.join(_FACTORS)})$")
_BEFORE = re.compile(r"^(?:base_model\.model\.|diffusion_model\.)")
_OLD = re.compile(r"\.processor\.(to_[qkv]|to_out)$")  # of diffusers until 2023
MOST = 4096  # rank of a change


@dataclass(frozen=True, eq=False)
class Change:
    """What is added to the weights of one layer.

    Attributes:
        part, layer: The network, and the name of its layer.
        down, up: A (r, in, …) and B (out, r, …).
        alpha: Over r, the scale of their product.
    """

    part: str
    layer: str
    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return len(self.down)

    def delta(self, shape: Sequence[int]) -> Tensor:
        """Gives the change of weights of a shape at strength 1."""
        product = self.up.flatten(1) @ self.down.flatten(1)  # (out, r) @ (r, in …)
        return (self.alpha / self.rank * product).view(*shape)


def holds(file: bytes) -> bool:
    """Tells by the names of its tensors whether a file holds such changes."""
    try:
        return any("lora" in name for name in look(file).parts)
    except UserError:
        return False


def read(
    file: bytes,
    parts: Mapping[str, nn.Module],
    names: Mapping[str, Sequence[str]],
    alpha: float | None = None,
) -> list[Change]:
    """Reads the changes that a file holds for networks.

    Args:
        file: Safetensors in the names of diffusers, peft or kohya.
        parts: The networks by their names here.
        names: What programs call each of them, such as ``unet`` and ``lora_unet``; empty for no name at all.
        alpha: Where neither a layer nor the notes of the file say one; None takes the rank.

    Raises:
        UserError: If the file is not safe, a name fits no layer, or a factor is missing or of another shape.
    """
    contents = look(file)
    layers = {
        part: {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        for part, net in parts.items()
    }
    where: dict[str, tuple[str, str]] = {}  # every way in which a layer may be called
    for part, known in layers.items():
        for layer in known:
            for prefix in names[part]:
                where[f"{prefix}.{layer}" if prefix else layer] = part, layer
                where[f"{prefix}_{layer.replace('.', '_')}"] = part, layer
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for key in contents.parts:
        match = _KEY.search(key)
        if match is None:
            raise UserError(
                f"The tensor {key[:80]!r} of this file is no part of a LoRA that is known here (plain low-rank "
                "changes in the names of diffusers, peft or kohya; no DoRA, LoHa or LoKr). Save it as plain LoRA."
            )
        named = _OLD.sub(r".\1", _BEFORE.sub("", key[: match.start()]))
        place = where.get(named) or where.get(f"{named}.0")  # to_out is a list of one
        if place is None:
            raise UserError(
                f"The tensor {key[:80]!r} of this file changes a layer that the model does not have. "
                "Bring a LoRA that was trained for this very kind of model."
            )
        kind = next(kind for end, kind in _FACTORS.items() if re.fullmatch(end, match[0]))
        if kind in found[place]:
            raise UserError(
                f"The tensor {key[:80]!r} of this file changes the layer {place[1]!r} a second time. "
                "One change of each layer is allowed."
            )
        found[place][kind] = key
    tensors, alphas = load(file, contents, {key: key for key in contents.parts}), _alphas(file)
    return [
        _change(
            part,
            layer,
            layers[part][layer],
            {kind: tensors[key] for kind, key in keys.items()},
            next((alphas[name] for name in names[part] if name in alphas), alpha),
        )
        for (part, layer), keys in found.items()
    ]


def _alphas(file: bytes) -> dict[str, float]:
    """Gives the alpha of each network that the notes of a file name, as diffusers writes them since 2025.

    Raises:
        UserError: If single layers have an alpha or a rank of their own there.
    """
    size = int.from_bytes(file[:8], "little")
    try:  # the header was looked at before
        notes = json.loads(file[8 : 8 + size]).get("__metadata__", {}).get("lora_adapter_metadata")
        said = untrusted.read_json(notes, "The notes of a LoRA") if isinstance(notes, str) else {}
    except (untrusted.NoData, ValueError, AttributeError):
        return {}
    if not isinstance(said, dict):
        return {}
    if any(said[name] for name in said if name.endswith(("alpha_pattern", "use_dora"))):
        raise UserError(
            "This LoRA has another alpha for single layers, or is a DoRA, which is not read. Save it with one alpha."
        )
    return {
        name.removesuffix(".lora_alpha"): float(value)
        for name, value in said.items()
        if name.endswith(".lora_alpha") and type(value) in (int, float)
    }


def _change(
    part: str, layer: str, module: nn.Module, given: Mapping[str, Tensor], usual: float | None
) -> Change:
    if not {"down", "up"} <= given.keys():
        raise UserError(
            f"The change of the layer {layer!r} has only one of its two factors. Bring the whole file."
        )
    down, up = given["down"].float(), given["up"].float()
    weight: Tensor = module.weight  # pyright: ignore[reportAssignmentType]
    rank = down.shape[0] if down.ndim else 0
    wide = weight.shape[1:].numel()
    if (
        not 1 <= rank <= MOST
        or up.ndim < 2
        or down[0].numel() != wide
        or up.shape[:2] != (len(weight), rank)
        or up[0].numel() != rank
    ):
        raise UserError(
            f"The change of the layer {layer!r} must have the shapes (r, {wide}) and ({len(weight)}, r), got "
            f"{tuple(down.shape)} and {tuple(up.shape)}. Bring a LoRA that was trained for this very kind of model."
        )
    alpha = given.get("alpha", torch.tensor(float(rank) if usual is None else usual))
    if alpha.numel() != 1:
        raise UserError(f"The alpha of the layer {layer!r} must be one number. Save it again.")
    return Change(part, layer, down, up, float(alpha))


@torch.no_grad()
def add(changes: Sequence[Change], parts: Mapping[str, nn.Module], strength: float) -> None:
    """Adds changes to the weights of networks, for good."""
    for change in changes:
        weight = parts[change.part].get_submodule(change.layer).weight
        weight.add_(change.delta(weight.shape).to(weight), alpha=strength)  # pyright: ignore

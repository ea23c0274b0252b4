"""The text half of CLIP: a transformer that looks backwards only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # as the first CLIP was trained
}


@dataclass(frozen=True)
class TextShape:
    """How large a text encoder is, by the names of its config.

    Attributes:
        vocab_size: Tokens that it knows.
        hidden_size: Length of a vector.
        intermediate_size: Width between the two layers of a block.
        num_hidden_layers: Blocks.
        num_attention_heads: Heads of a block's attention.
        max_position_embeddings: Tokens of a text.
        hidden_act: A name of :data:`ACTIVATIONS`.
        layer_norm_eps: Added to variances.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuses heads that do not share a vector evenly."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"{self.num_attention_heads} heads cannot share {self.hidden_size} numbers evenly"
            )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TextShape:
        """Takes what it knows from a checked config."""
        return cls(**{name: config[name] for name in cls.__dataclass_fields__ if name in config})


class TextEncoder(nn.Module):
    """Turns rows of tokens into a vector for each; its tensors have the names of CLIP's files."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(shape.vocab_size, shape.hidden_size),
                "position_embedding": nn.Embedding(
                    shape.max_position_embeddings, shape.hidden_size
                ),
            }
        )
        blocks = nn.ModuleList(TextBlock(shape) for _ in range(shape.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layers": blocks})
        self.final_layer_norm = nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps)

    def forward(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n t w"]:
        """Gives the vectors of the last block."""
        h = self.embeddings["token_embedding"](tokens)  # (N, T) -> (N, T, W)
        places: Any = self.embeddings["position_embedding"].weight
        h = h + places[: tokens.shape[1]]
        for block in self.encoder["layers"]:  # pyright: ignore[reportGeneralTypeIssues]
            h = block(h)
        return self.final_layer_norm(h)


class TextBlock(nn.Module):
    """Attention to the tokens before, and two layers on each token, both beside a shortcut."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.heads, self.act = shape.num_attention_heads, ACTIVATIONS[shape.hidden_act]
        self.layer_norm1 = nn.LayerNorm(width, shape.layer_norm_eps)
        self.self_attn = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        )
        self.layer_norm2 = nn.LayerNorm(width, shape.layer_norm_eps)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(width, shape.intermediate_size),
                "fc2": nn.Linear(shape.intermediate_size, width),
            }
        )

    def forward(self, h: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        normal = self.layer_norm1(h)
        q, k, v = (
            self.self_attn[name](normal).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )  # each (N, heads, T, W/heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.self_attn["out_proj"](mixed.transpose(1, 2).flatten(2))
        return h + self.mlp["fc2"](self.act(self.mlp["fc1"](self.layer_norm2(h))))

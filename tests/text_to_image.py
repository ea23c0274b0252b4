"""A text-to-image model small enough for a test: the folder that somebody brings, and networks in place of large ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.brought import autoencoder, text_to_image
from core.text import TextEncoder, TextShape
from core.text.tokens import END, START, WORD_END, _letters

VAE = {
    "_class_name": "AutoencoderKL",
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 8],
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 8,
    "scaling_factor": 0.5,
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 4,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}
MERGES = [("c", "a"), ("ca", "t" + WORD_END), ("d", "o"), ("do", "g" + WORD_END)]
VOCABULARY = {
    token: number
    for number, token in enumerate(
        [
            *_letters(),
            *(letter + WORD_END for letter in _letters()),
            *(first + second for first, second in MERGES),
            START,
            END,
        ]
    )
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
    "hidden_act": "quick_gelu",
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


class SmallVAE(nn.Module):
    """Stands in for an AutoencoderKL: squares of pixels to channels and back."""

    quant_conv = post_quant_conv = None

    def __init__(self, **config: Any) -> None:
        super().__init__()
        channels, latent = config["in_channels"], config["latent_channels"]
        self.encoder = nn.Conv2d(channels, 2 * latent, 2, 2)
        self.decoder = nn.ConvTranspose2d(latent, channels, 2, 2)


class SmallUNet(nn.Module):
    """Stands in for a UNet2DConditionModel: two convolutions that text and time steer."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        channels, width = config["in_channels"], config["cross_attention_dim"]
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.attn = nn.ModuleDict({"to_k": nn.Linear(width, width)})
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(
        self, x: Tensor, step: Tensor, context: Tensor, return_dict: bool = True
    ) -> tuple[Tensor]:
        """Gives the noise that it expects."""
        steered = self.attn["to_k"](context).mean(1) + step[:, None] / 1000
        return (self.conv_out(torch.tanh(self.conv_in(x) + steered[..., None, None])),)


def stand_in(monkeypatch: Any) -> None:
    """Puts the small networks in the place of the large ones, so that no library is needed."""
    unet = replace(text_to_image.UNET, make=lambda: SmallUNet)
    vae = replace(autoencoder.AUTOENCODER, make=lambda: SmallVAE)
    monkeypatch.setitem(text_to_image.PARTS, "unet/", unet)
    monkeypatch.setitem(text_to_image.PARTS, "vae/", vae)
    monkeypatch.setattr(autoencoder, "AUTOENCODER", vae)


def made(architecture: Any, config: Mapping[str, Any], seed: int) -> nn.Module:
    """Makes a network of a config with random weights."""
    torch.manual_seed(seed)
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    return architecture.make()(**values)


def write_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Writes tensors."""
    save_file({name: value.contiguous() for name, value in state.items()}, file)


def write_part(folder: Path, net: nn.Module, config: Mapping[str, Any], prefix: str = "") -> None:
    """Writes a network and its config, as its library does."""
    folder.mkdir(parents=True)
    tensors = {prefix + name: value for name, value in net.state_dict().items()}
    write_tensors(folder / "diffusion_pytorch_model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_folder(path: Path, **changes: Mapping[str, Any]) -> SimpleNamespace:
    """Writes a folder of random networks; ``unet={"in_channels": 9}`` changes what a config says, and no network."""
    nets = SimpleNamespace(
        unet=made(text_to_image.PARTS["unet/"], UNET, 0),
        vae=made(text_to_image.PARTS["vae/"], VAE, 1),
        text=made(SimpleNamespace(make=lambda: _encoder), TEXT, 2),
    )
    write_part(path / "unet", nets.unet, UNET | changes.get("unet", {}))
    write_part(path / "vae", nets.vae, VAE | changes.get("vae", {}))
    write_part(
        path / "text_encoder", nets.text, TEXT | changes.get("text_encoder", {}), "text_model."
    )
    texts = {
        "tokenizer/vocab.json": json.dumps(VOCABULARY),
        "tokenizer/merges.txt": "\n".join(["#version: 0.2", *map(" ".join, MERGES)]),
        "scheduler/scheduler_config.json": json.dumps(SCHEDULER | changes.get("scheduler", {})),
        "model_index.json": json.dumps({"_class_name": "StableDiffusionPipeline"}),
    }
    for name, text in texts.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")
    return nets


def _encoder(**config: Any) -> TextEncoder:
    return TextEncoder(TextShape.of(config))

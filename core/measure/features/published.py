"""Networks that others trained and published, by way of torch-fidelity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.catalog import UserError, broken_off, optional
from core.tensors import Images, to_bytes


@dataclass(frozen=True)
class Published:
    """A network of torch-fidelity; its features are not standardised, so that values equal published ones.

    Attributes:
        name: Of the extractor.
        hash: Tells networks and weights apart.
    """

    name: str
    hash: str
    net: Any
    device: torch.device

    @torch.inference_mode()
    def features(self, x: Images) -> np.ndarray:
        """Gives features of images in [0, 1], grey ones as three equal channels, float64 (N, D)."""
        parts = []
        for part in x.split(50):  # 299 pixels a side inside
            levels = torch.as_tensor(to_bytes(part)).expand(-1, 3, -1, -1)
            parts.append(self.net(levels.to(self.device))[0].double().cpu())
        return torch.cat(parts).numpy()


def published(name: str, network: str, layer: str, device: torch.device, weights: str) -> Published:
    """Opens a network of torch-fidelity.

    Args:
        name: Of the extractor.
        network, layer: What torch-fidelity calls the network, and the features in it.
        device: Where it works.
        weights: A file with its weights; empty downloads them at first use.

    Raises:
        UserError: If torch-fidelity or the weights are not there, or the file holds something else.
    """
    file = Path(weights) if weights else None
    if file is not None and not file.is_file():
        raise UserError(
            f"evaluate.weights must name a file on the server, got {weights!r}. Correct the path, "
            "or leave it out to download the weights at first use."
        )
    if file is not None:
        try:  # the library itself would unpickle anything, code as well
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises many kinds
            raise UserError(
                f"{file} holds no plain weights ({type(error).__name__}). Give the file that torch-fidelity downloads, "
                "or leave evaluate.weights out."
            ) from None
    wanted = f"The extractor {name!r}", "choose judge, self, pca or pixels"
    library = optional("torch_fidelity", *wanted)  # registers its networks
    registry = optional("torch_fidelity.registry", *wanted).FEATURE_EXTRACTORS_REGISTRY
    try:
        net = registry[network](network, [layer], feature_extractor_weights_path=weights or None)
    except Exception as error:  # a download or a file that fails raises many kinds
        raise UserError(
            f"The weights of {name} cannot be loaded ({broken_off(error)}). They are downloaded at first "
            "use; without a connection, give their file as evaluate.weights, or choose another extractor."
        ) from None
    mark = hashlib.sha256(f"{network} {library.__version__}".encode())
    for key, value in net.state_dict().items():
        mark.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return Published(
        name, mark.hexdigest()[:16], net.to(device).eval().requires_grad_(False), device
    )

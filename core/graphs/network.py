"""A graph as a module of torch: its file is its weights, so that a checkpoint holds all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.graphs import look
from core.graphs.session import opened
from core.graphs.wire import Described


class Graph(nn.Module):
    """An ONNX graph. It has no gradient, and gives always the same answer.

    Args:
        file: Of the graph; empty for one that gets it with its state dict.
    """

    graph: Tensor

    def __init__(self, file: bytes = b"") -> None:
        super().__init__()
        self.register_buffer("graph", torch.frombuffer(bytearray(file or b"\0"), dtype=torch.uint8))
        self._session: Any = None
        self._described: Described | None = None

    @property
    def described(self) -> Described:
        """What the graph says it is."""
        if self._described is None:
            self._described = look(self._file())
        return self._described

    def _file(self) -> bytes:
        return self.graph.cpu().numpy().tobytes()

    def run(self, *inputs: Tensor) -> Tensor:
        """Runs it on its inputs in their order, each of N rows; gives its first output, float32, on their device."""
        described = self.described
        if self._session is None:
            self._session = opened(self._file(), torch.get_num_threads())
        values = [
            tensor.detach().cpu().numpy().astype(value.dtype)
            for value, tensor in zip(described.inputs, inputs, strict=True)
        ]
        names = [value.name for value in described.inputs]

        def once(rows: slice) -> Any:
            feeds = {name: value[rows] for name, value in zip(names, values, strict=True)}
            return self._session.run(None, feeds)[0]

        count = len(values[0])
        if described.inputs[0].shape[:1] == (1,):  # exported for one at a time
            out = np.concatenate([once(slice(k, k + 1)) for k in range(count)])
        else:
            out = once(slice(None))
        return torch.as_tensor(out, dtype=torch.float32).to(inputs[0].device)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        file = state.get(f"{prefix}graph")
        if isinstance(file, Tensor) and file.dtype == torch.uint8:  # of whatever length
            self.graph = file.detach().clone().to(self.graph.device)
            self._session = self._described = None
        super()._load_from_state_dict(state, prefix, *more)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}


class GraphClassifier(Graph):
    """A graph that gives logits of images."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives logits, (N, K)."""
        return self.run(x)


class GraphDecoder(Graph):
    """A graph that decodes latents.

    Args:
        file: Of the graph.
        latent_dim: Length of a latent.
        classes: How many it listens to.
        centred: Whether its images lie from -1 to 1.
    """

    def __init__(self, file: bytes, latent_dim: int, classes: int, centred: bool) -> None:
        super().__init__(file)
        self.latent_dim, self.classes, self.centred = latent_dim, classes, centred

    def decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Turns latents (N, D) and shares (N, K) into images (N, C, H, W)."""
        first, *rest = self.described.inputs
        inputs = [z.view(len(z), *(side or 1 for side in first.shape[1:]))]
        if rest:
            y = z.new_full((len(z), self.classes), 1 / self.classes) if y is None else y
            inputs.append(y.argmax(1) if len(rest[0].shape) == 1 else y)
        x = self.run(*inputs)
        return (x + 1) / 2 if self.centred else x

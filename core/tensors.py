"""Tensor types, and the few operations that every layer above shares: losses, devices, randomness, averages.

Images are float32 (N, C, H, W) in [0, 1] at every border.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad

from core.catalog import UserError
from core.ground.settings import settings

Images = Float[Tensor, "n c h w"]
Batch = Float[Tensor, "n ..."]  # of any medium, either side
Labels = Int[Tensor, " n"]
Ids = Sequence[int] | Tensor  # a number for each sample, (N,)


@dataclass(frozen=True)
class Loss:
    """What one group of parameters has to lower, and the parts worth plotting.

    Attributes:
        group: Name of the parameter group that the trainer steps, and alone differentiates.
        value: Scalar to minimise, a mean over samples.
        parts: Named scalars for the record, without gradient; the trainer reads them only when it records.
        each: Computes the loss of each sample, (N,): their mean is ``value``, and the gradient of their mean its
            gradient. A function, because a training that does not ask for it should not pay for it; None for a loss
            that is no mean over samples.
    """

    group: str
    value: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    each: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Group:
    """Parameters that one optimiser moves, the family's advice for it, and the span of training in which it runs.

    Attributes:
        name: What ``Loss.group`` refers to.
        params: The parameters; no parameter is in two groups.
        lr: Learning rate that suits the network, unless the person sets one.
        beta1, beta2: Moments of Adam.
        weight_decay: Decoupled, as in AdamW.
        optimiser: How the parameters follow the gradient; ``adam`` is AdamW where weights decay, ``muon`` turns the
            momentum of ``matrices`` into an orthogonal step (:class:`core.training.muon.Muon`).
        matrices: Those of the parameters that map vectors to vectors, (outputs, inputs); all else follows Adam.
        start, stop: Share of the training, 0 to 1, in which the group is trained; its schedule runs over that span.
    """

    name: str
    params: list[torch.nn.Parameter]
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    start: float = 0.0
    stop: float = 1.0
    optimiser: Literal["adam", "muon"] = "adam"
    matrices: Sequence[torch.nn.Parameter] = ()


def whole(groups: Sequence[Group], progress: float) -> bool | None:
    """Tells whether every group has had its span, at a share of the training; None where all share one span.

    A network that learns in stages is half a network before the last of them has ended.
    """
    if len({(group.start, group.stop) for group in groups}) < 2:
        return None
    return progress >= max(group.stop for group in groups)


def device(training: bool = False) -> torch.device:
    """Gives the device of the settings: CUDA when there is one, unless the settings say otherwise.

    Args:
        training: Whether it is to train, which Apple's GPU (MPS) can. It has no float64, so all else that the settings
            would do there is done on the CPU.

    Raises:
        UserError: If this computer has no such device.
    """
    name = settings().device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = ["cpu"]
    available += ["cuda"] if torch.cuda.is_available() else []
    available += ["mps"] if torch.backends.mps.is_available() else []
    if name not in available:
        raise UserError(
            f"SIMULACRA_DEVICE is {name}, and PyTorch finds no such device on this computer. "
            f"It finds {' and '.join(available)}. Correct the variable, or unset it."
        )
    return torch.device("cpu" if name == "mps" and not training else name)


def caveat(where: torch.device) -> str:
    """Says what to know before training on a device; empty for one that this project is tried on."""
    if where.type != "mps":
        return ""
    return (
        "It trains on Apple's GPU (MPS), on which this program has not been tried. MPS has no 64-bit floats: measuring "
        "and whatever else needs them is done on the processor, and so are operations that MPS lacks."
    )


def gpus() -> int:
    """Counts the GPUs that can share a training; 1 where a training runs on the processor."""
    return max(1, torch.cuda.device_count()) if device().type == "cuda" else 1


# --- Randomness without state ---------------------------------------------------------------------------------------

_MASK = 0xFFFFFFFF


def noise(
    seed: int,
    ids: Ids,
    shape: Sequence[int],
    stream: str,
    *,
    uniform: bool = False,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws numbers that depend on seed, id and stream alone, so that sample 7 of seed 3 never changes.

    Counter-based: the Philox 4x32-10 generator, keyed by the seed, counts (block, id, stream).

    Args:
        seed: Any 64-bit integer.
        ids: One 64-bit integer per sample, length N.
        shape: Shape of one sample.
        stream: What the numbers are for; different streams are independent.
        uniform: Uniform on (0, 1) instead of standard normal.
        device: Where the result lives; the integers behind it are the same on every device.

    Returns:
        float32, shape (N, *shape).

    References:
        Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3, https://doi.org/10.1145/2063384.2063405
        Box and Muller, 1958, A note on the generation of random normal deviates
    """
    if torch.device(device).type == "mps":  # whose integers need not wrap around
        return noise(seed, torch.as_tensor(ids).cpu(), shape, stream, uniform=uniform).to(device)
    ids = torch.as_tensor(ids, dtype=torch.int64, device=device).reshape(-1)
    count = math.prod(shape)
    blocks = -(-count // 4)
    block = torch.arange(blocks, device=device).expand(len(ids), blocks)
    salt = torch.full_like(block, zlib.crc32(stream.encode()))
    high = ((ids >> 32) & _MASK)[:, None].expand_as(block)
    bits = philox(
        (block, (ids & _MASK)[:, None].expand_as(block), high, salt),
        (seed & _MASK, (seed >> 32) & _MASK),
    )
    u = torch.stack([(word >> 9).to(torch.float32) for word in bits], -1)
    u = u.add_(0.5).mul_(2.0**-23)  # (N, blocks, 4), exact, in (0, 1)
    if not uniform:
        radius = u[..., :2].log().mul_(-2).sqrt_()
        angle = u[..., 2:] * (2 * math.pi)
        u = torch.cat([torch.cos(angle).mul_(radius), angle.sin_().mul_(radius)], -1)
    return u.reshape(len(ids), blocks * 4)[:, :count].contiguous().view(len(ids), *shape)


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Computes Philox 4x32-10 on int64 tensors that hold 32-bit words; same shape in and out."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # these products wrap around, but their lower 64 bits are right
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (  # in place, because memory is what takes the time
            (p1 >> 32).bitwise_and_(_MASK).bitwise_xor_(c1).bitwise_xor_(k0),
            p1.bitwise_and_(_MASK),
            (p0 >> 32).bitwise_and_(_MASK).bitwise_xor_(c3).bitwise_xor_(k1),
            p0.bitwise_and_(_MASK),
        )
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def step_generator(
    device: torch.device, seed: int, step: int, rollbacks: int = 0
) -> torch.Generator:
    """Makes the generator of one training step; resuming a run needs nothing else."""
    sequence = np.random.SeedSequence([seed & (2**64 - 1), step, rollbacks])
    high, low = map(int, sequence.generate_state(2, np.uint32))
    return torch.Generator(device).manual_seed((high << 31) ^ low)


def draw_labels(
    seed: int,
    ids: Ids,
    shares: Sequence[float],
    device: torch.device | str,
    stream: str = "label",
) -> Tensor:
    """Draws a class per id with the given shares; int64 (N,)."""
    edges = torch.tensor(np.cumsum(shares)[:-1], dtype=torch.float32, device=device)
    u = noise(seed, ids, (), stream, uniform=True, device=device)  # (N,)
    return torch.bucketize(u, edges, right=True)


# --- Images ---------------------------------------------------------------------------------------------------------


def luminance(x: Images) -> Tensor:
    """Gives the brightness of images, (N, 1, H, W), with the weights of ITU-R BT.601."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def to_float(x: Tensor, levels: int = 256) -> Tensor:
    """Turns uint8 levels 0 … levels-1 into float32 in [0, 1]."""
    return x.to(torch.float32).div_(levels - 1)


def to_bytes(x: Tensor, levels: int = 256) -> np.ndarray:
    """Turns images in [0, 1] into uint8 0 … levels-1 in memory; values outside are clipped, nan becomes 0."""
    x = x.detach().nan_to_num(0.0).clamp(0, 1).mul(levels - 1)
    return x.round().to(torch.uint8).cpu().numpy()


def edges(x: Images) -> Tensor:
    """Gives how strong the edges of the brightness are, (N, 1, H, W) in [0, 1]; 1 where black meets white.

    References:
        Sobel and Feldman, 1968, A 3x3 isotropic gradient operator for image processing
    """
    grey = pad(luminance(x), (1, 1, 1, 1), mode="replicate")
    slope = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device) / 4
    along = conv2d(grey, torch.stack([slope, slope.T])[:, None])  # (N, 2, H, W)
    return along.square().sum(1, keepdim=True).sqrt().clamp(0, 1)


def coarse(x: Tensor) -> Tensor:
    """Flattens (N, …) to vectors, (N, P); pictures are shrunk to at most 32 px a side."""
    small = adaptive_avg_pool2d(x, min(32, x.shape[-1])) if x.ndim == 4 else x
    return small.flatten(1)


# --- Several processes ----------------------------------------------------------------------------------------------

_alone = False


def processes() -> tuple[int, int]:
    """Counts the processes that train together, and tells which of them this is; (1, 0) for one that is alone."""
    if _alone or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1, 0
    return torch.distributed.get_world_size(), torch.distributed.get_rank()


@contextmanager
def alone() -> Iterator[None]:
    """Lets this process compute something by itself; the others wait for it at the next exchange."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def rows(
    draw: Callable[..., Tensor], shape: Sequence[int], *, parts: int = 1, **options: Any
) -> Tensor:
    """Gives this process's rows of a draw that all processes make alike, so that together they see one batch.

    Args:
        draw: Draws a tensor of a shape, such as ``torch.randn``.
        shape: Of this process's rows, the batch first.
        parts: How many batches lie one behind the other in the rows; each is shared out by itself.
        options: Of ``draw``: the generator, which is in the same state everywhere, and the device.

    Returns:
        Shape ``shape``; alone, what ``draw(shape, **options)`` gives.
    """
    count, rank = processes()
    if count == 1:
        return draw(tuple(shape), **options)
    joint = draw((shape[0] * count, *shape[1:]), **options)
    return joint.unflatten(0, (parts, count, -1))[:, rank].flatten(0, 1)


class _Sum(torch.autograd.Function):
    """Adds over the processes; its gradient adds, too, because each result depends on the inputs of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.apply(grads[0])  # type: ignore[return-value]


def all_mean(x: Tensor) -> Tensor:
    """Averages over the processes of a distributed training, differentiably; alone, returns its input.

    Whatever is not a mean over samples (batch statistics, an optimal sigma, codebook averages) goes through here,
    so that several GPUs compute what one would.
    """
    count = processes()[0]
    return x if count == 1 else _Sum.apply(x) / count  # type: ignore[operator]


def agreed(value: Any) -> Any:
    """Gives what the first process says to all of them: a plain value, or one with tensors on the CPU."""
    if processes()[0] == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def full(x: Tensor) -> Tensor:
    """Turns the short floats of autocast into float32, and leaves others alone."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def give_memory_back() -> None:
    """Gives memory back to the machine: reference cycles, and what the C library holds for reuse."""
    import ctypes
    import gc
    import sys

    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def fingerprint(module: Any) -> str:
    """Takes the sha-256 of a module's weights, 16 digits; empty for what has none."""
    if not isinstance(module, nn.Module):
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

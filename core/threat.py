"""What an attack is up against: the classifier under test, the norm that bounds a change, and the losses to climb.

Images are float32 (N, C, H, W) in [0, 1]; a budget ``eps`` is on that scale, whatever the classifier does to its input.

References (used throughout the code):
    [1] Madry et al., 2018, Towards deep learning models resistant to adversarial attacks, https://arxiv.org/abs/1706.06083
    [2] Croce and Hein, 2020, Reliable evaluation (AutoAttack, DLR loss), https://arxiv.org/abs/2003.01690
    [3] Athalye et al., 2018, Obfuscated gradients (BPDA, EOT), https://arxiv.org/abs/1802.00420
    [4] Carlini and Wagner, 2017, Towards evaluating the robustness of neural networks, https://arxiv.org/abs/1608.04644
    [5] Duchi et al., 2008, Efficient projections onto the l1-ball, https://doi.org/10.1145/1390156.1390191
    [6] Tramer and Boneh, 2019, Adversarial training and robustness for multiple perturbations, https://arxiv.org/abs/1904.13000
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core.catalog import UserError
from core.classifier import suited_eps
from core.tensors import Images

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
Score = Callable[[Tensor], Tensor]  # logits (N, K) -> what an attack raises, (N,)
FEWEST = 1  # images of the smallest batch that is still halved
ALIKE = 0.5  # correlation with the image from which on an input of a part is taken for the image, changed


class Target:
    """A classifier under test: its preprocessing inside, its passes counted, evaluation mode, float32.

    Attributes:
        name: For people.
        channels, size: Of the images that it takes.
        classes: Their names; as many as it has logits.
        facts: What a report says about it: run, hash, architecture, preprocessing.
        eot: Draws that are averaged wherever it is asked, for a model that is random [3].
        bpda: Whether steps without a gradient (rounding, signs, casts) pass it through unchanged [3].
        bypass: Whether the gradient passes whatever is done to the image before a part of the module gets it [3].
        logs: Whether its outputs are probabilities, of which the logarithm stands for logits.
        forward, backward: Images that were passed so far, each way.
        notes: What had to be done so that it works, in sentences.
        batch: Images at a time; halved when they do not fit into memory.
        detached: Whether it was found to cut the graph, so that it has no gradient at all.
        on_pass: Called before every pass; it may raise :class:`core.watch.Stopped` to end an attack.
    """

    def __init__(
        self,
        module: nn.Module | Callable[[Tensor], Tensor],
        classes: Sequence[str],
        channels: int,
        size: int,
        *,
        name: str = "classifier",
        facts: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.module, self.name = module, name
        self.classes, self.channels, self.size = tuple(classes), channels, size
        self.facts = dict(facts or {})
        self.device = torch.device(device)
        self.eot, self.bpda, self.bypass, self.logs = 1, False, False, False
        self.forward = self.backward = 0
        self.notes: list[str] = []
        self.batch = max(16, min(1000, 2**20 // (channels * size * size)))
        self.detached = False
        self.on_pass: Callable[[], None] | None = None
        if isinstance(module, nn.Module):
            if any(part.training for part in module.modules()):
                module.eval()
                self.notes.append("It was in training mode, and was put into evaluation mode.")
            module.to(self.device)

    def with_(self, **changes: Any) -> Target:
        """Gives the same classifier, asked in another way: ``with_(eot=20, bpda=True)``; it counts for itself."""
        other = copy.copy(self)
        other.forward = other.backward = 0
        other.notes = list(self.notes)
        for name, value in changes.items():
            if name not in ("eot", "bpda", "bypass", "logs", "batch", "name"):
                raise TypeError(f"a target has no {name!r} to change")
            setattr(other, name, value)
        return other

    def raw(self, x: Images) -> Tensor:
        """Gives what the module gives, once, (N, K)."""
        out = self.module(x)
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(x):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UserError(
                f"{self.name} must give one row of logits per image, ({len(x)}, classes), got {shape}. "
                "Wrap it in a module that does."
            )
        if out.shape[1] != len(self.classes):
            raise UserError(
                f"{self.name} gives {out.shape[1]} logits, but the data has {len(self.classes)} classes. "
                "Choose the dataset that it was trained for."
            )
        return out.float()

    def logits(self, x: Images) -> Tensor:
        """Gives logits, (N, K), without gradient, in batches."""
        with torch.no_grad():
            return self._in_parts(lambda part: self._averaged(part), x.to(self.device))

    def predict(self, x: Images) -> Tensor:
        """Names the class of each image, (N,); -1 where the output is not a number."""
        return decide(self.logits(x))

    def probabilities(self, x: Images) -> Tensor:
        """Gives the probability of each class, (N, K)."""
        return self.logits(x).softmax(1)

    def climb(self, x: Images, score: Score) -> tuple[Tensor, Tensor, Tensor]:
        """Gives logits (N, K), the score (N,) and its gradient at the images (N, C, H, W); nan becomes 0.

        A classifier that cuts its graph has gradient 0, and :attr:`detached` says so.
        """
        values: list[Tensor] = []
        taken = 0

        def part(x: Tensor) -> Tensor:
            nonlocal taken
            rows = slice(taken, taken + len(x))
            sums: list[Tensor] = []
            for _ in range(self.eot):
                moved = x.detach().requires_grad_()
                with torch.enable_grad():
                    out = self._once(moved)
                    each = _rows(score, out, rows)
                slope = None
                if out.requires_grad:
                    (slope,) = torch.autograd.grad(each.sum(), moved, allow_unused=True)
                if slope is None:
                    self.detached, slope = True, torch.zeros_like(x)
                self.backward += len(x)
                drawn = [out.detach(), each.detach(), slope]
                sums = [a + b for a, b in zip(sums, drawn, strict=True)] if sums else drawn
            logits, value, slope = sums if self.eot == 1 else [total / self.eot for total in sums]
            taken += len(x)
            values.append(value)
            kept.append(logits)
            return slope.nan_to_num(0.0, 0.0, 0.0)

        kept: list[Tensor] = []

        def reset() -> None:
            nonlocal taken
            taken = 0
            values.clear()
            kept.clear()

        slopes = self._in_parts(part, x, reset)
        return torch.cat(kept), torch.cat(values), slopes

    def jacobian(self, x: Images, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Gives logits (N, K) and the gradients of those of chosen classes (N, k), (N, k, C, H, W); nan becomes 0."""
        kept: list[Tensor] = []
        taken = 0

        def part(x: Tensor) -> Tensor:
            nonlocal taken
            classes = chosen[taken : taken + len(x)]
            taken += len(x)
            moved = x.detach().requires_grad_()
            with torch.enable_grad():
                out = self._once(moved)
                wanted = out.gather(1, classes)
            kept.append(out.detach())
            count = classes.shape[1]
            if not out.requires_grad:
                self.detached = True
                return x.new_zeros(len(x), count, *x.shape[1:])
            slopes = [
                torch.autograd.grad(wanted[:, k].sum(), moved, retain_graph=k + 1 < count)[0]
                for k in range(count)
            ]
            self.backward += len(x) * count
            return torch.stack(slopes, 1).nan_to_num(0.0, 0.0, 0.0)

        def reset() -> None:
            nonlocal taken
            taken = 0
            kept.clear()

        slopes = self._in_parts(part, x, reset)
        return torch.cat(kept), slopes

    # --- inside ---------------------------------------------------------------------------------------------------

    def _once(self, x: Tensor) -> Tensor:
        if self.on_pass is not None:
            self.on_pass()
        with ExitStack() as ways:
            if self.bpda:
                ways.enter_context(StraightThrough())
            if self.bypass and isinstance(self.module, nn.Module):
                ways.enter_context(bypassed(self.module, x))
            try:
                out = self.raw(x)
            except RuntimeError as error:
                if not self.bypass or isinstance(error, torch.OutOfMemoryError):
                    raise
                out = None
        if out is None:  # it takes a gradient inside, to something that the bypass has cut off
            self.bypass = False
            return self._once(x)
        self.forward += len(x)
        return out.clamp_min(1e-30).log() if self.logs else out

    def _averaged(self, x: Tensor) -> Tensor:
        if self.eot == 1:
            return self._once(x)
        # a random model decides by the mean of its probabilities
        return torch.stack([self._once(x).softmax(1) for _ in range(self.eot)]).mean(0).log()

    def _in_parts(
        self, make: Callable[[Tensor], Tensor], x: Tensor, reset: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Applies a function batch by batch; a batch that does not fit into memory is halved, and said."""
        while True:
            try:
                parts = [make(part) for part in x.split(self.batch)]
                return torch.cat(parts) if len(parts) != 1 else parts[0]
            except (torch.OutOfMemoryError, MemoryError) as error:
                reset()
                if self.batch <= FEWEST:
                    raise UserError(
                        f"Not even one image fits into the memory with {self.name} ({error}). "
                        "Use smaller images, or a machine with more memory."
                    ) from None
                self.batch = max(FEWEST, min(self.batch, len(x)) // 2)
                self.notes.append(f"Memory was short: it is asked {self.batch} images at a time.")
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()


def _rows(score: Score, logits: Tensor, rows: slice) -> Tensor:
    """Applies a score to a batch; one that knows the labels of all images says which rows it needs."""
    at = getattr(score, "at", None)
    return score(logits) if at is None else at(logits, rows)


class Climb:
    """A score of logits with one label, and perhaps one class to aim at, per image; it can be asked for some rows.

    Attributes:
        kind: ``ce``, ``margin`` or ``dlr``.
        y: Labels (N,).
        towards: Classes to aim at (N,), or None to leave the label.
    """

    def __init__(self, kind: str, y: Tensor, towards: Tensor | None = None) -> None:
        self.kind, self.y, self.towards = kind, y, towards

    def __call__(self, logits: Tensor) -> Tensor:
        return self.at(logits, slice(None))

    def at(self, logits: Tensor, rows: slice) -> Tensor:
        """Scores the logits of some rows."""
        towards = None if self.towards is None else self.towards[rows]
        return SCORES[self.kind](logits, self.y[rows], towards)


def ce(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the cross entropy of the label in nats, (N,), or minus that of the class aimed at; higher is worse."""
    if towards is not None:
        return -F.cross_entropy(logits, towards, reduction="none")
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the lead of the best other class, or of the one aimed at, over the label, (N,); above 0 is fooled [4]."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    if towards is not None:
        return logits.gather(1, towards[:, None]).squeeze(1) - own
    return others(logits, y).amax(1) - own


def dlr(logits: Tensor, y: Tensor, towards: Tensor | None = None) -> Tensor:
    """Gives the difference of logits over their spread, (N,): like the margin, but of no scale ([2], eq. 6 and 7).

    Three classes are needed, four where one is aimed at; with fewer it is the margin.
    """
    ranked = logits.sort(1, descending=True).values
    if towards is not None:
        if logits.shape[1] < 4:
            return margin(logits, y, towards)
        spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
        return margin(logits, y, towards) / (spread + 1e-12)
    if logits.shape[1] < 3:
        return margin(logits, y)
    return margin(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


SCORES: Mapping[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "ce": ce,
    "margin": margin,
    "dlr": dlr,
}


def others(logits: Tensor, y: Tensor) -> Tensor:
    """Gives the logits with the label's at minus infinity, (N, K)."""
    return logits.scatter(1, y[:, None], -math.inf)


def decide(logits: Tensor) -> Tensor:
    """Names the largest logit, (N,); -1 where one is not a number."""
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


# --- Norms ----------------------------------------------------------------------------------------------------------


def length(change: Tensor, norm: str) -> Tensor:
    """Measures a change of images, (N,)."""
    flat = change.flatten(1).abs()
    if norm == "linf":
        return flat.amax(1)
    return flat.square().sum(1).sqrt() if norm == "l2" else flat.sum(1)


def within(x: Images, moved: Tensor, eps: float | Tensor, norm: str) -> Images:
    """Gives the images in [0, 1] and within ``eps`` (one, or one per image) of ``x`` that ``moved`` stands for.

    The change is projected onto the ball, then clipped to the range, which only shortens it.
    """
    if norm == "linf":
        half = wide(eps) if isinstance(eps, Tensor) else eps
        return torch.clamp(moved, x - half, x + half).clamp_(0, 1)
    change = moved - x
    if norm == "l2":
        shrink = (eps / length(change, "l2").clamp_min(1e-12)).clamp(max=1)
        return (x + change * wide(shrink)).clamp(0, 1)
    return (x + l1_ball(change, eps)).clamp(0, 1)


def l1_ball(change: Tensor, eps: float | Tensor) -> Tensor:
    """Projects changes onto the L1 ball of radius ``eps``, one or one per image (N,) ([5], figure 1)."""
    eps = torch.as_tensor(eps, dtype=change.dtype, device=change.device).expand(len(change))[
        :, None
    ]
    flat = change.flatten(1)
    size = flat.abs()
    ranked = size.sort(1, descending=True).values
    excess = ranked.cumsum(1) - eps
    count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    held = (ranked - excess / count > 0).sum(1).clamp_min(1)
    cut = (excess.gather(1, held[:, None] - 1) / held[:, None]).clamp_min(0)
    short = (flat.sign() * (size - cut).clamp_min(0)).view_as(change)
    return torch.where(wide(size.sum(1) <= eps[:, 0]), change, short)


def steepest(slope: Tensor, norm: str, x: Images | None = None) -> Tensor:
    """Gives the change of length 1 that follows a gradient best.

    For L1 the steepest twentieth of the pixels that can still move share it ([6], section 5).
    """
    if norm == "linf":
        return slope.sign()
    if norm == "l2":
        return slope / wide(length(slope, "l2").clamp_min(1e-30))
    flat = slope.flatten(1)
    if x is not None:
        stuck = ((x >= 1) & (slope > 0)) | ((x <= 0) & (slope < 0))
        flat = flat.masked_fill(stuck.flatten(1), 0.0)
    count = max(1, flat.shape[1] // 20)
    edge = flat.abs().topk(count, 1).values[:, -1:]
    chosen = flat.sign() * (flat.abs() >= edge)
    return (chosen / chosen.abs().sum(1, keepdim=True).clamp_min(1)).view_as(slope)


def wide(v: Tensor) -> Tensor:
    """Gives one number per image a shape that multiplies images, (N, 1, 1, 1)."""
    return v.view(-1, 1, 1, 1)


def largest(channels: int, size: int, norm: str) -> float:
    """Gives the budget within which any image can become any other."""
    pixels = channels * size * size
    return {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}[norm]


def default_eps(channels: int, size: int, norm: str) -> float:
    """Gives the budget at which images of this kind are usually attacked; L2 and L1 in CIFAR-10's proportions [2]."""
    linf, pixels = suited_eps(channels, size), channels * size * size
    if norm == "linf":
        return linf
    return float(f"{(0.29 * math.sqrt(pixels) if norm == 'l2' else 0.125 * pixels) * linf:.2g}")


def eps_text(eps: float, norm: str = "linf") -> str:
    """Writes a budget: Linf as levels of 255, the others as a number.

    >>> eps_text(8 / 255), eps_text(0.5, "l2")
    ('8/255', '0.5')
    """
    return f"{eps * 255:.3g}/255" if norm == "linf" else f"{eps:.3g}"


def parse_eps(text: str, channels: int, size: int, norm: str = "linf") -> list[float]:
    """Reads budgets as a person writes them, ``8/255, 0.1``; rising, without repeats.

    Raises:
        UserError: If one is no number, negative, or larger than any image needs ("8" where "8/255" was meant).
    """
    top, found = largest(channels, size, norm), []
    for word in filter(None, text.replace(";", ",").replace(" ", ",").split(",")):
        try:
            above, _, below = word.partition("/")
            eps = float(above) / (float(below) if below else 1.0)
        except (ValueError, ZeroDivisionError):
            raise UserError(
                f"An attack strength must be a number, got {word!r}. For example 8/255, or 0.1."
            ) from None
        if not 0 <= eps < math.inf:
            raise UserError(
                f"An attack strength must be 0 or more, got {word}. For example {eps_text(8 / 255)}."
            )
        if eps > top:
            hint = f" Did you mean {word}/255?" if norm == "linf" and eps <= 255 else ""
            raise UserError(
                f"An attack strength must be at most {top:g} ({norm}, pixels from 0 to 1), got {word}."
                f"{hint or ' Lower it.'}"
            )
        found.append(eps)
    return sorted(set(found))


# --- Gradients through what has none --------------------------------------------------------------------------------

_FLAT = {torch.round, torch.floor, torch.ceil, torch.trunc, torch.fix, torch.sign}
_FLAT |= {getattr(Tensor, f.__name__) for f in _FLAT}
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_CASTS = {Tensor.byte, Tensor.int, Tensor.long, Tensor.short, Tensor.char}


class StraightThrough(TorchFunctionMode):
    """Lets the gradient pass rounding, signs and casts to whole numbers as if they were not there ([3], sec. 4.1)."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        x = args[0] if args else None
        if not (isinstance(x, Tensor) and x.is_floating_point() and isinstance(out, Tensor)):
            return out
        cast = func in _CASTS or (func in (Tensor.to, Tensor.type) and out.dtype in _WHOLE)
        if x.requires_grad and (func in _FLAT or cast):
            return x + (out.to(x.dtype) - x).detach()
        return out


@contextmanager
def bypassed(module: nn.Module, x: Images) -> Iterator[None]:
    """Lets the gradient pass all that is done to images before a part of the module gets them ([3], sec. 4.1).

    Whatever part is handed something of the images' own shape that goes up and down with them gets the same values,
    but with the slope of the images themselves: so a ripple, a rounding or a filter in front of a network is seen
    through, whoever wrote it. What happens inside the first layers is left as it is.
    """
    parts = list(module.modules())[1:]

    def around(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        image = given[0] if given else None
        if not isinstance(image, Tensor) or image is x or image.shape != x.shape:
            return None
        if not image.is_floating_point():
            return None
        gain = _gain(image.detach(), x.detach())
        return (gain * x + (image - gain * x).detach(), *given[1:]) if gain else None

    hooks = [part.register_forward_pre_hook(around) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gain(image: Tensor, x: Tensor) -> float:
    """Gives how much what a part is handed changes with the image, over a batch; 0 where it is another thing."""
    a, b = image.flatten() - image.mean(), x.flatten() - x.mean()
    shared, size = float((a * b).sum()), float(b.square().sum())
    alike = abs(shared) > ALIKE * math.sqrt(float(a.square().sum()) * size)
    return shared / size if alike and size > 0 else 0.0


class Watched(TorchFunctionMode):
    """Notices whether a gradient is taken inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.seen |= func in (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
        return func(*args, **(kwargs or {}))

"""Folders of the library diffusers with one network that removes noise: DDPM, DDIM or flow matching, on pixels.

Their state ``sqrt(a) data + sqrt(1 - a) noise`` is, but for its length, the point ``t data + (1 - t) noise`` of the
straight path that our own diffusion walks, with ``t / (1 - t) = sqrt(a / (1 - a))``. So only the velocity is theirs:
sampling, encoding, tracing and likelihoods are inherited.

Of the library only the class of the network is used, by its name in this file. Pipelines and schedulers of a folder are
never made: their numbers are read as JSON.

References:
    Ho et al., 2020, Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239
    Song et al., 2020, Denoising diffusion implicit models, https://arxiv.org/abs/2010.02502
    Salimans and Ho, 2022, Progressive distillation (v-prediction), https://arxiv.org/abs/2202.00512
    Nichol and Dhariwal, 2021, Improved DDPM (cosine schedule, learned variance), https://arxiv.org/abs/2102.09672
    Lin et al., 2023, Common diffusion noise schedules are flawed, https://arxiv.org/abs/2305.08891
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import brought
from core.brought import Seen, origins
from core.catalog import Config, UserError, knob, optional
from core.models import Spec
from core.models.diffusion import Diffusion, DiffusionConfig, DiffusionSampling, wide
from core.nets import LabelEmbedding
from core.runs import Opened
from core.tensors import fingerprint
from core.weights import Package, component

NETWORK = "UNet2DModel"
STEM = "diffusion_pytorch_model"
PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "LDMPipeline")
LADDERS = (  # schedulers that count the same levels of noise
    "DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler", "PNDMScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "KDPM2DiscreteScheduler",
)  # fmt: skip
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D",
                         "AttnSkipDownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"),
    "mid_block_type": ("UNetMidBlock2D", None),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "act_fn": ("silu", "swish", "mish", "gelu", "relu"),
    "class_embed_type": (None,),
    "time_embedding_type": ("positional",),
}  # fmt: skip
_BOUNDS = {
    "layers_per_block": (1, 16),
    "block_out_channels": (1, 8192),
    "in_channels": (1, 8),
    "out_channels": (1, 16),
    "sample_size": (1, 2048),
    "norm_num_groups": (1, 1024),
    "dropout": (0, 0.99),
    "num_class_embeds": (1, 100_000),
    "mid_block_scale_factor": (1e-3, 1e3),
}
_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")
_NUMBERS = {  # of a scheduler: those that say what the network was taught
    "num_train_timesteps": (2, 100_000),
    "beta_start": (1e-9, 0.999),
    "beta_end": (1e-9, 0.999),
    "clip_sample_range": (0.1, 100),
}
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLDER = re.compile(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)$")


class DiffusersConfig(Config):
    """What the folder of a network does not say of it."""

    classes: str = knob(
        "",
        "Names of the classes that the network listens to, in the order of its numbers, with commas; empty takes those "
        "of the dataset in their order.",
    )
    noise: Literal["as written", "linear", "cosine", "flow matching"] = knob(
        "as written",
        "How much noise there was at each step of its training; as written reads its scheduler_config.json.",
        title="Levels of noise",
        advanced=True,
    )
    prediction: Literal["as written", "epsilon", "v_prediction", "sample"] = knob(
        "as written",
        "What the network says of a noisy image: its noise (epsilon), the clean one (sample), or both (v_prediction).",
        advanced=True,
    )


class DiffusersSampling(DiffusionSampling):
    """Choices when a network of somebody's draws images."""

    guidance: float = knob(
        1.0,
        "Pull towards the class that you ask for: 1 draws what was learned, more is more typical. A network without a "
        "class of its own for any image is pulled away from the mean of its classes.",
        title="Guidance strength",
        ge=0,
        le=10,
    )
    sampler: Literal["euler", "heun", "stochastic"] = knob(
        "euler",
        "Euler looks once per step, and draws nearest to the data at few looks; Heun looks twice; stochastic is Heun "
        "that renews some noise before each step.",
    )


def _note(record: Mapping[str, Any]) -> str:
    facts = record.get("facts", {})
    return f"{NETWORK} of diffusers, {_said(facts.get('scheduler', {}))}."


def _knows(package: Package) -> bool:
    at = "unet/config.json" if "unet/config.json" in package else "config.json"
    return package.described(at).get("_class_name") == NETWORK


def _see(package: Package) -> Seen:
    net, scheduler = _read(package, DiffusersConfig())
    bare = component.outline(lambda: _network(net), NETWORK)
    component.fitting(component.stored(_folder(package), STEM), bare, NETWORK, _renamed)
    size, classes = net.get("sample_size"), net.get("num_class_embeds") or 0
    names = _names(package, classes)
    notes = []
    if not scheduler:
        notes.append(
            "Nothing says how it was taught (no scheduler_config.json): choose its levels of noise and its prediction."
        )
    if classes and not names:
        notes.append(
            f"It listens to {classes:,} class{'es' * (classes != 1)}, and says no names of them."
        )
    return Seen(
        title=f"{NETWORK} of diffusers",
        parameters=sum(weight.numel() for weight in bare.parameters()),
        shape=(net.get("in_channels", 3), *(_square(size),) * 2) if size else (),
        classes=classes,
        names=names,
        sampler=_said(scheduler) if scheduler else "not said",
        notes=tuple(notes),
    )


def _further(facts: Mapping[str, Any], old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """Gives its facts for other classes: the numbers that it has stay, and those of new classes follow them.

    Raises:
        UserError: If it listens to classes, and the dataset has none.
    """
    net = dict(facts["net"])
    if not (count := net.get("num_class_embeds") or 0):
        return dict(facts)
    if not new:
        raise UserError(
            f"The network listens to {count:,} class{'es' * (count != 1)}, and the dataset has none. Choose images "
            "with labels, or give these one class for all."
        )
    known = dict(zip(old, facts["order"], strict=True))
    fresh = [name for name in new if name not in known]
    known |= {name: count + place for place, name in enumerate(fresh)}
    net["num_class_embeds"] = count + len(fresh)
    return {**facts, "net": net, "order": [known[name] for name in new]}


@origins.add(
    "diffusers",
    "A folder of diffusers with a UNet2DModel",
    DiffusersConfig,
    files=("safetensors",),
    sampling=DiffusersSampling,
    note=_note,
    knows=_knows,
    see=_see,
    further=_further,
)
def generator(
    config: DiffusersConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A network of diffusers that removes noise, with what its folder says of how it was taught."""
    notes: list[str] = []
    if record is not None:
        facts = dict(record["facts"])
        net = Denoiser(_network(facts["net"]), facts, spec)
    else:
        assert package is not None
        facts = _facts(package, config, spec, classes)
        files = component.stored(_folder(package), STEM)
        built = component.build(lambda: _network(facts["net"]), files, NETWORK, _renamed)
        net = Denoiser(built, facts, spec)
        if net.classes and facts["null"] < 0:
            notes.append(
                "It has no class for any image: where no class is asked for, it hears the mean of its classes."
            )
        elif net.classes:
            notes.append("Its last class is taken for any image.")
    about = {"kind": "brought", "architecture": NETWORK, "facts": facts, "hash": fingerprint(net)}
    return brought.opened(net, spec, classes, about, notes, DiffusersSampling)


class Denoiser(Diffusion):
    """A network of somebody's that removes noise, as a velocity on the straight path from noise to data.

    Args:
        net: Called with states (N, C, H, W), steps (N,) and ``class_labels``; its answer has ``sample``.
        facts: ``scheduler``: how it was taught; ``order``: its number of each class of the dataset; ``null``: that of
            any image, -1 for none; ``range``: the largest value of a pixel.
        spec: The images that it makes.
    """

    exact = 0  # a divergence by every direction takes minutes of a network of this size

    levels: Tensor  # half the logarithm of signal to noise at each step of training, falling (T,)
    rows: Tensor  # shares of its own classes for each class of the dataset (K, K')
    anything: Tensor  # and for no class in particular (K',)

    def __init__(self, net: nn.Module, facts: Mapping[str, Any], spec: Spec) -> None:
        nn.Module.__init__(self)
        self.config, self.spec, self.shape = DiffusionConfig(), spec, spec.shape
        self.dim, self.batch, self.lr = math.prod(self.shape), 64, 1e-4
        self.net, self.taught = net, facts["scheduler"]
        self.predicts, self.flow = self.taught["prediction"], self.taught["straight"]
        self.range = float(self.taught["range"])
        order, null, own = facts["order"], facts["null"], facts["net"].get("num_class_embeds") or 0
        self.classes, self.order = len(order), tuple(order)
        rows = F.one_hot(torch.tensor(order, dtype=torch.long), max(own, 1)).float()
        shares = torch.tensor(spec.shares if len(spec.shares) == len(order) else [])
        if null >= 0:
            anything = F.one_hot(torch.tensor(null), max(own, 1)).float()
        elif self.classes:
            anything = shares @ rows if len(shares) else rows.mean(0)
        else:
            anything = torch.zeros(1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("anything", anything, persistent=False)
        self.register_buffer("levels", ladder(self.taught).float(), persistent=False)

    def hot(self) -> list[nn.Module]:
        """Lists what compiling speeds up."""
        return [self.net]

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Expects ``data - noise`` for images on the path, as :meth:`Diffusion.velocity` does."""
        out, signal, spread = self._answer(x, t, y, keep)
        if self.flow:
            return -out
        state = x * (signal + spread)
        if self.predicts == "sample":
            data = out.clamp(-self.range, self.range)
            return data - (state - signal * data) / spread
        if self.predicts == "epsilon":
            noise = out
            data = (state - spread * noise) / signal
        else:
            data, noise = signal * state - spread * out, spread * state + signal * out
        # where all is noise, the data that it speaks of is a small difference of large numbers
        return data.clamp(-self.range, self.range) - noise

    def _answer(
        self, x: Tensor, t: Tensor, y: Tensor | None, keep: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Asks the network about points of the path; gives its answer, and their signal and noise, each (N, 1, …)."""
        if self.flow:
            step = (1 - t) * self.taught["steps"]
            signal, spread = wide(t, x), wide(1 - t, x)
            state = x
        else:
            bounded = t.clamp(1e-6, 1 - 1e-6)
            level = (bounded.log() - (-bounded).log1p()).clamp(
                self.levels[-1], self.levels[0]
            )  # (N,)
            step = _between(self.levels, level)
            signal, spread = (wide(torch.sigmoid(side * 2 * level).sqrt(), x) for side in (1, -1))
            state = x * (signal + spread)
        labels = self._labels(y, keep, len(x)) if self.classes else None
        out = self.net(state, step, class_labels=labels).sample
        return (
            out[:, : x.shape[1]].to(x.dtype),
            signal,
            spread,
        )  # of two halves the second is a variance

    def _labels(self, y: Tensor | None, keep: Tensor | None, count: int) -> Tensor:
        """Gives the shares of the network's own classes, (N, K')."""
        anything = self.anything.expand(count, -1)
        if y is None:
            return anything
        shares = y @ self.rows if y.is_floating_point() else self.rows[y]
        return shares if keep is None else torch.where(keep[:, None], shares, anything)

    def _errors(
        self, data: Tensor, start: Tensor, t: Tensor, y: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        """Gives the squared error per image of what the network says, (N,)."""
        x = torch.lerp(start, data, wide(t, data))
        out, signal, spread = self._answer(x, t, y, keep)
        if self.flow:
            target = start - data
        else:
            target = {
                "epsilon": start,
                "sample": data,
                "v_prediction": signal * start - spread * data,
            }[self.predicts]
        return (out - target).square().flatten(1).mean(1)


def ladder(taught: Mapping[str, Any]) -> Tensor:
    """Gives half the logarithm of signal to noise at each step of a training, falling, float64 (T,).

    Raises:
        UserError: If the noise does not grow from step to step.
    """
    if taught["straight"]:
        return torch.zeros(2, dtype=torch.float64)
    steps, kind = taught["steps"], taught["schedule"]
    first, last = taught["beta_start"], taught["beta_end"]
    at = torch.linspace(0, 1, steps, dtype=torch.float64)
    if taught.get("betas"):
        betas = torch.tensor(taught["betas"], dtype=torch.float64)
    elif kind == "linear":
        betas = first + (last - first) * at
    elif kind == "scaled_linear":
        betas = (math.sqrt(first) + (math.sqrt(last) - math.sqrt(first)) * at) ** 2
    elif kind == "sigmoid":
        betas = torch.sigmoid(12 * at - 6) * (last - first) + first
    else:
        edges = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        if kind == "squaredcos_cap_v2":
            kept = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        else:
            half = 0.5 - edges
            log = -0.5 * torch.where(half >= 0, 1.0, -1.0) * (1 - 2 * half.abs() + 1e-6).log()
            kept = torch.sigmoid(log).sqrt()
        betas = (1 - kept[1:] / kept[:-1]).clamp(max=0.999)
    signal = (1 - betas).cumprod(0).sqrt()  # sqrt(a), (T,)
    if taught["zero_end"]:  # Lin et al., algorithm 1
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    square = signal.square().clamp(1e-8, 1 - 1e-8)
    levels = 0.5 * (square / (1 - square)).log()
    if not bool(levels.isfinite().all()) or bool((levels.diff() > 1e-9).any()):
        raise UserError(
            "The levels of noise of this network do not grow from step to step. Needed are betas between 0 and 1. "
            f"{component.ASIS}"
        )
    return levels


def _between(levels: Tensor, level: Tensor) -> Tensor:
    """Finds the step of each level on a falling ladder (T,), between two steps where it lies between, (N,)."""
    rising = levels.flip(0)
    right = torch.searchsorted(rising, level.detach()).clamp(1, len(rising) - 1)
    low, high = rising[right - 1], rising[right]
    share = (level - low) / (high - low).clamp_min(1e-12)
    return len(rising) - 1 - (right - 1 + share)


# --- What a folder says ---------------------------------------------------------------------------------------------


def _folder(package: Package) -> Package:
    return package.below("unet") if "unet/config.json" in package else package


def _facts(
    package: Package, config: DiffusersConfig, spec: Spec, classes: Sequence[str]
) -> dict[str, Any]:
    """Reads what a network is made of and was taught, for a dataset."""
    net, scheduler = _read(package, config)
    if not scheduler:
        raise UserError(
            f"{package.name!r} has no scheduler_config.json, so nobody knows how it was taught. Choose its levels of "
            "noise (noise=linear, cosine or flow matching) and what it predicts (prediction=epsilon, v_prediction or "
            "sample)."
        )
    channels, size = net.get("in_channels", 3), net.get("sample_size")
    size = _square(size) if size else spec.shape[-1]
    shape = (channels, size, size)
    if spec.form != "picture" or spec.shape != shape:
        raise UserError(
            f"The network makes {' × '.join(map(str, shape))}, and the dataset's items are "
            f"{' × '.join(map(str, spec.shape))}. Choose the dataset that it belongs to, or import its images "
            f"at {size} px in {'grey' if channels == 1 else 'colour'}." + brought.beyond(size)
        )
    order, null = _order(package, config, net.get("num_class_embeds") or 0, classes)
    bare = component.outline(lambda: _network(net), NETWORK)
    _allow_shape(bare, net, shape)
    return {"net": net, "scheduler": scheduler, "order": order, "null": null}


def _read(package: Package, config: DiffusersConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the network's description and how it was taught, empty where nothing says so."""
    folder = _folder(package)
    if "model_index.json" in package:
        _allow_pipeline(package.json("model_index.json"))
    at = "unet/config.json" if folder is not package else "config.json"
    said = folder.json("config.json")
    if said.get("_class_name") != NETWORK:
        raise UserError(
            f"{at} describes {said.get('_class_name')!r:.60}, and {NETWORK} is read here. {component.ASIS}"
        )
    net = component.described(said, at, _known(), _BLOCKS, _BOUNDS)
    _square(net.get("sample_size") or 1)
    paths = ("scheduler/scheduler_config.json", "scheduler_config.json")
    written = next((path for path in paths if path in package), "")
    scheduler = read_schedule(package.json(written), written) if written else {}
    if config.noise != "as written":
        cosine = config.noise == "cosine"
        scheduler = read_schedule({
            "_class_name": FLOWS[0] if config.noise == "flow matching" else LADDERS[0],
            "beta_schedule": "squaredcos_cap_v2" if cosine else "linear",
        }, "the parameter noise")  # fmt: skip
    if scheduler and config.prediction != "as written":
        scheduler["prediction"] = config.prediction
    return net, scheduler


def _allow_pipeline(index: Mapping[str, Any]) -> None:
    """Refuses a pipeline that has more than a network and a scheduler of the library itself."""
    name = index.get("_class_name")
    if name not in PIPELINES:
        raise UserError(
            f"model_index.json names the pipeline {name!r:.60}. Known are: {', '.join(PIPELINES)}. A class of its own "
            "would be a program, and nothing that is brought is ever run."
        )
    for part, made in index.items():
        if part.startswith("_") or made is None:
            continue
        allowed = {"unet": (NETWORK,), "scheduler": (*LADDERS, *FLOWS)}.get(part, ())
        if (
            not isinstance(made, list)
            or len(made) != 2
            or made[0] != "diffusers"
            or made[1] not in allowed
        ):
            raise UserError(
                f"model_index.json asks for {part[:40]!r} made by {str(made)[:80]!r}. Allowed are a unet, a "
                f"{NETWORK} of diffusers, and a scheduler of diffusers. Nothing else of a folder is made."
            )


def read_schedule(said: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Reads how a network was taught from the description of its scheduler."""
    name = said.get("_class_name")
    if name not in (*LADDERS, *FLOWS):
        raise UserError(
            f"{path} describes the scheduler {name!r:.60}. Known are those that count levels of noise, such as "
            f"{LADDERS[0]}, {LADDERS[1]} and {FLOWS[0]}. Save the network with one of these."
        )

    def number(key: str, usual: float) -> float:
        value = said.get(key, usual)
        low, high = _NUMBERS[key]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise UserError(
                f"{path} has {key}={value!r:.60}, and numbers from {low:g} to {high:g} are allowed. {component.ASIS}"
            )
        return value

    def choice(key: str, usual: str, options: Sequence[str]) -> str:
        if (value := said.get(key, usual)) not in options:
            raise UserError(
                f"{path} has {key}={value!r:.60}. Known are: {', '.join(options)}. {component.ASIS}"
            )
        return value

    betas = said.get("trained_betas")
    if betas is not None and (
        not isinstance(betas, list)
        or not 2 <= len(betas) <= 100_000
        or not all(isinstance(beta, float) and 0 < beta < 1 for beta in betas)
    ):
        raise UserError(
            f"{path} has trained_betas that are no numbers between 0 and 1. {component.ASIS}"
        )
    steps = int(number("num_train_timesteps", 1000))
    # what is cut for latents is cut far outside of what a pixel can be
    taught = {
        "name": name,
        "straight": name in FLOWS,
        "steps": len(betas) if betas else steps,
        "schedule": choice("beta_schedule", "linear", _SCHEDULES),
        "beta_start": number("beta_start", 0.0001),
        "beta_end": number("beta_end", 0.02),
        "betas": betas or [],
        "prediction": choice("prediction_type", "epsilon", ("epsilon", "v_prediction", "sample")),
        "zero_end": bool(said.get("rescale_betas_zero_snr", False)),
        "range": max(1.0, number("clip_sample_range", 1.0)),
    }
    ladder(taught)
    return taught


def _said(taught: Mapping[str, Any]) -> str:
    """Says how a network was taught."""
    if not taught:
        return "not said how it was taught"
    if taught["straight"]:
        return f"taught by flow matching ({taught['name']})"
    what = {"epsilon": "the noise", "sample": "the clean image", "v_prediction": "the velocity v"}
    return (
        f"taught to say {what[taught['prediction']]} at {taught['steps']:,} levels of noise "
        f"({'its own' if taught['betas'] else taught['schedule']}, {taught['name']})"
    )


def _names(package: Package, count: int) -> tuple[str, ...]:
    """Reads the names of classes where a folder says them, as ``id2label``."""
    for path in ("model_index.json", "unet/config.json", "config.json"):
        said = package.described(path)
        said = said.get("id2label", said.get("_id2label"))
        if isinstance(said, dict) and count:
            names = [said.get(str(number)) for number in range(len(said))]
            if all(isinstance(name, str) for name in names) and len(names) in (count, count - 1):
                return tuple(str(name)[:80] for name in names)
    return ()


def _order(
    package: Package, config: DiffusersConfig, count: int, classes: Sequence[str]
) -> tuple[list[int], int]:
    """Finds the network's number of each class of the dataset, and that of any image, -1 for none."""
    if not count:
        return [], -1
    given = [name.strip() for name in config.classes.split(",") if name.strip()]
    names = given or list(_names(package, count))
    if not classes:
        raise UserError(
            f"The network listens to {count:,} class{'es' * (count != 1)}, and the dataset has none. Choose a dataset "
            "with its classes."
        )
    if not names and len(classes) in (count, count - 1):
        names = list(classes)
    if not names or len(names) not in (count, count - 1):
        raise UserError(
            f"The network listens to {count:,} class{'es' * (count != 1)}, and {len(names or classes)} names are "
            "known. Write the names of its classes in the order of its numbers: classes=cat,dog."
        )
    folded = {name.casefold(): number for number, name in enumerate(names)}
    if strange := [name for name in classes if name.casefold() not in folded]:
        raise UserError(
            f"The network has no class {strange[0]!r} of the dataset. It has: {', '.join(names)[:200]}. Write the "
            "names of its classes as the dataset calls them, in the order of its numbers: classes=cat,dog."
        )
    null = count - 1 if len(names) == count - 1 else -1
    return [folded[name.casefold()] for name in classes], null


def _square(size: Any) -> int:
    sides = size if isinstance(size, list) else [size]
    if len(set(sides)) != 1 or type(sides[0]) is not int:
        raise UserError(
            f"The network makes pictures of {size!s:.40} px. Only square ones are read, a whole number of pixels. "
            "Bring one that makes squares."
        )
    return sides[0]


# --- The network ----------------------------------------------------------------------------------------------------


def _class() -> type[nn.Module]:
    return optional("diffusers.models.unets.unet_2d", "A folder of diffusers").UNet2DModel


def _known() -> set[str]:
    return set(inspect.signature(_class().__init__).parameters) - {"self"}


def _network(config: Mapping[str, Any]) -> nn.Module:
    net = _class()(**component.described(config, "its description", _known(), _BLOCKS, _BOUNDS))
    if isinstance(table := net.class_embedding, nn.Embedding):
        with table.weight.device:  # it takes shares of its rows as well
            net.class_embedding = LabelEmbedding(*table.weight.shape)
    return net


def _allow_shape(bare: nn.Module, net: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuses a network that does not take such items, or answers in another shape."""
    x = torch.empty(2, *shape, device="meta")
    step = torch.empty(2, device="meta")
    labels = net.get("num_class_embeds")
    shares = torch.empty(2, labels, device="meta") if labels else None

    def asked() -> Tensor:
        out = bare(x, step, class_labels=shares).sample
        return out[:, : shape[0]] if out.shape[1] == 2 * shape[0] else out

    component.unresized(asked, NETWORK, shape)


def _renamed(name: str) -> str:
    """Gives the present name of a tensor that an old version of the library wrote."""
    return _OLDER.sub(lambda found: f"{found[1]}.{_OLD[found[2]]}.{found[3]}", name)

"""A folder of diffusers that draws what a text says: a U-Net, an autoencoder, CLIP's text encoder and its words.

Each part is made by itself from a checked config; a pipeline is never loaded, since it may name any program. The steps
are those of DDIM, written as Euler steps of a path that goes straight from noise to data.

References (used throughout the code):
    [1] Rombach et al., 2022, High-resolution image synthesis with latent diffusion models,
        https://arxiv.org/abs/2112.10752
    [2] Song et al., 2021, Denoising diffusion implicit models, https://arxiv.org/abs/2010.02502
    [3] Ho and Salimans, 2022, Classifier-free diffusion guidance, https://arxiv.org/abs/2207.12598
    [4] Lin et al., 2024, Common diffusion noise schedules and sample steps are flawed (trailing steps),
        https://arxiv.org/abs/2305.08891
    [5] Pan et al., 2023, Effective real image editing with accelerated iterative diffusion inversion,
        https://arxiv.org/abs/2309.04907
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from core import brought
from core.brought import Seen, origins
from core.brought.autoencoder import AUTOENCODER, TOGETHER, Codec, latent_shape
from core.catalog import Config, UserError, knob, optional
from core.ground.cache import Cache
from core.models import Spec
from core.runs import Opened
from core.tensors import Ids, Images, fingerprint, noise
from core.text import TextEncoder, TextShape, Tokens
from core.text.tokens import END, read_merges, read_vocabulary
from core.weights import Package
from core.weights.architecture import (
    BRING,
    Architecture,
    Rule,
    either,
    flag,
    only,
    real,
    row,
    shards,
    whole,
)

_told = Cache[Tensor](64)  # vectors of texts, of all models
ROUNDS = 4  # of looking for the state that a step came from [5]

UNET = Architecture(
    "UNet2DConditionModel",
    lambda: optional(
        "diffusers.models.unets.unet_2d_condition", "A UNet2DConditionModel"
    ).UNet2DConditionModel,
    {
        "sample_size": either(only(None), whole(1, 1024), row(whole(1, 1024), 2)),
        "in_channels": whole(1, 64),
        "out_channels": whole(1, 64),
        "center_input_sample": flag(),
        "flip_sin_to_cos": flag(),
        "freq_shift": whole(0, 1),
        "down_block_types": row(only("CrossAttnDownBlock2D", "DownBlock2D")),
        "mid_block_type": only("UNetMidBlock2DCrossAttn"),
        "up_block_types": row(only("CrossAttnUpBlock2D", "UpBlock2D")),
        "only_cross_attention": either(flag(), row(flag())),
        "block_out_channels": row(whole(1, 4096)),
        "layers_per_block": either(whole(1, 8), row(whole(1, 8))),
        "downsample_padding": whole(0, 1),
        "mid_block_scale_factor": real(0.1, 10),
        "dropout": only(0.0, 0),
        "act_fn": only("silu", "swish", "gelu", "mish"),
        "norm_num_groups": whole(1, 256),
        "norm_eps": real(1e-9, 0.1),
        "cross_attention_dim": either(whole(1, 4096), row(whole(1, 4096))),
        "transformer_layers_per_block": either(whole(1, 12), row(whole(1, 12))),
        "attention_head_dim": either(whole(1, 512), row(whole(1, 512))),
        "use_linear_projection": flag(),
        "upcast_attention": flag(),
        "resnet_time_scale_shift": only("default", "scale_shift"),
        "resnet_skip_time_act": only(False),
        "resnet_out_scale_factor": either(only(1), real(0.1, 10)),
        "time_embedding_type": only("positional"),
        "conv_in_kernel": whole(1, 7),
        "conv_out_kernel": whole(1, 7),
        "attention_type": only("default"),
        "dual_cross_attention": only(False),
        "class_embeddings_concat": only(False),
        "addition_embed_type_num_heads": whole(1, 512),
        **dict.fromkeys(
            (
                "reverse_transformer_layers_per_block", "encoder_hid_dim", "encoder_hid_dim_type",
                "num_attention_heads", "class_embed_type", "addition_embed_type",
                "addition_time_embed_dim", "num_class_embeds", "time_embedding_dim",
                "time_embedding_act_fn", "timestep_post_act", "time_cond_proj_dim",
                "projection_class_embeddings_input_dim", "mid_block_only_cross_attention",
                "cross_attention_norm",
            ),
            only(None),
        ),
    },
    renamed=AUTOENCODER.renamed,
)  # fmt: skip

_ANY = Rule("anything", lambda value: True)  # what concerns training, or other networks
TEXT_ENCODER = Architecture(
    "CLIPTextModel",
    lambda: lambda **config: TextEncoder(TextShape.of(config)),
    {
        "vocab_size": whole(3, 200_000),
        "hidden_size": whole(1, 4096),
        "intermediate_size": whole(1, 16_384),
        "num_hidden_layers": whole(1, 64),
        "num_attention_heads": whole(1, 128),
        "max_position_embeddings": whole(3, 1024),
        "hidden_act": only("quick_gelu", "gelu"),
        "layer_norm_eps": real(1e-9, 0.1),
        "model_type": only("clip_text_model"),
        "architectures": only(["CLIPTextModel"]),
        **dict.fromkeys(
            (
                "attention_dropout", "bos_token_id", "dropout", "dtype", "eos_token_id",
                "initializer_factor", "initializer_range", "pad_token_id", "projection_dim",
                "torch_dtype", "transformers_version", "return_dict", "output_attentions",
                "output_hidden_states",
            ),
            _ANY,
        ),
    },
    renamed={"text_model.": ""},
    ignored=("embeddings.position_ids",),
)  # fmt: skip
PARTS = {"unet": UNET, "vae": AUTOENCODER, "text_encoder": TEXT_ENCODER}


class TextToImageConfig(Config):
    """How a model that draws what a text says is used."""

    prompt: str = knob(
        "", "What it draws where no other text is given: a text; empty leaves that to the model."
    )


class TextToImageSampling(Config):
    """What a text-to-image model draws, and in how many steps."""

    prompt: str = knob(
        "", "What the picture shows, in words; empty takes what was said when the model came."
    )
    second: str = knob(
        "",
        "Another text: then a plane leads from the first to the second, with all mixtures of the two between them.",
        title="Second prompt",
    )
    negative: str = knob(
        "", "What the picture must not show, in words.", title="Negative prompt", advanced=True
    )
    guidance: float = knob(
        7.5,
        "Pull towards the text: 1 draws what was learned, more follows the text more closely.",
        title="Guidance strength",
        ge=1,
        le=30,
    )
    steps: int = knob(
        20,
        "Steps from noise to picture: more are slower and more exact.",
        ge=1,
        le=200,
        log=True,
        visitor=20,
    )


class NoiseSchedule:
    """How much of a state is noise at each step of a training, and what a network says about it.

    A state of time t is ``t data + (1 - t) noise``. Theirs is ``√ā data + √(1 - ā) noise``, the same at another length.
    """

    def __init__(self, described: Mapping[str, Any]) -> None:
        """Reads a scheduler's config.

        Raises:
            UserError: If it is of a kind that is not known, or its numbers are none of a schedule.
        """
        count = described.get("num_train_timesteps", 1000)
        low, high = described.get("beta_start", 0.0001), described.get("beta_end", 0.02)
        kind = described.get("beta_schedule", "linear")
        self.predicts = described.get("prediction_type", "epsilon")
        rules = {
            "num_train_timesteps": (whole(2, 100_000), count),
            "beta_start": (real(1e-9, 0.999), low),
            "beta_end": (real(1e-9, 0.999), high),
            "beta_schedule": (only("linear", "scaled_linear", "squaredcos_cap_v2"), kind),
            "prediction_type": (only("epsilon", "v_prediction", "sample"), self.predicts),
            "trained_betas": (only(None), described.get("trained_betas")),
        }
        for name, (rule, value) in rules.items():
            if not rule.holds(value):
                raise UserError(
                    f"scheduler_config.json: {name} must be {rule.words}, got {str(value)[:60]!r}. {BRING}"
                )
        if kind == "squaredcos_cap_v2":
            at = torch.linspace(0, 1, count + 1, dtype=torch.float64)
            kept = ((at + 0.008) / 1.008 * math.pi / 2).cos().square()
            betas = (1 - kept[1:] / kept[:-1]).clamp_max(0.999)
        else:
            power = 0.5 if kind == "scaled_linear" else 1.0
            betas = torch.linspace(low**power, high**power, count, dtype=torch.float64) ** (
                1 / power
            )
        roots = (1 - betas).cumprod(0).sqrt()
        if described.get("rescale_betas_zero_snr", False):
            roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])  # [4], algorithm 1
        roots = roots.clamp_min(1e-4)
        times = roots / (roots + (1 - roots.square()).sqrt())
        self.count, self.times = count, times.tolist()
        self._curve = torch.logit(times).flip(0)  # grows

    def grid(self, steps: int) -> tuple[list[float], list[int]]:
        """Gives the times of a sampling, the last one of which is 1, and the numbers of the training's steps [4]."""
        numbers = [round(self.count - k * self.count / steps) - 1 for k in range(steps)]
        numbers = list(dict.fromkeys(max(0, number) for number in numbers))
        return [*(self.times[number] for number in numbers), 1.0], numbers

    def number(self, t: float) -> float:
        """Gives the training's step of a time, between two of them by its noise."""
        at = torch.logit(torch.tensor(t, dtype=torch.float64), 1e-9)
        curve = self._curve
        if at <= curve[0]:
            return self.count - 1.0
        if at >= curve[-1]:
            return 0.0
        k = int(torch.searchsorted(curve, at))
        share = float((at - curve[k - 1]) / (curve[k] - curve[k - 1]))
        return self.count - 1 - (k - 1 + share)

    def velocity(self, x: Tensor, t: float, answer: Callable[[Tensor, float], Tensor]) -> Tensor:
        """Gives ``data - noise`` of states (N, …) of a time, from what a network answers to a state of theirs."""
        t = min(max(t, self.times[-1]), self.times[0])
        length = math.hypot(t, 1 - t)
        a, s = t / length, (1 - t) / length  # √ā and √(1 - ā)
        state = x / length
        said = answer(state, self.number(t))
        if self.predicts == "epsilon":
            return (state - s * said) / a - said
        if self.predicts == "sample":
            return said - (state - a * said) / s
        return (a - s) * state - (a + s) * said  # v = √ā noise - √(1 - ā) data


class TextToImage(nn.Module):
    """A model that draws what texts say; see :class:`core.models.Prompts`. Its latent is the noise of a picture."""

    words: Tensor
    classes = 0

    def __init__(
        self,
        unet: nn.Module,
        codec: Codec,
        text: TextEncoder,
        schedule: NoiseSchedule,
        words: bytes,
        prompt: str,
        spec: Spec,
    ) -> None:
        super().__init__()
        self.unet, self.codec, self.text = unet, codec, text
        self.spec, self.schedule, self.prompt = spec, schedule, prompt
        self.shape, self.dim = codec.shape, math.prod(codec.shape)
        # with the weights, so that a checkpoint holds all that the model is made of
        self.register_buffer("words", torch.frombuffer(bytearray(words), dtype=torch.uint8))
        self.mark = object()  # of its own texts among those of all models

    @cached_property
    def tokens(self) -> Tokens:
        """The vocabulary."""
        return _tokens(bytes(self.words.cpu().numpy().tobytes()))

    # --- texts --------------------------------------------------------------------------------------------------

    def texts(self, sampling: TextToImageSampling) -> tuple[str, ...]:
        """Gives the texts of a sampling, one or two."""
        first = sampling.prompt or self.prompt
        return (first, sampling.second) if sampling.second else (first,)

    def told(self, text: str) -> Tensor:
        """Gives the vectors of a text, (T, W).

        Raises:
            UserError: If it is too long.
        """

        @torch.no_grad()
        def make() -> Tensor:
            row = torch.tensor([self.tokens.row(text)], device=self.words.device)
            return self.text(row)[0]

        return _told.get((self.mark, text), make)

    def _context(self, count: int, y: Tensor | None, sampling: TextToImageSampling) -> Tensor:
        """Gives the vectors that each of ``count`` pictures is drawn for, (N, T, W)."""
        texts = torch.stack([self.told(text) for text in self.texts(sampling)])  # (K, T, W)
        if y is None:
            return texts[:1].expand(count, -1, -1)
        if not y.is_floating_point():
            return texts[y]
        return torch.einsum("nk,ktw->ntw", y.to(texts), texts)

    # --- from noise to pictures and back ------------------------------------------------------------------------

    def latent(self, ids: Ids, seed: int, sampling: TextToImageSampling) -> Tensor:
        """Draws the noise that a path starts from, (N, D)."""
        return noise(seed, ids, (self.dim,), "latent", device=self.words.device)

    def decode(self, z: Tensor, y: Tensor | None, sampling: TextToImageSampling) -> Images:
        """Follows the path from noise (N, D) to pictures, of texts by their numbers (N,) or their shares (N, K)."""
        context = self._context(len(z), y, sampling)
        made = []
        for part, texts in zip(z.split(TOGETHER), context.split(TOGETHER), strict=True):
            *_, (_, clean) = self._path(part, texts, sampling)
            made.append(self.codec.decode(clean))
        return torch.cat(made)

    def encode(self, x: Images, y: Tensor | None, sampling: TextToImageSampling) -> Tensor:
        """Finds the noise (N, D) of which :meth:`decode` makes what the autoencoder keeps of pictures.

        A step exchanges the noise that the network sees for less of it. It is inverted by looking for the state that it
        came from, in a few rounds [5]: with the noise that is seen there, and not with that seen at its end.
        """
        context = self._context(len(x), y, sampling)
        times, _ = self.schedule.grid(sampling.steps)
        found = []
        for part, texts in zip(x.split(TOGETHER), context.split(TOGETHER), strict=True):
            state = self.codec.encode(part)[0]
            for t, after in reversed([*itertools.pairwise(times)]):
                end = state / after  # data + sigma noise, with sigma = (1 - t) / t
                for _ in range(ROUNDS):
                    fresh = state - t * self._velocity(state, t, texts, sampling)
                    state = t * (end + (1 / t - 1 / after) * fresh)
            found.append(state / math.hypot(times[0], 1 - times[0]))
        return torch.cat(found).flatten(1)

    @torch.no_grad()
    def sample(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: TextToImageSampling
    ) -> Images:
        """Makes the pictures with these ids of this seed, of the first text, or those that ``y`` says."""
        return self.decode(self.latent(ids, seed, sampling), y, sampling)

    def trace(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: TextToImageSampling
    ) -> Iterator[Images]:
        """Yields the pictures expected after every step of :meth:`sample`; the last ones are the samples."""
        for _, _, clean in self.states(ids, y, seed, sampling):
            yield clean

    def states(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: TextToImageSampling
    ) -> Iterator[tuple[float, Images, Images]]:
        """Yields the share of the steps that is done, the noisy and the expected pictures, from the start on.

        Both are what the autoencoder makes of latents.
        """
        z = self.latent(ids, seed, sampling)
        path = self._path(z, self._context(len(z), y, sampling), sampling)
        for step in range(sampling.steps + 1):
            with torch.no_grad():  # and not around the yield, where the caller may want gradients
                state = next(path, None)
                if state is None:
                    return
                images = [self.codec.decode(part) for part in state]
            yield step / sampling.steps, images[0], images[1]

    def _path(
        self, z: Tensor, context: Tensor, sampling: TextToImageSampling
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields state and expected end (N, c, h, w) at the start and after every step [2]."""
        times, _ = self.schedule.grid(sampling.steps)
        x = z.view(-1, *self.shape) * math.hypot(times[0], 1 - times[0])
        v = self._velocity(x, times[0], context, sampling)
        yield x, x + (1 - times[0]) * v
        for t, after in itertools.pairwise(times):
            if t != times[0]:
                v = self._velocity(x, t, context, sampling)
            x = x + (after - t) * v
            yield x, x + (1 - after) * v

    def _velocity(
        self, x: Tensor, t: float, context: Tensor, sampling: TextToImageSampling
    ) -> Tensor:
        """Gives the velocity of states of a time, guided by the texts and away from the negative one [3]."""

        def answer(state: Tensor, number: float) -> Tensor:
            step = state.new_full((len(state),), number)
            unet: Any = self.unet
            if sampling.guidance == 1:
                return unet(state, step, context, return_dict=False)[0]
            away = self.told(sampling.negative).expand_as(context)
            both = unet(
                torch.cat([state, state]),
                torch.cat([step, step]),
                torch.cat([context, away]),
                return_dict=False,
            )[0]
            towards, other = both.chunk(2)
            return torch.lerp(other, towards, sampling.guidance)

        return self.schedule.velocity(x, t, answer)


def _tokens(words: bytes) -> Tokens:
    read = json.loads(words)
    merges = [(first, second) for first, second in read["merges"]]
    return Tokens(read["vocabulary"], merges, read["length"], read["padding"])


def _length(described: Mapping[str, Any], shape: TextShape) -> int:
    """Gives the tokens of a text: what the tokenizer says, never more than the encoder takes."""
    said = described.get("model_max_length")
    most = shape.max_position_embeddings
    return min(said, most) if type(said) is int and said > 0 else most


def _words(package: Package, shape: TextShape) -> bytes:
    """Puts the two files of a vocabulary into one text.

    Raises:
        UserError: If they are none, or do not belong to the text encoder.
    """
    folder = package.below("tokenizer")
    described = folder.described("tokenizer_config.json") | folder.described(
        "special_tokens_map.json"
    )
    padding = described.get("pad_token", END)
    padding = padding.get("content", END) if isinstance(padding, dict) else padding
    try:
        merges = read_merges(folder["merges.txt"].decode())
    except UnicodeDecodeError:
        raise UserError(f"tokenizer/merges.txt is no text. {BRING}") from None
    vocabulary = read_vocabulary(folder.json("vocab.json"))
    read = {
        "vocabulary": vocabulary,
        "merges": merges,
        "length": _length(described, shape),
        "padding": padding if isinstance(padding, str) else END,
    }
    words = json.dumps(read, ensure_ascii=False, separators=(",", ":")).encode()
    if (largest := _tokens(words).largest) >= shape.vocab_size:
        raise UserError(
            f"The vocabulary numbers its tokens up to {largest:,}, and the text encoder knows {shape.vocab_size:,}. "
            "Bring the tokenizer that belongs to it."
        )
    return words


def _configs(package: Package) -> dict[str, dict[str, Any]]:
    """Reads and checks the configs of all parts, and whether they go together.

    Raises:
        UserError: If one is missing or not allowed, or two contradict each other.
    """
    index = package.described("model_index.json")
    for part in ("text_encoder_2", "tokenizer_2", "image_encoder", "transformer"):
        if part in index and index[part] not in (None, [None, None]):
            raise UserError(
                f"This model has a part {part!r}, so it is of a larger kind than can be brought. "
                "Bring one with a single text encoder and a U-Net, as Stable Diffusion 1 and 2 are."
            )
    configs = {
        part: architecture.checked(package.json(f"{part}/config.json"), f"{part}/config.json")
        for part, architecture in PARTS.items()
    }
    configs["scheduler"] = package.json("scheduler/scheduler_config.json")
    NoiseSchedule(configs["scheduler"])
    unet, vae = configs["unet"], configs["vae"]
    channels = {unet.get("in_channels", 4), unet.get("out_channels", 4)}
    if channels != {latent := vae.get("latent_channels", 4)}:
        raise UserError(
            f"The U-Net goes from {unet.get('in_channels', 4)} to {unet.get('out_channels', 4)} channels, and the "
            f"autoencoder's latents have {latent}. A model that draws what a text says has as many everywhere (one "
            "for inpainting has more). Bring parts that belong together."
        )
    width = configs["text_encoder"].get("hidden_size", 512)
    asked = unet.get("cross_attention_dim", 1280)
    if {width} != set(asked if isinstance(asked, list) else [asked]):
        raise UserError(
            f"The U-Net listens to vectors of {asked} numbers, and the text encoder gives ones of {width}. "
            "Bring the text encoder that belongs to it."
        )
    return configs


def _allow_sides(unet: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    """Refuses pictures whose latents the U-Net cannot make smaller as often as it does.

    Raises:
        UserError: If the side of a latent is no multiple.
    """
    factor = 2 ** (len(unet.get("block_out_channels", [0] * 4)) - 1)
    if shape[-1] % factor:
        raise UserError(
            f"The U-Net makes its latents {factor} times smaller, and those of the dataset's pictures have a side of "
            f"{shape[-1]}. Import the dataset at a size whose latents can be divided by {factor}."
        )


def _knows(package: Package) -> bool:
    return package.described("unet/config.json").get("_class_name") == UNET.name


def _see(package: Package) -> Seen:
    configs = _configs(package)
    parameters = sum(
        architecture.count(configs[part], f"{part}/config.json")
        for part, architecture in PARTS.items()
    )
    vae, size = configs["vae"], configs["unet"].get("sample_size")
    factor = 2 ** (len(vae.get("block_out_channels", [64])) - 1)
    side = factor * (size if isinstance(size, int) else 0)
    return Seen(
        "UNet2DConditionModel with AutoencoderKL and CLIP's text encoder (diffusers)",
        parameters,
        (vae.get("out_channels", 3), side, side) if side else (),
        sampler="DDIM's steps; a text says what is drawn",
        notes=_left(package),
    )


def _left(package: Package) -> tuple[str, ...]:
    if not any(path.startswith("safety_checker/") for path in package.files):
        return ()
    return ("Its safety checker was left out: what that would hide is shown.",)


def _note(record: Mapping[str, Any]) -> str:
    return "A text-to-image model; a text says what it draws."


@origins.add(
    "text_to_image",
    "A text-to-image model (a folder of diffusers)",
    TextToImageConfig,
    files=("safetensors",),
    sampling=TextToImageSampling,
    note=_note,
    knows=_knows,
    see=_see,
)
def build(
    config: TextToImageConfig,
    package: Package | None,
    spec: Spec,
    classes: Sequence[str],
    record: Mapping[str, Any] | None,
) -> Opened:
    """A model that draws what a text says, of a folder that diffusers wrote."""
    if package is None:
        assert record is not None
        facts = record["facts"]
        configs = {part: facts[part] for part in (*PARTS, "scheduler")}
        nets = {part: each.new(configs[part], part) for part, each in PARTS.items()}
        words = bytes(facts["words"])
    else:
        configs = _configs(package)
        _allow_sides(configs["unet"], latent_shape(configs["vae"], spec))
        words = _words(package, TextShape.of(configs["text_encoder"]))
        nets = {
            part: each.filled(configs[part], shards(package.below(part)), part)
            for part, each in PARTS.items()
        }
    codec = Codec(nets["vae"], configs["vae"], spec)
    text: Any = nets["text_encoder"]
    schedule = NoiseSchedule(configs["scheduler"])
    model = TextToImage(nets["unet"], codec, text, schedule, words, config.prompt, spec)
    about = {"kind": "brought", "facts": configs | {"words": len(words)}}
    about["hash"] = fingerprint(model)
    notes = _left(package) if package is not None else ()
    return brought.opened(model, spec, classes, about, notes, TextToImageSampling)

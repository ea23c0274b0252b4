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
from core.brought.autoencoder import AUTOENCODER, TOGETHER, Codec, latent_shape, reduction
from core.brought.diffusers import FLOWS, ladder, read_schedule
from core.catalog import Config, UserError, knob, optional
from core.ground.cache import Cache
from core.models import Spec
from core.runs import Opened
from core.tensors import Ids, Images, fingerprint, noise
from core.text import TextEncoder, TextShape, Tokens
from core.text.encoder import ACTIVATIONS
from core.text.tokens import END, read_merges, read_vocabulary
from core.weights import Package, component, lora
from core.weights.architecture import Architecture

_told = Cache[Tensor](64)  # vectors of texts, of all models
ROUNDS = 4  # of looking for the state that a step came from [5]

UNET = Architecture(
    "UNet2DConditionModel",
    lambda: optional(
        "diffusers.models.unets.unet_2d_condition", "A UNet2DConditionModel"
    ).UNet2DConditionModel,
    choices={
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "only_cross_attention": (True, False),
        "act_fn": ("silu", "swish", "gelu", "mish"),
        "resnet_time_scale_shift": ("default", "scale_shift"),
        "resnet_skip_time_act": (False,),
        "time_embedding_type": ("positional",),
        "attention_type": ("default",),
        "dual_cross_attention": (False,),
        "class_embeddings_concat": (False,),
        **dict.fromkeys(
            (
                "center_input_sample", "flip_sin_to_cos", "use_linear_projection", "upcast_attention",
            ),
            (True, False),
        ),
        # what other kinds have: conditions beside the text
        **dict.fromkeys(
            (
                "reverse_transformer_layers_per_block", "encoder_hid_dim", "encoder_hid_dim_type",
                "num_attention_heads", "class_embed_type", "addition_embed_type", "addition_time_embed_dim",
                "num_class_embeds", "time_embedding_dim", "time_embedding_act_fn", "timestep_post_act",
                "time_cond_proj_dim", "projection_class_embeddings_input_dim", "mid_block_only_cross_attention",
                "cross_attention_norm",
            ),
            (None,),
        ),
    },
    bounds={
        "sample_size": (1, 1024),
        "in_channels": (1, 64),
        "out_channels": (1, 64),
        "freq_shift": (0, 1),
        "block_out_channels": (1, 4096),
        "layers_per_block": (1, 8),
        "downsample_padding": (0, 1),
        "mid_block_scale_factor": (0.1, 10),
        "dropout": (0, 0.99),
        "norm_num_groups": (1, 256),
        "norm_eps": (1e-9, 0.1),
        "cross_attention_dim": (1, 4096),
        "transformer_layers_per_block": (1, 12),
        "attention_head_dim": (1, 512),
        "resnet_out_scale_factor": (0.1, 10),
        "conv_in_kernel": (1, 7),
        "conv_out_kernel": (1, 7),
        "addition_embed_type_num_heads": (1, 512),
    },
    renamed=AUTOENCODER.renamed,
)  # fmt: skip
TEXT_ENCODER = Architecture(
    "CLIPTextModel",
    lambda: lambda **config: TextEncoder(TextShape.of(config)),
    choices={
        "hidden_act": tuple(ACTIVATIONS),
        "model_type": ("clip_text_model",),
        "architectures": ("CLIPTextModel",),
    },
    bounds={
        "vocab_size": (3, 200_000),
        "hidden_size": (1, 4096),
        "intermediate_size": (1, 16_384),
        "num_hidden_layers": (1, 64),
        "num_attention_heads": (1, 128),
        "max_position_embeddings": (3, 1024),
        "layer_norm_eps": (1e-9, 0.1),
        # the numbers of tokens, which the tokenizer says again
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), (-1, 200_000)),
    },
    others=(  # what concerns training and the library
        "attention_dropout", "dropout", "dtype", "initializer_factor", "initializer_range", "projection_dim",
        "torch_dtype", "transformers_version", "return_dict", "output_attentions", "output_hidden_states",
    ),
    stem="model",
    renamed={"text_model.": ""},
    ignored=("embeddings.position_ids",),
)  # fmt: skip
# by their folders, with a slash
PARTS = {"unet/": UNET, "vae/": AUTOENCODER, "text_encoder/": TEXT_ENCODER}
_CALLED = {  # by the programs that write LoRA
    "unet": ("unet", "lora_unet", ""),
    "text_encoder": (
        "text_encoder.text_model",
        "text_encoder",
        "lora_te_text_model",
        "lora_te1_text_model",
        "text_model",
    ),
}
SCHEDULER = "scheduler/scheduler_config.json"
_UNREAD = "text_encoder_2 tokenizer_2 image_encoder transformer"  # parts of other programs


class TextToImageConfig(Config):
    """How a model that draws what a text says is used."""

    prompt: str = knob(
        "", "What it draws where no other text is given: a text; empty leaves that to the model."
    )
    strength: float = knob(
        1.0,
        "Strength of a LoRA (a file with lora in its name) that lies in the folder: 0 leaves it out, 1 is as trained.",
        title="Strength of a LoRA",
        ge=-4,
        le=4,
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

    Args:
        taught: What the description of a scheduler says, as :func:`core.brought.diffusers.read_schedule` gives it.
    """

    def __init__(self, taught: Mapping[str, Any]) -> None:
        self.predicts = taught["prediction"]
        levels = ladder(taught)  # falling: half the logarithm of signal to noise
        self.count, self.times = len(levels), torch.sigmoid(levels).tolist()
        self._curve = levels.flip(0)

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


def adapted(model: TextToImage, file: bytes, strength: float, alpha: float | None = None) -> str:
    """Adds a LoRA to a model for good, and says what it changed.

    Args:
        model: It is changed.
        file: Safetensors.
        strength: What the change is multiplied by.
        alpha: See :func:`core.weights.lora.read`.

    Raises:
        UserError: If the file is not safe or does not fit.
    """
    parts = {"unet": model.unet, "text_encoder": model.text}
    changes = lora.read(file, parts, _CALLED, alpha)
    lora.add(changes, parts, strength)
    ranks = sorted({change.rank for change in changes})
    of = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return f"A LoRA of {of} changes {len(changes):,} of its layers, at strength {strength:g}."


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
        raise UserError(f"tokenizer/merges.txt is no text. {component.ASIS}") from None
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
    for part in _UNREAD.split():
        if part in index and index[part] not in (None, [None, None]):
            raise UserError(
                f"This model has a part {part!r}, so it is of a larger kind than can be brought. "
                "Bring one with a single text encoder and a U-Net, as Stable Diffusion 1 and 2 are."
            )
    configs = {folder: architecture.read(package, folder) for folder, architecture in PARTS.items()}
    configs[SCHEDULER] = read_schedule(package.json(SCHEDULER), SCHEDULER)
    if configs[SCHEDULER]["name"] in FLOWS:
        raise UserError(
            f"{SCHEDULER} describes flow matching, and a U-Net that a text steers is read with levels of noise alone. "
            "Bring one that was taught as Stable Diffusion 1 and 2 were."
        )
    unet, coder = configs["unet/"], configs["vae/"]
    channels = {unet.get("in_channels", 4), unet.get("out_channels", 4)}
    if channels != {latent := coder.get("latent_channels", 4)}:
        raise UserError(
            f"The U-Net goes from {unet.get('in_channels', 4)} to {unet.get('out_channels', 4)} channels, and the "
            f"autoencoder's latents have {latent}. A model that draws what a text says has as many everywhere (one "
            "for inpainting has more). Bring parts that belong together."
        )
    width = configs["text_encoder/"].get("hidden_size", 512)
    asked = unet.get("cross_attention_dim", 1280)
    if {width} != set(asked if isinstance(asked, list) else [asked]):
        raise UserError(
            f"The U-Net listens to vectors of {asked} numbers, and the text encoder gives ones of {width}. "
            "Bring the text encoder that belongs to it."
        )
    return configs


def _halvings(unet: Mapping[str, Any]) -> int:
    """Tells how many times smaller the smallest grid of a U-Net is."""
    return 2 ** (len(unet.get("block_out_channels", [0] * 4)) - 1)


def _allow_sides(unet: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    """Refuses pictures whose latents the U-Net cannot make smaller as often as it does.

    Raises:
        UserError: If the side of a latent is no multiple.
    """
    factor = _halvings(unet)
    if shape[-1] % factor:
        raise UserError(
            f"The U-Net makes its latents {factor} times smaller, and those of the dataset's pictures have a side of "
            f"{shape[-1]}. Import the dataset at a size whose latents can be divided by {factor}."
        )


def _knows(package: Package) -> bool:
    return package.described("unet/config.json").get("_class_name") == UNET.name


def _see(package: Package) -> Seen:
    configs = _configs(package)
    parameters = sum(architecture.count(configs[folder]) for folder, architecture in PARTS.items())
    coder, size = configs["vae/"], configs["unet/"].get("sample_size")
    factor, notes = reduction(coder), []
    if isinstance(size, int):
        notes.append(
            f"It was taught on pictures of {factor * size} px; at other sizes it draws, and not as well."
            + brought.beyond(factor * size)
        )
    notes.append(
        f"It takes pictures of {coder.get('out_channels', 3)} channels, of a side that is a multiple of "
        f"{factor * _halvings(configs['unet/'])} px."
    )
    return Seen(
        "UNet2DConditionModel with AutoencoderKL and CLIP's text encoder (diffusers)",
        parameters,
        sampler="DDIM's steps; a text says what is drawn",
        notes=(*notes, *_left(package)),
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
        configs, words = record["facts"], bytes(record["facts"]["words"])
    else:
        configs = _configs(package)
        _allow_sides(configs["unet/"], latent_shape(configs["vae/"], spec))
        words = _words(package, TextShape.of(configs["text_encoder/"]))
    nets: dict[str, Any] = {
        folder: each.built(configs[folder], package and package.below(folder))
        for folder, each in PARTS.items()
    }
    codec = Codec(nets["vae/"], configs["vae/"], spec)
    schedule = NoiseSchedule(configs[SCHEDULER])
    model = TextToImage(
        nets["unet/"], codec, nets["text_encoder/"], schedule, words, config.prompt, spec
    )
    notes = []
    if package is not None:
        notes += _left(package)
        for path in package.tensors:
            if "/" not in path and "lora" in path.casefold():
                notes.append(adapted(model, package[path], config.strength))
    about = {"kind": "brought", "facts": {**configs, "words": len(words)}}
    about["hash"] = fingerprint(model)
    return brought.opened(model, spec, classes, about, notes, TextToImageSampling)

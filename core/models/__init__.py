"""What every family of generative models offers, and the registry that finds them.

One file in this folder is one family: config, blocks, model, loss, sampling, in reading order. It registers itself as
``families.add(name, title, Config, sampling=SamplingConfig, curves=…)`` on a function ``build(config, spec)``.
How the families fit the contract:

=========  ==============================================  =====================================================
family     groups (span of the training)                   what `losses` yields in one step
=========  ==============================================  =====================================================
gan        critic, generator (0 to 1 both)                 critic; the trainer steps it; generator, against the
                                                           critic as it now is
vae        model (0 to 1)                                  one loss; `fit` draws the mixture prior afterwards
vqvae      autoencoder (0 to 0.4), prior (0.4 to 1)        the group whose span holds `progress`, and no other
flow       model                                           one loss; data-dependent scales start as buffers
diffusion  model                                           one loss; steps and guidance are sampling parameters
pix2pix    critic, generator                               as a gan; real images come with their conditions behind them
transformer  model                                         one loss; its matrices follow Muon, all else Adam
=========  ==============================================  =====================================================

This module names torch only for the type checker, so that listing the families costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from core.catalog import Config, Registry, UserError
from core.media import Form, Taker, media, recorded, side_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.tensors import Group, Ids, Loss


@dataclass(frozen=True)
class Curve:
    """A chart of what a training records, declared beside the loss that yields it, with how to read it.

    Attributes:
        key: Name of the value. With ``valid_`` before it, the same on held-out images; one that ends in a slash
            stands for all values that begin so.
        title: Of the chart; curves of one title share it.
        reading: How to read it, in a sentence or two.
        lines: Values that are drawn, with their labels; empty for training and held-out ones of the key.
        scale: ``log`` where the end is a small part of the beginning.
        position: ``first`` is seen at once, ``steering`` (what the training itself goes by) stands under the images.
    """

    key: str
    title: str
    reading: str
    lines: Mapping[str, str] = field(default_factory=dict)
    scale: Literal["linear", "log"] = "linear"
    position: Literal["first", "steering", "further"] = "further"

    def drawn(self, names: Iterable[str]) -> dict[str, str]:
        """Gives those of the recorded values that belong in it, with their labels."""
        if self.key.endswith("/") and not self.lines:
            return {n: n.removeprefix(self.key) for n in names if n.startswith(self.key)}
        labels = self.lines or {self.key: "training", f"valid_{self.key}": "held-out"}
        recorded = set(names)
        return {name: label for name, label in labels.items() if name in recorded}


MEMORISES = "A held-out curve that rises while training falls: the model memorises."


@dataclass(frozen=True, kw_only=True)
class Family(Taker):
    """A family; ``make(config, spec) -> GenerativeModel``. It takes what a model sees.

    Attributes:
        sampling: What sampling takes.
        curves: What its training logs, in the order of the charts; a value that has none is drawn under its own name.
        critic: Images pass a critic while it learns, so augmentations before it must let gradients through.
        renders: Its samples are made of given pictures (:class:`Renders`), and so no match for those of others.
        exact: Its loss on held-out items is their exact likelihood, and chooses the best checkpoint.
    """

    sampling: type[Config]
    curves: tuple[Curve, ...] = ()
    critic: bool = False
    renders: bool = False
    exact: bool = False


families = Registry("family", Family, "core.models")

DEFAULT_FAMILY = "gan"  # what is trained where nobody has chosen: good images within a minute
SYNTHETIC_FAMILY = "vae"  # whose samples an experiment adds by default: steady on few images
ADAPT_EVERY = 16  # steps between two calls of `Adapts.adapt`
LAYERS = {  # what is learned anew of a run that another starts from, in words
    "all": "all weights",
    "last": "the last third of the layers",
    "lora": "a low-rank change of every layer (LoRA)",
    "embeddings": "the class embeddings alone",
}


@dataclass(frozen=True)
class Spec:
    """What a model has to make.

    Attributes:
        medium: Name of what the dataset is made of, in :data:`core.media.media`.
        shape: Of what the model sees of one item: (C, H, W) for images.
        levels: Values that a number of the dataset can take; 256 for bytes, 17 for digits.
        shares: Share of each class in the training data, summing to 1; empty without labels.
        condition: Channels of the second image of each item, which a model may be told; 0 without one.
    """

    medium: str
    shape: tuple[int, ...]
    levels: int
    shares: tuple[float, ...] = ()
    condition: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Spec:
        """Reads what :meth:`record` gave."""
        condition = record.get("condition", 0)
        return cls(*side_of(record), record["levels"], tuple(record["shares"]), condition)

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON; those of images as they have been from the start."""
        side = recorded(self.medium, self.shape)
        told = {"condition": self.condition} if self.condition else {}
        return {**side, "levels": self.levels, "shares": list(self.shares), **told}

    @property
    def form(self) -> Form:
        """Whether the model sees a picture, a vector or a sequence."""
        return media.get(self.medium).model

    def __str__(self) -> str:
        if self.form == "picture":
            kind = f"{self.channels} channel(s) of {self.size} px"
        else:
            kind = f"{' × '.join(map(str, self.shape))} numbers"
        return f"{kind} in {self.classes} classes"

    @property
    def channels(self) -> int:
        """Of a picture: 1 for grey, 3 for colour."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Height and width of a picture in pixels."""
        return self.shape[-1]

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.shares)


@runtime_checkable
class Trainable(Protocol):
    """What the training loop needs of a network (all are `torch.nn.Module`).

    What it uses where a network has it: :class:`Batches`, :class:`Eases`, :class:`Compiles`, :class:`Shortens`,
    :class:`Adapts`, :class:`Fits`, :class:`Validates`.
    """

    def groups(self) -> list[Group]:
        """Lists the groups of parameters, each with its optimiser's settings and its span."""
        ...

    def losses(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator, progress: float
    ) -> Iterator[Loss]:
        """Yields the losses of one step in order; the trainer steps a group between two yields.

        Args:
            x: Images in [0, 1], (N, C, H, W).
            y: Labels (N,), or None without labels.
            generator: The only source of randomness, on the device of ``x``.
            progress: Share of the training that is done, 0 to 1.
        """
        ...


@runtime_checkable
class GenerativeModel(Trainable, Protocol):
    """A network that makes images.

    Attributes:
        spec: The images that it makes.
        classes: How many classes it listens to; 0 for one that ignores labels.
    """

    spec: Spec
    classes: int

    def sample(self, ids: Ids, y: Tensor | None, seed: int, sampling: Config) -> Tensor:
        """Makes the images with these ids of this seed, (N, C, H, W) in [0, 1].

        Args:
            ids: One number per image; an image depends on its id and the seed, never on the batch.
            y: Labels (N,), or shares of classes (N, K); None draws them as often as the data has them.
            seed: Of the sampling.
            sampling: The family's sampling config.
        """
        ...


@runtime_checkable
class Decodes(Protocol):
    """A model with a latent space to walk in."""

    def latent(self, ids: Ids, seed: int, sampling: Config) -> Tensor:
        """Draws the latents that `sample` would decode, (N, D)."""
        ...

    def decode(self, z: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        """Turns latents (N, D) and labels (N,) or shares (N, K) into images; differentiable.

        The sampling says how many steps a path takes, and how strongly it is guided; it draws nothing more.
        """
        ...


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A model that finds the latent of an image."""

    def encode(self, x: Tensor, y: Tensor | None, sampling: Config) -> Tensor:
        """Turns images into latents (N, D), of which `decode` with the same sampling makes them again."""
        ...


@runtime_checkable
class Scores(Protocol):
    """A model that knows how probable an image is."""

    def log_prob(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> Tensor:
        """Gives the log-probability of images of ``spec.levels`` levels in nats, (N,), or a lower bound of it.

        Uniform dequantisation: noise of one level is added to ``x``, so the value is an unbiased estimate of a bound
        on the probability of the *levels*, and bits per dimension are ``-log_prob / (C H W ln 2)``.
        """
        ...


@runtime_checkable
class Quantizes(Protocol):
    """A model whose latents are codes of a finite vocabulary."""

    def quantize(self, x: Tensor) -> Tensor:
        """Turns images into codes, (N, T), int64 from 0."""
        ...

    def restore(self, codes: Tensor) -> Tensor:
        """Turns codes (N, T) into images."""
        ...


@runtime_checkable
class Spells(Quantizes, Protocol):
    """A model that spells images: its codes are vectors, so that there are points between two codes."""

    def write(self, ids: Ids, y: Tensor | None, seed: int, sampling: Config) -> Tensor:
        """Draws the codes that `sample` would restore, (N, T)."""
        ...

    def vectors(self, codes: Tensor) -> Tensor:
        """Gives the vectors of codes, (...) to (..., D)."""
        ...

    def nearest(self, vectors: Tensor) -> Tensor:
        """Gives the codes whose vectors are nearest, (..., D) to (...)."""
        ...

    def paint(self, vectors: Tensor) -> Tensor:
        """Turns vectors (N, T, D) into images without rounding them to codes; differentiable."""
        ...

    def spell(self, x: Tensor) -> Tensor:
        """Gives the vectors of images before they are rounded to codes, (N, T, D); differentiable."""
        ...

    def use(self) -> tuple[Tensor, Tensor]:
        """Gives the share of each code in what was spelled in training, (V,), and which codes are dead, bool (V,)."""
        ...


@runtime_checkable
class Predicts(Spells, Protocol):
    """A model that says how probable each code is after those before it."""

    def predict(self, codes: Tensor, y: Tensor | None) -> Tensor:
        """Gives log-probabilities (N, T, V) of all codes at each place of codes (N, T), given those before the place.

        Args:
            codes: Of images, row by row.
            y: Labels (N,), or None for any class.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """A model that writes tokens one after the other: a text byte by byte, of which 0 is the end."""

    def foretell(self, tokens: Tensor, y: Tensor | None) -> Tensor:
        """Gives log-probabilities of the token at each place, given those before it.

        Args:
            tokens: int64 (N, T).
            y: Labels (N,), or None for any class.

        Returns:
            Shape (N, T + 1, V): the last ones are of the token that follows all of them.
        """
        ...

    def write(
        self, prompt: Tensor, ids: Ids, y: Tensor | None, seed: int, sampling: Config, length: int
    ) -> Iterator[Tensor]:
        """Yields the tokens that follow a prompt, int64 (N,), place by place; 0 where a text has ended.

        Args:
            prompt: int64 (P,), or empty.
            ids: One number per text, which depends on its id and the seed, never on the batch.
            y: Labels (N,), or None for any class.
            seed: Of the draws.
            sampling: The family's sampling config.
            length: How many tokens at most.
        """
        ...


@runtime_checkable
class Traces(Protocol):
    """A model whose sampling is a path from noise to an image, of many passes; so is its `decode`, if it has one."""

    def trace(self, ids: Ids, y: Tensor | None, seed: int, sampling: Config) -> Iterator[Tensor]:
        """Yields the images that the model expects at every step of `sample`; the last ones are the samples."""
        ...

    def states(
        self, ids: Ids, y: Tensor | None, seed: int, sampling: Config
    ) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yields time (0 noise, 1 data), the noisy images and the expected ones, from the start of `sample` on."""
        ...


@runtime_checkable
class Prompts(Decodes, Protocol):
    """A model that draws what texts say: they are in its sampling, and stand where others have classes.

    Its ``classes`` are 0; for ``y`` it takes numbers of the texts (N,), or shares of them (N, K), and draws mixtures.
    """

    def texts(self, sampling: Config) -> tuple[str, ...]:
        """Gives the texts of a sampling, at least one."""
        ...


@runtime_checkable
class Carries(Protocol):
    """A model with a velocity field that carries noise (time 0) to images (time 1) along straight paths."""

    def velocity(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Expects ``data - noise`` at ``x = (1 - t) noise + t data``; images are centred, from -1 to 1.

        Args:
            x: States, (N, …).
            t: Times, (N,).
            y: Labels (N,), or shares of classes (N, K); None for any class.
            keep: False for a state whose label is to be ignored, (N,).
        """
        ...


@runtime_checkable
class Unrolls(Protocol):
    """A model that decodes by a chain of maps between things of the same size."""

    def unroll(self, z: Tensor, y: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        """Yields a name and the images (N, C, H, W) in [0, 1] as they are before the first map and after each."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A model whose decoder is a stack of layers with units; its first dense layer takes the latent first."""

    def layered(self) -> torch.nn.Module:
        """Gives the network that turns latents into images."""
        ...


@runtime_checkable
class Spreads(Encodes, Protocol):
    """A model that finds a normal distribution of latents for an image; `encode` gives its mean."""

    def spread(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gives mean and logarithm of the variance of the latents of images, each (N, D)."""
        ...


@runtime_checkable
class Purifies(Protocol):
    """A model that cleans images: it takes them some of the way to noise, and back to what it has learned."""

    def purify(self, x: Tensor, noise: float, steps: int, generator: torch.Generator) -> Tensor:
        """Cleans images (N, C, H, W) in [0, 1]; random, and differentiable through every step.

        Args:
            x: The images.
            noise: Share of the way to noise, above 0 and below 1.
            steps: Of the way back.
            generator: The source of the noise, on the device of ``x``.
        """
        ...


@runtime_checkable
class Repairs(Protocol):
    """A model that fills in what is not known of an item, in a way of its own."""

    def repair(
        self,
        x: Tensor,
        part: Callable[[Tensor], Tensor],
        ids: Ids,
        y: Tensor | None,
        seed: int,
        sampling: Config,
        quick: bool = False,
    ) -> Iterator[Tensor]:
        """Yields fills (N, …) in [0, 1] as they are expected after every step; the last ones are the result.

        Args:
            x: The item, (1, …) in [0, 1], or one for each fill, (N, …); only the known part counts.
            part: Gives the known part of items (N, …), an orthogonal projection: linear, and twice is as good as once.
            ids: One number per fill, which depends on its id and the seed, never on the batch.
            y: Labels (N,); None where nobody says of which class the item is.
            seed: Of the fills.
            sampling: The family's sampling config.
            quick: Gives a preview, in a small part of the time.
        """
        ...


@runtime_checkable
class Renders(Protocol):
    """A model that turns another picture of an item, its condition, into the image: a sketch into a face.

    Attributes:
        told: Channels of the dataset's pair, which stand behind those of real images wherever the model is given any
            (``losses``, ``held_out``): (N, C + told, H, W). 0 for one that makes its conditions of the images.
        means: What its conditions are, for people: ``sketch``.
    """

    told: int
    means: str

    def condition(self, x: Tensor) -> Tensor:
        """Gives the conditions of real images, (N, C + told, H, W) to (N, K, H, W) in [0, 1]."""
        ...

    def render(
        self, condition: Tensor, ids: Ids, y: Tensor | None, seed: int, sampling: Config
    ) -> Tensor:
        """Turns conditions (N, K, H, W) in [0, 1] into images (N, C, H, W) in [0, 1].

        An image depends on its condition, its id and the seed, never on the batch.
        """
        ...

    def conditions(self, ids: Ids, seed: int) -> Tensor:
        """Draws the conditions that `sample` renders, (N, K, H, W) in [0, 1], from those that it has kept."""
        ...

    def keep(self, x: Tensor) -> None:
        """Keeps the conditions of real images (N, C + told, H, W), evenly spread over them, for `sample`."""
        ...


@runtime_checkable
class Orders(Protocol):
    """A model that numbers its classes in a way of its own, as one from elsewhere may.

    Attributes:
        order: For each class of its dataset the row of it in every :class:`core.nets.LabelEmbedding` of the network.
    """

    order: tuple[int, ...]


@runtime_checkable
class Criticises(Protocol):
    """A model with a critic, which tells real images from generated ones."""

    def criticise(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Gives a logit per image in [0, 1], (N,), higher for one that looks more real; differentiable.

        Args:
            x: Images, (N, C, H, W).
            y: Their labels (N,), for a model that listens to any.
        """
        ...

    def shown_through(self, augmentation: torch.nn.Module) -> None:
        """Puts another augmentation before the critic in training; see :class:`core.nets.CriticAugmentation`."""
        ...


def differentiates(model: Any, sampling: Config) -> bool:
    """Tells whether what a model decodes has a derivative by its latents; that of a graph from outside has none."""
    import torch

    if not isinstance(model, Decodes):
        return False
    with torch.enable_grad():
        z = model.latent([0], 0, sampling).detach().requires_grad_()
        y = z.new_full((1, model.classes), 1 / model.classes) if model.classes else None  # type: ignore[attr-defined]
        x = model.decode(z, y, sampling)
        found = x.requires_grad
        if found and isinstance(model, Encodes):
            start = x.detach().requires_grad_()
            found = model.encode(start, y, sampling).requires_grad
    return found


# --- What the trainer uses where a network has it -------------------------------------------------------------------


@runtime_checkable
class Batches(Protocol):
    """A network that knows how many images a step should have."""

    batch: int


@runtime_checkable
class Eases(Protocol):
    """A network with penalties of its own.

    Attributes:
        ease: Factor of the penalties, 1 at first; the trainer halves it each time that the training has diverged.
    """

    ease: float


@runtime_checkable
class Shortens(Protocol):
    """A network that knows whether bfloat16 makes its steps faster on this processor."""

    def shorter(self) -> bool:
        """Tries it."""
        ...


@runtime_checkable
class Compiles(Protocol):
    """A network with parts that are worth compiling."""

    def hot(self) -> list[torch.nn.Module]:
        """Lists them: together, nearly all of its time is spent in their forward passes."""
        ...


@runtime_checkable
class Fits(Protocol):
    """A model with parts that are computed from data, on averaged weights, before they are published."""

    def fit(self, x: Tensor, y: Tensor | None) -> None:
        """Computes those parts from training images; deterministic."""
        ...


@runtime_checkable
class Adapts(Protocol):
    """A model that steers its own training by what it makes of training and of held-out images."""

    def adapt(
        self,
        x: Tensor,
        y: Tensor | None,
        valid_x: Tensor,
        valid_y: Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Changes buffers of the model in training, every ``ADAPT_EVERY`` steps; gives values for the record.

        Args:
            x, y: A fresh batch of training images in [0, 1], (N, C, H, W), and their labels (N,), if any.
            valid_x, valid_y: As many held-out images, chosen and transformed in the same way.
            generator: The only source of randomness, that of the step.
        """
        ...


@runtime_checkable
class Validates(Protocol):
    """A model whose quality can be read off held-out data while it trains."""

    def held_out(
        self, x: Tensor, y: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Gives named scalars on held-out images; the first one decides which checkpoint is best, lower is better."""
        ...


def dense(network: str, spec: Spec) -> bool:
    """Tells whether a choice of networks is ``dense``; ``auto`` is, for what is no picture, and for tiny ones.

    Raises:
        UserError: If another network was chosen for what is no picture.
    """
    if network == "auto":
        return spec.form != "picture" or spec.size <= 8
    if network != "dense" and spec.form != "picture":
        raise UserError(
            f"family.network must be auto or dense for a {spec.form}, got {network!r}. Choose one of them."
        )
    return network == "dense"


def build(name: str, values: Mapping[str, Any], spec: Spec) -> GenerativeModel:
    """Builds an untrained model of a family.

    Raises:
        UserError: If the family or a parameter does not exist, a value is not allowed, or it cannot learn such data.
    """
    entry = families.get(name)
    entry.allow(spec.form, families)
    return entry.make(entry.config.of(values, "family"), spec)

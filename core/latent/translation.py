"""Turning a picture into another kind while the rest of it stays: another class, another value of an attribute.

Two ways, by what a model can do. Where a point decodes at once, the picture gains what the decoding gains on the way
from one kind to the other, ``x + decode(z + d) - decode(z)`` [1]: what the model cannot draw of it stays. A model with
a velocity field (:class:`core.models.Carries`) lets the picture drift by the difference of both classes'
velocities, with the same noise on both sides [2], where these differ at all [3].

References:
    [1] Larsen et al., 2016, Autoencoding beyond pixels (attribute vectors), https://arxiv.org/abs/1512.09300
    [2] Kulikov et al., 2024, FlowEdit: inversion-free editing using pre-trained flow models, https://arxiv.org/abs/2412.08629
    [3] Couairon et al., 2022, DiffEdit: diffusion-based semantic image editing with mask guidance, https://arxiv.org/abs/2210.11427
    [4] Ho and Salimans, 2022, Classifier-free diffusion guidance, https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.catalog import UserError, unknown
from core.datasets import Columns, Dataset, columns, faces
from core.ground.stats import Estimate, share
from core.ground.watch import UNWATCHED, Watch
from core.latent.encoding import checked_images, find
from core.latent.projection import guess
from core.latent.regression import TIED, study
from core.latent.space import Space, remember
from core.measure.features import Reader, readable
from core.models import Carries
from core.tensors import Images, noise

CLASS = "class"  # the aspect that the labels are
DEPTH = 0.7  # share of the way to noise at which a drift of strength 1 begins
ACROSS = 0.9  # the same between two joined sets, in which more differs
GUIDANCE = 0.5  # what a drift of strength 1 adds to the pull towards its class
PROBES = 8  # noises under which both classes' velocities are compared for the mask
FAINT = 0.3  # of the largest difference of the velocities: from half of it on a pixel may change, from it on wholly
STRENGTHS = (0.1, 2.0)
RIDGE = 1e-3  # of the regression of points on columns, as a share of the number of points


@dataclass(frozen=True, eq=False)
class Aspect:
    """Something about a picture of which one value excludes the others.

    Attributes:
        name: ``class``, or of the attribute.
        terms: Its values, as people name them: ``happy``, ``glasses=no``, ``smile=high``.
        columns: Of the dataset's table: one for each term, or a single one.
        edges: Of a number: up to the first it is low, from the second on high; empty for what is yes or no.
    """

    name: str
    terms: tuple[str, ...]
    columns: tuple[int, ...]
    edges: tuple[float, ...] = ()

    def index(self, term: str) -> int:
        """Gives the place of a term.

        Raises:
            UserError: If it is none of the terms.
        """
        if term not in self.terms:
            raise UserError(unknown(f"value of {self.name}", term, self.terms))
        return self.terms.index(term)

    def met(self, values: np.ndarray) -> np.ndarray:
        """Tells which term each row of a table (N, A) meets, int (N,); -1 for none."""
        own = values[:, list(self.columns)]
        if self.edges:
            low, high = self.edges
            return np.where(own[:, 0] >= high, 1, np.where(own[:, 0] <= low, 0, -1))
        if len(self.columns) == 1:
            return (own[:, 0] > 0.5).astype(int)
        return np.where(own.max(1) > 0, own.argmax(1), -1)


def aspects(dataset: Dataset) -> dict[str, Aspect]:
    """Lists what is known of a dataset's pictures and can have more than one value, by name; classes first."""
    table = columns(dataset)
    groups: dict[str, list[int]] = {}
    for k, name in enumerate(table.names):
        choice = name.partition("=")[0] if table.binary[k] else name
        groups.setdefault(CLASS if table.labels[k] else choice, []).append(k)
    found = {}
    for name, places in groups.items():
        k = places[0]
        if len(places) > 1:
            found[name] = Aspect(name, tuple(table.names[i] for i in places), tuple(places))
        elif table.binary[k]:
            found[name] = Aspect(name, (f"{table.names[k]}=no", f"{table.names[k]}=yes"), (k,))
        else:
            low, high = np.quantile(table.values[:, k], (0.25, 0.75))
            terms = (f"{name}=low", f"{name}=high")
            found[name] = Aspect(name, terms, (k,), (float(low), float(high)))
    return found


def changeable(space: Space, dataset: Dataset) -> dict[str, Aspect]:
    """Lists the aspects that a model can change; empty where it can change none.

    A model whose images are paths of many steps changes the classes that it listens to, and nothing else: the points of
    thousands of images, of which directions of attributes are made, would take it minutes.
    """
    if not readable(dataset):
        return {}
    known = aspects(dataset)
    if space.slow:
        listens = space.classes == len(dataset.classes) > 1 and CLASS in known
        return {CLASS: known[CLASS]} if listens else {}
    return known


def why_not(space: Space) -> str:
    """Says why a model can change nothing of a picture."""
    if space.slow:
        return (
            "This model follows many steps for an image, and was not told the classes, so it knows no way from one "
            "kind to another. Train it with “Learn the classes” on a dataset with labels."
        )
    return (
        "Its dataset has neither classes nor attributes, so there is no kind to turn a picture into. "
        "Label the images, or move along the main directions."
    )


def aspect_of(offered: Mapping[str, Aspect], source: str, target: str) -> Aspect:
    """Finds the aspect that two terms belong to.

    Raises:
        UserError: If there is no such term, they are values of different things, or the same one.
    """
    terms = [term for aspect in offered.values() for term in aspect.terms]
    for term in (source, target):
        if term not in terms:
            raise UserError(unknown("class or value of an attribute", term, terms))
    if source == target:
        raise UserError(
            f"The picture is to become what it is: {source!r} twice. Choose two different values."
        )
    for aspect in offered.values():
        if source in aspect.terms:
            if target in aspect.terms:
                return aspect
            raise UserError(
                f"{source!r} is a value of {aspect.name}, and {target!r} is not. "
                f"Choose one of {', '.join(aspect.terms)}."
            )
    raise AssertionError


# --- From one kind to the other -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Translated:
    """Pictures that were turned into another kind.

    Attributes:
        images: What they became, (N, C, H, W) in [0, 1].
        mask: How far each pixel was free to change, (N, 1, H, W) in [0, 1].
        points: Of what they became, (N, D + K); None where they have to be looked for.
        method: ``difference`` or ``drift``.
        seconds: How long it took.
    """

    images: Images = field(repr=False)
    mask: Tensor = field(repr=False)
    points: Tensor | None = field(repr=False)
    method: str
    seconds: float


def translate(
    space: Space,
    dataset: Dataset,
    x: Images,
    source: str,
    target: str,
    *,
    strength: float = 1.0,
    masked: bool = True,
    reading: Reader | None = None,
    labels: Sequence[int] | None = None,
    ids: Sequence[int] | None = None,
    seed: int = 0,
    watch: Watch = UNWATCHED,
) -> Translated:
    """Turns pictures into another kind, and keeps the rest of them.

    Args:
        space: Of the model.
        dataset: What it was trained on.
        x: The pictures, (N, C, H, W) in [0, 1].
        source, target: What they are and what they become: two classes, or two values of an attribute as ``glasses=no``
            and ``glasses=yes``, or ``smile=low`` and ``smile=high``.
        strength: How far to go; 1 is the usual way, less changes less.
        masked: Whether pixels stay in which a drift finds no difference between both classes.
        reading: Reads images, where the model cannot encode.
        labels: Their classes (N,), where an attribute is changed and the model listens to classes; else those of the
            most similar training images.
        ids: A number per picture, on which the noise of a drift depends; their places without.
        seed: Of that noise.
        watch: Told how far it is.

    Raises:
        UserError: If the model cannot change this, there is no such value, or the pictures are not of its shape.
    """
    offered = changeable(space, dataset)
    if not offered:
        raise UserError(why_not(space))
    aspect = aspect_of(offered, source, target)
    if not STRENGTHS[0] <= strength <= STRENGTHS[1]:
        raise UserError(
            f"strength must be from {STRENGTHS[0]} to {STRENGTHS[1]}, got {strength}. Leave it at 1."
        )
    began = time.perf_counter()
    x = checked_images(space, x)
    before, after = aspect.index(source), aspect.index(target)
    model = space.model
    if aspect.name == CLASS and space.classes and isinstance(model, Carries):
        depth = ACROSS if dataset.imported("domains") else DEPTH
        images, mask = _drifted(
            space,
            model,
            x,
            (before, after),
            strength,
            depth,
            masked,
            range(len(x)) if ids is None else ids,
            seed,
            watch,
        )
        return Translated(images, mask, None, "drift", time.perf_counter() - began)
    vector = way(space, dataset, aspect, before, after, reading)
    if aspect.name == CLASS and space.classes:
        labels = [before] * len(x)
    elif space.classes and labels is None:
        guessed = guess(dataset, x)
        labels = None if guessed is None else guessed.tolist()
    points = _found(space, x, labels, watch)
    moved = points + strength * vector
    if space.sphere:
        z, shares = moved.split([space.latent, space.classes], 1)
        length = points[:, : space.latent].norm(dim=1, keepdim=True)
        moved = torch.cat([z * length / z.norm(dim=1, keepdim=True).clamp_min(1e-8), shares], 1)
    with torch.no_grad():
        gained = torch.cat(
            [
                space.smooth(there) - space.smooth(here)
                for here, there in zip(points.split(256), moved.split(256), strict=True)
            ]
        )
    images = (x + gained).clamp(0, 1)
    mask = torch.ones_like(x[:, :1])
    return Translated(images, mask, moved, "difference", time.perf_counter() - began)


def _found(space: Space, x: Images, labels: Sequence[int] | None, watch: Watch) -> Tensor:
    """Gives the points of pictures: by the encoder, or each by a search."""
    if space.encodes:
        return space.encode(x, labels)
    points = []
    for i in range(len(x)):
        watch.count("Looking for the pictures in the model", i, len(x))
        *_, last = find(space, x[i : i + 1], None if labels is None else labels[i])
        points.append(last.point)
    return torch.stack(points)


def way(
    space: Space,
    dataset: Dataset,
    aspect: Aspect,
    before: int,
    after: int,
    reading: Reader | None = None,
) -> Tensor:
    """Gives what a point gains on the way from one term of an aspect to another, (D + K,).

    A regression of points on what is known of their images: the difference of two classes' mean points would bring
    along whatever else goes with these classes. Columns that are nearly the same thing as the aspect are not held.

    Raises:
        UserError: As :func:`core.latent.regression.study`.
    """
    vector = torch.zeros(space.dim, device=space.device)
    listens = aspect.name == CLASS and space.classes
    if listens:
        vector[space.latent + after], vector[space.latent + before] = 1.0, -1.0
        if not space.encodes or space.slow:  # noise, which does not know the class
            return vector

    def fit() -> Tensor:
        regression = study(space, dataset, reading)
        table = regression.table
        met = aspect.met(table.values)
        terms = (met[:, None] == np.arange(len(aspect.terms))).astype(np.float64)  # (N, T)
        known = np.concatenate([terms, table.values[:, _apart(table, aspect)]], 1)
        v = torch.as_tensor(known, dtype=torch.float64, device=space.device)
        v = (v - v.mean(0)) / v.std(0).clamp_min(1e-6)
        points = regression.points.double()
        square = v.T @ v + RIDGE * len(v) * torch.eye(v.shape[1]).to(v)
        slopes = torch.linalg.solve(square, v.T @ (points - points.mean(0)))  # (T + A, D + K)
        spread = torch.as_tensor(terms.std(0)).clamp_min(1e-6).to(slopes)
        return (slopes[: len(terms[0])] / spread[:, None]).float()

    slopes = remember(space, ("way", dataset.fingerprint, aspect.name), fit)
    step = (slopes[after] - slopes[before])[: space.latent]
    # what a picture shows does not change with its attribute
    return torch.cat([step, vector[space.latent :]])


def _apart(table: Columns, aspect: Aspect) -> list[int]:
    """Lists the columns that say something else than an aspect does."""
    values = table.values.astype(np.float64)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    tied = np.abs(values.T @ values[:, list(aspect.columns)]).max(1) / len(values)
    return [j for j in range(values.shape[1]) if j not in aspect.columns and tied[j] < TIED]


# --- Along a velocity field -----------------------------------------------------------------------------------------


@torch.no_grad()
def _drifted(
    space: Space,
    model: Carries,
    x: Images,
    classes: tuple[int, int],
    strength: float,
    depth: float,
    masked: bool,
    ids: Sequence[int],
    seed: int,
    watch: Watch,
) -> tuple[Images, Tensor]:
    """Lets pictures drift from one class to another; gives what they became, and where they could change."""
    depth = min(depth * strength, 0.95)
    pull = 1 + GUIDANCE * strength
    whole = int(space.sampling.record().get("steps", 20))
    steps = max(1, round(depth * whole))
    times = torch.linspace(1 - depth, 1, steps + 1).tolist()
    parts, masks = [], []
    for start in range(0, len(x), 32):
        rows = slice(start, start + 32)
        part = x[rows] * 2 - 1
        mine = list(ids)[rows]
        state = part
        for step, (t, after) in enumerate(itertools.pairwise(times)):
            watch.count("Translating", start * steps + step * len(part), len(x) * steps)
            fresh = noise(seed, mine, x.shape[1:], f"translate {step}", device=x.device)
            here = t * part + (1 - t) * fresh
            there = state + here - part
            change = _velocity(model, there, t, classes[1], pull)
            change = change - _velocity(model, here, t, classes[0], 1.0)
            state = state + (after - t) * change
        mask = (
            differing(model, part, classes, mine, seed) if masked else torch.ones_like(part[:, :1])
        )
        parts.append((x[rows] + mask * (state - part) / 2).clamp(0, 1))
        masks.append(mask)
    return torch.cat(parts), torch.cat(masks)


def _velocity(model: Carries, x: Tensor, t: float, label: int, pull: float) -> Tensor:
    """Gives the velocity of a class, pulled away from that of any class [4]."""
    y = torch.full((len(x),), label, device=x.device)
    time = x.new_full((len(x),), t)
    if pull == 1:
        return model.velocity(x, time, y)
    keep = torch.arange(2 * len(x), device=x.device) < len(x)  # of the class, then of any
    both = model.velocity(torch.cat([x, x]), torch.cat([time, time]), torch.cat([y, y]), keep)
    own, any_class = both.chunk(2)
    return torch.lerp(any_class, own, pull)


def differing(
    model: Carries, x: Tensor, classes: tuple[int, int], ids: Sequence[int], seed: int
) -> Tensor:
    """Tells where the velocities of two classes differ halfway to noise, (N, 1, H, W) from 0 to 1 [3].

    Args:
        model: With a velocity field.
        x: Centred pictures, (N, C, H, W).
        classes: The two.
        ids, seed: Of the noises.
    """
    total = torch.zeros_like(x[:, :1])
    for probe in range(PROBES):
        fresh = noise(seed, ids, x.shape[1:], f"mask {probe}", device=x.device)
        halfway = (x + fresh) / 2
        one, other = (_velocity(model, halfway, 0.5, label, 1.0) for label in classes)
        total += (one - other).abs().mean(1, keepdim=True)
    total = total / total.flatten(1).amax(1).clamp_min(1e-12).view(-1, 1, 1, 1)
    wide = F.max_pool2d(total, 3, 1, 1)
    return ((wide - FAINT / 2) / (FAINT / 2)).clamp(0, 1)


# --- What came of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """What a reader of images says of a translation.

    Attributes:
        reached: Share of the pictures that it takes for what they should have become.
        kept: For each other aspect the share in which it sees what it saw before.
        accuracy: How often it is right about the aspect on held-out real images; of a number R².
    """

    reached: Estimate
    kept: Mapping[str, Estimate]
    accuracy: float

    @property
    def least(self) -> tuple[str, Estimate] | None:
        """The aspect that was kept least; None where nothing else is known."""
        return min(self.kept.items(), key=lambda item: item[1].value, default=None)


def judged(
    dataset: Dataset, reading: Reader, aspect: Aspect, target: str, before: Images, after: Images
) -> Judged:
    """Reads off pictures (N, C, H, W) in [0, 1] whether they became what they should, and kept the rest.

    Aspects that are nearly the same thing as the one that was changed are left out, and so are numbers.
    """
    was, became = (reading.read(x).cpu().numpy() for x in (before, after))
    reached = share(aspect.met(became) == aspect.index(target))
    apart = set(_apart(columns(dataset), aspect))
    kept = {
        name: share(other.met(was) == other.met(became))
        for name, other in aspects(dataset).items()
        if name != aspect.name and not other.edges and apart.issuperset(other.columns)
    }
    accuracy = float(np.mean(reading.accuracy[list(aspect.columns)]))
    return Judged(reached, kept, accuracy)


def truth(dataset: Dataset, rows: np.ndarray, aspect: Aspect, target: str) -> np.ndarray | None:
    """Draws what items would be with another value of an aspect, uint8 (n, C, H, W); None where nobody knows.

    Faces that were drawn here are drawn again, of the same people.
    """
    known = dataset.attributes or {}
    if dataset.origin != "faces" or not set(faces.NAMES) | set(faces.RANGES) <= known.keys():
        return None
    who = {name: known[name][rows] for name in (*faces.NAMES, *faces.RANGES)}
    if not np.array_equal(faces.draw(who, dataset.size), dataset.x[rows]):
        return None  # they were changed since
    name = "expression" if aspect.name == CLASS else aspect.name
    if name not in faces.NAMES:
        return None
    value = target.partition("=")[2] if aspect.name != CLASS else target
    if len(aspect.columns) == 1:
        value = faces.NAMES[name][int(value == "yes")]
    if value not in faces.NAMES[name]:
        return None
    return faces.draw(faces.become(who, name, value), dataset.size)

"""Planes through a latent space, and the images of a neighbourhood in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError
from core.latent.directions import Direction, costly, direction_of, principal
from core.latent.space import Space, remember
from core.models import Prompts

PLANES = {
    "principal": "Two main directions",
    "anchors": "Three anchors",
    "labels": "Two classes",
    "coordinates": "Two coordinates",
    "directions": "Two directions",
    "prompts": "Two prompts",
}
CONTRASTED = 10  # classes of which two are chosen to begin with
FARTHEST = 1e3
MOST_SIDE = 33


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane of points: position (a, b) is the origin, plus a steps along ``u``, plus b steps along ``v``.

    Attributes:
        space: Where it lies.
        origin, u, v: Shape (D + K,). ``v`` is zero where there is only one direction.
        names: What the axes are, across and down.
        sphere: Whether latents are scaled to the length of the origin's latent.
    """

    space: Space
    origin: Tensor
    u: Tensor
    v: Tensor
    names: tuple[str, str]
    sphere: bool = False

    def points(self, xy: np.ndarray | Any) -> Tensor:
        """Gives the points at positions (M, 2), (M, D + K).

        Raises:
            UserError: If a position is not finite, or very far away.
        """
        at = torch.as_tensor(np.asarray(xy, np.float32), device=self.origin.device).reshape(-1, 2)
        if not bool((at.abs() <= FARTHEST).all()):  # nan is not, either
            raise UserError(
                f"A position must lie within {FARTHEST:g} steps of the middle, got {at[0].tolist()}. "
                "Go back to the middle."
            )
        points = self.origin + at @ torch.stack([self.u, self.v])
        if not self.sphere:
            return points
        z, shares = points.split([self.space.latent, self.space.classes], 1)
        length = self.origin[: self.space.latent].norm()
        return torch.cat([z * (length / z.norm(dim=1, keepdim=True).clamp_min(1e-8)), shares], 1)


def first_plane(space: Space) -> str:
    """Names the kind of plane to begin with, of :data:`PLANES`: two classes where the model listens to any.

    On its main directions such a model would show one class all over. Of a model that draws what texts say, and of any
    other one that takes long to decode, main directions take minutes to find; a plane of images needs none.
    """
    if isinstance(space.model, Prompts):
        return "prompts" if space.prompted else "anchors"
    if costly(space):
        return "anchors"
    return "labels" if space.classes > 1 else "principal"


def contrast(space: Space) -> tuple[int, int]:
    """Finds two classes, of the first ten, whose images differ most while all else stays the same.

    Raises:
        UserError: If the model does not listen to two classes.
    """
    if space.classes < 2:
        raise UserError(
            f"Two classes need a model that listens to them, this one listens to {space.classes}. "
            "Choose another kind of plane."
        )

    @torch.no_grad()
    def find() -> tuple[int, int]:
        y = torch.arange(min(space.classes, CONTRASTED), device=space.device)
        z = space.draw([0], [0])[:, : space.latent].expand(len(y), -1)
        x = space.decode(space.join(z, y), quick=True).flatten(1).float()
        first, second = divmod(int(torch.cdist(x, x).argmax()), len(y))
        return (first, second) if first < second else (0, 1)  # all alike

    return remember(space, "contrast", find)


def principal_plane(space: Space, origin: Tensor, which: tuple[int, int] = (0, 1)) -> Plane:
    """Spans two of the principal directions at a point (D + K,).

    Raises:
        UserError: If there is no such direction.
    """
    directions = principal(space)
    for number in which:
        if not 0 <= number < max(2, len(directions)):
            raise UserError(
                f"The directions must be numbers from 0 to {len(directions) - 1}, got {number}. "
                "Choose another."
            )
    # of a single latent dimension there is only one direction
    first, second = (directions[min(number, len(directions) - 1)] for number in which)
    return directions_plane(space, origin, first, second)


def directions_plane(space: Space, origin: Tensor, first: Direction, second: Direction) -> Plane:
    """Spans two directions at a point (D + K,); the same one twice makes a line."""
    if first is second:
        return _spanned(
            space, origin, first.vector, torch.zeros_like(first.vector), (first.name, "")
        )
    return _spanned(space, origin, first.vector, second.vector, (first.name, second.name))


def anchors_plane(space: Space, points: Tensor | np.ndarray) -> Plane:
    """Spans three anchors (3, D + K): the first at (0, 0), the second at (1, 0), the third at (0, 1).

    Raises:
        UserError: If they are not three, or two of them are the same.
    """
    points = space.checked(points)
    if len(points) != 3:
        raise UserError(f"A plane needs 3 anchors, got {len(points)}. Pin three images.")
    u, v = points[1] - points[0], points[2] - points[0]
    if min(u.norm(), v.norm(), (u - v).norm()) < 1e-6:
        raise UserError("Two of the 3 anchors are the same point. Pin three different images.")
    return _spanned(space, points[0], u, v, ("towards the second", "towards the third"))


def labels_plane(
    space: Space, origin: Tensor, a: int, b: int, classes: Sequence[str] = ()
) -> Plane:
    """Blends from a class on the left (-1) to another on the right (+1); down is the first principal direction.

    Args:
        space: Of a model that listens to classes.
        origin: What stays the same, (D + K,).
        a, b: The classes.
        classes: The names of all classes; their numbers stand for them otherwise.

    Raises:
        UserError: If the classes are unknown or the same, or the model listens to none.
    """
    names = [classes[k] if 0 <= k < len(classes) else str(k) for k in (a, b)]
    if a == b:
        raise UserError(f"The two classes must differ, got {names[0]} twice. Choose another one.")
    if not space.classes:
        raise UserError("This model does not listen to classes. Choose another kind of plane.")
    origin = space.checked(origin)[0].clone()
    origin[space.latent :] = 0
    across = torch.zeros_like(origin)
    for label, sign in ((space.known(a), -1), (space.known(b), 1)):
        origin[space.latent + label] = 0.5
        across[space.latent + label] = 0.5 * sign
    return _spanned(
        space,
        origin,
        across,
        principal(space)[0].vector,
        (f"class {names[0]} to {names[1]}", "Main direction 1"),
    )


def prompts_plane(space: Space, origin: Tensor, other: Tensor) -> Plane:
    """Blends from the first text on the left (-1) to the second on the right (+1), and down from image to image.

    Args:
        space: Of a model that draws what texts say, with two texts in its sampling.
        origin: The image at the top, (D + K,); of it and of the other only the latent counts.
        other: The one that is a step further down, (D + K,).

    Raises:
        UserError: If there is one text only, or both images are the same.
    """
    if not space.prompted:
        raise UserError(
            "A plane between two prompts needs a model that draws what texts say, and two texts. "
            "Write a second prompt, or choose another kind of plane."
        )
    origin, other = space.checked(origin)[0].clone(), space.checked(other)[0]
    down = other - origin
    down[space.latent :] = 0
    if down.norm() < 1e-6:
        raise UserError("The two images are the same. Choose another one to go down to.")
    across = torch.zeros_like(origin)
    origin[space.latent :] = 0.5
    across[space.latent], across[space.latent + 1] = -0.5, 0.5
    first, second = (text[:40] or "no text" for text in space.model.texts(space.sampling))
    return _spanned(
        space, origin, across, down, (f"from {first!r} to {second!r}", "towards another image")
    )


def coordinates_plane(space: Space, origin: Tensor, i: int, j: int) -> Plane:
    """Spans two numbers of the latent at a point (D + K,); a step of 1 is as long as :meth:`Space.unit` says.

    Raises:
        UserError: If the latent has no such number.
    """
    for number in (i, j):
        if not 0 <= number < space.latent:
            raise UserError(
                f"The coordinates must be from 0 to {space.latent - 1}, got {number}. Choose another."
            )
    axes = torch.eye(space.latent, device=space.device)
    directions = {
        number: direction_of(space, f"coordinate {number}", "coordinates", axes[number], None, 0)
        for number in (i, j)
    }
    return directions_plane(space, origin, directions[i], directions[j])


def _spanned(space: Space, origin: Tensor, u: Tensor, v: Tensor, names: tuple[str, str]) -> Plane:
    origin = space.checked(origin)[0]
    return Plane(space, origin, u.to(origin), v.to(origin), names, space.sphere)


def grid(centre: tuple[float, float], span: float, n: int) -> np.ndarray:
    """Lists the positions of n × n images row by row, (n², 2): across, then down, ``span`` to each side.

    Raises:
        UserError: If the span or the number of images is out of bounds.
    """
    if not (math.isfinite(span) and 1e-4 <= span <= FARTHEST):
        raise UserError(f"The span must be from 0.0001 to {FARTHEST:g} steps, got {span}. Try 3.")
    if not 1 <= n <= MOST_SIDE:
        raise UserError(f"A side must have 1 to {MOST_SIDE} images, got {n}. Try 15.")
    ticks = np.linspace(-span, span, n) if n > 1 else np.zeros(1)
    down, across = np.meshgrid(ticks, ticks, indexing="ij")
    return np.stack([across.ravel(), down.ravel()], 1) + np.asarray(centre, np.float64)


def neighbourhood(
    space: Space,
    plane: Plane,
    centre: tuple[float, float] = (0.0, 0.0),
    span: float = 3.0,
    n: int = 15,
    quick: bool = True,
) -> np.ndarray:
    """Decodes n × n points of a plane in one batch, uint8 (n², C, H, W), row by row; down is positive, as on a screen.

    Args:
        space: Of the model that decodes.
        plane: Where to look.
        centre: The position in the middle.
        span: Steps from the middle to each side.
        n: Images per row and column.
        quick: Takes fewer steps where an image takes many.

    Raises:
        UserError: If the position, span or number is not allowed.
    """
    return space.images(plane.points(grid(centre, span, n)), quick)


def blended(space: Space, ids: Sequence[int], seed: int, columns: int) -> Tensor:
    """Gives the points of images, each with ``columns`` mixtures of the two texts, (len(ids) · columns, D + 2).

    Image by image; the first column is the first text, the last the second one.

    Raises:
        UserError: If the sampling has one text only, or there are fewer than two columns.
    """
    if not space.prompted:
        raise UserError(
            "A way from one prompt to another needs a model that draws what texts say, and two texts. "
            "Give both, for example --set prompt='a cat' --set second='a dog'."
        )
    if not 2 <= columns <= MOST_SIDE:
        raise UserError(f"A way needs 2 to {MOST_SIDE} columns, got {columns}. Try 5.")
    points = space.draw(ids, None, seed).repeat_interleave(columns, 0)
    share = torch.linspace(0, 1, columns, device=points.device).repeat(len(ids))
    points[:, space.latent], points[:, space.latent + 1] = 1 - share, share
    return points

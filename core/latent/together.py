"""Two models moved together: a plane of one of them, in the latent space of the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError, unknown
from core.latent.planes import Plane
from core.latent.space import Space
from core.models import Spells
from core.tensors import Batch

JOINED = {"point": "The same point", "image": "The same image"}


def joints(space: Space, other: Space) -> list[str]:
    """Lists by what another model can be moved with one, as :data:`JOINED` names it; nothing where neither works.

    The same ``point`` needs latents of the same length, the same ``image`` an encoder of the other model; both need
    images of the same shape.
    """
    if space.model.spec.shape != other.model.spec.shape:
        return []
    spelled = [isinstance(each.model, Spells) for each in (space, other)]
    alike = space.latent == other.latent and spelled[0] == spelled[1]
    return ["point"] * alike + ["image"] * bool(other.encodes)


@torch.no_grad()
def carry(
    space: Space,
    other: Space,
    points: Tensor,
    by: str,
    label: int | None = None,
    x: Batch | None = None,
) -> Tensor:
    """Finds the points of another model that belong to points (N, D + K) of one, (N, D' + K').

    Args:
        space: Of the points.
        other: Of the model that is moved with it.
        points: Where the first model stands.
        by: A name of :data:`JOINED`: the same latent, or the latent that the other's encoder finds for the same image.
        label: The class that the other model is told, where it listens to classes and the first one does not.
        x: The images (N, …) in [0, 1] of the points; decoded when left out.

    Raises:
        UserError: If the two models cannot be joined by that.
    """
    if by not in joints(space, other):
        raise UserError(unknown("way to move these two models together", by, joints(space, other)))
    shares = space.split(points)[1] if space.classes == other.classes else None
    if shares is None and other.classes and label is not None:
        shares = torch.eye(other.classes, device=other.device)[label].expand(len(points), -1)
    if by == "image":
        return other.encode(space.decode(points) if x is None else x, shares)
    if space.classes == other.classes:
        return points.to(other.device)
    return other.join(points[:, : space.latent].to(other.device), shares)


@torch.no_grad()
def beside(
    plane: Plane,
    other: Space,
    by: str,
    label: int | None = None,
    x: Batch | None = None,
    holds: str = "middle",
) -> Plane:
    """Gives the plane of another model that is moved with a plane of one.

    By the same point it holds the same latents. By the same image it goes through where the other's encoder finds the
    first model's images, and a step changes what that finds as a step of the first model does.

    Args:
        plane: Of the first model.
        other, by, label: As in :func:`carry`.
        x: The image (1, …) in [0, 1] in the middle, where the first model makes another one of it.
        holds: Where both then begin with the same image: in the ``middle``, (0, 0); on both ``sides``, (-1, 0) and
            (1, 0), as between two classes; or on the ``corners`` (0, 0), (1, 0) and (0, 1), as of three anchors.

    Raises:
        UserError: As :func:`carry`.
    """
    space = plane.space
    if by == "point":
        (origin,) = carry(space, other, plane.origin[None], by, label)
        u, v = plane.u.to(origin), plane.v.to(origin)
        if space.classes != other.classes:  # one of them is told nothing of classes, or of others
            still = origin.new_zeros(other.classes)
            u, v = (torch.cat([step[: space.latent], still]) for step in (u, v))
        return Plane(other, origin, u, v, plane.names, plane.sphere)
    corners = holds == "corners"
    steps = [(0, 0), (1, 0), (0, 1), *([] if corners else [(-1, 0), (0, -1)])]
    points = carry(space, other, plane.points(np.asarray(steps)), by, label)
    origin, right, down = points[:3]
    left, up = (origin, origin) if corners else points[3:]
    apart = 1 if corners else 2
    if holds == "sides":
        origin = (left + right) / 2
    elif x is not None:
        (origin,) = carry(space, other, plane.origin[None], by, label, x)
    u, v = (right - left) / apart, (down - up) / apart
    return Plane(other, origin, u, v, plane.names, other.sphere)

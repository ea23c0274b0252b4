"""Exploring what a model learned: ways, planes and directions through its latent space, and your own image in it.

Everything works on points of a :class:`Space`, which hides how families differ.
"""

from core.latent.directions import (
    AMOUNTS,
    MOST,
    Direction,
    Strip,
    factors,
    filmstrip,
    local,
    move,
    principal,
)
from core.latent.paths import PATHS, WAYS, lerp, path, slerp, spline, truncate, walk
from core.latent.planes import (
    PLANES,
    Plane,
    anchors_plane,
    coordinates_plane,
    directions_plane,
    labels_plane,
    neighbourhood,
    plane,
    principal_plane,
    sprite,
)
from core.latent.space import Space, open_space, supports

__all__ = [
    "AMOUNTS",
    "MOST",
    "PATHS",
    "PLANES",
    "WAYS",
    "Direction",
    "Plane",
    "Space",
    "Strip",
    "anchors_plane",
    "coordinates_plane",
    "directions_plane",
    "factors",
    "filmstrip",
    "labels_plane",
    "lerp",
    "local",
    "move",
    "neighbourhood",
    "open_space",
    "path",
    "plane",
    "principal",
    "principal_plane",
    "slerp",
    "spline",
    "sprite",
    "supports",
    "truncate",
    "walk",
]

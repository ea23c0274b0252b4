"""A network of this machine that knows the way from noise to data: velocity(x, t, y)."""

from core.brought import by_code
from core.models.diffusion import DiffusionSampling

by_code("velocity", "A velocity by code", DiffusionSampling, __doc__)

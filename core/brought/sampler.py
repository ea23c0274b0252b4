"""A network of this machine that draws images and tells nothing of how: sample(ids, y, seed, sampling)."""

from core.brought import by_code
from core.wrapped.sampler import SamplerSampling

by_code("sampler", "A sampler by code", SamplerSampling, __doc__)

"""A network of this machine that turns normal numbers into images: decode(z, y) and latent_dim, perhaps encode."""

from core.brought import by_code
from core.wrapped.decoder import DecoderSampling

by_code("decoder", "A decoder by code", DecoderSampling, __doc__)

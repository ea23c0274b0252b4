"""Texts as a network reads them: words become tokens, and tokens vectors, as CLIP does.

References:
    Radford et al., 2021, Learning transferable visual models from natural language supervision (CLIP),
    https://arxiv.org/abs/2103.00020
"""

from core.text.encoder import TextEncoder, TextShape
from core.text.tokens import Tokens

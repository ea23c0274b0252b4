"""Augmentation: steps, pipelines as data, what they do to images, and recipes to take away.

A step draws one row of parameters per image (`draw`) and applies it to a batch (`apply`); see :mod:`catalogue` for the
contract. :class:`Pipeline` is data, :class:`Chain` runs it. Adding a step is one class with ``@augmentations.add``.
"""

from __future__ import annotations

from core.augment import generative as _generative  # registers
from core.augment import geometry as _geometry  # registers
from core.augment import mixing as _mixing  # registers
from core.augment import screening
from core.augment import sound as _sound  # registers
from core.augment import text as _text  # registers
from core.augment.catalogue import GROUPS, Context, augmentations
from core.augment.critic import CriticChain
from core.augment.generative import runs_for
from core.augment.pipeline import (
    MAX_STEPS,
    Chain,
    Drawn,
    Frame,
    Pipeline,
    Step,
    Sweep,
    film,
    grid,
    magnitudes,
    sweep,
)
from core.augment.recipes import (
    DIALECTS,
    Preset,
    Saved,
    export,
    forget,
    load,
    photos,
    presets,
    read,
    save,
    saved,
    trainable,
    training,
    unfolded,
)

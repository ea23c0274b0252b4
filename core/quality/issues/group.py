"""Groups, such as patients or speakers, that stand in more than one split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from core.datasets import SPLITS
from core.datasets.dataset import divided
from core.quality.check import Issue, checks
from core.quality.inspection import Survey


@checks.add(
    "group",
    "Groups in several splits",
    order=55,
    remedy="exclude",
    compared="Compares who the images are of, where the dataset was told (dataset.group).",
    blind="Without that, or where the column is wrong, the same patient or speaker in two splits is not seen.",
)
def group(look: Survey) -> Iterator[Issue]:
    """Images of somebody most of whose images are in another split: reports are too good for anybody new."""
    members = look.dataset.members
    if members is None:
        return
    for name in divided(members, look.dataset.splits):
        mine = np.flatnonzero(members == name)
        counts = np.bincount(look.split[mine], minlength=len(SPLITS))
        most = len(SPLITS) - 1 - int(counts[::-1].argmax())  # of equal ones the latest
        there = ", ".join(f"{n:,} in {split}" for n, split in zip(counts, SPLITS, strict=True) if n)
        kept = mine[look.split[mine] == most]
        for image in mine[look.split[mine] != most]:
            yield Issue(
                int(image),
                float(counts[most]),
                f"It is in {SPLITS[look.split[image]]}; of {look.dataset.group} {name!r} there are {there}.",
                tuple(int(i) for i in kept[:3]),
            )

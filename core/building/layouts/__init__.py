"""The layouts in which a dataset leaves; each file beside this one is one, of the file's name.

A layout writes a dataset into a folder of its own, and streams: memory does not grow with the set, and the same dataset
gives the same bytes. Every one carries the lineage of every row, names the splits ``train``, ``validation`` and
``test``, and keeps the true names of the classes. What it wrote is read back by :mod:`core.building.readback`.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.catalog import Entry, Registry
from core.datasets import Dataset
from core.datasets.labels import COLUMNS

MOST = COLUMNS - 4  # id, label, split and the name of the file are columns, too


@dataclass(frozen=True, kw_only=True)
class Layout(Entry):
    """A layout; ``make(going, folder, watch)`` writes an :class:`core.building.outgoing.Outgoing` into a new folder.

    Attributes:
        opens: How others open it: a line of Python, in the folder.
        order: Its place where a person chooses.
        only: Why it takes pictures only; empty for one that takes the items of every medium.
        texts: Whether it takes texts all the same.
        classes: Why it needs a set with classes; empty for one that takes every set.
        pairs: Whether it carries the second image of each item.
    """

    opens: str
    order: int = 99
    only: str = ""
    texts: bool = False
    classes: str = ""
    pairs: bool = False

    def refuses(self, dataset: Dataset) -> str:
        """Says why it cannot take a dataset; empty where it can."""
        texts = self.texts and dataset.medium.item == "tokens"
        if self.only and dataset.medium.name != "image" and not texts:
            return (
                f"{self.title} takes pictures only, no {dataset.medium.title.lower()}: {self.only}."
            )
        if self.classes and not dataset.labelled:
            return f"{self.title} takes no set without classes: {self.classes}."
        if (count := len(dataset.attributes or ())) > MOST:
            return f"A set of {count} columns would not come back whole: at most {MOST} are read."
        return ""


layouts = Registry("layout", Layout, "core.building.layouts")

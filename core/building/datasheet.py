"""The questions of a datasheet, answered from what is known of a dataset; what nobody has said stays not known.

References:
    Gebru et al., 2021, Datasheets for Datasets, https://arxiv.org/abs/1803.09010
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.building import licences
from core.datasets import SPLITS, Dataset
from core.ground.writing import many

UNKNOWN = "Not known."
NAMES = {"train": "train", "valid": "validation", "test": "test"}  # of the splits in files


@dataclass(frozen=True)
class DatasheetAnswer:
    """One question of a datasheet.

    Attributes:
        part: The part of the datasheet: ``Motivation``, ``Composition`` …
        question: In the words of Gebru et al., shortened.
        text: What is known; :data:`UNKNOWN` where nothing is.
    """

    part: str
    question: str
    text: str

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return self.text != UNKNOWN


def answers(
    dataset: Dataset,
    origins: Mapping[str, int],
    groups: Sequence[str],
    proofs: int,
    purpose: str,
) -> Iterator[DatasheetAnswer]:
    """Answers the questions in their order.

    Args:
        dataset: Which one.
        origins: Its items by origin.
        groups: The attributes by which it tells groups of items.
        proofs: How many experiments were made on this very content.
        purpose: What it is for; empty where nobody said.
    """
    licence, consent = dataset.terms.get("licence", ""), dataset.terms.get("consent", "")
    counts = dataset.counts()
    by_split = ", ".join(f"{len(dataset.splits[s]):,} {NAMES[s]}" for s in SPLITS)
    made = {name: n for name, n in origins.items() if name != "real"}
    columns = [name for name in dataset.attributes or {} if name not in ("picture", "group")]
    part = "Motivation"
    yield DatasheetAnswer(part, "For what purpose was it created?", purpose or UNKNOWN)
    yield DatasheetAnswer(part, "Who created it, and who paid for it?", _said(dataset, "creator"))
    part = "Composition"
    yield DatasheetAnswer(
        part,
        "What do the items stand for?",
        f"{dataset.medium.describe(len(dataset), dataset.shape)}.",
    )
    yield DatasheetAnswer(
        part,
        "How many are there of each kind?",
        f"{len(dataset):,} items, {', '.join(f'{n:,} {name}' for name, n in origins.items())}; "
        + (f"{len(counts):,} classes." if dataset.classes else "no classes."),
    )
    yield DatasheetAnswer(
        part,
        "Is there a label or target?",
        f"A class for every item. Further columns: {', '.join(columns) or 'none'}."
        if dataset.classes
        else f"No label. Columns: {', '.join(columns) or 'none'}.",
    )
    yield DatasheetAnswer(
        part,
        "Are there recommended splits?",
        f"{by_split}. Equal contents lie in one split"
        + (f", and so do all items of one {dataset.group}." if dataset.group else "."),
    )
    yield DatasheetAnswer(part, "Are there errors, noise or redundancies?", _inspected(dataset))
    yield DatasheetAnswer(
        part,
        "Does it relate to people?",
        {
            "not needed": "Its owner says that consent is not needed: no people are shown, or the law asks for none.",
            "given": "Yes; its owner says that they agreed.",
            "withdrawn": "Yes; they agreed, and have withdrawn their consent.",
        }.get(consent, UNKNOWN),
    )
    yield DatasheetAnswer(
        part,
        "Does it identify groups of people or things?",
        f"By {', '.join(groups)}; see the table of groups." if groups else UNKNOWN,
    )
    part = "Collection"
    yield DatasheetAnswer(part, "How was each item acquired?", _acquired(dataset, made))
    yield DatasheetAnswer(part, "Over what time, and by whom?", UNKNOWN)
    yield DatasheetAnswer(
        part,
        "Were the people asked, and did they consent?",
        {
            "given": "Their consent was given, as its owner says.",
            "not needed": "Not needed, as its owner says.",
            "withdrawn": "It was given, and withdrawn since.",
        }.get(consent, UNKNOWN),
    )
    part = "Preparation"
    notes = " ".join(dataset.notes)
    yield DatasheetAnswer(part, "Was anything cleaned, scaled or left out?", notes or UNKNOWN)
    part = "Uses"
    yield DatasheetAnswer(
        part,
        "What has it been used for?",
        f"{many(proofs, 'experiment')} of this program on this very content; see the proof."
        if proofs
        else UNKNOWN,
    )
    yield DatasheetAnswer(
        part,
        "Is there anything that it should not be used for?",
        "Items that are not real must not be held-out items of an evaluation, nor be taken for real ones."
        if made
        else UNKNOWN,
    )
    part = "Distribution"
    yield DatasheetAnswer(
        part,
        "Under which licence?",
        f"{licence}." if licences.stated(licence) else UNKNOWN,
    )
    part = "Maintenance"
    yield DatasheetAnswer(
        part, "Who maintains it, and how are they reached?", _said(dataset, "maintainer")
    )
    yield DatasheetAnswer(
        part,
        "How are versions told apart?",
        f"By a fingerprint of all pixels, labels and splits: {dataset.fingerprint}."
        + (f" It was made from {dataset.parent}." if dataset.parent else ""),
    )


def _said(dataset: Dataset, term: str) -> str:
    said = dataset.terms.get(term, "").rstrip(".")
    return f"{said}, as its owner says." if said else UNKNOWN


def _acquired(dataset: Dataset, made: Mapping[str, int]) -> str:
    source = dataset.origin
    said = [f"From the source {source}." if source and source != dataset.name else ""]
    if made:
        listed = ", ".join(f"{n:,} {name}" for name, n in made.items())
        said.append(
            f"Not acquired but made: {listed} items; each names its parent, run, seed and parameters."
        )
    return " ".join(filter(None, said)) or UNKNOWN


def _inspected(dataset: Dataset) -> str:
    """Says what was mended on the way to this content, and what its newest inspection has found."""
    from core import quality

    job = quality.newest(dataset)
    found = quality.findings(job) if job is not None and not job.active else None
    said = [note for note in dataset.notes if note.startswith("Made from ")]
    if said:
        said = [f"Mended: {' '.join(said)}"]
        if found is None:
            said.append("This version itself was not inspected.")
    if found is not None:
        counts = ", ".join(f"{n:,} {kind}" for kind, n in found.counts.items() if n)
        said.append(f"An inspection of all items found: {counts or 'nothing'}.")
    return " ".join(said) or UNKNOWN

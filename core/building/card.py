"""A dataset on one page, to travel with it: what is inside, where it comes from, what it is for, and what is not known.

The page is the README of an export: a head in YAML, as the Hugging Face hub reads it, and Markdown. What nobody has
said or measured is written as not known; nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.building import bias, history, licences, marks
from core.building.bias import GroupShare
from core.building.datasheet import NAMES, DatasheetAnswer, answers
from core.building.experiment import proof
from core.building.version import ORIGINS, provenance
from core.building.watermark import PSNR
from core.datasets import SPLITS, Dataset
from core.ground import sheets
from core.ground.writing import one_line, percent, percents

FIGURES = ".figures"  # the folder of pictures beside the page: hidden, so that no reader takes them for items
_CLASSES = 60  # that are listed by name
_SHEETS = 20  # classes of which there is a picture
_SHOWN = 16  # items on it
_ROWS = 60  # of the table of groups


@dataclass(frozen=True)
class DatasetCard:
    """What is known of a dataset.

    Attributes:
        name, fingerprint: Of the dataset.
        parent: Fingerprint of the version that it was made from; None for one without.
        sentence: All in one sentence.
        counts: Items by class and split.
        origins: Items by origin.
        groups: Shares by class and attribute.
        remarks: What stands out among them.
        proofs: Experiments on this very content: ``job``, ``verdict``, ``cells`` … as they were kept.
        answers: The datasheet.
        terms: Its ``licence`` and ``consent``.
        purpose: What it leaves for; empty where nobody said.
        overrides: By the name of a check at the door, why it was overridden.
        plan: Hash of the plan that it was built by; empty without.
        privacy: ``epsilon``, ``delta``, ``unit``; None where nothing was promised.
        facts: What else is on record: ``drift`` and ``failures``, sentences each.
    """

    name: str
    fingerprint: str
    parent: str | None
    sentence: str
    counts: Mapping[str, Mapping[str, int]]
    origins: Mapping[str, int]
    groups: Sequence[GroupShare]
    remarks: Sequence[str]
    proofs: Sequence[Mapping[str, Any]]
    answers: Sequence[DatasheetAnswer]
    terms: Mapping[str, str]
    purpose: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""
    privacy: Mapping[str, Any] = field(default_factory=lambda: history.PRIVACY)
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Gives it in plain values."""
        plain = vars(self) | {
            "groups": [row.record() for row in self.groups],
            "answers": [vars(answer) | {"known": answer.known} for answer in self.answers],
            "proofs": [dict(proof) for proof in self.proofs],
            "terms": dict(self.terms),
        }
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}


def of(
    dataset: Dataset,
    *,
    purpose: str = "",
    overrides: Mapping[str, str] | None = None,
    right: np.ndarray | None = None,
) -> DatasetCard:
    """Puts the card of a dataset together.

    Args:
        dataset: Which one.
        purpose: What it leaves for, in words; empty where nobody said.
        overrides: By the name of a check at the door, why it was overridden.
        right: Whether a classifier was right on each item, as :func:`core.building.bias.table` takes it.
    """
    origin = provenance(dataset)["origin"].astype(str)
    known = dict.fromkeys(ORIGINS, 0) | dict(
        zip(*np.unique(origin, return_counts=True), strict=True)
    )
    origins = {str(name): int(count) for name, count in known.items() if count}
    rows = bias.table(dataset, right)
    columns = list(dict.fromkeys(row.column for row in rows if row.column != "class"))
    proofs = tuple(proof.proofs(dataset) or proof.proofs(dataset, quick=True))
    mixed = ", ".join(f"{n:,} {name}" for name, n in origins.items())
    what = dataset.medium.describe(len(dataset), dataset.shape)
    plan, overridden = history.plan_of(dataset)
    n = len(dataset.classes)
    classes = f" in {n:,} class{'es' * (n != 1)}" if n else ""
    return DatasetCard(
        dataset.name,
        dataset.fingerprint,
        dataset.parent,
        f"{what}{classes}: {mixed}.",
        dataset.counts(),
        origins,
        rows,
        bias.sentences(rows, right),
        proofs,
        tuple(answers(dataset, origins, columns, len(proofs), purpose)),
        {"licence": dataset.terms.get("licence", ""), "consent": dataset.terms.get("consent", "")},
        purpose,
        overridden | dict(overrides or {}),
        plan,
        history.privacy(dataset),
        {"drift": history.drifts(dataset), "failures": history.failing(dataset)},
    )


def readme(
    dataset: Dataset,
    *,
    files: Mapping[str, str] | None = None,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    figures: Iterable[str] = (),
    purpose: str = "",
    overrides: Mapping[str, str] | None = None,
    right: np.ndarray | None = None,
    watermarked: int = 0,
) -> str:
    """Writes the README of an export.

    Args:
        dataset: What is exported.
        files: By the name of a split in files (``train``, ``validation``, ``test``) the pattern of its files:
            ``data/train-*.parquet``. Without them the head names no files.
        features: The columns of the files as the ``huggingface`` schema of Parquet names them, all or none:
            ``{"label": {"names": […], "_type": "ClassLabel"}, "run": {"dtype": "string", "_type": "Value"}}``.
        figures: Names of the pictures that lie beside it, as :func:`figures` gives them.
        purpose, overrides, right: As :func:`of`.
        watermarked: How many items carry the invisible watermark of this server.

    Returns:
        YAML and Markdown; what a person has named cannot leave its place in either.
    """
    card = of(dataset, purpose=purpose, overrides=overrides, right=right)
    return "\n".join(
        (
            "---",
            *_head(dataset, card, files, features),
            "---",
            "",
            *_body(card, figures, watermarked),
        )
    )


def figures(dataset: Dataset) -> dict[str, bytes]:
    """Draws a sheet of each class, the first 20 of them, as PNG by the name of the file; all in one without classes."""
    train = dataset.splits["train"] if len(dataset.splits["train"]) else np.arange(len(dataset))
    drawn = {}
    for number, name in enumerate(dataset.classes[:_SHEETS] or ("all",)):
        of = train if dataset.y is None else train[dataset.y[train] == number]
        if len(of):
            some = of[np.linspace(0, len(of) - 1, min(len(of), _SHOWN)).astype(int)]
            plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
            file = f"{FIGURES}/{number:02d}{'-' if plain else ''}{plain}.png"
            x = dataset.pictures(some)
            mark = marks.of_sheet(dataset, some)
            drawn[file] = sheets.png(x, 8, scale=max(1, 64 // x.shape[-1]), gap=2, mark=mark)
    return drawn


# --- The head, YAML ---------------------------------------------------------------------------------------------------


def _head(
    dataset: Dataset,
    card: DatasetCard,
    files: Mapping[str, str] | None,
    features: Mapping[str, Mapping[str, Any]] | None,
) -> Iterator[str]:
    licence = licences.find(card.terms["licence"])
    if licence is None or licence.hub == "other":
        yield f"license: {'other' if licences.stated(card.terms['licence']) else 'unknown'}"
        if licences.stated(card.terms["licence"]):
            yield f"license_name: {_quoted(card.terms['licence'])}"
    else:
        yield f"license: {licence.hub}"
    yield f"pretty_name: {_quoted(card.name)}"
    task = "image-classification" if dataset.classes else "unconditional-image-generation"
    if dataset.medium.item == "picture":
        yield from ("task_categories:", f"- {task}")
    yield from ("size_categories:", f"- {_size(len(dataset))}")
    yield from ("tags:", "- simulacra")
    yield from (f"- {name}" for name in ORIGINS[1:] if card.origins.get(name))
    if files:
        yield from ("configs:", "- config_name: default", "  data_files:")
        for split, pattern in files.items():
            yield from (f"  - split: {split}", f"    path: {_quoted(pattern)}")
    if features:
        yield from ("dataset_info:", "  features:")
        for name, about in features.items():
            yield from _feature(name, about)
    yield "privacy:"
    yield from (f"  {name}: {json.dumps(value)}" for name, value in card.privacy.items())
    yield f"fingerprint: {_quoted(card.fingerprint)}"
    if card.plan:
        yield f"plan: {_quoted(card.plan)}"


def _feature(name: str, about: Mapping[str, Any]) -> Iterator[str]:
    """Writes a column as the hub writes those of a dataset."""
    yield f"  - name: {_quoted(name)}"
    if "names" in about:
        yield from ("    dtype:", "      class_label:", "        names:")
        yield from (f"          '{i}': {_quoted(str(n))}" for i, n in enumerate(about["names"]))
    else:
        yield f"    dtype: {about.get('dtype') or str(about.get('_type', 'string')).lower()}"


def _size(n: int) -> str:
    """Gives the hub's word for a number of items."""
    words = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return words[min(sum(n >= 10**k for k in range(3, 9)), 6)]


def _quoted(text: str) -> str:
    """Writes a text as YAML, whatever it holds: in double quotes, all that is not printable as its number.

    >>> _quoted('a: "b"\\n')
    '"a: \\\\"b\\\\"\\\\n"'
    """

    def sign(char: str) -> str:
        if char in '"\\':
            return "\\" + char
        if char.isprintable() and char != "\ufeff":
            return char
        code = ord(char)
        if 0xD800 <= code < 0xE000:  # half a pair: no text
            return "\\uFFFD"
        return {"\n": "\\n", "\t": "\\t"}.get(char) or (
            f"\\x{code:02X}"
            if code < 256
            else f"\\u{code:04X}"
            if code < 65536
            else f"\\U{code:08X}"
        )

    return '"' + "".join(map(sign, text)) + '"'


_ACTIVE = re.compile(
    r"[\\`*_{}\[\]<>|#~&$^]|:(?=\S)|(?<=-)-|^[-+=]|(?<=\bwww)\.|(?<=^\d)[.)]", re.IGNORECASE
)


def _words(text: str) -> str:
    """Writes a text in a line of Markdown that is read letter by letter, here and on the hub, and no more escaped than
    that needs.

    >>> _words("a|b: <i> https://x.org @you, 50 %")
    'a\\\\|b: \\\\<i\\\\> https\\\\://x.org @\\u2060you, 50 %'
    """
    return _ACTIVE.sub(r"\\\g<0>", one_line(text)).replace("@", "@\u2060")


# --- The page, Markdown -----------------------------------------------------------------------------------------------


def _body(card: DatasetCard, figures: Iterable[str], watermarked: int) -> Iterator[str]:
    yield from (f"# {_words(card.name) or 'A dataset'}", "", _words(card.sentence), "")
    made = sum(n for name, n in card.origins.items() if name != "real")
    if made:
        total = sum(card.origins.values())
        yield (
            f"**{made:,} of its {total:,} items are not real** ({percent(made / total)}). Each says so in its column "
            "`origin`, and each PNG in its XMP (`DigitalSourceType`).\n"
        )
    if watermarked:
        yield (
            f"The pixels of {watermarked:,} synthetic items carry an invisible watermark (PSNR from {PSNR:.0f} dB). "
            "Whoever exported this can find it; its absence proves nothing.\n"
        )
    yield from ("## What is inside", "")
    yield from _table(("class", *NAMES.values(), "all"), _counted(card.counts))
    yield from ("", "| origin | items | share |", "|---|---:|---:|")
    total = sum(card.origins.values())
    yield from (f"| {name} | {n:,} | {percent(n / total)} |" for name, n in card.origins.items())
    yield ""
    for file in figures:
        what = file.rpartition("/")[2].removesuffix(".png")
        yield f"![Some items: {what}](<{file}>)"
    yield from ("", "## Groups", "")
    yield from _grouped(card)
    yield from ("", "## Does it help?", "")
    yield from _proved(card.proofs)
    for key, title in (("drift", "Drift"), ("failures", "Where models fail on it")):
        yield from ("", f"## {title}", "")
        yield from ([f"- {_words(text)}" for text in card.facts.get(key, ())] or ["Not measured."])
    yield from ("", "## Terms, and the checks at the door", "")
    yield f"- Licence: {_words(card.terms['licence']) or 'not known'}"
    yield f"- Consent of the people shown: {_words(card.terms['consent']) or 'not known'}"
    yield f"- It leaves for: {_words(card.purpose) or 'not said'}"
    yield f"- Privacy: {'no bound was promised' if card.privacy['epsilon'] is None else json.dumps(card.privacy)}"
    if card.overrides:
        yield from ("- Overridden at the door, with the reason that was given:",)
        yield from (f"  - `{name}`: {_words(why)}" for name, why in card.overrides.items())
    else:
        yield "- No check at the door was overridden."
    yield from ("", "## How it was made", "", f"- Fingerprint: `{card.fingerprint}`")
    yield f"- Made from: {f'`{card.parent}`' if card.parent else 'no other version'}"
    yield f"- Plan: {f'`{one_line(card.plan)}`' if card.plan else 'none'}"
    yield from ("", "## Datasheet", "")
    part = ""
    for answer in card.answers:
        if answer.part != part:
            part = answer.part
            yield from (f"### {part}", "")
        yield from (f"**{answer.question}** {_words(answer.text)}", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' if i == 0 else '---:' for i in range(len(head)))}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _counted(counts: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    def row(name: str, of: Iterable[Mapping[str, int]]) -> tuple[str, ...]:
        numbers = [sum(each[split] for each in of) for split in SPLITS]
        return (name, *(f"{n:,}" for n in (*numbers, sum(numbers))))

    listed = list(counts.items())
    yield from (row(_words(name) or "(no name)", [each]) for name, each in listed[:_CLASSES])
    if rest := listed[_CLASSES:]:
        yield row(f"{len(rest):,} more", [each for _, each in rest])
    if len(listed) > 1:
        yield row("all", [each for _, each in listed])


def _grouped(card: DatasetCard) -> Iterator[str]:
    if not card.groups:
        yield "It has no classes and no attributes with a few values."
        return
    told = any(row.accuracy for row in card.groups)
    head = ("group", "items", "share of all (95 %)", *(("accuracy (95 %)",) if told else ()), "")

    def cells(row: GroupShare) -> Iterator[str]:
        yield f"{_words(row.column)} {_words(row.value)}"
        yield f"{row.n:,}"
        yield f"{percent(row.share.value)} ({percents(*row.share.interval)})"
        if told:
            got = row.accuracy
            yield (
                f"{percent(got.value)} ({percents(*got.interval)}), n = {got.n:,}"
                if got and got.n
                else "–"
            )
        yield row.verdict

    yield from _table(head, [tuple(cells(row)) for row in card.groups[:_ROWS]])
    if len(card.groups) > _ROWS:
        yield f"\n{len(card.groups) - _ROWS:,} more groups are left out here."
    yield from (f"\n- {_words(text)}" for text in card.remarks)


def _proved(proofs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not proofs:
        yield "Not measured: no finished experiment was made on this very content."
    for found in proofs[:3]:
        cells = found.get("cells", ())
        yield f"Experiment `{found['job']}`, {found.get('n_test', 0):,} real test images:"
        yield ""
        robust = any(cell.get("robust") for cell in cells)
        yield from _table(
            (
                *("arm", "images per class", "pairs", "accuracy", "effect in points (95 %)"),
                *(("under attack (95 %)",) if robust else ()),
                "verdict",
            ),
            [tuple(_cell(found, cell, robust)) for cell in cells],
        )
        yield f"\n{_words(str(found.get('verdict') or 'No verdict.'))}\n"
        if found.get("quick"):
            yield "A first look with few pairs, which proves nothing yet.\n"
        worth = [cell["worth"]["sentence"] for cell in cells if cell.get("worth")]
        yield from (f"- {_words(text)}" for text in worth if text)
    if said := proof.agreement(list(map(dict, proofs))):
        yield f"\n{_words(said)}"


def _cell(found: Mapping[str, Any], cell: Mapping[str, Any], robust: bool) -> Iterator[str]:
    """Writes one arm at one size: how right it was, and what it changed."""
    yield _words(str(found.get("arms", {}).get(cell["arm"], cell["arm"])))
    yield f"{cell['size']:,}"
    yield f"{cell['n']:,}"
    yield f"{cell['mean']:.1f} %"
    yield _effect(cell)
    if robust:
        yield _effect(cell.get("robust") or {})
    yield _words(str(cell.get("verdict") or "–"))


def _effect(cell: Mapping[str, Any]) -> str:
    """Writes an effect in points with its interval, as far as they are known."""
    if cell.get("effect") is None:
        return "–"
    sure = "" if cell.get("low") is None else f" ({cell['low']:+.1f} to {cell['high']:+.1f})"
    return f"{cell['effect']:+.1f}{sure}"

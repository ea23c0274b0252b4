"""A release against the one before it: the same images under the same attacks, and whether it has become worse.

One criterion is fixed beforehand: the share of images that withstand every attack at the strength of the baseline's
headline, over all classes. It is worse where the whole 95 % interval of its paired change lies below 0. What happened
without an attack and in each class is shown beside it and decides nothing; the p values of the classes are corrected
for how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from core.catalog import UserError
from core.datasets import Dataset, evenly
from core.ground.stats import Estimate, holm, mcnemar, paired_change, share
from core.ground.writing import letters, one_line, percent, percents, points
from core.norms import NEAR
from core.robustness.attacks import attacks
from core.robustness.config import StudyConfig, names_of, settings_of
from core.robustness.store import Report

METHOD = (
    "Paired differences of the same images with Tango's score interval (95 %); p by the exact test of McNemar, of the "
    "classes corrected by Holm's method."
)


@dataclass(frozen=True)
class PairedChange:
    """How a share of the same images has changed.

    Attributes:
        name: Of what: a class, or a sentence.
        before, after: The share, each with its own interval.
        change: The paired difference, from -1 to 1.
        p: Probability of a difference as large by chance.
    """

    name: str
    before: Estimate
    after: Estimate
    change: Estimate
    p: float

    @classmethod
    def of(cls, name: str, before: np.ndarray, after: np.ndarray) -> PairedChange:
        """Compares two masks of the same images, (N,)."""
        gained, lost = int((~before & after).sum()), int((before & ~after).sum())
        change = paired_change(gained, lost, len(before))
        return cls(name, share(before), share(after), change, mcnemar(gained, lost))

    @property
    def worse(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.change.high < 0

    @property
    def better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.change.low > 0

    @property
    def text(self) -> str:
        """The change and its interval in points."""
        low, high = (points(end) for end in self.change.interval)
        return f"{points(self.change.value)} points ({low} to {high})"

    @property
    def chance(self) -> str:
        """The probability, for people."""
        return f"p = {self.p:.2g}" if self.p >= 0.001 else "p < 0.001"

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return {
            "name": self.name,
            "n": self.change.n,
            "before": self.before.value,
            "after": self.after.value,
            "change": self.change.value,
            "interval": list(self.change.interval),
            "p": self.p,
        }


@dataclass(frozen=True)
class Release:
    """A report beside that of the release before it.

    Attributes:
        baseline, report: The two; of the same images under the same attacks.
        clean: The share that is named rightly without an attack.
        robust: The share that withstands every attack at the baseline's headline, which alone decides.
        classes: The same of each class; their p values are corrected by Holm's method.
        notes: What to keep in mind.
    """

    baseline: Report
    report: Report
    clean: PairedChange
    robust: PairedChange
    classes: tuple[PairedChange, ...]
    notes: tuple[str, ...]

    @property
    def strength(self) -> str:
        """The strength that is compared, for people."""
        return self.baseline.head.text

    @property
    def word(self) -> str:
        """What the interval of the change shows."""
        robust = self.robust
        return "Worse" if robust.worse else "Better" if robust.better else "Not shown to be worse"

    @property
    def sentence(self) -> str:
        """What is to be said of it."""
        robust, name = self.robust, self.baseline.model["name"]
        sure = "is more than chance" if robust.worse or robust.better else "may be chance"
        return (
            f"{self.word} than {name}: {percent(robust.after.value)} of {robust.change.n} images "
            f"withstand every attack of {self.strength}, {percent(robust.before.value)} did before. "
            f"The change of {robust.text} {sure}."
        )

    @property
    def rows(self) -> tuple[PairedChange, ...]:
        """Everything that is compared, what decides first."""
        return (self.robust, self.clean, *self.classes)

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return {
            "model": self.baseline.model["name"],
            "eps": self.baseline.headline,
            "worse": self.robust.worse,
            "sentence": self.sentence,
            "robust": self.robust.record(),
            "clean": self.clean.record(),
            "classes": [row.record() for row in self.classes],
            "notes": list(self.notes),
            "method": METHOD,
        }


def against(baseline: Report, report: Report) -> Release:
    """Compares a report with that of the release before it, image by image.

    Raises:
        UserError: If they are not of the same images under the same attacks, or one of them is not complete.
    """
    whole(baseline)
    if not report.complete:
        raise UserError(
            f"The new measurement is not complete ({report.stopped or 'it is still at work'}), so it cannot be "
            "compared. Let it come to its end."
        )
    _same(_conditions(baseline), _conditions(report))
    theirs, ours = (list(each.model["classes"]) for each in (baseline, report))
    if theirs != ours:
        raise UserError(
            f"The baseline tells the classes {', '.join(theirs[:5])} apart, the new model {', '.join(ours[:5])}. "
            "Compare classifiers of the same classes in the same order."
        )
    pairs = list(zip(baseline.images, report.images, strict=True))
    eps = baseline.headline + NEAR
    clean, stands = (
        tuple(np.array(flags) for flags in zip(*found, strict=True))
        for found in (
            [(old.right, new.right) for old, new in pairs],
            [(old.stands(eps), new.stands(eps)) for old, new in pairs],
        )
    )
    labels = np.array([old.label for old, _ in pairs])
    classes = [
        PairedChange.of(name, *(mask[labels == name] for mask in stands))
        for name in ours
        if (labels == name).any()
    ]
    adjusted = holm([row.p for row in classes])
    classes = [
        PairedChange(row.name, row.before, row.after, row.change, p)
        for row, p in zip(classes, adjusted, strict=True)
    ]
    return Release(
        baseline,
        report,
        PairedChange.of("Right without an attack", *clean),
        PairedChange.of(f"Withstands every attack of {baseline.head.text}", *stands),
        tuple(classes),
        tuple(_notes(baseline, report)),
    )


def _notes(baseline: Report, report: Report) -> list[str]:
    notes = [
        f"The {what} measurement is to be read with care: {one.verdict.sentence}"
        for what, one in (("old", baseline), ("new", report))
        if not one.verdict.believable
    ]
    changed = [
        f"{name} {old} and {report.versions[name]}"
        for name, old in baseline.versions.items()
        if report.versions.get(name, old) != old
    ]
    return notes + ([f"Measured with other versions: {', '.join(changed)}."] if changed else [])


# --- What has to be the same ----------------------------------------------------------------------------------------


def whole(baseline: Report) -> None:
    """Refuses a baseline that nothing can be compared with.

    Raises:
        UserError: If it is not complete, no attack was tried, or it does not say which images it is of.
    """
    if not baseline.complete:
        raise UserError(
            f"The baseline is not complete ({baseline.stopped or 'it is still at work'}). "
            "Take a report that has come to its end."
        )
    if not baseline.headline or not baseline.data.get("fingerprint"):
        raise UserError(
            "The baseline does not say which images of which dataset withstood which attack. "
            "Take the report.json of python -m core attack --out FOLDER, or of this page."
        )


def study_of(baseline: Report) -> StudyConfig:
    """Gives the config that repeats the study of a baseline.

    Raises:
        UserError: If the report does not hold it, or this version does not know a value.
    """
    whole(baseline)
    known = StudyConfig.knobs()
    values = {name: value for name, value in baseline.config.items() if name in known}
    if not values:
        raise UserError(
            "The baseline is of an early version that did not write its settings down. "
            "Attack the old model once more, and take that report."
        )
    return StudyConfig.of(values, "attack")


def allow(baseline: Report, dataset: Dataset, config: StudyConfig) -> None:
    """Refuses a study that could not be compared with a baseline, before anything is computed.

    Raises:
        UserError: With what is different.
    """
    whole(baseline)
    names = names_of(config, dataset.medium)
    settings = settings_of(config, names)
    budget = config.budget(dataset)
    strengths = budget.read(config.eps) or budget.sweep()
    ahead = {
        "fingerprint": dataset.fingerprint,
        "split": config.split,
        "images": [int(i) for i in evenly(dataset.splits[config.split], config.n)],
        "norm": config.norm,
        "strengths": _rounded(strengths),
        "seed": config.seed,
        "draws (EOT)": config.eot,
        "BPDA": config.bpda,
        "attacks": {name: _parameters(name, settings[name]) for name in names},
    }
    _same(_conditions(baseline), ahead)


def _conditions(report: Report) -> dict[str, Any]:
    return {
        "fingerprint": report.data.get("fingerprint"),
        "split": report.data.get("split"),
        "images": [image.index for image in report.images],
        "norm": report.norm,
        "strengths": _rounded([row.eps for row in report.results]),
        "seed": report.data.get("seed"),
        "draws (EOT)": report.model.get("eot", 1),
        "BPDA": report.model.get("bpda", False),
        "attacks": {tried.name: _parameters(tried.name, tried.parameters) for tried in report.attacks},
    }  # fmt: skip


def _parameters(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Completes the parameters of an attack; those that an older version did not have stand as they are by default."""
    return attacks.get(name).config.of(dict(values), name).record()


def _rounded(strengths: Sequence[float]) -> list[float]:
    return [round(eps, 5) for eps in strengths if eps > 0]


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Says what is different.

    Raises:
        UserError: If anything is.
    """
    if old["fingerprint"] != new["fingerprint"]:
        raise UserError(
            f"The baseline is of other images: its dataset has the fingerprint {str(old['fingerprint'])[:12]}, "
            f"this one {str(new['fingerprint'])[:12]}. Restore the dataset, or attack the old model on this one first."
        )
    if old["images"] != new["images"] and old["split"] == new["split"]:
        raise UserError(
            f"The baseline is of {len(old['images'])} images, this study of {len(new['images'])} or of others among "
            "them. Leave the number of images out, so that it is the baseline's."
        )
    tried = [sorted(each["attacks"]) for each in (old, new)]
    if tried[0] != tried[1]:
        raise UserError(
            f"The baseline was attacked by {', '.join(tried[0])}, this study attacks by {', '.join(tried[1])}. "
            "Leave the attacks out, so that they are the baseline's."
        )
    pairs = {name: (old[name], new[name]) for name in old if name != "attacks"}
    for attack in tried[0]:
        theirs, ours = old["attacks"][attack], new["attacks"][attack]
        pairs |= {f"{attack}.{name}": (theirs.get(name), value) for name, value in ours.items()}
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise UserError(
                f"The baseline was measured with {name} {theirs}, this study with {ours}. "
                "Leave it out, so that it is the baseline's; or attack the old model in the new way first."
            )


# --- For pipelines --------------------------------------------------------------------------------------------------


def markdown(release: Release) -> str:
    """Writes the comparison as Markdown, as pipelines show it beside a change."""
    lines = [
        f"### Robustness: {release.word.lower()}",
        "",
        letters(release.sentence),
        "",
        f"| | n | {letters(release.baseline.model['name'])} | {letters(release.report.model['name'])} "
        "| change in points (95 %) | p |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {'**' if row is release.robust else ''}{letters(row.name)}{'**' if row is release.robust else ''} "
            f"| {row.change.n} | {percent(row.before.value)} | {percent(row.after.value)} "
            f"| {row.text.replace(' points', '')} | {row.chance.removeprefix('p = ').removeprefix('p ')} |"
            for row in release.rows
        ),
        "",
        f"{METHOD} The first row alone decides.",
        *(f"\n{letters(note)}" for note in release.notes),
    ]
    return "\n".join(lines) + "\n"


def junit(release: Release, floor: float | None = None) -> str:
    """Writes the comparison as JUnit's XML: what decides fails or passes, what is shown beside it passes.

    Args:
        release: The comparison.
        floor: Share that must be robust whatever the baseline, as ``--min-robust`` asks; None asks for none.
    """
    report, robust = release.report, release.robust
    where = f"robustness.{one_line(str(report.data.get('name', 'arrays')))}"
    cases: list[tuple[str, str, str]] = [  # name, why it fails, what is said
        ("not worse than the baseline", release.sentence if robust.worse else "", release.sentence)
    ]
    if floor is not None:
        said = (
            f"{percent(report.head.robust)} are robust ({percents(*report.head.interval)}), asked for are "
            f"{percent(floor)}. {report.verdict.sentence}"
        )
        cases.append((f"robust: {percent(floor)}", said if short(report, floor) else "", said))
    for row in (release.clean, *release.classes):
        name = row.name if row is release.clean else f"class {row.name}"
        said = f"{percent(row.before.value)} before, {percent(row.after.value)} now: {row.text}"
        cases.append((name, "", f"{said}, {row.chance}, n = {row.change.n}"))
    suite = ElementTree.Element(
        "testsuite",
        name=where,
        tests=str(len(cases)),
        failures=str(sum(bool(why) for _, why, _ in cases)),
        errors="0",
        skipped="0",
        time=f"{report.seconds:.3f}",
    )
    about = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("baseline", release.baseline.model["name"]),
        ("model", report.model["name"]),
        ("fingerprint", report.data["fingerprint"]),
        ("strength", release.strength),
        ("attacks", ", ".join(tried.name for tried in report.attacks)),
        ("method", METHOD),
        *(("note", note) for note in release.notes),
    ):
        ElementTree.SubElement(about, "property", name=name, value=one_line(str(value)))
    for number, (name, why, said) in enumerate(cases):
        spent = report.seconds if not number else 0.0
        case = ElementTree.SubElement(
            suite, "testcase", classname=where, name=one_line(name), time=f"{spent:.3f}"
        )
        if why:
            failure = ElementTree.SubElement(case, "failure", type="worse", message=one_line(why))
            failure.text = one_line(why)
        ElementTree.SubElement(case, "system-out").text = one_line(said)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, "unicode", xml_declaration=True) + "\n"


def short(report: Report, floor: float) -> bool:
    """Tells whether less than a share is robust, or whether that is not known well enough to say so."""
    return report.head.robust < floor or not report.verdict.believable or not report.complete

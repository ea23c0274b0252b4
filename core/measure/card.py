"""A model on one page: what it does and how sure that is, what it is for, its data, when it was made and by whom.

What the measures do not say, its owner may: the words are kept with the run, in ``card.json``. Pages and reports draw
the same card.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from filelock import FileLock

from core import datasets, jobs, runs
from core.catalog import UserError
from core.ground import files
from core.ground.settings import settings
from core.ground.writing import day, duration, percent, percents
from core.measure.metrics import Measurement
from core.measure.store import Evaluation, latest
from core.measure.verdict import Claim, claims, near, overall, verdict
from core.media import media
from core.models import LAYERS, Spec, families

SAID = ("use", "limits", "who")  # what an owner may say
LONGEST = 2000  # signs of each
UNKNOWN = "not recorded"
TERMS = {"licence": "Licence of the images", "consent": "Consent of the people shown"}  # as facts
UNMEASURED = "It has not been measured yet, so nothing can be said of its quality."


@dataclass(frozen=True)
class Fact:
    """One thing that is on record.

    Attributes:
        name: Of what.
        text: What the record says; :data:`UNKNOWN` where it says nothing.
        remedy: How it would come to be known; empty where it is.
    """

    name: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What a model is, on one page.

    Attributes:
        run, name: Of the run.
        sentence: All in one sentence.
        claims: What it is good at, where it fails, whether it copies; none for a model that was not measured.
        use: What it is meant for.
        limits: What it must not be taken for, in sentences.
        said: Which of :data:`SAID` are its owner's own words; the others follow from measures and records.
        facts: Its data and their terms, when it was trained and measured, by whom.
        evaluation: Behind the claims; None for a model that was not measured.
    """

    run: str
    name: str
    sentence: str
    claims: tuple[Claim, ...]
    use: str
    limits: tuple[str, ...]
    said: tuple[str, ...]
    facts: tuple[Fact, ...]
    evaluation: Evaluation | None

    def fact(self, name: str) -> Fact:
        """Finds what is on record under a name."""
        return next(fact for fact in self.facts if fact.name == name)


def of(run: jobs.Job, evaluation: Evaluation | None = None) -> ModelCard:
    """Puts the card of a run together.

    Args:
        run: A generative model.
        evaluation: The one that it goes by; the newest one without it.

    Raises:
        UserError: If the run has no record, or a file of it is damaged.
    """
    evaluation = evaluation or latest(run)
    record, said = runs.record(run), words(run)
    facts = tuple(_facts(run, record, evaluation, said.get("who", "")))
    limits = said["limits"].splitlines() if "limits" in said else _limits(record, evaluation, facts)
    return ModelCard(
        run.id,
        run.name,
        UNMEASURED if evaluation is None else overall(evaluation),
        () if evaluation is None else claims(evaluation),
        said.get("use") or _use(record, evaluation),
        tuple(filter(None, limits)),
        tuple(said),
        facts,
        evaluation,
    )


def words(run: jobs.Job) -> dict[str, str]:
    """Reads what the owner of a run has said, by the names of :data:`SAID`; nothing is left out.

    Raises:
        UserError: If the file is damaged.
    """
    file = run.path / "card.json"
    content = files.read_json(file) if file.exists() else {}
    return {name: text for name in SAID if isinstance(text := content.get(name), str) and text}


def state(run: jobs.Job, **said: str) -> None:
    """Keeps what the owner of a run says; an empty text goes back to what the measures say.

    Args:
        run: Of which.
        said: By the names of :data:`SAID`; what is not named stays.

    Raises:
        UserError: If the server is view-only, the run ships with the code, or a text is too long.
    """
    settings().allow_change("say what a model is for")
    run = jobs.own(run.id, "described")
    for name, text in said.items():
        if len(text) > LONGEST:
            raise UserError(
                f"{name} must have at most {LONGEST:,} characters, got {len(text):,}. Say it in fewer words."
            )
    file = run.path / "card.json"
    with files.full_disk_told(), FileLock(file.with_suffix(".lock")):
        kept = words(run) | {name: text.strip() for name, text in said.items()}
        files.write_json(file, {name: text for name, text in kept.items() if text})


# --- What is on record ----------------------------------------------------------------------------------------------


def _facts(
    run: jobs.Job, record: dict[str, Any], evaluation: Evaluation | None, who: str
) -> Iterator[Fact]:
    from core import brought

    kind = runs.family_of(run)
    entries = families if kind in families else brought.origins
    step = evaluation.step if evaluation else runs.preferred(run)
    images = min(step * record["train"]["batch"], record["train"]["images"])
    yield Fact("Kind of model", entries.get(kind).title if kind in entries else kind)
    yield Fact(
        "Learned from" if images else "Brought for images as of", _data(record, images, step)
    )
    yield from _terms(record["dataset"])
    if (
        "terms" in record
    ):  # it was brought, or began with what was, and stands under terms of its own
        remedy = "Say it on the page Train, under Licence of the model."
        for key, title in (
            ("licence", "Licence of the model"),
            ("consent", "Consent for the model"),
        ):
            known = str(record["terms"].get(key, "")).replace("unknown", "")
            yield Fact(title, known or UNKNOWN, "" if known else remedy)
    if text := descent(record):
        yield Fact(
            "Started from",
            text,
            "Its own card says under which terms that was." if _other(record) else "",
        )
    trained = day(run.created)
    if seconds := run.state.get("seconds"):
        trained += f", in {duration(seconds)}" + (" until now" if run.active else "")
    yield Fact("Trained" if images else "Brought", trained)
    yield (
        Fact("Measured", "not yet", "Press Measure on the page Evaluate.")
        if evaluation is None
        else Fact(
            "Measured",
            f"{day(evaluation.created)}, with {evaluation.conditions.get('n_samples', 0):,} pictures of its own beside "
            f"{evaluation.conditions.get('n_reference', 0):,} real ones of the "
            f"{evaluation.conditions.get('reference')} split",
        )
    )
    who = who or ("" if run.who == "command line" else run.who)
    yield Fact("Made by", who or UNKNOWN, "" if who else "Say it with Edit on the page About.")


def _data(record: dict[str, Any], images: int, step: int) -> str:
    """Says what it learned from, and how often it looked at that."""
    spec, source = Spec.of(record["spec"]), record["dataset"]
    count, classes = source["images"]["train"], len(source["classes"])
    text = f"{_title(source)}: {media.get(spec.medium).describe(count, runs.blank(spec).shape)}"
    text += f", {classes} classes" if classes > 1 else ""
    times = images / max(1, count)
    if images:
        text += f"; it had looked at {images:,} by step {step:,}"
        text += f", at each one about {times:.0f} times" if times > 1.5 else ""
    return text


def descent(record: dict[str, Any]) -> str:
    """Says which run a training started from, and what was learned anew of it; empty for one from nothing."""
    if (parent := record.get("parent")) is None:
        return ""
    text = f"{parent['name']} at step {parent['step']:,}"
    if old := _other(record):
        text += f", which had learned from {_title({'name': old})}"
    if further := record.get("further"):
        rank = f", rank {further['rank']}" if further["layers"] == "lora" else ""
        text += f"; learned anew: {LAYERS[further['layers']]}{rank}"
    if new := parent.get("classes", {}).get("new"):
        text += f"; new classes: {', '.join(new[:12])}" + (" …" if len(new) > 12 else "")
    return text


def _other(record: dict[str, Any]) -> str:
    """Names the dataset that the run had learned from which a training started from; empty where it is the same."""
    changed = record.get("parent", {}).get("changed", {})
    return str(changed["dataset"][0]) if "dataset" in changed else ""


def _title(source: dict[str, Any]) -> str:
    name = source["name"]
    return datasets.describe(name).title if name in datasets.names() else name


def _terms(source: dict[str, Any]) -> Iterator[Fact]:
    """Says under which licence the training images stand, and whether the people on them agreed."""
    name = source["name"]
    remedy = "Say it on the page Data, with Versions, under Licence and consent."
    try:
        terms = datasets.terms(name, source["config"] if name in datasets.datasets else None)
    except UserError:
        terms, remedy = {}, f"The dataset {name} is not here any more. Import it again to say it."
    for key, title in TERMS.items():
        known = terms.get(key, "")
        yield Fact(title, known or UNKNOWN, "" if known else remedy)


# --- What follows from the measures ---------------------------------------------------------------------------------


def _use(record: dict[str, Any], evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "To look at it and to learn from it."
    copies = verdict(evaluation).copies
    if copies:
        return (
            "To study how a model copies. Its pictures are near copies of training images, whose licence and consent "
            "hold for them too."
        )
    measured = [evaluation.get(name) for name in ("precision", "coverage")]
    if copies is False and all(m is not None and near(m) for m in measured):
        return (
            f"Pictures like those of {_title(record['dataset'])}, to show and to teach with; as additional training "
            "images where an experiment says that they help."
        )
    return "To show and to teach with. Its pictures do not stand in for real ones."


def _limits(
    record: dict[str, Any], evaluation: Evaluation | None, facts: tuple[Fact, ...]
) -> Iterator[str]:
    names = record["dataset"]["classes"]
    of = f": {', '.join(names)}" if 1 < len(names) <= 12 else ""
    old = f" and what was left of {_title({'name': other})}" if (other := _other(record)) else ""
    yield f"It knows nothing but {_title(record['dataset'])}{of}{old}."
    if evaluation is None:
        yield "Whether its pictures could be real, what it leaves out and whether it copies is not known."
    else:
        if (precision := evaluation.get("precision")) is not None:
            yield _lack(precision, "of its pictures lie outside what real ones look like")
        if (coverage := evaluation.get("coverage")) is not None:
            yield _lack(coverage, "of the real pictures have nothing like them among its own")
        if verdict(evaluation).copies is not False:
            yield "Look at the pairs on the page Evaluate before its pictures are passed on as new ones."
        yield from evaluation.warnings
    if any(fact.text == UNKNOWN for fact in facts if fact.name in TERMS.values()):
        yield "Find out the terms of its training images before its pictures are passed on."


def _lack(m: Measurement, words: str) -> str:
    """Says what a share leaves out, with its interval and with what real images leave out."""
    assert m.value is not None
    sure = f" ({percents(1 - m.interval[1], 1 - m.interval[0], 0)})" if m.interval else ""
    usual = (
        f"; of real ones in their place {percent(1 - m.floor, 0)}" if m.floor is not None else ""
    )
    return f"{percent(1 - m.value, 0)}{sure} {words}{usual}."

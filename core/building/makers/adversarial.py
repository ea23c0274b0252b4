"""Training items that an attack has changed until a classifier took them for another class; they keep their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from core.building.makers import Items, Row, Work, makers, spread
from core.building.makers.synthetic import SHOWN
from core.building.version import generators, provenance
from core.catalog import Config, UserError, knob, parse
from core.datasets import Dataset
from core.ground.writing import many

_ROUNDS = 1000  # an item's starts have ids of their own up to so many


class AdversarialConfig(Config):
    """Which attack, and on which classifier."""

    attack: str = knob("pgd", "The attack that changes them, as Robustness names it.")
    classifier: str = knob(
        "",
        "The classifier that is attacked: the id or name of a run, or of what was brought; empty is the dataset's own.",
        title="Classifier",
    )
    eps: str = knob(
        "", "How large a change may be, as 8/255; empty is what is usual for such items."
    )
    norm: Literal["linf", "l2", "l1"] = knob("linf", "What measures a change.")
    settings: str = knob(
        "", "Parameters of the attack, as steps=20 loss=margin; empty for the usual ones.",
        advanced=True,
    )  # fmt: skip
    step: int = knob(
        0, "Of the classifier's checkpoint; 0 is the best one.", ge=0, le=10**12, log=True,
        advanced=True,
    )  # fmt: skip
    fooling: bool = knob(
        True,
        "Only items that fool the classifier, after they were rounded to the levels of the dataset.",
    )


def _pin(
    config: AdversarialConfig, dataset: Dataset, overrides: Mapping[str, str]
) -> AdversarialConfig:
    from core import brought, jobs, runs
    from core.building.optout import allow_run
    from core.norms import Budget, norm_of
    from core.robustness import classifiers
    from core.robustness.attacks import attacks, ready

    if not dataset.labelled or len(dataset.classes) < 2:
        raise UserError(
            f"{dataset.name} has no classes to be confused, so no item can be adversarial. Take another source."
        )
    entry = ready(config.attack)
    entry.allow(dataset.medium.item, attacks)
    entry.config.of(parse(config.settings.replace(",", " ").split()), config.attack)
    norm = norm_of(config.norm)
    if norm not in entry.norms:
        allowed = ", ".join(known.name for known in entry.norms)
        raise UserError(
            f"{entry.title} must be bounded by one of {allowed}, got {config.norm}. Choose one of these."
        )
    budget = Budget(norm, dataset.shape, dataset.medium.name)
    read = budget.read(config.eps) or [budget.usual]
    if len(read) > 1 or not read[0]:
        raise UserError(
            f"eps must be one number above 0, got {config.eps!r:.80}. For example {norm.text(budget.usual)}."
        )
    id = classifiers.find(config.classifier)
    step = config.step
    if id and not brought.holds(id):
        run = jobs.get(id)
        allow_run(run, dataset, overrides)
        step = step or runs.preferred(run)
    return config.model_copy(update={"classifier": id, "step": step, "eps": repr(read[0])})


@makers.add("adversarial", "Adversarial", AdversarialConfig, pin=_pin, draws=True)
def adversarial(config: AdversarialConfig, work: Work) -> Iterator[Items]:
    """Attacks training items, and keeps what fools the classifier, with the label that it had."""
    import torch

    from core import brought, jobs
    from core.norms import norm_of
    from core.robustness import attacks, classifiers
    from core.target import Target

    dataset = work.dataset
    assert dataset.y is not None
    made = np.where(provenance(dataset)["origin"] == "real", "", generators(dataset))
    if config.classifier and not brought.holds(config.classifier):
        target = Target.of(classifiers.of_run(jobs.get(config.classifier), config.step or None))
        if target.classes != tuple(dataset.classes):
            raise UserError(
                f"{target.name} tells {len(target.classes)} classes apart, and {dataset.name} has "
                f"{len(dataset.classes)}. Choose a classifier of this dataset."
            )
    else:
        target = classifiers.target_of(config.classifier, dataset, work.watch.part(0.0, 0.2))
    target.on_pass = work.watch.check
    eps, norm = float(config.eps), norm_of(config.norm)
    values = parse(config.settings.replace(",", " ").split())
    total, done, drawn, shown = int(work.wanted.sum()), 0, 0, 0
    short: list[str] = []
    for label, wanted in enumerate(work.wanted):
        left = int(wanted)
        if not left:
            continue
        parents = work.parents(label)
        for some, number in spread(parents, work.gate.tries * max(left, len(parents))):
            if left <= 0:
                break
            for part in np.split(some, range(work.batch, len(some), work.batch)):
                if left <= 0:
                    break
                ids = torch.as_tensor(part) * _ROUNDS + number
                y = torch.full((len(part),), label)
                clean = dataset.items(part)
                out = attacks.run(
                    config.attack, target, clean, y, eps, norm=norm, config=values,
                    seed=work.seed, ids=ids,
                )  # fmt: skip
                raw = dataset.medium.write(out.adversarial.cpu(), dataset.levels)
                x = dataset.medium.read(torch.as_tensor(raw), dataset.levels)
                said = target.predict(x).cpu()
                moved = norm.length(x - clean).numpy()
                fools = (said != y).numpy()
                good = np.flatnonzero(fools if config.fooling else np.ones(len(part), bool))
                taken = good[:left]
                left -= len(taken)
                done += len(taken)
                drawn += len(part)
                rows: list[Row] = [
                    (
                        "adversarial",
                        int(part[i]),
                        config.classifier,
                        work.seed,
                        work.parameters(
                            label,
                            attack=config.attack,
                            eps=eps,
                            norm=config.norm,
                            step=config.step,
                            change=round(float(moved[i]), 5),
                            taken_for=dataset.classes[int(said[i])] if fools[i] else "",
                            **({"generator": run} if (run := str(made[part[i]])) else {}),
                        ),
                    )
                    for i in taken
                ]
                bad = np.flatnonzero(~fools) if config.fooling else np.zeros(0, np.int64)
                pictures = [raw[i] for i in bad[: max(0, SHOWN - shown)]]
                shown += len(pictures)
                work.watch.say(
                    f"Attacking: {done:,} of {total:,} kept, {drawn:,} tried",
                    0.2 + 0.8 * done / total,
                )
                work.watch.check()
                yield Items(
                    raw[taken],
                    np.full(len(taken), label, np.int64),
                    rows,
                    {"harmless": len(bad)},
                    {"harmless": pictures} if pictures else {},
                    len(part),
                )
        if left > 0:
            short.append(f"{work.names[label]} ({int(wanted) - left:,} of {int(wanted):,})")
    if short:
        work.note(
            f"The attack fooled the classifier too rarely for {', '.join(short[:5])}"
            f"{' …' if len(short) > 5 else ''} in {many(drawn, 'attempt')}. Raise eps, or take a stronger attack."
        )

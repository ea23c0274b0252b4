"""Measurements for the checks: the classifier's outputs and gradients without an attack, and small attacks.

Each probe works in steps, so that it can be watched and stopped, and writes into the tally's findings. An image that a
probe fools counts as fooled by the study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.datasets import Dataset, evenly
from core.gradients import Watched
from core.ground.stats import mcnemar
from core.norms import LINF, NEAR
from core.robustness import sanity
from core.robustness.checks import HONEST, many
from core.robustness.findings import BLIND, Climbs, Findings, Past
from core.robustness.schedule import CLIMBS, PROBE, STILL
from core.robustness.tally import Tally, to_the_end
from core.target import Climb, margin
from core.tensors import Batch

STRIDES = (1 / 4, 1)  # of the strength: at one of these steps the gradient must keep its promise
AROUND = "gradients averaged nearby or passed around its first steps"
QUERIES = 300, 1000  # of the blind search: usually, and where the gradient is doubtful


def as_it_is(tally: Tally) -> Iterator[None]:
    """Classifies all images, and inspects the outputs and gradients without attacking."""
    target, findings, x = tally.target, tally.findings, tally.x
    with Watched() as watched:
        first = target.logits(x[:8])
    findings.inner_gradient = watched.seen
    sums = first.sum(1)
    findings.probabilities = bool(((first >= 0) & (first <= 1)).all()) and bool(
        ((sums - 1).abs() < 1e-3).all()
    )
    flat = bool(((first == 0) | (first == 1)).all())
    if findings.probabilities and target.eot == 1:
        target.logs = True
    parts = []
    for rows in torch.arange(len(x), device=x.device).split(target.batch):
        parts.append(target.logits(x[rows]))
        yield
    logits = torch.cat(parts)
    said = logits.argmax(1).masked_fill(logits.isnan().any(1), -1)
    tally.said, tally.right = said.cpu().numpy(), (said == tally.y).cpu().numpy()
    tally.answered = True
    findings.not_numbers = int(logits.isnan().any(1).sum())
    few = x[:PROBE]
    again = target.logits(few)
    size = logits[: len(few)].nan_to_num(0.0).abs().amax(1).clamp_min(1e-6)
    differs = (again - logits[: len(few)]).nan_to_num(0.0).abs().amax(1) > 1e-3 * size
    findings.differs = float(differs.float().mean())
    yield
    if target.answers_only:
        return
    y = tally.y[: len(few)]
    _, _, slope = target.climb(few, Climb("ce", y))
    # a gradient is taken for lost only where the image is still named rightly
    findings.ce_zero = float((LINF.length(slope) == 0).float().mean())
    _, _, slope = target.climb(few, Climb("margin", y))
    zero = LINF.length(slope) == 0
    findings.margin_zero = float(zero.float().mean())
    findings.decisions = bool(zero.all()) and flat and findings.probabilities
    yield


def compare(
    tally: Tally, dataset: Dataset | None, indices: Sequence[int], peers: list[sanity.Peer]
) -> Iterator[None]:
    """Compares the clean accuracy with guessing and with other classifiers, which it adds to ``peers``."""
    target, right = tally.target, tally.right
    mistakes = sanity.Mistakes()
    for mistakes in sanity.look(target, tally.x, tally.y, tally.said, dataset):  # noqa: B007
        yield
    if dataset is not None:
        peers += sanity.peers(dataset, tally.x, tally.y, indices, target)
    _, counts = np.unique(tally.y.cpu().numpy(), return_counts=True)
    kind = target.card.get("kind")
    tally.findings.identity = sanity.Identity(
        **vars(mistakes),
        clean=float(right.mean()),
        largest=float(counts.max() / counts.sum()),
        ours=kind in ("run", "plain"),
        hardened=target.card.get("training", {}).get("defence", "none") != "none",
        compared=kind == "plain" or any(peer.target for peer in peers),
        peers=tuple(
            sanity.Beside(
                peer.name,
                float(peer.right.mean()),
                mcnemar(int((right & ~peer.right).sum()), int((~right & peer.right).sum())),
            )
            for peer in peers
        ),
    )
    yield


def attacks(tally: Tally, peers: Sequence[sanity.Peer], head: int) -> Iterator[None]:
    """Attacks some of the images in ways that the checks compare; nothing without a strength above 0.

    Args:
        tally: Of the study.
        peers: Classifiers whose adversarial images are tried.
        head: Position of the headline in the grid.
    """
    findings, target, smallest = tally.findings, tally.target, tally.smallest
    if not tally.schedule.grid:
        return
    rows = np.flatnonzero(tally.right)
    rows = evenly(rows, PROBE)
    findings.probed = len(rows) or 1
    if not len(rows):
        return
    still = ("square", {"queries": STILL}) if target.answers_only else ("pgd", {"steps": STILL})
    outcome = yield from to_the_end(tally.trial(still[0], rows, 0.0, still[1]))
    findings.zero_changed = int(outcome.fooled.sum())
    eps = _telling(tally, head)
    before = smallest[rows] > eps + NEAR  # what withstood when the probes began
    if target.answers_only:
        yield from _widest(tally, rows, "square", {"queries": QUERIES[1]})
        yield from _past(tally, rows[before & (smallest[rows] > eps + NEAR)], eps, peers)
        tally.halt()
        return
    stands: dict[str, Tensor] = {}
    for key, name, values, seed in CLIMBS:
        outcome = yield from to_the_end(tally.trial(name, rows, eps, values, seed=seed))
        stands[key] = ~outcome.fooled
        tally.note_fooled(name, rows, eps, outcome)
        tally.halt()
    left = {key: float(value.float().mean()) for key, value in stands.items()}
    findings.climbs = Climbs(
        one=left["one"],
        short=left["short"],
        long=left["long"],
        ce=left["ce"],
        starts=(left["short"], left["second"], left["third"]),
        union=float((stands["short"] & stands["second"] & stands["third"]).float().mean()),
        undone=_paired(stands["long"], stands["short"]),
        blinder=_paired(stands["ce"], stands["short"]),
    )
    if not target.bpda:
        where = torch.as_tensor(rows, device=tally.x.device)
        findings.promise = _promise(tally, tally.x[where], tally.y[where], eps)
        yield
    yield from _widest(tally, rows, "quick", {"targets": 2})
    yield from _past(tally, rows[before & (smallest[rows] > eps + NEAR)], eps, peers)
    tally.halt()


def _widest(tally: Tally, rows: np.ndarray, name: str, values: Mapping[str, Any]) -> Iterator[None]:
    """Measures what withstands where every value may change completely."""
    top = tally.schedule.budget.largest
    outcome = yield from to_the_end(tally.trial(name, rows, top, values))
    tally.findings.widest = float((~outcome.fooled).float().mean())
    tally.note_fooled(name, rows, top, outcome)


def _telling(tally: Tally, head: int) -> float:
    """Chooses a strength for the checks at which some images fall and some withstand."""
    grid, given, clean, k = tally.schedule.grid, tally.schedule.given, tally.right.mean(), head
    for _ in range(len(grid)):
        left = tally.robust(k).mean()
        if left < 0.05 * max(clean, 1e-9) and k > 0 and not given:
            k -= 1
            break
        if left > 0.99 * max(clean, 1e-9) and k + 1 < len(grid) and given:
            k += 1
            continue
        break
    return grid[k]


def _paired(first: Tensor, second: Tensor) -> float:
    """Gives the probability by chance of how two attacks on the same images differ."""
    return mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def _promise(tally: Tally, x: Batch, y: Tensor, eps: float) -> float:
    """Measures what a step along the gradient gains, as a multiple of what the gradient promises.

    Near 1 wherever a gradient is of use. The best of several steps counts, as one may be below a rounding.
    """
    target = tally.target
    _, before, slope = target.climb(x, Climb("margin", y))
    ahead = tally.norm.steepest(slope, x)
    shares = []
    for stride in STRIDES:
        moved = (x + stride * eps * ahead).clamp(0, 1)
        promised = ((moved - x) * slope).flatten(1).sum(1)
        gained = margin(target.logits(moved), y) - before
        if bool((promised > 0).any()):
            shares.append(float((gained / promised)[promised > 0].nan_to_num(0.0).median()))
    return min(shares, key=lambda share: abs(math.log(max(share, 1e-9))), default=1.0)


def _doubtful(findings: Findings) -> bool:
    """Tells whether the gradients do not quite do what they promise."""
    climbs = findings.climbs
    assert climbs is not None
    assert findings.margin_zero is not None
    return (
        not HONEST[0] <= (1.0 if findings.promise is None else findings.promise) <= HONEST[1]
        or climbs.long > climbs.short + 0.02
        or climbs.short > climbs.one + 0.02
        or findings.margin_zero > 0.1
    )


def _past(
    tally: Tally, rows: np.ndarray, eps: float, peers: Sequence[sanity.Peer]
) -> Iterator[None]:
    """Attacks what is left in ways that do not rest on the classifier's own gradient, and counts what falls."""
    findings, target, tried = tally.findings, tally.target, len(rows)
    doubtful = target.answers_only or _doubtful(findings)
    ways: list[tuple[str, str, dict[str, Any], sanity.Peer | None]] = [
        *([] if target.answers_only else [(AROUND, "adaptive", {}, None)]),
        (BLIND, "square", {"queries": QUERIES[doubtful]}, None),
        *((f"images made against {p.name}", "quick", {"targets": 1}, p) for p in peers if p.target),
        ("a network that learned its answers", "surrogate", {}, None),
    ]
    counts = {BLIND: 0}
    for title, name, values, peer in ways:
        if name == "surrogate" and (not doubtful or many(sum(counts.values()), tried)):
            continue  # the most expensive: only where the gradient is doubtful and nothing has shown it yet
        if not len(rows):
            break
        trial = tally.trial(name, rows, eps, values, target=peer and peer.target, active=not peer)
        outcome = yield from to_the_end(trial)
        if peer:
            outcome.fooled = target.predict(outcome.adversarial) != trial.y
        fell = tally.note_fooled("transfer" if peer else name, rows, eps, outcome)
        counts[title] = int(fell.sum())
        rows = rows[~fell]
        tally.halt()
    past = np.isin(tally.by, ("adaptive", "surrogate", "square", "transfer"))
    gain = int((past & (tally.smallest <= eps + NEAR)).sum())
    findings.past = Past(tried, counts, gain)

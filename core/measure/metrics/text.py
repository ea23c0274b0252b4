"""How well a model foretells texts, and whether it writes what it has read word for word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.ground.stats import Estimate, mean
from core.ground.writing import percent
from core.measure.metrics import Measurement, Score, copy_tests, metrics

if TYPE_CHECKING:
    from core.measure.study import Evaluator, ImageSet

RUN = 1.2  # times the runs of unseen texts from which samples are said to copy
TEXTS = 2000  # whose longest runs are looked for, at most


def _weighted(nats: np.ndarray, count: np.ndarray) -> Estimate:
    """Gives the nats per byte of texts with so many nats (n,) and bytes (n,), with the interval of a ratio."""
    value, n = nats.sum() / count.sum(), len(nats)
    around = mean((nats - value * count) / count.mean())
    return Estimate.around(float(value), (around.high - around.low) / 2, n)


@metrics.add(
    "nats",
    "Nats per byte",
    group="likelihood",
    direction="lower",
    means="How much the next byte of an unseen text surprises the model, in nats: 0 is perfect foresight, 5.5 a guess.",
    doubt="It depends on the language and on where texts begin; compare it on one dataset, and with the counts.",
    needs=("scores",),
    takes=("tokens",),
)
def _nats(evaluator: Evaluator, sample: ImageSet) -> Score:
    """Averages the exact surprise over the bytes of held-out texts, with that of a table of counts beside it."""
    from core.text.counts import Counts, known

    held_out = evaluator.held_out.x[: evaluator.scored]
    rows = held_out.reshape(len(held_out), -1)
    count = known(rows).sum(1)
    value = _weighted(-evaluator.log_probs("held_out"), count)
    counted = np.nansum(Counts.of(evaluator.train.x).nats(rows), 1)
    other = _weighted(counted, count)
    gap = _weighted(-evaluator.log_probs("held_out") - counted, count)
    beats = "below" if gap.high < 0 else "above" if gap.low > 0 else "not surely below"
    note = (
        f"A table of counts without a network needs {other.value:.3f}: the model is {beats} it "
        f"({gap.value:+.3f} ± {(gap.high - gap.low) / 2:.3f})."
    )
    details = {
        "counts": other.value,
        "counts_low": other.low,
        "counts_high": other.high,
        "gap": gap.value,
    }
    return Score(value, note, details | {"gap_low": gap.low, "gap_high": gap.high})


@metrics.add(
    "copied_run",
    "Longest copied run",
    group="copying",
    direction="lower",
    means="How many bytes in a row also stand in the training texts, at the place that 95 in 100 places stay below.",
    doubt="Set phrases repeat in any language; unseen texts, which nobody copied, say how much of that there is.",
    needs=(),
    takes=("tokens",),
    floor="unseen",
)
def _copied_run(evaluator: Evaluator, sample: ImageSet) -> Estimate:
    """Finds for each place of a text the longest run from there that the training texts hold, too."""
    from core.text import copies

    x = sample.x[:TEXTS]
    longest = copies.runs(x, evaluator.train.x)
    room = min(32, max(1, x.shape[-1] // 4))
    starts = copies.starts(x, room)
    n = len(x)
    counts = np.stack(  # of each text, how many places begin a run of each length, (n, LONGEST + 1)
        [
            np.bincount(row[there], minlength=copies.LONGEST + 1)
            for row, there in zip(longest, starts, strict=True)
        ]
    )
    value = float(_high(counts.sum(0)[None])[0])
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=1000)
    low, high = np.percentile(_high(draws @ counts), [2.5, 97.5])
    return Estimate(value, min(value, float(low)), max(value, float(high)), n)


def _high(counts: np.ndarray) -> np.ndarray:
    """Gives the least length that 95 in 100 places do not exceed, of counts of lengths (n, lengths), (n,)."""
    return (counts.cumsum(-1) >= 0.95 * counts.sum(-1, keepdims=True)).argmax(-1)


@copy_tests.add("copied_run", strong=True)
def _copied_run_test(m: Measurement) -> tuple[bool | None, str]:
    """Runs that also stand in the training texts are longer than those of unseen texts by a fifth."""
    if m.value is None or not m.floor:
        return None, "How long the runs are that it copied was not measured."
    more = percent(m.value / m.floor - 1, 0)
    return m.value > RUN * m.floor, (
        f"95 in 100 places begin a run of at most {m.value:.0f} bytes that the training texts hold, too; of unseen "
        f"texts {m.floor:.0f} ({more} more)."
    )

"""Is it the model that is meant, or one without its normalisation, or with its classes in another order?"""

from __future__ import annotations

from core.ground.stats import proportion
from core.ground.writing import percent
from core.robustness.checks import DOUBT, checks
from core.robustness.findings import Answer, Findings
from core.robustness.verdict import FEWEST

FAR, APART = 0.2, 0.1  # gaps of the clean accuracy to a reference: another model, and worth a look
REASONS = (
    "The usual reasons: its normalisation (mean, std) is missing, its classes stand in another order, the images have "
    "another size, or it is in training mode."
)


@checks.add("meant", "Is this the model you mean?", number=13, urgency=11)
def meant(findings: Findings) -> Answer | None:
    """Its clean accuracy must be above guessing, near other classifiers', and gain nothing from another reading."""
    about, n = findings.identity, findings.n
    if about is None:
        return None
    if order := about.order:
        shown = ", ".join(f"{a} as {b}" for a, b in order.pairs[:6])
        shown += ", …" if len(order.pairs) > 6 else ""
        return Answer(
            "fail",
            f"its classes stand in another order: it answers {shown}; in that order {percent(order.share)} of "
            f"{order.n} images are named rightly, as it is {percent(order.given)}",
            "Put the outputs into the order of the dataset's classes.",
        )
    if other := about.reading:
        return Answer(
            "fail",
            f"with {other.name} it names {percent(other.share)} of {other.n} images rightly, as it is "
            f"{percent(other.given)}",
            "It expects other images than it is given: put this into the model, before its first layer.",
        )
    low = proportion(round(about.clean * n), n).low
    guess = f"chance {percent(findings.chance)}, the largest class {percent(about.largest)}"
    text = f"{percent(about.clean)} of {n} images are named rightly without an attack ({guess})"
    if low <= about.largest:
        why = "" if n >= FEWEST else f", and {n} images are too few to tell"
        return Answer("fail", f"{text}, which is not surely better than guessing{why}", REASONS)
    better = [peer for peer in about.peers if peer.p < DOUBT and peer.share > about.clean]
    best = max(better, key=lambda peer: peer.share, default=None)
    gap = best.share - about.clean if best else 0.0
    if best and (gap > FAR or (gap > APART and not about.hardened)):
        text = f"{text}, where {best.name} names {percent(best.share)}"
        if about.ours:  # trained here, so that nothing of it can be missing
            longer = "Train it longer, if this is not what you expect of it."
            return Answer("warn", f"{text}.", longer)
        if gap > FAR:
            return Answer("fail", text, REASONS)
        return Answer("warn", f"{text}.", f"Hardened models lose some. Otherwise: {REASONS}")
    if not about.compared:
        text += "; there is no reference yet: train a classifier on this dataset to compare"
    elif about.peers:
        text += "; " + ", ".join(f"{peer.name} {percent(peer.share)}" for peer in about.peers)
    return Answer("pass", f"{text}.")

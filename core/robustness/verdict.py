"""The checks of a robustness number, how robust that is, and the verdict: can it be believed, and what to do if not.

Pure functions of what a study has measured, so that every rule can be read and tested alone.

References:
    Carlini et al., 2019, On evaluating adversarial robustness, https://arxiv.org/abs/1902.06705
    Athalye et al., 2018, Obfuscated gradients give a false sense of security, https://arxiv.org/abs/1802.00420
    Pintor et al., 2022, Indicators of attack failure, https://arxiv.org/abs/2106.09947
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from core.stats import proportion
from core.writing import percent

STRONG = ("quick", "autoattack")
# attacks that a misleading gradient does not mislead
UNMASKING = ("adaptive", "surrogate", "autoattack")
CONFIRMING = "noise,quick,adaptive,surrogate,autoattack"
# of several troubles, that which explains most comes first
URGENT = (9, 13, 6, 5, 10, 11, 7, 8, 3, 4, 2, 1, 12)
FEWEST = 50  # images below which no share is believed: its interval spans more than a quarter
MOST = 0.5  # share of the images that must surely withstand to be called robust
HONEST = (0.5, 2.0)  # what a step along the gradient may gain, as a multiple of what it promises
FAR, APART = 0.2, 0.1  # gaps of the clean accuracy to a reference: another model, and worth a look
DOUBT = 0.01  # probability of a difference by chance, below which it counts


@dataclass(frozen=True)
class Check:
    """One question about the number, and its answer.

    Attributes:
        number, name: Which one.
        outcome: ``pass``, ``warn``, ``fail``, or ``open`` where it was not looked at; the finding says why.
        finding: What was measured, in a sentence.
        advice: What to do; empty where there is nothing to do.
        button: Text of a button that does it; empty where a person has to.
        action: Parameters of the study to run again with.
    """

    number: int
    name: str
    outcome: str
    finding: str
    advice: str = ""
    button: str = ""
    action: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Gives plain values, ready for JSON."""
        return asdict(self) | {"action": dict(self.action)}


NAMES = {
    1: "No attack, no change",
    2: "Within the budget",
    3: "Falls to chance",
    4: "More steps, more harm",
    5: "Logits do not saturate",
    6: "The gradient is there",
    7: "Blind attacks are weaker",
    8: "Noise is weaker",
    9: "The same answer twice",
    10: "Logits, not probabilities",
    11: "No gradient taken inside",
    12: "The start does not matter",
    13: "Is this the model you mean?",
}


def checks(found: Mapping[str, Any]) -> list[Check]:
    """Answers the questions from what was found so far; one without findings stays open, and says why.

    Args:
        found: Numbers by name, as :class:`core.robustness.Study` collects them.
    """
    rules = (_zero, _budget, _chance, _steps, _saturated, _gradient, _blind, _noise, _random)
    return [rule(found) for rule in (*rules, _logits, _inside, _starts, _meant)]


def _answer(number: int, outcome: str, finding: str, *rest: Any) -> Check:
    return Check(number, NAMES[number], outcome, finding, *rest)


def _open(number: int, found: Mapping[str, Any]) -> Check:
    return _answer(number, "open", found.get("why_open") or "Not looked at yet.")


def _zero(found: Mapping[str, Any]) -> Check:
    if "zero_changed" not in found:
        return _open(1, found)
    changed, n = found["zero_changed"], found["probe"]
    if not changed:
        return _answer(1, "pass", f"An attack of strength 0 leaves all {n} answers as they are.")
    return _answer(
        1,
        "fail",
        f"An attack of strength 0 changes {changed} of {n} answers.",
        "The model does not see what it is given: look for a random layer, training mode, or a second normalisation.",
        "Average over draws (EOT)",
        {"eot": 20},
    )


def _budget(found: Mapping[str, Any]) -> Check:
    if "doubtful" not in found:
        return _open(2, found)
    if found["outside"]:
        return _answer(
            2,
            "fail",
            f"{found['outside']} adversarial images leave the budget or the range.",
            "This is a mistake of the attack: please report it, and do not use the number.",
        )
    doubtful, n = found["doubtful"], found["n"]
    if doubtful > max(2, n / 50):
        return _answer(
            2,
            "warn",
            f"{doubtful} of {n} images fooled the classifier once, but not when asked again; they count as correct.",
            "They lie on the very boundary, or the model is random: average over draws.",
            "Average over draws (EOT)",
            {"eot": 20},
        )
    return _answer(
        2, "pass", "Every adversarial image is in range and within the budget, and fooled twice."
    )


def _chance(found: Mapping[str, Any]) -> Check:
    if "widest" not in found:
        return _open(3, found)
    left, chance = found["widest"], found["chance"]
    if left <= chance + 2 / found["probe"]:
        return _answer(
            3,
            "pass",
            f"At the largest budget {percent(left)} are left: every image can become any other.",
        )
    return _answer(
        3,
        "fail",
        f"Even when every pixel may change completely, {percent(left)} seem to withstand.",
        "No classifier can: the attack does not see the way. Try a gradient through what blocks it.",
        "Let gradients pass (BPDA)",
        {"bpda": True},
    )


def _steps(found: Mapping[str, Any]) -> Check:
    if "pgd_long" not in found:
        return _open(4, found)
    one, short, long, n = found["fgsm"], found["pgd"], found["pgd_long"], found["probe"]
    text = f"1 step leaves {percent(one)}, 20 steps {percent(short)}, 40 steps {percent(long)}."
    more = {"options": "pgd.steps=100 quick.steps=60"}
    if short > one + max(0.02, 2.5 / n):
        return _answer(
            4,
            "fail",
            f"Many steps do less than one: {text}",
            "The gradient misleads the attack. Take it through what blocks it.",
            "Let gradients pass (BPDA)",
            {"bpda": True},
        )
    if long - short > max(0.02, 2.5 / n) and found.get("undone", 0.0) < DOUBT:
        return _misled(
            4,
            found,
            f"More steps do less: {text}",
            "An attack that goes on loses what it had: the gradient points nowhere.",
        )
    if short - long > max(0.02, 2.5 / n):
        return _answer(
            4,
            "warn",
            f"More steps still find more: {text}",
            "Attack longer.",
            "Attack longer",
            more,
        )
    return _answer(4, "pass", text)


def _misled(number: int, found: Mapping[str, Any], finding: str, advice: str) -> Check:
    """Answers that the gradient misleads: of no harm only where attacks that do not rest on it took part."""
    if found.get("unmasking"):
        advice += (
            " Attacks that do not rest on it took part, so the number holds as far as they reach."
        )
        return _answer(number, "warn", finding, advice)
    advice += " Attack in ways that do not rest on it."
    return _answer(number, "fail", finding, advice, *_PAST)


def many(only: int, tried: int) -> bool:
    """Tells whether so many images fall to one attack alone that it is no chance."""
    return only > max(2, 0.04 * tried)


_PAST = (
    "Attack past the gradient",
    {"attacks": "noise,fgsm,quick,adaptive,surrogate,square"},
)


def _saturated(found: Mapping[str, Any]) -> Check:
    if "margin" not in found:
        return _open(5, found)
    ce, margin, n, flat = found["ce"], found["margin"], found["probe"], found["ce_zero"]
    blinder = ce - margin > max(0.02, 2.5 / n) and found.get("blinder", 0.0) < DOUBT
    saturated = flat > found["margin_zero"] + 0.05
    if not blinder and not saturated:
        return _answer(
            5,
            "pass",
            f"Cross entropy leaves {percent(ce)}, the lead of a wrong class {percent(margin)}.",
        )
    text = f"cross entropy leaves {percent(ce)}, the lead of a wrong class {percent(margin)}"
    if saturated:
        text = f"logits saturate: {percent(flat)} of the cross-entropy gradients are zero; {text}"
    if found["sees_margin"]:
        return _answer(
            5,
            "warn",
            text[0].upper() + text[1:] + ".",
            "The number comes from attacks that climb the lead, so it holds; those on cross entropy are blind here.",
        )
    return _answer(
        5,
        "fail",
        text,
        "Climb the lead of a wrong class instead.",
        "Use the margin loss",
        {"attacks": "noise,fgsm,quick", "options": "pgd.loss=margin fgsm.loss=margin"},
    )


def _gradient(found: Mapping[str, Any]) -> Check:
    if "margin_zero" not in found:
        return _open(6, found)
    zero, broken = found["margin_zero"], found["not_numbers"]
    if found.get("decisions"):
        return _answer(
            6,
            "fail",
            "the classifier gives decisions only, without any gradient or score",
            "No attack of this page can climb a decision. Give it a model that ends in logits.",
        )
    if zero > 0.1:
        done = " even with gradients let through" if found["bpda"] else ""
        return _answer(
            6,
            "fail",
            f"{percent(zero)} of the gradients are zero{done}",
            "Something inside has no slope (rounding, a sign, a cut graph). Let the gradient pass it."
            if not found["bpda"]
            else "What blocks the gradient is not a rounding: attack the model without that part.",
            "" if found["bpda"] else "Let gradients pass (BPDA)",
            {} if found["bpda"] else {"bpda": True},
        )
    if broken:
        return _answer(
            6,
            "warn",
            f"{broken} of {found['n']} images give an output that is not a number; they count as errors.",
            "Look for a division by zero or a logarithm of zero inside the model.",
        )
    if (slope := found.get("promise")) is not None and not HONEST[0] <= slope <= HONEST[1]:
        text = f"a step along the gradient gains {percent(slope)} of what it promises"
        if slope > HONEST[1]:
            text = f"a step along the gradient gains more than {HONEST[1]:g} times what it promises"
        tried, gain = found.get("blind_tried", 0), found.get("past_gain", 0)
        if tried and not found["past_only"] and not many(gain, gain + tried) and not found["bpda"]:
            # k-WTA and the like: jumps, but nothing that gets past them finds more
            return _answer(
                6,
                "pass",
                f"{percent(zero)} of the gradients are zero. {text[0].upper() + text[1:]}, but attacks that do not "
                f"rest on it fool none of {tried} images that the others left.",
            )
        if not found["bpda"]:
            return _misled(6, found, text, "It is of no use to an attack.")
    if found["bpda"]:
        return _answer(
            6,
            "pass",
            f"{percent(zero)} of the gradients are zero, as steps without slope were let through (BPDA).",
        )
    return _answer(6, "pass", f"{percent(zero)} of the gradients are zero.")


def _blind(found: Mapping[str, Any]) -> Check:
    if "blind_only" not in found:
        return _open(7, found)
    tried = found["blind_tried"]
    if not tried:
        return _answer(
            7, "pass", "No image is left that an attack without gradient could still fool."
        )
    by = {"a search that sees no gradient": found["blind_only"], **found.get("past_by", {})}
    only = sum(by.values())
    ways = ", ".join(f"{way} {count}" for way, count in by.items() if count or not only)
    text = f"attacks that do not rest on its gradient fool {only} of {tried} images that the others left ({ways})"
    if many(only, tried):
        return _answer(
            7,
            "fail",
            text,
            "The gradient is masked: attack in ways that do not rest on it, or take it through what blocks it.",
            *_PAST,
        )
    if only > 1:
        return _answer(
            7,
            "warn",
            text[0].upper() + text[1:] + ".",
            "Confirm with AutoAttack.",
            "Confirm with AutoAttack",
            {"attacks": CONFIRMING},
        )
    return _answer(7, "pass", text[0].upper() + text[1:] + ".")


def _noise(found: Mapping[str, Any]) -> Check:
    if "noise_only" not in found:
        return _open(8, found)
    only, n = found["noise_only"], found["n"]
    text = f"random noise fools {only} of {n} images that the attacks left alone"
    if only > max(1, 0.01 * n):
        return _answer(
            8,
            "fail",
            text,
            "An attack that is weaker than chance says nothing: take the gradient through what blocks it.",
            "Let gradients pass (BPDA)",
            {"bpda": True},
        )
    return _answer(8, "warn" if only > 1 else "pass", text[0].upper() + text[1:] + ".")


def _random(found: Mapping[str, Any]) -> Check:
    if "differs" not in found:
        return _open(9, found)
    share, eot = found["differs"], found["eot"]
    if company := found.get("identity", {}).get("company"):
        return _answer(
            9,
            "fail",
            f"{percent(company)} of the answers depend on the images beside them",
            "A part of it is in training mode (batch norm): call eval() on the whole model before it answers.",
        )
    if not share:
        return _answer(9, "pass", "Two passes give the same output.")
    text = f"two passes of the same image differ for {percent(share)} of the images"
    if eot > 1:
        return _answer(
            9,
            "warn",
            f"The model is random: {text}. Gradients and decisions are means of {eot} draws.",
        )
    return _answer(
        9,
        "fail",
        text,
        "The model is random (dropout left on, noise inside): one lucky draw is no success. Average over draws.",
        "Average over draws (EOT)",
        {"eot": 20},
    )


def _logits(found: Mapping[str, Any]) -> Check:
    if "probabilities" not in found:
        return _open(10, found)
    if not found["probabilities"]:
        return _answer(10, "pass", "The outputs are logits.")
    return _answer(
        10,
        "warn",
        "The outputs are probabilities, not logits; they were attacked through their logarithm.",
        "Leave the last softmax out: a probability that rounds to 1 hides its gradient.",
    )


def _inside(found: Mapping[str, Any]) -> Check:
    if "inner_gradient" not in found:
        return _open(11, found)
    if found["inner_gradient"] or found["purifier"]:
        what = "takes a gradient" if found["inner_gradient"] else "purifies the image"
        return _answer(
            11,
            "fail",
            f"the model {what} before it answers, which these attacks do not follow",
            "Attack it as purification: its three numbers are on the tab of the generative models.",
        )
    return _answer(11, "pass", "No gradient is taken while it answers.")


def _starts(found: Mapping[str, Any]) -> Check:
    if "seeds" not in found:
        return _open(12, found)
    seeds, union, n = found["seeds"], found["union"], found["probe"]
    low, high = percent(min(seeds)), percent(max(seeds))
    text = f"One run of PGD leaves {low} to {high} by its start, all {len(seeds)} together {percent(union)}."
    if found["strong"] or max(seeds) - union <= max(0.01, 1.5 / n):
        return _answer(12, "pass", text)
    return _answer(
        12,
        "warn",
        text,
        "One start is not enough: attack towards several classes.",
        "Use the screening attack",
        {"attacks": "noise,fgsm,quick"},
    )


def _meant(found: Mapping[str, Any]) -> Check:
    if "identity" not in found:
        return _open(13, found)
    about, n = found["identity"], found["n"]
    value, low = about["clean"], proportion(round(about["clean"] * n), n).low
    guess = f"chance {percent(found['chance'])}, the largest class {percent(about['largest'])}"
    text = f"{percent(value)} of {n} images are named rightly without an attack ({guess})"
    if order := about.get("order"):
        shown = ", ".join(f"{a} as {b}" for a, b in order["pairs"][:6])
        shown += ", …" if len(order["pairs"]) > 6 else ""
        return _answer(
            13,
            "fail",
            f"its classes stand in another order: it answers {shown}; in that order {percent(order['share'])} of "
            f"{order['n']} images are named rightly, as it is {percent(order['given'])}",
            "Put the outputs into the order of the dataset's classes.",
        )
    if other := about.get("reading"):
        return _answer(
            13,
            "fail",
            f"with {other['name']} it names {percent(other['share'])} of {other['n']} images rightly, as it is "
            f"{percent(other['given'])}",
            "It expects other images than it is given: put this into the model, before its first layer.",
        )
    if low <= about["largest"]:
        why = "" if n >= FEWEST else f", and {n} images are too few to tell"
        return _answer(
            13, "fail", f"{text}, which is not surely better than guessing{why}", REASONS
        )
    gaps = [(peer["share"] - value, peer) for peer in about["peers"] if peer["p"] < DOUBT]
    gap, peer = max(gaps, key=lambda each: each[0], default=(0.0, {}))
    hardened = about["hardened"]
    if gap > FAR or (gap > APART and not hardened):
        told = f"{text}, where {peer['name']} names {percent(peer['share'])}"
        if about["ours"]:  # trained here, so that nothing of it can be missing
            return _answer(
                13, "warn", told + ".", "Train it longer, if this is not what you expect of it."
            )
        if gap > FAR:
            return _answer(13, "fail", told, REASONS)
        return _answer(13, "warn", told + ".", "Hardened models lose some. Otherwise: " + REASONS)
    if not about["compared"]:
        text += "; there is no reference yet: train a classifier on this dataset to compare"
    elif about["peers"]:
        shown = [f"{peer['name']} {percent(peer['share'])}" for peer in about["peers"]]
        text += f"; {', '.join(shown)}"
    return _answer(13, "pass", text + ".")


REASONS = (
    "The usual reasons: its normalisation (mean, std) is missing, its classes stand in another order, the images have "
    "another size, or it is in training mode."
)


def verdict(
    found: Mapping[str, Any], answers: Sequence[Check], robust: Mapping[str, Any]
) -> dict[str, Any]:
    """Says whether the measurement is sound: the colour, a sentence, and whether the number can be believed.

    Args:
        found: As :func:`checks`.
        answers: Of :func:`checks`.
        robust: Of the headline: ``robust``, ``interval``, ``n``, ``text``; and ``clean``.
    """
    ranked = sorted(answers, key=lambda check: URGENT.index(check.number))
    failed = [check for check in ranked if check.outcome == "fail"]
    warned = [check for check in ranked if check.outcome == "warn"]
    missing = [check for check in answers if check.outcome == "open"]
    value, n, text = robust["robust"], robust["n"], robust["text"]
    if failed:
        reason = failed[0].finding.rstrip(".")
        if value == 0:
            return _verdict("red", f"The measurement cannot be believed: {reason}.", False)
        return _verdict("red", f"{percent(value)} is not robustness: {reason}.", False)
    if n < FEWEST:
        return _verdict(
            "amber",
            f"{n} images are too few to believe a share of them: take at least {FEWEST}.",
            False,
        )
    if robust["clean"] - value <= 0.005 and robust["clean"] > found["chance"]:
        reason = f"nothing falls at {text}, which says that the attack is too small, not that the model is strong."
        return _verdict("amber", f"{percent(value)} says little: {reason}", False)
    if missing:
        count = f"{len(missing)} of {len(answers)} checks"
        if found.get("why_open"):
            return _verdict("amber", f"{count} were not made. {found['why_open']}", False)
        return _verdict("amber", f"{count} are still to be made.", False)
    if warned:
        return _verdict("amber", f"With care: {warned[0].finding}", True)
    sentence = f"All {len(answers)} checks say that the measurement can be believed"
    if not found["identity"]["compared"]:
        sentence += "; there is no reference yet to compare its clean accuracy with"
    return _verdict("green", sentence + ".", True)


def _verdict(colour: str, sentence: str, believable: bool) -> dict[str, Any]:
    return {"colour": colour, "sentence": sentence, "believable": believable}


def robustness(
    row: Mapping[str, Any], chance: float, sound: Mapping[str, Any], complete: bool = True
) -> dict[str, Any]:
    """Says how robust it is: the colour, a sentence, and the share with its interval and n.

    Args:
        row: Of the headline: ``eps``, ``robust``, ``interval``, ``n``, ``text``.
        chance: Share that guessing names rightly.
        sound: The :func:`verdict`: what is not believed is never called robust.
        complete: Whether all attacks have ended; what still stands before that is no result.
    """
    value, n, (low, high) = row["robust"], row["n"], row["interval"]
    number = (
        f"{percent(value)} of {n} images withstand every attack of {row['text']} that was tried"
    )
    number += f" (interval {percent(low)} to {percent(high)})"
    if not row["eps"]:
        colour, sentence = "amber", "Not known: no attack was tried."
    elif not complete:
        colour, sentence = "amber", f"So far: {number}."
    elif low <= chance:
        colour, sentence = "red", f"Not robust: {number}."
    elif sound["colour"] == "red":
        colour, sentence = "amber", f"Not known: {number}, but the measurement cannot be believed."
    elif n < FEWEST:
        colour, sentence = "amber", f"Not known: {number}."
    elif low >= MOST:
        colour, sentence = "green", f"Robust: {number}."
    else:
        colour, sentence = "amber", f"Partly robust: {number}."
    if n < FEWEST and row["eps"]:
        sentence = f"{sentence.removesuffix('.')}; {n} images are too few to say more."
    return {
        "colour": colour, "sentence": sentence, "robust": value, "n": n, "interval": [low, high],
    }  # fmt: skip

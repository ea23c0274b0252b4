"""Twelve checks of a robustness number, and the verdict: can it be believed, and what to do if not.

Pure functions of what a study has measured, so that every rule can be read and tested alone.

References:
    Carlini et al., 2019, On evaluating adversarial robustness, https://arxiv.org/abs/1902.06705
    Athalye et al., 2018, Obfuscated gradients give a false sense of security, https://arxiv.org/abs/1802.00420
    Pintor et al., 2022, Indicators of attack failure, https://arxiv.org/abs/2106.09947
    Wilson, 1927, Probable inference, the law of succession, and statistical inference
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

STRONG = ("quick", "autoattack")
URGENT = (
    6,
    9,
    5,
    10,
    11,
    7,
    8,
    3,
    4,
    2,
    1,
    12,
)  # of several troubles, the one that explains most comes first


@dataclass(frozen=True)
class Check:
    """One question about the number, and its answer.

    Attributes:
        number, name: Which of the twelve.
        outcome: ``pass``, ``warn``, ``fail``, or ``open`` while it was not looked at.
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
}


def checks(found: Mapping[str, Any]) -> list[Check]:
    """Answers the twelve questions from what was found so far; a question without findings stays open.

    Args:
        found: Numbers by name, as :class:`core.robustness.Study` collects them.
    """
    rules = (_zero, _budget, _chance, _steps, _saturated, _gradient, _blind, _noise, _random)
    return [rule(found) for rule in (*rules, _logits, _inside, _starts)]


def _answer(number: int, outcome: str, finding: str, *rest: Any) -> Check:
    return Check(number, NAMES[number], outcome, finding, *rest)


def _open(number: int) -> Check:
    return _answer(number, "open", "Not looked at yet.")


def _zero(found: Mapping[str, Any]) -> Check:
    if "zero_changed" not in found:
        return _open(1)
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
        return _open(2)
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
        return _open(3)
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
        return _open(4)
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


def _saturated(found: Mapping[str, Any]) -> Check:
    if "margin" not in found:
        return _open(5)
    ce, margin, n, flat = found["ce"], found["margin"], found["probe"], found["ce_zero"]
    share = f"{percent(flat)} of the cross-entropy gradients are zero"
    if ce - margin <= max(0.02, 2.5 / n) and flat <= found["margin_zero"] + 0.05:
        return _answer(
            5,
            "pass",
            f"Cross entropy leaves {percent(ce)}, the lead of a wrong class {percent(margin)}.",
        )
    text = f"{share}: it leaves {percent(ce)}, the lead of a wrong class {percent(margin)}."
    if found["sees_margin"]:
        return _answer(
            5,
            "warn",
            f"Logits saturate. {text}",
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
        return _open(6)
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
    if found["bpda"]:
        return _answer(
            6,
            "pass",
            f"{percent(zero)} of the gradients are zero, as steps without slope were let through (BPDA).",
        )
    return _answer(6, "pass", f"{percent(zero)} of the gradients are zero.")


def _blind(found: Mapping[str, Any]) -> Check:
    if "blind_only" not in found:
        return _open(7)
    only, tried = found["blind_only"], found["blind_tried"]
    if not tried:
        return _answer(
            7, "pass", "No image is left that an attack without gradient could still fool."
        )
    text = f"an attack that sees no gradient fools {only} of {tried} images that the others left"
    way = "Let gradients pass (BPDA)", {"bpda": True}
    if only > max(2, 0.04 * tried):
        return _answer(
            7, "fail", text, "A gradient is masked: take it through what blocks it.", *way
        )
    if only > 1:
        return _answer(
            7,
            "warn",
            text[0].upper() + text[1:] + ".",
            "Confirm with AutoAttack.",
            "Confirm with AutoAttack",
            {"attacks": "noise,fgsm,quick,autoattack"},
        )
    return _answer(7, "pass", text[0].upper() + text[1:] + ".")


def _noise(found: Mapping[str, Any]) -> Check:
    if "noise_only" not in found:
        return _open(8)
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
        return _open(9)
    share, eot = found["differs"], found["eot"]
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
        return _open(10)
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
        return _open(11)
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
        return _open(12)
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


def verdict(
    found: Mapping[str, Any], answers: Sequence[Check], robust: Mapping[str, Any]
) -> dict[str, Any]:
    """Gives the colour, a sentence, and whether the number can be believed.

    Args:
        found: As :func:`checks`.
        answers: Of :func:`checks`.
        robust: Of the headline: ``robust``, ``interval``, ``n``, ``text``; and ``clean``.
    """
    ranked = sorted(answers, key=lambda check: URGENT.index(check.number))
    failed = [check for check in ranked if check.outcome == "fail"]
    warned = [check for check in ranked if check.outcome == "warn"]
    value, n, text = robust["robust"], robust["n"], robust["text"]
    low, high = robust["interval"]
    number = f"{percent(value)} of {n} images withstand every attack of {text} that was tried"
    number += f" (interval {percent(low)} to {percent(high)})"
    if failed:
        reason = failed[0].finding.rstrip(".")
        return _verdict("red", f"{percent(value)} is not robustness: {reason}.", False)
    if robust["clean"] - value <= 0.005 and robust["clean"] > found["chance"]:
        reason = f"nothing falls at {text}, which says that the attack is too small, not that the model is strong."
        return _verdict("amber", f"{percent(value)} says little: {reason}", False)
    missing = [check for check in answers if check.outcome == "open"]
    if missing:
        return _verdict(
            "amber", f"{number}; {len(missing)} of 12 checks are still to be made.", False
        )
    if warned:
        return _verdict("amber", f"{number}. With care: {warned[0].finding}", True)
    return _verdict("green", f"{number}; all 12 checks say that this can be believed.", True)


def _verdict(colour: str, sentence: str, believable: bool) -> dict[str, Any]:
    return {"colour": colour, "sentence": sentence, "believable": believable}


def percent(share: float) -> str:
    """Writes a share as a person would: 0 %, 0.4 %, 47.3 %, 100 %."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def interval(successes: int, n: int) -> tuple[float, float]:
    """Gives the 95 % interval of a share (Wilson); 0 to 1 without images."""
    if not n:
        return 0.0, 1.0
    z, share = 1.959964, successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)

"""Label errors: predictions for unseen images, what they say of each label, and how far that is to be believed.

A predictor that is often wrong calls right labels wrong. So every label gets the probability that it is wrong, under a
model in which some labels were exchanged at random and the predictor is as unsure as its scores were; and no label is
judged unless, by the same model, enough of planted errors would be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.ground.writing import percent
from core.measure.distances import spaced

FOLDS = 4
STRENGTHS = (0.003, 0.03, 0.3, 3.0)  # of the ridge, per image
ENOUGH = 20  # images that a class needs before labels of it, or towards it, are judged
LEAST = 100  # labels of such classes; of fewer, too few wrong ones could be told from chance
PLANTED = 0.05  # share of wrong labels that the predictor is tried with
RELIABLE = 0.8  # of these, the share that must be found before any label is judged
REAL = 0.5  # of the suspects, the share that must be wrong by estimate
USUAL = 20  # one label in so many is taken for wrong before any is looked at
SURE = 0.5  # probability to be wrong from which a label is changed together with others
LOOK = 5  # labels that are named for a look where none can be judged
SOME = 100_000  # images that the probabilities are fitted on
_SHARP = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0)
# probability to be wrong from which a label is suspect: the lowest at which enough suspects are really wrong
_BARS = (0.05, 0.1, 0.2, SURE)
_NOISE = tuple(np.geomspace(0.0002, 0.8, 60).tolist())


@dataclass(frozen=True)
class Doubts:
    """What the other images say of every label that can be judged.

    Attributes:
        named: Class that the prediction names, another one than the label where that is suspect, int64 (N,).
        suspect: Whether the label is confidently another one and may well be wrong, bool (N,).
        wrong: Probability that the label is wrong, (N,).
        chance: Probability of the label, by which labels are ranked, and of the named class, each (N,).
        accuracy: Share of the labels that the prediction names.
        recall: Of labels that were exchanged at random, :data:`PLANTED` of all, the share that would be called more
            probably wrong than right.
        precision: Share of the suspects that is really wrong, estimated; None without a suspect.
    """

    named: np.ndarray
    suspect: np.ndarray
    wrong: np.ndarray
    chance: tuple[np.ndarray, np.ndarray]
    accuracy: float
    recall: float
    precision: float | None


@dataclass(frozen=True)
class Judgement:
    """What can be said of a dataset's labels.

    Attributes:
        rows: Images whose labels are judged, int64 (R,): of classes with :data:`ENOUGH` images.
        named: Class that the other images name, (R,).
        suspect: Labels that are called wrong, bool (R,); none where labels cannot be judged.
        wrong: Probability that the label is wrong, (R,).
        chance: Probability of the label, and of the named class, each (R,).
        look: Places in ``rows`` of the labels that are contradicted most, at most :data:`LOOK`.
        guess: Class that is predicted for each image of the dataset, (N,).
        summary: ``judged``, ``reason`` (why not, or empty), ``accuracy``, ``n`` (labels that were looked at),
            ``found`` (the recall), ``precision``, ``suspects`` and ``sure`` (how many), ``sentence``.
    """

    rows: np.ndarray
    named: np.ndarray
    suspect: np.ndarray
    wrong: np.ndarray
    chance: tuple[np.ndarray, np.ndarray]
    look: np.ndarray
    guess: np.ndarray
    summary: dict[str, Any]


def out_of_fold(
    features: Tensor,
    y: Tensor,
    classes: int,
    keys: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> Tensor:
    """Predicts each image from the others: ridge regression on the classes, in closed form; scores (N, K).

    Args:
        features: Standardised, (N, D).
        y: Labels (N,).
        classes: K.
        keys: Hashes (N,); images with equal ones, copies or those of a group, fall into the same fold, so that none
            predicts another.
        strengths: Of the ridge, per image; the one with the least squared error is taken.
    """
    # of far fewer images than features, as many directions as images hold all there is
    if 2 * len(features) < features.shape[1]:
        features = torch.linalg.qr(features.T, mode="r").R.T
    target = F.one_hot(y, classes).float()
    centre = target.mean(0)
    target -= centre
    fold = torch.from_numpy((keys % np.uint64(FOLDS)).astype(np.int64))
    folds = [mine for mine in (fold == number for number in range(FOLDS)) if bool(mine.any())]
    whole, joint = features.T @ features, features.T @ target
    unit = len(features) * torch.eye(features.shape[1])
    parts = [
        (whole - features[mine].T @ features[mine], joint - features[mine].T @ target[mine])
        for mine in folds
    ]

    def predicted(part: int, strength: float) -> Tensor:
        gram, towards = parts[part]
        return features[folds[part]] @ torch.linalg.solve(gram + strength * unit, towards)

    def error(strength: float) -> float:
        return sum(
            float((predicted(part, strength) - target[mine]).square().sum())
            for part, mine in enumerate(folds)
        )

    best = strengths[0] if len(strengths) == 1 else min(strengths, key=error)
    scores = centre.expand(len(features), classes).clone()
    for part, mine in enumerate(folds):
        scores[mine] += predicted(part, best)
    return scores


def probabilities(scores: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """Turns scores (N, K) into probabilities of the right class, and estimates the share of labels that is wrong.

    Both come from the likelihood of the labels as they are given: the classes follow the scores at a temperature, and
    a share of the labels was exchanged for any other class at random. The prior of that share is what :data:`USUAL`
    further labels would say, of which one is known to be wrong.
    """
    some = spaced(len(y), SOME)
    few, mine = scores[some], y[some, None]
    shares = torch.tensor(_NOISE)[:, None]
    likely = torch.stack(
        [
            _given((few * sharp).softmax(1).gather(1, mine)[:, 0], shares, scores.shape[1])
            .clamp_min(1e-9)
            .log()
            .double()
            .mean(1)
            for sharp in _SHARP
        ]
    )  # (temperatures, shares)
    usual = shares[:, 0].log() + (USUAL - 1) * (1 - shares[:, 0]).log()
    sharp, share = divmod(int((len(y) * likely + usual).argmax()), len(_NOISE))
    return (scores * _SHARP[sharp]).softmax(1), _NOISE[share]


def _given(chance: Tensor, noise: Tensor | float, classes: int) -> Tensor:
    """Gives the probability that a class is the given label, from the probability that it is the right one."""
    return (1 - noise) * chance + noise * (1 - chance) / max(1, classes - 1)


def _wrong(chance: Tensor, noise: float, classes: int) -> Tensor:
    """Gives the probability that a given label is wrong, by Bayes' rule."""
    given = _given(chance, noise, classes)
    return torch.where(given > 0, 1 - (1 - noise) * chance / given.clamp_min(1e-12), 0.0)


def confident(chances: Tensor, y: Tensor) -> Tensor:
    """Names the other class that each image confidently is, int64 (N,), or -1 without one.

    That is the most probable of the classes that are more probable here than they usually are where they are given
    (equations 1 and 2 of the paper), if it is more probable than the given one.

    References:
        Northcutt, Jiang and Chuang, 2021, Confident learning, https://arxiv.org/abs/1911.00068
    """
    classes = chances.shape[1]
    counts = torch.bincount(y, minlength=classes)
    own = chances.gather(1, y[:, None])[:, 0]
    bar = torch.zeros(classes).index_add_(0, y, own) / counts.clamp_min(1)
    above = chances >= torch.where(counts > 0, bar, torch.inf)
    top = torch.where(above, chances, -1.0).max(1)
    return torch.where(top.values > own, top.indices, -1)


def doubts(chances: Tensor, y: Tensor, noise: float) -> Doubts:
    """Finds labels that are confidently another one and may well be wrong, as far down the ranking as half of them are.

    Args:
        chances: Out-of-fold probabilities of the right class, (N, K).
        y: Labels, (N,).
        noise: Share of the labels that is wrong.
    """
    classes = chances.shape[1]
    own = chances.gather(1, y[:, None])[:, 0]
    wrong = _wrong(own, noise, classes)
    counted = confident(chances, y)

    def exchanged(share: float, bar: float) -> float:
        """Gives the share of labels that pass a bar after each was exchanged for another class at random."""
        called = (_wrong(chances, share, classes) > bar).sum(1).float()
        return float((called - (_wrong(own, share, classes) > bar).float()).mean()) / (classes - 1)

    precision = None
    for bar in _BARS:
        suspect = (counted >= 0) & (wrong > bar)
        if not (number := int(suspect.sum())):
            precision = None
            break
        expected = noise * exchanged(noise, bar) * len(y)  # wrong labels that pass the bar
        # half a wrong label is added, so that a handful of suspects is not taken for certain
        precision = (min(float(wrong[suspect].sum()), expected) + 0.5) / (number + 1)
        if precision >= REAL:
            break
    best = torch.where(suspect, counted, chances.scatter(1, y[:, None], -1.0).argmax(1))
    return Doubts(
        best.numpy(),
        suspect.numpy(),
        wrong.numpy(),
        (own.numpy(), chances.gather(1, best[:, None])[:, 0].numpy()),
        float((chances.argmax(1) == y).float().mean()),
        exchanged(PLANTED, SURE),
        precision,
    )


def judge(
    features: Tensor, y: np.ndarray, classes: Sequence[str], keys: np.ndarray, skip: np.ndarray
) -> Judgement:
    """Judges the labels of a dataset, or says why they cannot be judged.

    Args:
        features: Standardised, (N, D).
        y: Labels, int64 (N,).
        classes: Their names.
        keys: Content hashes (N,).
        skip: Images that are not judged, bool (N,): blank ones, strangers, copies that contradict each other.
    """
    counts = np.bincount(y, minlength=len(classes))
    large = np.flatnonzero(counts >= ENOUGH)
    scores = out_of_fold(features, torch.as_tensor(y), len(classes), keys)
    guess = scores.argmax(1).numpy()
    rows = np.flatnonzero(np.isin(y, large) & ~skip)
    why = ""
    if len(large) < 2:
        why = f"fewer than two of its classes have at least {ENOUGH} images (n = {len(y):,})"
    elif len(rows) < LEAST:
        why = f"at least {LEAST} labels of classes with {ENOUGH} images are needed, and there are {len(rows):,}"
    if why:
        none = np.zeros(0, np.int64)
        return Judgement(
            none,
            none,
            none.astype(bool),
            none,
            (none, none),
            none,
            guess,
            refused(why, len(y), float((guess == y).mean())),
        )
    mine = torch.as_tensor(np.searchsorted(large, y[rows]))
    chances, noise = probabilities(scores[rows][:, large], mine)
    doubted = doubts(chances, mine, noise)
    summary = _told(
        doubted,
        len(rows),
        [classes[int(k)] for k in np.flatnonzero((counts > 0) & (counts < ENOUGH))],
    )
    worst = np.argsort(doubted.chance[0], kind="stable")
    disputed = doubted.chance[1] > doubted.chance[0]
    return Judgement(
        rows,
        large[doubted.named],
        doubted.suspect & summary["judged"],
        doubted.wrong,
        doubted.chance,
        worst[disputed[worst]][:LOOK],
        guess,
        summary,
    )


def _told(doubted: Doubts, n: int, small: Sequence[str]) -> dict[str, Any]:
    """Decides whether the labels can be judged, and says so with the figures that it rests on."""
    known = f"names {percent(doubted.accuracy)} of the labels (each image by others, n = {n:,})"
    test = f"of labels that are exchanged at random it would find {percent(doubted.recall)}"
    number, reason = int(doubted.suspect.sum()), ""
    if doubted.recall < RELIABLE:
        reason = f"the predictor behind it {known}, and {test}, less than {percent(RELIABLE)}"
    elif doubted.precision is not None and doubted.precision < REAL:
        reason = (
            f"the predictor behind it {known}, and of the labels that it doubts only about "
            f"{percent(doubted.precision)} would be wrong, less than {percent(REAL)}"
        )
    if reason:
        return refused(reason, n, doubted.accuracy, doubted.recall)
    sure = int((doubted.suspect & (doubted.wrong > SURE)).sum())
    said = f"No label error was found in {n:,} labels."
    if number:
        said = (
            f"{number:,} of {n:,} labels may be wrong: by estimate {percent(doubted.precision or 0)} of these are, "
            f"and {sure:,} {'is' if sure == 1 else 'are'} more probably wrong than right."
        )
    few = ", ".join(small[:10]) + (f" and {len(small) - 10:,} more" if len(small) > 10 else "")
    left = f" Classes with fewer than {ENOUGH} images are left out: {few}." if small else ""
    return {
        "judged": True,
        "reason": "",
        "accuracy": doubted.accuracy,
        "n": n,
        "found": doubted.recall,
        "precision": doubted.precision,
        "suspects": number,
        "sure": sure,
        "sentence": f"{said} The predictor behind it {known}, and {test}.{left}",
    }


def refused(
    reason: str, n: int = 0, accuracy: float | None = None, recall: float | None = None
) -> dict[str, Any]:
    """Says why no label is judged, in the form of :attr:`Judgement.summary`."""
    return {
        "judged": False,
        "reason": reason,
        "accuracy": accuracy,
        "n": n,
        "found": recall,
        "precision": None,
        "suspects": 0,
        "sure": 0,
        "sentence": f"Labels cannot be judged on this set, because {reason}. No label is called wrong.",
    }

"""A study of one classifier: attacks at rising strength, the checks, and a report that grows while it works.

>>> study = AttackStudy(target, x, y, StudyConfig())
>>> for report in study:  # doctest: +SKIP
...     print(report.verdict.sentence)
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.catalog import UserError
from core.datasets import Dataset
from core.ground.watch import UNWATCHED, Stopped, Watch
from core.media import recorded
from core.norms import NEAR
from core.robustness import probes
from core.robustness.attacks import attacks
from core.robustness.checks import answers, ordered
from core.robustness.config import StudyConfig, fitting, floats, images_of
from core.robustness.sanity import Peer
from core.robustness.schedule import Turn
from core.robustness.store import Attacked, Clean, Report, Spread, Tried
from core.robustness.tally import Tally, share
from core.robustness.verdict import robustness, verdict
from core.target import Target
from core.tensors import Batch, fingerprint

version_of = cache(version)  # a report that grows asks many times a second
SLICE = 0.25  # seconds of work between two reports
LIMITS = (
    "The number is an upper bound: a stronger attack may lower it.",
    "It holds for these images, this norm and this budget, and for no other change of the {}.",
    "The attacker is taken to know the model and its weights (white box).",
)
ANSWERS_ONLY = (
    "The attacker is taken to see the model's answers, not its weights or gradients (black box)."
)


class AttackStudy(Tally):
    """Attacks a classifier and judges the number; iterate it for the report as it grows.

    Args:
        target: The classifier; the config sets its EOT and BPDA.
        x, y: Items (N, …) in [0, 1] and labels (N,); more than ``config.n`` are cut.
        config: What to do.
        indices: Of the images in their dataset, for the report.
        data: What the report says about the data.
        dataset: Of the images, whose other classifiers the clean accuracy is compared with; optional.
        watch: May stop the study, which keeps its results so far.

    Raises:
        UserError: If an attack or parameter does not exist, or the images do not fit the classifier.
    """

    def __init__(
        self,
        target: Target,
        x: Batch,
        y: Tensor,
        config: StudyConfig,
        *,
        indices: Sequence[int] | None = None,
        data: Mapping[str, Any] | None = None,
        dataset: Dataset | None = None,
        watch: Watch = UNWATCHED,
    ) -> None:
        x, y = fitting(target, x, y)
        classifier = target.with_(eot=config.eot, bpda=config.bpda)
        if config.batch:
            classifier.batch = config.batch
        self.notes: list[str] = []
        if config.n > len(x):
            self.notes.append(f"{config.n} images were asked for; there are {len(x)}.")
        x, y = x[: config.n].to(target.device), y[: config.n].to(target.device)
        super().__init__(classifier, x, y, config)
        self.watch, self.dataset, self.data = watch, dataset, dict(data or {})
        self.indices = list(indices or range(len(x)))[: len(x)]
        self.peers: list[Peer] = []
        self.grid, self.head = self.schedule.grid, self.schedule.head
        self.seconds, self.complete = 0.0, False

    # --- the work -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Report]:
        """Works, yielding the report at least every quarter of a second, and once more when it is complete."""
        began = last = time.perf_counter()
        self.target.on_pass = self._pulse
        try:
            for _ in self._work():
                now = time.perf_counter()
                self.seconds = now - began
                if now - last > SLICE:
                    last = now
                    yield self.report
                self.target.on_pass = self._pulse
                self._pulse()
            if not self.stopped:
                self.complete = True
                if not self.grid:
                    self.findings.why_open = "No strength above 0 was asked for."
                elif not self.right.any():
                    self.findings.why_open = (
                        "No image is named rightly, so there is none to attack."
                    )
        except Stopped:
            pass  # the attack is cut short; its results so far are kept
        finally:
            self.target.on_pass = None
        if self.stopped:
            self.findings.why_open = "The study was stopped before."
        self.seconds = time.perf_counter() - began
        yield self.report

    def _pulse(self) -> None:
        self.stopped = self.stopped or self.watch.stopped()
        self.halt()

    def _work(self) -> Iterator[None]:
        yield from probes.as_it_is(self)
        yield from probes.compare(self, self.dataset, self.indices, self.peers)
        for turn in self.schedule.turns:
            if turn.free:
                yield from self._free(turn.name)
            elif turn.smallest:
                yield from self._smallest(turn.name)
            elif self.grid:
                for k in turn.at:
                    yield from self._bounded(turn.name, k, self._open(turn, k))
        yield from probes.attacks(self, self.peers, self.head)
        for turn in self.schedule.turns:
            if turn.sweeps:
                yield from self._bisect(turn.name)
        for check in ordered():
            if check.probe:
                self.findings.measured[check.name] = yield from check.probe(self)
        self.findings.doubtful = self.doubtful
        self._move_the_headline()
        yield

    def _open(self, turn: Turn, k: int) -> np.ndarray:
        """Gives the rows of the images that an attack still has to try at a strength."""
        left = self.right & (self.fooled[turn.name][k] != 1)
        if turn.left:
            left &= self.smallest > self.grid[k] + NEAR
        return np.flatnonzero(left)

    def _bounded(
        self, name: str, k: int, rows: np.ndarray, more: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        if not len(rows):
            return
        table, eps, outcome = self.fooled[name], self.grid[k], None
        for outcome in self.attack(name, rows, eps, more):
            table[k, rows] = outcome.fooled.cpu().numpy()
            yield
        assert outcome is not None
        hit = self.note_fooled(name, rows, eps, outcome)
        table[k, rows] = hit
        table[k:, rows[hit]] = 1  # an image that a budget fools is fooled by a larger one, too

    def _smallest(self, name: str) -> Iterator[None]:
        rows, outcome = np.flatnonzero(self.right), None
        for outcome in self.attack(name, rows, None) if len(rows) else ():  # noqa: B007
            yield
        if outcome is None:
            return
        distance = outcome.distance.cpu().numpy()
        for k, eps in enumerate(self.grid):
            self.fooled[name][k, rows] = distance <= eps + NEAR
        hit = np.isfinite(distance)
        self.distances[name] = [float(v) for v in distance[hit]]
        self.note(name, rows[hit], distance[hit], outcome.adversarial[outcome.fooled])

    def _free(self, name: str) -> Iterator[None]:
        rows = np.flatnonzero(self.right)
        self.beyond[name] = ~self.right
        for outcome in self.attack(name, rows, None) if len(rows) else ():
            self.beyond[name][rows] = outcome.fooled.cpu().numpy()
            yield

    def _bisect(self, name: str) -> Iterator[None]:
        """Finds between which two strengths each image falls, so that most are never tried."""
        table, top = self.fooled[name], len(self.grid)
        low = np.where(table[self.head] == 1, -1, self.head)
        high = np.where(table[self.head] == 1, self.head, top)
        low[~self.right] = high[~self.right] = top
        more = {"targets": 2} if name == "quick" else None
        while True:
            middle = np.where(high - low > 1, (low + high) // 2, -1)
            if not (middle >= 0).any():
                return
            k = int(np.bincount(middle[middle >= 0]).argmax())  # the largest group first
            group = middle == k
            yield from self._bounded(name, k, np.flatnonzero(group), more)
            hit = table[k] == 1
            high, low = np.where(group & hit, k, high), np.where(group & ~hit, k, low)
            below = table[:k, group & ~hit]
            table[:k, group & ~hit] = np.where(below == -1, 0, below)

    def _move_the_headline(self) -> None:
        """Moves the headline of a sweep to the first strength at which images fall, if none fall at the usual one."""
        clean = self.right.mean()
        if self.schedule.given or self.head < 0 or self.robust(self.head).mean() < 0.99 * clean:
            return
        falls = [k for k in range(len(self.grid)) if self.robust(k).mean() < 0.9 * clean]
        self.head = falls[0] if falls else self.head

    # --- the report -----------------------------------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """The report as far as the study has come."""
        findings, target, config = self.findings, self.target, self.config
        form = target.medium.item
        rows = [self.row(0.0, self.right, {})]
        for k, eps in enumerate(self.grid):
            alone = {
                name: float((self.right & (table[k] != 1)).mean())
                for name, table in self.fooled.items()
                if (table[k][self.right] != -1).any()
            }
            rows.append(self.row(eps, self.robust(k), alone))
        head, checks = rows[self.head + 1], answers(findings)
        sound = verdict(findings, checks, head, rows[0].robust)
        limits = [*LIMITS[:-1], ANSWERS_ONLY] if target.answers_only else LIMITS
        return Report(
            complete=self.complete,
            stopped=self.stopped,
            robustness=robustness(head, findings.chance, sound, self.complete),
            verdict=sound,
            checks=checks,
            clean=Clean(*share(self.right)),
            chance=findings.chance,
            identity=findings.identity,
            norm=config.norm,
            headline=head.eps,
            results=rows,
            beyond={name: float((self.right & ~hit).mean()) for name, hit in self.beyond.items()},
            distances={name: _spread(values) for name, values in self.distances.items()},
            attacks=[self._described(name) for name in self.schedule.names],
            images=self._images(),
            data=self.data | {"n": len(self.x), "seed": config.seed},
            model={
                **target.card,
                "name": target.name,
                "classes": list(target.classes),
                **recorded(target.medium.name, target.shape),
                "dtype": "float32",
                "mode": "evaluation",
                "eot": config.eot,
                "bpda": config.bpda,
            },
            threat={
                "goal": "any wrong class",
                "knowledge": "its answers only (black box)"
                if target.answers_only
                else "everything (white box)",
                "norm": config.norm,
                "range": [0, 1],
                "units": f"{'pixels' if form == 'picture' else 'numbers'} from 0 to 1; "
                "the model's own preprocessing is inside it",
            },
            versions={
                "python": platform.python_version(),
                **{name: version_of(name) for name in ("torch", "numpy")},
            },
            device=str(self.x.device),
            seconds=round(self.seconds, 3),
            notes=[*self.notes, *dict.fromkeys(target.notes)],
            limits=[limit.format(form) for limit in limits],
            config=config.record(),
        )

    def _images(self) -> list[Attacked]:
        """Describes every image; none before the classifier has answered."""
        if not self.answered:
            return []
        names = self.target.classes
        return [
            Attacked(
                int(self.indices[i]),
                names[int(self.y[i])],
                names[int(self.said[i])] if self.said[i] >= 0 else "not a number",
                bool(self.right[i]),
                float(self.smallest[i]) if np.isfinite(self.smallest[i]) else None,
                str(self.by[i]),
            )
            for i in range(len(self.x))
        ]

    def _described(self, name: str) -> Tried:
        entry, spent = attacks.get(name), self.spent.get(name, {})
        parameters = entry.config.of(self.schedule.settings[name], name).record()
        return Tried(
            name,
            entry.title,
            parameters,
            round(spent.get("seconds", 0.0), 3),
            int(spent.get("forward", 0)),
            int(spent.get("backward", 0)),
            f"{entry.needs} {version_of(entry.needs)}" if entry.needs else "Simulacra",
        )


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return Spread(0, None, None)
    quartiles = float(np.quantile(values, 0.25)), float(np.quantile(values, 0.75))
    return Spread(len(values), float(np.median(values)), quartiles)


def begin(
    target: Target,
    dataset: Dataset,
    config: StudyConfig,
    *,
    data: Mapping[str, Any] | None = None,
    watch: Watch = UNWATCHED,
) -> AttackStudy:
    """Prepares a study of images of a dataset, spread evenly over the split that the config names.

    Args:
        target, dataset, config, watch: Of the study.
        data: What the report says about the data besides its name, split and fingerprint.

    Raises:
        UserError: If the dataset has no labels, the split no images, or as the study itself.
    """
    x, y, indices, known = images_of(dataset, config)
    known |= data or {}
    return AttackStudy(
        target, x, y, config, indices=indices, data=known, dataset=dataset, watch=watch
    )


def check(
    model: Any,
    x: Any,
    y: Any,
    *,
    classes: Sequence[str] | None = None,
    name: str = "model",
    **values: Any,
) -> dict[str, Any]:
    """Attacks any module on images and labels, and says whether to believe the number; gives the whole report
    as plain values, with the keys that ``--json`` prints.

    Args:
        model: A ``torch.nn.Module`` (or callable) from images in [0, 1] to logits; its normalisation is its own.
        x: Images, float (N, C, H, W) in [0, 1].
        y: Labels (N,), whole numbers from 0.
        classes: Names; numbers when left out.
        name: Of the model, for the report.
        values: Of :class:`StudyConfig`, for example ``eps="8/255", attacks="quick,autoattack"``.

    Raises:
        UserError: If the model, the images or a value cannot be used.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    config = StudyConfig.of({"n": max(1, len(x)), **values}, "attack")
    floats(x)
    device = (
        next((p.device for p in model.parameters()), torch.device("cpu"))
        if isinstance(model, nn.Module)
        else "cpu"
    )
    if classes is None:
        if isinstance(model, nn.Module):
            model.eval()
        with torch.no_grad():
            classes = [str(k) for k in range(model(x[:1].to(device)).shape[1])]
    if len(classes) < 2:
        raise UserError(
            f"A classifier needs at least 2 classes, got {len(classes)}. Give it one logit per class."
        )
    card = {"hash": fingerprint(model)}
    target = Target(model, classes, x.shape[1:], name=name, card=card, device=device)
    *_, report = AttackStudy(target, x, y, config)
    return report.record()

"""A study of one classifier: attacks at rising strength, the checks, and a report that grows while it works.

>>> study = Study(target, x, y, StudyConfig())
>>> for report in study:  # doctest: +SKIP
...     print(report["verdict"]["sentence"])
"""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.attacks import NEAR, Outcome, Trial, attacks
from core.catalog import UserError
from core.datasets import Dataset
from core.robustness import identity
from core.robustness.questions import (
    StudyConfig,
    fitting,
    floats,
    names_of,
    settings_of,
    sweep,
)
from core.robustness.verdict import (
    HONEST,
    STRONG,
    UNMASKING,
    checks,
    many,
    robustness,
    verdict,
)
from core.stats import mcnemar, proportion
from core.tensors import Images
from core.threat import (
    Climb,
    Halted,
    Target,
    Watched,
    default_eps,
    eps_text,
    largest,
    length,
    margin,
    parse_eps,
    steepest,
)

PROBE = 128  # images of the checks that need attacks of their own
STRIDES = (1 / 4, 1)  # of the strength: at one of these steps the gradient must keep its promise
BLIND = "a search that sees no gradient"
QUERIES = 300, 1000  # of that search: usually, and where the gradient is doubtful
SLICE = 0.25  # seconds of work between two looks
version_of = cache(version)  # a report that grows asks many times a second
LIMITS = (
    "The number is an upper bound: a stronger attack may lower it.",
    "It holds for these images, this norm and this budget, and for no other change of the picture.",
    "The attacker is taken to know the model and its weights (white box).",
)


class Study:
    """Attacks a classifier and judges the number; iterate it for the report as it grows.

    Args:
        target: The classifier; asked as the config says (EOT, BPDA).
        x, y: Images (N, C, H, W) in [0, 1] and labels (N,); more than ``config.n`` are cut.
        config: What to do.
        indices: Of the images in their dataset, for the report.
        data: What the report says about the data.
        dataset: Where the images come from, for what the clean accuracy is compared with; not needed.
        stop: Asked often; a reason ends the study, which keeps what it has.

    Raises:
        UserError: If an attack or parameter does not exist, or the images do not fit the classifier.
    """

    def __init__(
        self,
        target: Target,
        x: Images,
        y: Tensor,
        config: StudyConfig,
        *,
        indices: Sequence[int] | None = None,
        data: Mapping[str, Any] | None = None,
        dataset: Dataset | None = None,
        stop: Callable[[], str] = lambda: "",
    ) -> None:
        self.config, self.stop, self.dataset = config, stop, dataset
        self.peers: list[identity.Peer] = []
        self.target = target.with_(eot=config.eot, bpda=config.bpda)
        if config.batch:
            self.target.batch = config.batch
        x, y = fitting(self.target, x, y)
        self.notes: list[str] = []
        if config.n > len(x):
            self.notes.append(f"{config.n} images were asked for; there are {len(x)}.")
        self.x, self.y = x[: config.n].to(target.device), y[: config.n].to(target.device)
        self.indices = list(indices or range(len(self.x)))[: len(self.x)]
        self.data = dict(data or {})
        self.names = names_of(config)
        self.settings = settings_of(config, self.names)
        channels, size, norm = target.channels, target.size, config.norm
        self.given = parse_eps(config.eps, channels, size, norm)
        usual = default_eps(channels, size, norm)
        self.grid = [e for e in self.given if e > 0] or (
            [] if self.given else sweep(channels, size, norm)
        )
        near = [k for k, e in enumerate(self.grid) if math.isclose(e, usual, rel_tol=1e-3)]
        self.head = near[0] if near else len(self.grid) - 1  # -1: nothing but eps 0 was asked for
        n = len(self.x)
        self.fooled = {name: np.full((len(self.grid), n), -1, np.int8) for name in self.names}
        self.beyond: dict[str, np.ndarray] = {}  # attacks that no norm bounds
        self.adversarial = self.x.clone()
        self.smallest = np.full(n, np.inf)
        self.by = np.full(n, "", object)
        self.right = np.zeros(n, bool)
        self.found: dict[str, Any] = {
            "n": n, "probe": min(PROBE, n), "bpda": config.bpda, "eot": config.eot,
            "strong": any(name in STRONG for name in self.names),
            "unmasking": any(name in UNMASKING for name in self.names),
            "sees_margin": self._sees_margin(),
            "chance": 1 / len(target.classes),
            "purifier": bool(target.facts.get("purifier")),
        }  # fmt: skip
        self.spent: dict[str, dict[str, float]] = {}
        self.seconds, self.stopped, self.complete = 0.0, "", False
        self.doubtful = 0

    def _sees_margin(self) -> bool:
        losses = [self.settings[name].get("loss") for name in self.names]
        return any(name in STRONG for name in self.names) or any(
            loss in ("margin", "dlr") for loss in losses
        )

    # --- the work -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[dict[str, Any]]:
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
                if reason := self.stop():
                    self.stopped = reason
                    break
            else:
                self.complete = not self.stopped
                if not self.grid:
                    self.found["why_open"] = "No strength above 0 was asked for."
                elif not self.right.any():
                    self.found["why_open"] = (
                        "No image is named rightly, so there is none to attack."
                    )
        except Halted:
            pass  # _pulse has written down why
        finally:
            self.target.on_pass = None
        if self.stopped:
            self.found["why_open"] = "The study was stopped before."
        self.seconds = time.perf_counter() - began
        yield self.report

    def _pulse(self) -> None:
        if reason := self.stop():
            self.stopped = reason
            raise Halted

    def _work(self) -> Iterator[None]:
        yield from self._clean()
        todo = [name for name in self.names if attacks.get(name).free]
        for name in todo:
            yield from self._free(name)
        bounded = [name for name in self.names if name not in todo]
        bounded.sort(key=lambda name: costly(name, self))  # what only tries what is left comes last
        # the headline first, so that there is a number soon; then the rest of the curve
        for name in bounded:
            if attacks.get(name).smallest:
                yield from self._smallest(name)
            elif self.given:
                for k in range(len(self.grid)):
                    yield from self._bounded(name, k, self._open(name, k))
            elif self.grid:
                yield from self._bounded(name, self.head, self._open(name, self.head))
        yield from self._probes()
        if not self.given:
            for name in bounded:
                if not costly(name, self) and not attacks.get(name).smallest:
                    yield from self._bisect(name)
        yield from self._last()

    def _clean(self) -> Iterator[None]:
        target = self.target
        with Watched() as watched:
            first = target.logits(self.x[:8])
        self.found["inner_gradient"] = watched.seen
        sums = first.sum(1)
        probabilities = bool(((first >= 0) & (first <= 1)).all()) and bool(
            ((sums - 1).abs() < 1e-3).all()
        )
        self.found["probabilities"] = probabilities
        flat = bool(((first == 0) | (first == 1)).all())
        if probabilities and target.eot == 1:
            target.logs = True
        parts = []
        for rows in torch.arange(len(self.x), device=self.x.device).split(target.batch):
            parts.append(target.logits(self.x[rows]))
            yield
        logits = torch.cat(parts)
        said = logits.argmax(1).masked_fill(logits.isnan().any(1), -1)
        self.right = (said == self.y).cpu().numpy()
        self.said = said.cpu().numpy()
        self.found["not_numbers"] = int(logits.isnan().any(1).sum())
        few = self.x[:PROBE]
        again = target.logits(few)
        size = logits[: len(few)].nan_to_num(0.0).abs().amax(1).clamp_min(1e-6)
        differs = (again - logits[: len(few)]).nan_to_num(0.0).abs().amax(1) > 1e-3 * size
        self.found["differs"] = float(differs.float().mean())
        yield
        y = self.y[: len(few)]
        _, _, slope = target.climb(few, Climb("ce", y))
        # a gradient is taken for lost only where the image is still named rightly
        self.found["ce_zero"] = float((length(slope, "linf") == 0).float().mean())
        _, _, slope = target.climb(few, Climb("margin", y))
        zero = length(slope, "linf") == 0
        self.found["margin_zero"] = float(zero.float().mean())
        self.found["decisions"] = bool(zero.all()) and flat and probabilities
        yield
        yield from self._meant()

    def _meant(self) -> Iterator[None]:
        """Compares the clean accuracy with guessing and with what is there, and looks for the usual mistakes."""
        about: dict[str, Any] = {}
        for about in identity.look(self.target, self.x, self.y, self.said, self.dataset):  # noqa: B007
            yield
        if self.dataset is not None:
            self.peers = identity.peers(self.dataset, self.x, self.y, self.indices, self.target)
        facts = self.target.facts
        _, counts = np.unique(self.y.cpu().numpy(), return_counts=True)
        self.found["identity"] = {
            **about,
            "clean": float(self.right.mean()),
            "largest": float(counts.max() / counts.sum()),
            "ours": facts.get("kind") in ("run", "plain"),
            "hardened": facts.get("training", {}).get("defence", "none") != "none",
            "compared": facts.get("kind") == "plain" or any(p.target for p in self.peers),
            "peers": [
                {
                    "name": peer.name,
                    "share": float(peer.right.mean()),
                    "p": mcnemar(
                        int((self.right & ~peer.right).sum()), int((~self.right & peer.right).sum())
                    ),
                }
                for peer in self.peers
            ],
        }
        yield

    def _open(self, name: str, k: int) -> np.ndarray:
        """Gives the images that an attack has still to try at a strength; a costly one only what all others left."""
        left = self.right & (self.fooled[name][k] != 1)
        if costly(name, self):
            left &= self.smallest > self.grid[k] + NEAR
        return np.flatnonzero(left)

    def _trial(
        self, name: str, rows: np.ndarray, eps: float | None, more: Mapping[str, Any] | None = None
    ) -> Iterator[Outcome]:
        where = torch.as_tensor(rows, device=self.x.device)
        trial = Trial(
            name, self.target, self.x[where], self.y[where], eps, self.config.norm,
            {**self.settings[name], **(more or {})}, seed=self.config.seed, ids=where,
        )  # fmt: skip
        spent = self.spent.setdefault(name, {"seconds": 0.0, "forward": 0, "backward": 0})
        before = dict(spent)
        for outcome in trial:
            for key in spent:
                spent[key] = before[key] + getattr(outcome, key)
            yield outcome
        self.doubtful += trial.outcome.doubtful
        self._inside(trial.outcome, where, eps)
        if self.stopped:
            raise Halted

    def _inside(self, outcome: Outcome, where: Tensor, eps: float | None) -> None:
        """Counts what breaks the promise; the wrapper makes that impossible, and here it is looked at."""
        moved = outcome.adversarial[outcome.fooled]
        outside = (~moved.isfinite()).flatten(1).any(1) | (moved < 0).flatten(1).any(1)
        outside |= (moved > 1).flatten(1).any(1)
        if eps is not None:
            size = length(moved - self.x[where][outcome.fooled], self.config.norm)
            outside |= size > eps * (1 + 1e-5) + NEAR
        self.found["outside"] = self.found.get("outside", 0) + int(outside.sum())

    def _bounded(
        self, name: str, k: int, rows: np.ndarray, more: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        if not len(rows):
            return
        outcome = None
        for outcome in self._trial(name, rows, self.grid[k], more):
            hit = outcome.fooled.cpu().numpy()
            self.fooled[name][k, rows] = hit
            yield
        assert outcome is not None
        hit = outcome.fooled.cpu().numpy()
        self.fooled[name][k, rows] = hit
        self.fooled[name][k:, rows[hit]] = (
            1  # whoever is fooled within a budget is within a larger one
        )
        self._note(name, rows[hit], self.grid[k], outcome.adversarial[outcome.fooled])

    def _note(self, name: str, rows: np.ndarray, eps: float | np.ndarray, images: Images) -> None:
        """Keeps, per image, the smallest change that fooled."""
        eps = np.broadcast_to(eps, rows.shape)
        better = eps < self.smallest[rows]
        chosen = rows[better]
        self.smallest[chosen], self.by[chosen] = eps[better], name
        mask = torch.as_tensor(better, device=images.device)
        self.adversarial[torch.as_tensor(chosen, device=images.device)] = images[mask]

    def _smallest(self, name: str) -> Iterator[None]:
        rows = np.flatnonzero(self.right)
        outcome = None
        for outcome in self._trial(name, rows, None) if len(rows) else ():  # noqa: B007
            yield
        if outcome is None:
            return
        distance = outcome.distance.cpu().numpy()
        for k, eps in enumerate(self.grid):
            self.fooled[name][k, rows] = distance <= eps + NEAR
        hit = np.isfinite(distance)
        self.found.setdefault("distances", {})[name] = [float(v) for v in distance[hit]]
        self._note(name, rows[hit], distance[hit], outcome.adversarial[outcome.fooled])

    def _free(self, name: str) -> Iterator[None]:
        rows = np.flatnonzero(self.right)
        self.beyond[name] = ~self.right
        for outcome in self._trial(name, rows, None) if len(rows) else ():
            self.beyond[name][rows] = outcome.fooled.cpu().numpy()
            yield

    def _bisect(self, name: str) -> Iterator[None]:
        """Finds between which two strengths each image falls, so that most are never tried."""
        n, top = len(self.x), len(self.grid)
        low = np.where(self.fooled[name][self.head] == 1, -1, self.head)
        high = np.where(self.fooled[name][self.head] == 1, self.head, top)
        low[~self.right] = high[~self.right] = top
        more = {"targets": 2} if name == "quick" else None
        while True:
            middle = np.where(high - low > 1, (low + high) // 2, -1)
            if not (middle >= 0).any():
                return
            k = int(np.bincount(middle[middle >= 0]).argmax())  # the largest group first
            rows = np.flatnonzero(middle == k)
            yield from self._bounded(name, k, rows, more)
            hit = self.fooled[name][k] == 1
            group = np.zeros(n, bool)
            group[rows] = True
            high = np.where(group & hit, k, high)
            low = np.where(group & ~hit, k, low)
            survived = group & ~hit
            below = self.fooled[name][:k]
            below[:, survived] = np.where(below[:, survived] == -1, 0, below[:, survived])

    # --- the checks -----------------------------------------------------------------------------------------------

    def _probes(self) -> Iterator[None]:
        if not self.grid:
            return
        found, target, config = self.found, self.target, self.config
        rows = np.flatnonzero(self.right)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), PROBE)).astype(int)]
        found["probe"] = len(rows) or 1
        if not len(rows):
            return
        where = torch.as_tensor(rows, device=self.x.device)
        x, y = self.x[where], self.y[where]

        def left(
            name: str, eps: float, values: Mapping[str, Any], seed: int = 0
        ) -> Iterator[Outcome]:
            yield from Trial(
                name, target, x, y, eps, config.norm, values, seed=config.seed + seed, ids=where
            )

        outcome = None
        for outcome in left("pgd", 0.0, {"steps": 2}):  # noqa: B007
            yield
        assert outcome is not None
        found["zero_changed"] = int(outcome.fooled.sum())
        eps = self._telling()
        before = self.smallest[rows] > eps + NEAR  # what stood when the probes began
        kept: dict[str, Tensor] = {}
        runs: list[tuple[str, str, dict[str, Any], int]] = [
            ("one", "fgsm", {"loss": "margin"}, 0),
            ("short", "pgd", {"steps": 20, "loss": "margin"}, 0),
            ("long", "pgd", {"steps": 40, "loss": "margin"}, 0),
            ("ce", "pgd", {"steps": 20, "loss": "ce"}, 0),
            ("second", "pgd", {"steps": 20, "loss": "margin"}, 1),
            ("third", "pgd", {"steps": 20, "loss": "margin"}, 2),
        ]
        for key, name, values, seed in runs:
            for outcome in left(name, eps, values, seed):  # noqa: B007
                yield
            kept[key] = ~outcome.fooled
            self._weapon(name, rows, eps, outcome)
            if self.stopped:
                raise Halted
        share = {key: float(value.float().mean()) for key, value in kept.items()}
        found |= {
            "fgsm": share["one"], "pgd": share["short"], "pgd_long": share["long"],
            "ce": share["ce"], "margin": share["short"],
            "seeds": [share["short"], share["second"], share["third"]],
            "union": float((kept["short"] & kept["second"] & kept["third"]).float().mean()),
            "undone": _paired(kept["long"], kept["short"]),
            "blinder": _paired(kept["ce"], kept["short"]),
        }  # fmt: skip
        if not self.target.bpda:
            found["promise"] = self._promise(x, y, eps)
            yield
        top = largest(target.channels, target.size, config.norm)
        for outcome in left("quick", top, {"targets": 2}):  # noqa: B007
            yield
        found["widest"] = float((~outcome.fooled).float().mean())
        self._weapon("quick", rows, top, outcome)
        stands = before & (self.smallest[rows] > eps + NEAR)
        yield from self._past(rows[stands], eps)
        if self.stopped:
            raise Halted

    def _weapon(self, name: str, rows: np.ndarray, eps: float, outcome: Outcome) -> None:
        """Counts what a probe has fooled: a weapon found is a weapon used."""
        hit = outcome.fooled
        if bool(hit.any()):
            self._note(name, rows[hit.cpu().numpy()], eps, outcome.adversarial[hit])

    def _promise(self, x: Images, y: Tensor, eps: float) -> float:
        """Measures what a step along the gradient gains, as a multiple of what the gradient promises.

        Near 1 wherever a gradient is of use; of several steps that which keeps it best, as one may be below a rounding.
        """
        _, before, slope = self.target.climb(x, Climb("margin", y))
        ahead = steepest(slope, self.config.norm, x)
        found = []
        for stride in STRIDES:
            moved = (x + stride * eps * ahead).clamp(0, 1)
            told = ((moved - x) * slope).flatten(1).sum(1)
            came = margin(self.target.logits(moved), y) - before
            if bool((told > 0).any()):
                found.append(float((came / told)[told > 0].nan_to_num(0.0).median()))
        return min(found, key=lambda kept: abs(math.log(max(kept, 1e-9))), default=1.0)

    def _past(self, rows: np.ndarray, eps: float) -> Iterator[None]:
        """Attacks what is left in ways that do not rest on the classifier's own gradient, and counts what falls."""
        found, config, tried = self.found, self.config, len(rows)
        doubtful = (
            not HONEST[0] <= found.get("promise", 1.0) <= HONEST[1]
            or found["pgd_long"] > found["pgd"] + 0.02
            or found["pgd"] > found["fgsm"] + 0.02
            or found["margin_zero"] > 0.1
        )
        ways: list[tuple[str, str, dict[str, Any], identity.Peer | None]] = [
            ("gradients averaged nearby or passed around its first steps", "adaptive", {}, None),
            (BLIND, "square", {"queries": QUERIES[doubtful]}, None),
            *(
                (f"images made against {p.name}", "quick", {"targets": 1}, p)
                for p in self.peers
                if p.target
            ),
            ("a network that learned its answers", "surrogate", {}, None),
        ]
        by: dict[str, int] = {}
        for title, name, values, peer in ways:
            if name == "surrogate" and (not doubtful or many(sum(by.values()), tried)):
                continue  # the dearest, where something is amiss and nothing has shown it yet
            if not len(rows):
                break
            where = torch.as_tensor(rows, device=self.x.device)
            y = self.y[where]
            trial = Trial(
                name, peer.target if peer and peer.target else self.target, self.x[where], y, eps, config.norm,
                values, seed=config.seed, ids=where, active=not peer,
            )  # fmt: skip
            for _ in trial:
                yield
            moved, hit = trial.outcome.adversarial, trial.outcome.fooled
            if peer:
                hit = self.target.predict(moved) != y
            fell = hit.cpu().numpy()
            self._note("transfer" if peer else name, rows[fell], eps, moved[hit])
            by[title] = int(fell.sum())
            rows = rows[~fell]
            if self.stopped:
                raise Halted
        past = np.isin(self.by, ("adaptive", "surrogate", "square", "transfer"))
        found["past_gain"] = int((past & (self.smallest <= eps + NEAR)).sum())
        found["past_only"] = sum(by.values())
        found["blind_only"] = by.pop(BLIND, 0)
        found |= {"past_by": by, "blind_tried": tried}

    def _telling(self) -> float:
        """Chooses a strength at which something falls and something stands, for the checks."""
        k = self.head
        for _ in range(len(self.grid)):
            left = self._robust(k).mean()
            clean = max(self.right.mean(), 1e-9)
            if left < 0.05 * clean and k > 0 and not self.given:
                k -= 1
                break
            if left > 0.99 * clean and k + 1 < len(self.grid) and self.given:
                k += 1
                continue
            break
        return self.grid[k]

    def _last(self) -> Iterator[None]:
        """Compares the placebo with what looked at the classifier, at every strength where both were tried."""
        others = [name for name in self.fooled if name != "noise"]
        worst = 0
        for k in range(len(self.grid)):
            placebo = self.fooled["noise"][k] == 1
            if others and placebo.any():
                tried = np.any([self.fooled[name][k] != -1 for name in others], axis=0)
                hit = np.any([self.fooled[name][k] == 1 for name in others], axis=0)
                worst = max(worst, int((placebo & tried & ~hit).sum()))
        self.found["noise_only"] = worst
        self.found["doubtful"] = self.doubtful
        self.found.setdefault("outside", 0)
        if (
            not self.given
            and self.head >= 0
            and self._robust(self.head).mean() >= 0.99 * self.right.mean()
        ):
            # a number at which nothing falls says nothing: the headline moves to where something does
            falls = [
                k for k in range(len(self.grid)) if self._robust(k).mean() < 0.9 * self.right.mean()
            ]
            self.head = falls[0] if falls else self.head
        yield

    # --- the report -----------------------------------------------------------------------------------------------

    def _robust(self, k: int) -> np.ndarray:
        """Tells which images withstand every attack at a strength, (N,)."""
        return self.right & (self.smallest > self.grid[k] + NEAR)

    def _row(self, eps: float, robust: np.ndarray, by: Mapping[str, float]) -> dict[str, Any]:
        y = self.y.cpu().numpy()
        classes = []
        for k, name in enumerate(self.target.classes):
            own = robust[y == k]
            if len(own):
                low, high = proportion(int(own.sum()), len(own)).interval
                classes.append(
                    {
                        "name": name,
                        "robust": float(own.mean()),
                        "interval": [low, high],
                        "n": len(own),
                    }
                )
        low, high = proportion(int(robust.sum()), len(robust)).interval
        return {
            "eps": eps,
            "text": eps_text(eps, self.config.norm),
            "robust": float(robust.mean()),
            "interval": [low, high],
            "n": len(robust),
            "attacks": dict(by),
            "classes": classes,
        }

    @property
    def report(self) -> dict[str, Any]:
        """The report of what is known now: plain values, ready for JSON."""
        answers = checks(self.found)
        results = [self._row(0.0, self.right, {})]
        for k, eps in enumerate(self.grid):
            by = {
                name: float((self.right & (table[k] != 1)).mean())
                for name, table in self.fooled.items()
                if (table[k][self.right] != -1).any()
            }
            results.append(self._row(eps, self._robust(k), by))
        head = results[self.head + 1]
        sound = verdict(self.found, answers, {**head, "clean": results[0]["robust"]})
        low, high = results[0]["interval"]
        clean = {"value": results[0]["robust"], "interval": [low, high], "n": results[0]["n"]}
        images = [
            {
                "index": int(self.indices[i]),
                "label": self.target.classes[int(self.y[i])],
                "clean": self.target.classes[int(self.said[i])] if self.said[i] >= 0 else "not a number",
                "right": bool(self.right[i]),
                "smallest": float(self.smallest[i]) if np.isfinite(self.smallest[i]) else None,
                "by": str(self.by[i]),
            }
            for i in range(len(self.x))
        ] if hasattr(self, "said") else []  # fmt: skip
        distances = {
            name: {
                "fooled": len(values),
                "median": float(np.median(values)) if values else None,
                "quartiles": [float(np.quantile(values, q)) for q in (0.25, 0.75)]
                if values
                else None,
            }
            for name, values in self.found.get("distances", {}).items()
        }
        return {
            "complete": self.complete,
            "stopped": self.stopped,
            "robustness": robustness(
                head, self.found["chance"], sound, self.complete
            ),
            "verdict": sound,
            "checks": [answer.record() for answer in answers],
            "clean": clean,
            "chance": self.found["chance"],
            "identity": self.found.get("identity"),
            "norm": self.config.norm,
            "headline": head["eps"],
            "results": results,
            "beyond": {
                name: float((self.right & ~hit).mean()) for name, hit in self.beyond.items()
            },
            "distances": distances,
            "attacks": [self._described(name) for name in self.names],
            "images": images,
            "data": self.data | {"n": len(self.x), "seed": self.config.seed},
            "model": {**self.target.facts, "name": self.target.name, "classes": list(self.target.classes),
                      "channels": self.target.channels, "size": self.target.size, "dtype": "float32",
                      "mode": "evaluation", "eot": self.config.eot, "bpda": self.config.bpda},
            "threat": {
                "goal": "any wrong class",
                "knowledge": "everything (white box)",
                "norm": self.config.norm,
                "range": [0, 1],
                "units": "pixels from 0 to 1; the model's own preprocessing is inside it",
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version_of(name) for name in ("torch", "numpy")},
            },
            "device": str(self.x.device),
            "seconds": round(self.seconds, 3),
            "notes": [*self.notes, *dict.fromkeys(self.target.notes)],
            "limits": list(LIMITS),
            "config": self.config.record(),
        }  # fmt: skip

    def _described(self, name: str) -> dict[str, Any]:
        entry, spent = attacks.get(name), self.spent.get(name, {})
        package = entry.needs
        return {
            "name": name,
            "title": entry.title,
            "parameters": entry.config.of(self.settings[name], name).record(),
            "seconds": round(spent.get("seconds", 0.0), 3),
            "forward": int(spent.get("forward", 0)),
            "backward": int(spent.get("backward", 0)),
            "library": f"{package} {version_of(package)}" if package else "Simulacra",
        }


def _paired(first: Tensor, second: Tensor) -> float:
    """Gives the probability by chance of how two attacks on the same images differ."""
    return mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def costly(name: str, study: Study) -> bool:
    """Tells whether an attack is worth trying only on what the others have left."""
    entry = attacks.get(name)
    config = entry.config.of(study.settings[name], name)
    return entry.last or entry.passes(config, len(study.target.classes)) > 700


def check(
    model: Any,
    x: Any,
    y: Any,
    *,
    classes: Sequence[str] | None = None,
    name: str = "model",
    **values: Any,
) -> dict[str, Any]:
    """Attacks any module on images and labels, and says whether to believe the number; gives the whole report.

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
    target = Target(
        model,
        classes,
        x.shape[1],
        x.shape[2],
        name=name,
        facts={"hash": fingerprint(model)},
        device=device,
    )
    *_, report = Study(target, x, y, config)
    return report


def fingerprint(model: Any) -> str:
    """Takes the sha-256 of a module's weights, 16 digits; empty for what has none."""
    if not isinstance(model, nn.Module):
        return ""
    mark = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        mark.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        mark.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return mark.hexdigest()[:16]

"""The steps of an improvement: what each does within its time, and what is said of it."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from core import building, datasets
from core.building import experiment
from core.building.experiment import Experiment, ExperimentConfig
from core.building.experiment.trial import real
from core.building.improve import effect, mending
from core.building.improve.config import Beat, Deadline, ImproveConfig, Limited
from core.building.improve.effect import Effect
from core.building.improve.improved import TITLES, Improved
from core.building.plan import Plan
from core.building.version import added
from core.catalog import UserError, reason
from core.datasets import Dataset
from core.ground.stats import proportion
from core.ground.watch import UNWATCHED, Stopped, Watch
from core.ground.writing import duration, many
from core.quality import decisions

# Until which share of the time a step must have ended; what one leaves over, the next may use.
ENDS = {"mend": 0.6, "augment": 0.38, "generate": 0.6, "save": 0.65, "prove": 0.96}
FEWEST_STEPS, MOST_STEPS = 50, 800  # of a referee
PAIRS, MOST_PAIRS = 8, 30  # that the time is planned for, and that are done at most
CHOICES = 4  # pairs that choose on the validation images
HELD = 20  # validation images that a choice needs
ENOUGH = 200, 30  # training images that a generative model needs, in all and of the middle class
MOST_SYNTHETIC = 500  # of each class
PACE = 0.15  # of the time that a second look at the speed may take

Train = Callable[[str, Mapping[str, Any], Dataset, ImproveConfig, float, Watch], str]


def check(dataset: Dataset) -> None:
    """Refuses a dataset that cannot be improved by measuring.

    Raises:
        UserError: As :func:`core.building.experiment.check`.
    """
    experiment.check(dataset, _config(dataset, ImproveConfig(), FEWEST_STEPS))


def _config(dataset: Dataset, config: ImproveConfig, steps: int) -> ExperimentConfig:
    most = 1
    if dataset.y is not None and len(dataset.splits["train"]):
        most = int(np.bincount(dataset.y[real(dataset)], minlength=1).max())
    return ExperimentConfig(
        per_class=str(max(1, most)),
        placebo=True,
        chain=False,
        trivial=False,
        steps=steps,
        width=config.width,
        seed=config.seed,
    )


class Improvement(Improved):
    """An improvement of a dataset within a time.

    Args:
        dataset: What is improved; it stays as it is.
        config: How long it may take, and what is tried.
        name, values: Of the dataset, as a plan names it.
        train: Trains a generative model on a dataset for so many seconds, and gives the id of the run.
        watch: Told how far it is; may end it, and what was done is kept.
        earlier: What an improvement of before gave: its plan is done again, without what was taken back since.
        who: Who decides.
        now: The clock.

    Raises:
        UserError: As :func:`check`.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ImproveConfig,
        name: str,
        values: Mapping[str, Any],
        train: Train,
        watch: Watch = UNWATCHED,
        earlier: Mapping[str, Any] | None = None,
        who: str = "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        check(dataset)
        super().__init__(dataset, config, Deadline(60 * config.minutes, now))
        self.name, self.values = name, dict(values)  # what a plan starts from
        self.train, self.watch, self.who, self.earlier = train, watch, who, earlier
        self.versions: dict[str, Dataset] = {}  # by the title of their plan
        self.overhead, self.per_step = 0.0, 0.0  # seconds of a training of the referee
        self.said = ""

    def run(self) -> Iterator[dict[str, Any]]:
        """Does the steps; yields what is known so far after each, in plain values.

        Raises:
            UserError: If not even a baseline can be measured.
            Stopped: If somebody asked for the end.
        """
        for step in (self.pace, self.mend, self.augment, self.generate, self.save, self.prove):
            try:
                self.attempt(step)
            except Stopped:
                if self.version is None:  # what was chosen so far stays, though without a proof
                    self.attempt(self.save)
                raise
            yield self.record()

    # --- Around the steps ---------------------------------------------------------------------------------------------

    def attempt(self, step: Callable[[], str]) -> None:
        """Does a step; one that fails or has no time left is left out, and named with its reason."""
        name, began = step.__name__, self.deadline.spent
        self.say(TITLES[name])
        status, late = "done", False
        try:
            sentence = step()
            if not sentence:
                return
        except Stopped:
            if self.watch.stopped():
                raise
            status, sentence = "left out", "Its time was over before it had an answer."
            late = True
        except _LeftOut as why:
            status, sentence, late = "left out", str(why), isinstance(why, _Late)
        except UserError as error:
            if name == "pace":
                raise
            status, sentence = "failed", str(error)
        except Exception as error:
            if name == "pace":
                raise
            traceback.print_exception(error)
            status, sentence = "failed", f"It broke off: {type(error).__name__}: {reason(error)}."
        seconds = round(self.deadline.spent - began, 1)
        row = {"name": name, "title": TITLES[name], "status": status, "sentence": sentence}
        self.steps.append(row | {"seconds": seconds, "late": late})

    def say(self, text: str) -> None:
        """Tells what is done, and how much of the time is over."""
        self.said = text
        self.watch.say(text, min(self.deadline.spent, self.deadline.seconds), self.deadline.seconds)

    def limited(self, name: str) -> Watch:
        """Gives the watch of a step, which ends when its time is over."""
        return Limited(self.watch, self.deadline, ENDS[name])

    def beat(self, watch: Watch) -> Watch:
        """Gives the watch of the trainings of a step, which tells how much of the time is over."""
        return Beat(watch, lambda: self.say(self.said))

    def seconds(self, fits: int = 1) -> float:
        """Tells how long so many trainings of the referee take."""
        return fits * (self.overhead + self.per_step * self.fit_steps)

    @property
    def enough(self) -> int:
        """Minutes in which a chain can be tried, and a verdict be reached."""
        fit = self.overhead + self.per_step * FEWEST_STEPS
        began = sum(step["seconds"] for step in self.steps)
        chosen = (began + 4 * fit) / ENDS["augment"]  # two pairs of two versions, and making them
        proved = (
            1.5 * 3 * effect.FEWEST * fit / (ENDS["prove"] - ENDS["save"])
        )  # a half more for the attack
        return max(math.ceil(max(chosen, proved) / 60), math.floor(self.config.minutes) + 1)

    # --- The steps --------------------------------------------------------------------------------------------------

    def pace(self) -> str:
        """Trains the referee for a moment, and plans its steps by the time that it took."""
        config, clock = _config(self.before, self.config, 20), self.deadline
        bench = Experiment(self.before, config, "valid", self.beat(self.watch))
        data, took, known = bench.subset(0, bench.largest), [], 20
        began = clock.now()
        pupil = bench.pupil(data, 0)  # the first one pays for imports
        warm = clock.now() - began
        if 4 * warm > PACE * clock.seconds:  # slow: what is known has to do
            right = bench.accuracy(pupil)
            self.per_step, self.overhead = max(warm / 20, 1e-5), 0.0
        else:
            right = 0.0
            for known in (20, 60):
                bench.config = bench.config.model_copy(update={"steps": known})
                began = clock.now()
                right = bench.accuracy(bench.pupil(data, 0))
                took.append(clock.now() - began)
            self.per_step = max((took[1] - took[0]) / 40, 1e-5)
            self.overhead = max(took[0] - 20 * self.per_step, 0.0)
        n = len(bench.test)
        self.baseline = (proportion(round(right / 100 * n), n), known) if n else None
        share = (ENDS["prove"] - ENDS["save"]) * self.deadline.seconds / (3 * PAIRS)
        wanted = int((share - self.overhead) / self.per_step)
        self.fit_steps = max(FEWEST_STEPS, min(MOST_STEPS, wanted))
        return (
            f"One training of the referee, a small net and {self.fit_steps:,} steps, takes about "
            f"{duration(self.seconds())} here; the time is planned by that."
        )

    def mend(self) -> str:
        """Leaves out what is wrong beyond doubt."""
        if self.earlier is not None:
            self.changes = [dict(change) for change in self.earlier["changes"]]
        elif not self.config.mend:
            raise _LeftOut("It was switched off (improve.mend).")
        else:
            found = mending.unsafe(self.before, self.limited("mend"))
            self.changes = mending.leave_out(self.before, found, self.who or "Improve")
        mended = mending.without(self.before, self.changes, self.who or "Improve")
        if mended is None:
            return (
                "Nothing had to go: no blank image, no exact copy, no leak into what is held out."
            )
        self.base, self.name, self.values = mended, mended.name, {}
        kinds = ", ".join(f"{change['title'].lower()}: {change['n']:,}" for change in self.changes)
        gone = len(self.before) - len(mended)
        return f"{many(gone, 'image')} left out ({kinds}), as the version {mended.name}. Labels were not touched."

    def augment(self) -> str:
        """Chooses the chain of the augmented copies by the validation images."""
        if self.earlier is not None:
            return self._again()
        if not self.config.augment:
            raise _LeftOut("It was switched off (improve.augment).")
        candidates = self._candidates()
        if not candidates:
            raise _LeftOut(f"No chain changes {self.base.medium.title.lower()} in a training.")
        watch = self.limited("augment")
        bench = self._bench(watch)
        room = self.deadline.until(ENDS["augment"])
        for least in (2, 1):
            tried = candidates[: max(0, int(room / self.seconds(least)) - 1)]
            if tried:
                break
        if not tried:
            raise _Late(
                f"There was no time to try a chain; give it about {many(self.enough, 'minute')}."
            )
        built = {title: self._built(plan, watch) for title, plan in tried}
        table = self._compared(bench, built, watch, CHOICES)
        plain = table.pop("")
        self.plain = len(bench.test), plain
        gains = {title: Effect.of(plain, reached) for title, reached in table.items()}
        best = max(gains, key=lambda title: gains[title].value)
        shown = "; ".join(
            f"{title} {gain.value:+.1f}"
            for title, gain in sorted(gains.items(), key=lambda item: -item[1].value)[:3]
        )
        pairs = many(len(plain), "pair")
        on = f"on {len(bench.test):,} validation images, {pairs}, of {len(tried)} tried: {shown} points"
        left = [title for title, _ in candidates[len(tried) :]]
        more = f" Not tried for lack of time: {', '.join(left)}." if left else ""
        if gains[best].value <= 0:
            raise _LeftOut(f"No chain helped {on}.{more}")
        self.plans.append((best, dict(tried)[best]))
        self.versions[best] = built[best]
        return f"{best} was best {on}.{more}"

    def generate(self) -> str:
        """Trains a generative model, sifts its samples, and keeps them if they help on the validation images."""
        if self.earlier is not None:
            return ""
        if not self.config.generate:
            raise _LeftOut("It was switched off (improve.generate).")
        counts = self._counts()
        n, middle = int(counts.sum()), int(np.median(counts[counts > 0]))
        if n < ENOUGH[0] or middle < ENOUGH[1]:
            raise _LeftOut(
                f"{n:,} training images, {middle:,} of the middle class, are too few for a generative model: it needs "
                f"{ENOUGH[0]:,} and {ENOUGH[1]:,}."
            )
        watch = self.limited("generate")
        bench = self._bench(watch)
        room = self.deadline.until(ENDS["generate"]) - self.seconds(4)
        if room < 10:
            raise _Late("There was no time for a generative model; give it more minutes.")
        run = self.train(self.name, self.values, self.base, self.config, 0.5 * room, watch)
        self.say("Sampling, and sifting the samples")
        most = int(counts.max())
        wanted = {
            label: min(MOST_SYNTHETIC, most - int(count) + most // 2)
            for label, count in zip(self.base.classes, counts, strict=True)
        }
        source = {"kind": "synthetic", "parameters": {"run": run}, "counts": wanted}
        last = self.plans[-1] if self.plans else ("", self._plan())
        plan = self._plan(*(source.record() for source in last[1].sources), source)
        version = self._built(plan, watch)
        given = building.origins(version)["synthetic"]
        title = "Synthetic images"
        known = self.versions.get(last[0], self.base)
        table = self._compared(bench, {"": known, title: version}, watch, CHOICES, plain=False)
        if len(table[title]) < 2:
            raise _Late("There was time for a single comparison, too few to choose by.")
        if not self.plans and self.plain is None:
            self.plain = len(bench.test), table[""]
        gain = Effect.of(table[""], table[title])
        on = (
            f"{given:,} samples of the run {run} passed the gate, and changed the accuracy by {gain.value:+.1f} points "
            f"on {len(bench.test):,} validation images, {many(gain.n, 'pair')}"
        )
        if gain.value <= 0:
            raise _LeftOut(f"They did not help: {on}.")
        self.plans.append((title, plan))
        self.versions[title] = version
        return f"{on}: they stay."

    def save(self) -> str:
        """Keeps the new version with its plan."""
        if not self.plans:
            if self.base is self.before:
                raise _LeftOut("Nothing changed, so there is no new version.")
            self.version = self.base
            self.added = added(self.base)
            return f"{self.base.name} is the new version: nothing was added."
        title, _ = self.plans[-1]
        wanted = self.config.name or decisions.version_name(self.base)
        if datasets.slug(wanted) in datasets.names():  # somebody took it meanwhile
            wanted = datasets.suggest(wanted)
        self.version = datasets.save(wanted, self.versions[title])
        self.added = added(self.version)
        said = f"{self.version.name}: {len(self.version):,} images"
        if about := ", ".join(filter(None, map(_told, self.added.items()))):
            said += f", among them {about}"
        return f"{said}."

    def prove(self) -> str:
        """Measures before and after on the test images, pair by pair, until the time is over."""
        if self.version is None:
            raise _LeftOut("There is nothing to prove without a new version.")
        config = _config(self.before, self.config, self.fit_steps)
        bench = Experiment(self.before, config, "test", self.beat(self.watch))
        self.test = bench
        arms = {"before": self.before}
        if self.base is not self.before:
            arms["mend"] = self.base
        for kind, (title, _) in zip(("augment", "generate"), self.plans, strict=False):
            arms["generate" if title == "Synthetic images" else kind] = self.versions[title]
        taught = {name: self._taught(bench, dataset) for name, dataset in arms.items()}
        longest, end = 0.0, ENDS["prove"]
        for pair in range(MOST_PAIRS):
            began = self.deadline.now()
            if pair and self.deadline.until(end) < longest:
                break
            row, hard = {}, {}
            for name, data in taught.items():
                self.say(f"{TITLES['prove']}: pair {pair + 1}")
                self.watch.check()
                pupil = bench.pupil(data, pair)
                row[name], hard[name] = bench.accuracy(pupil), bench.under_attack(pupil, pair)
            for name in taught:
                self.accuracies.setdefault(name, []).append(row[name])
                if (left := hard[name]) is not None:
                    self.robust.setdefault(name, []).append(left)
            longest = max(longest, self.deadline.now() - began)
        pairs = len(self.accuracies["before"])
        few = "" if pairs >= 6 else " Fewer than 6 pairs had time, so there is no interval."
        return f"{many(pairs, 'pair')}, {len(bench.test):,} test images that nothing was chosen by.{few}"

    # --- What the steps share -----------------------------------------------------------------------------------------

    def _bench(self, watch: Watch) -> Experiment:
        """Gives the referee's bench on the validation images, whose trainings end with the time of the step.

        Raises:
            _LeftOut: If they are too few to choose by.
        """
        n = len(self.base.splits["valid"])
        if n < HELD:
            raise _LeftOut(
                f"{self.base.name} has {many(n, 'validation image')}, and at least {HELD} are needed to choose by. "
                "Prepare it with a larger share of validation images."
            )
        config = _config(self.base, self.config, self.fit_steps)
        return Experiment(self.base, config, "valid", self.beat(watch))

    def _counts(self) -> np.ndarray:
        assert self.base.y is not None
        train = self.base.y[self.base.splits["train"]]
        return np.bincount(train, minlength=len(self.base.classes))

    def _plan(self, *sources: Mapping[str, Any]) -> Plan:
        return Plan.of(
            {
                "dataset": {"name": self.name, "config": self.values},
                "sources": [dict(source) for source in sources],
                "seed": self.config.seed,
            }
        )

    def _candidates(self) -> list[tuple[str, Plan]]:
        """Lists what may be added: by each chain, as many copies of every image, or more of the rare classes."""
        from core import augment

        counts, usual = self._counts(), self.base.chain
        known = augment.trainable(self.base.medium.item, self.base.medium.name)
        chains = [id for id in dict.fromkeys((usual, "trivial", "scans")) if id in known]
        n = int(counts.sum())
        copies = 4 if n < 1_000 else 2 if n < 5_000 else 1
        here = counts > 0
        most = int(counts.max())
        mixes = {
            "": {name: copies * int(k) for name, k in zip(self.base.classes, counts, strict=True)}
        }
        if most > 1.5 * counts[here].min():
            even = (1 + copies) * most
            mixes[", rare classes filled up"] = {
                name: even - int(k) if k else 0
                for name, k in zip(self.base.classes, counts, strict=True)
            }
        return [
            (
                f"{known[chain]}{mix}",
                self._plan(
                    {"kind": "augmented", "parameters": {"pipeline": chain}, "counts": wanted}
                ),
            )
            for mix, wanted in list(mixes.items())[::-1]
            for chain in chains
        ]

    def _built(self, plan: Plan, watch: Watch) -> Dataset:
        watch.check()
        return building.build(plan, watch.aside(), self.base)[0]

    def _taught(self, bench: Experiment, dataset: Dataset) -> Dataset:
        """Gives the training part of a version, as a referee gets it."""
        x, y = dataset.part("train")
        assert y is not None
        return bench.dataset_of(x, y)

    def _compared(
        self,
        bench: Experiment,
        built: Mapping[str, Dataset],
        watch: Watch,
        pairs: int,
        plain: bool = True,
    ) -> dict[str, list[float]]:
        """Measures versions on the validation images, by title, as many whole pairs as there is time for.

        Raises:
            Stopped: If there was not even time for one.
        """
        every = ({"": self.base} if plain else {}) | dict(built)
        taught = {title: self._taught(bench, dataset) for title, dataset in every.items()}
        table: dict[str, list[float]] = {title: [] for title in every}
        for pair in range(pairs):
            row = []
            try:
                for title, data in taught.items():
                    self.say(f"Choosing on the validation images: {title or 'as it is'}")
                    watch.check()
                    row.append(bench.accuracy(bench.pupil(data, pair)))
            except Stopped:
                if self.watch.stopped() or not pair:
                    raise
                break
            for title, value in zip(every, row, strict=True):
                table[title].append(value)
        return table

    def _again(self) -> str:
        """Does the plan of an earlier improvement again, on what is left out now."""
        assert self.earlier is not None
        for title, record in self.earlier["plans"]:
            start = {"name": self.name, "config": self.values}
            plan = Plan.of(record | {"dataset": start, "name": ""})
            self.plans.append((title, plan))
            self.versions[title] = self._built(plan, self.limited("generate"))
        if not self.plans:
            raise _LeftOut("Nothing was added then.")
        return f"As before: {self.plans[-1][0]}."


def _told(item: tuple[str, dict[str, int]]) -> str:
    """Says how many items of an origin there are, and how many images they were made from."""
    origin, count = item
    noun = {"augmented": "copies", "synthetic": "samples"}.get(origin, f"{origin} items")
    of = f" of {many(count['of'], 'image')}" if count["of"] else ""
    return f"{count['n']:,} {noun}{of}"


class _LeftOut(Exception):
    """A step that was not done, with the reason as a sentence."""


class _Late(_LeftOut):
    """A step that was not done for lack of time."""

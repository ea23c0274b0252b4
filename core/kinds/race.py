"""Lets families race: each trains for the same number of seconds on the same data, in turns of a few seconds."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from core import jobs
from core.catalog import Config, UserError, knob, seed_knob, unknown
from core.ground import files
from core.ground.watch import UNWATCHED, Watch
from core.kinds import Task, kinds, on_dataset
from core.kinds.train import draw

if TYPE_CHECKING:
    from core.datasets import Dataset
    from core.media import Form

ENDLESS = 10_000_000_000  # images; the clock ends a race
TILES = 40  # images per sheet, about


class RaceConfig(Config):
    """Parameters of a race; every family trains with its own recommended settings."""

    seconds: int = knob(
        60, "How long each family trains.", ge=1, le=100_000, unit="s", log=True, title="Time each"
    )
    families: str = knob(
        "", "Who takes part, by name and separated by commas; empty for all families."
    )
    seed: int = seed_knob("Of the first weights, the training and the samples.")
    turns: int = knob(
        15,
        "Turns that each family gets; after each it is measured and draws its samples.",
        ge=2,
        le=200,
        advanced=True,
    )

    @model_validator(mode="after")
    def _known(self) -> RaceConfig:
        from core.models import families

        for name in self.entrants:
            if name not in families:
                raise ValueError(unknown("family", name, families.names()))
        if len(self.entrants) < 2:
            raise ValueError(
                f"A race needs at least 2 families, got {self.families!r}. "
                f"Name some of {', '.join(families.names())}, or leave race.families empty for all."
            )
        return self

    @property
    def entrants(self) -> list[str]:
        """The families that take part; where none is named, those that could before a race kept their names."""
        named = [name.strip() for name in self.families.split(",") if name.strip()]
        return list(dict.fromkeys(named)) or fitting("picture")


def fitting(form: Form) -> list[str]:
    """Lists the families that can race on what a model sees."""
    from core.models import families

    return [entry.name for entry in families if form in entry.takes and not entry.renders]


def standings(job: jobs.Job) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Reads a race: how it was measured, and the records of each family, oldest first; damaged ones are left out.

    The measure holds ``floor``, ``n``, ``extractor``, ``clock`` and what copying is for real images and for copies; it
    is empty before the race has begun.
    """
    about: dict[str, Any] = {}
    records: dict[str, list[dict[str, Any]]] = {}
    for record in files.Log(job.path).read()[0]:
        if isinstance(family := record.get("family"), str):
            if all(isinstance(record.get(name), int | float) for name in _MEASURED):
                records.setdefault(family, []).append(record)
        elif all(isinstance(record.get(name), int | float) for name in _FLOORS):
            about |= record
    return about, records


_MEASURED = ("turn", "seconds", "images", "ratio", "copying", "copying_low", "copying_high")
_FLOORS = ("n", "copying_of_real", "copying_of_copies")


def _allow(config: dict[str, Any]) -> None:
    """Lets those race who take what a model sees of the dataset; who was named must."""
    from core import datasets
    from core.models import families

    form = datasets.describe(config["dataset"]["name"]).medium.model
    wanted = RaceConfig.of(config["race"], "race")
    for name in wanted.entrants if wanted.families else ():
        families.get(name).allow(form, families)
        if families.get(name).renders:
            raise UserError(
                f"{families.get(name).title} makes its samples of given pictures, which are no match for those of "
                "others. Leave it out of race.families."
            )
    if not wanted.families:  # by name, because there may be more families when it is looked at
        config["race"] = RaceConfig.of(
            config["race"] | {"families": ",".join(fitting(form))}
        ).record()


@kinds.add(
    "race",
    "Let families race",
    lane="train",
    parts=on_dataset("race", "core.kinds.race", "RaceConfig"),
    allow=_allow,
    unit="s",
    shape={"dataset": {"name": str}, "race": {"seconds": int}},
    read=standings,
    resumes="Resume goes on from the turns that are over.",
)
def race(task: Task) -> Iterator[dict[str, Any]]:
    """Trains families for the same number of seconds, in turns, and measures them after each."""
    import torch

    from core import runs
    from core.models import families
    from core.tensors import device
    from core.training import spec_of

    config = RaceConfig.of(task.config("race"), "race")
    dataset, racers = task.dataset(), task.path / "racers"
    task.say("Preparing the measure of quality")
    measure = Measure(dataset, watch=task.aside())
    about, records = standings(task.job)
    if about.get("fingerprint") != dataset.fingerprint or not racers.exists():  # it begins anew
        files.Log(task.path).cut(-1)
        records = {}
        for folder in (racers, task.path / "samples"):
            shutil.rmtree(folder, ignore_errors=True)
    # one thread's own time is the fairest clock, because other work on the machine is not counted
    alone = device(training=True).type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if not racers.exists():
        racers.mkdir()
        yield measure.about | {
            "clock": "processor" if alone else "wall",
            "fingerprint": dataset.fingerprint,
        }
    spec = spec_of(dataset)
    entrants = []
    for name in config.entrants:
        values = families.get(name).config().record()
        record = {
            "family": {"name": name, "config": values},
            "train": {"seed": config.seed},
            "spec": {**vars(spec), "shares": list(spec.shares)},
        }
        entrants.append(Entrant(name, runs.network(record), dataset, config, clock))
        entrants[-1].go_on(racers / f"{name}.pt")
    total = config.seconds * len(entrants)
    for turn in range(1, config.turns + 1):
        for entrant in entrants:
            for _ in entrant.train(turn * config.seconds / config.turns):
                task.check()
                title = families.get(entrant.name).title
                done = sum(racer.seconds for racer in entrants)
                task.say(f"Turn {turn} of {config.turns}: {title}", done, total)
            if any(record["turn"] == turn for record in records.get(entrant.name, ())):
                continue  # measured before it was stopped
            model = entrant.trainer.published()
            images = entrant.trainer.step * entrant.trainer.batch
            folder, caption = task.path / "samples" / entrant.name, {"turn": turn, "images": images}
            draw(folder, turn, model, entrant.name, dataset, config.seed, caption, TILES)
            yield {
                "family": entrant.name,
                "turn": turn,
                "seconds": round(entrant.seconds, 3),
                "images": images,
                **measure.of(model, entrant.name, config.seed),
            }
            entrant.keep(racers / f"{entrant.name}.pt")
    shutil.rmtree(racers)


class Entrant:
    """One family in a race: a trainer whose schedule follows the clock instead of a number of images."""

    def __init__(
        self,
        name: str,
        model: Any,
        dataset: Dataset,
        config: RaceConfig,
        clock: Callable[[], float],
    ) -> None:
        from core.tensors import device
        from core.training import TrainConfig, Trainer

        self.name, self.clock, self.limit = name, clock, config.seconds
        train = TrainConfig(images=ENDLESS, seed=config.seed)
        self.trainer = Trainer(model, dataset, train, device(training=True))
        self.seconds = 0.0
        self._progress = iter(self.trainer)

    def train(self, until: float) -> Iterator[None]:
        """Trains until it has used so many seconds, yielding several times a second."""
        while self.seconds < until:
            began = self.clock()
            if next(self._progress, None) is None:
                return
            self.seconds += self.clock() - began
            # the schedule of learning rates ends with the time: as many steps as this pace allows
            steps = round(self.trainer.step * self.limit / self.seconds)
            self.trainer.steps = max(self.trainer.step + 1, steps)
            yield

    def keep(self, file: Path) -> None:
        """Writes what going on from here takes."""
        import torch

        state = {
            "seconds": self.seconds,
            "steps": self.trainer.steps,
            "trainer": self.trainer.state(),
        }
        memory = io.BytesIO()
        torch.save(state, memory)
        files.write_atomic(file, memory.getvalue())

    def go_on(self, file: Path) -> None:
        """Goes on from what :meth:`keep` has written; from the start where there is nothing."""
        import torch

        if file.exists():
            state = torch.load(file, map_location="cpu", weights_only=True)
            self.seconds, self.trainer.steps = state["seconds"], state["steps"]
            self.trainer.restore(state["trainer"])


class Measure:
    """How far a family is: its distance to real images over that of other real images, and how much it copies.

    It reports and chooses nothing, so it compares with the ``test`` images, which no training has seen.
    """

    def __init__(self, dataset: Dataset, most: int = 1000, watch: Watch = UNWATCHED) -> None:
        from core.datasets import evenly
        from core.measure import distances, features
        from core.tensors import device

        def some(part: str, count: int) -> Any:
            return dataset.items(evenly(dataset.splits[part], count))

        self.medium = dataset.medium
        self.train, self.test = some("train", 5000), some("test", most)
        if len(self.test) < 10:
            raise UserError(
                f"A race is judged by test images, and {dataset.name} has {len(self.test)}; at least 10 are needed. "
                "Choose a larger dataset."
            )
        self.extractor = features.quick(dataset, device(), watch)
        self.reference = self._features(self.train)
        self.floor = distances.frechet(self.reference, self._features(self.test))
        real = distances.nearer_to_training(
            some("valid", most).numpy(), self.train.numpy(), self.test.numpy()
        )
        self.about = {
            "floor": self.floor,
            "n": len(self.test),
            "extractor": self.extractor.name,
            "copying_of_real": real.value,
            "copying_of_copies": (1 + min(1.0, len(self.test) / len(self.train))) / 2,
        }

    def _features(self, x: Any) -> Any:
        return self.extractor.features(self.medium.to_model(x))

    def of(self, model: Any, family: str, seed: int) -> dict[str, float]:
        """Measures a published model."""
        import torch

        from core.measure import distances
        from core.models import families

        sampling = families.get(family).sampling()
        ids = torch.arange(len(self.test)).split(100)
        samples = torch.cat([model.sample(part, None, seed, sampling).cpu() for part in ids])
        x = self.medium.items(samples)
        copies = distances.nearer_to_training(x.numpy(), self.train.numpy(), self.test.numpy())
        return {
            "ratio": distances.frechet(self.reference, self._features(x)) / self.floor,
            "copying": copies.value,
            "copying_low": copies.low,
            "copying_high": copies.high,
        }

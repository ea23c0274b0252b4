"""Trains a generative model: records, checkpoints and sample sheets as it learns; the classifier shares the loop."""

from __future__ import annotations

import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from core import descent, fitted, jobs, runs
from core.catalog import Config, UserError, knob
from core.ground import files, machine
from core.ground.settings import settings
from core.ground.watch import Stopped
from core.kinds import Expected, Task, configure, flat, kinds, parts, resume
from core.measure import learning
from core.models import Curve, Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.datasets import Dataset
    from core.training import Progress

SPEED = Curve(
    "images_per_second",
    "Speed",
    "Images per second of training, without samples and checkpoints.",
    lines={"images_per_second": "images/s"},
)
WATCHED = 20_000  # images of the shortest training that is worth a measure of quality
RECORD = "run.json"
FILES = {"log.jsonl": "Records (JSON lines)"}
PILOT = 0.3  # seconds over which a pace is measured
RESUMES = "Resume goes on from the newest checkpoint."


def curves(run: jobs.Job) -> tuple[Curve, ...]:
    """Lists the charts of what a training logs: those of its network, of its quality, of the loop itself."""
    from core import training

    own = runs.trained(run.config).curves(run.config)
    return (*own, *learning.QUALITY, *training.CURVES, SPEED)


def _curves(record: Mapping[str, Any]) -> Sequence[Curve]:
    from core.models import families

    family = record["family"]["name"]
    # of a family that is not here any more, each value is drawn under its own name
    return families.get(family).curves if family in families else ()


class AugmentConfig(Config):
    """What happens to the training images on their way into the network."""

    pipeline: str = knob(
        "",
        "Id of a preset or of a saved pipeline of Augment, which changes every training image; empty for none.",
        title="Augmentation",
        advanced=True,
    )
    critic: bool = knob(
        False,
        "Shows real and generated images to a GAN's critic through this pipeline, instead of changing the training "
        "images; how often, its own augmentation says.",
        title="Only before the critic",
        advanced=True,
    )

    @model_validator(mode="after")
    def _exists(self) -> AugmentConfig:
        if self.pipeline:
            from core import augment

            pipeline = augment.load(self.pipeline)
            augment.training(pipeline)
            if self.critic:
                augment.CriticChain(pipeline)
        return self


def augmentation(task: Task) -> dict[str, Any]:
    """Gives what a run records of its augmentation: the whole pipeline, which may be deleted later; empty for none."""
    choice = task.job.config.get("augment") or {}
    chosen = choice.get("pipeline", "")
    if not chosen or (task.path / RECORD).exists():  # a resumed run has it in its record
        return {}
    from core import augment

    return {"augment": augment.load(chosen).record() | {"critic": choice.get("critic", False)}}


def _parts(choice: Mapping[str, str]) -> dict[str, type[Config]]:
    from core import brought, datasets
    from core.models import families
    from core.training import FineTuneConfig, TrainConfig

    family = choice["family"]  # or where a model was brought from that is trained further
    known = brought.origins if brought.sampling(family) else families
    return {
        "dataset": datasets.config_of(choice["dataset"]),
        "family": known.get(family).config,
        "augment": AugmentConfig,
        "train": TrainConfig,
        "further": FineTuneConfig,
    }


def trainers() -> dict[str, jobs.Kind]:
    """Gives the kinds of jobs that train something anew, by name, for forms and commands."""
    return {
        kind.name: kind
        for kind in kinds
        if kind.trained and not kind.trained.further and kind.lane == "train"
    }


def expected(
    kind: str, choice: Mapping[str, str], values: Mapping[str, Any] | None = None
) -> Expected | None:
    """Foretells how long a training takes; None where nothing like it was trained before.

    Raises:
        UserError: If a value is not allowed.
    """
    chosen, asked = flat(configure(kind, choice, values))
    images, _ = asked.pop("train.images"), asked.pop("train.seed")
    before: list[tuple[int, bool, float, jobs.Job]] = []
    for run in runs.listing():
        theirs, settings = flat(run.config)
        timed = run.state.get("seconds") and (run.state.get("done") or 0) >= 1000  # else too short
        if timed and (run.kind, theirs) == (kind, chosen):
            same = -sum(settings.get(name, value) != value for name, value in asked.items())
            before.append((same, not run.shipped, run.created, run))
    if not before:
        return None
    same, *_, run = max(before, key=itemgetter(0, 1, 2))
    return Expected(images * run.state["seconds"] / run.state["done"], run, not same)


def pace(
    kind: str, choice: Mapping[str, str], values: Mapping[str, Any] | None = None
) -> float | None:
    """Measures how many images a second a training sees on this machine, without samples; None on a GPU.

    The quickest of a few steps counts: other work can only slow one.

    Raises:
        UserError: If a value is not allowed, or the dataset cannot be opened.
    """
    import torch

    from core import datasets
    from core.tensors import device
    from core.training import TrainConfig, Trainer, spec_of

    if device(training=True).type != "cpu":  # where compiling alone may take a minute
        return None
    trained, config = kinds.get(kind).trained, configure(kind, choice, values)
    assert trained is not None
    dataset = datasets.load(config["dataset"]["name"], config["dataset"]["config"])
    with torch.random.fork_rng(devices=[]):
        model = trained.build(config, spec_of(dataset))
    few = TrainConfig.of({**config["train"], "images": 10**6, "parent": "", "gpus": 1}, "train")
    trainer, took = Trainer(model, dataset, few, torch.device("cpu")), math.inf
    trainer.one_step()  # the first one warms up
    until = time.perf_counter() + PILOT
    while time.perf_counter() < until:
        began = time.perf_counter()
        trainer.one_step()
        took = min(took, time.perf_counter() - began)
    return trainer.batch / took


def continued(run: jobs.Job, dataset: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Gives what a training asks for that goes on from a run: its family's settings, and how it was trained.

    At which learning rate, with which layers and how patiently are questions of their own. Parameters of the dataset
    are taken over where it is the same.

    Args:
        run: What it starts from.
        dataset: Name of the dataset that it goes on with.

    Returns:
        The choice and the dotted values of :func:`core.kinds.submit`, ``train.parent`` among them.

    Raises:
        UserError: If it has no record.
    """
    from core.models import families

    record = runs.record(run)
    family = record.get("family") or record["brought"]
    left = ("train.lr", "train.patience", "train.parent")
    values = {
        name: value
        for name, value in flat(run.config)[1].items()
        if name.startswith(("train.", "augment.")) and name not in left
    }
    if family["name"] in families:
        values |= {f"family.{name}": value for name, value in family["config"].items()}
    if (source := record["dataset"])["name"] == dataset:
        values |= {f"dataset.{name}": value for name, value in source["config"].items()}
    return {"dataset": dataset, "family": family["name"]}, values | {"train.parent": run.id}


def processes(config: Mapping[str, Any]) -> int:
    """Counts the processes of a training: one for each GPU that it asks for, as far as there are any."""
    wanted = config["train"].get("gpus", 1)
    if wanted == 1:
        return 1
    from core.tensors import gpus

    return min(wanted, gpus())


def allow(config: dict[str, Any], family: str) -> None:
    """Checks what a training asks of the server, its images and other runs, and names its parent in full.

    Args:
        config: Of the job.
        family: What it trains, as :func:`core.runs.family_of` names it.

    Raises:
        UserError: If it cannot work.
    """
    from core import datasets
    from core.models import families

    train, dataset = config["train"], config["dataset"]
    _allow_images(train["images"])
    if not datasets.teaches(dataset["name"], dataset["config"]):
        raise UserError(
            f"{dataset['name']} has no training images, so nothing can be learned from it. "
            "Choose another dataset, or import it again with a training part."
        )
    if train["gpus"] > 1:
        from core.tensors import gpus

        if train["gpus"] > gpus():
            raise UserError(
                f"train.gpus must be at most {gpus()} on this server, got {train['gpus']}. Train on fewer GPUs."
            )
    medium = datasets.describe(dataset["name"]).medium
    if family in families:
        families.get(family).allow(medium.model, families)
    if pipeline := config["augment"]["pipeline"]:
        from core import augment

        before = config["augment"]["critic"]  # which sees what models see
        augment.load(pipeline).allow(medium.model if before else medium.item, medium.name)
    if config["augment"]["critic"]:
        _allow_critic(config, family)
    if train["parent"]:
        run, step = runs.named(train["parent"])
        if runs.family_of(run) != family:
            raise UserError(
                f"{run.name} is of the family {runs.family_of(run)}, and a {family} cannot start from it. "
                "Choose a run of the same family, or leave train.parent out."
            )
        if why := descent.lacking(run):
            raise UserError(why)
        train["parent"] = f"{run.id}@{step}"
    elif family not in (*families.names(), *kinds.names()):
        raise UserError(
            f"Nothing of the kind {family} is trained from nothing here. Name a run of it that was brought as "
            "train.parent (--from RUN), or choose a family."
        )
    if further := config.get("further"):
        descent.allow_layers(further, train["parent"])


def _allow_images(count: int) -> None:
    if count > settings().max_images:
        raise UserError(
            f"train.images must be at most {settings().max_images} on this server, got {count}. "
            "Train for fewer images."
        )


def _allow_critic(config: Mapping[str, Any], family: str) -> None:
    """Checks that there is a critic, and that it is shown augmented images at all."""
    from core.models import families

    if family not in families or not families.get(family).critic:
        raise UserError(
            f"augment.critic puts the pipeline before a GAN's critic, and a {family} has none. "
            "Leave augment.critic out: the pipeline then changes the training images."
        )
    values = config["family"]["config"]
    if not config["augment"]["pipeline"] or values["augment"] == "off":
        raise UserError(
            f"augment.critic needs a pipeline and a critic that sees augmented images, got augment.pipeline="
            f"{config['augment']['pipeline']!r} and family.augment={values['augment']!r}. "
            "Name a pipeline, and choose adaptive or always; or leave augment.critic out."
        )


def _build(record: Mapping[str, Any], spec: Spec) -> Any:
    from core.models import build

    return build(record["family"]["name"], record["family"]["config"], spec)


def _sampling(family: str) -> type[Config] | None:
    from core.models import families

    return families.get(family).sampling if family in families else None


@kinds.add(
    "train",
    "Train a model",
    lane="train",
    parts=_parts,
    unit="images",
    shape={"dataset": {"name": str}, "family": {"name": str}, "train": {"images": int}},
    read=partial(jobs.outcome, name=RECORD),
    files=FILES,
    allow=lambda config: allow(config, config["family"]["name"]),
    processes=processes,
    resumes=RESUMES,
    trained=jobs.Trained("family", _build, _curves, _sampling),
)
def train_model(task: Task) -> Iterator[dict[str, Any]]:
    """Trains a generative model, with sample sheets of the same noise as it learns."""
    dataset, record = begin(task, {"family": task.config("family"), **augmentation(task)})

    def sheet(model: Any, step: int, images: int) -> None:
        family, seed = runs.family_of(task.job), record["train"]["seed"]
        caption = {"step": step, "images": images}
        draw(task.path / "samples", step, model, family, dataset, seed, caption, 64)

    yield from follow(task, dataset, record, sheet)


def draw(
    folder: Path,
    number: int,
    model: Any,
    family: str,
    dataset: Dataset,
    seed: int,
    caption: dict[str, Any],
    most: int,
) -> None:
    """Writes a sheet of about ``most`` samples, class by class; the same noise in each sheet of a folder."""
    import torch

    from core.ground import sheets, xmp

    columns = sheets.columns(len(dataset.classes))
    if dataset.medium.sheet < most:  # each takes more room
        most = dataset.medium.sheet
        columns = round(most**0.5)
    count = columns * max(1, most // columns)
    y = None
    if model.classes:
        y = torch.arange(count, device=next(model.parameters()).device) % model.classes
    x = model.sample(range(count), y, seed, runs.sampling(family)())
    folder.mkdir(parents=True, exist_ok=True)
    own = folder if folder.name == "samples" else folder.parent  # a race has a folder for each run
    made = xmp.made_by(own.parent.name)
    sheet = sheets.png(dataset.medium.shown(x), columns, caption, mark=made)
    files.write_atomic(folder / f"{number}.png", sheet)


def begin(task: Task, what: dict[str, Any]) -> tuple[Dataset, dict[str, Any]]:
    """Loads the dataset and completes the record of the run; a resumed run keeps the record that it has.

    Raises:
        UserError: If the images of a resumed run have changed, or the dataset cannot be used.
        Stopped: If somebody asked for the end meanwhile.
    """
    import torch

    from core.tensors import agreed, device
    from core.training import spec_of

    if not task.lead and (reason := agreed(None)):  # waits until the first process has prepared it
        raise Stopped(reason)
    try:
        dataset = task.dataset()
    except Stopped as stop:
        agreed(str(stop))
        raise
    if task.lead:
        agreed("")
    else:
        record = agreed(None)
        torch.set_num_threads(record["threads"])
        return dataset, record
    if (task.path / RECORD).exists():
        record = files.read_json(task.path / RECORD)
        if record["dataset"]["fingerprint"] != dataset.fingerprint:
            raise UserError(
                f"The dataset {dataset.name} has changed since this run began, so it cannot be resumed. "
                "Restore the images, or start a new run on the changed ones, from this one with train.parent."
            )
        _extended(task, record)
        agreed(record)
        torch.set_num_threads(record["threads"])
        return dataset, record
    spec = spec_of(dataset)
    record = {
        **what,
        "train": task.config("train"),
        "dataset": described(task, dataset),
        "spec": spec.record(),
        "threads": torch.get_num_threads(),
        "device": str(device(training=True)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
        "revision": _revision(),
    }
    if record["train"].get("parent"):
        descent.take_brought(record)
        record["parent"] = descent.descent(record)
        if further := task.job.config.get("further"):
            record["further"] = further
    (task.path / "samples").mkdir(exist_ok=True)
    fitted.keep(task.path, dataset, [fitted.named(id) for id in _before(record)])
    files.write_json(task.path / RECORD, record)
    agreed(record)
    return dataset, record


def _before(record: Mapping[str, Any]) -> list[str]:
    """Lists the runs that a training builds on: it has learned from all that they have learned from."""
    parts = (("parent", "run"), ("harden", "classifier"), ("extra", "made_by"))
    return [id for part, name in parts if (id := record.get(part, {}).get(name))]


def described(task: Task, dataset: Dataset) -> dict[str, Any]:
    """Gives what a run records of its dataset."""
    return {
        **task.config("dataset"),
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        "images": {part: len(index) for part, index in dataset.splits.items()},
    }


def _extended(task: Task, record: dict[str, Any]) -> None:
    """Notes in the record that the run was given another length."""
    old, new = record["train"]["images"], task.config("train")["images"]
    if old != new:
        steps = runs.checkpoints(task.job)
        step = {"step": steps[-1] if steps else 0}
        record["extended"] = [*record.get("extended", []), step | {"from": old, "to": new}]
        record["train"]["images"] = new
        files.write_json(task.path / RECORD, record)


def follow(
    task: Task,
    dataset: Dataset,
    record: dict[str, Any],
    sheet: Callable[[nn.Module, int, int], None] | None,
    first: Callable[[], dict[str, Tensor]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Runs the training loop: a record at each progress, a sheet and a checkpoint at each moment to publish.

    ``first`` gives the weights that it begins with; those of its parent, if it has one, if left out.
    """
    import torch

    from core.models import families
    from core.tensors import agreed, alone, caveat, device
    from core.training import TrainConfig, Trainer, batch_of, lengthened

    model = runs.network(record)
    config = TrainConfig.of(record["train"], "train")
    record["classes"] = model.classes
    if config.batch == 0:  # recorded, because a later version may advise another
        record["train"]["batch"] = batch_of(model, config)
        config = TrainConfig.of(record["train"], "train")
    if task.lead:
        files.write_json(task.path / RECORD, record)
    transform = None
    if record.get("augment"):
        from core import augment

        pipeline = augment.Pipeline.of(record["augment"]["steps"])
        if record["augment"].get("critic"):
            model.shown_through(augment.CriticChain(pipeline))
        else:
            transform = augment.training(pipeline)
    run = jobs.get(task.job.id)
    state, problems = agreed(runs.newest_state(run) if task.lead else None)
    if state is None and (first is not None or "parent" in record):
        first = first or partial(descent.inherited, record, model)
        model.load_state_dict(agreed(first() if task.lead else None))
    pace = descent.chosen(record, model, runs.family_of(task.job))
    trainer = Trainer(model, dataset, config, device(training=True), transform, pace=pace)
    if state is not None:
        trainer.restore(state)
    if task.lead:
        runs.cut(run, trainer.step)
    begun = min(trainer.step * trainer.batch, config.images)
    warnings = [
        f"{problem} Training goes on from step {trainer.step} instead." for problem in problems
    ]
    if config.gpus != trainer.processes:
        warnings += [f"It asks for {config.gpus} GPUs and trains on {trainer.processes}."]
    warnings += [caveat(trainer.device)] if caveat(trainer.device) else []
    for extension in record.get("extended", [])[-1:]:
        if extension["step"] == trainer.step:
            old, new = (math.ceil(extension[key] / trainer.batch) for key in ("from", "to"))
            groups = list(trainer.groups.values())
            note = lengthened(
                config, groups, trainer.step, max(old, trainer.step), new, trainer.ease
            )
            known = note and any(r.get("warning") == note for r in files.Log(task.path).read()[0])
            warnings += [note] if note and not known else []
    if (
        "further" in record
        and state is None
        and (note := learning.few(len(trainer.train), len(trainer.valid)))
    ):
        warnings += [note]
    if config.patience and trainer.whole is not None:
        warnings += [
            "It learns in stages, and each has its span, so that it cannot end early: train.patience is not followed."
        ]
    for warning in warnings:
        yield {"step": trainer.step, "warning": warning}
    saved = time.monotonic()
    task.say("", begun, config.images)
    long = config.images >= WATCHED or config.patience > 0
    watched = task.lead and sheet is not None and config.watch and long
    watch = None
    exact = (name := runs.family_of(task.job)) in families and families.get(name).exact
    if watched:
        sampling = runs.sampling(runs.family_of(task.job))()
        watch = learning.looks(dataset, sampling, bool(config.parent), task)

    def publish(progress: Progress, stopped: bool) -> dict[str, float]:
        """Writes a checkpoint, and a sheet where one is due; gives what was measured."""
        nonlocal saved
        published = trainer.published()
        values = dict(trainer.held_out(published))
        if sheet is not None and (progress.publish or stopped):
            sheet(published, progress.step, progress.images)
        # to stop early needs a measure at most moments to publish
        now = progress.publish and config.patience > 0
        look = watch(published, config.seed, progress.step / progress.steps, now) if watch else {}
        # of most generative models, the own loss does not tell how good the samples are
        score = learning.score(look) if sheet and not exact else next(iter(values.values()), None)
        where = {"step": progress.step, "images": progress.images, "score": score}
        where |= {"whole": trainer.whole}
        runs.save_checkpoint(task.path, published, trainer.state(), where)
        saved = time.monotonic()
        return values | look

    for progress in trainer:
        values: dict[str, Any] = dict(progress.values)
        reason = enough = ""
        if task.lead:
            reason = task.stopped()
            if progress.note:  # a roll-back: what came after that step is deleted
                runs.cut(run, progress.step)
                values["warning"] = progress.note
            if progress.publish or reason or time.monotonic() - saved > 60:
                with alone():  # the other processes wait for this one in the next step
                    values |= publish(progress, bool(reason))
                seen = "distance" in values or watch is None
                if progress.publish and seen and config.patience and trainer.whole is None:
                    patience = config.patience * progress.steps
                    enough = _enough(task, record, patience, progress.step, values)
        reason, enough = agreed((reason, enough))
        ends = progress.step == progress.steps
        peak = machine.peak_mb()
        memory = {} if peak is None else {"peak_mb": peak}
        if trainer.device.type == "cuda":
            memory["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        task.say(
            "",
            progress.images,
            progress.total,
            speed=progress.images_per_second,
            seconds=progress.seconds,
            step=progress.step,
            **memory,
        )
        yield {
            "step": progress.step,
            "images": progress.images,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.images_per_second, 1),
            **values,
        }
        if reason and not ends:
            raise Stopped(reason)
        if enough and not ends:
            task.message = enough
            return


def _enough(
    task: Task,
    record: dict[str, Any],
    patience: float,
    step: int,
    values: Mapping[str, Any],
) -> str:
    """Tells that a training has gone far enough; empty to go on.

    It has when the held-out quality has not been better for ``patience`` steps, or when samples copy more than real
    images do at two looks in a row: one may be chance.
    """
    best = runs.best_step(task.path / "checkpoints")
    if best is None:
        return ""
    if values.keys() >= {"copying", "copying_low"} and learning.copies(values):
        looks = [r for r in files.Log(task.path).read()[0] if "copying_low" in r]
        if looks and learning.copies(looks[-1]):
            real = values.get("copying_real", learning.COPYING)
            return (
                f"Ended early: samples copy more than real images do ({values['copying']:.2f}, real ones {real:.2f}; "
                f"0.5 is none). The checkpoint of step {best} is the one that pages open."
            )
    begun = max((extension["step"] for extension in record.get("extended", [])), default=0)
    if step - max(best, begun) < patience:
        return ""
    return (
        f"Ended early: the held-out quality has not been better since step {best}. "
        "That checkpoint is the one that pages open."
    )


def extend(id: str, images: int) -> jobs.Job:
    """Lets a run see more images in all, from its newest checkpoint on: also one that has finished.

    The schedule goes on as if the run had had this length from the start: the learning rate rises to what it would be
    there, and falls to its end again; a VQ-VAE may return to its first stage. :func:`lengthened` says whether.

    Args:
        id: Of the run.
        images: Images in all, those it has seen included.

    Raises:
        UserError: If it is no longer than the run is, more than the server allows, or the run cannot go on.
    """
    job = jobs.get(id)
    if "train" not in job.config:
        raise UserError(f"{job.name} trains nothing, so it cannot be extended. Choose a run.")
    parts_of = parts(job.kind, flat(job.config)[0])
    seen = int(job.state.get("done", 0))
    longer = parts_of["train"].of({**job.config["train"], "images": images}, "train").record()
    if longer["images"] <= seen:
        raise UserError(
            f"{job.name} has seen {seen} images already, so train.images must be above that, got {images}. "
            "Ask for more."
        )
    _allow_images(images)
    if runs.checkpoints(job) and not runs.resumable(job):
        raise UserError(
            f"{job.name} has no checkpoint that training could go on from. Start a new run from it instead."
        )
    return resume(id, {**job.config, "train": longer})


def lengthened(id: str, images: int) -> str:
    """Says what :func:`extend` would do to the learning rate and the stages of a run; empty if its curve goes on.

    Raises:
        UserError: If the run cannot be read.
    """
    job = jobs.get(id)
    saved = runs.checkpoints(job)
    if not saved:
        return ""
    from core import training

    record = runs.record(job)
    train = record["train"]
    if not train["batch"]:
        return ""
    # a roll-back halves the rate for good
    back = sum({"warning", "images"} <= line.keys() for line in files.Log(job.path).read()[0])
    old, new = (math.ceil(n / train["batch"]) for n in (train["images"], images))
    config = training.TrainConfig.of(train, "train")
    share = 1.0
    if "further" in record and not train["lr"]:
        share = training.FineTuneConfig.of(record["further"], "further").share
    return training.lengthened(
        config,
        runs.draft(record).groups,
        saved[-1],
        max(old, saved[-1]),
        max(new, saved[-1] + 1),
        share * 0.5**back,
    )


def _revision() -> str:
    """Reads the git revision of the code; empty outside a checkout."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            cwd=Path(__file__).parent,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()

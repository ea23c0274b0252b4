"""What an evaluation is, and its files: read by pages, written by jobs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core import jobs, runs
from core.catalog import Config, UserError, knob, seed_knob
from core.ground import files
from core.ground.cache import Cache
from core.measure.features import extractors
from core.measure.metrics import Measurement, metrics
from core.media import Medium, media


class EvaluateConfig(Config):
    """Parameters of an evaluation."""

    metrics: str = knob(
        "standard",
        "What to measure: standard, all, or names with commas.",
        title="Measure",
        advanced=True,
    )
    samples: int = knob(
        5000,
        "Images to draw from the model; more make the values surer.",
        ge=50,
        le=100_000,
        unit="images",
        log=True,
    )
    step: int = knob(
        0,
        "Step of the checkpoint; 0 takes the best one, or the newest while it trains.",
        title="Checkpoint",
        ge=0,
        le=2**40,
        log=True,
        advanced=True,
    )
    extractor: str = knob(
        "judge",
        "What sees the images: the judge knows the classes of the dataset; without a good one, a network that "
        "learned from the images alone takes its place.",
        title="Seen through",
        choices=lambda: sorted(extractors.names(), key=lambda name: name != "judge"),
    )
    reference: Literal["test", "valid", "train"] = knob(
        "test",
        "Real images that the samples are compared with; test images were never looked at in training.",
        title="Compared with",
        advanced=True,
    )
    neighbours: int = knob(
        5, "Neighbours that make a neighbourhood (k).", ge=1, le=50, advanced=True
    )
    seed: int = seed_knob("The same seed and settings draw the same samples.")
    map: bool = knob(
        True,
        "Also lay out all images on a map by likeness (t-SNE), which takes longest.",
        title="Map",
    )
    weights: str = knob(
        "",
        "File with the weights of inception or dinov2; empty downloads them at first use.",
        advanced=True,
        path=True,
    )


@dataclass(frozen=True)
class Evaluation:
    """What was found out about one checkpoint of a run, so far.

    Attributes:
        job, run: Ids.
        name: Of the run.
        family, dataset: Names.
        step, images: Of the checkpoint.
        created: When it was asked for, seconds since 1970.
        finished: Whether everything was measured.
        conditions: Everything that values must have in common to be compared.
        measurements: In the order in which they were made.
        classes: One row per class; empty without a judge.
        warnings: Sentences about what is unusual.
        versions: Of the software.
        path: The job's folder.
    """

    job: str
    run: str
    name: str
    family: str
    dataset: str
    step: int
    images: int
    created: float
    finished: bool
    conditions: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    classes: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    versions: Mapping[str, str]
    path: Path

    def get(self, metric: str) -> Measurement | None:
        """Finds a measurement that has a value."""
        return next((m for m in self.measurements if m.metric == metric and m.known), None)

    def arrays(self) -> Arrays | None:
        """Opens what is known of single images; None until it is written."""
        return arrays_of(self.path)

    @property
    def medium(self) -> Medium:
        """What its samples are."""
        return media.get(self.conditions.get("medium", "image"))

    def samples(self, index: Any) -> np.ndarray:
        """Draws samples by their places, uint8 (n, 1 or 3, H, W), once they are written."""
        arrays = self.arrays()
        assert arrays is not None
        return self.medium.pictures(arrays.made[index])


@dataclass(frozen=True, eq=False)
class Arrays:
    """What is known of each sample (N) and of each real image of the reference (M).

    Attributes:
        made: The samples, uint8 (N, C, H, W).
        made_y, made_named, made_confidence: Class asked for, class that the judge sees (-1 for none), how sure it is.
        real, real_y: Places in the dataset, and classes, of the reference images, (M,).
        made_features, real_features: At most 32 dimensions, float16.
        near_pixels, near_features: Place in the dataset of the nearest training image, (N,).
        near_pixels_distance, near_features_distance: How far that is; in pixels the root mean square, 0 to 1.
        near_ratio: Distance to the nearest over that to the second nearest training image, in pixels.
        near_rank: Share of unseen real images that lie at least as near to a training image; small is suspicious.
        suspects: Places of the samples, most suspicious first.
        realistic, realism: Whether, and how deep, a sample lies among real images.
        unreal: Places of the samples, least real first.
        covered, recalled: Whether a real image has a sample in its neighbourhood, and lies in that of a sample, (M,).
        gap: Distance of a real image to its nearest sample over its neighbourhood; above 1 it is not covered.
        uncovered: Places of the real images, worst covered first.
        disguise: Place in the dataset of the training image that each sample comes nearest to in any way of
            :func:`core.measure.disguises.ways`, -1 where that was not looked for, (N,); None in older evaluations.
        disguise_way: What was done to the training image then, in words; empty for nothing.
        disguise_rank: As ``near_rank``, in this sense; nan for none.
    """

    made: np.ndarray
    made_y: np.ndarray
    made_named: np.ndarray
    made_confidence: np.ndarray
    real: np.ndarray
    real_y: np.ndarray
    made_features: np.ndarray
    real_features: np.ndarray
    near_pixels: np.ndarray
    near_features: np.ndarray
    near_pixels_distance: np.ndarray
    near_features_distance: np.ndarray
    near_ratio: np.ndarray
    near_rank: np.ndarray
    suspects: np.ndarray
    realistic: np.ndarray
    realism: np.ndarray
    unreal: np.ndarray
    covered: np.ndarray
    recalled: np.ndarray
    gap: np.ndarray
    uncovered: np.ndarray
    disguise: np.ndarray | None = None
    disguise_way: np.ndarray | None = None
    disguise_rank: np.ndarray | None = None

    def first(self, count: int) -> dict[str, np.ndarray]:
        """Gives the arrays by name with the first so many samples only, and all real images."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        named = {name: value for name, value in named.items() if value is not None}
        for name, value in named.items():
            if name in ("suspects", "unreal"):
                named[name] = value[value < count]
            elif name.startswith(("made", "near", "realis", "disguise")):
                named[name] = value[:count]
        return named

    def nearest(self, at: np.ndarray) -> list[tuple[int, str, float]]:
        """Gives what samples come nearest to as they are, in the form of :func:`in_disguise`."""
        pairs = zip(self.near_pixels[at], self.near_rank[at], strict=True)
        return [(int(image), "as it is", float(rank)) for image, rank in pairs]


# --- Writing, in the job's process ----------------------------------------------------------------------------------


def write(evaluation: Evaluation) -> None:
    """Writes what is known so far, in one piece."""
    record = asdict(evaluation)
    record.pop("path")
    files.write_json(evaluation.path / "evaluation.json", record)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays of an evaluation, in one piece."""
    memory = io.BytesIO()
    np.savez_compressed(memory, allow_pickle=False, **arrays)
    files.write_atomic(path / "arrays.npz", memory.getvalue())


def write_map(path: Path, layout: np.ndarray) -> None:
    """Writes the slow map (N + M, 2) of an evaluation, in one piece."""
    memory = io.BytesIO()
    np.save(memory, layout, allow_pickle=False)
    files.write_atomic(path / "map-tsne.npy", memory.getvalue())


# --- Reading --------------------------------------------------------------------------------------------------------


def listing(run: jobs.Job | str | None = None) -> list[jobs.Job]:
    """Lists the evaluations of a run, or all, newest first."""
    id = run if isinstance(run, str) or run is None else run.id
    return [job for job in jobs.listing("evaluate") if id is None or job.target == id]


def read(job: jobs.Job | str) -> Evaluation:
    """Reads an evaluation, also while it runs.

    Raises:
        UserError: If there is nothing yet, or the file is damaged.
    """
    job = jobs.get(job) if isinstance(job, str) else job
    file = job.path / "evaluation.json"
    if not file.exists():
        raise UserError(
            f"The evaluation {job.name} has measured nothing yet{_why(job)}. Wait for it, or start another."
        )
    record = files.read_json(file)
    try:
        known = {f.name for f in fields(Measurement)}
        measured = tuple(
            Measurement(**{key: value for key, value in one.items() if key in known})
            for one in record.pop("measurements")
            if one["metric"] in metrics
        )
        return Evaluation(
            **{
                **{f.name: record[f.name] for f in fields(Evaluation) if f.name in record},
                "measurements": measured,
                "classes": tuple(record["classes"]),
                "warnings": tuple(record["warnings"]),
                "path": job.path,
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}). Delete the evaluation, and start it again."
        ) from None


def _why(job: jobs.Job) -> str:
    return f" ({job.message.rstrip('.')})" if job.message else ""


def latest(run: jobs.Job | str) -> Evaluation | None:
    """Reads the newest evaluation of a run that has measured something; None without."""
    for job in listing(run):
        try:
            evaluation = read(job)
        except UserError:
            continue
        if any(m.known for m in evaluation.measurements):
            return evaluation
    return None


_opened = Cache[Arrays](8)


def arrays_of(path: Path) -> Arrays | None:
    """Opens the arrays of an evaluation's folder, shared and bounded; None until they are written.

    Raises:
        UserError: If the file is damaged.
    """
    file = path / "arrays.npz"
    try:
        key = (str(file), file.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    return _opened.get(key, lambda: _read_arrays(file))


def _read_arrays(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as stored:
            needed = {f.name: stored[f.name] for f in fields(Arrays) if f.default is MISSING}
            more = {f.name: stored[f.name] for f in fields(Arrays) if f.name in stored.files}
            return Arrays(**needed | more)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}). Start the evaluation again."
        ) from None


def in_disguise(arrays: Arrays, at: np.ndarray) -> list[tuple[int, str, float]] | None:
    """Gives what samples come nearest to in disguise; None for an evaluation that did not look for that.

    Returns:
        For each sample the place of the training image in the dataset, what was done to it ("mirrored"), and the share
        of unseen images that lie as near. Where only the first samples were looked at: the nearest pixel by pixel.
    """
    if arrays.disguise is None or arrays.disguise_way is None or arrays.disguise_rank is None:
        return None
    hidden = zip(
        arrays.disguise[at], arrays.disguise_way[at], arrays.disguise_rank[at], strict=True
    )
    return [
        (int(image), str(way) or "as it is", float(rank)) if image >= 0 else plain
        for plain, (image, way, rank) in zip(arrays.nearest(at), hidden, strict=True)
    ]


def projection(evaluation: Evaluation, way: Literal["pca", "tsne"]) -> np.ndarray | None:
    """Lays out samples and reference images by likeness, float32 (N + M, 2), samples first.

    Args:
        evaluation: Whose images.
        way: ``pca``, at once; or ``tsne``, computed at the end of the job. A point that it leaves out is nan.

    Returns:
        None while it is not ready.
    """
    arrays = evaluation.arrays()
    if arrays is None:
        return None
    if way == "tsne":
        try:
            return np.load(evaluation.path / "map-tsne.npy", allow_pickle=False)
        except (OSError, ValueError):
            return None
    real, samples = (x.astype(np.float32) for x in (arrays.real_features, arrays.made_features))
    centre = real.mean(0)
    _, _, directions = np.linalg.svd(np.cov(real - centre, rowvar=False).reshape(real.shape[1], -1))
    both = np.concatenate([samples, real]) - centre
    flat = both @ directions[:2].T
    if flat.shape[1] < 2:  # one feature only
        flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    return flat.astype(np.float32)


def watched(run: jobs.Job) -> list[dict[str, Any]]:
    """Gives the looks that the training itself took at its quality: step, images, distance and copying."""
    keys = ("distance", "distance_floor", "copying", "copying_low", "copying_high")
    return [
        {"step": record["step"], "images": record["images"], **{key: record[key] for key in keys}}
        for record in files.Log(run.path).read()[0]
        if all(key in record for key in keys)
    ]


def _dataset(evaluation: Evaluation) -> Any:
    from core import datasets

    ask = runs.record(jobs.get(evaluation.run))["dataset"]
    dataset = datasets.load(ask["name"], ask["config"])
    if dataset.fingerprint != evaluation.conditions["fingerprint"]:
        raise UserError(
            f"The dataset {dataset.name} has changed since this evaluation. Restore the images, or evaluate again."
        )
    return dataset


def reference_images(evaluation: Evaluation) -> np.ndarray:
    """Gives the real images that the samples were compared with, uint8 0 … 255 (M, C, H, W).

    Raises:
        UserError: If nothing is measured yet, or the dataset has changed.
    """
    arrays = evaluation.arrays()
    if arrays is None:
        raise UserError("The samples are not drawn yet. Wait for the evaluation.")
    return _dataset(evaluation).pictures(arrays.real)


def training_images(evaluation: Evaluation, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Gives images by their places in the dataset, uint8 0 … 255 (n, C, H, W).

    Raises:
        UserError: If the dataset has changed.
    """
    return _dataset(evaluation).pictures(np.asarray(index, np.int64))

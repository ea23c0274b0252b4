"""Directions towards a label or an attribute, how well it can be read off points, and what else changes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError
from core.datasets import Columns, Dataset, columns, evenly, scores
from core.latent.directions import Direction, move
from core.latent.space import Space, remember
from core.measure.features import Reader, readable

POINTS = 6000  # of a regression
HELD = 0.2  # share of them that is held out
MOVED = 64  # images that a direction is tried on
FARTHEST = 1.5  # standard deviations that a latent may move in one step; a third of the radius in many dimensions
RIDGES = (0.003, 0.03, 0.3)  # strengths of the regression, as shares of the number of points
TIED = 0.45  # correlation from which one column cannot be held while another changes
HOLD = 0.02  # ridge of the system that holds other columns


@dataclass(frozen=True, eq=False)
class Regression:
    """Points whose images are known, and the regression on them.

    Attributes:
        table: What is known of each, (N, A).
        points: Shape (N, D + K).
        weights: Change of each column, in standard deviations, per unit of each number of a point, (D + K, A).
        accuracy, chance: Of reading columns off held-out points, and of guessing, (A,).
    """

    table: Columns
    points: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    accuracy: np.ndarray
    chance: np.ndarray


def study(space: Space, dataset: Dataset, reading: Reader | None = None) -> Regression:
    """Regresses labels and attributes on points; once per checkpoint.

    A model that encodes gives the points of training images, whose attributes are known. Of another one, samples are
    drawn, and a reader says what they show.

    Raises:
        UserError: If the dataset knows nothing of its images, its images are not the model's, or a reader is needed.
    """
    if not readable(dataset):
        raise UserError(
            f"{dataset.name} has neither classes nor attributes to find directions for. "
            "Use the main directions, or label the images."
        )
    if space.slow:
        raise UserError(
            "Encoding thousands of images by many steps each would take minutes, so this model has no directions "
            "of attributes. Use the main directions, or another run."
        )
    if not space.encodes and reading is None:
        raise UserError(
            "This model does not encode, so its images have to be read. Give a reader of the dataset."
        )

    def make() -> Regression:
        if space.encodes:
            index = evenly(dataset.splits["train"], POINTS)
            table = columns(dataset).of(index)
            y = dataset.y
            points = torch.cat(
                [
                    space.encode(dataset.images(part), None if y is None else y[part].tolist())
                    for part in np.array_split(index, -(-len(index) // 500))
                ]
            )
        else:
            assert reading is not None
            points = torch.cat(
                [space.draw(range(i, i + 500), None, 7) for i in range(0, POINTS, 500)]
            )
            values = torch.cat([reading.read(space.decode(part)) for part in points.split(500)])
            table = Columns(reading.names, values.cpu().numpy(), reading.binary, reading.labels)
        return Regression(table, points, *regress(points, table))

    with torch.no_grad():
        return remember(space, ("study", dataset.fingerprint), make)


def regress(points: Tensor, table: Columns) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Fits ridge regressions of all columns on points; the strength is chosen on held-out points.

    Returns:
        Weights per number of a point, in standard deviations of the columns, (D + K, A); accuracies and chances on the
        held-out points, (A,).
    """
    x = points.double()
    scale = x.std(0).clamp_min(1e-6)
    scale = torch.where(x.std(0) < 1e-6, torch.inf, scale)  # what never varies explains nothing
    centre = x.mean(0)
    x = (x - centre) / scale
    true = torch.as_tensor(table.values, dtype=torch.float64, device=x.device)
    mean, std = true.mean(0), true.std(0).clamp_min(1e-6)
    y = (true - mean) / std
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
    held, fitted = order[: int(HELD * len(x))], order[int(HELD * len(x)) :]
    square, cross = x[fitted].T @ x[fitted], x[fitted].T @ y[fitted]
    eye = torch.eye(len(square), device=x.device, dtype=x.dtype)
    best: tuple[float, Tensor] | None = None
    for ridge in RIDGES:
        weights = torch.linalg.solve(square + ridge * len(fitted) * eye, cross)
        error = float((x[held] @ weights - y[held]).square().mean())
        if best is None or error < best[0]:
            best = error, weights
    assert best is not None
    weights = best[1]
    read = (x[held] @ weights * std + mean).cpu().numpy()
    known = table.values[held.cpu().numpy()]
    # yes or no is decided halfway between the mean predictions for both
    for k in np.flatnonzero(table.binary):
        yes = known[:, k] > 0.5
        if yes.any() and not yes.all():
            edge = (read[yes, k].mean() + read[~yes, k].mean()) / 2
            read[:, k] = read[:, k] > edge
    known = np.where(table.binary, known > 0.5, known)
    accuracy = scores(read, known, table.binary)
    share = known.mean(0)
    chance = np.where(table.binary, np.maximum(share, 1 - share), 0.0)
    return (weights / scale[:, None]).float(), accuracy, chance


def regressed(
    space: Space,
    dataset: Dataset,
    reading: Reader | None = None,
    names: Sequence[str] | None = None,
) -> list[Direction]:
    """Finds the directions of labels and attributes, which change one column and hold the others.

    By the regression, a step changes a number by one standard deviation, and what is yes or no by half; it is shortened
    where the latent would move too far.

    Args:
        space: Of the model.
        dataset: What it was trained on.
        reading: Reads images, where the model cannot encode. With one, what a direction changes is measured on images;
            without, the regression predicts it.
        names: Of the columns to find, in this order; all of them without.

    Raises:
        UserError: As :func:`study`, or if there is no column of a name.

    References:
        Shen et al., 2020, InterFaceGAN (conditional manipulation), https://arxiv.org/abs/2005.09635
    """
    regression = study(space, dataset, reading)
    table = regression.table
    wanted = range(len(table.names)) if names is None else [table.index(name) for name in names]
    steps: list[tuple[int, Tensor, tuple[str, ...]]] = []
    for k in wanted:
        axis = alone(regression, k)
        effect = float(axis @ regression.weights[:, k].to(axis))
        if effect < 1e-9:
            continue
        std = float(table.values[:, k].std())
        step = axis / effect * (0.5 / max(std, 0.05) if table.binary[k] else 1.0)
        z = (step[: space.latent] / space.spread.clamp_min(1e-6).to(step)).norm()
        most = max(FARTHEST, space.latent**0.5 / 3)
        notes = ()
        if float(z) > most:
            step = step * (most / z)
            notes = ("It is weak: a longer step would leave what the model knows.",)
        steps.append((k, step.float().to(space.device), notes))
    vectors = [vector for _, vector, _ in steps]
    if reading is None:
        changes = [(vector @ regression.weights.to(vector)).cpu().numpy() for vector in vectors]
        source = "Its effects are predicted by the regression."
    else:
        changes = _measured(space, table, vectors, reading)
        source = "Its effects are measured on images."
    return [
        Direction(
            table.names[k],
            "labels" if table.labels[k] else "attributes",
            vector,
            share=round(float(change[k]), 4),
            accuracy=float(regression.accuracy[k]),
            measure="accuracy" if table.binary[k] else "R²",
            chance=float(regression.chance[k]),
            leaks={
                table.names[j]: round(float(change[j]), 4)
                for j in np.argsort(-np.abs(change))
                if j != k and not _same_choice(table, int(j), k)
            },
            n=len(regression.points),
            notes=(*notes, source),
        )
        for (k, vector, notes), change in zip(steps, changes, strict=True)
    ]


def explained(
    space: Space, dataset: Dataset, reading: Reader, directions: Sequence[Direction]
) -> list[Direction]:
    """Measures on images what a step of each direction changes of labels and attributes: as ``leaks``, largest first.

    Args:
        space: Of the model.
        dataset: What it was trained on.
        reading: Reads images.
        directions: Found without labels.
    """
    table = columns(dataset).of(evenly(dataset.splits["train"], POINTS))
    changes = _measured(space, table, [each.vector for each in directions], reading)
    return [
        replace(
            each,
            leaks={table.names[j]: round(float(change[j]), 4) for j in np.argsort(-np.abs(change))},
        )
        for each, change in zip(directions, changes, strict=True)
    ]


def alone(regression: Regression, k: int) -> Tensor:
    """Combines the patterns of columns so that column k changes and the others stay, (D + K,).

    The pattern of a column is what points gain with it. The weights of :func:`regress` themselves may rest on numbers
    that the decoder hardly uses, but they say how far a pattern changes which column.

    What is not held: other values of the same choice, and columns that nearly always change with column k, as a smile
    does with the expression.

    References:
        Haufe et al., 2014, On the interpretation of weight vectors of linear models (patterns, not filters)
    """
    table = regression.table
    points = regression.points.double()
    points = points - points.mean(0)
    values = torch.as_tensor(table.values, dtype=torch.float64, device=points.device)
    values = (values - values.mean(0)) / values.std(0).clamp_min(1e-6)
    together = (values.T @ values[:, k] / len(values)).abs()
    held = [
        j for j in range(values.shape[1]) if not _same_choice(table, j, k) and together[j] < TIED
    ]
    columns = [k, *held]
    patterns = values[:, columns].T @ points / len(points)  # (A, D + K)
    changes = (patterns @ regression.weights[:, columns].double()).T  # of column i by pattern j
    wanted = changes.new_zeros(len(columns))
    wanted[0] = 1
    # a little ridge: columns that the points hardly know must not bend the direction
    ridge = HOLD * changes.diagonal().mean() ** 2 * torch.eye(len(columns)).to(changes)
    return torch.linalg.solve(changes.T @ changes + ridge, changes.T @ wanted) @ patterns


def _same_choice(table: Columns, j: int, k: int) -> bool:
    """Says whether two columns are values of one choice, which exclude each other."""
    if table.labels[j] or table.labels[k]:
        return bool(table.labels[j] and table.labels[k])
    choice = table.names[k].partition("=")
    return j == k or (bool(choice[1]) and table.names[j].partition("=")[0] == choice[0])


@torch.no_grad()
def _measured(
    space: Space, table: Columns, vectors: Sequence[Tensor], reading: Reader
) -> list[np.ndarray]:
    """Measures on images what a step along each vector changes, in standard deviations of each column, (A,)."""
    starts = space.draw(range(MOVED), None, 11)
    std = torch.as_tensor(table.values.std(0)).clamp_min(1e-6).to(space.device)
    changes = []
    for vector in vectors:
        before, after = (
            reading.read(space.decode(torch.stack([move(space, z, vector, s) for z in starts])))
            for s in (-1.0, 1.0)
        )
        changes.append(((after - before).mean(0) / 2 / std).cpu().numpy())
    return changes


# --- Arithmetic -----------------------------------------------------------------------------------------------------


def condition(space: Space, dataset: Dataset, text: str, reading: Reader | None = None) -> Tensor:
    """Gives the mean point of the images that meet a condition, (D + K,).

    Args:
        space, dataset, reading: As in :func:`study`.
        text: ``glasses`` or ``glasses=no``, ``smile=high`` or ``smile=low`` (the quarter with most, or least), or the
            name of a class.

    Raises:
        UserError: If there is no such column or value, or no image meets it.
    """
    regression = study(space, dataset, reading)
    table = regression.table
    name, value = text, None
    if text not in table.names:
        name, _, value = text.rpartition("=")
    k = table.index(name)
    column = table.values[:, k]
    allowed = ("yes", "no") if table.binary[k] else ("high", "low")
    value = allowed[0] if value is None else value
    if value not in allowed:
        raise UserError(
            f"{name} can be {' or '.join(allowed)}, got {value!r}. Write {name}={allowed[0]}."
        )
    if table.binary[k]:
        rows = (column > 0.5) == (value == "yes")
    else:
        edge = np.quantile(column, 0.75 if value == "high" else 0.25)
        rows = column >= edge if value == "high" else column <= edge
    if not rows.any():
        raise UserError(f"No image has {text}. Choose another condition.")
    return regression.points[torch.as_tensor(rows, device=regression.points.device)].mean(0)


def arithmetic(space: Space, plus: Tensor, minus: Tensor, to: Tensor) -> Tensor:
    """Computes ``to + plus - minus`` of points (D + K,); on a sphere, the latent keeps the length of ``to``.

    References:
        Mikolov et al., 2013, Linguistic regularities in continuous space word representations
        Radford et al., 2015, DCGAN, https://arxiv.org/abs/1511.06434
    """
    plus, minus, to = (space.checked(point)[0] for point in (plus, minus, to))
    return move(space, to, plus - minus, 1.0)

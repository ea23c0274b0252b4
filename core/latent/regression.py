"""Directions towards a label or an attribute, how well they are read off points, and what else they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core.catalog import UserError
from core.datasets import Columns, Dataset, columns, evenly, scores
from core.latent.directions import Direction, move
from core.latent.space import Space, remember
from core.measure.features import Reader, readable

POINTS = 6000  # that a regression looks at
HELD = 0.2  # share of them that is held out
MOVED = 64  # images that a direction is tried on
FARTHEST = 1.5  # standard deviations that a latent may move in one step; a third of the radius in many dimensions
RIDGES = (0.003, 0.03, 0.3)  # strengths of the regression, as shares of the number of points
TIED = 0.45  # correlation from which one column cannot be held while another changes
HOLD = 0.02  # how little it matters that other columns are held


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

    A model that encodes is asked for the points of training images, whose attributes are true. Another one draws, and
    a reader says what its images show.

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
            found = columns(dataset).of(index)
            labels = None if dataset.y is None else dataset.y[index]
            told = labels is not None and space.model.classes == len(dataset.classes)
            points = torch.cat(
                [
                    space.encode(
                        dataset.images(index[part]),
                        labels[part].tolist() if told and labels is not None else None,
                    )
                    for part in np.array_split(np.arange(len(index)), -(-len(index) // 500))
                ]
            )
        else:
            assert reading is not None
            points = torch.cat(
                [space.draw(range(i, i + 500), None, 7) for i in range(0, POINTS, 500)]
            )
            values = torch.cat([reading.read(space.decode(part)) for part in points.split(500)])
            found = Columns(reading.names, values.cpu().numpy(), reading.binary, reading.labels)
        weights, accuracy, chance = regress(points, found)
        return Regression(found, points, weights, accuracy, chance)

    with torch.no_grad():
        return remember(space, ("study", dataset.fingerprint), make)


def regress(points: Tensor, found: Columns) -> tuple[Tensor, np.ndarray, np.ndarray]:
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
    true = torch.as_tensor(found.values, dtype=torch.float64, device=x.device)
    mean, std = true.mean(0), true.std(0).clamp_min(1e-6)
    y = (true - mean) / std
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).to(x.device)
    held, kept = order[: int(HELD * len(x))], order[int(HELD * len(x)) :]
    square, cross = x[kept].T @ x[kept], x[kept].T @ y[kept]
    eye = torch.eye(len(square), device=x.device, dtype=x.dtype)
    best: tuple[float, Tensor] | None = None
    for ridge in RIDGES:
        weights = torch.linalg.solve(square + ridge * len(kept) * eye, cross)
        error = float((x[held] @ weights - y[held]).square().mean())
        if best is None or error < best[0]:
            best = error, weights
    assert best is not None
    weights = best[1]
    read = (x[held] @ weights * std + mean).cpu().numpy()
    known = found.values[held.cpu().numpy()]
    # halfway between the means of both kinds, as seen by the regression
    for k in np.flatnonzero(found.binary):
        yes = known[:, k] > 0.5
        if yes.any() and not yes.all():
            edge = (read[yes, k].mean() + read[~yes, k].mean()) / 2
            read[:, k] = read[:, k] > edge
    known = np.where(found.binary, known > 0.5, known)
    accuracy = scores(read, known, found.binary)
    share = known.mean(0)
    chance = np.where(found.binary, np.maximum(share, 1 - share), 0.0)
    return (weights / scale[:, None]).float(), accuracy, chance


def regressed(
    space: Space,
    dataset: Dataset,
    reading: Reader | None = None,
    names: Sequence[str] | None = None,
    alone: bool = True,
) -> list[Direction]:
    """Finds the directions of labels and attributes.

    A step changes a number by a standard deviation, and takes what is or is not halfway from no to yes, as far as the
    regression knows and the latent may move.

    Args:
        space: Of the model.
        dataset: What it was trained on.
        reading: Reads images, where the model cannot encode; with one, what a direction leaks is measured on images,
            and else predicted by the regression.
        names: Of the columns to find, in this order; all of them without.
        alone: Holds the other columns fixed; else whatever goes with the attribute in the data comes along.

    Raises:
        UserError: As :func:`study`, or if there is no column of a name.

    References:
        Shen et al., 2020, InterFaceGAN (conditional manipulation), https://arxiv.org/abs/2005.09635
    """
    found = study(space, dataset, reading)
    wanted = (
        [found.table.index(name) for name in names]
        if names is not None
        else range(len(found.table.names))
    )
    made = []
    for k in wanted:
        axis = generated(found, k, alone)
        effect = float(axis @ found.weights[:, k].to(axis))
        if effect < 1e-9:
            continue
        std = float(found.table.values[:, k].std())
        step = axis / effect * (0.5 / max(std, 0.05) if found.table.binary[k] else 1.0)
        z = (step[: space.latent] / space.spread.clamp_min(1e-6).to(step)).norm()
        most = max(FARTHEST, space.latent**0.5 / 3)
        note = ()
        if float(z) > most:
            step = step * (most / z)
            note = ("It is weak: a longer step would leave what the model knows.",)
        vector = step.float().to(space.device)
        made.append((k, vector, note))
    measured = _tried(space, found, made, reading) if reading is not None else None
    result = []
    for row, (k, vector, note) in enumerate(made):
        change = (
            measured[row]
            if measured is not None
            else (vector @ found.weights.to(vector)).cpu().numpy()
        )
        names_of = found.table.names
        leaks = {
            names_of[j]: round(float(change[j]), 4)
            for j in np.argsort(-np.abs(change))
            if j != k and not _same_choice(found.table, int(j), k)
        }
        result.append(
            Direction(
                names_of[k],
                "labels" if found.table.labels[k] else "attributes",
                vector,
                share=round(float(change[k]), 4),
                accuracy=float(found.accuracy[k]),
                measure="accuracy" if found.table.binary[k] else "R²",
                chance=float(found.chance[k]),
                leaks=leaks,
                n=len(found.points),
                notes=(
                    *note,
                    "Its effects are measured on images."
                    if measured is not None
                    else "Its effects are predicted by the regression.",
                ),
            )
        )
    return result


def generated(found: Regression, k: int, alone: bool) -> Tensor:
    """Combines the patterns of columns, that is, what points gain with each, so that column k alone changes, (D + K,).

    Patterns, because the weights of :func:`regress` may rest on numbers that the decoder hardly listens to; but the
    weights say how far a pattern changes which column.

    Args:
        found: Points with their columns.
        k: The column.
        alone: Holds the other columns, but for other values of the same choice, and what all but goes with it: a smile
            cannot change while the expression stays. Else whatever goes with column k comes along.

    References:
        Haufe et al., 2014, On the interpretation of weight vectors of linear models (patterns, not filters)
    """
    points = found.points.double()
    points = points - points.mean(0)
    values = torch.as_tensor(found.table.values, dtype=torch.float64, device=points.device)
    values = (values - values.mean(0)) / values.std(0).clamp_min(1e-6)
    columns = [k]
    if alone:
        together = (values.T @ values[:, k] / len(values)).abs()
        columns += [
            j
            for j in range(values.shape[1])
            if not _same_choice(found.table, j, k) and together[j] < TIED
        ]
    patterns = values[:, columns].T @ points / len(points)  # (A, D + K)
    changes = (patterns @ found.weights[:, columns].double()).T  # of column i by pattern j
    wanted = changes.new_zeros(len(columns))
    wanted[0] = 1
    # a little ridge: columns that the points hardly know must not bend the direction
    ridge = HOLD * changes.diagonal().mean() ** 2 * torch.eye(len(columns)).to(changes)
    return torch.linalg.solve(changes.T @ changes + ridge, changes.T @ wanted) @ patterns


def _same_choice(found: Columns, j: int, k: int) -> bool:
    """Says whether two columns are values of one choice, which change together by nature."""
    if found.labels[j] or found.labels[k]:
        return bool(found.labels[j] and found.labels[k])
    choice = found.names[k].partition("=")
    return j == k or (bool(choice[1]) and found.names[j].partition("=")[0] == choice[0])


@torch.no_grad()
def _tried(
    space: Space,
    found: Regression,
    made: Sequence[tuple[int, Tensor, tuple[str, ...]]],
    reading: Reader,
) -> np.ndarray:
    """Measures what one step changes on images, in standard deviations of each column, (rows, A)."""
    starts = space.draw(range(MOVED), None, 11)
    std = torch.as_tensor(found.table.values.std(0)).clamp_min(1e-6).to(space.device)
    rows = []
    for _, vector, _ in made:
        direction = Direction("", "", vector)
        ends = []
        for amount in (-1.0, 1.0):
            moved = torch.stack([move(space, start, [(direction, amount)]) for start in starts])
            ends.append(reading.read(space.decode(moved)))
        rows.append(((ends[1] - ends[0]).mean(0) / 2 / std).cpu().numpy())
    return np.stack(rows) if rows else np.zeros((0, len(found.table.names)))


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
    found = study(space, dataset, reading)
    name, value = text, "yes"
    if text not in found.table.names:
        name, _, value = text.rpartition("=")
    k = found.table.index(name)
    column = found.table.values[:, k]
    allowed = ("yes", "no") if found.table.binary[k] else ("high", "low")
    if value == "yes" and allowed[0] == "high":
        value = "high"
    if value not in allowed:
        raise UserError(
            f"{name} can be {' or '.join(allowed)}, got {value!r}. Write {name}={allowed[0]}."
        )
    if found.table.binary[k]:
        rows = (column > 0.5) == (value == "yes")
    else:
        edge = np.quantile(column, 0.75 if value == "high" else 0.25)
        rows = column >= edge if value == "high" else column <= edge
    if not rows.any():
        raise UserError(f"No image has {text}. Choose another condition.")
    return found.points[torch.as_tensor(rows, device=found.points.device)].mean(0)


def arithmetic(space: Space, plus: Tensor, minus: Tensor, to: Tensor) -> Tensor:
    """Computes ``to + plus - minus`` of points (D + K,); on a sphere, the latent keeps the length that it had.

    References:
        Mikolov et al., 2013, Linguistic regularities in continuous space word representations
        Radford et al., 2015, DCGAN, https://arxiv.org/abs/1511.06434
    """
    plus, minus, to = (space.checked(point)[0] for point in (plus, minus, to))
    return move(space, to, [(Direction("a - b", "labels", plus - minus), 1.0)])

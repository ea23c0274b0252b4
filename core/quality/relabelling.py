"""Labels that people give elsewhere: a dataset's images as tasks of Label Studio, and its answers as decisions.

A task knows its image by a hash of its pixels, so that an answer is never taken for an image that has changed.

References:
    Label Studio, tasks and choices https://labelstud.io/guide/task_format, https://labelstud.io/tags/choices
"""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from core.catalog import UserError
from core.datasets import Dataset
from core.datasets.annotations import text
from core.datasets.dataset import digest
from core.datasets.formats import labelstudio
from core.datasets.labels import Malformed
from core.ground import files
from core.ground.settings import settings
from core.ground.watch import UNWATCHED, Watch
from core.ground.writing import many
from core.quality import decisions
from core.quality.findings import newest

OUT = "Leave this image out"  # the choice beside the classes
TASKS, LAYOUT = "tasks.json", "labelling.xml"
_PICTURE = re.compile(rb"data:image/[a-z]{1,8};base64,[A-Za-z0-9+/=]*+")


@dataclass
class Answers:
    """What people answered, as decisions about images.

    Attributes:
        relabel: The new label of images that got another one.
        accept: Images whose label was confirmed.
        exclude: Images that are to be left out.
        refused: Tasks that say nothing that can be done, with the reason.
        other: Tasks that are about images of another state of the dataset.
    """

    relabel: dict[int, int] = field(default_factory=dict)
    accept: list[int] = field(default_factory=list)
    exclude: list[int] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    other: int = 0

    @property
    def sentence(self) -> str:
        """Says what they are."""
        parts = {
            "relabelled": len(self.relabel),
            "confirmed": len(self.accept),
            "left out": len(self.exclude),
        }
        said = ", ".join(f"{count:,} {word}" for word, count in parts.items() if count)
        rest = (
            f" {many(self.refused, 'task')} without an answer that can be used."
            if self.refused
            else ""
        )
        return f"{said or 'Nothing is decided'}.{rest}"

    @property
    def warning(self) -> str:
        """Says that tasks were made of another state of the dataset; empty where none were."""
        if not self.other:
            return ""
        return (
            f"{many(self.other, 'task')} {'were' if self.other > 1 else 'was'} made of another state of the dataset: "
            "each was taken for the image with the same pixels."
        )


def doubtful(dataset: Dataset, count: int) -> list[int]:
    """Lists the images that an inspection names for their label, called wrong or for a look; at most so many.

    Raises:
        UserError: If it was not inspected, or labels could not be judged.
    """
    job = newest(dataset)
    found = None if job is None or job.active else job.result()
    doubt = np.empty(0) if found is None else found.scores.get("doubt", np.empty(0))
    if not np.isfinite(doubt).any():
        raise UserError(
            f"Which labels of {dataset.name} are in doubt is not known. Inspect it first (What is wrong?, or "
            f"python -m core inspect {dataset.name}), or take all images."
        )
    assert found is not None
    named = [issue.image for issue in found.issues if issue.kind in ("label", "doubt")]
    return sorted(dict.fromkeys(named), key=lambda i: -np.nan_to_num(doubt[i], nan=-1.0))[:count]


def layout(dataset: Dataset) -> str:
    """Writes how a task looks in Label Studio: the picture, large, and a choice for each class."""
    names = [*dataset.classes, _out(dataset)]
    choices = "\n".join(f"    <Choice value={quoteattr(text(name) or name)}/>" for name in names)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n  <Text name="about" value="$about"/>\n'
        f'  <Choices name="label" toName="image" choice="single" showInline="true">\n{choices}\n  </Choices>\n</View>\n'
    )


def tasks(
    dataset: Dataset, images: Sequence[int], watch: Watch = UNWATCHED
) -> list[dict[str, Any]]:
    """Makes a task of each image, with the picture inside and its label as a suggestion.

    Raises:
        UserError: If there are no labels, or the dataset's items are no pictures.
    """
    _labelled(dataset)
    decisions.known(dataset, images)
    made = []
    for done, image in enumerate(images, 1):
        item = dataset.medium.alone(np.asarray(dataset.x[image]), dataset.levels)
        label = text(dataset.classes[int(dataset.y[image])]) if dataset.y is not None else ""
        suggestion = {
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [label]},
        }
        made.append({
            "id": int(image) + 1,
            "data": {
                "image": "data:image/png;base64," + base64.b64encode(item).decode(),
                "about": f"image {image}",
                "digest": digest(np.asarray(dataset.x[image])).hex(),
                "row": int(image),
                "label": label,
                "dataset": dataset.fingerprint,
            },
            "predictions": [{"model_version": "label until now", "result": [suggestion]}],
        })  # fmt: skip
        watch.count("Writing", done, len(images), "images")
    return made


def write(
    dataset: Dataset, images: Sequence[int], folder: Path, watch: Watch = UNWATCHED
) -> dict[str, Any]:
    """Writes what Label Studio needs into a new folder: the tasks, and how they look.

    Returns:
        ``folder``, ``tasks`` and the names of its ``files``.

    Raises:
        UserError: As :func:`tasks`, or if there is no image, or such a folder already.
    """
    if not len(images):
        raise UserError(f"There is no image of {dataset.name} to label. Choose others.")
    content = tasks(dataset, images, watch)
    written = {TASKS: json.dumps(content, indent=1), LAYOUT: layout(dataset)}
    settings().allow_disk(len(written[TASKS]) / 2**20)
    try:
        with files.full_disk_told(), files.new_folder(folder) as new:
            for name, said in written.items():
                (new / name).write_text(said, encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{str(folder)!r} is there already. Choose another folder.") from None
    return {"folder": str(folder), "tasks": len(content), "files": sorted(written)}


def read(dataset: Dataset, data: bytes) -> Answers:
    """Reads an export of Label Studio (as JSON), and finds the images that its tasks are about.

    Raises:
        UserError: If it is none, or none of its tasks is about an image of the dataset.
    """
    _labelled(dataset)
    assert dataset.y is not None
    try:
        listed = labelstudio.tasks(_PICTURE.sub(b"", data), len(dataset))
    except Malformed as why:
        raise UserError(
            f"The decisions cannot be read: {why}. Export them from Label Studio as JSON."
        ) from None
    if listed is None:
        raise UserError(
            "The decisions must be an export of Label Studio: a list of tasks, each with its data. Export them as JSON."
        )
    rows: dict[str, list[int]] = defaultdict(list)
    for i in range(len(dataset)):
        rows[digest(np.asarray(dataset.x[i])).hex()].append(i)
    number = {text(name): k for k, name in enumerate(dataset.classes)}
    found, about = Answers(), set()
    said: dict[int, list[tuple[str, str]]] = defaultdict(list)  # the task and its answer, by image
    for what, task in listed:
        data_of = task["data"]
        same = rows.get(str(data_of.get("digest")), [])
        row = data_of.get("row")
        mine = [row] if type(row) is int and row in same else same
        if data_of.get("dataset") != dataset.fingerprint:
            found.other += 1
        if not mine:
            found.refused.append((what, "is about an image that this dataset does not have"))
            continue
        about.update(mine)
        given = [choice for parts in labelstudio.answers(task) if (choice := _choice(parts))]
        names = [*dict.fromkeys(given)]
        if not names:
            found.refused.append((what, "was not answered"))
        elif len(names) > 1:
            listed_names = " and ".join(map(repr, names[:3]))
            found.refused.append((what, f"was answered in several ways: {listed_names}"))
        elif names[0] != _out(dataset) and names[0] not in number:
            found.refused.append((what, f"was answered {names[0]!r:.80}, which is no class"))
        else:
            for image in mine:
                said[image].append((what, names[0]))
    for image, pairs in said.items():
        first, name = pairs[0]
        if other := next((pair for pair in pairs if pair[1] != name), None):
            why = f"says {other[1]!r:.80} of image {image}, of which {first} says {name!r:.80}"
            found.refused.append((other[0], why))
        elif name == _out(dataset):
            found.exclude.append(image)
        elif number[name] == dataset.y[image]:
            found.accept.append(image)
        else:
            found.relabel[image] = number[name]
    if not about:
        raise UserError(
            f"None of these {len(listed):,} tasks is about an image of {dataset.name}: it has changed since, or they "
            "are of another dataset. Choose the dataset that they were made of."
        )
    return found


def decide(
    dataset: Dataset, answers: Answers, *, reason: str, who: str, seen: int
) -> decisions.Book:
    """Writes the answers as decisions, each of which can be undone.

    Returns:
        The book as it is now; ``new`` names all of them.

    Raises:
        UserError: As :func:`core.quality.decisions.decide`.
    """
    book, new = decisions.open(dataset), tuple[str, ...]()
    ways = (
        ("relabel", list(answers.relabel), list(answers.relabel.values())),
        ("exclude", sorted(set(answers.exclude)), None),
        ("accept", sorted(set(answers.accept)), None),
    )
    for action, images, labels in ways:
        if images:
            book = decisions.decide(
                dataset, action, images, labels, kind="label", reason=reason, who=who, seen=seen
            )
            seen, new = book.version, new + book.new
    return decisions.Book(**{**vars(book), "new": new})


def _choice(parts: Sequence[dict[str, Any]]) -> str:
    """Gives what a person chose; the first where there are several."""
    return next((name for part in parts for name in labelstudio.chosen(part)), "")


def _out(dataset: Dataset) -> str:
    """Names the choice to leave an image out, other than every class."""
    name = OUT
    while name in map(text, dataset.classes):
        name += "!"
    return name


def _labelled(dataset: Dataset) -> None:
    if dataset.y is None:
        raise UserError(
            f"{dataset.name} has no classes, and a task asks for one. Choose a dataset with labels."
        )
    if dataset.medium.suffix != ".png":
        raise UserError(
            f"The items of {dataset.name} are no pictures, and only pictures become tasks. Choose another dataset."
        )

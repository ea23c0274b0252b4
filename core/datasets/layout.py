"""How a tree of pictures is read: by a file of labels, as splits of classes, as classes, or as one set without any.

How the folders lie decides first, and their names second, so that a stray file never changes the meaning: two or more
folders at the top that hold the same folders are splits, whatever their names. The name then says which split it is;
one that says none is taken as test, never as training.

References:
    Hugging Face datasets, the names that its imagefolder takes as splits
    https://huggingface.co/docs/datasets/repository_structure
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.catalog import UserError
from core.datasets.dataset import SPLITS
from core.datasets.labels import Labels
from core.ground.writing import many

READINGS = ("file", "splits", "classes", "none")
FEW = 2  # most pictures of a folder that may be a stray
BESIDE = "lies beside the folders of the classes, so it has no class"
_WORDS = {
    "train": {"train", "training", "trainval"},
    "valid": {"val", "valid", "validation", "validate", "dev", "development"},
    "test": {"test", "testing", "eval", "evaluation", "holdout", "heldout"},
}
_NEUTRAL = {"set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "samples",
            "folder", "hold", "held", "out", "ing"}  # fmt: skip
_NUMBER = re.compile(r"[-_]?[0-9]+(-of-[0-9]+)?$")
_WRAPPERS = {"images", "image", "imgs", "img", "data", "pictures", "photos", "dataset", "classes"}


@dataclass
class Reading:
    """One way to read a tree.

    Attributes:
        kind: One of :data:`READINGS`.
        sentence: What it makes of the tree.
        placed: Position of each picture that is used, its class (or None), and its split's position in
            :data:`core.datasets.SPLITS` (0 where nothing says one).
        refused: Position and reason of each that is left out.
        notes: What is worth knowing.
        folders: What each folder (or file) at the top is taken as.
    """

    kind: str
    sentence: str = ""
    placed: list[tuple[int, str | None, int]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[tuple[str, str]] = field(default_factory=list)


def role(name: str, strict: bool = False) -> str | None:
    """Reads from a folder's name which split it is: ``train``, ``valid``, ``test``, or None.

    >>> [role(name) for name in ("Training", "test_set", "my-dev.2", "valset", "hold-out", "train_test", "cats")]
    ['train', 'test', 'valid', 'valid', 'test', None, None]

    Args:
        name: Of the folder.
        strict: Takes no other words: ``steam train`` then is no split.
    """
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold()  # TestSet
    parts = {part for part in re.split(r"[\W\d_]+", text) if part}
    if parts >= {"hold", "out"} or parts >= {"held", "out"}:
        parts.add("holdout")
    splits, other = set(), False
    for word in parts:
        bare = re.sub(r"(set|data|split|images|imgs)s?$", "", word) or word
        meant = [split for split, known in _WORDS.items() if known & {word, bare}]
        splits.update(meant)
        other |= not meant and word not in _NEUTRAL
    return splits.pop() if len(splits) == 1 and not (strict and other) else None


def of_shards(names: Sequence[str]) -> list[str]:
    """Reads from the names of files that hold many pictures each which split each of them is; empty for none.

    >>> of_shards(["data/train-00000-of-00001.parquet", "data/val-0.parquet"]), of_shards(["test.tar"])
    (['train', 'valid'], [''])
    """

    def of(name: str) -> str:
        path = PurePosixPath(name.replace("t10k", "test"))  # so MNIST calls it
        stem = _NUMBER.sub("", path.name.split(".")[0])
        return role(stem) or next(filter(None, map(role, path.parts[-2::-1])), None) or ""

    said = list(map(of, names))
    if len(set(said)) == 1:  # one split alone is no division
        return [""] * len(names)
    if "train" in said:  # a name that says none is never training
        stems = (PurePosixPath(name).stem for name in names)
        return [split or f"file {stem}" for split, stem in zip(said, stems, strict=True)]
    return said


# --- The tree -------------------------------------------------------------------------------------------------------


@dataclass
class _Top:
    """A folder at the top: in ``inner`` its pictures by the folder in it, in ``direct`` those that lie in none."""

    name: str
    direct: list[int] = field(default_factory=list)
    inner: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def all(self) -> list[int]:
        return [*self.direct, *itertools.chain.from_iterable(self.inner.values())]

    @property
    def nested(self) -> bool:
        """Whether most of its pictures lie in folders."""
        return sum(map(len, self.inner.values())) > len(self.direct)

    @property
    def names(self) -> set[str]:
        return {name.casefold() for name in self.inner}


def _size(tops: Iterable[_Top]) -> int:
    return sum(len(top.all) for top in tops)


class Tree:
    """The folders of a set, without those around everything.

    Args:
        files: Names of the pictures, with slashes.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        paths = {i: unicodedata.normalize("NFC", name).split("/") for i, name in enumerate(files)}
        self.stray: list[int] = []
        self.around: list[str] = []
        while True:  # a folder around everything but strays
            beside = [i for i, path in paths.items() if len(path) == 1]
            top = _around(paths.values())
            if top is None or len(beside) > (len(paths) - len(beside)):
                break
            inside = {i: path[1:] for i, path in paths.items() if len(path) > 1 and path[0] == top}
            self.stray += [i for i in paths if i not in inside]
            self.around.append(top)
            paths = inside
        self.beside, self.paths = beside, paths
        self.tops: dict[str, _Top] = {}
        _unrepeat(paths)
        for i, path in paths.items():
            if len(path) > 1:
                top = self.tops.setdefault(path[0], _Top(path[0]))
                (top.direct if len(path) == 2 else top.inner[path[1]]).append(i)
        for top in self.tops.values():
            self._strip(top)
        self.roles = {name: role(name) for name in self.tops}
        self.nested = [top for top in self.tops.values() if top.nested]
        self.size = _size(self.tops.values())

    def _strip(self, top: _Top) -> None:
        """Takes out a folder that is around all others of a split, for example ``train/images/cat``."""
        if len(top.inner) != 1:
            return
        [(only, pictures)], deep = top.inner.items(), defaultdict(list)
        rests = {i: self.paths[i][2:] for i in pictures}
        below = sum(len(rest) > 1 for rest in rests.values())
        around = len(top.direct) <= len(pictures) < 2 * below
        if around and only.casefold() in _WRAPPERS:
            for i, rest in rests.items():
                (deep[rest[0]] if len(rest) > 1 else top.direct).append(i)
            top.inner = deep

    @property
    def labelled(self) -> bool:
        """Whether most pictures lie in folders at the top."""
        return bool(self.tops) and len(self.beside) <= len(self.paths) / 2

    def splits(self) -> dict[str, str | None] | None:
        """Finds which folders at the top are splits, and which split each name says; None where none are."""
        roles = set(self.roles.values())
        plain = all(role(name, strict=True) for name in self.tops)
        if None not in roles and "train" in roles and len(roles) > 1 and (self.nested or plain):
            return dict(self.roles)
        splits = {name: self.roles[name] for name in self._alike() or self._alone()}
        if not splits or self.inside() or (self.below() and "train" not in splits.values()):
            return None
        return splits

    def _alike(self) -> list[str]:
        """Lists the folders that hold the same folders, where most pictures lie in such ones."""

        def pair(one: _Top, other: _Top) -> bool:
            """Tells whether most folders are the same; a folder that is named like a split may lack classes."""
            named = self.roles[one.name] or self.roles[other.name]
            most = (min if named else max)(len(one.names), len(other.names))
            return one is not other and 2 * len(one.names & other.names) > most

        alike = [top for top in self.nested if any(pair(top, other) for other in self.nested)]
        shared = Counter(name for top in alike for name in top.names)
        common = sum(count > 1 for count in shared.values())
        certain = all(self.roles[top.name] for top in alike)
        if len(alike) < 2 or 2 * _size(alike) < self.size or common < (1 if certain else 2):
            return []
        # named like a split, it is one, whatever it holds
        named = [top for top in self.nested if top not in alike and self.roles[top.name]]
        return [top.name for top in alike + named]

    def _alone(self) -> list[str]:
        """Finds a folder of classes that is called training, and holds most of the pictures that are not held out.

        With it come the folders that are called validation or test; nothing else beside it is a class.
        """
        out = [top for top in self.tops.values() if self.roles[top.name] in ("valid", "test")]
        rest = self.size - _size(out)
        training = [
            top.name
            for top in self.nested
            if self.roles[top.name] == "train" and len(top.inner) > 1 and 2 * len(top.all) > rest
        ]
        return training + [top.name for top in out if top.nested] if training else []

    def inside(self) -> bool:
        """Tells whether each class holds the splits, instead of each split the classes: ``cat/train``, ``cat/test``."""
        nested = [top for top in self.nested if len(top.all) > FEW]
        roles = {role(name) for top in nested for name in top.inner}
        return (
            None not in roles
            and "train" in roles
            and len(roles) > 1
            and not all(self.roles[top.name] for top in nested)
            and 2 * _size(nested) >= self.size
        )

    def below(self) -> list[str]:
        """Lists held-out folders that lie beside the classes and repeat them: ``cat``, ``dog``, ``test/cat``."""
        flat = {top.name.casefold() for top in self.tops.values() if not top.nested}
        return [
            top.name
            for top in self.nested
            if self.roles[top.name] in ("valid", "test")
            and len(flat) > 1
            and 2 * len(top.names & flat) > len(top.names)
        ]


def _around(paths: Collection[list[str]]) -> str | None:
    """Finds the folder that is around everything; other folders of a picture or two beside a large one are strays."""
    counts = Counter(path[0] for path in paths if len(path) > 1)
    if not counts:
        return None
    top, most = counts.most_common(1)[0]
    inner = {tuple(path[1:-1]) for path in paths if len(path) > 2 and path[0] == top}
    others = {name: count for name, count in counts.items() if name != top}
    if not others:
        return top
    small = max(others.values()) <= FEW and 10 * sum(others.values()) <= most
    named = any(role(name) for name in others) or role(top) == "train"
    return top if small and len(inner) > 1 and not named else None


def _unrepeat(paths: dict[int, list[str]]) -> None:
    """Takes out folders that repeat the one around them: ``seg_train/seg_train/sea``, not a class ``train/train``.

    Only strays may lie beside the repeating folder.
    """
    tops: dict[str, list[int]] = defaultdict(list)
    for i, path in paths.items():
        tops[path[0]].append(i)
    for top, pictures in tops.items():
        while deep := [i for i in pictures if len(paths[i]) > 2]:
            same = [i for i in deep if paths[i][1].casefold() == top.casefold()]
            if not same or len(deep) - len(same) > min(FEW, len(same) // 10):
                break
            for i in same:
                paths[i] = [top, *paths[i][2:]]


# --- The readings ---------------------------------------------------------------------------------------------------


def readings(
    files: Sequence[str],
    labels: Labels | None = None,
    named: Sequence[str] = (),
    training: str = "",
) -> tuple[dict[str, Reading], str]:
    """Reads a tree in every way that it can be read.

    Args:
        files: Names of the pictures.
        labels: What files of labels say, if they say anything.
        named: The names of those files; without ``labels``, of files that say that no picture has a label.
        training: Folders that are for training, with commas, where their names do not say so.

    Returns:
        The readings by kind, and the kind that is taken unless somebody chooses.

    Raises:
        UserError: If ``training`` names a folder that is not there.
    """
    tree = Tree(files)
    chosen = [word.strip() for word in training.split(",") if word.strip()]
    readings: dict[str, Reading] = {}
    if labels is not None:
        readings["file"] = _by_file(tree, labels, named, chosen)
    splits = tree.splits()
    decided = splits is not None or tree.inside() or bool(tree.below())
    nested = {top.name: tree.roles[top.name] for top in tree.nested}
    if chosen and splits is None:
        splits = nested or dict(tree.roles)
    if tree.inside() and not chosen:
        readings["splits"] = _inside(tree)
    elif tree.below() and splits is None:
        readings["splits"] = _below(tree)
    elif splits is not None or len(nested) > 1:
        readings["splits"] = _by_splits(tree, splits or nested, chosen)
    if tree.tops:
        readings["classes"] = _by_classes(tree)
    out = [] if tree.labelled else tree.stray  # beside a folder around a set without classes
    rest = sorted(set(range(len(files))) - set(out))
    readings["none"] = Reading(
        "none",
        f"No classes: {'all ' if not out else ''}{len(rest):,} pictures are one set.",
        [(i, None, 0) for i in rest],
        [(i, "lies beside the folder of all other pictures") for i in out],
    )
    notes = [
        f"All pictures lie in {name!r}, so its name says no split: splits are drawn from all of them."
        for name in tree.around
        if role(name, strict=True) in ("valid", "test") and not decided
    ]
    for reading in readings.values():
        reading.notes += notes + by_case(_names(reading))
    files_named = ", ".join(map(repr, named))
    taken = "classes" if tree.labelled else "none"
    if "splits" in readings and (decided or chosen):
        taken = "splits"
    elif named and labels is None and taken == "classes":
        taken = "none"
        readings["none"].notes.append(
            f"{files_named} says that no picture has a label, so the folders are no classes."
        )
    if "file" not in readings:
        return readings, taken
    by_file, by_folders = (
        sum(n is not None for _, n, _ in readings[k].placed) for k in ("file", taken)
    )
    if 2 * by_file >= by_folders or any(name.casefold().endswith(".json") for name in named):
        return readings, "file"
    readings[taken].notes.append(
        f"{files_named} says the label of only {many(by_file, 'picture')}, and the folders of {by_folders:,}: "
        "the folders are taken. Choose the file of labels (dataset.reading=file) if it is meant."
    )
    return readings, taken


def _reading(tree: Tree, kind: str) -> Reading:
    """Begins a reading by folders, which leaves the pictures beside them out."""
    return Reading(kind, refused=[(i, BESIDE) for i in (*tree.stray, *tree.beside)])


def _by_classes(tree: Tree) -> Reading:
    reading = _reading(tree, "classes")
    reading.placed = [(i, top.name, 0) for top in tree.tops.values() for i in top.all]
    reading.folders = [(name, "class") for name in sorted(tree.tops, key=str.casefold)]
    reading.sentence = (
        f"{classes_of(reading)}, one for each folder at the top; splits are drawn from all of them."
    )
    return reading


def _by_splits(tree: Tree, splits: Mapping[str, str | None], chosen: Sequence[str]) -> Reading:
    taken, unknown = _roles(splits, chosen)
    reading = _reading(tree, "splits")
    training = [tree.tops[name] for name in splits if taken[name] == "train"]
    tops = training or [tree.tops[name] for name in splits]
    # the training pictures decide: beside them, held-out pictures without labels may lie flat
    labelled = 2 * sum(len(pictures) for top in tops for pictures in top.inner.values()) > _size(
        tops
    )
    trained = {name for top in training for name in top.names}
    for top in tree.tops.values():
        if top.name not in taken or (labelled and not top.inner):
            where = f"lies in {top.name!r}, which holds none of the classes"
            reading.refused += [(i, where) for i in top.all]
            reading.folders.append((top.name, "left out"))
            continue
        code = SPLITS.index(taken[top.name])
        reading.folders.append((top.name, taken[top.name]))
        if not labelled:
            reading.placed += [(i, None, code) for i in top.all]
            continue
        reading.refused += [(i, BESIDE) for i in top.direct]
        nameless = code and len(top.inner) == 1 and len(trained) > 1 and not top.names & trained
        for label, pictures in top.inner.items():
            if nameless:
                where = f"lies in {top.name}/{label}, and {label!r} is no class that is trained"
                reading.refused += [(i, where) for i in pictures]
            else:
                reading.placed += [(i, label, code) for i in pictures]
    _tell(reading, unknown)
    return reading


def _roles(
    splits: Mapping[str, str | None], chosen: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Gives each folder its split, and lists those whose name says none."""
    low = {name.casefold() for name in splits}
    for name in chosen:
        if name.casefold() not in low:
            raise UserError(
                f"dataset.training names the folder {name!r}, which is none of those that may be splits: "
                f"{', '.join(splits) or 'there are none'}. Name one of them, or leave it out."
            )
    training = {name.casefold() for name in chosen}
    taken, unknown = {}, []
    for name, split in splits.items():
        if name.casefold() in training:
            split = "train"
        elif split is None:
            unknown.append(name)
        elif split == "train" and training:  # those that were chosen are the only ones that train
            split = "test"
        taken[name] = split or "test"
    return taken, unknown


def _tell(reading: Reading, unknown: Sequence[str]) -> None:
    """Writes what the splits are, and which of them were guessed."""
    reading.folders.sort(key=lambda pair: ((*SPLITS, "left out").index(pair[1]), pair[0]))
    counts = Counter(code for _, _, code in reading.placed)
    listed = _listed((name, kind) for name, kind in reading.folders if kind in SPLITS)
    numbers = ", ".join(f"{counts[i]:,} {split}" for i, split in enumerate(SPLITS) if counts[i])
    reading.sentence = f"Splits: {listed} ({numbers}). {classes_of(reading)}."
    reading.notes.append(f"The folders are taken as the splits: {listed}.")
    reading.notes += [_unknown(name) for name in unknown]
    if out := [name for name, kind in reading.folders if kind == "left out"]:
        reading.notes.append(
            f"Left out, because none of the classes lies there: {', '.join(map(repr, out))}."
        )
    if not counts[0]:
        reading.notes.append(
            "No folder is for training, so nothing can be trained on this set. Name one under Folders for training "
            "(dataset.training), or read the folders as classes (dataset.reading=classes)."
        )


def _unknown(name: str) -> str:
    return (
        f"The name of {name!r} says no split, so it is taken as test, never as training. If it is for training, name "
        "it under Folders for training (dataset.training)."
    )


def _listed(splits: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name!r} as {split}" for name, split in splits)


def _inside(tree: Tree) -> Reading:
    reading = _reading(tree, "splits")
    taken: dict[str, str] = {}
    for top in tree.tops.values():
        known = any(role(name) for name in top.inner)
        reading.folders.append((top.name, "class" if known else "left out"))
        if not known:
            reading.refused += [
                (i, f"lies in {top.name!r}, which holds no splits") for i in top.all
            ]
            continue
        reading.refused += [(i, "lies beside the folders of the splits") for i in top.direct]
        for name, pictures in top.inner.items():
            taken[name] = role(name) or "test"
            reading.placed += [(i, top.name, SPLITS.index(taken[name])) for i in pictures]
    listed = _listed(sorted(taken.items()))
    reading.sentence = f"{classes_of(reading)}, each with its splits inside: {listed}."
    reading.notes.append(f"The folders inside each class are taken as the splits: {listed}.")
    return reading


def _below(tree: Tree) -> Reading:
    reading = _reading(tree, "splits")
    splits = {name: tree.roles[name] or "test" for name in tree.below()}
    for top in tree.tops.values():
        reading.folders.append((top.name, splits.get(top.name, "class")))
        if top.name not in splits:
            reading.placed += [(i, top.name, 0) for i in top.all]
            continue
        code = SPLITS.index(splits[top.name])
        reading.refused += [(i, BESIDE) for i in top.direct]
        for label, pictures in top.inner.items():
            reading.placed += [(i, label, code) for i in pictures]
    listed = _listed(splits.items())
    reading.sentence = f"{classes_of(reading)} for training, and {listed}."
    reading.notes.append(f"Beside the folders of the classes, {listed} is taken as a split.")
    return reading


def _by_file(tree: Tree, labels: Labels, named: Sequence[str], chosen: Sequence[str]) -> Reading:
    reading = Reading("file")
    files = ", ".join(map(repr, named))
    # folders are splits if their names say so, or if each has a file of labels of its own
    own = {path[-2] for name in named if len(path := name.split("/")) > 1}
    known = set(tree.roles.values()) - {None}
    taken, unknown = {}, []
    if chosen or ("train" in known and len(known) > 1) or len(own & set(tree.tops)) > 1:
        taken, unknown = _roles(tree.roles, chosen)
    tops = {i: top.name for top in tree.tops.values() for i in top.all}
    for i in range(len(tree.files)):
        if (label := labels.label.get(i)) is None:
            why = "is named with two labels in" if i in labels.torn else "has no label in"
            reading.refused.append((i, f"{why} {files}"))
            continue
        split = labels.split.get(i)
        split = (role(split) or "test") if split else taken.get(tops.get(i, ""), "train")
        reading.placed.append((i, label, SPLITS.index(split)))
    torn = len(labels.torn)
    none = len(reading.refused) - torn
    reading.folders = [(name, "labels") for name in named]
    reading.folders += [(name, taken.get(name, "no class")) for name in sorted(tree.tops)]
    reading.notes.append(f"The classes are those of {files}; folders are no classes.")
    if taken:
        reading.notes.append(
            f"The folders are taken as the splits: {_listed(sorted(taken.items()))}."
        )
    reading.notes += [_unknown(name) for name in unknown]
    if labels.missing:
        count, some = len(labels.missing), ", ".join(map(repr, labels.missing[:3]))
        more = f" and {count - 3} more" if count > 3 else ""
        reading.notes.append(
            f"{many(count, 'file')} that {'are' if count > 1 else 'is'} named in {files} cannot be found: {some}{more}."
        )
    if none:
        reading.notes.append(
            f"{many(none, 'picture')} {'have' if none > 1 else 'has'} no label in {files}: left out."
        )
    if torn:
        reading.notes.append(
            f"{many(torn, 'picture')} {'are' if torn > 1 else 'is'} named with two labels in {files}: left out."
        )
    reading.sentence = f"{classes_of(reading)}, by {files}."
    return reading


def _names(reading: Reading) -> list[str]:
    return sorted({label for _, label, _ in reading.placed if label is not None})


def classes_of(reading: Reading) -> str:
    """Counts and names the classes of a reading."""
    names = sorted(_names(reading), key=str.casefold)
    if not names:
        return "No classes"
    listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    return f"{len(names):,} class{'es' if len(names) > 1 else ''} ({listed})"


def by_case(names: Sequence[str]) -> list[str]:
    """Tells of class names that differ by capitals only: they stay two classes, and may be meant as one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name.casefold()].append(name)
    return [
        f"The classes {' and '.join(map(repr, group))} differ by capital letters only, and are kept apart. "
        "Rename a folder if they are one."
        for group in groups.values()
        if len(group) > 1
    ]

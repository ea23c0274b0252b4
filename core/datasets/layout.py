"""How a tree of pictures is read: by a file of labels, as splits of classes, as classes, or as one set without any.

What decides is how the folders lie, then what they are called, so that a stray file never changes the meaning: two or
more folders at the top that hold the same folders are splits, whatever their names. A name says which split it is, and
one that says none is taken as test, never as training.

References:
    Hugging Face datasets, the names that its imagefolder takes as splits
    https://huggingface.co/docs/datasets/repository_structure
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from core.catalog import UserError
from core.datasets.dataset import SPLITS
from core.datasets.labels import Labels
from core.ground.writing import many

READINGS = ("file", "splits", "classes", "none")
FEW = 2  # pictures of a folder that may be a stray
BESIDE = "lies beside the folders of the classes, so it has no class"
_WORDS = {
    "train": {"train", "training", "trainval"},
    "valid": {"val", "valid", "validation", "validate", "dev", "development"},
    "test": {"test", "testing", "eval", "evaluation", "holdout", "heldout"},
}
_NEUTRAL = {"set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "samples",
            "folder", "hold", "held", "out", "ing"}  # fmt: skip
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
    sentence: str
    placed: list[tuple[int, str | None, int]]
    refused: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[tuple[str, str]] = field(default_factory=list)


def role(name: str, strict: bool = False) -> str | None:
    """Tells which split a folder's name says: ``train``, ``valid``, ``test``, or None.

    >>> [role(name) for name in ("Training", "test_set", "my-dev.2", "valset", "hold-out", "train_test", "cats")]
    ['train', 'test', 'valid', 'valid', 'test', None, None]

    Args:
        name: Of the folder.
        strict: Every word of it must belong: ``steam train`` then is none.
    """
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).casefold()  # TestSet
    words = [word for word in re.split(r"[\W\d_]+", text) if word]
    if {"hold", "out"} <= set(words) or {"held", "out"} <= set(words):
        words.append("holdout")
    found, rest = set(), []
    for word in words:
        bare = re.sub(r"(set|data|split|images|imgs)s?$", "", word) or word
        said = [kind for kind, known in _WORDS.items() if word in known or bare in known]
        found.update(said)
        rest += [] if said or word in _NEUTRAL else [word]
    if len(found) != 1 or (strict and rest):
        return None
    return found.pop()


# --- The tree -------------------------------------------------------------------------------------------------------


@dataclass
class _Top:
    """A folder at the top: its pictures by the folder in it that holds them, in ``direct`` those in none."""

    name: str
    direct: list[int] = field(default_factory=list)
    inner: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def all(self) -> list[int]:
        return [*self.direct, *(i for held in self.inner.values() for i in held)]

    @property
    def nested(self) -> bool:
        """Whether most of its pictures lie in folders."""
        return sum(map(len, self.inner.values())) > len(self.direct)

    @property
    def names(self) -> set[str]:
        return {name.casefold() for name in self.inner}


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
        self.beside = beside
        self.tops: dict[str, _Top] = {}
        self.paths = paths
        _unrepeat(paths)
        for i, path in paths.items():
            if len(path) > 1:
                top = self.tops.setdefault(path[0], _Top(path[0]))
                (top.direct if len(path) == 2 else top.inner[path[1]]).append(i)
        for top in self.tops.values():
            self._strip(top)
        self.roles = {name: role(name) for name in self.tops}

    def _strip(self, top: _Top) -> None:
        """Takes a folder out that is around all others of a split, for example ``train/images/cat``."""
        if len(top.inner) != 1 or len(top.direct) > len(next(iter(top.inner.values()))):
            return
        (only, held), deep = next(iter(top.inner.items())), defaultdict(list)
        rests = {i: self.paths[i][2:] for i in held}
        below = [i for i, rest in rests.items() if len(rest) > 1]
        if only.casefold() in _WRAPPERS and 2 * len(below) > len(held):
            for i, rest in rests.items():
                (deep[rest[0]] if len(rest) > 1 else top.direct).append(i)
            top.inner = deep

    @property
    def labelled(self) -> bool:
        """Whether most pictures lie in folders at the top."""
        return bool(self.tops) and len(self.beside) <= len(self.paths) / 2

    def splits(self) -> dict[str, str | None] | None:
        """Finds which folders at the top are splits, and which one each name says; None where none are."""
        roles, tops = self.roles, self.tops
        known = {name: said for name, said in roles.items() if said}
        if len(tops) > 1 and len(set(known.values())) > 1 and "train" in known.values():
            nested = any(tops[name].nested for name in known)
            plain = all(role(name, strict=True) for name in tops)
            if len(known) == len(tops) and (nested or plain):
                return dict(known)
        groups = {name: roles[name] for name in self._alike() or self._alone()}
        if not groups or self.inside() or (self.below() and "train" not in groups.values()):
            return None
        return groups

    def _alike(self) -> list[str]:
        """Lists the folders that hold the same folders, where most pictures lie in such ones."""
        nested = [top for top in self.tops.values() if top.nested]

        def pair(one: _Top, other: _Top) -> bool:
            """Tells whether most folders are the same; of a split that is named so, classes may be missing."""
            sure = self.roles[one.name] or self.roles[other.name]
            most = (min if sure else max)(len(one.names), len(other.names))
            return one is not other and 2 * len(one.names & other.names) > most

        alike = [top for top in nested if any(pair(top, other) for other in nested)]
        shared = Counter(name for top in alike for name in top.names)
        common = sum(count > 1 for count in shared.values())
        certain = all(self.roles[top.name] for top in alike)
        many = 2 * sum(len(top.all) for top in alike) >= sum(len(t.all) for t in self.tops.values())
        if len(alike) < 2 or not many or common < (1 if certain else 2):
            return []
        # named like a split, it is one, whatever it holds
        named = [top.name for top in nested if top not in alike and self.roles[top.name]]
        return [top.name for top in alike] + named

    def _alone(self) -> list[str]:
        """Finds a folder of classes that is called training, and holds most pictures but those that are held out.

        With it come the folders that are called validation or test; nothing else beside it is a class.
        """
        nested = [top for top in self.tops.values() if top.nested]
        held = [top.name for top in nested if self.roles[top.name] in ("valid", "test")]
        tops = self.tops.values()
        whole = sum(len(t.all) for t in tops if self.roles[t.name] not in ("valid", "test"))
        found = [
            top.name
            for top in nested
            if self.roles[top.name] == "train" and len(top.inner) > 1 and 2 * len(top.all) > whole
        ]
        return found + held if found else []

    def inside(self) -> bool:
        """Tells whether each class holds the splits, instead of each split the classes: ``cat/train``, ``cat/test``."""
        nested = [top for top in self.tops.values() if top.nested and len(top.all) > FEW]
        said = {role(name) for top in nested for name in top.inner}
        return (
            bool(nested)
            and None not in said
            and "train" in said
            and len(said) > 1
            and not all(self.roles[top.name] for top in nested)
            and 2 * sum(len(top.all) for top in nested)
            >= sum(len(t.all) for t in self.tops.values())
        )

    def below(self) -> list[str]:
        """Lists held-out folders that lie beside the classes and repeat them: ``cat``, ``dog``, ``test/cat``."""
        flat = {top.name.casefold() for top in self.tops.values() if not top.nested}
        return [
            top.name
            for top in self.tops.values()
            if top.nested
            and self.roles[top.name] in ("valid", "test")
            and len(flat) > 1
            and 2 * len(top.names & flat) > len(top.names)
        ]


def _around(paths: Collection[list[str]]) -> str | None:
    """Finds the folder that is around everything; beside it, others of a picture or two are strays, if it is large."""
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
    """Takes folders out that repeat the one around them: ``seg_train/seg_train/sea``, not a class ``train/train``.

    It does so if nothing lies beside the repeating folder but strays.
    """
    tops: dict[str, list[int]] = defaultdict(list)
    for i, path in paths.items():
        tops[path[0]].append(i)
    for top, mine in tops.items():
        while deep := [i for i in mine if len(paths[i]) > 2]:
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
        named: The names of those files; without ``labels``, of files that say that no picture has one.
        training: Folders that are for training, with commas, where their names do not say so.

    Returns:
        The readings by kind, and the kind that is taken unless somebody chooses.

    Raises:
        UserError: If ``training`` names a folder that is not there.
    """
    tree = Tree(files)
    chosen = [word.strip() for word in training.split(",") if word.strip()]
    found: dict[str, Reading] = {}
    if labels is not None:
        found["file"] = _by_file(tree, labels, named, chosen)
    splits = tree.splits()
    decided = splits is not None or tree.inside() or bool(tree.below())
    if chosen and splits is None:
        splits = {name: tree.roles[name] for name, top in tree.tops.items() if top.nested} or {
            name: tree.roles[name] for name in tree.tops
        }
    if tree.inside() and not chosen:
        found["splits"] = _inside(tree)
    elif tree.below() and splits is None:
        found["splits"] = _below(tree)
    elif splits is not None or len([t for t in tree.tops.values() if t.nested]) > 1:
        splits = splits or {n: tree.roles[n] for n, top in tree.tops.items() if top.nested}
        found["splits"] = _by_splits(tree, splits, chosen)
    if tree.tops:
        found["classes"] = _by_classes(tree)
    out = [] if tree.labelled else tree.stray  # beside a folder around a set without classes
    kept = sorted(set(range(len(files))) - set(out))
    found["none"] = Reading(
        "none",
        f"No classes: {'all ' if not out else ''}{len(kept):,} pictures are one set.",
        [(i, None, 0) for i in kept],
        [(i, "lies beside the folder of all other pictures") for i in out],
    )
    for name in tree.around:
        if role(name, strict=True) in ("valid", "test") and not decided:
            note = f"All pictures lie in {name!r}, so its name says no split: splits are drawn from all of them."
            for reading in found.values():
                reading.notes.append(note)
    for reading in found.values():
        reading.notes += by_case(
            sorted({name for _, name, _ in reading.placed if name is not None})
        )
    files_named = ", ".join(map(repr, named))
    taken = "classes" if tree.labelled else "none"
    if "splits" in found and (decided or chosen):
        taken = "splits"
    elif named and labels is None and taken == "classes":
        taken = "none"
        found["none"].notes.append(
            f"{files_named} says that no picture has a label, so the folders are no classes."
        )
    if "file" not in found:
        return found, taken
    mine, theirs = (sum(n is not None for _, n, _ in found[k].placed) for k in ("file", taken))
    if 2 * mine >= theirs or any(name.casefold().endswith(".json") for name in named):
        return found, "file"
    note = (
        f"{files_named} says the label of only {many(mine, 'picture')}, and the folders of {theirs:,}: "
        "the folders are taken. Choose the file of labels (dataset.reading=file) if it is meant."
    )
    found[taken].notes.append(note)
    return found, taken


def _stray(tree: Tree) -> list[tuple[int, str]]:
    return [(i, BESIDE) for i in (*tree.stray, *tree.beside)]


def _by_classes(tree: Tree) -> Reading:
    made = Reading("classes", "", [], _stray(tree))
    made.placed = [(i, top.name, 0) for top in tree.tops.values() for i in top.all]
    names = [top.name for top in tree.tops.values()]
    made.folders = [(name, "class") for name in sorted(names, key=str.casefold)]
    said = "splits are drawn from all of them"
    made.sentence = f"{_classes(made)}, one for each folder at the top; {said}."
    return made


def _by_splits(tree: Tree, splits: Mapping[str, str | None], chosen: Sequence[str]) -> Reading:
    taken, unknown = _roles(splits, chosen)
    made = Reading("splits", "", [], _stray(tree))
    held = [tree.tops[name] for name in splits]
    training = [top for top in held if taken[top.name] == "train"]
    inner = [i for top in training or held for pictures in top.inner.values() for i in pictures]
    # what trains decides: beside it, held-out pictures without labels may lie flat
    labelled = 2 * len(inner) > sum(len(top.all) for top in training or held)
    trained = set().union(*(top.names for top in training), set())
    for top in tree.tops.values():
        if top.name not in taken or (labelled and not top.inner):
            where = f"lies in {top.name!r}, which holds none of the classes"
            made.refused += [(i, where) for i in top.all]
            made.folders.append((top.name, "left out"))
            continue
        code = SPLITS.index(taken[top.name])
        made.folders.append((top.name, taken[top.name]))
        if not labelled:
            made.placed += [(i, None, code) for i in top.all]
            continue
        made.refused += [(i, BESIDE) for i in top.direct]
        nameless = code and len(top.inner) == 1 and len(trained) > 1 and not top.names & trained
        for label, pictures in top.inner.items():
            if nameless:
                where = f"lies in {top.name}/{label}, and {label!r} is no class that is trained"
                made.refused += [(i, where) for i in pictures]
            else:
                made.placed += [(i, label, code) for i in pictures]
    _tell(made, unknown)
    return made


def _roles(
    splits: Mapping[str, str | None], chosen: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Gives each folder its split, and lists those whose name says none."""
    low = {name.casefold(): name for name in splits}
    for word in chosen:
        if word.casefold() not in low:
            raise UserError(
                f"dataset.training names the folder {word!r}, which is none of those that may be splits: "
                f"{', '.join(splits) or 'there are none'}. Name one of them, or leave it out."
            )
    ours = {low[word.casefold()] for word in chosen}
    taken = {
        name: "train" if name in ours else "test" if said is None else said
        for name, said in splits.items()
    }
    if ours:  # then it is they that train
        taken = {
            name: "test" if kind == "train" and name not in ours else kind
            for name, kind in taken.items()
        }
    return taken, [name for name, said in splits.items() if said is None and name not in ours]


def _tell(made: Reading, unknown: Sequence[str]) -> None:
    """Writes what the splits are, and what of it was a guess."""
    order = sorted(made.folders, key=lambda pair: ((*SPLITS, "left out").index(pair[1]), pair[0]))
    made.folders = order
    counts = Counter(code for _, _, code in made.placed)
    words = ", ".join(f"{name!r} as {kind}" for name, kind in order if kind in SPLITS)
    numbers = ", ".join(f"{counts[i]:,} {split}" for i, split in enumerate(SPLITS) if counts[i])
    made.sentence = f"Splits: {words} ({numbers}). {_classes(made)}."
    made.notes.append(f"The folders are taken as the splits: {words}.")
    made.notes += [_unknown(name) for name in unknown]
    if out := [name for name, kind in order if kind == "left out"]:
        made.notes.append(
            f"Left out, because none of the classes lies there: {', '.join(map(repr, out))}."
        )
    if not counts[0]:
        made.notes.append(
            "No folder is for training, so nothing can be trained on this set. Name one under Folders for training "
            "(dataset.training), or read the folders as classes (dataset.reading=classes)."
        )


def _unknown(name: str) -> str:
    return (
        f"The name of {name!r} says no split, so it is taken as test, never as training. If it is for training, name "
        "it under Folders for training (dataset.training)."
    )


def _inside(tree: Tree) -> Reading:
    made = Reading("splits", "", [], _stray(tree))
    taken: dict[str, str] = {}
    for top in tree.tops.values():
        known = any(role(name) for name in top.inner)
        made.folders.append((top.name, "class" if known else "left out"))
        if not known:
            made.refused += [(i, f"lies in {top.name!r}, which holds no splits") for i in top.all]
            continue
        made.refused += [(i, "lies beside the folders of the splits") for i in top.direct]
        for name, pictures in top.inner.items():
            taken[name] = role(name) or "test"
            made.placed += [(i, top.name, SPLITS.index(taken[name])) for i in pictures]
    words = ", ".join(f"{name!r} as {taken[name]}" for name in sorted(taken))
    made.sentence = f"{_classes(made)}, each with its splits inside: {words}."
    made.notes.append(f"The folders inside each class are taken as the splits: {words}.")
    return made


def _below(tree: Tree) -> Reading:
    made = Reading("splits", "", [], _stray(tree))
    held = tree.below()
    for top in tree.tops.values():
        if top.name not in held:
            made.folders.append((top.name, "class"))
            made.placed += [(i, top.name, 0) for i in top.all]
            continue
        said = tree.roles[top.name] or "test"
        made.folders.append((top.name, said))
        made.refused += [(i, BESIDE) for i in top.direct]
        made.placed += [
            (i, label, SPLITS.index(said))
            for label, pictures in top.inner.items()
            for i in pictures
        ]
    words = ", ".join(f"{name!r} as {tree.roles[name]}" for name in held)
    made.sentence = f"{_classes(made)} for training, and {words}."
    made.notes.append(f"Beside the folders of the classes, {words} is taken as a split.")
    return made


def _by_file(tree: Tree, labels: Labels, named: Sequence[str], chosen: Sequence[str]) -> Reading:
    made = Reading("file", "", [])
    files = ", ".join(map(repr, named))
    # folders are splits if their names say so, or if each has a file of labels of its own
    own = {part[-2] for name in named if len(part := name.split("/")) > 1}
    known = {said for said in tree.roles.values() if said}
    splits: dict[str, str | None] = {}
    if chosen or (
        len(tree.tops) > 1
        and (("train" in known and len(known) > 1) or len(own & set(tree.tops)) > 1)
    ):
        splits = dict(tree.roles)
    taken, unknown = _roles(splits, chosen) if splits else ({}, [])
    none = torn = 0
    tops = {i: top.name for top in tree.tops.values() for i in top.all}
    for i in range(len(tree.files)):
        label = labels.label.get(i)
        if label is None:
            doubt = i in labels.torn
            torn, none = torn + doubt, none + (not doubt)
            why = "is named with two labels in" if doubt else "has no label in"
            made.refused.append((i, f"{why} {files}"))
            continue
        said = labels.split.get(i)
        kind = (role(said) or "test") if said else taken.get(tops.get(i, ""), "train")
        made.placed.append((i, label, SPLITS.index(kind)))
    made.folders = [(name, "labels") for name in named]
    made.folders += [(name, taken.get(name, "no class")) for name in sorted(tree.tops)]
    made.notes.append(f"The classes are those of {files}; folders are no classes.")
    if taken:
        words = ", ".join(f"{name!r} as {kind}" for name, kind in sorted(taken.items()))
        made.notes.append(f"The folders are taken as the splits: {words}.")
    made.notes += [_unknown(name) for name in unknown]
    if labels.missing:
        some = ", ".join(map(repr, labels.missing[:3]))
        more = f" and {len(labels.missing) - 3} more" if len(labels.missing) > 3 else ""
        made.notes.append(
            f"{len(labels.missing):,} file{'s that are' if len(labels.missing) > 1 else ' that is'} named in {files} "
            f"cannot be found: {some}{more}."
        )
    if none:
        made.notes.append(
            f"{none:,} picture{'s have' if none > 1 else ' has'} no label in {files}: left out."
        )
    if torn:
        made.notes.append(
            f"{torn:,} picture{'s are' if torn > 1 else ' is'} named with two labels in {files}: left out."
        )
    made.sentence = f"{_classes(made)}, by {files}."
    return made


def _classes(made: Reading) -> str:
    names = sorted({label for _, label, _ in made.placed if label is not None}, key=str.casefold)
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

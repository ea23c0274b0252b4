"""Pictures on their way in: from a folder, a ZIP, loose files or the camera; how they would be read, and the import."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.datasets import labels
from core.datasets.formats import formats
from core.ground.settings import settings
from core.ground.writing import many
from core.media import media
from pages.parts import form, shell, show
from pages.parts import upload as upload_files
from pages.parts.camera import camera, forget

READINGS = {
    "file": "By the file of labels",
    "splits": "As splits",
    "classes": "As classes",
    "names": "By the names of the files",
    "none": "Without classes",
}
LABELS = {
    "file": "by a file of labels",
    "splits": "by the folders inside the splits",
    "classes": "by the folders",
    "names": "by the names of the files",
    "none": "none",
}
WAYS = {"files": "Files or a ZIP", "folder": "A folder", "camera": "Camera"}
OF_UPLOAD = {"reading", "training", "range", "group"}  # what is asked beside what was understood
# what means something only after another choice
AFTER = {
    "centre": ("window", "as given"),
    "width": ("window", "as given"),
    "smallest": ("boxes", "a picture per box"),
}
_OPEN = "data.bringing"
_NOT = "data.refused"  # why what was brought is not taken
_LISTED = 12  # classes that are named
_NAMED = 3  # files that are left out, by name


@dataclasses.dataclass(frozen=True)
class Upload:
    """What a visitor has brought so far.

    Attributes:
        name: What it may be called.
        mark: Changes with its content.
        files: Path and content of each.
        typed: Whether the visitor has typed the class of each, so that nothing is to be asked.
        place: Key of the uploader that holds the files; empty where there is none.
    """

    name: str
    mark: str
    files: list[tuple[str, bytes]]
    typed: bool = False
    place: str = ""


def offer(place: Any) -> None:
    """Offers the import at the page's top, and draws its dialog while it is open; a link may ask for it."""
    if st.query_params.get("data.view") == "bring":
        del st.query_params["data.view"]
        st.session_state[_OPEN] = True
    place.button(
        "Bring your own pictures",
        key="data.bring",
        icon=":material/add_photo_alternate:",
        type="primary",
        on_click=lambda: st.session_state.update({_OPEN: True}),
    )
    if st.session_state.get(_OPEN):
        bring()


def _close() -> None:
    """Closes the dialog with the next run of the page, and forgets what was brought."""
    for key in (_OPEN, "data.preview", "data.name", "data.named"):
        st.session_state.pop(key, None)
    forget("data.camera")
    st.session_state["data.imports"] = st.session_state.get("data.imports", 0) + 1


@st.dialog(
    "Bring your own pictures", width="large", dismissible=False
)  # a click beside would lose all
@shell.guard()
def bring() -> None:
    """Takes pictures in, under a name; says before how they would be read."""
    if refused := st.session_state.pop("_refused", None) or st.session_state.pop(_NOT, None):
        shell.refuse(refused)
    left, right = st.columns([1, 1.25], gap="large")
    naming, pressing, closing = st.columns([3, 1, 1], gap="small", vertical_alignment="bottom")
    below = st.container()
    values: dict[str, Any] = {}
    wanted, source = "", datasets.importers()[0].name
    with left:
        upload = taken()
    typed = named(naming, upload)
    if upload is None:
        with right:
            nothing()
    elif shell.may_change():
        with right, shell.guard():
            source = read_as(upload, values)
            with below, shell.guard():
                wanted = datasets.free(typed)  # nothing speaks against it
    with st.expander("Advanced"):
        key = f"data.{source}"
        omit = OF_UPLOAD | of_formats() | values.keys()
        values |= form.flat({key: datasets.config_of(source)}, omit=omit)[key]
    pressed = pressing.button(
        "Import",
        type="primary",
        key="data.import",
        disabled=not wanted,
        width="stretch",
        help="Reads every picture once; what cannot be read is listed with the reason.",
    )
    if closing.button("Close", key="data.close", width="stretch"):
        _close()
        st.rerun()
    if not pressed or upload is None or not wanted:
        return
    with below, shell.guard():
        try:
            keep(upload, wanted, source, values)
        except UserError as error:
            if looked(upload, {}).pictures or not upload.place:
                raise
            _refuse(upload, error)
        st.rerun()


def nothing() -> None:
    """Says what can be brought."""
    kinds = " ".join(entry.upload for entry in datasets.importers())
    with shell.empty(
        f"{kinds} At most {settings().upload_mb} MB.  \nWhat is understood of them is shown here, before "
        "anything is kept."
    ):
        pass


def keep(upload: Upload, name: str, source: str, values: dict[str, Any]) -> None:
    """Imports an upload, and leads to the top of the new dataset."""
    settings().allow_change("import images")
    with datasets.received(name, upload.files) as path:
        dataset = datasets.bring(name, values | {"path": str(path)}, show.Bar(), source=source)
    if upload.place:
        upload_files.forget(upload.place)
    left_out = f", {len(dataset.refused):,} left out" if dataset.refused else ""
    st.session_state["_done"] = (
        f"{name}: {len(dataset):,} {called(dataset.medium.name)} imported{left_out}."
    )
    st.session_state["data.next"] = name
    _close()
    st.query_params.pop("data.view", None)  # to the new pictures


def called(medium: str) -> str:
    """Names items of a medium, by its name, as they are brought."""
    return "pictures" if medium == "image" else media.get(medium).title.lower()


def taken() -> Upload | None:
    """Takes files, a folder or pictures of the camera, and gives those of the open tab; the others keep theirs."""
    tabs = st.tabs(list(WAYS.values()), key="data.way", on_change="rerun")
    upload = None
    for (way, title), tab in zip(WAYS.items(), tabs, strict=True):
        with tab:
            mine = shot() if way == "camera" else sent(way, title)
        upload = mine if tab.open else upload
    return upload


def sent(way: str, title: str) -> Upload | None:
    """Takes files that are chosen or dropped: a whole folder, or single ones."""
    suffixes = {suffix for entry in datasets.importers() for suffix in entry.suffixes}
    suffixes |= {name.rpartition(".")[2] for name in labels.NAMES}
    suffixes.update(*(each.suffixes for each in formats))
    whole = way == "folder"
    key = "data.upload.folder" if whole else "data.upload"
    # empty after an import, and after what was refused
    times = (st.session_state.get(name, 0) for name in ("data.imports", f"data.anew.{key}"))
    key += "." * sum(times)
    files = st.file_uploader(
        title,
        type=None if whole else ["zip", *sorted(suffixes)],  # what else a folder holds is told
        accept_multiple_files="directory" if whole else True,
        key=key,
        on_change=_bound,
        args=(key,),
        label_visibility="collapsed",
        disabled=not shell.may_change(),
    )
    titles = [each.title for each in formats]
    st.caption(
        "Folders inside become classes or splits. Thousands of pictures come faster as a ZIP."
        if whole
        else "A ZIP keeps its folders. Loose pictures are one set without classes, unless labels.csv is with them. "
        f"Also read: {', '.join(title for title in titles if not title.startswith('A '))}; several files of a set "
        "together."
    )
    if not files:
        return None
    top, slash, _ = files[0].name.partition("/")
    if whole and not any("/" in file.name for file in files):
        st.warning(
            "A folder that is dropped loses the folders inside on its way through the browser. Take it out again, and "
            "choose it with the button, or send a ZIP.",
            icon=":material/warning:",
        )
    alone = slash or len(files) == 1
    return Upload(
        (top if slash else top.rpartition(".")[0] or top) if alone else "pictures",
        _mark(file.file_id for file in files),
        [(file.name, file.getvalue()) for file in files],
        place=key,
    )


def _bound(key: str) -> None:
    """Refuses files that are too large together, before any is read, and lets them go."""
    try:
        datasets.allow_size([file.size for file in st.session_state.get(key) or []])
    except UserError as error:
        _let_go(key)
        st.session_state["_refused"] = str(error)


def _let_go(key: str) -> None:
    """Empties an uploader: in the next run a new one stands in its place."""
    upload_files.forget(key)
    anew = f"data.anew.{key.rstrip('.')}"
    st.session_state[anew] = st.session_state.get(anew, 0) + 1


def _refuse(upload: Upload, error: UserError) -> NoReturn:
    """Says why an upload is not taken, and empties its uploader: what comes next would be refused with it."""
    _let_go(upload.place)
    st.session_state[_NOT] = str(error)
    st.rerun()


def shot() -> Upload | None:
    """Takes pictures with the camera, class after class."""
    if not shell.may_change():
        st.caption("This server is for viewing only.")
        return None
    pictures = camera(key="data.camera")
    if not pictures:
        st.caption(
            "Type a class, hold the button for some seconds, then the next class: two pictures a second, small squares."
        )
        return None
    files = [(f"{i:04}.jpg", content) for i, (_, content) in enumerate(pictures)]
    rows = [
        {"file_name": f"{i:04}.jpg", "label": label}
        for i, (label, _) in enumerate(pictures)
        if label
    ]
    if rows:  # not as folders, whose names may say a split
        files.append(("labels.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    return Upload("camera", _mark(map(repr, files)), files, typed=bool(rows))


def _mark(parts: Any) -> str:
    mark = hashlib.sha256()
    for part in parts:
        mark.update(part.encode())
    return mark.hexdigest()[:16]


def named(place: Any, upload: Upload | None) -> str:
    """Asks for the name; until a person writes one, it is the file's."""
    state, suggested = st.session_state, "" if upload is None else datasets.suggest(upload.name)
    if state.get("data.name", "") in ("", state.get("data.named", "")):
        state["data.name"] = suggested
    state["data.named"] = suggested
    return place.text_input("Name", key="data.name", max_chars=60, disabled=not shell.may_change())


def looked(upload: Upload, chosen: dict[str, Any]) -> datasets.Preview:
    """Looks into an upload, once for each content and choice; its content tells the importer."""
    key = (upload.mark, chosen)
    cached = st.session_state.get("data.preview")
    if cached is None or cached[0] != key:
        try:
            with (
                st.spinner("Looking into the pictures"),
                datasets.received(datasets.suggest(upload.name), upload.files) as path,
            ):
                cached = key, datasets.preview({"path": str(path)} | chosen)
        except UserError as error:
            if chosen or not upload.place:
                raise
            _refuse(upload, error)
        st.session_state["data.preview"] = cached
    return cached[1]


def reading_of(preview: datasets.Preview, key: str) -> dict[str, Any]:
    """Shows every way to read the folders, and lets a person choose; at first the one that fits best is chosen."""
    kinds = [reading["kind"] for reading in preview.readings]
    if preview.problem:
        st.warning(shell.plain(preview.problem), icon=":material/warning:")
    chosen = kinds[0]
    if len(kinds) > 1:
        chosen = st.radio(
            "What says the classes" if preview.format else "How the folders are read",
            kinds,
            index=kinds.index(preview.taken) if preview.taken in kinds else 0,
            key=key,
            format_func=lambda kind: (
                ("By the file" if preview.format and kind == "file" else READINGS[kind])
                + (" (found)" if kind == preview.taken else "")
            ),
            captions=[shell.plain(reading["sentence"]) for reading in preview.readings],
        )
    reading = next(reading for reading in preview.readings if reading["kind"] == chosen)
    for note in [reading["sentence"]] * (len(kinds) == 1) + reading["notes"]:
        st.caption(f":material/info: {shell.plain(note)}")
    return reading


def facts(preview: datasets.Preview, reading: dict[str, Any], by: str) -> None:
    """Shows some of the pictures, and what was understood: classes, splits, labels, bits."""
    if preview.samples:
        colour = max(len(x) for _, x in preview.samples)
        show.pictures(
            np.stack([x.repeat(colour // len(x), 0) for _, x in preview.samples]),
            columns=8,
            key="data.samples",
            titles=[name for name, _ in preview.samples],
            max_height=200,
            max_zoom=1,
            alt=f"{len(preview.samples)} of the pictures, cut to squares",
        )
    classes = list(reading["classes"].items())
    listed = ", ".join(f"{name} {count:,}" for name, count in classes[:_LISTED])
    more = f" and {len(classes) - _LISTED:,} more" if len(classes) > _LISTED else ""
    splits = ", ".join(f"{count:,} {name}" for name, count in reading["splits"].items())
    bits = ""
    if datasets.datasets.get(preview.source).medium == "image":
        bits = f"  \n**Bits** {_deep(preview)} per channel"
    st.markdown(
        (f"**Format** {shell.plain(preview.format)}  \n" if preview.format else "")
        + f"**Classes** {len(classes):,}"
        + (f": {shell.plain(listed)}{more}" if classes else "")
        + f"  \n**Splits** {splits or 'drawn from all of them'}"
        + f"  \n**Labels** {by}"
        + bits
    )


def _deep(preview: datasets.Preview) -> str:
    return f"more than 8 in {preview.deep:,}" if preview.deep else "1" if preview.ones else "8"


def of_formats() -> set[str]:
    """Names the choices that only some formats have."""
    return {name for each in formats for name in each.config.knobs()}


def answered(prefix: str) -> dict[str, Any]:
    """Gives what was answered so far, as far as it changes what would be understood."""
    names = {"training", "group", *of_formats()}
    state = {name: st.session_state.get(f"{prefix}.{name}") for name in sorted(names)}
    return {
        name: value
        for name, value in state.items()
        if (value.strip() if isinstance(value, str) else value is not None)
    }


def controls(preview: datasets.Preview, knobs: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Asks what only the format of an upload leaves open: which window, what becomes of boxes."""
    values: dict[str, Any] = {}
    for name in preview.knobs:
        other, needed = AFTER.get(name, ("", None))
        if not other or values.get(other) == needed:
            values[name] = form.control(knobs[name], prefix)
    return values


def sized(preview: datasets.Preview, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Asks to which size pictures are scaled, and what becomes of those that are not square where it matters."""
    key = f"data.{preview.source}"
    matters = preview.reach or preview.oblong > preview.pictures / 2
    size, fit = st.columns([1.4, 1], vertical_alignment="bottom")
    with size:
        values = {"size": form.control(knobs["size"], key)}
    if matters:
        with fit:
            values["fit"] = form.control(knobs["fit"], key)
    side, most = values["size"], knobs["size"].high
    told = f"Every picture is scaled to {side} × {side} pixels (at most {most:g})."
    if preview.oblong:
        told += (
            f" {preview.oblong:,} of them are not square: crop cuts their edges off, pad adds white ones"
            + ("." if matters else " (Fit, under Advanced).")
        )
    if preview.reach:
        told += (
            f" Annotated boxes of {many(preview.reach, 'picture')} reach into what a crop cuts off: choose pad to "
            "keep them whole."
        )
    st.caption(told)
    return values


def understood(
    upload: Upload, chosen: dict[str, Any]
) -> tuple[datasets.Preview, dict[str, Any], UserError | None]:
    """Looks into an upload with the answers, or with those that fit; gives which these are, and why others do not."""
    bare = {name: value for name, value in chosen.items() if name != "group"}
    wrong: UserError | None = None
    for answers in (chosen, bare, {}):
        try:
            # a column of groups may be gone after another answer, which is nobody's fault
            return looked(upload, answers), answers, None if answers == bare else wrong
        except UserError as error:
            wrong = wrong or error
            if not answers:
                raise
    raise AssertionError


def read_as(upload: Upload, values: dict[str, Any]) -> str:
    """Shows what an upload would become, and asks what it leaves open, into ``values``; gives its importer."""
    prefix = f"data.upload.{upload.mark}"  # of the answers, so that another file has its own
    preview, chosen, wrong = understood(upload, answered(prefix))
    knobs = datasets.config_of(preview.source).knobs()
    others = len(preview.refused)
    st.markdown(
        f"**{preview.pictures:,}** {called(datasets.datasets.get(preview.source).medium)}"
        + (f"; {preview.beside}" if preview.beside else "")
    )
    about = st.container()
    left = [f"Left out: {shell.plain(f'{file} {why}')}" for file, why in preview.refused[:_NAMED]]
    if others > _NAMED:
        left.append(f"… and {others - _NAMED:,} more; all are named after the import.")
    if left:
        st.caption("  \n".join(left))
    values |= controls(preview, knobs, prefix)
    if "size" in knobs:
        values |= sized(preview, knobs)
    if preview.columns:
        # of a format that keeps patients together, another column can be chosen, and none cannot
        options = preview.columns if preview.group else ("", *preview.columns)
        columns = dataclasses.replace(knobs["group"], options=options, default=preview.group)
        values["group"] = form.control(columns, prefix)
    if not preview.readings:
        return preview.source
    # another choice of folders begins with its own, too
    typed = [each for each in preview.readings if each["kind"] == "file"] if upload.typed else []
    of_folders = [chosen[name] for name in ("training", "group") if name in chosen]
    key = f"data.reading.{upload.mark}.{'.'.join(of_folders)}"
    reading = typed[0] if typed else reading_of(preview, key)
    values["reading"] = reading["kind"]
    with about:
        by = "by the file" if preview.format and reading["kind"] == "file" else ""
        facts(preview, reading, "as you typed them" if typed else by or LABELS[reading["kind"]])
    if (wrong and st.session_state.get(f"{prefix}.training")) or any(
        folder["taken_as"] in datasets.SPLITS for folder in reading["folders"]
    ):
        values["training"] = form.control(knobs["training"], prefix)
    if wrong:
        raise wrong
    roles = {folder["taken_as"] for folder in reading["folders"]}
    if "train" in roles and "valid" not in roles:
        st.caption(
            ":material/info: None is for validation: a share of the training images is set aside for it."
        )
    if preview.deep or preview.ones:
        contents = (
            "They hold only the values 0 and 1."
            if preview.ones
            else f"{preview.deep:,} of them hold more than 8 bits"
            + ("." if preview.largest is None else f"; their largest value is {preview.largest:g}.")
        )
        st.caption(
            f":material/info: {contents} The largest value of all pictures becomes white, unless another is given."
        )
        values["range"] = form.control(knobs["range"], prefix)
    return preview.source

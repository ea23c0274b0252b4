"""See a dataset, and bring your own pictures."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import datasets, scratch, tables
from core.catalog import UserError
from core.datasets import pictures
from core.settings import settings
from core.writing import many
from pages.ui import form, shell, show
from pages.ui.mend import atlas, issues, versions

TITLE = "Data"
ICON = ":material/photo_library:"
ORDER = 2
shell.enter()
PAGE = 60  # images on one page of the wall
VIEWS = {
    "look": "Look",
    "issues": "What is wrong?",
    "map": "Map",
    "version": "Mend and take away",
    "bring": "Bring your own pictures",
}
READINGS = {
    "file": "By the file of labels",
    "splits": "As splits",
    "classes": "As classes",
    "none": "Without classes",
}


def load(name: str, values: dict[str, Any]) -> datasets.Dataset:
    """Opens a dataset, with a bar while it is made for the first time."""
    bar = st.empty()

    def progress(done: int, total: int) -> None:
        bar.progress(
            min(1.0, done / max(1, total)), text=f"Preparing {done:,} of {total:,} images, once"
        )

    try:
        return datasets.load(name, values, progress)
    finally:
        bar.empty()


def wall(dataset: datasets.Dataset) -> None:
    """Shows a page of images, of one class or all."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.segmented_control(
            "Part",
            ["all", *datasets.SPLITS],
            default="all",
            required=True,
            key="data.split",
            help="Models train on train, choices look at valid, reports use test.",
        )
        label = (
            st.selectbox(
                "Class",
                range(len(dataset.classes)),
                index=None,
                key=f"data.class.{dataset.name}",
                placeholder="all classes",
                format_func=lambda i: dataset.classes[i],
                width=220,
            )
            if dataset.labelled
            else None
        )
    index = np.arange(len(dataset)) if split == "all" else dataset.splits[split]
    if label is not None and dataset.y is not None:
        index = index[dataset.y[index] == label]
    if not len(index):
        st.caption("No image fits this choice.")
        return
    pages = -(-len(index) // PAGE)
    key = f"data.page.{dataset.name}.{split}.{label}"
    page = min(st.session_state.get(key, 1), pages)
    part = index[(page - 1) * PAGE : page * PAGE]
    x = show.as_bytes(dataset.x[part], dataset.levels)
    titles = [
        f"image {i}" + (f": {dataset.classes[dataset.y[i]]}" if dataset.y is not None else "")
        for i in part
    ]
    show.pictures(
        x,
        columns=12,
        key="data.wall",
        titles=titles,
        max_height=380,
        max_zoom=6,
        alt=f"Images {(page - 1) * PAGE + 1} to {(page - 1) * PAGE + len(part)} of {dataset.name}",
    )
    if pages > 1:
        st.pagination(pages, key=key)
    if dataset.attributes:
        with st.expander("True attributes of these images"):
            columns = dict(dataset.attributes)
            st.dataframe(
                show.named(
                    pd.DataFrame(
                        {name: np.asarray(column)[part] for name, column in columns.items()}, part
                    ),
                    *(name for name, column in columns.items() if column.dtype.kind in "OSU"),
                ),
                height=220,
                key="data.attributes",
                alt="The true attributes of the images above",
            )
            st.download_button(
                "All as CSV",
                lambda: tables.write(
                    ["", *columns],
                    zip(
                        range(len(dataset)),
                        *(np.asarray(column).tolist() for column in columns.values()),
                        strict=True,
                    ),
                ),
                f"{dataset.name}.csv",
                "text/csv",
                key="data.csv",
                on_click="ignore",
            )


def facts(dataset: datasets.Dataset) -> None:
    """Shows counts, what was left out, and what is worth knowing."""
    kind = "colour" if dataset.channels == 3 else "grey"
    splits = ", ".join(f"{len(index):,} {name}" for name, index in dataset.splits.items())
    st.markdown(
        f"**{len(dataset):,}** {kind} images of **{dataset.size} × {dataset.size}** pixels, {dataset.levels} levels"
        + (f", **{len(dataset.classes)}** classes" if dataset.labelled else ", without labels")
        + f"  \n{splits}"
    )
    for note in dataset.notes:
        st.caption(f":material/info: {shell.plain(note)}")
    counts = dataset.counts()
    if dataset.labelled:
        if len(counts) <= 60:
            show.bars(counts, key=f"data.bars.{dataset.name}", height=230)
        else:
            table = pd.DataFrame([{"class": name, **parts} for name, parts in counts.items()])
            st.dataframe(
                show.named(table, "class"),
                hide_index=True,
                height=230,
                key="data.counts",
                alt="Images per class and split",
            )
    st.caption(
        shell.plain(
            f"Fingerprint {dataset.fingerprint[:16]}"
            + (f", made from {dataset.parent[:16]}" if dataset.parent else "")
        )
    )


@st.dialog("Delete this dataset?")
def delete(name: str) -> None:
    """Asks before it deletes."""
    st.markdown(
        f"This deletes the imported dataset **{shell.plain(name)}** for good. "
        "Runs that were trained on it stay, but cannot be resumed."
    )
    if st.button("Delete for good", type="primary", key="data.delete.yes"):
        try:
            datasets.delete(name)
            st.rerun()
        except UserError as error:
            shell.refuse(error)


@contextmanager
def stored(upload: Any, name: str) -> Iterator[str]:
    """Gives the path of an upload on the server's disk, for as long as it is read."""
    with scratch.temporary() as folder:
        file = folder / f"{name}.zip"
        with file.open("wb") as out:
            upload.seek(0)
            shutil.copyfileobj(upload, out)
        yield str(file)


def looked(upload: Any, name: str, training: str) -> datasets.Preview:
    """Looks into an upload, once for each file and choice."""
    if upload.size > settings().upload_mb * 2**20:
        raise UserError(
            f"The file has {upload.size / 2**20:.0f} MB, at most {settings().upload_mb} MB are allowed. "
            "Make it smaller."
        )
    key = (upload.file_id, training)
    known = st.session_state.get("data.preview")
    if known is None or known[0] != key:
        with st.spinner("Looking into the ZIP"), stored(upload, name) as path:
            known = key, datasets.preview({"path": path, "training": training})
        st.session_state["data.preview"] = known
    return known[1]


def reading_of(found: datasets.Preview, key: str) -> dict[str, Any]:
    """Shows every way to read the folders, and asks for one; the one that was found is chosen."""
    kinds = [reading["kind"] for reading in found.readings]
    if found.problem:
        st.warning(shell.plain(found.problem), icon=":material/warning:")
    chosen = kinds[0]
    if len(kinds) > 1:
        chosen = st.radio(
            "How the folders are read",
            kinds,
            index=kinds.index(found.taken) if found.taken in kinds else 0,
            key=key,
            format_func=lambda kind: READINGS[kind] + (" (found)" if kind == found.taken else ""),
            captions=[shell.plain(reading["sentence"]) for reading in found.readings],
        )
    one = next(reading for reading in found.readings if reading["kind"] == chosen)
    for words in [one["sentence"]] * (len(kinds) == 1) + one["notes"]:
        st.caption(f":material/info: {shell.plain(words)}")
    return one


def read_as(upload: Any, name: str) -> dict[str, Any]:
    """Shows what an upload would become, and asks what it leaves open."""
    knobs = datasets.config_of("folder").knobs()
    place = f"data.folder.{upload.file_id}"  # another file begins with its own
    training, wrong = str(st.session_state.get(f"{place}.training", "")), None
    try:
        found = looked(upload, name, training)
    except UserError as error:
        if not training.strip():
            raise
        found, wrong, training = looked(upload, name, ""), error, ""
    others = len(found.refused)
    st.markdown(
        f"**{found.pictures:,}** pictures"
        + (f", and {many(others, 'other file')}" if others else "")
    )
    # so does another choice of folders
    reading = reading_of(found, f"data.reading.{upload.file_id}.{training}")
    values = {"reading": reading["kind"]}
    if wrong or any(folder["taken_as"] in datasets.SPLITS for folder in reading["folders"]):
        values["training"] = form.control(knobs["training"], place)
    if wrong:
        raise wrong
    roles = {folder["taken_as"] for folder in reading["folders"]}
    if "train" in roles and "valid" not in roles:
        st.caption(
            ":material/info: None is for validation: a share of the training images is set aside for it."
        )
    if found.deep or found.ones:
        words = (
            "They hold only the values 0 and 1."
            if found.ones
            else f"{found.deep:,} of them hold more than 8 bits"
            + ("." if found.largest is None else f"; their largest value is {found.largest:g}.")
        )
        st.caption(
            f":material/info: {words} The largest value of all pictures becomes white, unless another is given."
        )
        values["range"] = form.control(knobs["range"], place)
    return values


def bring() -> None:
    """Takes a ZIP of pictures in, under a name; says before how it would be read."""
    left, right = st.columns([1.7, 1], gap="large")
    values: dict[str, Any] = {}
    wanted = ""
    with left:
        st.caption(
            f"A ZIP of pictures ({pictures.KINDS}): one folder per class, splits of such folders, a file of labels, or "
            f"all in one. Any sizes, grey or colour. At most {settings().upload_mb} MB."
        )
        upload = st.file_uploader(
            "ZIP of pictures",
            type="zip",
            key="data.upload" + "." * st.session_state.get("data.imports", 0),  # empty afterwards
            label_visibility="collapsed",
            disabled=not shell.may_change(),
        )
        naming, pressing = st.columns([2, 1], vertical_alignment="bottom")
        name = naming.text_input(
            "Name",
            key="data.name",
            placeholder="my-birds" if upload is None else Path(upload.name).stem,
            max_chars=60,
            disabled=not shell.may_change(),
        )
        if upload is not None and shell.may_change():
            with shell.guard():
                called = datasets.free(name or Path(upload.name).stem)
                values = read_as(upload, called)
                wanted = called  # nothing speaks against it
    with right:
        asked = {"reading", "training", "range"}
        values |= form.form({"data.folder": datasets.config_of("folder")}, omit=asked)[
            "data.folder"
        ]
    pressed = pressing.button(
        "Import",
        type="primary",
        key="data.import",
        disabled=not wanted,
        help="Reads every picture once; what cannot be read is listed with the reason.",
    )
    if not pressed or upload is None or not wanted:
        return
    settings().allow_change("import images")
    with stored(upload, wanted) as path, left:
        bar = st.empty()
        made = datasets.bring(
            wanted,
            values | {"path": path},
            lambda done, total: bar.progress(
                min(1.0, done / max(1, total)), text=f"{done:,} of {total:,} pictures"
            ),
        )
    left_out = f", {len(made.refused):,} left out" if made.refused else ""
    st.session_state["_done"] = f"{wanted}: {len(made):,} pictures imported{left_out}."
    st.session_state["data.next"] = wanted
    st.session_state["data.imports"] = st.session_state.get("data.imports", 0) + 1
    st.session_state.pop("data.preview", None)
    st.query_params.pop("data.view", None)  # to the new pictures
    st.rerun()


def look(name: str) -> None:
    """Shows the images beside what is known of them."""
    about = datasets.describe(name)
    left, right = st.columns([2.4, 1], gap="large")
    with right:
        values: dict[str, Any] = {}
        config = datasets.config_of(name)
        with st.expander("How it is prepared", expanded=False):
            if config.knobs():
                values = form.flat({f"data.{name}": config})[f"data.{name}"]
            else:
                st.caption("An imported dataset is kept as it was prepared.")
            if about.saved and st.button(
                "Delete",
                icon=":material/delete:",
                key="data.delete",
                disabled=not shell.may_change(),
            ):
                delete(name)
        st.session_state[f"data.values.{name}"] = values
        below = st.container()
    with left:
        st.markdown(f"**{shell.plain(about.title)}** · {shell.plain(about.caption)}")
        with shell.guard():
            dataset = load(name, values)
            wall(dataset)
            if dataset.refused:
                with st.expander("Files left out, and why", icon=":material/warning:"):
                    st.dataframe(
                        show.named(
                            pd.DataFrame(dataset.refused, columns=["file", "reason"]),
                            "file",
                            "reason",
                        ),
                        hide_index=True,
                        key="data.refused",
                        alt="Files that were left out, each with the reason",
                    )
            with below:
                facts(dataset)


st.title("What is in the data, and what is wrong with it?", anchor=False)
name = shell.chosen_dataset()
view = shell.view("What to do", "data.view", VIEWS, label_visibility="collapsed")
if view == "look":
    look(name)
elif view == "bring":
    with shell.guard():
        bring()
else:
    with shell.guard():
        prepared = st.session_state.get(f"data.values.{name}", {})
        dataset = load(name, prepared)
        if view == "issues":
            issues.draw(dataset, name, prepared)
        elif view == "map":
            atlas.draw(dataset)
        else:
            versions.draw(dataset, name, prepared)
shell.go("train", f"Train a model on {shell.plain(datasets.describe(name).title)}")

"""A ZIP of pictures on its way in: how it would be read, what it leaves open, and its import under a name."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground import scratch
from core.ground.settings import settings
from core.ground.writing import many
from pages.parts import form, shell, show

READINGS = {
    "file": "By the file of labels",
    "splits": "As splits",
    "classes": "As classes",
    "none": "Without classes",
}


def draw() -> None:
    """Takes a ZIP of pictures in, under a name; says before how it would be read."""
    left, right = st.columns([1.7, 1], gap="large")
    values: dict[str, Any] = {}
    wanted, source = "", datasets.importers()[0].name
    with left:
        kinds = " ".join(entry.upload for entry in datasets.importers())
        st.caption(f"{kinds} At most {settings().upload_mb} MB.")
        upload = st.file_uploader(
            "ZIP",
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
                source, values = read_as(upload, called)
                wanted = called  # nothing speaks against it
    with right:
        of_upload, key = {"reading", "training", "range", "group"}, f"data.{source}"
        values |= form.form({key: datasets.config_of(source)}, omit=of_upload)[key]
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
        dataset = datasets.bring(wanted, values | {"path": path}, show.Bar(), source=source)
    left_out = f", {len(dataset.refused):,} left out" if dataset.refused else ""
    st.session_state["_done"] = f"{wanted}: {len(dataset):,} pictures imported{left_out}."
    st.session_state["data.next"] = wanted
    st.session_state["data.imports"] = st.session_state.get("data.imports", 0) + 1
    st.session_state.pop("data.preview", None)
    st.query_params.pop("data.view", None)  # to the new pictures
    st.rerun()


@contextmanager
def stored(upload: Any, name: str) -> Iterator[str]:
    """Gives the path of an upload on the server's disk, for as long as it is read."""
    with scratch.temporary() as folder:
        file = folder / f"{name}.zip"
        with file.open("wb") as out:
            upload.seek(0)
            shutil.copyfileobj(upload, out)
        yield str(file)


def looked(upload: Any, name: str, chosen: dict[str, str]) -> datasets.Preview:
    """Looks into an upload, once for each file and choice; its content tells the importer."""
    if upload.size > settings().upload_mb * 2**20:
        raise UserError(
            f"The file has {upload.size / 2**20:.0f} MB, at most {settings().upload_mb} MB are allowed. "
            "Make it smaller."
        )
    key = (upload.file_id, chosen)
    cached = st.session_state.get("data.preview")
    if cached is None or cached[0] != key:
        with st.spinner("Looking into the ZIP"), stored(upload, name) as path:
            cached = key, datasets.preview({"path": path} | chosen)
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
            "How the folders are read",
            kinds,
            index=kinds.index(preview.taken) if preview.taken in kinds else 0,
            key=key,
            format_func=lambda kind: READINGS[kind] + (" (found)" if kind == preview.taken else ""),
            captions=[shell.plain(reading["sentence"]) for reading in preview.readings],
        )
    reading = next(reading for reading in preview.readings if reading["kind"] == chosen)
    for note in [reading["sentence"]] * (len(kinds) == 1) + reading["notes"]:
        st.caption(f":material/info: {shell.plain(note)}")
    return reading


def read_as(upload: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Shows what an upload would become, and asks what it leaves open; gives its importer and the answers."""
    prefix = f"data.upload.{upload.file_id}"  # of the answers, so that another file has its own
    state = {key: st.session_state.get(f"{prefix}.{key}", "") for key in ("training", "group")}
    chosen, wrong = {key: value for key, value in state.items() if value.strip()}, None
    try:
        preview = looked(upload, name, chosen)
    except UserError as error:
        if "training" not in chosen:
            raise
        del chosen["training"]
        preview, wrong = looked(upload, name, chosen), error
    knobs = datasets.config_of(preview.source).knobs()
    others = len(preview.refused)
    st.markdown(
        f"**{preview.pictures:,}** pictures"
        + (f", and {many(others, 'other file')}" if others else "")
    )
    values: dict[str, Any] = {}
    if preview.columns:
        columns = dataclasses.replace(knobs["group"], options=("", *preview.columns))
        values["group"] = form.control(columns, prefix)
    if not preview.readings:
        return preview.source, values
    # another choice of folders begins with its own, too
    reading = reading_of(preview, f"data.reading.{upload.file_id}.{'.'.join(chosen.values())}")
    values["reading"] = reading["kind"]
    if wrong or any(folder["taken_as"] in datasets.SPLITS for folder in reading["folders"]):
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
    return preview.source, values

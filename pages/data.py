"""See a dataset, and bring your own pictures."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import datasets, tables
from core.catalog import UserError
from core.settings import settings
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
                pd.DataFrame(
                    {name: np.asarray(column)[part] for name, column in columns.items()}, part
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
                table,
                hide_index=True,
                height=230,
                key="data.counts",
                alt="Images per class and split",
            )
    st.caption(
        f"Fingerprint `{dataset.fingerprint[:16]}`"
        + (f", made from `{dataset.parent[:16]}`" if dataset.parent else "")
    )


@st.dialog("Delete this dataset?")
def delete(name: str) -> None:
    """Asks before it deletes."""
    st.markdown(
        f"This deletes the imported dataset **{name}** for good. "
        "Runs that were trained on it stay, but cannot be resumed."
    )
    if st.button("Delete for good", type="primary", key="data.delete.yes"):
        try:
            datasets.delete(name)
            st.rerun()
        except UserError as error:
            st.error(str(error))


def bring() -> None:
    """Takes a ZIP of pictures in, under a name."""
    st.caption(
        "A ZIP of pictures (PNG, JPEG, WebP or BMP), one folder per class or all in one. Any sizes, grey or colour. "
        f"At most {settings().max_upload_mb} MB."
    )
    upload = st.file_uploader(
        "ZIP of pictures",
        type="zip",
        key="data.upload" + "." * st.session_state.get("data.imports", 0),  # empty after an import
        label_visibility="collapsed",
        disabled=not shell.may_change(),
    )
    name = st.text_input(
        "Name",
        key="data.name",
        placeholder="my-birds",
        max_chars=60,
        disabled=not shell.may_change(),
    )
    values = form.form({"data.folder": datasets.config_of("folder")})["data.folder"]
    pressed = st.button(
        "Import",
        type="primary",
        key="data.import",
        disabled=not shell.may_change() or upload is None,
        help="Reads every picture once; what cannot be read is listed with the reason.",
    )
    if not pressed or upload is None:
        return
    settings().allow_change("import images")
    if upload.size > settings().max_upload_mb * 2**20:
        raise UserError(
            f"The file has {upload.size / 2**20:.0f} MB, at most {settings().max_upload_mb} MB are allowed. "
            "Make it smaller."
        )
    wanted = datasets.slug(name or Path(upload.name).stem)
    with tempfile.TemporaryDirectory(prefix="simulacra-") as folder:
        file = Path(folder) / f"{wanted}.zip"
        with file.open("wb") as out:
            shutil.copyfileobj(upload, out)
        bar = st.empty()
        made = datasets.bring(
            wanted,
            values | {"path": str(file)},
            lambda done, total: bar.progress(
                min(1.0, done / max(1, total)), text=f"{done:,} of {total:,} pictures"
            ),
        )
    left_out = f", {len(made.refused):,} left out" if made.refused else ""
    st.session_state["_done"] = f"{wanted}: {len(made):,} pictures imported{left_out}."
    st.session_state["data.next"] = wanted
    st.session_state["data.imports"] = st.session_state.get("data.imports", 0) + 1
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
        with st.expander("Bring your own pictures", icon=":material/upload:"), shell.guard():
            bring()
    with left:
        st.markdown(f"**{shell.plain(about.title)}** · {shell.plain(about.caption)}")
        with shell.guard():
            dataset = load(name, values)
            wall(dataset)
            if dataset.refused:
                with st.expander("Files left out, and why", icon=":material/warning:"):
                    st.dataframe(
                        pd.DataFrame(dataset.refused, columns=["file", "reason"]),
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

"""Labels that people give in Label Studio: tasks to take along, and their answers as decisions."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import streamlit as st

from core.catalog import UserError
from core.ground.settings import settings
from core.ground.writing import many
from pages.parts import shell

WAYS = {"doubt": "Those in doubt", "all": "All images"}
FIRST = 100  # images in doubt that are offered


def draw(dataset: Any) -> None:
    """Offers the tasks, and takes the answers; nothing for a dataset without labels."""
    if not dataset.labelled or dataset.medium.suffix != ".png":
        return
    st.markdown("**Label in another program**")
    with st.expander("Out to Label Studio, and its answers back"):
        with shell.guard():
            out(dataset)
        st.divider()
        with shell.guard():
            back(dataset)


def out(dataset: Any) -> None:
    """Offers tasks for all images, or for those whose label is in doubt."""
    way = st.segmented_control(
        "Which images",
        list(WAYS),
        default="doubt",
        required=True,
        key="data.relabel.way",
        format_func=WAYS.__getitem__,
        help="In doubt are the labels that an inspection (What is wrong?) calls wrong or lists for a look; at most "
        f"{FIRST}, the most improbable first.",
    )
    try:
        images = chosen(dataset, way)
    except UserError as error:
        st.caption(f":material/info: {shell.plain(str(error))}")
        return
    if not images:
        st.caption(":material/info: The inspection lists no label as wrong or for a look.")
        return
    st.caption(
        f"{many(images, 'image')}. In Label Studio: make a project, paste `labelling.xml` under Labeling Setup → Code, "
        "import `tasks.json`, label, and export as JSON."
    )
    st.download_button(
        "Download the tasks",
        lambda: packed(dataset, images),
        f"{dataset.name}-tasks.zip",
        "application/zip",
        key="data.relabel.out",
        icon=":material/download:",
        on_click="ignore",
        disabled=not images,
    )


def chosen(dataset: Any, way: str) -> list[int]:
    """Lists the images of a choice.

    Raises:
        UserError: If what is in doubt is not known.
    """
    from core.quality import relabelling

    return list(range(len(dataset))) if way == "all" else relabelling.doubtful(dataset, FIRST)


def packed(dataset: Any, images: list[int]) -> bytes:
    """Packs the tasks and how they look into a ZIP."""
    from core.quality import relabelling

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as made:
        tasks = json.dumps(relabelling.tasks(dataset, images))
        for name, text in {
            relabelling.TASKS: tasks,
            relabelling.LAYOUT: relabelling.layout(dataset),
        }.items():
            made.writestr(zipfile.ZipInfo(name), text)
    return memory.getvalue()


def back(dataset: Any) -> None:
    """Takes an export, says what it would do, and does it when it is asked to."""
    from core.quality import relabelling

    again = st.session_state.get("data.relabel.again", 0)
    file = st.file_uploader(
        "Answers: Label Studio's export as JSON",
        type=["json"],
        key=f"data.relabel.file.{again}",
        max_upload_size=settings().upload_mb,
        disabled=not shell.may_change(),
    )
    if file is None:
        return
    known, answers = st.session_state.get("data.relabel.read", (None, None))
    if known != (key := (file.file_id, dataset.fingerprint)):  # once, not in every run of the page
        answers = relabelling.read(dataset, file.getvalue())
        st.session_state["data.relabel.read"] = key, answers
    st.markdown(shell.plain(answers.sentence))
    if answers.warning:
        st.caption(f":material/info: {shell.plain(answers.warning)}")
    for what, why in answers.refused[:5]:
        st.caption(shell.plain(f"{what} {why}"))
    if len(answers.refused) > 5:
        st.caption(f"… and {len(answers.refused) - 5:,} more.")
    shell.press(
        st,
        "Take these answers",
        take,
        dataset,
        answers,
        file.name,
        type="primary",
        key="data.relabel.take",
        disabled=not shell.may_change()
        or not (answers.relabel or answers.exclude or answers.accept),
        help="As decisions, which can be undone one by one; then make the new version.",
    )


def take(dataset: Any, answers: Any, name: str) -> None:
    """Writes the answers as decisions."""
    from core.quality import relabelling

    seen = st.session_state.get(f"mend.seen.{dataset.fingerprint}", 0)
    book = relabelling.decide(
        dataset, answers, reason=f"Label Studio, {name}", who=shell.who(), seen=seen
    )
    st.session_state[f"mend.seen.{dataset.fingerprint}"] = book.version
    st.session_state["data.relabel.again"] = st.session_state.get("data.relabel.again", 0) + 1
    st.session_state["_done"] = f"{answers.sentence} They stand under Decided, each with Undo."

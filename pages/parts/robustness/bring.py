"""A visitor's own classifier: weights that are checked before they are opened, into an architecture of known name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.catalog import UserError
from core.datasets import Dataset
from core.ground.settings import settings
from pages.parts import form, shell
from pages.parts.robustness import dataset

if TYPE_CHECKING:
    from core.weights import Contents

CODE = """from core.robustness import check
report = check(model, x, y)  # images in [0, 1]

# or: python -m core attack --classifier package.module:factory --weights w.safetensors
"""


@st.dialog("Bring your own classifier", width="large")
@shell.guard()
def draw(data: str) -> None:
    """Takes weights, says what is in them, and keeps them under a name."""
    from core import brought

    of = dataset(data)
    origins = [o for o in brought.origins if o.files and o.sampling is None]
    st.markdown(
        "**Bring weights**, not code: a `.safetensors` file, or a `.pt`, `.pth` or `.ckpt` checkpoint, for an "
        "architecture of torchvision. Whole pickled models and TorchScript are refused, because opening them runs "
        "whatever is inside."
    )
    left, right = st.columns([1, 1.2], gap="large")
    with left:
        origin = origins[0]
        if len(origins) > 1:
            origin = st.selectbox("Origin", origins, format_func=lambda origin: origin.title)
        upload = st.file_uploader(
            "Weights",
            type=list(origin.files),
            key="robust.upload",
            max_upload_size=settings().upload_mb,
            disabled=not shell.may_change(),
        )
        name = st.text_input(
            "Name",
            key="robust.own.name",
            placeholder="my-classifier",
            max_chars=60,
            disabled=not shell.may_change(),
        )
        values = form.form({"robust.weights": origin.config})["robust.weights"]
    with right:
        st.caption(
            "Preprocessing (size, mean, standard deviation) belongs to the classifier: the attack strength is of "
            f"values from 0 to 1. It is tried on {shell.plain(of.name)}, whose classes it must know: "
            f"{shell.plain(', '.join(of.classes[:12]))}{' …' if len(of.classes) > 12 else ''}."
        )
        if upload is None:
            st.caption("On your own machine any PyTorch module enters by code:")
            st.code(CODE, language="python")
        else:
            with shell.guard():  # beside the file, not below the form
                keep(upload, name, values, of, origin.name)
    for model in brought.listing(data):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{shell.plain(model.name)}** · {shell.plain(model.note)}")
            if st.button(
                "Delete",
                key=f"robust.own.delete.{model.id}",
                type="tertiary",
                icon=":material/delete:",
                disabled=not shell.may_change(),
            ):
                brought.delete(model.id)
                st.rerun()


def keep(upload: Any, name: str, values: dict[str, Any], of: Dataset, origin: str) -> None:
    """Says what the file holds, and keeps it when that is asked for."""
    from core import brought
    from core.weights import Package

    content = upload.getvalue()
    inside = looked(upload.file_id, content)
    st.success(
        f"A {inside.kind} of {len(inside.parts):,} tensors, {inside.megabytes:.1f} MB"
        + (f", with {inside.classes} classes" if inside.classes else "")
        + (f", from `{shell.plain(inside.source)}` of the checkpoint" if inside.source else "")
        + ".",
        icon=":material/check:",
    )
    if inside.others:
        others = ", ".join(shell.plain(name) for name in inside.others[:3])
        st.caption(f"The checkpoint also holds {others}, which is left out.")
    if st.button(
        "Keep and open it",
        type="primary",
        key="robust.own.keep",
        disabled=not shell.may_change(),
        help="Fits the weights into the architecture, and names the first one that does not fit.",
    ):
        called = name or brought.called(upload.name)
        model = brought.keep(called, Package.alone(content, upload.name), values, of, origin)
        st.session_state["robust.brought"] = model.id
        said = ["Kept, and chosen. Press Screen it.", model.note, *model.record["notes"]]
        st.session_state["_done"] = " ".join(said)
        st.rerun()


def looked(file: str, content: bytes) -> Contents:
    """Looks at a file once, not at every run of the page; a refusal is remembered as well.

    Raises:
        UserError: If it is refused.
    """
    from core import weights
    from core.tensors import give_memory_back

    known, result = st.session_state.get("robust.looked", ("", None))
    if known != file:
        try:
            result = weights.look(content)
        except UserError as error:
            result = str(error)
            later = threading.Timer(2, give_memory_back)  # when nobody holds the file any more
            later.daemon = True
            later.start()
        st.session_state["robust.looked"] = file, result
    if isinstance(result, str):
        raise UserError(result)
    return result

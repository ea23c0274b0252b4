"""A visitor's own classifier: what is in its files is told before it is kept, its preprocessing and classes too."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import streamlit as st

from core.catalog import UserError
from core.datasets import Dataset
from core.ground.settings import settings
from pages.parts import form, shell
from pages.parts.robustness import dataset

if TYPE_CHECKING:
    from core.brought import Origin, Seen
    from core.weights import Contents, Package

CODE = """from core.robustness import check
report = check(model, x, y)  # images in [0, 1]

# or, in a terminal:
# python -m core attack --weights w.safetensors \\
#     --classifier package.module:factory
"""
WAYS = {"files": "A file or a ZIP", "folder": "A folder"}
_LOOKED = "robust.looked"  # what was found in the files, by their mark
ASKS = "architecture"  # what weights alone do not say


@st.dialog("Bring your own classifier", width="large")
@shell.guard()
def draw(data: str) -> None:
    """Takes a classifier, says what is in it, and keeps it under a name."""
    from core import brought

    of = dataset(data)
    st.markdown(
        "**Bring weights**, not code: a folder of Hugging Face or timm, an `.onnx` graph, or `.safetensors`, `.pt`, "
        "`.pth` or `.ckpt` weights for an architecture of torchvision or timm. Whole pickled models and TorchScript "
        "are refused, because opening them runs whatever is inside."
    )
    left, right = st.columns([1, 1.2], gap="large")
    with left:
        files = sent()
        name = st.text_input(
            "Name",
            key="robust.own.name",
            placeholder="my-classifier",
            max_chars=60,
            disabled=not shell.may_change(),
        )
        to_fill = st.container()
    with right:
        st.caption(
            "Preprocessing (size, mean, standard deviation) belongs to the classifier: the attack strength is of "
            f"values from 0 to 1. It is tried on {shell.plain(of.name)}, whose classes it must know: "
            f"{shell.plain(', '.join(of.classes[:12]))}{' …' if len(of.classes) > 12 else ''}."
        )
        if not files:
            st.caption("On your own machine any PyTorch module enters by code:")
            st.code(CODE, language="python")
        else:
            with shell.guard():  # beside the files, not below the form
                keep(files, name, of, to_fill)
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


def sent() -> list[tuple[str, bytes]]:
    """Takes a file, a ZIP, some files together, or a folder."""
    from core import brought

    endings = sorted({e for o in brought.origins if o.sampling is None for e in o.files})
    taken: list[tuple[str, bytes]] = []
    tabs = st.tabs(list(WAYS.values()), key="robust.own.way", on_change="rerun")
    for (way, title), tab in zip(WAYS.items(), tabs, strict=True):
        with tab:
            files = st.file_uploader(
                title,
                type=None if way == "folder" else ["zip", "json", *endings],
                accept_multiple_files="directory" if way == "folder" else True,
                key=f"robust.upload.{way}",
                label_visibility="collapsed",
                max_upload_size=settings().upload_mb,
                disabled=not shell.may_change(),
            )
        if tab.open:
            taken = [(file.name, file.getvalue()) for file in files or []]
    return taken


def keep(files: list[tuple[str, bytes]], name: str, of: Dataset, to_fill: Any) -> None:
    """Says what the files hold and asks what they do not say, and keeps it when that is asked for."""
    from core import brought
    from core.weights import Contents

    package, origin, seen = looked(files)
    with to_fill:
        if isinstance(seen, Contents):  # weights alone
            ways = [o for o in brought.origins if ASKS in o.config.knobs() and o.sampling is None]
            origin = st.selectbox(
                "Origin",
                ways,
                index=ways.index(origin),
                key="robust.own.origin",
                format_func=lambda way: way.title,
                help="The library whose architecture the weights are for.",
            )
        values = form.form({f"robust.weights.{origin.name}": origin.config})[
            f"robust.weights.{origin.name}"
        ]
    told(package, seen)
    names = getattr(seen, "names", ())
    if names and not values.get("classes"):
        values["classes"] = asked(of, names)
    if st.button(
        "Keep and open it",
        type="primary",
        key="robust.own.keep",
        disabled=not shell.may_change(),
        help="Fits the weights into the architecture, and names the first one that does not fit.",
    ):
        called = name or brought.called(package.name)
        model = brought.keep(called, package, values, of, origin.name)
        st.session_state["robust.brought"] = model.id
        said = ["Kept, and chosen. Press Screen it.", model.note, *model.record["notes"]]
        st.session_state["_done"] = " ".join(said)
        st.rerun()


def told(package: Package, seen: Seen | Contents) -> None:
    """Says what was found, before anything is built."""
    from core.weights import Contents

    if isinstance(seen, Contents):
        st.success(
            f"A {seen.kind} of {len(seen.parts):,} tensors, {seen.megabytes:.1f} MB"
            + (f", with {seen.classes} classes" if seen.classes else "")
            + (f", from `{shell.plain(seen.source)}` of the checkpoint" if seen.source else "")
            + ".",
            icon=":material/check:",
        )
        if seen.others:
            others = ", ".join(shell.plain(name) for name in seen.others[:3])
            st.caption(f"The checkpoint also holds {others}, which is left out.")
        return
    st.success(
        f"**{shell.plain(seen.title)}**: {seen.parameters:,} numbers, {seen.megabytes:.2g} MB"
        + (f", {seen.classes} classes" if seen.classes else "")
        + ".",
        icon=":material/check:",
    )
    for note in seen.notes:
        st.caption(shell.plain(note))
    if package.aside:
        st.caption(f"Left out: {shell.plain(', '.join(package.aside[:4]))}.")


def asked(of: Dataset, names: tuple[str, ...]) -> str:
    """Shows which of its answers belongs to each class, and asks where no name says it."""
    from core.wrapped.preparation import guessed

    found = guessed(of.classes, names)
    pairs = [
        f"{shell.plain(name)} ← {shell.plain(names[k])}"
        for name, k in zip(of.classes, found, strict=True)
        if k is not None
    ]
    if pairs:
        more = f" and {len(pairs) - 12} more" if len(pairs) > 12 else ""
        st.caption(f"Classes matched by name: {', '.join(pairs[:12])}{more}.")
    chosen: list[str] = []
    for number, (name, k) in enumerate(zip(of.classes, found, strict=True)):
        if k is None:
            answer = st.selectbox(
                f"Its answer for {shell.plain(name)}",
                range(len(names)),
                index=None,
                key=f"robust.own.class.{number}",
                format_func=lambda k: names[k],
                placeholder="Choose one",
                help="No answer of the network has the name of this class.",
            )
            if answer is not None:
                chosen.append(f"{name}={answer}")
    return ";".join(chosen)


def looked(files: list[tuple[str, bytes]]) -> tuple[Package, Origin, Seen | Contents]:
    """Looks at what was sent once, not at every run of the page; a refusal is remembered as well.

    Raises:
        UserError: If it is refused.
    """
    from core import brought, weights
    from core.tensors import give_memory_back

    mark = hashlib.sha256()
    for path, content in files:
        mark.update(path.encode() + hashlib.sha256(content).digest())
    known, result = st.session_state.get(_LOOKED, ("", None))
    if known != mark.hexdigest():
        try:
            package = brought.sent(files)
            origin = brought.origin_of(package)
            if origin.sampling is not None:
                raise UserError(
                    f"{package.name!r} is {origin.title[0].lower()}{origin.title[1:]}, which is no classifier. "
                    "Bring it on the page Train."
                )
            see = origin.see or (lambda package: weights.look(package.weights))
            result = package, origin, see(package)
        except UserError as error:
            result = str(error)
            later = threading.Timer(2, give_memory_back)  # when nobody holds the files any more
            later.daemon = True
            later.start()
        st.session_state[_LOOKED] = mark.hexdigest(), result
    if isinstance(result, str):
        raise UserError(result)
    return result

"""A visitor's own generator: what is in it is told before it is kept, and then it is a run like any other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground.settings import settings
from core.ground.writing import duration
from pages.parts import form, shell, upload
from pages.parts.data import load

if TYPE_CHECKING:
    from core.brought import Seen
    from core.weights import Package

_OPEN = "train.bringing"
_LOOKED = "train.brought"  # what was found in the files, by their mark
WAYS = {"files": "A file or a ZIP", "folder": "A folder"}
PAD = 225  # pictures of a neighbourhood of the pad
SLOW = 100 * 10**6  # numbers from which drawing is tried only when it is asked for


def offer() -> None:
    """Offers to bring a generator, and draws its dialog while it is open; a link may ask for it."""
    if st.query_params.get("train.view") == "bring":
        del st.query_params["train.view"]
        st.session_state[_OPEN] = True
    st.button(
        "Bring your own generator",
        key="train.bring",
        icon=":material/upload_file:",
        type="tertiary",
        on_click=lambda: st.session_state.update({_OPEN: True}),
        help="A folder of diffusers with its weights in safetensors, an ONNX decoder, or a run packed elsewhere. It "
        "becomes a run like any other.",
    )
    if st.session_state.get(_OPEN):
        bring()


@st.dialog("Bring your own generator", width="large", dismissible=False)  # a click would lose all
@shell.guard()
def bring() -> None:
    """Takes a generator in, under a name, for a dataset; says before what it is, and what it costs here."""
    from core import brought

    left, right = st.columns([1, 1.25], gap="large")
    with left:
        files = sent()
        to_fill = st.container()
    naming, pressing, closing = st.columns([3, 1, 1], gap="small", vertical_alignment="bottom")
    below = st.container()
    name = naming.text_input(
        "Name",
        key="train.bring.name",
        max_chars=80,
        placeholder=brought.called(files[0][0].partition("/")[0]) if files else "my-generator",
        disabled=not shell.may_change(),
    )
    ready = None
    if not files:
        with right:
            nothing()
    elif shell.may_change():
        with right, shell.guard():
            ready = told(files, to_fill)
    pressed = pressing.button(
        "Keep it",
        type="primary",
        key="train.bring.keep",
        disabled=ready is None,
        width="stretch",
        help="Fits the weights, draws with them once, and keeps them as a run.",
    )
    if closing.button("Close", key="train.bring.close", width="stretch"):
        close()
        st.rerun()
    if pressed and ready is not None:
        with below, shell.guard():
            package, values, data, origin, terms = ready
            wanted = name or brought.called(package.name)
            kept = brought.keep(wanted, package, values, data, origin, terms)
            st.session_state["data.next"], st.session_state["run.next"] = data.name, kept.id
            st.session_state["_done"] = (
                "It is looked at and tried now. Then explore it, as any run."
            )
            close()
            st.rerun()


def close() -> None:
    """Closes the dialog with the next run of the page, and forgets what was brought."""
    for key in (_OPEN, _LOOKED, "train.bring.name"):
        st.session_state.pop(key, None)
    for way in WAYS:
        upload.forget(_key(way))
    st.session_state["train.bring.times"] = st.session_state.get("train.bring.times", 0) + 1


def nothing() -> None:
    """Says what can be brought."""
    from core import brought

    generators = [o for o in brought.origins if o.files and o.sampling is not None]
    titles = "  \n".join(f"**{origin.title}**" for origin in generators)
    with shell.empty(
        f"{titles}  \nOnly numbers (.safetensors), text (.json) and graphs (.onnx) are read: no program is ever run, "
        "nothing unpickled; a graph is tried in a process apart. At most "
        f"{settings().upload_mb:,} MB together and pictures of {settings().max_side} px: `SIMULACRA_MAX_UPLOAD_MB` and "
        "`SIMULACRA_MAX_SIDE` raise that, for Stable Diffusion 1 and 2 to 5,000 MB and 512 px.  \nWhat is in it is "
        "shown here, before anything is kept.",
        ":material/deployed_code:",
    ):
        pass


def _key(way: str) -> str:
    return f"train.bring.{way}{'.' * st.session_state.get('train.bring.times', 0)}"


def sent() -> list[tuple[str, bytes]]:
    """Takes a file, a ZIP or a folder."""
    tabs = st.tabs(list(WAYS.values()), key="train.bring.way", on_change="rerun")
    taken: list[tuple[str, bytes]] = []
    for (way, title), tab in zip(WAYS.items(), tabs, strict=True):
        with tab:
            files = st.file_uploader(
                title,
                type=None if way == "folder" else ["zip", "safetensors", "json", "txt", "onnx"],
                accept_multiple_files="directory" if way == "folder" else True,
                key=_key(way),
                label_visibility="collapsed",
                max_upload_size=settings().upload_mb,
                disabled=not shell.may_change(),
            )
            st.caption(
                "The folder with model_index.json, or with config.json, and the weights beside it."
                if way == "folder"
                else "A ZIP of such a folder or of a packed run; or its .safetensors and .json files together."
            )
        if tab.open:
            taken = [(file.name, file.getvalue()) for file in files or []]
    return taken


def told(
    files: list[tuple[str, bytes]], to_fill: Any
) -> tuple[Package, dict[str, Any], datasets.Dataset, str, dict[str, Any]]:
    """Says what is in the files and what it costs, and asks what they do not say.

    Raises:
        UserError: If it cannot be kept: what is wrong, and what to do.
    """
    from core import brought

    package, origin, seen = looked(files)
    st.success(f"**{shell.plain(seen.title)}**", icon=":material/check:")
    facts = {
        "Numbers": f"{seen.parameters:,} ({seen.megabytes:,.1f} MB of memory)",
        "Makes": " × ".join(map(str, seen.shape)) or "what the dataset has",
        "Classes": f"{seen.classes:,}" + (f": {', '.join(seen.names[:6])}" if seen.names else "")
        if seen.classes
        else "listens to none",
        "Draws": seen.sampler or "as usual",
        "Left out": ", ".join(package.aside[:4]),
    }
    st.markdown(
        "  \n".join(f"{key}: {shell.plain(value)}" for key, value in facts.items() if value)
    )
    for note in seen.notes:
        st.caption(shell.plain(note))
    if seen.megabytes > settings().models_mb:
        st.warning(
            f"It takes {seen.megabytes:,.0f} MB, and all models that visitors share have {settings().models_mb:,} MB "
            "on this server: it would be read anew for nearly every page.",
            icon=":material/warning:",
        )
    with to_fill:
        data = belongs()
        terms = asked(package.digest, seen)
        config, values = brought.origins.get(origin).config, {}
        if config.knobs():
            with st.expander("What its files do not say"):
                of = f"train.bring.{origin}"
                values = form.flat({of: config})[of]
    brought.allow_dataset(seen, data)
    took = pace(package, values, data, origin, seen)
    if took is not None:
        st.caption(
            f":material/timer: {duration(took) if took >= 1 else f'{1000 * took:,.0f} ms'} for a picture on this "
            f"machine, about {duration(PAD * took)} for a neighbourhood of the pad ({PAD} pictures)."
            + (" Fewer steps make it faster." if took > 0.5 else "")
        )
    return package, values, data, origin, terms


def looked(files: list[tuple[str, bytes]]) -> tuple[Package, str, Seen]:
    """Looks at what was sent, once for each content; a refusal is remembered as well.

    Raises:
        UserError: If it is refused.
    """
    from core import brought

    mark = hashlib.sha256()
    for path, content in files:
        mark.update(path.encode() + hashlib.sha256(content).digest())
    key = mark.hexdigest()
    known = st.session_state.get(_LOOKED)
    if known is None or known[0] != key:
        try:
            with st.spinner("Looking at what is in it"):
                package = brought.sent(files)
                origin = brought.origin_of(package)
                if origin.sampling is None or origin.see is None:
                    raise UserError(
                        f"{package.name!r} is {origin.title[0].lower()}{origin.title[1:]}, which is no generator. "
                        "Bring a classifier on the page Robustness."
                    )
                found: Any = (package, origin.name, origin.see(package))
        except UserError as error:
            found = str(error)
        known = st.session_state[_LOOKED] = key, found, {}
    if isinstance(known[1], str):
        raise UserError(known[1])
    return known[1]


def belongs() -> datasets.Dataset:
    """Asks for the dataset that a generator belongs to: it names the classes, and Evaluate compares with it."""
    names = [name for name in datasets.names() if datasets.describe(name).medium.source != name]
    here = shell.chosen_dataset()
    chosen = st.selectbox(
        "Dataset",
        names,
        index=names.index(here) if here in names else 0,
        key="train.bring.dataset",
        format_func=lambda name: datasets.describe(name).title,
        help="The dataset that it belongs to, with items of the same shape: it names the classes, and Evaluate "
        "compares with it.",
    )
    return load(chosen, {})


def asked(mark: str, seen: Seen) -> dict[str, Any]:
    """Asks under which terms a model stands; what it says itself is there at first."""
    from core import brought

    if st.session_state.get("train.bring.mark") != mark:
        st.session_state["train.bring.mark"] = mark
        form.fill(
            "train.bring.terms", {"licence": seen.licence, "consent": seen.consent or "unknown"}
        )
    return form.flat({"train.bring.terms": brought.TermsConfig})["train.bring.terms"]


def pace(
    package: Package,
    values: dict[str, Any],
    data: datasets.Dataset,
    origin: str,
    seen: Seen,
) -> float | None:
    """Tries how long a picture takes here, once for each choice; a large one only when that is asked for."""
    from core import brought

    tried: dict[Any, Any] = st.session_state[_LOOKED][2]
    key = (data.name, tuple(sorted(values.items())))
    if key not in tried:
        if seen.parameters > SLOW and not st.button(
            "Try how fast it draws", key="train.bring.try", icon=":material/timer:"
        ):
            st.caption("It is large: drawing with it is tried only when you ask for it.")
            return None
        try:
            with st.spinner("Drawing with it once"):
                tried[key] = brought.measured(package, values, data, origin)
        except UserError as error:
            tried[key] = str(error)
    if isinstance(tried[key], str):
        raise UserError(tried[key])
    return tried[key]


def terms(run: Any) -> None:
    """Shows under which terms a model that was brought stands, and lets its owner state them."""
    from core import brought, runs

    said = shell.attempt(runs.record, run) if runs.checkpoints(run) else None
    if not said or "terms" not in said:
        return
    now = said["terms"]
    with st.popover("Licence of the model", icon=":material/copyright:", key="train.terms"):
        key = f"train.terms.{run.id}"
        if f"{key}.licence" not in st.session_state:
            form.fill(
                key, {"licence": now.get("licence", ""), "consent": now.get("consent") or "unknown"}
            )
        values = form.flat({key: brought.TermsConfig})[key]
        if st.button(
            "Save", type="primary", key="train.terms.save", disabled=not shell.may_change()
        ):
            with shell.guard():
                brought.state(run, **values)
                st.success("Saved.", icon=":material/check:")

"""What the Augment page is made of: the chain that a visitor builds, the images it is tried on, and one file per view.

A session keeps the chain as plain values; each step has a number of its own, so that its controls move along with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

from core import datasets
from core.catalog import UserError
from core.ground import sheets
from core.media import Form, Medium, media
from pages.parts import form, shell
from pages.parts.order import dropped, order

KEY = "augment.chain"
LONGEST = 1500  # characters of a chain in the address; a longer one stays in the session


@dataclass(frozen=True)
class Images:
    """What the chain is tried on.

    Attributes:
        x: Items as the medium stores them, of 256 levels, (N, …).
        y: Labels (N,), or None.
        names: Per image, for people.
        source: ``photos``, or the name of a dataset.
        medium: Of the items.
        credit: Who made them; may be empty.
    """

    x: np.ndarray
    y: np.ndarray | None
    names: list[str]
    source: str
    medium: Medium
    credit: str = ""

    @property
    def floats(self) -> Any:
        """The items in [0, 1], float32 (N, …)."""
        import torch

        return self.medium.read(torch.as_tensor(self.x), 256)

    def write(self, x: Any) -> np.ndarray:
        """Stores items in [0, 1], (N, …)."""
        return self.medium.write(x, 256)

    @property
    def labels(self) -> Any:
        """The labels as a tensor, or None."""
        import torch

        return None if self.y is None else torch.as_tensor(self.y)

    def first(self, count: int) -> Images:
        """Gives the first of them."""
        y = None if self.y is None else self.y[:count]
        return replace(self, x=self.x[:count], y=y, names=self.names[:count])


# --- The chain ------------------------------------------------------------------------------------------------------


def begun(data: str) -> Any:
    """Gives the preset that a visit begins with, which leaves the images of a dataset what they are.

    Where the steps of the preset are not for what the dataset holds, it is the first one whose steps are, or an empty
    chain.
    """
    from core import augment

    summary = datasets.describe(data)
    # what a grey picture shows may be another thing mirrored
    grey = summary.size and summary.size["channels"] == 1
    id = summary.chain or ("digits" if grey else "photos")
    preset = augment.load(id)
    fit = (summary.medium.item, summary.medium.name)
    if preset.fits(*fit):
        return preset
    fitting = (each.pipeline for each in augment.presets() if each.pipeline.fits(*fit))
    return next(fitting, augment.Pipeline())


def items(data: str) -> Form:
    """Names the form of what a dataset holds, which steps take or do not take."""
    return datasets.describe(data).medium.item


def pipeline() -> Any:
    """Gives the chain as it is: of the session, else of the address, else a preset that suits the dataset."""
    from core import augment

    data = shell.chosen_dataset()
    if KEY not in st.session_state:
        text = st.query_params.get("chain", "")
        try:
            chain = augment.unfolded(text) if text else begun(data)
        except UserError as error:
            st.toast(
                shell.plain(f"The chain in the link was left out: {error}"),
                icon=":material/link_off:",
            )
            chain = begun(data)
        take(chain)
    before = st.session_state.get("augment.first", data)
    if before != data and _session().hash == begun(before).hash:
        take(begun(data))  # another dataset, and the chain is still the first one
    st.session_state["augment.first"] = data
    return _session()


def _session() -> Any:
    from core import augment

    steps = [
        {key: step[key] for key in ("name", "parameters", "probability", "enabled")}
        for step in st.session_state[KEY]
    ]
    return augment.Pipeline.of(steps, st.session_state.get("augment.name", ""))


def take(chain: Any) -> None:
    """Makes a pipeline the visitor's chain."""
    st.session_state[KEY] = _numbered(chain.record()["steps"])
    st.session_state["augment.name"] = chain.name


def _numbered(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives new steps of the session the numbers under which their controls are kept."""
    count = st.session_state.get("augment.numbers", 0)
    st.session_state["augment.numbers"] = count + len(steps)
    return [{**step, "number": number} for number, step in enumerate(steps, count + 1)]


def remember(chain: Any) -> None:
    """Writes the chain into the address, with the parameters that differ from their defaults; not the first one."""
    from core import augment

    if chain.hash == begun(shell.chosen_dataset()).hash:
        st.query_params.pop("chain", None)
        return
    folded = []
    for step in chain.steps:
        usual = augment.augmentations.get(step.name).config().record()
        changed = {name: value for name, value in step.config.items() if value != usual.get(name)}
        folded.append([step.name, changed, step.probability, int(step.on)])
    text = json.dumps(folded, separators=(",", ":"))
    if len(text) > LONGEST:
        st.query_params.pop("chain", None)
    elif st.query_params.get("chain") != text:
        st.query_params["chain"] = text


def builder() -> None:
    """Draws the chain: each step with its switch, its form, and what moves it; and what can be added."""
    from core import augment

    medium = datasets.describe(shell.chosen_dataset()).medium
    fit = (medium.item, medium.name)
    presets = {preset.id: preset for preset in augment.presets() if preset.pipeline.fits(*fit)}
    saved = {chain.id: chain for chain in augment.saved() if chain.pipeline.fits(*fit)}
    chosen = st.selectbox(
        "Begin with",
        [*presets, *saved],
        index=None,
        key="augment.preset",
        placeholder="a preset, or one you saved",
        format_func=lambda id: presets[id].title if id in presets else f"{saved[id].name} (saved)",
        on_change=_begin,
    )
    if chosen in presets:
        st.caption(presets[chosen].why)
    for index, step in enumerate(list(st.session_state[KEY])):
        _step(index, step)
    order(_rows(), key="augment.order", on_move=_moved)
    if not st.session_state[KEY]:
        st.caption("The chain is empty: images pass through unchanged. Add a step.")
    entries = [entry for entry in augment.augmentations if entry.suits(*fit)]
    groups = dict.fromkeys([*augment.GROUPS, *(entry.group for entry in entries)])  # new ones last
    entries.sort(key=lambda entry: list(groups).index(entry.group))
    st.selectbox(
        "Add a step",
        [entry.name for entry in entries],
        index=None,
        key="augment.add",
        placeholder="Add a step",
        label_visibility="collapsed",
        format_func=lambda name: (
            f"{augment.augmentations.get(name).group}: {augment.augmentations.get(name).title}"
        ),
        on_change=_add,
    )


def _begin() -> None:
    from core import augment

    if id := st.session_state.get("augment.preset"):
        shell.attempt(lambda: take(augment.load(id)))


def _add() -> None:
    if not (name := st.session_state.get("augment.add")):
        return
    st.session_state["augment.add"] = None
    chain = shell.attempt(lambda: pipeline().with_step(name))
    if chain is not None:
        st.session_state[KEY] = [*st.session_state[KEY], *_numbered(chain.record()["steps"][-1:])]


def _rows() -> list[str]:
    """Gives the keys of the containers of the steps."""
    return [f"augment.row.{step['number']}" for step in st.session_state[KEY]]


def _moved() -> None:
    """Puts a step where it was dropped."""
    if (move := dropped("augment.order", _rows())) is not None:
        steps = list(st.session_state[KEY])
        steps.insert(move[1], steps.pop(move[0]))
        st.session_state[KEY] = steps


def _change(index: int, act: str) -> None:
    steps = list(st.session_state[KEY])
    step = steps.pop(index)
    if act != "remove":
        steps.insert(max(0, index + (-1 if act == "up" else 1)), step)
    st.session_state[KEY] = steps


def _step(index: int, step: dict[str, Any]) -> None:
    from core import augment

    entry = augment.augmentations.get(step["name"])
    number, last = step["number"], len(st.session_state[KEY]) - 1
    key = f"augment.on.{number}"
    with st.container(
        key=f"augment.row.{number}",
        border=True,
        horizontal=True,
        horizontal_alignment="distribute",
        vertical_alignment="center",
        gap="xsmall",
    ):
        with st.container(
            horizontal=True, vertical_alignment="center", gap="xsmall", width="content"
        ):
            step["enabled"] = st.toggle(
                entry.title,
                **({} if key in st.session_state else {"value": step["enabled"]}),
                key=key,
                label_visibility="collapsed",
            )
            with st.container(key=f"augment.{number}.grip", width="content"):
                st.markdown(entry.title, width=106)  # which breaks, where a label is cut off
        with st.container(horizontal=True, gap="xsmall", width="content"):
            # no help on it: Streamlit's tooltip swallows every other click on a popover
            with st.popover("", icon=":material/tune:", type="tertiary", width="content"):
                _settings(entry, step, number)
            _button(index, "up", number, "arrow_upward", "Earlier", index == 0)
            _button(index, "down", number, "arrow_downward", "Later", index == last)
            _button(index, "remove", number, "close", "Remove", False)


def _button(index: int, act: str, number: int, icon: str, help: str, disabled: bool) -> None:
    """Draws a button that moves a step or takes it out."""
    st.button(
        "",
        icon=f":material/{icon}:",
        key=f"augment.{act}.{number}",
        type="tertiary",
        help=help,
        on_click=_change,
        args=(index, act),
        disabled=disabled,
    )


def _settings(entry: Any, step: dict[str, Any], number: int) -> None:
    key = f"augment.step.{number}"
    for name, value in step["parameters"].items():  # set before they are drawn, once
        st.session_state.setdefault(f"{key}.{name}", value)
    omit = {"run"} if "run" in entry.needs else set()
    values = form.form({key: entry.config}, omit=omit)[key]
    if omit:
        values["run"] = _run(entry, step, key)
    step["parameters"] = {**step["parameters"], **values}
    st.session_state.setdefault(f"{key}.probability!", float(step["probability"]))
    step["probability"] = st.slider(
        "Share of images that it changes",
        0.0,
        1.0,
        step=0.05,
        key=f"{key}.probability!",
        help="1 changes every image, 0 none.",
    )
    if entry.slow:
        st.caption(
            ":material/hourglass: Works image by image: for previews and for making a dataset, not within a training."
        )


def _run(entry: Any, step: Mapping[str, Any], key: str) -> str:
    from core import augment

    runs = {run.id: run for run in augment.runs_for(entry.name, dataset(shell.chosen_dataset()))}
    if not runs:
        st.caption("No trained model of this dataset can do this yet. Train one, then come back.")
        return str(step["parameters"].get("run", ""))
    run, ids = step["parameters"].get("run"), list(runs)
    return st.selectbox(
        "Model",
        ids,
        index=ids.index(run) if run in ids else 0,
        key=f"{key}.which",
        format_func=lambda id: runs[id].name,
        help="A run that was trained on this dataset.",
    )


# --- The images -----------------------------------------------------------------------------------------------------


@st.cache_data(max_entries=8, show_spinner="Preparing the images")
def dataset(name: str) -> Any:
    """Opens a dataset as it is by default, once for all visitors."""
    return datasets.load(name, {})


def images(count: int) -> Images:
    """Asks what the chain is tried on, and gives that many images: the first of each class in turn."""
    name = shell.chosen_dataset()
    if items(name) != "picture":
        return examples(name, count)
    title = datasets.describe(name).title
    source = shell.view(
        "Tried on",
        "augment.source",
        {"data": title, "photos": "Photographs"},
        help="The dataset of the sidebar, or two photographs of scikit-learn, large enough to see what happens.",
    )
    return photos() if source == "photos" else examples(name, count)


@st.cache_data(show_spinner=False)
def photos() -> Images:
    """Gives the two photographs that come with scikit-learn."""
    from core import augment

    x, names, credit = augment.photos(size=128)
    return Images(np.asarray(x), None, list(names), "photos", media.get("image"), credit)


def examples(name: str, count: int) -> Images:
    """Gives training images of a dataset, each class in turn."""
    data = dataset(name)
    index = data.splits["train"]
    y = None
    if data.y is not None:
        labels = np.asarray(data.y[index])
        by_class = [index[labels == k] for k in range(len(data.classes))]
        turns = [part[i] for i in range(count) for part in by_class if i < len(part)]
        index = np.asarray(turns[:count])
        y = np.asarray(data.y[index])
    index = index[:count]
    names = [
        f"image {i}" + (f": {data.classes[int(data.y[i])]}" if data.y is not None else "")
        for i in index
    ]
    x = np.asarray(data.x[index])
    if data.medium.dtype == "uint8":
        x = sheets.as_bytes(x, data.levels)
    return Images(x, y, names, name, data.medium)


def ready(chain: Any, on: Images) -> Any:
    """Makes a chain ready to run on these images, with the others that some steps mix in.

    Raises:
        UserError: If a step has not what it needs.
    """
    from core import augment

    pool, classes = on, 0
    if on.source != "photos":
        pool = examples(on.source, 256)
        classes = len(dataset(on.source).classes)
    return augment.Chain(chain, augment.Context(pool.floats, pool.labels, classes))

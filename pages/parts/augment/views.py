"""What a chain does to images: after each step, drawn many times, at rising strength, before and after, by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from pages.parts import shell, show
from pages.parts.augment import Images, dataset, examples, ready
from pages.parts.compare import compare
from pages.parts.own import own

FRAMES = 12  # of a film strip in one row


def film(chain: Any, on: Images, seed: int) -> None:
    """Shows images as strips, one column per step, with the step and what it has drawn below."""
    from core import augment

    on = on.first(3)
    few = len(on.x)
    frames = augment.film(ready(chain, on), on.floats, seed, range(few), on.labels, on.write)
    shown = frames if len(frames) <= FRAMES else [frames[0], *frames[-(FRAMES - 1) :]]
    if (read := own(on.medium, "film")) is not None:
        read(shown, on.names, few)
    for i in range(few):
        show.pictures(
            on.medium.pictures(np.stack([frame.images[i] for frame in shown])),
            columns=len(shown),
            key=f"augment.film.{i}",
            alt=f"{on.names[i]}, as it is and after each of {len(frames) - 1} steps",
            captions=[drawn(frame, on.names[i], i) for frame in shown],
            max_height=120,
            max_zoom=16,
        )
    total = sum(frame.ms_per_image for frame in frames)
    st.caption(
        f"{total:.2f} ms per image for the whole chain on this server, {few} at a time"
        + (
            f"; the first {len(frames) - len(shown)} steps are not shown"
            if len(shown) < len(frames)
            else ""
        )
        + "."
    )


def drawn(frame: Any, name: str, image: int) -> str:
    """Says in two lines which step a frame comes after, and what it has drawn for an image."""
    if frame.step < 0:
        return f"As it is\n{name}"
    values = frame.values[image]
    if values is None:
        return f"{frame.title}\nleft it alone"
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{frame.title}\n{said or 'changed it'}"


def grid(chain: Any, on: Images, seed: int) -> None:
    """Shows several versions of each image beside it."""
    import time

    from core import augment

    on = on.first(8)
    few = len(on.x)
    draws = 5 if on.source == "photos" else 11
    began = time.perf_counter()
    versions = augment.grid(ready(chain, on), on.floats, seed, draws, on.labels, on.write)
    took = 1000 * (time.perf_counter() - began)
    x = np.concatenate([on.x[:, None], versions], 1)
    columns = draws + 1
    show.pictures(
        on.medium.pictures(x.reshape(-1, *on.x.shape[1:])),
        columns=columns,
        key="augment.grid",
        alt=f"{few} images, each with {draws} versions",
        titles=[
            f"{on.names[i]}, {'as it is' if not d else f'version {d}'}"
            for i in range(few)
            for d in range(columns)
        ],
        marks={columns * i: "" for i in range(few)},
        max_height=470,
        max_zoom=12,
    )
    st.caption(
        f"On the left each image as it is, then {draws} versions of it. Another seed, other versions; "
        f"made in {took:.0f} ms, {took / (few * draws):.2f} ms per image."
    )


def sweep(chain: Any, on: Images, seed: int) -> None:
    """Shows one step at rising strength, and from where on it hurts."""
    from core import augment

    able = [index for index, step in enumerate(chain.steps) if step.entry.strength]
    if not able:
        with shell.empty(
            "No step of this chain has a strength. Add one, for example Rotate.",
            ":material/auto_fix_high:",
        ):
            return
    index = st.selectbox(
        "Step",
        able,
        key="augment.sweep",
        format_func=lambda index: f"{index + 1}. {chain.steps[index].title}",
        width=280,
    )
    step = chain.steps[index]
    on = on.first(3)
    context = ready(augment.Pipeline(), on).context
    swept = augment.sweep(
        step.name, step.config, on.floats, seed=seed, context=context, y=on.labels, write=on.write
    )
    knob = step.entry.config.knobs()[swept.knob]
    columns = len(swept.values)
    show.pictures(
        on.medium.pictures(np.swapaxes(swept.images, 0, 1).reshape(-1, *on.x.shape[1:])),
        columns=columns,
        key="augment.swept",
        alt=f"{step.title} at {columns} strengths",
        captions=[f"{step.title}\n{value:g}{_unit(knob)}" for value in swept.values],
        max_height=400,
        max_zoom=14,
    )
    st.caption(
        f"{knob.label} rises from left to right; the same draw at every strength. Now it is "
        f"{step.config[swept.knob]:g}{_unit(knob)}."
    )
    if on.source != "photos":
        hurts(step, knob)


def hurts(step: Any, knob: Any) -> None:
    """Draws how far a step leads away from the data as it grows, and from where on it leaves it."""
    import plotly.graph_objects as go

    name = shell.chosen_dataset()
    rows, limit = _strained(name, step.name, tuple(sorted(step.config.items())))
    figure = go.Figure()
    x = [row["value"] for row in rows]
    figure.add_scatter(
        x=x,
        y=[row["off"] for row in rows],
        mode="lines+markers",
        name="far from every real picture",
        line={"color": show.colour(0), "width": 2.5},
    )
    figure.add_scatter(
        x=x,
        y=[row["floor"] for row in rows],
        mode="lines",
        name="untouched held-out images",
        line={"color": show.colour(1), "width": 1.5, "dash": "dot"},
    )
    if limit is not None:
        figure.add_vline(
            limit,
            line={"dash": "dash", "width": 1, "color": show.ink()},
            annotation={"text": "hurts from here", "font": {"color": show.ink()}},
        )
    figure.update_layout(
        height=220,
        margin={"l": 44, "r": 8, "t": 26, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        xaxis={"title": {"text": knob.label}},
        yaxis={"tickformat": ".0%", "rangemode": "tozero"},
    )
    show.plot(
        figure,
        key="augment.hurts",
        config={"displayModeBar": False},
        alt="Share of images that lie far from every real one, against the strength",
    )
    st.caption(
        "Share of changed images that lie farther from every real one than real ones lie from each other, by the "
        "features of the judge. "
        + (
            f"From {limit:g}{_unit(knob)} on it is more than twice that of untouched images."
            if limit is not None
            else "It stays near that of untouched images up to the far end."
        )
    )


@st.cache_data(max_entries=64, show_spinner="Measuring where it hurts")
def _strained(
    name: str, step: str, config: tuple[tuple[str, Any], ...]
) -> tuple[list[dict[str, Any]], float | None]:
    from core.augment import screening

    rows = screening.sweep(screening.Manifold(dataset(name)), step, dict(config))
    return rows, screening.hurts(rows)


def _unit(knob: Any) -> str:
    return f" {knob.unit}" if knob.unit else ""


def before(chain: Any, on: Images, seed: int) -> None:
    """Lays an image over its changed version, with a border to drag."""
    left, right = st.columns([1, 2.4], gap="medium")
    with left:
        image = st.selectbox(
            "Image",
            range(len(on.x)),
            key=f"augment.before.{on.source}",
            format_func=lambda i: on.names[i],
        )
        version = st.number_input(
            "Version", min_value=0, max_value=999, value=0, key="augment.version"
        )
        st.caption("Left of the border as it is, right of it augmented. Drag the border.")
    i = image or 0
    y = None if on.labels is None else on.labels[i : i + 1]
    after = ready(chain, on)(on.floats[i : i + 1], seed, [1000 * i + int(version)], y)
    with right:
        compare(
            *on.medium.pictures(np.stack([on.x[i], on.write(after)[0]])),
            key="augment.compare",
            alt=f"{on.names[i]}, as it is on the left and augmented on the right",
        )
        if on.medium.heard:
            sides = ("As it is", on.x[i]), ("Augmented", on.write(after)[0])
            for side, (words, item) in zip(st.columns(2), sides, strict=True):
                with side:
                    st.caption(words)
                    name = f"{on.names[i].replace(': ', '-')} {words.lower()}"
                    show.item(item, on.medium, name, key=f"augment.heard.{words}", max_height=120)


def classes(chain: Any, data: str, seed: int) -> None:
    """Shows one column per class: the image as it is, and versions below it."""
    from core import augment

    opened = dataset(data)
    if not opened.labelled:
        with shell.empty("Classes need a dataset with labels. Choose another in the sidebar."):
            shell.go("data", "Look at the data")
        return
    first = examples(data, min(16, len(opened.classes)))
    shown = len(first.x)
    versions = augment.grid(ready(chain, first), first.floats, seed, 4, first.labels, first.write)
    stack = np.concatenate([first.x[:, None], versions], 1).swapaxes(0, 1)
    names = [opened.classes[k] for k in ([] if first.y is None else first.y)]
    show.pictures(
        first.medium.pictures(stack.reshape(-1, *first.x.shape[1:])),
        columns=shown,
        key="augment.classes",
        alt=f"{shown} classes side by side, each with four versions",
        captions=names,
        marks=dict.fromkeys(range(shown), ""),
        max_height=440,
        max_zoom=12,
    )
    st.caption(
        "The first row as it is; below it four versions. Does each still belong to its class?"
    )

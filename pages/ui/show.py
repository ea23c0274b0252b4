"""Pictures and curves, and what a person takes away of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs, sheets
from pages.ui.tiles import tiles

CURVES = {  # title of a chart, and the records that it draws
    "Losses": ("loss", "critic_loss", "generator_loss", "valid_loss", "kl"),
    "Critic: how real do images look to it (0 to 1)": ("D_real", "D_fake"),
    "Accuracy": ("accuracy", "valid_accuracy"),
    "Reconstruction error (mean square)": ("reconstruction_error", "valid_reconstruction_error"),
    "Gradient penalties": ("r1", "r2"),
    "Gradient norm": ("grad_norm/critic", "grad_norm/generator", "grad_norm/model", "grad_norm/classifier"),
    "Learning rate": ("lr",),
    "Speed (images/s)": ("images_per_second",),
}
_DASHES = ("solid", "dash", "dot", "dashdot")


def pictures(x: np.ndarray, *, columns: int, alt: str, key: str, **options: Any) -> tuple[int, int] | None:
    """Shows images, uint8 (N, C, H, W), in rows; see :func:`pages.ui.tiles.tiles` for the options."""
    if not len(x):
        st.caption("No image fits this choice.")
        return None
    sheet = sheets.png(x, columns)
    return tiles([sheet], tile=x.shape[2:], columns=columns, count=len(x), alt=alt, key=key, **options)


def film(run: jobs.Job, *, key: str, max_height: int = 420, budget: int = 1_500_000) -> bool:
    """Shows how the same noise looked at each step of a training, with a slider; False without any sheet."""
    found = runs.samples(run)
    if not found:
        return False
    size = sum(file.stat().st_size for _, file in found)
    if size > budget:  # fewer moments rather than a slow page; always the last one
        keep = max(2, int(len(found) * budget / size))
        found = [found[round(i * (len(found) - 1) / (keep - 1))] for i in range(keep)]
    frames = [file.read_bytes() for _, file in found]
    facts = sheets.facts(frames[-1])
    batch = run.config["train"]["batch"]
    total = run.config["train"]["images"]
    tiles(
        frames, tile=facts["tile"], columns=facts["columns"], count=facts["count"], key=key, max_height=max_height,
        labels=[f"{min(step * batch, total):,} images" for step, _ in found],
        alt=f"Images that {run.name} made from the same noise at {len(found)} moments of its training",
    )
    return True


def curves(of: Mapping[str, Sequence[Mapping[str, Any]]], *, key: str, charts: Sequence[str] | None = None, height: int = 240) -> None:
    """Draws the records of runs (name to records) over the images seen, one chart per kind of value.

    One run: colour tells the values apart. Several runs: colour tells the runs apart, and the dash the values.
    """
    import plotly.graph_objects as go

    drawn = 0
    for title in charts or CURVES:
        figure = go.Figure()
        names: list[str] = []
        for number, (run, records) in enumerate(of.items()):
            for name in CURVES[title]:
                points = [(r["images"], r[name]) for r in records if name in r]
                if not points:
                    continue
                if name not in names:
                    names.append(name)
                line: dict[str, Any] = {"width": 2}
                if len(of) > 1:
                    line |= {"dash": _DASHES[names.index(name) % 4], "color": _colour(number)}
                label = name.replace("_", " ").replace("/", ": ")
                figure.add_scatter(
                    x=[p[0] for p in points], y=[p[1] for p in points], line=line,
                    mode="lines+markers" if len(points) < 30 else "lines", marker={"size": 5},
                    name=f"{run}: {label}" if len(of) > 1 else label,
                )
        if not figure.data:
            continue
        figure.update_layout(
            height=height, margin={"l": 8, "r": 8, "t": 28, "b": 8}, title={"text": title, "font": {"size": 13}},
            legend={"orientation": "h", "y": -0.25}, xaxis={"title": "images seen"}, hovermode="x unified",
        )
        st.plotly_chart(figure, key=f"{key}.{title}", config={"displayModeBar": False}, alt=f"{title} over images seen")
        drawn += 1
    if not drawn:
        st.caption("The first records arrive a moment after the start.")


def _colour(number: int) -> str:
    colours = st.get_option(f"theme.{st.context.theme.type or 'light'}.chartCategoricalColors")
    return colours[number % len(colours)]


def bars(counts: Mapping[str, Mapping[str, int]], *, key: str, height: int = 260) -> None:
    """Draws how many images each class has, stacked by split."""
    import plotly.graph_objects as go

    figure = go.Figure()
    classes = list(counts)
    for split in ("train", "valid", "test"):
        figure.add_bar(x=classes, y=[counts[name][split] for name in classes], name=split)
    figure.update_layout(
        barmode="stack", height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8}, legend={"orientation": "h", "y": 1.15},
        xaxis={"type": "category"}, yaxis={"title": "images"},
    )
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt="Images per class and split")


def cover(file: Any, *, key: str, alt: str) -> None:
    """Shows the first rows of a sample sheet, as a small cover."""
    content = file.read_bytes()
    layout = sheets.facts(content)
    columns = min(6, layout["columns"])
    x = sheets.tiles(content)
    pick = [row * layout["columns"] + column for row in range(3) for column in range(columns)]
    pictures(x[[i for i in pick if i < len(x)]], columns=columns, key=key, alt=alt, max_height=130, max_zoom=4)

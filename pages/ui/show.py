"""Pictures and curves, and what a person takes away of them."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs, sheets, tables
from core.watch import Watch
from pages.ui import shell
from pages.ui.tiles import tiles

CURVES: dict[
    str, tuple[dict[str, str], str]
] = {  # title of a chart: its records with their labels, and how to read it
    "How real images look to the critic": (
        {"D_real": "real ones", "D_fake": "generated ones"},
        "1 is certainly real. Both near 0.5: the critic can no longer tell them apart.",
    ),
    "Loss": (
        {
            "loss": "training",
            "valid_loss": "held-out",
            "critic_loss": "critic",
            "generator_loss": "generator",
        },
        "Lower is better for whom it belongs to; below zero is possible. "
        "A held-out curve that rises while training falls: the model memorises.",
    ),
    "Distance to held-out images": (
        {"distance": "generated", "distance_floor": "real training images"},
        "Sliced Wasserstein distance between features of 500 images (fewer in small sets); lower is nearer.",
    ),
    "Accuracy": (
        {
            "accuracy": "training",
            "valid_accuracy": "held-out",
            "valid_hard_accuracy": "held-out, as it is trained (attacked or noisy)",
        },
        "Share of images whose class is named rightly.",
    ),
    "Copying": (
        {"copying": "nearer to training"},
        "Share of samples nearer to a training image than to an equally likely held-out one: 0.5 is none. "
        "Rising far above what real images have, the model repeats what it saw; Evaluate tests it.",
    ),
    "Bits per dimension": (
        {"bits_per_dim": "training", "valid_bits_per_dim": "held-out"},
        "How many bits a pixel costs under the model; lower is better. Held-out rising: the model memorises.",
    ),
    "Loss of the prior": (
        {"prior_loss": "training", "valid_prior_loss": "held-out"},
        "Nats per code: how well the second stage foretells the codes of the first.",
    ),
    "Codes in use": (
        {"codebook_use": "share in use"},
        "Share of the codebook that was used lately.",
    ),
    "Perplexity of the codes": (
        {"perplexity": "training"},
        "How many codes are used as if all were used equally often.",
    ),
    "Dropout": (
        {"dropout": "share"},
        "Rises while held-out images cost more than training images, and falls otherwise.",
    ),
    "Held-out less training (bits)": (
        {"gap": "gap"},
        "Bits per dimension that held-out images cost more than training images; the dropout keeps it small.",
    ),
    "Augmentation of the critic's input": (
        {"augmentation": "probability", "overfitting": "overfitting"},
        "The probability rises while the critic tells training images from held-out ones, and falls otherwise.",
    ),
    "Divergence from the prior (KL)": (
        {"kl": "training"},
        "Information in the latents, in nats per image.",
    ),
    "Reconstruction error": (
        {"reconstruction_error": "training", "valid_reconstruction_error": "held-out"},
        "Mean squared difference of pixels in [0, 1].",
    ),
    "Gradient penalties": (
        {"r1": "real (R1)", "r2": "generated (R2)"},
        "Squared slope of the critic; large means unstable.",
    ),
    "Gradient norm": (
        {},
        "Length of the gradient before clipping.",
    ),  # of every group that a run has
    "Learning rate": ({"lr": "learning rate"}, "Warm-up, then the schedule."),
    "Speed": (
        {"images_per_second": "images/s"},
        "Images per second of training, without samples and checkpoints.",
    ),
}
_BESIDE = {"step", "seconds", "images", "copying_low", "copying_high", "test_accuracy", "n_test"}
LOGARITHMIC = ("Distance to held-out images",)  # where the end is a hundredth of the beginning
POINTS = 500  # of a curve; more cannot be seen, and a long training would choke the page
_DASHES = ("solid", "dash", "dot", "dashdot")


class Bar(Watch):
    """A bar on the page that follows work; the visitor who leaves ends it."""

    def __init__(self, text: str = "") -> None:
        self._slot, self._told = st.empty(), 0.0
        if text:
            self._slot.progress(0.0, text=text)

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        share, now = (done or 0.0) / max(total, 1e-9), time.monotonic()
        if share >= 1 or now - self._told > 0.1:
            self._told = now
            self._slot.progress(min(1.0, share), text=text)

    def close(self) -> None:
        """Takes the bar away."""
        self._slot.empty()


def pictures(
    x: np.ndarray, *, columns: int, alt: str, key: str, **options: Any
) -> tuple[int, int] | None:
    """Shows images, uint8 (N, C, H, W), in rows; see :func:`pages.ui.tiles.tiles` for the options."""
    if not len(x):
        st.caption("No image fits this choice.")
        return None
    sheet = sheets.png(x, columns)
    return tiles(
        [sheet], tile=x.shape[2:], columns=columns, count=len(x), alt=alt, key=key, **options
    )


def film(run: jobs.Job, *, key: str, max_height: int = 420, budget: int = 1_500_000) -> bool:
    """Shows how the same noise looked at each step of a training, with a slider; False without any sheet."""
    every = runs.samples(run)
    found = [(step, file) for step, file in every if whole(file)]
    if lost := len(every) - len(found):
        st.caption(
            f":material/warning: {lost} damaged picture(s) of its training were left out, in "
            + shell.plain(str(run.path / "samples"))
        )
    if not found:
        return False
    size = sum(file.stat().st_size for _, file in found)
    if size > budget:  # fewer moments rather than a slow page; always the last one
        keep = max(2, int(len(found) * budget / size))
        found = [found[round(i * (len(found) - 1) / (keep - 1))] for i in range(keep)]
    frames = [file.read_bytes() for _, file in found]
    facts = sheets.facts(frames[-1])
    tiles(
        frames,
        tile=facts["tile"],
        columns=facts["columns"],
        count=facts["count"],
        key=key,
        max_height=max_height,
        labels=[f"{short(sheets.facts(frame)['images'])} images" for frame in frames],
        alt=f"Images that {run.name} made from the same noise at {len(found)} moments of its training",
    )
    return True


@st.cache_data(max_entries=20_000, show_spinner=False)
def _readable(file: str, _mtime: int) -> bool:
    facts = sheets.whole(Path(file).read_bytes())
    return facts is not None and "images" in facts


def whole(file: Path) -> bool:
    """Tells whether a sheet can be read: a damaged one is left out."""
    try:
        return _readable(str(file), file.stat().st_mtime_ns)
    except OSError:
        return False


def short(number: float) -> str:
    """Writes a count in four signs: 950, 12.8k, 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def charts(of: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[dict[str, str], str]]:
    """Lists the charts for the records of runs: :data:`CURVES`, and one for every value that has no place there."""
    names = dict.fromkeys(
        name
        for records in of.values()
        for record in records
        if "images" in record
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    norms = {name: name.partition("/")[2] for name in names if name.startswith("grad_norm/")}
    found = {
        title: (norms if title == "Gradient norm" else labels, reading)
        for title, (labels, reading) in CURVES.items()
    }
    drawn = {name for labels, _ in found.values() for name in labels} | _BESIDE
    for name in names:
        if name not in drawn:
            title = name.replace("_", " ").capitalize()
            found.setdefault(title, ({name: name}, "As the family reports it."))
    return found


def curves(
    of: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    key: str,
    titles: Sequence[str] | None = None,
    height: int = 240,
    marks: Sequence[tuple[int, str]] = (),
) -> None:
    """Draws the records of runs (name to records) over the images seen, one chart per kind of value.

    All of :func:`charts`, or those of some ``titles``.
    One run: colour tells the values apart. Several runs: colour tells the runs apart, and the dash the values.
    ``marks`` are moments, as images seen and a few words: dotted lines, which say their words under the pointer.
    """
    import plotly.graph_objects as go

    drawn, known = 0, charts(of)
    for title in known if titles is None else titles:
        labels, reading = known[title]
        figure = go.Figure()
        names: list[str] = []
        for number, (run, records) in enumerate(of.items()):
            for name, label in labels.items():
                points = [(r["images"], r[name]) for r in records if name in r]
                if not points:
                    continue
                every = -(-len(points) // POINTS)
                points = points[:-1:every] + points[-1:]
                if name not in names:
                    names.append(name)
                value = names.index(name)
                line: dict[str, Any] = {
                    "width": 2,
                    "color": colour(number if len(of) > 1 else value),
                }
                if len(of) > 1:
                    line["dash"] = _DASHES[value % 4]
                figure.add_scatter(
                    x=[p[0] for p in points],
                    y=[p[1] for p in points],
                    line=line,
                    mode="lines+markers" if len(points) < 30 else "lines",
                    marker={"size": 5},
                    name=f"{run}: {label}" if len(of) > 1 else label,
                )
        if not figure.data:
            continue
        for images, words in marks:
            figure.add_vline(images, line={"width": 1, "dash": "dot", "color": "#888"})
            figure.add_annotation(
                x=images,
                y=1,
                yref="paper",
                yanchor="top",
                text="◆",
                hovertext=words,
                showarrow=False,
                font={"size": 11},
            )
        figure.update_layout(
            height=height,
            margin={"l": 40, "r": 8, "t": 48, "b": 34},
            hovermode="x unified",
            showlegend=True,
            title={"text": title, "font": {"size": 13}, "x": 0, "y": 0.98, "yanchor": "top"},
            legend={
                "orientation": "h",
                "y": 1.0,
                "yanchor": "bottom",
                "x": 0,
                "font": {"size": 11},
            },
            xaxis={"title": {"text": "images seen", "font": {"size": 11}, "standoff": 4}},
        )
        if title in LOGARITHMIC:
            figure.update_yaxes(type="log", dtick="D2")
        plot(
            figure,
            key=f"{key}.{title}",
            config={"displayModeBar": False},
            alt=f"{title} over images seen",
        )
        st.caption(reading)
        drawn += 1
    if not drawn:
        st.caption("The first records arrive a moment after the start.")


def plot(figure: Any, *, key: str, alt: str, **options: Any) -> Any:
    """Draws a figure of Plotly's, with every name in it as it is written.

    Plotly reads tags in names, categories and labels, links among them; a class or a run may be called anything.
    """
    for trace in figure.data:
        for field in ("name", "x", "y", "text", "hovertext", "customdata"):
            if field in trace and (value := trace[field]) is not None:
                trace[field] = _inert(value)
    for note in figure.layout.annotations:
        note.text, note.hovertext = _inert(note.text), _inert(note.hovertext)
    return st.plotly_chart(figure, key=key, alt=alt, **options)


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value, quote=False)
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OU":
        return value
    if isinstance(value, np.ndarray | list | tuple):
        return [_inert(each) for each in value]
    return value


def palette() -> list[str]:
    """Gives the ten colours of the visitor's theme for what is told apart by colour."""
    return st.get_option(f"theme.{st.context.theme.type or 'light'}.chartCategoricalColors")


def ink() -> str:
    """Gives the colour of the theme's text, for lines that Plotly would draw in its own dark grey."""
    return st.get_option(f"theme.{st.context.theme.type or 'light'}.textColor")


def colour(number: int) -> str:
    """Gives the colour of a number of the theme's palette."""
    return palette()[number % len(palette())]


def sequence() -> list[str]:
    """Gives the colours of a quantity in the visitor's theme, from none to much."""
    return st.get_option(f"theme.{st.context.theme.type or 'light'}.chartSequentialColors")


def bars(counts: Mapping[str, Mapping[str, int]], *, key: str, height: int = 260) -> None:
    """Draws how many images each class has, stacked by split."""
    import plotly.graph_objects as go

    figure = go.Figure()
    classes = list(counts)
    for number, split in enumerate(("train", "valid", "test")):
        figure.add_bar(
            x=classes,
            y=[counts[name][split] for name in classes],
            name=split,
            marker_color=colour(number),
        )
    figure.update_layout(
        barmode="stack",
        height=height,
        margin={"l": 36, "r": 4, "t": 30, "b": 24},
        xaxis={"type": "category"},
        legend={
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 11},
            "traceorder": "normal",
        },
    )
    plot(figure, key=key, config={"displayModeBar": False}, alt="Images per class and split")


def cover(file: Path, *, key: str, alt: str) -> None:
    """Shows the first rows of a sample sheet, as a small cover; nothing of a damaged one."""
    if not whole(file):
        return
    content = file.read_bytes()
    layout = sheets.facts(content)
    columns = min(6, layout["columns"])
    x = sheets.tiles(content)
    pick = [row * layout["columns"] + column for row in range(3) for column in range(columns)]
    pictures(
        x[[i for i in pick if i < len(x)]],
        columns=columns,
        key=key,
        alt=alt,
        max_height=130,
        max_zoom=4,
    )


def named(frame: Any, *columns: str) -> Any:
    """Guards the columns of a table that hold words of a person or a file, and its heads.

    Streamlit offers every table as CSV by itself, so what a spreadsheet would compute is guarded in the table.

    Args:
        frame: A pandas table; it stays as it is.
        columns: Which columns hold such words, as far as they are there.
    """
    frame = frame.rename(columns=tables.guarded)
    return frame.assign(
        **{name: frame[name].map(tables.guarded) for name in columns if name in frame}
    )

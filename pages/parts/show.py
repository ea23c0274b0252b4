"""Pictures and curves, and what a person takes away of them."""

from __future__ import annotations

import html
import io
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from core import jobs, runs
from core.ground import sheets, tables
from core.ground.watch import Watch
from core.ground.writing import duration
from core.media import Medium
from core.models import Curve
from pages.parts import shell
from pages.parts.component import indices, told
from pages.parts.player import player
from pages.parts.tiles import tiles

_AXES = {"step", "seconds", "images"}  # of a record: positions, not measurements
POINTS = 500  # of a curve; more cannot be seen, and a long training would choke the page
FORESEEN = 1.0  # seconds after which a bar says how long it will go on
_DASHES = ("solid", "dash", "dot", "dashdot")
# Of every chart that has no place of its own for it: above the plot.
_LEGEND: dict[str, Any] = {
    "orientation": "h",
    "y": 1.0,
    "yanchor": "bottom",
    "x": 0,
    "xanchor": "left",
    "font": {"size": 11},
}


class Bar(Watch):
    """A bar on the page that follows work, and says how long it goes on; the visitor who leaves ends it.

    It takes no room before something is said.
    """

    def __init__(self, text: str = "") -> None:
        self._slot: Any = None
        self._told, self._share = 0.0, 0.0
        self._began = (time.monotonic(), 0.0)  # when, and at which share
        if text:
            self._draw(text)

    def say(self, text: str, done: float | None = None, total: float = 1.0) -> None:
        share, now = self._share, time.monotonic()
        if done is not None:
            share = min(1.0, done / max(total, 1e-9))
        if share < self._share:  # something else is counted now
            self._began = (now, share)
        self._share = share
        if share >= 1 or now - self._told > 0.1:
            self._told = now
            spent, gained = now - self._began[0], share - self._began[1]
            left = spent * (1 - share) / max(gained, 1e-9)
            if spent > FORESEEN and gained > 0.02 and left > 1:
                text += f" · about {duration(left)} left"
            self._draw(text)

    def _draw(self, text: str) -> None:
        if self._slot is None:
            self._slot = st.empty()
        self._slot.progress(self._share, text=text)

    def close(self) -> None:
        """Takes the bar away."""
        if self._slot is not None:
            self._slot.empty()


def pictures(
    x: np.ndarray, *, columns: int, alt: str, key: str, **options: Any
) -> tuple[int, int] | None:
    """Shows images, uint8 (N, C, H, W), in rows; see :func:`pages.parts.tiles.tiles` for the options."""
    if not len(x):
        with shell.empty("No image fits this choice."):
            return None
    sheet = sheets.passing(x, columns)
    return tiles(
        [sheet], tile=x.shape[2:], columns=columns, count=len(x), alt=alt, key=key, **options
    )


def item(
    x: np.ndarray,
    medium: Medium,
    name: str,
    *,
    key: str,
    levels: int = 256,
    max_height: int = 240,
    made: tuple[str, str, str] = ("real", "", ""),
    hear: int | None = None,
) -> None:
    """Shows one stored item (…) at large or plays it, as its medium says, and offers it as a file.

    Args:
        x: The item.
        medium: What it is.
        name: Of the file, without its end.
        key: Unique on the page.
        levels: Values that a number of it can take.
        max_height: Of a picture, in CSS pixels.
        made: Its origin, run and parameters, which the file of a picture says as well.
        hear: Of what is played: another number than the last one plays it at once.
    """
    content, kind = medium.alone(x, levels), medium.mime.partition("/")[0]
    if medium.mime == "image/png" and made[0] != "real":
        from core.building.marks import mark

        content = mark(content, *made)
    if kind == "image":
        whole = medium.pictures(x[None], levels)
        pictures(whole, columns=1, alt=name, key=key, max_height=max_height, max_zoom=48)
    elif kind == "audio":
        player(x, medium, alt=name, key=key, height=min(190, max_height), hear=hear)
    elif medium.mime == "text/csv":
        import pandas as pd

        st.dataframe(pd.read_csv(io.BytesIO(content)), height=200, key=key, alt=name)
    else:
        st.text(content.decode("utf-8", "replace"))
    st.download_button(
        f"This one ({medium.suffix[1:].upper()})",
        content,
        f"{name}{medium.suffix}",
        medium.mime,
        key=f"{key}.file",
        icon=":material/download:",
        on_click="ignore",
    )


def clicked(key: str, count: int) -> int | None:
    """Gives the index of a picture that was newly clicked."""
    click = (st.session_state.get(key) or {}).get("clicked")
    if not isinstance(click, dict) or click.get("number") == st.session_state.get(f"{key}.seen"):
        return None
    st.session_state[f"{key}.seen"] = click.get("number")
    index = click.get("index")
    return index if type(index) is int and 0 <= index < count else None


def picked(key: str, of: str, count: int) -> list[int] | None:
    """Gives the indices of the pictures that are selected; None while nothing was told of these pictures.

    Args:
        key: Of the pictures.
        of: What they are, as :func:`pages.parts.tiles.tiles` got it in ``picks``.
        count: How many there are.
    """
    state = told(st.session_state.get(key), "picked")
    return indices(state.get("indices"), count) if state.get("of") == of else None


def film(
    run: jobs.Job,
    *,
    key: str,
    max_height: int = 420,
    min_zoom: float = 0,
    budget: int = 1_500_000,
) -> bool:
    """Shows how the same noise looked at each step of a training, with a slider; False without any sheet."""
    every = runs.samples(run)
    moments = [(step, file) for step, file in every if whole(file)]
    if lost := len(every) - len(moments):
        st.caption(
            f":material/warning: {lost} damaged picture(s) of its training were left out, in "
            + shell.plain(str(run.path / "samples"))
        )
    if not moments:
        return False
    size = sum(file.stat().st_size for _, file in moments)
    if size > budget:  # fewer moments rather than a slow page; always the last one
        keep = max(2, int(len(moments) * budget / size))
        moments = [moments[round(i * (len(moments) - 1) / (keep - 1))] for i in range(keep)]
    frames = [file.read_bytes() for _, file in moments]
    sheet = sheets.metadata(frames[-1])
    tiles(
        frames,
        tile=sheet["tile"],
        columns=sheet["columns"],
        count=sheet["count"],
        key=key,
        max_height=max_height,
        min_zoom=min_zoom,
        labels=[f"{short(sheets.metadata(frame)['images'])} images" for frame in frames],
        alt=f"Images that {run.name} made from the same noise at {len(moments)} moments of its training",
    )
    return True


@st.cache_data(max_entries=20_000, show_spinner=False)
def _readable(file: str, _mtime: int) -> bool:
    sheet = sheets.whole(Path(file).read_bytes())
    return sheet is not None and "images" in sheet


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


def charts(curves: Iterable[Curve], of: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Curve]:
    """Lists the charts for the records of runs (name to records), in the order of their curves.

    Curves of one title become one chart. A value that no curve draws gets a chart of its own, unless it was recorded
    only once, or is an end of the interval of one that is drawn.
    """
    counts: dict[str, int] = {}
    for records in of.values():
        mine = Counter(
            name
            for record in records
            if "images" in record
            for name, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        counts |= {name: max(counts.get(name, 0), count) for name, count in mine.items()}
    by_title: dict[str, Curve] = {}
    for curve in curves:
        if lines := curve.drawn(counts):
            same = by_title.setdefault(curve.title, curve)
            reading = same.reading
            if curve.reading not in reading:
                reading += f" {curve.reading}"
            known = same.lines if same is not curve else {}
            by_title[curve.title] = replace(same, lines={**known, **lines}, reading=reading)
    drawn = {name for curve in by_title.values() for name in curve.lines}
    for name in sorted(counts.keys() - drawn - _AXES):
        if counts[name] > 1 and name.removesuffix("_low").removesuffix("_high") not in drawn:
            title = name.replace("_", " ").capitalize()
            by_title.setdefault(
                title, Curve(name, title, "As the family reports it.", {name: name})
            )
    return list(by_title.values())


def curves(
    of: Mapping[str, Sequence[Mapping[str, Any]]],
    charts: Sequence[Curve],
    *,
    key: str,
    height: int = 240,
    marks: Sequence[tuple[int, str]] = (),
) -> None:
    """Draws the records of runs (name to records) over the images seen, as :func:`charts` listed them.

    One run: colour tells the values apart. Several runs: colour tells the runs apart, and the dash the values.
    ``marks`` are moments, as images seen and a few words: dotted lines, which say their words under the pointer.
    """
    import plotly.graph_objects as go

    if not charts:
        with shell.empty(
            "The first records arrive a moment after the start.", ":material/show_chart:"
        ):
            return
    for chart in charts:
        figure = go.Figure()
        for number, (run, records) in enumerate(of.items()):
            for value, (name, label) in enumerate(chart.lines.items()):
                points = [(r["images"], r[name]) for r in records if name in r]
                if not points:
                    continue
                every = -(-len(points) // POINTS)
                points = points[:-1:every] + points[-1:]
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
        for images, said in marks:
            figure.add_vline(images, line={"width": 1, "dash": "dot", "color": "#888"})
            figure.add_annotation(
                x=images,
                y=1,
                yref="paper",
                yanchor="top",
                text="◆",
                hovertext=said,
                showarrow=False,
                font={"size": 11},
            )
        figure.update_layout(
            height=height,
            hovermode="x unified",
            showlegend=True,
            title=chart.title,
            xaxis_title="images seen",
        )
        if chart.scale == "log":
            figure.update_yaxes(type="log")
        plot(figure, key=f"{key}.{chart.title}", alt=f"{chart.title} over images seen")
        st.caption(chart.reading)


def plot(figure: Any, *, key: str, alt: str, **options: Any) -> Any:
    """Draws a figure of Plotly's in the one style of all charts, with every name in it as it is written.

    What a figure sets itself stays, for example a place of its own for the legend. A log axis reads 0.1, 1, 10.

    Plotly reads tags in names, categories and labels, links among them; a class or a run may be called anything.
    """
    own = figure.layout.to_plotly_json()
    own.pop("template", None)
    legend = own.get("showlegend", len(figure.data) > 1)
    top = 8 + (24 if own.get("title") else 0) + (22 if legend else 0)
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": top, "b": 8},
        legend=_LEGEND,
        title={"font": {"size": 13}, "x": 0, "y": 0.98, "yanchor": "top"},
    )
    axis = {
        "automargin": True,
        "title": {"font": {"size": 12, "color": ink()}, "standoff": 6},
        "tickfont": {"size": 11, "color": ink()},
    }
    figure.update_xaxes(axis)
    figure.update_yaxes(axis)
    figure.update_layout(own)
    for axis in (*figure.select_xaxes({"type": "log"}), *figure.select_yaxes({"type": "log"})):
        if axis.tickvals is None:
            axis.tickvals = _decades(figure, axis)
            axis.ticktext = [f"{value:g}" for value in axis.tickvals]
    for trace in figure.data:
        for field in ("name", "x", "y", "text", "hovertext", "customdata"):
            if field in trace and (value := trace[field]) is not None:
                trace[field] = _inert(value)
    for note in figure.layout.annotations:
        note.text, note.hovertext = _inert(note.text), _inert(note.hovertext)
    options = {"config": {"displayModeBar": False}} | options
    return st.plotly_chart(figure, key=key, alt=alt, **options)


def _decades(figure: Any, axis: Any) -> list[float]:
    """Gives the powers of ten that the traces on a log axis reach over; with 2 and 5 between where they are few."""
    letter = axis.plotly_name[0]
    mine = (axis.plotly_name.replace("axis", ""), None)
    drawn = [trace[letter] for trace in figure.data if trace[f"{letter}axis"] in mine]
    values = [value for each in drawn for value in each if value is not None and value > 0]
    if not values:
        return []
    low, high = (math.log10(end(values)) for end in (min, max))
    steps = (1,) if high - low > 2 else (1, 2, 5)
    every = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
    ]
    return [value for value in every if low - 0.35 <= math.log10(value) <= high + 0.35]


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


def origin_colour(origin: str, number: int = 0) -> str:
    """Gives the colour of an origin, the same in every chart; of anything else that of a number."""
    from core.datasets.attributes import ORIGINS

    return colour(ORIGINS.index(origin) if origin in ORIGINS else number)


def sequence() -> list[str]:
    """Gives the colours of a quantity in the visitor's theme, from none to much."""
    return st.get_option(f"theme.{st.context.theme.type or 'light'}.chartSequentialColors")


def bars(counts: Mapping[str, Mapping[str, int]], *, key: str, height: int = 260) -> None:
    """Draws how many images each class has, stacked by split."""
    ordered = {name: {s: n[s] for s in ("train", "valid", "test")} for name, n in counts.items()}
    stacked(ordered, key=key, alt="Images per class and split", height=height)


def stacked(
    counts: Mapping[str, Mapping[str, int]], *, key: str, alt: str, height: int = 260
) -> None:
    """Draws how many images each class has, stacked by what they are; kinds without any are left out."""
    import plotly.graph_objects as go

    figure = go.Figure()
    classes = list(counts)
    kinds = list(next(iter(counts.values()), {}))
    for number, kind in enumerate(kinds):
        if len(kinds) > 3 and not any(counts[name][kind] for name in classes):
            continue
        figure.add_bar(
            x=classes,
            y=[counts[name][kind] for name in classes],
            name=kind,
            marker_color=origin_colour(kind, number),
        )
    figure.update_layout(
        barmode="stack", height=height, xaxis_type="category", legend_traceorder="normal"
    )
    plot(figure, key=key, alt=alt)


def cover(file: Path, *, key: str, alt: str) -> None:
    """Shows the first rows of a sample sheet, as a small cover; nothing of a damaged one."""
    if not whole(file):
        return
    content = file.read_bytes()
    sheet = sheets.metadata(content)
    columns = min(6, sheet["columns"])
    x = sheets.tiles(content)
    pick = [row * sheet["columns"] + column for row in range(3) for column in range(columns)]
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

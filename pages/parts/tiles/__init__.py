"""Pictures in rows, drawn in the browser from one sheet: crisp at any zoom, to click and select, and films.

A component with its own JavaScript, because Streamlit's images are one request each, blurred when enlarged, and
deaf to clicks. Sheets are sent as they are stored in a run's folder, so nothing is encoded twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pages.parts.component import FILM, component, data_url

_show = component(
    __file__,
    f'<canvas></canvas><div class="captions"></div><p class="said" role="status"></p>{FILM}',
    "clicked",
    "picked",
)


def tiles(
    frames: Sequence[bytes],
    *,
    tile: tuple[int, int],
    columns: int,
    count: int,
    alt: str,
    key: str,
    labels: Sequence[str] = (),
    titles: Sequence[str] = (),
    captions: Sequence[str] = (),
    marks: Mapping[int, str] | None = None,
    max_height: int = 520,
    max_zoom: int = 8,
    min_zoom: float = 0,
    side: int = 0,
    clickable: bool = False,
    picks: tuple[str, Sequence[int]] | None = None,
    pace: float = 350,
    loop: bool = False,
    film: str = "the training",
) -> tuple[int, int] | None:
    """Shows sheets of pictures; several frames get a slider and a play button.

    Args:
        frames: PNG sheets of the same layout, gapless, at their own size; the last one is shown first.
        tile: Height and width of one picture in the sheet.
        columns, count: Pictures per row, and in all.
        alt: What a person who does not see it should know.
        key: Unique on the page.
        labels: One per frame, shown beside the slider.
        titles: One per picture, shown when the pointer rests on it.
        captions: One per column, shown below the rows, the first line in bold. Columns are not made narrower than
            they can be read: the rows scroll.
        marks: A letter to frame a picture with, by index.
        max_height: In CSS pixels.
        max_zoom: CSS pixels per pixel of a picture, at most.
        min_zoom: The same, at least, over the full width: a row that is too wide for that is broken into equal ones,
            and rows that are too many for the height are left out. 0 shows every picture.
        side: Height of a picture in CSS pixels: as many as fit stand in a row, and all are shown. 0 fits them in.
        clickable: Lets a person choose a picture with mouse or keyboard.
        picks: Lets a person select pictures: what they are, a name that is another one for other pictures, and which
            are selected when they come. :func:`pages.parts.show.picked` tells which are selected then.
        pace: Milliseconds per frame of a film.
        loop: Begins a film again when it ends.
        film: What a film shows, for screen readers.

    Returns:
        (click number, index) of the last click; None before one. A click number is new for every click.
    """
    data = {
        "frames": [data_url(frame) for frame in frames],
        "tile": list(tile),
        "columns": columns,
        "count": count,
        "alt": alt,
        "labels": list(labels),
        "titles": list(titles),
        "captions": list(captions),
        "marks": {str(index): mark for index, mark in (marks or {}).items()},
        "maxHeight": max_height,
        "maxZoom": max_zoom,
        "minZoom": min_zoom,
        "side": side,
        "clickable": clickable,
        "of": picks[0] if picks else "",
        "picked": [int(index) for index in picks[1]] if picks else None,
        "pace": pace,
        "loop": loop,
        "film": film,
    }
    clicked = _show(key, data)["clicked"]
    number, index = clicked.get("number"), clicked.get("index")
    if not isinstance(number, int) or not isinstance(index, int) or not 0 <= index < count:
        return None
    return number, index

"""The replay of a race: the samples of a moment side by side, and curves that grow second by second.

A component with its own JavaScript, because a replay must not wait for the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from core.ground import sheets
from pages.parts.component import FILM, component, data_url

_show = component(
    __file__, f'<div class="lanes"></div>{FILM}<canvas class="chart" role="img"></canvas>'
)
REPLAY = 20  # seconds that a replay takes
PICTURES = 10  # of a family, at most


@dataclass(frozen=True)
class Moment:
    """Where a family was after one turn.

    Attributes:
        seconds: Of training until then.
        ratio: Distance to real images, divided by the distance between two sets of real images.
        copying: Share of samples nearer to training than to held-out images, with its interval ``low`` to ``high``.
        images: Seen in training until then.
        sheet: PNG of its samples; empty where it is left out.
    """

    seconds: float
    ratio: float
    copying: float
    low: float
    high: float
    images: int
    sheet: bytes = b""


def track(
    lanes: Sequence[tuple[str, str, Sequence[Moment]]],
    *,
    seconds: float,
    alt: str,
    key: str,
    live: bool = False,
) -> None:
    """Shows a race with a slider and a play button: a card for each family with its first samples.

    They are enlarged four times, large ones to 128 pixels, and stand in at most two rows.

    Args:
        lanes: Title, colour and moments of each family, oldest first.
        seconds: That each family trains in all.
        alt: What a person who does not see it should know.
        key: Unique on the page.
        live: Whether the race is still running; the newest moment is then shown.
    """
    shown = [moment.sheet for _, _, moments in lanes for moment in moments if moment.sheet]
    layout = sheets.metadata(shown[0]) if shown else {"tile": (1, 1), "columns": 1, "count": 0}
    data = {
        "tile": list(layout["tile"]),
        "columns": layout["columns"],
        "count": min(PICTURES, layout["count"]),
        "lanes": [
            {
                "title": title,
                "colour": colour,
                "moments": [
                    asdict(moment) | {"sheet": data_url(moment.sheet) if moment.sheet else ""}
                    for moment in moments
                ],
            }
            for title, colour, moments in lanes
        ],
        "seconds": seconds,
        "alt": alt,
        "live": live,
        "replay": REPLAY,
    }
    _show(key, data)

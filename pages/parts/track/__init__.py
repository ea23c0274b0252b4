"""The replay of a race: curves that grow second by second, and the samples of that moment side by side.

A component with its own JavaScript, because a replay must not wait for the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pages.parts.component import FILM, component, data_url

_show = component(
    __file__, f'<canvas class="chart" role="img"></canvas>{FILM}<div class="lanes"></div>'
)
REPLAY = 20  # seconds that a replay takes


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
    """Shows a race with a slider and a play button.

    Args:
        lanes: Title, colour and moments of each family, oldest first.
        seconds: That each family trains in all.
        alt: What a person who does not see it should know.
        key: Unique on the page.
        live: Whether the race is still running; the newest moment is then shown.
    """
    data = {
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

"""A film through keyframes, shown and offered as a file."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from core.catalog import UserError
from core.ground import sheets, xmp
from pages.parts import show
from pages.parts.latent import TURNS, Spot, save
from pages.parts.tiles import tiles

MOST_KEYS = 24
MOST_FRAMES = 240
MOST_HEARD = 12  # moments of a film, of which each takes a second


def draw(spot: Spot) -> None:
    """Draws the controls, the film and its files."""
    from core import latent

    controls, screen = st.columns([1, 3], gap="medium")
    pinned = spot.view.pins
    with controls:
        source = st.segmented_control(
            "Keyframes",
            ["images", "pins"],
            default="images",
            key="latent.film.source",
            required=True,
            bind="query-params",
            format_func={"images": "Images", "pins": "Pins"}.__getitem__,
            help="Images of the seed, or the points that you pinned on the pad (button Pin, or key P).",
        )
        if source == "images":
            text = st.text_input(
                "Images",
                value="0 1 2 3",
                key="latent.film.images",
                bind="query-params",
                help="Numbers of images of the seed, as the Samples tool shows them.",
            )
            keys = spot.drawn(numbers(text))
        elif len(pinned) >= 2:
            keys = spot.plane.points(np.asarray(pinned))
        else:
            st.caption(f"Pin at least two points on the pad; there are {len(pinned)}.")
            return
        way = st.selectbox(
            "Path",
            list(latent.WAYS),
            key="latent.film.way",
            bind="query-params",
            format_func=lambda name: latent.WAYS[name],
        )
        seconds = st.slider(
            "Seconds from key to key",
            0.2,
            3.0,
            1.0,
            0.1,
            key="latent.film.seconds",
            bind="query-params",
        )
        rate = st.select_slider(
            "Frames per second", [6, 12, 24], 12, key="latent.film.rate", bind="query-params"
        )
        loop = st.toggle(
            "Loop", value=True, key="latent.film.loop", bind="query-params",
            help="Comes back to the first keyframe without a jump.",
        )  # fmt: skip
    spans = len(keys) if loop else len(keys) - 1
    frames = max(2, min(MOST_FRAMES, round(spans * seconds * rate)))
    points = latent.walk(spot.space, keys, frames, way, loop)
    x = spot.space.images(points)
    metadata = spot.metadata() | {
        "keys": text if source == "images" else [list(pin) for pin in pinned],
        "plane": spot.choice.kind,
        "which": list(spot.choice.which),
        "way": way,
        "loop": loop,
        "frames": frames,
        "fps": rate,
    }
    name = f"{spot.checkpoint.run}-film"
    with screen:
        tiles(
            [sheets.png(frame[None], 1) for frame in x],
            tile=(x.shape[2], x.shape[3]),
            columns=1,
            count=1,
            key="latent.film",
            alt=f"A film of {frames} images through {len(keys)} keyframes",
            labels=[f"{i / rate:.1f} s" for i in range(frames)],
            max_height=260,
            max_zoom=32,
            pace=1000 / rate,
            film="the film",
            loop=loop,
        )
        few = x[np.linspace(0, frames - 1, min(frames, 14)).round().astype(int)]
        show.pictures(
            few, columns=14, key="latent.film.strip", alt="The film as a strip", max_height=60
        )
        st.caption(
            f"{frames} images, {frames / rate:.1f} s"
            + (f"; a film has at most {MOST_FRAMES}." if frames == MOST_FRAMES else ".")
        )
        heard(spot, points, name)
        with st.container(horizontal=True):
            kinds = [("GIF", "image/gif", latent.gif), ("WebP", "image/webp", latent.webp)]
            kinds += [("MP4", "video/mp4", latent.mp4)] * latent.mp4_ready()
            for label, mime, write in kinds:
                save(
                    label,
                    partial(write, x, rate, metadata),
                    f"{name}.{label.lower()}",
                    key=f"latent.film.{label.lower()}",
                    mime=mime,
                    help=f"{'Every pixel as it is, w' if label == 'WebP' else 'W'}ith its settings inside.",
                )
            save(
                "Strip",
                lambda: sheets.png(few, len(few), metadata, mark=xmp.made_by(spot.checkpoint.run)),
                f"{name}.png",
                key="latent.film.png",
            )
        if not latent.mp4_ready():
            st.caption(
                "No MP4 here: the server does not have the program ffmpeg. GIF and WebP play everywhere."
            )


def heard(spot: Spot, points: Any, name: str) -> None:
    """Lets the way be heard, as one file that goes over from moment to moment; nothing where items make no sound."""
    medium = spot.opened.medium
    if medium.join is None:
        return
    few = points[np.linspace(0, len(points) - 1, min(len(points), MOST_HEARD)).round().astype(int)]
    with TURNS:
        content = medium.join(spot.space.items(few))
    st.audio(content, medium.mime)
    st.caption(
        f"The way to hear: {len(few)} of its moments, each going over into the next. Films in files have no sound."
    )
    save(
        f"Way ({medium.suffix[1:].upper()})",
        content,
        f"{name}{medium.suffix}",
        key="latent.film.sound",
        mime=medium.mime,
        help="One sound, of 16 bits.",
    )


def numbers(text: str) -> list[int]:
    """Reads the numbers of images.

    Raises:
        UserError: If they are not 2 to 24 whole numbers.
    """
    numerals = text.replace(",", " ").split()
    fits = all(numeral.isdecimal() and len(numeral) < 10 for numeral in numerals)
    if not 2 <= len(numerals) <= MOST_KEYS or not fits:
        raise UserError(
            f"The images must be 2 to {MOST_KEYS} whole numbers, got {text!r}. For example 0 1 2 3."
        )
    return [int(numeral) for numeral in numerals]

"""Writing: a beginning, what the model goes on with, and how much each byte surprises it."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import streamlit as st

from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import TURNS, Spot

LENGTHS = (50, 1000)  # bytes that are written
SCALE = 4.0  # nats from which a byte has the full colour
WAYS = {"write": "Write on", "read": "Read yours"}
_NAMES = {10: "↵", 32: "␣", 9: "⇥", 0: "end"}


def fits(opened: Any) -> bool:
    """Tells whether a model writes texts."""
    from core.latent import writing

    return writing.writes(opened)


def draw(spot: Spot) -> None:
    """Draws the prompt, and beside it what the model writes or how it reads it."""
    from core.latent import writing

    way = shell.view("What to do with it", "latent.write.way", WAYS, label_visibility="collapsed")
    left, right = st.columns([1, 2], gap="medium")
    with left:
        text = st.text_area(  # the same in both ways, so that it stays when the way changes
            "Your text",
            key="latent.write.prompt",
            max_chars=2000,
            height=120,
            bind="query-params",
            placeholder="How a text begins",
            help="Write on: the model goes on from here, or begins by itself; the same seed and settings give the same "
            "text. Read yours: how likely the model holds it, byte by byte.",
        )
        if way == "write":
            length = st.slider(
                "Bytes",
                *LENGTHS,
                200,
                50,
                key="latent.write.length",
                bind="query-params",
                help="At most; it stops where it ends the text.",
            )
            number = st.number_input(
                "Text",
                0,
                9999,
                0,
                key="latent.write.id",
                bind="query-params",
                help="Another text of the same seed, by its number.",
            )
        st.caption(
            "Freedom (temperature), the likeliest share (top-p), the class and the seed are chosen on the right."
        )
    with right:
        if way == "write":
            written = _written(spot, text, length, int(number))
            _judged(spot, *writing.judged(text, written), prompt=text)
            st.caption(
                "Of its own writing this is no proof: it chose these bytes itself. *Read yours* is one."
            )
        elif text:
            _judged(spot, writing.data_of(text))
        else:
            st.caption(
                "Type a text: it is coloured here by how much each byte surprises the model."
            )


def _written(spot: Spot, prompt: str, length: int, number: int) -> bytes:
    """Writes the text, letter by letter the first time, and keeps it for reruns."""
    from core.latent import writing

    key = (spot.checkpoint, spot.choice, prompt, length, number)
    kept = st.session_state.get("latent.write.kept")
    if kept is not None and kept[0] == key:
        st.html(_block(prompt, kept[1].decode("utf-8", "replace")))
        st.caption(kept[2])
        return kept[1]
    place, note = st.empty(), st.empty()
    began, first, told, said, data = time.perf_counter(), 0.0, 0.0, "", bytearray()
    with TURNS:
        for part in writing.decoded(writing.kept(_bytes(spot, prompt, length, number), data)):
            said, now = said + part, time.perf_counter()
            first = first or now - began
            if now - told > 0.1:
                told = now
                place.html(_block(prompt, said))
    took = time.perf_counter() - began
    place.html(_block(prompt, said))
    line = f"{len(data):,} bytes in {took:.1f} s on this server; the first after {1000 * first:.0f} ms."
    note.caption(line)
    st.session_state["latent.write.kept"] = (key, bytes(data), line)
    return bytes(data)


def _bytes(spot: Spot, prompt: str, length: int, number: int) -> Iterator[int]:
    from core.latent import writing

    return writing.write(
        spot.opened,
        prompt,
        spot.sampling,
        length=length,
        seed=spot.choice.seed,
        id=number,
        label=spot.choice.label,
    )


def _block(prompt: str, said: str) -> str:
    return (
        '<pre class="text-read" tabindex="0" aria-label="What the model writes">'
        f"<b>{html.escape(prompt)}</b>{html.escape(said)}</pre>"
    )


def _judged(spot: Spot, data: bytes, begin: int = 0, prompt: str = "") -> None:
    """Shows the bytes of a text in the colour of their surprise, with what might have stood there."""
    from core.latent import writing

    if len(data) <= begin:
        return
    found = writing.read(spot.opened, data, spot.dataset, label=spot.choice.label, begin=begin)
    st.html(coloured(found, prompt))
    told = found.record()
    less = told["nats_per_byte"] - told["counts_nats_per_byte"]
    marked = told["copied_bytes"]
    st.caption(
        f"**{told['nats_per_byte']:.2f} nats per byte** to the model, {told['counts_nats_per_byte']:.2f} to a table of "
        f"counts of its training texts, which has no network ({'less' if less < 0 else 'more'} by {abs(less):.2f}). "
        f"The darker, the more surprising; point at a sign to see what else might stand there.  \n"
        f"The longest run that the training texts hold, too, has {told['longest_copied_run']} bytes; in 95 of 100 "
        f"places of unseen texts it has at most {found.usual}. "
        + (
            f"{marked} bytes in longer ones are underlined."
            if marked
            else "No longer one is in it."
        )
        + (
            ""
            if found.share == 1
            else f" {percent(found.share, 0)} of the training texts were looked at."
        )
    )
    with st.expander("Byte by byte", icon=":material/table_rows:"):
        _table(found)


def coloured(found: Any, prompt: str = "") -> str:
    """Writes a text as HTML: each letter coloured by its surprise, copied runs underlined."""
    parts = [f"<b>{html.escape(prompt)}</b>"]
    marked = found.marked
    at = 0
    for letter in found.data.decode("utf-8", "surrogateescape"):  # what is no letter stays a byte
        size = len(letter.encode("utf-8", "surrogateescape"))
        if "\udc80" <= letter <= "\udcff":
            letter = "�"
        here = slice(at, at + size)
        nats = float(np.sum(found.nats[here]))
        share = round(100 * min(1.0, nats / SCALE))
        others = ", ".join(f"{named(code)} {100 * p:.0f} %" for code, p in found.others[at])
        style = f"background:color-mix(in srgb, var(--surprise) {share}%, transparent)"
        kind = ' class="copied"' if marked[here].any() else ""
        title = html.escape(f"{nats:.2f} nats; likeliest: {others}", quote=True)
        parts.append(f'<span{kind} style="{style}" title="{title}">{html.escape(letter)}</span>')
        at += size
    return f'<pre class="text-read" tabindex="0" aria-label="The text by surprise">{"".join(parts)}</pre>'


def named(code: int) -> str:
    """Writes a byte so that it can be read."""
    return _NAMES.get(code) or (chr(code) if 32 < code < 127 else f"0x{code:02x}")


def _table(found: Any) -> None:
    import pandas as pd

    rows = [
        {
            "byte": named(code),
            "nats": round(float(nats), 3),
            "by counts": round(float(counted), 3),
            "likeliest instead": ", ".join(f"{named(c)} {100 * p:.0f} %" for c, p in others[:3]),
            "copied run": copied,
        }
        for code, nats, counted, others, copied in zip(
            found.data, found.nats, found.counted, found.others, found.copied, strict=True
        )
    ]
    st.dataframe(
        show.named(pd.DataFrame(rows), "byte", "likeliest instead"),
        height=240,
        key="latent.write.table",
        alt="Each byte with its surprise and what else might stand there",
    )

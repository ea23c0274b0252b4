"""Which plane is shown and where on it: in the address, in the session, and inside every saved picture."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from core.ground.writing import duration
from pages.parts import form, pad, shell
from pages.parts.component import numbers, told
from pages.parts.latent import LIMIT, Choice, Spot, costly, land, moments, save, through

FIELDS = {  # the controls of each kind of plane, after "latent."
    "principal": ("across", "down"),
    "anchors": ("a", "b", "c"),
    "labels": ("from", "to"),
    "coordinates": ("i", "j"),
    "prompts": ("other",),
}
# one of these in a link, and no plane: it was made when all models began with their main directions
PLACED = (
    *("latent.plane", "latent.class", "latent.image", "latent.across", "latent.down", "at"),
    *("latent.seed", "latent.step", "latent.tool"),
)
DIGITS = 4  # decimals of a position; the pad rounds to as many
LARGEST = 8_000_000  # bytes of a picture dropped on the pad


# --- The plane --------------------------------------------------------------------------------------------------------


def plane(choice: Choice, opened: runs.Opened) -> Choice:
    """Draws the controls of the plane and completes the choice."""
    from core import latent
    from core.models import Prompts

    assert opened.sampling is not None
    space = latent.open_space(opened, opened.sampling.of(dict(choice.sampling), "sampling"))
    usual = space if isinstance(opened.model, Prompts) else latent.open_space(opened)
    named = axes(opened.run)
    left_out = {
        "labels": space.classes < 2 or space.prompted,
        "directions": not named,
        "prompts": not space.prompted,
    }
    kinds = [kind for kind in latent.PLANES if not left_out.get(kind)]
    begin(usual, opened)
    kind = st.selectbox(
        "Plane to drag on",
        kinds,
        key="latent.plane",
        bind="query-params",
        format_func=lambda kind: latent.PLANES[kind],
        help="Which two directions of the latent space the pad shows.",
    )
    st.session_state["latent.plane.now"] = kind
    which = _which(kind, space, opened, named)
    st.session_state["latent.costly"] = latent.costly(usual)
    if wanted := costly.needed(kind, named):
        meanwhile = "Until then the pad shows two numbers of the latent."
        if not costly.ready(usual, wanted, "latent.find", meanwhile):
            kind, which = "coordinates", (0, min(1, space.latent - 1))
    elif st.session_state["latent.costly"]:
        st.caption(
            f"Its main directions would take about {duration(latent.foretold(usual))} to find here; another plane "
            "asks before it looks for them."
        )
    landed = st.session_state.get("latent.landed")
    if landed is not None and (landed["run"] != opened.run or len(landed["point"]) != space.dim):
        landed = None  # it belongs to another model
    origin = 0
    if landed is not None and kind != "anchors":
        st.caption(
            f"In the middle: **{shell.plain(landed['name'])}**. A link does not hold it; a saved image does."
        )
        st.button(
            "Back to the images of the seed",
            key="latent.leave",
            icon=":material/undo:",
            on_click=lambda: st.session_state.pop("latent.landed", None),
        )
    elif kind != "anchors":
        origin = form.whole(
            "Image in the middle", "latent.image", 0, "The number of an image of the seed."
        )
    return replace(
        choice,
        kind=kind,
        which=which,
        origin=origin,
        landed=tuple(landed["point"]) if landed is not None and kind != "anchors" else None,
    )


def begin(space: Any, opened: runs.Opened) -> None:
    """Lets a model begin with the plane that suits it, unless the visitor or a link has chosen one.

    It is written into the address, where no plane means the main directions, as it always has.
    """
    from core import latent

    state, first = st.session_state, latent.first_plane(space)
    before = state.get("latent.plane.first")
    now = state.get("latent.plane", state.get("latent.plane.now"))
    untouched = now == before if before else not any(name in st.query_params for name in PLACED)
    state["latent.plane.first"] = first
    if not untouched or first == (now or "principal"):
        return
    values: dict[str, Any] = {"latent.plane": first}
    words = {"latent.plane": latent.PLANES[first]}
    if first == "labels":
        for name, label in zip(("latent.from", "latent.to"), latent.contrast(space), strict=True):
            values[name], words[name] = label, opened.classes[label]
    state.update(values)
    if not before:  # Streamlit writes no value that a control begins with
        st.query_params.update(words)


def classed() -> None:
    """Shows the class that was chosen on the pad, too; call it from a callback."""
    if (
        st.session_state.get("latent.class") is not None
        and st.session_state.get("latent.plane") == "labels"
    ):
        st.session_state["latent.plane"] = through()


def axes(run: str) -> tuple[str, ...]:
    """Names the two directions that were made axes of a run's pad, from the session or the address; else empty."""
    axes = st.session_state.get("latent.axes")
    if axes is not None:
        return tuple(axes["names"]) if axes["run"] == run else ()
    names = st.query_params.get("axes", "")[:400].split("|")
    return tuple(names) if len(names) == 2 and all(names) else ()


def take_axes(run: str, names: list[str]) -> None:
    """Makes two directions the axes of a run's pad."""
    st.session_state["latent.axes"] = {"run": run, "names": names}
    st.query_params["axes"] = "|".join(names)


def _which(
    kind: str, space: Any, opened: runs.Opened, named: tuple[str, ...]
) -> tuple[int | str, ...]:
    """Draws the controls of one kind of plane."""
    if kind == "directions":
        return named
    if kind == "anchors":
        return tuple(
            form.whole(
                name,
                f"latent.{name.lower()}",
                number,
                f"Image {name}, a corner.",
                column,
                called=f"Image {name}",
            )
            for number, (name, column) in enumerate(zip("ABC", st.columns(3), strict=True))
        )
    if kind == "labels":  # one below the other: there is room for a name
        options = range(len(opened.classes))
        return (
            _pick(st, "From class", "latent.from", options, 0, opened.classes),
            _pick(st, "To class", "latent.to", options, 1, opened.classes),
        )
    if kind == "prompts":
        other = "The number of an image of the seed, which a step down leads to."
        return (form.whole("Other image", "latent.other", 1, other),)
    left, right = st.columns(2)
    if kind == "coordinates":
        last = space.latent - 1
        return (
            form.whole("Across", "latent.i", 0, "A latent dimension.", left, last),
            form.whole("Down", "latent.j", min(1, last), "A latent dimension.", right, last),
        )
    count = min(6, space.latent)
    names = [str(number + 1) for number in range(count)]
    return (
        _pick(left, "Across", "latent.across", range(count), 0, names),
        _pick(right, "Down", "latent.down", range(count), min(1, count - 1), names),
    )


def _pick(column: Any, label: str, key: str, options: Any, start: int, names: Any) -> int:
    chosen = column.selectbox(
        label, options, index=start, key=key, bind="query-params", format_func=lambda i: names[i]
    )
    return start if chosen is None else int(chosen)


# --- The position -----------------------------------------------------------------------------------------------------


def arrival(choice: Choice) -> tuple[pad.View, int]:
    """Says where a new plane begins, and how often the address or a picture has sent the pad there.

    Going back in the browser goes back on the pad. Another checkpoint or seed keeps the position, to compare.
    """
    state = st.session_state
    written, known = st.query_params.get("at", ""), state.get("latent.wrote", "")
    if written != known:
        state["latent.wrote"] = written
        view = read(written, st.query_params.get("pins", ""))
        if view is not None:
            state["latent.went"] = state.get("latent.went", 0) + 1
            state["latent.was"] = {"kind": choice.kind, "view": view}
    was = state.get("latent.was")
    start = was["view"] if was and was["kind"] == choice.kind else choice.start
    return start, state.get("latent.went", 0)


def remember(choice: Choice, view: pad.View) -> None:
    """Keeps the position, in the address too once the pointer rests."""
    st.session_state["latent.was"] = {
        "kind": choice.kind,
        "view": replace(view, number=0, rest=True, has="", walks=False),
    }
    first = st.session_state.get("latent.plane.first", choice.kind)
    unsaid = choice.kind != first and not any(name in st.query_params for name in PLACED)
    if view.rest and (view.number or unsaid):
        at, pins = write(view)
        if at != st.query_params.get("at"):
            st.query_params["at"] = st.session_state["latent.wrote"] = at
        if pins != st.query_params.get("pins", ""):
            if pins:
                st.query_params["pins"] = pins
            else:
                del st.query_params["pins"]


def write(view: pad.View) -> tuple[str, str]:
    """Writes position and window, and the pins, as they stand in the address."""
    return "_".join(map(_short, (*view.at, *view.window))), "_".join(
        _short(value) for pin in view.pins for value in pin
    )


def read(at: str, pins: str = "") -> pad.View | None:
    """Reads what :func:`write` wrote; None of anything else."""
    values = numbers(_floats(at), 5, 2 * LIMIT)
    if values is None or values[4] <= 0 or max(map(abs, values[:4])) > LIMIT:
        return None
    listed = _floats(pins)[: 2 * pad.PINS]
    pairs = [numbers(listed[i : i + 2], 2, LIMIT) for i in range(0, len(listed) - 1, 2)]
    x, y, *window = values
    return pad.View(
        (x, y),
        (window[0], window[1], window[2]),
        tuple((pin[0], pin[1]) for pin in pairs if pin is not None),
    )


def _short(value: float) -> str:
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".").replace("-0", "0", value == 0)


def _floats(text: str) -> list[float]:
    try:
        return [float(numeral) for numeral in text.split("_")] if text and len(text) < 2000 else []
    except ValueError:
        return []


def marks(spot: Spot) -> list[tuple[str, float, float]]:
    """Names the marked positions of the plane."""
    if spot.choice.kind == "anchors":
        return [("A", 0, 0), ("B", 1, 0), ("C", 0, 1)]
    if spot.choice.kind == "labels":
        first, second = (spot.opened.classes[int(i)] for i in spot.choice.which)
        return [(first[:14], -1, 0), (second[:14], 1, 0)]
    if spot.choice.kind == "prompts":
        first, second = (text or "no text" for text in spot.opened.model.texts(spot.sampling))
        return [(first[:14], -1, 0), (second[:14], 1, 0)]
    if spot.choice.kind == "directions":
        across, down = spot.plane.names
        return [(f"{across[:16]} →", 1.4, 0), *([(f"{down[:16]} ↓", 0, 1.4)] if down else [])]
    if spot.choice.landed is not None:
        return [("here", 0, 0)]
    return [(f"image {spot.choice.origin}", 0, 0)]


# --- Saving a view, and restoring it ----------------------------------------------------------------------------------


def below(spot: Spot) -> None:
    """Draws what can be done with the point under the ring."""
    choice, view = spot.choice, spot.view
    with st.container(horizontal=True):
        save(
            "Save image",
            lambda: picture(spot),
            f"{spot.checkpoint.run}-{spot.checkpoint.step}.png",
            key="latent.save.image",
            help="PNG with run, plane and position inside: drop it on the pad to restore the view.",
        )
        st.button(
            "Begin a plane here",
            key="latent.centre",
            icon=":material/filter_center_focus:",
            on_click=lambda: land(spot, spot.point, "a point that you chose"),
            disabled=choice.kind == "anchors",
            help="The plane then goes through this image, so that its other directions can be tried.",
        )
        newest = runs.checkpoints(spot.run)[-1:]
        at = spot.checkpoint
        if at.follows and spot.run.active and newest and newest[0] != at.step:
            st.button(
                f"Step {newest[0]:,} is there: take it",
                key="latent.newest",
                icon=":material/update:",
                on_click=lambda: st.rerun("latent.explore"),
            )
    if view.pins:
        st.caption(f"{len(view.pins)} pinned: the Film tool leads through them.")


def picture(spot: Spot) -> bytes:
    """Writes the exact image with its view inside."""
    from core import latent

    choice, view = spot.choice, spot.view
    at, pins = write(view)
    page: dict[str, Any] = {"at": at, "origin": choice.origin}
    if len(pins) <= 200:
        page["pins"] = pins
    if choice.landed is not None:
        page["landed"] = True
    saved = latent.SavedView.of(
        {
            **spot.metadata(),
            "plane": choice.kind,
            "choice": dict(zip("abc", choice.which, strict=False)),
            "x": view.at[0],
            "y": view.at[1],
            "span": view.window[2] / 2,
            "page": page,
        },
        spot.origin,
    )
    return latent.write_view(spot.space.image(spot.point), saved)


def stay(spot: Spot) -> None:
    """Lets the pad begin at the moment of the walk that the visitor held; call it from a callback."""
    told_of = told(st.session_state.get("latent.pad"), "stayed")
    at, share = numbers(told_of.get("at"), 2, LIMIT), numbers([told_of.get("share")], 1, 1)
    if at is None or share is None or told_of.get("plane") != spot.key:
        return
    points = moments(Spot(spot.checkpoint, spot.choice, replace(spot.view, at=(at[0], at[1]))))
    land(spot, points[round(share[0] * len(points)) % len(points)], "a moment of the walk")


def recall(run: jobs.Job) -> None:
    """Offers to restore a view from a file, for those who cannot drop it on the pad."""
    with st.popover("Restore a view", icon=":material/settings_backup_restore:"):
        st.file_uploader(
            "A PNG that was saved here",
            type=["png"],
            key="latent.restore",
            max_upload_size=LARGEST // 1_000_000,
            on_change=_uploaded,
            help="Its run, plane and position are restored.",
        )


def _uploaded() -> None:
    file = st.session_state.get("latent.restore")
    if file is not None:
        restore(file.getvalue())


def dropped() -> None:
    """Takes a picture that was dropped on the pad."""
    text = told(st.session_state.get("latent.pad"), "dropped").get("content")
    if not isinstance(text, str) or len(text) > LARGEST * 4 / 3 + 4:
        return
    try:
        restore(base64.b64decode(text, validate=True))
    except binascii.Error:
        return


def restore(content: bytes) -> None:
    """Restores what a saved picture shows, or says why not; call it from a callback."""
    from core import latent

    view, problem = latent.read_view(content)
    if view is None:
        st.session_state["_refused"] = problem
    else:
        shell.attempt(_restore, view)
    st.rerun()


def _restore(view: Any) -> None:
    run = jobs.get(view.run)
    opened = runs.open_model(run, view.step)
    assert opened.sampling is not None
    sampling = opened.sampling.of(view.sampling, "sampling").record()
    if view.label is not None and view.label >= len(opened.classes):
        raise UserError(
            f"The picture names class {view.label}, and {run.name} has {len(opened.classes)}. "
            "It was saved from another run of that name."
        )
    position = read(str(view.page.get("at", "")), str(view.page.get("pins", "")))
    which = [view.choice[name] for name in "abc" if name in view.choice]
    names = FIELDS.get(view.plane, ())
    if position is None or (view.plane != "directions" and len(which) != len(names)):
        raise UserError(
            "The picture does not say which position it shows. Take one that was saved on this page."
        )
    state: dict[str, Any] = {
        "run": run.id,
        "latent.step": view.step,
        "latent.seed": view.seed,
        "latent.plane": view.plane,
        "latent.image": int(view.page.get("origin", 0)),
        **{f"latent.{opened.family}.{name}": value for name, value in sampling.items()},
        **{f"latent.{name}": int(i) for name, i in zip(names, which, strict=False)},
    }
    if opened.classes:
        state["latent.class"] = view.label
    if view.plane == "directions":
        take_axes(run.id, list(map(str, which)))
    st.session_state.pop("latent.landed", None)
    if view.page.get("landed") and view.numbers is not None:
        point = [float(value) for value in view.numbers]
        state["latent.landed"] = {"run": run.id, "point": point, "name": "a restored point"}
    st.session_state.update(state)
    at, pins = write(position)
    for name in ("latent.wrote", "latent.plane.first"):
        st.session_state.pop(name, None)
    st.query_params["at"] = at
    if pins:
        st.query_params["pins"] = pins
    st.session_state["_done"] = f"Restored the view of {run.name} at step {view.step}."

"""Turns a picture, or several held-out ones, into another kind, and says what came of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from core.ground import sheets, xmp
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import Spot, directions, land, picture, save

SEVERAL = 8  # held-out images at once
SEARCHED = 3  # where each has to be looked for, which takes seconds
MEASURED = 100  # of a comparison
WAYS = {"model": "The model", "colours": "Colours alone"}


@dataclass(frozen=True)
class Wish:
    """What a visitor wants to be changed.

    Attributes:
        aspect: What about the picture.
        source: What it is; empty where that is read off.
        target: What it becomes.
        strength: How far to go.
        masked: Whether what both kinds have in common stays.
        colours: Whether colours alone are changed, without the model.
    """

    aspect: Any
    source: str
    target: str
    strength: float
    masked: bool
    colours: bool


def draw(spot: Spot) -> None:
    """Asks what is to become what, and shows it."""
    from core import latent

    if latent.mixable(spot.space) and asked_for_mix():
        mix(spot)
        return
    offered = latent.changeable(spot.space, spot.dataset)
    if not offered:
        st.caption(latent.why_not(spot.space))
        return
    asked, result = st.columns([1.4, 1.6], gap="medium")
    with asked:
        wish = wanted(spot, offered)
        many = st.segmented_control(
            "Which",
            ["one", "several"],
            default="one",
            key="latent.several",
            required=True,
            bind="query-params",
            format_func={"one": "One picture", "several": "Held-out ones"}.__getitem__,
            label_visibility="collapsed",
        )
        taken = picture.take(spot, "latent.turn", pad=True) if many == "one" else None
    with result:
        shown = st.container()
        reading = directions.reader_of(spot)  # its button stands below the pictures
        with shown:
            if reading is None and not spot.space.encodes:
                st.caption(
                    "This model does not encode: what its samples show has to be read off them."
                )
            elif many == "several":
                several(spot, wish, reading)
            elif taken is None:
                st.caption(
                    "Draw, upload or choose a picture: it becomes another kind, and the rest stays."
                )
            else:
                one(spot, wish, reading, taken)
    if between(spot, wish.aspect):
        compare(spot, wish, reading)


def asked_for_mix() -> bool:
    """Asks what to do with a model in which the look of one sample can be given to another."""
    what = st.segmented_control(
        "What to do",
        ["kind", "mix"],
        default="kind",
        key="latent.mix",
        required=True,
        bind="query-params",
        format_func={
            "kind": "Into another kind",
            "mix": "Shape of one, look of another",
        }.__getitem__,
        label_visibility="collapsed",
    )
    return what == "mix"


def mix(spot: Spot) -> None:
    """Gives the picture under the ring the colours and textures of samples of the seed, from each layer on."""
    from core import latent

    count = latent.mixable(spot.space)
    number = int(
        st.number_input(
            "First of the samples whose look is taken",
            0,
            10_000,
            0,
            key="latent.mix.image",
            bind="query-params",
            help="Numbers of images of the seed, as the Samples tool shows them; four are taken.",
        )
    )
    first = st.select_slider(
        "From layer",
        list(range(1, count + 1)),
        1,
        key="latent.mix.layer",
        bind="query-params",
        help="Layers before it stay as they are: a later one changes finer things only.",
    ) if count > 1 else 1  # fmt: skip
    looks = spot.drawn(list(range(number, number + 4)))
    shapes = spot.point[None].expand(len(looks), -1)
    made = latent.mixed(spot.space, shapes, looks, first - 1)
    own = np.repeat(spot.space.image(spot.point)[None], len(looks), 0)
    rows = [own, spot.space.images(looks), spot.opened.medium.shown(made)]
    show.pictures(
        np.concatenate(rows),
        columns=len(looks),
        key="latent.mixed",
        alt="Rows: the picture under the ring, samples whose look is taken, and what comes of both",
        max_height=300,
        max_zoom=12,
    )
    st.caption(
        "Row 1: the picture under the ring; row 2: samples; row 3: its shape with their colours and textures. This "
        "decoder takes the latent once, so what is exchanged is the mean and the spread of each channel."
    )
    metadata = spot.metadata() | {"looks": list(range(number, number + 4)), "layer": first}
    save(
        "Save",
        lambda: sheets.png(
            np.concatenate(rows), len(looks), metadata, mark=xmp.made_by(spot.run.id)
        ),
        f"{spot.run.id}-mixed.png",
        key="latent.save.mixed",
    )


def joined(spot: Spot) -> bool:
    """Tells whether the model was trained on two sets that were joined as domains."""
    return bool(spot.dataset.imported("domains"))


def wanted(spot: Spot, offered: Any) -> Wish:
    """Draws the controls."""
    name = next(iter(offered))
    if len(offered) > 1:
        name = st.selectbox(
            "What changes",
            list(offered),
            key="latent.change",
            bind="query-params",
            on_change=forget,
            help="What is known of the images of the dataset: their class, or an attribute.",
        )
    aspect = offered[name]
    begin, end = st.columns(2, gap="small")
    with begin:
        source = st.selectbox(
            "From",
            aspect.terms,
            index=None,
            key="latent.kind.from",
            bind="query-params",
            placeholder="Read off",
            help="What the picture is now; left open, it is read off the picture.",
        )
    with end:
        target = st.selectbox(
            "To",
            aspect.terms,
            index=1,
            key="latent.kind.to",
            bind="query-params",
            help="What it is to become.",
        )
    masked, colours = False, False
    if between(spot, aspect):
        colours = by_colours(spot, aspect, source, target)
    strength = st.slider(
        "Strength",
        0.1,
        2.0,
        1.0,
        0.1,
        key="latent.strength",
        bind="query-params",
        disabled=colours,
        help="How far the model goes: 1 is the usual way, less changes less.",
    )
    if spot.space.slow and not joined(spot):
        masked = st.toggle(
            "Keep what both have in common",
            value=True,
            key="latent.masked",
            bind="query-params",
            help="Only pixels change in which the model sees a difference between both kinds.",
        )
    return Wish(aspect, source or "", target or aspect.terms[1], strength, masked, colours)


def between(spot: Spot, aspect: Any) -> bool:
    """Tells whether what changes is the set that a picture belongs to."""
    from core.latent.translation import CLASS

    return joined(spot) and aspect.name == CLASS


def forget() -> None:
    """Leaves both values open when something else is to change, whose values are others."""
    for key in ("latent.kind.from", "latent.kind.to"):
        st.session_state.pop(key, None)


def by_colours(spot: Spot, aspect: Any, source: str | None, target: str | None) -> bool:
    """Asks which way to take between two sets: what costs nothing, until the model was measured to be better."""
    terms = aspect.terms
    found = stood(spot, *ends(aspect, source, target or terms[1]))
    better = found is not None and found.best == "model"
    way = st.segmented_control(
        "By",
        list(WAYS),
        default="model" if better else "colours",
        key="latent.by",
        required=True,
        bind="query-params",
        format_func=WAYS.__getitem__,
        help="Colours alone gives the pictures the grey levels or colours of the other set, by optimal transport; "
        "no model is needed.",
    )
    if found is None:
        st.caption("What costs nothing comes first, until the model is measured to be better.")
    return way == "colours"


def ends(aspect: Any, source: str | None, target: str) -> tuple[str, str]:
    """Says from what to what it goes, where one end was left open."""
    return source or next(term for term in aspect.terms if term != target), target


# --- One picture ----------------------------------------------------------------------------------------------------


def one(spot: Spot, wish: Wish, reading: Any, taken: picture.Taken) -> None:
    """Turns one picture into another kind, and shows before, after and what changed."""
    from core import latent

    prepared = taken.prepared()
    source = wish.source or read_off(spot, wish, reading, prepared, taken.label)
    if not source:
        st.caption("Say what the picture shows (From): the model cannot tell it.")
        return
    if source == wish.target:
        st.caption(shell.plain(f"The picture is {source} already. Choose another kind (To)."))
        return
    rows = row_of(spot, prepared)
    done = translated(spot, wish, source, reading, prepared.seen, rows, taken.digest)
    tiles = {"before": prepared.picture, "after": done["images"][0]}
    tiles["what changed"] = latent.difference(tiles["before"], tiles["after"])
    if done["mask"] is not None:
        mask = np.repeat(done["mask"][0], len(tiles["before"]), 0)
        tiles["where it may"] = mask
    if (real := truth(spot, wish, rows)) is not None:
        tiles["the same one, drawn"] = real[0]
    show.pictures(
        np.stack(list(tiles.values())),
        columns=len(tiles),
        key="latent.translated",
        alt=", ".join(tiles),
        titles=list(tiles),
        max_height=190,
        max_zoom=20,
    )
    st.caption(
        shell.plain(
            f"{' · '.join(tiles)}. From {source} to {wish.target} in {done['seconds']:.1f} s."
        )
    )
    for note in prepared.notes:
        st.caption(shell.plain(note))
    if reading is not None:
        say(spot, wish, reading, prepared.seen, done["x"])
    with st.container(horizontal=True):
        st.button(
            "Go there on the pad",
            key="latent.translated.land",
            type="primary",
            icon=":material/my_location:",
            on_click=go,
            args=(spot, wish, done, taken.name),
        )
        offer(spot, wish, source, list(tiles.values()), len(tiles))


def go(spot: Spot, wish: Wish, done: dict[str, Any], name: str) -> None:
    """Lets the pad begin where the new picture is, which is looked for if nobody knows the place."""
    import torch

    from core import latent
    from core.latent.translation import CLASS

    point = done["point"]
    if point is None:
        label = None
        if wish.aspect.name == CLASS and spot.space.classes:
            label = wish.aspect.index(wish.target)
        *_, last = latent.find(spot.space, torch.as_tensor(done["x"]), label)
        point = [float(value) for value in last.point]
    land(spot, point, f"{name} as {wish.target}")


def read_off(spot: Spot, wish: Wish, reading: Any, prepared: Any, label: int | None) -> str:
    """Tells what a picture shows: by the dataset, by a reader, or by its nearest images; empty if nothing tells."""
    from core import latent
    from core.latent.translation import CLASS

    terms = wish.aspect.terms
    place = -1
    if wish.aspect.name == CLASS and label is not None:
        place = label
    elif reading is not None:
        place = int(wish.aspect.met(reading.read(prepared.seen).cpu().numpy())[0])
    elif wish.aspect.name == CLASS:
        guessed = latent.guess(spot.dataset, prepared.seen)
        place = -1 if guessed is None else int(guessed[0])
    if place < 0 and wish.aspect.edges:  # neither low nor high
        return next(term for term in terms if term != wish.target)
    return "" if place < 0 else terms[place]


def row_of(spot: Spot, prepared: Any) -> np.ndarray | None:
    """Gives the row (1,) of a held-out item that is shown; None for what is no item of the dataset."""
    index = st.session_state.get("latent.index")
    held_out = spot.dataset.splits["test"]
    if st.session_state.get("latent.turn") != "dataset" or not isinstance(index, int):
        return None
    return held_out[[index]] if 0 <= index < len(held_out) else None


# --- Several --------------------------------------------------------------------------------------------------------


def several(spot: Spot, wish: Wish, reading: Any) -> None:
    """Turns held-out images into another kind, in rows of before, after and, where it is known, the truth."""
    from core import latent

    source, _ = ends(wish.aspect, wish.source, wish.target)
    if source == wish.target:
        st.caption("From and to are the same. Choose two different values.")
        return
    count = SEVERAL if spot.space.encodes else SEARCHED
    rows = latent.examples(spot.dataset, wish.aspect, source, count)
    x = spot.dataset.images(rows)
    done = translated(spot, wish, source, reading, x, rows, rows.tobytes())
    parts = {"before": spot.dataset.pictures(rows), "after": done["images"]}
    if (real := truth(spot, wish, rows)) is not None:
        parts["the same ones, drawn"] = real
    show.pictures(
        np.concatenate(list(parts.values())),
        columns=len(rows),
        key="latent.translated",
        alt=f"{len(rows)} held-out images, in rows: {', '.join(parts)}",
        titles=[f"{part}, image {row}" for part in parts for row in rows],
        max_height=320,
        max_zoom=12,
    )
    rows_said = "; ".join(f"row {place}: {part}" for place, part in enumerate(parts, 1))
    st.caption(
        shell.plain(
            f"{len(rows)} held-out images, {rows_said}. From {source} to {wish.target} in {done['seconds']:.1f} s."
        )
    )
    if reading is not None:
        say(spot, wish, reading, x, done["x"])
    with st.container(horizontal=True):
        offer(spot, wish, source, list(np.concatenate(list(parts.values()))), len(rows))


# --- Both -----------------------------------------------------------------------------------------------------------


def translated(
    spot: Spot, wish: Wish, source: str, reading: Any, x: Any, rows: Any, content: bytes
) -> dict[str, Any]:
    """Translates, once for as long as nothing is changed; gives plain numbers, for the session."""
    from core import latent

    seed = spot.choice.seed
    known = (
        spot.checkpoint.run, spot.checkpoint.step, spot.choice.sampling, seed, wish.aspect.name, source,
        wish.target, wish.strength, wish.masked, wish.colours,
    )  # fmt: skip
    key = hashlib.sha256(content + repr(known).encode()).hexdigest()
    result = st.session_state.get("latent.turned")
    if result is not None and result["key"] == key:
        return result
    medium = spot.dataset.medium
    bar = show.Bar("Translating")
    if wish.colours:
        images, mask, points, seconds = (
            latent.colours(spot.dataset, wish.aspect, source, wish.target, x), None, None, 0.0,
        )  # fmt: skip
    else:
        done = latent.translate(
            spot.space, spot.dataset, x, source, wish.target,
            strength=wish.strength, masked=wish.masked, reading=reading,
            ids=None if rows is None else rows.tolist(), seed=seed, watch=bar,
        )  # fmt: skip
        images, points, seconds = done.images, done.points, done.seconds
        mask = (done.mask.cpu().numpy() * 255).astype(np.uint8) if wish.masked else None
    bar.close()
    result = {
        "key": key,
        "x": images.cpu().numpy(),
        "images": medium.shown(images),
        "mask": mask,
        "point": None if points is None else [float(value) for value in points[0]],
        "seconds": seconds,
    }
    st.session_state["latent.turned"] = result
    return result


def truth(spot: Spot, wish: Wish, rows: np.ndarray | None) -> np.ndarray | None:
    """Draws what held-out items would really be; None where nobody knows."""
    from core import latent

    return None if rows is None else latent.truth(spot.dataset, rows, wish.aspect, wish.target)


def say(spot: Spot, wish: Wish, reading: Any, before: Any, after: np.ndarray) -> None:
    """Says what a reader of images sees in what came out, and what else has changed."""
    import torch

    from core import latent

    seen = latent.judged(
        spot.dataset, reading, wish.aspect, wish.target, before, torch.as_tensor(after)
    )
    n = seen.reached.n
    sure = "" if wish.aspect.edges else f", right on {percent(seen.accuracy)} of held-out images,"
    if n == 1:
        takes = "takes it" if seen.reached.value else "does not take it"
        said = f"A reader of images{sure} {takes} for {wish.target}."
        lost = [name for name, share in seen.kept.items() if not share.value]
        said += (
            f" It sees another {', '.join(lost[:3])} than before." if lost
            else " All else that it reads is as before." if seen.kept else ""
        )  # fmt: skip
    else:
        said = f"A reader of images{sure} takes {round(seen.reached.value * n)} of {n} for {wish.target}."
        if seen.least is not None:
            name, least = seen.least
            said += (
                " All else that it reads is as before in all of them." if least.value == 1
                else f" Kept least: {name}, as before in {round(least.value * n)} of {n}."
            )  # fmt: skip
    st.markdown(shell.plain(said))


def offer(spot: Spot, wish: Wish, source: str, x: list[Any], columns: int) -> None:
    """Offers what is shown as a file."""
    metadata = spot.metadata() | {"from": source, "to": wish.target, "strength": wish.strength}
    save(
        "Save",
        lambda: sheets.png(np.stack(x), columns, metadata, mark=xmp.partly_by(spot.run.id)),
        f"{spot.run.id}-translated.png",
        key="latent.save.translated",
    )


# --- Between two sets -----------------------------------------------------------------------------------------------


def compare(spot: Spot, wish: Wish, reading: Any) -> None:
    """Says whether the model translates between two sets better than what costs nothing, measured when asked for."""
    from core import latent

    source, target = ends(wish.aspect, wish.source, wish.target)
    found = stood(spot, source, target)
    if source == target or (found is None and reading is None):
        return
    if found is None:
        if not st.button(
            f"Measure the model against colours alone on {MEASURED} held-out images",
            key="latent.compare",
            icon=":material/balance:",
            help="At strength 1. A reader of images says how many become the other kind and keep their content; about "
            "a minute.",
        ):
            return
        bar = show.Bar("Measuring")
        found = latent.standings(
            spot.space, spot.dataset, source, target, reading,
            count=MEASURED, masked=False, seed=spot.choice.seed, watch=bar,
        )  # fmt: skip
        bar.close()
        st.session_state["latent.compared"] = (asked(spot, source, target), found)
        st.session_state["latent.next"] = {"latent.by": found.best}  # what is better is taken
        st.rerun()
    (st.success if found.best == "model" else st.warning)(shell.plain(found.sentence))
    st.table(
        {
            "": [latent.TRANSLATIONS[way.method] for way in found.ways],
            f"taken for {shell.plain(target)}": [
                percent(way.reached.value, 0) for way in found.ways
            ],
            "content kept": [
                percent(way.kept.value if way.kept else None, 0) for way in found.ways
            ],
            "both": [percent(way.both.value, 0) for way in found.ways],
            "distance (real: 1)": [f"{way.distance:.1f}" for way in found.ways],
        }
    )


def asked(spot: Spot, source: str, target: str) -> str:
    """Names what is compared."""
    run, step = spot.checkpoint.run, spot.checkpoint.step
    return f"{run} {step} {spot.choice.sampling} {spot.choice.seed} {source} {target}"


def stood(spot: Spot, source: str, target: str) -> Any:
    """Gives what was measured of the ways between two sets, also where nothing may be kept; else None."""
    from core import latent

    key, found = st.session_state.get("latent.compared", ("", None))
    if key == asked(spot, source, target):
        return found
    return latent.measured(
        spot.space, spot.dataset, source, target,
        count=MEASURED, masked=False, seed=spot.choice.seed,
    )  # fmt: skip

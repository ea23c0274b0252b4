"""Repair: mark what is not to be trusted of a picture, and see what the model thinks could have been there."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from core.catalog import UserError
from core.ground import sheets, xmp
from core.ground.writing import duration
from pages.parts import form, shell, show
from pages.parts.canvas import WIDEST, hole
from pages.parts.latent import TURNS, Spot, land, picture, save
from pages.parts.latent.filling import Turns, fills, most

FILLS = (4, 8, 16, 32)
WAYS = {"hole": "A hole", "beyond": "Beyond its edge", "larger": "Larger"}
LOOKED = 20_000  # training images among which the nearest is looked for
# by the rows of ``benchmarks/repair.py`` in docs/evidence.md
WORTH = (
    "Measured on held-out digits with the VAE and the diffusion model that ship (a GAN and a VQ-VAE are no better here "
    "than a linear model): the mean of four fills misses a hidden "
    "middle by 0.6 and 0.7 of the squared error of a linear model's mean, and the mean of the four most similar "
    "training images by 0.7. So pixels alone do not tell a fill from a copy; the class that it shows and the distance "
    "to training images do."
)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be filled.

    Attributes:
        x: What the model sees of the picture, (1, C, H, W) in [0, 1].
        known: What is known of it; see :class:`core.latent.repair.Known`.
        label: Its class; None lets the model find out.
        fills, seed, method: As :func:`core.latent.repair.fill` takes them.
        key: Identity of all this.
        said: The same in plain values, for files.
    """

    x: Any = field(repr=False)
    known: Any = field(repr=False)
    label: int | None
    fills: int
    seed: int
    method: str
    key: str
    said: dict[str, Any]


def draw(spot: Spot) -> None:
    """Asks what is to be repaired, and shows the fills."""
    from core.latent import repair

    shape, medium = spot.opened.model.spec.shape, spot.opened.medium
    if medium.item != "picture" and medium.model == "picture":
        st.caption(
            f"A hole is marked on pictures, and this model makes {medium.title.lower()}. In Python, "
            "`core.latent.repair.fill` takes a mask of what the model sees of them."
        )
        return
    if len(shape) != 3 or shape[0] not in (1, 3) or max(shape[1:]) > WIDEST:
        large = len(shape) == 3 and shape[0] in (1, 3)
        st.caption(
            f"A hole is marked on pictures of at most {WIDEST} pixels along a side; this model makes "
            f"{shell.plain(spot.opened.medium.describe(1, shape))}. "
            + (
                "`python -m core repair` takes a mask as a file."
                if large
                else "In Python, `core.latent.repair.fill` takes a mask of such items."
            )
        )
        return
    if not (methods := repair.methods(spot.space)):
        repair.method_of(spot.space)  # says why not
    source, result = st.columns([1.5, 1.5], gap="medium")
    with source:
        taken = picture.take(spot, "latent.repair.of", pad=True)
        asked = None if taken is None else ask(spot, taken, methods)
    with result:
        if taken is None or asked is None:
            st.caption(
                "Take a picture, mark a part of it, and the model fills in what could be there, several times: where "
                "the fills agree the rest of the picture says what was there, where they differ nobody can know."
            )
            return
        present(spot, taken, asked, {entry.name: entry.title for entry in methods})


# --- What is asked ----------------------------------------------------------------------------------------------------


def ask(spot: Spot, taken: picture.Taken, methods: list[Any]) -> Asked | None:
    """Asks what is not known of a picture, and how it is to be filled; None where nothing is marked."""
    from core.latent import holes, repair

    prepared = taken.prepared()
    notes = prepared.notes
    way = shell.view("What is not known", "latent.repair.what", WAYS, label_visibility="collapsed")
    x, said = prepared.seen, dict[str, Any]()
    if way == "hole":
        mask = marked(spot, x)
        if not mask.any():
            st.caption("Mark what is to be filled in.")
            return None
        known, said = repair.Known.mask(~mask), {"hole": holes.boxes(mask)}
    elif way == "beyond":
        x, known, said = beyond(spot, prepared)
    else:
        factors = [f for f in repair.FACTORS if not any(side % f for side in x.shape[2:])]
        if not factors:
            raise UserError(
                f"Pictures of {x.shape[2]} × {x.shape[3]} pixels do not consist of blocks of "
                f"{' or '.join(map(str, repair.FACTORS))}. Repair a hole instead."
            )
        factor = st.segmented_control(
            "How much larger",
            factors,
            default=factors[0],
            key="latent.repair.factor",
            required=True,
            bind="query-params",
            format_func=lambda factor: f"× {factor}",
            help="The picture is made smaller by this, and then larger again by the model.",
        )
        factor = factor if factor in factors else factors[0]
        if isinstance(taken.content, bytes):  # a small picture counts pixel by pixel
            x, notes = repair.read_smaller(taken.content, taken.dataset, factor)
        known, said = repair.Known.smaller(factor), {"larger": factor}
        show.pictures(
            spot.opened.medium.shown(known.part(x)),
            columns=1,
            key="latent.repair.small",
            alt="The smaller picture, which is what is known",
            max_height=240,
            max_zoom=30,
        )
    for note in notes:
        st.caption(shell.plain(note))
    return settled(spot, taken, x, known, said, methods)


def settled(
    spot: Spot, taken: picture.Taken, x: Any, known: Any, said: dict[str, Any], methods: list[Any]
) -> Asked:
    """Asks for class, number, method and seed."""
    classes, label = spot.opened.classes, None
    if classes and spot.space.model.classes:
        label = st.selectbox(
            "It shows",
            range(len(classes)),
            index=None,
            key="latent.repair.class",
            bind="query-params",
            format_func=lambda i: classes[i],
            placeholder="Not told: the model finds out",
            help="A class that is told holds for all fills; else each fill may take another.",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at_most = most(tuple(x.shape[1:]), FILLS[-1])
        offered = [count for count in FILLS if count <= at_most] or [1]
        count = st.selectbox(
            "Fills",
            offered,
            index=min(1, len(offered) - 1),
            key="latent.repair.fills",
            bind="query-params",
            width=90,
            help="How many ways to fill it in. Fill number 3 of a seed stays the same, however many are made.",
        )
        seed = form.seed("latent.repair.seed", "fills", width=120)
        names = [entry.name for entry in methods]
        method = st.selectbox(
            "Method",
            names,
            key="latent.repair.method",
            bind="query-params",
            format_func={entry.name: entry.title for entry in methods}.__getitem__,
            width=230,
            help="The first fits this model best. "
            + " ".join(f"{entry.title}: {entry.caption}" for entry in methods),
        )
    method = method or names[0]
    said |= {"of": taken.name, "fills": count, "fill_seed": seed, "method": method}
    said |= {"fill_label": label}
    identity = (
        spot.checkpoint.run,
        spot.checkpoint.step,
        spot.choice.sampling,
        sorted(said.items()),
    )
    mask = b"" if known.pixels is None else known.pixels.numpy().tobytes()
    key = hashlib.sha256(taken.digest + mask + repr(identity).encode()).hexdigest()[:12]
    return Asked(x, known, label, count, seed, method, key, said)


def marked(spot: Spot, x: Any) -> np.ndarray:
    """Lets a person mark the hole, bool (H, W): at first what the address names, else the middle."""
    from core.latent import holes

    size = tuple(x.shape[2:])
    kept, named = st.session_state.get("latent.repair.mask"), st.query_params.get("hole", "")
    if kept is None and named:
        try:
            kept = holes.read(named, size)
        except UserError as error:
            st.session_state["latent.repair.refused"] = str(error)
    if kept is None or kept.shape != size:  # of another model it was another picture's
        kept = np.zeros(size, bool)
        kept[size[0] // 4 : size[0] - size[0] // 4, size[1] // 4 : size[1] - size[1] // 4] = True
    mask = hole(
        spot.opened.medium.shown(x)[0],
        kept,
        key="latent.repair.hole",
        alt="The picture, over which you mark what is to be filled in",
    )
    refused = st.session_state.get("latent.repair.refused")
    if refused is not None and not (mask == kept).all():  # what is marked by hand counts
        refused = st.session_state["latent.repair.refused"] = None
    st.session_state["latent.repair.mask"] = mask
    address = holes.written(mask)
    if refused:
        st.caption(shell.plain(f"{refused} The middle is marked instead."))
    elif not address:
        st.caption(
            f"This hole is too fine for a link, which holds {holes.LONGEST:,} letters of it. Numbers keeps it."
        )
    if named != address:
        if address:
            st.query_params["hole"] = address
        else:
            st.query_params.pop("hole", None)
    return mask


def beyond(spot: Spot, prepared: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Asks how far beyond the picture's edge the model goes on, and shows the frame."""
    from core.latent import holes, repair

    share = st.slider(
        "The picture takes",
        20,
        95,
        60,
        5,
        format="%d %% of the side",
        key="latent.repair.share",
        bind="query-params",
        help="The picture is made smaller; what lies around it is up to the model.",
    )
    place = st.segmented_control(
        "It stands",
        list(holes.PLACES),
        default="middle",
        key="latent.repair.place",
        required=True,
        bind="query-params",
        format_func=str.capitalize,
    )
    x, inside = holes.framed(prepared.item, share / 100, place or "middle")
    medium = prepared.dataset.medium
    x = medium.to_model(medium.stored(x, prepared.dataset.levels))
    show.pictures(
        veiled(medium.shown(x), ~inside.numpy()),
        columns=1,
        key="latent.repair.frame",
        alt="The picture in its frame; what is grey is not known",
        max_height=240,
        max_zoom=30,
    )
    return x, repair.Known.mask(inside), {"share": share / 100, "place": place}


# --- What comes of it -------------------------------------------------------------------------------------------------


def present(spot: Spot, taken: picture.Taken, asked: Asked, titles: dict[str, str]) -> None:
    """Fills it when that is asked for, here or by a link, and shows the fills."""

    def go(**controls: Any) -> None:
        st.session_state.update({"latent.repair.go": True, **controls})

    done = st.session_state.get("latent.repair.done")
    wanted = st.session_state.pop("latent.repair.go", False)
    linked = st.query_params.get("filled") == asked.key
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Fill it in",
            key="latent.repair.fill",
            type="primary",
            icon=":material/healing:",
            on_click=go,
            disabled=done is not None and done["key"] == asked.key,  # these fills are below
        )
        buttons = st.container(horizontal=True)
    if done is None or done["key"] != asked.key:
        if not (wanted or linked):
            st.caption(
                f"{asked.fills} fills by {shell.plain(titles[asked.method])}: a preview comes first, and gets better."
            )
            return
        done = filled(spot, asked, titles)
        st.session_state["latent.repair.done"] = done
    st.query_params["filled"] = asked.key
    with buttons:
        more = next((count for count in FILLS if count > asked.fills), None)
        if more is not None and more <= most(tuple(asked.x.shape[1:]), FILLS[-1]):
            st.button(
                f"More: {more}",
                key="latent.repair.more",
                icon=":material/add:",
                on_click=go,
                kwargs={"latent.repair.fills": more},
                help="The fills that are here stay, and others come beside them.",
            )
        st.button(
            "Others",
            key="latent.repair.others",
            icon=":material/casino:",
            on_click=go,
            kwargs={"latent.repair.seed": asked.seed + 1},
            help="Fills of the next seed.",
        )
    shown(spot, asked, done, titles)


def filled(spot: Spot, asked: Asked, titles: dict[str, str]) -> dict[str, Any]:
    """Fills it, and measures the fills; gives plain values and arrays, for the session."""
    from core.latent import repair

    steps = repair.fill(
        spot.space,
        asked.x,
        asked.known,
        fills=asked.fills,
        label=asked.label,
        seed=asked.seed,
        method=asked.method,
        watch=Turns(),
    )
    last = fills(spot.opened.medium, steps, titles)
    with TURNS:
        index, far = repair.nearest(spot.dataset, last.images, asked.known, most=LOOKED)
    return {
        "key": asked.key,
        "images": last.images,
        "method": last.method,
        "seconds": last.seconds,
        "missed": float(np.sqrt(np.mean(np.square(last.missed)))),
        "off": float(asked.known.error(last.images, asked.x.cpu()).max()),
        "apart": repair.disagreement(last.images).numpy(),
        "near": index,
        "far": far,
    }


def shown(spot: Spot, asked: Asked, done: dict[str, Any], titles: dict[str, str]) -> None:
    """Shows the fills with the nearest training image below each, where they disagree, and what is known."""
    medium, images = spot.opened.medium, done["images"]
    count, columns = len(images), min(4, len(images))
    made, near = medium.shown(images), spot.dataset.pictures(done["near"])
    chosen = min(st.session_state.get("latent.repair.chosen", 0), count - 1)
    if (tile := show.clicked("latent.repair.fills.shown", count)) is not None:
        chosen = st.session_state["latent.repair.chosen"] = tile
    show.pictures(
        made,
        columns=columns,
        key="latent.repair.fills.shown",
        alt=f"{count} fills",
        titles=[f"fill {k}" for k in range(count)],
        marks={chosen: "✓"} if count > 1 else None,
        clickable=count > 1,
        max_height=170 * -(-count // columns),
        max_zoom=16,
    )
    whole = asked.known.pixels is None
    like = "that is most like it" if whole else "whose hole is most like it"
    st.caption(f"Below, for each fill, the training image {like}.")
    show.pictures(
        near,
        columns=2 * columns,
        key="latent.repair.near",
        alt="The nearest training image of each fill",
        titles=[
            f"image {i}, {far:.3f} from fill {k}"
            for k, (i, far) in enumerate(zip(done["near"], done["far"], strict=True))
        ],
        max_height=80 * -(-count // columns),
        max_zoom=8,
    )
    summary(spot, asked, done, titles)
    actions(spot, asked, done, chosen)


def summary(spot: Spot, asked: Asked, done: dict[str, Any], titles: dict[str, str]) -> None:
    """Shows what is known, where the fills disagree and their mean, and says how they were made."""
    import torch

    medium, images = spot.opened.medium, done["images"]
    unknown = asked.known.hole(asked.x.shape[1:]).numpy()
    seen = asked.known.part(asked.x.cpu())
    known = medium.shown(seen)
    tiles = {
        "what is known": veiled(known, unknown) if asked.known.pixels is not None else known,
        "where the fills disagree": heat(done["apart"]),
        "their mean": medium.shown(images.mean(0, keepdim=True)),
    }
    if "share" not in asked.said:
        tiles["the picture as it was"] = medium.shown(asked.x)
    show.pictures(
        np.concatenate([torch.from_numpy(x).expand(-1, 3, -1, -1).numpy() for x in tiles.values()]),
        columns=len(tiles),
        key="latent.repair.known",
        alt=", ".join(tiles),
        titles=list(tiles),
        captions=list(tiles),
        max_height=190,
        max_zoom=16,
    )
    apart = done["apart"][unknown]
    kept, where = (
        "The known pixels are those of the picture, bit by bit",
        "In the hole the fills differ",
    )
    if asked.known.pixels is None:
        kept = f"Made smaller again, the fills are the small picture to {done['off']:.1g}"
        where = "The fills differ"
    st.caption(
        f"{shell.plain(str(titles.get(done['method'], done['method'])).capitalize())}, {duration(done['seconds'])}. "
        f"{kept}; the model's own images missed them by {done['missed']:.3f} (root mean square of a range of 1), "
        f"before they were put back. {where} by {apart.mean():.3f} on average, and by up to "
        f"{apart.max():.3f}. They are nearest to training images at {float(np.mean(done['far'])):.3f}. "
        "The mean is the better guess of each pixel, and blurred; a single fill is a picture that could have been.",
        help=WORTH,
    )


def actions(spot: Spot, asked: Asked, done: dict[str, Any], chosen: int) -> None:
    """Offers the fills as files, and the chosen one for the pad."""
    from core.latent import repair

    images, medium = done["images"], spot.opened.medium
    name = f"{spot.checkpoint.run}-repair"
    metadata = spot.metadata() | asked.said | {"seconds": round(done["seconds"], 3)}

    def packed() -> bytes:
        out = io.BytesIO()
        known = ~asked.known.hole(asked.x.shape[1:]).numpy()
        np.savez_compressed(out, x=images.numpy(), known=known)
        return out.getvalue()

    with st.container(horizontal=True, vertical_alignment="center"):
        save(
            "Sheet",
            lambda: sheets.png(
                repair.sheet(medium, asked.x, asked.known, images),
                min(10, len(images) + 2),
                metadata,
                mark=xmp.partly_by(spot.checkpoint.run),
            ),
            f"{name}.png",
            key="latent.repair.save.png",
            help="PNG: what is known, the fills, and where they disagree; with its settings inside.",
        )
        save(
            "Numbers",
            packed,
            f"{name}.npz",
            key="latent.repair.save.npz",
            mime="application/octet-stream",
            help="NPZ with x, float32 (fills, C, H, W) in [0, 1], and known, bool (H, W).",
        )
        if st.button(
            f"Fill {chosen} to the pad",
            key="latent.repair.land",
            icon=":material/my_location:",
            help="The model looks for the point that makes it, and the pad goes there. Click a fill to choose it.",
        ):
            go_there(spot, images[chosen : chosen + 1], asked.label, f"fill {chosen} of a hole")


def go_there(spot: Spot, x: Any, label: int | None, name: str) -> None:
    """Finds the point of a fill, and lets the pad begin there."""
    from core import latent

    if label is None and spot.space.classes:
        guesses = latent.guess(spot.dataset, x)
        label = None if guesses is None else int(guesses[0])
    bar, last = show.Bar(), None
    steps = latent.find(spot.space, x, label)
    while True:
        with TURNS:
            step = next(steps, None)
        if step is None:
            break
        last = step
        bar.say(f"Looking for its point, error {step.error:.4f}", step.done)
    bar.close()
    assert last is not None
    land(spot, last.point, name, pressed=False)


def veiled(x: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Draws pictures, uint8 (N, 1 or 3, H, W), as RGB with a chequered ground where they are not known, bool (H, W)."""
    n, _, height, width = x.shape
    shade = np.where(np.indices((height, width)).sum(0) % 2, 150, 120).astype(np.uint8)
    rgb = np.broadcast_to(x, (n, 3, height, width)) if x.shape[1] == 1 else x
    return np.where(unknown, shade, rgb)


def heat(apart: np.ndarray) -> np.ndarray:
    """Draws a map (H, W) of numbers from 0 in the colours of a quantity, uint8 (1, 3, H, W)."""
    ramp = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in show.sequence()], float)
    at = apart / max(float(apart.max()), 1e-6) * (len(ramp) - 1)
    steps = np.arange(len(ramp))
    rgb = [np.interp(at, steps, ramp[:, channel]) for channel in range(3)]
    return np.stack(rgb).round().astype(np.uint8)[None]

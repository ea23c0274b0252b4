"""How the image under the ring is made, step by step or unit by unit, as its family does it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from core.catalog import UserError
from core.ground import sheets
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import Spot, land
from pages.parts.tiles import tiles

UNITS = 24
UNIT = 8  # pixels of a unit's map at least
OTHERS = 300  # held-out images on which dimensions are looked for that are dead


def draw(spot: Spot) -> None:
    """Draws the choice of a view, and the view."""
    from core import latent

    views = latent.views(spot.space)
    if not views:
        st.caption("This family makes an image in one step that cannot be taken apart.")
        return
    view = views[0]
    if len(views) > 1:
        view = st.segmented_control(
            "What to look at",
            views,
            default=views[0],
            key="latent.making",
            required=True,
            bind="query-params",
            format_func=lambda name: VIEWS[name][0],
        )
        view = view if view in views else views[0]
    VIEWS[view][1](spot)


def denoising(spot: Spot) -> None:
    """Shows every step of a diffusion, with the clean image that the model expects."""
    from core import latent

    number = spot.choice.origin
    steps = latent.denoising(spot.space, number, spot.label_of(number), spot.choice.seed)
    tiles(
        [sheets.png(np.stack([step.noisy, step.clean]), 2) for step in steps],
        tile=steps[0].noisy.shape[1:],
        columns=2,
        count=2,
        key="latent.denoising",
        alt=f"{len(steps)} steps from noise to image {number}: on the left the noisy image, "
        "on the right the clean one that the model expects",
        labels=[f"time {step.time:.2f}" for step in steps],
        titles=["as it is at this step", "the clean image that the model expects"],
        max_height=230,
        max_zoom=28,
        film="the denoising",
    )
    st.caption(
        f"Image {number} of seed {spot.choice.seed} in {len(steps)} steps. Left: the image at that time. Right: the "
        "clean image that the model expects from it. Move the slider, or press play."
    )


def unrolled(spot: Spot) -> None:
    """Shows the image after each layer of a flow."""
    from core import latent

    stages = latent.unrolled(spot.space, spot.point)
    show.pictures(
        np.stack([image for _, image in stages]),
        columns=min(len(stages), 9),
        key="latent.unrolled",
        alt=f"{len(stages)} stages from noise to image",
        titles=[name for name, _ in stages],
        max_height=260,
        max_zoom=6,
    )
    st.caption(
        f"From {shell.plain(stages[0][0])} to {shell.plain(stages[-1][0])}: every layer can be undone exactly, so the "
        "image leads back to its noise."
    )


def activations(spot: Spot) -> None:
    """Shows the units of a layer, which can be switched off to see what each of them draws."""
    from core import latent

    layers = latent.activations(spot.space, spot.point)
    names = [layer.name for layer in layers]
    key = f"latent.off.{spot.checkpoint.run}"
    left, right = st.columns([1, 3], gap="medium")
    with left:
        name = st.selectbox("Layer", names, index=0, key="latent.layer")
        layer = layers[names.index(name) if name in names else 0]
        units, effect = latent.effects(spot.space, spot.point, layer.name, count=UNITS)
        off = {n: set(numbers) for n, numbers in st.session_state.get(key, {}).items()}
        switched_off = off.setdefault(layer.name, set())
        index = show.clicked("latent.units", len(units))
        if index is not None:
            switched_off ^= {int(units[index])}
        st.session_state[key] = {n: sorted(numbers) for n, numbers in off.items()}
        silent = {
            n: numbers for n, numbers in st.session_state[key].items() if numbers and n in names
        }
        both = np.stack(
            [spot.space.image(spot.point), latent.without(spot.space, spot.point, silent)]
        )
        show.pictures(
            both,
            columns=2,
            key="latent.without",
            alt="The image with all units, and without those that are switched off",
            titles=["with all units", "without"],
            max_height=130,
        )
        count = sum(map(len, silent.values()))
        st.caption(
            f"Left: all units. Right: without {count} of them." if count else "All units are on."
        )
        st.button(
            "Switch all on",
            key="latent.units.on",
            disabled=not count,
            on_click=lambda: st.session_state.pop(key, None),
        )
    with right:
        x = layer.maps[units][:, None]
        side = -(-UNIT // x.shape[2])
        x = x.repeat(side, 2).repeat(side, 3)  # a unit of a dense layer is one number
        show.pictures(
            x,
            columns=8,
            key="latent.units",
            alt=f"{len(units)} of {layer.units} units of {layer.name}, the strongest first",
            titles=[
                f"unit {int(u)}: changes pixels by {e:.3f}"
                for u, e in zip(units, effect, strict=True)
            ],
            marks={i: "✕" for i, u in enumerate(units) if int(u) in switched_off},
            clickable=True,
            max_height=260,
        )
        st.caption(
            f"{len(units)} of {layer.units} units, those that draw most first. Click one to switch it off."
        )


def codes(spot: Spot) -> None:
    """Shows the codes of an image, which can be painted over."""
    from core import latent

    grid = latent.code_map(spot.space, spot.point)
    side = grid.shape[0]
    key = hash(grid.tobytes())
    if st.session_state.get("latent.codes.of") != key:
        st.session_state["latent.codes.of"] = key
        st.session_state["latent.painted"] = {}
    painted: dict[int, int] = st.session_state["latent.painted"]
    now = grid.copy().ravel()
    for cell, token in painted.items():
        now[cell] = token
    pieces = latent.vocabulary(spot.space)
    left, middle, right = st.columns([1, 1, 1.6], gap="medium")
    at = show.clicked("latent.codes", side * side)
    if at is not None:
        st.session_state["latent.codes.at"] = at
    cell = st.session_state.get("latent.codes.at", 0) % (side * side)
    with right:
        choice = st.container()
        number = st.number_input(
            f"Paint with code (0 to {len(pieces) - 1})",
            value=None,
            step=1,
            placeholder="or type its number",
            key=f"latent.token.{cell}",
        )
    options = around(spot, int(now[cell]))
    wanted = show.clicked("latent.tokens", len(options))
    if wanted is not None:
        painted[cell] = options[wanted]
    elif number is not None and number != st.session_state.get(f"latent.typed.{cell}"):
        if not 0 <= number < len(pieces):
            raise UserError(
                f"The code must be from 0 to {len(pieces) - 1}, got {number}. Choose another."
            )
        painted[cell] = int(number)
    st.session_state[f"latent.typed.{cell}"] = number
    now[cell] = painted.get(cell, now[cell])
    token = int(now[cell])
    options = around(spot, token)
    code = latent.token(spot.space, token)
    with left:
        show.pictures(
            pieces[now],
            columns=side,
            key="latent.codes",
            alt=f"The image as {side} by {side} codes",
            titles=[f"place {i}: code {int(token)}" for i, token in enumerate(now)],
            marks={cell: ""} | dict.fromkeys(painted, "✎"),
            clickable=True,
            max_height=220,
            max_zoom=20,
        )
        st.caption("The codes of the image, each drawn alone. Click one to choose its place.")
    with choice:
        show.pictures(
            pieces[options],
            columns=8,
            key="latent.tokens",
            alt=f"Code {token} and the codes nearest to it",
            titles=[f"code {option}" for option in options],
            marks={0: ""},
            clickable=True,
            max_height=120,
            max_zoom=14,
        )
        st.caption(
            f"Code {token}: {percent(code.use, 2)} of the codes of training images"
            + (", never used (dead)" if code.dead else "")
            + ". Beside it the codes nearest to it: click one to paint with it."
        )
    with middle:
        before, _ = latent.repaint(spot.space, grid)
        after, point = latent.repaint(spot.space, now.reshape(grid.shape))
        show.pictures(
            np.stack([before, after]),
            columns=2,
            key="latent.repainted",
            alt="The image, and the image with the painted codes",
            titles=["as it was", "repainted"],
            max_height=150,
            max_zoom=16,
        )
        st.caption("Left: as it was. Right: with your codes.")
        with st.container(horizontal=True, gap="small"):
            st.button(
                "As it was", key="latent.codes.reset", disabled=not painted, on_click=painted.clear
            )
            st.button(
                "To the pad",
                key="latent.codes.land",
                disabled=not painted,
                icon=":material/my_location:",
                on_click=land,
                args=(spot, point, "an image that you repainted"),
            )


def around(spot: Spot, token: int) -> list[int]:
    """Lists a code and the 15 nearest to it."""
    from core import latent

    return [token, *latent.token(spot.space, token, 15).neighbours]


def posterior(spot: Spot) -> None:
    """Shows how much information each latent dimension of a VAE holds about the image."""
    import plotly.graph_objects as go
    import torch

    from core import latent

    dataset = spot.dataset
    held_out = dataset.splits["valid"][:OTHERS]
    labels = None
    if spot.space.classes:
        shares = spot.point[spot.space.latent :]
        labels = [int(shares.argmax()), *map(int, dataset.y[held_out])]
    kl, dead = latent.posterior(
        spot.space,
        spot.opened.medium.seen(torch.as_tensor(spot.space.items(spot.point)), 256),
        dataset.images(held_out),
        labels,
    )
    order = np.argsort(-kl)
    colours = show.palette()
    figure = go.Figure()
    figure.add_bar(
        x=[str(int(i)) for i in order],
        y=kl[order],
        marker_color=[colours[1] if dead[i] else colours[0] for i in order],
        hovertemplate="dimension %{x}: %{y:.3f} nats<extra></extra>",
    )
    figure.update_layout(
        height=240,
        margin={"l": 44, "r": 4, "t": 12, "b": 40},
        xaxis={"type": "category", "title": {"text": "latent dimension", "font": {"size": 11}}},
        yaxis={"title": {"text": "nats per image (KL)", "font": {"size": 11}}},
    )
    show.plot(
        figure,
        key="latent.posterior",
        config={"displayModeBar": False},
        alt="Information in each latent dimension",
    )
    count = int(dead.sum())
    st.caption(
        f"What the encoder tells about the image under the ring in each dimension, {kl.sum():.1f} nats in all. "
        + (
            f"{count} of {len(order)} dimensions are dead (second colour): over {len(held_out)} held-out images they "
            "stay the same, and moving along them changes nothing."
            if count
            else f"All {len(order)} dimensions are in use, over {len(held_out)} held-out images."
        )
    )


VIEWS = {
    "denoising": ("From noise to image", denoising),
    "unrolled": ("Layer by layer", unrolled),
    "activations": ("Units of the network", activations),
    "codes": ("Codes", codes),
    "posterior": ("Posterior of the encoder", posterior),
}

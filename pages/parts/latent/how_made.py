"""How the image under the ring came about: what each family does, step by step and unit by unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from core.catalog import UserError
from core.ground import sheets
from core.ground.writing import percent
from pages.parts import shell, show
from pages.parts.latent import Here, land
from pages.parts.tiles import tiles

TITLES = {
    "denoising": "From noise to image",
    "unrolled": "Layer by layer",
    "activations": "Units of the network",
    "codes": "Codes",
    "posterior": "What the encoder says",
}
UNITS = 24
UNIT = 8  # pixels of a unit's map at least
OTHERS = 300  # held-out images that say which dimensions are dead


def draw(here: Here) -> None:
    """Draws the choice of a view, and the view."""
    from core import latent

    views = [name for name in latent.views(here.space) if name in DRAW]
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
            format_func=lambda name: TITLES[name],
        )
        view = view if view in views else views[0]
    DRAW[view](here)


def denoising(here: Here) -> None:
    """Shows every step of a diffusion, with the clean image that the model expects."""
    from core import latent

    number = here.choice.origin
    steps = latent.denoising(here.space, number, here.label_of(number), here.choice.seed)
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
        f"Image {number} of seed {here.choice.seed} in {len(steps)} steps. Left: the image at that time. Right: the "
        "clean image that the model expects from it. Move the slider, or press play."
    )


def unrolled(here: Here) -> None:
    """Shows what each layer of a flow makes of the noise."""
    from core import latent

    stages = latent.unrolled(here.space, here.point)
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
        "noise is found again from the image."
    )


def activations(here: Here) -> None:
    """Shows the units of a layer, which can be switched off to see what they draw."""
    from core import latent

    layers = latent.activations(here.space, here.point)
    names = [layer.name for layer in layers]
    kept = f"latent.off.{here.checkpoint.run}"
    left, right = st.columns([1, 3], gap="medium")
    with left:
        name = st.selectbox("Layer", names, index=0, key="latent.layer")
        layer = layers[names.index(name) if name in names else 0]
        units, effect, _ = latent.effects(here.space, here.point, layer.name, count=UNITS)
        off = {n: set(us) for n, us in st.session_state.get(kept, {}).items()}
        gone = off.setdefault(layer.name, set())
        index = show.clicked("latent.units", len(units))
        if index is not None:
            gone ^= {int(units[index])}
        st.session_state[kept] = {n: sorted(us) for n, us in off.items()}
        silent = {n: sorted(us) for n, us in off.items() if us and n in names}
        both = np.stack(
            [here.space.image(here.point), latent.without(here.space, here.point, silent)]
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
            on_click=lambda: st.session_state.pop(kept, None),
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
            marks={i: "✕" for i, u in enumerate(units) if int(u) in gone},
            clickable=True,
            max_height=260,
        )
        st.caption(
            f"{len(units)} of {layer.units} units, those that draw most first. Click one to switch it off."
        )


def codes(here: Here) -> None:
    """Shows the map of codes of an image; a token can be repainted."""
    from core import latent

    grid = np.asarray(latent.code_map(here.space, here.point))
    side = grid.shape[0]
    key = hash(grid.tobytes())
    if st.session_state.get("latent.codes.of") != key:
        st.session_state["latent.codes.of"] = key
        st.session_state["latent.painted"] = {}
    painted: dict[int, int] = st.session_state["latent.painted"]
    now = grid.copy().ravel()
    for place, token in painted.items():
        now[place] = token
    pieces, _, _ = latent.vocabulary(here.space)
    left, middle, right = st.columns([1, 1, 1.6], gap="medium")
    at = show.clicked("latent.codes", side * side)
    if at is not None:
        st.session_state["latent.codes.at"] = at
    place = st.session_state.get("latent.codes.at", 0) % (side * side)
    with right:
        choice = st.container()
        number = st.number_input(
            f"Paint with code (0 to {len(pieces) - 1})",
            value=None,
            step=1,
            placeholder="or type its number",
            key=f"latent.token.{place}",
        )
    options = around(here, int(now[place]))
    wanted = show.clicked("latent.tokens", len(options))
    if wanted is not None:
        painted[place] = options[wanted]
    elif number is not None and number != st.session_state.get(f"latent.typed.{place}"):
        if not 0 <= number < len(pieces):
            raise UserError(
                f"The code must be from 0 to {len(pieces) - 1}, got {number}. Choose another."
            )
        painted[place] = int(number)
    st.session_state[f"latent.typed.{place}"] = number
    now[place] = painted.get(place, now[place])
    token = int(now[place])
    options = around(here, token)
    facts = latent.token(here.space, token)
    with left:
        show.pictures(
            pieces[now],
            columns=side,
            key="latent.codes",
            alt=f"The image as {side} by {side} codes",
            titles=[f"place {i}: code {int(token)}" for i, token in enumerate(now)],
            marks={place: ""} | dict.fromkeys(painted, "✎"),
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
            f"Code {token}: {percent(facts.use, 2)} of all places"
            + (", never used lately (dead)" if facts.dead else "")
            + ". Beside it the codes nearest to it: click one to paint with it."
        )
    with middle:
        before, _ = latent.repaint(here.space, grid)
        after, point = latent.repaint(here.space, now.reshape(grid.shape))
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
                args=(here, point, "an image that you repainted"),
            )


def around(here: Here, token: int) -> list[int]:
    """Lists a code and those nearest to it."""
    from core import latent

    return [token, *latent.token(here.space, token, 15).neighbours]


def posterior(here: Here) -> None:
    """Shows how much each latent dimension of a VAE knows; dead ones know nothing."""
    import plotly.graph_objects as go
    import torch

    from core import latent

    dataset = here.dataset
    held = dataset.splits["valid"][:OTHERS]
    labels = None
    if here.space.classes:
        shares = here.point[here.space.latent :]
        labels = [int(shares.argmax()), *map(int, dataset.y[held])]
    found = latent.posterior(
        here.space,
        here.opened.medium.seen(torch.as_tensor(here.space.items(here.point)), 256),
        dataset.images(held),
        labels,
    )
    order = np.argsort(-np.asarray(found.kl))
    colours = show.palette()
    figure = go.Figure()
    figure.add_bar(
        x=[str(int(i)) for i in order],
        y=np.asarray(found.kl)[order],
        marker_color=[colours[1] if found.dead[i] else colours[0] for i in order],
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
    dead = int(np.sum(found.dead))
    st.caption(
        f"What the encoder reads off the image under the ring, per dimension: {float(np.sum(found.kl)):.1f} nats in "
        f"all. "
        + (
            f"{dead} of {len(order)} dimensions are dead (second colour): over {found.n} held-out images they stay "
            "the same, and moving along them changes nothing."
            if dead
            else f"All {len(order)} dimensions are in use, over {found.n} held-out images."
        )
    )


DRAW: dict[str, Any] = {
    "denoising": denoising,
    "unrolled": unrolled,
    "activations": activations,
    "codes": codes,
    "posterior": posterior,
}

"""Drag through what a model learned, find out what its directions mean, and save what you find."""

from __future__ import annotations

import secrets
from functools import partial

import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from pages.parts import form, pad, shell, show
from pages.parts.component import told
from pages.parts.latent import (
    LIMIT,
    SECONDS,
    Checkpoint,
    Choice,
    Spot,
    image,
    plane_key,
    side_by_side,
    take_next,
    tools,
    view_link,
)

TITLE = "Latent space"
ICON = ":material/explore:"
ORDER = 4
RUN = True
shell.enter()


@st.fragment(key="latent.explore")
@shell.guard()
def explore(id: str) -> None:
    """Draws the controls and what they lead to; only this part runs again when one of them moves."""
    from core import latent

    run = jobs.get(id)
    stage, controls = st.columns([3.4, 1], gap="medium")
    with controls, st.container(key="latent.controls"):  # on a narrow screen a sheet; see shell.css
        opened, checkpoint, choice = choose(run)
    spacious = latent.supports(opened.model)
    with stage:
        if spacious:
            wander(checkpoint, choice)
        else:
            made = opened.medium.title.lower()
            st.caption(f"This family has no latent space to walk in; these are its {made}.")
        sheet()
        offered = tools.offered(opened, spacious)
        tool = st.segmented_control(
            "What to do from here",
            list(offered),
            default=next((name for name in ("sketch", "write") if name in offered), "samples"),
            key="latent.tool",
            required=True,
            bind="query-params",
            format_func=lambda name: tools.TOOLS[name].title,
            label_visibility="collapsed",
        )
        use(checkpoint, choice, tool if tool in offered else "samples")


@st.fragment
def sheet() -> None:
    """Draws the switch that a narrow screen shows, on which the controls are a sheet at its lower edge."""
    with st.container(key="latent.sheet"):
        st.toggle("Controls", key="latent.sheet.open")


def choose(run: jobs.Job) -> tuple[runs.Opened, Checkpoint, Choice]:
    """Draws the controls."""
    take_next()
    saved, usual = runs.checkpoints(run)[::-1], runs.preferred(run)
    newest = usual == saved[0]
    step = st.selectbox(
        "Saved state",
        saved,
        index=None,
        key="latent.step",
        bind="query-params",
        format_func=lambda step: f"step {step:,}",
        placeholder=f"{'newest' if newest else 'best'}: step {usual:,}",
        help="How far the training had come (its checkpoint).",
    )
    if step is None and not newest:
        st.caption(
            "While it learns, its newest state is shown here; now that it has ended, its best one. "
            f"The newest, step {saved[0]:,}, can be chosen above."
        )
    opened = runs.open_model(run, step)
    assert opened.sampling is not None
    with st.container(horizontal=True, wrap=False, vertical_alignment="bottom", gap="small"):
        seed = form.seed("latent.seed", "images")
        st.button(
            "Roll",
            key="latent.dice",
            icon=":material/casino:",
            on_click=lambda: st.session_state.update({"latent.seed": secrets.randbelow(100_000)}),
            help="Another seed, by chance.",
        )
    label = None
    if opened.classes:
        label = st.selectbox(
            "Class",
            range(len(opened.classes)),
            index=None,
            key="latent.class",
            format_func=lambda i: opened.classes[i],
            placeholder="All, column by column" if len(opened.classes) <= 16 else "All in turn",
            bind="query-params",
            on_change=view_link.classed,
            help="What to draw; the model was trained with these labels.",
        )
    key = f"latent.{opened.family}"
    sampling = shell.capped(
        opened.sampling.of(form.form({key: opened.sampling}, link=True)[key], "sampling")
    )
    choice = Choice(seed, label, tuple(sampling.record().items()))
    from core import latent

    if latent.supports(opened.model):
        with st.container(border=True):
            choice = view_link.plane(choice, opened)
    st.caption(
        f"{shell.plain(run.name)} {opened.age}." + (" It is still learning." if run.active else "")
    )
    view_link.recall(run)
    return opened, Checkpoint(run.id, opened.step, follows=step is None), choice


@st.fragment(key="latent.wander")
@shell.guard()
def wander(checkpoint: Checkpoint, choice: Choice) -> None:
    """Draws the pad, and answers it; only this part runs again while somebody drags."""
    key = plane_key(checkpoint, choice)
    start, went = view_link.arrival(choice)
    view = pad.view("latent.pad", key, start, LIMIT, went)
    view_link.remember(choice, view)
    try:
        spot = Spot(checkpoint, choice, view)
    except UserError:
        if runs.checkpoints(jobs.get(checkpoint.run)):  # the training has deleted this one since
            st.rerun()
        raise
    other = side_by_side.other(spot)
    sheet, took = side_by_side.sheets(spot, other)
    exact = None
    if view.rest:
        exact, final = image(spot)
        took = took or final
    second = side_by_side.beside(spot, other)
    names = spot.plane.names
    pad.pad(
        key="latent.pad",
        plane=key,
        tile=spot.opened.medium.pictures(spot.opened.blank[None]).shape[2:],
        alt=f"A plane of the latent space of {spot.run.name}: {names[0]} to the right, {names[1]} "
        "downwards. Drag, or use the arrow keys; plus and minus zoom, P pins, Backspace goes back.",
        seen=f"Image of {spot.run.name}",
        start=start,
        view=view,
        sheet=sheet,
        exact=exact,
        beside=second,
        walk=side_by_side.walks(spot, other),
        seconds=SECONDS,
        went=went,
        home=choice.start,
        marks=view_link.marks(spot),
        ms=took,
        limit=LIMIT,
        instant=spot.opened.medium.heard,
        on_view=moved,
        on_drop=view_link.dropped,
        on_stay=partial(view_link.stay, spot),
    )
    view_link.below(spot)
    medium = spot.opened.medium
    if view.rest and not medium.mime.startswith("image/"):  # a picture is on the pad
        name = f"{spot.checkpoint.run}-{spot.checkpoint.step}"
        item = spot.space.items(spot.point)[0]
        show.item(item, medium, name, key="latent.item", hear=view.number)


def moved() -> None:
    """Lets the tool below follow when the pointer rests; while it moves, nothing but the pad runs."""
    view = told(st.session_state.get("latent.pad"), "view")
    if view.get("rest") and not view.get("walks") and tools.follows():
        st.rerun(["latent.wander", "latent.use"])


@st.fragment(key="latent.use")
@shell.guard()
def use(checkpoint: Checkpoint, choice: Choice, tool: str) -> None:
    """Draws the chosen tool, from the point under the ring."""
    start, went = view_link.arrival(choice)
    view = pad.view("latent.pad", plane_key(checkpoint, choice), start, LIMIT, went)
    spot = Spot(checkpoint, choice, view)
    if tools.TOOLS[tool].compares:
        spot.prepare()
    tools.TOOLS[tool].draw(spot)


shell.header("What has it learned? Drag, and see")
if (shown := shell.chosen_model()) is not None:
    explore(shown.id)
    shell.go("train", "Train another, and compare the two")

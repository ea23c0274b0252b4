"""Draw from what a model learned, and walk from one image to another."""

from typing import Any

import streamlit as st

from core import jobs, latent, runs, sheets
from core.catalog import UserError
from pages.ui import form, shell, show

TITLE = "Latent space"
ICON = ":material/explore:"
ORDER = 4
shell.enter()
COUNT = 60


def drawn(opened: runs.Opened, ids: list[int], label: int | None, seed: int, sampling: Any) -> Any:
    """Draws images as bytes, with their latents and labels."""
    import torch

    from core.tensors import to_bytes

    with torch.inference_mode():
        where = next(opened.model.parameters()).device
        y = None
        if opened.classes:
            y = torch.tensor(
                [i % len(opened.classes) if label is None else label for i in ids], device=where
            )
        return to_bytes(opened.model.sample(ids, y, seed, sampling)), y


@st.fragment
@shell.guard()
def explore(id: str) -> None:
    """Draws the controls and what they lead to; only this part runs again when one of them moves."""
    from core.models import Decodes

    run = jobs.get(id)
    controls, pictures = st.columns([1, 2.6], gap="large")
    with controls:
        saved, usual = runs.checkpoints(run)[::-1], runs.preferred(run)
        step = st.selectbox(
            "Checkpoint",
            saved,
            index=None,
            key="latent.step",
            bind="query-params",
            format_func=lambda step: f"step {step:,}",
            placeholder=f"{'newest' if usual == saved[0] else 'best'}: step {usual:,}",
            help="How far the training had come.",
        )
        opened = runs.open_model(run, step)
        assert opened.sampling is not None
        seed = int(
            st.number_input(
                "Seed",
                value=0,
                step=1,
                key="latent.seed",
                bind="query-params",
                help="Another seed, other images; the same seed always gives the same ones.",
            )
        )
        if not 0 <= seed < 2**31:
            raise UserError(f"The seed must be from 0 to {2**31 - 1}, got {seed}. Choose another.")
        label = None
        if opened.classes:
            label = st.selectbox(
                "Class",
                range(len(opened.classes)),
                index=None,
                key="latent.class",
                format_func=lambda i: opened.classes[i],
                placeholder="All, column by column"
                if len(opened.classes) <= 16
                else "All classes in turn",
                bind="query-params",
                help="What to draw; the model was trained with these labels.",
            )
        key = f"latent.{opened.family}"
        sampling = opened.sampling.of(form.form({key: opened.sampling}, link=True)[key], "sampling")
        st.caption(
            f"{shell.plain(run.name)} after {opened.images:,} images (step {opened.step:,})."
            + (
                " It is still learning: the newest checkpoint comes with your next move."
                if run.active
                else ""
            )
        )
        walks = isinstance(opened.model, Decodes)
        if walks:
            way = st.segmented_control(
                "Way from A to B",
                ["slerp", "lerp"],
                default="slerp",
                key="latent.way",
                required=True,
                bind="query-params",
                help="slerp keeps to the sphere where the noise lies; lerp is the straight line.",
            )
            steps = st.slider(
                "Images on the way", 3, 24, 12, key="latent.steps", bind="query-params"
            )
    columns = sheets.columns(len(opened.classes)) if label is None else 10
    count = columns * max(1, COUNT // columns)
    x, y = drawn(opened, list(range(count)), label, seed, sampling)
    facts = {
        "run": run.id,
        "step": opened.step,
        "seed": seed,
        "label": label,
        "sampling": sampling.record(),
    }
    if walks:
        ends = the_ends(count)
        take_click((st.session_state.get("latent.grid") or {}).get("clicked"), ends, count)
    with pictures:
        show.pictures(
            x,
            columns=columns,
            key="latent.grid",
            alt=f"{count} images drawn from {run.name} with seed {seed}",
            marks={ends[1]: "B", ends[0]: "A"} if walks else None,
            clickable=walks,
            max_height=400,
            titles=[
                f"image {i}" + (f": {opened.classes[int(y[i])]}" if y is not None else "")
                for i in range(count)
            ],
        )
        if walks:
            st.caption("Click an image to begin the way there (A), click another to end it (B).")
            strip = latent.path(opened.model, (ends[0], ends[1]), y, seed, sampling, way, steps)
            show.pictures(
                strip,
                columns=steps if steps <= 12 else 12,
                key="latent.strip",
                alt=f"The way from image {ends[0]} to {ends[1]} in {steps} images",
                max_height=200,
            )
    with controls, st.container(horizontal=True):
        save("Grid", x, columns, facts, f"{run.id}-seed{seed}")
        if walks:
            to = facts | {"ends": list(ends), "way": way}
            save("Strip", strip, steps, to, f"{run.id}-{ends[0]}-{ends[1]}")


def save(label: str, x: Any, columns: int, facts: dict[str, Any], name: str) -> None:
    """Offers images as one PNG, which is made when it is asked for."""
    st.download_button(
        label,
        lambda: sheets.png(x, columns, facts),
        f"{name}.png",
        "image/png",
        key=f"latent.save.{label.lower()}",
        icon=":material/download:",
        on_click="ignore",
        help="PNG, with its settings inside.",
    )


def the_ends(count: int) -> list[int]:
    """Reads from the address between which images the way leads, so that going back goes back; else the first two."""
    words = st.query_params.get("ends", "").split("-")
    fits = len(words) == 2 and all(word.isdecimal() and len(word) < 10 for word in words)
    return [min(int(word), count - 1) for word in (words if fits else ("0", "1"))]


def take_click(clicked: Any, ends: list[int], count: int) -> None:
    """Makes a newly clicked image the beginning (A) and the next one the end (B) of the way."""
    if not isinstance(clicked, dict):
        return
    number, index = clicked.get("number"), clicked.get("index")
    if (
        not isinstance(index, int)
        or not 0 <= index < count
        or number == st.session_state.get("latent.seen")
    ):
        return
    st.session_state["latent.seen"] = number
    side = st.session_state.get("latent.side", 0)
    ends[side] = index
    st.session_state["latent.side"] = 1 - side
    st.query_params["ends"] = f"{ends[0]}-{ends[1]}"


st.title("What lies between two images?", anchor=False)
shown = shell.chosen_run("train")
if shown is None:
    st.info(
        "There is no trained model yet. The default one takes a minute.", icon=":material/info:"
    )
    shell.go("overview", "Train the default model")
else:
    if (chosen := shell.chosen_run()) is not None and chosen.id != shown.id:
        st.caption(
            f":material/info: {shell.plain(chosen.name)} is a classifier, which makes no images. "
            f"This is {shell.plain(shown.name)}."
        )
    if not runs.checkpoints(shown):
        st.info(
            f"{shell.plain(shown.name)} has no checkpoint"
            + (
                " yet. Its first one appears seconds after its start."
                if shown.active
                else f": it is {shown.status}. Choose another run in the sidebar."
            )
        )
        shell.go("train", "Watch it train" if shown.active else "See what happened")
    else:
        explore(shown.id)
        shell.go("train", "Train another, and compare the two")

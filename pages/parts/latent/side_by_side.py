"""Side by side: another state of the model, or another model of the dataset, moved by the pad together with the first.

What stands beside is in the address: ``beside`` is RUN or RUN@STEP, ``by`` a name of :data:`core.latent.JOINED`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import streamlit as st

from core import jobs, runs
from core.catalog import UserError
from pages.parts import shell
from pages.parts.latent import Checkpoint, Spot, image, walk, window
from pages.parts.pad import Beside, Sheet

MATCHED = {  # where both begin with the same image, by the kind of plane, and what stands there
    "labels": ("sides", "the images of both classes"),
    "anchors": ("corners", "the three images"),
}
MIDDLE = ("middle", "the image in the middle of the plane")
RERUN = ["latent.wander", "latent.use"]  # what another choice changes


class Other(Spot):
    """The spot of the model beside, which follows the first one.

    Attributes:
        first: The spot that is dragged.
        joints: By what both can be moved together.
        by: By what they are.
    """

    def __init__(self, first: Spot, checkpoint: Checkpoint, by: str) -> None:
        from core import latent

        super().__init__(checkpoint, first.choice, replace(first.view, has=""))
        if not latent.supports(self.opened.model):
            raise UserError(
                f"{self.run.name} has no latent space, so it cannot be moved with another. Choose another model."
            )
        if self.opened.family != first.opened.family:
            usual = tuple(self.opened.usual.record().items())
            self.choice = replace(first.choice, sampling=usual)
        self.first, self.joints = first, latent.joints(first.space, self.space)
        if not self.joints:
            raise UserError(self._apart())
        # the numbers of one model mean nothing to another, unless it is an earlier state of it
        usual = self.joints[0 if self.run.id == first.run.id else -1]
        self.by = by if by in self.joints else usual

    def _apart(self) -> str:
        from core import latent

        one, other = self.first.run.name, self.run.name
        if self.space.model.spec.shape != self.first.space.model.spec.shape:
            return f"{other} makes pictures of another size than {one}. Choose a model of the same size."
        turned = latent.joints(self.space, self.first.space)
        return (
            f"{other} cannot follow {one}: its points have {self.space.latent} numbers and not "
            f"{self.first.space.latent}, and it has no encoder that would find the same image. "
            + (
                "Swap the two under Side by side, or choose another model."
                if turned
                else "Choose another model."
            )
        )

    @property
    def key(self) -> str:
        """Identity of the plane: the first one's, what follows it, and by what."""
        return f"{self.first.key} {self.checkpoint.run} {self.checkpoint.step} {self.by} {self.own is not None}"

    @cached_property
    def own(self) -> Any | None:
        """The visitor's own image (1, …) in [0, 1] that the plane goes through, where the session still has it."""
        import torch

        found = st.session_state.get("latent.own")
        if self.by != "image" or self.choice.kind in MATCHED or not found:
            return None
        if self.choice.landed != tuple(found["point"]):
            return None
        x = torch.as_tensor(found["seen"])[None].float() / 255
        return x if x.shape[1:] == self.opened.spec.shape else None

    @cached_property
    def plane(self) -> Any:
        """The plane that follows the first one's."""
        return _plane(self.key, self)

    @property
    def stops(self) -> Any:
        """The points of a walk that belong to those of the first one."""
        from core import latent

        return latent.carry(self.first.space, self.space, self.first.stops, self.by, self.label())

    def label(self) -> int | None:
        """Guesses what the image in the middle shows, for a model that listens to classes beside one that does not."""
        from core import latent

        if not self.space.classes or self.space.classes == self.first.space.classes:
            return None
        x = self.first.space.decode(self.first.origin[None]).detach()
        guesses = latent.guess(self.first.dataset, x)
        return None if guesses is None else int(guesses[0])


@st.cache_resource(max_entries=64, show_spinner=False)
def _plane(key: str, _other: Other) -> Any:
    from core import latent

    first = _other.first
    holds, _ = MATCHED.get(first.choice.kind, MIDDLE)
    return latent.beside(first.plane, _other.space, _other.by, _other.label(), _other.own, holds)


# --- On the pad -------------------------------------------------------------------------------------------------------


def other(spot: Spot) -> Other | None:
    """Opens what the address puts beside a spot; says why not where it cannot be, and gives None."""
    run, step, by = _asked()
    if not run:
        return None
    try:
        return _other(spot, run, step, by)
    except UserError as error:
        st.caption(f":material/compare: {shell.plain(str(error))}")
        return None


def _other(spot: Spot, id: str, step: int | None, by: str) -> Other:
    run = jobs.get(id)
    if not runs.generates(run):
        raise UserError(f"{run.name} makes no images. Choose a generative model.")
    if runs.dataset_of(run) != runs.dataset_of(spot.run):
        raise UserError(
            f"{run.name} learned from other images than {spot.run.name}. Choose a model of the same dataset."
        )
    step = _usual(spot, run) if step is None else step
    return Other(spot, Checkpoint(run.id, step), by)


def _asked() -> tuple[str, int | None, str]:
    run, _, step = st.query_params.get("beside", "")[:200].partition("@")
    digits = step.isdecimal() and len(step) < 12
    return run, int(step) if digits else None, st.query_params.get("by", "")


def _steps(spot: Spot, run: jobs.Job) -> list[int]:
    """Lists the states of a run that can stand beside a spot, the newest first."""
    same = run.id == spot.run.id
    steps = runs.checkpoints(run)[::-1]
    return [step for step in steps if not same or step != spot.checkpoint.step]


def _usual(spot: Spot, run: jobs.Job) -> int:
    """Chooses the state that stands beside a spot: the usual one of another run, one halfway of the same."""
    if run.id != spot.run.id and runs.checkpoints(run):
        return runs.preferred(run)
    if steps := _steps(spot, run):
        return steps[len(steps) // 2]  # they are spread over the logarithm of the step
    raise UserError(
        f"{run.name} has no state that could stand beside this one. Choose another model."
    )


def sheets(spot: Spot, second: Other | None) -> tuple[Sheet | None, dict[str, float]]:
    """Decodes the visible part of the plane by both models, as :func:`window` does by one."""
    if second is None:
        return window(spot)
    key = f"{spot.key} {second.key} {spot.view.window}"
    if spot.view.has == key:
        return None, {}
    bare = copy.copy(spot)
    bare.view = second.view
    (sheet, took), (more, longer) = window(bare), window(second)
    assert sheet is not None
    assert more is not None
    return replace(sheet, key=key, second=more), {name: took[name] + longer[name] for name in took}


def walks(spot: Spot, second: Other | None) -> Sheet | None:
    """Decodes a walk by both models, where one is wanted, as :func:`walk` does by one."""
    sheet, more = walk(spot), second and walk(second)
    return replace(sheet, key=f"{sheet.key} {more.key}", second=more) if sheet and more else sheet


def beside(spot: Spot, second: Other | None) -> Beside | None:
    """Gives the second image for the pad, exact where the pointer rests."""
    if second is None:
        return None
    same = spot.run.id == second.run.id
    first, other = (
        f"step {each.checkpoint.step:,}" if same else each.run.name for each in (spot, second)
    )
    return Beside(second.key, (first, other), image(second)[0] if spot.view.rest else None)


# --- The tool ---------------------------------------------------------------------------------------------------------


def draw(spot: Spot) -> None:
    """Draws the choice of what stands beside, and says what both show."""
    from core import latent

    ready = {run.id: run for run in runs.generators(runs.dataset_of(spot.run)) if _steps(spot, run)}
    if not ready:
        with shell.empty(
            "There is nothing to put beside this model yet: no other state of it, and no other model."
        ):
            shell.go("train", "Train another")
        return
    id, step, by = _asked()
    state, controls = st.session_state, st.container(horizontal=True, vertical_alignment="bottom")
    state["latent.beside.run"] = id if id in ready else None
    controls.selectbox(
        "Beside it",
        list(ready),
        index=None,
        key="latent.beside.run",
        format_func=lambda id: "Another state" if id == spot.run.id else shell.called(ready[id]),
        placeholder="Another state of this model, or another model",
        on_change=lambda: put(state["latent.beside.run"]),
        help="Models of the same dataset. Both pictures follow the ring of the pad.",
    )
    if id not in ready:
        st.caption("Choose what stands beside: one drag on the pad then moves both pictures.")
        return
    steps = _steps(spot, ready[id])
    step = _usual(spot, ready[id]) if step is None else step
    if len(steps) > 1:
        state["latent.beside.step"] = step
        controls.selectbox(
            "Its saved state",
            steps if step in steps else [step, *steps],
            key="latent.beside.step",
            format_func=lambda step: f"step {step:,}",
            on_change=lambda: put(id, state["latent.beside.step"], by),
            help="How far its training had come (its checkpoint).",
        )
    if id != spot.run.id:
        controls.button(
            "Swap",
            key="latent.beside.swap",
            icon=":material/swap_horiz:",
            on_click=lambda: swap(spot, id),
            help="The other one is then dragged, and this one follows.",
        )
    try:
        second = _other(spot, id, step, by)
    except UserError:
        return  # which is said above the pad
    if len(second.joints) > 1:
        state["latent.beside.by"] = second.by
        controls.segmented_control(
            "Both show",
            second.joints,
            key="latent.beside.by",
            required=True,
            format_func=lambda by: latent.JOINED[by],
            help="The same numbers (latent), or the image that the second one's encoder finds again.",
            on_change=lambda: put(id, step, state["latent.beside.by"]),
        )
    st.caption(shell.plain(told(second)))


def put(run: str | None, step: int | None = None, by: str = "") -> None:
    """Puts a model beside, in the address; nothing stands there without one."""
    asked = {"beside": run and (run if step is None else f"{run}@{step}"), "by": run and by}
    for name, value in asked.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)
    st.rerun(RERUN)


def swap(spot: Spot, id: str) -> None:
    """Makes the run beside the chosen one, and puts the one that was chosen beside it."""
    st.session_state["run"] = id
    st.query_params["beside"] = spot.run.id
    st.query_params.pop("by", None)
    st.rerun()


def told(second: Other) -> str:
    """Says what both pictures have in common."""
    name = second.run.name
    if second.by == "point":
        return (
            "Both are given the same numbers (latent) at every place of the pad: "
            "where the pictures differ, the models do."
        )
    _, images = MATCHED.get(second.choice.kind, MIDDLE)
    return (
        f"{name} finds {images if second.own is None else 'your image'} by its encoder, and goes from there the ways "
        "that change it alike: where the pictures differ, it cannot draw what the other draws, or goes another way."
    )

"""From a config to widgets: the only place where a parameter becomes a control."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import streamlit as st

from core.catalog import Config, Knob, UserError
from pages.parts.glossary import explained


def form(
    parts: Mapping[str, type[Config]], *, link: bool = False, omit: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Draws one control per parameter; the advanced ones of all parts are folded away together.

    Args:
        parts: Config classes by the start of their widget keys; a control's key is ``page.entry.field``.
        link: Whether the values stand in the address, so that a copied link sets them.
        omit: Parameters that the page asks for in a way of its own, or that mean nothing here.

    Returns:
        The values, by part and parameter.
    """
    values: dict[str, dict[str, Any]] = {key: {} for key in parts}
    knobs = [
        (key, knob)
        for key, config in parts.items()
        for knob in config.knobs().values()
        if not knob.path and knob.name not in omit
    ]
    for key, knob in knobs:
        if not knob.advanced:
            values[key][knob.name] = control(knob, key, link=link)
    if any(knob.advanced for _, knob in knobs):
        with st.expander("Advanced"):
            for key, knob in knobs:
                if knob.advanced:
                    values[key][knob.name] = control(knob, key, link=link)
    return values


def flat(
    parts: Mapping[str, type[Config]],
    *,
    link: bool = False,
    omit: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Draws all parameters, advanced or not, one below the other, for a place that is folded away itself."""
    return {
        key: {
            knob.name: control(knob, key, link=link)
            for knob in config.knobs().values()
            if not knob.path and knob.name not in omit
        }
        for key, config in parts.items()
    }


def control(knob: Knob, key: str, *, link: bool = False) -> Any:
    """Draws the control that fits a parameter: toggle, choice, slider, number or text."""
    start = knob.default
    common: dict[str, Any] = {"key": f"{key}.{knob.name}", "help": explained(knob.help, knob.label)}
    common |= {"bind": "query-params"} if link else {"persist_state": "session"}
    # A start value beside a set state is a warning; but what stands in the address falls back to the start value
    # when the visitor goes back, and without one to the lowest.
    fresh = link or common["key"] not in st.session_state
    if knob.type is bool:
        return st.toggle(knob.label, **({"value": start} if fresh else {}), **common)
    if knob.options:
        if len(knob.options) <= 4 and sum(len(str(option)) for option in knob.options) <= 16:
            return st.segmented_control(
                knob.label,
                knob.options,
                format_func=lambda option: "none" if option == "" else str(option),
                required=True,
                **({"default": start} if fresh else {}),
                **common,
            )
        return st.selectbox(
            knob.label,
            knob.options,
            format_func=lambda option: "none" if option == "" else str(option),
            **({"index": knob.options.index(start)} if fresh else {}),
            **common,
        )
    if knob.type is str:
        return st.text_input(knob.label, **({"value": start} if fresh else {}), **common)
    bounds = (
        _inside(knob, knob.low, knob.open_low, 1),
        _inside(knob, knob.high, knob.open_high, -1),
    )
    value = {"value": knob.type(start)} if fresh else {}
    if None not in bounds and not knob.log:
        step = 1 if knob.type is int else (bounds[1] - bounds[0]) / 100  # type: ignore[operator]
        return st.slider(knob.label, *bounds, step=step, **value, **common)  # type: ignore[arg-type]
    # without a step Streamlit takes a number without a start value for one with decimals
    step = 1 if knob.type is int else max(abs(float(start)) / 10, 1e-5) if start else 1.0
    common["help"] = explained(f"{knob.help} {knob.allowed.capitalize()}.", knob.label)
    return (
        st.number_input(  # without bounds: the browser would keep back what core has a sentence for
            knob.label,
            step=step,
            format=None if knob.type is int else "%g",
            **value,
            **common,  # type: ignore[arg-type]
        )
    )


def whole(
    label: str,
    key: str,
    start: int,
    help: str,
    place: Any = st,
    most: int = 2**31 - 1,
    called: str = "",
    **options: Any,
) -> int:
    """Draws a whole number from 0 that stands in the address.

    Raises:
        UserError: If it is less than 0 or more than ``most``.
    """
    value = int(
        place.number_input(
            label, value=start, step=1, key=key, bind="query-params", help=help, **options
        )
    )
    if not 0 <= value <= most:
        raise UserError(f"{called or label} must be from 0 to {most}, got {value}. Choose another.")
    return value


def seed(key: str, what: str, **options: Any) -> int:
    """Draws the seed of what a page shows: ``images`` or ``draws``."""
    same = f"Another seed, other {what}; the same seed always gives the same ones."
    help = explained(same, "Seed")
    return whole("Seed", key, 0, help, called="The seed", **options)


def _inside(knob: Knob, bound: float | None, is_open: bool, sign: int) -> Any:
    """Turns a bound into the last value that a widget may take."""
    if bound is None:
        return None
    if is_open:
        bound = bound + sign * (1 if knob.type is int else 1e-6)
    return knob.type(bound)


def fill(key: str, values: Mapping[str, Any]) -> None:
    """Sets controls to values before they are drawn, for presets and clones; call it from a callback."""
    for name, value in values.items():
        st.session_state[f"{key}.{name}"] = value

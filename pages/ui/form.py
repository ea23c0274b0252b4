"""From a config to widgets: the only place where a parameter becomes a control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.catalog import Config, Knob


def form(config: type[Config], key: str, defaults: Mapping[str, Any] | None = None, *, fold: bool = True) -> dict[str, Any]:
    """Draws one control per parameter and gives their values; advanced ones are folded away.

    Args:
        config: The parameters.
        key: Start of the widget keys, ``page.entry``; a control's key is ``page.entry.field``.
        defaults: Values that start instead of the parameters' own.
        fold: Whether advanced parameters are drawn here, in an expander; if not, :func:`advanced` draws them.
    """
    knobs = {name: knob for name, knob in config.knobs().items() if not knob.path}
    values = {name: control(knob, key, (defaults or {}).get(name)) for name, knob in knobs.items() if not knob.advanced}
    return values | (advanced({config: key}, defaults) if fold and any(k.advanced for k in knobs.values()) else {})


def advanced(parts: Mapping[type[Config], str], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Draws the advanced parameters of several configs (class to key) in one expander; values by name."""
    values: dict[str, Any] = {}
    with st.expander("Advanced"):
        for config, key in parts.items():
            for name, knob in config.knobs().items():
                if knob.advanced and not knob.path:
                    values[name] = control(knob, key, (defaults or {}).get(name))
    return values


def control(knob: Knob, key: str, start: Any = None) -> Any:
    """Draws the control that fits a parameter: toggle, choice, slider, number or text."""
    start = knob.default if start is None else start
    common: dict[str, Any] = {"key": f"{key}.{knob.name}", "help": knob.help, "persist_state": "session"}
    fresh = common["key"] not in st.session_state  # a start value beside a set state is a warning
    if knob.type is bool:
        return st.toggle(knob.label, **({"value": start} if fresh else {}), **common)
    if knob.options:
        if len(knob.options) <= 4:
            return st.segmented_control(
                knob.label, knob.options, required=True, **({"default": start} if fresh else {}), **common
            )
        return st.selectbox(knob.label, knob.options, **({"index": knob.options.index(start)} if fresh else {}), **common)
    if knob.type is str:
        return st.text_input(knob.label, **({"value": start} if fresh else {}), **common)
    bounds = (_inside(knob, knob.low, knob.open_low, 1), _inside(knob, knob.high, knob.open_high, -1))
    value = {"value": knob.type(start)} if fresh else {}
    if None not in bounds and not knob.log:
        step = 1 if knob.type is int else (bounds[1] - bounds[0]) / 100  # type: ignore[operator]
        return st.slider(knob.label, *bounds, step=step, **value, **common)  # type: ignore[arg-type]
    step = None if knob.type is int else max(abs(float(start)) / 10, 1e-5)
    return st.number_input(
        knob.label, *bounds, step=step, format=None if knob.type is int else "%g", **value, **common  # type: ignore[arg-type]
    )


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

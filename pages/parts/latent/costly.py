"""What finding directions costs with a model that takes long to decode: said before it begins, and asked for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.ground.writing import duration
from pages.parts import shell, show
from pages.parts.latent import SEPARATOR


def needed(kind: str, axes: tuple[str, ...] = ()) -> str:
    """Names the kind of directions that a kind of plane needs, of those that may take long; empty for none.

    Args:
        kind: Of the plane, a name of :data:`core.latent.PLANES`.
        axes: Kinds and names of the two directions of a plane of directions.
    """
    if kind in ("principal", "labels"):
        return "principal"
    if kind != "directions":
        return ""
    kinds = {name.partition(SEPARATOR)[0] for name in axes}
    return next((each for each in ("local", "principal") if each in kinds), "")


def ready(space: Any, kind: str, key: str, meanwhile: str = "") -> bool:
    """Tells whether directions are soon there; else says what they cost, and finds main ones when it is asked to.

    Args:
        space: Of the model.
        kind: ``principal`` or ``local``; those of a place are never worth minutes, as they are found anew everywhere.
        key: Of the button.
        meanwhile: What is shown until then, a sentence.
    """
    from core import latent

    if not latent.costly(space, kind):
        return True
    took = duration(latent.foretold(space, kind))
    if kind == "local":
        st.caption(
            f"Directions near an image would take about {took} here at every place, so they are not looked for. "
            + meanwhile
        )
        return False
    st.caption(
        f"Its main directions would take about {took} to find here, once: it decodes many images for them. "
        + meanwhile
    )
    pressed = st.button(
        "Find its main directions",
        key=key,
        icon=":material/explore:",
        disabled=not shell.may_change(),
        help="Goes on while this page is open, and is kept until the server starts again.",
    )
    if pressed:
        latent.principal(space, watch=show.Bar("Decoding images"))
        st.rerun()
    return False

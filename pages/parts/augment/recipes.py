"""A chain to take away and to bring in: as a recipe, as code, under a name, into a training or a dataset."""

from __future__ import annotations

from typing import Any

import streamlit as st

from core import jobs, kinds
from core.catalog import UserError
from pages.parts import shell
from pages.parts.augment import pipeline, take

ENDINGS = {"json": "json", "yaml": "yaml", "torchvision": "py", "albumentations": "py"}
TITLES = {
    "json": "JSON",
    "yaml": "YAML",
    "torchvision": "torchvision (runs)",
    "albumentations": "Albumentations (runs)",
}


def draw(chain: Any) -> None:
    """Offers to keep the chain, to read one, and to write it for other programs."""
    from core import augment

    keep, bring = st.columns(2, gap="large")
    with keep:
        st.markdown("**Keep it**")
        name = st.text_input("Name", key="augment.name.new", placeholder="gentle", max_chars=60)
        shell.press(
            st,
            "Save the chain",
            save,
            chain,
            name,
            key="augment.save",
            icon=":material/save:",
            disabled=not shell.may_change() or not chain.steps,
            help="Then Train and the classifier can use it by its name.",
        )
        for saved in augment.saved()[:6]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(
                    f"{shell.plain(saved.name)} · {shell.plain(saved.id)} · {len(saved.pipeline.steps)} steps"
                )
                st.button(
                    "Delete",
                    key=f"augment.forget.{saved.id}",
                    type="tertiary",
                    on_click=shell.attempt,
                    args=(augment.forget, saved.id),
                    disabled=not shell.may_change(),
                )
    with bring:
        st.markdown("**Bring one**")
        upload = st.file_uploader(
            "A recipe (JSON or YAML)",
            type=["json", "yaml", "yml"],
            key="augment.recipe",
            max_upload_size=1,
        )
        file, refused = st.session_state.get("augment.read", ("", ""))
        if upload is not None and file != upload.file_id:
            try:
                take(augment.read(upload.getvalue().decode("utf-8", "replace")))
            except UserError as error:
                refused = str(error)
                st.session_state["augment.read"] = upload.file_id, refused
            else:
                st.session_state["augment.read"] = upload.file_id, ""
                st.session_state["_done"] = f"The recipe {upload.name} is the chain now."
                st.rerun()
        if upload is not None and refused:
            shell.refuse(refused)
    st.markdown("**Take it away**")
    dialect = st.segmented_control(
        "As",
        list(augment.DIALECTS),
        default="torchvision",
        key="augment.dialect",
        required=True,
        wrap=True,
        format_func=lambda name: TITLES[name],
        label_visibility="collapsed",
    )
    dialect = dialect or "torchvision"
    text = augment.export(chain, dialect)
    st.download_button(
        f"Download as .{ENDINGS[dialect]}",
        text,
        f"{chain.name or 'augmentation'}.{ENDINGS[dialect]}".replace(" ", "-").lower(),
        "text/plain",
        key="augment.export",
        icon=":material/download:",
        on_click="ignore",
    )
    st.code(
        text,
        language={"torchvision": "python", "albumentations": "python"}.get(dialect, dialect),
        height=300,
    )
    st.caption(f"What it does has the hash `{chain.hash[:16]}`.")


def save(chain: Any, name: str) -> None:
    """Keeps the chain under a name."""
    from core import augment

    st.session_state["_done"] = f"Saved as {augment.save(chain, name, shell.who())}."


def known(chain: Any) -> str:
    """Gives the id of a preset or a saved pipeline that does the same; empty for a new one."""
    from core import augment

    ids = {preset.pipeline.hash: preset.id for preset in augment.presets()}
    ids |= {saved.hash: saved.id for saved in augment.saved()}
    return ids.get(chain.hash, "")


def newest(kind: str, data: str) -> list[jobs.Job]:
    """Lists the jobs of a kind about a dataset, newest first."""
    return [job for job in jobs.listing(kind) if job.config["dataset"]["name"] == data]


def start(kind: str, data: str, chain: Any, values: dict[str, Any]) -> None:
    """Starts a job about the chain and the dataset; a new chain is saved first, so that the job can name it."""
    values = {f"{kind}.{name}": value for name, value in values.items()}
    values[f"{kind}.pipeline"] = identified(chain)
    kinds.submit(kind, {"dataset": data}, values, who=shell.who())


def identified(chain: Any) -> str:
    """Gives the id of a chain, which is saved first if it is new."""
    from core import augment

    return known(chain) or augment.save(chain, chain.name or "chain", shell.who())


def train() -> bool:
    """Offers to train with the chain; true when the form of Train holds it, saved first if it is new."""
    from core import augment

    def act() -> None:
        chain = pipeline()
        augment.training(chain)
        st.session_state["train.augment.pipeline"] = identified(chain)
        st.session_state["augment.goes"] = True

    shell.press(
        st,
        "Train with this chain",
        act,
        key="augment.train",
        icon=":material/arrow_forward:",
        type="tertiary",
    )
    return st.session_state.pop("augment.goes", False)

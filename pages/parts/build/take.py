"""Taking a dataset away: the layouts, what was read back of each, and the files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from core import building, datasets, jobs, kinds
from core.building import door, watermark
from core.building.layouts import layouts
from core.building.optout import staying, without
from core.catalog import installed
from core.datasets.optout import stamp
from core.ground import scratch
from core.ground.cache import Cache
from core.ground.writing import many
from core.kinds.export import FOLDER
from pages.parts import job as job_panel
from pages.parts import shell, table
from pages.parts.data import versions
from pages.parts.glossary import explained

MOST = 500 * 2**20  # bytes of a download: it is in memory while it is sent
_held: Cache[list[door.Refusal]] = Cache(8)
PURPOSES = {"not said": "Not said", "research": "Research", "commercial": "Commercial use"}


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Offers the dataset in the layouts that people use, and what the last export has made."""
    left, right = st.columns([3, 2], gap="large")
    with right:
        versions.terms(dataset)
        said, refusals = leave(dataset)
    with left:
        values = {f"dataset.{key}": value for key, value in prepared.items()} | said
        choose(dataset, name, values, refusals)
    exports = [job for job in jobs.listing("export") if job.config["dataset"]["name"] == name]
    if exports:
        shell.live(done, 1 if exports[0].active else None, exports[0].id, dataset.fingerprint)


def leave(dataset: Any) -> tuple[dict[str, str], list[door.Refusal]]:
    """Says what holds the dataset at the door, and takes the reasons of whoever lets it out; gives both, as values too.

    What must not be used stays out of every export, and is told as a note.
    """
    st.markdown(
        "**At the door**",
        help=explained(
            "What is looked at before a dataset leaves: licences, consent, marks.", "Door"
        ),
    )
    purpose = st.segmented_control(
        "It leaves for",
        list(PURPOSES),
        default="not said",
        required=True,
        format_func=PURPOSES.__getitem__,
        key="build.take.purpose",
        help="A licence may forbid commercial use.",
    )
    config = door.DoorConfig.of({"purpose": purpose, "near": False})
    key = (dataset.fingerprint, tuple(sorted(dataset.terms.items())), purpose, stamp())
    with st.spinner("Asking at the door"):
        if note := staying(dataset):
            st.info(note, icon=":material/block:")
        refusals = _held.get(key, lambda: door.check(without(dataset), config))
    if not refusals:
        st.success(
            "Nothing holds it. Near copies are looked for in the export.", icon=":material/check:"
        )
    reasons, answered = [], []
    for refusal in refusals:
        title = door.checks.get(refusal.check).title
        st.warning(f"**{title}.** {shell.plain(refusal.sentence)}", icon=":material/block:")
        reason = st.text_input(
            f"Why it leaves all the same ({refusal.check})",
            key=f"build.take.why.{refusal.check}",
            max_chars=300,
            help="The reason is kept with the export, and stands in its card.",
        )
        reasons += [f"{refusal.check}={reason.strip()}"] if reason.strip() else []
        answered.append(replace(refusal, reason=reason.strip()))
    return {"export.purpose": purpose, "export.overrides": "\n".join(reasons)}, answered


def choose(
    dataset: Any, name: str, values: Mapping[str, Any], refusals: Sequence[door.Refusal] = ()
) -> None:
    """Lets the visitor choose layouts, and exports them as a job; the ZIP comes at once."""
    every = sorted(layouts, key=lambda each: each.order)
    able = [each for each in every if not each.refuses(dataset)]
    st.markdown("**Layouts**")
    options = [each.name for each in able]
    kept = "build.take.layouts.kept"  # a widget forgets when its view is left
    before = [key for key in st.session_state.get(kept, ()) if key in options]
    chosen = st.pills(
        "Layouts",
        options,
        selection_mode="multi",
        default=before or ["parquet" if len(able) > 1 else able[0].name],
        format_func=lambda key: layouts.get(key).title,
        key="build.take.layouts",
        label_visibility="collapsed",
        wrap=True,  # all are seen on a phone, too
        help="Each is a folder of its own. All carry the class names, the splits and, of every item, where it comes "
        "from: origin, parent, run, seed and parameters.",
    )
    st.session_state[kept] = list(chosen)
    lines = [
        f"- **{layouts.get(key).title}**: {shell.plain(layouts.get(key).caption)}" for key in chosen
    ]
    st.caption("\n".join(lines) or "Choose at least one.")
    for why in dict.fromkeys(filter(None, (each.refuses(dataset) for each in every))):
        st.caption(shell.plain(why))
    values = {**values, **advanced(dataset, name)}
    held = door.holding(refusals)
    with st.container(horizontal=True):
        shell.press(
            st,
            "Export and check",
            begin,
            name,
            list(chosen),
            values,
            type="primary",
            key="build.take.export",
            icon=":material/inventory_2:",
            disabled=not shell.may_change() or not chosen or bool(held),
            help="As a job. Everything is read back and compared before it counts as done.",
        )
        archive(dataset, values["export.purpose"], refusals)
    if held:
        st.caption(f":material/block: {held_back(held)}")
    if held and not door.holding(refusals, door.ONLY_TOLD):
        st.caption("The ZIP goes all the same, for your own use.")
    counts = building.origins(dataset)
    st.caption(
        "The ZIP has one folder per class, and `manifest.csv` with the lineage: "
        + ", ".join(f"{count:,} {origin}" for origin, count in counts.items() if count)
        + "."
    )


def advanced(dataset: Any, name: str) -> dict[str, Any]:
    """Offers the watermark, and says how a layout is sent to the hub; gives the values."""
    why = watermark.refuses(dataset)
    if not why and not building.origins(dataset)["synthetic"]:
        why = "Only synthetic items carry a watermark, and this dataset has none."
    with st.expander("Advanced", icon=":material/tune:"):
        wanted = st.checkbox(
            "Invisible watermark",
            key="build.take.watermark",
            disabled=bool(why) or not shell.may_change(),
            help="Writes into the pixels of synthetic pictures, in the layouts above, that they were made on this "
            "server. **Where from?** finds it again, also after a crop, JPEG, or scaling by up to 10 %. Nobody sees "
            "it, and its absence proves nothing. Its key stays on this server.",
        )
        if why:
            st.caption(shell.plain(why))
        if installed("huggingface_hub"):
            st.caption("To the Hugging Face hub, with a token in HF_TOKEN:")
            command = f"python -m core export {shlex.quote(name)} --as parquet --push OWNER/NAME"
            st.code(command, language=None, wrap_lines=True)
        else:
            st.caption(
                "Sending to the Hugging Face hub needs the package huggingface-hub, which is not installed "
                "(`make extras`)."
            )
    return {"export.watermark": True} if wanted and not why else {}


def begin(name: str, chosen: list[str], values: Mapping[str, Any]) -> None:
    """Submits the export."""
    asked = {**values, "export.layouts": ",".join(chosen)}
    kinds.submit("export", {"dataset": name}, asked, who=shell.who())


def held_back(held: Sequence[door.Refusal]) -> str:
    """Says what is to be done before the dataset leaves."""
    names = ", ".join(door.checks.get(refusal.check).title for refusal in held)
    return (
        f"Held at the door: {names}. Mend it, or write the reason why it leaves all the same into the field below "
        "each sentence under **At the door**."
    )


def archive(dataset: Any, purpose: door.Purpose, refusals: Sequence[door.Refusal]) -> None:
    """Offers the dataset as a ZIP of class folders with a manifest, where nothing but its licence holds it."""

    def packed() -> bytes:
        with scratch.temporary() as folder:
            file = folder / "dataset.zip"
            building.pack(dataset, file, purpose, {r.check: r.reason for r in refusals if r.reason})
            return file.read_bytes()

    st.download_button(
        "Download as ZIP",
        packed,
        f"{datasets.slug(dataset.name)}.zip",
        "application/zip",
        key="data.zip",
        icon=":material/download:",
        on_click="ignore",
        disabled=bool(door.holding(refusals, door.ONLY_TOLD)),
    )


@shell.guard()
def done(id: str, fingerprint: str) -> None:
    """Follows an export; when it has ended, says what was compared, and offers the files."""
    job = jobs.get(id)
    st.markdown("**Exported**")
    job_panel.panel(job, "build.take", help="Nothing half-written is kept.")
    record = job.result()
    if not record:
        return
    if record["fingerprint"] != fingerprint:
        st.info("The dataset has changed since this export.", icon=":material/info:")
    table.table(
        [
            table.Row(
                name=row["title"],
                value=f"{row['bytes'] / 2**20:,.1f} MB",
                interval=f"{many(row['files'], 'file')} in {row['seconds']:.1f} s",
                real=f"✓ {row['rows']:,} equal",
                note=row["opens"],
                why=row["checked"],
            )
            for row in record["layouts"]
        ],
        alt=f"What was written of {record['dataset']}, and what reading it back has found",
        heads=("Layout", "Size", "Read back"),
    )
    folder = job.path / FOLDER
    with st.container(horizontal=True):
        for row in record["layouts"]:
            if row["bytes"] <= MOST:
                take(folder / row["layout"], row, record["dataset"])
    large = [row["title"] for row in record["layouts"] if row["bytes"] > MOST]
    st.caption(
        "Unpack a ZIP before a library opens it. "
        + (f"Too large to send: {', '.join(large)}. " if large else "")
        + (f"On this server all lie in `{folder}`." if shell.may_change() else "")
    )


def take(folder: Any, row: Mapping[str, Any], name: str) -> None:
    """Offers the folder of one layout as a ZIP."""
    st.download_button(
        row["title"],
        lambda: building.zipped(folder, f"{datasets.slug(name)}-{row['layout']}"),
        f"{datasets.slug(name)}-{row['layout']}.zip",
        "application/zip",
        key=f"build.take.{row['layout']}",
        icon=":material/download:",
        on_click="ignore",
    )

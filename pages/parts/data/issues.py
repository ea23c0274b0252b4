"""What is wrong: the issues of each kind with their pictures and evidence, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import jobs, kinds
from core.catalog import UserError
from pages.parts import form, shell, show
from pages.parts import job as job_panel
from pages.parts.data import mending, titles, viewer

PAGE = 12  # issues whose pictures are shown at a time


def draw(dataset: Any, choice: str, prepared: Mapping[str, Any]) -> None:
    """Inspects on request, and shows what was found.

    Args:
        dataset: As it was prepared.
        choice: Its name.
        prepared: The parameters that it was prepared with.
    """
    from core import quality

    job = quality.newest(dataset)
    if job is None or not (job.active or job.status == "finished"):
        ask(dataset, choice, prepared, job)
        return
    if job.active:
        shell.live(watch, 1, job.id)
        return
    findings = job.result()
    if findings is None:
        ask(dataset, choice, prepared, job)
        return
    book = mending.opened(dataset)
    if book.damaged:
        st.warning(shell.plain(book.damaged), icon=":material/warning:")
    by_kind = findings.by_kind()
    labels = findings.overview["labels"]
    if dataset.labelled and not labels["judged"]:
        st.info(shell.plain(labels["sentence"]), icon=":material/help:")
    if by_kind:
        listed(dataset, findings, by_kind, book)
    else:
        st.success(
            f"Nothing was found in {findings.n:,} images. That is rare: look at a few yourself.",
            icon=":material/verified:",
        )
    looked(findings, bool(by_kind))
    whole(findings)
    with st.expander("Inspect again, with other settings"):
        ask(dataset, choice, prepared, None)


def ask(dataset: Any, choice: str, prepared: Mapping[str, Any], failed: jobs.Job | None) -> None:
    """Offers to inspect the dataset."""
    from core import quality

    if failed is not None:
        job_panel.panel(failed, "data.inspect")
    st.caption(
        "Looks at every image once: duplicates and near duplicates, leaks between the splits, labels that are probably "
        "wrong, outliers, blank, blurred, dark and clipped images, balance and variety."
    )
    values = form.form({"data.inspect": quality.InspectConfig})["data.inspect"]
    values = {f"inspect.{name}": value for name, value in values.items()}
    values |= {f"dataset.{name}": value for name, value in prepared.items()}
    if words := takes(choice, len(dataset), values):
        st.caption(words)
    shell.press(
        st,
        "Inspect",
        begin,
        choice,
        values,
        type="primary",
        key="data.inspect",
        icon=":material/search:",
        disabled=not shell.may_change(),
        help="As a job: it goes on when you leave.",
    )


def takes(choice: str, images: int, values: Mapping[str, Any]) -> str:
    """Says how long an inspection takes; nothing where that is not known, or a value is not allowed."""
    from core.kinds.inspect import foretell

    try:
        return job_panel.pace(foretell(choice, images, values), "an inspection of it before")
    except UserError:  # the start says it
        return ""


def begin(choice: str, values: Mapping[str, Any]) -> None:
    """Submits the inspection."""
    kinds.submit("inspect", {"dataset": choice}, values, who=shell.who())


@shell.guard()
def watch(id: str) -> None:
    """Follows the inspection."""
    job = jobs.get(id)
    if not job.active:
        st.rerun()
    job_panel.panel(job, "data.inspect")


def looked(findings: Any, folded: bool) -> None:
    """Says what the checks compared and cannot see: an issue that was not found may still be there."""
    from core import quality

    limits: dict[str, list[str]] = {}
    for row in findings.looked():
        limits.setdefault(f"{row['compared']} *{row['cannot_see']}*", []).append(
            f"{row['title']} ({row['found']:,} found)"
        )
    single = ", ".join(
        f"{entry.title} ({findings.counts.get(entry.name, 0):,} found)"
        for entry in quality.checks
        if not entry.compared and entry.name not in ("label", "doubt")
    )
    limits["every picture by itself."] = [single]
    title = "What was looked for, and what cannot be seen"
    with st.expander(title, icon=":material/visibility_off:", expanded=not folded):
        st.markdown(
            "\n".join(f"* **{', '.join(names)}**: {text}" for text, names in limits.items())
        )


def whole(findings: Any) -> None:
    """Tells of the set as a whole: balance, variety, how alike it is to the held-out images, bias."""
    rows = [
        row
        for name, fact in findings.overview.items()
        for row in (fact if isinstance(fact, list) else [fact])
        if name != "labels" or row["judged"]  # else it stands above
    ]
    sentences = [row["sentence"] for row in rows if row and row.get("sentence")]
    if sentences:
        st.markdown("**The set as a whole**")
        st.markdown("\n".join(f"* {shell.plain(sentence)}" for sentence in sentences))


def listed(dataset: Any, findings: Any, by_kind: dict[str, Any], book: Any) -> None:
    """Lists the issues of one kind, with their pictures, and the buttons for one, some or all of them."""
    from core import quality

    kinds_found = {
        name: f"{quality.checks.get(name).title} ({findings.counts[name]:,})" for name in by_kind
    }
    kind = shell.view(f"Found in {findings.n:,} images", "data.kind", kinds_found, pills=True)
    entry, issues = quality.checks.get(kind), by_kind[kind]
    texts = [entry.caption, entry.compared, entry.blind]
    if kind == "label":
        texts.append(shell.plain(findings.overview["labels"]["sentence"]))
    st.caption(" ".join(text for text in texts if text))
    pages = -(-len(issues) // PAGE)
    key = f"data.issues.{kind}"
    page = min(st.session_state.get(key, 1), pages)
    part = issues[(page - 1) * PAGE : page * PAGE]
    evidence, table = st.columns([1, 1.5], gap="medium")
    with table:
        chosen = choose(dataset, part, book, kind, entry.single)
    with evidence:
        if kind == "contradiction":
            sides(dataset, part[chosen[0]])
        else:
            pictures(dataset, part, chosen, kind)
            buttons(dataset, issues, [part[row] for row in chosen], kind, entry)
    if pages > 1:
        st.pagination(pages, key=key)


def choose(dataset: Any, part: list[Any], book: Any, kind: str, single: bool) -> list[int]:
    """Shows the issues as a table, and gives the rows that are ticked; a single one where each is decided by itself."""
    from core.quality import decisions

    rows, open_ones = [], []
    for issue in part:
        copies = issue.others if kind == "contradiction" else ()
        decided = next((book.state[i] for i in (issue.image, *copies) if i in book.state), None)
        open_ones += [len(rows)] * (decided is None)
        suggested = dataset.classes[issue.label] if issue.label is not None else ""
        rows.append(
            {
                "image": issue.image,
                "split": issue.split,
                "decided": decisions.WORDS[decided[0]] if decided else "",
                **({"suggested": suggested} if any(one.label is not None for one in part) else {}),
                "evidence": issue.sentence,
            }
        )
    event = st.dataframe(
        show.named(pd.DataFrame(rows), "suggested"),
        hide_index=True,
        key=f"data.table.{kind}",
        height=38 + 35 * max(3, len(part)),
        on_select="rerun",
        selection_mode="single-row" if single else "multi-row",
        column_config={
            "image": st.column_config.NumberColumn(width=60),
            "split": st.column_config.TextColumn(width=50),
            "decided": st.column_config.TextColumn(width=80),
            "evidence": st.column_config.TextColumn(width=420),
        },
        alt="The issues found, worst first; tick rows to decide about them",
    )
    ticked = [row for row in event.selection.rows if row < len(part)]
    return ticked or ([*open_ones, 0][:1] if single else [])


def sides(dataset: Any, issue: Any) -> None:
    """Shows copies side by side, one column for each label that they have, and asks which label is right."""
    from core.quality import decisions

    copies = [issue.image, *issue.others]
    labels = list(dict.fromkeys(int(dataset.y[i]) for i in copies))
    st.caption(shell.plain(issue.sentence))
    for begin in range(0, len(labels), 3):
        row = labels[begin : begin + 3]
        for label, column in zip(row, st.columns(max(2, len(row))), strict=False):
            alike = [i for i in copies if dataset.y[i] == label]
            name = dataset.classes[label]
            with column:
                show.pictures(
                    dataset.pictures(alike[:1]),
                    columns=1,
                    key=f"data.side.{label}",
                    alt=f"Image {alike[0]}, labelled {name}",
                    titles=titles(dataset, alike[:1]),
                    max_height=150,
                    max_zoom=6,
                )
                st.markdown(f"**{shell.plain(name)}**: {decisions.named(alike)}")
                for one, title, help in (
                    (False, f"{name} is right", "All these copies get this label."),
                    (True, "Keep one of these", "The other copies are left out."),
                ):
                    st.button(
                        shell.plain(title),
                        key=f"data.{'keep' if one else 'right'}.{label}",
                        on_click=mending.settle,
                        args=(dataset, copies, label, one, issue.sentence),
                        help=help,
                        width="stretch",
                        disabled=not shell.may_change(),
                    )
    with st.container(horizontal=True):
        for what, title in (
            ("exclude", "Leave out all of them"),
            ("accept", "Keep all as they are"),
        ):
            st.button(
                title,
                key=f"data.sides.{what}",
                type="tertiary",
                on_click=mending.act,
                args=(dataset, what, copies),
                kwargs={"kind": "contradiction", "reason": issue.sentence},
                disabled=not shell.may_change(),
            )


def pictures(dataset: Any, part: list[Any], chosen: list[int], kind: str) -> None:
    """Shows the images of the ticked issues with what speaks against them; all of the page when none is ticked."""
    shown = [part[row] for row in chosen] or part
    most = min(3, max((len(issue.others) for issue in shown), default=0))
    index, marks = [], {}
    for issue in shown[:PAGE]:
        marks[len(index)] = ""
        group = [issue.image, *issue.others[:most]]
        index += group + [issue.image] * (1 + most - len(group))
    columns = 4 if not most or (most == 1 and len(shown) > 4) else 1 + most
    key = f"data.evidence.{kind}"
    show.pictures(
        dataset.pictures(index),
        columns=columns,
        key=key,
        alt=f"Images of {len(shown)} issues"
        + (", each framed one followed by the images that it resembles" if most else ""),
        titles=titles(dataset, index),
        marks=marks,
        max_height=330,
        max_zoom=16,
        clickable=True,
    )
    if (tile := show.clicked(key, len(index))) is not None:
        viewer.open(dataset, index[tile], np.unique([issue.image for issue in part]))
    if len(shown) == 1:
        st.caption(shell.plain(shown[0].sentence))
    if most:
        st.caption("Framed: the image in question. Beside it: what it resembles.")


def buttons(dataset: Any, issues: list[Any], ticked: list[Any], kind: str, entry: Any) -> None:
    """Offers to leave out, keep or relabel the ticked issues, or all of this kind."""
    single = entry.single
    about = ticked or [issue for issue in issues if issue.sure or single]
    images = [issue.image for issue in about]
    all_of = f"all {len(about):,}" if len(about) == len(issues) else f"the {len(about):,} surest"
    these = "this one" if single else f"these {len(about)}" if ticked else all_of
    remedy = entry.remedy
    answers = {"kind": kind, "reason": about[0].sentence if len(about) == 1 else ""}
    with st.container(horizontal=True):
        st.button(
            f"Leave out {these}",
            key="data.exclude",
            type="primary" if remedy == "exclude" else "secondary",
            on_click=mending.act,
            args=(dataset, "exclude", images),
            kwargs=answers,
            disabled=not shell.may_change() or not about,
        )
        st.button(
            f"Keep {these if ticked or single else f'all {len(issues):,}'}",
            key="data.accept",
            on_click=mending.act,
            args=(
                dataset,
                "accept",
                [issue.image for issue in ticked or (about if single else issues)],
            ),
            kwargs=answers if ticked or single else {"kind": kind},
            disabled=not shell.may_change(),
            help="Nothing is wrong with them; they stay as they are.",
        )
    if not dataset.labelled or (not ticked and remedy != "relabel"):
        return
    label = st.selectbox(
        "Set label",
        [None, *range(len(dataset.classes))],
        key="data.relabel.to",
        format_func=lambda i: "as suggested" if i is None else dataset.classes[i],
        width=220,
    )
    suggested = [issue for issue in about if label is not None or issue.label is not None]
    shell.press(
        st,
        f"Relabel {these}",
        partial(mending.act, **answers),
        dataset,
        "relabel",
        [issue.image for issue in suggested],
        [issue.label if label is None else label for issue in suggested],
        key="data.relabel",
        type="primary" if remedy == "relabel" and not single else "secondary",
        disabled=not shell.may_change() or not suggested,
    )

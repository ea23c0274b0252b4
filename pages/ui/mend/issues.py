"""What is wrong: the issues of each kind with their pictures and evidence, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import jobs, work
from pages.ui import form, mend, shell, show

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
        ask(choice, prepared, job)
        return
    if job.active:
        shell.live(watch, 1, job.id)
        return
    found = quality.findings(job)
    if found is None:
        ask(choice, prepared, job)
        return
    book = mend.opened(dataset)
    if book.damaged:
        st.warning(shell.plain(book.damaged), icon=":material/warning:")
    kinds = found.by_kind()
    if kinds:
        listed(dataset, found, kinds, book)
    else:
        st.success(
            f"Nothing was found in {found.n:,} images. That is rare: look at a few yourself.",
            icon=":material/verified:",
        )
    whole(found)
    with st.expander("Inspect again, with other settings"):
        ask(choice, prepared, None)


def ask(choice: str, prepared: Mapping[str, Any], failed: jobs.Job | None) -> None:
    """Offers to inspect the dataset."""
    from core import quality

    if failed is not None and failed.message:
        st.error(shell.plain(failed.message))
    st.caption(
        "Looks at every image once: duplicates and near duplicates, leaks between the splits, labels that are probably "
        "wrong, outliers, blank, blurred, dark and clipped images, balance and variety."
    )
    values = form.form({"data.inspect": quality.InspectConfig})["data.inspect"]
    values = {f"inspect.{name}": value for name, value in values.items()}
    values |= {f"dataset.{name}": value for name, value in prepared.items()}
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


def begin(choice: str, values: Mapping[str, Any]) -> None:
    """Submits the inspection."""
    work.submit("inspect", {"dataset": choice}, values, who=shell.who())


@shell.guard()
def watch(id: str) -> None:
    """Follows the inspection."""
    job = jobs.get(id)
    if not job.active:
        st.rerun()
    mend.progress(job, "data.inspect")


def whole(found: Any) -> None:
    """Says how the set stands as a whole: balance, variety, how well it stands for held-out images, bias."""
    facts = [
        one for fact in found.facts.values() for one in (fact if isinstance(fact, list) else [fact])
    ]
    sentences = [one["sentence"] for one in facts if one and one.get("sentence")]
    if sentences:
        st.markdown("**The set as a whole**")
        st.markdown("\n".join(f"* {shell.plain(sentence)}" for sentence in sentences))


def listed(dataset: Any, found: Any, kinds: dict[str, Any], book: Any) -> None:
    """Lists the issues of one kind, with their pictures, and the buttons for one, some or all of them."""
    from core import quality

    titles = {name: f"{quality.checks.get(name).title} ({found.counts[name]:,})" for name in kinds}
    kind = shell.view(f"Found in {found.n:,} images", "data.kind", titles, pills=True)
    entry, issues = quality.checks.get(kind), kinds[kind]
    st.caption(entry.caption)
    pages = -(-len(issues) // PAGE)
    key = f"data.issues.{kind}"
    page = min(st.session_state.get(key, 1), pages)
    part = issues[(page - 1) * PAGE : page * PAGE]
    evidence, table = st.columns([1, 1.5], gap="medium")
    with table:
        chosen = choose(dataset, part, book, kind)
    with evidence:
        pictures(dataset, part, chosen, kind)
        buttons(dataset, issues, [part[row] for row in chosen], kind, entry)
    if pages > 1:
        st.pagination(pages, key=key)


def choose(dataset: Any, part: list[Any], book: Any, kind: str) -> list[int]:
    """Shows the issues as a table, and gives the rows that are ticked."""
    rows = []
    for issue in part:
        decided = book.state.get(issue.image)
        suggested = dataset.classes[issue.label] if issue.label is not None else ""
        rows.append(
            {
                "image": issue.image,
                "split": issue.split,
                "decided": mend.SIGNS[decided[0]] if decided else "",
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
        selection_mode="multi-row",
        column_config={
            "image": st.column_config.NumberColumn(width=60),
            "split": st.column_config.TextColumn(width=50),
            "decided": st.column_config.TextColumn(width=80),
            "evidence": st.column_config.TextColumn(width=420),
        },
        alt="The issues found, worst first; tick rows to decide about them",
    )
    return [row for row in event.selection.rows if row < len(part)]


def pictures(dataset: Any, part: list[Any], chosen: list[int], kind: str) -> None:
    """Shows the images of the ticked issues with what speaks against them; all of the page when none is ticked."""
    shown = [part[row] for row in chosen] or part
    most = min(3, max((len(issue.others) for issue in shown), default=0))
    index, titles, marks = [], [], {}
    for issue in shown[:PAGE]:
        marks[len(index)] = ""
        group = [issue.image, *issue.others[:most]]
        group += [issue.image] * (1 + most - len(group))
        for i in group:
            words = f"image {i}"
            if dataset.y is not None:
                words += f": {dataset.classes[int(dataset.y[i])]}"
            titles.append(words)
        index += group
    columns = (1 + most) * (1 if most else 4) if len(shown) > 1 or not most else 1 + most
    if most and len(shown) > 4:
        columns *= 2 if most == 1 else 1
    show.pictures(
        show.as_bytes(dataset.x[np.asarray(index)], dataset.levels),
        columns=columns,
        key=f"data.evidence.{kind}",
        alt=f"Images of {len(shown)} issues"
        + (", each framed one followed by the images that it resembles" if most else ""),
        titles=titles,
        marks=marks,
        max_height=330,
        max_zoom=8,
    )
    if len(shown) == 1:
        st.caption(shell.plain(shown[0].sentence))
    if most:
        st.caption("Framed: the image in question. Beside it: what it resembles.")


def buttons(dataset: Any, issues: list[Any], ticked: list[Any], kind: str, entry: Any) -> None:
    """Offers to leave out, relabel or accept the ticked issues, or all of this kind."""
    about = ticked or issues
    images = [issue.image for issue in about]
    words = f"these {len(about)}" if ticked else f"all {len(about):,}"
    remedy = entry.extra["remedy"]
    with st.container(horizontal=True):
        st.button(
            f"Leave out {words}",
            key="data.exclude",
            type="primary" if remedy == "exclude" else "secondary",
            on_click=mend.act,
            args=(dataset, "exclude", images),
            kwargs={"kind": kind},
            disabled=not shell.may_change(),
        )
        st.button(
            f"Accept {words}",
            key="data.accept",
            on_click=mend.act,
            args=(dataset, "accept", images),
            kwargs={"kind": kind},
            disabled=not shell.may_change(),
            help="Nothing is wrong with them; they stay as they are.",
        )
    if not dataset.labelled or (not ticked and remedy != "relabel"):
        return
    label = st.selectbox(
        "New label",
        [None, *range(len(dataset.classes))],
        key="data.relabel.to",
        format_func=lambda i: "as suggested" if i is None else dataset.classes[i],
        width=220,
    )
    suggested = [issue for issue in about if label is not None or issue.label is not None]
    shell.press(
        st,
        f"Relabel {words}",
        partial(mend.act, kind=kind),
        dataset,
        "relabel",
        [issue.image for issue in suggested],
        [issue.label if label is None else label for issue in suggested],
        key="data.relabel",
        type="primary" if remedy == "relabel" else "secondary",
        disabled=not shell.may_change() or not suggested,
    )

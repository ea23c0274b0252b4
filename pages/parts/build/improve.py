"""Improve: one button makes a dataset better within a time, and says on one screen whether it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from core import datasets, jobs, kinds
from core.building.improve.effect import FEWEST
from core.catalog import plain
from core.ground import sheets
from core.ground.writing import duration, many, percent
from core.kinds.improve import JOINED, SHOWN
from pages.parts import form, shell, show
from pages.parts.data import load, mending
from pages.parts.job import panel

KEY = "build.improve"
OMIT = frozenset({"minutes", "again"})
ANSWERS = {  # icon and colour of a verdict
    "helps": (":material/trending_up:", "green"),
    "hurts": (":material/trending_down:", "red"),
    "cannot tell": (":material/trending_flat:", "orange"),
    "too few": (":material/hourglass_disabled:", "orange"),
    "no time": (":material/hourglass_disabled:", "orange"),
    "nothing": (":material/trending_flat:", "orange"),
}
MARKS = {"done": "✓", "left out": "–", "failed": "✕"}


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Asks for the time, starts the work, and shows what the newest one came to."""
    from core.building import improve

    if not dataset.labelled:
        with shell.empty(
            "Better is measured by a classifier, so this needs a dataset with labels."
        ):
            shell.go("data", "Look at the data")
        return
    config, why = improve.ImproveConfig, shell.refusal(improve.check, dataset)
    if why:
        shell.refuse(why)
    head = st.container(horizontal=True, vertical_alignment="bottom")
    with head:
        minutes = st.segmented_control(
            "Time",
            [2, 5, 15, 60],
            default=5,
            required=True,
            key=f"{KEY}.minutes",
            format_func=lambda n: f"{n} min",
            help="It plans its steps by that: more time means longer trainings, more chains, and more pairs.",
        )
    press = head.container(width="content")
    with st.expander("What it may do", icon=":material/tune:"):
        values = form.flat({KEY: config}, omit=OMIT)[KEY]
    shell.press(
        press,
        "Improve this dataset",
        start,
        name,
        {**values, "minutes": float(minutes or 5)},
        prepared,
        type="primary",
        key=f"{KEY}.start",
        icon=":material/auto_fix_high:",
        disabled=not shell.may_change() or bool(why),
        help=why or "As a job; the dataset stays as it is, and the result is a new version of it.",
    )
    found = listed(name)
    if not found:
        with shell.empty(
            "Within the time it mends what is wrong beyond doubt, adds augmented copies and synthetic images if they "
            "help on the **validation** images, and compares before and after once on the **test** images. "
            "If nothing helps, it says so.",
            ":material/auto_fix_high:",
        ):
            return
    id = found[0].id
    if len(found) > 1:
        id = st.selectbox(
            "Improvement",
            [job.id for job in found],
            key=f"{KEY}.chosen.{name}",
            format_func=lambda id: next(shell.called(job) for job in found if job.id == id),
            label_visibility="collapsed",
        )
    shell.live(watch, 1 if jobs.get(id).active else None, id, name, not why)


def start(name: str, values: Mapping[str, Any], prepared: Mapping[str, Any]) -> None:
    """Submits the improvement."""
    given = {f"improve.{key}": value for key, value in values.items()}
    given |= {f"dataset.{key}": value for key, value in prepared.items()}
    job = kinds.submit("improve", {"dataset": name}, given, who=shell.who())
    st.session_state[f"{KEY}.chosen.{name}"] = job.id  # the list would stay at the one before


def listed(name: str) -> list[jobs.Job]:
    """Lists the improvements of a dataset, and the one that it came from, newest first."""
    every = jobs.listing("improve")
    mine = [job for job in every if job.config["dataset"]["name"] == name]
    made = [job for job in every if job not in mine and (job.result() or {}).get("version") == name]
    return mine + made


@shell.guard()
def watch(id: str, name: str, able: bool = True) -> None:
    """Shows how far it is, and what is known: the answer, before and after, each step, what can be undone."""
    job = jobs.get(id)
    panel(job, KEY, "What is done by then is kept.", able)
    about(job, name)
    result = job.result()
    if result is None:
        if job.active:
            st.caption("It measures how fast this computer is, and plans its steps.")
        return
    answer(result)
    steps(result)
    if not job.active:
        joined(result, job)
        left, right = st.columns(2, gap="large")
        with left:
            changes(result, job, name)
        with right:
            leftover(result)
        onward(result, job)


def about(job: jobs.Job, name: str) -> None:
    """Says which images it is about where these are not the dataset as it usually is, and offers one that shipped."""
    asked = job.config["dataset"]
    known = datasets.config_of(asked["name"]).knobs() if asked["name"] in datasets.datasets else {}
    special = [
        knob.label if value is True else f"{knob.label}: {plain(value)}"
        for key, value in asked["config"].items()
        if (knob := known.get(key)) and value != knob.default
    ]
    said = []
    if job.shipped:
        said.append("This improvement comes with Simulacra and was measured on another computer.")
    if special:
        of = shell.plain(asked["name"])
        said.append(f"It is about {of}, prepared with **{shell.plain(', '.join(special))}**.")
    if not said:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(" ".join(said), width="stretch")
        if job.shipped:
            minutes = job.config["improve"]["minutes"]
            shell.press(
                st,
                f"Do it here, {duration(60 * minutes)}",
                repeat,
                job,
                name,
                key=f"{KEY}.repeat",
                icon=":material/replay:",
                disabled=not shell.may_change(),
                help="Starts the same on this server; its result is a version that can be taken away.",
            )


def repeat(job: jobs.Job, name: str) -> None:
    """Starts an improvement as another one was asked for."""
    started = kinds.submit("improve", *kinds.flat(job.config), who=shell.who())
    st.session_state[f"{KEY}.chosen.{name}"] = started.id


def answer(result: Mapping[str, Any]) -> None:
    """Says whether it helps, with before and after side by side."""
    if not result["verdict"]:
        if result["done"]:
            st.markdown(
                "### It was stopped before there was an answer; what was done by then is kept."
            )
        return
    icon, colour = ANSWERS[result["verdict"]]
    st.markdown(f"### :{colour}[{icon}] {shell.plain(result['sentence'])}")
    effect, before, after = (result[name] for name in ("effect", "before", "after"))
    if effect is None:
        if base := result.get("baseline"):
            st.metric("As it is", percent(base["mean"] / 100))
            n = f"n = {base['images']:,} validation images, {many(base['n'], 'pair')}"
            st.caption(f"{_interval(base, '%')}, {n}")
        return
    n = f"n = {result['n_test']:,} test images"
    if effect["low"] is not None:
        n += f", {effect['n']} pairs"
    places = st.columns(4)
    for place, label, part in ((places[0], "Before", before), (places[1], "After", after)):
        place.metric(label, percent(part["mean"] / 100))
        place.caption(_interval(part, "%"))
    places[2].metric("Change", f"{effect['value']:+.1f} points")
    places[2].caption(f"{_interval(effect)}, {n}")
    if hard := result["robust"]:
        places[3].metric(
            "Under attack",
            f"{hard['value']:+.1f} points",
            help="The same comparison on test images that a cheap attack of the usual strength has changed.",
        )
        places[3].caption(f"{_interval(hard)}, from {percent(hard['before'] / 100)}")


def _interval(part: Mapping[str, Any], unit: str = "") -> str:
    if part["low"] is None or part["n"] < FEWEST:
        return f"{part['n']} pairs: too few for an interval, which takes {FEWEST}"
    sign = "" if unit else "+"
    low, high = (format(part[end], f"{sign}.1f") for end in ("low", "high"))
    return f"95 %: {low} to {high}{' ' + unit if unit else ''}"


def steps(result: Mapping[str, Any]) -> None:
    """Lists the steps: what came of each, and what it did by itself on the test images."""
    own = {row["step"]: row for row in result["contributions"]}
    lines = []
    for step in result["steps"]:
        gain = ""
        if row := own.get(step["name"]):
            gain = f"**{row['value']:+.1f}**"
            if row["low"] is not None:
                gain += f"\u00a0[{row['low']:+.1f},\u00a0{row['high']:+.1f}]"  # in one line
        cells = [
            MARKS[step["status"]],
            step["title"].replace(" ", "\u00a0"),
            gain,
            step["sentence"],
            duration(step["seconds"]),
        ]
        lines.append(
            "| " + " | ".join(cell if cell == gain else shell.plain(cell) for cell in cells) + " |"
        )
    if not lines:
        return
    st.markdown(
        "\n".join(
            [
                "| | Step | By\u00a0itself | What came of it | Time |",
                "|:-:|:--|:--|:--|--:|",
                *lines,
            ]
        )
    )
    st.caption(
        f"✓ done, – left out, ✕ failed; {duration(result['seconds'])} of {duration(result['limit'])} were used. "
        "By itself: points that the step added on the test images to the one before it"
        + _with(list(own.values()))
    )


def _with(rows: list[Any]) -> str:
    """Says whether the steps' own gains have an interval, or why they have none."""
    if not rows:
        return "; not measured."
    if rows[0]["low"] is None:
        return f"; {many(rows[0]['n'], 'pair')} are too few for an interval, which takes {FEWEST}."
    return ", with its interval of 95 %."


def joined(result: Mapping[str, Any], job: jobs.Job) -> None:
    """Shows some of what was added, and says how much it is and of how many images."""
    for kind, count in result.get("added", {}).items():
        pictures = _some(kind, result, job)
        if not len(pictures):
            continue
        noun = {"augmented": "augmented copies", "synthetic": "synthetic images"}.get(kind, kind)
        of = f" of {many(count['of'], 'image')}" if count["of"] else ""
        st.caption(f"**{count['n']:,}** {noun}{of} joined; {len(pictures)} of them:")
        show.pictures(
            pictures,
            columns=len(pictures),
            key=f"{KEY}.joined.{kind}",
            max_height=60,
            alt=f"{len(pictures)} of the {noun} that joined",
        )


def _some(kind: str, result: Mapping[str, Any], job: jobs.Job) -> np.ndarray:
    """Gives some of the items that joined from an origin, uint8 (n, 1 or 3, H, W); none where they are not known."""
    from core.building.version import provenance

    sheet = job.path / JOINED / f"{kind}.png"
    if sheet.exists():
        return sheets.tiles(sheet.read_bytes())
    if result["version"] not in datasets.names():
        return np.zeros((0, 1, 1, 1), np.uint8)
    version = load(result["version"], {})  # of one that was made before there were sheets
    train, origin = version.splits["train"], provenance(version)["origin"]
    return version.pictures(datasets.evenly(train[origin[train] == kind], SHOWN))


def changes(result: Mapping[str, Any], job: jobs.Job, name: str) -> None:
    """Lists what was left out, each with its undo."""
    from core.quality import decisions

    st.markdown("**What was changed**")
    if not result["changes"]:
        st.caption("No image was left out, and no label was touched.")
        return
    if job.shipped:
        for change in result["changes"]:
            st.markdown(f"{shell.plain(change['title'])}: {change['n']:,} left out")
        return
    about = job.config["dataset"]
    parent = load(about["name"], dict(about["config"]))
    if parent.fingerprint != result["fingerprint"]:
        st.caption(f"{shell.plain(about['name'])} has changed since, so nothing can be undone.")
        return
    state, undone = mending.opened(parent).state, False
    for change in result["changes"]:
        out = [i for i in change["images"] if state.get(i, ("", None))[0] == "exclude"]
        undone |= len(out) < len(change["images"])
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"{shell.plain(change['title'])}: {change['n']:,} left out"
                if out
                else f"~~{shell.plain(change['title'])}: {change['n']:,}~~ taken back",
                width="stretch",
            )
            st.button(
                "Undo",
                key=f"{KEY}.undo.{change['kind']}",
                icon=":material/undo:",
                type="tertiary",
                on_click=mending.undo,
                args=(parent, *change["ids"]),
                disabled=not shell.may_change() or not out,
                help=f"{decisions.named(change['images'])}. It comes back; the version stays until it is made again.",
            )
    if undone:
        shell.press(
            st,
            "Make it again without what was undone",
            again,
            job,
            name,
            key=f"{KEY}.again",
            icon=":material/replay:",
            disabled=not shell.may_change(),
        )


def again(job: jobs.Job, name: str) -> None:
    """Does the plan of an improvement again, on what is left out now, with a new proof."""
    choice, values = kinds.flat(job.config)
    values |= {"improve.again": job.id, "improve.name": ""}
    started = kinds.submit("improve", choice, values, who=shell.who())
    st.session_state[f"{KEY}.chosen.{name}"] = started.id


def leftover(result: Mapping[str, Any]) -> None:
    """Says what was not done, and why."""
    st.markdown("**What was not done, and why**")
    for sentence in result["not_done"] or ["Nothing was left out."]:
        st.markdown(f"- {shell.plain(sentence)}")


def onward(result: Mapping[str, Any], job: jobs.Job) -> None:
    """Offers the new version, its files and its plan."""
    version = result["version"]
    here = version in datasets.names() and not job.shipped  # another one may have its name
    if version and not here:
        st.caption(
            f"The new version, {shell.plain(version)}, is not on this server"
            + (": do it here, and it is." if job.shipped else " any more.")
        )
    with st.container(horizontal=True):
        if version and here:
            shell.version(
                version,
                "Export it",
                "build",
                key=f"{KEY}.take",
                icon=":material/download:",
                type="primary" if result["verdict"] == "helps" else "secondary",
                help="Chooses the new version, and its way out.",
                build__view="take",
            )
            shell.version(
                version,
                "Prove it further",
                "build",
                key=f"{KEY}.proof",
                icon=":material/science:",
                help="With other referees, and longer.",
                build__view="proof",
            )
            shell.version(version, key=f"{KEY}.look")
        if result["plan"]:
            st.download_button(
                "Plan (JSON)",
                lambda: json.dumps(result["plan"], indent=1),
                f"{result['version'] or job.id}-plan.json",
                "application/json",
                key=f"{KEY}.plan",
                icon=":material/download:",
                on_click="ignore",
            )
        st.download_button(
            "Everything (JSON)",
            lambda: json.dumps(result, indent=1),
            f"{job.id}.json",
            "application/json",
            key=f"{KEY}.json",
            icon=":material/download:",
            on_click="ignore",
        )

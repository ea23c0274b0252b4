"""Let families race: the same data, the same seconds, and what each has learned by then."""

from typing import Any

import pandas as pd
import streamlit as st

from core import jobs, kinds, runs
from core.ground.writing import duration
from core.kinds.race import RaceConfig
from pages.parts import form, shell, show, track
from pages.parts import job as job_panel

TITLE = "Race"
ICON = ":material/sports_score:"
ORDER = 3.2
BUDGET = 1_500_000  # bytes of sheets that are sent to the browser
shell.enter()


def start(values: dict[str, object]) -> None:
    """Submits what the form holds, and follows the new race."""
    choice = {"dataset": shell.chosen_dataset()}
    job = kinds.submit("race", choice, values, who=shell.who())
    st.session_state["race"] = job.id


def the_form() -> None:
    """Draws the form: how long, who, and the button."""
    from core import datasets

    about = datasets.describe(shell.chosen_dataset())
    st.caption(
        f"Each family trains on **{shell.plain(about.title)}** for the same time, with its recommended settings. "
        "They take turns of a few seconds, so that nobody has a quiet machine for itself."
    )
    named = titles()
    taking = st.pills(
        "Families",
        list(named),
        selection_mode="multi",
        default=list(named),
        key="race.entrants",
        format_func=lambda name: named[name],
        help="Who takes part, at least two.",
    )
    asked = form.form({"race": RaceConfig}, omit={"families"})["race"]
    asked["families"] = ",".join(taking)
    classes = kinds.parts("race", {"dataset": shell.chosen_dataset()})
    key = f"data.{shell.chosen_dataset()}"
    if classes["dataset"].knobs():
        with st.expander("Data"):
            st.caption("The same settings as on the Data page.")
            data = form.flat({key: classes["dataset"]})[key]
    else:
        data = {}
    values = {f"race.{name}": value for name, value in asked.items()}
    values |= {f"dataset.{name}": value for name, value in data.items()}
    st.caption(
        f"It takes **{duration(len(taking) * asked['seconds'])}** for {len(taking)} families, and a little for "
        "preparing and measuring."
        if len(taking) > 1
        else "Choose at least two families."
    )
    shell.press(
        st,
        "Start the race",
        start,
        values,
        type="primary",
        icon=":material/play_arrow:",
        key="race.start",
        disabled=not shell.may_change() or len(taking) < 2,
        width="stretch",
    )


def titles() -> dict[str, str]:
    """Names the families, in the order that gives each its colour in every race."""
    from core.models import families

    return {e.name: e.title.partition(" (")[0] for e in families if not e.renders}


def moments(job: jobs.Job, family: str, records: list[dict], keep: int) -> list[track.Moment]:
    """Reads where a family was after each turn, with the sheets of every ``keep``-th and the last one."""
    read = []
    for number, record in enumerate(records):
        sheet = job.path / "samples" / family / f"{record['turn']}.png"
        wanted = number % keep == 0 or number == len(records) - 1
        read.append(
            track.Moment(
                record["seconds"],
                record["ratio"],
                record["copying"],
                record["copying_low"],
                record["copying_high"],
                record["images"],
                sheet.read_bytes() if wanted and show.whole(sheet) else b"",
            )
        )
    return read


def measured(job: jobs.Job, about: dict[str, object]) -> None:
    """Says how the distances were measured, and what they are against."""
    if not about:
        st.caption(
            ":material/warning: How it was measured stood in a line that is damaged, in "
            + shell.plain(str(job.path / "log.jsonl"))
        )
        return
    clock = "seconds of its processor core" if about["clock"] == "processor" else "seconds"
    st.caption(
        f"Distance: Fréchet distance between the features ({shell.plain(str(about['extractor']))}) of {about['n']} "
        f"samples and of training images, over that of {about['n']} real test images. Copying: share of samples nearer "
        f"to a training image than to an equally likely test image; real images have {about['copying_of_real']:.2f}, "
        f"verbatim copies {about['copying_of_copies']:.2f}. Time: {clock}, without measuring and drawing."
    )


def copies(record: dict[str, Any], about: dict[str, Any]) -> bool:
    """Tells whether the whole interval of copying lies above what real images have."""
    return bool(about) and record["copying_low"] > about["copying_of_real"]


@shell.guard()
def live(id: str, status: str) -> None:
    """Shows a race as it stands; runs again every two seconds while it goes on."""
    job, named = jobs.get(id), titles()
    if job.status != status:
        st.rerun()
    about, standings = job.result()
    config = RaceConfig.of(job.config["race"], "race")
    job_panel.progress(job)
    if not standings:
        st.caption(
            "The first turn is measured when its time is over."
            if job.active
            else "It ended before anybody was measured."
        )
        return
    size = sum(file.stat().st_size for file in (job.path / "samples").rglob("*.png"))
    lanes = [
        (
            named[name],
            show.colour(list(named).index(name)),
            moments(job, name, standings.get(name, []), -(-size // BUDGET) or 1),
        )
        for name in config.entrants
    ]
    last = {name: records[-1] for name, records in standings.items()}
    ranking = sorted(last, key=lambda name: last[name]["ratio"])
    track.track(
        lanes,
        seconds=config.seconds,
        alt=f"Distance to real images over seconds of training; nearest at the end: {ranking[0]}",
        key=f"race.track.{id}",
        live=job.active,
    )
    near = [named[name] for name in ranking if copies(last[name], about)]
    if near:
        st.caption(
            f":material/content_copy: {', '.join(near)}: the samples are nearer to training images than real ones are, "
            "so a small distance may come from copying. Train longer and let Evaluate test it."
        )
    measured(job, about)
    with st.expander("The last turn in numbers"):
        st.dataframe(
            pd.DataFrame(
                {
                    "family": [named[name] for name in ranking],
                    "distance × real": [last[name]["ratio"] for name in ranking],
                    "copying": [last[name]["copying"] for name in ranking],
                    "95 % interval": [
                        f"{last[name]['copying_low']:.2f} to {last[name]['copying_high']:.2f}"
                        for name in ranking
                    ],
                    "images seen": [last[name]["images"] for name in ranking],
                    "seconds": [last[name]["seconds"] for name in ranking],
                }
            ),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.2f")
                for name in ("distance × real", "copying", "seconds")
            },
            alt="Where each family is after its last turn, the nearest to real images first",
        )


def head(job: jobs.Job) -> None:
    """Says which race this is, and offers what can be done with it."""
    title = f"**{shell.plain(job.name)}**{shell.on(job)} · "
    replay = "" if job.active else ". Press ▶ to replay it in 20 seconds."
    if job.shipped:
        st.markdown(f"{title}recorded; it ships with Simulacra{replay}")
        return
    standing, actions = st.columns([3, 1.2], vertical_alignment="center")
    standing.markdown(f"{title}{job.status}{replay}")
    with actions:
        if job.active:
            job_panel.stop(st, job, "race", "The turns that are over are kept.")
        else:
            if job.status != "finished":
                job_panel.resume(st, job, "race")
            st.button(
                "Delete",
                icon=":material/delete:",
                key="race.delete",
                on_click=shell.attempt,
                args=(jobs.delete, job.id),
                disabled=not shell.may_change(),
                width="stretch",
            )


actions = shell.header("Which family learns fastest?")
listed = jobs.listing("race")
ids = [job.id for job in listed]
own = [job.id for job in listed if runs.dataset_of(job) == shell.chosen_dataset()]
shell.choose("race", ids, next(iter(own or ids), None))
if len(ids) > 1:
    names = {job.id: shell.called(job) for job in listed}
    st.selectbox("Race", ids, key="race", format_func=lambda id: names.get(id, str(id)))
else:
    st.markdown("The same images, the same seconds: see what each family makes of them.")
if not ids:
    with (
        shell.empty("Nobody has raced yet. The first turn takes seconds.", ICON),
        st.popover("A race of your own", icon=":material/add:"),
    ):
        the_form()
else:
    with actions.popover("A race of your own", icon=":material/add:"):
        the_form()
    st.query_params["race"] = st.session_state["race"]
    shown = next(job for job in listed if job.id == st.session_state["race"])
    if not own:
        st.caption(
            f":material/info: Nobody has raced on {shell.plain(shell.chosen_dataset())} yet. This one was on "
            f"{shell.plain(runs.dataset_of(shown))}."
        )
    with st.container(border=True):
        head(shown)
        shell.live(live, 2 if shown.active else None, shown.id, shown.status)
shell.go("train", "Train one of them for longer")

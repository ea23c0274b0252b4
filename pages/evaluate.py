"""Measure a model, compare it with others, see where it fails and whether it copies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import evaluation, jobs, runs, work
from core.catalog import UserError
from core.evaluation import Evaluation
from pages.ui import form, measures, shell, show
from pages.ui.map import Trait, pack, points

TITLE = "Evaluate"
ICON = ":material/speed:"
ORDER = 3.6
shell.enter()
VIEWS = ("How good", "Map", "Copies", "Failures", "Compare")  # as the address names them
SHOWN = 96  # images of a selection; more cannot be looked at
PAIRS = 12  # suspects side by side
WAITS = "The images are being drawn. This view appears when they have been compared, before the slower measures."


# --- Asking for it --------------------------------------------------------------------------------------------------


def start(run: str, values: Mapping[str, Any]) -> None:
    """Begins to measure a run, and follows it."""
    job = shell.attempt(begin, run, values)
    if job is not None:
        st.session_state["evaluate.job"] = job.id


def begin(run: str, values: Mapping[str, Any]) -> jobs.Job:
    """Submits one evaluation."""
    from core.work import evaluate

    return evaluate.start(jobs.get(run), dict(values), who=shell.who())


def begin_steps(run: str, steps: list[int], like: str) -> None:
    """Measures further checkpoints of a run under the conditions of an evaluation."""

    def each() -> int:
        _, values = work.flat(jobs.get(like).config)
        for step in steps:
            begin(run, values | {"evaluate.step": step})
        return len(steps)

    if shell.attempt(each):
        st.session_state["_done"] = f"{len(steps)} evaluations are on their way."
        st.session_state["evaluate.steps"] = []


def head(run: jobs.Job, listed: list[jobs.Job]) -> jobs.Job | None:
    """Draws the choice of the evaluation and what starts another; gives the chosen one, None before the first."""
    which, button, settings = st.columns([3, 1, 1], vertical_alignment="center")
    names = {job.id: label(job) for job in listed}
    with which:
        if listed:
            remember("evaluate.job", "evaluation", list(names))
            picked = st.selectbox(
                "Evaluation",
                list(names),
                index=None,
                key="evaluate.job",
                format_func=names.get,
                placeholder=f"newest: {names[listed[0].id]}",
                label_visibility="collapsed",
            )
        else:
            picked = None
            st.markdown(f"**{shell.plain(run.name)}** has not been measured yet.")
    link("evaluation", picked)
    family = runs.family_of(run)
    parts = work.parts("evaluate", {"sampling": family})
    keys = {"evaluate.set" if part == "evaluate" else f"evaluate.{family}": part for part in parts}
    with settings, st.popover("Settings", icon=":material/tune:", width="stretch"):
        made = form.form({key: parts[part] for key, part in keys.items()}, link=True)
    values = {
        f"{keys[key]}.{name}": value for key, part in made.items() for name, value in part.items()
    }
    button.button(
        "Measure again" if listed else "Measure it",
        type="secondary" if listed else "primary",
        icon=":material/speed:",
        key="evaluate.start",
        on_click=start,
        args=(run.id, values),
        disabled=not shell.may_change(),
        width="stretch",
    )
    return next((job for job in listed if job.id == picked), listed[0] if listed else None)


def remember(
    key: str, name: str, options: list[str], start: str | None = None, *, many: bool = False
) -> None:
    """Gives a choice without a state the one in the address, where that names what there is.

    Not Streamlit's own binding to the address: that one writes the words that a person sees, not the id behind them.
    """
    if many and key not in st.session_state and (words := st.query_params.get(name)):
        st.session_state[key] = [word for word in words.split() if word in options]
    elif not many and st.session_state.get(key) not in options:
        words = st.query_params.get(name) if key not in st.session_state else None
        st.session_state[key] = words if words in options else start


def link(name: str, words: str | None) -> None:
    """Writes a choice into the address, or takes it out."""
    if words:
        if st.query_params.get(name) != words:
            st.query_params[name] = words
    elif name in st.query_params:
        del st.query_params[name]


def label(job: jobs.Job) -> str:
    """Names an evaluation among those of one run."""
    facts = job.config["evaluate"]
    number = facts["step"] or job.state.get("step")  # known from the first result on
    step = f"step {number:,}" if number else "best or newest step"
    return f"{shell.icon_of(job)} {step} · {facts['samples']:,} images · {shell.since(job)}"


@st.fragment(run_every="1s")
@shell.guard()
def follow(id: str, known: tuple[str, int, bool]) -> None:
    """Shows how far an evaluation is; the page runs again with each further result."""
    job = jobs.get(id)
    if standing(job) != known:
        st.rerun()
    bar, stop = st.columns([4, 1], vertical_alignment="center")
    bar.progress(job.share, text=shell.plain(job.message or shell.standing(job)))
    stop.button(
        "Stopping…" if job.stopping else "Stop",
        icon=":material/stop:",
        key="evaluate.stop",
        on_click=shell.attempt,
        args=(jobs.stop, id),
        disabled=not shell.may_change() or job.stopping,
        width="stretch",
    )


def standing(job: jobs.Job) -> tuple[str, int, bool]:
    """Says what of an evaluation would change the page: its status, its results, its images."""
    found = opened(job)
    return job.status, len(found.measurements) if found else 0, bool(found and found.arrays())


def opened(job: jobs.Job) -> Evaluation | None:
    """Reads an evaluation as far as it has come; None before its first result."""
    try:
        return evaluation.read(job)
    except UserError:
        if job.status == "finished":
            raise
        return None


# --- How good -------------------------------------------------------------------------------------------------------


def good(found: Evaluation) -> None:
    """Shows the answer in three sentences, then every measure."""
    words, chart = st.columns([1.15, 1], gap="large")
    with words:
        measures.sentences(found)
        for warning in found.warnings:
            st.caption(f":material/warning: {shell.plain(warning)}")
    with chart:
        measures.shares(found.measurements, key="evaluate.shares")
    st.caption(measures.conditions(found))
    measures.table(found.measurements)


# --- The map --------------------------------------------------------------------------------------------------------


@st.cache_data(max_entries=4, show_spinner=False)
def packed(id: str, views: tuple[str, ...], _found: Evaluation) -> bytes:
    """Packs the map of an evaluation; the projections tell apart what is there already."""
    arrays = _found.arrays()
    assert arrays is not None
    made, real = len(arrays.made), len(arrays.real)
    names = [str(row["class"]) for row in _found.classes]
    names = [f"class {name}" if name.isdecimal() else name for name in names]
    flag = np.concatenate([np.where(arrays.realistic, 1, 3), np.where(arrays.covered, 0, 2)])
    origin = np.concatenate([np.ones(made, int), np.zeros(real, int)])
    traits = [
        Trait(
            "Realism and coverage",
            flag,
            ["real, covered", "generated, realistic", "real, missing", "generated, not realistic"],
            quiet=(0, 1),
        ),
        Trait("Origin", origin, ["real", "generated"]),
    ]
    if names:
        of_made = np.where(arrays.made_y >= 0, arrays.made_y, arrays.made_named)
        codes = np.concatenate([of_made, arrays.real_y])
        traits.append(
            Trait(
                "Class",
                np.where(codes >= 0, codes, len(names)),
                [*names, "class unknown"],
            )
        )
    places = {name: evaluation.projection(_found, kind) for name, kind in PROJECTIONS.items()}
    images = np.concatenate([arrays.made, evaluation.reference_images(_found)])
    ready = {name: place for name, place in places.items() if place is not None}
    return pack(ready, traits, images, origin == 0)


PROJECTIONS = {"PCA": "pca", "t-SNE": "tsne"}


@st.fragment
@shell.guard()
def the_map(found: Evaluation) -> None:
    """Draws real and generated images in one projection; a lasso takes images out of it."""
    arrays = found.arrays()
    if arrays is None:
        st.info(WAITS)
        return
    ready = tuple(
        name for name, kind in PROJECTIONS.items() if evaluation.projection(found, kind) is not None
    )
    drawn, taken = st.columns([2.3, 1], gap="medium")
    if (
        "evaluate.map" not in st.session_state
    ):  # a fresh one: as the address says, or as it was left
        left = st.session_state.get("evaluate.looked", {})
        st.session_state["evaluate.look"] = {
            name: st.query_params.get(f"map.{name}", left.get(name, ""))
            for name in ("view", "colour", "marks")
        }
    with drawn:
        answer = points(
            packed(found.job, ready, found),
            alt=f"Map of {len(arrays.made)} generated and {len(arrays.real)} real images",
            key="evaluate.map",
            look=st.session_state["evaluate.look"],
            height=400,
        )
        st.caption(
            "Near points look alike to the judge. Rings are real images, discs are generated ones. "
            "Real ones that no generated one comes near are *missing*; generated ones far from every real one are "
            "*not realistic*."
            + (" t-SNE follows when the measures are done." if "t-SNE" not in ready else "")
        )
    st.session_state["evaluate.looked"] = answer.look or st.session_state["evaluate.look"]
    for name, value in answer.look.items():
        if st.query_params.get(f"map.{name}") != value:
            st.query_params[f"map.{name}"] = value
    with taken:
        selection(found, np.array(answer.picked, int))


def selection(found: Evaluation, picked: np.ndarray) -> None:
    """Shows the images that the lasso took, by origin."""
    arrays = found.arrays()
    assert arrays is not None
    made = picked[picked < len(arrays.made)]
    real = picked[picked >= len(arrays.made)] - len(arrays.made)
    if not len(picked):
        st.markdown("**Draw around points** to see their images here.")
        st.markdown(
            f"{arrays.realistic.mean():.1%} of {len(arrays.made):,} generated images are realistic; "
            f"{arrays.covered.mean():.1%} of {len(arrays.real):,} real ones are covered."
        )
        if (~arrays.covered).any():
            st.caption("Press *real, missing* below the map to see what it never makes.")
        return
    for title, index, load, flag, names in (
        ("Generated", made, lambda i: arrays.made[i], arrays.realistic, "realistic"),
        (
            "Real",
            real,
            lambda i: evaluation.reference_images(found)[i],
            arrays.covered,
            "covered by the model",
        ),
    ):
        st.markdown(
            f"**{title}: {len(index):,}**"
            + (f", {flag[index].mean():.0%} of them {names}" if len(index) else "")
        )
        if len(index):
            shown = index[:SHOWN]
            show.pictures(
                load(shown),
                columns=10,
                key=f"evaluate.taken.{title.lower()}",
                alt=f"{title} images of the selection",
                max_height=170,
                max_zoom=4,
            )
            if len(index) > SHOWN:
                st.caption(f"The first {SHOWN} of them.")


# --- Is it a copy? --------------------------------------------------------------------------------------------------


@st.fragment
@shell.guard()
def copies(found: Evaluation) -> None:
    """Shows the verdict of the tests, then each sample beside its nearest training images."""
    verdict = found.verdict
    sign = {True: st.error, False: st.success, None: st.info}[verdict.copies]
    sign(shell.plain(verdict.sentence), icon=":material/content_copy:")
    if (arrays := found.arrays()) is None:
        st.info(WAITS)
    else:
        pairs(found, arrays)
    tests, believe = st.columns([1.3, 1], gap="large")
    for test in verdict.tests:
        icon = {True: "warning", False: "check", None: "help"}[test.flagged]
        tests.markdown(f":material/{icon}: {shell.plain(test.sentence)}")
    believe.markdown(f"**What it would take to believe it.** {shell.plain(verdict.believe)}")


def pairs(found: Evaluation, arrays: evaluation.Arrays) -> None:
    """Shows samples above their nearest training images, the most suspicious first."""
    pages = -(-len(arrays.suspects) // PAIRS)
    line, turn = st.columns([2, 1], vertical_alignment="center")
    line.markdown("**The most suspicious first**: each sample above its nearest training images.")
    with turn:
        page = st.pagination(
            min(pages, 50), key="evaluate.suspects", bind="query-params", max_visible_pages=5
        )
    at = arrays.suspects[(page - 1) * PAIRS : page * PAIRS]
    rank = arrays.near_rank[at]
    rows = {
        "Generated": (
            arrays.made[at],
            [
                f"sample {i}: {share:.1%} of held-out real images lie as near to a training image"
                for i, share in zip(at, rank, strict=True)
            ],
        ),
        "Nearest training image, pixel by pixel": (
            evaluation.training_images(found, arrays.near_pixels[at]),
            [
                f"differs by {d:.3f} per pixel (RMS, 0 to 1)"
                for d in arrays.near_pixels_distance[at]
            ],
        ),
        "Nearest training image, to the judge": (
            evaluation.training_images(found, arrays.near_features[at]),
            [f"feature distance {d:.2f}" for d in arrays.near_features_distance[at]],
        ),
    }
    for number, (title, (x, titles)) in enumerate(rows.items()):
        st.caption(title)
        show.pictures(
            x,
            columns=PAIRS,
            key=f"evaluate.pairs.{number}",
            alt=f"{title}: " + "; ".join(titles),
            titles=titles,
            max_zoom=8,
            max_height=70,
        )
    st.caption(
        "Suspicious is a sample that lies nearer to a training image than real images that the model never saw do. "
        "Rest the pointer on one for its distance."
    )


# --- Where it fails -------------------------------------------------------------------------------------------------


def failures(found: Evaluation) -> None:
    """Shows what each class gets, the least real samples, and the real images that the model covers worst."""
    arrays = found.arrays()
    if arrays is None:
        st.info(WAITS)
        return
    unreal, missing = st.columns(2, gap="large")
    names = [str(row["class"]) for row in found.classes]

    def of(code: int) -> str:
        return f", class {names[code]}" if 0 <= code < len(names) else ""

    with unreal:
        least = arrays.unreal[:40]
        st.markdown(
            f"**Least real samples**: {(~arrays.realistic).mean():.1%} of {len(arrays.made):,} lie outside what real "
            "images look like."
        )
        show.pictures(
            arrays.made[least],
            columns=10,
            key="evaluate.unreal",
            alt="The generated images that are farthest from every real one",
            titles=[
                f"sample {i}{of(arrays.made_named[i])}: realism {arrays.realism[i]:.2f} (1 is realistic)"
                for i in least
            ],
            max_height=210,
            max_zoom=5,
        )
    with missing:
        worst = arrays.uncovered[:40]
        st.markdown(
            f"**Real images that it covers worst**: {(~arrays.covered).mean():.1%} of {len(arrays.real):,} have no "
            "generated one near."
        )
        show.pictures(
            evaluation.reference_images(found)[worst],
            columns=10,
            key="evaluate.uncovered",
            alt="The real images that are farthest from every generated one",
            titles=[
                f"real image {i}{of(arrays.real_y[i])}: the nearest generated one is {arrays.gap[i]:.1f} times as far "
                "as its real neighbours"
                for i in worst
            ],
            max_height=210,
            max_zoom=5,
        )
    if not found.classes:
        st.caption(
            f"{shell.plain(found.dataset)} has no labels, so nothing is told apart by class."
        )
        return
    measures.per_class(found.classes, key="evaluate.classes")
    with st.expander("As a table"):
        frame = pd.DataFrame(found.classes)
        shares = [name for name in frame if name.endswith("share")] + [
            "precision",
            "recall",
            "coverage",
            "accuracy",
        ]
        st.dataframe(
            frame,
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="percent") for name in shares
            },
        )


# --- Comparing ------------------------------------------------------------------------------------------------------


def compare(run: jobs.Job, found: Evaluation) -> None:
    """Sets evaluations side by side: ties are called ties, differing conditions are refused by name."""
    ready = {}
    for job in evaluation.listing()[:60]:
        other = opened(job) if job.status != "queued" else None
        if other is not None and other.measurements:
            ready[job.id] = other
    newest = {
        other.run: id for id, other in reversed(ready.items()) if other.dataset == found.dataset
    }
    usual = [found.job, *(id for id in newest.values() if id != newest.get(found.run))][:4]
    remember("evaluate.among", "among", list(ready), many=True)
    picked = st.multiselect(
        "Evaluations",
        list(ready),
        key="evaluate.among",
        **({} if "evaluate.among" in st.session_state else {"default": usual}),
        format_func=lambda id: titled(ready[id]),
        max_selections=6,
        help="The newest one of each run on the same dataset, unless you choose others.",
    )
    link("among", None if picked == usual else " ".join(picked))
    if not picked:
        st.info("Choose at least one evaluation above.")
        return
    chosen = [ready[id] for id in picked]
    names = unlike([titled(each) for each in chosen])
    result = evaluation.compare(chosen)
    for words in result.differences:
        st.caption(f":material/warning: {shell.plain(words)}")
    st.dataframe(
        pd.DataFrame([row_of(row, names) for row in result.rows]),
        hide_index=True,
        height=min(36 * (len(result.rows) + 1) + 3, 360),
        key="evaluate.table",
        alt="The measures of each evaluation, with intervals",
    )
    st.download_button(
        "Table (CSV)",
        result.csv,
        f"{run.id}-compare.csv",
        "text/csv",
        key="evaluate.csv",
        icon=":material/download:",
        on_click="ignore",
    )
    rows = {row.metric: row for row in result.rows if any(c and c.known for c in row.cells)}
    if not rows:
        return
    remember("evaluate.metric", "metric", list(rows), next(iter(rows)))
    metric = st.selectbox(
        "Measure",
        list(rows),
        key="evaluate.metric",
        format_func=lambda name: rows[name].title,
    )
    link("metric", metric)
    row = rows[metric]
    here, steps = st.columns(2, gap="large")
    with here:
        st.markdown("**Side by side**")
        if row.refused:
            st.info(shell.plain(row.refused), icon=":material/block:")
        else:
            cells = {n: c for n, c in zip(names, row.cells, strict=True) if c and c.known}
            first = next(iter(cells.values()))
            measures.dots(cells, key="evaluate.side", axis=measures.advice(first))
    with steps:
        st.markdown(f"**Over the training of {shell.plain(run.name)}**")
        over_training(run, found, metric)
    watched(run)


def titled(found: Evaluation) -> str:
    """Names an evaluation among those of all runs."""
    return f"{found.name} · step {found.step:,}"


def unlike(names: list[str]) -> list[str]:
    """Makes equal names differ, by a number."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return made


def row_of(row: evaluation.Row, names: list[str]) -> dict[str, str]:
    """Writes one line of the comparison."""
    cells = {}
    several = sum(cell is not None and cell.known for cell in row.cells) > 1
    for number, (name, cell) in enumerate(zip(names, row.cells, strict=True)):
        words = "–"
        if cell is not None and cell.known:
            words = measures.number(cell.value, cell.entry.extra["scale"])
            words += f" ({interval})" if (interval := measures.span(cell)) else ""
        cells[name] = ("★ " if several and row.best == (number,) else "") + words
    verdict = row.refused
    if not verdict and several and row.direction and not row.best:
        verdict = "not ranked: an interval is missing"
    elif not verdict and several and row.best:
        best = ", ".join(names[i] for i in row.best)
        verdict = (
            f"{best} is better"
            if len(row.best) == 1
            else "tie"
            if len(row.best) == len(names)
            else f"tie: {best}"
        )
    return {
        "measure": row.title,
        "better": measures.BETTER[row.direction],
        **({"verdict": verdict} if len(names) > 1 else {}),
        **cells,
    }


def over_training(run: jobs.Job, found: Evaluation, metric: str) -> None:
    """Draws a measure over the measured checkpoints of a run, and offers to measure more of them."""
    course = evaluation.trajectory(run).get(metric, [])
    known = [(step, m) for step, m in course if m.known]
    if known:
        measures.over_steps(known, key="evaluate.course")
    measured = {step for step, _ in course}
    left = [step for step in runs.checkpoints(run) if step not in measured]
    if left and not run.active:
        steps = st.multiselect(
            "Measure more checkpoints, under the same conditions",
            left,
            key="evaluate.steps",
            format_func=lambda step: f"step {step:,}",
            max_selections=8,
        )
        st.button(
            "Measure these",
            icon=":material/speed:",
            key="evaluate.more",
            on_click=begin_steps,
            args=(run.id, steps, found.job),
            disabled=not steps or not shell.may_change(),
        )


def watched(run: jobs.Job) -> None:
    """Draws what the training itself saw of its quality."""
    looks = evaluation.watched(run)
    if looks:
        st.markdown(f"**What the training of {shell.plain(run.name)} saw of itself**")
        titles = ("Distance to held-out images", "Copying")
        for title, place in zip(titles, st.columns(2, gap="large"), strict=True):
            with place:
                show.curves(
                    {run.name: looks}, key=f"evaluate.watched.{title}", charts=[title], height=200
                )


# --- The page -------------------------------------------------------------------------------------------------------


def page(run: jobs.Job) -> None:
    """Draws everything about one run that can be measured."""
    if run.active:
        st.caption(
            f":material/info: {shell.plain(run.name)} is still learning; what is measured is its newest checkpoint."
        )
    listed = evaluation.listing(run)
    job = head(run, listed)
    if job is None:
        invite(run)
        return
    if job.active:
        follow(job.id, standing(job))
    elif job.status != "finished":
        (st.error if job.status == "failed" else st.warning)(
            shell.plain(job.message or f"This evaluation is {job.status}."),
            icon=":material/info:",
        )
    found = opened(job)
    if found is None and not job.active:
        found = evaluation.latest(run)  # rather an older one than nothing
        if found is not None:
            st.caption("What follows is the newest evaluation of this run that has results.")
    if found is None:
        invite(run)
        return
    view = st.segmented_control(
        "View",
        VIEWS,
        default=VIEWS[0],
        required=True,
        key="evaluate.view",
        bind="query-params",
        label_visibility="collapsed",
    )
    if view == "Map":
        the_map(found)
    elif view == "Copies":
        copies(found)
    elif view == "Failures":
        failures(found)
    elif view == "Compare":
        compare(run, found)
    else:
        good(found)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Report (HTML)",
            lambda: measures.report(found),
            f"{run.id}-step{found.step}.html",
            "text/html",
            key="evaluate.report",
            icon=":material/download:",
            on_click="ignore",
            help="One file with every measure, settings, versions and seeds; it opens anywhere.",
        )
        shell.go("about", "A page about this model to share", ":material/share:")
    shell.go("latent", "Explore what it learned")


def invite(run: jobs.Job) -> None:
    """Says what measuring would tell, beside what there is to see already."""
    left, right = st.columns([1, 1.2], gap="large")
    left.markdown(
        "**Measure it** draws images, compares them with real ones that the model never saw, and tells:\n"
        "- how real and how varied they are, each number with its interval and with what real images reach;\n"
        "- whether they are copies of training images, and what it would take to believe that;\n"
        "- which classes and which real images it misses."
    )
    with right:
        show.film(run, key="evaluate.film", max_height=300)
    shell.go("latent", "Explore what it learned")


st.title("How good is it, how sure are we, and is it a copy?", anchor=False)
shown = shell.chosen_run("train")
if shown is None:
    st.info(
        "There is no trained model to measure yet. The default one takes a minute.",
        icon=":material/info:",
    )
    shell.go("overview", "Train the default model")
else:
    if (other := shell.chosen_run()) is not None and other.id != shown.id:
        st.caption(
            f":material/info: {shell.plain(other.name)} is a classifier, which makes no images. "
            f"This is {shell.plain(shown.name)}."
        )
    if not runs.checkpoints(shown):
        st.info(
            f"{shell.plain(shown.name)} has no checkpoint"
            + (
                " yet. Its first one appears seconds after its start."
                if shown.active
                else f": it is {shown.status}. Choose another run in the sidebar."
            )
        )
        shell.go("train", "Watch it train" if shown.active else "See what happened")
    else:
        page(shown)

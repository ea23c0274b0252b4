"""What a dataset lacks, and a plan that fills it: sliders move the chart, the map and the cost at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from core import jobs
from core.building.coverage import Coverage, GapsConfig
from core.datasets import Dataset
from core.ground.cache import Cache
from pages.parts import form, job, shell, show
from pages.parts.build import rounds, slices
from pages.parts.glossary import explained
from pages.parts.map import Trait, pack, points

KEY = "build.gaps"
TARGETS = {
    "uniform": "equally many of each",
    "reference": "as many as in the held-out images",
    "failures": "more of what is got wrong",
}
ORIGINS = {
    "real": "real",
    "augmented": "augmented",
    "synthetic": "samples",
    "adversarial": "attacked",
}
SLIDERS = 12  # classes with a slider of their own
MAPPED = 1000  # images of the map
_known: Cache[tuple[Coverage, list[Any]]] = Cache(8)


def draw(dataset: Dataset, name: str, prepared: Mapping[str, Any]) -> None:
    """Shows what is missing, what would fill it, how good the set is as a whole, and building in rounds."""
    config = asked(dataset)
    with shell.guard():
        found, measures = looked_at(dataset, config)
        st.markdown(f"**{shell.plain(found.sentence)}**")
        for note in found.notes:
            st.caption(shell.plain(note))
        steer(dataset, name, prepared, found, config)
        st.subheader("Slice by slice", anchor=False)
        slices.draw(found)
        st.subheader("The set as a whole", anchor=False)
        slices.whole(measures)
    st.subheader("Build in rounds", anchor=False)
    rounds.draw(dataset, name, prepared)


def asked(dataset: Dataset) -> GapsConfig:
    """Draws what is counted, and what the slices should hold."""
    from core.building.axes import axes

    known = axes(dataset)
    first = ["class"] if dataset.labelled else []
    options = [",".join(first)] if first else []
    options += [",".join([*first, axis]) for axis in known if axis not in first]
    by, target, more = st.columns([2, 2, 1], vertical_alignment="bottom")
    chosen = by.selectbox(
        "Counted by",
        options,
        key=f"{KEY}.by.{dataset.name}",
        format_func=lambda axes: shell.plain(
            " and ".join(axes.split(",")).replace("cluster", "kind of picture")
        ),
        help=explained(
            "Kinds of pictures are groups that look alike, found by k-means on the real training images.",
            "Slice",
        ),
    )
    wanted = target.selectbox(
        "There should be",
        list(TARGETS),
        key=f"{KEY}.target",
        format_func=lambda target: TARGETS[target],
        help="What is got wrong comes from the newest evaluations (Evaluate) and attacks (Robustness) on this dataset.",
    )
    with more.popover("Settings", icon=":material/tune:", width="stretch"):
        values = form.flat({KEY: GapsConfig}, omit={"by", "target"})[KEY]
    return GapsConfig.of({**values, "by": chosen, "target": wanted}, "gaps")


def looked_at(dataset: Dataset, config: GapsConfig) -> tuple[Coverage, list[Any]]:
    """Counts and measures a dataset; once, until it, the question or what was found of it changes."""
    from core.building.coverage import coverage
    from core.building.failures import failures
    from core.building.set_measures import set_measures
    from core.building.version import provenance

    wrong = failures(dataset)
    origin = hashlib.sha256("\n".join(provenance(dataset)["origin"].tolist()).encode()).hexdigest()
    key = (dataset.fingerprint, origin, str(config.record()), tuple(each.job for each in wrong))

    def make() -> tuple[Coverage, list[Any]]:
        bar = show.Bar("Looking at the images")
        try:
            found = coverage(dataset, config, failures=wrong, watch=bar)
            return found, set_measures(dataset, found, config, bar)
        finally:
            bar.close()

    return _known.get(key, make)


# --- Steering ---------------------------------------------------------------------------------------------------------


@st.fragment
@shell.guard()
def steer(
    dataset: Dataset, name: str, prepared: Mapping[str, Any], found: Coverage, config: GapsConfig
) -> None:
    """Draws the budget, a slider for each class and for the origins, and what follows from them."""
    from core.building.proposal import shared_out, within

    total = len(dataset.splits["train"])
    missing = sum(each.missing for each in found.slices if each.verdict == "short")
    head = st.columns([1.1, 1.3, 1.3, 1.1], vertical_alignment="bottom")
    usual_budget = min(100_000, missing or max(10, total // 10))
    budget = asked_budget((dataset.fingerprint, str(config.record())), usual_budget, head[0])
    labels = [-1] if "class" not in found.axes else list(range(len(dataset.classes)))
    fair = shared_out(found, budget)
    usual = dict.fromkeys(labels, 0)
    for each, n in zip(found.slices, fair.tolist(), strict=True):
        usual[each.label] += n
    asked = (dataset.fingerprint, str(config.record()), budget)
    state = st.session_state
    if state.get(f"{KEY}.of") != asked:
        state[f"{KEY}.of"] = asked
        _fill(usual)
    elif any(f"{KEY}.n.{label}" not in state for label in labels):
        _fill(state.get(f"{KEY}.kept", usual))  # the sliders' own state goes when the view is left
    run, copies = origins(dataset, head)
    head[3].button(
        "Fill the gaps",
        key=f"{KEY}.fill",
        icon=":material/auto_fix_high:",
        on_click=_fill,
        args=({}, usual_budget),
        width="stretch",
        help="Sets the number that is missing, and gives each item to the slices that lack most.",
    )
    classes = by_hand(dataset, labels, usual, budget)
    state[f"{KEY}.kept"] = classes
    given = fair if classes == usual else within(found, classes)
    offer(dataset, name, prepared, found, given, run, copies if run else 1.0)
    left, right = st.columns([1.25, 1], gap="medium")
    with left:
        histogram(dataset, found, given, copies if run else 1.0)
    with right:
        mapped(dataset, found, given, str(config.record()))


def asked_budget(about: tuple[str, str], usual: int, place: Any) -> int:
    """Asks how many items join; another dataset or question begins with its own number."""
    key, state = f"{KEY}.budget", st.session_state
    known, kept = state.get(f"{key}.kept", (None, usual))
    if known != about or key not in state:  # a control's own state goes when the view is left
        state[key] = kept if known == about else usual
    budget = place.number_input(
        "Items to add",
        min_value=0,
        max_value=1_000_000,
        step=1,
        key=key,
        help="The budget: images that join the training images in all.",
    )
    state[f"{key}.kept"] = about, int(budget)
    return int(budget)


def _fill(usual: Mapping[int, int], budget: int | None = None) -> None:
    if budget is not None:
        st.session_state[f"{KEY}.budget"] = budget
        st.session_state.pop(f"{KEY}.of", None)  # so that its items are shared out anew
    for label, count in usual.items():
        st.session_state[f"{KEY}.n.{label}"] = count


def origins(dataset: Dataset, head: Any) -> tuple[str, float]:
    """Draws which model may make items, and how many are augmented instead."""
    from core.augment.generative import runs_for

    listed = {run.id: run for run in runs_for("sample", dataset)}
    run = head[1].selectbox(
        "Made by",
        ["", *listed],
        key=f"{KEY}.run.{dataset.name}",
        format_func=lambda id: "augmented only" if not id else shell.called(listed[id]),
        help=explained(
            "A model's samples pass the gate before they join; others are augmented training images.",
            "Gate",
        ),
    )
    copies = 50
    if run:  # a control without effect is not shown
        copies = head[2].slider(
            "Of these, augmented",
            0,
            100,
            50,
            5,
            key=f"{KEY}.copies",
            format="%d %%",
            help="The others are samples of the model.",
        )
    return run or "", copies / 100


def by_hand(
    dataset: Dataset, labels: list[int], usual: Mapping[int, int], budget: int
) -> dict[int, int]:
    """Draws a slider for each class; of many classes for those that get most."""
    chosen = sorted(labels, key=lambda label: (-usual[label], label))[:SLIDERS]
    with st.expander("Items by class", icon=":material/tune:"):
        if len(labels) > len(chosen):
            st.caption(f"The {SLIDERS} classes that lack most; the others get what was proposed.")
        columns = st.columns(min(4, len(chosen)))
        values = dict(usual)
        for place, label in enumerate(sorted(chosen)):
            key = f"{KEY}.n.{label}"
            most = max(10, budget, int(st.session_state.get(key, 0)))
            said = dataset.classes[label] if label >= 0 else "all"
            values[label] = int(
                columns[place % len(columns)].slider(shell.plain(said), 0, most, key=key)
            )
    return values


def histogram(dataset: Dataset, found: Coverage, given: np.ndarray, copies: float) -> None:
    """Draws the training items by origin, what would join, and where each should be."""
    import plotly.graph_objects as go

    most = 40
    order = range(len(found.slices))
    if len(found.slices) > most:
        order = sorted(order, key=lambda k: -(given[k] + found.slices[k].missing))[:most]
        st.caption(f"The {most} of {len(found.slices):,} slices that lack or get most.")
    shown = [found.slices[k] for k in order]
    names = [each.name for each in shown]
    figure = go.Figure()
    every = list(dict.fromkeys(origin for each in shown for origin in each.origins))
    for origin in every:
        figure.add_bar(
            x=names,
            y=[each.origins.get(origin, 0) for each in shown],
            name=ORIGINS.get(origin, origin),
            marker_color=show.origin_colour(origin),
        )
    added = given[list(order)]
    copied = np.round(added * copies).astype(int)
    for title, origin, counts in (
        ("+ augmented", "augmented", copied),
        ("+ samples", "synthetic", added - copied),
    ):
        if counts.any():
            figure.add_bar(
                x=names,
                y=counts.tolist(),
                name=title,
                marker={"color": show.origin_colour(origin), "pattern": {"shape": "/"}},
            )
    total = sum(each.n for each in found.slices) + int(given.sum())
    figure.add_scatter(
        x=names,
        y=[each.target * total for each in shown],
        mode="markers",
        marker={"symbol": "line-ew", "size": 16, "line": {"width": 2, "color": show.ink()}},
        name="should be then",
    )
    figure.update_layout(
        barmode="stack", height=290, xaxis_type="category", yaxis_title="training items"
    )
    least = max(shown, key=lambda each: each.target * total - each.n, default=None)
    if least is not None:
        now = least.target * (total - int(given.sum()))
        st.caption(
            shell.plain(
                f"A line says how many there should be with what is added; {least.name}: "
                f"{least.target * total:,.0f} then, {now:,.0f} now (it holds {least.n:,})."
            )
        )
    show.plot(
        figure, key=f"{KEY}.histogram", alt="Training items of each slice, and what would join"
    )


def mapped(dataset: Dataset, found: Coverage, given: np.ndarray, asked: str) -> None:
    """Draws training and held-out images as points, coloured by how much would join their slice."""
    share = given / max(1, int(given.max()))
    level = tuple(np.where(given == 0, 0, np.where(share < 0.5, 1, 2)).tolist())
    answer = points(
        packed(dataset.fingerprint, asked, level, dataset, found),
        key=f"{KEY}.map",
        height=220,
        alt="Training images as discs and held-out ones as rings; near points are alike",
    )
    st.caption(
        "Discs are training images, rings held-out ones: where rings stand alone, the training set has nothing alike."
    )
    if answer.picked:
        rows = map_rows(dataset)[np.array(answer.picked)][:40]
        show.pictures(
            dataset.pictures(rows),
            columns=10,
            key=f"{KEY}.lasso",
            alt=f"{len(rows)} images chosen on the map",
            max_height=120,
        )


def map_rows(dataset: Dataset) -> np.ndarray:
    """Chooses the images of the map: of training and of held-out ones, evenly."""
    from core.datasets import evenly

    return np.concatenate(
        [evenly(dataset.splits["train"], MAPPED), evenly(dataset.splits["valid"], MAPPED // 3)]
    )


@st.cache_data(max_entries=32, show_spinner=False)
def packed(
    fingerprint: str, asked: str, level: tuple[int, ...], _dataset: Any, _found: Coverage
) -> bytes:
    """Packs the map: the two main directions of the space that the slices were found in."""
    rows = map_rows(_dataset)
    train = len(rows) - min(len(_dataset.splits["valid"]), MAPPED // 3)
    places = _found.points[rows]
    centred = places - places.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    xy = np.pad(centred @ directions[:2].T, ((0, 0), (0, max(0, 2 - len(directions)))))[:, :2]
    of = _found.of[rows]
    gets = np.where(of >= 0, np.array(level)[of], 0)
    traits = [Trait("Would get", gets, ["nothing", "some", "most"], quiet=(0,))]
    if _dataset.labelled:
        traits.append(Trait("Class", _dataset.y[rows], _dataset.classes))
    return pack(
        {"": xy * [1, -1]},
        traits,
        _dataset.pictures(rows),
        np.arange(len(rows)) >= train,
        titles=[f"image {i}" for i in rows],
    )


@st.cache_data(max_entries=256, show_spinner=False)
def cost(plan: str, fingerprint: str, _dataset: Any) -> Mapping[str, Any]:
    """Says what a plan would give and cost."""
    from core.building import Plan, expected

    return expected(Plan.read(plan), _dataset)


def offer(
    dataset: Dataset,
    name: str,
    prepared: Mapping[str, Any],
    found: Coverage,
    given: np.ndarray,
    run: str,
    copies: float,
) -> None:
    """Says what the plan costs, and offers to build it or to take it away."""
    from core import augment, datasets
    from core.building.proposal import proposal

    if not given.sum():
        st.caption("Nothing would join. Add items, or choose what there should be.")
        return
    chains = [preset.id for preset in augment.presets()] + [each.id for each in augment.saved()]
    usual = datasets.usual_chain(dataset)
    left, middle, right, file = st.columns([1.2, 1.4, 1, 1], vertical_alignment="bottom")
    chain = left.selectbox(
        "Augmented by",
        chains,
        index=chains.index(usual) if usual in chains else 0,
        key=f"{KEY}.chain.{dataset.name}",
        help=explained("A chain of augmentations; make your own on the page Augment.", "Chain"),
    )
    title = middle.text_input(
        "Name of the new dataset", f"{dataset.name}-filled", key=f"{KEY}.name.{dataset.name}"
    )
    plan = proposal(
        dataset, found, given, start=name, values=prepared, pipeline=chain, run=run, copies=copies
    ).with_(name=title)
    shell.press(
        right,
        "Build it",
        start,
        plan,
        title,
        name,
        type="primary",
        key=f"{KEY}.build",
        icon=":material/construction:",
        disabled=not shell.may_change(),
        width="stretch",
        help="As a job: a new version, with where each item comes from.",
    )
    file.download_button(
        "Plan (JSON)",
        plan.text(),
        f"{dataset.name}-plan.json",
        "application/json",
        key=f"{KEY}.plan",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
        help="Change it by hand, or run it with: python -m core build plan.json",
    )
    with shell.guard():
        costs = cost(plan.text(), dataset.fingerprint, dataset)
        said = f"{costs['added']:,} items would join, {costs['images']:,} in all, {costs['megabytes']:.1f} MB."
        st.caption(shell.plain(" ".join([said, *costs["notes"]])))
    here = {each.id for each in jobs.listing("build")}
    if (id := st.session_state.get(f"{KEY}.started.{name}")) in here:
        watch(id)


def start(plan: Any, title: str, name: str) -> None:
    """Submits the build, and keeps which one it is: others of this dataset are not shown here."""
    from core.kinds import build

    st.session_state[f"{KEY}.started.{name}"] = build.start(plan, title).id


def watch(id: str) -> None:
    """Shows how the build that was started here stands, until it has ended."""
    shell.live(_watched, 1 if jobs.get(id).active else None, id)


@shell.guard()
def _watched(id: str) -> None:
    building = jobs.get(id)
    job.panel(building, f"{KEY}.job")
    result = building.result() if building.status == "finished" else None
    if result:
        st.success(shell.plain(f"{result['name']}: {result['sentence']}"), icon=":material/check:")
        with st.container(horizontal=True):
            shell.version(result["name"], key=f"{KEY}.look")
            shell.version(
                result["name"], "Prove it", "build", key=f"{KEY}.prove", icon=":material/science:",
                help="Whether a classifier gets better by what joined.", build__view="proof",
            )  # fmt: skip

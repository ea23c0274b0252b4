"""The plan of a dataset by controls: what it is made of, how much of each, what it costs, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core import augment, datasets, jobs
from core.augment.generative import runs_for
from core.building import GateConfig, Plan, expected, makers, pinned
from core.catalog import UserError
from core.ground import sheets
from core.ground.writing import duration, many, percent
from core.kinds import build
from pages.parts import form, shell, show
from pages.parts import job as job_panel
from pages.parts.glossary import explained

KEY = "build.mix"
ROWS = f"{KEY}.rows"
ICONS = {
    "real": ":material/photo_library:",
    "augmented": ":material/auto_fix_high:",
    "synthetic": ":material/auto_awesome:",
    "adversarial": ":material/bug_report:",
}
_CHOSEN = {
    "real": "dataset",
    "augmented": "pipeline",
    "synthetic": "run",
    "adversarial": "classifier",
}
_TERMS = {"augmented": "Chain", "synthetic": "Gate", "adversarial": "Adversarial example"}
_SHOWN = 12  # classes whose counts are asked for in one table


def draw(dataset: Any, name: str, prepared: Mapping[str, Any]) -> None:
    """Draws the sources on the left, what they give on the right, and below what was built last."""
    rows = _rows(dataset, name)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        st.markdown("**What joins the training images**")
        sources = [_source(row, dataset, name) for row in rows]
        _more(rows)
        budget, seed = _limits()
        with st.expander(
            "The gate: what a synthetic item has to pass", icon=":material/filter_alt:"
        ):
            gate = form.flat({f"{KEY}.gate": GateConfig})[f"{KEY}.gate"]
            overrides = _overrides()
    record = {
        "dataset": {"name": name, "config": dict(prepared)},
        "sources": sources,
        "budget": budget,
        "seed": seed,
        "gate": gate,
        "overrides": overrides,
        "splits": st.session_state.get(f"{KEY}.splits", {}),  # of a plan that was opened
    }
    with right:
        st.markdown("**Training images by class and origin**")
        with shell.guard():
            plan = Plan.of(record)
            _outcome(plan, dataset)
        _files(record)
    builds = [job for job in jobs.listing("build") if job.config["dataset"]["name"] == name]
    if builds:
        st.divider()
        shell.live(built, 1 if builds[0].active else None, builds[0].id)


def _rows(dataset: Any, name: str) -> list[dict[str, Any]]:
    """Gives the sources of this visit for this dataset; at first, one of augmented copies."""
    of = f"{ROWS}.{name}"
    if of not in st.session_state:
        first = {"kind": "augmented", "parameters": {}, "each": 10}
        st.session_state[of] = [{"id": 0, "source": first}]
    st.session_state[ROWS] = st.session_state[of]
    return st.session_state[of]


def _more(rows: list[dict[str, Any]]) -> None:
    """Offers one more source of each kind."""
    st.caption("Add a source")
    with st.container(horizontal=True, gap="small"):
        for kind in makers:
            st.button(
                kind.title,
                key=f"{KEY}.add.{kind.name}",
                icon=ICONS.get(kind.name, ":material/add:"),
                help=kind.caption,
                on_click=_add,
                args=(rows, kind.name),
            )


def _add(rows: list[dict[str, Any]], kind: str) -> None:
    number = max((row["id"] for row in rows), default=-1) + 1
    each = None if kind == "real" else 10
    rows.append({"id": number, "source": {"kind": kind, "parameters": {}, "each": each}})


def _source(row: dict[str, Any], dataset: Any, name: str) -> dict[str, Any]:
    """Draws one source: what it is of, how many of each class, its further parameters; gives its record."""
    source = row["source"]
    kind, key = makers.get(source["kind"]), f"{KEY}.{row['id']}"
    chosen = _CHOSEN[kind.name]
    with st.container(border=True):
        words, amount, out = st.columns([3, 1.4, 0.5], vertical_alignment="bottom")
        options = _options(kind.name, dataset, name)
        given = str(source["parameters"].get(chosen, ""))
        if given and given not in options:
            options[given] = "as the plan says" if given.startswith("{") else given
        start = list(options).index(given) if given in options else 0
        with words:
            value = st.selectbox(
                f"{kind.title}: {kind.config.knobs()[chosen].label.lower()}",
                list(options),
                index=start if options else None,
                key=f"{key}.{chosen}",
                format_func=lambda id: shell.plain(options[id]),
                help=explained(kind.caption, _TERMS.get(kind.name, "")),
                placeholder="none there yet",
            )
        with amount:
            if kind.name == "real":
                each = st.number_input(
                    "Of each class", min_value=0, step=10, value=source.get("each"),
                    key=f"{key}.each", placeholder="all", help="Empty takes all there are.",
                )  # fmt: skip
            else:
                each = st.number_input(
                    "Of each class", min_value=0, step=10, value=int(source.get("each") or 0),
                    key=f"{key}.each", help="Images of each class; of a set without labels, in all.",
                )  # fmt: skip
        out.button(
            "",
            key=f"{key}.out",
            icon=":material/close:",
            help="Take this source out",
            on_click=_drop,
            args=(row["id"],),
        )
        counts = dict(source.get("counts", {}))
        knobs = [
            knob
            for knob in kind.config.knobs().values()
            if knob.name not in (chosen, "fingerprint")
        ]
        values = {knob.name: source["parameters"].get(knob.name, knob.default) for knob in knobs}
        with st.popover("More", icon=":material/tune:"):
            for knob in knobs:
                values[knob.name] = _control(knob, key, values[knob.name])
            where = st.text_input(
                "Only with the attribute", source.get("where", ""), key=f"{key}.where",
                placeholder="glasses=round", help="As the dataset names it; empty takes any.",
            )  # fmt: skip
            counts = _counts(dataset, key, each, counts)
        said = (
            [f"{many(len(source['shares']), 'share')} of the budget"]
            if source.get("shares")
            else []
        )
        said += (
            [f"{many(len(source['why']), 'reason')} kept with its items"]
            if source.get("why")
            else []
        )
        if counts:
            said.append("other numbers for " + ", ".join(f"{n} ({c:,})" for n, c in counts.items()))
        if said:
            st.caption(shell.plain(", ".join(said)))
    return {
        **source,
        "parameters": {**values, chosen: value or ""},
        "each": None if each is None else int(each),
        "counts": counts,
        "where": (where or "").strip(),
    }


def _control(knob: Any, key: str, start: Any) -> Any:
    """Draws a further parameter of a source, beginning with what its plan says."""
    if f"{key}.{knob.name}" not in st.session_state and start != knob.default:
        st.session_state[f"{key}.{knob.name}"] = start
    return form.control(knob, key)


def _counts(dataset: Any, key: str, each: Any, counts: dict[str, int]) -> dict[str, int]:
    """Asks for other numbers of some classes."""
    classes = dataset.classes
    if len(classes) < 2 or len(counts) > _SHOWN:  # so many are changed in the plan's file
        return counts
    some = st.multiselect(
        "Another number for the classes",
        list(classes),
        [name for name in classes if name in counts],
        key=f"{key}.classes",
        format_func=shell.plain,
        max_selections=_SHOWN,
    )
    return {
        name: int(
            st.number_input(
                shell.plain(name),
                min_value=0,
                step=10,
                value=int(counts.get(name, each or 0)),
                key=f"{key}.count.{name}",
            )
        )
        for name in some
    }


def _drop(number: int) -> None:
    rows = st.session_state[ROWS]
    rows[:] = [row for row in rows if row["id"] != number]


def _options(kind: str, dataset: Any, name: str) -> dict[str, str]:
    """Lists what a source can be of, by what its parameter takes."""
    if kind == "augmented":
        fit = (dataset.medium.item, dataset.medium.name)
        chains = {p.id: p.title for p in augment.presets() if p.pipeline.fits(*fit)}
        chains = {id: chains[id] for id in sorted(chains, key=lambda id: id != dataset.chain)}
        return chains | {
            o.id: f"{o.name} (saved)" for o in augment.saved() if o.pipeline.fits(*fit)
        }
    if kind == "synthetic":
        return {run.id: shell.called(run) for run in runs_for("sample", dataset)}
    if kind == "adversarial":
        from core.robustness import classifiers

        return {choice.id: choice.title for choice in classifiers.available(name)}
    others = [
        other for other in datasets.names() if other != name and datasets.describe(other).saved
    ]
    return {"": "of this dataset"} | {other: datasets.describe(other).title for other in others}


def _overrides() -> dict[str, str]:
    """Asks why a model may be used of which nobody knows what it has seen; keeps what else a plan overrides."""
    rest = dict(st.session_state.get(f"{KEY}.overrides", {}))
    seen = st.text_input(
        "Why a model may be used whose own data are not known",
        key=f"{KEY}.seen",
        placeholder="asked for only if it is so",
        max_chars=300,
        help="A model that was brought, or whose dataset is gone, may have seen what is held out here. The reason is "
        "kept in the plan, and in the card of the dataset.",
    )
    return rest | ({"seen": seen} if seen else {})


def _limits() -> tuple[int | None, int]:
    with st.container(horizontal=True):
        budget = st.number_input(
            "Budget", min_value=0, step=100, key=f"{KEY}.budget", placeholder="none", **_fresh(f"{KEY}.budget", None),
            help="The most that is added in all; shares of a plan are shares of it. Empty: the numbers say everything.",
        )  # fmt: skip
        seed = st.number_input(
            "Seed", min_value=0, max_value=2**31 - 1, step=1, key=f"{KEY}.seed", **_fresh(f"{KEY}.seed", 0),
            help="Another seed, other items; the same plan gives the same ones.",
        )  # fmt: skip
    return (None if budget is None else int(budget)), int(seed)


def _fresh(key: str, start: Any) -> dict[str, Any]:
    """Gives a start value to a control that has no state yet; beside a state it would be a warning."""
    return {} if key in st.session_state else {"value": start}


def _outcome(plan: Plan, dataset: Any) -> None:
    """Shows what the plan will give and cost, and offers to build it."""
    named = ("augmented", "synthetic")  # the others have one of their own
    empty = [s for s in plan.sources if s.kind in named and not s.config[_CHOSEN[s.kind]]]
    if empty:
        kind = makers.get(empty[0].kind).title.lower()
        st.info(
            f"There is nothing yet for the {kind} source to be made of. Choose, or take it out."
        )
        return
    table = expected(plan, dataset)
    shown = dict(list(table["by_origin"].items())[:60])
    show.stacked(shown, key=f"{KEY}.bars", alt="Training images by class and origin")
    size = f"about {table['megabytes']:,.0f} MB" if table["megabytes"] >= 1 else "less than 1 MB"
    cost = f"**{many(table['added'], 'image')}** join, {table['images']:,} in all, {size}"
    pace = _pace(plan)
    st.markdown(
        cost
        + (
            f"; about {duration(pace * table['added'])} at the pace of the last such build."
            if pace
            else "."
        )
    )
    for note in table["notes"]:
        st.caption(shell.plain(note))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the new dataset",
            key=f"{KEY}.name",
            max_chars=60,
            placeholder=f"{dataset.name}-mixed",
        )
        shell.press(
            st,
            "Build it",
            begin,
            plan,
            name or datasets.suggest(f"{dataset.name}-mixed"),
            dataset,
            type="primary",
            key=f"{KEY}.build",
            icon=":material/construction:",
            disabled=not shell.may_change(),
            help="As a job; the dataset stays as it is, and what is held out stays held out.",
        )


def begin(plan: Plan, name: str, dataset: Any) -> None:
    """Checks the plan against its dataset, and submits its build."""
    build.start(pinned(plan, dataset), name, shell.who())


def _pace(plan: Plan) -> float:
    """Gives the seconds of an item in the last build of such sources that finished; 0 where none did."""
    kinds = {source.kind for source in plan.sources}
    for job in jobs.listing("build"):
        result = None if job.active else job.result()
        if result and result.get("seconds") and sum(result["added"].values()):
            made = result.get("plan", {}).get("sources", ())
            if {source["kind"] for source in made} == kinds:
                return result["seconds"] / sum(result["added"].values())
    return 0.0


def _files(record: Mapping[str, Any]) -> None:
    """Offers the plan as a file, and takes one."""
    with st.expander("The plan as a file", icon=":material/description:"):
        st.download_button(
            "Plan (JSON)",
            lambda: Plan.of(record).text(),
            "plan.json",
            "application/json",
            key=f"{KEY}.download",
            icon=":material/download:",
            on_click="ignore",
        )
        taken = st.file_uploader(
            "Open a plan", type=["json"], key=f"{KEY}.upload", max_upload_size=2
        )
        shell.press(
            st, "Take it", take, taken, record["dataset"]["name"],
            key=f"{KEY}.take", disabled=taken is None,
        )  # fmt: skip


def take(file: Any, name: str) -> None:
    """Puts the sources of an uploaded plan into the controls."""
    try:
        plan = Plan.read(file.getvalue().decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError("The file is no text, so it is no plan. Choose a plan.json.") from None
    if plan.dataset != name:
        raise UserError(
            f"The plan is for the dataset {plan.dataset!r}. Choose that one, then open the plan."
        )
    for key in [key for key in st.session_state if str(key).startswith(f"{KEY}.")]:
        if not str(key).startswith((ROWS, f"{KEY}.upload", f"{KEY}.take")):
            del st.session_state[key]
    # numbers of their own: a control that keeps its key keeps what was typed into it
    first = max((row["id"] for row in st.session_state.get(f"{ROWS}.{name}", [])), default=-1) + 1
    st.session_state[f"{ROWS}.{name}"] = [
        {"id": i, "source": source.record()} for i, source in enumerate(plan.sources, first)
    ]
    form.fill(f"{KEY}.gate", plan.gate.record())
    st.session_state[f"{KEY}.budget"] = plan.budget
    st.session_state[f"{KEY}.seed"] = plan.seed
    st.session_state[f"{KEY}.splits"] = plan.splits.record()
    st.session_state[f"{KEY}.name"] = plan.name
    overrides = dict(plan.overrides)
    st.session_state[f"{KEY}.seen"] = overrides.pop("seen", "")
    st.session_state[f"{KEY}.overrides"] = overrides
    st.session_state["_done"] = f"The plan is open: {many(len(plan.sources), 'source')}."


@shell.guard()
def built(id: str) -> None:
    """Follows the build, and says what became of it, with what was refused and why."""
    from core.building.build import WHY

    job = jobs.get(id)
    st.markdown(f"**The last build** {shell.plain(job.config['build'].get('name', ''))}")
    job_panel.panel(job, f"{KEY}.job")
    result = job.result()
    if not result:
        return
    st.caption(shell.plain(result["sentence"]))
    for note in result.get("notes", []):
        st.caption(f":material/info: {shell.plain(note)}")
    refused = {reason: n for reason, n in result.get("refused", {}).items() if n}
    if drawn := result.get("drawn", 0):
        kept = drawn - sum(refused.values())
        st.markdown(f"Passed the gate: **{percent(kept / drawn)}** of {drawn:,} drawn.")
    files = {r: f for r, f in result.get("rejected_by", {}).items() if (job.path / f).exists()}
    if files:
        reason = st.pills(
            "Refused, because they were",
            list(files),
            default=next(iter(files)),
            required=True,
            key=f"{KEY}.why.{id}",
            format_func=lambda reason: f"{WHY.get(reason, reason)} ({refused.get(reason, 0):,})",
        )
        tiles = sheets.tiles((job.path / files[reason]).read_bytes())
        show.pictures(
            tiles,
            columns=16,
            key=f"{KEY}.refused.{reason}",
            max_height=240,
            max_zoom=4,
            alt=f"{len(tiles)} refused items: {WHY.get(reason, reason)}",
        )
    with st.container(horizontal=True):
        if result["name"] in datasets.names():
            shell.version(result["name"], key=f"{KEY}.look")
            shell.version(
                result["name"], "Prove it", "build", key=f"{KEY}.proof", icon=":material/science:",
                help="Whether a classifier gets better by what joined.", build__view="proof",
            )  # fmt: skip
        job_panel.take(job, f"{KEY}.job")

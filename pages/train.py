"""Train a model, watch it learn, compare it with others."""

import shlex
from typing import Any

import pandas as pd
import streamlit as st

from core import datasets, files, jobs, runs, work
from core.catalog import Knob, UserError
from core.work import train as training
from core.writing import duration, percent
from pages.ui import form, shell, show

TITLE = "Train"
ICON = ":material/model_training:"
ORDER = 3
STEERED = ("Copying", "Augmentation of the critic's input", "Dropout")  # what controllers go by
shell.enter()


def choice() -> tuple[str, dict[str, str]]:
    """Reads what the form is about: the kind of job, and the entry of each part."""
    what, dataset = st.session_state["train.what"], shell.chosen_dataset()
    return (
        ("classifier", {"dataset": dataset})
        if what == "classifier"
        else ("train", {"dataset": dataset, "family": what})
    )


def key_of(part: str, chosen: dict[str, str]) -> str:
    """Gives the start of the widget keys of one part of the form."""
    return f"train.{chosen.get(part, part)}" if part != "dataset" else f"data.{chosen['dataset']}"


def start(values: dict[str, Any], name: str) -> None:
    """Submits what the form holds, and follows the new run."""
    kind, chosen = choice()
    job = work.submit(kind, chosen, values, name=name, who=shell.who())
    st.session_state["run"] = job.id
    st.session_state["train.name"] = ""


def take_over(id: str) -> None:
    """Fills the form with the settings of a run, to change them and start again."""
    job = shell.attempt(jobs.get, id)
    if job is None:
        return
    chosen, values = work.flat(job.config)
    st.session_state["data"] = chosen["dataset"]
    st.session_state["train.what"] = chosen.get("family", "classifier")
    fill(values, chosen)
    st.session_state["_done"] = f"The form holds the settings of {job.name}."


def go_on_from(id: str) -> None:
    """Fills the form with the settings of a run and names it as the one whose weights the new one starts from."""
    take_over(id)
    fill({"train.parent": id}, choice()[1])
    if (job := shell.attempt(jobs.get, id)) is not None:
        st.session_state["_done"] = f"The next training starts from the weights of {job.name}."


def preset() -> None:
    """Fills the form with a preset of the family, over the defaults."""
    from core.models import families

    kind, chosen = choice()
    defaults = {
        f"{part}.{name}": knob.default
        for part, cls in work.parts(kind, chosen).items()
        if part != "dataset"
        for name, knob in cls.knobs().items()
    }
    picked = st.session_state.get("train.preset")
    fill(defaults | dict(families.get(chosen["family"]).presets.get(picked, {})), chosen)


def fill(values: dict[str, Any], chosen: dict[str, str]) -> None:
    """Sets the controls of the form to dotted values."""
    for dotted, value in values.items():
        part, _, name = dotted.partition(".")
        form.fill(key_of(part, chosen), {name: value})


def command(kind: str, chosen: dict[str, str], values: dict[str, Any]) -> str:
    """Writes the settings as a command line, leaving defaults out."""
    words = ["python", "-m", "core", "train", "--dataset", chosen["dataset"]]
    words += ["--classifier"] if kind == "classifier" else ["--family", chosen["family"]]
    classes = work.parts(kind, chosen)
    for dotted, value in values.items():
        part, _, name = dotted.partition(".")
        if value != classes[part].knobs()[name].default:
            words += ["--set", f"{dotted}={value}"]
    return shlex.join(words)


def the_form() -> None:
    """Draws the form: what to train, its parameters, the button."""
    from core.models import families
    from core.tensors import gpus

    # the one that the Overview trains comes first, and is the choice of who has made none
    names = [*sorted(families.names(), key=lambda name: name != "gan"), "classifier"]
    titles = {entry.name: entry.title for entry in families} | {"classifier": "Classifier (judge)"}
    st.selectbox(
        "What to train",
        names,
        key="train.what",
        format_func=titles.get,
        persist_state="session",
        help="A family of generative models, or a classifier that can judge their images.",
    )
    kind, chosen = choice()
    entry = families.get(chosen["family"]) if kind == "train" else jobs.kinds.get(kind)
    st.caption(
        f"{entry.caption} Trained on **{shell.plain(datasets.describe(chosen['dataset']).title)}** "
        "(change it in the sidebar)."
    )
    button = st.container()
    if entry.presets:
        st.selectbox(
            "Preset",
            list(entry.presets),
            index=None,
            key="train.preset",
            placeholder="Recommended settings",
            on_change=preset,
            help="Fills the settings below; change what you like afterwards.",
        )
    parts = work.parts(kind, chosen)
    keys = {key_of(part, chosen): part for part in parts}
    shown = {key: parts[part] for key, part in keys.items() if part != "dataset"}
    own = {"pipeline", "critic", "made_by", "made_images"}  # asked for below, in words of their own
    made = form.form(shown, omit=own | ({"gpus"} if gpus() < 2 else set()))
    made["train.augment"] = chain(entry.critic)
    if kind == "classifier":
        made["train.extra"] = extra(chosen["dataset"], parts["extra"].knobs())
    if parts["dataset"].knobs():
        with st.expander("Data"):
            st.caption("The same settings as on the Data page.")
            made |= form.flat({key: parts[part] for key, part in keys.items() if part == "dataset"})
    values = {
        f"{keys[key]}.{name}": value for key, part in made.items() for name, value in part.items()
    }
    name = st.text_input(
        "Name",
        key="train.name",
        placeholder=f"{chosen['dataset']}-{chosen.get('family', kind)}",
        max_chars=80,
        help="What to call the run; you can change it later.",
    )
    shell.press(
        button,
        "Start training",
        start,
        values,
        name,
        type="primary",
        icon=":material/play_arrow:",
        key="train.start",
        disabled=not shell.may_change(),
        width="stretch",
    )
    if id := values["augment.pipeline"]:
        where = " before the critic" if values["augment.critic"] else ""
        button.caption(
            f":material/auto_fix_high: With the chain **{shell.plain(id)}** of Augment{where}."
        )
    with st.expander("As a command line"):
        st.code(command(kind, chosen, values), language="bash", wrap_lines=True)


def chain(critic: bool) -> dict[str, Any]:
    """Asks for a chain of Augment, a preset, a saved one, or none, and for its place if there is a critic."""
    from core import augment

    titles = {"": "none"} | augment.trainable()
    key = "train.augment.pipeline"
    if st.session_state.get(key) not in titles:  # deleted meanwhile
        st.session_state[key] = ""
    id = st.selectbox(
        "Augment with a chain",
        list(titles),
        key=key,
        format_func=lambda id: titles[id],
        persist_state="session",
        help="A chain of the Augment page changes every image on its way into the network: a preset, or one that was "
        "saved there.",
    )
    before = critic and st.toggle(
        "Only before the critic",
        key="train.augment.critic",
        disabled=not id,
        persist_state="session",
        help="The chain changes what the critic sees, real and generated images alike, in place of the augmentation "
        "that comes with the GAN; the generator learns plain images. How often, **Augmentation** above says.",
    )
    return {"pipeline": id, "critic": bool(id) and before}


def extra(dataset: str, knobs: dict[str, Knob]) -> dict[str, Any]:
    """Asks for a run whose images a classifier learns from as well, and for how many; their classes are its labels."""
    of = [
        run
        for run in runs.listing()
        if run.kind == "train"
        and runs.dataset_of(run) == dataset
        and run.config["family"]["config"].get("conditional")
        and runs.checkpoints(run)
    ]
    able = {run.id: shell.called(run) for run in of}
    key = "train.extra.made_by"
    asked = st.session_state.get(key)
    if asked not in able:  # written as a name, deleted meanwhile, or of another dataset
        st.session_state[key] = next((run.id for run in of if run.name == asked), "")
    id = st.selectbox(
        "Add images of a run",
        ["", *able],
        key=key,
        format_func=lambda id: able.get(id, "none"),
        persist_state="session",
        help="Generated images beside the real ones: more to learn from helps most where it trains against attacks. "
        "Only runs that learned the classes of this dataset, prepared alike.",
    )
    number = knobs["made_images"]
    return {
        "made_by": id,
        "made_images": form.control(number, "train.extra") if id else number.default,
    }


def head(run: jobs.Job) -> None:
    """Says which run this is, and offers to stop or resume it.

    Not part of the fragment below: a click on a fragment is lost when the server was restarted meanwhile.
    """
    longer = not run.active and not run.shipped and runs.resumable(run)
    stopped = not run.active and run.status != "finished"
    title, *places = (
        st.columns([3, *[1.3] * (run.active + stopped + longer)], vertical_alignment="center")
        if run.active or stopped or longer
        else [st]
    )
    standing = "ships with Simulacra, for looking only" if run.shipped else run.status
    title.markdown(
        f"**{shell.plain(run.name)}** · {shell.plain(runs.family_of(run))}{shell.on(run)} · {standing}"
    )
    if run.active:
        places[0].button(
            "Stopping…" if run.stopping else "Stop",
            icon=":material/stop:",
            key="train.stop",
            on_click=shell.attempt,
            args=(jobs.stop, run.id),
            disabled=not shell.may_change() or run.stopping,
            width="stretch",
        )
    if stopped:
        places[0].button(
            "Resume",
            icon=":material/play_arrow:",
            key="train.resume",
            on_click=shell.attempt,
            args=(work.resume, run.id),
            disabled=not shell.may_change(),
            width="stretch",
        )
    if longer:
        with places[-1].popover(
            "Train longer",
            disabled=not shell.may_change(),
            width="stretch",
            key="train.longer.open",
            on_change="rerun",
        ) as asked:
            images = st.number_input(
                "Images in all",
                value=2 * run.config["train"]["images"],
                key=f"train.longer.images.{run.id}",
                help="Those it has seen included. The schedule goes on as if it had been that long from the start.",
            )
            if asked.open:  # the network is built for it
                foretell(run, int(images))
            shell.press(
                st, "Go on", training.extend, run.id, images, key="train.longer", type="primary"
            )


@shell.guard()
def foretell(run: jobs.Job, images: int) -> None:
    """Says what becomes of the learning rate when a run is given more images."""
    if images > run.state.get("done", 0) and (words := training.lengthened(run.id, images)):
        st.caption(shell.plain(words))


@shell.guard()
def live(id: str, status: str, sampled: bool) -> None:
    """Shows one run as it stands, with its images and curves; runs again every second while it is active."""
    run = jobs.get(id)
    if run.status != status or sampled != bool(runs.samples(run)):
        st.rerun()  # what is around this panel changes too
    records, damaged = files.Log(run.path).read()
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    if run.active:
        st.progress(
            run.share,
            text="Saving a checkpoint"
            if run.stopping
            else shell.plain(run.message or shell.standing(run)),
        )
    elif run.message:
        tell = {"failed": st.error, "finished": st.info}.get(run.status, st.warning)
        tell(shell.plain(run.message))
    if damaged:
        st.caption(
            f":material/warning: {damaged} damaged line(s) in {shell.plain(str(run.path / 'log.jsonl'))} were left out."
        )
    for warning in [r["warning"] for r in records if "warning" in r][-2:]:
        st.caption(f":material/warning: {shell.plain(str(warning))}")
    if last:
        facts = [f"**{last.get('images', 0):,}** of {run.config['train']['images']:,} images"]
        facts += [f"**{duration(last['seconds'])}** of training"] if "seconds" in last else []
        if run.active:
            facts += [f"**{last.get('images_per_second', 0):,.0f}** images/s"]
        if "test_accuracy" in last:
            facts += [
                f"accuracy on the test split **{percent(last['test_accuracy'])}** (n = {last['n_test']})"
            ]
        elif "valid_accuracy" in last:
            facts += [f"accuracy on held-out images **{percent(last['valid_accuracy'])}**"]
        for name, place in (("peak_mb", "memory"), ("peak_gpu_mb", "memory of the GPU")):
            if name in run.state:
                facts += [f"at most **{run.state[name]:,} MB** of {place}"]
        st.markdown(" · ".join(facts))
        if (run.path / "run.json").exists() and (parent := runs.record(run).get("parent")):
            changed = ", ".join(
                f"{what} from {old} to {new}" for what, (old, new) in parent["changed"].items()
            )
            st.caption(
                shell.plain(f"Started from {parent['name']} at step {parent['step']}")
                + (shell.plain(f", with {changed}.") if changed else ".")
            )
        if "copying" in last:
            ratio = last["distance"] / last["distance_floor"]
            low, high = last["copying_low"], last["copying_high"]
            st.markdown(
                f"Distance to held-out images **{ratio:.2f} ×** that of real ones · copying "
                f"**{last['copying']:.2f}** ({low:.2f} to {high:.2f}; 0.5 is none; Evaluate tests it)"
            )
    pictures, charts = st.columns(2, gap="medium")
    marks = runs.marks(run, records)
    main = [
        "How real images look to the critic",
        "Loss",
        "Accuracy" if run.kind == "classifier" else "Distance to held-out images",
    ]
    if run.kind == "train":
        with pictures:
            if show.film(run, key=f"train.film.{id}", max_height=330):
                st.caption(
                    "The same noise at every step: move the slider to see the training again."
                )
            elif run.active:
                st.caption("The first images appear within seconds of the start.")
            else:
                st.caption("It ended before its first images.")
            beside = [
                title for title in STEERED if any(name in last for name in show.CURVES[title][0])
            ]
            if beside:
                show.curves(
                    {run.name: records},
                    key=f"train.beside.{id}",
                    titles=beside,
                    height=200,
                    marks=marks,
                )
            main += beside
        with charts:
            show.curves(
                {run.name: records},
                key=f"train.curves.{id}",
                titles=main[:3],
                height=200,
                marks=marks,
            )
    else:
        for place, title in zip((pictures, charts), main[1:], strict=True):
            with place:
                show.curves(
                    {run.name: records},
                    key=f"train.curves.{id}.{title}",
                    titles=[title],
                    height=260,
                    marks=marks,
                )
    if marks and records:
        st.caption(
            "Dotted lines: "
            + "; ".join(f"{words}, at {images:,} images" for images, words in marks)
            + "."
        )
    with st.expander("More curves", on_change="rerun", key="train.all") as more:
        if more.open:
            show.curves(
                {run.name: records},
                key=f"train.more.{id}",
                titles=[c for c in show.charts({run.name: records}) if c not in main],
                height=200,
                marks=marks,
            )


def manage(run: jobs.Job) -> None:
    """Offers what can be done with a run."""
    with st.container(horizontal=True):
        st.button(
            "Use its settings",
            icon=":material/content_copy:",
            key="train.clone",
            on_click=take_over,
            args=(run.id,),
            help="Fills the form with them, to change something and train again.",
        )
        if runs.checkpoints(run):
            st.button(
                "Start from it",
                icon=":material/fork_right:",
                key="train.from",
                on_click=go_on_from,
                args=(run.id,),
                help="Fills the form as well, and lets the new run begin with the weights that this one has learned.",
            )
        if not run.shipped and st.button(
            "Name and note",
            icon=":material/edit:",
            key="train.describe",
            disabled=not shell.may_change(),
        ):
            describe(run.id)
        if not run.shipped and st.button(
            "Delete",
            icon=":material/delete:",
            key="train.delete",
            disabled=not shell.may_change() or run.active,
        ):
            delete(run.id)
        samples = runs.samples(run)
        if samples:
            st.download_button(
                "Images (PNG)",
                samples[-1][1].read_bytes,
                f"{run.id}.png",
                "image/png",
                key="train.png",
                icon=":material/download:",
                on_click="ignore",
            )
        if (run.path / "log.jsonl").exists():
            st.download_button(
                "Records (JSON lines)",
                (run.path / "log.jsonl").read_bytes,
                f"{run.id}.jsonl",
                key="train.log",
                icon=":material/download:",
                on_click="ignore",
            )
    if run.note:
        st.caption(shell.plain(run.note))


@st.dialog("Name and note")
@shell.guard()
def describe(id: str) -> None:
    """Asks for another name and note."""
    run = jobs.get(id)
    name = st.text_input("Name", run.name, key="train.describe.name", max_chars=80)
    note = st.text_area("Note", run.note, key="train.describe.note", max_chars=4000)
    if st.button("Save", type="primary", key="train.describe.save"):
        try:
            jobs.describe(id, name=name, note=note)
            st.rerun()
        except UserError as error:
            shell.refuse(error)


@st.dialog("Delete this run?")
@shell.guard()
def delete(id: str) -> None:
    """Asks before it deletes."""
    run = jobs.get(id)
    st.markdown(
        f"This deletes **{shell.plain(run.name)}** ({shell.plain(run.id)}) with all checkpoints and images, for good."
    )
    if st.button("Delete for good", type="primary", key="train.delete.yes"):
        try:
            jobs.delete(id)
            st.rerun()
        except UserError as error:
            shell.refuse(error)


def broken(sound: set[str]) -> None:
    """Names folders that are no readable runs, and offers to delete them."""
    for id, why in jobs.damaged(sound):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/warning: {shell.plain(why)}")
            st.button(
                "Delete it",
                key=f"train.damaged.{id}",
                on_click=shell.attempt,
                args=(jobs.delete, id),
                disabled=not shell.may_change(),
            )


@shell.guard()
def table() -> None:
    """Lists the runs with a search, and compares up to four."""
    every = jobs.listing()
    listed = [job for job in every if runs.is_run(job)]
    st.subheader("Runs", anchor=False)
    broken({job.id for job in every})
    words = (
        st.text_input(
            "Search",
            key="train.search",
            placeholder="name, family, dataset, status or note",
            label_visibility="collapsed",
        )
        .lower()
        .split()
    )
    rows = [
        {
            "id": run.id,
            "name": run.name,
            "status": f"{shell.icon_of(run)} {'shipped' if run.shipped else run.status}",
            "family": runs.family_of(run),
            "dataset": runs.dataset_of(run),
            "done": run.share,
            "seconds": run.state.get("seconds", 0.0),
            "started": pd.Timestamp(run.created, unit="s"),
            "note": run.note,
        }
        for run in listed
    ]
    rows = [
        row
        for row in rows
        if all(
            any(
                word in str(row[k]).lower()
                for k in ("id", "name", "status", "family", "dataset", "note")
            )
            for word in words
        )
    ]
    chosen = st.dataframe(
        show.named(
            pd.DataFrame(
                rows,
                columns=[
                    "id",
                    "name",
                    "status",
                    "family",
                    "dataset",
                    "done",
                    "seconds",
                    "started",
                    "note",
                ],
            ),
            "name",
            "note",
        ),
        hide_index=True,
        height=min(36 * (len(rows) + 1) + 3, 300),
        key="train.table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "id": None,
            "done": st.column_config.ProgressColumn(
                "done", min_value=0.0, max_value=1.0, format="percent"
            ),
            "seconds": st.column_config.NumberColumn("seconds", format="%.0f"),
            "started": st.column_config.DatetimeColumn("started", format="D MMM, HH:mm"),
        },
        alt="All runs with their state",
    )
    picked = [rows[i]["id"] for i in chosen.selection.rows if i < len(rows)]
    if not picked:
        st.caption(f"{len(rows)} of {len(listed)} runs. Tick up to four to see them side by side.")
        return
    if len(picked) > 4:
        st.warning(
            f"Up to four runs fit side by side, {len(picked)} are ticked. The first four are shown."
        )
        picked = picked[:4]
    st.button(
        "Open it above",
        key="train.open",
        on_click=lambda: st.session_state.update(run=picked[0]),
        disabled=len(picked) != 1,
        help="Makes the one that is ticked the chosen run.",
    )
    several = [jobs.get(id) for id in picked]
    labels = {run.id: f"{run.name} ({run.id[-4:]})" for run in several}
    for run, place in zip(several, st.columns(len(several)), strict=True):
        with place:
            st.markdown(f"**{shell.plain(labels[run.id])}**")
            st.caption(
                f"{shell.plain(runs.family_of(run))}{shell.on(run)}, {run.state.get('done', 0):,} images"
            )
            show.film(run, key=f"train.compare.{run.id}", max_height=260)
    show.curves(
        {labels[run.id]: files.Log(run.path).read()[0] for run in several}, key="train.compare"
    )


st.title("What does a model learn, and how fast?", anchor=False)
left, right = st.columns([1, 2.4], gap="large")
with left:
    the_form()
with right:
    shown = shell.chosen_run()
    if shown is None:
        st.info(
            "Nothing is trained yet. Press **Start training**: the first images appear within seconds.",
            icon=":material/arrow_back:",
        )
    else:
        with st.container(border=True):
            head(shown)
            shell.live(
                live, 1 if shown.active else None, shown.id, shown.status, bool(runs.samples(shown))
            )
        manage(shown)
        if shown.kind == "train" and runs.checkpoints(shown):
            words = (
                "Explore its newest checkpoint" if shown.active else "Walk through what it learned"
            )
            shell.go("latent", words)
shell.live(table, 5 if st.session_state["_busy"] else None)

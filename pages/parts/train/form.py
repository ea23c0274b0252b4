"""What to train: the family or the classifier, its parameters, and the button."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import streamlit as st

from core import datasets, jobs, kinds, runs
from core.catalog import Knob, UserError
from core.ground.writing import duration
from core.kinds import train as training
from core.media import Medium
from pages.parts import form, shell


def choice() -> tuple[str, dict[str, str]]:
    """Reads what the form is about: the kind of job, and the entry of each part."""
    what, dataset = st.session_state["train.what"], shell.chosen_dataset()
    if what in training.trainers():
        return what, {"dataset": dataset}
    return "train", {"dataset": dataset, "family": what}


def key_of(part: str, chosen: dict[str, str]) -> str:
    """Gives the start of the widget keys of one part of the form."""
    return f"train.{chosen.get(part, part)}" if part != "dataset" else f"data.{chosen['dataset']}"


def start(values: dict[str, Any], name: str) -> None:
    """Submits what the form holds, and follows the new run."""
    kind, chosen = choice()
    job = kinds.submit(kind, chosen, values, name=name, who=shell.who())
    st.session_state["run"] = job.id
    st.session_state["train.name"] = ""


def take_over(id: str) -> None:
    """Fills the form with the settings of a run, to change them and start again."""
    job = shell.attempt(jobs.get, id)
    if job is None:
        return
    chosen, values = kinds.flat(job.config)
    st.session_state["data"] = chosen["dataset"]
    st.session_state["train.what"] = chosen.get("family", job.kind)
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
        for part, cls in kinds.parts(kind, chosen).items()
        if part != "dataset"
        for name, knob in cls.knobs().items()
    }
    picked = st.session_state.get("train.preset")
    fill(defaults | dict(families.get(chosen["family"]).presets.get(picked or "", {})), chosen)


def fill(values: dict[str, Any], chosen: dict[str, str]) -> None:
    """Sets the controls of the form to dotted values."""
    for dotted, value in values.items():
        part, _, name = dotted.partition(".")
        form.fill(key_of(part, chosen), {name: value})


def command(kind: str, chosen: dict[str, str], values: dict[str, Any]) -> str:
    """Writes the settings as a command line, leaving defaults out."""
    arguments = ["python", "-m", "core", "train", "--dataset", chosen["dataset"]]
    arguments += ["--family", chosen["family"]] if "family" in chosen else ["--kind", kind]
    classes = kinds.parts(kind, chosen)
    for dotted, value in values.items():
        part, _, name = dotted.partition(".")
        if value != classes[part].knobs()[name].default:
            arguments += ["--set", f"{dotted}={value}"]
    return shlex.join(arguments)


def draw() -> None:
    """Draws the form: what to train, its parameters, the button."""
    from core.models import DEFAULT_FAMILY, families

    # the family that the Overview trains comes first, and is chosen at first
    about = datasets.describe(shell.chosen_dataset())
    sees = about.medium.model
    fitting = [entry.name for entry in families if sees in entry.takes]
    others = {name: kind for name, kind in training.trainers().items() if name != "train"}
    names = [*sorted(fitting, key=lambda name: name != DEFAULT_FAMILY), *others]
    titles = {each.name: each.title for each in families}
    titles |= {n: kind.title.removeprefix("Train ").capitalize() for n, kind in others.items()}
    what, recipe, naming, button = st.columns([1.5, 1.3, 1.2, 1], vertical_alignment="bottom")
    what.selectbox(
        "What to train",
        names,
        key="train.what",
        format_func=titles.__getitem__,
        persist_state="session",
        help="A family of generative models, or something else, such as a classifier that can judge their images.",
    )
    kind, chosen = choice()
    entry = families.get(chosen["family"]) if "family" in chosen else others[kind]
    if entry.presets:
        recipe.selectbox(
            "Preset",
            list(entry.presets),
            index=None,
            key="train.preset",
            placeholder="Recommended settings",
            on_change=preset,
            help="Fills the settings below; change what you like afterwards.",
        )
    name = naming.text_input(
        "Name",
        key="train.name",
        placeholder=f"{chosen['dataset']}-{chosen.get('family', kind)}",
        max_chars=80,
        help="What to call the run; you can change it later.",
    )
    about_it = st.container()
    # a chain that the page Augment brought is seen at once
    brought = bool(st.session_state.get("train.augment.pipeline"))
    with st.expander("Settings", icon=":material/tune:", expanded=brought):
        values = settings(kind, chosen, about.medium)
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
    about_it.caption(
        f"{entry.caption} Trained on **{shell.plain(about.title)}** (change it in the sidebar). "
        + expected(kind, chosen, values)
    )
    if id := values.get("augment.pipeline"):
        where = " before the critic" if values["augment.critic"] else ""
        about_it.caption(
            f":material/auto_fix_high: With the chain **{shell.plain(id)}** of Augment{where}."
        )


def settings(kind: str, chosen: dict[str, str], medium: Medium) -> dict[str, Any]:
    """Draws the parameters, and gives them as dotted values."""
    from core.models import families
    from core.tensors import gpus

    parts = kinds.parts(kind, chosen)
    keys = {key_of(part, chosen): part for part in parts}
    begins = st.session_state.get(f"{key_of('train', chosen)}.parent")
    aside = (
        {"dataset"} if begins else {"dataset", "further"}
    )  # which layers learn, of what is there
    shown = {key: parts[part] for key, part in keys.items() if part not in aside}
    own = {"pipeline", "critic", "made_by", "made_images"}  # asked for below, in words of their own
    omit = own | ({"gpus"} if gpus() < 2 else set())
    network, training_loop, further = st.columns(3, gap="medium")
    first = next(iter(shown))
    with network:
        asked = form.form({first: shown.pop(first)}, omit=omit)
    with training_loop:
        asked |= form.form(shown, omit=omit)
    with further:
        if "augment" in parts:
            critic = "family" in chosen and families.get(chosen["family"]).critic
            asked["train.augment"] = chain(critic, medium)
        if "extra" in parts:
            asked["train.extra"] = extra(chosen["dataset"], parts["extra"].knobs())
        if parts["dataset"].knobs():
            with st.expander("Data"):
                st.caption("The same settings as on the Data page.")
                data = {key: parts[part] for key, part in keys.items() if part == "dataset"}
                asked |= form.flat(data)
        values = {
            f"{keys[key]}.{name}": value
            for key, part in asked.items()
            for name, value in part.items()
        }
        with st.expander("As a command line"):
            st.code(command(kind, chosen, values), language="bash", wrap_lines=True)
    return values


@st.cache_data(max_entries=64, ttl="1h", show_spinner=False)
def _pace(kind: str, chosen: str, values: str) -> float | None:
    return training.pace(kind, json.loads(chosen), json.loads(values))


def expected(kind: str, chosen: dict[str, str], values: dict[str, Any]) -> str:
    """Says how long a training will take, and how that is known; nothing where a value is not allowed."""
    try:
        known = training.expected(kind, chosen, values)
    except UserError:  # the start says it
        return ""
    if known is None:
        return (
            "Nothing like it was trained here before: the time left shows after its first seconds."
        )
    if known.job.shipped and shell.may_change() and "torch" in sys.modules:
        asked = {
            name: value
            for name, value in values.items()
            if name not in ("train.images", "train.seed")
        }
        speed = _pace(kind, json.dumps(chosen), json.dumps(asked, sort_keys=True))
        if speed:
            seconds = duration(int(values["train.images"]) / speed)
            return f"It takes **about {seconds}** by some steps of it on this computer, and what its samples take."
    return (
        f"It takes **about {duration(known.seconds)}** at the pace of {shell.plain(known.job.name)}"
        + ("" if known.alike else ", which had other settings")
        + (", trained on another computer." if known.job.shipped else ".")
    )


def chain(critic: bool, medium: Medium) -> dict[str, Any]:
    """Asks for a chain of Augment, a preset, a saved one, or none, and for its place if there is a critic."""
    from core import augment

    titles = {"": "none"} | augment.trainable(medium.item, medium.name)
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


def _listens(run: jobs.Job) -> bool:
    try:
        return runs.classes_of(run) > 0
    except (UserError, KeyError, TypeError):  # its record is damaged
        return False


def extra(dataset: str, knobs: dict[str, Knob]) -> dict[str, Any]:
    """Asks for a run whose images a classifier learns from as well, and for how many; their classes are its labels."""
    of = [run for run in runs.generators(dataset) if _listens(run)]
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

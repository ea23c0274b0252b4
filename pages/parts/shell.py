"""The shell around every page: what happens once per server, the navigation, the chosen run and dataset, errors."""

from __future__ import annotations

import ast
import gc
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit import config
from streamlit.runtime.scriptrunner import get_script_run_ctx

from core import jobs, runs
from core.catalog import UserError
from core.ground import scratch, slices
from core.ground.settings import settings
from core.ground.writing import duration, percent
from core.media import Medium

PAGES = Path(__file__).resolve().parent.parent
_log = logging.getLogger("simulacra")


# --- Once per server ------------------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def warm() -> threading.Thread:
    """Answers without delay, and imports what the pages will need a second later, when the first one has been sent."""
    _no_delay()
    slices.watch(_left)
    _bound_uploads()
    thread = threading.Timer(1, _import_heavy)
    thread.daemon = True
    thread.start()
    return thread


def _bound_uploads() -> None:
    """Lets a view-only server take small files only: the check in core comes when a file is in memory already."""
    if settings().view_only:
        most = min(settings().upload_mb, int(config.get_option("server.maxUploadSize")))
        config.set_option("server.maxUploadSize", most)


def _left() -> None:
    """Ends this run of the page when the visitor has left, or has asked for something else meanwhile."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        # at every access, Streamlit looks whether the run is still wanted
        st.session_state.get("_left")


def _no_delay() -> None:
    """Switches Nagle's delay of 40 ms per answer off; connections inherit it from the listener."""
    for thing in (
        gc.get_objects()
    ):  # the type is looked at, because isinstance wakes lazy objects such as torch's
        if (
            issubclass(type(thing), socket.socket)
            and thing.type == socket.SOCK_STREAM
            and thing.family != socket.AF_UNIX
        ):
            try:
                thing.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                continue  # closed meanwhile


def _sweep() -> None:
    """Clears away what a killed server has left half written, and nobody owns."""
    here = settings()
    if not here.view_only:
        home = here.home.absolute()
        scratch.sweep(here.jobs, here.datasets, here.cache / "datasets", home / "classifiers")


def _import_heavy() -> None:
    _sweep()
    import pandas  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import torch

    from core.models import families

    torch.set_num_threads(
        1
    )  # a page decodes small batches; more threads only fight with the worker
    list(families)
    gc.collect()
    gc.freeze()  # imported modules never become garbage: the collector need not visit them


# --- Pages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A page: its file's name, and what the first lines of the file say in TITLE, ICON, ORDER and RUN.

    RUN may be left out: it tells whether the page is about the run that is chosen in the sidebar.
    """

    name: str
    title: str
    icon: str
    order: float
    run: bool = False

    @classmethod
    def of(cls, file: Path) -> Page:
        """Reads the lines without running the page.

        Raises:
            TypeError: If one of them is missing.
        """
        said: dict[str, Any] = {}
        for line in ast.parse(file.read_text("utf-8")).body:
            if isinstance(line, ast.Assign):
                target = ast.unparse(line.targets[0])
                if target in ("TITLE", "ICON", "ORDER", "RUN"):
                    said[target.lower()] = ast.literal_eval(line.value)
        return cls(file.stem, **said)


@cache
def pages() -> list[Page]:
    """Finds the pages, in their order: every file in ``pages/`` is one."""
    return sorted(map(Page.of, PAGES.glob("*.py")), key=lambda page: page.order)


def navigation() -> Any:
    """Builds the navigation; the first page is the default one.

    The icon of the app comes before the pages: a page's own would be fetched from a server of Google's.

    On a fresh server, Streamlit has drawn a navigation of its own by now (see :func:`enter`), in a sidebar as wide as
    it likes, and a sidebar keeps the width that it began with. So a visit in the first minute begins with none, and
    runs again.
    """
    st.set_page_config(
        page_title="Simulacra",
        page_icon=str(PAGES / "parts" / "icon.png"),
        layout="wide",
        initial_sidebar_state=240,
    )
    admit()
    _drop_endless()
    fresh = not st.session_state.get("_begun") and time.monotonic() - _first_asked() < 60
    st.session_state["_begun"] = True
    if asked := st.session_state.pop("_asked", None):
        with guard():
            attempt(asked[0], *asked[1])
    page = st.navigation(
        [
            st.Page(
                PAGES / f"{page.name}.py",
                title=page.title,
                icon=page.icon,
                url_path=page.name,
                default=page is pages()[0],
            )
            for page in pages()
        ],
        position="hidden" if fresh else "sidebar",
    )
    if fresh:
        st.rerun()
    dress()
    return page


def dress() -> None:
    """Puts our mark above the pages, in the colours of the visitor's theme, and what the theme cannot say."""
    theme = st.context.theme.type or "light"
    mark, style = _look()
    colours = {"ink": "textColor", "accent": "primaryColor", "ground": "backgroundColor"}
    for name, option in colours.items():
        colours[name] = st.get_option(f"theme.{theme}.{option}")
        mark = mark.replace(name.upper(), colours[name])
    st.logo(mark, size="large")
    told = "".join(f"--{name}: {colour}; " for name, colour in colours.items())
    st.html(f"<style>:root {{ {told}}}\n{style}</style>")


@cache
def _look() -> tuple[str, str]:
    """Reads our mark, and the style of all pages."""
    mark, style = (PAGES / "parts" / name for name in ("mark.svg", "shell.css"))
    return mark.read_text("utf-8"), style.read_text("utf-8")


@cache
def _first_asked() -> float:
    """Tells when the first page of this server was asked for."""
    return time.monotonic()


def admit() -> None:
    """Shows nothing to a visit without a name where a proxy gives every visitor one: it came past the login."""
    headers = st.get_option("server.trustedUserHeaders")
    if headers and not any(st.user.get(key) for key in headers.values()):
        st.error(
            "This server takes visitors through its proxy only, which asks for their name. Open its public address.",
            icon=":material/lock:",
        )
        st.stop()


def _drop_endless() -> None:
    """Takes numbers without end out of the address: a number field that is bound to one breaks off in Streamlit."""
    for key, value in st.query_params.to_dict().items():
        try:
            endless = math.isinf(float(value))
        except (ValueError, OverflowError):
            continue
        if endless:
            del st.query_params[key]


def run(page: Any) -> None:
    """Runs the chosen page, and lets it know that the shell is around it."""
    st.session_state["_shell"] = True
    try:
        page.run()
    except Exception:
        release()
        raise
    release()  # not where a run is cut short: the press waits for the next one


def enter() -> None:
    """Comes first in every page, and makes sure that the shell is around it.

    On a fresh server, Streamlit runs the page of a deep link without ``app.py``: a folder ``pages`` beside it means a
    navigation of Streamlit's own, until ``st.navigation`` was called once. So the visit calls it, and runs again.
    """
    if not st.session_state.pop("_shell", False):
        navigation()
        st.rerun()


def header(question: str) -> Any:
    """Draws the top of a page: what it answers, and at the right the place of its main actions.

    The place may be filled at once or later, when what an action needs is known, but not from a fragment. At most
    three actions stand there, one of them of ``type="primary"``; what acts on a part of the page stays at that part::

        actions = shell.header("What is this model, and what can it do?")
        actions.download_button("Share", page, key="about.share", icon=":material/share:")
        shell.press(actions, "Train longer", kinds.extend, run.id, key="train.longer")
        with actions:
            shell.go("latent", "Explore it")

    Returns:
        The place, a horizontal container.
    """
    with st.container(
        key="shell.header", horizontal=True, vertical_alignment="center", gap="small"
    ):
        st.title(question, anchor=False)
        return st.container(
            key="shell.actions",
            horizontal=True,
            horizontal_alignment="right",
            vertical_alignment="center",
            width="content",
        )


@contextmanager
def empty(reason: str, icon: str = ":material/image_search:") -> Iterator[None]:
    """Says why there is nothing to see yet; what can be done about it is drawn inside::

    with shell.empty("Nobody has raced yet. The first turn takes seconds."):
        shell.press(st, "Race", kinds.submit, "race", key="race.start")
    """
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.markdown(f"## {icon}", text_alignment="center")
        st.markdown(reason, text_alignment="center")
        yield


def go(name: str, label: str, icon: str = ":material/arrow_forward:", **query: str) -> None:
    """Offers the next step: a link to another page that keeps the chosen run and dataset.

    Args:
        name: Of the page.
        label, icon: As they are shown.
        query: What the address says there, with ``__`` for the dots: ``build__view="take"``.
    """
    asked = {key.replace("__", "."): value for key, value in query.items()}
    st.page_link(PAGES / f"{name}.py", label=label, icon=icon, query_params=asked or None)


@contextmanager
def guard() -> Iterator[None]:
    """Shows a UserError as it is, and a bug as a short apology with the place of its log."""
    try:
        yield
    except UserError as error:
        refuse(error)
    except Exception:
        _log.exception("a page failed")
        st.error(
            "Something went wrong inside Simulacra, and it is not your fault. The details are in the server's log. "
            "Go on with another page, or reload this one.",
            icon=":material/sentiment_dissatisfied:",
        )


def has(medium: Medium, part: str) -> bool:
    """Tells whether a medium has a part, and says in a sentence where it has not."""
    try:
        medium.require(part)
    except UserError as error:
        st.info(plain(str(error)), icon=":material/info:")
        return False
    return True


def attempt(act: Any, *args: Any, **kwargs: Any) -> Any:
    """Does what a button asks for; a refusal is kept and shown by :func:`told` after the rerun."""
    try:
        return act(*args, **kwargs)
    except UserError as error:
        st.session_state["_refused"] = str(error)
        return None


def press(
    place: Any, label: str, act: Callable[..., Any], *args: Any, key: str, **look: Any
) -> None:
    """Draws a button that acts on values as they are at the press.

    A callback gets what its button was drawn with: a number that was typed right before the press would be missing.
    So the callback only remembers the press, this run of the page reads the values anew, and :func:`navigation` acts
    at the start of the next run, before anything is drawn.

    Args:
        place: Where it stands: a column, a container, or ``st`` itself.
        label: Its words.
        act: What it does; a refusal is kept and shown by :func:`told`.
        args: With what.
        key: Of the widget.
        look: All else that ``st.button`` takes.
    """
    place.button(label, key=key, on_click=lambda: st.session_state.update(_pressed=key), **look)
    if st.session_state.get("_pressed") == key:
        release()
        # who may change nothing is told so; else a button that the new values disable does nothing
        if not look.get("disabled") or not may_change():
            st.session_state["_asked"] = (act, args)
        st.rerun()


def release() -> None:
    """Forgets a press whose button was not drawn, so that it does not act when the button comes back."""
    st.session_state.pop("_pressed", None)


# What Markdown, or Streamlit's own signs, would make of a text. Characters that only the parser looks at get a
# backslash. Addresses, :shortcodes: and arrows are looked for once more after the parser has taken the backslashes
# away; an invisible character that joins two words (U+2060) keeps them apart.
_PARSED = re.compile(r"[\\`*_\[\]{}<>~$|&]")
_AT_START = re.compile(
    r"^(?:([#=](?=[#=\s]|$)|[+-](?=[+\s-]|$))|(\d{1,9})(?=[.)](?:\s|$)))", re.MULTILINE
)
_LATER = re.compile(
    r"[:@](?=\S)|www(?=\.)|(?<!\S)(?:<(?=-)|-(?=>)|-(?=-)|[<>~](?==))", re.IGNORECASE
)


def plain(text: str) -> str:
    """Escapes what Markdown would turn into something else, for words that a person typed or that come with a file.

    Every such text goes through here on its way into an element that reads Markdown: labels, tabs, captions, toasts,
    errors, tables. The page shows it letter by letter.
    """
    text = "\n".join(line.lstrip() for line in re.split("\r\n?|\n", text))
    text = _PARSED.sub(r"\\\g<0>", _LATER.sub("\\g<0>\u2060", text))
    # no heading, list or rule begins: its sign is escaped, or the point behind its number
    return _AT_START.sub(lambda at: f"\\{at[1]}" if at[1] else f"{at[2]}\\", text)


def refusal(check: Callable[..., Any], *args: Any) -> str:
    """Says why something cannot be done, before anybody asks for it; empty where it can."""
    try:
        check(*args)
    except UserError as error:
        return str(error)
    return ""


def refuse(error: Exception | str) -> None:
    """Shows what was refused, word for word."""
    st.error(plain(str(error)), icon=":material/info:")


def told() -> None:
    """Shows what the last button press was refused for, or has done."""
    if done := st.session_state.pop("_done", None):
        st.toast(plain(done), icon=":material/check:")
    if refused := st.session_state.pop("_refused", None):
        refuse(refused)


def capped(asked: Any) -> Any:
    """Gives a config as it may be run here: on a view-only server large values are capped, which is said."""
    if not settings().view_only:
        return asked
    config, cuts = asked.capped()
    for cut in cuts:
        st.caption(f":material/speed: {plain(cut)}")
    return config


def may_change() -> bool:
    """Tells whether buttons that change something are enabled; core refuses in any case."""
    return not settings().view_only


# --- What follows the visitor from page to page ---------------------------------------------------------------------

STATUS_ICONS = {
    "queued": "◷",
    "running": "▶",
    "finished": "✓",
    "stopped": "■",
    "failed": "✕",
    "interrupted": "!",
}


def icon_of(run: jobs.Job) -> str:
    """Gives the sign of a run's state; one that ships with the code has its own."""
    return "◆" if run.shipped else STATUS_ICONS[run.status]


def called(job: jobs.Job) -> str:
    """Names a job in a list: its state, its name, and when it was started or that it ships with the code."""
    return f"{icon_of(job)} {job.name} · {since(job)}"


def on(job: jobs.Job) -> str:
    """Says what a job works on, as " on digits"; empty where its name says that already."""
    dataset = runs.dataset_of(job)
    named = dataset.lower() in re.split(r"[^\w]+", job.name.lower())
    return "" if named else f" on {plain(dataset)}"


def since(job: jobs.Job) -> str:
    """Tells when a job was started (day and month, hour and minute), or that it ships with the code."""
    if job.shipped:
        return "shipped"
    return time.strftime("%d %b %H:%M", time.localtime(job.created)).lstrip("0")


def explore(run: jobs.Job, label: str = "Explore it", *, key: str) -> None:
    """Offers to make a run the chosen one and to walk through what it learned."""
    pressed = st.button(
        label,
        key=key,
        icon=":material/arrow_forward:",
        type="tertiary",
        on_click=lambda: st.session_state.update(run=run.id),
    )
    if pressed:
        st.switch_page(PAGES / "latent.py")


def version(
    name: str, label: str = "", page: str = "data", *, key: str, icon: str = "", **query: str
) -> None:
    """Offers to choose a dataset and to go on with it, also from a part of a page that draws itself again.

    Args:
        name: Of the dataset.
        label: Its words; empty says "Look at NAME".
        page: Where to.
        key: Of the button.
        icon: Before its words.
        query: What the address says there, as in :func:`go`; ``type`` and ``help`` are the button's.
    """
    look: dict[str, Any] = {part: query.pop(part) for part in ("type", "help") if part in query}
    pressed = st.button(
        label or f"Look at {plain(name)}",
        key=key,
        icon=icon or ":material/arrow_forward:",
        on_click=lambda: st.session_state.update({"data.next": name}),
        **look,
    )
    if pressed:  # a callback alone would draw that part only, and the page would stay
        asked = {part.replace("__", "."): value for part, value in query.items()}
        st.switch_page(PAGES / f"{page}.py", query_params=asked or None)


def choose(key: str, options: list[str], default: str | None) -> None:
    """Sets a choice from the session, else from the address, else the default; says when a link names what is gone.

    Not Streamlit's own binding to the address: that one leaves a default out, and the default (the newest run) changes.
    A widget's own state is lost when the visitor goes on before the page is drawn, so a copy is kept beside it.
    """
    named = wanted(key)
    if named not in options:
        if named:
            st.toast(
                plain(f"The link names {named!r}, which is not here any more. Showing another."),
                icon=":material/link_off:",
                duration="infinite",  # or whoever looks away takes another model for the one that was sent
            )
        named = default
    st.session_state[key] = st.session_state[f"chosen.{key}"] = named


def wanted(key: str) -> str | None:
    """Gives a choice as the session, or else the address, has it."""
    state = st.session_state
    return state.get(key) or state.get(f"chosen.{key}") or st.query_params.get(key)


def view(
    label: str, key: str, options: Mapping[str, str], *, pills: bool = False, **more: Any
) -> str:
    """Draws a choice that is always made, the first one to begin with, and names it in the address by its short id.

    Streamlit's own binding would write what the visitor reads, with its blanks and question marks. An address that
    changed without this choice, by the browser's way back, wins over the choice.
    """
    first, kept = next(iter(options)), f"{key}.address"
    address = st.query_params.get(key)
    if st.session_state.get(key) not in options or address != st.session_state.get(kept):
        st.session_state[key] = address if address in options else first

    def change() -> None:
        st.session_state[kept] = st.query_params.get(key)

    chosen = (st.pills if pills else st.segmented_control)(
        label,
        list(options),
        key=key,
        required=True,
        format_func=lambda id: plain(options[id]),
        on_change=change,
        **more,
    )
    chosen = chosen or first
    wanted = None if chosen == first else chosen
    if address != wanted:
        if wanted is None:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = wanted
    st.session_state[kept] = wanted
    return chosen


def live(draw: Callable[..., None], seconds: float | None, *args: Any) -> None:
    """Draws something that draws itself again every so many seconds; None: never, until the page runs again.

    In a container of its own: what follows a fragment in the same container can get lost when the fragment's clock
    strikes while the page is being drawn.
    """
    with st.container():
        st.fragment(draw, run_every=seconds)(*args)


def standing(job: jobs.Job) -> str:
    """Says in a few words how a job stands."""
    if job.status == "queued":
        return f"waits, place {jobs.position(job)}"
    if job.status == "running":
        left = job.seconds_left
        return f"{percent(job.share, 0)}" + (
            f", {duration(left)} left" if left is not None else ", starting"
        )
    return job.status


def chosen_dataset() -> str:
    """Names the dataset that the visitor chose."""
    return st.session_state["data"]


def chosen_run(generator: bool = False) -> jobs.Job | None:
    """Gives the chosen run, or the newest generative model of the dataset if it is to be one; None without one."""
    data, chosen = st.session_state.get("data"), st.session_state.get("run")
    listed = [
        run
        for run in runs.listing()
        if (runs.generates(run) or not generator)
        and (run.id == chosen or runs.dataset_of(run) == data)
    ]
    return next(
        (run for run in listed if run.id == chosen),
        listed[0] if listed else None,
    )


def chosen_model(purpose: str = "") -> jobs.Job | None:
    """Gives the generative model that a page is about; where there is none to open, says why and where to go, and None.

    Args:
        purpose: Words after "no trained model", with a space before them.
    """
    run = chosen_run(generator=True)
    if run is None:
        with empty(f"There is no trained model{purpose} on this dataset yet. One takes a minute."):
            go("train", "Train one")
        return None
    meant = run.id == st.session_state.get("run")  # then the runs need not be listed once more
    if not meant and (chosen := chosen_run()) is not None and chosen.id != run.id:
        what = "classifier" if runs.classifies(chosen) else plain(runs.family_of(chosen))
        st.caption(
            f":material/info: {plain(chosen.name)} is a {what}, which makes no images. "
            f"This is {plain(run.name)}."
        )
    if runs.checkpoints(run):
        return run
    reason = f"{plain(run.name)} has no checkpoint"
    reason += (
        " yet. Its first one appears seconds after its start."
        if run.active
        else f": it is {run.status}. Choose another run in the sidebar."
    )
    with empty(reason):
        go("train", "Watch it train" if run.active else "See what happened")
    return None


def who() -> str:
    """Names the visitor where the server asks for a login; empty otherwise."""
    return str(st.user.get("email") or "") if st.user else ""

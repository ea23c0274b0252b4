"""Takes away from Python what Windows lacks, as far as the project's own code would meet it.

Also the packages that the variable HIDDEN names. Python imports this file by itself where the folder is on PYTHONPATH,
so workers are treated alike.
"""

import builtins
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

HIDDEN = set(os.environ.get("HIDDEN", "").split())

MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
OS = [
    "nice",
    "getpriority",
    "setpriority",
    "sched_getaffinity",
    "sched_setaffinity",
    "killpg",
    "setsid",
    "setpgid",
    "getpgid",
    "getpgrp",
    "getsid",
    "getloadavg",
    "fork",
    "forkpty",
    "mkfifo",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "uname",
    "sysconf",
    "sync",
    "chown",
]
SIGNALS = [
    "SIGKILL",
    "SIGSTOP",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGCHLD",
    "SIGCONT",
    "SIGPIPE",
    "SIGQUIT",
]
OURS = ("core", "pages", "app", "__main__")

_import = builtins.__import__


def _ours(frame: Any) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in OURS


def _without(name: str, *more: Any, **named: Any) -> Any:
    if name.partition(".")[0] in MODULES and _ours(sys._getframe(1)):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _import(name, *more, **named)


class Poorer(type(os)):
    """A module that does not show everything to the project's own code."""

    def __getattribute__(self, name: str) -> Any:
        if name in LACKS.get(object.__getattribute__(self, "__name__"), ()) and _ours(
            sys._getframe(1)
        ):
            raise AttributeError(f"module has no attribute {name!r}")
        return super().__getattribute__(name)


LACKS = {"os": OS, "signal": SIGNALS}
os.__class__ = signal.__class__ = Poorer
builtins.__import__ = _without


class Popen(subprocess.Popen):
    """Refuses what only POSIX knows."""

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in ("start_new_session", "preexec_fn", "process_group", "umask", "user", "group"):
            if options.get(name) not in (None, False, -1) and _ours(sys._getframe(1)):
                raise ValueError(f"{name} is not supported on Windows platforms")
        super().__init__(*args, **options)


subprocess.Popen = Popen  # type: ignore[misc]


# Windows moves or removes nothing that is open or mapped, and puts nothing in its place.
def _held() -> set[str]:
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    found = {line.split(maxsplit=5)[-1].strip() for line in lines}
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(each.readlink()))
    return found


def _careful(act: Any) -> Any:
    def careful(*paths: Any, **more: Any) -> None:
        ends = (
            []
            if more.get("dir_fd")
            else [str(Path(os.fsdecode(path)).absolute()) for path in paths]
        )
        for held in _held():
            if any(held == end or held.startswith(end + "/") for end in ends):
                raise PermissionError(13, f"{held} is open", str(paths[0]))
        act(*paths, **more)

    return careful


_find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(  # type: ignore[method-assign]
    lambda name, *more: None if name.partition(".")[0] in HIDDEN else _find(name, *more)
)
if sys.platform == "linux":
    for name in ("rename", "replace", "unlink", "remove"):
        setattr(os, name, _careful(getattr(os, name)))

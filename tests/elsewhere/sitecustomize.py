"""Takes away from Python what Windows lacks, as far as the project's own code would meet it.

Also the packages that the variable HIDDEN names. Python imports this file by itself where the folder is on PYTHONPATH,
so workers are treated alike.
"""

import builtins
import os
import signal
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

HIDDEN = set(os.environ.get("HIDDEN", "").split())

MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
OS = """nice getpriority setpriority sched_getaffinity sched_setaffinity killpg setsid setpgid getpgid getpgrp getsid
getloadavg fork forkpty mkfifo getuid geteuid getgid getegid uname sysconf sync chown""".split()
SIGNALS = "SIGKILL SIGSTOP SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGCONT SIGPIPE SIGQUIT".split()
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
        if name in LACKS.get(object.__getattribute__(self, "__name__"), ()) and _ours(sys._getframe(1)):
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


# Windows moves nothing that is open or mapped, and nothing onto what is.
def _held() -> set[str]:
    found = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")}
    for each in os.scandir("/proc/self/fd"):
        try:
            found.add(os.readlink(each.path))
        except OSError:
            continue
    return found


def _moving(move: Any) -> Any:
    def careful(source: Any, target: Any, **more: Any) -> None:
        ends = [str(Path(each).absolute()) for each in (source, target)]
        for held in _held():
            if any(held == end or held.startswith(end + "/") for end in ends):
                raise PermissionError(13, f"{held} is open", str(source))
        move(source, target, **more)

    return careful


_find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(  # type: ignore[method-assign]
    lambda name, *more: None if name.partition(".")[0] in HIDDEN else _find(name, *more)
)
if sys.platform == "linux":
    os.rename, os.replace = _moving(os.rename), _moving(os.replace)

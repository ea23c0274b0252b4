"""Executes annotations at the price of a call.

`--jaxtyping-packages` decorates every function of core with `jaxtyping.jaxtyped`, which writes a function's checks anew
whenever it is defined: for one inside another, at each call of that one. Here they are written once for its code, at its
first call, when every name of its module is known; and what it got is not checked a second time with what it gives.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import jaxtyping
from beartype.roar import BeartypeCallHintViolation

MADE: dict[int, tuple[CodeType, Checks]] = {}  # by the id of the code, which is kept for as long
context = functools.partial(jaxtyping.jaxtyped, "context")  # in which "n" is one number


class Checks:
    """What a function may get and give: two functions that do nothing but look."""

    def __init__(self, fn: FunctionType, typechecker: Callable[..., Any]) -> None:
        signature = inspect.signature(fn)
        hints = {name: _hint(each, fn) for name, each in fn.__annotations__.items()}
        bare = [
            each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else None)
            for each in signature.parameters.values()
        ]  # fmt: skip
        gets = _empty(
            fn, str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
        )
        gets.__annotations__ = {name: hint for name, hint in hints.items() if name != "return"}
        gets.__defaults__, gets.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
        self.gets = typechecker(gets)
        self.gives: Callable[[Any], None] | None = None
        if "return" in hints:
            gives = _empty(fn, "(out)")
            gives.__annotations__ = {"return": hints["return"]}
            self.gives = typechecker(gives)


def _empty(fn: FunctionType, signature: str) -> Any:
    """Makes a function of the same name that gives its argument `out`, if it has one, and nothing otherwise."""
    scope: dict[str, Any] = {}
    name = fn.__name__ if fn.__name__.isidentifier() else "fn"
    exec(f"def {name}{signature}: return {'out' if signature == '(out)' else 'None'}", scope)
    scope[name].__module__, scope[name].__qualname__ = fn.__module__, fn.__qualname__
    return scope[name]


def _hint(annotation: Any, fn: FunctionType) -> Any:
    """Reads an annotation; one with a name that exists for the type checker alone allows anything."""

    def holder(value: Any) -> None: ...

    holder.__annotations__ = {"value": annotation}
    try:
        return typing.get_type_hints(holder, fn.__globals__, include_extras=True)["value"]
    except Exception:
        return Any


def checked(fn: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Stands for `jaxtyping.jaxtyped`: wraps a function, or the `__init__` of a dataclass."""
    if fn is None:
        return functools.partial(checked, typechecker=typechecker)
    if isinstance(fn, type):
        if dataclasses.is_dataclass(fn) and not hasattr(fn.__init__, "checked"):
            fn.__init__ = checked(fn.__init__, typechecker=typechecker)
        return fn
    checks: Checks | None = None

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checks
        if checks is None:
            code = fn.__code__
            if id(code) not in MADE:
                MADE[id(code)] = code, Checks(fn, typechecker)
            checks = MADE[id(code)][1]
        with context():
            try:
                checks.gets(*args, **kwargs)
            except BeartypeCallHintViolation as error:
                raise jaxtyping.TypeCheckError(str(error)) from None
            out = fn(*args, **kwargs)
            if checks.gives is not None:
                try:
                    checks.gives(out)
                except BeartypeCallHintViolation as error:
                    raise jaxtyping.TypeCheckError(str(error)) from None
            return out

    wrapped.checked = True  # type: ignore[attr-defined]
    return wrapped


def install() -> None:
    """Puts this in the place of jaxtyping's own decorator, for what is imported from now on."""
    jaxtyping.jaxtyped = checked

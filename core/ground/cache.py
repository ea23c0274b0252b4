"""A bounded cache of what was used last, shared by the threads of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Keeps the values that were used last; a value that several threads need at once is made by one of them.

    Args:
        limit: What all values may weigh together, or a function that says it. The newest stays whatever it weighs.
        size: What one value weighs; 1 for each without, so that ``limit`` counts them.

    Example:
        >>> cache = Cache(2)
        >>> [cache.get(word, lambda: len(word)) for word in ("a", "four", "a", "sixteen")]
        [1, 4, 1, 7]
        >>> cache.peek("a"), cache.peek("four")
        (1, None)
    """

    def __init__(
        self,
        limit: float | Callable[[], float],
        size: Callable[[Value], float] = lambda value: 1,
    ) -> None:
        self._limit, self._size = limit, size
        self._entries: OrderedDict[Hashable, tuple[Value, float]] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}
        self._guard = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Gives the value of a key, and makes it first if it is not kept; what ``make`` raises is kept nowhere.

        Other threads that ask for the same key meanwhile wait; ``make`` must not ask for it.
        """
        while True:
            with self._guard:
                if key in self._entries:
                    self._entries.move_to_end(key)
                    return self._entries[key][0]
                waited = self._making.get(key)
                if waited is None:
                    mine = self._making[key] = threading.Event()
                    break
            waited.wait()
        try:
            value = make()
            self.put(key, value)
            return value
        finally:
            with self._guard:
                del self._making[key]
            mine.set()

    def peek(self, key: Hashable) -> Value | None:
        """Gives the value of a key, as one that is used now; None if it is not kept."""
        with self._guard:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Value) -> None:
        """Keeps a value, and forgets those that were not used for longest until the rest is within the limit."""
        size = self._size(value)
        limit = self._limit() if callable(self._limit) else self._limit
        with self._guard:
            self._entries[key] = value, size
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and sum(s for _, s in self._entries.values()) > limit:
                self._entries.popitem(last=False)

    def values(self) -> list[Value]:
        """Lists what is kept, the least recently used first."""
        with self._guard:
            return [value for value, _ in self._entries.values()]

    def drop(self, unwanted: Callable[[Value], bool]) -> None:
        """Forgets the values that ``unwanted`` is true of."""
        with self._guard:
            for key in [key for key, (value, _) in self._entries.items() if unwanted(value)]:
                del self._entries[key]

    def clear(self) -> None:
        """Forgets everything."""
        self.drop(lambda value: True)

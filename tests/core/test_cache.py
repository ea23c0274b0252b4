"""What a process keeps of what it made: once per key, bounded, and safe for threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.ground.cache import Cache


def test_a_cache_forgets_what_was_not_used_for_longest():
    cache = Cache[str](2)
    for word in ("a", "b", "a", "c"):
        assert cache.get(word, lambda word=word: word * 2) == word * 2
    assert cache.values() == ["aa", "cc"]
    assert cache.peek("b") is None
    cache.put("d", "dd")
    assert cache.peek("a") is None
    cache.drop(lambda value: value == "cc")
    assert cache.values() == ["dd"]


def test_a_cache_is_bounded_by_what_its_values_weigh_and_keeps_the_newest():
    limit = 10.0
    cache = Cache[bytes](lambda: limit, len)
    for size in (4, 6, 1):
        cache.put(size, bytes(size))
    assert [len(value) for value in cache.values()] == [6, 1]
    limit = 0.0
    cache.put("heavy", bytes(20))
    assert [len(value) for value in cache.values()] == [20]


def test_what_many_threads_ask_for_at_once_is_made_once_and_a_failure_is_not_kept():
    cache, made, together = Cache[int](3), [], threading.Barrier(8)

    def make() -> int:
        made.append(threading.get_ident())
        if len(made) == 1:
            raise ValueError("the first one fails")
        return 7

    def ask(_: int) -> int | str:
        together.wait()
        try:
            return cache.get("key", make)
        except ValueError:
            return "failed"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert sorted(map(str, found)) == ["7"] * 7 + ["failed"]
    assert len(made) == 2
    with pytest.raises(ZeroDivisionError):
        cache.get("other", lambda: 1 // 0)
    assert cache.get("other", lambda: 1) == 1

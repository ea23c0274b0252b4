#!/usr/bin/env bash
# beartype draws from Python's global random generator whenever it checks an argument annotated as a list.
#
# Expected: a type checker has no side effects: after random.seed(0) the same numbers come, whether annotated functions
#   were called in between or not, and whether their annotations are checked or not.
# Seen: each call with a list[int] or Sequence[int] takes 32 bits from the global generator (the one item that is
#   checked is chosen by them), an empty list and a nested one as well. A dict, a scalar and a tuple of fixed length
#   leave it alone.
# Met where tests run with checked annotations: a seeded augmentation drew other numbers than the app itself, and others
#   again after one annotation of an unrelated function had changed. What helps: seed right before the draws, or draw
#   from a random.Random of one's own.
# Versions: beartype 0.23.1, Python 3.11, Linux x86-64. Date: 2026-11-30.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check beartype==0.23.1
cat > "$tmp/check.py" <<'PYTHON'
import random
import sys
from collections.abc import Sequence

from beartype import beartype


def draws(hint: object, value: object) -> int:
    """How many numbers of 32 bits a checked call takes from the global generator."""

    @beartype
    def called(x: hint) -> None: ...

    called(value)  # the first call may prepare something
    random.seed(0)
    stream = [random.getrandbits(32) for _ in range(50)]
    random.seed(0)
    called(value)
    return stream.index(random.getrandbits(32))


rows = {
    "list[int]": (draws(list[int], [1, 2, 3]), 1),
    "Sequence[int]": (draws(Sequence[int], [1, 2, 3]), 1),
    "list[list[int]]": (draws(list[list[int]], [[1, 2], [3]]), 1),
    "list[int], empty": (draws(list[int], []), 1),
    "dict[str, int]": (draws(dict[str, int], {"a": 1}), 0),
    "tuple[int, int]": (draws(tuple[int, int], (1, 2)), 0),
    "int": (draws(int, 1), 0),
}
for name, (value, _) in rows.items():
    print(f"{name:18} {value}")
sys.exit(any(value != seen for value, seen in rows.values()))
PYTHON
"$tmp/venv/bin/python" "$tmp/check.py"

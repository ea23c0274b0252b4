"""Tables as CSV: written so that no spreadsheet takes a text for a formula, and read back as they were."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

# what a cell begins with that a spreadsheet computes or sends
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def guarded(cell: Any) -> Any:
    """Puts an apostrophe before a text that a spreadsheet would compute; nothing becomes an empty cell."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def write(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Writes a table as CSV.

    A text that a spreadsheet would compute gets an apostrophe before it, which the spreadsheet takes for "this is
    text". Numbers stay numbers, texts that are numbers too.

    >>> write(["name", "change"], [["=1+1", -1.5], ["owl", "-2"]])
    "name,change\\n'=1+1,-1.5\\nowl,-2\\n"

    References:
        OWASP, CSV injection https://owasp.org/www-community/attacks/CSV_Injection
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in itertools.chain([head], rows):
        cells = [guarded(cell) for cell in row]
        # the writer leaves a carriage return bare, and the reader takes it for the end of a row
        bare = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if bare else plain).writerow(cells)
    return text.getvalue()


def read(text: str) -> list[dict[str, str]]:
    """Reads what :func:`write` wrote: each row by the names of the columns."""
    rows = [[_plain(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]] if rows else []


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell

"""CSV: what a spreadsheet must not compute, and that everything comes back as it was."""

from __future__ import annotations

import pytest

from core.ground import tables

HARMLESS = ["owl", "-1.5", "+2", "1e-3", "-.5", "'tis", "a=b", " =1", "", 'say "hi", you']
FORMULAS = ["=1+1", "+1+1", "-1+cmd", "@sum", "\tx", "\rx", "＝1", "'=1", "''@x", "-", "--1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_would_be_computed_gets_an_apostrophe(text):
    assert tables.read(tables.write(["a"], [[text]])) == [{"a": text}]
    cell = tables.write(["a", "b"], [[text, 1]]).partition("\n")[2]
    assert cell.lstrip('"').startswith(f"'{text[:1]}")


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_stay_as_they_are(text):
    written = tables.write(["a", "b"], [[text, -1.5]])
    assert "''" not in written
    assert "'-" not in written
    assert tables.read(written) == [{"a": text, "b": "-1.5"}]


def test_heads_are_guarded_and_nothing_is_an_empty_cell():
    assert tables.write(["=x", "y"], [[None, float("nan")], [-2, True]]) == "'=x,y\n,\n-2,True\n"
    assert tables.read("") == []

"""Tests that need other programs: `make test-engines` runs them, `make test` leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what lies in this folder, and skips it unless it was asked for with `-m engines`."""
    skip = pytest.mark.skip(reason="needs other programs; `make test-engines` runs it")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("engines")
            if "engines" not in config.getoption("-m"):
                item.add_marker(skip)

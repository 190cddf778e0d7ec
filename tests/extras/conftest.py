"""Marks every test of this folder `extras`: tox's env of that name installs what they need; nothing is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the folder alone where it is deselected: its files import what only the env `extras` has."""
    return True if "not extras" in config.option.markexpr else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies beside this file; pytest calls this with the tests of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.extras)

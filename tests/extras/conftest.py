"""Marks every test of this folder `extras`: tox's env of that name has what they need, and nothing is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies beside this file; pytest calls this with the tests of all folders."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.extras)

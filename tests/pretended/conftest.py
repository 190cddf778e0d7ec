"""Tests on a pretended device: `tests/test_pretended.py` runs each file in a process of its own, with the plugin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the files alone in processes that have no such device, or another."""
    wanted = f"test_on_{os.environ.get('PRETENDED_DEVICE', 'nothing')}"
    return None if collection_path.is_dir() or collection_path.name.startswith(wanted) else True

"""Plugins: what other packages have registered is found, and read once as long as nothing is installed."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from esmcls.foreign.plugins import entry_points
from esmcls.heads.registry import list_heads


def install(place: Path, name: str) -> None:
    """Leave in a folder what a package leaves that registers a head of its own name."""
    (place / f"{name}-1.dist-info").mkdir(parents=True)
    (place / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n", encoding="utf-8")
    (place / f"{name}-1.dist-info" / "entry_points.txt").write_text(f"[esmcls.heads]\n{name} = a:b\n", encoding="utf-8")


def test_a_plugin_that_is_installed_while_we_run_is_found_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = list_heads()
    install(tmp_path, "ours")
    os.utime(tmp_path, ns=(1, 1))  # clocks of file systems are coarse
    assert list_heads() == sorted([*before, "ours"])


def test_a_folder_that_joins_the_path_of_imports_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "theirs")
    before = list_heads()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site"), str(tmp_path / "none")])
    assert set(list_heads()) - set(before) == {"theirs"}


def test_the_installed_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = entry_points("esmcls.heads")
    monkeypatch.setattr(metadata, "entry_points", lambda group: pytest.fail("read again"))
    assert entry_points("esmcls.heads") is first

"""What 0.1.0 had under another path is still found there, with a warning; today's paths warn of nothing."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import esmcls
from esmcls.moved import DIVIDED, MOVED, MovedFinder

MODULES = [module.name for module in pkgutil.walk_packages(esmcls.__path__, "esmcls.")]
ROOMS = [old for old in MOVED if f"esmcls.{old}" in MODULES]
"""Old modules whose names are rooms now."""
PACKAGES = [*ROOMS, "term_heads"]
"""Old paths that stay packages, for what is below them."""
DOCUMENTED = {
    "accretion": ["information_accretion"],
    "allotment": ["Plan"],
    "cache": ["EmbeddingCache", "EmbeddingSpec"],
    "columns": ["Columns"],
    "curation": ["stratify"],
    "files": ["read_json", "write_json"],
    "finetuning": ["Finetuning"],
    "heads": ["Head", "load_head", "list_heads", "parse_settings"],
    "heads.base": ["BaseHead"],
    "heads.ensemble": ["EnsembleHead"],
    "labels": ["Labels"],
    "manifest": ["MANIFEST", "Manifest"],
    "metrics": ["macro_f1"],
    "ontology": ["read_obo", "Ontology"],
    "pretraining": ["pretrain", "PretrainConfig"],
    "segments": ["SteadyFile"],
    "statistics": ["describe_records", "gini"],
    "tables": ["LabelTable"],
    "term_heads": ["TermHead"],
    "term_heads.naive": ["NaiveHead"],
    "training": ["run", "History"],
    "workspace": ["Workspace", "FORMAT"],
}
"""Old path -> names that the documentation of 0.1.0 told of, or that a plugin or notebook may well have."""


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let old paths be imported as if for the first time."""
    for old in MOVED:
        if f"esmcls.{old}" not in MODULES:
            monkeypatch.delitem(sys.modules, f"esmcls.{old}", raising=False)


def test_every_old_path_leads_to_a_module_of_today() -> None:
    assert {f"esmcls.{today}" for today in MOVED.values()} <= set(MODULES)


@pytest.mark.parametrize("old", [old for old in MOVED if old not in PACKAGES])
def test_a_vanished_module_is_the_one_of_today_and_says_so(old: str, forgotten: None) -> None:
    today = importlib.import_module(f"esmcls.{MOVED[old]}")
    spec = today.__spec__
    with pytest.warns(DeprecationWarning, match=rf"esmcls\.{old} has moved to esmcls\.{MOVED[old]}, the only path"):
        assert importlib.import_module(f"esmcls.{old}") is today
    assert today.__spec__ is spec


@pytest.mark.parametrize(("old", "name"), [(old, name) for old, names in DOCUMENTED.items() for name in names])
def test_a_name_is_at_its_old_path_what_it_is_today(old: str, name: str, forgotten: None) -> None:
    homes = [MOVED.get(old, old), *DIVIDED.get(old, ())]
    modules = [importlib.import_module(f"esmcls.{home}") for home in homes]
    today = next(vars(module)[name] for module in modules if name in vars(module))
    if old not in MOVED and old not in DIVIDED:
        return
    with pytest.warns(DeprecationWarning, match="has moved to"):
        assert getattr(importlib.import_module(f"esmcls.{old}"), name) is today


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_its_own_modules_without_a_warning_and_no_other_names(room: str) -> None:
    package = importlib.import_module(f"esmcls.{room}")
    with pytest.raises(AttributeError, match=f"module 'esmcls.{room}' has no attribute 'nothing_of_the_kind'"):
        package.nothing_of_the_kind  # noqa: B018
    inside = next(module.name for module in pkgutil.iter_modules(package.__path__))
    assert python(f"from esmcls.{room} import {inside}", "-Werror:esmcls.").returncode == 0


def test_a_warning_names_the_line_that_imports() -> None:
    code = "import esmcls\nfrom esmcls.curation import stratify\nfrom esmcls.cache import EmbeddingCache\n"
    lines = [line for line in python(code, "-Walways").stderr.splitlines() if "DeprecationWarning" in line]
    assert {line.partition(": ")[0] for line in lines} == {"<string>:2", "<string>:3"}


def test_no_path_of_today_warns() -> None:
    code = "".join(f"import {module}\n" for module in MODULES) + "[getattr(esmcls, name) for name in esmcls.__all__]"
    assert python(code, "-Werror:esmcls.").returncode == 0
    assert python("import esmcls.curation", "-Werror:esmcls.").returncode == 1


def test_nobody_elses_modules_are_looked_for() -> None:
    assert MovedFinder.find_spec("curation") is None
    assert MovedFinder.find_spec("other.curation") is None
    with pytest.raises(ModuleNotFoundError, match=r"esmcls\.never"):
        importlib.import_module("esmcls.never")

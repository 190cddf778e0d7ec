"""Fixtures that every test file shares."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import forking_program
from hypothesis import settings
from order import place_of
from pages import ROOT

from esmcls.reporting import model_figures

FORMATS = model_figures.FORMATS
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="esmcls-hub-")  # read once, when huggingface_hub is imported
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network; `hub_server.py` has one of its own
settings.register_profile("patient", deadline=None)  # a loaded machine is no failure
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, which processes side by side take up one by one in this order."""
    items.sort(key=place_of)


@pytest.fixture(scope="session", autouse=True)
def _phmmer_alone() -> Iterator[None]:
    """Hide MMseqs2, which takes seconds to begin; `test_homology.py` has a fixture that shows it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("esmcls.heads.alignment.search.PROGRAM", "mmseqs-hidden-by-conftest")
        yield


@pytest.fixture(scope="session", autouse=True)
def _figures_as_svg_alone() -> Iterator[None]:
    """Leave out the PNG and the PDF of a report's figures, two thirds of its time; see `all_formats`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_figures, "FORMATS", ("svg",))
        yield


@pytest.fixture(scope="module")
def all_formats() -> Iterator[None]:
    """Have the figures of reports saved in all the formats that users get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_figures, "FORMATS", FORMATS)
        yield


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """Return the folder with real data sets beside the project, or None where it is absent (tests then use `data/`)."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return surroundings in which a shell finds an `esmcls` that needs no seconds to begin."""
    with forking_program(tmp_path_factory.mktemp("bin")) as surroundings:
        yield surroundings


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder to be in, with `data/` of the checkout in it."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path

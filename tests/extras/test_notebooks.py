"""The notebooks of the documentation run from top to bottom, and answer with what is kept in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def answers(notebook: Any) -> list[list[tuple[str, list[str]]]]:
    """Return of each cell of code what kinds of answer it gave."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs] for cell in cells]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_answers_as_it_was_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    kept = nbformat.read(path, 4)
    ran = nbformat.read(path, 4)
    NotebookClient(ran, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert answers(ran) == answers(kept)
    assert [cell.execution_count for cell in kept.cells if cell.cell_type == "code"] == list(
        range(1, len(answers(kept)) + 1)
    ), "kept after it was run from top to bottom"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_small_and_names_no_path_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert "/tmp/" not in text
    assert "/home/" not in text


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS

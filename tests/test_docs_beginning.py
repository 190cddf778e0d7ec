"""The pages that people read first do what they say; `test_docs_tasks.py` runs the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import BEGINNING, PAGES, run_page


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in BEGINNING], ids=lambda page: page.name)
def test_every_block_of_a_page_does_what_the_page_says(
    page: Path, page_folder: Path, surroundings: dict[str, str]
) -> None:
    run_page(page, page_folder, surroundings)

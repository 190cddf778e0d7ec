"""All other pages do what they say; see `pages.RUN_APART`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import pages_of, run_page

pytestmark = pytest.mark.extras


@pytest.mark.parametrize("page", pages_of("tasks"), ids=lambda page: page.name)
def test_every_block_of_a_page_does_what_the_page_says(
    page: Path, page_folder: Path, surroundings: dict[str, str]
) -> None:
    run_page(page, page_folder, surroundings)

"""The suite's own order: the longest files begin first, and each page of the documentation is run by one file."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from order import LONGEST_FIRST
from pages import PAGES, RUN_APART, pages_of

HERE = Path(__file__).parent


def test_the_longest_files_of_this_run_begin_first_and_each_is_run_in_one_go(request: pytest.FixtureRequest) -> None:
    files = [item.path.name for item in request.session.items]
    begun = [name for name, _ in itertools.groupby(files)]
    assert len(begun) == len(set(begun))
    assert begun == sorted(begun, key=lambda name: name not in LONGEST_FIRST)
    long = [name for name in begun if name in LONGEST_FIRST]
    assert long == sorted(long, key=LONGEST_FIRST.index)


@pytest.mark.parametrize("name", LONGEST_FIRST)
def test_a_file_that_begins_early_is_there(name: str) -> None:
    assert (HERE / name).is_file()


def test_each_page_is_run_by_one_file() -> None:
    runs = {name: pages_of(name) for name in [*RUN_APART, "tasks"]}
    assert Counter(page for pages in runs.values() for page in pages) == Counter(PAGES)
    for name in runs:
        assert f'pages_of("{name}")' in (HERE / f"test_docs_{name}.py").read_text(encoding="utf-8")

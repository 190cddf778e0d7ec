"""The order in which files of tests begin."""

from __future__ import annotations

import pytest

LONGEST_FIRST = (
    "test_docs_readme.py",
    "test_docs_labels.py",
    "test_docs_kinds.py",
    "test_docs_tasks.py",
    "test_docs_beginning.py",
    "test_cli_finetune.py",
    "test_cli_compare.py",
    "test_answers_agree.py",
    "test_cli_compare_go.py",
    "test_pretended.py",
    "test_hostile.py",
    "test_faults.py",
    "test_annotate.py",
    "test_archives.py",
    "test_cli.py",
    "test_docs.py",
    "test_cli_go.py",
)
"""Files of 15 CPU seconds and more: what begins last and takes longest is what all others wait for."""


def place_of(item: pytest.Item) -> int:
    """Return the place of a test's file; all that take less time share the last."""
    name = item.path.name
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

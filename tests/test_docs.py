"""The documentation is true: docstring examples, help pages, links. `test_docs_*.py` run the blocks of its pages."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import forked_client
import pytest
from command import done
from pages import FLAGS, LINK, PAGES, ROOT, blocks, commands, run_console, run_python

import esmcls
import esmcls_cli
from esmcls_cli.main import esmcls as program

MODULES = sorted(
    module.name
    for package in (esmcls, esmcls_cli)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_only_blocks_that_are_run_or_are_marked_as_not_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in blocks(text)} <= {"python", "console", "sh", "text"}
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(blocks(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_a_linked_test_exists(page: Path) -> None:
    for name, target in LINK.findall(page.read_text(encoding="utf-8")):
        path = page.parent / target
        assert path.exists(), f"{page.name}: [{name}]({target})"
        if path.name.startswith("test_"):
            assert f"def {name.strip('`')}(" in path.read_text(encoding="utf-8"), f"{page.name}: {target} has no {name}"


def test_a_page_that_says_something_else_than_is_printed_is_found(tmp_path: Path) -> None:
    run_console("$ echo one two\none\n  ...\n$ false || echo said\nsaid\n", tmp_path, "here")
    with pytest.raises(pytest.fail.Exception, match="here: echo two"):
        run_console("$ echo one\none\n$ echo two\nthree\n", tmp_path, "here")
    with pytest.raises(AssertionError, match="exit code 4"):
        run_console("$ exit 4\n", tmp_path, "here")
    with pytest.raises(AssertionError, match="Expected:"):
        run_python(">>> 1 + 1\n3\n", {}, "here")


def test_a_block_that_names_a_file_is_that_file() -> None:
    [block, other] = blocks("```python\n# plugin/mine.py\nONE = 1\n```\n\n```python\n# a/b is a path\nTWO = 2\n```\n")
    assert (block.file, other.file) == ("plugin/mine.py", "")


def test_a_command_may_go_over_several_lines() -> None:
    assert list(commands("$ a \\\n  b\nc\nd\n$ e\n")) == [("a \\\n  b", "c\nd\n"), ("e", "")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert found.failed == 0


def test_the_example_of_the_package_is_true() -> None:
    found = doctest.testmod(esmcls, optionflags=FLAGS)
    assert found.failed == 0
    assert found.attempted >= 2


def every_command(group: click.Group = program, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command and of each command of a group of commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))


COMMANDS = list(every_command())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_has_a_help_page(words: tuple[str, ...]) -> None:
    page = done(*words, "--help").out
    assert page.startswith(f"Usage: esmcls {' '.join(words)} ")
    assert len(page.split("\n\n")[1].strip()) > 10, "no sentence about what it does"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_told_of_in_the_documentation(words: tuple[str, ...]) -> None:
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert re.search(rf"esmcls {' '.join(words)}\b", told)


def test_the_index_of_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {target for _, target in LINK.findall(index)}
    assert {page.name for page in PAGES} - {"README.md", "index.md"} <= linked


def test_the_page_of_heads_is_what_their_docstrings_say() -> None:
    """After a change: esmcls heads --markdown > docs/heads.md."""
    assert (ROOT / "docs" / "heads.md").read_text(encoding="utf-8") == done("heads", "--markdown").out


def test_a_command_of_a_page_is_the_program_in_a_process_of_its_own(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    """Files, folder, exit codes and the order of what is said are as if it were started by itself."""
    block = """$ printf '>a\\nMKK\\n' | esmcls embed - --encoder composition -w w
esmcls: 1 record read
esmcls: no labels in -...
1 sequence, 1 distinct: 1 embedded, 0 were cached
$ ls w/cache | wc -l
1
$ cd w && esmcls info -w . | head -1
workspace .
$ esmcls fit -w w
esmcls: error: w: no dataset: ...
"""
    run_console(block, tmp_path, "here", surroundings)


def test_the_exit_code_of_a_command_that_a_signal_ended_is_a_shells() -> None:
    assert [forked_client.exit_code(status) for status in (0, 2 << 8, signal.SIGKILL)] == [0, 2, 137]


def shown(page: str) -> dict[tuple[str, str], list[str]]:
    """Return the rows of a page's tables by the first words of their header and their own first cell."""
    rows: dict[tuple[str, str], list[str]] = {}
    header = ""
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`*") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = ""
        elif not header:
            header = cells[0]
        elif cells[0] != "---":
            rows[header, cells[0].split("`")[0]] = cells[1:]
    return rows


def measured(name: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a kept comparison by head; of the encoder `bundled` where there are others."""
    comparison = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    rows = [row for row in comparison["rows"] if not row["baseline"] and row["encoder"] in ("", "bundled")]
    return {row["head"]: row for row in reversed(rows)}  # the better of two ensembles


@pytest.mark.parametrize(
    ("column", "result"),
    [(0, "compare_pfam_bundled_aligned"), (1, "compare_function5000_bundled"), (2, "compare_cath_bundled_aligned")],
)
def test_the_advice_on_heads_is_what_was_measured(column: int, result: str) -> None:
    rows, kept = shown("which.md"), measured(result)
    for head in ("linear", "knn", "homology", "align", "ensemble"):
        told = rows["head", head][column]
        assert told == (f"{100 * kept[head]['metrics']['accuracy']['value']:.1f}" if head in kept else ""), head


@pytest.mark.parametrize(
    ("header", "result"),
    [("CATH", "compare_cath_bundled_aligned"), ("UniProt function", "compare_function5000_bundled")],
)
def test_the_advice_on_labels_is_what_was_measured(header: str, result: str) -> None:
    rows, kept = shown("which.md"), measured(result)
    told = {head: cells for (title, head), cells in rows.items() if title == header}
    assert len(told) == 4
    for head, cells in told.items():
        tiers = [tier["accuracy"] for tier in kept[head]["tiers"] if tier["n"]]
        assert cells == [f"{100 * accuracy:.1f}" for accuracy in tiers], head


def test_the_advice_on_few_labels_is_what_was_measured() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "labels_needed.json").read_text(encoding="utf-8"))["accuracy"]
    for head in ("linear", "knn"):
        means = [fmean(kept[f"bundled {head} {size}"]) for size in (1, 2, 4, 8, 100)]
        assert shown("which.md")["head, labels a class", head] == [f"{accuracy:.1f}" for accuracy in means]

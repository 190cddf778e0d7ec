"""The documentation runs: blocks of README and docs, docstring examples, help pages, links."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from command import done

import esmcls
import esmcls_cli
from esmcls_cli.main import esmcls as program

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRESS = re.compile(r"^esmcls: (?:[\d,]+ of [\d,]+ residues, .*|step [\d,]+ of .*)\n", re.MULTILINE)
"""Lines that a slow machine sees every half minute."""
FILE = re.compile(r"# ([\w./-]+/[\w.-]+)\n")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(?:#[^)]*)?\)")
MODULES = sorted(
    module.name
    for package in (esmcls, esmcls_cli)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line of the page that its text starts on."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The file that the block is to be, which a first line such as `# plugin/halves.py` names; or an empty text."""
        named = FILE.match(self.text)
        return named[1] if named else ""


def blocks(page: str) -> list[Block]:
    """Return a page's fenced blocks.

    The languages: `python` and `console` are executed; `sh` (installing) and `text` are not. A block whose first line
    names a file is written to that file instead.
    """
    return [Block(match[1], match[2], page.count("\n", 0, match.start(2)) + 1) for match in BLOCK.finditer(page)]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Take a console block apart into (command, expected output); a backslash at its end continues a command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"((?:.*\\\n)*.*)\n?([\s\S]*)", part)
        assert match is not None
        yield match[1], match[2]


def assert_alike(expected: str, got: str, where: str) -> None:
    """Compare output with what a page says; `...` stands for anything, blanks and line ends do not count."""
    __tracebackhide__ = True
    if not doctest.OutputChecker().check_output(expected or "\n", got or "\n", FLAGS):
        pytest.fail(f"{where}\nthe page says:\n{expected}\nbut it printed:\n{got}", pytrace=False)


def run_console(text: str, folder: Path, where: str) -> None:
    """Run a console block's commands as a shell would; a command that fails must say so in the page.

    Python is told not to buffer: what a command says and what it answers then come in the order that a terminal shows,
    whatever the surroundings of the tests say.
    """
    surroundings = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for command, expected in commands(text):
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = PROGRESS.sub("", ran.stdout)
        assert_alike(expected, said, f"{where}: {command}")
        assert (ran.returncode != 0) == ("error:" in expected), f"{where}: {command}: exit code {ran.returncode}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder to be in, with `data/` of the checkout in it."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_does_what_the_page_says(page: Path, folder: Path) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            run_console(block.text, folder, where)
        elif block.language == "python":
            run_python(block.text, namespace, where)


def run_python(text: str, namespace: dict[str, Any], where: str) -> None:
    """Run a Python block: as a session where it has prompts, else as a file."""
    if ">>> " not in text:
        exec(compile(text, where, "exec"), namespace)
        return
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(text, namespace, where, where, 0)
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    namespace.update(test.globs)
    assert not said, "".join(said)


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

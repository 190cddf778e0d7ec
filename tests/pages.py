"""The pages of the documentation: their blocks, and how a block is run. Shared by the tests that run them."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRESS = re.compile(r"^esmcls: (?:[\d,]+ of [\d,]+ residues, .*|step [\d,]+ of .*)\n", re.MULTILINE)
"""Lines that a slow machine sees every half minute."""
FILE = re.compile(r"# ([\w./-]+/[\w.-]+)\n")
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(?:#[^)]*)?\)")
RUN_APART = {
    "readme": {"README.md", "index.md", "quickstart.md"},
    "beginning": {"comparing.md", "tutorial.md"},
    "labels": {"annotate.md", "go-data.md", "go.md", "hierarchies.md", "many-labels.md"},
    "kinds": {"explain.md", "numbers.md", "residues.md", "scan.md", "strangers.md", "structure.md"},
}
"""Pages that a file of tests of their own runs (`test_docs_readme.py` ...), at the same time as others."""


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


def pages_of(name: str) -> list[Path]:
    """Return the pages that `test_docs_<name>.py` runs: those told above, or all others."""
    apart = set().union(*RUN_APART.values())
    return [page for page in PAGES if (page.name in RUN_APART[name] if name in RUN_APART else page.name not in apart)]


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


def run_console(text: str, folder: Path, where: str, surroundings: Mapping[str, str] = os.environ) -> None:
    """Run a console block's commands as a shell would; a command that fails must say so in the page."""
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


def run_page(page: Path, folder: Path, surroundings: Mapping[str, str]) -> None:
    """Run every block of a page, from top to bottom, in a folder that its blocks share."""
    namespace: dict[str, Any] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        if block.file:
            Path(folder, block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            run_console(block.text, folder, where, surroundings)
        elif block.language == "python":
            run_python(block.text, namespace, where)

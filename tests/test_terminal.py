"""On a terminal: colours where they are wanted, and tables that fit eighty columns; a pipe gets neither."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from command import done
from families import write_families
from kinds import TERMS, Kind

from esmcls.models.fit import fit_head
from esmcls_cli import colours
from esmcls_cli.main import main

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SWITCHES = ("NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM")


class Terminal(io.StringIO):
    """What is written to it is as on a terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def shown(*args: str | Path) -> tuple[int, str, str]:
    """Run a command on a terminal; return exit code, stdout and stderr."""
    out, err = Terminal(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(arg) for arg in args])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of families with a model that rejects, and new proteins, one of them a stranger."""
    folder = tmp_path_factory.mktemp("terminal")
    quiet = ("-w", folder / "w", "--quiet")
    done("embed", write_families(folder / "in.csv"), "--encoder", "composition", *quiet)
    fit = ("fit", "--head", "knn", "--set", "k", "1", "--hold-out-families", "100%", "--accept-known", "50%")
    done(*fit, *quiet)
    name = "an_id_that_is_much_longer_than_its_column"
    (folder / "new.fasta").write_text(
        f">{name} described\nMAAAAAAAAAAAAAAAAAAAALIVE\n>b\nMWWWWWWWWWWPPPPPPPPPPHHHHHHHHH\n"
    )
    return folder


@pytest.mark.parametrize(
    ("surroundings", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"CLICOLOR": "0"}, True, False),
        ({"CLICOLOR": "1"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_for_terminals_unless_the_surroundings_say_otherwise(
    monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], terminal: bool, wanted: bool
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert colours.wanted(Terminal() if terminal else io.StringIO()) == wanted
    assert colours.paint("x", "error", Terminal() if terminal else io.StringIO()) == (
        "\x1b[1;31mx\x1b[0m" if wanted else "x"
    )


def test_an_error_is_red_on_a_terminal_and_plain_in_a_pipe(tmp_path: Path) -> None:
    code, _, err = shown("heads", "linaer")
    assert (code, err.startswith("esmcls: \x1b[1;31merror:\x1b[0m unknown head 'linaer'")) == (2, True)


def test_answers_on_a_terminal_are_narrow_with_their_status_in_colour(home: Path) -> None:
    code, out, err = shown("predict", home / "new.fasta", "-w", home / "w")
    lines = COLOUR.sub("", out).splitlines()
    assert code == 0
    assert lines[0].split() == ["id", "rank", "label", "%", "status", "nearest_id"]
    assert lines[1].startswith("an_id_that_is_m…     1  ")
    assert max(map(len, lines)) <= 80
    assert re.search("\x1b\\[(32maccepted|1;31mrejected) *\x1b", out)
    assert "all of them with -o FILE" in err
    assert re.search("\x1b\\[(32maccepted|1;31mrejected)\x1b\\[0m", err)  # in the summary


def test_a_format_that_is_asked_for_is_whole_on_a_terminal_too(home: Path) -> None:
    words = ("predict", home / "new.fasta", "-w", home / "w", "--quiet")
    assert shown(*words, "--format", "tsv")[1] == done(*words).out
    assert not COLOUR.search(done(*words).out)


def test_the_best_row_of_a_comparison_is_in_colour(home: Path) -> None:
    words = ("compare", "--heads", "linear,knn", "--no-baselines", "-w", home / "w", "--quiet", "--name", "colours")
    plain = done(*words).out
    _, out, _ = shown(*words)
    assert COLOUR.sub("", out) == plain
    best = plain.splitlines()[1].split()[0]
    painted = [COLOUR.sub("", line).split()[0] for line in out.splitlines() if COLOUR.search(line)]
    assert painted == [best] * 2  # in the table of accuracy, and in that by members


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: Kind = TERMS
    workspace = kind.workspace(tmp_path_factory.mktemp("terms") / "w")
    fit_head(workspace, "knn", {"k": "3"})
    return workspace.folder


def test_tables_of_terms_fit_eighty_columns(terms: Path, home: Path) -> None:
    _, out, _ = shown("predict", home / "new.fasta", "-w", terms, "--quiet")
    lines = COLOUR.sub("", out).splitlines()
    assert lines[0].split() == ["id", "term", "aspect", "%", "predicted", "name"]
    assert max(map(len, lines)) <= 80
    assert max(map(len, done("evaluate", "-w", terms, "--quiet").out.splitlines())) <= 80
    compared = done("compare", "--heads", "knn,naive,ensemble", "-w", terms, "--quiet").out
    assert max(map(len, compared.splitlines()[:-1])) <= 80

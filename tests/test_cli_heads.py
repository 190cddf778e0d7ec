"""`esmcls heads`, and what helps on the command line: explained knobs, options in groups, completion, lines of logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from command import done, run

from esmcls.heads import cards, registry
from esmcls.heads.registry import GROUP, TERM_GROUP, AnyGroup, list_heads, load_head
from esmcls.heads.settings import knobs_of
from esmcls_cli import bar
from esmcls_cli.main import esmcls as program
from esmcls_cli.options import command_groups, names
from esmcls_cli.options import progress as progress_module

GROUPS: tuple[AnyGroup, ...] = (GROUP, TERM_GROUP)


def test_a_head_explains_each_of_its_knobs_in_eighty_columns() -> None:
    told = done("heads", "knn").out.splitlines()
    assert told[0] == "knn: Nearest neighbours among the training rows."
    place = told.index("--set k auto  (int, or auto)")
    assert told[place + 1] == "    Neighbours that vote."
    assert told[place + 2].startswith("    When to change: there is no validation part: ")
    assert max(map(len, told)) <= 80


def test_a_head_of_terms_explains_the_knobs_that_it_shares_with_others() -> None:
    told = done("heads", "linear", "--terms").out
    assert "--set warm_start True  (bool)\n    Begin at the closed-form ridge regression" in told
    [card] = json.loads(done("heads", "linear", "--terms", "--json").out)
    assert card["knobs"].keys() == card["explained"].keys()


@pytest.mark.parametrize(("group", "head"), [(group, head) for group in GROUPS for head in list_heads(group)])
def test_every_knob_says_what_it_does_what_it_may_be_and_when_to_change_it(group: AnyGroup, head: str) -> None:
    lacking = {
        (knob.name, part)
        for knob in knobs_of(load_head(head, group).Config)
        for part in ("values", "what", "when")
        if not getattr(knob, part).endswith("." if part != "values" else tuple("}intobrls"))
    }
    assert lacking == set()


def test_the_cards_of_the_built_in_heads_are_what_their_classes_say() -> None:
    """If not: `python -m esmcls.heads.cards`."""
    assert cards.built_in_cards() == cards.cards_of_classes()


def test_the_card_of_somebody_elses_head_is_read_off_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("linear", "esmcls.heads.neighbours.knn:KNNHead", GROUP)
    monkeypatch.setattr(cards, "OURS", "elsewhere.")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert cards.head_card("linear").what == "Nearest neighbours among the training rows."


def test_a_head_that_is_not_there_is_told() -> None:
    ran = run("heads", "linaer")
    assert (ran.code, ran.out) == (2, "")
    assert "unknown head 'linaer'; did you mean 'linear'" in ran.err


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give the words of each command, those of groups of commands too."""
    waiting: list[tuple[tuple[str, ...], click.Command]] = [((), program)]
    for words, command in waiting:
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            inner = ((name, command.get_command(context, name)) for name in command.list_commands(context))
            waiting += [((*words, name), found) for name, found in inner if found is not None]


COMMANDS = list(every_command())


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_a_help_page_has_eighty_columns_and_cuts_nothing_off(
    words: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = done(*words, "--help").out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    shown = " ".join(" ".join(lines).split())
    summaries = [inner.get_short_help_str(1000) for path, inner in COMMANDS if path and path[:-1] == words]
    assert [summary for summary in summaries if summary not in shown] == []
    assert bool(summaries) == isinstance(command, click.Group)


def test_names_of_heads_encoders_and_models_are_completed_wherever_one_is_asked_for() -> None:
    completing = {
        "encoder": names.complete_encoders,
        "encoders": names.complete_encoders,
        "head": names.complete_heads,
        "heads": names.complete_heads,
        "model": names.complete_models,
        "models": names.complete_models,
        "members": names.complete_models,
    }
    silent = {
        (*words, param.name)
        for words, command in COMMANDS
        for param in command.params
        if param.name in completing and param._custom_shell_complete is not completing[param.name]
    }
    of_a_model = ("evaluate", "explain", "fold", "predict", "scan")
    weights = {(command, "encoder") for command in of_a_model}  # a path
    assert silent == weights | {("pretrain", "heads"), ("fit-scan", "members")}  # numbers


def test_a_shell_asks_for_completions(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "esmcls fit --head li", "COMP_CWORD": "3", "_ESMCLS_COMPLETE": "bash_complete"}
    code = "import sys; sys.argv = ['esmcls']; from esmcls_cli.main import main; main()"
    shell = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shell.stdout.split() == ["plain,lightgbm", "plain,linear"]


@pytest.mark.parametrize("name", ["embed", "compare", "finetune"])
def test_options_stand_in_groups_the_common_ones_first_and_none_is_lost(name: str) -> None:
    told = done(name, "--help").out
    context = click.Context(program, info_name="esmcls")
    command = program.get_command(context, name)
    assert isinstance(command, command_groups.Grouped)
    known = {param.name for param in command.get_params(context)}
    grouped = [param for group in command.groups.values() for param in group]
    assert not set(grouped) - known
    assert len(grouped) == len(set(grouped))
    last = {"embed": "--chunks"}.get(name, "--hold-out-families")
    assert told.index("Common options:") < told.index("--device") < told.index(last)
    assert all(param.opts[-1] in told for param in command.params if isinstance(param, click.Option))


def test_names_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "esmcls-work" / "models" / "mine").mkdir(parents=True)
    (tmp_path / "esmcls-work" / "models" / "mine" / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    context, param = click.Context(program), click.Option(["--x"])
    assert names.complete_models(context, param, "m") == ["mine"]
    assert names.complete_heads(context, param, "knn,lin") == ["knn,linear"]
    assert names.complete_encoders(context, param, "bun") == ["bundled"]


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.0)
    with progress_module.progress(100) as advance:
        advance(40, 2)
        advance(60, 3)
    assert capsys.readouterr().err.splitlines() == [
        "esmcls: 40 of 100 residues, 2 sequences",
        "esmcls: 100 of 100 residues, 5 sequences",
    ]


def test_a_bar_of_the_library_is_lines_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.0)
    advance = bar()
    advance(4, 10)
    advance(10, 10)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["esmcls: 4 of 10 sequences", "esmcls: 10 of 10 sequences"]
    assert captured.out == ""


def test_lines_of_a_log_come_every_half_minute_and_no_sooner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert progress_module.LOG_SECONDS == 30
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    log = progress_module.LogLines()
    for second in range(100, 200, 10):
        now[0] = float(second)
        log.tell(lambda: f"at {now[0]:g}")
    assert capsys.readouterr().err.splitlines() == ["esmcls: at 130", "esmcls: at 160", "esmcls: at 190"]


def test_a_bar_of_the_library_is_a_bar_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class ZMQInteractiveShell:
        """As notebooks have it."""

    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    advance = bar()
    advance(4, 10)
    advance(10, 10)
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "esmcls: " not in shown

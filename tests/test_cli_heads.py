"""`esmcls heads`, and what helps on the command line: explained knobs, options in groups, completion, lines of logs."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from command import done, run

from esmcls_cli import options
from esmcls_cli.main import esmcls as program


def test_a_head_explains_each_of_its_knobs_in_eighty_columns() -> None:
    told = done("heads", "knn").out.splitlines()
    assert told[0] == "knn: Nearest neighbours among the training rows."
    place = told.index("--set k auto  (int, or auto)")
    assert told[place + 1] == "    Neighbours that vote."
    assert max(map(len, told)) <= 80


def test_a_head_of_terms_explains_the_knobs_that_it_shares_with_others() -> None:
    told = done("heads", "linear", "--terms").out
    assert "--set warm_start True  (bool)\n    Begin at the closed-form ridge regression" in told
    [card] = json.loads(done("heads", "linear", "--terms", "--json").out)
    assert card["knobs"].keys() == card["explained"].keys()


def test_a_head_that_is_not_there_is_told() -> None:
    ran = run("heads", "linaer")
    assert (ran.code, ran.out) == (2, "")
    assert "unknown head 'linaer'; did you mean 'linear'" in ran.err


def test_the_help_cuts_off_no_summary() -> None:
    told = " ".join(done("--help").out.split())
    assert "Give each sequence of INPUT its likeliest classes, or its Gene Ontology terms." in told


@pytest.mark.parametrize("name", ["compare", "finetune"])
def test_options_stand_in_groups_the_common_ones_first_and_none_is_lost(name: str) -> None:
    told = done(name, "--help").out
    context = click.Context(program, info_name="esmcls")
    command = program.get_command(context, name)
    assert isinstance(command, options.Grouped)
    known = {param.name for param in command.get_params(context)}
    assert not {one for group in command.groups.values() for one in group} - known
    assert told.index("Common options:") < told.index("--device") < told.index("--hold-out-families")
    assert all(f"{param.opts[-1]}" in told for param in command.get_params(context))


def test_names_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "esmcls-work" / "models" / "mine").mkdir(parents=True)
    (tmp_path / "esmcls-work" / "models" / "mine" / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    context, param = click.Context(program), click.Option(["--x"])
    assert options.complete_models(context, param, "m") == ["mine"]
    assert options.complete_heads(context, param, "knn,lin") == ["knn,linear"]
    assert options.complete_encoders(context, param, "bun") == ["bundled"]


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "LOG_SECONDS", 0.0)
    with options.progress(100) as advance:
        advance(40, 2)
        advance(60, 3)
    assert capsys.readouterr().err.splitlines() == [
        "esmcls: 40 of 100 residues, 2 sequences",
        "esmcls: 100 of 100 residues, 5 sequences",
    ]

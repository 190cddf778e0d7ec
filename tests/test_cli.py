"""The commands from the first to the last: what they print and what they leave, compared whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from command import done, run
from families import rows, write_families, write_unknown

from esmcls.heads.layers.linear import LinearHead
from esmcls.workspace.workspace import Workspace
from esmcls_cli.main import COMMANDS, esmcls


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with families.csv, unknown.fasta and a workspace `w` with two models."""
    folder = tmp_path_factory.mktemp("home")
    families = write_families(folder / "families.csv")
    write_unknown(folder / "unknown.fasta")
    done("embed", families, "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "knn", "-w", folder / "w")
    done("fit", "--head", "linear", "--set", "epochs", "2", "-w", folder / "w")
    return folder


def cache_folder(workspace: Path) -> Path:
    [entry] = Workspace.open(workspace).caches
    return entry.folder


# help


def test_the_help_page_lists_the_commands_in_the_order_of_the_work() -> None:
    lines = done("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines if line[2:3].strip()] == list(COMMANDS)


def test_no_argument_at_all_shows_the_help_page() -> None:
    assert done().out == done("--help").out


def test_the_version_is_told() -> None:
    assert done("--version").out == "esmcls 0.2.0\n"


def every_command() -> list[tuple[str, ...]]:
    group = esmcls.get_command(click.Context(esmcls), "cache")
    assert isinstance(group, click.Group)
    return [(name,) for name in COMMANDS] + [("cache", name) for name in group.list_commands(click.Context(group))]


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_and_option_says_what_it_is_for(words: tuple[str, ...]) -> None:
    command: click.Command = esmcls
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    assert command.get_short_help_str(200)
    silent = [
        one.opts
        for one in command.params
        if isinstance(one, click.Option) and not (one.help or one.type.name == "choice")
    ]
    assert silent == []
    assert f"Usage: esmcls {' '.join(words)}" in done(*words, "--help").out


# embed


def test_embedding_a_labelled_set_makes_it_the_dataset(tmp_path: Path) -> None:
    families = write_families(tmp_path / "families.csv")
    ran = done("embed", families, "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.out == "30 sequences, 30 distinct: 30 embedded, 0 were cached\n"
    assert ran.err.splitlines() == [
        "esmcls: 30 records read",
        f"esmcls: {families}: id from 'id', sequence from 'sequence', label from 'label', part from 'split'",
        "esmcls: dataset: 3 classes; records: 18 train, 6 validation, 6 test",
    ]
    dataset = Workspace.open(tmp_path / "w").dataset
    columns = zip(dataset.ids, dataset.sequences, dataset.labels, dataset.parts, strict=True)
    assert list(columns) == rows()


def test_embedding_without_input_takes_the_remembered_dataset_and_embeds_nothing_twice(home: Path) -> None:
    ran = done("embed", "--encoder", "composition", "-w", home / "w")
    assert ran.out == "30 sequences, 30 distinct: 0 embedded, 30 were cached\n"
    assert ran.err == f"esmcls: no INPUT: the dataset of {home / 'w'} again\n"


def test_embedding_without_input_in_a_fresh_workspace_takes_the_demo_set(tmp_path: Path) -> None:
    ran = done("embed", "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.err.startswith("esmcls: no INPUT and a fresh workspace: the demo set\n")
    assert len(set(Workspace.open(tmp_path / "w").dataset.labels)) >= 60


def test_an_unlabelled_input_is_only_cached(tmp_path: Path) -> None:
    unknown = write_unknown(tmp_path / "unknown.fasta")
    ran = done("embed", unknown, "--encoder", "composition", "-w", tmp_path / "w")
    assert ran.out == "3 sequences, 2 distinct: 2 embedded, 0 were cached\n"
    assert ran.err.splitlines() == [
        "esmcls: 3 records read",
        f"esmcls: no labels in {unknown}: the vectors are kept, but there is no dataset to fit on; "
        "give them with --labels TABLE",
    ]
    assert not Workspace.open(tmp_path / "w").has_dataset


def test_given_parts_are_read_and_leaks_are_told(tmp_path: Path) -> None:
    for name, text in {
        "one.csv": "id,sequence,label\na,MAAAA,x\nb,MCCCC,y\nc,MCCCD,y\nd,MAAAC,x\n",
        "two.csv": "id,sequence,label\ne,MAAAA,x\n",
        "three.csv": "id,sequence,label\nf,MCCDD,y\n",
    }.items():
        (tmp_path / name).write_text(text)
    ran = done(
        *("embed", tmp_path / "one.csv", "--validation", tmp_path / "two.csv", "--test", tmp_path / "three.csv"),
        *("--encoder", "composition", "-w", tmp_path / "w"),
    )
    assert ran.err.splitlines() == [
        "esmcls: 6 records read",
        "esmcls: 3 files read:",
        f"esmcls:   {tmp_path / 'one.csv'}: 4 records",
        f"esmcls:   {tmp_path / 'two.csv'}: 1 record",
        f"esmcls:   {tmp_path / 'three.csv'}: 1 record",
        f"esmcls: {tmp_path / 'one.csv'} and 2 more: id from 'id', sequence from 'sequence', label from 'label'",
        "esmcls: dataset: 2 classes; records: 3 train, 1 validation, 1 test",
        "esmcls: 4 records without a part beside others with one: taken as train",
        "esmcls: 1 record left out because another part holds an equal sequence:",
        "esmcls:   a: left train, stays in validation",
    ]
    assert Workspace.open(tmp_path / "w").dataset.parts == ["train", "train", "train", "validation", "test"]


def test_a_record_left_out_is_listed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bad.fasta"
    path.write_text(">a\nMJJ\n>b\nM1\n")
    ran = run("embed", path, "--encoder", "composition", "--on-bad-record", "skip", "-w", tmp_path / "w")
    assert ran.code == 3
    assert ran.err.splitlines() == [
        "esmcls: 1 record read",
        "esmcls: 2 residues J read as X",
        "esmcls: 1 record left out:",
        f"esmcls:   {path}:4:2: record 'b': sign '1', which is no amino acid",
        f"esmcls: no labels in {path}: the vectors are kept, but there is no dataset to fit on; "
        "give them with --labels TABLE",
    ]


def test_quiet_leaves_stderr_empty(home: Path, tmp_path: Path) -> None:
    ran = done("embed", home / "families.csv", "--encoder", "composition", "-q", "-w", tmp_path / "w")
    assert ran.err == ""


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    ran = done("embed", home / "families.csv", "--encoder", "composition", "--dry-run", "-w", tmp_path / "w")
    first, second, third = ran.out.splitlines()
    assert first == "30 distinct sequences: 0 cached, 30 to embed"
    assert second.startswith("915 residues, 2.9 kB on disk, about ")
    assert third == "nothing was written (--dry-run)"
    assert list(tmp_path.iterdir()) == []


def test_shards_together_are_the_whole(home: Path, tmp_path: Path) -> None:
    told = [
        done("embed", home / "families.csv", "--encoder", "composition", "--shard", shard, "-w", tmp_path / "w").out
        for shard in ("1/2", "2/2")
    ]
    counts = [int(line.split(": ")[1].split()[0]) for line in told]
    assert sum(counts) == 30
    assert 0 < counts[0] < 30


# fit, evaluate


def test_fitting_tells_what_the_model_reached_on_validation(home: Path) -> None:
    ran = done("fit", "--head", "knn", "--set", "k", "1", "--name", "one", "-w", home / "w")
    assert ran.out.startswith(
        f"{home / 'w' / 'models' / 'one'}: knn, 3 classes, 18 sequences; on validation: accuracy 1"
    )
    assert ran.err == "esmcls: next: esmcls evaluate, or esmcls predict FASTA\n"
    manifest = json.loads((home / "w" / "models" / "one" / "manifest.json").read_text())
    assert manifest["config"]["k"] == 1


def test_fitting_trees_tells_how_long_it_takes_before_and_how_they_are_grown_after(home: Path) -> None:
    ran = done("fit", "--head", "lightgbm", "--set", "rounds", "2", "-w", home / "w")
    assert "esmcls: lightgbm: about " in ran.err
    assert "one tree a class and round" in ran.out.splitlines()[1]


TABLE = """\
model knn
6 proteins of 3 classes

                      percent  95 % interval
accuracy               100.00  100.00 – 100.00
top-3 accuracy         100.00  100.00 – 100.00
top-5 accuracy         100.00  100.00 – 100.00
top-10 accuracy        100.00  100.00 – 100.00
macro precision        100.00  100.00 – 100.00
macro recall           100.00  100.00 – 100.00
macro F1               100.00  100.00 – 100.00
weighted precision     100.00  100.00 – 100.00
weighted recall        100.00  100.00 – 100.00
weighted F1            100.00  100.00 – 100.00

training members      percent  proteins
<5                          –         0
5-19                   100.00         6
20-99                       –         0
≥100                        –         0
"""


def test_evaluation_prints_the_table_of_the_test_part(home: Path) -> None:
    ran = done("evaluate", "--model", "knn", "-w", home / "w")
    assert ran.out == TABLE
    assert ran.err == f"esmcls: written: {home / 'w' / 'reports' / 'evaluate-knn' / 'report.html'}\n"


def test_an_evaluation_writes_the_same_bytes_twice(home: Path) -> None:
    path = home / "w" / "reports" / "evaluate-linear" / "metrics.json"
    done("evaluate", "--model", "linear", "-w", home / "w")
    first = path.read_bytes()
    done("evaluate", "--model", "linear", "-w", home / "w")
    assert path.read_bytes() == first
    told = json.loads(first)
    assert (told["model"], told["on"], told["n"], told["metrics"]["accuracy"]["value"]) == (
        "linear",
        "test part",
        6,
        1.0,
    )


def test_evaluation_of_an_input_with_labels_has_its_own_report(home: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text("x\talanine-rich\ny\tglycine-rich\n")
    given = tmp_path / "two.fasta"
    given.write_text(">x\nMAAAAAAAAAAAAAAAAAAAAAAALIVE\n>y\nMKKKKKKKKKKKKKKKKKKKKKKLIVE\n")
    ran = done("evaluate", given, "--labels", labels, "--model", "knn", "-w", home / "w")
    assert ran.out.splitlines()[1] == "2 proteins of 2 classes"
    report = home / "w" / "reports" / "evaluate-knn-two.fasta" / "metrics.json"
    assert json.loads(report.read_text())["metrics"]["accuracy"]["value"] == 0.5


# predict

ANSWERS = [("new", "alanine-rich"), ("other", "lysine-rich"), ("new", "alanine-rich")]


def test_prediction_answers_every_record_in_input_order(home: Path) -> None:
    ran = done("predict", home / "unknown.fasta", "--model", "linear", "-w", home / "w")
    header, *answers = [line.split("\t") for line in ran.out.splitlines()]
    names = ["id", "rank", "label", "probability", "distance", "nearest_id", "status", "set"]
    assert header == [*names, "note", "model", "confidence", "nearest_label", "description"]
    assert [(name, label) for name, _, label, *_ in answers] == ANSWERS
    assert ran.err == "esmcls: 3 records read\nesmcls: model linear: 3 records: 3 answered, 3 with another note\n"


def test_prediction_with_a_nearest_neighbour_names_it(home: Path) -> None:
    ran = done("predict", home / "unknown.fasta", "--model", "knn", "-w", home / "w")
    _, first, *_ = [line.split("\t") for line in ran.out.splitlines()]
    assert float(first[4]) >= 0
    assert first[5].startswith("A")


def test_prediction_writes_json_lines_of_the_k_best(home: Path) -> None:
    ran = done(
        *("predict", home / "unknown.fasta", "--top-k", "2", "--format", "jsonl"),
        *("--model", "linear", "-w", home / "w"),
    )
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert [one["rank"] for one in told] == [1, 2, 1, 2, 1, 2]
    assert [(one["id"], one["label"]) for one in told[::2]] == ANSWERS


def test_prediction_takes_the_best_model_unless_told_otherwise(home: Path) -> None:
    best = Workspace.open(home / "w").best_model().name
    assert f"model {best}:" in done("predict", home / "unknown.fasta", "-w", home / "w").err


def test_prediction_needs_no_workspace_for_a_model_folder(home: Path, tmp_path: Path) -> None:
    named = done("predict", home / "unknown.fasta", "--model", "knn", "-w", home / "w")
    folder = done(
        "predict", home / "unknown.fasta", "--model", home / "w" / "models" / "knn", "-w", tmp_path / "nothing"
    )
    assert folder.out == named.out


def test_prediction_writes_the_same_to_a_file_as_to_stdout(home: Path, tmp_path: Path) -> None:
    printed = done("predict", home / "unknown.fasta", "-w", home / "w").out
    ran = done("predict", home / "unknown.fasta", "-o", tmp_path / "out.tsv", "-w", home / "w")
    assert ran.out == ""
    assert (tmp_path / "out.tsv").read_text() == printed


def test_a_file_of_predictions_is_what_its_name_ends_in(home: Path, tmp_path: Path) -> None:
    for name, begins in (
        ("a.csv", b"id,rank,label,"),
        ("a.xlsx", b"PK"),
        ("a.jsonl", b'{"id": '),
        ("a", b"id\trank\t"),
    ):
        done("predict", home / "unknown.fasta", "-o", tmp_path / name, "-w", home / "w")
        assert (tmp_path / name).read_bytes().startswith(begins)
    ran = run("predict", home / "unknown.fasta", "--format", "xlsx", "-w", home / "w")
    assert (ran.code, ran.err) == (2, "esmcls: error: --format xlsx writes a file; name it with -o FILE\n")


@pytest.mark.parametrize("name", ["answers.csv.gz", "answers.xls", "answers.json"])
def test_a_name_that_promises_another_format_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    ran = run("predict", home / "unknown.fasta", "-w", home / "w", "-o", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    assert "answers are written as .tsv, .csv, .xlsx or .jsonl; end the name in one of these" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_told_before_a_model_is_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("esmcls.models.predict.load_model", never)
    for command in ("predict", "evaluate"):
        ran = run(command, home / "nothing.fasta", "-w", home / "w")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.endswith("nothing.fasta: no such file or folder; check the name\n")


def test_the_model_that_is_taken_by_default_is_said_even_where_quiet_is_asked_for(home: Path) -> None:
    ran = done("predict", home / "unknown.fasta", "-w", home / "w", "--quiet")
    best = Workspace.open(home / "w").best_model().name
    assert ran.err.startswith(f"esmcls: model {best}, the best of ")
    assert {line.split("\t")[9] for line in ran.out.splitlines()[1:]} == {best}


def test_a_file_of_predictions_appears_only_when_it_is_whole(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.fasta"
    broken.write_text(">a\nMAAAA\n>b\nM1\n")
    assert run("predict", broken, "-o", tmp_path / "out.tsv", "-w", home / "w").code == 1
    assert list(tmp_path.iterdir()) == [broken]


def test_prediction_leaves_out_what_it_is_told_to_skip(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.fasta"
    broken.write_text(">a\nMAAAA\n>b\nM1\n>c\nMKKKK\n")
    ran = run("predict", broken, "--on-bad-record", "skip", "-w", home / "w")
    assert ran.code == 3
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == ["id", "a", "c"]


def test_a_reader_that_has_enough_ends_prediction_quietly(home: Path) -> None:
    many = home / "many.fasta"
    many.write_text("".join(f">p{number}\nM{'AGK'[number % 3] * (number % 50 + 5)}\n" for number in range(20000)))
    command = [sys.executable, "-m", "esmcls_cli.main", "predict", many, "--model", "linear", "-w", home / "w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("id\trank")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


# what is there


def test_a_workspace_tells_what_it_holds(home: Path) -> None:
    lines = done("info", "-w", home / "w").out.splitlines()
    assert lines[:5] == [
        f"workspace {home / 'w'}",
        "dataset: 30 records, 30 sequences, 3 classes",
        "task: one-label",
        "split: given (seed 0): 18 train, 6 validation, 6 test",
        f"cache: composition, 25 numbers as float16, mean, long full, fp32 in {cache_folder(home / 'w')}",
    ]
    assert sum(line.endswith("(best)") for line in lines) == 1


def test_a_model_tells_what_it_was_fitted_on(home: Path) -> None:
    lines = done("info", home / "w" / "models" / "linear").out.splitlines()
    assert lines[0] == f"model {home / 'w' / 'models' / 'linear'}"
    assert lines[1].startswith("head: linear, ")
    assert "epochs 2" in lines[1]
    assert lines[3:5] == [
        "fitted on: 18 sequences of 3 classes, seed 0",
        "validation: accuracy 100 %, macro F1 100 %, n = 6",
    ]


def test_a_cache_tells_what_it_holds(home: Path) -> None:
    folder = cache_folder(home / "w")
    assert done("info", folder).out == done("cache", "info", "-w", home / "w").out
    assert "sequences: 30; segments: 1; bytes: " in done("info", folder).out


def test_heads_are_listed_with_every_knob_and_its_default() -> None:
    lines = done("heads").out.splitlines()
    assert "knn: Nearest neighbours among the training rows." in lines
    default = LinearHead.Config()
    assert f"  --set epochs {default.epochs}" in lines
    assert "  --set ridge auto" in lines
    cards = {card["name"]: card for card in json.loads(done("heads", "--json").out)}
    assert cards["linear"]["knobs"]["epochs"] == default.epochs


def test_encoders_are_listed_with_where_their_weights_come_from() -> None:
    header, *lines = done("encoders").out.splitlines()
    columns = ["encoder", "family", "layers", "width", "parameters", "bytes", "licence", "present", "weights"]
    assert header.split() == columns
    assert [line.split()[0] for line in lines][:2] == ["bundled", "esm2_t6_8M_UR50D"]
    cards = {card["name"]: card for card in json.loads(done("encoders", "--json").out)}
    assert cards["composition"]["width"] == 25
    assert cards["Rostlab/ProstT5"]["licence"] == "MIT"


# the cache, in and out


def test_a_sound_cache_is_verified_with_a_sample_embedded_again(home: Path) -> None:
    told = done("cache", "verify", "--sample", "5", "-w", home / "w").out
    assert told.startswith(f"{cache_folder(home / 'w')}: sound; 30 sequences, segments: 1, ")
    assert "; 5 embedded again, off by at most " in told


def test_caches_are_merged_and_compacted(home: Path, tmp_path: Path) -> None:
    unknown = home / "unknown.fasta"
    done("embed", unknown, "--encoder", "composition", "-w", tmp_path / "w")
    told = done("cache", "merge", home / "w", "-w", tmp_path / "w").out
    assert told == f"{cache_folder(home / 'w')}: 30 sequences taken over into {cache_folder(tmp_path / 'w')}\n"
    told = done("cache", "compact", "-w", tmp_path / "w").out
    assert told.startswith(f"{cache_folder(tmp_path / 'w')}: 2 segments before, 1 now; ")
    assert "sequences: 32; " in done("cache", "info", "-w", tmp_path / "w").out


@pytest.mark.parametrize("format", ["npz", "h5"])
def test_exported_embeddings_come_back_by_import_and_can_be_fitted_on(home: Path, tmp_path: Path, format: str) -> None:
    file = tmp_path / f"vectors.{format}"
    assert done("export", "--format", format, "-o", file, "-w", home / "w").out == f"{file}: 30 vectors\n"
    ran = done("import", file, "--sequences", home / "families.csv", "-w", tmp_path / "w")
    assert ran.out == "30 vectors imported\n"
    done("fit", "--head", "knn", "-w", tmp_path / "w")
    assert done("evaluate", "-w", tmp_path / "w").out == TABLE


def test_the_vectors_of_an_input_are_exported_in_its_order(home: Path, tmp_path: Path) -> None:
    import polars as pl

    done("embed", home / "unknown.fasta", "--encoder", "composition", "-w", home / "w")
    ran = done("export", home / "unknown.fasta", "--format", "parquet", "-o", tmp_path / "v.parquet", "-w", home / "w")
    assert ran.out == f"{tmp_path / 'v.parquet'}: 3 vectors\n"
    assert pl.read_parquet((tmp_path / "v.parquet").read_bytes())["id"].to_list() == ["new", "other", "new"]

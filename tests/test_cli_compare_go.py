"""`esmcls compare` on Gene Ontology terms as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import done, run
from ontologies import write_cafa, write_obo

HEADS = ("--heads", "naive,knn,linear,ensemble", "--no-baselines", "--set", "linear", "epochs", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("go")
    train, test, table = write_cafa(folder)
    obo = write_obo(folder / "go.obo")
    done("embed", train, "--test", test, "--labels", table, "--obo", obo, "--encoder", "composition", "-w", folder)
    return folder


def test_a_comparison_prints_tables_leaves_models_and_is_the_same_bytes_again(home: Path) -> None:
    first = done("compare", *HEADS, "-w", home)
    assert "biological process (P)" in first.out.splitlines()
    report = home / "reports" / "compare"
    told = json.loads((report / "report.json").read_text())
    assert {row["name"] for row in told["rows"]} == {"naive", "knn", "linear", "ensemble"}
    assert {path.name for path in (home / "models").iterdir()} == {"naive", "knn", "linear", "ensemble"}
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    again = done("compare", *HEADS, "-w", home)
    assert again.out == first.out
    assert "fitting" not in again.err
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before
    scores = done("predict", home / "test_sequences.fasta", "--model", "ensemble", "--format", "cafa", "-w", home).out
    assert scores.startswith("A8\tGO:")


TERMS = "gives Gene Ontology terms, any number a protein"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hold-out-families", "10%"), "which {terms}: a protein has no one family to hold out"),
        (("--false-acceptance", "10%"), "which {terms}: no families are held out"),
        (("--names", "names.tsv"), "which {terms}: their names are the ontology's"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_option_for_one_label_is_one_line(words: tuple[str, ...], message: str, home: Path) -> None:
    ran = run("compare", *words, "-w", home)
    told = f"{words[0]} is not for {home}, {message.format(terms=TERMS)}"
    assert (ran.code, ran.out, ran.err) == (2, "", f"esmcls: error: {told}\n")


@pytest.mark.parametrize("option", ["--refit", "--no-refit"])
def test_no_model_of_a_comparison_is_fitted_on_validation_proteins(option: str, home: Path) -> None:
    ran = run("compare", option, "-w", home)
    found = "validation rows weigh the members of the ensembles, so no model of a comparison is fitted on them"
    told = f"esmcls: error: --refit is not for Gene Ontology terms: {found}\n"
    assert (ran.code, ran.out, ran.err) == (2, "", told)


def test_the_ensemble_takes_no_knobs(home: Path) -> None:
    ran = run("compare", "--set", "ensemble", "members", "knn", "-w", home)
    found = "fitted models of terms are combined as they are; esmcls fit --head ensemble without --of takes knobs"
    assert (ran.code, ran.out, ran.err) == (2, "", f"esmcls: error: --set of an ensemble: {found}\n")


def test_folds_measure_each_protein_of_train_and_validation_once_and_can_be_run_again(home: Path) -> None:
    words = ("compare", *HEADS, "--folds", "3", "-w", home)
    first = done(*words)
    report = home / "reports" / "compare"
    told = json.loads((report / "report.json").read_text())
    assert told["settings"]["folds"] == 3
    assert first.err.splitlines()[-1].startswith("esmcls: next: esmcls fit --head ")
    assert {row["name"] for row in told["rows"]} == {"naive", "knn", "linear", "ensemble"}
    for row in told["rows"]:
        assert len(row["folds"]) == 3
        assert row["aspects"]["F"]["proteins"] == 24  # every protein binds
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    again = done(*words)
    assert again.out == first.out
    assert "fitting" not in again.err
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_an_ensemble_of_fitted_models_predicts_like_any_other(home: Path) -> None:
    for name, k in (("one", "1"), ("three", "3")):
        done("fit", "--head", "knn", "--set", "k", k, "--name", name, "--no-refit", "-w", home)
    words = ("fit", "--head", "ensemble", "--of", "one", "--of", "three", "--name", "both", "-w", home)
    told = done(*words).out.splitlines()
    assert told[0].startswith(f"{home / 'models' / 'both'}: ensemble, 7 classes, ")
    assert told[-1].startswith("thresholds from ")
    scores = done("predict", home / "test_sequences.fasta", "--model", "both", "--format", "cafa", "-w", home).out
    assert scores.startswith("A8\tGO:")
    assert "ensemble" in done("info", home / "models" / "both").out

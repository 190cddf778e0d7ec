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


@pytest.mark.parametrize(
    ("words", "option", "instead"),
    [
        (("--folds", "3"), "--folds", "leave it out"),
        (("--calibration", "10%"), "--calibration", "leave it out"),
        (("--hold-out-families", "10%"), "--hold-out-families", "leave it out"),
        (("--coverage", ".95"), "--coverage", "leave it out"),
        (("--names", "names.tsv"), "--names", "leave it out"),
        (
            ("--refit",),
            "--refit/--no-refit",
            "leave it out: validation proteins weigh the ensembles, so no model is fitted on them",
        ),
    ],
)
def test_an_option_for_one_label_is_one_line(words: tuple[str, ...], option: str, instead: str, home: Path) -> None:
    ran = run("compare", *words, "-w", home)
    found = (
        f"{option} is for one label a protein, but {home} holds Gene Ontology terms, any number a protein; {instead}"
    )
    assert (ran.code, ran.out, ran.err) == (2, "", f"esmcls: error: {found}\n")


def test_the_ensemble_takes_no_knobs(home: Path) -> None:
    ran = run("compare", "--set", "ensemble", "members", "knn", "-w", home)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("esmcls: error: --set ensemble: in a comparison, it is of all models; ")

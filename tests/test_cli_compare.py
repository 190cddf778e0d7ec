"""`esmcls compare`, ensembles, sets and rejection as a user meets them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from command import done, run
from relatives import relatives

FAMILIES = 8
PARTS = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight families of 20, embedded by composition, and a FASTA file of three that nobody has labelled."""
    folder = tmp_path_factory.mktemp("compare")
    codes = [family for family in range(FAMILIES) for _ in range(20)]
    rows = zip(relatives(codes, 0, mutated=0.5), codes, PARTS * FAMILIES, strict=True)
    lines = [f"p{n},{sequence},PF{code},{part}" for n, (sequence, code, part) in enumerate(rows)]
    (folder / "families.csv").write_text("id,sequence,label,split\n" + "\n".join(lines) + "\n")
    new = relatives([0, 1, 2], 5, mutated=0.5)
    (folder / "new.fasta").write_text("".join(f">new{n}\n{sequence}\n" for n, sequence in enumerate(new)))
    done("embed", folder / "families.csv", "--encoder", "composition", "-w", folder / "w")
    return folder


@pytest.fixture(scope="module")
def compared(home: Path) -> str:
    return done("compare", "--heads", "linear,knn,ensemble", "-w", home / "w").out


@pytest.fixture
def mine(home: Path, tmp_path: Path) -> Path:
    """A workspace of the same proteins, without models."""
    done("embed", home / "families.csv", "--encoder", "composition", "-w", tmp_path / "w")
    return tmp_path / "w"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_a_comparison_prints_a_table_and_leaves_a_report_and_the_models(home: Path, compared: str) -> None:
    for name in ("linear", "knn", "ensemble", "linear-kmer", "majority"):
        assert name in compared
    report = home / "w" / "reports" / "compare"
    told = json.loads((report / "report.json").read_text())
    assert [row["name"] for row in told["rows"]][-1] == "majority"
    assert (report / "report.html").read_text().count("<svg") >= 5
    assert {path.name for path in (home / "w" / "models").iterdir()} >= {"linear", "knn", "ensemble"}


def test_the_same_comparison_again_fits_nothing_and_writes_the_same_bytes(home: Path, compared: str) -> None:
    report = home / "w" / "reports" / "compare"
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    again = done("compare", "--heads", "linear,knn,ensemble", "-w", home / "w")
    assert again.out == compared
    assert "fitting" not in again.err
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_a_slip_in_a_knob_is_told_before_anything_is_fitted_and_the_last_report_stays(
    home: Path, compared: str
) -> None:
    report = home / "w" / "reports" / "compare" / "report.json"
    before = report.read_bytes()
    ran = run("compare", "--heads", "linear,knn", "--set", "linear", "epochs", "abc", "-w", home / "w")
    assert ran.code == 2
    assert "linear: setting epochs: 'abc' is not a whole number" in ran.err
    assert "fitting" not in ran.err
    assert report.read_bytes() == before


def test_what_is_left_out_is_said_first_and_in_the_exit_code(mine: Path) -> None:
    ran = run("compare", "--heads", "knn,ensemble", "--no-baselines", "-w", mine)
    assert ran.code == 3
    reason = "combines two models or more, and knn alone was fitted"
    assert ran.out.startswith(f"left out: ensemble: {reason}\n\nmodel ")
    page = (mine / "reports" / "compare" / "report.html").read_text()
    assert page.index(reason) < page.index("<h2>What was compared</h2>")


def test_the_report_and_predict_agree_on_the_model_and_say_it(home: Path, mine: Path) -> None:
    out = done("compare", "--heads", "linear,knn,ensemble", "--no-baselines", "-w", mine, "--quiet").out
    chosen = json.loads((mine / "reports" / "compare" / "report.json").read_text())["chosen"]
    assert out.splitlines()[-1] == f"chosen on validation: {chosen}, which predict takes by default"
    ran = done("predict", home / "new.fasta", "-w", mine, "--quiet")
    assert f"esmcls: model {chosen}, the best of 3 on validation (" in ran.err
    assert {row["model"] for row in table(ran.out)} == {chosen}
    alone = ("--heads", "linear", "--hold-out-families", "25%", "--no-baselines", "--name", "open")
    out = done("compare", *alone, "-w", mine).out
    assert f"chosen on validation: linear-open; predict takes it with --model linear-open, by default {chosen}" in out
    assert {row["model"] for row in table(done("predict", home / "new.fasta", "-w", mine).out)} == {chosen}


def test_names_of_families_stand_beside_their_accessions(home: Path, compared: str, tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    names.write_text("".join(f"PF{n}\tprotein of kind {n}\n" for n in range(FAMILIES)))
    done("compare", "--heads", "linear,knn,ensemble", "--no-baselines", "--names", names, "-w", home / "w")
    assert "protein of kind" in (home / "w" / "reports" / "compare" / "report.html").read_text()


def test_a_table_of_names_without_a_second_column_is_named_by_its_line(home: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    names.write_text("PF0\tone\nPF1\n")
    ran = run("compare", "--heads", "knn", "--names", names, "-w", home / "w")
    assert ran.code == 1
    assert f"{names}:2: record 'PF1': no second column; give the class and its name, tab-separated" in ran.err


def test_a_careful_model_tells_sets_and_whom_it_does_not_know(home: Path) -> None:
    options = ("--calibration", "25%", "--hold-out-families", "0.5", "--false-acceptance", "20%")
    told = done("fit", "--head", "knn", "--name", "careful", *options, "-w", home / "w").out.splitlines()
    assert told[1].startswith("24 calibration rows; sets of 95 % from half of them hold ")
    assert told[2].startswith("4 families strangers once each, in 4 folds: at most 20 % of strangers accepted, by ")
    assert told[3].startswith("known accepted: ")
    assert told[4].startswith("strangers accepted: ")
    rows = table(done("predict", home / "new.fasta", "--model", "careful", "--coverage", ".8", "-w", home / "w").out)
    assert {row["status"] for row in rows} <= {"accepted", "rejected"}
    assert all(row["label"] in row["set"].split("|") for row in rows)
    told = done("evaluate", "--model", "careful", "-w", home / "w").out.splitlines()
    assert told[1] == "32 proteins of 8 classes"
    assert told[-2].startswith("strangers, when the model was fitted: ")
    assert told[-1].startswith("32 proteins of known families: ")
    metrics = json.loads((home / "w" / "reports" / "evaluate-careful" / "metrics.json").read_text())
    assert metrics["strangers"]["known"] == 32


def test_a_line_alone_holds_all_families_out_once(home: Path) -> None:
    told = done("fit", "--head", "knn", "--name", "sure", "--accept-known", "95%", "-w", home / "w").out.splitlines()
    assert told[1].startswith("8 families strangers once each, in 5 folds: at least 95 % of known accepted, by ")


def test_families_that_a_comparison_takes_away_are_back_with_a_fit(home: Path) -> None:
    options = ("--heads", "knn", "--hold-out-families", "50%", "--no-baselines", "-w", home / "w")
    ran = done("compare", *options)
    assert "these models lack the families taken away; next: fit the head to use on all of them" in ran.err
    assert "esmcls fit --head knn --hold-out-families 50%" in ran.err
    assert ": knn, 8 classes" in done("fit", "--head", "knn", "-w", home / "w").out


def test_an_ensemble_of_fitted_models_predicts_like_any_other(home: Path, compared: str, tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("two", "2")):
        done("fit", "--head", "linear", "--name", name, "--seed", seed, "-w", home / "w")
    away = Path(shutil.copytree(home / "w" / "models" / "two", tmp_path / "a,b" / "far"))
    members = ("--of", "one,knn", "--of", away)  # names with commas between, and a folder with one in its path
    told = done("fit", "--head", "ensemble", *members, "--name", "three", "-w", home / "w")
    shutil.copytree(away, tmp_path / "c,d")
    refused = run("fit", "--head", "ensemble", "--of", "one", "--of", tmp_path / "c,d", "-w", home / "w")
    assert refused.code == 2
    assert "model 'c,d': a comma in the name of its folder" in refused.err
    assert f"{home / 'w' / 'models' / 'three'}: ensemble, 8 classes, 96 sequences" in told.out
    rows = table(done("predict", home / "new.fasta", "--model", "three", "-w", home / "w").out)
    assert [row["id"] for row in rows] == ["new0", "new1", "new2"]
    assert {row["label"] for row in rows} <= {f"PF{n}" for n in range(FAMILIES)}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("fit", "--of", "knn", "--of", "linear"), 2, "--of is for --head ensemble, not for linear"),
        (("fit", "--head", "ensemble", "--of", "knn"), 2, "an ensemble takes two models or more; name each with --of"),
        (("fit", "--head", "ensemble", "--of", "kn", "--of", "knn"), 2, "unknown model 'kn'; did you mean 'knn'"),
        (("fit", "--calibration", "many"), 2, "'many' is no share; give one such as 10% or 0.1"),
        (("compare", "--hold-out-families", "70%"), 2, "--hold-out-families 70%: give a share from 0% to 50%"),
        (("compare", "--accept-known", ".9"), 2, "--accept-known needs strangers to draw the line by; give --hold-out"),
        (("fit", "--accept-known", ".9", "--false-acceptance", ".1"), 2, "are two ways to draw one line; give one"),
        (
            ("fit", "--head", "ensemble", "--of", "knn", "--of", "linear", "--calibration", ".1"),
            2,
            "--hold-out-families and --calibration are for the members: fit them with these",
        ),
        (("compare", "--heads", "kn"), 2, "unknown head 'kn'; did you mean 'knn'"),
        (("compare", "--heads", "knn", "--folds", "1"), 2, "invalid value for '--folds': 1 is not in the range x>=2"),
        (("predict", "new.fasta", "--model", "knn", "--coverage", ".9"), 2, "fit it with --calibration 10%"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    home: Path, compared: str, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(home)
    ran = run(*args, "-w", "w")
    assert message in ran.err
    assert ran.code == code

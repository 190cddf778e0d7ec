"""Gene Ontology at the command line: from CAFA files to a submission; what is not for it is one line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from command import done, run
from families import write_families
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, PARENTS, ZINC, write_cafa, write_obo

from esmcls.heads.registry import TERM_GROUP


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CAFA's files, a workspace `w` of terms with two models, and one of families, `f`, with one."""
    folder = tmp_path_factory.mktemp("go")
    train, test, table = write_cafa(folder)
    obo = write_obo(folder / "go.obo")
    done("embed", train, "--test", test, "--labels", table, "--obo", obo, "--encoder", "kmer", "-w", folder / "w")
    for head in ("naive", "knn"):
        done("fit", "--head", head, "-w", folder / "w")
    done("embed", write_families(folder / "families.csv"), "--encoder", "kmer", "-w", folder / "f")
    done("fit", "--head", "knn", "--set", "k", "1", "-w", folder / "f")
    return folder


def submission(text: str) -> dict[str, dict[str, float]]:
    """Return the score of each term of each protein."""
    found = dict[str, dict[str, float]]()
    for line in text.splitlines():
        name, term, score = line.split("\t")
        assert term not in found.setdefault(name, {})
        found[name][term] = float(score)
    return found


def test_fit_says_what_was_reached_in_each_aspect(home: Path) -> None:
    ran = done("fit", "--head", "naive", "-w", home / "w")
    first, second = ran.out.splitlines()
    assert "naive, 7 classes, 24 sequences; on validation: fmax 0." in first
    assert "fmax_F" in first
    assert second.startswith("thresholds from ")
    assert ran.err.endswith("esmcls: next: esmcls evaluate, or esmcls predict FASTA --format cafa\n")


def test_a_submission_is_what_cafa_takes(home: Path, tmp_path: Path) -> None:
    ran = done("predict", home / "test_sequences.fasta", "--format", "cafa", "-w", home / "w", "-o", tmp_path / "s.tsv")
    assert ran.out == ""
    found = submission((tmp_path / "s.tsv").read_text())
    assert list(found) == ["A8", "A9", "G8", "G9", "K8", "K9"]
    for scores in found.values():
        assert all(0 < score <= 1 for score in scores.values())
        assert all(scores[above] >= score for term, score in scores.items() if (above := PARENTS[term][2]) in scores)
    assert found["A8"][ZINC] > 0.5
    assert found["K8"].get(ZINC, 0) < 0.5
    assert (
        done("predict", home / "test_sequences.fasta", "--format", "cafa", "-w", home / "w").out
        == (tmp_path / "s.tsv").read_text()
    )


def test_the_table_names_terms_and_what_is_predicted(home: Path) -> None:
    text = done("predict", home / "test_sequences.fasta", "-w", home / "w").out
    assert (
        text.splitlines()[0]
        == "id\trank\tterm\tname\taspect\tprobability\tpredicted\tnearest_id\tstatus\tnote\tmodel\texpected_f"
    )
    rows = [row for row in csv.DictReader(io.StringIO(text), delimiter="\t") if row["id"] == "G9"]
    predicted = {row["term"] for row in rows if row["predicted"] == "yes"}
    assert {BINDING, ION, NUCLEUS, GROWTH} <= predicted
    assert predicted.isdisjoint({ZINC, MEMBRANE, CELL_GROWTH})
    assert {(row["name"], row["aspect"]) for row in rows} <= {one[:2] for one in PARENTS.values()}
    assert rows[0]["nearest_id"].startswith("G")


def test_options_narrow_what_is_written(home: Path) -> None:
    where = ("predict", home / "test_sequences.fasta", "-w", home / "w")
    only = submission(done(*where, "--format", "cafa", "--aspect", "P", "--aspect", "C", "--min-score", ".3").out)
    assert set(only["G8"]) == {NUCLEUS, GROWTH}
    rows = [
        json.loads(line) for line in done(*where, "--format", "jsonl", "--top-k", "1", "--aspect", "F").out.splitlines()
    ]
    assert [(row["id"], row["rank"], row["aspect"]) for row in rows][:2] == [("A8", 1, "F"), ("A9", 1, "F")]
    naive = done(*where, "--model", "naive", "--aspect", "C", "--at-least", "0", "--min-score", ".9").out
    assert naive.count("no_term") in (0, 6)


def test_a_model_folder_predicts_anywhere(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "w" / "models" / "knn", tmp_path / "model")
    asked = ("predict", home / "test_sequences.fasta", "--format", "cafa")
    assert (
        done(*asked, "--model", tmp_path / "model", "-w", tmp_path / "none").out == done(*asked, "-w", home / "w").out
    )


def test_evaluate_measures_each_aspect_and_writes_the_same_bytes_twice(home: Path) -> None:
    first = done("evaluate", "-w", home / "w")
    file = home / "w" / "reports" / "evaluate-knn" / "metrics.json"
    before = file.read_bytes()
    assert done("evaluate", "-w", home / "w").out == first.out
    assert file.read_bytes() == before
    assert first.out.startswith("model knn\n6 proteins with 7 terms\n")
    assert first.out.endswith("information accretion: from the training terms\n")
    for aspect in ("cellular component", "molecular function", "biological process"):
        assert f"{aspect}: " in first.out
    known = json.loads(before)
    assert (known["model"], known["on"], known["information_accretion"]) == ("knn", "test part", "the training terms")
    assert set(known["aspects"]["F"]["metrics"]) == {"fmax", "wfmax", "f_micro_w", "smin"}


def test_evaluate_takes_sequences_with_their_terms_and_a_table_of_information_accretion(
    home: Path, tmp_path: Path
) -> None:
    given = ("evaluate", home / "test_sequences.fasta", "--labels", home / "terms.tsv")
    folder = home / "w" / "models" / "knn"
    alone = done(*given, "--model", folder, "-w", tmp_path / "none").out
    assert "weighted Fmax" not in alone
    assert alone.endswith("information accretion is not known: give --ia FILE for weighted measures\n")
    table = tmp_path / "IA.tsv"
    table.write_text("".join(f"{term}\t{number / 4}\n" for number, term in enumerate(PARENTS)))
    weighed = done(*given, "--model", folder, "-w", tmp_path / "none", "--ia", table).out
    assert "weighted Fmax" in weighed
    assert weighed.endswith("information accretion: from IA.tsv\n")
    done(*given, "-w", home / "w")
    assert (home / "w" / "reports" / "evaluate-knn-test_sequences.fasta" / "metrics.json").is_file()


def test_terms_of_proteins_to_evaluate_on_go_up_to_those_that_contain_them(home: Path, tmp_path: Path) -> None:
    """The table names zinc ion binding by its other id, and says nothing of binding."""
    table = tmp_path / "terms.tsv"
    table.write_text("".join(f"{name}\tGO:1\tF\n" for name in ("A8", "A9", "G8", "G9", "K8", "K9")))
    found = done("evaluate", home / "test_sequences.fasta", "--labels", table, "-w", home / "w").out
    assert "molecular function: 6 proteins with 3 terms" in found


def test_heads_for_terms_are_listed_apart(home: Path) -> None:
    lines = done("heads", "--terms").out.splitlines()
    assert any(line.startswith("naive: ") for line in lines)
    assert not any(line.startswith("naive: ") for line in done("heads").out.splitlines())
    cards = {card["name"] for card in json.loads(done("heads", "--terms", "--json").out)}
    assert {"naive", "knn"} <= cards
    assert TERM_GROUP == "esmcls.term_heads"


def test_info_says_of_a_model_that_its_classes_are_terms(home: Path) -> None:
    assert "fitted on: 24 sequences of 7 Gene Ontology terms, seed 0" in done("info", home / "w" / "models" / "knn").out
    line = next(line for line in done("info", home / "w").out.splitlines() if line.startswith("model: knn"))
    assert "7 Gene Ontology terms, validation fmax " in line
    assert line.endswith("(best)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("fit", "--head", "ensemble", "--of", "knn", "--of", "knn", "--set", "members", "knn"),
            "--set of an ensemble: fitted models of terms are combined as they are; "
            "esmcls fit --head ensemble without --of takes knobs",
        ),
        (
            ("fit", "--hold-out-families", ".1"),
            "--hold-out-families is not for {w}, which {terms}: a protein has no one family to hold out",
        ),
        (
            ("predict", "{fasta}", "--coverage", ".9"),
            "no calibration rows were set aside for sets; fit with --calibration 10%",
        ),
        (
            ("predict", "{fasta}", "--format", "cafa", "--at-least", "2"),
            "--at-least is for tables: --format cafa holds all terms of at least --min-score",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_for_one_label_is_one_line_where_there_are_many(
    words: tuple[str, ...], message: str, home: Path
) -> None:
    ran = run(*(word.format(fasta=home / "test_sequences.fasta") for word in words), "-w", home / "w")
    told = message.format(w=home / "w", terms="gives Gene Ontology terms, any number a protein")
    assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (2, "", f"esmcls: error: {told}")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--format", "cafa"), "--format cafa"),
        (("--aspect", "F"), "--aspect"),
        (("--min-score", ".1"), "--min-score"),
        (("--at-least", "2"), "--at-least"),
        (("--at-least", "0"), "--at-least"),
    ],
)
def test_what_is_for_terms_is_one_line_where_there_is_one_label(
    words: tuple[str, ...], option: str, home: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.tsv"
    ran = run("predict", home / "test_sequences.fasta", *words, "-w", home / "f", "-o", output)
    told = f"{option} is not for model knn, which gives one label a protein"
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"esmcls: model knn, the only one here\nesmcls: error: {told}\n"
    assert not output.exists()


def test_a_table_of_information_accretion_is_for_terms(home: Path) -> None:
    ran = run("evaluate", "--ia", home / "terms.tsv", "-w", home / "f")
    assert ran.code == 2
    assert ran.err.endswith("esmcls: error: --ia is not for model knn, which gives one label a protein\n")


def test_a_model_of_terms_has_no_test_part_in_a_workspace_of_families(home: Path) -> None:
    ran = run("evaluate", "--model", home / "w" / "models" / "knn", "-w", home / "f")
    assert ran.code == 1
    told = f"{home / 'f'}: no test part to measure this model on; give INPUT and --labels"
    assert ran.err == f"esmcls: error: {told}\n"

"""Labels and numbers of residues through every command: embed, fit, evaluate, predict, compare, info, and refusals."""

from __future__ import annotations

import csv
import itertools
import json

import pytest
import residues
from command import done, run

import esmcls
from esmcls.cache.store import EmbeddingCache
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.reading.records import Protein
from esmcls.workspace.workspace import Workspace

KNOBS = ("--set", "epochs", "4", "--set", "lr", "0.01", "--set", "hidden", "16")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A workspace of labels of residues, the first two of each protein masked, with a model conv."""
    folder = tmp_path_factory.mktemp("labels")
    fasta = residues.fasta(folder / "set.fasta", mask=True)
    told = done("embed", fasta, "-w", folder / "work", "--device", "cpu").err
    assert "dataset: residue-label (CEH), known of 362 of 410 residues" in told
    done("fit", "-w", folder / "work", "--head", "conv", *KNOBS)
    return folder


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A workspace of numbers of residues with a model linear."""
    folder = tmp_path_factory.mktemp("numbers")
    table = residues.table(folder / "set.tsv")
    done("embed", table, "-w", folder / "work", "--label-column", "z_score")
    done("fit", "-w", folder / "work")
    return folder


def test_residues_are_kept_of_whole_sequences_unasked(labels):
    workspace = Workspace.open(labels / "work")
    assert workspace.task == RESIDUE_LABEL
    spec = EmbeddingCache.open(workspace.caches[-1].folder).spec
    assert (spec.poolings, spec.long) == (("mean", "residue"), "window:1022:511")
    assert workspace.dataset.labels[0].startswith("??")


def test_a_dry_run_counts_the_vectors_of_residues_that_would_be_kept_unasked(tmp_path):
    ran = done("embed", residues.fasta(tmp_path / "set.fasta"), "-w", tmp_path / "work", "--dry-run", "-q")
    planned = 2 * 768 * (410 + 24) + 24 * 56
    assert f"410 residues, {planned / 1e3:.1f} kB on disk" in ran.out
    assert "align" not in ran.out, "which is no head for residues"


def test_evaluate_tells_measures_with_intervals_and_each_class(labels):
    ran = done("evaluate", "-w", labels / "work")
    assert "4 proteins, " in ran.out
    assert "accuracy" in ran.out
    assert "MCC" in ran.out
    report = labels / "work" / "reports" / "evaluate-conv"
    metrics = json.loads((report / "metrics.json").read_text())
    test = [one for one, part in zip(residues.sequences(), residues.PARTS, strict=True) if part == "test"]
    assert metrics["known"] == sum(map(len, test)) - 2 * 4  # masked residues are not scored
    page = (report / "report.html").read_text()
    assert "Each class of residues" in page
    assert "Sample proteins" in page
    assert len((report / "proteins.tsv").read_text().splitlines()) == 1 + 4


def test_a_report_is_the_same_bytes_twice(labels):
    page = labels / "work" / "reports" / "evaluate-conv" / "report.html"
    done("evaluate", "-w", labels / "work")
    before = page.read_bytes()
    done("evaluate", "-w", labels / "work")
    assert page.read_bytes() == before


def test_predict_writes_a_row_a_residue(labels, tmp_path):
    path = tmp_path / "new.fasta"
    path.write_text(">a\nALVIG\n>b\nSDK\n")
    rows = list(csv.DictReader(done("predict", path, "-w", labels / "work").out.splitlines(), delimiter="\t"))
    assert [(row["id"], row["position"], row["residue"]) for row in rows] == [
        *(("a", str(place), letter) for place, letter in enumerate("ALVIG", 1)),
        *(("b", str(place), letter) for place, letter in enumerate("SDK", 1)),
    ]
    assert all(row["label"] in "CEH" and 0 < float(row["probability"]) <= 1 for row in rows)


def test_predict_writes_fasta_of_labels_that_embed_takes_again(labels, tmp_path):
    fasta = done("predict", labels / "set.fasta", "-w", labels / "work", "-o", tmp_path / "labels.fasta")
    assert "24 records: 24 answered" in fasta.err
    lines = (tmp_path / "labels.fasta").read_text().splitlines()
    assert [line.split()[0] for line in lines[::2]] == [f">p{number}" for number in range(24)]
    assert [len(line) for line in lines[1::2]] == list(map(len, residues.sequences()))


def test_predict_writes_segments_as_gff3(labels, tmp_path):
    done("predict", labels / "set.fasta", "-w", labels / "work", "-o", tmp_path / "out.gff3")
    lines = (tmp_path / "out.gff3").read_text().splitlines()
    assert lines[0] == "##gff-version 3"
    first = [line.split("\t") for line in lines if line.startswith("p0\t")]
    assert (first[0][3], first[-1][4]) == ("1", str(len(residues.sequences()[0])))
    assert all(int(one[4]) + 1 == int(two[3]) for one, two in itertools.pairwise(first))
    assert all(one[8] != two[8] for one, two in itertools.pairwise(first))


def test_the_answers_of_a_stream_are_those_of_each_protein_alone(labels):
    model = esmcls.load_model(labels / "work" / "models" / "conv")
    proteins = [Protein(f"p{number}", sequence) for number, sequence in enumerate(residues.sequences(5))]
    together = [(row.id, row.position, row.label) for row in esmcls.predict(model, proteins)]
    alone = [(row.id, row.position, row.label) for one in proteins for row in esmcls.predict(model, [one])]
    assert together == alone


def test_evaluate_takes_labelled_sequences_with_columns(numbers):
    ran = done("evaluate", numbers / "set.tsv", "-w", numbers / "work", "--label-column", "z_score", "--name", "given")
    assert "Spearman" in ran.out
    assert "24 proteins" in ran.out
    page = numbers / "work" / "reports" / "evaluate-given" / "report.html"
    assert "Numbers of residues, as they are" in page.read_text()


def test_evaluate_refuses_a_label_that_is_not_as_long(labels, tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(">a TARGET=CCC\nMKTA\n")
    ran = run("evaluate", path, "-w", labels / "work")
    assert ran.code == 1
    assert "a.fasta:1: record 'a': label of 3 signs for a sequence of 4 residues" in ran.err


def test_predict_writes_a_number_a_residue(numbers):
    rows = list(
        csv.DictReader(done("predict", numbers / "set.tsv", "-w", numbers / "work").out.splitlines(), delimiter="\t")
    )
    assert len(rows) == sum(map(len, residues.sequences()))
    assert all(row["label"] == "" and -10 < float(row["value"]) < 10 for row in rows)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--format", "gff3"), "gff3 is for labels; model linear gives numbers"),
        (("--top-k", "3"), "--top-k is not for model linear, which answers residues"),
        (("--coverage", ".9"), "--coverage is not for model linear, which answers residues"),
        (("--format", "cafa"), "--format cafa is not for model linear, which answers residues"),
    ],
)
def test_what_residues_cannot_have_is_refused_in_a_line(numbers, options, problem):
    ran = run("predict", numbers / "set.tsv", "-w", numbers / "work", *options)
    assert ran.code == 2
    assert problem in ran.err


def test_compare_sets_heads_and_baselines_side_by_side(labels):
    ran = done("compare", "-w", labels / "work", "--heads", "linear,conv", "--name", "two")
    rows = json.loads((labels / "work" / "reports" / "compare-two" / "report.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"two-linear", "two-conv", "two-letter", "majority"} or {
        row["head"] for row in rows
    } == {"linear", "conv", "letter", "majority"}
    assert [row["baseline"] for row in rows if row["head"] in ("letter", "majority")] == [True, True]
    assert "paired bootstrap over proteins" in ran.out
    assert rows[-1]["head"] == "majority"


def test_compare_in_folds_reads_no_test_part(numbers):
    ran = done("compare", "-w", numbers / "work", "--heads", "linear", "--folds", "2", "--name", "folds")
    report = json.loads((numbers / "work" / "reports" / "compare-folds" / "report.json").read_text())
    assert report["dataset"]["residues"] == sum(map(len, residues.sequences()[:20]))
    assert "Spearman" in ran.out


def test_info_says_the_kind_of_task(numbers, labels):
    assert f"task: {RESIDUE_NUMBER}" in done("info", numbers / "work").out
    assert "3 classes of residues" in done("info", labels / "work" / "models" / "conv").out


def test_layers_are_not_chosen_for_residues(labels):
    ran = run("embed", "-w", labels / "work", "--layers", "auto")
    assert ran.code == 2
    assert "--layers auto is not for" in ran.err


def test_statistics_of_classes_are_refused_with_the_reason(labels):
    ran = run("data", "stats", labels / "set.fasta")
    assert ran.code == 1
    assert "labels with a sign or a number for each residue, not classes of proteins" in ran.err


def test_heads_for_residues_are_listed_and_explained():
    told = done("heads", "--residues").out
    assert "conv: A small convolution along the sequence" in told
    assert "--set kernel 7" in told

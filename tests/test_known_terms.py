"""What is known of a protein is no news, what is denied is never said, and targets are measured apart by it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from command import done, run
from gaf import gaf_row, write_gaf
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, ZINC, tiny_ontology, write_cafa, write_obo
from scipy.sparse import csr_matrix
from test_term_prediction import cafa, table, toy

from esmcls.errors import DataError, UsageError
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.models.predict import write_answers
from esmcls.reading.records import Protein
from esmcls.tasks.go_terms.known.knowledge import ByKnowledge, keeping, measure_by_knowledge
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.types import Indices


def known_of(folder: Path, *rows: str) -> KnownTerms:
    return KnownTerms.read(write_gaf(folder / "known.gaf", *rows), tiny_ontology())


def terms(ontology: Ontology, places: Indices) -> set[str]:
    return {ontology.terms[place] for place in places.tolist()}


# what is known


def test_a_known_term_brings_those_above_it_and_a_denied_one_those_below(tmp_path: Path) -> None:
    known = known_of(
        tmp_path,
        gaf_row("a", ION, "F"),
        gaf_row("a", GROWTH, "P", qualifier="NOT|involved_in"),
        gaf_row("b", GROWTH, "P", code="IEA"),
    )
    has, lacks = known.of("a")
    assert (terms(known.ontology, has), terms(known.ontology, lacks)) == ({ION, BINDING}, {GROWTH, CELL_GROWTH})
    assert known.aspects_of("a") == {"F"}
    assert [len(places) for places in known.of("b")] == [0, 0]
    assert len(known.of("sp|a|A_HUMAN")[0]) == 2
    assert known.lines()[0] == "known terms of 1 protein, 1 with a NOT"
    assert "1 rows left out, whose evidence does not count (1 IEA)" in known.lines()[1]


def test_what_is_said_and_denied_is_taken_for_said_and_told(tmp_path: Path) -> None:
    known = known_of(tmp_path, gaf_row("a", ZINC, "F"), gaf_row("a", BINDING, "F", qualifier="NOT|enables"))
    has, lacks = known.of("a")
    assert terms(known.ontology, has) == {BINDING, ION, ZINC}
    assert len(lacks) == 0
    assert known.lines()[-1] == "warning: 1 term both said and denied of a protein: taken for said"


def test_a_table_of_terms_is_read_too_and_its_column_of_qualifiers(tmp_path: Path) -> None:
    path = tmp_path / "known.tsv"
    path.write_text(f"EntryID\tterm\tqualifier\na\t{ION}\tenables\na\t{NUCLEUS}\tNOT|part_of\n")
    has, lacks = KnownTerms.read([path], tiny_ontology()).of("a")
    assert (len(has), len(lacks)) == (2, 1)
    path.write_text("a\tGO:9999999\n")
    with pytest.raises(DataError, match="no term that the ontology knows"):
        KnownTerms.read(path, tiny_ontology())


# predict: AA is said to have zinc .77 (so ion, binding) and membrane .04; CC growth and cell growth


def test_known_terms_and_those_above_them_are_no_news(tmp_path: Path) -> None:
    known = known_of(tmp_path, gaf_row("p0", ION, "F"))
    assert [term for _, term, _ in cafa(toy(), "AA", "AA")] == [BINDING, ION, ZINC, MEMBRANE] * 2
    lines = cafa(toy(), "AA", "AA", known=known)
    assert [(name, term) for name, term, _ in lines if name == "p0"] == [("p0", ZINC), ("p0", MEMBRANE)]
    assert [term for name, term, _ in lines if name == "p1"] == [BINDING, ION, ZINC, MEMBRANE]  # of the same sequence
    first = table(toy(), "AA", known=known)[0]
    assert (first.rank, first.term, first.note) == (1, ZINC, "fragment of 2 residues; 2 known terms left out")


def test_what_is_known_takes_no_place_among_the_most_probable(tmp_path: Path) -> None:
    known = known_of(tmp_path, gaf_row("p0", ION, "F"))
    assert [term for _, term, _ in cafa(toy(), "AA", k=2, known=known)] == [ZINC, MEMBRANE]


def test_a_denied_term_is_never_said_nor_what_it_contains_nor_likely_for_its_sake(tmp_path: Path) -> None:
    known = known_of(tmp_path, gaf_row("p0", ION, "F", qualifier="NOT|enables"))
    rows = [row for row in table(toy(), "AA", known=known) if row.aspect == "F"]
    assert [(row.term, row.probability, row.note) for row in rows] == [
        (BINDING, pytest.approx(0.3), "fragment of 2 residues; 2 denied terms left out")
    ]
    assert [row.predicted for row in rows] == [True]  # the best of its aspect, in which none reaches .5


def test_evidence_without_known_terms_and_a_model_of_one_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--evidence says what counts in the files of --known"):
        write_answers(toy(), iter([Protein("p0", "AA")]), io.StringIO(), evidence=("IDA",))


# evaluate: three proteins, of which nothing, another aspect and the aspect itself is known

TRUTH = [{BINDING, ION, ZINC}, {BINDING, ION, GROWTH}, {BINDING, ION, ZINC}]
SAID = np.array(
    # binding cell growth, growth, ion, membrane, nucleus, zinc, as sorted below
    [[0.9, 0, 0, 0.8, 0, 0, 0.2], [0.9, 0, 0.4, 0.7, 0, 0, 0.6], [0.9, 0, 0.5, 0.8, 0, 0, 0.7]],
    np.float32,
)
CLASSES = [BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, ZINC]


def by_knowledge(known: KnownTerms) -> ByKnowledge:
    groups = [known.ontology.aspects[known.ontology.place[term]] for term in CLASSES]
    kept: list[tuple[slice, csr_matrix]] = []
    assert len(list(keeping([(slice(0, 3), SAID)], kept))) == 1
    truth = LabelSets.from_names(TRUTH, CLASSES, groups)
    return measure_by_knowledge(truth, kept, known, ["a", "b", "c"], np.ones(7), folds=20)


def test_targets_are_told_apart_in_each_aspect_by_what_is_known(tmp_path: Path) -> None:
    kinds = by_knowledge(known_of(tmp_path, gaf_row("b", NUCLEUS, "C"), gaf_row("c", ION, "F"))).kinds
    proteins = {kind: {letter: scores.proteins for letter, scores in each.items()} for kind, each in kinds.items()}
    assert proteins == {
        "no_knowledge": {"F": 1},  # a
        "limited_knowledge": {"F": 1, "P": 1},  # b, whose nucleus is known, but not asked for
        "partial_knowledge": {"F": 1},  # c, of which zinc alone is news
    }


def test_what_is_known_counts_neither_as_true_nor_as_predicted(tmp_path: Path) -> None:
    kinds = by_knowledge(known_of(tmp_path, gaf_row("c", ION, "F"))).kinds
    scores = kinds["partial_knowledge"]["F"]
    assert (scores.metrics["fmax"].value, scores.metrics["f_micro_w"].value) == (1.0, 1.0)  # zinc, and nothing else
    # a: all three up to .2 and two of them up to .8; b: three of which two are right: micro F 10/11
    assert kinds["no_knowledge"]["F"].metrics["f_micro_w"].value == pytest.approx(10 / 11)


def test_a_protein_without_news_is_no_target(tmp_path: Path) -> None:
    kinds = by_knowledge(known_of(tmp_path, gaf_row("c", ZINC, "F"))).kinds
    assert kinds.keys() == {"no_knowledge"}


def test_predict_and_evaluate_take_what_is_known(tmp_path: Path) -> None:
    train, test, labels = write_cafa(tmp_path)
    where = ("-w", tmp_path / "w")
    obo = write_obo(tmp_path / "go.obo")
    done("embed", train, "--test", test, "--labels", labels, "--obo", obo, "--encoder", "kmer", "--quiet", *where)
    done("fit", "--head", "knn", "--quiet", *where)
    known = write_gaf(
        tmp_path / "known.gaf", gaf_row("A8", ION, "F"), gaf_row("G8", NUCLEUS, "C", qualifier="NOT|part_of")
    )
    plain = done("predict", test, "--format", "cafa", *where).out.splitlines()
    ran = done("predict", test, "--format", "cafa", "--known", known, *where)
    gone = {tuple(line.split("\t")[:2]) for line in set(plain) - set(ran.out.splitlines())}
    assert gone == {("A8", BINDING), ("A8", ION), ("G8", NUCLEUS)}
    assert "known terms of 1 protein, 1 with a NOT" in ran.err
    ran = done("evaluate", "--known", known, *where)
    assert "targets by what is known" in ran.out
    written = json.loads((tmp_path / "w" / "reports" / "evaluate-knn" / "metrics.json").read_text())
    assert written["by_knowledge"]["partial_knowledge"]["F"]["proteins"] == 1
    assert written["by_knowledge"]["limited_knowledge"]["C"]["proteins"] == 1
    assert (tmp_path / "w" / "reports" / "evaluate-knn" / "report.html").read_text().count("targets by what is known")
    ran = run("evaluate", "--evidence", "IDA", *where)
    assert ran.code == 2
    assert "--evidence says what counts in GAFs of --labels or --known" in ran.err


def test_compare_sets_models_side_by_side_on_each_kind_of_target(tmp_path: Path) -> None:
    train, test, labels = write_cafa(tmp_path)
    where = ("-w", tmp_path / "w")
    obo = write_obo(tmp_path / "go.obo")
    done("embed", train, "--test", test, "--labels", labels, "--obo", obo, "--encoder", "composition", *where)
    known = write_gaf(tmp_path / "known.gaf", gaf_row("A8", ION, "F"), gaf_row("G8", NUCLEUS, "C"))
    words = ("compare", "--heads", "naive,knn", "--no-baselines", "--set", "knn", "k", "3", *where)
    ran = done(*words, "--known", known)
    assert "esmcls: known terms of 2 proteins" in ran.err
    assert "targets in F of which is known: this aspect (1 protein)" in ran.out
    folder = tmp_path / "w" / "reports" / "compare"
    lines = [line.split("\t") for line in (folder / "knowledge.tsv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    targets = {(row["targets"], row["aspect"]): int(row["proteins"]) for row in rows if row["model"] == "knn"}
    assert (targets["partial_knowledge", "F"], targets["limited_knowledge", "C"]) == (1, 1)
    written = json.loads((folder / "report.json").read_text())
    best, naive = written["rows"]
    assert best["name"] == "knn"
    alone = done("evaluate", "--model", "knn", "--known", known, *where)
    assert "targets by what is known" in alone.out
    measured = json.loads((tmp_path / "w" / "reports" / "evaluate-knn" / "metrics.json").read_text())
    assert best["by_knowledge"] == measured["by_knowledge"]  # as `evaluate --known` measures each for itself
    for kind, by_aspect in naive["by_knowledge"].items():
        for letter, scores in by_aspect.items():
            less = naive["known_versus_best"][kind][letter]["fmax"]["value"]
            reached = best["by_knowledge"][kind][letter]["metrics"]["fmax"]["value"]
            assert scores["metrics"]["fmax"]["value"] - reached == pytest.approx(less)
    assert "By what was known of the proteins" in (folder / "report.html").read_text()
    again = done(*words, "--known", known)
    assert (again.out, "fitting" in again.err) == (ran.out, False)
    plain = done(*words)
    assert "fitting" not in plain.err  # the models are the same, and are asked again
    told = json.loads((tmp_path / "w" / "reports" / "compare" / "report.json").read_text())
    assert "by_knowledge" not in told["rows"][0]
    refused = run("compare", "--evidence", "IDA", *where)
    assert refused.code == 2
    assert "--evidence says what counts in the files of --known" in refused.err

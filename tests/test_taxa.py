"""Terms that a protein's organism cannot have are left out, by the constraints and the taxonomy that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import done, run
from gaf import gaf_row, write_gaf
from ontologies import BINDING, GROWTH, ION, MEMBRANE, NUCLEUS, ZINC, tiny_ontology, write_cafa, write_obo
from test_term_prediction import table, toy

from esmcls.errors import DataError
from esmcls.models.predict import stream_rows
from esmcls.reading.annotations.taxa import Constraint, Taxonomy, read_constraints, read_protein_taxa
from esmcls.reading.records import Protein
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.tasks.go_terms.known.taxon_terms import TaxonTerms

OBO = f"""\
format-version: 1.2
ontology: go/imports/go-computed-taxon-constraints

[Term]
id: {NUCLEUS}
name: nucleus
property_value: RO:0002161 NCBITaxon:2
relationship: RO:0002162 NCBITaxon:131567 ! cellular organisms

[Term]
id: {GROWTH}
relationship: only_in_taxon NCBITaxon_Union:0000007 {{id="GOTAX:0000102"}} ! Bacteria or Fungi
relationship: never_in_taxon NCBITaxon:9606 {{id="GOTAX:0000501", source="PMID:21311032"}} ! Homo sapiens
relationship: part_of {NUCLEUS}

[Term]
id: UBERON:0000002
relationship: never_in_taxon NCBITaxon:9606

[Term]
id: {ZINC}
relationship: only_in_taxon NCBITaxon_Union:0000099

[Term]
id: NCBITaxon_Union:0000007
union_of: NCBITaxon:2 ! Bacteria
union_of: NCBITaxon:4751 ! Fungi
"""
NODES = {1: 1, 131567: 1, 2: 131567, 562: 2, 2759: 131567, 4751: 2759, 9606: 2759}
"""Bacteria with E. coli; eukaryotes with fungi and humans."""


def write_nodes(path: Path) -> Path:
    """Write them as NCBI does."""
    path.write_text("".join(f"{child}\t|\t{parent}\t|\tno rank\t|\t\t|\n" for child, parent in NODES.items()))
    return path


def constraints_of(folder: Path, *rows: str) -> Path:
    path = folder / "constraints.tsv"
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def taxa_of(folder: Path, *rows: str, taxon: Any = None) -> TaxonTerms:
    nodes = write_nodes(folder / "nodes.dmp")
    return TaxonTerms.read(constraints_of(folder, *rows), nodes, tiny_ontology(), taxon)


# files


def test_constraints_are_read_in_all_ways_in_which_obo_files_write_them(tmp_path: Path) -> None:
    path = tmp_path / "go-computed-taxon-constraints.obo"
    path.write_text(OBO)
    found = read_constraints(path)
    assert found.constraints == (
        Constraint(NUCLEUS, "never_in_taxon", frozenset([2])),
        Constraint(NUCLEUS, "only_in_taxon", frozenset([131567])),
        Constraint(GROWTH, "only_in_taxon", frozenset([2, 4751])),
        Constraint(GROWTH, "never_in_taxon", frozenset([9606])),
    )
    assert found.undefined == 1  # zinc's union, which the file does not define


def test_a_table_says_the_same_with_or_without_a_header(tmp_path: Path) -> None:
    rows = [f"{NUCLEUS}\tnever in taxon\tNCBITaxon:2", f"{GROWTH}\tonly_in_taxon\t2"]
    found = read_constraints(constraints_of(tmp_path, *rows)).constraints
    assert [(constraint.term, constraint.kind, *constraint.taxa) for constraint in found] == [
        (NUCLEUS, "never_in_taxon", 2),
        (GROWTH, "only_in_taxon", 2),
    ]
    assert read_constraints(constraints_of(tmp_path, "term\tconstraint\ttaxon", *rows)).constraints == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{NUCLEUS}\tnever_in_taxon\tbacteria\n{NUCLEUS}\tonly_in_taxon\t2",
            ":1: taxon 'bacteria'; write term<TAB>never_in_taxon or",
        ),
        (f"{NUCLEUS}\tnever_in_taxon\t2\n{NUCLEUS}\tonly_in_taxon\tbacteria", ":2: taxon 'bacteria'"),
        (f"{NUCLEUS}\tnever_in_taxon\t2\n{NUCLEUS}\tnever\t2", f":2: '{NUCLEUS}' with 'never'"),
        (f"{NUCLEUS}\tnever_in_taxon\t2\n{NUCLEUS}\t2", ":2: 2 cells instead of 3"),
        ("", "no constraint of a term by a taxon"),
        (f"[Term]\nid: {NUCLEUS}\nrelationship: never_in_taxon NCBITaxon:x", ":3: taxon 'NCBITaxon:x'"),
        (f"[Term]\nid: {NUCLEUS}\nrelationship: never_in_taxon", ":3: never_in_taxon of nothing"),
    ],
)
def test_a_constraint_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_constraints(path)
    assert "\n" not in str(caught.value)


def test_a_taxonomy_is_nodes_dmp_or_a_table_of_child_and_parent(tmp_path: Path) -> None:
    path = tmp_path / "nodes.tsv"
    path.write_text("child\tparent\n" + "".join(f"{child}\t{parent}\n" for child, parent in NODES.items() if child > 1))
    for taxonomy in (Taxonomy.read(path), Taxonomy.read(write_nodes(tmp_path / "nodes.dmp"))):
        assert taxonomy.lineage(562) == {562, 2, 131567, 1}
        assert taxonomy.lineage(1) == {1}
        assert taxonomy.lineage(10090) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\t1\nmouse\t1\n", r":2: 'mouse\\t1' names no taxon and its parent; give nodes.dmp"),
        ("2\t1\n2\t3\n", ":2: taxon 2 under 3, but under 1 before; keep one"),
        ("1\t1\n2\t3\n3\t4\n4\t2\n", "taxon 2 lies under itself; correct one of its parents"),
        ("child\tparent\n", "no taxon"),
    ],
)
def test_a_taxonomy_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "nodes.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Taxonomy.read(path)


def test_whose_a_protein_is_stands_in_a_table_or_in_a_gaf(tmp_path: Path) -> None:
    path = tmp_path / "taxa.tsv"
    path.write_text("id\ttaxon\nsp|P1|X_HUMAN\t9606\nP2\ttaxon:562\n")
    assert read_protein_taxa(path) == {"P1": 9606, "P2": 562}
    rows = gaf_row("P1", ION, "F", code="IEA"), gaf_row("P2", ION, "F", taxon="taxon:562|taxon:9606")
    assert read_protein_taxa(write_gaf(tmp_path / "a.gaf", *rows)) == {"P1": 9606, "P2": 562}
    path.write_text("P1\t9606\nP1\t562\n")
    with pytest.raises(DataError, match=":2: record 'P1': taxon 562, but 9606 before; keep one"):
        read_protein_taxa(path)
    path.write_text("P1\t9606\nP2\tmouse\n")
    with pytest.raises(DataError, match=":2: taxon 'mouse'; write id<TAB>taxon"):
        read_protein_taxa(path)


# predictions: AA is said to have zinc .77 (so ion, binding) and membrane .04; CC growth and cell growth


def rows_of(taxa: TaxonTerms, *proteins: Protein, **wanted: Any) -> dict[str, list[Any]]:
    rows: Any = list(stream_rows(toy(), iter(proteins), taxa=taxa, **wanted))
    return {protein.id: [row for row in rows if row.id == protein.id] for protein in proteins}


HUMAN, COLI = "OS=Homo sapiens OX=9606 GN=X", "OS=Escherichia coli OX=562"


def test_a_term_that_an_organism_cannot_have_goes_with_what_it_contains_and_makes_nothing_likely(
    tmp_path: Path,
) -> None:
    taxa = taxa_of(tmp_path, f"{ION}\tnever_in_taxon\t2")
    found = rows_of(taxa, Protein("h", "AA", HUMAN), Protein("c", "AA", COLI), Protein("n", "AA"), aspects=("F",))
    assert [row.term for row in found["h"]] == [BINDING, ION, ZINC]
    assert [(row.term, row.probability) for row in found["c"]] == [(BINDING, pytest.approx(0.3))]
    assert found["c"][0].note == "fragment of 2 residues; 2 terms of other taxa left out"
    assert [row.term for row in found["n"]] == [BINDING, ION, ZINC]  # nobody knows whose it is
    assert taxa.lines() == [
        "2 terms left out of 1 answer: their taxa cannot have them",
        "1 protein without a taxon (OX= of the header, or --taxon)",
    ]


def test_a_term_that_is_only_in_a_taxon_is_in_no_other(tmp_path: Path) -> None:
    found = rows_of(
        taxa_of(tmp_path, f"{BINDING}\tonly_in_taxon\t2759"), Protein("h", "AA", HUMAN), Protein("c", "AA", COLI)
    )
    assert {row.aspect for row in found["h"]} == {"F", "C"}
    assert {row.term for row in found["c"]} == {MEMBRANE}


def test_what_is_known_of_a_protein_is_taken_before_what_its_organism_cannot_have(tmp_path: Path) -> None:
    taxa = taxa_of(tmp_path, f"{ION}\tnever_in_taxon\t2")
    known = KnownTerms.read(write_gaf(tmp_path / "known.gaf", gaf_row("c", ION, "F")), tiny_ontology())
    [first, *_] = rows_of(taxa, Protein("c", "AA", COLI), aspects=("F",), known=known)["c"]
    assert first.note == "fragment of 2 residues; 2 known terms left out; 1 term of other taxa left out"


def test_the_taxon_of_all_or_of_a_file_counts_before_the_header(tmp_path: Path) -> None:
    row = f"{ION}\tnever_in_taxon\t2"
    listed = tmp_path / "taxa.tsv"
    listed.write_text("h\t562\n")
    for taxon in (562, "562", listed):
        taxa = taxa_of(tmp_path, row, taxon=taxon)
        assert len(rows_of(taxa, Protein("h", "AA", HUMAN), aspects=("F",))["h"]) == 1
    taxa = taxa_of(tmp_path, row, taxon=10090)
    assert len(rows_of(taxa, Protein("h", "AA", HUMAN), aspects=("F",))["h"]) == 3
    assert taxa.lines()[-1] == "1 protein of a taxon that the taxonomy does not know"


def test_what_the_ontology_does_not_know_is_told(tmp_path: Path) -> None:
    taxa = taxa_of(tmp_path, f"{ION}\tnever_in_taxon\t2", "GO:9999999\tnever_in_taxon\t2")
    assert taxa.read_lines() == ["1 taxon constraint, 7 taxa; 1 of terms that the ontology does not know left out"]
    assert len(table(toy(), "AA")) == 4


def test_predict_leaves_out_what_cannot_be_and_says_how_many(tmp_path: Path) -> None:
    train, test, labels = write_cafa(tmp_path)
    where = ("-w", tmp_path / "w")
    obo = write_obo(tmp_path / "go.obo")
    done("embed", train, "--test", test, "--labels", labels, "--obo", obo, "--encoder", "kmer", "--quiet", *where)
    done("fit", "--head", "knn", "--quiet", *where)
    given = "--taxon-constraints", constraints_of(tmp_path, f"{ION}\tnever_in_taxon\t2")
    nodes = "--taxonomy", write_nodes(tmp_path / "nodes.dmp")
    words = ("predict", test, "--format", "cafa", *where)
    plain = done(*words).out.splitlines()
    ran = done(*words, *given, *nodes, "--taxon", "562")
    gone = {line.split("\t")[1] for line in set(plain) - set(ran.out.splitlines())}
    assert gone >= {ION, ZINC}
    assert not any(f"\t{term}\t" in ran.out for term in (ION, ZINC))
    assert "1 taxon constraint, 7 taxa" in ran.err
    assert "6 terms left out of 4 answers: their taxa cannot have them" in ran.err
    for wrong, message in (
        (given, "--taxon-constraints needs --taxonomy FILE"),
        (nodes, "--taxonomy says whose proteins are for --taxon-constraints FILE; give that, too"),
        ((*given, *nodes, "--taxon", tmp_path / "none.tsv"), "none.tsv"),
    ):
        refused = run(*words, *wrong)
        assert refused.code in (1, 2)
        assert message in refused.err.splitlines()[-1]

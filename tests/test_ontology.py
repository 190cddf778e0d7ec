"""The Gene Ontology: what is read of an OBO file, what contains what, and how many bits a term adds."""

from __future__ import annotations

import gzip
import subprocess
import sys
from math import log2
from pathlib import Path

import numpy as np
import pytest
from gene_ontology import BINDING, ION, METAL, NUCLEUS, OBO, TRANSPORT, ZINC, C, F, P, write_obo

from esmcls.errors import DataError
from esmcls.labels.information_accretion import information_accretion
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology, raise_parents, read_obo
from esmcls.reading.joined.term_tables import read_ia

FIX = "give an OBO file of the Gene Ontology, such as go-basic.obo"


@pytest.fixture(scope="module")
def ontology(tmp_path_factory: pytest.TempPathFactory) -> Ontology:
    return read_obo(write_obo(tmp_path_factory.mktemp("obo") / "go.obo"))


# reading


def test_terms_in_use_are_read_with_names_and_aspects(ontology: Ontology) -> None:
    assert ontology.terms == (BINDING, ION, METAL, ZINC, NUCLEUS, TRANSPORT, F, C, P)
    assert ontology.aspects == "FFFFCPFCP"
    assert ontology.names[3] == "zinc ion binding"
    assert ontology.roots == {F, C, P}


def test_parents_are_is_a_and_part_of_within_an_aspect(ontology: Ontology) -> None:
    parents = {
        term: {ontology.terms[above] for above in ontology.parents[ontology.place[term]]} for term in ontology.terms
    }
    assert parents[ZINC] == {ION, METAL}  # is_a and part_of; has_part is no containment
    assert parents[TRANSPORT] == {P}  # its part_of leads to another aspect
    assert parents[ION] == {BINDING}
    assert parents[F] == set()


def test_alternative_and_replaced_ids_stand_for_their_term_and_others_are_unknown(ontology: Ontology) -> None:
    assert ontology.others == {"GO:0000020": ION, "GO:0000021": ION, "GO:0000007": NUCLEUS}
    assert ontology.terms[ontology.place["GO:0000021"]] == ION
    assert "GO:0000008" not in ontology.place  # obsolete, replaced by nothing
    assert "GO:0000009" not in ontology.place  # obsolete, replaced by two


def test_a_packed_file_gives_the_same(ontology: Ontology, tmp_path: Path) -> None:
    packed = tmp_path / "go"
    packed.write_bytes(gzip.compress(OBO.encode()))
    assert read_obo(packed).digest() == ontology.digest()


def test_a_default_namespace_counts_for_terms_without_one(tmp_path: Path) -> None:
    path = tmp_path / "go.obo"
    head, root = "default-namespace: molecular_function\n", f"[Term]\nid: {F}\nname: all\n"
    path.write_text(f"{head}\n{root}\n[Term]\nid: {ION}\nis_a: {F}\nname: ion\n")
    found = read_obo(path)
    assert (found.aspects, found.names, found.parents) == ("FF", ("ion", "all"), ((1,), ()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a\nMKT\n", "no OBO file (Tag-value pair parsing failed for); "),
        ("a: b\n\n[Term]\nname: x\n", "no OBO file ('id'); "),
        ("a: b\n", f"none of the roots {C}, {F}, {P} among 0 terms; "),
        ("a: b\n\n[Term]\nid: X:1\nnamespace: cell\n", f"none of the roots {C}, {F}, {P} among 0 terms; "),
        (OBO.replace(f"is_a: {F} ! m", f"is_a: {ZINC} ! m"), "term GO:0000003 contains itself; "),
    ],
)
def test_a_file_that_is_no_gene_ontology_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "go.obo"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_obo(path)
    assert str(caught.value) == f"{path}: {message}{FIX}"


def test_without_obonet_the_error_names_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['obonet'] = None\n"
        "from esmcls.errors import MissingExtraError\nfrom esmcls.labels.ontology import read_obo\n"
        "try:\n    read_obo('go.obo')\nexcept MissingExtraError as error:\n    print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "the Gene Ontology needs the package obonet; run: pip install 'esmcls[go]'\n"


def test_what_is_saved_is_loaded_the_same(ontology: Ontology, tmp_path: Path) -> None:
    ontology.save(tmp_path / "o.json")
    again = Ontology.load(tmp_path / "o.json")
    assert (again.terms, again.names, again.aspects) == (ontology.terms, ontology.names, ontology.aspects)
    assert (again.parents, again.others, again.digest()) == (ontology.parents, ontology.others, ontology.digest())


# propagation


def test_terms_go_up_both_sides_of_a_diamond_once(ontology: Ontology) -> None:
    sets = ontology.propagate([[ZINC], [NUCLEUS, NUCLEUS], [], ["GO:9999999"]])
    assert sets.names() == [(BINDING, ION, METAL, ZINC, F), (NUCLEUS, C), (), ()]
    assert dict(zip(sets.classes, sets.groups, strict=True))[NUCLEUS] == "C"


def test_what_is_learned_has_no_roots_and_may_be_left_as_listed(ontology: Ontology) -> None:
    rows = [[ZINC, ION, F], ["GO:0000020"], [C]]
    assert ontology.term_sets(rows).names() == [(BINDING, ION, METAL, ZINC), (BINDING, ION), ()]
    listed = ontology.term_sets(rows, propagate=False)
    assert (listed.names(), listed.classes, listed.groups) == ([(ION, ZINC), (ION,), ()], (ION, ZINC), ("F", "F"))


def test_no_proteins_have_no_terms(ontology: Ontology) -> None:
    assert (len(ontology.term_sets([])), ontology.term_sets([]).classes) == (0, ())


def test_more_proteins_than_a_block_holds_are_propagated_one_by_one(ontology: Ontology) -> None:
    pattern = [[ZINC], [], [NUCLEUS, TRANSPORT]]
    many = ontology.term_sets(pattern * 3000)
    assert many.names() == ontology.term_sets(pattern).names() * 3000


def test_a_parent_is_never_less_probable_than_its_child(ontology: Ontology) -> None:
    classes = (BINDING, METAL, NUCLEUS, ZINC)  # one side of the diamond is no class
    scores = np.array([[0.1, 0.2, 0.3, 0.9], [0.5, 0.4, 0.0, 0.1]], np.float32)
    raise_parents(scores, ontology.edges(classes))
    assert scores.tolist() == np.array([[0.9, 0.9, 0.3, 0.9], [0.5, 0.4, 0.0, 0.1]], np.float32).tolist()


# information accretion


def test_a_term_adds_the_bits_that_its_parents_together_leave_open(ontology: Ontology) -> None:
    proteins = [[ZINC]] + [[ION, METAL]] * 3 + [[ION]] * 2 + [[METAL]] * 2 + [[BINDING]] * 8 + [[NUCLEUS]] * 5
    labels = ontology.term_sets(proteins)
    bits = dict(zip(labels.classes, information_accretion(labels, ontology).tolist(), strict=True))
    assert bits == {
        BINDING: 0.0,  # all 16 proteins with the root of F
        ION: pytest.approx(log2(16 / 6)),
        METAL: pytest.approx(log2(16 / 6)),
        ZINC: pytest.approx(log2(4 / 1)),  # of 4 with both parents, not of 6 with either
        NUCLEUS: 0.0,
    }


def test_roots_among_the_labels_add_nothing_and_change_nothing(ontology: Ontology) -> None:
    proteins = [[ZINC], [ION], [METAL], [BINDING], [NUCLEUS]]
    whole, labels = ontology.propagate(proteins), ontology.term_sets(proteins)
    found = dict(zip(whole.classes, information_accretion(whole, ontology).tolist(), strict=True))
    assert [found.pop(root) for root in (F, C)] == [0.0, 0.0]
    assert list(found.values()) == information_accretion(labels, ontology).tolist()


def test_a_term_that_no_protein_has_adds_nothing(ontology: Ontology) -> None:
    labels = LabelSets.from_names([[BINDING], [BINDING, ION]], (BINDING, ION, NUCLEUS))
    assert information_accretion(labels, ontology).tolist() == [0.0, 1.0, 0.0]


def test_labels_that_are_not_propagated_are_refused(ontology: Ontology) -> None:
    labels = ontology.term_sets([[ZINC]], propagate=False)
    with pytest.raises(ValueError, match="GO:0000004 without a term that contains it; propagate the labels first"):
        information_accretion(labels, ontology)


def test_a_table_of_information_accretion_is_read_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "IA.tsv"
    path.write_text(f"{ION}\t1.5\n\n{ZINC}\t0.0\n{METAL}\t2e-1\n")
    assert read_ia(path, (METAL, ION)).tolist() == [0.2, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\tia\n", ":1: 'name\\tia'; write term<TAB>bits, not negative, one a line"),
        (f"{ION} 1.5 x\n", f":1: '{ION} 1.5 x'; write term<TAB>bits, not negative, one a line"),
        (f"{ION}\t1\n{ZINC}\t-1\n", f":2: '{ZINC}\\t-1'; write term<TAB>bits, not negative, one a line"),
        (f"{ION}\tnan\n", f":1: '{ION}\\tnan'; write term<TAB>bits, not negative, one a line"),
        (f"{ION}\t1\n{ION}\t2\n", f":2: 2 for {ION}, but 1 before; keep one"),
        (
            f"{METAL}\t1\n",
            f": no value for 1 of 2 terms ({ION}); give a table of the same ontology, or none: then it is computed "
            "from the training terms",
        ),
    ],
)
def test_a_table_of_information_accretion_that_cannot_be_used_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "IA.tsv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_ia(path, (ION, METAL))
    assert str(caught.value) == f"{path}{message}"


def test_a_table_of_information_accretion_may_have_a_header_other_ids_and_any_delimiter(tmp_path: Path) -> None:
    ontology = Ontology(("GO:1", "GO:2"), ("all", "some"), "FF", ((), (0,)), {"GO:9": "GO:2"})
    for text in ("term,ia\nGO:1,0\nGO:9,1.5\n", "GO:1\t0\nGO:9\t1.5\n", "GO:1 0\nGO:9 1.5\n"):
        (tmp_path / "ia.txt").write_text(text)
        assert read_ia(tmp_path / "ia.txt", ontology.terms, ontology).tolist() == [0, 1.5]


HEAD = "format-version: 1.2\nontology: go\n"
TERM = "\n[Term]\nid: {}\nname: {}\nnamespace: molecular_function\n{}"


def read_text(folder: Path, *terms: tuple[str, str]) -> Ontology:
    text = HEAD + TERM.format(F, "molecular_function", "") + "".join(TERM.format(id, id, rest) for id, rest in terms)
    (folder / "go.obo").write_text(text)
    return read_obo(folder / "go.obo")


@pytest.mark.parametrize(
    "edge",
    [
        "is_a: GO:0000001 ! one\n",
        "is_a: GO:0000001! one\n",
        "is_a: GO:0000001!one\n",
        'is_a: GO:0000001 {source="x"} ! one\n',
        "is_a: GO:0000001 one\n",
        "relationship: part_of GO:0000001 one\n",
        "relationship: part_of GO:0000001! one\n",
        "is_a: GO:0000008 ! another id of one\n",
        "is_a: GO:0000007 ! an id that was replaced twice\n",
    ],
)
def test_an_edge_is_read_however_its_line_is_written(edge: str, tmp_path: Path) -> None:
    replaced = "is_obsolete: true\nreplaced_by: {}\n"
    ontology = read_text(
        tmp_path,
        ("GO:0000001", f"alt_id: GO:0000008\nis_a: {F} ! molecular_function\n"),
        ("GO:0000002", edge),
        ("GO:0000006", replaced.format("GO:0000008")),
        ("GO:0000007", replaced.format("GO:0000006")),
    )
    assert ontology.propagate([["GO:0000002"]]).names() == [("GO:0000001", "GO:0000002", F)]
    assert ontology.others == dict.fromkeys(("GO:0000006", "GO:0000007", "GO:0000008"), "GO:0000001")
    assert ontology.notes == ()


def test_replacements_that_go_round_in_a_circle_are_of_no_term(tmp_path: Path) -> None:
    replaced = "is_obsolete: true\nreplaced_by: {}\n"
    ontology = read_text(tmp_path, ("GO:6", replaced.format("GO:7")), ("GO:7", replaced.format("GO:6")))
    assert ontology.others == {}


def test_an_edge_to_nowhere_is_told(tmp_path: Path) -> None:
    [note] = read_text(tmp_path, ("GO:0000002", "is_a: GO:0000005 ! nowhere\n")).notes
    assert note.startswith("warning: ontology: 1 edge to 1 term that are not in the file or obsolete (GO:0000005)")

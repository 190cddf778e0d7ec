"""GAF: annotations as databases give them out, read where a table of terms is; what cannot be read is one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from command import done, run
from gaf import gaf_row, write_gaf
from ontologies import BINDING, ION, MEMBRANE, ZINC, tiny_ontology, write_cafa, write_obo

from esmcls.errors import DataError, UnknownNameError
from esmcls.reading.annotations.evidence import CODES, EXPERIMENTAL, evidence_codes
from esmcls.reading.joined.term_tables import TermTable
from esmcls.reading.records import Tally
from esmcls.workspace.workspace import Workspace

ROW = gaf_row("P1", ZINC, "F")


def labels(path: Path, evidence: frozenset[str] = EXPERIMENTAL) -> dict[str, str]:
    table = TermTable.of([str(path)], tiny_ontology(), evidence)
    return {id_: label for id_, (label, *_) in table.labels.items()}


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2"])
def test_the_id_is_column_2_and_equal_rows_count_once(tmp_path: Path, version: str) -> None:
    rows = [ROW, ROW, gaf_row("P1", BINDING, "F", code="EXP"), gaf_row("P2", MEMBRANE, "C", qualifier="part_of")]
    path = write_gaf(tmp_path / "a.gaf", *rows, head=f"!gaf-version: {version}\n")
    assert labels(path) == {"P1": " ".join(sorted([ZINC, BINDING])), "P2": MEMBRANE}


def test_a_gaf_without_remarks_or_packed_is_one_too(tmp_path: Path) -> None:
    bare = write_gaf(tmp_path / "bare.txt", ROW, head="\n")
    packed = tmp_path / "goa.gaf.gz"
    packed.write_bytes(gzip.compress(bare.read_bytes()))
    assert labels(bare) == labels(packed) == {"P1": ZINC}


def test_the_last_two_columns_may_be_left_out(tmp_path: Path) -> None:
    assert labels(write_gaf(tmp_path / "a.gaf", ROW.rstrip("\t"))) == {"P1": ZINC}


def test_an_alternative_id_stands_for_its_term(tmp_path: Path) -> None:
    tree = tiny_ontology()
    tree.others["GO:0000009"] = ZINC  # type: ignore[index]
    path = write_gaf(tmp_path / "a.gaf", gaf_row("P1", "GO:0000009", "F"))
    assert TermTable.of([str(path)], tree).labels["P1"][0] == ZINC


def test_what_is_denied_not_known_or_of_other_evidence_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [
        ROW,
        gaf_row("P1", MEMBRANE, "C", qualifier="NOT|located_in"),
        gaf_row("P2", ION, "F", code="IEA"),
        gaf_row("P2", ION, "F", code="ISS"),
        gaf_row("P2", "GO:9999999", "F"),
    ]
    path = write_gaf(tmp_path / "a.gaf", *rows)
    table = TermTable.of([str(path)], tiny_ontology())
    assert list(table.labels) == ["P1"]
    table.tell(tally := Tally())
    told = "\n".join(tally.lines())
    assert f"{path}: 1 row left out, since a NOT in them says that they are not so (the first in line 5)" in told
    assert f"{path}: 2 rows left out, whose evidence does not count (1 IEA, 1 ISS); --evidence says which does" in told
    assert "1 row left out, of 1 term that the ontology does not know:\n  GO:9999999" in told


def test_evidence_is_what_cafa_takes_or_what_is_named(tmp_path: Path) -> None:
    path = write_gaf(tmp_path / "a.gaf", ROW, gaf_row("P2", ION, "F", code="IEA"), gaf_row("P3", ION, "F", code="TAS"))
    assert set(labels(path)) == {"P1", "P3"}
    assert set(labels(path, evidence_codes(["iea"]))) == {"P2"}
    assert set(labels(path, evidence_codes(["all"]))) == {"P1", "P2", "P3"}
    assert evidence_codes(["experimental", "IEA,ISS"]) == EXPERIMENTAL | {"IEA", "ISS"} < CODES
    with pytest.raises(UnknownNameError, match="evidence code 'IDEA'"):
        evidence_codes(["IDA,IDEA"])
    with pytest.raises(DataError, match="no row whose evidence counts; name the codes that do"):
        labels(path, frozenset({"IC"}))


def changed(column: int, text: str) -> str:
    cells = ROW.split("\t")
    cells[column - 1] = text
    return "\t".join(cells)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("P1\t" + ZINC, "2 columns instead of 15 to 17"),
        (ROW + "\tmore", "18 columns instead of 15 to 17"),
        (changed(2, " "), "no id in column 2"),
        (changed(4, "enabels"), "qualifier 'enabels' in column 4"),
        (changed(4, "NOT_enables"), "qualifier 'NOT_enables' in column 4"),
        (changed(5, "GO:12"), "term 'GO:12' in column 5"),
        (changed(7, ""), "evidence code '' in column 7"),
        (changed(7, "ABC"), "evidence code 'ABC' in column 7"),
        (changed(9, "MFO"), "aspect 'MFO' in column 9"),
        (changed(9, "C"), f"aspect C, but the ontology has {ZINC} in F"),
        (changed(13, "9606"), "taxon '9606' in column 13"),
        ("!gaf-version: 1.0", "GAF of version 1.0"),
    ],
)
def test_a_row_that_is_none_is_an_error_with_its_line(tmp_path: Path, row: str, problem: str) -> None:
    path = write_gaf(tmp_path / "a.gaf", ROW, row)
    with pytest.raises(DataError) as caught:
        labels(path)
    assert str(caught.value).startswith(f"{path}:5: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gaf_gives_the_labels_of_a_workspace_and_evidence_is_asked_for(tmp_path: Path) -> None:
    train, _, table = write_cafa(tmp_path)
    obo = write_obo(tmp_path / "go.obo")
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    gaf = write_gaf(tmp_path / "goa.gaf", *(gaf_row(*row, code="IEA") for row in rows))
    asked = ("embed", train, "--labels", gaf, "--obo", obo, "--encoder", "kmer", "--quiet", "-w")
    assert "no row whose evidence counts" in run(*asked, tmp_path / "none").err
    done(*asked, tmp_path / "gaf", "--evidence", "IEA")
    done("embed", train, "--labels", table, "--obo", obo, "--encoder", "kmer", "--quiet", "-w", tmp_path / "cafa")
    assert Workspace.open(tmp_path / "gaf").dataset.labels == Workspace.open(tmp_path / "cafa").dataset.labels
    ran = run("embed", train, "--labels", table, "--evidence", "IDA", "--encoder", "kmer", "-w", tmp_path / "no")
    assert (ran.code, ran.err) == (2, "esmcls: error: --evidence belongs to --obo FILE; give that, too\n")

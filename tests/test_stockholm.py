"""Alignments give their rows without gaps, labelled with the family."""

from __future__ import annotations

import pytest

from esmcls.errors import DataError
from esmcls.reading.records import RawRecord
from esmcls.reading.stockholm import read_stockholm

SEED = """\
# STOCKHOLM 1.0
#=GF ID   14-3-3
#=GF AC   PF00244.25
#=GF RA   Schütz M;
#=GS A_HUMAN/1-6   AC P1.1
A_HUMAN/1-6    MK..TA-yi
#=GR A_HUMAN/1-6 SS  CCCCC
B_MOUSE/2-5    .KAA..TY.
//
# STOCKHOLM 1.0
#=GF AC   PF00001.26
C_RAT/1-3      MKT
//
"""


def entries(text: str) -> list[RawRecord | DataError]:
    return list(read_stockholm(iter(text.splitlines(keepends=True)), "Pfam-A.seed"))


def test_each_row_of_each_alignment_has_its_accession() -> None:
    found = [entry[:5] for entry in entries(SEED) if isinstance(entry, RawRecord)]
    assert found == [
        ("A_HUMAN/1-6", "PF00244.25", None, 6, ["MK..TA-yi"]),
        ("B_MOUSE/2-5", "PF00244.25", None, 8, [".KAA..TY."]),
        ("C_RAT/1-3", "PF00001.26", None, 12, ["MKT"]),
    ]


def test_rows_of_later_blocks_go_on_with_those_of_earlier_ones() -> None:
    text = "# STOCKHOLM 1.0\n#=GF AC PF1.1\na  MK-\nb  AAA\n\na  TYI\nb  -W-\n//\n"
    found = [(entry.id, entry.texts, entry.lines) for entry in entries(text) if isinstance(entry, RawRecord)]
    assert found == [("a", ["MK-", "TYI"], [3, 6]), ("b", ["AAA", "-W-"], [4, 7])]


def test_a_name_met_twice_in_one_block_is_two_records() -> None:
    text = "# STOCKHOLM 1.0\n#=GF AC PF1.1\na  MKT\na  AAA\n\na  W\na  Y\n//\n"
    found = [(entry.id, entry.texts) for entry in entries(text) if isinstance(entry, RawRecord)]
    assert found == [("a", ["MKT", "W"]), ("a", ["AAA", "Y"])]


def test_an_accession_does_not_reach_into_the_next_alignment() -> None:
    text = "# STOCKHOLM 1.0\n#=GF AC PF1.1\na M\n//\n# STOCKHOLM 1.0\nb M\n//\n"
    assert [entry.label for entry in entries(text) if isinstance(entry, RawRecord)] == ["PF1.1", None]


def test_an_alignment_without_end_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        entries(SEED[: SEED.rindex("//")])
    assert str(caught.value) == ("Pfam-A.seed:12: the last alignment has no end; add // or fetch the file again")


def test_a_row_of_more_words_is_an_error() -> None:
    [error, entry] = entries("# STOCKHOLM 1.0\n#=GF AC PF1.1\na MK TY\nb MK\n//\n")
    assert isinstance(entry, RawRecord)
    assert str(error) == ("Pfam-A.seed:3: record 'a': a row of 3 words; write a name, blanks and aligned residues")

"""Residues are checked and told about; nothing is changed in silence."""

from __future__ import annotations

import dataclasses

import pytest

from esmcls.errors import DataError, EsmclsError, SequenceError
from esmcls.reading.records import RESIDUES, BadRecord, Protein, Tally, clean_sequence, part_of


@pytest.mark.parametrize(
    ("text", "sequence", "replaced"),
    [
        ("MKT", "MKT", 0),
        ("mKt", "MKT", 0),
        ("MKT*", "MKT", 0),
        ("MKT**", "MKT", 0),
        ("MJJT", "MXXT", 2),
        ("jM", "XM", 1),
        (RESIDUES, RESIDUES, 0),
        ("ubzox", "UBZOX", 0),
    ],
)
def test_a_sequence_is_upper_case_without_stop_and_with_j_as_x(text: str, sequence: str, replaced: int) -> None:
    assert clean_sequence(text) == (sequence, replaced)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MK-T", "residue 3: gap sign '-'; use the 20 amino acids and X B U Z O alone"),
        (".MK", "residue 1: gap sign '.'; use the 20 amino acids and X B U Z O alone"),
        ("M*KT", "residue 2: sign '*', which is no amino acid; use the 20 amino acids and X B U Z O alone"),
        ("M KT", "residue 2: sign ' ', which is no amino acid; use the 20 amino acids and X B U Z O alone"),
        ("MK7", "residue 3: sign '7', which is no amino acid; use the 20 amino acids and X B U Z O alone"),
        ("MKß", "residue 3: letter 'ß', which is no amino acid; use the 20 amino acids and X B U Z O alone"),
        ("jM?", "residue 3: sign '?', which is no amino acid; use the 20 amino acids and X B U Z O alone"),
        ("", "no residues; give a sequence or leave the record out"),
        ("*", "no residues; give a sequence or leave the record out"),
    ],
)
def test_any_other_sign_is_an_error_that_says_where_it_stands(text: str, message: str) -> None:
    with pytest.raises(SequenceError) as caught:
        clean_sequence(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, EsmclsError)


@pytest.mark.parametrize("sign", [chr(code) for code in range(128)])
def test_each_ascii_sign_is_either_a_letter_or_an_error(sign: str) -> None:
    if sign.isalpha():
        assert len(clean_sequence(f"M{sign}M")[0]) == 3
    else:
        with pytest.raises(SequenceError, match=r"^residue 2: "):
            clean_sequence(f"M{sign}M")


def test_a_protein_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Protein("a", "MKT").sequence = "M"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("TRAIN", "train"),
        ("dev", "validation"),
        ("val", "validation"),
        ("valid", "validation"),
        ("validation", "validation"),
        ("test", "test"),
        ("tests", None),
        ("", None),
    ],
)
def test_words_for_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_a_tally_tells_each_fact_in_a_line_of_its_own() -> None:
    error = DataError("a.fasta", "gap sign '-'", "use residues", line=3, column=7, record="x")
    tally = Tally(records=1_300_000, j_replaced=2, duplicate_ids=1, unused_labels=3, unread=["d/README", "d/a.pdf"])
    tally.bad.append(BadRecord.of(error))
    tally.bad.append(BadRecord(None, "b.csv", 9, None, "2 cells, where the header has 3"))
    assert tally.lines() == [
        "1,300,000 records read",
        "2 residues J read as X",
        "1 record with the id of an earlier one; all kept",
        "3 labels without a record",
        "2 records left out:",
        "  a.fasta:3:7: record 'x': gap sign '-'",
        "  b.csv:9: 2 cells, where the header has 3",
        "2 files not read: d/README, d/a.pdf",
    ]


def test_an_uneventful_tally_tells_the_number_of_records_alone() -> None:
    assert Tally(records=1).lines() == ["1 record read"]

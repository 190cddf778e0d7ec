"""FASTA entries are what stands in the file, whatever its width."""

from __future__ import annotations

from pathlib import Path

import dnaio
import pytest

from esmcls.errors import DataError
from esmcls.reading.fasta import read_fasta
from esmcls.reading.readers import read_records
from esmcls.reading.records import Protein, RawRecord


def entries(text: str) -> list[RawRecord | DataError]:
    return list(read_fasta(iter(text.splitlines(keepends=True)), "a.fasta"))


def only(text: str) -> RawRecord:
    [entry] = entries(text)
    assert isinstance(entry, RawRecord)
    return entry


def test_a_wrapped_sequence_keeps_all_its_lines() -> None:
    entry = only("\n>a first\nMKT\n\nAYI\nAK \n")
    assert (entry.id, "".join(entry.texts), entry.line) == ("a", "MKTAYIAK", 2)
    assert list(zip(entry.lines, entry.texts, strict=True)) == [(3, "MKT"), (4, ""), (5, "AYI"), (6, "AK")]


@pytest.mark.parametrize(
    ("header", "id_"),
    [
        (">sp|P12345|AATM_RABIT Aspartate aminotransferase OS=Oryctolagus GN=SET", "sp|P12345|AATM_RABIT"),
        (">Y1/2.b:c,d;e", "Y1/2.b:c,d;e"),
        ("> a b", "a"),
        (">a\tb", "a"),
        (">>a", ">a"),
    ],
)
def test_the_id_is_the_first_word_of_the_header_verbatim(header: str, id_: str) -> None:
    assert only(f"{header}\nMKT\n").id == id_


@pytest.mark.parametrize(
    ("header", "description"),
    [(">a", ""), (">a  one of\tmany \r", "one of\tmany"), (">a TARGET=x SET=test", "TARGET=x SET=test")],
)
def test_what_stands_behind_the_id_is_the_description_which_makes_no_difference(header: str, description: str) -> None:
    assert only(f"{header}\nMKT\n").description == description
    assert Protein("a", "MKT", description) == Protein("a", "MKT")


@pytest.mark.parametrize(
    ("header", "label", "part"),
    [
        (">a TARGET=1.10.10.10 SET=train VALIDATION=False", "1.10.10.10", "train"),
        (">a TARGET=PF00001.26 SET=train VALIDATION=True", "PF00001.26", "validation"),
        (">a SET=val TARGET=x", "x", "validation"),
        (">a TARGET=x SET=test", "x", "test"),
        (">a TARGET=x SET=pred", "x", None),
        (">a TARGET=x", "x", None),
        (">a SET=test", None, "test"),
        (">a OFFTARGET=x", None, None),
    ],
)
def test_headers_give_label_and_part(header: str, label: str | None, part: str | None) -> None:
    entry = only(f"{header}\nMKT\n")
    assert (entry.id, entry.label, entry.part) == ("a", label, part)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a\nMKT\n>\nMKT\n", "a.fasta:3: a header without an id; write >id"),
        (">a TARGET=x SET=tset\nM\n", "a.fasta:1: record 'a': SET=tset; write SET=train, SET=val or SET=test"),
        (
            ">a TARGET=x\nM\n>b\nM\n",
            "a.fasta:3: record 'b': no TARGET= in its header, but earlier records have one; "
            "give every record a TARGET= or none",
        ),
        (
            ">a\nM\n>b TARGET=x\nM\n",
            "a.fasta:3: record 'b': TARGET=, but earlier records have none; give every record a TARGET= or none",
        ),
    ],
)
def test_a_header_that_cannot_be_used_gives_its_error(text: str, message: str) -> None:
    assert str(entries(text)[-1]) == message


def test_all_entries_are_as_dnaio_reads_them(tmp_path: Path, shared: Path | None) -> None:
    path = tmp_path / "wrapped.fasta"
    path.write_text("".join(f">id{n} text\n{'MKTAYIAKQR' * (n % 9)}\nW\n" for n in range(500)))
    if shared is not None:
        path = shared / "data/go/test_sequences.fasta.gz"
    with dnaio.open(path) as reader:
        expected = [(record.id, record.sequence) for record in reader]
    assert [(record.protein.id, record.protein.sequence) for record in read_records(path)] == expected

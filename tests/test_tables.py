"""Tables are read by their header, labels are joined by id, and a crooked row is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmcls.errors import DataError
from esmcls.reading.joined.label_tables import LabelTable
from esmcls.reading.records import RawRecord
from esmcls.reading.tables import TableLayout, read_table, table_layout

TWICE = "records are joined by id, so give each its own"


def entries(text: str) -> list[RawRecord | DataError]:
    lines = text.splitlines(keepends=True)
    layout = table_layout(lines[0])
    assert layout is not None
    return list(read_table(iter(lines), "a.csv", layout))


@pytest.mark.parametrize(
    ("header", "layout"),
    [
        (
            "family_id,sequence_name,family_accession,aligned_sequence,sequence",
            TableLayout(",", 5, sequence=4, label=2, id=1, part=None),
        ),
        ("sequence_name,family_accession,sequence", TableLayout(",", 3, sequence=2, label=1, id=0, part=None)),
        ("sequence\tlabel\tid\tsplit", TableLayout("\t", 4, sequence=0, label=1, id=2, part=3)),
        ("Entry\tProtein names, alternative\tSequence", TableLayout("\t", 3, sequence=2, label=None, id=0, part=None)),
        ('"id", "sequence", "set"\n', TableLayout(",", 3, sequence=1, label=None, id=0, part=2)),
        ("part;sequence", TableLayout(";", 2, sequence=1, label=None, id=None, part=0)),
        ("label,family_accession,sequence", TableLayout(",", 3, sequence=2, label=0, id=None, part=None)),
        ("sequence\n", TableLayout("\t", 1, sequence=0, label=None, id=None, part=None)),
    ],
)
def test_columns_are_found_by_name_in_any_order(header: str, layout: TableLayout) -> None:
    assert table_layout(header) == layout


@pytest.mark.parametrize("header", ["", "id,label", "aligned_sequence,label", "MKTAYIAK", "x" * 200_000])
def test_a_line_without_a_sequence_column_is_no_header(header: str) -> None:
    assert table_layout(header) is None


def test_a_needed_column_named_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="two columns named sequence"):
        table_layout("id,sequence,sequence")


def test_rows_give_id_label_part_and_sequence() -> None:
    [first, second] = entries("id,split,label,sequence\nx|1,dev, PF1.2 ,MKT \ny,,PF2.1,AYI\n")
    assert first == RawRecord("x|1", "PF1.2", "validation", 2, ("MKT",), (2,))
    assert second == RawRecord("y", "PF2.1", None, 3, ("AYI",), (3,))


def test_without_an_id_column_the_id_is_the_number_of_the_row() -> None:
    found = entries("label,sequence\nPF1,MKT\n\nPF2,AYI\n")
    assert [(entry.id, entry.line) for entry in found if isinstance(entry, RawRecord)] == [("1", 2), ("2", 4)]


def test_a_cell_over_two_lines_does_not_shift_line_numbers() -> None:
    found = entries('sequence,id,note\nMKT,a,"two\nlines"\nAYI,b,"say ""x"", y"\n')
    assert [(entry.id, entry.line) for entry in found if isinstance(entry, RawRecord)] == [("a", 2), ("b", 4)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x,PF1,MKT", "a.csv:3: 3 cells, where the header has 4; give each row as many cells as the header"),
        ("x,PF1,MKT,,", "a.csv:3: 5 cells, where the header has 4; give each row as many cells as the header"),
        ("x,PF1,MKT,tset", "a.csv:3: record 'x': part 'tset'; write train, validation or test"),
    ],
)
def test_a_crooked_row_gives_its_error_and_reading_goes_on(row: str, message: str) -> None:
    [_, error, last] = entries(f"id,label,sequence,part\na,PF1,MKT,train\n{row}\nb,PF1,MKT,test\n")
    assert str(error) == message
    assert isinstance(last, RawRecord)
    assert (last.id, last.line) == ("b", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,sequence\n", "a.csv:1: a header and no rows; give records below it"),
        (
            'id,sequence\na,MKT\n"b,MKT\nc,MKT\n',
            "a.csv:3: a row that cannot be read (unexpected end of data); close or double its quotes",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        entries(text)
    assert str(caught.value) == message


def label_table(folder: Path, text: str) -> LabelTable:
    path = folder / "labels.tsv"
    path.write_text(text)
    return LabelTable.read([str(path)])


@pytest.mark.parametrize(
    "text",
    [
        "a\t1.10\nb\t2.40 x\n",
        "id\tlabel\na\t1.10\nb\t2.40 x\n",
        "\nid\tlabel\r\n\r\na\t1.10\r\nb\t2.40 x\r\n",
        "note\tfamily_accession\tsequence_name\n-\t1.10\ta\n\t2.40 x\tb\n",
        "id,label\na,1.10\nb,2.40 x\n",
        "\ufeffa\t1.10\nb\t2.40 x",
    ],
)
def test_a_label_table_may_have_a_header_and_other_columns(tmp_path: Path, text: str) -> None:
    table = label_table(tmp_path, text)
    assert {id_: label for id_, (label, _, _) in table.labels.items()} == {"a": "1.10", "b": "2.40 x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\tx\nb\ty\na\tx\n",
            ":3: record 'a': this id stands at {0}:1 too; " + TWICE,
        ),
        ("a\tx\nb\t \n", ":2: record 'b': no label; give each id a label"),
        ("a\tx\nb\n", ":2: 1 cells instead of 2; give id<TAB>label, one a line"),
        (
            "EntryID\tterm\taspect\na\tGO:1\tF\n",
            ":1: a table of Gene Ontology terms, several a protein; give the ontology, too: --obo FILE "
            "(with esmcls embed, evaluate or data stats)",
        ),
        ("id\tlabel\n", ": no labels; give id<TAB>label, one a line"),
        ("", ": no labels; give id<TAB>label, one a line"),
    ],
)
def test_a_label_table_that_cannot_be_joined_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        label_table(tmp_path, text)
    path = str(tmp_path / "labels.tsv")
    assert str(caught.value) == path + message.format(path)


def test_an_id_in_two_label_tables_is_an_error_naming_both(tmp_path: Path) -> None:
    paths = [tmp_path / "one.tsv", tmp_path / "two.tsv"]
    paths[0].write_text("b\tx\na\tx\n")
    paths[1].write_text("a\ty\n")
    with pytest.raises(DataError) as caught:
        LabelTable.read(map(str, paths))
    assert str(caught.value) == (f"{paths[1]}:1: record 'a': this id stands at {paths[0]}:2 too; {TWICE}")


def test_labels_without_a_record_are_counted(tmp_path: Path) -> None:
    table = label_table(tmp_path, "a\tx\nb\ty\nc\ty\n")
    assert table.join(RawRecord("b", None, None, 1, ("M",), (2,)), "a.fasta") == RawRecord(
        "b", "y", None, 1, ("M",), (2,)
    )
    assert table.unused() == 2

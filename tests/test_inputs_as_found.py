"""Inputs as they are found in the world: nothing of them is lost or turned round in silence."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import done, run
from ontologies import BINDING, NUCLEUS, tiny_ontology

from esmcls.datasets.clusters import read_clusters
from esmcls.datasets.dataset import build
from esmcls.errors import DataError, UsageError
from esmcls.reading.ids import RULES, IdJoin
from esmcls.reading.inputs import Inputs
from esmcls.reading.joined.label_tables import LabelTable
from esmcls.reading.readers import find_sources, read_records
from esmcls.reading.records import Protein, Record, Tally
from esmcls.reading.rows import clean_cell, read_rows


def put(path: Path, text: str, pack: Any = bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(text.encode()))
    return path


def rows(text: str, delimiter: str) -> list[list[str]]:
    return [cells for _, cells in read_rows(iter(text.splitlines(keepends=True)), "a", delimiter)]


def read(path: Path, **options: Any) -> tuple[list[tuple[str, str, str | None]], list[str]]:
    """Return id, sequence and label of the records, and what is told but for their number."""
    tally = Tally()
    records = [(r.protein.id, r.protein.sequence, r.label) for r in read_records(path, tally=tally, **options)]
    return records, [line.replace(f"{path.parent}/", "") for line in tally.lines()[1:]]


def error_of(call: Any) -> str:
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value)


# rows


def test_a_quote_in_a_tab_separated_table_is_a_sign_like_any_other() -> None:
    text = 'id\tnote\na\t"Fragment\nb\tsay "x"\nc\t"whole"\nd\tend"\n'
    assert rows(text, "\t") == [
        ["id", "note"],
        ["a", '"Fragment'],
        ["b", 'say "x"'],
        ["c", '"whole"'],
        ["d", 'end"'],
    ]


def test_a_table_of_r_with_every_cell_of_its_header_quoted_is_read_without_quotes() -> None:
    assert rows('"id"\t"label"\n"a"\t"x ""y"""\n"b"\tz\n', "\t") == [["id", "label"], ["a", 'x "y"'], ["b", "z"]]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_quotes_hold_delimiters_and_line_ends_in_all_other_tables(delimiter: str) -> None:
    text = 'id,note\na,"x, y"\nb,"two\nlines"\nc,"say ""x"""\n'.replace(",", delimiter)
    assert rows(text, delimiter) == [
        ["id", "note"],
        ["a", f"x{delimiter} y"],
        ["b", "two\nlines"],
        ["c", 'say "x"'],
    ]


def test_a_cell_of_any_length_is_read() -> None:
    long = "M" * 300_000
    assert rows(f'id,sequence\na,"{long}"\nb,{long}\n', ",") == [["id", "sequence"], ["a", long], ["b", long]]


def test_rows_without_anything_in_them_are_passed_over() -> None:
    assert rows("id,note\n,\na,x\n , \n", ",") == [["id", "note"], ["a", "x"]]


def test_a_quoted_cell_that_has_swallowed_rows_is_an_error() -> None:
    text = 'id,label,note\na,x,"5\nb,x,y\nc,x,"\n'
    assert error_of(lambda: rows(text, ",")) == (
        "a:2: a quoted cell with 1 row of the table in it; close or double its quotes"
    )


@pytest.mark.parametrize("text", ["a ", "\u00a0a", "a\u200b", "\ufeff a\u3000", "a\t"])
def test_blanks_at_the_ends_of_a_cell_are_cut_whatever_their_width(text: str) -> None:
    assert clean_cell(text) == "a"


# records


def test_a_tab_separated_set_keeps_all_its_rows(tmp_path: Path) -> None:
    body = "".join(f"p{n}\tMKT\tF{n % 3}\t{note}\n" for n, note in enumerate(["x", '"Fragment', "y", '"', "z"]))
    records, _ = read(put(tmp_path / "set.tsv", "id\tsequence\tlabel\tnote\n" + body))
    assert [id for id, *_ in records] == ["p0", "p1", "p2", "p3", "p4"]


def test_a_cell_with_a_line_end_is_told(tmp_path: Path) -> None:
    records, told = read(put(tmp_path / "set.csv", 'id,sequence,note\na,MKT,"two\nlines"\nb,MKV,\n'))
    assert len(records) == 2
    assert told == ["set.csv: 1 row with a cell over several lines (the first in line 2)"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["sequence", "seq"])
def test_a_header_repeated_inside_is_passed_over_and_told(tmp_path: Path, pack: Any, name: str) -> None:
    text = f"id,{name},family_accession\na,MKT,F1\n"
    records, told = read(put(tmp_path / "set.csv", text + text.replace("a,MKT", "b,MKV"), pack))
    assert records == [("a", "MKT", "F1"), ("b", "MKV", "F1")]
    assert told == ["set.csv: 1 row equal to the header passed over (the first in line 3)"]


def test_another_header_inside_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path / "set.csv", "id,sequence,label\na,MKT,F1\nlabel,id,sequence\nF1,b,MKV\n")
    fix = "give each table a file of its own"
    assert error_of(lambda: read(path)) == f"{path}:3: another header than the first line's; {fix}"


def test_a_protein_whose_sequence_reads_seq_is_one(tmp_path: Path) -> None:
    assert read(put(tmp_path / "set.csv", "id,seq\na,SEQ\n"))[0] == [("a", "SEQ", None)]


@pytest.mark.parametrize(
    ("header", "label"),
    [
        ("Entry,Sequence,Class", "F1"),
        ("id,protein_sequence,family", "F1"),
        ("Protein ID,sequence,target", "F1"),
        ("id,sequence,family_id", "F1"),
        ("id,sequence,remark", None),
    ],
)
def test_columns_have_many_names(tmp_path: Path, header: str, label: str | None) -> None:
    assert read(put(tmp_path / "set.csv", f"{header}\na,MKT,F1\n"))[0] == [("a", "MKT", label)]


def test_flips_column_of_validation_stands_beside_its_set(tmp_path: Path) -> None:
    text = "sequence,target,set,validation\nMKT,x,train,\nMKV,x,train,True\nMKL,y,test,False\n"
    parts = [record.part for record in read_records(put(tmp_path / "set.csv", text))]
    assert parts == ["train", "validation", "test"]


def test_embed_says_which_columns_it_took_and_which_not(tmp_path: Path) -> None:
    path = put(
        tmp_path / "set.csv", "Entry,Sequence,cluster,function\n" + "".join(f"p{n},MK{'A' * n},c,f\n" for n in range(9))
    )
    told = done("embed", path, "--encoder", "composition", "-w", tmp_path / "w").err.splitlines()
    assert told[1:3] == [
        f"esmcls: {path}: id from 'Entry', sequence from 'Sequence', label from 'cluster'; not read: 'function'",
        "esmcls: dataset: 1 class; records: 7 train, 1 validation, 1 test",
    ]


def test_fit_after_a_set_without_labels_says_where_none_were_found(tmp_path: Path) -> None:
    path = put(tmp_path / "set.csv", "Entry,Sequence,remark\na,MKT,x\n")
    told = done("embed", path, "--encoder", "composition", "-w", tmp_path / "w").err.splitlines()
    assert f"no labels in {path} among the columns Entry, Sequence, remark" in told[-1]
    assert f"no labels were found in {path}" in run("fit", "-w", tmp_path / "w").err


# labels


NOT_SO = "1 row left out, since a NOT in them says that they are not so (the first in line 3)"


def test_rows_of_terms_that_say_not_are_left_out_and_told(tmp_path: Path) -> None:
    fasta = put(tmp_path / "s.fasta", ">a\nMKT\n")
    text = f"EntryID\tterm\tqualifier\na\t{BINDING}\tenables\na\t{NUCLEUS}\tNOT|located_in\n"
    labels = put(tmp_path / "t.tsv", text)
    [(*_, label)], told = read(fasta, labels=labels, ontology=tiny_ontology())
    assert label == BINDING
    assert told == [f"t.tsv: {NOT_SO}"]


def test_a_label_that_is_denied_is_none(tmp_path: Path) -> None:
    labels = put(tmp_path / "l.tsv", "id\tlabel\tqualifier\na\tF1\t\nb\tF2\tNOT|part_of\n")
    fasta = put(tmp_path / "s.fasta", ">a\nMKT\n>b\nMKV\n")
    assert "record 'b': no label in the labels table" in error_of(lambda: read(fasta, labels=labels))
    table = put(tmp_path / "s.csv", "id,sequence,label,qualifier\na,MKT,F1,NOT\n")
    assert "qualifier 'NOT' says that its label is not so" in error_of(lambda: read(table))


def test_a_table_of_labels_may_have_parts(tmp_path: Path) -> None:
    labels = put(tmp_path / "l.csv", "id,label,split\na,F1,train\nb,F1,test\n")
    records = read_records(put(tmp_path / "s.fasta", ">a\nMKT\n>b\nMKV\n"), labels=labels)
    assert [record.part for record in records] == ["train", "test"]


@pytest.mark.parametrize("text", ["a \tF1\u00a0\n", "a,F1\n", "a;F1\n", "a F1\n", '"a","F1"\n'])
def test_a_label_table_has_any_delimiter_and_no_blanks_at_the_ends(tmp_path: Path, text: str) -> None:
    table = LabelTable.read([str(put(tmp_path / "l.txt", text))])
    assert {id: label for id, (label, *_) in table.labels.items()} == {"a": "F1"}


def labelled(labels: list[str], sequences: list[str]) -> list[Record]:
    pairs = zip(labels, sequences, strict=True)
    return [Record(Protein(str(n), sequence), label, None, "s.csv", n) for n, (label, sequence) in enumerate(pairs)]


def test_codes_with_commas_between_are_refused_with_what_to_write_between() -> None:
    records = labelled(["GO:0003674,GO:0005488", "x", "y"], ["MKTAYIAKQR" + "A" * n for n in range(3)])
    assert error_of(lambda: build(records)) == (
        "s.csv: label 'GO:0003674,GO:0005488' lists 2 codes with commas between (1 such label); put ; or | between the "
        "labels of a protein (Gene Ontology terms: a row for each, and --obo)"
    )


@pytest.mark.parametrize(
    "labels",
    [
        ["1.10.8.10", "3.40.50.300", "2.40.50.140"],
        ["1.1.1.1", "2.3.1.-", "3.6.4.n1"],
        ["0", "1", "2"],
        ["1,3-beta-glucanase", "2,3-dehydratase", "a, b"],
        ["PF00001.21", "PF00002", "7tm_1"],
        ["all alpha", "all beta", "HTH"],
    ],
)
def test_codes_and_a_handful_of_numbers_are_classes(labels: list[str]) -> None:
    records = [
        Record(Protein(str(n), "MKTAYIAKQRQIW" + "A" * n), label, None, "s.csv", n)
        for n, label in enumerate(labels * 3)
    ]
    assert set(build(records).dataset.labels) == set(labels)


# folders


def test_hidden_files_and_backups_of_a_folder_are_left_out_and_told(tmp_path: Path) -> None:
    text = "id,sequence,label\na,MKT,F1\n"
    names = (".ipynb_checkpoints/a-checkpoint.csv", "a.csv~", "a.csv.bak", ".a.csv", "#a.csv#")
    for name in ("a.csv", "sub/b.csv", *names):
        put(tmp_path / "d" / name, text)
    tally = Tally()
    paths = [record.path for record in read_records(tmp_path / "d", tally=tally)]
    assert paths == [str(tmp_path / "d/a.csv"), str(tmp_path / "d/sub/b.csv")]
    assert sorted(tally.hidden) == sorted(str(tmp_path / "d" / name.split("/", maxsplit=1)[0]) for name in names)
    assert f"  {tmp_path}/d/sub/b.csv: 1 record" in tally.source_lines()


def test_links_are_followed_and_each_file_is_read_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/train/a.csv", "id,sequence\na,MKT\n")
    put(tmp_path / "d/b.csv", "id,sequence\nb,MKT\n")
    (tmp_path / "d/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d/round").symlink_to(tmp_path / "d")
    (tmp_path / "d/c.csv").symlink_to(tmp_path / "d/b.csv")
    tally = Tally()
    records = [(record.protein.id, record.part) for record in read_records(tmp_path / "d", tally=tally)]
    assert records == [("b", None), ("a", "train")]
    assert [Path(name).name for name in tally.hidden] == ["round", "c.csv"]


@pytest.mark.parametrize(
    ("folder", "item"),
    [("", "train"), ("train", "."), ("", "train/a.csv"), ("train", "a.csv"), ("test", "../train/a.csv")],
)
def test_a_part_does_not_depend_on_how_a_path_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, item: str
) -> None:
    for name in ("train", "test"):
        put(tmp_path / name / "a.csv", "id,sequence\na,MKT\n")
    monkeypatch.chdir(tmp_path / folder)
    assert [source.part for source in find_sources(item)] == ["train"]


# joins


@pytest.mark.parametrize(
    ("theirs", "ours", "rule"),
    [
        ("P69905", "sp|P69905|HBA_HUMAN", "by UniProt's accession"),
        ("sp|P69905|HBA_HUMAN Hemoglobin subunit", "P69905", "by the id that MMseqs2 takes of a header"),
        ("a some text", "a", "by the first word"),
        ("1abc", "pdb|1abc|A", "by the id that MMseqs2 takes of a header"),
        ("1ABC:A", "1abc_A", "by entry and chain of the PDB"),
        ("AF-P69905-F1-model_v4", "P69905", "by the accession of AlphaFold's model"),
        ("P1_2-9", "P1/2-9", "with _ for / and ."),
        ("a ", "a", "as they are"),
    ],
)
def test_ids_are_joined_as_tools_write_them(theirs: str, ours: str, rule: str) -> None:
    for first, second in ((theirs, ours), (ours, theirs)):
        join = IdJoin([first, "other"])
        assert join.find(second) == first
        assert join.matched == Counter([rule])


@pytest.mark.parametrize(("first", "second"), [("10001", "1000_1"), ("P1", "P2"), ("a.b", "ab"), ("1abcA", "1abcB")])
def test_ids_of_two_proteins_are_not_joined(first: str, second: str) -> None:
    assert IdJoin([first]).find(second) is None


def test_an_id_with_two_partners_by_a_rule_has_none_by_it() -> None:
    assert IdJoin(["pdb|1abc|A", "pdb|1abc|B"]).find("1abc") is None
    assert len(RULES) == 7


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_clusters_of_mmseqs_are_joined_by_accession(tmp_path: Path, pack: Any) -> None:
    table = put(tmp_path / "clu.tsv", "P1\tP1\nP1\tP2\nP3\tP3\n", pack)
    ids = [f"sp|P{n}|X_HUMAN" for n in (1, 2, 3)]
    tally = Tally()
    assert list(read_clusters(table, ids, tally).values()) == ["P1", "P1", "P3"]
    assert tally.lines()[1:] == ["3 ids joined to clusters by UniProt's accession"]


# what is no protein


@pytest.mark.parametrize(
    ("sequence", "look"),
    [("ATGAAAACCGCGTAT", "DNA or RNA"), ("AUGAAAACCGCGUAU", "DNA or RNA"), ("MetLysThrAlaTyr", "three-letter code")],
)
def test_a_set_that_looks_like_no_proteins_is_told_and_read(tmp_path: Path, sequence: str, look: str) -> None:
    records, told = read(put(tmp_path / "s.fasta", f">a\n{sequence}\n>b\n{sequence}A\n".replace("TyrA", "TyrAla")))
    assert len(records) == 2
    assert f"warning: 2 of 2 sequences look like {look}" in told[0]


def test_a_protein_of_few_letters_among_others_is_not_told(tmp_path: Path) -> None:
    assert read(put(tmp_path / "s.fasta", ">a\nGAGAGAGAGAGAGAG\n>b\nMKTAYIAKQRQISF\n>c\nMKV\n"))[1] == []


def test_pir_is_told_as_what_it_is(tmp_path: Path) -> None:
    path = put(tmp_path / "s.pir", ">P1;HBA_HUMAN\nHemoglobin\nMVLSPADKTN*\n")
    assert "record 'P1;HBA_HUMAN': a header of PIR (NBRF) format, not FASTA" in error_of(lambda: read(path))


# a text where a list is expected


@pytest.mark.parametrize(
    "call",
    [
        lambda: Inputs("a.csv"),  # type: ignore[arg-type]
        lambda: Inputs(("a.csv",), validation="b.csv"),  # type: ignore[arg-type]
        lambda: LabelTable.read("labels.tsv"),
        lambda: build("MKT"),  # type: ignore[arg-type]
        lambda: read_records([None]),  # type: ignore[list-item]
        lambda: read_records(["a.csv", ""]),
        lambda: read_records(7),  # type: ignore[arg-type]
    ],
)
def test_one_text_or_nothing_instead_of_a_list_is_refused(call: Any) -> None:
    with pytest.raises(UsageError):
        call()

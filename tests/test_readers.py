"""Every input format gives the same records, and every bad input one clear line."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.errors import DataError, UnknownNameError
from esmcls.reading.readers import read_records
from esmcls.reading.records import RESIDUES, Protein, Record, Tally

FORMATS = "FASTA, Pfam's Stockholm, or CSV or TSV with a header that names a column sequence"
GOOGLE = "family_id,sequence_name,family_accession,aligned_sequence,sequence\n"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(path: Path | list[Path], **options: Any) -> str:
    """Return the message of the error that reading ends in, without the folder."""
    with pytest.raises(DataError) as caught:
        list(read_records(path, **options))
    folder = path[0].parent if isinstance(path, list) else path.parent
    return str(caught.value).replace(f"{folder}/", "")


def short(records: Iterator[Record]) -> list[tuple[str, str, str | None, str | None]]:
    return [(record.protein.id, record.protein.sequence, record.label, record.part) for record in records]


SAME = [("a", "MKTAYI", "F1", None), ("b", "AKQR", "F2", None)]
SAME_FILES = {
    "target.fasta": ">a TARGET=F1\nMKT\nayi\n>b TARGET=F2\nAKQR*\n",
    "table.csv": "id,label,sequence\na,F1,MKTAYI\nb,F2,AKQR\n",
    "shard": GOOGLE + "one,a,F1,MKT.AYI,MKTAYI\ntwo,b,F2,AK.QR,AKQR\n",
    "table.tsv": "sequence\tfamily_accession\tsequence_name\r\nMKTAYI\tF1\ta\r\nAKQR\tF2\tb\r\n",
    "Pfam-A.seed": "# STOCKHOLM 1.0\n#=GF AC F1\na MK..tayi\n//\n# STOCKHOLM 1.0\n#=GF AC F2\nb A-KQ.R\n//\n",
}


@pytest.mark.parametrize("name", SAME_FILES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, zstandard.compress])
def test_every_format_gives_the_same_records_under_any_name(tmp_path: Path, name: str, pack: Any) -> None:
    content = pack(SAME_FILES[name].encode())
    assert short(read_records(put(tmp_path / name, content))) == SAME
    assert short(read_records(put(tmp_path / "misnamed.txt", content))) == SAME


def test_a_fasta_and_a_label_table_are_joined_by_id(tmp_path: Path) -> None:
    fasta = put(tmp_path / "a.fasta", ">a\nMKT\nAYI\n>b\nAKQR\n")
    labels = put(tmp_path / "labels.tsv", "c\tF9\nb\tF2\na\tF1\n")
    tally = Tally()
    assert short(read_records(fasta, labels=labels, tally=tally)) == SAME
    assert tally.unused_labels == 1


def test_several_fasta_and_label_tables_are_joined_as_one(tmp_path: Path) -> None:
    fastas = [put(tmp_path / "one.fasta", ">a\nMKTAYI\n"), put(tmp_path / "two.fasta", ">b\nAKQR\n")]
    tables = [put(tmp_path / "one.tsv", "b\tF2\n"), put(tmp_path / "two.tsv", "a\tF1\n")]
    assert short(read_records(fastas, labels=tables)) == SAME


def test_a_label_table_inside_the_folder_is_neither_read_twice_nor_listed(tmp_path: Path) -> None:
    put(tmp_path / "set/a.fasta", ">a\nMKTAYI\n>b\nAKQR\n")
    labels = put(tmp_path / "set/labels.tsv", "b\tF2\na\tF1\n")
    tally = Tally()
    assert short(read_records(tmp_path / "set", labels=labels, tally=tally)) == SAME
    assert tally.unread == []


def test_standard_input_is_read_once_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b">a\nMKT\n>b\nMK\n1\n")))
    with pytest.raises(DataError, match=r"^<stdin>:5:1: record 'b': sign '1', which is no amino acid; "):
        list(read_records("-"))


def test_standard_input_left_early_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b">a\nMKT\n>b\nMKT\n>c\nMKT\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    records = read_records("-")
    assert next(records).protein.id == "a"
    del records
    assert not stdin.buffer.closed


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".csv", bytes), (".csv.gz", gzip.compress)])
def test_googles_folder_is_read_as_it_is_shipped(tmp_path: Path, ending: str, pack: Any) -> None:
    for part in ("dev", "test", "train"):
        for shard in range(2):
            rows = f"7tm_1,{part}{shard}/1-3,PF00001.21,M.KT,MKT\n"
            put(tmp_path / f"random_split/{part}/data-{shard:05}-of-00002{ending}", pack((GOOGLE + rows).encode()))
    records = short(read_records(tmp_path / "random_split"))
    assert records == [
        ("dev0/1-3", "MKT", "PF00001.21", "validation"),
        ("dev1/1-3", "MKT", "PF00001.21", "validation"),
        ("test0/1-3", "MKT", "PF00001.21", "test"),
        ("test1/1-3", "MKT", "PF00001.21", "test"),
        ("train0/1-3", "MKT", "PF00001.21", "train"),
        ("train1/1-3", "MKT", "PF00001.21", "train"),
    ]
    assert short(read_records(tmp_path / "random_split/dev")) == records[:2]


def test_the_nearest_word_on_the_part_wins(tmp_path: Path) -> None:
    path = put(tmp_path / "test.csv", "id,sequence,split\na,MKT,train\nb,MKT,\n")
    assert [part for *_, part in short(read_records(path))] == ["train", "test"]
    assert [part for *_, part in short(read_records(path, part="validation"))] == ["validation", "validation"]


def test_files_of_a_folder_that_hold_no_records_are_listed(tmp_path: Path) -> None:
    put(tmp_path / "d/a.fasta", ">a\nMKT\n")
    unread: dict[str, str | bytes] = {
        "README.md": "About, these\n",
        "classes.tsv": "id\tlabel\na\tF1\n",
        "empty": "",
        "plot.png": b"\x89PNG\r\n\x1a\n\0",
        "sub/blank": "\n \n",
    }
    for name, content in unread.items():
        put(tmp_path / "d" / name, content)
    tally = Tally()
    assert [record.protein.id for record in read_records(tmp_path / "d", tally=tally)] == ["a"]
    assert tally.unread == [str(tmp_path / "d" / name) for name in unread]


def test_records_keep_input_order_and_repeated_ids(tmp_path: Path) -> None:
    one = put(tmp_path / "one.fasta", ">b\nMKT\n>a\nMKT\n>b\nAYI\n")
    two = put(tmp_path / "two.csv", "id,sequence\na,MKT\n")
    assert [record.protein for record in read_records([one, two, one])][:4] == [
        Protein("b", "MKT"),
        Protein("a", "MKT"),
        Protein("b", "AYI"),
        Protein("a", "MKT"),
    ]


def test_a_record_knows_the_file_and_line_it_begins_at(tmp_path: Path) -> None:
    path = put(tmp_path / "a.fasta", "\n>a\nMKT\nAYI\n\n>b\nMKT\n")
    assert [(record.path, record.line) for record in read_records(str(path))] == [(str(path), 2), (str(path), 6)]


def test_j_becomes_x_and_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    path = put(tmp_path / "a.fasta", ">a\nMJT\njj\n>b\nMKT\n")
    assert [record.protein.sequence for record in read_records(path, tally=tally)] == ["MXTXX", "MKT"]
    assert tally.lines() == ["2 records read", "3 residues J read as X"]


NOTHING = "no residues; give a sequence or leave the record out"
FIX = "use the 20 amino acids and X B U Z O alone"
BAD = {
    "wrapped.fasta": (
        ">a\r\nMKT\r\n>b\r\nMKTA\r\n\r\nYI-K\r\nMKT\r\n",
        f"wrapped.fasta:6:3: record 'b': gap sign '-'; {FIX}",
    ),
    "inner.fasta": (">a\nMK*\nT\n", f"inner.fasta:2:3: record 'a': sign '*', which is no amino acid; {FIX}"),
    "blank.fasta": (">a\nMKT AYI\n", f"blank.fasta:2:4: record 'a': sign ' ', which is no amino acid; {FIX}"),
    "foreign.fasta": (
        ">a\nMKT\nM\u00e9T\n",
        f"foreign.fasta:3:2: record 'a': letter '\u00e9', which is no amino acid; {FIX}",
    ),
    "nothing.fasta": (
        ">a\n>b\nMKT\n",
        "nothing.fasta:1: record 'a': no residues; give a sequence or leave the record out",
    ),
    "last.fasta": (">a\nMKT\n>b", f"last.fasta:3: record 'b': {NOTHING}"),
    "sign.csv": (
        'id,note,sequence\na,"x\ny",MKT\nb,,MK1\n',
        f"sign.csv:4:3: record 'b': sign '1', which is no amino acid; {FIX}",
    ),
    "hole.csv": (
        "id,sequence\na,\nb,MKT\n",
        "hole.csv:2: record 'a': no residues; give a sequence or leave the record out",
    ),
    "unlabelled.csv": (
        "id,label,sequence\na, ,MKT\n",
        "unlabelled.csv:2: record 'a': no label; give it one or leave the record out",
    ),
    "ragged.tsv": (
        "id\tsequence\na\tMKT\tx\n",
        "ragged.tsv:2: 3 cells, where the header has 2; give each row as many cells as the header",
    ),
    "gaps.sto": (
        "# STOCKHOLM 1.0\n#=GF AC PF1.1\na M..K\nb MKT\n\na T-?K\nb AYI\n//\n",
        f"gaps.sto:6:3: record 'a': sign '?', which is no amino acid; {FIX}",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_an_error_that_names_file_line_column_and_id(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    assert error_of(put(tmp_path / name, content)) == message


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_can_be_left_out_and_is_listed(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    good = put(tmp_path / "good.fasta", ">good\nMKT\n")
    tally = Tally()
    ids = [r.protein.id for r in read_records([put(tmp_path / name, content), good], on_bad="skip", tally=tally)]
    assert ids[-1] == "good"
    assert [str(bad) for bad in tally.bad] == [f"{tmp_path}/{message.rpartition('; ')[0]}"]
    assert tally.records == len(ids)


NEITHER = "neither sequences nor a table of them"
UNREADABLE: dict[str, tuple[str | bytes, str]] = {
    "empty.fasta": ("", f"empty.fasta: an empty file; give {FORMATS}"),
    "blank.csv": ("\n\n  \n", f"blank.csv: an empty file; give {FORMATS}"),
    "empty.gz": (gzip.compress(b""), f"empty.gz: an empty file; give {FORMATS}"),
    "bare.txt": ("\nMKTAYI\n", f"bare.txt:2: {NEITHER} ('MKTAYI'); give {FORMATS}"),
    "other.csv": (
        "id,label\na,F1\n",
        f"other.csv:1: {NEITHER} ('id,label'); give {FORMATS}",
    ),
    "twice.csv": ("id,id,sequence\na,b,M\n", "twice.csv: two columns named id; rename one of them"),
    "header.csv": ("id,sequence\n", "header.csv:1: a header and no rows; give records below it"),
    "data.h5": (b"\x89HDF\r\n\x1a\n", "data.h5: binary data; give FASTA, CSV, TSV or Stockholm, as text"),
    "cut.sto": ("# STOCKHOLM 1.0\na MK\n", "cut.sto:2: the last alignment has no end; add // or fetch the file again"),
}


@pytest.mark.parametrize("on_bad", ["error", "skip"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_an_error_whatever_is_skipped(tmp_path: Path, name: str, on_bad: Any) -> None:
    content, message = UNREADABLE[name]
    assert error_of(put(tmp_path / name, content), on_bad=on_bad) == message


def test_a_missing_file_is_an_error_before_any_record_is_read(tmp_path: Path) -> None:
    good = put(tmp_path / "good.fasta", ">a\nMKT\n")
    with pytest.raises(DataError, match=r"missing.fasta: no such file or folder; check the name$"):
        read_records([good, tmp_path / "missing.fasta"])


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "d/README", "nothing\n")
    assert error_of(tmp_path / "d") == f"d: no file with records in this folder; give {FORMATS}"


def test_a_damaged_shard_of_a_folder_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    put(tmp_path / "d/a.fasta", ">a\nMKT\n")
    put(tmp_path / "d/b.csv.gz", gzip.compress(b"id,sequence\nb,MKT\n")[:-12])
    assert error_of(tmp_path / "d").startswith("d/b.csv.gz: cannot be read to its end (")


JOIN_ERRORS = {
    "twice in the fasta": (
        ">a\nM\n>b\nM\n>a\nK\n",
        "a\tF1\nb\tF1\n",
        "a.fasta:5: record 'a': this id stands at a.fasta:1 too; records are joined by id, so give each its own",
    ),
    "twice in the table": (
        ">a\nM\n",
        "a\tF1\nb\tF1\na\tF2\n",
        "labels.tsv:3: record 'a': this id stands at labels.tsv:1 too; records are joined by id, so give each its own",
    ),
    "own label": (
        ">a TARGET=F1\nM\n",
        "a\tF1\n",
        "a.fasta:1: record 'a': a label of its own beside the labels table; "
        "leave the table out, or the labels in this file",
    ),
    "no label": (
        ">a\nM\n>b\nM\n",
        "a\tF1\n",
        "a.fasta:3: record 'b': no label in the labels table; add its id to the table or leave the record out",
    ),
}


@pytest.mark.parametrize("case", JOIN_ERRORS)
def test_a_join_that_is_not_one_to_one_is_an_error(tmp_path: Path, case: str) -> None:
    fasta, labels, message = JOIN_ERRORS[case]
    path = put(tmp_path / "a.fasta", fasta)
    assert error_of(path, labels=put(tmp_path / "labels.tsv", labels)) == message


def test_a_repeated_id_is_an_error_in_a_join_even_where_bad_records_are_skipped(tmp_path: Path) -> None:
    path, labels = put(tmp_path / "a.fasta", ">a\nM\n>a\nK\n"), put(tmp_path / "labels.tsv", "a\tF1\n")
    assert error_of(path, labels=labels, on_bad="skip").startswith(
        "a.fasta:3: record 'a': this id stands at a.fasta:1 too"
    )


def test_a_record_without_a_label_in_the_table_can_be_left_out(tmp_path: Path) -> None:
    path, labels = put(tmp_path / "a.fasta", ">a\nM\n>b\nK\n"), put(tmp_path / "labels.tsv", "b\tF1\n")
    tally = Tally()
    assert short(read_records(path, labels=labels, on_bad="skip", tally=tally)) == [("b", "K", "F1", None)]
    assert [str(bad) for bad in tally.bad] == [f"{path}:1: record 'a': no label in the labels table"]


@pytest.mark.parametrize(("option", "word"), [("part", "trian"), ("on_bad", "ignore")])
def test_an_unknown_word_is_refused_at_once(tmp_path: Path, option: str, word: str) -> None:
    options: Any = {option: word}
    with pytest.raises(UnknownNameError, match=f"unknown {option} '{word}'"):
        read_records(tmp_path, **options)


records_drawn = st.lists(
    st.tuples(
        st.text("ABCxyz0189|/._:;,#", min_size=1, max_size=12),
        st.text(RESIDUES + RESIDUES.lower(), min_size=1, max_size=90),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(
    drawn=records_drawn,
    width=st.integers(1, 100),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    pack=st.sampled_from([bytes, gzip.compress, lzma.compress, zstandard.compress]),
    final_end=st.booleans(),
    mark=st.booleans(),
)
def test_a_fasta_of_any_width_line_end_and_packing_gives_the_same_records(
    drawn: list[tuple[str, str]], width: int, end: str, pack: Any, final_end: bool, mark: bool
) -> None:
    lines = []
    for name, sequence in drawn:
        lines += [f">{name} some text", *(sequence[start : start + width] for start in range(0, len(sequence), width))]
    text = ("\ufeff" if mark else "") + end.join(lines) + (end if final_end else "")
    with tempfile.TemporaryDirectory() as folder:
        records = list(read_records(put(Path(folder, "drawn"), pack(text.encode()))))
    assert [(r.protein.id, r.protein.sequence) for r in records] == [(name, s.upper()) for name, s in drawn]


def test_real_shards_are_read_as_polars_reads_them(tmp_path: Path, shared: Path | None) -> None:
    folder = tmp_path / "random_split"
    if shared is None:
        put(folder / "dev/data-00000-of-00001.csv", "sequence_name,family_accession,sequence\n" + "s,PF1.1,MKT\n" * 50)
    else:
        folder = shared / "data/pfam/random_split"
    found = {(record.protein.id, record.label, record.protein.sequence) for record in read_records(folder)}
    tables = [pl.read_csv(path) for path in sorted(folder.rglob("data-*"))]
    expected = pl.concat(tables).select("sequence_name", "family_accession", "sequence")
    assert found == set(expected.iter_rows())


def test_real_fasta_and_labels_are_joined_without_rest(tmp_path: Path, shared: Path | None) -> None:
    fasta, labels = tmp_path / "test.fasta", tmp_path / "labels.tsv"
    if shared is None:
        put(fasta, "".join(f">s{n}\nMKT\nAYI\n" for n in range(2946)))
        put(labels, "id\tlabel\n" + "".join(f"s{n}\tF{n % 7}\n" for n in range(2946)))
    else:
        fasta, labels = shared / "data/cath/test.fasta.gz", shared / "data/cath/test_labels.tsv.gz"
    tally = Tally()
    parts = Counter(record.part for record in read_records(fasta, labels=labels, tally=tally) if record.label)
    assert parts == {"test": 2946}
    assert tally.lines() == ["2,946 records read"]

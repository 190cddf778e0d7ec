"""Labels of residues as they are read: biotrainer's FASTA, FASTA of labels, columns, masks, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import residues

from esmcls.datasets.dataset import build
from esmcls.errors import DataError
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.labels.label_checks import LabelChecks
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers, masked
from esmcls.reading.readers import read_records
from esmcls.reading.tables import NamedColumns


def labels_of(*args, **options):
    """Return the labels that are read."""
    return [record.label for record in read_records(*args, **options)]


@pytest.fixture
def write(tmp_path):
    def written(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return written


def test_a_mask_of_biotrainer_makes_residues_unknown(write):
    path = write("a.fasta", ">a TARGET=CCHH SET=train MASK=0111\nMKTA\n")
    assert labels_of(path) == ["?CHH"]


def test_a_second_fasta_gives_labels_parts_and_masks_by_id(write):
    sequences = write("sequences.fasta", ">b\nMKT\n>a\nMKTA\n")
    labels = write("labels.fasta", ">a SET=train\nCC\nHH\n>b SET=test MASK=110\nEEE\n")
    records = list(read_records(sequences, labels=labels))
    assert [(record.label, record.part) for record in records] == [("EE?", "test"), ("CCHH", "train")]


def test_numbers_in_a_fasta_of_labels_keep_apart_over_lines(write):
    sequences = write("sequences.fasta", ">a\nMKTA\n")
    assert labels_of(sequences, labels=write("labels.fasta", ">a\n0.5 nan\n1 -2\n")) == ["0.5 nan 1 -2"]


def test_columns_of_labels_and_of_masks_are_named_by_the_user(write):
    path = write("a.tsv", "id\tsequence\tss3\tresolved\na\tMKTA\tCCHH\t0011\n")
    assert labels_of(path, columns=NamedColumns("ss3", "resolved")) == ["??HH"]
    assert labels_of(path) == [None]


def test_columns_of_a_labels_table_are_named_by_the_user(write):
    path, table = write("a.fasta", ">a\nMKTA\n"), write("t.tsv", "id\tss3\tresolved\na\tCCHH\t0011\n")
    assert labels_of(path, labels=table, columns=NamedColumns("ss3", "resolved")) == ["??HH"]


def test_a_column_that_is_not_there_is_told_with_those_that_are(write):
    path = write("a.tsv", "id\tsequence\tss3\na\tMKTA\tCCHH\n")
    with pytest.raises(DataError, match="no column 'ss8'; its columns are id, sequence, ss3; name one of them"):
        labels_of(path, columns=NamedColumns("ss8"))


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        ("011", "a mask of 3 signs for a label of 4"),
        ("01x1", "a mask with the sign 'x', where 1 is known and 0 is not"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error_of_its_line(write, mask, found):
    path = write("a.fasta", f">a TARGET=CCHH MASK={mask}\nMKTA\n")
    with pytest.raises(DataError, match=rf"a.fasta:1: record 'a': {found}"):
        labels_of(path)


def test_a_mask_leaves_numbers_out():
    assert masked("0.5 1 2", "101") == "0.5 nan 2"


def test_labels_as_long_as_their_sequences_are_of_residues(tmp_path):
    built = build(read_records(residues.fasta(tmp_path / "a.fasta")))
    assert built.task == RESIDUE_LABEL
    assert built.report.untrained == 0


def test_as_many_numbers_as_residues_are_of_residues(tmp_path):
    built = build(read_records(residues.table(tmp_path / "a.tsv"), columns=NamedColumns("z_score")))
    assert built.task == RESIDUE_NUMBER
    assert built.dataset.labels[0].startswith("nan ")


def test_signs_that_are_digits_are_labels_of_residues_not_numbers():
    checks = LabelChecks()
    for label in ("0011001100", "0000000000", "0110110110"):
        checks.add(label, "MKTAYIAKQR")
    assert checks.kind("a.tsv") == RESIDUE_LABEL


def test_a_label_one_letter_short_names_file_line_record_and_both_lengths(tmp_path):
    path = residues.fasta(tmp_path / "a.fasta")
    lines = path.read_text().splitlines()
    length = len(lines[9])
    lines[8] = lines[8].replace("TARGET=" + residues.states(lines[9]), "TARGET=" + residues.states(lines[9])[1:])
    path.write_text("\n".join(lines))
    found = rf"a.fasta:9: record 'p4': label of {length - 1} signs for a sequence of {length} residues"
    with pytest.raises(DataError, match=found):
        build(read_records(path))


def test_a_list_one_number_short_names_both_lengths():
    checks = LabelChecks()
    checks.add("0.5 1", "MKT")
    with pytest.raises(DataError, match="label of 2 numbers for a sequence of 3 residues"):
        checks.kind("a.tsv", RESIDUE_NUMBER)


def test_a_kind_that_is_named_is_held_to_its_labels(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,sequence,label\na,MKTAYIAKQRQ,kinase\n")
    with pytest.raises(DataError, match=r"a.csv:2: record 'a': label of 6 signs for a sequence of 11 residues"):
        build(read_records(path), task=RESIDUE_LABEL)
    with pytest.raises(DataError, match="label 'kinase' that lists no numbers"):
        build(read_records(path), task=RESIDUE_NUMBER)


def test_a_split_of_labels_of_residues_is_drawn_at_random(tmp_path):
    text = residues.fasta(tmp_path / "a.fasta").read_text()
    path = tmp_path / "b.fasta"
    path.write_text(text.replace("SET=train VALIDATION=True", "SET=train"))
    built = build(read_records(path))
    assert built.report.drawn_validation == 2
    assert built.dataset.parts.count("validation") == 2


def test_codes_of_labels_are_places_among_the_classes():
    labels = ResidueLabels.from_texts(["CC?H", "EH"])
    assert (labels.classes, labels.row(0).tolist(), labels.row(1).tolist()) == (("C", "E", "H"), [0, 0, -1, 2], [1, 2])
    assert labels.take([1, 0]).codes.tolist() == [1, 2, 0, 0, -1, 2]
    assert ResidueLabels.from_texts(["CX"], ["C"]).codes.tolist() == [0, -1]


def test_numbers_that_were_not_measured_are_not_known():
    labels = ResidueNumbers.from_texts(["0.5, nan; -1", "NA"])
    assert labels.known.tolist() == [True, False, True, False]
    assert np.array_equal(labels.take([1]).values, [np.nan], equal_nan=True)

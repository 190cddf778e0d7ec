"""Every record is answered, in input order, in bounded memory, and written so that it can be read again."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.errors import SequenceTooLargeError, UnknownNameError, UsageError
from esmcls.models.predict import predict_stream
from esmcls.reading.records import Protein
from esmcls.tasks.one_label.confidence import Confidence, Rejection
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.prediction import COLUMNS, Prediction, write_predictions
from esmcls.tasks.one_label.task import OneLabel
from esmcls.types import Indices, Probabilities

CLASSES = ("alanine", "cysteine", "other")


class Counting:
    """A head whose answer can be told by eye: the share of A, of C and of the rest in a sequence."""

    classes = CLASSES

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Rank the shares."""
        shares = x.vectors()
        order = np.argsort(-shares, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(shares, order, axis=1).astype(np.float32)


class Near(Counting):
    """A head that knows a nearest training protein, too."""

    def nearest(self, x: Features) -> tuple[Any, list[str]]:
        """Return the length as the distance."""
        return x.lengths.astype(np.float32), [f"near-{length}" for length in x.lengths]


class Toy:
    """A model over `Counting`, which remembers what it embedded and finds sequences beyond `limit` too large."""

    name, task, classes, neighbours = "toy", OneLabel(), CLASSES, None

    def __init__(self, head: Any = None, limit: int = 2000) -> None:
        self.head, self.limit = head or Counting(), limit
        self.embedded: list[list[str]] = []
        self.manifest = SimpleNamespace(specs=[SimpleNamespace(encoder="toy", long="full")])
        self.findings = LabelFindings()

    def features(self, sequences: Sequence[str]) -> Features:
        """Return the shares of A, C and other residues."""
        for index, sequence in enumerate(sequences):
            if len(sequence) > self.limit:
                raise SequenceTooLargeError(index, len(sequence))
        self.embedded.append(list(sequences))
        rows = [[s.count("A"), s.count("C"), len(s) - s.count("A") - s.count("C")] for s in sequences]
        vectors = np.array(rows, dtype=np.float32) / np.array([[len(s)] for s in sequences], dtype=np.float32)
        return Features.from_arrays(vectors, sequences=list(sequences))


def predict(model: Toy, *sequences: str, **options: Any) -> list[Prediction]:
    proteins = [Protein(f"p{number}", sequence) for number, sequence in enumerate(sequences)]
    return list(predict_stream(model, proteins, **options))  # type: ignore[arg-type]


def test_each_protein_gets_its_likeliest_class() -> None:
    beside = {"note": "fragment of 4 residues", "model": "toy", "confidence": "medium"}
    assert predict(Toy(), "AAAC", "CCCA") == [
        Prediction("p0", 1, "alanine", 0.75, **beside),
        Prediction("p1", 1, "cysteine", 0.75, **beside),
    ]


def test_what_makes_an_answer_doubtful_stands_in_its_first_row() -> None:
    model = Toy()
    model.manifest = SimpleNamespace(specs=[SimpleNamespace(encoder="toy", long="balanced")])
    protein = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
    rows = predict(model, 40 * protein, protein, "MKT", "ATGC" * 10, "Q" * 40, k=2)
    assert [row.note for row in rows[1::2]] == [None] * 5
    assert [row.note for row in rows[::2]] == [
        "298 of 1,320 residues unseen",
        None,
        "fragment of 3 residues",
        "letters of DNA alone",
        "low complexity (100 % of residues)",
    ]


def test_a_head_that_reads_sequences_sees_all_of_them() -> None:
    class Reader(Counting):
        reads_vectors = False

    model = Toy(Reader(), limit=2000)
    model.manifest = SimpleNamespace(specs=[SimpleNamespace(encoder="toy", long="balanced")])
    assert predict(model, 40 * "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ")[0].note is None


def test_the_k_best_classes_come_in_rows_by_rank() -> None:
    rows = predict(Toy(), "AAACCM", k=2)
    assert [(row.rank, row.label, row.probability) for row in rows] == [
        (1, "alanine", 0.5),
        (2, "cysteine", pytest.approx(1 / 3)),
    ]


def test_more_classes_than_there_are_give_all_of_them() -> None:
    assert [row.label for row in predict(Toy(), "AAC", k=10)] == ["alanine", "cysteine", "other"]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
def test_the_last_block_is_answered_whether_it_is_full_or_not(n: int) -> None:
    rows = predict(Toy(), *("A" * (number + 1) for number in range(n)), block=2)
    assert [row.id for row in rows] == [f"p{number}" for number in range(n)]


def test_records_with_equal_ids_or_sequences_are_all_answered_in_input_order() -> None:
    proteins = [Protein("x", "AA"), Protein("x", "CC"), Protein("y", "AA"), Protein("x", "AA")]
    model = Toy()
    rows = list(predict_stream(model, proteins))  # type: ignore[arg-type]
    assert [(row.id, row.label) for row in rows] == [
        ("x", "alanine"),
        ("x", "cysteine"),
        ("y", "alanine"),
        ("x", "alanine"),
    ]
    assert model.embedded == [["AA", "CC"]]


def test_a_table_that_cannot_begin_has_no_header() -> None:
    def broken() -> Iterator[Prediction]:
        raise SequenceTooLargeError(0, 5)
        yield ROWS[0]

    handle = io.StringIO()
    with pytest.raises(SequenceTooLargeError):
        write_predictions(broken(), handle)
    assert handle.getvalue() == ""


def test_no_more_than_a_block_is_read_ahead() -> None:
    read: list[int] = []

    def proteins() -> Iterator[Protein]:
        for number in range(100):
            read.append(number)
            yield Protein(str(number), "A")

    rows = predict_stream(Toy(), proteins(), block=4)  # type: ignore[arg-type]
    next(rows)
    assert len(read) == 4


def test_a_protein_that_does_not_fit_is_marked_and_the_others_are_answered() -> None:
    rows = predict(Toy(limit=5), "AAAA", "C" * 6, "CCC", "A" * 9, "M")
    assert [(row.id, row.label, row.status) for row in rows] == [
        ("p0", "alanine", None),
        ("p1", None, "too_large"),
        ("p2", "cysteine", None),
        ("p3", None, "too_large"),
        ("p4", "other", None),
    ]


def test_the_nearest_training_protein_is_told_where_the_head_knows_it() -> None:
    [row] = predict(Toy(Near()), "AAC")
    assert (row.distance, row.nearest_id) == (3.0, "near-3")


ROWS = [
    Prediction('a"b', 1, "kinase, ATP", 0.123456789, 1.5, "n\t1"),
    Prediction("big", status="too_large"),
]


def written(format: str, rows: Sequence[Prediction] = ROWS) -> str:
    handle = io.StringIO()
    write_predictions(rows, handle, format)
    return handle.getvalue()


def test_a_table_holds_every_column_and_leaves_empty_what_does_not_apply() -> None:
    assert written("tsv") == (
        "id\trank\tlabel\tprobability\tdistance\tnearest_id\tstatus\tset\tnote\tmodel\tconfidence\tnearest_label\n"
        '"a""b"\t1\tkinase, ATP\t0.123457\t1.5\t"n\t1"\t\t\t\t\t\t\n'
        "big\t\t\t\t\t\ttoo_large\t\t\t\t\t\n"
    )


def test_a_table_can_be_read_back() -> None:
    first, second = csv.DictReader(io.StringIO(written("tsv")), delimiter="\t")
    assert (first["id"], first["nearest_id"], second["id"]) == ('a"b', "n\t1", "big")


def test_json_lines_hold_null_where_something_does_not_apply() -> None:
    first, second = map(json.loads, written("jsonl").splitlines())
    assert first == {name: value for name, value in asdict(ROWS[0]).items() if name in COLUMNS} | {
        "probability": 0.123457
    }
    assert list(second) == list(COLUMNS)
    assert second["label"] is None


def test_no_record_gives_a_header_and_no_json() -> None:
    assert written("tsv", []).count("\n") == 1
    assert written("jsonl", []) == ""


def test_what_was_written_is_counted_a_record_not_a_row() -> None:
    rows = [*predict(Toy(limit=5), "AAC", "CCA", k=3), Prediction("big", status="too_large")]
    told = write_predictions(rows, io.StringIO())
    assert (told.records, told.left_out) == (3, ["big"])


def test_an_unknown_format_is_told_before_anything_is_written() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown format 'tvs'; did you mean 'tsv'\? \(known: csv, jsonl, tsv, xlsx\)"
    ):
        written("tvs")


class Doubtful(Counting):
    """A head that is familiar with what has many A."""

    def familiarity(self, x: Features) -> Any:
        """Return the share of A."""
        return x.vectors()[:, 0].astype(np.float64)

    def predict_proba(self, x: Features) -> Any:
        """Return the shares."""
        return x.vectors()


def doubtful(confidence: Confidence) -> Toy:
    model = Toy(Doubtful())
    model.findings = LabelFindings(confidence=confidence)
    return model


def test_a_model_with_a_threshold_says_of_each_protein_whether_it_is_of_a_known_family() -> None:
    model = doubtful(Confidence(rejection=Rejection("familiarity", 0.5, 0.05)))
    assert [row.status for row in predict(model, "AAAC", "AACC", "CCCC", k=2)] == [
        *["accepted"] * 2,
        *["rejected"] * 4,
    ]
    assert predict(doubtful(Confidence()), "AAAC")[0].status is None


def test_with_a_coverage_the_set_of_classes_stands_beside_the_first() -> None:
    model = doubtful(Confidence((0.3,) * 100))
    rows = predict(model, "AAAC", "AACC", k=2, coverage=0.9)
    assert [row.set for row in rows] == ["alanine", None, "alanine|cysteine", None]
    assert [row.set for row in predict(model, "AAAC")] == [None]


def test_a_coverage_that_the_model_cannot_promise_is_an_error_before_anything_is_embedded() -> None:
    model = doubtful(Confidence())
    with pytest.raises(UsageError, match="no calibration rows"):
        predict(model, "AAAC", coverage=0.9)
    assert model.embedded == []


def test_a_spreadsheet_runs_nothing_that_an_id_or_a_label_says() -> None:
    rows = [Prediction("=cmd()", 1, "@SUM(A1)", 0.5, -1.5), Prediction("-id", 1, "kinase, ATP", 0.5)]
    first, second = csv.DictReader(io.StringIO(written("csv", rows)))
    assert (first["id"], first["label"], first["distance"]) == (" =cmd()", " @SUM(A1)", "-1.5")
    assert (second["id"], second["label"]) == (" -id", "kinase, ATP")


def test_a_workbook_holds_texts_as_texts_and_numbers_as_numbers(tmp_path: Path) -> None:
    rows = [Prediction("=<a&b>\x1b", 1, "kinase", 0.123456789)]
    with open(tmp_path / "answers.xlsx", "w", encoding="utf-8") as handle:
        write_predictions(rows, handle, "xlsx")
    with zipfile.ZipFile(tmp_path / "answers.xlsx") as package:
        assert package.testzip() is None
        for name in package.namelist():
            ElementTree.fromstring(package.read(name))
        sheet = ElementTree.fromstring(package.read("xl/worksheets/sheet1.xml"))
    cells = [[cell.findtext(".//{*}t") or cell.findtext("{*}v") for cell in row] for row in sheet[0]]
    assert cells[0] == list(COLUMNS)
    assert cells[1][:4] == ["=<a&b>\N{REPLACEMENT CHARACTER}", "1", "kinase", "0.123457"]
    assert not list(sheet.iter("{*}f"))


def test_what_became_of_records_is_told_in_one_line() -> None:
    rows = [
        Prediction("a", 1, "kinase", 0.9, status="accepted"),
        Prediction("a", 2, "lyase", 0.1, status="accepted"),
        Prediction("b", 1, "kinase", 0.4, status="rejected", note="10 of 30 residues unseen"),
        Prediction("c", 1, "kinase", 0.4, status="rejected", note="fragment of 3 residues"),
        Prediction("d", status="too_large"),
    ]
    told = write_predictions(rows, io.StringIO())
    summary = "3 answered, 1 accepted, 2 rejected, 1 cut (not all of its residues were seen), 1 with another note"
    assert told.summary() == f"4 records: {summary}"

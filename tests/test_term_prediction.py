"""Terms of every record, in input order and bounded memory; no parent is less probable than its child, anywhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, ZINC, tiny_ontology

from esmcls.cache.features import Features
from esmcls.errors import SequenceTooLargeError
from esmcls.labels.ontology import Ontology
from esmcls.models.predict import stream_rows, write_answers
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Written
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.prediction import (
    COLUMNS,
    MOST,
    TermPrediction,
    write_terms,
)
from esmcls.tasks.go_terms.task import GoTerms
from esmcls.tasks.label_sets.thresholds import TermFindings, Thresholds
from esmcls.types import Probabilities

CLASSES = tuple(sorted([BINDING, ION, ZINC, MEMBRANE, NUCLEUS, GROWTH, CELL_GROWTH]))


class Told:
    """A head that says of each sequence what it was told to, and 0 of the rest; parents are as it happens."""

    def __init__(self, classes: tuple[str, ...], said: Mapping[str, Mapping[str, float]]) -> None:
        self.classes, self.said = classes, said

    def predict_proba(self, x: Features) -> Probabilities:
        """Return what was told."""
        rows = [[self.said.get(sequence, {}).get(term, 0.0) for term in self.classes] for sequence in x.sequences]
        return np.array(rows, np.float32).reshape(len(x), len(self.classes))


class Near(Told):
    """A head that knows a nearest training protein, of some sequences."""

    def nearest(self, x: Features) -> tuple[Any, list[str | None]]:
        """Return one for sequences that begin with A."""
        return np.zeros(len(x), np.float32), ["near" if one[0] == "A" else None for one in x.sequences]


class Drawn:
    """A head that says anything of anything."""

    def __init__(self, n: int) -> None:
        self.n = n

    def predict_proba(self, x: Features) -> Probabilities:
        """Draw from the sequence's length."""
        rows = [np.random.default_rng(len(one)).random(self.n) ** 4 for one in x.sequences]
        return np.array(rows, np.float32).reshape(len(x), self.n)


class Toy:
    """A model of terms that remembers what it embedded and finds sequences beyond `limit` too large."""

    name, neighbours = "toy", None

    def __init__(self, head: Any, terms: TermHierarchy, threshold: float = 0.5, limit: int = 10_000) -> None:
        self.head, self.classes, self.limit = head, terms.classes, limit
        self.task = GoTerms(terms.ontology)
        thresholds = Thresholds(np.full(len(terms.classes), threshold, np.float32), {})
        self.findings = TermFindings(terms.ontology, thresholds)
        self.embedded = list[list[str]]()
        self.manifest = SimpleNamespace(specs=[SimpleNamespace(encoder="toy", long="full")])

    def features(self, sequences: list[str]) -> Features:
        """Return features without vectors."""
        for index, sequence in enumerate(sequences):
            if len(sequence) > self.limit:
                raise SequenceTooLargeError(index, len(sequence))
        self.embedded.append(list(sequences))
        return Features.from_arrays(np.zeros((len(sequences), 0), np.float32), sequences)


SAID = {
    "AA": {ZINC: 0.7654, ION: 0.2, BINDING: 0.3, MEMBRANE: 0.04},
    "CC": {GROWTH: 1.2, CELL_GROWTH: 0.9, NUCLEUS: 0.0051},
    "DD": {NUCLEUS: 0.0099},
}


def toy(head: type[Told] = Told, **options: Any) -> Any:
    return Toy(head(CLASSES, SAID), TermHierarchy(tiny_ontology(), CLASSES), **options)


def proteins(*sequences: str) -> Iterator[Protein]:
    for number, sequence in enumerate(sequences):
        yield Protein(f"p{number}", sequence)


def submission(model: Any, stream: Iterator[Protein], **wanted: Any) -> tuple[Written, list[list[str]]]:
    """Return what is said of a submission, and its lines."""
    handle = io.StringIO()
    written = write_answers(model, stream, handle, "cafa", **wanted)
    return written, [line.split("\t") for line in handle.getvalue().splitlines()]


def cafa(model: Any, *sequences: str, **wanted: Any) -> list[list[str]]:
    return submission(model, proteins(*sequences), **wanted)[1]


def table(model: Any, *sequences: str, block: int = 512, **wanted: Any) -> list[TermPrediction]:
    rows: Any = stream_rows(model, proteins(*sequences), block=block, **wanted)
    return list(rows)


def random_terms(n: int, seed: int = 0) -> TermHierarchy:
    """Return a random ontology of one aspect, each term with one to three parents, all of it classes but the root."""
    rng = np.random.default_rng(seed)
    names = tuple(f"GO:{number:07}" for number in range(n))
    parents = [tuple(sorted({int(one) for one in rng.integers(number, size=3)})) for number in range(1, n)]
    return TermHierarchy(Ontology(names, names, "P" * n, ((), *parents)), names[1:])


def test_a_submission_holds_three_significant_digits_the_most_probable_first_and_parents_before_children() -> None:
    assert cafa(toy(), "AA", "CC") == [
        ["p0", BINDING, "0.765"],
        ["p0", ION, "0.765"],
        ["p0", ZINC, "0.765"],
        ["p0", MEMBRANE, "0.04"],
        ["p1", GROWTH, "1"],
        ["p1", CELL_GROWTH, "0.9"],
    ]


def test_a_submission_begins_at_the_least_score_and_keeps_to_aspects() -> None:
    assert cafa(toy(), "CC", "DD", min_score=0.005, aspects="C") == [
        ["p0", NUCLEUS, "0.0051"],
        ["p1", NUCLEUS, "0.0099"],
    ]
    assert cafa(toy(), "AA", min_score=0.5, aspects="CP") == []
    assert [row[1] for row in cafa(toy(), "AA", aspects="FC", k=2)] == [BINDING, ION]


def test_a_submission_has_at_most_1500_terms_a_protein_and_with_each_its_parents() -> None:
    terms = random_terms(2500)
    model: Any = Toy(Drawn(2499), terms)
    rows = cafa(model, "A" * 5, "A" * 9, min_score=1e-6)
    for name in ("p0", "p1"):
        score = {term: float(value) for one, term, value in rows if one == name}
        assert len(score) == MOST
        assert all(0 < value <= 1 for value in score.values())
        for child, parent in ((terms.classes[a], terms.classes[b]) for a, b in terms.edges.tolist()):
            if child in score:
                assert score[parent] >= score[child]


@pytest.mark.parametrize("seed", range(3))
def test_a_parent_is_never_less_probable_than_its_child_whatever_the_head_says(seed: int) -> None:
    terms = random_terms(200, seed)
    model: Any = Toy(Drawn(199), terms)
    rows = table(model, "A" * 7, min_score=1e-12)
    found = {row.term: row.probability for row in rows}
    assert len(found) == 199
    raised = 0
    raw = dict(zip(terms.classes, model.head.predict_proba(model.features(["A" * 7]))[0].tolist(), strict=True))
    for child, parent in ((terms.classes[a], terms.classes[b]) for a, b in terms.edges.tolist()):
        assert found[parent] >= found[child]
        raised += raw[parent] < raw[child]
    assert raised > 10, "the head keeps parents above children by itself: nothing was tested"
    ranks = {row.term: row.rank for row in rows}
    assert all(ranks[terms.classes[b]] < ranks[terms.classes[a]] for a, b in terms.edges.tolist())


def test_what_a_head_says_is_not_changed_under_it() -> None:
    class Kept(Told):
        kept = np.array([[0.9 if term == ZINC else 0.0 for term in CLASSES]], np.float32)

        def predict_proba(self, x: Features) -> Probabilities:
            return self.kept

    table(Toy(Kept(CLASSES, {}), TermHierarchy(tiny_ontology(), CLASSES)), "AA")
    assert np.count_nonzero(Kept.kept) == 1


def test_the_table_names_each_term_and_says_whether_it_is_predicted() -> None:
    rows = table(toy(Near), "AA", at_least=0)
    about = [(row.rank, row.term, row.name, row.aspect, row.predicted, row.nearest_id) for row in rows]
    assert about == [
        (1, BINDING, "binding", "F", True, "near"),
        (2, ION, "ion binding", "F", True, "near"),
        (3, ZINC, "zinc ion binding", "F", True, "near"),
    ]
    assert [row.probability for row in rows] == [pytest.approx(0.7654)] * 3
    assert table(toy(), "CC")[0].nearest_id is None


def test_where_no_term_of_an_aspect_is_predicted_the_most_probable_is_written_and_predicted() -> None:
    found = {row.term: row.predicted for row in table(toy(), "AA", min_score=0.1)}
    assert found == {BINDING: True, ION: True, ZINC: True, MEMBRANE: True}
    assert MEMBRANE not in {row.term for row in table(toy(), "AA", aspects="F")}
    below = {row.term: row.predicted for row in table(toy(threshold=0.9), "AA", min_score=0.1)}
    assert below == {BINDING: True, ION: False, ZINC: False, MEMBRANE: True}


def test_every_record_is_answered_in_input_order_whatever_the_block() -> None:
    sequences = ["AA", "WW", "CC", "W" * 9, "AA", "DD"]
    whole, pieces = (table(toy(limit=8), *sequences, at_least=0, block=block) for block in (512, 1))
    assert whole == pieces
    assert list(dict.fromkeys(row.id for row in whole)) == [f"p{number}" for number in range(6)]
    assert {row.id: row.status for row in whole if row.rank is None} == {
        "p1": "no_term",
        "p3": "too_large",
        "p5": "no_term",
    }


def test_equal_sequences_of_a_block_are_asked_about_once() -> None:
    model = toy()
    assert len(cafa(model, "AA", "AA")) == 8
    assert model.embedded == [["AA"]]


def test_proteins_are_read_a_block_at_a_time_and_written_before_the_next() -> None:
    read = []

    def endless() -> Iterator[Protein]:
        while True:
            read.append(1)
            yield Protein(f"p{len(read)}", "AA")

    rows = stream_rows(toy(), endless(), block=4)
    assert [next(rows).id for _ in range(8)][-1] == "p2"
    assert len(read) == 4


def test_a_table_comes_back_as_it_was_and_empty_cells_are_what_does_not_apply() -> None:
    rows = table(toy(Near, limit=8), "AA", "W" * 9)
    handle = io.StringIO()
    written = write_terms(rows, handle)
    assert (written.records, written.left_out) == (2, ["p1"])
    first, *_, last = csv.DictReader(io.StringIO(handle.getvalue()), delimiter="\t")
    assert tuple(first) == COLUMNS
    assert first == {
        "id": "p0",
        "rank": "1",
        "term": BINDING,
        "name": "binding",
        "aspect": "F",
        "probability": "0.7654",
        "predicted": "yes",
        "nearest_id": "near",
        "status": "",
        "note": "fragment of 2 residues",
        "model": "toy",
        "expected_f": "",
    }
    beside = {"note": "fragment of 9 residues", "model": "toy"}
    assert last == dict.fromkeys(COLUMNS, "") | {"id": "p1", "status": "too_large"} | beside


def test_a_record_without_a_term_is_no_record_left_out() -> None:
    handle = io.StringIO()
    written = write_terms(table(toy(), "WW", at_least=0), handle, "jsonl")
    assert (written.records, written.left_out) == (1, [])
    row = json.loads(handle.getvalue())
    assert (row["id"], row["term"], row["predicted"], row["status"]) == ("p0", None, None, "no_term")


def test_ids_of_uniprot_headers_are_accessions_in_a_submission_since_cafa_joins_by_them() -> None:
    stream = [Protein("sp|P69905|HBA_HUMAN", "DD"), Protein("T96060000001", "DD")]
    written, lines = submission(toy(), iter(stream), min_score=0.001)
    assert [line[0] for line in lines] == ["P69905", "T96060000001"]
    assert written.records == 2


def test_a_protein_and_term_stand_once_in_a_submission_and_no_id_has_a_blank() -> None:
    names = ("sp|P69905|HBA_HUMAN", "P69905", "a\tb", "a")
    written, lines = submission(toy(), (Protein(name, "AA") for name in names))
    assert len({(name, term) for name, term, _ in lines}) == len(lines) == 8
    assert (written.records, written.repeated) == (4, ["P69905", "a"])


def test_a_submission_leaves_out_what_does_not_fit_into_memory_and_says_so() -> None:
    written, _ = submission(toy(limit=8), proteins("W" * 9, "DD"))
    assert (written.records, written.left_out) == (2, ["p0"])

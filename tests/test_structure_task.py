"""Structures through every command: fit, evaluate, compare, predict, info; what is measured of them; and refusals."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import chains
import numpy as np
import pytest
from command import done, run

import esmcls
from esmcls.app.answers import ask
from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.alignment import search
from esmcls.labels.structure_labels import Structures
from esmcls.metrics.structures import superposition
from esmcls.reading.records import Protein
from esmcls.structures.distogram import BINS, PairAnswer, binned, distances
from esmcls.structures.folding import fold as folding
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.fitted import NoFindings
from esmcls.tasks.structure import report
from esmcls.tasks.structure import task as structure_task
from esmcls.tasks.structure.answers import StructureAnswers, StructureQuestions, graded
from esmcls.tasks.structure.comparison import by_confidence, by_depth, compare_structures
from esmcls.tasks.structure.evaluation import evaluate_structures
from esmcls.tasks.structure.figures import draw_confidence, draw_lengths, draw_maps, draw_traces, seen_from
from esmcls.tasks.structure.measures import (
    FOLDED,
    MEASURES,
    intervals_over_chains,
    measured,
    measured_trace,
    spread,
)
from esmcls.tasks.structure.prediction import StructureAnswering, contacts_of
from esmcls.tasks.structure.results import StructureReport

ABOUT = {"model": None, "validation": {"precision_l": 0.5}, "megabytes": 0.1}
SEQUENCE = chains.sequences()[-1]


@pytest.fixture(scope="module", autouse=True)
def heads() -> Iterator[None]:
    """Heads that are quick, in place of the registered ones, and quick folding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure_task.StructureTask, "head_class", lambda self, name: chains.HEADS[name])
        patch.setattr(folding, "fold", chains.quick_fold)
        patch.setattr(search, "PROGRAM", "no-such-program")  # which would take longer than all else here
        yield


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of chains with a model, evaluated."""
    folder = tmp_path_factory.mktemp("structures") / "work"
    esmcls.fit(chains.workspace(folder))
    (folder / "told.txt").write_text(done("evaluate", "-w", folder).out)
    return folder


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two proteins to ask about, the second too short for any contact."""
    path = tmp_path_factory.mktemp("queries") / "new.fasta"
    path.write_text(f">a\n{SEQUENCE}\n>b\nMKT\n")
    return path


def answers_of(head: str = "pairs", questions: StructureQuestions | None = None) -> StructureAnswers:
    """Return what a head says of the test chains."""
    asked = questions or StructureQuestions(chains.dataset().part("test"), chains.dataset().take([]))
    return asked.ask(FakeModel(chains.HEADS[head]()), vectorless(asked.known.sequences), vectorless([]), 1.5, ABOUT)


def vectorless(sequences: list[str]) -> Features:
    """Return features of sequences without vectors."""
    return Features.from_arrays(np.zeros((len(sequences), 0), np.float32), sequences=sequences)


class FakeModel:
    """A model by its head alone."""

    name = "fake"
    findings = NoFindings()
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    neighbours = None

    def __init__(self, head: Any) -> None:
        self.head = head


def entrant(name: str, head: str) -> Entrant[StructureAnswers]:
    return Entrant(name, head, "", head == "separation", answers_of(head))


# What is measured


def sure(distance: Any, positions: Any = None, length: int | None = None) -> PairAnswer:
    """Return an answer that is sure of distances."""
    n = len(distance)
    distogram = np.eye(BINS, dtype=np.float32)[binned(distance)]
    positions = np.arange(n) if positions is None else positions
    return PairAnswer(positions, distogram, np.full(n, 0.5, np.float32), length or n)


def test_a_head_that_is_sure_of_the_truth_reaches_all_that_can_be_reached() -> None:
    trace = chains.trace_of(SEQUENCE)
    chain = measured(sure(distances(trace)), trace)
    assert chain.values["precision_l5"] == 1.0
    assert chain.values["lddt"] == pytest.approx(1.0)
    assert chain.values["loss"] == pytest.approx(0.0, abs=1e-6)
    assert chain.values["confidence"] == 0.5


def test_precision_is_the_share_of_contacts_among_the_likeliest_pairs() -> None:
    trace = chains.trace_of(SEQUENCE)
    true = distances(trace)
    said = np.full_like(true, 15.0)
    said[0, 30] = said[30, 0] = said[1, 40] = said[40, 1] = 5.0
    kept = sum(true[i, j] < 8 for i, j in ((0, 30), (1, 40)))
    far = [(i, j) for i in range(len(true)) for j in range(i + 24, len(true)) if (i, j) not in ((0, 30), (1, 40))]
    others = [true[i, j] < 8 for i, j in far]  # all as improbable: those that stand first are taken
    taken = int(0.2 * len(true))
    assert measured(sure(said), trace).values["precision_l5"] == pytest.approx(
        (kept + sum(others[: taken - 2])) / taken, abs=1e-6
    )


def test_residues_that_were_not_resolved_or_not_seen_count_nowhere() -> None:
    trace = chains.trace_of(SEQUENCE)
    trace[5] = np.nan
    seen = np.delete(np.arange(len(trace)), [10, 11])
    said = np.nan_to_num(distances(trace), nan=3.0)[np.ix_(seen, seen)]
    chain = measured(sure(said, seen, len(trace)), trace)
    assert np.flatnonzero(np.isnan(chain.confidence)).tolist() == [5, 10, 11]
    assert np.flatnonzero(np.isnan(chain.lddt)).tolist() == [5, 10, 11]
    assert chain.values["lddt"] == pytest.approx(1.0)
    assert np.isnan(chain.expected[10]).all()


def test_a_chain_too_short_for_long_range_pairs_has_no_precision_and_is_measured_otherwise() -> None:
    trace = chains.trace_of("ALVIGSDKEF")
    chain = measured(sure(distances(trace)), trace)
    assert np.isnan(chain.values["precision_l"])
    assert chain.values["lddt"] == pytest.approx(1.0)


def test_superpositions_of_a_folded_chain_are_searched_for_once_for_all_its_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searches: list[int] = []
    search = superposition._superpositions

    def counted(mobile: Any, target: Any, within: tuple[float, float]) -> Any:
        searches.append(len(mobile))
        return search(mobile, target, within)

    monkeypatch.setattr(superposition, "_superpositions", counted)
    trace = chains.trace_of(SEQUENCE)
    values = measured_trace(trace + 3, trace)
    assert tuple(values) == FOLDED
    assert searches == [len(trace)]


def test_means_and_intervals_are_over_the_chains_that_have_a_measure() -> None:
    values = np.full((4, len(MEASURES)), np.nan)
    values[:, 0] = [0.0, 0.2, 0.4, 1.0]
    values[1:, 5] = [2.0, 3.0, 4.0]
    intervals, drawn = intervals_over_chains(values, draws=200)
    assert {name: one.value for name, one in intervals.items()} == {"precision_l": pytest.approx(0.4), "loss": 3.0}
    assert 0 <= intervals["precision_l"].low < 0.4 < intervals["precision_l"].high <= 1
    assert intervals["loss"].high > 3
    assert drawn["loss"].shape == (200,)


def test_chains_to_fold_are_spread_over_the_lengths_and_none_is_too_long() -> None:
    assert spread([10, 600, 30, 20, 40], 2, longest=512) == [0, 4]
    assert spread([10, 20], 24, longest=512) == [0, 1]
    assert spread([600], 24, longest=512) == spread([10], 0, longest=512) == []


def test_the_best_the_median_and_the_worst_chain_are_drawn() -> None:
    drawn = answers_of().drawn
    assert len(drawn) == 3
    reached = np.linspace(0, 1, 5)
    all_of_them = [type(drawn[0])(row, drawn[0].expected, drawn[0].true, drawn[0].folded) for row in range(5)]
    assert [chain.row for chain in graded(all_of_them, reached)] == [4, 2, 0]


def test_answers_are_kept_whole_and_read_by_their_key_alone(tmp_path: Path) -> None:
    answers = answers_of()
    path = tmp_path / "a.safetensors"
    answers.save(path, "key")
    again = StructureAnswers.load(path, "key")
    assert again is not None
    for name in StructureAnswers.arrays:
        assert np.array_equal(getattr(again, name), getattr(answers, name), equal_nan=True)
    assert (again.ids, again.seconds, again.about) == (answers.ids, answers.seconds, ABOUT)
    for one, other in zip(again.drawn, answers.drawn, strict=True):
        assert one.row == other.row
        assert np.array_equal(one.expected, other.expected, equal_nan=True)
        assert np.array_equal(one.true, other.true, equal_nan=True)
        assert np.array_equal(one.folded, other.folded, equal_nan=True)
    assert StructureAnswers.load(path, "another") is None
    path.write_bytes(path.read_bytes()[:100])
    assert StructureAnswers.load(path, "key") is None


def test_answers_without_folding_have_no_trace_and_say_the_same_of_pairs() -> None:
    part = chains.dataset().part("test")
    without = answers_of(questions=StructureQuestions(part, part.take([]), chains=0))
    folded = answers_of()
    assert (without.folded, folded.folded, without.seconds[2]) == (0, 5, 0.0)
    assert np.array_equal(without.values[:, :6], folded.values[:, :6])
    assert "tm_score" not in evaluate_structures(without, folds=50).metrics
    assert np.isnan(without.drawn[0].folded).all()


def test_folds_are_joined_chain_by_chain() -> None:
    answers = answers_of()
    joined = StructureAnswers.joined([answers, answers])
    assert joined.values.shape == (10, len(MEASURES))
    assert joined.seconds[0] == 3.0
    assert joined.about["validation"] == {"precision_l": 0.5}
    assert len(joined.confidence) == joined.sizes.sum()


def test_models_are_set_in_order_and_what_they_are_behind_is_tested() -> None:
    rows = compare_structures([entrant("low", "separation"), entrant("high", "pairs")], draws=500)
    assert [row.name for row in rows] == ["high", "low"]
    assert rows[0].versus_best is None
    assert rows[0].behind == {}
    behind = rows[1].versus_best
    assert behind is not None
    gap = rows[1].metrics["precision_l"].value - rows[0].metrics["precision_l"].value
    assert behind.difference.value == pytest.approx(gap)
    assert behind.p_holm < 0.05
    assert set(rows[1].behind) == {"lddt", "tm_score"}


def test_models_of_other_chains_are_not_compared() -> None:
    part = chains.dataset().part("train")
    others = answers_of(questions=StructureQuestions(part, part.take([])))
    with pytest.raises(ValueError, match="other chains"):
        compare_structures([entrant("a", "pairs"), Entrant("b", "pairs", "", False, others)])


def test_chains_of_which_none_has_long_range_pairs_are_refused() -> None:
    part = chains.dataset().part("test")
    part.sequences[:] = [sequence[:20] for sequence in part.sequences]
    part.labels[:] = [chains.label(sequence) for sequence in part.sequences]
    short = answers_of(questions=StructureQuestions(part, part.take([])))
    with pytest.raises(UsageError, match="24 apart"):
        evaluate_structures(short)
    with pytest.raises(UsageError, match="24 apart"):
        compare_structures([Entrant("a", "pairs", "", False, short)])


def test_accuracy_is_told_by_the_number_of_related_training_chains() -> None:
    answers = answers_of()
    tiers = by_depth(answers, np.array([0, 0, 5, 12, 400]))
    assert [(tier.name, tier.n) for tier in tiers] == [("none", 2), ("2–9", 1), ("10–49", 1), ("50 and more", 1)]
    assert tiers[0].means["lddt"] == pytest.approx(answers.of("lddt")[:2].mean())


def test_confidence_is_held_against_what_residues_reach() -> None:
    answers = answers_of()
    bins = by_confidence(answers.confidence, answers.lddt)
    assert [one.name for one in bins] == ["0.6–0.7", "0.8–0.9"]
    assert sum(one.residues for one in bins) == answers.resolved.sum() == sum(answers.sizes) - 5


def test_projections_show_both_traces_in_the_axes_of_the_true_one() -> None:
    true = np.column_stack([np.arange(5.0) * 3, np.array([0, 1, 0, 1, 0.0]), np.zeros(5)])
    [(along, moved), _] = seen_from(true, true + [0, 2, 0])
    assert np.ptp(along[:, 0]) == pytest.approx(12, abs=0.5)
    assert np.abs(moved - along).max() == pytest.approx(2, abs=0.1)


# Contacts of new proteins


def test_contacts_are_the_likeliest_pairs_that_are_not_next_to_each_other() -> None:
    trace = chains.trace_of(SEQUENCE)
    contacts = contacts_of(sure(distances(trace)), 0.5, bounded=False)
    true = distances(trace)
    near = {(i, j) for i in range(len(true)) for j in range(i + 6, len(true)) if true[i, j] < 7.8}
    assert near <= set(zip(contacts.i.tolist(), contacts.j.tolist(), strict=True))
    assert (contacts.j - contacts.i).min() >= 6
    assert np.abs(contacts.distance - true[contacts.i, contacts.j]).max() < 0.2


def test_a_long_list_ends_at_as_many_pairs_as_residues_and_says_how_many_more_there_are() -> None:
    [answer] = chains.Seer().per_protein(vectorless([SEQUENCE]))
    bounded, whole = (contacts_of(answer, 0.1, bounded=bounded) for bounded in (True, False))
    assert len(bounded.i) == len(SEQUENCE) < len(whole.i)
    assert (bounded.more, whole.more) == (len(whole.i) - len(SEQUENCE), 0)
    assert (np.diff(whole.probability) <= 0).all()
    first = next(StructureAnswering(FakeModel(chains.Seer())).rows(Protein("a", SEQUENCE), bounded))
    assert first.note == f"{bounded.more:,} more pairs are as probable as .1 (--min-score .1)"


def test_places_of_a_sequence_that_was_cut_are_those_of_the_whole() -> None:
    trace = chains.trace_of(SEQUENCE)
    seen = np.r_[0:10, 30 : len(SEQUENCE)]
    contacts = contacts_of(sure(distances(trace[seen]), seen, len(trace)), 0.5, bounded=False)
    assert contacts.j.max() >= 30
    assert not set(contacts.i.tolist() + contacts.j.tolist()) & set(range(10, 30))
    assert len(contacts.i)


def test_predict_writes_a_row_a_contact(work: Path, queries: Path) -> None:
    ran = done("predict", queries, "-w", work)
    rows = list(csv.DictReader(ran.out.splitlines(), delimiter="\t"))
    assert "2 records: 2 answered, 1 no contact" in ran.err
    pairs = [row for row in rows if row["id"] == "a"]
    assert len(pairs) == len(SEQUENCE)
    assert all(SEQUENCE[int(row["i"]) - 1] == row["residue_i"] for row in pairs)
    assert all(float(row["distance"]) < 8 for row in pairs[:10])
    assert [(row["status"], row["i"]) for row in rows if row["id"] == "b"] == [("no_contact", "")]


def test_predict_writes_all_contacts_that_are_as_probable_as_asked_for(work: Path, queries: Path) -> None:
    ran = done("predict", queries, "-w", work, "--min-score", ".5", "--format", "jsonl")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    probabilities = [row["probability"] for row in rows if row["id"] == "a"]
    assert len(probabilities) > len(SEQUENCE)
    assert min(probabilities) >= 0.5


def test_the_library_gives_contacts_as_plain_values(work: Path) -> None:
    model = esmcls.load_model(work / "models" / "pairs")
    [contacts] = model.predict([SEQUENCE])
    i, j, probability, distance = contacts[0]
    assert 1 <= i < j <= len(SEQUENCE)
    assert probability > 0.9
    assert distance < 8
    rows = list(esmcls.predict(model, [Protein("a", SEQUENCE)]))
    assert (rows[0].i, rows[0].j) == (i, j)
    with pytest.raises(UsageError, match="a structure a protein has no classes"):
        model.predict_proba([SEQUENCE])


# The commands


def test_evaluate_prints_measures_with_intervals_and_names_what_a_contact_is(work: Path) -> None:
    told = (work / "told.txt").read_text()
    assert "5 chains, 235 of 240 residues resolved" in told
    assert "contacts: CA-CA < 8 Å, 24 residues or more apart" in told
    assert "folded: 5 chains, spread over the lengths" in told
    for name in ("P@L ", "P@L/2", "P@L/5", "lDDT ", "TM-score", "GDT-TS", "RMSD"):
        assert name in told


def test_the_report_of_a_model_shows_maps_traces_lengths_confidence_and_every_chain(work: Path) -> None:
    folder = work / "reports" / "evaluate-pairs"
    page = (folder / "report.html").read_text()
    for part in (
        "Distances between residues, as pairs expects them",
        "Folded traces over true ones",
        "By the length of the chain",
        "By the depth of the family",
        "How many training chains are related to each of these is not known here",
        "Confidence of pairs against what its distances reach",
        "Every chain",
    ):
        assert part in page
    assert {path.stem for path in (folder / "figures").iterdir()} == {"maps", "traces", "lengths", "confidence"}
    rows = list(csv.DictReader((folder / "chains.tsv").read_text().splitlines(), delimiter="\t"))
    assert [row["id"] for row in rows] == [f"c{number}" for number in range(8, 13)]
    assert all(float(row["lddt"]) > 0.9 and float(row["tm_score"]) > 0 for row in rows)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["contacts"].startswith("CA-CA < 8 Å")
    assert metrics["folded"] == 5


def test_a_report_is_the_same_bytes_twice(work: Path) -> None:
    page = work / "reports" / "evaluate-pairs" / "report.html"
    before = page.read_bytes()
    done("evaluate", "-w", work)
    assert page.read_bytes() == before


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take most of their time."""
    monkeypatch.setattr(report, "FIGURES", {})


@pytest.mark.usefixtures("undrawn")
def test_evaluate_folds_as_many_chains_as_asked_for(work: Path) -> None:
    two = esmcls.evaluate(work / "models" / "pairs", folded=2, name="two")
    assert "folded: 2 chains, spread over the lengths" in two.lines()
    told = done("evaluate", "-w", work, "--folded", "0", "--name", "none").out
    assert "TM-score" not in told
    page = (work / "reports" / "evaluate-none" / "report.html").read_text()
    assert "TM-score" not in page


def test_what_was_not_folded_has_no_trace_to_draw(work: Path) -> None:
    written = json.loads((work / "reports" / "evaluate-pairs" / "report.json").read_text())
    whole = StructureReport.from_json(written)
    without = replace(whole, samples=[replace(sample, true=[], folded=[], numbers=[]) for sample in whole.samples])
    assert draw_traces(without) is None
    assert draw_maps(replace(whole, samples=[])) is None
    assert draw_confidence(replace(whole, rows=[replace(whole.rows[0], confidence=[])])) is None
    assert draw_lengths(replace(whole, rows=[replace(whole.rows[0], lengths=whole.rows[0].lengths[:1])])) is None


def test_compare_sets_the_head_beside_the_mean_distance_by_separation(work: Path) -> None:
    ran = done("compare", "-w", work, "--heads", "pairs", "--name", "two")
    written = json.loads((work / "reports" / "compare-two" / "report.json").read_text())
    assert [(row["head"], row["baseline"]) for row in written["rows"]] == [("pairs", False), ("separation", True)]
    assert "paired bootstrap over chains" in ran.out
    assert len(written["samples"]) == 3
    page = (work / "reports" / "compare-two" / "report.html").read_text()
    assert "Against separation-two, a baseline: P@L +" in page
    lines = (work / "reports" / "compare-two" / "table.tsv").read_text().splitlines()
    table = list(csv.DictReader(lines, delimiter="\t"))
    assert float(table[1]["tm_score_difference"]) < 0


@pytest.mark.usefixtures("undrawn")
def test_compare_takes_up_what_it_left(work: Path) -> None:
    done("compare", "-w", work, "--heads", "pairs", "--name", "again")
    again = done("compare", "-w", work, "--heads", "pairs", "--name", "again")
    assert "pairs-again: kept from an earlier run" in again.err


@pytest.mark.usefixtures("undrawn")
def test_compare_in_folds_reads_no_test_part(work: Path) -> None:
    done("compare", "-w", work, "--heads", "pairs", "--folds", "2", "--name", "folds")
    written = json.loads((work / "reports" / "compare-folds" / "report.json").read_text())
    assert written["dataset"]["chains"] == 8
    assert len(written["rows"][0]["folds"]) == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("predict", "--top-k", "3"), "--top-k is not for model pairs, which answers pairs of residues: --min-score"),
        (("predict", "--coverage", ".9"), "--coverage is not for model pairs, which answers pairs of residues"),
        (("predict", "--format", "cafa"), "--format cafa is not for model pairs, which answers pairs of residues"),
        (("predict", "--format", "gff3"), "--format gff3 is for labels of residues; model pairs gives pairs: tsv"),
        (("predict", "--aspect", "F"), "--aspect is not for model pairs, which answers pairs of residues"),
        (("explain",), "model pairs answers pairs of residues; explain a model of whole proteins"),
    ],
)
def test_what_structures_cannot_have_is_refused_in_a_line(
    work: Path, queries: Path, words: tuple[str, ...], problem: str
) -> None:
    ran = run(words[0], queries, "-w", work, *words[1:])
    assert ran.code == 2
    assert problem in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("finetune",), "structure heads train on a frozen encoder, so there is nothing to fine-tune: use esmcls fit"),
        (("fit", "--calibration", ".2"), "which answers pairs of residues: there are no sets of classes"),
        (("fit", "--hold-out-families", ".2"), "which answers pairs of residues: a protein has no family to hold out"),
        (("embed", "--layers", "auto"), "--layers auto is not for"),
        (("fit-scan",), "domains"),
    ],
)
def test_what_is_for_other_kinds_is_refused_in_a_line(work: Path, words: tuple[str, ...], problem: str) -> None:
    ran = run(*words, "-w", work)
    assert ran.code in (1, 2)
    assert problem in ran.err
    assert "Traceback" not in ran.err


def test_models_of_structures_are_not_combined() -> None:
    task = structure_task.StructureTask()
    with pytest.raises(UsageError, match="models of structures cannot be combined; fit one head, such as pairs"):
        task.combine([], chains.dataset(), lambda part: vectorless(part.sequences), {})


def test_folding_is_not_for_other_kinds(tmp_path: Path) -> None:
    from families import write_families

    place = esmcls.Workspace.open(tmp_path / "w", create=True)
    esmcls.embed_dataset(place, write_families(tmp_path / "families.csv"), encoder="composition")
    esmcls.fit(place, "knn")
    ran = run("evaluate", "-w", tmp_path / "w", "--folded", "3")
    assert (ran.code, "--folded is for structures; model knn says one label a protein" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("1,2,3 ? 4,5,6", ""),
        ("1,2,3 4,5,6", "structure of 2 residues for a sequence of 3 residues"),
        ("1,2,3 ? 4,five,6", "residue 3 is '4,five,6', where x,y,z in Å or ? is wanted"),
    ],
)
def test_a_label_that_is_no_trace_of_its_sequence_is_told(label: str, problem: str) -> None:
    assert structure_task.StructureTask().fault_of_label(label, "MKT") == problem


def test_info_and_the_card_say_what_a_model_gives(work: Path) -> None:
    assert "task: structure" in done("info", work).out
    told = done("info", work / "models" / "pairs").out
    assert "a structure each" in told
    card = (work / "models" / "pairs" / "README.md").read_text()
    assert "Predicts distances between the residues of a protein, their contacts and a CA trace" in card
    assert "| lDDT of expected distances | 70.0 | – |" in card
    assert "the confidence of a residue is the lDDT that the head predicts" in card
    assert "contacts: CA-CA < 8 Å" in card  # as evaluate measured it


def test_the_app_shows_contacts_in_short(work: Path) -> None:
    model = esmcls.load_model(work / "models" / "pairs")
    answers = ask(model, [Protein("a", SEQUENCE), Protein("b", "MKT")])
    first, second = answers.table().rows
    assert first[2:4] == [len(SEQUENCE), len(SEQUENCE)]
    assert first[4] > 0
    assert first[5].count("–") == 5
    assert second[2:6] == [3, 0, 0, "no contact"]
    assert [path.name for path in answers.write(work)] == ["answers.tsv", "answers.xlsx"]


def test_structures_are_read_from_the_labels_of_a_part() -> None:
    part = chains.dataset().part("test")
    structures = structure_task.StructureTask().labels(part)
    assert isinstance(structures, Structures)
    assert np.isnan(structures.row(0)[2]).all()
    assert len(structures) == 5


def test_nothing_is_said_of_no_chains() -> None:
    assert StructureAnswering(FakeModel(chains.Seer())).ask(vectorless([])) == []

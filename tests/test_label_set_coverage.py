"""Sets of terms and labels hold, on average, the share of a protein's true ones that was promised."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from gaf import gaf_row, write_gaf
from ontologies import (
    BINDING,
    CELL_GROWTH,
    DIRECT,
    GROWTH,
    ION,
    MEMBRANE,
    NUCLEUS,
    PARENTS,
    ZINC,
    tiny_ontology,
    write_obo,
)
from test_term_prediction import table, toy

from esmcls import load_model
from esmcls.datasets.held_out import Shares
from esmcls.errors import ModelError, UsageError
from esmcls.evaluation.assess import evaluate
from esmcls.evaluation.compare import compare
from esmcls.labels.labels import LabelSets
from esmcls.metrics.calibration import risk_threshold
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.tasks.label_sets.trust.set_scores import SetCounts, join_sets
from esmcls.tasks.label_sets.trust.sets import CONFORMAL, CalibratedSets
from esmcls.workspace.workspace import Workspace

# the threshold


def test_the_threshold_is_the_highest_by_which_rows_and_one_more_lose_no_more_than_is_allowed() -> None:
    scores, shares = np.array([0.9, 0.2, 0.8, 0.7, 0.6]), np.array([0.5, 0.5, 1, 1, 1])
    assert risk_threshold(scores, shares, 4, 0.7) == 0.6  # .5 is lost, of 5 · .3 - 1 = .5
    assert risk_threshold(scores, shares, 4, 0.72) == 0.2
    assert risk_threshold(scores, shares, 4, 0.4) == 0.7
    assert np.isnan(risk_threshold(scores, shares, 4, 0.9))  # five rows and more may lose nothing by one of them


def test_of_equal_scores_none_is_lost_alone() -> None:
    scores, shares = np.array([0.3, 0.3, 0.3, 0.9]), np.ones(4)
    assert risk_threshold(scores, shares, 4, 0.4) == 0.3


def random_rows(rng: np.random.Generator, n: int) -> tuple[LabelSets, Any]:
    """Return proteins of 30 classes in two groups, and probabilities that say something of them."""
    chance = rng.beta(0.4, 1.2, (n, 30))
    true = rng.random((n, 30)) < chance
    names = [f"{number:02}" for number in range(30)]
    groups = ["C"] * 10 + ["F"] * 20
    rows = [np.flatnonzero(row).tolist() for row in true]
    noisy = np.clip(chance + rng.normal(0, 0.2, chance.shape), 0.001, 1).astype(np.float32)
    return LabelSets.from_codes(names, rows, groups), noisy


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_over_draws_of_proteins_sets_hold_the_promised_share_of_what_is_true_and_little_more(coverage: float) -> None:
    rng = np.random.default_rng(0)
    held: dict[str, list[float]] = {"C": [], "F": []}
    for _ in range(150):
        truth, scores = random_rows(rng, 60)
        sets = CalibratedSets.measure([(slice(0, 40), scores[:40])], truth.take(slice(40)))
        counts = SetCounts(sets, truth.take(slice(40, 60)), coverage)
        list(counts.counting(iter([(slice(0, 20), scores[40:])])))
        for group, found in counts.scores().items():
            held[group].append(found.reached)
    for shares in held.values():
        assert coverage - 0.01 < np.mean(shares) < coverage + 2 / 41  # the promise, and theorem 2 of its paper


def test_what_no_training_protein_has_counts_as_left_out_and_bounds_what_can_be_promised() -> None:
    truth = LabelSets.from_names([["a", "new"]] * 5 + [["a"]] * 15, ("a", "b", "new"), ("all labels",) * 3)
    scores = np.full((20, 2), 0.5, np.float32)
    sets = CalibratedSets.measure([(slice(0, 20), scores)], truth)
    assert sets.thresholds(0.83) == {"all labels": 0.5}  # 2.5 of 20 is lost by any, and 1 more: 17.5 / 21
    with pytest.raises(
        UsageError, match=r"too much is of no training protein, or given no chance; ask for .* 0\.833 at"
    ):
        sets.thresholds(0.84)
    counts = SetCounts(sets, truth, 0.83)
    list(counts.counting(iter([(slice(0, 20), scores)])))
    assert counts.scores()["all labels"].reached == (5 * 0.5 + 15) / 20
    assert counts.scores()["all labels"].mean_size == 2


def test_too_few_rows_of_a_group_are_told_with_how_many_it_takes() -> None:
    truth, scores = random_rows(np.random.default_rng(0), 10)
    sets = CalibratedSets.measure([(slice(0, 10), scores)], truth)
    with pytest.raises(
        UsageError, match=r"^8 calibration rows with a class of C are too few for sets of 95 %: it takes 19"
    ):
        sets.thresholds(0.95)
    with pytest.raises(UsageError, match=r"^coverage 1\.5 is not between 0 and 1"):
        sets.thresholds(1.5)
    assert list(sets.thresholds(0.8, "F")) == ["F"]
    assert sets.line().startswith("no sets of 90 %: 8 calibration rows with a class of C are too few")
    assert SetCounts(sets, truth, 0.95).reached()[0].lines()[0].startswith("no sets of 95 %: 8 calibration rows")


def test_what_calibration_rows_told_is_read_as_it_was_written_and_damage_is_one_line(tmp_path: Path) -> None:
    truth, scores = random_rows(np.random.default_rng(1), 40)
    sets = CalibratedSets.measure([(slice(0, 40), scores)], truth)
    sets.save(tmp_path)
    again = CalibratedSets.load(tmp_path)
    assert again is not None
    assert again.thresholds(0.9) == sets.thresholds(0.9)
    assert again.line() == sets.line()
    replace(sets, rows=sets.rows[1:]).save(tmp_path)
    with pytest.raises(ModelError, match=r"conformal.safetensors: is damaged \(its arrays do not fit one another\)"):
        CalibratedSets.load(tmp_path)
    (tmp_path / CONFORMAL).write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        CalibratedSets.load(tmp_path)
    assert CalibratedSets.load(tmp_path / "elsewhere") is None


def test_folds_are_told_together_by_how_many_proteins_each_has() -> None:
    one = {"coverage": 0.9, "reached": 1.0, "threshold": 0.2, "mean_size": 4.0, "median_size": 4.0}
    folds = [
        {"sets": {"F": one | {"proteins": 3, "calibration_rows": 10}}},
        {"sets": {"F": one | {"reached": 0.6, "proteins": 1, "calibration_rows": 12}}},
    ]
    found = join_sets(folds)["sets"]["F"]
    assert (found["reached"], found["proteins"], found["calibration_rows"]) == (pytest.approx(0.9), 4, 11)
    assert join_sets([folds[0], {"sets": {}, "no_sets": "too few"}]) == {"sets": {}, "no_sets": "too few"}
    assert join_sets([{}, {}]) == {}


# predictions: AA is said to have zinc .77 (so ion, binding) and membrane .04; CC growth 1, nucleus .005


def calibrated(threshold: float) -> Any:
    """Return the toy model with sets of 60 % from one probability on."""
    model = toy()
    truth = LabelSets.from_codes(
        model.classes, [[code] for code in range(len(model.classes))], model.findings.ontology.groups_of(model.classes)
    )
    groups = tuple(sorted(set(truth.groups)))
    rows = np.arange(30, dtype=np.int64)
    place = rows % len(groups)
    sets = CalibratedSets(groups, np.full(30, threshold, np.float32), rows, place)
    model.findings = replace(model.findings, sets=sets)
    return model


def test_a_set_holds_with_a_term_all_that_contain_it_whatever_the_table_would_show_else() -> None:
    rows = table(calibrated(0.03), "AA", "CC", coverage=0.6)
    first = {row.term: row.in_set for row in rows if row.id == "p0"}
    assert first == {BINDING: True, ION: True, ZINC: True, MEMBRANE: True}  # membrane's .04 is below --min-score
    second = {row.term: row.in_set for row in rows if row.id == "p1"}
    assert (second[GROWTH], second[CELL_GROWTH], second[NUCLEUS]) == (True, True, False)  # predicted as the best there
    assert all(row.in_set is None for row in table(calibrated(0.03), "AA"))


def test_an_aspect_that_is_asked_for_alone_needs_no_promise_of_the_others() -> None:
    model = calibrated(0.5)
    few = model.findings.sets.place != model.findings.sets.groups.index("C")
    model.findings = replace(model.findings, sets=model.findings.sets.taken(few))
    model.findings = replace(model.findings, sets=replace(model.findings.sets, groups=("F", "P")))
    rows = table(model, "AA", coverage=0.6, aspects=("F",))
    assert [(row.term, row.in_set) for row in rows] == [(BINDING, True), (ION, True), (ZINC, True)]


def test_known_terms_leave_a_set_too(tmp_path: Path) -> None:
    known = KnownTerms.read(write_gaf(tmp_path / "known.gaf", gaf_row("p0", ION, "F")), tiny_ontology())
    rows = table(calibrated(0.03), "AA", known=known, coverage=0.6)
    assert [(row.term, row.in_set) for row in rows] == [(ZINC, True), (MEMBRANE, True)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2}, "--top-k would cut the sets of --coverage; leave out one of them"),
        ({"coverage": 0.99}, "10 calibration rows with a class of C are too few for sets of 99 %: it takes 99"),
    ],
)
def test_what_would_break_the_promise_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        table(calibrated(0.03), "AA", **{"coverage": 0.6, **options})


# the flow


def write_set(folder: Path, many: bool) -> list[str]:
    """Write 90 proteins of three kinds, and return the words that embed them."""
    rows = [
        (f"{letter}{number}", f"M{letter * (20 + number)}{'DEST'[number % 4]}LIVE", letter, number)
        for letter in DIRECT
        for number in range(30)
    ]
    parts = ["test" if n % 5 == 3 else "validation" if n % 10 == 1 else "train" for n in range(30)]
    if many:
        labels = {"A": "alanine-rich;long", "G": "glycine-rich", "K": "lysine-rich;long"}
        lines = [f"{name},{sequence},{labels[letter]},{parts[number]}" for name, sequence, letter, number in rows]
        (folder / "set.csv").write_text("\n".join(["id,sequence,label,split", *lines]) + "\n")
        return ["embed", "set.csv"]
    for part in ("train", "validation", "test"):
        fasta = [f">{name}\n{sequence}\n" for name, sequence, _, number in rows if parts[number] == part]
        (folder / f"{part}.fasta").write_text("".join(fasta))
    terms = [f"{name}\t{term}\t{PARENTS[term][1]}\n" for name, _, letter, _ in rows for term in DIRECT[letter]]
    (folder / "terms.tsv").write_text("EntryID\tterm\taspect\n" + "".join(terms))
    write_obo(folder / "go.obo")
    parts_given = ["--validation", "validation.fasta", "--test", "test.fasta"]
    return ["embed", "train.fasta", *parts_given, "--labels", "terms.tsv", "--obo", "go.obo"]


@pytest.fixture(scope="module", params=["terms", "labels"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace `w` of terms or of labels, and its model knn that has calibration rows."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done(*write_set(folder, request.param == "labels"), "--encoder", "composition", "-w", "w")
        told = done("fit", "--head", "knn", "--set", "k", "3", "--calibration", "50%", "-w", "w").out
    (folder / "told.txt").write_text(told)
    new = ">one\nMAAAAAAAAAAAAAAAAAAAAAAALIVE\n>two\nMKKKKKKKKKKKKKKKKKKKKKKKKLIVE\n"
    (folder / "new.fasta").write_text(new)
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_fit_says_from_what_probability_on_sets_hold(home: Path) -> None:
    line = (home / "told.txt").read_text().splitlines()[-1]
    noun = "terms" if home.name.startswith("terms") else "labels"
    assert line.startswith(f"32 calibration rows: sets of 90 % hold {noun} from a probability of ")
    model = load_model(home / "w" / "models" / "knn")
    assert model.manifest.setup["calibration"] == 0.5
    assert sum(model.class_counts) > 0


def test_predict_marks_the_set_and_a_submission_has_no_room_for_it(home: Path) -> None:
    words = ("predict", home / "new.fasta", "-w", home / "w", "--quiet")
    rows = rows_of(done(*words, "--coverage", ".8").out)
    assert list(rows[0])[-1] == "in_set"
    assert {row["in_set"] for row in rows} <= {"yes", "no"}
    assert any(row["in_set"] == "yes" for row in rows)
    assert "in_set" not in rows_of(done(*words).out)[0]
    refused = run(*words, "--coverage", ".8", "--format", "cafa")
    assert refused.code == 2
    assert "--coverage is for tables: " in refused.err or "--format cafa is not for" in refused.err
    told = run(*words, "--coverage", ".99")
    assert told.err.splitlines()[-1].endswith("it takes 99; fit with --calibration 10%, or more")


def test_evaluate_tells_what_sets_hold_and_how_large_they_are(home: Path) -> None:
    found = evaluate(load_model(home / "w" / "models" / "knn"))
    assert found.file is not None
    sets = json.loads(found.file.read_text())["sets"]
    assert set(sets) == ({"C", "F", "P"} if home.name.startswith("terms") else {"all labels"})
    for scores in sets.values():
        assert scores["coverage"] == 0.9
        assert 0.75 <= scores["reached"] <= 1  # on average .9: one test part of a dozen proteins is one draw
        assert scores["mean_size"] > 0.5  # a set may be empty
    assert any(line.startswith("sets of 90 %") and "a set" in line for line in found.lines())
    assert "sets of 90 %" in found.write().read_text()


def test_compare_sets_what_they_hold_side_by_side(home: Path) -> None:
    options = ("--heads", "knn,naive", "--no-baselines", "--calibration", "50%", "--coverage", ".8")
    ran = done("compare", *options, "-w", home / "w")
    assert any(line.startswith("sets") and "reached" in line for line in ran.out.splitlines())
    folder = home / "w" / "reports" / "compare"
    rows = rows_of((folder / "sets.tsv").read_text())
    assert {(row["model"], row["coverage"]) for row in rows} == {("knn-1", "0.8"), ("naive", "0.8")}
    assert ("aspect" in rows[0]) == home.name.startswith("terms")
    sizes = {row["model"]: float(row["mean_size"]) for row in rows if row.get("aspect", "C") == "C"}
    assert sizes["knn-1"] <= sizes["naive"]  # who knows nothing needs larger ones
    assert "with a stated coverage" in (folder / "report.html").read_text()
    told = json.loads((folder / "report.json").read_text())["rows"]
    assert all(row["sets"] for row in told)


def test_a_comparison_of_too_few_calibration_rows_says_so_of_each_model(home: Path) -> None:
    plan: dict[str, Any] = {"heads": ("knn",), "baselines": False, "coverage": 0.99}
    found = compare(Workspace.open(home / "w"), **plan, shares=Shares(calibration=0.5), name="few")
    assert any("no sets of 99 %: " in line and "it takes 99" in line for line in found.lines())
    plain = compare(Workspace.open(home / "w"), heads=("naive",), baselines=False)
    assert "sets" not in plain.report.to_json()["rows"][0]


def test_members_of_an_ensemble_keep_their_calibration_rows_from_it(home: Path, tmp_path: Path) -> None:
    for name, k in (("one", "1"), ("three", "3")):
        fitted = ("fit", "--head", "knn", "--set", "k", k, "--name", name, "--no-refit", "--calibration", "50%")
        done(*fitted, "-w", home / "w")
    words = ("fit", "--head", "ensemble", "--of", "one", "--of", "three", "--name", "both", "-w", home / "w")
    assert done(*words).out.splitlines()[-1].startswith("32 calibration rows: sets of 90 % hold ")

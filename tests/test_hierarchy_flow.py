"""One label a protein with a hierarchy, from the file to the report: what each command makes of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import done

import esmcls
from esmcls.evaluation.assess import assess
from esmcls.files import HIERARCHY as FILE
from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.models.folder import load_model
from esmcls.models.predict import predict
from esmcls.tasks.one_label.confidence import Confidence
from esmcls.tasks.one_label.levels.answers import LevelAnswers
from esmcls.tasks.one_label.levels.scores import agreed_level, level_scores, near_misses
from esmcls.workspace.workspace import Workspace

LETTERS = {"1.1.1": "AG", "1.1.2": "AS", "1.2.1": "KR", "1.2.2": "KE", "2.1.1": "WF", "2.1.2": "WY"}
"""Classes under one node differ in one of two letters."""
PARTS = ["train"] * 8 + ["validation"] + ["test"] * 3


def write_set(path: Path) -> Path:
    """Write 24 proteins a class, so alike under one node that a model of letters confuses them."""
    random = np.random.default_rng(0)
    rows = []
    for label, (own, other) in LETTERS.items():
        for number in range(24):
            tail = "".join(random.choice([*"ACDEFGHIKLMNPQRSTVWY"], 14))
            sequence = f"M{own * random.integers(3, 8)}{other * random.integers(0, 4)}{tail}LIVE"
            rows.append(f"{label}-{number},{sequence},{label},{PARTS[number % 12]}")
    path.write_text("\n".join(["id,sequence,label,split", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with set.csv, unknown.fasta, and a workspace `w` whose model knn has calibration rows."""
    folder = tmp_path_factory.mktemp("home")
    data = write_set(folder / "set.csv")
    (folder / "unknown.fasta").write_text(f">sure\nM{'K' * 12}RRRRLIVE\n>vague\nM{'ACDEFGHIKLMNPQRSTVWY' * 3}\n")
    done("embed", data, "--hierarchy", "dots", "--encoder", "composition", "-w", folder / "w")
    fitted = done("fit", "--head", "knn", "--calibration", "30%", "-w", folder / "w")
    assert "answers at a level, of 95 % from half of these rows, hold " in fitted.err + fitted.out
    return folder


@pytest.fixture(scope="module")
def measured(home: Path) -> tuple[str, Path]:
    """Return what `evaluate` says of the model, and the folder of its report."""
    return done("evaluate", "-w", home / "w").out, home / "w" / "reports" / "evaluate-knn"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


# predict


def test_an_answer_names_what_its_class_lies_under_with_the_probability_of_all_there(home: Path) -> None:
    rows = table(done("predict", home / "unknown.fasta", "--top-k", "6", "-w", home / "w").out)
    first = rows[0]
    assert first["label"].startswith("1.2.")
    [(parent, near), (top, far)] = [pair.split("=") for pair in first["ancestors"].split("|")]
    assert (parent, top) == ("1.2", "1")
    of_parent = sum(float(row["probability"]) for row in rows[:6] if row["label"].startswith("1.2."))
    assert float(near) == pytest.approx(of_parent, abs=1e-3)
    assert float(first["probability"]) <= float(near) <= float(far) <= 1
    assert (first["level"], first["answer"]) == ("", "")


def test_with_a_coverage_the_answer_is_at_the_narrowest_level_that_is_sure_enough(home: Path) -> None:
    words = ("predict", home / "unknown.fasta", "-w", home / "w", "--coverage")
    for coverage in (".6", ".95"):
        for row in table(done(*words, coverage).out):
            level, answer = row["level"], row["answer"]
            assert level in ("level 1", "level 2", "level 3", "none")
            assert row["label"].startswith(answer)
            assert answer.count(".") == ("none", "level 1", "level 2", "level 3").index(level) - (answer != "")
            assert row["label"] in row["set"].split("|")
    depths = [
        [row["answer"].count(".") + (row["answer"] != "") for row in table(done(*words, coverage).out)]
        for coverage in (".6", ".95")
    ]
    assert all(wide >= narrow for wide, narrow in zip(*depths, strict=True))


def test_python_gives_the_same_rows_and_columns(home: Path) -> None:
    model = load_model(home / "w" / "models" / "knn")
    rows = predict(model, [f"M{'K' * 12}RRRRLIVE"], coverage=0.6)
    [told] = table(done("predict", home / "unknown.fasta", "-w", home / "w", "--coverage", ".6").out)[:1]
    assert (rows[0].level, rows[0].answer, rows[0].ancestors) == (told["level"], told["answer"], told["ancestors"])  # type: ignore[attr-defined]
    assert rows.columns[-3:] == ("ancestors", "level", "answer")


def test_a_model_without_a_hierarchy_answers_as_it_did(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "w"
    done("embed", home / "set.csv", "--encoder", "composition", "-w", place)
    done("fit", "--head", "knn", "--calibration", "30%", "-w", place)
    header = done("predict", home / "unknown.fasta", "-w", place, "--coverage", ".6").out.splitlines()[0]
    assert header.split("\t")[-1] == "nearest_label"
    done(
        "embed", "--hierarchy", "dots", "--encoder", "composition", "-w", place
    )  # named later: the model knows nothing
    assert done("predict", home / "unknown.fasta", "-w", place).out.splitlines()[0] == header
    lines = assess(load_model(place / "models" / "knn"), Workspace.open(place)).lines()
    assert any(line.startswith("level 2") for line in lines)  # but can be measured with it
    assert not any(line.startswith("answers at a level") for line in lines)


def test_where_nothing_is_sure_enough_the_level_is_none_and_the_answer_empty() -> None:
    answers = LevelAnswers(Hierarchy.of_dots(["1.1", "1.2", "2.-"]), ("1.1", "1.2", "2.-"))
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.float32)
    for threshold, said in (
        (0.4, [("level 2", "1.1"), ("level 1", "2.-")]),
        (0.75, [("level 1", "1"), ("none", None)]),
        (1.0, [("none", None), ("none", None)]),
    ):
        assert [(row["level"], row["answer"]) for row in answers.answered(probabilities, threshold)] == said


def test_a_class_that_stands_alone_is_an_answer_at_the_last_level() -> None:
    answers = LevelAnswers(Hierarchy(("clan", "family"), {"PF1": "CL1"}), ("PF1", "PF4"))
    probabilities = np.array([[0.1, 0.9], [0.9, 0.1]], np.float32)
    said = [(row["level"], row["answer"]) for row in answers.answered(probabilities, 0.5)]
    assert said == [("family", "PF4"), ("family", "PF1")]


# evaluate and compare


def test_evaluate_tells_the_accuracy_at_every_level_and_the_coverage_of_answers(measured: tuple[str, Path]) -> None:
    out, folder = measured
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines if line[:1] == ["level"]] == [
        ["level", "percent"],
        *(["level", n] for n in "123"),
    ]
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracies = [level["accuracy"]["value"] for level in metrics["levels"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] == metrics["metrics"]["accuracy"]["value"]
    wrong = metrics["n"] - metrics["levels"][-1]["right"]
    assert metrics["near_misses"] == metrics["levels"][-2]["right"] - metrics["levels"][-1]["right"] <= wrong
    answers = metrics["answers_at_a_level"]
    assert sum(level["share"] for level in answers["levels"]) == pytest.approx(1)
    assert [level["name"] for level in answers["levels"]] == ["level 3", "level 2", "level 1", "none"]
    assert 0.8 < answers["test"] <= 1


def test_the_report_of_a_model_shows_levels_and_down_to_which_mistakes_are_right(
    measured: tuple[str, Path],
) -> None:
    _, folder = measured
    page = (folder / "report.html").read_text()
    assert "<h2>Levels of the hierarchy</h2>" in page
    assert (folder / "figures" / "levels.svg").exists()
    wrong = table((folder / "wrong.tsv").read_text())
    for row in wrong:
        shared = [one == other for one, other in zip(row["true"].split("."), row["taken_for"].split("."), strict=True)]
        depth = shared.index(False)
        assert row["right_to"] == (f"level {depth}" if depth else "none")
    assert wrong


def test_a_comparison_has_a_table_a_section_and_a_figure_of_levels(home: Path) -> None:
    words = ("compare", "--heads", "knn", "--no-baselines", "--calibration", "30%", "-w", home / "w")
    out = done(*words).out
    assert "near misses" in out
    folder = home / "w" / "reports" / "compare"
    rows = table((folder / "levels.tsv").read_text())
    assert [row["name"] for row in rows] == ["level 1", "level 2", "level 3"]
    assert all(float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) for row in rows)
    [sets] = table((folder / "level_sets.tsv").read_text())
    assert float(sets["coverage"]) == 0.95
    assert sum(float(sets[f"answered at {level}"]) for level in ("level 1", "level 2", "level 3", "none")) == 1
    page = (folder / "report.html").read_text()
    assert "<h2>Answers at a level</h2>" in page
    assert (folder / "figures" / "levels.svg").exists()
    assert done(*words).out == out  # from answers that were kept


def test_a_near_miss_is_a_wrong_answer_under_the_right_node_above() -> None:
    classes = ["1.1.1", "1.1.2", "1.2.1", "2.1.1"]
    tree = ClassTree.of(Hierarchy.of_dots(classes), classes)
    truth, said = np.array([0, 0, 0, 0]), np.array([0, 1, 2, 3])
    assert near_misses(tree, truth, said).tolist() == [False, True, False, False]
    assert [agreed_level(tree, 0, code) for code in said.tolist()] == ["level 3", "level 2", "level 1", "none"]


def test_a_partial_code_counts_at_the_levels_that_it_names() -> None:
    classes = ["1.1.1", "1.1.-"]
    tree = ClassTree.of(Hierarchy.of_dots(classes), classes)
    scores = level_scores(tree, np.array([0, 1, 1]), np.array([0, 0, 0]), folds=20)
    assert [(score.n, score.right) for score in scores] == [(3, 3), (3, 3), (1, 1)]


# what lies in a model folder


def test_a_model_keeps_its_own_copy_and_takes_it_along(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "w" / "models" / "knn", tmp_path / "elsewhere")
    assert Hierarchy.load(tmp_path / "elsewhere" / FILE).levels == ("level 1", "level 2", "level 3")
    here, there = (
        done(
            "predict", home / "unknown.fasta", "--coverage", ".9", "--no-nearest", "--model", model, "-w", home / "w"
        ).out
        for model in ("knn", tmp_path / "elsewhere")
    )
    assert [row["answer"] for row in table(here)] == [row["answer"] for row in table(there)]
    assert "hierarchy: 3 levels" in done("info", tmp_path / "elsewhere").out


def test_an_ensemble_answers_at_a_level_too(home: Path) -> None:
    for name, head in (("a", "knn"), ("b", "linear")):
        settings = ("--set", "epochs", "2") if head == "linear" else ()
        done("fit", "--head", head, "--name", name, "--calibration", "30%", "--no-refit", *settings, "-w", home / "w")
    done("fit", "--head", "ensemble", "--of", "a", "--of", "b", "--name", "both", "-w", home / "w")
    [first, _] = table(
        done("predict", home / "unknown.fasta", "--model", "both", "--coverage", ".9", "-w", home / "w").out
    )
    assert first["level"]


def test_what_calibration_rows_told_is_read_as_it_was_written() -> None:
    confidence = Confidence((0.5, 0.25), None, (0.0, 0.75), "abc")
    assert Confidence.from_json(json.loads(json.dumps(confidence.to_json()))) == confidence
    assert "tree_scores" not in Confidence((0.5,)).to_json()  # as an older esmcls wrote it
    with pytest.raises(ValueError, match="not one of each calibration row"):
        Confidence.from_json(Confidence((0.5, 0.25), None, (0.5,), "abc").to_json())


def test_python_embeds_with_a_hierarchy_as_the_command_does(home: Path, tmp_path: Path) -> None:
    parents = tmp_path / "parents.tsv"
    parents.write_text("".join(f"{label}\tclan {label[:3]}\n" for label in LETTERS if label != "2.1.2"))
    esmcls.embed_dataset(tmp_path / "w", home / "set.csv", hierarchy=parents, task="one-label", encoder="composition")
    assert "hierarchy: 2 levels (level 1, level 2), table of 5" in done("info", tmp_path / "w").out

"""Many labels a protein, without an ontology: how they are recognised, measured, and taken through the whole flow."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from kinds import MANY
from tiny import write_encoder

from esmcls import load_model
from esmcls.cache.features import Features
from esmcls.errors import DataError
from esmcls.evaluation.assess import evaluate
from esmcls.evaluation.compare import compare
from esmcls.labels.label_lists import LabelLists
from esmcls.labels.labels import LabelSets
from esmcls.metrics.label_f1 import Decided
from esmcls.models.fit import fit
from esmcls.tasks.label_sets.scores import AspectScores
from esmcls.tasks.many_labels.answers import LabelAnswers, LabelQuestions
from esmcls.tasks.many_labels.classes import ALL
from esmcls.tasks.many_labels.coding import label_sets
from esmcls.tasks.many_labels.comparison import compare_labels
from esmcls.tasks.many_labels.evaluation import scores_of
from esmcls.workspace.workspace import Workspace

ROWS = MANY.read()
SEQUENCES = [f"M{'AGKL'[number % 4] * 20}{'DEST'[number // 4 % 4]}LIVE" for number in range(16)]


def write_csv(path: Path, labels: list[str]) -> Path:
    rows = [f'p{number},{SEQUENCES[number]},"{label}"\n' for number, label in enumerate(labels)]
    path.write_text("id,sequence,label\n" + "".join(rows))
    return path


def write_fasta(path: Path, ids: str) -> Path:
    path.write_text("".join(f">{name}\n{SEQUENCES[number]}\n" for number, name in enumerate(ids)))
    return path


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text()), delimiter="\t"))


def embed(folder: Path, *words: str | Path) -> Any:
    return run("embed", *words, "--encoder", "composition", "-w", folder / "w")


def labels_of(folder: Path) -> list[str]:
    return Workspace.open(folder / "w").dataset.labels


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (["b;a", "a", "b"], ["a;b", "a", "b"]),
        (["b|a", "a", "b"], ["a;b", "a", "b"]),
        (["Cell membrane; Nucleus", "Nucleus", "x, y"], ["Cell membrane;Nucleus", "Nucleus", "x, y"]),
        (["1.1.1.1;2.3.1.4", "1.1.1.1", "2.3.1.-"], ["1.1.1.1;2.3.1.4", "1.1.1.1", "2.3.1.-"]),
    ],
)
def test_a_separator_between_labels_makes_a_set_of_many_labels(
    tmp_path: Path, labels: list[str], kept: list[str]
) -> None:
    ran = embed(tmp_path, write_csv(tmp_path / "set.csv", labels))
    assert ran.code == 0
    number = len({name for label in kept for name in label.split(";")})
    assert f"task: many-labels, {number} labels, 1.3 a protein" in ran.err
    assert sorted(labels_of(tmp_path)) == sorted(kept)
    assert Workspace.open(tmp_path / "w").task == "many-labels"
    assert f"{number} classes" in done("info", tmp_path / "w").out


def test_a_repeated_id_in_the_labels_table_gives_a_protein_several_labels(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("a\tx y\nb\tx y\na\tz\nc\tz\nc\tz\n")
    ran = embed(tmp_path, write_fasta(tmp_path / "s.fasta", "abc"), "--labels", table)
    assert labels_of(tmp_path) == ["x y;z", "x y", "z"]
    assert "task: many-labels, 2 labels, 1.3 a protein" in ran.err
    assert "1 protein with a label twice: counted once" in ran.err


def test_labels_of_a_handful_of_proteins_are_many_if_the_user_says_so(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "set.csv", ["a", "b", "a"])
    assert embed(tmp_path, path).code == 0
    assert Workspace.open(tmp_path / "w").task == "one-label"
    assert "task: many-labels, 2 labels, 1.0 a protein" in embed(tmp_path, path, "--task", "many-labels").err


def test_a_cell_is_one_class_if_the_user_says_so(tmp_path: Path) -> None:
    assert embed(tmp_path, write_csv(tmp_path / "set.csv", ["a; b", "a", "b"]), "--task", "one-label").code == 0
    assert labels_of(tmp_path) == ["a; b", "a", "b"]


def test_what_is_cleaned_of_lists_is_counted() -> None:
    lists = LabelLists.of(["a;;b", ";a", "a|", "b; b", "a"])
    assert lists.texts == ["a;b", "a", "a", "b", "a"]
    assert lists.lines() == [
        "task: many-labels, 2 labels, 1.2 a protein",
        "3 proteins with an empty label (nothing beside a ; or |): left out",
        "1 protein with a label twice: counted once",
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a;b", " ; ", "b"], "set.csv:3: record 'p1': no label in ';'; give it one or leave the record out"),
        (["a;b", "", "b"], "set.csv:3: record 'p1': no label; give it one or leave the record out"),
        (
            ["0.31;0.55", "1.27", "2.5"],
            "labels are lists of numbers (0.31, 0.55, 1.27, …: 4 different ones), not of classes; "
            "put a letter before each if they do name classes",
        ),
        (
            ["1.1.1.1, 2.3.1.4", "a;b", "a"],
            "label '1.1.1.1, 2.3.1.4' lists 2 codes with commas between (1 such label); put ; or | between",
        ),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(tmp_path: Path, labels: list[str], message: str) -> None:
    ran = embed(tmp_path, write_csv(tmp_path / "set.csv", labels))
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert message in ran.err


@pytest.mark.parametrize(
    ("table", "words", "message"),
    [
        ("a\tx\nb\ty\na\tx\n", (), ":3: record 'a': this id stands at {}:1 too"),
        ("a\tx\nb\ty\na\tz\n", ("--task", "one-label"), ":3: record 'a': this id stands at {}:1 too"),
        ("a\tx\nb\t\na\tz\n", (), ":2: record 'b': no label; give each id a label"),
        (
            "id\tlabel\tsplit\na\tx\ttrain\nb\ty\ttrain\na\tz\ttest\n",
            (),
            ":4: record 'a': part test, but train before; give each id one part",
        ),
        ("a\tGO:0005515\nb\tx\na\tGO:0003677\n", (), "a table of Gene Ontology terms, several a protein"),
    ],
)
def test_a_labels_table_that_cannot_be_used_is_one_line(
    tmp_path: Path, table: str, words: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text(table)
    ran = embed(tmp_path, write_fasta(tmp_path / "s.fasta", "ab"), "--labels", path, *words)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert message.format(path) in ran.err


# measures


def decided() -> Decided:
    """Label a: 2 right, 2 true, 3 predicted; b: 1, 2, 1; c: 0, 1, 0; d, which no protein has: 0, 0, 1."""
    truth = LabelSets.from_names([["a", "b"], ["a"], ["b", "c"], ["e"]], "abcde", (ALL,) * 5)
    predicted = LabelSets.from_names([["a", "b"], ["a"], ["a"], ["d"]], "abcde", (ALL,) * 5)
    return Decided(truth, predicted)


def test_f1_is_what_can_be_counted_by_hand() -> None:
    right, true, predicted = decided().per_label()
    assert right.tolist() == [2, 1, 0, 0, 0]
    assert true.tolist() == [2, 2, 1, 0, 1]
    assert predicted.tolist() == [3, 1, 0, 1, 0]
    assert decided().f1().tolist() == pytest.approx([4 / 5, 2 / 3, 0, 0, 0])
    assert decided().measures() == {
        "f1_micro": pytest.approx(2 * 3 / (6 + 5)),
        "f1_macro": pytest.approx((4 / 5 + 2 / 3 + 0 + 0) / 4),  # d has no support
        "coverage": pytest.approx(2 / 4),
    }


def test_a_resample_is_what_its_proteins_alone_would_be() -> None:
    measured = decided().resampled(np.array([[1, 1, 0, 0], [0, 0, 1, 1], [2, 0, 1, 0]]))
    assert measured["f1_micro"].tolist() == pytest.approx([1, 0, 2 * 4 / (6 + 5)])
    assert measured["f1_macro"].tolist() == pytest.approx([1, 0, (2 * 2 / 5 + 2 * 2 / 5 + 0) / 3])
    assert measured["coverage"].tolist() == pytest.approx([1, 0, 2 / 3])


def test_decisions_of_other_proteins_are_refused() -> None:
    truth = decided().truth
    with pytest.raises(ValueError, match="truth and predictions of other proteins or classes"):
        Decided(truth, truth.take(slice(2)))


def test_f1_by_frequency_is_a_mean_over_the_labels_of_a_range() -> None:
    names = ("0", "1-5", "6-10", "11-50", "51-500", ">500")
    ranked = AspectScores.from_json(
        {
            "proteins": 4,
            "metrics": {},
            "thresholds": {},
            "aupr": {"micro": 0.5, "macro": 0.5, "terms": 4},
            "precision": [],
            "recall": [],
            "buckets": [{"name": name, "terms": 0, "fmax": None, "micro": None, "macro": None} for name in names],
            "lengths": [],
        }
    )
    scores = scores_of(ranked, decided(), np.array([7, 8, 3, 3, 0]), np.ones((3, 4), np.int16))
    assert [bucket.f1 for bucket in scores.buckets] == [0, 0, pytest.approx((4 / 5 + 2 / 3) / 2), None, None, None]


# the flow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of many labels, and a workspace `w` of it with two models."""
    folder = tmp_path_factory.mktemp("many")
    rows = [",".join((*row[:2], row[2].replace("long", "long chain"), row[3])) for row in ROWS]
    (folder / "set.csv").write_text("\n".join(["id,sequence,label,split", *rows]) + "\n")
    done("embed", folder / "set.csv", "--encoder", "composition", "-w", folder / "w")
    for head, *knobs in (("naive",), ("knn", "--set", "k", "3"), ("linear", "--set", "epochs", "2")):
        done("fit", "--head", head, *knobs, "-w", folder / "w")
    (folder / "new.fasta").write_text(">new one\nMAAAAAAAAAAAAAAAAAAAAAAALIVE\n>other\nMKKKKKKKKKKKKKKKKKKKKKKKKLIVE\n")
    return folder


def test_predictions_are_a_row_a_label_with_its_threshold(home: Path) -> None:
    text = done("predict", home / "new.fasta", "--model", "knn", "-w", home / "w").out
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert ",".join(rows[0]) == (
        "id,rank,label,probability,threshold,predicted,nearest_id,status,note,model,expected_f,description"
    )
    assert {row["label"] for row in rows if row["id"] == "new" and int(row["rank"]) < 3} == {
        "alanine-rich",
        "long chain",
    }
    assert next(row["label"] for row in rows if row["id"] == "other") == "lysine-rich"
    for row in rows:
        assert row["predicted"] == ("yes" if float(row["probability"]) >= float(row["threshold"]) else "no")


def test_a_model_answers_in_python_as_the_command_does(home: Path) -> None:
    model = load_model(home / "w" / "models" / "knn")
    (best,) = model.predict(["MAAAAAAAAAAAAAAAAAAAAAAALIVE"], k=2)
    assert {name for name, _ in best} == {"alanine-rich", "long chain"}


def test_evaluate_measures_fmax_and_f1_and_leaves_a_table_of_labels(home: Path) -> None:
    ran = done("evaluate", "--model", "knn", "-w", home / "w")
    assert "6 proteins with 4 labels" in ran.out
    for line in ("Fmax                1.000", "F1, micro           1.000", "F1, macro           1.000"):
        assert line in ran.out
    folder = home / "w" / "reports" / "evaluate-knn"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["scores"]["metrics"]["f1_macro"]["value"] == 1
    rows = table(folder / "labels.tsv")
    assert {(row["label"], row["training_proteins"], row["test_proteins"], row["f1"]) for row in rows} == {
        ("alanine-rich", "6", "2", "1.0"),
        ("glycine-rich", "6", "2", "1.0"),
        ("long chain", "6", "2", "1.0"),
        ("lysine-rich", "6", "2", "1.0"),
    }
    assert "Rare and frequent labels" in (folder / "report.html").read_text()


def test_labelled_sequences_are_measured_by_a_table_with_repeated_ids_and_what_is_wrong_is_told(
    home: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text("new\talanine-rich\nother\tlysine-rich\nnew\tnever seen\n")
    ran = done("evaluate", home / "new.fasta", "--labels", labels, "--model", "knn", "-w", home / "w")
    assert "2 proteins with 3 labels" in ran.out
    assert "1 label of 1 that no training protein has (counted as missed)" in ran.out
    row = table(home / "w" / "reports" / "evaluate-knn-new.fasta" / "wrong.tsv")[0]
    assert (row["id"], row["right_labels"], row["missed_labels"]) == ("new", "alanine-rich", "never seen")
    assert row["wrong_labels"].startswith("long chain 0.")
    assert row["nearest_labels"] == "alanine-rich; long chain"


def test_a_comparison_is_paired_and_its_page_is_the_same_twice(home: Path) -> None:
    workspace = Workspace.open(home / "w")
    pages, folders = [], []
    for _ in range(2):
        page = compare(workspace, heads=("naive", "knn"), baselines=False).write()
        folders.append(page.parent)
        pages.append(page.read_text().split('<section id="cost">')[0])
    assert pages[0] == pages[1]
    assert "Comparison of 1 model and 1 baseline on many labels a protein" in pages[0]
    report = json.loads((folders[0] / "report.json").read_text())
    best, naive = report["rows"]
    assert (best["name"], naive["name"], best["versus_best"]) == ("knn-1", "naive", None)
    assert naive["versus_best"]["f1_macro"]["value"] < 0
    assert set(naive["versus_best"]) == {"fmax", "f1_micro", "f1_macro"}


def test_info_card_and_statistics_speak_of_labels(home: Path) -> None:
    assert "naive, " not in done("info", home / "w" / "models" / "knn").out
    assert "18 sequences of 4 labels" in done("info", home / "w" / "models" / "knn").out
    card = (home / "w" / "models" / "knn" / "README.md").read_text()
    assert "Predicts any number of labels a protein" in card
    for words in ((home / "set.csv",), ("-w", home / "w")):
        text = done("data", "stats", *words).out
        assert "labels a protein  median  mean  most" in text
        assert "alanine-rich                    10    33.33" in text


def test_a_model_is_exported_as_onnx_with_what_it_says(home: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    done("export", "--model", "linear", "-w", home / "w", "--format", "onnx", "-o", tmp_path / "m.onnx")
    model = load_model(home / "w" / "models" / "linear")
    x = model.features(["MAAAAAAAAAAAAAAAAAAAAAAALIVE"])
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.vectors("mean").astype(np.float32)})
    np.testing.assert_allclose(answer, model.probabilities(x), atol=1e-5)


def test_parts_are_drawn_at_random_since_sets_of_labels_hardly_recur(home: Path, tmp_path: Path) -> None:
    ran = done("data", "split", home / "set.csv", "-o", tmp_path / "out.csv")
    assert "random split" in ran.err
    assert "alanine-rich;long chain" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predict", "new.fasta", "--model", "knn", "--coverage", ".9"), "no calibration rows were set aside for sets"),
        (("predict", "new.fasta", "--model", "knn", "--known", "set.csv"), "--known is not for model"),
        (("evaluate", "--model", "knn", "--known", "set.csv"), "--known is not for model"),
        (("compare", "--known", "set.csv"), "--known is not for"),
        (("predict", "new.fasta", "--model", "knn", "--aspect", "F"), "--aspect is not for model"),
        (("predict", "new.fasta", "--model", "knn", "--format", "cafa"), "--format cafa is not for model"),
        (("evaluate", "--model", "knn", "--ia", "set.csv"), "--ia is not for model"),
        (("fit", "--head", "knn", "--hold-out-families", ".1"), "--hold-out-families is not for"),
        (("data", "stratify", "set.csv", "--total", "5", "-o", "x.csv"), "lists several, but so many of each family"),
    ],
)
def test_what_many_labels_cannot_have_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(home)
    ran = run(*words, *([] if words[0] == "data" else ["-w", "w"]), "--quiet")
    assert ran.code in (1, 2)
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_the_encoder_is_tuned_end_to_end(home: Path, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    where = ("-w", tmp_path / "w", "--device", "cpu")
    done("embed", home / "set.csv", "--encoder", encoder, *where)
    short = (
        "--method",
        "full",
        "--epochs",
        "1",
        "--batch",
        "8",
        "--start",
        "zero",
        "--loss",
        "asymmetric",
        "--calibration",
        "30%",
    )
    ran = done("finetune", "--encoder", encoder, *short, *where)
    assert "Fmax" in ran.out
    model = load_model(tmp_path / "w" / "models" / "finetuned")
    assert model.manifest.kind == "many-labels"
    assert (model.manifest.setup["calibration"], len(model.findings.sets)) == (0.3, 5)
    assert model.classes == ("alanine-rich", "glycine-rich", "long chain", "lysine-rich")
    assert set(evaluate(model).evaluation.metrics) == {"fmax", "f1_micro", "f1_macro", "coverage"}


# answers


def answers_of(home: Path, rows: slice = slice(None)) -> LabelAnswers:
    workspace = Workspace.open(home / "w")
    model = load_model(home / "w" / "models" / "naive")
    test = workspace.dataset.part("test")
    some = test.take(list(range(len(test)))[rows])
    x = Features.from_cache(workspace.latest_cache(), some)
    about = {"model": "m", "validation": {}, "megabytes": 0.0}
    return LabelQuestions(some, label_sets(some.labels)).ask(model, x, x.take([]), 1.0, about)


def test_answers_are_read_as_they_were_written(home: Path, tmp_path: Path) -> None:
    answers = answers_of(home)
    answers.save(tmp_path / "a.safetensors", "key")
    again = LabelAnswers.load(tmp_path / "a.safetensors", "key")
    assert again is not None
    assert (again.evaluation, again.about) == (answers.evaluation, answers.about)
    assert again.decided.predicted.names() == answers.decided.predicted.names()
    assert again.seconds == answers.seconds
    assert LabelAnswers.load(tmp_path / "a.safetensors", "another") is None
    (tmp_path / "a.safetensors").write_bytes(b"no")
    assert LabelAnswers.load(tmp_path / "a.safetensors", "key") is None


def test_folds_are_measured_together(home: Path) -> None:
    whole, halves = answers_of(home), [answers_of(home, slice(0, 3)), answers_of(home, slice(3, 6))]
    joined = LabelAnswers.joined(halves)
    for name, interval in whole.scores.metrics.items():
        assert joined.scores.metrics[name].value == pytest.approx(interval.value)
    assert joined.evaluation["n"] == 6


def test_models_of_other_proteins_are_not_compared(home: Path) -> None:
    with pytest.raises(ValueError, match="the models answered for other proteins or labels"):
        compare_labels(answers_of(home), [answers_of(home, slice(0, 3))])


def test_layers_are_chosen_by_what_validation_says(home: Path, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    ran = done("embed", home / "set.csv", "--encoder", encoder, "--layers", "auto", "-w", tmp_path / "w")
    assert "layers" in ran.out
    workspace = Workspace.open(tmp_path / "w")
    assert fit(workspace, "naive").manifest.kind == "many-labels"


def test_a_protein_without_a_label_is_refused_where_it_is_measured(home: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("id,sequence,label\na,MAAAALIVE,x;y\nb,MKKKKLIVE,|\n")
    ran = run("evaluate", given, "--model", "knn", "-w", home / "w")
    assert ran.code == 1
    assert "given.csv:3: record 'b': no label in '|'" in ran.err
    with pytest.raises(DataError, match="no label"):
        evaluate(load_model(home / "w" / "models" / "knn"), [given])

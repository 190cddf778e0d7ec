"""Proteins in, typed rows out, of whatever kind of task: what a notebook calls and the command `predict` writes."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from kinds import KINDS, ONE_LABEL, TERMS, Kind
from ontologies import BINDING, ION, ZINC

from esmcls.errors import MissingExtraError, UnknownNameError, UsageError
from esmcls.models.fit import fit_head
from esmcls.models.folder import load_model
from esmcls.models.model import Model
from esmcls.models.predict import Predictions, open_model, predict, predict_stream, stream_rows, write_answers
from esmcls.reading.records import Protein
from esmcls.reporting.rows import Written
from esmcls.tasks.go_terms.prediction import TermPrediction
from esmcls.tasks.one_label.prediction import Prediction
from esmcls.workspace.workspace import Workspace

ALANINE, LYSINE = "MAAAAAAAAAAAAAAAAAAAALIVE", "MKKKKKKKKKKKKKKKKKKKKLIVE"
PROTEINS = [Protein("first", ALANINE), Protein("second", LYSINE), Protein("first", ALANINE)]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """A workspace of each kind with a model."""
    opened = {}
    for kind in KINDS:
        opened[kind.name] = kind.workspace(tmp_path_factory.mktemp("predict") / "w")
        fit_head(opened[kind.name], "knn", {"k": "3"})
    return opened


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def workspace(kind: Kind, workspaces: dict[str, Workspace]) -> Workspace:
    return workspaces[kind.name]


@pytest.fixture
def model(workspace: Workspace) -> Model:
    return load_model(workspace.find_model("knn"))


def test_a_model_a_folder_a_workspace_and_its_path_give_the_same_rows(workspace: Workspace, model: Model) -> None:
    wanted = predict(model, PROTEINS)
    for source in (model.folder, str(model.folder), workspace, workspace.folder, str(workspace.folder)):
        assert predict(source, PROTEINS) == wanted
    assert predict(model, PROTEINS, device="cpu") == wanted


def test_every_record_is_answered_in_input_order_and_texts_are_called_by_their_number(model: Model) -> None:
    rows = predict(model, PROTEINS, k=2)
    names = [row.id for row in rows if row.rank == 1]
    assert names == ["first", "second", "first"]
    assert [row.id for row in predict(model, [ALANINE, LYSINE], k=1)] == ["1", "2"]
    assert predict(model, iter([ALANINE]), k=1) == predict(model, [ALANINE], k=1)
    assert predict(model, []) == []


def test_one_label_gives_the_likeliest_class(workspaces: dict[str, Workspace]) -> None:
    rows: Any = predict(workspaces["one label"], PROTEINS)
    assert {type(row) for row in rows} == {Prediction}
    assert [row.label for row in rows] == ["alanine-rich", "lysine-rich", "alanine-rich"]
    assert [row.rank for row in predict(workspaces["one label"], [ALANINE], k=3)] == [1, 2, 3]


def test_terms_gives_those_that_are_predicted_or_likely_with_their_parents(workspaces: dict[str, Workspace]) -> None:
    rows: Any = predict(workspaces["terms"], [ALANINE], aspects="F")
    assert {type(row) for row in rows} == {TermPrediction}
    assert [row.term for row in rows] == [BINDING, ION, ZINC]
    assert all(row.predicted for row in rows)
    assert [row.rank for row in predict(workspaces["terms"], [ALANINE], k=2)] == [1, 2]
    assert predict(workspaces["terms"], [ALANINE], aspects=("F", "C")) == predict(
        workspaces["terms"], [ALANINE], aspects="FC"
    )


def test_rows_come_as_they_are_read(model: Model) -> None:
    read = []

    def proteins() -> Iterator[Protein]:
        while True:
            read.append(1)
            yield Protein(str(len(read)), ALANINE)

    assert next(stream_rows(model, proteins(), block=4)).id == "1"
    assert len(read) == 4


@pytest.mark.parametrize("format", ["tsv", "jsonl", "cafa"])
def test_what_is_written_is_what_the_command_writes(
    format: str, kind: Kind, workspace: Workspace, model: Model, tmp_path: Path
) -> None:
    if format == "cafa" and kind is ONE_LABEL:
        with pytest.raises(UsageError, match="--format cafa is not for model knn, which gives one label a protein"):
            write_answers(model, PROTEINS, io.StringIO(), format)
        return
    fasta, handle = tmp_path / "new.fasta", io.StringIO()
    fasta.write_text("".join(f">{protein.id}\n{protein.sequence}\n" for protein in PROTEINS))
    written = write_answers(model, PROTEINS, handle, format, k=2)
    assert (written.records, written.left_out) == (3, [])
    ran = run("predict", fasta, "--format", format, "--top-k", "2", "-w", workspace.folder)
    assert handle.getvalue() == ran.out


def test_an_unknown_format_or_option_is_told_before_anything_is_written(model: Model) -> None:
    handle = io.StringIO()
    with pytest.raises(UnknownNameError, match=r"unknown format 'tvs'; did you mean 'tsv'\? \(known: csv, jsonl, tsv"):
        write_answers(model, PROTEINS, handle, "tvs")
    with pytest.raises(UnknownNameError, match="unknown option 'min_scor'; did you mean 'min_score'"):
        predict(model, PROTEINS, min_scor=0.5)
    assert handle.getvalue() == ""


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ONE_LABEL, {"min_score": 0.5}, "--min-score is not for model knn, which gives one label a protein"),
        (ONE_LABEL, {"aspects": "F"}, "--aspect is not for model knn, which gives one label a protein"),
        (ONE_LABEL, {"at_least": 0}, "--at-least is not for model knn, which gives one label a protein"),
        (TERMS, {"coverage": 0.9}, "no calibration rows were set aside for sets"),
    ],
    ids=str,
)
def test_an_option_of_another_kind_of_task_is_refused(
    kind: Kind, options: dict[str, Any], message: str, workspaces: dict[str, Workspace]
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        predict(workspaces[kind.name], PROTEINS, **options)
    assert predict(workspaces[kind.name], PROTEINS, **dict.fromkeys(options)) == predict(
        workspaces[kind.name], PROTEINS
    )


def test_an_option_for_tables_is_not_for_a_submission(workspaces: dict[str, Workspace]) -> None:
    model = load_model(workspaces["terms"].find_model("knn"))
    with pytest.raises(UsageError, match="--at-least is for tables: --format cafa holds all terms of at least"):
        write_answers(model, PROTEINS, io.StringIO(), "cafa", at_least=2)


def test_one_text_is_no_list_of_proteins(model: Model) -> None:
    with pytest.raises(UsageError, match="predict takes a list of sequences, not one text; put it into a list"):
        predict(model, ALANINE)


def test_the_stream_of_0_1_0_gives_the_likeliest_classes_of_both_kinds(model: Model) -> None:
    rows = list(predict_stream(model, PROTEINS, 2))
    assert {type(row) for row in rows} == {Prediction}
    pairs = [pair for ranked in model.predict([protein.sequence for protein in PROTEINS], 2) for pair in ranked]
    assert [(row.label, row.probability) for row in rows] == pairs
    assert rows[0].nearest_id is not None


def test_rows_are_a_table_for_notebooks(model: Model) -> None:
    rows = predict(model, PROTEINS, k=2)
    text = rows._repr_html_()
    assert text.count("<tr>") == 1 + len(rows)
    assert all(f"<th>{name}</th>" in text for name in rows.columns)
    assert rows.columns[:2] == ("id", "rank")
    assert Predictions().columns == ()
    many = predict(model, [ALANINE] * 30, k=1)._repr_html_()
    assert "<p>10 rows more</p>" in many


def test_a_name_is_not_taken_for_markup(model: Model) -> None:
    assert "&lt;b&gt;" in predict(model, [Protein("<b>", ALANINE)], k=1)._repr_html_()


def test_rows_become_a_frame_or_say_what_to_install(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = predict(model, PROTEINS, k=1)

    class Frames:
        @staticmethod
        def DataFrame(columns: dict[str, list[Any]], **_: Any) -> dict[str, list[Any]]:
            return columns

    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setitem(sys.modules, "pandas", Frames)
    frame = rows.to_frame()
    assert tuple(frame) == rows.columns
    assert frame["id"] == ["first", "second", "first"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="to_frame needs the package polars; run: pip install polars"):
        rows.to_frame()


@pytest.fixture
def fresh(kind: Kind, tmp_path: Path) -> Workspace:
    return kind.workspace(tmp_path / "w")


DESCRIBED = [
    Protein("first", ALANINE, "a protein of alanine"),
    Protein("second", ALANINE + "CDE"),
    Protein("third", ALANINE, "the same"),
]


def lines_of(model: Model, proteins: list[Protein], **options: Any) -> tuple[list[dict[str, str]], Written]:
    handle = io.StringIO()
    written = write_answers(model, proteins, handle, **options)
    return list(csv.DictReader(io.StringIO(handle.getvalue()), delimiter="\t")), written


def test_the_description_of_a_record_is_the_last_column_where_any_has_one(model: Model) -> None:
    rows, _ = lines_of(model, DESCRIBED, k=2)
    assert list(rows[0])[-1] == "description"
    assert [row["description"] for row in rows if row["rank"] in ("", "1")] == ["a protein of alanine", "", "the same"]
    assert all(not row["description"] for row in rows if row["rank"] == "2")
    bare, written = lines_of(model, DESCRIBED[1:2], k=2)
    assert list(bare[0]) == list(rows[0])[:-1]
    assert written.undescribed == 0


def test_descriptions_that_come_after_rows_without_a_column_for_them_are_counted(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.models.predict.BLOCK", 1)
    rows, written = lines_of(model, DESCRIBED[1:], k=1)
    assert "description" not in rows[0]
    assert written.undescribed == 1


def test_a_frame_has_descriptions_where_there_are_any(model: Model) -> None:
    assert predict(model, DESCRIBED, k=1).columns == (*predict(model, DESCRIBED[1:2], k=1).columns, "description")


def test_a_head_that_knows_no_neighbour_has_it_from_the_vectors_of_the_workspace(fresh: Workspace) -> None:
    model = fit_head(fresh, "linear").load()
    train = fresh.dataset.part("train")
    own = [Protein(f"q{row}", train.sequences[row]) for row in range(4)]
    rows = predict(model, own, k=1)
    assert [row.nearest_id for row in rows] == [train.ids[train.sequences.index(one.sequence)] for one in own]
    if not model.task.many:
        assert [row.nearest_label for row in rows] == train.labels[:4]
        assert max(abs(row.distance) for row in rows) < 1e-5


def test_the_nearest_is_that_of_the_largest_cosine_of_centred_vectors_in_blocks_or_at_once(
    fresh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit_head(fresh, "linear").load()
    new = [Protein(str(n), sequence) for n, sequence in enumerate(fresh.dataset.part("test").sequences)]
    train = fresh.dataset.part("train")
    vectors = fresh.latest_cache().read(train.sequences, "mean").astype(np.float64)
    queries = model.features([protein.sequence for protein in new]).vectors().astype(np.float64)
    centred, asked = vectors - vectors.mean(0), queries - vectors.mean(0)
    cosines = (asked / np.linalg.norm(asked, axis=1)[:, None]) @ (centred / np.linalg.norm(centred, axis=1)[:, None]).T
    expected = [train.ids[row] for row in cosines.argmax(1)]
    assert [row.nearest_id for row in predict(model, new, k=1)] == expected
    monkeypatch.setattr("esmcls.models.neighbours.READ", 5)
    for held in (0, 1 << 24):
        monkeypatch.setattr("esmcls.models.neighbours.HELD", held)
        assert [row.nearest_id for row in predict(fit_head(fresh, "linear").load(), new, k=1)] == expected


@pytest.mark.parametrize("nearest", [False, None, True])
def test_no_neighbour_is_told_where_it_is_not_wanted_or_not_at_hand(
    fresh: Workspace, tmp_path: Path, nearest: bool | None
) -> None:
    folder = fit_head(fresh, "linear").folder
    model = open_model(fresh.folder, "linear", nearest=nearest)
    assert [row.nearest_id is not None for row in predict(model, PROTEINS, k=1)] == [nearest is not False] * 3
    away = Path(shutil.copytree(folder, tmp_path / "away"))
    there = open_model(fresh.folder, str(away), nearest=nearest)
    assert (there.neighbours is not None) == (nearest is not False)  # in the workspace that is named beside it
    alone = open_model(tmp_path / "none", str(away), nearest=nearest)
    assert alone.lacks_neighbours == (nearest is not False)
    assert {row.nearest_id for row in predict(alone, PROTEINS, k=1)} == {None}


def test_too_many_training_proteins_are_searched_only_if_it_is_asked_for(
    fresh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_head(fresh, "linear")
    monkeypatch.setattr("esmcls.models.model.MOST", 2)
    assert open_model(fresh.folder, "linear").neighbours is None
    assert open_model(fresh.folder, "linear", nearest=True).neighbours is not None


@pytest.mark.parametrize("head", ["knn", "homology"])
def test_a_head_that_names_the_nearest_says_its_class_too(head: str, tmp_path: Path) -> None:
    place = ONE_LABEL.workspace(tmp_path / "w")
    model = fit_head(place, head).load()
    classes = dict(zip(place.dataset.ids, place.dataset.labels, strict=True))
    rows = predict(model, [Protein("q", place.dataset.part("train").sequences[0])], k=1)
    assert rows[0].nearest_label == classes[rows[0].nearest_id]

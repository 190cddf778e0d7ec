"""What the page takes and how it shows answers; the page itself is tried in a browser in extras/test_app_page.py."""

from __future__ import annotations

import csv
import html
from pathlib import Path

import pytest
from command import run
from families import rows, write_families
from number_proteins import write_numbers
from tiny import write_encoder, write_set

import esmcls
from esmcls.app.answers import ask, linked
from esmcls.app.beside import Domains, domains, why
from esmcls.app.details import details
from esmcls.app.models import OpenModels
from esmcls.app.questions import EXAMPLE, Limits, proteins_of
from esmcls.app.verdicts import NONE_OF_THESE, verdict
from esmcls.errors import DataError, ModelError, SequenceError, UnknownNameError, UsageError
from esmcls.reading.records import Protein
from esmcls.scanning.scanner import Domain, Scanned
from esmcls.tasks.one_label.prediction import Prediction

MARKUP = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    place = esmcls.Workspace.open(folder / "w", create=True)
    esmcls.embed_dataset(place, write_families(folder / "families.csv"), encoder="composition")
    for head in ("knn", "linear"):
        esmcls.fit(place, head)
    return folder / "w"


def test_a_bare_sequence_fasta_and_a_table_are_all_taken() -> None:
    assert [protein.sequence for protein in proteins_of("MKT\nayi ", None, Limits())] == ["MKTAYI"]
    assert [protein.id for protein in proteins_of(">a one\nMKT\n>b\nMAA\n", None, Limits())] == ["a", "b"]
    assert [protein.id for protein in proteins_of("id,sequence\nx,MKT\n", None, Limits())] == ["x"]


def test_a_wrapped_sequence_is_one_and_a_list_of_several_is_not_glued_together() -> None:
    assert [protein.sequence for protein in proteins_of("MKTA\nMAAA\nMK\n", None, Limits())] == ["MKTAMAAAMK"]
    for text in ("MKTAYI\nMAAAK\nMKTAYI\n", "MKT\nMKTAYI\n"):
        with pytest.raises(UsageError, match="one sequence or several"):
            proteins_of(text, None, Limits())
    assert [protein.sequence for protein in proteins_of("sequence\nMKTAYIAK\nMAAAAK\n", None, Limits())] == [
        "MKTAYIAK",
        "MAAAAK",
    ]
    with pytest.raises((DataError, UsageError)):
        proteins_of("id sequence\na MKT\n", None, Limits())


def test_a_dropped_file_is_taken_and_one_beside_a_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.fasta"
    path.write_text(">of-file\nMKT\n")
    for text in ("", EXAMPLE):
        assert [protein.id for protein in proteins_of(text, str(path), Limits())] == ["of-file"]
    with pytest.raises(UsageError, match="a file and a text are given"):
        proteins_of(">pasted\nMAA\n", str(path), Limits())


def test_a_complaint_names_the_line_and_no_folder_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "mine.fasta"
    path.write_text(">a\nMKT\n>b\nMK1\n")
    with pytest.raises(DataError, match=r"^mine\.fasta:4:3: record 'b': sign '1'"):
        proteins_of("", str(path), Limits())
    with pytest.raises(DataError, match=r"^the pasted text:2:3: record 'a': sign '1'"):
        proteins_of(">a\nMK1\n", None, Limits())
    with pytest.raises(SequenceError, match="sign '1'"):
        proteins_of("MK1", None, Limits())


@pytest.mark.parametrize(
    ("text", "limits", "told"),
    [
        ("  \n", Limits(), "nothing is asked"),
        (">a\nMKT\n>b\nMKT\n", Limits(sequences=1), "more than 1 sequences"),
        (">a\nMKT\n", Limits(residues=2), "more than 2 residues"),
    ],
)
def test_too_little_and_too_much_are_refused_in_a_line(text: str, limits: Limits, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        proteins_of(text, None, limits)


def test_a_table_has_a_row_a_protein_even_where_ids_are_equal(workspace: Path) -> None:
    alanines, lysines = f"M{'A' * 30}LIVE", f"M{'K' * 30}LIVE"
    answers = ask(OpenModels.of(workspace).get("knn"), [Protein("same", alanines), Protein("same", lysines)])
    table = answers.table()
    place = table.titles.index("class")
    assert [(row[0], row[1], row[place]) for row in table.rows] == [
        (1, "same", "alanine-rich"),
        (2, "same", "lysine-rich"),
    ]
    assert len(table.types) == len(table.titles) == len(table.rows[0])


def test_what_is_shown_agrees_with_predict_and_so_do_the_files(workspace: Path, tmp_path: Path) -> None:
    model = OpenModels.of(workspace).get("linear")
    proteins = [Protein(name, sequence) for name, sequence, _, _ in rows()[::5]]
    done = list[tuple[int, int]]()
    answers = ask(model, proteins, lambda *counts: done.append(counts))
    predicted = esmcls.predict(model, proteins)
    assert [row[3] for row in answers.table().rows] == [row.label for row in predicted]
    assert done[-1] == (len(proteins), len(proteins))
    paths = answers.write(tmp_path)
    assert [path.name for path in paths] == ["answers.tsv", "answers.xlsx"]
    with paths[0].open(encoding="utf-8") as file:
        first = [row for row in csv.DictReader(file, delimiter="\t") if row["rank"] == "1"]
    assert [(row["id"], row["label"]) for row in first] == [(row.id, row.label) for row in predicted]
    assert paths[1].read_bytes()[:2] == b"PK"


def test_ids_descriptions_and_classes_are_escaped(workspace: Path) -> None:
    model = OpenModels.of(workspace).get("knn")
    page = details(ask(model, [Protein(MARKUP, "MAAAAAAAAALIVE", MARKUP)]), 1)
    assert MARKUP not in page
    assert page.count("&lt;script&gt;") == 2
    assert "alanine-rich" in page
    assert linked(MARKUP) == "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_a_stranger_is_none_of_these_whatever_its_probability() -> None:
    assert verdict(Prediction("a", 1, "kinase", 0.99, status="rejected", confidence="high")) == NONE_OF_THESE
    assert verdict(Prediction("a", 1, "kinase", 0.99, level="none", confidence="high"), ("class",)) == NONE_OF_THESE
    assert verdict(Prediction("a", status="too_large")) == "too large"
    assert [verdict(Prediction("a", 1, "k", 0.5, confidence=word)) for word in ("high", "medium", "low")] == [
        "likely",
        "possible",
        "doubtful",
    ]


def test_a_model_of_numbers_shows_its_value(tmp_path: Path) -> None:
    place = esmcls.Workspace.open(tmp_path / "w", create=True)
    esmcls.embed_dataset(place, write_numbers(tmp_path / "n.csv"), encoder="composition", task="number")
    esmcls.fit(place, "ridge")
    table = ask(OpenModels.of(tmp_path / "w").get("ridge"), [Protein("a", f"M{'K' * 20}{'A' * 10}")]).table()
    assert table.titles[:3] == ["#", "id", "value"]
    assert table.rows[0][2] == pytest.approx(50, abs=3)


def test_the_best_model_comes_first_and_no_other_name_is_opened(workspace: Path) -> None:
    models = OpenModels.of(workspace)
    assert models.names[0] == esmcls.Workspace.open(workspace).best_model().name
    assert sorted(models.names) == ["knn", "linear"]
    with pytest.raises(UnknownNameError, match="unknown model"):
        models.get("../elsewhere")


def test_why_a_model_says_so_is_a_page_within_the_page(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    place = esmcls.Workspace.open(tmp_path / "w", create=True)
    esmcls.embed_dataset(place, write_set(tmp_path / "set.csv"), encoder=str(encoder))
    esmcls.fit(place, "linear")
    answers = ask(OpenModels.of(tmp_path / "w").get("linear"), [Protein(MARKUP, "MKTAYIAKQRQISFVKSHFSRQ")])
    frame = why(answers, 1)
    assert frame.startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!DOCTYPE html&gt;')
    assert "The logit of" in frame
    assert MARKUP not in html.unescape(frame)


def test_a_model_that_says_nothing_of_residues_says_so(workspace: Path) -> None:
    answers = ask(OpenModels.of(workspace).get("linear"), [Protein("a", "MAAAAAAAAALIVE")])
    with pytest.raises(UsageError, match="no vectors of residues"):
        why(answers, 1)


def test_domains_are_drawn_to_one_scale_with_names_escaped() -> None:
    whole = Scanned(Protein("whole", "M" * 200), (Domain(1, 100, MARKUP, 0.9, 5.0, 0.01),))
    half = Scanned(Protein(MARKUP, "M" * 100), ())
    drawing = Domains([whole, half], []).drawing()
    assert '<rect x="0.0" y="4" width="500.0"' in drawing
    assert '<rect x="0" y="13" width="1000.0"' in drawing
    assert '<rect x="0" y="13" width="500.0"' in drawing
    assert "none of these" in drawing
    assert MARKUP not in drawing


def test_without_a_scanner_there_is_no_button_for_domains(workspace: Path, tmp_path: Path) -> None:
    models = OpenModels.of(workspace)
    assert (models.has_scanner, models.has_dataset) == (False, True)
    with pytest.raises(ModelError, match="esmcls fit-scan"):
        domains(workspace, [Protein("a", "MAAA")], tmp_path)


def test_without_a_workspace_the_command_says_what_to_do(tmp_path: Path) -> None:
    done = run("app", "-w", tmp_path / "none")
    assert done.code != 0
    assert "esmcls embed" in done.err
    assert "Traceback" not in done.err

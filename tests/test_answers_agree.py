"""What a model answers is decided in one place: library, command and stream say the same of a protein."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from families import write_families
from gene_ontology import write_cafa, write_obo
from tiny import write_encoder

import esmcls
from esmcls.heads.registry import GROUP, TERM_GROUP, list_heads, load_head, reads_residues
from esmcls.reading.records import Protein

LABEL_HEADS = list_heads()
TERM_HEADS = list_heads("esmcls.term_heads")
QUERIES = {
    "wild": "MACDCHKRKRKRCCCCKKKK",
    "zinc": "MCHACCCCCCCCCCCC",
    "nuclear": "MRKDKKKKKKKKKKK",
    "alanine": "MAAAAAAAAAAAAAAAAAAAALIVE",
    "glycine": "MGGGGGGGGGGGGGGGGGGGGGDLIVE",
}


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A workspace of families and one of terms, embedded by two encoders and without models."""
    folder = tmp_path_factory.mktemp("agree")
    fasta, terms = write_cafa(folder)
    obo = write_obo(folder / "go.obo")
    families = write_families(folder / "families.csv")
    for encoder in (write_encoder(folder / "tiny.safetensors"), "kmer"):
        common = ("--encoder", encoder, "--dtype", "float32", "-q")
        assert run("embed", families, "-w", folder / "families", *common).code == 0
        assert run("embed", fasta, "--labels", terms, "--obo", obo, "-w", folder / "terms", *common).code == 0
    queries = folder / "queries.fasta"
    queries.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in QUERIES.items()), encoding="utf-8")
    return {"families": folder / "families", "terms": folder / "terms", "queries": queries}


def fitted(workspace: Path, head: str) -> Path:
    """Fit a head by command, of few epochs and once a module; return its model folder."""
    if head == "homology":
        pytest.importorskip("pyhmmer", reason="no engine: pyhmmer is not installed")
    folder = workspace / "models" / head
    if not folder.exists():
        made: Any = load_head(head, TERM_GROUP if workspace.name == "terms" else GROUP)
        encoder = workspace.parent / "tiny.safetensors" if reads_residues(made) else "kmer"
        few = ("--set", "epochs", "2") if hasattr(made.Config, "epochs") else ()
        assert run("fit", "--head", head, *few, "-w", workspace, "--encoder", encoder, "-q").code == 0
    return folder


def by_command(workspace: Path, queries: Path, head: str, *options: str) -> list[dict[str, object]]:
    """Return the rows that the command `predict` writes."""
    answer = run("predict", queries, "-w", workspace, "--model", head, "--format", "jsonl", "-q", *options)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


@cache
def by_library(folder: Path) -> esmcls.Model:
    return esmcls.load_model(folder)


@pytest.mark.parametrize("head", LABEL_HEADS)
def test_a_model_of_one_label_says_the_same_by_library_and_by_command(workspaces: dict[str, Path], head: str) -> None:
    model = by_library(fitted(workspaces["families"], head))
    rows = by_command(workspaces["families"], workspaces["queries"], head, "--top-k", "3")
    check_agreement(model, rows, "label")


@pytest.mark.parametrize("head", TERM_HEADS)
def test_a_model_of_terms_says_the_same_by_library_and_by_command(workspaces: dict[str, Path], head: str) -> None:
    model = by_library(fitted(workspaces["terms"], head))
    rows = by_command(workspaces["terms"], workspaces["queries"], head, "--min-score", "1e-9")
    check_agreement(model, rows, "term")


def check_agreement(model: esmcls.Model, rows: list[dict[str, object]], column: str) -> None:
    """Check every number of a table against `predict_proba`, `top_k`, `predict` and `predict_stream`."""
    place = {name: code for code, name in enumerate(model.classes)}
    number = {name: row for row, name in enumerate(QUERIES)}
    table = np.zeros((len(QUERIES), len(place)))
    for row in rows:
        if row["rank"] is not None:
            table[number[str(row["id"])], place[str(row[column])]] = row["probability"]
    sequences = list(QUERIES.values())
    probabilities = model.predict_proba(sequences)
    np.testing.assert_allclose(probabilities, table, atol=1e-6)

    codes, values = model.top_k(sequences, 3)
    np.testing.assert_array_equal(values, np.take_along_axis(probabilities, codes, axis=1))
    np.testing.assert_array_equal(values, -np.sort(-probabilities, axis=1)[:, :3])
    assert model.predict(sequences, 3) == [
        [(model.classes[code], value) for code, value in zip(*pair, strict=True)]
        for pair in zip(codes.tolist(), values.tolist(), strict=True)
    ]
    proteins = [Protein(name, sequence) for name, sequence in QUERIES.items()]
    streamed = [(row.label, row.probability) for row in esmcls.predict_stream(model, proteins, k=3)]
    assert streamed == [pair for pairs in model.predict(sequences, 3) for pair in pairs]


@pytest.mark.parametrize("head", TERM_HEADS)
def test_no_parent_is_less_probable_than_its_child_by_library(workspaces: dict[str, Path], head: str) -> None:
    model = by_library(fitted(workspaces["terms"], head))
    child, parent = model.task.hierarchy(model.classes).edges.T
    probabilities = model.predict_proba(list(QUERIES.values()))
    assert (probabilities[:, parent] >= probabilities[:, child]).all()

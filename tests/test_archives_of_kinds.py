"""What release 0.2.0 wrote of numbers, residues, many labels, structures, families and domains is read for ever.

As in `test_archives.py`, nothing here imports a module of esmcls by its place.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import done

RELEASE = Path(__file__).with_name("archives") / "release-0.2.0"
QUERIES = {"families": "domains.fasta"}
"""The proteins that the models of a kind were asked about, where they are not those of `unknown.fasta`."""
ANSWERS: dict[str, dict[str, list[dict[str, Any]]]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RELEASE.glob("*.json"))
}
MODELS = [(kind, model) for kind, answers in ANSWERS.items() for model in answers if model != "scan"]
OPTIONS = {"calibrated": ("--coverage", "0.5"), "careful": ("--coverage", "0.5"), "pairs": ("--min-score", "0.001")}
"""What else a model was asked."""
EVALUATED = {"numbers": "ridge", "residues": "linear", "many-labels": "linear", "families": "careful"}
EMBEDDED_ANEW = 1e-3
"""Of what follows from vectors that differ by 1e-5, or by a rounding of float16."""


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of copies of the archived workspaces."""
    folder = tmp_path_factory.mktemp("archives") / "release"
    return shutil.copytree(RELEASE, folder)


def asked(kind: str) -> Path:
    """Return the FASTA file that the models of a kind were asked about."""
    return RELEASE / QUERIES.get(kind, "unknown.fasta")


def assert_same(rows: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """Compare rows: numbers within what an encoder's rounding makes of them, all else to the letter."""
    assert len(rows) == len(before)
    for row, archived in zip(rows, before, strict=True):
        for name, value in archived.items():
            near = pytest.approx(value, abs=EMBEDDED_ANEW, rel=EMBEDDED_ANEW) if isinstance(value, float) else value
            assert row[name] == near, (name, row, archived)


def measures_of(report: Path) -> dict[str, float]:
    """Return all numbers of an evaluation, by where they stand in it, but those of time."""
    numbers: dict[str, float] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{place}/{name}")
        elif isinstance(value, float) and "second" not in place:
            numbers[place] = value

    walk(json.loads((report / "metrics.json").read_text(encoding="utf-8")), "")
    return numbers


@pytest.mark.parametrize(("kind", "model"), MODELS)
def test_an_archived_model_says_what_it_said(workspaces: Path, kind: str, model: str) -> None:
    options = ("--format", "jsonl", "--quiet", "--device", "cpu", "-w", workspaces / kind)
    lines = done("predict", asked(kind), "--model", model, *OPTIONS.get(model, ()), *options).out.splitlines()
    assert_same([json.loads(line) for line in lines], ANSWERS[kind][model])


def test_an_archived_scanner_finds_the_domains_it_found(workspaces: Path) -> None:
    table = done("scan", asked("families"), "--quiet", "--device", "cpu", "-w", workspaces / "families").out
    rows = list(csv.DictReader(io.StringIO(table), delimiter="\t"))
    before = ANSWERS["families"]["scan"]
    exact = ("id", "start", "end", "family")
    assert [[row[name] for name in exact] for row in rows] == [[row[name] for name in exact] for row in before]
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        [float(row["probability"]) for row in before], abs=EMBEDDED_ANEW
    )


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_archived_model_has_its_answers(kind: str) -> None:
    assert sorted({*ANSWERS[kind]} - {"scan"}) == sorted(path.name for path in (RELEASE / kind / "models").iterdir())


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_archived_workspace_is_described_and_its_caches_verified(
    workspaces: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspaces)
    about = done("info", "-w", kind).out
    for model in {*ANSWERS[kind]} - {"scan"}:
        assert model in about
    assert done("cache", "verify", "-w", kind, "--device", "cpu").out


@pytest.mark.parametrize(("kind", "model"), EVALUATED.items())
def test_evaluating_an_archived_model_again_gives_the_archived_numbers(tmp_path: Path, kind: str, model: str) -> None:
    folder = shutil.copytree(RELEASE / kind, tmp_path / kind)
    report = folder / "reports" / f"evaluate-{model}"
    before = measures_of(report)
    shutil.rmtree(report)
    done("evaluate", "--model", model, "-w", folder, "--device", "cpu", "--quiet")
    after = measures_of(report)
    assert before
    assert {name: after[name] for name in before} == pytest.approx(before, abs=1e-4)

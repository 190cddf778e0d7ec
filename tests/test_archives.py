"""What release 0.1.0 wrote is read for ever: `archives/README.md` says what is there and how it was made.

Nothing here imports a module of esmcls by its place, only public names and the command line, so that modules may move.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from command import done

import esmcls

ARCHIVES = Path(__file__).with_name("archives")
RELEASE = ARCHIVES / "release-0.1.0"
MOST_BYTES = 8_000_000
MACHINE = (b"/work", b"/root", b"/tmp", b"/home")
"""Where the archives were not made: a user's own folder is /data."""
FAMILIES = json.loads((RELEASE / "families.json").read_text(encoding="utf-8"))
TERMS = json.loads((RELEASE / "terms.json").read_text(encoding="utf-8"))
EXPECTED: dict[str, dict[str, Any]] = {"families": FAMILIES, "terms": TERMS}
CACHES = [(kind, name) for kind, expected in EXPECTED.items() for name in expected["vectors"]]
COVERAGE = 0.8
"""Of the sets that `make_0_1_0.py` asked for."""
SAME = 1e-6
"""Probabilities from the same vectors: float32 products of another processor or library differ in the last digits."""
EMBEDDED_ANEW = 1e-3
"""Probabilities from vectors that differ by 1e-5, or by a rounding of float16."""
Floats = npt.NDArray[np.float32]


@dataclass
class ArchivedEncoder:
    """The encoder of a cache, which knows the sequences that are in it: so a model gets the very vectors of then."""

    cache: esmcls.EmbeddingCache

    def __post_init__(self) -> None:
        spec = self.cache.spec
        self.name, self.digest, self.precision = spec.encoder, spec.digest, spec.precision
        self.layers, self.width, self.long = spec.layers, spec.width, spec.long

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        """Take all sequences at once."""
        yield len(list(lengths))

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> SimpleNamespace:
        """Return the vectors in the cache."""
        assert not keep
        pooled = {pooling: self.cache.read(sequences, pooling) for pooling in poolings}
        return SimpleNamespace(pooled=pooled, chunks=None, residues=None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return copies of the archived workspaces, for tests that write nothing."""
    place = tmp_path_factory.mktemp("archives")
    return {kind: shutil.copytree(RELEASE / kind, place / kind) for kind in EXPECTED}


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """Return what copies an archived workspace, for tests that write into it."""
    return lambda kind: shutil.copytree(RELEASE / kind, tmp_path / kind)


@pytest.fixture
def searches_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let phmmer find what it found when the archives were made, whatever version is installed; else search."""
    import pyhmmer

    tables = (expected["hits"] for expected in EXPECTED.values())
    known = {(query, n_targets): hits for table in tables for query, n_targets, hits in table}
    search = pyhmmer.hmmer.phmmer

    def phmmer(queries: Iterable[Any], targets: Any, **options: Any) -> Iterator[Any]:
        for query in queries:
            hits = known.get((query.textize().sequence, len(targets)))
            if hits is None:
                yield from search([query], targets, **options)
            else:
                rows = [SimpleNamespace(name=str(row), evalue=evalue, score=bits) for row, evalue, bits in hits]
                yield SimpleNamespace(reported=rows)

    monkeypatch.setattr(pyhmmer.hmmer, "phmmer", phmmer)
    monkeypatch.setattr(pyhmmer, "__version__", engine_version())


def engine_version() -> str:
    """Return the version of pyhmmer that the archives were made with."""
    return str(about_model("families", "homology")["config"]["version"])


def about_model(kind: str, name: str) -> dict[str, Any]:
    """Return the manifest of an archived model."""
    text = (RELEASE / kind / "models" / name / "manifest.json").read_text(encoding="utf-8")
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def cache_of(folder: Path, spec: dict[str, Any]) -> esmcls.EmbeddingCache:
    """Return the cache of a workspace that was made as a manifest's spec says; the encoder's name decides nothing."""
    for path in sorted((folder / "cache").glob("*/spec.json")):
        if json.loads(path.read_text(encoding="utf-8")) | {"encoder": ""} == spec | {"encoder": ""}:
            return esmcls.EmbeddingCache.open(path.parent)
    raise AssertionError(f"no cache of {spec}")


def model_of_then(folders: dict[str, Path], kind: str, name: str) -> esmcls.Model:
    """Load an archived model that reads the archived vectors."""
    cache = cache_of(folders[kind], about_model(kind, name)["spec"])
    return esmcls.load_model(folders[kind] / "models" / name, encoder=ArchivedEncoder(cache))


def probabilities_of(kind: str, name: str) -> Floats:
    """Return what an archived model said, (queries, classes)."""
    return np.array([answer["probabilities"] for answer in EXPECTED[kind]["models"][name]["answers"]], np.float32)


def proteins_of(kind: str) -> list[esmcls.Protein]:
    """Return the proteins that the archived models were asked about."""
    return [esmcls.Protein(name, sequence) for name, sequence in EXPECTED[kind]["queries"].items()]


def sequences_of(kind: str) -> list[str]:
    """Return their sequences."""
    return list(EXPECTED[kind]["queries"].values())


def queries_file(kind: str) -> Path:
    """Return the FASTA file of them."""
    return ARCHIVES / "slices" / {"families": "queries.fasta", "terms": "terms_queries.fasta"}[kind]


def rows_of(*args: str | Path) -> list[dict[str, Any]]:
    """Return the rows that `esmcls predict` writes."""
    out = done("predict", *args, "--format", "jsonl", "--device", "cpu", "--quiet").out
    return [json.loads(line) for line in out.splitlines()]


def measures_of(path: Path) -> dict[str, float]:
    """Return the measures of an evaluation: of terms those of each aspect."""
    evaluation = json.loads(path.read_text(encoding="utf-8"))
    return {
        f"{aspect} {name}": measure["value"]
        for aspect, facts in evaluation.get("aspects", {"": evaluation}).items()
        for name, measure in facts["metrics"].items()
    }


# the archives themselves


def test_no_archived_file_names_a_place_of_the_machine_it_was_made_on() -> None:
    for path in ARCHIVES.glob("release-*/**/*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [place for place in MACHINE if place in content], path


def test_the_archives_are_small() -> None:
    assert sum(path.stat().st_size for path in ARCHIVES.rglob("*") if path.is_file()) < MOST_BYTES


def test_every_archived_model_has_its_answers() -> None:
    for kind, expected in EXPECTED.items():
        assert sorted(expected["models"]) == sorted(path.name for path in (RELEASE / kind / "models").iterdir())


# caches


@pytest.mark.parametrize(("kind", "name"), CACHES)
def test_an_archived_cache_gives_the_vectors_of_then(folders: dict[str, Path], kind: str, name: str) -> None:
    expected = EXPECTED[kind]["vectors"][name]
    rows = {row: first for row, first in enumerate(expected["first"]) if first is not None}
    sequences = [sequences_of(kind)[row] for row in rows]
    cache = esmcls.EmbeddingCache.open(folders[kind] / "cache" / name)
    assert len(cache) == cache.verify().rows == expected["rows"]
    assert len(cache.missing(sequences_of(kind))) == len(expected["first"]) - len(rows)
    vectors = cache.read(sequences, "mean")
    assert vectors.dtype == expected["dtype"]
    np.testing.assert_allclose(vectors[:, :3], list(rows.values()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "name"), CACHES)
def test_embedding_anew_gives_the_archived_vectors(folders: dict[str, Path], kind: str, name: str) -> None:
    cache = esmcls.EmbeddingCache.open(folders[kind] / "cache" / name)
    spec, missing = cache.spec, set(cache.missing(sequences_of(kind)))
    sequences = [sequence for row, sequence in enumerate(sequences_of(kind)) if row not in missing]
    encoder = str(folders[kind].parent / spec.encoder) if "/" in spec.encoder else spec.encoder
    layers = spec.layers or None
    vectors = esmcls.embed(sequences, encoder=encoder, layers=layers, long=spec.long, precision=spec.precision)
    exact = spec.dtype == "float32"
    np.testing.assert_allclose(cache.read(sequences, "mean"), vectors, atol=1e-5, rtol=0 if exact else 1e-3)


# models


@pytest.mark.usefixtures("searches_of_then")
@pytest.mark.parametrize("name", FAMILIES["models"])
def test_an_archived_model_of_families_says_what_it_said(folders: dict[str, Path], name: str) -> None:
    model = model_of_then(folders, "families", name)
    coverage = COVERAGE if name == "doubts" else None
    rows = iter(esmcls.predict_stream(model, proteins_of("families"), k=len(model.classes), coverage=coverage))
    assert list(model.classes) == FAMILIES["models"][name]["classes"]
    for answer in FAMILIES["models"][name]["answers"]:
        ranked = [next(rows) for _ in model.classes]
        probabilities = {row.label: row.probability for row in ranked}
        found = [probabilities[label] for label in model.classes]
        np.testing.assert_allclose(found, answer["probabilities"], atol=SAME, rtol=1e-5)
        first = ranked[0]
        assert first.probability == max(found)
        assert first.status == answer.get("status")
        if "nearest_id" in answer:  # heads that knew none then have it from the vectors of the workspace now
            assert first.nearest_id == answer["nearest_id"]
            assert first.distance == pytest.approx(answer["distance"], abs=SAME)
        assert set((first.set or "").split("|")) == set(answer.get("set", "").split("|"))
    assert next(rows, None) is None


@pytest.mark.usefixtures("searches_of_then")
@pytest.mark.parametrize("name", TERMS["models"])
def test_an_archived_model_of_terms_says_what_its_command_said(folders: dict[str, Path], name: str) -> None:
    model = model_of_then(folders, "terms", name)
    assert list(model.classes) == TERMS["models"][name]["classes"]
    found = model.predict_proba(sequences_of("terms"))
    np.testing.assert_allclose(found, probabilities_of("terms", name), atol=SAME, rtol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [("families", "homology"), ("terms", "homology")])
def test_an_archived_search_is_that_of_its_engine_or_refused(folders: dict[str, Path], kind: str, name: str) -> None:
    import pyhmmer

    model = esmcls.load_model(folders[kind] / "models" / name)
    if pyhmmer.__version__ != engine_version():
        with pytest.raises(esmcls.EsmclsError, match=engine_version()):
            model.top_k(sequences_of(kind))
        return
    codes, _ = model.top_k(sequences_of(kind))
    expected = probabilities_of(kind, name)
    best = expected[np.arange(len(expected)), codes[:, 0]]
    np.testing.assert_allclose(best, expected.max(1), atol=1e-3)


def test_an_archived_fine_tuned_model_embeds_with_its_own_encoder(folders: dict[str, Path]) -> None:
    found = esmcls.load_model(folders["families"] / "models" / "tuned").predict_proba(sequences_of("families"))
    np.testing.assert_allclose(found, probabilities_of("families", "tuned"), atol=EMBEDDED_ANEW)


# commands


@pytest.mark.parametrize("kind", EXPECTED)
def test_info_describes_an_archived_workspace_and_all_its_models(folders: dict[str, Path], kind: str) -> None:
    said = done("info", "-w", folders[kind]).out
    for name in EXPECTED[kind]["models"]:
        assert name in said
        assert done("info", folders[kind] / "models" / name).out


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_caches_of_an_archived_workspace_are_verified(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[kind].parent)  # where they were made: a tuned encoder is called by its path from there
    assert done("cache", "verify", "-w", kind, "--device", "cpu").out


@pytest.mark.parametrize("kind", EXPECTED)
def test_evaluating_an_archived_model_again_gives_the_archived_numbers(copy: Callable[[str], Path], kind: str) -> None:
    folder = copy(kind)
    before = measures_of(folder / "reports" / "evaluate" / "linear" / "metrics.json")
    done("evaluate", "--model", "linear", "-w", folder, "--device", "cpu", "--quiet")
    after = measures_of(folder / "reports" / "evaluate-linear" / "metrics.json")
    assert before
    assert {name: after[name] for name in before} == pytest.approx(before, abs=1e-6)


@pytest.mark.usefixtures("searches_of_then")
@pytest.mark.parametrize("name", ["linear", "ensemble", "tuned"])
def test_predict_answers_with_an_archived_model_of_families(folders: dict[str, Path], name: str) -> None:
    rows = rows_of(queries_file("families"), "-w", folders["families"], "--model", name)
    assert [row["id"] for row in rows] == list(FAMILIES["queries"])
    expected = probabilities_of("families", name).max(1)
    np.testing.assert_allclose([row["probability"] for row in rows], expected, atol=EMBEDDED_ANEW)


@pytest.mark.usefixtures("searches_of_then")
@pytest.mark.parametrize("name", ["linear", "ensemble"])
def test_predict_answers_with_an_archived_model_of_terms(folders: dict[str, Path], name: str) -> None:
    rows = rows_of(queries_file("terms"), "-w", folders["terms"], "--model", name)
    for query, answer in zip(TERMS["queries"], TERMS["models"][name]["answers"], strict=True):
        assert sorted(row["term"] for row in rows if row["id"] == query and row["predicted"]) == answer["predicted"]
    scores = {(row["id"], row["term"]): row["probability"] for row in rows}
    probability = dict(zip(TERMS["queries"], probabilities_of("terms", name), strict=True))
    place = {term: code for code, term in enumerate(TERMS["models"][name]["classes"])}
    for (query, term), score in scores.items():
        assert score == pytest.approx(probability[query][place[term]], abs=EMBEDDED_ANEW)


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_comparison_goes_on_in_an_archived_workspace(copy: Callable[[str], Path], kind: str) -> None:
    folder = copy(kind)
    before = json.loads((folder / "reports" / "compare" / "report.json").read_text(encoding="utf-8"))
    heads = {"families": "linear,mlp", "terms": "linear,naive"}[kind]
    options = ("--encoders", "bundled", "--models", "knn", "--no-baselines", "--device", "cpu", "--quiet")
    done("compare", "-w", folder, "--heads", heads, "--set", "linear", "whiten", "False", *options)
    after = json.loads((folder / "reports" / "compare" / "report.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in after["rows"]} == {*(f"{head}-2" for head in heads.split(",")), "knn"}  # those stay
    knn = [next(row for row in report["rows"] if row["name"] == "knn") for report in (before, after)]
    measured = [row["metrics"]["accuracy"]["value"] if kind == "families" else row["mean_fmax"] for row in knn]
    assert measured[1] == pytest.approx(measured[0], abs=1e-6)
    assert not after["not_run"]

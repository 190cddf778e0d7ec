"""Make the archives of release 0.1.0, to be read for ever: python tests/archives/make_0_1_0.py [FOLDER]

Run once, by a Python 3.11 in which esmcls 0.1.0 (commit 3ff7f66) is installed with its constraints.txt. FOLDER, by
default /data/esmcls, is where a user could have worked: its name stays in what is written. Beside this file it leaves

    release-0.1.0/families/     a workspace of one label a protein
    release-0.1.0/terms/        a workspace of Gene Ontology terms
    release-0.1.0/families.json, terms.json      what 0.1.0 said with the models of each: see `asked`

Vectors are fp32 in float32, though float16 would be smaller: a rounded number may fall to the other side on another
processor, which is 5e-4 of it, while in float32 vectors of two processors agree within 1e-5. Searches are phmmer's, so
that a test needs no program. To keep all of it small there is one layer, heads are small, models that would hold a
large matrix read composition vectors, and figures and pages of reports are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from esmcls import homology_search
from esmcls.artifact import load_model
from esmcls.cache import EmbeddingCache
from esmcls.classifier import Model
from esmcls.dataset import Dataset
from esmcls.heads import reads_vectors
from esmcls.manifest import versions
from esmcls.prediction import features_for, predict_stream
from esmcls.readers import read_records
from esmcls.records import Protein
from esmcls.term_prediction import Wanted, answer_terms, predict_terms
from esmcls.workspace import Workspace
from esmcls_cli.main import main

HERE = Path(__file__).resolve().parent
RELEASE = HERE / "release-0.1.0"
VECTORS = "--precision fp32 --dtype float32"
BUNDLED = f"--encoder bundled --layers 4 {VECTORS}"
COMPOSITION = f"--encoder composition {VECTORS}"
TREES = "--set most_rounds 8 --set leaves 4"

FAMILIES = [
    f"embed proteins.csv {BUNDLED}",
    "finetune --adapters-only --rank 1 --families 4 --max-steps 3 --batch 8 --layers 4 --precision fp32 --start zero"
    " --name tuned",
    "embed queries.fasta --encoder families/models/tuned --precision fp32",
    f"embed {COMPOSITION}",
    f"embed unseen.fasta {COMPOSITION}",
    f"embed {BUNDLED}",
    f"embed unseen.fasta {BUNDLED}",
    "fit --head knn",
    "fit --head mlp --set hidden 16 --set whiten False --name doubts --hold-out-families 30% --calibration 20%",
    f"fit --head lightgbm --encoder composition {TREES}",
    f"fit --head lightgbm --encoder composition {TREES} --set direct_classes 1 --name ranker",
    "fit --head knn --encoder composition --name composition-knn",
    "compare --no-baselines --encoders bundled --heads linear,mlp,homology,ensemble --models knn,lightgbm"
    " --set linear whiten False --set mlp hidden 16 --set mlp whiten False",
    "fit --head ensemble --of linear --of composition-knn --name two-encoders",
    "evaluate --model linear",
]
TERMS = [
    "embed terms_train.fasta --validation terms_validation.fasta --test terms_test.fasta --labels terms.tsv"
    f" --obo go.obo {COMPOSITION}",
    f"embed terms_unseen.fasta {COMPOSITION}",
    f"embed {BUNDLED}",
    f"embed terms_unseen.fasta {BUNDLED}",
    "fit --head knn --encoder composition",
    f"fit --head lightgbm {TREES} --set most_terms 12 --set features 16",
    "fit --head mlp --set hidden 16 --set whiten False",
    "fit --head multitask --set hidden 16 --set shared 8 --set whiten False",
    "compare --encoders bundled --heads linear,homology,naive,ensemble --models knn --set linear whiten False",
    "evaluate --model linear",
]


Hits = dict[tuple[str, int], list[list[float]]]
"""(query, number of targets) -> target, E-value and bit score of each hit."""
TOO_BIG = ("figures", "report.html", "curves.svg")
COVERAGE = 0.8
"""Of the sets of a model with calibration rows."""
MACHINE = (b"/work", b"/root", b"/tmp", b"/home")


def make(folder: Path) -> None:
    """Make both workspaces in a folder, ask their models, and keep all beside this file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "slices", folder)
    shutil.rmtree(RELEASE, ignore_errors=True)
    os.chdir(folder)
    homology_search.PROGRAM = "mmseqs-that-is-not-there"
    for name, commands, queries in (("families", FAMILIES, "queries.fasta"), ("terms", TERMS, "terms_queries.fasta")):
        for command in commands:
            code = main([*command.split(), "--workspace", name, "--device", "cpu"])
            assert code == 0, f"esmcls {command}: exit code {code}"
        expected = asked(Path(name), Path(queries))
        shutil.copytree(name, RELEASE / name, ignore=shutil.ignore_patterns(*TOO_BIG))
        write_lines(RELEASE / f"{name}.json", expected)
    check_paths()


def asked(folder: Path, queries: Path) -> dict[str, Any]:
    """Ask every model of a workspace about proteins whose vectors are in its caches.

    Returns
    -------
    dict
        versions: of what wrote it. queries: id -> sequence. hits: [query, number of targets, [[target, E-value, bit
        score], ...]] of every search, targets by their place among the training rows. models: name -> classes, and
        answers, one a query in order: see `classes_of` and `terms_of`. vectors: for each cache the encoder's digest and
        the first three numbers of each query's vector.
    """
    workspace = Workspace.open(folder)
    proteins = [record.protein for record in read_records([queries])]
    expected: dict[str, Any] = {"versions": versions(), "queries": {one.id: one.sequence for one in proteins}}
    with recorded_searches() as hits:
        models = {path.name: answers_of(workspace, path, proteins) for path in sorted((folder / "models").iterdir())}
    expected["hits"] = [[*key, found] for key, found in hits.items()]
    expected["vectors"] = {entry.folder.name: vectors_of(entry.folder, proteins) for entry in workspace.caches}
    return expected | {"models": models}


def answers_of(workspace: Workspace, folder: Path, proteins: Sequence[Protein]) -> dict[str, Any]:
    """Return what `predict` says with a model on vectors of the caches."""
    model = load_model(folder)
    model.features = partial(cached_features, workspace, model)  # type: ignore[method-assign]
    answers = classes_of(model, proteins) if model.terms is None else terms_of(model, proteins)
    return {"classes": list(model.classes), "answers": answers}


def cached_features(workspace: Workspace, model: Model, sequences: Sequence[str]) -> Any:
    """Return the vectors of sequences, all of which must be in the caches of a workspace."""
    blank = [""] * len(sequences)
    found = features_for(model, Dataset(blank, list(sequences), blank, blank), workspace)
    views = (found, *found.others)
    assert not reads_vectors(model.head) or all(hasattr(view.store, "cache") for view in views), model.folder
    return found


def classes_of(model: Model, proteins: Sequence[Protein]) -> list[dict[str, Any]]:
    """Return for each protein the probability of each class, in their order, and what else its first row says."""
    answers = []
    coverage = COVERAGE if model.confidence.true_probabilities else None
    rows = iter(predict_stream(model, proteins, k=len(model.classes), coverage=coverage))
    for _ in proteins:
        ranked = [next(rows) for _ in model.classes]
        probability = {row.label: row.probability for row in ranked}
        first = ranked[0]
        about = {"status": first.status, "nearest_id": first.nearest_id, "distance": first.distance, "set": first.set}
        about = {name: value for name, value in about.items() if value is not None}
        answers.append({"probabilities": [short(probability[name]) for name in model.classes]} | about)
    return answers


def terms_of(model: Model, proteins: Sequence[Protein]) -> list[dict[str, Any]]:
    """Return for each protein what is predicted, and the probability of each term, raised to that of its children."""
    answers = []
    predicted: dict[str, list[Any]] = {one.id: [] for one in proteins}
    for row in predict_terms(model, proteins):
        if row.predicted:
            predicted[row.id].append(row.term)
    for protein, answer in answer_terms(model, proteins, Wanted(min_score=1e-12, decided=False)):
        assert answer is not None
        scores = np.zeros(len(model.classes))
        scores[answer.codes] = answer.probabilities
        found = {"probabilities": [short(score) for score in scores], "predicted": sorted(predicted[protein.id])}
        answers.append(found | ({} if answer.nearest_id is None else {"nearest_id": answer.nearest_id}))
    return answers


def vectors_of(folder: Path, proteins: Sequence[Protein]) -> dict[str, Any]:
    """Return the first numbers of each protein's vector in a cache; null where it is not there."""
    cache = EmbeddingCache.open(folder)
    missing = set(cache.missing([one.sequence for one in proteins]))
    first = [
        None if row in missing else [short(x) for x in cache.read([one.sequence], "mean")[0, :3]]
        for row, one in enumerate(proteins)
    ]
    return {"encoder": Path(cache.spec.encoder).name, "dtype": cache.spec.dtype, "rows": len(cache), "first": first}


@contextlib.contextmanager
def recorded_searches() -> Iterator[Hits]:
    """Remember what phmmer finds."""
    hits: Hits = {}
    search = homology_search.Phmmer.search

    def recorded(engine: Any, queries: Sequence[str], targets: Sequence[str], *options: Any) -> Iterator[Any]:
        hits.update({(query, len(targets)): [] for query in queries})
        for query, target, evalue, bits in search(engine, queries, targets, *options):
            hits[queries[query], len(targets)].append([target, evalue, bits])
            yield query, target, evalue, bits

    homology_search.Phmmer.search = recorded  # type: ignore[method-assign]
    yield hits
    homology_search.Phmmer.search = search  # type: ignore[method-assign]


def short(value: Any) -> float:
    """Return a float32 in the nine digits that tell it from any other."""
    return float(f"{float(value):.9g}")


def write_lines(path: Path, expected: dict[str, Any]) -> None:
    """Write JSON, an answer a line."""
    text = json.dumps(expected, ensure_ascii=False)
    for before, after in (('{"probabilities"', '\n{"probabilities"'), ('"models"', '\n"models"'), ('["', '\n["')):
        text = text.replace(before, after)
    assert json.loads(text) == json.loads(json.dumps(expected))
    path.write_text(text + "\n", encoding="utf-8")


def check_paths() -> None:
    """Refuse a file that names a place of this machine."""
    for path in RELEASE.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(place in content for place in MACHINE), path


if __name__ == "__main__":
    make(Path(sys.argv[1] if sys.argv[1:] else "/data/esmcls"))

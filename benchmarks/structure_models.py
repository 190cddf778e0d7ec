"""Models of structures measured on the test chains of a workspace: a row a model, in pieces that are taken up again.

    python benchmarks/structure_models.py fit pairs --workspace WORK --head pairs --set epochs 8
    python benchmarks/structure_models.py test pairs --workspace WORK --folded 4
    python benchmarks/structure_models.py table bundled=WORK/models/pairs separation=WORK/models/separation \\
        --q8 STATES/reports/evaluate-conv --accessibility ACCESSIBILITY/reports/evaluate-conv

`fit` fits models/NAME of a workspace, if it is not there, and notes its time and memory. `test` asks it about the test
part, 32 chains at a time, and folds so many of each piece, spread over its lengths (all of them, if as many are asked
for): what is done is kept in reports/benchmark/ and not done again. `table` reads what `test` kept, and writes
benchmarks/results/structure_models.json: each model with intervals over chains, and how far it is ahead of the row
`separation` (paired bootstrap, Holm's correction). Q8 and the correlation of accessibility are those that
`esmcls evaluate` reported of residue heads in other workspaces. Random weights, letters alone and other encoders are
rows of their own workspaces. Contacts are CA-CA < 8 Å.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.metrics.paired import corrected, difference
from esmcls.models.fit import fit
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.given_vectors import workspace_of
from esmcls.models.model import features_for
from esmcls.models.recipe import model_digest
from esmcls.plain_values import read_json, write_json
from esmcls.tasks.structure.answers import StructureAnswers, StructureQuestions
from esmcls.tasks.structure.comparison import by_confidence, by_length, confidence_r
from esmcls.tasks.structure.measures import CONTACTS, intervals_over_chains
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "structure_models.json"
PIECE = 32
"""Chains that are asked about at a time."""
DRAWS = 10_000
BASELINE = "separation"
COMPARED = ("precision_l", "lddt", "tm_score")


def peak_gb() -> float:
    """Return the most memory that this process has had, in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def notes_of(workspace: Workspace, name: str) -> Path:
    """Return the folder where what was measured of a model is kept."""
    folder = workspace.reports / "benchmark" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fit_model(workspace: Workspace, name: str, head: str, settings: dict[str, str], seed: int) -> None:
    """Fit a model if it is not there, and note what that took."""
    if (workspace.folder / "models" / name).is_dir():
        print(f"{name} is there")
        return
    began = time.perf_counter()
    log = notes_of(workspace, name) / "fit.log"
    with open(log, "a", encoding="ascii") as handle:

        def note(entry: dict[str, Any]) -> None:
            print(round(time.perf_counter() - began), entry, file=handle, flush=True)

        fitted = fit(workspace, head, settings, name=name, seed=seed, log=note)
    cost = {"seconds": round(time.perf_counter() - began, 1), "peak_gb": peak_gb()}
    write_json(notes_of(workspace, name) / "fit.json", cost)
    print(f"{fitted}; {cost}")


def ask(workspace: Workspace, name: str, folded: int) -> None:
    """Ask a model about the pieces of the test part that were not asked about yet."""
    folder = workspace.folder / "models" / name
    part = workspace.dataset.part("test")
    model = load_model(folder)
    key = f"{model_digest(folder)} {part.digest()} {folded}"
    about = {"model": model_digest(folder), "validation": model.manifest.validation, "megabytes": 0.0}
    for start in range(0, len(part), PIECE):
        path = notes_of(workspace, name) / f"piece-{start:05d}.safetensors"
        if StructureAnswers.load(path, key) is not None:
            continue
        piece = part.take(list(range(start, min(start + PIECE, len(part)))))
        x = features_for(model, piece, workspace)
        answers = StructureQuestions(piece, piece.take([]), folded).ask(model, x, x.take([]), None, about)
        answers.save(path, key)
        print(f"{name}: {start + len(piece)} of {len(part)}, {answers.headline}, {peak_gb()} GB", flush=True)
    write_json(notes_of(workspace, name) / "test.json", {"key": key, "peak_gb": peak_gb()})


def kept(folder: Path) -> tuple[StructureAnswers, dict[str, Any]]:
    """Return what a model answered about all test chains, and what is told of it in the table."""
    workspace = workspace_of(folder)
    assert workspace is not None
    notes = notes_of(workspace, folder.name)
    asked = read_json(notes / "test.json")
    pieces = [StructureAnswers.load(path, asked["key"]) for path in sorted(notes.glob("piece-*.safetensors"))]
    answers = StructureAnswers.joined([piece for piece in pieces if piece is not None])
    wanted = workspace.dataset.part("test").ids
    if answers.ids != wanted:
        raise SystemExit(f"{folder}: {len(answers.ids)} of {len(wanted)} test chains were asked about; run test again")
    manifest = read_manifest(folder)
    fitting = notes / "fit.json"
    _, predicting, folding = answers.seconds
    return answers, {
        "head": manifest.head,
        "encoder": manifest.spec.short_name,
        "knobs": manifest.config,
        "validation": manifest.validation,
        "fit": read_json(fitting) if fitting.is_file() else None,
        "predict_seconds": round(predicting, 1),
        "fold": {"chains": answers.folded, "seconds": round(folding, 1)},
        "test_peak_gb": asked["peak_gb"],
    }


def rows_of(models: dict[str, Path], seed: int) -> list[dict[str, Any]]:
    """Return the rows of the table, each with how far it is ahead of the baseline."""
    answers, rows = dict[str, StructureAnswers](), dict[str, dict[str, Any]]()
    for name, folder in models.items():
        answers[name], rows[name] = kept(folder)
    measured = {name: intervals_over_chains(one.values, draws=DRAWS, seed=seed) for name, one in answers.items()}
    for name, (intervals, _) in measured.items():
        one = answers[name]
        rows[name] |= {
            "metrics": {measure: asdict(interval) for measure, interval in intervals.items()},
            "lengths": [asdict(tier) for tier in by_length(one)],
            "confidence": [asdict(bin_) for bin_ in by_confidence(one.confidence, one.lddt)],
            "confidence_r": confidence_r(one.confidence, one.lddt),
        }
    for measure in COMPARED if BASELINE in rows else ():
        others = [name for name in rows if name != BASELINE and same_chains(answers[name], answers[BASELINE], measure)]
        values, drawn = measured[BASELINE]
        ahead = [
            difference(
                measured[name][0][measure].value - values[measure].value, measured[name][1][measure] - drawn[measure]
            )
            for name in others
            if measure in measured[name][0] and measure in values
        ]
        for name, told in zip(others, corrected(ahead), strict=False):
            rows[name].setdefault(f"ahead_of_{BASELINE}", {})[measure] = asdict(told)
    return [{"name": name, **row} for name, row in rows.items()]


def same_chains(one: StructureAnswers, other: StructureAnswers, measure: str) -> bool:
    """Return whether two models have a measure of the same chains, so that they can be paired."""
    return one.ids == other.ids and np.array_equal(np.isnan(one.of(measure)), np.isnan(other.of(measure)))


def reported(folder: Path | None, measure: str) -> dict[str, Any] | None:
    """Return what `esmcls evaluate` reported of a residue head."""
    if folder is None:
        return None
    metrics = read_json(folder / "metrics.json")
    told = {name: metrics[name] for name in ("model", "head", "encoder", "n", "known")}
    return told | {measure: metrics["metrics"][measure]}


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    steps = parser.add_subparsers(dest="step", required=True)
    fits, tests, tables = (steps.add_parser(name) for name in ("fit", "test", "table"))
    for step in (fits, tests):
        step.add_argument("name")
        step.add_argument("--workspace", type=Path, required=True)
    fits.add_argument("--head", default="pairs")
    fits.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    tests.add_argument("--folded", type=int, default=PIECE, help="Chains of each piece of 32 that are folded.")
    tables.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    tables.add_argument("--q8", type=Path, metavar="REPORT")
    tables.add_argument("--accessibility", type=Path, metavar="REPORT")
    tables.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.step == "fit":
        fit_model(Workspace.open(given.workspace), given.name, given.head, dict(given.set), given.seed)
    elif given.step == "test":
        ask(Workspace.open(given.workspace), given.name, given.folded)
    else:
        models = {name: Path(folder) for name, _, folder in (text.partition("=") for text in given.models)}
        rows = rows_of(models, given.seed)
        beside = {"q8": reported(given.q8, "accuracy"), "accessibility_r": reported(given.accessibility, "pearson")}
        write_json(given.output, {"contacts": CONTACTS, "draws": DRAWS, "seed": given.seed, "rows": rows, **beside})
        for row in rows:
            shown = {name: round(one["value"], 3) for name, one in row["metrics"].items()}
            print(row["name"], shown, row.get(f"ahead_of_{BASELINE}", {}).get("precision_l", {}).get("value", ""))


if __name__ == "__main__":
    main()

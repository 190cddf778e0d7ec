"""Measures rejection: how many proteins of known families are accepted at 5 % strangers, against the naive cut.

    esmcls embed cath.csv -w cath                   # labelled, with a test part; any encoder
    python benchmarks/open_set.py cath --name cath

A share of the families is removed from the data set before anything is fitted: their test proteins are strangers to
all models. Heads are fitted as `esmcls fit --hold-out-families 100%` does, and made into an ensemble: scores are chosen
and thresholds set on families held out in folds of what is left. The test part is read to measure alone. `naive` is the
cut of the probability of the model that validation says is best. Writes `benchmarks/results/open_set_<name>.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from families import RESULTS

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.heads.registry import reads_vectors, searches_sequences
from esmcls.metrics.calibration import auroc, rejection_threshold
from esmcls.metrics.open_set import Rate
from esmcls.models.combine import combine
from esmcls.models.fit import Fit, fit_dataset
from esmcls.models.folder import load_model
from esmcls.models.model import Model
from esmcls.plain_values import write_json
from esmcls.tasks.kinds import task_of
from esmcls.workspace.workspace import Workspace

STRANGERS = 0.05


def removed(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return the rows of the families that are left, and the test rows of the others."""
    names = set(dataset.part("train").labels)
    order = sorted(names, key=lambda name: hashlib.sha256(f"open set {seed} {name}".encode()).digest())
    out = set(order[: round(share * len(order))])
    kept = dataset.take([row for row, label in enumerate(dataset.labels) if label in names - out])
    rows = enumerate(zip(dataset.labels, dataset.parts, dataset.sequences, strict=True))
    known = set(kept.sequences)
    return kept, dataset.take(
        [row for row, (label, part, text) in rows if label in out and part == "test" and text not in known]
    )


def measure(name: str, fit: Fit[Any, Any], near: Features, far: Features, families: tuple[Any, Any]) -> dict[str, Any]:
    """Return what a model's rejection and the naive cut of its own probability reach on test proteins."""
    rejection = fit.findings.confidence.rejection
    naive = replace(rejection, score="probability")
    row: dict[str, Any] = {"model": name, "validation": fit.manifest.validation, "score": rejection.score}
    for kind, how in (("ours", rejection), ("naive", naive)):
        known, strangers = how.of(fit.head, near), how.of(fit.head, far)
        line = rejection_threshold(strangers, STRANGERS)
        row[kind] = {
            "auroc": auroc(known, strangers),
            "known_at_5": asdict(Rate.of(known > line, families[0])),
            "known_at_10": float((known > rejection_threshold(strangers, 2 * STRANGERS)).mean()),
        }
        if kind == "ours":
            row["promised"] = {"known": asdict(rejection.known), "strangers": asdict(rejection.strangers)}
            row["kept"] = {
                "known": asdict(Rate.of(known > rejection.threshold, families[0])),
                "strangers": asdict(Rate.of(strangers > rejection.threshold, families[1])),
            }
    return row


def percent(rate: dict[str, float]) -> str:
    """Return a share with its interval."""
    return f"{100 * rate['share']:5.1f} ({100 * rate['low']:.0f}-{100 * rate['high']:.0f})"


def show(rows: list[dict[str, Any]], best: str) -> None:
    """Print a table."""
    print(
        f"{'':10} {'':12} {'AUROC':>13}  {'known at 5 % strangers':>24}  "
        f"{'at the threshold: known':>24}  {'strangers':>14}"
    )
    print(
        f"{'model':10} {'score':12} {'ours':>6} {'naive':>6}  {'ours':>11} {'naive':>12}  "
        f"{'told':>11} {'test':>12}  {'test':>14}"
    )
    for row in rows:
        ours, naive = row["ours"], row["naive"]
        cells = (
            f"{ours['auroc']:.3f} {naive['auroc']:6.3f}  {percent(ours['known_at_5'])} {percent(naive['known_at_5'])}"
        )
        told = (
            f"{percent(row['promised']['known'])} {percent(row['kept']['known'])}  {percent(row['kept']['strangers'])}"
        )
        print(f"{row['model'] + ('*' if row['model'] == best else ''):10} {row['score']:12}  {cells}  {told}")
    print("* the best on validation, whose naive cut is the one to beat")


def main() -> None:
    """Fit, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--heads", default="linear,knn")
    parser.add_argument("--share", type=float, default=0.2, help="of the families, removed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs=3, action="append", default=[], metavar=("HEAD", "KNOB", "VALUE"))
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    task, cache = task_of(workspace), workspace.latest_cache()
    kept, strangers = removed(workspace.dataset, options.share, options.seed)

    def features(part: Dataset) -> Features:
        return Features.from_cache(cache, part)

    test = kept.part("test")
    families = tuple(np.unique(part.labels, return_inverse=True)[1] for part in (test, strangers))
    fits, models = dict[str, Fit[Any, Any]](), list[Model]()
    with tempfile.TemporaryDirectory() as folder:
        for head in options.heads.split(","):
            settings = {knob: value for name, knob, value in options.set if name == head}
            fits[head] = fit_dataset(
                task, kept, cache, head, settings, shares=Shares(1.0), refit=workspace.drawn_validation
            )
            models.append(load_model(fits[head].save(Path(folder) / head)))
            print(head, *fits[head].findings.lines(), sep="\n  ", flush=True)
        on_vectors = [
            model for model in models if reads_vectors(model.head) and not searches_sequences(model.head.config)
        ]
        for name, members in {"ensemble-embeddings": on_vectors, "ensemble": models}.items():
            if len(members) > 1 and (name == "ensemble" or len(members) < len(models)):
                fits[name] = combine(task, members, kept, features)
                print(name, *fits[name].findings.lines(), sep="\n  ", flush=True)
    near, far = features(test), features(strangers)
    rows = [measure(name, fit, near, far, families) for name, fit in fits.items()]
    best = max(rows, key=lambda row: row["validation"][task.score])["model"]
    show(rows, best)
    ran = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    about = {
        "command": " ".join(["python", "benchmarks/open_set.py", *sys.argv[1:]]),
        "commit": ran.stdout.strip() or None,
        "encoder": cache.spec.short_name,
        "families": {"kept": len(set(kept.labels)), "removed": len(set(strangers.labels))},
        "proteins": {"train": len(kept.part("train")), "known": len(test), "strangers": len(strangers)},
    }
    write_json(RESULTS / f"open_set_{options.name}.json", about | {"best": best, "rows": rows})


if __name__ == "__main__":
    main()

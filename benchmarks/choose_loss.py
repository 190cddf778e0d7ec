"""Chooses how the MLP head meets classes of unequal size, on the validation part of a workspace; test is never read.

    python benchmarks/choose_loss.py WORKSPACE --encoder bundled --every 2

Fits `mlp` with each loss, weighting and sampling, and prints accuracy and macro F1 on validation, and the accuracy by
training members. `--every N` keeps each N-th class alone. Writes `benchmarks/results/choose_loss.json`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.cache.store import EmbeddingCache
from esmcls.metrics.classification import tier_accuracy
from esmcls.models.fit import fit_dataset
from esmcls.plain_values import write_json
from esmcls.tasks.one_label.task import OneLabel
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
TRIALS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"loss": "ce"},
    "balanced": {"loss": "ce", "class_weights": "balanced", "weight_cap": 10.0},
    "sqrt": {"loss": "ce", "class_weights": "sqrt", "weight_cap": 10.0},
    "effective-number": {"loss": "ce", "class_weights": "effective-number", "weight_cap": 10.0},
    "focal": {"loss": "focal"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "balanced sampling": {"loss": "ce", "sampling": "balanced"},
}


def main() -> None:
    """Fit every trial and print what it reaches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--every", type=int, default=1, help="keep every N-th class alone")
    parser.add_argument("--trials", nargs="*", default=list(TRIALS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    whole = workspace.dataset
    kept = set(sorted(set(whole.labels))[:: options.every])
    dataset = whole.take([row for row, label in enumerate(whole.labels) if label in kept])
    [folder] = [entry.folder for entry in workspace.caches if entry.spec.encoder == options.encoder]
    rows = []
    with EmbeddingCache.open(folder) as cache:
        for name in options.trials:
            began = time.perf_counter()
            fit = fit_dataset(OneLabel(), dataset, cache, "mlp", TRIALS[name], seed=options.seed)
            held = fit.findings.held
            assert held is not None
            right = held.codes[:, 0] == held.truth
            tiers = tier_accuracy(held.truth, right, np.array(fit.manifest.class_counts))
            shown = {tier.name: None if tier.accuracy is None else round(100 * tier.accuracy, 2) for tier in tiers}
            scores = {key: round(100 * fit.manifest.validation[key], 2) for key in ("accuracy", "macro_f1")}
            rows.append({"trial": name, "settings": TRIALS[name], **scores, "tiers": shown, "n": len(right)})
            print(f"{name:20} {scores} {shown} {time.perf_counter() - began:.0f} s", flush=True)
    RESULTS.mkdir(exist_ok=True)
    about = {"encoder": options.encoder, "every": options.every, "classes": len(kept), "seed": options.seed}
    write_json(RESULTS / "choose_loss.json", about | {"rows": rows})


if __name__ == "__main__":
    main()

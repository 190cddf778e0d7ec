"""How many labelled proteins a class a head needs: the bundled set with 1, 2, 4, 8 or all training proteins a class.

    python benchmarks/labels_needed.py --work FOLDER

Of each of the 96 classes so many training proteins are drawn, three times; heads are fitted with their own choices,
made on as large a part of the validation proteins, and asked about all 353 test proteins. Knobs and sizes are none
that a test part chose. Writes `benchmarks/results/labels_needed.json`, after each fit, and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path
from statistics import mean

from esmcls import Workspace, embed_dataset
from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.models.fit import fit_dataset
from esmcls.plain_values import write_json
from esmcls.tasks.one_label.task import OneLabel
from esmcls.workspace.intake import demo_set

RESULT = Path(__file__).parent / "results" / "labels_needed.json"
SIZES = (1, 2, 4, 8, 100)
SEEDS = (0, 1, 2)
ENCODERS = ("bundled",)
HEADS = ("linear", "knn")


def drawn(dataset: Dataset, size: int, seed: int) -> Dataset:
    """Return `size` training proteins of each class, as many validation proteins at most, and all of the test part."""
    rows = defaultdict(list)
    for row, key in enumerate(zip(dataset.labels, dataset.parts, strict=True)):
        rows[key].append(row)
    random.seed(seed)
    taken = []
    for (_, part), found in rows.items():
        taken += found if part == "test" else random.sample(found, min(size, len(found)))
    return dataset.take(sorted(taken))


def right(workspace: Workspace, dataset: Dataset, encoder: str, head: str, seed: int) -> float:
    """Return the share of test proteins that a head is right about."""
    [folder] = [entry.folder for entry in workspace.caches if entry.spec.encoder == encoder]
    with EmbeddingCache.open(folder) as cache:
        fit = fit_dataset(OneLabel(), dataset, cache, head, seed=seed)
        test = dataset.part("test")
        codes, _ = fit.head.top_k(Features.from_cache(cache, test), 1)
        classes = fit.manifest.classes
    return mean(classes[code] == label for code, label in zip(codes[:, 0], test.labels, strict=True))


def main() -> None:
    """Fit what is not fitted yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    workspace = Workspace.open(options.work, create=True)
    measured = json.loads(RESULT.read_text())["accuracy"] if RESULT.exists() else {}
    for encoder in ENCODERS:
        embed_dataset(workspace, demo_set(), encoder=encoder)
        for head in HEADS:
            for size in SIZES:
                key = f"{encoder} {head} {size}"
                if key in measured:
                    continue
                seeds = SEEDS if size < max(SIZES) else SEEDS[:1]
                sets = [(seed, drawn(workspace.dataset, size, seed)) for seed in seeds]
                measured[key] = [100 * right(workspace, dataset, encoder, head, seed) for seed, dataset in sets]
                print(key, f"{mean(measured[key]):.1f}", [round(value, 1) for value in measured[key]], flush=True)
                command = "python benchmarks/labels_needed.py --work FOLDER"
                about = {"command": command, "set": "data/demo.csv.gz", "classes": 96, "test": 353}
                write_json(RESULT, about | {"accuracy": measured})


if __name__ == "__main__":
    main()

"""Chooses the defaults of the heads on rows held out of train; the test part is not read.

    python benchmarks/choose_heads.py ../shared/data/cath --encoder ../shared/weights/esm2_t6_8M_hemolysis \\
        --layers 3,4,5

Where the set has a validation part it is what is scored on, else a tenth of train that is held out. One knob is turned
at a time, from the present defaults. Prints accuracy and macro F1 in percent; writes
`benchmarks/results/choose_<set>.json`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from families import RESULTS, embedded, read_dataset

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.blocks import hold_out
from esmcls.heads.registry import load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import Labels
from esmcls.plain_values import write_json

KNN: list[dict[str, Any]] = [
    *({"shrinkage": share, "k": 1} for share in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
    *({"shrinkage": 0.001, "k": k, "temperature": heat} for k in (3, 5, 10, 20, 40) for heat in (0.02, 0.05, 0.1, 0.2)),
    {"metric": "l2"},
    {"whiten": False},
    {},
]
LINEAR: list[dict[str, Any]] = [
    {},
    {"warm_start": False, "shrinkage": 0.001},
    {"epochs": 0},
    {"whiten": False},
    {"class_weights": "none"},
    {"class_weights": "balanced"},
    {"ridge_weights": "none"},
    {"ridge_weights": "balanced"},
    {"lr": 0.0005},
    {"lr": 0.001},
    {"lr": 0.004},
    {"smoothing": 0.0},
    {"smoothing": 0.2},
    {"weight_decay": 0.1},
    {"epochs": 16, "patience": 5},
    {"batch": 64, "lr": 0.001},
]


def split_off(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return the rows to fit on and those to score on; neither is of the test part."""
    train, held = dataset.part("train"), dataset.part("validation")
    if len(held):
        return train, held
    fit, score = hold_out(Labels.from_names(train.labels).codes, seed)
    return train.take(fit.tolist()), train.take(score.tolist())


def main() -> None:
    """Score every setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--layers", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/families"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", nargs="*", default=["knn", "linear"])
    options = parser.parse_args()
    dataset = read_dataset(options.folder)
    name = options.folder.parent.name if options.folder.name == "random_split" else options.folder.name
    options.work.mkdir(parents=True, exist_ok=True)
    train, held = split_off(dataset, options.seed)
    labels = Labels.from_names(train.labels)
    validation = Labels.from_names(held.labels, labels.classes)
    print(f"{name}: {len(train):,} rows to fit, {len(held):,} to score, {labels.n_classes:,} classes", flush=True)
    rows = []
    with embedded(dataset, options.work, options.encoder, options.layers) as cache:
        x, asked = Features.from_cache(cache, train), Features.from_cache(cache, held)
        for head in options.heads:
            for settings in {"knn": KNN, "linear": LINEAR}[head]:
                began = time.perf_counter()
                head_class = load_head(head)
                fitted = head_class(parse_settings(head_class.Config, settings))
                fitted.fit(x, labels, (asked, validation), options.seed)
                chosen = {field.name: getattr(fitted.chosen, field.name) for field in fields(fitted.chosen)}
                rows.append({"head": head, "settings": settings, "chosen": chosen, "scores": fitted.scores})
                text = "  ".join(f"{key} {100 * value:.2f}" for key, value in fitted.scores.items())
                print(f"{head:8} {text}  {settings}  {time.perf_counter() - began:.0f} s", flush=True)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"choose_{name}.json", rows)


if __name__ == "__main__":
    main()

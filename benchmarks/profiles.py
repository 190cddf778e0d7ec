"""Measures the profile head beside homology: accuracy, macro recall, seconds of fitting and predicting.

    python benchmarks/profiles.py ../shared/data/cath --development --configs evalue=10 evalue=100
    python benchmarks/profiles.py ../shared/data/cath --heads profile homology
    python benchmarks/profiles.py ../shared/data/pfam/random_split --every 4 --heads profile homology

What is to be chosen is asked of a tenth of train that is held out of it (`--development`; every class keeps a row to
fit on; temperatures, which move no class past another, are the defaults there), the chosen settings then once of the
test part. Sequences alone are read, no encoder. Seconds are both of the clock and of the processor, that of programs
that were started included. Of shuffled sequences it is counted how many have a hit below an E-value: as large a share
as the E-value says, if it is honest. Writes `benchmarks/results/profiles_<set>_<part>.json`.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from families import RESULTS, SHOWN, every_nth_class, read_dataset

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.blocks import hold_out
from esmcls.heads.registry import load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import Labels
from esmcls.plain_values import write_json
from esmcls.tasks.one_label.evaluation import evaluate

SHUFFLED = 1000


def features(part: Dataset) -> Features:
    """Return the sequences of a part."""
    return Features.from_arrays(np.zeros((len(part), 0), dtype=np.float32), part.sequences, part.ids)


def clock() -> np.ndarray:
    """Return seconds of the clock, and of the processor, that of ended children included."""
    times = os.times()
    return np.array([time.perf_counter(), times.user + times.system + times.children_user + times.children_system])


def measure(head: Any, train: Dataset, test: Dataset, once: bool) -> dict[str, Any]:
    """Fit a head, with its choices on rows that it holds out or `once` without any, and evaluate it."""
    labels = Labels.from_names(train.labels)
    began = clock()
    (head.refit if once else head.fit)(features(train), labels, seed=0)
    fitted = clock()
    x = features(test)
    head.predict_proba(x.take(slice(0)))
    head.top_k(x, 5)
    predicted = clock()
    counts = np.bincount(labels.codes, minlength=labels.n_classes)
    answer = evaluate(SimpleNamespace(head=head, class_counts=counts.tolist()), test, x)
    shown = {name: answer.metrics[name] for name in SHOWN}
    seconds = {
        "fit": dict(zip(("clock", "processor"), (fitted - began).round(1).tolist(), strict=True)),
        "predict": dict(zip(("clock", "processor"), (predicted - fitted).round(1).tolist(), strict=True)),
    }
    return {
        "config": {knob: value for knob, value in vars(head.chosen).items() if knob != "version"},
        "chosen_on": head.scores,
        "measured": {name: vars(interval) for name, interval in shown.items()},
        "tiers": [vars(tier) for tier in answer.tiers],
        "seconds": seconds,
        "shuffled": shuffled_hits(head, test),
        "explanation": getattr(head, "explanation", ""),
    }


def shuffled_hits(head: Any, part: Dataset) -> dict[str, float]:
    """Return the share of shuffled sequences whose best hit has an E-value of so much, or less."""
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(part))[:SHUFFLED]
    sequences = ["".join(rng.permutation(list(part.sequences[row]))) for row in drawn]
    evalues, _ = head.nearest(Features.from_arrays(np.zeros((len(drawn), 0), dtype=np.float32), sequences))
    return {str(evalue): float((evalues <= evalue).mean()) for evalue in (0.01, 0.1, 1.0)}


def parts_of(dataset: Dataset, development: bool) -> tuple[Dataset, Dataset]:
    """Return what is fitted on and what is asked about."""
    train = dataset.part("train")
    if not development:
        return train, dataset.part("test")
    rows, held = hold_out(Labels.from_names(train.labels).codes, 0)
    return train.take(rows.tolist()), train.take(held.tolist())


def main() -> None:
    """Measure heads and settings on one set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--heads", nargs="*", default=["profile"])
    parser.add_argument("--configs", nargs="*", default=[""], help="of the head profile: KNOB=VALUE,KNOB=VALUE ...")
    parser.add_argument("--every", type=int, default=1, help="keep every N-th class alone")
    options = parser.parse_args()
    name = options.folder.parent.name if options.folder.name == "random_split" else options.folder.name
    train, test = parts_of(every_nth_class(read_dataset(options.folder), options.every), options.development)
    print(f"{name}: {len(train):,} to fit on, {len(test):,} to ask about, load {os.getloadavg()}", flush=True)
    part = "development" if options.development else "test"
    sizes = {"every": options.every, "fitted": len(train), "asked": len(test)}
    rows = []
    for head_name in options.heads:
        head_class, last = load_head(head_name), None
        for text in options.configs if head_name == "profile" else [""]:
            knobs = dict(knob.split("=") for knob in text.split(",") if knob)
            config = parse_settings(head_class.Config, knobs)
            head = head_class(config) if last is None else copy.copy(last)  # the profiles are built once
            head.config = head.chosen = config
            last = head
            row = {
                "head": head_name,
                "again": text != options.configs[0],
                **measure(head, train, test, options.development and head_name == "profile"),
            }
            rows.append(row)
            shown = {key: round(100 * value["value"], 2) for key, value in row["measured"].items()}
            print(head_name, knobs, shown, row["seconds"], row["shuffled"], row["explanation"], flush=True)
            print({tier["name"]: (tier["n"], round(tier["accuracy"] or 0, 3)) for tier in row["tiers"]}, flush=True)
            summary = {"set": name, "part": part, "threads": torch.get_num_threads(), **sizes}
            write_json(RESULTS / f"profiles_{name}_{part}.json", summary | {"rows": rows})


if __name__ == "__main__":
    main()

"""Peak memory of fitting the trained heads to many labels: 82,404 proteins x 26,125 terms, the size of CAFA 5's set.

    python benchmarks/term_memory.py                                  # every head: 5 minutes of a core
    python benchmarks/term_memory.py --heads linear --steps 5
    python benchmarks/term_memory.py --whole                          # all steps of an epoch, for its time

The vectors are random. Terms a protein: 6.5 direct ones become 53.6 by propagation on the Gene Ontology set of
`esmcls embed --labels`; the frequency of a term falls with its rank, as 1 / (rank + 10). Each head is fitted, with
validation rows held out and choices made on them, in a process of its own, so that the peak resident memory, vectors
and labels included, is its own. An epoch has `--steps` steps, because no more memory is held after the first; the
core seconds of a whole one are extrapolated from their median.

Prints a table and writes `benchmarks/results/term_memory.json`, or `--output`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed_speed import processor

from esmcls.cache.features import Features
from esmcls.heads.layers import descent
from esmcls.heads.registry import TERM_GROUP, load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import LabelSets
from esmcls.plain_values import write_json
from esmcls.training.losses import ShuffledSampler

RESULTS = Path(__file__).with_name("results") / "term_memory.json"
HEADS = ("linear", "mlp", "multitask")
TARGET = 6.0
"""GB at the peak."""
SHARES = {"P": 0.68, "F": 0.23, "C": 0.09}
"""Of the terms of the Gene Ontology set, in each aspect."""


class Shortened(ShuffledSampler):
    """An epoch of a few steps."""

    steps: int | None = None

    def __init__(self, n: int, batch: int, seed: int) -> None:
        super().__init__(n, batch, seed)
        self.whole = self.steps_an_epoch
        self.steps_an_epoch = min(self.whole, self.steps or self.whole)


def draw_labels(rows: int, classes: int, terms: float) -> LabelSets:
    """Return label sets of `terms` classes a row in the mean, drawn by their frequency, each once."""
    random = np.random.default_rng(0)
    frequency = np.cumsum(1 / (np.arange(classes) + 10.0))
    drawn = np.searchsorted(frequency, random.random(int(rows * terms * 1.3)) * frequency[-1])
    cells = np.unique(random.integers(rows, size=len(drawn)) * classes + random.permutation(classes)[drawn])
    cells = np.sort(random.permutation(cells)[: int(rows * terms)])
    offsets = np.searchsorted(cells, np.arange(rows + 1) * classes)
    groups = random.choice(list(SHARES), classes, p=list(SHARES.values()))
    return LabelSets(tuple(f"GO:{one:07}" for one in range(classes)), offsets, cells % classes, tuple(groups.tolist()))


def peak() -> float:
    """Return the peak resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(head: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fit a head in this process."""
    torch.set_num_threads(options.threads)
    Shortened.steps = None if options.whole else options.steps
    descent.ShuffledSampler = Shortened
    vectors = np.random.default_rng(1).standard_normal((options.rows, options.width), dtype=np.float32)
    x = Features.from_arrays(vectors.astype(options.dtype))
    del vectors
    labels = draw_labels(options.rows, options.classes, options.terms)
    before = peak()
    model = load_head(head, TERM_GROUP)
    ends: list[float] = []
    knobs = parse_settings(model.Config, {"epochs": options.epochs})
    began = time.process_time()
    fitted = model(knobs).fit(x, labels, log=lambda _: ends.append(time.process_time()))
    batches = ShuffledSampler(options.rows, knobs.batch, 0).steps_an_epoch
    return {
        "labels": len(labels.codes),
        "data_GB": before,
        "peak_GB": peak(),
        "fit_core_seconds": time.process_time() - began,
        "epoch_core_seconds": float(np.median(np.diff(ends))) * batches,
        "fmax": fitted.scores["fmax"],
    }


def measured_apart(head: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--inside", head]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse the arguments, measure each head, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=82_404)
    parser.add_argument("--classes", type=int, default=26_125)
    parser.add_argument("--terms", type=float, default=53.6, help="of a protein, propagated")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="of an epoch")
    parser.add_argument("--whole", action="store_true", help="all steps of an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--inside", choices=HEADS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        print(json.dumps(measure(options.inside, options)))
        return
    settings = {name: getattr(options, name) for name in ("rows", "classes", "terms", "width", "dtype", "threads")}
    summary: dict[str, Any] = {
        "command": " ".join(["python benchmarks/term_memory.py", *sys.argv[1:]]),
        "settings": settings | {"steps": None if options.whole else options.steps},
        "target_GB": TARGET,
        "load": round(os.getloadavg()[0], 1),
        "processor": processor(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }
    for head in options.heads:
        found = measured_apart(head, sys.argv[1:], options.threads)
        print(head, "  ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
        summary[head] = found | {"met": found["peak_GB"] < TARGET}
        write_json(options.output, summary)


if __name__ == "__main__":
    main()

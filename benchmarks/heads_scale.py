"""Time and memory of the linear and kNN heads on vectors of the size of all Pfam families: 1,086,741 x 480, fp16.

    python benchmarks/heads_scale.py                                          # 5 minutes on two cores
    python benchmarks/heads_scale.py --whole                                  # the whole epoch, with all choices before
    python benchmarks/heads_scale.py --rows 100000 --classes 5000 --queries 1024 --output small.json

The vectors are made first, in blocks by seed, and kept under `--work`: centres of classes whose sizes follow a power
law, and noise that differs between directions. Then each measurement is a process of its own, so that its peak
resident memory, which includes the vectors, is its own. Beside the seconds stand those of the cores, which tell what
other work on the machine hides:

ridge   the within-class covariance, the sums of one ridge regression on whitened rows, and its solution
epoch   `LinearHead.fit` for `--steps` steps, stopped there; an epoch is extrapolated from their mean
knn     queries a second of `neighbours.search` against FAISS's flat index over the same whitened rows: the same
        threads,
        all queries in one batch, rounds interleaved, the fastest of each; the first search also makes the
        bounds and is told apart. Answers are equal if the float64 scores of the rows found are, rank by rank

Prints a table and writes `benchmarks/results/heads_scale.json`, or `--output`. The targets, for two cores, are judged
at the full number of rows alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from embed_speed import processor

from esmcls.plain_values import write_json

RESULTS = Path(__file__).with_name("results") / "heads_scale.json"
PARTS = ("ridge", "epoch", "knn")
ROWS = 1_086_741
"""Training sequences of Pfam's random split."""
BLOCK = 1 << 16
BETWEEN = 0.6
"""Deviation of class centres in those of a class's members: neighbours have cosines of 0.2 to 0.4 after whitening."""
NEIGHBOURS = 20
"""The most that the kNN head asks for."""
TARGETS = {
    ("ridge", "seconds"): ("<", 60.0),
    ("epoch", "seconds"): ("<", 600.0),
    ("knn", "ratio"): (">=", 3.0),
    ("knn", "equal_answers"): (">=", 1.0),
} | {(part, "peak_GB"): ("<", 12.0) for part in PARTS}
SHRINKAGE, PENALTY = 0.01, 0.1
SKIPPED = 5
"""Steps before the clock starts: the first one follows the whitening, and memory is not warm yet."""


class Data(NamedTuple):
    """Training and query vectors, fp16, with the class of each."""

    vectors: np.ndarray
    codes: np.ndarray
    queries: np.ndarray
    query_codes: np.ndarray


def class_sizes(rows: int, classes: int) -> np.ndarray:
    """Return sizes that fall with the rank r as (r + 200)^-1.2: from 1,800 to 9 for Pfam's 17,929 families."""
    share = (np.arange(classes) + 200.0) ** -1.2
    ends = np.rint((rows - classes) * np.cumsum(share) / share.sum()).astype(np.int64)
    sizes: np.ndarray = 1 + np.diff(ends, prepend=0)
    return sizes


def draw(codes: np.ndarray, classes: int, width: int, seed: int) -> np.ndarray:
    """Return vectors of the classes given, fp16 (n, width)."""
    fixed, own = np.random.default_rng(0), np.random.default_rng([1, seed])
    centres = fixed.standard_normal((classes, width), dtype=np.float32)
    axes = np.linalg.qr(fixed.standard_normal((width, width)))[0].astype(np.float32)
    spread = (np.arange(width, dtype=np.float32) + 1) ** -0.5
    spread /= np.sqrt(np.square(spread).mean())
    noise = own.standard_normal((len(codes), width), dtype=np.float32)
    vectors: np.ndarray = ((BETWEEN * centres[codes] + noise) * spread) @ axes + 0.5
    return vectors.astype(np.float16)


def write_data(folder: Path, rows: int, width: int, classes: int, queries: int) -> None:
    """Write the four arrays, the vectors last; what is there is kept."""
    if (folder / "vectors.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    codes = np.random.default_rng(2).permutation(np.repeat(np.arange(classes), class_sizes(rows, classes)))
    asked = np.random.default_rng(3).choice(codes, queries)
    np.save(folder / "codes.npy", codes)
    np.save(folder / "query_codes.npy", asked)
    np.save(folder / "queries.npy", draw(asked, classes, width, seed=rows))
    vectors = np.lib.format.open_memmap(folder / "part.npy", "w+", dtype=np.float16, shape=(rows, width))
    for start in range(0, rows, BLOCK):
        vectors[start : start + BLOCK] = draw(codes[start : start + BLOCK], classes, width, start)
    vectors.flush()
    (folder / "part.npy").rename(folder / "vectors.npy")


def read_data(folder: Path) -> Data:
    """Read them into memory, as a head gets them from the cache."""
    return Data(*(np.load(folder / f"{name}.npy") for name in Data._fields))


class Lap(NamedTuple):
    """Seconds that passed, and those that the cores spent on it."""

    wall: float
    cpu: float


class Stopwatch:
    """Tells what passed since the last call, the device's work included."""

    def __init__(self, device: str) -> None:
        self.device, self.last = device, (0.0, 0.0)
        self()

    def __call__(self) -> Lap:
        if self.device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter(), time.process_time()
        lap, self.last = Lap(now[0] - self.last[0], now[1] - self.last[1]), now
        return lap


def ridge(data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one ridge regression, as the linear head starts from it."""
    from esmcls.heads.layers.ridge import Ridge
    from esmcls.heads.whitening import WithinClass
    from esmcls.training.losses import class_weights

    watch = Stopwatch(options.device)
    whitening = WithinClass.of(data.vectors, data.codes, options.classes, options.device)(SHRINKAGE)
    statistics = watch()
    factors = class_weights(np.bincount(data.codes, minlength=options.classes), "sqrt").values

    def prepare(block: torch.Tensor) -> torch.Tensor:
        return whitening.unit(block) * math.sqrt(block.shape[1])

    sums = Ridge.of(data.vectors, data.codes, factors, prepare, options.device)
    summed = watch()
    weight, bias = sums.solve(PENALTY)
    solved = watch()
    rows = prepare(torch.from_numpy(data.queries).to(options.device, torch.float32)).cpu()
    right = (rows @ weight.T + bias).argmax(1).numpy() == data.query_codes
    laps = {"statistics": statistics, "sums": summed, "solution": solved}
    seconds, cpu_seconds = map(sum, zip(*laps.values(), strict=True))
    parts = {name: lap.wall for name, lap in laps.items()}
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, **parts, "accuracy": float(right.mean())}


class EnoughSteps(Exception):
    """Ends a fit from its log."""


def epoch(data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the linear head's descent, for some steps or whole."""
    from esmcls.cache.features import Features
    from esmcls.heads.layers.linear import LinearConfig, LinearHead
    from esmcls.labels.labels import Labels

    names = tuple(map(str, range(options.classes)))
    train, held = Features.from_arrays(data.vectors), Features.from_arrays(data.queries)
    watch, steps = Stopwatch(options.device), []

    def log(entry: dict[str, float]) -> None:
        steps.append(watch())
        if not options.whole and len(steps) == options.steps:
            raise EnoughSteps

    config = LinearConfig(epochs=1) if options.whole else LinearConfig(epochs=1, warm_start=False, shrinkage=SHRINKAGE)
    head, of_an_epoch = LinearHead(config, options.device), -(-len(data.vectors) // config.batch)
    found: dict[str, Any] = {}
    try:
        head.fit(train, Labels(names, data.codes), (held, Labels(names, data.query_codes)), 0, log)
        found = {"before": steps[0].wall, **head.scores}
    except EnoughSteps:
        found = {"extrapolated_from_steps": len(steps) - SKIPPED}
    wall, cpu = np.mean(steps[SKIPPED:], axis=0).tolist()
    return {"seconds": wall * of_an_epoch, "cpu_seconds": cpu * of_an_epoch, "step_ms": 1e3 * wall, **found}


def knn(data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Measure our search against FAISS's."""
    import faiss

    from esmcls.heads.neighbours.search import Search
    from esmcls.heads.whitening import WithinClass, row_blocks

    faiss.omp_set_num_threads(options.threads)
    watch = Stopwatch(options.device)
    whitening = WithinClass.of(data.vectors, data.codes, options.classes, options.device)(SHRINKAGE)
    search = Search.empty(data.vectors.shape[1], "cosine", "torch", options.device)
    for _, block in row_blocks(data.vectors, options.device):
        search.add(whitening.unit(block))
    queries = whitening.unit(torch.from_numpy(data.queries).to(options.device, torch.float32))
    indexed, plain = watch(), queries.cpu().numpy()
    search(queries, NEIGHBOURS)
    first, ours, theirs = watch(), [], []
    for _ in range(options.rounds):
        watch()
        _, rows = search(queries, NEIGHBOURS)
        ours.append(watch())
        _, expected = search.index.search(plain, NEIGHBOURS)
        theirs.append(watch())
    best, their_best = (Lap(*np.min(laps, axis=0).tolist()) for laps in (ours, theirs))
    return {
        "index_seconds": indexed.wall,
        "bounds_seconds": first.wall - best.wall,
        "queries_per_s": len(plain) / best.wall,
        "faiss_queries_per_s": len(plain) / their_best.wall,
        "ratio": their_best.wall / best.wall,
        "cpu_ratio": their_best.cpu / best.cpu,
        **agreement(search.rows(), plain, rows, expected),
        "accuracy": float((data.codes[rows[:, 0]] == data.query_codes).mean()),
    }


def agreement(base: np.ndarray, queries: np.ndarray, rows: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return the share of queries with equal answers up to ties, and that of equal row numbers."""
    scores = [np.einsum("qkd,qd->qk", base[found].astype(np.float64), queries) for found in (rows, expected)]
    equal = np.abs(scores[0] - scores[1]) <= 1e-6  # float32's rounding decides between nearer rows
    return {"equal_answers": float(equal.all(1).mean()), "equal_rows": float((rows == expected).mean())}


def measure(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in this process; its peak memory is told with it."""
    torch.set_num_threads(options.threads)
    measures: dict[str, Callable[..., dict[str, Any]]] = {"ridge": ridge, "epoch": epoch, "knn": knn}
    found = measures[part](read_data(options.work), options)
    found["peak_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if options.device != "cpu":
        found["device_peak_GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def measured_apart(part: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--inside", part]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def verdicts(part: str, found: dict[str, Any], judged: bool) -> list[dict[str, Any]]:
    """Print a part's numbers; return its targets and whether they are met, if they are judged."""
    print(part, "  ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    table = []
    for (of, name), (sign, target) in TARGETS.items():
        if judged and of == part:
            met = found[name] < target if sign == "<" else found[name] >= target
            table.append({"target": f"{part} {name} {sign} {target:g}", "measured": found[name], "met": bool(met)})
            print(f"    {table[-1]['target']:30} {found[name]:10.4g}  {'met' if met else 'MISSED'}", flush=True)
    return table


def main() -> None:
    """Parse the arguments, make the data, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--classes", type=int, default=17_929)
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of descent, from which an epoch is extrapolated")
    parser.add_argument("--whole", action="store_true", help="the whole epoch instead")
    parser.add_argument("--rounds", type=int, default=2, help="of the searches")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/heads_scale"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work /= f"{options.rows}x{options.width}x{options.classes}x{options.queries}"
    if options.inside is not None:
        print(json.dumps(measure(options.inside, options)))
        return
    began, load = time.monotonic(), os.getloadavg()[0]
    write_data(options.work, options.rows, options.width, options.classes, options.queries)
    print(f"vectors {time.monotonic() - began:.0f} s; load {load:.1f}", flush=True)
    measured = {part: measured_apart(part, sys.argv[1:], options.threads) for part in options.parts}
    judged = options.rows >= ROWS and options.device == "cpu"
    table = [row for part, found in measured.items() for row in verdicts(part, found, judged)]
    settings = {name: getattr(options, name) for name in ("rows", "width", "classes", "queries", "threads", "device")}
    summary = {
        "command": " ".join(["python benchmarks/heads_scale.py", *sys.argv[1:]]),
        "settings": settings,
        "load": [round(one, 1) for one in (load, os.getloadavg()[0])],
    }
    versions = {name: version(name) for name in ("torch", "faiss-cpu", "numpy")}
    write_json(options.output, summary | {"processor": processor(), "versions": versions, **measured, "targets": table})


if __name__ == "__main__":
    main()

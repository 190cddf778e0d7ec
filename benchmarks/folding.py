"""Fold distograms made of true distances: how near the trace comes by how blurred they are, and if its hand is right.

    OMP_NUM_THREADS=1 python benchmarks/folding.py CHAINS benchmarks/results/folding.json
    OMP_NUM_THREADS=1 python benchmarks/folding.py CHAINS benchmarks/results/folding.json --speed 512 1000
    python benchmarks/folding.py ../shared/data/structure/train_[1234].npz --table

CHAINS is `../shared/data/structure/train_0.npz`. A level is what is done to the true distances: each is moved by noise
of `near` Å, and `blur` more for each Å beyond 3.8, spread by as much, mixed with a share of what the separation in the
chain alone says; of pairs of 24 steps and more a share is lost: they say that alone. What the separation says is of the
first 40 chains of the file; the chains that are folded are every `--every`th after these. `--table` prints the table of
`esmcls.structures.folding.handedness`.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from esmcls.metrics.structures.superposition import tm_score
from esmcls.structures.distogram import BINS, NEAREST, WIDTH, PairAnswer, binned, distances
from esmcls.structures.folding.fold import STARTS, fold
from esmcls.structures.folding.handedness import THREE_STEPS, TWO_STEPS
from esmcls.structures.superposition import superpose
from esmcls.types import Coordinates, Floats, Probabilities

PRIOR_CHAINS = 40
LONGEST = 512
LONG_RANGE = 24
HELICAL = 0.1
"""Share of residues in helices (DSSP H and G) from which a chain counts as helical."""


@dataclass(frozen=True)
class Level:
    """How a distogram differs from the truth; see the top."""

    name: str
    near: float
    blur: float
    mixed: float
    lost: float


LEVELS = (
    Level("sharp", 0.2, 0.0, 0.0, 0.0),
    Level("blurred", 0.2, 0.1, 0.1, 0.0),
    Level("long range lost", 0.2, 0.1, 0.1, 0.6),
    Level("weak", 0.2, 0.25, 0.3, 0.3),
    Level("separation alone", 0.2, 0.0, 1.0, 0.0),
)


def main() -> None:
    """Fold, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--speed", nargs="+", type=int, default=[], metavar="RESIDUES")
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("--longest", type=int, default=200)
    parser.add_argument("--starts", type=int, default=STARTS)
    given = parser.parse_args()
    if given.table:
        print_table(given.files)
        return
    [*files, results] = given.files
    chains = list(read_chains(files))
    prior = by_separation([trace for _, _, trace in chains[:PRIOR_CHAINS]])
    known = json.loads(results.read_text()) if results.exists() else {}
    if given.speed:
        known["speed"] = [speed(residues, prior, given.starts) for residues in given.speed]
    else:
        chosen = [chain for chain in chains[PRIOR_CHAINS:] if 60 <= len(chain[2]) <= given.longest][:: given.every]
        known["chains"] = [measured for level in LEVELS for measured in folded(level, chosen, prior, given.starts)]
        known["summary"] = [summary(level.name, known["chains"]) for level in LEVELS]
        for line in known["summary"]:
            print(json.dumps(line), flush=True)
    results.write_text(json.dumps(known, indent=1) + "\n")


def read_chains(files: list[Path]) -> Iterator[tuple[str, str, Coordinates]]:
    """Give the id, the eight states and the CA trace of each chain."""
    for path in files:
        arrays = np.load(path)
        ends = np.cumsum(arrays["length"].astype(np.int64))
        for name, start, end in zip(arrays["id"].tolist(), [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            steps = arrays["ca_delta_tenth_angstrom"][:, start:end].astype(np.int64)
            trace = 0.1 * np.cumsum(steps, axis=1).T
            yield name.decode(), arrays["ss8"][start:end].tobytes().decode(), trace.astype(np.float32)


def by_separation(traces: list[Coordinates]) -> Probabilities:
    """Return the distribution of the bins by how many steps apart two residues are, float32 (longest, 64)."""
    counts = np.full((2 * LONGEST, BINS), 0.01)
    for trace in traces:
        bins = binned(distances(trace))
        for step in range(1, len(trace)):
            counts[step] += np.bincount(np.diagonal(bins, step), minlength=BINS)
    return (counts / counts.sum(1, keepdims=True)).astype(np.float32)


def oracle(trace: Coordinates, level: Level, prior: Probabilities, rng: np.random.Generator) -> PairAnswer:
    """Return the distogram of a true trace, made as bad as a level says."""
    residues = len(trace)
    true = distances(trace).astype(np.float64)
    spread = level.near + level.blur * np.maximum(true - 3.8, 0)
    noise, luck = (np.triu(draw, 1) for draw in (rng.normal(size=true.shape), rng.random(true.shape)))
    seen = true + (noise + noise.T) * spread
    edges = NEAREST + WIDTH * np.arange(1, BINS)
    steps = np.abs(np.subtract.outer(np.arange(residues), np.arange(residues)))
    distogram = prior[steps]
    for row in range(residues):
        below = ndtr((edges - seen[row, :, None]) / spread[row, :, None])
        peaks = np.diff(below, axis=1, prepend=0.0, append=1.0)
        distogram[row] = (1 - level.mixed) * peaks + level.mixed * distogram[row]
    lost = (steps >= LONG_RANGE) & (luck + luck.T < level.lost)
    distogram[lost] = prior[steps[lost]]
    return PairAnswer(np.arange(residues), distogram, np.full(residues, 0.5, dtype=np.float32), residues)


def folded(
    level: Level, chains: list[tuple[str, str, Coordinates]], prior: Probabilities, starts: int
) -> Iterator[dict[str, object]]:
    """Give what comes of each chain at a level."""
    rng = np.random.default_rng(1)
    for name, states, trace in chains:
        answer = oracle(trace, level, prior, rng)
        begun = time.process_time()
        result = fold(answer, starts=starts)
        seconds = time.process_time() - begun
        mirrored = (result.trace * [1, 1, -1]).astype(np.float32)
        yield {
            "level": level.name,
            "id": name,
            "residues": len(trace),
            "helix": round(sum(state in "HG" for state in states) / len(states), 3),
            "tm": round(tm_score(result.trace, trace), 3),
            "tm_of_mirror_image": round(tm_score(mirrored, trace), 3),
            "rmsd": round(superpose(result.trace, trace).rmsd, 2),
            "loss": round(result.loss, 4),
            "mirror_loss": round(result.mirror_loss, 4),
            "cpu_seconds": round(seconds, 1),
        }


def summary(level: str, rows: list[dict[str, object]]) -> dict[str, object]:
    """Return means of a level; the hand is judged where one of the images resembles the truth (TM of .5)."""
    of_level = [row for row in rows if row["level"] == level]
    tm, mirrored, helix, rmsd = (
        np.array([row[name] for row in of_level]) for name in ("tm", "tm_of_mirror_image", "helix", "rmsd")
    )
    judged, right, helical = np.maximum(tm, mirrored) >= 0.5, tm > mirrored, helix >= HELICAL
    return {
        "level": level,
        "chains": len(of_level),
        "tm": round(float(tm.mean()), 3),
        "rmsd_median": round(float(np.median(rmsd)), 2),
        "hand_right_helical": f"{(right & judged & helical).sum()} of {(judged & helical).sum()}",
        "hand_right_others": f"{(right & judged & ~helical).sum()} of {(judged & ~helical).sum()}",
    }


def speed(residues: int, prior: Probabilities, starts: int) -> dict[str, float]:
    """Return what it takes to fold a chain of so many residues, a random walk in a ball, from a blurred distogram."""
    rng = np.random.default_rng(0)
    answer = oracle(walk(residues, rng), LEVELS[1], prior, rng)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, cpu = time.perf_counter(), time.process_time()
    fold(answer, starts=starts)
    return {
        "residues": residues,
        "starts": starts,
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "distogram_megabytes": round(answer.distogram.nbytes / 1e6),
        "peak_before_megabytes": round(before / 1e3),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def walk(residues: int, rng: np.random.Generator) -> Coordinates:
    """Return a walk of 3.8 Å steps that is as wide as a globular protein (2.2 N^.38 Å, Skolnick 1997)."""
    widest = 1.3 * 2.2 * residues**0.38
    trace = np.zeros((residues, 3))
    for number in range(1, residues):
        tries = trace[number - 1] + 3.8 * directions(rng, 40)
        free = np.linalg.norm(tries[:, None] - trace[None, : number - 1], axis=2).min(1, initial=9.0)
        outside = np.maximum(np.linalg.norm(tries, axis=1) - widest, 0)
        trace[number] = tries[np.argmax(np.minimum(free, 4.5) - outside)]
    return trace.astype(np.float32)


def directions(rng: np.random.Generator, count: int) -> Floats:
    """Return so many random directions, (count, 3)."""
    drawn = rng.normal(size=(count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def print_table(files: list[Path]) -> None:
    """Print mean and standard deviation of (b1 x b2) . b3 by the distances of four neighbours."""
    sums = np.zeros((3, len(THREE_STEPS) + 1, len(TWO_STEPS) + 1))
    count = 0
    for _, _, trace in read_chains(files):
        bonds = np.diff(trace.astype(np.float64), axis=0)
        whole = np.abs(np.linalg.norm(bonds, axis=1) - 3.8) < 0.3
        turns = whole[:-2] & whole[1:-1] & whole[2:]
        volumes = (np.cross(bonds[:-2], bonds[1:-1]) * bonds[2:]).sum(1)[turns]
        two = np.linalg.norm(trace[2:] - trace[:-2], axis=1)
        rows = np.digitize(np.linalg.norm(trace[3:] - trace[:-3], axis=1)[turns], THREE_STEPS)
        columns = np.digitize(((two[:-1] + two[1:]) / 2)[turns], TWO_STEPS)
        for power in range(3):
            np.add.at(sums[power], (rows, columns), volumes**power)
        count += 1
    few = sums[0] < 50
    mean = sums[1] / np.maximum(sums[0], 1)
    spread = np.sqrt(np.maximum(sums[2] / np.maximum(sums[0], 1) - np.square(mean), 0))
    print(count, "chains")
    print(np.where(few, 0, mean).round().astype(int).tolist())
    print(np.where(few, 25, spread).round().astype(int).tolist())


if __name__ == "__main__":
    main()

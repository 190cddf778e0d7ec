"""Measure how long openTSNE and UMAP take to lay out vectors in a plane, and how many neighbours stay neighbours.

    OMP_NUM_THREADS=1 python benchmarks/map_speed.py opentsne 60000 benchmarks/results/map_speed.json

One method and number of rows a call; its line is added to the results. Rows are of a mixture: families of 3 to 300
members whose centres are drawn with a deviation of 1 in 50 dimensions, their members with .35: what whitened vectors
look like after a principal component analysis. Both methods use one thread (with a fixed seed UMAP can have no more).
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

WIDTH = 50
NEIGHBOURS = 10
JUDGED = 1000


def main() -> None:
    """Measure one method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("method", choices=["opentsne", "umap"])
    parser.add_argument("rows", type=int)
    parser.add_argument("results", type=Path)
    given = parser.parse_args()
    vectors = mixture(given.rows, seed=0)
    begun, cpu = time.perf_counter(), time.process_time()
    places = {"opentsne": by_opentsne, "umap": by_umap}[given.method](vectors)
    line = {
        "method": given.method,
        "version": version({"opentsne": "openTSNE", "umap": "umap-learn"}[given.method]),
        "rows": given.rows,
        "wall_seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "neighbours_kept": round(neighbours_kept(vectors, places), 3),
    }
    print(json.dumps(line), flush=True)
    known = json.loads(given.results.read_text()) if given.results.exists() else []
    given.results.write_text("[\n" + ",\n".join("  " + json.dumps(one) for one in [*known, line]) + "\n]\n")


def mixture(rows: int, seed: int) -> np.ndarray:
    """Return float32 (rows, 50): members of families, of which small ones are many."""
    random = np.random.default_rng(seed)
    sizes = []
    while sum(sizes) < rows:
        sizes.append(int(np.exp(random.uniform(np.log(3), np.log(300)))))
    families = np.repeat(np.arange(len(sizes)), sizes)[:rows]
    centres = random.normal(size=(len(sizes), WIDTH))
    return (centres[families] + 0.35 * random.normal(size=(rows, WIDTH))).astype(np.float32)


def by_opentsne(vectors: np.ndarray) -> np.ndarray:
    """Lay out with openTSNE as `esmcls map` does: cosine, perplexity 30, PCA to begin with."""
    from openTSNE import TSNE

    return np.asarray(TSNE(metric="cosine", random_state=0, n_jobs=1).fit(vectors))


def by_umap(vectors: np.ndarray) -> np.ndarray:
    """Lay out with UMAP by its defaults, with the cosine."""
    from umap import UMAP

    return np.asarray(UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors))


def neighbours_kept(vectors: np.ndarray, places: np.ndarray) -> float:
    """Return the share of the ten nearest rows that are among the ten nearest in the plane, over a thousand rows."""
    rows = np.random.default_rng(1).choice(len(vectors), min(JUDGED, len(vectors)), replace=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.argpartition(-(unit[rows] @ unit.T), NEIGHBOURS + 1, axis=1)[:, : NEIGHBOURS + 1]
    squares = (places**2).sum(1)
    distances = squares - 2 * places[rows] @ places.T
    beside = np.argpartition(distances, NEIGHBOURS + 1, axis=1)[:, : NEIGHBOURS + 1]
    return float(np.mean([(len(set(a) & set(b)) - 1) / NEIGHBOURS for a, b in zip(near, beside, strict=True)]))


if __name__ == "__main__":
    main()

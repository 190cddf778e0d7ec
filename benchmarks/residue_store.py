"""What a smaller store of residue vectors would cost: other numbers for each residue, the same heads, on validation.

    python benchmarks/residue_store.py WORK --train 150 --validation 120 --heads linear

WORK is a workspace whose cache keeps vectors of residues (that of benchmarks/residues.py). Proteins of its train part
are drawn to fit on, and of its validation part to be asked; the test part is not read. Stores: float16 as it is; its
last layer alone; int8 with a scale for each residue, or for each 32 numbers; principal components of residues of the
training proteins, as float16 and as int8. Told is accuracy with that of float16 taken off, and the 95 % interval of the
difference over proteins. Writes benchmarks/results/residue_store_HEADS.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.cache.features import Features
from esmcls.tasks.kinds import task_of
from esmcls.types import Vectors
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).with_name("results")
MEASURED = 40_000
"""Residues that the components are those of."""
Store = Callable[[Vectors], Vectors]


def int8(vectors: Vectors, block: int) -> Vectors:
    """Return what is left of vectors where each block of numbers is stored as int8 with the largest as its scale."""
    parts = vectors.astype(np.float32).reshape(len(vectors), -1, block)
    scale = np.float16(np.abs(parts).max(-1, keepdims=True) / 127)
    scale[scale == 0] = 1
    return (np.clip(np.rint(parts / scale), -127, 127) * scale).reshape(vectors.shape).astype(np.float32)


def stores_of(vectors: list[Vectors], layers: int) -> dict[str, tuple[float, Store]]:
    """Return what stores keep, by their name: bytes a residue, and what is read again of vectors."""
    rows = np.concatenate(vectors)
    rows = rows[np.random.default_rng(0).permutation(len(rows))[:MEASURED]].astype(np.float32)
    width = rows.shape[1]
    mean = rows.mean(0)
    _, axes = np.linalg.eigh(np.cov((rows - mean).T))
    axes = axes[:, ::-1].astype(np.float32)  # the largest variance first

    def components(count: int, block: int = 0) -> Store:
        def stored(some: Vectors) -> Vectors:
            projected = (some.astype(np.float32) - mean) @ axes[:, :count]
            return int8(projected, block) if block else projected.astype(np.float16)

        return stored

    one = width // layers
    return {
        "float16": (2 * width, lambda some: some),
        "float16, last layer": (2 * one, lambda some: some[:, -one:]),
        "int8, a scale a residue": (width + 2, lambda some: int8(some, width)),
        "int8, a scale each 32": (width + width / 16, lambda some: int8(some, 32)),
        "256 components, float16": (512, components(256)),
        "128 components, float16": (256, components(128)),
        "128 components, int8": (128 + 8, components(128, 32)),
        "64 components, int8": (64 + 4, components(64, 32)),
    }


def drawn(workspace: Workspace, part: str, most: int) -> tuple[Any, list[Vectors]]:
    """Return proteins of a part and the vectors of their residues."""
    rows = workspace.dataset.part(part)
    rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:most]).tolist())
    return rows, list(Features.from_cache(workspace.latest_cache(), rows).residues())


def right_by_protein(head: Any, x: Features, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return how many known residues of each protein are answered as they should be, and how many are known."""
    right, known = [], []
    for row, answers in enumerate(head.per_protein(x)):
        codes = labels.row(row)
        right.append(((answers.argmax(1) == codes) & (codes >= 0)).sum())
        known.append((codes >= 0).sum())
    return np.array(right), np.array(known)


def difference(one: np.ndarray, other: np.ndarray, known: np.ndarray) -> list[float]:
    """Return the difference in accuracy, and its interval over 1,000 draws of the proteins."""
    draws = np.random.default_rng(0).integers(0, len(known), size=(1000, len(known)))
    differences = (one - other)[draws].sum(1) / known[draws].sum(1)
    return [float((one - other).sum() / known.sum()), *np.percentile(differences, [2.5, 97.5]).tolist()]


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("workspace", type=Path)
    options.add_argument("--train", type=int, default=300)
    options.add_argument("--validation", type=int, default=120)
    options.add_argument("--heads", default="linear,conv")
    options.add_argument("--epochs", type=int, default=5)
    given = options.parse_args()
    workspace = Workspace.open(given.workspace)
    task = task_of(workspace)
    train, train_vectors = drawn(workspace, "train", given.train)
    asked, asked_vectors = drawn(workspace, "validation", given.validation)
    labels = task.labels(train)
    truth = task.labels(asked, labels.classes)
    layers = len(workspace.latest_cache().spec.layers)
    rows = list[dict[str, Any]]()
    as_it_is: dict[str, np.ndarray] = {}
    for name, (nbytes, store) in stores_of(train_vectors, layers).items():
        x, held = features(train, train_vectors, store), features(asked, asked_vectors, store)
        for head_name in given.heads.split(","):
            began = time.perf_counter()
            head_class = task.head_class(head_name)
            head = head_class(head_class.Config(epochs=given.epochs)).fit(x, labels, (held, truth), 0)
            right, known = right_by_protein(head, held, truth)
            as_it_is.setdefault(head_name, right)
            row = {"store": name, "bytes_a_residue": nbytes, "head": head_name, "scores": head.scores}
            row |= {
                "accuracy": right.sum() / known.sum(),
                "less_float16": difference(right, as_it_is[head_name], known),
            }
            rows.append(row | {"seconds": round(time.perf_counter() - began, 1)})
            print({key: rows[-1][key] for key in rows[-1] if key != "scores"}, flush=True)
            words = (
                f"--train {given.train} --validation {given.validation} --heads {given.heads} --epochs {given.epochs}"
            )
            about = {"command": f"python benchmarks/residue_store.py WORK {words}", "residues": int(known.sum())}
            results = RESULTS / f"residue_store_{given.heads.replace(',', '_')}.json"
            results.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


def features(proteins: Any, vectors: list[Vectors], store: Store) -> Features:
    """Return proteins with the vectors of residues that are read again from a store."""
    kept = [np.ascontiguousarray(store(one)) for one in vectors]
    means = np.stack([one.mean(0, dtype=np.float32) for one in kept])
    return Features.from_arrays(means, proteins.sequences, proteins.ids, residues=kept)


if __name__ == "__main__":
    main()

"""Chooses the gaps and the scaling of the `kmer` encoder, on a development part of two training sets.

    python benchmarks/choose_kmer.py ../shared/data

The test parts are not read. A share of each class's training members is held out as development part; classes with one
member stay in train. Scored is the whitened nearest neighbour, as the knn head does it, and a linear map from
closed-form ridge. Prints a table and writes `benchmarks/results/kmer.json`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from esmcls.encoders.kmer import KmerEncoder
from esmcls.heads.whitening import WithinClass
from esmcls.plain_values import write_json
from esmcls.reading.readers import read_records

GAPS = [(), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5)]
SCALES = {"share": torch.square, "root": lambda vectors: vectors}  # the encoder gives roots
SHRINKAGE = 0.3
RIDGE = 0.03


def development_split(labels: list[str], share: float, most: int, seed: int) -> tuple[list[int], list[int]]:
    """Return rows of train (at most `most` a class) and of the development part."""
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for row in rng.permutation(len(labels)):
        members.setdefault(labels[row], []).append(int(row))
    train, development = [], []
    for rows in members.values():
        held = int(len(rows) * share + rng.random()) if len(rows) > 1 else 0
        development += rows[:held]
        train += rows[held : held + most]
    return train, development


def nearest(train: torch.Tensor, codes: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Return the class of the nearest neighbour by cosine after within-class whitening."""
    whiten = WithinClass.of(train.numpy(), codes.numpy(), int(codes.max()) + 1)(SHRINKAGE)
    known, asked = (torch.nn.functional.normalize(whiten(vectors)) for vectors in (train, queries))
    return codes[(asked @ known.T).argmax(1)]


def linear(train: torch.Tensor, codes: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Return the class with the highest score of a ridge regression on scaled class indicators."""
    mean = train.mean(0)
    scale = (train - mean).square().sum(1).mean().sqrt()
    x, asked = (train - mean) / scale, (queries - mean) / scale
    counts = torch.bincount(codes).float()
    target = torch.zeros(len(counts), x.shape[1]).index_add_(0, codes, x) / counts.sqrt()[:, None]
    gram = x.T @ x + RIDGE * len(x) / x.shape[1] * torch.eye(x.shape[1])
    return (asked @ torch.linalg.solve(gram, target.T)).argmax(1)


def measure(name: str, sources: list[Path], labels: Path | None, most: int) -> list[dict[str, object]]:
    """Score every choice on one set."""
    records = list(read_records(sources, labels=labels))
    train, development = development_split([str(record.label) for record in records], 0.15, most, seed=0)
    development = development[:1500]
    classes = {label: code for code, label in enumerate(sorted({str(records[row].label) for row in train}))}
    known, asked = (torch.tensor([classes[str(records[r].label)] for r in rows]) for rows in (train, development))
    print(f"{name}: {len(train):,} train, {len(development):,} development, {len(classes):,} classes", flush=True)
    results: list[dict[str, object]] = []
    for gaps in GAPS:
        encoder = KmerEncoder("kmer", gaps)
        began = time.process_time()
        roots = [
            torch.from_numpy(encode(encoder, [records[r].protein.sequence for r in rows]))
            for rows in (train, development)
        ]
        seconds = time.process_time() - began
        residues = sum(len(records[row].protein.sequence) for row in train + development)
        for scale, apply in SCALES.items():
            x, queries = (apply(vectors) for vectors in roots)
            scores = {
                "neighbour": float((nearest(x, known, queries) == asked).float().mean()),
                "linear": float((linear(x, known, queries) == asked).float().mean()),
            }
            results.append({"set": name, "gaps": gaps, "scale": scale, "width": encoder.width} | scores)
            table = "  ".join(f"{key} {100 * value:5.1f} %" for key, value in scores.items())
            speed = residues / seconds / 1e6
            print(f"  {gaps!s:20} {scale:6} width {encoder.width:5}  {table}  {speed:.1f} M residues/CPU-s", flush=True)
    return results


def encode(encoder: KmerEncoder, sequences: list[str]) -> np.ndarray:
    """Encode in the encoder's own batches."""
    parts, start = [], 0
    for count in encoder.batches(map(len, sequences)):
        parts.append(encoder.encode(sequences[start : start + count]).pooled["mean"])
        start += count
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with cath and pfam")
    data = parser.parse_args().data
    cath, pfam = data / "cath", data / "pfam/random_split/train"
    results = measure("cath", [cath / "train.fasta.gz"], cath / "train_labels.tsv.gz", most=50)
    results += measure("pfam", sorted(pfam.glob("*.csv.gz")), None, most=8)
    write_json(Path(__file__).parent / "results/kmer.json", results)


if __name__ == "__main__":
    main()

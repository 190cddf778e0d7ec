"""Parity of emulated precisions: how near vectors of a device that lacks a precision are to those of one that has it.

    python benchmarks/precision_parity.py data/demo.csv.gz --proteins 500 --threads 1
    python benchmarks/precision_parity.py SEQUENCES --encoder esm2_t6_8M_UR50D --layers 0,1,2,3,4,5,6 --device cuda

Every precision that the device has is run as it is and, the device's ability hidden, emulated, on the same proteins.
For fp16 a CPU's ability is torch's own product of fp16 matrices, which no encoder of ours uses, since it is slow. Says
cosine (least and mean over proteins) and largest difference of the vectors, next to what the precision differs from
fp32 by; and residues a second of this process (of its processor time, on a CPU) as a share of fp32's, the best of
`--rounds`. Prints a table and writes it to `--output`, if given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from embed_speed import processor

from esmcls.encoders import devices
from esmcls.encoders.encoder import load_encoder
from esmcls.reading.readers import read_records

LOWER = ("bf16", "fp16", "int8", "fp8")
SAMPLE_SEED = 0


@contextlib.contextmanager
def ability(*precisions: str) -> Iterator[None]:
    """Let the devices have these precisions and fp32, and no others."""
    with patch.object(devices, "hardware_precisions", lambda device: frozenset({"fp32", *precisions})):
        yield


@contextlib.contextmanager
def without_onednn(wanted: bool) -> Iterator[None]:
    """Take torch's own products, if that is wanted."""
    with patch.object(torch.backends.mkldnn, "is_available", lambda: False) if wanted else contextlib.nullcontext():
        yield


def embedded(given: argparse.Namespace, precision: str, sequences: list[str]) -> tuple[npt.NDArray[np.float32], float]:
    """Return the vectors, (n, width), and the best speed in residues a second."""
    layers = [int(layer) for layer in given.layers.split(",")] if given.layers else None
    encoder = load_encoder(given.encoder, layers=layers, precision=precision, device=given.device)
    encoder.encode(sequences[:3])
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    best = 0.0
    for _ in range(given.rounds):
        start = clock()
        vectors = encoder.encode(sequences).pooled["mean"]
        best = max(best, sum(map(len, sequences)) / (clock() - start))
    return vectors, best


def difference(vectors: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return the least and the mean cosine of proteins and the largest difference of a number."""
    a, b = vectors.astype(np.float64), others.astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {"cosine_min": cosine.min(), "cosine_mean": cosine.mean(), "largest": np.abs(a - b).max()}


def rows(given: argparse.Namespace, sequences: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each comparison."""
    device = torch.device(given.device)
    there = devices.hardware_precisions(device)
    exact, full_speed = embedded(given, "fp32", sequences)
    yield {"vectors": "fp32", "against": "", "residues_a_second": round(full_speed)}
    for precision in LOWER:
        native = precision in there
        stand_in = precision == "fp16" and device.type == "cpu"
        with ability():
            emulated, emulated_speed = embedded(given, precision, sequences)
        yield {
            "vectors": f"{precision} emulated",
            "against": "fp32",
            "speed": emulated_speed / full_speed,
        } | difference(emulated, exact)
        if native or stand_in:
            with ability(precision), without_onednn(stand_in):
                real, speed = embedded(given, precision, sequences)
            what = {"speed": speed / full_speed}
            yield {"vectors": f"{precision} real", "against": "fp32"} | what | difference(real, exact)
            yield {"vectors": f"{precision} emulated", "against": f"{precision} real"} | difference(emulated, real)


def in_words(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    line = f"{row['vectors']:14} {row['against']:10}"
    if "cosine_min" in row:
        line += "{cosine_min:.7f} {cosine_mean:.7f} {largest:.1e}".format(**row)
    return line + (f" {row['speed']:6.2f} x" if "speed" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("input", help="sequences, as esmcls embed takes them")
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--layers", help="such as 1,2,3; default the encoder's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--proteins", type=int, default=500, help="a random sample of so many")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    distinct = sorted({record.protein.sequence for record in read_records([given.input])})
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(distinct))[: given.proteins]
    sequences = [distinct[place] for place in chosen]
    print(f"{len(sequences):,} proteins, {sum(map(len, sequences)):,} residues; {processor()}")
    print("vectors        against   cosine min and mean  largest  speed of fp32's")
    table = []
    for row in rows(given, sequences):
        print(in_words(row), flush=True)
        table.append(row)
    if given.output:
        about = {"encoder": given.encoder, "layers": given.layers, "device": given.device, "threads": given.threads}
        about |= {"proteins": len(sequences), "processor": processor(), "torch": version("torch")}
        given.output.write_text(json.dumps({"command": about, "rows": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

r"""Parity of emulated precisions: how near vectors of a device that lacks a precision are to those of one that has it.

    python benchmarks/precision_parity.py data/demo.csv.gz --proteins 500 --threads 1
    python benchmarks/precision_parity.py SEQUENCES --encoder esm2_t6_8M_UR50D --layers 0,1,2,3,4,5,6 --device cuda
    python benchmarks/precision_parity.py ../shared/data/cath/train.fasta.gz --proteins 1000 --precisions int8 \
        --labels ../shared/data/cath/train_labels.tsv.gz --emulate AVX2

Every precision that the device has is run as it is and, the device's ability hidden, emulated, on the same proteins.
For fp16 a CPU's ability is torch's own product of fp16 matrices, which no encoder of ours uses, since it is slow. Says
cosine (least, least of those of 40 residues and more, mean) and largest difference of the vectors, next to what the
precision differs from fp32 by; of vectors of residues the mean cosine in the worst protein and over all proteins; with
`--labels` the share of proteins whose nearest other one has their label, of those whose label another has; with
`--emulate` the same for what a processor makes that is told to do as a lesser one; and residues a second of this
process (of its processor time, on a CPU) as a share of fp32's, the best of `--rounds`. Prints a table and writes it to
`--output`, if given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from embed_speed import EMULATED, processor

from esmcls.encoders import devices
from esmcls.encoders.encoder import Embedded, load_encoder
from esmcls.files import temporary_folder
from esmcls.reading.readers import read_records

LOWER = ("bf16", "fp16", "int8", "fp8")
SAMPLE_SEED = 0
PEPTIDE = 40
"""Residues below which a mean averages out little: the least cosine is said without such, too."""


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


def embedded(given: argparse.Namespace, precision: str, sequences: list[str]) -> tuple[Embedded, float]:
    """Return the vectors and the best speed in residues a second."""
    layers = [int(layer) for layer in given.layers.split(",")] if given.layers else None
    encoder = load_encoder(given.encoder, layers=layers, precision=precision, device=given.device)
    encoder.encode(sequences[:3])
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    best = 0.0
    for _ in range(given.rounds):
        start = clock()
        made = encoder.encode(sequences, keep="residue")
        best = max(best, sum(map(len, sequences)) / (clock() - start))
    return made, best


def on_lesser(given: argparse.Namespace, precision: str, lesser: str) -> Embedded:
    """Return the vectors that a processor makes that is told to do as a lesser one, in a process of its own."""
    with temporary_folder("lesser") as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", precision, str(folder / "vectors.npz")]
        subprocess.run(command, env={**os.environ, **EMULATED[lesser]}, check=True)
        with np.load(folder / "vectors.npz") as arrays:
            residues = np.split(arrays["residues"], arrays["ends"][:-1])
            lengths = np.diff(arrays["ends"], prepend=0)
            return Embedded({"mean": arrays["mean"]}, np.ones_like(lengths), lengths, residues=residues)


def save_vectors(made: Embedded, path: str) -> None:
    """Write what `on_lesser` reads."""
    residues = made.residues or []
    ends = np.cumsum([len(part) for part in residues])
    np.savez(path, mean=made.pooled["mean"], residues=np.concatenate(residues), ends=ends)


def cosines(vectors: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of one with that of the other."""
    a, b = vectors.astype(np.float64), others.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def difference(made: Embedded, other: Embedded) -> dict[str, float]:
    """Return the least and the mean cosine of proteins, the same of their residues, and the largest difference."""
    vectors, others = made.pooled["mean"], other.pooled["mean"]
    cosine = cosines(vectors, others)
    pairs = zip(made.residues or [], other.residues or [], strict=True)
    residues = [cosines(of_one, of_other).mean() for of_one, of_other in pairs]
    return {
        "cosine_min": cosine.min(),
        "cosine_min_longer": min(
            (c for c, part in zip(cosine, made.residues or [], strict=True) if len(part) >= PEPTIDE), default=1.0
        ),
        "cosine_mean": cosine.mean(),
        "residues_min": min(residues),
        "residues_mean": float(np.mean(residues)),
        "largest": float(np.abs(vectors - others).max()),
    }


def nearest(made: Embedded, labels: list[str | None]) -> dict[str, float]:
    """Return the share of proteins whose nearest other by cosine has their label, of those whose label another has."""
    names = np.array([label or "" for label in labels])
    vectors = made.pooled["mean"].astype(np.float64)
    vectors = vectors - vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors @ vectors.T
    np.fill_diagonal(near, -2)
    asked = (names != "") & ((names[:, None] == names).sum(1) > 1)
    return (
        {"nearest": float((names[near.argmax(1)] == names)[asked].mean()), "asked": int(asked.sum())}
        if asked.any()
        else {}
    )


def rows(given: argparse.Namespace, sequences: list[str], labels: list[str | None]) -> Iterator[dict[str, Any]]:
    """Yield a row for each comparison."""
    device = torch.device(given.device)
    there = devices.hardware_precisions(device)
    exact, full_speed = embedded(given, "fp32", sequences)
    yield {"vectors": "fp32", "against": "", "residues_a_second": round(full_speed)} | nearest(exact, labels)
    for precision in given.precisions:
        native = precision in there
        stand_in = precision == "fp16" and device.type == "cpu"
        with ability():
            emulated, emulated_speed = embedded(given, precision, sequences)
        yield (
            {
                "vectors": f"{precision} emulated",
                "against": "fp32",
                "speed": emulated_speed / full_speed,
            }
            | difference(emulated, exact)
            | nearest(emulated, labels)
        )
        if native or stand_in:
            with ability(precision), without_onednn(stand_in):
                real, speed = embedded(given, precision, sequences)
            what = {"speed": speed / full_speed}
            yield (
                {"vectors": f"{precision} real", "against": "fp32"}
                | what
                | difference(real, exact)
                | nearest(real, labels)
            )
            yield {"vectors": f"{precision} emulated", "against": f"{precision} real"} | difference(emulated, real)
            for lesser in given.emulate:
                name = {"vectors": f"{precision} {lesser}", "against": f"{precision} real"}
                yield name | difference(on_lesser(given, precision, lesser), real)


def in_words(row: dict[str, Any]) -> str:
    """Return a row as a line."""
    line = f"{row['vectors']:14} {row['against']:10}"
    if "cosine_min" in row:
        line += "{cosine_min:.7f} {cosine_min_longer:.7f} {cosine_mean:.7f} ".format(**row)
        line += "{residues_min:.5f} {residues_mean:.5f} {largest:.1e}".format(**row)
    line += f" {row['speed']:6.2f} x" if "speed" in row else ""
    return line + (f" {row['nearest']:.4f} of {row['asked']} by the nearest" if "nearest" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("input", help="sequences, as esmcls embed takes them")
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--layers", help="such as 1,2,3; default the encoder's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--proteins", type=int, default=500, help="a random sample of so many")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", default=list(LOWER), choices=LOWER)
    parser.add_argument("--labels", help="table of the label of each id")
    parser.add_argument("--emulate", nargs="*", default=[], choices=EMULATED, help="lesser processors")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    label_of = {record.protein.sequence: record.label for record in read_records([given.input], labels=given.labels)}
    distinct = sorted(label_of)
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(distinct))[: given.proteins]
    sequences = [distinct[place] for place in chosen]
    if given.child:
        precision, path = given.child
        save_vectors(embedded(given, precision, sequences)[0], path)
        return
    print(f"{len(sequences):,} proteins, {sum(map(len, sequences)):,} residues; {processor()}")
    print("vectors        against   cosine min, from 40 residues on, mean; of residues  largest  speed of fp32's")
    table = []
    for row in rows(given, sequences, [label_of[sequence] for sequence in sequences]):
        print(in_words(row), flush=True)
        table.append(row)
    if given.output:
        about = {
            "encoder": Path(given.encoder).name,
            "layers": given.layers,
            "device": given.device,
            "threads": given.threads,
        }
        about |= {
            "input": Path(given.input).name,
            "proteins": len(sequences),
            "processor": processor(),
            "torch": version("torch"),
        }
        given.output.write_text(json.dumps({"command": about, "rows": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

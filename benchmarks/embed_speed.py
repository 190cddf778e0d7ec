"""Embedding speed: residues a CPU-second of esmcls, fair-esm's `extract.py` and transformers on random weights.

    python benchmarks/embed_speed.py --proteins 250 --rounds 3 --threads 1

Every measurement is a process of its own, because one that changes how the C library keeps memory would change the
next one too; the rounds are interleaved, and the fastest one of each counts. "Tuned" runs with MALLOC_MMAP_MAX_=0 and
a large MALLOC_TRIM_THRESHOLD_. CPU-seconds are user + system, of all threads. Prints a table and writes
`benchmarks/results/embed_speed.json`, or `--output`. Small shapes against the 8M one, without the other tools:

    python benchmarks/embed_speed.py --shapes 8M bundled 5x256x8 --methods fp32 bf16 --output esmcls-work/shapes.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "bundled": (4, 256, 8)}
TARGETS = {("8M", "fp32"): 2.8, ("8M", "bf16"): 4.0, ("35M", "fp32"): 2.4, ("35M", "bf16"): 3.7}
METHODS = ("fair-esm", "transformers", "fp32", "bf16", "int8")
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
BATCH_TOKENS = 4096
AGAINST_8M = 2.0
"""How many times as many residues a CPU-second the bundled encoder's shape is to embed, in the same precision."""
RESULTS = Path(__file__).with_name("results") / "embed_speed.json"


def proteins(count: int) -> list[str]:
    """Return random proteins of log-normal length, median 294, 30 to 1022 residues."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.exp(random.normal(np.log(294), 0.7, count)).astype(int), 30, 1022)
    return ["".join(random.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for length in lengths]


def fair_esm(shape: tuple[int, int, int]) -> Callable[[list[str]], Any]:
    """Return what fair-esm 2.0.0's `scripts/extract.py` does, less writing its files."""
    import esm
    import torch

    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    model, last = esm.ESM2(*shape, alphabet).eval(), shape[0]

    def run(sequences: list[str]) -> list[Any]:
        data = esm.FastaBatchedDataset(list(map(str, range(len(sequences)))), sequences)
        batches = data.get_batch_indices(BATCH_TOKENS, extra_toks_per_seq=1)
        loader = torch.utils.data.DataLoader(data, collate_fn=alphabet.get_batch_converter(1022), batch_sampler=batches)
        found = []
        with torch.no_grad():
            for _, texts, tokens in loader:
                states = model(tokens, repr_layers=[last], return_contacts=False)["representations"][last]
                found += [states[row, 1 : len(text) + 1].mean(0).clone() for row, text in enumerate(texts)]
        return found

    return run


def transformers(shape: tuple[int, int, int]) -> Callable[[list[str]], Any]:
    """Return transformers' EsmModel with SDPA, the sequences sorted by length, 4,096 tokens a batch."""
    import torch
    from transformers import EsmConfig, EsmModel

    layers, width, heads = shape
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width, position_embedding_type="rotary",
        token_dropout=True, emb_layer_norm_before=False, attn_implementation="sdpa",
    )  # fmt: skip
    model = EsmModel(config, add_pooling_layer=False).eval()

    def run(sequences: list[str]) -> list[Any]:
        from esmcls.encoders.esm2 import with_ends

        found = []
        with torch.inference_mode():
            for batch in sorted_batches(sequences):
                tokens = np.full((len(batch), max(map(len, batch)) + 2), 1, dtype=np.int64)
                for row, sequence in enumerate(batch):
                    tokens[row, : len(sequence) + 2] = with_ends(sequence)
                ids = torch.from_numpy(tokens)
                states = model(input_ids=ids, attention_mask=(ids != 1).long()).last_hidden_state
                found += [states[row, 1 : len(one) + 1].mean(0) for row, one in enumerate(batch)]
        return found

    return run


def sorted_batches(sequences: list[str]) -> Iterator[list[str]]:
    """Yield batches by length, padded to at most 4,096 tokens."""
    batch: list[str] = []
    for sequence in sorted(sequences, key=len):
        if batch and (len(batch) + 1) * (len(sequence) + 2) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(sequence)
    yield batch


def esmcls(shape: tuple[int, int, int], precision: str) -> Callable[[list[str]], Any]:
    """Return our encoder in one precision."""
    import torch

    from esmcls.encoders.esm2 import ESM2Encoder
    from esmcls.encoders.model import ESM2, ModelConfig

    torch.manual_seed(0)
    config = ModelConfig(*shape)
    encoder = ESM2Encoder("random", config, ESM2(config).state_dict(), precision=precision)
    return lambda sequences: encoder.encode(sequences).pooled["mean"]


def measure(method: str, shape: str, count: int, threads: int) -> float:
    """Return residues a CPU-second, in this process."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    makers = {"fair-esm": fair_esm, "transformers": transformers}
    size = SHAPES[shape] if shape in SHAPES else tuple(map(int, shape.split("x")))
    run = makers[method](size) if method in makers else esmcls(size, method)
    sequences = proteins(count)
    run(sequences[:3])
    start = time.process_time()
    run(sequences)
    return sum(map(len, sequences)) / (time.process_time() - start)


def measured_apart(method: str, shape: str, tuned: bool, count: int, threads: int) -> float:
    """Return residues a CPU-second, in a process of its own."""
    command = [sys.executable, __file__, "--child", method, shape, "--proteins", str(count), "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        command, env={**environment, **(TUNED if tuned else {})}, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(answer.stdout.split()[-1])


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def rows(best: dict[tuple[str, str, bool], float]) -> list[dict[str, Any]]:
    """Return the table: speed, its ratio to fair-esm on the default malloc, and the target if there is one."""
    table, methods = [], {method for _, method, _ in best}
    for (shape, method, tuned), speed in best.items():
        row: dict[str, Any] = {"shape": shape, "method": method, "malloc": "tuned" if tuned else "default"}
        row["residues_per_cpu_second"] = round(speed)
        if "fair-esm" in methods:
            row["ratio"] = round(speed / best[shape, "fair-esm", False], 2)
        target = None if tuned else TARGETS.get((shape, method))
        if target and "fair-esm" in methods:
            row |= {"target": target, "met": row["ratio"] >= target}
        table.append(row)
    return table


def against_8m(best: dict[tuple[str, str, bool], float]) -> list[dict[str, Any]]:
    """Print and return the speed of each other shape as a multiple of the 8M shape's, in the same precision."""
    table = []
    for (shape, method, tuned), speed in best.items():
        slow = best.get(("8M", method, tuned))
        if slow and not tuned and shape not in ("8M", "35M"):
            row = {"shape": f"{shape} / 8M", "method": method, "malloc": "default", "ratio": round(speed / slow, 2)}
            if shape == "bundled":
                row |= {"target": AGAINST_8M, "met": speed >= AGAINST_8M * slow}
            print("{shape} {method}: {ratio:.2f} x".format(**row), row.get("met", ""))
            table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--proteins", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="names, or such as 5x256x8")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(measure(*given.child, given.proteins, given.threads))
        return
    best: dict[tuple[str, str, bool], float] = {}
    for _ in range(given.rounds):
        for shape in given.shapes:
            for method in given.methods:
                for tuned in (False, True):
                    speed = measured_apart(method, shape, tuned, given.proteins, given.threads)
                    best[shape, method, tuned] = max(speed, best.get((shape, method, tuned), 0.0))
    table = rows(best)
    for row in table:
        target = f"target {row['target']} {'met' if row['met'] else 'MISSED'}" if "target" in row else ""
        ratio = f"{row['ratio']:6.2f} x" if "ratio" in row else ""
        print("{shape:8} {method:13} {malloc:8} {residues_per_cpu_second:6}".format(**row), ratio, target)
    settings = {name: getattr(given, name) for name in ("proteins", "rounds", "threads")}
    table += against_8m(best)
    versions = {name: version(name) for name in ("torch", "fair-esm", "transformers", "numpy")}
    result = {"command": settings, "processor": processor(), "versions": versions, "rows": table}
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

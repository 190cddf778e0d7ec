"""Embedding speed: residues a CPU-second of esmcls and of what else a user could embed with, on random weights.

    python benchmarks/embed_speed.py --proteins 250 --rounds 3 --threads 1
    python benchmarks/embed_speed.py --emulate AVX2 --sets proteins domains --output benchmarks/results/embed_avx2.json

Every measurement is a process of its own, because one that changes how the C library keeps memory would change the
next one too; the rounds are interleaved, and the fastest one of each counts. "Tuned" runs with MALLOC_MMAP_MAX_=0 and
a large MALLOC_TRIM_THRESHOLD_ (`--tuned`). CPU-seconds are user + system, of all threads. `--emulate AVX2` tells torch,
oneDNN and MKL to do without AVX-512, on a processor that has it; whether OpenVINO and
ONNX Runtime heed it was not checked. What is not installed is left out and said. Prints a table and writes
`benchmarks/results/embed_speed.json`, or `--output`, with the processor's name and what torch says it can do. Small
shapes against the 8M one, without the other tools:

    python benchmarks/embed_speed.py --shapes 8M bundled 5x256x8 --methods fp32 bf16 --output esmcls-work/shapes.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from embed_peers import Run, Shape, fair_esm, onnxruntime, openvino, transformers

SHAPES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "bundled": (4, 256, 8)}
TARGETS = {("8M", "fp32"): 2.8, ("8M", "bf16"): 4.0, ("35M", "fp32"): 2.4, ("35M", "bf16"): 3.7}
PEERS: dict[str, tuple[str, Callable[[Shape], Run]]] = {
    "fair-esm": ("esm", fair_esm),
    "transformers": ("transformers", transformers),
    "transformers 1024": ("transformers", partial(transformers, tokens=1024)),
    "openvino": ("openvino", openvino),
    "onnxruntime": ("onnxruntime", onnxruntime),
    "onnxruntime int8": ("onnxruntime", partial(onnxruntime, int8=True)),
}
"""Name -> the package it needs, and what makes it."""
METHODS = (*PEERS, "fp32", "bf16", "int8")
EMULATED = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},  # neither VNNI nor BF16
    "VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},  # without BF16
}
MEDIANS = {"proteins": (294, 0.7), "domains": (120, 0.5)}
"""Of lengths, with the deviation of their logarithm: proteins of UniProt, domains of CATH."""
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
Best: TypeAlias = dict[tuple[str, str, str, bool], float]
"""Set, shape, method, whether malloc is tuned -> residues a CPU-second."""
AGAINST_8M = 2.0
"""How many times as many residues a CPU-second the bundled encoder's shape is to embed, in the same precision."""
RESULTS = Path(__file__).with_name("results") / "embed_speed.json"


def proteins(count: int, kind: str = "proteins") -> list[str]:
    """Return random sequences of log-normal length, 30 to 1022 residues; domains are twice as many."""
    median, deviation = MEDIANS[kind]
    random = np.random.default_rng(0)
    count = count if kind == "proteins" else 2 * count
    lengths = np.clip(np.exp(random.normal(np.log(median), deviation, count)).astype(int), 30, 1022)
    return ["".join(random.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for length in lengths]


def esmcls(shape: Shape, precision: str) -> Run:
    """Return our encoder in one precision."""
    import torch

    from esmcls.encoders.esm2 import ESM2Encoder
    from esmcls.encoders.model import ESM2, ModelConfig

    torch.manual_seed(0)
    config = ModelConfig(*shape)
    encoder = ESM2Encoder("random", config, ESM2(config).state_dict(), precision=precision)
    return lambda sequences: encoder.encode(sequences).pooled["mean"]


def measure(method: str, shape: str, kind: str, count: int, threads: int) -> float:
    """Return residues a CPU-second, in this process."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    layers, width, heads = SHAPES[shape] if shape in SHAPES else tuple(map(int, shape.split("x")))
    size = (layers, width, heads)
    run = PEERS[method][1](size) if method in PEERS else esmcls(size, method)
    sequences = proteins(count, kind)
    run(sequences[:3])
    start = time.process_time()
    run(sequences)
    return sum(map(len, sequences)) / (time.process_time() - start)


def measured_apart(method: str, shape: str, kind: str, tuned: bool, given: argparse.Namespace) -> float:
    """Return residues a CPU-second, in a process of its own."""
    command = [sys.executable, __file__, "--child", method, shape, kind]
    command += ["--proteins", str(given.proteins), "--threads", str(given.threads)]
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


def capability() -> str:
    """Return what torch says the processor can do, as it is told to see it; and what it is told."""
    command = [sys.executable, "-c", "import torch; print(torch.backends.cpu.get_cpu_capability())"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def rows(best: Best) -> list[dict[str, Any]]:
    """Return the table: speed, its ratio to fair-esm on the default malloc, and the target if there is one."""
    table = []
    for (kind, shape, method, tuned), speed in best.items():
        row: dict[str, Any] = {"set": kind, "shape": shape, "method": method, "malloc": "tuned" if tuned else "default"}
        row["residues_per_cpu_second"] = round(speed)
        slow = best.get((kind, shape, "fair-esm", False))
        target = None if tuned or kind != "proteins" else TARGETS.get((shape, method))
        if slow:
            row["ratio"] = round(speed / slow, 2)
            row |= {"target": target, "met": row["ratio"] >= target} if target else {}
        table.append(row)
    return table


def against_peers(best: Best) -> list[dict[str, Any]]:
    """Print and return our fp32 as a multiple of the best fp32 peer's speed; int8 of ONNX Runtime's, fp32 and bf16."""
    table = []
    for kind, shape in dict.fromkeys((kind, shape) for kind, shape, *_ in best):
        speeds = {method: speed for (of, size, method, tuned), speed in best.items() if (of, size) == (kind, shape)}
        others = {name: speed for name, speed in speeds.items() if name in PEERS and not name.endswith("int8")}
        pairs = [("fp32", max(others, key=others.__getitem__, default="")), ("int8", "onnxruntime int8")]
        pairs += [("int8", "fp32"), ("int8", "bf16")]
        for ours, peer in pairs:
            if ours in speeds and peer in speeds:
                table.append({"set": kind, "shape": shape, "method": f"{ours} / {peer}"})
                table[-1]["ratio"] = round(speeds[ours] / speeds[peer], 2)
                print("{set} {shape} {method}: {ratio:.2f} x".format(**table[-1]))
    return table


def against_8m(best: Best) -> list[dict[str, Any]]:
    """Print and return the speed of each other shape as a multiple of the 8M shape's, in the same precision."""
    table = []
    for (kind, shape, method, tuned), speed in best.items():
        slow = best.get((kind, "8M", method, tuned))
        if slow and not tuned and shape not in ("8M", "35M"):
            row = {"shape": f"{shape} / 8M", "method": method, "malloc": "default", "ratio": round(speed / slow, 2)}
            if shape == "bundled":
                row |= {"target": AGAINST_8M, "met": speed >= AGAINST_8M * slow}
            print("{shape} {method}: {ratio:.2f} x".format(**row), row.get("met", ""))
            table.append(row)
    return table


def installed(methods: list[str]) -> list[str]:
    """Return the methods that can be run here, and say which cannot."""
    there = [method for method in methods if method not in PEERS or find_spec(PEERS[method][0])]
    for method in {*methods} - {*there}:
        print(f"{method} is not installed and left out")
    return there


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--proteins", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=["proteins"], choices=MEDIANS)
    parser.add_argument("--shapes", nargs="+", default=["8M", "35M"], help="names, or such as 5x256x8")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tuned", action="store_true", help="with a tuned malloc, too")
    parser.add_argument("--emulate", choices=EMULATED, help="a processor of fewer abilities")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.child:
        print(measure(*given.child, given.proteins, given.threads))
        return
    os.environ.update(EMULATED.get(given.emulate, {}))
    best: Best = {}
    methods = installed(given.methods)
    for _ in range(given.rounds):
        for kind, shape, method in itertools.product(given.sets, given.shapes, methods):
            for tuned in (False, True) if given.tuned else (False,):
                speed = measured_apart(method, shape, kind, tuned, given)
                best[kind, shape, method, tuned] = max(speed, best.get((kind, shape, method, tuned), 0.0))
    machine = {"processor": processor(), "capability": capability(), "emulated": given.emulate or ""}
    print(*machine.values())
    table = rows(best)
    for row in table:
        target = f"target {row['target']} {'met' if row['met'] else 'MISSED'}" if "target" in row else ""
        ratio = f"{row['ratio']:6.2f} x" if "ratio" in row else ""
        print("{set:9} {shape:8} {method:17} {malloc:8} {residues_per_cpu_second:6}".format(**row), ratio, target)
    settings = {name: getattr(given, name) for name in ("proteins", "rounds", "threads", "sets", "shapes")}
    table += against_peers(best) + against_8m(best)
    names = ("torch", "fair-esm", "transformers", "openvino", "onnxruntime", "numpy")
    versions = {name: version(name) for name in names if find_spec({"fair-esm": "esm"}.get(name, name))}
    result = {"command": settings, **machine, "versions": versions, "rows": table}
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a GPU does with all this, in ten minutes: to be run by whoever has one. Nothing of it has been measured yet.

    python benchmarks/gpu.py --name h100                    # writes benchmarks/results/gpu_h100.json
    python benchmarks/gpu.py --device cpu --tiny            # every part once, of toy sizes: a test of this file

ceilings   bytes a second of a copy, operations a second of a large product, in bf16, fp16, fp32 and fp8
shapes     each product of a layer, and attention, as a share of that ceiling
encode     tokens a second by model, precision and length: of the model alone, and of all that `encode` does; the share
           of the ceiling; how much of the time the GPU waits for the host
small      microseconds of `encode` of one protein and of a few, with CUDA graphs and without
host       residues a second that one process of the host makes tokens of
finetune   tokens a second of a training step, of all weights and with the layers computed again
heads      seconds of an epoch of the linear head on a million vectors
knn        queries a second against them

Weights and sequences are random: speed does not know. Each number is the median of a few runs after one that warms up;
a part that fails says so and the next goes on. `--parts` runs some; out of time (`--minutes`), the rest is left out,
and said to be.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional as F

from esmcls.encoders.devices import device_name, hardware_precisions
from esmcls.encoders.esm2 import ESM2Encoder, with_ends
from esmcls.encoders.gpu.attention import choose_attention, stream_attention
from esmcls.encoders.gpu.fp8 import by_the_device, round_rows
from esmcls.encoders.gpu.graphs import SWITCH
from esmcls.encoders.inference import DTYPES
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.plain_values import write_json

RESULTS = Path(__file__).with_name("results")
SHAPES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "150M": (30, 640, 20), "650M": (33, 1280, 20), "3B": (36, 2560, 40)}
TINY = {"tiny": (2, 32, 4)}
RESIDUES = "LAGVSERTIDPKQNFYMHWC"


@dataclass(frozen=True)
class Scope:
    """What is measured, and how large.

    Parameters
    ----------
    device : torch.device
    shapes : dict of str to (layers, width, heads)
    tokens : int
        Of a stream.
    lengths : tuple of int
        Residues of a sequence.
    square : int
        Rows and columns of the large product.
    vectors : int
        That heads are fitted to.
    runs : int
    """

    device: torch.device
    shapes: dict[str, tuple[int, int, int]]
    tokens: int
    lengths: tuple[int, ...]
    square: int
    vectors: int
    runs: int

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the median time of a call, after one that warms up."""
        call()
        times = []
        for _ in range(self.runs):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def wait(self) -> None:
        """Wait for all that the device has to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def precisions(self) -> list[str]:
        """Return those that the device has, the fastest first."""
        there = hardware_precisions(self.device)
        return [precision for precision in ("bf16", "fp16", "fp32") if precision in there]

    def has_fp8(self) -> bool:
        """Tell whether the device multiplies rows of fp8."""
        return "fp8" in hardware_precisions(self.device)


Row = dict[str, Any]


def ceilings(scope: Scope) -> Iterator[Row]:
    """Measure a copy and large products."""
    numbers = torch.randn(scope.square**2 * 4, device=scope.device)
    copy = torch.empty_like(numbers)
    seconds = scope.seconds(lambda: copy.copy_(numbers))
    yield {"what": "copy", "TB/s": 8 * numbers.numel() / seconds / 1e12}
    for precision in scope.precisions():
        seconds = scope.seconds(_square(scope, precision))
        yield {"what": f"product {precision}", "TFLOP/s": 2 * scope.square**3 / seconds / 1e12}
    if scope.has_fp8():
        seconds = scope.seconds(_fp8_product(scope, scope.square, scope.square, scope.square))
        yield {"what": "product fp8 by row", "TFLOP/s": 2 * scope.square**3 / seconds / 1e12}


def _square(scope: Scope, precision: str) -> Callable[[], object]:
    matrix = torch.randn(scope.square, scope.square, device=scope.device).to(DTYPES[precision])
    return lambda: matrix @ matrix


def _fp8_product(scope: Scope, rows: int, reads: int, writes: int) -> Callable[[], object]:
    """Return a product of rounded rows; what rounds them is part of the kernels between products."""
    multiply = by_the_device(
        *round_rows(torch.randn(writes, reads, device=scope.device)), torch.zeros(writes, device=scope.device)
    )
    return partial(multiply, *round_rows(torch.randn(rows, reads, device=scope.device)))


def shapes(scope: Scope) -> Iterator[Row]:
    """Measure the four products of a layer, and attention."""
    precision = scope.precisions()[0]
    dtype = DTYPES[precision]
    peak = 2 * scope.square**3 / scope.seconds(_square(scope, precision))
    for name, (_, width, heads) in scope.shapes.items():
        for reads, writes in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)):
            x = torch.randn(scope.tokens, reads, device=scope.device).to(dtype)
            weight = torch.randn(writes, reads, device=scope.device).to(dtype)
            seconds = scope.seconds(partial(F.linear, x, weight))
            share = 2 * scope.tokens * reads * writes / seconds / peak
            yield {"what": f"{name} product {reads} to {writes}", "us": 1e6 * seconds, "of the ceiling": share}
            if scope.has_fp8() and 4 * width in (reads, writes):  # those that `--precision fp8` has in fp8
                seconds = scope.seconds(_fp8_product(scope, scope.tokens, reads, writes))
                yield {"what": f"{name} product {reads} to {writes} in fp8", "us": 1e6 * seconds}
        query = torch.randn(scope.tokens, heads, width // heads, device=scope.device).to(dtype)
        attend = stream_attention(query)
        if attend is None:
            continue
        length = scope.lengths[-1]
        offsets = torch.arange(0, scope.tokens + 1, length, device=scope.device, dtype=torch.int32)
        whole = query[: int(offsets[-1])]
        seconds = scope.seconds(partial(attend, whole, whole, whole, offsets, length))
        operations = 4 * length * len(whole) * width
        kernel = choose_attention(heads, width // heads, dtype, scope.device)
        yield {"what": f"{name} attention ({kernel})", "us": 1e6 * seconds, "TFLOP/s": operations / seconds / 1e12}


def encode(scope: Scope) -> Iterator[Row]:
    """Measure the model alone and the whole encoder."""
    draw = np.random.default_rng(0)
    for name, (layers, width, heads) in scope.shapes.items():
        config = ModelConfig(layers, width, heads)
        with torch.device(scope.device):
            state = ESM2(config).state_dict()
        precisions = scope.precisions() if name in ("35M", "tiny") else scope.precisions()[:1]
        for precision in [*precisions, "fp8"] if scope.has_fp8() else precisions:
            peak = 2 * scope.square**3 / scope.seconds(_square(scope, precision))
            encoder = ESM2Encoder(name, config, state, precision=precision, device=str(scope.device), digest="random")
            for length in scope.lengths:
                count = max(1, scope.tokens // (length + 2))
                sequences = ["".join(draw.choice(list(RESIDUES), length)) for _ in range(count)]
                tokens = torch.from_numpy(np.concatenate([with_ends(sequence) for sequence in sequences]))
                given = tokens, [length + 2] * count, [layers]
                model = scope.seconds(lambda given=given, encoder=encoder: list(encoder.model.states(*given)))
                whole = scope.seconds(partial(encoder.encode, sequences))
                operations = len(tokens) * (24 * layers * width**2 + 4 * (length + 2) * width * layers)
                yield {
                    "what": f"{name} {precision}, {length} residues",
                    "model tokens/s": len(tokens) / model,
                    "of the ceiling": operations / model / peak,
                    "encode tokens/s": len(tokens) / whole,
                    "sequences/s": count / whole,
                    "waiting for the host": 1 - model / whole,
                }


def small(scope: Scope) -> Iterator[Row]:
    """Measure streams of a few sequences, which graphs are for, with them and without."""
    draw = np.random.default_rng(0)
    length = scope.lengths[1]
    for name, (layers, width, heads) in scope.shapes.items():
        config = ModelConfig(layers, width, heads)
        with torch.device(scope.device):
            state = ESM2(config).state_dict()
        for captured, way in (("0", "kernel by kernel"), ("1", "by graphs")):
            with patch.dict(os.environ, {SWITCH: captured}):
                encoder = ESM2Encoder(name, config, state, device=str(scope.device), digest="random")
            for count in (1, 4, 16):
                sequences = ["".join(draw.choice(list(RESIDUES), length)) for _ in range(count)]
                encoder.encode(sequences)  # the first time that its shape is seen, `seconds` the second
                seconds = scope.seconds(partial(encoder.encode, sequences))
                yield {"what": f"{name}, {count} of {length} residues {way}", "us": 1e6 * seconds}


def host(scope: Scope) -> Iterator[Row]:
    """Measure tokenisation."""
    sequences = ["".join(np.random.default_rng(0).choice(list(RESIDUES), scope.lengths[0])) for _ in range(1000)]
    seconds = scope.seconds(lambda: [with_ends(sequence) for sequence in sequences])
    yield {"what": "tokens", "residues/s": sum(map(len, sequences)) / seconds}


def finetune(scope: Scope) -> Iterator[Row]:
    """Measure training steps."""
    dtype = DTYPES[scope.precisions()[0]]
    length = scope.lengths[-1]
    tokens = torch.randint(4, 24, (scope.tokens // 2 // length * length or length,), device=scope.device)
    offsets = torch.arange(0, len(tokens) + 1, length, device=scope.device)
    for name, (layers, width, heads) in scope.shapes.items():
        if name == "3B":
            continue  # its weights and AdamW alone take 45 GB
        for again in (False, True):
            with torch.device(scope.device):
                model = ESM2(ModelConfig(layers, width, heads))
            model.checkpointing = again
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=scope.device.type == "cuda")

            def step(model: ESM2 = model, optimizer: torch.optim.Optimizer = optimizer, last: int = layers) -> None:
                with torch.autocast(scope.device.type, dtype, enabled=dtype != torch.float32):
                    states = model(tokens, offsets, [last])[last]
                states.float().square().mean().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            seconds = scope.seconds(step)
            what = f"{name}{', layers again' if again else ''}"
            memory = torch.cuda.max_memory_allocated() / 1e9 if scope.device.type == "cuda" else None
            yield {"what": what, "tokens/s": len(tokens) / seconds, "peak GB": memory}


def heads(scope: Scope) -> Iterator[Row]:
    """Measure an epoch of the linear head."""
    from esmcls.cache.features import Features
    from esmcls.heads.layers.linear import LinearConfig, LinearHead
    from esmcls.labels.labels import Labels

    vectors, classes = _vectors(scope)
    labels = Labels(tuple(f"F{number:06}" for number in range(int(classes.max()) + 1)), classes)
    head = LinearHead(LinearConfig(epochs=1), device=str(scope.device))
    start = time.perf_counter()
    head.fit(Features.from_arrays(vectors), labels, None, seed=0)
    yield {"what": f"linear, {len(vectors):,} x {vectors.shape[1]}", "seconds": time.perf_counter() - start}


def knn(scope: Scope) -> Iterator[Row]:
    """Measure the exact search for neighbours."""
    from esmcls.heads.neighbours.search import Search

    vectors, _ = _vectors(scope)
    base = F.normalize(torch.from_numpy(vectors))
    search = Search.empty(base.shape[1], "cosine", "torch", str(scope.device))
    search.add(base)
    queries = base[: min(4096, len(base))]
    seconds = scope.seconds(lambda: search(queries, 10))
    yield {"what": f"10 of {len(base):,} x {base.shape[1]}", "queries/s": len(queries) / seconds}


def _vectors(scope: Scope) -> tuple[np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return vectors around the centres of classes, and the class of each."""
    draw = np.random.default_rng(0)
    width, count = 480, max(2, scope.vectors // 60)
    classes = np.arange(scope.vectors) % count
    vectors = draw.standard_normal((count, width), dtype=np.float32)[classes]
    return vectors + draw.standard_normal(vectors.shape, dtype=np.float32), classes


PARTS: dict[str, Callable[[Scope], Iterator[Row]]] = {
    part.__name__: part for part in (ceilings, shapes, encode, small, host, finetune, heads, knn)
}


def measure(scope: Scope, parts: list[str], minutes: float) -> dict[str, list[Row]]:
    """Run parts until the time is over; what fails or is left out is a row that says so."""
    ends = time.monotonic() + 60 * minutes
    results: dict[str, list[Row]] = {}
    for part in parts:
        rows = results[part] = []
        try:
            for row in PARTS[part](scope):
                rows.append(row)
                print(f"{part:9} {_line(row)}", flush=True)
                if time.monotonic() > ends:
                    rows.append({"what": "out of time: the rest is left out"})
                    break
        except Exception as error:  # the other parts are worth having
            rows.append({"what": f"failed: {type(error).__name__}: {str(error)[:300]}"})
            print(f"{part:9} {rows[-1]['what']}", flush=True)
        if scope.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return results


def _line(row: Row) -> str:
    numbers = itertools.islice(row.items(), 1, None)
    return f"{row['what']:36}" + "  ".join(f"{name} {value:,.4g}" for name, value in numbers if value is not None)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="gpu", help="of the GPU, in the file's name")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, and no file but --output's")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of the parts, with commas between")
    parser.add_argument("--minutes", type=float, default=10, help="after which the rest is left out")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.tiny:
        scope = Scope(device, TINY, 256, (20, 62), 64, 300, 1)
    else:
        scope = Scope(device, SHAPES, 1 << 15, (50, 150, 350, 1022), 8192, 1 << 20, 5)
    results = measure(scope, given.parts.split(","), given.minutes)
    capability = list(torch.cuda.get_device_capability(device)) if device.type == "cuda" else None
    about = {"device": device_name(device), "capability": capability, "torch": torch.__version__}
    about |= {"cuda": torch.version.cuda, "cores": os.cpu_count(), "compiles": os.environ.get("ESMCLS_COMPILE") != "0"}
    output = given.output or (None if given.tiny else RESULTS / f"gpu_{given.name}.json")
    if output is not None:
        write_json(output, about | results)
        print(f"wrote {output}")


if __name__ == "__main__":
    main()

"""Scale by arithmetic: hours, memory and bytes of embedding many sequences, and of fine-tuning, on GPUs not tried yet.

    python benchmarks/scale.py
    python benchmarks/scale.py --sequences 1e8 --residues 150 --gpus 8 --train 4e5 --train-residues 350 --epochs 5

Nothing here is measured. A token takes the time of its products, at a share of what a large product reaches, of the
bytes that the kernels between them move, and of attention, one after the other; the constants say where they are from.
`benchmarks/gpu.py` measures on a GPU what is assumed here. Prints the tables of docs/gpu.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from esmcls.encoders.gpu.graphs import few_shapes

PRODUCTS = 800e12
"""Operations a second of a large bf16 product on an H100 SXM: 81 % of the 989e12 of its data sheet."""
MEMORY = 0.85 * 3.0e12
"""Bytes a second of a kernel between products: 85 % of a copy, itself 90 % of the 3.35e12 of the data sheet."""
ATTENTION = 220e12
"""Operations a second of flash attention with heads of 64, forward (Dao 2023, figure 5); in proportion below 64."""
MOVED = {"1: eager": 104, "2: fused": 48}
"""Bytes a token, layer and unit of width between products: 24 of two sums with LayerNorm, 8 of the turn, 16 of GELU."""
FP8 = 1.6
"""Speed of a product of fp8 rows in units of bf16's: twice on the data sheet, of which eight tenths are assumed."""
FP8_SHARE = 8 / 12
"""Of the products' operations, those of the two wide ones."""
FP8_MOVED = 43
"""Bytes as above: the LayerNorm before the wide products and the GELU between them write one byte instead of two."""
TRAINED = {"full": (3, 265, 3.5), "checkpointing": (4, 365, 4.5), "LoRA": (2, 375, 3.5)}
"""Of a step: products and attention in units of a forward pass, and the bytes as above. Those of LoRA are those of
`full`, what `launches.py --train` counts more, and 42 that `full` spends in the products of its weights' gradients."""
STREAM = 1 << 15
"""Tokens of a stream."""
STEP = 1 << 14
"""Tokens of a training step on each GPU."""
LINK = 450e9
"""Bytes a second, one way, of NVLink between the GPUs of a machine (data sheet)."""
LAUNCH = 5e-6
"""Seconds of the host until a kernel is in the device's queue, from Python: torch's own operations take 4 to 10 us."""
KERNEL = 2e-6
"""Seconds from one kernel of a graph to the next, however little it does."""
KERNELS = (9, 8)
"""A layer, and beside layers (`benchmarks/launches.py`)."""
PROTEINS = (1, 4)
"""Proteins of a small stream, as one that is asked for alone, or a few."""
AN_ENTRY = 48
"""Bytes of a sequence in the cache beside its vector: key, length, inputs (docs/cache-format.md)."""


@dataclass(frozen=True)
class Shape:
    """A published ESM-2: layers, width, heads, and the share of `PRODUCTS` that products of its shapes reach."""

    name: str
    layers: int
    width: int
    heads: int
    share: float

    @property
    def parameters(self) -> float:
        """Of the layers and the embedding."""
        return 12 * self.layers * self.width**2 + 33 * self.width

    def seconds(
        self,
        tokens: int,
        *,
        moved: float = MOVED["2: fused"],
        passes: float = 1,
        attended: float = 1,
        slowed: float = 1,
    ) -> float:
        """Return the seconds of one token of a sequence of so many; `slowed` is the time of products in bf16's."""
        products = passes * slowed * 24 * self.layers * self.width**2 / (self.share * PRODUCTS)
        between = moved * self.layers * self.width / MEMORY
        narrow = min(1.0, self.width / self.heads / 64)
        attention = attended * 4 * tokens * self.layers * self.width / (ATTENTION * narrow)
        return products + between + attention

    def of_peak(self, tokens: int, moved: float) -> float:
        """Return the share of `PRODUCTS` that a forward pass reaches."""
        operations = 24 * self.layers * self.width**2 + 4 * tokens * self.layers * self.width
        return operations / self.seconds(tokens, moved=moved) / PRODUCTS


SHAPES = [
    Shape("8M", 6, 320, 20, 0.45),
    Shape("35M", 12, 480, 20, 0.58),
    Shape("150M", 30, 640, 20, 0.68),
    Shape("650M", 33, 1280, 20, 0.80),
    Shape("3B", 36, 2560, 40, 0.88),
]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def embedding(sequences: float, residues: int, gpus: int) -> str:
    """Return the table of embedding so many sequences of so many residues."""
    tokens = residues + 2
    head = ["encoder", "us a token", "of peak", "of peak in 0.1.0", "sequences/s a GPU", "hours", "GPU GB", "cache GB"]
    rows = []
    for shape in SHAPES:
        seconds = shape.seconds(tokens)
        rate = 1 / seconds / tokens
        states = 36 * STREAM * shape.width  # 8 of the residual stream, 2, 6, 4 and 16 of what a layer makes
        shares = [f"{shape.of_peak(tokens, moved):.0%}" for moved in (MOVED["2: fused"], MOVED["1: eager"])]
        hours = sequences / rate / gpus / 3600
        memory = (2 * shape.parameters + states) / 1e9
        cache = sequences * (2 * shape.width + AN_ENTRY) / 1e9
        row = [f"{1e6 * seconds:.2f}", *shares, f"{rate:,.0f}", f"{hours:.1f}", f"{memory:.1f}", f"{cache:,.0f}"]
        rows.append([shape.name, *row])
    return table(head, rows)


def in_fp8(residues: int) -> str:
    """Return the table of `--precision fp8`."""
    tokens = residues + 2
    slowed = 1 - FP8_SHARE + FP8_SHARE / FP8
    rows = []
    for shape in SHAPES:
        plain = shape.seconds(tokens)
        seconds = shape.seconds(tokens, moved=FP8_MOVED, slowed=slowed)
        rows.append([shape.name, f"{1e6 * plain:.2f}", f"{1e6 * seconds:.2f}", f"{plain / seconds:.2f}"])
    return table(["encoder", "us a token in bf16", "in fp8", "times as fast"], rows)


def one_stream(residues: int) -> str:
    """Return the table of streams of a few sequences, and of as many as go into one, with CUDA graphs and without."""
    tokens = residues + 2
    counts = [*PROTEINS, STREAM // tokens]
    head = ["encoder", "kernels", "us to launch them"]
    head += [f"us of {count}, without and with a graph" for count in counts]
    rows = []
    for shape in SHAPES:
        kernels = KERNELS[0] * shape.layers + KERNELS[1]
        row = [f"{kernels}", f"{1e6 * kernels * LAUNCH:,.0f}"]
        for count in counts:
            plain = max(kernels * LAUNCH, count * tokens * shape.seconds(tokens))
            padded = few_shapes([tokens] * count, shape.width)
            graph = 0.0 if padded is None else max(kernels * KERNEL, padded.tokens * shape.seconds(tokens))
            row.append(f"{1e6 * plain:,.0f}" + (f" → {1e6 * graph:,.0f}" if graph else ", no graph"))
        rows.append([shape.name, *row])
    return table(head, rows)


def fine_tuning(sequences: float, residues: int, gpus: int, epochs: int) -> str:
    """Return the table of fine-tuning the 650M on so many sequences of so many residues."""
    shape = next(one for one in SHAPES if one.name == "650M")
    tokens = residues + 2
    head = ["way", "us a token", "hours on 1 GPU", f"hours on {gpus}", "GB a GPU", "GB sent a step", "steps"]
    rows = []
    for way, (passes, moved, attended) in TRAINED.items():
        seconds = shape.seconds(tokens, moved=moved, passes=passes, attended=attended)
        total = epochs * sequences * tokens
        trained = 0.01 * shape.parameters if way == "LoRA" else shape.parameters
        kept = 4 if way == "checkpointing" else 48  # bytes a token, layer and unit of width for the backward pass
        frozen = 2.5 if way == "LoRA" else 0  # bf16, and query's, key's and value's once more, side by side
        memory = frozen * shape.parameters + 16 * trained + kept * STEP * shape.layers * shape.width
        sent = 2 * (gpus - 1) / gpus * 4 * trained  # all-reduce of fp32 gradients
        steps = total / (STEP * gpus)
        alone, together = total * seconds / 3600, (total * seconds / gpus + steps * sent / LINK) / 3600
        row = [f"{1e6 * seconds:.1f}", f"{alone:.1f}", f"{together:.2f}", f"{memory / 1e9:.0f}", f"{sent / 1e9:.2f}"]
        rows.append([way, *row, f"{steps:,.0f}"])
    return table(head, rows)


def report(given: argparse.Namespace) -> str:
    """Return the tables, each under a line that says of what."""
    train = f"{given.train:,.0f} sequences of {given.train_residues} residues"
    return "\n\n".join(
        [
            f"Embedding {given.sequences:,.0f} sequences of {given.residues} residues on {given.gpus} H100:",
            embedding(given.sequences, given.residues, given.gpus),
            f"The same in fp8, sequences of {given.residues} residues:",
            in_fp8(given.residues),
            f"One stream of sequences of {given.train_residues} residues:",
            one_stream(given.train_residues),
            f"Fine-tuning 650M on {train}, {given.epochs} epochs:",
            fine_tuning(given.train, given.train_residues, given.gpus, given.epochs),
        ]
    )


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=float, default=1e8, help="to embed")
    parser.add_argument("--residues", type=int, default=150, help="of each of them")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--train", type=float, default=4e5, help="sequences to fine-tune on")
    parser.add_argument("--train-residues", type=int, default=350, help="of each of them")
    parser.add_argument("--epochs", type=int, default=5)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    print(report(options()))

"""Which of a layer's four products are worth FP8, by accuracy: cosine of mean vectors with those in fp32.

    python benchmarks/fp8_products.py data/demo.csv.gz --encoder bundled ESM2_8M_FOLDER --output FILE

Numbers are rounded as a GPU would, and multiplied in fp32; the other products are in bf16. `fc1 fc2` is what
`--precision fp8` does (docs/gpu.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from precision_parity import SAMPLE_SEED, difference
from torch import Tensor

from esmcls.encoders import inference
from esmcls.encoders.encoder import Embedded, load_encoder
from esmcls.encoders.inference import Product
from esmcls.reading.readers import read_records

NAMES = {(3, 1): "qkv", (1, 1): "out", (4, 1): "fc1", (1, 4): "fc2"}
"""Of products, by what they write and read in widths."""
SETS = ["", "qkv out fc1 fc2", "qkv fc1 fc2", "qkv fc1", "fc1 fc2", "qkv", "out", "fc1", "fc2"]


def vectors_of(encoder: str, sequences: list[str], precision: str, rounded: list[str]) -> Embedded:
    """Return vectors in a precision, with some products in fp8."""
    prepare = inference.prepare

    def prepared(weight: Tensor, bias: Tensor, precision: Any, *rest: Any, **options: Any) -> Product:
        writes, reads = (size // min(weight.shape) for size in weight.shape)
        wanted = "fp8" if precision == "bf16" and NAMES[writes, reads] in rounded else precision
        return prepare(weight, bias, wanted, *rest, **options)

    with patch.object(inference, "prepare", prepared) if rounded else patch.object(inference, "prepare", prepare):
        opened = load_encoder(encoder, precision=precision)
    return opened.encode(sequences, keep="residue")


def rows(encoder: str, sequences: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each set of products."""
    exact = vectors_of(encoder, sequences, "fp32", [])
    for names in SETS:
        found = difference(vectors_of(encoder, sequences, "bf16", names.split()), exact)
        yield {"encoder": Path(encoder).name, "in fp8": names} | {name: float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("input", help="sequences, as esmcls embed takes them")
    parser.add_argument("--encoder", nargs="+", default=["bundled"])
    parser.add_argument("--proteins", type=int, default=60, help="a random sample of so many")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    distinct = sorted({record.protein.sequence for record in read_records([given.input])})
    chosen = np.random.default_rng(SAMPLE_SEED).permutation(len(distinct))[: given.proteins]
    table = []
    for encoder in given.encoder:
        for row in rows(encoder, [distinct[place] for place in chosen]):
            print(f"{row['encoder']:22} {row['in fp8'] or 'none':16} {row['cosine_min']:.6f} {row['cosine_mean']:.6f}")
            table.append(row)
    if given.output:
        about = {"input": Path(given.input).name, "proteins": given.proteins, "torch": torch.__version__}
        given.output.write_text(json.dumps({"command": about, "rows": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Kernels a layer, bytes a token and synchronisations a batch of the encoder on CUDA, counted without a GPU.

Counted are the operations that torch sends to a device (`TorchDispatchMode`; `tests/pretended`), views and empty
tensors left out, and the bytes of the tensors that they read and write, in each layer: what three layers take beyond
one, halved. With --fuse, what torch.compile is given counts as one kernel that reads its arguments and writes its
results, which `tests/test_gpu_encoder.py` holds true on a GPU.

    PYTHONPATH=tests/pretended:tests PRETENDED_DEVICE=cuda python benchmarks/launches.py --fuse > FILE

The numbers of another version: the same with its `esmcls` before in PYTHONPATH, and without --fuse.
"""

from __future__ import annotations

import argparse
import json
import sys

from pretended_device import pretended  # before torch

import numpy as np  # isort: skip
import pytest
import torch

from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.model import ESM2, ModelConfig

CASES = [((9, 0), "bf16"), ((9, 0), "fp8"), ((8, 0), "fp32"), ((7, 5), "auto"), ((7, 5), "fp32"), ((6, 0), "fp32")]
WIDTH, HEADS = 320, 20
"""Those of the 8M model."""


def count(layers: int, capability: tuple[int, int], precision: str, sequences: list[str], fuse: bool) -> dict[str, int]:
    """Return kernels, bytes and waits of one batch."""
    config = ModelConfig(layers, WIDTH, HEADS)
    with pretended(capability) as device, pytest.MonkeyPatch.context() as patch:
        if fuse:
            import fused_kernels

            fused_kernels.fuse(device, patch)
        encoder = ESM2Encoder("r", config, ESM2(config).state_dict(), precision=precision, device="cuda", digest="0")
        encoder.encode(sequences)  # what is kept between batches is there now
        device.kernels.clear()
        device.bytes.clear()
        device.waits.clear()
        encoder.encode(sequences)
        totals = {"kernels": device.kernels, "bytes": device.bytes, "waits": device.waits}
        return {"precision": encoder.precision} | {name: sum(counts.values()) for name, counts in totals.items()}


def main() -> None:
    """Count, and print a table to the standard error and JSON to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=100, help="domains of 50 to 250 residues in the batch")
    parser.add_argument("--fuse", action="store_true", help="count what is compiled as one kernel")
    options = parser.parse_args()
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    lengths = draw.integers(50, 250, options.sequences)
    sequences = ["".join(draw.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for length in lengths]
    tokens = int(lengths.sum()) + 2 * options.sequences
    rows = []
    for capability, precision in CASES:
        one, three = (count(layers, capability, precision, sequences, options.fuse) for layers in (1, 3))
        kernels, moved = ((three[name] - one[name]) / 2 for name in ("kernels", "bytes"))
        row = {
            "capability": ".".join(map(str, capability)),
            "precision": one["precision"],
            "kernels_a_layer": kernels,
            "kernels_beside_layers": one["kernels"] - kernels,
            "bytes_a_token_and_layer": round(moved / tokens),
            "bytes_a_token_layer_and_unit_of_width": round(moved / tokens / WIDTH, 1),
            "waits_a_batch": one["waits"],
        }
        rows.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr)
    shape = {"sequences": options.sequences, "tokens": tokens, "width": WIDTH, "heads": HEADS}
    print(json.dumps({"torch": torch.__version__, "fused": options.fuse, **shape, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""Kernels a layer, bytes a token and synchronisations a batch of the encoder on CUDA, counted without a GPU.

Counted are the operations that torch sends to a device (`TorchDispatchMode`; `tests/pretended`), views and empty
tensors left out, and the bytes of the tensors that they read and write, in each layer: what three layers take beyond
one, halved. With --fuse, what torch.compile is given counts as one kernel that reads its arguments and writes its
results, which `tests/test_gpu_encoder.py` holds true on a GPU.

    PYTHONPATH=tests/pretended:tests PRETENDED_DEVICE=cuda python benchmarks/launches.py --fuse > FILE

The numbers of another version: the same with its `esmcls` before in PYTHONPATH, and without --fuse.

With --train, of a step of fine-tuning instead: the forward and the backward pass, without the optimiser, and the bytes
that are held at once.
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
from esmcls.encoders.windows import parse_long
from esmcls.finetuning.config import FinetuneConfig
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.layers.ridge import Scaling
from esmcls.labels.labels import Labels
from esmcls.tasks.objective import OutputLayer
from esmcls.tasks.one_label.tuning import OneLabelSupervision
from esmcls.training.processes import Replicas

CASES = [((9, 0), "bf16"), ((9, 0), "fp8"), ((8, 0), "fp32"), ((7, 5), "auto"), ((7, 5), "fp32"), ((6, 0), "fp32")]
WIDTH, HEADS = 320, 20
"""Those of the 8M model."""
TRAINED = [
    *(((9, 0), "bf16", method) for method in ("full", "lora")),
    *(((8, 0), "fp32", method) for method in ("full", "lora")),
    *(((7, 5), "fp16", method) for method in ("full", "lora")),
]


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


def count_training(
    layers: int, capability: tuple[int, int], precision: str, method: str, sequences: list[str]
) -> dict[str, int]:
    """Return kernels, bytes and waits of one step, and the most bytes that were held."""
    config, labels = ModelConfig(layers, WIDTH, HEADS), Labels(("A", "B"), np.arange(len(sequences)) % 2)
    settings = FinetuneConfig(method=method, batch=len(sequences), dropout=0.0)
    head = OutputLayer(torch.randn(2, WIDTH), torch.zeros(2), Scaling(torch.zeros(WIDTH), torch.ones(WIDTH)))
    with pretended(capability) as device:
        model = Tuned(ESM2(config), head, (layers,), settings, precision)
        replicas = Replicas(torch.device("cuda"))
        task = Finetuning(
            model, Proteins(sequences, parse_long("full")), OneLabelSupervision(labels, labels), None, replicas
        )
        device.kernels.clear()
        device.bytes.clear()
        device.waits.clear()
        task.accumulate(0, lambda loss: loss.backward())
        totals = {"kernels": device.kernels, "bytes": device.bytes, "waits": device.waits}
        return {name: sum(counts.values()) for name, counts in totals.items()} | {"peak": device.peak}


def encoder_rows(sequences: list[str], tokens: int, fuse: bool) -> list[dict[str, object]]:
    """Return the table of a batch of the encoder."""
    rows = []
    for capability, precision in CASES:
        one, three = (count(layers, capability, precision, sequences, fuse) for layers in (1, 3))
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
    return rows


def training_rows(sequences: list[str], tokens: int) -> list[dict[str, object]]:
    """Return the table of a step of fine-tuning."""
    rows = []
    for capability, precision, method in TRAINED:
        one, three = (count_training(layers, capability, precision, method, sequences) for layers in (1, 3))
        kernels, moved, held = ((three[name] - one[name]) / 2 for name in ("kernels", "bytes", "peak"))
        row = {
            "capability": ".".join(map(str, capability)),
            "precision": precision,
            "method": method,
            "kernels_a_layer": kernels,
            "bytes_a_token_layer_and_unit_of_width": round(moved / tokens / WIDTH, 1),
            "held_a_token_layer_and_unit_of_width": round(held / tokens / WIDTH, 1),
            "waits_a_step": one["waits"],
        }
        rows.append(row)
    return rows


def main() -> None:
    """Count, and print a table to the standard error and JSON to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=100, help="domains of 50 to 250 residues in the batch")
    parser.add_argument("--fuse", action="store_true", help="count what is compiled as one kernel")
    parser.add_argument("--train", action="store_true", help="count a step of fine-tuning")
    options = parser.parse_args()
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    lengths = draw.integers(50, 250, options.sequences)
    sequences = ["".join(draw.choice(list("LAGVSERTIDPKQNFYMHWC"), length)) for length in lengths]
    tokens = int(lengths.sum()) + 2 * options.sequences
    rows = training_rows(sequences, tokens) if options.train else encoder_rows(sequences, tokens, options.fuse)
    for row in rows:
        print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr)
    shape = {"sequences": options.sequences, "tokens": tokens, "width": WIDTH, "heads": HEADS}
    print(json.dumps({"torch": torch.__version__, "fused": options.fuse, **shape, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""Compares the encoder with transformers' `EsmModel` on a real checkpoint: fp32 a layer, bf16 and int8 a mean vector.

    python benchmarks/parity_transformers.py ../shared/weights/esm2_t6_8M_hemolysis ../shared/data/cath/test.fasta.gz

The difference of a layer is the largest absolute one over all residues, divided by the layer's largest absolute value.
Prints a table and writes `benchmarks/results/parity.json`.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import transformers

from esmcls.encoders.alphabet import BOS, EOS, tokenize
from esmcls.encoders.encoder import load_encoder
from esmcls.plain_values import write_json
from esmcls.reading.readers import read_records

LIMIT = 1e-4


def reference(model: transformers.EsmModel, sequence: str) -> list[np.ndarray]:
    """Return the residue vectors of every layer, (residues, width) each, of one sequence alone."""
    tokens = torch.tensor([[BOS, *tokenize(sequence).tolist(), EOS]])
    with torch.no_grad():
        states = model(tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True).hidden_states
    return [state[0, 1:-1].numpy() for state in states]


def fp32_differences(model: transformers.EsmModel, folder: str, sequences: list[str]) -> dict[str, float]:
    """Return the relative difference of each layer; all sequences go through our encoder in its own batches."""
    layers = range(model.config.num_hidden_layers + 1)
    encoder = load_encoder(folder, layers=list(layers), precision="fp32", long="full")
    residues: list[np.ndarray] = []
    for count in encoder.batches(map(len, sequences)):
        batch = sequences[len(residues) : len(residues) + count]
        residues += encoder.encode(batch, keep="residue").residues or []
    worst, scale = np.zeros(len(layers)), np.zeros(len(layers))
    for sequence, ours in zip(sequences, residues, strict=True):
        for layer, theirs in enumerate(reference(model, sequence)):
            width = theirs.shape[1]
            part = ours[:, layer * width : (layer + 1) * width]
            worst[layer] = max(worst[layer], np.abs(part - theirs).max())
            scale[layer] = max(scale[layer], np.abs(theirs).max())
    return {str(layer): float(worst[layer] / scale[layer]) for layer in layers}


def cosines(model: transformers.EsmModel, folder: str, sequences: list[str], precision: str) -> dict[str, float]:
    """Return the smallest and the mean cosine of our mean vectors of the last layer with the reference's, in fp64."""
    encoder = load_encoder(folder, precision=precision, long="full")
    parts, start = [], 0
    for count in encoder.batches(map(len, sequences)):
        parts.append(encoder.encode(sequences[start : start + count]).pooled["mean"])
        start += count
    ours = np.concatenate(parts).astype(np.float64)
    theirs = np.stack([reference(model, sequence)[-1].mean(0) for sequence in sequences]).astype(np.float64)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return {"smallest": float(cosine.min()), "mean": float(cosine.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a Hugging Face folder of an ESM-2 model")
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--proteins", type=int, default=200)
    options = parser.parse_args()
    sequences = [record.protein.sequence for record in islice(read_records([options.fasta]), options.proteins)]
    model = transformers.EsmModel.from_pretrained(options.weights, add_pooling_layer=False).eval()
    print(f"{len(sequences)} proteins, {sum(map(len, sequences)):,} residues; transformers {transformers.__version__}")
    layers = fp32_differences(model, options.weights, sequences)
    for layer, difference in layers.items():
        print(f"fp32 layer {layer}: {difference:.1e}")
    precisions = {precision: cosines(model, options.weights, sequences, precision) for precision in ("bf16", "int8")}
    for precision, found in precisions.items():
        print(f"{precision}: cosine of mean vectors at least {found['smallest']:.6f}, mean {found['mean']:.6f}")
    result = {"command": "benchmarks/parity_transformers.py", "checkpoint": Path(options.weights).name}
    result |= {"proteins": len(sequences), "fp32_relative_difference": layers, "cosine": precisions}
    result |= {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    write_json(Path(__file__).parent / "results/parity.json", result)
    if max(layers.values()) > LIMIT:
        raise SystemExit(f"a layer differs by more than {LIMIT:.0e}")


if __name__ == "__main__":
    main()

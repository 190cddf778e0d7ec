"""What a user could embed with instead of esmcls, on random weights: for `embed_speed.py`.

OpenVINO and ONNX Runtime run transformers' `EsmModel` as they convert or quantise it themselves, the sequences sorted
by length and padded to 1,024 tokens a batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, int, int]
"""Layers, width, heads."""
Run: TypeAlias = Callable[[list[str]], Any]
EXTRACT_TOKENS = 4096
"""Tokens a batch of fair-esm's `extract.py`."""


def fair_esm(shape: Shape) -> Run:
    """Return what fair-esm 2.0.0's `scripts/extract.py` does, less writing its files."""
    import esm
    import torch

    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    model, last = esm.ESM2(*shape, alphabet).eval(), shape[0]

    def run(sequences: list[str]) -> list[Any]:
        data = esm.FastaBatchedDataset(list(map(str, range(len(sequences)))), sequences)
        batches = data.get_batch_indices(EXTRACT_TOKENS, extra_toks_per_seq=1)
        loader = torch.utils.data.DataLoader(data, collate_fn=alphabet.get_batch_converter(1022), batch_sampler=batches)
        found = []
        with torch.no_grad():
            for _, texts, tokens in loader:
                states = model(tokens, repr_layers=[last], return_contacts=False)["representations"][last]
                found += [states[row, 1 : len(text) + 1].mean(0).clone() for row, text in enumerate(texts)]
        return found

    return run


def transformers(shape: Shape, tokens: int = 4096) -> Run:
    """Return transformers' EsmModel with SDPA, so many tokens a batch."""
    import torch

    model = esm_model(shape)

    def states(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    return pooled(states, tokens)


def openvino(shape: Shape) -> Run:
    """Return the model as OpenVINO converts it, in fp32: on some processors it would take bf16 unasked."""
    import openvino as ov
    import torch

    ids = torch.randint(4, 24, (2, 30))
    converted = ov.convert_model(esm_model(shape), example_input=(ids, torch.ones_like(ids)))
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.compile_model(converted, "CPU", settings)
    return pooled(lambda ids, mask: compiled((ids, mask))[0], 1024)


def onnxruntime(shape: Shape, *, int8: bool = False) -> Run:
    """Return the model as ONNX Runtime runs it; in int8 by its dynamic quantisation with `reduce_range`."""
    import onnxruntime as ort
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = torch.randint(4, 24, (2, 30))
    axes = {name: {0: "sequences", 1: "tokens"} for name in ("ids", "mask")}
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        given = {"input_names": list(axes), "output_names": ["states"], "dynamic_axes": axes, "opset_version": 17}
        torch.onnx.export(esm_model(shape), (ids, torch.ones_like(ids)), str(file), dynamo=False, **given)
        if int8:
            quantize_dynamic(file, file, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        session = ort.InferenceSession(str(file), options)
    return pooled(lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0], 1024)


def esm_model(shape: Shape) -> Any:
    """Return transformers' EsmModel as a function of ids and mask, with random weights."""
    import torch
    from transformers import EsmConfig, EsmModel

    layers, width, heads = shape
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width, position_embedding_type="rotary",
        token_dropout=True, emb_layer_norm_before=False, attn_implementation="sdpa",
    )  # fmt: skip

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = EsmModel(config, add_pooling_layer=False)

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    torch.manual_seed(0)
    return States().eval()


def pooled(states: Callable[[Any, Any], Any], tokens: int) -> Run:
    """Return the mean vectors of sequences by a function of padded ids and mask, so many tokens a batch."""
    from esmcls.encoders.esm2 import with_ends

    def run(sequences: list[str]) -> list[Any]:
        found = []
        for batch in sorted_batches(sequences, tokens):
            ids = np.full((len(batch), max(map(len, batch)) + 2), 1, dtype=np.int64)
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence) + 2] = with_ends(sequence)
            batch_states = states(ids, (ids != 1).astype(np.int64))
            found += [batch_states[row, 1 : len(sequence) + 1].mean(0) for row, sequence in enumerate(batch)]
        return found

    return run


def sorted_batches(sequences: list[str], tokens: int) -> Iterator[list[str]]:
    """Yield batches by length, padded to at most so many tokens, a longer sequence alone."""
    batch: list[str] = []
    for sequence in sorted(sequences, key=len):
        if batch and (len(batch) + 1) * (len(sequence) + 2) > tokens:
            yield batch
            batch = []
        batch.append(sequence)
    yield batch

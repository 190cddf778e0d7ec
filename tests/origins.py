"""Small ESM-2 models of random weights as fair-esm and transformers write them: files of every origin."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esmcls.encoders.model import ESM2, ModelConfig

SHAPE = ModelConfig(layers=2, width=32, heads=4)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter, LayerNorms too: defaults of 1 and 0 would hide swapped ones."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def small_state(seed: int = 0) -> dict[str, Tensor]:
    """Return the canonical state of a model of `SHAPE`, its frequencies rounded as in published files."""
    state = randomised(ESM2(SHAPE), seed).state_dict()
    return {name: tensor.half().float() if name.endswith("inv_freq") else tensor for name, tensor in state.items()}


def save_fair_esm(path: Path, state: dict[str, Tensor], **arguments: Any) -> Path:
    """Save as fair-esm's training code did: a Namespace, and two levels of prefix around the encoder."""
    known = {"encoder_layers": 2, "encoder_embed_dim": 32, "encoder_attention_heads": 4, "token_dropout": True}
    prefixed = {
        ("encoder." if name.startswith("lm_head.") else "encoder.sentence_encoder.") + name: tensor
        for name, tensor in state.items()
    }
    torch.save({"cfg": {"model": argparse.Namespace(**known | arguments)}, "model": prefixed}, path)
    return path


def hugging_face_name(name: str) -> str:
    """Translate fair-esm's name to `EsmModel`'s, written down apart from the code under test."""
    if not name.startswith("layers."):
        return {
            "embed_tokens.weight": "esm.embeddings.word_embeddings.weight",
            "emb_layer_norm_after.weight": "esm.encoder.emb_layer_norm_after.weight",
            "emb_layer_norm_after.bias": "esm.encoder.emb_layer_norm_after.bias",
        }[name]
    _, number, part = name.split(".", 2)
    module, _, kind = part.rpartition(".")
    inner = {
        "self_attn.q_proj": "attention.self.query",
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn.rot_emb": "attention.self.rotary_embeddings",
        "self_attn_layer_norm": "attention.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "LayerNorm",
    }[module]
    return f"esm.encoder.layer.{number}.{inner}.{kind}"


def save_hugging_face(
    folder: Path, state: dict[str, Tensor], file: str = "model.safetensors", **changes: object
) -> Path:
    """Write a folder as `save_pretrained` of `EsmForMaskedLM` does, with its heads and buffers."""
    folder.mkdir()
    config: dict[str, object] = {"model_type": "esm", "position_embedding_type": "rotary", "token_dropout": True}
    config |= {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "emb_layer_norm_before": False}
    (folder / "config.json").write_text(json.dumps(config | changes))
    tensors = {hugging_face_name(name): tensor.clone() for name, tensor in state.items()}
    tensors |= {"lm_head.bias": torch.zeros(33), "esm.contact_head.regression.weight": torch.zeros(1, 8)}
    tensors |= {"esm.embeddings.position_ids": torch.arange(1026)[None]}
    if file.endswith(".bin"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file, metadata={"format": "pt"})
    return folder


def shard(folder: Path) -> Path:
    """Write the weights of a folder in two files and an index, as `save_pretrained(max_shard_size=…)` does."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder

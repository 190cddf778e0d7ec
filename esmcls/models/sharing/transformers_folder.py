"""The encoder of a model as a folder of transformers: `AutoModel.from_pretrained` opens it, and so does `--encoder`.

Source of names: transformers, models/esm/modeling_esm.py, and facebook/esm2_t6_8M_UR50D on the hub, whose files these
are like. The rotary frequencies are written as they are, a copy a layer: published ones are rounded, and transformers
takes those that it finds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file

from esmcls.encoders.adapters import EncoderWeights
from esmcls.encoders.alphabet import EOS, MASK, PAD, TOKENS
from esmcls.encoders.model import ModelConfig
from esmcls.encoders.windows import CONTEXT
from esmcls.files import write_json

_NAMES: Final = (
    (r"^embed_tokens\.", "embeddings.word_embeddings."),
    (r"^emb_layer_norm_after\.", "encoder.emb_layer_norm_after."),
    (r"^layers\.", "encoder.layer."),
    (r"\.self_attn\.q_proj\b", ".attention.self.query"),
    (r"\.self_attn\.k_proj\b", ".attention.self.key"),
    (r"\.self_attn\.v_proj\b", ".attention.self.value"),
    (r"\.self_attn\.out_proj\b", ".attention.output.dense"),
    (r"\.self_attn\.rot_emb\.", ".attention.self.rotary_embeddings."),
    (r"\.self_attn_layer_norm\.", ".attention.LayerNorm."),
    (r"\.final_layer_norm\.", ".LayerNorm."),
    (r"\.fc1\b", ".intermediate.dense"),
    (r"\.fc2\b", ".output.dense"),
)
"""Canonical names -> those of transformers; `esmcls.encoders.weights` goes the other way."""
_SPECIAL: Final = {"cls": "<cls>", "eos": "<eos>", "mask": "<mask>", "pad": "<pad>", "unk": "<unk>"}


def transformers_name(name: str) -> str:
    """Return what transformers calls a parameter.

    Examples
    --------
    >>> transformers_name("layers.0.self_attn.q_proj.weight"), transformers_name("layers.3.fc2")
    ('encoder.layer.0.attention.self.query.weight', 'encoder.layer.3.output.dense')
    """
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def write_transformers_folder(folder: Path, weights: EncoderWeights) -> None:
    """Write config.json, model.safetensors and the files of the tokenizer into a folder.

    The weights of residues, of an encoder that pools by attention, go along; transformers leaves them out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _config(weights.config))
    tensors = {transformers_name(name): tensor.contiguous().clone() for name, tensor in weights.state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    tokens = {f"{name}_token": token for name, token in _SPECIAL.items()}
    write_json(folder / "special_tokens_map.json", tokens)
    about = {"tokenizer_class": "EsmTokenizer", "model_max_length": CONTEXT + 2, "clean_up_tokenization_spaces": True}
    write_json(folder / "tokenizer_config.json", about | tokens)


def _config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["EsmModel"],
        "attention_probs_dropout_prob": 0.0,
        "emb_layer_norm_before": False,
        "eos_token_id": EOS,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.width,
        "initializer_range": 0.02,
        "intermediate_size": 4 * config.width,
        "layer_norm_eps": 1e-5,
        "mask_token_id": MASK,
        "max_position_embeddings": CONTEXT + 4,
        "model_type": "esm",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "pad_token_id": PAD,
        "position_embedding_type": "rotary",
        "token_dropout": config.token_dropout,
        "torch_dtype": "float32",
        "vocab_size": len(TOKENS),
    }

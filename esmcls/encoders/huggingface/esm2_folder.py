"""An ESM-2 as a folder that `transformers` opens: `config.json`, `model.safetensors` and the tokenizer's files.

`AutoModel.from_pretrained` makes an `EsmModel` of it. Its pooler and its head for contacts, which we have not, it draws
at random, and says so; no hidden state depends on them. The weights of residues, of an encoder that pools by attention,
go along; transformers leaves them out. The rotary frequencies are written as they are, a copy a layer: published ones
are rounded, and transformers takes those that it finds.

Source of names: transformers, models/esm/modeling_esm.py, and facebook/esm2_t6_8M_UR50D on the hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor

from esmcls.encoders.alphabet import BOS, EOS, MASK, PAD, TOKENS, UNK
from esmcls.encoders.model import ModelConfig
from esmcls.encoders.weights import LAYERS
from esmcls.encoders.windows import CONTEXT
from esmcls.files import atomic_path, atomic_text
from esmcls.plain_values import write_json

_NAMES: Final = (
    (r"^embed_tokens\.", "embeddings.word_embeddings."),
    (r"^emb_layer_norm_after\.", "encoder.emb_layer_norm_after."),
    (r"^layers\.", "encoder.layer."),
    (r"\.self_attn\.q_proj\b", ".attention.self.query"),
    (r"\.self_attn\.k_proj\b", ".attention.self.key"),
    (r"\.self_attn\.v_proj\b", ".attention.self.value"),
    (r"\.self_attn\.rot_emb\.", ".attention.self.rotary_embeddings."),
    (r"\.self_attn\.out_proj\b", ".attention.output.dense"),
    (r"\.self_attn_layer_norm\.", ".attention.LayerNorm."),
    (r"\.fc1\b", ".intermediate.dense"),
    (r"\.fc2\b", ".output.dense"),
    (r"\.final_layer_norm\.", ".LayerNorm."),
)
"""Ours and theirs: what `weights` reads, the other way round."""
_SPECIAL: Final = {"cls_token": BOS, "pad_token": PAD, "eos_token": EOS, "unk_token": UNK, "mask_token": MASK}


def hugging_face_name(name: str) -> str:
    """Return what `EsmModel` calls a parameter or a product.

    Examples
    --------
    >>> hugging_face_name("layers.3.self_attn.out_proj.bias"), hugging_face_name("layers.0.fc2")
    ('encoder.layer.3.attention.output.dense.bias', 'encoder.layer.0.output.dense')
    """
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def save_hugging_face(
    folder: Path, config: ModelConfig, state: Mapping[str, Tensor], layers: Sequence[int] = ()
) -> None:
    """Write an encoder into an existing folder, `config.json` last: without it the folder is no model.

    Parameters
    ----------
    folder : Path
    config : ModelConfig
    state : mapping of str to tensor
        Canonical.
    layers : sequence of int
        Its default layers.
    """
    tensors = {hugging_face_name(name): state[name].detach().cpu().float().clone() for name in sorted(state)}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    with atomic_text(folder / "vocab.txt") as handle:
        handle.write("\n".join(TOKENS))
    special = {kind: TOKENS[token] for kind, token in _SPECIAL.items()}
    write_json(folder / "special_tokens_map.json", special)
    tokenizer = {
        "tokenizer_class": "EsmTokenizer",
        "model_max_length": CONTEXT + 2,
        "clean_up_tokenization_spaces": True,
    }
    write_json(folder / "tokenizer_config.json", tokenizer | special)
    write_json(folder / "config.json", _settings(config) | ({LAYERS: list(layers)} if layers else {}))


def _settings(config: ModelConfig) -> dict[str, Any]:
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

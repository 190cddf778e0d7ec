"""The adapters of a model as PEFT keeps them: `PeftModel.from_pretrained` takes them, on the encoder that they change.

adapter_config.json          rank, alpha, and which products have an adapter
adapter_model.safetensors    A and B of each, by transformers' name of the product
attention.safetensors        what weighs residues, where the model pools by attention; PEFT does not read it
base/                        the encoder that they change, as a folder of transformers, where the hub has none
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

from esmcls.encoders.adapters import FILE, Base, LoRA, adapters_header
from esmcls.encoders.esm2 import read_weights
from esmcls.encoders.huggingface.esm2_folder import hugging_face_name, save_hugging_face
from esmcls.encoders.sources.checkpoints import checkpoint_of
from esmcls.encoders.weights import ATTENTION_WEIGHT
from esmcls.errors import EncoderMismatchError, ModelError
from esmcls.plain_values import from_plain, write_json

BASE: Final = "base"
_PREFIX: Final = "base_model.model."
"""PEFT's, before the model's own names."""


def write_peft_folder(folder: Path, model_folder: Path) -> None:
    """Write the adapters of a model folder.

    Raises
    ------
    ModelError
        If it has none of its own.
    WeightsError, EncoderMismatchError
        If the encoder that they change is to be written, and is not here.
    """
    source = model_folder / FILE
    if not source.is_file():
        fix = "train some: esmcls finetune --method lora --adapters-only; or export with --format hf"
        raise ModelError(model_folder, "has no adapters of its own", fix)
    header = adapters_header(source)
    lora, base = from_plain(LoRA, header.get("lora")), from_plain(Base, header.get("base"))
    tensors = load_file(source)
    products = sorted(name.removesuffix(".A") for name in tensors if name.endswith(".A"))
    write_json(folder / "adapter_config.json", _config(lora, products, _name_of(base)))
    adapters = {
        f"{_PREFIX}{hugging_face_name(product)}.lora_{part}.weight": tensors[f"{product}.{part}"]
        for product in products
        for part in "AB"
    }
    save_file(adapters, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    if ATTENTION_WEIGHT in tensors:
        save_file({ATTENTION_WEIGHT: tensors[ATTENTION_WEIGHT]}, folder / "attention.safetensors")
    if checkpoint_of(base.name) is None:
        weights = read_weights(base.name)
        if weights.digest != base.digest:
            raise EncoderMismatchError(base.digest, weights.digest, base.name)
        (folder / BASE).mkdir()
        save_hugging_face(folder / BASE, weights.config, weights.state, weights.layers)


def _name_of(base: Base) -> str:
    """Return where transformers finds the encoder: the hub's id, or the folder beside."""
    checkpoint = checkpoint_of(base.name)
    return BASE if checkpoint is None else checkpoint.repository.id


def _config(lora: LoRA, products: Iterable[str], base: str) -> dict[str, object]:
    names = "|".join(re.escape(hugging_face_name(product)) for product in products)
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": names,  # a pattern: `output.dense` alone would be the attention's, too
        "task_type": "FEATURE_EXTRACTION",
    }

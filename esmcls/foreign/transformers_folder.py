"""A folder of transformers: `config.json`, weights in one file or in shards, a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esmcls.errors import WeightsError
from esmcls.plain_values import from_plain, read_json

CONFIG: Final = "config.json"
SHARD_INDEX: Final = ".index.json"
WEIGHTS: Final = (
    "model.safetensors",
    f"model.safetensors{SHARD_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{SHARD_INDEX}",
)
"""Of a model of transformers, the best first."""
TOKENIZERS: Final = (
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
)
"""Files of which a tokenizer has one at least."""
_BESIDE: Final = re.compile(r"[^/]*\.(json|txt|model)", re.ASCII)
"""What lies beside weights: configuration, tokenizer, licence."""


def read_config(path: Path) -> dict[str, Any]:
    """Return what a `config.json` of transformers says.

    Raises
    ------
    WeightsError
        If it cannot be read or is none.
    """
    try:
        return from_plain(dict[str, Any], read_json(path))
    except (OSError, ValueError) as error:
        raise WeightsError(str(path), f"no configuration of a model ({error})", "fetch the folder again") from None


def is_esm2(config: dict[str, Any]) -> bool:
    """Say whether a `config.json` is that of an ESM-2 model."""
    return (config.get("model_type"), config.get("position_embedding_type")) == ("esm", "rotary")


def encoder_files(names: Collection[str]) -> list[str]:
    """Choose from the files of a repository those that an encoder is of: the best kind of weights, and what is beside.

    Examples
    --------
    >>> encoder_files(["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "modeling.py"])
    ['config.json', 'model.safetensors']
    """
    weights = next((file for file in WEIGHTS if file in names), None)
    wanted = {name for name in names if _BESIDE.fullmatch(name) and not name.endswith(SHARD_INDEX)}
    if weights is not None:
        wanted.add(weights)
        wanted |= {name for name in names if weights.endswith(SHARD_INDEX) and _is_shard(name, weights)}
    return sorted(wanted)


def weights_in(folder: Path) -> Path | None:
    """Return the file of weights of a folder, or their index; None if there is neither."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def lacking(folder: Path, *, tokenizer: bool = False) -> list[str]:
    """Return the files of an encoder that a folder of the cache lacks."""
    weights = weights_in(folder)
    if weights is None:
        return [WEIGHTS[0]]
    shards = shards_of(weights) if weights.name.endswith(SHARD_INDEX) else []
    missing = [file.name for file in shards if not file.is_file()]
    if tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        missing.append("its tokenizer")
    return missing


@dataclass(frozen=True)
class _Index:
    """What is read of an index: the file of each parameter."""

    weight_map: dict[str, str]


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index of sharded weights names, be they there or not.

    Raises
    ------
    WeightsError
        If it is no such index, or names a file that lies elsewhere.
    """
    try:
        names = sorted(set(from_plain(_Index, read_json(index)).weight_map.values()))
        return [index.with_name(name) for name in names]  # raises where a name leads elsewhere
    except (OSError, ValueError) as error:
        raise WeightsError(str(index), f"no index of sharded weights ({error})", "fetch the folder again") from None


def _is_shard(name: str, index: str) -> bool:
    stem, _, ending = index.removesuffix(SHARD_INDEX).rpartition(".")
    return re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{ending}", name) is not None

"""A folder of transformers' files as a model: its configuration, vocabulary and weights, whole or an error.

All files are read by ourselves, with the care that ESM-2's are, and handed to the classes of `transformers`; code that
lies beside them is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from esmcls.encoders.huggingface.families import FAMILIES, MODEL_TYPES, Family, family_of, fixed_vocabulary
from esmcls.encoders.huggingface.vocabulary import TokenTable, check_proteins, read_vocabulary, token_table
from esmcls.encoders.weights import read_tensors, state_digest
from esmcls.errors import MissingExtraError, WeightsError
from esmcls.foreign.transformers_folder import CONFIG, read_config, weights_in

VERSION: Final = 1
"""Raised whenever vectors change; part of the digest."""
_OF_ONE: Final = f"give the weights and the {CONFIG} of one model"
_GROUP: Final = "esmcls.encoders"
_BUFFERS: Final = re.compile(r"\.(position_ids|token_type_ids|inv_freq|original_inv_freq)$")
"""What a class makes of its configuration, whether or not a file stores it."""
_BEYOND: Final = 1 << 20
"""Layers, heads and tokens that no model has."""


@dataclass(frozen=True)
class OpenedModel:
    """A protein language model of transformers, on the CPU and in fp32.

    Parameters
    ----------
    family : Family
    model : torch module
        With all its layers.
    table : TokenTable
    pad : int
        The token of padding.
    width : int
        Of one layer.
    depth : int
        The last layer.
    heads : int
    positions : int or None
        Tokens of the longest input, where positions are learned.
    digest : str
        Of all that decides a vector.
    """

    family: Family
    model: nn.Module
    table: TokenTable
    pad: int
    width: int
    depth: int
    heads: int
    positions: int | None
    digest: str


def check_model_type(config: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration of a model type that no family has.

    Raises
    ------
    WeightsError
        It names the type, the code that it would need, and where a plugin may bring it.
    """
    kind = config.get("model_type")
    if kind in MODEL_TYPES:
        return
    known = ", ".join(dict.fromkeys(family.name for family in FAMILIES))
    bring = f"bring it as a plugin of the group {_GROUP}, or give one of {known}, ESM-2"
    if isinstance(config.get("auto_map"), dict) and config["auto_map"]:
        code = str(next(iter(config["auto_map"].values())))
        found = f"the model type {kind!r:.60} needs code of its own ({code:.80}), which is never run"
        raise WeightsError(name, found, bring)
    raise WeightsError(name, f"the model type {kind!r:.60} is of no family of protein encoders that is known", bring)


def open_model(path: Path, name: str) -> OpenedModel:
    """Open a model of a folder with `config.json`, weights and a tokenizer's files.

    Parameters
    ----------
    path : Path
        The folder, or the file of weights in it.
    name : str
        Of the encoder, for errors.

    Raises
    ------
    WeightsError
        If a file is missing, damaged, of another model, or of a model of no known family.
    MissingExtraError
        If `transformers` is not installed.
    """
    folder = path.parent if path.is_file() else path
    raw = read_config(folder / CONFIG)
    check_model_type(raw, name)
    classes = classes_of(raw, name)
    vocabulary = fixed_vocabulary(str(raw["model_type"])) or read_vocabulary(folder, name)
    check_proteins(vocabulary, name)
    family = family_of(raw, vocabulary)
    config = _configuration(classes, family, raw, name)
    table = token_table(family, vocabulary, int(config.vocab_size), name)
    file = path if path.is_file() else weights_in(folder)
    if file is None:
        raise WeightsError(name, "no weights", "it needs model.safetensors or pytorch_model.bin", [folder])
    model = _load(classes, family, config, file)
    positions = None if family.positions is None else int(config.max_position_embeddings) - family.positions
    return OpenedModel(
        family=family,
        model=model,
        table=table,
        pad=int(config.pad_token_id or 0),
        width=int(config.hidden_size),
        depth=int(config.num_hidden_layers),
        heads=int(config.num_attention_heads),
        positions=positions,
        digest=_digest(family, model, config, table),
    )


def classes_of(raw: Mapping[str, Any], name: str) -> Any:
    """Return the module `transformers`, having made sure that it has the classes of a model's type.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    WeightsError
        If it is a version without them.
    """
    family = next(family for family in FAMILIES if family.model_type == raw["model_type"])
    try:
        import transformers
    except ImportError:
        feature = f"encoder {name}, a model of the type {family.model_type},"
        raise MissingExtraError(feature, "transformers", "hf") from None
    if not hasattr(transformers, family.model):
        found = f"transformers {transformers.__version__} has no class {family.model}"
        raise WeightsError(name, found, "update it: pip install -U transformers")
    return transformers


def _configuration(classes: Any, family: Family, raw: Mapping[str, Any], name: str) -> Any:
    """Return the configuration as its class has it, its numbers within bounds."""
    try:
        config = getattr(classes, family.config).from_dict(dict(raw))
        sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size)
        if not all(isinstance(size, int) and 0 < size < _BEYOND for size in sizes):
            raise ValueError(f"layers, width, heads and tokens of {sizes}")
        if family.positions and config.pad_token_id != family.positions - 1:
            raise ValueError(f"pad_token_id {config.pad_token_id} instead of {family.positions - 1}")
    except Exception as error:  # each version of transformers checks in its own way
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(name, f"its {CONFIG} is refused ({reason})", "fetch the folder again") from None
    return config


def _load(classes: Any, family: Family, config: Any, file: Path) -> nn.Module:
    """Return the model with the weights of a file, all of the encoder's and no others."""
    tensors = read_tensors(file)
    odd = [key for key, tensor in tensors.items() if not (isinstance(key, str) and isinstance(tensor, Tensor))]
    if odd:
        raise WeightsError(str(file), f"{str(odd[0])[:40]!r} is no tensor", "fetch the file again")
    own = {key: tensor for key, tensor in tensors.items() if re.search(family.own, key) and not _BUFFERS.search(key)}
    either = [own[key] for key in family.alias if key in own]
    own |= {key: either[0] for key in family.alias if either}
    options = {"add_pooling_layer": False} if family.pooler else {}
    with _silent(classes):
        try:
            model, report = getattr(classes, family.model).from_pretrained(
                None, config=config, state_dict=own, dtype=torch.float32, output_loading_info=True, **options
            )
        except Exception as error:
            raise _refused(file, error) from None
    _check_loaded(file, family, report)
    _check_finite(file, model)
    return model.eval()  # type: ignore[no-any-return]


def _check_loaded(file: Path, family: Family, report: Mapping[str, Any]) -> None:
    """Make sure that each parameter came from the file, and that the file has no layer that the model has not."""
    missing = sorted(key for key in report["missing_keys"] if not re.search(family.unused, key))
    problems = {"parameters missing": missing, "unknown parameters": sorted(report["unexpected_keys"])}
    problems["other shapes"] = sorted(
        str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]
    )
    for problem, keys in problems.items():
        if keys:
            found = f"{problem}: {', '.join(keys[:3])} ({len(keys)} in all)"
            raise WeightsError(str(file), found, _OF_ONE)


def _check_finite(file: Path, model: nn.Module) -> None:
    for key, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(str(file), f"NaN or infinity in {key}", "fetch the file again")


def _refused(file: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return WeightsError(
        str(file), f"it and {CONFIG} make no model ({reason})", f"give the weights and the {CONFIG} of one model"
    )


@contextlib.contextmanager
def _silent(classes: Any) -> Iterator[None]:
    """Keep `transformers` from reporting and drawing bars; what it would report is looked at and raised here."""
    logs = classes.utils.logging
    before = logs.get_verbosity()
    bars = logs.is_progress_bar_enabled()
    logs.set_verbosity(logs.CRITICAL)
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(before)
        if bars:
            logs.enable_progress_bar()


def _digest(family: Family, model: nn.Module, config: Any, table: TokenTable) -> str:
    """Return the digest of all that decides a vector: weights, what the configuration adds to them, and tokens."""
    read = {key: tensor for key, tensor in model.state_dict().items() if not re.search(family.unused, key)}
    facts = {
        "version": VERSION,
        "model_type": family.model_type,
        "configuration": {key: getattr(config, key, None) for key in family.deciding},
        "tokens": table.to_json(),
        "weights": state_digest(read),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

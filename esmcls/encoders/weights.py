"""Encoder weights of every origin, as one canonical state: fair-esm's names, fp32, no language-model or contact head.

Read: fair-esm's `.pt`, a Hugging Face folder (`config.json` with `model.safetensors` or `pytorch_model.bin`, or shards
of these and their index) or its weights given directly, our own `.safetensors` (its header holds the shape and the
default layers). Written: our own. Nothing is unpickled but tensors and `argparse.Namespace`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.encoders import OWN
from esmcls.encoders.alphabet import TOKENS
from esmcls.encoders.model import ModelConfig, rotary_frequencies
from esmcls.errors import WeightsError
from esmcls.files import atomic_path, kind_instead, refuse_what_is_no_file
from esmcls.foreign.torch_files import CodeError, read_torch
from esmcls.foreign.transformers_folder import CONFIG, SHARD_INDEX, WEIGHTS, is_esm2, shards_of, weights_in
from esmcls.plain_values import from_plain, parse_json, read_json

State = dict[str, Tensor]
FORMAT = "esmcls-encoder-1"
LAYERS = "esmcls_layers"
"""Entry of a Hugging Face folder's `config.json`: the default layers; `transformers` passes it over."""
ATTENTION_WEIGHT = "attention.weight"
"""(1, width of all layers side by side), of an encoder that was fine-tuned to pool its residues by attention."""

_LEFT_OUT = re.compile(
    r"(^|\.)(lm_head|contact_head|classifier|pooler)\."
    r"|embeddings\.(position_ids|position_embeddings\.weight)$"
)
"""Heads, and the absolute positions that rotary ones make superfluous."""
LARGEST = 1 << 20
"""Of layers, heads and width: far more than any model has."""
_LAYER = re.compile(r"layers\.(\d{1,9})\.", re.ASCII)
_FREQUENCIES = "rot_emb.inv_freq"
"""Kept as stored: published files hold them rounded to fp16, and the model was trained and is run with those."""
_PREFIX = re.compile(r"^(encoder\.sentence_encoder\.|encoder\.|esm\.)(?!layer\.)")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|base_model\.model)\.)+")
"""Of torch's DataParallel, torch.compile and PEFT around a model that was saved."""
_ADAPTERS = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)\b|\.base_layer\.|\.modules_to_save\.")
"""Of PEFT: what a matrix is changed by, beside the matrix."""
_ADAPTERS_CONFIG = "adapter_config.json"
_HUGGING_FACE = (
    (r"^(?:esm\.)?embeddings\.word_embeddings\.", "embed_tokens."),
    (r"^(?:esm\.)?encoder\.emb_layer_norm_after\.", "emb_layer_norm_after."),
    (
        r"^(?:esm\.)?encoder\.layer\.(\d+|\*)\.",
        r"layers.\1.",
    ),  # transformers 5 writes one "*" for what all layers share
    (r"\.attention\.self\.(query|key|value)\.", lambda match: f".self_attn.{match[1][0]}_proj."),
    (r"\.attention\.self\.rotary_embeddings\.", ".self_attn.rot_emb."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.LayerNorm\.", ".self_attn_layer_norm."),
    (r"\.intermediate\.dense\.", ".fc1."),
    (r"\.output\.dense\.", ".fc2."),
    (r"\.LayerNorm\.", ".final_layer_norm."),
    (r"(layer_norm)\.gamma$", r"\1.weight"),  # as transformers 5 saves them
    (r"(layer_norm)\.beta$", r"\1.bias"),
)


def load_state(path: str | Path) -> tuple[ModelConfig, State]:
    """Read weights of any supported origin.

    Parameters
    ----------
    path : str or Path
        A fair-esm `.pt`, a Hugging Face folder or the file of weights in it, or one of our `.safetensors`.

    Returns
    -------
    config : ModelConfig
    state : dict of fp32 tensors, canonical names

    Raises
    ------
    WeightsError
        If the file is missing, damaged, not ESM-2, or a parameter is unknown, missing or of another shape.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(str(path), "no such file or folder", "check the path")
    if (kind := kind_instead(path)) not in (None, "a folder"):
        raise WeightsError(str(path), f"{kind}, not a file", "give the file of the weights, or their folder")
    _refuse_adapters_folder(path)
    config, state = _reader_of(path)(path)
    return config, _checked(path, config, state)


def _refuse_adapters_folder(path: Path) -> None:
    """Refuse what PEFT's `save_pretrained` leaves of LoRA: adapters without the encoder that they change."""
    folder = path if path.is_dir() else path.parent
    config = folder / _ADAPTERS_CONFIG
    adapters = path.is_dir() and not (folder / OWN).exists() and not (folder / CONFIG).exists()
    if not config.is_file() or not (adapters or path.name.startswith("adapter_model.")):
        return
    try:
        base = from_plain(dict[str, Any], read_json(config)).get("base_model_name_or_path")
    except (OSError, ValueError):
        base = None
    of = f" of {base:.80}" if isinstance(base, str) else ""
    raise _unmerged(path, f"adapters of PEFT (LoRA){of}, without the encoder that they change")


def _refuse_adapters(path: Path, names: Iterable[str]) -> None:
    """Refuse weights in which the adapters of PEFT lie beside the matrices that they change."""
    name = next((name for name in names if isinstance(name, str) and _ADAPTERS.search(name)), None)
    if name is not None:
        raise _unmerged(path, f"adapters of PEFT (LoRA) that are not merged into the encoder ({name[:80]})")


def _unmerged(path: Path, found: str) -> WeightsError:
    fix = "merge them: model.merge_and_unload().save_pretrained(FOLDER) of peft, and give that folder"
    return WeightsError(str(path), found, fix)


def _reader_of(path: Path) -> Callable[[Path], tuple[ModelConfig, State]]:
    if path.is_dir():
        return _load_folder
    if _of_hugging_face(path):
        return _load_hugging_face
    return _load_own if path.suffix == ".safetensors" else _load_fair_esm


def save_state(
    path: str | Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
    *,
    layers: Sequence[int] = (),
) -> None:
    """Write a canonical state as our `.safetensors`, whole or not at all; `layers` are its default ones."""
    header = {"format": FORMAT, "config": vars(config), "layers": list(layers)}
    tensors = {
        name: tensor.detach().cpu().to(torch.float32 if name.endswith(_FREQUENCIES) else dtype).contiguous()
        for name, tensor in sorted(state.items())
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"esmcls": json.dumps(header, sort_keys=True)})


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hexadecimal) of a canonical state: names, shapes and fp32 values, whatever file it was in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().float().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def default_layers(path: str | Path) -> tuple[int, ...]:
    """Return the layers that the card of the file, or of a folder's, names, or none."""
    path = Path(path) / OWN if (Path(path) / OWN).is_file() else Path(path)
    if (path / "config.json").is_file():
        return _layers_of_hugging_face(path / "config.json")
    if path.suffix != ".safetensors":
        return ()
    try:
        return from_plain(tuple[int, ...], _header(path).get("layers", []))
    except ValueError as error:
        raise _damaged(path, error) from None


def _layers_of_hugging_face(path: Path) -> tuple[int, ...]:
    """Return the layers that a `config.json` of ours names."""
    try:
        return from_plain(tuple[int, ...], from_plain(dict[str, Any], read_json(path)).get(LAYERS, []))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


@dataclass(frozen=True)
class _Settings:
    """What `cfg` of fair-esm's checkpoints holds."""

    model: object


@dataclass(frozen=True)
class _FairEsm:
    """What is read of a checkpoint of fair-esm."""

    cfg: _Settings
    model: dict[str, Any]


@dataclass(frozen=True)
class _Arguments:
    """What is read of the settings of fair-esm's model."""

    encoder_layers: int
    encoder_embed_dim: int
    encoder_attention_heads: int
    token_dropout: bool | None = True


def _load_fair_esm(path: Path) -> tuple[ModelConfig, State]:
    content = _load_torch(path)
    _refuse_adapters(path, content)
    try:
        data = from_plain(_FairEsm, content)
        if not isinstance(data.cfg.model, argparse.Namespace):
            raise ValueError("cfg.model: no settings")
        saved = from_plain(_Arguments, vars(data.cfg.model))
        shape = {"layers": saved.encoder_layers, "width": saved.encoder_embed_dim}
        shape |= {"heads": saved.encoder_attention_heads}
        config = _config(shape | {"token_dropout": bool(saved.token_dropout)})
        _refuse_adapters(path, data.model)
        names = {name: _PREFIX.sub("", _WRAPPERS.sub("", str(name))) for name in data.model}
        return config, {names[name]: tensor for name, tensor in data.model.items()}
    except ValueError as error:
        raise WeightsError(str(path), f"no ESM-2 checkpoint of fair-esm ({error})", "give an ESM-2 file") from None


def _load_folder(path: Path) -> tuple[ModelConfig, State]:
    if (path / OWN).exists():
        return _load_own(path / OWN)
    weights = weights_in(path)
    config = path / CONFIG
    if weights is None or not config.exists():
        files = [config, *(path / name for name in WEIGHTS)]
        lacks = CONFIG if not config.exists() else f"weights ({', '.join(WEIGHTS)})"
        problem = f"no Hugging Face ESM-2 folder: it lacks {lacks}"
        raise WeightsError(str(path), problem, "it needs config.json and its weights", files)
    return _load_hugging_face(weights)


def _load_hugging_face(path: Path) -> tuple[ModelConfig, State]:
    """Read a file of weights, or an index of several, with the `config.json` beside it."""
    config = _hugging_face_config(path.with_name(CONFIG))
    tensors = read_tensors(path)
    state = {_hugging_face_name(name): tensor for name, tensor in tensors.items()}
    _check_layers(path, config, state)
    shared = [name for name in state if name.startswith("layers.*.")]
    spread = {name.replace("*", str(layer)): state[name] for name in shared for layer in range(config.layers)}
    return config, {name: tensor for name, tensor in (state | spread).items() if name not in shared}


def read_tensors(path: Path) -> dict[str, Any]:
    """Read what a file of weights of a Hugging Face folder holds, or the files that an index names.

    Raises
    ------
    WeightsError
        If a file is missing, damaged, would run code, or holds adapters that are not merged.
    """
    tensors: dict[str, Any] = {}
    for file in _shards(path) if path.name.endswith(SHARD_INDEX) else [path]:
        tensors |= _load_safetensors(file) if file.suffix == ".safetensors" else _load_torch(file)
    _refuse_adapters(path, tensors)
    return tensors


@dataclass(frozen=True)
class _Transformers:
    """What is read of a `config.json`."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    model_type: str
    position_embedding_type: str | None = None
    emb_layer_norm_before: bool | None = None
    layer_norm_eps: float = 1e-5
    token_dropout: bool | None = True


def _shards(index: Path) -> list[Path]:
    """Return the files that an index of sharded weights names, having made sure that all lie beside it."""
    files = shards_of(index)
    missing = [file for file in files if not file.is_file()]
    if missing:
        some = ", ".join(file.name for file in missing[:3]) + (", …" if len(missing) > 3 else "")
        problem = f"{len(missing)} of {len(files)} files of weights missing: {some}"
        raise WeightsError(str(index), problem, "fetch them into the same folder", missing)
    return files


def _of_hugging_face(path: Path) -> bool:
    """Say whether a file is one of a Hugging Face folder, given directly."""
    if path.name.endswith(SHARD_INDEX):
        return True
    beside = path.suffix in (".safetensors", ".bin") and path.with_name(CONFIG).is_file()
    return beside and (path.suffix == ".bin" or "format" not in _header(path))


def _hugging_face_config(path: Path) -> ModelConfig:
    try:
        raw = read_json(path)
        if isinstance(raw, dict) and not is_esm2(raw):  # of which other entries need not be there
            kind = f"{raw.get('model_type')!r:.40}"
            raise WeightsError(str(path), f"a model of another kind than ESM-2 ({kind})", "give an ESM-2 folder")
        saved = from_plain(_Transformers, raw)
        if saved.emb_layer_norm_before:
            raise WeightsError(
                str(path), "a LayerNorm before the first layer, which ESM-2 has not", "give an ESM-2 folder"
            )
        if saved.layer_norm_eps != 1e-5:
            problem = f"layer_norm_eps {saved.layer_norm_eps} instead of 1e-05"
            raise WeightsError(str(path), problem, "give an ESM-2 folder")
        shape = {"layers": saved.num_hidden_layers, "width": saved.hidden_size, "heads": saved.num_attention_heads}
        return _config(shape | {"token_dropout": bool(saved.token_dropout)})
    except ValueError as error:
        raise WeightsError(str(path), f"no configuration of an ESM-2 model ({error})", "give an ESM-2 folder") from None


def _hugging_face_name(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    if _LEFT_OUT.search(name):
        return name
    for pattern, replacement in _HUGGING_FACE:
        name = re.sub(pattern, replacement, name)
    return name


def _load_own(path: Path) -> tuple[ModelConfig, State]:
    header = _header(path)
    _refuse_adapters(path, _names(path))
    if header.get("format") != FORMAT:
        raise WeightsError(str(path), f"format {header.get('format')!r:.40} instead of {FORMAT!r}", "update esmcls")
    try:
        return _config(header.get("config")), _load_safetensors(path)
    except ValueError as error:
        raise _damaged(path, error) from None


def _config(values: object) -> ModelConfig:
    """Return the shape that a file tells, its numbers within bounds that no model has reached."""
    config = from_plain(ModelConfig, values, strict=True)
    if max(config.layers, config.width, config.heads) > LARGEST:
        raise ValueError(f"a model of {config.layers} layers, {config.heads} heads and width {config.width}")
    return config


def _check_layers(path: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Make sure that a file holds as many layers as it tells, before anything is made for each."""
    numbers = {int(match[1]) for name in state if (match := _LAYER.match(name))}
    shared = any(name.startswith("layers.*.") for name in state)
    if len(numbers) < config.layers and not (shared and not numbers):
        raise WeightsError(str(path), f"{len(numbers)} layers instead of {config.layers}", "give an ESM-2 file")


def _header(path: Path) -> dict[str, Any]:
    """Return our part of the header: one JSON text, since safetensors writes several entries in no fixed order."""
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, framework="pt") as handle:
            return from_plain(dict[str, Any], parse_json((handle.metadata() or {}).get("esmcls", "{}")))
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise _damaged(path, error) from None


def _names(path: Path) -> list[str]:
    """Return the names of the tensors of a file of which the header has been read."""
    with safe_open(path, framework="pt") as handle:
        return list(handle.keys())


def _load_safetensors(path: Path) -> State:
    try:
        refuse_what_is_no_file(path)
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise _damaged(path, error) from None


def _load_torch(path: Path) -> dict[str, Any]:
    try:
        data = read_torch(path, [argparse.Namespace])
    except CodeError as error:
        raise WeightsError(str(path), str(error), "give its weights as safetensors") from None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    if not isinstance(data, dict):
        raise WeightsError(
            str(path), f"no ESM-2 checkpoint of fair-esm, but a {type(data).__name__}", "give an ESM-2 file"
        )
    return data


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return WeightsError(str(path), f"cannot be read ({reason})", "fetch the file again")


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a canonical state, without building the model."""
    width = config.width
    wide = 4 * config.width
    products = {f"self_attn.{letter}_proj": (width, width) for letter in ("k", "v", "q", "out")}
    products |= {"fc1": (wide, width), "fc2": (width, wide)}
    layer: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in products.items()}
    layer |= {f"{name}.bias": shape[:1] for name, shape in products.items()}
    norms = ("self_attn_layer_norm", "final_layer_norm")
    layer |= {f"{name}.{kind}": (width,) for name in norms for kind in ("weight", "bias")}
    layer |= {f"self_attn.{_FREQUENCIES}": (width // config.heads // 2,)}
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (len(TOKENS), width)}
    shapes |= {f"emb_layer_norm_after.{kind}": (width,) for kind in ("weight", "bias")}
    return shapes | {f"layers.{n}.{name}": shape for n in range(config.layers) for name, shape in layer.items()}


def _checked(path: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> State:
    """Return the encoder's tensors in fp32, having compared their names, shapes and frequencies with the layout."""
    odd = [name for name, tensor in state.items() if not (isinstance(name, str) and isinstance(tensor, Tensor))]
    if odd:
        raise WeightsError(str(path), f"{str(odd[0])[:40]!r} is no tensor", "give an ESM-2 file")
    _check_layers(path, config, state)
    expected = state_shapes(config)
    tensors = {name: tensor for name, tensor in state.items() if not _LEFT_OUT.search(name)}
    if not any(name.endswith(_FREQUENCIES) for name in tensors):
        exact = rotary_frequencies(config.width // config.heads)
        tensors |= {name: exact for name in expected if name.endswith(_FREQUENCIES)}
    if ATTENTION_WEIGHT in tensors:
        sides = max(1, math.prod(tensors[ATTENTION_WEIGHT].shape) // config.width)
        expected[ATTENTION_WEIGHT] = (1, sides * config.width)
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & tensors.keys() if tuple(tensors[name].shape) != expected[name])
    first = f"layers.0.self_attn.{_FREQUENCIES}"
    stored = [name for name in tensors if name.endswith(_FREQUENCIES)]
    other = [name for name in stored if not (missing or wrong) and (tensors[name] != tensors[first]).any()]
    problems = {"parameters missing": missing, "unknown parameters": unknown, "other shapes": wrong}
    for problem, names in (problems | {"rotary frequencies unlike the first layer's": other}).items():
        if names:
            examples = f"{problem}: {', '.join(names[:3])} ({len(names)} in all)"
            raise WeightsError(str(path), examples, "give an ESM-2 file")
    checked = {name: tensors[name].float().clone() for name in sorted(expected)}
    endless = [name for name, tensor in checked.items() if not bool(torch.isfinite(tensor).all())]
    if endless:
        raise WeightsError(str(path), f"NaN or infinity in {endless[0]}", "fetch the file again")
    return checked

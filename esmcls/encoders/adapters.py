"""LoRA adapters on ESM-2's products: attached, merged into a canonical state, kept alone in a small file.

A layer W x + b becomes W x + b + (alpha / rank) B A x, and only A (rank, in) and B (out, rank) are trained.

Source: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.sources.places import have_weights
from esmcls.encoders.weights import ATTENTION_WEIGHT, State, load_state, state_digest
from esmcls.errors import UnknownNameError, UsageError, WeightsError
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.plain_values import from_plain, parse_json
from esmcls.training.products import Adapted

FILE: Final = "adapters.safetensors"
FORMAT: Final = "esmcls-adapters-1"
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""The products of a layer, by their canonical names."""
_MARK: Final = ".lora_"


@dataclass(frozen=True)
class LoRA:
    """Shape of the adapters.

    Parameters
    ----------
    rank : int
        Of the change of a layer's matrix.
    alpha : int
        The change is scaled by alpha / rank.
    targets : tuple of str
        Which of a layer's products get one: some of `TARGETS`.

    Raises
    ------
    UsageError
        If a number is out of its range or no product is named.
    UnknownNameError
        If there is no such product.
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1 or not self.targets:
            raise UsageError(f"LoRA of rank {self.rank}, alpha {self.alpha}, {len(self.targets)} targets: all above 0")
        for name in self.targets:
            if name not in TARGETS:
                raise UnknownNameError("LoRA target", name, TARGETS)

    @property
    def scale(self) -> float:
        """The factor of B A."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Base:
    """The encoder that adapters belong to: its name, where it was opened, and the digest of its canonical state."""

    name: str
    digest: str


def attach(model: ESM2, lora: LoRA, layers: int) -> None:
    """Give the first `layers` layers adapters that change nothing yet, and freeze all else."""
    model.requires_grad_(False)
    adapted = model.layers[:layers]
    for name, module in list(adapted.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in lora.targets:
            adapted.set_submodule(name, Adapted(module, lora.rank, lora.scale))


def adapters_of(model: ESM2) -> State:
    """Return the A and B of each adapted layer, by its canonical name and `.A` or `.B`."""
    adapters = {name: value for name, value in model.state_dict().items() if _MARK in name}
    return {name.replace(_MARK, "."): value.detach().to("cpu", copy=True) for name, value in adapters.items()}


def without_adapters(model: ESM2) -> State:
    """Return the state by canonical names alone, in which products that have adapters are what they were."""
    return {name: value for name, value in model.state_dict().items() if _MARK not in name}


def hold_frozen(model: ESM2, dtype: torch.dtype) -> None:
    """Round the products of its layers that are not trained to what they are computed in, such as bf16."""
    for module in model.layers.modules():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad:
            for value in (module.weight, module.bias):
                value.data = value.data.to(dtype)


def merge_adapters(state: Mapping[str, Tensor], adapters: Mapping[str, Tensor], lora: LoRA) -> State:
    """Add adapters to the matrices of a canonical state, in fp32.

    Examples
    --------
    >>> import torch
    >>> adapters = {"fc1.A": torch.tensor([[1.0, 2.0]]), "fc1.B": torch.tensor([[3.0]])}
    >>> merge_adapters({"fc1.weight": torch.tensor([[1.0, 1.0]])}, adapters, LoRA(rank=1, alpha=2))
    {'fc1.weight': tensor([[ 7., 13.]])}
    """
    merged = dict(state)
    for name in sorted(name.removesuffix(".A") for name in adapters if name.endswith(".A")):
        change = adapters[f"{name}.B"].float() @ adapters[f"{name}.A"].float()
        merged[f"{name}.weight"] = state[f"{name}.weight"].float() + lora.scale * change
    return merged


def save_adapters(path: str | Path, adapters: Mapping[str, Tensor], lora: LoRA, base: Base, **about: Any) -> None:
    """Write adapters without their encoder, whole or not at all; `about` is kept in the header (layers, say)."""
    header = {"format": FORMAT, "lora": asdict(lora), "base": asdict(base), **about}
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in sorted(adapters.items())}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"esmcls": json.dumps(header, sort_keys=True)})


def adapted_digest(base: Base, adapters: Mapping[str, Tensor], lora: LoRA) -> str:
    """Return the digest of an adapted encoder: sha256 of its base, its adapters and their scale.

    Not the merged state's: sums may be rounded in another way on another machine.
    """
    return hashlib.sha256(f"{base.digest} {state_digest(adapters)} {lora.scale!r}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class EncoderWeights:
    """An encoder's weights, ready to be opened.

    Parameters
    ----------
    config : ModelConfig
    state : dict of fp32 tensors, canonical names
    digest : str
    path : Path
        Where they, or their adapters, lie.
    layers : tuple of int
        Its default layers, where it names any.
    """

    config: ModelConfig
    state: State
    digest: str
    path: Path
    layers: tuple[int, ...]


def read_adapted(path: Path, header: Mapping[str, Any]) -> tuple[ModelConfig, State, str]:
    """Read adapters and their base, and merge them.

    Raises
    ------
    WeightsError
        If the base is not here, or is not the one that the adapters were trained on.
    """
    try:
        about = from_plain(_Header, dict(header))
        lora, base = about.lora, about.base
        refuse_what_is_no_file(path)
        adapters = load_file(path)
    except (ValueError, UsageError, SafetensorError, OSError, RuntimeError, OverflowError) as error:
        raise WeightsError(str(path), f"no adapters ({error})", "copy the model folder anew") from None
    config, state = load_state(have_weights(base.name))
    digest = state_digest(state)
    if digest != base.digest:
        problem = f"adapters of an encoder of digest {base.digest[:12]}, but {base.name} has {digest[:12]}"
        raise WeightsError(str(path), problem, "put the encoder they were trained on in its place")
    _check_adapters(path, adapters, state, lora)
    attention = {name: adapters[name] for name in adapters if name == ATTENTION_WEIGHT}
    return config, merge_adapters(state, adapters, lora) | attention, adapted_digest(base, adapters, lora)


@dataclass(frozen=True)
class _Header:
    """What the header of a file of adapters must hold."""

    lora: LoRA
    base: Base


def _check_adapters(path: Path, adapters: State, state: State, lora: LoRA) -> None:
    """Make sure that there is a B for each A, both for a matrix that the base has, and all are finite."""
    fix = "copy the model folder anew"
    for name, tensor in adapters.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(str(path), f"NaN or infinity in {name[:80]}", fix)
        if name == ATTENTION_WEIGHT:
            continue
        stem, _, kind = name.rpartition(".")
        matrix = state.get(f"{stem}.weight")
        if (
            kind not in ("A", "B")
            or matrix is None
            or matrix.dim() != 2
            or not {f"{stem}.A", f"{stem}.B"} <= adapters.keys()
        ):
            raise WeightsError(str(path), f"{name[:80]!r} belongs to no matrix of the encoder", fix)
        expected = (lora.rank, matrix.shape[1]) if kind == "A" else (matrix.shape[0], lora.rank)
        if tuple(tensor.shape) != expected:
            raise WeightsError(str(path), f"{name[:80]!r} is {tuple(tensor.shape)} instead of {expected}", fix)


def adapters_header(path: Path) -> dict[str, Any]:
    """Return the header of a file of adapters.

    Raises
    ------
    WeightsError
        If it is damaged or of another format.
    """
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, framework="pt") as handle:
            header = from_plain(dict[str, Any], parse_json((handle.metadata() or {}).get("esmcls", "{}")))
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise WeightsError(str(path), f"cannot be read ({type(error).__name__})", "copy the folder anew") from None
    if header.get("format") != FORMAT:
        raise WeightsError(str(path), f"format {header.get('format')!r:.40} instead of {FORMAT!r}", "update esmcls")
    return header

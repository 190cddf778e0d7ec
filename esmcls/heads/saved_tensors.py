"""Tensors of a model folder, read as what was declared: their names, dtypes and shapes, all of them finite."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.errors import ModelError
from esmcls.files import refuse_what_is_no_file
from esmcls.types import Indices

Shapes: TypeAlias = Mapping[str, tuple[str, ...]]
"""Name of a tensor to its dtype and the names of its axes; axes of one name are of one size, in all tensors."""
MOST_RATIO: Final = 1100
"""Of text to its packed bytes: no more can come of zlib."""
AGAIN: Final = "copy the model folder anew, or fit again"


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors, of whatever device and layout, as safetensors."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, path)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file, in memory of their own, which is aligned.

    Raises
    ------
    ModelError
        If the file is damaged, or a number in it is not finite.
    """
    try:
        refuse_what_is_no_file(path)
        state = {name: tensor.clone() for name, tensor in load_file(path).items()}  # a mapped file is not aligned
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelError(path, f"cannot be read ({str(error)[:160]})", AGAIN) from None
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(path, f"{name[:40]!r} holds NaN or infinity", AGAIN)
    return state


def read_tensors(path: Path, shapes: Shapes, **sizes: int) -> dict[str, Tensor]:
    """Return the tensors that are declared.

    Parameters
    ----------
    path : Path
    shapes : Shapes
    **sizes
        Of axes that are known; of others the first tensor decides.

    Raises
    ------
    ModelError
        If one is missing, of another dtype or shape, or not finite.
    """
    state = read_state(path)
    for name, (dtype, *axes) in shapes.items():
        tensor = state.get(name)
        if tensor is None:
            raise ModelError(path, f"lacks {name!r}", AGAIN)
        if tensor.dtype != getattr(torch, dtype) or tensor.dim() != len(axes):
            problem = f"{name!r} is {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            raise ModelError(path, f"{problem} instead of {dtype} ({', '.join(axes)})", AGAIN)
        for axis, size in zip(axes, tensor.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ModelError(path, f"{name!r} has {size} for {axis} instead of {sizes[axis]}", AGAIN)
    return {name: state[name] for name in shapes}


def check_codes(path: Path, codes: Indices, n_classes: int, least: int = 0) -> Indices:
    """Return class codes, having made sure that each is one of so many classes.

    Raises
    ------
    ModelError
        If one is not.
    """
    if len(codes) and not (least <= int(codes.min()) and int(codes.max()) < n_classes):
        raise ModelError(path, f"a class code that is none of the {n_classes}", AGAIN)
    return codes


def check_rows(path: Path, rows: int, expected: int) -> None:
    """Make sure that a file is of as many rows as the others of its model.

    Raises
    ------
    ModelError
        If it is not.
    """
    if rows != expected:
        raise ModelError(path, f"{rows:,} rows instead of {expected:,}", AGAIN)


def pack_sequences(sequences: Sequence[str]) -> Tensor:
    """Return sequences as uint8, one a line, through zlib."""
    packed = zlib.compress("\n".join(sequences).encode("ascii"))
    return torch.from_numpy(np.frombuffer(packed, dtype=np.uint8).copy())


def unpack_sequences(path: Path, packed: Tensor) -> list[str]:
    """Return the sequences that `pack_sequences` packed, of a file.

    Raises
    ------
    ModelError
        If they are damaged.

    Examples
    --------
    >>> unpack_sequences(Path("homology.safetensors"), pack_sequences(["MKTAYIA", "ACD"]))
    ['MKTAYIA', 'ACD']
    """
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed.numpy().tobytes(), MOST_RATIO * len(packed)).decode("ascii")
    except (zlib.error, ValueError) as error:
        raise ModelError(path, f"the sequences are damaged ({error})", AGAIN) from None
    if not unpacking.eof:
        raise ModelError(path, "the sequences are cut off, or packed beyond all bounds", AGAIN)
    targets = text.split("\n")
    if not all(target.isalpha() for target in targets):
        raise ModelError(path, "a sequence with a sign that is no residue", AGAIN)
    return targets

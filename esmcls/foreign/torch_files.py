"""PyTorch's .pt and .bin: read without running what is pickled in them, and no larger than they are.

Since PyTorch 1.6 such a file is a ZIP file whose members are not packed; one that is would unpack to any size. A tensor
may be a view that shows few numbers as very many, which become real in the first copy.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from esmcls.files import refuse_what_is_no_file

_OF_ZIP: Final = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError)
_NAMED: Final = re.compile(r"GLOBAL ([\w.]+)", re.ASCII)
"""How torch names a class or function that it does not call."""
_DEEPEST: Final = 32
"""Levels of dictionaries and lists; states of optimizers have five."""


class CodeError(ValueError):
    """A file that would run code as it is read."""


def read_torch(path: Path, safe: Sequence[Any] = ()) -> object:
    """Return what a file of PyTorch holds, in memory of the CPU.

    Parameters
    ----------
    path : Path
    safe : sequence of types
        That it may hold besides tensors and plain values.

    Raises
    ------
    OSError
        If the system does not give it.
    CodeError
        If more is pickled in it than tensors and plain values, and what else is safe: none of it is run.
    ValueError
        If it is no such file, is damaged, packed or nested too deep, or a tensor claims more than it holds.
    """
    refuse_what_is_no_file(path)
    return _read(path, path.stat().st_size, safe)


def read_torch_bytes(data: bytes, safe: Sequence[Any] = ()) -> object:
    """Return what such a file holds of which these are the bytes; see `read_torch`."""
    return _read(io.BytesIO(data), len(data), safe)


def _read(source: Path | IO[bytes], size: int, safe: Sequence[Any]) -> object:
    _check_archive(source, size)
    if not isinstance(source, Path):
        source.seek(0)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(safe)):
            warnings.simplefilter("ignore")  # of pickles of other protocols, which it then refuses
            content: object = torch.load(source, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        name = _NAMED.search(str(error))
        what = f" ({name[1]:.80})" if name else ""
        raise CodeError(f"more than tensors is pickled in it{what}, which would run code and is not read") from None
    except Exception as error:  # torch raises whatever a damaged or malicious file makes it raise
        raise ValueError(next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]) from None
    _check_content(content, _DEEPEST)
    return content


def _check_archive(source: Path | IO[bytes], size: int) -> None:
    """Refuse a ZIP file that holds more than it has bytes; a file of another kind is an older one."""
    try:
        if not zipfile.is_zipfile(source):
            return
        with zipfile.ZipFile(source) as file:
            members = file.infolist()
    except _OF_ZIP as error:
        raise ValueError(str(error)) from None
    if any(info.compress_type != zipfile.ZIP_STORED for info in members):
        raise ValueError("it is packed, which PyTorch's files are not")
    if sum(info.file_size for info in members) > size:
        raise ValueError("its members claim more bytes than it has")


def _check_content(value: object, deepest: int) -> None:
    if isinstance(value, Tensor):
        _check_tensor(value)
        return
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if items and not deepest:
        raise ValueError("nested too deep")
    for item in items:
        _check_content(item, deepest - 1)


def _check_tensor(tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("a tensor without numbers of its own, or in another form than rows of them")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor claims {tensor.numel():,} numbers, but holds fewer")

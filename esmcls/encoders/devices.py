"""The abilities of a device: its precisions, its memory, and how to keep torch from shortcuts."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

import torch

from esmcls.errors import UsageError

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


LOG: Final = logging.getLogger("esmcls")
"""Takes lines for people; the commands show them, in a program they go where it sends its log."""
LOG.addHandler(logging.NullHandler())


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision to compute in; `auto` is bf16 where the hardware has it, else fp32.

    Any other is returned as it is, on any hardware: see `is_emulated`.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    if precision == "auto":
        return "fp32" if is_emulated("bf16", device) else "bf16"
    check_precision(precision)
    return next(known for known in PRECISIONS if known == precision)


def check_precision(precision: str) -> None:
    """Raise UsageError if a precision is unknown."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from auto, {', '.join(PRECISIONS)}")


def is_emulated(precision: Precision, device: torch.device) -> bool:
    """Tell whether a precision's products are made of fp32 ones: numbers rounded as it says, multiplied in fp32."""
    return precision not in hardware_precisions(device)


def note_emulation(precision: Precision, device: torch.device) -> None:
    """Say, where it is so, that vectors of a precision are made without the hardware for it."""
    if is_emulated(precision, device):
        how = "emulated in fp32, with vectors that differ by rounding alone"
        _say(f"this {_kind(device)} lacks {precision}: {how}")


def refuse_slow_int8(precision: str, device: torch.device) -> None:
    """Refuse to begin with int8 vectors where int8 is emulated; what was begun elsewhere goes on, emulated.

    Raises
    ------
    UsageError
        If nothing is gained by it here.
    """
    if precision == "int8" and is_emulated("int8", device):
        lacks = f"this {_kind(device)} has no fast products of int8{' (VNNI)' if device.type == 'cpu' else ''}"
        raise UsageError(f"--precision int8: {lacks}, so that it takes longer than fp32; leave --precision out")


def note_fp32_training(precision: Precision, device: torch.device) -> None:
    """Say, where it is so, that training in a precision computes in fp32."""
    if is_emulated(precision, device):
        _say(f"this {_kind(device)} lacks {precision}: training computes in fp32")


def _say(line: str) -> None:
    """Log a line; of processes that train together, the first does."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not (together and torch.distributed.get_rank()):
        LOG.warning(line)


def _kind(device: torch.device) -> str:
    return "processor" if device.type == "cpu" else "GPU"


def hardware_precisions(device: torch.device) -> frozenset[Precision]:
    """Return the precisions that a device has instructions for, and torch uses them: what tests fake."""
    precisions: set[Precision] = {"fp32"}
    if device.type == "cuda":
        precisions |= {"fp16"}
        precisions |= {"bf16"} if torch.cuda.is_bf16_supported(including_emulation=False) else set()
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precisions |= {"bf16"} if instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
        precisions |= {"int8"} if multiplies_int8_exactly() else set()
    return frozenset(precisions)


@lru_cache(maxsize=1)
def multiplies_int8_exactly() -> bool:
    """Tell whether torch's product of int8 matrices is fast and right.

    Without VNNI it is a plain loop, a twentieth as fast as fp32, or the sums of two are cut off at 2^15.
    """
    if not torch.cpu._is_vnni_supported():
        return False
    largest = torch.full((64, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest) == 64 * 127**2).all())


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks instead of handing their pages back, which costs a page fault each.

    glibc raises its thresholds to the largest block of up to 32 MiB that was unmapped (mallopt(3),
    M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    block = torch.empty((32 << 20) - (1 << 16), dtype=torch.uint8)
    del block


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is a lack of memory; torch has a class for CUDA's alone."""
    message = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in message for words in ("out of memory", "can't allocate", "not enough memory")
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be had on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError, StopIteration), open("/proc/meminfo", encoding="ascii") as lines:
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    if sys.platform == "win32":
        return sys.maxsize  # it does not say; what is too much raises an error of its own
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Compute fp32 products in fp32, whatever shortcut (TF32, bf16) the program has allowed elsewhere."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

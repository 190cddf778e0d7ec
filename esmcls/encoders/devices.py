"""The abilities of a device: its precisions, its memory, and how to keep torch from shortcuts."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, get_args

import torch

from esmcls.errors import UsageError

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision to compute in; `auto` is bf16 where the hardware has it, else fp32.

    Raises
    ------
    UsageError
        If it is unknown or the device does not have it.
    """
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    check_precision(precision, device)
    return next(known for known in PRECISIONS if known == precision)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UsageError if a precision is unknown or a device cannot compute in it."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from auto, {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type != "cuda":
        raise UsageError("precision 'fp16' needs a CUDA device; use bf16 or fp32")
    if precision == "int8" and device.type != "cpu":
        raise UsageError("precision 'int8' is for CPUs; use bf16 or fp16")


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bf16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


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

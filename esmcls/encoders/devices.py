"""The abilities of a device: its precisions, its memory, and how to keep torch from shortcuts."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import torch

from esmcls.encoders.processor.int8 import adds_up_bytes
from esmcls.errors import UsageError

Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8", "fp8"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


LOG: Final = logging.getLogger("esmcls")
"""Takes lines for people; the commands show them, in a program they go where it sends its log."""
LOG.addHandler(logging.NullHandler())


OLDEST_TENSOR_CORES: Final = (7, 0)
"""Compute capability from which a GPU multiplies fp16 several times faster than fp32 (V100, T4)."""
_OF_BUILD: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")
"""Instructions (`sm`) or portable code (`compute`) of a build: generation, member, and what is that one's alone."""
OLDEST_FP8: Final = (8, 9)
"""Compute capability from which a GPU multiplies fp8 (L4, RTX 40, H100)."""
OLDER_GPUS: Final = "pip install torch --index-url https://download.pytorch.org/whl/cu126"
"""Installs the last of torch's wheels with code for GPUs before Turing (7.5): up to 2.14 (pytorch issue 190385)."""
_NO_MEMORY: Final = (
    *("out of memory", "can't allocate", "not enough memory"),
    *("cublas_status_alloc_failed", "cudnn_status_alloc_failed", "cusolver_status_alloc_failed"),
    *("cublas_status_not_initialized", "hiperroroutofmemory"),  # a library without room for itself
)
"""What errors say that are a lack of memory, in lower case."""


def choose_precision(precision: str, device: torch.device, *, training: bool = False) -> Precision:
    """Return the precision to compute in; `auto` is the fastest that the hardware has: bf16, fp16 or fp32.

    fp16 is taken for vectors alone: losses need bf16's range, or a scale that somebody has asked for.
    Any other than `auto` is returned as it is, on any hardware: see `is_emulated`.

    Raises
    ------
    UsageError
        If it is unknown.
    """
    if precision == "auto":
        if not is_emulated("bf16", device):
            return "bf16"
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= OLDEST_TENSOR_CORES
        return "fp16" if fast and not training and not is_emulated("fp16", device) else "fp32"
    check_precision(precision)
    return next(known for known in PRECISIONS if known == precision)


def check_precision(precision: str) -> None:
    """Raise UsageError if a precision is unknown."""
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from auto, {', '.join(PRECISIONS)}")


def is_emulated(precision: Precision, device: torch.device) -> bool:
    """Tell whether a precision's products are made of fp32 ones: numbers rounded as it says, multiplied in fp32."""
    return precision not in hardware_precisions(device)


def device_name(device: torch.device) -> str:
    """Return a device as people know it: `cuda:0 (NVIDIA H100 80GB HBM3)`, `cpu (AMD EPYC 9655, AVX512)`.

    Examples
    --------
    >>> device_name(torch.device("mps"))
    "mps (Apple's GPU)"
    """
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return f"{device} (Apple's GPU)"
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{device} ({processor_name()}{'' if instructions == 'DEFAULT' else f', {instructions}'})"


@lru_cache(maxsize=1)
def processor_name() -> str:
    """Return the processor's name as the system has it."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def note_processor(precision: Precision, device: torch.device) -> None:
    """Say what a processor is called and what it computes in, once it does; of a GPU the commands say so beforehand."""
    if device.type == "cpu" and LOG.isEnabledFor(logging.INFO) and _is_first():
        LOG.info("on %s: %s", device_name(device), precision)


def note_emulation(precision: Precision, device: torch.device) -> None:
    """Say, where it is so, that vectors of a precision are made without the hardware for it."""
    if is_emulated(precision, device):
        how = "emulated in fp32, with vectors that differ by rounding alone"
        say(f"this {_kind(device)} lacks {precision}: {how}")


def why_slow(precision: str, device: torch.device) -> str | None:
    """Return why int8 or fp8 vectors are not to be begun on a device that emulates them; None where they may be."""
    slow: Precision
    for slow, needed in (("int8", " (AVX2)" if device.type == "cpu" else ""), ("fp8", " (GPUs from L4 and H100 on)")):
        if precision == slow and is_emulated(slow, device):
            lacks = f"this {_kind(device)} has no fast products of {slow}{needed}"
            return f"--precision {slow}: {lacks}, so that it takes longer than fp32; leave --precision out"
    return None


def note_fp32_training(precision: Precision, device: torch.device) -> None:
    """Say, where it is so, that training in a precision computes in fp32."""
    if is_emulated(precision, device):
        say(f"this {_kind(device)} lacks {precision}: training computes in fp32")


def say(line: str) -> None:
    """Log a line; of processes that train together, the first does."""
    if _is_first():
        LOG.warning(line)


def _is_first() -> bool:
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not (together and torch.distributed.get_rank())


def _kind(device: torch.device) -> str:
    return "processor" if device.type == "cpu" else "GPU"


def hardware_precisions(device: torch.device) -> frozenset[Precision]:
    """Return the precisions that a device has instructions for, and torch uses them: what tests fake."""
    precisions: set[Precision] = {"fp32"}
    if device.type == "cuda":
        precisions |= {"fp16"}
        precisions |= {"bf16"} if torch.cuda.is_bf16_supported(including_emulation=False) else set()
        precisions |= {"fp8"} if multiplies_fp8_by_row(device) else set()
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precisions |= {"bf16"} if instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
        precisions |= {"int8"} if adds_up_bytes() else set()
    return frozenset(precisions)


def multiplies_fp8_by_row(device: torch.device) -> bool:
    """Tell whether torch has a product of fp8 rows for a CUDA device; its builds for Windows and ROCm have none."""
    built = torch.version.hip is None and sys.platform != "win32"
    return built and torch.cuda.get_device_capability(device) >= OLDEST_FP8


@lru_cache(maxsize=1)
def multiplies_int8_exactly() -> bool:
    """Tell whether torch's product of int8 matrices is fast and right.

    Without VNNI it is a plain loop, a twentieth as fast as fp32, or the sums of two are cut off at 2^15.
    """
    if not torch.cpu._is_vnni_supported():
        return False
    largest = torch.full((64, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest) == 64 * 127**2).all())


def lacking_build(number: int) -> str | None:
    """Return why the torch that is installed cannot run on a CUDA device, and what to install; None where it can.

    Instructions run on the later members of their generation too, portable code on every later GPU (CUDA C++
    Programming Guide, "Compute Capabilities").
    """
    built = torch.cuda.get_arch_list()
    codes = [match.groups() for match in map(_OF_BUILD.fullmatch, built) if match is not None]
    major, minor = torch.cuda.get_device_capability(number) if codes else (0, 0)
    for kind, generation, member, own in codes:
        same = int(generation) == major
        if own == "a":
            fits = same and int(member) == minor
        elif kind == "sm" or own:
            fits = same and int(member) <= minor
        else:
            fits = (int(generation), int(member)) <= (major, minor)
        if fits:
            return None
    if not codes:  # of another kind than CUDA's: ROCm runs nothing that it does not know
        return None
    install = (
        OLDER_GPUS if (major, minor) < (7, 5) else "install a newer torch: https://pytorch.org/get-started/locally"
    )
    name = torch.cuda.get_device_name(number)
    has = f"has no instructions for {name} (sm_{major}{minor}), only for {', '.join(built)}"
    return f"the torch that is installed {has}; {install}"


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks instead of handing their pages back, which costs a page fault each.

    glibc raises its thresholds to the largest block of up to 32 MiB that was unmapped (mallopt(3),
    M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    block = torch.empty((32 << 20) - (1 << 16), dtype=torch.uint8)
    del block


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error is a lack of memory; torch has a class for CUDA's alone, and not for its libraries'."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in message for words in _NO_MEMORY)


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
    """Compute fp32 products in fp32, whatever shortcut (TF32, bf16) the program has allowed elsewhere, by either API.

    torch refuses to read by its older API what was set by the newer one, which has a setting for each kind of device;
    so these are read first, and written last.
    """
    cuda = torch.backends.cuda.matmul
    processor = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = cuda.fp32_precision, processor.fp32_precision
    cuda.fp32_precision = processor.fp32_precision = "ieee"
    older = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        cuda.fp32_precision, processor.fp32_precision = before

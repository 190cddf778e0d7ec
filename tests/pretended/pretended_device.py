"""A device that a torch without CUDA takes for CUDA, or Apple's: real values, computed by the CPU, under its rules.

A pytest plugin, loaded before torch is: `PRETENDED_DEVICE=cuda pytest -p pretended_device tests/pretended/...`, which
`tests/test_pretended.py` does for each file of this folder. `device.cpp` makes autograd accept tensors that say they
are on the device; each of them holds a CPU tensor, and `Pretended`, a mode in which all operations go by, refuses what
the device would: tensors of two devices, float64 on MPS, flash attention of the wrong shapes. It counts kernels, bytes,
synchronisations and copies on the way, knows how many bytes are held, and is out of memory at a limit.

It knows nothing of numerics, asynchrony, NCCL and fragmentation: the tests marked `gpu` do.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from pretended_library import KIND  # before torch

import torch  # isort: skip
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device(KIND, 0)


class _NoGrad(torch.no_grad):
    """Stands in for inference mode, which takes composite operations to pieces before a mode sees them."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()


torch.inference_mode = _NoGrad  # type: ignore[misc,assignment]
torch.autograd.grad_mode.inference_mode = _NoGrad  # type: ignore[misc,assignment]


class OnDevice(Tensor):
    """A tensor that says it is on the device; `values` are on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
        )
        return made

    def __init__(self, values: Tensor) -> None:
        self.values = values
        _hold(values, self)

    def __repr__(self, **options: Any) -> str:
        return f"OnDevice({self.values!r})"

    def tolist(self) -> Any:
        current().synchronised("tolist")
        return self.values.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return current().run(func, args, kwargs or {})


_current: Pretended | None = None
_held: dict[int, tuple[int, int]] = {}
"""Of each storage, by its address: how many tensors hold it, and its bytes."""


def current() -> Pretended:
    """Return the device under test."""
    assert _current is not None, "a tensor is used after its device is gone"
    return _current


def _hold(values: Tensor, holder: OnDevice) -> None:
    storage = values.untyped_storage()
    address, size = storage.data_ptr(), storage.nbytes()
    if not size:
        return
    holders, _ = _held.get(address, (0, size))
    _held[address] = (holders + 1, size)
    if not holders and _current is not None:
        _current.held += size
        _current.peak = max(_current.peak, _current.held)
    weakref.finalize(holder, _drop, address, storage)


def _drop(address: int, storage: Any) -> None:
    holders, size = _held.pop(address)
    if holders > 1:
        _held[address] = (holders - 1, size)
    elif _current is not None:
        _current.held -= size


_WAIT = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "is_nonzero"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_MOVING = {"copy_", "_to_copy", "_copy_from", "set_", "lift_fresh"}
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "_unsafe_view"}


class Pretended(TorchDispatchMode):
    """The device: what was run on it, and what it refuses.

    Parameters
    ----------
    capability : tuple of int
        Of CUDA, such as (9, 0).
    limit : int, optional
        Bytes that it can hold; beyond, it is out of memory.
    """

    def __init__(self, capability: tuple[int, int] = (9, 0), limit: int | None = None) -> None:
        super().__init__()
        self.capability, self.limit = capability, limit
        self.held = self.peak = 0
        self.kernels: Counter[str] = Counter()  # launches, by operation
        self.bytes: Counter[str] = Counter()  # read and written, by operation
        self.waits: Counter[str] = Counter()  # synchronisations, by operation and line
        self.to_device: Counter[str] = Counter()  # bytes copied, by line
        self.to_host: Counter[str] = Counter()
        self.overloads: set[str] = set()  # names of native_functions.yaml

    def synchronised(self, name: str) -> None:
        """Note that the host waited for the device."""
        self.waits[f"{name} @ {site()}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Compute an operation on the values that are held, if the device would."""
        name = func._schema.name.removeprefix("aten::")
        tensors = [value for value in leaves((args, kwargs)) if isinstance(value, Tensor)]
        here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        asked = kwargs.get("device")
        asked = None if asked is None else torch.device(asked)
        makes_here = asked is not None and asked.type == KIND
        if not here and not makes_here:
            pinned = kwargs.pop("pin_memory", None)
            made = func(*args, **kwargs)
            return _pinned(made) if pinned else made
        if name in KERNELS:
            return KERNELS[name](
                self, dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
            )
        self._refuse(name, args, kwargs, tensors)
        self._note_moves(name, args, here, asked)
        plain = mapped(lambda value: value.values if isinstance(value, OnDevice) else value, (args, kwargs))
        if makes_here:
            plain[1]["device"] = torch.device("cpu")
        plain[1].pop("pin_memory", None)
        result = func(*plain[0], **plain[1])
        self._count(name, func, args, kwargs, result)
        stays_here = makes_here if asked is not None else bool(here)
        if name == "copy_":
            stays_here = isinstance(args[0], OnDevice)
        if not stays_here:
            return result
        storages = {one.untyped_storage().data_ptr(): one for one in leaves(result) if isinstance(one, Tensor)}
        more = sum(one.untyped_storage().nbytes() for address, one in storages.items() if address not in _held)
        if self.limit is not None and self.held + more > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. (pretended)")
        return self._wrapped(func, name, args, kwargs, result)

    def _wrapped(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> Any:
        wrapped = mapped(lambda value: OnDevice(value) if isinstance(value, Tensor) else value, result)
        if not (func.is_view or func._schema.is_mutable or name in _FREE):
            return wrapped
        try:
            return return_and_correct_aliasing(func, args, kwargs, wrapped)
        except Exception:  # an operation that returns nothing that it was given
            first = func._schema.arguments[0].alias_info
            return args[0] if func._schema.is_mutable and first is not None and first.is_write else wrapped

    def _refuse(self, name: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        others = [one for one in tensors if not isinstance(one, OnDevice)]
        elsewhere = [one for one in others if one.dim() and one.device.type != "meta"]
        if name in _INDEXING and isinstance(args[0], OnDevice):
            places = [place for place in args[1] or [] if isinstance(place, Tensor)]
            elsewhere = [tensor for tensor in elsewhere if all(tensor is not place for place in places)]
            if any(not isinstance(place, OnDevice) or place.dtype == torch.bool for place in places):
                self.synchronised(name)  # a mask is counted, a place of the CPU is copied
        if elsewhere and name not in _MOVING and len(others) < len(tensors):
            line = "Expected all tensors to be on the same device, but found at least two devices"
            raise RuntimeError(f"{line}, {DEVICE} and cpu! ({name}, {site()})")
        if KIND == "mps" and torch.float64 in self._made(name, args, kwargs):
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype: no float64 ({name}, {site()})")
        if name in ("mm", "addmm", "bmm", "baddbmm") and not tensors[-1].dtype.is_floating_point:
            raise RuntimeError(f'"{name}_cuda" not implemented for {tensors[-1].dtype}')

    def _made(self, name: str, args: Any, kwargs: Any) -> set[torch.dtype]:
        """Return the dtypes of what is on the device, or would be afterwards."""
        asked, device = kwargs.get("dtype"), kwargs.get("device")
        if name == "_to_copy":
            leaves_it = device is not None and torch.device(device).type == "cpu"
            return set() if leaves_it else {asked or args[0].dtype}
        here = {value.dtype for value in leaves((args, kwargs)) if isinstance(value, OnDevice)}
        return here if asked is None else here | {asked}

    def _note_moves(self, name: str, args: Any, here: list[OnDevice], asked: torch.device | None) -> None:
        if name in _WAIT:
            self.synchronised(name)
        if name == "copy_":
            target, source = args[0], args[1]
        elif name == "_to_copy" and asked is not None:
            source, target = args[0], None
        else:
            return
        comes = not isinstance(source, OnDevice)
        goes = asked is not None and asked.type == "cpu" if target is None else not isinstance(target, OnDevice)
        size = source.numel() * source.element_size()
        if comes and source.dim():
            self.to_device[site()] += size
        if goes and not comes:
            self.to_host[site()] += size
            if not (name == "copy_" and args[2:] == (True,) and getattr(target, "pinned", False)):
                self.synchronised(name)

    def _count(self, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        self.overloads.add(str(func).removeprefix("aten.").removesuffix(".default"))
        if func.is_view or name in _FREE or name == "_local_scalar_dense":
            return
        read = {id(value): value for value in leaves((args, kwargs)) if isinstance(value, Tensor)}
        written = {id(value): value for value in leaves(result) if isinstance(value, Tensor)}
        fills = name in ("fill_", "zero_", "zeros_like", "ones_like", "full_like")
        self.kernels[name] += 1
        self.bytes[name] += sum(map(_size, written.values())) + (0 if fills else sum(map(_size, read.values())))


def _pinned(tensor: Tensor) -> Tensor:
    """Mark a tensor of the host: what is copied to it without blocking is not waited for."""
    tensor.pinned = True  # type: ignore[attr-defined]
    return tensor


def leaves(values: Any) -> list[Any]:
    """Return what nested tuples, lists and dictionaries hold."""
    if isinstance(values, (tuple, list)):
        return [leaf for value in values for leaf in leaves(value)]
    return leaves(list(values.values())) if isinstance(values, dict) else [values]


def mapped(change: Callable[[Any], Any], values: Any) -> Any:
    """Return nested tuples, lists and dictionaries with each of their leaves changed."""
    if isinstance(values, (tuple, list)):
        return type(values)([mapped(change, value) for value in values])
    if isinstance(values, dict):
        return {name: mapped(change, value) for name, value in values.items()}
    return change(values)


def _size(tensor: Tensor) -> int:
    """Return the bytes of a tensor, repeated ones counted once."""
    numbers = 1
    for length, stride in zip(tensor.size(), tensor.stride(), strict=True):
        numbers *= length if stride else 1
    return numbers * tensor.element_size()


def site() -> str:
    """Return the line of the package that the present operation is of."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if "/esmcls/" in path or "/peft/" in path:
            return f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


def _flash(device: Pretended, told: dict[str, Any]) -> Any:
    """Attend within sequences as flash attention does, and refuse what it refuses."""
    query, key, value = (told[name] for name in ("query", "key", "value"))
    offsets, scale = told["cu_seq_q"], told.get("scale") or query.shape[-1] ** -0.5
    if device.capability < (8, 0):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    if query.dtype not in (torch.float16, torch.bfloat16) or not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if query.shape[-1] % 8 or query.shape[-1] > 256:
        raise RuntimeError(f"head_size must be a multiple of 8 up to 256, got {query.shape[-1]}")
    if offsets.dtype != torch.int32 or not isinstance(told["max_q"], int):
        raise RuntimeError("cu_seqlens must have dtype int32, and max_q must be int")
    if any(one.stride(-1) != 1 for one in (query, key, value)):
        raise RuntimeError("Input tensor must have contiguous last dimension")
    mixed = torch.empty_like(value.values)
    for rows, weights in _scores(query, key, offsets, scale):
        mixed[rows] = (weights @ value.values[rows].transpose(0, 1).float()).transpose(0, 1).to(mixed.dtype)
    device.kernels["varlen_attn"] += 1
    device.bytes["varlen_attn"] += 4 * _size(query)
    return OnDevice(mixed), OnDevice(torch.zeros(query.shape[1], len(query))), OnDevice(torch.zeros(2))


def _scores(query: OnDevice, key: OnDevice, offsets: OnDevice, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Give the rows of each sequence and its softmax, (heads, length, length)."""
    ends = offsets.values.tolist()
    for start, end in pairwise(ends):
        rows = slice(start, end)
        query_rows, key_rows = (one.values[rows].transpose(0, 1).float() for one in (query, key))
        yield rows, (query_rows @ key_rows.mT * scale).softmax(-1)


def _flash_backward(device: Pretended, told: dict[str, Any]) -> Any:
    gradients = _gradients(told, told["grad_out"], told["cu_seq_q"])
    device.kernels["varlen_attn_backward"] += 1
    device.bytes["varlen_attn_backward"] += 8 * _size(told["query"])
    return tuple(map(OnDevice, gradients))


def _gradients(told: dict[str, Any], into: OnDevice, offsets: OnDevice) -> list[Tensor]:
    """Give the gradients of query, key and value, (total, heads, head width) each."""
    query, key, value = (told[name] for name in ("query", "key", "value"))
    scale = told.get("scale") or query.shape[-1] ** -0.5
    gradients = [torch.empty_like(one.values) for one in (query, key, value)]
    for rows, weights in _scores(query, key, offsets, scale):
        q, k, v, g = (one.values[rows].transpose(0, 1).float() for one in (query, key, value, into))
        inner = g @ v.mT
        inner = weights * (inner - (inner * weights).sum(-1, keepdim=True)) * scale
        for gradient, part in zip(gradients, (inner @ k, inner.mT @ q, weights.mT @ g), strict=True):
            gradient[rows] = part.transpose(0, 1).to(gradient.dtype)
    return gradients


def _efficient(device: Pretended, told: dict[str, Any]) -> Any:
    """Attend within the sequences of a batch of one, as torch's memory-efficient kernel does with offsets."""
    query, key, value = (told[name] for name in ("query", "key", "value"))
    offsets, longest = told["cu_seqlens_q"], told["max_seqlen_q"]
    if query.dim() != 4 or len(query) != 1 or not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("cu_seqlen only supports batch_size=1 of one dtype")
    if offsets.dtype != torch.int32 or longest < int(offsets.values.diff().max()):
        raise RuntimeError("cu_seqlens must be int32, and max_seqlen at least the longest")
    rows_of = {name: OnDevice(told[name].values[0]) for name in ("query", "key", "value")}
    mixed = torch.empty_like(rows_of["value"].values)
    for rows, weights in _scores(
        rows_of["query"], rows_of["key"], offsets, told.get("scale") or query.shape[-1] ** -0.5
    ):
        mixed[rows] = (weights @ rows_of["value"].values[rows].transpose(0, 1).float()).transpose(0, 1).to(mixed.dtype)
    device.kernels["efficient_attention"] += 1
    device.bytes["efficient_attention"] += 4 * _size(query)
    seed, place = (OnDevice(torch.zeros((), dtype=torch.int64)) for _ in range(2))
    kept = OnDevice(torch.zeros(int(told.get("compute_log_sumexp", False))))
    return OnDevice(mixed[None]), kept, seed, place, longest, longest


def _efficient_backward(device: Pretended, told: dict[str, Any]) -> Any:
    if not len(told["logsumexp"]):
        raise RuntimeError("logsumexp was not computed")
    rows_of = {name: OnDevice(told[name].values[0]) for name in ("query", "key", "value", "grad_out_")}
    gradients = _gradients({**told, **rows_of}, rows_of["grad_out_"], told["cu_seqlens_q"])
    device.kernels["efficient_attention_backward"] += 1
    return *(OnDevice(gradient[None]) for gradient in gradients), OnDevice(torch.zeros(0))


def _scaled_product(device: Pretended, told: dict[str, Any]) -> Any:
    """Multiply fp8 rows scaled one by one as `_scaled_mm` does, and refuse what it refuses (_meta_registrations.py)."""
    rows, across, rows_scales, across_scales = (told[name] for name in ("self", "mat2", "scale_a", "scale_b"))
    bias, made = told["bias"], told["out_dtype"]
    if device.capability < (8, 9):
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9")
    if {rows.dtype, across.dtype} != {torch.float8_e4m3fn} or {made, bias.dtype} != {torch.bfloat16}:
        raise RuntimeError("Expected e4m3 rows, and bias and result in bf16")
    if rows.stride() != (rows.shape[1], 1) or across.stride() != (1, across.shape[0]):
        raise RuntimeError("self must be row_major, mat2 must be col_major")
    if across.shape[0] % 16 or across.shape[1] % 16:
        raise RuntimeError("Expected both dimensions of mat2 to be divisible by 16")
    scales = rows_scales.dtype, across_scales.dtype, *rows_scales.shape, *across_scales.shape
    if scales != (torch.float32, torch.float32, len(rows), 1, 1, across.shape[1]):
        raise RuntimeError("For rowwise scaling, scale_a should be (rows, 1), scale_b should be (1, columns)")
    sums = rows.values.float() @ across.values.float() * rows_scales.values * across_scales.values
    device.kernels["_scaled_mm"] += 1
    device.bytes["_scaled_mm"] += sum(map(_size, (rows, across))) + 2 * sums.numel()
    return OnDevice((sums + bias.values.float()).to(made))


KERNELS: dict[str, Callable[[Pretended, dict[str, Any]], Any]] = {
    "torch_attn::_varlen_attn": _flash,
    "torch_attn::_varlen_attn_backward": _flash_backward,
    "_efficient_attention_forward": _efficient,
    "_efficient_attention_backward": _efficient_backward,
    "_scaled_mm": _scaled_product,
}
"""What the CPU has no kernel for: how it is computed."""


def without_kernel(overloads: set[str], key: str = KIND.upper()) -> set[str]:
    """Return the operations of `Pretended.overloads` that torch has no kernel for on a backend, by its own table."""
    import torchgen
    from torchgen.gen import parse_native_yaml
    from torchgen.model import DispatchKey

    root = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    parsed = parse_native_yaml(str(root / "native_functions.yaml"), str(root / "tags.yaml"))
    names = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd", key)
    indices = [parsed.backend_indices[one] for one in map(DispatchKey.parse, names) if one in parsed.backend_indices]
    by_name = {str(function.func.name): function for function in parsed.native_functions}
    lacking = set()
    for name in overloads & by_name.keys():
        function = by_name[name]
        if function.structured_delegate is not None:
            function = by_name[str(function.structured_delegate)]
        if not any(index.has_kernel(function) for index in indices):
            lacking.add(name)
    return lacking


@contextlib.contextmanager
def pretended(
    capability: tuple[int, int] = (9, 0),
    *,
    limit: int | None = None,
    total: int = 80 << 30,
    kernels: Collection[str] = ("flash", "efficient"),
    built: Sequence[str] = ("sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
) -> Iterator[Pretended]:
    """Have the device for a while.

    Parameters
    ----------
    capability : tuple of int
        Of CUDA.
    limit, total : int
        Bytes beyond which it is out of memory, and bytes that it says it has.
    kernels : collection of {"flash", "efficient"}
        Of attention, that torch was built with.
    built : sequence of str
        What else it was built with: `torch.cuda.get_arch_list`.
    """
    global _current
    device = Pretended(capability, limit)
    before, _current = _current, device
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    with contextlib.ExitStack() as stack:
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        module = torch.cuda if KIND == "cuda" else torch.mps
        for name, replacement in _module(device, total, built).items():
            stack.enter_context(mock.patch.object(module, name, replacement, create=True))
        if KIND == "mps":
            stack.enter_context(mock.patch.object(torch.backends.mps, "is_available", return_value=True))
            stack.enter_context(mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _attend))
        stack.enter_context(mock.patch.object(torch, "save", _saving(torch.save)))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda tensor: _pinned(tensor)))
        for name, kernel in (("is_flash_attention_available", "flash"), ("can_use_efficient_attention", "efficient")):
            there = kernel in kernels
            stack.enter_context(mock.patch.object(torch.backends.cuda, name, lambda *_, there=there: there))
        stack.enter_context(device)
        try:
            yield device
        finally:
            _current = before


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """Stand in for a function that asks C++ which of a device's kernels to take."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    return scores.softmax(-1) @ value


def _module(device: Pretended, total: int, built: Sequence[str]) -> dict[str, Any]:
    """Return what torch.cuda, or torch.mps, says of the device."""
    major, minor = device.capability
    about = SimpleNamespace(major=major, minor=minor, name="Pretended", total_memory=total, multi_processor_count=132)
    event = SimpleNamespace(synchronize=lambda: device.synchronised("event"))
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "device": lambda *_: contextlib.nullcontext(),
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "current_stream": lambda _=None: SimpleNamespace(record_event=lambda: event),
        "get_device_name": lambda _=None: about.name,
        "get_device_capability": lambda _=None: device.capability,
        "get_device_properties": lambda _=None: about,
        "get_arch_list": lambda: list(built),
        "is_bf16_supported": lambda including_emulation=True: including_emulation or device.capability >= (8, 0),
        "mem_get_info": lambda _=None: (total - device.held, total),
        "memory_allocated": lambda _=None: device.held,
        "memory_reserved": lambda _=None: device.held,
        "max_memory_allocated": lambda _=None: device.peak,
        "reset_peak_memory_stats": lambda _=None: None,
        "empty_cache": lambda: None,
        "synchronize": lambda _=None: None,
        "get_rng_state": lambda _=None: torch.get_rng_state(),
        "set_rng_state": lambda state, _=None: torch.set_rng_state(state),
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
    }


def _saving(save: Callable[..., None]) -> Callable[..., None]:
    """Return a `torch.save` that writes the values of tensors."""

    def saved(written: Any, *args: Any, **options: Any) -> None:
        def plain(value: Any) -> Any:
            return value.values.clone() if isinstance(value, OnDevice) else value

        with torch.utils._python_dispatch._disable_current_modes():
            save(mapped(plain, written), *args, **options)

    return saved

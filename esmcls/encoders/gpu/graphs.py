"""Short streams by CUDA graphs: all kernels of a model in one launch, where the host is slower than the device.

A graph holds the sizes of a stream as constants, and the longest sequence and the number of sequences with them. So
streams are padded to few shapes: tokens of no protein fill it, empty sequences come after the last, and the longest is
rounded up. Attention kernels leave at once where a sequence is over (flash_fwd_kernel.h, `compute_attn_1rowblock`;
kernel_forward.h, `advance_to_block`), so neither changes a value.

Opt-in, since nobody has measured it yet: ESMCLS_GRAPHS=1 in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from esmcls.encoders.devices import exact_products, say
from esmcls.encoders.gpu.transfer import refill, to_device

SWITCH: Final = "ESMCLS_GRAPHS"
"""Set to 1 in the environment, it has short streams captured."""
LARGEST: Final = 1 << 19
"""Numbers of a stream's state, tokens x width, up to which it is captured: a layer then takes an H100 no longer than
its launches take the host, by arithmetic (benchmarks/scale.py). Beyond, a graph only adds padding."""
LONGEST: Final = 1024
"""Tokens of a sequence: ESM-2's context. Longer ones are rare, and run kernel by kernel."""
SHORTEST: Final = 128
"""Rows of scores that a block of flash attention computes at once: below, nothing is gained by a smaller bound."""
STEP: Final = 128
"""Tokens of the shortest stream."""
FEWEST: Final = 8
"""Sequences of a stream with the fewest, each further number four times the one before."""
MOST: Final = 16
"""Graphs of a model: what is seen after them runs kernel by kernel."""


class StreamShape(NamedTuple):
    """What is constant in the kernels of a stream.

    Parameters
    ----------
    tokens, sequences : int
        With those that pad it.
    longest : int
        Tokens that no sequence is beyond.
    """

    tokens: int
    sequences: int
    longest: int


Key: TypeAlias = tuple[StreamShape, tuple[int, ...]]
"""A stream's shape and the layers that are asked for."""
Forward: TypeAlias = Callable[[Tensor], tuple[object, list[Tensor]]]
"""A stream's numbers on the device in; out what must live as long as a graph of it, and states, (tokens, width)."""


def few_shapes(lengths: Sequence[int], width: int) -> StreamShape | None:
    """Return the shape that a stream is padded to; None if it is too large for graphs to gain anything.

    Examples
    --------
    >>> few_shapes([352], 320)
    StreamShape(tokens=384, sequences=8, longest=512)
    >>> few_shapes([152] * 9, 320)
    StreamShape(tokens=1536, sequences=32, longest=256)
    """
    total = sum(lengths)
    step = max(STEP, 1 << max(0, (total - 1).bit_length() - 2))
    tokens = -(-total // step) * step  # a power of two, or the middle between two of them
    longest = max(SHORTEST, 1 << (max(lengths, default=1) - 1).bit_length())
    if not total or tokens * width > LARGEST or longest > LONGEST:
        return None
    needed = len(lengths) - (total - tokens) // longest  # those that hold padding are as long as the longest
    sequences = FEWEST
    while sequences < needed:
        sequences *= 4
    return StreamShape(tokens, sequences, longest)


class StreamGraphs:
    """The graphs of a model, each captured when a stream of its key comes for the second time.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.graphs: dict[Key, _Graph] = {}
        self.seen: set[Key] = set()
        self.fails = False
        self.stream: torch.cuda.Stream | None = None  # on which all are captured, so that they share memory
        self.lock = Lock()  # between what is put in and what is taken out

    def run(self, key: Key, numbers: Tensor, forward: Forward) -> list[Tensor]:
        """Return the states of a stream.

        Parameters
        ----------
        key : (StreamShape, tuple of int)
        numbers : int32 tensor
            The stream's, on the host; as many for each stream of a key.
        forward : function
            Gives the states of a key's streams by the same kernels each time.
        """
        with self.lock:
            if key in self.seen and key not in self.graphs and len(self.graphs) < MOST and not self.fails:
                self._capture(key, numbers, forward)
            if key in self.graphs:
                return self.graphs[key].replay(numbers)
        states = forward(to_device(numbers, self.device))[1]
        with self.lock:
            self.seen.add(key)  # now that its kernels are compiled, which no capture may do
        return states

    def _capture(self, key: Key, numbers: Tensor, forward: Forward) -> None:
        """Capture a graph; where that fails, for want of memory too, no other is tried, and a line says so."""
        before = next(iter(self.graphs.values()), None)
        try:
            self.stream = self.stream or torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            now = torch.cuda.current_stream(self.device)
            with torch.cuda.device(self.device), torch.cuda.stream(now):  # which a capture that fails leaves behind
                self.graphs[key] = _Graph(to_device(numbers, self.device), forward, self.stream, before)
        except Exception as error:  # CUDA's errors have several classes, and no common one
            self.fails = True
            reason = str(error).strip().partition("\n")[0]
            say(f"CUDA graphs fail here ({type(error).__name__}: {reason:.120}): streams run kernel by kernel")


class _Graph:
    """All kernels of a stream: they read its numbers where they lie, and write states where these are taken from.

    Its memory is that of the graph before, too: they never run side by side.
    """

    def __init__(self, numbers: Tensor, forward: Forward, stream: torch.cuda.Stream, before: _Graph | None) -> None:
        pool = before.graph.pool() if before is not None else None
        self.numbers = numbers
        self.graph: torch.cuda.CUDAGraph = torch.cuda.CUDAGraph()
        capturing = torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        with exact_products(), capturing:
            self.kept, self.states = forward(numbers)

    def replay(self, numbers: Tensor) -> list[Tensor]:
        """Return the states of another stream of the key, which the next one does not overwrite."""
        refill(self.numbers, numbers)
        self.graph.replay()
        return [state.clone() for state in self.states]


def may_capture(device: torch.device, kernel: str) -> bool:
    """Tell whether short streams are to be captured; where they are to be and cannot, say so."""
    if device.type != "cuda" or os.environ.get(SWITCH) != "1":
        return False
    if kernel == "each":
        say(f"{SWITCH}=1 needs attention of a stream in one call, which there is none of here: no CUDA graphs")
        return False
    return True

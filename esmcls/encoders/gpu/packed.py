"""ESM-2 for inference on a CUDA device: the products of `inference.py`, and few kernels between them.

A layer is nine: four products, GELU, attention, the turn of query and key, and twice the sum of the residual stream
with the LayerNorm that follows. The host only puts kernels into the device's queue: nothing here waits for a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.alphabet import MASK, PAD
from esmcls.encoders.devices import Precision
from esmcls.encoders.gpu.attention import attend_efficiently, attend_flash, choose_attention
from esmcls.encoders.gpu.fp8 import RoundedProduct, add_norm_and_round, gelu_and_round
from esmcls.encoders.gpu.fused import EPSILON, add_and_norm, compiled, may_compile, turn_pairs
from esmcls.encoders.gpu.graphs import Forward, StreamGraphs, StreamShape, few_shapes, may_capture
from esmcls.encoders.gpu.transfer import to_device
from esmcls.encoders.inference import DTYPES, Layer, Norm, PackedESM2, Stream, attend_exactly
from esmcls.encoders.model import ModelConfig

STREAM_MULTIPLE: Final = 512
"""Tokens that a stream is padded to a multiple of: memory is used again, and products looked up, by few sizes."""


class ESM2OnGPU(PackedESM2):
    """A `PackedESM2` for a CUDA device.

    Parameters
    ----------
    config, state, precision, device
        As for `PackedESM2`.
    """

    def __init__(
        self, config: ModelConfig, state: Mapping[str, Tensor], precision: Precision, device: torch.device
    ) -> None:
        super().__init__(config, state, precision, device)
        self.dtype = DTYPES[precision]
        self.attended = torch.float32 if self.emulated else self.dtype
        self.kernel = choose_attention(config.heads, config.width // config.heads, self.attended, device)
        self.fuses = may_compile(device)
        self.add_and_norm = compiled(add_and_norm) if self.fuses else add_and_norm
        self.turn_pairs = compiled(turn_pairs) if self.fuses else turn_pairs
        rounds = self.fuses and precision == "fp8" and not self.emulated
        self.add_norm_and_round = compiled(add_norm_and_round) if rounds else add_norm_and_round
        self.gelu_and_round = compiled(gelu_and_round) if rounds else gelu_and_round
        self.graphs = StreamGraphs(device) if may_capture(device, self.kernel) else None
        self.table = torch.empty(0, device=device)  # complex64, (longest so far, head width / 2)
        self.cosines = self.sines = self.table  # of it, as `turn_pairs` takes them

    @torch.inference_mode()
    def states(self, tokens: Tensor, lengths: Sequence[int], layers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Run one stream and yield the layers asked for; see `PackedESM2.states`."""
        asked = tuple(sorted(set(layers)))
        masked = bool((tokens == MASK).any())
        shape = few_shapes(lengths, self.config.width) if self.graphs is not None and not masked else None
        if self.graphs is None or shape is None:
            layout = StreamLayout.of(tokens, lengths, _own_shape(lengths), masked)
            states = self._states(StreamOnGPU(self, layout, to_device(layout.numbers, self.device)), asked)
        else:
            layout = StreamLayout.of(tokens, lengths, shape, masked)
            states = zip(
                asked, self.graphs.run((shape, asked), layout.numbers, self._forward(layout, asked)), strict=True
            )
        for number, state in states:
            yield number, state[: len(tokens)]

    def _forward(self, layout: StreamLayout, asked: Sequence[int]) -> Forward:
        """Return what a graph of streams that are laid out alike is captured from."""

        def forward(numbers: Tensor) -> tuple[object, list[Tensor]]:
            stream = StreamOnGPU(self, layout, numbers)
            return stream, [state for _, state in self._states(stream, asked)]

        return forward

    def _states(self, stream: StreamOnGPU, asked: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Run one stream and yield the layers asked for, in ascending order, with what pads them."""
        x = self.embed(stream.tokens, stream)
        if 0 in asked:
            yield 0, x
        last = max(asked, default=0)
        if not last:
            return
        norm = self.layers[0].attention_norm
        normed = F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, EPSILON).to(self.dtype)
        for number, layer in enumerate(self.layers[:last], start=1):
            change = layer.out(stream.attend(*stream.rotate(layer.query_key_value(normed))))
            x, change = self._feed_forward(layer, x, change)
            if number == self.config.layers:
                yield number, self._add_and_norm(x, change, self.norm_after, torch.float32)[1]
                return
            x, normed = self._add_and_norm(x, change, self.layers[number].attention_norm, self.dtype)
            if number in asked:
                yield number, x

    def embed(self, tokens: Tensor, stream: Stream) -> Tensor:
        """Return the embedding, (total, width); whether tokens are masked was seen on the host."""
        if isinstance(stream, StreamOnGPU) and not stream.masked:
            return F.embedding(tokens, self.embedding)
        return super().embed(tokens, stream)

    def _feed_forward(self, layer: Layer, x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fp32 stream after attention's change, and its change by the two wide products."""
        if isinstance(layer.widen, RoundedProduct) and isinstance(layer.narrow, RoundedProduct):
            x, *rounded = self.add_norm_and_round(x, change, layer.final_norm.weight, layer.final_norm.bias)
            return x, layer.narrow.multiply(*self.gelu_and_round(layer.widen.multiply(*rounded)))
        x, normed = self._add_and_norm(x, change, layer.final_norm, self.dtype)
        return x, layer.narrow(layer.widen(normed))

    def _add_and_norm(self, x: Tensor, change: Tensor, norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.add_and_norm(x, change, norm.weight, norm.bias, dtype)

    def turns_up_to(self, length: int) -> Tensor:
        """Return the turns of positions on the device as complex64, (at least length, head width / 2)."""
        if len(self.table) < length:
            size = 1 << (length - 1).bit_length()
            self.table = self.turns.up_to(size)[:size].to(self.device)
            cosine, sine = torch.split(torch.view_as_real(self.table), 1, dim=-1)
            self.cosines, self.sines = cosine.contiguous(), torch.cat((-sine, sine), -1)
        return self.table


@dataclass(frozen=True)
class StreamLayout:
    """Where the sequences of a stream lie, on the host.

    Parameters
    ----------
    numbers : int32 tensor, (2 tokens + sequences + 1,)
        Its tokens, the position of each within its sequence, and the offsets of sequences.
    shape : StreamShape
    lengths : list of int
        Tokens of each sequence, those of padding among them.
    masked : bool
        Whether a token is masked.
    """

    numbers: Tensor
    shape: StreamShape
    lengths: list[int]
    masked: bool

    @classmethod
    def of(cls, tokens: Tensor, lengths: Sequence[int], shape: StreamShape, masked: bool) -> StreamLayout:
        """Lay out the tokens of the host, (total,): padding after them, and empty sequences at the end."""
        filled = [*lengths, *_padding(shape.tokens - len(tokens), shape.longest)]
        padded = F.pad(tokens.int(), (0, shape.tokens - len(tokens)), value=PAD)
        offsets = torch.tensor([0, *accumulate(filled)], dtype=torch.int32)
        positions = torch.arange(len(padded), dtype=torch.int32) - offsets[:-1].repeat_interleave(offsets.diff())
        offsets = F.pad(offsets, (0, shape.sequences - len(filled)), value=shape.tokens)
        return cls(torch.cat((padded, positions, offsets)), shape, filled, masked)


class StreamOnGPU(Stream):
    """A stream on a CUDA device: its tokens, positions and offsets go there in one copy.

    Parameters
    ----------
    model : ESM2OnGPU
    layout : StreamLayout
    numbers : int32 tensor
        Those of the layout, on the device.
    """

    def __init__(self, model: ESM2OnGPU, layout: StreamLayout, numbers: Tensor) -> None:
        self.model = model
        self.heads = model.config.heads
        self.head_width = model.config.width // model.config.heads
        self.longest = layout.shape.longest
        self.lengths = layout.lengths
        self.masked = layout.masked
        sizes = [layout.shape.tokens, layout.shape.tokens, layout.shape.sequences + 1]
        self.tokens, self.positions, self.offsets = torch.split(numbers, sizes)
        self.table = model.turns_up_to(self.longest)
        self.tables = model.cosines, model.sines
        self.gathered = None if model.fuses else self.table[self.positions][:, None]

    def rotate(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (total, 3 width) into query, key and value, (total, heads, head width), and turn the first two."""
        shape = (len(mixed), self.heads, self.head_width)
        value = mixed[:, -self.heads * self.head_width :].view(shape)
        if self.gathered is None:
            pairs = mixed.view(len(mixed), 3, self.heads, self.head_width // 2, 2)
            turned = self.model.turn_pairs(pairs, *self.tables, self.positions, self.model.attended)
        else:
            both = mixed[:, : 2 * self.heads * self.head_width].float()
            both = both.view(len(mixed), 2 * self.heads, self.head_width // 2, 2)
            turned = torch.view_as_real(torch.view_as_complex(both) * self.gathered).to(self.model.attended)
        query, key = turned.view(len(mixed), 2, self.heads, self.head_width).unbind(1)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each sequence; (total, heads, head width) in, (total, width) out."""
        dtype = value.dtype
        value = value.to(query.dtype)
        if self.model.kernel == "flash":
            mixed = attend_flash(query, key, value, self.offsets, self.longest, scale=1.0)
        elif self.model.kernel == "efficient":
            mixed = attend_efficiently(query, key, value, self.offsets, self.longest, scale=1.0)
        else:
            mixed = torch.empty(value.shape, dtype=value.dtype, device=value.device)
            parts = (torch.split(tensor, self.lengths) for tensor in (query, key, value, mixed))
            for sequence in zip(*parts, strict=True):
                attend_exactly(*(tensor.transpose(0, 1) for tensor in sequence))
        return mixed.flatten(1).to(dtype)


def _own_shape(lengths: Sequence[int]) -> StreamShape:
    """Return the shape of a stream that is padded to a multiple of tokens alone."""
    longest = max(lengths, default=1)
    total = sum(lengths)
    tokens = -(-total // STREAM_MULTIPLE) * STREAM_MULTIPLE
    return StreamShape(tokens, len(lengths) + len(_padding(tokens - total, longest)), longest)


def _padding(missing: int, longest: int) -> list[int]:
    """Return the lengths of sequences, none above the longest, that hold so many tokens.

    Examples
    --------
    >>> _padding(12, 10)
    [10, 2]
    """
    whole, rest = divmod(missing, longest)
    return [longest] * whole + [rest] * (rest > 0)

"""ESM-2 for inference on a CUDA device: the products of `inference.py`, and few kernels between them.

A layer is nine: four products, GELU, attention, the turn of query and key, and twice the sum of the residual stream
with the LayerNorm that follows. The host only puts kernels into the device's queue: nothing here waits for a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.alphabet import MASK, PAD
from esmcls.encoders.devices import Precision
from esmcls.encoders.gpu.attention import attend_efficiently, attend_flash, choose_attention
from esmcls.encoders.gpu.fused import EPSILON, add_and_norm, compiled, may_compile, turn_pairs
from esmcls.encoders.gpu.transfer import to_device
from esmcls.encoders.inference import DTYPES, Norm, PackedESM2, Stream, attend_exactly
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
        self.table = torch.empty(0, device=device)  # complex64, (longest so far, head width / 2)
        self.cosines = self.sines = self.table  # of it, as `turn_pairs` takes them

    @torch.inference_mode()
    def states(self, tokens: Tensor, lengths: Sequence[int], layers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Run one stream and yield the layers asked for; see `PackedESM2.states`."""
        wanted = set(layers)
        last = max(wanted, default=0)
        total = len(tokens)
        stream = StreamOnGPU(self, tokens, lengths)
        x = self.embed(stream.tokens, stream)
        if 0 in wanted:
            yield 0, x[:total]
        if not last:
            return
        norm = self.layers[0].attention_norm
        normed = F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, EPSILON).to(self.dtype)
        for number, layer in enumerate(self.layers[:last], start=1):
            change = layer.out(stream.attend(*stream.rotate(layer.query_key_value(normed))))
            x, normed = self._add_and_norm(x, change, layer.final_norm, self.dtype)
            change = layer.narrow(layer.widen(normed))
            if number == self.config.layers:
                yield number, self._add_and_norm(x, change, self.norm_after, torch.float32)[1][:total]
                return
            x, normed = self._add_and_norm(x, change, self.layers[number].attention_norm, self.dtype)
            if number in wanted:
                yield number, x[:total]

    def embed(self, tokens: Tensor, stream: Stream) -> Tensor:
        """Return the embedding, (total, width); whether tokens are masked was seen on the host."""
        if isinstance(stream, StreamOnGPU) and not stream.masked:
            return F.embedding(tokens, self.embedding)
        return super().embed(tokens, stream)

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


class StreamOnGPU(Stream):
    """A stream on a CUDA device: its tokens, positions and offsets go there in one copy.

    Parameters
    ----------
    model : ESM2OnGPU
    tokens : uint8 or int64 tensor, (total,)
        Of the host.
    lengths : sequence of int
        Tokens of each sequence.
    """

    def __init__(self, model: ESM2OnGPU, tokens: Tensor, lengths: Sequence[int]) -> None:
        self.model = model
        self.heads = model.config.heads
        self.head_width = model.config.width // model.config.heads
        self.longest = max(lengths, default=1)
        self.lengths = [*lengths, *_padding(len(tokens), self.longest)]
        self.masked = bool((tokens == MASK).any())
        padded = F.pad(tokens.int(), (0, sum(self.lengths) - len(tokens)), value=PAD)
        offsets = torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32)
        positions = torch.arange(len(padded), dtype=torch.int32) - offsets[:-1].repeat_interleave(offsets.diff())
        sizes = [len(padded), len(padded), len(offsets)]
        on_device = to_device(torch.cat((padded, positions, offsets)), model.device)
        self.tokens, self.positions, self.offsets = torch.split(on_device, sizes)
        self.table = model.turns_up_to(self.longest)
        self.gathered = None if model.fuses else self.table[self.positions][:, None]

    def rotate(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (total, 3 width) into query, key and value, (total, heads, head width), and turn the first two."""
        shape = (len(mixed), self.heads, self.head_width)
        value = mixed[:, -self.heads * self.head_width :].view(shape)
        if self.gathered is None:
            pairs = mixed.view(len(mixed), 3, self.heads, self.head_width // 2, 2)
            tables = self.model.cosines, self.model.sines
            turned = self.model.turn_pairs(pairs, *tables, self.positions, self.model.attended)
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


def _padding(total: int, longest: int) -> list[int]:
    """Return the lengths of sequences, none above the longest, that pad a stream to a multiple.

    Examples
    --------
    >>> _padding(500, 10)
    [10, 2]
    """
    whole, rest = divmod(-total % STREAM_MULTIPLE, longest)
    return [longest] * whole + [rest] * (rest > 0)

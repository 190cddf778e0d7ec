"""ESM-2 made fast: a derived copy of a canonical state that runs packed streams and cannot be trained.

It differs from `model.py`, and why: query, key and value are one product, with the softmax scale folded into the
query's rows (Vaswani et al. 2017, eq. 1); the rows of query and key are reordered so that the two halves that a
rotary position turns lie side by side, which makes the turn one complex product; token dropout's constant lies in the
embedding table; the products are prepared for the processor once, by what it can do and never by the clock, so that
a processor gives the same bits every time. The residual stream and LayerNorm stay fp32 at every precision. What the
hardware lacks is emulated: the numbers are rounded alike, and multiplied in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from esmcls.encoders.alphabet import BOS, EOS, MASK, tokenize
from esmcls.encoders.devices import Precision, check_precision, exact_products, is_emulated, keep_freed_memory
from esmcls.encoders.gpu.fp8 import RoundedProduct, by_the_device, emulated, fits, round_rows
from esmcls.encoders.model import TRAINED_MASK_SHARE, ModelConfig
from esmcls.encoders.processor.int8 import SEEN, Ranges, balanced, int8_product, ranges_of

Product: TypeAlias = Callable[[Tensor], Tensor]

DTYPES: Final = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,
    "fp8": torch.bfloat16,
}
"""The dtype that flows between the matrix products; `int8` and `fp8` are so within half of them."""
OF_PRODUCTS: Final[dict[Precision, tuple[Precision, Precision, Precision, Precision]]] = {
    "int8": ("int8", "fp32", "int8", "fp32"),
    "fp8": ("bf16", "bf16", "fp8", "fp8"),
}
"""Of query, key and value, what follows attention, and the two wide ones, where they differ: in eight bits the others
would cost the most accuracy."""
SCORES_IN_CACHE: Final = 1 << 17
"""Attention scores computed at once on a CPU: 512 KiB in fp32, half of a common level-2 cache."""
SHORT: Final = 128
"""Tokens of a sequence below which a CPU with AVX-512 attends by `attend_in_cache`, and above by torch's own kernel."""
ROW_MULTIPLE: Final = 64
"""The rows of a product on a CPU are padded to a multiple of this."""


class PackedESM2:
    """An ESM-2 for inference on one device.

    Parameters
    ----------
    config : ModelConfig
    state : mapping of str to tensor
        Canonical names, as `weights.load_state` returns them.
    precision : {"fp32", "bf16", "fp16", "int8", "fp8"}
    device : torch.device

    Raises
    ------
    UsageError
        If the precision is unknown.
    """

    def __init__(
        self, config: ModelConfig, state: Mapping[str, Tensor], precision: Precision, device: torch.device
    ) -> None:
        check_precision(precision)
        keep_freed_memory()
        self.config = config
        self.precision = precision
        self.device = device
        self.emulated = is_emulated(precision, device)
        scale = 1 - TRAINED_MASK_SHARE if config.token_dropout else 1.0
        self.embedding = (state["embed_tokens.weight"] * scale).to(device)  # (33, width)
        self.norm_after = Norm(state["emb_layer_norm_after.weight"], state["emb_layer_norm_after.bias"], device)
        self.turns = Turns(state["layers.0.self_attn.rot_emb.inv_freq"])
        ranges = self._ranges(state) if precision == "int8" else [None] * config.layers
        with exact_products():
            self.layers = [
                Layer(config, state, f"layers.{number}.", precision, device, seen) for number, seen in enumerate(ranges)
            ]

    @torch.inference_mode()
    def _ranges(self, state: Mapping[str, Tensor]) -> Iterator[tuple[Ranges, Ranges]]:
        """Yield what the two norms of each layer make of `SEEN`, by a fp32 model of one layer at a time on the CPU."""
        processor = torch.device("cpu")
        stream = Stream([len(part) + 2 for part in SEEN], self.config, self.turns, processor)
        tokens = torch.from_numpy(np.concatenate([[BOS, *tokenize(part), EOS] for part in SEEN]))
        x = F.embedding(tokens, self.embedding.cpu())
        for number in range(self.config.layers):
            layer = Layer(self.config, state, f"layers.{number}.", "fp32", processor)
            before = ranges_of(x)
            x = x + layer.out(stream.attend(*layer.attended(x, stream)))
            yield before, ranges_of(x)
            x += layer.narrow(layer.widen(layer.final_norm(x)))

    @torch.inference_mode()
    def states(self, tokens: Tensor, lengths: Sequence[int], layers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Run one stream and yield the layers asked for, in ascending order.

        Parameters
        ----------
        tokens : uint8 or int64 tensor, (total,)
            BOS, residues and EOS of every sequence, one after the other.
        lengths : sequence of int
            Tokens of each sequence.
        layers : sequence of int
            0 the embedding, the model's own number the last after the final LayerNorm. Nothing is computed
            beyond the last one asked for.

        Yields
        ------
        int
            The layer.
        float32 tensor, (total, width)
            Its state; overwritten when the next one is asked for.
        """
        wanted = set(layers)
        stream = Stream(lengths, self.config, self.turns, self.device, emulated=self.emulated)
        x = self.embed(tokens.to(self.device), stream)
        if 0 in wanted:
            yield 0, x
        for number, layer in enumerate(self.layers[: max(wanted, default=0)], start=1):
            x = layer(x, stream)
            if number in wanted:
                yield number, self.norm_after(x) if number == self.config.layers else x

    @torch.inference_mode()
    def attentions(self, tokens: Tensor) -> Iterator[Tensor]:
        """Run one sequence and yield what its tokens attend to in each layer: float32 (heads, tokens, tokens).

        Each row sums to 1. The softmax is written out, where `states` has it done in parts by a fused product.
        """
        stream = Stream([len(tokens)], self.config, self.turns, self.device, emulated=self.emulated)
        x = self.embed(tokens.to(self.device), stream)
        for layer in self.layers:
            query, key = (part.transpose(0, 1).float() for part in layer.attended(x, stream)[:2])
            yield torch.bmm(query, key.transpose(1, 2)).softmax(-1)
            x = layer(x, stream)

    def embed(self, tokens: Tensor, stream: Stream) -> Tensor:
        """Return the embedding, (total, width); masked tokens are zero and scale their sequence (token dropout)."""
        x = F.embedding(tokens.int(), self.embedding)
        masked = tokens == MASK
        if not self.config.token_dropout or not masked.any():
            return x
        shares = torch.stack([part.float().mean() for part in torch.split(masked, stream.lengths)])
        scale = (1 / (1 - shares)).repeat_interleave(torch.tensor(stream.lengths, device=tokens.device))
        return x.masked_fill(masked[:, None], 0.0) * scale[:, None]


class Layer:
    """One transformer layer, its products prepared for one precision and device.

    Parameters
    ----------
    config, state, precision, device
        As for `PackedESM2`.
    prefix : str
        Of the layer's names.
    ranges : (Ranges, Ranges), optional
        For int8: those of what goes into attention and into the rest.
    """

    def __init__(
        self,
        config: ModelConfig,
        state: Mapping[str, Tensor],
        prefix: str,
        precision: Precision,
        device: torch.device,
        ranges: tuple[Ranges, Ranges] | None = None,
    ) -> None:
        def linear(name: str) -> tuple[Tensor, Tensor]:
            return state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"]

        self.dtype = DTYPES[precision]
        query_key_value = fused_query_key_value(config, state, prefix)
        attention_norm, widen, final_norm = map(linear, ("self_attn_layer_norm", "fc1", "final_layer_norm"))
        if ranges is not None:
            attention_norm, query_key_value = balanced(attention_norm, query_key_value, ranges[0])
            final_norm, widen = balanced(final_norm, widen, ranges[1])
        mixing, after, widening, narrowing = OF_PRODUCTS.get(precision, (precision,) * 4)
        self.attention_norm = Norm(*attention_norm, device)
        self.query_key_value = prepare(*query_key_value, mixing, device)
        self.out = prepare(*linear("self_attn.out_proj"), after, device)
        self.final_norm = Norm(*final_norm, device)
        self.widen = prepare(*widen, widening, device, gelu=True)
        self.narrow = prepare(*linear("fc2"), narrowing, device)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        """Return the fp32 stream after this layer, (total, width)."""
        x = x + self.out(stream.attend(*self.attended(x, stream)))
        x += self.narrow(self.widen(self.final_norm(x).to(self.dtype)))
        return x

    def attended(self, x: Tensor, stream: Stream) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, (total, heads, head width) each, the softmax scale in the query."""
        mixed = self.query_key_value(self.attention_norm(x).to(self.dtype))  # (total, 3 width)
        return stream.rotate(mixed)


class Norm:
    """LayerNorm in fp32, eps as fair-esm's."""

    def __init__(self, weight: Tensor, bias: Tensor, device: torch.device) -> None:
        self.weight = weight.to(device)
        self.bias = bias.to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise (total, width)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Stream:
    """Where the sequences of a batch lie, and the attention within each of them.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each sequence.
    config : ModelConfig
    turns : Turns
    device : torch.device
    emulated : bool
        Whether the device lacks the precision: it then attends in fp32, as a CPU always does.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        config: ModelConfig,
        turns: Turns,
        device: torch.device,
        *,
        emulated: bool = False,
    ) -> None:
        self.lengths = list(lengths)
        self.heads = config.heads
        self.head_width = config.width // config.heads
        self.in_fp32 = emulated or device.type == "cpu"  # bf16 would round scores, which softmax makes large
        table = turns.up_to(max(self.lengths, default=0))
        self.turns = torch.cat([table[:length] for length in self.lengths] or [table[:0]]).to(device)[:, None]

    def rotate(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (total, 3 width) into query, key and value, (total, heads, head width), and turn the first two."""
        total = len(mixed)
        width = self.heads * self.head_width
        both = mixed[:, : 2 * width].float().view(total, 2 * self.heads, self.head_width // 2, 2)  # 2: a complex number
        turned = torch.view_as_real(torch.view_as_complex(both) * self.turns).flatten(2)
        if not self.in_fp32:
            turned = turned.to(mixed.dtype)
        query, key = torch.split(turned, self.heads, dim=1)
        return query, key, mixed[:, 2 * width :].view(total, self.heads, self.head_width)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each sequence; (total, heads, head width) in, (total, width) out."""
        mixed = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        parts = (torch.split(tensor, self.lengths) for tensor in (query, key, value, mixed))
        for length, *sequence in zip(self.lengths, *parts, strict=True):
            attend = way_to_attend(length, value.device)
            attend(*(tensor.transpose(0, 1) for tensor in sequence))  # (heads, length, head width)
        return mixed.flatten(1)


class Turns:
    """The turn of each position by the checkpoint's rotary frequencies, kept for the longest sequence so far."""

    def __init__(self, frequencies: Tensor) -> None:
        self.frequencies = frequencies.float().cpu()
        self.table = torch.empty(0, len(frequencies), dtype=torch.complex64)

    def up_to(self, length: int) -> Tensor:
        """Return the turns as complex64, (at least length, head width / 2) (Su et al. 2021, eq. 34)."""
        if len(self.table) < length:
            angles = torch.arange(length, dtype=torch.float32)[:, None] * self.frequencies
            self.table = torch.polar(torch.ones_like(angles), angles)
        return self.table


Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], None]


def way_to_attend(length: int, device: torch.device) -> Attention:
    """Return how a sequence of so many tokens attends, by what the processor can do and never by the clock."""
    if device.type != "cpu":
        return attend_exactly
    if has_avx2_alone():
        return attend_side_by_side
    in_cache = length < SHORT and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return attend_in_cache if in_cache else attend_exactly


def has_avx2_alone() -> bool:
    """Tell whether torch runs its own kernels in AVX2: what a processor has, or ATEN_CPU_CAPABILITY says."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def attend_side_by_side(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Attend by torch's own kernel, which in AVX2 reads heads faster where the numbers of each lie side by side."""
    attend_exactly(query.contiguous(), key.contiguous(), value.contiguous(), out)


def attend_exactly(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Attend by torch's own kernel; (heads, length, head width) each."""
    value = value.to(query.dtype)
    out.copy_(F.scaled_dot_product_attention(query[None], key[None], value[None], scale=1.0)[0])


def attend_in_cache(query: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """Attend in fp32 with scores that stay in cache, whatever the values are in: on AMX a bf16 product costs more.

    In AVX-512 1.1 to 1.4 times as fast as torch's own kernel at 60 tokens, and behind it from 150 on.
    """
    heads, length, _ = query.shape
    value = value.float()
    step = max(1, SCORES_IN_CACHE // length**2)
    rows = length if step > 1 else max(1, SCORES_IN_CACHE // length)
    for head in range(0, heads, step):
        block = slice(head, head + step)
        across = key[block].transpose(1, 2)
        for row in range(0, length, rows):
            scores = torch.bmm(query[block, row : row + rows], across)  # (step, rows, length)
            out[block, row : row + rows] = torch.bmm(scores.softmax(-1), value[block])


def fused_query_key_value(config: ModelConfig, state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    """Return weight (3 width, width) and bias (3 width,) of query, key and value in one product."""
    half = config.width // config.heads // 2
    pairs = torch.arange(2 * half).view(2, half).T.flatten()  # 0, half, 1, half + 1, ...
    order = (torch.arange(config.heads)[:, None] * 2 * half + pairs).flatten()
    scale = 1 / math.sqrt(2 * half)
    weights = []
    biases = []
    for letter, factor, rows in (("q", scale, order), ("k", 1.0, order), ("v", 1.0, slice(None))):
        weights.append(state[f"{prefix}self_attn.{letter}_proj.weight"][rows] * factor)
        biases.append(state[f"{prefix}self_attn.{letter}_proj.bias"][rows] * factor)
    return torch.cat(weights), torch.cat(biases)


def prepare(weight: Tensor, bias: Tensor, precision: Precision, device: torch.device, *, gelu: bool = False) -> Product:
    """Return the function x -> x weight^T + bias, followed by an exact GELU if asked for."""
    if precision == "int8":
        exact = not is_emulated("int8", device)
        return int8_product(weight.to(device), bias.to(device), gelu=gelu, exact=exact)
    if precision == "fp8":
        return _fp8_product(weight.to(device), bias.to(device), gelu)
    if is_emulated(precision, device):
        return _emulated_product(weight, bias, precision, device, gelu)
    weight = weight.to(device, DTYPES[precision])
    bias = bias.to(device, DTYPES[precision])
    if _prefers_onednn(precision, device):
        product = _onednn_product(weight, bias, gelu)
        return product if precision == "fp32" else in_few_shapes(product)  # in fp32 it gains nothing
    return (lambda x: F.gelu(F.linear(x, weight, bias))) if gelu else (lambda x: F.linear(x, weight, bias))


def _prefers_onednn(precision: Precision, device: torch.device) -> bool:
    """Tell whether oneDNN multiplies; in AVX2 MKL does in fp32: oneDNN's GELU takes three times as long as torch's."""
    there = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and not (precision == "fp32" and has_avx2_alone())


def in_few_shapes(product: Product) -> Product:
    """Pad the rows that a product of oneDNN is given.

    It compiles a kernel for each number of rows, which on processors with AMX takes longer than most products.
    """
    return lambda x: product(F.pad(x, (0, 0, 0, -len(x) % ROW_MULTIPLE)))[: len(x)]


def _onednn_product(weight: Tensor, bias: Tensor, gelu: bool) -> Product:
    """Prepare a product for oneDNN, by the operations that torch.compile uses for frozen weights on a CPU.

    In fp32 twice as fast as `F.linear` on AMD processors, where that calls MKL.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    after = "gelu" if gelu else "none"
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], "none")


def _emulated_product(weight: Tensor, bias: Tensor, precision: Precision, device: torch.device, gelu: bool) -> Product:
    """Prepare a product of fp32 numbers that are rounded where the precision would: what goes in and what comes out."""
    dtype = DTYPES[precision]
    product = prepare(weight.to(dtype).float(), bias.to(dtype).float(), "fp32", device, gelu=gelu)
    return lambda x: product(x.float()).to(dtype)


def _fp8_product(weight: Tensor, bias: Tensor, gelu: bool) -> Product:
    """Prepare a product of fp8 numbers; what the device lacks is a fp32 product of numbers rounded alike."""
    values, scales = round_rows(weight)
    if not is_emulated("fp8", weight.device) and fits(weight):
        return RoundedProduct(by_the_device(values, scales, bias), gelu=gelu)
    exact = prepare(values.float(), torch.zeros_like(bias), "fp32", weight.device)
    return RoundedProduct(emulated(exact, scales, bias), gelu=gelu)

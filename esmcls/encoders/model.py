"""ESM-2 for packed sequences, in one file, with fair-esm's parameter names: the model that is trained.

Source: Lin et al. 2023, doi:10.1126/science.ade2574; fair-esm 2.0.0, `esm/model/esm2.py`, `esm/modules.py`,
`esm/rotary_embedding.py`, `esm/multihead_attention.py`.

All sequences of a batch lie in one stream of tokens without padding; `offsets` says where each begins:

    tokens   BOS M K T EOS BOS M V EOS
    offsets   0             5          9
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from esmcls.encoders.alphabet import MASK, PAD, TOKENS
from esmcls.encoders.gpu.attention import stream_attention
from esmcls.training.device_operations import segment_sums
from esmcls.training.products import joint_product, product_dtype

if TYPE_CHECKING:
    from typing_extensions import Self

TRAINED_MASK_SHARE = 0.15 * 0.8
"""Share of tokens that were `<mask>` when ESM-2 was trained; token dropout scales by it."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of an ESM-2 model.

    Parameters
    ----------
    layers, width, heads : int
        Transformer layers, model width, attention heads (`width` a multiple of `2 * heads`).
    token_dropout : bool
        Whether the checkpoint was trained with ESM-2's token dropout.
    """

    layers: int
    width: int
    heads: int
    token_dropout: bool = True

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.heads) < 1 or self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the number of heads ({self.heads})")


class Spans(NamedTuple):
    """Where the sequences of a stream lie: groups of equal length, int32 offsets (sequences + 1,), the longest."""

    groups: list[tuple[int, int]]
    offsets: Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], offsets: Tensor) -> Spans:
        """Describe a stream by its lengths and offsets."""
        return cls(equal_length_groups(lengths), offsets.int(), max(lengths, default=0))


class RotaryEmbedding(nn.Module):
    """Keeper of the rotary frequencies, (head width / 2,), that a checkpoint stores and may have rounded."""

    inv_freq: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rotary_frequencies(head_width))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm in fp32, whatever its weights are in: where processes share a model they are gathered in bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row of (total, width)."""
        return F.layer_norm(x, self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, within each sequence of the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.rot_emb = RotaryEmbedding(self.head_width)
        self.apart = False  # whether query, key and value are three products, which keep no copy of their weights

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], spans: Spans) -> Tensor:
        """Attend; x (total, width), rotary (total, 1, head width) twice."""
        total, width = x.shape
        shape = (total, self.heads, self.head_width)
        q, k, v = (part.view(shape) for part in self.query_key_value(x))  # (total, heads, head width) each
        q, k = rotate(q, rotary), rotate(k, rotary)
        if (attend_stream := stream_attention(q)) is not None:
            mixed = attend_stream(q, k, v, spans.offsets, spans.longest)  # (total, heads, head width)
            return self.out_proj(mixed.flatten(1))  # type: ignore[no-any-return]
        sizes = [count * length for count, length in spans.groups]
        parts = [
            attend(*(part.view(count, length, *shape[1:]) for part in (qs, ks, vs)))
            for (count, length), qs, ks, vs in zip(
                spans.groups, *(torch.split(part, sizes) for part in (q, k, v)), strict=True
            )
        ]
        return self.out_proj(torch.cat([part.reshape(-1, width) for part in parts]))  # type: ignore[no-any-return]

    def query_key_value(self, x: Tensor) -> list[Tensor]:
        """Return query, key and value, (total, width) each: by one product, or three (`apart`; fp32 on a CPU)."""
        layers = (self.q_proj, self.k_proj, self.v_proj)
        if self.apart or (x.device.type == "cpu" and product_dtype(x) == x.dtype):  # which then has nothing to gain
            return [layer(x) for layer in layers]
        q, k, v = joint_product(x, layers).view(len(x), 3, x.shape[1]).unbind(1)
        return [q, k, v.contiguous()]  # else the backward pass would keep all three for the value's sake


class TransformerLayer(nn.Module):
    """One pre-LayerNorm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = LayerNorm(width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], spans: Spans) -> Tensor:
        """Return the stream after this layer, (total, width)."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), rotary, spans)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))  # type: ignore[no-any-return]


class ESM2(nn.Module):
    """ESM-2 over a packed stream of tokens, without its language-model and contact heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(len(TOKENS), config.width, padding_idx=PAD)
        self.layers = nn.ModuleList(TransformerLayer(config.width, config.heads) for _ in range(config.layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.width)
        self.checkpointing = False  # whether a layer's inner states are computed again in the backward pass

    @classmethod
    def of(cls, config: ModelConfig, state: Mapping[str, Tensor]) -> Self:
        """Build a model with a canonical state, leaving out what belongs to poolings."""
        model = cls(config)
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        return model

    def forward(self, tokens: Tensor, offsets: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """Run the stream through the model.

        Parameters
        ----------
        tokens : int64 tensor, (total,)
            BOS, residues and EOS of every sequence, one after the other.
        offsets : int64 tensor, (sequences + 1,)
            Where each sequence begins; the last entry is the total.
        layers : sequence of int
            Layers to return: 0 the embedding, the model's own number the last after the final LayerNorm.

        Returns
        -------
        dict of float32 tensors, layer -> (total, width)

        Raises
        ------
        ValueError
            If a layer is negative or beyond the model's last.
        """
        wanted = set(layers)
        last = self.config.layers
        if not wanted <= set(range(last + 1)):
            raise ValueError(f"layers {sorted(wanted)} asked of a model whose layers are 0 to {last}")
        states = self.hidden_states(tokens, offsets, max(wanted, default=0))
        return {layer: state for layer, state in enumerate(states) if layer in wanted}

    def hidden_states(self, tokens: Tensor, offsets: Tensor, last: int) -> Iterator[Tensor]:
        """Yield the states of layers 0 to `last`, (total, width) each."""
        lengths = offsets.diff()
        x = self.embed(tokens, lengths)
        yield x
        positions = torch.arange(len(tokens), device=tokens.device) - torch.repeat_interleave(offsets[:-1], lengths)
        cosine, sine = rotary_table(positions, self.get_buffer("layers.0.self_attn.rot_emb.inv_freq"))
        rotary = cosine.to(product_dtype(x)), sine.to(product_dtype(x))
        spans = Spans.of(lengths.tolist(), offsets)
        for number, layer in enumerate(list(self.layers)[:last], start=1):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotary, spans, use_reentrant=False)
            else:
                x = layer(x, rotary, spans)
            yield self.emb_layer_norm_after(x) if number == self.config.layers else x

    def embed(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Embed tokens; with token dropout, masked ones are zero and each sequence is scaled for its masked share."""
        x: Tensor = self.embed_tokens(tokens)  # (total, width)
        if not self.config.token_dropout:
            return x
        masked = tokens == MASK
        x = x.masked_fill(masked[:, None], 0.0)
        share = segment_sums(masked.to(x.dtype), lengths) / lengths  # (sequences,)
        scale: Tensor = (1 - TRAINED_MASK_SHARE) / (1 - share)
        return x * torch.repeat_interleave(scale, lengths)[:, None].to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of equally long sequences; (count, length, heads, head width) in and out.

    A CPU attends in fp32 whatever the products are in: its fused kernel is slower in bf16, most so backward.
    """
    dtype, kind = v.dtype, v.device.type
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (count, heads, length, head width)
    if kind == "cpu":
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(kind, enabled=False):  # it would make them bf16 again
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).to(dtype)


def equal_length_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Join neighbours of equal length, so that attention takes them in one call.

    Examples
    --------
    >>> equal_length_groups([5, 5, 3, 5])
    [(2, 5), (1, 3), (1, 5)]
    """
    groups: list[tuple[int, int]] = []
    for length in lengths:
        if groups and groups[-1][1] == length:
            groups[-1] = (groups[-1][0] + 1, length)
        else:
            groups.append((1, length))
    return groups


def rotary_frequencies(head_width: int) -> Tensor:
    """Return the exact frequencies, rounded once to fp32, (head width / 2,) (Su et al. 2021, eq. 15)."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64, device="cpu") / head_width
    return (10000.0**-exponents).float()


def rotary_table(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the rotary angles in fp32, (total, 1, head width) each (Su et al. 2021, eq. 34)."""
    angles = positions[:, None].float() * frequencies.float()  # (total, head width / 2)
    angles = torch.cat([angles, angles], dim=-1)[:, None, :]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (total, heads, head width) by its position, pairing the two halves of a head's width."""
    cosine, sine = rotary
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine

"""Products in eight bits, equal on every processor that has AVX2, and as far from fp32 as a rounding to 127 levels.

The rounding is of what LayerNorm gives, so that scale and shift of each channel cost nothing: they lie in the norm, and
are taken back in the product's weight and bias. A channel is shifted by its mean, and scaled so that inputs and weights
of it spread equally far, by what a fp32 model makes of `SEEN` (SmoothQuant with exponent .5, Xiao et al. 2023, eq. 4,
of root mean squares in place of the largest). A token and an output channel have a scale each. Products of unsigned by
signed bytes are added up in pairs, which processors without VNNI cut off at 2^15 (VPMADDUBSW); so two weights side by
side add up to 128 at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Product: TypeAlias = Callable[[Tensor], Tensor]
Linear: TypeAlias = tuple[Tensor, Tensor]
"""Weight and bias."""

SEEN: Final = (
    "MSGEGRPQASVPQAGELRLGIAAIRWHAKITDRLLERALAAASEAGVAEPTVVRVPGSIELPVVCQQLAHQHDAVVALGVVIRGGTPHFEYVCDSVTAGL"
    "TRVSLDESTPVGNGVLTCDTEEQALARAGFEDSAEDKGFEATAAALETALVLRELRGFENGRGFL",
    "MESTSSPELLQMARWLAGDFSNQEQAWENPPFFASIRVAYRPLPTAVLGGIGFYVEQAYSGHLEEPYRQAVVELTQVGDGIVIRNYRPLQPQRWRGCARG"
    "RAEQLSQLSAADLAYLPGCDVQVKRQGSLFVGVTEPGCRCCVVRNGQTTYLQTTLHLSENEFCSHDRGMDPVTHRQVWGAVAGPFRFRKVVDWQAELLQ",
    "MAAFVESARAGAGADEVIQLVSDGVNEYSEKMMEGVVACPRILMPCKVNDDCLRGCKCLSNGYCG",
    "MNISNINNDIYLGGLGNHSTEEIKNFLIDNNIKCIITIWNFNKLNIKKLNINVKDYMYIHAYDLTNEIIIDYFDITNKFIINKIKEGKKVLIHCYAGISR"
    "SASIVINYFMNKYNINYDEAEKIVSKKRNIKPNIFFILQLKFYNSYKNINIIYLIILFAIRYTLK",
)
"""Proteins that the spread of the channels is taken from: A4FBK5, Q2JT26, Q43667 and Q9EMX1 of UniProt."""
LEVELS: Final = 127
"""Largest level of an input or of a weight."""
ZERO: Final = 128
"""The byte that stands for zero."""
ROW_MULTIPLE: Final = 64
"""The rows of a product are padded to a multiple of this."""
LEAST: Final = 1e-12
"""Smallest scale of a token or channel, so that zeros stay zeros."""


class Ranges(NamedTuple):
    """Where the channels of a LayerNorm without weight and bias lie: mean and standard deviation, float32 (width,)."""

    mean: Tensor
    spread: Tensor


def normalised(x: Tensor) -> Tensor:
    """Return LayerNorm of (total, width) without weight and bias, eps as fair-esm's."""
    return F.layer_norm(x, x.shape[1:], eps=1e-5)


def ranges_of(x: Tensor) -> Ranges:
    """Return the ranges of what LayerNorm makes of (total, width).

    Rounded to bf16, so that processors that sum in another order give the same.
    """
    spread, mean = torch.std_mean(normalised(x), dim=0, correction=0)
    return Ranges(mean.bfloat16().float(), spread.bfloat16().float())


def balanced(norm: Linear, product: Linear, ranges: Ranges) -> tuple[Linear, Linear]:
    """Return a norm and a product after it that give the same together, and lose less if rounded between them.

    Parameters
    ----------
    norm : (float32 tensor, (width,), and the same)
        Weight and bias.
    product : (float32 tensor, (out, width), float32 tensor, (out,))
        Weight and bias.
    ranges : Ranges
        Of what the norm's weight and bias are applied to.
    """
    mixed = product[0] * norm[0]  # (out, width)
    scale = (mixed.square().mean(0).sqrt() / ranges.spread.clamp(min=1e-3)).sqrt().clamp(min=1e-6)
    bias = product[1] + product[0] @ norm[1] + mixed @ ranges.mean
    return (scale, -ranges.mean * scale), (mixed / scale, bias)


def levels_of(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the levels of a weight (out, in), whole numbers, and the scale of each output channel, (out,).

    Examples
    --------
    >>> levels_of(torch.tensor([[1.0, 0.0], [0.5, 0.3], [1.0, -1.0]]))[0].int().tolist()
    [[127, 0], [79, 48], [127, -127]]
    """
    pairs = F.pad(weight, (0, weight.shape[1] % 2)).view(len(weight), -1, 2)
    sums = torch.maximum(pairs.clamp(min=0).sum(2), -pairs.clamp(max=0).sum(2))  # (out, in / 2)
    scale = (sums.amax(1) / LEVELS).clamp(min=LEAST)  # of a pair that reaches 127; rounded, it reaches 128 at most
    return (weight / scale[:, None]).round(), scale


def int8_product(weight: Tensor, bias: Tensor, *, gelu: bool = False, exact: bool = True) -> Product:
    """Return the function x -> x weight^T + bias in eight bits, followed by an exact GELU if asked for.

    Parameters
    ----------
    weight : float32 tensor, (out, in)
    bias : float32 tensor, (out,)
    gelu : bool
    exact : bool
        Whether the processor adds up bytes; else they are fp32 numbers, with the same sums up to 2^24.
    """
    levels, channel = levels_of(weight)
    multiply = _bytes_product(levels, channel) if exact else (lambda x: F.linear(x, levels).mul_(channel))

    def product(x: Tensor) -> Tensor:
        token = (x.abs().amax(dim=1, keepdim=True) / LEVELS).clamp_(min=LEAST)  # (total, 1)
        y = torch.addcmul(bias, multiply((x / token).round_()), token)
        return F.gelu(y) if gelu else y

    return product


def _bytes_product(levels: Tensor, channel: Tensor) -> Product:
    """Return oneDNN's product of whole numbers up to 127, times the scale of each output channel.

    It compiles a kernel for each number of rows, so these are padded.
    """
    packed = torch.ops.onednn.qlinear_prepack(levels.to(torch.int8).contiguous(), None)
    zeros = torch.zeros(len(levels), dtype=torch.int32)

    def product(x: Tensor) -> Tensor:
        signed = F.pad(x.to(torch.int8), (0, 0, 0, -len(x) % ROW_MULTIPLE))
        unsigned = signed.view(torch.uint8).bitwise_xor_(ZERO)  # faster than to add ZERO and to cast
        scales = (1.0, ZERO, packed, channel, zeros, None, 1.0, 0)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(unsigned, *scales, torch.float32, "none", [], "")
        return y[: len(x)]

    return product


@lru_cache(maxsize=1)
def adds_up_bytes() -> bool:
    """Tell whether oneDNN's product of bytes is right and made by AVX2 at least: elsewhere it is slower than fp32."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    pairs = ((127, 1), (1, 127), (64, 64), (127, -127), (-127, -1), (-64, -64))
    levels = torch.tensor(pairs, dtype=torch.float32).repeat(8, 32)  # (48, 64)
    product = _bytes_product(levels, torch.ones(len(levels)))
    largest = torch.full((9, 64), float(LEVELS))
    return all(torch.equal(product(x), F.linear(x, levels)) for x in (largest, -largest))


def digest_in_int8(digest: str) -> str:
    """Return the digest of an encoder in int8: other than its weights', under which 0.1.0 has kept other vectors."""
    return hashlib.sha256(f"{digest} balanced int8 {' '.join(SEEN)}".encode()).hexdigest()

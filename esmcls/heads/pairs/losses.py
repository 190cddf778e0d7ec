"""What training of the pair head lowers, and the lDDT of expected distances that its confidence learns."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from esmcls.structures.distogram import BINS, CENTRES, NEAREST, WIDTH

CAPPED: Final = 10.0
"""Å: a place that a frame sees farther off than this counts as this far off."""
INCLUDED: Final = 15.0
"""Å: pairs nearer than this in the true structure count (Mariani et al. 2013, doi:10.1093/bioinformatics/btt473)."""
THRESHOLDS: Final = (0.5, 1.0, 2.0, 4.0)
"""Å: a distance counts by the share of these that it is off by less."""


class Pairs(NamedTuple):
    """The pairs of a crop that are known: places of the two residues, i < j, and true distances in Å, (pairs,) each."""

    first: Tensor
    second: Tensor
    distance: Tensor


def known_pairs(trace: Tensor) -> Pairs:
    """Return the pairs of residues that both were resolved; trace (residues, 3) in Å, NaN where one was not."""
    places = torch.nonzero(~torch.isnan(trace[:, 0]))[:, 0]
    upper = torch.triu_indices(len(places), len(places), 1, device=trace.device)
    first, second = places[upper[0]], places[upper[1]]
    return Pairs(first, second, (trace[first] - trace[second]).square().sum(1).sqrt())


def bins_of(distance: Tensor) -> Tensor:
    """Return the bin of each distance in Å, int64 (pairs,)."""
    return ((distance - NEAREST) / WIDTH).floor().long().clamp(0, BINS - 1)


def expected(probabilities: Tensor) -> Tensor:
    """Return the mean distance in Å of pairs, (pairs,), of the probabilities of bins, (pairs, 64)."""
    return probabilities @ torch.from_numpy(CENTRES).to(probabilities)


def lddt_of_pairs(distance: Tensor, pairs: Pairs, residues: int) -> Tensor:
    """Return the lDDT of each residue, (residues,), by predicted distances (pairs,); NaN where no true pair is near."""
    near = pairs.distance < INCLUDED
    off = (distance - pairs.distance).abs()[near]
    kept = torch.stack([off < threshold for threshold in THRESHOLDS]).float().mean(0)
    kept_of = torch.zeros(residues, device=distance.device)
    pairs_of = torch.zeros(residues, device=distance.device)
    for places in (pairs.first[near], pairs.second[near]):
        kept_of.index_add_(0, places, kept)
        pairs_of.index_add_(0, places, torch.ones_like(kept))
    return kept_of / pairs_of


def folded_error(distance: Tensor, pairs: Pairs, trace: Tensor, positions: Tensor) -> Tensor:
    """Return the frame-aligned point error of the trace that predicted distances make, as a share of `CAPPED`.

    The trace is that of classical multidimensional scaling (Torgerson 1952, doi:10.1007/BF02288916); of it and its
    mirror image, the one of the smaller error. Each frame lies in three consecutive CA atoms (Jumper et al. 2021,
    doi:10.1038/s41586-021-03819-2, algorithm 28 and its supplement 1.8.1, there of N, CA and C).

    Parameters
    ----------
    distance : tensor, (pairs,)
        Å; what is learnt from.
    pairs : Pairs
        All pairs of residues that are resolved.
    trace : tensor, (residues, 3)
        The true one in Å, NaN where a residue was not resolved.
    positions : int64 tensor, (residues,)
        In the sequence.
    """
    resolved = torch.nonzero(~torch.isnan(trace[:, 0]))[:, 0]
    true = trace[resolved]
    place = torch.zeros(len(trace), dtype=torch.long, device=trace.device)
    place[resolved] = torch.arange(len(resolved), device=trace.device)
    first, second = place[pairs.first], place[pairs.second]
    square = distance.new_zeros(len(resolved), len(resolved))
    square = square.index_put((first, second), distance.square()).index_put((second, first), distance.square())
    folded = scaled(square)
    middle = torch.nonzero((positions[resolved][2:] - positions[resolved][:-2]) == 2)[:, 0] + 1
    if not len(middle):
        return distance.sum() * 0.0
    wanted = in_frames(true, middle)
    errors = [
        (in_frames(image, middle) - wanted).square().sum(-1).add(1e-4).sqrt().clamp(max=CAPPED).mean() / CAPPED
        for image in (folded, -folded)
    ]
    return torch.minimum(*errors)


def scaled(square: Tensor) -> Tensor:
    """Return the places (residues, 3) whose squared distances are nearest to those given, (residues, residues), Å².

    Gradients go through one step of the iteration whose fixed point the eigenvectors are, which has no denominators
    of eigenvalues that lie near one another.
    """
    centred = square - square.mean(0) - square.mean(1, keepdim=True) + square.mean()
    products = -0.5 * centred
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(products.double())
        along = (vectors[:, -3:] / values[-3:].clamp(min=1e-2).sqrt()).to(products)
    places: Tensor = products @ along
    return places


def in_frames(trace: Tensor, middle: Tensor) -> Tensor:
    """Return all places (frames, residues, 3) as those frames see them that lie at `middle`, (frames,)."""
    back, ahead = trace[middle - 1] - trace[middle], trace[middle + 1] - trace[middle]
    first = normalize(ahead, dim=-1, eps=1e-4)
    second = normalize(back - (back * first).sum(-1, keepdim=True) * first, dim=-1, eps=1e-4)
    axes = torch.stack([first, second, torch.cross(first, second, dim=-1)], dim=-1)  # (frames, 3, 3)
    return (trace[None] - trace[middle][:, None]) @ axes

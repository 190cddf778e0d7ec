"""What is measured of a chain: contacts and distances as a head says them, and the trace that is folded of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.metrics.classification import FOLDS, Interval, percentile_intervals, resamples
from esmcls.metrics.structures.distances import contact_precision, lddt, lddt_of_distances
from esmcls.metrics.structures.superposition import rmsd, superposed
from esmcls.structures.distogram import (
    CONTACT,
    PairAnswer,
    contact_probabilities,
    distances,
    expected_distances,
)
from esmcls.types import Coordinates, Floats, Probabilities

MAIN: Final = "precision_l"
CONTACTS: Final = f"CA-CA < {CONTACT:g} Å, 24 residues or more apart"
"""Published figures are mostly of Cβ atoms: whoever compares must know."""
SAID: Final = ("precision_l", "precision_l2", "precision_l5", "lddt", "confidence", "loss")
"""Of every chain, by what the head says of its pairs."""
FOLDED: Final = ("tm_score", "gdt_ts", "rmsd", "trace_lddt")
"""Of the chains that were folded."""
MEASURES: Final = (*SAID, *FOLDED)
NAMES: Final = {
    "precision_l": "P@L",
    "precision_l2": "P@L/2",
    "precision_l5": "P@L/5",
    "lddt": "lDDT",
    "confidence": "confidence",
    "loss": "loss",
    "tm_score": "TM-score",
    "gdt_ts": "GDT-TS",
    "rmsd": "RMSD (Å)",
    "trace_lddt": "lDDT, folded",
}
UNBOUNDED: Final = ("loss", "rmsd")
"""Measures that may be larger than 1."""
_SHARES: Final = {"precision_l": 1.0, "precision_l2": 0.5, "precision_l5": 0.2}


@dataclass(frozen=True, eq=False)
class Chain:
    """What a head says of a chain, beside what is true.

    Parameters
    ----------
    values : dict of str to float
        The measures `SAID`; NaN where there is nothing to measure.
    expected : float32 array, (length, length)
        Expected distances in Å; NaN of residues that the encoder did not see.
    lddt, confidence : float32 arrays, (length,)
        Of each residue, as its expected distances reach and as the head predicts; NaN where not resolved or not seen.
    """

    values: dict[str, float]
    expected: Probabilities
    lddt: Probabilities
    confidence: Probabilities


def measured(answer: PairAnswer, trace: Coordinates) -> Chain:
    """Measure what a head says of a chain; residues that were not resolved or not seen count nowhere.

    Parameters
    ----------
    answer : PairAnswer
    trace : float32 array, (length, 3)
        The true one.
    """
    true = answer.whole(distances(trace[answer.positions]))
    contacts = answer.whole(contact_probabilities(answer.distogram))
    expected = answer.whole(expected_distances(answer.distogram))
    reached = lddt_of_distances(expected, true)
    confidence = np.full(answer.length, np.nan, dtype=np.float32)
    confidence[answer.positions] = answer.confidence
    confidence[np.isnan(trace[:, 0])] = np.nan
    values = {name: contact_precision(contacts, true, share) for name, share in _SHARES.items()}
    values |= {"lddt": reached.mean, "confidence": mean_of(confidence), "loss": answer.loss(trace)}
    return Chain(values, expected, reached.residues.astype(np.float32), confidence)


def measured_trace(folded: Coordinates, trace: Coordinates) -> dict[str, float]:
    """Return the measures `FOLDED` of a folded trace."""
    values = (*superposed(folded, trace), rmsd(folded, trace), lddt(folded, trace).mean)
    return dict(zip(FOLDED, values, strict=True))


def mean_of(values: Floats | Probabilities) -> float:
    """Return the mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else float("nan")


def means(values: Floats) -> dict[str, float]:
    """Return the mean over chains of each measure that some chain has, values float64 (chains, measures)."""
    reached = {name: mean_of(values[:, column]) for column, name in enumerate(MEASURES)}
    return {name: value for name, value in reached.items() if not np.isnan(value)}


def intervals_over_chains(
    values: Floats, *, draws: int = FOLDS, seed: int = 0
) -> tuple[dict[str, Interval], dict[str, Floats]]:
    """Return the mean of each measure with its 95 % interval, and its means in each draw of chains, (draws,).

    Chains are drawn among those that have the measure, so that all models of the same chains and seed have the same.

    Parameters
    ----------
    values : float64 array, (chains, measures)
        In the order of `MEASURES`, NaN where a chain lacks one.
    draws, seed : int
        Of the bootstrap.
    """
    intervals, drawn = dict[str, Interval](), dict[str, Floats]()
    known = ~np.isnan(values)
    for there in np.unique(known.T, axis=0):
        names = [name for name, column in zip(MEASURES, known.T, strict=True) if np.array_equal(column, there)]
        if not there.any():
            continue
        inside = values[there][:, [MEASURES.index(name) for name in names]]
        table = np.array([counts @ inside for counts in resamples(len(inside), draws, seed)]) / len(inside)
        reached = dict(zip(names, inside.mean(axis=0).tolist(), strict=True))
        ends = percentile_intervals(reached, table, high=np.inf)
        intervals |= {name: _bounded(name, interval) for name, interval in ends.items()}
        drawn |= dict(zip(names, table.T, strict=True))
    return {name: intervals[name] for name in MEASURES if name in intervals}, drawn


def _bounded(name: str, interval: Interval) -> Interval:
    high = interval.high if name in UNBOUNDED else min(interval.high, 1.0)
    return Interval(interval.value, interval.low, high)


def row_of(said: Mapping[str, float], folded: Mapping[str, float]) -> list[float]:
    """Return the measures of a chain in their order, NaN where it has none."""
    both = {**said, **folded}
    return [both.get(name, float("nan")) for name in MEASURES]


def spread(lengths: Sequence[int], count: int, longest: int) -> list[int]:
    """Return rows of chains that are spread over the lengths, as many as asked for; none that is too long.

    Examples
    --------
    >>> spread([50, 900, 70, 60, 80], 3, longest=512)
    [0, 2, 4]
    """
    rows = [row for row in np.argsort(lengths, kind="stable").tolist() if lengths[row] <= longest]
    if not rows or count <= 0:
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64))
    return sorted(rows[place] for place in places.tolist())

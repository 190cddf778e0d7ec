"""Models of many labels side by side on the same proteins: how far they differ, and how often chance would do that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.metrics.cafa import Counts
from esmcls.metrics.cafa_curves import draw, peaks, resample
from esmcls.metrics.classification import Floats, unbiased
from esmcls.tasks.one_label.comparison import DRAWS, holm
from esmcls.types import Indices, Probabilities


@dataclass(frozen=True)
class Difference:
    """A model's measure less the reference's, with its 95 % interval; p is two-sided, p_holm corrected."""

    value: float
    low: float
    high: float
    p: float
    p_holm: float


def compare_terms(
    reference: Counts, others: Sequence[Counts], *, folds: int = DRAWS, seed: int = 0
) -> list[dict[str, dict[str, Difference]]]:
    """Return how far models are from a reference in each aspect and measure.

    Proteins are drawn anew, all models answering for the same draw (paired bootstrap). p is twice the share of draws in
    which the difference has the other sign or none, of at least 2 / (folds + 1). Holm's correction is over all models
    and aspects of a measure: the chance that any of them is called different without being so is at most p_holm. For
    Fmax a difference above 0 is better than the reference, for Smin one below.

    Parameters
    ----------
    reference : Counts
    others : sequence of Counts
        Of the same proteins and terms; see `TermEvaluation.counts`.
    folds, seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict of str to dict of str to Difference
        In the order of `others`; by aspect, then by measure. Aspects that no protein has a term of are left out, and
        measures that not all models have.

    Raises
    ------
    ValueError
        If two models answered for other proteins or terms.

    References
    ----------
    Efron & Tibshirani 1993, chapter 16; Holm 1979, Scand. J. Statist. 6:65.
    """
    for other in others:
        if other.groups != reference.groups or not np.array_equal(other.plain.members, reference.plain.members):
            raise ValueError("the models answered for other proteins or terms")
    draws = draw(len(reference), folds, seed)
    found: list[dict[str, dict[str, Difference]]] = [{} for _ in others]
    for group in np.flatnonzero(reference.measured).tolist():
        base = peaks(reference, group), resample(reference, group, draws)
        for other, aspects in zip(others, found, strict=True):
            measured = peaks(other, group), resample(other, group, draws)
            names = [name for name in reference.measures if name in other.measures]
            aspects[reference.groups[group]] = {
                name: _difference(measured[0][name][0] - base[0][name][0], measured[1][name] - base[1][name])
                for name in names
            }
    return _corrected(found)


def _difference(value: float, resamples: Floats) -> Difference:
    moved = unbiased({"": value}, resamples[:, None])[:, 0]
    low, high = np.percentile(moved, [2.5, 97.5])
    tail = min(np.count_nonzero(moved >= 0), np.count_nonzero(moved <= 0))
    p = min(1.0, 2 * (tail + 1) / (len(moved) + 1))
    return Difference(value, float(low), float(high), p, p)


def _corrected(found: list[dict[str, dict[str, Difference]]]) -> list[dict[str, dict[str, Difference]]]:
    out: list[dict[str, dict[str, Difference]]] = [{aspect: {} for aspect in one} for one in found]
    for name in dict.fromkeys(name for one in found for measures in one.values() for name in measures):
        places = [(i, aspect) for i, one in enumerate(found) for aspect in one if name in one[aspect]]
        corrected = holm(np.array([found[i][aspect][name].p for i, aspect in places]))
        for (i, aspect), p in zip(places, corrected.tolist(), strict=True):
            one = found[i][aspect][name]
            out[i][aspect][name] = Difference(one.value, one.low, one.high, one.p, p)
    return out


def naive_scores(counts: Indices, n_train: int) -> Probabilities:
    """Return CAFA's naive baseline, the same for every protein: the share of the training proteins with each term.

    Parameters
    ----------
    counts : int64 array, (classes,)
        Training proteins of each term, propagated.
    n_train : int
        All training proteins.

    Returns
    -------
    float32 array, (classes,)

    Examples
    --------
    >>> naive_scores(np.array([4, 1]), 4).tolist()
    [1.0, 0.25]
    """
    shares: npt.NDArray[np.float32] = (counts / max(n_train, 1)).astype(np.float32)
    return shares

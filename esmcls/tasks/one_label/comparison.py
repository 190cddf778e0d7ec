"""Models side by side on the same test proteins: what each reaches, and whether it is worse than the best by chance.

Everything here is a function of answers: the same answers give the same bytes. Timing stands apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.metrics.calibration import auroc, reliability
from esmcls.metrics.classification import bootstrap_interval, summary, tier_accuracy
from esmcls.tasks.one_label.answers import Answers

FORMAT: Final = 1
LENGTHS: Final = (("<100", 0), ("100–199", 100), ("200–399", 200), ("400–1022", 400), (">1022", 1023))
"""Name and least number of residues; the last are longer than what an encoder sees at a time."""
PAIRS: Final = 20
POINTS: Final = 200
"""Of an ROC curve."""
DRAWS: Final = 10_000
"""Of a paired bootstrap: no p-value is below 2 / (draws + 1)."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Entrant:
    """A model in a comparison.

    Parameters
    ----------
    name, head, encoder : str
    baseline : bool
        Whether it is there only to be beaten.
    answers : Answers
    folds : tuple of Answers
        Of each fold of a cross-validation; empty without one.
    """

    name: str
    head: str
    encoder: str
    baseline: bool
    answers: Answers
    folds: tuple[Answers, ...] = ()


def compare_answers(
    entrants: Sequence[Entrant],
    classes: Sequence[str],
    *,
    coverage: float = 0.95,
    false_acceptance: float = 0.05,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return a row for each model, the best accuracy first.

    Parameters
    ----------
    entrants : sequence of Entrant
        All on the same proteins.
    classes : sequence of str
        What the class codes stand for.
    coverage, false_acceptance : float
        What sets and thresholds were made for.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        Plain values for JSON: name, head, encoder, baseline, validation, metrics (each value, low, high), folds, tiers,
        lengths, versus_best, calibration_error, reliability, retained, confusions, open_set, sets, megabytes.

    Raises
    ------
    ValueError
        If two models answered for other proteins.
    """
    if any(not np.array_equal(one.answers.truth, entrants[0].answers.truth) for one in entrants):
        raise ValueError("the models answered for other proteins")
    ordered = sorted(entrants, key=lambda one: (-one.answers.right.mean(), one.baseline, one.name))
    against = versus(ordered[0].answers, [one.answers for one in ordered[1:]], seed=seed)
    return [
        _row(one, classes, coverage, false_acceptance, seed) | {"versus_best": difference}
        for one, difference in zip(ordered, [None, *against], strict=True)
    ]


def _row(one: Entrant, classes: Sequence[str], coverage: float, wanted: float, seed: int) -> dict[str, Any]:
    answers, n = one.answers, len(one.answers.truth)
    scores = summary(answers.truth, answers.ranked, len(classes))
    intervals = bootstrap_interval(scores, n, seed=seed)
    curve = reliability(answers.probability, answers.right)
    return {
        "name": one.name,
        "head": one.head,
        "encoder": one.encoder,
        "baseline": one.baseline,
        "validation": answers.about["validation"],
        "metrics": {name: vars(interval) for name, interval in intervals.items()},
        "folds": [_plain(fold, len(classes)) for fold in one.folds],
        "tiers": [vars(tier) for tier in _tiers(answers)],
        "lengths": by_length(answers),
        "calibration_error": curve.expected_error,
        "reliability": {
            "counts": curve.counts.tolist(),
            "confidence": _numbers(curve.confidence),
            "accuracy": _numbers(curve.accuracy),
        },
        "retained": retained(answers),
        "confusions": confusions(answers, classes),
        "open_set": open_set(answers, wanted),
        "sets": sets(answers, coverage),
        "megabytes": answers.about["megabytes"],
    }


def _plain(fold: Answers, n_classes: int) -> dict[str, float]:
    found = summary(fold.truth, fold.ranked, n_classes)(np.ones(len(fold.truth), np.int64))
    return {name: found[name] for name in ("accuracy", "macro_f1")}


def _numbers(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _tiers(answers: Answers) -> Any:
    """Return the accuracy by training members; each row is a class of its own here."""
    return tier_accuracy(np.arange(len(answers.truth)), answers.right, answers.members)


def versus(best: Answers, others: Sequence[Answers], *, folds: int = DRAWS, seed: int = 0) -> list[dict[str, Any]]:
    """Return how far the accuracy of others is from the best one's, and how often chance would do that.

    Proteins are drawn anew, all models answering for the same draw (paired bootstrap). p is two-sided: twice the share
    of draws in which the difference has the other sign or none, of at least 1 / (folds + 1). Holm's correction makes
    the chance that any of the models is called different without being so at most p_holm.

    Returns
    -------
    list of dict
        difference (value, low, high), p and p_holm, in the order of `others`.

    References
    ----------
    Efron & Tibshirani 1993, chapter 16; Holm 1979, Scand. J. Statist. 6:65.
    """
    n, random = len(best.truth), np.random.default_rng(seed)
    gaps = np.array([other.right.astype(np.int64) - best.right for other in others], dtype=np.float64).reshape(-1, n)
    drawn = np.empty((len(others), folds))
    for fold in range(folds):
        drawn[:, fold] = gaps @ np.bincount(random.integers(n, size=n), minlength=n) / n
    tail = np.minimum((drawn >= 0).sum(1), (drawn <= 0).sum(1))
    p = np.minimum(1.0, 2 * (tail + 1) / (folds + 1))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=1) if len(others) else (np.zeros(0), np.zeros(0))
    return [
        {
            "difference": {"value": float(gaps[i].mean()), "low": float(low[i]), "high": float(high[i])},
            "p": float(p[i]),
            "p_holm": float(corrected),
        }
        for i, corrected in enumerate(holm(p))
    ]


def holm(p: Floats) -> Floats:
    """Return p-values corrected for their number, in their order.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def by_length(answers: Answers) -> list[dict[str, Any]]:
    """Return the accuracy by residues of the protein."""
    starts = [start for _, start in LENGTHS]
    place = np.searchsorted(starts, answers.lengths, side="right") - 1
    found = []
    for number, (name, _) in enumerate(LENGTHS):
        here = answers.right[place == number]
        found.append({"name": name, "n": len(here), "accuracy": float(here.mean()) if len(here) else None})
    return found


def retained(answers: Answers) -> dict[str, list[float | None]]:
    """Return the accuracy among the most confident share of the proteins, for shares of 0 to 1."""
    order = np.argsort(-answers.probability, kind="stable")
    right = np.concatenate(([0], np.cumsum(answers.right[order])))
    shares = np.linspace(0, 1, 101)
    kept = np.rint(shares * len(order)).astype(np.int64)
    accuracy = [None if not n else float(right[n] / n) for n in kept.tolist()]
    return {"coverage": [float(share) for share in shares.round(2)], "accuracy": accuracy}


def confusions(answers: Answers, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of classes that are confused most, with how often and of how many."""
    wrong = np.flatnonzero(~answers.right)
    pairs, counts = np.unique(np.stack((answers.truth[wrong], answers.ranked[wrong, 0]), 1), axis=0, return_counts=True)
    of = np.bincount(answers.truth, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:PAIRS]
    return [
        {"true": classes[true], "predicted": classes[predicted], "n": int(counts[i]), "of": int(of[true])}
        for i, (true, predicted) in zip(order, pairs[order].tolist(), strict=True)
    ]


def open_set(answers: Answers, wanted: float) -> dict[str, Any] | None:
    """Return what rejection reaches on proteins of families held out; None where there are none."""
    near, far = answers.familiar, answers.unfamiliar
    if not len(near) or not len(far):
        return None
    cuts = np.quantile(np.concatenate((near, far)), np.linspace(1, 0, POINTS - 1), method="nearest")
    reach = [[0.0, *((scores >= cut).mean() for cut in cuts)] for scores in (far, near)]
    return {
        "score": answers.about.get("score", "familiarity"),
        "auroc": auroc(near, far),
        "wanted": wanted,
        "reached": float(answers.wrongly.mean()),
        "accepted": float(answers.accepted.mean()),
        "known": len(near),
        "strangers": len(far),
        "roc": dict(zip(("false_acceptance", "acceptance"), ([float(v) for v in one] for one in reach), strict=True)),
    }


def sets(answers: Answers, coverage: float) -> dict[str, Any] | None:
    """Return what conformal sets reach; None without calibration rows."""
    if not len(answers.sizes):
        return None
    return {
        "coverage": coverage,
        "held_half": answers.about["held_half"],
        "test": float(answers.covered.mean()),
        "mean_size": float(answers.sizes.mean()),
        "median_size": float(np.median(answers.sizes)),
        "calibration_rows": int(answers.about["calibration_rows"]),
    }


def timing(entrants: Sequence[Entrant], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how long each model took to fit, where that is known, and its proteins a second, in the rows' order."""
    by_name = {one.name: one.answers for one in entrants}
    told = []
    for row in rows:
        fit, predict = by_name[row["name"]].seconds.sum(0).tolist()
        n = len(by_name[row["name"]].truth)
        speed = round(n / predict) if predict else None
        took = None if math.isnan(fit) else round(fit, 2)
        told.append({"name": row["name"], "fit_seconds": took, "proteins_per_second": speed})
    return {"format": FORMAT, "rows": told}

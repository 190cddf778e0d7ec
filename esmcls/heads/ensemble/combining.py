"""From the classes that several heads name to one set of probabilities: a calibrated average, or stacking.

Each head, a member, names its best classes of a row; the rest of its mass is shared evenly by the classes it does not
name. The candidates of a row are what any member names. All other classes are alike and share one score, so that no
(n, classes) array is needed: neither to fit weights nor to predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from esmcls.heads.ensemble.members import Ranked, Selected
from esmcls.heads.neighbours.votes import Numbers, Votes
from esmcls.metrics.calibration import TEMPERATURES
from esmcls.types import Indices

Method = Literal["average", "stack"]

LEAST = 1e-9
"""The least probability of a class: float32 tells no less."""
REST = 1e-6
"""The least probability of all classes together that a member does not name."""
RIDGE = 1.0
"""Of stacking: a weight that is 1 off costs as much as one row whose class has 1 / e of the probability."""
STEPS = 200
"""Of expectation and maximisation."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Slate:
    """The candidates of rows, and what each member gives them; the last place is any class that no member names.

    Parameters
    ----------
    codes : int64 array, (n, u)
        Rising; -1 after the last.
    counts : float64 array, (n, u + 1)
        Classes that a place stands for: 1, 0 after the last candidate, and in the last place all other classes.
    mass : float64 array, (n, u + 1, members)
    first : bool array, (n, u + 1, members)
        Whether a class is the member's likeliest.
    familiar : float64 array, (n, members)
        How familiar a row is to the member, from 0 to 1: among the validation rows.
    """

    codes: Indices
    counts: Numbers
    mass: Numbers
    first: npt.NDArray[np.bool_]
    familiar: Numbers

    @classmethod
    def of(cls, ranked: Sequence[Ranked], n_classes: int) -> Slate:
        """Bring together what members name; their familiarity is from 0 to 1.

        Examples
        --------
        >>> first = Ranked(np.array([[7, 2]]), np.array([[0.6, 0.3]]), np.zeros(1))
        >>> second = Ranked(np.array([[2, 9]]), np.array([[0.5, 0.1]]), np.zeros(1))
        >>> slate = Slate.of([first, second], 12)
        >>> slate.codes.tolist(), slate.counts.tolist()
        ([[2, 7, 9]], [[1.0, 1.0, 1.0, 9.0]])
        >>> slate.mass[0].round(2).tolist()
        [[0.3, 0.5], [0.6, 0.04], [0.01, 0.1], [0.01, 0.04]]
        """
        codes = _union(ranked, n_classes)
        [n, u] = codes.shape
        rows = np.arange(n)[:, None]
        keys = (codes + rows * (n_classes + 1)).ravel()  # rising over all rows
        mass = np.zeros((n, u + 1, len(ranked)))
        first = np.zeros((n, u + 1, len(ranked)), dtype=bool)
        for member, answers in enumerate(ranked):
            places = np.searchsorted(keys, answers.codes + rows * (n_classes + 1)) - rows * u
            floor = _floor(answers, n_classes)
            mass[:, :, member] = floor
            mass[rows, places, member] = np.maximum(answers.mass, floor)
            first[rows[:, 0], places[:, 0], member] = True
        named = codes < n_classes
        counts = np.concatenate((named, n_classes - named.sum(1, keepdims=True)), 1).astype(np.float64)
        familiar = np.stack([answers.familiarity for answers in ranked], 1)
        return cls(np.where(named, codes, -1), counts, mass, first, familiar)

    def take(self, rows: Selected) -> Slate:
        """Return some rows."""
        return Slate(self.codes[rows], self.counts[rows], self.mass[rows], self.first[rows], self.familiar[rows])

    def places(self, truth: Indices) -> Indices:
        """Return the place of the class of each row (n,), the last where no member names it."""
        same = np.concatenate((self.codes == truth[:, None], np.ones((len(truth), 1), dtype=bool)), 1)
        return np.asarray(same.argmax(1))

    def columns(self) -> Numbers:
        """Return what stacking weighs, (n, u + 1, 3 members + 1).

        A member's log probability; the same times how familiar the row is to it; whether the class is its likeliest;
        and, last, the log of the plain average over members.
        """
        logs = np.log(self.mass)
        average = np.log(self.mass.mean(2, keepdims=True))
        return np.concatenate((logs, logs * self.familiar[:, None, :], self.first, average), 2)


def _union(ranked: Sequence[Ranked], n_classes: int) -> Indices:
    """Return the codes that any member names, (n, u), rising, each once a row; `n_classes` after the last."""
    codes = np.sort(np.concatenate([answers.codes for answers in ranked], 1), axis=1)
    codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = n_classes
    codes.sort(axis=1)
    return codes[:, : int((codes < n_classes).sum(1).max(initial=1))]


def _floor(answers: Ranked, n_classes: int) -> Numbers:
    """Return the probability that a member leaves to each class that it does not name, (n, 1)."""
    [n, k] = answers.codes.shape
    if k == n_classes:
        return np.full((n, 1), LEAST)
    rest = np.maximum(1 - answers.mass.sum(1, dtype=np.float64, keepdims=True), REST)
    return np.asarray(np.maximum(rest / (n_classes - k), LEAST))


@dataclass(frozen=True)
class Combination:
    """How members are combined.

    "average" is a mean of their probabilities, to the power of 1 / temperature; its weights are a maximum of the
    likelihood on held rows. "stack" is a conditional logit, a softmax over weighted `Slate.columns`: a member counts
    more where the row is familiar to it, as alignments do where there is a good hit. No weight is negative: that makes
    stacking stable, and no class ranks lower for being named.

    Parameters
    ----------
    method : {"average", "stack"}
    weights : tuple of float
        One a member, or one a column.
    temperature : float
        1 with "stack".

    References
    ----------
    Breiman 1996, doi:10.1007/BF00117832 (stacking, weights at least 0); McFadden 1974, "Conditional logit analysis of
    qualitative choice behavior" (softmax over alternatives); Sill et al. 2009, arXiv:0911.0460 (weights by row).

    Examples
    --------
    >>> first = Ranked(np.array([[7]]), np.array([[0.6]]), np.zeros(1))
    >>> second = Ranked(np.array([[2]]), np.array([[0.8]]), np.zeros(1))
    >>> codes, mass = Combination("average", (0.5, 0.5)).votes(Slate.of([first, second], 9), 9).top(3)
    >>> codes.tolist(), mass.astype(float).round(4).tolist()
    ([[2, 7, 0]], [[0.425, 0.3125, 0.0375]])
    """

    method: Method
    weights: tuple[float, ...]
    temperature: float = 1.0

    @classmethod
    def plain(cls, method: Method, members: int) -> Combination:
        """Return the mean of all members, which either method begins at."""
        if method == "average":
            return cls(method, (1 / members,) * members)
        return cls(method, (0.0,) * 3 * members + (1.0,))

    @classmethod
    def fit(cls, method: Method, slate: Slate, truth: Indices, temperature: float | None = None) -> Combination:
        """Choose weights, and a temperature where none is given, on held rows; those of no class, -1, are left out."""
        slate = slate.take(truth >= 0)
        truth = truth[truth >= 0]
        plain = cls.plain(method, slate.mass.shape[2])
        if not len(truth):
            return replace(plain, temperature=temperature or 1.0)
        if method == "stack":
            return replace(plain, weights=_rounded(_stack(slate, slate.places(truth), np.array(plain.weights))))
        weights = _rounded(_average(slate, slate.places(truth)))
        average = replace(plain, weights=weights, temperature=temperature or 1.0)
        return average if temperature is not None else average._warmed(slate, truth)

    @property
    def familiar(self) -> tuple[bool, ...]:
        """Whether each member's familiarity has a weight."""
        if self.method == "average":
            return (False,) * len(self.weights)
        members = len(self.weights) // 3
        return tuple(weight > 0 for weight in self.weights[members : 2 * members])

    def _warmed(self, slate: Slate, truth: Indices) -> Combination:
        """Return it with the temperature of the least log loss."""
        from scipy.optimize import minimize_scalar

        scores = self.scores(slate)
        places = slate.places(truth)
        rows = np.arange(len(truth))

        def surprise(log_temperature: float) -> float:
            return float(-_normalised(scores / np.exp(log_temperature), slate.counts)[rows, places].mean())

        best = minimize_scalar(surprise, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
        return replace(self, temperature=float(np.exp(best.x)))

    def scores(self, slate: Slate) -> Numbers:
        """Return a score a place, (n, u + 1): a log probability up to a number of the row's."""
        weights = np.array(self.weights)
        if self.method == "average":
            return np.asarray(np.log(slate.mass @ weights) / self.temperature)
        return np.asarray(slate.columns() @ weights)

    def logs(self, slate: Slate) -> Numbers:
        """Return the log probability of a class of each place, (n, u + 1)."""
        return _normalised(self.scores(slate), slate.counts)

    def best(self, slate: Slate) -> Indices:
        """Return the likeliest class of each row, (n,), of equals the lowest code."""
        logs = np.where(slate.codes >= 0, self.logs(slate)[:, :-1], -np.inf)
        return np.asarray(slate.codes[np.arange(len(logs)), logs.argmax(1)])

    def votes(self, slate: Slate, n_classes: int) -> Votes:
        """Return probabilities of all classes."""
        mass = np.exp(self.logs(slate))
        other = mass[:, -1]
        mass = np.maximum(mass[:, :-1], mass[:, -1:])  # the candidates first, whatever is rounded
        order = np.argsort(np.where(slate.codes >= 0, -mass, np.inf), axis=1, kind="stable")
        codes = np.take_along_axis(slate.codes, order, 1)
        return Votes(codes, np.take_along_axis(mass, order, 1), other, np.ones(n_classes))


def cross_validated(
    method: Method, slate: Slate, truth: Indices, temperature: float | None = None, seed: int = 0
) -> tuple[Indices, float]:
    """Return the likeliest class of each held row, (n,), and the mean log loss, by weights fitted without its fold."""
    folds = np.random.default_rng(seed).permutation(np.arange(len(truth)) % FOLDS)
    best = np.zeros(len(truth), dtype=np.int64)
    losses = np.zeros(len(truth))
    for fold in range(FOLDS):
        rows = folds == fold
        if not rows.any():
            continue
        combination = Combination.fit(method, slate.take(~rows), truth[~rows], temperature)
        held = slate.take(rows)
        best[rows] = combination.best(held)
        losses[rows] = -combination.logs(held)[np.arange(rows.sum()), held.places(truth[rows])]
    known = truth >= 0
    return best, float(losses[known].mean()) if known.any() else 0.0


def _normalised(scores: Numbers, counts: Numbers) -> Numbers:
    """Return scores less the log of the sum of their exponentials over all classes, (n, u + 1)."""
    top = np.where(counts > 0, scores, -np.inf).max(1, keepdims=True)
    total = (counts * np.exp(np.minimum(scores - top, 0))).sum(1, keepdims=True)  # places of no class count 0 times
    return np.asarray(scores - top - np.log(total))


def _average(slate: Slate, places: Indices) -> Numbers:
    """Return the weights, of sum 1, of the largest likelihood (EM), with one row more for each member."""
    mass = slate.mass[np.arange(len(places)), places]  # (n, members)
    weights = np.full(mass.shape[1], 1 / mass.shape[1])
    for _ in range(STEPS):
        shares = mass * weights
        weights = (shares / shares.sum(1, keepdims=True)).sum(0) + 1
        weights /= weights.sum()
    return weights


def _stack(slate: Slate, places: Indices, start: Numbers) -> Numbers:
    """Return the weights, at least 0, of the largest likelihood, held near `start` by a ridge; there is one maximum."""
    from scipy.optimize import minimize

    columns = slate.columns()
    counts = slate.counts
    right = columns[np.arange(len(places)), places].sum(0)

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        scores = columns @ weights
        logs = _normalised(scores, counts)
        away = weights - start
        slope = np.tensordot(counts * np.exp(logs), columns, 2) - right
        return float(RIDGE * away @ away - logs[np.arange(len(places)), places].sum()), slope + 2 * RIDGE * away

    bounds = [(0, None)] * len(start)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _rounded(weights: Numbers) -> tuple[float, ...]:
    """Return weights as their text in the settings tells them."""
    return tuple(float(f"{weight:.6g}") for weight in weights)

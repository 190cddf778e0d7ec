"""From the hits of a search to probabilities: the bit scores of a class's members are added and weighed.

A class of b bits weighs exp(b / temperature). The classes without a hit weigh together, at most, as one of 0 bits, each
by its share of the training rows, its prior: where there is no hit at all, the probabilities are the priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esmcls.types import Indices, Probabilities

Numbers = npt.NDArray[np.float64]
LEAST = 1e-12
"""No probability counts as less in the log loss: classes without training rows have none."""


def priors_of(codes: Indices, n_classes: int) -> Numbers:
    """Return the share of each class among training rows, (classes,)."""
    return np.bincount(codes, minlength=n_classes) / len(codes)


@dataclass(frozen=True, eq=False)
class Tally:
    """The classes that were hit, by their bits, of equals the one of the better hit.

    Parameters
    ----------
    codes : int64 array, (n, k)
        Each class once a row; -1 after the last.
    bits : float64 array, (n, k)
        Sums over the hits of a class, at least 0; 0 after the last.
    """

    codes: Indices
    bits: Numbers

    @classmethod
    def of(cls, codes: Indices, bits: Numbers, voters: int | None = None) -> Tally:
        """Add up the bit scores of hits, (n, k), best first; a place without a hit holds -1 and 0.

        Of `voters`, only so many best hits are added up; a class among later hits alone has the bits of its best one,
        and never more than any that voted.

        Examples
        --------
        >>> codes, bits = np.array([[4, 7, 7, -1]]), np.array([[50.0, 40.0, 30.0, 0.0]])
        >>> tally = Tally.of(codes, bits)
        >>> tally.codes.tolist(), tally.bits.tolist()
        ([[7, 4, -1, -1]], [[70.0, 50.0, 0.0, 0.0]])
        >>> tally = Tally.of(codes, bits, voters=1)
        >>> tally.codes.tolist(), tally.bits.tolist()
        ([[4, 7, -1, -1]], [[50.0, 40.0, 0.0, 0.0]])
        """
        k = codes.shape[1] if voters is None else min(voters, codes.shape[1])
        same = codes[:, :, None] == codes[:, None, :]  # (n, k, k)
        sums = np.maximum((bits[:, None, :k] * same[:, :, :k]).sum(2), 0)
        later = ~same[:, :, :k].any(2)
        sums = np.where(later, np.clip(bits, 0, np.maximum(bits[:, k - 1 : k], 0)), sums)
        first = (same.argmax(2) == np.arange(codes.shape[1])) & (codes >= 0)  # the best hit of its class
        order = np.argsort(np.where(first, -sums, np.inf), axis=1, kind="stable")
        codes = np.where(first, codes, -1)
        sums = np.where(first, sums, 0.0)
        return cls(np.take_along_axis(codes, order, 1), np.take_along_axis(sums, order, 1))

    @classmethod
    def soft(cls, codes: Indices, nearness: npt.NDArray[np.floating], temperature: float) -> Tally:
        """Add up exp(nearness / temperature) over the voting neighbours of a class.

        The bits of a class are the nearness of one neighbour with as many votes, above that of the farthest neighbour.

        Parameters
        ----------
        codes : int64 array, (n, k)
            Classes of the neighbours that vote, nearest first.
        nearness : float array, (n, at least k)
            Of these, and of neighbours beyond.
        temperature : float

        Examples
        --------
        >>> tally = Tally.soft(np.array([[4, 7, 7]]), np.array([[0.9, 0.8, 0.8, 0.6]]), 0.5)
        >>> tally.codes.tolist(), tally.bits.round(2).tolist()
        ([[7, 4, -1]], [[0.55, 0.3, 0.0]])
        """
        above = nearness[:, : codes.shape[1]].astype(np.float64) - nearness[:, -1:]
        same = codes[:, :, None] == codes[:, None, :]  # (n, k, k)
        votes = np.exp((above - above[:, :1]) / temperature)  # at most 1
        with np.errstate(divide="ignore"):
            sums = above[:, :1] + temperature * np.log((votes[:, None, :] * same).sum(2))
        first = same.argmax(2) == np.arange(codes.shape[1])
        order = np.argsort(np.where(first, -sums, np.inf), axis=1, kind="stable")
        codes = np.where(first, codes, -1)
        sums = np.where(first, np.maximum(sums, above), 0.0)
        return cls(np.take_along_axis(codes, order, 1), np.take_along_axis(sums, order, 1))

    def weigh(self, priors: Numbers, temperature: float) -> Votes:
        """Turn bits into probabilities; `priors` (classes,) sum to 1."""
        hit = self.codes >= 0
        best = self.bits[:, :1]  # subtracted, so that nothing overflows
        weights = np.where(hit, np.exp((self.bits - best) / temperature), 0.0)
        unhit = np.maximum(1 - np.where(hit, priors[self.codes], 0.0).sum(1), 0.0)  # priors of the other classes
        other = np.exp(-best[:, 0] / temperature)
        total = weights.sum(1) + unhit * other
        return Votes(self.codes, weights / total[:, None], other / total, priors)


@dataclass(frozen=True, eq=False)
class Votes:
    """Probabilities of the classes that were hit, and what the prior of any other is multiplied by.

    Parameters
    ----------
    codes : int64 array, (n, k)
        As in `Tally`.
    mass : float64 array, (n, k)
        Their probabilities, falling.
    other : float64 array, (n,)
    priors : float64 array, (classes,)
    """

    codes: Indices
    mass: Numbers
    other: Numbers
    priors: Numbers

    def dense(self) -> Probabilities:
        """Return all probabilities, float32 (n, classes)."""
        out = (self.other[:, None] * self.priors).astype(np.float32)
        row, place = np.nonzero(self.codes >= 0)
        out[row, self.codes[row, place]] = self.mass[row, place]
        return out

    def top(self, k: int) -> tuple[Indices, Probabilities]:
        """Return the k likeliest codes and their probabilities, both (n, k); k is at most the number of classes.

        Those that were hit come first, then the others by their priors, of equals the lowest code.
        """
        [n, hits] = self.codes.shape
        frequent = np.argsort(-self.priors, kind="stable")[: k + hits]  # enough, whatever was hit
        taken = (frequent[None, :, None] == self.codes[:, None, :]).any(2)
        free = frequent[np.argsort(taken, axis=1, kind="stable")]
        named = (self.codes >= 0).sum(1)[:, None]  # stand first
        places = np.arange(k)[None, :]
        filled = np.take_along_axis(free, np.clip(places - named, 0, free.shape[1] - 1), 1)
        codes = np.full((n, k), -1, dtype=np.int64)
        codes[:, : min(k, hits)] = self.codes[:, :k]
        mass = np.zeros((n, k))
        mass[:, : min(k, hits)] = self.mass[:, :k]
        mass = np.where(codes >= 0, mass, self.other[:, None] * self.priors[filled])
        return np.where(codes >= 0, codes, filled), mass.astype(np.float32)

    def losses(self, truth: Indices) -> Numbers:
        """Return -log of the probability of each row's true class (n,); 0 where that is none of the classes, -1."""
        known = truth >= 0
        mass = np.where(self.codes == truth[:, None], self.mass, 0.0).sum(1)
        unhit = ~(self.codes == truth[:, None]).any(1)
        right = np.where(unhit, self.other * self.priors[truth], mass)
        return np.where(known, -np.log(np.maximum(right, LEAST)), 0.0)


def least_loss(
    tallies: Sequence[tuple[slice, Tally]], priors: Numbers, truth: Indices, temperatures: Sequence[float]
) -> tuple[float, float, Indices]:
    """Return the temperature with the least mean log loss, that loss, and the best class of each row, at any of them.

    Parameters
    ----------
    tallies : sequence of (slice, Tally)
        Rows and their votes.
    priors : float64 array, (classes,)
    truth : int64 array, (n,)
    temperatures : sequence of float
        Or softnesses. Of equals the first is taken.
    """

    def loss(temperature: float) -> float:
        losses = [tally.weigh(priors, temperature).losses(truth[rows]) for rows, tally in tallies]
        return float(np.concatenate(losses).mean())

    losses = {temperature: loss(temperature) for temperature in temperatures}
    temperature = min(losses, key=losses.__getitem__)
    best = [tally.weigh(priors, temperature).top(1)[0][:, 0] for _, tally in tallies]
    return temperature, losses[temperature], np.concatenate(best)

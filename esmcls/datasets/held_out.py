"""Rows that are set aside before anything is fitted: whole families, and rows for calibration.

part of the data set                  becomes        and serves
train, validation, test               kept           fitting, choosing, measuring
  a share of train's sequences        calibration    the thresholds of conformal sets, nothing else
  a share of the families, of which
    half, train and validation        strangers      the threshold of rejection
    half, train and validation        checks         what that threshold reaches, told with the model
    the same half, test               unseen         what it reaches on test proteins
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError


@dataclass(frozen=True)
class Shares:
    """The shares of a data set to set aside, by purpose.

    Parameters
    ----------
    families : float
        Share of the families, 0 to 0.5.
    calibration : float
        Share of the training sequences, 0 to 0.5.
    false_acceptance : float
        Share of proteins of unknown families that may be accepted at most.
    """

    families: float = 0.0
    calibration: float = 0.0
    false_acceptance: float = 0.05

    def __post_init__(self) -> None:
        for name, option in (("families", "--hold-out-families"), ("calibration", "--calibration")):
            if not 0 <= getattr(self, name) <= 0.5:
                raise UsageError(f"{option} {100 * getattr(self, name):g}%: give a share from 0% to 50%")
        if not 0 <= self.false_acceptance < 1:
            raise UsageError(f"--false-acceptance {100 * self.false_acceptance:g}%: give a share from 0% to below 100%")


NOTHING: Final = Shares()


@dataclass(frozen=True)
class SetAside:
    """A data set in the pieces of the table above; each may be empty but `kept`."""

    kept: Dataset
    calibration: Dataset
    strangers: Dataset
    checks: Dataset
    unseen: Dataset


def set_aside(dataset: Dataset, shares: Shares = NOTHING, seed: int = 0) -> SetAside:
    """Take families and calibration rows out of a data set.

    The draw depends on seed, names and sequences alone, not on the order of rows. Every family that is kept keeps
    a training sequence; equal sequences stay together.

    Parameters
    ----------
    dataset : Dataset
    shares : Shares
    seed : int

    Raises
    ------
    UsageError
        If there are too few families to hold any out.
    """
    strangers, checks = _families(dataset, shares.families, seed)
    unknown = strangers | checks
    known = [row for row, label in enumerate(dataset.labels) if label not in unknown]
    apart = _calibration(dataset.take(known).part("train"), shares.calibration, seed)
    trained = set(dataset.take(known).sequences)
    calibration = {row for row in known if dataset.parts[row] == "train" and dataset.sequences[row] in apart}
    return SetAside(
        dataset.take([row for row in known if row not in calibration]),
        dataset.take([row for row in known if row in calibration]),
        _rows_of(dataset, strangers, {"train", "validation"}, trained),
        _rows_of(dataset, checks, {"train", "validation"}, trained),
        _rows_of(dataset, checks, {"test"}, trained),
    )


def _rows_of(dataset: Dataset, families: Collection[str], parts: Collection[str], trained: Collection[str]) -> Dataset:
    """Return the rows of some families in some parts; a sequence that a kept family has too is no stranger."""
    rows = enumerate(zip(dataset.labels, dataset.parts, dataset.sequences, strict=True))
    chosen = [
        row
        for row, (family, part, sequence) in rows
        if family in families and part in parts and sequence not in trained
    ]
    return dataset.take(chosen)


def _families(dataset: Dataset, share: float, seed: int) -> tuple[set[str], set[str]]:
    """Draw families in two halves."""
    if not share:
        return set(), set()
    drawn = _shuffled(
        {label for label, part in zip(dataset.labels, dataset.parts, strict=True) if part == "train"}, seed
    )
    number = round(share * len(drawn))
    if number < 2:
        raise UsageError(
            f"--hold-out-families {100 * share:g}% of {len(drawn)} families is {number}; hold out at least 2"
        )
    return set(drawn[:number:2]), set(drawn[1:number:2])


def _calibration(train: Dataset, share: float, seed: int) -> set[str]:
    """Draw distinct sequences, none that is the last of a family."""
    families = defaultdict[str, set[str]](set)
    for sequence, label in zip(train.sequences, train.labels, strict=True):
        families[sequence].add(label)
    left = Counter(label for labels in families.values() for label in labels)
    drawn: set[str] = set()
    for sequence in _shuffled(families, seed):
        if len(drawn) >= round(share * len(families)):
            break
        if all(left[label] > 1 for label in families[sequence]):
            left.subtract(families[sequence])
            drawn.add(sequence)
    return drawn


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())

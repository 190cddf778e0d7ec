"""Rows that are set aside before anything is fitted, and families that are strangers in turn.

A stranger is a protein of a family that a model does not know. A model that is to be used learns all families: those
held out are strangers once each, in folds, to heads that are fitted for that alone (`stranger_folds`). Where models
are only measured, or a fit is too long to be done in folds, families are taken away for good:

part of the data set                  becomes        and serves
train, validation, test               kept           fitting, choosing, measuring
  a share of train's sequences        calibration    the thresholds of conformal sets, nothing else
  families taken away, of which
    half, train and validation        strangers      the threshold of rejection
    half, train and validation        checks         what that threshold reaches, told with the model
    the same half, test               unseen         what it reaches on test proteins
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from esmcls.datasets.dataset import Dataset
from esmcls.errors import UsageError
from esmcls.labels.kinds import ONE_LABEL

FOLDS: Final = 5
"""Folds of the families held out: so many more heads are fitted."""
MOST: Final = 3_000
"""Strangers that are asked about, of all folds: they tell 5 % to half a point, and each is as dear as a prediction."""
MOST_OF_FAMILY: Final = 10
"""Of one family: a stranger is one of any family, and those that are yet unknown are not the large ones."""
HELD_SHARE: Final = 0.2
"""Share of the training sequences that are no heads' in their fold, where there is no validation part."""


@dataclass(frozen=True)
class Shares:
    """The shares of a data set to set aside, by purpose, and where rejection is to draw the line.

    Parameters
    ----------
    families : float
        Share of the families that are held out, 0 to 1; if they are taken away, to 0.5.
    calibration : float
        Share of the training sequences, 0 to 0.5.
    false_acceptance : float
        Share of strangers that may be accepted at most.
    accept_known : float, optional
        Share of proteins of known families to accept; where given, the line is drawn there, whatever strangers pass.
    folds : int
        Folds in which families are held out; 0 takes them away for good.
    """

    families: float = 0.0
    calibration: float = 0.0
    false_acceptance: float = 0.05
    accept_known: float | None = None
    folds: int = FOLDS

    def __post_init__(self) -> None:
        if not self.families:
            object.__setattr__(self, "folds", FOLDS)  # nothing is done in them: all that hold nothing out are equal
        families = "--hold-out-families", self.families, 1.0 if self.folds else 0.5
        for option, share, most in (families, ("--calibration", self.calibration, 0.5)):
            if not 0 <= share <= most:
                raise UsageError(f"{option} {100 * share:g}%: give a share from 0% to {100 * most:g}%")
        if not 0 <= self.false_acceptance < 1:
            raise UsageError(f"--false-acceptance {100 * self.false_acceptance:g}%: give a share from 0% to below 100%")
        if self.accept_known is not None and not 0 < self.accept_known <= 1:
            raise UsageError(f"--accept-known {100 * self.accept_known:g}%: give a share from above 0% to 100%")
        if self.folds < 0 or self.folds == 1:
            raise UsageError(f"{self.folds} folds of families: give at least 2, or 0 to take families away for good")

    @property
    def away(self) -> float:
        """Share of the families that are taken away for good."""
        return 0.0 if self.folds else self.families

    def taking_away(self) -> Shares:
        """Return the same, but that families are taken away for good."""
        return replace(self, folds=0)

    @classmethod
    def of_setup(cls, setup: Mapping[str, Any]) -> Shares:
        """Read them from what a manifest says: by esmcls 0.1.0, families were taken away for good."""
        return cls(**{"folds": 0, **{name: setup[name] for name in asdict(NOTHING) if name in setup}})

    def at(self, false_acceptance: float | None = None, accept_known: float | None = None) -> Shares:
        """Return the same with another operating point, where one is given."""
        if false_acceptance is None and accept_known is None:
            return self
        strangers = self.false_acceptance if false_acceptance is None else false_acceptance
        return replace(self, false_acceptance=strangers, accept_known=accept_known)

    @property
    def rows(self) -> tuple[float, float, int]:
        """What decides which rows are set aside; the operating point does not."""
        return self.families, self.calibration, self.folds


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
    strangers, checks = _families(dataset, shares.away, seed)
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


@dataclass(frozen=True)
class StrangerFold:
    """One fold of the families: a head that is fitted on `train` knows none of the strangers'.

    Parameters
    ----------
    train : Dataset
        Training rows of all other families.
    known : Dataset
        Rows of these families that are not in `train`; in one fold each.
    strangers : Dataset
        Training and validation rows of the fold's families.
    """

    train: Dataset
    known: Dataset
    strangers: Dataset


def stranger_folds(dataset: Dataset, shares: Shares, seed: int = 0) -> list[StrangerFold]:
    """Draw families in folds, each to be a stranger once.

    Proteins of known families are those of the validation part; where there is none, of train: in their fold they are
    not fitted on. The draw depends on seed, names and sequences alone; equal sequences stay together.

    Parameters
    ----------
    dataset : Dataset
        Without what was set aside.
    shares : Shares
    seed : int

    Raises
    ------
    UsageError
        If there are too few families.
    """
    drawn = _drawn(dataset, shares.families, seed)
    count = min(shares.folds, len(drawn))
    fold_of = {family: place % count for place, family in enumerate(drawn)}
    train = dataset.part("train")
    if len(set(train.labels)) - -(-len(drawn) // count) < 2:
        problem = f"{len(set(train.labels))} families are too few to hold any out"
        raise UsageError(f"--hold-out-families {100 * shares.families:g}%: {problem}; it takes 3, better 20")
    held, taken = _held_rows(dataset, seed)
    numbers = [
        _known_in(fold_of.get(label), sequence, count, seed)
        for label, sequence in zip(held.labels, held.sequences, strict=True)
    ]
    folds = list[StrangerFold]()
    for number in range(count):
        families = {family for family, fold in fold_of.items() if fold == number}
        known = held.take([row for row, fold in enumerate(numbers) if fold == number])
        out = taken & set(known.sequences)
        rows = enumerate(zip(train.labels, train.sequences, strict=True))
        fitted = train.take([row for row, (label, text) in rows if label not in families and text not in out])
        strangers = _rows_of(dataset, families, {"train", "validation"}, {*fitted.sequences, *known.sequences})
        folds.append(StrangerFold(fitted, known, _some(strangers, MOST // count, seed)))
    return folds


def _held_rows(dataset: Dataset, seed: int) -> tuple[Dataset, set[str]]:
    """Return the rows of known families to ask about, and the sequences among them that train has."""
    train, validation = dataset.part("train"), dataset.part("validation")
    families = set(train.labels)
    held = validation.take([row for row, label in enumerate(validation.labels) if label in families])
    if len(held):
        return held, set()
    taken = _calibration(train, HELD_SHARE, seed)
    return train.take([row for row, sequence in enumerate(train.sequences) if sequence in taken]), taken


def _some(strangers: Dataset, most: int, seed: int) -> Dataset:
    """Return so many rows at most, and few of a family."""
    family_of = dict(zip(strangers.sequences, strangers.labels, strict=True))
    counts = Counter[str]()
    chosen = set[str]()
    for sequence in _shuffled(family_of, seed):
        counts[family_of[sequence]] += 1
        if counts[family_of[sequence]] <= MOST_OF_FAMILY and len(chosen) < most:
            chosen.add(sequence)
    return strangers.take([row for row, sequence in enumerate(strangers.sequences) if sequence in chosen])


def _known_in(fold: int | None, sequence: str, count: int, seed: int) -> int:
    """Return the fold in which a protein is one of a known family: any but that of its own family."""
    number = int(hashlib.sha256(f"{seed} {sequence}".encode()).hexdigest(), 16)
    return number % count if fold is None else (fold + 1 + number % (count - 1)) % count


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
    drawn = _drawn(dataset, share, seed)
    return set(drawn[::2]), set(drawn[1::2])


def _drawn(dataset: Dataset, share: float, seed: int) -> list[str]:
    """Draw a share of the families that train has; there must be two at least."""
    families = _shuffled(set(dataset.part("train").labels), seed)
    number = round(share * len(families))
    if number < 2:
        problem = f"--hold-out-families {100 * share:g}% of {len(families)} families is {number}"
        raise UsageError(f"{problem}; hold out at least 2")
    return families[:number]


def _calibration(train: Dataset, share: float, seed: int) -> set[str]:
    """Draw distinct sequences, none that is the last of a family; any, where labels are no families."""
    if train.task != ONE_LABEL:
        distinct = _shuffled(set(train.sequences), seed)
        return set(distinct[: round(share * len(distinct))])
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

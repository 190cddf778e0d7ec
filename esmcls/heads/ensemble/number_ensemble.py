"""The ensemble for numbers: several heads, whose numbers are added with weights of at least 0 (stacking)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError
from esmcls.heads.base import BaseNumberHead, Log, Validation
from esmcls.heads.blocks import HELD_OUT_MOST
from esmcls.heads.ensemble.members import BaseEnsemble, NumberMember, SavedMember, names_of
from esmcls.heads.number_scale import held_scores
from esmcls.heads.registry import NUMBER_GROUP, load_head
from esmcls.labels.numbers import Numbers
from esmcls.plain_values import read_as, write_json
from esmcls.types import Floats

if TYPE_CHECKING:
    from typing_extensions import Self

MEMBERS: Final = ("ridge", "mlp", "knn")
FOLDS: Final = 5
"""Within the held rows: weights are judged on rows that they were not fitted on."""
TRIFLE: Final = 1e-3
"""A weight below this share of all is 0: the member is left out."""


@dataclass(frozen=True)
class NumberEnsembleConfig:
    """Every knob of the ensemble; None is chosen when it is fitted.

    Parameters
    ----------
    members : str, optional
        Registered heads with commas between, each fitted with its defaults; a head named twice is fitted with
        two seeds. Of members that were fitted elsewhere, their names. By default ridge, mlp and knn; those that
        get no weight on validation are left out. When to change: other heads are better on validation, or one
        head with several seeds is wanted (mlp,mlp,mlp); for members with knobs of their own fit them first and
        name them with --of.
    """

    members: str | None = None

    def __post_init__(self) -> None:
        if self.members is not None:
            names_of(self.members)

    @property
    def names(self) -> list[str]:
        """The members' names."""
        return [*MEMBERS] if self.members is None else names_of(self.members)


@dataclass(frozen=True)
class Stack:
    """A number plus members' numbers, each times its weight.

    Parameters
    ----------
    weights : tuple of float, (members,)
        At least 0.
    shift : float
    """

    weights: tuple[float, ...]
    shift: float = 0.0

    @classmethod
    def plain(cls, members: int) -> Stack:
        """Return the mean."""
        return cls((1 / members,) * members)

    @classmethod
    def fit(cls, given: Floats, truth: Floats) -> Stack:
        """Return the weights of the least squared error; the mean where no member says anything of the truth.

        Parameters
        ----------
        given : float64 array, (n, members)
        truth : float64 array, (n,)

        References
        ----------
        Breiman 1996, doi:10.1007/BF00117832 (stacked regressions, weights of at least 0).

        Examples
        --------
        >>> truth = np.array([1.0, 2.0, 3.0, 4.0])
        >>> stack = Stack.fit(np.stack([2 * truth, -truth], 1), truth)
        >>> [round(weight, 6) for weight in stack.weights], round(stack.shift, 6)
        ([0.5, 0.0], 0.0)
        """
        from scipy.optimize import nnls

        if not len(truth):
            return cls.plain(given.shape[1])
        centre = given.mean(0)
        weights, _ = nnls(given - centre, truth - truth.mean())
        weights = np.where(weights < TRIFLE * weights.sum(), 0.0, weights)
        if not weights.any():
            return cls.plain(given.shape[1])
        return cls(tuple(weights.tolist()), float(truth.mean() - centre @ weights))

    def __call__(self, given: Floats) -> Floats:
        """Return the sums, (n,), of members' numbers (n, members)."""
        return np.asarray(given @ np.array(self.weights) + self.shift)


def out_of_fold(given: Floats, truth: Floats, seed: int) -> Floats:
    """Return what stacks say of rows, (n,), each of a stack that was fitted without its fold."""
    folds = np.random.default_rng(seed).permutation(len(truth)) % FOLDS
    predicted = np.zeros(len(truth))
    for fold in range(FOLDS):
        inside = folds == fold
        predicted[inside] = Stack.fit(given[~inside], truth[~inside])(given[inside])
    return predicted


class NumberEnsembleHead(BaseEnsemble[Numbers, NumberMember], BaseNumberHead):
    """Several heads as one, weighed on validation.

    Examples
    --------
    >>> x = Features.from_arrays(np.arange(80, dtype=np.float32).reshape(40, 2))
    >>> head = NumberEnsembleHead(NumberEnsembleConfig("ridge,knn")).fit(x, Numbers(np.arange(40.0)))
    >>> bool(abs(head.predict(x.take([10]))[0] - 10) < 1)
    True
    """

    Config: ClassVar[type[NumberEnsembleConfig]] = NumberEnsembleConfig
    config: NumberEnsembleConfig
    chosen: NumberEnsembleConfig
    stack: Stack = Stack((1.0,))

    @classmethod
    def of(
        cls, members: Sequence[NumberMember], given: Floats, truth: Numbers, device: str = "cpu", seed: int = 0
    ) -> Self:
        """Combine heads that are fitted already, of whatever encoders.

        Parameters
        ----------
        members : sequence of NumberMember
        given : float64 array, (n, members)
            Their answers for validation rows before they were fitted on them, if they ever were.
        truth : Numbers
            Of these rows.
        seed : int
            Of the folds within them.

        Raises
        ------
        UsageError
            If there are no members.
        """
        if not members:
            raise UsageError("an ensemble of no members; name at least one")
        head = cls(NumberEnsembleConfig(",".join(member.name for member in members)), device)
        head._weigh(members, given, truth, seed)
        return head

    def _fit(self, x: Features, labels: Numbers, validation: Validation[Numbers], seed: int, log: Log | None) -> None:
        """Fit each member, then weigh them on the validation part."""
        members = self._fitted(x, labels, validation, seed, log)
        held = validation[0].take(slice(0, HELD_OUT_MOST))
        given = np.stack([member.predict(held) for member in members], 1)
        self._weigh(members, given, validation[1].take(slice(HELD_OUT_MOST)), seed)
        if log is not None:
            log({f"weight {place}": weight for place, weight in enumerate(self.stack.weights)})

    def _refit(self, x: Features, labels: Numbers, seed: int, log: Log | None) -> None:
        """Fit each member on all rows; the weights stay."""
        if not self.members:  # nothing was chosen
            members = self._unfitted(x)
            self._take(members, Stack.plain(len(members)))
        self._refit_members(x, labels, seed, log)

    def _unfitted(self, x: Features | None = None) -> list[NumberMember]:
        names = self.config.names
        return [NumberMember(kind, kind, load_head(kind, NUMBER_GROUP)(None, self.device)) for kind in names]

    def _weigh(self, members: Sequence[NumberMember], given: Floats, truth: Numbers, seed: int) -> None:
        """Choose weights on held rows; `scores` are of weights that were fitted without each row's fold."""
        self.tried = tuple(member.name for member in members)
        stack = Stack.fit(given, truth.values)
        self.kept = tuple(place for place, weight in enumerate(stack.weights) if weight)
        weights = tuple(stack.weights[place] for place in self.kept)
        self._take([members[place] for place in self.kept], replace(stack, weights=weights))
        self.scores = held_scores(truth, out_of_fold(given, truth.values, seed))

    def _take(self, members: Sequence[NumberMember], stack: Stack) -> None:
        self.members = tuple(members)
        self.stack = stack
        self.chosen = replace(self.config, members=",".join(member.name for member in members))

    def predict(self, x: Features) -> Floats:
        """Return the number of each row, (n,)."""
        return self.stack(np.stack([member.predict(x) for member in self.members], 1))

    def save(self, folder: Path) -> None:
        """Write `members.json`, with the weights, and what each member writes, in `member-0/` and so on."""
        write_json(
            folder / "members.json",
            {"members": self._save_members(folder), "weights": self.stack.weights, "shift": self.stack.shift},
        )

    def _restore(self, folder: Path) -> None:
        saved = read_as(folder / "members.json", _Saved, ModelError, "fit again")
        if not saved.members or len(saved.members) != len(saved.weights):
            raise ModelError(folder / "members.json", "weights that are not of these members", "fit again")
        self._take(self._load_members(folder, saved.members), Stack(saved.weights, saved.shift))

    def _load_member(self, folder: Path, about: SavedMember) -> NumberMember:
        return NumberMember.load(folder, about, self.device)


@dataclass(frozen=True)
class _Saved:
    """What members.json holds."""

    members: tuple[SavedMember, ...]
    weights: tuple[float, ...]
    shift: float

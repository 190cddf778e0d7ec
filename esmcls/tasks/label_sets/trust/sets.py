"""Sets of classes with a stated coverage: on average they hold such a share of what a protein truly has.

    set = the classes of a group whose probability reaches the threshold of the group: of GO terms, of the aspect

The threshold is the highest by which conformal risk control promises the share, over draws of calibration proteins and
a new one from one source. What is covered is the share of a protein's true classes of a group, for proteins that have
any there: not each class, nor each kind of protein. True classes that no training protein has are left out by any set,
and count so. As no class is less probable than one that it contains, a set holds with a class all that contain it.

conformal.safetensors      of a model folder: probabilities of what calibration rows truly have

References
----------
Angelopoulos, Bates, Fisch, Lei & Schuster 2022, arXiv:2208.02814.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.errors import ModelError, UsageError
from esmcls.files import refuse_what_is_no_file
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Block, group_codes
from esmcls.metrics.calibration import most_coverage, risk_threshold
from esmcls.types import Floats, Indices

CONFORMAL: Final = "conformal.safetensors"
SHOWN: Final = 0.9
"""Coverage of the sets that are told of after a fit, and measured by `evaluate`."""
_ARRAYS: Final = {"scores": np.float32, "rows": np.int64, "place": np.int64}


@dataclass(frozen=True, eq=False)
class CalibratedSets:
    """What calibration rows tell of the probabilities of true classes.

    Parameters
    ----------
    groups : tuple of str
    scores : float32 array, (m,)
        The probability of each true class of each row; 0 where the model does not have the class.
    rows : int64 array, (m,)
        Whose class it is.
    place : int64 array, (m,)
        Of which group it is.
    """

    groups: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    rows: Indices
    place: Indices

    @classmethod
    def measure(cls, blocks: Iterable[Block], truth: LabelSets) -> CalibratedSets:
        """Take up the probabilities of rows that a model was not fitted on.

        Parameters
        ----------
        blocks : iterable of (slice, float array (rows, classes))
        truth : LabelSets
            The model's classes first, then those that only these rows have.
        """
        groups, place = group_codes(truth)
        scores = np.zeros(len(truth.codes), np.float32)
        for rows, block in blocks:
            for row, values in zip(range(rows.start, rows.stop), block, strict=True):
                codes = truth.row(row)
                there = codes < len(values)
                scores[truth.offsets[row] : truth.offsets[row + 1]][there] = values[codes[there]]
        rows_of = np.repeat(np.arange(len(truth)), truth.sizes())
        return cls(groups, scores, rows_of, place[truth.codes])

    def __len__(self) -> int:
        """Return the number of rows with a class."""
        return len(np.unique(self.rows))

    def thresholds(self, coverage: float, groups: str | None = None) -> dict[str, float]:
        """Return from what probability on a class of each group is in the set.

        Parameters
        ----------
        coverage : float
        groups : str, optional
            Of some groups alone, such as the aspects "CF".

        Raises
        ------
        UsageError
            If the coverage is not between 0 and 1, or calibration rows are too few for it, or lack too much.
        """
        if not 0 < coverage < 1:
            raise UsageError(f"coverage {coverage} is not between 0 and 1; give one such as 0.9")
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        thresholds = {}
        for group in (group for group in self.groups if groups is None or group in groups):
            scores, shares, n = self.of_group(group)
            named = "" if len(self.groups) == 1 else f" with a class of {group}"
            if n < least:
                problem = f"{n:,} calibration rows{named} are too few for sets of {100 * coverage:g} %"
                raise UsageError(f"{problem}: it takes {least:,}; fit with --calibration 10%, or more")
            thresholds[group] = risk_threshold(scores, shares, n, coverage)
            if math.isnan(thresholds[group]):
                most = most_coverage(float(shares[scores <= 0].sum()), n)
                problem = (
                    f"of what calibration rows{named} have, too much is of no training protein, or given no chance"
                )
                raise UsageError(f"{problem}; ask for a coverage of {math.floor(1000 * most) / 1000:g} at most")
        return thresholds

    def of_group(self, group: str) -> tuple[npt.NDArray[np.float32], Floats, int]:
        """Return the scores of a group, what each is of its row, and the number of rows."""
        here = self.place == self.groups.index(group)
        _, row, sizes = np.unique(self.rows[here], return_inverse=True, return_counts=True)
        return self.scores[here], 1.0 / sizes[row], len(sizes)

    def enough_for(self, coverage: float) -> bool:
        """Return whether sets of a coverage can be promised."""
        try:
            return bool(self.thresholds(coverage))
        except UsageError:
            return False

    def held_half(self, coverage: float) -> float | None:
        """Return what share sets made of half the rows hold of the rest, a mean over groups; None where too few."""
        known = np.unique(self.rows)
        first = np.isin(self.rows, np.random.default_rng(0).permutation(known)[: len(known) // 2])
        half, rest = self.taken(first), self.taken(~first)
        if set(half.groups) != set(rest.groups) or not half.enough_for(coverage):
            return None
        return float(np.mean([rest.held(group, value) for group, value in half.thresholds(coverage).items()]))

    def taken(self, chosen: npt.NDArray[np.bool_]) -> CalibratedSets:
        """Return the same of some true classes alone, bool (m,): groups that have none of these are left out."""
        groups = np.unique(self.place[chosen])
        names = tuple(self.groups[place] for place in groups)
        place = np.searchsorted(groups, self.place[chosen]).astype(np.int64)
        return CalibratedSets(names, self.scores[chosen], self.rows[chosen], place)

    def held(self, group: str, threshold: float) -> float:
        """Return the mean share of a row's classes of a group that reach a threshold."""
        scores, shares, n = self.of_group(group)
        return float(shares[scores >= np.float32(threshold)].sum() / n)

    def save(self, folder: Path) -> None:
        """Write the file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_file(arrays, folder / CONFORMAL, {"groups": json.dumps(self.groups)})

    @classmethod
    def load(cls, folder: Path) -> CalibratedSets | None:
        """Read what `save` wrote, if it did.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        path = folder / CONFORMAL
        if not path.is_file():
            return None
        fix = "copy the model folder anew, or fit again"
        try:
            refuse_what_is_no_file(path)
            with safe_open(path, "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
                groups = json.loads((file.metadata() or {}).get("groups", "[]"))
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(path, f"cannot be read ({str(error)[:160]})", fix) from None
        if not _is_sound(arrays, groups):
            raise ModelError(path, "is damaged (its arrays do not fit one another)", fix)
        return cls(tuple(groups), **arrays)

    def line(self, noun: str = "term") -> str:
        """Say from what probability on classes are in a set, and what sets hold, for people."""
        rows = f"{len(self):,} calibration rows"
        try:
            thresholds = self.thresholds(SHOWN)
        except UsageError as error:
            return f"no sets of {100 * SHOWN:g} %: {error}"
        pieces = [
            f"{value:.3g}" if len(thresholds) == 1 else f"{name} {value:.3g}" for name, value in thresholds.items()
        ]
        first = f"{rows}: sets of {100 * SHOWN:g} % hold {noun}s from a probability of {', '.join(pieces)} on"
        held = self.held_half(SHOWN)
        if held is None:
            return first
        return f"{first}; those made of half of them hold {100 * held:.1f} % of the {noun}s of the rest"


def _is_sound(arrays: Mapping[str, npt.NDArray[Any]], groups: object) -> bool:
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        return False
    alike = {array.shape for array in arrays.values()}
    if len(alike) != 1 or any(array.ndim != 1 or array.dtype != _ARRAYS[name] for name, array in arrays.items()):
        return False
    place, scores = arrays["place"], arrays["scores"]
    in_range = not len(place) or (int(place.min()) >= 0 and int(place.max()) < len(groups))
    return in_range and bool((np.isfinite(scores) & (scores >= 0)).all())


def least_in_set(thresholds: Mapping[str, float], groups: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return from what probability on each class is in a set, (classes,): never, where its group has no threshold."""
    return np.array([thresholds.get(group, np.inf) for group in groups], np.float32)

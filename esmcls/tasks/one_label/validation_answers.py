"""What a head said of rows that it was not fitted on, kept beside it.

Of validation rows, before it was fitted on them, if it ever was: ensembles choose weights on it. Of families held out
in folds, and of known ones beside them: rejection draws its line there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.errors import ModelError
from esmcls.files import refuse_what_is_no_file
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

CANDIDATES: Final = 20
"""Classes a row that are kept."""
_INT: Final = np.dtype(np.int64)
_ARRAYS: Final = ("codes", "probabilities", "familiarity", "truth")
_FOLD_ARRAYS: Final = ("codes", "probabilities", "familiarity", "families", "folds", "strangers")


class Ranks(Protocol):
    """A fitted head, as far as it is needed here."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]: ...
    def familiarity(self, x: Features) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, eq=False)
class Held:
    """The likeliest classes of validation rows, from a head that was not fitted on them.

    Parameters
    ----------
    codes : int64 array, (n, k)
        Class codes, the likeliest first.
    probabilities : float32 array, (n, k)
    familiarity : float64 array, (n,)
    truth : int64 array, (n,)
        Code of each row's class; -1 where the head does not know it.
    digest : str
        Of the rows' sequences in their order: two heads were asked of the same rows where these are equal.
    """

    codes: Indices
    probabilities: Probabilities
    familiarity: npt.NDArray[np.float64]
    truth: Indices
    digest: str

    @classmethod
    def of(cls, head: Ranks, x: Features, labels: Labels) -> Held:
        """Ask a head for the classes of rows."""
        codes, probabilities = head.top_k(x, CANDIDATES)
        digest = hashlib.sha256("\n".join(x.sequences).encode()).hexdigest()
        return cls(codes, probabilities, head.familiarity(x), labels.codes, digest)

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> Held:
        """Return the same with the codes of a tuple of classes that holds all of the former one."""
        place = {name: code for code, name in enumerate(after)}
        moved = np.array([*(place[name] for name in before), -1], dtype=np.int64)
        return Held(moved[self.codes], self.probabilities, self.familiarity, moved[self.truth], self.digest)

    def in_folds(self, count: int) -> FoldAnswers:
        """Return the rows of classes that the head knows as ones of known families, dealt to folds."""
        rows = np.flatnonzero(self.truth >= 0)
        return FoldAnswers(
            self.codes[rows],
            self.probabilities[rows],
            self.familiarity[rows],
            self.truth[rows],
            rows % count,
            np.zeros(len(rows), dtype=bool),
            self.digest,
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({name: getattr(self, name) for name in _ARRAYS}, path, {"digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Held:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        arrays, digest = _read(path, _ARRAYS)
        held = cls(**arrays, digest=digest)
        shapes = {held.probabilities.shape: 2, held.codes.shape: 2, (len(held.truth), *held.codes.shape[1:]): 2}
        flat = held.familiarity.shape == held.truth.shape == held.codes.shape[:1]
        if len(shapes) != 1 or held.codes.ndim != 2 or not flat or {held.codes.dtype, held.truth.dtype} != {_INT}:
            raise ModelError(path, "is damaged (its arrays do not fit one another)", "fit again")
        return held


@dataclass(frozen=True, eq=False)
class FoldAnswers:
    """The likeliest classes of strangers and of proteins of known families, from heads that were fitted on neither.

    Parameters
    ----------
    codes : int64 array, (n, k)
        Class codes of the model, the likeliest first; -1 after the last.
    probabilities : float32 array, (n, k)
    familiarity : float64 array, (n,)
    families : int64 array, (n,)
        A number for each family.
    folds : int64 array, (n,)
        In which fold's head was asked.
    strangers : bool array, (n,)
        Whether that head knew nothing of the protein's family.
    digest : str
        Of the rows in their order.
    """

    codes: Indices
    probabilities: Probabilities
    familiarity: npt.NDArray[np.float64]
    families: Indices
    folds: Indices
    strangers: npt.NDArray[np.bool_]
    digest: str = ""

    @classmethod
    def of(
        cls, head: Ranks, x: Features, rows: Dataset, fold: int, strangers: bool, places: Mapping[str, int]
    ) -> FoldAnswers:
        """Ask a head about rows.

        Parameters
        ----------
        head : Ranks
        x : Features
            Of the rows.
        rows : Dataset
        fold : int
        strangers : bool
            Whether they are.
        places : mapping
            Name of a class -> its code in the model; empty for the head's own codes. Where the head has few classes,
            those that it lacks come last, with probability 0.
        """
        n = len(rows)
        codes, probabilities = head.top_k(x, CANDIDATES)
        if places:
            columns = np.array([places[name] for name in head.classes], dtype=np.int64)
            lacking = np.setdiff1d(np.arange(len(places)), columns)[: CANDIDATES - codes.shape[1]]
            codes = np.concatenate((columns[codes], np.tile(lacking, (n, 1))), 1)
        return cls(
            codes.astype(np.int64),
            _widened(probabilities.astype(np.float32), codes.shape[1], 0),
            head.familiarity(x),
            np.array([_number(label) for label in rows.labels], dtype=np.int64),
            np.full(n, fold, dtype=np.int64),
            np.full(n, strangers),
            hashlib.sha256("\n".join([str(strangers), *rows.sequences]).encode()).hexdigest(),
        )

    @classmethod
    def joined(cls, parts: Sequence[FoldAnswers]) -> FoldAnswers:
        """Put the answers of folds one after another."""
        widest = max(part.codes.shape[1] for part in parts)
        parts = [
            replace(
                part,
                codes=_widened(part.codes, widest, -1),
                probabilities=_widened(part.probabilities, widest, 0),
            )
            for part in parts
        ]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _FOLD_ARRAYS}
        digest = hashlib.sha256(" ".join(part.digest for part in parts).encode()).hexdigest()
        return cls(**arrays, digest=digest)

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> FoldAnswers:
        """Return the same with the codes of a tuple of classes that holds all of the former one."""
        place = {name: code for code, name in enumerate(after)}
        moved = np.array([*(place[name] for name in before), -1], dtype=np.int64)
        return replace(self, codes=moved[self.codes])

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _FOLD_ARRAYS}
        save_file(arrays, path, {"digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> FoldAnswers:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is damaged.
        """
        arrays, digest = _read(path, _FOLD_ARRAYS)
        rows = cls(**arrays, digest=digest)
        flat = {array.shape for array in (rows.familiarity, rows.families, rows.folds, rows.strangers)}
        kinds = {rows.codes.dtype, rows.families.dtype, rows.folds.dtype}
        alike = rows.codes.ndim == 2 and rows.probabilities.shape == rows.codes.shape and flat == {rows.codes.shape[:1]}
        if not alike or kinds != {_INT} or rows.strangers.dtype != np.bool_:
            raise ModelError(path, "is damaged (its arrays do not fit one another)", "fit again")
        return rows


def _read(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return the arrays of a safetensors file and its digest; a damaged one is a ModelError."""
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "numpy") as file:
            digest = (file.metadata() or {}).get("digest")
            absent = sorted({*names} - {*file.keys()})
            if absent or digest is None:
                raise ValueError(f"lacks {absent[0] if absent else 'its digest'}")
            return {name: file.get_tensor(name) for name in names}, digest
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelError(path, f"is damaged ({error})", "fit again") from None


def _widened(array: npt.NDArray[Any], width: int, fill: int) -> npt.NDArray[Any]:
    """Return an array (n, width), filled up on the right."""
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)


def _number(family: str) -> int:
    """Return the same number for a family wherever it is met."""
    return int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "little", signed=True)

"""Members of an ensemble: fitted heads, the features that each reads, and the best classes that it names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import UsageError
from esmcls.heads.registry import Head, load_head, parse_settings, reads_vectors
from esmcls.labels.labels import Labels
from esmcls.types import Indices

Numbers = npt.NDArray[np.float64]
Rows = slice | Indices | npt.NDArray[np.bool_]

MARKS = 101
"""Quantiles that are kept of a head's familiarity."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best classes of rows, as one head gives them.

    Parameters
    ----------
    codes : int64 array, (n, k)
        Each class once a row, the likeliest first.
    mass : float array, (n, k)
        Their probabilities.
    familiarity : float64 array, (n,)
        What the head's `familiarity` gives, or where that is among validation rows, from 0 to 1.
    """

    codes: Indices
    mass: npt.NDArray[np.floating]
    familiarity: Numbers

    @classmethod
    def of(cls, head: Head, x: Features, k: int) -> Ranked:
        """Ask a fitted head for its k best classes and for what it is familiar with."""
        return cls(*head.top_k(x, k), head.familiarity(x))

    def take(self, rows: Rows) -> Ranked:
        """Return some rows."""
        return Ranked(self.codes[rows], self.mass[rows], self.familiarity[rows])

    def first(self, k: int) -> Ranked:
        """Return the k best classes, or all if there are fewer."""
        return replace(self, codes=self.codes[:, :k], mass=self.mass[:, :k])


@dataclass(frozen=True)
class Scale:
    """What the familiarity of a head was on validation rows, so that heads can be compared.

    Parameters
    ----------
    marks : tuple of float
        Rising: evenly spaced quantiles.
    """

    marks: tuple[float, ...] = (-1.0, 1.0)

    @classmethod
    def of(cls, familiarity: Numbers) -> Scale:
        """Take the quantiles of rows (n,).

        Examples
        --------
        >>> scale = Scale.of(np.arange(11.0))
        >>> scale.shares(np.array([-7.0, 5.0, 99.0])).tolist(), scale.standardised(np.array([5.0])).tolist()
        ([0.0, 0.5, 1.0], [0.0])
        """
        return cls(tuple(np.quantile(familiarity, np.linspace(0, 1, MARKS)).tolist())) if len(familiarity) else cls()

    def shares(self, familiarity: Numbers) -> Numbers:
        """Return the share of validation rows that were less familiar, (n,)."""
        return np.asarray(np.interp(familiarity, self.marks, np.linspace(0, 1, len(self.marks))))

    def standardised(self, familiarity: Numbers) -> Numbers:
        """Return the familiarity less its mean, over its deviation, (n,)."""
        return np.asarray((familiarity - np.mean(self.marks)) / (np.std(self.marks) or 1.0))


@dataclass(frozen=True, eq=False)
class Member:
    """A fitted head of an ensemble.

    Parameters
    ----------
    name : str
        What the user calls it.
    kind : str
        Registered name of the head.
    head : Head
    spec : EmbeddingSpec, optional
        Of the vectors it reads; None for the features as they are given.
    held : Ranked, optional
        What it gave for the validation rows before it was fitted on them, if it ever was.
    scale : Scale
        Of its familiarity there.
    """

    name: str
    kind: str
    head: Head
    spec: EmbeddingSpec | None = None
    held: Ranked | None = None
    scale: Scale = Scale()

    def view(self, x: Features) -> Features:
        """Return the features that the head reads."""
        return x.of(self.spec) if reads_vectors(self.head) else x

    def familiarity(self, x: Features) -> Numbers:
        """Return the head's familiarity with rows, (n,), in deviations from its mean on validation rows."""
        return self.scale.standardised(self.head.familiarity(self.view(x)))

    def ranked(self, x: Features, k: int, familiar: bool) -> Ranked:
        """Return the k best classes and, where asked for, the share of validation rows that were less familiar."""
        seen = self.view(x)
        shares = self.scale.shares(self.head.familiarity(seen)) if familiar else np.zeros(len(x))
        return Ranked(*self.head.top_k(seen, k), shares)

    def checked(self, truth: Labels, candidates: int) -> Ranked:
        """Return what it gave for the validation rows.

        Raises
        ------
        UsageError
            If its classes are not those of `truth`, or there are other rows or too few classes a row.
        """
        n, classes, k = len(truth), truth.n_classes, min(candidates, truth.n_classes)
        if self.head.classes != truth.classes:
            found = f"was fitted on {len(self.head.classes)} classes, not the {classes} of the validation labels"
            raise UsageError(f"member {self.name} {found}; combine heads that were fitted on the same classes")
        if self.held is None or len(self.held.codes) != n or self.held.codes.shape[1] < k:
            found = "nothing" if self.held is None else "{1} classes of {0} rows".format(*self.held.codes.shape)
            raise UsageError(f"member {self.name}: {found} ranked on validation; rank {k} classes of {n} rows")
        return self.held

    def about(self) -> dict[str, Any]:
        """Return what JSON can hold of it, without what the head's `save` writes."""
        spec = None if self.spec is None else self.spec.to_json()
        about = {"name": self.name, "head": self.kind, "spec": spec, "familiarity": list(self.scale.marks)}
        return about | {"config": asdict(self.head.chosen)}

    @classmethod
    def load(cls, about: dict[str, Any], folder: Path, classes: tuple[str, ...], device: str) -> Member:
        """Read the head that lies in a folder."""
        kind = load_head(about["head"])
        head = kind.load(folder, parse_settings(kind.Config, about["config"]), classes, device)
        spec = None if about["spec"] is None else EmbeddingSpec.from_json(about["spec"])
        return cls(about["name"], about["head"], head, spec, scale=Scale(tuple(about["familiarity"])))

"""Ensembles of either kind: members, fitted heads with the features that each reads, and the frame of them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import ModelError, UsageError
from esmcls.heads.base import AnswersInBlocks, Head, HeadFrame, L, Log, NumberHead, ReadsSpecs, TermHead, Validation
from esmcls.heads.blocks import TermBlocks, row_slices
from esmcls.heads.neighbours.votes import Numbers
from esmcls.heads.registry import GROUP, NUMBER_GROUP, TERM_GROUP, Group, load_head, reads_residues, reads_vectors
from esmcls.heads.settings import parse_settings
from esmcls.labels.labels import Labels
from esmcls.types import Floats, Indices

if TYPE_CHECKING:
    from typing_extensions import Never, Self

    from esmcls.heads.base import FittableHead

H = TypeVar("H", bound="FittableHead[Never]")
M = TypeVar("M", bound="BaseMember[Any]")
Selected = slice | Indices | npt.NDArray[np.bool_]
"""Row numbers, a slice or a mask."""

MARKS = 101
"""Quantiles that are kept of a head's familiarity."""


def names_of(members: str) -> list[str]:
    """Return the names of a setting `members`.

    Raises
    ------
    UsageError
        If one is empty.
    """
    names = [name.strip() for name in members.split(",")]
    if not all(names):
        raise UsageError(f"setting members: {members!r} is not names with commas between, such as linear,knn")
    return names


@dataclass(frozen=True, eq=False)
class BaseMember(Generic[H]):
    """A fitted head of an ensemble.

    Parameters
    ----------
    name : str
        The user's name for it.
    kind : str
        Registered name of the head.
    head : Head, TermHead or NumberHead
    spec : EmbeddingSpec, optional
        Of the vectors it reads; None for the features as they are given.
    """

    name: str
    kind: str
    head: H
    spec: EmbeddingSpec | None = None

    def view(self, x: Features) -> Features:
        """Return the features that the head reads."""
        return x.of(self.spec) if reads_vectors(self.head) else x

    def about(self) -> dict[str, Any]:
        """Return the part of it that JSON can hold: all but what the head's `save` writes."""
        spec = None if self.spec is None else self.spec.to_json()
        return {"name": self.name, "head": self.kind, "spec": spec, "config": asdict(self.head.chosen)}


@dataclass(frozen=True)
class SavedMember:
    """What members.json holds of a member; see `BaseMember.about`."""

    name: str
    head: str
    spec: dict[str, Any] | None
    config: dict[str, Any]
    familiarity: tuple[float, ...] = ()


def head_of(about: SavedMember, group: Group[H]) -> tuple[type[H], Any, EmbeddingSpec | None]:
    """Return the class of a member's head, its configuration and its spec, from what `about` gave."""
    kind = load_head(about.head, group)
    spec = None if about.spec is None else EmbeddingSpec.from_json(about.spec)
    return kind, parse_settings(kind.Config, about.config), spec


class BaseEnsemble(HeadFrame[L], Generic[L, M]):
    """Several heads as one. How their answers are brought together is up to the kind of labels."""

    members: tuple[M, ...] = ()
    tried: tuple[str, ...] = ()
    """Names of all members that weights were chosen for by the last fit."""
    kept: tuple[int, ...] = ()
    """Places among them of those that are needed."""

    def __copy__(self) -> Self:
        """Return an ensemble whose members can be fitted again without touching these."""
        again = object.__new__(type(self))
        vars(again).update(vars(self))
        again.members = tuple(replace(member, head=copy.copy(member.head)) for member in self.members)
        return again

    @property
    def reads_vectors(self) -> bool:
        """Whether any member reads vectors."""
        return any(reads_vectors(member.head) for member in self.members or self._unfitted())

    @property
    def reads_residues(self) -> bool:
        """Whether any member reads residues."""
        return any(reads_residues(member.head) for member in self.members or self._unfitted())

    @property
    def explanation(self) -> str:
        """Which members the last fit left out; nothing where it left out none."""
        left_out = [name for place, name in enumerate(self.tried) if place not in self.kept]
        if not left_out:
            return ""
        taken = ", ".join(self.tried[place] for place in self.kept)
        return f"of {', '.join(self.tried)} it takes {taken}; on validation it is as good without {', '.join(left_out)}"

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The specs of the vectors that members read, each once; none where they read features as they are given."""
        specs: dict[EmbeddingSpec, None] = {}
        for member in self.members:
            if member.spec is not None and reads_vectors(member.head):
                specs[member.spec] = None
            if isinstance(member.head, ReadsSpecs):
                specs |= dict.fromkeys(member.head.specs)
        return tuple(specs)

    def _forget(self) -> None:
        super()._forget()
        self.members = ()

    @abstractmethod
    def _unfitted(self, x: Features | None = None) -> list[M]:
        """Return the members that the configuration names, with heads that are yet to be fitted.

        Where it names none, those that can be fitted on `x`.
        """

    def _fitted(self, x: Features, labels: L, validation: Validation[L], seed: int, log: Log | None) -> list[M]:
        """Return members that choose on the validation rows, each with a seed of its own."""
        members = self._unfitted(x)
        for place, member in enumerate(members):
            member.head.fit(x, labels, validation, seed + place, log)
        return members

    def _refit_members(self, x: Features, labels: L, seed: int, log: Log | None) -> None:
        """Fit each member on all rows, with a seed of its own."""
        for place, member in enumerate(self.members):
            member.head.refit(member.view(x), labels, seed + place, log)

    def _save_members(self, folder: Path) -> list[dict[str, Any]]:
        """Write what each member writes, in `member-0/` and so on; return what else there is to keep of them."""
        for place, member in enumerate(self.members):
            (folder / f"member-{place}").mkdir()
            member.head.save(folder / f"member-{place}")
        return [member.about() for member in self.members]

    def _load_members(self, folder: Path, about: Sequence[SavedMember]) -> tuple[M, ...]:
        """Read what `_save_members` wrote and returned."""
        try:
            return tuple(self._load_member(folder / f"member-{place}", entry) for place, entry in enumerate(about))
        except ValueError as error:  # of a spec
            raise ModelError(folder / "members.json", f"is damaged ({error})", "fit again") from None

    @abstractmethod
    def _load_member(self, folder: Path, about: SavedMember) -> M:
        """Read the head that lies in a folder."""


def check_members(members: Sequence[BaseMember[Any]], classes: tuple[str, ...]) -> None:
    """Check that there are members, which were fitted on the classes that they are to be combined for.

    Raises
    ------
    UsageError
        If that is not so.
    """
    if not members:
        raise UsageError("an ensemble of no members; name at least one")
    for member in members:
        if member.head.classes != classes:
            facts = f"was fitted on {len(member.head.classes)} classes, not the {len(classes)} of the validation labels"
            raise UsageError(f"member {member.name} {facts}; combine heads that were fitted on the same classes")


# one label


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
        As the head's `familiarity` gives it, or where that is among validation rows, from 0 to 1.
    """

    codes: Indices
    mass: npt.NDArray[np.floating]
    familiarity: Numbers

    @classmethod
    def of(cls, head: Head, x: Features, k: int) -> Ranked:
        """Ask a fitted head for its k best classes and for what it is familiar with."""
        return cls(*head.top_k(x, k), head.familiarity(x))

    def take(self, rows: Selected) -> Ranked:
        """Return some rows."""
        return Ranked(self.codes[rows], self.mass[rows], self.familiarity[rows])

    def first(self, k: int) -> Ranked:
        """Return the k best classes, or all if there are fewer."""
        return replace(self, codes=self.codes[:, :k], mass=self.mass[:, :k])


@dataclass(frozen=True)
class Scale:
    """The familiarity of a head on validation rows, so that heads can be compared.

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
class Member(BaseMember[Head]):
    """A fitted head for one label; see `BaseMember`.

    Parameters
    ----------
    held : Ranked, optional
        Its answers for the validation rows before it was fitted on them, if it ever was.
    scale : Scale
        Of its familiarity there.
    """

    held: Ranked | None = None
    scale: Scale = Scale()

    def familiarity(self, x: Features) -> Numbers:
        """Return the head's familiarity with rows, (n,), in deviations from its mean on validation rows."""
        return self.scale.standardised(self.head.familiarity(self.view(x)))

    def ranked(self, x: Features, k: int, familiar: bool) -> Ranked:
        """Return the k best classes and, where asked for, the share of validation rows that were less familiar."""
        seen = self.view(x)
        shares = self.scale.shares(self.head.familiarity(seen)) if familiar else np.zeros(len(x))
        return Ranked(*self.head.top_k(seen, k), shares)

    def checked(self, truth: Labels, candidates: int) -> Ranked:
        """Return its answers for the validation rows.

        Raises
        ------
        UsageError
            If there are other rows or too few classes a row.
        """
        n = len(truth)
        k = min(candidates, truth.n_classes)
        if self.held is None or len(self.held.codes) != n or self.held.codes.shape[1] < k:
            ranked = "nothing" if self.held is None else "{1} classes of {0} rows".format(*self.held.codes.shape)
            raise UsageError(f"member {self.name}: {ranked} ranked on validation; rank {k} classes of {n} rows")
        return self.held

    def about(self) -> dict[str, Any]:
        """Return the part of it that JSON can hold: all but what the head's `save` writes."""
        about = super().about()
        config = about.pop("config")
        return about | {"familiarity": list(self.scale.marks), "config": config}

    @classmethod
    def load(cls, folder: Path, about: SavedMember, classes: tuple[str, ...], device: str) -> Member:
        """Read the head that lies in a folder."""
        kind, config, spec = head_of(about, GROUP)
        head = kind.load(folder, config, classes, device)
        if not about.familiarity:
            raise ModelError(folder, "a member without its familiarity on validation", "fit again")
        return cls(about.name, about.head, head, spec, scale=Scale(about.familiarity))


# many labels


@dataclass(frozen=True, eq=False)
class TermMember(BaseMember[TermHead]):
    """A fitted head for many labels; see `BaseMember`."""

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and the head's probabilities: its own blocks if it has any, else one after another.

        Those of `row_slices`, whichever: all members' are the same.
        """
        seen = self.view(x)
        if isinstance(self.head, AnswersInBlocks):  # one search for all rows
            yield from self.head.blocks(seen)
        else:
            for rows in row_slices(len(seen), len(self.head.classes)):
                yield rows, self.head.predict_proba(seen.take(rows))

    @classmethod
    def load(
        cls, folder: Path, about: SavedMember, classes: tuple[str, ...], groups: tuple[str, ...], device: str
    ) -> TermMember:
        """Read the head that lies in a folder."""
        kind, config, spec = head_of(about, TERM_GROUP)
        return cls(about.name, about.head, kind.load(folder, config, classes, groups, device), spec)


# numbers


@dataclass(frozen=True, eq=False)
class NumberMember(BaseMember[NumberHead]):
    """A fitted head for a number a protein; see `BaseMember`."""

    def predict(self, x: Features) -> Floats:
        """Return the head's number of each row, (n,)."""
        return self.head.predict(self.view(x))

    @classmethod
    def load(cls, folder: Path, about: SavedMember, device: str) -> NumberMember:
        """Read the head that lies in a folder."""
        kind, config, spec = head_of(about, NUMBER_GROUP)
        return cls(about.name, about.head, kind.load(folder, config, device), spec)

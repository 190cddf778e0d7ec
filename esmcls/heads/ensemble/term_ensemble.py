"""The ensemble for many labels: several heads, whose calibrated probabilities are weighed; see `mixing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import UsageError
from esmcls.files import read_json, write_json
from esmcls.heads.alignment.search import installed
from esmcls.heads.ensemble.term_mixing import MemberBlocks, Mix, Mixes, Pairs, choose, mixed
from esmcls.heads.neighbours.term_votes import HELD_MOST
from esmcls.heads.registry import Log, load_head, parse_settings, reads_vectors
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import Blocks, check_sets, row_slices, score
from esmcls.heads.term_heads import GROUP
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import group_codes
from esmcls.types import Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class TermEnsembleConfig:
    """Every knob of the ensemble; None is chosen when it is fitted.

    Parameters
    ----------
    members : str, optional
        Registered heads with commas between, each fitted with its defaults; a head named twice is fitted with two
        seeds. Of members that were fitted elsewhere, their names. By default linear, knn and, where an engine for it is
        installed, homology.
    """

    members: str | None = None

    def __post_init__(self) -> None:
        if not all(self.names):
            raise UsageError(f"setting members: {self.members!r} is not names with commas between, such as linear,knn")

    @property
    def names(self) -> list[str]:
        """The members' names."""
        if self.members is None:
            return ["linear", "knn", *(["homology"] if installed() is not None else [])]
        return [name.strip() for name in self.members.split(",")]


@dataclass(frozen=True, eq=False)
class TermMember:
    """A fitted head of an ensemble.

    Parameters
    ----------
    name : str
        What the user calls it.
    kind : str
        Registered name of the head.
    head : TermHead
    spec : EmbeddingSpec, optional
        Of the vectors it reads; None for the features as they are given.
    """

    name: str
    kind: str
    head: Any = field(repr=False)
    spec: EmbeddingSpec | None = None

    def view(self, x: Features) -> Features:
        """Return the features that the head reads."""
        return x.of(self.spec) if reads_vectors(self.head) else x

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and what the head says of them: its own blocks if it tells any, else one after another.

        Those of `row_slices`, whichever: all members' are the same.
        """
        seen = self.view(x)
        if hasattr(self.head, "blocks"):  # one search for all rows
            yield from self.head.blocks(seen)
        else:
            for rows in row_slices(len(seen), len(self.head.classes)):
                yield rows, self.head.predict_proba(seen.take(rows))

    def about(self) -> dict[str, Any]:
        """Return what JSON can hold of it, without what the head's `save` writes."""
        spec = None if self.spec is None else self.spec.to_json()
        return {"name": self.name, "head": self.kind, "spec": spec, "config": asdict(self.head.chosen)}

    @classmethod
    def load(cls, about: dict[str, Any], folder: Path, ensemble: TermEnsembleHead) -> TermMember:
        """Read the head that lies in a folder."""
        kind: Any = load_head(about["head"], GROUP)
        config = parse_settings(kind.Config, about["config"])
        head = kind.load(folder, config, ensemble.classes, ensemble.groups, ensemble.device)
        spec = None if about["spec"] is None else EmbeddingSpec.from_json(about["spec"])
        return cls(about["name"], about["head"], head, spec)


class TermEnsembleHead(BaseTermHead):
    """Several heads as one.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> labels = LabelSets.from_names([["a"], ["a"], ["b"], ["a", "b"]])
    >>> head = TermEnsembleHead(TermEnsembleConfig("naive,knn")).fit(Features.from_arrays(vectors), labels)
    >>> head.top_k(Features.from_arrays(vectors[:1]), 1)[0].tolist()
    [[0]]
    """

    Config: ClassVar[type[TermEnsembleConfig]] = TermEnsembleConfig

    def __init__(self, config: TermEnsembleConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.members: tuple[TermMember, ...] = ()
        self.mixes: Mixes = ()

    @classmethod
    def of(
        cls,
        members: Sequence[TermMember],
        truth: LabelSets,
        held: Callable[[], MemberBlocks],
        related: npt.NDArray[np.bool_] | None = None,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Self:
        """Combine heads that are fitted already, of whatever encoders.

        Parameters
        ----------
        members : sequence of TermMember
        truth : LabelSets
            Of validation rows, by the members' classes.
        held : callable
            Gives what members said of these rows before they were fitted on them, if they ever were, in blocks; it is
            called twice.
        related : bool array, (n,), optional
            What `find_related` said of them.

        Raises
        ------
        UsageError
            If there are no members, or one was fitted on other classes.
        """
        if not members:
            raise UsageError("an ensemble of no members; name at least one")
        for one in members:
            if one.head.classes != truth.classes:
                found = f"was fitted on {len(one.head.classes)} classes, not the {truth.n_classes} of the labels"
                raise UsageError(f"member {one.name} {found}; combine heads that were fitted on the same classes")
        head = cls(TermEnsembleConfig(",".join(one.name for one in members)), device)
        head._take(members, truth)
        head._weigh(truth, held, related, log)
        return head

    @property
    def reads_vectors(self) -> bool:
        """Whether any member reads vectors."""
        return any(reads_vectors(one.head) for one in self.members or self._unfitted())

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The specs of the vectors that members read, each once; none where they read features as they are given."""
        own = (one.spec for one in self.members if one.spec is not None and reads_vectors(one.head))
        return tuple(dict.fromkeys(own))

    def _forget(self) -> None:
        super()._forget()
        self.members, self.mixes = (), ()

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        members = self._unfitted()
        for place, one in enumerate(members):
            one.head.fit(x, labels, validation, seed + place, log)
        self._take(members, labels)
        rows = slice(HELD_MOST)
        seen, truth = validation[0].take(rows), validation[1].take(rows)
        self._weigh(truth, lambda: said(members, seen), find_related(members, seen), log)

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Fit each member on all rows; the weights stay."""
        check_sets(x, labels)
        members = self.members or self._unfitted()
        for place, one in enumerate(members):
            one.head.refit(one.view(x), labels, seed + place, log)
        self._take(members, labels)
        return self

    def _unfitted(self) -> list[TermMember]:
        kinds: list[tuple[str, Any]] = [(name, load_head(name, GROUP)) for name in self.config.names]
        return [TermMember(name, name, kind(None, self.device)) for name, kind in kinds]

    def _take(self, members: Sequence[TermMember], labels: LabelSets) -> None:
        """Keep members, and mixes that are the mean of them where there are none yet."""
        self.members, self.classes, self.groups = tuple(members), labels.classes, labels.groups
        self.chosen = replace(self.config, members=",".join(one.name for one in members))
        names, self._place = group_codes(labels)
        if [len(mix.weights) for own in self.mixes[:1] for mix in own] != [len(members)] * len(names):
            kinds = 1 if _teller(members) is None else 2
            self.mixes = ((Mix.plain(len(members)),) * len(names),) * kinds

    def _weigh(
        self,
        truth: LabelSets,
        held: Callable[[], MemberBlocks],
        related: npt.NDArray[np.bool_] | None,
        log: Log | None,
    ) -> None:
        """Choose members, calibrations and weights on held rows."""
        pairs = Pairs.of(truth, held(), len(self.members))
        first = None if related is None else _teller(self.members)
        kept, self.mixes = choose(pairs, truth, related, first)
        self._take([self.members[one] for one in kept], truth)
        blocks = ((rows, self._mixed([given[one] for one in kept], related, rows)) for rows, given in held())
        self.scores = score(truth, blocks)
        if log is not None:
            names, _ = group_codes(truth)
            kinds = ("",) if len(self.mixes) == 1 else (" without relatives", " with relatives")
            for kind, own in zip(kinds, self.mixes, strict=True):
                for name, mix in zip(names, own, strict=True):
                    shares = zip(self.members, mix.weights, strict=True)
                    told = {f"weight {name}{kind} {place} {one.name}": w for place, (one, w) in enumerate(shares)}
                    log(told)
            log(dict(self.scores))

    def _mixed(
        self, given: Sequence[Probabilities], related: npt.NDArray[np.bool_] | None, rows: slice
    ) -> Probabilities:
        return mixed(self.mixes, self._place, given, None if related is None else related[rows])

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities."""
        related = find_related(self.members, x)
        return ((rows, self._mixed(given, related, rows)) for rows, given in said(self.members, x))

    def save(self, folder: Path) -> None:
        """Write `members.json`, with the mixes, and what each member writes, in `member-0/` and so on."""
        for place, one in enumerate(self.members):
            (folder / f"member-{place}").mkdir()
            one.head.save(folder / f"member-{place}")
        about = {
            "members": [one.about() for one in self.members],
            "mixes": [[asdict(mix) for mix in own] for own in self.mixes],
        }
        write_json(folder / "members.json", about)

    @classmethod
    def load(
        cls,
        folder: Path,
        config: TermEnsembleConfig,
        classes: tuple[str, ...],
        groups: tuple[str, ...],
        device: str = "cpu",
    ) -> Self:
        """Read what `save` wrote."""
        head, about = cls(config, device), read_json(folder / "members.json")
        head.classes, head.groups = classes, groups
        members = enumerate(about["members"])
        found = [TermMember.load(one, folder / f"member-{place}", head) for place, one in members]
        head.mixes = tuple(
            tuple(Mix(**{name: tuple(values) for name, values in mix.items()}) for mix in own) for own in about["mixes"]
        )
        head._take(found, LabelSets(classes, np.zeros(1, np.int64), np.zeros(0, np.int64), groups))
        return head


def _teller(members: Sequence[TermMember]) -> int | None:
    """Return the place of the first member that tells which proteins have relatives, if one does."""
    return next((place for place, one in enumerate(members) if hasattr(one.head, "related")), None)


def said(members: Sequence[TermMember], x: Features) -> Iterator[tuple[slice, list[Probabilities]]]:
    """Give slices of rows and what each member says of them."""
    for parts in zip(*(one.blocks(x) for one in members), strict=True):
        yield parts[0][0], [block for _, block in parts]


def find_related(members: Sequence[TermMember], x: Features) -> npt.NDArray[np.bool_] | None:
    """Return whether each row has a relative among the training rows, bool (n,), if a member tells."""
    place = _teller(members)
    if place is None:
        return None
    found: npt.NDArray[np.bool_] = members[place].head.related(members[place].view(x))
    return found

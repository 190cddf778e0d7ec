"""The ensemble for many labels: several heads, whose calibrated probabilities are weighed, then corrected by trees.

See `term_mixing` and `term_ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.heads.alignment.search import installed
from esmcls.heads.base import BaseTermHead, FindsNearest, Log, TellsRelatives, Validation
from esmcls.heads.blocks import TermBlocks, score_terms
from esmcls.heads.ensemble.members import BaseEnsemble, SavedMember, TermMember, check_members, names_of
from esmcls.heads.ensemble.term_mixing import MemberBlocks, Mix, Mixes, Pairs, choose_members, mixed
from esmcls.heads.ensemble.term_ranking import About, Learnt, Ranker, learn
from esmcls.heads.neighbours.term_votes import HELD_MOST
from esmcls.heads.registry import TERM_GROUP, load_head, reads_residues
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import group_codes
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class TermEnsembleConfig:
    """Every knob of the ensemble; None is chosen when it is fitted.

    Parameters
    ----------
    members : str, optional
        Registered heads with commas between, each fitted with its defaults; a head named twice is fitted with
        two seeds. Of members that were fitted elsewhere, their names. By default linear, knn, where an engine for
        it is installed homology, and where the encoder gives vectors of residues align. Those that make Fmax on
        validation no higher are left out. When to change: other heads are better on validation, or one head with
        several seeds is wanted (mlp,mlp,mlp); for members with knobs of their own fit them first and name them
        with --of.
    ranked : bool
        Whether boosted trees correct the mix, learnt on validation where that makes Fmax higher out of fold. When to
        change: there are hundreds of validation proteins or more, and micro F counts: true.
    """

    members: str | None = None
    ranked: bool = False

    def __post_init__(self) -> None:
        if self.members is not None:
            names_of(self.members)

    @property
    def names(self) -> list[str]:
        """The members' names."""
        if self.members is None:
            return ["linear", "knn", *(["homology"] if installed() is not None else [])]
        return names_of(self.members)

    def named(self, of_residues: bool) -> TermEnsembleConfig:
        """Return it with members: where none are named, those that can be fitted on vectors of residues or not."""
        names = [*self.names, "align"] if self.members is None and of_residues else self.names
        return replace(self, members=",".join(names))


class TermEnsembleHead(BaseEnsemble[LabelSets, TermMember], BaseTermHead):
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
    config: TermEnsembleConfig
    chosen: TermEnsembleConfig

    def __init__(self, config: TermEnsembleConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.mixes: Mixes = ()
        self.ranker: Ranker | None = None
        self._learnt: Learnt | None = None

    @classmethod
    def of(
        cls,
        members: Sequence[TermMember],
        truth: LabelSets,
        held: Callable[[], MemberBlocks],
        related: npt.NDArray[np.bool_] | None = None,
        device: str = "cpu",
        log: Log | None = None,
        about: About | None = None,
        ranked: bool = False,
    ) -> Self:
        """Combine heads that are fitted already, of whatever encoders.

        Parameters
        ----------
        members : sequence of TermMember
        truth : LabelSets
            Of validation rows, by the members' classes.
        held : callable
            Gives the members' answers for these rows before they were fitted on them, if they ever were, in blocks; it
            is called twice.
        related : bool array, (n,), optional
            As `find_related` gives it.
        about : About, optional
            What a ranker is told besides.
        ranked : bool
            Whether there is to be one.

        Raises
        ------
        UsageError
            If there are no members, or one was fitted on other classes.
        """
        check_members(members, truth.classes)
        head = cls(TermEnsembleConfig(",".join(member.name for member in members), ranked), device)
        head._take_classes(truth)
        head._take(members)
        head._weigh(truth, held, related, about or About(), log)
        return head

    def _forget(self) -> None:
        super()._forget()
        self.mixes = ()
        self.ranker = None
        self._learnt = None

    def _fit(
        self, x: Features, labels: LabelSets, validation: Validation[LabelSets], seed: int, log: Log | None
    ) -> None:
        members = self._fitted(x, labels, validation, seed, log)
        self._take(members)
        rows = slice(HELD_MOST)
        held = validation[0].take(rows)
        about = About(labels.counts(), find_distance(members, held))
        related = find_related(members, held)
        self._weigh(validation[1].take(rows), lambda: said(members, held), related, about, log)

    def _refit(self, x: Features, labels: LabelSets, seed: int, log: Log | None) -> None:
        """Fit each member on all rows; the weights and the ranker stay."""
        self._learnt = None  # what members said then
        self._take(self.members or self._unfitted(x))
        self._refit_members(x, labels, seed, log)

    def _unfitted(self, x: Features | None = None) -> list[TermMember]:
        names = self.config.named(x is not None and x.of_residues).names
        return [TermMember(kind, kind, load_head(kind, TERM_GROUP)(None, self.device)) for kind in names]

    def _grouping(self) -> tuple[tuple[str, ...], Indices]:
        """Return the groups' names and the place of each class among them."""
        return group_codes(LabelSets(self.classes, np.zeros(1, np.int64), np.zeros(0, np.int64), self.groups))

    def _take(self, members: Sequence[TermMember]) -> None:
        """Keep members, and mixes that are the mean of them where there are none yet."""
        self.members = tuple(members)
        self.chosen = replace(self.config, members=",".join(member.name for member in members))
        names, self._place = self._grouping()
        if [len(mix.weights) for mixes in self.mixes[:1] for mix in mixes] != [len(members)] * len(names):
            kinds = 1 if _teller(members) is None else 2
            self.mixes = ((Mix.plain(len(members)),) * len(names),) * kinds

    def _weigh(
        self,
        truth: LabelSets,
        held: Callable[[], MemberBlocks],
        related: npt.NDArray[np.bool_] | None,
        about: About,
        log: Log | None,
    ) -> None:
        """Choose members, calibrations and weights on held rows, and learn a ranker there."""
        pairs = Pairs.of(truth, held(), len(self.members))
        first = None if related is None else _teller(self.members)
        places, self.mixes = choose_members(pairs, truth, related, first)
        self.tried = tuple(member.name for member in self.members)
        self.kept = tuple(places)
        self._take([self.members[place] for place in places])
        if self.config.ranked:
            chosen = replace(pairs, given=pairs.given[:, places])
            self._learnt = learn(chosen, truth, self.mixes, related, about)
        if self._learnt is not None:
            self.ranker = self._learnt.ranker
            self.scores = {"fmax": self._learnt.fmax}
        else:
            blocks = ((rows, self._mixed([given[place] for place in places], related, rows)) for rows, given in held())
            self.scores = score_terms(truth, blocks)
        if log is not None:
            self._log_weights(log)

    def _log_weights(self, log: Log) -> None:
        names, _ = self._grouping()
        kinds = ("",) if len(self.mixes) == 1 else (" without relatives", " with relatives")
        for kind, mixes in zip(kinds, self.mixes, strict=True):
            for name, mix in zip(names, mixes, strict=True):
                weights = enumerate(zip(self.members, mix.weights, strict=True))
                log({f"weight {name}{kind} {place} {member.name}": weight for place, (member, weight) in weights})
        log(dict(self.scores))

    def _mixed(
        self, given: Sequence[Probabilities], related: npt.NDArray[np.bool_] | None, rows: slice
    ) -> Probabilities:
        return mixed(self.mixes, self._place, given, None if related is None else related[rows])

    def blocks(self, x: Features) -> TermBlocks:
        """Give slices of rows and their probabilities."""
        distance = None if self.ranker is None else find_distance(self.members, x)
        related = find_related(self.members, x)
        for rows, given in said(self.members, x):
            mix = self._mixed(given, related, rows)
            yield rows, self._corrected(mix, given, None if distance is None else distance[rows])

    def _corrected(
        self, mix: Probabilities, given: Sequence[Probabilities], distance: npt.NDArray[np.floating] | None
    ) -> Probabilities:
        return mix if self.ranker is None else self.ranker.correct(mix, given, self._place, distance)

    def held_blocks(self, x: Features) -> TermBlocks:
        """Give what `blocks` does of the validation rows of the last fit, out of fold where a ranker learnt of them."""
        learnt = self._learnt
        if learnt is None:
            yield from self.blocks(x)
            return
        for rows, block in self.blocks(x):
            yield rows, learnt.said(rows, block)

    def save(self, folder: Path) -> None:
        """Write `members.json`, with the mixes, and what each member writes, in `member-0/` and so on.

        A ranker writes what `Ranker.save` does.
        """
        about = {
            "members": self._save_members(folder),
            "mixes": [[asdict(mix) for mix in mixes] for mixes in self.mixes],
        }
        write_json(folder / "members.json", about)
        if self.ranker is not None:
            self.ranker.save(folder)

    def _restore(self, folder: Path) -> None:
        saved = read_as(folder / "members.json", _Saved, ModelError, "fit again")
        names, _ = self._grouping()
        if not saved.members or not saved.fits(len(names)):
            raise ModelError(folder / "members.json", "mixes that are not of these members", "fit again")
        self.mixes = saved.mixes
        self._take(self._load_members(folder, saved.members))
        self.ranker = Ranker.load(folder, len(self.members), len(self.classes))

    def _load_member(self, folder: Path, about: SavedMember) -> TermMember:
        return TermMember.load(folder, about, self.classes, self.groups, self.device)


@dataclass(frozen=True)
class _Saved:
    """What members.json holds."""

    members: tuple[SavedMember, ...]
    mixes: tuple[tuple[Mix, ...], ...]

    def fits(self, groups: int) -> bool:
        """Return whether there is a mix of all members for each group of terms, or two: without and with relatives."""
        parts = [part for mixes in self.mixes for mix in mixes for part in (mix.slopes, mix.shifts, mix.weights)]
        cells = len(self.mixes) in (1, 2) and all(len(mixes) == groups for mixes in self.mixes)
        return cells and all(len(part) == len(self.members) for part in parts)


def _teller(members: Sequence[TermMember]) -> int | None:
    """Return the place of the member that tells which proteins have relatives, if one does.

    Sequences tell it more truly than residue vectors, which align across families of one fold.
    """
    tellers = [place for place, member in enumerate(members) if isinstance(member.head, TellsRelatives)]
    return min(tellers, key=lambda place: reads_residues(members[place].head), default=None)


def said(members: Sequence[TermMember], x: Features) -> Iterator[tuple[slice, list[Probabilities]]]:
    """Give slices of rows and the probabilities of each member."""
    for parts in zip(*(member.blocks(x) for member in members), strict=True):
        yield parts[0][0], [block for _, block in parts]


def find_distance(members: Sequence[TermMember], x: Features) -> npt.NDArray[np.floating] | None:
    """Return how far each row is from its nearest relative among the training rows, (n,), if a member tells."""
    place = _teller(members)
    head = None if place is None else members[place].head
    if place is None or not isinstance(head, FindsNearest):
        return None
    return head.nearest(members[place].view(x))[0]


def find_related(members: Sequence[TermMember], x: Features) -> npt.NDArray[np.bool_] | None:
    """Return whether each row has a relative among the training rows, bool (n,), if a member tells."""
    place = _teller(members)
    if place is None:
        return None
    head = members[place].head
    assert isinstance(head, TellsRelatives)
    return head.related(members[place].view(x))

"""The ensemble head: several heads, of one encoder or more, whose answers are weighed on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError
from esmcls.heads.base import BaseLabelHead, Log, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, AnswerBlocks, grid, score
from esmcls.heads.ensemble.combining import Combination, Method, Slate, cross_validated
from esmcls.heads.ensemble.members import BaseEnsemble, Member, Ranked, SavedMember, Scale, check_members, names_of
from esmcls.heads.ensemble.selection import needed, worth
from esmcls.heads.registry import load_head
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, check_ranges
from esmcls.labels.labels import Labels
from esmcls.plain_values import read_as, write_json

if TYPE_CHECKING:
    from typing_extensions import Self

MEMBERS = ("linear", "knn")
"""What is combined where nobody says what, and `align` with them where vectors are made of those of residues."""
METHODS: tuple[Method, ...] = ("average", "stack")
"""The methods that are tried on validation."""
COMBINED_ROWS = 1024
"""Rows whose probabilities are computed at a time."""
COMBINED_CLASSES = 1 << 17
"""Classes that members name in them, at most."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Every knob of the ensemble; None is chosen on validation.

    Parameters
    ----------
    members : str, optional
        Registered heads with commas between, each fitted with its defaults; a head named twice is fitted with
        two seeds. Of members that were fitted elsewhere, their names. By default linear, knn and, where the encoder
        gives vectors of residues, align. Those without which macro F1 on validation is no lower are left out. When to
        change: other heads are better on validation (linear,knn,align,homology), or one head with several seeds is
        wanted (linear,linear,linear); for members with knobs of their own fit them first and name them with --of.
    method : {"average", "stack"}, optional
        A calibrated average of probabilities, or a conditional logit on them; see `ensemble.combining`. The
        better macro F1 in five folds of the validation rows, as everywhere; the log loss, in which the few rows
        whose class no member names outweigh the rest, decides between equals alone. When to change: validation
        has a few dozen rows (average).
    candidates : int
        Classes a row that each member names. When to change: there are many classes much like one another:
        raise it.
    weights : str, optional
        Numbers with commas between, of a given method: one a member for "average"; for "stack" three a member
        (all log probabilities, then all of them by familiarity, then all first places), then that of the plain
        average. When to change: members are to count as you say, such as alike (1,1), instead of as validation
        does.
    temperature : float, optional
        What the average's log probabilities are divided by; "stack" has no use for it. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    """

    members: str | None = None
    method: Method | None = None
    candidates: int = 20
    weights: str | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, {"candidates": AT_LEAST_1, "temperature": ABOVE_0})
        if self.members is not None:
            names_of(self.members)
        if self.weights is not None and self.method is None:
            raise UsageError("setting weights: given without a method; set method average or stack, too")
        if self.weights is not None and not _numbers(self.weights):
            raise UsageError(f"setting weights: {self.weights!r} is not numbers of at least 0, not all of them 0")

    @property
    def names(self) -> list[str]:
        """The members' names."""
        return [*MEMBERS] if self.members is None else names_of(self.members)

    def named(self, of_residues: bool) -> EnsembleConfig:
        """Return it with members: where none are named, those that can be fitted on vectors of residues or not."""
        names = [*MEMBERS, "align"] if self.members is None and of_residues else self.names
        return replace(self, members=",".join(names))

    def combination(self) -> Combination:
        """Return how members are combined: evenly where nothing was chosen yet.

        Raises
        ------
        UsageError
            If there are more or fewer weights than the method has for so many members.
        """
        plain = Combination.plain(self.method or METHODS[0], len(self.names))
        weights = plain.weights if self.weights is None else _numbers(self.weights)
        if len(weights) != len(plain.weights):
            counts = f"{len(weights)} for {len(self.names)} members, whose {plain.method} has {len(plain.weights)}"
            raise UsageError(f"setting weights: {counts}; give as many")
        return replace(plain, weights=weights, temperature=self.temperature or 1.0)


def _numbers(text: str) -> tuple[float, ...]:
    """Return the weights that a text tells; none where it tells no weights."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        return ()
    return numbers if all(isfinite(weight) and weight >= 0 for weight in numbers) and any(numbers) else ()


class EnsembleHead(BaseEnsemble[Labels, Member], BaseLabelHead):
    """Several heads as one.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = EnsembleHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[EnsembleConfig]] = EnsembleConfig
    config: EnsembleConfig
    chosen: EnsembleConfig

    def __init__(self, config: EnsembleConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.held_probability = np.zeros(0, dtype=np.float32)
        """Of the likeliest class of each validation row that weights were chosen on."""

    @classmethod
    def of(
        cls,
        members: Sequence[Member],
        truth: Labels,
        config: EnsembleConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Combine heads that are fitted already, of whatever encoders.

        Parameters
        ----------
        members : sequence of Member
            With `held`: at least `candidates` classes of each validation row.
        truth : Labels
            Of the validation rows, by the members' classes.
        config : EnsembleConfig, optional
            Its `members` become the names of these.
        seed : int
            Of the folds within the validation rows.

        Raises
        ------
        UsageError
            If there are no members, their classes differ, or one did not rank the validation rows.
        """
        check_members(members, truth.classes)
        head = cls(replace(config or EnsembleConfig(), members=",".join(member.name for member in members)), device)
        held = [member.checked(truth, head.config.candidates) for member in members]
        head._take_classes(truth)
        head._combine(members, held, truth, seed, log)
        return head

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        """Fit each member, then weigh them on the validation part."""
        self.config.named(x.of_residues).combination()  # refuses weights that are not for these members
        members = self._fitted(x, labels, validation, seed, log)
        k = min(self.config.candidates, labels.n_classes)
        held = [Ranked.of(member.head, validation[0], k) for member in members]
        self._combine(members, held, validation[1], seed, log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Fit each member on all rows; weights, and what familiarity is compared with, stay."""
        if not self.members:  # nothing was chosen
            self._take(self._unfitted(x), self.config.named(x.of_residues).combination())
        self._refit_members(x, labels, seed, log)

    def _unfitted(self, x: Features | None = None) -> list[Member]:
        names = self.config.named(x is not None and x.of_residues).names
        return [Member(kind, kind, load_head(kind)(None, self.device)) for kind in names]

    def _combine(
        self, members: Sequence[Member], held: Sequence[Ranked], truth: Labels, seed: int, log: Log | None
    ) -> None:
        """Choose members, method, weights and temperature on what the members gave for the validation rows."""
        truth = truth.take(slice(HELD_OUT_MOST))
        held = [answers.take(slice(HELD_OUT_MOST)).first(self.config.candidates) for answers in held]
        scales = [Scale.of(answers.familiarity) for answers in held]
        ranked = [
            replace(answers, familiarity=scale.shares(answers.familiarity))
            for answers, scale in zip(held, scales, strict=True)
        ]
        self.tried = tuple(member.name for member in members)
        self.kept = tuple(range(len(members)))
        if self.config.weights is None:
            methods = grid(self.config.method, METHODS)
            self.kept = tuple(needed(ranked, truth, methods, self.config.temperature, seed))
        slate = Slate.of([ranked[place] for place in self.kept], len(self.classes))
        if self.config.weights is None:
            method = self._choose(slate, truth, seed, log)
            combination = Combination.fit(method, slate, truth.codes, self.config.temperature)
        else:
            combination = replace(self.config, members=",".join(self.tried)).combination()
            self.scores = score(truth, combination.best(slate))
        self.held_probability = combination.votes(slate, len(self.classes)).top(1)[1][:, 0]
        self._take([replace(members[place], held=None, scale=scales[place]) for place in self.kept], combination)

    def _choose(self, slate: Slate, truth: Labels, seed: int, log: Log | None) -> Method:
        """Return the better method; `scores` become what it reaches with weights fitted without each row's fold."""
        reached: dict[Method, float] = {}
        for method in grid(self.config.method, METHODS):
            best, loss = cross_validated(method, slate, truth.codes, self.config.temperature, seed)
            scores = score(truth, best)
            if log is not None:
                log({"stack": float(method == "stack"), "log_loss": loss, **scores})
            value = worth(scores, loss)
            if value > max(reached.values(), default=-np.inf):
                self.scores = scores
            reached[method] = value
        return max(reached, key=reached.__getitem__)

    def _take(self, members: Sequence[Member], combination: Combination) -> None:
        weights = ",".join(f"{weight:g}" for weight in combination.weights)
        self.members = tuple(members)
        names = ",".join(member.name for member in members)
        chosen = replace(self.config, members=names, method=combination.method, weights=weights)
        self.chosen = replace(chosen, temperature=combination.temperature)

    def _answers(self, x: Features) -> AnswerBlocks:
        combination = self.chosen.combination()
        n_classes = len(self.classes)
        k = min(self.chosen.candidates, n_classes)
        pairs = zip(self.members, combination.familiar, strict=True)
        ranked = [member.ranked(x, k, familiar) for member, familiar in pairs]
        size = max(1, min(COMBINED_ROWS, COMBINED_CLASSES // (k * len(ranked))))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            slate = Slate.of([answers.take(rows) for answers in ranked], n_classes)
            yield rows, combination.votes(slate, n_classes)

    def combined(self, answers: Sequence[Ranked], k: int) -> Ranked:
        """Return the k best classes that its members' answers to the same rows come to, each as its head gave them."""
        ranked = [answer.first(self.chosen.candidates) for answer in answers]
        scaled = [
            replace(answer, familiarity=member.scale.shares(answer.familiarity))
            for member, answer in zip(self.members, ranked, strict=True)
        ]
        slate, n_classes = Slate.of(scaled, len(self.classes)), len(self.classes)
        codes, mass = self.chosen.combination().votes(slate, n_classes).top(min(k, n_classes))
        standard = [m.scale.standardised(answer.familiarity) for m, answer in zip(self.members, ranked, strict=True)]
        return Ranked(codes, mass, np.asarray(np.mean(standard, axis=0)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the mean over members of their familiarity, (n,), in deviations from that of validation rows."""
        return np.asarray(np.mean([member.familiarity(x) for member in self.members], axis=0))

    def save(self, folder: Path) -> None:
        """Write `members.json` and what each member writes, in `member-0/` and so on."""
        write_json(folder / "members.json", self._save_members(folder))

    def _restore(self, folder: Path) -> None:
        saved = read_as(folder / "members.json", tuple[SavedMember, ...], ModelError, "fit again")
        if len(saved) != len(self.chosen.names):
            problem = f"{len(saved)} members instead of {len(self.chosen.names)}"
            raise ModelError(folder / "members.json", problem, "fit again")
        self.chosen.combination()  # raises where there are not as many weights
        self.members = self._load_members(folder, saved)

    def _load_member(self, folder: Path, about: SavedMember) -> Member:
        return Member.load(folder, about, self.classes, self.device)

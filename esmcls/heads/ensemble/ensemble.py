"""The ensemble head: several heads, of one encoder or more, whose answers are weighed on validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import UsageError
from esmcls.files import read_json, write_json
from esmcls.heads.base import BaseHead, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, TRIFLE, check_labels, score
from esmcls.heads.ensemble.combining import Combination, Method, Slate, cross_validated
from esmcls.heads.ensemble.members import Member, Ranked, Scale
from esmcls.heads.neighbours.votes import Votes, dense_of, top_of
from esmcls.heads.registry import Log, load_head, reads_vectors
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

METHODS: tuple[Method, ...] = ("average", "stack")
"""What is chosen from on validation."""
BLOCK, CELLS = 1024, 1 << 17
"""Rows whose probabilities are computed at a time, and classes that members name in them."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Every knob of the ensemble; None is chosen on validation.

    Parameters
    ----------
    members : str
        Registered heads with commas between, each fitted with its defaults; a head named twice is fitted with two
        seeds. Of members that were fitted elsewhere, their names.
    method : {"average", "stack"}, optional
        A calibrated average of probabilities, or a conditional logit on them; see `ensemble.combining`.
        The better macro F1 in five folds of the validation rows, as everywhere; the log loss, in which the few rows
        whose class no member names outweigh the rest, decides between equals alone.
    candidates : int
        Classes a row that each member names.
    weights : str, optional
        Numbers with commas between, of a given method: one a member for "average"; for "stack" three a member (all log
        probabilities, then all of them by familiarity, then all first places), then that of the plain average.
    temperature : float, optional
        What the average's log probabilities are divided by; "stack" has no use for it.
    """

    members: str = "linear,knn"
    method: Method | None = None
    candidates: int = 20
    weights: str | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not all(self.names):
            raise UsageError(f"setting members: {self.members!r} is not names with commas between, such as linear,knn")
        if self.candidates < 1:
            raise UsageError(f"setting candidates: {self.candidates} is not at least 1")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise UsageError(f"setting temperature: {self.temperature} is not above 0 and finite")
        if self.weights is not None and self.method is None:
            raise UsageError("setting weights: given without a method; set method average or stack, too")
        if self.weights is not None and not _numbers(self.weights):
            raise UsageError(f"setting weights: {self.weights!r} is not numbers of at least 0, not all of them 0")

    @property
    def names(self) -> list[str]:
        """The members' names."""
        return [name.strip() for name in self.members.split(",")]

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
            found = f"{len(weights)} for {len(self.names)} members, whose {plain.method} has {len(plain.weights)}"
            raise UsageError(f"setting weights: {found}; give as many")
        return replace(plain, weights=weights, temperature=self.temperature or 1.0)


def _numbers(text: str) -> tuple[float, ...]:
    """Return the weights that a text tells; none where it tells no weights."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        return ()
    return numbers if all(isfinite(one) and one >= 0 for one in numbers) and any(numbers) else ()


class EnsembleHead(BaseHead):
    """Several heads as one.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = EnsembleHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[EnsembleConfig]] = EnsembleConfig

    def __init__(self, config: EnsembleConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self.members: tuple[Member, ...] = ()
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
        if not members:
            raise UsageError("an ensemble of no members; name at least one")
        head = cls(replace(config or EnsembleConfig(), members=",".join(one.name for one in members)), device)
        held = [one.checked(truth, head.config.candidates) for one in members]
        head.classes = truth.classes
        head._combine(members, held, truth, seed, log)
        return head

    @property
    def reads_vectors(self) -> bool:
        """Whether any member reads vectors."""
        return any(reads_vectors(one.head) for one in self.members or self._unfitted())

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """The specs of the vectors that members read, each once; none where they read features as they are given."""
        found: dict[EmbeddingSpec, None] = {}
        for one in self.members:
            own = (one.spec,) if one.spec is not None and reads_vectors(one.head) else ()
            found |= dict.fromkeys((*own, *getattr(one.head, "specs", ())))
        return tuple(found)

    def _forget(self) -> None:
        super()._forget()
        self.config.combination()  # refuses weights that are not for these members
        self.members = ()

    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        """Fit each member, then weigh them on the validation part."""
        members = self._unfitted()
        for place, one in enumerate(members):
            one.head.fit(x, labels, validation, seed + place, log)
        k = min(self.config.candidates, labels.n_classes)
        self._combine(members, [Ranked.of(one.head, validation[0], k) for one in members], validation[1], seed, log)

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Fit each member on all rows; weights, and what familiarity is compared with, stay."""
        check_labels(x, labels)
        if not self.members:  # nothing was chosen
            self._take(self._unfitted(), self.config.combination())
        for place, one in enumerate(self.members):
            one.head.refit(one.view(x), labels, seed + place, log)
        self.classes = labels.classes
        return self

    def _unfitted(self) -> list[Member]:
        return [Member(kind, kind, load_head(kind)(None, self.device)) for kind in self.config.names]

    def _combine(
        self, members: Sequence[Member], held: Sequence[Ranked], truth: Labels, seed: int, log: Log | None
    ) -> None:
        """Choose method, weights and temperature on what the members gave for the validation rows."""
        truth = truth.take(slice(HELD_OUT_MOST))
        held = [one.take(slice(HELD_OUT_MOST)).first(self.config.candidates) for one in held]
        scales = [Scale.of(one.familiarity) for one in held]
        shares = [scale.shares(one.familiarity) for one, scale in zip(held, scales, strict=True)]
        ranked = [replace(one, familiarity=share) for one, share in zip(held, shares, strict=True)]
        slate = Slate.of(ranked, len(self.classes))
        if self.config.weights is None:
            method = self._choose(slate, truth, seed, log)
            combination = Combination.fit(method, slate, truth.codes, self.config.temperature)
        else:
            combination = self.config.combination()
            self.scores = score(truth, combination.best(slate))
        self.held_probability = combination.votes(slate, len(self.classes)).top(1)[1][:, 0]
        scaled = [replace(one, held=None, scale=scale) for one, scale in zip(members, scales, strict=True)]
        self._take(scaled, combination)

    def _choose(self, slate: Slate, truth: Labels, seed: int, log: Log | None) -> Method:
        """Return the better method; `scores` become what it reaches with weights fitted without each row's fold."""
        reached: dict[Method, float] = {}
        for method in METHODS if self.config.method is None else (self.config.method,):
            best, loss = cross_validated(method, slate, truth.codes, self.config.temperature, seed)
            scores = score(truth, best)
            if log is not None:
                log({"stack": float(method == "stack"), "log_loss": loss, **scores})
            value = scores["macro_f1"] - TRIFLE * loss
            if value > max(reached.values(), default=-np.inf):
                self.scores = scores
            reached[method] = value
        return max(reached, key=reached.__getitem__)

    def _take(self, members: Sequence[Member], combination: Combination) -> None:
        weights = ",".join(f"{weight:g}" for weight in combination.weights)
        chosen = replace(self.config, method=combination.method, weights=weights, temperature=combination.temperature)
        self.members, self.chosen = tuple(members), chosen

    def _votes(self, x: Features) -> Iterator[tuple[slice, Votes]]:
        combination, n_classes = self.chosen.combination(), len(self.classes)
        k, pairs = min(self.chosen.candidates, n_classes), zip(self.members, combination.familiar, strict=True)
        ranked = [one.ranked(x, k, familiar) for one, familiar in pairs]
        size = max(1, min(BLOCK, CELLS // (k * len(ranked))))
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            yield rows, combination.votes(Slate.of([one.take(rows) for one in ranked], n_classes), n_classes)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); classes that no member names share one.

        Raises
        ------
        UsageError
            If `x` lacks the vectors of a member's encoder.
        """
        return dense_of(self._votes(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_of(self._votes(x), len(x), min(k, len(self.classes)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the mean over members of their familiarity, (n,), in deviations from that of validation rows."""
        return np.asarray(np.mean([one.familiarity(x) for one in self.members], axis=0))

    def save(self, folder: Path) -> None:
        """Write `members.json` and what each member writes, in `member-0/` and so on."""
        for place, one in enumerate(self.members):
            (folder / f"member-{place}").mkdir()
            one.head.save(folder / f"member-{place}")
        write_json(folder / "members.json", [one.about() for one in self.members])

    @classmethod
    def load(cls, folder: Path, config: EnsembleConfig, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        head.classes = classes
        about = enumerate(read_json(folder / "members.json"))
        head.members = tuple(Member.load(one, folder / f"member-{place}", classes, device) for place, one in about)
        return head

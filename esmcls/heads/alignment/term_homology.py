"""The homology head for many labels: no vectors; the terms of training sequences that align, by their bit scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.alignment.homology import HomologyConfig, HomologyHead
from esmcls.heads.alignment.search import Hits
from esmcls.heads.blocks import grid
from esmcls.heads.neighbours.term_votes import HELD_MOST, Choice, Known, settled
from esmcls.heads.registry import Log
from esmcls.heads.term_base import BaseTermHead, Validation
from esmcls.heads.term_common import Blocks, check_sets, row_slices
from esmcls.labels.labels import Labels, LabelSets
from esmcls.types import Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

RELATED = 1e-3
"""E-value of a hit that is a relative."""
HITS = (3, 10, 20, 50)
POWERS = (1.0, 2.0, 4.0)
BACKGROUNDS = (5.0, 10.0, 20.0, 30.0, 40.0)
"""What is chosen from on validation: k and power together, then the background."""


@dataclass(frozen=True)
class TermHomologyConfig:
    """Every knob of the homology head; None is chosen on validation.

    Parameters
    ----------
    engine : {"auto", "mmseqs", "phmmer"}
        What searches: "auto" is MMseqs2 where `mmseqs` is on the PATH, else pyhmmer's phmmer.
    version : str, optional
        Of the engine; None is the one that is installed when the head is fitted.
    any_version : bool
        Predict with another version of the engine, too.
    sensitivity : float
        Of MMseqs2, 1 (fast) to 7.5; phmmer has no such choice.
    evalue : float
        Hits above do not count.
    max_hits : int
        Hits a query, and targets that MMseqs2 aligns with it.
    k : int, optional
        Best hits whose terms are carried over.
    power : float, optional
        A hit of b bits weighs b to the power of it: above 1, strong hits count for more.
    background : float, optional
        The bits of one hit more, which has each term by its share of the training rows with any of its aspect.
    """

    engine: Literal["auto", "mmseqs", "phmmer"] = "auto"
    version: str | None = None
    any_version: bool = False
    sensitivity: float = 7.5
    evalue: float = 10.0
    max_hits: int = 300
    k: int | None = None
    power: float | None = None
    background: float | None = None

    def __post_init__(self) -> None:
        self.search()  # refuses what it cannot do
        if self.k is not None and self.k < 1:
            raise UsageError(f"setting k: {self.k} is not at least 1")
        for name in ("power", "background"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < np.inf:
                raise UsageError(f"setting {name}: {value} is not at least 0 and finite")

    def settled(self) -> TermHomologyConfig:
        """Return it with a default for each knob that is open."""
        return settled(self, {"k": 20, "power": 4.0, "background": 20.0})

    def search(self) -> HomologyConfig:
        """Return the knobs of the head that finds the hits."""
        limits = (self.engine, self.version, self.any_version, self.sensitivity, self.evalue, self.max_hits)
        return HomologyConfig(*limits, k=1, temperature=1.0)


class TermHomologyHead(BaseTermHead):
    """Alignment with the training sequences (MMseqs2 or phmmer); the encoder plays no part.

    A row's probability of a term is the bits, to a power, of its best k hits that have it over those of all k that have
    any term of its aspect. Hits are those of the head for one label: a training sequence hits itself.

    Examples
    --------
    >>> sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFWLRTYQENIC"]
    >>> x = Features.from_arrays(np.zeros((2, 0), dtype=np.float32), sequences)
    >>> labels = LabelSets.from_names([["a", "c"], ["b", "c"]])
    >>> head = TermHomologyHead(TermHomologyConfig(engine="phmmer", background=0)).refit(x, labels)
    >>> head.predict_proba(x).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """

    Config: ClassVar[type[TermHomologyConfig]] = TermHomologyConfig
    reads_vectors: ClassVar[bool] = False

    def _fit(self, x: Features, labels: LabelSets, validation: Validation, seed: int, log: Log | None) -> None:
        self.refit(x, labels, seed)
        rows = slice(HELD_MOST)
        self._choose(validation[0].take(rows), validation[1].take(rows), log)

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Take the sequences to search and what they have; nothing here is drawn or searched."""
        check_sets(x, labels)
        self.finder = HomologyHead(self.chosen.search())
        self.finder.refit(x, Labels(("any",), np.zeros(len(x), dtype=np.int64)))
        found = self.finder.chosen
        self.chosen = replace(self.chosen.settled(), engine=found.engine, version=found.version)
        self.classes, self.groups, self.known = labels.classes, labels.groups, Known(labels)
        return self

    def _choose(self, x: Features, labels: LabelSets, log: Log | None) -> None:
        """Choose on held rows, with one search."""
        ks = grid(self.config.k, HITS)
        hits = self.finder.hits(x, max(ks))
        choice = Choice(self.chosen, labels, lambda one: _carried(self.known, one, hits), log)
        choice.among(k=ks, power=grid(self.config.power, POWERS))
        choice.among(background=grid(self.config.background, BACKGROUNDS))
        self.chosen, self.scores = choice.best, {"fmax": choice.fmax}

    def blocks(self, x: Features) -> Blocks:
        """Give slices of rows and their probabilities: of one search, however many blocks."""
        yield from _carried(self.known, self.chosen, self.finder.hits(x, self.chosen.k or 1))

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best hit, (n,), and the id of its training row; without one, infinity and None."""
        return self.finder.nearest(x)

    def related(self, x: Features) -> npt.NDArray[np.bool_]:
        """Return whether each row aligns with a training sequence at an E-value of .001 or less, bool (n,)."""
        found: npt.NDArray[np.bool_] = self.finder.hits(x, self.chosen.k or 1).evalues[:, 0] <= RELATED
        return found

    def save(self, folder: Path) -> None:
        """Write what `esmcls.heads.alignment.homology` does, and `terms.safetensors` (offsets, codes int64)."""
        self.finder.save(folder)
        self.known.save(folder)

    @classmethod
    def load(
        cls,
        folder: Path,
        config: TermHomologyConfig,
        classes: tuple[str, ...],
        groups: tuple[str, ...],
        device: str = "cpu",
    ) -> Self:
        """Read what `save` wrote; the engine is looked for when it is first needed."""
        head = cls._of(config, classes, groups, device)
        head.known = Known.load(folder, classes, groups)
        head.finder = HomologyHead.load(folder, config.search(), ("any",), device)
        return head


def _carried(known: Known, config: TermHomologyConfig, hits: Hits) -> Iterator[tuple[slice, Probabilities]]:
    """Give blocks of probabilities from the best hits, at least k a row."""
    k, power, background = config.k or 1, config.power or 0.0, config.background or 0.0
    for rows in row_slices(len(hits), known.labels.n_classes):
        bits = np.maximum(hits.bits[rows, :k], 0)
        prior = np.full(len(bits), background**power)
        yield rows, known.carried(hits.rows[rows, :k], bits**power, prior)

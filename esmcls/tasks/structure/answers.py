"""What a model says of the test chains, kept as arrays: all that a comparison needs of it, without the model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import PairHead
from esmcls.labels.residue_labels import offsets_of
from esmcls.labels.structure_labels import Structures
from esmcls.structures.distogram import PairAnswer
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.kept_answers import Kept, load_answers, save_answers
from esmcls.tasks.structure.measures import (
    MAIN,
    MEASURES,
    NAMES,
    means,
    measured,
    measured_trace,
    row_of,
    spread,
)
from esmcls.types import Coordinates, Floats, Indices, Probabilities

FOLDED_CHAINS: Final = 24
"""Chains that are folded, spread over the lengths: some seconds each on two cores, and enough to tell folds from chance
(a mean TM-score of .3 has an interval of about ± .05); the distances of all chains are measured in any case."""
LONGEST: Final = 512
"""Residues of a chain that is folded."""
_GRADES: Final = 3
"""Chains that are drawn: the best, the median and the worst of those that were folded."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A chain as figures show it.

    Parameters
    ----------
    row : int
        Of the answers.
    expected : float16 array, (length, length)
        Å.
    true, folded : float32 arrays, (length, 3)
        Å; the latter laid on the former, all NaN where the chain was not folded.
    """

    row: int
    expected: np.ndarray[Any, np.dtype[np.float16]]
    true: Coordinates
    folded: Coordinates


@dataclass(frozen=True, eq=False)
class StructureAnswers:
    """A model's answers for n chains.

    Parameters
    ----------
    ids : list of str, (n,)
    sizes, resolved : int64 arrays, (n,)
        Residues, and those of them that were resolved and seen.
    values : float64 array, (n, measures)
        In the order of `MEASURES`, NaN where a chain lacks one.
    lddt, confidence : float32 arrays, (residues,)
        Of the residues of all chains, NaN where not resolved or not seen.
    drawn : list of Drawn
        The best first.
    seconds : tuple of (float or None, float, float)
        Of fitting, where that is known, of predicting, and of folding.
    about : dict
        See `esmcls.tasks.comparing.Answers`.
    """

    ids: list[str]
    sizes: Indices
    resolved: Indices
    values: Floats
    lddt: Probabilities
    confidence: Probabilities
    drawn: list[Drawn]
    seconds: tuple[float | None, float, float]
    about: dict[str, Any]

    arrays: ClassVar[tuple[str, ...]] = ("sizes", "resolved", "values", "lddt", "confidence")
    drawings: ClassVar[tuple[str, ...]] = ("rows", "maps", "traces")

    @property
    def folded(self) -> int:
        """Chains that were folded."""
        return int((~np.isnan(self.values[:, MEASURES.index("tm_score")])).sum())

    def of(self, measure: str) -> Floats:
        """Return a measure of each chain, (n,)."""
        return np.asarray(self.values[:, MEASURES.index(measure)])

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"{NAMES[MAIN]} {means(self.values).get(MAIN, float('nan')):.3f}"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict, _ = self.seconds
        return None if fit is None else round(fit, 2), round(len(self.sizes) / predict) if predict else None

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        arrays = {name: getattr(self, name) for name in self.arrays} | _flat(self.drawn)
        save_answers(path, key, arrays, list(self.seconds), about=self.about, ids=self.ids)

    @classmethod
    def load(cls, path: Path, key: str) -> StructureAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        return load_answers(path, key, (*cls.arrays, *cls.drawings), cls._of)

    @classmethod
    def _of(cls, stored: Kept) -> StructureAnswers:
        arrays, (fit, predict, folding) = stored.arrays, stored.seconds
        rows, maps, traces = (arrays.pop(name) for name in cls.drawings)
        drawn = _drawn_of(rows, maps, traces, arrays["sizes"])
        ids, about = stored.facts["ids"], stored.facts["about"]
        return cls(**arrays, ids=ids, drawn=drawn, seconds=(fit, predict, folding), about=about)

    @classmethod
    def joined(cls, folds: Sequence[StructureAnswers]) -> StructureAnswers:
        """Put the answers of folds one after another; what is told of them is averaged, those drawn are the first's."""
        if len(folds) == 1:
            return folds[0]
        arrays = {name: np.concatenate([getattr(fold, name) for fold in folds]) for name in cls.arrays}
        fits = [fold.seconds[0] for fold in folds]
        fit = None if None in fits else sum(seconds for seconds in fits if seconds is not None)
        seconds = fit, sum(fold.seconds[1] for fold in folds), sum(fold.seconds[2] for fold in folds)
        ids = [name for fold in folds for name in fold.ids]
        about = mean_facts([fold.about for fold in folds])
        return cls(**arrays, ids=ids, drawn=folds[0].drawn, seconds=seconds, about=about)


def _flat(drawn: Sequence[Drawn]) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return chains that are drawn as three arrays: their rows, all maps, true and folded places of all residues."""
    traces = [np.concatenate([chain.true, chain.folded], axis=1) for chain in drawn]
    return {
        "rows": np.array([chain.row for chain in drawn], dtype=np.int64),
        "maps": np.concatenate([np.zeros(0, np.float16), *(chain.expected.ravel() for chain in drawn)]),
        "traces": np.concatenate([np.zeros((0, 6), np.float32), *traces]),
    }


def _drawn_of(rows: Indices, maps: Floats, traces: Coordinates, sizes: Indices) -> list[Drawn]:
    lengths = sizes[rows]
    squares = np.split(maps.astype(np.float16), np.cumsum(lengths**2)[:-1])
    places = np.split(traces, np.cumsum(lengths)[:-1])
    return [
        Drawn(row, square.reshape(length, length), place[:, :3], place[:, 3:])
        for row, length, square, place in zip(rows.tolist(), lengths.tolist(), squares, places, strict=False)
    ]


@dataclass(frozen=True)
class StructureQuestions:
    """Who is asked about: the test chains.

    Parameters
    ----------
    known, unseen : Dataset
        The latter is empty: chains have no strangers.
    chains : int
        That are folded; 0 for none.
    """

    known: Dataset
    unseen: Dataset
    chains: int = FOLDED_CHAINS

    def ask(
        self,
        model: FittedModel[PairHead, NoFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> StructureAnswers:
        """Ask a model about all of them, one in memory at a time; `about` is that of `StructureAnswers`."""
        asked = _Asked(Structures.from_texts(self.known.labels), self._sample(), self.chains > 0)
        answers = iter(model.head.per_protein(x))
        predicting = 0.0
        while True:
            began = time.perf_counter()
            answer = next(answers, None)
            predicting += time.perf_counter() - began
            if answer is None:
                return asked.answers(self.known.ids, (fit_seconds, predicting), about)
            asked.add(answer)
            del answer  # so that no two distograms are in memory

    def _sample(self) -> set[int]:
        """Return the rows of the chains that are folded; where none is, of those that may be drawn."""
        lengths = [len(sequence) for sequence in self.known.sequences]
        return set(spread(lengths, self.chains or FOLDED_CHAINS, LONGEST))

    def without_model(self, train: Dataset) -> dict[str, StructureAnswers]:
        """Return nothing: the mean distance by separation is a head."""
        return {}


class _Asked:
    """The answers about chains as they come."""

    def __init__(self, truth: Structures, sample: set[int], folds: bool) -> None:
        self.truth, self.sample, self.folds = truth, sample, folds
        self.chains: list[tuple[Probabilities, Probabilities]] = []
        self.values: list[list[float]] = []
        self.drawn: list[Drawn] = []
        self.folding = 0.0

    def add(self, answer: PairAnswer) -> None:
        """Measure the answer about the next chain."""
        row = len(self.values)
        trace = self.truth.row(row)
        chain = measured(answer, trace)
        folded: Mapping[str, float] = {}
        if row in self.sample and not np.isnan(chain.lddt).all():
            laid = self._folded(answer, trace)
            if self.folds:
                folded = measured_trace(laid, trace)
            self.drawn.append(Drawn(row, chain.expected.astype(np.float16), trace, laid))
        self.chains.append((chain.lddt, chain.confidence))
        self.values.append(row_of(chain.values, folded))

    def _folded(self, answer: PairAnswer, trace: Coordinates) -> Coordinates:
        """Return the folded trace, laid on the true one; NaN everywhere where none is asked for."""
        from esmcls.structures.folding.fold import fold
        from esmcls.structures.superposition import superpose

        if not self.folds:
            return np.full_like(trace, np.nan)
        began = time.perf_counter()
        folded = fold(answer).trace
        self.folding += time.perf_counter() - began
        return superpose(folded, trace).apply(folded)

    def answers(self, ids: list[str], seconds: tuple[float | None, float], about: dict[str, Any]) -> StructureAnswers:
        """Return what all chains gave."""
        sizes = np.diff(self.truth.offsets)
        nothing = np.zeros(0, dtype=np.float32)
        lddt = np.concatenate([nothing, *(chain for chain, _ in self.chains)])
        confidence = np.concatenate([nothing, *(chain for _, chain in self.chains)])
        offsets = offsets_of(sizes.tolist())
        seen = ~np.isnan(confidence)
        resolved = np.array([int(seen[a:b].sum()) for a, b in itertools.pairwise(offsets)], dtype=np.int64)
        values = np.array(self.values, dtype=np.float64).reshape(-1, len(MEASURES))
        drawn = graded(self.drawn, values[:, MEASURES.index("tm_score" if self.folds else "lddt")])
        fit, predicting = seconds
        return StructureAnswers(
            ids, sizes, resolved, values, lddt, confidence, drawn, (fit, predicting, self.folding), about
        )


def graded(chains: Sequence[Drawn], reached: Floats) -> list[Drawn]:
    """Return the best, the median and the worst of chains by what each row reaches; all, if there are so few."""
    ordered = sorted(chains, key=lambda chain: (-float(np.nan_to_num(reached[chain.row])), chain.row))
    if len(ordered) <= _GRADES:
        return ordered
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]

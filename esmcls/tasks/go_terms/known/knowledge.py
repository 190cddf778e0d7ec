"""How good a model is by what was known of a protein, as CAFA tells its targets apart.

In each aspect a protein is a target of one kind. Nothing is known of it in any aspect (no knowledge); or in others, but
not in this one (limited knowledge; Jiang et al. 2016, Genome Biol. 17:184, Methods); or in this one, too, and it is
asked what else it has (partial knowledge, since CAFA 5; as in the fork CAFA-evaluator-PK of Piovesan et al. 2024,
Bioinform. Adv. 4:vbae043): then terms that were known, with all that contain them, count neither as true nor as
predicted. A protein without a new term of an aspect is no target there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS
from esmcls.metrics.cafa import THRESHOLDS, Block, Counts, count
from esmcls.metrics.cafa_curves import draw
from esmcls.metrics.classification import FOLDS, Interval
from esmcls.reporting.phrases import aligned, between, decimal
from esmcls.tasks.go_terms.known.known_terms import KnownTerms, known_codes, places_to_codes
from esmcls.tasks.label_sets.evaluation import with_intervals
from esmcls.types import Floats

KINDS: Final = {
    "no_knowledge": "nothing known",
    "limited_knowledge": "other aspects",
    "partial_knowledge": "this aspect",
}
"""The kinds of targets, and what is known of them."""
Kept = tuple[slice, csr_matrix]
"""Rows, and their scores where the lowest threshold is reached."""


@dataclass(frozen=True)
class TargetScores:
    """The scores of a model on the targets of a kind in an aspect; see `AspectScores`."""

    proteins: int
    metrics: dict[str, Interval]
    thresholds: dict[str, float]


@dataclass(frozen=True)
class ByKnowledge:
    """The scores of a model by what was known.

    Parameters
    ----------
    kinds : dict of str to dict of str to TargetScores
        Kind of target -> aspect's letter -> scores; without those that there are no targets of.
    told : tuple of str
        What the reading of what is known met.
    """

    kinds: dict[str, dict[str, TargetScores]]
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        kinds = {kind: {name: asdict(scores) for name, scores in each.items()} for kind, each in self.kinds.items()}
        return {"by_knowledge": kinds}

    def lines(self) -> list[str]:
        """Say it for people."""
        measures = {"fmax": "Fmax", "f_micro_w": "weighted micro F"}
        rows = [["targets by what is known", "aspect", "proteins", *measures.values()]]
        for kind, by_aspect in self.kinds.items():
            for letter, scores in by_aspect.items():
                cells = [_told(scores.metrics.get(name)) for name in measures]
                rows.append([KINDS[kind], ASPECTS.get(letter, letter).split("_")[-1], f"{scores.proteins:,}", *cells])
        return [*self.told, *aligned(rows)]


def _told(interval: Interval | None) -> str:
    return decimal(None) if interval is None else f"{decimal(interval.value)} ({between(interval)})"


def keeping(blocks: Iterable[Block], kept: list[Kept]) -> Iterator[Block]:
    """Pass blocks on, and keep of each what measures can see."""
    least = np.float32(THRESHOLDS[0])
    for rows, scores in blocks:
        kept.append((rows, csr_matrix(np.where(scores >= least, scores, np.float32(0)))))
        yield rows, scores


def measure_by_knowledge(
    truth: LabelSets,
    kept: Sequence[Kept],
    known: KnownTerms,
    ids: Sequence[str],
    bits: Floats | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> ByKnowledge:
    """Measure what `keeping` kept, by what was known of each protein.

    Parameters
    ----------
    truth : LabelSets
        All terms of the proteins, those known among them or not; propagated, by the model's classes and more.
    kept : sequence of (slice, csr_matrix)
    known : KnownTerms
    ids : sequence of str, (n,)
    bits : float64 array, (classes,), optional
        Information accretion.
    folds, seed : int
        Of the bootstrap.
    """
    codes = places_to_codes(known.ontology, truth.classes)
    out = [known_codes(codes, known.of(name)[0]) for name in ids]
    news = LabelSets.from_codes(
        truth.classes,
        [np.setdiff1d(truth.row(row), out[row]).tolist() for row in range(len(truth))],
        truth.groups,
    )
    counts = count(news, _without(kept, out), bits)
    aspects = [known.aspects_of(name) for name in ids]
    kinds: dict[str, dict[str, TargetScores]] = {}
    for kind in KINDS:
        for group, letter in enumerate(counts.groups):
            targets = np.array([_kind(letter, some) == kind for some in aspects], bool)
            scores = _scores(counts.take(targets), group, folds, seed)
            if scores is not None:
                kinds.setdefault(kind, {})[letter] = scores
    return ByKnowledge(kinds, tuple(known.lines()))


def _kind(letter: str, known: set[str]) -> str:
    if not known:
        return "no_knowledge"
    return "partial_knowledge" if letter in known else "limited_knowledge"


def _without(kept: Sequence[Kept], out: Sequence[npt.NDArray[np.int64]]) -> Iterator[Block]:
    """Give the scores of rows, those of known classes as nothing."""
    for rows, some in kept:
        scores = some.toarray()
        for row, codes in enumerate(out[rows]):
            scores[row, codes[codes < scores.shape[1]]] = 0
        yield rows, scores


def _scores(targets: Counts, group: int, folds: int, seed: int) -> TargetScores | None:
    """Return what the targets of a kind say of an aspect; None if there are none."""
    proteins = int(targets.measured[group])
    if not proteins:
        return None
    metrics, thresholds = with_intervals(targets, group, draw(len(targets), folds, seed))
    return TargetScores(proteins, metrics, thresholds)

"""How good a model is by what was known of a protein, as CAFA tells its targets apart.

In each aspect a protein is a target of one kind. Nothing is known of it in any aspect (no knowledge); or in others, but
not in this one (limited knowledge; Jiang et al. 2016, Genome Biol. 17:184, Methods); or in this one, too, and it is
asked what else it has (partial knowledge, since CAFA 5; as in the fork CAFA-evaluator-PK of Piovesan et al. 2024,
Bioinform. Adv. 4:vbae043): then terms that were known, with all that contain them, count neither as true nor as
predicted. A protein without a new term of an aspect is no target there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS
from esmcls.metrics.cafa import THRESHOLDS, Block, Counts, Sums, count
from esmcls.metrics.cafa_curves import draw
from esmcls.metrics.classification import FOLDS, Interval
from esmcls.reporting.phrases import aligned, between, decimal
from esmcls.tasks.go_terms.known.known_terms import KnownTerms, known_codes, places_to_codes
from esmcls.tasks.label_sets.counts import arrays_of, counts_of, join_counts
from esmcls.tasks.label_sets.evaluation import with_intervals
from esmcls.types import Floats, Indices

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


def keeping(blocks: Iterable[Block], scored: list[Kept]) -> Iterator[Block]:
    """Pass blocks on, and keep of each what measures can see."""
    least = np.float32(THRESHOLDS[0])
    for rows, scores in blocks:
        scored.append((rows, csr_matrix(np.where(scores >= least, scores, np.float32(0)))))
        yield rows, scores


def measure_by_knowledge(
    truth: LabelSets,
    scored: Sequence[Kept],
    known: KnownTerms,
    ids: Sequence[str],
    bits: Floats | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> ByKnowledge:
    """Measure what `keeping` collected, by what was known of each protein.

    Parameters
    ----------
    truth : LabelSets
        All terms of the proteins, those known among them or not; propagated, by the model's classes and more.
    scored : sequence of (slice, csr_matrix)
    known : KnownTerms
    ids : sequence of str, (n,)
    bits : float64 array, (classes,), optional
        Information accretion.
    folds, seed : int
        Of the bootstrap.
    """
    news = count_news(truth, scored, known, ids, bits)
    return ByKnowledge(news.scores(folds, seed), tuple(known.lines()))


def count_news(
    truth: LabelSets, scored: Sequence[Kept], known: KnownTerms, ids: Sequence[str], bits: Floats | None = None
) -> News:
    """Count what is right of what was not known; see `measure_by_knowledge`."""
    codes = places_to_codes(known.ontology, truth.classes)
    out = [known_codes(codes, known.of(name)[0]) for name in ids]
    news = LabelSets.from_codes(
        truth.classes,
        [np.setdiff1d(truth.row(row), out[row]).tolist() for row in range(len(truth))],
        truth.groups,
    )
    counts = count(news, _without(scored, out), bits)
    aspects = [known.aspects_of(name) for name in ids]
    kinds = [[list(KINDS).index(_kind(letter, known_aspects)) for known_aspects in aspects] for letter in counts.groups]
    return News(counts, np.array(kinds, np.int64).reshape(len(counts.groups), len(ids)))


def _kind(letter: str, known: set[str]) -> str:
    if not known:
        return "no_knowledge"
    return "partial_knowledge" if letter in known else "limited_knowledge"


@dataclass(frozen=True, eq=False)
class News:
    """What proteins have right of what was not known of them.

    Parameters
    ----------
    counts : Counts
    kinds : int64 array, (groups, n)
        Which kind of target each protein is in each aspect, by its place among `KINDS`.
    """

    counts: Counts
    kinds: Indices

    def scores(self, folds: int = FOLDS, seed: int = 0) -> dict[str, dict[str, TargetScores]]:
        """Return the scores of each kind in each aspect, without those that there are no targets of."""
        kinds: dict[str, dict[str, TargetScores]] = {}
        for number, kind in enumerate(KINDS):
            for group, letter in enumerate(self.counts.groups):
                scores = _scores(self.counts.take(self.kinds[group] == number), group, folds, seed)
                if scores is not None:
                    kinds.setdefault(kind, {})[letter] = scores
        return kinds

    def of_kind(self, kind: str) -> Counts:
        """Return the counts of all proteins, as if only the targets of a kind had terms: others are not measured."""
        others = self.kinds != list(KINDS).index(kind)
        plain, weighted = (sums and _emptied(sums, others) for sums in (self.counts.plain, self.counts.weighted))
        assert plain is not None
        return Counts(self.counts.groups, plain, weighted)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return it as arrays by name, for a file."""
        counts = {f"news_{name}": array for name, array in arrays_of(self.counts).items()}
        return counts | {"news_kinds": self.kinds}

    @classmethod
    def of_arrays(cls, groups: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]]) -> News | None:
        """Return what `arrays` gave; None where there is none of it."""
        if "news_kinds" not in arrays:
            return None
        plain = {name.removeprefix("news_"): array for name, array in arrays.items() if name.startswith("news_")}
        return cls(counts_of(groups, plain), plain["kinds"])

    @classmethod
    def joined(cls, folds: Sequence[News]) -> News | None:
        """Put the proteins of folds one after another; None of none."""
        if not folds:
            return None
        counts = join_counts([fold.counts for fold in folds])
        kinds = []
        for fold in folds:
            spread = np.zeros((len(counts.groups), len(fold.counts)), np.int64)
            spread[[counts.groups.index(group) for group in fold.counts.groups]] = fold.kinds
            kinds.append(spread)
        return cls(counts, np.concatenate(kinds, axis=1))


def _emptied(sums: Sums, rows: npt.NDArray[np.bool_]) -> Sums:
    """Return sums with nothing in some rows of groups, (groups, n)."""
    keep = ~rows
    return Sums(sums.true * keep[..., None], sums.predicted * keep[..., None], sums.members * keep)


def _without(scored: Sequence[Kept], out: Sequence[npt.NDArray[np.int64]]) -> Iterator[Block]:
    """Give the scores of rows, those of known classes as nothing."""
    for rows, sparse in scored:
        scores = sparse.toarray()
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

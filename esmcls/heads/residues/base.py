"""The skeleton that the built-in heads for residues share; what they promise is `esmcls.heads.contract.ResidueHead`.

A head answers protein by protein, each by itself: what it says of a residue never depends on which other proteins are
asked about. With classes it gives the probability of each; without, a single number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.windows import parse_long, positions_of, residues_seen
from esmcls.errors import UsageError, WidthMismatchError
from esmcls.heads.base import BaseHead, LoadedWithClasses
from esmcls.heads.blocks import AnswerBlocks, Dense, hold_out_where, probabilities_of, top_k_of
from esmcls.labels.residue_labels import ResidueNumbers, Targets
from esmcls.metrics.residues import confusion_of, number_measures, protein_of, scores_of_confusion
from esmcls.types import Indices, Positions, Probabilities, Vectors

_EMBED: Final = "run: esmcls embed INPUT --residues"


class BaseResidueHead(BaseHead[Targets], LoadedWithClasses[Targets]):
    """A head for residues, without anything fitted."""

    reads_residues: ClassVar[bool] = True

    def _check(self, x: Features, labels: Targets) -> None:
        if not len(x):
            raise UsageError("there are no proteins to fit on")
        if len(labels) != len(x):
            raise ValueError(f"labels of {len(labels)} proteins for {len(x)} proteins")
        if not labels.known.any():
            raise UsageError("no residue has a label to fit on: all are masked or unknown")
        if self.reads_residues:
            check_kept(x)

    def _check_validation(self, labels: Targets, held: Targets) -> None:
        if not held.known.any():
            raise UsageError("no residue of the validation part has a label to choose by: all are masked or unknown")

    def _hold_out(self, labels: Targets, seed: int) -> tuple[Indices, Indices]:
        return hold_out_proteins(labels, seed)

    @abstractmethod
    def per_protein(self, x: Features) -> Iterator[Probabilities]:
        """Give what is said of each protein; see `ResidueHead`."""

    def _answers(self, x: Features) -> AnswerBlocks:
        start = 0
        for answers in self.per_protein(x):
            yield slice(start, start + len(answers)), Dense(answers)
            start += len(answers)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return what is said of each residue of all proteins, float32 (residues, outputs)."""
        return probabilities_of(self._answers(x), int(x.lengths.sum()), max(1, len(self.classes)))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes of each residue and their probabilities, both (residues, min(k, classes))."""
        return top_k_of(self._answers(x), int(x.lengths.sum()), min(k, max(1, len(self.classes))))

    def _score(self, x: Features, labels: Targets) -> dict[str, float]:
        """Return what the head reaches on proteins; see `ResidueHead`."""
        return scores_of(np.concatenate(list(self.per_protein(x))), labels)


def hold_out_proteins(labels: Targets, seed: int) -> tuple[Indices, Indices]:
    """Hold out a tenth of the proteins; none of a single one, nor where the rest would know nothing."""
    return hold_out_where(len(labels), seed, lambda rows: bool(labels.take(rows).known.any()))


def scores_of(answers: Probabilities, labels: Targets) -> dict[str, float]:
    """Return the measures of answers (residues, outputs) where residues are known and were seen."""
    known = labels.known & ~np.isnan(answers[:, 0])
    if isinstance(labels, ResidueNumbers):
        sizes = np.diff(labels.offsets).tolist()
        protein = protein_of(sizes)[known]
        measure = number_measures(labels.values[known], answers[known, 0].astype(np.float64), protein, len(sizes))
        return measure(np.ones(len(sizes), dtype=np.int64))
    predicted = answers[known].argmax(1)
    return scores_of_confusion(confusion_of(labels.codes[known], predicted, labels.n_classes))


def check_kept(x: Features) -> None:
    """Refuse to train on vectors of residues that would have to be made anew each time they are asked for.

    Raises
    ------
    UsageError
        If a cache does not keep them, or what made the vectors has none.
    """
    if not x.of_residues:
        raise UsageError("this encoder's vectors are not of residues; embed with ESM-2 or another language model")
    if x.spec is not None and not x.spec.residues:
        raise UsageError(f"the vectors of residues are not kept in this cache; {_EMBED}")


def seen_positions(spec: EmbeddingSpec | None, length: int) -> Positions:
    """Return the 0-based positions of a sequence that some input of the encoder holds, ascending."""
    strategy = None if spec is None else parse_long(spec.long)
    if strategy is None or residues_seen(strategy, length) == length:
        return np.arange(length, dtype=np.int64)
    return np.unique(np.concatenate([positions_of(cut) for cut in strategy.cut(length)]))


def protein_vectors(x: Features, width: int | None = None) -> Iterator[tuple[Vectors, Positions, int]]:
    """Give the vectors of the residues of each protein, their positions, and the residues that it has.

    Raises
    ------
    WidthMismatchError
        If they are not of the width that a head was fitted on.
    ValueError
        If they are not of that sequence.
    """
    for vectors, sequence in zip(x.residues(), x.sequences, strict=True):
        if width is not None and vectors.shape[1] != width:
            raise WidthMismatchError(width, vectors.shape[1])
        length = len(sequence) or len(vectors)
        positions = seen_positions(x.spec, length)
        if len(positions) != len(vectors):
            raise ValueError(f"{len(vectors)} vectors of {len(positions)} residues")
        yield vectors, positions, length


def spread_out(answers: Probabilities, positions: Positions, length: int) -> Probabilities:
    """Return the answers about residues that were seen at their places, NaN elsewhere, (length, outputs)."""
    if len(positions) == length:
        return answers
    whole = np.full((length, answers.shape[1]), np.nan, dtype=np.float32)
    whole[positions] = answers
    return whole

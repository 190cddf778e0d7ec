"""What a model says of the test proteins, kept as arrays: all that a comparison needs of it, without the model.

Class codes are those of the whole data set's classes, so that answers of models that know other classes, and of the
folds of a cross-validation, stand side by side.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import atomic_path
from esmcls.heads.registry import Head
from esmcls.labels.labels import Labels
from esmcls.metrics.classification import RANKS
from esmcls.tasks.one_label.confidence import Confidence, Rejection, blocks, known_score
from esmcls.types import Indices

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DEPTH: Final = max(RANKS)


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers for n proteins of known families and m proteins of families held out of training.

    Parameters
    ----------
    truth : int64 array, (n,)
    ranked : int64 array, (n, DEPTH)
        Codes of the likeliest classes; -1 after the last.
    probability : float64 array, (n,)
        Of the likeliest class.
    lengths : int64 array, (n,)
        Residues.
    members : int64 array, (n,)
        Training members of the true class.
    familiar, unfamiliar : float64 arrays, (n,) and (m,)
        What is compared with the threshold, of the proteins of known and of held-out families; empty without any.
    accepted, wrongly : bool arrays, (n,) and (m,)
        Whether the model accepts them as of a known family.
    covered, sizes : bool array and int64 array, (n,)
        Whether the set of the stated coverage holds the true class, and its size; empty without calibration rows.
    seconds : float64 array, (folds, 2)
        Of fitting, and of predicting with vectors at hand.
    about : dict
        validation: accuracy and macro_f1; megabytes; held_half: coverage on the held half of the calibration rows;
        score: what is compared with the threshold.
    """

    truth: Indices
    ranked: Indices
    probability: Floats
    lengths: Indices
    members: Indices
    familiar: Floats
    unfamiliar: Floats
    accepted: Flags
    wrongly: Flags
    covered: Flags
    sizes: Indices
    seconds: Floats
    about: dict[str, Any]

    @property
    def right(self) -> Flags:
        """Whether the likeliest class is the true one, (n,)."""
        right: Flags = self.ranked[:, 0] == self.truth
        return right

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all; `key` says what the answers are of."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        with atomic_path(path) as temporary:
            save_file(arrays, temporary, {"key": key, "about": json.dumps(self.about, sort_keys=True)})

    @classmethod
    def load(cls, path: Path, key: str) -> Answers | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        try:
            with safe_open(path, "numpy") as file:
                told = file.metadata() or {}
                if told.get("key") != key:
                    return None
                return cls(**{name: file.get_tensor(name) for name in _ARRAYS}, about=json.loads(told["about"]))
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # as if it were not there: it is computed again

    @classmethod
    def joined(cls, folds: Sequence[Answers]) -> Answers:
        """Put the answers of folds one after another; what is told about them is averaged."""
        if len(folds) == 1:
            return folds[0]
        arrays = {name: np.concatenate([getattr(one, name) for one in folds]) for name in _ARRAYS}
        return cls(
            **arrays, about=_mean([{key: one.about[key] for key in one.about if key != "model"} for one in folds])
        )


_ARRAYS: Final = tuple(field.name for field in fields(Answers) if field.name != "about")


def _mean(facts: Sequence[Any]) -> Any:
    if isinstance(facts[0], dict):
        return {name: _mean([one[name] for one in facts]) for name in facts[0]}
    return None if None in facts else sum(facts) / len(facts)


@dataclass(frozen=True)
class Questions:
    """Who is asked about: the proteins, and the classes of the whole data set.

    Parameters
    ----------
    known, unseen : Dataset
        Test proteins of known families and of families held out.
    classes : tuple of str
    coverage : float
        Of the sets.
    """

    known: Dataset
    unseen: Dataset
    classes: tuple[str, ...]
    coverage: float

    def ask(self, head: Head, x: Features, unseen: Features, doubts: Confidence, about: Mapping[str, Any]) -> Answers:
        """Ask a head about all of them.

        Parameters
        ----------
        head : Head
        x, unseen : Features
            Of the proteins, in their order.
        doubts : Confidence
        about : mapping
            counts: training members of each class; fit_seconds; the rest is what `Answers.about` is to hold.
        """
        told = dict(about)
        counts, fit_seconds = told.pop("counts"), told.pop("fit_seconds")
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        began = time.perf_counter()
        codes, probabilities = head.top_k(x, DEPTH)
        seconds = time.perf_counter() - began
        found = self._plain(head.classes, codes, probabilities[:, 0], counts, (fit_seconds, seconds), told)
        if doubts.rejection is not None:
            found = _rejected(found, head, x, unseen, doubts.rejection)
        if len(doubts.true_probabilities) > 1:
            found = self._covered(found, head, x, doubts)
        return found

    def majority(self, counts: Mapping[str, int]) -> Answers:
        """Answer every protein with the most frequent classes: what a model must beat to have learned anything."""
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:DEPTH]
        n = len(self.known)
        codes = np.tile(np.arange(len(frequent)), (n, 1))
        share = np.full(n, counts[frequent[0]] / sum(counts.values()))
        return self._plain(frequent, codes, share, counts, (0.0, 0.0), {"validation": None, "megabytes": 0.0})

    def _plain(
        self,
        classes: Sequence[str],
        codes: Indices,
        probability: npt.NDArray[np.floating],
        counts: Mapping[str, int],
        seconds: tuple[float, float],
        about: dict[str, Any],
    ) -> Answers:
        """Return answers without rejection and sets; `codes` are places in `classes`."""
        place = {name: code for code, name in enumerate(self.classes)}
        ranked = np.full((len(self.known), DEPTH), -1, dtype=np.int64)
        ranked[:, : codes.shape[1]] = np.array([place[name] for name in classes], dtype=np.int64)[codes]
        return Answers(
            truth=Labels.from_names(self.known.labels, self.classes).codes,
            ranked=ranked,
            probability=probability.astype(np.float64),
            lengths=np.fromiter(map(len, self.known.sequences), dtype=np.int64, count=len(self.known)),
            members=np.array([counts.get(name, 0) for name in self.known.labels], dtype=np.int64),
            familiar=np.zeros(0),
            unfamiliar=np.zeros(0),
            accepted=np.zeros(0, dtype=bool),
            wrongly=np.zeros(0, dtype=bool),
            covered=np.zeros(0, dtype=bool),
            sizes=np.zeros(0, dtype=np.int64),
            seconds=np.array([seconds]),
            about=about | {"held_half": None},
        )

    def _covered(self, found: Answers, head: Head, x: Features, doubts: Confidence) -> Answers:
        """Measure the sets of the stated coverage; a set is never empty: the likeliest class is in it."""
        least, truth = doubts.threshold(self.coverage), Labels.from_names(self.known.labels, head.classes).codes
        covered, sizes = found.right.copy(), np.ones(len(x), dtype=np.int64)
        for rows, block in blocks(x, len(head.classes)):
            probabilities, codes = head.predict_proba(block), truth[rows]
            within = probabilities[np.arange(len(codes)), codes] >= least
            covered[rows] |= within & (codes >= 0)
            sizes[rows] = np.maximum((probabilities >= least).sum(1), 1)
        told = {"held_half": doubts.held_half(self.coverage), "calibration_rows": len(doubts.true_probabilities)}
        return replace(found, covered=covered, sizes=sizes, about=found.about | told)


def _rejected(found: Answers, head: Head, x: Features, unseen: Features, rejection: Rejection) -> Answers:
    """Measure the threshold of rejection."""
    near, far = (known_score(head, part, rejection.score) for part in (x, unseen))
    accepted, wrongly = near > rejection.threshold, far > rejection.threshold
    about = found.about | {"score": rejection.score}
    return replace(found, familiar=near, unfamiliar=far, accepted=accepted, wrongly=wrongly, about=about)

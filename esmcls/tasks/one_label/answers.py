"""What a model says of the test proteins, kept as arrays: all that a comparison needs of it, without the model.

Class codes are those of the whole data set's classes, so that answers of models that know other classes, and of the
folds of a cross-validation, stand side by side.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import atomic_path, refuse_what_is_no_file
from esmcls.heads.base import Head
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.labels import Labels
from esmcls.metrics.classification import RANKS
from esmcls.tasks.fitted import FittedModel
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.kept_answers import as_metadata, from_metadata, read_seconds, write_seconds
from esmcls.tasks.one_label.confidence import Confidence, Rejection, blocks
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.levels.scores import AnsweredLevels
from esmcls.types import Indices

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DEPTH: Final = max(RANKS)
MAJORITY: Final = "majority"


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
        Of fitting, NaN where that is not known, and of predicting with vectors at hand.
    about : dict
        validation: accuracy and macro_f1; megabytes; explanation: see `ExplainsItself`; held_half: coverage on the
        held half of the calibration rows; score: what is compared with the threshold; told: shares of strangers and of
        known proteins that the model says it accepts.
    families : int64 array, (m,)
        Of the proteins of held-out families.
    levels, held : int64 and bool arrays, (n,)
        At which level of a hierarchy each is answered at the stated coverage, 0 for none, and whether the answer holds
        the true class; empty without a hierarchy or without calibration rows.
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
    families: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    levels: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    held: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def right(self) -> Flags:
        """Whether the likeliest class is the true one, (n,)."""
        right: Flags = self.ranked[:, 0] == self.truth
        return right

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"accuracy {100 * self.right.mean():.2f} %"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict = self.seconds.sum(0).tolist()
        speed = round(len(self.truth) / predict) if predict else None
        return None if math.isnan(fit) else round(fit, 2), speed

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        write_seconds(path, [[None if math.isnan(value) else value for value in row] for row in self.seconds.tolist()])
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS if name != "seconds"}
        with atomic_path(path) as temporary:
            save_file(arrays, temporary, as_metadata(key, about=self.about))

    @classmethod
    def load(cls, path: Path, key: str) -> Answers | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        try:
            refuse_what_is_no_file(path)
            with safe_open(path, "numpy") as file:
                facts = from_metadata(file.metadata() or {})
                if facts.get("key") != key:
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if "seconds" not in arrays:  # they lie beside, but not where 0.1.0 wrote
                arrays["seconds"] = np.array(read_seconds(path), np.float64)
            given = {name: arrays[name] for name in _ARRAYS if name in arrays or name not in _LATER}
            return cls(**given, about=facts["about"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None  # as if it were not there: it is computed again

    @classmethod
    def joined(cls, folds: Sequence[Answers]) -> Answers:
        """Put the answers of folds one after another; what is told about them is averaged."""
        if len(folds) == 1:
            return folds[0]
        arrays = {name: np.concatenate([getattr(fold, name) for fold in folds]) for name in _ARRAYS}
        return cls(**arrays, about=mean_facts([fold.about for fold in folds]))


_ARRAYS: Final = tuple(field.name for field in fields(Answers) if field.name != "about")
_LATER: Final = ("levels", "held")
"""Which answers of an older esmcls lack."""


@dataclass(frozen=True)
class Questions:
    """Who is asked about: the proteins, and the classes of the whole data set.

    Parameters
    ----------
    known, unseen : Dataset
        Test proteins of known families and of families held out.
    classes : tuple of str
    coverage : float, optional
        Of the sets; None where none are asked for.
    hierarchy : Hierarchy, optional
        Of the classes: answers at a level of it are asked for, too.
    """

    known: Dataset
    unseen: Dataset
    classes: tuple[str, ...]
    coverage: float | None
    hierarchy: Hierarchy | None = None

    def ask(
        self,
        model: FittedModel[Head, LabelFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> Answers:
        """Ask a model about all of them.

        Parameters
        ----------
        model : FittedModel
        x, unseen : Features
            Of the proteins, in their order.
        fit_seconds : float or None
            None where that is not known.
        about : dict
            See `Answers`.
        """
        head, doubts = model.head, model.findings.confidence or Confidence()
        counts = dict(zip(model.classes, model.class_counts, strict=True))
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        began = time.perf_counter()
        codes, probabilities = head.top_k(x, DEPTH)
        seconds = time.perf_counter() - began
        fitting = math.nan if fit_seconds is None else fit_seconds
        shown = {"validation": {name: about["validation"].get(name, 0.0) for name in ("accuracy", "macro_f1")}}
        answers = self.plain(head.classes, codes, probabilities[:, 0], counts, (fitting, seconds), about | shown)
        if doubts.rejection is not None:
            answers = _rejected(answers, head, x, unseen, doubts.rejection)
            answers = replace(answers, families=Labels.from_names(self.unseen.labels, self.classes).codes)
        if self.coverage is not None and len(doubts.true_probabilities) > 1:
            answers = self._covered(answers, head, x, doubts, self.coverage)
        return answers

    def without_model(self, train: Dataset) -> dict[str, Answers]:
        """Return the answers of the majority class, by its name."""
        return {MAJORITY: self.majority(Counter(train.labels))}

    def majority(self, counts: Mapping[str, int]) -> Answers:
        """Answer every protein with the most frequent classes: what a model must beat to have learned anything."""
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:DEPTH]
        n = len(self.known)
        codes = np.tile(np.arange(len(frequent)), (n, 1))
        share = np.full(n, counts[frequent[0]] / sum(counts.values()))
        return self.plain(frequent, codes, share, counts, (0.0, 0.0), {"validation": None, "megabytes": 0.0})

    def plain(
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

    def _covered(self, answers: Answers, head: Head, x: Features, doubts: Confidence, coverage: float) -> Answers:
        """Measure the sets of the stated coverage; a set is never empty: the likeliest class is in it."""
        least, truth = doubts.threshold(coverage), Labels.from_names(self.known.labels, head.classes).codes
        covered, sizes = answers.right.copy(), np.ones(len(x), dtype=np.int64)
        at_level = self._at_levels(head, doubts, coverage)
        for rows, block in blocks(x, len(head.classes)):
            probabilities, codes = head.predict_proba(block), truth[rows]
            if at_level is not None:
                at_level.add(probabilities, self.known.labels[rows])
            within = probabilities[np.arange(len(codes)), codes] >= least
            covered[rows] |= within & (codes >= 0)
            sizes[rows] = np.maximum((probabilities >= least).sum(1), 1)
        reached = {"held_half": doubts.held_half(coverage), "calibration_rows": len(doubts.true_probabilities)}
        answers = replace(answers, covered=covered, sizes=sizes, about=answers.about | reached)
        if at_level is None:
            return answers
        levels, held = at_level.joined()
        half = {"tree_held_half": doubts.tree_held_half(coverage)}
        return replace(answers, levels=levels, held=held, about=answers.about | half)

    def _at_levels(self, head: Head, doubts: Confidence, coverage: float) -> AnsweredLevels | None:
        """Return what takes answers at a level of the hierarchy; None where there are none."""
        if self.hierarchy is None or not doubts.answers_in(self.hierarchy):
            return None
        return AnsweredLevels(self.hierarchy, head.classes, self.known.labels, doubts.tree_threshold(coverage))


def _rejected(answers: Answers, head: Head, x: Features, unseen: Features, rejection: Rejection) -> Answers:
    """Measure the threshold of rejection."""
    near, far = (rejection.of(head, part) for part in (x, unseen))
    accepted, wrongly = near > rejection.threshold, far > rejection.threshold
    rates = {"reached": rejection.strangers, "accepted": rejection.known}
    shares = {name: None if rate is None else rate.share for name, rate in rates.items()}
    about = answers.about | {"score": rejection.score, "told": shares}
    return replace(answers, familiar=near, unfamiliar=far, accepted=accepted, wrongly=wrongly, about=about)

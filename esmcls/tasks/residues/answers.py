"""What a model says of the residues of the test proteins, kept as arrays: all that a comparison needs of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import ResidueHead
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers, Targets, signs_of
from esmcls.metrics.residues import Statistic, label_measures, number_measures, protein_of
from esmcls.tasks.fitted import FittedModel, NoFindings
from esmcls.tasks.folds import mean_facts
from esmcls.tasks.kept_answers import Kept, load_answers, save_answers
from esmcls.types import Floats, Indices, Probabilities

MAIN: Final = {True: "macro_f1", False: "spearman"}
"""By which measure models are set in order: of labels, and of numbers."""
CONSTANT: Final = {True: "majority", False: "mean"}
"""The baseline that says the same of every residue."""


@dataclass(frozen=True, eq=False)
class ResidueAnswers:
    """A model's answers for the residues of n proteins.

    Parameters
    ----------
    sizes : int64 array, (n,)
        Residues of each protein.
    truth : float64 array, (residues,)
        Class codes, or numbers; NaN where not known.
    answers : float32 array, (residues, outputs)
        Probabilities of the classes, or the number; NaN of residues that the encoder did not see.
    ids : list of str, (n,)
    classes : tuple of str
        None of numbers.
    seconds : tuple of (float or None, float)
        Of fitting, where that is known, and of predicting.
    about : dict
        See `esmcls.tasks.comparing.Answers`.
    """

    sizes: Indices
    truth: Floats
    answers: Probabilities
    ids: list[str]
    classes: tuple[str, ...]
    seconds: tuple[float | None, float]
    about: dict[str, Any]

    arrays: ClassVar[tuple[str, ...]] = ("sizes", "truth", "answers")

    @property
    def known(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each residue is scored: its truth is known, and it was answered; bool (residues,)."""
        return ~np.isnan(self.truth) & ~np.isnan(self.answers[:, 0])

    @property
    def unseen(self) -> int:
        """Residues with a label of which the encoder saw nothing."""
        return int((~np.isnan(self.truth) & np.isnan(self.answers[:, 0])).sum())

    @property
    def main(self) -> str:
        """The measure that models are set in order by."""
        return MAIN[bool(self.classes)]

    def measure(self) -> Statistic:
        """Return all measures as a function of how often each protein counts."""
        known, n = self.known, len(self.sizes)
        truth, answers, protein = self.truth[known], self.answers[known], protein_of(self.sizes.tolist())[known]
        if self.classes:
            return label_measures(truth.astype(np.int64), answers, protein, n, self.classes)
        return number_measures(truth, answers[:, 0].astype(np.float64), protein, n)

    def scores(self) -> dict[str, float]:
        """Return all measures of all proteins."""
        return self.measure()(np.ones(len(self.sizes), dtype=np.int64))

    @property
    def headline(self) -> str:
        """Its main measure, for a line of progress."""
        return f"{self.main.replace('_f1', ' F1')} {self.scores()[self.main]:.3f}"

    def timing(self) -> tuple[float | None, int | None]:
        """Return the seconds of fitting and the proteins a second of predicting, where they are known."""
        fit, predict = self.seconds
        return None if fit is None else round(fit, 2), round(len(self.sizes) / predict) if predict else None

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all, and the seconds beside; `key` says what the answers are of."""
        arrays = {name: getattr(self, name) for name in self.arrays}
        facts = {"about": self.about, "ids": self.ids, "classes": list(self.classes)}
        save_answers(path, key, arrays, list(self.seconds), **facts)

    @classmethod
    def load(cls, path: Path, key: str) -> ResidueAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key."""
        return load_answers(path, key, cls.arrays, cls._of)

    @classmethod
    def _of(cls, stored: Kept) -> ResidueAnswers:
        ids, classes, about = (stored.facts[name] for name in ("ids", "classes", "about"))
        fit, predict = stored.seconds
        return cls(**stored.arrays, ids=ids, classes=tuple(classes), seconds=(fit, predict), about=about)

    @classmethod
    def joined(cls, folds: Sequence[ResidueAnswers]) -> ResidueAnswers:
        """Put the answers of folds one after another; what is told about them is averaged."""
        if len(folds) == 1:
            return folds[0]
        arrays = {name: np.concatenate([getattr(fold, name) for fold in folds]) for name in cls.arrays}
        fits = [fold.seconds[0] for fold in folds]
        fit = None if None in fits else sum(seconds for seconds in fits if seconds is not None)
        ids = [name for fold in folds for name in fold.ids]
        about = mean_facts([fold.about for fold in folds])
        return cls(
            **arrays, ids=ids, classes=folds[0].classes, seconds=(fit, sum(f.seconds[1] for f in folds)), about=about
        )


def truth_of(labels: Targets) -> Floats:
    """Return class codes or numbers of residues, NaN where not known, (residues,)."""
    if isinstance(labels, ResidueNumbers):
        return labels.values
    return np.where(labels.codes >= 0, labels.codes, np.nan).astype(np.float64)


def targets(kind: str, texts: Sequence[str], classes: Sequence[str] | None = None) -> Targets:
    """Return what texts say of residues, by kind of task."""
    return ResidueLabels.from_texts(texts, classes) if kind == RESIDUE_LABEL else ResidueNumbers.from_texts(texts)


def aligned_to(answers: Probabilities, of_model: Sequence[str], classes: Sequence[str]) -> Probabilities:
    """Return probabilities of a model's own classes as those of other classes, 0 of one that it does not know."""
    if tuple(of_model) == tuple(classes):
        return answers
    place = {name: column for column, name in enumerate(of_model)}
    out = np.zeros((len(answers), len(classes)), dtype=np.float32)
    for column, name in enumerate(classes):
        if name in place:
            out[:, column] = answers[:, place[name]]
    out[np.isnan(answers[:, 0])] = np.nan
    return out


@dataclass(frozen=True)
class Questions:
    """Who is asked about: the test proteins, and the classes of the whole data set.

    Parameters
    ----------
    kind : str
    known, unseen : Dataset
        The latter is empty: residues have no strangers.
    classes : tuple of str
    """

    kind: str
    known: Dataset
    unseen: Dataset
    classes: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, part: Dataset, classes: Sequence[str]) -> Questions:
        """Ask a model of some classes about proteins; classes that occur besides count as wrong."""
        known = () if kind == RESIDUE_NUMBER else (*classes, *sorted(signs_of(part.labels) - set(classes)))
        return cls(kind, part, part.take([]), known)

    def ask(
        self,
        model: FittedModel[ResidueHead, NoFindings],
        x: Features,
        unseen: Features,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> ResidueAnswers:
        """Ask a model about all of them; `about` is that of `ResidueAnswers`."""
        began = time.perf_counter()
        parts = list(model.head.per_protein(x))
        seconds = time.perf_counter() - began
        answers = np.concatenate(parts)
        if self.classes:
            answers = aligned_to(answers, model.classes, self.classes)
        return self._told(answers, (fit_seconds, seconds), about)

    def without_model(self, train: Dataset) -> dict[str, ResidueAnswers]:
        """Return the answers that are the same of every residue: the most frequent class, or the mean."""
        labels = targets(self.kind, train.labels, self.classes or None)
        residues = sum(map(len, self.known.sequences))
        if isinstance(labels, ResidueNumbers):
            row = np.array([np.nanmean(labels.values)])
        else:
            row = labels.counts() / max(1, labels.counts().sum())
        answers = np.tile(row.astype(np.float32), (residues, 1))
        about = {"model": None, "validation": None, "megabytes": 0.0}
        return {CONSTANT[bool(self.classes)]: self._told(answers, (0.0, 0.0), about)}

    def _told(
        self, answers: Probabilities, seconds: tuple[float | None, float], about: dict[str, Any]
    ) -> ResidueAnswers:
        labels = targets(self.kind, self.known.labels, self.classes or None)
        sizes = np.diff(labels.offsets)
        return ResidueAnswers(sizes, truth_of(labels), answers, self.known.ids, self.classes, seconds, about)

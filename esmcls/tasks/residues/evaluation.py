"""How good a model of residues is on proteins: measures with intervals over proteins, and each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from esmcls.errors import UsageError
from esmcls.metrics.classification import FOLDS, Interval
from esmcls.metrics.residues import intervals_over_proteins
from esmcls.reporting.phrases import counted, decimal
from esmcls.tasks.residues.answers import ResidueAnswers
from esmcls.tasks.residues.comparison import class_scores, confusion
from esmcls.tasks.residues.results import ClassScores

NAMES: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mcc": "MCC",
    "auroc": "AUROC",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "rmse": "RMSE",
    "r2": "R²",
}
"""What measures are called; accuracy is Q3 with three classes, Q8 with eight."""


@dataclass(frozen=True)
class ResidueEvaluation:
    """What a model reaches.

    Parameters
    ----------
    n : int
        Proteins.
    residues, known, unseen : int
        Of these proteins; with a label that is scored; with one of which the encoder saw nothing.
    metrics : mapping of str to Interval
    classes : list of ClassScores
    folds, seed : int
        Of the bootstrap over proteins.
    answers : ResidueAnswers
    """

    n: int
    residues: int
    known: int
    unseen: int
    metrics: Mapping[str, Interval]
    classes: list[ClassScores]
    folds: int
    seed: int
    answers: ResidueAnswers = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json."""
        numbers = {name: getattr(self, name) for name in ("n", "residues", "known", "unseen", "folds", "seed")}
        metrics = {name: asdict(interval) for name, interval in self.metrics.items()}
        return numbers | {"metrics": metrics, "classes": [asdict(scores) for scores in self.classes]}

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        lines = [f"{counted(self.n, 'protein')}, {counted(self.known, 'residue')} with a label of {self.residues:,}"]
        if self.unseen:
            lines.append(f"{counted(self.unseen, 'residue')} with a label not seen by the encoder, not scored")
        lines += ["", f"{'':12}  {'':>6}  95 % interval over proteins"]
        lines += [f"{NAMES.get(name, name):12}  {_with_ends(interval)}" for name, interval in self.metrics.items()]
        if self.classes:
            lines += ["", f"{'class':8}  {'residues':>9}  {'precision':>9}  {'recall':>6}  {'F1':>6}  95 % interval"]
        return lines + [_class_line(scores) for scores in self.classes]


def _with_ends(interval: Interval) -> str:
    return f"{decimal(interval.value):>6}  {decimal(interval.low)} to {decimal(interval.high)}"


def _class_line(scores: ClassScores) -> str:
    shares = f"{decimal(scores.precision):>9}  {decimal(scores.recall):>6}"
    return f"{scores.name:8}  {scores.residues:>9,}  {shares}  {_with_ends(scores.f1)}"


def evaluate_residues(answers: ResidueAnswers, *, folds: int = FOLDS, seed: int = 0) -> ResidueEvaluation:
    """Measure answers.

    Raises
    ------
    UsageError
        If no residue has a label.
    """
    known = int(answers.known.sum())
    if not known:
        raise UsageError("no residue to evaluate on has a label: all are masked or unknown")
    n = len(answers.sizes)
    intervals, _ = intervals_over_proteins(answers.measure(), n, folds=folds, seed=seed)
    metrics = {name: interval for name, interval in intervals.items() if not name.startswith("f1_")}
    classes = class_scores(answers.classes, confusion(answers), intervals)
    residues = int(answers.sizes.sum())
    return ResidueEvaluation(n, residues, known, answers.unseen, metrics, classes, folds, seed, answers)

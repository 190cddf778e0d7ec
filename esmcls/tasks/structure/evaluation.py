"""How good a model of structures is on chains: measures with intervals over chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from esmcls.errors import UsageError
from esmcls.metrics.classification import FOLDS, Interval
from esmcls.reporting.phrases import counted, decimal
from esmcls.tasks.structure.answers import StructureAnswers
from esmcls.tasks.structure.measures import CONTACTS, FOLDED, MAIN, NAMES, intervals_over_chains


@dataclass(frozen=True)
class StructureEvaluation:
    """What a model reaches.

    Parameters
    ----------
    n : int
        Chains.
    residues, resolved, folded : int
        Residues, those of them with a place, and chains that were folded.
    metrics : mapping of str to Interval
    folds, seed : int
        Of the bootstrap over chains.
    answers : StructureAnswers
    """

    n: int
    residues: int
    resolved: int
    folded: int
    metrics: Mapping[str, Interval]
    folds: int
    seed: int
    answers: StructureAnswers = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json."""
        numbers = {name: getattr(self, name) for name in ("n", "residues", "resolved", "folded", "folds", "seed")}
        metrics = {name: asdict(interval) for name, interval in self.metrics.items()}
        return numbers | {"format": 1, "contacts": CONTACTS, "metrics": metrics}

    def lines(self) -> list[str]:
        """Return a table for people, one line each."""
        of_pairs = {name: interval for name, interval in self.metrics.items() if name not in FOLDED}
        of_traces = {name: interval for name, interval in self.metrics.items() if name in FOLDED}
        lines = [f"{counted(self.n, 'chain')}, {self.resolved:,} of {self.residues:,} residues resolved"]
        lines += [f"contacts: {CONTACTS}", "", f"{'':14}  {'':>6}  95 % interval over chains"]
        lines += [_line(name, interval) for name, interval in of_pairs.items()]
        if of_traces:
            lines += ["", f"folded: {counted(self.folded, 'chain')}, spread over the lengths"]
        return lines + [_line(name, interval) for name, interval in of_traces.items()]


def _line(name: str, interval: Interval) -> str:
    return f"{NAMES[name]:14}  {decimal(interval.value):>6}  {decimal(interval.low)} to {decimal(interval.high)}"


def evaluate_structures(answers: StructureAnswers, *, folds: int = FOLDS, seed: int = 0) -> StructureEvaluation:
    """Measure answers.

    Raises
    ------
    UsageError
        If no chain has residues that are far enough apart for a long-range contact.
    """
    metrics, _ = intervals_over_chains(answers.values, draws=folds, seed=seed)
    if MAIN not in metrics:
        raise UsageError("no chain to evaluate on has resolved residues 24 apart, as long-range contacts are")
    numbers = len(answers.sizes), int(answers.sizes.sum()), int(answers.resolved.sum()), answers.folded
    return StructureEvaluation(*numbers, metrics, folds, seed, answers)

"""What sets with a stated coverage hold and how large they are: counted, of several folds, in tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Block, group_codes
from esmcls.plain_values import from_plain
from esmcls.reporting.phrases import aligned
from esmcls.tasks.label_sets.trust.sets import SHOWN, CalibratedSets, least_in_set


@dataclass(frozen=True)
class SetScores:
    """What the sets of a group hold and how large they are, of the proteins that have a class of it.

    Parameters
    ----------
    coverage, reached : float
        The mean share of a protein's true classes in its set: as promised, and on these proteins.
    threshold : float
        From what probability on a class is in the set.
    mean_size, median_size : float
        Classes in a set.
    proteins, calibration_rows : int
        With a class of the group.
    """

    coverage: float
    reached: float
    threshold: float
    mean_size: float
    median_size: float
    proteins: int
    calibration_rows: int


@dataclass(frozen=True)
class SetsReached:
    """What sets of a coverage hold of the proteins of an evaluation.

    Parameters
    ----------
    by_group : dict of str to SetScores
    noun : str
        What a class is called.
    why_not : str
        Why there are none of that coverage; empty where there are.
    """

    by_group: dict[str, SetScores]
    noun: str = "term"
    why_not: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values under their name in metrics.json."""
        sets = {name: asdict(scores) for name, scores in self.by_group.items()}
        return {"sets": sets} | ({"no_sets": self.why_not} if self.why_not else {})

    def lines(self) -> list[str]:
        """Say it for people."""
        sentences = [self._line(name, scores) for name, scores in self.by_group.items()]
        return [*sentences, *([self.why_not] if self.why_not else [])]

    def _line(self, name: str, scores: SetScores) -> str:
        of_group = f" in {name}" if len(self.by_group) > 1 or len(name) == 1 else ""
        asked = f"sets of {100 * scores.coverage:g} %{of_group} ({scores.calibration_rows:,} calibration rows)"
        held = f"hold {100 * scores.reached:.1f} % of a protein's {self.noun}s"
        return f"{asked}: {held}, {scores.mean_size:.1f} {self.noun}s in a set"


class SetCounts:
    """Counts what sets hold while blocks of scores go by.

    Parameters
    ----------
    sets : CalibratedSets or None
        None where there are none: then nothing is counted.
    truth : LabelSets
        As in `CalibratedSets.measure`.
    coverage : float
    noun : str
        What a class is called.

    Attributes
    ----------
    why_not : str
        Why there are no sets of this coverage, though calibration rows were set aside.
    """

    def __init__(
        self, sets: CalibratedSets | None, truth: LabelSets, coverage: float = SHOWN, noun: str = "term"
    ) -> None:
        self.sets, self.coverage, self.truth, self.noun = sets, coverage, truth, noun
        self.thresholds: dict[str, float] = {}
        self.why_not = ""
        try:
            self.thresholds = {} if sets is None else sets.thresholds(coverage)
        except UsageError as error:
            self.why_not = f"no sets of {100 * coverage:g} %: {error}"
        self.groups, self.place = group_codes(truth)
        self.held = np.zeros((len(self.groups), len(truth)), np.int64)
        self.sizes = np.zeros_like(self.held)

    def counting(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Pass blocks on, and count."""
        for rows, scores in blocks:
            if self.thresholds:
                self._count(rows, scores)
            yield rows, scores

    def _count(self, rows: slice, scores: npt.NDArray[np.floating]) -> None:
        known = scores.shape[1]
        within = scores >= least_in_set(self.thresholds, self.truth.groups[:known])
        right = within & self.truth.dense(rows)[:, :known]
        for group in range(len(self.groups)):
            columns = self.place[:known] == group
            self.sizes[group, rows] = within[:, columns].sum(axis=1)
            self.held[group, rows] = right[:, columns].sum(axis=1)

    def scores(self) -> dict[str, SetScores]:
        """Return what was counted, by the group; without groups that no protein has a class of, or no sets are of."""
        true = np.zeros_like(self.held)
        owners = np.repeat(np.arange(len(self.truth)), self.truth.sizes())
        np.add.at(true, (self.place[self.truth.codes], owners), 1)
        scores = {}
        for group, name in enumerate(self.groups):
            here = true[group] > 0
            if self.sets is not None and name in self.thresholds and here.any():
                reached = float((self.held[group, here] / true[group, here]).mean())
                sizes = self.sizes[group, here]
                numbers = float(sizes.mean()), float(np.median(sizes)), int(here.sum()), self.sets.of_group(name)[2]
                scores[name] = SetScores(self.coverage, reached, self.thresholds[name], *numbers)
        return scores

    def reached(self) -> tuple[SetsReached, ...]:
        """Return what was counted, or why nothing was; nothing where no rows were set aside."""
        if self.sets is None:
            return ()
        return (SetsReached(self.scores(), self.noun, self.why_not),)


def with_sets(evaluation: dict[str, Any], sets: SetCounts) -> dict[str, Any]:
    """Return what an evaluation says with what was counted of sets, if anything was."""
    for reached in sets.reached():
        evaluation |= reached.to_json()
    return evaluation


def join_sets(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `with_sets` added to the evaluations of folds for the proteins of all of them.

    Medians and thresholds, which are of different models, are means over the folds. Where one has none, none are told.
    """
    whys = [fold["no_sets"] for fold in folds if "no_sets" in fold]
    if whys:
        return {"sets": {}, "no_sets": whys[0]}
    if any("sets" not in fold for fold in folds):
        return {}
    names = dict.fromkeys(name for fold in folds for name in fold["sets"])
    return {"sets": {name: _mean_set([fold["sets"][name] for fold in folds if name in fold["sets"]]) for name in names}}


def _mean_set(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    weights = [fold["proteins"] for fold in folds]
    names = ("coverage", "reached", "threshold", "mean_size", "median_size")
    means = {name: float(np.average([fold[name] for fold in folds], weights=weights)) for name in names}
    rows = round(float(np.mean([fold["calibration_rows"] for fold in folds])))
    return means | {"proteins": sum(weights), "calibration_rows": rows}


# a comparison


class HasSets(Protocol):
    """The row of a model in a report."""

    @property
    def name(self) -> str: ...
    @property
    def sets(self) -> dict[str, SetScores]: ...
    @property
    def no_sets(self) -> str: ...


def sets_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that say what sets hold, from what `with_sets` gave."""
    sets = {name: from_plain(SetScores, scores) for name, scores in evaluation.get("sets", {}).items()}
    return {"sets": sets, "no_sets": evaluation.get("no_sets", "")}


def set_rows(rows: Sequence[HasSets], group: str = "") -> list[dict[str, Any]]:
    """Return a row of a table for each model and group, the group in a column where that is named."""
    return [
        {"model": row.name} | ({group: name} if group else {}) | asdict(scores)
        for row in rows
        for name, scores in row.sets.items()
    ]


def set_lines(rows: Sequence[HasSets], noun: str = "term") -> list[str]:
    """Return a table for a terminal of what the sets of models hold; nothing without any."""
    without_sets = [f"{row.name}: {row.no_sets}" for row in rows if row.no_sets]
    header = ["sets", "group", "wanted", "reached", f"{noun}s in a set", "proteins"]
    table = [
        [row.name, name, f"{100 * scores.coverage:g} %", f"{100 * scores.reached:.1f} %", f"{scores.mean_size:.1f}"]
        + [f"{scores.proteins:,}"]
        for row in rows
        for name, scores in row.sets.items()
    ]
    return ["", *(aligned([header, *table]) if table else []), *without_sets] if table or without_sets else []

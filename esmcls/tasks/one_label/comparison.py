"""Models side by side on the same test proteins: what each reaches, and whether it is worse than the best by chance.

Everything here is a function of answers: the same answers give the same bytes. Timing stands apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np

from esmcls.labels.hierarchy import ClassTree, Hierarchy
from esmcls.metrics.calibration import auroc, reliability
from esmcls.metrics.classification import (
    Floats,
    Interval,
    Tier,
    binned_accuracy,
    bootstrap_interval,
    equal_bins,
    summary,
)
from esmcls.metrics.open_set import Rate
from esmcls.metrics.paired import Difference, accuracy_differences
from esmcls.metrics.reliability import reliability_in_equal_bins
from esmcls.tasks.comparing import Entrant
from esmcls.tasks.one_label.answers import Answers
from esmcls.tasks.one_label.levels.scores import LevelSets, level_scores, near_misses
from esmcls.tasks.one_label.results import (
    ConformalSets,
    Confusion,
    FoldScores,
    OneLabelRow,
    OpenSet,
    ReliabilityBins,
    Retained,
    Roc,
    Versus,
)
from esmcls.types import Indices

PAIRS: Final = 20
"""Confusions of a row."""
POINTS: Final = 200
"""Of an ROC curve."""
Bins: TypeAlias = tuple[list[str], Indices]
"""Names of bins, and the bin of each protein."""


def compare_answers(
    entrants: Sequence[Entrant[Answers]],
    classes: Sequence[str],
    *,
    coverage: float = 0.95,
    false_acceptance: float = 0.05,
    seed: int = 0,
    hierarchy: Hierarchy | None = None,
) -> list[OneLabelRow]:
    """Return a row for each model, the best accuracy first.

    Parameters
    ----------
    entrants : sequence of Entrant
        All on the same proteins.
    classes : sequence of str
        What the class codes stand for.
    coverage, false_acceptance : float
        What sets and thresholds were made for.
    seed : int
        Of the bootstrap.
    hierarchy : Hierarchy, optional
        Of the classes.

    Raises
    ------
    ValueError
        If two models answered for other proteins.
    """
    truth = entrants[0].answers.truth
    if any(not np.array_equal(entrant.answers.truth, truth) for entrant in entrants):
        raise ValueError("the models answered for other proteins")
    best, *others = sorted(entrants, key=_best_first)
    rights = [entrant.answers.right for entrant in others]
    differences = accuracy_differences(best.answers.right, rights, seed=seed)
    sizes = equal_bins(entrants[0].answers.members)
    tree = None if hierarchy is None else ClassTree.of(hierarchy, classes)
    rows = []
    for entrant, difference in zip([best, *others], [None, *differences], strict=True):
        row = row_of(entrant, classes, coverage, false_acceptance, seed, difference, sizes)
        rows.append(row if tree is None else with_levels(row, entrant.answers, tree, coverage, seed))
    return rows


def with_levels(row: OneLabelRow, answers: Answers, tree: ClassTree, coverage: float, seed: int) -> OneLabelRow:
    """Return a row with what a model reaches at each level of a hierarchy of the classes."""
    first = answers.ranked[:, 0]
    reached: LevelSets | None = None
    if len(answers.levels):
        half, rows = answers.about["tree_held_half"], int(answers.about["calibration_rows"])
        reached = LevelSets.of(coverage, half, rows, tree.hierarchy.levels, (answers.levels, answers.held))
    scores = level_scores(tree, answers.truth, first, seed=seed)
    near = int(near_misses(tree, answers.truth, first).sum())
    return replace(row, levels=scores, near_misses=near, level_sets=reached)


def _best_first(entrant: Entrant[Answers]) -> tuple[float, bool, str]:
    return -float(entrant.answers.right.mean()), entrant.baseline, entrant.name


def row_of(
    entrant: Entrant[Answers],
    classes: Sequence[str],
    coverage: float,
    wanted: float,
    seed: int,
    difference: Difference | None,
    sizes: Bins,
) -> OneLabelRow:
    """Return the numbers of a model; `sizes` are the bins of the proteins by training members of their class."""
    answers = entrant.answers
    scores = summary(answers.truth, answers.ranked, len(classes))
    curve = reliability_in_equal_bins(answers.probability, answers.right)
    return OneLabelRow(
        name=entrant.name,
        head=entrant.head,
        encoder=entrant.encoder,
        baseline=entrant.baseline,
        validation=answers.about["validation"],
        metrics=bootstrap_interval(scores, len(answers.truth), seed=seed),
        folds=[_fold_scores(fold, len(classes)) for fold in entrant.folds],
        tiers=binned_accuracy(answers.right, sizes),
        lengths=by_length(answers),
        calibration_error=reliability(answers.probability, answers.right).expected_error,
        reliability=ReliabilityBins(
            curve.counts.tolist(),
            _known(curve.confidence),
            _known(curve.accuracy),
            _known(curve.low),
            _known(curve.high),
        ),
        retained=retained(answers),
        confusions=confusions(answers, classes),
        open_set=open_set(answers, wanted),
        sets=sets(answers, coverage),
        versus_best=None if difference is None else _versus(difference),
        megabytes=answers.about["megabytes"],
        explanation=answers.about.get("explanation", ""),
    )


def _versus(difference: Difference) -> Versus:
    return Versus(Interval(difference.value, difference.low, difference.high), difference.p, difference.p_holm)


def _fold_scores(fold: Answers, n_classes: int) -> FoldScores:
    scores = summary(fold.truth, fold.ranked, n_classes)(np.ones(len(fold.truth), np.int64))
    return FoldScores(scores["accuracy"], scores["macro_f1"])


def _known(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def by_length(answers: Answers) -> list[Tier]:
    """Return the accuracy by residues of the protein, in bins of about as many proteins."""
    return binned_accuracy(answers.right, equal_bins(answers.lengths))


def retained(answers: Answers) -> Retained:
    """Return the accuracy among the most confident share of the proteins, for shares of 0 to 1."""
    order = np.argsort(-answers.probability, kind="stable")
    right = np.concatenate(([0], np.cumsum(answers.right[order])))
    shares = np.linspace(0, 1, 101)
    answered = np.rint(shares * len(order)).astype(np.int64)
    accuracy = [None if not n else float(right[n] / n) for n in answered.tolist()]
    return Retained([float(share) for share in shares.round(2)], accuracy)


def confusions(answers: Answers, classes: Sequence[str]) -> list[Confusion]:
    """Return the pairs of classes that are confused most, with how often and of how many."""
    wrong = np.flatnonzero(~answers.right)
    named = np.stack((answers.truth[wrong], answers.ranked[wrong, 0]), 1)
    pairs, counts = np.unique(named, axis=0, return_counts=True)
    members = np.bincount(answers.truth, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:PAIRS]
    return [
        Confusion(classes[true], classes[predicted], n, int(members[true]))
        for (true, predicted), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
    ]


def open_set(answers: Answers, wanted: float) -> OpenSet | None:
    """Return what rejection reaches on proteins of families held out; None where there are none."""
    near, far = answers.familiar, answers.unfamiliar
    if not len(near) or not len(far):
        return None
    cuts = np.quantile(np.concatenate((near, far)), np.linspace(1, 0, POINTS - 1), method="nearest")
    false_acceptance, acceptance = ([0.0, *(float((scores >= cut).mean()) for cut in cuts)] for scores in (far, near))
    promised = answers.about.get("told") or {}
    reached, accepted = Rate.of(answers.wrongly, answers.families), Rate.of(answers.accepted, answers.truth)
    return OpenSet(
        score=answers.about.get("score", "familiarity"),
        auroc=auroc(near, far),
        wanted=wanted,
        reached=reached.share,
        accepted=accepted.share,
        known=len(near),
        strangers=len(far),
        roc=Roc(false_acceptance, acceptance),
        reached_low=reached.low,
        reached_high=reached.high,
        accepted_low=accepted.low,
        accepted_high=accepted.high,
        told_reached=promised.get("reached"),
        told_accepted=promised.get("accepted"),
    )


def sets(answers: Answers, coverage: float) -> ConformalSets | None:
    """Return what conformal sets reach; None without calibration rows."""
    if not len(answers.sizes):
        return None
    return ConformalSets(
        coverage=coverage,
        held_half=answers.about["held_half"],
        test=float(answers.covered.mean()),
        mean_size=float(answers.sizes.mean()),
        median_size=float(np.median(answers.sizes)),
        calibration_rows=int(answers.about["calibration_rows"]),
    )

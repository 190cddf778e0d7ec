"""Which members an ensemble has a use for: one without which it does no worse on validation rows is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from esmcls.heads.blocks import TRIFLE, score
from esmcls.heads.ensemble.combining import Method, Slate, cross_validated
from esmcls.heads.ensemble.members import Ranked
from esmcls.labels.labels import Labels

MOST_ROWS = 2000
"""Rows, drawn, that members are left out by: weights are fitted anew for each set of them."""
SLIGHT = 0.02
"""Share of the log loss: of sets with equal macro F1, one whose loss is higher by less is no worse.

A share, for where nearly all validation rows are right the whole loss is less than what is slight elsewhere.
"""
FEW_CANDIDATES = 5
"""Classes a row that each member names for that."""


def worth(reached: dict[str, float], loss: float) -> float:
    """Return what sets of members and methods are chosen by: macro F1, and of equals the log loss."""
    return reached["macro_f1"] - TRIFLE * loss


def needed(
    ranked: Sequence[Ranked], truth: Labels, methods: Sequence[Method], temperature: float | None = None, seed: int = 0
) -> list[int]:
    """Return the places of the members that are needed, ascending.

    They are left out one after another, each time the one without which the others are worth most, as long as that is
    no less than with it. What a set is worth is that of the better method, with weights fitted without each row's fold.

    Parameters
    ----------
    ranked : sequence of Ranked
        What each member says of held rows; its familiarity is from 0 to 1.
    truth : Labels
        Of these rows.
    methods : sequence of {"average", "stack"}
        Those that may be used.
    temperature : float, optional
        Of "average", where it is given.
    seed : int
        Of the rows that are drawn, and of their folds.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(truth))[:MOST_ROWS])
    asked = truth.take(rows)
    said = [answers.take(rows).first(FEW_CANDIDATES) for answers in ranked]

    def reached(places: Sequence[int]) -> tuple[float, float]:
        """Return what a set of members is worth, and its log loss."""
        slate = Slate.of([said[place] for place in places], truth.n_classes)
        trials = (cross_validated(method, slate, asked.codes, temperature, seed) for method in methods)
        return max((worth(score(asked, best), loss), loss) for best, loss in trials)

    places = list(range(len(ranked)))
    best, loss = reached(places)
    while len(places) > 1:
        without = {place: reached([other for other in places if other != place]) for place in places}
        least = max(without, key=without.__getitem__)
        if without[least][0] < best - TRIFLE * SLIGHT * loss:
            break
        best, loss = without[least]
        places.remove(least)
    return places

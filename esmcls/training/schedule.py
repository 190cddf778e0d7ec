"""The plan of a training run, its length and its speed, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingPlan:
    """The length and the speed of a training run.

    Parameters
    ----------
    steps : int
        Optimiser steps in all.
    lr : float
        Peak learning rate; a parameter group's `lr_scale` multiplies it.
    warmup : int
        Steps of linear rise to the peak.
    schedule : {"cosine", "linear", "constant", "plateau"}
        Fall from the peak to `floor` x `lr` over the remaining steps, or each time that validation is no longer better.
    clip : float
        Largest gradient norm; 0 for none.
    validate_every, patience : int
        Steps between validations (0: never); validations without a better score before it stops (0: never).
    checkpoint_every : int
        Steps between checkpoints (0: never).
    plateau, factor : int, float
        Of the plateau schedule: validations without a better score, since the best or since the last fall, before the
        rate is multiplied by `factor` (0: never).
    validate_first : bool
        Validate before the first step, too: the model is left as it began where it never gets better.
    average : float
        Share that each step leaves of the running mean of all weights so far, which is validated and kept in place of
        the last weights (Polyak & Juditsky 1992, doi:10.1137/0330046; here with exponential weights); 0: no mean.
    falls : tuple of int
        Numbers of done steps after which it is multiplied anyway: `History.falls` of a run that was validated.
    """

    steps: int
    lr: float
    warmup: int = 0
    schedule: Literal["cosine", "linear", "constant", "plateau"] = "cosine"
    floor: float = 0.0
    clip: float = 0.0
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 0
    seed: int = 0
    plateau: int = 0
    factor: float = 0.5
    falls: tuple[int, ...] = ()
    validate_first: bool = False
    average: float = 0.0


def learning_rate(plan: TrainingPlan, step: int, falls: Sequence[int] = ()) -> float:
    """Return the learning rate of a step (0-based), after `falls` besides those of the plan.

    Examples
    --------
    >>> plan = TrainingPlan(steps=10, lr=1.0, warmup=2, schedule="linear")
    >>> [round(learning_rate(plan, step), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    if step < plan.warmup:
        return plan.lr * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    share = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant": 1.0,
        "plateau": plan.factor ** sum(fall <= step for fall in (*plan.falls, *falls)),
    }[plan.schedule]
    return plan.lr * (plan.floor + (1 - plan.floor) * share)

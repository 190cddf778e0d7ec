"""Options of what is set aside from training, and of the line between known and strangers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls_cli.options.values import share


def set_aside_options(held_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the shares of what is set aside, and where to draw the line between known and strangers.

    Parameters
    ----------
    held_out : str
        Help of --hold-out-families: what it does with them.
    """
    line = "Reject so that"
    options = [
        click.option("--hold-out-families", type=share, metavar="SHARE", help=held_out),
        click.option(
            "--calibration",
            type=share,
            default=0.0,
            metavar="SHARE",
            help="Keep training sequences, such as 10%, for sets with a stated coverage (predict --coverage).",
        ),
        click.option(
            "--false-acceptance",
            type=share,
            metavar="SHARE",
            help=f"{line} at most this share of strangers, proteins of no known family, is accepted.  [default: 5%]",
        ),
        click.option(
            "--accept-known",
            type=share,
            metavar="SHARE",
            help=f"{line} this share of proteins of known families is accepted, whatever strangers are.",
        ),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shares_of(
    hold_out_families: float | None,
    calibration: float,
    false_acceptance: float | None,
    accept_known: float | None,
    by_default: float | None = None,
) -> Any:
    """Return the `Shares` of `set_aside_options`.

    Parameters
    ----------
    hold_out_families, calibration, false_acceptance, accept_known
        As given.
    by_default : float, optional
        Share of the families that is held out where only a line is given; None where one must be given.

    Raises
    ------
    UsageError
        If both lines are given, or one without families held out.
    """
    from esmcls.datasets.held_out import NOTHING, Shares

    lines = {"--false-acceptance": false_acceptance, "--accept-known": accept_known}
    given = [option for option, value in lines.items() if value is not None]
    if len(given) > 1:
        raise UsageError("--false-acceptance and --accept-known are two ways to draw one line; give one of them")
    if given and not hold_out_families:
        if by_default is None or hold_out_families is not None:
            raise UsageError(f"{given[0]} needs strangers to draw the line by; give --hold-out-families 10%, too")
        hold_out_families = by_default
    strangers = NOTHING.false_acceptance if false_acceptance is None else false_acceptance
    folds = 0 if by_default is None else NOTHING.folds
    return Shares(hold_out_families or 0.0, calibration, strangers, accept_known, folds)

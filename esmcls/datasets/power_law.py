"""A power law fitted to sizes: the discrete maximum-likelihood estimate, and the smallest size that it holds from.

Source: Clauset, Shalizi and Newman 2009, SIAM Review 51:661, doi:10.1137/070710111, sections 3.1 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from esmcls.types import Floats, Indices

LEAST_FAMILIES: Final = 50
"""Families that an estimate needs: the paper's rule of thumb for reliable ones."""
STEEPEST: Final = 20.0
"""Sizes that would need a larger exponent are all but equal, and no power law."""
_FLATTEST: Final = 1.001  # at 1 the distribution has no sum
_STEP: Final = 1e-3  # of the second derivative


@dataclass(frozen=True)
class PowerLaw:
    """Sizes x from `x_min` up, of probability proportional to x ** -exponent.

    Parameters
    ----------
    exponent, error : float
        The estimate and its standard error.
    x_min : int
        The smallest size that the law is fitted to.
    families : int
        Those of that size and larger ones.
    distance : float
        Kolmogorov-Smirnov: the largest difference between the shares of families up to a size, as found and as fitted.
    """

    exponent: float
    error: float
    x_min: int
    families: int
    distance: float

    def texts(self) -> tuple[str, str, str]:
        """Return exponent, range and distance for a table."""
        value = f"{self.exponent:.2f} ± {self.error:.2f}"
        return value, f"{self.x_min:,} ({self.families:,} families)", f"{self.distance:.3f}"

    def ranks(self, sizes: Indices) -> Floats:
        """Return how many families are to be expected of each of these sizes and larger ones; sizes from x_min up."""
        from scipy.special import zeta

        expected: Floats = self.families * zeta(self.exponent, sizes) / zeta(self.exponent, self.x_min)
        return expected


def fit_power_law(sizes: Indices, x_min: int | None = None) -> PowerLaw | None:
    """Fit a power law to sizes: the exponent by maximum likelihood, x_min where the law is nearest to what was found.

    Parameters
    ----------
    sizes : int array, (families,)
        In any order, from 1 up.
    x_min : int, optional
        Fit to sizes from this one up, instead of from the one with the smallest Kolmogorov-Smirnov distance
        (section 3.3).

    Returns
    -------
    PowerLaw or None
        None where fewer than `LEAST_FAMILIES` families are left, or these are all but equal in size.

    Examples
    --------
    >>> each = np.arange(1, 1000)
    >>> sizes = np.repeat(each, (1e6 / each**2).astype(int))
    >>> round(fit_power_law(sizes, x_min=1).exponent, 1)
    2.0
    >>> fit_power_law(np.full(100, 7)) is None
    True
    """
    values, counts = np.unique(sizes, return_counts=True)
    if x_min is not None:
        tail = values >= x_min
        return _fit(values[tail], counts[tail], x_min)
    fits = [_fit(values[start:], counts[start:], int(first)) for start, first in enumerate(values)]
    return min((fit for fit in fits if fit is not None), key=lambda fit: fit.distance, default=None)


def _fit(values: Indices, counts: Indices, x_min: int) -> PowerLaw | None:
    """Fit to distinct sizes, (n,), each so often, (n,), none below x_min."""
    from scipy.optimize import minimize_scalar

    families = int(counts.sum())
    if families < LEAST_FAMILIES or len(values) < 2:
        return None
    mean_log = float(counts @ np.log(values)) / families
    # the log-likelihood a family, with the sign turned: convex in the exponent
    best = minimize_scalar(
        lambda a: _log_zeta(a, x_min) + a * mean_log,
        bounds=(_FLATTEST, STEEPEST),
        method="bounded",
        options={"xatol": 1e-7},
    )
    exponent = float(best.x)
    if exponent > STEEPEST - 0.01:
        return None
    curvature = _log_zeta(exponent + _STEP, x_min) - 2 * _log_zeta(exponent, x_min) + _log_zeta(exponent - _STEP, x_min)
    error = _STEP / float(np.sqrt(families * curvature))
    return PowerLaw(exponent, error, x_min, families, _distance(values, counts, x_min, exponent))


def _log_zeta(exponent: float, start: int) -> float:
    from scipy.special import zeta

    return float(np.log(zeta(exponent, start)))


def _distance(values: Indices, counts: Indices, x_min: int, exponent: float) -> float:
    """Return the Kolmogorov-Smirnov distance, over all whole numbers and not those found alone."""
    from scipy.special import zeta

    actual = np.cumsum(counts) / counts.sum()
    at = 1 - zeta(exponent, values + 1) / zeta(exponent, x_min)
    before = 1 - zeta(exponent, values) / zeta(exponent, x_min)  # of the number below each
    return float(max(np.abs(actual - at).max(), np.abs(actual[:-1] - before[1:]).max(), before[0]))

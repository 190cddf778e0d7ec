"""What is kept beside a head for numbers: its answers on validation rows, and how far off it is on calibration rows.

held.safetensors         numbers of validation rows, true and predicted; where there are any
conformal.safetensors    distances of predictions from the truth on calibration rows; where any were set aside
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.files import refuse_what_is_no_file
from esmcls.heads.base import NumberHead
from esmcls.labels.numbers import Numbers
from esmcls.metrics.regression import half_width
from esmcls.types import Floats

HELD: Final = "held.safetensors"
CONFORMAL: Final = "conformal.safetensors"
SHOWN: Final = 0.9
"""Coverage of the intervals that are told of after a fit."""


@dataclass(frozen=True, eq=False)
class HeldNumbers:
    """Numbers of validation rows, from a head that was not fitted on them.

    Parameters
    ----------
    truth, predicted : float64 arrays, (n,)
    digest : str
        Of the rows' sequences in their order: two heads were asked of the same rows where these are equal.
    """

    truth: Floats
    predicted: Floats
    digest: str

    @classmethod
    def of(cls, head: NumberHead, x: Features, labels: Numbers) -> HeldNumbers:
        """Ask a head for the numbers of rows."""
        digest = hashlib.sha256("\n".join(x.sequences).encode()).hexdigest()
        return cls(labels.values, head.predict(x), digest)


@dataclass(frozen=True, eq=False)
class NumberFindings:
    """What rows that a head was not fitted on tell of it.

    Parameters
    ----------
    held : HeldNumbers or None
        None where there were no validation rows.
    errors : float64 array, (n,)
        Distances from the truth on calibration rows, ascending; empty where none were set aside.
    """

    held: HeldNumbers | None = None
    errors: Floats = field(default_factory=lambda: np.zeros(0))

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> NumberFindings:
        """Return the same: there are no classes."""
        return self

    def measured(self, head: NumberHead, x: Features, labels: Numbers) -> NumberFindings:
        """Return the same with how far off a head is on calibration rows."""
        return replace(self, errors=np.sort(np.abs(head.predict(x) - labels.values)))

    def enough_for(self, coverage: float) -> bool:
        """Return whether calibration rows are enough for intervals of a coverage."""
        return len(self.errors) >= coverage / (1 - coverage) - 1e-9

    def half_width(self, coverage: float) -> float:
        """Return how far an interval of a coverage reaches to both sides; UsageError where there are too few rows."""
        return half_width(self.errors, coverage)

    def held_half(self, coverage: float) -> float | None:
        """Return how many calibration rows lie in intervals made of the other half; None where these are too few."""
        dealt = np.random.default_rng(0).permutation(self.errors)
        half = len(dealt) // 2
        if half < coverage / (1 - coverage):
            return None
        return float((dealt[half:] <= half_width(dealt[:half], coverage)).mean())

    def save(self, folder: Path) -> None:
        """Write the files of what there is."""
        if self.held is not None:
            arrays = {"truth": self.held.truth, "predicted": self.held.predicted}
            save_file(arrays, folder / HELD, {"digest": self.held.digest})
        if len(self.errors):
            save_file({"errors": self.errors}, folder / CONFORMAL)

    @classmethod
    def load(cls, folder: Path) -> NumberFindings:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If a file is damaged.
        """
        held, errors = None, np.zeros(0)
        if (folder / HELD).is_file():
            arrays, about = _read(folder / HELD, ("truth", "predicted"))
            held = HeldNumbers(**arrays, digest=about.get("digest", ""))
        if (folder / CONFORMAL).is_file():
            errors = _read(folder / CONFORMAL, ("errors",))[0]["errors"]
        return cls(held, errors)

    def lines(self) -> list[str]:
        """Say how wide intervals are, and what they hold."""
        reached = self.held_half(SHOWN) if len(self.errors) else None
        if reached is None:
            return []
        width = f"± {half_width(self.errors, SHOWN):.4g}"
        shown = f"{len(self.errors):,} calibration rows: intervals of {100 * SHOWN:g} % reach {width}"
        return [f"{shown}; those made of half of them hold {100 * reached:.1f} % of the rest"]


def _read(path: Path, names: Sequence[str]) -> tuple[dict[str, Floats], Mapping[str, Any]]:
    """Return float64 arrays of one length, all finite, and the metadata of a file."""
    fix = "copy the model folder anew, or fit again"
    try:
        refuse_what_is_no_file(path)
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in names}
            about = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(path, f"cannot be read ({str(error)[:160]})", fix) from None
    shapes = {(array.dtype, array.ndim, len(array)) for array in arrays.values() if array.ndim}
    sound = len(shapes) == 1 and {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}
    if not sound or not all(array.ndim == 1 and np.isfinite(array).all() for array in arrays.values()):
        raise ModelError(path, "is damaged (its arrays do not fit one another)", fix)
    return arrays, about

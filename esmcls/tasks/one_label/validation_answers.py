"""What a head said of validation rows before it was fitted on them, if it ever was: ensembles choose weights on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

CANDIDATES: Final = 20
"""Classes a row that are kept."""
_ARRAYS: Final = ("codes", "probabilities", "familiarity", "truth")


class Ranks(Protocol):
    """A fitted head, as far as it is needed here."""

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]: ...
    def familiarity(self, x: Features) -> npt.NDArray[np.float64]: ...


@dataclass(frozen=True, eq=False)
class Held:
    """The likeliest classes of validation rows, from a head that was not fitted on them.

    Parameters
    ----------
    codes : int64 array, (n, k)
        Class codes, the likeliest first.
    probabilities : float32 array, (n, k)
    familiarity : float64 array, (n,)
    truth : int64 array, (n,)
        Code of each row's class; -1 where the head does not know it.
    digest : str
        Of the rows' sequences in their order: two heads were asked of the same rows where these are equal.
    """

    codes: Indices
    probabilities: Probabilities
    familiarity: npt.NDArray[np.float64]
    truth: Indices
    digest: str

    @classmethod
    def of(cls, head: Ranks, x: Features, labels: Labels) -> Held:
        """Ask a head for the classes of rows."""
        codes, probabilities = head.top_k(x, CANDIDATES)
        digest = hashlib.sha256("\n".join(x.sequences).encode()).hexdigest()
        return cls(codes, probabilities, head.familiarity(x), labels.codes, digest)

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> Held:
        """Return the same with the codes of a tuple of classes that holds all of the former one."""
        place = {name: code for code, name in enumerate(after)}
        moved = np.array([*(place[name] for name in before), -1], dtype=np.int64)
        return Held(moved[self.codes], self.probabilities, self.familiarity, moved[self.truth], self.digest)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({name: getattr(self, name) for name in _ARRAYS}, path, {"digest": self.digest})

    @classmethod
    def load(cls, path: Path) -> Held:
        """Read what `save` wrote."""
        with safe_open(path, "numpy") as file:
            return cls(**{name: file.get_tensor(name) for name in _ARRAYS}, digest=file.metadata()["digest"])

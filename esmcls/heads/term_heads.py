"""Heads for many labels a protein, Gene Ontology terms: the same protocol as `esmcls.heads`, on `LabelSets`.

They are registered under the entry point group `esmcls.term_heads`, by the names of their kin for one label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from typing_extensions import Self

from esmcls.cache.features import Features
from esmcls.heads.registry import Log
from esmcls.labels.labels import LabelSets
from esmcls.types import Indices, Probabilities

GROUP: Final = "esmcls.term_heads"


class TermHead(Protocol):
    """A classifier of proteins into any number of classes each; what it promises is what `esmcls.heads.Head` does.

    Labels come propagated, probabilities need not be: whoever asks raises those of parents. `scores` holds `fmax`, the
    mean over groups of classes (aspects) of Fmax on the rows that the choices were made on.
    """

    Config: ClassVar[type]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    config: Any
    chosen: Any
    scores: dict[str, float]

    def __init__(self, config: Any = None, device: str = "cpu") -> None: ...

    def fit(
        self,
        x: Features,
        labels: LabelSets,
        validation: tuple[Features, LabelSets] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit on the rows of `x`; the same seed gives the same bits."""
        ...

    def refit(self, x: Features, labels: LabelSets, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what an earlier `fit` chose; nothing is chosen, `scores` stay what they were."""
        ...

    def predict_proba(self, x: Features) -> Probabilities:
        """Return the probability of each class, float32 (n, classes), each for itself."""
        ...

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k most probable class codes a row and their probabilities, both (n, k), in blocks of rows."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs besides config, classes and groups into an existing folder; no pickle."""
        ...

    @classmethod
    def load(
        cls, folder: Path, config: Any, classes: tuple[str, ...], groups: tuple[str, ...], device: str = "cpu"
    ) -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...

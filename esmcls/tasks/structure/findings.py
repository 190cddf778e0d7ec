"""What chains that a head was not fitted on tell of a head for structures: nothing that is kept beside its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StructureFindings:
    """Nothing: a model of structures is its head and its scores."""

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> StructureFindings:
        """Return the same."""
        return self

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def lines(self) -> list[str]:
        """Return nothing."""
        return []

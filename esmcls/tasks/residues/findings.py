"""What rows that a head was not fitted on tell of a head for residues: nothing that is kept beside its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResidueFindings:
    """Nothing: a model of residues is its head and its scores."""

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> ResidueFindings:
        """Return the same."""
        return self

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def lines(self) -> list[str]:
        """Return nothing."""
        return []

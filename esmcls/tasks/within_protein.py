"""What tasks share whose labels lie within a protein, on its residues or between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import Shares
from esmcls.errors import UsageError
from esmcls.heads.base import Log
from esmcls.labels.label_checks import misfit
from esmcls.tasks.comparing import A
from esmcls.tasks.fitted import Combined, Fitted, GetFeatures, H, L, NoFindings
from esmcls.tasks.task import OF_TERMS, Task, without_families


def unavailable_within(sentence: str) -> dict[str, str]:
    """Return `Task.unavailable` of these kinds: what their sentence is enough of a reason for, and what they share."""
    bare = ("--aspect", "--at-least", "--format cafa", "--ia", *OF_TERMS)
    return {
        **without_families(sentence, "a protein has no family"),
        **dict.fromkeys(bare, sentence),
        "--layers auto": f"{sentence}: name the layers, and compare caches with --encoders",
    }


class WithinProteinTask(Task[H, L, NoFindings, A]):
    """A kind of task whose labels lie within a protein: a model is a head and its scores; see `Task`."""

    combines: ClassVar[bool] = False
    not_combined: ClassVar[str]
    """Why its models cannot be one."""

    def fault_of_label(self, label: str, sequence: str) -> str:
        """Return why a label does not fit the residues of its sequence."""
        return misfit(label, sequence, self.kind)

    def identity(self) -> list[Any]:
        """Return the kind: the data set says all else."""
        return [self.kind]

    def setup(self, shares: Shares) -> dict[str, Any]:
        """Return nothing: there are no shares."""
        return {}

    def unvalidated(self, classes: Sequence[str]) -> NoFindings:
        """Return findings without anything."""
        return NoFindings()

    def read_findings(self, folder: Path, classes: Sequence[str]) -> NoFindings:
        """Return findings without anything."""
        return NoFindings()

    def combine(
        self,
        models: Sequence[Fitted[H, NoFindings]],
        validation: Dataset,
        features: GetFeatures,
        settings: Mapping[str, Any],
        *,
        device: str = "cpu",
        log: Log | None = None,
    ) -> Combined[H, NoFindings]:
        """Refuse.

        Raises
        ------
        UsageError
            Always, with `not_combined`.
        """
        raise UsageError(self.not_combined)

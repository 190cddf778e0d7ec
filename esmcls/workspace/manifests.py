"""What a workspace reads of the manifests of its models: which is the best of those that compare, and whose encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmcls.errors import ModelError
from esmcls.files import MANIFEST
from esmcls.plain_values import from_plain, read_json
from esmcls.workspace.state_file import first_names

BASELINE: Final = "baseline"
"""In the setup of a manifest: that the model is there only to be beaten."""
_CHOSEN_BY: Final = ("fmax", "macro_f1", "spearman")
"""Scores by which the best model is chosen; each kind of task has one of them."""


@dataclass(frozen=True)
class _ScoredModel:
    """What of a manifest tells how good a model is."""

    validation: dict[str, float | None] | None = None
    setup: dict[str, Any] | None = None
    classes: list[str] | None = None
    split_digest: str | None = None


class ModelChoice(NamedTuple):
    """Which of a workspace's models is the best, and among which.

    Parameters
    ----------
    best : Path
        Its folder.
    score : float or None
        On validation rows: macro F1, of terms the mean Fmax, of numbers Spearman; None where it has none.
    others : tuple of str
        Models of the same classes that were validated on the same rows.
    apart : tuple of str
        Models of other classes or validation rows, whose scores mean another thing, and baselines.
    """

    best: Path
    score: float | None
    others: tuple[str, ...]
    apart: tuple[str, ...]

    def __str__(self) -> str:
        if not self.others and not self.apart:
            return f"model {self.best.name}, the only one here"
        score = "" if self.score is None else f" ({self.score:.4f})"
        among = f"the best of {len(self.others) + 1} on validation{score}" if self.others else "alone of its kind here"
        apart = (
            f"; not compared, since of other classes or validation rows: {first_names(self.apart)}"
            if self.apart
            else ""
        )
        return f"model {self.best.name}, {among}{apart}; another: --model NAME"


class _Candidate(NamedTuple):
    """What of a manifest tells whether its scores can be compared with another's."""

    folder: Path
    score: float | None
    baseline: bool
    classes: int
    rows: float
    measured_on: tuple[object, ...]

    @property
    def rank(self) -> tuple[bool, bool, int, float]:
        """What decides between groups of models."""
        return not self.baseline, self.score is not None, self.classes, self.rows

    @classmethod
    def read(cls, folder: Path) -> _Candidate:
        path = folder / MANIFEST
        try:
            manifest = from_plain(_ScoredModel, read_json(path))
        except (OSError, ValueError) as error:
            raise ModelError(path, f"cannot be read ({error})", "fit this model again, or delete its folder") from error
        scores = manifest.validation or {}
        score = next((scores[name] for name in _CHOSEN_BY if name in scores), None)
        baseline = bool((manifest.setup or {}).get(BASELINE))
        classes = tuple(manifest.classes or ())
        rows = scores.get("n") or 0.0
        measured_on = (baseline, score is not None, classes, rows, manifest.split_digest)
        return cls(folder, score, baseline, len(classes), rows, measured_on)


def choose(folders: Sequence[Path]) -> ModelChoice:
    """Return the best of the models in folders, of which there is one at least; see `Workspace.choose_model`.

    Raises
    ------
    ModelError
        If a manifest cannot be read.
    """
    candidates = [_Candidate.read(folder) for folder in folders]
    groups: dict[tuple[object, ...], list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.measured_on, []).append(candidate)
    group = max(groups.values(), key=lambda models: (*models[0].rank, len(models)))
    best = max(group, key=lambda candidate: float("-inf") if candidate.score is None else candidate.score)
    others = tuple(candidate.folder.name for candidate in group if candidate is not best)
    apart = tuple(candidate.folder.name for candidate in candidates if candidate not in group)
    return ModelChoice(best.folder, best.score, others, apart)


@dataclass(frozen=True)
class _KnownSpec:
    digest: str


@dataclass(frozen=True)
class _TunedModel:
    """What of a manifest tells a tuned encoder."""

    spec: _KnownSpec


def encoder_digest(manifest: Path) -> str:
    """Return the digest of the encoder that a model's vectors are of.

    Raises
    ------
    ModelError
        If the manifest cannot be read.
    """
    try:
        return from_plain(_TunedModel, read_json(manifest)).spec.digest
    except (OSError, ValueError) as error:
        raise ModelError(manifest, f"cannot be read ({error})", "fit this model again, or delete its folder") from error

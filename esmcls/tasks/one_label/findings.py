"""What is kept beside a head for one label: its answers on validation rows, and how far it can be trusted.

confidence.json          calibration and rejection; where something was set aside for them
held.safetensors         answers on validation rows; where there are any
strangers.safetensors    answers on families held out in folds, and on known ones beside; where there are any
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import FOLDS, SetAside, Shares, StrangerFold
from esmcls.errors import ModelError
from esmcls.heads.base import Head
from esmcls.labels.hierarchy import Hierarchy
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc
from esmcls.metrics.open_set import Rate
from esmcls.plain_values import read_as, write_json
from esmcls.tasks.fitted import GetFeatures
from esmcls.tasks.one_label.confidence import Confidence, Rejection, reject, tree_scores, true_probabilities
from esmcls.tasks.one_label.validation_answers import FoldAnswers, Held

CONFIDENCE: Final = "confidence.json"
HELD: Final = "held.safetensors"
STRANGERS: Final = "strangers.safetensors"


@dataclass(frozen=True)
class LabelFindings:
    """What rows that a head was not fitted on tell of it.

    Parameters
    ----------
    held : Held or None
        Its answers on validation rows; None where there were none, or by an older esmcls.
    confidence : Confidence or None
        None where nothing was set aside.
    folds : FoldAnswers or None
        Answers of heads that were fitted without a fold of the families; None where none were held out in folds.
    known : Held or None
        Answers on validation rows that are not kept, but tell what a known protein looks like; by default `held`.
    """

    held: Held | None = None
    confidence: Confidence | None = None
    folds: FoldAnswers | None = field(default=None, repr=False, compare=False)
    known: Held | None = field(default=None, repr=False, compare=False)

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> LabelFindings:
        """Return the same for classes that hold all of the former ones."""
        held = None if self.held is None else self.held.recoded(before, after)
        folds = None if self.folds is None else self.folds.recoded(before, after)
        return self if held is None and folds is None else replace(self, held=held, folds=folds)

    def asked(
        self,
        classes: Sequence[str],
        folds: Sequence[StrangerFold],
        fit: Callable[[Dataset], Head],
        features: GetFeatures,
    ) -> LabelFindings:
        """Return the same with what heads, each fitted without a fold of the families, say of strangers and known."""
        places = {name: code for code, name in enumerate(classes)}
        parts = list[FoldAnswers]()
        for number, fold in enumerate(folds):
            head = fit(fold.train)
            for rows, strange in ((fold.known, False), (fold.strangers, True)):
                if len(rows):
                    parts.append(FoldAnswers.of(head, features(rows), rows, number, strange, places))
        return replace(self, folds=FoldAnswers.joined(parts))

    def measured(
        self,
        head: Head,
        apart: SetAside,
        shares: Shares,
        features: GetFeatures,
        hierarchy: Hierarchy | None = None,
    ) -> LabelFindings:
        """Return the same with what calibration rows and families held out tell of a head."""
        rejection = self._rejection(head, apart, shares, features) if shares.families else None
        rows = apart.calibration
        if not len(rows) and rejection is None:
            return self
        x = features(rows)
        probabilities = true_probabilities(head, x, Labels.from_names(rows.labels, head.classes))
        confidence = Confidence(tuple(probabilities.tolist()), rejection)
        if hierarchy is not None and len(rows):
            scores = tree_scores(head, x, rows.labels, hierarchy)
            confidence = replace(confidence, tree_scores=tuple(scores.tolist()), hierarchy=hierarchy.digest())
        return replace(self, confidence=confidence)

    def _rejection(self, head: Head, apart: SetAside, shares: Shares, features: GetFeatures) -> Rejection | None:
        """Return the threshold that families held out set, or None where a member of an ensemble lacks them."""
        if shares.folds:
            rows = self.folds
            return None if rows is None else reject(rows, shares, len(np.unique(rows.families[rows.strangers])))
        families = len({*apart.strangers.labels, *apart.checks.labels})
        rejection = reject(self._taken_away(head, apart.strangers, features), shares, families)
        if not len(apart.checks):
            return rejection
        checks = FoldAnswers.of(head, features(apart.checks), apart.checks, 0, True, {})
        far = rejection.scores(checks.probabilities, checks.familiarity)
        rate = Rate.of(far > rejection.threshold, checks.families)
        known = self.held or self.known
        if known is None:
            return replace(rejection, strangers=rate, auroc=None)
        near = rejection.scores(known.probabilities, known.familiarity)[known.truth >= 0]
        return replace(rejection, strangers=rate, auroc=auroc(near, far) if len(near) else None)

    def _taken_away(self, head: Head, strangers: Dataset, features: GetFeatures) -> FoldAnswers:
        """Return answers on families that were taken away, in folds by family, and on validation rows beside."""
        asked = FoldAnswers.of(head, features(strangers), strangers, 0, True, {})
        parts = [replace(asked, folds=asked.families % FOLDS)]
        if (known := self.held or self.known) is not None:
            parts.append(known.in_folds(FOLDS))
        return FoldAnswers.joined(parts)

    def save(self, folder: Path) -> None:
        """Write the files of what there is."""
        if self.confidence is not None:
            write_json(folder / CONFIDENCE, self.confidence.to_json())
        if self.held is not None:
            self.held.save(folder / HELD)
        if self.folds is not None:
            self.folds.save(folder / STRANGERS)

    @classmethod
    def load(cls, folder: Path) -> LabelFindings:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If a file is damaged.
        """
        path = folder / CONFIDENCE
        try:
            flat = read_as(path, dict[str, Any], ModelError, "fit again") if path.is_file() else None
            confidence = None if flat is None else Confidence.from_json(flat)
        except ValueError as error:
            raise ModelError(path, f"is damaged ({error})", "fit again") from None
        held = Held.load(folder / HELD) if (folder / HELD).is_file() else None
        folds = FoldAnswers.load(folder / STRANGERS) if (folder / STRANGERS).is_file() else None
        return cls(held, confidence, folds)

    def lines(self) -> list[str]:
        """Say what was measured on what was set aside, one line each."""
        confidence = self.confidence or Confidence()
        lines = list[str]()
        if len(confidence.true_probabilities) > 1:
            n, half = len(confidence.true_probabilities), confidence.held_half(0.95)
            lines.append(f"{n:,} calibration rows; sets of 95 % from half of them hold {100 * half:.1f} % of the rest")
        if len(confidence.tree_scores) > 1:
            half = confidence.tree_held_half(0.95)
            lines.append(f"answers at a level, of 95 % from half of these rows, hold {100 * half:.1f} % of the rest")
        return lines if confidence.rejection is None else lines + confidence.rejection.lines()

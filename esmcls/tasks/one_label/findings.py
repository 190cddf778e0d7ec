"""What is kept beside a head for one label: its answers on validation rows, and how far it can be trusted.

confidence.json      calibration and rejection; where something was set aside for them
held.safetensors     answers on validation rows; where there are any
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from esmcls.datasets.held_out import SetAside, Shares
from esmcls.errors import ModelError
from esmcls.files import read_json, write_json
from esmcls.heads.base import Head
from esmcls.labels.labels import Labels
from esmcls.tasks.one_label.confidence import Confidence, Floats, Score, log_probability, reject, true_probabilities
from esmcls.tasks.one_label.validation_answers import Held
from esmcls.tasks.task import GetFeatures

CONFIDENCE: Final = "confidence.json"
HELD: Final = "held.safetensors"


@dataclass(frozen=True)
class LabelFindings:
    """What rows that a head was not fitted on tell of it.

    Parameters
    ----------
    held : Held or None
        Its answers on validation rows; None where there were none, or by an older esmcls.
    confidence : Confidence or None
        None where nothing was set aside.
    known_scores : mapping
        Scores of proteins of known families, (n,) each, as `confidence.reject` takes them; by default of `held`.
    """

    held: Held | None = None
    confidence: Confidence | None = None
    known_scores: Mapping[Score, Floats] | None = field(default=None, repr=False, compare=False)

    def recoded(self, before: Sequence[str], after: Sequence[str]) -> LabelFindings:
        """Return the same for classes that hold all of the former ones."""
        return self if self.held is None else replace(self, held=self.held.recoded(before, after))

    def measured(self, head: Head, apart: SetAside, shares: Shares, features: GetFeatures) -> LabelFindings:
        """Return the same with what calibration rows and families held out tell of a head."""
        rejection, rows = None, apart.calibration
        if shares.families:
            strangers, checks = features(apart.strangers), features(apart.checks)
            rejection = reject(head, self._known_scores(), strangers, checks, shares.false_acceptance)
        if not len(rows) and rejection is None:
            return self
        probabilities = true_probabilities(head, features(rows), Labels.from_names(rows.labels, head.classes))
        return replace(self, confidence=Confidence(tuple(probabilities.tolist()), rejection))

    def _known_scores(self) -> Mapping[Score, Floats]:
        if self.known_scores is not None:
            return self.known_scores
        if self.held is None:
            return {}
        likeliest = self.held.probabilities[:, 0]
        return {"familiarity": self.held.familiarity, "probability": log_probability(likeliest)}

    def save(self, folder: Path) -> None:
        """Write the files of what there is."""
        if self.confidence is not None:
            write_json(folder / CONFIDENCE, self.confidence.to_json())
        if self.held is not None:
            self.held.save(folder / HELD)

    @classmethod
    def load(cls, folder: Path) -> LabelFindings:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If confidence.json is damaged.
        """
        path = folder / CONFIDENCE
        try:
            confidence = Confidence.from_json(read_json(path)) if path.is_file() else None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(path, f"is damaged ({type(error).__name__}: {error})", "fit again") from None
        held = Held.load(folder / HELD) if (folder / HELD).is_file() else None
        return cls(held, confidence)

    def lines(self) -> list[str]:
        """Say what was measured on what was set aside, one line each."""
        confidence = self.confidence or Confidence()
        lines = []
        if len(confidence.true_probabilities) > 1:
            n, half = len(confidence.true_probabilities), confidence.held_half(0.95)
            lines.append(f"{n:,} calibration rows; sets of 95 % from half of them hold {100 * half:.1f} % of the rest")
        if (rejection := confidence.rejection) is not None:
            accepted = f"{100 * rejection.wanted:g} % may be accepted"
            lines.append(f"{rejection.strangers:,} proteins of unknown families: {accepted}")
            if rejection.reached is not None:
                area = "" if rejection.auroc is None else f", AUROC {rejection.auroc:.3f}"
                lines.append(f"{rejection.checks:,} of others: {100 * rejection.reached:.1f} % are accepted{area}")
        return lines

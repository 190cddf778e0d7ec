"""What an answer is worth, in words that a reader who never heard of calibration takes rightly."""

from __future__ import annotations

from esmcls.labels.hierarchy import NONE
from esmcls.tasks.one_label.prediction import REJECTED, Prediction

NONE_OF_THESE = "none of these"
LIKELY, POSSIBLE, DOUBTFUL = "likely", "possible", "doubtful"
_WORDS = {"high": LIKELY, "medium": POSSIBLE, "low": DOUBTFUL}
MEANING = {
    LIKELY: "the class has a probability of .9 at least",
    POSSIBLE: "a probability between .5 and .9",
    DOUBTFUL: "less than .5: another class may be as likely",
    "known … only": "the class itself is open; what is named above it is sure enough",
    NONE_OF_THESE: "taken for a protein of no class that the model knows",
}
"""What stands under the table."""


def verdict(row: Prediction, levels: tuple[str, ...] = ()) -> str:
    """Put the answer to a protein into words.

    Parameters
    ----------
    row : Prediction
        Of rank 1.
    levels : tuple of str
        Of the hierarchy of the model's classes, the broadest first; none if it has none.

    Examples
    --------
    >>> verdict(Prediction("a", 1, "kinase", 0.97, confidence="high"))
    'likely'
    >>> verdict(Prediction("a", 1, "3.40.50.300", 0.4, level="fold", answer="3.40.50"), ("fold", "superfamily"))
    'known fold only: 3.40.50'
    >>> verdict(Prediction("a", 1, "kinase", 0.97, status="rejected"))
    'none of these'
    """
    if row.label is None:
        return (row.status or "no answer").replace("_", " ")
    if row.status == REJECTED or row.level == NONE:
        return NONE_OF_THESE
    if levels and row.level is not None and row.level != levels[-1]:
        return f"known {row.level} only: {row.answer}"
    return _WORDS.get(row.confidence or "", DOUBTFUL)

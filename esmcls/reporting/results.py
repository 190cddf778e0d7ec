"""The numbers of a comparison as report.json and timing.json hold them; a kind of task adds what it measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from typing_extensions import Self

from esmcls.plain_values import from_plain


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model of a comparison.

    Parameters
    ----------
    name, head, encoder : str
    baseline : bool
        Whether it is there only to be beaten.
    validation : dict of str to float or None
        Scores on the validation part, where there are any.
    megabytes : float
        On disk, without its encoder.
    explanation : str
        What it says of the way in which it was fitted, such as which members an ensemble left out.
    """

    name: str
    head: str
    encoder: str
    baseline: bool
    validation: dict[str, float] | None
    megabytes: float
    explanation: str = ""


@dataclass(frozen=True)
class NotRun:
    """A model that was to be compared and could not be."""

    name: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """What a paper says of a report besides its numbers.

    Parameters
    ----------
    data : str
        Names of the files of the data set; empty where they are not known.
    date : str
        As its user gave it, or that of the data set's files; empty where neither is known. It is never today's.
    split : str
        How train, validation and test came about.
    versions : dict of str to str
        Name of what was used -> its version.
    """

    data: str
    date: str
    split: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Closeness:
    """The test proteins that are so near to their nearest training protein, and how well each model does on them.

    Parameters
    ----------
    name : str
        What they are: a range of identities, or of cosines.
    n : int
    scores : dict of str to float or None
        Name of a model -> its accuracy, or of terms its mean Fmax; None without proteins.
    """

    name: str
    n: int
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Leakage:
    """How near test proteins are to those trained on; `measured_by` says by which measure, in a sentence."""

    measured_by: str
    bins: list[Closeness]


@dataclass(frozen=True)
class Machine:
    """The processor, and how many of its cores could be used."""

    processor: str
    cores: int


@dataclass(frozen=True, kw_only=True)
class ComparedData:
    """The data set of a comparison: proteins of each part, what the split is known by, and the seed."""

    records: dict[str, int]
    split_digest: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """Which heads stood on which encoders, the knobs that were set, by head, and the folds, 0 without any."""

    heads: list[str]
    encoders: list[str]
    knobs: dict[str, dict[str, Any]]
    folds: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """A comparison: what report.json holds.

    Parameters
    ----------
    dataset : ComparedData
    settings : ComparisonSettings
    best : str
        The model that is best where all are measured: on the test part, or in the folds.
    chosen : str or None
        The one that validation would choose.
    rows : sequence of ModelRow
        The best first.
    not_run : list of NotRun
    format : int
    origin : Origin or None
        None in reports of an older esmcls.
    leakage : Leakage or None
        None there, or where there is nothing to measure it on.
    """

    dataset: ComparedData
    settings: ComparisonSettings
    best: str
    chosen: str | None
    rows: Sequence[ModelRow]
    not_run: list[NotRun]
    format: int = 1
    origin: Origin | None = None
    leakage: Leakage | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the comparison that `to_json` gave the values of."""
        return from_plain(cls, values)


ReportT = TypeVar("ReportT", bound=Report)
RowT = TypeVar("RowT", bound=ModelRow)


@dataclass(frozen=True)
class Cost:
    """Seconds that a model took to fit, and proteins a second in prediction; None where that is not known."""

    name: str
    fit_seconds: float | None
    proteins_per_second: float | None


@dataclass(frozen=True)
class Timing:
    """All that differs between two runs of a comparison, and where it ran: what timing.json holds."""

    rows: list[Cost]
    format: int = 1
    machine: Machine | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the timing that `to_json` gave the values of."""
        return from_plain(cls, values)


def timed(rows: Sequence[RowT], timing: Timing) -> list[tuple[RowT, Cost]]:
    """Return rows with what was timed of them, which may stand in another order."""
    costs = {cost.name: cost for cost in timing.rows}
    return [(row, costs[row.name]) for row in rows]

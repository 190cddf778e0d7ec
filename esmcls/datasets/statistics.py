"""Statistics of a set of sequences: how many, how long, and how unequal the families are in size.

records ──▶ Census: 16 bytes of key, length, family and part of each, in flat arrays ──▶ Statistics
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.cache.spec import sequence_key
from esmcls.datasets.power_law import PowerLaw, fit_power_law
from esmcls.encoders.windows import CONTEXT
from esmcls.errors import DataError, UnknownNameError
from esmcls.labels.kinds import NUMBER, ONE_LABEL
from esmcls.labels.label_checks import LabelChecks
from esmcls.labels.number_labels import Place
from esmcls.labels.numbers import Numbers
from esmcls.metrics.classification import TIERS
from esmcls.reading.records import PARTS, Record
from esmcls.reporting.phrases import NONE, percent_of
from esmcls.types import Floats, Indices

PERCENTILES: Final = {
    "shortest": 0, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "longest": 100
}  # fmt: skip
"""As the table calls it -> percentile of the lengths."""
_KEY: Final = 16  # bytes of a sequence's key: two of 100 million have the same with p < 1e-22
_NO_FAMILY: Final = 0xFFFFFFFF
_NO_PART: Final = 255
_Codes: TypeAlias = npt.NDArray[np.uint32]

Section = list[tuple[str, ...]]
"""A table of texts: the header and its rows."""


def gini(sizes: Indices) -> float:
    """Return the Gini coefficient of sizes: 0 where all are equal, towards 1 where few families hold nearly all.

    It is half the mean absolute difference of two sizes, drawn with replacement, over the mean size; so n families of
    which one has everything reach 1 - 1/n.

    Parameters
    ----------
    sizes : int array, (families,)
        In any order, not negative, not all 0.

    Examples
    --------
    >>> gini(np.array([5, 5, 5])), gini(np.array([0, 0, 0, 7])), gini(np.array([1, 2, 3, 4]))
    (0.0, 0.75, 0.25)
    """
    ordered = np.sort(sizes).astype(np.float64)
    weights = 2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1
    return float(weights @ ordered / (len(ordered) * ordered.sum()))


@dataclass(frozen=True)
class SizeTier:
    """The families of a range of sizes (`metrics.TIERS`), and their sequences."""

    name: str
    families: int
    sequences: int


def size_tiers(sizes: Indices) -> list[SizeTier]:
    """Return the families and sequences of each of the tiers that evaluation uses.

    Examples
    --------
    >>> [(tier.name, tier.families, tier.sequences) for tier in size_tiers(np.array([1, 4, 5, 19, 250]))]
    [('<5', 2, 5), ('5-19', 2, 24), ('20-99', 0, 0), ('≥100', 1, 250)]
    """
    tiers = []
    for name, first, end in TIERS:
        here = sizes[(sizes >= first) & (sizes < end if end is not None else True)]
        tiers.append(SizeTier(name, len(here), int(here.sum())))
    return tiers


@dataclass(frozen=True)
class Statistics:
    """Counts, lengths and family sizes of a set of sequences.

    Parameters
    ----------
    sequences, distinct, residues : int
        Records, sequences that differ among them, and the residues of all records.
    lengths : dict of str to int
        Residues, by the names of `PERCENTILES`: the smallest length that so many percent of the records do not exceed.
    limit, cut, unseen : int
        A number of residues, the records that are longer, and their residues beyond it.
    sizes : int array, (families,)
        Records of each family, the largest first.
    unlabelled, ambiguous : int
        Records without a family, and distinct sequences that are in more than one.
    parts : dict of str to (int, int)
        Where a split is given: records and families of each part, those without a part among train.
    power_law : PowerLaw or None
    """

    sequences: int
    distinct: int
    residues: int
    lengths: dict[str, int]
    limit: int
    cut: int
    unseen: int
    sizes: Indices = field(repr=False)
    unlabelled: int
    ambiguous: int
    parts: dict[str, tuple[int, int]]
    power_law: PowerLaw | None

    @property
    def families(self) -> int:
        """Families with at least one record."""
        return len(self.sizes)

    def to_json(self) -> dict[str, object]:
        """Return all of it but the size of each family, as plain values for JSON."""
        names = ("sequences", "distinct", "residues", "families", "unlabelled", "ambiguous")
        return {
            "format": 1,
            **{name: getattr(self, name) for name in names},
            "lengths": {f"p{PERCENTILES[name]}": length for name, length in self.lengths.items()},
            "limit": {"limit": self.limit, "sequences": self.cut, "residues": self.unseen},
            "parts": {part: {"sequences": n, "families": m} for part, (n, m) in self.parts.items()},
            "tiers": [vars(tier) for tier in size_tiers(self.sizes)] if self.families else [],
            "gini": gini(self.sizes) if self.families else None,
            "power_law": vars(self.power_law) if self.power_law else None,
        }

    def sections(self) -> list[Section]:
        """Return the tables for people, as texts."""
        sections = [self._counts(), self._lengths(), self._beyond()]
        if self.parts:
            rows = [(part, f"{n:,}", f"{m:,}") for part, (n, m) in self.parts.items()]
            sections.append([("part", "sequences", "families"), *rows])
        return sections + ([self._tiers(), self._inequality()] if self.families else [])

    def _counts(self) -> Section:
        rows = [("sequences", self.sequences), ("distinct", self.distinct), ("residues", self.residues)]
        if self.families:
            rows += [("families", self.families), ("in more than one family", self.ambiguous)]
            rows += [("without a label", self.unlabelled)] if self.unlabelled else []
        return [("what", "number"), *((name, f"{count:,}") for name, count in rows)]

    def _lengths(self) -> Section:
        rows = [*self.lengths.items(), ("mean", round(self.residues / self.sequences))]
        return [("length", "residues"), *((name, f"{length:,}") for name, length in rows)]

    def _beyond(self) -> Section:
        return [
            (f"beyond {self.limit:,} residues", "number", "percent"),
            ("sequences", f"{self.cut:,}", percent_of(self.cut, self.sequences)),
            ("residues", f"{self.unseen:,}", percent_of(self.unseen, self.residues)),
        ]

    def _tiers(self) -> Section:
        total = int(self.sizes.sum())
        rows = [
            (tier.name, f"{tier.families:,}", percent_of(tier.families, self.families))
            + (f"{tier.sequences:,}", percent_of(tier.sequences, total))
            for tier in size_tiers(self.sizes)
        ]
        return [("family size", "families", "percent", "sequences", "percent"), *rows]

    def _inequality(self) -> Section:
        law = self.power_law
        shown = (NONE, NONE, NONE) if law is None else law.texts()
        return [
            ("family sizes", "value"),
            ("largest", f"{self.sizes[0]:,}"),
            ("median", f"{np.median(self.sizes):,g}"),
            ("Gini coefficient", f"{gini(self.sizes):.3f}"),
            *zip(("power-law exponent", "  of sizes from x_min", "  Kolmogorov-Smirnov distance"), shown, strict=True),
        ]


@dataclass(frozen=True)
class NumberStatistics(Statistics):
    """Counts and lengths of proteins that have a number each, and how these are spread.

    Parameters
    ----------
    values : dict of str to float
        Values, by the names of `PERCENTILES`: of lengths they are called shortest and longest.
    mean, deviation : float
    """

    values: dict[str, float]
    mean: float
    deviation: float

    @classmethod
    def of(cls, statistics: Statistics, values: Floats) -> NumberStatistics:
        """Add the numbers (n,) to what is known of their proteins, which are of no families."""
        known = vars(statistics) | {
            "sizes": statistics.sizes[:0],
            "power_law": None,
            "parts": {part: (n, 0) for part, (n, _) in statistics.parts.items()},
        }
        ends = {"shortest": "smallest", "longest": "largest"}
        percentiles = np.percentile(values, list(PERCENTILES.values()))
        spread = {ends.get(name, name): float(value) for name, value in zip(PERCENTILES, percentiles, strict=True)}
        return cls(**known, values=spread, mean=float(values.mean()), deviation=float(values.std()))

    def to_json(self) -> dict[str, object]:
        """Return all of it as plain values for JSON."""
        gone = ("families", "tiers", "gini", "power_law")
        return {name: value for name, value in super().to_json().items() if name not in gone} | {
            "parts": {part: {"sequences": n} for part, (n, _) in self.parts.items()},
            "values": self.values,
            "mean": self.mean,
            "deviation": self.deviation,
        }

    def sections(self) -> list[Section]:
        """Return the tables for people, as texts."""
        counts = [*self._counts(), ("with more than one value", f"{self.ambiguous:,}")]
        counts += [("without a value", f"{self.unlabelled:,}")] if self.unlabelled else []
        parts: Section = [("part", "sequences"), *((part, f"{n:,}") for part, (n, _) in self.parts.items())]
        spread = {**self.values, "mean": self.mean, "standard deviation": self.deviation}
        values: Section = [("number", "value"), *((name, f"{value:.6g}") for name, value in spread.items())]
        return [counts, self._lengths(), self._beyond(), *([parts] if self.parts else []), values]


def describe_records(
    records: Iterable[Record],
    *,
    limit: int = CONTEXT,
    part: str | None = None,
    x_min: int | None = None,
    checked: bool = True,
    task: str | None = None,
) -> Statistics:
    """Count and measure a set of sequences, read once; memory is 25 bytes a record and the names of the families.

    Parameters
    ----------
    records : iterable of Record
        Labelled or not.
    limit : int
        Residues; what lies beyond is counted.
    part : {"train", "validation", "test"}, optional
        Leave out records of other parts; those without a part are train, where any record has one.
    x_min : int, optional
        Smallest family that the power law is fitted to; default the one that fits best.
    checked : bool
        Look at labels: names of classes or numbers, all else is refused; not where they are terms.
    task : str, optional
        What the labels are, where that is known; default what they look like.

    Returns
    -------
    Statistics
        Of numbers a `NumberStatistics`.

    Raises
    ------
    DataError
        If there is no record, or none of the part, or the labels are neither (see `LabelChecks`).
    UnknownNameError
        If `part` is none of the words above.
    """
    if part is not None and part not in PARTS:
        raise UnknownNameError("part", part, PARTS)
    census = Census()
    for record in records:
        census.add(record)
    if not census.lengths:
        raise DataError("input", "no records", "give at least one sequence")
    kind = census.checks.kind_of_proteins(census.path, task) if checked else ONE_LABEL
    statistics = census.statistics(limit, part, x_min)
    return NumberStatistics.of(statistics, census.values(part)) if kind == NUMBER else statistics


class Census:
    """Records as they come in, in flat arrays."""

    def __init__(self) -> None:
        self.keys = bytearray()
        self.lengths = array("I")
        self.families = array("I")
        self.parts = bytearray()
        self.codes: dict[str, int] = {}
        self.checks = LabelChecks()
        self.path = "input"
        """The first record's file."""

    def add(self, record: Record) -> None:
        """Note a record."""
        label, sequence = record.label, record.protein.sequence
        self.path = self.path if self.lengths else record.path
        if label is not None:
            self.checks.add(label, sequence, Place(record.path, record.line, record.protein.id))
        self.keys += sequence_key(sequence)[:_KEY]
        self.lengths.append(len(sequence))
        self.families.append(_NO_FAMILY if label is None else self.codes.setdefault(label, len(self.codes)))
        self.parts.append(_NO_PART if record.part is None else PARTS.index(record.part))

    def values(self, part: str | None) -> Floats:
        """Return the numbers that labels are, of all labelled records or of those of a part."""
        parts = np.frombuffer(self.parts, np.uint8)
        codes = np.frombuffer(self.families, np.uint32)
        here = (codes != _NO_FAMILY) & (
            part is None or np.where(parts == _NO_PART, 0, parts) == PARTS.index(part or "")
        )
        return Numbers.from_texts(self.codes).take(codes[here].astype(np.int64)).values

    def statistics(self, limit: int, part: str | None, x_min: int | None) -> Statistics:
        """Return the statistics of all records, or of those of a part; see `describe_records`."""
        parts = np.frombuffer(self.parts, np.uint8)
        has_split = bool((parts != _NO_PART).any())
        parts = np.where(parts == _NO_PART, 0, parts)  # train, where any record has a part
        if part is not None and not (has_split and (parts == PARTS.index(part)).any()):
            raise DataError("input", f"no record of the part {part}", "give records with a split, or leave --part out")
        here = parts == PARTS.index(part) if part is not None else np.ones(len(parts), np.bool_)
        lengths = np.frombuffer(self.lengths, np.uint32)[here].astype(np.int64)
        codes = np.frombuffer(self.families, np.uint32)[here]
        _, keys = np.unique(np.frombuffer(self.keys, f"V{_KEY}")[here], return_inverse=True)
        sizes = _sizes(codes)
        return Statistics(
            sequences=len(lengths),
            distinct=int(keys.max()) + 1,
            residues=int(lengths.sum()),
            lengths=_percentiles(lengths),
            limit=limit,
            cut=int((lengths > limit).sum()),
            unseen=int(np.maximum(lengths - limit, 0).sum()),
            sizes=sizes,
            unlabelled=int((codes == _NO_FAMILY).sum()),
            ambiguous=_ambiguous(keys, codes),
            parts=_parts(parts[here], codes) if has_split else {},
            power_law=fit_power_law(sizes, x_min),
        )


def _percentiles(lengths: Indices) -> dict[str, int]:
    values = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
    return dict(zip(PERCENTILES, map(int, values), strict=True))


def _sizes(codes: _Codes) -> Indices:
    """Return the records of each family that has any, the largest first."""
    _, sizes = np.unique(codes[codes != _NO_FAMILY], return_counts=True)
    return np.sort(sizes.astype(np.int64))[::-1]


def _ambiguous(keys: Indices, codes: _Codes) -> int:
    """Return how many keys, (n,), stand beside more than one family, (n,)."""
    labelled = codes != _NO_FAMILY
    pairs = np.unique(keys[labelled].astype(np.uint64) << np.uint64(32) | codes[labelled].astype(np.uint64))
    return int((np.unique(pairs >> np.uint64(32), return_counts=True)[1] > 1).sum())


def _parts(parts: npt.NDArray[np.uint8], codes: _Codes) -> dict[str, tuple[int, int]]:
    """Return the records and families of each part that has any."""
    counts = {}
    for number, part in enumerate(PARTS):
        here = parts == number
        counts[part] = (int(here.sum()), len(_sizes(codes[here])))
    return {part: pair for part, pair in counts.items() if pair[0]}

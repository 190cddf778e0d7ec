"""Statistics of a set of many labels a protein: labels a protein, how rare they are, which stand together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from esmcls.datasets.statistics import Section, Statistics, describe_records
from esmcls.encoders.windows import CONTEXT
from esmcls.errors import DataError
from esmcls.labels.label_lists import LabelLists, labels_in, listed
from esmcls.reading.records import PARTS, Record
from esmcls.reporting.phrases import percent_of
from esmcls.tasks.label_sets.evaluation import OCCURRING
from esmcls.tasks.many_labels.coding import label_sets
from esmcls.types import Indices

_SHOWN = 10


@dataclass(frozen=True)
class LabelStatistics(Statistics):
    """Counts and sizes of a set of proteins with many labels each.

    Parameters
    ----------
    a_protein : int array, (n,)
        Labels of each protein.
    labels : dict of str to int
        Proteins of each label, the most frequent first.
    sets : int
        Different sets of labels.
    """

    a_protein: Indices = field(repr=False)
    labels: dict[str, int]
    sets: int

    @property
    def buckets(self) -> dict[str, int]:
        """Labels that so many proteins have."""
        counts = np.array(list(self.labels.values()), dtype=np.int64)
        return {name: int(((counts >= first) & (counts < (end or np.inf))).sum()) for name, first, end in OCCURRING}

    def to_json(self) -> dict[str, Any]:
        """Return all of it but the labels of each protein, as plain values for JSON."""
        gone = ("families", "unlabelled", "tiers", "gini", "power_law")
        return {key: value for key, value in super().to_json().items() if key not in gone} | {
            "parts": {part: {"sequences": n} for part, (n, _) in self.parts.items()},
            "labels": self.labels,
            "label_sets": self.sets,
            "labels_a_protein": self._sizes(),
            "buckets": self.buckets,
        }

    def sections(self) -> list[Section]:
        """Return the tables for people, as texts."""
        sizes = self._sizes()
        counts: Section = [
            *self._counts(),
            ("labels", f"{len(self.labels):,}"),
            ("different sets of labels", f"{self.sets:,}"),
            ("with more than one set of labels", f"{self.ambiguous:,}"),
        ]
        parts: Section = [("part", "sequences"), *((part, f"{n:,}") for part, (n, _) in self.parts.items())]
        frequent = list(self.labels.items())[:_SHOWN]
        return [
            counts,
            self._lengths(),
            self._beyond(),
            *([parts] if self.parts else []),
            [
                ("labels a protein", "median", "mean", "most"),
                ("", f"{sizes['median']:,g}", f"{sizes['mean']:,.2f}", f"{sizes['most']:,}"),
            ],
            [("labels with so many proteins", *self.buckets), ("", *(f"{n:,}" for n in self.buckets.values()))],
            [
                ("the most frequent labels", "proteins", "percent"),
                *((name, f"{n:,}", percent_of(n, self.sequences)) for name, n in frequent),
            ],
        ]

    def _sizes(self) -> dict[str, float]:
        sizes = self.a_protein
        return {"median": float(np.median(sizes)), "mean": round(float(sizes.mean()), 2), "most": int(sizes.max())}


def describe_labels(records: Iterable[Record], *, limit: int = CONTEXT, part: str | None = None) -> LabelStatistics:
    """Count and measure a set of proteins with many labels each.

    Parameters
    ----------
    records : iterable of Record
        Each with its labels, `;` or `|` between.
    limit, part
        As in `describe_records`.

    Raises
    ------
    DataError
        If there is no record, none of the part, or one without a label.
    UnknownNameError
        If `part` is no part.
    """
    noted: list[tuple[str, str]] = []
    base = describe_records(_noted(records, noted), limit=limit, part=part, checked=False)
    texts = LabelLists.of([label for label, here in noted if part in (None, here)]).texts
    sets = label_sets(texts)
    counts = sorted(zip((-sets.counts()).tolist(), sets.classes, strict=True))
    known = {field.name: getattr(base, field.name) for field in fields(base)}
    return LabelStatistics(
        **known | {"sizes": base.sizes[:0], "power_law": None},
        a_protein=sets.sizes(),
        labels={name: -negative for negative, name in counts},
        sets=len(set(texts)),
    )


def _noted(records: Iterable[Record], noted: list[tuple[str, str]]) -> Iterator[Record]:
    """Pass records on, their labels as a data set keeps them, and note labels and parts."""
    for record in records:
        if record.label is None:
            raise DataError(record.path, "no label", "give each protein some", line=record.line)
        label = listed(labels_in(record.label))
        noted.append((label, record.part or PARTS[0]))
        yield replace(record, label=label)

"""Statistics of a set of many labels: terms a protein, how rare they are, and which aspects are covered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from esmcls.datasets.statistics import Section, Statistics, describe_records
from esmcls.encoders.windows import CONTEXT
from esmcls.errors import DataError
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS, Ontology
from esmcls.reading.records import PARTS, Record
from esmcls.reporting.phrases import percent_of
from esmcls.tasks.label_sets.evaluation import OCCURRING as BUCKETS
from esmcls.types import Indices


@dataclass(frozen=True)
class TermStatistics(Statistics):
    """Counts and sizes of a set of proteins with many labels each; no term counted here is a root.

    Parameters
    ----------
    direct : int array, (n,)
        Terms of each protein as the tables say them.
    propagated : int array, (n,)
        With all that contain them.
    buckets : dict of str to dict of str to int
        Aspect -> bucket -> propagated terms that so many proteins have.
    covered : dict of str to int
        Proteins with a term of each aspect.
    """

    direct: Indices = field(repr=False)
    propagated: Indices = field(repr=False)
    buckets: dict[str, dict[str, int]]
    covered: dict[str, int]

    @property
    def terms(self) -> int:
        """Propagated terms with at least one protein."""
        return sum(sum(row.values()) for row in self.buckets.values())

    def to_json(self) -> dict[str, Any]:
        """Return all of it but the terms of each protein, as plain values for JSON."""
        gone = ("families", "unlabelled", "tiers", "gini", "power_law")
        return {key: value for key, value in super().to_json().items() if key not in gone} | {
            "parts": {part: {"sequences": n} for part, (n, _) in self.parts.items()},
            "terms": self.terms,
            "terms_a_protein": {name: _spread(sizes) for name, sizes in self._sizes()},
            "buckets": self.buckets,
            "covered": self.covered,
        }

    def sections(self) -> list[Section]:
        """Return the tables for people, as texts."""
        ambiguous = ("with more than one set of terms", f"{self.ambiguous:,}")
        counts: Section = [*self._counts(), ("terms", f"{self.terms:,}"), ambiguous]
        parts: Section = [("part", "sequences"), *((part, f"{n:,}") for part, (n, _) in self.parts.items())]
        a_protein = (_shown(name, sizes) for name, sizes in self._sizes())
        return [
            counts,
            self._lengths(),
            self._beyond(),
            *([parts] if self.parts else []),
            [("terms a protein", "median", "mean", "most"), *a_protein],
            self._frequencies(),
            self._coverage(),
        ]

    def _sizes(self) -> tuple[tuple[str, Indices], ...]:
        return ("direct", self.direct), ("propagated", self.propagated)

    def _frequencies(self) -> Section:
        names = [name for name, _, _ in BUCKETS]
        rows = [(ASPECTS[letter], *(f"{row[name]:,}" for name in names)) for letter, row in self.buckets.items()]
        return [("terms with so many proteins", *names), *rows]

    def _coverage(self) -> Section:
        rows = [(ASPECTS[letter], f"{n:,}", percent_of(n, self.sequences)) for letter, n in self.covered.items()]
        return [("proteins with a term of", "number", "percent"), *rows]


def _spread(sizes: Indices) -> dict[str, float]:
    return {"median": float(np.median(sizes)), "mean": round(float(sizes.mean()), 2), "most": int(sizes.max())}


def _shown(name: str, sizes: Indices) -> tuple[str, ...]:
    spread = _spread(sizes)
    return name, f"{spread['median']:,g}", f"{spread['mean']:,.1f}", f"{spread['most']:,}"


def describe_terms(
    records: Iterable[Record], ontology: Ontology, *, limit: int = CONTEXT, part: str | None = None
) -> TermStatistics:
    """Count and measure a set of proteins with many labels each.

    Parameters
    ----------
    records : iterable of Record
        Each labelled with terms of the ontology, with a space between.
    ontology : Ontology
    limit, part
        As in `describe_records`.

    Raises
    ------
    DataError
        If there is no record, none of the part, or one without terms.
    UnknownNameError
        If `part` is no part.
    """
    labels = _Labels()
    base = describe_records(labels.noted(records), limit=limit, part=part, checked=False)
    names = [label.split() for label in labels.of(part)]
    sets = ontology.term_sets(names)
    known = {field.name: getattr(base, field.name) for field in fields(base)}
    return TermStatistics(
        **known | {"sizes": base.sizes[:0], "power_law": None},
        direct=ontology.term_sets(names, propagate=False).sizes(),
        propagated=sets.sizes(),
        buckets=_buckets(sets),
        covered={letter: _covered(sets, letter) for letter in ASPECTS},
    )


@dataclass
class _Labels:
    """Labels and parts of records as they pass by."""

    labels: list[str] = field(default_factory=list)
    parts: list[str | None] = field(default_factory=list)

    def noted(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.label is None:
                raise DataError(record.path, "no terms", "give each protein some", line=record.line)
            self.labels.append(record.label)
            self.parts.append(record.part)
            yield record

    def of(self, part: str | None) -> list[str]:
        pairs = zip(self.labels, self.parts, strict=True)
        return [label for label, here in pairs if part in (None, here or PARTS[0])]


def _buckets(sets: LabelSets) -> dict[str, dict[str, int]]:
    counts = sets.counts()
    groups = np.array(sets.groups, dtype="U1")
    return {
        letter: {
            name: int(((groups == letter) & (counts >= first) & (counts < (end or np.inf))).sum())
            for name, first, end in BUCKETS
        }
        for letter in ASPECTS
    }


def _covered(sets: LabelSets, letter: str) -> int:
    here = np.array(sets.groups, dtype="U1")[sets.codes] == letter
    return len(np.unique(np.repeat(np.arange(len(sets)), sets.sizes())[here]))

"""A set chosen from a larger one: so many sequences of each family, or other parts, whatever the order of the input.

columns ──▶ pool: train, each sequence of a family once ──▶ how many of each family ──▶ which, by hash
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from esmcls.datasets.clusters import read_clusters
from esmcls.datasets.sampling_plan import Allotment, Quotas
from esmcls.datasets.split import (
    FRACTIONS,
    SplitKind,
    SplitReport,
    apply_given,
    at_random,
    by_cluster,
    check_fractions,
    drop_leaks,
    labels_of,
    stratified,
)
from esmcls.errors import DataError
from esmcls.labels.kinds import NUMBER
from esmcls.labels.label_lists import labels_in, lists_several
from esmcls.labels.numbers import same_sequence_other_number, tenths
from esmcls.reading.record_columns import Columns
from esmcls.reading.records import PARTS, Tally

SHOWN: Final = 20
"""Shortfalls that are told one by one; the report has all of them."""
_RANK: Final = {part: rank for rank, part in enumerate(PARTS)}


class Shortfall(NamedTuple):
    """A family that has fewer sequences than are wanted of it."""

    family: str
    wanted: int
    there: int


@dataclass(frozen=True)
class Drawn:
    """Rows that were drawn, and counts for the user to be told.

    Parameters
    ----------
    rows : list of int
        Records of the source that were drawn or went through; sorted by part, family, id and sequence.
    parts : list of str or None, (n,)
        The part of each record of the source; None for all where no split is given.
    wanted : Quotas
    there : (int, int)
        Sequences that could be drawn, and their families.
    drawn : (int, int)
        Sequences that were drawn, and their families.
    shortfalls : list of Shortfall
        The largest families first.
    repeated, leaked : int
        Train records that could not be drawn: with sequence and family of another, or with a sequence of another part.
    others : dict of str to int
        Records of validation and test that went through.
    untrained : int
        Records of validation and test whose family was not drawn from.
    """

    rows: list[int]
    parts: Sequence[str | None]
    wanted: Quotas
    there: tuple[int, int]
    drawn: tuple[int, int]
    shortfalls: list[Shortfall]
    repeated: int
    leaked: int
    others: dict[str, int]
    untrained: int

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told."""
        lines = [f"drawn from {_in_families(*self.there)}"]
        if self.repeated:
            lines.append(f"{_count(self.repeated, 'record')} with sequence and family of another: counted once")
        if self.leaked:
            lines.append(f"{_count(self.leaked, 'record')} of train not drawn from: another part has an equal sequence")
        lines += [f"{part}: {_count(count, 'record')} went through unchanged" for part, count in self.others.items()]
        return lines

    def warnings(self) -> list[str]:
        """Return one line for each fact that is not as it was asked for."""
        warnings = []
        if self.drawn[0] < self.wanted.sequences:
            asked = _in_families(self.wanted.sequences, self.wanted.families)
            warnings.append(f"{asked} were asked for, {_in_families(*self.drawn)} drawn")
        if self.shortfalls:
            families = _count(len(self.shortfalls), "family", "families")
            warnings.append(f"{families} with fewer sequences than asked for:")
            warnings += [f"  {family}: {there:,} of {wanted:,}" for family, wanted, there in self.shortfalls[:SHOWN]]
            warnings += [f"  and {len(self.shortfalls) - SHOWN:,} more"] if len(self.shortfalls) > SHOWN else []
        if self.untrained:
            of = f"{_count(self.untrained, 'record')} of families that were not drawn from"
            warnings.append(f"validation and test hold {of}; --trained-only leaves them out")
        return warnings

    def to_json(self) -> dict[str, object]:
        """Return the counts and all shortfalls, as plain values for JSON."""
        pairs = {"wanted": self.wanted[1:], "there": self.there, "drawn": self.drawn}
        return {
            **{name: dict(zip(("sequences", "families"), pair, strict=True)) for name, pair in pairs.items()},
            "shortfalls": [shortfall._asdict() for shortfall in self.shortfalls],
            "repeated": self.repeated,
            "leaked": self.leaked,
            "others": self.others,
            "untrained": self.untrained,
        }


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _in_families(sequences: int, families: int) -> str:
    return f"{_count(sequences, 'sequence')} of {_count(families, 'family', 'families')}"


def draw_key(seed: int, sequence: str) -> bytes:
    """Return the key by which sequences of a family are drawn, the smallest first: sha256 of "draw", seed and sequence.

    It depends on nothing else. So neither the order of the input nor ids nor other families matter, and what is drawn
    of a family is part of every larger draw with the same seed.
    """
    return hashlib.sha256(f"draw\0{seed}\0{sequence}".encode()).digest()


def stratify(source: Columns, allotment: Allotment, *, seed: int = 0, trained_only: bool = False) -> Drawn:
    """Draw so many sequences of each family.

    Where a split is given, they are drawn from train alone (records without a part are train), but for sequences that
    stand in another part too; validation and test go through unchanged. Records of one family with equal sequences
    are drawn as one, under the id that sorts first.

    Parameters
    ----------
    source : Columns
        Each record with a label.
    allotment : Allotment
        Such as `SamplingPlan` or `Total`.
    seed : int
    trained_only : bool
        Leave out the records of validation and test whose family is not drawn from.

    Returns
    -------
    Drawn

    Raises
    ------
    UsageError
        If no record is train where a split is given, or the allotment cannot be.
    DataError
        If records have no labels, or numbers, or each sequence of train stands in another part too.
    """
    labels = _labels(source)
    several = next(filter(lists_several, labels), None)
    if several is not None:
        fix = "give one label a protein; parts are drawn anew of many labels, too: esmcls data split"
        raise DataError("input", f"label {several[:60]!r} lists several, but so many of each family are drawn", fix)
    if source.task == NUMBER:
        raise DataError(
            "input", "labels are numbers: there are no families to draw of", "draw parts: esmcls data split"
        )
    complete = apply_given(source.parts)
    parts: Sequence[str | None] = complete if any(source.parts) else source.parts
    leaked = {leak.row for leak in drop_leaks(source.sequences, complete) if leak.part == PARTS[0]}
    train = [row for row, part in enumerate(parts) if part in (None, PARTS[0]) and row not in leaked]
    if not train:
        raise DataError("input", "every train sequence stands in test or validation too", "give other training records")
    pool = _pool(source, train)
    wanted = allotment.wanted({family: len(members) for family, members in pool.items()})
    rows = [row for family, count in wanted.each.items() for row in _draw(pool[family], count, seed)]
    families = {labels[row] for row in rows}
    others = [row for row, part in enumerate(parts) if part not in (None, PARTS[0])]
    untrained = {row for row in others if labels[row] not in families}
    passed = [row for row in others if not (trained_only and row in untrained)]
    counts = Counter(parts[row] or "" for row in passed)
    return Drawn(
        rows=_sorted(source, parts, rows + passed),
        parts=parts,
        wanted=wanted,
        there=(sum(map(len, pool.values())), len(pool)),
        drawn=(len(rows), len(families)),
        shortfalls=[
            Shortfall(family, count, len(pool[family]))
            for family, count in wanted.each.items()
            if len(pool[family]) < count
        ],
        repeated=len(train) - sum(map(len, pool.values())),
        leaked=len(leaked),
        others={part: counts[part] for part in PARTS[1:] if counts[part]},
        untrained=0 if trained_only else len(untrained),
    )


def _alone(label: str) -> list[str]:
    """Return the one class that a label is."""
    return [label]


def _labels(source: Columns) -> list[str]:
    if source.labels is None:
        raise DataError("input", "no labels", "give every record one (--labels TABLE)")
    return source.labels


def _pool(source: Columns, rows: Sequence[int]) -> dict[str, dict[str, int]]:
    """Return family -> sequence -> the row to take, that of the id that sorts first."""
    pool: dict[str, dict[str, int]] = defaultdict(dict)
    for row, label in zip(rows, map(_labels(source).__getitem__, rows), strict=True):
        first = pool[label].setdefault(source.sequences[row], row)
        if source.ids[row] < source.ids[first]:
            pool[label][source.sequences[row]] = row
    return pool


def _draw(members: dict[str, int], count: int, seed: int) -> list[int]:
    drawn = sorted(members, key=lambda sequence: draw_key(seed, sequence))
    return [members[sequence] for sequence in drawn[:count]]


def _sorted(source: Columns, parts: Sequence[str | None], rows: list[int]) -> list[int]:
    """Sort rows by what they hold, so that the order of the input leaves no trace."""
    labels = _labels(source)
    return sorted(
        rows, key=lambda row: (_RANK[parts[row] or PARTS[0]], labels[row], source.ids[row], source.sequences[row])
    )


def clusters_of(source: Columns, table: str | Path, tally: Tally | None = None) -> list[str]:
    """Return the cluster of each record, from a table of the cluster of each id; see `read_clusters`.

    Raises
    ------
    DataError
        If two sequences have one id, or the table cannot be used.
    """
    first: dict[str, str] = {}
    for name, sequence in zip(source.ids, source.sequences, strict=True):
        if first.setdefault(name, sequence) != sequence:
            fix = "give each an id of its own, since clusters are joined by id"
            raise DataError(table, "two sequences of the input have this id", fix, record=name)
    cluster_of = read_clusters(table, first, tally)
    return [cluster_of[name] for name in source.ids]


def split_anew(
    source: Columns, clusters: Sequence[str] | None = None, *, fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> tuple[list[str], SplitReport]:
    """Draw the part of each record, whole clusters at a time or, without clusters, family by family.

    Where any label lists several, sequences are drawn at random: sets of labels hardly recur. A given split is passed
    over.

    Parameters
    ----------
    source : Columns
    clusters : sequence of str, (n,), optional
    fractions : (train, validation, test)
    seed : int

    Returns
    -------
    list of str, (n,)
    SplitReport

    Raises
    ------
    DataError
        If there are neither clusters nor labels.
    UsageError
        If the fractions are no shares of 1.
    """
    many = source.labels is not None and any(map(lists_several, source.labels))
    kind: SplitKind = "cluster" if clusters is not None else "random" if many else "stratified"
    report = SplitReport(kind, seed, check_fractions(fractions), many="label" if many else "")
    if clusters is not None:
        parts = by_cluster(source.sequences, clusters, fractions, seed)
    elif many:
        parts = at_random(source.sequences, fractions, seed)
    else:
        labels = _labels(source)
        strata = tenths(labels) if source.task == NUMBER else labels
        parts = stratified(source.sequences, strata, fractions, seed)
    if source.task == NUMBER:
        report.numbers = True
        report.ambiguous = same_sequence_other_number(source.sequences, _labels(source))
    elif source.labels is not None:
        classes_of = labels_in if many else _alone
        pairs = list(zip(source.labels, parts, strict=True))
        trained = {name for label, part in pairs if part == PARTS[0] for name in classes_of(label)}
        report.untrained = len({name for label, _ in pairs for name in classes_of(label)} - trained)
        report.ambiguous = len(labels_of(source.sequences, source.labels)[1])
    return parts, report

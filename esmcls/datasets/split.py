"""Train, validation and test: given, drawn by class, or drawn by cluster; equal sequences never stand in two parts.

Every draw depends on the content and the seed alone, not on the order of rows or on ids.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from esmcls.errors import UsageError
from esmcls.reading.records import PARTS

Fractions: TypeAlias = tuple[float, float, float]
"""Shares of train, validation and test; they add up to 1."""
SplitKind: TypeAlias = Literal["given", "stratified", "random", "cluster"]

FRACTIONS: Final[Fractions] = (0.8, 0.1, 0.1)
VALIDATION: Final = 0.1
"""Share of a given train part that becomes validation, where none is given."""
_RANK: Final = {part: rank for rank, part in enumerate(PARTS)}
_SHOWN: Final = 20


class Leak(NamedTuple):
    """A row that leaves its part because an equal sequence stands in one that wins over it."""

    row: int
    part: str
    kept_in: str


@dataclass
class SplitReport:
    """The kind of a split, and counts of what was met while it was made.

    Parameters
    ----------
    kind : {"given", "stratified", "random", "cluster"}
    seed : int
    fractions : (float, float, float)
        Of train, validation and test, where they were drawn.
    leaks : list of (id, part it left, part that keeps the sequence)
    assigned : int
        Records without a part beside others with one; they are train.
    drawn_validation : int
        Records of the given train part that became validation.
    ambiguous : int
        Distinct sequences with more than one label.
    untrained : int
        Classes without a training member.
    many : str
        What a class is called where a protein has any number of them, such as "term"; empty where it has one.
    about_labels : list of str
        What to tell of labels, many a protein.
    by_class : bool
        Whether what is drawn is drawn class by class: not where hardly two proteins have the same label.
    numbers : bool
        Whether labels are numbers, of which `stratified` means that each tenth of them is.
    """

    kind: SplitKind
    seed: int = 0
    fractions: Fractions = FRACTIONS
    leaks: list[tuple[str, str, str]] = field(default_factory=list)
    assigned: int = 0
    drawn_validation: int = 0
    ambiguous: int = 0
    untrained: int = 0
    many: str = ""
    about_labels: list[str] = field(default_factory=list)
    by_class: bool = True
    numbers: bool = False

    def facts(self) -> dict[str, object]:
        """Return what a workspace remembers: kind, seed, fractions if drawn, and whether validation was drawn here."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "fractions": None if self.kind == "given" else list(self.fractions),
            "drawn_validation": self.kind != "given" or self.drawn_validation > 0,
        }

    def lines(self) -> list[str]:
        """Return one line for each fact that a user should be told."""
        lines = list(self.about_labels)
        if self.kind != "given":
            train, validation, test = (f"{100 * share:g} %" for share in self.fractions)
            lines.append(f"{self.kind} split: {train} train, {validation} validation, {test} test (seed {self.seed})")
        if self.assigned:
            lines.append(f"{_count(self.assigned, 'record')} without a part beside others with one: taken as train")
        if self.drawn_validation:
            lines.append(
                f"no validation part given: {self.drawn_validation:,} of train drawn for it (seed {self.seed})"
            )
        if self.leaks:
            lines.append(f"{_count(len(self.leaks), 'record')} left out because another part holds an equal sequence:")
            lines.extend(f"  {name}: left {part}, stays in {winner}" for name, part, winner in self.leaks[:_SHOWN])
            lines.extend([f"  and {len(self.leaks) - _SHOWN:,} more"] if len(self.leaks) > _SHOWN else [])
        if self.ambiguous:
            label = f"set of {self.many}s" if self.many else "value" if self.numbers else "label"
            lines.append(f"warning: {_count(self.ambiguous, 'sequence')} with more than one {label}; all kept")
        if self.untrained and self.many:
            lines.append(f"warning: {_count(self.untrained, self.many)} without a training protein; never predicted")
        elif self.untrained:
            lines.append(f"warning: {_count(self.untrained, 'class', 'es')} without a training member; always wrong")
        return lines


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def check_fractions(fractions: Sequence[float]) -> Fractions:
    """Return the fractions of train, validation and test, having made sure that they are shares of 1.

    Raises
    ------
    UsageError
        If they are not three shares that add up to 1 with some train.
    """
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        shares = ", ".join(f"{share:g}" for share in fractions)
        raise UsageError(
            f"split fractions {shares}: give train, validation and test that add up to 1, as 0.8, 0.1, 0.1"
        )
    return fractions[0], fractions[1], fractions[2]


def stratified(
    sequences: Sequence[str], labels: Sequence[str], fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> list[str]:
    """Draw the part of each row, class by class.

    Equal sequences are drawn as one. Each class gets the largest remainder of its quotas, what it got too much or too
    little being carried to the next, so that many small classes together come near the fractions. Every class keeps at
    least one sequence in train; a class of one sequence, and a sequence with several labels, stay in train.

    Parameters
    ----------
    sequences, labels : sequences of str, (n,)
    fractions : (train, validation, test)
    seed : int

    Returns
    -------
    list of str, (n,)
        "train", "validation" or "test" for each row.

    Raises
    ------
    UsageError
        If the fractions are no shares of 1.

    Examples
    --------
    >>> stratified(["MA", "MC", "MD", "MA", "ME"], ["a", "a", "a", "a", "b"], (0.5, 0.0, 0.5)).count("test")
    1
    """
    shares = check_fractions(fractions)
    classes: dict[str, list[str]] = defaultdict(list)
    label, ambiguous = labels_of(sequences, labels)
    for sequence, name in label.items():
        if sequence not in ambiguous:
            classes[name].append(sequence)
    part = dict.fromkeys(ambiguous, "train")
    carry = [0.0, 0.0, 0.0]
    for name in sorted(classes, key=lambda name: _draw_key(seed, name)):
        members = sorted(classes[name], key=lambda sequence: _draw_key(seed, sequence))
        counts = _apportion(len(members), shares, carry)
        drawn = (chosen for chosen, count in zip(PARTS, counts, strict=True) for _ in range(count))
        part.update(zip(members, drawn, strict=True))
    return [part[sequence] for sequence in sequences]


def at_random(sequences: Sequence[str], fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> list[str]:
    """Draw the part of each row, whatever its labels; equal sequences are drawn as one.

    Parameters
    ----------
    sequences : sequence of str, (n,)
    fractions : (train, validation, test)
        Of the distinct sequences; at least one is train.
    seed : int

    Raises
    ------
    UsageError
        If the fractions are no shares of 1.

    Examples
    --------
    >>> at_random(["MA", "MC", "MD", "MA"], (0.7, 0.0, 0.3))
    ['train', 'train', 'test', 'train']
    """
    train, validation, _ = check_fractions(fractions)
    drawn = sorted(set(sequences), key=lambda sequence: _draw_key(seed, sequence))
    ends = max(1, round(len(drawn) * train)), round(len(drawn) * (train + validation))
    part = {sequence: PARTS[bisect_right(ends, place)] for place, sequence in enumerate(drawn)}
    return [part[sequence] for sequence in sequences]


def folds_of(sequences: Sequence[str], labels: Sequence[str], folds: int, seed: int = 0) -> list[int | None]:
    """Return the fold of each row, each class spread evenly over all; equal sequences share one.

    A class of one sequence is in no fold (None): held out, it could not be right.

    Parameters
    ----------
    sequences, labels : sequences of str, (n,)
    folds : int
        At least 2.
    seed : int

    Raises
    ------
    UsageError
        If there are fewer than 2 folds, or more than sequences.

    Examples
    --------
    >>> folds_of(["A", "C", "D", "C", "E"], ["x", "x", "x", "x", "y"], 3)
    [1, 0, 2, 0, None]
    """
    first = dict(zip(reversed(sequences), reversed(labels), strict=True))
    if not 2 <= folds <= len(first):
        raise UsageError(f"--folds {folds}: give 2 or more, and no more than there are sequences ({len(first):,})")
    members = Counter(first.values())
    drawn = sorted(
        (label, _draw_key(seed, sequence), sequence) for sequence, label in first.items() if members[label] > 1
    )
    fold = {sequence: place % folds for place, (_, _, sequence) in enumerate(drawn)}
    return [fold.get(sequence) for sequence in sequences]


def labels_of(sequences: Sequence[str], labels: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """Return the first label of each distinct sequence, and the sequences that have several.

    Examples
    --------
    >>> labels_of(["MA", "MC", "MA"], ["x", "x", "y"])
    ({'MA': 'x', 'MC': 'x'}, {'MA'})
    """
    first: dict[str, str] = {}
    pairs = zip(sequences, labels, strict=True)
    return first, {sequence for sequence, label in pairs if first.setdefault(sequence, label) != label}


def _draw_key(seed: int, text: str) -> bytes:
    """Return a random-like key that depends on the seed and the content alone."""
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _apportion(n: int, shares: Fractions, carry: list[float]) -> list[int]:
    """Share out n members, at least one to train; `carry` keeps what each part got too little of."""
    if n == 1:  # no choice, so nothing for other classes to make up for
        return [1, 0, 0]
    quotas = [n * share + owed if share else 0.0 for share, owed in zip(shares, carry, strict=True)]
    counts = [max(1, int(quotas[0])), max(0, int(quotas[1])), max(0, int(quotas[2]))]
    if sum(counts) > n:  # so few members that what is owed reaches further
        counts = [1, 0, 0]
    for _ in range(n - sum(counts)):
        # to the part that lacks most: the largest remainder
        owed = [quota - count if share else -1e9 for quota, count, share in zip(quotas, counts, shares, strict=True)]
        counts[owed.index(max(owed))] += 1
    carry[:] = [min(1.0, max(-1.0, quota - count)) for quota, count in zip(quotas, counts, strict=True)]
    return counts


def by_cluster(
    sequences: Sequence[str], clusters: Sequence[str], fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> list[str]:
    """Draw the part of each row, whole clusters at a time.

    Clusters that hold an equal sequence are drawn as one. They come in random order, each to the part that is then
    filled least in proportion to its share of the rows. A class may be left without a training member.

    Parameters
    ----------
    sequences, clusters : sequences of str, (n,)
        Each row's sequence and the name of its cluster.
    fractions : (train, validation, test)
    seed : int

    Returns
    -------
    list of str, (n,)

    Raises
    ------
    UsageError
        If the fractions are no shares of 1.

    Examples
    --------
    >>> parts = by_cluster(["MA", "MC", "MD", "ME"], ["x", "x", "y", "y"], (0.5, 0.0, 0.5))
    >>> parts[0] == parts[1] != parts[2] == parts[3]
    True
    """
    shares = check_fractions(fractions)
    group = _representatives(sequences, clusters)
    sizes = Counter(group[cluster] for cluster in clusters)
    keys: dict[str, bytes] = {}
    for sequence, cluster in zip(sequences, clusters, strict=True):
        root = group[cluster]
        key = _draw_key(seed, sequence)
        keys[root] = min(keys.get(root, key), key)
    filled = [0, 0, 0]
    part = {}
    for root in sorted(sizes, key=lambda root: keys[root]):
        level = [(count + sizes[root]) / share if share else 1e18 for count, share in zip(filled, shares, strict=True)]
        chosen = level.index(min(level))
        filled[chosen] += sizes[root]
        part[root] = PARTS[chosen]
    return [part[group[cluster]] for cluster in clusters]


def _representatives(sequences: Sequence[str], clusters: Sequence[str]) -> dict[str, str]:
    """Return a representative of each cluster, the same for clusters that share a sequence (union-find)."""
    parent = {cluster: cluster for cluster in clusters}

    def find(cluster: str) -> str:
        while parent[cluster] != cluster:
            parent[cluster] = parent[parent[cluster]]
            cluster = parent[cluster]
        return cluster

    first: dict[str, str] = {}
    for sequence, cluster in zip(sequences, clusters, strict=True):
        parent[find(cluster)] = find(first.setdefault(sequence, cluster))
    return {cluster: find(cluster) for cluster in parent}


def apply_given(parts: Sequence[str | None]) -> list[str]:
    """Complete a given split: a row without a part is train, since test and validation are marked as such.

    Raises
    ------
    UsageError
        If no row is train.

    Examples
    --------
    >>> apply_given(["test", None])
    ['test', 'train']
    """
    complete = [part or "train" for part in parts]
    if "train" not in complete:
        named = " and ".join(sorted(set(complete)))
        raise UsageError(f"every record is {named} (by its file's name, or as marked); give training records too")
    return complete


def drop_leaks(sequences: Sequence[str], parts: Sequence[str]) -> list[Leak]:
    """Find the rows that must leave so that no sequence stands in two parts: test wins over validation over train.

    Examples
    --------
    >>> drop_leaks(["MA", "MA", "MC"], ["train", "test", "train"])
    [Leak(row=0, part='train', kept_in='test')]
    """
    winner: dict[str, str] = {}
    for sequence, part in zip(sequences, parts, strict=True):
        winner[sequence] = max(winner.get(sequence, part), part, key=_RANK.__getitem__)
    pairs = enumerate(zip(sequences, parts, strict=True))
    return [Leak(row, part, winner[sequence]) for row, (sequence, part) in pairs if part != winner[sequence]]


def part_counts(parts: Sequence[str]) -> Mapping[str, int]:
    """Return the rows of each part, in the order train, validation, test."""
    counts = Counter(parts)
    return {part: counts[part] for part in PARTS}

"""Build `data/demo.csv.gz`, the labelled set that comes with esmcls, from UniProt proteins and the Gene Ontology.

Run as `python benchmarks/build_demo_set.py SHARED_DATA [-o data/demo.csv.gz]`, where SHARED_DATA holds
`function5000/{train.csv,classes.tsv}.gz` and `go/go-201401.obo.gz`. The same input gives the same bytes;
`data/README.md` says what the rules are for.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from esmcls.reading.readers import read_records
from esmcls.reading.records import Protein

LENGTHS: Final = range(40, 401)
"""Residues a member may have."""
COPY: Final = 0.8
"""Share of the shorter sequence's distinct 3-mers from which on a second member is a copy, and left out."""
KIN: Final = 0.15
"""The same between parts: no test or validation member is as close to one of train, or these two to one another."""
CLASSES: Final = range(60, 101)
LEAST: Final = 16
"""Members a class must have."""
HELD_OUT: Final = range(3, 5)
"""Members of a class in test, and as many in validation."""
UNTELLING: Final = {"", "GO:0003674", "GO:0008150", "GO:0005515"}
"""No term, the roots of the two aspects, and protein binding."""
COMMON_FUNCTION: Final = 30
COMMON_PROCESS: Final = 10
"""A term of more classes than this is no name by itself, or none that tells a class."""


@dataclass(frozen=True)
class Terms:
    """Terms of a class, the rarest first."""

    functions: list[str]
    processes: list[str]


class Member(NamedTuple):
    """A protein of a class."""

    id: str
    sequence: str
    label: str
    split: str


def term_names(path: Path) -> dict[str, str]:
    """Return the name of each term of an OBO file."""
    names: dict[str, str] = {}
    current = ""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.rstrip("\n").partition(": ")
            if key == "id":
                current = value
            elif key == "name":
                names.setdefault(current, value)
    return names


def class_terms(path: Path) -> tuple[dict[str, Terms], Counter[str]]:
    """Return the terms of each class, and in how many classes each term is."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    found = {
        row["family_accession"]: [row[column].split(";") for column in ("molecular_function", "biological_process")]
        for row in rows
    }
    count = Counter(term for both in found.values() for terms in both for term in terms)
    rarest = {
        name: [sorted(set(terms) - UNTELLING, key=lambda term: (count[term], term)) for terms in both]
        for name, both in found.items()
    }
    return {name: Terms(*both) for name, both in rarest.items()}, count


def class_name(terms: Terms, count: Counter[str], names: dict[str, str], *, long: bool = False) -> str | None:
    """Name a class by its rarest function, with its rarest process where that is needed; None if neither tells it."""
    function, process = (next(iter(both), None) for both in (terms.functions, terms.processes))
    if process is not None and count[process] > COMMON_PROCESS:
        process = None
    if function is None or (process is None and count[function] > COMMON_FUNCTION):
        return None if process is None else names[process]
    if process is not None and (long or count[function] > COMMON_FUNCTION):
        return f"{names[function]} ({names[process]})"
    return names[function]


def unique_names(terms: dict[str, Terms], count: Counter[str], names: dict[str, str]) -> dict[str, str]:
    """Name the classes, long where short names are equal; of equal long names the first class has it."""
    short = {code: class_name(terms[code], count, names) for code in sorted(terms)}
    shared = Counter(short.values())
    chosen: dict[str, str] = {}
    for code, name in short.items():
        full = name if shared[name] == 1 else class_name(terms[code], count, names, long=True)
        if full is not None and full not in chosen.values():
            chosen[code] = full
    return chosen


def three_mers(sequence: str) -> frozenset[str]:
    """Return the distinct 3-mers of a sequence."""
    return frozenset(sequence[start : start + 3] for start in range(len(sequence) - 2))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of common 3-mers among those of the shorter sequence."""
    return len(one & other) / min(len(one), len(other))


def without_copies(members: Iterable[Protein]) -> list[Protein]:
    """Return the members of a class without copies, in an order without meaning that is the same everywhere."""
    kept: list[tuple[Protein, frozenset[str]]] = []
    for member in sorted(members, key=lambda member: hashlib.sha256(member.sequence.encode()).digest()):
        words = three_mers(member.sequence)
        if all(overlap(words, other) < COPY for _, other in kept):
            kept.append((member, words))
    return [member for member, _ in kept]


def kinships(members: list[Protein]) -> list[list[Protein]]:
    """Divide members into groups that no chain of kin connects, small groups first."""
    groups: list[list[tuple[Protein, frozenset[str]]]] = []
    for member in members:
        words = three_mers(member.sequence)
        near = [group for group in groups if any(overlap(words, other) >= KIN for _, other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*itertools.chain(*near), (member, words)])
    return sorted(([member for member, _ in group] for group in groups), key=len)


def split_class(members: list[Protein]) -> dict[str, list[Protein]] | None:
    """Give whole groups of kin to test and validation, in turn, the rest to train; None if that is not possible."""
    parts: dict[str, list[Protein]] = {"test": [], "validation": [], "train": []}
    for group in kinships(members):
        smaller = min("test", "validation", key=lambda part: len(parts[part]))
        fits = len(parts[smaller]) + len(group) < HELD_OUT.stop
        parts[smaller if fits else "train"].extend(group)
    enough = all(len(parts[part]) in HELD_OUT for part in ("test", "validation"))
    return parts if enough and len(members) >= LEAST else None


def build(shared: Path) -> list[Member]:
    """Choose the classes that can be named and split, and name them."""
    pools: dict[str, list[Protein]] = defaultdict(list)
    for record in read_records(shared / "function5000/train.csv.gz"):
        if record.label is not None and len(record.protein.sequence) in LENGTHS:
            pools[record.label].append(record.protein)
    splits = {code: split_class(without_copies(pool)) for code, pool in sorted(pools.items()) if len(pool) >= LEAST}
    terms, count = class_terms(shared / "function5000/classes.tsv.gz")
    told = {code: terms[code] for code, parts in splits.items() if parts is not None}
    names = unique_names(told, count, term_names(shared / "go/go-201401.obo.gz"))
    members = [
        Member(protein.id, protein.sequence, name, part)
        for code, name in names.items()
        for part, proteins in (splits[code] or {}).items()
        for protein in proteins
    ]
    assert len(names) in CLASSES
    return sorted(members, key=lambda member: (member.split, member.label, member.id))


def packed(members: list[Member]) -> bytes:
    """Return the set as a CSV file, gzip without name and time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Member._fields)
    writer.writerows(members)
    return gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)


def main() -> None:
    """Build, write, print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shared", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("data/demo.csv.gz"))
    options = parser.parse_args()
    members = build(options.shared)
    content = packed(members)
    options.output.write_bytes(content)
    sizes = Counter(member.label for member in members)
    lengths = sorted(len(member.sequence) for member in members)
    print(f"{len(members)} sequences, {len(sizes)} classes of {min(sizes.values())} to {max(sizes.values())}")
    print(f"parts {dict(sorted(Counter(member.split for member in members).items()))}")
    print(f"residues {sum(lengths)}, median length {lengths[len(lengths) // 2]}, {len(content)} bytes")


if __name__ == "__main__":
    main()

"""Count what an encoder's training sequences share with test parts: equal ones, and those that contain a domain.

    python benchmarks/pretraining_overlaps.py CORPUS NAME=TEST [NAME=TEST ...]

A training sequence counts as containing a test protein when it holds the middle 24 residues of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from esmcls.files import write_json
from esmcls.reading.readers import read_records

MIDDLE = 24


def main(corpus: str, *tests: str) -> None:
    """Print one line a test part and keep them in benchmarks/results/pretraining_overlaps.json."""
    parts = {name: proteins(path) for name, path in (test.split("=", 1) for test in tests)}
    found = {name: (set(), set()) for name in parts}
    lengths = {name: {len(sequence) for sequence in sequences} for name, sequences in parts.items()}
    middles = {name: {middle(sequence): sequence for sequence in sequences} for name, sequences in parts.items()}
    n = 0
    for n, record in enumerate(read_records(corpus), start=1):  # noqa: B007  (counted)
        sequence = record.protein.sequence
        for name, sequences in parts.items():
            equal, inside = found[name]
            if len(sequence) in lengths[name] and sequence in sequences:
                equal.add(sequence)
            inside.update(middles[name][piece] for piece in pieces(sequence) if piece in middles[name])
    print(f"{n} training sequences\n{'test part':<16} {'proteins':>9} {'equal':>7} {'middle found':>13}")
    for name, (equal, inside) in found.items():
        print(f"{name:<16} {len(parts[name]):>9} {len(equal):>7} {len(inside):>13}")
    rows = {name: {"distinct": len(parts[name]), "equal": len(e), "middle": len(i)} for name, (e, i) in found.items()}
    write_json(
        Path(__file__).parent / "results" / "pretraining_overlaps.json", {"training_sequences": n, "tests": rows}
    )


def proteins(path: str) -> set[str]:
    """Return the distinct test sequences of a file."""
    return {record.protein.sequence for record in read_records(path) if record.part in (None, "test")}


def middle(sequence: str) -> str:
    """Return the middle 24 residues."""
    start = max(0, (len(sequence) - MIDDLE) // 2)
    return sequence[start : start + MIDDLE]


def pieces(sequence: str) -> Iterator[str]:
    """Yield every stretch of 24 residues."""
    for start in range(len(sequence) - MIDDLE + 1):
        yield sequence[start : start + MIDDLE]


if __name__ == "__main__":
    main(*sys.argv[1:])

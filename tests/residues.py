"""Proteins whose residues can be told by eye: A and L are H, V and I are E, all others C; and their hydropathy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STATES = {"A": "H", "L": "H", "V": "E", "I": "E"}
NUMBERS = {"A": 1.8, "L": 3.8, "V": 4.2, "I": 4.5}
PARTS = ("train",) * 16 + ("validation",) * 4 + ("test",) * 4


def sequences(n: int = len(PARTS)) -> list[str]:
    """Return proteins of 12 to 20 residues."""
    random = np.random.default_rng(3)
    return ["".join(random.choice(list("ALVIGSDK"), size=random.integers(12, 21))) for _ in range(n)]


def states(sequence: str) -> str:
    """Return the state of each residue."""
    return "".join(STATES.get(letter, "C") for letter in sequence)


def numbers(sequence: str) -> str:
    """Return the number of each residue; that of the first was not measured."""
    values = [f"{NUMBERS.get(letter, -2.0)}" for letter in sequence]
    return " ".join(["nan", *values[1:]])


def fasta(path: Path, mask: bool = False) -> Path:
    """Write the proteins as biotrainer's FASTA, the first two residues of each masked if that is asked for."""
    lines = []
    for number, (sequence, part) in enumerate(zip(sequences(), PARTS, strict=True)):
        split = {"validation": "SET=train VALIDATION=True"}.get(part, f"SET={part}")
        masked = " MASK=00" + "1" * (len(sequence) - 2) if mask else ""
        lines += [f">p{number} TARGET={states(sequence)} {split}{masked}", sequence]
    path.write_text("\n".join(lines) + "\n")
    return path


def table(path: Path) -> Path:
    """Write the proteins with numbers as TSV."""
    rows = zip(sequences(), PARTS, strict=True)
    lines = [f"p{number}\t{part}\t{text}\t{numbers(text)}" for number, (text, part) in enumerate(rows)]
    path.write_text("\n".join(["id\tset\tsequence\tz_score", *lines]) + "\n")
    return path

"""A labelled set so plain that every answer can be told by eye: each family is rich in one residue."""

from __future__ import annotations

from pathlib import Path

FAMILIES = {"alanine-rich": "A", "glycine-rich": "G", "lysine-rich": "K"}
PARTS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


def rows() -> list[tuple[str, str, str, str]]:
    """Return id, sequence, label and part of 30 proteins."""
    return [
        (f"{letter}{number}", f"M{letter * (20 + number)}{'DEST'[number % 4]}LIVE", family, part)
        for family, letter in FAMILIES.items()
        for number, part in enumerate(PARTS)
    ]


def write_families(path: Path) -> Path:
    """Write them as CSV."""
    lines = ["id,sequence,label,split", *(",".join(row) for row in rows())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_unknown(path: Path) -> Path:
    """Write three unlabelled proteins, the first and last with one id and one sequence."""
    path.write_text(
        ">new one\nMAAAAAAAAAAAAAAAAAAAALIVE\n>other\nMKKKKKKKKKK\nKKKKLIVE*\n>new one\nmaaaaaaaaaaaaaaaaaaaalive\n"
    )
    return path

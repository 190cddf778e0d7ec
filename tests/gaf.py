"""Rows of a GAF for tests."""

from __future__ import annotations

from pathlib import Path


def gaf_row(
    id_: str, term: str, aspect: str, *, qualifier: str = "enables", code: str = "IDA", taxon: str = "taxon:9606"
) -> str:
    """Return a row of GAF 2.2 as GOA has them."""
    cells = ["UniProtKB", id_, "SYM", qualifier, term, "PMID:1", code, "", aspect, "a name", "S1|S2", "protein"]
    return "\t".join([*cells, taxon, "20240101", "UniProt", "", ""])


def write_gaf(path: Path, *rows: str, head: str = "!gaf-version: 2.2\n!\n! remarks\n") -> Path:
    """Write a GAF."""
    path.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path

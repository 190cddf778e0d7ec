"""A set of chains of known structure: what it is like, a table that is read again, FASTAs of labels of residues."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from esmcls.datasets.statistics import PERCENTILES, Section
from esmcls.errors import DataError
from esmcls.files import atomic_text
from esmcls.labels.structure_labels import trace_in_words
from esmcls.reading.record_columns import writing_table
from esmcls.reading.records import PARTS
from esmcls.reading.structures.chain import Chain
from esmcls.reporting.phrases import NONE, percent_of
from esmcls.text_files import no_formula
from esmcls.types import Floats

LEAKS_BELOW: Final = 1e-3
"""E-value of a hit in another part, from which down a test chain is not independent of it."""
SENSITIVITIES: Final = (5.7, 7.5)
"""Of MMseqs2, one search each: each finds hits, some far below the limit, that the other passes over."""
STATES: Final = {
    "H": "α helix",
    "G": "3-10 helix",
    "I": "π helix",
    "P": "PPII helix",
    "E": "strand",
    "B": "bridge",
    "T": "turn",
    "S": "bend",
    "C": "none",
}
"""DSSP's states."""
COLUMNS: Final = ("id", "sequence", "label", "ss8", "accessibility", "split")


@dataclass(frozen=True, eq=False)
class StructureSet:
    """Chains and the part of each; None where none is given."""

    chains: Sequence[Chain]
    parts: Sequence[str | None]

    def __post_init__(self) -> None:
        if not self.chains:
            raise DataError("structures", "no protein chain", "give a file or folder of PDB, mmCIF, or .npz of chains")

    def rows(self, part: str | None) -> list[int]:
        """Return the numbers of the chains of a part."""
        return [row for row, name in enumerate(self.parts) if name == part]

    def sequences(self, rows: Sequence[int]) -> list[str]:
        """Return the sequences of some chains."""
        return [self.chains[row].sequence for row in rows]

    def sections(self) -> list[Section]:
        """Return tables: counts of each part, lengths, secondary structure."""
        names = [name for name in (*PARTS, None) if name in set(self.parts)]
        lengths = np.array([len(chain.sequence) for chain in self.chains])
        percentiles = np.percentile(lengths, list(PERCENTILES.values()), method="nearest")
        of_lengths: Section = [("length", "residues")]
        of_lengths += [(name, f"{int(value):,}") for name, value in zip(PERCENTILES, percentiles, strict=True)]
        states = Counter("".join(chain.ss8 or "" for chain in self.chains))
        states.pop("?", None)
        sections = [[_HEADER, *(self._counts(name) for name in names)], of_lengths]
        if states:
            of_states: Section = [("state", "called", "residues", "percent")]
            total = states.total()
            of_states += [
                (state, name, f"{states[state]:,}", percent_of(states[state], total, 1))
                for state, name in STATES.items()
                if states[state]
            ]
            sections.append(of_states)
        return sections

    def _counts(self, part: str | None) -> tuple[str, ...]:
        chains = [self.chains[row] for row in self.rows(part)]
        residues = sum(len(chain.sequence) for chain in chains)
        resolved = sum(chain.resolved for chain in chains)
        resolutions = [chain.resolution for chain in chains if chain.resolution is not None]
        return (
            part or "no part",
            f"{len(chains):,}",
            f"{len({chain.sequence for chain in chains}):,}",
            f"{residues:,}",
            percent_of(residues - resolved, residues, 1),
            f"{np.median(resolutions):.2f} of {len(resolutions):,}" if resolutions else NONE,
            f"{sum(chain.ss8 is not None for chain in chains):,}",
            f"{sum(chain.accessibility is not None for chain in chains):,}",
        )

    def write(self, path: Path) -> None:
        """Write a table that `esmcls embed` reads: CSV, packed if the name ends in .gz, whole or not at all."""
        with writing_table(path) as handle:
            plain = csv.writer(handle, lineterminator="\n")
            plain.writerow(COLUMNS)
            for chain, part in zip(self.chains, self.parts, strict=True):
                cells = (chain.id, chain.sequence, trace_in_words(chain.trace), chain.ss8 or "", _numbers(chain))
                plain.writerow([*map(no_formula, cells), part or ""])

    def write_states(self, path: Path) -> int:
        """Write a FASTA of the chains' DSSP states as labels of residues; return how many chains have them."""
        return _write_fasta(path, self._labels([chain.ss8 for chain in self.chains]))

    def write_accessibility(self, path: Path) -> int:
        """Write a FASTA of the chains' relative accessibility as labels; return how many chains have it."""
        return _write_fasta(path, self._labels([_numbers(chain).replace(" ", ",") for chain in self.chains]))

    def _labels(self, labels: Sequence[str | None]) -> Iterator[str]:
        for chain, part, label in zip(self.chains, self.parts, labels, strict=True):
            if label:
                yield f">{'_'.join(chain.id.split())} TARGET={label}{_ATTRIBUTES[part]}\n{chain.sequence}\n"


_HEADER: Final = (
    "part",
    "chains",
    "distinct",
    "residues",
    "% unresolved",
    "median resolution (Å)",
    "with states",
    "with accessibility",
)
_ATTRIBUTES: Final = {
    None: "",
    "train": " SET=train",
    "validation": " SET=train VALIDATION=True",
    "test": " SET=test",
}


def _numbers(chain: Chain) -> str:
    """Return the accessibility of a chain's residues as text, nan where it is not known."""
    if chain.accessibility is None:
        return ""
    return " ".join("nan" if np.isnan(value) else f"{value:.4g}" for value in chain.accessibility.tolist())


def _write_fasta(path: Path, entries: Iterator[str]) -> int:
    count = 0
    with atomic_text(path) as handle:
        for entry in entries:
            handle.write(entry)
            count += 1
    return count


def leakage(evalues: Floats) -> str:
    """Say how many test chains have a hit in another part.

    Parameters
    ----------
    evalues : float64 array, (test chains,)
        Of the best hit of each, infinite without one.

    Examples
    --------
    >>> leakage(np.array([1e-30, 0.5, np.inf]))
    'leakage: 1 of 3 test chains (33.3 %) has a hit at E < 0.001 in another part'
    """
    hits = int((evalues < LEAKS_BELOW).sum())
    verb = "has" if hits == 1 else "have"
    share = percent_of(hits, len(evalues), 1)
    counts = f"{hits:,} of {len(evalues):,} test chains ({share} %)"
    return f"leakage: {counts} {verb} a hit at E < {LEAKS_BELOW:g} in another part"

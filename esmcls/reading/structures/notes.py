"""What a reading of structures met, for the user to be told: one line a fact, each with how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

FACTS: Final = {
    "models": ("{n} of several models: the first was read", "file"),
    "altlocs": ("{n} in several places: that of the highest occupancy was taken", "residue"),
    "insertions": ("{n} with an insertion code, read in the order of the file", "residue"),
    "modified": ("{n} read as the amino acid that they are made from", "modified residue"),
    "nameless": ("{n} of no amino acid's letter, read as X", "residue"),
    "without_ca": ("{n} with atoms but no CA: not resolved", "residue"),
    "breaks": ("{n} of the trace: neighbours more than 4.5 Å apart", "break"),
    "from_atoms": ("{n} without SEQRES or entity_poly: the sequence is that of the residues with atoms", "chain"),
    "unlike": ("{n} whose atoms do not fit the sequence that the file names: that of the atoms was taken", "chain"),
    "outside": ("{n} left out, which the chain's sequence lacks", "residue"),
    "ligands": ("{n} left out, which no chain is bound to", "amino acid"),
    "no_protein": ("{n} left out, of no protein", "chain"),
    "no_atoms": ("{n} left out, of which nothing was resolved", "protein chain"),
    "no_chain": ("{n} without a protein chain", "file"),
    "no_states": ("{n} without DSSP states: mkdssp is not installed, or gave none", "chain"),
}
"""Fact -> its sentence, and what is counted."""
_SHOWN: Final = 5


@dataclass
class StructureNotes:
    """Counts of what was met, with where.

    Parameters
    ----------
    files : Counter
        Files that were read, by their format.
    chains : int
        Protein chains that were given out.
    counts : Counter
        Of `FACTS`.
    where : dict of str to list of str
        Fact -> the first files or chains that it was met in.

    Examples
    --------
    >>> notes = StructureNotes()
    >>> notes.files["PDB"] += 1
    >>> notes.chains += 2
    >>> notes.add("altlocs", "1abc_A", 3)
    >>> notes.lines()
    ['structures: 2 protein chains of 1 file (PDB)', '  3 residues in several places: that of ... was taken (1abc_A)']
    """

    files: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=dict)

    def add(self, fact: str, place: str, count: int = 1) -> None:
        """Note a fact of a file or chain, so many times."""
        if count:
            self.counts[fact] += count
            places = self.where.setdefault(fact, [])
            if len(places) <= _SHOWN and place not in places:
                places.append(place)

    def lines(self) -> list[str]:
        """Return one line for each fact, none where no structure was read."""
        if not self.files:
            return []
        formats = [f"{count:,} {name}" for name, count in sorted(self.files.items())]
        named = ", ".join(formats) if len(formats) > 1 else next(iter(self.files))
        first = f"structures: {_count(self.chains, 'protein chain')} of {_count(self.files.total(), 'file')} ({named})"
        return [first, *(f"  {self._sentence(fact)}" for fact in FACTS if self.counts[fact])]

    def _sentence(self, fact: str) -> str:
        sentence, noun = FACTS[fact]
        places = self.where[fact]
        more = ", …" if len(places) > _SHOWN else ""
        return f"{sentence.format(n=_count(self.counts[fact], noun))} ({', '.join(places[:_SHOWN])}{more})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

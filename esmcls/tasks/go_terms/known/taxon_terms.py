"""Terms that a protein cannot have, since its organism has nothing of the kind: the Gene Ontology's taxon constraints.

A term that is never in a taxon is in none that lies under it, and neither is what the term contains. One that is only
in a taxon is never in any other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from esmcls.labels.ontology import Ontology
from esmcls.reading.annotations.taxa import (
    NEVER,
    Constraints,
    Taxonomy,
    read_constraints,
    read_protein_taxa,
    taxon_of_header,
)
from esmcls.reading.ids import IdJoin
from esmcls.reading.records import Protein
from esmcls.reporting.phrases import counted
from esmcls.tasks.go_terms.known.known_terms import KnownTerms
from esmcls.types import Indices


@dataclass(frozen=True, eq=False)
class TaxonTerms:
    """Which terms the organism of each protein cannot have.

    Parameters
    ----------
    ontology : Ontology
    constraints : Constraints
    taxonomy : Taxonomy
    taxon : int, optional
        Of all proteins.
    taxa : dict of str to int
        Key of an id -> taxon; that of others is in their headers.
    told : Counter
        What was met: proteins without a taxon, of an unknown one, with terms left out, and these terms.
    """

    ontology: Ontology
    constraints: Constraints
    taxonomy: Taxonomy
    taxon: int | None = None
    taxa: dict[str, int] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    _barred: dict[int, Indices | None] = field(default_factory=dict, repr=False)

    @cached_property
    def _join(self) -> IdJoin:
        return IdJoin(self.taxa)

    @cached_property
    def _closure(self) -> KnownTerms:
        return KnownTerms(self.ontology, {}, {})

    @classmethod
    def read(
        cls, constraints: str | Path, taxonomy: str | Path, ontology: Ontology, taxon: int | str | Path | None = None
    ) -> TaxonTerms:
        """Read files as `esmcls.reading.annotations.taxa` describes them.

        Parameters
        ----------
        constraints, taxonomy : str or Path
        ontology : Ontology
            Of the model.
        taxon : int, str or Path, optional
            Of all proteins, or a file that says whose each is; default what their headers say (OX=).

        Raises
        ------
        DataError
            If a line cannot be used.
        """
        files = ontology, read_constraints(constraints), Taxonomy.read(taxonomy)
        if taxon is None:
            return cls(*files)
        if str(taxon).isdecimal():
            return cls(*files, taxon=int(str(taxon)))
        return cls(*files, taxa=read_protein_taxa(str(taxon)))

    def taxon_of(self, protein: Protein) -> int | None:
        """Return the taxon of a protein, if it is known."""
        if self.taxon is not None:
            return self.taxon
        name = self._join.find(protein.id) if self.taxa else None
        return self.taxa[name] if name is not None else taxon_of_header(f"{protein.id} {protein.description}")

    def barred(self, protein: Protein) -> Indices:
        """Return the places of the terms that a protein cannot have, ascending; none where its taxon is not known."""
        taxon = self.taxon_of(protein)
        places = None if taxon is None else self._barred_of(taxon)
        if places is None:
            self.told["without" if taxon is None else "unknown"] += 1
            return np.zeros(0, np.int64)
        self.told["with"] += 1
        return places

    def _barred_of(self, taxon: int) -> Indices | None:
        """Return the places of the terms that a taxon cannot have; None where the taxonomy does not know it."""
        if taxon not in self._barred:
            lineage = self.taxonomy.lineage(taxon)
            self._barred[taxon] = None if lineage is None else self._closure.below(self._direct(lineage))
        return self._barred[taxon]

    def _direct(self, lineage: frozenset[int]) -> list[int]:
        return [
            self.ontology.place[constraint.term]
            for constraint in self.constraints.constraints
            if constraint.term in self.ontology.place and bool(lineage & constraint.taxa) == (constraint.kind == NEVER)
        ]

    def leave_out(self, terms: int) -> None:
        """Count the terms that were left out of the answer to a protein."""
        self.told["terms"] += terms
        self.told["proteins"] += terms > 0

    def read_lines(self) -> list[str]:
        """Say what was read, for people."""
        constraints = self.constraints.constraints
        known = [constraint for constraint in constraints if constraint.term in self.ontology.place]
        sentences = [f"{counted(len(known), 'taxon constraint')}, {len(self.taxonomy.parents):,} taxa"]
        if len(known) < len(constraints):
            sentences[0] += f"; {len(constraints) - len(known):,} of terms that the ontology does not know left out"
        if self.constraints.undefined:
            sentences[0] += f"; {self.constraints.undefined:,} by unions of taxa that the file does not define left out"
        return sentences

    def lines(self) -> list[str]:
        """Say what was left out, for people."""
        terms, proteins = self.told["terms"], self.told["proteins"]
        left = f"{counted(terms, 'term')} left out of {counted(proteins, 'answer')}: their taxa cannot have them"
        sentences = [left]
        if self.told["without"]:
            sentences.append(
                f"{counted(self.told['without'], 'protein')} without a taxon (OX= of the header, or --taxon)"
            )
        if self.told["unknown"]:
            sentences.append(f"{counted(self.told['unknown'], 'protein')} of a taxon that the taxonomy does not know")
        return sentences

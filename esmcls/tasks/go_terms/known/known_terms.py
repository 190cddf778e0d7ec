"""Terms that proteins are known to have, or not to have, as a GAF or a table of terms lists them.

A protein with a term has those that contain it; one that has not a term has none that it contains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import DataError
from esmcls.labels.ontology import Ontology
from esmcls.reading.annotations.evidence import evidence_codes
from esmcls.reading.ids import IdJoin, accession
from esmcls.reading.joined.term_tables import placed_rows
from esmcls.reading.records import refuse_text
from esmcls.reading.rows import TableFacts
from esmcls.types import Indices

_NOTHING: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class KnownTerms:
    """What is known of proteins.

    Parameters
    ----------
    ontology : Ontology
    has, lacks : dict of str to int64 array
        Key of an id -> places in the ontology of the terms that the protein has, with those that contain them, without
        roots; and of those that it has not, with those that they contain. What it has is never among what it lacks.
    facts : dict of str to TableFacts
        What the reading of each file met.
    unknown : Counter
        Terms that the ontology does not know, and the rows of each, which were left out.
    contradicted : int
        Pairs of a protein and a term that are both said and denied: they are taken for said.
    """

    ontology: Ontology
    has: dict[str, Indices]
    lacks: dict[str, Indices]
    facts: dict[str, TableFacts] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    contradicted: int = 0

    @classmethod
    def read(
        cls, paths: str | Path | Sequence[str | Path], ontology: Ontology, evidence: Iterable[str] = ()
    ) -> KnownTerms:
        """Read GAFs or tables of terms.

        Parameters
        ----------
        paths : str, Path or sequence of them
        ontology : Ontology
        evidence : iterable of str
            Codes that count in a GAF; see `evidence_codes`.

        Raises
        ------
        DataError
            If a row cannot be used, or the ontology knows no term.
        UnknownNameError
            If one is no evidence code.
        """
        files = [str(path) for path in ([paths] if isinstance(paths, str | Path) else refuse_text(paths, "known"))]
        codes = evidence_codes(evidence)
        known = cls(ontology, {}, {})
        direct: dict[str, set[int]] = {}
        denied: dict[str, set[int]] = {}
        for path in files:
            facts = known.facts.setdefault(path, TableFacts())
            rows = 0
            for row, place in placed_rows(path, ontology, facts, known.unknown, codes):
                (denied if row.denied else direct).setdefault(accession(row.id), set()).add(place)
                rows += 1
            if not rows:
                why = "no row whose evidence counts" if facts.other_evidence else "no term that the ontology knows"
                raise DataError(path, why, "give a GAF or id<TAB>term<TAB>aspect, of the ontology of the model")
        return known._closed(direct, denied)

    def _closed(self, direct: dict[str, set[int]], denied: dict[str, set[int]]) -> KnownTerms:
        """Return it with all that follows from what is listed."""
        roots = np.array(sorted(self.ontology.place[root] for root in self.ontology.roots), np.int64)
        has = {name: np.setdiff1d(self._above(places), roots) for name, places in direct.items()}
        lacks = {}
        contradicted = 0
        for name, places in denied.items():
            without = self.below(places)
            said = np.intersect1d(without, has.get(name, _NOTHING))
            contradicted += len(np.intersect1d(said, np.array(sorted(places), np.int64)))
            lacks[name] = np.setdiff1d(without, said)
        return KnownTerms(self.ontology, has, lacks, self.facts, self.unknown, contradicted)

    def _above(self, places: Iterable[int]) -> Indices:
        return np.unique(np.concatenate([_NOTHING, *(self.ontology.ancestors[place] for place in places)]))

    def below(self, places: Iterable[int]) -> Indices:
        """Return the places of terms with all that they contain, ascending."""
        below = [self._contained[place] for place in places]
        return np.unique(np.concatenate([_NOTHING, *below]))

    @cached_property
    def _contained(self) -> list[Indices]:
        """Places of the terms that each term contains, itself among them."""
        sizes = [len(above) for above in self.ontology.ancestors]
        children = np.repeat(np.arange(len(sizes)), sizes)
        parents = np.concatenate([_NOTHING, *self.ontology.ancestors])
        order = np.argsort(parents, kind="stable")
        cuts = np.cumsum(np.bincount(parents, minlength=len(sizes)))[:-1]
        return [part.astype(np.int64) for part in np.split(children[order], cuts)]

    @cached_property
    def _join(self) -> IdJoin:
        return IdJoin([*self.has, *(name for name in self.lacks if name not in self.has)])

    def of(self, id_: str) -> tuple[Indices, Indices]:
        """Return the places of the terms that a protein has and of those that it has not, ascending."""
        name = self._join.find(id_)
        if name is None:
            return _NOTHING, _NOTHING
        return self.has.get(name, _NOTHING), self.lacks.get(name, _NOTHING)

    def aspects_of(self, id_: str) -> set[str]:
        """Return the letters of the aspects in which a term of a protein is known, roots apart."""
        return {self.ontology.aspects[place] for place in self.of(id_)[0].tolist()}

    def lines(self) -> list[str]:
        """Say what was read, for people."""
        sentences = [f"known terms of {len(self.has):,} protein{'' if len(self.has) == 1 else 's'}"]
        if self.lacks:
            sentences[0] += f", {len(self.lacks):,} with a NOT"
        for path, facts in self.facts.items():
            if facts.other_evidence:
                codes = ", ".join(f"{number:,} {code}" for code, number in sorted(facts.other_evidence.items()))
                left = f"{facts.other_evidence.total():,} rows left out, whose evidence does not count ({codes})"
                sentences.append(f"{path}: {left}; --evidence says which does")
        if self.unknown:
            rows = self.unknown.total()
            terms = ", ".join(sorted(self.unknown)[:5]) + (", …" if len(self.unknown) > 5 else "")
            sentences.append(f"{rows:,} rows left out, of terms that the ontology does not know ({terms})")
        if self.contradicted:
            pairs = f"{self.contradicted:,} term{'' if self.contradicted == 1 else 's'}"
            sentences.append(f"warning: {pairs} both said and denied of a protein: taken for said")
        return sentences


def places_to_codes(ontology: Ontology, classes: Sequence[str]) -> Indices:
    """Return the code of each term of an ontology among some classes, -1 where it is none, (terms,)."""
    codes = np.full(len(ontology), -1, np.int64)
    codes[[ontology.place[term] for term in classes]] = np.arange(len(classes))
    return codes


def known_codes(codes: npt.NDArray[np.int64], places: Indices) -> Indices:
    """Return the codes of places that have one; see `places_to_codes`."""
    among = codes[places]
    return np.asarray(among[among >= 0])

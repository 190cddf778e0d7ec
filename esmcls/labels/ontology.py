"""Gene Ontology: terms of three aspects, and which terms contain which.

OBO ──▶ Ontology ──▶ propagated labels
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import DataError, FolderError, MissingExtraError
from esmcls.labels.labels import LabelSets
from esmcls.plain_values import read_as, write_json
from esmcls.text_files import open_lines
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from networkx import MultiDiGraph

ASPECTS: Final = {"C": "cellular_component", "F": "molecular_function", "P": "biological_process"}
"""CAFA's letter of each aspect, and its name in OBO files, which is that of its root."""
ROOTS: Final = {"C": "GO:0005575", "F": "GO:0003674", "P": "GO:0008150"}
CONTAINED: Final = ("is_a", "part_of")
"""Relations by which what has a term has the other, too, where both are of one aspect."""
FORMAT: Final = 1
_NAMES_A_TERM: Final = re.compile(
    r"^((?:is_a|alt_id|replaced_by): *[^\s!{]+|relationship: *[^\s!{]+ +[^\s!{]+)\s*(?:[!{\s].*)?$", re.DOTALL
)
_SHOWN: Final = 5
_PROTEINS_AT_ONCE: Final = 4096  # proteins at a time


@dataclass(frozen=True, eq=False)
class Ontology:
    """The terms in use and their parents.

    Parameters
    ----------
    terms : tuple of str
        Ids, sorted; roots are among them.
    names : tuple of str
    aspects : str
        The letter of each term: C, F or P.
    parents : tuple of tuples of int
        Places in `terms` of those that directly contain each term; all of its aspect.
    others : dict
        Alternative id to the term's; and an obsolete one to what replaced it.
    notes : tuple of str
        What the reading of its file met, for the user to be told; not kept.

    Raises
    ------
    ValueError
        If a term contains itself.

    Examples
    --------
    >>> tree = Ontology(("GO:1", "GO:2", "GO:3"), ("all", "some", "one"), "FFF", ((), (0,), (1,)))
    >>> tree.ancestors[2].tolist(), tree.propagate([["GO:3"]]).names()
    ([0, 1, 2], [('GO:1', 'GO:2', 'GO:3')])
    """

    terms: tuple[str, ...]
    names: tuple[str, ...]
    aspects: str
    parents: tuple[tuple[int, ...], ...]
    others: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self.order  # raises where a term contains itself

    def __len__(self) -> int:
        """Return the number of terms."""
        return len(self.terms)

    @cached_property
    def place(self) -> dict[str, int]:
        """Place of each term, and of each other id of it, in `terms`."""
        places = {term: number for number, term in enumerate(self.terms)}
        return places | {other: places[term] for other, term in self.others.items()}

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Places of the terms, each after all its parents."""
        state = [0] * len(self.terms)  # 1: begun, 2: done
        ordered: list[int] = []
        for start in range(len(self.terms)):
            stack = [start]
            while stack:
                place = stack[-1]
                if state[place] == 0:
                    state[place] = 1
                    if any(state[parent] == 1 for parent in self.parents[place]):
                        raise ValueError(f"term {self.terms[place]} contains itself")
                    stack += [parent for parent in self.parents[place] if not state[parent]]
                else:
                    stack.pop()
                    ordered += [place] if state[place] == 1 else []
                    state[place] = 2
        return tuple(ordered)

    @cached_property
    def ancestors(self) -> tuple[Indices, ...]:
        """Places of all terms that contain each term, itself among them, ascending."""
        above: list[Indices] = [np.zeros(0, np.int64)] * len(self.terms)
        for place in self.order:
            above[place] = np.unique(np.concatenate([[place], *(above[parent] for parent in self.parents[place])]))
        return tuple(above)

    @cached_property
    def roots(self) -> frozenset[str]:
        """Terms that every protein has and that no measure counts."""
        return frozenset(term for term in ROOTS.values() if term in self.place)

    def propagate(self, terms: Iterable[Iterable[str]]) -> LabelSets:
        """Return the terms of proteins with all that contain them; the classes are those that occur, sorted.

        Parameters
        ----------
        terms : iterable of iterables of str
            Ids, alternative ones too, of each protein; one that is not known is left out.
        """
        return self._coded(terms, propagate=True)

    def term_sets(self, terms: Iterable[Iterable[str]], propagate: bool = True) -> LabelSets:
        """Return the labels that are learned and measured: terms without roots, with all that contain them.

        Parameters
        ----------
        terms : iterable of iterables of str
            As in `propagate`.
        propagate : bool
            Whether to add the terms that contain them.
        """
        return self._coded(terms, propagate, without=[self.place[root] for root in self.roots])

    def _coded(self, terms: Iterable[Iterable[str]], propagate: bool, without: Sequence[int] = ()) -> LabelSets:
        rows = [[self.place[term] for term in protein if term in self.place] for protein in terms]
        pairs = [self._pairs(rows, first, propagate) for first in range(0, len(rows), _PROTEINS_AT_ONCE)]
        owners, places = np.divmod(np.concatenate([np.zeros(0, np.int64), *pairs]), max(1, len(self)))
        used = np.bincount(places, minlength=len(self)) > 0
        used[list(without)] = False
        counted = used[places]
        code = np.cumsum(used) - 1
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners[counted], minlength=len(rows)))])
        classes = tuple(self.terms[place] for place in np.flatnonzero(used))
        groups = tuple(self.aspects[place] for place in np.flatnonzero(used))
        return LabelSets(classes, offsets, code[places[counted]], groups)

    def _pairs(self, rows: Sequence[Sequence[int]], first: int, propagate: bool) -> Indices:
        """Return protein x terms + place for each term of a block of proteins, ascending and each once."""
        block = rows[first : first + _PROTEINS_AT_ONCE]
        owners = np.repeat(np.arange(first, first + len(block)), [len(row) for row in block])
        places = np.fromiter(itertools.chain.from_iterable(block), np.int64, len(owners))
        if propagate:
            above = self._closed.take(places)
            owners = np.repeat(owners, above.sizes())
            places = above.codes
        pairs = np.sort(owners * len(self) + places)
        return pairs[np.diff(pairs, prepend=-1) > 0]  # ten times faster than np.unique

    @cached_property
    def _closed(self) -> LabelSets:
        """The ancestors of each term."""
        offsets = np.cumsum([0, *map(len, self.ancestors)])
        return LabelSets(self.terms, offsets, np.concatenate([np.zeros(0, np.int64), *self.ancestors]))

    def groups_of(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the aspect of each class."""
        return tuple(self.aspects[self.place[term]] for term in classes)

    def edges(self, classes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return pairs of codes (child, parent) among some terms, (edges, 2), in an order in which scores can go up.

        A pair stands where the parent is the nearest of its kind among `classes` on some way up; no pair of a child
        stands before those in which the child is the parent.
        """
        code = {self.place[term]: number for number, term in enumerate(classes)}
        pairs: list[tuple[int, int]] = []
        for place in reversed(self.order):
            if place in code:
                pairs += [(code[place], code[above]) for above in sorted(self._nearest(place, code))]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    def _nearest(self, place: int, known: Mapping[int, int]) -> set[int]:
        """Return the places of the nearest known terms on every way up from a term."""
        nearest: set[int] = set()
        stack = list(self.parents[place])
        while stack:
            above = stack.pop()
            if above in known:
                nearest.add(above)
            else:
                stack += self.parents[above]
        return nearest

    def digest(self) -> str:
        """Return the sha256 of terms, aspects and parents."""
        digest = hashlib.sha256()
        for term, aspect, parents in zip(self.terms, self.aspects, self.parents, strict=True):
            digest.update(f"{term} {aspect} {parents}\n".encode())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        about = {"format": FORMAT, "terms": self.terms, "names": self.names, "aspects": self.aspects}
        write_json(Path(path), about | {"parents": self.parents, "others": dict(self.others)})

    @classmethod
    def load(cls, path: str | Path) -> Ontology:
        """Read what `save` wrote.

        Raises
        ------
        FolderError
            If the file is damaged: not JSON, or no ontology in it.
        """
        fix = "copy the folder that it lies in anew, or make that again"
        saved = read_as(path, _Saved, FolderError, fix)
        try:
            saved.check()
            return cls(saved.terms, saved.names, saved.aspects, saved.parents, saved.others)
        except ValueError as error:
            raise FolderError(path, f"is damaged ({error})", fix) from None


@dataclass(frozen=True)
class _Saved:
    """What an ontology's file holds; of a version above this one nothing is known."""

    terms: tuple[str, ...]
    names: tuple[str, ...]
    aspects: str
    parents: tuple[tuple[int, ...], ...]
    others: dict[str, str]
    format: int

    def check(self) -> None:
        """Raise ValueError where the parts do not fit one another."""
        if self.format != FORMAT:
            raise ValueError(f"it is of format {self.format}; this esmcls reads {FORMAT}")
        sizes = {len(self.names), len(self.aspects), len(self.parents), len(set(self.terms))}
        if sizes != {len(self.terms)}:
            raise ValueError(f"not one name, aspect and list of parents for each of {len(self.terms)} different terms")
        if set(self.aspects) - ASPECTS.keys():
            raise ValueError(f"an aspect that is none of {', '.join(ASPECTS)}")
        for place, parents in enumerate(self.parents):
            if not all(0 <= parent < len(self.terms) for parent in parents):
                raise ValueError(f"term {self.terms[place][:40]} has a parent that is not there")
            if any(self.aspects[parent] != self.aspects[place] for parent in parents):
                raise ValueError(f"term {self.terms[place][:40]} has a parent of another aspect")
        strange = set(self.others.values()) - set(self.terms)
        if strange:
            raise ValueError(f"another id of {min(strange)[:40]!r}, which is no term")


def read_obo(path: str | Path) -> Ontology:
    """Read the terms in use of an OBO file, packed or not, of the three aspects of the Gene Ontology.

    A term is contained by those it `is_a` or is `part_of`, where both are of one aspect. Alternative ids stand for
    their term, in edges, too; an obsolete term stands for what replaced it in the end, where that is a single term in
    use. Edges to terms that are not in the file are counted in the notes.

    Raises
    ------
    MissingExtraError
        If obonet is not installed.
    DataError
        If the file cannot be read, is no OBO, has none of the three roots, or a term contains itself.
    """
    try:
        import obonet
    except ImportError:
        raise MissingExtraError("the Gene Ontology", "obonet", "go") from None
    with open_lines(str(path)) as lines:
        text = io.StringIO("".join(map(_plain, lines)))
    fix = "give an OBO file of the Gene Ontology, such as go-basic.obo"
    try:
        graph = obonet.read_obo(text, ignore_obsolete=False)
    except (ValueError, LookupError) as error:
        raise DataError(path, f"no OBO file ({str(error).splitlines()[0].rstrip(':')})", fix) from error
    try:
        ontology = _of_graph(graph)
    except ValueError as error:
        raise DataError(path, str(error), fix) from error
    if not ontology.roots:
        raise DataError(path, f"none of the roots {', '.join(ROOTS.values())} among {len(ontology):,} terms", fix)
    return ontology


def _plain(line: str) -> str:
    """Return a line of an OBO file without comment and modifiers where a term is named, with or without blanks."""
    return _NAMES_A_TERM.sub(r"\1\n", line, count=1)


def _of_graph(graph: MultiDiGraph[str]) -> Ontology:
    letters = {name: letter for letter, name in ASPECTS.items()}
    default = graph.graph.get("default-namespace", [""])[0]  # obonet lists what its specification does not name
    about: dict[str, Any] = {term: node for term, node in graph.nodes(data=True) if node}
    aspect = {term: letters.get(node.get("namespace", default)) for term, node in about.items()}
    used = sorted(term for term, node in about.items() if aspect[term] and node.get("is_obsolete") != "true")
    place = {term: number for number, term in enumerate(used)}
    others = _others(about, place)
    parents = dict[str, set[int]]()
    nowhere: list[str] = []
    for child, parent, relation in graph.edges(keys=True):
        if relation not in CONTAINED or child not in place:
            continue
        above = others.get(parent, parent)
        if above not in place:
            nowhere.append(parent)
        elif aspect[child] == aspect[above]:
            parents.setdefault(child, set()).add(place[above])
    return Ontology(
        tuple(used),
        tuple(about[term].get("name", term) for term in used),
        "".join(str(aspect[term]) for term in used),
        tuple(tuple(sorted(parents.get(term, ()))) for term in used),
        others,
        _notes(nowhere),
    )


def _notes(nowhere: Sequence[str]) -> tuple[str, ...]:
    """Return what is to be told of edges to terms that are not in use in the file."""
    if not nowhere:
        return ()
    terms = sorted(set(nowhere))
    names = ", ".join(terms[:_SHOWN]) + (", …" if len(terms) > _SHOWN else "")
    edges = f"{len(nowhere):,} edge{'' if len(nowhere) == 1 else 's'}"
    places = f"{len(terms):,} term{'' if len(terms) == 1 else 's'}"
    warning = f"warning: ontology: {edges} to {places} that are not in the file or obsolete ({names})"
    return (f"{warning}: what is below them loses the terms above; give a whole ontology, such as go-basic.obo",)


def _others(about: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, str]:
    """Return the term in use that each other id stands for; chains of replacements are followed to their end."""
    stands_for = {other: term for term in place for other in about[term].get("alt_id", ())}
    replaced = {
        term: node["replaced_by"][0]
        for term, node in about.items()
        if node.get("is_obsolete") == "true" and len(node.get("replaced_by", ())) == 1
    }
    for term in replaced:
        new = term
        for _ in range(len(replaced)):  # as many steps as there are: a circle ends, too
            new = replaced.get(new, new)
            if new not in replaced:
                break
        new = stands_for.get(new, new)
        if new in place:
            stands_for[term] = new
    return {other: term for other, term in stands_for.items() if other not in place}


def raise_parents(scores: Probabilities, edges: npt.NDArray[np.int64]) -> None:
    """Make no term less probable than one that it contains, in place.

    Parameters
    ----------
    scores : float array, (n, classes)
    edges : int64 array, (edges, 2)
        Of the same classes; see `Ontology.edges`.
    """
    for child, parent in edges.tolist():
        np.maximum(scores[:, parent], scores[:, child], out=scores[:, parent])

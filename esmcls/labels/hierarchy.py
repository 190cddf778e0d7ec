"""A hierarchy of classes, one label a protein: a tree, or several, in which each class lies at a node.

Where labels are codes with dots, a code says its own way: 3.40.50.300 lies under 3.40.50, 3.40 and 3. What is not
known of a code, as in EC's 1.1.-.-, is left away: its node is 1.1, an inner one. Else a table names the parent of each;
who has none stands at the top. Levels are counted from there: 1 is the broadest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from esmcls.errors import FolderError
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices

FORMAT: Final = 1
DOTS: Final = "dots"
NAMED_LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    DOTS: (),
    "cath": ("class", "architecture", "fold", "superfamily"),
    "ec": ("class", "subclass", "sub-subclass", "serial number"),
}
"""What `--hierarchy` takes besides a table: codes with dots, and what their levels are called."""
NONE: Final = "none"
"""The level of an answer that says nothing: not even the first level is sure enough."""
_UNKNOWN: Final = "-"


@dataclass(frozen=True)
class Hierarchy:
    """What lies under what.

    Parameters
    ----------
    levels : tuple of str
        Their names, the broadest first; as many as the deepest class of the data set has.
    parents : mapping, optional
        Node -> the one that it lies under; of codes with dots none is needed.
    dots : bool
        Whether codes say their own way.

    Raises
    ------
    ValueError
        If a level's name stands twice, there is none, or a node lies under itself.

    Examples
    --------
    >>> cath = Hierarchy.of_dots(["3.40.50.300", "1.10"], "cath")
    >>> cath.levels, cath.path("3.40.50.300"), cath.path("1.10.-.-")
    (('class', 'architecture', 'fold', 'superfamily'), ('3', '3.40', '3.40.50', '3.40.50.300'), ('1', '1.10'))
    """

    levels: tuple[str, ...]
    parents: Mapping[str, str] = field(default_factory=dict)
    dots: bool = False

    def __post_init__(self) -> None:
        if not self.levels or len(set(self.levels)) < len(self.levels) or NONE in self.levels:
            raise ValueError("levels without a name of their own each")
        if circle := first_circle(self.parents):
            raise ValueError(f"{' under '.join(circle)}: it lies under itself")

    @classmethod
    def of_dots(cls, labels: Iterable[str], kind: str = DOTS) -> Hierarchy:
        """Return that of codes with dots; `kind` is one of `NAMED_LEVELS`, whose names serve if they are enough."""
        depth = max((len(components(label)) for label in labels), default=1)
        names = NAMED_LEVELS[kind]
        return cls(names[:depth] if len(names) >= depth else _numbered(depth), dots=True)

    @classmethod
    def of_table(cls, parents: Mapping[str, str], labels: Iterable[str], header: Sequence[str] = ()) -> Hierarchy:
        """Return that of a table.

        Parameters
        ----------
        parents : mapping
            Child -> parent.
        labels : iterable of str
            The classes of the data set.
        header : sequence of str
            What the table calls child and parent: names of levels, where there are two.

        Raises
        ------
        ValueError
            If a node lies under itself.
        """
        whole = cls(("1",), parents)
        depth = max((len(whole.path(label)) for label in set(labels)), default=1)
        named = depth == 2 and len(set(header)) == 2 and NONE not in header
        return cls(tuple(reversed(header)) if named else _numbered(depth), parents)

    @property
    def depth(self) -> int:
        """How many levels there are."""
        return len(self.levels)

    def path(self, label: str) -> tuple[str, ...]:
        """Return the nodes from the top to the one of a label, which is the last, known or not."""
        if self.dots:
            parts = components(label)
            return tuple(".".join(parts[:level]) for level in range(1, len(parts) + 1))
        way = [label]
        while way[-1] in self.parents:
            way.append(self.parents[way[-1]])
        return tuple(reversed(way))

    def says_all(self, label: str) -> bool:
        """Return whether a label is as narrow as labels are: nothing is left open below it.

        A code of fewer levels than the deepest is not, nor is a node of a table with others under it.
        """
        if self.dots:
            return len(components(label)) >= self.depth
        return label not in self._inner

    @cached_property
    def _inner(self) -> frozenset[str]:
        return frozenset(self.parents.values())

    def digest(self) -> str:
        """Return the sha256 of all that it says."""
        return hashlib.sha256(json.dumps(self._plain(), sort_keys=True).encode()).hexdigest()

    def _plain(self) -> dict[str, object]:
        return {"levels": list(self.levels), "parents": dict(self.parents), "dots": self.dots}

    def save(self, path: str | Path) -> None:
        """Write a JSON file, whole or not at all."""
        write_json(Path(path), {"format": FORMAT, **self._plain()})

    @classmethod
    def load(cls, path: str | Path) -> Hierarchy:
        """Read what `save` wrote.

        Raises
        ------
        FolderError
            If the file is damaged: not JSON, or no hierarchy in it.
        """
        fix = "copy the folder that it lies in anew, or make that again"
        saved = read_as(path, _Saved, FolderError, fix)
        try:
            return cls(saved.levels, saved.parents, saved.dots)
        except ValueError as error:
            raise FolderError(path, f"is damaged ({error})", fix) from None

    def __str__(self) -> str:
        way = "codes with dots" if self.dots else f"table of {len(self.parents):,}"
        return f"{self.depth} level{'' if self.depth == 1 else 's'} ({', '.join(self.levels)}), {way}"


@dataclass(frozen=True)
class _Saved:
    """What a hierarchy's file holds; of a version above this one nothing is known."""

    format: Literal[1]
    levels: tuple[str, ...]
    parents: dict[str, str]
    dots: bool


def components(code: str) -> list[str]:
    """Return the parts of a code that are known.

    Examples
    --------
    >>> components("1.1.-.-"), components("3.40.50.300")
    (['1', '1'], ['3', '40', '50', '300'])
    """
    parts = code.split(".")
    while len(parts) > 1 and parts[-1] == _UNKNOWN:
        parts.pop()
    return parts


def is_code(code: str) -> bool:
    """Return whether a label is a code with dots, of which the last parts alone may be unknown."""
    parts = components(code)
    return "." in code and all(part.strip() and part != _UNKNOWN for part in parts)


def first_circle(parents: Mapping[str, str]) -> list[str]:
    """Return the nodes of a way that comes back to where it began; nothing where there is none.

    Examples
    --------
    >>> first_circle({"a": "b", "b": "c"}), first_circle({"a": "b", "b": "c", "c": "b"})
    ([], ['b', 'c', 'b'])
    """
    done = set[str]()
    for start in parents:
        way = dict[str, None]()
        node = start
        while node in parents and node not in done and node not in way:
            way[node] = None
            node = parents[node]
        if node in way:
            nodes = list(way)
            return [*nodes[nodes.index(node) :], node]
        done.update(way)
    return []


def _numbered(depth: int) -> tuple[str, ...]:
    return tuple(f"level {number}" for number in range(1, depth + 1))


@dataclass(frozen=True, eq=False)
class ClassTree:
    """Where classes lie in a hierarchy, as arrays.

    Parameters
    ----------
    hierarchy : Hierarchy
    nodes : tuple of str
        All that a class lies at or under, each once.
    paths : int64 array, (classes, levels)
        The node of each class at each level, as places in `nodes`; -1 below its own.
    complete : bool array, (classes,)
        See `Hierarchy.says_all`.

    Examples
    --------
    >>> tree = ClassTree.of(Hierarchy.of_dots(["1.1", "1.2"]), ["1.1", "1.2", "1.-"])
    >>> tree.nodes, tree.paths.tolist(), tree.complete.tolist()
    (('1', '1.1', '1.2'), [[0, 1], [0, 2], [0, -1]], [True, True, False])
    """

    hierarchy: Hierarchy
    nodes: tuple[str, ...]
    paths: Indices
    complete: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, hierarchy: Hierarchy, classes: Sequence[str]) -> ClassTree:
        """Place classes in a hierarchy; what lies deeper than its levels is cut there."""
        place = dict[str, int]()
        paths = np.full((len(classes), hierarchy.depth), -1, dtype=np.int64)
        for row, label in enumerate(classes):
            for level, node in enumerate(hierarchy.path(label)[: hierarchy.depth]):
                paths[row, level] = place.setdefault(node, len(place))
        complete = np.array([hierarchy.says_all(label) for label in classes], dtype=bool)
        return cls(hierarchy, tuple(place), paths, complete)

    @cached_property
    def depths(self) -> Indices:
        """At which level each class lies, (classes,); 1 is the broadest."""
        return np.asarray((self.paths >= 0).sum(axis=1), dtype=np.int64)

    def shown_level(self, codes: Indices, levels: Indices) -> Indices:
        """Return the level by which an answer goes, (n,): the last for a class that says all, however high it lies.

        Parameters
        ----------
        codes, levels : int64 arrays, (n,)
            Classes, and the level on the way to each that is answered; 0 is none.
        """
        whole = self.complete[codes] & (levels == self.depths[codes])
        return np.where(whole, self.hierarchy.depth, levels).astype(np.int64)

    def agreement(self, codes: Indices, others: Indices) -> Indices:
        """Return down to which level classes agree, (n,); 0 where not even at the first.

        Parameters
        ----------
        codes, others : int64 arrays, (n,)
            Places among the classes.
        """
        paths, other_paths = self.paths[codes], self.paths[others]
        return np.asarray(((paths == other_paths) & (paths >= 0)).sum(axis=1), dtype=np.int64)

    def counts_at(self, codes: Indices) -> npt.NDArray[np.bool_]:
        """Return at which levels a class can be right or wrong, (n, levels).

        At its own and above; below, too, if it says all that there is to say, else it is left open.
        """
        depths = self.depths[codes][:, None]
        return (np.arange(1, self.hierarchy.depth + 1)[None, :] <= depths) | self.complete[codes][:, None]

    def right_at(self, truth: Indices, answered: Indices) -> npt.NDArray[np.bool_]:
        """Return at which levels answers are right, (n, levels): the class itself at all, else where they agree."""
        agree = self.agreement(truth, answered)[:, None]
        levels = np.arange(1, self.hierarchy.depth + 1)[None, :]
        right: npt.NDArray[np.bool_] = (levels <= agree) | (truth == answered)[:, None]
        return right

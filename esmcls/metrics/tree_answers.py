"""Answers at a level of a tree that hold the true class with a stated coverage: nested conformal sets.

The likeliest class of a protein lies under one node a level; each of these nodes stands for all classes at or under
it, and so they are nested sets, from the class itself up to everything. A node's mass is the sum of the probabilities
of its classes. The answer is the narrowest with a mass above a threshold; where none has one, it is everything.

A calibration row's score is the least threshold by which its answer holds the true class: the mass of the widest node
that does not, 0 where the class itself does. With the k-th smallest of n scores as threshold, k = ⌈(n + 1) coverage⌉,
the answer to a new row, exchangeable with those, holds its true class with at least the stated coverage.

References
----------
Gupta, Kuchibhotla and Ramdas 2022, "Nested conformal prediction and quantile out-of-bag ensemble methods", Pattern
Recognition 127:108496 (arXiv:1910.10562), proposition 1; Vovk, Gammerman and Shafer 2005, chapter 2.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import UsageError
from esmcls.labels.hierarchy import ClassTree
from esmcls.metrics.classification import Floats
from esmcls.types import Indices, Probabilities

_ROWS: Final = 1024
"""At a time: of each, the masses of all nodes are held."""


def node_masses(probabilities: Probabilities, tree: ClassTree) -> Floats:
    """Return the sum of the probabilities of the classes at or under each node, (n, nodes).

    Parameters
    ----------
    probabilities : float array, (n, classes)
    tree : ClassTree
        Of these classes first; others may follow.
    """
    from scipy.sparse import csr_matrix

    paths = tree.paths[: probabilities.shape[1]]
    classes, levels = np.nonzero(paths >= 0)
    ones = np.ones(len(classes))
    under = csr_matrix((ones, (paths[classes, levels], classes)), shape=(len(tree.nodes), len(paths)))
    return np.asarray((under @ probabilities.T.astype(np.float64)).T)


def path_masses(probabilities: Probabilities, tree: ClassTree) -> tuple[Indices, Floats]:
    """Return the likeliest class of each row, (n,), and the mass of each node above it, (n, levels), the widest first.

    Below the class's own level there is no node: its mass stands there as 0.

    Parameters
    ----------
    probabilities : float array, (n, classes)
    tree : ClassTree
        Of these classes first; others may follow.

    Examples
    --------
    >>> from esmcls.labels.hierarchy import Hierarchy
    >>> tree = ClassTree.of(Hierarchy.of_dots(["1.1"]), ["1.1", "1.2", "2.1"])
    >>> path_masses(np.array([[0.5, 0.25, 0.25]]), tree)
    (array([0]), array([[0.75, 0.5 ]]))
    """
    likeliest = probabilities.argmax(axis=1).astype(np.int64)
    masses = np.zeros((len(probabilities), tree.hierarchy.depth))
    for start in range(0, len(probabilities), _ROWS):
        rows = slice(start, start + _ROWS)
        nodes = tree.paths[likeliest[rows]]
        sums = np.take_along_axis(node_masses(probabilities[rows], tree), np.maximum(nodes, 0), axis=1)
        masses[rows] = np.where(nodes >= 0, sums, 0.0)
    return likeliest, np.minimum.accumulate(masses, axis=1)  # sums of rounded numbers may not be nested


def least_thresholds(masses: Floats, agreement: Indices, depths: Indices) -> Floats:
    """Return the score of each row, (n,): the least threshold by which its answer holds the true class.

    Parameters
    ----------
    masses : float64 array, (n, levels)
        See `path_masses`.
    agreement : int64 array, (n,)
        Down to which level the likeliest class agrees with the true one.
    depths : int64 array, (n,)
        The level of the likeliest class.
    """
    wrong = agreement < depths
    place = np.minimum(agreement, masses.shape[1] - 1)
    return np.where(wrong, masses[np.arange(len(masses)), place], 0.0)


def tree_threshold(scores: npt.NDArray[np.floating], coverage: float) -> float:
    """Return the threshold of a coverage from the scores of calibration rows; infinite where they are too few.

    Raises
    ------
    UsageError
        If the coverage is not between 0 and 1.

    Examples
    --------
    >>> tree_threshold(np.array([0.0, 0.0, 0.2, 0.6]), 0.8), tree_threshold(np.array([0.0, 0.2]), 0.9)
    (0.6, inf)
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage {coverage} is not between 0 and 1; give one such as 0.95")
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def answered_levels(masses: Floats, threshold: float) -> Indices:
    """Return at which level each row is answered, (n,): the narrowest of a mass above the threshold; 0 is everything.

    Examples
    --------
    >>> answered_levels(np.array([[0.9, 0.6, 0.5], [0.4, 0.3, 0.0]]), 0.5).tolist()
    [2, 0]
    """
    return np.asarray((masses > threshold).sum(axis=1), dtype=np.int64)

"""Information accretion: how many bits a term of the Gene Ontology adds to its parents, counted."""

from __future__ import annotations

from functools import reduce

import numpy as np

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ROOTS, Ontology
from esmcls.types import Floats, Indices


def information_accretion(labels: LabelSets, ontology: Ontology) -> Floats:
    """Return how many bits each term adds to what its parents say: -log2 P(term | all its parents).

    P is the share, of the proteins with all direct parents of a term, of those that have the term, too (Clark and
    Radivojac 2013, https://doi.org/10.1093/bioinformatics/btt228, eq. 2 with maximum-likelihood estimates, as in CAFA).
    A protein has the root of an aspect if it has any term of it; so a root adds nothing.

    Parameters
    ----------
    labels : LabelSets
        Propagated, of the training proteins; roots may be left out.
    ontology : Ontology
        All classes are terms of it.

    Returns
    -------
    float64 array, (classes,)
        In bits; 0 for a term that no protein has.

    Raises
    ------
    ValueError
        If a term that contains one that a protein has is not among the classes.
    """
    owners = np.repeat(np.arange(len(labels)), labels.sizes())
    members = _records_of_classes(owners, labels.codes, labels.n_classes)
    places = np.array([ontology.place[term] for term in labels.classes], np.int64)
    by_place = dict(zip(places.tolist(), members, strict=True))
    letters = np.array(list(ontology.aspects))[places] if len(places) else np.zeros(0, "U1")
    for letter, root in ROOTS.items():
        if root in ontology.place:
            by_place[ontology.place[root]] = np.unique(owners[letters[labels.codes] == letter])
    bits = np.zeros(labels.n_classes)
    for number, (place, owners_of_term) in enumerate(zip(places.tolist(), members, strict=True)):
        parents = ontology.parents[place] if len(owners_of_term) else ()
        if not by_place.keys() >= set(parents):
            raise ValueError(f"{labels.classes[number]} without a term that contains it; propagate the labels first")
        if parents:
            above = sorted((by_place[parent] for parent in parents), key=len)
            bits[number] = np.log2(len(reduce(_common, above)) / len(owners_of_term))
    return bits


def _records_of_classes(owners: Indices, codes: Indices, classes: int) -> list[Indices]:
    """Return the records of each class, ascending."""
    ordered = owners[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=classes))
    return [ordered[start:end] for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False)]


def _common(first: Indices, second: Indices) -> Indices:
    return np.intersect1d(first, second, assume_unique=True)
